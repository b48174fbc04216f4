"""The messages API of Anthropic, with its prompt cache on what stays the same from task to task."""

import itertools
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import anthropic
from anthropic import omit
from anthropic.types import JSONOutputFormatParam, MessageParam, TextBlockParam, ToolParam
from pydantic import BaseModel, ConfigDict, ValidationError

from harness.models.attention import transport
from harness.models.calls import read_call, why, wire_name, without_half
from harness.models.keys import find_key
from harness.models.shared import shared
from harness.models.sse import events, is_stream
from harness.models.wire import (
    Answer,
    Body,
    Errors,
    Failure,
    Request,
    Send,
    exchange,
    failed_midway,
    malformed,
    torn,
)
from harness.protocols import Message, ToolSpec
from traces.records import ToolCall, Usage

URL = "https://api.anthropic.com"
ERRORS = Errors(anthropic.APITimeoutError, anthropic.APIConnectionError, anthropic.APIStatusError)
NO_KEY = "none"
"""The SDK insists on one."""


@dataclass(frozen=True)
class AnthropicApi:
    """A model of Anthropic, or of a gateway that speaks its API."""

    model: str
    url: str = URL
    key_variable: str = field(default="ANTHROPIC_API_KEY", repr=False)

    @property
    def provider(self) -> str:
        return "anthropic"

    @property
    def takes_tools(self) -> bool:
        return True

    @contextmanager
    def open(self) -> Generator[Send]:
        key = find_key(self.key_variable, self.url)
        client = shared(("anthropic", self.url, key), lambda: connect(self.url, key))
        yield lambda request: ask(client, self.model, request)


def connect(url: str, key: str | None) -> anthropic.Anthropic:
    through = transport(url)
    client = None if through is None else anthropic.DefaultHttpxClient(transport=through, trust_env=False)
    return anthropic.Anthropic(base_url=url, api_key=key or NO_KEY, max_retries=0, http_client=client)


def ask(client: anthropic.Anthropic, model: str, request: Request) -> Answer | Failure:
    """One request, one answer. The API takes no seed."""
    system, turns, tools = with_cache_points(request)
    # the SDK has dropped the parameter, because newer models refuse it; older ones still take it
    extra = None if request.temperature is None else {"temperature": request.temperature}
    secrets = [client.api_key] if client.api_key and client.api_key != NO_KEY else []
    body = exchange(
        lambda: client.messages.with_streaming_response.create(
            model=model,
            system=cast(list[TextBlockParam], system) or omit,
            messages=cast(list[MessageParam], turns),
            tools=cast(list[ToolParam], tools) or omit,
            output_config=omit if request.schema is None else {"format": output_format(request.schema)},
            max_tokens=request.max_tokens,
            stream=request.stream,
            timeout=request.timeout,
            extra_body=extra,
        ),
        ERRORS,
        request,
        secrets,
    )
    if isinstance(body, Failure):
        return body
    if request.stream and is_stream(body.content):
        whole = assembled(body, secrets)
        if isinstance(whole, Failure):
            return whole
        body = replace(body, content=whole)
    return answer(body, secrets)


def output_format(schema: Mapping[str, Any]) -> JSONOutputFormatParam:
    """*schema* in the dialect that the API takes; what it cannot say becomes a part of the descriptions."""
    try:
        return {"type": "json_schema", "schema": anthropic.transform_schema(dict(schema))}
    except ValueError:  # no schema that the SDK can follow: the provider says what is wrong with it
        return {"type": "json_schema", "schema": dict(schema)}


Wire = dict[str, Any]
"""A part of a request, as the API has it."""


def with_cache_points(request: Request) -> tuple[list[Wire], list[Wire], list[Wire]]:
    """System blocks, turns and tools, with marks up to where to cache.

    One mark before the last user turn: the tools and the prompt with its worked examples, the same for every task;
    what follows is the task. In a session with tools, what it has said so far, too: a mark at its end, for the next
    turn, and one where it ended at the last turn, to find it again however much was said since.
    """
    messages = request.messages
    blocks = [blocks_of(message) for message in messages]
    tools = [tool_of(tool) for tool in request.tools]
    last_user = max((i for i, m in enumerate(messages) if m.role == "user"), default=0)
    stable = [i for i, m in enumerate(messages) if m.role == "system"]  # the API puts them first, wherever they stand
    stable += [i for i, m in enumerate(messages) if m.role != "system" and i < last_user]
    marked = [blocks[i][-1] for i in stable if blocks[i]][-1:] or tools[-1:]
    if tools or any(m.calls for m in messages):
        ends = [i for i, m in enumerate(messages) if m.role in ("user", "tool") and is_end(messages, i)]
        marked += [blocks[i][-1] for i in ends[-2:] if blocks[i]]
    for block in marked:
        block["cache_control"] = {"type": "ephemeral"}
    system = [block for i, m in enumerate(messages) if m.role == "system" for block in blocks[i]]
    return system, turns_of(messages, blocks), tools


def is_end(messages: Sequence[Message], i: int) -> bool:
    """Is it the last message before an assistant's?"""
    return i + 1 == len(messages) or messages[i + 1].role == "assistant"


def turns_of(messages: Sequence[Message], blocks: Sequence[list[Wire]]) -> list[Wire]:
    """All results of a turn are one message, as the API insists. An assistant that said nothing has none."""
    turns: list[Wire] = []
    before = ""
    for message, content in zip(messages, blocks, strict=True):
        if message.role == "system" or not content:
            continue
        if message.role == before == "tool":
            turns[-1]["content"] += content
        else:
            turns.append({"role": "user" if message.role == "tool" else message.role, "content": content})
        before = message.role
    return turns


def tool_of(tool: ToolSpec) -> Wire:
    return {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)}


def blocks_of(message: Message) -> list[Wire]:
    match message.role:
        case "tool":
            result: Wire = {"type": "tool_result", "tool_use_id": wire_name(message.answers)}
            result |= {"content": message.content} if message.content else {}
            return [result | ({"is_error": True} if message.is_error else {})]
        case "assistant":
            return said_blocks(message)
        case _:
            return [{"type": "text", "text": message.content}]


def said_blocks(message: Message) -> list[Wire]:
    """What the assistant said, its opaque blocks where they stood between its text and its calls."""
    text = message.content
    calls = iter(message.calls)
    kept = [block for block in message.opaque if "type" in block]
    written = "".join(block.get("text", "") for block in kept if block["type"] == "text")
    blocks: list[Wire] = []
    for block in kept:
        if block["type"] == "text":
            blocks += text_blocks(block.get("text", "") if written == text else "")
        elif block["type"] == "tool_use":
            blocks += [use_of(call) for call in itertools.islice(calls, 1)]
        else:
            blocks.append(dict(block))
    if written != text:
        thought = next((i for i, b in enumerate(blocks) if b["type"] not in THINKING), len(blocks))
        blocks[thought:thought] = text_blocks(text)
    return blocks + [use_of(call) for call in calls]


def text_blocks(text: str) -> list[Wire]:
    return [{"type": "text", "text": text}] if text.strip() else []  # the API refuses empty ones


def use_of(call: ToolCall) -> Wire:
    return {"type": "tool_use", "id": wire_name(call.id), "name": wire_name(call.name), "input": call.arguments}


class Block(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: str
    text: str = ""


class Tokens(BaseModel):
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class Completion(BaseModel):
    """What is read of a response. The SDK would build its own type from anything at all."""

    id: str | None = None
    model: str | None = None
    content: list[Block]
    stop_reason: str | None = None
    usage: Tokens | None = None


THINKING = ("thinking", "redacted_thinking")
REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}


def answer(body: Body, secrets: Sequence[str]) -> Answer | Failure:
    try:
        completion = Completion.model_validate_json(body.content)
    except ValidationError as e:
        return malformed(body, str(e.errors()[0]["msg"]), secrets)
    stop = completion.stop_reason
    reason = REASONS.get(stop or "", stop or "stop")
    uses = [block.model_dump() for block in completion.content if block.type == "tool_use"]
    calls = [read_call(use.get("id"), use.get("name"), use.get("input", {})) for use in uses]
    if completion.content and completion.content[-1].type == "tool_use":
        calls = without_half(calls, reason)
    return Answer(
        text="".join(block.text for block in completion.content if block.type == "text"),
        finish_reason=why(reason, calls),
        stop=stop,
        usage=None if completion.usage is None else usage(completion.usage),
        model=completion.model,
        id=completion.id,
        request_id=body.request_id,
        tool_calls=tuple(calls),
        opaque=opaque(completion.content),
    )


def opaque(content: Sequence[Block]) -> tuple[Wire, ...]:
    """All blocks in their order, where some are neither text nor calls; of a call only where it stood."""
    kept = [block for block in content if block.type != "thinking" or (block.model_extra or {}).get("signature")]
    if all(block.type in ("text", "tool_use") for block in kept):
        return ()
    return tuple(
        {"type": block.type} if block.type == "tool_use" else block.model_dump(exclude_unset=True) for block in kept
    )


STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""Of errors that come as an event of a stream."""


def assembled(body: Body, secrets: Sequence[str]) -> bytes | Failure:
    """The response that a stream amounts to, as it would have come without streaming."""
    message: Wire = {}
    content: dict[int, Wire] = {}
    inputs: dict[int, str] = {}
    for data in events(body.content):
        try:
            event = json.loads(data)
            match event:
                case {"type": "message_start", "message": {**start}}:
                    message = start
                case {"type": "content_block_start", "index": int(i), "content_block": {**block}}:
                    content[i] = block
                case {"type": "content_block_delta", "index": int(i), "delta": {**delta}}:
                    extend(content[i], inputs, i, delta)
                case {"type": "message_delta", "delta": {**delta}}:
                    counted = {k: v for k, v in (event.get("usage") or {}).items() if v is not None}
                    message |= delta
                    message["usage"] = (message.get("usage") or {}) | counted
                case {"type": "error", **rest}:
                    kind = error_type(rest.get("error"))
                    return failed_midway(body, rest.get("error"), STATUSES.get(kind, 500), bool(content), secrets)
                case _:
                    pass  # a ping, the end of a block, or an event that is newer than this program
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            return malformed(body, f"an event that makes no sense: {e}", secrets)
    if not message.get("stop_reason"):
        return torn(body)
    if "input_tokens" not in message["usage"]:
        message["usage"] = None
    for i, written in inputs.items():
        content[i]["input"] = written
    return json.dumps(message | {"content": [content[i] for i in sorted(content)]}).encode()


def extend(block: Wire, inputs: dict[int, str], index: int, delta: Wire) -> None:
    match delta:
        case {"type": "text_delta", "text": str(more)}:
            block["text"] = block.get("text", "") + more
        case {"type": "thinking_delta", "thinking": str(more)}:
            block["thinking"] = block.get("thinking", "") + more
        case {"type": "signature_delta", "signature": str(more)}:
            block["signature"] = block.get("signature", "") + more
        case {"type": "input_json_delta", "partial_json": str(more)}:
            inputs[index] = inputs.get(index, "") + more
        case _:
            pass


def error_type(error: Any) -> str:
    return str(cast(Wire, error).get("type")) if isinstance(error, dict) else ""


def usage(tokens: Tokens) -> Usage:
    """``input_tokens`` leaves out what was read from the cache and written to it; ours counts all."""
    cached = tokens.cache_read_input_tokens or 0
    written = tokens.cache_creation_input_tokens or 0
    return Usage(
        calls=1,
        input_tokens=tokens.input_tokens + cached + written,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=tokens.output_tokens,
    )
