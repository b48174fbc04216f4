"""What a maker is told about its work, and when telling it is over: facts of the reviews in, words or a trouble out."""

from collections.abc import Sequence
from dataclasses import dataclass

from harness.agent.words import say
from traces.records import Concern, Mark, Review

MOST = 20
"""Faults that a maker is told of at once."""


@dataclass(frozen=True)
class Trouble:
    """What an escalation of a review says."""

    concern: Concern
    summary: str
    """One line."""
    evidence: tuple[str, ...] = ()


def feedback(review: Review) -> str:
    """What the maker is told: for each fault what is wrong, the excerpt that caused it and whether it is new; and what
    passed and must stay. Nothing else that the verifier thought."""
    faults = faults_of(review)
    wrong = [told(mark) for mark in faults[:MOST]]
    if len(faults) > MOST:
        wrong.append(say("feedback_more", count=len(faults) - MOST))
    passed = passed_in(review)
    kept = f"\n{say('feedback_passed', criteria=', '.join(passed))}\n" if passed else ""
    return say("feedback", attempt=review.attempt, wrong="\n".join(wrong), passed=kept)


def should_escalate(reviews: Sequence[Review], outputs: Sequence[str], attempts: int) -> Trouble | None:
    """Why a person is needed after these *reviews*, the oldest first; ``None`` where the maker may go on, or is done.

    *outputs*: what each of them was a review of. *attempts*: how often the maker may try.
    """
    if not reviews:
        return None
    last = reviews[-1]
    if last.verdict == "failed":
        return Trouble("bad_rubric", "the verifier says that its rubric cannot be applied", evidence(last))
    if last.verdict == "grader_error":
        broke = len(reviews) > 1 and reviews[-2].verdict == "grader_error"
        return Trouble("cannot_verify", "the verifier broke twice", evidence(last)) if broke else None
    if last.verdict == "satisfied":
        return None
    judged = [(r, output) for r, output in zip(reviews, outputs, strict=True) if r.verdict != "grader_error"]
    named = ", ".join(dict.fromkeys(mark.criterion for mark in faults_of(last)))
    if len(judged) >= attempts:
        return Trouble("verification_failed", f"still wrong after {len(judged)} attempts: {named}", evidence(last))
    if len(judged) > 1 and judged[-1][1] == judged[-2][1] and prints(last) == prints(judged[-2][0]):
        return Trouble("same_error", f"handed in again with nothing changed, still wrong: {named}", evidence(last))
    return None


def told(mark: Mark) -> str:
    again = mark.times_seen > 1
    history = say("feedback_repeated", first=mark.first_seen, times=mark.times_seen) if again else say("feedback_new")
    quoted = "".join(f"\n  > {line}" for line in mark.excerpt.splitlines() if line.strip())
    return f"- {mark.criterion} ({history}): {mark.because}{quoted}"


def faults_of(review: Review) -> list[Mark]:
    return [mark for mark in review.marks if not mark.passed]


def passed_in(review: Review) -> list[str]:
    """Criteria without a fault."""
    wrong = {mark.criterion for mark in faults_of(review)}
    return list(dict.fromkeys(m.criterion for m in review.marks if m.criterion not in wrong))


def prints(review: Review) -> set[str]:
    return {mark.fingerprint for mark in faults_of(review)}


def evidence(review: Review) -> tuple[str, ...]:
    """The faults of *review*, a line each with how often they were seen; for a verifier that broke, what it said."""
    lines = [
        f"{m.criterion}, {m.times_seen}x since attempt {m.first_seen}: {m.because}"
        + (f" | {' '.join(m.excerpt.split())}" if m.excerpt else "")
        for m in faults_of(review)[:MOST]
    ]
    return (*([review.detail] if review.detail else []), *lines)
