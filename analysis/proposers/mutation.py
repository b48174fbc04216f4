"""A proposer for code that needs no model: it changes one literal, operator or declared choice at a time.

What it knows it reads from the rounds before: a change that was kept is gone on with in the same direction, one that
lost is turned round or made smaller, and a place where changes crash or lose is left alone more and more.
"""

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import islice
from types import MappingProxyType

from analysis.proposers.examples import is_new, proposal_id
from analysis.proposers.mutations import Option, Site, changed_tokens, is_share, number, sites
from analysis.proposers.mutations.sites import Key, Kind
from harness.candidacy import GUARDED, identity, objection
from harness.errors import OutOfIdeas, UserError
from harness.protocols import History
from traces.records import Decision, Edit, Proposal, Round

SHARES: Mapping[Kind, float] = MappingProxyType(
    {"setting": 0.75, "argument": 0.14, "value": 0.06, "operator": 0.03, "statement": 0.02}
)
"""How often each kind of place is changed while nothing is known, where a file has all of them."""

DRAWS = 2000
"""How many changes are drawn before the proposer gives up."""
FURTHER = 0.7
"""How far a number moves once all that is usual was tried: the standard deviation of the logarithm."""
WEARY = 0.15
"""How much less a kind of place is changed for each change of it, beside those that were kept."""
NOISE = 1.2
"""Variance of a gain, in square sigmas: of a run, and of the mean of the incumbent's."""
BEND, SLOPE = 1.5, 1.5
"""What is believed of a number before anything is known: its bend, and the standard deviation of its slope."""
BROKEN = -3.0
"""The gain, in sigmas, that a change counts for that gave no number, or was no candidate."""
FAR = 8.0
"""Beyond so many sigmas all gains and losses are alike."""

UNTRIED = frozenset({"already-tried", "no-proposal", "unfounded", "errors", "drift"})
"""Decisions that say nothing of a change."""

Draw = tuple[Site, Option]


@dataclass(frozen=True)
class Lesson:
    """What became of an earlier change of a place."""

    old: str
    new: str
    is_kept: bool
    gain: float
    """In sigmas."""


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
        for draw in islice(drawn, 2 * DRAWS):
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
        raise OutOfIdeas(
            "no small change is left that was not tried: declare choices (# choices: 2, 4), or pass another proposer, "
            'such as CodeProposer, or Ideas(HERE / "ideas") for changes of your own'
        )

    def _drawn(self, text: Mapping[str, str], history: History, rng: random.Random) -> Iterator[Draw]:
        """All changes that could be made, those of a kind that promise most first; then numbers at random."""
        places = self._places(text)
        known = lessons(history)
        ranked: dict[Kind, list[tuple[float, int, Draw]]] = {}
        tries: Counter[Kind] = Counter()
        kept: Counter[Kind] = Counter()
        for site in places:
            learned = known.get(site.key, ())
            tries[site.kind] += len(learned)
            kept[site.kind] += sum(one.is_kept for one in learned)
            mine = ranked.setdefault(site.kind, [])
            for option, gain in hoped(site, learned, rng):
                mine.append((gain, len(mine), (site, option)))
        for mine in ranked.values():
            mine.sort()
        while ranked:
            kinds = list(ranked)
            shares = [SHARES[kind] * (1 + kept[kind]) / (1 + WEARY * tries[kind]) for kind in kinds]
            [kind] = rng.choices(kinds, shares)
            yield ranked[kind].pop()[2]
            if not ranked[kind]:
                del ranked[kind]
        weights = [SHARES[site.kind] * site.weight for site in places]
        for _ in range(DRAWS if places else 0):
            [site] = rng.choices(places, weights)
            option = site.another(rng.gauss(0.0, FURTHER))
            if option is not None:
                yield site, option

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
    """Would one change be in the other's line, or move it?"""
    is_shift = "statement" in (a[0].kind, b[0].kind)
    return a[0].path == b[0].path and (is_shift or a[0].line == b[0].line)


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


def lessons(history: History) -> dict[Key, list[Lesson]]:
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
    found = decision.comparison
    gain = found.gain if found is not None else None
    is_kept = decision.verdict == "keep"
    if found is None or gain is None:
        sigmas = 1.0 if is_kept else BROKEN
    else:
        sigmas = gain / found.sigma if found.sigma else math.copysign(1.0, gain) if gain else 0.0
    return Lesson(old, new, is_kept, max(-FAR, min(FAR, sigmas)))


def hoped(site: Site, learned: Sequence[Lesson], rng: random.Random) -> Iterator[tuple[Option, float]]:
    """Each option with a gain, in sigmas, drawn from what is believed of it: what is little known is tried, too.

    Of numbers it is believed that the loss is a parabola over their logarithm, *bend* u² + *slope* u, with normal
    errors. So a number that was better when it went up is to go further up, one that was much worse is to go down, and
    one that makes no difference makes way for others. Of all else each option is for itself.
    """
    width = math.sqrt(site.weight)
    here = place_of(site.old, site.old)
    if here is not None and number(site.old) and site.options[0].step:
        bend, slope = believed(site.old, here, learned, width, rng)
        for option in site.options:
            u = (place_of(option.text, site.old) or 0.0) - here
            yield option, -(bend * u * u + slope * u)
        return
    for option in site.options:
        found = [one.gain for one in learned if one.new == option.text]
        precision = 1 / width**2 + len(found) / NOISE
        mean = (-0.5 / width**2 + sum(found) / NOISE) / precision
        yield option, rng.gauss(mean, precision**-0.5)


def believed(old: str, here: float, learned: Sequence[Lesson], width: float, rng: random.Random) -> tuple[float, float]:
    """Bend and slope, drawn from their posterior: a regression of the gains with a normal prior."""
    bends, slopes = 1 / (BEND / 2) ** 2, 1 / (SLOPE * width) ** 2
    mixed, toward_bend, toward_slope = 0.0, BEND * bends, 0.0
    for one in learned:
        before, after = place_of(one.old, old), place_of(one.new, old)
        if before is not None and after is not None:
            u, v = before - here, after - here
            by_bend, by_slope = u * u - v * v, u - v
            bends += by_bend * by_bend / NOISE
            slopes += by_slope * by_slope / NOISE
            mixed += by_bend * by_slope / NOISE
            toward_bend += by_bend * one.gain / NOISE
            toward_slope += by_slope * one.gain / NOISE
    whole = bends * slopes - mixed * mixed
    slope_mean = (bends * toward_slope - mixed * toward_bend) / whole
    slope = rng.gauss(slope_mean, math.sqrt(bends / whole))
    # given the slope, the bend
    return rng.gauss((toward_bend - mixed * slope) / bends, bends**-0.5), slope


@lru_cache(maxsize=65536)
def place_of(text: str, like: str) -> float | None:
    """Where a number lies: its logarithm, or minus that of its distance from 1 where *like* is near 1. ``None``: it is
    no number."""
    value, near = number(text), number(like)
    if value is None or near is None:
        return None
    if is_share(near, like) and value <= 1:
        return -math.log(max(1 - value, (1 - near) / 20))
    return math.log(max(value, (near or 1.0) / 20))
