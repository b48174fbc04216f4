"""What came of a session with a coding agent, whoever's it was: read from the lines that its program printed."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol, cast

from traces.records import INFRASTRUCTURE, Usage

Ended = Literal[
    "done", "failed", "refused", "auth", "dollar_cap", "turn_cap", "no_result", "time", "idle", "output", "stopped"
]
"""Why a session ended. ``done``: by itself, with a last word. ``failed``: what it talks to, or it itself, broke.
``refused``: the model declined. ``auth``: the key was not accepted. ``dollar_cap``, ``turn_cap``: its own limits.
``no_result``: what it printed ends without an end. The others ended it from outside: it took too long, was silent for
too long, printed too much, or the run was stopped."""

ENDED_FROM_OUTSIDE: Mapping[str, str] = {
    "time": "timeout",
    "idle": "timeout",
    "output": "output",
    "stopped": "interrupted",
}
"""→ the class of error."""


class Line(NamedTuple):
    """A line that the program printed, and when it came."""

    at: datetime
    text: str


@dataclass(frozen=True)
class ToolUse:
    """A tool that the agent called, by itself and inside its own session."""

    id: str
    """The agent's own; it may repeat."""
    name: str
    arguments: str
    """JSON, or the command."""
    result: str
    started: datetime
    seconds: float
    failed: bool = False
    error_class: str = "failed"
    """Of a failed one: ``denied``, ``failed`` or ``interrupted``."""


@dataclass(frozen=True)
class AgentReport:
    """What a session came to."""

    ended: Ended
    message: str = ""
    """The agent's last words."""
    error_class: str = ""
    """As of ``ModelError``; empty where nothing failed. Of ``no_result``: what it was in trouble with at the end."""
    detail: str = ""
    """What ended it, in words."""
    usage: Usage | None = None
    """``None``: it did not say."""
    turns: int = 0
    uses: tuple[ToolUse, ...] = ()
    models: tuple[str, ...] = ()
    """As the provider reports them."""
    session: str = ""
    """The agent's own id of it."""
    torn: int = 0
    """Lines that were no JSON object."""

    @property
    def is_transient(self) -> bool:
        """Did it end for a reason that says nothing about what was asked?"""
        return self.error_class in INFRASTRUCTURE


class Agent(Protocol):
    """A coding agent that can be run from the command line."""

    @property
    def name(self) -> str:
        """Program and model, as traces have it: ``claude-code:MODEL``."""
        ...

    @property
    def program(self) -> str:
        """Its name, or where it is."""
        ...

    @property
    def install(self) -> str:
        """What to type where the program is not there."""
        ...

    @property
    def key(self) -> str:
        """The environment variable with the key."""
        ...

    def command(self, program: str, prompt: str, *, is_contained: bool) -> Sequence[str]:
        """What to run. *is_contained*: in a sandbox of ours, so that it may run programs."""
        ...

    def environment(self, key: str, home: str) -> Mapping[str, str]:
        """Besides ``PATH``, ``HOME`` and the like; *key*: the value."""
        ...

    def estimate(self) -> Usage:
        """What a session is expected to use at most."""
        ...

    def priced(self, usage: Usage) -> Usage:
        """With the dollars, where they can be known."""
        ...

    def report(self, lines: Iterable[Line]) -> AgentReport:
        """What *lines* say. Never raises for what is in them."""
        ...


@dataclass
class Events:
    """The JSON objects of a stream, one a line. What is none is counted."""

    lines: Iterable[Line]
    torn: int = 0

    def __iter__(self) -> Iterator[tuple[datetime, Mapping[str, Any]]]:
        for at, text in self.lines:
            if not text.strip():
                continue
            try:
                event = json.loads(text)
            except (ValueError, RecursionError):
                self.torn += 1
                continue
            if isinstance(event, dict):
                yield at, cast("dict[str, Any]", event)
            else:
                self.torn += 1


@dataclass
class Uses:
    """Tool calls as they begin and end."""

    _open: dict[str, tuple[str, str, datetime]] = field(default_factory=dict[str, tuple[str, str, datetime]])
    _done: list[ToolUse] = field(default_factory=list[ToolUse])

    def begin(self, id: str, name: str, arguments: str, at: datetime) -> None:
        self._open.setdefault(id, (name, arguments, at))

    def end(self, id: str, result: str, at: datetime, *, failed: bool, error_class: str = "failed") -> None:
        if (begun := self._open.pop(id, None)) is not None:
            name, arguments, started = begun
            seconds = max(0.0, (at - started).total_seconds())
            self._done.append(ToolUse(id, name, arguments, result, started, seconds, failed, error_class))

    def all(self) -> tuple[ToolUse, ...]:
        """In the order in which they ended; those that never did come last."""
        unfinished = [
            ToolUse(id, name, arguments, "", started, 0.0, True, "interrupted")
            for id, (name, arguments, started) in self._open.items()
        ]
        return (*self._done, *unfinished)


# ── reading what may be anything ───────────────────────────────────────────────────────────────────────────────


def mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def items(value: object) -> Sequence[Mapping[str, Any]]:
    """The objects in a list."""
    return [mapping(item) for item in cast("list[object]", value)] if isinstance(value, list) else []


def words(value: object) -> str:
    """*value*, if it is a text."""
    return value if isinstance(value, str) else ""


def count(value: object) -> int:
    """*value*, if it is a whole number that can be one of tokens."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53 else 0


def amount(value: object) -> float | None:
    """*value*, if it can be an amount of dollars."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        return None
    return float(value)


# ── whose fault ────────────────────────────────────────────────────────────────────────────────────────────────

STATUS = re.compile(r"\bstatus(?: code)?:?\s+(\d{3})\b|\b(\d{3}) (?:Too Many|Unauthorized|Forbidden|Bad Gateway)", re.I)
SAID: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("quota", re.compile(r"quota|billing|credit balance|usage limit", re.I)),
    ("rate_limit", re.compile(r"rate.?limit|too many requests", re.I)),
    ("overloaded", re.compile(r"overloaded|high demand|at capacity", re.I)),
    ("auth", re.compile(r"unauthori[sz]ed|authenticat|invalid api key|not logged in", re.I)),
    ("server_error", re.compile(r"internal server error|server-side issue|bad gateway", re.I)),
    ("connection", re.compile(r"connect|stream disconnected|sending request|timed? ?out|network|dns", re.I)),
    ("bad_request", re.compile(r"invalid.request|bad request|context (?:window|length)", re.I)),
)


def class_of_status(status: int) -> str:
    known = {400: "bad_request", 401: "auth", 402: "quota", 403: "auth", 404: "not_found", 429: "rate_limit"}
    return known.get(status) or (
        "overloaded" if status in (503, 529) else "server_error" if status >= 500 else "failed"
    )


def class_of_words(message: str) -> str:
    """The class of error that *message* tells of; ``failed`` where it tells of none."""
    by_words = next((name for name, pattern in SAID if pattern.search(message)), "")
    if by_words == "quota":
        return by_words
    if found := STATUS.search(message):
        return class_of_status(int(found[1] or found[2]))
    return by_words or "failed"
