"""What ends a session, whatever its model says: limits, and signs that it gets nowhere."""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from time import monotonic
from typing import NoReturn

from harness.errors import UserError
from harness.progress import fingerprint
from traces.records import EndReason, ToolCall, ToolResult, Usage

GOOD = ("ok", "deduplicated")
"""Statuses of calls that did what they should."""
SHOWN = 160
"""Characters of an action that a detail shows."""


@dataclass(frozen=True)
class Limits:
    """Of one session of an agent; its sub-agents have what it has left."""

    steps: int = 30
    """Turns: calls of the model."""
    calls: int = 60
    """Tool calls."""
    seconds: float = 900.0
    tokens: int | None = None
    dollars: float | None = None
    repeats: int = 3
    """How often in a row the same call may bring the same result; and how often the same call may fail in the same way
    while the files stay as they are, whatever was looked up in between."""
    idle: int = 8
    """Turns in a row that learn nothing and change nothing."""
    flips: int = 3
    """Returns of the files to how they had been before, without anything new in between."""
    corrections: int = 2
    """How often an answer that does not fit its schema is asked for again."""

    def __post_init__(self) -> None:
        for name, value in ((f.name, getattr(self, f.name)) for f in fields(self)):
            least = 1 if name in ("repeats", "idle", "flips") else 0  # 0: what a sub-agent gets where nothing is left
            if value is not None and not least <= value < math.inf:
                raise UserError(f"a session is limited to {value} {name}, which is no limit. Give at least {least}")


class Ended(Exception):
    """The session ends here. Control flow, not an error: what was made so far counts."""

    def __init__(self, reason: EndReason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: EndReason = reason
        self.detail = detail


@dataclass(frozen=True)
class Failure:
    """The last failure of an action, and what was known then."""

    print_: str
    state: str
    learned: int
    times: int


class Watch:
    """Counts what one session does, and raises ``Ended`` where it has to end; from then on always the same.

    But for the clock it goes by what it is told alone: a resumed session that tells it the same ends the same.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = monotonic) -> None:
        self.limits = limits
        self._clock = clock
        self._began = clock()
        self._turns = 0
        self._calls = 0
        self._usage = Usage()
        self._ended: tuple[EndReason, str] | None = None
        self._said: set[str] = set()
        self._learned = 0
        self._states: dict[str, int] = {}
        self._state = ""
        self._idle = 0
        self._flips = 0
        self._same: tuple[str, str, str] | None = None
        self._in_a_row = 0
        self._failures: dict[str, Failure] = {}

    @property
    def usage(self) -> Usage:
        """What the session has spent, as far as it was told."""
        return self._usage

    def seconds_left(self) -> float:
        """Never below zero."""
        return max(0.0, self.limits.seconds - (self._clock() - self._began))

    def left(self) -> dict[str, float]:
        """What is left of each limit, for the trace and for people; limits that are not set are left out."""
        of = self.limits
        left: dict[str, float] = {
            "steps": of.steps - self._turns,
            "calls": of.calls - self._calls,
            "seconds": self.seconds_left(),
            "idle": of.idle - self._idle,
            "flips": of.flips - self._flips,
        }
        if of.tokens is not None:
            left["tokens"] = max(0, of.tokens - self._usage.tokens)
        if of.dollars is not None:
            left["dollars"] = max(0.0, of.dollars - (self._usage.dollars or 0.0))
        return left

    def before_turn(self, estimate: Usage) -> None:
        """The model is about to be called, at a cost of *estimate* as far as one can tell.

        Raises:
            Ended: this turn would pass a limit.
            UserError: there is a limit in dollars, and the price of the model is not known.
        """
        self._still_open()
        if self.limits.dollars is not None and estimate.dollars is None:
            raise UserError(
                f"a session is limited to {self.limits.dollars} dollars, but the price of its model is not known, so "
                "the limit could not be kept. Limit tokens instead, or name a model whose price is known"
            )
        if self._turns >= self.limits.steps:
            self._end("step_cap", f"it took {self._turns} of {self.limits.steps} turns without coming to an end")
        self._check_clock()
        self._check_money(estimate)
        self._turns += 1

    def after_turn(self, usage: Usage) -> None:
        """The model answered, or something else was paid for on behalf of the session."""
        self._usage += usage

    def before_call(self, call: ToolCall) -> None:
        """A tool is about to be called.

        Raises:
            Ended: this call would pass a limit, or repeats what has just been done to no effect.
        """
        self._still_open()
        self._check_clock()
        if self._same is not None and self._same[0] == action(call) and self._in_a_row >= self.limits.repeats:
            self._end("repeated_action", f"{shown(call)} was called {self._in_a_row} times in a row with one result")
        if self._calls >= self.limits.calls:
            self._end(
                "tool_budget", f"{self._calls} of {self.limits.calls} tool calls are used up; next: {shown(call)}"
            )
        self._calls += 1

    def after_calls(self, results: Sequence[tuple[ToolCall, ToolResult]], state: str) -> None:
        """The tools that a turn asked for have answered. *state*: a digest of the worktree, empty where there is none.

        Raises:
            Ended: this shows that it gets nowhere.
        """
        self._still_open()
        if not results:
            return
        failed = {action(call): (call, result) for call, result in results if result.status not in GOOD}
        stuck = [call for call, result in failed.values() if self._fails_again(call, result, state)]
        known = dict(self._failures)
        for call, result in results:
            if result.status in GOOD:
                self._failures.pop(action(call), None)
        news = {said(result): result.status in GOOD for _, result in results if said(result) not in self._said}
        self._said |= news.keys()
        self._learned += sum(news.values())
        is_new = bool(state) and state not in self._states
        self._count_repeats(results, state)
        self._count_flips(state, is_new)
        self._idle = 0 if news or is_new else self._idle + 1
        self._state = state
        if stuck:
            failure, result = known[action(stuck[0])], failed[action(stuck[0])][1]
            self._end(
                "escalated",
                f"{shown(stuck[0])} failed {failure.times} times in the same way with nothing changed: "
                f"{one_line(result.text)}",
            )
        if self._flips >= self.limits.flips:
            self._end(
                "thrashing",
                f"the files went back {self._flips} times to how they had been before, with nothing new in between; "
                f"now they are as after turn {self._states[state]} ({state[:12]})",
            )
        if self._idle >= self.limits.idle:
            self._end("no_progress", f"{self._idle} turns in a row brought nothing that was not known, and no change")

    # ── signs ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _fails_again(self, call: ToolCall, result: ToolResult, state: str) -> bool:
        """Did the same call fail in the same way, with nothing changed and nothing learned since; or too often?"""
        key, print_ = action(call), said(result)
        last = self._failures.get(key)
        is_same = last is not None and (last.print_, last.state) == (print_, state)
        times = last.times + 1 if last is not None and is_same else 1
        self._failures[key] = Failure(print_, state, self._learned, times)
        has_learned = last is not None and last.learned != self._learned
        return is_same and (not has_learned or times >= self.limits.repeats)

    def _count_repeats(self, results: Sequence[tuple[ToolCall, ToolResult]], state: str) -> None:
        for call, result in results:
            same = (action(call), said(result), state)
            self._in_a_row = self._in_a_row + 1 if same == self._same else 1
            self._same = same

    def _count_flips(self, state: str, is_new: bool) -> None:
        if not state or state == self._state:
            return
        if is_new:
            self._states[state] = self._turns
            self._flips = 0
        else:
            self._flips += 1

    # ── limits ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _check_clock(self) -> None:
        if self.seconds_left() <= 0:
            self._end("time_cap", f"its {self.limits.seconds:,.4g} seconds are over")

    def _check_money(self, more: Usage) -> None:
        of, used = self.limits, self._usage
        if of.tokens is not None and (used.tokens >= of.tokens or used.tokens + more.tokens > of.tokens):
            self._end(
                "token_cap", f"{used.tokens:,} of {of.tokens:,} tokens used, and the next call takes {more.tokens:,}"
            )
        if of.dollars is None:
            return
        if used.dollars is None or more.dollars is None:
            self._end("dollar_cap", f"a call had no known price, so the limit of {of.dollars} dollars cannot be kept")
        if used.dollars >= of.dollars or used.dollars + more.dollars > of.dollars:
            self._end(
                "dollar_cap",
                f"{used.dollars:,.4g} of {of.dollars:,.4g} dollars used, and the next call takes {more.dollars:,.4g}",
            )

    def _end(self, reason: EndReason, detail: str) -> NoReturn:
        self._ended = (reason, detail)
        raise Ended(reason, detail)

    def _still_open(self) -> None:
        if self._ended is not None:
            raise Ended(*self._ended)


def action(call: ToolCall) -> str:
    """The same for the same tool with the same arguments, in whatever order they are."""
    arguments = call.malformed or json.dumps(call.arguments, sort_keys=True, default=str)
    return hashlib.sha256(f"{call.name}\n{arguments}".encode("utf-8", "surrogatepass")).hexdigest()


def said(result: ToolResult) -> str:
    """The same for the same answer; of failures, whatever numbers, times and paths are in it."""
    if result.status in GOOD:
        return hashlib.sha256(result.text.encode("utf-8", "surrogatepass")).hexdigest()
    return fingerprint(f"{result.status} {result.error_class} {result.text}")


def shown(call: ToolCall) -> str:
    """The action, as a person reads it."""
    arguments = call.malformed or json.dumps(call.arguments, sort_keys=True, default=str, ensure_ascii=False)
    return one_line(f"{call.name}({arguments})")


def one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
