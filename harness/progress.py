"""Does it get anywhere? What tells one failure from the same failure again, and a run that stands still from one that
changes much and improves nothing."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal

from harness.undo import length
from traces.records import Comparison, Decision, Round

TIMES = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?|\d\d?:\d\d:\d\d(?:[.,]\d+)?"
)
PATHS = re.compile(r"(?<![\w.~-])(?:[A-Za-z]:)?[\w.~-]*(?:[/\\][\w.~-]+)+")
IDS = re.compile(
    r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b|\b(?=[a-f]*\d)[0-9a-f]{7,64}\b|0x[0-9a-fA-F]+"
)
WORDS = re.compile(r"\S+\s*|\s+")
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

    name: Literal["unclear goal", "noisy signal", "edits too large", "changes that fail"]
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
    metric: str = ""
    """What was measured, where it is no score on tasks."""

    def __str__(self) -> str:
        """The detail of the run's end."""
        flat = f"no clear gain in {self.metric or 'the score on train'} in the last {self.rounds} rounds"
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
    causes = (failing_changes(idle), unclear_goal(idle), noisy_signal(idle), large_edits(shares))
    return Progress(
        reason="thrashing" if is_thrashing else "no-progress",
        rounds=len(idle),
        changes=len(shares),
        churn=churn,
        causes=tuple(cause for cause in causes if cause is not None),
        metric=next((c.metric for c in map(compared, idle) if c is not None), ""),
    )


def share_changed(round: Round, text_of: Callable[[str], Mapping[str, str]]) -> float | None:
    """How much of the subject the round's change touched; ``None`` where none was measured."""
    if round.proposal is None or round.decision is None or round.decision.comparison is None:
        return None
    before = text_of(round.incumbent)
    edits = round.proposal.edits
    touched = characters_changed([before.get(e.path, "") for e in edits], [e.text or "" for e in edits])
    return min(1.0, touched / max(PAGE, length(before)))


def compared(round: Round) -> Comparison | None:
    return round.decision.comparison if round.decision is not None else None


def characters_changed(before: Iterable[str], after: Iterable[str]) -> int:
    """Characters of the words that were taken away, or put in, whichever are more; a word that moved, into another file
    as well, is the same. *before* and *after*: the texts of some files."""
    old, new = (Counter(word for text in texts for word in WORDS.findall(text)) for texts in (before, after))
    return max(sum(len(word) * times for word, times in words.items()) for words in (old - new, new - old))


def unclear_goal(idle: Sequence[Round]) -> Cause | None:
    """Each change answered another finding, or none did answer any. A metric is its own goal: no findings are mined
    where there is one, and nothing is said about changes that answer none."""
    tried = [r.proposal for r in idle if r.proposal is not None]
    answering = [p.answers for p in tried if p.answers]
    has_metric = any(c.metric for c in map(compared, idle) if c is not None)
    if len(tried) < FEW or (has_metric and not answering):
        return None
    if len(answering) < len(tried) / 2:
        none = len(tried) - len(answering)
        return Cause("unclear goal", f"{none} of {len(tried)} changes answered no finding")
    findings = {finding for answers in answering for finding in answers}
    if len(answering) >= FEW and len(findings) >= SCATTERED * len(answering):
        return Cause("unclear goal", f"{len(answering)} changes answered {len(findings)} different findings")
    return None


def noisy_signal(idle: Sequence[Round]) -> Cause | None:
    """Most comparisons came to no verdict, or to a gain that is less than what two runs of the same differ by."""
    found = [(r.decision, r.decision.comparison) for r in idle if r.decision is not None and r.decision.comparison]
    found = [(d, c) for d, c in found if not has_failed(d)]
    unsettled = [(d, c) for d, c in found if is_unsettled(d, c)]
    if len(found) < FEW or len(unsettled) < UNSETTLED * len(found):
        return None
    sigmas = [c.sigma for _, c in unsettled if c.metric and c.sigma]
    if sigmas:
        metric = next(c.metric for _, c in unsettled if c.metric)
        noise = f"a single run of {metric} scatters by {median(sigmas):.3g}"
        return Cause("noisy signal", f"{len(unsettled)} of {len(found)} changes did less than the noise: {noise}")
    widths = [width for d, _ in unsettled if (width := interval_width(d)) is not None]
    wide = f", with intervals {100 * median(widths):.0f} points wide" if widths else ""
    return Cause("noisy signal", f"{len(unsettled)} of {len(found)} comparisons came to no verdict{wide}")


def is_unsettled(decision: Decision, comparison: Comparison) -> bool:
    if decision.verdict == "inconclusive" or decision.because in ("undecided", "unconfirmed"):
        return True
    gain, sigma = comparison.gain, comparison.sigma
    return bool(comparison.metric and sigma) and gain is not None and sigma is not None and abs(gain) < sigma


def interval_width(decision: Decision) -> float | None:
    """Of the gain; ``None`` where there is no interval, or its unit is that of a metric."""
    c = decision.comparison
    return None if c is None or c.metric or c.low is None or c.high is None else c.high - c.low


def large_edits(shares: Sequence[float]) -> Cause | None:
    """The changes are too large to tell what in them did what."""
    if len(shares) < FEW or median(shares) <= LARGE:
        return None
    return Cause("edits too large", f"the median change touched {median(shares):.0%} of the subject")


# ── changes that do not run ────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Crashes:
    """Changes in a row, the last ones, none of which gave a number."""

    count: int
    times: int = 0
    """How many of them failed in the way that is most frequent."""
    fingerprint: str = ""
    """Of that failure; the same in every run."""
    example: str = ""
    """It, as the latest of them had it."""
    rounds: tuple[int, ...] = ()
    """The numbers of all."""

    def __str__(self) -> str:
        """For the run's end, and for the next proposal."""
        what = core(self.example)
        return f"the last {self.count} changes that were run gave no number, {self.times} of them with: {what}"


def crash_streak(rounds: Sequence[Round]) -> Crashes:
    """The changes since the last one that gave a number, and how they failed. Rounds that bought no run are passed
    over, and so are those that the infrastructure cut off: neither says that a change does not run."""
    failed: list[tuple[int, str]] = []
    for round in reversed(rounds):
        decision = round.decision
        if decision is None or decision.comparison is None or decision.because in ("errors", "drift"):
            continue
        if not has_failed(decision):
            break
        failed.append((round.number, decision.detail))
    if not failed:
        return Crashes(0)
    kinds = Counter(fingerprint(core(detail)) for _, detail in failed)
    [(kind, times)] = kinds.most_common(1)
    example = next(detail for _, detail in failed if fingerprint(core(detail)) == kind)
    return Crashes(len(failed), times, kind, example, tuple(number for number, _ in reversed(failed)))


def has_failed(decision: Decision) -> bool:
    """Was the change run, and gave no number of its metric?"""
    c = decision.comparison
    return c is not None and bool(c.metric) and not (c.differences or c.errors) and decision.because == "no-improvement"


def core(detail: str) -> str:
    """Of a failure with the end of its log the last line, which says what went wrong."""
    lines = [line.strip() for line in detail.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def failing_changes(idle: Sequence[Round]) -> Cause | None:
    """Most changes that were run gave no number."""
    run = [r.decision for r in idle if r.decision is not None and r.decision.comparison is not None]
    failed = [d for d in run if has_failed(d)]
    if len(run) < FEW or 2 * len(failed) < len(run):
        return None
    kind, times = Counter(general(core(d.detail)) for d in failed).most_common(1)[0]
    return Cause("changes that fail", f"{len(failed)} of {len(run)} gave no number, {times} of them with: {kind}")
