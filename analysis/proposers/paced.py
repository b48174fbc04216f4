"""A proposer with a limit on its pace, that stops when hardly anything it proposes is kept.

Each proposal costs trials, and each that is kept a person's attention. Fifty a day of which forty are wrong are worth
less than the ten alone: they take the ten's budget, and hide them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import sqrt
from statistics import NormalDist
from time import sleep

from analysis.proposers.ideas import UNTRIED
from harness.certify import kept_changes
from harness.errors import OutOfIdeas
from harness.models.attention import nap
from harness.protocols import History, Proposer
from traces.records import Proposal, Round, now

CONFIDENCE = 0.9


@dataclass(frozen=True)
class Acceptance:
    """How many of some decided proposals were kept, and stayed."""

    kept: int
    decided: int

    @property
    def rate(self) -> float | None:
        return self.kept / self.decided if self.decided else None

    @property
    def interval(self) -> tuple[float, float]:
        """At 90 %; Wilson, Journal of the American Statistical Association 22 (1927) 209."""
        if not self.decided:
            return 0.0, 1.0
        n, p = self.decided, self.kept / self.decided
        z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return max(0.0, min(middle - half, p)), min(1.0, max(middle + half, p))

    def __str__(self) -> str:
        if not self.decided:
            return "no proposal is decided yet"
        low, high = self.interval
        proposals = "proposal was" if self.decided == 1 else "proposals were"
        return (
            f"{self.kept} of {self.decided} {proposals} kept "
            f"({self.kept / self.decided:.0%}, 90 % interval {low:.0%} to {high:.0%})"
        )


def acceptance(rounds: Iterable[Round], last: int | None = None) -> Acceptance:
    """Of the *last* decided proposals, or of all: how many were kept.

    One that was never measured because it was invalid, unfounded or tried before counts as not kept, and so does one
    that was taken out again. One that the infrastructure or a broken proposer cut off says nothing.
    """
    rounds = list(rounds)
    decided = [r for r in rounds if r.proposal and r.decision and r.decision.because not in UNTRIED]
    decided = decided if last is None else decided[-last:]
    standing = {r.number for r in kept_changes(rounds)}
    return Acceptance(sum(r.number in standing for r in decided), len(decided))


@dataclass(frozen=True)
class Paced:
    """Asks *proposer*, at most so often, and as long as enough of what it proposes is kept.

    As the budget is, its settings are no part of what a record means: an unfinished run goes on when they change.
    """

    proposer: Proposer
    most_per_hour: float | None = field(default=None, repr=False)
    """Proposals; ``None`` does not limit. They are spread evenly: at 4, each is asked for at least 15 minutes after
    the one before. What waits listens to the stop button and to the hours of the budget."""
    floor: float = field(default=0.05, repr=False)
    """Share of kept proposals below which no more are asked for; 0 never pauses."""
    window: int = field(default=20, repr=False)
    """Over how many decided proposals of the run, the latest; with fewer it is too early to tell."""
    clock: Callable[[], datetime] = field(default=now, repr=False)
    sleep: Callable[[float], None] = field(default=sleep, repr=False)

    def __post_init__(self) -> None:
        if self.most_per_hour is not None and not self.most_per_hour > 0:
            raise ValueError("most_per_hour: above 0, or nothing would ever be proposed; None does not limit")
        if not 0 <= self.floor <= 1:
            raise ValueError("floor: a share of the proposals, between 0 and 1")
        if self.window < 1:
            raise ValueError("window: at least 1 decided proposal")

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        """As the proposer does, in its time.

        Raises:
            OutOfIdeas: too few of its proposals were kept; says how few, and what to do.
        """
        self.refuse_slop(history.rounds)
        if self.most_per_hour is not None:
            nap(waiting(history.rounds, timedelta(hours=1) / self.most_per_hour, self.clock()), self.sleep)
        return self.proposer.propose(incumbent, text, history)

    def refuse_slop(self, rounds: Sequence[Round]) -> None:
        lately = acceptance(rounds, self.window)
        if lately.decided == self.window and lately.rate is not None and lately.rate < self.floor:
            raise OutOfIdeas(
                f"the proposer is paused: lately {lately}, below the floor of {self.floor:.0%}. Going on would spend "
                "trials on proposals that are nearly all wrong. Read why they "
                "failed (ratchet report); then give it better findings, another model or wording, or lower "
                "Paced(floor=…); the next run begins anew"
            )


def waiting(rounds: Iterable[Round], spacing: timedelta, at: datetime) -> float:
    """Seconds from *at* until the next proposal may be asked for, so that any two lie *spacing* apart.

    A round records when it began and not how long it then waited; but that follows from the rounds before it.
    """
    due: datetime | None = None
    for round in rounds:
        due = (round.started if due is None else max(round.started, due)) + spacing
    return max(0.0, (due - at).total_seconds()) if due is not None else 0.0
