"""Tool calls in both APIs, in one piece and as a stream, well formed or not."""

import json
from typing import Any

import pytest

from harness.errors import ModelError, UserError
from harness.models import model
from harness.models.chat import TOOLS
from harness.protocols import Message, Reply, ToolModel, ToolSpec
from harness.testing import ScriptedModel
from tests.models.conftest import ANTHROPIC, OPENAI, Remembering, Sdk
from tests.models.loopback import Play, answers, provider, streams
from traces.records import ToolCall

READ = ToolSpec("read_file", "Read a file.", {"type": "object", "properties": {"path": {"type": "string"}}})
RUN = ToolSpec("run_command", "Run a command.", {"type": "object", "properties": {}})
ASK = [Message("user", "What is in a.txt?")]
SCHEMA = {
    "type": "object",
    "properties": {"passed": {"type": "boolean"}},
    "required": ["passed"],
    "additionalProperties": False,
}
MARK = {"type": "ephemeral"}


def in_one_piece(sdk: Sdk, body: dict[str, Any]) -> Play:
    return answers(body)


def as_a_stream(sdk: Sdk, body: dict[str, Any]) -> Play:
    return streams(sdk.streamed(body))


@pytest.fixture(params=[in_one_piece, as_a_stream], ids=["whole", "streamed"])
def sent(request: pytest.FixtureRequest) -> Any:
    return request.param


def reply_to(sdk: Sdk, play: Play, messages: list[Message] = ASK) -> Reply:
    with provider(play) as there:
        streaming = play.__qualname__.startswith("streams")
        return sdk.model(there.url, stream=streaming).complete(messages, seed=1, tools=[READ, RUN])


def request_of(sdk: Sdk, messages: list[Message], **options: Any) -> Any:
    with provider(answers(sdk.says("ok"))) as there:
        sdk.model(there.url).complete(messages, seed=1, **{"tools": [RUN, READ], **options})
    return there.received[0].body


def test_a_model_that_calls_tools_says_which_with_what(sdk: Sdk, sent: Any, meter: Remembering):
    body = sdk.calls(("c1", "read_file", {"path": "ä.txt"}), ("c2", "run_command", {}), text="Let me look.")
    reply = reply_to(sdk, sent(sdk, body))

    assert (reply.text, reply.finish_reason) == ("Let me look.", "tool_calls")
    assert reply.tool_calls == (
        ToolCall(id="c1", name="read_file", arguments={"path": "ä.txt"}),
        ToolCall(id="c2", name="run_command"),
    )
    assert (reply.usage.input_tokens, reply.usage.cached_tokens, reply.usage.output_tokens) == (100, 60, 7)
    [span] = meter.spans
    assert span.output_preview == 'Let me look.\nread_file({"path": "ä.txt"})\nrun_command({})'
    assert span.attributes[TOOLS] == ["read_file", "run_command"]


def test_tools_are_offered_in_the_same_order_whatever_order_they_are_given_in(connections: None):
    function = request_of(OPENAI, ASK)["tools"]
    assert [tool["function"]["name"] for tool in function] == ["read_file", "run_command"]
    assert function[0]["function"]["parameters"] == READ.parameters
    assert function == request_of(OPENAI, ASK, tools=[READ, RUN])["tools"]
    [first, _] = request_of(ANTHROPIC, ASK)["tools"]
    assert (first["name"], first["input_schema"]) == ("read_file", READ.parameters)


@pytest.mark.parametrize("written", ['{"path": "a', "[1, 2]", '"a.txt"', "not json", "null", "[" * 5000])
def test_arguments_that_are_no_object_are_kept_as_they_were_written(connections: None, sent: Any, written: str):
    reply = reply_to(OPENAI, sent(OPENAI, OPENAI.calls(("c1", "read_file", written))))
    assert reply.tool_calls == (ToolCall(id="c1", name="read_file", malformed=written),)


def test_a_server_that_sends_arguments_as_an_object_or_none_at_all_is_understood(connections: None):
    body = OPENAI.calls(("c1", "read_file", ""), ("c2", "read_file", ""))
    body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] = {"path": "a"}
    reply = reply_to(OPENAI, answers(body))
    assert [call.arguments for call in reply.tool_calls] == [{"path": "a"}, {}]
    assert not any(call.malformed for call in reply.tool_calls)


def test_an_older_servers_function_call_is_a_tool_call(connections: None):
    body = OPENAI.says("", "function_call")
    body["choices"][0]["message"]["function_call"] = {"name": "read_file", "arguments": '{"path": "a"}'}
    reply = reply_to(OPENAI, answers(body))
    assert reply.finish_reason == "tool_calls"
    assert [(call.name, call.arguments) for call in reply.tool_calls] == [("read_file", {"path": "a"})]
    assert reply.tool_calls[0].id


@pytest.mark.parametrize("call", [{}, {"function": None}, {"type": "custom", "custom": {"input": "x"}}, {"id": 7}])
def test_a_call_that_is_none_is_malformed_and_no_crash(connections: None, call: dict[str, Any]):
    body = OPENAI.calls()
    body["choices"][0]["message"]["tool_calls"] = [call]
    [found] = reply_to(OPENAI, answers(body)).tool_calls
    assert found.malformed


def test_calls_without_an_id_or_with_one_that_was_there_before_get_their_own(sdk: Sdk, sent: Any):
    before = [
        *ASK,
        Message("assistant", "", (ToolCall(id="c1", name="read_file"),)),
        Message("tool", "x", answers="c1"),
    ]
    body = sdk.calls(("", "read_file", {}), ("c1", "read_file", {}), ("c2", "read_file", {}), ("c2", "read_file", {}))
    ids = [call.id for call in reply_to(sdk, sent(sdk, body), before).tool_calls]
    assert ids[2] == "c2"
    assert len({"c1", "", *ids}) == 6


def test_a_call_cut_by_the_length_limit_is_never_half_a_call(sdk: Sdk, sent: Any):
    stop = "length" if sdk is OPENAI else "max_tokens"
    cut = sdk.calls(("c1", "read_file", {"path": "a"}), ("c2", "run_command", {"command": "rm"}), stop=stop)
    reply = reply_to(sdk, sent(sdk, cut))
    assert reply.finish_reason == "length"
    whole, half = reply.tool_calls
    assert (whole.arguments, whole.malformed) == ({"path": "a"}, "")
    assert (half.arguments, json.loads(half.malformed)) == ({}, {"command": "rm"})


def test_a_stream_cut_by_the_length_limit_within_the_arguments_is_malformed(sdk: Sdk):
    stop = "length" if sdk is OPENAI else "max_tokens"
    reply = reply_to(sdk, as_a_stream(sdk, sdk.calls(("c1", "read_file", '{"path": "/et'), stop=stop)))
    assert reply.tool_calls == (ToolCall(id="c1", name="read_file", malformed='{"path": "/et'),)


@pytest.mark.parametrize(
    ("sdk", "said", "meant"),
    [
        (OPENAI, "stop", "stop"),
        (OPENAI, "length", "length"),
        (OPENAI, "content_filter", "refusal"),
        (OPENAI, "tool_calls", "stop"),
        (OPENAI, "eos", "eos"),
        (ANTHROPIC, "end_turn", "stop"),
        (ANTHROPIC, "stop_sequence", "stop"),
        (ANTHROPIC, "max_tokens", "length"),
        (ANTHROPIC, "model_context_window_exceeded", "length"),
        (ANTHROPIC, "refusal", "refusal"),
        (ANTHROPIC, "pause_turn", "pause_turn"),
        (ANTHROPIC, "tool_use", "stop"),
    ],
)
def test_why_an_answer_ended_is_said_in_one_way(connections: None, sent: Any, sdk: Sdk, said: str, meant: str):
    reply = reply_to(sdk, sent(sdk, sdk.says("text", said)))
    assert (reply.finish_reason, reply.text) == (meant, "text")


def test_calls_are_a_reason_even_where_the_server_says_stop(connections: None):
    assert reply_to(OPENAI, answers(OPENAI.calls(("c1", "read_file", {}), stop="stop"))).finish_reason == "tool_calls"


def test_a_refusal_in_place_of_content_is_one_in_a_stream_as_well(connections: None, sent: Any):
    body = OPENAI.says("")
    body["choices"][0]["message"] = {"content": None, "refusal": "No, I will not."}
    reply = reply_to(OPENAI, sent(OPENAI, body))
    assert (reply.finish_reason, reply.text) == ("refusal", "No, I will not.")


def conversation(reply: Reply) -> list[Message]:
    results = [Message("tool", f"result {call.id}", answers=call.id) for call in reply.tool_calls]
    return [*ASK, Message("assistant", reply.text, reply.tool_calls, opaque=reply.opaque), *results]


def test_what_anthropic_thought_is_sent_back_as_it_was_and_where_it_was(connections: None, sent: Any):
    content = [
        {"type": "thinking", "thinking": "Hm, a file.", "signature": "c2lnbmVk"},
        {"type": "redacted_thinking", "data": "b3BhcXVl"},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "c1", "name": "read_file", "input": {"path": "a"}},
        {"type": "thinking", "thinking": "And another.", "signature": "YWdhaW4="},
        {"type": "tool_use", "id": "c2", "name": "run_command", "input": {}},
    ]
    reply = reply_to(ANTHROPIC, sent(ANTHROPIC, {**ANTHROPIC.calls(), "content": content}))
    assert [call.id for call in reply.tool_calls] == ["c1", "c2"]
    turns = request_of(ANTHROPIC, conversation(reply))["messages"]
    assert turns[1] == {"role": "assistant", "content": content}
    assert [block["tool_use_id"] for block in turns[2]["content"]] == ["c1", "c2"]
    assert len(turns) == 3


def test_thinking_without_a_signature_is_not_sent_back_since_it_would_be_refused(connections: None):
    content = [{"type": "thinking", "thinking": "Hm", "signature": ""}, {"type": "text", "text": "Yes."}]
    assert reply_to(ANTHROPIC, answers({**ANTHROPIC.says(""), "content": content})).opaque == ()


def test_what_was_thought_survives_that_the_text_beside_it_is_shortened(connections: None):
    opaque = (
        {"type": "thinking", "thinking": "x", "signature": "s"},
        {"type": "text", "text": "long"},
        {"type": "tool_use"},
    )
    said = Message("assistant", "short", (ToolCall(id="c1", name="read_file"),), opaque=opaque)
    [_, turn, _] = request_of(ANTHROPIC, [*ASK, said, Message("tool", "x", answers="c1")])["messages"]
    assert [block["type"] for block in turn["content"]] == ["thinking", "text", "tool_use"]
    assert turn["content"][1]["text"] == "short"


def test_what_an_openai_server_thought_is_sent_back_as_it_was(connections: None, sent: Any):
    body = OPENAI.calls(("c1", "read_file", {"path": "a"}))
    body["choices"][0]["message"]["reasoning_content"] = "Hm, a file."
    reply = reply_to(OPENAI, sent(OPENAI, body))
    said = request_of(OPENAI, conversation(reply))["messages"][1]
    assert said == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "Hm, a file.",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "read_file", "arguments": '{"path": "a"}'}}
        ],
    }


def test_what_a_server_adds_to_a_call_goes_back_with_it(connections: None):
    body = OPENAI.calls(("c1", "read_file", {}), ("c2", "read_file", {}))
    body["choices"][0]["message"]["tool_calls"][1]["extra_content"] = {"google": {"thought_signature": "x"}}
    calls = request_of(OPENAI, conversation(reply_to(OPENAI, answers(body))))["messages"][1]["tool_calls"]
    assert [call.get("extra_content") for call in calls] == [None, {"google": {"thought_signature": "x"}}]


def test_one_providers_thoughts_are_no_concern_of_anothers(connections: None):
    signed = Message("assistant", "Yes.", opaque=({"type": "thinking", "thinking": "x", "signature": "s"},))
    reasoned = Message("assistant", "Yes.", opaque=({"message": {"reasoning_content": "x"}},))
    assert request_of(OPENAI, [*ASK, signed, *ASK])["messages"][1] == {"role": "assistant", "content": "Yes."}
    turn = request_of(ANTHROPIC, [*ASK, reasoned, *ASK])["messages"][1]
    assert turn["content"] == [{"type": "text", "text": "Yes.", "cache_control": MARK}]


FAILED = [
    *ASK,
    Message("assistant", "", (ToolCall(id="a b", name="no such!", malformed="{"), ToolCall(id="c2", name="read_file"))),
    Message("tool", "no such tool", answers="a b", is_error=True),
    Message("tool", "", answers="c2"),
    Message("user", "Go on."),
]


def test_results_go_back_to_anthropic_in_one_message_with_what_failed_marked(connections: None):
    turns = request_of(ANTHROPIC, FAILED)["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "user"]
    assert turns[1]["content"] == [
        {"type": "tool_use", "id": "a_b", "name": "no_such_", "input": {}},
        {"type": "tool_use", "id": "c2", "name": "read_file", "input": {}},
    ]
    failed, empty = turns[2]["content"]
    assert failed == {"type": "tool_result", "tool_use_id": "a_b", "content": "no such tool", "is_error": True}
    assert "is_error" not in empty
    assert "content" not in empty


def test_results_go_back_to_openai_one_by_one_and_say_what_failed(connections: None):
    messages = request_of(OPENAI, FAILED)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool", "user"]
    assert messages[2] == {"role": "tool", "tool_call_id": "a_b", "content": "[error] no such tool"}
    assert messages[3] == {"role": "tool", "tool_call_id": "c2", "content": ""}
    assert [call["function"]["arguments"] for call in messages[1]["tool_calls"]] == ["{}", "{}"]


def test_an_assistant_that_said_nothing_is_left_out_where_that_would_be_refused(connections: None):
    turns = request_of(ANTHROPIC, [*ASK, Message("assistant", " "), Message("user", "Well?")])["messages"]
    assert [turn["role"] for turn in turns] == ["user", "user"]


def marks(body: Any) -> list[str]:
    """Where the cache points are."""
    found = [tool["name"] for tool in body.get("tools", ()) if "cache_control" in tool]
    found += ["system" for block in body.get("system", ()) if "cache_control" in block]
    turns = enumerate(body["messages"])
    return found + [
        f"{i}.{j}" for i, turn in turns for j, b in enumerate(turn["content"]) if b.get("cache_control") == MARK
    ]


def test_a_session_is_cached_up_to_its_end_and_up_to_where_it_ended_before(connections: None):
    system, turn = Message("system", "Be brief."), [*FAILED[1:4]]
    assert marks(request_of(ANTHROPIC, ASK)) == ["run_command", "0.0"]
    assert marks(request_of(ANTHROPIC, [system, *ASK])) == ["system", "0.0"]
    assert marks(request_of(ANTHROPIC, [system, *ASK, *turn])) == ["system", "0.0", "2.1"]
    assert marks(request_of(ANTHROPIC, [system, *ASK, *turn * 3])) == ["system", "4.1", "6.1"]
    feedback = [system, *ASK, *turn, Message("assistant", "Done."), Message("user", "Not yet."), *turn]
    assert marks(request_of(ANTHROPIC, feedback)) == ["3.0", "4.0", "6.1"]


def test_a_schema_is_asked_for_as_each_provider_takes_it(connections: None):
    wanted = request_of(OPENAI, ASK, schema=SCHEMA)["response_format"]
    assert wanted == {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
    loose = {"type": "object", "properties": {"why": {"type": "string"}}}
    assert request_of(OPENAI, ASK, schema=loose)["response_format"]["json_schema"]["strict"] is False
    wanted = request_of(ANTHROPIC, ASK, schema={**SCHEMA, "minProperties": 1})["output_config"]["format"]
    assert (wanted["type"], wanted["schema"]["properties"]) == ("json_schema", SCHEMA["properties"])
    assert request_of(ANTHROPIC, ASK, schema={"odd": 1})["output_config"]["format"]["schema"] == {"odd": 1}
    assert "response_format" not in request_of(OPENAI, ASK)
    assert "output_config" not in request_of(ANTHROPIC, ASK)


def test_the_estimate_counts_tools_calls_and_thoughts(sdk: Sdk, meter: Remembering):
    long = "x" * 4000
    asked = {
        "plain": ([], ASK),
        "tools": ([ToolSpec("t", long, {"type": "object"})], ASK),
        "calls": ([], [*ASK, Message("assistant", "", (ToolCall(id="1", name="t", arguments={"x": long}),))]),
        "thoughts": ([], [*ASK, Message("assistant", "y", opaque=({"type": "thinking", "thinking": long},))]),
    }
    with provider(answers(sdk.says("ok"))) as there:
        for tools, messages in asked.values():
            sdk.model(there.url).complete(messages, seed=1, tools=tools)
    plain, *more = (estimate.input_tokens for _, _, estimate, _ in meter.begun)
    assert plain < 20
    assert all(1000 < tokens < 1100 for tokens in more)


def test_a_trace_of_plain_messages_has_role_and_content_only(sdk: Sdk, meter: Remembering):
    with provider(answers(sdk.says("ok"))) as there:
        sdk.model(there.url).complete(ASK, seed=1)
        sdk.model(there.url).complete(FAILED, seed=1)
    plain, _, session, _ = (text.text for text in meter.texts)
    assert json.loads(plain) == [{"role": "user", "content": ASK[0].content}]
    [_, called, failed, empty, _] = json.loads(session)
    assert called["calls"] == [{"id": "a b", "name": "no such!", "malformed": "{"}, {"id": "c2", "name": "read_file"}]
    assert failed == {"role": "tool", "content": "no such tool", "answers": "a b", "is_error": True}
    assert empty == {"role": "tool", "content": "", "answers": "c2"}


def test_the_embedded_model_says_that_it_cannot_call_tools():
    smollm = model("local:smollm2-135m")
    assert not smollm.takes_tools
    with pytest.raises(UserError, match="cannot call any"):
        smollm.complete(ASK, seed=1, tools=[READ])


def test_both_kinds_of_model_are_tool_models(sdk: Sdk):
    assert isinstance(sdk.model("http://127.0.0.1:1"), ToolModel)
    assert isinstance(ScriptedModel("x"), ToolModel)


def test_a_scripted_model_calls_tools_and_is_metered(meter: Remembering):
    call = ToolCall(id="c1", name="read_file", arguments={"path": "a"})

    def answer(messages: Any) -> str | Reply:
        return "done" if messages[-1].role == "tool" else Reply("I look.", tool_calls=(call,))

    scripted = ScriptedModel(answer)
    first = scripted.complete(ASK, seed=1, tools=[READ])
    second = scripted.complete(conversation(first), seed=1, tools=[READ], schema=SCHEMA)
    assert (first.tool_calls, first.finish_reason, second.text) == ((call,), "tool_calls", "done")
    assert second.finish_reason == "stop"
    assert [span.output_preview for span in meter.spans] == ['I look.\nread_file({"path": "a"})', "done"]
    assert scripted.calls == 2


def test_a_scripted_model_may_play_a_failure():
    def fail(messages: Any) -> str:
        raise ModelError("overloaded", "later", transient=True)

    with pytest.raises(ModelError, match="later"):
        ScriptedModel(fail).complete(ASK, seed=1, tools=[READ])
