import random

from hypothesis import given
from hypothesis import strategies as st

from analysis.findings import findings, general, score_by_tag
from traces.records import Grade, Trial, now


def trial(
    task: str, *, tags: tuple[str, ...] = ("plural",), reason: str = "no answer", score: float = 0.0, **more
) -> Trial:
    grade = None if "error" in more else Grade(score=score, reason=reason)
    return Trial(
        id=f"run/{task}",
        run="run",
        version="v" * 8,
        task=task,
        split="train",
        tags=tags,
        grade=grade,
        started=now(),
        seconds=0.0,
        **more,
    )


def test_failures_alike_are_one_finding_with_its_count_share_and_examples():
    trials = [trial(f"t{i}") for i in range(6)] + [trial(f"r{i}", score=1.0) for i in range(4)]
    [found] = findings(trials)
    assert (found.count, found.share, len(found.examples)) == (6, 0.6, 5)
    assert found.title == "[plural] wrong answer: no answer"


def test_the_finding_that_costs_most_score_comes_first():
    half = [trial(f"h{i}", tags=("a",), score=0.5) for i in range(5)]
    whole = [trial(f"w{i}", tags=("b",)) for i in range(3)]
    assert [f.tags for f in findings(half + whole)] == [("b",), ("a",)]


def test_errors_are_told_apart_from_wrong_answers_and_numbers_paths_and_quotes_do_not_count():
    trials = [
        trial("a", error="Timeout: /tmp/x1/out.txt after 31.5 s on 'foo'", error_class="Timeout", boundary="runner"),
        trial("b", error="Timeout: /var/y/out.txt after 7 s on 'bar'", error_class="Timeout", boundary="runner"),
        trial("c"),
    ]
    assert [(f.kind, f.count) for f in findings(trials)] == [("Timeout", 2), ("wrong answer", 1)]


@given(st.text(), st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_message_in_general_does_not_depend_on_its_numbers(text, a, b):
    assert general(f"failed after {a} steps") == general(f"failed after {b} steps")
    assert len(general(text)) <= 160


@given(st.integers(0, 99))
def test_the_order_of_the_trials_does_not_matter_and_the_ids_are_stable(seed):
    trials = [
        trial(f"t{i}", tags=(("a", "b")[i % 2],), reason=("no answer", "too long")[i % 3 == 0]) for i in range(20)
    ]
    shuffled = random.Random(seed).sample(trials, len(trials))
    assert findings(shuffled) == findings(trials)


def test_what_could_not_be_scored_counts_as_nothing_won_in_the_score_by_kind():
    trials = [trial("a", score=1.0), trial("b", error="x", error_class="X", boundary="runner")]
    assert score_by_tag(trials) == {("plural",): 0.5}
