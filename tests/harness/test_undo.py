"""Taking one change out again, from under later ones."""

import random
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.proposers.examples import Prompt, add, tighten
from harness.protocols import Message
from harness.text import parse_chat, write_chat
from harness.undo import undo
from tests.world import PROMPT, SEED_PROMPT
from traces.records import Task

TASKS = [Task(id=f"{i}", input=f"question {i}?", targets=(f"a{i % 3}",), tags=(f"k{i % 2}",)) for i in range(40)]

SENTENCES = re.compile(r"(?<=\.) |\n")

texts = st.lists(st.sampled_from(("a", "b", "", "x. y.", "# user", "# assistant")), max_size=8).map("\n".join)
files = st.dictionaries(st.sampled_from((PROMPT, "skills/count/SKILL.md")), texts)


def without(before: str, after: str, now: str, path: str = "train.py") -> str | None:
    result = undo({path: before}, {path: after}, {path: now})
    return None if result is None else result[path]


# ── what holds of any change ───────────────────────────────────────────────────────────────────────────────────


@given(before=files, after=files)
def test_without_the_last_change_everything_is_as_before_it(before: dict[str, str], after: dict[str, str]):
    assert undo(before, after, after) == before


@given(before=files, after=files)
def test_what_is_out_already_stays_out(before: dict[str, str], after: dict[str, str]):
    assert undo(before, after, before) == before


@given(before=files, now=files)
def test_a_change_of_nothing_takes_nothing_out(before: dict[str, str], now: dict[str, str]):
    assert undo(before, before, now) == now


@given(before=files, after=files, now=files)
@settings(max_examples=300)
def test_no_sentence_comes_out_that_none_of_the_three_had(
    before: dict[str, str], after: dict[str, str], now: dict[str, str]
):
    result = undo(before, after, now)

    for path, text in (result or {}).items():
        had = [SENTENCES.split(version.get(path, "")) for version in (before, after, now)]
        assert set(SENTENCES.split(text)) <= {"", *(sentence for sentences in had for sentence in sentences)}


# ── one of many additions ──────────────────────────────────────────────────────────────────────────────────────


def by_line(things: Sequence[str]) -> str:
    return "\n".join(["Answer.", *(f"- {thing}" for thing in things), "", "The question:"])


def by_line_at_the_end(things: Sequence[str]) -> str:
    return "\n".join(["Answer.", *things])


def by_paragraph(things: Sequence[str]) -> str:
    return "\n\n".join(["Answer.", *things]) + "\n"


def by_sentence(things: Sequence[str]) -> str:
    return " ".join(["# system\nAnswer.", *(f"Mind the {thing}." for thing in things)]) + "\n\n# user\n{{ task }}\n"


def by_example(things: Sequence[str]) -> str:
    examples = [Message(role, text) for thing in things for role, text in (("user", thing), ("assistant", "yes"))]
    return write_chat([Message("system", "Answer."), *examples, Message("user", "{{ task }}")])


@given(
    write=st.sampled_from((by_line, by_line_at_the_end, by_paragraph, by_sentence, by_example)),
    places=st.lists(st.integers(0, 5), min_size=1, max_size=6),
    end=st.sampled_from(("\n", "\r\n")),
    data=st.data(),
)
@settings(max_examples=300)
def test_of_any_number_of_neighbours_any_one_comes_out_alone(
    write: Callable[[Sequence[str]], str], places: list[int], end: str, data: st.DataObject
):
    words = ("Plural", "Größe", "色", "animal", "number", "été")
    states: list[list[str]] = [[]]
    for word, place in zip(words, places, strict=False):
        states.append([*states[-1][:place], word, *states[-1][place:]])
    versions = [write(words).replace("\n", end) for words in states]
    which = data.draw(st.integers(0, len(places) - 1))

    rest = [word for word in states[-1] if word != words[which]]
    assert without(versions[which], versions[which + 1], versions[-1], PROMPT) == write(rest).replace("\n", end)


@given(data=st.data())
def test_changes_that_do_not_touch_come_out_in_any_order(data: st.DataObject):
    before = [f"line {i}" for i in range(12)]
    halves = [data.draw(st.lists(st.sampled_from(("x", "y", *before[:3])), max_size=3)) for _ in range(2)]
    first = [*before[:2], *halves[0], *before[4:]]
    both = [*first[: len(first) - 4], *halves[1], *first[-2:]]
    b, f, t = ("\n".join(lines) for lines in (before, first, both))

    one_way, other_way = without(b, f, t), without(f, t, t)
    assert one_way is not None
    assert other_way == f
    assert without(f, t, one_way) == b
    assert without(b, f, other_way) == b


@pytest.mark.parametrize("seed", range(20))
def test_whatever_examples_and_instructions_a_night_keeps_any_one_comes_out(seed: int):
    rng = random.Random(seed)
    states = [SEED_PROMPT]
    for _ in range(8):
        move = rng.choice((add, add, add, tighten))
        made = move(Prompt.parse(states[-1], {t.id: t for t in TASKS}), TASKS, rng)
        states += [write_chat(made[0])] if made else []

    def lines(text: str) -> Counter[tuple[str, str]]:
        return Counter((m.role, line) for m in parse_chat(text) for line in m.content.split("\n"))

    for before, after in pairwise(states):
        result = without(before, after, states[-1], PROMPT)
        assert result is not None
        assert lines(result) == lines(states[-1]) - (lines(after) - lines(before))
        assert set(Prompt.parse(result, {}).examples) <= set(Prompt.parse(states[-1], {}).examples)


# ── what rests on it ───────────────────────────────────────────────────────────────────────────────────────────

ADDED = "# system\nAnswer.\n\n# user\nq1\n\n# assistant\na1\n\n# user\n{{ task }}\n"
TOLD = ADDED.replace("q1", "q1.").replace("a1", "a1.")


@pytest.mark.parametrize(
    ("before", "after", "now"),
    [
        ("a\nb", "a\nx\nb", "a\ny\nb"),  # reworded since
        ("a\nb", "a\nx\ny\nb", "a\nx\nz\ny\nb"),  # something was put into its middle
        ("a\nb", "a\nx\ny\nb", "a\nx\nb"),  # half of it went
        ("a\nb\nc", "a\nc", "a\nz\nc"),  # the place of what it took out is taken: before it, or behind it?
        (
            "a\nb\nc",
            "a\nx\nc",
            "a\nc",
        ),  # what it put there went: for good, or to make room?
        ("Be brief.", "Be very brief.", "Be very, very brief."),
        ("a\nb\nc\nc", "c\nb\nc\nc", "c\nc\nc"),  # reworded, and then its neighbour went: which lines are left?
        ("b\nc\nb\na", "c\na", "b"),
        (SEED_PROMPT, ADDED, ADDED.replace("a1", "a2")),  # the example was given another answer
        (SEED_PROMPT, ADDED, ADDED.replace("q1", "q2")),
        (ADDED, ADDED.replace("q1", "q2"), ADDED.replace("q1", "q2").replace("a1", "a2")),
        (TOLD, TOLD.replace("q1.", "q1. Why?"), TOLD.replace("q1.", "q1. Why?").replace("a1.", "a1. Because.")),
    ],
)
def test_a_change_that_later_ones_rest_on_does_not_come_out(before: str, after: str, now: str):
    assert without(before, after, now, PROMPT) is None


@pytest.mark.parametrize(
    ("before", "after", "now", "result"),
    [
        ("a\nb\nc", "a\nx\nc", "z\nx\nd", "z\nb\nd"),  # both neighbours were changed
        ("a\nb\nc", "a\nc", "a\nz", "a\nb\nz"),  # what it took out goes back behind what stood before it
        ("a\nb\nc", "a\nc", "z\nc", "z\nb\nc"),
        ("a\nb\nc\nd", "a\nd", "a\nb\nc\nd\ne", "a\nb\nc\nd\ne"),  # what it took out was put back since
        ("a\nb\n", "a\nb\nx\n", "a\nb\n", "a\nb\n"),  # what it added was cut since
        ("p\n\nq\n", "p\n\nr\n\nq\n", "r\n\nq\n", "q\n"),  # the paragraph before it went; whose is the empty line?
        ("{\np\n}", "{\np\n}\n{\nq\n}", "{\np\n}\n{\nr\n}\n{\nq\n}", "{\np\n}\n{\nr\n}"),
        ("a", "a\nx", "a\nx\ny", "a\ny"),  # no newline at the end
        ("", "x", "x\ny", "\ny"),
        ("One. Two.", "One. Two and a half.", "Zero. One. Two and a half. Three.", "Zero. One. Two. Three."),
    ],
)
def test_what_is_put_back_goes_where_it_was(before: str, after: str, now: str, result: str):
    assert without(before, after, now) == result


def test_files_that_came_and_went_are_taken_back_as_long_as_nobody_touched_them():
    assert undo({}, {"new": "a"}, {"new": "a", "other": "b"}) == {"other": "b"}
    assert undo({"old": "a"}, {}, {"other": "b"}) == {"old": "a", "other": "b"}
    assert undo({"f": "a"}, {"f": "b", "new": "c"}, {"f": "b"}) == {"f": "a"}

    assert undo({}, {"new": "a"}, {"new": "a\nmore"}) is None
    assert undo({"old": "a"}, {}, {"old": "another"}) is None
    assert undo({"f": "a"}, {"f": "b"}, {}) is None


# ── against git ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(60))
def test_where_git_merges_three_ways_the_result_is_the_same(seed: int, tmp_path: Path):
    rng, fresh = random.Random(seed), iter(range(1000))

    def lines(count: int) -> list[str]:
        return [f"line {next(fresh)}" for _ in range(count)]

    def edited(text: list[str]) -> list[str]:
        at = rng.randrange(len(text))
        return [*text[:at], *lines(rng.randrange(3)), *text[at + rng.randrange(3) :]]

    before = lines(10)
    after = edited(before)
    now = edited(edited(after))
    for name, text in (("now", now), ("after", after), ("before", before)):
        (tmp_path / name).write_text("\n".join(text), encoding="utf-8")

    command = ["git", "merge-file", "-p", "now", "after", "before"]
    merged = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    if merged.returncode == 0:
        assert without("\n".join(before), "\n".join(after), "\n".join(now)) == merged.stdout
