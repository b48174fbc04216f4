import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.gate import GateSpec
from harness.gate.confidence import confidence_sequence, mean_interval, refutes, score_interval
from harness.gate.eprocess import CAP
from harness.gate.simulate import Floats, binary, graded, rare_catastrophe, wealth_paths
from tests.gate.checks import at_most

Population = Callable[[np.random.Generator, int, int], Floats]

POPULATIONS: list[tuple[str, Population, float]] = [
    ("ties mostly", lambda rng, paths, n: binary(rng, paths, n, 0.0, 0.17), 0.0),
    ("a gain", lambda rng, paths, n: binary(rng, paths, n, 0.10, 0.24), 0.10),
    ("a large gain", lambda rng, paths, n: binary(rng, paths, n, 0.45, 0.55), 0.45),
    ("rare catastrophe", rare_catastrophe, 0.0),
    ("graded", graded, 0.0),
]

of_population = pytest.mark.parametrize(
    ("population", "mean"), [p[1:] for p in POPULATIONS], ids=[p[0] for p in POPULATIONS]
)
differences = st.lists(st.one_of(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-1, 1)), max_size=40)


# ── watched while it is measured ───────────────────────────────────────────────────────────────────────────────


@of_population
def test_a_sequence_of_intervals_misses_the_mean_at_any_look_no_oftener_than_declared(
    population: Population, mean: float
):
    d = population(np.random.default_rng(1), 6000, 200)
    above = wealth_paths(d - mean, 0.05, cap=CAP / (1 + mean)).max(axis=1) >= 20
    below = wealth_paths(mean - d, 0.05, cap=CAP / (1 - mean)).max(axis=1) >= 20

    assert (above | below).mean() <= at_most(0.10, 6000)


def test_the_inverted_interval_misses_exactly_when_the_true_mean_is_refuted():
    rng = np.random.default_rng(2)
    missed = 0
    for path in binary(rng, 400, 100, 0.10, 0.24).tolist():
        low, high = confidence_sequence(path, 100)
        refuted = refutes(path, 0.10, GateSpec(alpha=0.05, n_max=100)) or refutes(
            [-d for d in path], -0.10, GateSpec(alpha=0.05, n_max=100)
        )
        if min(abs(low - 0.10), abs(high - 0.10)) > 1e-4:  # the resolution
            assert refuted == (not low <= 0.10 <= high)
        missed += not low <= 0.10 <= high
    assert missed / 400 <= at_most(0.10, 400)


@pytest.mark.parametrize("n", [8, 80])
def test_refuting_a_mean_is_the_simulated_e_process_on_what_exceeds_it(n: int):
    rng = np.random.default_rng(3)
    refuted: list[bool] = []
    for mean in (-0.8, -0.4, 0.0, 0.4, 0.8):
        for rise in (0.1, 0.4, 0.8):
            d = rng.uniform(max(-1.0, mean - 0.3), min(1.0, mean + rise), (100, n)).round(1)
            wealth = wealth_paths(d - mean, 0.3, v0=0.05, cap=CAP / (1 + mean))
            expected = [bool(most >= 1 / 0.3) for most in wealth.max(axis=1)]
            assert [refutes(path, mean, GateSpec(alpha=0.3, n_max=n, v0=0.05)) for path in d.tolist()] == expected
            refuted.extend(expected)
    assert 0.05 < np.mean(refuted) < 0.95


@given(differences, st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_a_larger_mean_is_harder_to_refute(d: list[float], later: int):
    spec = GateSpec(alpha=0.05, n_max=max(1, len(d) + later))
    refuted = [refutes(d, mean, spec) for mean in np.linspace(-0.99, 1, 60)]
    assert refuted == sorted(refuted, reverse=True)


@given(differences, st.integers(0, 60))
@settings(max_examples=30, deadline=None)
def test_a_sequence_is_in_range_and_mirrors_when_the_arms_change_places(d: list[float], later: int):
    n_max = max(1, len(d) + later)
    low, high = confidence_sequence(d, n_max)
    assert -1 <= low <= high <= 1
    assert confidence_sequence([-x for x in d], n_max) == (-high, -low)


def test_a_sequence_never_widens_and_starts_from_knowing_nothing():
    path = binary(np.random.default_rng(4), 1, 150, 0.2, 0.4)[0].tolist()
    intervals = [confidence_sequence(path[:n], 150) for n in range(0, 151, 10)]
    assert intervals[0] == (-1.0, 1.0)
    assert intervals[-1][0] > 0
    for (low, high), (later_low, later_high) in pairwise(intervals):
        assert low <= later_low <= later_high <= high


def test_a_mean_that_turned_round_gives_a_wide_interval_and_no_crossed_one():
    low, high = confidence_sequence([1.0] * 100 + [-1.0] * 100, 200)
    assert high - low > 0.5


def test_a_sequence_past_its_deadline_or_of_wrong_differences_is_refused():
    with pytest.raises(ValueError, match="declared to end after 5"):
        confidence_sequence([0.0] * 6, 5)
    with pytest.raises(ValueError, match="not between -1 and 1"):
        confidence_sequence([math.nan], 5)
    with pytest.raises(ValueError, match="confidence"):
        confidence_sequence([0.0], 5, confidence=1.0)


# ── of a fixed number of clusters ──────────────────────────────────────────────────────────────────────────────


@of_population
@pytest.mark.parametrize("n", [1, 2, 3, 5, 10, 20, 50, 200])
def test_the_interval_for_a_gain_covers_it(population: Population, mean: float, n: int):
    paths: list[list[float]] = population(np.random.default_rng(5), 1500, n).tolist()
    for confidence in (0.9, 0.95):
        intervals = [mean_interval(path, confidence) for path in paths]
        missed = np.mean([not low <= mean <= high for low, high in intervals])
        assert missed <= at_most(1 - confidence, 1500)


@pytest.mark.parametrize("n", [2, 5, 20, 50])
def test_the_interval_for_a_gain_allows_for_disasters_it_has_not_seen(n: int):
    rng = np.random.default_rng(6)
    noise = 0.01 * rng.standard_normal((1500, n))  # so that hardly two are equal
    paths: list[list[float]] = np.where(rng.random((1500, n)) < 0.95, 0.05 + noise, -0.95).tolist()
    intervals = [mean_interval(path, 0.9) for path in paths]
    assert np.mean([not low <= 0 <= high for low, high in intervals]) <= at_most(0.10, 1500)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("n", [1, 2, 5, 20, 50, 200])
def test_the_interval_for_a_score_covers_it(share: float, n: int):
    paths: list[list[float]] = (np.random.default_rng(7).random((1500, n)) < share).astype(float).tolist()
    intervals = [score_interval(path, 0.9) for path in paths]
    missed = np.mean([not low <= share <= high for low, high in intervals])
    assert missed <= at_most(0.12, 1500)  # whole numbers of successes: no such interval is at 0.10 for every share


@given(differences.filter(bool), st.floats(0.01, 0.99), st.floats(0, 0.009))
def test_an_interval_has_the_mean_inside_and_grows_with_confidence(d: list[float], confidence: float, more: float):
    low, high = mean_interval(d, confidence)
    assert -1 <= low <= math.fsum(d) / len(d) <= high <= 1
    assert low < high
    wider_low, wider_high = mean_interval(d, confidence + more)
    assert wider_low <= low
    assert wider_high >= high


def test_fifty_ties_are_no_proof_of_no_difference():
    low, high = mean_interval([0.0] * 50, 0.9)
    assert (low, high) == (pytest.approx(-0.0456, abs=1e-4), pytest.approx(0.0456, abs=1e-4))


def test_without_observations_the_interval_is_the_whole_range():
    assert mean_interval([], 0.9) == (-1.0, 1.0)
    assert score_interval([], 0.9) == (0.0, 1.0)


def test_a_perfect_score_has_a_lower_end_below_it():
    low, high = score_interval([1.0] * 20, 0.9)
    assert 0.8 < low < 0.95
    assert high == 1.0


def test_the_interval_of_a_hundred_pairs_is_close_to_students():
    d = [1.0] * 17 + [-1.0] * 7 + [0.0] * 76
    low, high = mean_interval(d, 0.9)
    students = 1.660 * math.sqrt((24 - 1.0) / 99) / 10
    assert (high - low) / 2 == pytest.approx(students, rel=0.05)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -0.01, 1.01])
def test_what_is_no_score_has_no_interval(wrong: float):
    with pytest.raises(ValueError, match="not between 0 and 1"):
        score_interval([0.5, wrong], 0.9)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 90, math.nan])
def test_what_is_no_confidence_is_refused(confidence: float):
    with pytest.raises(ValueError, match="confidence"):
        mean_interval([0.0], confidence)


def test_a_difference_out_of_range_has_no_interval():
    with pytest.raises(ValueError, match="not between -1 and 1"):
        mean_interval([1.5], 0.9)
