"""Work that may take no longer than it is given, whatever it is."""

import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Generic, TypeVar

from harness.meter import Meter, Steps, meter, metered
from traces.records import Run, Span, Text, Usage

T = TypeVar("T")
POLL = 0.25
"""Seconds between two looks at the stop button."""


class OutOfTime(Exception):
    """It was given up. It may still go on, on a thread that nobody waits for."""


class GivenUp(BaseException):
    """Nobody waits for it any more. Raised in the work itself, where it looks at the clock or would buy something."""


@dataclass(frozen=True)
class Leash:
    """The meter of work that can be given up: from then on it buys nothing."""

    meter: Meter
    given_up: threading.Event

    @property
    def run(self) -> Run | None:
        return self.meter.run

    @property
    def trial(self) -> str | None:
        return self.meter.trial

    @property
    def directory(self) -> Path | None:
        return self.meter.directory

    @property
    def folder(self) -> Path | None:
        return self.meter.folder

    @property
    def steps(self) -> Steps:
        return self.meter.steps

    @property
    def effects(self) -> Steps:
        return self.meter.effects

    def check_clock(self) -> None:
        if self.given_up.is_set():
            raise GivenUp
        self.meter.check_clock()

    def begin(self, span_id: str, name: str, estimate: Usage, attempt: int) -> None:
        if self.given_up.is_set():
            raise GivenUp
        self.meter.begin(span_id, name, estimate, attempt)

    def end(self, span: Span, texts: Sequence[Text] = ()) -> None:
        self.meter.end(span, texts)


class Started(Generic[T]):
    """*work*, begun on a thread of its own, which does not keep the process from ending."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._ended = threading.Event()
        self._given_up = threading.Event()
        self._result: list[T] = []
        self._error: BaseException | None = None
        context = copy_context()
        leash = Leash(meter(), self._given_up)

        def on_a_leash() -> T:
            with metered(leash):
                return work()

        def run() -> None:
            try:
                self._result.append(context.run(on_a_leash))
            except BaseException as e:  # noqa: BLE001  # it belongs to whoever waits
                self._error = e
            finally:
                self._ended.set()

        threading.Thread(target=run, name="trial-work", daemon=True).start()

    def result(self, until: float, check: Callable[[], None]) -> T:
        """What came of it; *until* is a time of ``monotonic``, and *check* is called while it is waited for.

        Raises:
            OutOfTime: it is not done by then. It is given up then, and where *check* raises.
        """
        try:
            while not self._ended.wait(min(POLL, max(until - monotonic(), 0.0))):
                check()
                if monotonic() >= until:
                    raise OutOfTime
        except BaseException:
            self._given_up.set()
            raise
        if self._error is not None:
            raise self._error
        return self._result[0]


def within(seconds: float, work: Callable[[], T], check: Callable[[], None]) -> T:
    """*work*, for so many seconds at most.

    Raises:
        OutOfTime: it took longer.
    """
    return Started(work).result(monotonic() + seconds, check)
