from pathlib import Path

import pytest

from harness.evidence import Traces, unfounded
from harness.protocols import History, Trace
from tests.world import PROMPT, an_experiment, play
from traces import data_directory
from traces.journal import Journal
from traces.records import Citation, Edit, Grade, Proposal, Span, Text, Trial, now

SENT = Text.of('[{"role": "system", "content": "Count the animals, one by one."}]')


def a_trial(id: str, output: str = "three  mouses\nran") -> Trial:
    return Trial(
        id=id,
        run="night",
        version="a" * 40,
        task=id,
        split="train",
        output=output,
        grade=Grade(score=0, reason="not the plural"),
        started=now(),
        seconds=1,
    )


def a_span(id: str, trial: str | None, text: Text) -> Span:
    return Span(
        id=id,
        trial=trial,
        operation="chat",
        name="m",
        started=now(),
        seconds=1,
        input_hash=SENT.hash,
        input_preview=SENT.text[-200:],
        output_hash=text.hash,
        error="torn",
    )


@pytest.fixture
def history(tmp_path: Path) -> History:
    said, hidden = Text.of("I count: one mouse, three mouses."), Text.of("the hidden answer")
    path = tmp_path / "night.jsonl"
    with Journal(path) as journal:
        for record in (SENT, said, a_span("s1", "t1", said), hidden, a_span("s2", "secret", hidden), a_trial("secret")):
            journal.append(record)
    trials = [a_trial("t1"), a_trial("t2")]
    return History(run="night", tasks={}, trials=trials, trace_of=Traces(path, trials))


def test_a_trace_has_its_trials_spans_and_what_they_said(history: History):
    assert history.trace_of is not None
    trace = history.trace_of("t1")
    assert [span.id for span in trace.spans] == ["s1"]
    assert sorted(trace.texts.values()) == sorted([SENT.text, "I count: one mouse, three mouses."])
    assert history.trace_of("t2").spans == ()


def test_no_trace_is_shown_but_those_of_the_trials_at_hand(history: History):
    assert history.trace_of is not None
    with pytest.raises(LookupError, match="no trial secret"):
        history.trace_of("secret")


@pytest.mark.parametrize(
    ("trial", "span", "quote"),
    [
        ("t1", None, "three mouses ran"),
        ("t1", None, "not the plural"),
        ("t1", "s1", "one mouse,\n three"),
        ("t1", "s1", "torn"),
    ],
)
def test_what_stands_there_can_be_quoted_blanks_apart(history: History, trial: str, span: str | None, quote: str):
    assert unfounded([Citation(trial=trial, span=span, quote=quote)], history) == []


def test_of_a_tool_also_what_it_was_called_with_can_be_quoted():
    trial, called = a_trial("t1"), Text.of('{"path": "src/a.txt"}')
    span = a_span("s1", "t1", Text.of("nothing")).model_copy(
        update={"operation": "execute_tool", "input_hash": called.hash, "input_preview": None}
    )
    seen = History(
        run="night", tasks={}, trials=[trial], trace_of=lambda id: Trace(trial, (span,), {called.hash: called.text})
    )
    assert unfounded([Citation(trial="t1", span="s1", quote='"path": "src/a.txt"')], seen) == []


@pytest.mark.parametrize(
    ("trial", "span", "quote", "why"),
    [
        ("t9", None, "three mouses", "no trial t9"),
        ("secret", "s2", "the hidden answer", "no trial secret"),
        ("t1", "s2", "the hidden answer", "no span s2"),
        ("t2", "s1", "one mouse", "no span s1"),
        ("t1", None, "four mouses ran", "does not say 'four mouses ran'"),
        ("t1", None, "one mouse, three", "does not say"),
        ("t1", "s1", "Count the animals, one by one.", "does not say 'Count the animals"),
        ("t1", None, "…", "too short"),
        ("t1", None, " e ", "too short"),
        ("t1", None, "the plural", "too short"),
        ("t1", "s1", "one mouse", "too short"),
        ("t1", "s1", "the", "takes 12 characters, or a whole passage"),
    ],
)
def test_what_does_not_stand_there_is_told(history: History, trial: str, span: str | None, quote: str, why: str):
    [fault] = unfounded([Citation(trial=trial, span=span, quote=quote)], history)
    assert why in fault


def test_a_proposal_that_quotes_what_nobody_said_is_refused_before_a_trial_is_bought(checkout: Path):
    class Inventing:
        def propose(self, incumbent, text, history):
            edit = Edit(path=PROMPT, text=text[PROMPT].replace("Answer.", f"Answer. {len(history.rounds)}"))
            cited = Citation(trial=history.trials[0].id, quote="nobody ever said this")
            return Proposal(id="p", proposer="Inventing", edits=(edit,), rationale="why", citations=(cited,))

    rounds = play(an_experiment(proposer=Inventing()), checkout, data_directory(checkout))

    tried = [r for r in rounds if r.decision is not None]
    assert {(r.decision.verdict, r.decision.because) for r in tried} == {("discard", "unfounded")}
    assert all(r.proposal is not None and "does not say" in r.decision.detail for r in tried)
    assert len({r.trials for r in rounds}) == 1
