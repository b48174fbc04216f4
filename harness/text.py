"""Harness text: chat templates, skills and rubrics; validated and rendered. Pure, over path → text.

    prompts/*.md               chat templates: a line that is exactly ``# system``, ``# user`` or ``# assistant`` begins
                               a message; placeholders are Jinja2's
    skills/<name>/SKILL.md     Agent Skills: front matter and a body
    rubrics/*.toml             criteria, each with choices ordered worst to best
"""

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Literal, cast

import frontmatter
import jinja2
import yaml
from jinja2 import meta
from jinja2.sandbox import SandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.protocols import Message

Role = Literal["system", "user", "assistant"]

HEADER = re.compile(r"^# (system|user|assistant)$")
PLACEHOLDERS = frozenset({"task", "skills"})
"""What a prompt may ask for: the task's input, and the names and descriptions of the skills."""
MUST_FILL: Mapping[str, frozenset[str]] = {"prompts/solve.md": frozenset({"task"})}
"""Prompts that make no sense without some placeholder."""
LONGEST_SKILL = 500
"""Lines of a skill's body."""

JINJA = SandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
JINJA.globals.clear()  # a prompt has no use for `range` and the like


class InvalidText(Exception):
    """Text that cannot be used; one sentence a problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


# ── prompts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def parse_chat(source: str) -> list[Message]:
    """The messages of a chat template, each with its template as content.

    Raises:
        InvalidText: text before the first header, a system message that is not the first, or a last one that is not
            the user's.
    """
    messages: list[tuple[Role, list[str]]] = []
    problems: list[str] = []
    for number, line in enumerate(source.splitlines(), 1):
        header = HEADER.match(line)
        if header:
            messages.append((cast(Role, header[1]), []))
        elif messages:
            messages[-1][1].append(line)
        elif line.strip():
            problems.append(f"line {number} comes before the first message; begin with a line `# system` or `# user`")
            break
    roles = [role for role, _ in messages]
    if "system" in roles[1:]:
        problems.append("a system message may only come first")
    if not problems and (not roles or roles[-1] != "user"):
        problems.append("the last message must be the user's: it is what the model answers")
    if problems:
        raise InvalidText(problems)
    return [Message(role, "\n".join(lines).strip("\n")) for role, lines in messages]


def write_chat(messages: Sequence[Message]) -> str:
    """The chat template that ``parse_chat`` reads as *messages*; contents are templates, see ``escape``."""
    return "\n\n".join(f"# {m.role}\n{m.content}" for m in messages) + "\n"


def escape(literal: str) -> str:
    """*literal* as a template that renders to it, and in which no line begins a message."""
    lines = [
        f"{{{{ {_quoted(line)} }}}}" if HEADER.match(line) or re.search(r"\{[{%#]", line) else line
        for line in literal.split("\n")
    ]
    return "\n".join(lines)


def _quoted(line: str) -> str:
    return '"' + line.replace("\\", "\\\\").replace('"', '\\"') + '"'


def render(text: Mapping[str, str], path: str, **values: str) -> list[Message]:
    """The messages of the prompt at *path*, its placeholders filled with *values*.

    Messages are split before they are filled, and values are never rendered: nothing in them can begin a message or
    name a placeholder.

    Raises:
        InvalidText: the prompt is missing or malformed, or a placeholder is unknown or not filled.
    """
    if path not in text:
        raise InvalidText([f"{path} is missing"])
    try:
        return [Message(role, template.render(values)) for role, template in _compiled(text[path])]
    except jinja2.TemplateError as e:
        raise InvalidText([f"{path}: {e.message}"]) from e


@lru_cache(maxsize=256)
def _compiled(source: str) -> tuple[tuple[Role, jinja2.Template], ...]:
    return tuple((m.role, JINJA.from_string(m.content)) for m in parse_chat(source))


def prompt_problems(path: str, source: str) -> list[str]:
    try:
        messages = parse_chat(source)
    except InvalidText as e:
        return [f"{path}: {problem}" for problem in e.problems]
    problems: list[str] = []
    used: set[str] = set()
    for message in messages:
        try:
            used |= meta.find_undeclared_variables(JINJA.parse(message.content))
        except jinja2.TemplateSyntaxError as e:
            problems.append(f"{path}: in the {message.role} message, line {e.lineno}: {e.message}")
    known = ", ".join(sorted(PLACEHOLDERS))
    problems += [
        f"{path}: line {_line_of(source, name)}: there is no placeholder {name!r}; there are: {known}"
        for name in sorted(used - PLACEHOLDERS)
    ]
    problems += [
        f"{path}: {{{{ {name} }}}} is missing, so the model would not see it"
        for name in sorted(MUST_FILL.get(path, frozenset()) - used)
        if not problems
    ]
    return problems


def _line_of(source: str, name: str) -> int:
    found = re.search(rf"\{{[{{%].*\b{re.escape(name)}\b", source)
    return source.count("\n", 0, found.start()) + 1 if found else 1


# ── skills ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class Skill(BaseModel):
    """The front matter of a skill, exactly as the Agent Skills specification has it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=64, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    description: str = Field(min_length=1, max_length=1024)
    license: str | None = None
    compatibility: str | None = Field(default=None, max_length=500)
    metadata: dict[str, str] = Field(default_factory=dict)
    allowed_tools: str | None = Field(default=None, alias="allowed-tools")


@dataclass(frozen=True)
class LoadedSkill:
    """A skill with what the model reads when it asks for it."""

    about: Skill
    body: str


def skill(text: Mapping[str, str], name: str) -> LoadedSkill:
    """The skill of that name.

    Raises:
        InvalidText: there is none, or it does not follow the specification.
    """
    path = f"skills/{name}/SKILL.md"
    if path not in text:
        raise InvalidText([f"there is no skill {name!r}; there are: {', '.join(skill_names(text)) or 'none'}"])
    try:
        post = frontmatter.loads(text[path])
        about = Skill.model_validate(dict(post.metadata))
    except yaml.YAMLError as e:
        raise InvalidText([f"{path}: the front matter is not YAML: {' '.join(str(e).split())}"]) from e
    except ValidationError as e:
        raise InvalidText([f"{path}: {_first(e)}"]) from e
    problems = [f"{path}: the name {about.name!r} is not the folder's, {name!r}"] if about.name != name else []
    if post.content.count("\n") >= LONGEST_SKILL:
        problems.append(f"{path}: the body has {post.content.count(chr(10)) + 1} lines; at most {LONGEST_SKILL}")
    if problems:
        raise InvalidText(problems)
    return LoadedSkill(about, post.content)


def skill_names(text: Mapping[str, str]) -> list[str]:
    return sorted(PurePosixPath(path).parts[1] for path in text if re.fullmatch(r"skills/[^/]+/SKILL\.md", path))


def skill_index(text: Mapping[str, str]) -> str:
    """A line for each skill, its name and description: all that a prompt holds of a skill until it is asked for."""
    return "\n".join(f"- {name}: {skill(text, name).about.description}" for name in skill_names(text))


# ── rubrics ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Criterion(BaseModel):
    """One observable property of an output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    question: str = Field(min_length=1)
    """What a judge decides, from the output alone."""
    choices: tuple[str, ...] = Field(min_length=2)
    """Worst to best."""
    weight: float = Field(default=1.0, gt=0)


class Rubric(BaseModel):
    """Criteria by which an output is judged."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = ""
    criteria: tuple[Criterion, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _unambiguous(self) -> "Rubric":
        ids = [criterion.id for criterion in self.criteria]
        for criterion in self.criteria:
            if ids.count(criterion.id) > 1:
                raise ValueError(f"criterion {criterion.id!r} is there more than once")
            if len(set(criterion.choices)) < len(criterion.choices):
                raise ValueError(f"criterion {criterion.id!r} has a choice more than once")
        return self


def rubric(text: Mapping[str, str], path: str) -> Rubric:
    """The rubric at *path*.

    Raises:
        InvalidText: it is missing, not TOML, or no rubric.
    """
    if path not in text:
        raise InvalidText([f"{path} is missing"])
    try:
        return Rubric.model_validate(tomllib.loads(text[path]))
    except tomllib.TOMLDecodeError as e:
        raise InvalidText([f"{path} is not TOML: {e}"]) from e
    except ValidationError as e:
        raise InvalidText([f"{path}: {_first(e)}"]) from e


def _first(e: ValidationError) -> str:
    error = e.errors()[0]
    where = ".".join(map(str, error["loc"]))
    return f"{where}: {error['msg']}" if where else error["msg"]


# ── all of it ──────────────────────────────────────────────────────────────────────────────────────────────────────


def validate(text: Mapping[str, str]) -> None:
    """Check everything that a version holds.

    Raises:
        InvalidText: with all problems.
    """
    problems: list[str] = []
    for path, source in sorted(text.items()):
        parts = PurePosixPath(path).parts
        if len(parts) == 2 and parts[0] == "prompts" and path.endswith(".md"):
            problems += prompt_problems(path, source)
        elif len(parts) == 2 and parts[0] == "rubrics" and path.endswith(".toml"):
            problems += _problems(rubric, text, path)
        elif len(parts) == 3 and parts[0] == "skills" and parts[2] == "SKILL.md":
            problems += _problems(skill, text, parts[1])
        elif len(parts) > 2 and parts[0] == "skills":
            if f"skills/{parts[1]}/SKILL.md" not in text:
                problems.append(f"{path}: there is no skills/{parts[1]}/SKILL.md that it could belong to")
        else:
            problems.append(
                f"{path} has no place here: a harness holds prompts/*.md, rubrics/*.toml and skills/<name>/SKILL.md"
            )
    if problems:
        raise InvalidText(problems)


def _problems(load: Callable[[Mapping[str, str], str], object], text: Mapping[str, str], name: str) -> list[str]:
    try:
        load(text, name)
    except InvalidText as e:
        return list(e.problems)
    return []
