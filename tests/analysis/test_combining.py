"""When a search is stuck, what nearly paid is tried together, and what was kept is taken out in turn."""

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.proposers import Combining, Pruning
from analysis.proposers.combining import near_gain, redo
from harness.errors import OutOfIdeas
from harness.gate import MetricGate
from harness.protocols import History, Proposer
from harness.undo import edits_between, length
from harness.versions import applied
from tests.gate.metric_world import MetricTrials, prescribed
from traces.records import Comparison, Decision, Edit, Proposal, Round, now

CODE = "train.py"
START = "depth = 1\nwidth = 1\nrate = 1\nsteps = 1\nbatch = 1\n\nprint(depth * width)\n"


@dataclass(frozen=True)
class Settings:
    """Proposes one setting after the other, ``name=value``, each once; what is not there is put at the top."""

    wishes: Sequence[str]

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        proposed = [r.proposal.rationale for r in history.rounds if r.proposal]
        for wish in self.wishes:
            if wish not in proposed:
                edit = Edit(path=CODE, text=with_setting(text[CODE], wish))
                return Proposal(id=wish, proposer="Settings", edits=(edit,), rationale=wish, answers=(f"f-{wish}",))
        raise OutOfIdeas("every setting was tried")


def with_setting(source: str, wish: str) -> str:
    name, value = wish.split("=")
    lines = [f"{name} = {value}" if line.startswith(f"{name} = ") else line for line in source.split("\n")]
    changed = "\n".join(lines)
    return changed if changed != source else f"{name} = {value}\n{source}"


@dataclass
class Night:
    """A night by hand: the test says what each round measured."""

    proposer: Proposer
    rounds: list[Round] = field(default_factory=list)
    versions: list[dict[str, str]] = field(default_factory=lambda: [{CODE: START}])
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
        drifted = [r.candidate for r in self.rounds if r.decision and r.decision.because == "drift"]
        tried = {r.candidate: "" for r in self.rounds if r.candidate not in drifted} | {"0": "it is the live version"}
        history = History(
            run="run",
            tasks={},
            trials=(),
            rounds=tuple(self.rounds),
            tried={version: "" for version in tried if version},
            version_of=self.version_of,
            text_of=lambda version: self.versions[int(version)],
        )
        return self.proposer.propose(str(self.working), self.text, history)

    def play(self, *found: Decision) -> list[str]:
        """One round a decision; what was proposed in each, in words."""
        said: list[str] = []
        for decision in found:
            proposal, incumbent = self.propose(), str(self.working)
            candidate = self.version_of(proposal.edits)
            self.working = int(candidate) if decision.verdict == "keep" else self.working
            self.rounds.append(
                Round(
                    run="run",
                    number=len(self.rounds) + 1,
                    incumbent=incumbent,
                    candidate=candidate,
                    proposal=proposal,
                    decision=decision,
                    working=str(self.working),
                    started=now(),
                    seconds=0.0,
                )
            )
            said.append(proposal.rationale)
        return said


def compared(*gains: float, sigma: float | None = 1.0, metric: str = "val_bpb") -> Comparison:
    counted = gains[1:] or gains
    return Comparison(
        incumbent="a",
        candidate="b",
        split="train",
        tasks=len(counted),
        incumbent_score=1.0,
        candidate_score=1.0,
        gain=sum(counted) / len(counted),
        low=None,
        high=None,
        confidence=0.9,
        differences=gains,
        metric=metric,
        sigma=sigma,
    )


def lost(*gains: float) -> Decision:
    return Decision(verdict="discard", because="no-improvement", comparison=compared(*gains))


KEPT = Decision(verdict="keep", because="improved", comparison=compared(2.0, 2.0))
CRASH = Decision(
    verdict="discard",
    because="no-improvement",
    detail="1 of 1 runs gave no val_bpb: crash",
    comparison=compared(1.0).model_copy(update={"gain": None, "differences": ()}),
)
DRIFT = Decision(verdict="inconclusive", because="drift", comparison=compared(0.4))
WORSE = lost(-3.0)
WISHES = ("depth=2", "width=2", "rate=2", "steps=2", "batch=2", *(f"x{n}=1" for n in range(20)))


def a_night(after: int = 3, wishes: Sequence[str] = WISHES) -> Night:
    return Night(Combining(Settings(wishes), after=after))


def test_a_stuck_search_tries_the_two_best_near_misses_together_and_cites_their_rounds():
    night = a_night()

    night.play(lost(0.2), lost(-0.1), lost(0.4))
    proposal = night.propose()

    assert proposal.rationale == 'rounds 1 and 3 together: "depth=2"; "rate=2"'
    assert applied(night.text, proposal.edits)[CODE] == START.replace("depth = 1", "depth = 2").replace(
        "rate = 1", "rate = 2"
    )
    assert (proposal.proposer, proposal.answers) == ("Combining", ("f-depth=2", "f-rate=2"))
    assert night.propose() == proposal


def test_until_it_is_stuck_it_answers_as_the_inner_proposer_does_and_every_keep_begins_anew():
    night = a_night()

    said = night.play(lost(0.2), lost(0.4), KEPT, lost(0.1), lost(0.3), WORSE, WORSE)

    assert said[:6] == [*WISHES[:5], "x0=1"]
    assert said[6] == 'rounds 2 and 5 together: "width=2"; "batch=2"'


def test_two_rounds_of_three_stay_the_inner_proposers():
    night = a_night()

    said = night.play(*[lost(0.2)] * 3, *[WORSE] * 7)

    assert [line.startswith("rounds") for line in said[3:]] == [True, False, False] * 2 + [True]
    assert said[4:6] == ["steps=2", "batch=2"]


def test_each_pair_is_tried_once_and_when_the_ideas_run_out_those_left_follow_until_it_ends():
    night = a_night(after=100, wishes=WISHES[:3])

    said = night.play(lost(0.3), lost(0.2), lost(0.1), WORSE, WORSE, WORSE)

    assert [line.split(" together")[0] for line in said[3:]] == ["rounds 1 and 2", "rounds 1 and 3", "rounds 2 and 3"]
    with pytest.raises(OutOfIdeas, match="every setting was tried"):
        night.propose()


def test_what_was_worse_or_crashed_or_was_refuted_by_fresh_seeds_is_no_near_miss():
    night = a_night(after=5, wishes=WISHES[:5])

    night.play(lost(0.4), lost(-0.6), CRASH, lost(0.9, -0.8, -0.7), WORSE)

    with pytest.raises(OutOfIdeas):
        night.propose()


def test_a_pair_whose_gains_add_up_to_a_loss_is_not_worth_a_trial():
    night = a_night(after=2, wishes=WISHES[:2])

    night.play(lost(0.1), lost(-0.2))

    with pytest.raises(OutOfIdeas):
        night.propose()


def test_changes_of_the_same_line_are_not_combinable_and_the_next_best_pair_is_tried():
    night = a_night(wishes=("depth=2", "depth=3", "rate=2", "steps=2"))

    night.play(lost(0.4), lost(0.4), lost(0.1))

    assert night.propose().rationale.startswith("rounds 1 and 3 together")


def test_a_near_miss_is_tried_once_more_on_a_newer_incumbent():
    night = a_night(wishes=("depth=2", "width=2", "rate=9", "steps=9", "batch=9"))

    said = night.play(lost(0.4), KEPT, WORSE, WORSE, WORSE, WORSE)

    assert said[-1] == 'round 1 again, on another version: "depth=2"'
    assert "depth = 2\nwidth = 2\n" in night.versions[int(night.rounds[-1].candidate or 0)][CODE]
    with pytest.raises(OutOfIdeas):
        night.propose()


def test_what_failed_on_the_newer_incumbent_is_combined_with_nothing_more():
    night = a_night(wishes=("depth=2", "width=2", "rate=2", "steps=9", "batch=9"))

    said = night.play(lost(0.4), KEPT, lost(0.1), WORSE, WORSE)

    assert night.propose().rationale.startswith("rounds 1 and 3 together")
    night.play(WORSE, WORSE)
    assert said[-1] == "batch=9"
    assert night.rounds[-1].proposal
    assert night.rounds[-1].proposal.rationale.startswith("round 1 again")
    with pytest.raises(OutOfIdeas):
        night.propose()


def test_a_combination_that_was_lost_to_drift_may_be_tried_again():
    night = a_night(wishes=WISHES[:2], after=2)
    night.play(lost(0.2), lost(0.2))

    assert night.play(DRIFT, WORSE) == ['rounds 1 and 2 together: "depth=2"; "width=2"'] * 2


def test_a_long_story_is_cited_in_short():
    night = a_night(wishes=("depth=2", "width=" + "2" * 500), after=2)
    night.play(lost(0.2), lost(0.2))

    assert len(night.propose().rationale) < 200


def test_without_its_history_it_has_nothing_to_combine_and_asks_the_inner_proposer():
    history = History(run="run", tasks={}, trials=())
    assert Combining(Settings(WISHES), after=1).propose("0", {CODE: START}, history).rationale == "depth=2"
    with pytest.raises(ValueError, match="at least 1"):
        Combining(Settings(()), after=0)
    with pytest.raises(ValueError, match="at least 1"):
        Pruning(Settings(()), after=0)


def test_the_stack_combines_and_ablates_and_tries_something_new_in_turn():
    night = Night(Combining(Pruning(Settings(WISHES), every=100, after=3), after=3))

    said = night.play(KEPT, KEPT, KEPT, lost(0.3), lost(0.2), WORSE, *[WORSE] * 6)

    assert said[6:] == [
        'rounds 4 and 5 together: "steps=2"; "batch=2"',
        'take out again what round 1 brought: "depth=2"',
        "x1=1",
        "x2=1",
        'take out again what round 2 brought: "width=2"',
        "x3=1",
    ]


def test_what_pruning_took_out_is_not_put_in_again_as_an_ablation():
    night = Night(Pruning(Settings(WISHES), every=2, after=2))
    simpler = Decision(verdict="keep", because="simpler", comparison=compared(0.0))

    night.proposer = Pruning(Settings(("x1=1", "x2=1", "x3=1", *WISHES)), every=4, after=2)
    said = night.play(KEPT, KEPT, KEPT, simpler, *[WORSE] * 8)

    assert said[3] == 'take out again what round 1 brought: "x1=1"'
    assert not any("take out again what round 4" in line for line in said)


# ── near misses of the gates ───────────────────────────────────────────────────────────────────────────────────


def test_the_metric_gates_own_decisions_are_told_apart():
    runs = {"close": [0.998], "chance": [0.9, 1.001, 1.002], "bad": [1.5], "luck": [0.9, 1.5, 1.5], "good": [0.5] * 3}
    gate = MetricGate("val_bpb", better="lower")
    trials = MetricTrials(prescribed(a=[0.99, 1.0, 1.01], **runs))

    found = {
        name: near_gain(
            Round(
                run="r",
                number=1,
                incumbent="a",
                candidate=name,
                working="a",
                decision=gate.keep("a", name, trials.within(name), is_shorter=False, rounds=()),
                started=now(),
                seconds=1.0,
            )
        )
        for name in runs
    }

    assert found == {
        "close": pytest.approx(0.002),
        "chance": pytest.approx(-0.0015),
        "bad": None,
        "luck": None,
        "good": None,
    }


@pytest.mark.parametrize(("gains", "is_near"), [((1, 1, -1, 1), True), ((0, -1, 1, 0), True), ((-1, -1, 0, -1), False)])
def test_graded_comparisons_go_by_the_error_of_their_mean(gains: Sequence[float], is_near: bool):
    gain = sum(gains) / len(gains)
    comparison = compared(*gains, sigma=None, metric="").model_copy(update={"gain": gain})
    decision = Decision(verdict="inconclusive", because="undecided", comparison=comparison)
    round = Round(
        run="r", number=1, incumbent="a", candidate="b", working="a", decision=decision, started=now(), seconds=1.0
    )
    error = math.sqrt(sum((g - gain) ** 2 for g in gains) / 3 / 4)

    assert (near_gain(round) is not None) == (gain >= -error / 2) == is_near


# ── changes made again ─────────────────────────────────────────────────────────────────────────────────────────


@given(st.permutations(range(5)), st.integers(1, 4))
def test_changes_of_different_lines_combine_in_any_order_to_the_same(order: list[int], count: int):
    names = ["depth", "width", "rate", "steps", "batch"]
    changed = {n: {CODE: with_setting(START, f"{names[n]}=7")} for n in order}
    results: list[dict[str, str]] = []
    for sequence in (order[:count], order[:count][::-1]):
        text: dict[str, str] | None = {CODE: START}
        for n in sequence:
            assert text is not None
            text = redo({CODE: START}, changed[n], text)
        assert text is not None
        results.append(text)

    assert results[0] == results[1]
    ast.parse(results[0][CODE])
    assert results[0][CODE].count("= 7") == count


def test_a_change_that_was_made_already_is_not_made_twice_and_new_files_come_along():
    before, after = {CODE: START}, {CODE: f"import math\n{START}", "more.py": "x = 1\n"}
    assert redo(before, after, before) == after
    assert redo(before, after, after) == after
    assert redo(before, after, {CODE: START, "other.py": "y = 1\n"}) == {**after, "other.py": "y = 1\n"}
    assert redo(before, after, {CODE: START, "more.py": "x = 2\n"}) is None
    assert edits_between(after, after) == ()
    assert length(after) > length(before)
