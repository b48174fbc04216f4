"""``ratchet label`` and ``ratchet calibrate``: what people say about outputs, and how far a judge agrees with them."""

import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from analysis.report import count
from experiments.inbox import barred, whoami
from experiments.place import read_journal
from harness.errors import UserError
from harness.experiment import find_experiment
from harness.labels import (
    FILE,
    Import,
    Line,
    append_labels,
    append_lines,
    import_labels,
    label_id,
    load_labels,
    merged,
    new_among,
    read_lines,
    standing,
)
from harness.ledger import journal_file, runs
from traces.errors import JournalLocked
from traces.journal import read
from traces.records import Label, Span, Trial, now

if TYPE_CHECKING:
    from experiments.cli import Place
    from harness.text import Criterion, Rubric

SHOWN = 8000
"""Characters of an output, and of what was asked, that are shown."""
KEYS = "y: it passes, n: it does not, s: skip it, or take back what you said, b: back, q: end"
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
    lines = read_lines(path) if path.exists() else []
    known = merged(standing(lines))
    if taken_from is not None:
        found = import_labels(taken_from, who, [criterion.id for criterion in by.criteria])
        new = new_among(found.labels, lines)
        append_labels(path, new)
        say(f"{taken_over(found, new, known)}: {path}")
        return
    outputs = labelled_before(known) if is_of_a_rubric(place.experiment) else made_by(place)
    todo = unlabelled(outputs, known, who, by)
    if not todo:
        say(f"nothing is left to label: {outputs_labelled(len({label.id for label in known}))} in {path}")
        return
    say(f"{count(len(todo), 'output')} to label. {KEYS}. Each is kept at once.")
    session = Session(todo, by.criteria, known, who, ask=asked_at_terminal, show=say, path=path)
    done = count(session.run(), "output")
    say(f"{done} labelled, kept in {path}. How far a judge agrees: ratchet calibrate {name}")


def taken_over(found: Import, new: Sequence[Label], known: Sequence[Label]) -> str:
    """What became of an import, in words."""
    marks = {(label.id, label.who): label.marks.items() for label in known}
    there = sum(label.marks.items() <= marks.get((label.id, label.who), {}.items()) for label in found.labels)
    older = len(found.labels) - len(new) - there
    parts = [f"{count(len(new), 'label')} taken over, {there} {'was' if there == 1 else 'were'} there already"]
    if older:
        parts.append(f"{count(older, 'label')} left out as older than what the same person says now")
    if found.unmarked:
        parts.append(f"{count(found.unmarked, 'row')} {'marks' if found.unmarked == 1 else 'mark'} nothing")
    if found.contradicting:
        verb = "contradicts" if found.contradicting == 1 else "contradict"
        parts.append(
            f"{count(found.contradicting, 'row')} {verb} a row above of the same person (the newer one counts, of two "
            "as old the one below)"
        )
    return "; ".join(parts)


def outputs_labelled(n: int) -> str:
    return f"{count(n, 'output')} {'is' if n == 1 else 'are'} labelled"


def labelled_before(known: Sequence[Label]) -> list[Output]:
    """Where a rubric is the subject, what it judges is what people have labelled: for others to label, too."""
    return [Output(each.asked, each.output, each.trial, each.maker) for each in known]


def made_by(place: "Place") -> list[Output]:
    """What the last run's train trials made: what is hidden stays out of a file beside the experiment.

    Raises:
        UserError: it has not run yet, its journal is damaged, or it made none.
    """
    known = runs(place.directory, place.name)
    if not known:
        raise UserError(
            f"{place.name!r} has not run yet, so there are no outputs to label. Start: ratchet run {place.name}"
        )
    journal = journal_file(place.directory, known[-1])
    read_journal(journal)  # says what to do with one that is damaged
    asked = {task.id: task.input for task in place.experiment.split("train")}
    makers: dict[str, str] = {}
    found: dict[str, Output] = {}
    ended = 0
    for line in read(journal):
        if line.type == "Span" and line.data.get("operation") == "chat":
            span = cast(Span, line.record())
            if span.trial is not None and span.role in ("", "maker"):
                makers[span.trial] = span.name
        elif line.type == "Trial" and line.data.get("split") == "train":
            trial = cast(Trial, line.record())
            ended += 1
            if trial.output is not None and trial.task in asked:
                score = trial.grade.score if trial.grade is not None else None
                each = Output(asked[trial.task], trial.output, trial.id, makers.get(trial.id, ""), score)
                found.setdefault(each.id, each)
    if not ended:
        raise UserError(
            f"no trial of the last run, {known[-1]}, has ended yet, so there are no outputs to label. Let it go on: "
            f"ratchet run {place.name}"
        )
    if not found:
        raise UserError(
            f"{count(ended, 'trial')} of the last run, {known[-1]}, ended, none with an output to a task that there "
            f"is now, so there is nothing to label. What went wrong: ratchet report {place.name}"
        )
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
    """Output → what is answered."""
    kept: dict[str, dict[str, bool]] = field(default_factory=dict[str, dict[str, bool]])
    """Output → what of this session stands in the file."""

    def run(self) -> int:
        """Ask until they end it; how many outputs they labelled."""
        before = {label.id: label.marks for label in self.known if label.who == self.who}
        questions = [
            (at, criterion)
            for at, output in enumerate(self.outputs)
            for criterion in self.criteria
            if criterion.id not in before.get(output.id, {})
        ]
        step, shown = 0, -1
        try:
            while step < len(questions):
                at, criterion = questions[step]
                if at != shown:
                    self.keep()
                    self.display(at)
                    shown = at
                marks = self.marks.setdefault(self.outputs[at].id, {})
                said = self.ask(question_of(criterion, marks.get(criterion.id)))
                if said == "q":
                    break
                if said == "b":
                    step = max(step - 1, 0)
                elif said in ANSWERS:
                    marks[criterion.id] = ANSWERS[said]
                    step += 1
                elif said == "s":
                    marks.pop(criterion.id, None)
                    step += 1
                else:
                    self.show(KEYS)
        finally:
            self.keep()
        return sum(map(bool, self.kept.values()))

    def keep(self) -> None:
        """Write down what was answered, answered otherwise or taken back since."""
        changed: list[Line] = []
        for output in self.outputs:
            marks, kept = self.marks.get(output.id, {}), self.kept.get(output.id, {})
            if marks == kept:
                continue
            label = Label(
                id=output.id,
                asked=output.asked,
                output=output.output,
                marks={criterion: mark for criterion, mark in marks.items() if kept.get(criterion) != mark},
                who=self.who,
                labelled=now(),
                trial=output.trial,
                maker=output.maker,
            )
            changed.append(Line(label, frozenset(kept.keys() - marks.keys())))
        append_lines(self.path, changed)
        self.kept = {output: dict(marks) for output, marks in self.marks.items()}

    def display(self, at: int) -> None:
        output = self.outputs[at]
        self.show(f"\n── {at + 1} of {len(self.outputs)} ──\nasked")
        self.show("\n".join(barred(cut(output.asked))))
        self.show("output")
        self.show("\n".join(barred(cut(output.output))))


def cut(text: str) -> str:
    more = len(text) - SHOWN
    return text if more <= 0 else f"{text[:SHOWN]}\n… and {more} characters more: skip it, or see it with ratchet show"


def question_of(criterion: "Criterion", said: bool | None = None) -> str:
    so_far = "" if said is None else f"; so far {'y' if said else 'n'}"
    return f"{criterion.id}: {criterion.question} It passes with: {', '.join(criterion.passes)}. [y/n/s/b/q{so_far}] "


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
    tasks = measured.experiment.tasks
    again = min(len(tasks), AGAIN)
    err.print(
        f"calibrating {measured.judge_name}: {count(len(tasks), 'labelled output')} to judge, {again} of "
        "them once more in another order",
        markup=False,
        highlight=False,
    )
    with closing_run(place, ledger) as executor, limited():
        found, verdicts = measured.make(ledger, executor)
    if as_json:
        say_json(found.model_dump())
        return
    for line in told(found, verdicts, labels, [criterion.id for criterion in judge.criteria]):
        say(line)
