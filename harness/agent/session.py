"""A session: one conversation of one agent, in turns of a model call and the tool calls that it asks for.

The runtime decides whether it goes on, what may be called and what is called again; nothing that a model says does.
Each turn and each result is a durable step of the trial, so whoever takes up a killed trial finds them again: a turn
happens at least once, what a tool changes at most once.
"""

import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import Any, Final, Protocol, runtime_checkable

from harness.agent.calls import Caller, Locks
from harness.agent.children import under
from harness.agent.context import Context, Fitted, tools_tokens
from harness.agent.deadline import OutOfTime, within
from harness.agent.hooks import TURN, Answered, Event, Hooks, Point
from harness.agent.limits import Ended, Watch
from harness.agent.policy import Policy
from harness.agent.tools import SUBMIT, check_answer, schema_of, specs
from harness.agent.words import say
from harness.errors import ToolError
from harness.meter import Steps, inside, meter, spending
from harness.protocols import Message, Model, Reply, Tool, ToolModel, ToolSpec, Work
from harness.redact import redacted
from traces.journal import clean_text
from traces.records import Span, State, ToolCall, Turn, Usage, now

CONTEXT: Final = "ratchet.context"
"""Of a turn: where each part of what the model was shown came from, its tokens, and how long it lives."""
LEFT: Final = "ratchet.left"
"""Of a turn: what was left of each limit before it."""


@runtime_checkable
class Estimating(Protocol):
    """A model that can tell what a call will use at most."""

    def estimate(self, tokens: int) -> Usage:
        """Of a prompt of so many *tokens*."""
        ...


@dataclass(frozen=True)
class Setting:
    """What a session goes by."""

    name: str
    """Unique within the trial: ``maker``, ``maker/call/3.0/reviewer``."""
    role: str
    model: Model
    summariser: Model
    tools: tuple[Tool, ...]
    policy: Policy
    hooks: Hooks
    context: Context
    schema: Any = None
    """What the answer is to look like: a pydantic model or a JSON schema; ``None``: text."""
    patience: float = 300.0


@dataclass
class Session:
    """One conversation under way."""

    setting: Setting
    work: Work
    seed: int
    watch: Watch
    steps: Steps
    state: Callable[[], str] | None
    """A digest of the worktree as it is; ``None``: there is none."""
    locks: Locks
    messages: list[Message]
    """The prompt, and then all that was said; what a model is shown of it is for the context to say."""
    head: int
    """How many of them are the prompt."""
    depth: int = 1
    """1: nobody's child."""
    children: set[str] = field(default_factory=set[str])
    """Sub-agents that have ended: turn and number of the call that began each."""
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Of its sub-agents: one after the other, so that none uses what another one has used already."""
    usage: Usage = field(default_factory=Usage)
    """Of its turns, its summaries and its sub-agents."""
    turns: int = 0
    calls: int = 0
    corrections: int = 0

    def spent(self, usage: Usage) -> None:
        """Count what a turn, a summary or a sub-agent used."""
        self.usage += usage
        self.watch.after_turn(usage)

    def converse(self) -> str:
        """Turn after turn, until the model ends by itself; return its answer.

        Raises:
            Ended: a limit, or a sign that it gets nowhere.
            ModelError: the model failed for good.
            BudgetSpent: the run ends.
        """
        while True:
            turn = self._turn()
            if turn.finish_reason == "refusal":
                raise Ended("refused", turn.text[:300] or "the model declined")
            self.messages.append(Message("assistant", turn.text, calls=turn.calls, opaque=turn.opaque))
            if turn.calls:
                answer = self._called(turn)
            elif turn.finish_reason == "length":
                answer = self._correct(say("cut"), "it was cut off for its length")
            elif turn.finish_reason == "pause_turn":
                answer = None
            else:
                answer = self._answered(turn.text)
            if answer is not None:
                return answer

    def tell(self, text: str) -> None:
        """Say something as the user, before the next turn."""
        self.messages = said_by_user(self.messages, redacted(clean_text(text)))

    # ── a turn ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _turn(self) -> Turn:
        self.turns += 1
        key = f"turn/{self.turns}"
        kept = self.steps.recall(key)
        if isinstance(kept, Turn):
            self._append(kept.appended)
            self.watch.before_turn(Usage())  # it was allowed once, by what was known then
            turn = kept
        else:
            turn = self._new_turn(key)
        self.spent(turn.usage)
        return turn

    def _new_turn(self, key: str) -> Turn:
        span, started, clock = uuid.uuid4().hex, now(), perf_counter()
        self._append(appended := self._asked("pre_turn"))
        with inside(span):
            fitted = self._fitted()
            left = self.watch.left()
            self.watch.before_turn(self._estimate(fitted))
            last = self._asked("pre_generate")
            self._append(last)
            turn = self.steps.step(key, lambda: self._generated(fitted, last, (*appended, *last)))
        meter().end(
            Span(
                id=span,
                operation="turn",
                name=self.setting.name,
                role=self.setting.role,
                started=started,
                seconds=perf_counter() - clock,
                attributes={
                    TURN: self.turns,
                    CONTEXT: [vars(block) for block in fitted.blocks],
                    LEFT: left,
                },
            )
        )
        return turn

    def _generated(self, fitted: Fitted, last: Sequence[str], appended: tuple[str, ...]) -> Turn:
        """Ask the model; never longer than the session may last."""
        messages = [*fitted.messages]
        for text in last:
            messages = said_by_user(messages, redacted(clean_text(text)))
        try:
            with spending(self.setting.role):
                reply = within(self.watch.seconds_left(), lambda: self._complete(messages), meter().check_clock)
        except OutOfTime:
            raise Ended("time_cap", "its time was over while the model was answering") from None
        answered = self._hooked("post_generate", reply)
        if answered.veto is not None:
            raise Ended("escalated", f"a hook refused the answer of the model: {answered.veto.because}")
        reply = answered.reply or reply
        return Turn(
            text=redacted(clean_text(reply.text)),
            calls=self._told_apart(reply.tool_calls),
            finish_reason=reply.finish_reason,
            opaque=tuple(dict(block) for block in reply.opaque),
            appended=appended,
            usage=reply.usage,
        )

    def _told_apart(self, calls: Sequence[ToolCall]) -> tuple[ToolCall, ...]:
        """*calls* with ids that none before them had: a server may count from one in each answer."""
        known = {call.id for message in self.messages for call in message.calls}
        apart: list[ToolCall] = []
        for number, call in enumerate(calls):
            id = f"{call.id}-{self.turns}.{number}" if call.id in known else call.id
            apart.append(call.model_copy(update={"id": id}))
            known.add(id)
        return tuple(apart)

    def _complete(self, messages: Sequence[Message]) -> Reply:
        model = self.setting.model
        if not isinstance(model, ToolModel):
            return model.complete(messages, seed=self.seed)
        shape = None if self.setting.schema is None or self.setting.tools else schema_of(self.setting.schema)
        return model.complete(messages, seed=self.seed, tools=self.specs, schema=shape)

    @cached_property
    def specs(self) -> tuple[ToolSpec, ...]:
        return specs(self.setting.tools)

    # ── its tool calls ─────────────────────────────────────────────────────────────────────────────────────────

    def _called(self, turn: Turn) -> str | None:
        """Make the calls that *turn* asks for; return what was handed in by ``submit``, if that was."""
        for call in turn.calls:
            self.watch.before_call(call)
        self.calls += len(turn.calls)
        with under(self):
            results = self.caller.carry_out(self.turns, turn.calls)
        self._count_children(turn.calls)
        for result in results:
            is_error = result.status not in ("ok", "deduplicated")
            self.messages.append(Message("tool", result.text, answers=result.call, is_error=is_error))
        self.watch.after_calls(list(zip(turn.calls, results, strict=True)), self._state_after(self.turns))
        handed_in = (r.text for r in results if r.tool == SUBMIT and r.status == "ok")
        return next(handed_in, None) if self.setting.schema is not None else None

    def _state_after(self, turn: int) -> str:
        """How the files stood after *turn*, also where it is another process that asks; empty where there are none."""
        state = self.state
        return "" if state is None else self.steps.step(f"state/{turn}", lambda: State(digest=state())).digest

    @cached_property
    def caller(self) -> Caller:
        setting = self.setting
        return Caller(
            session=setting.name,
            tools={tool.name: tool for tool in setting.tools},
            policy=setting.policy,
            hooks=setting.hooks,
            work=self.work,
            steps=self.steps,
            patience=setting.patience,
            seconds_left=self.watch.seconds_left,
            locks=self.locks,
            messages=lambda: self.messages,
        )

    def _count_children(self, calls: Sequence[ToolCall]) -> None:
        """Count the sub-agents that this turn began in a process before this one, and what they used."""
        for number in range(len(calls)):
            kept = self.steps.recall(f"child/{self.turns}.{number}")
            if isinstance(kept, Turn):
                self.count_child(f"{self.turns}.{number}", kept.usage)

    def count_child(self, place: str, usage: Usage) -> None:
        """Once each. *place*: turn and number of the call that began it."""
        if place not in self.children:
            self.children.add(place)
            self.spent(usage)

    # ── its answer ─────────────────────────────────────────────────────────────────────────────────────────────

    def _answered(self, text: str) -> str | None:
        """The answer in *text*; ``None``: it does not fit its schema, and was asked for again."""
        if self.setting.schema is None:
            return text
        if self.setting.tools:
            return self._correct(say("unsubmitted"), "it was never handed in")
        try:
            return check_answer(self.setting.schema, text)
        except ToolError as e:
            return self._correct(say("correct", why=e), str(e))

    def _correct(self, text: str, why: str) -> None:
        """Ask for the same again, corrected; a few times.

        Raises:
            Ended: it has been asked for often enough.
        """
        if self.corrections >= self.watch.limits.corrections:
            raise Ended("failed", f"not the form asked for, after {self.corrections} corrections: {why}")
        self.corrections += 1
        self.tell(text)

    # ── what it is shown ───────────────────────────────────────────────────────────────────────────────────────

    def _fitted(self) -> Fitted:
        return self.setting.context.fit(
            self.messages,
            head=self.head,
            steps=self.steps,
            summarise=self._summary,
            tools_tokens=tools_tokens(self.specs),
        )

    def _summary(self, messages: Sequence[Message]) -> str:
        """What a model makes of *messages*; it counts as the session's."""

        def ask() -> Reply:
            return self.setting.summariser.complete(messages, seed=self.seed)

        try:
            with spending("summariser"):
                reply = within(self.watch.seconds_left(), ask, meter().check_clock)
        except OutOfTime:
            raise Ended("time_cap", "its time was over while it was summarised") from None
        self.spent(reply.usage)
        return reply.text

    def _estimate(self, fitted: Fitted) -> Usage:
        """What the next call takes at most, as far as its model can tell."""
        model = self.setting.model
        if isinstance(model, Estimating):
            return model.estimate(fitted.tokens)
        return Usage(calls=1, input_tokens=fitted.tokens, dollars=None)

    # ── hooks ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _asked(self, point: Point) -> tuple[str, ...]:
        """What the hooks at *point* want to have said.

        Raises:
            Ended: one of them lets it go no further.
        """
        answered = self._hooked(point)
        if answered.veto is not None:
            raise Ended("escalated", f"a hook ended it before a turn: {answered.veto.because}")
        return answered.appended

    def _append(self, texts: Sequence[str]) -> None:
        for text in texts:
            self.tell(text)

    def _hooked(self, point: Point, reply: Reply | None = None) -> Answered:
        hooks = self.setting.hooks
        if not hooks.asks(point):
            return Answered(reply=reply)
        event = Event(point, self.setting.name, self.turns, tuple(self.messages), reply=reply, task=self.work.task)
        return hooks.run(event, seconds=self.watch.seconds_left())


def said_by_user(messages: Sequence[Message], text: str) -> list[Message]:
    """*messages*, and *text* said by the user at their end. Providers refuse two messages of the user in a row."""
    last = messages[-1]
    if last.role == "user":
        return [*messages[:-1], Message("user", f"{last.content}\n\n{text}")]
    return [*messages, Message("user", text)]
