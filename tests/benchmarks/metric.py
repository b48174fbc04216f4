"""What a night on one noisy number per run comes to, by rule: `python -m tests.benchmarks.metric [NIGHTS]`.

Nights of 40 proposals, one unit of Gaussian noise a run. Our rows are played by ``MetricGate`` itself, on runs in
memory; those of the simpler rules are vectorised, with a hundred times the nights. 1,000 nights take about a minute.
Everything is seeded.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_ind

from harness.gate.metric import MetricGate
from tests.gate.metric_world import MetricTrials, a_round, noisy
from traces.records import Round

Floats = NDArray[np.float64]

PROPOSALS = 40
GATE = MetricGate("metric", better="higher")
MANY = 100
"""Vectorised nights for each of ours."""
NIGHTS = {
    "nothing helps": ((0.0, 1.0),),
    "standard: 10 % +1 sigma, 20 % -1 sigma": ((1.0, 0.1), (-1.0, 0.2), (0.0, 0.7)),
    "small steps: 20 % +0.5 sigma, 20 % -0.5 sigma": ((0.5, 0.2), (-0.5, 0.2), (0.0, 0.6)),
    "large steps: 40 % +5 sigma, 20 % -5 sigma": ((5.0, 0.4), (-5.0, 0.2), (0.0, 0.4)),
}
"""Gain of a proposal in sigmas, and how many of the proposals have it."""


@dataclass(frozen=True)
class Search:
    """What a rule made of some nights, a number for each; gains in sigmas."""

    false_keeps: Floats
    """Changes kept that are no better."""
    gain: Floats
    """True gain of the last version over the first."""
    claimed: Floats
    """What the rule itself believes of that."""
    runs: Floats
    is_changed: NDArray[np.bool_]
    """Was anything kept?"""


def proposals(rng: np.random.Generator, nights: int, kinds: tuple[tuple[float, float], ...]) -> Floats:
    gains, shares = zip(*kinds, strict=True)
    return rng.choice(gains, size=(nights, PROPOSALS), p=shares)


def ours(rng: np.random.Generator, effects: Floats) -> Search:
    """Each proposal judged by the gate itself."""
    found = [a_night(int(rng.integers(2**31)), night.tolist()) for night in effects]
    false, gain, claimed, runs, kept = (np.array(column, dtype=float) for column in zip(*found, strict=True))
    return Search(false, gain, claimed, runs, kept > 0)


def a_night(seed: int, effects: list[float]) -> tuple[int, float, float, int, int]:
    """False keeps, true gain, claimed gain, runs and keeps."""
    means = {"v0": 0.0}
    trials = MetricTrials(noisy(seed, 1.0, means))
    rounds: list[Round] = []
    incumbent, false, kept = "v0", 0, 0
    for number, effect in enumerate(effects, 1):
        means[f"v{number}"] = means[incumbent] + effect
        decision = GATE.keep(incumbent, f"v{number}", trials, is_shorter=False, rounds=rounds)
        rounds.append(a_round(number, decision=decision))
        if decision.verdict == "keep":
            incumbent, false, kept = f"v{number}", false + (effect <= 0), kept + 1
    scores = [GATE.score(trials.baseline(version, GATE.repeats)) for version in ("v0", incumbent)]
    first, last = (score[0] for score in scores if score is not None)
    return false, means[incumbent], last - first, len(trials.bought), kept


def keep_if_better(rng: np.random.Generator, effects: Floats) -> Search:
    """One run of each candidate, against the number with which its incumbent was kept."""
    nights = len(effects)
    gain, best = np.zeros(nights), rng.standard_normal(nights)
    first, false, changed = best.copy(), np.zeros(nights), np.zeros(nights, dtype=bool)
    for effect in effects.T:
        run = gain + effect + rng.standard_normal(nights)
        kept = run > best
        gain, best = np.where(kept, gain + effect, gain), np.where(kept, run, best)
        false, changed = false + (kept & (effect <= 0)), changed | kept
    return Search(false, gain, best - first, np.full(nights, 1.0 + PROPOSALS), changed)


def rerun_the_incumbent(rng: np.random.Generator, effects: Floats) -> Search:
    """One run of each candidate, against a fresh run of its incumbent."""
    nights = len(effects)
    gain, claimed = np.zeros(nights), np.zeros(nights)
    false, changed = np.zeros(nights), np.zeros(nights, dtype=bool)
    for effect in effects.T:
        won = effect + rng.standard_normal(nights) - rng.standard_normal(nights)
        kept = won > 0
        gain, claimed = np.where(kept, gain + effect, gain), np.where(kept, claimed + won, claimed)
        false, changed = false + (kept & (effect <= 0)), changed | kept
    return Search(false, gain, claimed, np.full(nights, 2.0 * PROPOSALS), changed)


def half_a_sigma_once(rng: np.random.Generator, effects: Floats) -> Search:
    """One run of each candidate, against the mean of three runs of its incumbent and half a (known) sigma: our rule
    without its fresh seeds."""
    nights = len(effects)
    gain, base = np.zeros(nights), rng.standard_normal(nights) / math.sqrt(3)
    first, false, keeps = base.copy(), np.zeros(nights), np.zeros(nights)
    for effect in effects.T:
        kept = gain + effect + rng.standard_normal(nights) > base + 0.5
        gain = np.where(kept, gain + effect, gain)
        base = np.where(kept, gain + rng.standard_normal(nights) / math.sqrt(3), base)
        false, keeps = false + (kept & (effect <= 0)), keeps + kept
    return Search(false, gain, base - first, 3.0 + PROPOSALS + 3 * keeps, keeps > 0)


RULES: dict[str, tuple[Callable[[np.random.Generator, Floats], Search], int]] = {
    "**MetricGate**": (ours, 1),
    "keep if better than the record": (keep_if_better, MANY),
    "keep if better than a re-run of the incumbent": (rerun_the_incumbent, MANY),
    "half a sigma above three runs, once": (half_a_sigma_once, MANY),
}


def promoted(rng: np.random.Generator, search: Search) -> NDArray[np.bool_]:
    """By the final five against five, of the nights that kept anything."""
    nights = len(search.gain)
    live = rng.standard_normal((nights, GATE.final))
    last = search.gain[:, None] + rng.standard_normal((nights, GATE.final))
    p = ttest_ind(last, live, axis=1, equal_var=False, alternative="greater").pvalue
    return (p <= GATE.alpha) & search.is_changed


def nights(count: int) -> None:
    for name, kinds in NIGHTS.items():
        print(
            f"\n**{name}**, {count:,} nights of {PROPOSALS} proposals for the gate, {MANY * count:,} for the others\n"
        )
        print(
            "| rule | false keeps a night | true gain, sigmas | claimed gain | runs | true gain per 100 runs "
            "| last version is worse | 5 v 5 promotes | promotes what is no better |\n" + "|---" * 9 + "|"
        )
        for rule, (search, times) in RULES.items():
            rng = np.random.default_rng(7)
            found = search(rng, proposals(rng, times * count, kinds))
            wins = promoted(rng, found)
            columns = (
                rule,
                mean(found.false_keeps),
                mean(found.gain),
                mean(found.claimed),
                mean(found.runs, 1),
                mean(100 * found.gain / found.runs),
                mean(found.gain < -1e-9, 3),
                mean(wins, 3),
                mean(wins & (found.gain < 1e-9), 4),
            )
            print(f"| {' | '.join(columns)} |", flush=True)


def promotion(tests: int) -> None:
    print(f"\n**The final five against five**, {tests:,} tests a row\n")
    print(
        "| true gain, sigmas | promoted | gain that the test saw, if promoted | gain measured after "
        "| its 90 % interval misses |\n" + "|---" * 5 + "|"
    )
    rng = np.random.default_rng(8)
    for gain in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0):
        a, b = rng.standard_normal((2, tests, 2 * GATE.final))
        b += gain
        n = GATE.final
        wins = ttest_ind(b[:, :n], a[:, :n], axis=1, equal_var=False, alternative="greater").pvalue <= GATE.alpha
        seen = (b[:, :n].mean(axis=1) - a[:, :n].mean(axis=1))[wins]
        after = ttest_ind(b[wins, n:], a[wins, n:], axis=1, equal_var=False).confidence_interval(GATE.confidence)
        misses = (after.low > gain) | (after.high < gain)
        measured = b[wins, n:].mean(axis=1) - a[wins, n:].mean(axis=1)
        print(f"| {gain} | {mean(wins, 4)} | {mean(seen)} | {mean(measured)} | {mean(misses, 3)} |", flush=True)


def mean(of: NDArray[np.generic], digits: int = 2) -> str:
    values = of.astype(float)
    return f"{values.mean():.{digits}f} ± {values.std() / math.sqrt(len(values)):.{digits}f}"


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print("Mean ± one standard error. A gain is in sigmas, the standard deviation of a single run.")
    nights(count)
    promotion(100 * count)
