"""The runner of a rubric: a judge that goes by a version's rubric, on outputs that people have labelled."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from string import Template
from typing import Any

from harness.errors import TrialError
from harness.graders.judge import Judge, listed, wording
from harness.meter import spending
from harness.protocols import Model
from harness.text import Criterion, InvalidText, Rubric, parse_rubric, validate
from traces.records import Task

RUBRIC = "rubrics/judge.toml"
"""Where a version keeps the rubric that is measured."""


@dataclass(frozen=True)
class JudgingRunner:
    """Judges a labelled output by the rubric of a version; the output is the judge's marks, as JSON.

    It is never shown a label. A rubric by which the judge comes to no verdict fails by itself: it is the version's
    fault, and no error that is tried again.
    """

    model: Model | str
    """The judge's."""
    criteria: Sequence[str]
    """What people have labelled: a version may word them anew, and neither drop, rename nor add one."""
    wording: Mapping[str, str] = field(default_factory=wording)
    """What the judge is told around the rubric."""

    def __post_init__(self) -> None:
        if isinstance(self.model, str):
            from harness.models import model  # the SDKs take a while to import

            object.__setattr__(self, "model", model(self.model))

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        return marks_by(Judge(self.model, parse_rubric(text[RUBRIC], RUBRIC), wording=self.wording), task)

    def check(self, text: Mapping[str, str]) -> None:
        validate(text, {})
        if RUBRIC not in text:
            raise InvalidText([f"{RUBRIC}: there is no such file, and the judge goes by it"])
        if problems := problems_of(parse_rubric(text[RUBRIC], RUBRIC), self.criteria):
            raise InvalidText(problems)


def marks_by(judge: Judge, task: Task) -> str:
    """What *judge* says about a labelled output: criterion → does it pass, as JSON.

    Raises:
        ModelError: the judge cannot be asked.
        TrialError: it comes to no verdict, for which its rubric answers.
    """
    asked, output = shown_in(task)
    try:
        with spending("judge"):
            review = judge.judge(task.model_copy(update={"input": asked}), output)
    except TrialError as e:
        raise TrialError("runner", e.error_class, str(e)) from e
    if review.verdict == "failed":
        raise TrialError("runner", "bad_rubric", f"the judge cannot apply the rubric: {review.detail}")
    return json.dumps({mark.criterion: mark.passed for mark in review.marks}, sort_keys=True)


def problems_of(rubric: Rubric, criteria: Sequence[str]) -> list[str]:
    """What keeps *rubric* from being measured by labels of *criteria*."""
    there = [criterion.id for criterion in rubric.criteria]
    lost, added = [c for c in criteria if c not in there], [c for c in there if c not in criteria]
    return [
        *(f"{RUBRIC}: the criterion {c!r} is gone or has another name, and people have labelled by it" for c in lost),
        *(f"{RUBRIC}: nobody has labelled by {c!r}, so whether it helps could not be told" for c in added),
    ]


def shown_in(task: Task) -> tuple[str, str]:
    """What was asked and the output, of a task that ``harness.labels.tasks_from_labels`` made."""
    found: dict[str, Any] = json.loads(task.input)
    return found["asked"], found["output"]


@dataclass(frozen=True)
class FixedJudge:
    """Judges labelled outputs, whatever the version: to measure an experiment's own judge."""

    judge: Judge

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        return marks_by(self.judge, task)


@dataclass(frozen=True)
class ReversedJudge(Judge):
    """Lists the criteria, and the choices of each, the other way round; all else is the same."""

    @classmethod
    def of(cls, judge: Judge) -> "ReversedJudge":
        rubric = judge.rubric
        assert isinstance(rubric, Rubric)
        turned = rubric.model_copy(update={"criteria": tuple(reversed(rubric.criteria))})
        folder = files("harness") / "text" / "judge_reversed"
        told = {entry.name: entry.read_text(encoding="utf-8").strip() for entry in folder.iterdir() if entry.is_file()}
        return cls(judge.model, turned, judge.longest, {**judge.wording, **told})

    def _criterion(self, criterion: Criterion) -> str:
        template = self.wording["criterion.md" if criterion.quoted else "criterion_unquoted.md"]
        return Template(template).substitute(
            id=criterion.id,
            question=criterion.question,
            choices=listed(reversed(criterion.choices)),
            passes=listed(criterion.passes),
        )
