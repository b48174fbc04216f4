"""Many tests at once: what the gate would say of differences that we make up, to see its error rates and its power."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from harness.gate.eprocess import CAP, OVERSHOOT, PRIOR_WEIGHT, U_FLOOR, Z_80, Z_90, looks, over_margin
from traces.records import GateSpec

Floats = NDArray[np.float64]
ROOT_2_PI = float(np.sqrt(2 * np.pi))


def wealth_paths(differences: Floats, alpha: float | Floats, v0: float | Floats = 0.2, cap: float = CAP) -> Floats:
    """The wealth of one test a row after each of its differences; the deadline is the last column.

    The same numbers as ``DeadlineE``, path by path. *alpha* and *v0*: one for all tests, or one for each. *cap* is for
    a test of another mean than 0, whose differences can fall below -1.
    """
    paths, n_max = differences.shape
    wealth = np.ones(paths)
    squares = np.broadcast_to(np.asarray(PRIOR_WEIGHT * v0, dtype=np.float64), paths)
    after = np.empty_like(differences)
    for n in range(n_max):
        wealth, squares = step(wealth, squares, differences[:, n], n, n_max, alpha, cap)
        after[:, n] = wealth
    return after


def step(
    wealth: Floats, squares: Floats, d: Floats, n: int, n_max: int, alpha: float | Floats, cap: float = CAP
) -> tuple[Floats, Floats]:
    """Wealth and sum of squares, ``v0`` counted in, after difference *d*, which *n* others came before."""
    u = np.maximum(wealth * alpha / OVERSHOOT, U_FLOOR)
    betting = u < 1
    density = np.exp(-(ndtri(np.where(betting, u, 0.5)) ** 2) / 2) / ROOT_2_PI
    variance = squares / (n + PRIOR_WEIGHT)
    bet = np.minimum(density / (u * np.sqrt((n_max - n) * variance)), cap)
    return wealth * (1 + np.where(betting, bet, 0) * d), squares + d * d


@dataclass(frozen=True)
class Outcomes:
    """How each of many tests ended."""

    accepted: NDArray[np.bool_]
    rejected: NDArray[np.bool_]
    """Neither: undecided at the deadline."""
    n: NDArray[np.int64]
    """Clusters used."""
    gain_at_stop: Floats


def decide_all(differences: Floats, spec: GateSpec, alpha: Floats | None = None, v0: Floats | None = None) -> Outcomes:
    """``decide`` for each row of *differences*, which holds ``n_max`` of them.

    *alpha*, *v0*: one for each row, instead of that of the *spec*.
    """
    if differences.shape[1] != spec.n_max:
        raise ValueError(f"{differences.shape[1]} differences a test that is declared to end after {spec.n_max}")
    paths = len(differences)
    rows = np.arange(paths)  # still running
    d = (differences + spec.margin) / (1 + spec.margin) if spec.margin else differences
    columns = np.ascontiguousarray(d.T)  # they are read one by one
    alpha = np.full(paths, spec.alpha) if alpha is None else alpha
    z_alpha = -ndtri(alpha / OVERSHOOT)
    least = over_margin(spec.min_gain, spec.margin)
    wealth, sums = np.ones(paths), np.zeros(paths)
    squares = PRIOR_WEIGHT * (np.full(paths, spec.v0) if v0 is None else v0)
    accepted = np.zeros(paths, dtype=bool)
    rejected = np.zeros(paths, dtype=bool)
    stop = np.full(paths, spec.n_max)
    seen = 0
    for n in looks(spec):
        for k in range(seen, n):
            column = columns[k, rows]
            sums = sums + column
            wealth, squares = step(wealth, squares, column, k, spec.n_max, alpha)
        seen = n
        won = wealth >= 1 / alpha
        lost = np.zeros(len(rows), dtype=bool)
        if n < spec.n_max:
            variance = squares / (n + PRIOR_WEIGHT)
            detectable = np.maximum(least, np.maximum(Z_80 + z_alpha, 0) * np.sqrt(variance / spec.n_max))
            likely = sums / n + Z_90 * np.sqrt(variance / n)
            effect = np.maximum(least, np.minimum(detectable, likely))
            u = np.clip(wealth * alpha / OVERSHOOT, U_FLOOR, 1)
            power = ndtr(ndtri(u) + effect * np.sqrt((spec.n_max - n) / variance))
            lost = ~won & (power < spec.futility)
        accepted[rows[won]] = True
        rejected[rows[lost]] = True
        stop[rows[won | lost]] = n
        go_on = ~(won | lost)
        if not go_on.any():
            break
        rows, alpha, z_alpha = rows[go_on], alpha[go_on], z_alpha[go_on]
        wealth, sums, squares = wealth[go_on], sums[go_on], squares[go_on]
    gains = differences.cumsum(axis=1)[np.arange(paths), stop - 1] / stop
    return Outcomes(accepted, rejected, stop, gains)


def binary(rng: np.random.Generator, paths: int, n: int, gain: float, discordant: float) -> Floats:
    """Differences of two 0-or-1 scores: wins less losses are *gain* of all pairs, wins and losses *discordant*."""
    u = rng.random((paths, n))
    wins = (discordant + gain) / 2
    return (u < wins).astype(float) - ((u >= wins) & (u < discordant))


def rare_catastrophe(rng: np.random.Generator, paths: int, n: int) -> Floats:
    """A little better nearly always, and once in twenty a disaster that undoes it: no gain on average."""
    return np.where(rng.random((paths, n)) < 0.95, 0.05, -0.95)


def graded(rng: np.random.Generator, paths: int, n: int, gain: float = 0.0) -> Floats:
    """Differences of two rubric scores, each spread over most of [0, 1]."""
    a, b = rng.beta(2, 2, (2, paths, n))
    return np.clip(a - b + gain, -1, 1)
