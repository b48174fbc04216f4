"""Locks between processes that say who holds them."""

import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout


class Held(Exception):
    """Somebody else has the lock; the message says who."""


def lock(path: Path, timeout: float) -> FileLock:
    """The lock on the file *path*, acquired; the death of the process releases it.

    Raises:
        Held: somebody else had it for all of *timeout* seconds.
    """

    def sign(file: int) -> None:
        with suppress(OSError):  # a full disk must not keep anybody from reading
            os.ftruncate(file, 0)
            os.pwrite(file, str(os.getpid()).encode(), 0)

    held = FileLock(path, timeout=timeout, poll_interval=0.005, thread_local=False, on_acquired=sign)
    try:
        held.acquire()
    except Timeout:
        raise Held(f"process {path.read_text(encoding='utf-8') or '(unknown)'}") from None
    return held
