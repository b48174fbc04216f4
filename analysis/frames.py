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
    and in the last; ``gain``, ``low``, ``high``: how much better the candidate was on train, with its interval;
    ``tasks``: over how many clusters; ``metric``: the unit of gains and scores where they are not in [0, 1], and
    ``sigma``, the noise of a single run; ``taken_out``: the rounds whose changes were dropped at its end, because the
    stack had lost; ``score``, ``score_low``, ``score_high``: mean train score of the working version after it;
    ``trials``, ``calls``, ``dollars``: what the whole run had spent by then; ``seconds``: that the round took.
    """
    return traces.sql(
        "select r.number, p.rationale as change, r.verdict, r.because, d.gain, d.low, d.high, d.tasks, "
        "c.metric, c.sigma, t.taken_out, "
        "r.score, r.score_low, r.score_high, r.trials, r.calls, r.dollars, r.seconds from rounds r "
        "left join proposals p on p.run = r.run and p.id = r.proposal "
        "left join decisions d on d.run = r.run and d.round = r.number "
        "left join comparisons c on c.run = d.run and c.id = d.comparison "
        "left join (select run, round, flatten(list(rounds order by rounds)) as taken_out from removals "
        "where verdict = 'drop' group by all) t on t.run = r.run and t.round = r.number "
        "where r.run = ? order by r.number",
        (run,),
        directory=directory,
    )


def certifications(run: str, *, directory: Path | None = None) -> pd.DataFrame:
    """A row a promotion test, in order.

    ``checkpoint``; ``candidate``: the version that was tested against the live one; ``verdict``; ``e_value``: its
    evidence, and ``threshold``: what was needed; ``gain``, ``low``, ``high``, ``tasks``: measured after it was
    accepted, the numbers to quote; ``metric``: their unit where scores are not in [0, 1]; ``objections``: the guards
    that did not pass; ``detail``: more, in words.
    """
    return traces.sql(
        "select c.checkpoint, c.candidate, c.verdict, c.e_value, c.threshold, c.gain, c.low, c.high, c.tasks, "
        "v.metric, g.objections, c.detail from certifications c "
        "left join comparisons v on v.run = c.run and v.id = c.validation "
        "left join (select run, certification, list(trim(kind || ' ' || name) order by kind, name) as objections "
        "from guards where verdict != 'pass' group by all) g on g.run = c.run and g.certification = c.id "
        "where c.run = ? order by c.checkpoint, c.seq",
        (run,),
        directory=directory,
    )


def guards(run: str, *, directory: Path | None = None) -> pd.DataFrame:
    """A row for each thing that a promotion must not spoil, as it was found once the mean score had passed.

    ``checkpoint``; ``kind``: must-pass, slice, cost, latency or failures; ``name``: the task, the tag, the unit;
    ``verdict``: pass, hold or block; ``n``, ``wins``, ``losses``, ``p``: on how many clusters, on which of them the
    candidate was better and worse, and the chance of so many losses if it were no worse; ``ratio``, ``low``, ``cap``:
    what the candidate costs over the live version, at least (one-sided, 90 %), and what is allowed.
    """
    return traces.sql(
        "select c.checkpoint, g.kind, g.name, g.verdict, g.n, g.wins, g.losses, g.p, g.ratio, g.low, g.cap "
        "from guards g join certifications c on c.run = g.run and c.id = g.certification "
        "where g.run = ? order by c.checkpoint, g.seq, g.kind, g.name",
        (run,),
        directory=directory,
    )


def removals(run: str, *, directory: Path | None = None) -> pd.DataFrame:
    """A row for each test of kept changes without which the version might be better, in the order of the rounds.

    ``round``: at whose end; ``changes``: the rounds that had brought them, and ``said``, in their words; ``verdict``:
    drop, stay or stuck; ``gain``, ``low``, ``high``, ``tasks``: how much better it was *without* them, on train.
    """
    return traces.sql(
        "select r.round, r.rounds as changes, (select list(p.rationale order by k.number) from rounds k "
        "join proposals p on p.run = k.run and p.id = k.proposal "
        "where k.run = r.run and list_contains(r.rounds, k.number)) as said, "
        "r.verdict, c.gain, c.low, c.high, c.tasks from removals r "
        "left join comparisons c on c.run = r.run and c.id = r.comparison where r.run = ? order by r.round, r.rounds",
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
    """Mean train score (of a metric: mean value) by kind of task: a row a combination of tags, a column a version that
    was measured on all of train, in the order in which they were."""
    trials = traces.sql(
        "select version, array_to_string(tags, ' ') as kind, coalesce(value, score) as score, started from trials t "
        "where run = ? and split = 'train' and version in (select working from rounds where rounds.run = t.run)",
        (run,),
        directory=directory,
    )
    order = trials.groupby("version").started.min().sort_values().index
    return trials.pivot_table(index="kind", columns="version", values="score", aggfunc="mean")[list(order)]
