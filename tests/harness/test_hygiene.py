"""Splits that ask the same, and hidden tasks in the subject, are found; tasks of one template are no false alarm."""

import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.experiment import SPLITS, load_tasks
from harness.hygiene import leaks, twins
from harness.snoop import folded, words
from traces.records import Leak, Task, Twin

WORD_TASKS = Path(__file__).parents[2] / "experiments" / "word_tasks"
FILLER = [
    Task(id=f"f{i}", input=f"What is the plural of {a}{b}?", split=SPLITS[i % 3])
    for i, (a, b) in enumerate((a, b) for a in ("cat", "dog", "fish", "bird") for b in ("a", "e", "i", "o", "u"))
]


def ask(id: str, input: str, split: str) -> Task:
    return Task.model_validate({"id": id, "input": input, "split": split})


# ── words ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is  the plural\nof “Lady”?", "what is the plural of lady"),
        ("Ｆｕｌｌ width", "full WIDTH"),
        ("a well-known STRASSE", "A well known straße"),
        ("don’t", "don't"),
        ("`code`, snake_case", "code snake case"),
        ('caf\\u00e9 \\"x\\"\\n', 'café "x"\n'),
    ],
)
def test_case_punctuation_blanks_and_escapes_make_no_difference(one, other):
    assert words(one) == words(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2 + 2", "2 - 2"),
        ("3-2", "3*2"),
        ("3 - 2", "3, 2"),
        ("the absolute value of -3", "the absolute value of 3"),
        ("a < b", "a > b"),
        ("What does 😀 mean?", "What does 😃 mean?"),
        ("कि", "की"),
        ("日本", "日中"),
        ("C#", "C"),
    ],
)
def test_what_means_another_thing_stays_another_thing(one, other):
    assert words(one) != words(other)


@given(st.text())
def test_folding_twice_is_folding_once(text):
    assert folded(folded(text)) == folded(text)
    assert words(" ".join(words(text))) == words(text)


@given(st.text(), st.text())
def test_the_words_of_two_texts_are_those_of_the_one_and_then_of_the_other(one, other):
    assert words(f"{one} . {other}") == words(one) + words(other)


# ── twins ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_shipped_word_tasks_are_templates_and_no_twins():
    assert twins(load_tasks(WORD_TASKS / "tasks.jsonl")) == []


def test_the_same_question_in_two_splits_is_a_twin_whatever_its_case():
    tasks = [
        *FILLER,
        ask("v", "WHAT is the plural of lady", "validation"),
        ask("t", "What is the plural of “lady”?", "train"),
    ]
    assert twins(tasks) == [Twin(task="t", split="train", other="v", other_split="validation", similarity=1.0)]


def test_a_question_with_a_small_change_is_nearly_a_twin():
    story = "Marta sold eleven oranges at the harbour before noon and gave three to her brother Ivan."
    tasks = [
        *FILLER,
        ask("a", f"{story} How many oranges did Marta sell?", "train"),
        ask("b", f"{story.replace('before', 'until')} How many oranges did Marta sell?", "test"),
        ask("c", "Ivan walked to the harbour. How many boats did he see?", "validation"),
    ]
    [found] = twins(tasks)
    assert (found.task, found.other) == ("a", "b")
    assert 0.9 <= found.similarity < 1


def test_the_same_words_in_another_order_are_no_full_twins():
    tasks = [*FILLER, ask("a", "Is Mars bigger than Venus?", "train"), ask("b", "Is Venus bigger than Mars?", "test")]
    [found] = twins(tasks)
    assert 0.9 <= found.similarity < 1


def test_within_a_split_tasks_may_ask_the_same():
    assert twins([ask(str(i), "Which colour has the sky?", "train") for i in range(3)] + FILLER) == []


def test_every_task_that_has_a_twin_is_named_and_the_list_stays_short():
    tasks = [ask(f"{i:03}", "Which colour has the sky?", SPLITS[i % 3]) for i in range(300)]
    found = twins(tasks)
    assert {twin.task for twin in found} | {twin.other for twin in found} == {task.id for task in tasks}
    assert len(found) <= 2 * len(tasks)


def test_tasks_without_words_or_without_a_split_are_let_be():
    assert twins([]) == []
    assert twins([Task(id="a", input="One two three"), Task(id="b", input="One two three", split="test")]) == []
    assert twins([ask("a", "…", "train"), ask("b", "other words", "test")]) == []


def test_a_threshold_under_which_pairs_would_be_missed_is_refused():
    with pytest.raises(ValueError, match="threshold"):
        twins(FILLER, threshold=0.5)


WORDS = ("what", "is", "the", "red", "blue", "tall", "small", "house", "tree", "of", "in")
QUESTIONS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(WORDS), max_size=7).map(" ".join),
        st.sampled_from(SPLITS),
    ),
    max_size=14,
)


@given(QUESTIONS, st.randoms(use_true_random=False), st.sampled_from([0.6, 0.8, 0.9]))
def test_twins_are_those_of_the_definition_in_whatever_order_the_tasks_come(questions, random, threshold):
    tasks = [ask(f"{i:02}", text, split) for i, (text, split) in enumerate(questions)]
    found = twins(tasks, threshold)
    shuffled = list(tasks)
    random.shuffle(shuffled)
    assert twins(shuffled, threshold) == found
    assert [t.similarity for t in found] == sorted((t.similarity for t in found), reverse=True)

    alike = {(a.id, b.id): similarity(a, b, tasks) for a in tasks for b in tasks if a.split != b.split}
    for twin in found:
        assert math.isclose(alike[twin.task, twin.other], twin.similarity, abs_tol=1e-9)
    for task in tasks:
        for split in {*SPLITS} - {task.split}:
            best = max((alike[task.id, other.id] for other in tasks if other.split == split), default=0.0)
            listed = [t for t in found if (task.id, split) in ((t.task, t.other_split), (t.other, t.split))]
            if best > threshold + 1e-9:
                assert math.isclose(listed[0].similarity, best, abs_tol=1e-9)
            elif best < threshold - 1e-9:
                assert listed == []


def similarity(a: Task, b: Task, tasks: list[Task]) -> float:
    """As the docstring of ``twins`` defines it, the slow way."""
    if words(a.input) == words(b.input):
        return 1.0
    having = Counter(word for task in tasks for word in set(words(task.input)))

    def vector(task: Task) -> dict[str, float]:
        counts = Counter(words(task.input))
        return {word: (1 + math.log(n)) * math.log(len(tasks) / having[word]) for word, n in counts.items()}

    x, y = vector(a), vector(b)
    length = math.hypot(*x.values()) * math.hypot(*y.values())
    return min(0.999, sum(x[word] * y.get(word, 0) for word in x) / length) if length else 0.0


# ── leaks ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_hidden_task_in_a_prompt_is_a_leak_and_a_train_task_is_none():
    tasks = [
        ask("t", "What is the plural of goose?", "train"),
        ask("v", "What is the plural of mouse?", "validation"),
        ask("x", "What is the plural of house?", "test"),
    ]
    text = {
        "prompts/solve.md": "# user\nwhat is the plural of “goose”?\n\n# assistant\ngeese\n",
        "skills/plural/SKILL.md": "For example: what is the\nplural of MOUSE? mice",
    }
    assert leaks(tasks, text) == [Leak(task="v", split="validation", path="skills/plural/SKILL.md")]


def test_a_question_that_goes_on_as_another_one_is_no_leak():
    assert leaks([ask("v", "What is the plural of mouse?", "test")], {"a.md": "What is the plural of mousetrap?"}) == []


def test_a_hidden_input_that_a_train_task_asks_too_is_a_twin_and_no_leak():
    tasks = [ask("t", "What is the plural of goose?", "train"), ask("v", "what is the plural of goose", "validation")]
    assert leaks(tasks, {"prompts/solve.md": "What is the plural of goose?"}) == []
    assert len(twins(tasks)) == 1


@pytest.mark.parametrize("asked", ["goose", "in it", "is it so", "Constantinople Istanbul", "…"])
def test_an_input_too_short_to_be_there_by_anything_but_chance_is_no_leak(asked):
    assert leaks([ask("v", asked, "test")], {"prompts/solve.md": f"A prompt … in it is it so: {asked} goose"}) == []


def test_a_few_ideographs_are_enough():
    [leak] = leaks([ask("v", "日本の首都は？", "test")], {"prompts/solve.md": "例：日本の首都は？東京"})
    assert leak.task == "v"


def test_the_shipped_subject_holds_no_hidden_task():
    subject = WORD_TASKS / "harness"
    text = {str(path): path.read_text(encoding="utf-8") for path in subject.rglob("*") if path.is_file()}
    assert text
    assert leaks(load_tasks(WORD_TASKS / "tasks.jsonl"), text) == []
