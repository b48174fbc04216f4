"""Questions to the traces, at any time: what is merged and what is not yet, in the same tables."""

from collections.abc import Generator, Iterable, Iterator, Sequence, Set
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path

import duckdb
import pandas as pd

from traces import places
from traces.database import CONFINED, empty_table, insert, opened_to_read, schema, statements, unless_in
from traces.merge import marks_in
from traces.spool import Batch, Marks, gather, unmerged

BRIEF = 1 << 20
"""Bytes of journal that are read in well under a tenth of a second."""
LONG = 64 << 20
"""Bytes of journal that fit into memory as rows."""


def sql(query: str, values: Sequence[object] = (), *, directory: Path | None = None, wait: float = 2.0) -> pd.DataFrame:
    """Run *query* on the traces, the lines not merged yet included; *values* fill its ``?``.

    Opens read-only and closes again, so a notebook that calls this all night never blocks the run. Waits up to *wait*
    seconds for a merge in progress. *directory* is ``traces/data`` of the checkout one stands in, unless given; where
    nothing has run yet the tables are empty. The tables are described in ``traces/schema.sql``.

    The query can read nothing but the traces and write nothing: for files, take the DataFrame. What is wrong with it
    DuckDB says in its own words.

    Raises:
        TracesBusy: another process held the file for longer; names its PID.
        TracesUnreadable: the database is damaged or of another version; says how to make it again.
    """
    with reading(directory or places.data_directory(Path.cwd()), wait) as connection:
        if not connection.extract_statements(query):
            raise duckdb.ParserException("there is no statement in the query")
        return connection.execute(query, values).df()


@contextmanager
def reading(directory: Path, wait: float) -> Generator[duckdb.DuckDBPyConnection]:
    """A connection in which the plain names are the merged rows and the new ones together.

    While it is open nothing can be merged, so no line can be in both or in neither. So that it is not open for long,
    a longer tail is read before; if a merge got ahead of that, it is read again.
    """
    path, spool = places.database(directory), places.spool(directory)
    if not path.exists():
        with closing(duckdb.connect(config={**CONFINED, "temp_directory": f"{path}.tmp"})) as connection:
            show_new_only(connection, tail(spool, {}))
            yield connection
        return
    marks: Marks | None = None
    ahead: list[Batch] = []
    for hold in (False, False, True):
        with opened_to_read(path, wait) as connection:
            now = marks_in(connection)
            if hold or now == marks or not BRIEF < unmerged(spool, now) < LONG:
                known = ahead if now == marks else []
                show_together(connection, chain(known, tail(spool, known[-1].after if known else now)))
                yield connection
                return
        marks, ahead = now, list(tail(spool, now))


def tail(spool: Path, marks: Marks) -> Iterator[Batch]:
    """All that lies beyond *marks*, piece by piece."""
    while True:
        batch = gather(spool, marks)
        marks = batch.after
        yield batch
        if not batch.full:
            return


def load(connection: duckdb.DuckDBPyConnection, batches: Iterable[Batch]) -> Set[str]:
    """Put the rows into tables in memory, ``unmerged.main``; return which tables that took."""
    made: set[str] = set()
    for batch in batches:
        if batch.rows and not made:
            connection.execute("ATTACH ':memory:' AS unmerged (READ_WRITE)")
        for table in batch.rows.keys() - made:
            connection.execute(empty_table("unmerged.main", table))
            made.add(table)
        insert(connection, "unmerged.main", batch.rows)
    return made


def show_new_only(connection: duckdb.DuckDBPyConnection, batches: Iterable[Batch]) -> None:
    """Where there is no file: give the plain names to the tables in memory."""
    new = load(connection, batches)
    connection.execute("ATTACH IF NOT EXISTS ':memory:' AS unmerged")
    connection.execute("USE unmerged")
    for table in schema().columns.keys() - new:
        connection.execute(empty_table("unmerged.main", table))
    connection.execute(statements("views.sql"))


def show_together(connection: duckdb.DuckDBPyConnection, batches: Iterable[Batch]) -> None:
    """Give the plain names to views that add the rows in memory to those in the file."""
    new = load(connection, batches)
    if not new:
        return
    views = [f"CREATE VIEW {table} AS {merged_and_new(table, table in new)}" for table in schema().columns]
    connection.execute("CREATE SCHEMA unmerged.both; USE unmerged.both")
    connection.execute(";".join(views))
    connection.execute(statements("views.sql"))


def merged_and_new(table: str, is_new: bool) -> str:
    merged = f"SELECT * FROM traces.main.{table}"
    if not is_new:
        return merged
    return f"{merged} UNION ALL SELECT * FROM unmerged.main.{table} AS new {unless_in('traces.main', table)}"
