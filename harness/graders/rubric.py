"""A rubric of both kinds: deterministic checks, and a judge. One verifies what a maker hands in, one grades it."""

import uuid
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Literal

from harness.errors import ModelError, TrialError, UserError, boundary
from harness.graders.exact import normalised
from harness.graders.judge import Judge
from harness.graders.marks import Checker, fault, seen
from harness.graders.patches import DoesNotApply, applied
from harness.graders.person import Person
from harness.meter import inside, meter, spending
from harness.protocols import Box, Finished, Sandbox, Work
from harness.worktrees import Worktree
from traces import otel
from traces.records import Grade, Mark, Review, Span, Task, now

PATCH = "patch"
"""The criterion that an output, where it has to be a patch, applies."""
When = Literal["checks-pass", "always"]


class FreshBox:
    """A box on a fresh copy with the output applied, opened when it is first used: most checks never do."""

    def __init__(self, stack: ExitStack, sandbox: Sandbox, worktree: Worktree | None, output: str) -> None:
        self._stack = stack
        self._applied = applied(sandbox, worktree, output)
        self._box: Box | None = None

    def run(
        self,
        command: Sequence[str],
        *,
        seconds: float | None = None,
        environment: Mapping[str, str] | None = None,
        fixed: Sequence[str] = (),
    ) -> Finished:
        return self._opened().run(command, seconds=seconds, environment=environment, fixed=fixed)

    def read(self, path: str) -> str:
        return self._opened().read(path)

    def write(self, path: str, text: str) -> None:
        self._opened().write(path, text)

    def _opened(self) -> Box:
        if self._box is None:
            self._box = self._stack.enter_context(self._applied)
        return self._box


@dataclass(frozen=True)
class Panel:
    """Who looks at an output, and where."""

    checks: Sequence[Checker]
    judge: Judge | None
    person: Person | None
    judge_when: When
    sandbox: Sandbox | None
    worktree: Worktree | None

    @property
    def criteria(self) -> list[str]:
        judged = self.judge.criteria if self.judge else ()
        return [*(c.id for c in self.checks), *(c.id for c in judged), *([self.person.id] if self.person else [])]

    def review(self, task: Task, output: str, text: Mapping[str, str], seconds: float) -> Review:
        """What they say about *output*. The files that a check sees are its own copy: what one check runs, another
        never meets.

        Raises:
            ModelError: the judge cannot be asked.
            TrialError: it cannot be told, for no fault of the output.
        """
        marks: list[Mark] = []
        for check in self.checks:
            try:
                marks += self._checked(check, task, output, text, seconds)
            except DoesNotApply as e:
                why = fault(PATCH, "the patch does not apply to the worktree", str(e))
                return Review(verdict="needs_revision", marks=(*marks, why))
        is_wrong = any(not mark.passed for mark in marks)
        if self.judge is not None and (self.judge_when == "always" or not is_wrong):
            judged = self._judged(self.judge, task, output)
            if judged.verdict == "failed":
                return judged.model_copy(update={"marks": tuple(marks)})
            marks += judged.marks
            is_wrong = is_wrong or judged.verdict != "satisfied"
        if self.person is not None and not is_wrong:
            marks += self._checked(self.person, task, output, text, seconds)
            is_wrong = not marks[-1].passed
        return Review(verdict="needs_revision" if is_wrong else "satisfied", marks=tuple(marks))

    def _checked(
        self, check: Checker, task: Task, output: str, text: Mapping[str, str], seconds: float
    ) -> Sequence[Mark]:
        with ExitStack() as stack, measured(check.id, "verifier") as said:
            box = FreshBox(stack, self.sandbox, self.worktree, output) if self.sandbox is not None else None
            said += check.check(task, output, Work(task, text, box, seconds))
            return said

    def _judged(self, judge: Judge, task: Task, output: str) -> Review:
        with measured(type(judge).__name__, "judge") as said:
            review = judge.judge(task, output)
            said += review.marks
            return review


@contextmanager
def measured(name: str, role: str) -> Generator[list[Mark]]:
    """A span of who graded within, with the marks that are put into the list; also of a grading that broke."""
    said: list[Mark] = []
    span, started, clock, broke = uuid.uuid4().hex, now(), perf_counter(), "interrupted"
    try:
        with spending(role), inside(span):
            yield said
        broke = ""
    except (ModelError, TrialError) as e:
        broke = e.error_class
        raise
    finally:
        right = [mark for mark in said if mark.passed]
        meter().end(
            Span(
                id=span,
                operation="grade",
                name=name,
                role=role,
                started=started,
                seconds=perf_counter() - clock,
                status="error" if broke else "ok",
                error_class=broke or None,
                attributes={
                    otel.EVALUATION_NAME: name,
                    otel.SCORE: len(right) / len(said) if said else 0.0,
                    otel.EXPLANATION: "; ".join(f"{m.criterion}: {m.because}" for m in said if not m.passed),
                },
            )
        )


@dataclass(frozen=True)
class RubricVerifier:
    """Satisfied when every check and every criterion of the judge passes; else it says what is wrong with each.

    The checks come first: they cost next to nothing, and what they find needs no judge. They look at a fresh copy of
    the *worktree* with the output, a patch, applied: never at the folder in which the maker worked.
    """

    checks: Sequence[Checker] = ()
    judge: Judge | None = None
    person: Person | None = None
    """Asked last, about what everything else lets pass."""
    attempts: int = 3
    """How often the maker may try, the first time included."""
    sandbox: Sandbox | None = None
    """Where checks run commands; without one there are no files to look at."""
    worktree: Worktree | None = None
    """What the output is a patch of; without one the files are an empty folder."""
    judge_when: When = "checks-pass"

    def __post_init__(self) -> None:
        check_panel(self._panel)
        if self.attempts < 1:
            raise UserError(f"attempts={self.attempts} lets nobody try. Write at least 1")

    @property
    def _panel(self) -> Panel:
        return Panel(self.checks, self.judge, self.person, self.judge_when, self.sandbox, self.worktree)

    def review(self, task: Task, output: str, work: Work, before: Sequence[Review]) -> Review:
        """What is wrong with *output*. The box of *work* is not looked at: it may be the maker's."""
        attempt = 1 + sum(review.verdict != "grader_error" for review in before)
        try:
            with boundary("grader"):
                made = self._panel.review(task, output, work.text, work.seconds)
        except TrialError as e:
            return Review(verdict="grader_error", attempt=attempt, detail=f"{e.error_class}: {e}")
        return made.model_copy(update={"attempt": attempt, "marks": seen(made.marks, before, attempt)})

    def warnings(self, makers: Collection[str]) -> tuple[str, ...]:
        """What makes its verdicts doubtful. *makers*: names of the models whose work it reviews."""
        return self.judge.warnings(makers) if self.judge else ()


@dataclass(frozen=True)
class RubricGrader:
    """Scores the share of criteria that pass, by weight; 0 where one of *must* does not.

    A criterion that nobody came to look at does not pass: the judge is not asked about what the checks refuse, nor a
    person about what either does.
    """

    checks: Sequence[Checker] = ()
    judge: Judge | None = None
    person: Person | None = None
    weights: Mapping[str, float] = field(default_factory=dict[str, float])
    """Criterion → what it counts, 1 where it is not named."""
    must: Collection[str] = ()
    """Criteria without which all others are worth nothing."""
    sandbox: Sandbox | None = None
    worktree: Worktree | None = None
    judge_when: When = "checks-pass"
    seconds: float = 120.0
    """How long a command of a check may take."""

    def __post_init__(self) -> None:
        check_panel(self._panel)
        known = self._panel.criteria
        if unknown := sorted({*self.weights, *self.must} - set(known)):
            raise UserError(f"no criterion is called {unknown[0]!r}, so it cannot count. There are: {', '.join(known)}")
        if min(self.weights.values(), default=0) < 0 or sum(self._weights.values()) <= 0:
            raise UserError("a weight is at least 0 and one of them above it, or there is no score between 0 and 1")

    @property
    def _panel(self) -> Panel:
        return Panel(self.checks, self.judge, self.person, self.judge_when, self.sandbox, self.worktree)

    @property
    def _weights(self) -> dict[str, float]:
        return {criterion: self.weights.get(criterion, 1.0) for criterion in self._panel.criteria}

    def grade(self, task: Task, output: str) -> Grade:
        """The share of the rubric that *output* meets.

        Raises:
            ModelError: the judge cannot be asked; the trial is lost, not a zero.
            TrialError: it cannot be told, or the rubric itself is bad.
        """
        review = self._panel.review(task, output, {}, self.seconds)
        if review.verdict == "failed":
            raise TrialError(
                "grader", "bad_rubric", f"the judge says that its rubric cannot be applied: {review.detail}"
            )
        wrong = {mark.criterion for mark in review.marks if not mark.passed}
        right = {mark.criterion for mark in review.marks} - wrong
        weights = self._weights
        share = sum(weights[criterion] for criterion in weights if criterion in right) / sum(weights.values())
        spoiled = PATCH in wrong or any(criterion not in right for criterion in self.must)
        return Grade(score=0.0 if spoiled else min(1.0, share), reason=reason_of(review.marks, task))


def check_panel(panel: Panel) -> None:
    """Raise ``UserError`` for a rubric that nothing could be told by."""
    criteria = panel.criteria
    if not criteria:
        raise UserError("a rubric without checks and without a judge is met by anything. Give it checks=(…) or judge=…")
    for criterion in criteria:
        if criteria.count(criterion) > 1 or criterion == PATCH:
            raise UserError(f"two criteria are called {criterion!r}, so nobody could tell which failed. Rename one")


def reason_of(marks: Iterable[Mark], task: Task) -> str:
    """What to learn from *marks*: the criteria that failed in the first line, then a line for each fault."""
    faults = [mark for mark in marks if not mark.passed]
    if not faults:
        return "every criterion passes"
    lines = [
        f"- {m.criterion}: {m.because}" + (f" | {' '.join(m.excerpt.split())}" if m.excerpt else "") for m in faults
    ]
    return "\n".join(
        [f"failed: {', '.join(sorted({m.criterion for m in faults}))}", *(untold(line, task) for line in lines)]
    )


def untold(line: str, task: Task) -> str:
    """*line*; only its beginning where the rest would tell an answer that is accepted."""
    said = f" {normalised(line)} "
    tells = any(f" {normalised(target)} " in said for target in task.targets if normalised(target))
    return line.partition(":")[0] if tells else line
