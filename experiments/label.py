"""``ratchet label`` and ``ratchet calibrate``: what people say about outputs, and how far a judge agrees with them."""

import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from experiments.inbox import barred, whoami
from harness.errors import UserError
from harness.experiment import find_experiment
from harness.labels import FILE, append_labels, import_labels, label_id, load_labels, new_among
from harness.ledger import journal_file, runs
from traces.errors import JournalLocked
from traces.journal import read
from traces.records import Label, Span, Trial, now

if TYPE_CHECKING:
    from experiments.cli import Place
    from harness.text import Criterion, Rubric

SHOWN = 8000
"""Characters of an output, and of what was asked, that are shown."""
ANSWERS = {"y": True, "yes": True, "n": False, "no": False}

Name = Annotated[str, typer.Argument(metavar="NAME", help="The experiment: experiments/NAME/experiment.py")]
RubricFile = Annotated[Path | None, typer.Option("--rubric", help="TOML; default: that of the experiment's judge")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout; its field names are stable")]


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
    from experiments.calibration import is_of_a_rubric, rubric_of  # here: what runs a judge takes a while to import
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
    outputs = labelled_before(known) if is_of_a_rubric(place.experiment) else made_by(place)
    todo = unlabelled(outputs, known, who, by)
    if not todo:
        say(f"nothing is left to label: {len({label.id for label in known})} outputs are labelled in {path}")
        return
    say(f"{len(todo)} outputs to label. y passes, n does not, s skips, b goes back, q ends; each is kept at once.")
    session = Session(todo, by.criteria, known, who, ask=asked_at_terminal, show=say, path=path)
    say(f"{session.run()} outputs labelled, kept in {path}. How far a judge agrees: ratchet calibrate {name}")


def labelled_before(known: Sequence[Label]) -> list[Output]:
    """Where a rubric is the subject, what it judges is what people have labelled: for others to label, too."""
    return [Output(each.asked, each.output, each.trial, each.maker) for each in known]


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


def unlabelled(outputs: Sequence[Output], known: Sequence[Label], who: str, rubric: "Rubric") -> list[Output]:
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
    criteria: Sequence["Criterion"]
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


def question_of(criterion: "Criterion") -> str:
    return f"{criterion.id}: {criterion.question} It passes with: {', '.join(criterion.passes)}. [y/n/s/b/q] "


# ── calibrate ──────────────────────────────────────────────────────────────────────────────────────────────────────


def calibrate(
    name: Name,
    rubric: RubricFile = None,
    model: Annotated[str | None, typer.Option(help="PROVIDER:MODEL; default: that of the experiment's judge")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge all labelled outputs; say how far the judge agrees with people, and what sways it besides the work."""
    from experiments.calibration import AGAIN, Measurement, judge_of, told
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
