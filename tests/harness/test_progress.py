"""A run that stands still is told from one that changes much and improves nothing, and why that may be."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.progress import characters_changed, progress
from harness.progress import fingerprint as print_of
from traces.records import Comparison, Decision, Edit, Proposal, Round

PROMPT = "prompts/solve.md"
BEFORE = "".join(f"Rule {n}: keep the answer short.\n" for n in range(100))  # 3,290 characters


def a_round(number, text, *, because="no-improvement", answers=("f1",), low=-0.02, high=0.02, measured=True):
    verdict = "inconclusive" if because in ("undecided", "drift") else "discard"
    comparison = Comparison(
        incumbent="v0",
        candidate=f"v{number}",
        split="train",
        tasks=20,
        incumbent_score=0.5,
        candidate_score=0.5,
        gain=0.0,
        low=low,
        high=high,
        confidence=0.9,
    )
    return Round(
        run="r",
        number=number,
        incumbent="v0",
        candidate=f"v{number}",
        working="v0",
        proposal=Proposal(
            id=f"p{number}", proposer="P", edits=(Edit(path=PROMPT, text=text),), rationale="x", answers=answers
        ),
        decision=Decision(verdict=verdict, because=because, comparison=comparison if measured else None),
        started=datetime(2026, 11, 1, tzinfo=UTC),
        seconds=1,
    )


def found_in(rounds, before=BEFORE):
    return progress(rounds, {"v0": {PROMPT: before}}.__getitem__)


def small(n):
    return BEFORE.replace("Rule 1:", f"Rule {n} of them:")


def large(n):
    return "".join(f"Principle {n}.{k}: whatever you say, say it well.\n" for k in range(100))


def test_small_changes_that_bring_nothing_are_no_progress():
    found = found_in([a_round(n, small(n)) for n in range(1, 6)])

    assert found.reason == "no-progress"
    assert found.churn < 0.01
    assert found.causes == ()
    assert str(found).startswith("no clear gain in the score on train in the last 5 rounds")
    assert "no one cause" in str(found)


def test_rewrites_that_bring_nothing_are_thrashing_and_too_large():
    found = found_in([a_round(n, large(n)) for n in range(1, 6)])

    assert found.reason == "thrashing"
    assert [cause.name for cause in found.causes] == ["edits too large"]
    assert "5 changes of 100% of the subject each" in str(found)


def test_changes_that_each_answer_something_else_have_no_goal():
    found = found_in([a_round(n, large(n)[:1200] + BEFORE[1200:], answers=(f"f{n}",)) for n in range(1, 6)])

    assert found.reason == "thrashing"
    assert [cause.name for cause in found.causes] == ["unclear goal"]
    assert "5 changes answered 5 different findings" in str(found)


def test_changes_that_answer_nothing_have_no_goal_either():
    [cause] = found_in([a_round(n, small(n), answers=()) for n in range(1, 6)]).causes
    assert str(cause) == "unclear goal (5 of 5 changes answered no finding)"


def test_comparisons_without_a_verdict_are_a_noisy_signal_with_the_width_of_their_intervals():
    rounds = [a_round(n, small(n), because="undecided", low=-0.2, high=0.25) for n in range(1, 4)]
    [cause] = found_in([*rounds, a_round(4, small(4))]).causes
    assert str(cause) == "noisy signal (3 of 4 comparisons came to no verdict, with intervals 45 points wide)"


def test_the_first_sentences_of_a_small_prompt_are_no_thrashing():
    tiny = "# system\nAnswer.\n\n# user\n{{ task }}\n"
    found = found_in([a_round(n, tiny.replace("Answer.", f"Answer. Mind rule {n}.")) for n in range(1, 9)], tiny)
    assert found.reason == "no-progress"


def test_what_was_never_measured_changed_nothing():
    found = found_in([a_round(n, large(n), measured=False) for n in range(1, 6)])
    assert (found.reason, found.changes) == ("no-progress", 0)


def test_two_rounds_are_too_few_to_say_why():
    found = found_in([a_round(n, large(n)) for n in range(1, 3)])
    assert (found.reason, found.causes) == ("no-progress", ())


def test_a_run_without_rounds_has_no_progress():
    assert found_in([]).reason == "no-progress"


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("", "", 0),
        ("", "abc", 3),
        ("abc", "", 3),
        ("one two\n", "one two\n", 0),
        ("one two three\n", "one 2 three\n", 4),
        ("one two three\n", "two one three\n", 0),
        ("a\nb\nc\n", "a\nc\n", 2),
    ],
)
def test_what_changed_is_counted_in_characters(before, after, changed):
    assert characters_changed(before, after) == changed


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_more_changes_than_there_is_and_the_same_text_is_no_change(before, after):
    assert 0 <= characters_changed(before, after) <= max(len(before), len(after))
    assert characters_changed(before, before) == 0


def test_what_failed_twice_alike_has_one_fingerprint():
    assert print_of("tests/a.py:31: 3 of 20 failed in 0.31s") == print_of("tests/b.py:7: 4 of 20 failed in 1.2s")
    assert print_of("no such table: orders") != print_of("no such table: users")


def test_a_long_rewrite_takes_no_long_look():
    assert characters_changed("a b " * 50_000, "b c " * 50_000)  # in linear time: else this takes hours


@pytest.mark.parametrize("piece", ["a", "a1", "/", "a/", "1:", "12345678-", "\\a", "0x"])
def test_a_long_message_of_a_hostile_tool_takes_no_long_look(piece):
    assert print_of(piece * 100_000)  # in linear time: else this takes minutes
