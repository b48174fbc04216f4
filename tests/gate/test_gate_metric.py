import dataclasses
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, variance
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from harness.errors import UserError
from harness.gate.metric import MetricGate, pooled
from harness.graders import MetricGrader
from harness.ledger import journal_file
from harness.verify import verify
from tests.gate.checks import at_most
from tests.gate.metric_world import MetricTrials, Reader, a_round, noisy, prescribed
from tests.world import PROMPT, ListProposer, an_experiment, play
from traces.journal import read
from traces.records import Comparison, Decision, Round, Task, Trial

LOWER = MetricGate("val_bpb", better="lower")
HIGHER = MetricGate("accuracy", better="higher")
BASE = (1.02, 1.00, 0.98)
"""Mean 1, sigma 0.02: a first run has to be below 0.99."""


def kept(
    reader: Reader, *, gate: MetricGate = LOWER, is_shorter: bool = False, rounds: list[Round] | None = None
) -> Decision:
    return gate.keep("a", "b", MetricTrials(reader), is_shorter=is_shorter, rounds=rounds or [])


def runs_of(trials: MetricTrials, version: str) -> int:
    return sum(key[1] == version for key in trials.bought)


# ── keep ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("runs", "verdict", "because", "bought"),
    [
        ((0.991,), "discard", "no-improvement", 1),
        ((1.2,), "discard", "no-improvement", 1),
        ((0.989, 1.00, 0.99), "keep", "improved", 3),
        ((0.989, 1.02, 0.99), "discard", "no-improvement", 3),
        ((0.5, 1.00, 1.00), "discard", "no-improvement", 3),
    ],
)
def test_a_change_is_kept_when_its_first_run_wins_by_half_a_sigma_and_fresh_seeds_win_too(
    runs, verdict, because, bought
):
    trials = MetricTrials(prescribed(a=BASE, b=runs))
    decision = LOWER.keep("a", "b", trials, is_shorter=False, rounds=[])

    assert (decision.verdict, decision.because, runs_of(trials, "b")) == (verdict, because, bought)
    assert runs_of(trials, "a") == 3


def test_the_gain_of_a_kept_change_is_that_of_the_seeds_that_did_not_choose_it():
    c = kept(prescribed(a=BASE, b=(0.90, 0.97, 0.99))).comparison

    assert c is not None
    assert c.gain == pytest.approx(0.02)
    assert (c.incumbent_score, c.candidate_score, c.sigma) == pytest.approx((1.0, 0.98, 0.02))
    assert c.differences == pytest.approx((0.10, 0.03, 0.01))
    assert (c.metric, c.tasks, c.split, c.low) == ("val_bpb", 2, "train", None)


@pytest.mark.parametrize(
    ("runs", "because"),
    [
        ((1.009, 1.00, 1.01), "simpler"),
        ((0.98, 1.02, 1.00), "simpler"),
        ((0.98, 0.98, 1.00), "improved"),
        ((1.011,), "no-improvement"),
        ((1.009, 1.02, 1.01), "no-improvement"),
    ],
)
def test_less_text_is_kept_when_it_is_equal_within_half_a_sigma(runs, because):
    assert kept(prescribed(a=BASE, b=runs), is_shorter=True).because == because


def ten_keeps(gain: float, *, of: str = "improved", sigma: float = 0.02, incumbent: str = "a") -> list[Round]:
    c = LOWER.keep("a", "b", MetricTrials(prescribed(a=BASE, b=(0.9, 0.9, 0.9))), is_shorter=False, rounds=[])
    assert c.comparison is not None
    comparison = c.comparison.model_copy(update={"gain": gain, "sigma": sigma, "incumbent": incumbent})
    decision = c.model_copy(update={"because": of, "comparison": comparison})
    return [a_round(0), *(a_round(i, decision=decision) for i in range(1, 11))]


def test_one_run_is_enough_while_the_last_ten_kept_gains_tower_above_the_noise():
    for rounds, bought in (
        (ten_keeps(0.061), 1),
        (ten_keeps(0.059), 3),
        (ten_keeps(0.061)[:-1], 3),
        ([*ten_keeps(0.061), *ten_keeps(0.059)], 3),
        ([*ten_keeps(0.059), *ten_keeps(0.061)], 1),
        (ten_keeps(0.061, of="simpler"), 3),
    ):
        trials = MetricTrials(prescribed(a=BASE, b=(0.98, 0.981, 0.979)))
        assert LOWER.keep("a", "b", trials, is_shorter=False, rounds=rounds).because == "improved"
        assert runs_of(trials, "b") == bought


def test_sigma_is_pooled_over_the_incumbents_that_were_measured():
    rng = random.Random(3)
    measured = {name: [rng.gauss(1, 0.02) for _ in range(3)] for name in "abcd"}
    rounds: list[Round] = []
    for number, name in enumerate("aabccc"):
        read = prescribed(**{name: measured[name], "x": (9.0,)})
        decision = LOWER.keep(name, "x", MetricTrials(read), is_shorter=False, rounds=rounds)
        rounds.append(a_round(number, decision=decision))
        assert decision.comparison is not None
        so_far = sorted(set("aabccc"[: number + 1]))
        expected = math.sqrt(fmean(variance(measured[n]) for n in so_far))
        assert decision.comparison.sigma == pytest.approx(expected)

    assert pooled(measured["d"], "d", rounds, "val_bpb", 3) == pytest.approx(
        math.sqrt(fmean(variance(m) for m in measured.values()))
    )
    assert pooled(measured["d"], "d", rounds, "another metric", 3) == pytest.approx(math.sqrt(variance(measured["d"])))


def test_a_run_over_several_tasks_has_their_mean_for_its_number():
    def read(scope: str, version: str, task: str, repeat: int) -> float:
        runs = {"a": (1.02, 1.00, 0.98), "b": (0.90, 0.97, 0.99)}[version]
        return runs[repeat] + (10 if task == "long" else -10) + (repeat if task == "long" else -repeat)

    tasks = [Task(id=id, input="", split="train") for id in ("long", "short")]
    decision = LOWER.keep("a", "b", MetricTrials(read, tasks=tasks), is_shorter=False, rounds=[])
    alone = kept(prescribed(a=BASE, b=(0.90, 0.97, 0.99)))

    assert decision.comparison is not None
    assert alone.comparison is not None
    assert decision.comparison.differences == pytest.approx(alone.comparison.differences)
    assert decision.comparison.sigma == pytest.approx(alone.comparison.sigma)
    assert decision.because == alone.because


# ── what goes wrong ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("failure", ["crash", "no number"])
@pytest.mark.parametrize("runs", [("{}",), (0.9, 0.9, "{}"), (0.9, "{}", "lost")])
def test_a_candidate_whose_run_fails_is_discarded_with_the_reason(failure, runs):
    decision = kept(prescribed(a=BASE, b=[failure if run == "{}" else run for run in runs]))

    assert (decision.verdict, decision.because) == ("discard", "no-improvement")
    why = {"crash": "CUDA out of memory", "no number": "which is no number"}[failure]
    assert f"1 of {len(runs)} runs gave no val_bpb" in decision.detail
    assert why in str(decision)


def test_a_number_that_is_too_large_to_compute_with_is_called_that():
    assert "gave no val_bpb: 2.27e+74 is out of range (beyond 1e+60)" in kept(prescribed(a=BASE, b=(2.27e74,))).detail


@pytest.mark.parametrize("runs", [("lost",), (0.9, "lost", 0.9)])
def test_a_lost_run_decides_nothing(runs):
    decision = kept(prescribed(a=BASE, b=runs))

    assert (decision.verdict, decision.because) == ("inconclusive", "errors")
    assert decision.comparison is not None
    assert not decision.comparison.is_valid


@pytest.mark.parametrize("base", [("crash",) * 3, ("no number", 1.0, "crash"), ("lost", "lost", 1.0)])
def test_an_incumbent_without_two_numbers_decides_nothing_and_buys_nothing(base):
    trials = MetricTrials(prescribed(a=base, b=(0.9,)))
    decision = LOWER.keep("a", "b", trials, is_shorter=False, rounds=[])

    assert (decision.verdict, decision.because) == ("inconclusive", "errors")
    assert "the incumbent gave val_bpb in" in decision.detail
    assert runs_of(trials, "b") == 0


def test_a_failed_run_of_the_incumbent_is_left_out():
    decision = kept(prescribed(a=(1.01, "crash", 0.99), b=(0.9, 0.9, 0.9)))

    assert decision.because == "improved"
    assert decision.comparison is not None
    assert decision.comparison.incumbent_score == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ((1.0, 1.01, 0.99, 1.0, 1.02), (0.5, 0.5, 0.51, 0.49, "crash"), "reject"),
        ((1.0, 1.01, 0.99, 1.0, "crash"), (0.5, 0.5, 0.51, 0.49, "crash"), "accept"),
        (("crash",) * 5, (0.5, 0.5, 0.51, 0.49, 0.5), "undecided"),
        (("crash",) * 5, ("crash",) * 5, "undecided"),
        ((1.0,) * 5, ("no number",) * 5, "reject"),
        ((1.0,) * 5, (0.5, 0.5, 0.5, 0.5, -1e61), "reject"),
    ],
)
def test_a_version_that_fails_more_often_is_not_promoted(before, after, verdict):
    found = LOWER.prove("a", "b", MetricTrials(prescribed(a=before, b=after)), 0.05)

    assert found.is_valid
    assert found.verdict is not None
    assert found.verdict.verdict == verdict


def test_a_promotion_test_that_lost_a_run_is_invalid():
    for before, after in ((("lost", *BASE, 1.0), (0.5,) * 5), ((*BASE, 1.0, 1.0), (*(0.5,) * 4, "lost"))):
        found = LOWER.prove("a", "b", MetricTrials(prescribed(a=before, b=after)), 0.05)

        assert not found.is_valid
        assert found.verdict is not None
        assert found.verdict.verdict == "undecided"
        assert (found.errors, found.tasks) == (1, 4)


def test_an_incumbent_measured_under_other_conditions_is_measured_again():
    def gpu(scope: str) -> tuple[str, ...]:
        return ("gpu=A100",) if scope == "train" else ("gpu=H100",)

    def read(scope: str, version: str, task: str, repeat: int) -> float:
        return {"train": 1.0, "again": 0.9}.get(scope, 0.95) + repeat / 1000

    trials = MetricTrials(read, conditions=gpu)
    decision = LOWER.keep("a", "b", trials, is_shorter=False, rounds=[])

    assert trials.refreshed == ["a"]
    assert decision.because == "no-improvement"
    assert decision.comparison is not None
    assert decision.comparison.incumbent_score == pytest.approx(0.901)


def test_conditions_that_go_on_changing_decide_nothing():
    trials = MetricTrials(prescribed(a=BASE, b=(0.9,)), conditions=lambda scope: (f"gpu={scope}",))
    decision = LOWER.keep("a", "b", trials, is_shorter=False, rounds=[])

    assert (decision.verdict, decision.because) == ("inconclusive", "drift")
    assert decision.detail == "gpu was again and round/1"


@pytest.mark.parametrize(
    ("now", "number", "is_measured_afresh"),
    [(1.01, 10, False), (1.05, 10, False), (1.08, 10, True), (0.92, 20, True), (1.08, 11, False), (0.5, 9, False)],
)
def test_a_machine_that_gives_other_numbers_than_before_is_noticed_by_running_the_incumbent_again(
    now, number, is_measured_afresh
):
    def read(scope: str, version: str, task: str, repeat: int) -> float:
        if version == "b":
            return now + 0.001
        return BASE[repeat] if scope == "train" else now + repeat / 1000

    trials = MetricTrials(read, scope=f"round/{number}")
    before = [a_round(n) for n in range(number)]
    decision = LOWER.keep("a", "b", trials, is_shorter=False, rounds=before)

    assert trials.refreshed == (["a"] if is_measured_afresh else [])
    if is_measured_afresh:
        assert decision.verdict == "discard"
        assert decision.comparison is not None
        assert decision.comparison.incumbent_score == pytest.approx(now + 0.001)


def test_an_incumbent_whose_run_fails_when_it_is_run_again_tells_nothing_of_the_machine():
    def read(scope: str, version: str, task: str, repeat: int) -> float | str:
        return 0.9 if version == "b" else BASE[repeat] if scope == "train" else "crash"

    trials = MetricTrials(read, scope="round/10")
    before = [a_round(n) for n in range(10)]

    LOWER.keep("a", "b", trials, is_shorter=False, rounds=before)

    assert trials.refreshed == []


@pytest.mark.parametrize(
    ("always", "because"), [(0.96, "not-a-candidate"), (0.941, "not-a-candidate"), (0.9, "improved")]
)
def test_one_lucky_draw_that_a_version_holds_on_to_is_no_gain_but_a_problem_that_is_solved_is(always, because):
    decision = kept(prescribed(a=BASE, b=(always,) * 3))

    assert decision.because == because
    if because == "not-a-candidate":
        assert decision.verdict == "discard"
        assert "with every seed" in decision.detail


def test_a_version_that_holds_on_to_one_draw_is_not_promoted_for_it():
    five = (1.02, 1.00, 0.98, 1.01, 0.99)
    for always, verdict in ((0.96, "reject"), (0.90, "accept")):
        found = LOWER.prove("a", "b", MetricTrials(prescribed(a=five, b=(always,) * 5)), 0.05)
        assert found.verdict is not None
        assert found.verdict.verdict == verdict


# ── runs that always give the same, and runs that cannot be repeated ───────────────────────────────────────────


@pytest.mark.parametrize("same", [0.1, 0.9979, 3.0, 1e6 + 0.1, -2.7, 0.0])
def test_deterministic_runs_are_compared_as_they_are(same):
    a, equal = (same,) * 3, (same,) * 10
    better, worse = ((same + sign * (abs(same) or 1) * 1e-6,) * 10 for sign in (-1, 1))

    assert kept(prescribed(a=a, b=equal)).because == "no-improvement"
    assert kept(prescribed(a=a, b=equal), is_shorter=True).because == "simpler"
    assert kept(prescribed(a=a, b=worse), is_shorter=True).because == "no-improvement"
    assert kept(prescribed(a=a, b=better)).because == "improved"

    def proven(runs: tuple[float, ...]) -> Comparison:
        return LOWER.prove("a", "b", MetricTrials(prescribed(a=equal, b=runs)), 0.05)

    verdicts = [proven(runs).verdict for runs in (equal, worse, better)]
    assert [v.verdict for v in verdicts if v is not None] == ["reject", "reject", "accept"]


def test_what_rounding_makes_of_equal_runs_is_no_gain():
    for x in (0.1, 0.7, 1.1, 0.9979):
        lucky = (0.01, math.nextafter(x, 0), math.nextafter(x, 0))
        assert kept(prescribed(a=(x, x, x), b=lucky)).because == "no-improvement"
        nearly = (x, math.nextafter(x, 2), math.nextafter(x, 0), x, x)
        for a, b in ((nearly, (math.nextafter(x, 0),) * 5), ((x,) * 5, nearly[2:] + nearly[:2])):
            assert kept(prescribed(a=a, b=b)).because == "no-improvement"
            for test in (LOWER.prove("a", "b", MetricTrials(prescribed(a=a, b=b)), 0.3),):
                assert test.verdict is not None
                assert test.verdict.verdict == "reject"


ONCE = dataclasses.replace(LOWER, repeats=1)


@pytest.mark.parametrize(
    ("run", "is_shorter", "verdict", "because"),
    [
        (0.9999, False, "keep", "unconfirmed"),
        (1.0, False, "discard", "no-improvement"),
        (1.0, True, "keep", "unconfirmed"),
        (1.0001, True, "discard", "no-improvement"),
        ("crash", False, "discard", "no-improvement"),
    ],
)
def test_where_runs_cannot_be_repeated_better_is_kept_as_unconfirmed(run, is_shorter, verdict, because):
    trials = MetricTrials(prescribed(a=(1.0,), b=(run,)))
    decision = ONCE.keep("a", "b", trials, is_shorter=is_shorter, rounds=[])

    assert (decision.verdict, decision.because) == (verdict, because)
    assert decision.comparison is not None
    assert decision.comparison.sigma is None
    assert len(trials.bought) == 2


def test_where_runs_cannot_be_repeated_nothing_is_promoted_and_no_run_is_bought_for_it():
    trials = MetricTrials(prescribed(a=(1.0,), b=(0.5,)))
    for found in (ONCE.prove("a", "b", trials, 0.05), ONCE.harm("a", "b", trials)):
        assert found.verdict is not None
        assert (found.verdict.verdict, found.verdict.n, found.gain, found.sigma) == ("undecided", 0, None, None)
        assert found.is_valid
    assert trials.bought == {}
    assert ONCE.cost({"train": 2}) == 0


# ── promotion ──────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.integers(0, 2**32), st.floats(-3, 3), st.floats(0.1, 10))
def test_the_promotion_test_is_welchs(seed, gain, spread):
    rng = random.Random(seed)
    before = [rng.gauss(0, 1) for _ in range(5)]
    after = [rng.gauss(gain, spread) for _ in range(5)]
    expected = ttest_ind(after, before, equal_var=False, alternative="greater")
    low, high = ttest_ind(after, before, equal_var=False).confidence_interval(0.9)

    found = HIGHER.prove("a", "b", MetricTrials(prescribed(a=before, b=after)), 0.05)

    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.gain == pytest.approx(fmean(after) - fmean(before))
    assert found.verdict is not None
    wanted = "accept" if expected.pvalue <= 0.05 else "reject" if found.gain <= 0 else "undecided"
    assert found.verdict.verdict == wanted
    assert (found.verdict.e_value >= found.verdict.threshold) == (wanted == "accept") == (found.low > 0)


def test_both_sides_are_run_five_times_in_one_call_and_measured_on_five_runs_more():
    asked: list[tuple[list[str], int]] = []

    class Watched(MetricTrials):
        def attempt(self, versions, tasks, repeats=1):
            asked.append((list(versions), repeats))
            return super().attempt(versions, tasks, repeats)

    runs = {"a": [*(1.0, 1.1, 0.9, 1.0, 1.0), *(2.0, 2.1, 1.9, 2.0, 2.0)], "b": [0.5] * 5 + [1.8] * 5}
    trials = Watched(prescribed(**runs))
    proven, measured = LOWER.prove("a", "b", trials, 0.05), LOWER.measure("a", "b", trials)

    assert asked == [(["a", "b"], 5), (["a", "b"], 10)]
    assert len(trials.bought) == LOWER.cost({"train": 1})
    assert (proven.gain, measured.gain) == pytest.approx((0.5, 0.2))
    assert measured.low is not None
    assert measured.low < 0.2
    assert (measured.verdict, measured.tasks, measured.metric) == (None, 5, "val_bpb")


def test_undecided_says_about_how_many_more_runs_would_settle_it():
    runs = (-1.25, -0.63, 0.0, 0.63, 1.25)
    found = HIGHER.prove("a", "b", MetricTrials(prescribed(a=runs, b=[x + 0.8 for x in runs])), 0.05)
    assert found.verdict is not None
    assert found.verdict.verdict == "undecided"
    assert found.verdict.tasks_to_settle is not None
    larger = dataclasses.replace(HIGHER, final=5 + found.verdict.tasks_to_settle)

    assert share_promoted(0.8, 400, gate=larger) == pytest.approx(0.8, abs=0.07)


def test_a_change_that_does_harm_is_found_when_the_version_without_it_is_better():
    runs = {"a": (1.1, 1.11, 1.09), "b": (1.0, 1.01, 0.99)}
    found = LOWER.harm("a", "b", MetricTrials(prescribed(**runs)))
    converse = LOWER.harm("b", "a", MetricTrials(prescribed(**runs)))

    assert found.verdict is not None
    assert converse.verdict is not None
    assert (found.verdict.verdict, converse.verdict.verdict) == ("accept", "reject")
    assert (found.incumbent, found.candidate, found.tasks) == ("a", "b", 3)


def test_nothing_but_the_metric_guards_a_promotion():
    trials = MetricTrials(prescribed(a=(1.0,) * 5, b=(0.5,) * 5))
    proven = LOWER.prove("a", "b", trials, 0.05)
    assert LOWER.guard("a", "b", trials, trials.within("guard"), proven).found == ()
    assert len(trials.bought) == 10


# ── what must not matter ───────────────────────────────────────────────────────────────────────────────────────

NUMBERS = st.integers(-40, 40).map(lambda i: i / 16)
TROUBLES = st.sampled_from(["crash", "no number", "lost"])
RUNS = st.lists(st.one_of(NUMBERS, NUMBERS, NUMBERS, NUMBERS, TROUBLES), min_size=10, max_size=10)
WILD = st.lists(st.floats(allow_nan=False, allow_infinity=False) | TROUBLES, min_size=10, max_size=10)


def everything(gate: MetricGate, reader: Reader, *, is_shorter: bool) -> list[object]:
    """All that a gate decides about two versions: verdicts, gains with their intervals, and the runs it bought."""
    trials = MetricTrials(reader)
    decision = gate.keep("a", "b", trials, is_shorter=is_shorter, rounds=[])
    proof = trials.within("certify")
    comparisons = [
        decision.comparison,
        gate.prove("a", "b", proof, 0.05),
        gate.harm("a", "b", trials.within("harm")),
        gate.measure("a", "b", proof),
    ]
    found: list[object] = [decision.verdict, decision.because, len(trials.bought)]
    for c in comparisons:
        if c is not None:
            verdict = c.verdict.verdict if c.verdict is not None else None
            found += [verdict, c.gain, c.low, c.high, c.sigma, c.tasks, c.errors, c.is_valid, *c.differences]
    return found


def mapped(runs: list[float | str], scale: float, shift: float) -> list[float | str]:
    return [run if isinstance(run, str) else scale * run + shift for run in runs]


@given(RUNS, RUNS, st.booleans(), st.integers(1, 3))
def test_turning_the_metric_around_changes_nothing(a, b, is_shorter, repeats):
    lower = dataclasses.replace(LOWER, repeats=repeats)
    higher = dataclasses.replace(lower, better="higher")
    turned = prescribed(a=mapped(a, -1, 0), b=mapped(b, -1, 0))

    assert everything(higher, turned, is_shorter=is_shorter) == everything(
        lower, prescribed(a=a, b=b), is_shorter=is_shorter
    )


@given(st.integers(0, 2**32), st.floats(-3, 3), st.floats(0.1, 1e3), st.floats(-10, 10), st.booleans())
def test_the_unit_of_the_metric_changes_nothing(seed, gain, scale, shift, is_shorter):
    read = noisy(seed, 1.0, {"a": 0.0, "b": gain})

    def rescaled(scope: str, version: str, task: str, repeat: int) -> float:
        found = read(scope, version, task, repeat)
        assert isinstance(found, float)
        return scale * found + shift

    expected = everything(HIGHER, read, is_shorter=is_shorter)
    for one, other in zip(everything(HIGHER, rescaled, is_shorter=is_shorter), expected, strict=True):
        if isinstance(one, float):
            assert one == pytest.approx(scale * other, rel=1e-6, abs=1e-9 * (scale + abs(shift)))
        else:
            assert one == other


@given(RUNS | WILD, RUNS | WILD, st.booleans(), st.integers(1, 4))
def test_whatever_the_runs_give_there_is_a_decision_and_it_replays(a, b, is_shorter, repeats):
    gate = dataclasses.replace(LOWER, repeats=repeats)
    trials = MetricTrials(prescribed(a=a, b=b))

    def decide() -> list[Decision | Comparison]:
        return [
            gate.keep("a", "b", trials, is_shorter=is_shorter, rounds=[]),
            gate.prove("a", "b", trials.within("certify"), 0.05),
            gate.measure("a", "b", trials.within("certify")),
            gate.harm("a", "b", trials.within("harm")),
        ]

    first = decide()
    bought = len(trials.bought)

    assert decide() == first
    assert len(trials.bought) == bought
    assert [type(d).model_validate_json(d.model_dump_json()) for d in first] == first
    assert isinstance(first[0], Decision)
    assert (first[0].because == "unconfirmed") == (repeats == 1 and first[0].verdict == "keep")


# ── error rates ────────────────────────────────────────────────────────────────────────────────────────────────


def share_kept(gain: float, nights: int) -> float:
    """Of candidates that are better by *gain* sigmas, each against an incumbent of its own."""
    return fmean(kept(noisy(seed, 1.0, {"a": 0.0, "b": gain}), gate=HIGHER).verdict == "keep" for seed in range(nights))


def expected_share_kept(gain: float) -> float:
    """The rule of gate.md section 6, written down a second time."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal((400_000, 3))
    runs = gain + rng.standard_normal((400_000, 3)) - base.mean(axis=1, keepdims=True)
    kept = (runs[:, 0] > 0.5 * base.std(axis=1, ddof=1)) & (runs[:, 1:].mean(axis=1) > 0)
    return float(kept.mean())


@pytest.mark.parametrize("gain", [-1.0, 0.0, 1.0])
def test_as_many_changes_are_kept_as_the_rule_says(gain):
    expected = expected_share_kept(gain)
    assert share_kept(gain, 2000) == pytest.approx(expected, abs=3 * math.sqrt(expected * (1 - expected) / 2000))


def share_promoted(gain: float, nights: int, *, gate: MetricGate = HIGHER) -> float:
    found = (
        gate.prove("a", "b", MetricTrials(noisy(seed, 1.0, {"a": 0.0, "b": gain})), gate.alpha)
        for seed in range(nights)
    )
    return fmean(c.verdict is not None and c.verdict.verdict == "accept" for c in found)


def test_a_version_that_is_no_better_is_promoted_at_most_as_often_as_declared():
    assert share_promoted(0.0, 2000) <= at_most(0.05, 2000)


def test_a_version_that_is_better_by_two_sigmas_is_mostly_promoted():
    assert share_promoted(2.0, 500) > 0.85


def test_the_gain_measured_after_a_promotion_is_not_biased_as_the_one_before_is():
    seen: list[float] = []
    measured: list[float] = []
    for seed in range(1000):
        trials = MetricTrials(noisy(seed, 1.0, {"a": 0.0, "b": 1.0}))
        proven = HIGHER.prove("a", "b", trials, HIGHER.alpha)
        assert proven.verdict is not None
        if proven.verdict.verdict == "accept":
            after = HIGHER.measure("a", "b", trials)
            assert proven.gain is not None
            assert after.gain is not None
            seen.append(proven.gain)
            measured.append(after.gain)

    error = math.sqrt(2 / 5 / len(measured))
    assert fmean(measured) == pytest.approx(1.0, abs=3 * error)
    assert fmean(seen) > 1.0 + 6 * error


# ── whole nights ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Training:
    """Prints a loss of about 1, and of 0.1 less for each useful line in the prompt; one line makes it crash."""

    sigma: float = 0.01

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        if "Diverge." in text[PROMPT]:
            raise FloatingPointError("loss is nan")
        loss = 1 - 0.1 * text[PROMPT].count("Useful")
        return f"step 100\nval_bpb: {random.Random(seed).gauss(loss, self.sigma)}\n"


def a_night(gate: MetricGate, checkout: Path, directory: Path) -> list[Round]:
    experiment = an_experiment(
        tasks=[Task(id="pretrain", input="five minutes", split="train")],
        runner=Training(),
        grader=MetricGrader("val_bpb"),
        proposer=ListProposer(("Useful once.", "Diverge.", "Useful twice.", "Worse than nothing.")),
        gate=gate,
    )
    return play(experiment, checkout, directory)


def test_a_night_on_a_metric_keeps_what_helps_and_promotes_it_with_a_gain_in_its_unit(checkout, tmp_path):
    rounds = a_night(LOWER, checkout, tmp_path / "data")

    assert [str(r.decision and r.decision.because) for r in rounds[1:-1]] == [
        "improved",
        "no-improvement",
        "improved",
        "no-improvement",
    ]
    found = rounds[-1].certification
    assert found is not None
    assert (found.verdict, found.alpha, found.test_number) == ("accept", 0.05, None)
    assert found.measured is not None
    assert found.measured.gain == pytest.approx(0.2, abs=0.03)
    assert rounds[-1].trials == 3 * (1 + 2) + 3 + 1 + 3 + 1 + LOWER.cost({"train": 1})


@dataclass(frozen=True)
class Scaling(Training):
    """As ``Training``; but where much is trained, a second useful line is worth *there*."""

    there: float = 0.1

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        if task.id != "large":
            return super().run(task, text, seed)
        useful = text[PROMPT].count("Useful")
        loss = 0.8 - self.there * useful
        return f"val_bpb: {random.Random(seed).gauss(loss, self.sigma)}\n"


@pytest.mark.parametrize(("there", "verdict"), [(0.05, "accept"), (-0.05, "blocked")])
def test_a_gain_is_promoted_only_where_it_carries_over_to_the_large_model_that_no_round_runs(
    checkout, tmp_path, there, verdict
):
    directory = tmp_path / "data"
    large = Task(id="large", input="depth 24", split="test")
    experiment = an_experiment(
        tasks=[Task(id="small", input="depth 12", split="train"), large],
        runner=Scaling(there=there),
        grader=MetricGrader("val_bpb"),
        proposer=ListProposer(("Useful once.",)),
        gate=LOWER,
    )
    rounds = play(experiment, checkout, directory)

    found = rounds[-1].certification
    assert found is not None
    assert found.verdict == verdict
    [guard] = found.guards
    assert (guard.kind, guard.name, guard.n) == ("transfer", "large", 5)
    assert guard.gain == pytest.approx(there, abs=0.02)
    journal = journal_file(directory, rounds[0].run)
    runs = [cast(Trial, line.record()) for line in read(journal) if line.type == "Trial"]
    assert [t.round for t in runs if t.task == "large"] == [None] * 10
    assert verify(journal, directory).is_sound


def test_a_night_of_single_runs_promotes_nothing_and_calls_every_keep_unconfirmed(checkout, tmp_path):
    rounds = a_night(ONCE, checkout, tmp_path / "data")

    keeps = [r.decision for r in rounds if r.decision is not None and r.decision.verdict == "keep"]
    assert len(keeps) >= 2
    assert {(d.because, d.comparison and d.comparison.sigma) for d in keeps} == {("unconfirmed", None)}
    found = rounds[-1].certification
    assert found is not None
    assert (found.verdict, found.measured) == ("undecided", None)
    assert "unconfirmed" in found.detail


# ── what is declared ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_score_of_a_version_is_the_mean_of_its_runs_with_students_interval():
    [runs] = MetricTrials(prescribed(a=(1.02, "crash", 1.0, 0.98))).attempt(["a"], [Task(id="t", input="")], 4)
    score = LOWER.score(runs)
    half = 2.91998558 * 0.02 / math.sqrt(3)
    assert score == pytest.approx((1.0, 1.0 - half, 1.0 + half))

    [once] = MetricTrials(prescribed(a=(1.02,))).attempt(["a"], [Task(id="t", input="")])
    assert LOWER.score(once) == (1.02, 1.02, 1.02)
    [none] = MetricTrials(prescribed(a=("crash",))).attempt(["a"], [Task(id="t", input="")])
    assert LOWER.score(none) is None


def test_which_way_is_better_has_to_be_said():
    with pytest.raises(TypeError, match="better"):
        MetricGate("val_bpb")  # type: ignore[call-arg]
    for wrong in ({"better": "smaller"}, {"repeats": 0}, {"confirm": 0}, {"final": 1}, {"alpha": 0.5}):
        with pytest.raises(ValueError, match=r"better|least|between"):
            MetricGate("val_bpb", **{"better": "lower", **wrong})


def test_a_hidden_task_is_refused_because_it_would_never_be_run():
    task = Task(id="big", input="", split="validation")
    with pytest.raises(UserError, match="of the split validation, first 'big'"):
        LOWER.check([task, task.model_copy(update={"split": "train"})])
    LOWER.check([task.model_copy(update={"split": "train"})])
