"""The places of a Python file that a small change can be made in: literals, operators, declared choices, statements.

A place is found in the syntax tree and changed in the bytes, so that all around it stays as it is to the last blank.
"""

import ast
import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import Literal, TypeGuard, cast

import libcst as cst
from libcst.metadata import ByteSpanPositionProvider, CodeSpan, MetadataWrapper

from harness.candidacy import names_guarded

Kind = Literal["setting", "argument", "value", "operator", "statement"]
"""``setting``: what stands at the top of a file, or of a class, to be set, and declared choices. ``argument``: of a
call, or the default of one. ``value``: any other literal. ``statement``: one that could be left out."""

Key = tuple[str, tuple[str, ...], int]
"""What a place is known by in other versions: the file, the tokens of the line with its literals blanked, and which of
them it is. Lines that look alike share what is learned of them."""

FACTORS = (2.0, 1.3, 1.1, 3.0, 10.0)
"""What a number is multiplied with or divided by."""

SWAPS: Mapping[str, str] = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "+": "-",
    "-": "+",
    "*": "/",
    "/": "*",
    "and": "or",
    "or": "and",
    "True": "False",
    "False": "True",
}

_NUMBER = r"(?:0[xXbBoO][\da-fA-F_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d[\d_]*)?[jJ]?)"
_TOKEN = re.compile(
    rf"""(?P<comment>\#.*)|(?P<number>{_NUMBER})"""
    r"""|(?P<text>[rbuRBUfF]{0,2}(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"))"""
    r"""|(?P<swap>\b(?:and|or|True|False)\b|[<>]=?|[-+*/](?![-+*/=>]))|(?P<name>[^\W\d]\w*)|\*\*|//|[-+*/=!<>:]=|->|\S"""
)
_CHOICES = re.compile(r"#.*?\bchoices:\s*(.+)")
_RANGE = re.compile(rf"#.*?\brange:\s*(-?{_NUMBER})\s*\.\.+\s*(-?{_NUMBER})")
_INDEX_LIKE = frozenset({"axis", "dim", "ndmin", "decimals", "indent", "maxsplit", "stacklevel", "file", "flush"})


@dataclass(frozen=True)
class Option:
    """What could stand in a place."""

    text: str
    step: float
    """Which way it goes and how far, as a logarithm; 0 for what is no number."""


@dataclass(frozen=True)
class Site:
    """A place, and what could stand there."""

    path: str
    start: int
    end: int
    """In bytes of the file's UTF-8 text."""
    line: int
    kind: Kind
    name: str
    """What the value is called, or the line's text where it has no name."""
    old: str
    weight: float
    """How often it is changed beside others of its kind, before anything is known."""
    options: tuple[Option, ...]
    key: Key
    ends: tuple[float, float] = (-math.inf, math.inf)
    """Between what a number may be."""

    def another(self, step: float) -> Option | None:
        """A number that lies so far from the one there; ``None`` where there is none, or it would be the same."""
        value = number(self.old)
        if value is None or not self.options[0].step:
            return None
        is_whole = _is_whole(self.old)
        new = 1 - (1 - value) * math.exp(-step) if is_share(value, self.old) else value * math.exp(step)
        text = written(min(max(new, self.ends[0]), self.ends[1]), self.old, is_whole)
        return None if text is None or number(text) == value else Option(text, step)

    def apply(self, text: str, option: Option) -> str:
        raw = text.encode()
        return (raw[: self.start] + option.text.encode() + raw[self.end :]).decode()

    def says(self, option: Option) -> str:
        """Such as ``train.py:12 LEARNING_RATE 0.001 → 0.002``."""
        where = f"{self.path}:{self.line}"
        if self.kind == "statement":
            return f"{where} without {shortened(self.name)}"
        return f"{where} {shortened(self.name)} {shortened(self.old)} → {shortened(option.text)}"


def shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:59]}…"


@lru_cache(maxsize=256)
def sites(
    path: str, text: str, choices: tuple[tuple[str, tuple[str, ...]], ...] = (), guarded: tuple[str, ...] = ()
) -> tuple[Site, ...]:
    """All of the file's. Empty where it does not parse, or would not be printed as it was.

    *choices*: name → what it may be set to. Nothing on a line that names something *guarded* is a place.
    """
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    source = text.removeprefix(mark)
    try:
        ast.parse(source)
        module = cst.parse_module(source)
        if module.code != source:
            return ()
        wrapper = MetadataWrapper(module, unsafe_skip_copy=True)
        finder = _Finder(path, source, len(mark.encode()), dict(choices), guarded)
        wrapper.visit(finder)
    except (SyntaxError, ValueError, RecursionError, MemoryError, cst.ParserSyntaxError, Warning):
        return ()
    return tuple(finder.found)


# ── lines ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Token:
    start: int
    text: str
    blank: str
    """What stands for it in a key."""


@lru_cache(maxsize=8192)
def tokens(line: str) -> tuple[Token, ...]:
    """Those of one line, without its comment."""
    found: list[Token] = []
    for match in _TOKEN.finditer(line):
        kind = match.lastgroup
        if kind == "comment":
            break
        found.append(Token(match.start(), match[0], match[0] if kind in (None, "name") else f"<{kind}>"))
    return tuple(found)


def key_of(path: str, line: str, ordinal: int) -> Key:
    blanks = tuple("□" if i == ordinal else token.blank for i, token in enumerate(tokens(line)))
    return path, blanks, ordinal


@lru_cache(maxsize=8192)
def changed_tokens(path: str, before: str, after: str) -> tuple[tuple[Key, str, str], ...]:
    """The tokens in which *after* differs from *before*, as key, old and new; empty where other things differ, too."""
    old, new = before.split("\n"), after.split("\n")
    if len(old) == len(new) + 1:
        at = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), len(new))
        return ((_whole(path, old[at]), old[at], ""),) if old[:at] + old[at + 1 :] == new else ()
    if len(old) != len(new):
        return ()
    changes: list[tuple[Key, str, str]] = []
    for a, b in zip(old, new, strict=True):
        if a != b:
            was, now = tokens(a), tokens(b)
            differing = [i for i, (x, y) in enumerate(zip_longest(was, now)) if not x or not y or x.text != y.text]
            if len(was) != len(now) or len(differing) != 1:
                return ()
            at = differing[0]
            changes.append((key_of(path, a, at), was[at].text, now[at].text))
    return tuple(changes)


def _whole(path: str, line: str) -> Key:
    """The key of a statement that could be left out."""
    return path, tuple(token.blank for token in tokens(line)), -1


# ── numbers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def number(text: str) -> float | None:
    """The value of a literal; ``None`` for what is no decimal number."""
    if not text[:1].isdigit() and not text.startswith("."):
        return None
    try:
        value = float(text.replace("_", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _is_whole(literal: str) -> bool:
    return re.fullmatch(r"[\d_]+", literal) is not None


def is_share(value: float, literal: str) -> bool:
    """Is it so near to 1 that its distance from there is what matters?"""
    return not _is_whole(literal) and 0.5 < value < 1


def number_options(old: str, low: float = -math.inf, high: float = math.inf) -> tuple[Option, ...]:
    """Numbers near *old*, on a logarithmic scale; whole ones stay whole, none goes below *low* or above *high*."""
    value = number(old)
    if value is None:
        return ()
    is_whole = _is_whole(old)
    drawn: dict[str, Option] = {}
    for new, step in _near(value, old):
        kept = min(max(new, low), high)
        text = written(kept, old, is_whole)
        if text is not None and number(text) != value and (kept - value) * step > 0:
            drawn.setdefault(text, Option(text, step))
    return tuple(drawn.values())


def _near(value: float, literal: str) -> Iterator[tuple[float, float]]:
    """Number, step."""
    is_whole = _is_whole(literal)
    if value == 0:
        yield from ((1.0, 1.0), (2.0, 1.5)) if is_whole else ((0.1, 1.0), (0.01, 0.5), (1.0, 2.0))
        return
    if is_share(value, literal):
        for factor in FACTORS[:4]:
            yield 1 - (1 - value) / factor, math.log(factor)
            yield 1 - (1 - value) * factor, -math.log(factor)
        yield 1.0, math.log(20)
        return
    for factor in FACTORS:
        if not is_whole or value * factor >= value + 1:
            yield (round(value * factor) if is_whole else value * factor), math.log(factor)
        smaller = value / factor
        if not is_whole or (smaller >= 0.75 and smaller <= value - 0.75):
            yield (max(round(smaller), 1) if is_whole else smaller), -math.log(factor)
    if is_whole:
        yield value + 1, math.log((value + 1) / value)
        yield value - 1, -math.log((value + 1) / value)
    else:
        yield 0.0, -math.log(20)


def written(value: float, like: str, is_whole: bool) -> str | None:
    """*value* as a literal that looks like *like*; ``None`` for what is none, such as a negative number."""
    if value < 0 or not math.isfinite(value):
        return None
    if is_whole:
        text = str(round(value))
        return f"{round(value):_}" if "_" in like else text
    if "e" in like.lower():
        mantissa, _, exponent = f"{value:.3e}".partition("e")
        short = mantissa.rstrip("0").rstrip(".")
        return f"{short}{'E' if 'E' in like else 'e'}{int(exponent)}"
    text = f"{value:.4g}" if value < 1 or value >= 10_000 else f"{value:.6g}"
    if 0.5 < value < 1:
        text = f"{1 - float(f'{1 - value:.3g}'):.10g}"
    return text if any(sign in text for sign in ".e") else f"{text}.0"


# ── the syntax tree ────────────────────────────────────────────────────────────────────────────────────────────────


def _is_literal(node: cst.CSTNode) -> TypeGuard[cst.Integer | cst.Float | cst.Name | cst.SimpleString]:
    return isinstance(node, cst.Integer | cst.Float | cst.Name | cst.SimpleString)


class _Finder(cst.CSTVisitor):
    """Walks the tree and notes the places."""

    METADATA_DEPENDENCIES = (ByteSpanPositionProvider,)

    def __init__(
        self,
        path: str,
        source: str,
        offset: int,
        choices: Mapping[str, Sequence[str]],
        guarded: tuple[str, ...],
    ) -> None:
        super().__init__()
        self.found: list[Site] = []
        self._path, self._offset, self._choices, self._guarded = path, offset, choices, guarded
        self._raw = source.encode()
        self._lines = source.split("\n")
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line.encode()) + 1)
        self._scopes: list[str] = []
        self._names: list[tuple[str, Kind]] = []
        """What the value that is being visited is called, and what it is."""
        self._fences: list[bool] = []
        """Of each statement around: does it name something guarded?"""
        self._indices = 0

    # statements

    def visit_SimpleStatementLine(self, node: cst.SimpleStatementLine) -> bool:
        start, end = self._span(node)
        code = self._raw[start:end].decode()
        if names_guarded(code, self._guarded):
            return False
        return not isinstance(node.body[0], cst.Import | cst.ImportFrom)

    def visit_IndentedBlock(self, node: cst.IndentedBlock) -> None:
        self._removable(node.body)

    def visit_Module(self, node: cst.Module) -> None:
        self._removable(node.body)

    def visit_FunctionDef(self, node: cst.FunctionDef) -> bool:
        self._scopes.append("def")
        return not names_guarded(node.name.value, self._guarded)

    def leave_FunctionDef(self, original_node: cst.FunctionDef) -> None:
        self._scopes.pop()

    def visit_ClassDef(self, node: cst.ClassDef) -> bool:
        self._scopes.append("class")
        return not names_guarded(node.name.value, self._guarded)

    def leave_ClassDef(self, original_node: cst.ClassDef) -> None:
        self._scopes.pop()

    def visit_While(self, node: cst.While) -> bool:
        return self._head(node, node.test, node.body, node.orelse)

    def visit_If(self, node: cst.If) -> bool:
        return self._head(node, node.test, node.body, node.orelse)

    def visit_For(self, node: cst.For) -> bool:
        return self._head(node, node.iter, node.body, node.orelse)

    def visit_With(self, node: cst.With) -> bool:
        start, end = self._span(node)[0], self._span(node.body)[0]
        if not names_guarded(self._raw[start:end].decode(), self._guarded):
            return True
        node.body.visit(self)
        return False

    def _head(
        self, node: cst.CSTNode, head: cst.BaseExpression, body: cst.BaseSuite, orelse: cst.CSTNode | None
    ) -> bool:
        """Visit a compound statement without its head, where that is guarded or says only ``while True``."""
        start, end = self._span(head)
        code = self._raw[start:end].decode()
        if not names_guarded(code, self._guarded) and code not in ("True", "1"):
            return True
        body.visit(self)
        if orelse is not None:
            orelse.visit(self)
        return False

    def _removable(self, body: Sequence[cst.CSTNode]) -> None:
        """Note the statements of a block that something would be left without."""
        if len(body) < 2:
            return
        for statement in body:
            if isinstance(statement, cst.SimpleStatementLine) and len(statement.body) == 1:
                only = statement.body[0]
                start, end = self._span(statement)
                code = self._raw[start:end].decode()
                if "\n" in code or not _is_spare(only) or names_guarded(code, self._guarded):
                    continue
                line = bisect_right(self._starts, start)
                first, last = self._starts[line - 1], min(self._starts[line], len(self._raw))
                if ";" in code or self._raw[first:start].strip():
                    continue
                self.found.append(
                    Site(
                        path=self._path,
                        start=first + self._offset,
                        end=last + self._offset,
                        line=line,
                        kind="statement",
                        name=code,
                        old=self._raw[first:last].decode(),
                        weight=1.0,
                        options=(Option("", 0.0),),
                        key=_whole(self._path, self._lines[line - 1]),
                    )
                )

    # what values are called

    def visit_Assign(self, node: cst.Assign) -> bool:
        target = node.targets[0].target
        self._named(target, node.value)
        return False

    def visit_AnnAssign(self, node: cst.AnnAssign) -> bool:
        if node.value is not None:
            self._named(node.target, node.value)
        return False

    def _named(self, target: cst.BaseExpression, value: cst.BaseExpression) -> None:
        name = target.value if isinstance(target, cst.Name) else self._code(target)
        is_setting = self._is_top and isinstance(target, cst.Name) and (name.isupper() or _is_plain(value))
        self._visit_named(name, "setting" if is_setting else "value", value)

    @property
    def _is_top(self) -> bool:
        return "def" not in self._scopes

    def visit_Param(self, node: cst.Param) -> bool:
        if node.default is not None and not names_guarded(node.name.value, self._guarded):
            self._visit_named(node.name.value, "argument", node.default)
        return False

    def visit_Arg(self, node: cst.Arg) -> bool:
        if node.keyword is None:
            return True
        if not names_guarded(node.keyword.value, self._guarded):
            self._visit_named(node.keyword.value, "argument", node.value)
        return False

    def visit_DictElement(self, node: cst.DictElement) -> bool:
        is_named = isinstance(node.key, cst.SimpleString | cst.Name)
        name = self._code(node.key).strip("'\"") if is_named else ""
        around = self._names[-1][1] if self._names else "value"
        self._visit_named(name, around if around == "setting" else "argument", node.value)
        return False

    def _visit_named(self, name: str, kind: Kind, value: cst.BaseExpression) -> None:
        self._names.append((name, kind))
        if _is_literal(value) and name in self._choices:
            self._choice(value, self._choices[name])
        else:
            value.visit(self)
        self._names.pop()

    def visit_Annotation(self, node: cst.Annotation) -> bool:
        return False

    def visit_FormattedString(self, node: cst.FormattedString) -> bool:
        return False

    def visit_Subscript(self, node: cst.Subscript) -> None:
        self._indices += 1

    def leave_Subscript(self, original_node: cst.Subscript) -> None:
        self._indices -= 1

    def visit_Attribute(self, node: cst.Attribute) -> bool:
        node.value.visit(self)
        return False

    # literals and operators

    def visit_Integer(self, node: cst.Integer) -> None:
        self._number(node)

    def visit_Float(self, node: cst.Float) -> None:
        self._number(node)

    def visit_Name(self, node: cst.Name) -> None:
        if node.value in ("True", "False"):
            self._note(node, node.value, 0.5, (Option(SWAPS[node.value], 0.0),))
        else:
            self._declared(node)

    def visit_SimpleString(self, node: cst.SimpleString) -> None:
        self._declared(node)

    def visit_BinaryOperation(self, node: cst.BinaryOperation) -> None:
        if not any(isinstance(side, cst.SimpleString | cst.FormattedString) for side in (node.left, node.right)):
            self._operator(node.operator)

    def visit_BooleanOperation(self, node: cst.BooleanOperation) -> None:
        self._operator(node.operator)

    def visit_ComparisonTarget(self, node: cst.ComparisonTarget) -> None:
        self._operator(node.operator)

    def _operator(self, node: cst.CSTNode) -> None:
        start, end = self._span(node)
        old = self._raw[start:end].decode()
        if old in SWAPS:
            self._note(node, old, 1.0, (Option(SWAPS[old], 0.0),), "operator")

    def _number(self, node: cst.Integer | cst.Float) -> None:
        if self._declared(node):
            return
        line = self._line_of(node)
        found = _RANGE.search(line)
        low, high = sorted(float(end.replace("_", "")) for end in found.groups()) if found else (-math.inf, math.inf)
        name = self._names[-1][0] if self._names else ""
        weight = 0.05 if self._indices or name in _INDEX_LIKE else 1.0
        options = number_options(node.value, low, high)
        self._note(node, node.value, weight, options, "setting" if found else None, (low, high))

    def _declared(self, node: cst.Integer | cst.Float | cst.Name | cst.SimpleString) -> bool:
        """Is *node* one of the choices that its line declares?"""
        found = _CHOICES.search(self._line_of(node))
        if found is None:
            return False
        values = [value.strip() for value in found[1].split(",")]
        if _plain(node.value) not in [_plain(value) for value in values]:
            return False
        self._choice(node, values)
        return True

    def _choice(self, node: cst.Integer | cst.Float | cst.Name | cst.SimpleString, values: Sequence[str]) -> None:
        others = [value for value in values if _plain(value) and _plain(value) != _plain(node.value)]
        texts = [_like(node, value) for value in others]
        options = tuple(Option(text, 0.0) for text in dict.fromkeys(texts) if text)
        self._note(node, node.value, 1.0, options, "setting")

    def _note(
        self,
        node: cst.CSTNode,
        old: str,
        weight: float,
        options: tuple[Option, ...],
        kind: Kind | None = None,
        ends: tuple[float, float] = (-math.inf, math.inf),
    ) -> None:
        if not options:
            return
        start, end = self._span(node)
        line = bisect_right(self._starts, start)
        text = self._lines[line - 1]
        column = len(self._raw[self._starts[line - 1] : start].decode())
        ordinal = next((i for i, token in enumerate(tokens(text)) if token.start == column), None)
        if ordinal is None or tokens(text)[ordinal].text != old or start + len(old.encode()) != end:
            return  # in the middle of a text that runs over lines
        if names_guarded(" ".join(token.text for token in tokens(text)), self._guarded):
            return
        name, known = self._names[-1] if self._names else ("", "value")
        kind = kind or known
        if kind == "setting" and name.isupper():
            weight *= 2
        self.found.append(
            Site(
                path=self._path,
                start=start + self._offset,
                end=end + self._offset,
                line=line,
                kind=kind,
                name=name if name and kind != "operator" else f"in “{shortened(text)}”",
                old=old,
                weight=weight,
                options=options,
                key=key_of(self._path, text, ordinal),
                ends=ends,
            )
        )

    def _span(self, node: cst.CSTNode) -> tuple[int, int]:
        span = cast(CodeSpan, self.get_metadata(ByteSpanPositionProvider, node))
        return span.start, span.start + span.length

    def _code(self, node: cst.CSTNode) -> str:
        start, end = self._span(node)
        return self._raw[start:end].decode()

    def _line_of(self, node: cst.CSTNode) -> str:
        return self._lines[bisect_right(self._starts, self._span(node)[0]) - 1]


def _is_plain(value: cst.BaseExpression) -> bool:
    inner = value.expression if isinstance(value, cst.UnaryOperation) else value
    return isinstance(inner, cst.Integer | cst.Float | cst.SimpleString | cst.Tuple | cst.List | cst.Dict) or (
        isinstance(inner, cst.Name) and inner.value in ("True", "False")
    )


def _is_spare(statement: cst.BaseSmallStatement) -> bool:
    """May the rest be expected to run without it?"""
    match statement:
        case cst.AugAssign() | cst.Assert():
            return True
        case cst.Expr(value=cst.Call()):
            return True
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value=name))], value=value):
            return any(isinstance(part, cst.Name) and part.value == name for part in _parts(value))
        case _:
            return False


def _parts(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    yield node
    for child in node.children:
        yield from _parts(child)


def _plain(text: str) -> str:
    return text.strip().strip("'\"")


def _like(node: cst.CSTNode, value: str) -> str:
    """*value* as a literal of the kind of *node*; empty where it can be none."""
    text = _plain(value)
    match node:
        case cst.SimpleString(value=old):
            quote = old[-1]
            is_short = old[0] == quote and not old.startswith(quote * 3)
            return f"{quote}{text}{quote}" if is_short and not set(text) & set("'\"\\\n\r") else ""
        case cst.Integer() | cst.Float():
            return text if re.fullmatch(_NUMBER, text) else ""
        case _:
            return text if text.isidentifier() else ""
