"""A lesson becomes one of five artifacts, by what the change that was kept had changed."""

import pytest

from analysis.lessons import answered, kind_of, lesson, sentence
from tests.harness.test_progress import a_round
from traces.records import Edit, Removal


def kept(number, *paths, answers=("f1",)):
    round = a_round(number, "x", answers=answers)
    assert round.proposal is not None
    assert round.decision is not None
    edits = tuple(Edit(path=path, text="x") for path in paths)
    return round.model_copy(
        update={
            "proposal": round.proposal.model_copy(update={"edits": edits}),
            "decision": round.decision.model_copy(update={"verdict": "keep", "because": "improved"}),
        }
    )


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("prompts/solve.md", "instruction"),
        ("prompts/test_first.md", "instruction"),
        ("skills/tool-use/SKILL.md", "instruction"),
        ("skills/testing/scripts/check.py", "instruction"),
        ("prompts/route.md", "routing rule"),
        ("rubrics/style.toml", "eval"),
        ("tests/test_x.py", "eval"),
        ("tools/search.json", "tool contract"),
        ("policy.toml", "approval gate"),
        ("Hooks/pre_trigger.py", "approval gate"),
        ("train.py", "instruction"),
    ],
)
def test_the_path_tells_what_a_lesson_became(path, kind):
    assert kind_of(path) == kind
    assert lesson(kept(1, path)) == kind


def test_of_several_files_the_kind_of_most_counts_and_of_as_many_the_one_that_binds_more():
    assert lesson(kept(1, "prompts/solve.md", "skills/a/SKILL.md", "rubrics/a.toml")) == "instruction"
    assert lesson(kept(1, "prompts/solve.md", "rubrics/a.toml")) == "eval"


def test_what_was_not_kept_taught_nothing():
    assert lesson(a_round(1, "x")) is None
    assert lesson(kept(1)) is None


def test_a_finding_names_the_artifact_that_answered_it():
    rounds = [
        a_round(1, "x"),
        kept(2, "skills/dates/SKILL.md"),
        kept(3, "rubrics/a.toml", answers=("f2",)),
    ]
    assert sentence("f1", rounds) == "answered by instruction in round 2 (skills/dates/SKILL.md)"
    assert sentence("f2", rounds) == "answered by eval in round 3 (rubrics/a.toml)"
    assert sentence("f3", rounds) == ""


def test_an_answer_that_was_taken_out_again_is_none():
    taken = kept(3, "prompts/solve.md", answers=()).model_copy(
        update={"removals": (Removal(rounds=(2,), verdict="drop", comparison=None),)}
    )
    assert answered("f1", [kept(2, "prompts/solve.md"), taken]) == []
