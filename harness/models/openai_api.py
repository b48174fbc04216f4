"""The chat completions API, of OpenAI and of the many servers that speak it: vLLM, Ollama, llama.cpp."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import openai
from openai import omit
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, Field, ValidationError

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
from traces.records import Usage

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

    @contextmanager
    def open(self) -> Generator[Send]:
        key = find_key(self.key_variable, self.url)
        client = shared(("openai", self.url, key), lambda: connect(self.url, key))
        yield lambda request: ask(client, self.model, request)


def connect(url: str, key: str | None) -> openai.OpenAI:
    # a proxy from the environment would be asked for servers on this machine, too
    plain = openai.DefaultHttpxClient(trust_env=False) if is_loopback(url) else None
    return openai.OpenAI(base_url=url, api_key=key or NO_KEY, max_retries=0, http_client=plain)


def ask(client: openai.OpenAI, model: str, request: Request) -> Answer | Failure:
    """One request, one answer."""
    messages = cast(
        Sequence[ChatCompletionMessageParam], [{"role": m.role, "content": m.content} for m in request.messages]
    )
    modern = takes_completion_limit(str(client.base_url))
    secrets = [client.api_key] if client.api_key != NO_KEY else []
    body = exchange(
        lambda: client.chat.completions.with_streaming_response.create(
            model=model,
            messages=messages,
            seed=request.seed,
            temperature=omit if request.temperature is None else request.temperature,
            timeout=request.timeout,
            max_completion_tokens=request.max_tokens if modern else omit,
            max_tokens=omit if modern else request.max_tokens,
        ),
        ERRORS,
        request.timeout,
        secrets,
    )
    if isinstance(body, Failure):
        return body
    return answer(body, secrets)


def takes_completion_limit(url: str) -> bool:
    """Is the length limited by ``max_completion_tokens``? OpenAI's newer models refuse the older ``max_tokens``, which
    is what other servers know."""
    return (urlsplit(url).hostname or "").endswith((".openai.com", ".openai.azure.com"))


class Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


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


REASONS = {"content_filter": "refusal"}


def answer(body: Body, secrets: Sequence[str]) -> Answer | Failure:
    try:
        completion = Completion.model_validate_json(body.content)
    except ValidationError as e:
        return malformed(body, str(e.errors()[0]["msg"]), secrets)
    choice = completion.choices[0]
    refusal = choice.message.refusal
    stop = choice.finish_reason
    return Answer(
        text=choice.message.content or refusal or "",
        finish_reason="refusal" if refusal else REASONS.get(stop or "", stop or "stop"),
        stop=stop,
        usage=None if completion.usage is None else usage(completion.usage),
        model=completion.model,
        id=completion.id,
        request_id=body.request_id,
    )


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
