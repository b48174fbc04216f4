import asyncio
import json
import subprocess
import time
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

from harness.agent.tools import (
    arguments_of,
    check_answer,
    function_tool,
    parse_json,
    skill_tool,
    skill_version,
    specs,
    submit_tool,
)
from harness.errors import BudgetSpent, ModelError, ToolError, TrialError, UserError
from harness.experiment import describe
from harness.protocols import Work
from traces.records import Task, ToolCall

WORK = Work(task=Task(id="t", input="x"), text={}, idempotency_key="key-1")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: int = 0


class Order(BaseModel):
    item: str
    count: int = 1


def buy(
    order: Order,
    at: Point,
    colour: Colour,
    speed: Literal["fast", "slow"] = "slow",
    note: Annotated[str | None, Field(description="For the shop.", max_length=20)] = None,
    json: int = 3,
) -> dict:
    """Buys something.

    Use it once.
    """
    assert isinstance(order, Order)
    assert isinstance(at, Point)
    return {"order": order, "at": at, "colour": colour, "speed": speed, "note": note, "json": json}


def call(malformed="", **arguments):
    return ToolCall(id="1", name="f", arguments=arguments, malformed=malformed)


def refusal(tool, **arguments) -> str:
    with pytest.raises(ToolError) as e:
        arguments_of(tool, call(**arguments))
    assert e.value.error_class == "arguments"
    assert e.value.safe_to_repeat is True
    return str(e.value)


# ── functions ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_typed_function_is_shown_to_a_model_with_its_types_and_its_docstring():
    [spec] = specs([function_tool(buy)])

    assert spec.name == "buy"
    assert spec.description == "Buys something.\n\nUse it once."
    properties = spec.parameters["properties"]
    assert list(properties) == ["order", "at", "colour", "speed", "note", "json"]
    assert spec.parameters["required"] == ["order", "at", "colour"]
    assert spec.parameters["additionalProperties"] is False
    assert properties["speed"] == {"default": "slow", "enum": ["fast", "slow"], "type": "string"}
    assert properties["note"]["description"] == "For the shop."
    assert properties["json"] == {"default": 3, "type": "integer"}
    json.dumps(spec.parameters)


def test_a_function_is_given_what_its_types_say_and_its_result_is_told_as_json():
    tool = function_tool(buy)
    arguments = arguments_of(tool, call(order={"item": "tea"}, at={"x": 1}, colour="red"))

    assert json.loads(tool.call(arguments, WORK)) == {
        "order": {"item": "tea", "count": 1},
        "at": {"x": 1, "y": 0},
        "colour": "red",
        "speed": "slow",
        "note": None,
        "json": 3,
    }


def test_a_function_is_given_its_work_and_the_key_and_the_model_sees_neither():
    def pay(amount: int, idempotency_key: str, work: Work, *, more: Work | None = None) -> str:
        """Pays."""
        return f"{amount} {idempotency_key} {work.task.id} {more is work}"

    tool = function_tool(pay)
    assert list(tool.parameters["properties"]) == ["amount"]
    assert tool.call({"amount": 3}, WORK) == "3 key-1 t True"
    assert "idempotency_key" in refusal(tool, amount=3, idempotency_key="mine")


def test_a_tool_counts_as_changing_the_world_unless_it_says_otherwise():
    assert function_tool(buy).effect == "outside"
    assert function_tool(buy, effect="none").effect == "none"
    with pytest.raises(UserError, match="none of: none, worktree, outside"):
        function_tool(buy, effect="read")


def untyped(x):
    """Does."""


def many(*names: str):
    """Does."""


def options(**names: str):
    """Does."""


def nameless(x: int, /):
    """Does."""


def undocumented(x: int):
    return x


def unreadable(x: "Nowhere"):  # noqa: F821
    """Does."""


def odd_work(work: str):
    """Does."""


def odd_key(idempotency_key: int):
    """Does."""


def field_default(x: int = Field(3)):
    """Does."""


def strange(x: subprocess.Popen):
    """Does."""


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (untyped, "Annotate it, such as x: str"),
        (many, r"take a list: names: list\[str\]"),
        (options, "Name each"),
        (nameless, "remove the '/'"),
        (undocumented, "Write one, or function_tool"),
        (lambda x: x, "name="),
        (unreadable, "top of the module"),
        (odd_work, "work: Work"),
        (odd_key, "idempotency_key: str"),
        (field_default, "Annotated"),
        (strange, "Use JSON's types"),
    ],
)
def test_a_signature_that_no_model_could_fill_is_refused_when_it_is_defined(function, says):
    with pytest.raises(UserError, match=says):
        function_tool(function)


def test_async_functions_are_run_and_cancelled_when_their_time_is_over():
    ended = []

    async def wait(seconds: float) -> int:
        """Waits."""
        try:
            await asyncio.sleep(seconds)
        finally:
            ended.append(seconds)
        return 7

    tool = function_tool(wait)
    assert tool.call({"seconds": 0}, WORK) == "7"
    started = time.monotonic()
    with pytest.raises(ToolError) as e:
        tool.call({"seconds": 60}, Work(task=WORK.task, text={}, seconds=0.05))
    assert (e.value.error_class, e.value.safe_to_repeat) == ("timeout", None)
    assert time.monotonic() - started < 20
    assert ended == [0, 60]


@pytest.mark.parametrize(
    ("raised", "error_class", "message"),
    [
        (ValueError("no such day"), "failed", "ValueError: no such day"),
        (ConnectionResetError("gone"), "connection", "ConnectionResetError: gone"),
        (TimeoutError("late"), "timeout", "TimeoutError: late"),
        (ModelError("rate_limit", "slow down"), "rate_limit", "slow down"),
        (ModelError("quota", "empty"), "failed", "empty"),
        (ToolError("permission", "ask Ann"), "permission", "ask Ann"),
        (SystemExit(3), "failed", "SystemExit: 3"),
        (ValueError("x" * 100_000), "failed", "characters)"),
    ],
)
def test_what_a_function_raises_is_told_to_the_model_with_its_class(raised, error_class, message):
    def fail() -> str:
        """Fails."""
        raise raised

    for effect, safe in (("outside", None), ("none", True)):
        with pytest.raises(ToolError) as e:
            function_tool(fail, effect=effect).call({}, WORK)
        assert e.value.error_class == error_class
        assert message in str(e.value)
        assert len(str(e.value)) < 3_000
        if not isinstance(raised, ToolError):
            assert e.value.safe_to_repeat is safe


@pytest.mark.parametrize("raised", [BudgetSpent("hours", "over"), TrialError("sandbox", "gone", "it died")])
def test_the_end_of_the_run_and_a_dead_sandbox_are_no_answers_to_a_model(raised):
    def fail() -> str:
        """Fails."""
        raise raised

    with pytest.raises(type(raised)):
        function_tool(fail).call({}, WORK)


def test_a_result_that_is_no_json_is_named():
    def handle() -> object:
        """Opens."""
        return object()

    with pytest.raises(ToolError, match="returned a object, which is no JSON"):
        function_tool(handle).call({}, WORK)


def test_a_fingerprint_holds_the_source_of_a_tool_and_the_settings_of_its_object():
    @dataclass(frozen=True)
    class Shop:
        url: str

        def order(self, item: str) -> str:
            """Orders."""
            return f"{self.url}/{item}"

    here, there = (function_tool(Shop(url).order) for url in ("http://here", "http://there"))
    assert there.call({"item": "tea"}, WORK) == "http://there/tea"
    assert "http://there" in repr(describe(there))
    assert describe(here) != describe(there)
    assert "Use it once." in repr(describe(function_tool(buy)))
    assert describe(function_tool(buy)) == describe(function_tool(buy))


def test_tools_are_shown_in_the_same_order_however_they_were_listed():
    tools = [function_tool(buy, name=name) for name in ("b", "a", "c")]
    assert [s.name for s in specs(tools)] == ["a", "b", "c"]
    assert specs(tools) == specs(reversed(tools))


def test_two_tools_of_one_name_and_names_that_providers_refuse_are_refused():
    with pytest.raises(UserError, match="two tools are named 'buy'"):
        specs([function_tool(buy), function_tool(buy)])
    for name in ("a b", "", "x" * 65, "é", "a\n"):
        with pytest.raises(UserError, match="64"):
            function_tool(buy, name=name or " ")


# ── arguments ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_arguments_that_do_not_fit_are_answered_with_what_to_correct():
    tool = function_tool(buy)
    said = refusal(tool, at={"x": "one"}, colour="green", tempo="fast")

    assert "order missing" in said
    assert '$.at.x: seen "one"; wanted: type' in said
    assert '$.colour: seen "green"; wanted: enum ["red", "blue"]' in said
    assert "no such argument as tempo; there are: at, colour, json, note, order, speed" in said
    assert said.endswith("required: at, colour, order; optional: json, note, speed.")


@pytest.mark.parametrize(
    ("malformed", "says"),
    [
        ('{"a": 1', "Expecting ',' delimiter at line 1 column 8"),
        ("[1]", r"it is a list, \[1\]"),
        ('{"a": NaN}', "NaN is no JSON"),
        ("{" * 5, "line 1 column 2"),
        ("[" * 100_000, "nested too deep"),
        ("1" * 10_000, "not a JSON object"),
    ],
)
def test_malformed_arguments_are_answered_with_where_they_break(malformed, says):
    with pytest.raises(ToolError, match=says) as e:
        arguments_of(function_tool(buy), call(malformed=malformed))
    assert (e.value.error_class, e.value.safe_to_repeat) == ("arguments", True)
    assert len(str(e.value)) < 1_500


def test_a_correction_never_repeats_megabytes():
    def save(text: Literal["a"], many: list[int]) -> str:
        """Saves."""

    assert len(refusal(function_tool(save), text="x" * 3_000_000, many=["y" * 1000] * 1000)) < 3_000
    assert len(refusal(function_tool(save), **{f"k{n}" * 50: 1 for n in range(500)})) < 3_000
    assert len(refusal(function_tool(save), text={"a" * 100_000: {"b" * 100_000: 1}}, many=[])) < 3_000


@settings(max_examples=60, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5))
def test_whatever_a_model_writes_the_function_gets_what_fits_or_the_model_a_correction(value):
    def keep(x: list[int] | None) -> str:
        """Keeps."""
        assert x is None or all(type(n) is int for n in x)
        return "kept"

    tool = function_tool(keep)
    fits = value is None or (isinstance(value, list) and all(type(n) is int for n in value))
    if fits:
        assert tool.call(arguments_of(tool, call(x=value)), WORK) == "kept"
    else:
        assert "$.x" in refusal(tool, x=value)


def test_what_only_pydantic_can_see_is_a_correction_too():
    def visit(day: Annotated[str, Field(pattern="^[0-9]+$")]) -> str:
        """Visits."""

    class Even(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def even(cls, n):
            if n % 2:
                raise ValueError("must be even")
            return n

    def count(even: Even) -> str:
        """Counts."""

    assert "pattern" in refusal(function_tool(visit), day="monday")
    with pytest.raises(ToolError, match=r"even.*n.*must be even") as e:
        function_tool(count).call({"even": {"n": 3}}, WORK)
    assert (e.value.error_class, e.value.safe_to_repeat) == ("arguments", True)


def test_a_schema_that_refers_elsewhere_fetches_nothing():
    @dataclass
    class Odd:
        parameters: dict
        name: str = "odd"
        description: str = "Odd."
        effect: str = "none"

    for schema in (
        {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/schema"}}},
        {"type": "object", "properties": {"a": {"$ref": "#/properties/a"}}},
    ):
        with pytest.raises(ToolError, match="own schema cannot be applied"):
            arguments_of(Odd(schema), call(a=1))


# ── answers ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("schema", [Order, Order.model_json_schema()])
def test_an_answer_is_kept_as_canonical_json_with_or_without_a_fence(schema):
    plain = '{ "item": "té",\n "count": 2 }'
    for text in (plain, f"```json\n{plain}\n```", f"\n```\n{plain}\n```\n"):
        assert check_answer(schema, text) == '{"count":2,"item":"té"}'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Here you are: {}", "not JSON: Expecting value at line 1 column 1"),
        ('```json\n{"item": "a"}\n```\nDone!', "not JSON"),
        ('{"count": 1}', "item missing"),
        ('{"item": "a", "count": "many"}', 'count: seen "many"'),
        ("", "not JSON"),
        ('{"item": "a", "count": NaN}', "NaN is no JSON"),
    ],
)
def test_an_answer_of_another_shape_is_answered_with_what_to_correct(text, says):
    with pytest.raises(ToolError, match=says) as e:
        check_answer(Order, text)
    assert (e.value.error_class, e.value.safe_to_repeat) == ("arguments", True)
    assert "required: item; optional: count" in str(e.value)


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_canonical_json_is_the_same_value_and_its_own_canonical_form(value):
    once = check_answer({}, json.dumps(value, indent=1))
    assert parse_json(once) == value
    assert check_answer({}, once) == once


def test_an_answer_can_be_handed_in_through_a_tool():
    tool = submit_tool(Order)
    [spec] = specs([tool])
    assert spec.name == "submit"
    assert spec.parameters["required"] == ["item"]
    assert tool.call(arguments_of(tool, call(item="tea")), WORK) == '{"item":"tea"}'
    assert "item missing" in refusal(tool)


def test_an_answer_that_is_no_object_is_handed_in_as_one_argument():
    tool = submit_tool({"type": "array", "items": {"$ref": "#/$defs/n"}, "$defs": {"n": {"type": "integer"}}})
    specs([tool])
    assert tool.call(arguments_of(tool, call(answer=[1, 2])), WORK) == "[1,2]"
    assert '$.answer[0]: seen "a"' in refusal(tool, answer=["a"])


def test_what_is_no_schema_is_refused_when_it_is_declared():
    with pytest.raises(UserError, match="the schema of the answer: not a JSON schema"):
        submit_tool({"type": "objekt"})


# ── skills ─────────────────────────────────────────────────────────────────────────────────────────────────────

SKILLED = {
    "prompts/solve.md": "# user\n{{ task }}\n",
    "skills/dates/SKILL.md": "---\nname: dates\ndescription: How to write dates.\n---\nYear first.\n",
    "skills/dates/months.md": "January, February",
    "skills/secrets/SKILL.md": "---\nname: secrets\ndescription: Others.\n---\nQuiet.\n",
}


def test_a_skill_is_read_when_it_is_asked_for_and_says_which_version_it_is():
    tool = skill_tool(SKILLED)
    [spec] = specs([tool])
    assert spec.parameters["properties"]["name"]["enum"] == ["dates", "secrets"]
    assert "Year first" not in json.dumps(spec.parameters) + spec.description
    assert tool.effect == "none"

    said = tool.call(arguments_of(tool, call(name="dates")), WORK).splitlines()
    assert said[0] == f"skill dates, version {skill_version(SKILLED, 'dates')}"
    assert said[1] == "further files: months.md"
    assert said[-1] == "Year first."


def test_another_text_of_a_skill_is_another_version():
    edited = {**SKILLED, "skills/dates/SKILL.md": SKILLED["skills/dates/SKILL.md"] + "Day last.\n"}
    assert skill_version(edited, "dates") != skill_version(SKILLED, "dates")
    assert skill_version(edited, "secrets") == skill_version(SKILLED, "secrets")


def test_the_files_of_a_skill_are_read_and_none_beside_it():
    tool = skill_tool(SKILLED)
    first, *_, last = tool.call({"name": "dates", "path": "months.md"}, WORK).splitlines()
    assert first.endswith(", file months.md")
    assert last == "January, February"
    for path in ("../secrets/SKILL.md", "/etc/passwd", "../../prompts/solve.md", "./months.md", "nothing.md"):
        with pytest.raises(ToolError, match="has no file") as e:
            tool.call({"name": "dates", "path": path}, WORK)
        assert e.value.error_class == "not_found"
    with pytest.raises(ToolError, match="there are: dates, secrets"):
        tool.call({"name": "../skills/dates"}, WORK)


def test_a_version_without_skills_has_no_tool_for_them():
    assert skill_tool({"prompts/solve.md": "# user\n{{ task }}\n"}) is None
