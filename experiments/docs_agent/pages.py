"""The pages of an API reference: how a section is written, and how it is read again."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ASKED = re.compile(r"(docs/api/\w+\.md), section `([^`]+)`")
"""How a task names the page and the section that it is about."""
HEADING = re.compile(r"^## (.+?)\s*$", re.MULTILINE)
SIGNATURE = re.compile(r"^Signature: `(.+)`\s*$", re.MULTILINE)
RETURNS = re.compile(r"^Returns `(.+)`\.\s*$", re.MULTILINE)
ROW = re.compile(r"^\| `([^|`]+)` \| `([^|`]+(?:\|[^|`]+)*)` \| (?:`(.+)`|required) \|\s*$", re.MULTILINE)
BLOCK = re.compile(r"^```python\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[([^\]\n]+)\]\(([^)\s]*)\)")
ANY_HEADING = re.compile(r"^#{1,6} (.+?)\s*$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```\s*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Parameter:
    name: str
    type: str
    default: str | None = None
    """As it is written in code; ``None``: it has to be given."""

    def __str__(self) -> str:
        return f"{self.name}: {self.type}" + ("" if self.default is None else f" = {self.default}")


@dataclass(frozen=True)
class Signature:
    name: str
    parameters: tuple[Parameter, ...]
    returns: str

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.parameters))}) -> {self.returns}"


@dataclass(frozen=True)
class Link:
    label: str
    target: str

    def __str__(self) -> str:
        return f"[{self.label}]({self.target})"


@dataclass(frozen=True)
class Section:
    """What a page says about one function."""

    summary: str
    signature: Signature
    rows: tuple[Parameter, ...]
    """Of the table of parameters."""
    returns: str
    example: str
    """Lines of code."""
    links: tuple[Link, ...]
    heading: str

    def __str__(self) -> str:
        rows = "\n".join(map(row, self.rows))
        return (
            f"## {self.heading}\n\n{self.summary}\n\nSignature: `{self.signature}`\n\n"
            f"| Parameter | Type | Default |\n|---|---|---|\n{rows}\n\nReturns `{self.returns}`.\n\n"
            f"```python\n{self.example}\n```\n\nSee also: {', '.join(map(str, self.links))}.\n"
        )


def row(parameter: Parameter) -> str:
    """Of the table of parameters."""
    default = "required" if parameter.default is None else f"`{parameter.default}`"
    return f"| `{parameter.name}` | `{parameter.type}` | {default} |"


# ── code ───────────────────────────────────────────────────────────────────────────────────────────────────────


def signature_of(function: ast.FunctionDef) -> Signature:
    arguments = function.args
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(plain) - len(arguments.defaults)) + [written(d) for d in arguments.defaults]
    return Signature(
        function.name,
        tuple(Parameter(a.arg, unparsed(a.annotation), d) for a, d in zip(plain, defaults, strict=True)),
        unparsed(function.returns),
    )


def unparsed(annotation: ast.expr | None) -> str:
    return "" if annotation is None else ast.unparse(annotation)


def written(expression: ast.expr) -> str:
    """An expression in the one spelling that pages and code are compared in."""
    try:
        return spelled(ast.literal_eval(expression))
    except ValueError:
        return ast.unparse(expression)


def spelled(value: Any) -> str:
    """*value* as code, its strings in double quotes where they hold none."""
    match value:
        case str() if '"' not in value:
            return f'"{repr(value)[1:-1]}"'
        case list():
            return f"[{', '.join(map(spelled, value))}]"
        case tuple():
            return f"({', '.join(map(spelled, value))}{',' if len(value) == 1 else ''})"
        case dict():
            return f"{{{', '.join(f'{spelled(k)}: {spelled(v)}' for k, v in value.items())}}}"
        case _:
            return repr(value)


def functions_in(source: str) -> dict[str, Signature]:
    """The public functions that a module defines, in their order."""
    found = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef))
    return {node.name: signature_of(node) for node in found if not node.name.startswith("_")}


# ── pages ──────────────────────────────────────────────────────────────────────────────────────────────────────


def sections_of(page: str) -> dict[str, str]:
    """Heading → the text of the section, its heading included; what comes before the first is under no heading."""
    starts = [*HEADING.finditer(page)]
    ends = [match.start() for match in starts[1:]] + [len(page)]
    first = {"": page[: starts[0].start()] if starts else page}
    return first | {match[1].strip("`"): page[match.start() : end] for match, end in zip(starts, ends, strict=True)}


def stated(text: str) -> Signature | None:
    """The one signature that a section states, in the spelling of ``ast``; ``None``: there is none, or several."""
    found = SIGNATURE.findall(text)
    if len(found) != 1:
        return None
    try:
        [node] = ast.parse(f"def {found[0]}: ...").body
    except (SyntaxError, ValueError):
        return None
    return signature_of(node) if isinstance(node, ast.FunctionDef) else None


def rows_of(text: str) -> tuple[Parameter, ...]:
    """The table of parameters, in the spelling of ``signature_of``."""
    return tuple(
        Parameter(name, normal(type_), normal(default) if default else None)
        for name, type_, default in ROW.findall(text)
    )


def normal(code: str) -> str:
    """*code* as ``written`` has it; as it is, where it is no expression."""
    try:
        return written(ast.parse(code, mode="eval").body)
    except (SyntaxError, ValueError):
        return code


def summary_of(text: str) -> str:
    """What stands between the heading and the signature."""
    after = HEADING.split(text, maxsplit=1)[-1]
    return " ".join(after.split("Signature:")[0].split())


def links_of(text: str) -> tuple[Link, ...]:
    return tuple(Link(label, target) for label, target in LINK.findall(FENCED.sub("", text)))


def anchors_of(page: str) -> Iterator[str]:
    """What a link may name in a page, after its #."""
    return (slug(heading) for heading in ANY_HEADING.findall(FENCED.sub("", page)))


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
