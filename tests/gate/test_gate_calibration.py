"""The figures that a correct implementation reaches, by simulation."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from harness.gate import DeadlineE, GateSpec
from harness.gate.simulate import Floats, binary, decide_all, graded, rare_catastrophe, wealth_paths
from tests.gate import checks
from tests.gate.checks import at_most

PATHS = 20_000

NULLS: list[Callable[[np.random.Generator, int, int], Floats]] = [
    lambda rng, paths, n: binary(rng, paths, n, 0.0, 0.17),
    rare_catastrophe,
    graded,
]


@pytest.mark.parametrize("null", NULLS, ids=["binary", "rare catastrophe", "graded"])
@pytest.mark.parametrize("n", [50, 200])
def test_identical_versions_are_accepted_no_oftener_than_declared(
    null: Callable[[np.random.Generator, int, int], Floats], n: int
):
    differences = null(np.random.default_rng(1), PATHS, n)
    for alpha in (0.05, 0.0125):
        wealth = wealth_paths(differences, alpha)
        at_the_looks = decide_all(differences, GateSpec(alpha=alpha, n_max=n)).accepted.mean()
        watched_all_the_time = (wealth.max(axis=1) >= 1 / alpha).mean()

        assert at_the_looks <= watched_all_the_time <= at_most(alpha, PATHS)


def test_ten_points_are_found_three_times_in_four():
    outcomes = decide_all(binary(np.random.default_rng(2), PATHS, 200, 0.10, 0.24), GateSpec(alpha=0.05, n_max=200))
    assert outcomes.accepted.mean() >= 0.75


def test_a_null_candidate_costs_about_half_of_the_tasks_and_a_harmful_one_a_quarter():
    rng = np.random.default_rng(3)
    spec = GateSpec(alpha=0.05, n_max=200)
    assert decide_all(binary(rng, PATHS, 200, 0.0, 0.17), spec).n.mean() == pytest.approx(95, abs=3)
    assert decide_all(binary(rng, PATHS, 200, -0.05, 0.17), spec).n.mean() == pytest.approx(51, abs=3)


def test_simulated_wealth_is_that_of_the_process_path_by_path():
    rng = np.random.default_rng(4)
    for differences in (binary(rng, 40, 90, 0.1, 0.3), rare_catastrophe(rng, 40, 90), graded(rng, 40, 90, 0.2)):
        for alpha, v0 in ((0.05, 0.2), (0.0125, 0.02), (0.3, 1.0)):
            simulated = wealth_paths(differences, alpha, v0)
            for path, expected in zip(differences.tolist(), simulated, strict=True):
                process = DeadlineE(alpha, 90, v0)
                for d, wealth in zip(path, expected, strict=True):
                    process.update(d)
                    assert math.isclose(process.wealth, wealth, rel_tol=1e-12, abs_tol=1e-12)


@pytest.mark.parametrize(
    "spec",
    [
        GateSpec(alpha=0.05, n_max=95),
        GateSpec(alpha=0.3, n_max=95, min_gain=0.1, futility=0.3, n_min=25, batch=20, v0=0.5),
    ],
)
def test_simulated_decisions_are_those_of_decide_path_by_path(spec: GateSpec):
    rng = np.random.default_rng(5)
    differences = np.vstack([binary(rng, 150, 95, gain, 0.3) for gain in (-0.1, 0.0, 0.1, 0.2)])
    checks.simulated_decisions_are_those_of_decide(differences, spec)
