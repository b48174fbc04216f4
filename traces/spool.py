"""What the journals of a spool hold that the database does not have yet."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic_core import to_json

from traces.database import schema
from traces.errors import BadLine
from traces.journal import parse
from traces.records import Run
from traces.tables import Row, rows

BATCH = 4 << 20
"""Bytes of journal in one transaction, so that memory stays flat and the database is soon let go of."""
LONGEST = 32 << 20
"""Bytes of the longest line that goes into the database."""


@dataclass(frozen=True)
class Mark:
    """How far a journal has been merged."""

    byte_offset: int = 0
    """The file of this name is merged up to here."""
    seq: int = 0
    """Lines of the writer of this name are merged up to this number."""
    run: str | None = None
    """The run that the file of this name belongs to: a record in it said so."""


Marks = Mapping[str, Mark]
NOTHING = Mark()


@dataclass
class Batch:
    """Lines on their way into the tables."""

    before: Marks
    """What was merged already."""
    limit: int = BATCH
    """Bytes of journal, about."""
    rows: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """Table → its rows, as JSON."""
    moved: dict[str, Mark] = field(default_factory=dict[str, Mark])
    """The marks that the batch moves."""
    cut: tuple[str, ...] = ()
    """Files that are shorter than what was merged from them."""
    lines: int = 0
    size: int = 0

    @property
    def after(self) -> Marks:
        """What is merged once the batch is."""
        return {**self.before, **self.moved}

    @property
    def dead(self) -> int:
        return len(self.rows.get("dead_letter", ()))

    @property
    def full(self) -> bool:
        return self.size >= self.limit

    def mark(self, name: str) -> Mark:
        return self.moved.get(name) or self.before.get(name, NOTHING)

    def take(self, name: str, offset: int, length: int, raw: bytes) -> None:
        """Add one line of the file *name*; one that cannot be read goes to ``dead_letter``."""
        run = self.mark(name).run
        try:
            if length > LONGEST:
                raise BadLine(f"{length} bytes are more than the {LONGEST} that go into the database")
            line = parse(raw, offset)
            if line.seq <= self.mark(line.writer).seq:
                raise BadLine(f"line {line.seq} of {line.writer} is merged already: is this file a copy of another?")
            record = line.record()
            run = record.id if isinstance(record, Run) else run
            made = list(rows(line, record, run))
            seq = {line.writer: line.seq}
        except BadLine as e:
            made, seq = [dead_letter(name, offset, length, raw, str(e))], {}
        for table, row in made:
            values = {column: row[column] for column in schema().columns[table]}
            self.rows.setdefault(table, []).append(to_json(values).decode())
        for writer, number in seq.items():
            self.moved[writer] = Mark(self.mark(writer).byte_offset, number, self.mark(writer).run)
        self.moved[name] = Mark(offset + length, self.mark(name).seq, run)
        self.lines += 1
        self.size += length


def journals(spool: Path) -> list[Path]:
    return sorted(spool.glob("*.jsonl"))


def gather(spool: Path, marks: Marks, limit: int = BATCH) -> Batch:
    """The next lines beyond *marks*, of all journals together about *limit* bytes. Only whole ones."""
    batch = Batch(marks, limit)
    for path in journals(spool):
        start = batch.before.get(path.stem, NOTHING).byte_offset
        size = path.stat().st_size
        if size < start:
            batch.cut += (path.name,)
        elif size > start:
            for offset, length, raw in whole_lines(path, start):
                if batch.full:
                    return batch
                batch.take(path.stem, offset, length, raw)
    return batch


def unmerged(spool: Path, marks: Marks) -> int:
    """Bytes beyond *marks*."""
    return sum(max(0, path.stat().st_size - marks.get(path.stem, NOTHING).byte_offset) for path in journals(spool))


def whole_lines(path: Path, start: int) -> Iterator[tuple[int, int, bytes]]:
    """Offset, length and bytes of each whole line from *start* on; of one that is too long, its first bytes only."""
    offset = start
    with path.open("rb") as file:
        file.seek(start)
        while raw := file.readline(LONGEST):
            length = len(raw)
            end = raw
            while not end.endswith(b"\n"):
                end = file.readline(1 << 20)
                if not end:
                    return  # torn, or not all of it written yet
                length += len(end)
            yield offset, length, raw
            offset += length


def dead_letter(name: str, offset: int, length: int, raw: bytes, reason: str) -> Row:
    return (
        "dead_letter",
        {
            "writer": name,
            "byte_offset": offset,
            "bytes": length,
            "beginning": raw[:800].decode(errors="replace")[:200],
            "reason": reason,
        },
    )
