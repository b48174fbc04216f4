"""Tests of the project itself: its layers, its packages, its README."""

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from experiments.cli import app
from harness.experiment import load_experiment
from tests.conftest import GIT, git

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_imports_run_one_way():
    done = subprocess.run([Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["traces", "harness", "analysis", "experiments"])
def test_the_packages_come_from_this_checkout(name):
    assert Path(import_module(name).__file__ or "").parents[1] == ROOT


def test_the_readme_names_every_verb_and_no_other():
    documented = set(re.findall(r"^    ratchet (\w+)", README.split("## Verbs")[1].split("Exit codes")[0], re.M))
    verbs = {command.callback.__name__ for command in app.registered_commands if command.callback}
    assert documented == verbs | {"traces", "inbox"}


def test_the_loop_of_the_readme_runs_from_python_in_under_twenty_lines(tmp_path):
    loop, imports = re.findall(r"```python\n(.*?)```", README, re.S)
    lines = [line for line in loop.splitlines() if line.strip()]
    assert len(lines) < 20
    (tmp_path / "style").mkdir()
    (tmp_path / "style" / "style.md").write_text("talk")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "Begin")
    done = subprocess.run(
        [sys.executable, "-c", imports + loop + "\nprint(round.certification)"],
        cwd=tmp_path,
        env={**os.environ, **GIT, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "keep (improved)" in done.stdout
    assert "verdict='accept'" in done.stdout


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*/experiment.py")), ids=lambda p: p.parent.name)
def test_every_shipped_experiment_loads(path):
    assert load_experiment(path).name == path.parent.name


def test_no_file_of_the_project_names_a_path_of_the_machine_it_was_written_on():
    tracked = git(ROOT, "ls-files", "-z").split("\0")
    texts = {
        name: (ROOT / name).read_text(encoding="utf-8", errors="replace") for name in tracked if (ROOT / name).is_file()
    }
    home = re.compile(r"(?<![\w./])/(?:home|Users|root|work)/\w")
    assert [name for name, text in texts.items() if home.search(text)] == []
