"""Intervals: for a gain watched while it is measured, and for a mean over a fixed number of clusters."""

import math
from collections.abc import Sequence

from harness.gate.eprocess import CAP, difference, hedge, shrunk_variance
from traces.records import GateSpec

RESOLUTION = 1e-4
"""Of the ends of a confidence sequence: a hundredth of a point, rounded outwards."""


def confidence_sequence(
    differences: Sequence[float], n_max: int, confidence: float = 0.9, v0: float = 0.2
) -> tuple[float, float]:
    """An interval for the mean difference that may be looked at after every difference, up to *n_max* of them.

    With probability *confidence* the mean is inside at every look, not only at the last. What is left out is every
    mean that the deadline e-process, at half the error rate for each side, has proved wrong so far; so it never
    widens. Differences whose mean drifts can prove everything wrong: then it spans the two proofs that disagree.

    Raises:
        ValueError: a difference is not a number between -1 and 1, there are more than *n_max*, or a parameter is
            out of range.
    """
    spec = GateSpec(alpha=tail(confidence), n_max=n_max, v0=v0)
    values = [difference(d) for d in differences]
    if len(values) > n_max:
        raise ValueError(f"{len(values)} differences for a sequence declared to end after {n_max}")
    low = proved_above(values, spec)
    high = -proved_above([-d for d in values], spec)
    return min(low, high), max(low, high)


def proved_above(differences: Sequence[float], spec: GateSpec) -> float:
    """The largest value, to the resolution, that the mean is proved to lie above; -1 when there is none.

    A larger mean is harder to refute, so halving finds it.
    """
    refuted, standing = -1.0, 1.0
    while standing - refuted > RESOLUTION:
        middle = (refuted + standing) / 2
        if refutes(differences, middle, spec):
            refuted = middle
        else:
            standing = middle
    return refuted


def refutes(differences: Sequence[float], mean: float, spec: GateSpec) -> bool:
    """Whether the e-process ever proves, at the level of *spec*, that the mean difference is above *mean*, > -1.

    ``DeadlineE`` on ``d - mean``, which is never below ``-(1 + mean)``: the cap on the bet moves with that.
    """
    cap = CAP / (1 + mean)
    wealth, squares = 1.0, 0.0
    for n, d in enumerate(differences):
        x = d - mean
        bet = min(hedge(wealth, spec.n_max - n, shrunk_variance(squares, n, spec.v0), spec.alpha), cap)
        wealth *= 1.0 + bet * x
        if wealth >= 1 / spec.alpha:
            return True
        squares += x * x
    return False


def mean_interval(differences: Sequence[float], confidence: float) -> tuple[float, float]:
    """For the mean of a fixed number of paired differences, one for each cluster; both ends in [-1, 1].

    Student's t, with one more difference counted in at each end of the range, -1 and +1. So no sample is too small
    or too uniform for it: without any it is the whole range, and fifty ties are not proof of a mean of exactly 0.
    In simulation it covers as promised where plain Student's t does not, on differences that are nearly always the
    same (``tests/gate``). The price: from fifty binary differences on it is wider by a tenth at most, but graded ones
    with a spread of 0.1 pay a factor of 2.1 at fifty and of 1.4 at two hundred.

    Not for a number that a sequential test stopped at: that is biased.

    Raises:
        ValueError: a difference is not a number between -1 and 1, or *confidence* is not between 0 and 1.
    """
    return _interval([difference(d) for d in differences], -1.0, 1.0, confidence)


def score_interval(scores: Sequence[float], confidence: float) -> tuple[float, float]:
    """For the mean of a fixed number of scores, one for each cluster; both ends in [0, 1].

    As ``mean_interval``, with a 0 and a 1 counted in.

    Raises:
        ValueError: a score is not a number between 0 and 1, or *confidence* is not between 0 and 1.
    """
    for score in scores:
        if not 0 <= score <= 1:
            raise ValueError(f"score {score!r} is not between 0 and 1: let the grader return scores in that range")
    return _interval(scores, 0.0, 1.0, confidence)


def _interval(values: Sequence[float], least: float, most: float, confidence: float) -> tuple[float, float]:
    from scipy.special import stdtrit  # here: importing the gate must not take half a second

    quantile = 1 - tail(confidence)
    if not values:
        return least, most
    padded = [*values, least, most]
    n = len(padded)
    mean = math.fsum(padded) / n
    variance = math.fsum((x - mean) ** 2 for x in padded) / n
    half = float(stdtrit(n - 1, quantile)) * math.sqrt(variance / n)
    observed = math.fsum(values) / len(values)  # inside at any confidence, whatever was counted in
    return max(least, min(mean - half, observed)), min(most, max(mean + half, observed))


def tail(confidence: float) -> float:
    """The error rate of each of the two sides."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence!r} is not between 0 and 1")
    return (1 - confidence) / 2
