"""Wrong versions of the test, each of which somebody has shipped: the checks must notice every one."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from harness.gate import DeadlineE, GateSpec, decide
from harness.gate.eprocess import at_look, hedge, looks, shrunk_variance
from harness.gate.simulate import binary
from tests.gate import checks
from tests.gate.checks import DECISION_CHECKS, PROCESS_CHECKS, Decide, NewProcess, Null, Past
from traces.records import Verdict


class SeesTheOutcomeBeforeItBets(DeadlineE):
    def update(self, d: float) -> None:
        wealth = self._wealth
        super().update(d)
        self._wealth = max(self._wealth, wealth)


class CountsTheCurrentDifferenceInTheVariance(DeadlineE):
    def update(self, d: float) -> None:
        wealth = self._wealth
        variance = shrunk_variance(self._sum_of_squares + d * d, self._n + 1, self.v0)
        bet = min(hedge(wealth, self.remaining, variance, self.alpha), 0.95)
        super().update(d)
        self._wealth = wealth * (1 + bet * d)


class BetsOnTheIncumbentWhenItIsAhead(DeadlineE):
    def bet(self) -> float:
        return super().bet() * (1 if self._wealth >= 1 else -1)


class BetsMoreThanItHas(DeadlineE):
    def bet(self) -> float:
        return min(2 * hedge(self._wealth, self.remaining, self.variance, self.alpha), 1.5)


class DropsTies(DeadlineE):
    def update(self, d: float) -> None:
        if d != 0:
            super().update(d)


class TakesATieForALoss(DeadlineE):
    def update(self, d: float) -> None:
        super().update(d if d != 0 else -0.01)


class Clips(DeadlineE):
    def update(self, d: float) -> None:
        super().update(min(max(d, -1.0), 1.0))


class GoesOnAfterTheDeadline(DeadlineE):
    def update(self, d: float) -> None:
        if self.remaining:
            super().update(d)


class CentresTheVariance(DeadlineE):
    def update(self, d: float) -> None:
        super().update(d)
        self._sum_of_squares -= d * d / self._n


class LetsATinyPriceMakeAHugeBet(DeadlineE):
    def bet(self) -> float:
        u = self._wealth * self.alpha  # neither the overshoot nor the floor
        return min(0.4 / (u * math.sqrt(max(self.remaining, 1) * self.variance)), 0.95)


def test_every_wrong_process_is_caught_by_the_check_that_is_for_it():
    expected: dict[NewProcess, Callable[[NewProcess, Past, Null], None]] = {
        SeesTheOutcomeBeforeItBets: checks.wealth_is_not_expected_to_grow,
        CountsTheCurrentDifferenceInTheVariance: checks.wealth_is_not_expected_to_grow,
        BetsOnTheIncumbentWhenItIsAhead: checks.wealth_is_not_expected_to_grow,
        BetsMoreThanItHas: checks.wealth_stays_at_or_above_zero,
        DropsTies: checks.a_tie_changes_no_wealth_and_counts,
        TakesATieForALoss: checks.a_tie_changes_no_wealth_and_counts,
        Clips: checks.what_is_not_a_score_difference_is_refused,
        GoesOnAfterTheDeadline: checks.nothing_is_seen_past_the_deadline,
        CentresTheVariance: checks.every_difference_is_bet_on_as_specified,
        LetsATinyPriceMakeAHugeBet: checks.every_difference_is_bet_on_as_specified,
    }
    assert failing_process_checks(DeadlineE) == []
    for wrong, check in expected.items():
        assert check in failing_process_checks(wrong), wrong


@pytest.mark.parametrize(
    "wrong", [SeesTheOutcomeBeforeItBets, CountsTheCurrentDifferenceInTheVariance], ids=lambda wrong: wrong.__name__
)
def test_looking_before_betting_is_caught_directly_too(wrong: NewProcess):
    assert checks.the_bet_is_placed_before_the_difference_is_seen in failing_process_checks(wrong)


def failing_process_checks(new: NewProcess) -> list[Callable[[NewProcess, Past, Null], None]]:
    pasts = [
        Past((), 50),
        Past((), 3),
        Past((1.0, -1.0, 0.0, 0.05, -0.95), 20),
        Past((-1.0,) * 8 + (0.0, -1.0), 12),
        Past((1.0,) * 6, 8, alpha=0.0125),
        Past((0.01, -0.02, 0.03, 0.0), 60, v0=0.01),
    ]
    nulls = [Null(0.05, 0.95), Null(1.0, 1.0), Null(0.9, 0.1), Null(1.0, 1.0, shortfall=0.5)]
    return [
        check
        for check in PROCESS_CHECKS
        if any(fails(lambda c=check, p=past, n=null: c(new, p, n)) for past in pasts for null in nulls)
    ]


def fails(check: Callable[[], None]) -> bool:
    try:
        check()
    except (AssertionError, pytest.fail.Exception):
        return True
    return False


def halves_the_threshold(differences: Sequence[float], spec: GateSpec) -> Verdict:
    process = DeadlineE(spec.alpha, spec.n_max, spec.v0)
    for look in looks(spec):
        for d in differences[process.n : look]:
            process.update(d)
        verdict = at_look(process, differences[:look], spec)
        if process.wealth >= 0.5 / spec.alpha:
            return verdict.model_copy(update={"verdict": "accept"})
        if verdict.verdict != "continue" or process.n < look:
            return verdict
    raise AssertionError("the deadline is a look")


def drops_ties(differences: Sequence[float], spec: GateSpec) -> Verdict:
    return decide([d for d in differences if d != 0], spec)


def stops_once_it_looks_significant(differences: Sequence[float], spec: GateSpec) -> Verdict:
    for look in looks(spec):
        seen = differences[:look]
        error = math.sqrt(sum(d * d for d in seen)) / len(seen) if seen else 0
        if len(seen) == look and sum(seen) / look > 1.645 * error:
            return decide(seen, spec).model_copy(update={"verdict": "accept", "n": look})
    return decide(differences, spec)


def keeps_whatever_scored_higher(differences: Sequence[float], spec: GateSpec) -> Verdict:
    verdict = decide(differences, spec)
    return verdict.model_copy(update={"verdict": "accept" if sum(differences) > 0 else "reject"})


def judges_futility_by_all_it_was_given(differences: Sequence[float], spec: GateSpec) -> Verdict:
    if sum(differences) < -3:
        return decide(differences[: next(looks(spec))], spec).model_copy(update={"verdict": "reject"})
    return decide(differences, spec)


WRONG_DECISIONS: list[Decide] = [
    halves_the_threshold,
    drops_ties,
    stops_once_it_looks_significant,
    keeps_whatever_scored_higher,
    judges_futility_by_all_it_was_given,
]


@pytest.mark.parametrize("wrong", WRONG_DECISIONS, ids=lambda wrong: getattr(wrong, "__name__", ""))
def test_every_wrong_decision_is_caught(wrong: Decide):
    rng = np.random.default_rng(11)
    paths: list[list[float]] = [
        *binary(rng, 30, 100, 0.0, 0.3).tolist(),
        *binary(rng, 30, 100, 0.1, 0.3).tolist(),
    ]
    spec = GateSpec(0.05, 100)

    def caught(by: Decide) -> bool:
        return any(fails(lambda c=check, p=path: c(by, p, spec)) for check in DECISION_CHECKS for path in paths)

    assert not caught(decide)
    assert caught(wrong)


@pytest.mark.parametrize("wrong", [halves_the_threshold, stops_once_it_looks_significant, keeps_whatever_scored_higher])
def test_what_accepts_too_easily_accepts_too_many_identical_versions(wrong: Decide):
    null = binary(np.random.default_rng(12), 4000, 200, 0.0, 0.17)
    spec = GateSpec(0.05, 200)

    checks.false_accepts_stay_below_alpha(decide, null, spec)
    assert fails(lambda: checks.false_accepts_stay_below_alpha(wrong, null, spec))
