"""What a person reads first: each verdict says what was tried, what is proven, how surely, and what is not known."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from analysis.night import Night
from analysis.report import (
    Standing,
    certification,
    divergence,
    guard_line,
    headline,
    needs_person,
    not_proven,
    tags_table,
    touched,
)
from traces.records import (
    Certification,
    Comparison,
    Decision,
    Escalation,
    Finding,
    GateSpec,
    Grade,
    Guard,
    Proposal,
    Removal,
    Round,
    Run,
    Trial,
    Usage,
    Verdict,
)

LIVE, CANDIDATE = "a" * 40, "b" * 40


def a_comparison(
    split: str = "validation", gain: float = 0.05, tasks: int = 100, word: str = "accept", **facts: object
):
    wins = round((0.2 + gain) / 2 * tasks)
    losses = round((0.2 - gain) / 2 * tasks)
    differences = (1.0,) * wins + (-1.0,) * losses + (0.0,) * (tasks - wins - losses)
    verdict = Verdict(
        verdict=word,
        e_value=12.3,
        threshold=400,
        n=tasks,
        gain_at_stop=gain,
        conditional_power=None,
        tasks_to_settle=80,
    )
    return Comparison(
        **{
            "incumbent": LIVE,
            "candidate": CANDIDATE,
            "split": split,
            "tasks": tasks,
            "incumbent_score": 0.5,
            "candidate_score": 0.5 + gain,
            "gain": gain,
            "low": gain - 0.08,
            "high": gain + 0.08,
            "confidence": 0.9,
            "verdict": None if split == "test" else verdict,
            "spec": None if split == "test" else GateSpec(alpha=0.0025, n_max=200),
            "differences": differences,
            **facts,
        }
    )


def a_certification(verdict: str, **facts: object) -> Certification:
    return Certification(
        **{
            "id": "r/certify/1-b",
            "run": "r",
            "checkpoint": 1,
            "live": LIVE,
            "candidate": CANDIDATE,
            "verdict": verdict,
            "alpha": 0.0025,
            "test_number": 1,
            "validation": a_comparison(),
            **facts,
        }
    )


def a_night(c: Certification | None, *, score: float = 0.6, checked: str | None = "c") -> Night:
    now = datetime(2026, 11, 20, tzinfo=UTC)
    run = Run(
        id="r", experiment="sums", subject="s", live=LIVE, fingerprint={}, budget={}, tasks={}, checked=checked,
        gate={"name": "PairedGate", "horizon": 40},
    )  # fmt: skip
    first = Round(run="r", number=0, incumbent=LIVE, working=LIVE, score=0.5, started=now, seconds=1)
    last = Round(
        run="r", number=1, incumbent=LIVE, working=CANDIDATE, score=score, certification=c, started=now, seconds=1,
        stop="rounds", detail="1 of 1 rounds played",
    )  # fmt: skip
    return Night(
        run=run, rounds=(first, last), stop=None, began=now, last=now, sessions=1, pid=1, usage=Usage(), trials=10,
        interrupted=0, seconds=2.0,
    )  # fmt: skip


def read(night: Night) -> str:
    return "\n".join(headline(night, Standing(live=LIVE)))


def test_a_judge_that_is_the_maker_is_said_at_the_top():
    standing = Standing(live=LIVE, doubts=["'openai:m' both makes and judges"])
    text = "\n".join(headline(a_night(a_certification("reject")), standing))
    assert "**Doubtful**: 'openai:m' both makes and judges." in text


def test_a_proof_says_the_gain_the_odds_of_error_and_what_is_not_known():
    text = read(a_night(a_certification("accept", measured=a_comparison("test", 0.04))))
    assert "**Proven better**" in text
    assert "+4.0 points (90% interval -4.0 to +12.0, n = 100) on tasks that nothing had seen" in text
    assert "at most once in 400 (alpha 0.0025, test 1 of the 40 declared for these hidden tasks)" in text
    assert "Not known: what each change contributes alone" in text


@pytest.mark.parametrize(
    ("c", "says"),
    [
        (
            a_certification("reject"),
            "tested at alpha = 0.0025 (e-value 12.3 of the 400 needed), and the promotion test",
        ),
        (a_certification("undecided"), "neither proof of a gain nor of none"),
        (a_certification("invalid", detail="8 pairs lost"), "means nothing after 100 clusters: 8 pairs lost"),
        (
            a_certification(
                "blocked",
                detail="the mean score is proven better, but: slice plural",
                guards=(Guard(kind="slice", name="plural", verdict="block", n=30, wins=1, losses=9, p=0.01),),
            ),
            "better on average, +5.0 points (90% interval -3.0 to +13.0, n = 100), tested at alpha = 0.0025",
        ),
        (a_certification("blocked", validation=None, alpha=None, detail="it needs new tasks"), "it needs new tasks"),
    ],
)
def test_what_is_not_proven_says_why_with_its_numbers(c, says):
    assert says in not_proven(c)
    assert says in read(a_night(c))


def test_an_undecided_test_says_how_many_more_tasks_would_settle_it():
    assert "About 80 more validation tasks would settle it" in read(a_night(a_certification("undecided")))


def test_a_spent_budget_asks_for_new_tasks_instead_of_another_run():
    text = read(a_night(a_certification("blocked", validation=None, alpha=None, detail="it needs new tasks")))
    assert "add validation tasks" in text
    assert "starts the next run" not in text


def test_runs_that_cannot_be_repeated_are_called_unconfirmed_and_nothing_else():
    single = a_comparison("train", 0.0, 0, metric="val_bpb", low=None, high=None, differences=()).model_copy(
        update={"gain": None}
    )
    c = a_certification("undecided", validation=single, detail="unconfirmed: runs cannot be repeated", test_number=None)
    assert not_proven(c) == "unconfirmed: runs cannot be repeated"
    assert "run afresh" not in certification(c, quote=False)


def test_a_metric_is_told_in_its_own_unit():
    worse = a_comparison("train", -0.02, 5, metric="val_bpb", sigma=0.01)
    assert "val_bpb worse by 0.02 (90% interval -0.1 to +0.06, n = 5 runs each)" in not_proven(
        a_certification("reject", validation=worse, test_number=None)
    )


def test_hidden_tasks_that_deny_what_train_claims_are_pointed_out():
    lost = a_certification("reject", validation=a_comparison(gain=-0.1, word="reject"))
    assert "Train and hidden tasks disagree" in str(divergence(a_night(lost, score=0.8)))
    assert divergence(a_night(a_certification("accept", measured=a_comparison("test", 0.2)), score=0.65)) is None


def test_a_night_without_a_check_says_so():
    assert "started unchecked" in read(a_night(a_certification("reject"), checked=None))
    assert "started unchecked" not in read(a_night(a_certification("reject")))


def test_every_guard_is_told_with_its_numbers():
    guards = (
        Guard(kind="must-pass", name="t1", verdict="block", n=3, wins=0, losses=3),
        Guard(kind="failures", verdict="pass", n=90, wins=2, losses=1, p=0.9),
        Guard(kind="cost", name="tokens", verdict="block", n=90, ratio=2.3, low=2.1, cap=1.5),
        Guard(kind="latency", verdict="pass", n=90, ratio=1.1, low=0.9),
    )
    told = [guard_line(guard) for guard in guards]
    assert told[0] == "passed 0 of 3 fresh runs"
    assert told[1] == "1 of 90 clusters fail that did not, 2 no longer"
    assert told[2] == "tokens a trial ×2.30 (90 % sure: at least ×2.10; n = 90), cap ×1.5"
    assert told[3].endswith("no cap")
    shown = certification(a_certification("blocked", guards=guards, detail="x"), quote=False)
    assert shown.count("\n|") == 2 + len(guards)


def a_kept_round(number: int, *answers: str) -> Round:
    return Round(
        run="r", number=number, incumbent=LIVE, working=CANDIDATE, started=datetime(2026, 11, 20, tzinfo=UTC),
        seconds=1, decision=Decision(verdict="keep", because="improved"),
        proposal=Proposal(
            id=f"p{number}", proposer="P", edits=(), rationale="Mind it.", answers=answers,
            findings=(Finding(id="f0", title="t", tags=("plural",), kind="k", count=1, share=0.1),
                      Finding(id="f1", title="t", tags=("colour",), kind="k", count=1, share=0.1)),
        ),
    )  # fmt: skip


def trials_of_kinds(**scores: float) -> list[Trial]:
    return [
        Trial(
            id=f"r/{kind}", run="r", version=LIVE, task=kind, tags=(kind,), repeat=0, split="train", seed=1,
            started=datetime(2026, 11, 20, tzinfo=UTC), seconds=1, grade=Grade(score=score), usage=Usage(), output="x",
        )
        for kind, score in scores.items()
    ]  # fmt: skip


def test_the_score_on_the_kinds_that_no_kept_change_was_about_is_shown_apart():
    night = replace(a_night(None), rounds=(*a_night(None).rounds, a_kept_round(2, "f0")))
    before, after = (
        trials_of_kinds(plural=0.2, colour=0.8, animal=0.6),
        trials_of_kinds(plural=0.9, colour=0.6, animal=0.6),
    )
    shown = tags_table(before, after, touched(night))
    assert "| plural | 0.20 | 0.90 | about it |" in shown
    assert "| colour | 0.80 | 0.60 | untouched |" in shown
    assert "together: 0.70 → 0.60, -10.0 points (90% interval -88.8 to +78.8, n = 2)." in shown


def test_what_is_untouched_is_not_guessed_where_a_kept_change_answers_no_finding():
    night = replace(a_night(None), rounds=(a_kept_round(1, "f0"), a_kept_round(2)))
    shown = tags_table(trials_of_kinds(plural=0.2), trials_of_kinds(plural=0.9), touched(night))
    assert "untouched is not known" in shown
    assert "| plural | 0.20 | 0.90 |  |" in shown


def test_a_change_that_was_taken_out_again_touches_nothing():
    removal = Removal(rounds=(1,), verdict="drop", comparison=None)
    rounds = (a_kept_round(1, "f0"), a_kept_round(2, "f1").model_copy(update={"removals": (removal,)}))
    assert touched(replace(a_night(None), rounds=rounds)) == {("colour",)}


def an_escalation(number: int, run: str) -> Escalation:
    return Escalation(
        id=f"e{number}", kind="notice", concern="dead", experiment="sums", owner="Ada", run=run, summary=f"s{number}",
        raised=datetime(2026, 11, 20, tzinfo=UTC),
    )  # fmt: skip


def test_what_needs_a_person_is_of_this_run_and_that_of_others_is_counted():
    night, of_others = a_night(None), [an_escalation(2, "q"), an_escalation(3, "q")]
    shown = needs_person(night, [an_escalation(1, "r"), *of_others])
    assert "`e1`" in shown
    assert "`e2`" not in shown
    assert shown.endswith("And 2 from other runs.")
    assert "other runs" not in needs_person(night, [an_escalation(1, "r")])
    assert needs_person(night, of_others).startswith("Of this run nothing; 2 from other runs")
