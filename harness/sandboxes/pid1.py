"""The first process of a sandbox: it starts the command, watches it, and when it ends the kernel ends all the others.

    python3 -I -S pid1.py REPORT-FD < spec

Standalone: it runs inside, on a Python that is to start fast, so it imports little. What it is to do comes on its
standard input, which whoever asked keeps open: at its end this process ends, and with it everything in the sandbox,
however those who asked have died. On the descriptor REPORT-FD it says how the command ended; empty: it never began.

Where there is no sandbox it does the same for the command and whatever descends from it: those that lose their parent
become its own children.
"""

# To import pathlib takes longer than all else that is done here; contextlib is not quick either.
# ruff: noqa: PTH103, PTH112, PTH116, PTH120, PTH123, PTH208, PTH211, SIM105
import _signal as signal  # pyright: ignore[reportMissingImports] (half the time of signal)
import ctypes
import marshal
import os
import resource
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Spec = dict[str, Any]

FIRST_LOOK, LONGEST_PAUSE = 0.005, 0.05
"""Seconds between two looks at what the processes use."""
MOST_FILES = 1_000_000
LONGEST_SEARCH = 0.5
"""Seconds that are spent on adding up what a command has written."""
LONGEST_END = 30.0
"""Seconds that are spent on ending what goes on starting others."""
TICKS = os.sysconf("SC_CLK_TCK")
IN_MEMORY = ("/tmp", "/dev/shm")
"""What of a sandbox's own can be written to and lies in memory."""
SHARES = (b"Pss_Anon:", b"Pss_Shmem:")
NICE = 5
"""The command gives way to those who watch it."""

READ_ONLY, NO_SETUID, NO_DEVICES, NO_EXEC, REMOUNT, BIND, MOVE, RECURSIVE = (
    1 << bit for bit in (0, 1, 2, 3, 5, 12, 13, 14)
)
KEPT_FLAGS = {1: 1, 2: 2, 4: 4, 8: 8, 1024: 1024, 2048: 2048, 4096: 1 << 21}
"""Of ``statvfs`` → of ``mount``: what a mount from outside has may not be taken from it."""
SET_PARENT_DEATH, SET_DUMPABLE, DROP_BOUND, SET_SECURE, SET_SUBREAPER, NO_NEW_PRIVILEGES = 1, 4, 24, 28, 36, 38

libc = ctypes.CDLL(None, use_errno=True)


def main(report: int) -> None:
    spec = received(0)
    os.set_inheritable(report, False)
    libc.prctl(SET_DUMPABLE, 0, 0, 0, 0)  # nothing in here may look into this process, or stop it
    if spec["mounts"] is not None:
        enter(spec["root"], spec["mounts"], spec["loopback"])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # for a first process that is: none from inside arrives
    if not spec["alone"]:
        libc.prctl(SET_SUBREAPER, 1, 0, 0, 0)
    child, failed = start(spec)
    if failed:
        os.write(report, marshal.dumps(("failed", failed, 0)))
    else:
        ended = watch(child, spec)
        end_all(spec["alone"])
        os.write(report, marshal.dumps(ended))


def received(source: int) -> "Spec":
    def exactly(size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = os.read(source, size - len(data))
            if not more:
                os._exit(1)
            data += more
        return data

    return marshal.loads(exactly(int.from_bytes(exactly(8), "big")))


def start(spec: "Spec") -> "tuple[int, int]":
    """The command's process, and the number of the error that it did not start for."""
    told, tell = os.pipe()
    child = os.fork()
    if child:
        os.close(tell)
        failed = os.read(told, 16)
        os.close(told)
        return child, int(failed or b"0")
    try:
        os.setsid()  # a signal to its group reaches none of those outside
        if not spec["alone"]:
            libc.prctl(SET_PARENT_DEATH, int(signal.SIGKILL), 0, 0, 0)
        os.nice(NICE)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        for kind, most in (
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, spec["disk"]),
            *([(resource.RLIMIT_NPROC, spec["processes"])] if spec["alone"] else []),  # counts all of the user's
            (resource.RLIMIT_DATA, 2 * spec["memory"]),  # for what grows between two looks
        ):
            hard = resource.getrlimit(kind)[1]
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (most, most))
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.makedirs(spec["home"], exist_ok=True)
        os.chdir(spec["folder"])
        os.execvpe(spec["command"][0], spec["command"], spec["environment"])
    except OSError as e:
        os.write(tell, str(e.errno).encode())
    finally:
        os._exit(127)


def watch(child: int, spec: "Spec") -> "tuple[str, int, int]":
    """How it ended, with which status, and the bytes of the largest process."""
    deadline = time.monotonic() + spec["seconds"]
    ended = os.pidfd_open(child)
    peak, pause = 0, FIRST_LOOK
    longest = LONGEST_PAUSE if spec["alone"] else 5 * LONGEST_PAUSE  # where all of the machine is looked through
    used, memory, disk = Used(), Memory(spec), Disk(spec)
    while True:
        left = deadline - time.monotonic()
        ready = select.select([0, ended], [], [], max(0.0, min(pause, left)))[0]
        if 0 in ready:
            end_all(spec["alone"])
            os._exit(0)
        status = reaped(child)
        processes = others(spec["alone"]) if status is None or spec["cpu"] is not None else []
        if spec["cpu"] is not None and used.is_over(spec["cpu"], processes):
            return "cpu", -9, peak
        if status is not None:
            largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
            return "exit", os.waitstatus_to_exitcode(status), max(peak, largest)
        if len(processes) > spec["processes"]:
            return "processes", -9, peak
        sizes = [size_of(process) for process in processes]
        peak = max(peak, *sizes, 0)
        if memory.is_over(processes, sizes):
            return "memory", -9, peak
        if left <= 0:
            return "timeout", -9, peak
        if disk.is_full(processes):
            return "output", -9, peak
        pause = min(1.5 * pause, longest)


class Used:
    """CPU time of all the processes that there have been.

    A process has its own and that of those whose end it has waited for. Of those for whose end nobody waits, since
    their parent does not want to know, nothing is left: what was last seen of them counts.
    """

    def __init__(self) -> None:
        self.own: dict[tuple[str, bytes], int] = {}
        """Process and when it began → ticks."""
        self.gone = 0

    def is_over(self, most: float, processes: "list[str]") -> bool:
        """Looks twice: one whose end is waited for between two reads counts for itself and for its parent."""
        return self.seconds(processes) > most and self.seconds(processes) > most

    def seconds(self, processes: "list[str]") -> float:
        own: dict[tuple[str, bytes], int] = {}
        waited_for = 0
        for process in processes:
            try:
                with open(f"/proc/{process}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            own[process, fields[19]] = int(fields[11]) + int(fields[12])
            waited_for += int(fields[13]) + int(fields[14])
        self.gone += sum(ticks for key, ticks in self.own.items() if key not in own)
        self.own = own
        about = resource.getrusage(resource.RUSAGE_CHILDREN)
        buried = about.ru_utime + about.ru_stime
        return max(buried + (sum(own.values()) + waited_for) / TICKS, (sum(own.values()) + self.gone) / TICKS)


class Memory:
    """What the processes fill, with the files that live in memory: mounted ones, and those that only a descriptor
    leads to."""

    def __init__(self, spec: "Spec") -> None:
        self.most = spec["memory"]
        self.mounted = IN_MEMORY if spec["alone"] else ()
        self.device = device_of_nameless()
        self.least = shared_by_all()
        self.pace = Pace()

    def is_over(self, processes: "list[str]", sizes: "list[int]") -> bool:
        """What is shared counts once for each process as long as that is below the limit; else it is looked at more
        closely. Whether there are nameless files is looked at where as much memory is gone, to whomever."""
        mounted = sum(filled(place) for place in self.mounted) + (segments() if self.mounted else 0)
        now = shared_by_all()
        self.least = min(self.least, now)
        if sum(sizes) + mounted + now - self.least <= self.most or not self.pace.is_due():
            return False
        found = Nameless(processes, self.device, self.pace.begun + LONGEST_SEARCH, b"/memfd:")
        parts = [shares_of(process, size) for process, size in zip(processes, sizes, strict=True)]
        files = mounted + found.in_memory  # processes that map them have shares of them as well
        total = sum(own for own, _ in parts) + max(files, sum(shared for _, shared in parts))
        self.pace.ended()
        return total > self.most or (found.hides and total + now - self.least > self.most)


class Disk:
    """What has been written to the folder since there was room for more."""

    def __init__(self, spec: "Spec") -> None:
        self.folder, self.most = spec["folder"], spec["written"]
        self.mounted = {os.stat(place).st_dev for place in IN_MEMORY} if spec["alone"] else set()
        self.device = device_of_nameless()
        self.bytes, self.files = free_in(self.folder)
        self.pace = Pace()

    def is_full(self, processes: "list[str]") -> bool:
        """Are there more than ``most`` bytes, or a million files?

        Room goes for other reasons as well, so once it has gone the folder is looked through, and the files that are
        open without having a name; for a moment: what is too much to look through, or hides, is too much.
        """
        try:
            now = free_in(self.folder)
        except OSError:
            return False
        self.bytes, self.files = max(self.bytes, now[0]), max(self.files, now[1])
        are_many = self.files - now[1] > MOST_FILES
        if (self.bytes - now[0] <= self.most and not are_many) or not self.pace.is_due():
            return False
        until = self.pace.begun + LONGEST_SEARCH
        found = Nameless(processes, self.device, until, os.fsencode(self.folder) + b"/", self.mounted)
        size = size_in(self.folder, until)
        self.pace.ended()
        return size is None or found.hides or size + found.on_disk > self.most


class Nameless:
    """The files that are open, or were made so, without any name left; each counts once."""

    def __init__(
        self, processes: "list[str]", device: int, until: float, lost: bytes, mounted: "set[int] | None" = None
    ) -> None:
        self.in_memory = self.on_disk = 0
        self.hides = False
        """Is there a process that does not let itself be looked at, has too much open, or has mapped a file, by a name
        that began with *lost*, and then closed it? How large that is cannot be told."""
        seen: set[tuple[int, int]] = set()
        for place in descriptors(processes):
            try:
                names = os.listdir(place)
            except PermissionError:
                self.hides = self.hides or is_alive(place)
                continue
            except OSError:
                continue
            for name in names:
                if time.monotonic() > until:
                    self.hides = True
                    return
                try:
                    about = os.stat(f"{place}/{name}")
                except PermissionError:
                    self.hides = self.hides or is_alive(place)
                    break
                except OSError:
                    continue
                key = about.st_dev, about.st_ino
                if about.st_nlink or about.st_mode & 0o170000 != 0o100000 or key in seen:
                    continue
                seen.add(key)
                if about.st_dev == device:
                    self.in_memory += about.st_blocks * 512
                elif about.st_dev not in (mounted or ()):
                    self.on_disk += about.st_blocks * 512
        opened = {inode for _, inode in seen}
        self.hides = self.hides or any(not opened.issuperset(mapped(process, lost)) for process in processes)


class Pace:
    """For what is dear to look at: it takes a fifth of the time at most."""

    def __init__(self) -> None:
        self.begun = self.next = 0.0

    def is_due(self) -> bool:
        self.begun = time.monotonic()
        return self.begun >= self.next

    def ended(self) -> None:
        now = time.monotonic()
        self.next = now + 4 * (now - self.begun)


def descriptors(processes: "list[str]") -> "list[str]":
    """Where the descriptors of all threads are: a thread can have its own."""
    found: list[str] = []
    for process in processes:
        try:
            found += [f"/proc/{process}/task/{thread}/fd" for thread in os.listdir(f"/proc/{process}/task")]
        except OSError:
            continue
    return found


def mapped(process: str, lost: bytes) -> "set[int]":
    """The inodes of the files without a name that it has mapped, by what their names began with."""
    try:
        with open(f"/proc/{process}/maps", "rb") as file:
            fields = [line.split(None, 5) for line in file if line.endswith(b" (deleted)\n")]
    except OSError:
        return set()
    return {int(field[4]) for field in fields if field[5].startswith(lost)}


def is_alive(place: str) -> bool:
    """Of a thread's descriptors: those of the dead cannot be read either."""
    try:
        with open(f"{place[:-2]}stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def device_of_nameless() -> int:
    """Of the files in memory that never had a place; -1: there can be none."""
    try:
        file = os.memfd_create("device")
    except (AttributeError, OSError):
        return -1
    device = os.fstat(file).st_dev
    os.close(file)
    return device


def shared_by_all() -> int:
    """Bytes of the machine's memory that files in memory and what is shared fill; 0 where it does not say."""
    try:
        with open("/proc/meminfo", "rb") as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith(b"Shmem:"))
    except OSError:
        return 0


def segments() -> int:
    """Bytes of the segments of System V's shared memory, which stay when nobody has them."""
    try:
        with open("/proc/sysvipc/shm", "rb") as file:
            rows = [line.split() for line in file]
        at = rows[0].index(b"rss")
        return sum(int(row[at]) for row in rows[1:])
    except (OSError, ValueError, IndexError):
        return 0


def filled(place: str) -> int:
    """Bytes of what is mounted at *place*."""
    about = os.statvfs(place)
    return (about.f_blocks - about.f_bfree) * about.f_frsize


def shares_of(process: str, size: int) -> "tuple[int, int]":
    """Bytes of its own, and of what lies in files in memory, each page divided by those who have it; of *size* where
    it does not let itself be looked at."""
    try:
        with open(f"/proc/{process}/smaps_rollup", "rb") as file:
            lines = {fields[0]: int(fields[1]) * 1024 for fields in map(bytes.split, file) if fields[0] in SHARES}
        return lines[b"Pss_Anon:"], lines[b"Pss_Shmem:"]
    except (OSError, KeyError):
        return size, 0


def free_in(folder: str) -> "tuple[int, int]":
    """Bytes and files that there is room for beside *folder*."""
    about = os.statvfs(folder)
    return about.f_bfree * about.f_frsize, about.f_ffree


def size_in(folder: str, until: float) -> "int | None":
    """Bytes of all that lies in *folder*; ``None``: it cannot be told in time. What vanishes while this looks is
    passed over, so that nobody can keep it from coming to an end."""
    todo, size = [folder], 0
    while todo:
        try:
            for entry in os.scandir(todo.pop()):
                if time.monotonic() > until:
                    return None
                try:
                    size += entry.stat(follow_symlinks=False).st_blocks * 512
                except FileNotFoundError:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return size


def others(alone: bool) -> "list[str]":
    """All processes but this one that are in the sandbox; without one, those that descend from this one."""
    found = [name for name in os.listdir("/proc") if name.isdigit()]
    if alone:
        return [name for name in found if name != "1"]
    children: dict[str, list[str]] = {}
    for name in found:
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                parent = file.read().rpartition(b")")[2].split()[1].decode()
        except OSError:
            continue
        children.setdefault(parent, []).append(name)
    family = [str(os.getpid())]
    for name in family:
        family += children.get(name, [])
    return family[1:]


def end_all(alone: bool) -> None:
    """The kernel would do it when this process has ended; but its end can wait for minutes behind the forks of a
    thousand processes that share its libraries, while a signal reaches all of them at once."""
    if alone:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return
    until = time.monotonic() + LONGEST_END
    while time.monotonic() < until:
        left = others(alone)
        if not left:
            return
        for number in (signal.SIGSTOP, signal.SIGKILL):  # what is stopped forks no more while the rest is found
            for name in left:
                try:
                    os.kill(int(name), number)
                except ProcessLookupError:
                    pass
        reaped(-1)
        time.sleep(0.001)


def reaped(child: int) -> "int | None":
    """Bury whoever has died; the status of *child* once it has."""
    found = None
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == child:
                found = status
            elif not pid:
                return found
    except ChildProcessError:
        return found


def size_of(process: str) -> int:
    """Bytes of memory that it fills; what it shares with others counts for each."""
    try:
        with open(f"/proc/{process}/status", "rb") as file:
            lines = [line.split() for line in file if line.startswith((b"RssAnon:", b"RssShmem:"))]
    except OSError:
        return 0
    return sum(int(fields[1]) * 1024 for fields in lines)


# ── without bubblewrap ─────────────────────────────────────────────────────────────────────────────────────────


def enter(root: str, mounts: "list[tuple[str, str, str]]", loopback: bool) -> None:
    """Make *mounts* (kind, source, place), over *root*, all that can be seen; and give up every privilege."""
    mount("tmpfs", root, "tmpfs", NO_SETUID | NO_DEVICES, "mode=755")
    made = {root: "root"}
    for kind, source, place in mounts:
        target = root + place
        made[target] = kind
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if kind == "link":
            os.symlink(source, target)
        elif kind == "text":
            with open(target, "w") as file:
                file.write(source)
        elif kind == "empty":
            os.makedirs(target, exist_ok=True)
            mount("tmpfs", target, "tmpfs", NO_SETUID | NO_DEVICES, f"mode=1777,{source}")
        elif kind == "hidden":
            os.makedirs(target, exist_ok=True)
            mount("tmpfs", target, "tmpfs", NO_SETUID | NO_DEVICES, "mode=755")
        elif kind == "processes":
            os.makedirs(target, exist_ok=True)
            mount("proc", target, "proc", NO_SETUID | NO_DEVICES | NO_EXEC)
            keep_namespaces(target)
        else:  # read, device, write
            if os.path.isdir(source):
                os.makedirs(target, exist_ok=True)
            elif not os.path.lexists(target):
                os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
            mount(source, target, None, BIND | RECURSIVE)
    for target in mounted(root):
        nearest = max((place for place in made if f"{target}/".startswith(f"{place}/")), key=len)
        if made[nearest] not in ("write", "empty"):
            now = os.statvfs(target).f_flag
            flags = sum(flag for bit, flag in KEPT_FLAGS.items() if now & bit)
            mount(None, target, None, BIND | REMOUNT | READ_ONLY | NO_SETUID | flags)
    os.chdir(root)
    mount(root, "/", None, MOVE)
    os.chroot(".")
    os.chdir("/")
    if loopback:
        raise_loopback()
    libc.sethostname(b"sandbox", 7)
    give_up_privileges()


def keep_namespaces(processes: str) -> None:
    """Let nobody in here make namespaces: in them memory can be mounted that no limit reaches."""
    try:
        with open(f"{processes}/sys/user/max_user_namespaces", "w") as file:
            file.write("0")
    except OSError:  # a kernel without the setting
        pass


def mount(source: "str | None", target: str, kind: "str | None", flags: int, data: str = "") -> None:
    names = [os.fsencode(name) if name is not None else None for name in (source, target, kind)]
    if libc.mount(*names, ctypes.c_ulong(flags), data.encode() or None):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {source or kind}: {os.strerror(number)}", target)


def mounted(root: str) -> "list[str]":
    """Where something is mounted, *root* and below."""
    with open("/proc/self/mountinfo", "rb") as file:
        fields = [line.split(b" ")[4] for line in file]
    places = [field.decode("unicode_escape").encode("latin-1") for field in fields]
    named = [os.fsdecode(place) for place in places]
    return [name for name in named if name == root or name.startswith(root + "/")]


def raise_loopback() -> None:
    """Let the sandbox talk to itself over 127.0.0.1."""
    import _socket
    import fcntl

    up_and_running = b"lo".ljust(16, b"\0") + (0x41).to_bytes(2, sys.byteorder) + bytes(22)
    wire = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    fcntl.ioctl(wire.fileno(), 0x8914, up_and_running)
    wire.close()


def give_up_privileges() -> None:
    for capability in range(64):
        libc.prctl(DROP_BOUND, capability, 0, 0, 0)
    libc.prctl(SET_SECURE, 0b1111, 0, 0, 0)  # user 0 is nobody special any more, nor can become so
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()):
        raise OSError(ctypes.get_errno(), "the sandbox keeps its privileges")


if __name__ == "__main__":
    main(int(sys.argv[1]))
    os._exit(0)  # the quickest way
