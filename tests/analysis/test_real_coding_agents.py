"""The real command lines of Claude Code and Codex, against a server on this machine that speaks their API.

Their packages are large, so they are no dependency: install them with npm, or say where they are in RATCHET_CLAUDE and
RATCHET_CODEX.
"""

import json
import os
import shutil
from collections.abc import Callable, Generator, Sequence
from typing import Any

import pytest

from analysis.proposers.coding_agent import ClaudeCode, Codex, CodingAgentProposer
from harness.errors import ModelError, UserError
from harness.meter import metered
from harness.protocols import History, Sandbox
from harness.sandboxes import NoSandbox, best_sandbox
from tests.models.conftest import Remembering
from tests.models.loopback import Handler, Play, Received, provider, refuses, streams

KEY = "sk-test-0123456789abcdefghij"
VARIABLE = "RATCHET_REAL_AGENT_KEY"
PROGRAM = {"train.py": "rate = 0.1\nprint(rate)\n"}
BETTER = {"train.py": "rate = 0.2\nprint(rate)\n"}
NOTHING_TRIED = History(run="r", tasks={}, trials=())


def where(variable: str, name: str) -> str:
    return os.environ.get(variable) or shutil.which(name) or ""


CLAUDE, CODEX = where("RATCHET_CLAUDE", "claude"), where("RATCHET_CODEX", "codex")
with_claude = pytest.mark.skipif(
    not CLAUDE, reason="Claude Code is not installed: npm install -g @anthropic-ai/claude-code, or set RATCHET_CLAUDE"
)
with_codex = pytest.mark.skipif(
    not CODEX, reason="Codex is not installed: npm install -g @openai/codex, or set RATCHET_CODEX"
)


def sandboxed() -> bool:
    try:
        best_sandbox()
    except UserError:
        return False
    return True


boxed = pytest.mark.parametrize(
    "sandbox",
    [
        pytest.param(
            best_sandbox, id="in a sandbox", marks=pytest.mark.skipif(not sandboxed(), reason="no sandbox here")
        ),
        pytest.param(NoSandbox, id="without a sandbox"),
    ],
)


@pytest.fixture(autouse=True)
def key() -> Generator[None]:
    os.environ["ANTHROPIC_API_KEY"] = os.environ["OPENAI_API_KEY"] = KEY
    yield
    del os.environ["ANTHROPIC_API_KEY"], os.environ["OPENAI_API_KEY"]


@pytest.fixture
def meter() -> Generator[Remembering]:
    from harness.meter import Forgotten

    remembering = Remembering()
    remembering.steps = Forgotten()  # type: ignore[attr-defined]
    remembering.folder = remembering.directory = None  # type: ignore[attr-defined]
    with metered(remembering):  # type: ignore[arg-type]
        yield remembering


def event(name: str, **fields: Any) -> str:
    return f"event: {name}\ndata: {json.dumps({'type': name, **fields})}\n\n"


# ── Anthropic's messages ───────────────────────────────────────────────────────────────────────────────────────


def message(content: Sequence[dict[str, Any]], stop: str) -> Play:
    start = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-4-5",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 100, "output_tokens": 1},
    }
    events = [event("message_start", message=start)]
    for index, block in enumerate(content):
        if block["type"] == "tool_use":
            empty = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        else:
            empty, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block["text"]}
        events += [
            event("content_block_start", index=index, content_block=empty),
            event("content_block_delta", index=index, delta=delta),
            event("content_block_stop", index=index),
        ]
    usage = {"input_tokens": 100, "output_tokens": 10}
    events += [
        event("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage=usage),
        event("message_stop"),
    ]
    return streams(events)


def claude_edits(handler: Handler, received: Received) -> None:
    """Reads the program, changes it, and says so."""
    offered = {tool["name"] for tool in received.body.get("tools") or ()}
    said = json.dumps(received.body.get("messages"))
    if "Edit" not in offered:
        play = message([{"type": "text", "text": "A title"}], "end_turn")
    elif "toolu_read" not in said:
        read = {"type": "tool_use", "id": "toolu_read", "name": "Read", "input": {"file_path": "train.py"}}
        play = message([read], "tool_use")
    elif "toolu_edit" not in said:
        change = {"file_path": "train.py", "old_string": "rate = 0.1", "new_string": "rate = 0.2"}
        play = message([{"type": "tool_use", "id": "toolu_edit", "name": "Edit", "input": change}], "tool_use")
    else:
        play = message([{"type": "text", "text": "The rate was too low."}], "end_turn")
    play(handler, received)


@with_claude
@boxed
def test_claude_code_edits_the_program(sandbox: Callable[..., Sandbox], meter: Remembering) -> None:
    with provider(claude_edits) as api:
        agent = ClaudeCode(model="claude-opus-4-5", program=CLAUDE, url=api.url)
        proposal = CodingAgentProposer(agent, seconds=60, idle=30, sandbox=sandbox).propose("v", PROGRAM, NOTHING_TRIED)
    assert {edit.path: edit.text for edit in proposal.edits} == BETTER
    assert proposal.rationale == "The rate was too low."
    *tools, session = meter.spans
    assert [tool.name for tool in tools] == ["Read", "Edit"]
    assert session.status == "ok"
    assert session.usage.dollars
    assert KEY not in repr(meter)
    assert any(KEY in str(request.headers) for request in api.received)


@with_claude
def test_claude_code_that_is_refused_its_key_is_an_error_of_the_model(meter: Remembering) -> None:
    error = {"type": "error", "error": {"type": "authentication_error", "message": "no such key"}}
    with provider(refuses(401, error)) as api:
        agent = ClaudeCode(program=CLAUDE, url=api.url, variables={"CLAUDE_CODE_MAX_RETRIES": "1"})
        with pytest.raises(ModelError) as e:
            CodingAgentProposer(agent, seconds=60, idle=30, sandbox=NoSandbox).propose("v", PROGRAM, NOTHING_TRIED)
    assert (e.value.error_class, e.value.transient) == ("auth", False)
    assert meter.spans[-1].usage.tokens == 0


# ── OpenAI's responses ─────────────────────────────────────────────────────────────────────────────────────────


def response(*output: dict[str, Any]) -> Play:
    used = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 40},
        "output_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 110,
    }
    done = {"id": "resp_1", "object": "response", "status": "completed", "output": list(output), "usage": used}
    items = [event("response.output_item.done", output_index=i, item=item) for i, item in enumerate(output)]
    return streams(
        [event("response.created", response={"id": "resp_1"}), *items, event("response.completed", response=done)]
    )


def codex_edits(handler: Handler, received: Received) -> None:
    """Changes the program by a command, and says so."""
    said = json.dumps(received.body.get("input"))
    if "call_edit" in said:
        text = {"type": "output_text", "text": "The rate was too low.", "annotations": []}
        play = response(
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]}
        )
    else:
        offered = {tool.get("name") or tool.get("type") for tool in received.body.get("tools") or ()}
        change = "sed -i s/0.1/0.2/ train.py"
        if "exec_command" in offered:
            name, arguments = "exec_command", {"cmd": change}
        else:
            name, arguments = "shell", {"command": ["bash", "-lc", change]}
        call = {"type": "function_call", "id": "fc_1", "call_id": "call_edit", "name": name}
        play = response({**call, "arguments": json.dumps(arguments), "status": "completed"})
    play(handler, received)


@with_codex
@boxed
def test_codex_edits_the_program(sandbox: Callable[..., Sandbox], meter: Remembering) -> None:
    with provider(codex_edits) as api:
        agent = Codex("gpt-5.2", program=CODEX, url=f"{api.url}/v1")
        proposal = CodingAgentProposer(agent, seconds=60, idle=30, sandbox=sandbox).propose("v", PROGRAM, NOTHING_TRIED)
    assert {edit.path: edit.text for edit in proposal.edits} == BETTER
    assert proposal.rationale == "The rate was too low."
    *tools, session = meter.spans
    assert [tool.name for tool in tools] == ["command_execution"]
    assert session.status == "ok"
    assert session.usage.input_tokens == 200
    assert session.usage.cached_tokens == 80
    assert KEY not in repr(meter)


@with_codex
def test_codex_that_is_refused_its_key_is_an_error_of_the_model(meter: Remembering) -> None:
    with provider(refuses(401, {"error": {"message": "no such key"}})) as api:
        agent = Codex("gpt-5.2", program=CODEX, url=f"{api.url}/v1")
        with pytest.raises(ModelError) as e:
            CodingAgentProposer(agent, seconds=60, idle=30, sandbox=NoSandbox).propose("v", PROGRAM, NOTHING_TRIED)
    assert (e.value.error_class, e.value.transient) == ("auth", False)
