"""What earlier runs of an experiment had found and learned: the next one begins with it."""

import json
from collections.abc import Collection
from datetime import UTC
from pathlib import Path
from typing import Any

import traces
from traces.records import Finding

MOST = 200
"""Findings that a run begins with, the latest."""


def taught_by_hidden(experiment: str, directory: Path, hidden: Collection[str]) -> list[str]:
    """The runs of *experiment* that learned from tasks which are *hidden* by now (their ids): whoever goes on from what
    these found would know what it is tested on.

    Raises:
        TracesError: the store cannot be read.
    """
    rows = traces.sql(
        "select distinct tasks.run from tasks join runs on runs.id = tasks.run "
        "where runs.experiment = ? and tasks.split = 'train' and list_contains(?, tasks.id)",
        (experiment, sorted(hidden)),
        directory=directory,
    )
    return [str(run) for run in rows.run]


def found_before(experiment: str, directory: Path, without: Collection[str] = ()) -> list[Finding]:
    """The findings of earlier runs of *experiment*, the latest of each id; those runs left out that are named.

    Raises:
        TracesError: the store cannot be read.
    """
    rows = traces.sql(
        "select to_json(f) as finding from findings f join runs on runs.id = f.run "
        "where runs.experiment = ? and f.symptom is not null and not list_contains(?::varchar[], f.run) "
        "qualify row_number() over (partition by f.id order by f.written desc, f.seq desc) = 1 "
        "order by f.written desc limit ?",
        (experiment, sorted(without), MOST),
        directory=directory,
    )
    return [finding_of(json.loads(str(row))) for row in rows.finding]


def finding_of(columns: dict[str, Any]) -> Finding:
    finding = Finding.model_validate(
        {name: columns[name] for name in Finding.model_fields if columns[name] is not None}
    )
    seen = {name: getattr(finding, name) for name in ("first_seen", "last_seen")}
    return finding.model_copy(update={name: at.replace(tzinfo=UTC) for name, at in seen.items() if at is not None})


def memory_file(directory: Path, experiment: str) -> Path:
    """Where the experiment's memory is written, see ``analysis.memory``."""
    return directory / "memory" / f"{experiment}.md"


def remembered(directory: Path, experiment: str) -> str:
    """The experiment's memory; empty before its first run has ended."""
    try:
        return memory_file(directory, experiment).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
