"""A proposer that now and then proposes to take a kept change out again.

Changes are kept on loose evidence, and text that earns nothing costs tokens and attention in every trial. A version
with less text need only be no worse (``simpler``), so what was kept by luck goes, and what pays stays.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from analysis.proposers.examples import is_new, proposal_id
from harness.errors import OutOfIdeas
from harness.protocols import History, Proposer
from harness.undo import undo
from traces.records import Edit, Proposal, Round


@dataclass(frozen=True)
class Pruning:
    """Asks *proposer*, but in every ``every``-th round proposes a removal if two kept changes or more are still there.

    The change that was proposed for removal least often goes first, of several the oldest. It has to come out by
    itself, make the text shorter, and lead to a version that was not tried. (Without the latest change the version is
    the one that it was compared with: that comparison is not made twice.) When *proposer* is out of ideas, the
    removals that are left are proposed one by one.
    """

    proposer: Proposer
    every: int = 4

    def __post_init__(self) -> None:
        if self.every < 2:
            raise ValueError("every: at least 2, or nothing new would be tried between two removals")

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        is_due = (len(history.rounds) + 1) % self.every == 0
        if is_due and (removal := next_removal(incumbent, text, history)):
            return removal
        try:
            return self.proposer.propose(incumbent, text, history)
        except OutOfIdeas:
            if removal := next_removal(incumbent, text, history):
                return removal
            raise


def next_removal(incumbent: str, text: Mapping[str, str], history: History) -> Proposal | None:
    """The kept change to take out next; ``None`` when there is none."""
    standing = list(still_there(text, history))
    if len(standing) < 2:
        return None
    asked = [r.proposal.rationale for r in history.rounds if r.proposal is not None]
    for change, rest in sorted(standing, key=lambda found: asked.count(take_out(found[0]))):
        if rest is not None and length(rest) < length(text):
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


def still_there(text: Mapping[str, str], history: History) -> Iterator[tuple[Round, dict[str, str] | None]]:
    """The kept rounds of whose changes something is left in *text*, oldest first, and *text* without each.

    ``None`` for one that later changes rest on.
    """
    if history.text_of is None:
        return
    for round in history.rounds:
        if round.decision is not None and round.decision.verdict == "keep" and round.candidate is not None:
            rest = undo(history.text_of(round.incumbent), history.text_of(round.candidate), text)
            if rest != text:
                yield round, rest


def take_out(change: Round) -> str:
    said = change.proposal.rationale if change.proposal else ""
    return f'take out again what round {change.number} brought: "{said}"'


def edits_between(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Edit, ...]:
    paths = sorted({*before, *after})
    return tuple(Edit(path=path, text=after.get(path)) for path in paths if before.get(path) != after.get(path))


def length(text: Mapping[str, str]) -> int:
    return sum(map(len, text.values()))
