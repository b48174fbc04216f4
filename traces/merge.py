"""Merge: from the spool into the database, a moment at a time.

The spool is the source of truth. A merge reads the lines beyond the marks, inserts them and moves the marks in one
transaction, and lets go of the file; whenever it is killed, each line is in the database once or not yet.
"""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import duckdb
from pydantic_core import to_json

from traces import places
from traces.database import create, insert, opened_to_read, opened_to_write
from traces.errors import TracesError
from traces.spool import NOTHING, Batch, Mark, Marks, gather, journals


@dataclass(frozen=True)
class Merged:
    """What a merge did."""

    lines: int = 0
    rows: int = 0
    dead: int = 0
    """Lines that could not be read: see the table ``dead_letter``."""
    transactions: int = 0
    seconds: float = 0.0
    cut: tuple[str, ...] = ()
    """Journals that are shorter than what was merged from them: somebody cut or replaced them. They are left alone; to
    take the spool as it is now, delete the database and merge again."""


def merge(directory: Path, *, wait: float = 10.0) -> Merged:
    """Bring the database in *directory* up to date with its spool.

    Safe beside other merges, readers and writers. Waits up to *wait* seconds whenever others have the file open.

    Raises:
        TracesBusy: they had it for longer. What is not merged yet waits in the spool.
        TracesUnreadable: the database is damaged or of another version; says how to make it again.
        TracesError: it could not be written, as when the disk is full.
    """
    path = places.database(directory)
    if not path.exists() and not journals(places.spool(directory)):
        return Merged()
    create(path)
    return catch_up(directory, current_marks(path, wait), wait)[0]


def catch_up(directory: Path, marks: Marks, wait: float) -> tuple[Merged, Marks]:
    """Merge what lies beyond *marks*, in bounded transactions; return the marks reached.

    The lines are read before the database is opened, so that it is held for the insert only. *marks* that others have
    moved meanwhile are read again.
    """
    started = time.perf_counter()
    path = places.database(directory)
    lines = rows = dead = transactions = 0
    while True:
        batch = gather(places.spool(directory), marks)
        if batch.moved:
            stored = store(path, batch, wait)
            if stored is None:
                marks = current_marks(path, wait)
                continue
            marks = batch.after
            lines, rows, dead = lines + batch.lines, rows + stored, dead + batch.dead
            transactions += 1
        if not batch.full:
            return Merged(lines, rows, dead, transactions, time.perf_counter() - started, batch.cut), marks


def current_marks(path: Path, wait: float) -> Marks:
    with opened_to_read(path, wait) as connection:
        return marks_in(connection)


def marks_in(connection: duckdb.DuckDBPyConnection) -> dict[str, Mark]:
    found = connection.execute("SELECT writer, byte_offset, seq, run FROM marks").fetchall()
    return {writer: Mark(offset, seq, run) for writer, offset, seq, run in found}


def store(path: Path, batch: Batch, wait: float) -> int | None:
    """Insert *batch* in one transaction; return the number of rows, or ``None`` if the marks have moved meanwhile."""
    create(path)
    with opened_to_write(path, wait) as connection:
        marks = marks_in(connection)
        if any(marks.get(name, NOTHING) != batch.before.get(name, NOTHING) for name in batch.moved):
            return None
        try:
            connection.begin()
            inserted = insert(connection, "traces.main", batch.rows)
            connection.execute("DELETE FROM marks WHERE list_contains(?, writer)", [list(batch.moved)])
            insert(connection, "traces.main", {"marks": [mark_row(name, mark) for name, mark in batch.moved.items()]})
            connection.commit()
            marks = marks_in(connection)
        except duckdb.Error as e:
            raise TracesError(f"{path} could not be written: {e}. Nothing is lost: the spool holds everything") from e
        if any(marks.get(name) != mark for name, mark in batch.moved.items()):
            raise TracesError(
                f"{path} did not keep what was written to it. Nothing is lost: the spool holds everything"
            )
        return inserted


def mark_row(name: str, mark: Mark) -> str:
    return to_json({"writer": name, "byte_offset": mark.byte_offset, "seq": mark.seq, "run": mark.run}).decode()


def cut_journals(merged: Merged) -> TracesError | None:
    if not merged.cut:
        return None
    return TracesError(
        f"{', '.join(merged.cut)} in the spool: shorter than what was merged from there, so somebody cut or replaced "
        "it, and it was left alone. To take the spool as it is now, delete traces.duckdb and run: ratchet traces merge"
    )


PATIENCE = 1.0
"""Seconds that a merge during a run waits for readers, before it leaves it to the next one."""
LAST_PATIENCE = 5.0
"""Seconds that the last merge of a run waits for them."""


class Merger:
    """Merges every so often on a thread of its own while a run goes on, and once more at its end.

    A database that others hold open is tried again the next time. Nothing that goes wrong here reaches the run: look at
    ``trouble``.
    """

    def __init__(self, directory: Path, every: float = 1.0) -> None:
        self.directory = directory
        self.every = every
        self.trouble: BaseException | None = None
        """What the latest merge ran into; ``None`` if all went well. Whatever it is, the spool holds everything."""
        self._marks: Marks | None = None
        self._sizes: Mapping[Path, int] = {}
        self._stop = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="merge-traces")

    def __enter__(self) -> Self:
        self._work = self._thread.submit(self._merge_until_stopped)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.shutdown()
        self.trouble = self._work.exception() or self.trouble

    def _merge_until_stopped(self) -> None:
        while not self._stop.wait(self.every):
            self._merge(PATIENCE)
        self._merge(LAST_PATIENCE)

    def _merge(self, wait: float) -> None:
        path = places.database(self.directory)
        try:
            sizes = {journal: journal.stat().st_size for journal in journals(places.spool(self.directory))}
            if sizes == self._sizes:
                return
            create(path)
            if self._marks is None:
                self._marks = current_marks(path, wait)
            merged, self._marks = catch_up(self.directory, self._marks, wait)
        except (TracesError, OSError) as e:
            self.trouble = e
        else:
            self._sizes = sizes
            self.trouble = cut_journals(merged)
