import dataclasses
import shutil

import pytest

import traces
from experiments.word_tasks.experiment import HERE, experiment
from harness.experiment import Budget
from tests.conftest import git
from tests.world import play
from traces.merge import merge

KINDS = ("number", "place")


@pytest.mark.timeout(300)
def test_a_short_night_on_the_embedded_model_climbs_for_real(tmp_path):
    root = tmp_path / "repository"
    shutil.copytree(HERE / "harness", root / "subject")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "Begin")
    short = dataclasses.replace(
        experiment,
        name="short",
        subject="subject",
        tasks=[task for task in experiment.tasks if task.tags[0] in KINDS][::5],
        gate=dataclasses.replace(experiment.gate, min_clusters=9),
        budget=Budget(rounds=1),
    )

    rounds = play(short, root, tmp_path / "data")

    assert rounds[-1].stop == "rounds"
    assert any(r.decision and r.decision.verdict == "keep" for r in rounds)
    assert rounds[-1].score > rounds[0].score + 0.1
    assert rounds[-1].certification.verdict in ("accept", "undecided", "reject")
    assert rounds[-1].usage.calls == rounds[-1].trials
    assert rounds[-1].usage.dollars == 0
    merge(tmp_path / "data")
    spans = traces.sql(
        "select count(*) as n, min(input_tokens) as least, count(distinct trial) as trials from spans "
        "where operation = 'chat' and status = 'ok'",
        directory=tmp_path / "data",
    )
    assert (spans.n[0], spans.trials[0]) == (rounds[-1].trials, rounds[-1].trials)
    assert spans.least[0] > 10
