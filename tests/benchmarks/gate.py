"""The calibration of the gate, printed as Markdown tables: the test, whole nights, and the rules of peers beside ours.

    uv run python -m tests.benchmarks.gate [PATHS] [NIGHTS] [PEERS]              peers: what to type for them
    uv run --group peers python -m tests.benchmarks.gate [PATHS] [NIGHTS] [PEERS]

By default 100,000 simulated tests, 2,000 nights and 100 nights of the peers a row: a minute, a quarter of one, and on
two cores about ten. Everything of ours is seeded.
"""

import math
import sys
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from harness.gate import GateSpec, decide
from harness.gate.confidence import mean_interval
from harness.gate.eprocess import CAP
from harness.gate.simulate import Floats, binary, decide_all, graded, rare_catastrophe, wealth_paths
from tests.benchmarks import nights, peers

Row = tuple[str, str, str]


def main(paths: int) -> None:
    print(f"{paths:,} simulated tests a row, ± one standard error\n")
    print("| check | must hold | found |\n|---|---|---|")
    for name, target, found in rows(paths):
        print(f"| {name} | {target} | {found} |", flush=True)


def rows(paths: int) -> Iterator[Row]:
    yield from identical_versions(paths)
    yield from power(paths)
    yield from tasks_used(paths)
    yield from confidence_sequences(paths)
    yield from fixed_size_intervals(paths // 20)
    yield speed()


def identical_versions(paths: int) -> Iterator[Row]:
    rng = np.random.default_rng(1)
    for n in (50, 200):
        for name, differences in (
            ("binary, 17 % discordant", binary(rng, paths, n, 0.0, 0.17)),
            ("rare catastrophe", rare_catastrophe(rng, paths, n)),
            ("graded", graded(rng, paths, n)),
        ):
            for alpha in (0.05, 0.0125):
                at_looks = decide_all(differences, GateSpec(alpha=alpha, n_max=n)).accepted
                ever = wealth_paths(differences, alpha).max(axis=1) >= 1 / alpha
                yield (
                    f"A/A, {name}, n {n}, alpha {alpha}: accepted at looks; watched at every task, never giving up",
                    f"≤ {alpha + 3 * math.sqrt(alpha * (1 - alpha) / paths):.4f}",
                    f"{share(at_looks)}; {share(ever)}",
                )


def power(paths: int) -> Iterator[Row]:
    rng = np.random.default_rng(2)
    for gain, discordant, target in ((0.10, 0.24, "≥ .75"), (0.05, 0.17, "about .40")):
        differences = binary(rng, paths, 200, gain, discordant)
        outcomes = decide_all(differences, GateSpec(alpha=0.05, n_max=200))
        yield (
            f"power at +{100 * gain:.0f} points, {100 * discordant:.0f} % discordant, n 200, alpha .05",
            target,
            f"{share(outcomes.accepted)} (exact test of fixed size: {share(exact_test(differences, 0.05))})",
        )
        excess = outcomes.gain_at_stop[outcomes.accepted].mean() - gain
        yield (
            f"gain seen at acceptance less the true +{100 * gain:.0f}",
            "2 to 6 points at +5" if gain == 0.05 else "",
            f"{100 * excess:+.1f} points",
        )


def exact_test(differences: Floats, alpha: float) -> NDArray[np.bool_]:
    """McNemar's, one-sided: the wins among the discordant pairs against a fair coin."""
    wins = (differences > 0).sum(axis=1)
    discordant = (differences != 0).sum(axis=1)
    return np.asarray(binom.sf(wins - 1, discordant, 0.5) <= alpha)


def tasks_used(paths: int) -> Iterator[Row]:
    rng = np.random.default_rng(3)
    for gain, target in ((0.0, "about 95"), (-0.05, "about 51")):
        n = decide_all(binary(rng, paths, 200, gain, 0.17), GateSpec(alpha=0.05, n_max=200)).n
        yield (
            f"mean tasks used of 200 at {100 * gain:+.0f} points, 17 % discordant",
            target,
            f"{n.mean():.1f} ± {n.std() / math.sqrt(paths):.1f}",
        )


def confidence_sequences(paths: int) -> Iterator[Row]:
    rng = np.random.default_rng(4)
    for name, mean, differences in (
        ("+10 points, 24 % discordant", 0.10, binary(rng, paths, 200, 0.10, 0.24)),
        ("null, 17 % discordant", 0.0, binary(rng, paths, 200, 0.0, 0.17)),
        ("rare catastrophe", 0.0, rare_catastrophe(rng, paths, 200)),
        ("graded", 0.0, graded(rng, paths, 200)),
    ):
        above = wealth_paths(differences - mean, 0.05, cap=CAP / (1 + mean)).max(axis=1) >= 20
        below = wealth_paths(mean - differences, 0.05, cap=CAP / (1 - mean)).max(axis=1) >= 20
        yield (
            f"90 % confidence sequence, {name}, n 200: misses at any look",
            f"≤ {0.10 + 3 * math.sqrt(0.09 / paths):.4f}",
            share(above | below),
        )


def fixed_size_intervals(paths: int) -> Iterator[Row]:
    rng = np.random.default_rng(5)
    for name, mean, differences in (
        ("+10 points, 24 % discordant, n 96", 0.10, binary(rng, paths, 96, 0.10, 0.24)),
        ("+45 points, 55 % discordant, n 96", 0.45, binary(rng, paths, 96, 0.45, 0.55)),
        ("rare catastrophe, n 20", 0.0, rare_catastrophe(rng, paths, 20)),
        ("graded, n 50", 0.0, graded(rng, paths, 50)),
    ):
        rows: list[list[float]] = differences.tolist()
        ends = np.array([mean_interval(path, 0.9) for path in rows])
        misses = (ends[:, 0] > mean) | (ends[:, 1] < mean)
        yield (
            f"90 % interval of fixed size, {name}: misses ({paths:,} simulated)",
            f"≤ {0.10 + 3 * math.sqrt(0.09 / paths):.4f}",
            f"{share(misses)}, half-width {(ends[:, 1] - ends[:, 0]).mean() / 2:.3f}",
        )


def speed() -> Row:
    differences: list[float] = binary(np.random.default_rng(6), 1, 200, 0.05, 0.24)[0].tolist()
    spec = GateSpec(alpha=0.05, n_max=200, futility=0.0)
    started = time.perf_counter()
    for _ in range(200):
        decide(differences, spec)
    return ("one `decide` over 200 clusters", "", f"{1e6 * (time.perf_counter() - started) / 200:.0f} µs")


def share(of: NDArray[np.bool_]) -> str:
    p = float(of.mean())
    return f"{p:.4f} ± {math.sqrt(p * (1 - p) / len(of)):.4f}"


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    tests, nights_played, peers_played = given + [100_000, 2_000, 100][len(given) :]
    main(tests)
    print("\n## Nights\n")
    nights.main(nights_played)
    print("\n## Beside other rules\n")
    peers.main(peers_played)
