"""Did the failure shrink? For each finding, how often trials show it before a change and after, with an interval.

A gain that comes from elsewhere than the finding that a change answers shows here, and so does a failure that moved.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import cast

from analysis.findings import findings, members, path_of
from harness.certify import kept_changes
from harness.evidence import known_findings
from harness.experiment import SPLITS
from harness.gate.confidence import mean_interval
from harness.protocols import Trace
from traces.journal import Line, read
from traces.records import Finding, Round, Run, Span, Split, Trial

CONFIDENCE = 0.9
FEWEST = 2
"""Clusters that it takes for an interval: one says nothing of how far clusters differ."""

Task = tuple[str, str]
"""Cluster and id."""


@dataclass(frozen=True)
class Shrinkage:
    """How often trials show a finding before a change, and after.

    Only tasks that were tried on both sides count, and of their trials those that were not lost.
    """

    finding: Finding
    before: int
    n_before: int
    """Trials, and ``before`` of them show it. Where the finding was mined from these very trials they flatter the
    fall: what stood out by chance comes down by itself."""
    after: int
    n_after: int
    change: float
    """Of the rate, between -1 and 1; below 0 it became rarer. The mean paired difference over clusters: where tasks
    were tried unequally often, not just the difference of the two shares."""
    low: float | None
    high: float | None
    """Its 90 % interval; ``None`` with a single cluster. Each cluster is one observation, however many trials it has,
    plus one at each end of the range: for a trial a side that is the adjusted Wald interval of Bonett and Price
    (Journal of Educational and Behavioral Statistics 37 (2012) 479), with Student's t. It covers 90 % or more also
    where clusters are few and failures rare: ``tests/benchmarks/shrinkage.py``."""
    clusters: int
    targeted: bool
    """Does the change answer it?"""

    @property
    def is_rarer(self) -> bool:
        """Does the interval lie below 0?"""
        return self.high is not None and self.high < 0

    @property
    def is_more_frequent(self) -> bool:
        """Does the interval lie above 0?"""
        return self.low is not None and self.low > 0


def shrinkage(
    before: Sequence[Trial],
    after: Sequence[Trial],
    found: Sequence[Finding],
    answers: Collection[str],
    paths: Mapping[str, str] | None = None,
) -> list[Shrinkage]:
    """A row for each finding of *found*, those of *answers* first, then what changed most.

    *found* is to be mined on both sides together, or a failure that is new is missing. *paths*: how trials went, by id.
    Empty where no task was tried on both sides. Each row by itself has a chance of about a tenth to exclude 0 though
    nothing changed, see ``by_chance``.
    """
    sides = [[trial for trial in side if not trial.is_lost] for side in (before, after)]
    common = set.intersection(*({task_of(trial) for trial in side} for side in sides))
    if not common:
        return []
    sides = [[trial for trial in side if task_of(trial) in common] for side in sides]
    shown = [
        {id: {trial.id for trial in trials} for id, trials in members(found, side, paths).items()} for side in sides
    ]
    rows = [
        row(finding, sides, [ids.get(finding.id, set()) for ids in shown], targeted=finding.id in answers)
        for finding in found
    ]
    return sorted(rows, key=lambda row: (not row.targeted, -abs(row.change), row.finding.id))


def row(
    finding: Finding, sides: Sequence[Sequence[Trial]], shown: Sequence[Collection[str]], *, targeted: bool
) -> Shrinkage:
    changes = differences(
        *(by_task((trial, float(trial.id in ids)) for trial in side) for side, ids in zip(sides, shown, strict=True))
    )
    low, high = mean_interval(changes, CONFIDENCE) if len(changes) >= FEWEST else (None, None)
    return Shrinkage(
        finding=finding,
        before=len(shown[0]),
        n_before=len(sides[0]),
        after=len(shown[1]),
        n_after=len(sides[1]),
        change=fmean(changes),
        low=low,
        high=high,
        clusters=len(changes),
        targeted=targeted,
    )


def by_chance(rows: Sequence[Shrinkage]) -> float:
    """How many of *rows* would exclude 0 if nothing had changed, at most about."""
    return (1 - CONFIDENCE) * sum(row.low is not None for row in rows)


def confirmed(finding: str, rows: Iterable[Shrinkage]) -> bool:
    """Did a kept change that answers *finding* make it rarer? Then its cause is confirmed, else it is a hypothesis.

    *rows* of kept or certified changes. Believe those that are certified. On train the finding was chosen, and the
    change was kept, by the very trials that are compared here: of changes that change nothing and are kept by luck a
    quarter would confirm their cause (simulated at 40 tasks: 0.25 [0.24, 0.26]; 0.02 for a failure that nobody chose,
    see ``tests/benchmarks/shrinkage.py``). A stack that is certified answers all that its changes answer: which of them
    did it is not told. And what is certified must not reach a proposer.
    """
    return any(row.targeted and row.is_rarer for row in rows if row.finding.id == finding)


# ── paired by task, clusters as observations ────────────────────────────────────────────────────────────────────


def task_of(trial: Trial) -> Task:
    return trial.cluster or trial.task, trial.task


def by_task(values: Iterable[tuple[Trial, float]]) -> dict[Task, list[float]]:
    """Task → the values of its trials."""
    found: dict[Task, list[float]] = {}
    for trial, value in values:
        found.setdefault(task_of(trial), []).append(value)
    return found


def differences(before: Mapping[Task, Sequence[float]], after: Mapping[Task, Sequence[float]]) -> list[float]:
    """How much larger the values are after than before: the mean over the tasks of each cluster that both have."""
    clusters: dict[str, list[float]] = {}
    for task in sorted(before.keys() & after.keys()):
        clusters.setdefault(task[0], []).append(fmean(after[task]) - fmean(before[task]))
    return [fmean(changes) for changes in clusters.values()]


# ── a night ────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class After:
    """What became of all findings when one version took the place of another."""

    round: int
    split: Split
    incumbent: str
    candidate: str
    rows: tuple[Shrinkage, ...]


@dataclass(frozen=True)
class Aftermath:
    """What became of all findings in a run, so far."""

    kept: tuple[After, ...]
    """After each kept change, on train."""
    certified: tuple[After, ...]
    """After each accepted promotion test: the live version and the candidate afresh, so that nothing was mined from
    these trials; on validation, and again on test. **For people alone**: hidden tasks are in it, and no proposer or
    model may see it. Validation is where the test stopped as soon as it was sure, which flatters the fall a little;
    test is not."""


def after_each(journal: Path) -> Aftermath:
    """What became of the findings after each kept change and each accepted promotion test of *journal*, read once."""
    reading = Reading()
    kept: list[After] = []
    certified: list[After] = []
    for line in read(journal):
        reading.take(line)
        if line.type == "Round":
            kept += reading.after_a_keep()
            certified += reading.after_a_proof()
    return Aftermath(tuple(kept), tuple(certified))


def train_trials_by_version(journal: Path) -> dict[str, list[Trial]]:
    """The train trials of each version of *journal* that was tried, those it was compared by included."""
    reading = Reading()
    for line in read(journal):
        if line.type == "Trial":
            reading.take(line)
    found: dict[str, list[Trial]] = {}
    for (scope, version), trials in reading.trials.items():
        if scope == "train" or is_round(scope):
            found.setdefault(version, []).extend(trials.values())
    return found


class Reading:
    """What a journal says up to some line."""

    def __init__(self) -> None:
        self.known: tuple[Finding, ...] = ()
        """What earlier runs had found."""
        self.rounds: list[Round] = []
        self.trials: dict[tuple[str, str], dict[tuple[str, int], Trial]] = {}
        """Scope of the step and version → task and repeat → the latest trial."""
        self.paths: dict[str, str] = {}
        self.spans: dict[str, list[Span]] = {}
        """Of trials under way."""

    def take(self, line: Line) -> None:
        match line.type:
            case "Run":
                self.known = cast(Run, line.record()).known
            case "Round":
                self.rounds.append(cast(Round, line.record()))
            case "Span" if (
                line.data.get("trial") and line.data.get("operation") == "execute_tool"
            ):  # a path is of tools
                span = cast(Span, line.record())
                self.spans.setdefault(cast(str, span.trial), []).append(span)
            case "Trial" if line.key is not None:
                trial = cast(Trial, line.record())
                scope, found, _ = line.key.partition(f"/{trial.version}/{trial.task}/{trial.repeat}")
                if found:
                    self.trials.setdefault((scope, trial.version), {})[trial.task, trial.repeat] = trial
                    self.paths[trial.id] = path_of(Trace(trial, tuple(self.spans.pop(trial.id, ())), {}))
            case _:
                pass

    def after_a_keep(self) -> Iterator[After]:
        """Of the last round, if it kept a change: the incumbent's train trials at hand and the candidate's."""
        round = self.rounds[-1]
        if round.proposal is None or round.candidate is None or round.decision is None:
            return
        if round.decision.verdict == "keep":
            sides = [
                [trial for scope in ("train", f"round/{round.number}") for trial in self.of(scope, version)]
                for version in (round.incumbent, round.candidate)
            ]
            rows = self.rows(sides[0], sides[1], round.proposal.answers)
            yield After(round.number, "train", round.incumbent, round.candidate, rows)

    def after_a_proof(self) -> Iterator[After]:
        """Of the last round, if a promotion test in it was passed: one for each split."""
        round = self.rounds[-1]
        c = round.certification
        if c is None or c.verdict != "accept":
            return
        answers = {id for r in kept_changes(self.rounds) if r.proposal for id in r.proposal.answers}
        sides = [self.of(c.id.removeprefix(f"{c.run}/"), version) for version in (c.live, c.candidate)]
        for split in SPLITS:
            before, after = ([trial for trial in side if trial.split == split] for side in sides)
            if before and after:
                yield After(round.number, split, c.live, c.candidate, self.rows(before, after, answers))

    def of(self, scope: str, version: str) -> list[Trial]:
        return list(self.trials.get((scope, version), {}).values())

    def rows(self, before: Sequence[Trial], after: Sequence[Trial], answers: Collection[str]) -> tuple[Shrinkage, ...]:
        """Of what both sides show, and of what the change answers even if neither does."""
        known = known_findings(self.known, self.rounds)
        found = findings([*before, *after], known, self.paths)
        there = {finding.id for finding in found}
        unseen = [finding for finding in known if finding.id in answers and finding.id not in there]
        return tuple(shrinkage(before, after, [*found, *unseen], answers, self.paths))


def is_round(scope: str) -> bool:
    kind, _, number = scope.partition("/")
    return kind == "round" and number.isdigit()
