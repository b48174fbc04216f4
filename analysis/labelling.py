"""A model reads failures: it labels them, puts like to like, says what happens and why, and parts what is not one.

What stands in a trace is shown to the model in a call about that failure alone, and what it says of it has to be in its
own words. Calls about several failures are shown those words and no trace, so that whoever writes into a trace reaches
the label of that one failure. What comes out are findings with symptoms: they attach trials without a model.

In a run each answer is a durable step of the proposal, kept under what was asked: a killed night asks nothing twice.
"""

import hmac
import re
import secrets
import unicodedata
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.resources import files
from string import Template
from time import perf_counter
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from analysis.findings import digest, failed, fingerprint, paths_of, plain
from analysis.sampling import Drawn, sample
from analysis.settling import AGREED, Cluster, settled
from harness.errors import ModelError
from harness.graders.judge import OWN, TRIES, Keyed, answer_in, seed_of
from harness.meter import inside, meter, spending
from harness.protocols import History, Message, Model, ToolModel
from harness.redact import redacted
from harness.text import render
from traces.journal import clean_text
from traces.records import Finding, Span, Text, Trial, Turn, now

ROLE = "analyst"
STEPS = "labeller"
"""How the keys of its durable steps begin."""
AT_ONCE = 4
"""Calls under way at a time."""
HEAD, TAIL = 700, 500
"""Characters of a text of a trace that are shown, from its beginning and its end."""
SHORT, LONG = 120, 400
"""Characters of what the model says, in a label and in a sentence."""
COPIED = 30
"""Letters and digits in a row that the model shares with the trace, from which on the words are not its own."""
TRIED = 8
"""Failures that are read before the others: a model with which none of them comes to anything is not asked further."""
SHOWN = 20
"""Failures of a cluster that are looked at once more; the others go where those go that look like them."""
TAG = re.compile(r"<(?=\s*/?\s*(?:task|execution|output|wrong|labels|failures|findings)-)", re.IGNORECASE)

A = TypeVar("A", bound=Keyed)
X = TypeVar("X")
Y = TypeVar("Y")


def wording() -> dict[str, str]:
    """What the model is told, from ``harness/text/labeller``."""
    folder = files("harness") / "text" / "labeller"
    return {entry.name: entry.read_text(encoding="utf-8").strip() for entry in folder.iterdir() if entry.is_file()}


@dataclass(frozen=True)
class Labelled:
    """Findings that a model had a part in."""

    findings: tuple[Finding, ...]
    """The costliest first."""
    read: int = 0
    """Failures that were labelled."""
    trouble: tuple[str, ...] = ()
    """What of the model's part is missing, and why; empty: nothing."""


@dataclass(frozen=True)
class Labeller:
    """Has a model read a sample of the failures.

    It takes at most ``sample + most + 2`` calls: a label for each failure, one that groups the labels, one for each
    group of several failures, one that merges; each is asked again once when its answer cannot be used. Findings that
    it described before are not read again, except for what the random part of the sample holds of them.
    """

    model: Model | str
    sample: int = 60
    """Failures that are read."""
    most: int = 12
    """Groups of several failures that are described, those that stand for most failures first; the rest stays as
    mined."""
    wording: Mapping[str, str] = field(default_factory=wording)

    def __post_init__(self) -> None:
        if isinstance(self.model, str):
            from harness.models import model  # the SDKs take a while to import

            object.__setattr__(self, "model", model(self.model))

    def findings(self, history: History, mined: Sequence[Finding]) -> tuple[Finding, ...]:
        """*mined* with summary and cause, joined where the symptom and the cause are the same, parted where not.

        What no model looked at stays as it was mined: all of it, where the model cannot be asked. What went wrong
        stands in a span of the proposal, see ``label``.
        """
        return self.label(history, mined).findings

    def label(self, history: History, mined: Sequence[Finding]) -> Labelled:
        """The same, and how much of it is the model's."""
        span, started, clock = uuid.uuid4().hex, now(), perf_counter()
        trouble: list[str] = []
        error_class = "malformed"
        with spending(ROLE), inside(span):
            try:
                labelled = self._labelled(history, mined, trouble)
            except ModelError as e:
                error_class = e.error_class
                trouble.append(f"the model could not be asked, so the findings stay as mined: {e}")
                labelled = Labelled(tuple(mined), trouble=tuple(trouble))
        said = f"{labelled.read} failures read, {len(labelled.findings)} findings"
        meter().end(
            Span(
                id=span,
                operation="run",
                name="labeller",
                role=ROLE,
                started=started,
                seconds=perf_counter() - clock,
                status="error" if trouble else "ok",
                error="; ".join(trouble)[:2000] or None,
                error_class=error_class if trouble else None,
                output_preview=said,
            )
        )
        return labelled

    def _labelled(self, history: History, mined: Sequence[Finding], trouble: list[str]) -> Labelled:
        failures = [trial for trial in history.trials if failed(trial) and not trial.is_lost]
        paths = paths_of(failures, history.trace_of)
        before = {finding.id: finding for finding in mined if finding.summary}
        drawn = sample(failures, mined, self.sample, history.seed, paths, before)
        secret = meter().steps.step(f"{STEPS}/secret", lambda: Text.of(secrets.token_hex(16))).text
        reader = Reader(self, history.seed, secret, trouble)
        asked = [one for one in drawn if one.at_random or one.finding not in before]
        read = reader.labels(asked, history, paths)
        clusters = reader.merged([*reader.clusters(reader.groups(read)), *map(described, before.values())])
        agreed = [cluster for cluster in clusters if cluster.standing or len(cluster.members) >= AGREED]
        placed = {drawn.trial.id for cluster in agreed for drawn in cluster.members}
        others = [one.drawn for one in read if one.drawn.trial.id not in placed]
        says_nothing = not any(len(cluster.members) >= AGREED for cluster in agreed)
        known = history.known
        found = tuple(mined) if says_nothing else settled(agreed, others, mined, known, history.trials, paths)
        return Labelled(found, len(read), tuple(trouble))


# ── what the model answers ─────────────────────────────────────────────────────────────────────────────────────


class Label(Keyed):
    """What went wrong in one failure."""

    path: str
    symptom: str
    detail: str
    cause: str


class Groups(Keyed):
    """Labels that say the same, by number."""

    groups: list[list[int]]


class Described(BaseModel):
    """What some failures have in common."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    path: str
    symptom: str
    summary: str
    cause: str
    failures: list[int]


class Description(Keyed):
    """What the failures of one group are: more than one finding, where they are not the same."""

    findings: list[Described]


class Pair(BaseModel):
    """Two findings that may be one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    first: int
    second: int
    same_symptom: bool
    same_cause: bool


class Pairs(Keyed):
    pairs: list[Pair]


@dataclass(frozen=True)
class Read:
    """A failure and what the model says of it."""

    drawn: Drawn
    label: Label

    @property
    def text(self) -> str:
        return titled(self.label.path, self.label.symptom)


def described(finding: Finding) -> Cluster:
    return Cluster(finding.kind, finding.title, finding.summary, finding.cause, (), finding.id)


def titled(path: str, symptom: str) -> str:
    """A label: how the execution went, if that is known, and what went wrong."""
    return f"[{plain(path, SHORT // 2)}] {plain(symptom, SHORT)}" if path.strip() else plain(symptom, SHORT)


# ── what it is asked ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Reader:
    """Asks the model, each time in a new conversation, and notes what became of it."""

    labeller: Labeller
    seed: int
    secret: str
    """What the keys of its questions are made of: drawn by chance when all that they are about was written, and kept,
    so that the answers fit them also where another process takes up the proposal."""
    trouble: list[str]
    """Grows: an answer that could not be used, and what follows."""

    def labels(self, drawn: Sequence[Drawn], history: History, paths: Mapping[str, str]) -> list[Read]:
        """What went wrong in each of *drawn*: a call each."""

        def label(one: Drawn) -> Label | str:
            task = history.tasks.get(one.trial.task)
            shown = shown_of(one.trial, task.input if task else "", paths.get(one.trial.id, ""))
            return self._asked(f"label/{one.trial.id}", "label.md", Label, lambda said: unfit(said, shown), **shown)

        answers = at_once(label, drawn[:TRIED])
        if any(isinstance(answer, Label) for answer in answers):
            answers += at_once(label, drawn[TRIED:])
        read = [Read(one, said) for one, said in zip(drawn, answers, strict=False) if isinstance(said, Label)]
        faults = [answer for answer in answers if isinstance(answer, str)]
        if faults:
            missing = len(drawn) - len(read)
            self.trouble.append(f"{missing} of {len(drawn)} failures got no label, the first because {faults[0]}")
        return read

    def groups(self, read: Sequence[Read]) -> list[list[Read]]:
        """*read* by what went wrong; by the very words, where the model does not say which mean the same."""
        same: defaultdict[tuple[str, str], list[Read]] = defaultdict(list)
        for one in read:
            same[fingerprint(one.drawn.trial).kind, one.text.casefold()].append(one)
        distinct = list(same.values())
        if len(distinct) < 2:
            return distinct
        labels = "\n".join(f"{n}. {each[0].text}" for n, each in enumerate(distinct, 1))
        said = self._asked(
            "group",
            "group.md",
            Groups,
            lambda said: uncovered([n for g in said.groups for n in g], len(distinct)),
            labels=labels,
        )
        if isinstance(said, str):
            self.trouble.append(f"the labels were not grouped, since {said}")
            return distinct
        kinds: defaultdict[tuple[int, str], list[Read]] = defaultdict(list)
        for number, group in enumerate(said.groups):
            for one in (one for n in group for one in distinct[n - 1]):
                kinds[number, fingerprint(one.drawn.trial).kind].append(one)
        return list(kinds.values())

    def clusters(self, groups: Iterable[Sequence[Read]]) -> list[Cluster]:
        """What *groups* are, those that stand for most failures first; several clusters of what is not one."""
        ranked = sorted(groups, key=lambda group: -sum(one.drawn.weight for one in group))
        single = [group for group in ranked if len(group) == 1]
        several = [group for group in ranked if len(group) > 1][: self.labeller.most]
        described = at_once(self._described, several)
        faults = [said for said in described if isinstance(said, str)]
        if faults:
            self.trouble.append(f"{len(faults)} of {len(several)} groups stay as mined, the first because {faults[0]}")
        found = [cluster for said in described if not isinstance(said, str) for cluster in said]
        return found + [cluster_of(group, group[0].label.detail, group[0].label) for group in single]

    def _described(self, group: Sequence[Read]) -> list[Cluster] | str:
        ranked = varied(group)
        shown, rest = ranked[:SHOWN], ranked[SHOWN:]
        template = Template(self.labeller.wording["failure.md"])
        failures = "\n".join(
            template.substitute(
                number=n,
                label=one.text,
                detail=plain(one.label.detail, LONG),
                cause=plain(one.label.cause, LONG),
            )
            for n, one in enumerate(shown, 1)
        )

        def fault(said: Description) -> str:
            if not all(each.symptom.strip() and each.failures for each in said.findings):
                return "a finding has no symptom, or no failures"
            return uncovered([n for each in said.findings for n in each.failures], len(shown))

        place = f"describe/{group[0].drawn.trial.id}"
        said = self._asked(place, "describe.md", Description, fault, failures=failures)
        if isinstance(said, str):
            return said
        found = [[shown[n - 1] for n in each.failures] for each in said.findings]
        places = {alike(one): n for n, part in reversed([*enumerate(found)]) for one in part}
        for one in rest:
            place = 0 if len(found) == 1 else places.get(alike(one))
            if place is not None:
                found[place].append(one)
        return [cluster_of(part, each.summary, each) for part, each in zip(found, said.findings, strict=True)]

    def merged(self, clusters: Sequence[Cluster]) -> list[Cluster]:
        """*clusters*, those joined that have the same symptom and the same cause.

        What was read again of a finding that was described before is that finding, unless the model tells them apart.
        """
        if len(clusters) < 2 or not any(cluster.members for cluster in clusters):
            return list(clusters)
        counted = counted_as(clusters)
        template = Template(self.labeller.wording["finding.md"])
        findings = "\n".join(
            template.substitute(
                number=n + 1,
                title=plain(c.title, LONG),
                summary=plain(c.summary, LONG),
                cause=plain(c.cause, LONG),
                counted=", ".join(f"finding {place + 1}" for place in counted.get(n, ())) or "none of these",
            )
            for n, c in enumerate(clusters)
        )

        def fault(said: Pairs) -> str:
            named = {frozenset((pair.first - 1, pair.second - 1)) for pair in said.pairs}
            if not set[int]().union(*named) <= {*range(len(clusters))}:
                return "it names a finding that was not shown"
            pairs = [(n, place) for n, places in counted.items() for place in places]
            missing = [pair for pair in pairs if frozenset(pair) not in named]
            unsaid = ", ".join(f"{min(pair) + 1} and {max(pair) + 1}" for pair in missing)
            return f"it has to judge these pairs, whatever it finds: {unsaid}" if unsaid else ""

        said = self._asked("merge", "merge.md", Pairs, fault, findings=findings)
        if isinstance(said, str):
            self.trouble.append(f"findings that may be the same were not joined, since {said}")
            return joined(clusters, [(n, places[0]) for n, places in counted.items()])
        same = [(p.first - 1, p.second - 1) for p in said.pairs if p.same_symptom and p.same_cause]
        return joined(clusters, same)

    def _asked(self, place: str, name: str, form: type[A], fault: Callable[[A], str], **values: str) -> A | str:
        """What the model answers; or why that cannot be used, also after it was told. *place*: unique in a proposal.

        Raises:
            ModelError: it cannot be asked, whatever about.
        """
        question = f"{STEPS}/{place}/{digest(repr((self.model.name, name, values)))}"
        key = hmac.digest(self.secret.encode(), question.encode(), "sha256").hex()[:16]
        messages = render(self.labeller.wording, name, key=key, **{n: sealed(v, key) for n, v in values.items()})
        problem = ""
        for number in range(TRIES):
            seed = seed_of(self.seed, name, *values.values(), number)
            try:
                said = meter().steps.step(f"{question}/{number}", partial(self._said, messages, form, seed)).text
            except ModelError as e:
                if e.error_class in OWN:
                    return f"the call failed ({e})"
                raise
            answer = answer_in(said, form, key)
            problem = answer if isinstance(answer, str) else fault(answer)
            if not isinstance(answer, str) and not problem:
                return answer
            again = Template(self.labeller.wording["again.md"]).substitute(problem=problem)
            messages = [*messages, Message("assistant", said or "…"), Message("user", again)]
        return problem

    def _said(self, messages: Sequence[Message], form: type[Keyed], seed: int) -> Turn:
        if isinstance(self.model, ToolModel) and self.model.takes_tools:
            reply = self.model.complete(messages, seed=seed, schema=form.model_json_schema())
        else:
            reply = self.model.complete(messages, seed=seed)
        return Turn(text=redacted(clean_text(reply.text)), finish_reason=reply.finish_reason)

    @property
    def model(self) -> Model:
        assert not isinstance(self.labeller.model, str)
        return self.labeller.model


def at_once(work: Callable[[X], Y], items: Sequence[X]) -> list[Y]:
    """*work* on each of *items*, a few at a time, on the meter and for the role that hold here."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        begun = [pool.submit(copy_context().run, work, item) for item in items]
        try:
            return [future.result() for future in begun]
        finally:
            pool.shutdown(cancel_futures=True)  # where one raised, the others are not paid for


def shown_of(trial: Trial, task: str, path: str) -> dict[str, str]:
    """What the model is shown of a failure: no secret, and no more of a long text than its ends."""
    wrong = trial.error or (trial.grade.reason if trial.grade else "") or "nothing more is known"
    texts = {"task": task, "execution": path, "output": trial.output or "", "wrong": wrong}
    return {name: capped(redacted(text)) for name, text in texts.items()}


def capped(text: str) -> str:
    left_out = len(text) - HEAD - TAIL
    return f"{text[:HEAD]} […] {text[-TAIL:]}" if left_out > 0 else text


def sealed(text: str, key: str) -> str:
    """*text* without anything that could be taken for the tags that it is put between."""
    return TAG.sub("‹", text.replace(key, "…"))


def unfit(said: Label, shown: Mapping[str, str]) -> str:
    """Why *said* is no label of what was *shown*; empty where it is one."""
    if not said.symptom.strip():
        return "it names no symptom"
    for name, text in shown.items():
        source = bare(text)
        for words in (bare(plain(own, LONG)) for own in (said.path, said.symptom, said.detail, said.cause)):
            starts = range(len(words) - COPIED + 1)
            if any(words[i : i + COPIED] in source for i in starts):
                return f"it copies from the {name}, and is to be in your own words"
    return ""


def bare(text: str) -> str:
    """The letters and digits of *text*, whatever stands between them and however they are written."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def uncovered(numbers: Sequence[int], most: int) -> str:
    """What is wrong with *numbers*, which should be each of those up to *most* once; empty: nothing."""
    if sorted(numbers) == list(range(1, most + 1)):
        return ""
    return f"each number from 1 to {most} has to be in it once, and no other"


# ── clusters ───────────────────────────────────────────────────────────────────────────────────────────────────


def cluster_of(read: Sequence[Read], summary: str, said: Label | Described) -> Cluster:
    return Cluster(
        kind=fingerprint(read[0].drawn.trial).kind,
        title=titled(said.path, said.symptom),
        summary=plain(summary, LONG),
        cause=plain(said.cause, LONG),
        members=tuple(one.drawn for one in read),
    )


def counted_as(clusters: Sequence[Cluster]) -> dict[int, list[int]]:
    """Number of a new cluster → those of the ones, described before, to which failures of it belonged: that of most
    first."""
    standing = {cluster.standing: n for n, cluster in enumerate(clusters) if cluster.standing}
    belonged = {
        number: [id for id, _ in Counter(drawn.finding for drawn in cluster.members).most_common() if id in standing]
        for number, cluster in enumerate(clusters)
        if not cluster.standing
    }
    return {number: [standing[id] for id in ids] for number, ids in belonged.items() if ids}


def alike(one: Read) -> tuple[str, str]:
    """What failures that the model should see once have in common: their label, and what was found wrong with them."""
    return one.text, fingerprint(one.drawn.trial).message


def varied(read: Iterable[Read]) -> list[Read]:
    """*read* in an order in which none comes that is like another before one of each kind has come."""
    seen: Counter[tuple[str, str]] = Counter()
    ranked: list[tuple[int, int, Read]] = []
    for place, one in enumerate(read):
        ranked.append((seen[alike(one)], place, one))
        seen[alike(one)] += 1
    return [one for _, _, one in sorted(ranked, key=lambda item: item[:2])]


def joined(clusters: Sequence[Cluster], same: Iterable[tuple[int, int]]) -> list[Cluster]:
    """*clusters*, of which the pairs in *same* are one, if they are of one kind: the words of one that was described
    before stand, else those of the one that stands for most failures."""
    root = list(range(len(clusters)))
    for a, b in same:
        if clusters[a].kind == clusters[b].kind:
            root = [root[a] if r == root[b] else r for r in root]
    sets: defaultdict[int, list[Cluster]] = defaultdict(list)
    for r, cluster in zip(root, clusters, strict=True):
        sets[r].append(cluster)
    return [
        replace(
            max(group, key=lambda c: (c.standing != "", c.weight)),
            members=tuple(drawn for cluster in group for drawn in cluster.members),
        )
        for group in sets.values()
    ]
