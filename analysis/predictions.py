"""What proposals promised against what they brought: how far a proposer's predictions can be believed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

from analysis.findings import lost
from analysis.shrinkage import FEWEST, Task, by_task, differences
from harness.gate.confidence import mean_interval
from traces.records import Comparison, Prediction, Round, Trial

CONFIDENCE = 0.9
FEWEST_FOR_BIAS = 3
FEWEST_FOR_RANK = 5


@dataclass(frozen=True)
class Scored:
    """A prediction and its outcome, in mean train score."""

    round: int
    tags: tuple[str, ...]
    """Of the tasks that it is about; empty: all."""
    predicted: float
    gain: float
    """Measured, paired. A comparison that stopped as soon as it was sure stopped at a high of a good change, or a low
    of a bad one: of kept changes the gain is biased upwards, so that the proposer looks better than it is."""
    low: float | None
    high: float | None
    """Its 90 % interval."""

    @property
    def is_within(self) -> bool:
        """Does the prediction lie in the measured interval?"""
        return self.low is not None and self.high is not None and self.low <= self.predicted <= self.high


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
    """Predictions that lie in their measured interval. A wide interval holds nearly all: then this says little."""
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
            f"delivered {100 * self.bias:+.1f} ({interval}, n = {self.n}); {self.within} of {self.n} predictions lie "
            "in the measured interval. Where a change was kept its gain is biased upwards, for the test stops at a "
            "high: what is delivered is flattered"
        )


def scored(rounds: Iterable[Round]) -> list[Scored]:
    """What each proposal promised for all tasks, against what was measured.

    Left out are proposals that promised nothing or were not measured to the end, and gains in the unit of a metric,
    which is not that of a score. The interval is that of the comparison: it holds whenever it had stopped.
    """
    found: list[Scored] = []
    for round in rounds:
        promised, c = promise(round), measured(round)
        if promised is not None and c is not None and c.gain is not None:
            found.append(Scored(round.number, (), promised, c.gain, c.low, c.high))
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
                found.append(Scored(round.number, prediction.tags, prediction.gain, fmean(gains), low, high))
    return found


def calibrated(scored: Sequence[Scored]) -> Calibratedness:
    """*scored* on average. Those of several tags of one proposal are no independent cases: pass one kind at a time."""
    n = len(scored)
    if not n:
        return Calibratedness(0, None, None, None, None, None, 0, None)
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
