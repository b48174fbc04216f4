"""Ways to fool oneself that the field has walked into: what each costs, and that the gate does not pay it.

Every test simulates the naive way first, to show that the trap is real; the share that it falls for is in the test.
"""

import math
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.stats import binom

from harness.errors import UserError
from harness.gate import GateSpec, PairedGate, decide
from harness.gate.eprocess import provable_gain
from harness.gate.guards import look_again, slices
from harness.gate.lond import alpha_for
from harness.gate.nights import NULL, OVERFIT, NightSpec, keep_if_higher, one_standard_error, simulate
from harness.gate.simulate import Floats, binary, decide_all
from tests.gate.checks import at_most
from tests.gate.worlds import CANDIDATE, LIVE, Score, World, some_tasks
from traces.records import Comparison, Grade, Split, Task, Trial

ARMS = (LIVE, CANDIDATE)
ALPHA = 0.05
PATHS = 2500
NIGHTS = 40
"""Promotion tests through the gate itself, trial by trial."""


def accepted(differences: Floats, alpha: float = ALPHA) -> NDArray[np.bool_]:
    return decide_all(differences, GateSpec(alpha=alpha, n_max=differences.shape[1])).accepted


def mcnemar(differences: Floats, alpha: float = ALPHA) -> NDArray[np.bool_]:
    """The exact test of a fixed number of differences, one-sided, on each row."""
    wins, discordant = (differences > 0).sum(axis=-1), (differences != 0).sum(axis=-1)
    return np.asarray(binom.sf(wins - 1, discordant, 0.5) <= alpha)


def promoted(comparison: Comparison) -> bool:
    return comparison.is_valid and comparison.verdict is not None and comparison.verdict.verdict == "accept"


def prove(world: World) -> Comparison:
    return PairedGate().prove(LIVE, CANDIDATE, world, ALPHA)


def share_promoted(a_world: Callable[[np.random.Generator], World], nights: int = NIGHTS) -> float:
    return float(np.mean([promoted(prove(a_world(np.random.default_rng(seed)))) for seed in range(nights)]))


def a_world(tasks: list[Task], live: Iterable[Score], candidate: Iterable[Score]) -> World:
    """A score a task, of each version."""
    table: dict[tuple[str, str], Score] = {}
    for task, a, b in zip(tasks, live, candidate, strict=True):
        table[LIVE, task.id], table[CANDIDATE, task.id] = a, b
    return World(tasks, lambda bought: table[bought.version, bought.task.id])


def two_runs(rng: np.random.Generator, shape: tuple[int, ...]) -> tuple[Floats, Floats]:
    """0-or-1 scores of two identical versions: right in 60 %, and they differ on 17 %."""
    chance = rng.choice([0.0, 0.5, 1.0], p=[0.23, 0.34, 0.43], size=shape)
    return (rng.random(shape) < chance).astype(float), (rng.random(shape) < chance).astype(float)


# ── which tasks ────────────────────────────────────────────────────────────────────────────────────────────────


def test_running_only_the_incumbents_failures_again_promotes_an_identical_version_every_time():
    live, candidate = two_runs(np.random.default_rng(1), (PATHS, 200))
    second_chance = np.where(live == 1, 1.0, candidate)

    assert (second_chance.mean(axis=1) > live.mean(axis=1)).mean() == 1.0
    assert accepted(second_chance - live).mean() > 0.99  # no test can repair what the choice of tasks has broken
    assert accepted(candidate - live).mean() <= at_most(ALPHA, PATHS)


def test_the_gate_runs_both_versions_on_every_task_that_it_looks_at_one_after_the_other():
    tasks = some_tasks(200)
    worlds: list[World] = []

    def identical(rng: np.random.Generator) -> World:
        worlds.append(a_world(tasks, *two_runs(rng, (200,))))
        return worlds[-1]

    assert share_promoted(identical) <= at_most(ALPHA, NIGHTS)
    for world in worlds:
        for before, after in zip(world.asked[::2], world.asked[1::2], strict=True):  # side by side
            assert (before.version, after.version) == ARMS
            assert before.task == after.task


def test_tasks_in_the_order_of_their_difficulty_make_a_gain_of_the_easy_ones_look_like_one_of_all():
    """+20 points on the first half, −20 on the second: promoted before the second half is seen."""

    def easy_first(rng: np.random.Generator, paths: int) -> Floats:
        return np.hstack([binary(rng, paths, 100, 0.2, 0.24), binary(rng, paths, 100, -0.2, 0.24)])

    rng = np.random.default_rng(2)
    differences = easy_first(rng, PATHS)
    assert accepted(differences).mean() == pytest.approx(0.63, abs=0.04)
    assert accepted(rng.permuted(differences, axis=1)).mean() <= at_most(ALPHA, PATHS)

    tasks = some_tasks(200)  # by name, the easy ones come first

    def sorted_tasks(rng: np.random.Generator) -> World:
        (row,) = easy_first(rng, 1)
        return a_world(tasks, (row < 0).astype(float), (row > 0).astype(float))

    assert share_promoted(sorted_tasks) <= at_most(ALPHA, NIGHTS)


def test_ten_questions_about_one_document_are_one_observation():
    """20 documents: a change that helps with some and hurts with as many."""

    def documents(rng: np.random.Generator, paths: int) -> Floats:
        return np.repeat(binary(rng, paths, 20, 0.0, 0.17), 10, axis=1)

    differences = documents(np.random.default_rng(3), PATHS)
    assert accepted(differences).mean() == pytest.approx(0.29, abs=0.03)
    assert accepted(differences.reshape(PATHS, 20, 10).mean(axis=2)).mean() <= at_most(ALPHA, PATHS)

    tasks = some_tasks(20, each=10)

    def clustered(rng: np.random.Generator) -> World:
        (row,) = documents(rng, 1)
        return a_world(tasks, (row < 0).astype(float), (row > 0).astype(float))

    assert share_promoted(clustered) <= at_most(ALPHA, NIGHTS)


def test_more_tasks_beat_more_repeats():
    """200 calls a side at +5 points, where versions differ by what they do and not by chance."""
    rng = np.random.default_rng(4)
    power = {n: accepted(binary(rng, PATHS, n, 0.05, 0.17)).mean() for n in (200, 100, 50)}

    assert power[200] == pytest.approx(0.40, abs=0.04)
    assert power[100] == pytest.approx(0.23, abs=0.04)
    assert power[50] == pytest.approx(0.10, abs=0.04)


def test_on_under_a_hundred_tasks_no_rule_proves_five_points():
    """Not even the best test of fixed size, and not even where the change breaks nothing at all."""
    first = alpha_for(0.10, 40, 1, 0)
    rng = np.random.default_rng(5)
    assert mcnemar(binary(rng, PATHS, 99, 0.05, 0.05), first).mean() < 0.10
    assert mcnemar(binary(rng, PATHS, 99, 0.05, 0.17)).mean() < 0.30
    assert provable_gain(0.05, 99, first) > 0.05

    with pytest.raises(UserError, match=r"smallest gain .* is about 0\.2\d"):
        PairedGate().check(some_tasks(59))


# ── which scores ───────────────────────────────────────────────────────────────────────────────────────────────


GIVING_UP: dict[str, tuple[Score | None, Score]] = {
    "its own time-outs": (None, "timeout"),
    "the server refuses it": (None, "rate_limit"),
    "the server breaks down under it": ("rate_limit", "rate_limit"),
}
"""How a task ends on which the candidate never answers: for the live version (``None``: as ever), and for itself."""


@pytest.mark.parametrize("way", GIVING_UP)
def test_leaving_out_the_tasks_without_an_answer_promotes_a_version_that_gives_up_on_hard_ones(way: str):
    """Right on 50 % where the live version is on 60 %; but of its wrong answers four in five never arrive."""
    of_live, of_candidate = GIVING_UP[way]
    tasks = some_tasks(200)
    naive = 0
    for seed in range(NIGHTS):
        rng = np.random.default_rng(seed)
        live, candidate = (rng.random(200) < 0.6).astype(float), (rng.random(200) < 0.5).astype(float)
        gone = (candidate == 0) & (rng.random(200) < 0.8)
        rest = (candidate - live)[~gone].tolist()
        naive += decide(rest, GateSpec(alpha=ALPHA, n_max=len(rest))).verdict == "accept"

        comparison = prove(
            a_world(
                tasks,
                [of_live if missing and of_live else score for score, missing in zip(live, gone, strict=True)],
                [of_candidate if missing else score for score, missing in zip(candidate, gone, strict=True)],
            )
        )
        assert not promoted(comparison)
        assert comparison.is_valid == (of_candidate == "timeout")
    assert naive > 0.8 * NIGHTS


def test_clipping_a_disaster_to_the_range_of_scores_promotes_it():
    """+0.2 nineteen times in twenty and −3.8 once: no gain, until the loss is clipped to −1."""
    true = np.where(np.random.default_rng(6).random((PATHS, 200)) < 0.95, 0.2, -3.8)
    assert abs(true.mean()) < 0.01
    assert accepted(np.clip(true, -1, 1)).mean() > 0.99

    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Grade(score=-3.3)
    with pytest.raises(ValueError, match="never clipped"):
        decide(true[0].tolist(), GateSpec(alpha=ALPHA, n_max=200))


# ── when they were measured ────────────────────────────────────────────────────────────────────────────────────


def kinder(
    rng: np.random.Generator, split: Split, after: int, *, says_so: bool, gain: Callable[[float], float] = float
) -> World:
    """Versions that are identical but for the candidate's *gain*. After so many trials the grader gives 5 points more,
    and may say that it is another one."""
    tasks = some_tasks(200, split=split)
    live, candidate = two_runs(rng, (200,))
    lucky = rng.random(200) < 0.125  # of the 40 % that are wrong
    table = {
        (version, task.id, kind): max(score, float(kind and luck))
        for version, row in ((LIVE, live), (CANDIDATE, map(gain, candidate)))
        for task, score, luck in zip(tasks, row, lucky.tolist(), strict=True)
        for kind in (False, True)
    }
    return World(
        tasks,
        score=lambda bought: table[bought.version, bought.task.id, bought.before >= after],
        conditions=lambda bought: (f"model=grader-{1 + (bought.before >= after)}",) if says_so else (),
    )


def test_old_scores_of_the_incumbent_turn_a_drift_of_the_grader_into_a_gain():
    """A grader that has become 5 points kinder promotes two identical versions in five, and keeps four. A promotion
    test runs both afresh and side by side."""
    rng = np.random.default_rng(7)
    at_hand = binary(rng, PATHS, 200, 0.05, 0.17)
    assert accepted(at_hand).mean() == pytest.approx(0.41, abs=0.04)
    assert accepted(at_hand, 0.3).mean() == pytest.approx(0.82, abs=0.04)

    assert share_promoted(lambda rng: kinder(rng, "validation", 60, says_so=False)) <= at_most(ALPHA, NIGHTS)


def test_a_change_of_conditions_during_a_promotion_test_makes_it_mean_nothing():
    for seed in range(10):
        comparison = prove(kinder(np.random.default_rng(seed), "validation", 10, says_so=True))
        assert not comparison.is_valid
        assert comparison.drift == "model was grader-1 and grader-2"


def test_scores_at_hand_that_were_measured_under_other_conditions_are_bought_again():
    """Else four of five identical versions would be kept; at this level of a keep, three in ten may be."""
    few = NIGHTS // 3

    def kept(*, says_so: bool, gain: Callable[[float], float] = float) -> float:
        gate = PairedGate(keep_alpha=0.3)
        worlds = [  # another grader right after the incumbent was measured
            kinder(np.random.default_rng(seed), "train", 200, says_so=says_so, gain=gain) for seed in range(few)
        ]
        keeps = [gate.keep(LIVE, CANDIDATE, world, is_shorter=False, rounds=()) for world in worlds]
        return sum(decision.verdict == "keep" for decision in keeps) / few

    assert kept(says_so=False) > at_most(0.3, few)
    assert kept(says_so=True) <= at_most(0.3, few)
    assert kept(says_so=True, gain=lambda score: 1.0) == 1.0


# ── how often they were looked at ──────────────────────────────────────────────────────────────────────────────


def test_looking_at_a_test_of_fixed_size_after_every_batch_is_false_one_time_in_five():
    differences = binary(np.random.default_rng(8), PATHS, 200, 0.0, 0.17)
    looks = range(10, 201, 10)
    sums, squares = differences.cumsum(axis=1), (differences**2).cumsum(axis=1)
    z_test = np.any([sums[:, n - 1] > 1.645 * np.sqrt(squares[:, n - 1]) for n in looks], axis=0)
    exact = np.any([mcnemar(differences[:, :n]) for n in looks], axis=0)

    assert z_test.mean() == pytest.approx(0.21, abs=0.03)
    assert exact.mean() == pytest.approx(0.115, abs=0.02)
    assert accepted(differences).mean() <= at_most(ALPHA, PATHS)


def test_forty_tests_at_five_percent_each_promote_something_false_in_most_lives_of_a_split():
    rng = np.random.default_rng(9)
    null = binary(rng, 40 * PATHS // 4, 200, 0.0, 0.17)

    def any_of_forty(alpha: float) -> float:
        return float(accepted(null, alpha).reshape(-1, 40).any(axis=1).mean())

    assert any_of_forty(ALPHA) == pytest.approx(0.70, abs=0.06)
    assert any_of_forty(alpha_for(0.10, 40, 1, 0)) <= at_most(0.10, PATHS // 4)


def test_the_gain_seen_at_the_moment_of_acceptance_overstates_five_points_by_two_to_six():
    rng = np.random.default_rng(10)
    differences = binary(rng, 4 * PATHS, 200, 0.05, 0.17)
    for alpha in (ALPHA, alpha_for(0.10, 40, 1, 0)):
        outcomes = decide_all(differences, GateSpec(alpha=alpha, n_max=200))
        assert 0.02 < outcomes.gain_at_stop[outcomes.accepted].mean() - 0.05 < 0.06

    reported = binary(rng, PATHS, 100, 0.05, 0.17).mean(axis=1)  # the test split: other tasks, and no stopping
    assert reported.mean() == pytest.approx(0.05, abs=3 * reported.std() / math.sqrt(PATHS))


# ── what else is looked at ─────────────────────────────────────────────────────────────────────────────────────


def sides(tasks: list[Task], differences: Floats) -> list[dict[str, list[Trial]]]:
    """Trials that differ so: a win is 0 against 1, a loss 1 against 0, a tie 0 against 0."""
    return a_world(tasks, (differences < 0).astype(float), (differences > 0).astype(float)).attempt(ARMS, tasks)


def test_that_no_slice_may_drop_blocks_seven_good_changes_in_ten():
    """Seven kinds of 30 tasks each. The guard asks for a second look at one in thirty, and hardly ever means it."""
    differences = binary(np.random.default_rng(11), PATHS, 210, 0.05, 0.15)
    dropped = (differences.reshape(PATHS, 7, 30).sum(axis=2) < 0).any(axis=1)
    assert dropped.mean() == pytest.approx(0.72, abs=0.03)

    tasks = some_tasks(210, kinds=7)
    clusters = [[task] for task in tasks]
    held = blocked = 0
    for first, fresh in zip(differences[:NIGHTS], differences[NIGHTS:], strict=False):
        suspects = [g for g in slices(clusters, *sides(tasks, first), 0.0) if g.verdict == "hold"]
        held += bool(suspects)
        blocked += any(look_again(g, clusters, *sides(tasks, fresh), 0.0).verdict == "block" for g in suspects)
    assert held <= NIGHTS * at_most(0.04, NIGHTS)
    assert blocked == 0


# ── whole nights ───────────────────────────────────────────────────────────────────────────────────────────────

SOME = 200


def test_keeping_what_scored_higher_promotes_something_false_on_a_night_without_a_better_proposal():
    """With ten proposals in seven nights of eight, and asked for a standard error more still in three of five."""
    ten = NightSpec(proposals=10, mix=NULL)
    assert keep_if_higher(ten, 4 * SOME).false.mean() == pytest.approx(0.87, abs=0.05)
    assert one_standard_error(ten, 4 * SOME).false.mean() == pytest.approx(0.60, abs=0.08)

    forty = NightSpec(proposals=40, mix=NULL)
    assert keep_if_higher(forty, SOME).false.mean() > 0.95
    assert simulate(forty, SOME).promoted.mean() <= at_most(0.05, SOME)


def test_on_an_ordinary_night_keeping_what_scored_higher_keeps_something_false_and_claims_too_much():
    naive, ours = keep_if_higher(NightSpec(), SOME), simulate(NightSpec(), SOME)

    assert naive.false.mean() > 0.97
    assert naive.claimed.mean() - naive.gain.mean() > 0.02
    assert ours.false.mean() <= at_most(0.015, SOME)
    assert ours.claimed.mean() == pytest.approx(ours.gain.mean(), abs=0.01)  # measured on test


def test_proposals_that_learn_the_train_tasks_by_heart_are_kept_and_not_promoted():
    """A fifth of the proposals gain five points on train and nothing elsewhere: twenty points of nothing in a night."""
    naive, ours = keep_if_higher(NightSpec(mix=OVERFIT), SOME), simulate(NightSpec(mix=OVERFIT), SOME)

    assert naive.false.mean() > 0.99
    assert naive.claimed.mean() == pytest.approx(0.21, abs=0.03)
    assert naive.gain.mean() < 0.005
    assert ours.kept.mean() > 3  # they do look good
    assert ours.promoted.mean() <= at_most(0.05, SOME)


def test_a_grader_that_became_kinder_over_night_promotes_nothing():
    night = NightSpec(mix=NULL, drift=0.05)
    ours = simulate(night, SOME)

    assert keep_if_higher(night, SOME).false.mean() > 0.99
    assert ours.kept.mean() > 3
    assert ours.promoted.mean() <= at_most(0.05, SOME)
