"""What a model is shown of a session: a budget of tokens, and what goes when it is full.

First old results are pruned, then the older turns are summarised, once: what was decided is a durable step, so that
whoever takes up the session is shown the same. A call and its results are never split. As long as nothing has to go,
what was shown stays the beginning of what is shown, so that a provider's cache of it serves.
"""

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, pairwise
from time import perf_counter
from typing import Any, Final, Literal

from harness.agent.words import say
from harness.errors import TrialError, UserError
from harness.meter import Steps, inside, meter
from harness.protocols import Message, ToolSpec
from traces.journal import clean_text
from traces.records import Span, Summary, ToolCall, now

Lifetime = Literal["turn", "session", "durable"]
"""Needed now; gone when the session ends; or there for the next session too."""

BEFORE: Final = "ratchet.tokens.before"
AFTER: Final = "ratchet.tokens.after"
MESSAGES: Final = "ratchet.messages"
"""How many messages, from the first, were pruned or summarised."""

SHRINK_TO = 0.6
"""Of the room there is: so far it is emptied once it is full, so that many turns pass before the next time."""
SUMMARY_SHARE = 8
"""A summary takes at most one part in so many of the room, and the log under it half of that."""
LEAST_RESULT = 64
"""Tokens of a result that are left when nothing else helps."""
MESSAGE = 5
"""Tokens that a message costs besides its text."""


class ContextFull(TrialError):
    """What has to stay is more than fits."""

    def __init__(self, message: str) -> None:
        super().__init__("runner", "context_full", message)


@dataclass(frozen=True)
class Block:
    """A part of what a model is shown."""

    source: str
    """``tools``, ``system``, ``examples``, ``task``, ``summary``, ``turns``, ``told`` (by the runtime), ``results``,
    ``new results``; or what the caller calls a part of the prompt, such as ``memory``."""
    tokens: int
    lifetime: Lifetime


@dataclass(frozen=True)
class Fitted:
    """What to show a model."""

    messages: tuple[Message, ...]
    blocks: tuple[Block, ...]
    """All of it, tools included."""
    summary: Summary | None = None
    """That stands in it."""

    @property
    def tokens(self) -> int:
        return sum(block.tokens for block in self.blocks)


@dataclass(frozen=True)
class Context:
    """How much a model is shown: a value to compare with another one, such as ``Context.rich()`` with
    ``Context.poor()``."""

    tokens: int = 100_000
    """Of a request, its answer included. Estimated: four bytes each."""
    answer: int = 4_096
    """Kept free for the answer."""
    tool_result: int = 6_000
    """Of a single result; of a longer one the middle is left out."""
    keep_recent: int = 6
    """Turns that stay as they are, if they fit."""

    def __post_init__(self) -> None:
        if not 0 < self.answer < self.tokens or self.tool_result < LEAST_RESULT or self.keep_recent < 1:
            raise UserError(
                f"{self} leaves nothing to show a model. Give it more tokens than the answer takes, at least "
                f"{LEAST_RESULT} for a tool result, and at least one recent turn"
            )

    @classmethod
    def rich(cls) -> "Context":
        """Much is shown for long: for models that read much, and tasks where details count."""
        return cls(tokens=180_000, answer=8_192, tool_result=16_000, keep_recent=20)

    @classmethod
    def poor(cls) -> "Context":
        """Little is shown: cheap, and nothing to get lost in."""
        return cls(tokens=16_000, answer=2_048, tool_result=1_200, keep_recent=3)

    def fit(
        self,
        messages: Sequence[Message],
        *,
        head: int,
        steps: Steps,
        summarise: Callable[[Sequence[Message]], str],
        tools_tokens: int = 0,
        parts: Mapping[str, str] | None = None,
    ) -> Fitted:
        """*messages*, all of the session's, within the budget: unchanged as long as they fit.

        *head*: how many of them are the rendered prompt; these always stay. *steps*: the session's own. *summarise*
        asks a model the chat that it is given, and returns its answer; what it raises passes. *tools_tokens*: what the
        tools take (``tools_tokens``). *parts*: text that stands in the prompt and comes from elsewhere, by source.

        Raises:
            ContextFull: the prompt and the last turn are too much.
        """
        room = self.tokens - self.answer - tools_tokens
        shown = [self._capped(message) for message in messages]
        made: list[Summary] = []
        if size(shown) > room:
            made = _made(steps, head, len(shown))
            view = _view(shown, head, made)
            shown = view if size(view) <= room else self._shrunk(shown, head, made, room, steps, summarise)
        told = _told(made)
        return Fitted(tuple(shown), _blocks(shown, head, told, tools_tokens, parts or {}), told)

    def capped(self, text: str) -> str:
        """The text of a result, its middle left out where it is too long."""
        return cut(text, self.tool_result)

    def _shrunk(
        self,
        messages: Sequence[Message],
        head: int,
        made: list[Summary],
        room: int,
        steps: Steps,
        summarise: Callable[[Sequence[Message]], str],
    ) -> list[Message]:
        """What is left when something has to go; adds to *made* what it came to."""
        _squeezed([*messages[:head], *messages[turn_starts(messages, head)[-1] :]], head, room, self.tool_result)
        plan = self._plan(messages, head, made, room)
        if plan is not None:
            key = f"summary/{len(messages)}"
            made.append(steps.step(key, lambda: _carried_out(plan, messages, head, made, room, summarise)))
        return _squeezed(_view(messages, head, made), head, room, self.tool_result)

    def _capped(self, message: Message) -> Message:
        return with_content(message, self.capped(message.content)) if message.role == "tool" else message

    def _plan(self, messages: Sequence[Message], head: int, made: Sequence[Summary], room: int) -> "_Plan | None":
        """What has to go, so that it fits for some turns to come; ``None``: nothing can."""
        target = size(messages[:head]) + int(SHRINK_TO * (room - size(messages[:head])))
        starts = [start for start in turn_starts(messages, head) if start >= _summarised(head, made)]
        recent = starts[-self.keep_recent :][0]
        for start in starts:
            mark = Summary(text="", messages=start, tokens_before=0, tokens_after=0)
            if _pruned(head, made) < start <= recent and size(_view(messages, head, [*made, mark])) <= target:
                return _Plan(start, prune=True)
        later = [start for start in starts if start > starts[0] and start >= recent]
        always = size(messages[:head]) + 2 * room // SUMMARY_SHARE
        fitting = [start for start in later if always + size(messages[start:]) <= target]
        return _Plan((fitting or later[-1:])[0], prune=False) if later else None


@dataclass(frozen=True)
class _Plan:
    until: int
    """The first message that stays as it is."""
    prune: bool
    """Only leave out results; else summarise what is before."""


def _carried_out(
    plan: _Plan,
    messages: Sequence[Message],
    head: int,
    made: Sequence[Summary],
    room: int,
    summarise: Callable[[Sequence[Message]], str],
) -> Summary:
    """What the plan comes to, and its span. A summary without text stands for nothing: results were left out."""
    span_id, started, clock = uuid.uuid4().hex, now(), perf_counter()
    text = ""
    if not plan.prune:
        with inside(span_id):
            text = _summary(messages, head, made, plan.until, room, summarise)
    before = size(_view(messages, head, made))
    summary = Summary(text=text, messages=plan.until, tokens_before=before, tokens_after=0)
    after = size(_view(messages, head, [*made, summary]))
    meter().end(
        Span(
            id=span_id,
            operation="compact",
            name="prune" if plan.prune else "summarise",
            started=started,
            seconds=perf_counter() - clock,
            attributes={BEFORE: before, AFTER: after, MESSAGES: plan.until},
        )
    )
    return summary.model_copy(update={"tokens_after": after})


def _summary(
    messages: Sequence[Message],
    head: int,
    made: Sequence[Summary],
    until: int,
    room: int,
    summarise: Callable[[Sequence[Message]], str],
) -> str:
    """The text that is to stand for the turns before *until*: a model's notes, and the log that they cite."""
    at_most, told = room // SUMMARY_SHARE, _told(made)
    rows = cut("\n".join(log_rows(messages[:until], head)), at_most // 2)
    older = transcript(messages[_summarised(head, made) : until], len(_assistants(messages[:until], head)))
    asked = cut("\n\n".join([told.text, older] if told else [older]), room // 2)
    words = at_most // 2
    prompt = say("summary", log=rows, transcript=asked, words=words, mark=mark_of(rows, asked))
    notes = cut(clean_text(summarise([Message("user", prompt)])).strip(), at_most)
    return "\n\n".join(part for part in (notes, say("log", rows=rows)) if part)


# ── what is shown ──────────────────────────────────────────────────────────────────────────────────────────────


def _made(steps: Steps, head: int, length: int) -> list[Summary]:
    """What was pruned and summarised while the session had at most *length* messages, oldest first."""
    kept = (steps.recall(f"summary/{n}") for n in range(head + 1, length + 1))
    return [summary for summary in kept if isinstance(summary, Summary)]


def _told(made: Sequence[Summary]) -> Summary | None:
    return next((summary for summary in reversed(made) if summary.text), None)


def _summarised(head: int, made: Sequence[Summary]) -> int:
    told = _told(made)
    return told.messages if told else head


def _pruned(head: int, made: Sequence[Summary]) -> int:
    return max((summary.messages for summary in made), default=head)


def _view(messages: Sequence[Message], head: int, made: Sequence[Summary]) -> list[Message]:
    """*messages* with what was *made* in place of what it stands for."""
    told, begin, end = _told(made), _summarised(head, made), _pruned(head, made)
    standing = [_summary_message(told, len(_assistants(messages[:begin], head)))] if told else []
    return [*messages[:head], *standing, *_without_results(messages, head, begin, end), *messages[end:]]


def _summary_message(summary: Summary, turns: int) -> Message:
    return Message("user", say("summarised", text=summary.text, last=turns, mark=mark_of(summary.text)))


def _without_results(messages: Sequence[Message], head: int, begin: int, end: int) -> list[Message]:
    """Those from *begin* to *end*, each long result replaced by a line that says what it was."""
    calls: dict[str, tuple[str, int]] = {}
    same: Counter[str] = Counter()
    shown: list[Message] = []
    for message in messages[head:end]:
        for call in message.calls:
            same[_action(call)] += 1
            calls[call.id] = call.name, same[_action(call)]
        shown.append(_stub(message, *calls.get(message.answers, ("", 1))))
    return shown[begin - head :]


def _stub(message: Message, tool: str, times: int) -> Message:
    if message.role != "tool":
        return message
    line = _stub_line(tool, len(message.content), times)
    return with_content(message, line) if len(line) < len(message.content) else message


@lru_cache(maxsize=4096)
def _stub_line(tool: str, characters: int, times: int) -> str:
    return say("stub", tool=tool, characters=f"{characters:,}", times="once" if times == 1 else f"{times} times")


def _squeezed(view: list[Message], head: int, room: int, cap: int) -> list[Message]:
    """*view*, its results cut ever shorter until it fits.

    Raises:
        ContextFull: it does not, even so.
    """
    while size(view) > room and cap > LEAST_RESULT:
        cap = max(cap // 2, LEAST_RESULT)
        view = [with_content(m, cut(m.content, cap)) if m.role == "tool" else m for m in view]
    if size(view) > room:
        raise ContextFull(
            f"what has to stay is too much for the model: the prompt takes {size(view[:head]):,} tokens and the last "
            f"turn {size(view[head:]):,}, and there is room for {room:,}. Allow more, Context(tokens=…), or shorten "
            "the prompt, the task or the tools"
        )
    return view


def turn_starts(messages: Sequence[Message], head: int) -> list[int]:
    """Where a turn begins: with the model's message; its results and what it was told belong to it."""
    starts = _assistants(messages, head)
    return [head, *starts[1:]] if starts else [head]


def _assistants(messages: Sequence[Message], head: int) -> list[int]:
    return [at for at in range(head, len(messages)) if messages[at].role == "assistant"]


def _blocks(
    shown: Sequence[Message], head: int, told: Summary | None, tools_tokens: int, parts: Mapping[str, str]
) -> tuple[Block, ...]:
    found: dict[tuple[str, Lifetime], int] = {("tools", "durable"): tools_tokens}
    last = max(_assistants(shown, head), default=head)

    def add(source: str, lifetime: Lifetime, tokens: int) -> None:
        found[source, lifetime] = found.get((source, lifetime), 0) + tokens

    for at, message in enumerate(shown):
        tokens = tokens_of(message)
        if at < head:
            for source, text in parts.items():
                if text and text in message.content and (source, "durable") not in found:
                    part = min(text_tokens(text), tokens)
                    add(source, "durable", part)
                    tokens -= part
        add(*_source(at, message, head, told, last), tokens)
    return tuple(Block(source, tokens, lifetime) for (source, lifetime), tokens in found.items() if tokens)


def _source(at: int, message: Message, head: int, told: Summary | None, last: int) -> tuple[str, Lifetime]:
    if at < head - 1:
        return ("system" if message.role == "system" else "examples"), "durable"
    if at == head - 1:
        return "task", "session"
    if at == head and told:
        return "summary", "session"
    if message.role == "tool":
        return ("new results", "turn") if at > last else ("results", "session")
    return ("turns" if message.role == "assistant" else "told"), "session"


# ── tokens ─────────────────────────────────────────────────────────────────────────────────────────────────────


def text_tokens(text: str) -> int:
    """About how many tokens *text* has: four bytes each."""
    return -(-(len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))) // 4)


def tokens_of(message: Message) -> int:
    """About how many tokens *message* takes, its calls included."""
    calls = sum(text_tokens(_action(call)) + text_tokens(call.malformed) + MESSAGE for call in message.calls)
    opaque = text_tokens(str(message.opaque)) if message.opaque else 0
    return text_tokens(message.content) + MESSAGE + calls + opaque


def size(messages: Iterable[Message]) -> int:
    return sum(map(tokens_of, messages))


def tools_tokens(tools: Iterable[ToolSpec]) -> int:
    """About how many tokens a model's *tools* take."""
    return sum(text_tokens(f"{tool.name}{tool.description}{_json(tool.parameters)}") + MESSAGE for tool in tools)


def cut(text: str, tokens: int) -> str:
    """*text* in at most so many tokens: where it is longer, its beginning, its end, and how to see the rest."""
    if text_tokens(text) <= tokens:
        return text
    raw, note = clean_text(text).encode(), say("left_out", characters=f"{len(text):,}")
    left = max(4 * tokens - len(note.encode()) - 2, 0)
    begin, end = raw[: left - left // 2], raw[len(raw) - left // 2 :]
    whole = "\n".join([begin.decode(errors="ignore"), note, end.decode(errors="ignore")])
    return whole.encode()[: 4 * tokens].decode(errors="ignore")


def with_content(message: Message, content: str) -> Message:
    return message if content == message.content else replace(message, content=content)


def mark_of(*texts: str) -> str:
    """What the tags around *texts* are marked with: no text can hold the mark that follows from it."""
    return hashlib.sha256("\0".join(texts).encode(errors="surrogatepass")).hexdigest()[:12]


def _action(call: ToolCall) -> str:
    """The same for the same call, and about as long as its JSON, in a fraction of the time."""
    return f"{call.name}{sorted(call.arguments.items())}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=dict)


# ── the running log ────────────────────────────────────────────────────────────────────────────────────────────


def log_rows(messages: Sequence[Message], head: int = 0) -> list[str]:
    """A line a turn, numbered from 1: what was called, how it ended, how much came back, what the model was told."""
    bounds = [*turn_starts(messages, head), len(messages)]
    turns = [messages[begin:end] for begin, end in pairwise(bounds)]
    return [f"{n}. {_row(turn)}" for n, turn in enumerate(turns, 1) if any(m.role == "assistant" for m in turn)]


def _row(turn: Sequence[Message]) -> str:
    results = {message.answers: message for message in turn if message.role == "tool"}
    said = [_called(call, results.get(call.id)) for message in turn for call in message.calls]
    answer = sum(len(message.content) for message in turn if message.role == "assistant")
    told = [f"was told: {short(message.content, 120)}" for message in turn if message.role == "user"]
    return "; ".join([*(said or [f"wrote {answer:,} characters"]), *told])


def _called(call: ToolCall, result: Message | None) -> str:
    arguments = ", ".join(f"{short(name, 30)}={short(_text(value), 60)}" for name, value in call.arguments.items())
    came = "no result"
    if result is not None:
        came = f"{'error' if result.is_error else 'ok'}, {len(result.content):,} characters"
    return f"{short(call.name, 64)}({short(arguments, 160)}): {came}"


def transcript(messages: Sequence[Message], last: int) -> str:
    """*messages* as text, by turn; *last* is the number of the last turn in them."""
    begun = [message.role == "assistant" for message in messages]
    turns = [last - sum(begun) + n for n in accumulate(begun)]
    return "\n".join(
        f"[{turn}] {line}" for turn, message in zip(turns, messages, strict=True) for line in _said(message)
    )


def _said(message: Message) -> list[str]:
    who = {"assistant": "agent", "tool": "result, an error" if message.is_error else "result"}
    text = [f"{who.get(message.role, 'runtime')}: {cut(message.content, 500)}"] if message.content else []
    return [*text, *(f"agent calls {call.name}: {cut(_json(call.arguments), 200)}" for call in message.calls)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def short(text: str, limit: int) -> str:
    """*text* on one line that a terminal can show, cut where it is long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
