"""Each attack fails where it should, and is reported where there is that very hole."""

import os
import subprocess
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from analysis.checking import OF_CODE, hole, render
from harness.check import about_the_number, check, open_check
from harness.errors import UserError
from harness.experiment import Budget, Experiment
from harness.gate import MetricGate
from harness.graders.metric import MetricGrader
from harness.hostile import (
    ATTACKS,
    FAKE,
    NO_SANDBOX,
    Siege,
    about_number,
    edited,
    exhausted,
    forged,
    holes,
    hostile,
    imported,
    linked,
    looked_around,
    near,
    poisoned,
    untried,
)
from harness.protocols import Finished
from harness.runners import CommandRunner, Computed, Evaluated, InFile, Printed
from harness.runners.metrics import NoMetric
from harness.sandboxes import NoSandbox, best_sandbox
from harness.sandboxes.folder import Folder
from harness.sandboxes.isolation import Isolated, kind_that_works
from harness.testing import ScriptedModel
from harness.versions import Repo
from tests.conftest import git
from tests.world import ListProposer
from traces.records import Attack, Check, Task

TASK = Task(id="run", input="", split="train")
TRAIN = """
import json
with open("answer.json", "w") as file:
    json.dump([1, 2, 3], file)
print("score: 2")
"""
EVALUATE = """
import json
import helper
with open("answer.json") as file, open("truth.json") as truth:
    print("score:", helper.alike(json.load(file), json.load(truth)))
"""
FILES = {
    "evaluate.py": EVALUATE,
    "helper.py": "def alike(a, b):\n    return sum(x == y for x, y in zip(a, b))\n",
    "truth.json": "[1, 2, 4, 5, 6, 7, 8, 9]",
    "prepare.py": "SHARDS = 3  # of the data, which is fixed\n",
}

try:
    KIND: type[Isolated] | None = kind_that_works()
except UserError:
    KIND = None
walled = pytest.mark.skipif(KIND is None, reason="no sandbox works here")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("experiment")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def runner_of(place: Path, metric: Any = None, **options: Any) -> CommandRunner:
    fixed = {"prepare.py": place / "prepare.py"}
    command = "python3 -I -S train.py"
    return CommandRunner(command, metric or Printed("score"), **{"fixed": fixed, "seconds": 30.0, **options})


def evaluated(place: Path, kind: type[Evaluated] = Evaluated) -> Evaluated:
    files = {name: place / name for name in ("evaluate.py", "helper.py", "truth.json")}
    return kind("score", "python3 evaluate.py", fixed=files, artifacts=["answer.json"])


def siege_of(runner: CommandRunner, stays: float = 5.0) -> Siege:
    return Siege(runner, TASK, {"train.py": TRAIN}, 0, "higher", stays)


def by_name(attacks: Sequence[Attack]) -> dict[str, Attack]:
    return {attack.name: attack for attack in attacks}


def found_by(attacks: Sequence[Attack]) -> set[str]:
    return {attack.name for attack in attacks if attack.outcome == "hole"}


# ── where it should fail ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def checked(place, tmp_path_factory) -> Check:
    """Of an experiment that has nothing left open."""
    folder = tmp_path_factory.mktemp("repository")
    (folder / "code").mkdir()
    (folder / "code" / "train.py").write_text(TRAIN)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "code")
    git(folder, "commit", "-qm", "A program")
    experiment = Experiment(
        name="toy",
        subject="code",
        tasks=[TASK],
        runner=runner_of(place, evaluated(place)),
        grader=MetricGrader("score"),
        proposer=ListProposer([]),
        gate=MetricGate("score", better="higher"),
        budget=Budget(rounds=3),
    )
    subject = Repo.find(folder).subject("code")
    with open_check(folder / "data", experiment, subject.live().id) as ledger, ThreadPoolExecutor(2) as executor:
        return check(experiment, ledger, subject, executor)


@pytest.fixture(scope="module")
def contained(checked) -> dict[str, Attack]:
    return by_name(checked.attacks)


@walled
@pytest.mark.parametrize("name", ATTACKS)
def test_where_nothing_is_open_each_attack_fails(contained, name):
    assert contained[name].outcome in ("contained", "caught"), contained[name]
    assert contained[name].tried


@walled
def test_the_honest_trial_beside_them_gives_its_number(contained):
    assert contained["honest"].got == "its score is 2"
    assert list(contained) == ["honest", *ATTACKS]
    assert holes(contained.values()) == []


@walled
def test_a_check_of_code_measures_and_attacks_it_and_says_so(checked):
    assert (checked.holes, checked.right_answers, checked.regraded) == ((), 0, 0)
    assert (checked.a_a.metric, checked.a_a.sigma, checked.final) == ("score", 0.0, 5)
    assert checked.contention is None or checked.contention.shift == 0
    assert not any("own word" in warning for warning in checked.warnings)
    text = render(checked)
    assert f"all of the {len(ATTACKS)} attacks that were tried failed" in text
    assert "Ended without a number: printed (no_metric)" in text
    assert "One run takes" in text


def test_an_attack_that_got_something_is_a_problem_with_a_sentence():
    [found] = holes([Attack(name="home", tried="", outcome="hole", got="~/.netrc")])
    assert hole(found).startswith("A candidate can read files of your home directory: ~/.netrc. ")


@pytest.mark.parametrize(
    ("proposer", "asks"),
    [
        (ListProposer([]), False),
        (SimpleNamespace(model=ScriptedModel("x")), True),
        (SimpleNamespace(agent=SimpleNamespace()), True),
    ],
    ids=["list", "model", "agent"],
)
def test_that_a_candidate_is_taken_at_its_word_is_a_warning_and_louder_where_a_model_proposes(place, proposer, asks):
    experiment: Any = SimpleNamespace(runner=runner_of(place, sandbox=NoSandbox), proposer=proposer)
    attacks = [Attack(name="printed", tried="", outcome="believed"), untried("disk-full", "", NO_SANDBOX)]
    word, walls = about_the_number(experiment, attacks)
    assert ("do not leave this alone" in word) == asks
    assert "metric=Evaluated(" in word
    assert "disk-full" in walls


@walled
def test_what_should_end_a_trial_says_how_it_was_ended(contained):
    ends = {name: contained[name].got for name in ("fork-bomb", "memory", "disk-full", "cpu", "flood", "hang")}
    assert ends == {
        "fork-bomb": "processes",
        "memory": "oom",
        "disk-full": "output",
        "cpu": "timeout",
        "flood": "output",
        "hang": "timeout",
    }


def test_a_version_that_gives_no_number_is_not_attacked(place):
    runner = runner_of(place, sandbox=NoSandbox)
    with pytest.raises(UserError, match="gave no score"):
        hostile(runner, TASK, {"train.py": "print('nothing')"}, 0)


def test_every_attack_has_a_sentence():
    assert set(OF_CODE) == set(ATTACKS)


# ── where there is that very hole ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Unwalled:
    """With every hole: a subprocess with our environment, whose children nobody ends."""

    limits: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @contextmanager
    def open(self, folder: Path | None = None) -> Generator["UnwalledBox"]:
        assert folder is not None
        yield UnwalledBox(folder)


@dataclass(frozen=True)
class UnwalledBox:
    folder: Path

    def run(
        self,
        command: Sequence[str],
        *,
        seconds: float | None = None,
        environment: Mapping[str, str] | None = None,
        fixed: Sequence[str] = (),
    ) -> Finished:
        given = {**os.environ, **(environment or {})}
        done = subprocess.run(
            [*command], cwd=self.folder, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return Finished(done.returncode, done.stdout)

    def read(self, path: str) -> str:
        return (self.folder / path).read_text()

    def write(self, path: str, text: str) -> None:
        (self.folder / path).write_text(text)


def unwalled(**limits: Any) -> Unwalled:
    return Unwalled(limits)


def leaky(**holes: Any) -> Callable[..., Isolated]:
    """The best sandbox here, with limits that a runner cannot tighten."""
    return lambda **limits: best_sandbox(**{**limits, **holes})


def test_without_walls_all_that_is_looked_for_is_found(place, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    runner = runner_of(place, evaluated(place), sandbox=unwalled)
    found = looked_around(siege_of(runner), tmp_path, [str(elsewhere)])
    assert found_by(found) == set(ATTACKS[:10]), found
    assert [*tmp_path.rglob("*canary*")] == []


def test_what_is_allowed_is_no_hole(place, tmp_path):
    runner = runner_of(place, network=True, fixed={}, sandbox=unwalled)
    found = by_name(looked_around(siege_of(runner), tmp_path, [str(tmp_path)]))
    assert {name: found[name].outcome for name in ("network", "originals", "hidden")} == {
        "network": "untried",
        "originals": "untried",
        "hidden": "untried",
    }


@walled
def test_hidden_data_in_what_is_readable_are_found(place, tmp_path):
    runner = runner_of(place, evaluated(place), readable=[place])
    found = by_name(looked_around(siege_of(runner), tmp_path, [str(tmp_path)]))
    assert found["hidden"].outcome == "hole"
    assert found["hidden"].got.startswith(str(place))
    truth = place / "truth.json"
    hidden = Computed("score", lambda folder: float(len(truth.read_text())))
    found = by_name(looked_around(siege_of(replace(runner, metric=hidden)), tmp_path, [str(tmp_path)]))
    assert found["hidden"].got == str(truth)


@walled
def test_a_search_that_was_cut_short_is_no_search(place, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.hostile.SEARCHED", 3)
    runner = runner_of(place, evaluated(place))
    found = by_name(looked_around(siege_of(runner), tmp_path, [str(tmp_path)]))["hidden"]
    assert (found.outcome, found.got[:55]) == ("untried", "not known: the search was cut short after 3 files, at /")


def test_hidden_files_are_looked_for_where_the_experiment_lies_before_all_else(place):
    assert near([place / "truth.json", place]) == [str(place), str(Path(__file__).parents[2])]


class Careless(CommandRunner):
    """Does not look whether what is fixed still is as it was."""

    def _judged(self, finished: Finished, folder: Path) -> Any:
        return None, ""


def test_an_evaluator_that_can_be_edited_is_found_where_nobody_looks(place):
    seen = by_name(edited(siege_of(runner_of(place, sandbox=unwalled))))
    assert (seen["evaluator"].outcome, seen["evaluator"].got) == ("caught", "tampered")
    assert seen["restored"].outcome == "hole"
    runner = runner_of(place, sandbox=unwalled)
    careless = Careless(runner.command, runner.metric, {"prepare.py": place / "prepare.py"}, sandbox=unwalled)
    unseen = by_name(edited(siege_of(careless)))
    assert unseen["evaluator"].outcome == "hole"
    assert [way for way in ("write", "replace", "link", "rename", "delete") if way not in unseen["evaluator"].got] == []
    assert (place / "prepare.py").read_text() == FILES["prepare.py"]


@dataclass(frozen=True)
class Believing:
    """Takes a number from the output, and says that none of the candidate's code made it."""

    name: str = "score"
    which: int = 0
    is_isolated: bool = True

    def read(self, finished: Finished, folder: Path) -> float:
        lines = [line for line in finished.output.splitlines() if line.startswith(("score:", "{"))]
        return FAKE if lines[self.which].startswith("{") else float(lines[self.which].partition(":")[2])


def test_a_number_that_the_candidate_gives_itself_is_found_where_it_is_believed(place):
    first, last = (
        found_by(forged(siege_of(runner_of(place, Believing(which=at), sandbox=NoSandbox)), 2.0)) for at in (0, -1)
    )
    assert first == {"printed", "twice", "ratchet-line"}
    assert last == {"printed", "twice-reversed", "ratchet-line"}


def test_what_takes_the_candidates_word_by_declaration_is_no_hole(place):
    seen = by_name(forged(siege_of(runner_of(place, sandbox=NoSandbox)), 2.0))
    assert (seen["printed"].outcome, seen["twice"].got, seen["twice-reversed"].got) == (
        "believed",
        "no_metric",
        "no_metric",
    )


@pytest.mark.parametrize(
    ("train", "pattern"),
    [
        ("print('step 1'); print('Größe der Rückstände (rmse) 2.5000 s, n = 3')", r"\(rmse\) (\d\.\d{4}) s"),
        ("print('final'); print('  0.9871 of 1'); print('end')", r"(?s)\Afinal.*?(0\.9\d+) of.*end"),
        ("print('7 of 9 failed')", r"^(\d) of \d failed$"),
    ],
    ids=["a unit", "of several lines", "a digit"],
)
def test_a_number_that_a_pattern_reads_is_one_that_a_candidate_can_write(place, train, pattern):
    runner = runner_of(place, Printed("rmse", pattern), sandbox=NoSandbox)
    siege = replace(siege_of(runner), text={"train.py": train})
    seen = by_name(forged(siege, 2.5))
    assert seen["printed"].outcome == "believed"
    assert "untried" not in {attack.outcome for attack in seen.values()}


@dataclass(frozen=True)
class Particular:
    """Takes the candidate's word, in words of its own."""

    name: str = "score"
    is_isolated: bool = False

    def read(self, finished: Finished, folder: Path) -> float:
        if "it is" not in finished.output:
            raise NoMetric("nothing")
        return float(finished.output.rpartition("it is")[2])


def test_where_not_even_the_true_number_is_read_nothing_was_tried(place):
    siege = siege_of(runner_of(place, Particular(), sandbox=NoSandbox))
    seen = by_name(forged(siege, 2.0))
    assert {seen[name].outcome for name in ("printed", "twice", "twice-reversed")} == {"untried"}
    assert "gives the true number, and no more, was not believed: no_metric nothing" in seen["printed"].got


def test_of_a_file_that_holds_two_numbers_none_is_worth_more_than_one_that_was_left_alone(place):
    metric = InFile("score", "out/m.json", "eval.score")
    seen = by_name(forged(siege_of(runner_of(place, metric, sandbox=NoSandbox)), 2.0))
    assert {name: seen[name].outcome for name in ("printed", "twice", "twice-reversed")} == {
        "printed": "believed",
        "twice": "contained",
        "twice-reversed": "believed",
    }


def test_a_number_for_doing_nothing_is_a_hole_where_it_is_better_than_the_honest_one(place):
    nothing = Computed("score", lambda folder: 3.0)
    runner = runner_of(place, nothing, sandbox=NoSandbox)
    plan = {"lines": ["score: 3"]}
    seen = siege_of(runner).measure("forge", plan)
    assert about_number(siege_of(runner), 2.0, "printed", "", seen).outcome == "hole"
    assert about_number(siege_of(runner), 4.0, "printed", "", seen).outcome == "contained"


class Following(InFile):
    """Opens what the candidate left as if it were ours."""

    def read(self, finished: Finished, folder: Path) -> float:
        return FAKE if (folder / self.path).is_symlink() and (folder / self.path).read_text() else 1.0


def test_links_that_are_followed_are_found(place):
    assert "links" in found_by(linked(siege_of(runner_of(place, Following("score"), sandbox=NoSandbox))))
    assert "links" not in found_by(linked(siege_of(runner_of(place, InFile("score"), sandbox=NoSandbox))))


@pytest.mark.parametrize(
    "evaluator",
    ["import pickle\nprint('score:', pickle.load(open('answer.json', 'rb')))", "exec(open('answer.json').read())"],
    ids=["unpickles", "imports"],
)
def test_an_evaluator_that_runs_what_it_is_given_is_found(place, tmp_path, evaluator):
    (tmp_path / "evaluate.py").write_text(evaluator)
    files = {"evaluate.py": tmp_path / "evaluate.py"}
    metric = Evaluated("score", "python3 evaluate.py", fixed=files, artifacts=["answer.json"])
    [seen] = poisoned(siege_of(runner_of(place, metric, sandbox=NoSandbox)))
    assert seen.outcome == "hole"


def beside_the_candidate(folder: Folder) -> float:
    """An evaluation that runs in the candidate's own folder."""
    done = subprocess.run(["python3", "evaluate.py"], cwd=folder.path, capture_output=True, text=True)
    return float(done.stdout.rpartition("score:")[2])


def test_modules_that_an_evaluation_imports_from_the_worktree_are_found(place):
    fixed = {name: place / name for name in ("evaluate.py", "helper.py", "truth.json")}
    runner = runner_of(place, Computed("score", beside_the_candidate), fixed=fixed, sandbox=NoSandbox)
    [seen] = imported(siege_of(runner))
    assert seen.outcome == "hole"
    [seen] = imported(siege_of(runner_of(place, evaluated(place), sandbox=NoSandbox)))
    assert seen.outcome == "contained"


class Endless(CommandRunner):
    """Sets no limits."""

    def attempt(self, task: Task, text: Mapping[str, str], seed: int, command: Sequence[str] | None = None) -> Any:
        large = 1 << 33
        patient = CommandRunner(
            self.command, self.metric, seconds=60.0, memory=large, disk=large, output=large, sandbox=self.sandbox
        )
        return patient.attempt(task, text, seed, command)


@walled
def test_a_machine_that_can_be_exhausted_is_found(place):
    sandbox = leaky(processes=4096)
    metric = Believing(which=-1)
    seen = exhausted(siege_of(Endless("python3 -I -S train.py", metric, sandbox=sandbox), stays=1.5))
    assert found_by(seen) == set(ATTACKS[-6:]), seen


def test_without_a_sandbox_nothing_is_tried_that_would_harm_the_machine(place):
    seen = by_name(exhausted(siege_of(runner_of(place, sandbox=NoSandbox))))
    assert {name for name, attack in seen.items() if attack.outcome == "untried"} == {
        "fork-bomb",
        "memory",
        "disk-full",
    }
    assert [seen[name].got for name in ("cpu", "flood", "hang")] == ["timeout", "output", "timeout"]
