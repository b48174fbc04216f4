"""Models that talk to a loopback provider through the real SDKs, and a meter that remembers."""

import json
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from harness import models
from harness.errors import BudgetSpent
from harness.meter import metered
from harness.models import ChatModel, Retry, model
from harness.protocols import Message
from traces.records import Span, Text, Usage

KEY = "sk-test-0123456789abcdefghij"
KEY_VARIABLE = "RATCHET_TEST_KEY"

CHAT = [
    Message("system", "Answer with one word."),
    Message("user", "Plural of cat?"),
    Message("assistant", "cats"),
    Message("user", "Plural of dog?"),
]


@dataclass
class Remembering:
    """A meter."""

    begun: list[tuple[str, str, Usage, int]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    stopped: bool = False

    def check_clock(self) -> None:
        if self.stopped:
            raise BudgetSpent("stopped", "a person stopped it")

    def begin(self, span_id: str, name: str, estimate: Usage, attempt: int) -> None:
        self.begun.append((span_id, name, estimate, attempt))

    def end(self, span: Span, texts: Sequence[Text] = ()) -> None:
        self.spans.append(span)
        self.texts.extend(texts)


@pytest.fixture
def meter() -> Generator[Remembering]:
    remembering = Remembering()
    with metered(remembering):
        yield remembering


@pytest.fixture(autouse=True)
def key() -> Generator[str]:
    os.environ[KEY_VARIABLE] = KEY
    yield KEY
    del os.environ[KEY_VARIABLE]


@pytest.fixture
def connections() -> Generator[None]:
    """Closed again, so that no test leaves a socket open."""
    yield
    models.close()


@dataclass
class Naps:
    """A sleep that takes no time."""

    taken: list[float] = field(default_factory=list)

    def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)


@dataclass(frozen=True)
class Sdk:
    """What differs between the two SDKs."""

    name: str
    path: str
    base_path: str
    request_id: str

    def model(self, url: str, naps: Naps | None = None, **options: Any) -> ChatModel:
        retry = Retry(attempts=3, sleep=naps or Naps(), chance=lambda: 0.0)
        defaults: dict[str, Any] = {"timeout": 5.0, "retry": retry, "max_tokens": 20}
        return model(
            f"{self.name}:a-model",
            base_url=url + self.base_path,
            key_variable=KEY_VARIABLE,
            **{**defaults, **options},
        )

    def calls(self, *calls: tuple[Any, str, Any], text: str = "", stop: str | None = None) -> dict[str, Any]:
        """A response that calls tools. Each of *calls*: id, name, arguments."""
        body = self.says(text, stop or ("tool_calls" if self.name == "openai" else "tool_use"))
        if self.name == "openai":
            body["choices"][0]["message"]["tool_calls"] = [
                {"id": id, "type": "function", "function": {"name": name, "arguments": as_json(arguments)}}
                for id, name, arguments in calls
            ]
        else:
            texts = body["content"] if text else []
            uses = [{"type": "tool_use", "id": id, "name": name, "input": given} for id, name, given in calls]
            body["content"] = [*texts, *uses]
        return body

    def says(self, text: str, stop: str | None = None) -> dict[str, Any]:
        """A response as the provider sends it: 100 tokens in, 60 of them cached, 7 out."""
        if self.name == "openai":
            return {
                "id": "chatcmpl-1",
                "model": "a-model-2026",
                "choices": [{"index": 0, "finish_reason": stop or "stop", "message": {"content": text}}],
                "usage": {
                    "prompt_tokens": 100,
                    "completion_tokens": 7,
                    "total_tokens": 107,
                    "prompt_tokens_details": {"cached_tokens": 60},
                },
            }
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "a-model-2026",
            "content": [{"type": "text", "text": text}],
            "stop_reason": stop or "end_turn",
            "usage": {
                "input_tokens": 30,
                "cache_read_input_tokens": 60,
                "cache_creation_input_tokens": 10,
                "output_tokens": 7,
            },
        }

    def streamed(self, body: dict[str, Any], piece: int = 3) -> list[str]:
        """*body* as the events of a stream, its texts and arguments in pieces."""
        return list(openai_events(body, piece) if self.name == "openai" else anthropic_events(body, piece))


def as_json(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def pieces(text: str, length: int) -> list[str]:
    return [text[i : i + length] for i in range(0, len(text), length)]


def openai_events(body: dict[str, Any], piece: int) -> Iterator[str]:
    [choice] = body["choices"]

    def event(delta: dict[str, Any], reason: str | None = None) -> str:
        choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
        return f"data: {json.dumps({'id': body['id'], 'model': body['model'], 'choices': choices, 'usage': None})}\n\n"

    yield event({"role": "assistant", "content": ""})
    for name in ("reasoning_content", "content", "refusal"):
        for part in pieces(choice["message"].get(name) or "", piece):
            yield event({name: part})
    for index, call in enumerate(choice["message"].get("tool_calls") or ()):
        function = call["function"]
        head = {"index": index, "id": call["id"], "type": "function"}
        yield event({"tool_calls": [{**head, "function": {"name": function["name"], "arguments": ""}}]})
        for part in pieces(function["arguments"], piece):
            yield event({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
    yield event({}, choice["finish_reason"])
    yield f"data: {json.dumps({'id': body['id'], 'choices': [], 'usage': body['usage']})}\n\n"
    yield "data: [DONE]\n\n"


def anthropic_events(body: dict[str, Any], piece: int) -> Iterator[str]:
    def event(kind: str, **fields: Any) -> str:
        return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"

    usage = {**body["usage"], "output_tokens": 1}
    yield event("message_start", message={**body, "content": [], "stop_reason": None, "usage": usage})
    yield event("ping")
    for index, block in enumerate(body["content"]):
        kinds = {"text": ("text", "text_delta"), "thinking": ("thinking", "thinking_delta")}
        if block["type"] == "tool_use":
            yield event("content_block_start", index=index, content_block={**block, "input": {}})
            for part in pieces(as_json(block["input"]), piece):
                yield event(
                    "content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": part}
                )
        elif block["type"] in kinds:
            name, delta = kinds[block["type"]]
            empty = {**block, name: "", **({"signature": ""} if name == "thinking" else {})}
            yield event("content_block_start", index=index, content_block=empty)
            for part in pieces(block[name], piece):
                yield event("content_block_delta", index=index, delta={"type": delta, name: part})
            if name == "thinking":
                signed = {"type": "signature_delta", "signature": block["signature"]}
                yield event("content_block_delta", index=index, delta=signed)
        else:
            yield event("content_block_start", index=index, content_block=block)
        yield event("content_block_stop", index=index)
    last = {"output_tokens": body["usage"]["output_tokens"]}
    yield event("message_delta", delta={"stop_reason": body["stop_reason"], "stop_sequence": None}, usage=last)
    yield event("message_stop")


OPENAI = Sdk("openai", "/v1/chat/completions", "/v1", "x-request-id")
ANTHROPIC = Sdk("anthropic", "/v1/messages", "", "request-id")


@pytest.fixture(params=[OPENAI, ANTHROPIC], ids=lambda sdk: sdk.name)
def sdk(request: pytest.FixtureRequest, connections: None) -> Sdk:
    return request.param
