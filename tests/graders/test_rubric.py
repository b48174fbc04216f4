import threading
import time
from dataclasses import dataclass, field

import pytest

from harness.agent.inbox import Inbox
from harness.errors import ModelError, TrialError, UserError
from harness.graders import (
    AtMost,
    CommandPasses,
    DiffInScope,
    Holds,
    Judge,
    Lacks,
    LinksResolve,
    Person,
    RubricGrader,
    RubricVerifier,
)
from harness.meter import Unmetered, metered, placed
from harness.protocols import Work
from harness.testing import ScriptedModel
from harness.text import parse_rubric
from harness.worktrees import Worktree
from tests.graders.world import TASK, FolderSandbox, an_answer, files_in
from traces.records import Run, Task

TONE = parse_rubric('[[criteria]]\nid = "tone"\nquestion = "Is it polite?"\nchoices = ["rude", "curt", "polite"]\n')
SIGNED = Holds("signed", r"^-- \w+$", "nobody signed it")
OPEN = Lacks("open", "TODO", "something was left open")
WORK = Work(TASK, {})


def a_judge(answer=None):
    """Finds polite what says please."""

    def polite(messages):
        if "please" in messages[1].content:
            return an_answer(messages, {"tone": ("polite", "please")})
        return an_answer(messages, {"tone": ("rude", "It does not ask, it orders.", "")})

    return Judge(ScriptedModel(answer or polite), TONE)


@dataclass
class Kept(Unmetered):
    """Keeps the spans, as a run does."""

    spans: list = field(default_factory=list)
    directory: object = None
    run: object = None

    def __post_init__(self):
        Unmetered.__init__(self)

    def end(self, span, texts=()):
        self.spans.append(placed(span))


def a_run(directory):
    run = Run(id="r", experiment="e", subject="s", live="v" * 8, fingerprint={}, budget={}, tasks={}, owner="Ann")
    return Kept(directory=directory, run=run)


# ── verifying ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_both_kinds_of_criteria_stand_in_one_rubric():
    verifier = RubricVerifier([SIGNED, OPEN], a_judge())

    good = verifier.review(TASK, "Would you please read it?\n-- Ann", WORK, [])
    assert good.verdict == "satisfied"
    assert [mark.criterion for mark in good.marks] == ["signed", "open", "tone"]

    rude = verifier.review(TASK, "Read it.\n-- Ann", WORK, [])
    assert rude.verdict == "needs_revision"
    assert [(m.criterion, m.first_seen, m.times_seen) for m in rude.marks if not m.passed] == [("tone", 1, 1)]


def test_what_the_checks_refuse_costs_no_judge_unless_it_is_always_asked():
    for when, calls in (("checks-pass", 0), ("always", 1)):
        judge = a_judge()
        review = RubricVerifier([SIGNED], judge, judge_when=when).review(TASK, "please", WORK, [])
        assert review.verdict == "needs_revision"
        assert judge.model.calls == calls


def test_an_attempt_after_the_first_knows_what_is_not_mended():
    verifier = RubricVerifier([SIGNED, OPEN])
    before = [verifier.review(TASK, "TODO", WORK, [])]
    before.append(verifier.review(TASK, "TODO\n-- Ann", WORK, before))

    assert before[1].attempt == 2
    [mark] = [mark for mark in before[1].marks if not mark.passed]
    assert (mark.criterion, mark.first_seen, mark.times_seen) == ("open", 1, 2)


@pytest.mark.parametrize("answer", ["no verdict at all", None])
def test_a_judge_that_breaks_is_an_error_of_the_grader_and_no_verdict(answer):
    def down(messages):
        raise ModelError("overloaded", "full", transient=True)

    review = RubricVerifier(judge=a_judge(answer or down)).review(TASK, "please", WORK, [])

    assert review.verdict == "grader_error"
    assert review.marks == ()
    assert ("malformed_verdict" if answer else "overloaded: full") in review.detail


def test_a_check_that_breaks_is_an_error_of_the_grader_too():
    @dataclass(frozen=True)
    class Broken:
        id: str = "broken"

        def check(self, task, output, work):
            raise RuntimeError("a bug")

    review = RubricVerifier([Broken()]).review(TASK, "x", WORK, [])
    assert (review.verdict, review.detail) == ("grader_error", "RuntimeError: RuntimeError: a bug")


def test_a_rubric_that_says_it_cannot_be_applied_has_failed():
    judge = a_judge(lambda m: an_answer(m, {}, "failed", detail="No tone in a number."))
    review = RubricVerifier([OPEN], judge).review(TASK, "42", WORK, [])
    assert (review.verdict, review.detail) == ("failed", "No tone in a number.")
    with pytest.raises(TrialError, match="No tone in a number"):
        RubricGrader([OPEN], judge).grade(TASK, "42")


def test_the_verifier_warns_of_a_model_that_judges_itself():
    verifier = RubricVerifier(judge=a_judge())
    assert "not a verifier" in verifier.warnings({"scripted:model"})[0]
    assert RubricVerifier([OPEN]).warnings({"scripted:model"}) == ()


# ── files ──────────────────────────────────────────────────────────────────────────────────────────────────────


def a_change(folder, worktree, **files):
    """The patch of a maker that wrote these files."""
    made = folder / "maker"
    worktree.prepare(made)
    files_in(made, files)
    return made, worktree.patch(made)


def test_checks_of_files_see_fresh_copies_with_the_patch_applied_and_never_the_makers_folder(tmp_path):
    worktree = Worktree(files_in(tmp_path / "project", {"README.md": "# Top\n", "a.md": "# A\n"}))
    maker, patch = a_change(tmp_path, worktree, **{"README.md": "# Top\n[a](a.md) [b](b.md)\n", "b.md": "# B\n"})
    sandbox = FolderSandbox()
    tampering = CommandPasses("tests", ["sh", "-c", "rm b.md; test -f README.md"])
    verifier = RubricVerifier([DiffInScope(["*.md"]), tampering, LinksResolve()], sandbox=sandbox, worktree=worktree)
    (maker / "b.md").unlink()

    review = verifier.review(TASK, patch, Work(TASK, {}, box=None), [])

    assert review.verdict == "satisfied"
    assert len(sandbox.opened) == 2, "one for each check that looks at files"
    assert maker not in sandbox.opened
    assert not any(folder.exists() for folder in sandbox.opened)


def test_a_patch_that_does_not_apply_is_at_fault_and_breaks_nothing(tmp_path):
    worktree = Worktree(files_in(tmp_path / "project", {"a.md": "# A\n"}))
    _, patch = a_change(tmp_path, worktree, **{"a.md": "# B\n"})
    verifier = RubricVerifier([LinksResolve()], sandbox=FolderSandbox(), worktree=worktree)
    grader = RubricGrader([OPEN, LinksResolve()], sandbox=FolderSandbox(), worktree=worktree)

    for output in (patch.replace("-# A", "-# Z"), "I have done it.", patch.replace("a.md", "../a.md")):
        review = verifier.review(TASK, output, WORK, [])
        assert review.verdict == "needs_revision"
        assert [mark.criterion for mark in review.marks] == ["patch"]
        assert "does not apply" in review.marks[0].because
        assert grader.grade(TASK, output).score == 0


def test_an_empty_patch_is_the_project_as_it_was(tmp_path):
    worktree = Worktree(files_in(tmp_path / "project", {"a.md": "[b](b.md)\n"}))
    verifier = RubricVerifier([LinksResolve()], sandbox=FolderSandbox(), worktree=worktree)
    assert "leads to no file" in verifier.review(TASK, "", WORK, []).marks[0].because


# ── grading ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_score_is_the_share_of_the_criteria_that_pass_by_weight():
    grader = RubricGrader([SIGNED, OPEN], a_judge(), weights={"signed": 2}, judge_when="always")

    assert grader.grade(TASK, "please\n-- Ann").score == 1
    assert grader.grade(TASK, "please").score == 0.5
    assert grader.grade(TASK, "TODO\n-- Ann").score == 0.5
    assert RubricGrader([SIGNED, OPEN], must=["open"]).grade(TASK, "TODO\n-- Ann").score == 0


def test_a_criterion_that_the_judge_was_not_asked_about_does_not_pass():
    assert RubricGrader([SIGNED], a_judge()).grade(TASK, "please").score == 0


def test_the_reason_names_the_criteria_first_and_then_what_was_wrong():
    reason = RubricGrader([SIGNED, OPEN]).grade(TASK, "TODO: x").reason
    assert reason == (
        "failed: open, signed\n- signed: nobody signed it | TODO: x\n- open: something was left open | TODO: x"
    )


def test_the_reason_does_not_tell_an_answer_that_is_accepted():
    task = Task(id="t", input="?", targets=("forty two",))
    told = a_judge(lambda m: an_answer(m, {"tone": ("rude", "It should be Forty  Two.", "")}))
    reason = RubricGrader(judge=told).grade(task, "no").reason
    assert reason == "failed: tone\n- tone"


def test_a_judge_that_is_down_loses_the_trial_and_is_no_zero():
    def down(messages):
        raise ModelError("overloaded", "full", transient=True)

    with pytest.raises(ModelError):
        RubricGrader(judge=a_judge(down)).grade(TASK, "please")
    with pytest.raises(TrialError) as e:
        RubricGrader(judge=a_judge("nonsense")).grade(TASK, "please")
    assert e.value.boundary == "grader"


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: RubricVerifier(), "met by anything"),
        (lambda: RubricVerifier([SIGNED, SIGNED]), "two criteria are called 'signed'"),
        (lambda: RubricVerifier([Holds("tone", "x", "y")], a_judge()), "two criteria are called 'tone'"),
        (lambda: RubricVerifier([SIGNED], attempts=0), "attempts=0"),
        (lambda: RubricGrader([SIGNED], must=["sigend"]), "'sigend'"),
        (lambda: RubricGrader([SIGNED], weights={"signed": 0}), "weight"),
        (lambda: RubricGrader([SIGNED, OPEN], weights={"signed": -1}), "weight"),
    ],
)
def test_a_rubric_that_cannot_tell_anything_is_refused(make, what):
    with pytest.raises(UserError, match=what):
        make()


# ── what it costs ──────────────────────────────────────────────────────────────────────────────────────────────


def test_what_verification_costs_is_told_apart_from_the_makers():
    meter = Kept()
    with metered(meter):
        RubricVerifier([SIGNED, AtMost(1000)], a_judge()).review(TASK, "please\n-- Ann", WORK, [])

    assert [(s.operation, s.name, s.role) for s in meter.spans] == [
        ("grade", "signed", "verifier"),
        ("grade", "length", "verifier"),
        ("chat", "scripted:model", "judge"),
        ("grade", "Judge", "judge"),
    ]
    assert meter.spans[2].parent == meter.spans[3].id
    assert meter.spans[2].usage.tokens > 0


def test_a_grading_that_broke_is_in_the_trace():
    meter = Kept()
    with metered(meter):
        RubricVerifier(judge=a_judge("nonsense")).review(TASK, "please", WORK, [])
    assert (meter.spans[-1].status, meter.spans[-1].error_class) == ("error", "malformed_verdict")


# ── people ─────────────────────────────────────────────────────────────────────────────────────────────────────


def answered(directory, verdict, note=""):
    """Somebody who answers what waits in the inbox."""

    def answer():
        inbox = Inbox(directory)
        for _ in range(500):
            for entry in inbox.entries():
                if entry.state == "waiting":
                    inbox.rule(entry.escalation.id, verdict, "Ann", note)
                    return
            time.sleep(0.01)

    person = threading.Thread(target=answer)
    person.start()
    return person


@pytest.mark.parametrize(
    ("verdict", "note", "ends", "because"),
    [("approved", "", "satisfied", ""), ("rejected", "the tone is off", "needs_revision", "the tone is off")],
)
def test_a_person_is_asked_last_and_their_word_is_the_mark(tmp_path, verdict, note, ends, because):
    verifier = RubricVerifier([SIGNED], person=Person("Is it true?", wait=20, poll=0.01))
    with metered(a_run(tmp_path)):
        assert verifier.review(TASK, "unsigned", WORK, []).verdict == "needs_revision"
        assert Inbox(tmp_path).entries() == []

        person = answered(tmp_path, verdict, note)
        review = verifier.review(TASK, "-- Ann", WORK, [])
        person.join()

        assert review.verdict == ends
        assert review.marks[-1].because == because
        [entry] = Inbox(tmp_path).entries()
        held = entry.escalation
        assert (held.concern, held.owner, held.summary, held.evidence) == ("grade", "Ann", "Is it true?", ("-- Ann",))
        assert verifier.review(TASK, "-- Ann", WORK, []).verdict == ends, "taken up again, nobody is asked twice"


def test_what_nobody_answers_cannot_be_verified(tmp_path):
    with metered(a_run(tmp_path)):
        person = Person("Is it true?", wait=0.05, poll=0.01)
        review = RubricVerifier(person=person).review(TASK, "x", WORK, [])
        assert review.verdict == "grader_error"
        assert "nobody answered" in review.detail
        with pytest.raises(TrialError, match="nobody answered"):
            RubricGrader(person=person).grade(TASK, "x")


def test_outside_a_run_there_is_nobody_to_ask():
    review = RubricVerifier(person=Person("Is it true?")).review(TASK, "x", WORK, [])
    assert (review.verdict, "no inbox" in review.detail) == ("grader_error", True)
