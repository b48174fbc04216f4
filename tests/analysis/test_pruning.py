"""Kept changes that do not pay are proposed to be taken out again, and nothing else changes about a proposer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from analysis.proposers import Pruning
from harness.errors import OutOfIdeas
from harness.experiment import Budget
from harness.gate import PairedGate
from harness.protocols import History
from harness.versions import Repo, applied
from tests.world import PROMPT, SEED_PROMPT, an_experiment, play, some_tasks
from traces.records import Decision, Edit, Proposal, Round, now


@dataclass(frozen=True)
class Lines:
    """Proposes one line after the other, each once."""

    lines: Sequence[str]

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        proposed = [r.proposal.rationale for r in history.rounds if r.proposal]
        for line in self.lines:
            if line not in proposed:
                edits = (Edit(path=PROMPT, text=text[PROMPT].replace("Answer.", f"Answer.\n- {line}")),)
                return Proposal(id=line, proposer="Lines", edits=edits, rationale=line)
        raise OutOfIdeas("every line was proposed")


@dataclass
class Night:
    """A night by hand: each proposal is kept or discarded as the test says."""

    proposer: Pruning
    rounds: list[Round] = field(default_factory=list)
    versions: list[dict[str, str]] = field(default_factory=lambda: [{PROMPT: SEED_PROMPT}])
    """A version's id is its place in here."""
    working: int = 0

    @property
    def text(self) -> dict[str, str]:
        return self.versions[self.working]

    def version_of(self, edits: Sequence[Edit]) -> str:
        made = applied(self.text, edits)
        if made not in self.versions:
            self.versions.append(made)
        return str(self.versions.index(made))

    def propose(self) -> Proposal:
        tried = {r.candidate: "" for r in self.rounds if r.candidate} | {"0": "it is the live version"}
        history = History(
            run="run",
            tasks={},
            trials=(),
            rounds=tuple(self.rounds),
            tried=tried,
            version_of=self.version_of,
            text_of=lambda version: self.versions[int(version)],
        )
        return self.proposer.propose(str(self.working), self.text, history)

    def play(self, *verdicts: str) -> list[str]:
        """One round a verdict; what was proposed in each, in words."""
        said: list[str] = []
        for verdict in verdicts:
            proposal, incumbent = self.propose(), str(self.working)
            candidate = self.version_of(proposal.edits)
            self.working = int(candidate) if verdict == "keep" else self.working
            because = "improved" if verdict == "keep" else "no-improvement"
            self.rounds.append(
                Round(
                    run="run",
                    number=len(self.rounds) + 1,
                    incumbent=incumbent,
                    candidate=candidate,
                    proposal=proposal,
                    decision=Decision(verdict=verdict, because=because),  # type: ignore[arg-type]
                    working=str(self.working),
                    started=now(),
                    seconds=0.0,
                )
            )
            said.append(proposal.rationale)
        return said


def a_night(lines: str = "abcdefgh", every: int = 4) -> Night:
    return Night(Pruning(Lines(tuple(lines)), every=every))


def removal(number: int, line: str) -> str:
    return f'take out again what round {number} brought: "{line}"'


def test_every_fourth_round_takes_out_the_oldest_kept_change_and_the_others_are_the_inner_proposers():
    night = a_night()

    assert night.play("keep", "keep", "discard", "keep", "discard") == ["a", "b", "c", removal(1, "a"), "d"]
    assert night.text[PROMPT] == SEED_PROMPT.replace("Answer.", "Answer.\n- b")


def test_it_answers_as_the_inner_proposer_does_until_two_changes_are_kept():
    night = a_night()

    assert night.play("keep", *["discard"] * 7) == list("abcdefgh")


def test_a_removal_that_was_refused_lets_the_next_change_have_its_turn():
    night = a_night(every=2)

    said = night.play("keep", "keep", "keep", *["discard"] * 3, "keep", "discard", "discard", "discard")

    assert said[3::2] == [removal(1, "a"), removal(2, "b"), removal(3, "c"), removal(1, "a")]


def test_the_same_removal_is_not_proposed_twice_from_the_same_text():
    night = a_night(every=2)

    said = night.play("keep", "keep", *["discard"] * 6)

    assert said == ["a", "b", "c", removal(1, "a"), "d", "e", "f", "g"]


def test_when_the_ideas_run_out_the_removals_left_are_proposed_and_then_it_ends():
    night = a_night("abcd", every=100)

    said = night.play(*["keep"] * 4, "discard", "keep", "discard", "discard", "discard")

    assert said[4:] == [removal(1, "a"), removal(2, "b"), removal(3, "c"), removal(4, "d"), removal(1, "a")]
    with pytest.raises(OutOfIdeas, match="every line was proposed"):
        night.propose()


def test_a_change_that_later_ones_rest_on_is_passed_over():
    night = a_night("ab")
    night.play("keep", "keep")
    reworded = night.text[PROMPT].replace("- a", "- a, but better")
    night.proposer = Pruning(Rewording(reworded), every=4)

    assert night.play("keep", "discard") == ["reword", removal(2, "b")]


def test_only_what_makes_the_text_shorter_is_proposed():
    night = Night(Pruning(Cutting(("Answer.", "system", "task")), every=2))

    assert night.play(*["keep"] * 3) == ["cut Answer.", "cut system", "cut task"]
    with pytest.raises(OutOfIdeas):
        night.propose()


def test_a_removal_is_a_proposal_like_any_other_and_says_what_it_expects():
    night = a_night()
    night.play("keep", "keep", "discard")
    one, other = night.propose(), night.propose()

    assert one == other
    assert (one.proposer, one.predicted, one.answers) == ("Pruning", 0.0, ())
    with pytest.raises(ValueError, match="at least 2"):
        Pruning(Lines(()), every=1)


@dataclass(frozen=True)
class Rewording:
    text: str

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        return Proposal(id="r", proposer="R", edits=(Edit(path=PROMPT, text=self.text),), rationale="reword")


@dataclass(frozen=True)
class Cutting:
    words: Sequence[str]

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        word = next((word for word in self.words if word in text[PROMPT]), None)
        if word is None:
            raise OutOfIdeas("nothing left to cut")
        edit = Edit(path=PROMPT, text=text[PROMPT].replace(word, ""))
        return Proposal(id=word, proposer="Cutting", edits=(edit,), rationale=f"cut {word}")


# ── a whole night ──────────────────────────────────────────────────────────────────────────────────────────────

PAYS = ("Mind the plural.", "Name the colour.", "Know the animal.")
IDLE = ("Be kind.", "Say nothing.", "Take care.", "Think.", "Breathe.", "Smile.", "Stay calm.", "Sit up.")


def test_of_what_was_kept_by_luck_some_goes_as_simpler_and_what_pays_stays(checkout: Path, tmp_path: Path):
    lines = (IDLE[0], PAYS[0], *IDLE[1:4], PAYS[1], *IDLE[4:], PAYS[2])
    experiment = an_experiment(
        tasks=some_tasks(60),
        proposer=Pruning(Lines(lines), every=3),
        gate=PairedGate(min_clusters=20),
        budget=Budget(rounds=30),
    )

    rounds = play(experiment, checkout, tmp_path / "data")

    kept = [r for r in rounds if r.decision and r.decision.verdict == "keep" and r.proposal]
    lucky = [r for r in kept if r.proposal.rationale in IDLE]
    simpler = [r.proposal.rationale for r in kept if r.decision.because == "simpler"]
    final = Repo.find(checkout).subject("subject").text(rounds[-1].working)[PROMPT]
    assert simpler
    assert set(simpler) <= {removal(r.number, r.proposal.rationale) for r in lucky}
    assert [line for line in PAYS if line in final] == list(PAYS)
    assert len([line for line in IDLE if line in final]) == len(lucky) - len(simpler)
