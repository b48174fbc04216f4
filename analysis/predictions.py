"""What proposals promised against what they brought: how far a proposer's predictions can be believed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from analysis.findings import lost
from analysis.shrinkage import FEWEST, Task, by_task, differences, task_of
from harness.gate.confidence import mean_interval
from traces.records import Comparison, Prediction, Round, Trial

CONFIDENCE = 0.9
FEWEST_FOR_BIAS = 3
FEWEST_FOR_RANK = 5
TOO_WIDE = 0.9
"""An interval that wide, of the two that the scale has, holds nearly any promise, and so says nothing of one."""
NEARLY_ALL = 0.95
"""Of the train clusters that either of two versions was tried on, both must know that many: some trials get lost."""


@dataclass(frozen=True)
class Gain:
    """What a change brought on train, paired, over all of the tasks."""

    gain: float
    """The trials that the change was kept for are among those that it is the mean of, which flatters it a little: the
    others are as many or more, and nobody has chosen by them."""
    low: float
    high: float
    """Its 90 % interval, for a fixed number of clusters."""
    n: int
    """Clusters."""


@dataclass(frozen=True)
class Scored:
    """A prediction and its outcome, in mean train score."""

    round: int
    tags: tuple[str, ...]
    """Of the tasks that it is about; empty: all."""
    predicted: float
    gain: float
    """Measured, paired. A comparison that stopped as soon as it was sure stopped at a high of a good change, or a low
    of a bad one, and of kept changes those trials are in the gain: it is biased upwards, so that the proposer looks
    better than it is."""
    low: float | None
    high: float | None
    """Its 90 % interval."""
    n: int | None = None
    """Clusters that it was measured on."""

    @property
    def is_told(self) -> bool:
        """Is the interval narrow enough to say anything of a prediction?"""
        return self.low is not None and self.high is not None and self.high - self.low < TOO_WIDE

    @property
    def is_within(self) -> bool:
        """Does the prediction lie in the measured interval, and does that say anything?"""
        return self.is_told and (self.low or 0.0) <= self.predicted <= (self.high or 0.0)


@dataclass(frozen=True)
class Calibratedness:
    """How predictions compare with what came of them, on average."""

    n: int
    mean_predicted: float | None
    mean_gain: float | None
    bias: float | None
    """Mean of predicted less measured: above 0 it promises too much."""
    low: float | None
    high: float | None
    """Its 90 % interval, Student's t over the predictions; ``None`` for fewer than 3. It takes them as independent,
    while the proposals of a night learn from each other."""
    within: int
    """Predictions that lie in their measured interval, of those that are ``told``."""
    told: int
    """Predictions whose interval is narrow enough to say anything."""
    rank: float | None
    """Spearman's correlation of predicted and measured; ``None`` for fewer than 5, or if all of one are the same."""

    def __str__(self) -> str:
        if self.mean_predicted is None or self.mean_gain is None or self.bias is None:
            return "no prediction was measured"
        interval = "too few for an interval"
        if self.low is not None and self.high is not None:
            interval = f"90 % interval {100 * self.low:+.1f} to {100 * self.high:+.1f}"
        return (
            f"promises {100 * self.mean_predicted:.1f} points and delivers {100 * self.mean_gain:.1f}: promised less "
            f"delivered {100 * self.bias:+.1f} ({interval}, n = {self.n}); "
            f"{within_in_words(self.within, self.told, self.n)}. A kept change is measured also by the trials that it "
            "was kept for, so its gain is biased upwards: what is delivered is flattered a little"
        )


def within_in_words(within: int, told: int, n: int) -> str:
    """``3 of 4 predictions lie in the measured interval``, of those *told*, and how many of the *n* are not."""
    vague = f"no interval, or one over {100 * TOO_WIDE:.0f} points wide, which says nothing of a prediction"
    if not told:
        return f"none of the {n} can be held against its interval: {vague}" if n > 1 else f"of it there is {vague}"
    words = f"{within} of {told} {'prediction lies' if told == 1 else 'predictions lie'} in the measured interval"
    return words if told == n else f"{words}; of {n - told} more there is {vague}"


def gains_of_kept(rounds: Iterable[Round], trials: Mapping[str, Sequence[Trial]]) -> dict[int, Gain]:
    """Round → what its kept change brought over all train tasks, by *trials*: by version, on train.

    Of a change that was discarded only the tasks are known on which the comparison stopped, which is no fixed number:
    of it nothing better is known than the comparison says. So is it of a kept one until its baseline is complete, and
    of what is measured in the unit of a metric.
    """
    found: dict[int, Gain] = {}
    for round in rounds:
        c = round.decision.comparison if round.decision else None
        if round.decision is None or round.decision.verdict != "keep" or round.candidate is None or (c and c.metric):
            continue
        before, after = (trials.get(version, ()) for version in (round.incumbent, round.candidate))
        either = {task_of(trial)[0] for trial in (*before, *after)}
        gains = differences(scores_of(before, ()), scores_of(after, ()))
        if len(gains) >= max(FEWEST, NEARLY_ALL * len(either), c.tasks if c else 0):
            found[round.number] = Gain(fmean(gains), *mean_interval(gains, CONFIDENCE), len(gains))
    return found


def scored(rounds: Iterable[Round], known: Mapping[int, Gain] | None = None) -> list[Scored]:
    """What each proposal promised for all tasks, against what was measured.

    *known*: round → its gain over all tasks, see ``gains_of_kept``; else it is that of the comparison, whose interval
    holds whenever it had stopped. Left out are proposals that promised nothing or were not measured to the end, and
    gains in the unit of a metric, which is not that of a score.
    """
    found: list[Scored] = []
    for round in rounds:
        promised, c = promise(round), measured(round)
        if promised is None or c is None or c.gain is None:
            continue
        better = (known or {}).get(round.number)
        gain = (better.gain, better.low, better.high, better.n) if better else (c.gain, c.low, c.high, c.tasks)
        found.append(Scored(round.number, (), promised, *gain))
    return found


def scored_by_tags(rounds: Iterable[Round], trials: Mapping[str, Sequence[Trial]]) -> list[Scored]:
    """What each proposal promised for a kind of task, against what these *trials* show; by version, on train.

    The gain is the mean paired difference over the clusters of tasks with all the tags that both versions were tried
    on. Its interval is for a fixed number of clusters: what stopped the comparison early is not in it.
    """
    found: list[Scored] = []
    for round in rounds:
        if round.proposal is None or round.candidate is None or measured(round) is None:
            continue
        before, after = (trials.get(version, ()) for version in (round.incumbent, round.candidate))
        for prediction in round.proposal.predictions:
            gains = gains_of(prediction, before, after)
            if prediction.tags and gains:
                low, high = mean_interval(gains, CONFIDENCE) if len(gains) >= FEWEST else (None, None)
                told = Scored(round.number, prediction.tags, prediction.gain, fmean(gains), low, high, len(gains))
                found.append(told)
    return found


def calibrated(scored: Sequence[Scored]) -> Calibratedness:
    """*scored* on average. Those of several tags of one proposal are no independent cases: pass one kind at a time."""
    n = len(scored)
    if not n:
        return Calibratedness(0, None, None, None, None, None, 0, 0, None)
    predicted, gains = [s.predicted for s in scored], [s.gain for s in scored]
    errors = [p - g for p, g in zip(predicted, gains, strict=True)]
    bias, half = fmean(errors), half_width(errors)
    return Calibratedness(
        n=n,
        mean_predicted=fmean(predicted),
        mean_gain=fmean(gains),
        bias=bias,
        low=None if half is None else bias - half,
        high=None if half is None else bias + half,
        within=sum(s.is_within for s in scored),
        told=sum(s.is_told for s in scored),
        rank=rank_correlation(predicted, gains),
    )


def promise(round: Round) -> float | None:
    """What its proposal predicted for all tasks."""
    if round.proposal is None or round.proposal.predicted is not None:
        return round.proposal and round.proposal.predicted
    return next((p.gain for p in round.proposal.predictions if not p.tags), None)


def measured(round: Round) -> Comparison | None:
    """The comparison of scores that decided *round*, if one did and it means something."""
    c = round.decision.comparison if round.decision else None
    return c if c is not None and c.is_valid and not c.metric and c.gain is not None else None


def gains_of(prediction: Prediction, before: Iterable[Trial], after: Iterable[Trial]) -> list[float]:
    """The paired differences of the scores of tasks with these tags, one for each cluster."""
    return differences(scores_of(before, prediction.tags), scores_of(after, prediction.tags))


def scores_of(trials: Iterable[Trial], tags: Iterable[str]) -> dict[Task, list[float]]:
    """Task → its scores, of tasks with all of *tags*; a version's own failure scores 0, a lost trial not at all."""
    wanted = set(tags)
    return by_task((t, 1.0 - lost(t)) for t in trials if not t.is_lost and wanted <= set(t.tags))


def half_width(values: Sequence[float]) -> float | None:
    from scipy.special import stdtrit  # here: importing this must not take half a second

    if len(values) < FEWEST_FOR_BIAS:
        return None
    return float(stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * stdev(values) / sqrt(len(values))


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    if len(a) < FEWEST_FOR_RANK or len(set(a)) == 1 or len(set(b)) == 1:
        return None
    from scipy.stats import rankdata

    left, right = (rankdata(values) for values in (a, b))
    middle = (len(a) + 1) / 2
    both = sum((x - middle) * (y - middle) for x, y in zip(left, right, strict=True))
    return float(both / sqrt(sum((x - middle) ** 2 for x in left) * sum((y - middle) ** 2 for y in right)))
