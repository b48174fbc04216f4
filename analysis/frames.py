"""DataFrames for notebooks, asked of the traces while a night writes or after. Columns are told one by one."""

from pathlib import Path

import pandas as pd

import traces


def last_run(experiment: str, *, directory: Path | None = None) -> str:
    """The id of the latest run of *experiment*.

    Raises:
        LookupError: it has not run here.
    """
    found = traces.sql("select id from last_runs where experiment = ?", (experiment,), directory=directory)
    if found.empty:
        raise LookupError(f"experiment {experiment!r} has not run here, so nothing can be shown. Start: ratchet run")
    return str(found.id.iloc[0])


def rounds(run: str, *, directory: Path | None = None) -> pd.DataFrame:
    """A row a round, in order.

    ``number``; ``change``: what was tried, in words; ``verdict`` and ``because``: what became of it, missing in round 0
    and in the last; ``gain``, ``low``, ``high``: candidate minus incumbent on train, with its interval; ``tasks``: over
    how many clusters; ``score``, ``score_low``, ``score_high``: mean train score of the working version after it;
    ``trials``, ``calls``, ``dollars``: what the whole run had spent by then; ``seconds``: that the round took.
    """
    return traces.sql(
        "select r.number, p.rationale as change, r.verdict, r.because, d.gain, d.low, d.high, d.tasks, "
        "r.score, r.score_low, r.score_high, r.trials, r.calls, r.dollars, r.seconds from rounds r "
        "left join proposals p on p.run = r.run and p.id = r.proposal "
        "left join decisions d on d.run = r.run and d.round = r.number where r.run = ? order by r.number",
        (run,),
        directory=directory,
    )


def spend(run: str, *, directory: Path | None = None) -> pd.DataFrame:
    """A row for each thing that was called: ``operation``, ``name``, ``status``; ``calls``, ``tokens``, ``dollars``,
    ``seconds``: sums; ``median``: seconds of the middle one."""
    return traces.sql(
        "select operation, name, status, sum(calls)::bigint as calls, "
        "sum(input_tokens + output_tokens)::bigint as tokens, "
        "sum(dollars) as dollars, sum(seconds) as seconds, median(seconds) as median "
        "from spans where run = ? group by all order by seconds desc",
        (run,),
        directory=directory,
    )


def score_by_kind(run: str, *, directory: Path | None = None) -> pd.DataFrame:
    """Mean train score by kind of task: a row a combination of tags, a column a version that was measured on all of
    train, in the order in which they were."""
    trials = traces.sql(
        "select version, array_to_string(tags, ' ') as kind, score, started from trials t "
        "where run = ? and split = 'train' and version in (select working from rounds where rounds.run = t.run)",
        (run,),
        directory=directory,
    )
    order = trials.groupby("version").started.min().sort_values().index
    return trials.pivot_table(index="kind", columns="version", values="score", aggfunc="mean")[list(order)]
