"""Questions to the traces, at any time: what is merged and what is not yet, in the same tables."""

from collections.abc import Generator, Sequence, Set
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb
import pandas as pd

from traces import places
from traces.database import CONFINED, empty_table, insert, opened, schema, statements, unless_in
from traces.merge import marks_in
from traces.spool import Marks, gather


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

    While it is open nothing can be merged, so no line can be in both or in neither.
    """
    path = places.database(directory)
    if path.exists():
        with opened(path, read_only=True, wait=wait) as connection:
            new = load_new(connection, places.spool(directory), marks_in(connection))
            if new:
                show_together(connection, new)
            yield connection
    else:
        with closing(duckdb.connect(config={**CONFINED, "temp_directory": f"{path}.tmp"})) as connection:
            new = load_new(connection, places.spool(directory), {})
            connection.execute("ATTACH IF NOT EXISTS ':memory:' AS unmerged")
            connection.execute("USE unmerged")
            for table in schema().columns.keys() - new:
                connection.execute(empty_table("unmerged.main", table))
            connection.execute(statements("views.sql"))
            yield connection


def load_new(connection: duckdb.DuckDBPyConnection, spool: Path, marks: Marks) -> set[str]:
    """Put the rows beyond *marks* into tables in memory, ``unmerged.main``; return which tables that took."""
    tables: set[str] = set()
    while True:
        batch = gather(spool, marks)
        if batch.rows:
            connection.execute("ATTACH IF NOT EXISTS ':memory:' AS unmerged (READ_WRITE)")
        for table in batch.rows.keys() - tables:
            connection.execute(empty_table("unmerged.main", table))
            tables.add(table)
        insert(connection, "unmerged.main", batch.rows)
        marks = {**marks, **batch.moved}
        if not batch.full:
            return tables


def show_together(connection: duckdb.DuckDBPyConnection, new: Set[str]) -> None:
    """Give the plain names to views that add the rows in memory to those in the file."""
    views = [f"CREATE VIEW {table} AS {merged_and_new(table, table in new)}" for table in schema().columns]
    connection.execute("CREATE SCHEMA unmerged.both; USE unmerged.both")
    connection.execute(";".join(views))
    connection.execute(statements("views.sql"))


def merged_and_new(table: str, is_new: bool) -> str:
    merged = f"SELECT * FROM traces.main.{table}"
    if not is_new:
        return merged
    return f"{merged} UNION ALL SELECT * FROM unmerged.main.{table} AS new {unless_in('traces.main', table)}"
