"""The walk through a syntax tree that finds the places."""

import ast
import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeGuard, cast

import libcst as cst
from libcst.metadata import ByteSpanPositionProvider, CodeSpan, MetadataWrapper

from analysis.proposers.mutations.sites import (
    CHOICES,
    NUMBER,
    RANGE,
    SWAPS,
    Kind,
    Option,
    Site,
    key_of,
    number_options,
    plain,
    shortened,
    tokens,
    whole_line,
)
from harness.candidacy import names_guarded

_NO_AMOUNTS = frozenset({"axis", "dim", "ndmin", "decimals", "indent", "maxsplit", "stacklevel", "file", "flush"})
"""Numbers of these names say which, not how much."""


def places(
    path: str, source: str, offset: int, choices: Mapping[str, Sequence[str]], guarded: tuple[str, ...]
) -> tuple[Site, ...]:
    """See ``sites``. *offset*: bytes of the file before *source*."""
    try:
        ast.parse(source)  # it knows its own depth, where the other parser would run out of stack
        module = cst.parse_module(source)
        if module.code != source:
            return ()
        finder = _Finder(path, source, offset, choices, guarded)
        MetadataWrapper(module, unsafe_skip_copy=True).visit(finder)
    except (SyntaxError, ValueError, RecursionError, MemoryError, cst.ParserSyntaxError, Warning):
        return ()
    return tuple(finder.found)


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
                        key=whole_line(self._path, self._lines[line - 1]),
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

    def visit_Subscript(self, node: cst.Subscript) -> None:  # an index says which, not how much
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
        name = self._names[-1][0] if self._names else ""
        if self._declared(node) or self._indices or name in _NO_AMOUNTS:
            return
        line = self._line_of(node)
        found = RANGE.search(line)
        low, high = sorted(float(end.replace("_", "")) for end in found.groups()) if found else (-math.inf, math.inf)
        options = number_options(node.value, low, high)
        self._note(node, node.value, 1.0, options, "setting" if found else None, (low, high))

    def _declared(self, node: cst.Integer | cst.Float | cst.Name | cst.SimpleString) -> bool:
        """Is *node* one of the choices that its line declares?"""
        found = CHOICES.search(self._line_of(node))
        if found is None:
            return False
        values = [value.strip() for value in found[1].split(",")]
        if plain(node.value) not in [plain(value) for value in values]:
            return False
        self._choice(node, values)
        return True

    def _choice(self, node: cst.Integer | cst.Float | cst.Name | cst.SimpleString, values: Sequence[str]) -> None:
        others = [value for value in values if plain(value) and plain(value) != plain(node.value)]
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


def _like(node: cst.CSTNode, value: str) -> str:
    """*value* as a literal of the kind of *node*; empty where it can be none."""
    text = plain(value)
    match node:
        case cst.SimpleString(value=old):
            quote = old[-1]
            is_short = old[0] == quote and not old.startswith(quote * 3)
            return f"{quote}{text}{quote}" if is_short and not set(text) & set("'\"\\\n\r") else ""
        case cst.Integer() | cst.Float():
            return text if re.fullmatch(NUMBER, text) else ""
        case _:
            return text if text.isidentifier() else ""
