"""What the guards stop, printed as Markdown tables: `python -m tests.benchmarks.guards [PATHS]`.

The default, 20,000 simulated comparisons a row, takes about a minute on one core. Everything is seeded.
"""

import math
import sys
from collections.abc import Sequence
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from harness.gate import GateSpec
from harness.gate.guards import FAILURES_P, MUST_PASS_RUNS, SLICE_NET_LOSSES, SLICE_P, chance, ratio
from harness.gate.simulate import Floats, decide_all

Mask = NDArray[np.bool_]

SLICES, EACH = 7, 30
N = SLICES * EACH


def main(paths: int) -> None:
    print(f"{paths:,} simulated comparisons a row, ± one standard error; {SLICES} slices of {EACH} clusters each\n")
    slices(paths)
    failures(paths)
    ratios(paths // 10)
    must_pass(paths)


def table(title: str, head: Sequence[str]) -> None:
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)


def row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def share(of: Mask) -> str:
    p = float(of.mean())
    return f"{p:.4f} ± {math.sqrt(p * (1 - p) / len(of)):.4f}" if len(of) else "none"


# ── slices ─────────────────────────────────────────────────────────────────────────────────────────────────────

EDITS: dict[str, tuple[float, float, float | None]] = {
    "nothing changed (A/A)": (0.0, 0.17, None),
    "+5": (0.05, 0.15, None),
    "+5, churning": (0.05, 0.24, None),
    "+10": (0.10, 0.24, None),
    "+10, but −15 in one slice": (0.10, 0.24, -0.15),
    "+10, but −30 in one slice": (0.10, 0.24, -0.30),
    "+10, but −50 in one slice": (0.10, 0.24, -0.50),
}
"""Gain in points, share of clusters that differ, and the gain in one slice; there, as much is won elsewhere."""


def slices(paths: int) -> None:
    head = ("edit", "promoted", "naive: some slice drops", "held", "blocked after the second look")
    for title, alpha in (
        ("Slices, after all clusters were run", None),
        ("Slices, where the promotion test stopped and accepted, alpha .05", 0.05),
        ("The same at alpha .0025, the first one of a ledger", 0.0025),
    ):
        table(title, head)
        for number, (name, (gain, differing, ruined)) in enumerate(EDITS.items()):
            rng = np.random.default_rng([1, number])
            kind = rng.permuted(np.tile(np.arange(N) % SLICES, (paths, 1)), axis=1)
            first, fresh = (edit(rng, kind, gain, differing, ruined) for _ in range(2))
            stop, accepted = np.full(paths, N), np.ones(paths, dtype=bool)
            if alpha is not None:
                outcomes = decide_all(first, GateSpec(alpha=alpha, n_max=N))
                stop, accepted = outcomes.n, outcomes.accepted
            seen = np.arange(N) < stop[:, None]
            looks = [look(d, kind, seen) for d in (first, fresh)]
            drops, held = looks[0]
            blocked = held & looks[1][1]
            row(name, share(accepted), *(share(m[accepted].any(axis=1)) for m in (drops, held, blocked)))


def edit(
    rng: np.random.Generator, kind: NDArray[np.int64], gain: float, differing: float, ruined: float | None
) -> Floats:
    """Paired differences of 0-or-1 scores; slice 0 is the one that is *ruined*."""
    u = rng.random(kind.shape)
    gains = np.full(SLICES, gain)
    if ruined is not None:
        gains += (gain - ruined) / (SLICES - 1)
        gains[0] = ruined
    here = gains[kind]
    differ = np.maximum(differing, np.abs(here))
    return (u < (differ + here) / 2).astype(float) - ((u >= (differ + here) / 2) & (u < differ))


def look(differences: Floats, kind: NDArray[np.int64], seen: Mask) -> tuple[Mask, Mask]:
    """By slice: has it dropped at all, and would the guard hold it?"""
    wins, losses = (
        np.stack([(seen & (kind == k) & (differences == sign)).sum(axis=1) for k in range(SLICES)], axis=1)
        for sign in (1, -1)
    )
    return losses > wins, holds(N)[wins, losses]


@cache
def holds(n: int) -> Mask:
    """Whether so many wins (row) and losses (column) of *n* clusters at most are held."""
    held = np.zeros((n + 1, n + 1), dtype=bool)
    for wins, losses in product(range(n + 1), repeat=2):
        if wins + losses <= n and losses - wins >= SLICE_NET_LOSSES:
            held[wins, losses] = chance(wins, losses) < SLICE_P
    return held


# ── failures ───────────────────────────────────────────────────────────────────────────────────────────────────


def failures(paths: int) -> None:
    table("Failures: the rates of both versions", ("incumbent", "candidate", "clusters", "naive: higher", "blocked"))
    blocks = {
        (mended, new): chance(mended, new) <= FAILURES_P
        for mended, new in product(range(N + 1), repeat=2)
        if mended < new <= N - mended
    }
    for number, (before, after, n) in enumerate(
        product((0.02, 0.10), (1, 2, 4), (60, N)),
    ):
        rng = np.random.default_rng([2, number])
        a, b = rng.random((paths, n)) < before, rng.random((paths, n)) < before * after
        new, mended = (b & ~a).sum(axis=1), (a & ~b).sum(axis=1)
        blocked = np.array([blocks.get(pair, False) for pair in zip(mended.tolist(), new.tolist(), strict=True)])
        row(f"{before:.0%}", f"{before * after:.0%}", n, share(new > mended), share(blocked))


# ── cost and latency ───────────────────────────────────────────────────────────────────────────────────────────


def ratios(paths: int) -> None:
    table(
        f"Cost and latency: log-normal, a standard deviation of 0.5 each run, cap 1.2 ({paths:,} simulated)",
        ("true ratio", "clusters", "runs that hang ×20", "naive: mean over mean > cap", "blocked", "ratio found"),
    )
    for number, (true, n, hanging) in enumerate(product((1.0, 1.2, 1.4, 2.0), (60, N), (0.0, 0.03))):
        rng = np.random.default_rng([3, number])
        shape = (paths, n)
        a, b = (np.exp(rng.normal(0, 0.5, shape)) * np.where(rng.random(shape) < hanging, 20, 1) for _ in range(2))
        b *= true
        found = [
            ratio("latency", "", [[pair] for pair in zip(x, y, strict=True)], 1.2)
            for x, y in zip(a.tolist(), b.tolist(), strict=True)
        ]
        blocked = np.array([guard is not None and guard.verdict == "block" for guard in found])
        mean = np.mean([guard.ratio for guard in found if guard is not None and guard.ratio is not None])
        row(true, n, f"{hanging:.0%}", share(b.mean(axis=1) > 1.2 * a.mean(axis=1)), share(blocked), f"{mean:.3f}")


# ── must-pass ──────────────────────────────────────────────────────────────────────────────────────────────────


def must_pass(paths: int) -> None:
    table("Five must-pass tasks", ("each passes with", "naive: one run each, none may fail", "blocked"))
    for number, passes in enumerate((0.99, 0.95, 0.9, 0.7, 0.3)):
        rng = np.random.default_rng([4, number])
        runs = rng.random((paths, 5, MUST_PASS_RUNS)) < passes
        row(passes, share(~runs[:, :, 0].all(axis=1)), share((runs.sum(axis=2) <= 1).any(axis=1)))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
