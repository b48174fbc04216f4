import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.findings import findings
from analysis.proposers import BlindProposer, ExampleProposer
from analysis.proposers.examples import Prompt, instructions
from harness.errors import OutOfIdeas, UserError
from harness.protocols import History
from harness.text import parse_chat, render, validate
from tests.analysis.test_findings import trial
from tests.world import PROMPT, SEED_PROMPT
from traces.records import Decision, Proposal, Round, Task, now

TASKS = {
    f"{kind}-{i}": Task(id=f"{kind}-{i}", input=f"{kind} {{{{ {i} }}}}?", targets=(f"{kind} answer {i}",), tags=(kind,))
    for kind in ("plural", "opposite", "colour")
    for i in range(8)
}
FAILED = [trial(f"plural-{i}") for i in range(6)] + [trial(f"opposite-{i}", tags=("opposite",)) for i in range(3)]


def history(**more) -> History:
    values = {"run": "run", "tasks": TASKS, "trials": FAILED, "seed": 1, **more}
    return History(**values)


def a_round(proposal: Proposal, verdict: str) -> Round:
    decision = Decision(verdict=verdict, because="improved" if verdict == "keep" else "no-improvement")  # type: ignore[arg-type]
    return Round(
        run="run",
        number=1,
        incumbent="x",
        working="x",
        proposal=proposal,
        decision=decision,
        started=now(),
        seconds=0.0,
    )


def test_it_answers_the_finding_that_costs_most_with_a_worked_example_of_that_kind():
    proposal = ExampleProposer().propose("v", {PROMPT: SEED_PROMPT}, history())

    [edit] = proposal.edits
    chat = parse_chat(edit.text)
    assert [m.role for m in chat] == ["system", "user", "assistant", "user"]
    assert chat[2].content.startswith("plural answer")
    assert proposal.answers == (findings(FAILED)[0].id,)
    assert set(proposal.evidence) <= {t.id for t in FAILED}
    assert proposal.predicted == pytest.approx(6 / 9 * 0.5)


def test_a_proposal_renders_and_shows_the_example_as_it_is_whatever_signs_are_in_it():
    proposal = ExampleProposer().propose("v", {PROMPT: SEED_PROMPT}, history())
    text = {PROMPT: proposal.edits[0].text}
    validate(text)
    shown = render(text, PROMPT, task="now this", skills="")
    assert shown[1].content in {task.input for task in TASKS.values()}
    assert shown[-1].content == "now this"


def test_what_was_answered_in_vain_makes_way_for_the_next_finding():
    first = ExampleProposer().propose("v", {PROMPT: SEED_PROMPT}, history())
    vain = [a_round(first, "discard")] * 2
    second = ExampleProposer().propose("v", {PROMPT: SEED_PROMPT}, history(rounds=vain))
    assert second.answers != first.answers
    kept = ExampleProposer().propose("v", {PROMPT: SEED_PROMPT}, history(rounds=[*vain, a_round(first, "keep")]))
    assert kept.answers == first.answers


@pytest.mark.parametrize("proposer", [ExampleProposer(), BlindProposer()])
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_no_version_is_proposed_twice_and_every_one_is_valid(proposer, seed):
    tried: dict[str, str] = {}
    text = {PROMPT: SEED_PROMPT}
    for number in range(25):
        seen = history(tried=dict(tried), version_of=lambda edits: edits[0].text, seed=seed + number)
        try:
            proposal = proposer.propose("v", text, seen)
        except OutOfIdeas:
            break
        [edit] = proposal.edits
        assert edit.path == PROMPT
        assert edit.text not in tried
        validate({PROMPT: edit.text})
        tried[edit.text] = f"round {number}"
        if number % 3 == 0:
            text = {PROMPT: edit.text}


@pytest.mark.parametrize("proposer", [ExampleProposer(), BlindProposer()])
def test_the_same_seed_proposes_the_same(proposer):
    assert proposer.propose("v", {PROMPT: SEED_PROMPT}, history()) == proposer.propose(
        "v", {PROMPT: SEED_PROMPT}, history()
    )


def test_where_nothing_fails_it_is_out_of_ideas():
    with pytest.raises(OutOfIdeas, match="no train trial fails"):
        ExampleProposer().propose("v", {PROMPT: SEED_PROMPT}, history(trials=[trial("t", score=1.0)]))


def test_a_subject_without_the_prompt_is_refused_by_name():
    with pytest.raises(UserError, match=r"prompts/solve\.md"):
        ExampleProposer().propose("v", {}, history())


def test_a_prompt_taken_apart_knows_the_kinds_of_its_examples():
    proposal = ExampleProposer().propose("v", {PROMPT: SEED_PROMPT}, history())
    prompt = Prompt.parse(proposal.edits[0].text, TASKS)
    assert prompt.tags == (("plural",),)
    assert prompt.chat() == parse_chat(proposal.edits[0].text)


def test_the_sentences_it_may_add_ask_for_something():
    assert len(instructions()) >= 5
