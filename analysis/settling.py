"""Clusters of failures that were read become findings that attach failures that were not."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from analysis.clusters import exemplars
from analysis.findings import Fingerprint, attached, counted_in, digest, failed, fingerprint, members
from analysis.sampling import Drawn
from traces.records import Finding, Symptom, Trial

MESSAGES = 40
"""Of a symptom, at most."""
AGREED = 2
"""Failures, each read by itself, that have to show the same before it is said of any others."""
CLEARLY = 2 / 3
"""Share of those that were read and look like a failure that have to be in one cluster before it is put there too."""
PRECISE = 0.7
"""Share of what a symptom attaches that has to be its own, or its finding is not made."""
DESCRIBED = "described before"
NOWHERE = -1
"""The number of no cluster."""

Look = tuple[str, Fingerprint]
"""What a failure looks like without a model: the finding that it belonged to, and all else that symptoms go by."""
Looks = Mapping[Look, Sequence[Trial]]


@dataclass(frozen=True)
class Cluster:
    """Failures that are one finding, as the model sees it."""

    kind: str
    title: str
    summary: str
    cause: str
    members: tuple[Drawn, ...]
    """Empty: nothing of it was read this time."""
    standing: str = ""
    """The id of the finding, where it was described before."""

    @property
    def weight(self) -> float:
        return sum(drawn.weight for drawn in self.members)


@dataclass(frozen=True)
class Draft:
    """A cluster as a finding that has no id yet."""

    finding: Finding
    standing: str
    """The id of the finding that it was before; empty: none."""
    precision: float
    """Share of the failures that its symptom fits, and no other's better, which belong to it."""


def settled(
    clusters: Sequence[Cluster],
    others: Sequence[Drawn],
    mined: Sequence[Finding],
    known: Iterable[Finding],
    trials: Iterable[Trial],
    paths: Mapping[str, str],
) -> tuple[Finding, ...]:
    """*clusters* as findings, with all failures that their symptoms fit; and what of *mined* is in none of them.

    *others*: what was read and is in no cluster. A failure that was not read goes where those went that look like it. A
    cluster that no symptom can tell apart from what is not in it is given up: what a machine cannot find again, it
    cannot count. What was described before keeps its id and its words, whatever is parted from it.
    """
    looked_at = [trial for trial in trials if not trial.is_lost]
    failures = [trial for trial in looked_at if failed(trial)]
    earlier = {finding.id: finding for finding in (*known, *mined)}
    standing = [*mined, *(finding for id, finding in earlier.items() if all(id != each.id for each in mined))]
    owners = {trial.id: id for id, group in members(standing, failures, paths).items() for trial in group}
    looks: defaultdict[Look, list[Trial]] = defaultdict(list)
    for trial in failures:
        looks[look_of(trial, owners, paths)].append(trial)

    places = places_of(looks, clusters, others, owners, paths)
    drafts = drafts_of(clusters, places, looks, earlier)
    taken = {cluster.standing for cluster in clusters if cluster.standing}
    found = named(drafts, owners, failures, paths, earlier, taken)
    found += left_of(mined, owners, failures, found, paths)
    groups = members(found, failures, paths)
    totals = [counted_in(finding, groups[finding.id], len(looked_at)) for finding in found if groups[finding.id]]
    recurring = [finding for finding in totals if finding.count > 1 or finding.id in earlier]
    return tuple(sorted(recurring, key=lambda finding: (-finding.lost, finding.id)))


def look_of(trial: Trial, owners: Mapping[str, str], paths: Mapping[str, str]) -> Look:
    return owners.get(trial.id, ""), fingerprint(trial, paths.get(trial.id, ""))


def places_of(
    looks: Iterable[Look],
    clusters: Sequence[Cluster],
    others: Sequence[Drawn],
    owners: Mapping[str, str],
    paths: Mapping[str, str],
) -> dict[Look, tuple[int, float]]:
    """Look → the number of its cluster, that of most of the failures that were read and look like it, and their share.

    The likest decide that are enough and clearly of one mind. Where there are none it is in no cluster; but what
    belonged to no finding speaks for itself.
    """
    votes: defaultdict[tuple[object, ...], dict[int, float]] = defaultdict(dict)
    voters: Counter[tuple[object, ...]] = Counter()
    for number, read in [*enumerate(cluster.members for cluster in clusters), (NOWHERE, others)]:
        for drawn in read:
            for part in parts_of(look_of(drawn.trial, owners, paths)):
                votes[part][number] = votes[part].get(number, 0.0) + drawn.weight
                voters[part] += 1
    for number, cluster in enumerate(clusters):
        if cluster.standing:
            votes[DESCRIBED, cluster.standing] = {number: 1.0}
            voters[DESCRIBED, cluster.standing] = AGREED
    places: dict[Look, tuple[int, float]] = {}
    for look in looks:
        enough = AGREED if look[0] else 1
        for said in (votes[part] for part in parts_of(look) if voters[part] >= enough):
            most = max(sorted(said), key=said.__getitem__)
            share = said[most] / sum(said.values())
            if most != NOWHERE and share >= CLEARLY and look not in places:
                places[look] = most, share
    return places


def parts_of(look: Look) -> list[tuple[object, ...]]:
    """What two looks may have in common, from all of it to the finding alone."""
    owner, print_ = look
    alike = [(owner, print_), (owner, print_.kind, print_.message, print_.tags), (owner, print_.kind, print_.message)]
    return [*alike, (DESCRIBED, owner), (owner,)] if owner else [*alike]


def drafts_of(
    clusters: Sequence[Cluster],
    places: Mapping[Look, tuple[int, float]],
    looks: Looks,
    earlier: Mapping[str, Finding],
) -> list[Draft]:
    """Those of *clusters* that a symptom can tell apart; one that was described before as it was, where none can."""
    described = {n: earlier[cluster.standing] for n, cluster in enumerate(clusters) if cluster.standing}
    standing = {n: finding for n, finding in described.items() if finding.symptom is not None}
    rivals = {n: without(finding, n, places) for n, finding in standing.items()}
    drafts: dict[int, Draft] = {}
    for number, cluster in enumerate(clusters):
        if not cluster.standing:
            draft = draft_of(cluster, number, places, looks, earlier, [*rivals.values()])
            if draft.precision >= PRECISE:
                drafts[number] = draft
    made = [draft.finding for draft in drafts.values()]
    moved = {look: place for look, place in places.items() if place[0] in {*drafts, *standing}}
    for number, finding in standing.items():
        own = {look[0] for look, (n, _) in moved.items() if n == number}
        if not own:
            continue  # none of its failures is left to it
        draft = draft_of(clusters[number], number, moved, looks, earlier, made)
        if own == {finding.id} or draft.precision < PRECISE:
            draft = Draft(without(finding, number, moved), finding.id, 1.0)
        drafts[number] = draft
    return [drafts[number] for number in sorted(drafts)]


def without(finding: Finding, number: int, places: Mapping[Look, tuple[int, float]]) -> Finding:
    """*finding*, which is the cluster *number*, without the messages that only failures of other clusters say."""
    assert finding.symptom is not None
    elsewhere = said_elsewhere(number, finding.kind, places)
    own = sorted({look[1].message for look, (n, _) in places.items() if n == number})
    left = tuple(message for message in finding.symptom.messages if message not in elsewhere)
    messages = left or exemplars(own, MESSAGES) or finding.symptom.messages
    return finding.model_copy(update={"symptom": finding.symptom.model_copy(update={"messages": messages})})


def said_elsewhere(number: int, kind: str, places: Mapping[Look, tuple[int, float]]) -> set[str]:
    """Messages of *kind* that failures of other clusters say, and none of the cluster *number*."""
    said = [(n, look[1].message) for look, (n, _) in places.items() if look[1].kind == kind]
    return {message for n, message in said if n != number} - {message for n, message in said if n == number}


def draft_of(
    cluster: Cluster,
    number: int,
    places: Mapping[Look, tuple[int, float]],
    looks: Looks,
    earlier: Mapping[str, Finding],
    rivals: Sequence[Finding],
) -> Draft:
    """*cluster* with the most general symptom that does: messages alone, or those with its tags, its path, or both.

    Messages of findings that are now wholly in it stay, also those that nobody has seen lately. What fits one of
    *rivals* better is not its own to attach.
    """
    own = {look: share for look, (n, share) in places.items() if n == number and look[1].kind == cluster.kind}
    said = Counter[str]()
    for look in own:
        said[look[1].message] += len(looks[look])
    elsewhere = {look[0] for look in looks if look not in own} - {cluster.standing}
    symptoms = [earlier[id].symptom for id in sorted({look[0] for look in own} - elsewhere) if id in earlier]
    gone = said_elsewhere(number, cluster.kind, places)
    before = [message for symptom in symptoms if symptom for message in symptom.messages if message not in gone]
    ordered = [*sorted(said, key=lambda message: (-said[message], message)), *before]
    messages = exemplars(list(dict.fromkeys(ordered)), MESSAGES)
    paths, tags = {look[1].path for look in own}, {look[1].tags for look in own}
    drafts: list[Draft] = []
    for path in ("", *(paths - {""} if len(paths) == 1 else ())):
        for kind_of_task in (None, *(tags if len(tags) == 1 else ())):
            symptom = Symptom(kind=cluster.kind, path=path, tags=kind_of_task, messages=messages)
            finding = Finding(id=f"draft {number}", title=cluster.title, kind=cluster.kind, count=0, share=0.0)
            said_of_it = {"symptom": symptom, "summary": cluster.summary, "cause": cluster.cause}
            finding = finding.model_copy(update=said_of_it)
            held = attached([print_ for _, print_ in looks], [finding, *rivals])
            fitting = {print_ for print_, id in held.items() if id == finding.id}
            right = sum(share * len(looks[look]) for look, share in own.items() if look[1] in fitting)
            all_ = sum(len(group) for look, group in looks.items() if look[1] in fitting)
            drafts.append(Draft(finding, cluster.standing, right / all_ if right else 0.0))
    return next((draft for draft in drafts if draft.precision >= PRECISE), drafts[0])


def named(
    drafts: Sequence[Draft],
    owners: Mapping[str, str],
    failures: Sequence[Trial],
    paths: Mapping[str, str],
    earlier: Mapping[str, Finding],
    standing: Collection[str],
) -> list[Finding]:
    """*drafts* with their ids: that of the finding to which most of its failures belonged, unless more of it are left
    or it is one of *standing*; else one of its own."""
    groups = members([draft.finding for draft in drafts], failures, paths)
    placed = {trial.id for group in groups.values() for trial in group}
    left = Counter(id for trial, id in owners.items() if trial not in placed)
    taken = {*standing}
    found: list[Finding] = []
    for draft in sorted(drafts, key=lambda draft: (-len(groups[draft.finding.id]), draft.finding.id)):
        group = groups[draft.finding.id]
        came_from = Counter(owners[trial.id] for trial in group if trial.id in owners)
        lender, most = came_from.most_common(1)[0] if came_from else ("", 0)
        lent = lender if 2 * most > len(group) and most >= left[lender] and lender not in taken else ""
        id = draft.standing or lent or own_id(draft.finding, taken | earlier.keys())
        taken.add(id)
        seen = {when: getattr(earlier[id], when) for when in ("first_seen", "last_seen")} if id in earlier else {}
        found.append(draft.finding.model_copy(update={"id": id, **seen}))
    return found


def left_of(
    mined: Iterable[Finding],
    owners: Mapping[str, str],
    failures: Sequence[Trial],
    found: Sequence[Finding],
    paths: Mapping[str, str],
) -> list[Finding]:
    """What *found* leaves of *mined*: a finding as it was, or for its messages that are left, where some are not."""
    groups = members(found, failures, paths) if found else {}
    covered = {trial.id for group in groups.values() for trial in group}
    of_mined: defaultdict[str, list[Trial]] = defaultdict(list)
    for trial in failures:
        of_mined[owners.get(trial.id, "")].append(trial)
    taken = {finding.id for finding in found}
    left: list[Finding] = []
    for finding in mined:
        rest = [trial for trial in of_mined[finding.id] if trial.id not in covered]
        few = finding.id in taken or 2 * len(rest) < len(of_mined[finding.id])
        if few and finding.symptom is not None:
            said = Counter(fingerprint(trial).message for trial in rest)
            messages = exemplars(sorted(said, key=lambda message: (-said[message], message)), MESSAGES)
            finding = finding.model_copy(update={"symptom": finding.symptom.model_copy(update={"messages": messages})})
            if finding.id in taken:
                finding = finding.model_copy(update={"id": own_id(finding, taken), "summary": "", "cause": ""})
        if rest:
            left.append(finding)
    return left


def own_id(finding: Finding, taken: Collection[str]) -> str:
    """A digest of the messages that founded it and of what else is in its symptom, and of how often that is taken."""
    id = digest(repr(finding.symptom))
    while id in taken:
        id = digest(id)
    return id
