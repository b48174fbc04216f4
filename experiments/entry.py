"""What a command is made of: its program, its script, and the files of the project that it needs."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from experiments.figures import direction, words_of
from harness.errors import UserError

SHELL = frozenset({"|", "||", "&", "&&", ";", ">", ">>", "<", "2>", "2>&1", "&>"})
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
PYTHON = re.compile(r"python(\d(\.\d+)?)?")
MEASURES = re.compile(
    r"(^|_)(eval\w*|metrics?|scor(e|er|ing)|grad(e|er|ing)|judge|check(er)?|verif\w*|bench(mark)?s?|tests?|prepare\w*|"
    r"data(set|loader)?s?|fixtures?|reference|baseline|timing|timer)($|_)"
)
"""Names of modules that measure, or hold what is measured on, rather than what is to be improved."""
MEASURED = frozenset({"length", "distance", "size", "value", "total", "objective", "target", "valid", "validate"})
"""Words in the name of a function that may be a measure."""
LONGEST = 200
"""Characters of a text in a script that may name a file."""
ASKED = 20.0
"""Seconds that a Python has to say where it lives."""


@dataclass(frozen=True)
class Entry:
    """A command, taken apart as it stands in *base*."""

    words: tuple[str, ...]
    """As it is run in the sandbox."""
    script: str | None
    """The file of the project that it starts, named from the folder that it is run in."""
    is_python: bool
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    readable: tuple[Path, ...] = ()
    """What the program needs of folders that a sandbox hides, such as a virtual environment."""
    told: tuple[str, ...] = ()
    """What was made of it, in words, where it is not what was typed."""

    @property
    def command(self) -> str:
        return shlex.join(self.words)


def entry(command: str, base: Path) -> Entry:
    """*command* as it is typed in *base*.

    Raises:
        UserError: it is empty, wants a shell, or names a program that is not there.
    """
    try:
        words = shlex.split(command)
    except ValueError as e:
        raise UserError(f"{command!r} cannot be taken apart as a shell would: {e}. Close the quotation") from e
    shell = next((word for word in words if word in SHELL or word.endswith(";") or "$(" in word), None)
    if shell is not None or words[:1] == ["cd"]:
        raise UserError(
            f"{command!r} wants a shell ({shell or 'cd'}), and none runs it: a limit has to reach all that it starts. "
            "Put it into a script, and name that: --command 'sh bench.sh'"
        )
    environment: dict[str, str] = {}
    while words and ASSIGNMENT.fullmatch(words[0]):
        name, _, environment[name] = words.pop(0).partition("=")
    if not words:
        raise UserError(
            "the command is empty, so there is nothing to measure. For example: --command 'python bench.py'"
        )
    told: list[str] = []
    if words[:2] == ["uv", "run"] and len(words) > 2 and not words[2].startswith("-"):
        words = uv_run(words[2:], base)
        told.append(f"uv has no network in the sandbox, so what it would run is run: {shlex.join(words)}")
    direct = local(words[0], base) if "/" in words[0] else None
    line = shebang(base / direct) if direct is not None else []
    if direct is not None and line:
        words = [*line, direct, *words[1:]]
        told.append(f"{direct} is started as its first line says: {shlex.join(words)}")
    program = shutil.which(words[0] if direct is None or line else str(base / words[0]))
    if program is None and direct is not None:
        raise UserError(
            f"{direct} is no program: it has no first line such as #!/bin/sh. Say what runs it: 'sh {direct}'"
        )
    if program is None:
        raise UserError(
            f"there is no program {words[0]!r} here, so the command cannot run. Type it as you would in {base}, "
            "for example: --command 'python bench.py'"
        )
    is_python = PYTHON.fullmatch(Path(words[0]).name) is not None
    readable: tuple[Path, ...] = ()
    if is_python:
        words[0], readable = interpreter(program, words[0])
    elif not is_of_the_system(Path(program)) and not (direct and not line):
        readable = (Path(program).parent,)
        words[0] = program
        told.append(f"the sandbox is shown {Path(program).parent}, where {Path(program).name} is")
    script = script_of(words, base, is_python)
    missing = next((word for word in words[1:] if word.endswith(".py")), None)
    if is_python and script is None and missing is not None and not {"-c", "-m"} & set(words):
        raise UserError(
            f"there is no {missing} below {base}. Type the command as you would there, with a file of yours"
        )
    return Entry(tuple(words), script, is_python, environment, readable, tuple(told))


def uv_run(words: list[str], base: Path) -> list[str]:
    """What ``uv run`` would run, in the virtual environment that it would use."""
    if words[0].endswith(".py"):
        words = ["python", *words]
    place = next(
        (f / ".venv" / "bin" for f in (base, *base.parents) if (f / ".venv" / "bin" / "python").exists()), None
    )
    if place is None or not (place / words[0]).exists():
        return words
    return [str(place / words[0]), *words[1:]]


def shebang(path: Path) -> list[str]:
    """The interpreter that the first line of *path* names; nothing where it names none."""
    with path.open("rb") as file:
        line = file.readline(200)
    if not line.startswith(b"#!"):
        return []
    words = line[2:].decode(errors="replace").split()
    is_env = len(words) > 1 and words[0].endswith("/env")
    return [word for word in words[1:] if word != "-S"] if is_env else words


def interpreter(program: str, typed: str) -> tuple[str, tuple[Path, ...]]:
    """How a Python is called in the sandbox, and what it needs to see there.

    The one that Ratchet runs in is there already, as ``python``. Another one is asked where it lives: what is called
    so may be a link, a shim or a script.
    """
    asking = "import sys; print(sys.executable, sys.prefix, sys.base_prefix, sep='\\n')"
    try:
        done = subprocess.run(
            [program, "-c", asking],
            capture_output=True,
            text=True,
            timeout=ASKED,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise UserError(f"{typed} does not start: {e}. Name one that does: --command '/path/to/python …'") from e
    lines = done.stdout.splitlines()
    if done.returncode or len(lines) != 3:
        raise UserError(
            f"{typed} ({program}) does not start: {(done.stderr or done.stdout).strip()[-300:]}. Name one that does: "
            "--command '/path/to/python …'"
        )
    executable, prefix, real = lines
    if Path(prefix).resolve() == Path(sys.prefix).resolve():
        return "python", ()
    shown = Path(sys.base_prefix).resolve()
    outside = (Path(p) for p in (prefix, real) if not is_of_the_system(Path(p)) and Path(p).resolve() != shown)
    needed = tuple(dict.fromkeys(outside))
    return executable, needed


def is_of_the_system(path: Path) -> bool:
    """Can a sandbox see it anyway?"""
    real = path.resolve()
    return any(real.is_relative_to(folder) for folder in ("/usr", "/bin", "/sbin", "/lib", "/nix/store"))


def script_of(words: Sequence[str], base: Path, is_python: bool) -> str | None:
    """The file of the project that *words* start."""
    arguments = iter(words[1:])
    for word in arguments if is_python else ():
        if word == "-m":
            module = next(arguments, "").replace(".", "/")
            places = (f"{module}.py", f"{module}/__main__.py")
            return next((place for place in places if (base / place).is_file()), None)
        if word == "-c":
            return None
        if word in ("-W", "-X"):
            next(arguments, None)
        elif not word.startswith("-"):
            return local(word, base)
    return next((name for word in words if (name := local(word, base))), None)


def local(word: str, base: Path) -> str | None:
    """The file below *base* that *word* names, from there; ``None``: none."""
    if not word or word.startswith("-"):
        return None
    path = Path(os.path.normpath(base / word))
    return path.relative_to(base).as_posix() if path.is_relative_to(base) and path.is_file() else None


# ── what it needs ──────────────────────────────────────────────────────────────────────────────────────────────


def files_needed(starts: Sequence[str], base: Path, known: Collection[str]) -> set[str]:
    """The *known* files that those in *starts* import or name, and what these need in turn; themselves included.

    A text that names a folder stands for all that is in it.
    """
    found: set[str] = set()
    waiting = list(starts)
    roots = {PurePosixPath(start).parent for start in starts} | {PurePosixPath()}
    while waiting:
        path = waiting.pop()
        if path in found or path not in known:
            continue
        found.add(path)
        waiting += imported(path, base, known, roots) if path.endswith(".py") else ()
        waiting += named(path, base, known)
    return found


def imported(path: str, base: Path, known: Collection[str], roots: Collection[PurePosixPath]) -> Iterator[str]:
    """The *known* files that the Python file *path* imports, packages that they are in included."""
    here = PurePosixPath(path).parent
    for node in ast.walk(tree_of(base / path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from modules(alias.name, {here, *roots}, known)
        elif isinstance(node, ast.ImportFrom):
            places = (
                {here, *roots} if not node.level else {[here, *here.parents][min(node.level, len(here.parts) + 1) - 1]}
            )
            inside = node.module or ""
            for alias in node.names:
                yield from modules(".".join(part for part in (inside, alias.name) if part), places, known)


def modules(dotted: str, places: Collection[PurePosixPath], known: Collection[str]) -> Iterator[str]:
    """The files that are read when *dotted*, a module or a name in one, is imported from one of *places*."""
    parts = dotted.split(".")
    for place in places:
        for length in range(1, len(parts) + 1):
            stem = place.joinpath(*parts[:length])
            for candidate in (f"{stem}.py", f"{stem}/__init__.py"):
                if candidate in known:
                    yield candidate


def taken_from(path: str, module: str, base: Path) -> set[str]:
    """The names that the Python file *path* takes from the file *module*, such as ``solve``."""
    stem = PurePosixPath(module).with_suffix("")
    dotted = ".".join(stem.parent.parts if stem.name == "__init__" else stem.parts)
    tree = tree_of(base / path)
    called: set[str] = set()
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            called |= {alias.asname or alias.name for alias in node.names if ends_with(dotted, alias.name)}
        elif isinstance(node, ast.ImportFrom):
            inside = node.module or ""
            if inside and ends_with(dotted, inside):
                found |= {alias.name for alias in node.names}
            called |= {a.asname or a.name for a in node.names if ends_with(dotted, f"{inside}.{a.name}".strip("."))}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in called:
            found.add(node.attr)
    return found


def ends_with(dotted: str, name: str) -> bool:
    """Is *name* the module *dotted*, or its end, as seen from a folder above?"""
    return f".{dotted}".endswith(f".{name}")


def named(path: str, base: Path, known: Collection[str]) -> Iterator[str]:
    """The *known* files that texts in the file *path* name, from its folder or from *base*."""
    places = {PurePosixPath(path).parent, PurePosixPath()}
    for text in texts_in(path, base):
        if not text.strip("./ ") or text.startswith(("/", "~")) or not text.isprintable():
            continue
        for place in places:
            name = os.path.normpath(place / text)
            if name in known:
                yield name
            yield from (other for other in known if other.startswith(f"{name}/"))


def texts_in(path: str, base: Path) -> Iterator[str]:
    if path.endswith(".py"):
        for node in ast.walk(tree_of(base / path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) <= LONGEST:
                yield node.value
        return
    try:
        if (base / path).stat().st_size <= 1 << 16:
            yield from re.findall(r"[\w./@+-]+", (base / path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return


def tree_of(path: Path) -> ast.Module:
    """Its syntax tree; an empty one where it has none, which the run of it will say better."""
    try:
        return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError):
        return ast.Module(body=[], type_ignores=[])


def sounds_measured(name: str) -> bool:
    """Does the name of a function say that what it returns is a measure?"""
    return not MEASURED.isdisjoint(words_of(name)) or direction(name) is not None or measures(name)


def measures(path: str) -> bool:
    """Does its name say that it measures, or holds what is measured on?"""
    pure = PurePosixPath(path)
    return any(MEASURES.search(part.casefold()) for part in (*pure.parent.parts, pure.stem))
