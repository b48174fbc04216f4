"""Models that talk to a loopback provider through the real SDKs, and a meter that remembers."""

import os
from collections.abc import Generator, Sequence
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


OPENAI = Sdk("openai", "/v1/chat/completions", "/v1", "x-request-id")
ANTHROPIC = Sdk("anthropic", "/v1/messages", "", "request-id")


@pytest.fixture(params=[OPENAI, ANTHROPIC], ids=lambda sdk: sdk.name)
def sdk(request: pytest.FixtureRequest, connections: None) -> Sdk:
    return request.param
