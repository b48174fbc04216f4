"""What names and titles are called in English: for the maker to look up, for the critic to insist on."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("glossary.txt")
FIXED = ("title", "name", "given", "city", "org", "place")
"""Kinds of entry whose English is not the translator's to choose."""

WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
SPELLED = {word: number for number, word in enumerate(WORDS, 2)}
"""Numbers that English writes as words."""


@dataclass(frozen=True)
class Term:
    kind: str
    korean: str
    english: str

    @property
    def bare(self) -> str:
        """The English without its article."""
        return self.english.removeprefix("the ")


@cache
def terms() -> tuple[Term, ...]:
    lines = FILE.read_text("utf-8").splitlines()
    return tuple(Term(*line.split(" | ")) for line in lines if line and not line.startswith("#"))


def terms_in(korean: str, known: tuple[Term, ...]) -> list[Term]:
    """Those of *known* that stand in *korean*; what is a part of a longer one does not count."""
    found: list[Term] = []
    rest = korean
    for term in sorted(known, key=lambda term: -len(term.korean)):
        if term.kind in FIXED and term.korean in rest:
            rest = rest.replace(term.korean, "·")
            found.append(term)
    return found


def holds(text: str, phrase: str) -> bool:
    """Do the words of *phrase* stand in *text*, whatever their case? ``n't`` counts as ``not``."""
    plain = text.casefold().replace("’", "'").replace("cannot", "can not").replace("n't", " not")
    wanted = phrase.casefold().replace("cannot", "can not")
    return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", plain) is not None
