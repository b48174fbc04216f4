"""What becomes of a finding is told by what was mined, tried and kept, over all runs of its experiment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import traces
from analysis.states import FindingState, states
from traces.journal import Journal
from traces.merge import merge
from traces.places import spool
from traces.records import Comparison, Decision, Finding, Promotion, Proposal, Removal, Round, Run, now

KEEP, DISCARD, BROKEN, REFUSED = "improved", "no-improvement", "errors", "already-tried"


def a_finding(id: str, share: float) -> Finding:
    return Finding(
        id=id, title=f"[{id}] wrong", kind="wrong answer", count=round(100 * share), share=share, versions=("v" * 8,)
    )


@dataclass
class Runs:
    """Journals of some runs: a proposal with what it had mined, and what became of it, at a time.

    A run begins with the version that the one before it ended with, as if that had been promoted, or with one that is
    named; a kept change makes a version of its own.
    """

    directory: Path
    experiment: str = "example"
    numbers: dict[str, int] = field(default_factory=dict)
    working: str = "v" * 8

    def round(
        self,
        mined: Mapping[str, float],
        answers: Sequence[str] = (),
        because: str = DISCARD,
        run: str = "night",
        dropped: tuple[int, ...] = (),
        live: str | None = None,
    ) -> None:
        number = self.numbers[run] = self.numbers.get(run, 0) + 1
        incumbent = live or self.working
        self.working = f"{run}-{number:08}" if because == KEEP or dropped else incumbent
        proposal = Proposal(
            id=f"p{number}",
            proposer="Anything",
            edits=(),
            rationale="why not",
            answers=tuple(answers),
            findings=tuple(a_finding(id, share) for id, share in mined.items()),
        )
        comparison = Comparison(
            incumbent="v" * 8,
            candidate=f"{number:08}",
            split="train",
            tasks=20,
            incumbent_score=0.5,
            candidate_score=0.6,
            gain=0.1,
            low=0.0,
            high=0.2,
            confidence=0.9,
        )
        verdict = "keep" if because == KEEP else "discard"
        decision = Decision(
            verdict=verdict,
            because=because,  # type: ignore[arg-type]
            comparison=None if because == REFUSED else comparison,
        )
        removals = (Removal(rounds=dropped, verdict="drop", comparison=None),) if dropped else ()
        with Journal(spool(self.directory) / f"{run}.jsonl") as journal:
            if number == 1:
                journal.append(a_run(run, self.experiment, incumbent))
                journal.append(
                    Round(run=run, number=0, incumbent=incumbent, working=incumbent, started=now(), seconds=1)
                )
            journal.append(proposal)
            journal.append(
                Round(
                    run=run,
                    number=number,
                    incumbent=incumbent,
                    candidate=f"{number:08}",
                    working=self.working,
                    proposal=proposal,
                    decision=decision,
                    removals=removals,
                    started=now(),
                    seconds=1,
                )
            )

    def promoted(self, version: str, number: int) -> None:
        promotion = Promotion(
            id=f"promotion-{number}", experiment=self.experiment, kind="promote", number=number, version=version,
            replaces="v" * 8, commit="c" * 8, branch="main",
        )  # fmt: skip
        with Journal(spool(self.directory) / f"promotions-{self.experiment}.jsonl") as journal:
            journal.append(promotion)

    def state(self, id: str = "plural") -> FindingState:
        [found] = [s for s in states(self.experiment, self.directory) if s.id == id]
        return found


def a_run(id: str, experiment: str, live: str = "v" * 8) -> Run:
    return Run(id=id, experiment=experiment, subject="s", live=live, fingerprint={}, budget={}, tasks={})


@pytest.fixture
def night(tmp_path) -> Runs:
    return Runs(tmp_path)


def test_what_is_mined_and_not_answered_is_open(night):
    night.round({"plural": 0.2, "colour": 0.1})
    night.round({"plural": 0.3}, ["plural"], BROKEN)

    found = night.state()
    assert (found.state, found.count, found.share, found.tries, found.answered_by) == ("open", 30, 0.3, 0, None)
    assert found.title == "[plural] wrong"
    assert found.versions == ("v" * 8,)
    assert found.first_seen < found.last_seen
    assert night.state("colour").state == "gone"


def test_what_a_kept_change_answers_is_answered_while_it_is_gone_or_at_under_half_its_share(night):
    night.round({"plural": 0.2}, ["plural"], KEEP)
    before = night.state()
    night.round({"plural": 0.09, "colour": 0.1})
    smaller = night.state()
    night.round({"colour": 0.1}, run="later")
    gone = night.state()

    assert [s.state for s in (before, smaller, gone)] == ["answered"] * 3
    assert [s.share for s in (before, smaller, gone)] == [0.2, 0.09, 0.0]
    assert (gone.answered_by, gone.answered_round, gone.tries) == ("night", 1, 1)


def test_what_comes_again_after_it_was_answered_is_back_also_in_another_run(night):
    night.round({"plural": 0.2, "colour": 0.1}, ["plural"], KEEP)
    night.round({"colour": 0.1})
    night.round({"plural": 0.1, "colour": 0.1}, run="later")

    assert night.state().state == "back"
    night.round({"plural": 0.1}, ["plural"], KEEP, run="later")
    assert night.state().state == "answered"
    assert (night.state().answered_by, night.state().answered_round) == ("later", 2)


def test_what_stayed_as_frequent_although_a_change_that_answers_it_was_kept_is_still_open(night):
    night.round({"plural": 0.2}, ["plural"], KEEP)
    night.round({"plural": 0.18})

    assert (night.state().state, night.state().answered_round) == ("open", 1)


def test_a_cause_is_refuted_by_two_changes_that_were_measured_and_not_kept(night):
    night.round({"plural": 0.2}, ["plural"], BROKEN)
    night.round({"plural": 0.2}, ["plural"], REFUSED)
    night.round({"plural": 0.2}, ["plural"])
    assert (night.state().state, night.state().tries) == ("open", 1)

    night.round({"plural": 0.2}, ["plural", "colour"], "undecided", run="later")
    assert (night.state().state, night.state().tries) == ("refuted", 2)

    night.round({"plural": 0.2}, ["plural"], KEEP, run="later")
    assert (night.state().state, night.state().tries) == ("answered", 3)


def test_a_change_that_was_taken_out_again_answers_nothing(night):
    night.round({"plural": 0.2}, ["plural"], KEEP)
    night.round({"plural": 0.02})
    assert night.state().state == "answered"
    night.round({"plural": 0.02}, dropped=(1,))

    assert (night.state().state, night.state().answered_by, night.state().tries) == ("open", None, 1)


def test_what_was_answered_in_a_night_that_nobody_promoted_is_open_in_the_next_and_not_back(night):
    night.round({"plural": 0.2, "colour": 0.1, "animal": 0.1}, ["plural", "animal"], KEEP)
    night.round({"colour": 0.1})
    night.round({"plural": 0.2, "colour": 0.1}, run="later", live="v" * 8)

    assert [(s.id, s.state, s.answered_by, s.answer_is_live) for s in states("example", night.directory)] == [
        ("plural", "open", "night", False),
        ("colour", "open", None, None),
        ("animal", "gone", "night", False),
    ]

    night.round({"plural": 0.2}, ["plural"], run="later")
    night.round({"plural": 0.2}, ["plural"], run="later")
    found = night.state()
    assert (found.state, found.tries) == ("open", 3)  # no refutation: one of them was kept
    night.round({"plural": 0.2}, ["plural"], KEEP, run="later")
    found = night.state()
    assert (found.state, found.answered_by, found.answered_round, found.answer_is_live) == (
        "answered",
        "later",
        4,
        True,
    )


def test_an_answer_holds_in_every_later_run_that_goes_on_from_it_and_in_none_from_before_it(night):
    night.round({"plural": 0.2, "colour": 0.1}, ["colour"], KEEP)
    before = night.working
    night.round({"plural": 0.2}, ["plural"], KEEP)
    night.round({"number": 0.1}, ["number"], KEEP, run="second")
    night.round({"number": 0.1, "plural": 0.2, "colour": 0.1}, run="third")
    assert [(s.id, s.state, s.answer_is_live) for s in states("example", night.directory)] == [
        ("number", "open", True),  # it never went
        ("plural", "back", True),
        ("colour", "back", True),
    ]

    night.round({"number": 0.1, "plural": 0.2, "colour": 0.1}, run="fourth", live=before)  # rolled back
    assert [(s.id, s.state, s.answer_is_live) for s in states("example", night.directory)] == [
        ("plural", "open", False),
        ("number", "open", False),
        ("colour", "back", True),
    ]


def test_minings_of_versions_without_the_answer_do_not_tell_whether_it_helped(night):
    night.round({"plural": 0.2}, ["plural"], KEEP)
    answered = night.working
    night.round({"colour": 0.1}, run="unpromoted", live="v" * 8)
    night.round({"plural": 0.2}, run="later", live=answered)

    found = night.state()
    assert (found.state, found.answer_is_live) == ("open", True)  # it never went where it was answered


def test_a_live_version_that_a_person_changed_by_hand_holds_what_the_one_before_it_held(night):
    night.round({"plural": 0.2}, ["plural"], KEEP)
    kept = night.working
    night.round({"plural": 0.2}, run="by-hand", live="h" * 8)
    found = night.state()
    assert (found.state, found.answer_is_live) == ("open", False)

    night.promoted(kept, 1)
    night.round({"colour": 0.1}, run="promoted-and-by-hand", live="i" * 8)
    found = night.state()
    assert (found.state, found.answer_is_live) == ("answered", True)
    night.round({"colour": 0.1}, run="and-once-more", live="j" * 8)
    found = night.state()
    assert (found.state, found.answer_is_live) == ("answered", True)


def test_a_removal_in_one_run_leaves_the_rounds_of_another_alone(night):
    night.round({"plural": 0.2}, ["plural"], KEEP)
    night.round({"plural": 0.02}, run="later")
    night.round({"plural": 0.02}, run="later", dropped=(1,))

    assert night.state().state == "answered"


def test_a_proposal_that_mined_nothing_says_nothing_about_what_is_there(night):
    night.round({"plural": 0.2})
    night.round({})

    assert night.state().state == "open"


def test_each_experiment_has_its_own(night):
    night.round({"plural": 0.2})
    other = Runs(night.directory, "other")
    other.round({"plural": 0.4}, ["plural"], KEEP, run="elsewhere")

    assert (night.state().state, night.state().share) == ("open", 0.2)
    assert (other.state().state, other.state().share) == ("answered", 0.4)
    assert states("none", night.directory) == []


def test_what_needs_something_comes_first_and_merged_or_not_is_the_same(night):
    night.round({"a": 0.1, "b": 0.3, "c": 0.2, "gone": 0.1}, ["b"], KEEP)
    night.round({"a": 0.1, "c": 0.2})
    night.round({"a": 0.1, "b": 0.2, "c": 0.25}, ["c"], KEEP)
    fresh = states("example", night.directory)
    merge(night.directory)

    assert [(s.id, s.state) for s in fresh] == [("a", "open"), ("b", "back"), ("c", "answered"), ("gone", "gone")]
    assert states("example", night.directory) == fresh
    night.round({"a": 0.1})
    assert [s.state for s in states("example", night.directory)] == ["open", "answered", "answered", "gone"]


def test_a_title_may_say_anything(night):
    title = "'; drop view finding_states; --\n\x1b[31m💥"
    with Journal(spool(night.directory) / "night.jsonl") as journal:
        journal.append(a_run("night", "example"))
        journal.append(a_finding("plural", 0.2).model_copy(update={"title": title}))

    assert night.state().title == title
    assert night.state().state == "open"
    assert len(traces.sql("from finding_states", directory=night.directory)) == 1
