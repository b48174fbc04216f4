"""What the critic can tell without a model, from the Korean and the English alone."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from experiments.translation.glossary import SPELLED, Term, holds, terms, terms_in
from harness.graders.marks import fault, marks_of
from harness.protocols import Work
from traces.records import Mark, Task

NUMBER = re.compile(r"\d[\d억만천 ]*[억만천]|\d+")
MONTH = re.compile(r"\d+월")
ENGLISH = re.compile(r"\d[\d,]*(?:\.\d+)?")
STOPS = re.compile(r"[.!?]+[\"”’)]*(?=\s|$)")
ABBREVIATED = re.compile(r"\b(?:Dr|Mr|Ms|Mrs|[ap]\.m)\.(?!$)")


@dataclass(frozen=True)
class Numbers:
    """The digits of each number are there, but for zeros at the end: 만 may become ``0,000`` or ``ten thousand``.

    So a number that is wrong by a factor of ten passes. It is what people write who check translations by machine,
    and why the grader does not go by it.
    """

    id: str = "numbers"

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        there = {significant(number) for number in ENGLISH.findall(output)}
        there |= {significant(str(number)) for word, number in SPELLED.items() if holds(output, word)}
        return marks_of(self.id, (self._missing(n) for n in numbers_in(task.input) if significant(n) not in there))

    def _missing(self, number: str) -> Mark:
        return fault(self.id, f"the number `{number}` of the original is not there")


def numbers_in(korean: str) -> list[str]:
    return [match.strip() for match in NUMBER.findall(MONTH.sub("", korean))]


def significant(number: str) -> str:
    """The digits of *number* without zeros at its ends: of 1억 2천만 and of 120,000,000 it is 12."""
    if re.search("[억만천]", number):
        parts = re.findall(r"(\d+)(천?)([억만]?)", number)
        units = {"억": 10**8, "만": 10**4, "": 1}
        number = str(sum(int(digits) * (1000 if small else 1) * units[unit] for digits, small, unit in parts))
    return re.sub(r"\D", "", number).strip("0")


@dataclass(frozen=True)
class Terms:
    """Names and titles are what the glossary calls them."""

    glossary: tuple[Term, ...]
    id: str = "terms"

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        missing = (term for term in terms_in(task.input, self.glossary) if not holds(output, term.bare))
        return marks_of(
            self.id, (fault(self.id, f"`{term.korean}` is not what the glossary calls it") for term in missing)
        )


@dataclass(frozen=True)
class Length:
    """As long as the original, within what the two scripts allow."""

    least: float = 0.8
    most: float = 5.0
    """Letters of English for one of Korean."""
    id: str = "length"

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        return marks_of(self.id, self._faults(len(output.strip()) / max(1, len(task.input.strip()))))

    def _faults(self, ratio: float) -> Iterator[Mark]:
        if ratio < self.least:
            yield fault(self.id, "it is too short for all of the original to be in it")
        elif ratio > self.most:
            yield fault(self.id, "it is longer than a translation of the original can be")


@dataclass(frozen=True)
class Sentences:
    """No sentence and no line that the original does not have: no note, no heading, no other version."""

    id: str = "sentences"

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        return marks_of(self.id, self._faults(task.input.strip(), output.strip()))

    def _faults(self, korean: str, english: str) -> Iterator[Mark]:
        if count(english) > count(korean) or len(english.splitlines()) > len(korean.splitlines()):
            last = re.split(r"(?<=[.!?])\s+|\n", english)[-1]
            yield fault(self.id, "there is more than the sentences of the original", last)


def count(text: str) -> int:
    """How many sentences *text* has."""
    return max(1, len(STOPS.findall(ABBREVIATED.sub("", text))))


def deterministic() -> tuple[Numbers, Terms, Length, Sentences]:
    return Numbers(), Terms(terms()), Length(), Sentences()
