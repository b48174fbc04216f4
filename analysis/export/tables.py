"""Every table of the traces as a Parquet file."""

import errno
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import duckdb

from analysis.export.secrets import without_secrets
from analysis.export.store import copied
from harness.redact import MARKS, SHORTEST, hides, of_values
from traces.database import quoted, schema

ROW_GROUP = 2048
"""Rows that are written at once: with long texts, as few as Parquet allows here."""


def parquet(directory: Path, to: Path, environment: Mapping[str, str] = os.environ) -> Mapping[str, int]:
    """Write ``TABLE.parquet`` for each table into the new folder *to*, which is there whole or not at all; return how
    many rows each has. Lines not merged yet are among them, and all tables are of the same moment.

    Raises:
        FileExistsError: there is something at *to* already.
        TracesBusy: another process held the database for too long.
    """
    tables = {table: f"SELECT * FROM {table}" for table in schema().columns}
    draft = to.with_name(f".{to.name}.{uuid4().hex[:8]}")
    written: dict[str, int] = {}
    with copied(directory, tables) as connection:
        draft.mkdir(parents=True)
        try:
            for table in tables:
                redact(connection, table, environment)
                path = quoted(draft / f"{table}.parquet")
                written[table] = connection.execute(
                    f"COPY {table} TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE {ROW_GROUP})"
                ).fetchall()[0][0]
            if to.exists():
                raise FileExistsError(errno.EEXIST, "exists already", str(to))
            draft.rename(to)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return written


def redact(connection: duckdb.DuckDBPyConnection, table: str, environment: Mapping[str, str]) -> None:
    """Take the secrets out of the texts of *table*. DuckDB looks for what may hold one, hardly ever anything."""
    for column, kind in schema().columns[table].items():
        if kind not in ("VARCHAR", "JSON"):
            continue
        query = f'SELECT rowid FROM {table} WHERE regexp_matches("{column}"::VARCHAR, ?)'
        for (row,) in connection.execute(query, [suspicious(environment)]).fetchall():
            [(text,)] = connection.execute(f'SELECT "{column}" FROM {table} WHERE rowid = {row}').fetchall()
            if (cleaned := without_secrets(text, environment)) != text:
                connection.execute(f'UPDATE {table} SET "{column}" = ? WHERE rowid = {row}', [cleaned])


def suspicious(environment: Mapping[str, str]) -> str:
    """What is in any text that ``without_secrets`` changes."""
    values = tuple(value for name, value in environment.items() if hides(name) and len(value) >= SHORTEST)
    own = [of_values(values).pattern] if values else []
    return "|".join([*own, *map(re.escape, MARKS), "(?i:bearer)"])
