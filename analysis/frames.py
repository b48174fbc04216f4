"""DataFrames for notebooks, asked of the traces while a night writes or after. Columns are told one by one.

DuckDB adds up; what comes back is as long as what a person reads, however many spans there are. Where there is nothing
yet, a frame is empty and has its columns all the same.
"""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

import traces
from analysis.costs import dollars_without_cache
from analysis.failures import Failures, failures_in
from analysis.shrinkage import Shrinkage, shrinkage
from harness.gate.confidence import confidence_sequence, mean_interval, score_interval
from harness.gate.eprocess import (
    SEQUENTIAL_COST,
    DeadlineE,
    looks,
    over_margin,
    provable_gain,
    shrunk_variance,
    state,
    tasks_to_settle,
)
from harness.gate.guards import ROUNDING
from harness.redact import redacted
from traces.journal import parse, raw_lines
from traces.places import data_directory, spool
from traces.records import INFRASTRUCTURE, Finding, GateSpec, Round, Span, Trial, Usage

ENVELOPE = 300
"""Bytes of a journal's line within which its type stands."""
ROLE = "coalesce(nullif(role, ''), case when trial is null then 'proposer' else 'maker' end)"
"""Who spent it, as ``analysis.costs`` says."""
BRACKET = 1000
"""Prompt tokens: a price list has its steps on multiples of this."""
TICKS = 100
"""Into how many parts a night's time is divided."""
CONFIDENCE = 0.9
"""Of the intervals that are made here."""
EXCERPT = 600
"""Characters of a text that are shown."""
COMPARED = (
    "split", "incumbent", "candidate", "tasks", "incumbent_score", "candidate_score", "gain", "low", "high",
    "confidence", "verdict", "e_value", "threshold", "n_max", "alpha", "tasks_to_settle", "errors", "drift", "metric",
)  # fmt: skip
OF_WELCH = {
    "e_value": "case when c.metric = '' then c.e_value end",
    "threshold": "case when c.metric = '' then c.threshold end",
    "alpha": "coalesce(c.alpha, 1 / c.threshold)",
}
"""Where a test has no evidence that grows, what is recorded of it stands for its level alone."""
RUNS = """
with used as (
    select comparison as id, run || '/round/' || round || '/' as scope, run || '/train/' as own, null as since
        from decisions where run = $1 union all
    select comparison, run || '/round/' || round || '/apart/' || rounds[1] || '-' || rounds[-1] || '/', null, 0
        from removals where run = $1 union all
    select validation, run || '/certify/' || checkpoint || '-' || left(candidate, 12) || '/', null, 0
        from certifications where run = $1 union all
    select measured, run || '/certify/' || checkpoint || '-' || left(candidate, 12) || '/', null, v.runs
        from certifications t join (
            select id as test, any_value(tasks + errors) as runs from comparisons where run = $1 group by id
        ) v on v.test = t.validation where run = $1
),
made as (
    select c.*, coalesce(u.scope, c.run || '/compare/' || c.split || '/') as scope,
        coalesce(u.own, u.scope, c.run || '/compare/' || c.split || '/') as own,
        case when u.own is null then coalesce(u.since, 0) end as since
    from comparisons c left join used u on u.id = c.id where c.run = $1 and c.id = $2 and c.metric != ''
    order by c.written, c.seq limit 1
),
latest as (
    select t.task, t.repeat, t.value, t.started, t.version, t.version = made.candidate as is_candidate
    from trials t join made on t.run = made.run and t.split = made.split and t.written <= made.written
        and (t.version = made.candidate and starts_with(t.id, made.scope || t.version || '/')
            or t.version = made.incumbent and starts_with(t.id, made.own || t.version || '/'))
        and (made.since is null or t.repeat >= made.since and t.repeat < made.since + made.tasks + made.errors)
    qualify row_number() over (partition by t.version, t.task, t.repeat order by t.started desc) = 1
)
select case when is_candidate then 'candidate' else 'incumbent' end as side, version, repeat, avg(value) as value
from latest group by all having count(*) = count(value) order by side desc, repeat
"""
"""The runs of both sides of one comparison of a metric."""
SLICES = f"""
with made as (
    select c.*, coalesce((r.gate->>'failure_score')::double, 0) as failure_score, coalesce(
        (select any_value(run || '/train') from decisions where decisions.run = c.run and comparison = c.id),
        (select any_value(run || '/round/' || round || '/apart/' || rounds[1] || '-' || rounds[-1]) from removals
            where removals.run = c.run and comparison = c.id),
        (select any_value(split_part(id, '/' || c.candidate || '/', 1)) from trials where trials.run = c.run
            and trials.split = c.split and version = c.candidate and not contains(id, '/again/' || c.candidate || '/'))
    ) as scope  -- how the ids of its trials begin
    from comparisons c left join runs r on r.id = c.run
    where c.id = $1 and c.metric = '' and c.tasks > 0 order by c.written, c.seq limit 1
),
trial as (
    select t.task, t.tags, t.repeat, t.started, t.version = made.candidate as is_candidate,
        coalesce(nullif(t.cluster, ''), t.task) as cluster, coalesce(t.score, made.failure_score) as score,
        coalesce(t.boundary, '') in ('grader', 'sandbox') or coalesce(t.error_class, '') in
            ({", ".join(f"'{name}'" for name in sorted(INFRASTRUCTURE))}) as is_lost
    from trials t join made on t.run = made.run and t.split = made.split and t.written <= made.written
        and starts_with(t.id, made.scope || '/' || t.version || '/') and t.version in (made.incumbent, made.candidate)
),
compared as (  -- a candidate that was kept was measured on the rest of train afterwards
    select cluster from trial where is_candidate group by cluster
    order by min(started) limit (select tasks + errors from made)
),
latest as (
    select * from trial where cluster in (select cluster from compared) and (repeat = 0 or not is_candidate)
    qualify row_number() over (partition by is_candidate, task, repeat order by started desc) = 1
),
scored as (
    select task, cluster, is_candidate, any_value(tags) as tags, avg(score) as score from latest
    where not is_lost group by task, cluster, is_candidate
),
pairs as (
    select unnest(list_distinct(before.tags)) as tag, cluster, before.score as incumbent, after.score as candidate
    from scored before join scored after using (task, cluster) where after.is_candidate and not before.is_candidate
),
clusters as (select tag, cluster, avg(incumbent) as incumbent, avg(candidate) as candidate from pairs group by all)
select tag, avg(incumbent) as incumbent, avg(candidate) as candidate,
    list(candidate - incumbent order by cluster) as gains from clusters group by tag order by tag
"""
"""The paired differences of one comparison by tag, from the trials that it was made of."""

# ── one night ──────────────────────────────────────────────────────────────────────────────────────────────────


def last_run(experiment: str, *, directory: Path | None = None) -> str:
    """The id of the latest night of *experiment*; a check or a comparison by hand is none.

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

    ``checkpoint``; ``candidate``: the version that was tested against the live one; ``verdict``; ``alpha``: the level
    of the test; ``e_value``: its evidence, and ``threshold``: what was needed, both missing for a metric, whose Welch
    test has none; ``gain``, ``low``, ``high``, ``tasks``: measured after it was accepted, the numbers to quote;
    ``metric``: their unit where scores are not in [0, 1]; ``objections``: the guards that did not pass; ``detail``:
    more, in words.
    """
    return traces.sql(
        "select c.checkpoint, c.candidate, c.verdict, c.alpha, "
        "case when coalesce(v.metric, '') = '' then c.e_value end as e_value, "
        "case when coalesce(v.metric, '') = '' then c.threshold end as threshold, c.gain, c.low, c.high, c.tasks, "
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
    what the candidate costs over the live version, at least (one-sided, 90 %), and what is allowed; ``comparison``: the
    promotion test whose guard it was, as in ``comparisons``.
    """
    return traces.sql(
        "select c.checkpoint, g.kind, g.name, g.verdict, g.n, g.wins, g.losses, g.p, g.ratio, g.low, g.cap, "
        "c.validation as comparison "
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


def score_by_kind(run: str, *, directory: Path | None = None) -> pd.DataFrame:
    """Mean train score (of a metric: mean value) by kind of task: a row a combination of tags, a column a version that
    was measured on all of train, in the order in which they were."""
    scores = traces.sql(
        "select version, array_to_string(tags, ' ') as kind, avg(coalesce(value, score)) as score, "
        "min(min(started)) over (partition by version) as since from trials t where run = ? and split = 'train' "
        "and version in (select working from rounds where rounds.run = t.run) group by version, kind",
        (run,),
        directory=directory,
    )
    order = scores.sort_values("since").version.unique()
    return scores.pivot_table(index="kind", columns="version", values="score", aggfunc="mean")[list(order)]


def inbox(experiment: str, *, directory: Path | None = None) -> pd.DataFrame:
    """A row for each thing that waits for a person, whichever night it is from; the newest first, 100 at most.

    ``id``: what ``ratchet inbox`` calls it; ``kind``: approval (a call is held until somebody answers or it expires),
    notice, or dead (a trial to redrive or to discard); ``concern``; ``summary``: one line; ``trial``, for ``ratchet
    show``; ``run``; ``raised`` and ``expires``: when.
    """
    return traces.sql(
        "select id, kind, concern, summary, trial, run, raised, expires from inbox "
        "where experiment = ? and verdict is null and (kind != 'approval' or expires > ?) "
        "order by raised desc, id limit 100",
        (experiment, datetime.now(UTC).replace(tzinfo=None)),
        directory=directory,
    )


def played(run: str, *, directory: Path | None = None) -> list[Round]:
    """The rounds of *run* as they were recorded, for ``analysis.plots``. Other lines of its journal are passed over
    unread, so that a million spans take about a second."""
    journal = spool(directory or data_directory(Path.cwd())) / f"{run}.jsonl"
    if not journal.exists():
        return []
    found = (parse(raw, at).record() for at, raw in raw_lines(journal) if b'"type":"Round"' in raw[:ENVELOPE])
    return [record for record in found if isinstance(record, Round)]


# ── spend and time ─────────────────────────────────────────────────────────────────────────────────────────────


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


def spend_by_role(run: str, *, directory: Path | None = None) -> pd.DataFrame:
    """A row for each role and model that was paid, the role that spent most tokens first.

    ``role``: maker, judge, a sub-agent; where nobody said, the maker in a trial and the proposer outside of one;
    ``model``; ``calls``; ``tokens``: both ways; ``cached``: the share of the prompt tokens that came from the
    provider's cache; ``dollars``; ``saved``: what the cache saved by list price, below zero where writing it cost more;
    both are missing where a price is not known; ``seconds``: of the calls, added up, though they may have overlapped.
    """
    parts = traces.sql(
        f"select role, model, count(*) as n, sum(calls)::bigint as calls, "
        "sum(input_tokens)::bigint as input_tokens, sum(cached_tokens)::bigint as cached_tokens, "
        "sum(cache_write_tokens)::bigint as cache_write_tokens, sum(output_tokens)::bigint as output_tokens, "
        "case when count(*) = count(dollars) then sum(dollars) end as dollars, sum(seconds) as seconds, "
        "min(started) as started, any_value(attributes)::varchar as attributes "
        f"from (select * exclude (role), {ROLE} as role, name as model from spans where run = ? and calls > 0) "
        f"group by role, model, started::date, input_tokens // {BRACKET}, cached_tokens + cache_write_tokens > 0",
        (run,),
        directory=directory,
    )
    parts["tokens"] = parts.input_tokens + parts.output_tokens
    parts["saved"] = [saved_by_cache(part) for part in parts.to_dict("records")]
    columns = ["calls", "tokens", "input_tokens", "cached_tokens", "dollars", "saved", "seconds"]
    rows = parts.groupby(["role", "model"], as_index=False)[columns].agg(known_sum)
    rows["cached"] = (rows.cached_tokens / rows.input_tokens).where(rows.input_tokens > 0)
    rows = rows.sort_values(["tokens", "role", "model"], ascending=[False, True, True], ignore_index=True)
    return rows[["role", "model", "calls", "tokens", "cached", "dollars", "saved", "seconds"]]


def saved_by_cache(part: Mapping[Any, Any]) -> float | None:
    """Dollars that the cache saved in some calls of nearly the same length: as ``analysis.costs`` reckons the mean one.
    A price list is linear but for its steps, which lie on whole thousands of prompt tokens."""
    n = int(part["n"])
    dollars = None if pd.isna(part["dollars"]) else float(part["dollars"])
    if dollars is None:
        return None
    tokens = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens")
    mean = Usage(calls=1, dollars=dollars / n, **{name: round(part[name] / n) for name in tokens})
    call = Span(
        id="mean",
        operation="chat",
        name=part["model"],
        started=part["started"].to_pydatetime().replace(tzinfo=UTC),
        seconds=0,
        usage=mean,
        attributes=json.loads(part["attributes"] or "{}"),
    )
    without = dollars_without_cache(call)
    return None if without is None else without * n - dollars


def known_sum(values: "pd.Series[Any]") -> Any:
    """A sum with an unknown part is unknown."""
    return values.sum(skipna=False)


def spend_over_time(run: str, *, directory: Path | None = None) -> pd.DataFrame:
    """What each role had spent by then: a row for each role and each hundredth of the time in which it called a model,
    a second at least.

    ``time``: UTC; ``role``: as in ``spend_by_role``; ``calls``, ``tokens``, ``dollars``: from the start until then;
    dollars are missing from the first call on whose price is not known.
    """
    return traces.sql(
        f"with called as (select {ROLE} as role, date_trunc('second', started) as started, sum(calls) as calls, "
        "sum(input_tokens + output_tokens) as tokens, sum(dollars) as dollars, count(*) = count(dollars) as known "
        "from spans where run = ? and calls > 0 group by 1, 2), "
        f"clock as (select min(started) as began, greatest(date_diff('second', min(started), max(started)) + {TICKS}"
        f" - 1, {TICKS}) // {TICKS} as tick from called), "
        "ticks as (select began + to_seconds(tick * (1 + date_diff('second', began, started) // tick)) as time, role, "
        "sum(calls) as calls, sum(tokens) as tokens, sum(dollars) as dollars, bool_and(known) as known "
        "from called, clock group by all) "
        "select time, role, (sum(calls) over past)::bigint as calls, (sum(tokens) over past)::bigint as tokens, "
        "case when bool_and(known) over past then sum(dollars) over past end as dollars from ticks "
        "window past as (partition by role order by time) order by time, role",
        (run,),
        directory=directory,
    )


# ── what keeps failing ─────────────────────────────────────────────────────────────────────────────────────────


def failures(run: str, *, directory: Path | None = None) -> Failures:
    """What kept going wrong in *run*, by what failed and how; no model is asked. The frames below tell of it."""
    return failures_in(run, played(run, directory=directory), directory)


def findings(seen: Failures) -> pd.DataFrame:
    """A row for each recurring failure, the costliest first.

    ``id``; ``title``; ``state``: open, or what became of it, see the view ``finding_states``; ``count``: failed trials
    that show it; ``share``: of all that were looked at, with its 90 % interval by cluster, ``low`` and ``high``;
    ``lost``: score that they left on the table; ``dollars``: what they cost, missing where a price is not known;
    ``first_seen``, ``last_seen``: UTC; ``versions``: how many show it; ``cause``: a hypothesis, where a model has one.
    """
    rows = [
        {
            "id": finding.id,
            "title": finding.title,
            "state": seen.states.get(finding.id, "open"),
            "count": len(seen.members.get(finding.id, ())),
            **rate(finding, seen.members, seen.trials),
            "lost": finding.lost,
            "dollars": finding.dollars,
            "first_seen": finding.first_seen,
            "last_seen": finding.last_seen,
            "versions": len(finding.versions),
            "cause": finding.cause,
        }
        for finding in seen.found
    ]
    names = ("id", "title", "state", "count", "share", "low", "high", "lost", "dollars", "first_seen", "last_seen")
    frame = pd.DataFrame(rows, columns=[*names, "versions", "cause"])
    return frame.astype({"dollars": float, "share": float, "low": float, "high": float})


def rate(finding: Finding, members: Mapping[str, Sequence[Trial]], among: Sequence[Trial]) -> dict[str, float | None]:
    """Share of the trials *among* which *finding* shows, with its interval by cluster; missing where there are none."""
    showing = {trial.id for trial in members.get(finding.id, ())}
    clusters: dict[str, list[bool]] = {}
    for trial in among:
        if not trial.is_lost:
            clusters.setdefault(trial.cluster or trial.task, []).append(trial.id in showing)
    shares = [sum(shown) / len(shown) for shown in clusters.values()]
    if not shares:
        return {"share": None, "low": None, "high": None}
    low, high = score_interval(shares, CONFIDENCE)
    return {"share": math.fsum(shares) / len(shares), "low": low, "high": high}


def finding_rates(seen: Failures) -> pd.DataFrame:
    """A row for each finding and working version, in their order.

    ``id``, ``title``; ``version``; ``count``: of its train trials that show it, of ``trials`` that were looked at;
    ``share``, ``low``, ``high``: the share of clusters, with its 90 % interval.
    """
    by_version = {version: [t for t in seen.trials if t.version == version] for version in seen.versions}
    rows = [
        {
            "id": finding.id,
            "title": finding.title,
            "version": version,
            "count": sum(trial.version == version for trial in seen.members.get(finding.id, ())),
            "trials": len(trials),
            **rate(finding, seen.members, trials),
        }
        for finding in seen.found
        for version, trials in by_version.items()
    ]
    frame = pd.DataFrame(rows, columns=["id", "title", "version", "count", "trials", "share", "low", "high"])
    return frame.astype({"share": float, "low": float, "high": float})


def finding_tags(seen: Failures) -> pd.DataFrame:
    """Which kinds of task: a row a finding, a column a tag, the share of the tag's trials that show it."""
    tags = sorted({tag for trial in seen.trials for tag in trial.tags})
    rows: dict[str, list[float]] = {}
    looked_at = [trial for trial in seen.trials if not trial.is_lost]
    for finding in seen.found:
        showing = seen.members.get(finding.id, ())
        rows[finding.title] = [
            sum(tag in trial.tags for trial in showing) / max(1, sum(tag in trial.tags for trial in looked_at))
            for tag in tags
        ]
    return pd.DataFrame.from_dict(rows, orient="index", columns=tags)


def examples(seen: Failures, finding: str, most: int = 5, *, directory: Path | None = None) -> pd.DataFrame:
    """A row for each of some trials that show *finding* (its id), the latest first; of many tasks rather than of one.

    ``trial``: for ``ratchet show``; ``task``; ``asked``: what the task said; ``answered``: what came out; ``wrong``:
    the reason of the grade, or the error; ``version``; ``started``. Texts are cut to 600 characters, and secrets are
    taken out.
    """
    shown = sorted(seen.members.get(finding, ()), key=lambda trial: trial.started, reverse=True)
    first = {trial.task: trial for trial in reversed(shown)}
    chosen = [*first.values(), *(trial for trial in shown if first[trial.task] is not trial)][:most]
    asked = traces.sql(
        "select id, any_value(input) as input from tasks where run = ? and list_contains(?, id) group by id",
        (seen.run, [trial.task for trial in chosen]),
        directory=directory,
    )
    inputs = dict(zip(asked.id, asked.input, strict=True))
    rows = [
        (
            trial.id,
            trial.task,
            excerpt(inputs.get(trial.task, "")),
            excerpt(trial.output or ""),
            excerpt(trial.error or (trial.grade.reason if trial.grade else "")),
            trial.version,
            trial.started,
        )
        for trial in chosen
    ]
    return pd.DataFrame(rows, columns=["trial", "task", "asked", "answered", "wrong", "version", "started"])


def excerpt(text: str) -> str:
    """*text* without secrets, and without its middle where it is long."""
    text = redacted(text)
    half = EXCERPT // 2
    return text if len(text) <= EXCERPT else f"{text[:half]} … {len(text) - 2 * half:,} characters … {text[-half:]}"


def before_after(seen: Failures) -> list[Shrinkage]:
    """Did the failures shrink, from the live version to the last working one? First those that the kept changes were to
    answer. Empty where nothing was kept. They were mined from these very trials, which flatters the fall."""
    if len(seen.versions) < 2:
        return []
    before, after = ([t for t in seen.trials if t.version == v] for v in (seen.versions[0], seen.versions[-1]))
    return shrinkage(before, after, seen.found, seen.answered, seen.paths)


def shrunk(rows: Sequence[Shrinkage]) -> pd.DataFrame:
    """The same as a frame: ``id``, ``title``; ``targeted``: was a kept change to answer it?; ``before`` of ``n_before``
    and ``after`` of ``n_after``: trials that show it; ``change``, ``low``, ``high``: of the share, with its 90 %
    interval; over so many ``clusters``."""
    numbers = ("targeted", "before", "n_before", "after", "n_after", "change", "low", "high", "clusters")
    facts = [(row.finding.id, row.finding.title, *(getattr(row, name) for name in numbers)) for row in rows]
    return pd.DataFrame(facts, columns=["id", "title", *numbers])


# ── one comparison ─────────────────────────────────────────────────────────────────────────────────────────────


def comparisons(run: str, *, directory: Path | None = None) -> pd.DataFrame:
    """A row for each comparison of two versions that *run* made, in order; the columns that frames of one comparison
    ask for.

    ``id``; ``what``: round (was the change kept?), promotion test, measurement (on ``test``, after a promotion test
    was passed), removal (is it better without?) or by hand; ``number``: of the round or of the checkpoint; ``split``;
    ``incumbent``, ``candidate``; ``tasks``: clusters compared; ``incumbent_score``, ``candidate_score``: means over
    them; ``gain``, ``low``, ``high``, ``confidence``: the mean paired difference with its interval; ``verdict``,
    ``e_value``, ``threshold``: of the sequential test; ``n_max``: the clusters it had declared, ``alpha``: its level;
    ``tasks_to_settle``: where it ended undecided, about how many more would settle it; ``errors``: pairs lost to
    infrastructure; ``drift``: what changed meanwhile; ``metric``: the unit, where scores are not in [0, 1]. Of a metric
    ``tasks`` are runs of each side, as ``runs`` has them, and its test is Welch's: with a level, and without
    ``e_value``, ``threshold`` and ``n_max``.
    """
    columns = [f"any_value({OF_WELCH.get(name, f'c.{name}')}) as {name}" for name in COMPARED]
    return traces.sql(
        "with used as ("
        "select comparison as id, 'round' as what, round as number from decisions where run = $1 union all "
        "select validation, 'promotion test', checkpoint from certifications where run = $1 union all "
        "select measured, 'measurement', checkpoint from certifications where run = $1 union all "
        "select comparison, 'removal', round from removals where run = $1) "
        "select c.id, coalesce(min(u.what), case c.split when 'validation' then 'promotion test' when 'test' then "
        "'measurement' else 'by hand' end) as what, min(u.number) as number, "
        f"{', '.join(columns)} "
        "from comparisons c left join used u on u.id = c.id where c.run = $1 "
        "group by c.id, c.split order by min(c.written), min(c.seq), c.id",
        (run,),
        directory=directory,
    )


def default_comparison(made: pd.DataFrame) -> str:
    """Which of ``comparisons`` to look at first: the last promotion test; else the last change that was compared, by a
    round or by hand; empty where nothing was."""
    for what in (["promotion test"], ["round", "by hand"]):
        found = made[made.what.isin(what)]
        if not found.empty:
            return str(found.id.iloc[-1])
    return ""


def differences(comparison: str, *, directory: Path | None = None) -> pd.DataFrame:
    """A row for each cluster of tasks that was compared, in the order in which they were.

    ``n``: from 1; ``difference``: mean score of the candidate on it minus that of the incumbent, and of a metric the
    gain of one run, which is positive where it is better; ``mean``: of the differences until then.
    """
    return traces.sql(
        "select n, difference, avg(difference) over (order by n) as mean from (select unnest(differences) as "
        "difference, unnest(range(1, len(differences) + 1)) as n from (select differences from comparisons "
        "where id = ? limit 1)) order by n",
        (comparison,),
        directory=directory,
    )


def runs(run: str, comparison: str, *, directory: Path | None = None) -> pd.DataFrame:
    """A row for each run that a comparison of a metric was made of, the incumbent's first: ``side``; ``version``;
    ``repeat``; ``value``: of the metric, over all tasks of the run. Runs that gave no number are left out. Of a round
    the incumbent's are those of its baseline, and the candidate's first is the one that was promising, which the gain
    does not count. Empty for scores, which are compared task by task.
    """
    return traces.sql(RUNS, (run, comparison), directory=directory)


def tested(comparison: str, directory: Path | None) -> tuple[GateSpec, list[float], float] | None:
    """What the sequential test of *comparison* had declared, the differences that it saw, and the confidence of its
    interval; ``None`` where there was no such test."""
    found = traces.sql(
        f"select {', '.join(GateSpec.model_fields)}, differences, confidence from comparisons where id = ? "
        "and n_max is not null and metric = '' limit 1",
        (comparison,),
        directory=directory,
    )
    if found.empty:
        return None
    row = found.iloc[0]
    spec = GateSpec(**{name: row[name] for name in GateSpec.model_fields})
    return spec, [float(d) for d in row["differences"]], float(row["confidence"])


def e_values(comparison: str, *, directory: Path | None = None) -> pd.DataFrame:
    """How the evidence of a sequential test grew: replayed by the gate's own functions from what it had declared and
    the differences that it saw.

    A row for each cluster, and one for the start: ``n``; ``e_value``: the evidence after it; ``threshold``: proof, at
    which it accepts; ``look``: might a verdict fall here?; ``power``: at looks, the chance that the gain that it was
    after would still be proven, where that is at least ``min_gain`` and no luckier than what was seen; below the
    declared futility the test gives up. ``low``, ``high``: at up to 40 of the looks, the confidence sequence for the
    gain: an interval that holds at all of them at once, however often one looks.
    """
    rows: list[dict[str, Any]] = []
    if (found := tested(comparison, directory)) is not None:
        spec, seen, confidence = found
        process = DeadlineE(spec.alpha, spec.n_max, spec.v0)
        may_stop = {n for n in looks(spec) if n <= len(seen)} | {len(seen)}
        shown = thinned(sorted(may_stop), 40)
        for n in range(len(seen) + 1):
            if n:
                process.update(over_margin(seen[n - 1], spec.margin))
            low, high = (
                confidence_sequence(seen[:n], spec.n_max, confidence, spec.v0) if n in shown and n else (None, None)
            )
            rows.append(
                {
                    "n": n,
                    "e_value": process.wealth,
                    "threshold": 1 / spec.alpha,
                    "look": n in may_stop,
                    "power": state("continue", process, seen[:n], spec).conditional_power if n in may_stop else None,
                    "low": low,
                    "high": high,
                }
            )
    columns = {"n": "int64", "e_value": float, "threshold": float, "look": bool}
    return pd.DataFrame(rows, columns=[*columns, "power", "low", "high"]).astype(
        {**columns, "power": float, "low": float, "high": float}
    )


def thinned(numbers: Sequence[int], most: int) -> set[int]:
    """*numbers*, or of more than *most* every so manieth, the last one included."""
    step = -(-len(numbers) // most) if numbers else 1
    return set(numbers[::-1][::step])


def power(comparison: str, *, directory: Path | None = None) -> pd.DataFrame:
    """What a test like that of *comparison* can show, by the number of clusters, at its level and with the spread of
    the differences that it saw (or, before it saw any, the spread it expected).

    A row a number: ``clusters`` declared, of a metric ``runs`` of each side; ``what``: which number that is;
    ``provable``: the smallest gain that it would prove 4 times in 5; ``chance``: of a proof, if the true gain were the
    one that was seen, which flatters where the test accepted. For tasks both are on the safe side.
    """
    rows: list[tuple[int, str, float, float | None]] = []
    if (found := tested(comparison, directory)) is not None:
        spec, seen, _ = found
        v = shrunk_variance(math.fsum(d * d for d in seen), len(seen), spec.v0)
        gain = over_margin(math.fsum(seen) / len(seen), spec.margin) if seen else None
        sizes = {spec.n_max: "declared", 2 * spec.n_max: "twice as many", 4 * spec.n_max: "four times as many"}
        if 0 < len(seen) < spec.n_max:
            sizes[len(seen)] = "as many as it saw"
        if gain is not None and (more := tasks_to_settle(gain, 0, v, spec.alpha)) is not None:
            sizes.setdefault(more, "would prove what was seen, 4 times in 5")
        for n, what in sorted(sizes.items()):
            test = DeadlineE(spec.alpha, n, min(v, 1.0))
            chance = None if gain is None else test.conditional_power(gain / SEQUENTIAL_COST)
            rows.append((n, what, provable_gain(v, n, spec.alpha), chance))
    of_a_metric = traces.sql(
        "select tasks, 1 / threshold as alpha, sigma, gain from comparisons where id = ? and metric != '' "
        "and threshold is not null and sigma > 0 and tasks > 1 limit 1",
        (comparison,),
        directory=directory,
    )
    for n, alpha, sigma, gain in of_a_metric.itertuples(index=False):
        from harness.check import power_of_welch, provable_metric  # here: scipy is slow to start

        for times, what in ((1, "declared"), (2, "twice as many"), (4, "four times as many")):
            chance = power_of_welch(gain / sigma, times * n, alpha)
            rows.append((times * n, what, provable_metric(sigma, times * n, alpha), chance))
    unit = "clusters" if of_a_metric.empty else "runs"
    return pd.DataFrame(rows, columns=[unit, "what", "provable", "chance"])


def slices(comparison: str, *, directory: Path | None = None) -> pd.DataFrame:
    """Where the gain comes from: a row for each tag of the tasks that were compared, the one that lost most first.

    ``tag``; ``clusters``; ``incumbent``, ``candidate``: mean scores; ``gain``, ``low``, ``high``: the mean paired
    difference with its 90 % interval, by cluster; ``wins``, ``losses``: clusters on which the candidate was better and
    worse. Trials lost to infrastructure are left out; a version's own failure counts as the gate had declared. Of many
    slices some look bad by chance: one in ten of the intervals misses. Empty for a metric, which has no slices.
    """
    pairs = traces.sql(SLICES, (comparison,), directory=directory)
    rows = [
        (row["tag"], len(gains := row["gains"]), row["incumbent"], row["candidate"], *interval(gains), *signs(gains))
        for row in pairs.to_dict("records")
    ]
    columns = ["tag", "clusters", "incumbent", "candidate", "gain", "low", "high", "wins", "losses"]
    return pd.DataFrame(rows, columns=columns).sort_values(["gain", "tag"], ignore_index=True)


def interval(gains: Sequence[float]) -> tuple[float, float, float]:
    gains = [min(1.0, max(-1.0, float(g))) for g in gains]  # but for rounding they are
    return math.fsum(gains) / len(gains), *mean_interval(gains, CONFIDENCE)


def signs(gains: Sequence[float]) -> tuple[int, int]:
    return sum(g > ROUNDING for g in gains), sum(g < -ROUNDING for g in gains)
