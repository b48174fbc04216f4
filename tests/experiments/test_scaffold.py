"""What ``ratchet new`` writes runs as it is, and may be left alone."""

import pytest

from experiments import scaffold
from harness.agent.memory import read_notes
from harness.contract import faults, lints, refuse_scheduled, refuse_unattended
from harness.errors import UserError
from harness.experiment import load_experiment
from tests.conftest import git


@pytest.fixture
def checkout(tmp_path):
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "config", "user.name", 'Ada "NAME" Löwe\\')
    git(tmp_path, "config", "user.email", "ada@example.org")
    return tmp_path


def test_it_writes_a_workflow_a_trigger_an_evaluator_a_state_file_and_a_stop(checkout):
    written = {str(path.relative_to(checkout / "experiments" / "mine")) for path in scaffold.write(checkout, "mine")}
    assert written == {"experiment.py", "harness/prompts/solve.md", "notes/memory.md", "tasks.jsonl"}
    source = (checkout / "experiments" / "mine" / "experiment.py").read_text()
    assert "ratchet run mine --until 06:00 --trigger cron" in source
    assert "NAME" not in source.replace('\\"NAME\\"', "")
    experiment = load_experiment(checkout / "experiments" / "mine" / "experiment.py")
    assert experiment.grader is not None
    assert experiment.budget.rounds == 4


def test_its_contract_names_whom_git_knows_and_lets_it_run_all_night_and_by_the_clock(checkout):
    scaffold.write(checkout, "mine")
    experiment = load_experiment(checkout / "experiments" / "mine" / "experiment.py")
    assert experiment.contract is not None
    assert experiment.contract.owner == 'Ada "NAME" Löwe\\ <ada@example.org>'
    assert faults(experiment.contract) == []
    assert lints(experiment) == []
    refuse_unattended(experiment, 8)
    refuse_scheduled(experiment, "cron", experiment.budget)


def test_where_git_knows_nobody_the_owner_is_who_is_logged_in(tmp_path):
    git(tmp_path, "init", "-q")
    git(tmp_path, "config", "user.name", "")
    git(tmp_path, "config", "user.email", "")
    assert scaffold.owner_of(tmp_path)


def test_its_state_file_is_a_memory(checkout):
    scaffold.write(checkout, "mine")
    notes = read_notes((checkout / "experiments" / "mine" / "notes" / "memory.md").read_text())
    assert notes.version == 1
    assert [len(notes.of(section)) for section in ("done", "next", "learned")] == [1, 2, 1]


def test_its_first_task_is_attempted_on_the_model_that_comes_with_it(checkout):
    scaffold.write(checkout, "mine")
    experiment = load_experiment(checkout / "experiments" / "mine" / "experiment.py")
    prompt = checkout / "experiments" / "mine" / "harness" / "prompts" / "solve.md"
    task = experiment.split("train")[0]
    output = experiment.runner.run(task, {"prompts/solve.md": prompt.read_text()}, seed=0)
    assert 0 <= experiment.grader.grade(task, output).score <= 1


def test_nothing_is_overwritten(checkout):
    scaffold.write(checkout, "mine")
    with pytest.raises(UserError, match="exists already"):
        scaffold.write(checkout, "mine")
