"""``ratchet new NAME --command …``, as a new user types it beside a script of their own."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments import scaffold
from experiments.adopt import Wish, adopt
from experiments.cli import app, say_where_else
from experiments.morning import is_own_word
from experiments.place import Place
from harness.agent.memory import read_notes
from harness.contract import faults
from harness.errors import UserError
from harness.experiment import load_experiment
from harness.sandboxes import best_sandbox
from tests.conftest import git
from tests.experiments.command import ratchet, typed
from traces.records import Edit

best_sandbox()  # which one works is found out once, here, and not in each process
PYTHON = f"{sys.executable} bench.py"
SOLVER = "SCALE = 2\n"
BENCH = """
import os, random
import solver
random.seed(int(os.environ["RATCHET_SEED"]))
print("starting")
print(f"cost: {solver.SCALE + random.random():.4f}")
"""


def project(root: Path, **files: str) -> Path:
    """A repository that holds these files; in their names ``_`` stands for a dot."""
    for name, text in files.items():
        (root / name.replace("_", ".")).write_text(text)
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "user.name", "Ada")
    git(root, "config", "user.email", "ada@example.org")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "Start")
    return root


@pytest.fixture
def checkout(tmp_path):
    return project(tmp_path, solver_py=SOLVER, bench_py=BENCH)


def loaded(root: Path, name: str = "mine"):
    return load_experiment(root / "experiments" / name / "experiment.py")


def refused(root: Path, *arguments: str) -> str:
    """What a refusal says; nothing was written."""
    with contextlib.chdir(root):
        result = CliRunner().invoke(app, ["new", "mine", *arguments])
    assert isinstance(result.exception, UserError), result.output
    assert not (root / "experiments").exists()
    return str(result.exception)


# ── what works at once ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_script_and_the_module_that_it_measures_become_an_experiment_without_a_question(checkout):
    said = ratchet(checkout, "new", "mine", "--command", PYTHON)
    assert "| cost: " in said
    assert "lower is better, by its name. If not: --better higher" in said
    assert "with 3 seeds: one run is off by" in said
    assert "git add experiments/mine && git commit -m 'Add mine'" in said
    assert "cp -R experiments/mine/code/. ." in said
    experiment = loaded(checkout)
    assert experiment.subject == "experiments/mine/code"
    assert (checkout / "experiments" / "mine" / "code" / "solver.py").read_text() == SOLVER
    assert [*experiment.runner.fixed] == ["bench.py"]
    assert experiment.gate.better == "lower"
    assert experiment.runner.seconds == 10
    assert not experiment.runner.exclusive
    assert faults(experiment.contract) == []
    assert "what the process says that runs the edited code" in experiment.contract.proves
    assert "the number is the word of the process that runs solver.py" in said
    assert experiment.contract.owner == "Ada <ada@example.org>"
    outcome = experiment.runner.run(experiment.tasks[0], {"solver.py": SOLVER}, seed=4)
    assert 2 <= experiment.grader.grade(experiment.tasks[0], outcome.output).value <= 3
    assert git(checkout, "status", "--porcelain") == "?? experiments/\n"
    assert is_own_word(experiment)
    assert brings_back_what_was_promoted(checkout) == SOLVER.replace("2", "3")


def brings_back_what_was_promoted(root: Path) -> str:
    """The user's own file, after what ``promote`` would say to type."""
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "Add mine")
    with contextlib.chdir(root), contextlib.redirect_stdout(io.StringIO()) as said:
        place = Place.of("mine")
        live = place.subject.live()
        say_where_else(place, live.id, live.id)
        assert not said.getvalue()
        better = place.subject.candidate(live, (Edit(path="solver.py", text=SOLVER.replace("2", "3")),))
        place.subject.promote(better, experiment="mine", replaces=live.id, trailers={})
        say_where_else(place, live.id, better.id)
    about, typed_next = said.getvalue().splitlines()
    assert about.startswith("experiments/mine/code is a copy")
    subprocess.run(typed_next, shell=True, cwd=root, check=True)
    return (root / "solver.py").read_text()


def test_a_script_of_one_file_is_what_is_changed_and_its_user_is_told_that_its_number_is_not_safe(tmp_path):
    root = project(tmp_path, bench_py='x = 3\nprint("精度 score =", x)\n')
    said = ratchet(root, "new", "mine", "--command", PYTHON, "--seconds", "30")
    assert "CAREFUL   bench.py is what proposals change, and it prints the number itself" in said
    assert "To make that harder" in said
    assert f"rm -r experiments/mine && ratchet new mine --command '{PYTHON}' --edit solver.py --seconds 30" in said
    assert "none: 3 with each of 3 seeds, and nothing reads RATCHET_SEED" in said
    experiment = loaded(root)
    assert experiment.runner.seconds == 30
    assert (experiment.gate.metric, experiment.gate.better) == ("精度 score", "higher")
    assert (experiment.gate.repeats, experiment.gate.final) == (2, 2)
    assert "CAREFUL" in (root / "experiments" / "mine" / "experiment.py").read_text()


def test_a_measure_that_lies_among_what_is_changed_is_pointed_at(tmp_path):
    bench = "from solver import solve, length\nprint('loss:', length(solve()))\n"
    root = project(tmp_path, bench_py=bench, solver_py="def solve(): return [1]\ndef length(x): return len(x)\n")
    said = ratchet(root, "new", "mine", "--command", PYTHON)
    assert "CAREFUL   bench.py takes length, solve from solver.py" in said
    assert "(by its name: length) belongs into bench.py" in said


def test_a_seed_that_is_fixed_is_shown_with_how_to_let_go_of_it(tmp_path):
    bench = "import random, solver\n\nrng = random.Random(7)\nprint('loss:', rng.random() * solver.SCALE)\n"
    root = project(tmp_path, bench_py=bench, solver_py=SOLVER)
    said = ratchet(root, "new", "mine", "--command", PYTHON)
    assert "| bench.py:3: rng = random.Random(7)" in said
    assert f"rm -r experiments/mine && ratchet new mine --command '{PYTHON}'" in said


def test_a_number_with_a_unit_of_time_runs_alone_and_what_is_printed_twice_is_told_to_be_left_out(tmp_path):
    bench = "import solver, time\nprint('loss: 3')\nprint('loss: 2')\nprint(f'took: {time.perf_counter() % 1}s')\n"
    root = project(tmp_path, bench_py=bench, solver_py=SOLVER)
    said = ratchet(root, "new", "mine", "--command", PYTHON, "--better", "lower")
    assert "counts: loss (2 times)" in said
    assert "Nothing reads RATCHET_SEED: what differs is the machine's load" in said
    assert loaded(root).runner.exclusive


def test_the_second_command_that_the_file_shows_makes_the_number_where_no_candidate_runs(tmp_path):
    bench = "import json, solver\njson.dump(solver.SCALE, open('answer.json', 'w'))\nprint('loss: 7')\n"
    root = project(tmp_path, bench_py=bench, solver_py=SOLVER)
    ratchet(root, "new", "mine", "--command", PYTHON)
    written = root / "experiments" / "mine" / "experiment.py"
    (written.parent / "judge.py").write_text("import json\nprint('loss:', json.load(open('answer.json')) * 2)\n")
    lines = [line for line in written.read_text().splitlines(keepends=True) if "metric=Printed" not in line]
    shown = [line.replace("# ", "", 1) for line in lines if "# metric=" in line or "# from harness.runners" in line]
    rest = [line for line in lines if "# metric=" not in line and "# from harness.runners" not in line]
    at = next(i for i, line in enumerate(rest) if "CommandRunner(" in line) + 2
    written.write_text("".join([*rest[:at], shown[0], *rest[at:]]).replace("import Printed", "import Evaluated"))
    experiment = loaded(root)
    outcome = experiment.runner.run(experiment.tasks[0], {"solver.py": SOLVER}, seed=4)
    assert experiment.grader.grade(experiment.tasks[0], outcome.output).value == 4


def test_what_takes_time_runs_alone_and_what_measures_stays_as_it_is(tmp_path):
    bench = "import solver, checker, json\njson.dump({'run': {'seconds': checker.VALUE}}, open('m.json', 'w'))\n"
    root = project(tmp_path, bench_py=bench, solver_py=SOLVER, checker_py="VALUE = 2\n")
    said = ratchet(root, "new", "mine", "--command", PYTHON)
    assert "checker.py stays as it is: by its name it measures" in said
    assert "trials run one at a time" in said
    experiment = loaded(root)
    assert experiment.runner.exclusive
    assert sorted(experiment.runner.fixed) == ["bench.py", "checker.py"]
    assert (experiment.runner.metric.path, experiment.runner.metric.key) == ("m.json", "run.seconds")


def test_a_package_beside_the_script_with_its_data_is_found_whole(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "inputs").mkdir()
    (tmp_path / "lib" / "__init__.py").write_text("")
    (tmp_path / "lib" / "core.py").write_text("from . import parts\nVALUE = parts.ONE\n")
    (tmp_path / "lib" / "parts.py").write_text("ONE = 1\n")
    (tmp_path / "inputs" / "a.txt").write_text("5")
    (tmp_path / "other.py").write_text("")
    bench = "from lib.core import VALUE\nprint('loss', VALUE + int(open('inputs/a.txt').read()))\n"
    root = project(tmp_path, bench_py=bench)
    ratchet(root, "new", "mine", "--command", PYTHON)
    code = root / "experiments" / "mine" / "code"
    assert sorted(p.name for p in (code / "lib").iterdir()) == ["__init__.py", "core.py", "parts.py"]
    assert sorted(loaded(root).runner.fixed) == ["bench.py", "inputs"]


def test_what_cannot_be_told_from_the_text_is_found_by_running_it(tmp_path):
    bench = "import solver\nprint('loss:', len(open('-'.join(['my', 'table'])).read()))\n"
    root = project(tmp_path, bench_py=bench, solver_py=SOLVER)
    (root / "my-table").write_text("abc")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "More")
    said = typed(root, "new", "mine", "--command", PYTHON)
    assert said.code == 0, said.err
    assert "once more, with all files of the project" in said.err
    assert sorted(loaded(root).runner.fixed) == ["bench.py", "my-table"]


def test_another_language_needs_to_be_told_what_to_change_and_gets_a_folder_for_ideas(tmp_path):
    root = project(tmp_path, bench_sh="#!/bin/sh\n. ./rules.txt\necho loss: $X\n", rules_txt="X=4\n")
    (root / "bench.sh").chmod(0o755)
    git(root, "commit", "-qam", "x")
    assert "--edit src" in refused(root, "--command", "./bench.sh")
    said = ratchet(root, "new", "mine", "--command", "./bench.sh", "--edit", "rules.txt")
    assert "these files are no Python" in said
    assert "mkdir experiments/mine/ideas/first" in said
    experiment = loaded(root)
    assert experiment.runner.command == "/bin/sh bench.sh"
    assert [*experiment.runner.fixed] == ["bench.sh"]
    assert type(experiment.proposer).__name__ == "Ideas"
    assert "experiments/mine/code" in (root / "experiments" / "mine" / "ideas" / "README.md").read_text()


def test_a_folder_that_holds_nothing_else_is_changed_in_place(tmp_path):
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "bench.py").write_text("print('loss: 1')\n")
    root = project(tmp_path, readme_md="x")
    ratchet(root / "small", "new", "mine", "--command", PYTHON)
    assert loaded(root).subject == "small"
    assert not (root / "experiments" / "mine" / "code").exists()


def test_without_a_sandbox_the_command_sees_what_one_would_hide_and_what_to_type_next_goes_without_one_too(tmp_path):
    root = project(tmp_path, bench_py=f"open({__file__!r})\nimport solver\nprint('loss:', 3)\n", solver_py=SOLVER)
    said = typed(root, "new", "mine", "--no-sandbox", "--command", PYTHON)
    assert said.code == 0, said.err
    assert "Running it once without a sandbox" in said.err
    assert "ratchet check mine --no-sandbox " in said.out
    assert "ratchet run mine --for 20m --no-sandbox " in said.out
    assert loaded(root).runner.sandbox is best_sandbox


# ── what has to be asked ───────────────────────────────────────────────────────────────────────────────────────


def test_on_a_terminal_what_is_open_is_asked(tmp_path):
    root = project(tmp_path, bench_py="print('widgets: 4')\nprint('gadgets: 5')\n")
    asked, said = [], []

    def ask(question, answers):
        asked.append((question, list(answers)))
        return answers[-1]

    adopt(root, Wish("mine", PYTHON), said.append, said.append, ask)
    assert asked == [
        ("Which number is to be improved?", ["widgets", "gadgets"]),
        ("Which gadgets is better?", ["lower", "higher"]),
    ]
    assert loaded(root).gate.metric == "gadgets"


def test_elsewhere_it_says_what_to_type(tmp_path):
    root = project(tmp_path, bench_py="print('widgets: 4')\nprint('loss: 5')\nfor i in range(3): print('step:', i)\n")
    assert "--metric loss" in refused(root, "--command", PYTHON)
    assert "counts: step (3 times)" in refused(root, "--command", PYTHON)
    options = ("--command", PYTHON, "--edit", "bench.py", "--seconds", "5")
    again = f"ratchet new mine --command '{PYTHON}' --edit bench.py --seconds 5 --metric"
    assert f"{again} loss" in refused(root, *options)
    assert f"{again} widgets --better lower, or --better higher" in refused(root, *options, "--metric", "widgets")
    assert "It reported: widgets, loss, step" in refused(root, "--command", PYTHON, "--metric", "speed")
    assert "printed 3 times" in refused(root, "--command", PYTHON, "--metric", "step")


# ── what does not work ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("script", "options", "said"),
    [
        ("print('all well')", (), "| all well"),
        ("import sys; print('too bad'); sys.exit(3)", (), "exit code 3: too bad"),
        ("import time; print('waiting', flush=True); time.sleep(60)", ("--seconds", "0.5"), "--seconds N"),
        ("import no_such_thing", (), "--readable FOLDER"),
        ("import urllib.request as u; u.urlopen('http://example.org')", (), "no network in the sandbox"),
        (f"open({__file__!r})", (), f"--readable {__file__}"),
        ("open('left_out.txt')", (), "--fixed left_out.txt"),
        ("print('loss: nan')", (), "reported no number"),
        ("import os; os.mkdir('x'); open('x/m.json', 'w').write('{}')", (), "It wrote x/m.json, and no folder is"),
        ("import os; os.mkdir('x'); open('x/m.json', 'w'); print('f1: 1')", ("--metric", "y"), "It wrote x/m.json"),
    ],
)  # fmt: skip
def test_a_command_that_gives_nothing_says_why_and_what_to_type(tmp_path, script, options, said):
    root = project(tmp_path, bench_py=script, _gitignore="left_out.txt\n")
    (root / "left_out.txt").write_text("x")
    assert said in refused(root, "--command", PYTHON, *options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--command", "no-such-program x"), "no program 'no-such-program'"),
        (("--command", "python bench.py | tail"), "wants a shell"),
        (("--command", ""), "the command is empty"),
        (("--command", f"{sys.executable} gone.py"), "there is no gone.py"),
        (("--command", "./solver.py"), "solver.py is no program"),
        (("--command", "python 'bench.py"), "Close the quotation"),
        (("--command", PYTHON, "--edit", "gone.py"), "--edit gone.py: there is nothing of that name"),
        (("--command", PYTHON, "--edit", "."), "the measuring included"),
        (("--command", PYTHON, "--edit", "/tmp"), "lies outside of"),
        (("--command", PYTHON, "--better", "more"), "--better lower, or --better higher"),
        (("--command", PYTHON, "--seconds", "-1"), "is no limit"),
        (("--command", PYTHON, "--readable", "/no/such"), "Mend the path"),
        (("--edit", "solver.py"), "none is given"),
        (("--no-sandbox",), "--no-sandbox is about a command, and none is given"),
        (("--command", "ls -l"), "--edit src"),
        (("--autoresearch", "."), "no train.py and no prepare.py"),
        (("--autoresearch", ".", "--metric", "x"), "Leave --metric out"),
    ],
)
def test_options_that_cannot_be_meant_are_refused_before_anything_runs(checkout, options, said):
    assert said in refused(checkout, *options)


def test_a_name_that_is_taken_or_none_is_refused(checkout):
    (checkout / "experiments" / "mine").mkdir(parents=True)
    assert "exists already" in ratchet(checkout, "new", "mine", "--command", PYTHON, expect=1)
    assert "cannot name an experiment" in ratchet(checkout, "new", "../x", "--command", PYTHON, expect=1)


def test_what_measures_has_to_be_committed_and_without_git_there_are_no_versions(checkout, tmp_path_factory):
    (checkout / "bench.py").write_text(BENCH + "\n")
    assert "git commit -m 'Measure' -- bench.py" in refused(checkout, "--command", PYTHON)
    elsewhere = tmp_path_factory.mktemp("plain")
    (elsewhere / "bench.py").write_text(BENCH)
    assert "git init" in refused(elsewhere, "--command", PYTHON)


def test_files_that_git_does_not_have_yet_are_named_in_what_to_type(tmp_path):
    root = project(tmp_path, readme_md="x")
    (root / "bench.py").write_text(BENCH)
    (root / "solver.py").write_text(SOLVER)
    assert "git add bench.py experiments/mine &&" in ratchet(root, "new", "mine", "--command", PYTHON)


# ── autoresearch ───────────────────────────────────────────────────────────────────────────────────────────────

TRAIN = """
import prepare
DEPTH = 8
print("step 1 (50.0%)", end="\\r")
print("---")
print(f"val_bpb:          {prepare.evaluate(DEPTH):.6f}")
print("training_seconds: 300.1")
print("peak_vram_mb:     45060.2")
print(f"depth:            {DEPTH}")
"""
PREPARE = """
import os, pathlib
DATA = pathlib.Path(os.path.expanduser("~"), ".cache", "autoresearch", "data")
def evaluate(depth):
    return float(DATA.read_text()) / depth
"""
RESULTS = """commit\tval_bpb\tmemory_gb\tstatus\tdescription
a1b2c3d\t0.997900\t44.0\tkeep\tbaseline
b2c3d4e\t0.993200\t44.2\tkeep\tincrease LR to 0.04
c3d4e5f\t1.005000\t44.0\tdiscard\tswitch to GeLU
torn
d4e5f6g\t0.000000\t0.0\tcrash\tdouble the width
"""


def test_a_checkout_of_autoresearch_is_gone_on_from_with_what_it_had_tried(checkout, tmp_path_factory, monkeypatch):
    home = tmp_path_factory.mktemp("home")
    (home / ".cache" / "autoresearch").mkdir(parents=True)
    (home / ".cache" / "autoresearch" / "data").write_text("8")
    there = tmp_path_factory.mktemp("autoresearch")
    for name, text in (("train.py", TRAIN), ("prepare.py", PREPARE), ("results.tsv", RESULTS)):
        (there / name).write_text(text)
    monkeypatch.setenv("HOME", str(home))
    said = ratchet(checkout, "new", "speedrun", "--autoresearch", str(there))
    assert "4 earlier runs" in said
    assert "lines 5 could not be read" in said
    assert "write int(os.environ.get(" in said
    assert "uv sync" in said
    experiment = loaded(checkout, "speedrun")
    assert (checkout / "experiments" / "speedrun" / "code" / "train.py").read_text() == TRAIN
    assert experiment.runner.gpu
    assert experiment.runner.seconds >= 600
    assert faults(experiment.contract) == []
    outcome = experiment.runner.run(experiment.tasks[0], {"train.py": TRAIN}, seed=1)
    seen = json.loads(outcome.output.splitlines()[-1])
    assert (seen["val_bpb"], seen["peak_vram_mb"]) == (1.0, 45060.2)
    assert "train.py, the edited file, which prints val_bpb itself" in experiment.contract.proves
    assert "CAREFUL: train.py is what proposals change, and it prints val_bpb itself" in said
    (home / ".cache" / "autoresearch").rename(home / "gone")
    with pytest.raises(UserError, match=r"Make it: cd .*autoresearch0 && uv run prepare\.py"):
        experiment.runner.run(experiment.tasks[0], {"train.py": TRAIN}, seed=1)
    memory = (checkout / "experiments" / "speedrun" / "notes" / "memory.md").read_text()
    notes = read_notes(memory)
    assert notes.done[1] == "keep, val_bpb 0.993200, 44.2 GB: increase LR to 0.04 (b2c3d4e)"
    assert any("from 0.997900 to 0.993200" in lesson for lesson in notes.learned)
    assert scaffold.notes_of(checkout, "speedrun") == memory
