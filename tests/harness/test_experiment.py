from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import UserError
from harness.experiment import Budget, describe, find_experiment, load_experiment, load_tasks, split_tasks
from harness.gate import PairedGate
from tests.world import KnowingRunner, an_experiment, some_tasks
from traces.records import Task


@given(st.integers(1, 5), st.integers(0, 99))
def test_tasks_are_split_by_cluster_in_about_the_declared_shares(per_cluster, seed):
    tasks = [Task(id=str(i), input="", cluster=f"c{i // per_cluster}") for i in range(400 * per_cluster)]
    split = split_tasks(tasks, seed=seed)

    homes = {task.cluster: task.split for task in split}
    assert all(task.split == homes[task.cluster] for task in split)
    sizes = Counter(homes.values())
    assert abs(sizes["train"] - 160) < 50
    assert abs(sizes["test"] - 80) < 40


@given(st.integers(0, 99), st.integers(1, 50))
def test_adding_tasks_never_moves_one_that_is_there(seed, more):
    before = [Task(id=str(i), input="") for i in range(60)]
    added = [Task(id=f"new-{i}", input="") for i in range(more)]
    kept = {t.id: t.split for t in split_tasks([*added, *before], seed=seed)}
    assert all(kept[t.id] == t.split for t in split_tasks(before, seed=seed))


def test_the_same_seed_splits_alike_and_another_seed_otherwise():
    assert split_tasks(some_tasks(), seed=1) == split_tasks(some_tasks(), seed=1)
    bare = [task.model_copy(update={"split": None}) for task in some_tasks()]
    assert split_tasks(bare, seed=1) != split_tasks(bare, seed=2)


def test_a_split_that_the_file_gives_is_left_as_it_is(tmp_path):
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"id": "a", "input": "x", "split": "test"}\n\n{"id": "b", "input": "y"}\n')
    tasks = load_tasks(path)
    assert tasks[0].split == "test"
    assert tasks[1].split is not None


@pytest.mark.parametrize("line", ['{"id": "a"', '{"id": "a"}', '{"id": "a", "input": "x", "split": "dev"}', "[1]"])
def test_a_task_file_that_does_not_parse_names_the_line_and_shows_a_task(tmp_path, line):
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"id": "t", "input": "fine"}\n' + line + "\n")
    with pytest.raises(UserError, match=r"tasks\.jsonl line 2 is not a task: .*A task looks like"):
        load_tasks(path)


def test_a_task_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.jsonl cannot be read"):
        load_tasks(tmp_path / "nowhere.jsonl")


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([Task(id="a", input="", split="train"), Task(id="a", input="", split="test")], "more than once, first 'a'"),
        ([Task(id="a", input="")], "have no split, first 'a'"),
        (
            [Task(id=i, input="", split=s, cluster="c") for i, s in (("a", "train"), ("b", "test"))],  # type: ignore[arg-type]
            "leaks into the other",
        ),
        ([t for t in some_tasks() if t.split != "validation"], "has 0 validation tasks"),
        (
            [t for t in some_tasks() if t.split != "validation"] + [Task(id="v", input="", split="validation")],
            "has 1 valid",
        ),
    ],
)
def test_tasks_that_cannot_decide_anything_are_refused(tasks, message):
    with pytest.raises(UserError, match=message):
        an_experiment(tasks=tasks)


def test_an_experiment_without_tasks_is_refused():
    from dataclasses import replace

    with pytest.raises(UserError, match="has no tasks"):
        replace(an_experiment(), tasks=[])


@pytest.mark.parametrize("limits", [{}, {"rounds": 0}, {"hours": 0.0}, {"dollars": -1.0}, {"trials": 0}])
def test_a_budget_of_nothing_or_of_no_limit_is_refused(limits):
    with pytest.raises(UserError, match="budget"):
        Budget(**limits)


@given(st.builds(dict, rounds=st.integers(1, 99), hours=st.none() | st.floats(0.1, 9)), st.integers(1, 99))
def test_the_command_line_can_only_tighten_a_budget(limits, rounds):
    tight = Budget(**limits).tightened(Budget(rounds=rounds, hours=5.0))
    assert tight.rounds == min(limits["rounds"], rounds)
    assert tight.hours == min(limits["hours"] or 5.0, 5.0)


def test_the_fingerprint_changes_with_settings_tasks_and_source_and_not_with_the_budget():
    base = an_experiment().fingerprint()
    assert an_experiment(budget=Budget(rounds=9)).fingerprint() == base
    assert an_experiment(gate=PairedGate(repeats=2)).fingerprint()["gate"] != base["gate"]
    assert an_experiment(runner=KnowingRunner(known=0.8)).fingerprint()["runner"] != base["runner"]
    assert an_experiment(tasks=some_tasks(21)).fingerprint()["tasks"] != base["tasks"]

    def one(x: int) -> int:
        return x + 1

    def two(x: int) -> int:
        return x + 2

    assert describe(one) != describe(two)


def write(tmp_path: Path, source: str) -> Path:
    path = tmp_path / "experiments" / "mine" / "experiment.py"
    path.parent.mkdir(parents=True)
    path.write_text(source)
    return path


def test_an_experiment_is_found_from_any_folder_below_and_may_import_what_lies_beside_it(tmp_path):
    path = write(tmp_path, "from beside_it import made\nexperiment = made\n")
    source = "from dataclasses import replace\nfrom tests.world import an_experiment\n"
    (path.parent / "beside_it.py").write_text(f"{source}made = replace(an_experiment(), name='mine')")
    (deep := tmp_path / "a" / "b").mkdir(parents=True)

    assert find_experiment("mine", deep) == path
    assert load_experiment(path).name == "mine"


def test_an_unknown_experiment_lists_those_that_there_are(tmp_path):
    write(tmp_path, "")
    with pytest.raises(UserError, match=r"There are: mine\. To write it: ratchet new other"):
        find_experiment("other", tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [("import nowhere_to_be_found", "ModuleNotFoundError"), ("x = ", "SyntaxError"), ("x = 1", "builds no Experiment")],
)
def test_an_experiment_file_that_builds_none_says_why(tmp_path, source, message):
    with pytest.raises(UserError, match=message):
        load_experiment(write(tmp_path, source))


class Setting:
    def __init__(self, value: object) -> None:
        self.value = value
        self.itself = self


def test_a_description_tells_settings_apart_and_is_the_same_in_every_process():
    import functools
    import re

    pairs = [
        (Path("a"), Path("b")),
        (b"a", b"b"),
        (re.compile("a"), re.compile("b")),
        (functools.partial(int, base=2), functools.partial(int, base=3)),
        (frozenset("ab"), frozenset("ac")),
    ]
    for one, other in pairs:
        assert describe(Setting(one)) == describe(Setting(one))
        assert describe(Setting(one)) != describe(Setting(other))
    assert "0x" not in str(describe(Setting(object())))
    assert describe(frozenset("abc")) == ["a", "b", "c"]
