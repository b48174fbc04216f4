"""Tool calls: judged by hooks and policy, held for a person where that is due, and carried out at most once.

What a call is allowed to change decides what becomes of it when its end was not seen. A call that changes nothing is
made again. One that changes the worktree is not: the model is told that its result is unknown. One with an effect
outside is known by its tool and its arguments for as long as its task is attempted, in this process and those after it:
it happens once, and whoever asks again is told what came of it.
"""

import itertools
import json
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Final

from harness.agent.deadline import OutOfTime, Started, within
from harness.agent.hooks import Answered, Event, Hooks, Point
from harness.agent.inbox import Inbox, action_digest, escalation, notify
from harness.agent.policy import Judgement, Policy
from harness.agent.tools import SkillTool, SubmitTool, arguments_of
from harness.agent.words import say
from harness.errors import ToolError, TrialError, boundary
from harness.experiment import digest
from harness.meter import Steps, inside, meter
from harness.models.attention import nap
from harness.protocols import Message, Tool, Work
from harness.redact import redacted
from traces import otel
from traces.journal import clean_text
from traces.records import Span, Text, ToolCall, ToolResult, now

RETRIED: Final = frozenset({"rate_limit", "connection"})
"""Failures after which the runtime makes a call again by itself, where that is safe."""
RETRIES: Final = 2
FIRST_WAIT: Final = 0.5
"""Seconds; doubled each time."""
LONGEST: Final = 110_000
"""Characters of a result that are kept."""
GRACE: Final = 2.0
"""Seconds that a call may take beyond what it was given, to end by itself."""
PREVIEW: Final = 200


@dataclass(frozen=True)
class Locks:
    """One for each action with an effect outside: two of the same never run at once."""

    _turn: threading.Lock = field(default_factory=threading.Lock)
    _of: defaultdict[str, threading.Lock] = field(default_factory=lambda: defaultdict(threading.Lock))

    def of(self, action: str) -> threading.Lock:
        with self._turn:
            return self._of[action]


@dataclass(frozen=True)
class Caller:
    """Carries out the tool calls of one session."""

    session: str
    tools: Mapping[str, Tool]
    policy: Policy
    hooks: Hooks
    work: Work
    steps: Steps
    """Of the session."""
    patience: float
    """Seconds that a held call waits for a person."""
    seconds_left: Callable[[], float]
    locks: Locks
    messages: Callable[[], Sequence[Message]]
    """What has been said so far, for hooks."""

    def carry_out(self, turn: int, calls: Sequence[ToolCall]) -> list[ToolResult]:
        """One result for each of *calls*, in their order; those that may run do so side by side.

        Raises:
            BudgetSpent: the run ends; what was begun is not begun again by its successor.
        """
        todo = [self._prepared(f"call/{turn}.{i}", turn, call) for i, call in enumerate(calls)]
        if len(todo) == 1:
            return [todo[0]()]
        started = [Started(work) for work in todo]
        try:
            return [one.result(float("inf"), meter().check_clock) for one in started]
        except BaseException:
            for one in started:
                one.give_up()
            for one in started:
                one.give_up(GRACE)  # what runs on would run beside the next attempt
            raise

    # ── may it? ────────────────────────────────────────────────────────────────────────────────────────────────

    def _prepared(self, key: str, turn: int, call: ToolCall) -> Callable[[], ToolResult]:
        """The rest of the work on *call*: whatever of it must not be done side by side is done when this returns."""
        refused = f"{key}/refused"  # not under the key itself: what was begun there may have happened
        kept = self.steps.recall(key) or self.steps.recall(refused)
        if isinstance(kept, ToolResult):
            return lambda: kept
        tool, call, no = self._understood(key, turn, call)
        if tool is not None and tool.effect != "none" and self.steps.begun(key):
            if tool.effect == "worktree" or no is not None:
                return lambda: self.steps.step(key, lambda: self._interrupted(tool, call))
        elif tool is not None and no is None and not self._is_done(tool, call):
            no = self._judged(tool, call, key)
        if tool is None or no is not None:
            told = no or self._unknown(call)
            return lambda: self.steps.step(refused, lambda: told)
        if tool.effect == "outside":
            return lambda: self.steps.step(key, lambda: self._once(tool, turn, call))
        return lambda: self.steps.step(key, lambda: self._made(tool, turn, call, key))

    def _is_done(self, tool: Tool, call: ToolCall) -> bool:
        """Has *call* had its effect in an earlier attempt? Then nothing is left to be allowed."""
        kept = meter().effects.recall(f"{action_digest(call)}/1") if tool.effect == "outside" else None
        return isinstance(kept, ToolResult) and kept.status == "ok"

    def _understood(self, key: str, turn: int, call: ToolCall) -> tuple[Tool | None, ToolCall, ToolResult | None]:
        """The tool, the call as hooks have rewritten it, and what is said instead where it makes no sense or is vetoed
        by one of them. A rewritten call is kept: a hook asked again might make another one of it."""
        tool = self.tools.get(call.name)
        if tool is None:
            return None, call, None
        kept = self.steps.recall(f"{key}/as")
        if isinstance(kept, ToolCall):
            return tool, kept, None
        answered = self._hooked("pre_trigger", turn, call)
        call = answered.call or call
        try:
            call = call.model_copy(update={"arguments": arguments_of(tool, call), "malformed": ""})
        except ToolError as e:
            return tool, call, self._result(tool, call, "error", str(e), e.error_class)
        if answered.veto is not None:
            return tool, call, self._denied(tool, call, answered.veto.because)
        if answered.hold is not None and self.policy.judge(call, tool.effect).verdict == "allow":
            judged = Judgement("hold", answered.hold.because, answered.hold.concern, "hook")
            if (no := self._held(tool, call, judged, f"{key}/hook")) is not None:
                return tool, call, no
        return tool, call if answered.call is None else self.steps.step(f"{key}/as", lambda: call), None

    def _judged(self, tool: Tool, call: ToolCall, place: str) -> ToolResult | None:
        """What is said instead where policy, or a person, does not let the call be made."""
        if isinstance(tool, SubmitTool | SkillTool):
            return None  # the runtime's own: it needs nobody's leave to hand in, or to read what the version says
        judged = self.policy.judge(call, tool.effect)
        if judged.verdict == "deny":
            self._notice(call, judged, place)
            return self._denied(tool, call, judged.because)
        return self._held(tool, call, judged, place) if judged.verdict == "hold" else None

    def _held(self, tool: Tool, call: ToolCall, judged: Judgement, place: str) -> ToolResult | None:
        """Ask a person, and wait; ``None``: the call may be made, this once."""
        directory = meter().directory
        if directory is None:
            return self._denied(tool, call, f"{judged.because}; it takes a person's approval, and there is no inbox")
        inbox = Inbox(directory)
        used = {entry.escalation.id for entry in inbox.entries() if entry.state == "used"}
        wait = min(self.patience, self.seconds_left())
        concern = judged.concern or "missing_permission"
        # another one each time that a killed process used one up, and did not get to act on it
        places = (f"{self.session}/{place}" + (f"/again{n}" if n else "") for n in itertools.count())
        asking = (
            escalation("approval", concern, judged.because, call=call, place=where, wait=wait) for where in places
        )
        asked = next(one for one in asking if one.id not in used)
        inbox.hold(asked)
        ruling = inbox.await_ruling(asked.id, check=meter().check_clock)
        if ruling.verdict == "approved" and inbox.redeem(ruling, action_digest(call)):
            return None
        if ruling.verdict == "rejected":
            return self._result(tool, call, "denied", say("rejected", because=ruling.note), "rejected")
        return self._result(tool, call, "denied", say("unanswered"), "unanswered")

    def _notice(self, call: ToolCall, judged: Judgement, place: str) -> None:
        """Let a person know of what was denied."""
        if judged.concern is not None:
            notify(escalation("notice", judged.concern, judged.because, call=call, place=f"{self.session}/{place}"))

    def _unknown(self, call: ToolCall) -> ToolResult:
        text = say("unknown_tool", name=call.name[:80], names=", ".join(sorted(self.tools)) or "none")
        return self._result(None, call, "error", text, "not_found")

    def _hooked(self, point: Point, turn: int, call: ToolCall, result: ToolResult | None = None) -> Answered:
        if not self.hooks.asks(point):
            return Answered(call=call, result=result)
        said = tuple(self.messages())
        event = Event(point, self.session, turn, said, call=call, result=result, task=self.work.task)
        return self.hooks.run(event, seconds=self.seconds_left())

    # ── do it ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _once(self, tool: Tool, turn: int, call: ToolCall) -> ToolResult:
        """Carry out *call*, whose effect lies outside, unless that has been done or may have been."""
        action, effects = action_digest(call), meter().effects
        with self.locks.of(action):
            for number in itertools.count(1):
                key = f"{action}/{number}"
                kept = effects.recall(key)
                if kept is None and effects.begun(key):
                    return effects.step(key, lambda: self._interrupted(tool, call))
                if not isinstance(kept, ToolResult):
                    return effects.step(key, lambda: self._made(tool, turn, call, action))
                if kept.status == "ok":
                    text = say("deduplicated", result=kept.text)
                    return self._result(tool, call, "deduplicated", text, None)
                if kept.safe_to_repeat:
                    continue
                because = "the same was called before, and whether it happened is not known"
                judged = Judgement("hold", because, "repeated_failure", "effects")
                refused = self._held(tool, call, judged, f"{action}/{number}")
                if refused is not None:
                    return refused
        raise AssertionError  # count() does not end

    def _made(self, tool: Tool, turn: int, call: ToolCall, key: str) -> ToolResult:
        """What came of *call*; made again by the runtime where that helps and is safe."""
        result = self._attempt(tool, call, key, 1)
        for retry in range(RETRIES):
            wait = FIRST_WAIT * 2**retry
            passes_by_itself = result.error_class in RETRIED and result.safe_to_repeat is True
            if not passes_by_itself or wait >= self.seconds_left():
                break
            nap(wait)
            result = self._attempt(tool, call, key, retry + 2)
        if result.error_class == "permission":
            self._notice(call, Judgement("deny", result.text, "missing_permission", "tool"), key)
        answered = self._hooked("post_trigger", turn, call, result)
        if answered.veto is not None:
            return result.model_copy(update={"text": say("withheld", because=answered.veto.because)})
        rewritten = answered.result or result
        return rewritten.model_copy(update={"text": shortened(redacted(clean_text(rewritten.text)))})

    def _attempt(self, tool: Tool, call: ToolCall, key: str, attempt: int) -> ToolResult:
        seconds = min(self.work.seconds, self.seconds_left())
        place = action_digest(call) if tool.effect == "outside" else f"{self.session}/{key}"
        wish = digest(f"{meter().wish}/{place}")
        work = replace(self.work, seconds=seconds, place=key, idempotency_key=wish)
        span, started, clock = uuid.uuid4().hex, now(), perf_counter()

        def carry_out() -> str:
            with inside(span), boundary("runner"):
                return tool.call(call.arguments, work)

        try:
            answer = within(seconds + GRACE, carry_out, meter().check_clock)
            result = self._told(call, "ok", answer)
        except OutOfTime:
            safe = True if tool.effect == "none" else None
            result = self._told(call, "error", say("timeout", seconds=f"{seconds:.3g}"), "timeout", safe)
        except TrialError as e:
            if e.boundary in ("model", "sandbox"):
                raise  # a sub-agent's model, or the sandbox: it says nothing about the call
            cause = e.__cause__
            error = cause if isinstance(cause, ToolError) else ToolError(e.error_class, str(e))
            safe = True if tool.effect == "none" else error.safe_to_repeat
            result = self._told(call, "error", str(error), error.error_class, safe)
        self._trace(tool, call, result, span=span, started=started, seconds=perf_counter() - clock, attempt=attempt)
        return result

    # ── what the model is told, and what is kept ───────────────────────────────────────────────────────────────

    def _told(
        self,
        call: ToolCall,
        status: Any,
        text: str,
        error_class: str | None = None,
        safe_to_repeat: bool | None = None,
    ) -> ToolResult:
        return ToolResult(
            call=call.id,
            tool=call.name,
            text=shortened(redacted(clean_text(text))),
            status=status,
            error_class=error_class,
            safe_to_repeat=safe_to_repeat,
        )

    def _result(self, tool: Tool | None, call: ToolCall, status: Any, text: str, error_class: str | None) -> ToolResult:
        """The result of a call that was not made."""
        result = self._told(call, status, text, error_class, True if status in ("denied", "error") else None)
        self._trace(tool, call, result)
        return result

    def _denied(self, tool: Tool, call: ToolCall, because: str) -> ToolResult:
        return self._result(tool, call, "denied", say("denied", because=because.rstrip(".")), "denied")

    def _interrupted(self, tool: Tool, call: ToolCall) -> ToolResult:
        return self._result(tool, call, "interrupted", say("interrupted"), "interrupted")

    def _trace(
        self,
        tool: Tool | None,
        call: ToolCall,
        result: ToolResult,
        *,
        span: str | None = None,
        started: Any = None,
        seconds: float = 0.0,
        attempt: int = 1,
    ) -> None:
        asked = redacted(call.malformed or json.dumps(call.arguments, ensure_ascii=False, default=str))
        texts = (Text.of(asked), Text.of(result.text))
        changes = tool is not None and tool.effect != "none"
        failed = result.status in ("error", "denied")
        meter().end(
            Span(
                id=span or uuid.uuid4().hex,
                operation="execute_tool",
                name=call.name,
                started=started or now(),
                seconds=seconds,
                status="interrupted" if result.status == "interrupted" else "error" if failed else "ok",
                error=result.text[:PREVIEW] if failed else None,
                error_class=result.error_class,
                attempt=attempt,
                effect=tool.effect if tool else None,
                safe_to_repeat=result.safe_to_repeat,
                idempotency_key=digest(f"{meter().wish}/{action_digest(call)}") if changes else None,
                input_hash=texts[0].hash,
                input_preview=asked[-PREVIEW:],
                output_hash=texts[1].hash,
                output_preview=result.text[:PREVIEW],
                attributes={otel.TOOL_NAME: call.name, otel.TOOL_CALL_ID: call.id, "ratchet.status": result.status},
            ),
            texts,
        )


def shortened(text: str) -> str:
    """*text*, or its beginning and its end where it is longer than anything that is kept."""
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"
