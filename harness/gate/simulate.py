"""Many tests at once: what the gate would say of differences that we make up, to see its error rates and its power."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from harness.gate.eprocess import CAP, OVERSHOOT, PRIOR_WEIGHT, U_FLOOR, Z_80, Z_90, GateSpec, looks

Floats = NDArray[np.float64]


def wealth_paths(differences: Floats, alpha: float, v0: float = 0.2, cap: float = CAP) -> Floats:
    """The wealth of one test a row after each of its differences; the deadline is the last column.

    The same numbers as ``DeadlineE``, path by path. *cap* is for a test of another mean than 0, whose differences
    can fall below -1.
    """
    paths, n_max = differences.shape
    wealth = np.ones(paths)
    squares = np.full(paths, PRIOR_WEIGHT * v0)
    after = np.empty_like(differences)
    for n in range(n_max):
        d = differences[:, n]
        u = np.maximum(wealth * alpha / OVERSHOOT, U_FLOOR)
        betting = u < 1
        density = np.exp(-(ndtri(np.where(betting, u, 0.5)) ** 2) / 2) / np.sqrt(2 * np.pi)
        variance = squares / (n + PRIOR_WEIGHT)
        bet = np.minimum(density / (u * np.sqrt((n_max - n) * variance)), cap)
        wealth = wealth * (1 + np.where(betting, bet, 0) * d)
        squares = squares + d * d
        after[:, n] = wealth
    return after


@dataclass(frozen=True)
class Outcomes:
    """How each of many tests ended."""

    accepted: NDArray[np.bool_]
    rejected: NDArray[np.bool_]
    """Neither: undecided at the deadline."""
    n: NDArray[np.int64]
    """Clusters used."""
    gain_at_stop: Floats


def decide_all(differences: Floats, spec: GateSpec) -> Outcomes:
    """``decide`` for each row of *differences*, which holds ``n_max`` of them."""
    if differences.shape[1] != spec.n_max:
        raise ValueError(f"{differences.shape[1]} differences a test that is declared to end after {spec.n_max}")
    paths = len(differences)
    wealth = wealth_paths(differences, spec.alpha, spec.v0)
    sums = differences.cumsum(axis=1)
    squares = (differences * differences).cumsum(axis=1)
    z_alpha = -float(ndtri(spec.alpha / OVERSHOOT))
    accepted = np.zeros(paths, dtype=bool)
    rejected = np.zeros(paths, dtype=bool)
    stop = np.full(paths, spec.n_max)
    for n in looks(spec):
        running = ~(accepted | rejected)
        w = wealth[:, n - 1]
        won = running & (w >= 1 / spec.alpha)
        lost = np.zeros(paths, dtype=bool)
        if n < spec.n_max:
            variance = (squares[:, n - 1] + PRIOR_WEIGHT * spec.v0) / (n + PRIOR_WEIGHT)
            detectable = np.maximum(spec.min_gain, (Z_80 + z_alpha) * np.sqrt(variance / spec.n_max))
            likely = sums[:, n - 1] / n + Z_90 * np.sqrt(variance / n)
            effect = np.maximum(spec.min_gain, np.minimum(detectable, likely))
            u = np.clip(w * spec.alpha / OVERSHOOT, U_FLOOR, 1)
            power = ndtr(ndtri(u) + effect * np.sqrt((spec.n_max - n) / variance))
            lost = running & ~won & (power < spec.futility)
        accepted |= won
        rejected |= lost
        stop[won | lost] = n
    return Outcomes(accepted, rejected, stop, sums[np.arange(paths), stop - 1] / stop)


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
