"""The shipped rubric: its labels, its judge, and a night that believes people and not scores."""

import json
import shutil

import pytest

from analysis.agreement import agreement_table
from experiments.rubric_judge import generate
from experiments.rubric_judge.experiment import CRITERIA, HERE, experiment
from experiments.rubric_judge.scripted import ScriptedJudge, has_step, is_free_of_promises, is_on_topic
from harness.contract import faults
from harness.experiment import clusters_in
from harness.graders.agreement import AgreementGrader
from harness.hygiene import leaks, twins
from harness.labels import agreed_marks, load_labels
from harness.ledger import journal_file, runs
from harness.protocols import Message
from harness.runners.judging import RUBRIC
from tests.conftest import git
from tests.world import play
from traces.journal import read
from traces.records import Round, Trial

IDEAS = {path.parent.parent.name: path.read_text("utf-8") for path in sorted(HERE.glob(f"ideas/*/{RUBRIC}"))}
LIVE = (HERE / "harness" / RUBRIC).read_text("utf-8")


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> tuple[list[Round], list[Trial]]:
    """A whole one, as ``ratchet run rubric_judge`` plays it."""
    top = tmp_path_factory.mktemp("rubric")
    root, directory = top / "repository", top / "data"
    shutil.copytree(HERE / "harness", root / experiment.subject)
    git(root.parent, "init", "-q", "-b", "main", str(root))
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "Begin")
    rounds = play(experiment, root, directory)
    [run] = runs(directory, experiment.name)
    return rounds, [line.record() for line in read(journal_file(directory, run)) if line.type == "Trial"]


def round_of(rounds: list[Round], idea: str) -> Round:
    return next(r for r in rounds if r.proposal and r.proposal.rationale.startswith(f"{idea}:"))


def kappas(trials: list[Trial], version: str, split: str = "train"):
    assert isinstance(experiment.grader, AgreementGrader)
    own = [trial for trial in trials if (trial.version, trial.split) == (version, split)]
    return {found.criterion: found for found in experiment.grader.agreements(own, experiment.tasks)}


def handed_out(trials: list[Trial], version: str) -> float:
    """Share of the marks that a rubric hands out which pass."""
    marks = [
        mark
        for trial in trials
        if trial.version == version and trial.split == "train"
        for mark in json.loads(trial.output or "{}").values()
    ]
    return sum(marks) / len(marks)


def test_a_flattering_rubric_raises_every_score_and_is_refused_by_its_kappa(night):
    rounds, trials = night
    flattering = round_of(rounds, "be-generous")

    assert handed_out(trials, flattering.candidate) > 0.9 > 0.6 > handed_out(trials, rounds[0].working)
    assert flattering.decision.verdict == "discard"
    assert flattering.decision.comparison.gain < -0.05
    for found in kappas(trials, flattering.candidate).values():
        assert found.low < 0.1
        assert found.high < 0.25
        assert found.false_passes > 0.9


def test_a_harsh_rubric_is_refused_as_well(night):
    rounds, trials = night
    harsh = round_of(rounds, "be-strict")

    assert handed_out(trials, harsh.candidate) < 0.1
    assert harsh.decision.verdict == "discard"


def test_a_rubric_of_what_can_be_seen_is_certified(night):
    rounds, trials = night
    better = round_of(rounds, "say-what-to-look-for")
    certification = next(r.certification for r in rounds if r.certification)

    assert better.decision.verdict == "keep"
    assert (certification.verdict, certification.candidate) == ("accept", better.candidate)
    assert certification.measured.split == "test"
    assert certification.measured.low > 0.05
    before, after = (kappas(trials, version, "test") for version in (rounds[0].working, better.candidate))
    assert all(after[criterion].low > before[criterion].high for criterion in CRITERIA)


def test_the_report_can_say_each_kappa_with_its_interval_and_n(night):
    rounds, trials = night
    lines = agreement_table(experiment.grader, experiment.tasks, trials, rounds).splitlines()

    assert sum(line.startswith("| train | ") for line in lines) == 5 * len(CRITERIA)  # live and four that were tried
    assert sum(line.startswith("| test | ") for line in lines) == 2 * len(CRITERIA)
    assert not any("validation" in line for line in lines)


def test_the_labels_are_what_generate_writes():
    assert (HERE / "labels.jsonl").read_text("utf-8") == generate.render()


def test_no_output_of_one_split_is_nearly_that_of_another_and_none_stands_in_the_rubrics():
    assert twins(experiment.tasks) == []
    assert leaks(experiment.tasks, {RUBRIC: LIVE, **IDEAS}) == []
    assert clusters_in(experiment.split("validation")) >= 60


def test_each_idea_is_a_rubric_that_the_labels_can_measure():
    assert len(IDEAS) == 4
    for text in (LIVE, *IDEAS.values()):
        experiment.runner.check({RUBRIC: text})


def test_its_contract_has_no_faults():
    assert faults(experiment.contract) == []


def test_people_mark_what_an_answer_does_nearly_always():
    labels = load_labels(HERE / "labels.jsonl")
    shown = {label.id: (label.asked, label.output) for label in labels}
    for criterion, look in zip(CRITERIA, (has_step, is_on_topic, is_free_of_promises), strict=True):
        marks = agreed_marks(labels, criterion)
        right = sum(look(*shown[id]) == mark for id, mark in marks.items())
        assert 0.78 < right / len(marks) < 1, criterion
        assert 0.35 < sum(marks.values()) / len(marks) < 0.65, criterion


def test_the_judge_goes_by_the_wording_and_answers_nobody_who_shows_it_no_work():
    assert ScriptedJudge().complete([Message("user", "Hello")], seed=0).text == "I was shown no work."
