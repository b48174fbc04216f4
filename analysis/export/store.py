"""A copy of a part of the traces, to read at leisure.

Whoever has the database open keeps merges out, and an export takes as long as its reader. So what it needs is copied
to a database of its own, which takes a second or two for a million spans, and the traces are let go of.
"""

import json
import re
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

from harness.errors import UserError
from traces import places
from traces.database import opened_to_read, own_turn, quoted
from traces.errors import TracesBusy
from traces.merge import marks_in
from traces.query import show_new_only, show_together, tail
from traces.spool import Marks

Row = Mapping[str, Any]
WAIT = 30.0
"""Seconds that an export waits for merges and other readers."""
MEMORY = "1GB"
"""What DuckDB may take; beyond that it goes by way of the disk."""
AT_ONCE = 256
"""Rows in memory: with the texts of a long session each takes some hundred kilobytes."""


@contextmanager
def copied(
    directory: Path, tables: Mapping[str, str], values: Mapping[str, object] = {}, *, wait: float = WAIT
) -> Generator[duckdb.DuckDBPyConnection]:
    """A database with *tables*, name → the query that fills it, in this order; lines not merged yet are in them.

    A query may read all tables and views of the traces, and those before it as ``copied.NAME``; it takes of *values*
    what it names. The connection may write files. With the block's end the copy is gone.

    Raises:
        TracesBusy: another process held the database for longer than *wait* seconds.
        TracesUnreadable: it is damaged or of another version.
        UserError: the copy cannot be written, as when the disk is full.
    """
    with TemporaryDirectory(prefix="ratchet-export-") as folder, copying(folder):
        settings = {"memory_limit": MEMORY, "temp_directory": f"{folder}/spilled"}
        with closing(duckdb.connect(config={**settings})) as connection:
            connection.execute(f"ATTACH '{quoted(Path(folder) / 'copied.duckdb')}' AS copied")
            with attached(connection, directory, wait):
                for table, query in tables.items():
                    named = {name: value for name, value in values.items() if f"${name}" in query}
                    connection.execute(f"CREATE TABLE copied.{table} AS {query}", named or None)
            connection.execute("USE copied")
            yield connection


@contextmanager
def copying(folder: str) -> Generator[None]:
    """Within, trouble with reading or writing is about the copy in *folder*."""
    try:
        yield
    except (duckdb.IOException, duckdb.TransactionException, duckdb.OutOfMemoryException) as e:
        raise UserError(
            f"the traces cannot be copied to {folder}, from where they are exported: {words(e)}. No file was "
            "made. Make room there, or name a folder on another disk with TMPDIR, and type "
            "the same again"
        ) from e


def words(error: duckdb.Error) -> str:
    """What DuckDB says: what the operating system told it, where that is in it."""
    text = str(error)
    found = re.search(r"(?:No space left on device|File too large|Disk quota exceeded)", text)
    return found[0].lower() if found else " ".join(text.split())


@dataclass(frozen=True)
class Damage:
    """What of a journal could not be read, and is in no table."""

    writer: str
    """Whose journal it is: the name of the file."""
    lines: int
    byte_offset: int
    """Where the first of them starts."""
    reason: str
    """What is wrong with that."""


def damage(directory: Path, writers: Sequence[str] | None = None, *, wait: float = WAIT) -> list[Damage]:
    """The journals that cannot be read in full; only those of *writers*, if they are given.

    Raises:
        TracesBusy: another process held the database for longer than *wait* seconds.
    """
    path = places.database(directory)
    marks: Marks = {}
    found: list[Row] = []
    if path.exists():
        with opened_to_read(path, wait) as connection:
            marks = marks_in(connection)
            found += rows(connection, "SELECT * FROM dead_letter")
    for batch in tail(places.spool(directory), marks):
        found += map(json.loads, batch.rows.get("dead_letter", ()))
    by_writer: dict[str, list[Row]] = {}
    for row in sorted(found, key=itemgetter("writer", "byte_offset")):
        if writers is None or row["writer"] in writers:
            by_writer.setdefault(row["writer"], []).append(row)
    return [Damage(name, len(bad), bad[0]["byte_offset"], bad[0]["reason"]) for name, bad in by_writer.items()]


@contextmanager
def attached(connection: duckdb.DuckDBPyConnection, directory: Path, wait: float) -> Generator[None]:
    """Within, the plain names are the traces, as in ``traces.query.reading``, but the connection is not confined."""
    path, spool = places.database(directory), places.spool(directory)
    if not path.exists():
        show_new_only(connection, tail(spool, {}))
        yield
        return
    deadline = time.monotonic() + wait
    with opened_to_read(
        path, wait
    ):  # it says in words what is wrong with the file, and lets a merge that waits go first
        pass
    with own_turn(path, deadline):
        attach(connection, path, wait)
        connection.execute("USE traces")
        show_together(connection, tail(spool, marks_in(connection)))
        yield
        connection.execute("USE copied")
        connection.execute("DETACH traces")


def attach(connection: duckdb.DuckDBPyConnection, path: Path, wait: float) -> None:
    busy = retry_if_exception_type(duckdb.IOException)
    try:
        for attempt in Retrying(retry=busy, stop=stop_after_delay(wait), wait=wait_random(0.002, 0.02), reraise=True):
            with attempt:
                connection.execute(f"ATTACH '{quoted(path)}' AS traces (READ_ONLY)")
    except duckdb.IOException as e:
        raise TracesBusy(f"{path} is held open by another process: {e}. Close that connection, or try again") from e


def rows(
    connection: duckdb.DuckDBPyConnection, query: str, values: Mapping[str, object] | None = None
) -> Iterator[Row]:
    """What *query* finds, a few rows in memory at a time; each as JSON has it. Ask for hashes, not for long texts: what
    is sorted or joined has to fit into memory."""
    found = connection.execute(f"SELECT to_json(found) FROM ({query}) AS found", values)
    while some := found.fetchmany(AT_ONCE):
        for (row,) in some:
            yield json.loads(row)


def with_texts(
    connection: duckdb.DuckDBPyConnection, found: Iterable[Row], hashes: Callable[[Row], Iterable[str | None]]
) -> Iterator[tuple[Row, Mapping[str, str]]]:
    """Each row of *found* with the texts, by hash, that *hashes* names in it; those that were kept."""
    left = iter(found)
    query = "SELECT hash, text FROM copied.texts WHERE hash IN (SELECT unnest(?))"
    with closing(connection.cursor()) as texts:  # another query on the same connection would end that for the rows
        while some := list(islice(left, AT_ONCE)):
            wanted = {hash for row in some for hash in hashes(row) if hash is not None}
            kept: dict[str, str] = dict(texts.execute(query, [[*wanted]]).fetchall())
            yield from ((row, kept) for row in some)
