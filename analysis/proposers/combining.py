"""A proposer that, when nothing is kept any more, tries together what nearly was.

Each of two changes may be too small to be told from noise, and both together not; and what did not pay on one version
may pay on the next. The recommended stack is ``Combining(Pruning(MutationProposer(…)))``: while the search is stuck,
one round in three combines near misses, one takes out a kept change, and one tries something new.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import variance

from analysis.proposers.examples import is_new, proposal_id
from analysis.proposers.ideas import UNTRIED
from analysis.proposers.pruning import STUCK, TURNS, idle
from harness.errors import OutOfIdeas
from harness.protocols import History, Proposer
from harness.undo import edits_between, undo
from traces.records import Comparison, Proposal, Round

NEAR = 0.5
"""In standard deviations of what was measured: how much worse a near miss may have looked."""
MOST = 16
"""Near misses that are combined with each other, those that looked best: 120 pairs are more than a night tries."""
SAID = 120
"""Characters of what each round said that a combination quotes."""


@dataclass(frozen=True)
class NearMiss:
    """A change that was not kept, and that no measurement speaks against."""

    round: Round
    """In which it was first tried."""
    gain: float
    """As it was last measured, in the unit of its scores."""


@dataclass(frozen=True)
class Combining:
    """Asks *proposer*; but once nothing was kept in ``after`` rounds, in one round of three it tries near misses.

    A near miss is a change whose first run, and whose fresh ones where there were any, came out no worse than half a
    standard deviation below the incumbent. Two of them are put on today's incumbent together, where both apply and
    neither undoes the other; or one alone, if that is another version than it was tried on. The most hopeful come
    first, by the gains that were measured. Each pair and each change alone is proposed once. When *proposer* is out of
    ideas, those that are left are proposed one by one.
    """

    proposer: Proposer
    after: int = STUCK

    def __post_init__(self) -> None:
        if self.after < 1:
            raise ValueError("after: at least 1 round without a keep")

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        stuck = idle(history.rounds) - self.after
        if stuck >= 0 and stuck % TURNS == 0 and (combination := next_combination(incumbent, text, history)):
            return combination
        try:
            return self.proposer.propose(incumbent, text, history)
        except OutOfIdeas:
            if combination := next_combination(incumbent, text, history):
                return combination
            raise


def next_combination(incumbent: str, text: Mapping[str, str], history: History) -> Proposal | None:
    """The near misses to try next; ``None`` when there are none left."""
    asked = {
        r.proposal.rationale
        for r in history.rounds
        if r.proposal is not None and r.decision is not None and r.decision.because not in UNTRIED
    }
    for changes in combinable(near_misses(history.rounds), incumbent):
        rationale = together(changes)
        if rationale in asked:
            continue
        result = with_all(changes, text, history)
        if result and result != text and is_new(edits := edits_between(text, result), history):
            answers = dict.fromkeys(a for change in changes if change.proposal for a in change.proposal.answers)
            return Proposal(
                id=proposal_id(incumbent, edits),
                proposer=Combining.__name__,
                edits=edits,
                rationale=rationale,
                answers=tuple(answers),
            )
    return None


def combinable(misses: Sequence[NearMiss], incumbent: str) -> Iterator[tuple[Round, ...]]:
    """Pairs that promise something together, and changes that were tried on another version than *incumbent*; the most
    hopeful first, of equals the oldest."""
    pairs = [pair for pair in combinations(misses, 2) if sum(miss.gain for miss in pair) > 0]
    alone = [(miss,) for miss in misses if miss.round.incumbent != incumbent]
    hopeful = sorted([*pairs, *alone], key=lambda found: (-sum(m.gain for m in found), [m.round.number for m in found]))
    for found in hopeful:
        yield tuple(miss.round for miss in found)


def near_misses(rounds: Sequence[Round]) -> list[NearMiss]:
    """The best of *rounds*, in order; what was tried once more goes by its latest measurement."""
    latest = {r.proposal.rationale: r for r in rounds if r.proposal is not None and has_said(r)}
    found: list[NearMiss] = []
    for round in rounds:
        if round.proposal is None or round.candidate is None or round.proposal.proposer == Combining.__name__:
            continue
        gain, again = near_gain(round), latest.get(together([round]))
        if gain is not None and again is not None:
            gain = near_gain(again)
        if gain is not None:
            found.append(NearMiss(round, gain))
    best = sorted(found, key=lambda miss: -miss.gain)[:MOST]
    return sorted(best, key=lambda miss: miss.round.number)


def has_said(round: Round) -> bool:
    return round.decision is not None and round.decision.because not in UNTRIED


def near_gain(round: Round) -> float | None:
    """By how much the change looked better; ``None``: it was kept, or could not be measured, or is worse."""
    d = round.decision
    if d is None or d.comparison is None or d.because not in ("no-improvement", "undecided"):
        return None
    c = d.comparison
    if c.gain is None or not c.differences:
        return None
    margin = NEAR * deviation(c)
    first = c.differences[0] if c.metric else c.gain
    return c.gain if min(first, c.gain) >= -margin else None


def deviation(comparison: Comparison) -> float:
    """The standard deviation of a metric's single run, or of the mean over the tasks of a graded comparison."""
    if comparison.metric:
        return comparison.sigma or 0.0
    n = len(comparison.differences)
    return math.sqrt(variance(comparison.differences) / n) if n > 1 else 0.0


def with_all(changes: Sequence[Round], text: Mapping[str, str], history: History) -> dict[str, str] | None:
    """*text* with all *changes* made in it; ``None`` where one does not apply, or does nothing beside the others."""
    if history.text_of is None:
        return None
    result = dict(text)
    for change in changes:
        assert change.candidate is not None
        made = redo(history.text_of(change.incumbent), history.text_of(change.candidate), result)
        if made is None or made == result:
            return None
        result = made
    return result


def redo(before: Mapping[str, str], after: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str] | None:
    """The files of *now* with the change made that led from *before* to *after*; ``None``: it does not apply.

    To make a change is to take out its opposite.
    """
    return undo(after, before, now)


def together(changes: Sequence[Round]) -> str:
    """In words."""
    said = "; ".join(quoted(change) for change in changes)
    numbers = " and ".join(str(change.number) for change in changes)
    if len(changes) == 1:
        return f"round {numbers} again, on another version: {said}"
    return f"rounds {numbers} together: {said}"


def quoted(change: Round) -> str:
    said = " ".join(change.proposal.rationale.split()) if change.proposal else ""
    return f'"{said if len(said) <= SAID else said[: SAID - 1].rstrip() + "…"}"'
