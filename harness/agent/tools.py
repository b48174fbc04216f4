"""Tools from a user's own functions, the skills of a version, and answers of a declared shape.

What a model writes as arguments is checked here, before anything is done, and what it is told about them is a
correction: where, what was seen, what is wanted.
"""

import asyncio
import functools
import hashlib
import inspect
import json
import re
import warnings
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, PydanticJsonSchemaWarning
from pydantic_core import PydanticSerializationError, to_json

import harness
from harness.errors import ToolError, TrialError, UserError, boundary
from harness.protocols import Tool, ToolSpec, Work
from harness.text import Skill, skills
from traces.records import Effect, ToolCall

if TYPE_CHECKING:  # beside a notebook it takes a second to import (its check of internationalised addresses does)
    from jsonschema.exceptions import ValidationError as Misfit

WORDING = Path(harness.__file__).parent / "text" / "tools"
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
EFFECTS: tuple[Effect, ...] = get_args(Effect)

LONGEST_QUOTE = 200
"""Characters of what a model wrote that it is shown again in a correction."""
LONGEST_ANSWER = 100_000
"""Characters of an answer that is handed in; more of a result is not kept."""
MOST_FAULTS = 5
"""That one correction names; more would not be read."""
LONGEST_FAILURE = 2_000
"""Characters of what a failed tool said."""


def specs(tools: Iterable[Tool]) -> tuple[ToolSpec, ...]:
    """*tools* as a model is shown them, in alphabetical order: the same tools make the same prompt, which a provider
    then finds in its cache.

    Raises:
        UserError: two share a name, or a provider would refuse one.
    """
    shown: dict[str, ToolSpec] = {}
    for tool in tools:
        if not NAME.fullmatch(tool.name):
            raise UserError(
                f"a tool is named {tool.name!r}, and providers refuse that. Give it a name of letters, digits, '_' and "
                "'-', at most 64 of them: function_tool(fn, name=…)"
            )
        if tool.name in shown:
            raise UserError(
                f"two tools are named {tool.name!r}, so a call of it could mean either. Rename one: "
                "function_tool(fn, name=…)"
            )
        if tool.parameters.get("type") != "object":
            raise UserError(f"the parameters of tool {tool.name!r} are no JSON schema of an object; write type: object")
        check_schema(tool.parameters, f"the parameters of tool {tool.name!r}")
        shown[tool.name] = ToolSpec(tool.name, tool.description, tool.parameters)
    return tuple(shown[name] for name in sorted(shown))


# ── what a model wrote ─────────────────────────────────────────────────────────────────────────────────────────


def arguments_of(tool: Tool, call: ToolCall) -> dict[str, Any]:
    """The arguments of *call*, which fit ``tool.parameters``.

    Raises:
        ToolError: they do not; tells the model what to correct. Nothing was done.
    """
    again = f"Nothing was done. Call {tool.name} again with {_wanted(tool.parameters)}"
    if call.malformed:
        fault = _json_fault(call.malformed)
        raise ToolError("arguments", f"The arguments are not a JSON object: {fault}. {again}", safe_to_repeat=True)
    if faults := _misfits(tool.parameters, call.arguments):
        raise ToolError("arguments", f"The arguments do not fit:\n{faults}\n{again}", safe_to_repeat=True)
    return call.arguments


def check_answer(schema: type[BaseModel] | Mapping[str, Any], text: str) -> str:
    """The answer *text* as canonical JSON (keys in order, no white space). A Markdown fence around it is taken off.

    Raises:
        ToolError: it is no JSON, or does not fit *schema*; tells the model what to correct.
    """
    shape = schema_of(schema)
    again = f"Answer again with JSON alone: {_wanted(shape)}"
    fenced = FENCE.fullmatch(text)
    body = fenced[1] if fenced else text
    try:
        value = parse_json(body)
    except ValueError:
        fault = f"The answer is not JSON: {_json_fault(body)}. {again}"
        raise ToolError("arguments", fault, safe_to_repeat=True) from None
    return _canonical(schema, shape, value, again)


FENCE = re.compile(r"\s*```[\w-]*[ \t]*\r?\n(.*?)\r?\n[ \t]*```\s*", re.DOTALL)


def parse_json(text: str) -> Any:
    """The value that *text* stands for. Raises ``ValueError``, also for NaN, and for lists nested a thousand deep."""
    try:
        return json.loads(text, parse_constant=_no_such_number)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _no_such_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def schema_of(schema: type[BaseModel] | Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema of an answer, whether it was given as one or as a pydantic model.

    Raises:
        UserError: it is no JSON schema.
    """
    shape = schema.model_json_schema() if isinstance(schema, type) else dict(schema)
    check_schema(shape, "the schema of the answer")
    return shape


def check_schema(schema: Mapping[str, Any], whose: str) -> None:
    """Raise ``UserError``, which begins with *whose*, for what is no JSON schema."""
    from jsonschema.exceptions import SchemaError

    try:
        _validator(_dumped(schema))
    except SchemaError as e:
        raise UserError(
            f"{whose}: not a JSON schema, at {_quote(e.json_path)}: {_quote(e.message)}. Nothing could be checked "
            "against it; mend it there"
        ) from e
    except (TypeError, ValueError, RecursionError) as e:
        raise UserError(f"{whose}: not a JSON schema ({_quote(str(e))}); write it with JSON's own values") from e


def _canonical(schema: type[BaseModel] | Mapping[str, Any], shape: Mapping[str, Any], value: Any, again: str) -> str:
    faults = _misfits(shape, value)
    if not faults and isinstance(schema, type):
        try:
            schema.model_validate(value)
        except ValidationError as e:
            faults = _pydantic_faults(e)
    if faults:
        raise ToolError("arguments", f"The answer does not fit:\n{faults}\n{again}", safe_to_repeat=True)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


@functools.lru_cache(maxsize=512)  # compiled once a schema, and by text, since a tool need not be hashable
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for
    from referencing.jsonschema import EMPTY_REGISTRY

    value = json.loads(schema)
    kind = validator_for(value, default=Draft202012Validator)
    kind.check_schema(value)
    return kind(value, registry=EMPTY_REGISTRY)  # the default one would fetch what a schema refers to


def _dumped(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, sort_keys=True)


def _misfits(schema: Mapping[str, Any], value: Any) -> str:
    """A line for each way in which *value* does not fit, at most ``MOST_FAULTS``; empty if it does."""
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    try:
        errors = [best_match([error]) for error in _validator(_dumped(schema)).iter_errors(value)]
    except (Unresolvable, RecursionError) as e:
        raise ToolError("failed", f"the tool's own schema cannot be applied: {_quote(str(e))}") from e
    return _listed(_misfit(error) for error in errors)


def _misfit(error: "Misfit") -> str:
    seen, wanted = cast("Any", error.instance), cast("Any", error.validator_value)
    rule = str(error.validator)
    at = _quote(error.json_path)
    if rule == "required":
        return f"{at}: {_names(name for name in wanted if name not in seen)} missing"
    if rule == "additionalProperties" and not wanted:
        known = cast("Mapping[str, Any]", error.schema).get("properties", {})
        return f"{at}: no such argument as {_names(set(seen) - set(known))}; there are: {_names(known)}"
    return f"{at}: seen {_quote(_json(seen))}; wanted: {rule} {_quote(_json(wanted))}"


def _pydantic_faults(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False)
    return _listed(
        f"{_quote('.'.join(['$', *map(str, e['loc'])]))}: {_quote(e['msg'])}; seen {_quote(_json(e['input']))}"
        for e in problems
    )


def _listed(faults: Iterable[str]) -> str:
    lines = list(dict.fromkeys(f"- {fault}" for fault in faults))
    more = [f"- and {len(lines) - MOST_FAULTS} more"] if len(lines) > MOST_FAULTS else []
    return "\n".join([*lines[:MOST_FAULTS], *more])


def _wanted(schema: Mapping[str, Any]) -> str:
    if schema.get("type", "object") != "object":
        return f"a value that fits {_quote(_json(schema))}."
    properties = cast("Mapping[str, Any]", schema.get("properties", {}))
    required = cast("Sequence[str]", schema.get("required", ()))
    return (
        f"a JSON object; required: {_names(required)}; optional: {_names(n for n in properties if n not in required)}."
    )


def _names(names: Iterable[str]) -> str:
    return _quote(", ".join(sorted(map(str, names))) or "none", 2 * LONGEST_QUOTE)


def _json_fault(text: str) -> str:
    """Where *text* stops being a JSON object."""
    try:
        value = parse_json(text)
    except json.JSONDecodeError as e:
        around = text[max(e.pos - 40, 0) : e.pos + 40]
        return f"{e.msg} at line {e.lineno} column {e.colno}, near {around!r}"
    except ValueError as e:
        return _quote(str(e))
    return f"it is a {KINDS.get(type(value), 'value')}, {_quote(_json(value))}"


KINDS: Mapping[type, str] = {list: "list", str: "string", int: "number", float: "number", bool: "boolean"}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=repr)


def _quote(text: str, longest: int = LONGEST_QUOTE) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"


# ── functions ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class FunctionTool:
    """A user's own function."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    effect: Effect
    function: Callable[..., Any]
    """Shown in the fingerprint with its source."""
    arguments: type[BaseModel] = field(repr=False)
    """What the arguments are read with; a field for each, its alias the parameter's name."""
    takes_work: tuple[str, ...] = ()
    """Parameters that are given the ``Work``."""
    takes_key: bool = False
    """It has a parameter for the idempotency key."""

    def call(self, arguments: Mapping[str, Any], work: Work) -> str:
        given = {**self._read(arguments), **dict.fromkeys(self.takes_work, work)}
        if self.takes_key:
            given["idempotency_key"] = work.idempotency_key
        try:
            with boundary("runner"):
                return _told(_finished(self.function(**given), work.seconds))
        except TrialError as e:
            raise _tool_error(e, self.effect) from e.__cause__

    def _read(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            read = self.arguments.model_validate(arguments)
        except ValidationError as e:
            text = f"The arguments of {self.name} do not fit:\n{_pydantic_faults(e)}\nNothing was done."
            raise ToolError("arguments", text, safe_to_repeat=True) from e
        return {
            info.alias or name: getattr(read, name)
            for name, info in self.arguments.model_fields.items()
            if name in read.model_fields_set
        }


def function_tool(
    function: Callable[..., Any],
    *,
    effect: Effect = "outside",
    name: str | None = None,
    description: str | None = None,
) -> Tool:
    """*function* as a tool; its signature is the schema, its docstring the description.

    A parameter annotated ``Work`` is given what the call may use, and ``idempotency_key: str`` what tells a repeat from
    a second wish; the model sees neither. What it returns is told to the model, as JSON where it is no string. What it
    raises is a ``ToolError``. Unless *effect* says otherwise, it counts as changing the world, so that nobody repeats
    it.

    Raises:
        UserError: the signature cannot be shown to a model; says what to write.
    """
    plain = _plain(function)
    called = name or getattr(plain, "__name__", "")
    if not NAME.fullmatch(called):
        raise UserError(
            f"a tool cannot be named {called!r}: providers take letters, digits, '_' and '-', at most 64. "
            "Write function_tool(fn, name='…')"
        )
    if effect not in EFFECTS:
        raise UserError(f"effect={effect!r} of tool {called!r} is none of: {', '.join(EFFECTS)}")
    said = (description or inspect.getdoc(plain) or "").strip()
    if not said or (not description and not isinstance(plain, FunctionType)):
        raise UserError(
            f"the function of tool {called!r} has no docstring, so a model could not tell when to call it. Write one, "
            "or function_tool(fn, description='…')"
        )
    if isinstance(function, MethodType):  # so that a fingerprint sees the source of the one and the settings of both
        function = functools.partial(function.__func__, function.__self__)
    shown, takes_work = _parameters(function, called)
    takes_key = shown.pop("idempotency_key", None) is not None
    arguments = _arguments_model(called, shown)
    return FunctionTool(
        called, said, _schema(arguments, called), effect, function, arguments, tuple(takes_work), takes_key
    )


def _plain(function: Callable[..., Any]) -> Any:
    while isinstance(function, functools.partial):
        function = cast("Callable[..., Any]", function.func)
    return function.__func__ if isinstance(function, MethodType) else function


def _parameters(function: Callable[..., Any], tool: str) -> tuple[dict[str, inspect.Parameter], list[str]]:
    """The parameters that a model or the idempotency key fills, and the names of those that take the ``Work``."""
    try:
        signature = inspect.signature(function, eval_str=True)
    except (NameError, AttributeError, SyntaxError) as e:
        raise UserError(
            f"an annotation of tool {tool!r} cannot be read ({e}), so no schema can be made. Define or import its type "
            "at the top of the module, not under TYPE_CHECKING or inside of a function"
        ) from e
    except (ValueError, TypeError) as e:
        raise UserError(f"tool {tool!r} has no signature ({e}). Wrap it in a function with typed parameters") from e
    takes_work = [name for name, parameter in signature.parameters.items() if _takes_work(parameter)]
    shown = {name: parameter for name, parameter in signature.parameters.items() if name not in takes_work}
    for parameter in shown.values():
        if fault := _unfit(parameter):
            raise UserError(f"parameter {parameter.name!r} of tool {tool!r} {fault}")
    return shown, takes_work


def _takes_work(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
        return False
    named = parameter.name == "work" and annotation is parameter.empty
    return named or annotation is Work or Work in get_args(annotation)


def _unfit(parameter: inspect.Parameter) -> str:
    """Why no model could fill it in, and what to write instead; empty if one could."""
    name, untyped = parameter.name, parameter.annotation is parameter.empty
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return f"stands for any number of them, which no schema describes. Name each, or take a list: {name}: list[str]"
    if parameter.kind is parameter.POSITIONAL_ONLY:
        return "cannot be given by its name: remove the '/' after it"
    if name == "work":
        return "has the name of what a tool may use. Write work: Work, or rename it"
    if name == "idempotency_key":
        is_text = untyped or parameter.annotation is str
        return "" if is_text else "is filled in with a string. Write idempotency_key: str"
    if untyped:
        return f"has no type, so a model could not know what to write. Annotate it, such as {name}: str"
    if isinstance(parameter.default, FieldInfo):
        return f"has a Field as its default, which a plain call would get. Write {name}: Annotated[…, Field(…)]"
    return ""


def _arguments_model(tool: str, shown: Mapping[str, inspect.Parameter]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for n, (name, parameter) in enumerate(shown.items()):
        default = ... if parameter.default is parameter.empty else parameter.default
        # under an alias, since pydantic keeps some names, such as json or _x, for itself
        fields[f"argument_{n}"] = (parameter.annotation, Field(default, alias=name))
    try:
        return create_model("Arguments", __config__=ConfigDict(extra="forbid"), **fields)
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError) as e:
        raise UserError(
            f"a parameter of tool {tool!r} has a type that cannot be read from JSON: {_quote(str(e))}. Use JSON's "
            "types, Literal, an enum, a dataclass or a pydantic model"
        ) from e


class _Untitled(GenerateJsonSchema):
    """A schema without the titles that only repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _schema(arguments: type[BaseModel], tool: str) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PydanticJsonSchemaWarning)  # a default that is no JSON is not shown
            schema = arguments.model_json_schema(schema_generator=_Untitled)
    except PydanticUserError as e:
        raise UserError(
            f"a parameter of tool {tool!r} has a type without a JSON schema: {_quote(str(e))}. Use JSON's types, "
            "Literal, an enum, a dataclass or a pydantic model"
        ) from e
    return {key: value for key, value in schema.items() if key != "title"}


def _finished(result: Any, seconds: float) -> Any:
    """*result*, awaited if it is to be; cancelled when its time is over."""
    if not inspect.isawaitable(result):
        return result
    return asyncio.run(_within(seconds, result))


async def _within(seconds: float, result: Awaitable[Any]) -> Any:
    async with asyncio.timeout(seconds):
        return await result


def _told(result: Any) -> str:
    if isinstance(result, str):
        return result
    try:
        return to_json(result, inf_nan_mode="strings", bytes_mode="base64").decode()
    except PydanticSerializationError as e:
        kind = type(result).__name__
        raise ToolError("failed", f"it was done, but returned a {kind}, which is no JSON: {_quote(str(e))}") from e


def _tool_error(error: TrialError, effect: Effect) -> Exception:
    """What a model is told about what a function raised. A dead sandbox stays one: it is nobody's answer."""
    cause = error.__cause__
    if isinstance(cause, ToolError):
        return cause
    if error.boundary == "sandbox":
        return error
    safe = True if effect == "none" else None
    message = _quote(str(error), LONGEST_FAILURE)
    if isinstance(cause, TimeoutError):
        return ToolError("timeout", message, safe_to_repeat=safe)
    known = error.error_class in ("connection", "rate_limit", "timeout")
    return ToolError(error.error_class if known else "failed", message, safe_to_repeat=safe)


# ── skills ─────────────────────────────────────────────────────────────────────────────────────────────────────


def skill_version(text: Mapping[str, str], name: str) -> str:
    """Which version of the skill *name* this is: a digest of its ``SKILL.md``."""
    return hashlib.sha256(text[f"skills/{name}/SKILL.md"].encode()).hexdigest()[:12]


@dataclass(frozen=True, eq=False)
class SkillTool:
    """Reads a skill of the version to the model, when it asks."""

    text: Mapping[str, str] = field(repr=False)
    """The version's files; no part of a fingerprint, since it is what a night changes."""
    name: str = "skill"
    effect: Effect = "none"

    @functools.cached_property
    def _skills(self) -> dict[str, Skill]:
        return skills(self.text)

    @property
    def description(self) -> str:
        return _wording("skill")

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {
            "type": "object",
            "properties": {
                "name": {"type": "string", "enum": list(self._skills)},
                "path": {"type": "string", "description": "A further file of the skill, as its list names it."},
            },
            "required": ["name"],
            "additionalProperties": False,
        }

    def call(self, arguments: Mapping[str, Any], work: Work) -> str:
        name, path = arguments["name"], arguments.get("path", "")
        if name not in self._skills:
            raise ToolError("not_found", f"no skill {_quote(name)!r}; there are: {_names(self._skills)}")
        first = f"skill {name}, version {skill_version(self.text, name)}"
        folder = f"skills/{name}/"
        files = {file.removeprefix(folder): source for file, source in self.text.items() if file.startswith(folder)}
        if path and path not in files:
            raise ToolError("not_found", f"skill {name} has no file {_quote(path)!r}; there are: {_names(files)}")
        if path and path != "SKILL.md":
            return f"{first}, file {path}\n\n{files[path]}"
        further = sorted(files.keys() - {"SKILL.md"})
        listing = f"\nfurther files: {', '.join(further)}" if further else ""
        return f"{first}{listing}\n\n{self._skills[name].body}"


def skill_tool(text: Mapping[str, str]) -> Tool | None:
    """The tool that loads the skills of a version; ``None`` where it has none."""
    return SkillTool(text) if skills(text) else None


@functools.cache
def _wording(name: str) -> str:
    return (WORDING / f"{name}.md").read_text(encoding="utf-8").strip()


# ── answers of a declared shape ────────────────────────────────────────────────────────────────────────────────

SUBMIT = "submit"
ANSWER = "answer"
"""The one argument that holds the answer, where it is to be no object."""


@dataclass(frozen=True, eq=False)
class SubmitTool:
    """Takes the answer, for models that cannot be held to a schema otherwise. What it returns is the output."""

    schema: type[BaseModel] | Mapping[str, Any]
    name: str = SUBMIT
    effect: Effect = "none"

    @functools.cached_property
    def _shape(self) -> dict[str, Any]:
        return schema_of(self.schema)

    @property
    def description(self) -> str:
        return _wording("submit")

    @property
    def parameters(self) -> Mapping[str, Any]:
        if self._shape.get("type") == "object":
            return self._shape
        definitions = {key: self._shape[key] for key in ("$defs", "definitions") if key in self._shape}
        inner = {key: value for key, value in self._shape.items() if key not in definitions}
        return {"type": "object", "properties": {ANSWER: inner}, "required": [ANSWER], **definitions}

    def call(self, arguments: Mapping[str, Any], work: Work) -> str:
        value = dict(arguments) if self._shape.get("type") == "object" else arguments.get(ANSWER)
        again = f"Call {self.name} again with {_wanted(self.parameters)}"
        answer = _canonical(self.schema, self._shape, value, again)
        if len(answer) > LONGEST_ANSWER:
            text = f"The answer has {len(answer):,} characters, and {LONGEST_ANSWER:,} are taken. {again}, shorter."
            raise ToolError("arguments", text, safe_to_repeat=True)
        return answer


def submit_tool(schema: type[BaseModel] | Mapping[str, Any]) -> Tool:
    """The tool that takes an answer of this shape; its result is the answer as canonical JSON.

    Raises:
        UserError: *schema* is no JSON schema.
    """
    tool = SubmitTool(schema)
    check_schema(tool.parameters, "the schema of the answer")
    return tool
