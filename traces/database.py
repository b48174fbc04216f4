"""The DuckDB file: opened for a moment, by one process at a time.

DuckDB locks the file for the process: a writer excludes everybody, a reader excludes writers. The lock belongs to the
process, and closing any handle on the file gives it up. So within one process only one connection of ours is open at a
time, and nothing here opens the file by other means.
"""

import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import duckdb

from traces.errors import TracesBusy, TracesError, TracesUnreadable
from traces.locks import Held, lock
from traces.tables import ONCE

TURN = threading.Lock()
"""Held by the thread of this process that has a database open."""

CONFINED = {"enable_external_access": "false"}
"""Settings under which SQL reaches no file, the database itself included: ``COPY … TO`` would overwrite it."""

STINT = 1.0
"""Seconds that a merge keeps new readers out while it waits for those that are in; then it lets them in for as long."""

ROW_GROUP = 16_384
"""Rows that the database keeps together. A merge joins small groups up to this size: with DuckDB's own, several times
as large, it would hold the file for many seconds when texts are long."""

MEMORY = "512MB"
"""What a merge may take; beyond that DuckDB goes by way of the disk."""

BRIEFLY = 0.05
"""Seconds that a reader may take to pass the gate."""

CREATION = 10.0
"""Seconds that another process may take to make the file."""

REBUILD = (
    "It can be made again from the journals in the spool, as far as this version reads them: move it away, then run: "
    "ratchet traces merge"
)


@contextmanager
def opened_to_read(path: Path, wait: float) -> Generator[duckdb.DuckDBPyConnection]:
    """The database at *path*, read-only and confined.

    Raises:
        TracesBusy: another process had it open to write for all of *wait* seconds.
        TracesUnreadable: it is damaged, or another version of Ratchet made it.
    """
    deadline = time.monotonic() + wait
    with own_turn(path, deadline):
        while True:
            with suppress(OSError), gate(path, deadline):  # one who may only read the directory cannot pass it
                pass  # a merge that waits goes first, or readers could keep it out for ever
            connection = _try_to_connect(path, deadline, deadline, _connect_to_read)
            if connection is not None:
                break
        with closing(connection):
            _check(connection, path)
            yield connection


@contextmanager
def opened_to_write(path: Path, wait: float) -> Generator[duckdb.DuckDBPyConnection]:
    """The database at *path*, for the one who merges. Closing it rolls back what was not committed.

    Raises:
        TracesBusy: others had it open for all of *wait* seconds.
        TracesUnreadable: it is damaged, or another version of Ratchet made it.
    """
    deadline = time.monotonic() + wait
    with own_turn(path, deadline):
        while True:
            with gate(path, deadline):
                connection = _try_to_connect(path, deadline, time.monotonic() + STINT, _connect_to_write)
                if connection is not None:
                    with closing(connection):
                        _check(connection, path)
                        yield connection
                    return
            # Let readers through: it is not they who hold it.
            time.sleep(min(STINT, max(0.0, deadline - time.monotonic())))


def create(path: Path) -> None:
    """Make an empty database at *path*, unless there is one. A kill or a full disk leaves a whole one or none.

    Raises:
        TracesError: it could not be written.
    """
    if path.exists():
        return
    unfinished = path.with_suffix(".new")
    with gate(path, time.monotonic() + CREATION):
        if path.exists():
            return
        for leftover in (unfinished, wal(unfinished), wal(path)):
            leftover.unlink(missing_ok=True)
        try:
            with closing(duckdb.connect(unfinished, config={"threads": 1})) as connection:
                connection.begin()  # one for all, as each transaction waits for the disk
                connection.execute(statements("schema.sql"))
                connection.execute(statements("views.sql"))
                connection.commit()
                connection.execute("CHECKPOINT")  # closing does so too, but keeps quiet when it fails
        except duckdb.Error as e:
            raise TracesError(f"{path} could not be made: {e}. Nothing is lost: the spool holds everything") from e
        unfinished.rename(path)


@contextmanager
def own_turn(path: Path, deadline: float) -> Generator[None]:
    """Within, no other thread of this process has a database open."""
    if not TURN.acquire(timeout=max(0.0, deadline - time.monotonic())):
        raise TracesBusy(f"{path} is busy: another thread of this process ({os.getpid()}) is reading or merging")
    try:
        yield
    finally:
        TURN.release()


@contextmanager
def gate(path: Path, deadline: float) -> Generator[None]:
    """Within, no reader that comes anew is let in, and no other merge. Readers pass it, merges stay in it."""
    try:
        held = lock(Path(f"{path}.lock"), timeout=max(BRIEFLY, deadline - time.monotonic()))
    except Held as e:
        raise TracesBusy(f"{path} is being merged by {e}. Wait longer") from None
    try:
        yield
    finally:
        held.release()


def wal(path: Path) -> Path:
    """Where DuckDB keeps what is committed and not yet in the file."""
    return Path(f"{path}.wal")


def empty_table(schema_name: str, table: str) -> str:
    """The statement that makes *table* in another place than the file."""
    columns = ", ".join(f'"{column}" {kind}' for column, kind in schema().columns[table].items())
    return f"CREATE TABLE {schema_name}.{table} ({columns})"


def insert(connection: duckdb.DuckDBPyConnection, schema_name: str, rows: Mapping[str, Sequence[str]]) -> int:
    """Insert *rows* (table → JSON) into the tables of *schema_name*; return how many were new there."""
    inserted = 0
    for table, values in rows.items():
        structure = json.dumps({column: _shape(kind) for column, kind in schema().columns[table].items()})
        source = (
            f"SELECT unnest(row, max_depth := 1) FROM (SELECT json_transform_strict(unnest(?), '{structure}') AS row)"
        )
        if keys := ONCE.get(table):
            first = "" if table == "texts" else "ORDER BY seq"
            source = f"SELECT DISTINCT ON ({', '.join(keys)}) * FROM ({source}) {first}"
        query = f"INSERT INTO {schema_name}.{table} SELECT * FROM ({source}) AS new {unless_in(schema_name, table)}"
        inserted += connection.execute(query, [values]).fetchall()[0][0]
    return inserted


def unless_in(schema_name: str, table: str) -> str:
    """The condition that *schema_name* does not hold the row ``new`` of *table* yet; empty where rows never repeat."""
    if table not in ONCE:
        return ""
    same = " AND ".join(f"old.{key} IS NOT DISTINCT FROM new.{key}" for key in ONCE[table])
    return f"WHERE NOT EXISTS (SELECT 1 FROM {schema_name}.{table} AS old WHERE {same})"


@dataclass(frozen=True)
class Schema:
    """What ``schema.sql`` makes."""

    version: int
    columns: Mapping[str, Mapping[str, str]]
    """Table → column → type."""


@cache
def schema() -> Schema:
    with closing(duckdb.connect()) as connection:
        connection.execute(statements("schema.sql"))
        columns: dict[str, dict[str, str]] = {}
        for table, column, kind in connection.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE NOT internal ORDER BY column_index"
        ).fetchall():
            columns.setdefault(table, {})[column] = kind
        return Schema(_version(connection), columns)


@cache
def statements(name: str) -> str:
    """The text of one of the ``.sql`` files beside this one."""
    return files("traces").joinpath(name).read_text(encoding="utf-8")


def _shape(kind: str) -> str | list[str]:
    """The type as ``json_transform`` wants it."""
    return [kind.removesuffix("[]")] if kind.endswith("[]") else kind


def _try_to_connect(
    path: Path, deadline: float, until: float, connect: Callable[[Path], duckdb.DuckDBPyConnection]
) -> duckdb.DuckDBPyConnection | None:
    """The connection; or ``None`` if somebody else had the file open *until* then, and the *deadline* is later."""
    while True:
        try:
            return connect(path)
        except duckdb.Error as e:
            holder = _holder(e)
            if holder is None:
                raise TracesUnreadable(f"{path} cannot be opened: {e}. {REBUILD}") from e
            if time.monotonic() >= deadline:
                raise TracesBusy(
                    f"{path} is held open by {holder}. Nothing is lost: what is recorded meanwhile waits in the spool. "
                    "Close that connection, or wait longer"
                ) from e
        time.sleep(random.uniform(0.002, 0.01))  # not in step with others who wait
        if time.monotonic() >= until:
            return None


def _connect_to_read(path: Path) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(path, read_only=True, config={**CONFINED})


def _connect_to_write(path: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(config={"threads": 1, "memory_limit": MEMORY, "temp_directory": f"{path}.tmp"})
    try:
        connection.execute(f"ATTACH '{quoted(path)}' AS traces (ROW_GROUP_SIZE {ROW_GROUP})")
        connection.execute("USE traces")
    except BaseException:
        connection.close()
        raise
    return connection


def quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _holder(error: duckdb.Error) -> str | None:
    """Who has the file open, if that is what DuckDB complains of."""
    if "different configuration" in str(error) or "Unique file handle conflict" in str(error):
        return f"another connection of this process ({os.getpid()})"
    if "Could not set lock" not in str(error):
        return None
    found = re.search(r"PID (\d+)", str(error))
    return f"process {found[1]}" if found else "another process"


def _check(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    try:
        version = _version(connection)
    except duckdb.CatalogException:
        raise TracesUnreadable(f"{path} is a database, but not one that Ratchet made. {REBUILD}") from None
    if version != schema().version:
        raise TracesUnreadable(
            f"{path} has tables of version {version}, this Ratchet has version {schema().version}. {REBUILD}"
        )


def _version(connection: duckdb.DuckDBPyConnection) -> int:
    return connection.execute("SELECT version FROM meta").fetchall()[0][0]
