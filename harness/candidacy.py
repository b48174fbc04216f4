"""Is a change of code a candidate? Not where it does the same as before, and not where it changes what is measured.

This reads code and runs none, so it is a fence that keeps honest proposers off the seed, the evaluation, the data order
and the timing, and tells them the line. It is no wall: who means to cheat can compute a name that no reader sees. The
walls are the sandbox, the files that are fixed, and a metric that is made outside of the candidate's process.

What is guarded in Python are *places*: a simple statement, or the head of a compound one, that names something of
``GUARDED``; of a definition with such a name all of it. Smaller where that is sound: of an argument ``seed=…``, of an
entry of a dictionary and of a seed that is handed to a call only that. Each stands with the functions, loops and
branches around it, and those in one of these keep their order. So definitions can be moved, other lines can be added
between the places, names that are new can take the place of names that are gone, and a variable that is new may be
called as it likes; while a guarded line cannot move into a loop, into a function or past another one. What is not seen:
a change of what guarded code is given (a shorter ``data`` before ``evaluate(data)``, a number that multiplies as it
likes), a draw more from a generator that others draw from, a method or a function that changes what a module holds
(``prepare.table.clear()``, ``change(prepare.table)``), work in other processes, a metric's name that is put together
from parts, and what another program is told to do.
"""

import ast
import hashlib
import re
import sys
import sysconfig
import threading
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

GUARDED: tuple[str, ...] = (
    "*seed*",
    "random_state",
    "randomstate",
    "default_rng",
    "prngkey",
    "random.key",
    "random.Random",
    "random.Generator",
    "torch.Generator",
    "bit_generator",
    "bitgenerator",
    "pcg64*",
    "mt19937",
    "philox",
    "sfc64",
    "*setstate*",
    "set_state",
    "*rng_state*",
    "use_deterministic_algorithms",
    "ratchet_*",
    "*shuffle*",
    "permutation",
    "permuted",
    "randperm",
    "random_split",
    "train_test_split",
    "*sampler",
    "evaluate*",
    "eval_*",
    "validate*",
    "validation*",
    "val_*",
    "time.*",
    "timeit.*",
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "perf_counter*",
    "monotonic*",
    "process_time*",
    "sleep",
    "signal.*",
    "*time_budget*",
    "*time_limit*",
    "*deadline*",
)
"""Patterns of dotted names: what calls them, assigns to them or reads them is about seed, evaluation, data order or
timing. ``*`` stands for any part of one name, upper and lower case are alike unless the pattern has both, and it may
stand anywhere in a dotted name: ``time.*`` is in ``time.sleep`` as ``seed`` is in ``np.random.seed``. Imported names
count as what they are in their module, whatever they are called here. A name with ``:`` behind it is guarded only where
a text prints it, as ``loss: 0.5`` or a key of JSON has it."""

_SEEDS = re.compile(
    r".*seed.*|random_?state|default_rng|prngkey|key|(?-i:Random|Generator)|pcg64.*|mt19937|philox|sfc64",
    re.IGNORECASE,
)
"""Names that are only handed on: arithmetic with what comes of them does not change what is measured."""

_UNREADABLE = re.compile(
    r"(?:builtins\.)?(?:exec|eval|compile|__import__|globals|locals|vars)|(?:importlib|runpy|ctypes|marshal|gc|imp)(?:\..+)?"
    r"|types\.(?:CodeType|FunctionType)|sys\.(?:modules|meta_path|path_hooks|path|settrace|setprofile|_getframe)(?:\..+)?"
    r"|(?:pickle|dill|cloudpickle|joblib)\.loads?|inspect\.(?:currentframe|stack)|builtins(?:\..+)?"
    r"|(?:.*\.)?__(?:builtins|code|globals|subclasses|dict|getattribute)__(?:\..+)?"
    r"|unittest\.mock(?:\..+)?|mock\.patch.*|operator\.(?:setitem|delitem|methodcaller)"
    r"|atexit(?:\..+)?|weakref\.finalize|os\.(?:dup2?|fork\w*|posix_spawn\w*|exec[lv]\w*)"
)
"""Ways to do what no reader of the text can see."""

_CHANGING = ("__setitem__", "__delitem__", "__setattr__", "__delattr__", "__iadd__", "__setstate__")
_ENVIRONMENT = ("os.environ", "os.environb")

_SETTINGS = re.compile(r"os\.environ\..+|.*\.(?:backends|rcParams|options|config)\..+")
"""What modules hold to be set."""

_REACHES_IN = ("getattr", "setattr", "delattr", "builtins.getattr", "builtins.setattr", "builtins.delattr")
_CODING = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
_PRAGMA = re.compile(
    r"^[ \t\f]*#[ \t]*(?:cython[ \t]*:|distutils[ \t]*:|pythran\b|omp\b|mypyc\b|///)|#[ \t]*type:(?![ \t]*ignore\b)",
    re.M,
)
"""Comments that a compiler or a starter of scripts reads."""
_DOCSTRING_READERS = frozenset(
    ("__doc__", "getdoc", "doctest", "pydoc", "docopt", "fire", "help", "inspect", "getattr", "globals", "locals")
) | {"vars", "__dict__", "modules", "importlib", "__import__", "__main__", "exec", "eval"}
_SOURCE_READERS = frozenset(("__file__", "getsource", "getsourcelines", "findsource", "linecache", "tokenize"))
_PYTHON_PATH = re.compile(r"[\w./*-]*\.pyw?")
_DOCUMENTING = re.compile(r"__doc__|getdoc|doctest|pydoc")
_PYTHON = (".py", ".pyw")
_PROSE = (".md", ".rst")
"""Nothing runs or reads them as settings."""
_SELF_STARTING = ("sitecustomize.py", "usercustomize.py")

_warnings_lock = threading.Lock()


def identity(text: Mapping[str, str]) -> str:
    """A digest of what the files do: of Python the syntax tree, of others the text as it is.

    Two versions of one identity do the same; where that is in doubt they have two. So docstrings are left out only of
    modules and of functions that are called and never handed on, decorated or held by a class, as tools and prompts
    are, and only where nothing of the subject reads docstrings. Comments count where something reads source text, and
    in files that talk to a compiler in them; Python that does not parse counts by its text. What is not seen: a fixed
    file that reads docstrings or comments. Never raises, whatever *text* is.
    """
    known = {path: _known(is_python(path), source) for path, source in text.items()}
    handed = {name for one in known.values() for name in one.handed}
    of_source = any(one.reads_source for one in known.values())
    of_docstrings = any(one.reads_docstrings for one in known.values())
    digest = hashlib.sha256()
    for path in sorted(text):
        one = known[path]
        if of_source or not one.does:
            content = b"text:" + one.text
        elif of_docstrings or not handed.isdisjoint((*one.documented, *path.removesuffix(".py").split("/"))):
            content = b"says:" + one.says
        else:
            content = b"does:" + one.does
        for part in (_encoded(path), content):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def objection(
    before: Mapping[str, str],
    after: Mapping[str, str],
    guarded: Sequence[str] = GUARDED,
    beside: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Why *after* is no candidate beside *before*: names file, line and what stands there. Empty: it is one.

    What is new or changed is shown as it stands in *after*, what is gone as it stood in *before*. Code that cannot be
    read (``exec``, ``importlib``), and what reaches into modules that are not the subject's, may not be added either,
    whatever is *guarded*. *beside*: the Python files that lie among the subject's and are fixed, by place; what they
    import is taken as well. Never raises.
    """
    names = frozenset(_modules(before) | _modules(after))
    patterns = tuple(guarded)
    taken: frozenset[str] | None = None
    folders: frozenset[str] = frozenset()
    for path in sorted({*before, *after}):
        old, new = before.get(path), after.get(path)
        if old == new:
            continue
        if old is None:
            if taken is None:
                taken = _taken(before, beside)
                folders = frozenset(p.rpartition("/")[0] for p in (*before, *beside) if is_python(p))
                folders -= {p.rpartition("/")[0] for p in before if p.endswith("/__init__.py")}
            if why := _intrusion(path, folders, after, taken):
                return why
        if new is not None and (why := _coding_objection(path, old or "", new)):
            return why
        others = (source for p, source in after.items() if p != path)
        free = _free(path, new or "", patterns, (*before.values(), *beside.values()), others)
        if why := _file_objection(path, old, new, patterns, names, free):
            return why
    return ""


def names_guarded(text: str, guarded: Sequence[str] = GUARDED) -> bool:
    """Does a word of *text*, whatever it is, name something guarded? For who would rather not come near it."""
    return _matcher(tuple(guarded)).search(text) is not None


def is_python(path: str) -> bool:
    return path.endswith(_PYTHON)


@dataclass(frozen=True, slots=True)
class _Known:
    """What is asked of each file of each version, and so is kept for all that were seen lately."""

    text: bytes
    """A digest, as are the next two."""
    does: bytes = b""
    """Without docstrings; empty: the file counts by its text."""
    says: bytes = b""
    """With them."""
    documented: tuple[str, ...] = ()
    """Functions whose docstrings are not in ``does``."""
    handed: tuple[str, ...] = ()
    """Names that are used otherwise than to be called."""
    imports: tuple[str, ...] = ()
    """Modules, by the first part of their names."""
    reads_docstrings: bool = False
    reads_source: bool = False


_seen: dict[bytes, _Known] = {}
_SEEN = 65_536
"""Files that are known at once: of some versions of the largest subjects."""


def _known(python: bool, source: str) -> _Known:
    raw = _encoded(source)
    key = hashlib.sha256(b"python:" if python else b"")
    key.update(raw)
    found = _seen.get(key.digest())
    if found is None:
        if len(_seen) >= _SEEN:
            _seen.clear()
        text = hashlib.sha256(raw).digest()
        found = (
            _learned(source, text) if python else _Known(text, reads_docstrings=_DOCUMENTING.search(source) is not None)
        )
        _seen[key.digest()] = found
    return found


def _learned(source: str, text: bytes) -> _Known:
    try:
        tree = _plain(source)
        nodes = list(ast.walk(tree))
        dropped: list[str] = []
        documented: list[str] = []
        _drop(tree, dropped, documented)
        does = f"{_coding(source)}\0{_first_comment(source)}\0{ast.dump(tree)}"
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _Known(text)
    used, handed = _names(nodes)
    imports = frozenset(_imports(nodes))
    digests = [hashlib.sha256(_encoded(part)).digest() for part in (does, f"{does}\0{dropped}")]
    if _PRAGMA.search(source):
        digests = [b"", b""]
    return _Known(
        text,
        *digests,
        documented=tuple(documented),
        handed=tuple(handed),
        imports=tuple(imports),
        reads_docstrings=not _DOCSTRING_READERS.isdisjoint(used | imports),
        reads_source=not _SOURCE_READERS.isdisjoint(used)
        or not _SOURCE_READERS.isdisjoint(imports)
        or any(
            isinstance(n, ast.Constant) and isinstance(n.value, str) and _PYTHON_PATH.fullmatch(n.value) for n in nodes
        ),
    )


def _names(nodes: Iterable[ast.AST]) -> tuple[set[str], set[str]]:
    """All that are read, and those that are used otherwise than to be called or to get at an attribute."""
    passing = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    passing |= {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    used: set[str] = set()
    handed: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            name = node.id if isinstance(node, ast.Name) else node.attr
            used.add(name)
            if id(node) not in passing:
                handed.add(name)
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                used.add(alias.name)
                if (alias.asname or alias.name.partition(".")[0]) in handed:
                    handed.update(alias.name.split("."))
    return used, handed


def _imports(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _first_comment(source: str) -> str:
    """Which program runs the file, where it says so."""
    return source.partition("\n")[0].rstrip() if source.startswith("#!") else ""


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@lru_cache(maxsize=8)
def _parsed(source: str) -> ast.Module:
    """The syntax tree without what does nothing: ``pass`` and bare constants, docstrings among them. Not to be changed
    by who asked for it."""
    tree = _plain(source)
    _strip(tree)
    return tree


def _plain(source: str) -> ast.Module:
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source.removeprefix("\ufeff"))
    if re.search("[uU]['\"]", source):
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant):
                node.kind = None
    return tree


_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


def _strip(node: ast.AST) -> None:
    for name in _BLOCKS:
        inner = getattr(node, name, None)
        if isinstance(inner, list):
            parts: list[ast.AST] = inner
            inner[:] = [part for part in parts if not _does_nothing(part)]
            for part in parts:
                _strip(part)


def _drop(node: ast.AST, dropped: list[str], documented: list[str]) -> None:
    """As ``_strip``, but of what may be read leave all; note what was where."""
    if isinstance(node, ast.ClassDef) or (_defines(node) and getattr(node, "decorator_list", ())):
        dropped.append("kept")
        return
    for name in _BLOCKS:
        inner = getattr(node, name, None)
        if isinstance(inner, list):
            parts: list[ast.AST] = inner
            for i, part in enumerate(parts):
                if _does_nothing(part):
                    dropped.append(f"{name} {i} {ast.dump(part)}")
                    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                        documented.append(node.name)
            inner[:] = [part for part in parts if not _does_nothing(part)]
            for part in parts:
                dropped.append("in")
                _drop(part, dropped, documented)
            dropped.append("out")


def _does_nothing(statement: ast.AST) -> bool:
    is_bare = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return is_bare or isinstance(statement, ast.Pass)


# ── files as such ──────────────────────────────────────────────────────────────────────────────────────────────


def _modules(text: Iterable[str]) -> set[str]:
    """What ``import`` may call these files."""
    return {part.removesuffix(".py") for path in text if is_python(path) for part in path.split("/")}


def _taken(before: Mapping[str, str], beside: Mapping[str, str]) -> frozenset[str]:
    """Modules that are not the subject's, and that its files or those beside it import."""
    given = {**before, **beside}
    named = {name for path, source in given.items() if is_python(path) for name in _known(True, source).imports}
    return frozenset((named - _modules(before)) | _modules(beside))


def _intrusion(path: str, folders: frozenset[str], after: Mapping[str, str], taken: frozenset[str]) -> str:
    """Would the new file *path* be taken for another one? *folders*: those that hold Python files already."""
    place = PurePosixPath(path)
    if place.name in _SELF_STARTING or place.suffix == ".pth":
        return f"{path}: Python runs such a file by itself, before the command's own code"
    if not is_python(path):
        return ""
    module = place.parent if place.name == "__init__.py" else place.with_suffix("")
    package = str(module.parent)
    if package not in (".", *folders) and f"{package}/__init__.py" in after:
        return ""
    if module.name in sys.stdlib_module_names or module.name in taken or _is_installed(module.name):
        return f"{path}: it would be imported in the place of the module {module.name!r}, which is not the subject's"
    return ""


def _is_installed(name: str) -> bool:
    """Is there such a module in this Python environment, which is the candidates' too? Imports nothing."""
    if not name.isidentifier():
        return False
    found = PathFinder.find_spec(name, sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}))
    return found is not None and found.loader is not None


def _coding(source: str) -> str:
    """What the file declares to be written in, unless that is how it is read here."""
    for line in source.removeprefix("\ufeff").split("\n", 2)[:2]:
        if found := _CODING.match(line):
            name = found[1].lower().replace("_", "-")
            return "" if name in ("utf-8", "utf8", "ascii", "us-ascii") or name.startswith("utf-8-") else name
    return ""


def _coding_objection(path: str, old: str, new: str) -> str:
    coding = _coding(new)
    if not is_python(path) or not coding or coding == _coding(old):
        return ""
    return f"{path}:1: it declares to be written in {coding}, so that Python would read other code than stands there"


# ── what is guarded in a file ──────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Place:
    """A guarded part of a file."""

    line: int
    because: str
    """The guarded name, or what is wrong with it."""
    around: tuple[str, ...]
    """Functions, loops and branches that it stands in."""
    form: str
    """What it does, with a blank for each name that the file may choose freely."""
    names: tuple[str, ...] = ()
    """What stands in the blanks."""

    @property
    def function(self) -> tuple[str, ...]:
        return tuple(name for name in self.around if not name.endswith(" "))

    @property
    def what(self) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
        return self.around, self.form, self.names


@dataclass(frozen=True)
class _Scope:
    """The names of a function."""

    local: frozenset[str]
    """Variables that are its own."""
    used: frozenset[str]
    """All, with those of functions within."""


@dataclass(frozen=True)
class _Reading:
    """What a file says that matters here."""

    places: tuple[_Place, ...]
    """In the order of the file."""
    strange: tuple[_Place, ...]
    """What cannot be read, or reaches into the modules of others: no more of it may come."""
    names: frozenset[str] = frozenset()
    """All that it calls by a name of its own."""
    scopes: Mapping[tuple[str, ...], _Scope] = field(default_factory=dict[tuple[str, ...], _Scope])
    """Of its functions, by the names of what they stand in and their own."""


def _file_objection(
    path: str,
    old: str | None,
    new: str | None,
    guarded: tuple[str, ...],
    modules: frozenset[str],
    free: frozenset[str],
) -> str:
    readings: list[_Reading | None] = [None, None]
    if is_python(path):
        readings = [_read(old or "", guarded, modules), _read(new or "", guarded, modules, free)]
    elif path.endswith(_PROSE):
        return ""
    if readings[0] is None or readings[1] is None:
        readings = [_read_words(source, guarded) for source in (old or "", new or "")]
    was, now = readings
    assert was is not None
    assert now is not None
    found = _difference(was, now)
    if found is None:
        return ""
    place, what, is_old = found
    shown = _line((old if is_old else new) or "", place.line)
    where = f"{path}:{place.line}" + (" of the version before" if is_old else "")
    return f"{where}: {what}: {shown}" if what else f"{where}: {place.because}: {shown}"


def _free(path: str, new: str, guarded: tuple[str, ...], known: Iterable[str], others: Iterable[str]) -> frozenset[str]:
    """Variables of *new* that are called as what is guarded, and stand for nothing else: in no text that is *known*
    does the name occur, and no framework asks for it by name, as for a function or for what a class holds.

    And of new dictionaries that are not handed on, nor named in *others*, such entries: as ``settings.seed_scale``.
    """
    matcher = _matcher(guarded)
    if not is_python(path) or not matcher.search(new):
        return frozenset()
    try:
        tree = _parsed(new)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return frozenset()
    bound: set[str] = set()
    taken: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            taken.update(name for part in node.body for inner in ast.walk(part) for name in _names_bound(inner))
        if isinstance(node, ast.Name):
            bound.update(_names_bound(node))
        elif isinstance(node, ast.Global | ast.Nonlocal):
            taken.update(node.names)
        else:
            taken.update(_names_bound(node))
    variables = bound - taken
    entries = {
        f"{name}.{key}": (name, key)
        for name, keys in _tables(tree)
        if name in variables
        for key in keys
        if matcher.search(key)
    }
    called = {name: (name,) for name in variables if matcher.search(name)}
    if not called and not entries:
        return frozenset()
    texts, beside = tuple(known), tuple(others)

    def is_new(words: Iterable[str], among: Iterable[str]) -> bool:
        return not any(word in text for text in among for word in words)

    fresh = {name for name, words in called.items() if is_new(words, texts)}
    fresh |= {entry for entry, words in entries.items() if is_new(words, texts) and is_new(words[:1], beside)}
    return frozenset(fresh)


def _tables(tree: ast.Module) -> Iterator[tuple[str, set[str]]]:
    """Name, keys of each dictionary of which nothing is used but single entries, by a key that stands there."""
    nodes = list(ast.walk(tree))
    single = {id(n.value) for n in nodes if isinstance(n, ast.Subscript) and isinstance(n.slice, ast.Constant)}
    uses = Counter(n.id for n in nodes if isinstance(n, ast.Name) and id(n) not in single)
    for node in nodes:
        for name, value in _bindings(node):
            if isinstance(value, ast.Dict) and uses[name] == 1:
                yield name, {str(key.value) for key in value.keys if isinstance(key, ast.Constant)}


def _line(source: str, number: int) -> str:
    lines = re.split(r"\r\n|\r|\n", source)
    line = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    return line if len(line) <= 160 else f"{line[:159]}…"


def _difference(was: _Reading, now: _Reading) -> tuple[_Place, str, bool] | None:
    """The first difference that matters: where it is, what it is, and whether that is in the file before."""
    odd = _beyond(now.strange, was.strange)
    if odd:
        return odd[0], "", False
    new, gone = _beyond(now.places, was.places), _beyond(was.places, now.places)
    new, gone = _renamed(new, gone, was, now)
    if new:
        changed = "changes" if any(p.around == new[0].around or p.because == new[0].because for p in gone) else "adds"
        return new[0], f"it {changed} what is guarded ({new[0].because})", False
    if gone:
        return gone[0], f"it takes out what is guarded ({gone[0].because})", True
    for around in {place.around for place in now.places}:
        before = [p.form for p in was.places if p.around == around]
        after = [p for p in now.places if p.around == around]
        if len(before) == len(after):
            for form, place in zip(before, after, strict=True):
                if form != place.form:
                    return place, f"it moves what is guarded ({place.because}) past something else that is", False
    return None


def _beyond(these: Iterable[_Place], those: Iterable[_Place]) -> list[_Place]:
    """Those of *these* that *those* do not have, or not so often."""
    rest = Counter(place.what for place in those)
    more: list[_Place] = []
    for place in these:
        if rest[place.what]:
            rest[place.what] -= 1
        else:
            more.append(place)
    return more


def _renamed(new: list[_Place], gone: list[_Place], was: _Reading, now: _Reading) -> tuple[list[_Place], list[_Place]]:
    """What is left of both where names that vanished, from the file or as variables from their function, were replaced
    by names that are new there."""
    fresh, vanished = now.names - was.names, was.names - now.names
    nowhere = _Scope(frozenset(), frozenset())
    renames: dict[tuple[str, ...], dict[str, str]] = {}
    left: list[_Place] = []
    gone = list(gone)
    for place in new:
        scope = now.scopes.get(place.function, nowhere)
        for other in gone:
            old = was.scopes.get(other.function, nowhere)
            known = renames.get((), {}) | renames.get(other.function, {})
            pairs = _pairs(other, place, known)
            if pairs is None:
                continue
            wide = {a: b for a, b in pairs.items() if a == b or (a in vanished and b in fresh)}
            narrow = {a: b for a, b in pairs.items() if a not in wide}
            if all(a in old.local - scope.used and b in scope.local - old.used for a, b in narrow.items()):
                renames[()] = renames.get((), {}) | wide
                renames[other.function] = renames.get(other.function, {}) | narrow
                gone.remove(other)
                break
        else:
            left.append(place)
    return left, gone


def _pairs(old: _Place, new: _Place, known: Mapping[str, str]) -> dict[str, str] | None:
    """Old name → new name, one to one, where nothing but names differs and *known* agrees."""
    before, after = (*old.around, *old.names), (*new.around, *new.names)
    if old.form != new.form or len(before) != len(after) or len(old.around) != len(new.around):
        return None
    pairs = dict(known)
    for a, b in zip(before, after, strict=True):
        if pairs.setdefault(a, b) != b:
            return None
    return pairs if len(set(pairs.values())) == len(pairs) else None


@lru_cache(maxsize=64)
def _printed(guarded: tuple[str, ...]) -> re.Pattern[str]:
    """What is guarded where it is printed, as ``name: NUMBER`` or the key of a JSON object, and nowhere else."""
    names = [re.escape(name.removesuffix(":")) for name in guarded if name.endswith(":")]
    return re.compile(rf"(?<!\w)(?:{'|'.join(names)})(?:\s*[:=]|\Z)" if names else r"(?!)", re.IGNORECASE)


def _glob(glob: str) -> str:
    inner = re.escape(glob).replace(r"\*", r"\w*")
    return f"(?i:{inner})" if glob.islower() or glob.isupper() else inner


@lru_cache(maxsize=64)
def _matcher(guarded: tuple[str, ...]) -> re.Pattern[str]:
    globs = [_glob(glob) for glob in guarded if not glob.endswith(":")]
    return re.compile(rf"(?<!\w)(?:{'|'.join(globs)})(?!\w)" if globs else r"(?!)")


@lru_cache(maxsize=512)
def _read_words(source: str, guarded: tuple[str, ...]) -> _Reading:
    """Of what is no Python: the lines that name something guarded."""
    matcher, printed = _matcher(guarded), _printed(guarded)
    places = tuple(
        _Place(number, found[0], (), line.strip())
        for number, line in enumerate(re.split(r"\r\n|\r|\n", source), start=1)
        if (found := matcher.search(line) or printed.search(line))
    )
    return _Reading(places, ())


@lru_cache(maxsize=512)
def _read(
    source: str, guarded: tuple[str, ...], modules: frozenset[str], free: frozenset[str] = frozenset()
) -> _Reading | None:
    """``None``: this is no Python that could be read."""
    try:
        tree = _parsed(source)
        reader = _Reader(_matcher(guarded), _printed(guarded), modules, free)
        reader.learn(tree)
        reader.block(tree.body, ())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return _Reading(tuple(reader.places), tuple(reader.strange), frozenset(reader.own), dict(_scopes(tree, ())))


NOTHING, HANDED, GUARDS = 0, 1, 2
"""How much a name in an expression guards: nothing, the argument that it stands in, all of the statement."""


@dataclass
class _Reader:
    """Walks a syntax tree and notes what is guarded in it."""

    matcher: re.Pattern[str]
    printed: re.Pattern[str]
    modules: frozenset[str]
    """The subject's own: setting what they hold is no reaching into others."""
    free: frozenset[str] = frozenset()
    """Variables that are called as what is guarded, and are not: see ``_free``."""
    entries: set[int] = field(default_factory=set[int])
    """Keys of such dictionaries."""
    origins: dict[str, str] = field(default_factory=dict[str, str])
    """Name → what was imported under it."""
    foreign: set[str] = field(default_factory=set[str])
    """Those of them that come from elsewhere."""
    aliases: set[str] = field(default_factory=set[str])
    """Second names of those."""
    rebound: set[str] = field(default_factory=set[str])
    """Names under which more than one thing is imported."""
    own: set[str] = field(default_factory=set[str])
    constants: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Name → all texts that it is ever set to, where it is set to nothing else."""
    places: list[_Place] = field(default_factory=list[_Place])
    strange: list[_Place] = field(default_factory=list[_Place])
    around: tuple[str, ...] = ()
    because: str = ""
    """The guarded name that was seen last."""

    def learn(self, tree: ast.Module) -> None:
        """Note what the file imports, and what else it gives names to."""
        nodes = list(ast.walk(tree))
        for node in nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    self._imports(alias.asname or top, alias.name if alias.asname else top, is_foreign=True)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    origin = f"{node.module}.{alias.name}" if node.module else alias.name
                    self._imports(alias.asname or alias.name, origin, is_foreign=not node.level)
            elif isinstance(node, ast.Name):
                self.own.add(node.id)
            elif isinstance(node, ast.arg):
                self.own.add(node.arg)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self.own.add(node.name)
        bound = [pair for node in nodes for pair in _bindings(node)]
        for name, value in bound:
            if isinstance(value, ast.Name | ast.Attribute):
                dotted = self.dotted(value)
                if dotted and dotted.partition(".")[0] != name and self._root(value) in self.foreign | self.aliases:
                    self.origins.setdefault(name, dotted)
                    self.aliases.add(name)
            elif isinstance(value, ast.Dict):
                keys = [key for key in value.keys if isinstance(key, ast.Constant)]
                self.entries |= {id(key) for key in keys if f"{name}.{key.value}" in self.free}
        self.own -= set(self.origins)
        stored = Counter(name for node in nodes for name in _names_bound(node))
        values: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
        for name, value in bound:
            values[name].append(self._texts(value))
        self.constants = {
            name: tuple(text for some in texts for text in some)
            for name, texts in values.items()
            if len(texts) == stored[name] and all(texts)
        }

    def _imports(self, name: str, origin: str, *, is_foreign: bool) -> None:
        if self.origins.get(name, origin) != origin:
            self.rebound.add(name)
        if name not in self.origins or self.matcher.search(origin):
            self.origins[name] = origin
        if is_foreign and origin.partition(".")[0] not in self.modules:
            self.foreign.add(name)

    # ── statements ──

    def block(self, body: Sequence[ast.stmt], around: tuple[str, ...]) -> None:
        for statement in body:
            self.around = around
            self._statement(statement, around)

    def _statement(self, node: ast.stmt, around: tuple[str, ...]) -> None:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                self._definition(node, around)
            case ast.If():
                jumps = [type(s).__name__ for s in (*node.body, *node.orelse) if _jumps(s)]
                self._look(node.test, "if", *jumps)
                self.block(node.body, (*around, "if "))
                self.block(node.orelse, (*around, "else "))
            case ast.While():
                self._look(node.test, "while")
                self.block(node.body, (*around, "loop "))
                self.block(node.orelse, (*around, "else "))
            case ast.For() | ast.AsyncFor():
                self._look(ast.Assign([node.target], node.iter, lineno=node.lineno), "for")
                self.block(node.body, (*around, "loop "))
                self.block(node.orelse, (*around, "else "))
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    self._look(item, "with")
                self.block(node.body, around)
            case ast.Try() | ast.TryStar():
                self.block(node.body, around)
                for handler in node.handlers:
                    self.block(handler.body, (*around, "except "))
                self.block(node.orelse, around)
                self.block(node.finalbody, around)
            case ast.Match():
                self._look(node.subject, "match")
                for case in node.cases:
                    self.around = around
                    if case.guard is not None:
                        self._look(case.guard, "case")
                    self.block(case.body, (*around, "case "))
            case ast.Import() | ast.ImportFrom():
                self._import(node)
            case _:
                self._look(node)

    def _definition(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, around: tuple[str, ...]) -> None:
        if node.name in self.foreign:
            self._odd(node, f"it takes the place of the imported {self.origins[node.name]}", node.name)
        if self.matcher.search(node.name):
            self._note(node, node.name)
            return
        for expression in node.decorator_list:
            self._look(expression, "decorator")
        for expression in _computed_annotations(node):
            self._look(expression, "annotation")
        if isinstance(node, ast.ClassDef):
            for expression in (*node.bases, *(keyword.value for keyword in node.keywords)):
                self._look(expression, "base")
        else:
            for argument, default in _defaults(node.args):
                if self.matcher.search(argument.arg):
                    self._note(ast.keyword(argument.arg, default or ast.Constant(...)), argument.arg, argument.lineno)
                elif default is not None:
                    self._look(default, "default")
        self.block(node.body, (*around, node.name))

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        module = "." * getattr(node, "level", 0) + (getattr(node, "module", None) or "")
        for alias in node.names:
            dotted = f"{module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
            name = alias.asname or alias.name
            if name in self.rebound:
                self._odd(node, f"it is imported in the place of something else ({name})", f"{dotted} as {name}")
            if _UNREADABLE.fullmatch(dotted) or (alias.name == "*" and _UNREADABLE.fullmatch(module)):
                self._odd(node, f"code that cannot be read ({dotted})", dotted)
            elif self.matcher.search(dotted) or self.matcher.search(name):
                self.places.append(_Place(node.lineno, dotted, self.around, f"import {dotted} as {alias.asname or ''}"))

    def _look(self, node: ast.AST, *said: str) -> None:
        """Note what is guarded in a simple statement, or in the head of a compound one."""
        parts = list(ast.walk(node))
        entries = {id(owner) for part in parts for owner in self._entered(part)}
        for part in parts:
            if id(part) not in entries and (why := self._oddity(part)):
                self._odd(node, why)
                break
        if self._find(node):
            self._note(node, self.because, None, *said)

    def _note(self, node: ast.AST, because: str, line: int | None = None, *said: str) -> None:
        form, names = self._form(node)
        self.places.append(_Place(line or _first_line(node), because, self.around, " ".join((*said, form)), names))

    def _odd(self, node: ast.AST, why: str, form: str = "") -> None:
        names: tuple[str, ...] = ()
        if not form:
            form, names = self._form(node)
        self.strange.append(_Place(_first_line(node), why, (), form, names))

    # ── expressions ──

    def _find(self, node: ast.AST) -> int:
        """How much the names in *node* guard around it; what guards less than that is noted on the way."""
        match node:
            case ast.Name() | ast.Attribute() | ast.Subscript():
                dotted = self.dotted(node)
                if dotted:
                    return self._weight(dotted)
                value = node.value if not isinstance(node, ast.Name) else node
                inner = self._find(value)
                if isinstance(node, ast.Attribute):
                    if inner == HANDED:
                        self._note(value, self.because)
                        inner = NOTHING
                    return max(inner, self._weight(f"().{node.attr}"))
                return max(inner, self._find(node.slice)) if isinstance(node, ast.Subscript) else inner
            case ast.Call():
                return self._call(node)
            case ast.Dict():
                for key, value in zip(node.keys, node.values, strict=True):
                    named = NOTHING if key is None or id(key) in self.entries else self._find(key)
                    if max(named, self._find(value)):
                        self._note(ast.Dict([key], [value]), self.because, value.lineno)
                return NOTHING
            case ast.Constant(value=str(text)):
                return self._string(text)
            case ast.AnnAssign(target=target, annotation=annotation, value=value):
                parts = (target, annotation if _computes(annotation) else None, value)
                return max(self._find(part) for part in parts if part is not None)
            case ast.arg():
                return self._weight(node.arg)
            case ast.keyword():
                return self._find(node.value)
            case _:
                return max((self._find(child) for child in ast.iter_child_nodes(node)), default=NOTHING)

    def _call(self, node: ast.Call) -> int:
        if reached := self._reached(node):
            weights = [self._weight(dotted) for dotted in reached]
            return max([*weights, *(self._find(argument) for argument in node.args[2:])])
        weight = self._find(node.func)
        callee = self.because
        if weight:
            # what a guarded call is given belongs to it
            self.because = callee
            return weight
        for argument in node.args:
            found = self._find(argument)
            if found == HANDED:
                self._note(ast.Call(node.func, [argument], []), self.because, argument.lineno)
            else:
                weight = max(weight, found)
        for keyword in node.keywords:
            is_named = bool(keyword.arg and self.matcher.search(keyword.arg))
            if is_named:
                self.because = keyword.arg or ""
            found = HANDED if is_named else self._find(keyword.value)
            if found == HANDED:
                self._note(ast.Call(node.func, [], [keyword]), self.because, keyword.value.lineno)
            else:
                weight = max(weight, found)
        return weight

    def _reached(self, node: ast.Call) -> list[str]:
        """``getattr(random, "seed")`` is ``random.seed``."""
        match node:
            case ast.Call(func=ast.Name() as function, args=[owner, name, *_]):
                if self.dotted(function) in _REACHES_IN:
                    return [f"{self.dotted(owner) or '()'}.{text}" for text in self._texts(name)]
            case _:
                pass
        return []

    def _texts(self, node: ast.AST) -> tuple[str, ...]:
        """What a text can be; empty: nobody knows."""
        match node:
            case ast.Constant(value=str(text)):
                return (text,)
            case ast.Name(id=name):
                return self.constants.get(name, ())
            case ast.IfExp(body=body, orelse=orelse):
                either, other = self._texts(body), self._texts(orelse)
                return (*either, *other) if either and other else ()
            case _:
                return ()

    def _entered(self, node: ast.AST) -> Iterator[ast.AST]:
        """What *node* takes one entry of, by a name that can be read."""
        match node:
            case ast.Subscript(value=owner, slice=key):
                known = self._texts(key)
            case ast.Call(func=ast.Attribute(value=owner, attr="get" | "setdefault" | "pop"), args=[key, *_]):
                known = self._texts(key)
            case ast.Compare(left=key, ops=[ast.In() | ast.NotIn()], comparators=[owner]):
                known = self._texts(key)
            case _:
                return
        if known and self.dotted(owner) in _ENVIRONMENT:
            yield owner

    def _weight(self, dotted: str) -> int:
        head, _, rest = dotted.partition(".")
        if head in self.free or f"{head}.{rest.partition('.')[0]}" in self.free:
            dotted = f"().{rest}" if head in self.free else f"().{rest.partition('.')[2]}"
        found = self.matcher.search(dotted)
        if not found:
            return NOTHING
        self.because = dotted.removeprefix("().")
        return HANDED if _SEEDS.fullmatch(found[0].rpartition(".")[2]) else GUARDS

    def _string(self, text: str) -> int:
        """A text that is a guarded name, or prints one: ``"--seed"``, ``"val_loss: "``."""
        if len(text) > 2000:
            return NOTHING
        if found := self.printed.search(text):
            self.because = found[0].rstrip(" :=")
            return GUARDS
        for found in re.finditer(r"[\w.]+", text.replace("-", "_")):
            name = found[0].strip("_.")
            follows = text[found.end() : found.end() + 2].lstrip("'\" ")[:1]
            is_name = follows in (":", "=") or found[0].strip("_") == text.replace("-", "_").strip("_")
            if is_name and name and self.matcher.search(name):
                self.because = name
                return GUARDS
        return NOTHING

    def _oddity(self, node: ast.AST) -> str:
        """Why *node* may not be added: it hides what it does, or reaches into what is not the subject's."""
        match node:
            case ast.Name(ctx=ast.Load()) | ast.Attribute(ctx=ast.Load()):
                dotted = self.dotted(node) or (f"().{node.attr}" if isinstance(node, ast.Attribute) else "")
                if _UNREADABLE.fullmatch(dotted):
                    return f"code that cannot be read ({dotted})"
                if dotted in _ENVIRONMENT:
                    return "it takes the environment as a whole, and so the seed with it"
            case ast.Attribute() | ast.Subscript():
                dotted = self.dotted(node)
                if _UNREADABLE.fullmatch(dotted):
                    return f"code that cannot be read ({dotted})"
                is_set = not isinstance(node.ctx, ast.Load) and self._root(node) in self.foreign | self.aliases
                if is_set and not _SETTINGS.fullmatch(dotted):
                    return f"it reaches into a module that is not the subject's ({dotted or 'an attribute'})"
            case ast.Name(id=name) if name in self.foreign:
                return f"it takes the place of the imported {self.origins[name]}"
            case ast.Call():
                return self._odd_call(node)
            case _:
                pass
        return ""

    def _odd_call(self, node: ast.Call) -> str:
        called, held = self.dotted(node.func).removeprefix("builtins."), self.foreign | self.aliases
        match node:
            case ast.Call(args=[owner, name, *_]) if called in _REACHES_IN and self._root(owner) in held:
                if called != "getattr":
                    return f"it reaches into a module that is not the subject's ({called})"
                if not (reached := self._reached(node)):
                    return "code that cannot be read (getattr with a name that is computed)"
                for dotted in reached:
                    if _UNREADABLE.fullmatch(dotted) or dotted in _ENVIRONMENT:
                        return f"code that cannot be read ({dotted})"
            case ast.Call(func=ast.Attribute(value=owner, attr=name)) if name in _CHANGING:
                if any(self._root(part) in held for part in node.args[:1] or [owner]):
                    return f"it reaches into a module that is not the subject's ({name})"
                if len(node.args) < (3 if name.startswith("__set") else 2) and self._root(owner) in held:
                    return f"it reaches into a module that is not the subject's ({name})"
            case ast.Call(args=[name, *_]) if called in ("os.getenv", "os.getenvb", "operator.attrgetter"):
                if not self._texts(name):
                    return f"code that cannot be read ({called} with a name that is computed)"
            case _:
                pass
        return ""

    def dotted(self, node: ast.AST) -> str:
        """``numpy.random.seed`` for what says so, whatever it is called here; empty: it is more than a dotted name."""
        match node:
            case ast.Name(id=name):
                return self.origins.get(name, name)
            case ast.Attribute(value=value, attr=attr):
                head = self.dotted(value)
                return f"{head}.{attr}" if head else ""
            case ast.Subscript(value=value, slice=ast.Constant(value=str(key))):
                head = self.dotted(value)
                return f"{head}.{key}" if head else ""
            case _:
                return ""

    def _root(self, node: ast.AST) -> str:
        while isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        return node.id if isinstance(node, ast.Name) else ""

    def _form(self, node: ast.AST) -> tuple[str, tuple[str, ...]]:
        names: list[str] = []

        def spelled(part: Any) -> str:
            match part:
                case ast.Name(id=name, ctx=ctx):
                    if name in self.origins:
                        return f"{self.origins[name]}{'' if isinstance(ctx, ast.Load) else ' ='}"
                    names.append(name)
                    return "_"
                case ast.AST():
                    inner: list[str] = []
                    for key, value in ast.iter_fields(part):
                        is_free = (key == "arg" and isinstance(part, ast.arg)) or (key == "name" and _defines(part))
                        if is_free:
                            names.append(str(value))
                        elif key not in ("ctx", "type_comment", "kind"):
                            inner.append(spelled(value))
                    return f"{type(part).__name__}({','.join(inner)})"
                case list():
                    items: list[Any] = part
                    return f"[{','.join(spelled(item) for item in items)}]"
                case _:
                    return f"{type(part).__name__}:{part!r}"

        return spelled(node), tuple(names)


def _first_line(node: ast.AST) -> int:
    return getattr(node, "lineno", 0) or min(getattr(part, "lineno", 1 << 30) for part in ast.walk(node))


def _defines(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)


def _scopes(node: ast.AST, around: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], _Scope]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = (*around, child.name)
            parts = list(ast.walk(child))
            shared = {name for part in parts if isinstance(part, ast.Global | ast.Nonlocal) for name in part.names}
            used = {part.id for part in parts if isinstance(part, ast.Name)}
            local = {name for part in _own_parts(child) for name in _names_bound(part)}
            yield inner, _Scope(frozenset(local - shared), frozenset(used).union(*map(_names_bound, parts)))
            yield from _scopes(child, inner)
        else:
            yield from _scopes(child, (*around, child.name) if isinstance(child, ast.ClassDef) else around)


def _own_parts(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[ast.AST]:
    """All of it but what has variables of its own."""
    inner = (ast.Lambda, ast.ClassDef, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    waiting: list[ast.AST] = [function.args, *function.body]
    while waiting:
        part = waiting.pop()
        yield part
        if not _defines(part) and not isinstance(part, inner):
            waiting += ast.iter_child_nodes(part)


def _computed_annotations(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> Iterator[ast.expr]:
    """Those of its arguments and its result that do something."""
    if isinstance(node, ast.ClassDef):
        return
    own = node.args
    arguments = (*own.posonlyargs, *own.args, *own.kwonlyargs, own.vararg, own.kwarg)
    for annotation in (*(argument.annotation for argument in arguments if argument is not None), node.returns):
        if annotation is not None and _computes(annotation):
            yield annotation


def _computes(annotation: ast.expr) -> bool:
    return any(isinstance(part, ast.Call | ast.NamedExpr) for part in ast.walk(annotation))


def _bindings(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Name, value of an assignment."""

    def pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
        match target, value:
            case ast.Name(id=name), _:
                yield name, value
            case ((ast.Tuple() | ast.List()), (ast.Tuple() | ast.List())) if len(target.elts) == len(value.elts):
                for one, other in zip(target.elts, value.elts, strict=True):
                    yield from pairs(one, other)
            case _:
                pass

    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                yield from pairs(target, value)
        case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.NamedExpr(target=target, value=value):
            yield from pairs(target, value)
        case _:
            pass


def _names_bound(node: ast.AST) -> Iterator[str]:
    """What *node* itself gives a value to, in whichever way."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
        case ast.alias(name=name, asname=asname):
            yield asname or name.partition(".")[0]
        case _:
            pass


def _jumps(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Break | ast.Continue | ast.Return | ast.Raise)


def _defaults(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    """Each argument with its default."""
    positional = [*arguments.posonlyargs, *arguments.args]
    missing: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    yield from zip(positional, [*missing, *arguments.defaults], strict=True)
    yield from zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
