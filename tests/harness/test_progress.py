"""A run that stands still is told from one that changes much and improves nothing, and why that may be."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.progress import characters_changed, crash_streak, progress
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
    assert characters_changed([before], [after]) == changed


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_more_changes_than_there_is_and_the_same_text_is_no_change(before, after):
    assert 0 <= characters_changed([before], [after]) <= max(len(before), len(after))
    assert characters_changed([before], [before]) == 0


# ── code, judged by a metric ───────────────────────────────────────────────────────────────────────────────────

TRAIN = "".join(f"layer_{n} = Linear({n}, {n + 1}, bias=False)\n" for n in range(100))


def a_run(number, text=TRAIN, *, gain=0.0, sigma=1.0, detail="", because="no-improvement", edits=None):
    """A round of a metric; without a *gain* its run gave no number."""
    before = a_round(number, text, answers=())
    comparison = before.decision.comparison.model_copy(
        update={
            "metric": "val_bpb",
            "sigma": sigma,
            "gain": gain,
            "low": None,
            "high": None,
            "differences": () if gain is None else (gain,),
            "errors": int(because == "errors"),
        }
    )
    verdict = "inconclusive" if because in ("errors", "drift") else "discard"
    decision = Decision(verdict=verdict, because=because, detail=detail, comparison=comparison)
    proposal = before.proposal if edits is None else before.proposal.model_copy(update={"edits": edits})
    return before.model_copy(update={"decision": decision, "proposal": proposal})


def crash(number, error="KeyError: 'lr'", **more):
    return a_run(number, gain=None, detail=f"1 of 1 runs gave no val_bpb: it crashed\n  File a.py\n{error}", **more)


def test_literals_of_code_that_bring_nothing_are_no_progress_in_the_metric():
    found = found_in([a_run(n, TRAIN.replace("bias=False", f"bias={n}", 1), gain=-3.0) for n in range(5)], TRAIN)

    assert (found.reason, found.causes) == ("no-progress", ())
    assert str(found).startswith("no clear gain in val_bpb in the last 5 rounds")


def test_rewrites_of_code_that_bring_nothing_are_thrashing():
    found = found_in([a_run(n, f"# {n}\n" + TRAIN.replace(" = ", "="), gain=-3.0) for n in range(5)], TRAIN)
    assert (found.reason, [cause.name for cause in found.causes]) == ("thrashing", ["edits too large"])


def test_code_that_only_moved_to_another_file_is_no_rewrite():
    moved = (Edit(path=PROMPT, text=None), Edit(path="layers.py", text=TRAIN))
    found = found_in([a_run(n, edits=moved, gain=-3.0) for n in range(5)], TRAIN)
    assert (found.reason, found.churn) == ("no-progress", 0.0)


def test_gains_below_the_scatter_of_a_run_are_a_noisy_signal():
    gains = (0.4, -0.7, 0.2, 2.0)
    [cause] = found_in([a_run(n, gain=gain * 0.01, sigma=0.01) for n, gain in enumerate(gains)], TRAIN).causes
    assert str(cause) == (
        "noisy signal (3 of 4 changes did less than the noise: a single run of val_bpb scatters by 0.01)"
    )


def test_runs_that_always_give_the_same_number_are_no_noisy_signal():
    assert found_in([a_run(n, gain=0.0, sigma=0.0) for n in range(5)], TRAIN).causes == ()


def test_changes_that_mostly_fail_are_named_with_what_they_fail_with():
    rounds = [crash(1), crash(2, "IndexError: 3"), crash(3, "IndexError: 4"), a_run(4, gain=-2.0)]
    [cause] = found_in(rounds, TRAIN).causes
    assert str(cause) == "changes that fail (3 of 4 gave no number, 2 of them with: IndexError: #)"


def test_a_crash_streak_is_counted_from_the_last_number_with_its_most_frequent_error():
    rounds = [crash(1), a_run(2), crash(3, "IndexError: 7"), crash(4), crash(5, "IndexError: 9")]

    found = crash_streak(rounds)

    assert (found.count, found.times, found.rounds) == (3, 2, (3, 4, 5))
    assert found.fingerprint == print_of("IndexError: 1")
    assert found.example.endswith("IndexError: 9")
    assert str(found) == "the last 3 changes that were run gave no number, 2 of them with: IndexError: 9"


def test_rounds_that_bought_no_run_neither_break_a_crash_streak_nor_count():
    unmeasured = a_round(2, TRAIN, because="invalid", measured=False)
    cut_off = a_run(3, gain=None, because="errors")
    assert crash_streak([crash(1), unmeasured, cut_off, crash(4)]).rounds == (1, 4)


def test_a_change_that_ran_once_or_was_kept_ends_a_crash_streak():
    partly = a_run(2, detail="1 of 3 runs gave no val_bpb: nan", gain=0.5)
    kept = a_run(2).model_copy(update={"decision": a_run(2, gain=1.0).decision.model_copy(update={"verdict": "keep"})})
    assert crash_streak([crash(1), partly]).count == crash_streak([crash(1), kept]).count == 0
    assert crash_streak([]).count == 0
    assert crash_streak([a_round(1, small(1))]).count == 0


# ── failures that are the same ─────────────────────────────────────────────────────────────────────────────────


def test_what_failed_twice_alike_has_one_fingerprint():
    assert print_of("tests/a.py:31: 3 of 20 failed in 0.31s") == print_of("tests/b.py:7: 4 of 20 failed in 1.2s")
    assert print_of("no such table: orders") != print_of("no such table: users")


def test_a_long_rewrite_takes_no_long_look():
    assert characters_changed(["a b " * 50_000], ["b c " * 50_000])  # in linear time: else this takes hours


@pytest.mark.parametrize("piece", ["a", "a1", "/", "a/", "1:", "12345678-", "\\a", "0x"])
def test_a_long_message_of_a_hostile_tool_takes_no_long_look(piece):
    assert print_of(piece * 100_000)  # in linear time: else this takes minutes
