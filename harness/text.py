"""Harness text: the prompts, skills and rubrics of one version, read, validated and rendered.

A version's text is a mapping ``path → text``, with paths relative to the subject. Nothing here opens a file. What
validates also renders: a template may fill in placeholders and ask ``{% if name %}``, and nothing else that Jinja2
can do, so there is nothing left to fail when a trial has been bought.
"""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, Any, Literal, cast

import frontmatter
import yaml
from jinja2 import StrictUndefined, Template, TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from harness.protocols import Message


class InvalidText(Exception):
    """Text that does not validate or render; ``problems`` has a sentence for each reason, with file and line."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Slots:
    """The placeholders that a prompt is filled with."""

    must: frozenset[str]
    """Each has to be shown always: a prompt that leaves it out would ask every task the same."""
    may: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        return self.must | self.may


SOLVE = "prompts/solve.md"
PROMPTS: Mapping[str, Slots] = MappingProxyType({SOLVE: Slots(frozenset({"task"}), may=frozenset({"skills"}))})
"""The prompts that a harness has to hold, unless its runner asks for others."""


def validate(text: Mapping[str, str], prompts: Mapping[str, Slots] = PROMPTS) -> None:
    """Check all of a version's text.

    *prompts* are the ones that the runner fills in. A prompt that is not among them may use any of their placeholders.

    Raises:
        InvalidText: with everything that is wrong.
    """
    known = Slots(frozenset(), may=frozenset[str]().union(*(slots.names for slots in prompts.values())))
    problems = [_missing(path) for path in prompts if path not in text]
    for path, source in sorted(text.items()):
        match path.split("/"):
            case ["prompts", name] if name.endswith(".md"):
                problems += _prompt_problems(path, source, prompts.get(path, known))
            case ["skills", name, "SKILL.md"]:
                problems += _skill_problems(name, source)
            case ["skills", name, _, *_]:
                if f"skills/{name}/SKILL.md" not in text:
                    problems.append(f"{path}: a skill is a folder with a SKILL.md, and this one has none")
            case ["rubrics", name] if name.endswith(".toml"):
                problems += _rubric_problems(path, source)
            case _:
                places = "prompts/*.md, skills/NAME/SKILL.md and rubrics/*.toml"
                problems.append(f"{path}: not a place for harness text, which is {places}")
    if problems:
        raise InvalidText(problems)


def _missing(path: str) -> str:
    return f"{path}: there is no such file, and the runner needs it"


# ── prompts ────────────────────────────────────────────────────────────────────────────────────────────────────

_HEADERS: Mapping[str, Literal["system", "user", "assistant"]] = MappingProxyType(
    {"# system": "system", "# user": "user", "# assistant": "assistant"}
)
_LOOKALIKE = re.compile(r"[ \t]*#[ \t]*(?:system|user|assistant)[ \t]*:?[ \t]*", re.IGNORECASE)
_ESCAPED = re.compile(rf"\\+{_LOOKALIKE.pattern}", re.IGNORECASE)


@dataclass(frozen=True)
class _Part:
    """One message of a chat template, as it stands in the file."""

    role: Literal["system", "user", "assistant"]
    source: str
    header: int
    """The line of the file that starts the message."""
    line: int
    """The line where ``source`` begins."""


@dataclass(frozen=True)
class _Turn:
    """One message, ready to be filled in."""

    part: _Part
    template: Template
    uses: Mapping[str, int]
    """Placeholder → the first line of the file that uses it."""
    shows: frozenset[str]
    """Placeholders that it always shows, whatever the conditions come to."""
    constant: str | None
    """What it renders to when it uses nothing."""


@dataclass(frozen=True)
class _Chat:
    turns: tuple[_Turn, ...]
    faults: tuple[tuple[int, str], ...]
    """Line and what is wrong with it, whatever the placeholders are filled with."""


def parse_chat(source: str, path: str = "prompt") -> list[Message]:
    """The messages of a chat template, not filled in: their contents are template source.

    White space around a message is no part of it. ``write_chat`` is the inverse.

    Raises:
        InvalidText: text before the first message, a line that is almost a header, or messages in an order that a
            provider would refuse.
    """
    parts, faults = _split(source)
    if faults:
        raise InvalidText([f"{path}:{line}: {what}" for line, what in faults])
    return [Message(part.role, part.source) for part in parts]


def write_chat(messages: Iterable[Message]) -> str:
    """The chat template with these messages, whose contents are template source (see ``escape``).

    A line of a message that looks like a header is written with a backslash before it, as Markdown does.
    """
    return "\n".join(f"# {m.role}\n{_with_backslashes(_tidy(m.content))}\n" for m in messages)


def escape(literal: str) -> str:
    """Template source that renders to exactly *literal*: for text of a task or a model that goes into an example."""
    body = literal.strip()
    start = literal.find(body) if body else len(literal)
    around = literal[:start], literal[start + len(body) :]
    inside = _NEEDS_QUOTES.sub(lambda match: _quoted(match[0]), body)
    return "".join([_quoted(around[0]), inside, _quoted(around[1])])


_NEEDS_QUOTES = re.compile(r"\{(?=[{%#\r]|\Z)|\r")  # a brace that opens a tag, or would once a tag follows it


def _quoted(literal: str) -> str:
    return f"{{{{ {json.dumps(literal)} }}}}" if literal else ""


def _tidy(source: str) -> str:
    return source.replace("\r\n", "\n").replace("\r", "\n").strip()


def _with_backslashes(source: str) -> str:
    lines = source.split("\n")
    return "\n".join(f"\\{line}" if _LOOKALIKE.fullmatch(line) or _ESCAPED.fullmatch(line) else line for line in lines)


def _split(source: str) -> tuple[list[_Part], list[tuple[int, str]]]:
    lines = source.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    headers = [at for at, line in enumerate(lines) if line in _HEADERS]
    first = headers[0] if headers else len(lines)
    faults = [
        (at + 1, f"{line!r} is almost a message header; write it exactly, or put a backslash before it")
        for at, line in enumerate(lines)
        if line not in _HEADERS and _LOOKALIKE.fullmatch(line)
    ]
    if stray := [at for at in range(first) if lines[at].strip()]:
        faults.append((stray[0] + 1, "text before the first message; begin with a line '# system' or '# user'"))
    parts: list[_Part] = []
    for at, end in pairwise([*headers, len(lines)]):
        body = "\n".join(line[1:] if _ESCAPED.fullmatch(line) else line for line in lines[at + 1 : end])
        skipped = body[: len(body) - len(body.lstrip())].count("\n")
        parts.append(_Part(_HEADERS[lines[at]], body.strip(), at + 1, at + 2 + skipped))
    return parts, sorted([*faults, *_order_faults(parts)])


def _order_faults(parts: Sequence[_Part]) -> Iterator[tuple[int, str]]:
    """Any provider accepts: at most one system message, first; then user and assistant in turn; a user at the end."""
    if not parts:
        yield 1, "no message; begin with a line '# system' or '# user'"
        return
    for before, part in zip([None, *parts], parts, strict=False):
        if part.role == "system":
            if before:
                yield part.header, "a system message must be the first message"
        elif before and before.role == part.role:
            yield part.header, f"two {part.role} messages in a row; user and assistant take turns"
        elif part.role == "assistant" and (before is None or before.role == "system"):
            yield part.header, "the assistant cannot speak first; put a user message before it"
        if not part.source:
            yield part.header, f"the {part.role} message is empty; fill it or remove its header"
    if parts[-1].role != "user":
        yield parts[-1].header, "the last message must be a user message: it is the one that is answered"


_jinja = ImmutableSandboxedEnvironment(
    undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
)
_jinja.globals.clear()  # so that ``range`` is an unknown placeholder, like any other name

_ALLOWED = (
    nodes.Template,
    nodes.Output,
    nodes.TemplateData,
    nodes.Name,
    nodes.Const,
    nodes.If,
    nodes.And,
    nodes.Or,
    nodes.Not,
)


def _compile(part: _Part) -> _Turn | tuple[int, str]:
    """The message ready to be filled in, or the line that forbids it and why."""
    try:
        tree = _jinja.parse(part.source)
        uses: dict[str, int] = {}
        for node in tree.find_all(nodes.Node):
            line = part.line + node.lineno - 1
            if not isinstance(node, _ALLOWED):
                what = type(node).__name__
                return line, f"a template fills in {{{{ names }}}} and asks {{% if name %}}; {what} is neither"
            if isinstance(node, nodes.Name):
                uses[node.name] = min(line, uses.get(node.name, line))
            if isinstance(node, nodes.Const):
                str(node.value).encode()  # half a surrogate pair could not be sent
        template = _jinja.from_string(tree)
    except TemplateError as e:
        line = cast(int, getattr(e, "lineno", None) or 1)
        return part.line + line - 1, f"not a template that Jinja2 can read: {e.message}"
    except (ValueError, SyntaxError, RecursionError) as e:  # a number of 5,000 digits, 100 ifs in each other
        return part.line, f"not a template that Jinja2 can read: {type(e).__name__}"
    always = [node for output in tree.body if isinstance(output, nodes.Output) for node in output.nodes]
    shows = frozenset(node.name for node in always if isinstance(node, nodes.Name))
    return _Turn(part, template, uses, shows, None if uses else template.render())


@lru_cache(maxsize=512)  # a version's prompts are rendered for every trial
def _chat(source: str) -> _Chat:
    parts, faults = _split(source)
    compiled = [_compile(part) for part in parts]
    turns = tuple(turn for turn in compiled if isinstance(turn, _Turn))
    return _Chat(turns, tuple(sorted(faults + [fault for fault in compiled if not isinstance(fault, _Turn)])))


def _prompt_problems(path: str, source: str, slots: Slots) -> list[str]:
    chat = _chat(source)
    problems = [f"{path}:{line}: {what}" for line, what in chat.faults]
    uses = {name: line for turn in reversed(chat.turns) for name, line in turn.uses.items()}
    problems += [
        f"{path}:{line}: unknown placeholder {name!r}; known here: {', '.join(sorted(slots.names)) or 'none'}"
        for name, line in uses.items()
        if name not in slots.names
    ]
    problems += [
        f"{path}: {{{{ {name} }}}} is not always filled in, and without it a trial would not see its {name}"
        for name in sorted(slots.must.difference(*(turn.shows for turn in chat.turns)))
    ]
    return problems


def render(text: Mapping[str, str], path: str = SOLVE, **values: str) -> list[Message]:
    """The chat of one trial: the prompt at *path*, its placeholders filled with *values*.

    ``skills`` is filled in from the text itself. Values stand as they are: what looks like a template or a message
    header in them stays plain text. A system message that comes out empty (no skills, say) is left out.

    Raises:
        InvalidText: the prompt is missing or malformed, or a placeholder has no value; names it, file and line.
    """
    if path not in text:
        raise InvalidText([_missing(path)])
    chat = _chat(text[path])
    used = {name: line for turn in reversed(chat.turns) for name, line in turn.uses.items()}
    filled = {"skills": skill_index(text), **values} if "skills" in used else values
    problems = [f"{path}:{line}: {what}" for line, what in chat.faults]
    problems += [f"{path}:{line}: no value for placeholder {n!r}" for n, line in used.items() if n not in filled]
    if problems:
        raise InvalidText(problems)
    messages = [
        Message(t.part.role, t.template.render(filled) if t.constant is None else t.constant) for t in chat.turns
    ]
    return messages[1:] if messages[0].role == "system" and not messages[0].content.strip() else messages


# ── skills ─────────────────────────────────────────────────────────────────────────────────────────────────────

_FROZEN = ConfigDict(frozen=True, extra="forbid")
_Line = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
MOST_SKILL_LINES = 500


class SkillHeader(BaseModel):
    """The front matter of a ``SKILL.md``, as the Agent Skills specification has it: these six fields and no other."""

    model_config = _FROZEN

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)]
    """Equal to the folder's."""
    description: Annotated[_Line, StringConstraints(max_length=1024)]
    """What it does and when to use it: all that a model sees before it activates the skill."""
    license: str | None = None
    compatibility: Annotated[_Line, StringConstraints(max_length=500)] | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    """The only place for anything of our own, such as a lineage."""
    allowed_tools: str | None = Field(default=None, alias="allowed-tools")
    """Names of tools, separated by spaces."""


@dataclass(frozen=True)
class Skill:
    header: SkillHeader
    body: str
    """What a model reads once it activates the skill."""


@lru_cache(maxsize=512)
def _skill(folder: str, source: str) -> Skill | tuple[str, ...]:
    """The skill, or what is wrong with it."""
    try:
        metadata, body = frontmatter.parse(source)
        header = SkillHeader.model_validate(metadata)
    except ValidationError as e:
        return _sentences(e)
    except yaml.YAMLError as e:
        return (f"the front matter is not YAML: {' '.join(str(e).split())}",)
    except (ValueError, RecursionError) as e:  # a date that does not exist, lists nested a thousand deep
        return (f"the front matter is not YAML: {type(e).__name__}",)
    faults: list[str] = []
    if header.name != folder:
        faults.append(f"name: {header.name!r} differs from the folder's, {folder!r}")
    if (lines := body.count("\n") + 1) >= MOST_SKILL_LINES:
        faults.append(f"the body has {lines} lines; a model reads it whole, so keep it under {MOST_SKILL_LINES}")
    if not body.strip():
        faults.append("there is nothing below the front matter")
    return tuple(faults) or Skill(header, body)


def _skill_problems(folder: str, source: str) -> list[str]:
    skill = _skill(folder, source)
    return [] if isinstance(skill, Skill) else [f"skills/{folder}/SKILL.md: {what}" for what in skill]


def skills(text: Mapping[str, str]) -> dict[str, Skill]:
    """The skills of a version by name, in alphabetical order.

    Raises:
        InvalidText: one of them does not follow the specification.
    """
    folders = [parts[1] for parts in (path.split("/") for path in text) if parts[0] == "skills" and len(parts) == 3]
    sources = {name: text[f"skills/{name}/SKILL.md"] for name in sorted(folders) if f"skills/{name}/SKILL.md" in text}
    if problems := [problem for name, source in sources.items() for problem in _skill_problems(name, source)]:
        raise InvalidText(problems)
    found = {name: _skill(name, source) for name, source in sources.items()}
    return {name: skill for name, skill in found.items() if isinstance(skill, Skill)}


def skill_index(text: Mapping[str, str]) -> str:
    """What fills ``{{ skills }}``: a line for each skill, its name and description; empty when there are none."""
    return "\n".join(f"- {name}: {' '.join(skill.header.description.split())}" for name, skill in skills(text).items())


# ── rubrics ────────────────────────────────────────────────────────────────────────────────────────────────────

_Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+([_-][a-z0-9]+)*$")]


class Criterion(BaseModel):
    """One thing to look for."""

    model_config = _FROZEN

    id: _Id
    question: _Line
    """Something that can be observed: "Does it cite the line that failed?"."""
    choices: Annotated[tuple[_Line, ...], Field(min_length=2)]
    """The possible answers, worst to best."""
    passing: _Line | None = None
    """The worst of the choices that passes; by default the best one alone does."""
    quoted: bool = True
    """Does a pass need evidence from the output? Not so where something has to be absent, which nothing can show."""

    @property
    def passes(self) -> tuple[str, ...]:
        """The choices that pass."""
        return self.choices[self.choices.index(self.passing) if self.passing else -1 :]

    @field_validator("choices")
    @classmethod
    def differ(cls, choices: tuple[str, ...]) -> tuple[str, ...]:
        if repeated := _repeated(choices):
            raise ValueError(f"{repeated!r} is there twice")
        return choices

    @model_validator(mode="after")
    def can_fail(self) -> "Criterion":
        if self.passing is not None and self.passing not in self.choices[1:]:
            raise ValueError("passing is one of the choices, and not the worst")
        return self


class Rubric(BaseModel):
    """A file of ``rubrics/``: what a judge goes by."""

    model_config = _FROZEN

    description: str = ""
    criteria: Annotated[tuple[Criterion, ...], Field(min_length=1)]

    @field_validator("criteria")
    @classmethod
    def are_told_apart(cls, criteria: tuple[Criterion, ...]) -> tuple[Criterion, ...]:
        if repeated := _repeated(criterion.id for criterion in criteria):
            raise ValueError(f"two criteria have the id {repeated!r}")
        return criteria


def _repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)


def parse_rubric(source: str, path: str = "rubric") -> Rubric:
    """The rubric that a TOML file holds.

    Raises:
        InvalidText: it is not TOML, or not a rubric.
    """
    try:
        return Rubric.model_validate(tomllib.loads(source))
    except ValidationError as e:
        raise InvalidText([f"{path}: {what}" for what in _sentences(e)]) from e
    except (ValueError, RecursionError) as e:
        raise InvalidText([f"{path}: not TOML: {e}"]) from e


def _rubric_problems(path: str, source: str) -> tuple[str, ...]:
    try:
        parse_rubric(source, path)
    except InvalidText as e:
        return e.problems
    return ()


def _sentences(error: ValidationError) -> tuple[str, ...]:
    """Each complaint with the place it is about; never the value, which may be long."""
    return tuple(_sentence(".".join(map(str, e["loc"])), e) for e in error.errors(include_input=False))


def _sentence(place: str, error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return f"unknown key {place!r}"
    if error["type"] == "missing":
        return f"{place!r} is missing"
    return f"{place}: {error['msg'].removeprefix('Value error, ')}"
