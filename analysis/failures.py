"""What kept going wrong in a night, asked of the traces while it writes or after."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import traces
from analysis import findings as mining
from analysis.readable import is_missing
from harness.certify import kept_changes
from harness.protocols import Trace
from traces.records import Finding, Grade, Round, Span, Symptom, Trial, Usage

LOOKED_AT = 5_000
"""Trials in which failures are looked for, the latest."""
TRIALS = """
select id, run, version, task, split, tags, cluster, repeat, output, score, reason, error, error_class, boundary,
    started, seconds, dollars
from (
    select * from trials where run = $1 and split = 'train' and version in
        (select working from rounds where run = $1 union select live from runs where id = $1)
    order by started desc limit $2
) order by started, id
"""
PATHS = """
select trial, name, status, min(started) as started from spans
where run = $1 and operation = 'execute_tool' and list_contains($2, trial) group by trial, name, status
"""
"""When each trial first called a tool, and how that ended: all that its path takes."""
KNOWN = """
select f.id, title, f.tags, kind, count, share, versions, examples, symptom::varchar as symptom, lost, dollars,
    first_seen, last_seen, summary, cause
from findings f join runs on runs.id = f.run where runs.experiment in (select experiment from runs where id = ?)
qualify row_number() over (partition by f.id order by f.written desc, f.seq desc) = 1 order by f.id limit 1000
"""
"""What proposals of all nights had found, the latest of each."""
STATES = "select id, state from finding_states where experiment in (select experiment from runs where id = ?)"


@dataclass(frozen=True)
class Failures:
    """What kept going wrong in a run, as it stood at one moment: all frames of it tell of the same trials."""

    run: str
    versions: tuple[str, ...]
    """The working versions in their order, the first one the live version as it began."""
    trials: tuple[Trial, ...]
    """Train trials of those, the latest 5,000 at most."""
    found: tuple[Finding, ...]
    """The recurring failures among them, the costliest first; those known from before keep their ids."""
    members: Mapping[str, Sequence[Trial]]
    """Finding → the trials that show it."""
    states: Mapping[str, str]
    """Finding → what became of it, where that was recorded: open, answered, refuted, back or gone."""
    answered: frozenset[str]
    """Findings that the kept changes, but for those taken out again, were to answer."""
    paths: Mapping[str, str]
    """Trial → how its execution went."""


def failures_in(run: str, rounds: Sequence[Round], directory: Path | None) -> Failures:
    """Look for the recurring failures of *run*, of which *rounds* were played, by what failed and how."""
    trials = [trial_of(row) for row in traces.sql(TRIALS, (run, LOOKED_AT), directory=directory).to_dict("records")]
    paths = paths_of(run, trials, directory)
    known = [finding_of(row) for row in traces.sql(KNOWN, (run,), directory=directory).to_dict("records")]
    found = mining.findings(trials, known, paths)
    states = traces.sql(STATES, (run,), directory=directory)
    measured = dict.fromkeys(trial.version for trial in trials)
    return Failures(
        run=run,
        versions=tuple(version for version in dict.fromkeys(r.working for r in rounds) if version in measured)
        or tuple(measured),
        trials=tuple(trials),
        found=tuple(found),
        members=mining.members(found, trials, paths),
        states=dict(zip(states.id, states.state, strict=True)),
        answered=frozenset(id for r in kept_changes(rounds) if r.proposal for id in r.proposal.answers),
        paths=paths,
    )


def paths_of(run: str, trials: Sequence[Trial], directory: Path | None) -> dict[str, str]:
    """Trial → how its execution went, of those of *trials* that called a tool."""
    by_id = {trial.id: trial for trial in trials}
    calls: dict[str, list[Span]] = {}
    for row in traces.sql(PATHS, (run, list(by_id)), directory=directory).itertuples():
        call = Span.model_construct(
            id="", operation="execute_tool", name=row.name, status=row.status, started=row.started
        )
        calls.setdefault(str(row.trial), []).append(call)
    return {id: mining.path_of(Trace(by_id[id], tuple(spans), {})) for id, spans in calls.items()}


def trial_of(row: Mapping[Any, Any]) -> Trial:
    """The trial of a row of ``TRIALS``."""
    facts = facts_of(row)
    score, reason, dollars = (facts.pop(name) for name in ("score", "reason", "dollars"))
    grade = None if score is None else Grade(score=score, reason=reason or "")
    return Trial(**facts, grade=grade, usage=Usage(dollars=dollars))


def finding_of(row: Mapping[Any, Any]) -> Finding:
    """The finding of a row of ``KNOWN``."""
    facts = facts_of(row)
    symptom = facts.pop("symptom")
    return Finding(**facts, symptom=Symptom.model_validate_json(symptom) if symptom else None)


def facts_of(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row as a record takes it: what is missing ``None``, lists as tuples, times in UTC."""
    return {name: fact(value) for name, value in row.items()}


def fact(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return tuple(value.tolist())
    if is_missing(value):
        return None
    return value.to_pydatetime().replace(tzinfo=UTC) if isinstance(value, pd.Timestamp) else value
