"""A circuit breaker for each provider address, and how many requests it is sent at a time.

A provider that fails again and again is left alone by all threads, and then asked by one of them whether it is back.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from harness.meter import meter
from harness.models.wire import POLL, Answer, Failure

BROKEN = frozenset({"overloaded", "server_error", "connection"})


@dataclass(frozen=True)
class Breaker:
    """When to leave a provider alone, for how long, and how many requests to have under way at a time."""

    failures: int = 5
    """In a row, of the provider and not of what it was asked, after which it is left alone."""
    first_cool_down: float = 5.0
    """Seconds until one request tries whether it is back; doubled whenever it is not."""
    longest_cool_down: float = 120.0
    patience: float = 600.0
    """Seconds that a call waits for a provider that is left alone, before it fails as ``unavailable``."""
    in_flight: int = 64
    """Requests to it at a time; further ones wait."""
    clock: Callable[[], float] = field(default=time.monotonic, hash=False)
    sleep: Callable[[float], None] = field(default=time.sleep, hash=False)


@dataclass
class Circuit:
    """How it stands with one provider address. Shared by all threads."""

    breaker: Breaker
    _in_flight: int = 0
    _failures: int = 0
    _open_until: float | None = None
    """``None``: closed, requests go through."""
    _cool_down: float = 0.0
    _probing: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def call(self, send: Callable[[], Answer | Failure]) -> Answer | Failure:
        """What *send* returns, once a request may be sent.

        Raises:
            BudgetSpent: the run has to end at once.
        """
        began = self.breaker.clock()
        while (role := self._enter()) in ("open", "full"):
            if role == "open" and self.breaker.clock() - began >= self.breaker.patience:
                return self._given_up()
            meter().check_clock()
            if role == "open":
                self.breaker.sleep(POLL)
        is_probe = role == "probe"
        try:
            outcome = send()
        except BaseException:
            self._leave(None, is_probe)
            raise
        self._leave(outcome, is_probe)
        return outcome

    def close(self) -> None:
        """Nothing is to be closed: for whoever keeps it beside what is."""

    def _enter(self) -> Literal["request", "probe", "open", "full"]:
        """As what the caller was let in, or why it was not; where it is full, after a moment's wait for a place."""
        with self._changed:
            if self._open_until is not None:
                if self._probing or self.breaker.clock() < self._open_until:
                    return "open"
                self._probing = True
                self._in_flight += 1
                return "probe"
            if self._in_flight >= self.breaker.in_flight:
                self._changed.wait(POLL)
                return "full"
            self._in_flight += 1
            return "request"

    def _leave(self, outcome: Answer | Failure | None, is_probe: bool) -> None:
        """Learn from *outcome*; from ``None``, a request that was broken off, nothing."""
        with self._changed:
            self._in_flight -= 1
            self._changed.notify()
            if is_probe:
                self._probing = False
            if outcome is None or (self._open_until is not None and not is_probe):
                return  # one that was under way when it opened says nothing new
            if not is_broken(outcome):
                self._failures, self._open_until, self._cool_down = 0, None, 0.0
                return
            self._failures += 1
            if is_probe or self._failures >= self.breaker.failures:
                doubled = self._cool_down * 2 or self.breaker.first_cool_down
                self._cool_down = min(doubled, self.breaker.longest_cool_down)
                self._open_until = self.breaker.clock() + self._cool_down

    def _given_up(self) -> Failure:
        return Failure(
            "unavailable",
            f"it failed {self._failures} times in a row and was not back within {self.breaker.patience:g} s, so it was "
            "not asked",
            transient=True,
        )


def is_broken(outcome: Answer | Failure) -> bool:
    """Does it speak of the provider? A time-out does only before the first byte: after it, the answer is long."""
    match outcome:
        case Failure(error_class="timeout"):
            return outcome.retry
        case Failure():
            return outcome.error_class in BROKEN
        case Answer():
            return False
