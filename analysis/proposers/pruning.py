"""A proposer that now and then proposes to take a kept change out again.

Changes are kept on loose evidence, and text that earns nothing costs tokens and attention in every trial. A version
with less text need only be no worse (``simpler``), so what was kept by luck goes, and what pays stays.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from analysis.proposers.examples import is_new, proposal_id
from harness.errors import OutOfIdeas
from harness.protocols import History, Proposer
from harness.undo import edits_between, length, undo
from traces.records import Proposal, Round

STUCK = 6
"""Rounds in a row without a keep after which a search is held to be stuck."""
TURNS = 3
"""While it is, one round in so many tries what was kept, one what nearly was, and one something new."""


@dataclass(frozen=True)
class Pruning:
    """Asks *proposer*, but in every ``every``-th round proposes a removal if there is one.

    The change that was proposed for removal least often goes first, of several the oldest. It has to come out by
    itself, make the text shorter, and lead to a version that was not tried. (Without the latest change the version is
    the one that it was compared with, and without the only one it is the live version: these comparisons are not made
    twice.) When *proposer* is out of ideas, the removals that are left are proposed one by one.

    When nothing was kept in the last ``after`` rounds, each kept change is taken out in turn, in one round of three:
    then also what leaves the text no shorter, since a change may hold up those that came after it.
    """

    proposer: Proposer
    every: int = 4
    after: int = STUCK

    def __post_init__(self) -> None:
        if self.every < 2:
            raise ValueError("every: at least 2, or nothing new would be tried between two removals")
        if self.after < 1:
            raise ValueError("after: at least 1 round without a keep")

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        stuck = idle(history.rounds) - self.after
        if stuck >= 0 and stuck % TURNS == 1:
            removal = next_removal(incumbent, text, history) or next_reversal(incumbent, text, history)
        elif (len(history.rounds) + 1) % self.every == 0:
            removal = next_removal(incumbent, text, history)
        else:
            removal = None
        if removal is not None:
            return removal
        try:
            return self.proposer.propose(incumbent, text, history)
        except OutOfIdeas:
            if removal := next_removal(incumbent, text, history):
                return removal
            raise


def idle(rounds: Sequence[Round]) -> int:
    """Rounds since the last one whose change was kept."""
    kept = (r.decision is not None and r.decision.verdict == "keep" for r in reversed(rounds))
    return next((i for i, is_kept in enumerate(kept) if is_kept), len(rounds))


def next_removal(incumbent: str, text: Mapping[str, str], history: History) -> Proposal | None:
    """The kept change to take out next, so that less text is left; ``None`` when there is none."""
    return _next(incumbent, text, history, lambda rest: length(rest) < length(text))


def next_reversal(incumbent: str, text: Mapping[str, str], history: History) -> Proposal | None:
    """The same, whatever is left."""
    return _next(incumbent, text, history, lambda rest: True)


def _next(
    incumbent: str, text: Mapping[str, str], history: History, fits: Callable[[Mapping[str, str]], bool]
) -> Proposal | None:
    asked = [r.proposal.rationale for r in history.rounds if r.proposal is not None]
    kept = [
        r
        for r in history.rounds
        if r.decision is not None and r.decision.verdict == "keep"
        if r.proposal is None or r.proposal.proposer != Pruning.__name__
    ]
    for change in sorted(kept, key=lambda change: asked.count(take_out(change))):
        rest = without(change, text, history)
        if rest and rest != text and fits(rest):
            edits = edits_between(text, rest)
            if is_new(edits, history):
                return Proposal(
                    id=proposal_id(incumbent, edits),
                    proposer=Pruning.__name__,
                    edits=edits,
                    rationale=take_out(change),
                    predicted=0.0,
                )
    return None


def without(change: Round, text: Mapping[str, str], history: History) -> dict[str, str] | None:
    if history.text_of is None or change.candidate is None:
        return None
    return undo(history.text_of(change.incumbent), history.text_of(change.candidate), text)


def take_out(change: Round) -> str:
    said = change.proposal.rationale if change.proposal else ""
    return f'take out again what round {change.number} brought: "{said}"'
