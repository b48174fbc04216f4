"""Do trials that run at once disturb each other? Facts in, facts out; whoever measures buys the trials."""

import math
from collections.abc import Iterator, Sequence
from datetime import timedelta
from statistics import fmean, stdev

from traces.records import Contention, Trial

ALONE = 3
"""Trials of the live version that run alone, where one takes less than ``LONG``; else one."""
LONG = 60.0
CLEAR = 4.0
"""Standard errors from which on the number has moved: with six runs, once in a hundred sound checks."""
BESIDE = 0.5
"""Share of its time in which a trial has to have had company."""
IN_VAIN = 0.9
"""Of the time that trials at once would save: where so much of it is lost to their slowness, nothing is gained."""


def runs_alone(seconds: float) -> int:
    """How many to buy where a trial takes so long."""
    return ALONE if seconds < LONG else 1


def contention(alone: Sequence[Trial], noise: Sequence[Trial], workers: int) -> Contention | None:
    """What those trials of *noise* that had company show beside those that ran *alone*, which are of one task.

    ``None``: none had company, or none ran alone.
    """
    own = {trial.task for trial in alone}
    together = [trial for trial in noise if has_company(trial, noise) and trial.task in own]
    if not together or not alone:
        return None
    before, after = values(alone), values(together)
    known = bool(before and after)
    error = stdev(after) * math.sqrt(1 / len(before) + 1 / len(after)) if known and len(after) > 1 else None
    return Contention(
        workers=workers,
        alone=fmean(trial.seconds for trial in alone),
        together=fmean(trial.seconds for trial in together),
        runs=len(together),
        alone_runs=len(alone),
        shift=fmean(after) - fmean(before) if known else None,
        error=error,
    )


def has_company(trial: Trial, others: Sequence[Trial]) -> bool:
    """Was another one under way for most of its time?"""
    end = trial.started + timedelta(seconds=trial.seconds)
    shared = 0.0
    for other in others:
        if other.id != trial.id:
            until = min(end, other.started + timedelta(seconds=other.seconds))
            shared += max((until - max(trial.started, other.started)).total_seconds(), 0.0)
    return trial.seconds > 0 and shared >= BESIDE * trial.seconds


def values(trials: Sequence[Trial]) -> list[float]:
    """Of those that gave one."""
    return [t.grade.value for t in trials if t.grade is not None and t.grade.value is not None]


def about_contention(found: Contention | None, metric: str) -> Iterator[str]:
    """What of it may spoil a night, in words."""
    if found is None:
        return
    others = f"{found.workers} trials at once"
    if has_moved(found):
        assert found.shift is not None
        yield (
            f"With {others}, {metric} moves by {found.shift:+.4g} (n = {found.runs} against {found.alone_runs} alone; "
            f"standard error {found.error or 0:.2g}): it depends on what else the machine does, and so a night would "
            "take company for a change. Declare CommandRunner(exclusive=True), and each trial runs alone."
        )
    elif found.together >= IN_VAIN * found.workers * found.alone:
        yield (
            f"With {others} each takes {found.together / found.alone:.1f} times as long as alone, so nothing is gained "
            "by running them at once. CommandRunner(exclusive=True) loses no time, and takes away a source of noise."
        )


def has_moved(found: Contention) -> bool:
    """By more than chance would."""
    if found.shift is None or found.error is None:
        return False
    return abs(found.shift) > CLEAR * found.error
