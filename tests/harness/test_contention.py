from datetime import UTC, datetime, timedelta

import pytest

from harness.contention import about_contention, contention, has_moved, runs_alone
from traces.records import Grade, Trial, Usage

NIGHT = datetime(2026, 11, 20, tzinfo=UTC)


def a_trial(start: float, seconds: float, value: float | None = 1.0, task: str = "run") -> Trial:
    return Trial(
        id=f"{task}-{start}-{seconds}-{value}",
        run="r",
        version="v" * 8,
        task=task,
        split="train",
        repeat=0,
        started=NIGHT + timedelta(seconds=start),
        seconds=seconds,
        usage=Usage(),
        grade=None if value is None else Grade(score=1.0, reason="", value=value),
    )


def in_pairs(*values: float, seconds: float = 2.0) -> list[Trial]:
    """Two at once."""
    return [a_trial(10 * (at // 2) + 0.1 * (at % 2), seconds, value) for at, value in enumerate(values)]


ALONE = [a_trial(100.0 + 10 * at, 1.0, value) for at, value in enumerate((1.00, 1.01, 0.99))]


def test_a_number_that_company_moves_is_told_from_its_noise():
    moved = contention(ALONE, in_pairs(1.50, 1.51, 1.49, 1.50, 1.52, 1.48), 2)
    assert moved is not None
    assert (moved.runs, moved.alone_runs, moved.alone, moved.together) == (6, 3, 1.0, 2.0)
    assert moved.shift == pytest.approx(0.5)
    assert has_moved(moved)
    [warning] = about_contention(moved, "seconds")
    assert "seconds moves by +0.5" in warning
    assert "exclusive=True" in warning

    same = contention(ALONE, in_pairs(1.00, 1.03, 0.97, 1.01, 0.99, 1.02, seconds=1.2), 2)
    assert same is not None
    assert not has_moved(same)
    assert [*about_contention(same, "seconds")] == []


def test_where_nothing_varies_any_difference_is_one_and_none_is_none():
    alone, together = ALONE[:1] * 2, in_pairs(1.0, 1.0, 1.0, 1.0, seconds=1.0)
    same = contention(alone, together, 2)
    other = contention(alone, in_pairs(1.1, 1.1, seconds=1.0), 2)
    assert same is not None
    assert other is not None
    assert (has_moved(same), has_moved(other)) == (False, True)


def test_trials_that_only_wait_for_each_other_gain_nothing_by_running_at_once():
    slow = contention(ALONE, in_pairs(1.0, 1.01, 0.99, 1.0, seconds=1.95), 2)
    [warning] = about_contention(slow, "loss")
    assert "times as long as alone" in warning


def test_trials_without_company_say_nothing_of_it():
    one_by_one = [a_trial(10 * at, 2.0) for at in range(6)]
    barely = [a_trial(0.0, 2.0), a_trial(1.8, 2.0)]
    assert contention(ALONE, one_by_one, 2) is None
    assert contention(ALONE, barely, 2) is None
    assert contention([], in_pairs(1.0, 1.0), 2) is None
    assert [*about_contention(None, "loss")] == []


def test_a_trial_that_gave_no_number_leaves_the_shift_unknown_and_other_tasks_are_left_out():
    lost = contention(ALONE, [a_trial(0.0, 2.0, None), a_trial(0.1, 2.0, None)], 2)
    assert lost is not None
    assert (lost.shift, lost.error, has_moved(lost)) == (None, None, False)
    beside_another = contention(ALONE, [a_trial(0.0, 2.0), a_trial(0.0, 2.0, 7.0, task="other")], 2)
    assert beside_another is not None
    assert (beside_another.runs, beside_another.shift, beside_another.error) == (1, 0.0, None)


def test_long_trials_run_alone_only_once():
    assert (runs_alone(1.0), runs_alone(300.0)) == (3, 1)
