"""Hooks: a user's functions, asked at five points of a session.

They narrow and never widen. No answer allows what policy denies: whatever a hook makes of a call is judged afterwards,
as if the model had written it. A hook sees copies, so it changes nothing but by its answer.
"""

import copy
import json
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import isfunction
from math import inf
from time import monotonic, perf_counter
from typing import Any, Final, Literal, TypeAlias, cast

from pydantic.dataclasses import dataclass as checked

from harness.agent.deadline import OutOfTime, within
from harness.errors import TrialError, UserError, boundary
from harness.meter import inside, meter
from harness.protocols import Message, Reply
from harness.redact import redacted
from traces.journal import clean_text
from traces.records import Concern, Span, Task, ToolCall, ToolResult, now

Point = Literal["pre_turn", "pre_generate", "post_generate", "pre_trigger", "post_trigger"]
"""Before a turn; before its model call, when the context is fitted; after it; before each tool call; after it."""

POINT: Final = "ratchet.hook.point"
ANSWER: Final = "ratchet.hook.answer"
"""``none``, ``veto``, ``hold``, ``append`` or ``rewrite``."""
BECAUSE: Final = "ratchet.hook.because"
TURN: Final = "ratchet.turn"


@dataclass(frozen=True)
class Event:
    """What is about to happen, or has."""

    point: Point
    session: str
    turn: int
    messages: Sequence[Message] = ()
    """The conversation so far."""
    call: ToolCall | None = None
    """At ``pre_trigger`` and ``post_trigger``."""
    result: ToolResult | None = None
    """At ``post_trigger``."""
    reply: Reply | None = None
    """At ``post_generate``."""
    task: Task | None = None
    """Without its targets."""


@checked(frozen=True)
class Veto:
    """No. A call is denied, and a turn or a generation not begun; what was generated is not carried out, and a result
    is not shown to the model."""

    because: str


@checked(frozen=True)
class Hold:
    """Not without a person. Of a call only."""

    concern: Concern
    because: str


@checked(frozen=True)
class Append:
    """One message more at the end of the conversation: what stands before it stays, so that caches stay good."""

    text: str


@checked(frozen=True)
class Rewrite:
    """Another text for a reply or a result; other arguments for a call."""

    to: str | dict[str, Any]


Answer: TypeAlias = Veto | Hold | Append | Rewrite

MOST_HANGING = 16
"""Calls of one hook that were given up and still go on; with so many it is not asked again until one has ended."""

MAY: Final[Mapping[Point, tuple[type[Answer], ...]]] = {
    "pre_turn": (Veto, Append),
    "pre_generate": (Veto, Append),
    "post_generate": (Veto, Rewrite),
    "pre_trigger": (Veto, Hold, Rewrite),
    "post_trigger": (Veto, Rewrite),
}
"""What a hook may answer, besides nothing; anything else is its error."""


@dataclass(frozen=True)
class Hook:
    """A function to ask at a point."""

    point: Point
    call: Callable[[Event], Answer | None]
    name: str = ""
    """For the trace; the function's own where it is empty."""
    priority: int = 0
    """Lower is asked first; of equals, the one that was declared first. A hold ends the asking, so what vetoes should
    come before what holds."""
    timeout: float = 5.0
    """Seconds. What takes longer is given up; its thread cannot be ended, and is not waited for."""
    on_error: Literal["closed", "open"] | None = None
    """When it raises, hangs or answers nonsense: ``closed`` takes that for a veto, ``open`` for no answer. By default
    closed before an action (``pre_…``), open after one (``post_…``)."""

    def __post_init__(self) -> None:
        if self.point not in MAY:
            raise UserError(f"a hook asks to be called at {self.point!r}; the points are: {', '.join(MAY)}")
        if not 0 < self.timeout < inf:
            raise UserError(f"hook {self.title!r} has timeout={self.timeout}, and would hold up a trial for as long or "
                            "fail always. Give it some seconds: timeout=5")  # fmt: skip

    @property
    def title(self) -> str:
        return self.name or (self.call.__qualname__ if isfunction(self.call) else type(self.call).__qualname__)

    @property
    def fails_closed(self) -> bool:
        return self.on_error == "closed" if self.on_error else self.point.startswith("pre_")


@dataclass(frozen=True)
class Answered:
    """What came of asking."""

    call: ToolCall | None = None
    """As rewritten. Policy has still to judge it."""
    result: ToolResult | None = None
    reply: Reply | None = None
    appended: tuple[str, ...] = ()
    veto: Veto | None = None
    hold: Hold | None = None
    by: str = ""
    """The hook that vetoed or held."""


@dataclass(frozen=True)
class Hooks:
    """Some hooks, to be asked in their order. The first veto or hold wins, and the later ones are not asked."""

    hooks: Sequence[Hook] = ()
    _at: "dict[Point, list[_Asked]]" = field(init=False, repr=False, default_factory=dict[Point, "list[_Asked]"])

    def __post_init__(self) -> None:
        for hook in sorted(self.hooks, key=lambda hook: hook.priority):
            self._at.setdefault(hook.point, []).append(_Asked(hook))

    def asks(self, point: Point) -> bool:
        """Is there any hook at *point*? If not, no event need be made for it."""
        return point in self._at

    def run(self, event: Event, *, seconds: float = inf) -> Answered:
        """Ask the hooks at the event's point; all of them together for at most *seconds*.

        Each call is a span. A ``UserError`` and a spent budget are no answers and pass.
        """
        answered = Answered(event.call, event.result, event.reply)
        until = monotonic() + seconds
        for asked in self._at.get(event.point, ()):
            seen = replace(event, call=answered.call, result=answered.result, reply=answered.reply)
            answer = asked.ask(_copy(seen), until - monotonic())
            answered = _with(answered, answer, asked.hook.title)
            if answered.veto or answered.hold:
                break
        return answered


class HookError(Exception):
    """A hook answered what nobody can do at its point."""


@dataclass(frozen=True)
class _Asked:
    """A hook, and those of its calls that were given up."""

    hook: Hook
    hanging: list[threading.Event] = field(default_factory=list[threading.Event])
    """Set when the call has ended after all."""

    def ask(self, event: Event, seconds: float) -> Answer | None:
        """What the hook answers; a veto where it fails and fails closed. Writes the span."""
        span_id, started, clock = uuid.uuid4().hex, now(), perf_counter()
        answer: Answer | None = None
        failure: TrialError | None = None
        try:
            with inside(span_id):
                answer = self._answer(event, min(seconds, self.hook.timeout))
        except TrialError as e:
            failure = e
            if self.hook.fails_closed:
                answer = Veto(f"the hook {self.hook.title!r} did not come to an answer ({e.error_class})")
        meter().end(
            Span(
                id=span_id,
                operation="hook",
                name=self.hook.title,
                started=started,
                seconds=perf_counter() - clock,
                status="ok" if failure is None else "error",
                error=None if failure is None else redacted(clean_text(str(failure))),
                error_class=None if failure is None else failure.error_class,
                attributes={
                    POINT: event.point,
                    TURN: event.turn,
                    ANSWER: "none" if answer is None else type(answer).__name__.lower(),
                    **({BECAUSE: redacted(answer.because)} if isinstance(answer, Veto | Hold) else {}),
                },
            )
        )
        return answer

    def _answer(self, event: Event, seconds: float) -> Answer | None:
        """Raises ``TrialError`` for whatever the hook does wrong."""
        self.hanging[:] = [call for call in self.hanging if not call.is_set()]
        if len(self.hanging) >= MOST_HANGING:
            raise TrialError("runner", "timeout", f"not asked: {len(self.hanging)} earlier calls of it still hang")
        ended = threading.Event()

        def ask() -> Answer | None:
            try:
                with boundary("runner"):
                    return _valid(self.hook.call(event), event)
            finally:
                ended.set()

        try:
            return within(seconds, ask, meter().check_clock)
        except OutOfTime:
            self.hanging.append(ended)
            raise TrialError("runner", "timeout", f"no answer after {max(seconds, 0):.3g} s") from None


def _valid(answer: object, event: Event) -> Answer | None:
    """*answer* with text that can be sent, and arguments that nobody else holds.

    Raises:
        HookError: it is not for this point.
    """
    if answer is None:
        return None
    may = MAY[event.point]
    if not isinstance(answer, may):
        names = ", ".join(kind.__name__ for kind in may)
        raise HookError(f"answered {type(answer).__name__} at {event.point}; may answer None or: {names}")
    match answer:
        case Veto(because=because):
            return Veto(clean_text(because))
        case Hold(concern=concern, because=because):
            return Hold(concern, clean_text(because))
        case Append(text=text):
            return Append(clean_text(text)) if text.strip() else None
        case Rewrite(to=str(text)) if event.point != "pre_trigger":
            return Rewrite(clean_text(text))
        case Rewrite(to=dict(arguments)) if event.point == "pre_trigger":
            return Rewrite(json.loads(json.dumps(arguments, allow_nan=False)))
        case _:
            wanted = "arguments (a dict)" if event.point == "pre_trigger" else "text (a str)"
            raise HookError(f"rewrote to {type(answer.to).__name__} at {event.point}, where {wanted} stand")


def _with(so_far: Answered, answer: Answer | None, by: str) -> Answered:
    match answer:
        case None:
            return so_far
        case Veto():
            return replace(so_far, veto=answer, by=by)
        case Hold():
            return replace(so_far, hold=answer, by=by)
        case Append(text=text):
            return replace(so_far, appended=(*so_far.appended, text))
        case Rewrite(to=to) if so_far.result is not None:
            return replace(so_far, result=so_far.result.model_copy(update={"text": to}))
        case Rewrite(to=to) if so_far.call is not None:
            return replace(so_far, call=so_far.call.model_copy(update={"arguments": to, "malformed": ""}))
        case Rewrite(to=to) if so_far.reply is not None:
            return replace(so_far, reply=replace(so_far.reply, text=cast(str, to)))
        case _:
            return so_far  # nothing there to be rewritten


def _copy(event: Event) -> Event:
    """*event* with nothing in it that anybody else holds and could be changed."""
    return replace(
        event,
        messages=tuple(_own(message) for message in event.messages),
        call=None if event.call is None else event.call.model_copy(deep=True),
        reply=None if event.reply is None else copy.deepcopy(event.reply),
        task=None if event.task is None else event.task.model_copy(update={"targets": ()}),
    )


def _own(message: Message) -> Message:
    """A copy of *message*, where it holds what could be changed."""
    return copy.deepcopy(message) if message.calls or message.opaque else message
