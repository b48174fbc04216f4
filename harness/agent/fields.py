"""What an agent is made of, looked at before anything runs: a mistake is named where it was written."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from inspect import isroutine
from math import inf
from pathlib import Path
from typing import Any, Final, cast

from pydantic import BaseModel

from harness.agent.children import Child
from harness.agent.context import Context
from harness.agent.hooks import Hook
from harness.agent.limits import Limits
from harness.agent.mcp import McpServer
from harness.agent.policy import Policy
from harness.agent.tools import submit_tool
from harness.errors import UserError
from harness.models.routing import Routes
from harness.protocols import Sandbox
from harness.worktrees import Worktree

TOOL: Final = ("name", "description", "parameters", "effect", "call")


def check_fields(agent: Any) -> None:
    """Raise ``UserError`` for a field of an ``AgentRunner`` that is nothing of its kind; says what to write."""
    for name, (is_right, what, write) in PARTS.items():
        value = getattr(agent, name)
        if not is_right(value):
            raise wrong(name, value, what, write)
    for name, (is_right, what, write) in LISTS.items():
        for item in items_of(name, getattr(agent, name), write):
            if not is_right(item):
                raise wrong(name, item, what, proposed(name, item, write), of="holds")
    times = Counter(tool.name for tool in (*agent.tools, *agent.children))
    twice = sorted(name for name, n in times.items() if n > 1)
    if twice:
        raise UserError(
            f"an agent has two tools named {twice[0]!r}, and its model could not tell which it calls. Leave one out, "
            "or rename it: function_tool(fn, name='…')"
        )
    if agent.schema is not None:
        submit_tool(agent.schema)


def items_of(name: str, value: object, write: str) -> Sequence[object]:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return cast("Sequence[object]", value)
    raise wrong(name, value, "a list", f"{name}=[{write}]")


def proposed(name: str, item: object, write: str) -> str:
    """What to write for *item*; for a function that should be a tool, that."""
    called = getattr(item, "__name__", "…")
    return f"function_tool({called})" if name == "tools" and isroutine(item) else write


def wrong(name: str, value: object, what: str, write: str, of: str = "is") -> UserError:
    if isroutine(value) and name == "policy":
        write = f"policy={value.__name__}()"
    elif isinstance(value, type) and name in PARTS and name not in ("model", "schema"):
        write = f"{name}={value.__name__}(…)"
    return UserError(f"{name} of an agent {of} {shown(value)}, and needs {what}. Write {write}")


def shown(value: object) -> str:
    """What was seen, in a few words and without what is in it."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isroutine(value):
        return f"the function {value.__name__}"
    if value is None or isinstance(value, str | int | float):
        return repr(value)[:80]
    return f"an object of {type(value).__name__}"


# ── what is right ──────────────────────────────────────────────────────────────────────────────────────────────


def one_of(*kinds: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kinds)


def is_model(value: Any) -> bool:
    if isinstance(value, Routes):
        return all(is_model(model) for model in (value.default, *dict(value.table).values()))
    return not isinstance(value, type) and callable(getattr(value, "complete", None))


def is_tool(value: Any) -> bool:
    is_whole = not isinstance(value, type) and all(hasattr(value, part) for part in TOOL)
    return is_whole and isinstance(value.name, str) and callable(value.call)


def is_verifier(value: Any) -> bool:
    is_whole = not isinstance(value, type) and callable(getattr(value, "review", None))
    return value is None or (is_whole and hasattr(value, "attempts"))


def is_sandbox(value: object) -> bool:
    return value is None or (isinstance(value, Sandbox) and not isinstance(value, type | Path))


def is_schema(value: object) -> bool:
    if isinstance(value, type):
        return issubclass(value, BaseModel)
    return value is None or isinstance(value, Mapping)


def is_patience(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < inf


def is_said(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


Part = tuple[Callable[[Any], bool], str, str]
"""Is it one; what it has to be; what to write."""

PARTS: Final[Mapping[str, Part]] = {
    "model": (is_model, "a model, Routes of models, or a model's name", 'model=model("openai:MODEL")'),
    "policy": (one_of(Policy), "a Policy: without one nothing would hold a call", "policy=standard_policy()"),
    "limits": (one_of(Limits), "Limits", "limits=Limits(steps=30, seconds=900)"),
    "verifier": (
        is_verifier,
        "something with review() and attempts",
        "verifier=RubricVerifier(checks=(…), attempts=3)",
    ),
    "sandbox": (is_sandbox, "a sandbox", "sandbox=best_sandbox()"),
    "worktree": (one_of(Worktree, type(None)), "a Worktree", 'worktree=Worktree(HERE / "project")'),
    "context": (one_of(Context), "a Context", "context=Context()"),
    "schema": (is_schema, "a pydantic model's class or a JSON schema", "schema=Answer"),
    "prompt": (is_said, "the path of a prompt in the version", 'prompt="prompts/solve.md"'),
    "role": (is_said, "the name of a role", 'role="maker"'),
    "patience": (is_patience, "seconds, else a call would wait for ever", "patience=300"),
}
LISTS: Final[Mapping[str, Part]] = {
    "tools": (is_tool, "tools", "function_tool(fn)"),
    "servers": (one_of(McpServer), "servers", 'McpServer("name", command=(…))'),
    "children": (one_of(Child), "sub-agents", 'Child("name", "what it does", AgentRunner(…))'),
    "hooks": (one_of(Hook), "hooks", 'Hook("pre_trigger", fn)'),
    "subscribers": (callable, "functions", "subscribers=[fn]"),
}
