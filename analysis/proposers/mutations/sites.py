"""The places of a Python file that a small change can be made in: literals, operators, declared choices, statements.

A place is found in the syntax tree and changed in the bytes, so that all around it stays as it is to the last blank.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from typing import Literal

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

NUMBER = r"(?:0[xXbBoO][\da-fA-F_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d[\d_]*)?[jJ]?)"
_TOKEN = re.compile(
    rf"""(?P<comment>\#.*)|(?P<number>{NUMBER})"""
    r"""|(?P<text>[rbuRBUfF]{0,2}(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"))"""
    r"""|(?P<swap>\b(?:and|or|True|False)\b|[<>]=?|[-+*/](?![-+*/=>]))|(?P<name>[^\W\d]\w*)|\*\*|//|[-+*/=!<>:]=|->|\S"""
)
CHOICES = re.compile(r"#.*?\bchoices:\s*(.+)")
RANGE = re.compile(rf"#.*?\brange:\s*(-?{NUMBER})\s*\.\.+\s*(-?{NUMBER})")


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
        is_whole = _iswhole_line(self.old)
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
    from analysis.proposers.mutations.tree import places  # here: libcst takes its time, and only who proposes needs it

    mark = "\ufeff" if text.startswith("\ufeff") else ""
    return places(path, text.removeprefix(mark), len(mark.encode()), dict(choices), guarded)


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
        return ((whole_line(path, old[at]), old[at], ""),) if old[:at] + old[at + 1 :] == new else ()
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


def whole_line(path: str, line: str) -> Key:
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


def _iswhole_line(literal: str) -> bool:
    return re.fullmatch(r"[\d_]+", literal) is not None


def is_share(value: float, literal: str) -> bool:
    """Is it so near to 1 that its distance from there is what matters?"""
    return not _iswhole_line(literal) and 0.5 < value < 1


def number_options(old: str, low: float = -math.inf, high: float = math.inf) -> tuple[Option, ...]:
    """Numbers near *old*, on a logarithmic scale; whole ones stay whole, none goes below *low* or above *high*."""
    value = number(old)
    if value is None:
        return ()
    is_whole = _iswhole_line(old)
    drawn: dict[str, Option] = {}
    for new, step in _near(value, old):
        kept = min(max(new, low), high)
        text = written(kept, old, is_whole)
        if text is not None and number(text) != value and (kept - value) * step > 0:
            drawn.setdefault(text, Option(text, step))
    return tuple(drawn.values())


def _near(value: float, literal: str) -> Iterator[tuple[float, float]]:
    """Number, step."""
    is_whole = _iswhole_line(literal)
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
    text = f"{value:.6g}" if value >= 1000 else f"{value:.4g}"
    if 0.5 < value < 1:
        text = f"{1 - float(f'{1 - value:.3g}'):.10g}"
    return text if any(sign in text for sign in ".e") else f"{text}.0"


def plain(text: str) -> str:
    return text.strip().strip("'\"")
