"""Sandboxes that Linux itself keeps: namespaces of one's own for files, processes, users and the network.

A command sees the programs of the system, the Python that runs us, a ``/tmp`` of its own and the folder that it works
in, as ``/worktree``; all but the last two cannot be written to. There is no network, no process but its own, and no
variable but those that it is given.
"""

import functools
import logging
import marshal
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from time import monotonic
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from harness.errors import TrialError, UserError
from harness.meter import meter
from harness.protocols import Finished
from harness.sandboxes.folder import INSIDE, Folder, remove

HERE = Path(__file__).parent
PID1 = HERE / "pid1.py"
ETC = HERE / "etc"
"""The files of ``/etc`` that would name people and machines: ours instead of the system's."""
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store")
SETTINGS = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
)
DEVICES = ("null", "zero", "full", "random", "urandom")
HOME = "/tmp/home"

MIB = 1 << 20
SHOWN = 64 << 10
GRACE = 2.0
"""Seconds after which what did not stop by itself is killed from outside."""
WRITTEN = 4
"""How many times as many bytes as one file may have can be added to the folder by a command."""
LAST_WORDS = 0.5
"""Seconds in which a sandbox that did not open may say why."""
POLL = 0.25
"""Seconds between two looks at the stop button while a command runs."""

Kind = Literal["read", "device", "write", "link", "text", "empty", "hidden", "processes"]


class Mount(NamedTuple):
    """Something that can be seen inside."""

    kind: Kind
    source: str
    """Of ``link``: where it points. Of ``text``: what it says. Of ``empty``: its size, as ``size=BYTES``."""
    place: str


@dataclass(frozen=True)
class Isolated:
    """What all of them limit."""

    network: bool = False
    """May it reach the network, and what listens on this machine?"""
    seconds: float = 60.0
    """For each command, unless the call says otherwise."""
    cpu: float | None = None
    """CPU seconds of all processes of a command together; ``None``: as many as it gets."""
    memory: int = 2048 * MIB
    """Bytes, of all processes of a command together, with the files that they keep in memory: in ``/tmp``, in
    ``/dev/shm`` and without a name."""
    output: int = 64 * MIB
    """Bytes that a command may print."""
    kept: int = SHOWN
    """Bytes of what it printed that are kept, half of them its beginning and half its end."""
    processes: int = 256
    disk: int = 1024 * MIB
    """Bytes of any one file, and of ``/tmp``, which lives in memory and is empty for each command; to the folder a
    command can add ``WRITTEN`` times as many, and then ends as one that printed too much."""
    readable: tuple[Path, ...] = ()
    """What else can be read, by the name that it has outside."""
    placed: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """Place in the folder → what can be read there without being copied; a file or folder of the same kind has to lie
    at that place."""
    devices: tuple[Path, ...] = ()
    """What of ``/dev`` can be used besides: ``gpus()`` are what a GPU needs."""
    hidden: tuple[Path, ...] = field(default=(), repr=False)
    """What cannot be seen, wherever it lies: of two folders that lie in each other, the inner one decides."""

    name: ClassVar[str]

    def conditions(self) -> Mapping[str, str]:
        return {"sandbox": self.name}

    def command(self, mounts: Sequence[Mount], report: int) -> list[str]:
        """What starts ``pid1.py`` within *mounts*."""
        raise NotImplementedError

    def mounted_from_within(self, mounts: Sequence[Mount]) -> list[tuple[str, ...]] | None:
        """What ``pid1.py`` has to mount itself; ``None``: nothing."""
        raise NotImplementedError

    @contextmanager
    def open(self, folder: Path | None = None) -> Generator["OpenBox"]:
        if folder is not None:
            yield OpenBox(self, folder.resolve(strict=True))
            return
        with temporary_folder("ratchet-box-") as temporary:
            yield OpenBox(self, temporary)

    def works(self) -> str:
        """Empty; or why it does not work here."""
        try:
            with self.open(ETC) as box:  # killed in here, this process leaves no temporary folder behind
                box.run(["true"], seconds=10.0)
        except (TrialError, UserError, OSError) as e:
            return str(e)
        return ""


@contextmanager
def temporary_folder(prefix: str) -> Generator[Path]:
    """Goes with the trial, also when this process is killed; and whatever a command has put there goes with it."""
    place = meter().folder
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=place)).resolve()
    try:
        yield made
    finally:
        remove(made)


def gpus() -> tuple[Path, ...]:
    """The devices of this machine that a program needs to use its GPUs; empty where there are none."""
    found = sorted(Path("/dev").glob("nvidia*"))
    return (*found, *(path for path in [Path("/dev/dri")] if path.exists())) if found else ()


@dataclass(frozen=True)
class Bubblewrap(Isolated):
    """By ``bwrap``, which needs no privileges."""

    name: ClassVar[str] = "bubblewrap"

    def command(self, mounts: Sequence[Mount], report: int) -> list[str]:
        options = [program("bwrap", "bubblewrap"), "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts"]
        options += ["--unshare-cgroup-try", "--die-with-parent", "--as-pid-1", "--cap-drop", "ALL"]
        options += ["--uid", "1000", "--gid", "1000", "--hostname", "sandbox"]
        options += [] if self.network else ["--unshare-net"]
        options += ["--disable-userns"] if keeps_namespaces() else []
        read_only = ["/"]
        for kind, source, place in mounts:
            match kind:
                case "read":
                    options += ["--ro-bind", source, place]
                case "device":
                    options += ["--dev-bind", source, place]
                case "write":
                    options += ["--bind", source, place]
                case "link":
                    options += ["--symlink", source, place]
                case "text":
                    options += ["--ro-bind", str(ETC / Path(place).name), place]
                case "empty":
                    options += ["--perms", "1777", "--size", source.removeprefix("size="), "--tmpfs", place]
                case "hidden":
                    options += ["--tmpfs", place]
                    read_only.append(place)
                case "processes":
                    options += ["--proc", place]
                    read_only.append(place)
        options += ["--ro-bind", str(PID1), "/pid1.py"]
        for place in read_only:
            options += ["--remount-ro", place]
        return [*options, "--", interpreter(), "-I", "-S", "/pid1.py", str(report)]

    def mounted_from_within(self, mounts: Sequence[Mount]) -> list[tuple[str, ...]] | None:
        return None


@functools.cache
def keeps_namespaces() -> bool:
    """Can this ``bwrap`` see to it that nobody inside makes namespaces, in which memory can be mounted that no limit
    reaches? From 0.8 on, unless it is installed setuid."""
    try:
        tried = [program("bwrap", "bubblewrap"), "--unshare-user", "--disable-userns", "--ro-bind", "/", "/", "true"]
        return subprocess.run(tried, capture_output=True, timeout=10.0, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@dataclass(frozen=True)
class Namespaces(Isolated):
    """By ``unshare`` of util-linux, which most systems have."""

    name: ClassVar[str] = "unshare"

    def command(self, mounts: Sequence[Mount], report: int) -> list[str]:
        options = [program("unshare", "util-linux"), "--user", "--map-root-user", "--mount", "--pid", "--fork"]
        options += ["--kill-child", "--ipc", "--uts", *([] if self.network else ["--net"]), "--"]
        return [*options, interpreter(), "-I", "-S", str(PID1), str(report)]

    def mounted_from_within(self, mounts: Sequence[Mount]) -> list[tuple[str, ...]] | None:
        return [tuple(mount) for mount in mounts]


def best_sandbox(**limits: Any) -> Bubblewrap | Namespaces:
    """The best sandbox that works here; *limits* are the fields of ``Bubblewrap``. One that is not the best says so.

    Raises:
        UserError: none does; says what to install.
    """
    return kind_that_works()(**limits)


@functools.cache
def kind_that_works() -> type[Bubblewrap] | type[Namespaces]:
    no_bubblewrap = Bubblewrap().works()
    if not no_bubblewrap:
        return Bubblewrap
    no_namespaces = Namespaces().works()
    if not no_namespaces:
        logging.getLogger(__name__).warning(
            "SANDBOX: bubblewrap does not work here (%s), so unshare is used. Better: install bubblewrap", no_bubblewrap
        )
        return Namespaces
    raise UserError(
        f"no sandbox works here, so a version's code could read and change whatever you can. bubblewrap: "
        f"{no_bubblewrap}. unshare: {no_namespaces}. Install bubblewrap (apt install bubblewrap, dnf install "
        "bubblewrap) and allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, or "
        "kernel.apparmor_restrict_unprivileged_userns=0; in a container: --security-opt seccomp=unconfined). Or, for a "
        "command whose code you trust as your own: type the same with --no-sandbox"
    )


def program(name: str, package: str) -> str:
    """Where *name* is.

    Raises:
        UserError: nowhere.
    """
    found = shutil.which(name)
    if found is None:
        raise UserError(f"there is no {name}, so the sandbox cannot be opened. Install {package}")
    return found


def interpreter() -> str:
    """The Python that runs us, outside of any virtual environment."""
    return f"{sys.base_prefix}/bin/python{sys.version_info.major}.{sys.version_info.minor}"


def mounts_of(sandbox: Isolated, folder: Path, fixed: Sequence[str] = ()) -> list[Mount]:
    """All that a command can see, in the order in which to mount it: what lies in something comes after it."""
    shown = [Mount("read", os.path.realpath(place), place) for place in (*SETTINGS, *SYSTEM) if is_there(place)]
    links = [Mount("link", os.readlink(place), place) for place in SYSTEM if Path(place).is_symlink()]  # noqa: PTH115
    if sandbox.network and Path("/etc/resolv.conf").exists():
        shown.append(Mount("read", os.path.realpath("/etc/resolv.conf"), "/etc/resolv.conf"))
    real = os.path.realpath(sys.base_prefix)
    for prefix in {sys.base_prefix, real}:
        if not any(Path(prefix).is_relative_to(mount.place) for mount in shown):
            shown.append(Mount("read", real, prefix))
    for path in sandbox.readable:
        if not path.exists() or path.absolute().is_relative_to(INSIDE):
            why = f"lies in {INSIDE}, where the worktree is shown" if path.exists() else "is not there"
            raise UserError(f"the sandbox is to show {path}, which {why}. Change readable=… of {sandbox.name}")
        shown.append(Mount("read", str(path.resolve()), str(path.absolute())))
    shown.append(Mount("write", str(folder), INSIDE))
    shown += fixed_mounts(folder, fixed, sandbox.placed)
    for device in sandbox.devices:
        if not device.exists() or not device.is_relative_to("/dev"):
            raise UserError(f"the sandbox is to show the device {device}, and there is none. Change devices=…")
        shown.append(Mount("device", str(device), str(device)))
    for path in sandbox.hidden:
        real = path.resolve()
        for mount in tuple(shown):
            if mount.kind in ("read", "write") and real.is_relative_to(mount.source) and real.exists():
                inside = str(Path(mount.place) / real.relative_to(mount.source))
                covered = Mount("hidden", "", inside) if real.is_dir() else Mount("read", os.devnull, inside)
                shown.append(covered)
    shown.sort(key=lambda mount: len(Path(mount.place).parts))  # of two at one place the later one, which hides
    return [
        *links,
        Mount("empty", f"size={sandbox.disk}", "/tmp"),
        Mount("empty", f"size={sandbox.disk}", "/dev/shm"),
        *(Mount("device", f"/dev/{name}", f"/dev/{name}") for name in DEVICES),
        *(Mount("link", f"/proc/self/fd{end}", f"/dev/{name}") for name, end in STREAMS.items()),
        *(Mount("text", path.read_text(encoding="ascii"), f"/etc/{path.name}") for path in sorted(ETC.iterdir())),
        *shown,
        Mount("processes", "", "/proc"),
    ]


def fixed_mounts(folder: Path, fixed: Sequence[str], placed: Mapping[str, Path]) -> list[Mount]:
    """Each over itself, read-only; and the folders above it over themselves too: what is mounted on can be neither
    renamed nor removed, while a folder that merely holds such a place can.

    Raises:
        ValueError: one is not there, or is reached through a link.
    """
    above: dict[str, None] = {}
    read_only: dict[str, str] = {}
    for place in (*fixed, *placed):
        path = PurePosixPath(place)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ValueError(f"{place!r} is no place in the folder")
        steps = [*reversed(path.parents), path][1:]
        if not (folder / path).exists() or any((folder / step).is_symlink() for step in steps):
            raise ValueError(f"{place!r} is not there, or is reached through a link, and so cannot be kept as it is")
        above.update((str(step), None) for step in steps[:-1])
        read_only[str(path)] = str(placed[place].resolve() if place in placed else folder / path)
    return [
        *(Mount("write", str(folder / path), f"{INSIDE}/{path}") for path in above if path not in read_only),
        *(Mount("read", source, f"{INSIDE}/{path}") for path, source in read_only.items()),
    ]


STREAMS = {"fd": "", "stdin": "/0", "stdout": "/1", "stderr": "/2"}


def is_there(place: str) -> bool:
    path = Path(place)
    return path.exists() and not (path.is_symlink() and place in SYSTEM)


# ── a box ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class OpenBox:
    """An opened sandbox on *folder*."""

    sandbox: Isolated
    folder: Path

    def read(self, path: str) -> str:
        return Folder(self.folder).read(path)

    def write(self, path: str, text: str) -> None:
        Folder(self.folder).write(path, text)

    def run(
        self,
        command: Sequence[str],
        *,
        seconds: float | None = None,
        environment: Mapping[str, str] | None = None,
        fixed: Sequence[str] = (),
    ) -> Finished:
        """As ``Box.run``; the command and all that it started are gone when this returns.

        Raises:
            TrialError: the sandbox itself does not work; nothing is known of the command.
        """
        is_command(command)
        mounts = mounts_of(self.sandbox, self.folder, fixed)
        limit = self.sandbox.seconds if seconds is None else seconds
        variables = {"PATH": search_path(), **(environment or {})}
        spec = spec_of(self.sandbox, command, mounts, seconds=limit, environment=variables)
        return ended_command(self.sandbox, lambda report: self.sandbox.command(mounts, report), spec)


def spec_of(
    sandbox: Isolated,
    command: Sequence[str],
    mounts: Sequence[Mount],
    *,
    seconds: float,
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """What ``pid1.py`` is told."""
    return {
        "command": list(command),
        "environment": {**ENVIRONMENT, **environment},
        "folder": INSIDE,
        "home": HOME,
        "seconds": seconds,
        "cpu": sandbox.cpu,
        "memory": sandbox.memory,
        "processes": sandbox.processes,
        "disk": sandbox.disk,
        "written": WRITTEN * sandbox.disk,
        "root": str(ETC),
        "mounts": sandbox.mounted_from_within(mounts),
        "loopback": not sandbox.network,
        "alone": True,
    }


def is_command(command: Sequence[str]) -> None:
    """Raise ``ValueError`` unless *command* can be started."""
    if not command or any("\0" in part for part in command):
        raise ValueError(f"{command!r} is no command")


class Limits(Protocol):
    """What a sandbox says of itself where one of its commands has ended."""

    name: ClassVar[str]

    @property
    def output(self) -> int: ...
    @property
    def kept(self) -> int: ...
    @property
    def processes(self) -> int: ...
    @property
    def disk(self) -> int: ...


def ended_command(sandbox: Limits, starter: Callable[[int], list[str]], spec: Mapping[str, Any]) -> Finished:
    """How the command of *spec* ended under ``pid1.py``, which *starter* starts with the descriptor to report on.

    Raises:
        BudgetSpent: the run has to end at once; the command is gone.
    """
    begun = monotonic()
    told, tell = os.pipe()
    try:
        process = started(starter(tell), tell)
    except BaseException:
        os.close(told)
        raise
    finally:
        os.close(tell)
    try:
        hand_over(process, marshal.dumps(dict(spec)))
        seen = listen(process, told, begun + spec["seconds"] + GRACE, sandbox)
    finally:
        end(process)
        os.close(told)
    return finished(seen, process.returncode, monotonic() - begun, spec["command"], sandbox)


ENVIRONMENT = {"HOME": HOME, "LANG": "C.UTF-8", "TMPDIR": "/tmp"}


def search_path() -> str:
    return os.pathsep.join(dict.fromkeys([f"{sys.base_prefix}/bin", "/usr/local/bin", "/usr/bin", "/bin"]))


def started(command: list[str], report: int, errors: int = subprocess.STDOUT) -> subprocess.Popen[bytes]:
    """The process that opens the sandbox, which is given *report* and nothing else of ours. *errors*: where what it
    says of them goes."""
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(
            command,
            stdin=pipe,
            stdout=pipe,
            stderr=errors,
            pass_fds=(report,),
            env={},
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )
    except OSError as e:
        raise TrialError("sandbox", "failed", f"{command[0]} did not start: {e}") from e


def hand_over(process: subprocess.Popen[bytes], spec: bytes) -> None:
    """Send *spec*; its pipe stays open, as a sign that we live."""
    assert process.stdin is not None
    data = memoryview(len(spec).to_bytes(8, "big") + spec)
    with suppress(BrokenPipeError):  # it did not start, and says why
        while data:
            data = data[process.stdin.write(data) :]


class Output:
    """What a command prints: its beginning and its end, together *kept* bytes, and how much it was."""

    def __init__(self, kept: int) -> None:
        self.size = 0
        self._half = kept // 2
        self._head, self._tail = bytearray(), bytearray()

    def add(self, data: bytes) -> None:
        self.size += len(data)
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > 2 * self._half:
            del self._tail[: -self._half]

    @property
    def left_out(self) -> int:
        """Bytes of the middle that are not kept."""
        return max(0, self.size - 2 * self._half)

    def text(self) -> str:
        between = f"\n[… {self.left_out:,} bytes left out …]\n".encode() if self.left_out else b""
        return (self._head + between + self._tail[-self._half :]).decode("utf-8", "replace")


@dataclass
class Seen:
    """What could be seen of a command from outside."""

    output: Output
    report: bytes = b""
    ended: Literal["", "timeout", "output"] = ""


def listen(process: subprocess.Popen[bytes], told: int, deadline: float, sandbox: Limits) -> Seen:
    """Until the last process of the sandbox has ended, or it has to be ended."""
    assert process.stdout is not None
    seen = Seen(Output(sandbox.kept))
    stream = process.stdout.fileno()
    poll = select.poll()
    for source in (stream, told):
        poll.register(source, select.POLLIN)
    is_open = {stream, told}
    is_lost = False
    while is_open:
        left = deadline - monotonic()
        if left <= 0:
            seen.ended = "" if is_lost else "timeout"
            break
        meter().check_clock()
        for source, _ in poll.poll(1000 * min(left, POLL)):
            data = os.read(source, 1 << 16)
            if not data:
                poll.unregister(source)
                is_open.discard(source)
                if source == told and not seen.report:  # whoever watched was killed: what is left may go on for ever
                    is_lost, deadline = True, min(deadline, monotonic() + LAST_WORDS)
            elif source == told:
                seen.report += data
            else:
                seen.output.add(data)
        if seen.output.size > sandbox.output:
            seen.ended = "output"
            break
    return seen


def end(process: subprocess.Popen[bytes]) -> None:
    """See to it that everything in the sandbox is gone: at the end of its input its first process ends, and this one
    waits for that."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def finished(seen: Seen, code: int, seconds: float, command: Sequence[str], sandbox: Limits) -> Finished:
    output, left_out = seen.output.text(), seen.output.left_out
    how, status, peak = marshal.loads(seen.report) if seen.report else ("", 0, 0)
    if how == "failed":
        if status in NO_PROGRAM:
            raise FileNotFoundError(status, "there is no such program in the sandbox", command[0])
        output += f"{command[0]}: {os.strerror(status)}\n"
        return Finished(126, output, "exit", seconds, peak, left_out)
    ended = seen.ended or how
    if not ended:
        raise TrialError("sandbox", "failed", f"{sandbox.name} ended with {code}: {output.strip()[-500:] or 'no word'}")
    if ended == "exit":
        return Finished(status, output, "exit", seconds, peak, left_out)
    if how == "output":
        output += f"\n[ended: it wrote more than {WRITTEN * sandbox.disk // MIB:,} MiB]\n"
    if ended == "processes":
        output += f"\n[ended: more than {sandbox.processes} processes]\n"
    return Finished(-signal.SIGKILL, output, ended, seconds, peak, left_out)


NO_PROGRAM = (2, 20)
"""ENOENT and ENOTDIR."""
