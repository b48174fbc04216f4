"""What happened: records, the journals they are written to, and the database they can be queried in.

import traces
traces.sql("select * from trials where score = 0")
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traces.errors import TracesBusy, TracesError
    from traces.places import data_directory, prepare
    from traces.query import sql

__all__ = ["TracesBusy", "TracesError", "data_directory", "prepare", "sql"]

HOMES = {
    "TracesBusy": "traces.errors",
    "TracesError": "traces.errors",
    "data_directory": "traces.places",
    "prepare": "traces.places",
    "sql": "traces.query",
}


def __getattr__(name: str) -> object:
    """Imported when first asked for: DuckDB and pandas take a second that a journal does not need."""
    if name not in HOMES:
        raise AttributeError(f"module 'traces' has no attribute {name!r}")
    return getattr(import_module(HOMES[name]), name)
