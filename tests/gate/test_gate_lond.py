import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.gate.lond import HorizonPassed, alpha_for


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
