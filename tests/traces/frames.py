"""Whole tables, to compare."""

from pathlib import Path

import pandas as pd

import traces
from traces.database import schema
from traces.query import reading


def table(name: str, directory: Path) -> pd.DataFrame:
    """All of a table, in an order of its own."""
    return traces.sql(f"SELECT * FROM {name} ORDER BY ALL", directory=directory, wait=20)


def tables(directory: Path, *, without: tuple[str, ...] = ()) -> dict[str, pd.DataFrame]:
    with reading(directory, wait=20) as connection:
        return {
            name: connection.execute(f"SELECT * FROM {name} ORDER BY ALL").df()
            for name in schema().columns
            if name not in without
        }


def same(left: dict[str, pd.DataFrame], right: dict[str, pd.DataFrame]) -> None:
    assert left.keys() == right.keys()
    for name, frame in left.items():
        pd.testing.assert_frame_equal(frame, right[name], obj=name)
