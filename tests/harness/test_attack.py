"""An answer without work earns nothing from a sound grader, and a grader with a hole is found out."""

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.attack import CHEATS, PASTE, Saying, answers, holes, overlap, pasted, reachable, right_and_wrong, snoop
from harness.errors import TrialError, boundary
from harness.experiment import load_tasks
from harness.graders import ExactGrader
from harness.graders.exact import normalised
from harness.ledger import open_run
from harness.protocols import Grader
from harness.snoop import CHUNK, FILE_BYTES, Search, Sought, fingerprints, unpacked
from harness.testing import FakeSandbox, Finished, ScriptedModel
from harness.trials import DurableTrials
from tests.conftest import git
from tests.harness.holes import GRADERS, JudgeGrader, RuleGrader, SubprocessSandbox, in_the_repository, sound_judge
from tests.world import an_experiment
from traces.records import Hole, Task, Trial, now

WORD_TASKS = Path(__file__).parents[2] / "experiments" / "word_tasks" / "tasks.jsonl"
FLOOR = 0.1

SUMS = [
    Task(id=f"sum-{i}", input=f"What is {i} + {7 * i % 5}?", targets=(str(i + 7 * i % 5),), split="train")
    for i in range(20)
]


def trial(task: Task, output: str, grader: Grader) -> Trial:
    grade, error = None, None
    try:
        with boundary("grader"):
            grade = grader.grade(task, output)
    except TrialError as e:
        error = e
    return Trial(
        id=task.id,
        run="r",
        version="v",
        task=task.id,
        split="train",
        output=output,
        grade=grade,
        error=str(error) if error else None,
        boundary=error.boundary if error else None,
        started=now(),
        seconds=0.0,
    )


def attack(grader: Grader, tasks: list[Task], cheats: Sequence[str] = CHEATS) -> list[Hole]:
    found = [
        holes(name, [trial(task, outputs[task.id], grader) for task in tasks if task.id in outputs], FLOOR)
        for name, outputs in answers(tasks).items()
        if name.partition("/")[0] in cheats
    ]
    return [hole for hole in found if hole]


# ── the grader ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("hole", GRADERS)
def test_a_grader_with_a_hole_is_caught_by_the_cheat_that_fits_it(hole):
    cheat, grader = GRADERS[hole]
    found = attack(grader, SUMS[:4], [cheat])
    assert found
    for hole in found:
        assert (hole.cheat, hole.floor, hole.tasks) == (cheat, FLOOR, 4)
        assert hole.score > FLOOR
        assert hole.task in {task.id for task in SUMS[:4]}


def test_every_cheat_at_the_grader_has_a_grader_that_falls_for_it():
    caught = {cheat for cheat, _ in GRADERS.values()} | {"most-frequent"}  # whose hole is in the tasks, see below
    assert caught == set(CHEATS) - {"disk", "environment", "parent"}


@pytest.mark.parametrize("grader", [ExactGrader(), JudgeGrader(ScriptedModel(sound_judge))])
def test_a_sound_grader_rewards_no_cheat(grader):
    assert attack(grader, SUMS) == []


def test_the_exact_grader_is_sound_on_the_word_tasks():
    tasks = [task for task in load_tasks(WORD_TASKS) if task.split == "train"]
    assert attack(ExactGrader(), tasks) == []


def test_tasks_of_which_most_have_the_same_answer_are_a_hole_of_the_most_frequent_one():
    tasks = [task.model_copy(update={"targets": ("Yes",) if i % 3 else ("no", "yes!")}) for i, task in enumerate(SUMS)]
    [found] = attack(ExactGrader(), tasks)
    assert found.cheat == "most-frequent"
    assert found.score == 1.0
    assert normalised(found.example) == "yes"


def test_a_grader_that_raises_on_a_cheat_has_not_rewarded_it():
    numbers = RuleGrader(lambda task, output: float(float(output) == float(task.targets[0])))
    assert attack(numbers, SUMS, ["empty", "refusal", "judge", "every-target"]) == []


def test_a_hole_shows_the_answer_that_was_rewarded_most():
    some = RuleGrader(lambda task, output: float(task.id == "sum-3"))
    outputs = {task.id: task.id * 100 for task in SUMS[:4]}
    found = holes("judge/2", [trial(task, outputs[task.id], some) for task in SUMS[:4]], FLOOR)
    assert found == Hole(cheat="judge", score=0.25, floor=FLOOR, tasks=4, example=outputs["sum-3"][:200], task="sum-3")
    assert holes("judge/2", [trial(task, "x", some) for task in SUMS[:4]], 0.25) is None
    assert holes("judge/2", [], FLOOR) is None


def test_without_targets_the_cheats_that_need_them_are_left_out():
    made = answers([task.model_copy(update={"targets": ()}) for task in SUMS])
    assert {"empty", "echo", "judge/1", "refusal/1"} <= set(made)
    assert not {"most-frequent", "every-target"} & set(made)


def test_every_cheat_has_an_answer_for_every_task():
    made = answers(SUMS)
    assert {name.partition("/")[0] for name in made} == set(CHEATS) - {"disk", "environment", "parent"}
    assert all(set(outputs) == {task.id for task in SUMS} for outputs in made.values())
    assert made["empty"]["sum-1"] == ""
    assert made["echo"]["sum-1"] == SUMS[1].input


def test_all_targets_in_one_answer_keep_within_bounds_and_hold_the_right_one():
    tasks = [Task(id=str(i), input="?", targets=(f"{i} " + "long " * 500,)) for i in range(100)]
    for task in tasks:
        output = answers(tasks)["every-target"][task.id] if task.id == "0" else pasted(task, {"0": tasks[0].targets[0]})
        if output is not None:
            assert task.targets[0] in output
            assert len(output) <= PASTE + len(task.targets[0]) + 1


def test_where_all_tasks_have_one_answer_pasting_them_all_is_no_cheat():
    assert "every-target" not in answers([task.model_copy(update={"targets": ("Yes", "yes!")}) for task in SUMS])


@given(
    st.lists(st.lists(st.sampled_from(["a", "A", "b", "a b", "c d", "d"]), max_size=2), min_size=1, max_size=8),
    st.integers(0, 9),
)
def test_known_right_answers_are_right_and_known_wrong_ones_are_wrong(targets, seed):
    tasks = [Task(id=str(i), input="?", targets=tuple(own)) for i, own in enumerate(targets)]
    right, wrong = right_and_wrong(tasks, seed)
    assert set(right) == {task.id for task in tasks if task.targets}
    every = {target for task in tasks for target in task.targets}
    for task in tasks:
        if task.id in right:
            assert ExactGrader().grade(task, right[task.id]).score == 1
            possible = [other for other in every if not any(overlap(other, target) for target in task.targets)]
            assert (task.id in wrong) == bool(possible)
        if task.id in wrong:
            assert wrong[task.id] in possible
            assert ExactGrader().grade(task, wrong[task.id]).score == 0
    assert right_and_wrong(tasks[::-1], seed) == (right, wrong)


def test_prepared_answers_are_bought_and_graded_like_any_other(checkout, tmp_path):
    experiment = an_experiment()
    tasks = experiment.split("train")[:5]
    saying = an_experiment(runner=Saying({task.id: task.targets[0] for task in tasks}))
    with open_run(tmp_path / "run", experiment, "live") as ledger, ThreadPoolExecutor(2) as executor:
        trials = DurableTrials(saying, ledger, lambda version: {}, executor, "attack/right")
        [bought] = trials.attempt(["live"], tasks)
    assert [trial.grade.score for [trial] in bought.values() if trial.grade] == [1.0] * 5


# ── the place where versions run ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def hidden() -> list[Task]:
    """Made of chance: the machine is searched, and no earlier run of this test may be found."""
    return [
        Task(
            id=f"task-{uuid4().hex[:8]}",
            input=f"Where did {uuid4().hex[:9]} meet {uuid4().hex[:9]} in the “{word}”?",
            targets=(f"é{uuid4().hex[:6]}", f"in the {uuid4().hex[:6]}"),
            split="validation",
        )
        for word in ("garden", "café", "house", "street")
    ]


def as_lines(tasks: list[Task]) -> str:
    return "".join(task.model_dump_json() + "\n" for task in tasks)


def closed(tmp_path: Path) -> SubprocessSandbox:
    folder = tmp_path / "box" / "inner"
    folder.mkdir(parents=True)
    return SubprocessSandbox(folder, {})


def test_a_sandbox_in_the_repository_is_a_hole(hidden, tmp_path):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "tasks.jsonl").write_text(as_lines(hidden))
    [found] = snoop(in_the_repository(tmp_path), hidden, FLOOR, seconds=1.5)
    assert (found.cheat, found.score, found.tasks) == ("disk", 1.0, 4)
    assert "4 of 4 hidden tasks (4 with their answers)" in found.example
    assert "tasks.jsonl" in found.example
    assert len(found.example) <= 200
    assert not any(task.input in found.example or task.targets[0] in found.example for task in hidden)


def test_a_sandbox_that_holds_nothing_is_none(hidden, tmp_path):
    assert snoop(closed(tmp_path), hidden, FLOOR, seconds=0.6) == []


def test_a_hidden_task_in_the_environment_is_a_hole(hidden, tmp_path):
    sandbox = SubprocessSandbox(closed(tmp_path).folder, {"REFERENCE": f"{hidden[1].input} {hidden[1].targets[0]}"})
    [found] = snoop(sandbox, hidden, FLOOR, seconds=0.3)
    assert (found.cheat, found.score, found.task) == ("environment", 0.25, hidden[1].id)
    assert found.example == "1 of 4 hidden tasks (1 with their answers) in REFERENCE"


@pytest.fixture
def start() -> Iterator[Callable[..., int]]:
    """Starts a process that waits; gives its id."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, **options: Any) -> int:
        command = [sys.executable, "-c", "input()", *arguments]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, **options))
        return started[-1].pid

    yield start
    for process in started:
        process.communicate(b"\n")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux shows processes as files")
def test_what_another_process_was_started_with_and_has_open_is_seen(hidden, tmp_path, start):
    path = tmp_path / "gone"
    path.write_text(as_lines(hidden))
    with path.open() as file:
        path.unlink()
        processes = {
            "its variable TASKS": start(env={**os.environ, "TASKS": as_lines(hidden)}),
            "its command line": start(as_lines(hidden)),
            "its open file": start(stdout=file),
        }
    for place, pid in processes.items():
        search = a_search(hidden)
        search.told(pid)
        search.opened(pid)
        [found] = search.places
        assert (found.way, found.tasks) == ("parent", {0, 1, 2, 3})
        assert f"process {pid} (" in found.name
        assert place in found.name


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux shows processes as files")
def test_a_hidden_task_that_another_process_shows_is_a_hole(hidden, tmp_path, start):
    start(hidden[2].input)
    [found] = snoop(closed(tmp_path), hidden, FLOOR, seconds=0.3)
    assert (found.cheat, found.score, found.task) == ("parent", 0.25, hidden[2].id)


def test_the_nearest_folders_are_looked_through_first_and_those_of_other_peoples_code_last(hidden, tmp_path):
    for name in ("a/b/c/d/deep.txt", "a/z.txt", "a/node_modules/x.txt", "a/b/near.txt", "other.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(as_lines(hidden) + name)
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    search = a_search(hidden)
    search.folders("disk", [(str(tmp_path / "a"), "a"), (str(tmp_path), ".")])
    found = [place.name for place in search.places]
    assert found == ["a/z.txt", "./other.txt", "a/b/near.txt", "a/b/c/d/deep.txt", "a/node_modules/x.txt"]


def test_the_folders_of_the_system_are_left_out(hidden):
    search = a_search(hidden)
    search.folders("disk", [("/proc", "/proc"), ("/usr", "/usr")])
    assert search.files == 0


def test_the_search_ends_when_its_time_is_over(hidden, tmp_path):
    (tmp_path / "tasks.jsonl").write_text(as_lines(hidden))
    search = a_search(hidden)
    search.share = 0.0
    search.folders("disk", [(str(tmp_path), ".")])
    assert search.places == []


def test_what_nothing_keeps_a_program_from_reading_is_said(hidden, tmp_path):
    (tmp_path / "tasks.jsonl").write_text(as_lines(hidden))
    with chdir(tmp_path):
        [said] = reachable(hidden, seconds=0.6)
    assert said == f"disk: 4 of 4 hidden tasks (4 with their answers) in {tmp_path.resolve()}/tasks.jsonl"


def test_a_sandbox_in_which_nothing_can_look_around_is_not_called_tight(hidden):
    def no_python(command, files):
        raise FileNotFoundError(command[0])

    for command in (
        no_python,
        lambda command, files: Finished(127, "not found"),
        lambda command, files: Finished(0, ""),
    ):
        with pytest.raises(TrialError, match="Python") as caught:
            snoop(FakeSandbox(command), hidden, FLOOR)
        assert caught.value.boundary == "sandbox"


def test_what_the_program_is_given_in_a_fake_sandbox_holds_no_text_of_a_task(hidden):
    given: dict[str, str] = {}

    def nothing_there(command, files: Mapping[str, str]) -> Finished:
        given.update(files)
        return Finished(0, '{"files": 3, "bytes": 10, "over": false}\n')

    assert snoop(FakeSandbox(nothing_there), hidden, FLOOR) == []
    assert set(given) == {"snoop.py", "snoop.json"}
    for text in given.values():
        assert not any(word in text for task in hidden for word in (task.id[5:], *task.input.split()[2:5:2]))
        assert Sought(given["snoop.json"]).find([text]) == (set(), set())  # so it cannot find itself


def a_search(tasks: list[Task]) -> Search:
    return Search(Sought(fingerprints([(t.id, t.input, t.targets) for t in tasks], uuid4().hex, 60.0)))


def look(text: str, tasks: list[Task]) -> tuple[set[int], set[int]]:
    return Sought(fingerprints([(t.id, t.input, t.targets) for t in tasks], uuid4().hex, 1.0)).find([text])


@pytest.mark.parametrize(
    "written",
    [
        as_lines,
        lambda tasks: json.dumps([[t.targets, t.input] for t in tasks]),  # é as \u00e9
        lambda tasks: "\n".join(f"{t.input.upper()}\t{t.targets[0]}" for t in tasks),
        lambda tasks: "words " * 400_000 + "".join(f"- *{t.input}*\n  {t.targets[1]}\n" for t in tasks),
        lambda tasks: "\n".join(f"{t.id},{t.targets[0]}" for t in tasks),  # the key alone
    ],
)
def test_hidden_tasks_are_found_however_they_are_written(hidden, written):
    assert look(written(hidden), hidden) == ({0, 1, 2, 3}, {0, 1, 2, 3})


def test_a_question_is_found_where_a_text_is_cut_into_parts_and_none_where_the_text_ends_within(hidden, tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("x " * (CHUNK // 2 - 20) + as_lines(hidden))
    search = a_search(hidden)
    search.file("disk", str(path), "here")
    assert search.places[0].tasks == {0, 1, 2, 3}
    for end in range(hidden[0].input.index("“")):
        assert look(hidden[0].input[:end], hidden[:1]) == (set(), set())


def test_the_same_tasks_have_other_fingerprints_each_time(hidden, tmp_path):
    given: list[str] = []

    def keep(command: Sequence[str], files: Mapping[str, str]) -> Finished:
        given.append(files["snoop.json"])
        return Finished(0, '{"files": 0}')

    for _ in range(2):
        snoop(FakeSandbox(keep), hidden, FLOOR)
    digests = [set(re.findall("[0-9a-f]{16}", text)) for text in given]
    assert all(digests)
    assert not digests[0] & digests[1]


def test_questions_without_answers_are_found_too(hidden):
    assert look("\n".join(t.input for t in hidden), hidden) == ({0, 1, 2, 3}, set())


def test_one_question_that_stands_in_a_file_by_chance_is_not_called_found():
    tasks = [
        Task(id=f"{i}", input=f"What is the capital of {country}?", targets=(city,))
        for i, (country, city) in enumerate([("France", "Paris"), ("Spain", "Madrid"), ("Peru", "Lima")])
    ]
    assert look("Q: What is the capital of France? A: Paris. The capital of Spain is Madrid.", tasks) == (set(), set())
    words = [Task(id=f"w{i}", input=word, targets=(word + "s",)) for i, word in enumerate(("lady", "house", "tree"))]
    assert look("an old lady lives in a house by the trees, where ladys and houses", words) == (set(), set())
    assert look("\n".join(f"{t.input},{t.targets[0]}" for t in words), words)[0] == {0, 1, 2}


def test_files_that_git_or_gzip_packed_are_read(hidden, tmp_path):
    assert list(unpacked(gzip.compress(b"text"))) == [b"text"]
    assert list(unpacked(b"x\x9c is no stream")) == [b"x\x9c is no stream"]
    git(tmp_path, "init", "-q")
    (tmp_path / "tasks.jsonl").write_text(as_lines(hidden))
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "Begin")
    (tmp_path / "tasks.jsonl").unlink()
    for packing in ("loose", "packed"):
        if packing == "packed":
            git(tmp_path, "gc", "-q")
        contents = [
            content.decode("utf-8", "replace")
            for path in (tmp_path / ".git" / "objects").rglob("*")
            if path.is_file()
            for content in unpacked(path.read_bytes())
        ]
        assert look("\n".join(contents), hidden)[0] == {0, 1, 2, 3}
    pack = next((tmp_path / ".git" / "objects").rglob("*.pack")).read_bytes()
    for end in range(0, len(pack), 7):
        assert all(len(content) <= FILE_BYTES for content in unpacked(pack[:end]))  # cut anywhere, it only ends
