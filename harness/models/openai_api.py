"""The chat completions API, of OpenAI and of the many servers that speak it: vLLM, Ollama, llama.cpp."""

import itertools
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast
from urllib.parse import urlsplit

import openai
from openai import omit
from openai.types.chat import ChatCompletionFunctionToolParam, ChatCompletionMessageParam
from openai.types.shared_params import FunctionDefinition, ResponseFormatJSONSchema
from openai.types.shared_params.response_format_json_schema import JSONSchema
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness import protocols
from harness.models.attention import transport
from harness.models.calls import dumped, read_call, why, wire_name, without_half
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
from traces.records import ToolCall, Usage

URL = "https://api.openai.com/v1"
ERRORS = Errors(openai.APITimeoutError, openai.APIConnectionError, openai.APIStatusError)
NO_KEY = "none"
"""The SDK insists on one."""


@dataclass(frozen=True)
class OpenAIApi:
    """A model of OpenAI, or of a server that speaks its API."""

    model: str
    url: str = URL
    key_variable: str = field(default="OPENAI_API_KEY", repr=False)

    @property
    def provider(self) -> str:
        return "openai"

    @property
    def takes_tools(self) -> bool:
        return True

    @contextmanager
    def open(self) -> Generator[Send]:
        key = find_key(self.key_variable, self.url)
        client = shared(("openai", self.url, key), lambda: connect(self.url, key))
        yield lambda request: ask(client, self.model, request)


def connect(url: str, key: str | None) -> openai.OpenAI:
    through = transport(url)
    client = None if through is None else openai.DefaultHttpxClient(transport=through, trust_env=False)
    return openai.OpenAI(base_url=url, api_key=key or NO_KEY, max_retries=0, http_client=client)


def ask(client: openai.OpenAI, model: str, request: Request) -> Answer | Failure:
    """One request, one answer."""
    messages = [wire_message(message) for message in request.messages]
    modern = takes_completion_limit(str(client.base_url))
    secrets = [client.api_key] if client.api_key != NO_KEY else []
    body = exchange(
        lambda: client.chat.completions.with_streaming_response.create(
            model=model,
            messages=cast(list[ChatCompletionMessageParam], messages),
            tools=[tool_of(tool) for tool in request.tools] or omit,
            response_format=omit if request.schema is None else response_format(request.schema),
            seed=request.seed,
            temperature=omit if request.temperature is None else request.temperature,
            stream=request.stream or omit,
            stream_options={"include_usage": True} if request.stream else omit,
            timeout=request.timeout,
            max_completion_tokens=request.max_tokens if modern else omit,
            max_tokens=omit if modern else request.max_tokens,
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


Wire = dict[str, Any]
"""A part of a request or a response, as the API has it."""
ERROR = "[error] "
"""Before the result of a call that failed: the API has no field for it."""


def wire_message(message: protocols.Message) -> Wire:
    match message.role:
        case "tool":
            content = ERROR + message.content if message.is_error else message.content
            return {"role": "tool", "tool_call_id": wire_name(message.answers), "content": content}
        case "assistant" if message.calls or message.opaque:
            kept = next((block for block in message.opaque if "type" not in block), {})
            extras = itertools.chain(kept.get("calls", ()), itertools.repeat({}))
            calls = [dict(extra) | wire_call(call) for call, extra in zip(message.calls, extras, strict=False)]
            said: Wire = {"role": "assistant", "content": message.content or (None if calls else "")}
            return said | kept.get("message", {}) | ({"tool_calls": calls} if calls else {})
        case _:
            return {"role": message.role, "content": message.content}


def wire_call(call: ToolCall) -> Wire:
    function = {"name": wire_name(call.name), "arguments": dumped(call.arguments)}
    return {"id": wire_name(call.id), "type": "function", "function": function}


def tool_of(tool: protocols.ToolSpec) -> ChatCompletionFunctionToolParam:
    function: FunctionDefinition = {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }
    return {"type": "function", "function": function}


def response_format(schema: Mapping[str, Any]) -> ResponseFormatJSONSchema:
    wanted = {"name": "answer", "schema": dict(schema), "strict": is_strict(schema)}
    return {"type": "json_schema", "json_schema": cast(JSONSchema, wanted)}


def is_strict(schema: object) -> bool:
    """Can the API promise that *schema* is kept? It insists that objects are closed and all their fields required."""
    match schema:
        case {"type": "object", **rest}:
            fields = cast(Mapping[str, object], rest.get("properties") or {})
            closed = rest.get("additionalProperties") is False and set(fields) == set(rest.get("required") or ())
            return closed and all(map(is_strict, fields.values()))
        case Mapping():
            return all(map(is_strict, cast(Mapping[str, object], schema).values()))
        case list() | tuple():
            return all(map(is_strict, cast(Sequence[object], schema)))
        case _:
            return True


def takes_completion_limit(url: str) -> bool:
    """Is the length limited by ``max_completion_tokens``? OpenAI's newer models refuse the older ``max_tokens``, which
    is what other servers know."""
    return (urlsplit(url).hostname or "").endswith((".openai.com", ".openai.azure.com"))


REASONING = ("reasoning_content", "reasoning", "reasoning_details")
"""Fields of servers that show what the model thought, and want it back."""


class Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    content: str | None = None
    refusal: str | None = None
    tool_calls: list[Wire] | None = None
    function_call: Wire | None = None
    """Of older servers."""


class Choice(BaseModel):
    message: Message
    finish_reason: str | None = None


class PromptTokens(BaseModel):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class Tokens(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: PromptTokens | None = None


class Completion(BaseModel):
    """What is read of a response. The SDK would build its own type from anything at all."""

    id: str | None = None
    model: str | None = None
    choices: list[Choice] = Field(min_length=1)
    usage: Tokens | None = None


REASONS = {"content_filter": "refusal", "function_call": "tool_calls"}


def answer(body: Body, secrets: Sequence[str]) -> Answer | Failure:
    try:
        completion = Completion.model_validate_json(body.content)
    except ValidationError as e:
        return malformed(body, str(e.errors()[0]["msg"]), secrets)
    choice = completion.choices[0]
    message = choice.message
    stop = choice.finish_reason
    reason = "refusal" if message.refusal else REASONS.get(stop or "", stop or "stop")
    asked = message.tool_calls or ([{"function": message.function_call}] if message.function_call else [])
    calls = without_half([call_of(call) for call in asked], reason)
    return Answer(
        text=message.content or message.refusal or "",
        finish_reason=why(reason, calls),
        stop=stop,
        usage=None if completion.usage is None else usage(completion.usage),
        model=completion.model,
        id=completion.id,
        request_id=body.request_id,
        tool_calls=calls,
        opaque=opaque(message, asked),
    )


def call_of(call: Wire) -> ToolCall:
    match call:
        case {"function": {**function}}:
            return read_call(call.get("id"), function.get("name"), function.get("arguments") or "")
        case _:
            return read_call(call.get("id"), call.get("type"), json.dumps([call]))  # no call that we offered


def opaque(message: Message, calls: Sequence[Wire]) -> tuple[Wire, ...]:
    """What servers add to a message and to its calls, such as signatures of what the model thought."""
    thought = {name: value for name, value in (message.model_extra or {}).items() if name in REASONING and value}
    extras = [{k: v for k, v in call.items() if k not in ("id", "type", "function", "index")} for call in calls]
    kept: Wire = ({"message": thought} if thought else {}) | ({"calls": extras} if any(extras) else {})
    return (kept,) if kept else ()


STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "insufficient_quota": 402,
    "permission_error": 403,
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "overloaded": 503,
    "overloaded_error": 503,
    "service_unavailable": 503,
}
"""Of errors that come as an event of a stream."""


def assembled(body: Body, secrets: Sequence[str]) -> bytes | Failure:
    """The response that a stream amounts to, as it would have come without streaming."""
    whole: Wire = {"usage": None}
    said: Wire = {}
    stop: str | None = None
    for data in events(body.content):
        if data.startswith("[DONE]"):
            stop = stop or "stop"
            break
        try:
            chunk = json.loads(data)
            if error := chunk.get("error"):
                return failed_midway(body, error, status_of(error), bool(said), secrets)
            whole |= {name: chunk[name] for name in ("id", "model", "usage") if chunk.get(name)}
            for choice in chunk.get("choices") or ():
                if not choice.get("index"):
                    extend(said, choice.get("delta") or {})
                    stop = choice.get("finish_reason") or stop
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            return malformed(body, f"an event that makes no sense: {e}", secrets)
    if stop is None:
        return torn(body)
    return json.dumps(whole | {"choices": [{"message": said, "finish_reason": stop}]}).encode()


def extend(said: Wire, delta: Wire) -> None:
    for name, more in delta.items():
        if name == "tool_calls":
            calls = said.setdefault("tool_calls", [])
            for part in more or ():
                extend_call(calls, part)
        elif name == "function_call" and more:
            extend_call(calls := [{"function": said.get("function_call") or {}}], {"function": more})
            said["function_call"] = calls[0]["function"]
        elif name in ("content", "refusal", *REASONING) and more:
            said[name] = said[name] + more if said.get(name) else more


def extend_call(calls: list[Wire], part: Wire) -> None:
    """Add *part* to the call that it belongs to: by its index, or where a server sends none, the one under way."""
    index, id = part.get("index"), part.get("id")
    same = [call for call in calls if index is None or call.get("index") == index]
    if not same or (id and same[-1].get("id") not in (None, "", id)):
        calls.append({"index": index, "function": {}})
        same = calls
    call = same[-1]
    call.update({name: value for name, value in part.items() if name not in ("function", "index") and value})
    said, more = call["function"], part.get("function") or {}
    said["name"] = said.get("name") or more.get("name")
    said["arguments"] = said.get("arguments", "") + written(more.get("arguments"))


def written(arguments: object) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments) if arguments else ""


def status_of(error: Any) -> int:
    """The status that an error in a stream would have had: some servers say it, others name its kind."""
    if not isinstance(error, dict):
        return 500
    told = cast(Wire, error)
    code, kind = told.get("code"), told.get("type")
    if isinstance(code, int) and 400 <= code < 600:
        return code
    return STATUSES.get(str(code)) or STATUSES.get(str(kind)) or 500


def usage(tokens: Tokens) -> Usage:
    """``prompt_tokens`` counts cached ones already."""
    details = tokens.prompt_tokens_details or PromptTokens()
    return Usage(
        calls=1,
        input_tokens=tokens.prompt_tokens,
        cached_tokens=details.cached_tokens or 0,
        cache_write_tokens=details.cache_write_tokens or 0,
        output_tokens=tokens.completion_tokens,
    )
