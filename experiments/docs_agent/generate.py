"""Write the project whose documentation is kept, and ``tasks.jsonl``: a section of it each, with one mistake planted.

``library/`` is the whole truth: a module each, with a summary and an example for every function. The code of the
project is the same without them, and its reference says what they say, but for the mistakes. The same seed writes the
same bytes::

    python -m experiments.docs_agent.generate
"""

import ast
import difflib
import json
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from experiments.docs_agent.pages import Link, Parameter, Section, signature_of, slug, spelled, written
from traces.records import Task

SEED = 20261120
HERE = Path(__file__).parent
LIBRARY = HERE / "library"
PROJECT = HERE / "project"
PACKAGE = "pocket"
GUIDES = {
    "writing": ("text", "words", "lines", "messages", "paths"),
    "counting": ("numbers", "ranges", "matrices", "units", "dice"),
    "records": ("lists", "tables", "dicts", "trees", "graphs"),
    "everyday": ("times", "money", "colours", "codes", "queues"),
}
"""Guide → the modules that it introduces."""


@dataclass(frozen=True)
class Entry:
    """One function as the library has it."""

    module: str
    title: str
    source: str
    """Without what is said about it."""
    section: Section
    """What is true about it; its links are still missing."""


# ── the library ────────────────────────────────────────────────────────────────────────────────────────────────


def entries(module: str) -> Iterator[Entry]:
    text = (LIBRARY / f"{module}.py.txt").read_text("utf-8")
    tree = ast.parse(text)
    title = ast.get_docstring(tree) or ""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            said = ast.get_docstring(node) or ""
            summary, _, rest = said.partition("\n\n")
            source = without_docstring(text, node)
            signature = signature_of(node)
            calls = [line.removeprefix(">>> ") for line in rest.splitlines()]
            example = example_of(module, node.name, {call: value_of(source, call) for call in calls})
            section = Section(
                summary, signature, signature.parameters, signature.returns, example, (), heading=node.name
            )
            yield Entry(module, title, source, section)


def without_docstring(text: str, node: ast.FunctionDef) -> str:
    lines = text.splitlines()
    docstring = node.body[0]
    assert docstring.end_lineno is not None
    return "\n".join([*lines[node.lineno - 1 : docstring.lineno - 1], *lines[docstring.end_lineno : node.end_lineno]])


def value_of(source: str, call: str) -> str:
    """What *call* returns, as it is written in code."""
    names: dict[str, Any] = {}
    exec(source, names)
    return spelled(eval(call, names))


def example_of(module: str, name: str, values: Mapping[str, str]) -> str:
    lines = [f"assert {call} {'is' if value in ('True', 'False') else '=='} {value}" for call, value in values.items()]
    return "\n".join([f"from {PACKAGE}.{module} import {name}", "", *lines])


# ── mistakes ───────────────────────────────────────────────────────────────────────────────────────────────────


def renamed_parameter(true: Section, rng: random.Random) -> Section:
    """It had another name once, in the example as well."""
    old = true.signature.parameters[-1]
    new = replace(old, name=f"{rng.choice(('max', 'use', 'my', 'the'))}_{old.name}")
    example = true.example.replace(f"{old.name}=", f"{new.name}=")
    return replace(with_parameters(true, (*true.signature.parameters[:-1], new)), example=example)


def another_default(true: Section, rng: random.Random) -> Section:
    last = true.signature.parameters[-1]
    assert last.default is not None
    value = ast.literal_eval(last.default)
    match value:
        case bool():
            other: Any = not value
        case int() | float():
            other = value + rng.choice((1, 5))
        case _:
            other = value[:-1] or (value or "-") * 2
    return with_parameters(true, (*true.signature.parameters[:-1], replace(last, default=spelled(other))))


def missing_parameter(true: Section, rng: random.Random) -> Section:
    return with_parameters(true, true.signature.parameters[:-1])


def extra_parameter(true: Section, rng: random.Random) -> Section:
    extra = rng.choice((Parameter("strict", "bool", "False"), Parameter("encoding", "str", "'utf-8'")))
    return with_parameters(true, (*true.signature.parameters, replace(extra, name=f"{extra.name}_mode")))


def another_return(true: Section, rng: random.Random) -> Section:
    other = rng.choice([t for t in ("str", "list[str]", "int", "None", "bool") if t != true.returns])
    return replace(true, returns=other, signature=replace(true.signature, returns=other))


def with_parameters(true: Section, parameters: tuple[Parameter, ...]) -> Section:
    return replace(true, rows=parameters, signature=replace(true.signature, parameters=parameters))


def old_name(true: Section, rng: random.Random) -> Section:
    name = true.signature.name
    old = f"{rng.choice(('get', 'make', 'do'))}_{name}"
    example = true.example.replace(f"{name}(", f"{old}(").replace(f"import {name}", f"import {old}")
    return replace(true, heading=old, signature=replace(true.signature, name=old), example=example)


def wrong_value(true: Section, rng: random.Random) -> Section:
    """The example promises what the function does not return."""
    head, sign, value = last_assertion(true)
    literal = ast.literal_eval(value)
    match literal:
        case bool():
            other: Any = not literal
        case int() | float():
            other = literal + rng.choice((1, 2, 10))
        case str():
            other = literal + rng.choice((".", " ", "s"))
        case list():
            other = [*literal, *literal[-1:]] if literal else [0]
        case tuple():
            other = (*literal, 0)
        case _:
            other = {}
    return replace(true, example=f"{head} {sign} {spelled(other)}")


def wrong_import(true: Section, rng: random.Random) -> Section:
    """The example imports from where the function is no more."""
    first, rest = true.example.split("\n", 1)
    return replace(true, example=first.replace(" import", f"_{rng.choice(('tools', 'utils'))} import") + "\n" + rest)


def wrong_keyword(true: Section, rng: random.Random) -> Section:
    """The example passes a parameter by a name that nothing else mentions."""
    used = [p.name for p in true.signature.parameters if f"{p.name}=" in true.example]
    name = rng.choice(used)
    return replace(true, example=true.example.replace(f"{name}=", f"{name[:1]}_{name[1:] or 'x'}="))


def last_assertion(true: Section) -> tuple[str, str, str]:
    """What comes before the sign, the sign, and the value of an example's last assertion."""
    node = ast.parse(true.example).body[-1]
    assert isinstance(node, ast.Assert)
    assert isinstance(node.test, ast.Compare)
    value = written(node.test.comparators[0])
    head, sign, _ = true.example.removesuffix(value).rpartition(" == ")
    return (head, sign.strip(), value) if sign else (true.example.removesuffix(f" is {value}"), "is", value)


def wrong_file(true: Section, rng: random.Random) -> Section:
    return with_link(true, rng, lambda target: target.replace(".md", rng.choice(("s.md", "-old.md", ".html"))))


def wrong_anchor(true: Section, rng: random.Random) -> Section:
    return with_link(true, rng, lambda target: target + rng.choice(("-1", "s", "-and-more")))


def with_link(true: Section, rng: random.Random, change: Callable[[str], str]) -> Section:
    at = rng.randrange(len(true.links))
    links = [replace(link, target=change(link.target)) if i == at else link for i, link in enumerate(true.links)]
    return replace(true, links=tuple(links))


def no_summary(true: Section, rng: random.Random) -> Section:
    return replace(true, summary="TODO")


Mistake = Callable[[Section, random.Random], Section]
MISTAKES: Mapping[str, Mapping[Mistake, int]] = {
    "reference": {
        renamed_parameter: 28,
        another_default: 16,
        missing_parameter: 12,
        extra_parameter: 24,
        another_return: 12,
    },
    "rename": {old_name: 24},
    "example": {wrong_value: 8, wrong_import: 8, wrong_keyword: 8},
    "link": {wrong_file: 18, wrong_anchor: 18},
    "summary": {no_summary: 24},
}
"""Tag → what is planted, and how often."""


# ── the project ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Planted:
    """A section that is wrong."""

    entry: Entry
    true: Section
    shown: Section
    tag: str
    mistake: str


def planted(seed: int = SEED) -> dict[str, list[Planted]]:
    """Module → its sections, in their order."""
    rng = random.Random(seed)
    todo = [(tag, mistake) for tag, kinds in MISTAKES.items() for mistake, times in kinds.items() for _ in range(times)]
    rng.shuffle(todo)
    library = {module: [*entries(module)] for modules in GUIDES.values() for module in modules}
    guide_of = {module: guide for guide, modules in GUIDES.items() for module in modules}
    found: dict[str, list[Planted]] = {}
    for module, functions in library.items():
        here = [todo.pop() for _ in functions]
        steady = [e.section.heading for e, (tag, _) in zip(functions, here, strict=True) if tag != "rename"]
        found[module] = []
        for entry, (tag, mistake) in zip(functions, here, strict=True):
            after = [*steady[len(found[module]) % len(steady) :], *steady]
            other = next(name for name in after if name != entry.section.heading)
            links = (
                Link(f"`{other}`", f"{module}.md#{slug(other)}"),
                Link(entry.title, f"../guides/{guide_of[module]}.md#{slug(entry.title)}"),
            )
            true = replace(entry.section, links=links)
            found[module].append(Planted(entry, true, mistake(true, rng), tag, mistake.__name__))
    assert not todo
    return found


def page(title: str, module: str, sections: list[Section]) -> str:
    return "\n".join([f"# {title}\n\nThe functions of `{PACKAGE}.{module}`.\n", *map(str, sections)])


def guide(name: str, titles: Mapping[str, str]) -> str:
    parts = [
        f"## {title}\n\nWhat this is for is best seen in the [reference](../api/{module}.md): import what "
        f"you need from `{PACKAGE}.{module}`.\n"
        for module, title in titles.items()
    ]
    return "\n".join([f"# A guide to {name}\n", *parts])


def files(seed: int = SEED) -> dict[str, str]:
    """Path → text of the project."""
    found = planted(seed)
    titles = {module: sections[0].entry.title for module, sections in found.items()}
    made = {"README.md": (HERE / "project_readme.md").read_text("utf-8"), f"{PACKAGE}/__init__.py": ""}
    for module, sections in found.items():
        made[f"{PACKAGE}/{module}.py"] = "\n\n".join(s.entry.source + "\n" for s in sections)
        made[f"docs/api/{module}.md"] = page(titles[module], module, [s.shown for s in sections])
    for name, modules in GUIDES.items():
        made[f"docs/guides/{name}.md"] = guide(name, {module: titles[module] for module in modules})
    return made


def tasks(seed: int = SEED) -> Iterator[Task]:
    """One for each section. Targets: the patch that mends it, and what the grader has to know."""
    for module, sections in planted(seed).items():
        path = f"docs/api/{module}.md"
        shown = [s.shown for s in sections]
        for at, section in enumerate(sections):
            before = page(section.entry.title, module, shown)
            after = page(section.entry.title, module, [*shown[:at], section.true, *shown[at + 1 :]])
            facts = {"function": section.true.heading, "module": module, "section": section.shown.heading}
            yield Task(
                id=f"{module}.{section.true.heading}",
                input=f"Bring {path}, section `{section.shown.heading}`, up to date with the code.",
                targets=(patch(path, before, after), json.dumps(facts)),
                tags=(section.tag,),
            )


def patch(path: str, before: str, after: str) -> str:
    """As git writes it."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{path}", f"b/{path}"
    )
    return f"diff --git a/{path} b/{path}\n" + "".join(lines)


def task_lines(seed: int = SEED) -> str:
    """The text of ``tasks.jsonl``."""
    return "".join(task.model_dump_json(exclude_defaults=True) + "\n" for task in tasks(seed))


def write() -> None:
    shutil.rmtree(PROJECT, ignore_errors=True)
    for path, text in files().items():
        (PROJECT / path).parent.mkdir(parents=True, exist_ok=True)
        (PROJECT / path).write_text(text, "utf-8", newline="\n")
    (HERE / "tasks.jsonl").write_text(task_lines(), "utf-8", newline="\n")


if __name__ == "__main__":
    write()
