"""Fakes that we ship and support: for your tests, as for ours. A model, a sandbox and a clock; the rest is real."""

import json
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

from harness.meter import meter
from harness.models.calls import in_words, mended, spoken, why
from harness.models.chat import PREVIEW, text_record
from harness.protocols import Finished, Message, Reply, ToolSpec
from traces.records import Span, Usage, now


@dataclass
class ScriptedModel:
    """Answers from a function of the messages, or with the same text always; metered and recorded like a real model.

    ``answer`` may return a ``Reply``, with tool calls, of which the text and all but the usage is taken as it is; and
    it may raise, to play a provider's failure.
    """

    answer: Callable[[Sequence[Message]], str | Reply] | str | Reply
    name: str = "scripted:model"
    dollars: float | None = 0.0
    """Per call."""
    calls: int = field(default=0, repr=False)
    """Requests that it was sent, so far."""
    takes_tools: bool = field(default=True, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def estimate(self, tokens: int) -> Usage:
        return Usage(calls=1, input_tokens=tokens, output_tokens=8, dollars=self.dollars)

    def complete(
        self,
        messages: Sequence[Message],
        *,
        seed: int,
        tools: Sequence[ToolSpec] = (),
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        def answered() -> str | Reply:
            with self._lock:
                self.calls += 1
            return self.answer(messages) if callable(self.answer) else self.answer

        return exchange(self.name, messages, answered, self.dollars)


@dataclass(frozen=True)
class Scripted(ABC):
    """The model of an experiment that is played offline: a subclass names it, and says what it answers.

    It costs nothing, and is metered and recorded like a real one.
    """

    name: str
    takes_tools: bool = True
    price_known: bool = True

    @abstractmethod
    def reply(self, messages: Sequence[Message], seed: int, tools: Sequence[ToolSpec]) -> str | Reply:
        """What it answers: the same to the same."""

    def complete(
        self,
        messages: Sequence[Message],
        *,
        seed: int,
        tools: Sequence[ToolSpec] = (),
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        return exchange(self.name, messages, lambda: self.reply(messages, seed, tools))


def exchange(
    name: str, messages: Sequence[Message], answer: Callable[[], str | Reply], dollars: float | None = 0.0
) -> Reply:
    """Ask, and be answered: announced to the meter, with what was said kept as ``ChatModel`` keeps it."""
    span_id = uuid.uuid4().hex
    words = sum(len(message.content.split()) for message in messages)
    meter().begin(span_id, name, Usage(calls=1, input_tokens=words, output_tokens=8, dollars=dollars), 1)
    started, clock = now(), perf_counter()
    answered = answer()
    reply = answered if isinstance(answered, Reply) else Reply(answered)
    seconds = perf_counter() - clock
    said = spoken(reply.text, reply.tool_calls)
    usage = Usage(calls=1, input_tokens=words, output_tokens=len(said.split()), dollars=dollars)
    sent = text_record(json.dumps([in_words(mended(message)) for message in messages], ensure_ascii=False))
    got = text_record(said)
    span = Span(
        id=span_id,
        operation="chat",
        name=name,
        started=started,
        seconds=seconds,
        usage=usage,
        input_hash=sent.hash,
        input_preview=sent.text[-PREVIEW:],
        output_hash=got.hash,
        output_preview=got.text[:PREVIEW],
    )
    meter().end(span, (sent, got))
    return replace(
        reply, usage=usage, finish_reason=why(reply.finish_reason, reply.tool_calls), model=reply.model or name
    )


@dataclass
class FakeClock:
    """A clock that moves when told to. Call it for the time."""

    time: datetime = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@dataclass
class FakeSandbox:
    """Files in memory, and commands whose end is a function of the command and the files."""

    command: Callable[[Sequence[str], Mapping[str, str]], Finished]
    files: Mapping[str, str] = field(default_factory=dict[str, str])
    """What each opening starts with."""

    @contextmanager
    def open(self, folder: Path | None = None) -> Generator["FakeBox"]:
        yield FakeBox(self.command, dict(self.files))


@dataclass
class FakeBox:
    """One opening of a ``FakeSandbox``."""

    command: Callable[[Sequence[str], Mapping[str, str]], Finished]
    files: dict[str, str]

    def run(
        self,
        command: Sequence[str],
        *,
        seconds: float | None = None,
        environment: Mapping[str, str] | None = None,
        fixed: Sequence[str] = (),
    ) -> Finished:
        return self.command(command, self.files)

    def read(self, path: str) -> str:
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.files[path]

    def write(self, path: str, text: str) -> None:
        self.files[path] = text
