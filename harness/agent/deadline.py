"""Work that may take no longer than it is given, whatever it is."""

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from time import monotonic
from typing import Final, Generic, TypeVar

from harness.meter import Meter, Steps, meter, metered
from traces.records import Record, Run, Span, Text, Usage

T = TypeVar("T")
R = TypeVar("R", bound=Record)
POLL = 0.25
"""Seconds between two looks at the stop button."""
IDLE: Final = 64
"""Threads that are kept for later work: to start one takes longer than most of what they do."""


class OutOfTime(Exception):
    """It was given up. It may still go on, on a thread that nobody waits for."""


class GivenUp(BaseException):
    """Nobody waits for it any more. Raised in the work itself, where it looks at the clock or would buy something."""


@dataclass(frozen=True)
class LeashedSteps:
    """Steps of work that can be given up: from then on it begins none."""

    steps: Steps
    given_up: threading.Event

    def step(self, key: str, make: Callable[[], R]) -> R:
        if self.given_up.is_set():
            raise GivenUp
        return self.steps.step(key, make)

    def recall(self, key: str) -> Record | None:
        return self.steps.recall(key)

    def begun(self, key: str) -> bool:
        return self.steps.begun(key)


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
    def spare(self) -> Path | None:
        return self.meter.spare

    @property
    def wish(self) -> str:
        return self.meter.wish

    @property
    def steps(self) -> Steps:
        return LeashedSteps(self.meter.steps, self.given_up)

    @property
    def effects(self) -> Steps:
        return LeashedSteps(self.meter.effects, self.given_up)

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
    """*work*, begun on a thread that does nothing else, and does not keep the process from ending."""

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

        hand_over(run)

    def give_up(self, seconds: float = 0.0) -> None:
        """Let it buy and begin nothing more, and wait for so long at most until it has ended."""
        self._given_up.set()
        self._ended.wait(seconds)

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
            self.give_up()
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


# ── threads ────────────────────────────────────────────────────────────────────────────────────────────────────────

_idle: "deque[SimpleQueue[Callable[[], None]]]" = deque()


def hand_over(work: Callable[[], None]) -> None:
    """Begin *work*, which raises nothing, on an idle thread or a new one. One that hangs is never idle again."""
    try:
        queue = _idle.pop()
    except IndexError:
        queue = SimpleQueue[Callable[[], None]]()
        threading.Thread(target=serve, args=(queue,), name="work", daemon=True).start()
    queue.put(work)


def serve(queue: "SimpleQueue[Callable[[], None]]") -> None:
    while True:
        queue.get()()
        if len(_idle) >= IDLE:
            return
        _idle.append(queue)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # a forked child has none of these threads
