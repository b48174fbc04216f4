"""Every table of the traces as a Parquet file."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import duckdb

from analysis.export.drafts import new, unwritable, writing
from analysis.export.store import copied, words
from harness.redact import MARKS, SHORTEST, hides, of_values, redacted
from traces.database import quoted, schema

ROW_GROUP = 2048
"""Rows that are written at once: with long texts, as few as Parquet allows here."""


def parquet(directory: Path, to: Path, environment: Mapping[str, str] = os.environ) -> Mapping[str, int]:
    """Write ``TABLE.parquet`` for each table into the new folder *to*, which is there whole or not at all; return how
    many rows each has. Lines not merged yet are among them, and all tables are of the same moment.

    Raises:
        UserError: there is something at *to* already, or it cannot be written, as when the disk is full.
        TracesBusy: another process held the database for too long.
    """
    tables = {table: f"SELECT * FROM {table}" for table in schema().columns}
    written: dict[str, int] = {}
    with new(to) as draft, copied(directory, tables) as connection:
        with writing(to):
            draft.mkdir()
        for table in tables:
            redact(connection, table, environment)
            written[table] = write(connection, table, draft / f"{table}.parquet", to)
    return written


def write(connection: duckdb.DuckDBPyConnection, table: str, file: Path, to: Path) -> int:
    """Write *table* to *file*, a part of *to*; return how many rows it has."""
    options = f"FORMAT parquet, ROW_GROUP_SIZE {ROW_GROUP}, USE_TMP_FILE false"
    try:
        return connection.execute(f"COPY {table} TO '{quoted(file)}' ({options})").fetchall()[0][0]
    except duckdb.IOException as e:
        raise unwritable(to, f"{table}: {words(e)}") from e


def redact(connection: duckdb.DuckDBPyConnection, table: str, environment: Mapping[str, str]) -> None:
    """Take the secrets out of the texts of *table*. DuckDB looks for what may hold one, hardly ever anything."""
    for column, kind in schema().columns[table].items():
        if kind not in ("VARCHAR", "JSON"):
            continue
        query = f'SELECT rowid FROM {table} WHERE regexp_matches("{column}"::VARCHAR, ?)'
        for (row,) in connection.execute(query, [suspicious(environment)]).fetchall():
            [(text,)] = connection.execute(f'SELECT "{column}" FROM {table} WHERE rowid = {row}').fetchall()
            if (cleaned := redacted(text, environment)) != text:
                connection.execute(f'UPDATE {table} SET "{column}" = ? WHERE rowid = {row}', [cleaned])


def suspicious(environment: Mapping[str, str]) -> str:
    """What is in any text that ``redacted`` changes."""
    values = tuple(value for name, value in environment.items() if hides(name) and len(value) >= SHORTEST)
    own = [of_values(values).pattern] if values else []
    return "|".join([*own, *map(re.escape, MARKS), "(?i:bearer)"])
