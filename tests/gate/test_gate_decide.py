import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.gate import DeadlineE, GateSpec, decide
from harness.gate.eprocess import looks, provable_gain
from harness.gate.simulate import binary, decide_all
from tests.gate.checks import DECISION_CHECKS, Decide

in_range = st.one_of(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-1, 1))

specs = st.builds(
    GateSpec,
    alpha=st.one_of(st.sampled_from([0.05, 0.3]), st.floats(1e-4, 0.99)),
    n_max=st.integers(1, 60),
    min_gain=st.sampled_from([0.0, 0.03, 0.2]),
    futility=st.sampled_from([0.0, 0.1, 0.5]),
    n_min=st.integers(1, 70),
    batch=st.integers(1, 25),
    v0=st.sampled_from([0.01, 0.2, 1.0]),
)


@st.composite
def declared_tests(draw: st.DrawFn) -> tuple[list[float], GateSpec]:
    spec = draw(specs)
    return draw(st.lists(in_range, max_size=spec.n_max)), spec


@pytest.mark.parametrize("check", DECISION_CHECKS, ids=lambda check: check.__name__)
def test_any_differences_and_any_spec_hold(check: Callable[[Decide, Sequence[float], GateSpec], None]):
    @settings(max_examples=150, deadline=None)
    @given(declared_tests())
    def holds(test: tuple[list[float], GateSpec]) -> None:
        check(decide, *test)

    holds()


def test_looks_come_after_each_batch_and_at_the_deadline():
    assert list(looks(GateSpec(alpha=0.05, n_max=45))) == [10, 20, 30, 40, 45]
    assert list(looks(GateSpec(alpha=0.05, n_max=40))) == [10, 20, 30, 40]
    assert list(looks(GateSpec(alpha=0.05, n_max=40, n_min=15))) == [20, 30, 40]
    assert list(looks(GateSpec(alpha=0.05, n_max=40, n_min=1, batch=16))) == [16, 32, 40]


def test_a_deadline_before_the_first_look_is_the_only_look():
    assert list(looks(GateSpec(alpha=0.05, n_max=7))) == [7]
    assert decide([-1.0] * 6, GateSpec(alpha=0.05, n_max=7)).verdict == "continue"
    assert decide([-1.0] * 7, GateSpec(alpha=0.05, n_max=7)).verdict == "undecided"
    assert decide([1.0] * 7, GateSpec(alpha=0.05, n_max=7)).verdict == "accept"


def test_a_test_of_one_cluster_can_be_decided_where_alpha_is_large():
    assert decide([1.0], GateSpec(alpha=0.6, n_max=1)).verdict == "accept"
    assert decide([-1.0], GateSpec(alpha=0.6, n_max=1)).verdict == "undecided"
    assert decide([1.0], GateSpec(alpha=0.05, n_max=1)).verdict == "undecided"
    assert decide([], GateSpec(alpha=0.6, n_max=1)).verdict == "continue"


def test_wealth_of_exactly_the_threshold_is_proof_and_a_millionth_less_is_not():
    spec = GateSpec(alpha=0.6, n_max=1)
    enough = (1 / 0.6 - 1) / DeadlineE(0.6, 1).bet()
    assert decide([enough * (1 + 1e-15)], spec).verdict == "accept"
    assert decide([enough * (1 - 1e-6)], spec).verdict == "undecided"


def test_before_the_first_difference_the_power_is_for_the_least_detectable_effect():
    verdict = decide([], GateSpec(alpha=0.05, n_max=200))
    assert (verdict.verdict, verdict.n, verdict.e_value, verdict.gain_at_stop) == ("continue", 0, 1.0, None)
    assert verdict.conditional_power == pytest.approx(0.80, abs=0.001)


def test_losing_everything_is_rejected_at_the_first_look():
    verdict = decide([-1.0] * 50, GateSpec(alpha=0.05, n_max=200))
    assert (verdict.verdict, verdict.n, verdict.gain_at_stop) == ("reject", 10, -1.0)


def test_winning_everything_is_accepted_well_before_the_deadline():
    verdict = decide([1.0] * 50, GateSpec(alpha=0.05, n_max=200))
    assert (verdict.verdict, verdict.n, verdict.gain_at_stop) == ("accept", 40, 1.0)


def test_ties_alone_decide_nothing_and_nothing_would_settle_them():
    verdict = decide([0.0] * 100, GateSpec(alpha=0.05, n_max=100))
    assert (verdict.verdict, verdict.e_value, verdict.n) == ("undecided", 1.0, 100)
    assert verdict.tasks_to_settle is None


def test_without_futility_it_never_gives_up():
    assert decide([-1.0] * 50, GateSpec(alpha=0.05, n_max=51, futility=0.0)).verdict == "continue"


def test_a_loss_is_not_settled_by_any_number_of_tasks():
    assert decide([-0.1] * 50, GateSpec(alpha=0.05, n_max=50, futility=0.0)).tasks_to_settle is None


def test_a_gain_of_rounding_errors_is_not_settled_by_any_number_of_tasks():
    verdict = decide([0.1, 0.2, -0.3, 1e-17], GateSpec(alpha=0.05, n_max=4))
    assert verdict.gain_at_stop is not None
    assert 0 < verdict.gain_at_stop < 1e-15
    assert verdict.tasks_to_settle is None


def test_tasks_to_settle_is_enough_to_settle_most_tests_of_that_gain():
    wins, losses, ties = 16, 8, 76
    verdict = decide([0.0] * ties + [-1.0] * losses + [1.0] * wins, GateSpec(alpha=0.05, n_max=100, futility=0.0))
    assert verdict.verdict == "undecided"
    assert verdict.gain_at_stop == pytest.approx(0.08)
    assert verdict.tasks_to_settle is not None

    more = 100 + verdict.tasks_to_settle
    rng = np.random.default_rng(5)
    power = decide_all(binary(rng, 4000, more, 0.08, 0.24), GateSpec(alpha=0.05, n_max=more)).accepted.mean()
    assert 0.75 < power < 0.97


def test_where_alpha_is_as_large_as_the_power_one_more_task_settles_any_gain():
    verdict = decide([1e-150], GateSpec(alpha=0.9, n_max=1))
    assert (verdict.verdict, verdict.tasks_to_settle) == ("undecided", 1)


def test_the_provable_gain_shrinks_with_more_clusters():
    assert provable_gain(0.24, 200, 0.05) == pytest.approx(0.108, abs=0.002)
    assert provable_gain(0.24, 800, 0.05) == pytest.approx(provable_gain(0.24, 200, 0.05) / 2)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, 1.01, -1.01])
def test_a_wrong_difference_is_refused_wherever_it_stands(wrong: float):
    for differences in ([wrong], [1.0] * 199 + [wrong]):
        with pytest.raises(ValueError, match="not between -1 and 1"):
            decide(differences, GateSpec(alpha=0.05, n_max=200))


def test_more_differences_than_were_declared_are_refused():
    with pytest.raises(ValueError, match="declared to end after 200"):
        decide([1.0] * 201, GateSpec(alpha=0.05, n_max=200))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("alpha", 0.0),
        ("alpha", 1.0),
        ("alpha", math.nan),
        ("n_max", 0),
        ("n_max", 1.5),
        ("min_gain", -0.01),
        ("min_gain", 1.01),
        ("min_gain", math.nan),
        ("futility", -0.1),
        ("futility", 1.0),
        ("futility", math.nan),
        ("n_min", 0),
        ("n_min", 2.5),
        ("batch", 0),
        ("batch", math.inf),
        ("v0", 0.0),
        ("v0", 1.5),
    ],
)
def test_a_spec_that_no_test_could_follow_is_refused(field: str, value: float):
    good: dict[str, float] = {"alpha": 0.05, "n_max": 200}
    with pytest.raises(ValueError, match=field):
        GateSpec(**{**good, field: value})  # pyright: ignore[reportArgumentType]  # that is the point
