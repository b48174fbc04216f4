"""Labelling outputs at a terminal, and calibrating a judge against the labels."""

import contextlib
import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from analysis.agreement import cautions
from experiments.calibration import Measurement, about_the_judge, judge_of, latest_calibration, rubric_digest, told
from experiments.cli import Place
from experiments.label import calibrate, label, made_by
from harness.agreement import Verdict, agreement
from harness.errors import UserError
from harness.experiment import Budget, load_experiment
from harness.graders import Judge, RubricGrader
from harness.labels import append_labels, label_id, load_labels
from harness.ledger import journal_file, runs
from harness.runners.judging import shown_in
from harness.testing import ScriptedModel
from harness.text import parse_rubric
from tests.conftest import a_checkout, git
from tests.graders.world import an_answer, work_in
from tests.world import KnowingRunner, ListProposer, an_experiment, play, some_tasks
from traces.journal import read
from traces.records import Calibration, Label, Usage, now

RUBRIC = """
[[criteria]]
id = "right"
question = "Is it an answer?"
choices = ["no", "yes"]

[[criteria]]
id = "short"
question = "Is it short?"
choices = ["no", "yes"]
"""
EXPERIMENT = "from tests.experiments.test_label import example\nexperiment = example()\n"
app = typer.Typer()
app.command()(label)
app.command()(calibrate)


class Rude(KnowingRunner):
    """Answers with what a terminal would obey."""

    def run(self, task, text, seed):
        return super().run(task, text, seed) + "\x1b[2J\u202e"


def verdict(messages) -> str:
    """Of a judge that goes by the length of the work alone."""
    passes = ("yes", work_in(messages)[:20])
    fails = ("no", "it is not", "")
    is_long = "some" in work_in(messages)
    return an_answer(messages, {"right": passes if is_long else fails, "short": fails if is_long else passes})


def example():
    tasks = some_tasks(30, ["plural", "colour"])
    grader = RubricGrader(judge=Judge(ScriptedModel(verdict, name="scripted:judge"), parse_rubric(RUBRIC)))
    return an_experiment(
        tasks=tasks, runner=Rude(), grader=grader, proposer=ListProposer(()), budget=Budget(rounds=1, hours=1)
    )


@pytest.fixture(scope="module")
def after_a_night(tmp_path_factory) -> Path:
    root = a_checkout(tmp_path_factory.mktemp("label") / "repository")
    path = root / "experiments" / "example" / "experiment.py"
    path.parent.mkdir(parents=True)
    path.write_text(EXPERIMENT)
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "Write the experiment")
    play(load_experiment(path), root, root / "traces" / "data")
    return root


@pytest.fixture
def labels(after_a_night: Path):
    path = after_a_night / "experiments" / "example" / "labels.jsonl"
    path.unlink(missing_ok=True)
    return path


def ratchet(root: Path, *arguments: str, typed: str = "", expect: int = 0) -> str:
    with contextlib.chdir(root):
        done = CliRunner().invoke(app, arguments, input=typed)
    if expect:
        assert isinstance(done.exception, UserError), done.output
        return str(done.exception)
    assert done.exit_code == 0, done.output
    return done.output


def place_of(root: Path) -> Place:
    with contextlib.chdir(root):
        return Place.of("example")


def some_labels(n: int = 40) -> list[Label]:
    """Half of them of outputs that people let pass, of which the judge refuses all."""
    return [
        Label(
            id=label_id(f"question {i}", output),
            asked=f"question {i}",
            output=output,
            marks={"right": i % 2 == 0, "short": True},
            who="ada",
            labelled=now(),
            maker="scripted:judge" if i % 4 < 2 else "another",
        )
        for i in range(n)
        for output in [f"a{i} is the answer to it" if i % 2 == 0 else f"{i} some more words here and there"]
    ]


# ── label ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_typed_is_kept_and_the_next_session_goes_on_where_this_one_ended(after_a_night, labels):
    said = ratchet(after_a_night, "label", "example", "--who", "ada", typed="y\nn\ny\nq\n")
    first, second = load_labels(labels)

    assert "2 outputs labelled" in said
    assert (first.marks, second.marks) == ({"right": True, "short": False}, {"right": True})
    assert first.trial.startswith("example-")

    said = ratchet(after_a_night, "label", "example", "--who", "ada", typed="n\nq\n")
    assert load_labels(labels)[1].marks == {"right": True, "short": False}
    assert "right:" not in said.split("short:")[0]  # of the second only what was missing is asked


def test_going_back_corrects_also_across_outputs_and_what_is_no_answer_is_explained(after_a_night, labels):
    said = ratchet(
        after_a_night, "label", "example", "--who", "ada", typed="y\ny\nb\nn\nperhaps\ns\nn\nb\nb\nb\nb\nq\n"
    )
    first, second = load_labels(labels)

    assert first.marks == {"right": True, "short": False}
    assert second.marks == {"short": False}
    assert "y: it passes, n: it does not" in said


def test_going_back_takes_back_or_changes_what_the_file_holds_already(after_a_night, labels):
    said = ratchet(after_a_night, "label", "example", "--who", "ada", typed="y\ny\ny\nb\nb\ns\nn\nq\n")
    first, second = load_labels(labels)

    assert "[y/n/s/b/q; so far y]" in said
    assert (first.marks, second.marks) == ({"right": True}, {"right": False})
    assert '"short":true' in labels.read_text()  # the file only grows

    labels.unlink()
    said = ratchet(after_a_night, "label", "example", "--who", "ada", typed="y\nn\ny\nb\nb\nb\ns\ns\ns\nq\n")
    assert "0 outputs labelled" in said
    assert load_labels(labels) == []
    assert "short:" in ratchet(after_a_night, "label", "example", "--who", "ada", typed="y\nq\n")
    assert load_labels(labels)[0].marks == {"right": True}


def test_a_label_of_before_and_a_row_that_contradicts_another_are_told_when_labels_are_taken_over(
    after_a_night, labels, tmp_path
):
    given = tmp_path / "given.csv"
    given.write_text("asked,output,right,who\na,b,yes,ada\na,b,no,ada\n")
    said = ratchet(after_a_night, "label", "example", "--import", str(given))
    assert said.startswith("1 label taken over, 0 were there already; 1 row contradicts a row above of the same person")

    given.write_text("asked,output,right,who,labelled\na,b,yes,ada,2020-01-01\n")
    said = ratchet(after_a_night, "label", "example", "--import", str(given))
    assert said.startswith("0 labels taken over, 0 were there already; 1 label left out as older than what the same")
    assert [each.marks for each in load_labels(labels)] == [{"right": False}]


@pytest.mark.parametrize(
    ("cut", "says"),
    [
        (lambda lines: [line for line in lines if b'"type":"Trial"' not in line], "no trial of the last run, example-"),
        (lambda lines: [*lines[:5], b"{torn\n", *lines[5:]], "put an edited line back, or move the file away"),
    ],
)
def test_a_run_without_a_trial_and_a_damaged_one_say_what_to_do(after_a_night, tmp_path, cut, says):
    place = dataclasses.replace(place_of(after_a_night), directory=tmp_path)
    whole = journal_file(after_a_night / "traces" / "data", runs(after_a_night / "traces" / "data", "example")[-1])
    journal = journal_file(tmp_path, whole.stem)
    journal.parent.mkdir(parents=True)
    journal.write_bytes(b"".join(cut(whole.read_bytes().splitlines(keepends=True))))

    with pytest.raises(UserError, match=says):
        made_by(place)


def test_when_the_terminal_goes_away_what_was_answered_is_kept(after_a_night, labels):
    ratchet(after_a_night, "label", "example", "--who", "ada", typed="y\n")

    assert [each.marks for each in load_labels(labels)] == [{"right": True}]


def test_an_output_is_shown_without_anything_that_a_terminal_obeys(after_a_night, labels):
    said = ratchet(after_a_night, "label", "example", "--who", "ada", typed="q\n")

    assert "\x1b" not in said
    assert "\u202e" not in said
    assert r"\u{1b}[2J" in said
    assert not labels.exists()  # nothing was answered


def test_what_is_hidden_is_not_offered_and_bad_and_good_take_turns(after_a_night, labels):
    ratchet(after_a_night, "label", "example", "--who", "ada", typed="y\nn\n" * 200)
    found = load_labels(labels)
    experiment = load_experiment(labels.with_name("experiment.py"))

    assert {each.asked for each in found} == {task.input for task in experiment.split("train")}
    first = [each.output.startswith("some") for each in found[:10]]
    assert {True, False} == {*first}
    assert "nothing is left" in ratchet(after_a_night, "label", "example", "--who", "ada")


def test_labels_are_taken_over_from_a_file_once(after_a_night, labels, tmp_path):
    given = tmp_path / "given.csv"
    given.write_text("asked,output,right\na,b,yes\na,c,no\na,d,\n")
    first = ratchet(after_a_night, "label", "example", "--import", str(given))
    again = ratchet(after_a_night, "label", "example", "--import", str(given))

    assert first.startswith("2 labels taken over, 0 were there already; 1 row marks nothing")
    assert again.startswith("0 labels taken over, 2 were there already")
    assert [each.marks for each in load_labels(labels)] == [{"right": True}, {"right": False}]

    given.write_text("asked,output,wrong\na,b,yes\n")
    assert "no such criterion" in ratchet(after_a_night, "label", "example", "--import", str(given), expect=1)


def test_a_file_of_labels_that_is_broken_is_never_written_to(after_a_night, labels):
    labels.write_text("{torn\n")

    assert "line 1" in ratchet(after_a_night, "label", "example", typed="y\ny\n", expect=1)
    assert labels.read_text() == "{torn\n"


# ── calibrate ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_judge_that_says_the_opposite_of_people_is_found_out(after_a_night, labels):
    append_labels(labels, some_labels())
    said = ratchet(after_a_night, "calibrate", "example")
    found = latest_calibration(after_a_night / "traces" / "data", "example")

    right, short = found.agreements
    assert (right.kappa, right.n, right.false_passes, right.false_failures) == (-1.0, 40, 1.0, 1.0)
    assert (short.agreed, short.kappa, short.false_passes) == (0.5, 0.0, None)
    assert (found.outputs, found.unjudged, found.usage.calls) == (40, 0, 80)
    assert "passes 20 of 20 that people refuse, refuses 20 of 20 that they pass" in said
    assert "right: only 40 outputs are labelled" in said
    assert "short: people refuse only 0 outputs" in said
    assert {bias.kind for bias in found.biases} == {"length", "position", "own-model"}
    assert next(bias for bias in found.biases if bias.kind == "position").effect == 0.0


def test_a_calibration_that_was_cut_off_goes_on_and_one_that_ended_begins_anew(after_a_night, labels, tmp_path):
    measured = measurement(after_a_night, some_labels(20))
    whole = calibrated(measured, tmp_path / "whole")
    [journal] = (tmp_path / "whole" / "spool").glob("*-calibration-*.jsonl")
    cut = tmp_path / "cut" / "spool" / journal.name
    cut.parent.mkdir(parents=True)
    lines = journal.read_bytes().splitlines(keepends=True)
    half = next(i for i, line in enumerate(lines) if b"calibration/reversed" in line)
    cut.write_bytes(b"".join(lines[:half]))

    resumed = calibrated(measured, tmp_path / "cut")
    assert resumed.agreements == whole.agreements
    assert resumed.usage.calls == whole.usage.calls == 40  # what was judged before it was cut is judged once
    calibrated(measured, tmp_path / "cut")
    assert len(list(cut.parent.glob("*-calibration-*.jsonl"))) == 2


def measurement(root: Path, labels: list[Label]) -> Measurement:
    experiment = load_experiment(root / "experiments" / "example" / "experiment.py")
    return Measurement.of(experiment, experiment.grader.judge, labels)


def calibrated(measured: Measurement, directory: Path):
    with measured.open(directory, "a" * 40) as ledger, ThreadPoolExecutor(2) as executor:
        return measured.make(ledger, executor)[0]


def test_what_was_labelled_stands_in_the_journal_by_its_id_alone(after_a_night, tmp_path):
    calibrated(measurement(after_a_night, some_labels(12)), tmp_path)
    [journal] = (tmp_path / "spool").glob("*-calibration-*.jsonl")
    tasks = [line.record() for line in read(journal) if line.type == "Task"]

    assert len(tasks) == 12
    assert {(task.input, task.targets) for task in tasks} == {("", ())}


def test_an_output_that_gets_no_verdict_is_counted_and_no_mistake(after_a_night, tmp_path):
    def silent(messages) -> str:
        return "no" if "answer" in work_in(messages) else verdict(messages)

    measured = measurement(after_a_night, some_labels(12))
    judge = Judge(ScriptedModel(silent), measured.judge.rubric)
    measured = Measurement.of(measured.experiment, judge, some_labels(12))
    found = calibrated(measured, tmp_path)

    assert (found.outputs, found.unjudged) == (6, 6)
    assert found.agreements[0].n == 6
    assert "to 6 more it gave no verdict" in next(told(found, [], []))


def test_a_rubric_that_nobody_has_labelled_by_is_refused(after_a_night, labels, tmp_path):
    append_labels(labels, some_labels(4))
    other = tmp_path / "other.toml"
    other.write_text(RUBRIC.replace('"right"', '"true"').replace('"short"', '"brief"'))

    message = ratchet(after_a_night, "calibrate", "example", "--rubric", str(other), expect=1)
    assert "asks for true, brief, and people have labelled by right, short" in message


def a_verdict(at: int, judged: bool, marked: bool) -> Verdict:
    return Verdict(str(at), "right", judged, marked, length=at)


@pytest.mark.parametrize(("n", "is_told"), [(6, False), (60, True)])
def test_of_few_labels_no_verdict_follows_and_what_nobody_labelled_is_named(n, is_told):
    verdicts = [a_verdict(at, at % 2 == 0, at % 2 == 1) for at in range(n)]
    found = Calibration(
        id="c", experiment="e", rubric="r" * 20, judge="j", outputs=n, unjudged=0, biases=(), usage=Usage(calls=1),
        agreements=(agreement("right", [verdict.pair for verdict in verdicts]),), judged=now(),
    )  # fmt: skip
    split = [label.model_copy(update={"who": who, "marks": {"kind": who == "ben"}}) for label in some_labels(1)
             for who in ("ada", "ben")]  # fmt: skip
    said = [*told(found, verdicts, [*some_labels(2), *split], ["right", "short", "kind", "terms", "register"])]

    assert (
        "  it goes by something else than people do: word the criterion by what can be seen in an output" in said
    ) == (is_told)
    assert ("right: only 6 outputs are labelled, and below 50 a kappa says little. Label more" in said) == (not is_told)
    assert "not labelled: terms, register" in said
    assert "people do not agree on any output: kind" in said
    assert "no verdict on any labelled output: short" in said
    assert said[-1].endswith("1 call, 0 tokens, $0.00.") or said[-1].endswith("1 call, 0 tokens.")


def test_one_is_not_spoken_of_as_many():
    [few, refused, passed] = cautions("right", [(True, True)])

    assert few.startswith("right: only 1 output is labelled")
    assert (refused[:34], passed[:32]) == ("right: people refuse only 0 output", "right: people pass only 1 output")


def test_a_rubric_that_is_not_there_is_named_as_it_was_typed(after_a_night, labels):
    append_labels(labels, some_labels(4))
    said = ratchet(after_a_night, "calibrate", "example", "--rubric", "nofile.toml", expect=1)

    assert said.startswith("--rubric nofile.toml cannot be read")
    assert "Judge(" not in said
    assert ratchet(after_a_night, "label", "example", "--rubric", "nofile.toml", expect=1) == said


def test_a_calibration_whose_journal_is_damaged_says_what_to_do(after_a_night, tmp_path):
    measured = measurement(after_a_night, some_labels(4))
    calibrated(measured, tmp_path)
    [journal] = (tmp_path / "spool").glob("*-calibration-*.jsonl")
    journal.write_bytes(b"{torn\n" + journal.read_bytes())

    with pytest.raises(UserError, match="move the file away"):
        measured.open(tmp_path, "a" * 40)


def test_another_rubric_is_another_scale(after_a_night, labels, tmp_path):
    for earlier in (after_a_night / "traces" / "data" / "spool").glob("example-calibration-*.jsonl"):
        earlier.unlink()
    append_labels(labels, some_labels(8))
    other = tmp_path / "other.toml"
    other.write_text(RUBRIC.replace("Is it short?", "Is it shorter than a line?"))
    with contextlib.chdir(after_a_night):
        place = Place.of("example")
        ratchet(after_a_night, "calibrate", "example", "--rubric", str(other))
        [line] = about_the_judge(place)
        assert "which says nothing of this one" in line
        assert rubric_digest(judge_of(place, other, None)) == latest_calibration(place.directory, "example").rubric

        said = json.loads(ratchet(after_a_night, "calibrate", "example", "--json").partition("\n{")[2].join(("{", "")))
        assert said["rubric"] == rubric_digest(judge_of(place, None, None))
        first, second = about_the_judge(place)
        assert first.startswith("The judge scripted:judge and people differ on 8 of 8 outputs.")
        assert second.startswith("The judge scripted:judge and people differ on 4 of 8 outputs.")

        ratchet(after_a_night, "calibrate", "example", "--rubric", str(other))
        assert [*about_the_judge(place)] == [first, second]  # what is newer is of another rubric


def test_until_it_was_calibrated_nothing_is_known_of_a_judge(tmp_path):
    assert latest_calibration(tmp_path, "example") is None


def test_calibrations_are_no_runs_of_the_experiment(after_a_night):
    directory = after_a_night / "traces" / "data"

    assert all(journal_file(directory, run).exists() for run in runs(directory, "example"))
    assert not any("calibration" in run for run in runs(directory, "example"))


def test_tasks_of_labels_show_what_was_asked_and_the_output(after_a_night):
    measured = measurement(after_a_night, some_labels(4))

    assert ("question 0", "a0 is the answer to it") in [shown_in(task) for task in measured.experiment.tasks]
