"""The tasks of the shipped experiment."""

from collections import Counter
from pathlib import Path

import experiments
from experiments.word_tasks import generate
from experiments.word_tasks.experiment import experiment
from harness.experiment import load_tasks
from harness.graders.exact import normalised
from harness.text import SOLVE, render, validate

FOLDER = Path(experiments.__file__).parent / "word_tasks"
TASKS = load_tasks(FOLDER / "tasks.jsonl")


def test_there_are_seven_kinds_with_eighty_tasks_each():
    assert Counter(task.tags for task in TASKS) == {(kind,): 80 for kind in generate.QUESTIONS}
    assert len(generate.QUESTIONS) == 7


def test_the_generator_writes_the_same_bytes_again():
    assert (FOLDER / "tasks.jsonl").read_bytes() == generate.render().encode()


def test_every_task_is_another_one():
    assert len({task.id for task in TASKS}) == len(TASKS)
    assert len({normalised(task.input) for task in TASKS}) == len(TASKS)


def test_every_task_can_be_answered_with_one_word_that_counts():
    for task in TASKS:
        assert len(task.targets[0].split()) == 1
        assert all(normalised(target) == target.casefold() for target in task.targets)


def test_a_task_whose_answer_gives_away_another_shares_its_cluster():
    opposites = [task for task in TASKS if "opposite" in task.tags]
    asked = {task.input.removeprefix("What is the opposite of ").rstrip("?"): task for task in opposites}

    for task in opposites:
        for target in task.targets:
            assert target not in asked or asked[target].cluster == task.cluster
    assert set(Counter(task.cluster for task in opposites).values()) == {2}


def test_no_two_tasks_of_a_kind_differ_in_one_word_only():
    kinds = {kind: [task for task in TASKS if kind in task.tags] for kind in ("sentiment", "language", "place")}
    for tasks in kinds.values():
        for i, one in enumerate(tasks):
            for other in tasks[:i]:
                mine, theirs = set(normalised(one.input).split()), set(normalised(other.input).split())
                assert len(mine ^ theirs) > 2, (one.input, other.input)


def test_every_kind_is_shared_out_over_the_splits_in_about_their_shares():
    shares = Counter((task.split, *task.tags) for task in experiment.tasks)
    for kind in generate.QUESTIONS:
        train, validation, test = (shares[split, kind] for split in ("train", "validation", "test"))
        assert train + validation + test == 80
        assert 22 <= train <= 42
        assert 22 <= validation <= 42
        assert 10 <= test <= 26


def test_the_seed_prompt_is_valid_and_asks_the_task():
    text = {SOLVE: (FOLDER / "harness" / SOLVE).read_text("utf-8")}
    validate(text)

    assert [path.relative_to(FOLDER / "harness").as_posix() for path in (FOLDER / "harness").rglob("*.*")] == [SOLVE]
    assert render(text, task=TASKS[0].input)[-1].content == TASKS[0].input
