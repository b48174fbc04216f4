"""Where money is spent: the meter of the trial or proposal in progress.

A model announces each request to the meter before it is sent and hands over a span when it ended. In a run the meter
is the ledger: it writes the intent, enforces the budget and keeps the span. Outside a run nothing is metered.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from traces.records import Span, Text, Usage


class Meter(Protocol):
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


class Unmetered:
    """Outside a run: nothing is limited and nothing is kept."""

    def begin(self, span_id: str, name: str, estimate: Usage, attempt: int) -> None:
        pass

    def end(self, span: Span, texts: Sequence[Text] = ()) -> None:
        pass


_meter: ContextVar[Meter | None] = ContextVar("meter", default=None)
_open: list[Meter] = []


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
