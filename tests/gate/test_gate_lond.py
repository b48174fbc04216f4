import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from harness.gate import GateSpec
from harness.gate.lond import HorizonPassed, alpha_for
from harness.gate.simulate import Floats, binary, decide_all
from tests.gate.checks import at_most


def test_without_promotions_the_tests_together_spend_exactly_the_budget():
    assert math.fsum(alpha_for(0.10, 40, number, 0) for number in range(1, 41)) == pytest.approx(0.10)


def test_each_promotion_earns_the_next_tests_a_larger_share():
    assert alpha_for(0.10, 40, 1, 0) == pytest.approx(0.0025)
    assert alpha_for(0.10, 40, 2, 1) == pytest.approx(0.0050)
    assert alpha_for(0.10, 40, 7, 3) == pytest.approx(0.0100)


@given(st.floats(1e-6, 0.999), st.integers(1, 500), st.data())
def test_no_test_may_spend_more_than_the_whole_budget(alpha: float, horizon: int, data: st.DataObject):
    number = data.draw(st.integers(1, horizon))
    promotions = data.draw(st.integers(0, number - 1))
    assert 0 < alpha_for(alpha, horizon, number, promotions) <= alpha * (1 + 1e-12)


def test_past_the_horizon_there_is_no_test():
    assert alpha_for(0.10, 40, 40, 0) > 0
    with pytest.raises(HorizonPassed, match="new validation tasks"):
        alpha_for(0.10, 40, 41, 0)


def test_a_spent_ledger_is_a_value_error_too():
    with pytest.raises(ValueError, match="spent"):
        alpha_for(0.10, 1, 2, 0)


@pytest.mark.parametrize(
    ("alpha", "horizon", "number", "promotions"),
    [
        (0.0, 40, 1, 0),
        (1.0, 40, 1, 0),
        (math.nan, 40, 1, 0),
        (0.1, 0, 1, 0),
        (0.1, 40, 0, 0),
        (0.1, 40, 1, -1),
        (0.1, 40, 1, 1),
        (0.1, 40, 1.5, 0),
    ],
)
def test_numbers_that_no_ledger_has_are_refused(alpha: float, horizon: int, number: int, promotions: int):
    with pytest.raises(ValueError, match=r"not|needs"):
        alpha_for(alpha, horizon, number, promotions)


# ── what the budget buys ───────────────────────────────────────────────────────────────────────────────────────

LIVES = 250


@dataclass(frozen=True)
class Lives:
    """Of many validation splits, each with 40 promotion tests."""

    promotions: NDArray[np.int64]
    false: NDArray[np.int64]
    """Promotions of versions that are no better."""

    @property
    def false_share(self) -> Floats:
        return self.false / np.maximum(self.promotions, 1)


def ours(number: int, promotions: int) -> float:
    return alpha_for(0.10, 40, number, promotions)


def lives(better: float, level: Callable[[int, int], float], *, same_luck: bool = False) -> Lives:
    """A share of the candidates is 15 points *better*, the others are not; 200 clusters, 30 % discordant.

    *same_luck*: all of the others differ from the live version on the very same tasks.
    """
    rng = np.random.default_rng(1)
    promotions, false = np.zeros(LIVES, dtype=np.int64), np.zeros(LIVES, dtype=np.int64)
    luck = binary(rng, LIVES, 200, 0.0, 0.3)
    for number in range(1, 41):
        is_better = rng.random(LIVES) < better
        null = luck if same_luck else binary(rng, LIVES, 200, 0.0, 0.3)
        differences = np.where(is_better[:, None], binary(rng, LIVES, 200, 0.15, 0.3), null)
        alpha = np.array([level(number, before) for before in promotions.tolist()])
        accepted = decide_all(differences, GateSpec(alpha=0.10, n_max=200), alpha).accepted
        false += accepted & ~is_better
        promotions += accepted
    return Lives(promotions, false)


def test_as_long_as_nothing_is_better_a_whole_life_of_a_split_rarely_promotes_anything():
    assert (lives(0.0, ours).promotions > 0).mean() <= at_most(0.10, LIVES)
    assert (lives(0.0, lambda number, promotions: 0.05).promotions > 0).mean() > 0.6


@pytest.mark.parametrize("same_luck", [False, True])
def test_of_what_is_promoted_at_most_the_declared_share_is_no_better(same_luck: bool):
    found = lives(0.1, ours, same_luck=same_luck)
    assert found.promotions.mean() > 3  # of the four or so that are better
    assert found.false_share.mean() <= at_most(0.10, LIVES)


def test_at_ten_percent_a_test_four_in_ten_promotions_are_no_better():
    assert lives(0.1, lambda number, promotions: 0.10).false_share.mean() > 0.35
