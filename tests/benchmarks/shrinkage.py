"""Does the interval of a shrinkage cover as promised, where clusters are few and failures rare? As a Markdown table.

    uv run python -m tests.benchmarks.shrinkage [DRAWS]

By default 20,000 simulated pairs of measurements a row: about a minute. Everything is seeded. Beside ours stands what
one would reach for first: plain Student's t on the differences by cluster, and for a trial a side the interval of
Agresti and Min (Statistics in Medicine 24 (2005) 729), which counts half a pair of each kind in.

A second table tells how far a failure seems to shrink that was chosen because it stood out.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import product
from math import inf, sqrt
from statistics import NormalDist, fmean, stdev

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit
from scipy.stats import binomtest

from analysis.shrinkage import CONFIDENCE, FEWEST
from harness.gate import GateSpec, decide
from harness.gate.confidence import mean_interval

SIZES = (5, 10, 20, 40, 100)
RATES = ((0.02, 0.02), (0.10, 0.02), (0.10, 0.10), (0.30, 0.10), (0.50, 0.50))
"""Before and after."""
KINDS = ((1, 0.0), (1, 0.7), (3, 0.3))
"""Trials of a cluster on each side, and the chance of each to go as its cluster goes."""

Interval = tuple[float, float]
Method = Callable[[tuple[float, ...]], Interval]


@cache
def ours(changes: tuple[float, ...]) -> Interval:
    return mean_interval(changes, CONFIDENCE) if len(changes) >= FEWEST else (-1.0, 1.0)


@cache
def students(changes: tuple[float, ...]) -> Interval:
    middle, n = fmean(changes), len(changes)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * stdev(changes) / sqrt(n)
    return middle - half, middle + half


@cache
def agresti_min(changes: tuple[float, ...]) -> Interval:
    n = len(changes) + 2
    up, down = (sum(change == end for change in changes) + 0.5 for end in (1, -1))
    middle = (up - down) / n
    half = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * sqrt((up + down) / n - middle**2) / sqrt(n)
    return middle - half, middle + half


def drawn(
    rng: np.random.Generator, draws: int, n: int, rates: Interval, trials: int, alike: float
) -> list[tuple[float, ...]]:
    """The differences by cluster of each draw, sorted: their order says nothing, and so the same come up again.

    A cluster has a luck of its own, the same before and after; each trial goes by it with the chance *alike*, or else
    by a luck of its own.
    """
    luck = rng.random((draws, n, 1))
    sides: list[NDArray[np.float64]] = []
    for rate in rates:
        own = rng.random((draws, n, trials))
        used = np.where(rng.random((draws, n, trials)) < alike, luck, own)
        sides.append((used < rate).mean(axis=2))
    return [tuple(row) for row in np.sort(np.round(sides[1] - sides[0], 9), axis=1).tolist()]


def covers(found: Sequence[Interval], truth: float) -> str:
    """The share of intervals that hold the truth, with its own 95 % interval; and their mean width."""
    return f"{shown(held(found, truth), len(found))}, {fmean(high - low for low, high in found):.2f}"


def held(found: Sequence[Interval], truth: float) -> int:
    return sum(low - 1e-12 <= truth <= high + 1e-12 for low, high in found)


def rows(draws: int) -> Iterator[tuple[str, float]]:
    """Lines of the table, each with the coverage of ours."""
    rng = np.random.default_rng(1)
    for (trials, alike), rates, n in product(KINDS, RATES, SIZES):
        samples, truth = drawn(rng, draws, n, rates, trials, alike), rates[1] - rates[0]
        found = [ours(changes) for changes in samples]
        cells = [covers(found, truth), covers([students(changes) for changes in samples], truth)]
        cells.append(covers([agresti_min(changes) for changes in samples], truth) if trials == 1 else "")
        sure = sum(low > 0 or high < 0 for low, high in found) / draws
        name = f"{n} clusters, {trials} trials a side, alike {alike:.0%}, {rates[0]:.0%} → {rates[1]:.0%}"
        yield f"| {name} | {' | '.join(cells)} | {sure:.3f} |", held(found, truth) / draws


def chosen_by_size(rng: np.random.Generator, draws: int, n: int, share: float, kinds: int) -> str:
    """A change that changes nothing, and answers the most frequent of so many failures that are all equally frequent.

    How often does the failure that it answers seem rarer, how often one that was not chosen; and how often does the
    first where a gate as loose as those of the loop keeps the change?
    """
    rates = np.array([share] * kinds + [1 - share * kinds])
    spec = GateSpec(alpha=0.3, n_max=n)
    rarer = np.zeros((draws, 3), dtype=bool)
    for draw in range(draws):
        before, after = rng.choice(kinds + 1, size=(2, n), p=rates)
        counts = np.bincount(before, minlength=kinds + 1)[:kinds]
        gains = ((before < kinds) * 1.0 - (after < kinds)).tolist()
        for column, kind in enumerate((int(counts.argmax()), int(rng.integers(kinds)))):
            changes = np.sort((after == kind) * 1.0 - (before == kind)).tolist()
            rarer[draw, column] = ours(tuple(changes))[1] < 0
        rarer[draw, 2] = decide(gains, spec).verdict == "accept"
    kept = rarer[rarer[:, 2]]
    shares = [shown(int(c.sum()), len(c)) for c in (rarer[:, 0], rarer[:, 1], kept[:, 0])]
    return f"| {n} tasks, {kinds} failures of {share:.0%} each | {' | '.join(shares)} |"


def shown(hits: int, of: int) -> str:
    own = binomtest(hits, of).proportion_ci(0.95)
    return f"{hits / of:.3f} [{own.low:.3f}, {own.high:.3f}]"


def main(draws: int) -> None:
    print(f"{draws:,} draws a row: share of 90 % intervals that hold the true change [95 % interval], mean width\n")
    print("| what | ours | Student's t | Agresti and Min | ours exclude 0 |\n|---|---|---|---|---|")
    worst = inf
    for line, coverage in rows(draws):
        print(line, flush=True)
        worst = min(worst, coverage)
    print(f"\nThe least coverage of ours: {worst:.3f}\n")
    print("Nothing changes, and the failure that is answered was mined from the trials of before: it seems rarer in\n")
    print("| what | the one chosen | one at random | the one chosen, in kept changes |\n|---|---|---|---|")
    rng = np.random.default_rng(2)
    for n, share, kinds in ((40, 0.05, 8), (100, 0.05, 8), (100, 0.20, 3)):
        print(chosen_by_size(rng, draws, n, share, kinds), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
