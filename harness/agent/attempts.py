"""What a maker hands in, and whether it will do: reviewed from outside, sent back with what is wrong, a few times."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import perf_counter

from harness.agent.deadline import OutOfTime, within
from harness.agent.feedback import Trouble, feedback, should_escalate
from harness.agent.inbox import escalation, notify
from harness.agent.limits import Ended
from harness.agent.session import Session
from harness.errors import TrialError
from harness.meter import inside, meter, spending
from harness.protocols import Outcome, Verifier
from harness.redact import redacted
from traces.journal import clean_text
from traces.records import Review, Span, Text, now


@dataclass
class Attempts:
    """The attempts of one maker at one task."""

    session: Session
    verifier: Verifier | None
    handed_in: Callable[[str], str]
    """What the output is, given the model's last words."""
    reviews: list[Review] = field(default_factory=list[Review])
    outputs: list[str] = field(default_factory=list[str])

    def outcome(self) -> Outcome:
        """How it ended, with the last output there is.

        Raises:
            TrialError: the verifier broke, or its rubric is bad, which says nothing about the maker.
        """
        span, started, clock = uuid.uuid4().hex, now(), perf_counter()
        with inside(span):
            outcome = self._outcome()
        meter().end(
            Span(
                id=span,
                operation="invoke_agent",
                name=self.session.setting.name,
                role=self.session.setting.role,
                started=started,
                seconds=perf_counter() - clock,
                attributes={"ratchet.ended": outcome.ended, "ratchet.detail": outcome.detail},
            )
        )
        return outcome

    def _outcome(self) -> Outcome:
        said = ""
        while True:
            try:
                said = self.session.converse()
            except Ended as e:
                if e.reason == "escalated":
                    self._escalate(Trouble("same_error", e.detail))
                return Outcome(self.handed_in(said), e.reason, e.detail)
            key = f"handed_in/{len(self.outputs) + 1}"  # as it was then: what is there now may be a later attempt's
            output = self.session.steps.step(key, lambda said=said: Text.of(clean_text(self.handed_in(said)))).text
            if self.verifier is None:
                return Outcome(output)
            try:
                trouble = self._judged(self.verifier, output)
            except Ended as e:
                return Outcome(output, e.reason, e.detail)
            if trouble is not None:
                self._escalate(trouble)
                if trouble.concern in ("bad_rubric", "cannot_verify"):
                    raise TrialError("grader", trouble.concern, "; ".join((trouble.summary, *trouble.evidence)))
                return Outcome(output, "unsatisfied", trouble.summary)
            if self.reviews[-1].verdict == "satisfied":
                return Outcome(output)
            self.session.tell(feedback(self.reviews[-1]))

    def _judged(self, verifier: Verifier, output: str) -> Trouble | None:
        """Review *output*, once more where the verifier broke; return why only a person can help, if so."""
        while True:
            self.outputs.append(output)
            self.reviews.append(self._reviewed(verifier, output))
            trouble = should_escalate(self.reviews, self.outputs, verifier.attempts)
            if trouble is not None or self.reviews[-1].verdict != "grader_error":
                return trouble

    def _reviewed(self, verifier: Verifier, output: str) -> Review:
        """By the verifier, which sees neither what the maker said nor where it worked."""
        work = replace(self.session.work, box=None)
        number = len(self.reviews) + 1

        def review() -> Review:
            seconds = self.session.watch.seconds_left()
            with spending("verifier"):
                try:
                    made = within(
                        seconds,
                        lambda: verifier.review(work.task, output, replace(work, seconds=seconds), self.reviews),
                        meter().check_clock,
                    )
                except OutOfTime:
                    raise Ended("time_cap", "its time was over while its output was reviewed") from None
            return without_secrets(made).model_copy(update={"trial": meter().trial})

        return self.session.steps.step(f"review/{number}", review)

    def _escalate(self, trouble: Trouble) -> None:
        place = self.session.setting.name
        notify(escalation("notice", trouble.concern, trouble.summary, evidence=trouble.evidence, place=place))


def without_secrets(review: Review) -> Review:
    """A verifier that ran commands may quote what they printed."""
    told = ("evidence", "because", "excerpt")
    marks = [mark.model_copy(update={f: redacted(clean_text(getattr(mark, f))) for f in told}) for mark in review.marks]
    return review.model_copy(update={"marks": tuple(marks), "detail": redacted(clean_text(review.detail))})
