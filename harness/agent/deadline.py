"""Work that may take no longer than it is given, whatever it is."""

import threading
from collections.abc import Callable
from contextvars import copy_context
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")
POLL = 0.25
"""Seconds between two looks at the stop button."""


class OutOfTime(Exception):
    """It was given up. It may still go on, on a thread that nobody waits for."""


class Started(Generic[T]):
    """*work*, begun on a thread of its own, which does not keep the process from ending."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._ended = threading.Event()
        self._result: list[T] = []
        self._error: BaseException | None = None
        context = copy_context()

        def run() -> None:
            try:
                self._result.append(context.run(work))
            except BaseException as e:  # noqa: BLE001  # it belongs to whoever waits
                self._error = e
            finally:
                self._ended.set()

        threading.Thread(target=run, name="trial-work", daemon=True).start()

    def result(self, until: float, check: Callable[[], None]) -> T:
        """What came of it; *until* is a time of ``monotonic``, and *check* is called while it is waited for.

        Raises:
            OutOfTime: it is not done by then.
        """
        while not self._ended.wait(min(POLL, max(until - monotonic(), 0.0))):
            check()
            if monotonic() >= until:
                raise OutOfTime
        if self._error is not None:
            raise self._error
        return self._result[0]


def within(seconds: float, work: Callable[[], T], check: Callable[[], None]) -> T:
    """*work*, for so many seconds at most.

    Raises:
        OutOfTime: it took longer.
    """
    return Started(work).result(monotonic() + seconds, check)
