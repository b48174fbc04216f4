"""How a command is taken apart, and which files it is found to need."""

import sys

import pytest

from experiments.entry import entry, files_needed, measures, taken_from
from harness.errors import UserError


@pytest.fixture
def base(tmp_path):
    files = {
        "bench.py": "import lib.core\nfrom solver import a\nfrom . import nothing\nopen('inputs/x.csv')\nprint('done')",
        "solver.py": "import json, helper",
        "helper.py": "import solver  # in a circle",
        "unused.py": "",
        "lib/__init__.py": "",
        "lib/core.py": "from .deep import more\nfrom ..outside import x",
        "lib/deep/__init__.py": "",
        "lib/deep/more.py": "def (",
        "inputs/x.csv": "1",
        "inputs/y.csv": "2",
        "run.sh": "#!/usr/bin/env -S sh -e\npython bench.py --config conf/a.toml",
        "conf/a.toml": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def known(base) -> set[str]:
    return {path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file()}


def test_the_python_that_ratchet_runs_in_is_called_python_and_its_options_are_no_script(base):
    found = entry(f"A=1 B='x y' {sys.executable} -X dev -u bench.py --seed 3", base)
    assert found.words == ("python", "-X", "dev", "-u", "bench.py", "--seed", "3")
    assert (found.script, found.is_python, found.readable) == ("bench.py", True, ())
    assert found.environment == {"A": "1", "B": "x y"}


@pytest.mark.parametrize(
    ("command", "script"),
    [("-m lib.core", "lib/core.py"), ("-m json.tool x", None), ("-c 'print(1)'", None), ("./bench.py", "bench.py")],
)  # fmt: skip
def test_its_script_is_found(base, command, script):
    assert entry(f"{sys.executable} {command}", base).script == script


def test_a_script_with_a_first_line_is_started_as_that_says(base):
    found = entry("./run.sh now", base)
    assert (found.words, found.script, found.is_python) == (("sh", "-e", "run.sh", "now"), "run.sh", False)


def test_another_python_is_called_by_its_name_and_what_it_needs_is_shown(base):
    other = base / "env"
    (other / "bin").mkdir(parents=True)
    (other / "bin" / "python").symlink_to(sys.executable)
    (other / "pyvenv.cfg").write_text(f"home = {sys.base_prefix}/bin\n")
    found = entry(f"{other}/bin/python bench.py", base)
    assert found.words == (str(other / "bin" / "python"), "bench.py")
    assert found.readable == (other,)
    (base / ".venv").symlink_to(other)
    assert entry("uv run bench.py", base).words[1:] == ("bench.py",)


@pytest.mark.parametrize("command", ["a && b", "cd x", "a > b", "'", "", "X=1", "./unused.py", "echo $(date)", "a; b"])
def test_what_no_process_could_be_is_refused(base, command):
    with pytest.raises(UserError):
        entry(command, base)


def test_what_a_script_imports_and_names_is_needed_and_nothing_else(base):
    assert files_needed(["bench.py"], base, known(base)) == {
        *("bench.py", "solver.py", "helper.py", "lib/__init__.py", "lib/core.py", "lib/deep/__init__.py"),
        *("lib/deep/more.py", "inputs/x.csv"),
    }
    assert {"conf/a.toml", "bench.py"} <= files_needed(["run.sh"], base, known(base))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("from lib.core import a, b as c", {"a", "b"}),
        ("import lib.core\nlib.core.run(lib.other)", {"run"}),
        ("import lib.core as x\nx.one(x.two)", {"one", "two"}),
        ("from lib import core\ncore.one()", {"one"}),
        ("from .core import near", {"near"}),
        ("import corelib, os\nos.core.x\ncorelib.y", set()),
    ],
)
def test_what_is_taken_from_a_module_is_seen(tmp_path, text, names):
    (tmp_path / "a.py").write_text(text)
    assert taken_from("a.py", "lib/core.py", tmp_path) == names


def test_names_of_what_measures_are_known():
    assert all(map(measures, ["evaluate.py", "lib/metrics.py", "data.py", "prepare.py", "tests/x.py", "score.py"]))
    assert not any(map(measures, ["solver.py", "model.py", "database.py", "train.py", "testament.py", "train_step.py"]))
