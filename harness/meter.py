"""Where money is spent: the meter of the trial or proposal in progress.

A model announces each request to the meter before it is sent and hands over a span when it ended. In a run the meter
is the ledger: it writes the intent, enforces the budget and keeps the span, with who spent it (``spending``) and what
it was a part of (``inside``). Outside a run nothing is metered and nothing is kept.
"""

import uuid
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from traces.records import Record, Run, Span, Text, Usage

R = TypeVar("R", bound=Record)


class Steps(Protocol):
    """Durable steps: what a killed process had finished, the next one finds again."""

    def step(self, key: str, make: Callable[[], R]) -> R:
        """The record kept under *key*; made by *make* and kept, if there is none yet. That it is begun is written
        down first."""
        ...

    def recall(self, key: str) -> Record | None:
        """The record kept under *key*, or ``None``."""
        ...

    def begun(self, key: str) -> bool:
        """Was the step begun, in this process or one before, whether or not it is finished?"""
        ...


@dataclass(frozen=True)
class Under:
    """The part of *steps* whose keys begin with *prefix*."""

    steps: Steps
    prefix: str

    def step(self, key: str, make: Callable[[], R]) -> R:
        return self.steps.step(f"{self.prefix}/{key}", make)

    def recall(self, key: str) -> Record | None:
        return self.steps.recall(f"{self.prefix}/{key}")

    def begun(self, key: str) -> bool:
        return self.steps.begun(f"{self.prefix}/{key}")


class Meter(Protocol):
    @property
    def run(self) -> Run | None: ...

    @property
    def trial(self) -> str | None:
        """The id of the trial in progress."""
        ...

    @property
    def directory(self) -> Path | None:
        """``traces/data``; ``None`` outside a run."""
        ...

    @property
    def folder(self) -> Path | None:
        """Where the trial in progress may keep files: it survives a kill, and goes when the trial ends."""
        ...

    @property
    def spare(self) -> Path | None:
        """Where the trials of a run leave each other folders, on the same disk; it goes when the run is left."""
        ...

    @property
    def wish(self) -> str:
        """What all attempts at the trial in progress have in common, and no other trial of any run has."""
        ...

    @property
    def steps(self) -> Steps:
        """Of the trial in progress, forgotten when it ends."""
        ...

    @property
    def effects(self) -> Steps:
        """What must not happen twice, however often the trial is attempted."""
        ...

    def check_clock(self) -> None:
        """Raise ``BudgetSpent`` when the run has to end at once: the stop button, its hours."""
        ...

    def begin(self, span_id: str, name: str, estimate: Usage, attempt: int) -> None:
        """A request is about to be sent.

        Raises:
            BudgetSpent: the run may not buy it.
        """
        ...

    def end(self, span: Span, texts: Sequence[Text] = ()) -> None:
        """It ended, well or not; *texts* are the long texts that the span refers to. Also takes spans that cost
        nothing and had no ``begin`` (a grade, a tool)."""
        ...


class Forgotten:
    """Steps outside a run: each is made, and remembered as long as this object is."""

    def __init__(self) -> None:
        self._kept: dict[str, Record] = {}
        self._begun: set[str] = set()

    def step(self, key: str, make: Callable[[], R]) -> R:
        kept = self._kept.get(key)
        if kept is None:
            self._begun.add(key)
            kept = self._kept.setdefault(key, make())
        return kept  # type: ignore[return-value]

    def recall(self, key: str) -> Record | None:
        return self._kept.get(key)

    def begun(self, key: str) -> bool:
        return key in self._begun


class Unmetered:
    """Outside a run: nothing is limited and nothing is kept."""

    run: Run | None = None
    trial: str | None = None
    directory: Path | None = None
    folder: Path | None = None
    spare: Path | None = None

    def __init__(self) -> None:
        self.wish = uuid.uuid4().hex
        self.steps: Steps = Forgotten()
        self.effects: Steps = Forgotten()

    def check_clock(self) -> None:
        pass

    def begin(self, span_id: str, name: str, estimate: Usage, attempt: int) -> None:
        pass

    def end(self, span: Span, texts: Sequence[Text] = ()) -> None:
        pass


_meter: ContextVar[Meter | None] = ContextVar("meter", default=None)
_open: list[Meter] = []
_inside: ContextVar[str | None] = ContextVar("inside", default=None)
_role: ContextVar[str] = ContextVar("role", default="")


def meter() -> Meter:
    """The meter of what is in progress on this thread; on a thread that the user's code began, that of the open run."""
    return _meter.get() or (_open[-1] if _open else Unmetered())


def open_meter(meter: Meter) -> None:
    """From now on *meter* takes what no other does: while a run is open, no call goes unmetered."""
    _open.append(meter)


def close_meter(meter: Meter) -> None:
    if meter in _open:
        _open.remove(meter)


@contextmanager
def metered(by: Meter) -> Generator[None]:
    """Within, ``meter()`` is *by*."""
    token = _meter.set(by)
    try:
        yield
    finally:
        _meter.reset(token)


@contextmanager
def inside(span: str) -> Generator[None]:
    """Within, *span* is the parent of every span that names none. Threads need a copy of the context."""
    token = _inside.set(span)
    try:
        yield
    finally:
        _inside.reset(token)


@contextmanager
def spending(role: str) -> Generator[None]:
    """Within, what is spent is spent by *role*."""
    token = _role.set(role)
    try:
        yield
    finally:
        _role.reset(token)


def placed(span: Span) -> Span:
    """*span* with the parent and the role that hold where it ended, where it has none."""
    return span.model_copy(update={"parent": span.parent or _inside.get(), "role": span.role or _role.get()})
