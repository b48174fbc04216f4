from harness.agent.feedback import feedback, should_escalate
from harness.graders.marks import fault, passed, seen
from traces.records import Review


def reviews(*marks, attempts=None):
    """Reviews of attempts with these marks, as a verifier would write them."""
    made = []
    for number, those in enumerate(marks, 1):
        wrong = any(not mark.passed for mark in those)
        verdict = "needs_revision" if wrong else "satisfied"
        made.append(Review(verdict=verdict, attempt=number, marks=seen(those, made, number)))
    return made


LINKS = fault("links", "the link `a.md` leads to no file", "README.md:3: a.md")
STYLE = fault("style", "it is a list where prose was asked for", "- one\n- two")
BROKE = Review(verdict="grader_error", detail="overloaded: full")


def test_feedback_says_what_is_wrong_where_and_whether_it_is_new():
    first, second = reviews([LINKS, passed("names")], [LINKS, STYLE, passed("names")])

    said = feedback(first)
    assert "- links (new in this attempt): the link `a.md` leads to no file\n  > README.md:3: a.md" in said
    assert "must stay so: names." in said

    said = feedback(second)
    assert "- links (not mended: first seen in attempt 1, seen 2 times by now)" in said
    assert "- style (new in this attempt): it is a list where prose was asked for\n  > - one\n  > - two" in said


def test_a_criterion_with_a_fault_has_not_passed_and_many_faults_are_cut():
    [review] = reviews([passed("links"), *[LINKS] * 30])
    said = feedback(review)
    assert "must stay" not in said
    assert said.count("leads to no file") == 20
    assert "10 more" in said


def test_a_fault_is_the_same_when_only_its_names_and_numbers_differ():
    other = fault("links", "the link `b.md` leads to no file", "README.md:9: b.md")
    *_, last = reviews([LINKS], [passed("links")], [other])
    assert (last.marks[0].first_seen, last.marks[0].times_seen) == (1, 2)


def test_a_maker_goes_on_until_its_attempts_are_used_up():
    made = reviews([LINKS], [LINKS, STYLE], [STYLE])

    assert should_escalate([], [], 3) is None
    assert should_escalate(made[:1], ["a"], 3) is None
    assert should_escalate(made[:2], ["a", "b"], 3) is None
    trouble = should_escalate(made, ["a", "b", "c"], 3)
    assert trouble.concern == "verification_failed"
    assert trouble.summary == "still wrong after 3 attempts: style"
    assert trouble.evidence == ("style, 2x since attempt 2: it is a list where prose was asked for | - one - two",)


def test_the_same_faults_with_nothing_changed_are_not_tried_again():
    made = reviews([LINKS], [LINKS])
    assert should_escalate(made, ["same", "same"], 5).concern == "same_error"
    assert should_escalate(made, ["same", "changed"], 5) is None


def test_a_verifier_that_breaks_is_asked_once_more_and_uses_no_attempt_up():
    [wrong] = reviews([LINKS])
    assert should_escalate([BROKE], ["a"], 1) is None
    assert should_escalate([BROKE, BROKE], ["a", "a"], 9).concern == "cannot_verify"
    assert should_escalate([BROKE, BROKE], ["a", "a"], 9).evidence == ("overloaded: full",)
    assert should_escalate([BROKE, wrong], ["a", "a"], 2) is None
    assert should_escalate([BROKE, wrong], ["a", "a"], 1).concern == "verification_failed"


def test_a_bad_rubric_and_a_satisfied_verifier():
    bad = Review(verdict="failed", detail="nothing here can have a line")
    trouble = should_escalate([bad], ["a"], 3)
    assert (trouble.concern, trouble.evidence) == ("bad_rubric", ("nothing here can have a line",))
    assert should_escalate(reviews([LINKS], [passed("links")]), ["a", "a"], 2) is None
