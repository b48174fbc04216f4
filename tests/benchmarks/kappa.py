"""How often do intervals for Cohen's kappa cover it, and how wide are they? Ours, and Fleiss' large-sample error.

Run: ``python -m tests.benchmarks.kappa``
"""

import itertools
import math

import numpy as np

from harness.agreement import kappa, kappa_interval

SAMPLES = 500
SIZES = (20, 50, 100, 200)
SHARES = (0.5, 0.8, 0.9)
"""Of outputs that pass, for the judge as for people."""
KAPPAS = (0.0, 0.4, 0.8, 0.95)
Z = 1.6449


def cells_with(share: float, wanted: float) -> list[float]:
    """The chances of the four cells."""
    expected = share**2 + (1 - share) ** 2
    both = (wanted * (1 - expected) + expected - 1 + 2 * share) / 2
    return [both, share - both, share - both, 1 - 2 * share + both]


def pairs_of(table: list[int]) -> list[tuple[bool, bool]]:
    kinds = [(True, True), (True, False), (False, True), (False, False)]
    return [kind for kind, count in zip(kinds, table, strict=True) for _ in range(count)]


def fleiss(table: list[int]) -> tuple[float, float] | None:
    """Fleiss, Cohen and Everitt, "Large sample standard errors of kappa and weighted kappa", 1969."""
    n = sum(table)
    a, b, c, d = (count / n for count in table)
    judge, people = (a + b, c + d), (a + c, b + d)
    expected = judge[0] * people[0] + judge[1] * people[1]
    if expected >= 1:
        return None
    k = (a + d - expected) / (1 - expected)
    same = sum(p * (1 - (judge[i] + people[i]) * (1 - k)) ** 2 for i, p in enumerate((a, d)))
    other = (1 - k) ** 2 * (b * (people[0] + judge[1]) ** 2 + c * (people[1] + judge[0]) ** 2)
    error = math.sqrt(max(same + other - (k - expected * (1 - k)) ** 2, 0.0) / n) / (1 - expected)
    return k - Z * error, k + Z * error


def main() -> None:
    rng = np.random.default_rng(1)
    print(f"90 % intervals, {SAMPLES} samples each: share that covers, mean width (in brackets Fleiss')")
    print("| n | pass | kappa | covers | width |\n|---:|---:|---:|---|---|")
    every: list[tuple[float, float]] = []
    for n, share, true in itertools.product(SIZES, SHARES, KAPPAS):
        ours: list[tuple[float, float]] = []
        theirs: list[tuple[float, float]] = []
        for table in rng.multinomial(n, np.clip(cells_with(share, true), 0, 1), SAMPLES).tolist():
            if kappa(pairs_of(table)) is not None:  # elsewhere no interval is shown
                ours.append(kappa_interval(pairs_of(table)))
                theirs.append(fleiss(table) or (math.nan, math.nan))
        covers = [float(np.mean([low <= true <= high for low, high in found])) for found in (ours, theirs)]
        widths = [float(np.nanmean([high - low for low, high in found])) for found in (ours, theirs)]
        every.append((covers[0], covers[1]))
        print(
            f"| {n} | {share} | {true} | {covers[0]:.3f} ({covers[1]:.3f}) | {widths[0]:.2f} ({widths[1]:.2f}) |",
            flush=True,
        )
    for name, found in zip(("ours", "Fleiss'"), zip(*every, strict=True), strict=True):
        print(f"{name}: from {min(found):.3f} to {max(found):.3f}, mean {np.mean(found):.3f} over {len(found)} cases")


if __name__ == "__main__":
    main()
