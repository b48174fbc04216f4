"""Tool calls between the providers' shapes and ours."""

import json
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from harness.protocols import Message
from traces.journal import clean, clean_text
from traces.records import ToolCall

CUT = frozenset({"length", "refusal"})
"""Reasons that end an answer wherever it is, also in the middle of a call."""
NAME = re.compile(r"[^a-zA-Z0-9_-]")


def read_call(id: object, name: object, arguments: object) -> ToolCall:
    """A call whose *arguments* are an object, or text that should be one; empty where the tool takes none."""
    id, name = (clean_text(given) if isinstance(given, str) else "" for given in (id, name))
    if isinstance(arguments, str):
        written = arguments
        try:
            arguments = json.loads(written) if written.strip() else {}
        except (ValueError, RecursionError):
            return ToolCall(id=id, name=name, malformed=clean_text(written))
    else:
        written = json.dumps(clean(arguments), ensure_ascii=False)
    if not isinstance(arguments, dict):
        return ToolCall(id=id, name=name, malformed=clean_text(written))
    return ToolCall(id=id, name=name, arguments=clean(cast(object, arguments)))


def without_half(calls: Sequence[ToolCall], finish_reason: str) -> tuple[ToolCall, ...]:
    """*calls*, the last one malformed if the answer ended within it: it may lack half of its arguments."""
    if not calls or finish_reason not in CUT:
        return tuple(calls)
    *whole, last = calls
    written = last.malformed or json.dumps(last.arguments, ensure_ascii=False)
    return (*whole, last.model_copy(update={"arguments": {}, "malformed": written}))


def why(finish_reason: str, calls: Sequence[ToolCall]) -> str:
    """The reason why an answer ended, where the provider says ``stop`` for calls or ``tool_calls`` for none."""
    if finish_reason in ("stop", "tool_calls"):
        return "tool_calls" if calls else "stop"
    return finish_reason


def distinct(calls: Iterable[ToolCall], before: Sequence[Message]) -> tuple[ToolCall, ...]:
    """*calls*, each with an id of its own, also among those of the messages *before*."""
    seen = {call.id for message in before for call in message.calls} | {""}
    found: list[ToolCall] = []
    for call in calls:
        if call.id in seen:
            call = call.model_copy(update={"id": f"call_{uuid.uuid4().hex[:24]}"})
        seen.add(call.id)
        found.append(call)
    return tuple(found)


def wire_name(name: str) -> str:
    """*name* or id, as every provider takes it back, also one that the model or another provider made up."""
    return NAME.sub("_", name)[:64] or "_"


def mended(message: Message) -> Message:
    """*message* as it can be encoded."""
    return replace(
        message,
        content=clean_text(message.content),
        calls=tuple(ToolCall.model_validate(clean(call.model_dump())) for call in message.calls),
        opaque=tuple(clean(block) for block in message.opaque),
    )


def in_words(message: Message) -> dict[str, Any]:
    """*message* for a trace: role and content, and of the other fields those that say something."""
    rest = {"answers": message.answers, "is_error": message.is_error, "opaque": message.opaque}
    calls = [call.model_dump(exclude_defaults=True) for call in message.calls]
    more = {name: value for name, value in {"calls": calls, **rest}.items() if value}
    return {"role": message.role, "content": message.content, **more}


def spoken(text: str, calls: Sequence[ToolCall]) -> str:
    """What a model said, to be read: its *text*, and a line for each call."""
    return "\n".join([*([text] if text or not calls else []), *map(as_line, calls)])


def as_line(call: ToolCall) -> str:
    return f"{call.name}({call.malformed or dumped(call.arguments)})"


def dumped(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
