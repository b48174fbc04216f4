"""Is a section of the reference true to the code? Nothing here asks a model, and no answer leaves in a reason."""

import ast
import os
import posixpath
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from experiments.docs_agent.pages import (
    ASKED,
    BLOCK,
    RETURNS,
    Parameter,
    Signature,
    anchors_of,
    functions_in,
    links_of,
    normal,
    rows_of,
    sections_of,
    slug,
    stated,
    summary_of,
)
from harness.graders.marks import fault, marks_of
from harness.graders.patches import DiffInScope
from harness.protocols import Sandbox, Work
from traces.records import Grade, Mark, Record, Task

SECONDS = 10.0
"""That an example may take."""
WORDS = 3
"""That a summary has at least."""
MODULE = re.compile(r"^from pocket\.(\w+) import", re.MULTILINE)
PLAIN = (
    *(ast.Assert, ast.Assign, ast.ImportFrom, ast.alias, ast.Module, ast.Name, ast.Load, ast.Store),
    *(ast.Constant, ast.List, ast.Tuple, ast.Dict, ast.Set, ast.UnaryOp, ast.USub, ast.Not),
    *(ast.Call, ast.keyword, ast.Compare, ast.Eq, ast.Is),
)
"""All that an example may consist of: a program that could end early, or could look elsewhere, shows nothing."""
HARMLESS = frozenset({"sorted", "list", "dict", "set", "tuple", "len", "round"})
"""What an example may call besides."""


class Facts(Record):
    """What a task asks about; its last target."""

    module: str
    function: str
    """As the code has it."""
    section: str
    """As the page calls it before the work."""

    @property
    def path(self) -> str:
        return f"docs/api/{self.module}.md"


def facts_of(task: Task) -> Facts:
    return Facts.model_validate_json(task.targets[-1])


@dataclass(frozen=True)
class DocsGrader:
    """1 for a patch after which the section says what the code does, and nothing else is changed; else 0.

    The reason names the criterion and the kind of fault, so that what fails alike is found together.
    """

    project: Path = field(repr=False)
    sandbox: Sandbox
    """Where examples are run."""

    def grade(self, task: Task, output: str) -> Grade:
        faults = self.faults(facts_of(task), task, output)
        first = next(faults, None)
        return Grade(score=1.0) if first is None else Grade(score=0.0, reason=f"{first.criterion}: {first.because}")

    def faults(self, facts: Facts, task: Task, output: str) -> Iterator[Mark]:
        """What is wrong, the first fault of a kind before what may follow from it."""
        if not output.strip():
            yield fault("scope", "nothing was changed")
            return
        scope = DiffInScope(allowed=[facts.path], files=1).check(task, output, Work(task, {}))
        yield from (mark for mark in scope if not mark.passed)
        before = (self.project / facts.path).read_text("utf-8")
        after = patched(facts.path, before, output)
        if after is None:
            yield fault("scope", "the patch does not apply to the project")
            return
        yield from about_page(facts, before, after, pages_of(self.project), self.code(facts.module))
        if not self.runs(sections_of(after)[facts.function]):
            yield fault("example", "it fails when it is run")

    def code(self, module: str) -> dict[str, Signature]:
        return functions_in((self.project / "pocket" / f"{module}.py").read_text("utf-8"))

    def runs(self, text: str) -> bool:
        """Do all examples of a section run, in a copy of the code that they need, in one go?"""
        example = "\n".join(BLOCK.findall(text))
        with tempfile.TemporaryDirectory(prefix="ratchet-") as folder:
            for module in set(MODULE.findall(example)):
                if (source := self.project / "pocket" / f"{module}.py").is_file():
                    (Path(folder) / "pocket").mkdir(exist_ok=True)
                    shutil.copy(source, Path(folder) / "pocket")
            with self.sandbox.open(Path(folder)) as box:
                box.write("example.py", example)
                finished = box.run(["python3", "-S", "-B", "example.py"], seconds=SECONDS)
        return finished.ended == "exit" and finished.exit_code == 0


def pages_of(project: Path) -> dict[str, str]:
    return {str(page.relative_to(project)): page.read_text("utf-8") for page in project.glob("docs/**/*.md")}


@lru_cache(maxsize=256)  # what the maker hands in is looked at by several, and graded
def patched(path: str, before: str, patch: str) -> str | None:
    """The file at *path* after *patch*, which changes no other; ``None``: it does not apply."""
    with tempfile.TemporaryDirectory(prefix="ratchet-") as folder:
        file = Path(folder) / path
        file.parent.mkdir(parents=True)
        file.write_text(before, "utf-8", newline="\n")
        done = subprocess.run(
            ["git", "apply", "-"],
            cwd=folder,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(Path(folder).parent)},
            input=patch.encode(),
            capture_output=True,
            check=False,
        )
        return file.read_text("utf-8", errors="replace") if not done.returncode and file.is_file() else None


# ── what the maker is told ─────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class OneSection:
    """The section that was asked for is changed, and nothing else of the page."""

    project: Path = field(repr=False)
    id: str = "section"

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        path, section = asked(task)
        before = (self.project / path).read_text("utf-8")
        after = patched(path, before, output)
        return marks_of(self.id, [*about_scope(section, before, before if after is None else after)])


@dataclass(frozen=True)
class LinksLead:
    """The links of the section are all there, and lead to what they name."""

    project: Path = field(repr=False)
    id: str = "links"

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        path, section = asked(task)
        before = (self.project / path).read_text("utf-8")
        after = patched(path, before, output) or before
        old, new = sections_of(before), sections_of(after)
        at = [*old].index(section)
        text = [*new.values()][at] if len(new) == len(old) else ""
        return marks_of(self.id, [*about_links(path, old[section], text, {**pages_of(self.project), path: after})])


def asked(task: Task) -> tuple[str, str]:
    """The page and the section that a task names."""
    found = ASKED.search(task.input)
    assert found is not None
    return found[1], found[2]


# ── the criteria ───────────────────────────────────────────────────────────────────────────────────────────────


def about_page(
    facts: Facts, before: str, after: str, pages: Mapping[str, str], code: Mapping[str, Signature]
) -> Iterator[Mark]:
    """All that can be seen without running anything. *pages*: of all of the documentation, as it was."""
    yield from about_scope(facts.section, before, after)
    text = sections_of(after).get(facts.function)
    if text is None:
        yield fault("names", "there is no section under the name that the function has in the code")
        return
    shown = sections_of(before)[facts.section]
    yield from about_signature(text, code[facts.function])
    yield from about_example(text, facts, shown)
    yield from about_links(facts.path, shown, text, {**pages, facts.path: after})
    yield from about_summary(text)


def about_scope(section: str, before: str, after: str) -> Iterator[Mark]:
    """Is the one section changed, and nothing else? It may have got another name."""
    old, new = [*sections_of(before).items()], [*sections_of(after).items()]
    at = [name for name, _ in old].index(section)
    if len(old) != len(new) or before.count("\n## ") != after.count("\n## "):
        yield fault("scope", "a section was added or taken out")
    elif old[:at] != new[:at] or old[at + 1 :] != new[at + 1 :]:
        yield fault("scope", "another section of the page is changed")
    elif old[at] == new[at]:
        yield fault("scope", "nothing was changed")


def about_signature(text: str, true: Signature) -> Iterator[Mark]:
    """Does what the section says of parameters and returns agree with the code?"""
    said = stated(text)
    if said is None:
        yield fault("signature", "there is no one line with a signature that can be read")
        return
    if said.name != true.name:
        yield fault("names", "the signature has another name than the function in the code")
    yield from about_parameters("signature", said.parameters, true.parameters)
    yield from about_parameters("table", rows_of(text), true.parameters)
    stated_returns = [normal(found) for found in RETURNS.findall(text)]
    if said.returns != true.returns or stated_returns != [true.returns]:
        yield fault("returns", "the type returned is not the code's")


def about_parameters(criterion: str, said: Sequence[Parameter], true: Sequence[Parameter]) -> Iterator[Mark]:
    names, known = [p.name for p in said], [p.name for p in true]
    if set(names) - set(known):
        yield fault(criterion, "documents a parameter that the code does not have")
    elif names != known:
        yield fault(criterion, "leaves out a parameter that the code has, or has them in another order")
    elif [p.default for p in said] != [p.default for p in true]:
        yield fault(criterion, "documents a default that the code does not have")
    elif tuple(said) != tuple(true):
        yield fault(criterion, "documents a type that the code does not have")


def about_example(text: str, facts: Facts, shown: str) -> Iterator[Mark]:
    """Does an example show what the function returns? Whether it is true is seen when it is run."""
    try:
        trees = [ast.parse(block) for block in BLOCK.findall(text)]
    except (SyntaxError, ValueError):
        yield fault("example", "it is not Python")
        return
    nodes = [node for tree in trees for node in ast.walk(tree)]
    if not is_plain(nodes):
        yield fault("example", "does more than import from the package, call and assert")
    elif sum(shows(node, facts.function) for node in nodes) < max(shown.count("\nassert "), 1):
        yield fault("example", "shows less of what the function returns than before")


def is_plain(nodes: Sequence[ast.AST]) -> bool:
    """Is nothing called but what comes from the package, under the name that it has there?"""
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    imported = {alias.name for node in imports for alias in node.names}
    assigned = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    called = [node.func for node in nodes if isinstance(node, ast.Call)]
    return (
        all(isinstance(node, PLAIN) for node in nodes)
        and all(node.module is not None and node.module.split(".")[0] == "pocket" for node in imports)
        and all(node.asname is None for node in nodes if isinstance(node, ast.alias))
        and all(isinstance(function, ast.Name) and function.id in imported | HARMLESS for function in called)
        and not assigned & (imported | HARMLESS)
    )


def shows(node: ast.AST, function: str) -> bool:
    """Does *node* assert that a call of *function* gives a value that stands there?"""
    if not isinstance(node, ast.Assert) or not isinstance(node.test, ast.Compare) or len(node.test.ops) != 1:
        return False
    sides = (node.test.left, node.test.comparators[0])
    calls = [isinstance(s, ast.Call) and isinstance(s.func, ast.Name) and s.func.id == function for s in sides]
    return sum(calls) == 1 and is_value(sides[calls.index(False)])


def is_value(expression: ast.expr) -> bool:
    return not any(isinstance(node, ast.Name | ast.Call) for node in ast.walk(expression))


def about_links(path: str, before: str, after: str, pages: Mapping[str, str]) -> Iterator[Mark]:
    """Do the links that were there still stand there, and lead to what they name?"""
    links = links_of(after)
    if {link.label for link in links_of(before)} - {link.label for link in links}:
        yield fault("links", "a link was taken out")
    for link in links:
        name, _, anchor = link.target.partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), name)) if name else path
        if target not in pages:
            yield fault("links", "a link leads to no file", str(link))
        elif anchor not in anchors_of(pages[target]):
            yield fault("links", "a link leads to no heading", str(link))
        elif anchor != slug(link.label):
            yield fault("links", "a link leads to something else than it names", str(link))


def about_summary(text: str) -> Iterator[Mark]:
    """Is there a sentence that says what the function is for?"""
    summary = summary_of(text)
    if "TODO" in summary or len(summary.split()) < WORDS or not summary.endswith((".", "?")):
        yield fault("summary", "there is no sentence that says what the function does")
