"""An experiment's working memory, written from its journals and by no model: what was tried, what is open, what holds.

It stands on the running log, one line a round, and cites its rows; what was done is grouped by run. It is for
proposers too, so of the hidden splits there is nothing in it but verdicts.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
from math import inf
from operator import itemgetter

from analysis.night import Night
from analysis.report import change, count, decision, gain, money, short
from harness.agent.memory import CAP, Notes, one_item
from traces.records import Comparison, Finding, Round

OPEN = 8
"""Findings that are listed as next, the costliest first."""
LESSONS = 20
"""Lessons that are listed, the latest."""
CHANGE = 140
"""Characters of a change that a line shows."""


def memory_of(nights: Sequence[Night], now: Sequence[Finding] = (), *, cap: int = CAP) -> str:
    """The memory of an experiment, from its *nights* (the oldest first) and what fails *now*, on train; as a file that
    ``harness.agent.memory`` reads.

    Without *now*: what the last proposer had found. At most *cap* characters: the oldest rounds go first, and are
    counted.
    """
    rounds = [r for night in nights for r in night.rounds]
    lines = [(night, one_item(line)) for night in nights for r in night.rounds if (line := done(r))]
    notes = Notes(
        next=tuple(one_item(line) for line in open_findings(now or last_findings(rounds), rounds)),
        learned=tuple(one_item(line) for line in lessons(nights)),
        version=len(rounds),
        updated=max((night.last.replace(microsecond=0) for night in nights), default=None),
    )

    def without(oldest: int) -> Notes:
        return replace(notes, done=grouped(lines[oldest:]), dropped=oldest)

    newest = max(len(lines) - 1, 0)
    return without(bisect_left(range(newest), True, key=lambda n: len(without(n).text) <= cap)).within(cap).text


def grouped(lines: Sequence[tuple[Night, str]]) -> tuple[str, ...]:
    """The lines of each night under an item that names its run."""
    return tuple(
        item
        for night, of_it in groupby(lines, key=itemgetter(0))
        for item in (heading(night), *(line for _, line in of_it))
    )


def heading(night: Night) -> str:
    """Names the run, once for all its rounds, and says how they are cited."""
    return f"Run {night.run.id}: {count(len(night.tries), 'change')} tried, {len(night.kept)} kept"


def running_log(night: Night) -> str:
    """One line a round: its row, what became of it, what the run had spent by then."""
    return "".join(f"{log_row(r)}\n" for r in night.rounds)


def log_row(r: Round) -> str:
    parts = [f"{done(r) or f'Round {r.number}'} {row(r)}"]
    if r.score is not None:
        parts.append(f"score on train {r.score:.4g}")
    parts.append(f"{r.trials:,} trials, {r.usage.calls:,} calls, {money(r.usage)} so far")
    if r.stop is not None:
        parts.append(f"the run ended: {r.stop}")
    return "; ".join(parts)


def row(r: Round) -> str:
    """How a line of the running log is cited."""
    return f"[{r.run}/round/{r.number}]"


def done(r: Round) -> str:
    """A round in one line; empty for one that tried nothing."""
    parts: list[str] = []
    if r.number == 0:
        parts.append("baseline")
    if r.decision is not None:
        parts.append(f"{short(change(r), CHANGE)} → {decision(r)}{measured(r.decision.comparison)}")
    if r.certification is not None:
        parts.append(f"promotion test at checkpoint {r.certification.checkpoint}: {r.certification.verdict}")
    return f"Round {r.number}: {'; '.join(parts)}" if parts else ""


def measured(c: Comparison | None) -> str:
    """``, +4.1 points (90 % interval …, n = 40)``; of train only."""
    if c is None or c.split != "train":
        return ""
    return f", {gain(c if says_something(c) else c.model_copy(update={'low': None, 'high': None}))}"


def says_something(c: Comparison) -> bool:
    """Is its interval finite, and of scores no wider than 100 points?"""
    width = inf if c.low is None or c.high is None else c.high - c.low
    return width < inf if c.metric else width <= 1.0


def last_findings(rounds: Sequence[Round]) -> tuple[Finding, ...]:
    """What the last proposer that looked had found."""
    return next((r.proposal.findings for r in reversed(rounds) if r.proposal and r.proposal.findings), ())


def open_findings(found: Sequence[Finding], rounds: Sequence[Round]) -> list[str]:
    """A line for each finding, by the share of trials that show it, with what was tried against it."""
    ranked = sorted(found, key=lambda finding: (-finding.share, finding.id))
    lines = [
        f"{short(finding.title, CHANGE)}: {finding.share:.1%} of train trials ({finding.count}), finding {finding.id}"
        f"{in_vain(finding, rounds)}{example(finding)}"
        for finding in ranked[:OPEN]
    ]
    more = ranked[OPEN:]
    return [*lines, f"and {len(more)} findings more, {sum(f.count for f in more)} trials"] if more else lines


def in_vain(finding: Finding, rounds: Iterable[Round]) -> str:
    rows = [
        row(r)
        for r in rounds
        if r.proposal and finding.id in r.proposal.answers and r.decision and r.decision.verdict != "keep"
    ]
    return f"; answered without effect in {', '.join(rows[-3:])}" if rows else ""


def example(finding: Finding) -> str:
    return f"; trial {finding.examples[0]}" if finding.examples else ""


def lessons(nights: Sequence[Night]) -> list[str]:
    """What was kept, what did not help, what was taken out again, and what of it is proven; the latest last."""
    found = [line for night in nights for line in lessons_of(night)]
    earlier = len(found) - LESSONS
    return [f"{earlier} earlier lessons stand in the running log", *found[-LESSONS:]] if earlier > 0 else found


def lessons_of(night: Night) -> list[str]:
    out = {n: r for r in night.rounds for removal in r.removals if removal.verdict == "drop" for n in removal.rounds}
    lines: list[str] = []
    for r in night.rounds:
        what = short(change(r), CHANGE)
        if r.number in out:
            lines.append(f"Hurt, and was taken out again: {what} {row(r)} {row(out[r.number])}")
        elif r.decision is not None and r.decision.verdict == "keep":
            lines.append(f"Kept, {r.decision.because}{measured(r.decision.comparison)}: {what} {row(r)}")
        elif r.decision is not None and r.decision.because == "no-improvement":
            lines.append(f"Did not help{measured(r.decision.comparison)}: {what} {row(r)}")
        if r.certification is not None:
            proven = (
                "proven better" if r.certification.verdict == "accept" else f"not proven ({r.certification.verdict})"
            )
            lines.append(f"What was kept until then, as one stack, is {proven} {row(r)}")
    return lines
