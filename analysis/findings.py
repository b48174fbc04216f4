"""Findings: recurring failures, mined from trials without a model.

Failures of one kind whose messages say the same are one finding, in whatever words and on whatever tasks. Where a
message does not tell them apart, something else has to: how their execution went, where it went as others hardly ever
do; and else the tags of their tasks.
"""

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
"""How many times as often as all other trials the failures of a group go a path that tells them apart."""
FEW = 5
"""Failures below which a path tells nothing, and so does one that less than a tenth of a group went."""
GROWN = 3.0
"""How many times as often as a finding was seen before other messages near to it make it another one, where they are
COARSE besides."""
NEARLY_ALL = 0.8
"""Share of a group on the same path from which on its message tells as much."""
LOOKED_AT = 2000
"""Messages of a kind among which groups are sought, at most: what bounds time and memory, as each is compared with
each. All others only attach."""
STEPS = 6
"""Of an execution path."""
LINE = 2000
"""Characters of a message's line that are looked at."""
NAMELESS = frozenset({"wrong answer", "error"})
"""Kinds that do not say what went wrong."""
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`|‘[^‘’]*’|“[^“”]*”")
NUMBERED = re.compile(r"(?<=[^\W\d_])[_-]?\d{1,2}(?=[,;. ]|$)")
"""What numbers a name, such as the third of some criteria."""
KEPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
BACK = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
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
    times, paths and numbers; but keys after words, ``words: key``, keep the number that is part of their name."""
    lines = [line for line in message[:LINE].splitlines() if line.strip()]
    if lines and lines[0].startswith(TRACEBACK):
        lines = [line for line in message[-LINE:].splitlines() if line.strip()][-1:]
    line = QUOTED.sub("…", lines[0] if lines else "")
    text = progress.general(line)[:160]
    if "#" in text and clusters.is_keyed(text):
        return progress.general(NUMBERED.sub(lambda m: m[0].translate(KEPT), line)).translate(BACK)[:160]
    return text


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


def paths_of(trials: Iterable[Trial], trace_of: Callable[[str], Trace] | None) -> dict[str, str]:
    """How the execution of each of *trials* went, as far as that was kept."""
    return {} if trace_of is None else {trial.id: path_of(trace_of(trial.id)) for trial in trials}


# ── which finding does a failure belong to? ────────────────────────────────────────────────────────────────────────


def findings(
    trials: Iterable[Trial], known: Sequence[Finding] = (), paths: Mapping[str, str] | None = None
) -> list[Finding]:
    """The recurring failures among *trials*, the one that costs most score first.

    What the symptom of a *known* finding fits belongs to it: its id, title, symptom, summary and cause stay, and so
    does when it was first seen, but a title that was made here only as long as it is true; its other numbers are those
    of *trials*. One that holds messages which name different things, and that nobody has described, is found anew.
    *paths*: trial → how its execution went, as ``path_of`` says; also of trials that did not fail, as they tell what is
    unusual.
    """
    known = [f for f in known if f.summary or f.symptom is None or not clusters.differ(f.symptom.messages)]
    looked_at = [trial for trial in trials if not trial.is_lost]
    went = {trial.id: (paths or {}).get(trial.id, "") for trial in looked_at}
    prints = prints_of(looked_at, went)
    held = attached(prints, known)
    kept = held.keys() - swallowed(held, known, prints, len(looked_at))
    rest = {print_: group for print_, group in prints.items() if print_ not in kept}
    founded = founded_on(rest, prints, Counter(went.values()), {finding.id for finding in known})
    groups = gathered(prints, attached(prints, [*known, *founded]))
    before = {finding.id for finding in known}
    held_by = [(finding, groups[finding.id]) for finding in (*known, *founded) if finding.id in groups]
    counted = [counted_in(titled(finding, group), group, len(looked_at)) for finding, group in held_by]
    return sorted(counted, key=lambda f: (-f.lost, f.id not in before, f.id))[:MOST]


def holds(finding: Finding, trial: Trial, path: str = "") -> bool:
    """Does *trial* show it? *path*: how its execution went."""
    if trial.is_lost or not failed(trial) or finding.symptom is None:
        return False
    print_ = fingerprint(trial, path)
    near = clusters.nearness(print_.message, finding.symptom.messages)
    return fits(finding.symptom, print_) and near >= clusters.NEAR


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
    """Fingerprint → the id of the finding that it fits best: by the message, of those as near the one that has it word
    for word, then the one whose symptom says most of path and tags, then the lowest id."""
    kinds: defaultdict[str, defaultdict[str, list[Fingerprint]]] = defaultdict(lambda: defaultdict(list))
    for print_ in prints:
        kinds[print_.kind][print_.message].append(print_)
    held: dict[Fingerprint, str] = {}
    for kind, by_message in kinds.items():
        symptoms = [(f.symptom, f.id) for f in found if f.symptom is not None and f.symptom.kind == kind]
        symptoms.sort(key=lambda pair: (not pair[0].path, pair[0].tags is None, pair[1]))
        near_to = clusters.nearest(list(by_message), [symptom.messages for symptom, _ in symptoms])
        for of_it, near in zip(by_message.values(), near_to, strict=True):
            for print_ in of_it:
                fitting = [(symptoms[number], how) for number, how in near if fits(symptoms[number][0], print_)]
                if fitting:
                    best = [symptom for symptom, how in fitting if how == fitting[0][1]]
                    held[print_] = next((id for s, id in best if print_.message in s.messages), best[0][1])
    return held


def gathered(prints: Prints, held: Mapping[Fingerprint, str]) -> dict[str, list[Trial]]:
    groups: defaultdict[str, list[Trial]] = defaultdict(list)
    for print_, id in held.items():
        groups[id] += prints[print_]
    return {id: sorted(group, key=lambda t: (t.task, t.repeat, t.id)) for id, group in groups.items()}


def swallowed(
    held: Mapping[Fingerprint, str], known: Sequence[Finding], prints: Prints, looked_at: int
) -> set[Fingerprint]:
    """What small findings that nobody described hold by near words alone, where that is so much that its message does
    not tell it apart: found anew, it is told apart by tags. *held*: fingerprint → the id of the *known* finding."""
    totals = said_by_kind(prints)
    bare = {f.id: f for f in known if not f.summary and is_told_by_words(f.symptom)}
    near: defaultdict[str, list[Fingerprint]] = defaultdict(list)
    for print_, id in held.items():
        symptom = bare[id].symptom if id in bare else None
        if symptom and not any(print_.message == m or clusters.shows(print_.message, m) for m in symptom.messages):
            near[id].append(print_)
    found: set[Fingerprint] = set()
    for id, others in near.items():
        count = sum(len(prints[print_]) for print_ in others)
        if count >= max(FEW, COARSE * totals[others[0].kind].total(), GROWN * bare[id].share * looked_at):
            found.update(others)
    return found


def is_told_by_words(symptom: Symptom | None) -> bool:
    """Is it its messages alone that say what belongs there, and neither kind nor path nor tags?"""
    if symptom is None or symptom.kind not in NAMELESS:
        return False
    return bool(symptom.messages) and not symptom.path and symptom.tags is None


# ── new findings ───────────────────────────────────────────────────────────────────────────────────────────────────


def founded_on(rest: Prints, prints: Prints, ways: Mapping[str, int], taken: Collection[str]) -> list[Finding]:
    """New findings for the *rest* of all *prints*. *ways*: path → how many trials went it; *taken*: ids of others.

    Groups are sought again among what fits none, as a symptom has only so many messages.
    """
    totals = said_by_kind(prints)
    founded: list[Finding] = []
    while rest and len(founded) < MOST:
        new = found(rest, totals, ways, {*taken, *(finding.id for finding in founded)})
        new = sorted(new, key=lambda finding: (-finding.lost, finding.id))[: MOST - len(founded)]
        if not new:
            break
        founded += new
        held = attached(rest, new)
        rest = {print_: group for print_, group in rest.items() if print_ not in held}
    return founded


def said_by_kind(prints: Prints) -> dict[str, Counter[str]]:
    """Kind → message → how many failures say it."""
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for print_, group in prints.items():
        kinds[print_.kind][print_.message] += len(group)
    return kinds


def found(
    rest: Prints, totals: Mapping[str, Counter[str]], ways: Mapping[str, int], taken: Collection[str]
) -> list[Finding]:
    """Findings for what is looked at of *rest*: the most frequent messages of each kind; and among those that are as
    frequent, in an order that has nothing to do with what they say."""
    weights = clusters.weights(sum(totals.values(), Counter[str]()))
    by_message: defaultdict[tuple[str, str], dict[Fingerprint, Sequence[Trial]]] = defaultdict(dict)
    for print_, group in rest.items():
        by_message[print_.kind, print_.message][print_] = group
    ids = set(taken)
    new: list[Finding] = []
    for kind, counts in sorted(said_by_kind(rest).items()):
        total = totals[kind]
        looked_at = set(sorted(total, key=lambda message: (-total[message], digest(message)))[:LOOKED_AT])
        seen = {message: count for message, count in counts.items() if message in looked_at}
        for messages, claim in clusters.groups(seen, weights, clusters.before_names(total)):
            group = {print_: trials for m in messages for print_, trials in by_message[kind, m].items()}
            says_little = clusters.says_nothing(claim or messages[0]) or (
                sum(total[message] for message in messages) >= COARSE * total.total()
            )
            parts = split(group, ways, kind in NAMELESS and says_little)
            exemplars = (claim,) if claim else clusters.exemplars(messages, MESSAGES)
            for (path, tags), trials in sorted(parts.items(), key=lambda part: repr(part[0])):
                symptom = Symptom(kind=kind, path=path, tags=tags, messages=ranked(exemplars, trials))
                new.append(finding(symptom, exemplars[0], trials, ids))
                ids.add(new[-1].id)
    return new


def split(
    group: Prints, ways: Mapping[str, int], says_little: bool
) -> dict[tuple[str, tuple[str, ...] | None], list[Trial]]:
    """The failures of a *group* whose messages say the same, by what tells them apart: path and tags of their symptom.

    What went an unusual way is a part of its own, unless nearly all did. Where the message *says_little*, the rest is
    told apart by tags.
    """
    paths: Counter[str] = Counter()
    for print_, trials in group.items():
        paths[print_.path] += len(trials)
    apart = {path for path in paths if is_unusual(path, paths, ways, says_little)}
    parts: defaultdict[tuple[str, tuple[str, ...] | None], list[Trial]] = defaultdict(list)
    for print_, trials in group.items():
        path = print_.path if print_.path in apart else ""
        parts[path, print_.tags if says_little and not path else None] += trials
    return parts


def is_unusual(path: str, paths: Counter[str], ways: Mapping[str, int], says_little: bool) -> bool:
    """Does *path* tell failures of a group apart? *paths*: how many of the group went each; *ways*: of all trials."""
    total, count = paths.total(), paths[path]
    if not path or count < max(FEW, total / 10) or (count >= NEARLY_ALL * total and not says_little):
        return False
    elsewhere = (ways.get(path, 0) - count + 0.5) / (sum(ways.values()) - total + 1)  # 0.5: seen nowhere is not never
    return count / total >= UNUSUAL * elsewhere


def ranked(exemplars: Sequence[str], trials: Iterable[Trial]) -> tuple[str, ...]:
    """*exemplars*, those first that most of *trials* say."""
    said = Counter(fingerprint(trial).message for trial in trials)
    return tuple(sorted(exemplars, key=lambda message: (-said[message], message)))


def finding(symptom: Symptom, founder: str, group: Sequence[Trial], taken: Collection[str]) -> Finding:
    """Its id is a digest of what founded it: the symptom's kind, path and tags, and the message that most failures
    with such messages say, if that says anything."""
    said = "" if clusters.says_nothing(founder) else founder
    id = digest(repr((symptom.kind, symptom.path, symptom.tags, said)))
    while id in taken:
        id = digest(id)
    return Finding(
        id=id,
        title=title(symptom, group),
        tags=tags_of(symptom, group),
        kind=symptom.kind,
        count=len(group),
        share=0.0,
        symptom=symptom,
        lost=math.fsum(map(lost, group)),
    )


def title(symptom: Symptom, group: Sequence[Trial]) -> str:
    """Where it is, of what kind it is, and what most of its trials say: word for word, or what they name; else the
    words that nearly all have in common, and one message marked as an example."""
    said = Counter(fingerprint(trial).message for trial in group)
    usual = min(said, key=lambda message: (-said[message], message))
    claim = next((m for m in (symptom.messages[0], usual) if is_shown(m, said)), None)
    if claim is None:
        claim = f"{clusters.common_words(said, NEARLY_ALL) or 'in several wordings'}, such as: {usual}"
    return worded(symptom, tags_of(symptom, group), claim)


def is_shown(claim: str, said: Counter[str]) -> bool:
    """By at least half?"""
    showing = (n for message, n in said.items() if message == claim or clusters.shows(message, claim))
    return 2 * sum(showing) >= said.total()


def worded(symptom: Symptom, tags: Iterable[str], claim: str) -> str:
    marks = [f"[{symptom.path}]"] if symptom.path else [f"[{tag}]" for tag in tags]
    return plain(" ".join([*marks, f"{symptom.kind}: {claim}" if claim else symptom.kind]), TITLE)


def titled(finding: Finding, group: Sequence[Trial]) -> Finding:
    """*finding* with another title, if it has one that no person or model wrote and *group* no longer shows."""
    symptom = finding.symptom
    if symptom is None or finding.summary:
        return finding
    claim = next((m for m in symptom.messages if worded(symptom, finding.tags, m) == finding.title), None)
    said = Counter(fingerprint(trial).message for trial in group)
    is_elsewhere = bool(finding.tags) and tags_of(symptom, group) != finding.tags
    if claim is None or (is_shown(claim, said) and not is_elsewhere):
        return finding
    return finding.model_copy(update={"title": title(symptom, group)})


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
