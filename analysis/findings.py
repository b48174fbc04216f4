"""Findings: recurring failures, mined from trials without a model.

Failures of one kind whose messages say the same are one finding, in whatever words and on whatever tasks. Where a
message does not tell them apart, something else has to: how their execution went, where it went as others hardly ever
do; and else the tags of their tasks.
"""

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from analysis import clusters
from harness import progress
from harness.protocols import Trace
from traces.records import Finding, Symptom, Trial

EXAMPLES = 5
MESSAGES = 20
"""Of a symptom, at most."""
TITLE = 200
"""Characters of a title, at most."""
MOST = 200
"""Findings that are told apart, at most: the rest cost least, and most of them happened once."""
COARSE = 1 / 3
"""Share of the failures of a nameless kind from which on their message does not tell them apart."""
UNUSUAL = 3.0
"""How much more often the failures of a group go a way than all other trials do, for it to tell them apart."""
FEW = 5
"""Failures below which a way tells nothing, and so does one that less than a tenth of a group went."""
NEARLY_ALL = 0.8
"""Share of a group that goes the same way, from which on its message tells as much."""
STEPS = 6
"""Of an execution path."""
LINE = 2000
"""Characters of a message's line that are looked at."""
NAMELESS = frozenset({"wrong answer", "error"})
"""Kinds that do not say what went wrong."""
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|‘[^‘’]*’|“[^“”]*”")
TRACEBACK = "Traceback (most recent call last)"


class Fingerprint(NamedTuple):
    """All that is looked at of a failure: trials with the same one belong together."""

    kind: str
    path: str
    tags: tuple[str, ...]
    message: str


Prints = Mapping[Fingerprint, Sequence[Trial]]


def lost(trial: Trial) -> float:
    """Score that the trial left on the table; all of it when it could not be scored."""
    return 1.0 - (trial.grade.score if trial.grade is not None else 0.0)


def failed(trial: Trial) -> bool:
    return lost(trial) > 0


def general(message: str) -> str:
    """Its first line, or the last of a traceback, without what differs from one occurrence to the next: quoted text,
    times, paths and numbers."""
    lines = [line for line in message[:LINE].splitlines() if line.strip()]
    if lines and lines[0].startswith(TRACEBACK):
        lines = [line for line in message[-LINE:].splitlines() if line.strip()][-1:]
    return progress.general(QUOTED.sub("…", lines[0] if lines else ""))[:160]


def fingerprint(trial: Trial, path: str = "") -> Fingerprint:
    if trial.error is not None:
        return Fingerprint(trial.error_class or "error", path, trial.tags, general(trial.error))
    return Fingerprint("wrong answer", path, trial.tags, general(trial.grade.reason if trial.grade else ""))


def path_of(trace: Trace) -> str:
    """How its execution went, in a few words: the tools in the order of their first call, ``!`` after one that failed.

    What is called again adds nothing, so that a loop does not make each trial the only one of its kind.
    """
    calls = sorted((s for s in trace.spans if s.operation == "execute_tool"), key=lambda s: (s.started, s.id))
    steps = dict.fromkeys(f"{plain(s.name, 40)}{'' if s.status == 'ok' else '!'}" for s in calls)
    return " > ".join([*list(steps)[:STEPS], *(["…"] if len(steps) > STEPS else [])])


# ── which finding does a failure belong to? ────────────────────────────────────────────────────────────────────────


def findings(
    trials: Iterable[Trial], known: Sequence[Finding] = (), paths: Mapping[str, str] | None = None
) -> list[Finding]:
    """The recurring failures among *trials*, the one that costs most score first.

    What the symptom of a *known* finding fits belongs to it: id, title, symptom, summary and cause stay, its numbers
    are those of *trials*. *paths*: trial → how its execution went, as ``path_of`` says; also of trials that did not
    fail, to tell what is unusual.
    """
    looked_at = [trial for trial in trials if not trial.is_lost]
    ways = paths or {}
    prints = prints_of(looked_at, ways)
    held = attached(prints, known)
    founded = found(prints, held, Counter(ways.get(trial.id, "") for trial in looked_at), {f.id for f in known})
    held |= attached({print_: group for print_, group in prints.items() if print_ not in held}, founded)
    groups = gathered(prints, held)
    counted = [counted_in(f, groups[f.id], len(looked_at)) for f in (*known, *founded) if groups.get(f.id)]
    order = {f.id: number for number, f in enumerate(known)}
    return sorted(counted, key=lambda f: (-f.lost, order.get(f.id, len(order)), f.id))[:MOST]


def holds(finding: Finding, trial: Trial, path: str = "") -> bool:
    """Does *trial* show it? *path*: how its execution went."""
    if trial.is_lost or not failed(trial) or finding.symptom is None:
        return False
    print_ = fingerprint(trial, path)
    return fits(finding.symptom, print_) and clusters.nearness(print_.message, finding.symptom.messages) >= clusters.NEAR


def members(
    found: Sequence[Finding], trials: Iterable[Trial], paths: Mapping[str, str] | None = None
) -> dict[str, list[Trial]]:
    """Finding → the trials that show it; a trial that shows several belongs to the one that it fits best."""
    prints = prints_of([trial for trial in trials if not trial.is_lost], paths or {})
    groups = gathered(prints, attached(prints, found))
    return {finding.id: groups.get(finding.id, []) for finding in found}


def prints_of(trials: Iterable[Trial], paths: Mapping[str, str]) -> Prints:
    """The failed ones of *trials*, by fingerprint."""
    groups: defaultdict[Fingerprint, list[Trial]] = defaultdict(list)
    for trial in trials:
        if failed(trial):
            groups[fingerprint(trial, paths.get(trial.id, ""))].append(trial)
    return groups


def fits(symptom: Symptom, print_: Fingerprint) -> bool:
    """But for the message."""
    return symptom.kind == print_.kind and symptom.path in ("", print_.path) and symptom.tags in (None, print_.tags)


def attached(prints: Iterable[Fingerprint], found: Sequence[Finding]) -> dict[Fingerprint, str]:
    """Fingerprint → the id of the finding whose symptom it fits best: by the message, then the one that says most of
    path and tags, then the first of *found*."""
    kinds: defaultdict[str, list[Fingerprint]] = defaultdict(list)
    for print_ in prints:
        kinds[print_.kind].append(print_)
    held: dict[Fingerprint, str] = {}
    for kind, of_kind in kinds.items():
        symptoms = [(f.symptom, f.id) for f in found if f.symptom is not None and f.symptom.kind == kind]
        near = nearest({print_.message for print_ in of_kind}, {symptom.messages for symptom, _ in symptoms})
        by_messages: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, (symptom, _) in enumerate(symptoms):
            by_messages[symptom.messages].append(number)
        for print_ in of_kind:
            fitting = [
                (-nearness, not symptoms[number][0].path, symptoms[number][0].tags is None, number)
                for messages, nearness in near.get(print_.message, {}).items()
                for number in by_messages[messages]
                if fits(symptoms[number][0], print_)
            ]
            if fitting:
                held[print_] = symptoms[min(fitting)[-1]][1]
    return held


def nearest(messages: Iterable[str], sets: Iterable[tuple[str, ...]]) -> dict[str, dict[tuple[str, ...], float]]:
    """Message → the sets of messages that it is near enough to, and how near: ``clusters.nearness`` of many at once."""
    given = sorted(messages)
    wanted = sorted(sets)
    owners: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    for one in wanted:
        for message in one:
            owners[message].append(one)
    others = sorted(owners)
    silent = {one for one in wanted if any(clusters.says_nothing(message) for message in one)}
    near: dict[str, dict[tuple[str, ...], float]] = {
        message: dict.fromkeys((one for one in wanted if not one), clusters.NEAR) for message in given
    }
    for message in given:
        near[message] |= dict.fromkeys(silent if clusters.says_nothing(message) else owners.get(message, ()), 1.0)
    for left, right, value in clusters.neighbours(given, others):
        for one in owners[others[right]]:
            near[given[left]][one] = max(value, near[given[left]].get(one, 0.0))
    return near


def gathered(prints: Prints, held: Mapping[Fingerprint, str]) -> dict[str, list[Trial]]:
    groups: defaultdict[str, list[Trial]] = defaultdict(list)
    for print_, id in held.items():
        groups[id] += prints[print_]
    return {id: sorted(group, key=lambda t: (t.task, t.repeat, t.id)) for id, group in groups.items()}


# ── new findings ───────────────────────────────────────────────────────────────────────────────────────────────────


def found(
    prints: Prints, held: Mapping[Fingerprint, str], ways: Mapping[str, int], taken: set[str]
) -> list[Finding]:
    """Findings for those of *prints* that no known one holds. *ways*: how often all trials went each path.

    Groups are sought among the most frequent messages of each kind; among those that are as frequent, in an order that
    has nothing to do with what they say.
    """
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for print_, group in prints.items():
        kinds[print_.kind][print_.message] += len(group)
    rest: defaultdict[tuple[str, str], dict[Fingerprint, Sequence[Trial]]] = defaultdict(dict)
    for print_, group in prints.items():
        if print_ not in held:
            rest[print_.kind, print_.message][print_] = group
    new: list[Finding] = []
    for kind, counts in sorted(kinds.items()):
        chosen = sorted(counts, key=lambda m: (-counts[m], digest(m)))[: clusters.MOST]
        open_ = {m: sum(map(len, rest[kind, m].values())) for m in chosen if (kind, m) in rest}
        silent = {m: n for m, n in open_.items() if clusters.says_nothing(m)}
        said = clusters.groups({m: n for m, n in open_.items() if m not in silent})
        for messages in [sorted(silent, key=lambda m: (-silent[m], m)), *said]:
            group = {print_: trials for m in messages for print_, trials in rest[kind, m].items()}
            is_coarse = kind in NAMELESS and (
                bool(messages and messages[0] in silent)
                or sum(map(counts.__getitem__, messages)) >= COARSE * counts.total()
            )
            for symptom, of_it in split(group, clusters.exemplars(messages, MESSAGES), is_coarse, ways):
                new.append(finding(symptom, of_it, taken | {f.id for f in new}))
    return sorted(new, key=lambda f: (-f.lost, f.id))[:MOST]


def split(
    group: Prints, messages: tuple[str, ...], is_coarse: bool, ways: Mapping[str, int]
) -> list[tuple[Symptom, list[Trial]]]:
    """The symptoms of a *group* of failures whose *messages* say the same, with the trials that show each.

    What went an unusual way is a symptom of its own, unless nearly all did. Where the message says little (*is_coarse*),
    the rest is told apart by tags.
    """
    paths = unusual({path: sum(len(t) for p, t in group.items() if p.path == path) for path in {p.path for p in group}}, ways, is_coarse)
    parts: defaultdict[tuple[str, tuple[str, ...] | None], list[Trial]] = defaultdict(list)
    for print_, trials in group.items():
        path = print_.path if print_.path in paths else ""
        parts[path, print_.tags if is_coarse and not path else None] += trials
    return [
        (Symptom(kind=next(iter(group)).kind, path=path, tags=tags, messages=messages), trials)
        for (path, tags), trials in parts.items()
    ]


def unusual(counts: Mapping[str, int], ways: Mapping[str, int], is_coarse: bool) -> set[str]:
    """The paths that tell failures of a group apart. *counts*: how often each is gone in it; *ways*: by all trials."""
    total = sum(counts.values())
    others = sum(ways.values()) - total
    found: set[str] = set()
    for path, count in counts.items():
        elsewhere = (ways.get(path, 0) - count + 0.5) / (others + 1)
        is_frequent = count >= max(FEW, total / 10) and (is_coarse or count < NEARLY_ALL * total)
        if path and is_frequent and count / total >= UNUSUAL * elsewhere:
            found.add(path)
    return found


def finding(symptom: Symptom, group: Sequence[Trial], taken: set[str]) -> Finding:
    """Its id is a digest of what founded it, and of how often that is taken."""
    founder = (symptom.kind, symptom.path, symptom.tags, *symptom.messages[:1])
    id = digest(repr(founder))
    while id in taken:
        id = digest(id)
    tags = tags_of(symptom, group)
    message = symptom.messages[0] if symptom.messages else ""
    marks = [f"[{symptom.path}]"] if symptom.path else [f"[{tag}]" for tag in tags]
    return Finding(
        id=id,
        title=plain(" ".join([*marks, f"{symptom.kind}: {message}" if message else symptom.kind]), TITLE),
        tags=tags,
        kind=symptom.kind,
        count=len(group),
        share=0.0,
        symptom=symptom,
        lost=math.fsum(map(lost, group)),
    )


def counted_in(finding: Finding, group: Sequence[Trial], looked_at: int) -> Finding:
    """*finding* with the numbers of its trials, *group*, among as many as were *looked_at*."""
    dollars = [trial.usage.dollars for trial in group]
    begun = [trial.started for trial in group]
    return finding.model_copy(
        update={
            "tags": tags_of(finding.symptom, group),
            "count": len(group),
            "share": len(group) / looked_at,
            "versions": tuple(sorted({trial.version for trial in group})),
            "examples": tuple(trial.id for trial in group[:EXAMPLES]),
            "lost": math.fsum(map(lost, group)),
            "dollars": None if None in dollars else math.fsum(d for d in dollars if d is not None),
            "first_seen": min([*begun, *([finding.first_seen] if finding.first_seen else [])]),
            "last_seen": max([*begun, *([finding.last_seen] if finding.last_seen else [])]),
        }
    )


def tags_of(symptom: Symptom | None, group: Sequence[Trial]) -> tuple[str, ...]:
    """Those of the symptom; else those that all of its trials have, if they are all the same."""
    if symptom is not None and symptom.tags is not None:
        return symptom.tags
    shared = {trial.tags for trial in group}
    return next(iter(shared)) if len(shared) == 1 else ()


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def plain(text: str, most: int) -> str:
    """*text* in one line that shows as it is, of at most so many characters."""
    shown = "".join(c if c.isprintable() else " " for c in text[: 10 * most])
    line = " ".join(shown.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def score_by_tag(trials: Iterable[Trial]) -> dict[tuple[str, ...], float]:
    """Mean score of each combination of tags; a version's own failure counts 0, a lost trial not at all."""
    groups: defaultdict[tuple[str, ...], list[float]] = defaultdict(list)
    for trial in trials:
        if not trial.is_lost:
            groups[trial.tags].append(1.0 - lost(trial))
    return {tags: fmean(scores) for tags, scores in sorted(groups.items())}
