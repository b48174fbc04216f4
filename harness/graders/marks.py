"""Marks: what a check or a judge says about one criterion."""

import hashlib
import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Protocol

from harness.errors import TrialError
from harness.protocols import Box, Work
from traces.records import Mark, Review, Task

EXCERPT = 300
"""Characters of an output that a mark repeats, at most."""
BECAUSE = 600
"""Characters of what is said to be wrong, at most."""
MOST = 10
"""Faults of one check that are told apart; of the others only the number is told."""
COUNTED = 1000
"""Faults that are counted, at most."""
PATHS = re.compile(r"[\w.~-]*(?:[/\\][\w.~-]+)+")
NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+(?:[.,:]\d+)*")
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")


class Checker(Protocol):
    """A deterministic check: no model, and the same marks for the same output."""

    @property
    def id(self) -> str:
        """Of the criterion."""
        ...

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        """A mark that it passed, or one for each fault.

        Raises:
            TrialError: it cannot be told, for no fault of the output.
        """
        ...


def passed(criterion: str, evidence: str = "") -> Mark:
    return Mark(criterion=criterion, passed=True, evidence=evidence[:EXCERPT])


def fault(criterion: str, because: str, excerpt: str = "", choice: str = "") -> Mark:
    """*because*: what is wrong, with all that differs from one occurrence to the next in backticks."""
    because = " ".join(because.split())[:BECAUSE]
    return Mark(
        criterion=criterion,
        choice=choice,
        passed=False,
        because=because,
        excerpt=shortened(excerpt.strip()),
        fingerprint=print_of(criterion, because),
    )


def print_of(criterion: str, because: str) -> str:
    """The same for the same kind of fault: quoted text, paths and numbers do not count."""
    general = NUMBERS.sub("#", PATHS.sub("…", QUOTED.sub("…", because)))
    return hashlib.sha256(f"{criterion}\n{' '.join(general.split())}".encode()).hexdigest()[:12]


def shortened(text: str) -> str:
    """The two ends of *text*, where all of it is too long for an excerpt."""
    if len(text) <= EXCERPT:
        return text
    half = (EXCERPT - 3) // 2
    return f"{text[:half]} … {text[-half:]}"


def marks_of(criterion: str, faults: Iterable[Mark], evidence: str = "") -> tuple[Mark, ...]:
    """The *faults*, as many as can be told; without one, that it passed. Of a great many not all are asked for."""
    found = tuple(itertools.islice(faults, COUNTED))
    if not found:
        return (passed(criterion, evidence),)
    rest = len(found) - MOST
    least = "at least " if len(found) == COUNTED else ""
    more = (fault(criterion, f"{least}{rest} more such faults"),) if rest > 0 else ()
    return (*found[:MOST], *more)


def seen(marks: Sequence[Mark], before: Sequence[Review], attempt: int) -> tuple[Mark, ...]:
    """*marks* of *attempt* with when each fault was seen first and how often, by the reviews *before*."""
    return tuple(mark if mark.passed else _seen(mark, before, attempt) for mark in marks)


def _seen(mark: Mark, before: Sequence[Review], attempt: int) -> Mark:
    earlier = [
        review.attempt
        for review in before
        if any(not m.passed and m.fingerprint == mark.fingerprint for m in review.marks)
    ]
    return mark.model_copy(update={"first_seen": min([*earlier, attempt]), "times_seen": len(earlier) + 1})


def box_of(work: Work, criterion: str) -> Box:
    """The box to look into.

    Raises:
        TrialError: there is none.
    """
    if work.box is None:
        raise TrialError(
            "grader",
            "cannot_verify",
            f"the check {criterion!r} looks at files, and there are none: give the verifier a sandbox and a worktree",
        )
    return work.box
