"""Does it get anywhere? What tells one failure from the same failure again, and a run that stands still from one that
changes much and improves nothing."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from harness.undo import length
from traces.records import Decision, Round

TIMES = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?|\d\d?:\d\d:\d\d(?:[.,]\d+)?"
)
PATHS = re.compile(r"(?<![\w.~-])(?:[A-Za-z]:)?[\w.~-]*(?:[/\\][\w.~-]+)+")
IDS = re.compile(
    r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b|\b(?=[a-f]*\d)[0-9a-f]{7,64}\b|0x[0-9a-fA-F]+"
)
NUMBERS = re.compile(r"\d+(?:[.,:]\d+)*")

PAGE = 2000
"""Characters that a subject counts as, at least: the first sentences of a small prompt are no rewrite."""
HIGH_CHURN = 0.25
"""Share of the subject that a change touches, on average, from which on much is changed."""
LARGE = 0.5
"""Share of the subject that the median change touches, from which on nobody can tell what in it did what."""
UNSETTLED = 0.5
"""Share of the comparisons that came to no verdict, from which on the signal is noisy."""
SCATTERED = 0.8
"""Findings answered per change that answers one, all different, from which on no goal is pursued."""
FEW = 3
"""Changes below which nothing is said about causes."""


def general(text: str) -> str:
    """*text* without what differs from one occurrence to the next: times, paths, ids and numbers."""
    for pattern, mark in ((TIMES, "@"), (PATHS, "…"), (IDS, "#"), (NUMBERS, "#")):
        text = pattern.sub(mark, text)
    return " ".join(text.split())


def fingerprint(text: str) -> str:
    """The same for the same failure, whenever and wherever it happened."""
    return hashlib.sha256(general(text).encode("utf-8", "surrogatepass")).hexdigest()[:16]


# ── a run that gets nowhere ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Cause:
    """Why a run may be getting nowhere, as far as numbers suggest."""

    name: Literal["unclear goal", "noisy signal", "edits too large"]
    because: str
    """Its numbers, in words."""

    def __str__(self) -> str:
        return f"{self.name} ({self.because})"


@dataclass(frozen=True)
class Progress:
    """What became of rounds without a clear gain."""

    reason: Literal["no-progress", "thrashing"]
    rounds: int
    changes: int
    """Those that were measured."""
    churn: float
    """Share of the subject that such a change touched, on average."""
    causes: tuple[Cause, ...]

    def __str__(self) -> str:
        """The detail of the run's end."""
        flat = f"no clear gain in the score on train in the last {self.rounds} rounds"
        if self.reason == "thrashing":
            flat += (
                f", though {self.changes} changes of {self.churn:.0%} of the subject each, on average, were measured"
            )
        if not self.changes:
            return flat
        return f"{flat}; the numbers suggest: {', '.join(map(str, self.causes)) or 'no one cause'}"


def progress(idle: Sequence[Round], text_of: Callable[[str], Mapping[str, str]]) -> Progress:
    """Why the rounds *idle*, the last ones, all without a clear gain, came to nothing. *text_of*: version → files."""
    shares = [share for round in idle if (share := share_changed(round, text_of)) is not None]
    churn = fmean(shares) if shares else 0.0
    is_thrashing = len(shares) >= FEW and churn >= HIGH_CHURN
    causes = (unclear_goal(idle), noisy_signal(idle), large_edits(shares))
    return Progress(
        reason="thrashing" if is_thrashing else "no-progress",
        rounds=len(idle),
        changes=len(shares),
        churn=churn,
        causes=tuple(cause for cause in causes if cause is not None),
    )


def share_changed(round: Round, text_of: Callable[[str], Mapping[str, str]]) -> float | None:
    """How much of the subject the round's change touched; ``None`` where none was measured."""
    if round.proposal is None or round.decision is None or round.decision.comparison is None:
        return None
    before = text_of(round.incumbent)
    touched = sum(characters_changed(before.get(e.path) or "", e.text or "") for e in round.proposal.edits)
    return min(1.0, touched / max(PAGE, length(before)))


def characters_changed(before: str, after: str) -> int:
    """Characters of the words that were taken away, or put in, whichever are more; a word that moved is the same."""
    old, new = (Counter(re.findall(r"\S+\s*|\s+", text)) for text in (before, after))
    return max(sum(len(word) * times for word, times in words.items()) for words in (old - new, new - old))


def unclear_goal(idle: Sequence[Round]) -> Cause | None:
    """Each change answered another finding, or none did answer any."""
    tried = [r.proposal for r in idle if r.proposal is not None]
    answering = [p.answers for p in tried if p.answers]
    if len(tried) < FEW:
        return None
    if len(answering) < len(tried) / 2:
        none = len(tried) - len(answering)
        return Cause("unclear goal", f"{none} of {len(tried)} changes answered no finding")
    findings = {finding for answers in answering for finding in answers}
    if len(answering) >= FEW and len(findings) >= SCATTERED * len(answering):
        return Cause("unclear goal", f"{len(answering)} changes answered {len(findings)} different findings")
    return None


def noisy_signal(idle: Sequence[Round]) -> Cause | None:
    """Most comparisons came to no verdict."""
    compared = [r.decision for r in idle if r.decision is not None and r.decision.comparison is not None]
    unsettled = [d for d in compared if d.verdict == "inconclusive" or d.because in ("undecided", "unconfirmed")]
    if len(compared) < FEW or len(unsettled) < UNSETTLED * len(compared):
        return None
    widths = [width for d in unsettled if (width := interval_width(d)) is not None]
    wide = f", with intervals {100 * median(widths):.0f} points wide" if widths else ""
    return Cause("noisy signal", f"{len(unsettled)} of {len(compared)} comparisons came to no verdict{wide}")


def interval_width(decision: Decision) -> float | None:
    """Of the gain; ``None`` where there is no interval, or its unit is that of a metric."""
    c = decision.comparison
    return None if c is None or c.metric or c.low is None or c.high is None else c.high - c.low


def large_edits(shares: Sequence[float]) -> Cause | None:
    """The changes are too large to tell what in them did what."""
    if len(shares) < FEW or median(shares) <= LARGE:
        return None
    return Cause("edits too large", f"the median change touched {median(shares):.0%} of the subject")
