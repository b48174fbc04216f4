"""The messages API of Anthropic, with its prompt cache on what stays the same from task to task."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import anthropic
from anthropic import omit
from anthropic.types import MessageParam, TextBlockParam
from pydantic import BaseModel, ValidationError

from harness.models.keys import find_key
from harness.models.shared import shared
from harness.models.wire import (
    Answer,
    Body,
    Errors,
    Failure,
    Request,
    Send,
    exchange,
    is_loopback,
    malformed,
)
from harness.protocols import Message
from traces.records import Usage

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

    @contextmanager
    def open(self) -> Generator[Send]:
        key = find_key(self.key_variable, self.url)
        client = shared(("anthropic", self.url, key), lambda: connect(self.url, key))
        yield lambda request: ask(client, self.model, request)


def connect(url: str, key: str | None) -> anthropic.Anthropic:
    # a proxy from the environment would be asked for servers on this machine, too
    plain = anthropic.DefaultHttpxClient(trust_env=False) if is_loopback(url) else None
    return anthropic.Anthropic(base_url=url, api_key=key or NO_KEY, max_retries=0, http_client=plain)


def ask(client: anthropic.Anthropic, model: str, request: Request) -> Answer | Failure:
    """One request, one answer. The API takes no seed."""
    system, turns = with_cache_point(request.messages)
    # the SDK has dropped the parameter, because newer models refuse it; older ones still take it
    extra = None if request.temperature is None else {"temperature": request.temperature}
    secrets = [client.api_key] if client.api_key and client.api_key != NO_KEY else []
    body = exchange(
        lambda: client.messages.with_streaming_response.create(
            model=model,
            system=system or omit,
            messages=turns,
            max_tokens=request.max_tokens,
            timeout=request.timeout,
            extra_body=extra,
        ),
        ERRORS,
        request.timeout,
        secrets,
    )
    if isinstance(body, Failure):
        return body
    return answer(body, secrets)


def with_cache_point(messages: Sequence[Message]) -> tuple[list[TextBlockParam], list[MessageParam]]:
    """System blocks and turns, the last block before the last user turn marked as the end of what to cache.

    That is the prompt with its worked examples, the same for every task; what follows is the task.
    """
    blocks: list[TextBlockParam] = [{"type": "text", "text": m.content} for m in messages]
    last_user = max((i for i, m in enumerate(messages) if m.role == "user"), default=0)
    stable = [i for i, m in enumerate(messages) if m.role == "system"]  # the API puts them first, wherever they stand
    stable += [i for i, m in enumerate(messages) if m.role != "system" and i < last_user]
    if stable:
        blocks[stable[-1]]["cache_control"] = {"type": "ephemeral"}
    system = [blocks[i] for i, m in enumerate(messages) if m.role == "system"]
    turns = [{"role": m.role, "content": [blocks[i]]} for i, m in enumerate(messages) if m.role != "system"]
    return system, cast(list[MessageParam], turns)


class Block(BaseModel):
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


REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}


def answer(body: Body, secrets: Sequence[str]) -> Answer | Failure:
    try:
        completion = Completion.model_validate_json(body.content)
    except ValidationError as e:
        return malformed(body, str(e.errors()[0]["msg"]), secrets)
    stop = completion.stop_reason
    return Answer(
        text="".join(block.text for block in completion.content if block.type == "text"),
        finish_reason=REASONS.get(stop or "", stop or "stop"),
        stop=stop,
        usage=None if completion.usage is None else usage(completion.usage),
        model=completion.model,
        id=completion.id,
        request_id=body.request_id,
    )


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
