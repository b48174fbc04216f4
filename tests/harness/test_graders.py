import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.graders import ExactGrader
from traces.records import Task

TASK = Task(id="t", input="What is the plural of lady?", targets=("ladies", "the ladies"))


@pytest.mark.parametrize("answer", ["ladies", " Ladies. ", "LADIES!", "“ladies”", "the  ladies", "ｌａｄｉｅｓ"])
def test_an_accepted_answer_counts_whatever_its_case_blanks_and_punctuation(answer):
    assert ExactGrader().grade(TASK, answer).score == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "no answer"),
        (" ... ", "no answer"),
        ("The plural is ladies.", "an accepted answer is in it, with other words around it"),
        ("lady", "repeats a word of the question"),
        ("What is the plural of lady? Well", "repeats the question"),
        ("a rather long answer that says nothing", "a long answer where a short one is expected"),
        ("gentlemen", "another answer than the accepted ones"),
    ],
)
def test_a_wrong_answer_is_a_zero_with_the_kind_of_mistake(answer, reason):
    grade = ExactGrader().grade(TASK, answer)
    assert (grade.score, grade.reason) == (0, reason)


@given(st.text(), st.text(min_size=1, alphabet="qxzjk"))
def test_the_reason_never_tells_the_answer(output, target):
    grade = ExactGrader().grade(Task(id="t", input="?", targets=(target,)), output)
    assert grade.score == 1 or target not in grade.reason.split()


def test_a_task_without_targets_cannot_be_graded():
    with pytest.raises(ValueError, match="no targets"):
        ExactGrader().grade(Task(id="t", input="?"), "x")
