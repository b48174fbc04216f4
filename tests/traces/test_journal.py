"""The journal: whole lines, one writer, nothing that JSON readers choke on."""

import hashlib
import os
import random
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.traces.samples import EVERYTHING, SPAN, TRIAL, end, python, said, span
from tests.traces.strategies import FREE, TEXTS
from traces.errors import JournalFull, JournalGone
from traces.journal import REMEMBERED_TEXTS, BadLine, Journal, JournalLocked, read
from traces.records import Record, Text


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "writer.jsonl"


def ids(path: Path) -> list[str]:
    return [line.data["id"] for line in read(path)]


def test_every_record_comes_back_as_it_was_written(path: Path):
    with Journal(path) as journal:
        offsets = [journal.append(record, key=f"key/{n}") for n, record in enumerate(EVERYTHING)]

        assert [journal.at(offset).record() for offset in offsets] == list(EVERYTHING)
        assert list(journal.lines()) == [journal.at(offset) for offset in offsets]

    lines = list(read(path))
    assert [line.record() for line in lines] == list(EVERYTHING)
    assert [line.key for line in lines] == [f"key/{n}" for n in range(len(EVERYTHING))]
    assert [line.offset for line in lines] == offsets
    assert [line.seq for line in lines] == list(range(1, len(EVERYTHING) + 1))
    assert {line.writer for line in lines} == {"writer"}
    assert all(abs(line.at - datetime.now(UTC)).total_seconds() < 60 for line in lines)


@given(name=TEXTS, error=st.none() | TEXTS, attributes=st.dictionaries(TEXTS, FREE, max_size=4), key=st.none() | TEXTS)
def test_whatever_users_put_into_a_span_can_be_read_again_and_written_again_unchanged(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    error: str | None,
    attributes: dict[str, object],
    key: str | None,
):
    record = SPAN.model_copy(update={"name": name, "error": error, "attributes": attributes})
    with Journal(tmp_path_factory.mktemp("journal") / "writer.jsonl") as journal:
        once = journal.at(journal.append(record, key=key)).record()

        assert journal.at(journal.append(once)).record() == once
        assert all(isinstance(line.record(), Record) for line in journal.lines())


def test_what_json_has_no_word_for_becomes_text(path: Path):
    deep: list[object] = []
    for _ in range(500):
        deep = [deep]
    given = {
        "huge": 2**63,
        "largest": 2**63 - 1,
        "smallest": -(2**63),
        "gigantic": 1 << 100_000,
        "nan": float("nan"),
        "infinity": float("inf"),
        "minus": float("-inf"),
        "lone": "a\ud800b",
        "pair": "\ud83d\ude00",
        "bytes": b"caf\xff",
        "when": datetime(2026, 1, 2, tzinfo=UTC),
        "class": Path("a/b"),
        "deep": deep,
        "yes": True,
    }
    with Journal(path) as journal:
        record = journal.at(journal.append(SPAN.model_copy(update={"attributes": given}))).record()

    got = record.model_dump()["attributes"]
    assert (got["huge"], got["largest"], got["smallest"]) == ("9223372036854775808", 2**63 - 1, -(2**63))
    assert got["gigantic"].startswith("0x1000")
    assert (got["nan"], got["infinity"], got["minus"]) == ("NaN", "Infinity", "-Infinity")
    assert (got["lone"], got["pair"], got["bytes"]) == ("a\ufffdb", "😀", "caf\ufffd")
    assert (got["when"], got["class"], got["yes"]) == ("2026-01-02T00:00:00+00:00", "a/b", True)
    assert "[[[[" in str(got["deep"])


def test_a_lone_surrogate_in_any_text_is_replaced_and_the_rest_of_the_record_kept(path: Path):
    with Journal(path) as journal:
        offset = journal.append(TRIAL.model_copy(update={"output": "mi\udc80ce", "tags": ("\ud800",)}), key="k\ud800")

        line = journal.at(offset)
        assert line.record() == TRIAL.model_copy(update={"output": "mi\ufffdce", "tags": ("\ufffd",)})
        assert line.key == "k\ufffd"


def test_a_line_torn_anywhere_is_dropped_and_the_next_one_starts_clean(path: Path):
    with Journal(path) as journal:
        journal.append(span(1))
        last = journal.append(span(2))
    whole = path.read_bytes()

    for cut in sorted({*range(last, last + 3), *range(last, len(whole), 11), len(whole) - 2, len(whole) - 1}):
        path.write_bytes(whole[:cut])
        assert ids(path) == ["s1"]

        with Journal(path) as journal:
            journal.append(span(3))
        assert ids(path) == ["s1", "s3"]
        assert [line.seq for line in read(path)] == [1, 2]


def test_a_torn_line_longer_than_any_buffer_is_dropped(path: Path):
    with Journal(path) as journal:
        journal.append(span(1))
    with path.open("ab") as file:
        file.write(b"x" * 300_000)

    with Journal(path) as journal:
        journal.append(span(2))

    assert ids(path) == ["s1", "s2"]


def test_numbers_go_on_where_they_stopped_even_after_a_line_that_cannot_be_read(path: Path):
    with Journal(path) as journal:
        journal.append(span(1))
        journal.append(SPAN.model_copy(update={"name": "x" * 200_000}))
    with path.open("ab") as file:
        file.write(b"not json\n\n{}\n")

    with Journal(path) as journal:
        assert journal.at(journal.append(span(3))).seq == 3


def test_an_empty_file_is_a_journal_without_lines(path: Path):
    Journal(path).close()
    assert list(read(path)) == []


def test_a_second_writer_is_refused_and_told_which_process_writes(path: Path):
    writer = python(
        "import sys, pathlib\n"
        "from traces.journal import Journal\n"
        "journal = Journal(pathlib.Path(sys.argv[1]))\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()",
        path,
    )
    assert said(writer) == "open"
    try:
        with pytest.raises(JournalLocked, match=rf"process {writer.pid}\b"):
            Journal(path)
    finally:
        end(writer, kill=True)

    with Journal(path) as journal:  # its death let go of it
        with pytest.raises(JournalLocked, match=rf"process {os.getpid()}\b"):
            Journal(path)
        journal.append(span(1))
    assert ids(path) == ["s1"]


def test_a_closed_journal_can_be_closed_again_and_takes_nothing(path: Path):
    with Journal(path) as journal:
        assert not journal.closed
    journal.close()

    assert journal.closed
    with pytest.raises(ValueError, match="closed"):
        journal.append(span(1))


def test_threads_share_a_journal_without_mixing_lines(path: Path):
    offsets: dict[int, int] = {}

    def write(first: int) -> None:
        for number in range(first, first + 200):
            offsets[number] = journal.append(span(number))

    with Journal(path) as journal:
        threads = [threading.Thread(target=write, args=(n * 200,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [line.seq for line in read(path)] == list(range(1, 1601))
        assert sorted(ids(path)) == sorted(f"s{n}" for n in range(1600))
        assert all(journal.at(offset).data["id"] == f"s{number}" for number, offset in offsets.items())


def test_a_writer_killed_at_any_moment_loses_nothing_that_was_acknowledged(path: Path):
    script = (
        "import sys, pathlib\n"
        "from tests.traces.samples import span\n"
        "from traces.journal import Journal\n"
        "with Journal(pathlib.Path(sys.argv[1])) as journal:\n"
        "    number = int(sys.argv[2])\n"
        "    while True:\n"
        "        journal.append(span(number)); print(number, flush=True); number += 1\n"
    )
    rng = random.Random(3)
    acknowledged = 0
    for _ in range(3):
        writer = python(script, path, acknowledged + 1)
        acknowledged = int(said(writer))
        for _ in range(rng.randrange(200)):
            acknowledged = int(said(writer))
        end(writer, kill=True)
        known = ids(path)
        assert known[:acknowledged] == [f"s{n}" for n in range(1, acknowledged + 1)]
        acknowledged = len(known)  # one or more were written and not yet reported

    seqs = [line.seq for line in read(path)]
    assert seqs == sorted(set(seqs))


FULL_DISK = """
import pathlib, resource, sys
from tests.traces.samples import span
from traces.journal import Journal, JournalFull, read

path = pathlib.Path(sys.argv[1])
size, most = 20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
with Journal(path) as journal:
    number = 0
    try:
        while True:
            journal.append(span(number)); number += 1
    except JournalFull as e:
        assert str(path) in str(e) and path.read_bytes().endswith(b"\\n")
    try:
        journal.append(span(-1))
    except JournalFull:
        assert path.read_bytes().endswith(b"\\n")
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    journal.append(span(number))
ids = [line.data["id"] for line in read(path)]
seqs = [line.seq for line in read(path)]
assert ids == [f"s{n}" for n in range(number + 1)], ids
assert seqs == sorted(set(seqs))
print(number, size)
"""


def test_a_full_disk_leaves_whole_lines_and_the_journal_goes_on_when_there_is_room(path: Path):
    writer = python(FULL_DISK, path)
    said_last = said(writer)
    assert end(writer) == 0
    assert int(said_last.split()[0]) > 10


def test_a_torn_line_left_by_an_interrupt_is_dropped_before_the_next_one(path: Path):
    with Journal(path) as journal:
        journal.append(span(1))
        journal._clean = False  # pyright: ignore[reportPrivateUsage]  # as an interrupt within the write leaves it
        with path.open("ab") as file:
            file.write(b'{"writer": "wri')
        journal.append(span(2))
    assert ids(path) == ["s1", "s2"]


def test_a_journal_deleted_while_it_is_written_says_so_instead_of_losing_lines(path: Path):
    with Journal(path) as journal:
        journal.append(span(1))
        path.unlink()
        with pytest.raises(JournalGone, match="deleted"):
            journal.append(span(2))


def test_a_full_journal_is_an_os_error_too():
    assert issubclass(JournalFull, OSError)


def test_a_text_is_written_once_however_often_it_is_given(path: Path):
    with Journal(path) as journal:
        first = journal.text("three mice")
        assert journal.text("three mice") == first
        assert journal.text("t\ud800") == journal.text("t\ufffd")

    records = [line.record() for line in read(path)]
    assert [r.text for r in records if isinstance(r, Text)] == ["three mice", "t\ufffd"]
    assert first == hashlib.sha256(b"three mice").hexdigest() == records[0].model_dump()["hash"]


def test_the_memory_of_texts_is_bounded(path: Path):
    with Journal(path) as journal:
        for number in range(REMEMBERED_TEXTS + 1):
            journal.text(str(number))
        journal.text(str(REMEMBERED_TEXTS))
        assert sum(1 for _ in read(path)) == REMEMBERED_TEXTS + 1
        journal.text("0")  # forgotten, so written again
        assert sum(1 for _ in read(path)) == REMEMBERED_TEXTS + 2


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[1]",
        b"null",
        b'{"writer": "w"}',
        b'{"writer":"w","seq":"1","at":"2026-01-01T00:00:00Z","type":"Text","key":null,"data":{}}',
        b'{"writer":"w","seq":1,"at":"yesterday","type":"Text","key":null,"data":{}}',
        b'{"writer":"w","seq":1,"at":"2026-01-01T00:00:00Z","type":"Text","key":null,"data":{"a":"\\ud800"}}',
        b'{"writer":"w","seq":1,"at":"2026-01-01T00:00:00Z","type":"Text","key":null,"data":{"a":"\xff"}}',
        b"[" * 5000,
    ],
)
def test_a_whole_line_that_is_no_envelope_is_refused_with_its_place(path: Path, line: bytes):
    with Journal(path) as journal:
        journal.append(span(1))
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(line + b"\n")

    with pytest.raises(BadLine, match=f"byte {size}") as refused:
        list(read(path))
    assert str(refused.value).startswith(f"{path}: the line at byte")
    assert str(refused.value).endswith("Read it with the version that wrote it, or put an edited line back")


@pytest.mark.parametrize(("kind", "message"), [("Nonsense", "unknown type"), ("Trial", "no valid Trial")])
def test_an_envelope_whose_content_is_wrong_is_refused_when_its_record_is_asked_for(
    path: Path, kind: str, message: str
):
    path.parent.mkdir()
    path.write_bytes(
        b'{"writer":"w","seq":1,"at":"2026-01-01T00:00:00Z","type":"%s","key":null,"data":{}}\n' % kind.encode()
    )
    (line,) = read(path)
    with pytest.raises(BadLine, match=message) as refused:
        line.record()
    assert str(refused.value).startswith(f"{path}: the line at byte 0")
    assert "put an edited line back" in str(refused.value)


def test_an_offset_where_no_line_starts_is_refused(path: Path):
    with Journal(path) as journal:
        journal.append(span(1))
        with pytest.raises(BadLine, match="byte"):
            journal.at(3)
        with pytest.raises(BadLine, match="no whole line"):
            journal.at(path.stat().st_size)


def test_a_reader_that_stops_early_lets_go_of_the_file(path: Path):
    with Journal(path) as journal:
        for number in range(3):
            journal.append(span(number))
    assert next(read(path)).seq == 1  # an unclosed file would fail the test
