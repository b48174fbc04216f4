"""The runner for code: a command in a fresh worktree of the candidate, and a number read outside of its process."""

import fcntl
import hashlib
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import uuid
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from platform import python_version
from typing import Any, Literal

from harness.candidacy import GUARDED, identity, objection
from harness.errors import TrialError, UserError
from harness.graders.metric import number, reported
from harness.meter import meter
from harness.models.attention import nap
from harness.models.chat import PREVIEW, text_record
from harness.protocols import Conditions, Finished, Outcome, Sandbox
from harness.runners.fixed import FULL, Fixed, read_fixed, refuse_of_machine
from harness.runners.folders import filled_folder, version_files
from harness.runners.metrics import (
    Evaluated,
    Metric,
    NoMetric,
    clashing,
    environment,
    opened,
    readable,
    unchanged,
    useful_tail,
    words,
)
from harness.sandboxes import NoSandbox, best_sandbox
from harness.sandboxes.isolation import MIB, WRITTEN, gpus
from harness.text import InvalidText
from traces import otel
from traces.errors import TracesError
from traces.records import Span, Task, now

Failure = Literal["crash", "timeout", "oom", "output", "processes", "no_metric", "nan", "tampered"]
"""``error_class`` of a trial whose command gave no number. ``output``: it printed too much. ``tampered``: it changed
what it may not, so that nothing it says is believed."""

LIMITS: Mapping[str, Failure] = {
    "timeout": "timeout",
    "cpu": "timeout",
    "memory": "oom",
    "output": "output",
    "processes": "processes",
}
OUT_OF_MEMORY = re.compile(r"^(\w+\.)*(MemoryError|OutOfMemoryError)\b|out of memory|std::bad_alloc", re.M | re.I)
LOG = 8000
"""Characters of the log that an output keeps."""
LONGEST_INPUT = 100_000
"""Bytes of a task's input: Linux passes on no variable of more than 128 KiB."""
LOOK = 0.25
"""Seconds between two tries to be the only one who measures."""
EXCLUSIVE = Path("/tmp/ratchet-exclusive.lock")
"""The same for all users, whatever their ``TMPDIR``."""
LEAST_ROOM = MIB
"""Bytes on a disk that has fewer is full."""
MOST_MEMORY = 1 << 50
"""Bytes that no machine's GPUs have."""
REMEMBERED = 100_000
"""Python files of which is remembered that they compile."""


@dataclass(frozen=True)
class CommandRunner:
    """Runs *command* in a folder of its own that holds the version's files and what is *fixed*, in a sandbox.

    Its output is the end of what the command printed, and then one line of JSON that Ratchet writes: the metric by
    name, ``seconds``, ``peak_memory_mb`` and, where there is a GPU, ``peak_vram_mb``. ``MetricGrader`` reads that line.
    A command that gives no number raises ``TrialError("runner", Failure, …)``.

    The command finds its seed in the variable ``RATCHET_SEED`` and the input of its task in ``RATCHET_TASK``. Unless
    it runs alone (*exclusive*, *gpu*), its numerical libraries are told to use one thread: the other cores belong to
    other trials.
    """

    command: str | Sequence[str]
    """Split as a shell would where it is one text; no shell runs it."""
    metric: Metric
    fixed: Mapping[str, Path] = field(default_factory=dict[str, Path], repr=False)
    """Place in the worktree → file or folder outside of the subject: the evaluator, the data. They are read once, when
    the experiment is loaded, and every trial gets what was read then. A source that git tracks has to be as git has it
    at HEAD, and none may change while a run is under way. What has more than 64 MiB is not copied but shown from where
    it lies. Hashed before and after each trial."""
    seconds: float = 600.0
    """Of wall time, after which it and all that it started is killed: twice what it is meant to take."""
    cpu: float | None = None
    """CPU seconds, of all of its processes together, after which it is killed as well; ``None``: as many as it gets.
    Where work is counted and not measured, twice what it takes: the most that one can do without being charged."""
    memory: int = 4096 * MIB
    """Bytes, of all of its processes together."""
    output: int = 64 * MIB
    """Bytes that it may print."""
    disk: int = 1024 * MIB
    """Bytes of any one file that it writes; all together may have four times as many."""
    readable: Sequence[Path] = ()
    """What else it can read, by the name that it has outside, such as a cache of data. The Python environment that
    Ratchet runs in always is."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Variables besides. Never a secret: a candidate can read them."""
    network: bool = False
    gpu: bool = False
    """May it use the GPUs?"""
    exclusive: bool = False
    """Does its number depend on what else the machine does? Then it runs alone."""
    guarded: Sequence[str] = GUARDED
    """What a candidate may not change: see ``harness.candidacy``."""
    sandbox: Callable[..., Sandbox] = best_sandbox
    digest: str = field(init=False)
    """Of what is fixed: another evaluator is another experiment."""
    _fixed: Fixed = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        words(self.command)
        fixed = read_fixed(self.fixed)
        object.__setattr__(self, "_fixed", fixed)
        object.__setattr__(self, "digest", fixed.digest)

    @property
    def workers(self) -> int:
        """How many trials may be under way at once."""
        return 1 if self.exclusive or self.gpu else max(1, len(os.sched_getaffinity(0)))

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> Outcome:
        return self.attempt(task, text, seed)[1]

    def attempt(
        self, task: Task, text: Mapping[str, str], seed: int, command: Sequence[str] | None = None
    ) -> tuple[Finished, Outcome]:
        """As ``run``, with what was seen of the process; *command* instead of its own, for the hostile suite."""
        command = words(self.command if command is None else command)
        if len(task.input.encode()) > LONGEST_INPUT or "\0" in task.input:
            raise UserError(
                f"the input of task {task.id!r} cannot be passed on in a variable: it has over {LONGEST_INPUT:,} "
                "bytes, or a NUL character. Put it into a file, and the file's name into the input"
            )
        started = now()
        with on_working_disk():
            fixed = unchanged(self._fixed)
            with filled_folder("ratchet-code-", {**version_files(text), **fixed.files}, fixed.folders) as folder:
                with alone() if self.exclusive else nullcontext(), watched(self.gpu) as gpu:
                    finished = self._finished(command, folder, task, seed)
                failed, why = self._judged(finished, folder)
                value = math.nan
                if failed is None:
                    try:
                        value = self._read(finished, folder)
                        if not math.isfinite(value):
                            failed, why = "nan", f"{self.metric.name} is {value}"
                    except NoMetric as e:
                        refuse_of_machine(e)
                        failed, why = "no_metric", str(e)
            if failed is not None:
                refuse_full(folder.parent)
        peak_gpu = gpu.peak or printed_peak(finished.output)
        record(command, finished, started, peak_gpu, failed, why)
        if failed is not None:
            raise TrialError("runner", failed, why)
        seen: dict[str, float] = {
            "seconds": round(finished.seconds, 3),
            "peak_memory_mb": round(finished.peak_memory / MIB, 1),
            **({"peak_vram_mb": round(peak_gpu / MIB, 1)} if peak_gpu else {}),
        }
        line = json.dumps({self.metric.name: value} | {k: v for k, v in seen.items() if k != self.metric.name})
        return finished, Outcome(f"{log_of(finished)}\n{line}")

    def _finished(self, command: Sequence[str], folder: Path, task: Task, seed: int) -> Finished:
        threads = None if self.exclusive or self.gpu else 1
        given = {
            **environment(seed, threads),
            "RATCHET_SEED": str(seed),
            "RATCHET_TASK": task.input,
            **self.environment,
        }
        limits: dict[str, Any] = {
            "seconds": self.seconds,
            "memory": self.memory,
            "output": self.output,
            "disk": self.disk,
            "network": self.network,
        }
        if self.cpu is not None:
            limits["cpu"] = self.cpu
        if self.gpu and (devices := gpus()):
            limits["devices"] = devices
        with opened(self.sandbox, folder, self._fixed, self.readable, **limits) as box:
            try:
                return box.run(command, environment=given, fixed=sorted(self._fixed.copied))
            except FileNotFoundError as e:
                if "/" in command[0]:  # the candidate's own, which it has deleted
                    return Finished(127, f"{command[0]}: {e.strerror or e}\n")
                raise UserError(
                    f"there is no program {command[0]!r} where the command runs, so nothing can be measured. It can "
                    f"see what lies in {environment()['PATH']}; name another one in command=…"
                ) from e

    def _judged(self, finished: Finished, folder: Path) -> tuple[Failure | None, str]:
        """How it failed before any number was looked for, and why; ``None``: it did not."""
        tail = useful_tail(finished.output)
        if place := self._fixed.changed_in(folder):
            return "tampered", f"it changed {place}, which is fixed: nothing that it says can be believed. {tail}"
        if source := self._tampered_source():
            return (
                "tampered",
                f"it changed {source}, outside of its folder: nothing that it says can be believed. {tail}",
            )
        if finished.ended != "exit":
            written = WRITTEN * self.disk
            most = {
                "timeout": f"it took more than {self.seconds:g} seconds",
                "cpu": f"it used more than {self.cpu or 0:g} CPU seconds, all of its processes together",
                "memory": f"its processes used more than {self.memory // MIB:,} MiB of memory together",
                "output": f"it printed more than {self.output // MIB:,} MiB, or wrote more than {written // MIB:,} MiB",
                "processes": "it started too many processes",
            }[finished.ended]
            return LIMITS[finished.ended], f"{most}, and was killed. Last it said: {tail or 'nothing'}"
        if finished.exit_code:
            how = f"signal {-finished.exit_code}" if finished.exit_code < 0 else f"exit code {finished.exit_code}"
            killed = finished.exit_code in (-9, 137) and finished.peak_memory > 0.8 * self.memory
            is_oom = killed or OUT_OF_MEMORY.search("\n".join(tail.splitlines()[-3:])) is not None
            return "oom" if is_oom else "crash", f"it ended by {how}: {tail or 'without a word'}"
        return None, ""

    def _tampered_source(self) -> str:
        """What of the sources of fixed files a command without a sandbox has changed, and now is as it was again;
        empty: nothing. In a sandbox no command can: who did so was a person, whom the next trial tells."""
        if not isinstance(self.sandbox(), NoSandbox):
            return ""
        for fixed in (self._fixed, *([self.metric.frozen] if isinstance(self.metric, Evaluated) else [])):
            if place := fixed.changed_at_source():
                fixed.restore(place)
                return str(fixed.sources[place])
        return ""

    def _read(self, finished: Finished, folder: Path) -> float:
        if isinstance(self.metric, Evaluated):
            return self.metric.read_in(self.sandbox, folder)
        try:
            return self.metric.read(finished, folder)
        except NoMetric as e:
            raise NoMetric(f"{e}. Last it said: {useful_tail(finished.output) or 'nothing'}") from e

    def check(self, text: Mapping[str, str]) -> None:
        """Raise ``InvalidText`` where a file of the version lies in the place of a fixed one, or a Python file does not
        compile."""
        problems = [
            f"{path}: lies in the place of {place}, which is fixed"
            for path in sorted(text)
            if (place := clashing(path, self._fixed.sources))
        ]
        problems += [
            problem for path, source in sorted(text.items()) if path.endswith(".py") and (problem := flaw(path, source))
        ]
        if problems:
            raise InvalidText(problems)

    def identity(self, text: Mapping[str, str]) -> str:
        return identity(text)

    def objection(self, before: Mapping[str, str], after: Mapping[str, str]) -> str:
        names = self.guarded if self.metric.is_isolated else (*self.guarded, f"{self.metric.name}:")
        return objection(before, after, names, self._fixed.python)

    def conditions(self) -> Mapping[str, str]:
        """The sandbox, the Python, and a digest of what is fixed."""
        sandbox = self.sandbox()
        where = sandbox.conditions() if isinstance(sandbox, Conditions) else {}
        return {**where, "python": python_version(), "fixed": self.digest}


@contextmanager
def on_working_disk() -> Generator[None]:
    """Within, an ``OSError`` is about our own files, and so nobody's failure to be scored.

    Raises:
        UserError: there is no room left for them.
        TrialError: it is another one.
    """
    try:
        yield
    except TracesError:
        raise
    except OSError as e:
        if e.errno in FULL:
            raise full(meter().folder or Path(tempfile.gettempdir()), str(e)) from e
        raise TrialError("sandbox", "failed", f"the files of a trial could not be written or read: {e}") from e


def refuse_full(folder: Path) -> None:
    """Raise ``UserError`` where the disk of *folder* has no room: who meets that may fail for no fault of its own."""
    about = os.statvfs(folder)  # of which some kinds of disk say neither
    has_no_bytes = about.f_blocks and about.f_bavail * about.f_frsize < LEAST_ROOM
    has_no_files = about.f_files and not about.f_favail
    if has_no_bytes or has_no_files:
        raise full(folder, "a command failed that may have had no room")


def full(place: Path, seen: str) -> UserError:
    there = next(folder for folder in (place, *place.parents) if folder.is_dir())
    return UserError(
        f"the disk of {there} is full, so no trial can be run: {seen}. No version was scored by it. Make room there "
        f"(df -h {there} and df -i {there} show how much), and type the same command again: it carries on"
    )


compiled: set[bytes] = set()
"""Digests of Python files that do."""


def flaw(path: str, source: str) -> str:
    """Why the Python file does not compile, with its line; empty: it does."""
    digest = hashlib.blake2b(source.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    if digest in compiled:
        return ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, path, "exec", dont_inherit=True)
    except SyntaxError as e:
        line = f"line {e.lineno}: " if e.lineno else ""
        return f"{path}: {line}{e.msg}"
    except (ValueError, RecursionError, MemoryError, OverflowError) as e:
        return f"{path}: {type(e).__name__}: {e}"
    if len(compiled) >= REMEMBERED:
        compiled.clear()
    compiled.add(digest)
    return ""


def log_of(finished: Finished) -> str:
    log = readable(finished.output).rstrip("\n")
    return log if len(log) <= LOG else f"[…]\n{log[-LOG:]}"


def record(
    command: Sequence[str], finished: Finished, started: datetime, peak_gpu: int, failed: Failure | None, why: str
) -> None:
    """Hand the meter what was seen of the command."""
    log = text_record(log_of(finished))
    span = Span(
        id=f"{meter().trial or 'command'}/command/{uuid.uuid4().hex[:12]}",
        operation="run",
        name=shlex.join(command),
        started=started,
        seconds=finished.seconds,
        status="error" if failed else "ok",
        error=text_record(why).text if failed else None,
        error_class=failed,
        output_hash=log.hash,
        output_preview=log.text[:PREVIEW],
        attributes={
            otel.EXIT_CODE: finished.exit_code,
            otel.ENDED: finished.ended,
            otel.PEAK_MEMORY: finished.peak_memory,
            **({otel.PEAK_GPU_MEMORY: peak_gpu} if peak_gpu else {}),
        },
    )
    meter().end(span, (log,))


# ── the machine ────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def alone() -> Generator[None]:
    """Within, no other exclusive command runs on this machine, of whichever Ratchet and user.

    What is not covered: commands that are not exclusive and all else that the machine does, whoever has a ``/tmp`` of
    their own (a container, a service), and another container's or virtual machine's share of the same cores.

    Raises:
        BudgetSpent: the run has to end while it waits.
    """
    lock = opened_lock()
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                nap(LOOK)
        yield
    finally:
        os.close(lock)


def opened_lock() -> int:
    """A descriptor of ``EXCLUSIVE``, which whoever comes first makes: to read is enough to lock it, and nobody may open
    another user's file in ``/tmp`` to write."""
    while True:
        with suppress(FileNotFoundError):
            return os.open(EXCLUSIVE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with suppress(FileExistsError):
            made = os.open(EXCLUSIVE, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            os.fchmod(made, 0o644)  # whatever the umask
            return made


@dataclass
class Gpu:
    """What the GPUs hold while a command runs."""

    before: int = 0
    peak: int = 0
    """Bytes, above what was in use before."""


@contextmanager
def watched(gpu: bool) -> Generator[Gpu]:
    """Within, what the GPUs hold is looked at once a second."""
    seen = Gpu()
    if not gpu or shutil.which("nvidia-smi") is None:
        yield seen
        return
    seen.before = gpu_memory()
    over = threading.Event()

    def look() -> None:
        while not over.wait(1.0):
            seen.peak = max(seen.peak, gpu_memory() - seen.before)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def gpu_memory() -> int:
    """Bytes in use on all GPUs; 0 where that cannot be told."""
    asked = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=10.0, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return MIB * sum(int(line) for line in said.split() if line.isdigit())


def printed_peak(log: str) -> int:
    """Bytes of GPU memory that the command itself reports, as ``peak_vram_mb: NUMBER``; 0: it does not, or no machine
    has so much."""
    for line in reversed(log.splitlines()):
        said = reported("peak_vram_mb", line)
        if said is not None:
            peak = MIB * (number(said) or 0.0)
            return int(peak) if 0 < peak < MOST_MEMORY else 0
    return 0
