"""Deterministic checks of data: how many rows, how old, whether they add up, and whether any is there twice."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

from harness.graders.checks import text_at
from harness.graders.marks import fault, marks_of
from harness.protocols import Work
from traces.records import Mark, Task, now

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """Rows of named values: the file *path* of the worktree, without a path the output itself."""

    path: str = ""
    form: Literal["csv", "jsonl"] = "csv"

    def rows(self, criterion: str, output: str, work: Work) -> list[Row] | Mark:
        """The rows, or what is wrong with them."""
        text = text_at(self.path, criterion, output, work)
        if isinstance(text, Mark):
            return text
        return csv_rows(criterion, text) if self.form == "csv" else jsonl_rows(criterion, text)


def csv_rows(criterion: str, text: str) -> list[Row] | Mark:
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    rows: list[Row] = []
    try:
        names = list(reader.fieldnames or ())
        for row in reader:
            if None in row or None in row.values():
                line = text.splitlines()[reader.line_num - 1 : reader.line_num]
                return fault(criterion, f"line `{reader.line_num}` has not as many cells as the header", "".join(line))
            rows.append(row)
    except csv.Error as e:
        return fault(criterion, f"this is not CSV: `{e}`", text)
    if len(set(names)) < len(names):
        return fault(criterion, "two columns of the header have the same name", ",".join(names))
    return rows


def jsonl_rows(criterion: str, text: str) -> list[Row] | Mark:
    rows: list[Row] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            return fault(criterion, f"line `{number}` is not a JSON object", line)
        rows.append(cast(Row, row))
    return rows


@dataclass(frozen=True)
class RowCount:
    """There are so many rows."""

    at_least: int = 1
    at_most: int | None = None
    table: Table = field(default_factory=Table)
    id: str = "rows"

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        rows = self.table.rows(self.id, output, work)
        if isinstance(rows, Mark):
            return (rows,)
        faults: list[Mark] = []
        if len(rows) < self.at_least:
            faults.append(fault(self.id, f"too few rows: {len(rows)}, and at least {self.at_least} are expected"))
        if self.at_most is not None and len(rows) > self.at_most:
            faults.append(fault(self.id, f"too many rows: {len(rows)}, and at most {self.at_most} are expected"))
        return marks_of(self.id, faults)


@dataclass(frozen=True)
class Fresh:
    """The newest time in *column* is at most so old, and none is in the future. Times are ISO 8601, by default UTC."""

    column: str
    at_most: timedelta
    table: Table = field(default_factory=Table)
    id: str = "fresh"
    clock: Callable[[], datetime] = field(default=now, repr=False)

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        rows = self.table.rows(self.id, output, work)
        if isinstance(rows, Mark):
            return (rows,)
        return marks_of(self.id, self._faults([(row, moment(row.get(self.column))) for row in rows]))

    def _faults(self, rows: Sequence[tuple[Row, datetime | None]]) -> Iterator[Mark]:
        today = self.clock()
        newest = max((time for _, time in rows if time is not None), default=None)
        if not rows:
            yield fault(self.id, "there are no rows")
        if newest is not None and today - newest > self.at_most:
            yield fault(self.id, f"the newest row is older than {self.at_most}", newest.isoformat())
        for row, time in rows:
            if time is None:
                yield fault(self.id, f"no time in column `{self.column}`", str(dict(row)))
            elif time > today:
                yield fault(self.id, f"a time in column `{self.column}` lies in the future", str(dict(row)))


def moment(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(str(value).strip())
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    table: Table = field(default_factory=Table)


@dataclass(frozen=True)
class Reconciles:
    """The numbers of *column* add up to *total*: a number, or the sum of another column."""

    column: Column
    total: float | Column
    tolerance: float = 1e-6
    """The difference that counts as none."""
    id: str = "reconciles"

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        sums: list[float] = []
        for part in (self.column, self.total):
            found = part if isinstance(part, int | float) else total_of(self.id, part, output, work)
            if isinstance(found, Mark):
                return (found,)
            sums.append(found)
        wrong = abs(sums[0] - sums[1]) > self.tolerance
        # by how much is not told: it would be the answer
        return marks_of(self.id, [fault(self.id, f"column `{self.column.name}` does not add up")] if wrong else [])


def total_of(criterion: str, column: Column, output: str, work: Work) -> float | Mark:
    rows = column.table.rows(criterion, output, work)
    if isinstance(rows, Mark):
        return rows
    numbers: list[float] = []
    for row in rows:
        value = finite(row.get(column.name))
        if value is None:
            return fault(criterion, f"no number in column `{column.name}`", str(dict(row)))
        numbers.append(value)
    try:
        return math.fsum(numbers)
    except OverflowError:
        return fault(criterion, f"the numbers in column `{column.name}` are too large")


def finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


@dataclass(frozen=True)
class Unique:
    """No two rows have the same values in the *key* columns."""

    key: Sequence[str]
    table: Table = field(default_factory=Table)
    id: str = "unique"

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        rows = self.table.rows(self.id, output, work)
        if isinstance(rows, Mark):
            return (rows,)
        return marks_of(self.id, self._faults(rows))

    def _faults(self, rows: Sequence[Row]) -> Iterator[Mark]:
        names = "`, `".join(self.key)
        for row in rows:
            if not has(row, self.key):
                yield fault(self.id, f"a row has no `{names}`", str(dict(row)))
        keys = Counter(tuple(json.dumps(row.get(name)) for name in self.key) for row in rows if has(row, self.key))
        for values, count in keys.items():
            if count > 1:
                yield fault(self.id, f"the same `{names}` stands in `{count}` rows", ", ".join(values))


def has(row: Row, names: Sequence[str]) -> bool:
    return all(name in row for name in names)
