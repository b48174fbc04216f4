"""Which failures a model reads: some of each kind that is known, and some drawn whatever is known."""

import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from analysis.findings import failed, members
from traces.records import Finding, Trial

AT_RANDOM = 4
"""One failure in so many is drawn from all alike, so that what no finding covers is seen too."""
LEAST = 2
"""Failures of a stratum: what only one shows may be that one's own."""

Stratum = tuple[str | float, ...]
"""Finding, version and score, or the first of these; a finding that is empty: none covers it."""
REST: Stratum = ()
"""All that is too rare to be a stratum of its own in a sample of that size."""


@dataclass(frozen=True)
class Drawn:
    """A failed trial of a sample."""

    trial: Trial
    finding: str
    """The finding that it belongs to; empty: none covers it."""
    chance: float
    """That such a sample holds it, whatever the seed."""
    at_random: bool
    """Drawn without regard to what is known."""

    @property
    def weight(self) -> float:
        """How many failures it stands for (Horvitz and Thompson, 1952): added up over those of some kind, the weights
        estimate without bias how many failures are of that kind."""
        return 1.0 / self.chance


def sample(
    trials: Iterable[Trial],
    found: Sequence[Finding],
    size: int,
    seed: int,
    paths: Mapping[str, str],
    read: Collection[str] = (),
) -> list[Drawn]:
    """At most *size* of the failures among *trials*: for one seed the same, in whatever order the trials come.

    One part is drawn at random from all failures, and does not change with what is *found*. The rest is drawn from
    each finding, version and score by its size, two at least where there are two, as far as there is room: else from
    each finding, its versions and scores in proportion. Nothing is drawn from findings in *read*, of which enough has
    been read before. What both parts draw is in it once.
    """
    failures = sorted((t for t in trials if failed(t) and not t.is_lost), key=lambda trial: trial.id)
    belongs = {trial.id: id for id, group in members(found, failures, paths).items() for trial in group}
    if len(failures) <= size and not read:
        return [Drawn(trial, belongs.get(trial.id, ""), 1.0, at_random=True) for trial in failures]
    blind = min(-(-size // AT_RANDOM), len(failures))
    picked = {trial.id for trial in random.Random(f"{seed}/at random").sample(failures, blind)}
    places = size - blind
    strata = stratified([t for t in failures if belongs.get(t.id) not in read], belongs, places // LEAST)
    chance: dict[str, float] = {}
    chosen: set[str] = set()
    for stratum, take in allotted({name: len(group) for name, group in strata.items()}, places).items():
        group = strata[stratum]
        chance |= dict.fromkeys((trial.id for trial in group), take / len(group))
        chosen |= {trial.id for trial in spread(group, take, random.Random(f"{seed}/{stratum}"))}
    return [
        Drawn(
            trial,
            belongs.get(trial.id, ""),
            1 - (1 - blind / len(failures)) * (1 - chance.get(trial.id, 0.0)),  # the draws know nothing of each other
            at_random=trial.id in picked,
        )
        for trial in failures
        if trial.id in picked or trial.id in chosen
    ]


def stratified(failures: Sequence[Trial], belongs: Mapping[str, str], most: int) -> dict[Stratum, list[Trial]]:
    """*failures* by finding, version and score; by finding alone, and the rarest as one, where that is over *most*."""
    groups: dict[Stratum, list[Trial]] = {}
    whole = {trial.id: (belongs.get(trial.id, ""), trial.version, score_of(trial)) for trial in failures}
    for depth in (3, 2, 1):
        parts: defaultdict[Stratum, list[Trial]] = defaultdict(list)
        for trial in failures:
            parts[whole[trial.id][:depth]].append(trial)
        groups = dict(sorted(parts.items(), key=lambda item: (-len(item[1]), item[0])))
        if len(groups) <= most:
            return groups
    own = dict([*groups.items()][: max(most - 1, 0)])
    return {**own, REST: [trial for stratum, group in groups.items() if stratum not in own for trial in group]}


def score_of(trial: Trial) -> float:
    return trial.grade.score if trial.grade is not None else 0.0


def spread(group: Sequence[Trial], take: int, rng: random.Random) -> list[Trial]:
    """*take* of *group*, each with the same chance, from its versions and scores in proportion: at equal distances from
    a random start (systematic sampling)."""
    ordered = sorted(group, key=lambda trial: (trial.version, score_of(trial), rng.random()))
    start = rng.random()
    return [ordered[int((start + n) * len(ordered) / take)] for n in range(take)]


def allotted(sizes: Mapping[Stratum, int], places: int) -> dict[Stratum, int]:
    """How many of *places* each stratum gets: the least, and what is left by size (highest averages, as D'Hondt's)."""
    given = (
        {stratum: min(LEAST, size) for stratum, size in sizes.items()} if places >= LEAST else dict.fromkeys(sizes, 0)
    )
    for _ in range(min(places, sum(sizes.values())) - sum(given.values())):
        open_ = [stratum for stratum in sizes if given[stratum] < sizes[stratum]]
        given[max(open_, key=lambda stratum: (sizes[stratum] / (given[stratum] + 1), stratum))] += 1
    return given


def estimated(drawn: Iterable[Drawn]) -> float:
    """How many failures are of the kind of *drawn*, which are all of that kind in the sample."""
    return sum(one.weight for one in drawn)
