"""Every table of the traces as a Parquet file."""

import errno
import shutil
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from analysis.export.store import copied
from harness.redact import redacted
from traces.database import quoted, schema


def parquet(directory: Path, to: Path) -> Mapping[str, int]:
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
        connection.create_function("redacted", without_secrets, ["VARCHAR"], "VARCHAR")  # type: ignore[arg-type]
        draft.mkdir(parents=True)
        try:
            for table, columns in schema().columns.items():
                chosen = ", ".join(cleaned(column, kind) for column, kind in columns.items())
                path = quoted(draft / f"{table}.parquet")
                done = connection.execute(f"COPY (SELECT {chosen} FROM {table}) TO '{path}' (FORMAT parquet)")
                written[table] = done.fetchall()[0][0]
            if to.exists():
                raise FileExistsError(errno.EEXIST, "exists already", str(to))
            draft.rename(to)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return written


def without_secrets(text: str) -> str:
    return redacted(text)


def cleaned(column: str, kind: str) -> str:
    """The *column* without secrets."""
    match kind:
        case "VARCHAR":
            return f'redacted("{column}") AS "{column}"'
        case "JSON":
            return f'redacted("{column}"::VARCHAR)::JSON AS "{column}"'
        case _:
            return f'"{column}"'
