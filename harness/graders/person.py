"""The check that a person makes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from harness.agent.inbox import Inbox
from harness.errors import TrialError
from harness.graders.marks import fault, passed
from harness.meter import meter
from harness.protocols import Work
from harness.redact import redacted
from traces.records import Escalation, Mark, Task, now

SHOWN = 1800
"""Characters of an output that the inbox shows: of a longer one its two ends."""


@dataclass(frozen=True)
class Person:
    """A person is asked, in the inbox, and what they say is the mark: for this output and no other."""

    question: str
    """What to look for, answered by ``ratchet inbox approve`` or ``reject``; the note of a rejection goes back."""
    id: str = "person"
    wait: float = 3600.0
    """Seconds; what nobody answered until then cannot be verified."""
    poll: float = 0.2

    def check(self, task: Task, output: str, work: Work) -> Sequence[Mark]:
        inbox, held = self._held(task, output)
        inbox.hold(held)
        ruling = inbox.await_ruling(held.id, check=meter().check_clock, poll=self.poll)
        # an approval that was used is one that a process, killed meanwhile, had seen for this very output
        if ruling.verdict == "used" or (ruling.verdict == "approved" and inbox.redeem(ruling, held.action)):
            return (passed(self.id, f"approved by {ruling.who}"),)
        if ruling.verdict == "rejected":
            return (fault(self.id, ruling.note or "a person refused it"),)
        raise TrialError(
            "grader", "unanswered", f"nobody answered {self.question!r} in time, see {held.id} in the inbox"
        )

    def _held(self, task: Task, output: str) -> tuple[Inbox, Escalation]:
        run, directory = meter().run, meter().directory
        if run is None or directory is None:
            raise TrialError("grader", "cannot_verify", f"outside a run there is no inbox to ask {self.question!r} in")
        action = hashlib.sha256(f"{self.id}\n{self.question}\n{output}".encode(errors="replace")).hexdigest()
        place = f"{meter().trial or run.id}/{task.id}"
        raised = now()
        return Inbox(directory), Escalation(
            id=hashlib.sha256(f"{place}\n{action}".encode()).hexdigest()[:12],
            kind="approval",
            concern="grade",
            experiment=run.experiment,
            owner=run.owner,
            run=run.id,
            trial=meter().trial,
            summary=self.question,
            evidence=(redacted(shown(output)),),
            action=action,
            tool=self.id,
            raised=raised,
            expires=raised + timedelta(seconds=self.wait),
        )


def shown(output: str) -> str:
    half = SHOWN // 2
    left_out = len(output) - SHOWN
    return output if left_out <= 0 else f"{output[:half]}\n… {left_out} characters left out …\n{output[-half:]}"
