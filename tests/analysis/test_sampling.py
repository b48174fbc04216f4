from collections import Counter
from math import isclose

from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.findings import findings
from analysis.sampling import allotted, estimated, sample
from traces.records import Grade, Trial, now

REASONS = ("the year is missing", "speaks another language", "cites a page that nobody wrote")


def trial(number: int, reason: str, *, score: float = 0.0, version: str = "v" * 8, lost: bool = False) -> Trial:
    return Trial(
        id=f"run/{number:04}",
        run="run",
        version=version,
        task=f"t{number}",
        split="train",
        grade=None if lost else Grade(score=score, reason=reason),
        boundary="sandbox" if lost else None,
        error="the sandbox died" if lost else None,
        started=now(),
        seconds=0.0,
    )


def night(*sizes: int) -> list[Trial]:
    reasons = [reason for reason, size in zip(REASONS, sizes, strict=False) for _ in range(size)]
    return [trial(number, reason) for number, reason in enumerate(reasons)]


def test_the_same_seed_draws_the_same_in_whatever_order_the_trials_come_and_another_seed_does_not():
    trials = night(40, 30, 30)
    found = findings(trials)
    drawn = sample(trials, found, 20, 7, {})
    assert sample(trials[::-1], found[::-1], 20, 7, {}) == drawn
    assert sample(trials, found, 20, 8, {}) != drawn
    assert len(drawn) <= 20


def test_what_is_rare_is_drawn_at_least_twice_and_what_is_frequent_by_its_size():
    trials = night(300, 60, 3)
    drawn = sample(trials, findings(trials), 40, 1, {})
    taken = Counter(one.trial.grade.reason for one in drawn)
    assert taken[REASONS[2]] >= 2
    assert taken[REASONS[0]] > 2 * taken[REASONS[1]]


def test_each_version_and_each_score_of_a_finding_is_drawn_from():
    trials = [trial(i, REASONS[0], version=v * 8, score=s / 2) for i, (v, s) in enumerate([("a", 0), ("b", 1)] * 3)]
    trials += [trial(100 + i, REASONS[0], version="a" * 8) for i in range(80)]
    drawn = sample(trials, findings(trials), 12, 3, {})
    assert {(one.trial.version[0], one.trial.grade.score) for one in drawn} == {("a", 0.0), ("b", 0.5)}


def test_the_random_part_does_not_change_with_what_is_known():
    trials = night(50, 50, 50)
    found = findings(trials)

    def at_random(known, read=()):
        return {one.trial.id for one in sample(trials, known, 24, 5, {}, read) if one.at_random}

    assert at_random(found) == at_random([]) == at_random(found[:1], {found[0].id})
    assert len(at_random(found)) == 6


def test_what_was_read_before_is_drawn_at_random_alone():
    trials = night(100, 100)
    found = findings(trials)
    drawn = sample(trials, found, 40, 5, {}, {found[0].id})
    assert all(one.at_random for one in drawn if one.finding == found[0].id)
    assert sum(one.finding == found[1].id for one in drawn) >= 30


def test_neither_successes_nor_lost_trials_are_drawn():
    trials = [trial(0, "", score=1.0), trial(1, "", lost=True), trial(2, REASONS[0])]
    assert [one.trial.task for one in sample(trials, [], 10, 0, {})] == ["t2"]
    assert sample(trials[:2], [], 10, 0, {}) == []


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=3), st.integers(0, 12), st.integers(0, 3))
def test_a_sample_never_holds_more_than_was_asked_for_and_nothing_twice(sizes, size, seed):
    trials = night(*sizes)
    drawn = sample(trials, findings(trials), size, seed, {})
    assert len({one.trial.id for one in drawn}) == len(drawn) <= size
    assert all(0 < one.chance <= 1 for one in drawn)
    assert size < len(trials) or len(drawn) == len(trials)


def test_the_weights_estimate_without_bias_how_many_failures_there_are_of_a_kind():
    trials = night(60, 12, 3)
    found = findings(trials)
    odd = {f"t{n}" for n in range(0, 75, 4)}  # a kind that runs across the findings
    estimates = [
        estimated(one for one in sample(trials, found, 16, seed, {}) if one.trial.task in odd) for seed in range(24)
    ]
    mean = sum(estimates) / len(estimates)
    error = (sum((e - mean) ** 2 for e in estimates) / len(estimates) ** 2) ** 0.5
    assert abs(mean - len(odd)) < 3.5 * error


def test_places_go_to_the_least_first_and_then_by_size():
    sizes = {("a", "v", 0.0): 50, ("b", "v", 0.0): 10, ("c", "v", 0.0): 1}
    assert list(allotted(sizes, 15).values()) == [12, 2, 1]
    assert isclose(sum(allotted(sizes, 100).values()), 61)
