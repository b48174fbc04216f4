"""Runs a command on a leash: it ends, with all that it has started, when this process is told to end, when the command
ends, and when whoever started this process dies, even by kill -9.

A program of its own, run by its path on the standard library alone: ``python -I -S leash.py PARENT COMMAND …``, where
PARENT is the id of the process that starts it.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(parent: int, command: list[str]) -> int:
    for number in ENDS:
        signal.signal(number, end)
    kernel(PR_SET_CHILD_SUBREAPER, 1)  # what the command leaves behind becomes a child of this process
    kernel(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before we asked to be told
        return 1
    child = os.fork()
    if child == 0:
        start(command)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # so that the command's end of a pipe is the only one
        os.dup2(nowhere, stream)
    code = wait_for(child)
    kill_children()
    return code


def end(number: int, _frame: object) -> None:
    """Raises nothing, since it may come while ``main`` is at the same: done twice is done."""
    kill_children()
    os._exit(128 + number)


def kernel(option: int, value: int) -> None:
    """Tell Linux; elsewhere nothing, and a server has to notice for itself that its input ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def start(command: list[str]) -> None:
    """Become the command. Does not return."""
    for number in ENDS:
        signal.signal(number, signal.SIG_DFL)
    kernel(PR_SET_PDEATHSIG, signal.SIGKILL)
    try:
        os.execvp(command[0], command)
    except OSError as e:
        os.write(2, f"{command[0]}: {e.strerror}\n".encode(errors="replace"))
        os._exit(127)


def wait_for(child: int) -> int:
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == child:
            return abs(os.waitstatus_to_exitcode(status))


def kill_children() -> None:
    """Until there are none: those of a killed child become ours in turn."""
    with suppress(ChildProcessError):
        while True:
            for child in children():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(child, signal.SIGKILL)
            os.waitpid(-1, 0)


def children() -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(entry.read_text(errors="replace").rpartition(")")[2].split()[1]) == os.getpid():
                yield int(entry.parent.name)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
