"""A proposer that asks a model: it reads what fails, what was tried and the text, and writes one change.

What it answers is believed as far as a machine can look it up: files that it may edit and has seen, quotations that
are there, a finding that was mined, a version that was not tried. With what is wrong it is asked once more, and then
the round is a recorded failure.
"""

import json
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

import harness
import harness.text as harness_text
from analysis.findings import findings, paths_of
from analysis.proposers.briefing import Briefing, Room, briefing
from analysis.proposers.examples import proposal_id
from harness.errors import OutOfIdeas, TrialError, UserError
from harness.evidence import unfounded
from harness.graders.judge import FENCE, closed, once, seed_of
from harness.meter import spending
from harness.progress import characters_changed
from harness.protocols import History, Message, Model, Reply, ToolModel
from harness.text import InvalidText, Slots, render, skills
from harness.versions import InvalidEdit, applied
from traces.journal import clean
from traces.records import Citation, Edit, Finding, Prediction, Proposal

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
        AGAIN: Slots(frozenset({"problems"}), may=frozenset({"key"})),
    }
)
"""What a version of the analyst's own text has to hold, for ``harness.text.validate``."""

ROLE = "analyst"
TRIES = 2
"""Answers to one question, the corrected one included."""
ANSWER = 16_000
"""Tokens that a model named by a string may answer with: whole files."""
RUBRICS = "rubrics/"
MOST_QUOTED = 1000
"""Characters of a quotation, and of a rationale twice as many."""
MOST_CITED = 12
"""Quotations of one proposal, and predictions."""
TOLD = 400
"""Characters of one problem that a model is told."""
USED = re.compile(r"\{[{%][^{}]*[}%]\}")
WORD = re.compile(r"[A-Za-z_]\w*")


def wording() -> dict[str, str]:
    """What the analyst is told, from ``harness/text/analyst``: path → text, as of a version of that subject."""
    files = sorted(path for path in FOLDER.rglob("*.*") if path.is_file())
    return {path.relative_to(FOLDER).as_posix(): path.read_text(encoding="utf-8") for path in files}


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
    """Characters of words put in or taken out, all files together."""
    room: Room = field(default_factory=Room)

    def __post_init__(self) -> None:
        if isinstance(self.model, str):
            from harness.models import model  # the SDKs take a while to import

            object.__setattr__(self, "model", model(self.model, max_tokens=ANSWER, stream=True))

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        """One change to *text*.

        Raises:
            OutOfIdeas: nothing fails, or the model sees nothing left to try.
            ModelError: the model cannot be asked.
            TrialError: what it answers cannot be used, also when it was told what is wrong.
        """
        found = self.found(history)
        if not found:
            raise OutOfIdeas("no train trial fails any more")
        told = briefing(text, history, found, key_of(history.run), self.room)
        self.refuse_in_vain(text, told)
        messages = self.asked(told)
        problems: Sequence[str] = ()
        for number in range(TRIES):
            reply = self.reply(messages, seed_of(history.seed, number))
            answer, problems = read_answer(reply, told.key)
            if answer is not None:
                problems = self.faults(answer, text, history, found, told)
                if not problems:
                    return proposal_of(answer, incumbent, found)
            messages = [*messages, Message("assistant", reply.text or "…"), *self.corrected(problems, told.key)]
        raise TrialError("proposer", "malformed", f"no proposal that can be used: {'; '.join(problems)}")

    def found(self, history: History) -> tuple[Finding, ...]:
        """What fails, the costliest first."""
        mined = findings(history.trials, history.known, paths_of(history.trials, history.trace_of))
        return self.labeller.findings(history, mined) if self.labeller is not None else tuple(mined)

    def refuse_in_vain(self, text: Mapping[str, str], told: Briefing) -> None:
        own = {path: len(text[path]) for path in text if path.startswith(tuple(self.places))}
        if own and not told.readable.intersection(own):
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

    def corrected(self, problems: Iterable[str], key: str) -> list[Message]:
        return render(self.wording, AGAIN, problems="\n".join(f"- {problem}" for problem in problems), key=key)

    def reply(self, messages: Sequence[Message], seed: int) -> Reply:
        assert not isinstance(self.model, str)
        with spending(ROLE):
            if isinstance(self.model, ToolModel) and self.model.takes_tools:
                return self.model.complete(messages, seed=seed, schema=schema())
            return self.model.complete(messages, seed=seed)

    # ── what is wrong with an answer ───────────────────────────────────────────────────────────────────────────

    def faults(
        self, answer: "Answer", text: Mapping[str, str], history: History, found: Sequence[Finding], told: Briefing
    ) -> list[str]:
        """A sentence for each thing that a machine can see to be wrong.

        Raises:
            OutOfIdeas: the answer says so, in due form.
        """
        if not answer.edits and answer.rationale.strip():
            raise OutOfIdeas(f"the model sees nothing left to try: {answer.rationale[:TOLD]}")
        edits = edits_of(answer)
        wrong = [*self.edit_faults(edits, text, told)]
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
        changed = sum(characters_changed(text.get(edit.path, ""), edit.text or "") for edit in edits)
        if changed > self.most_changed:
            yield f"it changes {changed:,} characters, and may change {self.most_changed:,}: make the edit smaller"

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
        if told.key in (edit.text or "") or told.key in edit.path:
            yield f"the key stands in {edit.path!r}, and means nothing there"


def evidence_faults(answer: "Answer", history: History, found: Sequence[Finding]) -> Iterator[str]:
    if answer.finding not in {finding.id for finding in found}:
        yield f"there is no finding {answer.finding!r}: give the id of one of those that are listed"
    if not answer.rationale.strip() or len(answer.rationale) > 2 * MOST_QUOTED:
        yield f'"rationale" has to say why, in {2 * MOST_QUOTED:,} characters at most'
    if not 0 < len(answer.citations) <= MOST_CITED:
        yield f"it cites {len(answer.citations)} passages: cite one to {MOST_CITED} that show the failure"
    if any(len(cited.quote) > MOST_QUOTED for cited in answer.citations):
        yield f"a quotation has more than {MOST_QUOTED:,} characters: quote the line that shows it"
    yield from unfounded(citations_of(answer), history)


def prediction_faults(answer: "Answer", history: History) -> Iterator[str]:
    kinds = [set(task.tags) for task in history.tasks.values()]
    if not all(-1 <= gain <= 1 for gain in (answer.predicted, *(p.gain for p in answer.predictions))):
        yield "a gain is a difference of mean scores, and lies between -1 and 1"
    if len(answer.predictions) > MOST_CITED:
        yield f"it predicts for {len(answer.predictions)} kinds: name the {MOST_CITED} that matter"
    for tags in dict.fromkeys(tuple(predicted.tags) for predicted in answer.predictions):
        if not any(kind.issuperset(tags) for kind in kinds):
            yield f"no task has the tags {list(tags)}: give the tags of a kind as they are listed"


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


def read_answer(reply: Reply, key: str) -> tuple[Answer | None, Sequence[str]]:
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


@lru_cache(maxsize=64)
def key_of(run: str) -> str:
    """What marks data in the questions of *run*: the same for all of them, so that what they begin with stays in the
    provider's cache; not known to anything that was made before this process."""
    return secrets.token_hex(8)
