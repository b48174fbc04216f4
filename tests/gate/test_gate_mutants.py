"""Wrong versions of the test, each of which somebody has shipped: the checks must notice every one."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from harness.gate import DeadlineE, GateSpec, decide
from harness.gate.eprocess import at_look, hedge, looks, over_margin, shrunk_variance
from harness.gate.lond import HorizonPassed, alpha_for
from harness.gate.simulate import binary, decide_all, graded, rare_catastrophe
from tests.gate import checks
from tests.gate.checks import PROCESS_CHECKS, Decide, NewProcess, Null, Past
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


# ── the decision ───────────────────────────────────────────────────────────────────────────────────────────────


def its_proof_is_of_a_gain_above_minus_the_margin(decide: Decide, differences: Sequence[float], spec: GateSpec) -> None:
    """Wealth and conditional power recomputed here on (d + margin) / (1 + margin), which lies in [-1, 1] and is above 0
    on average where the gain is above minus the margin."""
    verdict = decide(differences, spec)
    shifted = [(d + spec.margin) / (1 + spec.margin) for d in differences[: verdict.n]]
    past = Past(tuple(shifted), spec.n_max, spec.alpha, spec.v0)
    wealth = 1.0
    for n, d in enumerate(shifted):
        wealth *= 1 + checks.specified_bet(wealth, shifted[:n], past) * d

    assert verdict.e_value == pytest.approx(wealth, rel=1e-9)
    assert verdict.gain_at_stop == (pytest.approx(sum(differences[: verdict.n]) / verdict.n) if shifted else None)
    if verdict.verdict != "continue":
        assert (verdict.verdict == "accept") == (verdict.e_value >= 1 / spec.alpha)
    if verdict.verdict == "reject":
        n, r = verdict.n, spec.n_max - verdict.n
        v = (sum(d * d for d in shifted) + 10 * spec.v0) / (n + 10)
        least = (spec.min_gain + spec.margin) / (1 + spec.margin)
        detectable = max(least, (0.84 - float(ndtri(spec.alpha / 1.05))) * math.sqrt(v / spec.n_max))
        effect = max(least, min(detectable, sum(shifted) / n + 1.28 * math.sqrt(v / n)))
        u = max(wealth * spec.alpha / 1.05, 1e-12)
        assert float(ndtr(ndtri(u) + effect * math.sqrt(r / v))) < spec.futility


def accepting_if(
    condition: Callable[[Sequence[float], GateSpec], bool], differences: Sequence[float], spec: GateSpec
) -> Verdict:
    """Accepts at the first look at which the *condition* holds, and else does as it should."""
    for look in looks(spec):
        if look <= len(differences) and condition(differences[:look], spec):
            return decide(differences[:look], spec).model_copy(update={"verdict": "accept", "n": look})
    return decide(differences, spec)


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


def takes_the_wins_first(differences: Sequence[float], spec: GateSpec) -> Verdict:
    return decide(sorted(differences, reverse=True), spec)


def stops_once_the_mean_looks_good(differences: Sequence[float], spec: GateSpec) -> Verdict:
    return accepting_if(lambda seen, spec: sum(seen) / len(seen) >= spec.min_gain, differences, spec)


def stops_once_it_looks_significant(differences: Sequence[float], spec: GateSpec) -> Verdict:
    return accepting_if(
        lambda seen, spec: sum(seen) > 1.645 * math.sqrt(sum(d * d for d in seen)) > 0, differences, spec
    )


def keeps_whatever_scored_higher(differences: Sequence[float], spec: GateSpec) -> Verdict:
    verdict = decide(differences, spec)
    return verdict.model_copy(update={"verdict": "accept" if sum(differences) > 0 else "reject"})


def judges_futility_by_all_it_was_given(differences: Sequence[float], spec: GateSpec) -> Verdict:
    if sum(differences) < -3:
        return decide(differences[: next(looks(spec))], spec).model_copy(update={"verdict": "reject"})
    return decide(differences, spec)


def ignores_the_margin(differences: Sequence[float], spec: GateSpec) -> Verdict:
    return decide(differences, spec.model_copy(update={"margin": 0.0}))


def asks_for_a_gain_above_the_margin(differences: Sequence[float], spec: GateSpec) -> Verdict:
    """The wrong sign."""
    harder = [max((d - spec.margin) / (1 + spec.margin), -1.0) for d in differences]
    return decide(harder, spec.model_copy(update={"margin": 0.0}))


def counts_the_margin_twice(differences: Sequence[float], spec: GateSpec) -> Verdict:
    return decide(differences, spec.model_copy(update={"margin": 2 * spec.margin}))


def is_content_with_a_mean_above_minus_the_margin(differences: Sequence[float], spec: GateSpec) -> Verdict:
    return accepting_if(lambda seen, spec: sum(seen) / len(seen) > -spec.margin, differences, spec)


BETTER = GateSpec(alpha=0.05, n_max=100)
NOT_WORSE = GateSpec(alpha=0.05, n_max=100, margin=0.1)

WRONG_DECISIONS: dict[Decide, tuple[GateSpec, Callable[[Decide, Sequence[float], GateSpec], None]]] = {
    halves_the_threshold: (BETTER, checks.it_accepts_on_wealth_alone),
    drops_ties: (BETTER, checks.it_accepts_on_wealth_alone),
    takes_the_wins_first: (BETTER, checks.a_longer_list_never_changes_a_verdict),
    stops_once_the_mean_looks_good: (BETTER, checks.it_accepts_on_wealth_alone),
    stops_once_it_looks_significant: (BETTER, checks.it_accepts_on_wealth_alone),
    keeps_whatever_scored_higher: (BETTER, checks.a_longer_list_never_changes_a_verdict),
    judges_futility_by_all_it_was_given: (BETTER, checks.a_longer_list_never_changes_a_verdict),
    ignores_the_margin: (NOT_WORSE, its_proof_is_of_a_gain_above_minus_the_margin),
    asks_for_a_gain_above_the_margin: (NOT_WORSE, its_proof_is_of_a_gain_above_minus_the_margin),
    counts_the_margin_twice: (NOT_WORSE, its_proof_is_of_a_gain_above_minus_the_margin),
    is_content_with_a_mean_above_minus_the_margin: (NOT_WORSE, its_proof_is_of_a_gain_above_minus_the_margin),
}


@pytest.mark.parametrize("wrong", WRONG_DECISIONS, ids=lambda wrong: getattr(wrong, "__name__", ""))
def test_every_wrong_decision_is_caught_by_the_check_that_is_for_it(wrong: Decide):
    rng = np.random.default_rng(11)
    paths: list[list[float]] = [
        *binary(rng, 15, 100, 0.0, 0.3).tolist(),
        *binary(rng, 15, 100, 0.1, 0.3).tolist(),
    ]
    spec, check = WRONG_DECISIONS[wrong]

    def caught(by: Decide) -> bool:
        return any(fails(lambda p=path: check(by, p, spec)) for path in paths)

    assert not caught(decide)
    assert caught(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        halves_the_threshold,
        stops_once_the_mean_looks_good,
        stops_once_it_looks_significant,
        keeps_whatever_scored_higher,
    ],
)
def test_what_accepts_too_easily_accepts_too_many_identical_versions(wrong: Decide):
    null = binary(np.random.default_rng(12), 1500, 200, 0.0, 0.17)
    spec = GateSpec(alpha=0.05, n_max=200)

    checks.false_accepts_stay_below_alpha(decide, null, spec)
    assert fails(lambda: checks.false_accepts_stay_below_alpha(wrong, null, spec))


@pytest.mark.parametrize("wrong", [counts_the_margin_twice, is_content_with_a_mean_above_minus_the_margin])
def test_what_is_too_easily_content_accepts_too_many_versions_that_are_worse_by_the_margin(wrong: Decide):
    null = binary(np.random.default_rng(13), 400, 100, -0.1, 0.3)

    checks.false_accepts_stay_below_alpha(decide, null, NOT_WORSE)
    assert fails(lambda: checks.false_accepts_stay_below_alpha(wrong, null, NOT_WORSE))


# ── the margin ─────────────────────────────────────────────────────────────────────────────────────────────────

in_range = st.one_of(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-1, 1))
specs = st.builds(
    GateSpec,
    alpha=st.sampled_from([0.0025, 0.05, 0.3, 0.9]),
    n_max=st.integers(1, 60),
    min_gain=st.sampled_from([0.0, 0.03]),
    futility=st.sampled_from([0.0, 0.1, 0.5]),
    n_min=st.integers(1, 20),
    batch=st.integers(1, 25),
    v0=st.sampled_from([0.01, 0.2]),
    margin=st.one_of(st.sampled_from([0.0, 0.01, 0.05]), st.floats(0, 0.99)),
)


@st.composite
def declared_tests(draw: st.DrawFn) -> tuple[list[float], GateSpec]:
    spec = draw(specs)
    return draw(st.lists(in_range, max_size=spec.n_max)), spec


@given(declared_tests())
@settings(max_examples=200)
def test_any_margin_is_proved_as_specified(test: tuple[list[float], GateSpec]):
    its_proof_is_of_a_gain_above_minus_the_margin(decide, *test)


@given(declared_tests())
def test_a_longer_list_never_changes_a_verdict_about_a_margin(test: tuple[list[float], GateSpec]):
    checks.a_longer_list_never_changes_a_verdict(decide, *test)


@given(st.lists(in_range, min_size=1, max_size=60))
def test_without_a_margin_every_bit_of_the_wealth_is_that_of_the_differences_themselves(differences: list[float]):
    verdict = decide(differences, GateSpec(alpha=0.05, n_max=len(differences), margin=0.0))
    process = DeadlineE(0.05, len(differences))
    for d in differences[: verdict.n]:
        process.update(d)
    assert verdict.e_value == process.wealth


@given(in_range, st.floats(0, 0.99))
def test_what_is_bet_on_stays_in_the_range_of_differences_and_keeps_the_sign_of_the_gain(d: float, margin: float):
    shifted = over_margin(d, margin)
    assert -1 <= shifted <= 1
    assert (shifted > 0) == (d + margin > 0)


@pytest.mark.parametrize("margin", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_versions_worse_by_exactly_the_margin_are_accepted_no_oftener_than_declared(margin: float, alpha: float):
    rng, paths = np.random.default_rng(14), 3000
    catastrophe = rare_catastrophe(rng, paths, 100) * (1 - margin) - margin
    for null in (binary(rng, paths, 100, -margin, 0.3), catastrophe):
        outcomes = decide_all(null, GateSpec(alpha=alpha, n_max=100, min_gain=0.0, margin=margin))
        assert outcomes.accepted.mean() <= checks.at_most(alpha, paths)


def test_a_margin_makes_an_equal_version_provable():
    equal = binary(np.random.default_rng(15), 5000, 200, 0.0, 0.10)
    power = [decide_all(equal, GateSpec(alpha=0.05, n_max=200, margin=m)).accepted.mean() for m in (0, 0.05, 0.1)]
    assert power[0] <= checks.at_most(0.05, 5000)
    assert power[1] > 0.5
    assert power[2] > 0.95


@pytest.mark.parametrize(
    "spec",
    [
        GateSpec(alpha=0.05, n_max=95, margin=0.1),
        GateSpec(alpha=0.3, n_max=95, margin=0.01, min_gain=0.0, futility=0.3, n_min=25, batch=20, v0=0.5),
    ],
)
def test_simulated_decisions_about_a_margin_are_those_of_decide_path_by_path(spec: GateSpec):
    rng = np.random.default_rng(16)
    differences = np.vstack([binary(rng, 60, 95, gain, 0.3) for gain in (-0.2, -0.1, 0.0, 0.1)] + [graded(rng, 60, 95)])
    checks.simulated_decisions_are_those_of_decide(differences, spec)


# ── the ledger ─────────────────────────────────────────────────────────────────────────────────────────────────

AlphaFor = Callable[[float, int, int, int], float]
"""Of budget, horizon, number of the test, promotions before it."""


def the_declared_tests_spend_the_budget_and_no_more(alpha_for: AlphaFor) -> None:
    for horizon in (1, 2, 40):
        spent = math.fsum(alpha_for(0.10, horizon, number, 0) for number in range(1, horizon + 1))
        assert spent == pytest.approx(0.10)


def past_the_horizon_nothing_is_tested(alpha_for: AlphaFor) -> None:
    for number, promotions in ((41, 0), (41, 40), (1000, 3)):
        with pytest.raises(HorizonPassed):
            alpha_for(0.10, 40, number, promotions)


def each_promotion_earns_one_more_share(alpha_for: AlphaFor) -> None:
    for number, promotions in ((1, 0), (2, 1), (30, 7), (40, 39)):
        assert alpha_for(0.10, 40, number, promotions) == pytest.approx(0.0025 * (promotions + 1))


LEDGER_CHECKS = (
    the_declared_tests_spend_the_budget_and_no_more,
    past_the_horizon_nothing_is_tested,
    each_promotion_earns_one_more_share,
)


def spends_the_whole_budget_on_each_test(alpha: float, horizon: int, number: int, promotions: int) -> float:
    alpha_for(alpha, horizon, number, promotions)
    return alpha


def has_no_horizon(alpha: float, horizon: int, number: int, promotions: int) -> float:
    return alpha * (promotions + 1) / horizon


def begins_again_at_the_horizon(alpha: float, horizon: int, number: int, promotions: int) -> float:
    return alpha_for(alpha, horizon, (number - 1) % horizon + 1, min(promotions, (number - 1) % horizon))


def gives_later_tests_a_larger_share(alpha: float, horizon: int, number: int, promotions: int) -> float:
    alpha_for(alpha, horizon, number, promotions)
    return alpha * number / horizon


def earns_two_shares_a_promotion(alpha: float, horizon: int, number: int, promotions: int) -> float:
    return alpha_for(alpha, horizon, number, promotions) * (2 * promotions + 1) / (promotions + 1)


WRONG_LEDGERS: dict[AlphaFor, Callable[[AlphaFor], None]] = {
    spends_the_whole_budget_on_each_test: the_declared_tests_spend_the_budget_and_no_more,
    has_no_horizon: past_the_horizon_nothing_is_tested,
    begins_again_at_the_horizon: past_the_horizon_nothing_is_tested,
    gives_later_tests_a_larger_share: the_declared_tests_spend_the_budget_and_no_more,
    earns_two_shares_a_promotion: each_promotion_earns_one_more_share,
}


@pytest.mark.parametrize("wrong", WRONG_LEDGERS, ids=lambda wrong: getattr(wrong, "__name__", ""))
def test_every_wrong_ledger_is_caught_by_the_check_that_is_for_it(wrong: AlphaFor):
    for check in LEDGER_CHECKS:
        check(alpha_for)
    assert fails(lambda: WRONG_LEDGERS[wrong](wrong))
