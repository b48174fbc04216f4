"""A judge against people: what it says of outputs that they have labelled, as a run of its own."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from analysis.agreement import bias_in_words, cautions, disagreement, in_words, meaning_of, mistakes
from analysis.report import count
from experiments.place import read_journal
from harness.agreement import Pair, Verdict, agreement, length_bias, own_model_bias, position_bias
from harness.check import held_by
from harness.errors import UserError
from harness.experiment import Experiment, digest, meaning
from harness.gate.metric import MetricGate
from harness.graders.agreement import AgreementGrader, Costs, marks_of, read_marks
from harness.graders.judge import Judge
from harness.labels import agreed_marks, between_people, tasks_from_labels
from harness.ledger import Ledger, open_next_aside
from harness.runners.judging import RUBRIC, FixedJudge, JudgingRunner, ReversedJudge, shown_in
from harness.text import Rubric, parse_rubric
from harness.trials import DurableTrials
from traces.errors import BadLine
from traces.journal import read
from traces.places import spool
from traces.records import Calibration, Label, Trial, now

if TYPE_CHECKING:
    from experiments.cli import Place

AGAIN = 60
"""Outputs that are judged again in the other order, at most."""
DEEPEST = 8
"""Levels of fields that a judge is looked for in."""


# ── what an experiment judges by ───────────────────────────────────────────────────────────────────────────────────


def judge_of(place: "Place", rubric: Path | None, model: str | None) -> Judge:
    """The experiment's judge, by another *rubric* or with another *model* where they are given.

    Raises:
        UserError: it has none, and what is given does not make one.
    """
    found = next(judges_in(place.experiment.grader, place.experiment.runner), None)
    runner = place.experiment.runner
    if found is None and isinstance(runner, JudgingRunner):
        text = place.subject.text(place.subject.live().id)
        found = Judge(runner.model, parse_rubric(text[RUBRIC], RUBRIC), wording=runner.wording)
    if found is not None:
        changes: dict[str, Any] = {} if rubric is None else {"rubric": given_rubric(rubric)}
        return dataclasses.replace(found, **changes, **({} if model is None else {"model": model}))
    if rubric is None or model is None:
        raise UserError(
            f"experiment {place.name!r} has no judge, so it is not known whom to measure. Name both: "
            f"ratchet calibrate {place.name} --rubric FILE --model PROVIDER:MODEL"
        )
    return Judge(model, given_rubric(rubric))


def given_rubric(path: Path) -> Rubric:
    """That of ``--rubric``.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        return parse_rubric(path.read_text(encoding="utf-8"), path.name)
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"--rubric {path} cannot be read ({e}). Name a TOML file with [[criteria]]") from e


def rubric_of(place: "Place", given: Path | None) -> Rubric:
    """What people are asked by."""
    if given is not None:
        return given_rubric(given)
    try:
        found = judge_of(place, None, None).rubric
    except UserError as e:
        raise UserError(
            f"experiment {place.name!r} has no judge, so there are no criteria to label by. Name the file that holds "
            f"them: ratchet label {place.name} --rubric FILE"
        ) from e
    assert isinstance(found, Rubric)
    return found


def judges_in(*parts: object) -> Iterator[Judge]:
    """The judges that *parts* hold, in their fields and theirs."""
    seen: set[int] = set()
    todo = [(part, DEEPEST) for part in parts]
    while todo:
        value, depth = todo.pop(0)
        if id(value) in seen or not depth:
            continue
        seen.add(id(value))
        if isinstance(value, Judge):
            yield value
        todo += [(inner, depth - 1) for inner in held_by(value)]


def is_of_a_rubric(experiment: Experiment) -> bool:
    """Is a rubric what it improves?"""
    return isinstance(experiment.runner, JudgingRunner)


# ── calibrate ──────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Measurement:
    """A judge, and the labelled outputs that it is to judge, as an experiment of its own that tries nothing."""

    judge: Judge
    experiment: Experiment

    @classmethod
    def of(cls, experiment: Experiment, judge: Judge, labels: Sequence[Label]) -> "Measurement":
        """*experiment*: whose limits hold, but for that in trials: judging is no attempt at a task.

        Raises:
            UserError: nobody has labelled by any criterion of the judge.
        """
        marked = {criterion for label in labels for criterion in label.marks}
        criteria = [criterion.id for criterion in judge.criteria if agreed_marks(labels, criterion.id)]
        if not criteria:
            raise UserError(
                f"the rubric asks for {', '.join(c.id for c in judge.criteria)}, and people have labelled by "
                f"{', '.join(sorted(marked)) or 'nothing'}: nothing can be compared. Label by that rubric: "
                f"ratchet label {experiment.name} --rubric FILE"
            )
        # as of a hidden split: what was labelled stands in the journal by its id alone
        tasks = [task.model_copy(update={"split": "test"}) for task in tasks_from_labels(labels, criteria)]
        own = dataclasses.replace(
            experiment,
            tasks=tasks,
            runner=FixedJudge(judge),
            grader=AgreementGrader({"test": dict.fromkeys(criteria, Costs(1.0, 1.0))}),
            gate=MetricGate("agreement", "higher"),
            budget=dataclasses.replace(experiment.budget, trials=None, rounds=experiment.budget.rounds or 1),
        )
        return cls(judge, own)

    @property
    def judge_name(self) -> str:
        assert not isinstance(self.judge.model, str)
        return self.judge.model.name

    def open(self, directory: Path, live: str) -> Ledger:
        """The journal of the calibration that was cut off, or of a new one.

        Raises:
            JournalLocked: another process is at it.
        """
        name = digest(meaning(self.experiment.fingerprint()))[:10]

        def is_over(journal: Path) -> bool:
            return read_journal(journal) is not None and any(line.type == "Calibration" for line in read(journal))

        return open_next_aside(directory, self.experiment, live, "calibration", name, is_over)

    def make(self, ledger: Ledger, executor: Executor) -> tuple[Calibration, list[Verdict]]:
        """Judge each output, and some of them once more in the other order.

        Raises:
            BudgetSpent: a limit of the experiment was reached; what was judged is kept.
        """
        tasks = {task.id: task for task in self.experiment.tasks}
        trials = DurableTrials(self.experiment, ledger, no_text, executor, "calibration")
        first = marks_in(trials.attempt([rubric_digest(self.judge)], list(tasks.values()))[0])
        turned = dataclasses.replace(self.experiment, runner=FixedJudge(ReversedJudge.of(self.judge)))
        trials = DurableTrials(turned, ledger, no_text, executor, "calibration/reversed")
        sample = [tasks[id] for id in sorted(first)[:AGAIN]]  # ids are digests: as good as drawn by lot
        other = marks_in(trials.attempt([rubric_digest(self.judge)], sample)[0])
        verdicts = [
            Verdict(id, criterion, said[criterion], mark, len(shown_in(tasks[id])[1]), "".join(tasks[id].tags))
            for id, said in first.items()
            for criterion, mark in marks_of(tasks[id]).items()
        ]
        biases = (length_bias(verdicts), position_bias(first, other), own_model_bias(verdicts, self.judge_name))
        found = Calibration(
            id=f"{ledger.run.id}/calibration",
            experiment=self.experiment.name,
            rubric=rubric_digest(self.judge),
            judge=self.judge_name,
            outputs=len(first),
            unjudged=len(tasks) - len(first),
            agreements=tuple(agreement(c, pairs) for c, pairs in pairs_by_criterion(verdicts).items()),
            biases=biases,
            usage=ledger.usage,
            judged=now(),
        )
        return ledger.step("calibration", lambda: found, durable=True), verdicts


def no_text(version: str) -> dict[str, str]:
    """A judge that is measured by itself goes by no version."""
    return {}


def marks_in(trials: Mapping[str, Sequence[Trial]]) -> dict[str, dict[str, bool]]:
    """Output → what was said of it, of those of which anything was."""
    said = {id: read_marks(found[-1].output or "") for id, found in trials.items() if found[-1].error is None}
    return {id: marks for id, marks in said.items() if marks is not None}


def pairs_by_criterion(verdicts: Sequence[Verdict]) -> dict[str, list[Pair]]:
    found: dict[str, list[Pair]] = {}
    for verdict in verdicts:
        found.setdefault(verdict.criterion, []).append(verdict.pair)
    return found


def rubric_digest(judge: Judge) -> str:
    """Of the rubric and of what the judge is told around it: with another one, scores are on another scale."""
    assert isinstance(judge.rubric, Rubric)
    return digest([judge.rubric.model_dump(), dict(judge.wording)])


def told(
    found: Calibration, verdicts: Sequence[Verdict], labels: Sequence[Label], criteria: Sequence[str] = ()
) -> Iterator[str]:
    """What a calibration comes to, for a person. *criteria*: those of the rubric, labelled or not."""
    silent = f"; to {found.unjudged} more it gave no verdict" if found.unjudged else ""
    yield f"{found.judge} by rubric {found.rubric[:8]}, on {count(found.outputs, 'labelled output')}{silent}"
    pairs = pairs_by_criterion(verdicts)
    doubts = {each.criterion: [*cautions(each.criterion, pairs[each.criterion])] for each in found.agreements}
    for each in found.agreements:
        yield ""
        yield in_words(each)
        yield f"  {mistakes(pairs[each.criterion])}"
        if each.kappa is None or not doubts[each.criterion]:
            yield f"  {meaning_of(each)}"
        if between := between_people(labels, each.criterion):
            yield f"  people with each other: {in_words(agreement(each.criterion, between)).partition(': ')[2]}"
    yield ""
    yield "What sways it besides the work:"
    for bias in found.biases:
        yield f"  {bias_in_words(bias)}"
    if lines := [*itertools.chain.from_iterable(doubts.values()), *not_compared(found, labels, criteria)]:
        yield ""
        yield from lines
    yield ""
    yield (
        "Another rubric, or another model, is another scale: scores that they give are never compared with these. "
        f"{count(found.usage.calls, 'call')}, {count(found.usage.tokens, 'token')}"
        + ("." if found.usage.dollars is None else f", ${found.usage.dollars:.2f}.")
    )


def not_compared(found: Calibration, labels: Sequence[Label], criteria: Sequence[str]) -> Iterator[str]:
    """The *criteria* of which nothing is known, and why."""
    left_out = [criterion for criterion in criteria if all(each.criterion != criterion for each in found.agreements)]
    marked = {criterion for label in labels for criterion in label.marks}
    agreed = {criterion for criterion in left_out if agreed_marks(labels, criterion)}
    for why, names in (
        ("not labelled", [name for name in left_out if name not in marked]),
        ("people do not agree on any output", [name for name in left_out if name in marked - agreed]),
        ("no verdict on any labelled output", [name for name in left_out if name in agreed]),
    ):
        if names:
            yield f"{why}: {', '.join(names)}"


def latest_calibration(directory: Path, name: str, judge: Judge | None = None) -> Calibration | None:
    """The last one of experiment *name*: of this *judge* by this rubric, if there was one, else by whatever rubric and
    model; ``None``: there was none."""
    found: list[Calibration] = []
    for path in spool(directory).glob(f"{name}-calibration-*.jsonl"):
        with suppress(BadLine):
            found += [cast(Calibration, line.record()) for line in read(path) if line.type == "Calibration"]
    return max(
        (each for each in found if each.experiment == name),
        key=lambda each: (judge is not None and is_of(each, judge), each.judged),
        default=None,
    )


def is_of(found: Calibration, judge: Judge) -> bool:
    """Was this very *judge* measured, by this very rubric?"""
    assert not isinstance(judge.model, str)
    return (found.rubric, found.judge) == (rubric_digest(judge), judge.model.name)


def about_the_judge(place: "Place") -> Iterator[str]:
    """What ``ratchet check`` says of the experiment's judge, if it has one: how often people say otherwise."""
    try:
        judge = judge_of(place, None, None)
    except UserError:
        return
    assert not isinstance(judge.model, str)
    found = latest_calibration(place.directory, place.name, judge)
    if found is None:
        yield (
            f"How far the judge {judge.model.name} agrees with people is not known. Label some outputs, then measure: "
            f"ratchet label {place.name}; ratchet calibrate {place.name}"
        )
    elif not is_of(found, judge):
        yield (
            f"The judge was only calibrated with another rubric or model ({found.judge}, rubric {found.rubric[:8]}), "
            f"which says nothing of this one. Measure it: ratchet calibrate {place.name}"
        )
    else:
        yield from disagreement(found)
