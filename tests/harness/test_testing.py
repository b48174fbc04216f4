"""The fakes that we ship behave as what they stand for: a scripted model leaves the same in a journal as a real one."""

import json
from dataclasses import dataclass, field

import pytest

from harness.errors import ModelError
from harness.meter import Unmetered, metered
from harness.protocols import Message, Reply, ToolSpec
from harness.testing import Scripted, ScriptedModel
from traces.records import Span, Text, ToolCall

READ = ToolSpec(name="read_file", description="Reads.", parameters={})
ASK = [
    Message("system", "Answer."),
    Message("user", "Read ä.txt; the key is ghp_" + "a1" * 20 + ".\ud800"),
    Message("assistant", "", calls=(ToolCall(id="c1", name="read_file", arguments={"path": "ä.txt"}),)),
    Message("tool", "text", answers="c1"),
]


@dataclass
class Kept(Unmetered):
    """Keeps what it is told."""

    spans: list[Span] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)

    def end(self, span: Span, texts: tuple[Text, ...] = ()) -> None:
        self.spans.append(span)
        self.texts |= {text.hash: text.text for text in texts}


@dataclass(frozen=True)
class Clerk(Scripted):
    name: str = "scripted:clerk"

    def reply(self, messages, seed, tools):
        call = ToolCall(id="c2", name=tools[0].name, arguments={"path": f"{seed}.txt"})
        return Reply("I look. " + "Indeed. " * 50, tool_calls=(call,))


@pytest.mark.parametrize("model", [Clerk(), ScriptedModel(lambda messages: Clerk().reply(messages, 7, [READ]))])
def test_a_scripted_model_keeps_what_was_asked_and_answered_as_a_real_one_does(model):
    meter = Kept()
    with metered(meter):
        reply = model.complete(ASK, seed=7, tools=[READ])

    [span] = meter.spans
    asked, answered = meter.texts[span.input_hash], meter.texts[span.output_hash]
    assert [m["content"] for m in json.loads(asked)] == ["Answer.", "Read ä.txt; the key is [key].\ufffd", "", "text"]
    assert json.loads(asked)[2]["calls"] == [{"id": "c1", "name": "read_file", "arguments": {"path": "ä.txt"}}]
    assert json.loads(asked)[3]["answers"] == "c1"
    assert answered == reply.text + '\nread_file({"path": "7.txt"})'
    assert (span.input_preview, span.output_preview) == (asked[-200:], answered[:200])
    assert (span.name, reply.model, reply.finish_reason) == (model.name, model.name, "tool_calls")
    assert reply.usage == span.usage
    assert span.usage.dollars == 0


def test_a_scripted_model_that_plays_a_failure_answers_nothing():
    def fail(messages):
        raise ModelError("server_error", "down", transient=True)

    meter, model = Kept(), ScriptedModel(fail)
    with metered(meter), pytest.raises(ModelError):
        model.complete(ASK, seed=1)
    assert (model.calls, meter.spans) == (1, [])
