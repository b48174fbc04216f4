"""What autoresearch tried before, from its ``results.tsv``. https://github.com/karpathy/autoresearch, program.md"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.agent.memory import CAP, Notes, one_item, one_line
from harness.graders.metric import number

COLUMNS = ("commit", "value", "memory_gb", "status", "description")
"""The second has the name of the metric."""


@dataclass(frozen=True)
class Row:
    """A line of the file: a change, and what became of it."""

    commit: str
    value: float | None
    """``None``: there was none, which the file has as a zero."""
    gigabytes: float | None
    status: str
    """``keep``, ``discard`` or ``crash``; else whatever stood there."""
    description: str


def read_results(text: str) -> tuple[list[Row], list[int]]:
    """Its rows, the oldest first, and the numbers of the lines that are none, such as one that was torn.

    An agent has written it, often by hand: a missing header, other line ends and missing last fields are taken.
    """
    rows: list[Row] = []
    unreadable: list[int] = []
    for number_, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        fields = [one_line(field) for field in line.split("\t")]
        if not any(fields) or fields[0].casefold() == "commit":
            continue
        if len(fields) < 4 or number(fields[1]) is None:
            unreadable.append(number_)
            continue
        status = fields[3].casefold()
        value = number(fields[1])
        rows.append(
            Row(
                commit=fields[0],
                value=None if status == "crash" or not value else value,
                gigabytes=number(fields[2]) or None,
                status=status,
                description=" ".join(fields[4:]),
            )
        )
    return rows, unreadable


def notes_of(rows: Sequence[Row], metric: str, better: Literal["lower", "higher"], cap: int = CAP) -> Notes:
    """What a memory is to hold of *rows*; the oldest go first where there are too many."""
    done = tuple(one_item(line(row, metric)) for row in rows)
    return Notes(done=done, learned=tuple(map(one_item, lessons(rows, metric, better))), version=1).within(cap)


def line(row: Row, metric: str) -> str:
    number_ = f"{metric} {row.value:.6f}" if row.value is not None else f"no {metric}"
    memory = f", {row.gigabytes:.1f} GB" if row.gigabytes else ""
    return f"{row.status or 'no status'}, {number_}{memory}: {row.description or 'no description'} ({row.commit})"


def lessons(rows: Sequence[Row], metric: str, better: Literal["lower", "higher"]) -> list[str]:
    """What the rows say together."""
    kept = [row for row in rows if row.status == "keep"]
    crashed = sum(row.status == "crash" for row in rows)
    found = [f"Before Ratchet {len(rows)} runs were made: {len(kept)} kept, {crashed} crashed (results.tsv)."]
    measured = [row for row in kept if row.value is not None]
    if measured:
        best = (min if better == "lower" else max)(measured, key=lambda row: row.value or 0.0)
        found.append(
            f"{metric} went from {measured[0].value:.6f} to {best.value:.6f}, the best, with: "
            f"{best.description or 'no description'}."
        )
    if rows:
        found.append("Each of these was run once, so that a small difference among them may be chance.")
    return found
