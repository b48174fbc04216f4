"""A proposer that asks a model: it reads what fails, what was tried and the text, and writes one change.

What it answers is believed as far as a machine can look it up: files that it may edit and has seen, quotations that
are there, a finding that was mined and that they show, no task in the files, a version that was not tried. With what is
wrong it is asked once more, and then the round is a recorded failure.
"""

import hashlib
import json
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import lru_cache
from itertools import chain, islice, takewhile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

import harness
import harness.text as harness_text
from analysis.findings import findings, members, paths_of
from analysis.proposers.briefing import Briefing, Room, briefing
from analysis.proposers.examples import proposal_id
from harness.agent.inbox import is_unseen, visible
from harness.errors import OutOfIdeas, TrialError, UserError
from harness.evidence import unfounded
from harness.graders.judge import FENCE, closed, once, seed_of
from harness.hygiene import is_distinctive, line_of
from harness.meter import meter, spending
from harness.protocols import History, Message, Model, Reply, ToolModel
from harness.text import InvalidText, Slots, render, skills
from harness.versions import InvalidEdit, applied
from traces.journal import clean, clean_text
from traces.records import Citation, Edit, Finding, Prediction, Proposal, Task, Trial, Turn

if TYPE_CHECKING:  # most analysts have none, and it needs scipy
    from analysis.labelling import Labeller

FOLDER = Path(harness.__file__).parent / "text" / "analyst"
PROPOSE = "prompts/propose.md"
AGAIN = "prompts/again.md"
PROMPTS: Mapping[str, Slots] = MappingProxyType(
    {
        PROPOSE: Slots(
            frozenset({"key", "subject", "tried", "findings", "evidence"}),
            may=frozenset({"kinds", "memory", "places", "most_files", "most_changed", "skills"}),
        ),
        AGAIN: Slots(frozenset({"problems"}), may=frozenset({"key", "gave_up"})),
    }
)
"""What a version of the analyst's own text has to hold, for ``harness.text.validate``."""

ROLE = "analyst"
TRIES = 2
"""Answers to one question, the corrected one included. That nothing is left to try is believed when all say so."""
ANSWER = 16_000
"""Tokens that a model named by a string may answer with: whole files."""
RUBRICS = "rubrics/"
MOST_QUOTED = 1000
"""Characters of a quotation, and of a rationale twice as many."""
MOST_CITED = 12
"""Quotations of one proposal, and predictions."""
TOLD = 400
"""Characters of one problem that a model is told."""
MOST_COPIED = 3
"""Tasks of which a model is told that it copied them."""
IGNORED = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0d\uffa0\U000e0100-\U000e01ef]")
"""Letters and marks that no font shows (Default_Ignorable_Code_Point, Unicode Standard Annex 44), but for those that
choose how an emoji looks."""
WORDS = re.compile(r"\S+\s*|\s+")
USED = re.compile(r"\{[{%][^{}]*[}%]\}")
WORD = re.compile(r"[A-Za-z_]\w*")


def wording() -> dict[str, str]:
    """What the analyst is told, from ``harness/text/analyst``: path → text, as of a version of that subject."""
    return text_in(FOLDER)


def text_in(folder: Path) -> dict[str, str]:
    """Path → text of the files in *folder*."""
    files = sorted(path for path in folder.rglob("*.*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in files}


@dataclass(frozen=True)
class AnalysisAgent:
    """Asks *model* for one change that answers a finding, with the evidence for it and the gain it predicts.

    Without failures there is nothing to ask about: it is out of ideas. So it is when the model says that nothing is
    left to try.
    """

    model: Model | str
    labeller: "Labeller | None" = None
    """Names, merges and splits the findings first; without one they are as they were mined."""
    wording: Mapping[str, str] = field(default_factory=wording)
    """The files of a version of its own text."""
    places: Sequence[str] = ("prompts/", "skills/")
    """How the path of a file that it may edit begins; ``""`` for the code of a subject as well. Rubrics only where
    one of them begins with ``rubrics/``, in an experiment that measures how far a rubric agrees with people: any other
    would keep the rubric that flatters."""
    most_files: int = 3
    most_changed: int = 4000
    """Characters of words put in, taken out or moved, all files together."""
    room: Room = field(default_factory=Room)

    def __post_init__(self) -> None:
        if isinstance(self.model, str):
            from harness.models import model  # the SDKs take a while to import

            object.__setattr__(self, "model", model(self.model, max_tokens=ANSWER, stream=True))

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        """One change to *text*.

        Raises:
            OutOfIdeas: nothing fails, or the model sees nothing left to try, also when it was asked again.
            UserError: it could change nothing of this subject, or learn nothing of this experiment.
            ModelError: the model cannot be asked.
            TrialError: what it answers cannot be used, also when it was told what is wrong.
        """
        own = self.own(text)
        found = self.found(history)
        if not found:
            raise without_failures(history)
        told = briefing(text, history, found, kept_key(history.run), self.room)
        self.refuse_unseen(own, told)
        messages, problems, reasons = self.asked(told), (), list[str]()
        for number in range(TRIES):
            reply = self.reply(number, messages, seed_of(history.seed, number))
            answer, problems = read_answer(reply, told.key)
            if answer is not None:
                problems = self.faults(answer, text, history, found, told)
                if not problems:
                    return proposal_of(answer, incumbent, found)
            if gave_up := answer.rationale if answer is not None and gives_up(answer) else "":
                reasons.append(gave_up)
            again = self.corrected(problems, bool(gave_up), told.key)
            messages = [*messages, Message("assistant", reply.text or "…"), *again]
        if len(reasons) == TRIES:
            raise OutOfIdeas(f"the model sees nothing left to try: {visible(reasons[-1][:TOLD])}")
        raise TrialError("proposer", "malformed", f"no proposal that can be used: {'; '.join(problems)}")

    def found(self, history: History) -> tuple[Finding, ...]:
        """What fails, the costliest first. What a labeller made of it is a durable step, as its calls are paid for."""
        mined = findings(history.trials, history.known, paths_of(history.trials, history.trace_of))
        labeller = self.labeller
        if labeller is None or not mined:
            return tuple(mined)
        key = f"propose/findings/{digest([finding.model_dump_json() for finding in mined])}"
        kept = meter().steps.step(key, lambda: findings_kept(labeller.findings(history, mined)))
        return tuple(Finding.model_validate(finding) for finding in json.loads(kept.text))

    def own(self, text: Mapping[str, str]) -> Mapping[str, int]:
        """The files that it may edit, and their characters.

        Raises:
            UserError: there is none.
        """
        rubrics = any(place.startswith(RUBRICS) for place in self.places)
        places = tuple(self.places)
        own = {p: len(text[p]) for p in text if p.startswith(places) and (rubrics or not p.startswith(RUBRICS))}
        if not own:
            raise UserError(
                f"the analyst may edit no file of this subject: none of its {len(text)} files begins with "
                f'{" or ".join(map(repr, places))}. Say what it may edit: AnalysisAgent(…, places=("",)) for all but '
                'rubrics, as for code; places=("rubrics/",) where rubrics are what is measured'
            )
        return own

    def refuse_unseen(self, own: Mapping[str, int], told: Briefing) -> None:
        if not told.readable.intersection(own):
            path, size = min(own.items(), key=lambda item: item[1])
            raise UserError(
                f"none of the files that the analyst may edit can be shown to it whole, so it could change none: the "
                f"smallest, {path}, has {size:,} characters, and there is room for {self.room.files:,} tokens (or it "
                "holds a key). Give it more room, AnalysisAgent(…, room=Room(files=…)), or make the file smaller"
            )

    # ── the conversation ───────────────────────────────────────────────────────────────────────────────────────

    def asked(self, told: Briefing) -> list[Message]:
        return render(
            self.wording,
            PROPOSE,
            key=told.key,
            subject=told.files,
            memory=told.notes,
            tried=told.tried,
            kinds=told.kinds,
            findings=told.findings,
            evidence=told.traces,
            places=", ".join(place or "anything but rubrics/" for place in self.places),
            most_files=str(self.most_files),
            most_changed=f"{self.most_changed:,}",
            skills="\n\n".join(skill.body for skill in skills(self.wording).values()),
        )

    def corrected(self, problems: Iterable[str], gave_up: bool, key: str) -> list[Message]:
        listed = "\n".join(f"- {problem}" for problem in problems)
        return render(self.wording, AGAIN, problems=listed, gave_up="yes" if gave_up else "", key=key)

    def reply(self, number: int, messages: Sequence[Message], seed: int) -> Turn:
        assert not isinstance(self.model, str)
        return replied(self.model, ROLE, schema(), number, messages, seed)

    # ── what is wrong with an answer ───────────────────────────────────────────────────────────────────────────

    def faults(
        self, answer: "Answer", text: Mapping[str, str], history: History, found: Sequence[Finding], told: Briefing
    ) -> list[str]:
        """A sentence for each thing that a machine can see to be wrong."""
        if gives_up(answer):
            return ["it proposes nothing; that nothing is left to try is believed when it is said twice"]
        edits = edits_of(answer)
        wrong = [*self.edit_faults(edits, text, told), *copied_faults(edits, text, history.tasks.values())]
        more = chain(evidence_faults(answer, history, found), prediction_faults(answer, history))
        return [fault[:TOLD] for fault in (*(wrong or version_faults(edits, text, history)), *more)]

    def edit_faults(self, edits: Sequence[Edit], text: Mapping[str, str], told: Briefing) -> Iterator[str]:
        """What is wrong with where and how much it edits."""
        if not edits:
            yield 'it edits nothing; if nothing is left to try, say why in "rationale"'
        if len(edits) > self.most_files:
            yield f"it edits {len(edits)} files, and may edit {self.most_files}"
        for edit in edits:
            yield from self.place_faults(edit, text, told)
        yield from size_faults(edits, text, self.most_changed)

    def place_faults(self, edit: Edit, text: Mapping[str, str], told: Briefing) -> Iterator[str]:
        try:
            if edit.text is not None:
                applied(text, [edit])
        except InvalidEdit as e:
            yield str(e)
            return
        if edit.path.casefold().startswith(RUBRICS) and not any(place.startswith(RUBRICS) for place in self.places):
            yield (
                f"{edit.path!r} is a rubric, and may not be edited here: what it lets pass would rise without any work "
                "being better. A rubric is measured by how far it agrees with people, in an experiment of its own"
            )
        elif not edit.path.startswith(tuple(self.places)):
            yield f"{edit.path!r} may not be edited; a path that may begins with {' or '.join(self.places)}"
        elif edit.path in text and edit.path not in told.readable:
            yield f"{edit.path!r} was not shown whole, so nobody can tell what a new text of it would destroy"
        yield from odd_faults(edit, text, told.key)


def unseen(text: str, before: str = "") -> str:
    """The characters of *text* that are not seen, or that change how others are seen, and are not in *before*."""
    found = {c for c in text if c not in "\n\t" and (is_unseen(c) or IGNORED.match(c))} - {*before}
    return ", ".join(f"U+{ord(c):04X}" for c in sorted(found)[:8])


def characters_edited(before: str, after: str) -> int:
    """Characters of the words that were put in, or taken out, whichever are more; a word that moved is both."""
    out = into = 0
    for old, new in changed_parts(before.splitlines(keepends=True), after.splitlines(keepends=True)):
        for gone, come in changed_parts(WORDS.findall("".join(old)), WORDS.findall("".join(new))):
            out, into = out + sum(map(len, gone)), into + sum(map(len, come))
    return max(out, into)


def changed_parts(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """The runs of *before* that gave way to runs of *after*."""
    least = min(len(before), len(after))
    start = alike(zip(before, after, strict=False))
    end = min(alike(zip(reversed(before), reversed(after), strict=False)), least - start)
    before, after = before[start : len(before) - end], after[start : len(after) - end]
    matcher = SequenceMatcher(None, before, after)
    for what, out, out_end, into, into_end in matcher.get_opcodes():
        if what != "equal":
            yield before[out:out_end], after[into:into_end]


def alike(pairs: Iterable[tuple[str, str]]) -> int:
    """How many of the first *pairs* are of the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def copied_faults(edits: Sequence[Edit], text: Mapping[str, str], tasks: Iterable[Task]) -> Iterator[str]:
    """Which of the train *tasks* an edit writes down, in input or target: it helps with these alone."""
    tried = {edit.path: line_of(edit.text) for edit in edits if edit.text}
    found = (
        (path, what, task, line)
        for task, what, line in told_by(list(tasks))
        for path, source in tried.items()
        if line in source
    )
    held = [line_of(source) for source in text.values()] if tried else []
    new = ((path, what, task) for path, what, task, line in found if not any(line in old for old in held))
    for path, what, task in islice(new, MOST_COPIED):
        yield (
            f"{path!r} would hold the {what} of the task {task}, which helps with that task alone: write a rule for "
            "its kind, and make up what you show as an example"
        )


def told_by(tasks: Sequence[Task]) -> Iterator[tuple[str, str, str]]:
    """Task, ``input`` or ``expected answer``, and its words, where these stand nowhere by chance. What several clusters
    expect is a label, and may be named."""
    wanted = {(task.cluster or task.id, line_of(target)) for task in tasks for target in task.targets}
    often = Counter(line for _, line in wanted)
    for task in tasks:
        targets = [line for target in task.targets if often[line := line_of(target)] == 1]
        for what, line in (("input", line_of(task.input)), *(("expected answer", line) for line in targets)):
            if is_distinctive(line):
                yield task.id, what, line


def without_failures(history: History) -> Exception:
    """Why there is nothing to ask about."""
    is_metric = any(trial.grade is not None and trial.grade.value is not None for trial in history.trials)
    if not is_metric or history.rounds:  # what was kept until now is still to be certified
        return OutOfIdeas("no train trial fails any more")
    return UserError(
        "the analyst mines failures, and there are none yet: this experiment measures a number (Grade.value), and "
        "every train trial of it has the full score. Use a proposer that needs no failures: Ideas(FOLDER) tries what a "
        "person wrote down, and any object with a method propose can read the numbers in history.trials"
    )


def evidence_faults(answer: "Answer", history: History, found: Sequence[Finding]) -> Iterator[str]:
    cited = {passage.trial for passage in answer.citations}
    trials = [trial for trial in history.trials if trial.id in cited]
    finding = next((finding for finding in found if finding.id == answer.finding), None)
    if finding is None:
        yield f"there is no finding {answer.finding!r}: give the id of one of those that are listed"
    elif trials and not is_shown(finding, trials, history):
        yield f"no trial that it cites shows the finding {finding.id}: quote one that does"
    if strange := unseen(answer.rationale):
        yield f'"rationale" holds characters that nobody sees: {strange}'
    if not answer.rationale.strip() or len(answer.rationale) > 2 * MOST_QUOTED:
        yield f'"rationale" has to say why, in {2 * MOST_QUOTED:,} characters at most'
    if not 0 < len(answer.citations) <= MOST_CITED:
        yield f"it cites {len(answer.citations)} passages: cite one to {MOST_CITED} that show the failure"
    if any(len(cited.quote) > MOST_QUOTED for cited in answer.citations):
        yield f"a quotation has more than {MOST_QUOTED:,} characters: quote the line that shows it"
    yield from unfounded(citations_of(answer), history)


def is_shown(finding: Finding, trials: Sequence[Trial], history: History) -> bool:
    """Does one of *trials* show the *finding*?"""
    shown = members([finding], trials, paths_of(trials, history.trace_of))[finding.id]
    return bool(shown) or any(trial.id in finding.examples for trial in trials)


def prediction_faults(answer: "Answer", history: History) -> Iterator[str]:
    kinds = [set(task.tags) for task in history.tasks.values()]
    if not all(-1 <= gain <= 1 for gain in (answer.predicted, *(p.gain for p in answer.predictions))):
        yield "a gain is a difference of mean scores, and lies between -1 and 1"
    if len(answer.predictions) > MOST_CITED:
        yield f"it predicts for {len(answer.predictions)} kinds: name the {MOST_CITED} that matter"
    times = Counter(tuple(sorted(set(predicted.tags))) for predicted in answer.predictions)
    for tags in times:
        if not any(kind.issuperset(tags) for kind in kinds):
            yield f"no task has the tags {list(tags)}: give the tags of a kind as they are listed"
        elif times[tags] > 1:
            yield f"it predicts {times[tags]} times for the tags {list(tags)}: give one gain for each kind"


def version_faults(edits: Sequence[Edit], text: Mapping[str, str], history: History) -> Iterator[str]:
    """What is wrong with the version that *edits*, each of them sound by itself, would make of *text*."""
    try:
        after = applied(text, edits)
    except InvalidEdit as e:
        yield str(e)
        return
    if after == text:
        yield "it changes nothing: each text is what the file holds already"
    elif history.version_of is not None and (version := history.version_of(edits)) in history.tried:
        yield f"exactly this was tried before ({history.tried[version]}): propose something else"
    yield from text_faults(text, after)


def text_faults(before: Mapping[str, str], after: Mapping[str, str]) -> Sequence[str]:
    """Why *after* would be no harness text, where *before* is. Placeholders may be those that *before* uses."""
    names = {name for source in before.values() for used in USED.findall(source) for name in WORD.findall(used)}
    known = frozenset(names).union(*(slots.names for slots in harness_text.PROMPTS.values()))

    def faults(text: Mapping[str, str]) -> Sequence[str]:
        musts = {path: slots.must for path, slots in harness_text.PROMPTS.items() if path in before}
        paths = {*musts, *(path for path in text if path.startswith("prompts/"))}
        try:
            harness_text.validate(text, {path: Slots(musts.get(path, frozenset()), may=known) for path in paths})
        except InvalidText as e:
            return e.problems
        return ()

    return () if faults(before) else faults(after)


# ── what it answers ────────────────────────────────────────────────────────────────────────────────────────────


class Passage(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    trial: str
    span: str | None = None
    quote: str


class NewText(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    path: str
    text: str | None


class Expected(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    tags: list[str]
    gain: float


class Answer(BaseModel):
    """What the model answers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    of: str
    """The key it was given: an answer that was copied from a trace cannot have it."""
    finding: str
    rationale: str
    citations: list[Passage]
    edits: list[NewText]
    predicted: float
    predictions: list[Expected] = []


def schema() -> Mapping[str, Any]:
    text, number = {"type": "string"}, {"type": "number"}
    maybe = {"anyOf": [text, {"type": "null"}]}

    def some(properties: Mapping[str, Any]) -> dict[str, Any]:
        return {"type": "array", "items": closed(properties)}

    return closed(
        {
            "of": text,
            "finding": text,
            "rationale": text,
            "citations": some({"trial": text, "span": maybe, "quote": text}),
            "edits": some({"path": text, "text": maybe}),
            "predicted": number,
            "predictions": some({"tags": {"type": "array", "items": text}, "gain": number}),
        }
    )


def gives_up(answer: Answer) -> bool:
    """Does it say, in due form, that nothing is left to try?"""
    return not answer.edits and bool(answer.rationale.strip())


def read_answer(reply: Turn, key: str) -> tuple[Answer | None, Sequence[str]]:
    """The answer that *reply* is, all of it; or what is wrong with its form."""
    if reply.finish_reason == "length":
        return None, ("it was cut off where the model may write no more: change fewer or shorter files",)
    text = reply.text.strip()
    fenced = FENCE.fullmatch(text)
    try:
        answer = Answer.model_validate(clean(json.loads(fenced[1] if fenced else text, object_pairs_hook=once)))
    except ValidationError as e:
        return None, [f"{'.'.join(map(str, error['loc'])) or 'the object'}: {error['msg']}" for error in e.errors()[:8]]
    except (ValueError, RecursionError):
        return None, ("it is not one JSON object with nothing around it",)
    return (answer, ()) if answer.of == key else (None, ('its "of" is not the key that was given',))


def proposal_of(answer: Answer, incumbent: str, found: Sequence[Finding]) -> Proposal:
    edits = edits_of(answer)
    return Proposal(
        id=proposal_id(incumbent, edits),
        proposer=AnalysisAgent.__name__,
        edits=edits,
        rationale=answer.rationale,
        answers=(answer.finding,),
        evidence=tuple(dict.fromkeys(cited.trial for cited in answer.citations)),
        predicted=answer.predicted,
        predictions=tuple(Prediction(tags=tuple(p.tags), gain=p.gain) for p in answer.predictions),
        citations=citations_of(answer),
        findings=tuple(found),
    )


def edits_of(answer: Answer) -> tuple[Edit, ...]:
    return tuple(Edit(path=edit.path, text=edit.text) for edit in answer.edits)


def citations_of(answer: Answer) -> tuple[Citation, ...]:
    return tuple(Citation(trial=c.trial, span=c.span, quote=c.quote) for c in answer.citations)


# ── what a killed process leaves to the next ───────────────────────────────────────────────────────────────────


def replied(
    model: Model, role: str, schema: Mapping[str, Any], number: int, messages: Sequence[Message], seed: int
) -> Turn:
    """What *model* answers as the *number*-th of a proposal, charged to *role*. A durable step: whoever takes up a
    killed proposal pays for no answer to the same question again."""

    def asked() -> Turn:
        with spending(role):
            if isinstance(model, ToolModel) and model.takes_tools:
                return turn_of(model.complete(messages, seed=seed, schema=schema))
            return turn_of(model.complete(messages, seed=seed))

    question = digest([model.name, seed, *((message.role, message.content) for message in messages)])
    return meter().steps.step(f"propose/{number}/{question}", asked)


def odd_faults(edit: Edit, text: Mapping[str, str], key: str) -> Iterator[str]:
    """Whether *edit* holds the *key* of what the model was shown, or what nobody sees."""
    if key in (edit.text or "") or key in edit.path:
        yield f"the key stands in {edit.path!r}, and means nothing there"
    if strange := unseen(edit.text or "", text.get(edit.path) or "".join(text.values())):
        yield f"{edit.path!r} would hold characters that nobody sees: {strange}"


def size_faults(edits: Iterable[Edit], text: Mapping[str, str], most: int) -> Iterator[str]:
    """Whether *edits* change more than *most* characters."""
    changed = sum(characters_edited(text.get(edit.path, ""), edit.text or "") for edit in edits)
    if changed > most:
        yield f"it changes {changed:,} characters, and may change {most:,}: make the edit smaller"


def turn_of(reply: Reply) -> Turn:
    return Turn(text=clean_text(reply.text), finish_reason=reply.finish_reason, usage=reply.usage)


def findings_kept(found: Iterable[Finding]) -> Turn:
    return Turn(text=json.dumps([finding.model_dump(mode="json") for finding in found]))


def digest(parts: Sequence[object]) -> str:
    return hashlib.sha256(repr(parts).encode(errors="replace")).hexdigest()[:16]


def kept_key(run: str) -> str:
    """The key of the proposal in progress: as another process drew it, where that was killed, else of this process."""
    return meter().steps.step("propose/key", lambda: Turn(text=key_of(run))).text


@lru_cache(maxsize=64)
def key_of(run: str) -> str:
    """What marks data in the questions of *run*: the same for all of them, so that what they begin with stays in the
    provider's cache; not known to anything that was made before this process."""
    return secrets.token_hex(8)
