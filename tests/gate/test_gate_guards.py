import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, t

from harness.gate.guards import chance, cost, failures, latency, look_again, must_pass, slices
from traces.records import Grade, Guard, Task, Trial, Usage


def trial(
    task: str,
    score: float | None = 1.0,
    *,
    lost: bool = False,
    seconds: float = 1.0,
    tokens: int = 100,
    dollars: float | None = None,
) -> Trial:
    """A score of ``None`` is a failure of the version's own."""
    failed = score is None or lost
    return Trial(
        id=task,
        run="run",
        version="version",
        task=task,
        split="validation",
        grade=None if failed or score is None else Grade(score=score),
        error="it broke" if failed else None,
        error_class="rate_limit" if lost else "timeout" if failed else None,
        boundary="runner" if failed else None,
        started=datetime(2026, 1, 1, tzinfo=UTC),
        seconds=seconds,
        usage=Usage(input_tokens=tokens, dollars=dollars),
    )


def alone(names: Sequence[str], *tags: str) -> list[list[Task]]:
    return [[Task(id=name, input=name, tags=tags)] for name in names]


def side(scores: Mapping[str, float | None]) -> dict[str, list[Trial]]:
    return {name: [trial(name, score)] for name, score in scores.items()}


def slice_guard(wins: int, losses: int, ties: int = 0) -> Guard:
    names = [f"t{i}" for i in range(wins + losses + ties)]
    before = side({name: float(wins <= i < wins + losses) for i, name in enumerate(names)})
    after = side({name: float(i < wins) for i, name in enumerate(names)})
    (guard,) = slices(alone(names, "hard"), before, after, 0.0)
    return guard


# ── slices ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_slice_is_held_when_it_lost_clearly_and_by_three_at_least():
    assert slice_guard(0, 4).verdict == "hold"  # p .0625
    assert slice_guard(1, 5).verdict == "pass"  # p .109, four net
    assert slice_guard(1, 6).verdict == "hold"  # p .0625
    assert slice_guard(0, 3).verdict == "pass"  # p .125, three net
    assert slice_guard(15, 12, 3).verdict == "pass"
    assert slice_guard(6, 0).verdict == "pass"


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_chance_is_that_of_the_exact_binomial_test(wins: int, losses: int):
    expected = binomtest(losses, wins + losses, alternative="greater").pvalue if wins + losses else 1.0
    assert chance(wins, losses) == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 4))
def test_a_slice_is_judged_by_exactly_the_declared_rule(wins: int, losses: int, ties: int):
    if not wins + losses + ties:
        return
    guard = slice_guard(wins, losses, ties)
    assert (guard.kind, guard.name, guard.n, guard.wins, guard.losses) == (
        "slice",
        "hard",
        wins + losses + ties,
        wins,
        losses,
    )
    assert guard.p == chance(wins, losses)
    assert (guard.verdict == "hold") == (chance(wins, losses) < 0.10 and losses - wins >= 3)


def test_each_tag_is_looked_at_with_the_tasks_that_carry_it():
    tasks = [
        [Task(id="a", input="a", tags=("plural", "long"))],
        [Task(id="b", input="b", tags=("long",))],
        [Task(id="c", input="c")],
    ]
    before = side({"a": 0.0, "b": 1.0, "c": 1.0})
    after = side({"a": 1.0, "b": 0.0, "c": 0.0})

    assert [(g.name, g.n, g.wins, g.losses) for g in slices(tasks, before, after, 0.0)] == [
        ("long", 2, 1, 1),
        ("plural", 1, 1, 0),
    ]


def test_a_cluster_is_one_observation_however_many_tasks_it_has():
    tasks = [[Task(id=f"{c}{i}", input="x", tags=("hard",)) for i in range(5)] for c in "ab"]
    names = [task.id for cluster in tasks for task in cluster]
    (guard,) = slices(tasks, side(dict.fromkeys(names, 1.0)), side(dict.fromkeys(names, 0.0)), 0.0)
    assert (guard.verdict, guard.n, guard.losses) == ("pass", 2, 2)


def test_within_a_cluster_only_the_tasks_of_the_slice_count():
    tasks = [[Task(id="a", input="a", tags=("hard",)), Task(id="b", input="b")]]
    (guard,) = slices(tasks, side({"a": 0.0, "b": 1.0}), side({"a": 0.4, "b": 0.0}), 0.0)
    assert (guard.wins, guard.losses) == (1, 0)


def test_means_that_differ_by_rounding_are_a_tie():
    tasks = [[Task(id=name, input="x", tags=("hard",)) for name in "ab"]]
    (guard,) = slices(tasks, side({"a": 0.3, "b": 0.0}), side({"a": 0.1, "b": 0.2}), 0.0)
    assert (guard.wins, guard.losses) == (0, 0)
    (guard,) = slices(tasks, side({"a": 0.1, "b": 0.2}), side({"a": 0.3, "b": 0.0}), 0.0)
    assert (guard.wins, guard.losses) == (0, 0)


def test_where_the_candidate_fails_it_has_the_failure_score():
    names = ["a", "b", "c", "d"]
    before, after = side(dict.fromkeys(names, 0.2)), side(dict.fromkeys(names, None))
    assert slices(alone(names, "hard"), before, after, 0.0)[0].losses == 4
    assert slices(alone(names, "hard"), before, after, 0.2)[0].losses == 0


def test_a_task_that_is_lost_on_one_side_is_dropped_on_both():
    names = ["a", "b", "c", "d", "e"]
    before, after = side(dict.fromkeys(names, 1.0)), side(dict.fromkeys(names, 0.0))
    after["a"] = [trial("a", lost=True)]
    before["b"] = [trial("b", lost=True)]
    del after["c"]
    (guard,) = slices(alone(names, "hard"), before, after, 0.0)
    assert (guard.n, guard.losses, guard.verdict) == (2, 2, "pass")


def test_a_slice_with_no_trial_left_is_not_listed():
    assert slices(alone(["a"], "hard"), side({"a": 1.0}), {"a": [trial("a", lost=True)]}, 0.0) == ()


def test_repeats_are_averaged_inside_the_task():
    before = {"a": [trial("a", 0.0), trial("a", 1.0)]}
    after = {"a": [trial("a", 1.0), trial("a", 1.0), trial("a", 0.0)]}
    (guard,) = slices(alone(["a"], "hard"), before, after, 0.0)
    assert (guard.n, guard.wins) == (1, 1)


def test_a_held_slice_is_judged_by_the_fresh_trials_alone():
    held, names = slice_guard(0, 10), [f"t{i}" for i in range(10)]
    tasks = alone(names, "hard")
    same, worse = side(dict.fromkeys(names, 1.0)), side(dict.fromkeys(names, 0.0))

    assert look_again(held, tasks, same, same, 0.0) == held.model_copy(
        update={"verdict": "pass", "losses": 0, "p": 1.0}
    )
    assert look_again(held, tasks, same, worse, 0.0) == held.model_copy(update={"verdict": "block"})


def test_a_held_slice_stays_held_when_every_fresh_trial_was_lost():
    held = slice_guard(0, 4)
    lost = {"t0": [trial("t0", lost=True)]}
    assert look_again(held, alone(["t0"], "hard"), lost, lost, 0.0) == held


# ── failures ───────────────────────────────────────────────────────────────────────────────────────────────────


def failure_guard(mended: int, new: int, both: int = 0) -> Guard:
    names = [f"t{i}" for i in range(mended + new + both + 10)]
    before = side({name: None if i < mended + both else 1.0 for i, name in enumerate(names)})
    after = side({n: None if mended <= i < mended + both + new else 0.0 for i, n in enumerate(names)})
    guard = failures(alone(names), before, after)
    assert guard is not None
    return guard


def test_five_new_failures_block_and_four_do_not():
    assert failure_guard(0, 4).verdict == "pass"  # p .0625
    assert failure_guard(0, 5).verdict == "block"  # p .031
    assert failure_guard(3, 9).verdict == "pass"  # p .073
    assert failure_guard(9, 0).verdict == "pass"


def test_a_task_on_which_both_fail_says_nothing():
    guard = failure_guard(2, 3, both=20)
    assert (guard.wins, guard.losses, guard.n, guard.p) == (2, 3, 35, 0.5)


def test_a_wrong_answer_is_no_failure_and_a_lost_trial_is_none_either():
    names = [f"t{i}" for i in range(12)]
    before = side(dict.fromkeys(names, 1.0))
    wrong = side(dict.fromkeys(names, 0.0))
    lost = {name: [trial(name, lost=True)] for name in names[:6]} | side(dict.fromkeys(names[6:], 1.0))

    assert (guard := failures(alone(names), before, wrong)) is not None
    assert (guard.n, guard.losses) == (12, 0)
    assert (guard := failures(alone(names), before, lost)) is not None
    assert (guard.n, guard.losses) == (6, 0)


def test_where_nothing_was_compared_there_is_no_guard():
    lost = {"a": [trial("a", lost=True)]}
    assert failures(alone(["a"]), lost, lost) is None
    assert cost(alone(["a"]), lost, lost, 1.0) is None
    assert latency(alone(["a"]), lost, lost, 1.0) is None


# ── cost and latency ───────────────────────────────────────────────────────────────────────────────────────────


def slower(factors: Sequence[float]) -> tuple[list[list[Task]], dict[str, list[Trial]], dict[str, list[Trial]]]:
    names = [f"t{i}" for i in range(len(factors))]
    before = {name: [trial(name, seconds=2.0)] for name in names}
    after = {name: [trial(name, seconds=2.0 * factor)] for name, factor in zip(names, factors, strict=True)}
    return alone(names), before, after


@given(st.lists(st.floats(0.3, 3.9), min_size=2, max_size=30), st.floats(0.5, 3))
@settings(deadline=None)
def test_the_lower_limit_is_that_of_student_on_the_log_ratios(factors: list[float], cap: float):
    guard = latency(*slower(factors), cap)
    assert guard is not None
    logs = [math.log(factor) for factor in factors]
    n, mean = len(logs), sum(logs) / len(logs)
    error = math.sqrt(sum((x - mean) ** 2 for x in logs) / (n - 1) / n)

    assert (guard.kind, guard.n, guard.cap) == ("latency", n, cap)
    assert guard.ratio == pytest.approx(math.exp(mean))
    assert guard.low == pytest.approx(math.exp(mean - t.ppf(0.9, n - 1) * error))
    assert (guard.verdict == "block") == (guard.low is not None and guard.low > cap)


def test_twice_the_time_everywhere_is_over_a_cap_of_half_as_much_again():
    assert (guard := latency(*slower([2.0] * 20), 1.5)) is not None
    assert (guard.verdict, guard.ratio, guard.low) == ("block", pytest.approx(2.0), pytest.approx(2.0))


def test_one_task_that_hangs_has_no_say_over_the_mean():
    assert (guard := latency(*slower([1.0] * 19 + [10_000.0]), 1.2)) is not None
    assert guard.verdict == "pass"
    assert guard.ratio == pytest.approx(4 ** (1 / 20))

    assert (guard := latency(*slower([1.0] * 19 + [1e-6]), 1.2)) is not None
    assert guard.ratio == pytest.approx(4 ** (-1 / 20))


def test_without_a_cap_it_is_measured_and_blocks_nothing():
    assert (guard := latency(*slower([100.0] * 20), None)) is not None
    assert (guard.verdict, guard.ratio, guard.cap) == ("pass", pytest.approx(4.0), None)


def test_a_single_cluster_blocks_nothing():
    assert (guard := latency(*slower([4.0]), 1.1)) is not None
    assert (guard.verdict, guard.low) == ("pass", 0.0)


def test_a_cluster_is_one_ratio_however_many_tasks_it_has():
    tasks, before, after = slower([4.0] * 30 + [1.0, 1.0])
    clusters = [[task for (task,) in tasks[:30]], *tasks[30:]]
    assert (guard := latency(clusters, before, after, None)) is not None
    assert (guard.n, guard.ratio) == (3, pytest.approx(4 ** (1 / 3)))


def priced(amounts: Sequence[tuple[int, float | None]]) -> dict[str, list[Trial]]:
    return {f"t{i}": [trial(f"t{i}", tokens=n, dollars=price)] for i, (n, price) in enumerate(amounts)}


def test_cost_is_in_dollars_where_every_price_is_known():
    tasks = alone(["t0", "t1", "t2"])
    before = priced([(100, 0.01)] * 3)
    assert (guard := cost(tasks, before, priced([(100, 0.03)] * 3), 2.0)) is not None
    assert (guard.name, guard.ratio, guard.verdict) == ("dollars", pytest.approx(3.0), "block")

    assert (guard := cost(tasks, before, priced([(100, 0.03), (150, None), (150, 0.03)]), 2.0)) is not None
    assert (guard.name, guard.verdict, guard.n) == ("tokens", "pass", 3)


def test_a_model_that_costs_nothing_is_measured_in_tokens():
    tasks = alone(["t0", "t1"])
    assert (guard := cost(tasks, priced([(100, 0.0)] * 2), priced([(200, 0.0)] * 2), 1.5)) is not None
    assert (guard.name, guard.ratio, guard.verdict) == ("tokens", pytest.approx(2.0), "block")


def test_a_task_without_cost_on_one_side_has_no_ratio_and_is_dropped():
    tasks = alone(["t0", "t1", "t2", "t3"])
    before = priced([(100, 0.01), (0, 0.0), (100, 0.01), (100, 0.01)])
    after = priced([(100, 0.02), (100, 0.02), (0, 0.0), (100, 0.02)])
    assert (guard := cost(tasks, before, after, None)) is not None
    assert (guard.n, guard.ratio) == (2, pytest.approx(2.0))

    nothing = priced([(0, 0.0)] * 4)
    assert cost(tasks, nothing, after, 1.0) is None


# ── must-pass ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        ((1.0, 1.0, 1.0), "pass"),
        ((0.5, 0.0, 1.0), "pass"),
        ((1.0, 0.49, 0.0), "block"),
        ((1.0, None, None), "block"),
        ((0.0, None, 1.0), "block"),
    ],
)
def test_failing_two_of_three_fresh_runs_blocks(scores: Sequence[float | None], verdict: str):
    guard = must_pass("login", [trial("login", score) for score in scores])
    assert (guard.kind, guard.name, guard.verdict, guard.n) == ("must-pass", "login", verdict, 3)
    assert (guard.wins or 0) + (guard.losses or 0) == 3


def test_lost_runs_count_for_neither_side_and_may_leave_it_open():
    lost = trial("login", lost=True)
    assert must_pass("login", [trial("login", 1.0), trial("login", 1.0), lost]).verdict == "pass"
    assert must_pass("login", [trial("login", 0.0), trial("login", 0.0), lost]).verdict == "block"
    assert must_pass("login", [trial("login", 1.0), trial("login", 0.0), lost]).verdict == "hold"
    assert must_pass("login", [lost, lost, lost]).verdict == "hold"
