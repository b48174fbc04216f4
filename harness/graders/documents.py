"""Deterministic checks of the Markdown files of a worktree: links resolve, names exist, code blocks run."""

import ast
import doctest
import json
import re
import secrets
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from pathlib import PurePosixPath
from posixpath import normpath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from harness.errors import TrialError
from harness.graders.blocks_program import PROMPT
from harness.graders.checks import how_it_ended, text_at
from harness.graders.marks import box_of, fault, marks_of
from harness.graders.patches import in_globs
from harness.protocols import Box, Work
from traces.records import Mark, Task

if TYPE_CHECKING:
    from markdown_it.token import Token

LONGEST = 100_000
"""Characters of a document; a longer one is not read."""
PRUNED = (".git", ".venv", "node_modules", "__pycache__")
HTML_LINK = re.compile(r"<(?:a|img)\b[^<>]*?\b(?:href|src)\s*=\s*[\"']([^\"']*)[\"']", re.IGNORECASE)
HTML_ANCHOR = re.compile(r"\b(?:id|name)\s*=\s*[\"']([^\"']+)[\"']", re.IGNORECASE)
DOTTED = re.compile(r"(?<![\w./-])[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+(?![\w/-])")
PYTHON = ("python", "py", "pycon", "python3")
SUFFIXES = frozenset(
    ("cfg", "csv", "html", "ini", "ipynb", "json", "jsonl", "lock", "md", "py", "sh", "toml", "txt", "yaml", "yml")
)
"""What looks like a dotted name and is the name of a file."""
ARGUMENT = 120_000
"""Bytes that one argument of a command may have."""


@dataclass(frozen=True)
class Document:
    """One Markdown file."""

    path: str
    text: str

    @cached_property
    def tokens(self) -> "list[Token]":
        """All of them, those within a line after the block that they are in and with its lines."""
        from markdown_it import MarkdownIt  # it takes a while to import

        reader = MarkdownIt("commonmark").enable("table")
        reader.validateLink = lambda url: True  # a link that nobody should follow is still looked at
        found: list[Token] = []
        for block in reader.parse(self.text):
            found.append(block)
            found += [_at(token, block.map) for token in _within(block)]
        return found

    @cached_property
    def anchors(self) -> set[str]:
        """As GitHub makes them of headings, and those that HTML names."""
        found: set[str] = set()
        again = Counter[str]()
        tokens = self.tokens
        for at, token in enumerate(tokens):
            if token.type == "heading_open":
                title = "".join(t.content for t in _within(tokens[at + 1]) if t.type in ("text", "code_inline"))
                slug = re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")
                found.add(f"{slug}-{again[slug]}" if again[slug] else slug)
                again[slug] += 1
            elif token.type in ("html_inline", "html_block"):
                found.update(HTML_ANCHOR.findall(token.content))
        return found

    def links(self) -> Iterator[tuple[int, str]]:
        """Line and target."""
        for token in self.tokens:
            line = token.map[0] + 1 if token.map else 1
            target = token.attrs.get("href") if token.type == "link_open" else token.attrs.get("src")
            if token.type in ("link_open", "image"):
                yield line, str(target or "")
            elif token.type in ("html_inline", "html_block"):
                yield from ((line, found) for found in HTML_LINK.findall(token.content))

    def blocks(self) -> list[tuple[int, str]]:
        """The fenced blocks in Python: the line before the first of each, and its source."""
        return [
            (token.map[0] + 1 if token.map else 1, token.content)
            for token in self.tokens
            if token.type == "fence" and token.info.split(maxsplit=1)[:1] and token.info.split()[0].lower() in PYTHON
        ]

    def code(self) -> Iterator[tuple[int, str]]:
        """Line and text of what is set as code within a line."""
        for token in self.tokens:
            if token.type == "code_inline":
                yield token.map[0] + 1 if token.map else 1, token.content


def _within(token: "Token") -> "Iterator[Token]":
    for child in token.children or ():
        yield child
        yield from _within(child)


def _at(token: "Token", lines: list[int] | None) -> "Token":
    token.map = lines
    return token


def find(box: Box, criterion: str, pattern: str) -> list[str]:
    """The files of the worktree with such a name, sorted."""
    pruned = [part for name in PRUNED for part in ("-o", "-name", name)][1:]
    command = ["find", ".", "(", *pruned, ")", "-prune", "-o", "-type", "f", "-name", pattern, "-print"]
    return sorted(line.removeprefix("./") for line in listed(box, criterion, command))


def existing(box: Box, criterion: str, paths: Iterable[str]) -> set[str]:
    """Those of *paths* that are there, folders as well."""
    wanted = sorted(set(paths))
    found: set[str] = set()
    for at in range(0, len(wanted), 100):
        command = ["find", *(f"./{path}" for path in wanted[at : at + 100]), "-maxdepth", "0"]
        found.update(line.removeprefix("./") for line in listed(box, criterion, command))
    return found


def listed(box: Box, criterion: str, command: Sequence[str]) -> list[str]:
    try:
        return [line for line in box.run(command).output.splitlines() if line.startswith("./") or line == "."]
    except FileNotFoundError as e:
        raise TrialError("grader", "cannot_verify", f"the check {criterion!r} needs {command[0]!r}: {e}") from e


def documents(globs: Sequence[str], criterion: str, work: Work) -> tuple[list[Document], list[Mark]]:
    """The Markdown files of the worktree, and what is wrong with those that cannot be read."""
    found: list[Document] = []
    faults: list[Mark] = []
    for path in find(box_of(work, criterion), criterion, "*.md"):
        if in_globs(path, globs):
            text = text_at(path, criterion, "", work)
            if isinstance(text, Mark):
                faults.append(text)
            elif len(text) > LONGEST:
                faults.append(fault(criterion, f"`{path}` is too long to be read"))
            else:
                found.append(Document(path, text))
    return found, faults


# ── links ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class LinksResolve:
    """The links of the Markdown files lead somewhere: to files of the worktree and to anchors in them."""

    files: Sequence[str] = ("**/*.md",)
    """Globs of the files that are looked at."""
    external: Callable[[str], str] | None = None
    """What is wrong with an address elsewhere, empty when nothing is. Without it only its form is looked at."""
    id: str = "links"

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        found, faults = documents(self.files, self.id, work)
        links = [(document, line, target) for document in found for line, target in document.links()]
        paths = {resolved(document.path, target)[0] for document, _, target in links if is_inside(target)}
        there = existing(box_of(work, self.id), self.id, (path for path in paths if path is not None))
        pages = {document.path: document for document in found}
        for document, line, target in links:
            because = self._inside(document, target, there, pages, work) if is_inside(target) else self._outside(target)
            if because:
                faults.append(fault(self.id, because, f"{document.path}:{line}: {target}"))
        return marks_of(self.id, faults)

    def _inside(self, document: Document, target: str, there: set[str], pages: dict[str, Document], work: Work) -> str:
        path, anchor = resolved(document.path, target)
        if path is None:
            return f"the link `{target}` leads out of the worktree"
        if path not in there:
            return f"the link `{target}` leads to no file"
        if not anchor or not path.endswith(".md"):
            return ""
        if path not in pages:
            text = text_at(path, self.id, "", work)
            pages[path] = Document(path, "" if isinstance(text, Mark) else text[:LONGEST])
        return "" if anchor in pages[path].anchors else f"the link `{target}` leads to no heading"

    def _outside(self, target: str) -> str:
        because = malformed(target)
        return because or (self.external(target) if self.external and urlsplit(target).scheme != "mailto" else "")


def is_inside(target: str) -> bool:
    return not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:|//", target)


def resolved(path: str, target: str) -> tuple[str | None, str]:
    """The path that *target*, a link in the file *path*, leads to, and the anchor there; ``None``: out of the
    worktree."""
    bare, _, anchor = target.partition("#")
    name = unquote(bare.partition("?")[0])
    if not name:
        return path, unquote(anchor)
    joined = name.lstrip("/") if name.startswith("/") else str(PurePosixPath(path).parent / name)
    normal = normpath(joined or ".")
    is_out = normal == ".." or normal.startswith("../") or "\0" in normal
    return None if is_out else normal, unquote(anchor)


def malformed(address: str) -> str:
    """What is wrong with the form of an address elsewhere."""
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return f"`{address}` is no address"
    if parts.scheme == "mailto":
        return "" if re.fullmatch(r"[^@\s]+@[^@\s]+", parts.path) else f"`{address}` is no address"
    if parts.scheme not in ("http", "https"):
        return f"`{address}` is no link for a document"
    is_host = host and not re.search(r"\s", address) and all(host.split(".")) and re.fullmatch(r"[\w.:%-]+", host)
    return "" if is_host else f"`{address}` is no address"


# ── names ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class NamesExist:
    """What the Markdown files call ``module.name``, in code within a line and in blocks of Python, is in the code.

    Only modules of the worktree count. What cannot be told without running the code (a star import, the attribute of
    an instance, a base class from elsewhere) is taken to exist.
    """

    files: Sequence[str] = ("**/*.md",)
    modules: Sequence[str] = ()
    """Names of the packages and modules that count; none: all of the worktree."""
    roots: Sequence[str] = (".", "src")
    """Folders that modules are imported from."""
    id: str = "names"

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        found, faults = documents(self.files, self.id, work)
        box = box_of(work, self.id)
        code = Code(self._paths(find(box, self.id, "*.py")), lambda path: text_at(path, self.id, "", work))
        for document in found:
            named = [(line, dotted) for line, text in document.code() for dotted in DOTTED.findall(text)]
            named += [(line, dotted) for line, source in document.blocks() for dotted in used_names(source)]
            faults += [
                fault(self.id, f"`{dotted}` is not in the code", f"{document.path}:{line}: {dotted}")
                for line, dotted in dict.fromkeys(named)
                if self._counts(dotted, code) and not code.has(dotted)
            ]
        return marks_of(self.id, faults)

    def _paths(self, found: Sequence[str]) -> dict[str, str]:
        """Module → its file."""
        paths: dict[str, str] = {}
        for root in reversed(self.roots):
            prefix = "" if root in ("", ".") else f"{root.rstrip('/')}/"
            for path in found:
                if path.startswith(prefix):
                    parts = path.removeprefix(prefix).removesuffix(".py").split("/")
                    if all(part.isidentifier() for part in parts):
                        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        return paths

    def _counts(self, dotted: str, code: "Code") -> bool:
        parts = dotted.split(".")
        if parts[-1] in SUFFIXES:
            return False
        return parts[0] in self.modules if self.modules else parts[0] in code.heads


@dataclass(frozen=True)
class Names:
    """The names that a module or a class defines."""

    defined: Mapping[str, "Names | None"]
    """Name → what it defines in turn, where that is a class."""
    is_open: bool = False
    """Has it names that only running it would tell?"""


OPEN = Names({}, is_open=True)


@dataclass
class Code:
    """The modules of a worktree, each read when it is first asked for."""

    paths: Mapping[str, str]
    read: Callable[[str], str | Mark]
    _known: dict[str, Names] = field(default_factory=dict[str, Names])

    @cached_property
    def heads(self) -> set[str]:
        return {module.partition(".")[0] for module in self.paths if module}

    def has(self, dotted: str) -> bool:
        parts = dotted.split(".")
        deepest = next((n for n in range(len(parts), 0, -1) if self._is_module(".".join(parts[:n]))), 0)
        if not deepest:
            return False
        names: Names | None = self._names(".".join(parts[:deepest]))
        for part in parts[deepest:]:
            if names is None or (names.is_open and part not in names.defined):
                return True
            if part not in names.defined:
                return False
            names = names.defined[part]
        return True

    def _is_module(self, name: str) -> bool:
        return name in self.paths or any(module.startswith(f"{name}.") for module in self.paths)

    def _names(self, module: str) -> Names:
        if module not in self._known:
            source = self.read(self.paths[module]) if module in self.paths else ""
            self._known[module] = OPEN if isinstance(source, Mark) else names_of(source)
        return self._known[module]


def names_of(source: str) -> Names:
    try:
        return names_in(ast.parse(source).body)
    except (SyntaxError, ValueError, RecursionError):  # what is no Python has no names that could be missed
        return OPEN


def names_in(body: Sequence[ast.stmt]) -> Names:
    """What these statements define, also those in an ``if``, a ``try``, a loop or a ``with``."""
    defined: dict[str, Names | None] = {}
    is_open = False
    for statement in flat(body):
        match statement:
            case ast.ClassDef():
                defined[statement.name] = class_names(statement, defined)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                defined[statement.name] = None
                is_open = is_open or statement.name == "__getattr__"
            case ast.Import() | ast.ImportFrom():
                for alias in statement.names:
                    is_open = is_open or alias.name == "*"
                    defined[alias.asname or alias.name.partition(".")[0]] = None
            case _:
                defined.update(dict.fromkeys(assigned(statement)))
    return Names(defined, is_open)


def class_names(node: ast.ClassDef, around: Mapping[str, Names | None]) -> Names:
    own = names_in(node.body)
    defined = dict(own.defined)
    is_open = own.is_open or bool(node.keywords) or (bool(node.decorator_list) and not defined)
    for base in node.bases:
        known = around.get(base.id) if isinstance(base, ast.Name) else None
        if known is not None:
            defined = {**known.defined, **defined}
            is_open = is_open or known.is_open
        elif not (isinstance(base, ast.Name) and base.id == "object"):
            is_open = True
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.value.id == "self":
            defined.setdefault(inner.attr, None)
    return Names(defined, is_open)


def flat(body: Sequence[ast.stmt]) -> Generator[ast.stmt]:
    for statement in body:
        yield statement
        if not isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for part in ("body", "orelse", "finalbody"):
                yield from flat(getattr(statement, part, ()))
            for handler in getattr(statement, "handlers", ()):
                yield from flat(handler.body)


def assigned(statement: ast.stmt) -> list[str]:
    """The names that it assigns to, itself: not in functions within."""
    targets: list[ast.expr] = []
    match statement:
        case ast.Assign():
            targets = list(statement.targets)
        case ast.AnnAssign() | ast.AugAssign() | ast.For():
            targets = [statement.target]
        case ast.With():
            targets = [item.optional_vars for item in statement.items if item.optional_vars is not None]
        case _ if (name := getattr(statement, "name", None)) is not None:  # a type alias
            targets = [name]
        case _:
            pass
    return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]


def used_names(source: str) -> list[str]:
    """The dotted names that a block of Python takes from what it imports."""
    try:
        if PROMPT.match(source):
            source = "".join(example.source for example in doctest.DocTestParser().get_examples(source))
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []
    nodes = list(ast.walk(tree))
    imported: dict[str, str] = {}
    used: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            used += [alias.name for alias in node.names]
            imported |= {
                a.asname or a.name.partition(".")[0]: a.name if a.asname else a.name.partition(".")[0]
                for a in node.names
            }
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*"
            }
            used += [node.module, *names.values()]
            imported |= names
    chains = [chain for node in nodes if isinstance(node, ast.Attribute) and (chain := chain_of(node))]
    used += [".".join([imported[chain[0]], *chain[1:]]) for chain in chains if chain[0] in imported]
    return list(dict.fromkeys(used))


def chain_of(node: ast.Attribute) -> list[str]:
    """``a.b.c`` as its parts; nothing where it begins with anything but a name."""
    parts: list[str] = []
    at: Any = node
    while isinstance(at, ast.Attribute):
        parts.append(at.attr)
        at = at.value
    return [at.id, *reversed(parts)] if isinstance(at, ast.Name) else []


# ── code ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class CodeBlocksRun:
    """The Python blocks of the Markdown files run, those of one file in order and with one set of names.

    In a block with ``>>>`` what is printed has to be what is written there. Code that ends its program has not run;
    code that goes to the length of forging the result that it is asked for is for another check to see.
    """

    files: Sequence[str] = ("**/*.md",)
    at_least: int = 0
    """Blocks that there have to be, so that none is taken away instead of mended."""
    roots: Sequence[str] = (".", "src")
    """Folders that modules are imported from."""
    python: str = "python3"
    seconds: float = 60.0
    """For the blocks of one file."""
    id: str = "code"

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        found, faults = documents(self.files, self.id, work)
        blocks = {document: document.blocks() for document in found}
        count = sum(map(len, blocks.values()))
        if count < self.at_least:
            faults.append(
                fault(self.id, f"there are {count} blocks of Python, and at least {self.at_least} are expected")
            )
        for document, own in blocks.items():
            if own:
                faults += self._run(document.path, own, work)
        return marks_of(self.id, faults)

    def _run(self, path: str, blocks: Sequence[tuple[int, str]], work: Work) -> list[Mark]:
        key, given = secrets.token_hex(16), json.dumps(blocks)
        if len(given) > ARGUMENT:
            return [fault(self.id, f"the blocks of `{path}` are too long to be run")]
        program = (files("harness") / "graders" / "blocks_program.py").read_text(encoding="utf-8")
        try:
            finished = box_of(work, self.id).run(
                [self.python, "-I", "-c", program, key, given, json.dumps(list(self.roots))],
                seconds=min(self.seconds, work.seconds),
            )
        except FileNotFoundError as e:
            raise TrialError("grader", "cannot_verify", f"the check {self.id!r} needs {self.python!r}: {e}") from e
        said = [line.removeprefix(key) for line in finished.output.splitlines() if line.startswith(key)]
        if not said or finished.ended != "exit":
            how = "ended the program before its end" if finished.ended == "exit" else how_it_ended(finished)
            return [fault(self.id, f"the code of `{path}` {how}", finished.output[-200:])]
        return [
            fault(self.id, f"in `{path}`, line `{line}`: {because}", excerpt)
            for line, because, excerpt in json.loads(said[-1])
        ]
