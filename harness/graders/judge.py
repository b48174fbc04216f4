"""The judge: a model that goes by a rubric, in a conversation of its own, and is believed only where it shows why."""

import hashlib
import json
import re
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import ModelError, TrialError, UserError
from harness.graders.marks import fault, passed, print_of
from harness.protocols import Message, Model, Reply, ToolModel
from harness.text import Criterion, Rubric, parse_rubric, render
from traces.records import Mark, Review, Task

TRIES = 2
"""Answers that a judge may give about one work, until one can be used."""
FEWEST = 3
"""Characters of a passage that shows anything, unless the whole work is shorter."""
SAID = 600
"""Characters of what a judge says about one criterion."""
OWN = frozenset({"timeout", "malformed", "bad_request"})
"""Errors of a model that count against whoever asked it; here that is the judge, never the work."""
FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*)\n```", re.DOTALL)
TAG = re.compile(r"<(?=\s*/?\s*(?:asked|work)-)", re.IGNORECASE)


def wording() -> dict[str, str]:
    """What a judge is told, from ``harness/text/judge``."""
    folder = files("harness") / "text" / "judge"
    return {entry.name: entry.read_text(encoding="utf-8").strip() for entry in folder.iterdir() if entry.is_file()}


@dataclass(frozen=True)
class Judge:
    """Asks a model about a work, by a rubric; it sees the task and the work, and nothing of whoever made it.

    The rubric belongs to the experiment and is read once, when the experiment is built, so that it is part of its
    fingerprint. Never name a file of the subject: a version would grade itself.
    """

    model: Model | str
    """Another one than the maker's, see ``warnings``."""
    rubric: Rubric | Path | str
    """A rubric, or the TOML file that holds it."""
    longest: int = 100_000
    """Characters of a work; a longer one is at fault, since no part of it may go unread."""
    wording: Mapping[str, str] = field(default_factory=wording)

    def __post_init__(self) -> None:
        if isinstance(self.model, str):
            from harness.models import model  # the SDKs take a while to import

            object.__setattr__(self, "model", model(self.model))
        if not isinstance(self.rubric, Rubric):
            object.__setattr__(self, "rubric", read_rubric(Path(self.rubric)))

    @property
    def criteria(self) -> Sequence[Criterion]:
        assert isinstance(self.rubric, Rubric)
        return self.rubric.criteria

    def warnings(self, makers: Collection[str]) -> tuple[str, ...]:
        """What makes its verdicts doubtful. *makers*: names of the models whose work it judges."""
        assert not isinstance(self.model, str)
        if self.model.name not in makers:
            return ()
        return (
            f"{self.model.name} judges its own work. A model grading its own work is not a verifier: it shares the "
            "blind spots that made the mistake. Give the judge another model.",
        )

    def judge(self, task: Task, output: str) -> Review:
        """Its verdict on *output*, each time in a new conversation.

        Raises:
            ModelError: the model cannot be asked.
            TrialError: what it answers cannot be used.
        """
        if not output.strip():
            return self._unread("nothing was handed in")
        if len(output) > self.longest:
            return self._unread(f"{len(output)} characters, and no more than {self.longest} are read")
        key = secrets.token_hex(8)
        work = sealed(output, key)
        messages = self._asked(key, sealed(task.input, key), work)
        problem = ""
        for number in range(TRIES):
            reply = self._reply(messages, seed_of(task.id, output, number))
            answer = read_answer(reply.text, key, self.criteria)
            if isinstance(answer, Answer):
                return self._review(answer, work)
            problem = answer
            again = Template(self.wording["again.md"]).substitute(problem=problem)
            messages = [*messages, Message("assistant", reply.text or "…"), Message("user", again)]
        raise TrialError("grader", "malformed_verdict", f"the judge gave no verdict that can be used: {problem}")

    def _unread(self, because: str) -> Review:
        return Review(verdict="needs_revision", marks=tuple(fault(c.id, because) for c in self.criteria))

    def _asked(self, key: str, asked: str, work: str) -> list[Message]:
        assert isinstance(self.rubric, Rubric)
        criteria = "\n".join(self._criterion(criterion) for criterion in self.criteria)
        about = self.rubric.description
        return render(self.wording, "judge.md", key=key, about=about, criteria=criteria, asked=asked, work=work)

    def _criterion(self, criterion: Criterion) -> str:
        template = self.wording["criterion.md" if criterion.quoted else "criterion_unquoted.md"]
        return Template(template).substitute(
            id=criterion.id,
            question=criterion.question,
            choices=listed(criterion.choices),
            passes=listed(criterion.passes),
        )

    def _reply(self, messages: Sequence[Message], seed: int) -> Reply:
        assert not isinstance(self.model, str)
        try:
            if isinstance(self.model, ToolModel) and self.model.takes_tools:
                return self.model.complete(messages, seed=seed, schema=answer_schema(self.criteria))
            return self.model.complete(messages, seed=seed)
        except ModelError as e:
            if e.error_class in OWN:
                raise TrialError("grader", e.error_class, f"the judge: {e}") from e
            raise

    def _review(self, answer: "Answer", work: str) -> Review:
        if answer.verdict == "failed":
            return Review(verdict="failed", detail=squeezed(answer.detail))
        found = {judged.id: judged for judged in answer.criteria}
        marks = tuple(mark_of(criterion, found[criterion.id], work) for criterion in self.criteria)
        satisfied = all(mark.passed for mark in marks)  # what showed no evidence does not pass, whatever it said
        return Review(verdict="satisfied" if satisfied else "needs_revision", marks=marks)


def read_rubric(path: Path) -> Rubric:
    try:
        return parse_rubric(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(
            f"the rubric {path} cannot be read ({e}), and the judge goes by it. Name the file of the experiment: "
            'Judge(…, rubric=Path(__file__).with_name("rubrics") / "judge.toml")'
        ) from e


def seed_of(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode(errors="replace")).digest()[:4], "big") >> 1


def sealed(text: str, key: str) -> str:
    """*text* without anything that could be taken for the tags that it is put between."""
    return TAG.sub("‹", text.replace(key, "…"))


def listed(choices: Iterable[str]) -> str:
    return ", ".join(f'"{choice}"' for choice in choices)


def squeezed(text: str) -> str:
    return " ".join(text.split())[:SAID]


# ── what it answers ────────────────────────────────────────────────────────────────────────────────────────────


class Judged(BaseModel):
    """What a judge says about one criterion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str
    choice: str
    evidence: str = ""
    because: str = ""
    excerpt: str = ""


class Keyed(BaseModel):
    """What a model answers about text that it is not to take orders from."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    of: str
    """The key it was given with that text: an answer that was copied from there cannot have it."""


K = TypeVar("K", bound=Keyed)


class Answer(Keyed):
    """What a judge answers."""

    criteria: list[Judged] = []
    verdict: Literal["satisfied", "needs_revision", "failed"]
    detail: str = ""


def answer_schema(criteria: Sequence[Criterion]) -> Mapping[str, Any]:
    text = {"type": "string"}
    about = {
        "id": {"type": "string", "enum": [criterion.id for criterion in criteria]},
        "choice": {"type": "string", "enum": list(dict.fromkeys(c for each in criteria for c in each.choices))},
        "evidence": text,
        "because": text,
        "excerpt": text,
    }
    verdict = {"type": "string", "enum": ["satisfied", "needs_revision", "failed"]}
    return closed(
        {"of": text, "criteria": {"type": "array", "items": closed(about)}, "verdict": verdict, "detail": text}
    )


def closed(properties: Mapping[str, Any]) -> dict[str, Any]:
    """A schema of objects with all of these and nothing else."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def answer_in(text: str, form: type[K], key: str) -> K | str:
    """The answer that *text* is, all of it; or why it cannot be used."""
    fenced = FENCE.fullmatch(text.strip())
    try:
        answer = form.model_validate(json.loads(fenced[1] if fenced else text, object_pairs_hook=once))
    except ValidationError as e:
        places = ", ".join(".".join(map(str, error["loc"])) or "the object" for error in e.errors()[:5])
        return f"it does not have the form that was asked for, see {places}"
    except (ValueError, RecursionError):
        return "it is not one JSON object with nothing around it"
    return answer if answer.of == key else 'its "of" is not the key that was given'


def read_answer(text: str, key: str, criteria: Sequence[Criterion]) -> Answer | str:
    """The verdict that *text* is; or why it cannot be used."""
    answer = answer_in(text, Answer, key)
    if isinstance(answer, str):
        return answer
    if answer.verdict == "failed":
        return answer if answer.detail.strip() else "it says that the rubric cannot be applied, and not why"
    return contradiction(answer, criteria) or answer


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def contradiction(answer: Answer, criteria: Sequence[Criterion]) -> str:
    """What in *answer* does not go by the rubric, or by itself; empty when nothing does."""
    if sorted(judged.id for judged in answer.criteria) != sorted(criterion.id for criterion in criteria):
        return "it has to say something about each criterion of the rubric, once, and about no other"
    found = {judged.id: judged for judged in answer.criteria}
    failing = [c for c in criteria if found[c.id].choice not in c.passes]
    for criterion in failing:
        if found[criterion.id].choice not in criterion.choices:
            return f"its choice for {criterion.id} is none of {listed(criterion.choices)}"
        if not found[criterion.id].because.strip():
            return f"{criterion.id} does not pass, and it does not say what is wrong"
    if (answer.verdict == "satisfied") == bool(failing):
        names = ", ".join(criterion.id for criterion in failing) or "none"
        return f"its verdict is {answer.verdict}, and the criteria that do not pass by its own choices are: {names}"
    return ""


def mark_of(criterion: Criterion, judged: Judged, work: str) -> Mark:
    """The mark that *judged* stands for, once its quotations were looked up in *work*."""
    evidence, excerpt = quotation(judged.evidence, work), quotation(judged.excerpt, work)
    if judged.choice in criterion.passes:
        if evidence or not criterion.quoted:
            return passed(criterion.id, evidence).model_copy(update={"choice": judged.choice})
        return fault(criterion.id, "no evidence: no passage was named that shows it", choice=judged.choice)
    found = fault(criterion.id, squeezed(judged.because), excerpt, judged.choice)
    # judges never say the same in the same words
    return found.model_copy(update={"fingerprint": print_of(criterion.id, f"the choice {judged.choice}")})


def quotation(quoted: str, work: str) -> str:
    """*quoted*, if it stands in *work*, blanks apart, and says anything; else nothing."""
    passage, whole = " ".join(quoted.strip(" \n\t\"'`“”").split()), " ".join(work.split())
    says = len(passage) >= min(FEWEST, len(whole)) and re.search(r"\w", passage)
    return passage if says and passage in whole else ""
