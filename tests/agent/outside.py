"""What lies outside of an agent: a provider that speaks both APIs and plays a script, and a target that counts."""

import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.models.conftest import ANTHROPIC, OPENAI, Sdk
from tests.models.loopback import Handler, Play, Received, answers, streams

Step = Sequence[tuple[str, object]] | str
"""What the model says in a turn: calls of tools (name, arguments), or an answer."""
NUMBER = re.compile(r"trial (\d+)")


def number_in(text: object) -> int:
    """Of the trial, as its prompt says it."""
    found = NUMBER.search(str(text))
    assert found, text
    return int(found[1])


def turns_in(body: Mapping[str, Any]) -> int:
    return sum(message["role"] == "assistant" for message in body["messages"])


def said_with(sdk: Sdk, step: Step, turn: int) -> dict[str, Any]:
    """*step* as a provider sends it."""
    if isinstance(step, str):
        return sdk.says(step)
    return sdk.calls(*((f"c{turn}_{i}", name, arguments) for i, (name, arguments) in enumerate(step)))


@dataclass
class Outside:
    """Answers the models and the tools of a night. It outlives the process that asks, and so it can count."""

    script: Callable[[int, int, Mapping[str, Any]], Step]
    """Trial, turn and the request → what the model says."""
    fault: Callable[[int, int, int], Play | None] = lambda number, turn, time: None
    """Trial, turn and how often it was asked before → what goes wrong, if anything does."""
    trouble: Callable[[str, int, Handler], bool] = lambda text, time, handler: False
    """What is wanted of the target, how often that was, and who wants it → did it go wrong before it was done?"""
    after: Callable[[str, Handler], None] = lambda text, handler: None
    """What happens between doing what was wanted of the target and saying so."""
    asked: Counter[tuple[int, int]] = field(default_factory=Counter)
    """By trial and turn, how often a model was asked."""
    wanted: Counter[str] = field(default_factory=Counter)
    """How often the target was asked for it."""
    done: Counter[str] = field(default_factory=Counter)
    """How often the target did it."""
    keys: dict[str, set[str]] = field(default_factory=dict)
    """Idempotency keys that it came with."""
    bodies: list[str] = field(default_factory=list)
    """All that was received."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def play(self, handler: Handler, received: Received) -> None:
        with self.lock:
            self.bodies.append(f"{received.path} {dict(received.headers)} {received.body}")
        if received.path == "/target":
            self.act(handler, received.body["text"], received.body["key"])
        else:
            self.speak(handler, received)

    def speak(self, handler: Handler, received: Received) -> None:
        sdk = OPENAI if received.path == OPENAI.path else ANTHROPIC
        number, turn = number_in(received.body["messages"]), turns_in(received.body)
        with self.lock:
            time = self.asked[number, turn]
            self.asked[number, turn] += 1
        body = said_with(sdk, self.script(number, turn, received.body), turn)
        well = streams(sdk.streamed(body)) if received.body.get("stream") else answers(body)
        (self.fault(number, turn, time) or well)(handler, received)

    def act(self, handler: Handler, text: str, key: str) -> None:
        with self.lock:
            time = self.wanted[text]
            self.wanted[text] += 1
        if self.trouble(text, time, handler):
            return
        with self.lock:
            self.done[text] += 1
            self.keys.setdefault(text, set()).add(key)
        self.after(text, handler)
        content = b'"done"'
        handler.head(200, len(content))
        handler.wfile.write(content)
