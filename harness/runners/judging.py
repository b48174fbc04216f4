"""The runner of a rubric: a judge that goes by a version's rubric, on outputs that people have labelled."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.errors import TrialError
from harness.graders.judge import Judge, wording
from harness.meter import spending
from harness.protocols import Model
from harness.text import InvalidText, Rubric, parse_rubric, validate
from traces.records import Review, Task

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
    judge: type[Judge] = Judge
    wording: Mapping[str, str] = field(default_factory=wording)
    """What the judge is told around the rubric."""

    def __post_init__(self) -> None:
        if isinstance(self.model, str):
            from harness.models import model  # the SDKs take a while to import

            object.__setattr__(self, "model", model(self.model))

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        asked, output = shown_in(task)
        judge = self.judge(self.model, parse_rubric(text[RUBRIC], RUBRIC), wording=self.wording)
        review = self._review(judge, task.model_copy(update={"input": asked}), output)
        if review.verdict == "failed":
            raise TrialError(
                "runner", "bad_rubric", f"the judge says that the rubric cannot be applied: {review.detail}"
            )
        return json.dumps({mark.criterion: mark.passed for mark in review.marks}, sort_keys=True)

    def _review(self, judge: Judge, task: Task, output: str) -> Review:
        try:
            with spending("judge"):
                return judge.judge(task, output)
        except TrialError as e:  # what a rubric makes of a judge is its own doing
            raise TrialError("runner", e.error_class, str(e)) from e

    def check(self, text: Mapping[str, str]) -> None:
        validate(text, {})
        if RUBRIC not in text:
            raise InvalidText([f"{RUBRIC}: there is no such file, and the judge goes by it"])
        if problems := problems_of(parse_rubric(text[RUBRIC], RUBRIC), self.criteria):
            raise InvalidText(problems)


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
