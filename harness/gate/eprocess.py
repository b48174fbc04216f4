"""The deadline e-process: does a candidate score higher than the incumbent, decided without believing luck?

Wealth starts at 1 and bets, before each paired difference is seen, that the candidate won it. If the candidate is no
better, whatever is bet, wealth is not expected to grow, so it reaches ``1/alpha`` with probability at most ``alpha``
(Ville's inequality) — at any sample size, with ties, however often somebody looks and whenever they stop. The size of
the bets changes only the power. Here it is the hedge of a digital option that pays ``1/alpha`` at a declared number of
differences, the deadline, which has nearly the power of the best test of that fixed size.
"""

import math
from collections.abc import Iterator, Sequence
from numbers import Integral
from statistics import NormalDist
from typing import Literal

from traces.records import GateSpec, Verdict

NORMAL = NormalDist()

CAP = 0.95
"""The largest bet: below 1, so that no single difference takes all the wealth."""
OVERSHOOT = 1.05
"""The option aims this far past ``1/alpha``: a look comes after the crossing, and wealth moves in between."""
U_FLOOR = 1e-12
"""Of the option's price, so that a nearly lost test has finite bets."""
PRIOR_WEIGHT = 10
"""How many differences ``v0`` counts for in the variance."""
Z_80 = 0.84
"""Normal quantile of 80 % power."""
Z_90 = 1.28
"""Normal quantile of the 90 % upper limit on the gain, the best effect that the data still leave thinkable."""
SEQUENTIAL_COST = 1.25
"""The effect that this test proves at 80 % power, over the effect that the best test of fixed size does. Simulated
values lie between 1.0 and 1.2; planning is better done on the safe side."""
TOO_MANY = 1_000_000
"""Tasks beyond which no number of them is said to settle a test: the observed gain is zero but for rounding."""


def difference(value: float) -> float:
    """*value* as a paired difference.

    Raises:
        ValueError: it is not a number between -1 and 1. Clipping it would break the guarantee without a trace.
    """
    if not -1.0 <= value <= 1.0:  # also refuses NaN
        raise ValueError(
            f"paired difference {value!r} is not between -1 and 1: scores are declared to lie in [0, 1] and are never "
            "clipped; let the grader return scores in that range"
        )
    return float(value)


def is_count(value: object) -> bool:
    return isinstance(value, Integral) and int(value) >= 1


def price(wealth: float, alpha: float) -> float:
    """u: the wealth as a share of what the option pays; also the chance of reaching it when there is no effect."""
    return max(wealth * alpha / OVERSHOOT, U_FLOOR)


def hedge(wealth: float, remaining: int, variance: float, alpha: float) -> float:
    """The bet, before its cap: the option's price change per unit of difference, over the wealth.

    0 when nothing remains to bet on, and when the price of certainty is already in hand.
    """
    u = price(wealth, alpha)
    if remaining == 0 or u >= 1:
        return 0.0
    return NORMAL.pdf(NORMAL.inv_cdf(u)) / (u * math.sqrt(remaining * variance))


def shrunk_variance(sum_of_squares: float, n: int, v0: float) -> float:
    """v: the mean square of the differences seen, *v0* counted in as if it were ten more of them."""
    return (sum_of_squares + PRIOR_WEIGHT * v0) / (n + PRIOR_WEIGHT)


def least_detectable(variance: float, n_max: int, alpha: float) -> float:
    """MDE: the effect that the best test of *n_max* differences proves with 80 % power. 0 where *alpha* alone is that
    much."""
    return max(Z_80 - NORMAL.inv_cdf(alpha / OVERSHOOT), 0.0) * math.sqrt(variance / n_max)


class DeadlineE:
    """One test that the mean difference is above 0, with a deadline after *n_max* differences.

    ``bet()`` may be called at any time and depends on the past only; ``update(d)`` places it on *d*. Fed the same
    differences in the same order it passes through bit-identical states, so replaying them is how a test resumes.

    Raises:
        ValueError: a parameter is out of range; or, from ``update``, the difference is not a number between -1 and 1,
            or comes after the deadline. A refused difference changes nothing.
    """

    __slots__ = ("_n", "_sum_of_squares", "_wealth", "alpha", "n_max", "v0")

    def __init__(self, alpha: float, n_max: int, v0: float = 0.2) -> None:
        if not U_FLOOR <= alpha < 1:
            raise ValueError(f"alpha {alpha!r} is not between {U_FLOOR:g} and 1: it is the chance of a false accept")
        if not is_count(n_max):
            raise ValueError(f"n_max {n_max!r} is not a positive whole number: it is the number of differences to see")
        if not 1e-9 <= v0 <= 1:
            raise ValueError(f"v0 {v0!r} is not between 1e-9 and 1: it is the variance expected of the differences")
        self.alpha = float(alpha)
        self.n_max = n_max
        self.v0 = float(v0)
        self._n = 0
        self._wealth = 1.0
        self._sum_of_squares = 0.0

    @property
    def wealth(self) -> float:
        """The e-value: the evidence against "no better". At least ``1/alpha`` proves it at level ``alpha``."""
        return self._wealth

    @property
    def n(self) -> int:
        """Differences seen, ties included."""
        return self._n

    @property
    def remaining(self) -> int:
        """Differences still to come before the deadline."""
        return self.n_max - self._n

    @property
    def variance(self) -> float:
        return shrunk_variance(self._sum_of_squares, self._n, self.v0)

    def bet(self) -> float:
        """The share of the wealth that is staked on the next difference, between 0 and 0.95."""
        return min(hedge(self._wealth, self.remaining, self.variance, self.alpha), CAP)

    def update(self, d: float) -> None:
        """See the next difference. A tie leaves the wealth as it is and still counts in ``n``."""
        d = difference(d)
        if self.remaining == 0:
            raise ValueError(
                f"a difference after the deadline of {self.n_max}: the number was declared before the first one was "
                "seen and cannot be raised by looking at them; start a new test"
            )
        self._wealth *= 1.0 + self.bet() * d
        self._sum_of_squares += d * d
        self._n += 1

    def conditional_power(self, effect: float) -> float:
        """The chance of ending with proof if the true mean difference is *effect*, given what was seen.

        At the deadline nothing is left to chance: 1 with the proof in hand, else 0.
        """
        if self.remaining == 0:
            return float(self._wealth >= 1 / self.alpha)
        u = price(self._wealth, self.alpha)
        if u >= 1:
            return 1.0
        return NORMAL.cdf(NORMAL.inv_cdf(u) + effect * math.sqrt(self.remaining / self.variance))


def looks(spec: GateSpec) -> Iterator[int]:
    """The numbers of clusters at which a verdict may fall, in order; the last one is the deadline."""
    first = -(-spec.n_min // spec.batch) * spec.batch
    yield from range(first, spec.n_max, spec.batch)
    yield spec.n_max


def over_margin(gain: float, margin: float) -> float:
    """*gain* measured from minus *margin*, and scaled back into [-1, 1]: above 0 where the gain is above -*margin*."""
    return (gain + margin) / (1 + margin) if margin else gain


def effect_still_thinkable(mean: float | None, n: int, variance: float, spec: GateSpec) -> float:
    """The effect that futility is judged by: what the data leave possible, but no more than the test could prove
    with decent power, and no less than ``min_gain``; from the margin on. *mean* is ``None`` at n = 0."""
    least = over_margin(spec.min_gain, spec.margin)
    detectable = max(least, least_detectable(variance, spec.n_max, spec.alpha))
    if mean is None:
        return detectable
    return max(least, min(detectable, over_margin(mean, spec.margin) + Z_90 * math.sqrt(variance / n)))


def provable_gain(variance: float, n: int, alpha: float) -> float:
    """The smallest gain that a test of *n* clusters proves with 80 % power, on the safe side."""
    return SEQUENTIAL_COST * least_detectable(variance, n, alpha)


def tasks_to_settle(mean: float, n: int, variance: float, alpha: float) -> int | None:
    """About how many more clusters than *n* a test needs to prove a gain of *mean* with 80 % power, at least 1.

    ``None`` when there is no gain to prove.
    """
    if mean <= 0:
        return None
    ratio = provable_gain(variance, 1, alpha) / mean
    if ratio > math.sqrt(TOO_MANY):
        return None
    return max(1, math.ceil(ratio * ratio) - n)


def decide(differences: Sequence[float], spec: GateSpec) -> Verdict:
    """What the test says about *differences*, in the order in which they were observed, one for each cluster.

    It looks only where the *spec* says and stops at the first look that accepts or rejects; what comes after has no
    influence. So the verdict on a list that grows never changes once it is not ``continue``: a live run calls this
    after each batch, and a replay of its log is the same call.

    Raises:
        ValueError: a difference is not a number between -1 and 1, wherever in the list it stands, or there are more
            of them than the deadline allows.
    """
    values = [difference(d) for d in differences]
    if len(values) > spec.n_max:
        raise ValueError(
            f"{len(values)} differences for a test declared to end after {spec.n_max}: the deadline cannot be raised "
            "by looking at them; start a new test"
        )
    process = DeadlineE(spec.alpha, spec.n_max, spec.v0)
    for look in looks(spec):
        for d in values[process.n : look]:
            process.update(over_margin(d, spec.margin))
        if process.n < look:
            break
        verdict = at_look(process, values[:look], spec)
        if verdict.verdict != "continue":
            return verdict
    return state("continue", process, values, spec)


def at_look(process: DeadlineE, observed: Sequence[float], spec: GateSpec) -> Verdict:
    """The verdict of one look at a *process* that has seen *observed*."""
    if process.wealth >= 1 / spec.alpha:
        return state("accept", process, observed, spec)
    if process.remaining == 0:
        return state("undecided", process, observed, spec)
    verdict = state("continue", process, observed, spec)
    power = verdict.conditional_power
    if power is not None and power < spec.futility:
        return verdict.model_copy(update={"verdict": "reject"})
    return verdict


def state(
    verdict: Literal["accept", "reject", "undecided", "continue"],
    process: DeadlineE,
    observed: Sequence[float],
    spec: GateSpec,
) -> Verdict:
    """The numbers that go with a *verdict* after *observed*."""
    mean = math.fsum(observed) / process.n if observed else None
    effect = effect_still_thinkable(mean, process.n, process.variance, spec)
    return Verdict(
        verdict=verdict,
        e_value=process.wealth,
        threshold=1 / spec.alpha,
        n=process.n,
        gain_at_stop=mean,
        conditional_power=process.conditional_power(effect) if process.remaining else None,
        tasks_to_settle=(
            tasks_to_settle(over_margin(mean, spec.margin), process.n, process.variance, spec.alpha)
            if verdict == "undecided" and mean is not None
            else None
        ),
    )
