"""Where the number of a command comes from. Each is read outside of the candidate's process, after it has ended."""

import csv
import json
import math
import os
import re
import shlex
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from harness.errors import UserError, boundary
from harness.graders.metric import NUMBER, SHOWN, reported
from harness.meter import meter
from harness.protocols import Box, Finished, Sandbox
from harness.runners.fixed import Fixed, read_fixed
from harness.runners.folders import filled_folder
from harness.sandboxes import best_sandbox
from harness.sandboxes.folder import Folder
from harness.sandboxes.isolation import MIB, SYSTEM, search_path
from harness.worktrees import File, put

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
UNSEEN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
TAIL = 1500
"""Characters of a log that a message repeats."""
MOST_ARTIFACT = 256 << 20
"""Bytes of one artifact."""
KEPT = MIB
"""Bytes of an output in which a number is looked for."""
OF_FILES = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, OSError, RecursionError, SyntaxError),
    *(TypeError, ValueError, csv.Error, struct.error, zipfile.BadZipFile, zlib.error),
)
"""What a function raises where files are not as it expects them. Left out is what only a mistake of its own brings
about, such as a name or a module that is not there."""


class Metric(Protocol):
    """Reads the number that a candidate is judged by."""

    @property
    def name(self) -> str:
        """Such as ``val_bpb``."""
        ...

    @property
    def is_isolated(self) -> bool:
        """Does no code of the candidate run where the number is made?"""
        ...

    def read(self, finished: Finished, folder: Path) -> float:
        """The number of the command that *finished*, with what it left in *folder*; may be NaN.

        Raises:
            NoMetric: there is none, or more than one; says what was seen.
        """
        ...


class NoMetric(Exception):
    """A command that ended well, and left no number that could be believed."""


def numeral(text: str) -> float:
    """*text* as a number; NaN and infinity are some.

    Raises:
        NoMetric: it is none.
    """
    text = text.strip()
    if re.fullmatch(r"[+-]?(nan|inf|infinity)", text.strip('"'), re.IGNORECASE):
        return float(text.strip('"'))
    if not NUMBER.fullmatch(text):
        raise NoMetric(f"{text[:SHOWN]!r} is no number")
    return float(text)


@dataclass(frozen=True)
class Printed:
    """The number that the command prints on a line ``name: NUMBER`` or ``name=NUMBER``; once.

    One that is printed twice is none, whatever the values: either could be meant. Nor is there one in an output that
    is too long to be kept whole (1 MiB): what was left out could say another.
    """

    name: str
    pattern: str = ""
    """A regular expression with one group, the number; empty: as above."""
    is_isolated: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        check_metric(self.name)
        try:
            groups = re.compile(self.pattern).groups if self.pattern else 1
        except re.error as e:
            raise UserError(
                f"the pattern {self.pattern!r} of {self.name} is no regular expression: {e}. Mend it"
            ) from e
        if groups != 1:
            raise UserError(
                f"the pattern {self.pattern!r} of {self.name} has {groups} groups, so which is the number cannot be "
                "told. Write one group, and (?:…) for the others"
            )

    def read(self, finished: Finished, folder: Path) -> float:
        if finished.left_out:
            raise NoMetric(
                f"it printed so much that {finished.left_out:,} bytes were left out, in which {self.name} could be "
                "reported as well. Print less, or write the number to a file (metric=InFile(…))"
            )
        if self.pattern:
            seen = [found.group(1) or "" for found in re.finditer(self.pattern, finished.output, re.MULTILINE)]
        else:
            lines = (reported(self.name, line) for line in finished.output.splitlines())
            seen = [said for said in lines if said is not None]
        wanted = f"match of {self.pattern!r}" if self.pattern else f"line `{self.name}: NUMBER`"
        if not seen:
            raise NoMetric(f"no {wanted} in its output")
        if len(seen) > 1:
            raise NoMetric(
                f"{self.name} is reported {len(seen)} times ({', '.join(said[:20] for said in seen[:3])}…), and only "
                "one could be the number"
            )
        return numeral(seen[0])


@dataclass(frozen=True)
class InFile:
    """The number in a JSON file that the command writes."""

    name: str
    path: str = "metrics.json"
    key: str = ""
    """Dotted; empty: *name*."""
    is_isolated: bool = field(default=False, init=False, repr=False)

    def __post_init__(self) -> None:
        check_metric(self.name)

    def read(self, finished: Finished, folder: Path) -> float:
        try:
            found: Any = json.loads(Folder(folder).read(self.path))
        except FileNotFoundError:
            raise NoMetric(f"it left no file {self.path}") from None
        except (ValueError, OSError, RecursionError) as e:
            raise NoMetric(f"{self.path} cannot be read as JSON: {type(e).__name__}: {str(e)[:SHOWN]}") from e
        key = self.key or self.name
        whole: Any = found
        for part in key.split("."):
            if not isinstance(found, dict) or part not in found:
                there = ", ".join(sorted(map(str, whole))[:10]) if isinstance(whole, dict) else type(whole).__name__
                raise NoMetric(f"{self.path} has no {key}; it has: {there[:SHOWN]}")
            found = found[part]
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise NoMetric(f"{key} in {self.path} is {json.dumps(found)[:SHOWN]}, which is no number")
        try:
            return float(found)
        except OverflowError:
            return math.inf


@dataclass(frozen=True)
class Computed:
    """What *function* makes of the files that the command left, in Ratchet's own process.

    What it reads was written by a candidate: data to be looked at, never code to be run, so no pickles. Files that
    deserve no number it meets with ``ValueError``; a ``KeyError``, a ``TypeError`` and their like are taken for the
    same. Anything else that it raises is its own mistake, which counts against nobody.
    """

    name: str
    function: Callable[[Folder], float]
    is_isolated: bool = field(default=True, init=False, repr=False)

    def __post_init__(self) -> None:
        check_metric(self.name)

    def read(self, finished: Finished, folder: Path) -> float:
        with boundary("grader"):
            try:
                return float(self.function(Folder(folder)))
            except (ConnectionError, TimeoutError):
                raise
            except OF_FILES as e:
                refused = e
        raise NoMetric(f"{type(refused).__name__}: {refused}"[:TAIL]) from refused


@dataclass(frozen=True)
class Evaluated:
    """What a second command prints, in a sandbox of its own, on a folder with its own files and nothing of the
    candidate's but the *artifacts* that it left.

    It has to be content with whatever they hold: where it ends badly there is no number, and the end of what it printed
    is shown to whoever proposes next.
    """

    name: str
    command: str | Sequence[str]
    fixed: Mapping[str, Path] = field(repr=False)
    """Place in that folder → file or folder: the evaluator, and the data that no candidate sees."""
    artifacts: Sequence[str]
    """Files that the candidate has to leave."""
    seconds: float = 60.0
    memory: int = 4096 * MIB
    is_isolated: bool = field(default=True, init=False, repr=False)
    digest: str = field(init=False)
    """Of what is fixed: another evaluator is another experiment."""
    _fixed: Fixed = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_metric(self.name)
        words(self.command)
        fixed = read_fixed(self.fixed)
        for artifact in self.artifacts:
            if clash := clashing(artifact, fixed.sources):
                raise UserError(f"the artifact {artifact} lies in the place of the evaluator's {clash}. Rename one")
        object.__setattr__(self, "_fixed", fixed)
        object.__setattr__(self, "digest", fixed.digest)

    @property
    def frozen(self) -> Fixed:
        """What is fixed, as it was read."""
        return self._fixed

    def read(self, finished: Finished, folder: Path) -> float:
        return self.read_in(best_sandbox, folder)

    def read_in(self, sandbox: Callable[..., Sandbox], folder: Path) -> float:
        """As ``read``, in a *sandbox* that is made with limits as ``best_sandbox`` takes them."""
        fixed = unchanged(self._fixed)
        with filled_folder("ratchet-evaluation-", fixed.files, fixed.folders) as own:
            for artifact in self.artifacts:
                try:
                    data = Folder(folder).read_bytes(artifact, MOST_ARTIFACT)
                except FileNotFoundError:
                    raise NoMetric(f"it left no file {artifact}, which the evaluation needs") from None
                except (ValueError, OSError) as e:
                    raise NoMetric(f"{artifact} cannot be read: {str(e)[:SHOWN]}") from e
                (own / artifact).parent.mkdir(parents=True, exist_ok=True)
                put(own / artifact, File("100644", data))
            box = opened(sandbox, own, fixed, seconds=self.seconds, memory=self.memory)
            with box as opened_box:
                done = opened_box.run(words(self.command), environment=environment(), fixed=sorted(fixed.copied))
        if done.ended != "exit" or done.exit_code:
            how = f"exit code {done.exit_code}" if done.ended == "exit" else f"{done.ended} limit"
            raise NoMetric(f"the evaluation of {', '.join(self.artifacts)} ended by {how}: {useful_tail(done.output)}")
        return Printed(self.name).read(done, own)


# ── how a command is run ───────────────────────────────────────────────────────────────────────────────────────


def opened(
    sandbox: Callable[..., Sandbox], folder: Path, fixed: Fixed, readable: Sequence[Path] = (), **limits: Any
) -> AbstractContextManager[Box]:
    """The box of a *sandbox* on *folder*, in which the Python environment that runs us can be read, and nothing of the
    experiment's checkout that is not asked for, also where the system's own folders hold it."""
    hidden = [place for place in unseen(fixed) if place not in {path.resolve() for path in readable}]
    seen = dict.fromkeys((*readable, *python_environment(hidden)))
    large = {"placed": fixed.large} if fixed.large else {}
    limits |= {"readable": tuple(seen), "hidden": tuple(hidden), "kept": KEPT}
    return sandbox(**limits, **large).open(folder)


def unseen(fixed: Fixed) -> list[Path]:
    """What may hold answers, or what was measured so far: the checkouts that *fixed* and the current folder lie in, and
    the data directory."""
    data = meter().directory
    places = checkouts([*(source.parent for source in fixed.sources.values()), Path.cwd()])
    found = [*places, *([data.resolve()] if data is not None else [])]
    system = [Path(place).resolve() for place in SYSTEM]
    return [place for place in found if not any(folder.is_relative_to(place) for folder in system)]


def checkouts(places: Iterable[Path]) -> list[Path]:
    """Each folder of git that one of *places* lies in; of a linked one also where its repository is."""
    found: dict[Path, None] = {}
    todo = list(dict.fromkeys(places))
    for place in todo:
        for folder in (place, *place.parents):
            git = folder / ".git"
            if folder in found or not os.path.lexists(git):
                continue
            found[folder] = None
            if git.is_file():
                elsewhere = (folder / git.read_text("utf-8", "replace").removeprefix("gitdir:").strip()).resolve()
                found[elsewhere] = None
                todo.append(elsewhere)
    return list(found)


def python_environment(hidden: Sequence[Path]) -> list[Path]:
    """What has to be shown of the Python that runs us, beside the system and where something is *hidden*."""
    found: list[Path] = []
    if sys.prefix != sys.base_prefix:
        prefix = Path(sys.prefix)
        parts = [prefix / part for part in ("pyvenv.cfg", "bin", "lib", "lib64")]
        found += [part for part in parts if part.exists()] if prefix.resolve() in hidden else [prefix]
    base = Path(sys.base_prefix)
    return [*found, *([base] if any(base.resolve().is_relative_to(place) for place in hidden) else [])]


def environment(seed: int = 0, threads: int | None = 1) -> dict[str, str]:
    """The variables that every command is given. *threads*: that its numerical libraries may use; ``None``: all."""
    path = os.pathsep.join(dict.fromkeys([f"{sys.prefix}/bin", *search_path().split(os.pathsep)]))
    given = {"PATH": path, "PYTHONHASHSEED": str(seed), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    return given if threads is None else {**given, **dict.fromkeys(THREADS, str(threads))}


def unchanged(fixed: Fixed) -> Fixed:
    """*fixed*, if its sources still are what they were, and what git has where git tracks them.

    Raises:
        UserError: one is not, so that the next run would measure by something else than this one.
    """
    if place := fixed.uncommitted:
        raise UserError(
            f"{fixed.sources[place]} is not as git has it at HEAD, and nobody could tell later by what was measured. "
            "Commit it, or undo the change"
        )
    if place := fixed.changed_at_source():
        raise UserError(
            f"{fixed.sources[place]} has changed since the experiment was loaded, so its trials would not be measured "
            "alike. Undo the change, or start a new run"
        )
    return fixed


def clashing(path: str, fixed: Iterable[str]) -> str:
    """The place in *fixed* that *path* lies at, in or above; or that it would be imported instead of. Empty: none."""
    ours = PurePosixPath(path)
    for place in fixed:
        theirs = PurePosixPath(place)
        if ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
            return place
        if theirs.suffix == ".py" and ours.is_relative_to(theirs.with_suffix("")):  # a package goes before a module
            return place
    return ""


def readable(log: str) -> str:
    """*log* as a terminal would be left by it: of a line that was written over only the last state, and none of the
    characters that move or paint."""
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in log.split("\n"))
    return UNSEEN.sub("", "\n".join(lines))


def useful_tail(log: str, most: int = TAIL) -> str:
    """The end of *log*; of one that ends in a Python traceback its last lines, where the trouble was."""
    log = readable(log).strip()
    at = log.rfind("Traceback (most recent call last):")
    if at >= 0 and len(log) - at <= 4 * most:
        log = log[at:]
    return log if len(log) <= most else f"…{log[1 - most :]}"


def check_metric(name: str) -> None:
    """Raise ``UserError`` unless *name* can name a metric: a line of the output starts with it."""
    if not name or name != name.strip() or "\n" in name:
        raise UserError(f"{name!r} cannot name a metric: a line of the output starts with it. Write e.g. 'val_bpb'")


def words(command: str | Sequence[str]) -> list[str]:
    """*command* as a list; text is split as a shell would.

    Raises:
        UserError: it is none.
    """
    try:
        found = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as e:
        raise UserError(f"the command {command!r} cannot be split into words: {e}. Close its quotes") from e
    if not found or any("\0" in word for word in found):
        raise UserError(f"{command!r} is no command. Write one like command='python train.py'")
    return found
