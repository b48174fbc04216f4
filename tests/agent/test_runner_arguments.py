"""A mistake in an agent's making is named where it was written: what was seen, and what to write."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest
from pydantic import BaseModel

from harness.agent.mcp import McpServer
from harness.agent.policy import standard_policy
from harness.agent.runner import AgentRunner
from harness.agent.tools import function_tool
from harness.errors import UserError
from harness.models.routing import Routes
from harness.sandboxes import Bubblewrap, best_sandbox
from harness.testing import FakeSandbox, ScriptedModel


def send_mail(to: str) -> str:
    """Send a mail."""
    return to


class Answer(BaseModel):
    word: str


class Reviewing:
    attempts = 2

    def review(self, task, output, work, before): ...


@dataclass
class OnlyNamed:
    name: str = "look"


def made(**parts):
    return AgentRunner(**{"model": ScriptedModel("x"), **parts})


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"tools": [send_mail]}, ["tools", "the function send_mail", "Write function_tool(send_mail)"]),
        ({"tools": function_tool(send_mail)}, ["tools", "FunctionTool", "Write tools=["]),
        ({"tools": "send_mail"}, ["tools", "'send_mail'", "Write tools=["]),
        ({"tools": None}, ["tools", "None", "Write tools=["]),
        ({"tools": [OnlyNamed()]}, ["tools", "OnlyNamed", "function_tool("]),
        ({"tools": [function_tool(send_mail)] * 2}, ["two tools named 'send_mail'", "name='…'"]),
        ({"policy": None}, ["policy", "None", "policy=standard_policy()"]),
        ({"policy": standard_policy}, ["the function standard_policy", "policy=standard_policy()"]),
        ({"policy": "deny"}, ["policy", "'deny'", "standard_policy()"]),
        ({"limits": 30}, ["limits", "30", "limits=Limits("]),
        ({"sandbox": "bubblewrap"}, ["sandbox", "'bubblewrap'", "sandbox=best_sandbox()"]),
        ({"sandbox": best_sandbox}, ["sandbox", "the function best_sandbox", "sandbox=best_sandbox()"]),
        ({"sandbox": Bubblewrap}, ["sandbox", "the class Bubblewrap", "sandbox=Bubblewrap("]),
        ({"worktree": "project"}, ["worktree", "'project'", "Worktree("]),
        ({"verifier": lambda output: True}, ["verifier", "review()", "RubricVerifier("]),
        ({"verifier": Reviewing}, ["verifier", "the class Reviewing", "verifier=Reviewing("]),
        ({"hooks": [print]}, ["hooks", "the function print", "Hook("]),
        ({"children": [made()]}, ["children", "AgentRunner", "Child("]),
        ({"servers": ["npx server"]}, ["servers", "'npx server'", "McpServer("]),
        ({"subscribers": ["log"]}, ["subscribers", "'log'", "subscribers=[fn]"]),
        ({"model": None}, ["model", "None", "model=model("]),
        ({"model": ScriptedModel}, ["model", "the class ScriptedModel"]),
        ({"model": Routes("openai:x")}, ["model", "Routes", "model=model("]),
        ({"patience": "300"}, ["patience", "'300'", "patience=300"]),
        ({"patience": float("inf")}, ["patience", "inf", "patience=300"]),
        ({"patience": True}, ["patience", "True"]),
        ({"prompt": None}, ["prompt", "None", "prompts/solve.md"]),
        ({"role": 3}, ["role", "3", 'role="maker"']),
        ({"context": 4000}, ["context", "4000", "Context("]),
        ({"schema": "word"}, ["schema", "'word'"]),
        ({"schema": int}, ["schema", "the class int"]),
        ({"schema": {"type": "sentence"}}, ["schema of the answer", "not a JSON schema"]),
    ],
)
def test_a_field_of_another_kind_is_named_with_what_was_seen_and_what_to_write(parts, says):
    with pytest.raises(UserError) as error:
        made(**parts)
    assert [word for word in says if word not in str(error.value)] == []


def test_all_that_is_right_is_taken():
    model = ScriptedModel("x")
    made(
        model=Routes(model, judge=model),
        tools=(function_tool(send_mail),),
        sandbox=FakeSandbox(lambda *a: None),
        schema=Answer,
    )
    made(verifier=Reviewing(), patience=0, schema={"type": "object"}, hooks=(), subscribers=[print])


@pytest.mark.parametrize(
    ("parts", "write"),
    [
        ({"command": "npx -y 'a server'"}, "command=('npx', '-y', 'a server')"),
        ({"command": "echo 'open"}, "Write command="),
        ({"command": ("npx",), "only": "get_*"}, "only=('get_*',)"),
        ({"command": ("npx",), "secrets": "TOKEN"}, "secrets=('TOKEN',)"),
    ],
)
def test_a_text_where_an_mcp_server_takes_several_is_refused_with_what_to_write(parts, write):
    with pytest.raises(UserError) as error:
        McpServer("s", **parts)
    assert write in str(error.value)


def test_the_agent_of_the_readme_uses_what_its_imports_bring_and_nothing_else():
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    example = dedent(re.search(r"\n\n(    runner = AgentRunner\(.*?\n    \)\n)", text, re.S)[1]).replace("…", "...")
    imports = dedent(re.search(r"<details>.*?\n\n((?:    from harness\.agent.*\n|    from .*\n)+)", text)[1])
    brought: dict[str, object] = {}
    exec(imports, brought)
    used = {node.id for node in ast.walk(ast.parse(example)) if isinstance(node, ast.Name) and node.id != "runner"}
    assert used - {"HERE", "send_mail"} == brought.keys() - {"__builtins__"}
