"""A proposer for code that needs no model: it changes one literal, operator or declared choice at a time.

What it knows it reads from the rounds before: a change that was kept is gone on with in the same direction, one that
lost is turned round or made smaller, and a place where changes crash or lose is left alone more and more.
"""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType

from analysis.proposers.examples import is_new, proposal_id
from analysis.proposers.mutations import Option, Site, changed_tokens, number, sites
from analysis.proposers.mutations.sites import Key, Kind
from harness.candidacy import GUARDED, identity, objection
from harness.errors import OutOfIdeas, UserError
from harness.protocols import History
from traces.records import Decision, Edit, Proposal, Round

SHARES: Mapping[Kind, float] = MappingProxyType(
    {"setting": 0.75, "argument": 0.14, "value": 0.06, "operator": 0.03, "statement": 0.02}
)
"""How often each kind of place is changed while nothing is known, where a file has all of them."""

DRAWS = 400
"""How many changes are drawn before the proposer gives up."""
NEAR = 0.25
"""In sigmas: a change that gained so much and was not kept may have been unlucky."""
CAP = 3.0
"""How far what is known of a place can shift its weight, as a logarithm."""

UNTRIED = frozenset({"already-tried", "no-proposal", "unfounded", "errors", "drift"})
"""Decisions that say nothing of a change."""

Draw = tuple[Site, Option]


@dataclass(frozen=True)
class Lesson:
    """What became of an earlier change of a place."""

    step: float
    """As ``Option.step``."""
    new: str
    is_kept: bool
    is_broken: bool
    """It gave no number at all, or was no candidate."""
    gain: float
    """In sigmas, as far as it is known."""


@dataclass(frozen=True)
class MutationProposer:
    """Proposes one small change of a Python file; now and then two at once.

    Numbers are doubled, halved and moved a little, on a logarithmic scale; whole ones stay whole. A comment on its line
    says more of a value: ``# range: 1e-4 .. 1e-1`` between what a number may be, ``# choices: relu, gelu`` what a text,
    a name or a number may be. Constants at the top of a file are changed most, and of them those in capitals.

    Everything else of the file stays as it is, to the last blank. A line that names something *guarded* is not touched,
    and no version is proposed twice. All that it knows comes from the history and all chance from its seed, so the
    same history makes the same proposal.
    """

    files: Sequence[str] = ("**/*.py",)
    """Globs of what it may change, from the subject's folder."""
    choices: Mapping[str, Sequence[str | int | float]] = field(default_factory=dict[str, Sequence[str | int | float]])
    """Name → what it may be set to, as in ``{"ACTIVATION": ["relu", "gelu"]}``."""
    twice: float = 0.05
    """Share of proposals that make two changes."""
    guarded: Sequence[str] = GUARDED

    def __post_init__(self) -> None:
        if isinstance(self.files, str):
            raise ValueError('files: give a list, MutationProposer(files=["train.py"])')
        if not 0 <= self.twice < 1:
            raise ValueError("twice: at least 0 and less than 1, the share of proposals that make two changes")

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        rng = random.Random(history.seed)
        drawn = self._drawn(text, history, rng)
        seen = tried(history)
        partner: Draw | None = next(drawn, None) if rng.random() < self.twice else None
        for draw, _ in zip(drawn, range(DRAWS), strict=False):
            pair = [draw] if partner is None or clash(partner, draw) else [partner, draw]
            partner = None
            edits = edits_of(pair, text)
            after = {**text, **{edit.path: edit.text or "" for edit in edits}}
            if not is_new(edits, history) or identity(after) in {*seen, identity(text)}:
                continue
            if objection(text, after, self.guarded):
                continue
            return Proposal(
                id=proposal_id(incumbent, edits),
                proposer=type(self).__name__,
                edits=edits,
                rationale=", and ".join(site.says(option) for site, option in pair),
            )
        raise OutOfIdeas("no small change is left that was not tried: declare choices, or pass another proposer")

    def _drawn(self, text: Mapping[str, str], history: History, rng: random.Random) -> Iterator[Draw]:
        """All changes that could be made, in random order, the likelier ones earlier."""
        places = self._places(text)
        known = lessons(text, history)
        whole = {kind: sum(site.weight for site in places if site.kind == kind) for kind in SHARES}
        keyed: list[tuple[float, int, Draw]] = []
        for site in places:
            learned = known.get(site.key, ())
            weight = SHARES[site.kind] * site.weight / whole[site.kind] * math.exp(promise(learned))
            fits = [option.share * fit(option, learned) for option in site.options]
            for option, share in zip(site.options, fits, strict=True):
                # the smallest of exponential waiting times falls to each in proportion to its weight
                wait = rng.expovariate(1.0) / max(weight * share / sum(fits), 1e-12)
                keyed.append((wait, len(keyed), (site, option)))
        yield from (draw for _, _, draw in sorted(keyed))

    def _places(self, text: Mapping[str, str]) -> list[Site]:
        mine = [path for path in sorted(text) if path.endswith(".py") and any(matches(path, g) for g in self.files)]
        if not mine:
            raise UserError(
                f"this proposer changes Python files, and of the subject's {len(text)} files none matches "
                f"{', '.join(self.files)}. Name one in MutationProposer(files=[…]), or pass another proposer"
            )
        choices = tuple((name, tuple(map(str, values))) for name, values in self.choices.items())
        return [site for path in mine for site in sites(path, text[path], choices, tuple(self.guarded))]


def matches(path: str, glob: str) -> bool:
    return fnmatchcase(path, glob) or (glob.startswith("**/") and fnmatchcase(path, glob.removeprefix("**/")))


def clash(a: Draw, b: Draw) -> bool:
    """Would one change be in the other's line?"""
    return (a[0].path, a[0].line) == (b[0].path, b[0].line)


def edits_of(draws: Sequence[Draw], text: Mapping[str, str]) -> tuple[Edit, ...]:
    made: dict[str, str] = {}
    for site, option in sorted(draws, key=lambda draw: -draw[0].start):
        made[site.path] = site.apply(made.get(site.path, text[site.path]), option)
    return tuple(Edit(path=path, text=new) for path, new in sorted(made.items()))


# ── what earlier rounds say ────────────────────────────────────────────────────────────────────────────────────────


def tried(history: History) -> set[str]:
    """Identities of what there was before, in this run and in earlier ones."""
    seen, last = {*history.tried}, None
    for round, files in replayed(history.rounds, history):
        if round.identity:
            seen.add(round.identity)
        elif files is not None and round.proposal is not None:
            seen.add(identity(applied(files, round.proposal.edits)))
        if files is not None and files is not last:
            seen.add(identity(files))
            last = files
    return seen


def lessons(text: Mapping[str, str], history: History) -> dict[Key, list[Lesson]]:
    """Place → what became of its changes, oldest first."""
    known: dict[Key, list[Lesson]] = {}
    for round, files in replayed(history.rounds, history):
        decision = round.decision
        if round.proposal is None or files is None or decision is None or decision.because in UNTRIED:
            continue
        for edit in round.proposal.edits:
            if edit.text is not None and edit.path in files:
                for key, old, new in changed_tokens(edit.path, files[edit.path], edit.text):
                    known.setdefault(key, []).append(lesson(old, new, decision))
    return known


def replayed(rounds: Sequence[Round], history: History) -> Iterator[tuple[Round, Mapping[str, str] | None]]:
    """Each round that proposed something, with the files that it started from; ``None``: they are not known."""
    at, files = "", None
    for round in rounds:
        if round.proposal is None:
            continue
        if round.incumbent != at:
            at, files = round.incumbent, history.text_of(round.incumbent) if history.text_of else None
        yield round, files
        if files is not None and round.working == round.candidate:
            at, files = round.working, applied(files, round.proposal.edits)


def applied(files: Mapping[str, str], edits: Sequence[Edit]) -> dict[str, str]:
    gone = {edit.path for edit in edits}
    kept = {path: text for path, text in files.items() if path not in gone}
    return kept | {edit.path: edit.text for edit in edits if edit.text is not None}


def lesson(old: str, new: str, decision: Decision) -> Lesson:
    before, after = number(old), number(new)
    step = 0.0
    if before is not None and after is not None and before != after:
        step = math.log(after / before) if before > 0 and after > 0 else math.copysign(2.0, after - before)
        if 0.5 < before < 1 and after < 1:
            step = math.log((1 - before) / (1 - after))
    found = decision.comparison
    gain = found.gain if found is not None else None
    is_kept = decision.verdict == "keep"
    is_broken = gain is None and not is_kept
    if gain is None:
        sigmas = 1.0 if is_kept else -1.0
    else:
        assert found is not None
        sigmas = gain / found.sigma if found.sigma else math.copysign(1.0, gain) if gain else 0.0
    return Lesson(step, new, is_kept, is_broken, max(-5.0, min(5.0, sigmas)))


def promise(learned: Sequence[Lesson]) -> float:
    """How much more often a place is changed for what is known of it, as a logarithm."""
    said = 0.0
    for one in learned:
        said *= 0.9  # what was long ago was beside other values
        if one.is_kept:
            said = max(said, 0.0) + 1.0
        elif one.is_broken:
            said -= 0.8
        else:
            said += 0.3 if one.gain > NEAR else -0.35
    return max(-CAP, min(CAP, said))


def fit(option: Option, learned: Sequence[Lesson]) -> float:
    """How well *option* goes with what is known of its place, beside others of the place."""
    value = 1.0
    for one in learned:
        if not option.step or not one.step:
            if one.new == option.text and not one.is_kept:
                value *= 0.5 if one.gain > NEAR else 0.2
            continue
        is_same_way = (option.step > 0) == (one.step > 0)
        if one.is_kept:
            value = 6.0 if is_same_way else 0.3  # what lost before it lost beside another value
        elif one.gain > NEAR:
            value *= 1.5 if is_same_way else 0.8
        elif is_same_way:
            value *= 0.25 if abs(option.step) >= abs(one.step) * 0.99 else 0.6
        else:
            value *= 1.2
    return max(value, 1e-3)
