"""What a promotion must not spoil while the mean score goes up: single tasks, kinds of task, money, time, reliability.

Each guard is a function of trials that exist already, the same ones that proved the gain. A lost trial is no evidence
either way; a task that is left without a trial on one side is dropped on both. As in the promotion test, one cluster
is one observation.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Literal

from traces.records import Guard, Task, Trial

SLICE_P = 0.10
"""A slice is held when chance alone brings so many losses less often than this …"""
SLICE_NET_LOSSES = 3
"""… and it has at least so many more losses than wins (at .10 always four). That no slice may drop at all would block
most good changes."""
FAILURES_P = 0.05
WINSOR = math.log(4)
"""A task counts as at most four times dearer or cheaper: single ones have no say over the mean. So a cap of 4 or above
never blocks."""
RATIO_CONFIDENCE = 0.90
MUST_PASS_RUNS = 3
PASSED = 0.5
"""The least score that passes a must-pass task."""
ROUNDING = 1e-9
"""Means that are closer than this are equal."""

Clusters = Sequence[Sequence[Task]]
Side = Mapping[str, Sequence[Trial]]
"""Task → its trials by one version."""
Value = Callable[[Sequence[Trial]], float]
"""What some trials of one task amount to, at least one and none of them lost."""


def slices(clusters: Clusters, incumbent: Side, candidate: Side, failure_score: float) -> tuple[Guard, ...]:
    """For each tag among the tasks, by name: does the candidate lose there? ``hold`` asks for ``look_again``."""
    tags = sorted({tag for cluster in clusters for task in cluster for tag in task.tags})
    looks = (slice_of(tag, clusters, incumbent, candidate, failure_score) for tag in tags)
    return tuple(guard for guard in looks if guard.n)


def look_again(held: Guard, clusters: Clusters, incumbent: Side, candidate: Side, failure_score: float) -> Guard:
    """A slice that was *held*, judged by fresh trials alone: the first ones were selected for looking bad.

    Still *held* when all of the fresh trials were lost.
    """
    fresh = slice_of(held.name, clusters, incumbent, candidate, failure_score)
    if not fresh.n:
        return held
    return fresh.model_copy(update={"verdict": "block"}) if fresh.verdict == "hold" else fresh


def slice_of(tag: str, clusters: Clusters, incumbent: Side, candidate: Side, failure_score: float) -> Guard:
    """One slice: the tasks with this *tag*."""

    def score(trials: Sequence[Trial]) -> float:
        return fmean(failure_score if trial.grade is None else trial.grade.score for trial in trials)

    n, wins, losses = signs(pairs(tagged(clusters, tag), incumbent, candidate, score))
    p = chance(wins, losses)
    verdict = "hold" if p < SLICE_P and losses - wins >= SLICE_NET_LOSSES else "pass"
    return Guard(kind="slice", name=tag, verdict=verdict, n=n, wins=wins, losses=losses, p=p)


def tagged(clusters: Clusters, tag: str) -> list[list[Task]]:
    """The tasks with this *tag*, by cluster."""
    found = [[task for task in cluster if tag in task.tags] for cluster in clusters]
    return [cluster for cluster in found if cluster]


def failures(clusters: Clusters, incumbent: Side, candidate: Side) -> Guard | None:
    """Does the candidate fail where the incumbent does not? McNemar's exact test on the clusters, one-sided.

    ``None`` when nothing could be compared.
    """

    def failed(trials: Sequence[Trial]) -> float:
        return fmean(trial.error is not None for trial in trials)

    n, new, mended = signs(pairs(clusters, incumbent, candidate, failed))
    if not n:
        return None
    p = chance(mended, new)
    verdict = "block" if p <= FAILURES_P else "pass"
    return Guard(kind="failures", verdict=verdict, n=n, wins=mended, losses=new, p=p)


def cost(clusters: Clusters, incumbent: Side, candidate: Side, cap: float | None) -> Guard | None:
    """How much dearer a trial has become: in dollars where each one's price is known and not all were free, else in
    tokens. ``None`` when nothing could be compared."""
    trials = [
        trial
        for side in (incumbent, candidate)
        for cluster in clusters
        for task in cluster
        for trial in measured(side, task)
    ]
    prices = [trial.usage.dollars for trial in trials]
    if None not in prices and any(prices):
        return ratio("cost", "dollars", pairs(clusters, incumbent, candidate, dollars), cap)
    return ratio("cost", "tokens", pairs(clusters, incumbent, candidate, tokens), cap)


def latency(clusters: Clusters, incumbent: Side, candidate: Side, cap: float | None) -> Guard | None:
    """How much longer a trial has come to take, time-outs included. ``None`` when nothing could be compared."""
    return ratio("latency", "", pairs(clusters, incumbent, candidate, seconds), cap)


def must_pass(task: str, trials: Sequence[Trial]) -> Guard:
    """Of three fresh runs of the candidate on a *task* that it must solve, two settle it; ``hold`` where lost runs left
    neither two passed nor two failed."""
    runs = [trial for trial in trials if not trial.is_lost]
    passed = sum(trial.grade is not None and trial.grade.score >= PASSED for trial in runs)
    failed = len(runs) - passed
    verdict = "block" if failed >= 2 else "pass" if passed >= 2 else "hold"
    return Guard(kind="must-pass", name=task, verdict=verdict, n=len(runs), wins=passed, losses=failed)


# ── the statistics under them ──────────────────────────────────────────────────────────────────────────────────


def pairs(clusters: Clusters, incumbent: Side, candidate: Side, value: Value) -> list[list[tuple[float, float]]]:
    """For each cluster the *value* of each of its tasks, of the incumbent and of the candidate."""
    found = [
        [
            (value(before), value(after))
            for task in cluster
            if (before := measured(incumbent, task)) and (after := measured(candidate, task))
        ]
        for cluster in clusters
    ]
    return [cluster for cluster in found if cluster]


def measured(side: Side, task: Task) -> list[Trial]:
    return [trial for trial in side.get(task.id, ()) if not trial.is_lost]


def signs(clusters: Sequence[Sequence[tuple[float, float]]]) -> tuple[int, int, int]:
    """How many clusters there are, on how many the mean is higher for the candidate, and on how many lower."""
    gains = [fmean(after for _, after in cluster) - fmean(before for before, _ in cluster) for cluster in clusters]
    return len(gains), sum(gain > ROUNDING for gain in gains), sum(gain < -ROUNDING for gain in gains)


def chance(wins: int, losses: int) -> float:
    """Of at least so many *losses* among the clusters that differ, if each fell either way like a fair coin."""
    n = wins + losses
    return sum(math.comb(n, k) for k in range(losses, n + 1)) / 2**n


def ratio(
    kind: Literal["cost", "latency"], name: str, clusters: Sequence[Sequence[tuple[float, float]]], cap: float | None
) -> Guard | None:
    """Geometric mean of candidate over incumbent, with its one-sided lower limit by Student's t over the clusters: 0
    for a single one. Tasks with a 0 have no ratio."""
    found = [[math.log(b / a) for a, b in cluster if a > 0 and b > 0] for cluster in clusters]
    logs = [fmean(min(max(log, -WINSOR), WINSOR) for log in cluster) for cluster in found if cluster]
    if not logs:
        return None
    n, mean = len(logs), fmean(logs)
    low = math.exp(mean - student(n - 1) * stdev(logs) / math.sqrt(n)) if n > 1 else 0.0
    verdict = "block" if cap is not None and low > cap else "pass"
    return Guard(kind=kind, name=name, verdict=verdict, n=n, ratio=math.exp(mean), low=low, cap=cap)


def student(freedom: int) -> float:
    from scipy.special import stdtrit  # here: importing the gate must not take half a second

    return float(stdtrit(freedom, RATIO_CONFIDENCE))


def dollars(trials: Sequence[Trial]) -> float:
    return fmean(trial.usage.dollars or 0.0 for trial in trials)


def tokens(trials: Sequence[Trial]) -> float:
    return fmean(trial.usage.tokens for trial in trials)


def seconds(trials: Sequence[Trial]) -> float:
    return fmean(trial.seconds for trial in trials)
