"""Whole nights under our gate and under the field's rule, as a table: `python -m tests.benchmarks.nights [NIGHTS]`.

2,000 simulated nights a row take about half a minute on one core. Everything is seeded.
"""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.gate import GateSpec
from harness.gate.nights import (
    NULL,
    OVERFIT,
    STANDARD,
    Mix,
    Nights,
    NightSpec,
    clusters_for,
    keep_if_higher,
    one_standard_error,
    provable,
    simulate,
)
from harness.gate.simulate import binary, decide_all

Row = tuple[str, str, str]
Rule = Callable[[NightSpec, int, int], Nights]

NIGHT = NightSpec()
RULES: dict[str, Rule] = {
    "keep-if-higher": keep_if_higher,
    "one standard error": one_standard_error,
    "Ratchet": simulate,
}


def main(nights: int) -> None:
    print(f"{nights:,} simulated nights a row, ± one standard error. A night unless said otherwise: {NIGHT.proposals}")
    print(
        "proposals (10 % better, 20 % worse, 70 % null), 200 train + 200 validation + 100 test tasks, scores of 0 or 1,"
    )
    print("base rate .60, 17 % discordant\n")
    print("| night and rule | must hold | found |\n|---|---|---|")
    for name, target, found in rows(nights):
        print(f"| {name} | {target} | {found} |", flush=True)


def rows(nights: int) -> Iterator[Row]:
    yield from standard(nights)
    yield from nothing_better(nights)
    yield from campaigns(nights)
    yield lifetime(nights)
    yield from resolution()


def standard(nights: int) -> Iterator[Row]:
    targets = {
        "keep-if-higher": "false .99; +19 claimed where +14 are true",
        "one standard error": "",
        "Ratchet": "false about .015; true about +11.6 at about 7,600 calls",
    }
    for name, rule in RULES.items():
        found = rule(NIGHT, nights, 1)
        calls = found.calls.mean()
        yield (
            f"standard night, {name}",
            targets[name],
            f"false {share(found.false)}; true {mean(100 * found.gain)} points, claimed {mean(100 * found.claimed)}; "
            f"{calls:,.0f} calls ({found.train_calls.mean():,.0f} on train), {found.kept.mean():.1f} kept; "
            f"{1e5 * found.gain.mean() / calls:.2f} points per 1,000 calls",
        )


def nothing_better(nights: int) -> Iterator[Row]:
    for name, spec, target in (
        ("40 proposals that change nothing", replace(NIGHT, mix=NULL), 0.10),
        ("overfit night: 20 % help on train alone, 20 % are worse", replace(NIGHT, mix=OVERFIT), 0.05),
        (
            "the same, and what helps on train costs a point elsewhere",
            replace(NIGHT, mix=replace(OVERFIT, hidden_loss=0.01)),
            0.05,
        ),
        (
            "grader 5 points milder after the incumbent's runs, null proposals",
            replace(NIGHT, mix=NULL, drift=0.05),
            0.05,
        ),
    ):
        for rule in ("keep-if-higher", "Ratchet"):
            found = RULES[rule](spec, nights, 2)
            limit = f"≤ {target + 3 * math.sqrt(target * (1 - target) / nights):.3f}" if rule == "Ratchet" else ""
            yield (f"{name}, {rule}: P(any promotion)", limit, f"{share(found.promoted)}, {found.kept.mean():.1f} kept")


def campaigns(nights: int) -> Iterator[Row]:
    spec = NightSpec(train=50, proposals=10, mix=NULL)
    for rule, target in (("keep-if-higher", ".87"), ("one standard error", ".60")):
        found = RULES[rule](spec, nights, 3)
        yield (f"10 proposals that change nothing, 50 tasks, {rule}: P(any promotion)", target, share(found.promoted))


def lifetime(nights: int) -> Row:
    gate = NIGHT.gate
    spec = GateSpec(alpha=gate.alpha / gate.horizon, n_max=NIGHT.validation)
    differences = binary(np.random.default_rng(4), nights * gate.horizon, NIGHT.validation, 0.0, 0.17)
    any_of_them = decide_all(differences, spec).accepted.reshape(nights, gate.horizon).any(axis=1)
    return (
        f"all {gate.horizon} promotion tests of a split, none of anything better: P(any promotion)",
        f"≤ {0.10 + 3 * math.sqrt(0.09 / nights):.3f}; expect .03 to .06",
        share(any_of_them),
    )


def resolution() -> Iterator[Row]:
    for alpha in (0.0025, 0.05):
        gain = provable(STANDARD, NIGHT.validation, alpha)
        assert gain is not None
        found = simulate_at(gain, alpha)
        yield (
            f"smallest gain that {NIGHT.validation} clusters prove with 80 % power, alpha {alpha}",
            "its power .80",
            f"+{100 * gain:.1f} points, power on other nights {share(found)}; half of it needs "
            f"{clusters_for(STANDARD, gain / 2, alpha):,} clusters",
        )


def simulate_at(gain: float, alpha: float) -> NDArray[np.bool_]:
    """Promotions of candidates that are better by *gain*, on nights with one proposal each that is always kept."""
    gate = replace(NIGHT.gate, alpha=alpha, horizon=1, keep_alpha=0.99, futility=0.10, checkpoints=1)
    spec = replace(NIGHT, proposals=1, mix=Mix(better=1, worse=0, gain=gain), gate=gate)
    found = simulate(spec, 4000, 5)
    return found.promoted[found.kept > 0]


def mean(of: NDArray[np.float64]) -> str:
    return f"{of.mean():+.1f} ± {of.std() / math.sqrt(len(of)):.1f}"


def share(of: NDArray[np.bool_]) -> str:
    p = float(of.mean())
    return f"{p:.4f} ± {math.sqrt(p * (1 - p) / len(of)):.4f}"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
