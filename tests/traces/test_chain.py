"""The chain: an edit is seen at its line; by whoever has an anchor, also if all that follows was written again."""

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.traces.samples import EVERYTHING, TRIAL, end, python, said, span
from traces.chain import chain_breaks, head, holds
from traces.journal import CHAIN, Journal, body_and_chain, link, parse, read

LINES = 9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "writer.jsonl"


def a_journal(path: Path, lines: int = LINES) -> list[bytes]:
    """The lines of a journal at *path*, as they were written."""
    with Journal(path) as journal:
        for number in range(lines):
            journal.append(TRIAL.model_copy(update={"id": f"t{number}"}), key=f"key/{number}")
    return path.read_bytes().splitlines(keepends=True)


def rewritten(lines: Sequence[bytes], writer: str = "writer") -> list[bytes]:
    """The lines with every chain value made new, as a careful attacker would."""
    before, made = writer.encode(), list[bytes]()
    for line in lines:
        body, _ = body_and_chain(line)
        before = link(before, body)
        made.append(body + CHAIN + before + b'"}\n')
    return made


def unchained(line: bytes) -> bytes:
    """As it was written before there was a chain."""
    body, value = body_and_chain(line)
    return line if value is None else body + b"}\n"


def broken(path: Path, lines: Sequence[bytes]) -> list[tuple[int, str]]:
    path.write_bytes(b"".join(lines))
    return [(found.line, found.what) for found in chain_breaks(path)]


# ── what is written ────────────────────────────────────────────────────────────────────────────────────────────


def test_every_line_follows_from_the_one_before_it_and_the_first_from_the_name_of_the_writer(path: Path):
    with Journal(path) as journal:
        for record in EVERYTHING:
            journal.append(record, key="a/b")
    lines = path.read_bytes().splitlines(keepends=True)

    assert rewritten(lines) == lines
    assert rewritten(lines, "another") != lines
    assert chain_breaks(path) == []
    assert head(path) == parse_chain(lines[-1])


def parse_chain(line: bytes) -> str:
    value = body_and_chain(line)[1]
    assert value is not None
    assert len(value) == 32
    return value.decode()


def test_a_line_reads_the_same_with_and_without_its_chain_value(path: Path):
    (line,) = a_journal(path, 1)
    assert parse(unchained(line), 0) == parse(line, 0)
    assert unchained(line) != line


def test_the_chain_goes_on_when_the_journal_is_opened_again(path: Path):
    for _ in range(3):
        a_journal(path, 2)
    assert chain_breaks(path) == []
    assert sum(1 for _ in read(path)) == 6


def test_the_chain_goes_on_from_the_last_whole_line_wherever_the_next_one_was_torn(path: Path):
    lines = a_journal(path, 3)
    whole = b"".join(lines)
    for cut in range(len(whole) - len(lines[-1]), len(whole), 7):
        path.write_bytes(whole[:cut])
        assert head(path) == parse_chain(lines[1])
        assert chain_breaks(path) == []

        with Journal(path) as journal:
            journal.append(span(1))
        assert chain_breaks(path) == []


@pytest.mark.parametrize("arrived", [False, True])
def test_an_interrupt_within_a_write_breaks_nothing_whether_or_not_the_line_arrived(path: Path, arrived: bool):
    with Journal(path) as journal:
        journal.append(span(1))
        before = journal._chain  # pyright: ignore[reportPrivateUsage]
        size = path.stat().st_size
        journal.append(span(2))
        journal._clean, journal._chain = False, before  # pyright: ignore[reportPrivateUsage]  # as it leaves them
        if not arrived:
            os.truncate(path, size + 20)
        journal.append(span(3))

    assert chain_breaks(path) == []
    assert [line.data["id"] for line in read(path)] == (["s1", "s2", "s3"] if arrived else ["s1", "s3"])


FULL_DISK = """
import pathlib, resource, sys
from tests.traces.samples import span
from traces.journal import Journal, JournalFull

path = pathlib.Path(sys.argv[1])
most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
with Journal(path) as journal:
    journal.append(span(1))
    for spare in (0, 1, 50, 200):
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + spare, most))
        try:
            journal.append(span(2))
        except JournalFull:
            print("full", flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    journal.append(span(3))
"""


def test_writes_that_failed_leave_a_gap_in_the_numbers_and_none_in_the_chain(path: Path):
    writer = python(FULL_DISK, path)
    assert [said(writer) for _ in range(4)] == ["full"] * 4
    assert end(writer) == 0

    assert [line.seq for line in read(path)] == [1, 6]
    assert chain_breaks(path) == []


def test_a_writer_killed_at_any_moment_leaves_a_chain_that_goes_on(path: Path):
    script = (
        "import sys, pathlib\n"
        "from tests.traces.samples import span\n"
        "from traces.journal import Journal\n"
        "with Journal(pathlib.Path(sys.argv[1])) as journal:\n"
        "    while True:\n"
        "        journal.append(span(1)); print('.', flush=True)\n"
    )
    for acknowledged in (1, 50):
        writer = python(script, path)
        for _ in range(acknowledged):
            said(writer)
        end(writer, kill=True)
    a_journal(path, 1)
    assert chain_breaks(path) == []


def test_threads_share_one_chain(path: Path):
    with Journal(path) as journal:
        threads = [threading.Thread(target=lambda: [journal.append(span(n)) for n in range(100)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert chain_breaks(path) == []
    assert sum(1 for _ in read(path)) == 400


# ── journals from before the chain ─────────────────────────────────────────────────────────────────────────────


def test_a_journal_written_before_there_was_a_chain_is_no_break_and_its_chain_begins_with_the_next_line(path: Path):
    old = [unchained(line) for line in a_journal(path)]
    assert broken(path, old) == []
    assert head(path) == ""

    lines = a_journal(path, 2)
    assert lines[:LINES] == old
    assert chain_breaks(path) == []
    assert head(path) == parse_chain(lines[-1])
    assert broken(path, [*lines[:LINES], lines[-1]]) != []


def test_lines_without_a_chain_value_after_lines_that_have_one_are_one_break(path: Path):
    lines = a_journal(path)
    for line in (4, 5):
        lines[line] = unchained(lines[line])
    [(number, what)] = broken(path, lines)
    assert (number, what) == (5, "it has no chain value, and lines before it have one")


def test_after_a_line_without_a_value_the_chain_starts_anew(path: Path):
    lines = a_journal(path, 3)
    path.write_bytes(b"".join([*lines[:2], unchained(lines[2])]))
    a_journal(path, 2)
    assert [found.line for found in chain_breaks(path)] == [3]


def test_a_damaged_last_line_is_one_break_and_what_is_appended_goes_on_before_it(path: Path):
    a_journal(path, 3)
    with path.open("ab") as file:
        file.write(b"not json\n")
    assert head(path) == parse_chain(path.read_bytes().splitlines(keepends=True)[2])

    a_journal(path, 2)
    [found] = chain_breaks(path)
    assert found.line == 4
    assert "damaged" in found.what
    assert (found.seq, found.key) == (None, None)


def test_an_empty_journal_has_no_break_and_no_head(path: Path):
    Journal(path).close()
    assert chain_breaks(path) == []
    assert head(path) == ""
    assert not holds(path, "0" * 32)


# ── somebody edits ─────────────────────────────────────────────────────────────────────────────────────────────


def edit(lines: list[bytes]) -> None:
    lines[4] = lines[4].replace(b'"score":0.0', b'"score":1.0')


def edit_the_value(lines: list[bytes]) -> None:
    lines[4] = lines[4][:-10] + b"0123456" + lines[4][-3:]


def edit_with_its_value(lines: list[bytes]) -> None:
    edit(lines)
    body, _ = body_and_chain(lines[4])
    before = body_and_chain(lines[3])[1]
    assert before is not None
    lines[4] = body + CHAIN + link(before, body) + b'"}\n'


def delete(lines: list[bytes]) -> None:
    del lines[4]


def delete_two(lines: list[bytes]) -> None:
    del lines[4:6]


def delete_the_first(lines: list[bytes]) -> None:
    del lines[0]


def insert_a_copy(lines: list[bytes]) -> None:
    lines.insert(4, lines[7])


def insert_an_earlier_one(lines: list[bytes]) -> None:
    lines.insert(4, lines[1])


def insert_one_that_fits(lines: list[bytes]) -> None:
    body, _ = body_and_chain(lines[7])
    before = body_and_chain(lines[3])[1]
    assert before is not None
    lines.insert(4, body + CHAIN + link(before, body) + b'"}\n')


def insert_one_without_a_value(lines: list[bytes]) -> None:
    lines.insert(4, unchained(lines[7]))


def swap(lines: list[bytes]) -> None:
    lines[4], lines[5] = lines[5], lines[4]


def swap_far_apart(lines: list[bytes]) -> None:
    lines[4], lines[7] = lines[7], lines[4]


def move_up(lines: list[bytes]) -> None:
    lines.insert(4, lines.pop(7))


def move_down(lines: list[bytes]) -> None:
    lines.insert(7, lines.pop(4))


def make_unreadable(lines: list[bytes]) -> None:
    lines[4] = lines[4].replace(b'"key":', b'"key";')


def cut_short(lines: list[bytes]) -> None:
    lines[4] = lines[4][:100] + b"\n"


@pytest.mark.parametrize(
    ("tamper", "line", "what"),
    [
        (edit, 5, "it was edited"),
        (edit_the_value, 5, "its chain value was edited"),
        (edit_with_its_value, 6, "or the line before it was, together with its chain value"),
        (delete, 5, "number 5 is missing before it"),
        (delete_two, 5, "numbers 5 to 6 are missing before it"),
        (delete_the_first, 1, "number 1 is missing before it"),
        (insert_a_copy, 5, "it was inserted"),
        (insert_an_earlier_one, 5, "it was inserted or moved: line 5 follows line 1"),
        (insert_one_that_fits, 5, "it was inserted"),
        (insert_one_without_a_value, 5, "no chain value"),
        (swap, 5, "it was inserted or moved"),
        (swap_far_apart, 5, "it was inserted or moved"),
        (move_up, 5, "it was inserted or moved"),
        (move_down, 5, "it was inserted or moved"),
        (make_unreadable, 5, "damaged"),
        (cut_short, 5, "damaged"),
    ],
)
def test_one_edit_is_one_break_at_its_line_that_says_what_happened(
    path: Path, tamper: Callable[[list[bytes]], None], line: int, what: str
):
    lines = a_journal(path)
    anchor = head(path)
    tamper(lines)

    [(number, said)] = broken(path, lines)
    assert number == line
    assert what in said
    assert holds(path, anchor)  # the last line is as it was: breaks and anchor both have to be looked at


def test_two_edits_are_two_breaks(path: Path):
    lines = a_journal(path)
    edit(lines)
    del lines[7]
    assert [line for line, _ in broken(path, lines)] == [5, 8]


def test_a_break_says_where_it_is_in_words_and_in_bytes(path: Path):
    lines = a_journal(path)
    edit(lines)
    broken(path, lines)

    [found] = chain_breaks(path)
    assert str(found).startswith("writer.jsonl line 5 (key/4): it was edited")
    assert path.read_bytes()[found.offset :].startswith(lines[4])
    assert found.seq == 5


@given(data=st.data())
def test_a_byte_changed_anywhere_is_a_break_at_its_line(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    path = tmp_path_factory.mktemp("chain") / "writer.jsonl"
    lines = a_journal(path, 4)
    whole = b"".join(lines)
    at = data.draw(st.integers(0, len(whole) - 1).filter(lambda i: whole[i : i + 1] != b"\n"))
    byte = data.draw(st.integers(32, 126).filter(lambda b: b != whole[at]))
    path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])

    number = whole[:at].count(b"\n") + 1
    assert [found.line for found in chain_breaks(path)] == [number]


@given(order=st.permutations(range(LINES)), count=st.integers(0, LINES))
def test_no_reordering_and_no_removal_but_of_the_last_lines_goes_unseen(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], count: int
):
    path = tmp_path_factory.mktemp("chain") / "writer.jsonl"
    lines = a_journal(path)
    left = order[:count]
    assert (broken(path, [lines[i] for i in left]) == []) == (left == list(range(count)))


# ── anchors ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_lines_cut_off_at_the_end_are_seen_by_an_anchor_only(path: Path):
    lines = a_journal(path)
    anchor = head(path)
    assert holds(path, anchor)

    assert broken(path, lines[:-2]) == []
    assert not holds(path, anchor)


def test_a_chain_made_new_after_an_edit_is_seen_by_an_anchor_only(path: Path):
    lines = a_journal(path)
    anchor = head(path)
    edit(lines)

    assert broken(path, rewritten(lines)) == []
    assert not holds(path, anchor)


def test_an_anchor_vouches_for_what_was_there_and_lets_the_journal_grow(path: Path):
    a_journal(path)
    anchor = head(path)
    a_journal(path)
    assert holds(path, anchor)
    assert chain_breaks(path) == []
    assert head(path) != anchor
