"""Clients and servers: opened on first use, shared by all models and threads of a process, closed at its end."""

import atexit
import os
import threading
from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar, cast


class Closable(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=Closable)


class Shelf:
    """What is open, by key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Hashable, Closable] = {}

    def get(self, key: Hashable, make: Callable[[], C]) -> C:
        """What is open under *key*, made if it is not."""
        with self._lock:
            if key not in self._open:
                self._open[key] = make()
            return cast(C, self._open[key])

    def close(self) -> None:
        """Close everything; what is asked for afterwards is opened anew."""
        with self._lock:
            opened, self._open = self._open, {}
        for thing in opened.values():
            thing.close()


_shelf = Shelf()
_inherited: list[Shelf] = []


def shared(key: Hashable, make: Callable[[], C]) -> C:
    """What this process has open under *key*, made if it has nothing."""
    return _shelf.get(key, make)


def close() -> None:
    """Close all clients and servers of this process. Happens by itself at its end."""
    _shelf.close()


def _begin_anew() -> None:
    """In a forked child: its parent's sockets and servers are the parent's to use and to close."""
    global _shelf
    _inherited.append(_shelf)
    _shelf = Shelf()


atexit.register(close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
