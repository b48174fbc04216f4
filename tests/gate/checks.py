"""What any implementation of the deadline e-process must do, as functions that take one.

The tests run them on ours, and on wrong versions of it to show that they would notice.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from harness.gate import GateSpec, decide
from harness.gate.simulate import Floats, decide_all
from traces.records import Verdict


class Process(Protocol):
    @property
    def wealth(self) -> float: ...
    @property
    def n(self) -> int: ...
    def bet(self) -> float: ...
    def update(self, d: float) -> None: ...
    def conditional_power(self, effect: float) -> float: ...


NewProcess = Callable[[float, int, float], Process]
Decide = Callable[[Sequence[float], GateSpec], Verdict]


@dataclass(frozen=True)
class Past:
    """A process in the middle of its life."""

    history: tuple[float, ...]
    n_max: int
    """At least one above the length of the history."""
    alpha: float = 0.05
    v0: float = 0.2

    def lived(self, new: NewProcess) -> Process:
        process = new(self.alpha, self.n_max, self.v0)
        for d in self.history:
            process.update(d)
        return process

    def wealth_after(self, new: NewProcess, d: float) -> float:
        process = self.lived(new)
        process.update(d)
        return process.wealth


@dataclass(frozen=True)
class Null:
    """A next difference that is *win* or *-loss* and is not expected to be above 0."""

    win: float
    loss: float
    shortfall: float = 0.0
    """Share of the fair chance of a win that is missing: 0 for a mean of exactly 0."""

    @property
    def chance(self) -> float:
        return (1 - self.shortfall) * self.loss / (self.win + self.loss)


# ── the process ────────────────────────────────────────────────────────────────────────────────────────────────


def wealth_is_not_expected_to_grow(new: NewProcess, past: Past, null: Null) -> None:
    before = past.lived(new).wealth
    won, lost = past.wealth_after(new, null.win), past.wealth_after(new, -null.loss)

    assert null.chance * won + (1 - null.chance) * lost <= before * (1 + 1e-9)


def wealth_stays_at_or_above_zero(new: NewProcess, past: Past, null: Null) -> None:
    assert past.wealth_after(new, -1.0) >= 0
    assert 0 <= past.lived(new).bet() <= 0.95


def the_bet_is_placed_before_the_difference_is_seen(new: NewProcess, past: Past, null: Null) -> None:
    process = past.lived(new)
    bet, before = process.bet(), process.wealth

    for d in (null.win, -null.loss, 1.0, -1.0):
        assert past.wealth_after(new, d) == before * (1.0 + bet * d)


def a_tie_changes_no_wealth_and_counts(new: NewProcess, past: Past, null: Null) -> None:
    process = past.lived(new)
    before = process.wealth
    process.update(0.0)

    assert process.wealth == before
    assert process.n == len(past.history) + 1


def every_difference_is_bet_on_as_specified(new: NewProcess, past: Past, null: Null) -> None:
    process = new(past.alpha, past.n_max, past.v0)
    for n, d in enumerate(past.history):
        expected = specified_bet(process.wealth, past.history[:n], past)
        assert process.bet() == pytest.approx(expected, rel=1e-9, abs=1e-12)
        process.update(d)


def specified_bet(wealth: float, seen: Sequence[float], past: Past) -> float:
    """The formula of the specification, written down a second time and with another library."""
    u = max(wealth * past.alpha / 1.05, 1e-12)
    r = past.n_max - len(seen)
    v = (sum(d * d for d in seen) + 10 * past.v0) / (len(seen) + 10)
    if u >= 1 or r == 0:
        return 0.0
    return min(math.exp(-(float(ndtri(u)) ** 2) / 2) / math.sqrt(2 * math.pi) / (u * math.sqrt(r * v)), 0.95)


def what_is_not_a_score_difference_is_refused(new: NewProcess, past: Past, null: Null) -> None:
    for wrong in (math.nan, math.inf, -math.inf, 1.0000001, -1.0000001, 2):
        process = past.lived(new)
        before = (process.wealth, process.n, process.bet())
        with pytest.raises(ValueError, match="not between -1 and 1"):
            process.update(wrong)
        assert (process.wealth, process.n, process.bet()) == before


def nothing_is_seen_past_the_deadline(new: NewProcess, past: Past, null: Null) -> None:
    process = past.lived(new)
    for _ in range(past.n_max - len(past.history)):
        process.update(null.win)
    assert process.bet() == 0
    with pytest.raises(ValueError, match="after the deadline"):
        process.update(0.0)
    assert process.n == past.n_max


PROCESS_CHECKS: tuple[Callable[[NewProcess, Past, Null], None], ...] = (
    wealth_is_not_expected_to_grow,
    wealth_stays_at_or_above_zero,
    the_bet_is_placed_before_the_difference_is_seen,
    a_tie_changes_no_wealth_and_counts,
    every_difference_is_bet_on_as_specified,
    what_is_not_a_score_difference_is_refused,
    nothing_is_seen_past_the_deadline,
)


# ── the decision ───────────────────────────────────────────────────────────────────────────────────────────────


def a_longer_list_never_changes_a_verdict(decide: Decide, differences: Sequence[float], spec: GateSpec) -> None:
    settled: Verdict | None = None
    for n in range(len(differences) + 1):
        verdict = decide(differences[:n], spec)
        if settled is not None:
            assert verdict == settled
        elif verdict.verdict != "continue":
            settled = verdict
        else:
            assert verdict.n == n
    assert settled is not None or len(differences) < spec.n_max


def it_stops_only_at_looks(decide: Decide, differences: Sequence[float], spec: GateSpec) -> None:
    verdict = decide(differences, spec)
    if verdict.verdict == "continue":
        assert verdict.n == len(differences) < spec.n_max
    else:
        assert verdict.n == spec.n_max or (verdict.n >= spec.n_min and verdict.n % spec.batch == 0)
    assert (verdict.verdict == "undecided") <= (verdict.n == spec.n_max)


def it_accepts_on_wealth_alone(decide: Decide, differences: Sequence[float], spec: GateSpec) -> None:
    """Wealth recomputed here, from the specification."""
    verdict = decide(differences, spec)
    past = Past(tuple(differences), spec.n_max, spec.alpha, spec.v0)
    wealth = 1.0
    for n, d in enumerate(differences[: verdict.n]):
        wealth *= 1 + specified_bet(wealth, differences[:n], past) * d

    assert verdict.threshold == 1 / spec.alpha
    assert verdict.e_value == pytest.approx(wealth, rel=1e-9)
    if verdict.verdict != "continue":
        assert (verdict.verdict == "accept") == (verdict.e_value >= 1 / spec.alpha)


def it_gives_up_when_proof_is_out_of_reach(decide: Decide, differences: Sequence[float], spec: GateSpec) -> None:
    """Conditional power recomputed here, from the specification."""
    verdict = decide(differences, spec)
    if verdict.n == spec.n_max:
        assert verdict.conditional_power is None
        return
    seen = differences[: verdict.n]
    n, r = len(seen), spec.n_max - len(seen)
    v = (sum(d * d for d in seen) + 10 * spec.v0) / (n + 10)
    z = -float(ndtri(spec.alpha / 1.05))
    effect = max(spec.min_gain, (z + 0.84) * math.sqrt(v / spec.n_max))
    if n:
        effect = max(spec.min_gain, min(effect, sum(seen) / n + 1.28 * math.sqrt(v / n)))
    u = max(verdict.e_value * spec.alpha / 1.05, 1e-12)
    power = 1.0 if u >= 1 else float(ndtr(ndtri(u) + effect * math.sqrt(r / v)))

    assert verdict.conditional_power == pytest.approx(power, abs=1e-9)
    if verdict.verdict == "reject":
        assert power < spec.futility


def its_numbers_are_of_what_it_saw(decide: Decide, differences: Sequence[float], spec: GateSpec) -> None:
    verdict = decide(differences, spec)
    seen = differences[: verdict.n]
    assert verdict.gain_at_stop == (pytest.approx(sum(seen) / len(seen), abs=1e-12) if seen else None)
    assert verdict.tasks_to_settle is None or verdict.verdict == "undecided"


DECISION_CHECKS: tuple[Callable[[Decide, Sequence[float], GateSpec], None], ...] = (
    a_longer_list_never_changes_a_verdict,
    it_stops_only_at_looks,
    it_accepts_on_wealth_alone,
    it_gives_up_when_proof_is_out_of_reach,
    its_numbers_are_of_what_it_saw,
)


def false_accepts_stay_below_alpha(decide: Decide, null: Floats, spec: GateSpec) -> None:
    """*null* holds one test a row, of candidates that are no better."""
    paths: list[list[float]] = null.tolist()
    share = float(np.mean([decide(path, spec).verdict == "accept" for path in paths]))
    assert share <= at_most(spec.alpha, len(paths))


def simulated_decisions_are_those_of_decide(differences: Floats, spec: GateSpec) -> None:
    """Path by path. *differences*: one test a row."""
    outcomes = decide_all(differences, spec)
    for row, path in enumerate(differences.tolist()):
        verdict = decide(path, spec)
        assert outcomes.accepted[row] == (verdict.verdict == "accept")
        assert outcomes.rejected[row] == (verdict.verdict == "reject")
        assert outcomes.n[row] == verdict.n
        assert outcomes.gain_at_stop[row] == pytest.approx(verdict.gain_at_stop, abs=1e-12)


def at_most(probability: float, simulations: int) -> float:
    """What a share with this *probability* stays below but for bad luck: three standard errors above it."""
    return probability + 3 * math.sqrt(probability * (1 - probability) / simulations)
