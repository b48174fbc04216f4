"""How close is a translation to independent references? Neither the maker nor the critic ever sees them."""

import re
from collections import Counter
from dataclasses import dataclass

from experiments.translation.glossary import SPELLED, holds
from traces.records import Grade, Record, Task

ORDER = 6
"""The longest n-grams that are compared."""
BETA = 2.0
"""How much more recall counts than precision."""
ENOUGH = 0.55
"""chrF from which on a translation scores 1: a good one in other words. The lowest of a right translation by the
scripted model is above it."""
LITTLE = 0.35
"""chrF up to which it scores 0: what the translation of another sentence reaches by the letters that English is made
of. See the test that measures both."""
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
NUMBER = re.compile(rf"(\d[\d,]*(?:\.\d+)?)(?:[ -]({'|'.join(SCALES)}))?")


class Facts(Record):
    """What a right translation holds; the last target of a task."""

    numbers: tuple[int, ...] = ()
    needs: tuple[tuple[str, ...], ...] = ()
    """Of each group one: names by the glossary, a word that negates, a word that is polite."""
    wrong: tuple[str, ...] = ()
    """The references with two names in each other's place."""


def facts_of(task: Task) -> Facts:
    return Facts.model_validate_json(task.targets[-1])


@dataclass(frozen=True)
class ReferenceGrader:
    """By chrF against the nearer of a task's references; 0 where a number, a name or the sense is another.

    chrF alone hardly sees a wrong digit, a missing *not*, or two names in each other's place; so these are a must.
    """

    def grade(self, task: Task, output: str) -> Grade:
        facts, references = facts_of(task), task.targets[:-1]
        if re.search("[가-힣]", output):
            return Grade(score=0.0, reason="untranslated: some of it is still Korean")
        if not set(facts.numbers) <= values_in(output):
            return Grade(score=0.0, reason="numbers: a number has not the value that it has in the original")
        if not all(any(holds(output, phrase) for phrase in group) for group in facts.needs):
            return Grade(score=0.0, reason=f"sense: a name, or the word that makes it {task.tags[0]}, is missing")
        likeness = max(chrf(output, reference) for reference in references)
        if any(chrf(output, wrong) > likeness for wrong in facts.wrong):
            return Grade(score=0.0, reason="roles: two names are in each other's place")
        score = round(min(1.0, max(0.0, (likeness - LITTLE) / (ENOUGH - LITTLE))), 4)
        return Grade(score=score, reason="" if score == 1 else "wording: far from how the references say it")


def chrf(output: str, reference: str) -> float:
    """Character n-gram F-score, between 0 and 1.

    The mean precision P and the mean recall R over n-grams of 1 to 6 characters, blanks left out, as
    (1 + β²) P R / (β² P + R) with β = 2: Popović, "chrF: character n-gram F-score for automatic MT evaluation", WMT
    2015; β = 2 by Popović, "chrF deconstructed", WMT 2016. Orders for which either text is too short do not count.
    """
    precisions: list[float] = []
    recalls: list[float] = []
    for n in range(1, ORDER + 1):
        ours, theirs = grams(output, n), grams(reference, n)
        if ours and theirs:
            shared = (ours & theirs).total()
            precisions.append(shared / ours.total())
            recalls.append(shared / theirs.total())
    if not precisions:
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    both = BETA**2 * precision + recall
    return (1 + BETA**2) * precision * recall / both if both else 0.0


def grams(text: str, n: int) -> Counter[str]:
    letters = "".join(text.split())
    return Counter(letters[i : i + n] for i in range(len(letters) - n + 1))


def values_in(english: str) -> set[float]:
    """The values of the numbers in *english*: 35,000; 1.5 million; three."""
    found = {
        round(float(digits.replace(",", "")) * SCALES.get(scale, 1), 3) for digits, scale in NUMBER.findall(english)
    }
    return found | {float(value) for word, value in SPELLED.items() if holds(english, word)}
