"""``ratchet label`` and ``ratchet calibrate``: what people say about outputs, and how far a judge agrees with them."""

import dataclasses
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from analysis.agreement import bias_in_words, cautions, disagreement, in_words, meaning_of, mistakes
from experiments.inbox import barred, whoami
from harness.agreement import (
    Pair,
    Verdict,
    agreement,
    length_bias,
    own_model_bias,
    position_bias,
)
from harness.check import held_by
from harness.errors import UserError
from harness.experiment import Experiment, digest, find_experiment, meaning
from harness.gate.metric import MetricGate
from harness.graders.agreement import AgreementGrader, Costs, marks_of, read_marks
from harness.graders.judge import Judge, listed, read_rubric
from harness.labels import (
    FILE,
    append_labels,
    between_people,
    import_labels,
    label_id,
    load_labels,
    new_among,
    tasks_from_labels,
)
from harness.ledger import Ledger, journal_file, open_aside, runs
from harness.runners.judging import RUBRIC, FixedJudge, JudgingRunner, ReversedJudge, shown_in
from harness.text import Criterion, Rubric, parse_rubric
from harness.trials import DurableTrials
from traces.errors import BadLine, JournalLocked
from traces.journal import read
from traces.places import spool
from traces.records import Calibration, Label, Span, Trial, now

if TYPE_CHECKING:
    from experiments.cli import Place

SHOWN = 8000
"""Characters of an output, and of what was asked, that are shown."""
AGAIN = 60
"""Outputs that are judged again in the other order, at most."""
DEEPEST = 8
"""Levels of fields that a judge is looked for in."""
ANSWERS: Mapping[str, bool] = {"y": True, "yes": True, "n": False, "no": False}

Name = Annotated[str, typer.Argument(metavar="NAME", help="The experiment: experiments/NAME/experiment.py")]
RubricFile = Annotated[Path | None, typer.Option("--rubric", help="TOML; default: that of the experiment's judge")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout; its field names are stable")]


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
        changes: dict[str, Any] = {} if rubric is None else {"rubric": read_rubric(rubric)}
        return dataclasses.replace(found, **changes, **({} if model is None else {"model": model}))
    if rubric is None or model is None:
        raise UserError(
            f"experiment {place.name!r} has no judge, so it is not known whom to measure. Name both: "
            f"ratchet calibrate {place.name} --rubric FILE --model PROVIDER:MODEL"
        )
    return Judge(model, rubric)


def rubric_of(place: "Place", given: Path | None) -> Rubric:
    """What people are asked by."""
    if given is not None:
        return read_rubric(given)
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


def labels_file(name: str) -> Path:
    return find_experiment(name, Path.cwd()).with_name(FILE)


# ── label ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Output:
    """Something that can be labelled."""

    asked: str
    output: str
    trial: str | None = None
    maker: str = ""
    score: float | None = None

    @property
    def id(self) -> str:
        return label_id(self.asked, self.output)


def label(
    name: Name,
    rubric: RubricFile = None,
    taken_from: Annotated[
        Path | None, typer.Option("--import", help="Take labels over from a CSV or JSONL file")
    ] = None,
    who: Annotated[str | None, typer.Option(help="Whose labels; default: git's name and address")] = None,
) -> None:
    """Say of outputs whether they pass, criterion by criterion: the measure of whoever judges them."""
    from experiments.cli import Place, say

    place = Place.of(name)
    path, by, who = labels_file(name), rubric_of(place, rubric), who or whoami()
    known = load_labels(path) if path.exists() else []
    if taken_from is not None:
        found, unmarked = import_labels(taken_from, who, [criterion.id for criterion in by.criteria])
        new = new_among(found, known)
        append_labels(path, new)
        left_out = f"; {unmarked} rows mark nothing" if unmarked else ""
        say(f"{len(new)} labels taken over, {len(found) - len(new)} were there already{left_out}: {path}")
        return
    is_rubric = isinstance(place.experiment.runner, JudgingRunner)
    outputs = (
        [Output(each.asked, each.output, each.trial, each.maker) for each in known] if is_rubric else made_by(place)
    )
    todo = unlabelled(outputs, known, who, by)
    if not todo:
        say(f"nothing is left to label: {len({label.id for label in known})} outputs are labelled in {path}")
        return
    say(f"{len(todo)} outputs to label. y passes, n does not, s skips, b goes back, q ends; each is kept at once.")
    session = Session(todo, by.criteria, known, who, ask=asked_at_terminal, show=say, path=path)
    say(f"{session.run()} outputs labelled, kept in {path}. How far a judge agrees: ratchet calibrate {name}")


def made_by(place: "Place") -> list[Output]:
    """What the last run's train trials made: what is hidden stays out of a file beside the experiment.

    Raises:
        UserError: it has not run yet.
    """
    known = runs(place.directory, place.name)
    if not known:
        raise UserError(
            f"{place.name!r} has not run yet, so there are no outputs to label. Start: ratchet run {place.name}"
        )
    journal = journal_file(place.directory, known[-1])
    asked = {task.id: task.input for task in place.experiment.split("train")}
    makers: dict[str, str] = {}
    found: dict[str, Output] = {}
    for line in read(journal):
        if line.type == "Span" and line.data.get("operation") == "chat":
            span = cast(Span, line.record())
            if span.trial is not None and span.role in ("", "maker"):
                makers[span.trial] = span.name
        elif line.type == "Trial" and line.data.get("split") == "train":
            trial = cast(Trial, line.record())
            if trial.output is not None and trial.task in asked:
                score = trial.grade.score if trial.grade is not None else None
                each = Output(asked[trial.task], trial.output, trial.id, makers.get(trial.id, ""), score)
                found.setdefault(each.id, each)
    return list(found.values())


def unlabelled(outputs: Sequence[Output], known: Sequence[Label], who: str, rubric: Rubric) -> list[Output]:
    """Those that *who* has not marked by each criterion, in the same order each time."""
    marked = {label.id: set(label.marks) for label in known if label.who == who}
    wanted = {criterion.id for criterion in rubric.criteria}
    return [output for output in in_turns(outputs) if wanted - marked.get(output.id, set())]


def in_turns(outputs: Sequence[Output]) -> list[Output]:
    """Bad, middling and good ones by turns, so that there is some of each however few are labelled; within a turn the
    order tells nothing of the score."""
    strata: dict[float | None, list[Output]] = {}
    for output in sorted({output.id: output for output in outputs}.values(), key=lambda output: output.id):
        strata.setdefault(output.score if output.score in (None, 0, 1) else 0.5, []).append(output)
    turns = itertools.zip_longest(*strata.values())
    return [o for turn in turns for o in sorted((o for o in turn if o is not None), key=lambda o: o.id)]


def asked_at_terminal(question: str) -> str:
    """What the person types; ``q`` where nobody is there any more."""
    sys.stdout.write(question)
    sys.stdout.flush()
    line = sys.stdin.readline()
    return line.strip().lower() if line else "q"


@dataclass
class Session:
    """One person, labelling. What is answered of an output is kept when they leave it, however they do."""

    outputs: Sequence[Output]
    criteria: Sequence[Criterion]
    known: Sequence[Label]
    who: str
    ask: Callable[[str], str]
    show: Callable[[str], None]
    path: Path
    marks: dict[str, dict[str, bool]] = field(default_factory=dict[str, dict[str, bool]])
    """Output → what is answered, and not kept yet."""

    def run(self) -> int:
        """Ask until they end it; how many outputs they labelled."""
        before = {label.id: label.marks for label in self.known if label.who == self.who}
        questions = [
            (at, criterion)
            for at, output in enumerate(self.outputs)
            for criterion in self.criteria
            if criterion.id not in before.get(output.id, {})
        ]
        labelled: set[str] = set()
        step, shown = 0, -1
        try:
            while step < len(questions):
                at, criterion = questions[step]
                output = self.outputs[at]
                if at != shown:
                    labelled |= self.keep()
                    self.display(at)
                    shown = at
                said = self.ask(question_of(criterion))
                if said == "q":
                    break
                if said == "b":
                    step = max(step - 1, 0)
                elif said in ANSWERS:
                    self.marks.setdefault(output.id, {})[criterion.id] = ANSWERS[said]
                    step += 1
                elif said == "s":
                    self.marks.get(output.id, {}).pop(criterion.id, None)
                    step += 1
                else:
                    self.show("y: it passes, n: it does not, s: skip, b: back, q: end")
        finally:
            labelled |= self.keep()
        return len(labelled)

    def keep(self) -> set[str]:
        """Write down what was answered since; the outputs that it is about."""
        made = [
            Label(
                id=output.id,
                asked=output.asked,
                output=output.output,
                marks=dict(self.marks[output.id]),
                who=self.who,
                labelled=now(),
                trial=output.trial,
                maker=output.maker,
            )
            for output in self.outputs
            if self.marks.get(output.id)
        ]
        append_labels(self.path, made)
        self.marks.clear()
        return {label.id for label in made}

    def display(self, at: int) -> None:
        output = self.outputs[at]
        self.show(f"\n── {at + 1} of {len(self.outputs)} ──\nasked")
        self.show("\n".join(barred(cut(output.asked))))
        self.show("output")
        self.show("\n".join(barred(cut(output.output))))


def cut(text: str) -> str:
    more = len(text) - SHOWN
    return text if more <= 0 else f"{text[:SHOWN]}\n… and {more} characters more: skip it, or see it with ratchet show"


def question_of(criterion: Criterion) -> str:
    return f"{criterion.id}: {criterion.question} It passes with {listed(criterion.passes)}. [y/n/s/b/q] "


# ── calibrate ──────────────────────────────────────────────────────────────────────────────────────────────────────


def calibrate(
    name: Name,
    rubric: RubricFile = None,
    model: Annotated[str | None, typer.Option(help="PROVIDER:MODEL; default: that of the experiment's judge")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge all labelled outputs; say how far the judge agrees with people, and what sways it besides the work."""
    from experiments.cli import Place, closing_run, err, limited, say, say_json

    place = Place.of(name)
    labels, judge = load_labels(labels_file(name)), judge_of(place, rubric, model)
    measured = Measurement.of(place.experiment, judge, labels)
    try:
        ledger = measured.open(place.directory, place.subject.live().id)
    except JournalLocked as e:
        raise UserError(f"{name} is being calibrated already: {e}") from e
    again = min(len(measured.experiment.tasks), AGAIN)
    err.print(
        f"calibrating {measured.judge_name}: {len(measured.experiment.tasks)} labelled outputs to judge, {again} of "
        "them once more in another order",
        markup=False,
        highlight=False,
    )
    with closing_run(place, ledger) as executor, limited():
        found, verdicts = measured.make(ledger, executor)
    if as_json:
        say_json(found.model_dump())
        return
    for line in told(found, verdicts, labels):
        say(line)


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
        criteria = [criterion.id for criterion in judge.criteria if criterion.id in marked]
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

        def journal(number: int) -> Path:
            return journal_file(directory, f"{self.experiment.name}-calibration-{name}-{number}")

        last = next(number for number in itertools.count(1) if not journal(number + 1).exists())
        is_over = journal(last).exists() and any(line.type == "Calibration" for line in read(journal(last)))
        return open_aside(directory, self.experiment, live, "calibration", f"{name}-{last + is_over}")

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


def told(found: Calibration, verdicts: Sequence[Verdict], labels: Sequence[Label]) -> Iterator[str]:
    """What a calibration comes to, for a person."""
    silent = f"; to {found.unjudged} more it gave no verdict" if found.unjudged else ""
    yield f"{found.judge} by rubric {found.rubric[:8]}, on {found.outputs} labelled outputs{silent}"
    pairs = pairs_by_criterion(verdicts)
    for each in found.agreements:
        yield ""
        yield in_words(each)
        yield f"  {mistakes(pairs[each.criterion])}"
        yield f"  {meaning_of(each)}"
        if between := between_people(labels, each.criterion):
            yield f"  people with each other: {in_words(agreement(each.criterion, between)).partition(': ')[2]}"
    yield ""
    yield "What sways it besides the work:"
    for bias in found.biases:
        yield f"  {bias_in_words(bias)}"
    unlabelled = [line for each in found.agreements for line in cautions(each.criterion, pairs[each.criterion])]
    if unlabelled:
        yield ""
        yield from unlabelled
    yield ""
    yield (
        "Another rubric, or another model, is another scale: scores that they give are never compared with these. "
        f"{found.usage.calls} calls, {found.usage.tokens:,} tokens"
        + ("." if found.usage.dollars is None else f", ${found.usage.dollars:.2f}.")
    )


def latest_calibration(directory: Path, name: str) -> Calibration | None:
    """The last one of experiment *name*, by whatever rubric and judge; ``None``: there was none."""
    found: list[Calibration] = []
    for path in spool(directory).glob(f"{name}-calibration-*.jsonl"):
        with suppress(BadLine):
            found += [cast(Calibration, line.record()) for line in read(path) if line.type == "Calibration"]
    return max((each for each in found if each.experiment == name), key=lambda each: each.judged, default=None)


def about_the_judge(place: "Place") -> Iterator[str]:
    """What ``ratchet check`` says of the experiment's judge, if it has one: how often people say otherwise."""
    try:
        judge = judge_of(place, None, None)
    except UserError:
        return
    assert not isinstance(judge.model, str)
    found = latest_calibration(place.directory, place.name)
    if found is None:
        yield (
            f"How far the judge {judge.model.name} agrees with people is not known. Label some outputs, then measure: "
            f"ratchet label {place.name}; ratchet calibrate {place.name}"
        )
    elif (found.rubric, found.judge) != (rubric_digest(judge), judge.model.name):
        yield (
            f"The judge was calibrated last with another rubric or model ({found.judge}, rubric {found.rubric[:8]}), "
            f"which says nothing of this one. Measure it: ratchet calibrate {place.name}"
        )
    else:
        yield from disagreement(found)
