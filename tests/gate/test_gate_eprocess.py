import copy
import json
import math
import pickle
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.gate import DeadlineE
from tests.gate.checks import PROCESS_CHECKS, NewProcess, Null, Past

in_range = st.one_of(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-1, 1))


@st.composite
def pasts(draw: st.DrawFn) -> Past:
    """Any history, however unlikely."""
    history = draw(st.lists(in_range, max_size=60))
    return Past(
        history=tuple(history),
        n_max=len(history) + draw(st.integers(1, 200)),
        alpha=draw(st.one_of(st.sampled_from([0.05, 0.0125, 0.3]), st.floats(1e-4, 0.99))),
        v0=draw(st.one_of(st.just(0.2), st.floats(1e-6, 1))),
    )


nulls = st.builds(Null, win=st.floats(1e-6, 1), loss=st.floats(1e-6, 1), shortfall=st.sampled_from([0.0, 0.1, 1.0]))


@pytest.mark.parametrize("check", PROCESS_CHECKS, ids=lambda check: check.__name__)
def test_any_past_and_any_two_point_null_hold(check: Callable[[NewProcess, Past, Null], None]):
    @settings(max_examples=150, deadline=None)
    @given(pasts(), nulls)
    def holds(past: Past, null: Null) -> None:
        check(DeadlineE, past, null)

    holds()


@given(pasts())
@settings(max_examples=50, deadline=None)
def test_resumed_at_any_difference_it_is_in_the_same_state_as_one_that_ran_through(past: Past):
    whole = past.lived(DeadlineE)
    for cut in range(len(past.history) + 1):
        kept = json.loads(json.dumps(past.history[:cut]))
        replayed = Past(tuple(kept), past.n_max, past.alpha, past.v0).lived(DeadlineE)
        for process in (replayed, copy.copy(replayed), pickle.loads(pickle.dumps(replayed))):
            for d in past.history[cut:]:
                process.update(d)
            assert (process.wealth, process.n, process.bet()) == (whole.wealth, whole.n, whole.bet())


@given(pasts(), st.floats(-1, 1), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_power_is_a_probability_that_grows_with_the_effect(past: Past, effect: float, more: float):
    process = past.lived(DeadlineE)
    assert 0 <= process.conditional_power(effect) <= process.conditional_power(effect + more) <= 1


@given(pasts())
@settings(max_examples=100, deadline=None)
def test_without_an_effect_the_power_is_the_price_of_the_option(past: Past):
    process = past.lived(DeadlineE)
    u = min(max(process.wealth * past.alpha / 1.05, 1e-12), 1)
    assert process.conditional_power(0.0) == pytest.approx(u, rel=1e-9, abs=1e-13)


def test_at_the_deadline_the_power_is_certainty_of_what_happened():
    proven, unproven = DeadlineE(0.4, 2), DeadlineE(0.4, 2)
    for d in (1.0, 1.0):
        proven.update(d)
        unproven.update(-d)
    assert proven.wealth >= 1 / 0.4
    assert proven.conditional_power(0.0) == 1
    assert unproven.conditional_power(1.0) == 0


def test_with_the_price_of_certainty_in_hand_it_stops_betting():
    process = DeadlineE(0.05, 400)
    while process.wealth < 1.05 / 0.05:
        process.update(1.0)
    won = process.wealth
    assert process.remaining > 0
    assert process.bet() == 0
    assert process.conditional_power(-1.0) == 1
    process.update(-1.0)
    assert process.wealth == won


def test_wealth_lost_beyond_recovery_still_has_a_finite_bet():
    process = DeadlineE(0.05, 2000)
    for _ in range(1999):
        process.update(-1.0)
    assert 0 <= process.wealth < 1e-12
    assert 0 < process.bet() <= 0.95
    assert math.isfinite(process.conditional_power(1.0))


def test_the_smallest_variance_that_is_allowed_keeps_the_bet_at_its_cap():
    assert DeadlineE(0.05, 1, v0=1e-9).bet() == 0.95


def test_one_difference_is_a_test_too():
    process = DeadlineE(0.6, 1)
    process.update(1.0)
    assert process.wealth >= 1 / 0.6
    assert process.bet() == 0


@pytest.mark.parametrize("alpha", [0, -0.1, 1, 1e-13, math.nan, math.inf])
def test_an_alpha_that_is_no_error_rate_is_refused(alpha: float):
    with pytest.raises(ValueError, match="alpha"):
        DeadlineE(alpha, 10)


@pytest.mark.parametrize("n_max", [0, -1, 2.5, math.nan, math.inf, 10.0])
def test_a_deadline_that_is_no_number_of_differences_is_refused(n_max: int):
    with pytest.raises(ValueError, match="n_max"):
        DeadlineE(0.05, n_max)


@pytest.mark.parametrize("v0", [0, -0.2, 1.1, math.nan, math.inf])
def test_a_variance_that_differences_cannot_have_is_refused(v0: float):
    with pytest.raises(ValueError, match="v0"):
        DeadlineE(0.05, 10, v0)
