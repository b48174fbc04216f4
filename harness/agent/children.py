"""Sub-agents: another agent as a tool, in a session of its own.

A child sees its own prompt and the task that it is given, and nothing of what its parent thought: so a checker does not
read its maker. Its policy is its own and its parent's together, its tools are tools that its parent has, and its limits
are what its parent has left. What goes beyond is an error result, never an exception.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from harness.agent.limits import Ended, Limits
from harness.agent.words import say
from harness.errors import ToolError
from harness.meter import meter
from harness.protocols import Work
from traces.records import Effect, Turn

if TYPE_CHECKING:
    from harness.agent.runner import AgentRunner
    from harness.agent.session import Session

DEPTH: Final = 3
"""Sessions inside each other, the outermost counted."""
FAN_OUT: Final = 5
"""Children that one session may begin."""
PARAMETERS: Final = {
    "type": "object",
    "properties": {"task": {"type": "string", "minLength": 1}},
    "required": ["task"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Child:
    """A sub-agent, as its parent may call it."""

    name: str
    description: str
    """What it does and when to use it: for the parent's model."""
    agent: "AgentRunner"

    @property
    def parameters(self) -> Mapping[str, Any]:
        return PARAMETERS

    @property
    def effect(self) -> Effect:
        """None of its own: each of its calls is judged and kept by itself, so it can be taken up again."""
        return "none"

    def call(self, arguments: Mapping[str, Any], work: Work) -> str:
        """Its answer.

        Raises:
            ToolError: it may not begin, or it ended without an answer; says why.
        """
        parent = _parent.get()
        if parent is None:
            raise ToolError("permission", say("child_limit", because="only an agent can begin a sub-agent"))
        with parent.turn:
            meter().check_clock()  # it may have waited for its turn
            if trouble := refusal(self, parent):
                raise ToolError("permission", say("child_limit", because=trouble), safe_to_repeat=True)
            task = work.task.model_copy(update={"input": str(arguments["task"])})
            return self._answer(parent, replace(work, task=task))

    def _answer(self, parent: "Session", work: Work) -> str:
        place = work.place.removeprefix("call/")
        child = self.agent.child_of(parent, self.name, work)
        try:
            with under(child):
                answer, ended = child.converse(), "done"
        except Ended as e:
            answer, ended = f"{self.name} ended without an answer: {e.reason}, {e.detail}", e.reason
        made = Turn(text=answer, finish_reason=ended, usage=child.usage)
        kept = parent.steps.step(f"child/{place}", lambda: made)
        parent.count_child(place, kept.usage)
        if kept.finish_reason != "done":
            raise ToolError(kept.finish_reason, kept.text)
        return kept.text


_parent: ContextVar["Session | None"] = ContextVar("parent", default=None)


@contextmanager
def under(session: "Session") -> Generator[None]:
    """Within, the children that are begun are those of *session*."""
    token = _parent.set(session)
    try:
        yield
    finally:
        _parent.reset(token)


def refusal(child: Child, parent: "Session") -> str | None:
    """Why *parent* may not begin *child*, if it may not."""
    if parent.depth >= DEPTH:
        return f"sub-agents go {DEPTH} deep at most, and this would be one more"
    if len(parent.children) >= FAN_OUT:
        return f"{len(parent.children)} sub-agents were begun already, and {FAN_OUT} are allowed"
    lacking = sorted({tool.name for tool in child.agent.tools} - {tool.name for tool in parent.setting.tools})
    if lacking:
        return f"it would need {', '.join(lacking)}, which its parent does not have"
    return None


def limits_of(child: Limits, left: Mapping[str, float]) -> Limits:
    """The child's own limits, none above what its parent has *left*."""
    own = {name: getattr(child, name) for name in ("steps", "calls", "seconds", "tokens", "dollars")}
    least = {
        name: min(v for v in (own[name], left.get(name)) if v is not None)
        for name in own
        if own[name] is not None or name in left
    }
    whole = ("steps", "calls", "tokens")
    return replace(child, **{name: int(v) if name in whole else v for name, v in least.items()})
