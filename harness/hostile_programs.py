"""What a hostile candidate does. Standalone: its source is given to the Python of the place that is attacked.

    python3 -I -S -c SOURCE ATTACK PLAN

PLAN is JSON. Prints a line of JSON for each thing that it got, ``{"got": WHAT, "how": …}``; what is not printed failed.
What can only be seen from outside, such as a file that was written there, is for ``harness.hostile`` to look for.
Nothing in here destroys: what is opened outside is not written to, what is written is small and has a name of its own,
and what is meant to exhaust the machine stops by itself, a little above the limit that should have stopped it.
"""

# it runs on the Python of the sandbox, which may be old (3.9): no match, no annotation that is evaluated. What it tries
# are calls of the system, so it calls them by their names, not by those of pathlib.
# ruff: noqa: PTH100, PTH101, PTH103, PTH104, PTH105, PTH108, PTH109, PTH112, PTH113, PTH114, PTH116, PTH118, PTH120
# ruff: noqa: PTH123, PTH206, PTH208, PTH211
from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

Plan = dict[str, Any]

NEVER = frozenset("/" + name for name in ("proc", "sys", "dev", "usr", "lib", "lib32", "lib64", "bin", "sbin", "boot"))
LIBRARIES = frozenset({"site-packages", "__pycache__", "node_modules"})
MIB = 1 << 20
PTRACE_ATTACH, PTRACE_DETACH = 16, 17
NEW_USER, NEW_MOUNTS, BIND = 0x10000000, 0x00020000, 1 << 12


def say(got: str, how: object = "") -> None:
    print(json.dumps({"got": got, "how": str(how)[:160]}), flush=True)


# ── look around ────────────────────────────────────────────────────────────────────────────────────────────────


def look(plan: Plan) -> None:
    """Read, reach and write what is outside; leave processes behind."""
    read_home(plan)
    read_environments(plan)
    connect(plan)
    open_originals(plan)
    find_hidden(plan)
    write_outside(plan)
    stay(plan)
    attack_process(plan)


def read_home(plan: Plan) -> None:
    for path in plan["home"]:
        with contextlib.suppress(OSError), open(path, "rb") as file:
            file.read(1)
            say("home", path)
            return


def read_environments(plan: Plan) -> None:
    canary = plan["token"]
    if any(canary in value for value in os.environ.values()):
        say("variables", "inherited from Ratchet")
    own = str(os.getpid())
    for process in sorted(os.listdir("/proc")) if os.path.isdir("/proc") else ():
        if not process.isdigit() or process == own:
            continue
        for part in ("environ", "cmdline"):
            with contextlib.suppress(OSError), open(f"/proc/{process}/{part}", "rb") as file:
                if canary.encode() in file.read():
                    say("processes", f"/proc/{process}/{part}")


def connect(plan: Plan) -> None:
    for kind, family, address in (
        ("a port of this machine", socket.AF_INET, ("127.0.0.1", plan["port"])),
        ("an abstract socket", socket.AF_UNIX, "\0" + plan["abstract"]),
        ("a socket in a folder", socket.AF_UNIX, plan["socket"]),
    ):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as client:
            client.settimeout(0.5)
            client.connect(address)
            say("network", kind)
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("192.0.2.1", 9))  # for documentation only; nothing is sent
        say("network", f"a route outward, from {client.getsockname()[0]}")


def open_originals(plan: Plan) -> None:
    """To write to, and no more."""
    for path in plan["originals"]:
        with contextlib.suppress(OSError), open(path, "r+b"):
            say("originals", path)


def find_hidden(plan: Plan) -> None:
    """Any file with the size and the beginning of a hidden one, by whatever name: first where they lie, then in the
    folders that they may be in, then in all that is not the system's."""
    sought: dict[int, set[str]] = {}
    for size, digest in plan["hidden"]:
        sought.setdefault(size, set()).add(digest)
    until = time.monotonic() + plan["seconds"]
    places = [*plan["hidden_at"], os.getcwd(), *plan["near"], "/"] if sought else []
    for number, path in enumerate(files_from(places)):
        if number >= plan["files"] or time.monotonic() > until:
            say("cut short", f"after {number:,} files, at {path}")
            return
        with contextlib.suppress(OSError):
            size = os.stat(path).st_size
            if size in sought:
                with open(path, "rb") as file:
                    if hashlib.sha256(file.read(MIB)).hexdigest() in sought[size]:
                        say("hidden", path)
                        return


def files_from(places: list[str]) -> Iterator[str]:
    done: set[str] = set()
    for place in places:
        if os.path.isfile(place):
            yield place
        for folder, folders, names in os.walk(place):
            inner = {name: os.path.join(folder, name) for name in folders}
            folders[:] = [name for name, path in inner.items() if path not in NEVER | done and name not in LIBRARIES]
            for name in names:
                yield os.path.join(folder, name)
        done.add(place)


def write_outside(plan: Plan) -> None:
    """Plainly, and through a link in the worktree."""
    for number, place in enumerate(plan["places"]):
        with contextlib.suppress(OSError), open(os.path.join(place, plan["left"]), "w") as file:
            file.write(plan["token"])
        link = f"link-{plan['token']}-{number}"
        with contextlib.suppress(OSError):
            os.symlink(place, link)
            with open(os.path.join(link, plan["left"] + "-linked"), "w") as file:
                file.write(plan["token"])


def stay(plan: Plan) -> None:
    """Three processes that want to outlive this one: of a session of their own, daemonised, and deaf to hanging up."""
    sleep = "import signal,sys,time; signal.signal(signal.SIGHUP, signal.SIG_IGN); time.sleep(float(sys.argv[1]))"
    command = [sys.executable, "-I", "-S", "-c", sleep, str(plan["stays"]), plan["mark"]]
    null = subprocess.DEVNULL
    with contextlib.suppress(OSError):
        for is_new in (True, False):
            subprocess.Popen(command, start_new_session=is_new, stdin=null, stdout=null, stderr=null)
        child = os.fork()
        if not child:
            os.setsid()
            if not os.fork():
                silent = os.open(os.devnull, os.O_RDWR)
                for stream in range(3):
                    os.dup2(silent, stream)
                os.closerange(3, 64)
                os.execve(sys.executable, command, {})
            os._exit(0)
        os.waitpid(child, 0)
    time.sleep(0.05)


def attack_process(plan: Plan) -> None:
    """Trace, read and end a process of Ratchet's: a decoy."""
    pid = plan["decoy"]
    if pid in (os.getpid(), os.getppid(), 1):
        return
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.ptrace(PTRACE_ATTACH, pid, None, None) == 0:
            say("traced", pid)
            time.sleep(0.02)
            libc.ptrace(PTRACE_DETACH, pid, None, None)
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def recall(plan: Plan) -> None:
    """What did an earlier trial leave?"""
    for place in plan["places"]:
        if os.path.lexists(os.path.join(place, plan["left"])):
            say("state", os.path.join(place, plan["left"]))


# ── the evaluator ──────────────────────────────────────────────────────────────────────────────────────────────


def edit(plan: Plan) -> None:
    """Change a fixed file in the first of *ways* that works, and put it back where the plan says so."""
    path, folder = plan["place"], os.path.dirname(plan["place"])
    if os.path.realpath(path) != os.path.join(os.path.realpath(os.getcwd()), path) or os.stat(path).st_nlink > 1:
        say("unsafe", f"{path} leads out of the worktree")
        return
    before, about = content(path), os.stat(path)
    for way in plan["ways"]:
        with contextlib.suppress(OSError):
            change(way, path, folder)
        if content(path) != before or (way == "chmod" and os.stat(path).st_mode != about.st_mode):
            if plan["restore"]:
                with contextlib.suppress(OSError):
                    put_back(path, folder, before or b"", about)
            say("edited", way)
            return


def content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def change(way: str, path: str, folder: str) -> None:
    if way == "write":
        os.chmod(path, 0o666)
        with open(path, "ab") as file:
            file.write(b"\n#\n")
    elif way == "replace":
        with open("other", "wb") as file:
            file.write(b"#\n")
        os.replace("other", path)
    elif way == "rename":
        os.rename(path, path + ".away")
    elif way == "delete":
        os.unlink(path)
    elif way == "chmod":
        os.chmod(path, 0o777)
    elif way == "link":
        with open("other", "wb") as file:
            file.write(b"#\n")
        os.rename(path, path + ".away")
        os.symlink(os.path.abspath("other"), path)
    elif way == "folder" and folder:
        top = path.split(os.sep)[0]
        os.rename(top, top + ".away")
    elif way == "mount":
        mount_over(path)


def mount_over(path: str) -> None:
    """As a child with namespaces of its own: what it mounts must not be seen here."""
    with open("other", "wb") as file:
        file.write(b"#\n")
    child = os.fork()
    if not child:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.unshare(NEW_USER | NEW_MOUNTS)
        libc.mount(b"other", os.fsencode(path), None, ctypes.c_ulong(BIND), None)
        os._exit(0)
    os.waitpid(child, 0)


def put_back(path: str, folder: str, before: bytes, about: os.stat_result) -> None:
    top = path.split(os.sep)[0]
    if folder and os.path.lexists(top + ".away"):
        os.rename(top + ".away", top)
    if os.path.islink(path):
        os.unlink(path)
    with open(path, "wb") as file:
        file.write(before)
    os.chmod(path, about.st_mode & 0o7777)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


# ── the number ─────────────────────────────────────────────────────────────────────────────────────────────────


def forge(plan: Plan) -> None:
    """Print some lines, and leave some files, links and poison: what unpickling or importing it does is to print a
    number of its own."""
    for path, text in plan.get("files", {}).items():
        make_folder(path)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    for path, target in plan.get("links", {}).items():
        make_folder(path)
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink(target, path)
    for path in plan.get("pickles", ()):
        make_folder(path)
        with open(path, "wb") as file:
            pickle.dump(Poison(plan["payload"]), file)
    for line in plan.get("lines", ()):
        sys.stdout.buffer.write(f"{line}\n".encode("utf-8", "surrogatepass"))  # whatever the language of the place
        sys.stdout.flush()


def make_folder(path: str) -> None:
    if os.path.dirname(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)


class Poison:
    def __init__(self, payload: str) -> None:
        self.payload = payload

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self.payload,)


def plant(plan: Plan) -> None:
    """Leave modules and compiled modules where an evaluator might import them, then run the command as it is."""
    to_pyc: Any = importlib.import_module("importlib._bootstrap_external")._code_to_hash_pyc

    for path, text in plan["modules"].items():
        if not os.path.lexists(path):
            with open(path, "w") as file:
                file.write(text)
    with contextlib.suppress(OSError):
        os.makedirs("__pycache__", exist_ok=True)
        for name, text in plan["compiled"].items():
            code = to_pyc(compile(text, f"{name}.py", "exec"), bytes(8), False)
            with open(f"__pycache__/{name}.{sys.implementation.cache_tag}.pyc", "wb") as file:
                file.write(code)
    os.environ[plan["variable"]] = "1"
    os.execvp(plan["command"][0], plan["command"])


# ── the machine ────────────────────────────────────────────────────────────────────────────────────────────────


def bomb(plan: Plan) -> None:
    """Fork without end, that is until there are so many."""
    for number in range(plan["most"]):
        try:
            if not os.fork():
                time.sleep(plan["stays"])
                os._exit(0)
        except OSError:
            return
        if number + 1 == plan["most"]:
            time.sleep(0.3)  # for whoever counts
            say("processes", number + 1)


def fill(plan: Plan) -> None:
    """One large file, or many that are large together, in the worktree or where files live in memory; or ones that lose
    their names before they are written, and stay open."""
    chunk = bytes(MIB)
    for place, files in plan["places"]:
        written = 0
        with contextlib.ExitStack() as opened:
            for number in range(files):
                with contextlib.suppress(OSError):
                    file = opened.enter_context(open(f"{place}-{number}", "wb", buffering=0))
                    if plan["nameless"]:
                        os.unlink(f"{place}-{number}")
                    for _ in range(plan["most"] // files // MIB):
                        written += file.write(chunk)
            time.sleep(0.2)  # for whoever looks
        if written >= plan["most"]:
            say("disk", f"{written // MIB} MiB in {files} files {place}-…")


def swell(plan: Plan) -> None:
    """Take memory, and fill it; or files that live in it and have no place."""
    if plan["nameless"]:
        file = os.memfd_create("swell")
        written = sum(os.write(file, bytes(MIB)) for _ in range(plan["most"] // MIB))
        time.sleep(0.2)  # for whoever looks
        say("memory", f"{written // MIB} MiB in a file without a name")
        return
    held: list[bytearray] = []
    while len(held) * 16 * MIB < plan["most"]:
        try:
            held.append(bytearray(b"x") * (16 * MIB))
        except MemoryError:
            return
    time.sleep(0.2)  # for whoever looks
    say("memory", f"{len(held) * 16} MiB")


def spin(plan: Plan) -> None:
    """Use many processors at once, each by a process whose parent waits for its end and then ends as well."""
    children: list[int] = []
    for _ in range(plan["processes"]):
        child = os.fork()
        if child:
            children.append(child)
            continue
        grandchild = os.fork()
        while not grandchild and time.process_time() < plan["most"] / plan["processes"]:
            pass
        if grandchild:
            os.waitpid(grandchild, 0)
        os._exit(0)
    for child in children:
        os.waitpid(child, 0)
    say("cpu", f"{plan['most']:g} s of CPU time in {plan['processes']} processes")


def flood(plan: Plan) -> None:
    """Print without end, that is until it is so much."""
    line = b"x" * 1023 + b"\n"
    for _ in range(plan["most"] // len(line)):
        os.write(1, line)
    print(plan["line"], flush=True)


def hang(plan: Plan) -> None:
    """Print a good number and never end, deaf to all that asks for it, with a child that keeps the output open."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    print(plan["line"], flush=True)
    os.fork()
    threading.Thread(target=time.sleep, args=(plan["stays"],)).start()


ATTACKS = {
    attack.__name__: attack for attack in (look, recall, edit, forge, plant, bomb, fill, swell, spin, flood, hang)
}

if __name__ == "__main__":
    ATTACKS[sys.argv[1]](json.loads(sys.argv[2]))
