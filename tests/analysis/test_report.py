"""What a person reads first: each verdict says what was tried, what is proven, how surely, and what is not known."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from analysis.night import Night
from analysis.predictions import Scored
from analysis.report import (
    FINDINGS,
    OWN_WORD,
    PROGRESS,
    Standing,
    answered_table,
    bare,
    causes,
    certification,
    code,
    divergence,
    fenced,
    findings_table,
    gain,
    guard_line,
    headline,
    kept_change,
    needs_person,
    not_proven,
    plain,
    predictions_table,
    promotion_tests,
    reason,
    report,
    short,
    shrinkage_tables,
    tags_table,
    touched,
    worse,
)
from analysis.shrinkage import After, Aftermath, Shrinkage
from analysis.states import FindingState
from experiments.morning import seen_before
from traces.records import (
    Certification,
    Citation,
    Comparison,
    Decision,
    Edit,
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


# ── proven before ──────────────────────────────────────────────────────────────────────────────────────────────────

PAIR = (LIVE, CANDIDATE)
MEASURED = a_certification("accept", measured=a_comparison("test", 0.04))


def test_a_proof_that_only_repeats_an_earlier_one_says_so_and_names_the_run():
    standing = Standing(live=LIVE, proven_in={PAIR: "sums-1"}, measured_before=3)
    said = headline(a_night(MEASURED), standing)[0]
    assert "n = 100); already proven in `sums-1`, this repeats it on the same test tasks, on which 3 earlier" in said
    assert "nothing had seen" not in said
    shown = promotion_tests(a_night(MEASURED), standing)
    assert "Already proven in `sums-1`; on the same test tasks once more: +4.0 points" in shown
    assert "opened for this pair" not in shown


def test_test_tasks_on_which_others_were_measured_are_not_called_unseen():
    others = Standing(live=LIVE, proven_in={(LIVE, "c" * 40): "sums-1"}, measured_before=2)
    assert "on test tasks on which 2 earlier nights were measured, too." in headline(a_night(MEASURED), others)[0]
    shown = promotion_tests(a_night(MEASURED), others)
    assert "for this pair after the verdict, on tasks on which 2 earlier nights were measured, too: +4.0" in shown
    one = replace(others, measured_before=1)
    assert "on which 1 earlier night was measured, too." in headline(a_night(MEASURED), one)[0]


def test_what_this_very_night_has_measured_on_the_test_tasks_counts_too():
    night = a_night(MEASURED.model_copy(update={"checkpoint": 2, "candidate": "d" * 40}))
    first = a_kept_round(1).model_copy(update={"certification": MEASURED})
    night = replace(night, rounds=(night.rounds[0], first, *night.rounds[1:]))
    assert "on which 1 earlier version of this night was measured, too." in headline(night, Standing(live=LIVE))[0]
    both = headline(night, Standing(live=LIVE, measured_before=1))[0]
    assert "on which 1 earlier night and 1 earlier version of this night were measured, too." in both


def the_night(run: str, day: int, c: Certification | None, **fingerprint: str) -> Night:
    night = a_night(c)
    record = night.run.model_copy(update={"id": run, "fingerprint": {"tasks": "t", "grader": "g", **fingerprint}})
    return replace(night, run=record, began=datetime(2026, 11, day, tzinfo=UTC))


def test_earlier_nights_count_that_were_measured_on_the_same_tasks():
    others = [
        the_night("after", 9, MEASURED),
        the_night("second", 3, MEASURED),
        the_night("first", 2, MEASURED, proposer="another"),
        the_night("other-grader", 1, MEASURED, grader="h"),
        the_night("other-tasks", 1, MEASURED, tasks="u"),
        the_night("no-proof", 1, a_certification("reject")),
        the_night("no-test", 1, None),
    ]
    assert seen_before(the_night("now", 5, MEASURED), others) == ({PAIR: "first"}, 3)
    assert seen_before(the_night("now", 1, MEASURED), []) == ({}, 0)


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
    assert "val_bpb worse by 0.02 (90% interval 0.1 worse to 0.06 better, n = 5 runs each)" in not_proven(
        a_certification("reject", validation=worse, test_number=None)
    )
    surely = worse.model_copy(update={"low": -83.9, "high": -9.69, "gain": -46.79})
    assert gain(surely) == "val_bpb worse by 46.79 (90% interval 9.69 to 83.9, n = 5 runs each)"
    assert gain(worse.model_copy(update={"gain": -0.0, "sigma": 0.0})).startswith("val_bpb unchanged (all 5 runs of")


def a_metric_night(c: Certification | None, *tries: Round) -> Night:
    night = a_night(c)
    first, last = (r.model_copy(update={"score": 2e-5, "score_low": 1e-5, "score_high": 3e-5}) for r in night.rounds)
    run = night.run.model_copy(update={"gate": {"name": "MetricGate", "metric": "loss", "better": "lower"}})
    return replace(night, run=run, rounds=(first, *tries, last))


def a_measured_round(by: float, **facts: object) -> Round:
    c = a_comparison("train", by, 1, metric="loss", sigma=1.0, low=None, high=None, verdict=None)
    kept = a_kept_round(1)
    decision = Decision(verdict="keep", because="improved", comparison=c)
    return kept.model_copy(update={"decision": decision, "score": 1.5e-5, **facts})


def test_numbers_that_are_alike_in_all_runs_are_called_exact_for_this_draw_and_no_more():
    exact = a_comparison("train", 2.0, 2, metric="loss", sigma=0.0)
    said = read(a_metric_night(a_certification("accept", validation=exact, measured=exact, test_number=None)))
    assert "all 2 runs of each side gave the same number, so the gain is exact on this draw" in said
    assert "at most once in" not in said
    noisy = exact.model_copy(update={"sigma": 1.0})
    assert "at most once in" in read(
        a_metric_night(a_certification("accept", validation=noisy, measured=exact, test_number=None))
    )


def test_a_number_that_the_candidates_own_process_said_is_called_that():
    c = a_certification("accept", validation=a_comparison(metric="loss", sigma=1.0), test_number=None)
    own = Standing(live=LIVE, is_own_word=True)
    proven, how_sure, *_ = headline(a_metric_night(c), own)
    assert "Proven better" in proven
    assert how_sure.endswith(OWN_WORD)
    assert OWN_WORD in headline(a_metric_night(None, a_measured_round(1.0)), own)
    assert OWN_WORD not in "".join(headline(a_metric_night(None), own))
    assert OWN_WORD not in read(a_metric_night(c))


def a_number(task: str, value: float, version: str = "v") -> Trial:
    trial = trials_of_kinds(noun=1.0)[0]
    grade = Grade(score=1.0, value=value)
    return trial.model_copy(update={"task": task, "tags": (), "version": version, "grade": grade})


def test_a_metric_has_its_numbers_by_task_and_no_scores_by_kind():
    night = a_metric_night(None, a_measured_round(1e-5))
    one = report(night, Standing(LIVE), diff="", before=[a_number("a", 2.0)], after=[a_number("a", 1.0)], now=())
    assert "by kind of task" not in one
    assert "What got worse" not in one
    assert "| 0 | baseline |  |  |  | 2e-05 (1e-05 to 3e-05) |" in one
    assert "better by 1e-05 | 1 | 1.5e-05" in one
    before, after = ([a_number("a", x), a_number("b", y)] for x, y in ((2.0, 1.0), (1.0, 1.5)))
    two = report(night, Standing(LIVE), diff="", before=before, after=after, now=())
    assert "## loss by task" in two
    assert "| `a` | 2 | 1 | better by 1 |" in two
    assert "- On train, task `b`: loss worse by 0.5, which may be chance." in two


def test_a_change_that_broke_its_run_is_told_by_what_its_traceback_ends_with():
    crash = 'it ended by exit code 1: Traceback (most recent call last):\n  File "/w/a/solver.py", line 14, in fit\n'
    said = reason(f"{crash}    v = 1 / 0\n        ~~^~~\nZeroDivisionError: division by zero\n")
    assert said == "it ended by exit code 1: ZeroDivisionError: division by zero (solver.py line 14)"
    assert reason(crash) == short(crash)


def test_a_number_at_the_beginning_is_no_item_of_a_list():
    assert plain("1.906 of 2 minutes") == "1.906 of 2 minutes"
    assert plain("1. of 2") == "1\\. of 2"


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


# ── gains on train ─────────────────────────────────────────────────────────────────────────────────────────────────


def a_kept_and_a_discarded_round() -> tuple[Round, Round]:
    c = a_comparison("train", 0.187, 20, low=-0.495, high=1.0)
    kept = a_kept_round(1, "f0")
    assert kept.proposal is not None
    kept = kept.model_copy(update={
        "candidate": CANDIDATE, "score": 0.9, "score_low": 0.8, "score_high": 0.95,
        "decision": Decision(verdict="keep", because="improved", comparison=c),
        "proposal": kept.proposal.model_copy(update={"predicted": 0.2}),
    })  # fmt: skip
    no = Decision(verdict="discard", because="no-improvement", comparison=c)
    return kept, kept.model_copy(update={"number": 2, "incumbent": CANDIDATE, "candidate": "c" * 40, "decision": no})


def test_of_a_kept_change_the_gain_over_all_train_tasks_is_told_and_of_another_where_its_test_stopped():
    tasks = [f"t{i}" for i in range(60)]
    trials = {
        LIVE: trials_of_kinds(**dict.fromkeys(tasks, 0.5)),
        CANDIDATE: trials_of_kinds(**dict.fromkeys(tasks, 0.7)),
    }
    text = whole(
        replace(a_night(None), rounds=(a_night(None).rounds[0], *a_kept_and_a_discarded_round())), trials=trials
    )
    found = "+20.0 points (90% interval +15.5 to +23.2, n = 60), the trials that it was kept for among them, which"
    assert f"- On train: {found} flatters it a little." in text
    assert "| keep (improved) | +20.0 (+15.5 to +23.2) | 60 | 0.900 (0.800 to 0.950) |" in text
    assert "| discard (no-improvement) | +18.7 (-49.5 to +100.0) | 20 |" in text
    assert "| 1 | all tasks | +20.0 | +20.0 (+15.5 to +23.2) | 60 | yes |" in text
    assert "| 2 | all tasks | +20.0 | +18.7 (-49.5 to +100.0) | 20 | too wide to say |" in text
    assert "1 of 1 prediction lies in the measured interval; of 1 more there is no interval" in text


def test_a_report_on_a_rubric_says_that_to_promote_it_begins_a_new_scale():
    shown = whole(a_night(None), people="| split | version |\n|---|---|\n| train | live |")
    assert "begins a new scale: scores from judges that go by it are compared with none from before" in shown
    assert "`ratchet calibrate" in shown
    assert "new scale" not in whole(a_night(None))


def test_one_of_a_thing_is_no_plural():
    night = replace(a_night(None), trials=1, usage=Usage(calls=1), interrupted=1)
    text = whole(night)
    assert "1 trial, 1 model call," in text
    assert "- 1 model call: " in text
    assert "- 1 trial in 2 s over 1 session." in text
    assert "- 1 call was cut off by the end of a process; it is charged at its estimate." in text


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
    shown = tags_table(before, after, touched(night, before))
    assert "| plural | 0.20 | 0.90 | about it |" in shown
    assert "| colour | 0.80 | 0.60 | untouched |" in shown
    assert "together: 0.70 → 0.60, -10.0 points (90% interval -88.8 to +78.8, n = 2)." in shown


def test_what_is_untouched_is_not_guessed_where_a_kept_change_answers_no_finding():
    night = replace(a_night(None), rounds=(a_kept_round(1, "f0"), a_kept_round(2)))
    shown = tags_table(trials_of_kinds(plural=0.2), trials_of_kinds(plural=0.9), touched(night, ()))
    assert "untouched is not known" in shown
    assert "| plural | 0.20 | 0.90 |  |" in shown


def test_a_change_that_was_taken_out_again_touches_nothing():
    removal = Removal(rounds=(1,), verdict="drop", comparison=None)
    rounds = (a_kept_round(1, "f0"), a_kept_round(2, "f1").model_copy(update={"removals": (removal,)}))
    assert touched(replace(a_night(None), rounds=rounds), ()) == {("colour",)}


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


# ── what became of it ──────────────────────────────────────────────────────────────────────────────────────────────

NOW = datetime(2026, 11, 20, tzinfo=UTC)
NOTHING = Aftermath((), ())


def a_finding(id: str = "f0", **facts: object) -> Finding:
    return Finding(**{"id": id, "title": "[plural] wrong answer", "kind": "k", "count": 22, "share": 22 / 180, **facts})


def a_state(id: str, state: str, **facts: object) -> FindingState:
    return FindingState(**{
        "id": id, "title": f"title of {id}", "state": state, "count": 1, "share": 0.1, "first_seen": NOW.replace(day=3),
        "last_seen": NOW, "versions": (), "answered_by": None, "answered_round": None, "tries": 0, **facts,
    })  # fmt: skip


def a_row(id: str, change: float, *, targeted: bool = False) -> Shrinkage:
    return Shrinkage(
        finding=a_finding(id), before=30, n_before=100, after=round(30 + 100 * change), n_after=100, change=change,
        low=change - 0.05, high=change + 0.05, clusters=50, targeted=targeted,
    )  # fmt: skip


def after(*rows: Shrinkage, split: str = "train", number: int = 1) -> After:
    return After(number, split, LIVE, CANDIDATE, rows)


def whole(night: Night, **more: object) -> str:
    facts = {"diff": "", "before": (), "after": (), "now": (), **more}
    return report(night, Standing(live=LIVE), **facts)


def test_a_kept_change_is_shown_with_its_finding_its_evidence_and_its_files():
    r = a_kept_round(2, "f0")
    assert r.proposal is not None
    proposal = r.proposal.model_copy(
        update={
            "predicted": 0.1,
            "edits": (Edit(path="prompts/solve.md", text="x"),),
            "citations": tuple(Citation(trial=f"t{i}", quote=f"it said `so` | {i}") for i in range(5)),
            "findings": (a_finding("f0", tags=("plural",)),),
        }
    )
    shown = kept_change(r.model_copy(update={"proposal": proposal}))
    assert shown.startswith("### Round 2: Mind it.")
    assert "It predicted +10.0 points" in shown
    assert "It answers `f0`, 22 of 180 trials: [plural] wrong answer" in shown
    assert "It quotes `t0`: “it said \\`so\\` \\| 0”" in shown
    assert "It quotes 2 passages more." in shown
    assert "It changes `prompts/solve.md`." in shown


def test_what_is_proven_is_to_promote_until_another_version_is_live():
    c = a_certification("accept", measured=a_comparison("test", 0.04))
    proven = replace(a_night(c), rounds=(a_night(c).rounds[0], a_kept_round(1, "f0"), *a_night(c).rounds[1:]))
    text = whole(proven)
    assert "## What to promote" in text
    assert "It is proven: promotion test at checkpoint 1, test 1 of the 40 declared for its hidden tasks" in text
    assert "Spent of the 40 tests declared for these hidden tasks: 1." in text
    elsewhere = report(proven, Standing(live="c" * 40), diff="", before=(), after=(), now=())
    assert "## What was kept" in elsewhere


def test_what_was_kept_after_the_promotion_test_is_not_called_proven():
    c = a_certification("accept").model_copy(update={"candidate": "c" * 40})
    rounds = (a_kept_round(1).model_copy(update={"certification": c}), a_kept_round(2))
    text = whole(replace(a_night(None), rounds=rounds))
    assert "Version `cccccccccccc` is proven" in text
    assert "Not proven by it, for it came later: 1 change." in text


def test_what_got_worse_names_guards_findings_and_kinds_and_how_much_was_looked_at():
    guards = (
        Guard(kind="slice", name="plural", verdict="pass", n=30, wins=1, losses=3, p=0.3),
        Guard(kind="slice", name="colour", verdict="pass", n=30, wins=3, losses=1, p=0.9),
        Guard(kind="cost", name="tokens", verdict="pass", n=90, ratio=1.3, low=1.1),
        Guard(kind="latency", verdict="pass", n=90, ratio=1.1, low=0.9),
    )
    night = a_night(a_certification("accept", guards=guards))
    happened = Aftermath((after(a_row("f1", 0.2), a_row("f2", 0.01), a_row("f3", -0.2)),), ())
    shown = worse(night, trials_of_kinds(plural=0.9, colour=0.5), trials_of_kinds(plural=0.2, colour=0.6), happened)
    assert "slice plural: 1 of 30 clusters better, 3 worse, p = 0.30 (pass)" in shown
    assert "cost tokens" in shown
    assert "slice colour" not in shown
    assert "latency" not in shown
    assert "finding `f1` shows more often, by +20.0 (+15.0 to +25.0) points, n = 50" in shown
    assert "On train, plural: -70.0 points" in shown
    assert "which may be chance" in shown
    assert shown.endswith(
        "Looked at: 4 guards, 3 findings, 2 kinds of task. 1 finding rose by no more than chance explains."
    )


def test_a_night_on_which_nothing_got_worse_says_at_what_it_looked():
    shown = worse(a_night(None), (), (), Aftermath((after(a_row("f1", -0.2)),), ()))
    assert shown == "Nothing that was looked at got worse: 1 finding."
    assert not worse(a_night(None), (), (), NOTHING)


def test_shrunk_failures_are_told_with_intervals_and_with_what_chance_alone_would_show():
    rows = [a_row("aim", 0.0, targeted=True), a_row("moved", 0.2), *(a_row(f"still{i}", 0.0) for i in range(18))]
    shown = shrinkage_tables(Aftermath((after(*rows),), (after(a_row("aim", -0.2), split="test"),)))
    assert shown.index("on test") < shown.index("After round 1, on train")
    assert "wrong answer `aim` | +0.0 (-5.0 to +5.0) | 30 of 100 | 30 of 100 | yes | 50 |" in shown
    assert "`moved`" in shown
    assert "and 15 more, which changed less" in shown
    assert "of the 21 rows behind these tables about 2 would exclude 0" in shown


def test_findings_have_a_state_a_cost_and_a_history():
    seen = {"first_seen": NOW.replace(day=5), "last_seen": NOW}
    now = [a_finding("f0", lost=21.5, dollars=0.4, **seen), a_finding("f1", dollars=None)]
    shown = findings_table(now, [a_state("f0", "back", first_seen=datetime(2026, 11, 3))])  # noqa: DTZ001, as stored
    assert "wrong answer `f0` | back | 22 of 180 | 21.5 | $0.40 | 2026-11-03 to 2026-11-20 |" in shown
    assert "wrong answer `f1` | new | 22 of 180 | 0.0 | dollars unknown |  |" in shown
    assert "| and 3 more | | 66 |" in findings_table([a_finding(f"f{i}") for i in range(13)])


def test_a_cause_is_a_hypothesis_until_a_kept_change_that_rests_on_it_made_the_failure_rarer():
    now = [a_finding(f"f{i}", cause="because", summary="it fails") for i in range(3)]
    happened = Aftermath((after(a_row("f0", -0.2, targeted=True), a_row("f2", -0.2)),), ())
    shown = causes(now, [a_state("f1", "refuted")], happened).splitlines()
    assert shown == [
        "- `f0`: it fails Cause (confirmed): because",
        "- `f1`: it fails Cause (refuted): because",
        "- `f2`: it fails Cause (a hypothesis): because",
    ]


def test_what_was_answered_stands_apart_with_the_round_that_did_it():
    states = [a_state("f0", "answered", answered_by="run-1", answered_round=3), a_state("f1", "open")]
    shown = answered_table([], states)
    assert "| title of f0 `f0` | answered | `run-1`, round 3 | 2026-11-03 to 2026-11-20 |" in shown
    assert "f1" not in shown
    assert not answered_table([a_finding("f0")], states)


def test_predictions_are_told_with_what_came_of_them():
    promised = [Scored(round=i, tags=(), predicted=0.2, gain=0.1, low=0.0, high=0.3, n=40) for i in range(1, 4)]
    promised.append(Scored(round=4, tags=(), predicted=0.2, gain=0.1, low=-0.495, high=1.0, n=20))
    by_kind = [Scored(round=1, tags=("plural",), predicted=0.5, gain=0.1, low=None, high=None)]
    shown = predictions_table(promised, by_kind)
    assert "promises 20.0 points and delivers 10.0" in shown
    assert "| 1 | all tasks | +20.0 | +10.0 (+0.0 to +30.0) | 40 | yes |" in shown
    assert "| 4 | all tasks | +20.0 | +10.0 (-49.5 to +100.0) | 20 | too wide to say |" in shown
    assert "3 of 3 predictions lie in the measured interval; of 1 more there is no interval, or one over 90" in shown
    assert "| 1 | plural | +50.0 | +10.0 (no interval) |  | not known |" in shown
    assert "By kind of task: of it there is no interval" in shown
    assert not predictions_table([], [])


def test_the_share_of_kept_proposals_has_its_interval():
    assert "1 of 1 proposal" in whole(replace(a_night(None), rounds=(a_kept_round(1),)))


def test_a_picture_is_linked_where_it_lies_there():
    night = a_night(None)
    happened = Aftermath((after(a_row("f1", -0.2)),), ())
    text = whole(night, pictures={PROGRESS, FINDINGS}, aftermath=happened)
    assert f"![Progress by round]({PROGRESS})" in text
    assert f"![Findings before and after]({FINDINGS})" in text
    assert text.count("![") == 2


# ── what others wrote stays words ──────────────────────────────────────────────────────────────────────────────────

HOSTILE = (
    "# heading",
    "x\n\n# heading\n\n| a | b |\n|---|---|\n| 1 | 2 |",
    "a | b | c",
    "[link](https://evil.example)",
    "![picture](https://evil.example/p.png)",
    "[ref]: https://evil.example",
    "[ref]",
    "<img src=https://evil.example/p.png onerror=alert(1)>",
    "<https://evil.example>",
    "see https://evil.example or www.evil.example",
    "**bold** _em_ `code` ~~gone~~ $x$ \\",
    "`unclosed",
    "``` \n```\n# heading",
    "- item",
    "1. item",
    "12345) item",
    "> quoted",
    "=== ",
    "&lt;b&gt; &#35;",
    "\u202eright to left\u2028new line\x00\x1b[31m",
    "ends with \\",
    "ends with [x]",
)
STRUCTURE = {"heading_open", "table_open", "tr_open", "td_open", "link_open", "image", "hr", "fence", "code_block",
             "list_item_open", "blockquote_open", "html_block", "html_inline", "em_open", "strong_open", "s_open",
             "code_inline", "hardbreak"}  # fmt: skip


def shape(markdown: str) -> list[str]:
    """What stands in *markdown* besides words, in order."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)
    every = (child for token in tokens for child in (token, *(token.children or ())))
    return [token.type for token in every if token.type in STRUCTURE]


def words_of(markdown: str) -> str:
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)
    return "".join(child.content for token in tokens for child in token.children or ())


def a_report_about(words: str) -> str:
    """Whatever a model, a person or a tool wrote says *words*."""
    finding = a_finding("f0", title=words, summary=words, cause=words, last_seen=NOW)
    c = a_certification(
        "blocked",
        detail=words,
        guards=(Guard(kind="slice", name=words, verdict="block", n=3, wins=0, losses=3, p=0.1),),
    )
    first = a_kept_round(1, "f0")
    assert first.proposal is not None
    proposal = first.proposal.model_copy(
        update={
            "rationale": words,
            "findings": (finding,),
            "citations": (Citation(trial="t", quote=words),),
            "edits": (Edit(path=words, text=words),),
        }
    )
    removal = Removal(rounds=(1,), verdict="stay", comparison=None)
    decision = Decision(verdict="keep", because="improved", detail=words)
    kept = first.model_copy(update={"proposal": proposal, "decision": decision, "removals": (removal,)})
    night = a_night(c)
    last = night.rounds[-1].model_copy(update={"detail": words})
    row = replace(a_row("f0", 0.2), finding=finding)
    return report(
        replace(night, rounds=(night.rounds[0], kept, last)),
        Standing(live=LIVE, doubts=[words]),
        diff=f"+++ b/p.md\n@@ -1 +1 @@\n-{words}\n+{words}\n {words}",
        before=[t.model_copy(update={"tags": (words,)}) for t in trials_of_kinds(plural=0.9)],
        after=[t.model_copy(update={"tags": (words,)}) for t in trials_of_kinds(plural=0.2)],
        now=[finding],
        waiting=[an_escalation(1, "r").model_copy(update={"summary": words, "owner": words})],
        states=[a_state("f9", "answered", title=words)],
        aftermath=Aftermath((after(row),), (after(row, split="test"),)),
        by_kind=[Scored(round=1, tags=(words,), predicted=0.1, gain=0.1, low=None, high=None)],
    )


@pytest.mark.parametrize("words", HOSTILE)
def test_nothing_that_a_trace_or_a_model_says_becomes_part_of_the_reports_structure(words):
    assert shape(a_report_about(words)) == shape(a_report_about("harmless words"))


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("[]()!<>`~|#-+*_\\&;:/.@$=\"'\n\t\u2028 1a.wx"), max_size=40))
def test_whatever_is_written_is_shown_as_it_was_written_and_nothing_else(text):
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    around = f"| a |\n|---|\n| {plain(text)} |\n\n- {plain(text)}\n\nsaid “{plain(text)}” (n = 1)\n"
    assert shape(around) == ["table_open", "tr_open", "tr_open", "td_open", "list_item_open"]
    assert words_of(around) == f"a{line}{line}said “{line}” (n = 1)"


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.sampled_from("`|\\ a*["), min_size=1, max_size=12).filter(str.strip))
def test_code_holds_what_it_is_given_in_a_table_too(text):
    [inline] = [
        child.content
        for token in MarkdownIt("commonmark").enable("table").parse(f"| a |\n|---|\n| {code(text)} |")
        for child in token.children or ()
        if child.type == "code_inline"
    ]
    assert inline.strip() == " ".join(text.split()).replace("\\|", "|") or "|" in text


def test_a_diff_cannot_end_its_block_and_hides_nothing():
    hostile = "+ok\n ```\n# heading\n+````\n+admin\u202e # gnihton"
    shown = fenced(hostile)
    assert shape(shown) == ["fence"]
    assert "<U+202E>" in shown
    assert "\u202e" not in shown
    assert "And 5 lines more, which `git diff` shows." in fenced("\n".join(f"+{i}" for i in range(1505)))


@pytest.mark.parametrize("words", HOSTILE)
def test_a_terminal_is_shown_the_words_without_the_marks(words):
    assert bare(f"**Doubtful**: {plain(words)}") == f"Doubtful: {' '.join(bare(plain(words)).split())}"
    assert "\x1b" not in bare(plain(words))
