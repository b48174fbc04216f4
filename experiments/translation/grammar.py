"""The few kinds of Korean sentence of this experiment: written by the generator, understood by the scripted models.

``sentences.txt`` says what each means in English, ``glossary.txt`` what may stand in its slots.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from experiments.translation.glossary import terms

FILE = Path(__file__).with_name("sentences.txt")
SLOT = re.compile(r"\{(([a-z]+)\d*)(?::(\w+))?\}")
PARTICLES: Mapping[str, tuple[str, str]] = {
    "은": ("은", "는"),
    "이": ("이", "가"),
    "을": ("을", "를"),
    "으로": ("으로", "로"),
    "이었다": ("이었다", "였다"),
}
"""Particle → its forms after a consonant and after a vowel."""
UNITS = {"억": 10**8, "만": 10**4, "천": 10**3}
COUNTS: Mapping[str, range] = {"k": range(2, 30), "h": range(2, 10), "year": range(1950, 2016)}
"""Slots that hold a number as it is."""
LARGE: Mapping[str, tuple[int, ...]] = {"man": (10**3, 10**4, 10**5), "eok": (10**7, 10**8)}
"""Slots that hold a number of two digits times one of these, in Korean units."""


@dataclass(frozen=True)
class Filler:
    """What stands in a slot."""

    korean: str
    english: str
    number: int | None = None

    @property
    def spoken(self) -> str:
        """In English as it is said: 3.5 million."""
        for name, unit in (("billion", 10**9), ("million", 10**6)):
            if self.number is not None and self.number >= unit:
                return f"{self.number / unit:g} {name}"
        return self.english


Fillers = Mapping[str, Filler]


@dataclass(frozen=True)
class Kind:
    """One kind of sentence, as a block of ``sentences.txt`` has it."""

    tag: str
    count: int
    korean: str
    references: tuple[str, ...]
    said: str
    """What a model would say, which is no reference."""
    slip: str
    """What it says when it goes wrong as the tag invites; empty: nothing."""
    needs: tuple[str, ...]
    swaps: tuple[str, ...]
    """Two slots that must not change places."""

    @property
    def slots(self) -> list[str]:
        return [match[1] for match in SLOT.finditer(self.korean)]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        at, parts = 0, list[str]()
        for match in SLOT.finditer(self.korean):
            particle = f"(?:{'|'.join(PARTICLES[match[3]])})" if match[3] else ""
            parts += [re.escape(self.korean[at : match.start()]), f"(?P<{match[1]}>{shape(match[2])}){particle}"]
            at = match.end()
        return re.compile("".join([*parts, re.escape(self.korean[at:])]))

    def in_korean(self, fillers: Fillers) -> str:
        return SLOT.sub(lambda m: with_particle(fillers[m[1]].korean, m[3]), self.korean)

    def swapped(self, fillers: Fillers) -> Fillers:
        one, other = self.swaps
        return {**fillers, one: fillers[other], other: fillers[one]}


def in_english(template: str, fillers: Fillers, *, spoken: bool = False) -> str:
    text = SLOT.sub(lambda m: fillers[m[1]].spoken if spoken else fillers[m[1]].english, template)
    at = 1 if text.startswith('"') else 0
    return text[:at] + text[at : at + 1].upper() + text[at + 1 :]


@cache
def kinds() -> tuple[Kind, ...]:
    blocks = FILE.read_text("utf-8").strip().split("\n\n")
    return tuple(kind_of(block.splitlines()) for block in blocks if block.startswith("["))


def kind_of(lines: list[str]) -> Kind:
    tag, count = lines[0].strip("[]").split()
    parts: dict[str, list[str]] = {}
    for line in lines[2:]:
        parts.setdefault(line[0], []).append(line[2:])
    needs = parts.get("!", [""])[0].split("; ")
    swaps = parts.get("x", [""])[0].split()
    slip = parts.get("~", [""])[0]
    return Kind(
        tag, int(count), lines[1], tuple(parts["="]), parts[">"][0], slip, tuple(filter(None, needs)), tuple(swaps)
    )


def understood(korean: str) -> tuple[Kind, Fillers] | None:
    """What kind of sentence *korean* is, and what stands in its slots."""
    for kind in kinds():
        if match := kind.pattern.fullmatch(korean.strip()):
            return kind, {slot: filler_of(slot, text) for slot, text in match.groupdict().items()}
    return None


# ── what stands in a slot ──────────────────────────────────────────────────────────────────────────────────────


def shape(name: str) -> str:
    if name in LARGE:
        return r"\d[\d억만천 ]*[억만천]"
    return r"\d+" if name in COUNTS else "|".join(re.escape(korean) for korean in entries(name))


@cache
def entries(name: str) -> Mapping[str, str]:
    return {term.korean: term.english for term in terms() if term.kind == name}


def filler_of(slot: str, korean: str) -> Filler:
    name = slot.rstrip("0123456789")
    if name in LARGE:
        return large(value_of(korean))
    return Filler(korean, korean, int(korean)) if name in COUNTS else Filler(korean, entries(name)[korean])


def some_filler(slot: str, rng: random.Random) -> Filler:
    name = slot.rstrip("0123456789")
    if name in LARGE:
        digits = rng.choice([n for n in range(12, 99) if n % 10])
        return large(digits * rng.choice(LARGE[name]))
    return filler_of(slot, str(rng.choice([*COUNTS[name]])) if name in COUNTS else rng.choice([*entries(name)]))


def large(number: int) -> Filler:
    return Filler(written(number), f"{number:,}", number)


def written(number: int) -> str:
    """In Korean units: 1억 2천만, 3만 5천."""
    parts: list[str] = []
    for unit, name in ((10**8, "억"), (10**4, "만"), (1, "")):
        group = number // unit % 10**4
        if group:
            parts.append((f"{group // 1000}천" if group % 1000 == 0 else str(group)) + name)
    return " ".join(parts)


def value_of(korean: str) -> int:
    """The number that is written in Korean units."""
    total = 0
    for amount, small, unit in re.findall(r"(\d+)(천?)([억만]?)", korean):
        total += int(amount) * (1000 if small else 1) * UNITS.get(unit, 1)
    return total


def with_particle(word: str, particle: str | None) -> str:
    if particle is None:
        return word
    final = (ord(word[-1]) - ord("가")) % 28
    ends_in_vowel = final == 0 or (particle == "으로" and final == 8)
    return word + PARTICLES[particle][ends_in_vowel]
