"""The merge: each line in the database once, whoever is killed, whatever is wrong with a line."""

import json
import os
import random
import shutil
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import traces
from tests.traces.frames import same, table, tables
from tests.traces.samples import (
    BROKEN,
    CERTIFICATION,
    EVERYTHING,
    KEPT,
    MEASURED,
    NEW,
    OLD,
    PROPOSAL,
    ROUND,
    RUN,
    SPAN,
    TESTED,
    TRIAL,
    USAGE,
    end,
    python,
    said,
    span,
    write,
)
from tests.traces.strategies import FREE, TEXTS
from traces.database import schema
from traces.errors import TracesBusy, TracesError, TracesUnreadable
from traces.journal import Journal, read
from traces.merge import Merged, Merger, merge
from traces.places import database, spool
from traces.records import Record, Span
from traces.spool import BATCH, LONGEST
from traces.tables import rows_of


def span_ids(directory: Path) -> list[str]:
    return list(table("spans", directory)["id"])


def lock_free(directory: Path) -> bool:
    """Nobody has the database open."""
    duckdb.connect(database(directory)).close()
    return True


# ── what goes where ────────────────────────────────────────────────────────────────────────────────────────────


def test_every_type_of_record_lands_in_its_tables(tmp_path: Path):
    write(tmp_path, *EVERYTHING)

    merged = merge(tmp_path)

    assert (merged.lines, merged.dead, merged.transactions) == (len(EVERYTHING), 0, 1)
    counts = {name: len(frame) for name, frame in tables(tmp_path).items()}
    assert counts == {
        "agreements": 1,
        "biases": 1,
        "calibrations": 1,
        "certifications": 1,
        "checks": 1,
        "citations": 2,
        "comparisons": 5,
        "dead_letter": 0,
        "decisions": 1,
        "edits": 2,
        "escalations": 1,
        "findings": 2,
        "guards": 1,
        "intents": 2,
        "marks": 1,
        "meta": 1,
        "predictions": 1,
        "promotions": 1,
        "proposals": 1,
        "refreshes": 1,
        "removals": 1,
        "reviews": 1,
        "rounds": 1,
        "rulings": 1,
        "runs": 1,
        "sessions": 1,
        "spans": 1,
        "split_results": 1,
        "split_tests": 1,
        "stops": 1,
        "tasks": 1,
        "texts": 1,
        "trials": 2,
        "versions": 1,
    }


@pytest.mark.parametrize("record", EVERYTHING, ids=lambda record: type(record).__name__)
def test_no_field_of_a_record_is_left_out_and_no_column_without_a_value(record: Record):
    made = list(rows_of(record))
    for name, row in made:
        assert schema().columns[name].keys() - row.keys() <= {"writer", "seq", "written", "run"}
    for name, _ in made[:1]:
        assert type(record).model_fields.keys() - schema().columns[name].keys() <= ELSEWHERE


ELSEWHERE = {
    "known",
    "memory",
    "predictions",
    "citations",
    "agreements",
    "biases",
    "usage",
    "estimate",
    "grade",
    "decision",
    "edits",
    "findings",
    "spec",
    "guards",
    "removals",
    "noise",
    "a_a",
    "round",
    "night",
    "contention",
    "final",
    "marks",
    "token",
}
"""Fields that have several columns, or a table, of their own."""


def test_values_arrive_as_they_were(tmp_path: Path):
    write(tmp_path, RUN, SPAN, TRIAL, BROKEN, ROUND)
    merge(tmp_path)

    trial, broken = table("trials", tmp_path).to_dict("records")
    usage = USAGE.model_dump()
    assert {name: trial[name] for name in usage} == usage
    assert (trial["score"], trial["reason"], trial["output"]) == (0.0, "not the plural", "mouses")
    assert (list(trial["tags"]), trial["seed"]) == (["plural", "animal"], 11)
    assert trial["started"] == datetime(2026, 11, 1, 12)  # noqa: DTZ001  # columns are in UTC, without a zone
    assert (broken["boundary"], broken["error"]) == ("model", "no answer")
    assert table("trials", tmp_path)["score"].isna().tolist() == [False, True]

    (attributes,) = table("spans", tmp_path)["attributes"]
    assert json.loads(attributes) == SPAN.attributes

    (decision,) = table("decisions", tmp_path).to_dict("records")
    assert (decision["verdict"], decision["because"], decision["test_verdict"]) == ("keep", "improved", "accept")
    assert (decision["gain"], decision["low"], decision["high"], decision["tasks"]) == (0.25, 0.1, 0.4, 8)
    assert (decision["incumbent"], decision["candidate"], decision["split"]) == (OLD, NEW, "train")

    (certification,) = table("certifications", tmp_path).to_dict("records")
    assert (certification["verdict"], certification["alpha"], certification["e_value"]) == ("accept", 0.05, 12.5)
    assert (certification["gain"], certification["low"], certification["high"]) == (0.3, 0.1, 0.4)

    comparisons = {row["id"]: row for row in table("comparisons", tmp_path).to_dict("records")}
    assert comparisons[decision["comparison"]]["split"] == "train"
    assert comparisons[certification["validation"]]["split"] == "validation"
    assert comparisons[certification["measured"]]["split"] == "test"
    assert list(comparisons[certification["measured"]]["differences"]) == [0.0, 1.0, 0.5]

    (round_,) = table("rounds", tmp_path).to_dict("records")
    assert (round_["proposal"], round_["certification"]) == (PROPOSAL.id, CERTIFICATION.id)
    assert (round_["verdict"], round_["working"], round_["score"]) == ("keep", NEW, 0.5)

    edits = table("edits", tmp_path).set_index("path")["text"]
    assert edits["prompts/solve.md"] == "Mind the plural."
    assert edits.isna()["prompts/old.md"]


def test_views_tell_scores_and_the_latest_runs(tmp_path: Path):
    write(tmp_path, RUN, TRIAL, BROKEN)
    write(tmp_path, RUN.model_copy(update={"id": "later"}), writer="later")
    merge(tmp_path)

    assert list(table("grades", tmp_path)["trial"]) == [TRIAL.id]
    assert list(table("last_runs", tmp_path)["id"]) == ["later"]


def test_records_that_do_not_name_a_run_belong_to_the_run_of_their_journal(tmp_path: Path):
    write(tmp_path, RUN, PROPOSAL, SPAN.model_copy(update={"run": None}))
    merge(tmp_path)
    write(tmp_path, KEPT)
    write(tmp_path, MEASURED, writer="by-hand")
    merge(tmp_path)

    assert list(table("proposals", tmp_path)["run"]) == ["night"]
    assert list(table("edits", tmp_path)["run"]) == ["night", "night"]
    assert list(table("spans", tmp_path)["run"]) == ["night"]
    runs = table("comparisons", tmp_path).set_index("split")["run"]
    assert runs["train"] == "night"
    assert runs.isna()["test"]


@pytest.mark.parametrize("together", [True, False])
def test_what_a_journal_says_twice_is_there_once(tmp_path: Path, together: bool):
    for records in ([PROPOSAL, KEPT], [TESTED, CERTIFICATION], [ROUND]):
        write(tmp_path, *records)
        if not together:
            merge(tmp_path)
    merge(tmp_path)

    for name, count in {"proposals": 1, "edits": 2, "findings": 1, "comparisons": 4, "certifications": 1}.items():
        assert len(table(name, tmp_path)) == count, name


def test_a_certification_that_was_measured_later_is_not_taken_for_the_earlier_one(tmp_path: Path):
    write(tmp_path, CERTIFICATION.model_copy(update={"measured": None}), CERTIFICATION)
    merge(tmp_path)
    assert sorted(table("certifications", tmp_path)["gain"].isna()) == [False, True]


def test_a_text_is_there_once_however_many_journals_hold_it(tmp_path: Path):
    for writer in ("one", "two"):
        for _ in range(2):
            with Journal(spool(tmp_path) / f"{writer}.jsonl") as journal:
                journal.text("three mice")
                journal.text(f"only {writer}")
        merge(tmp_path)
    assert sorted(table("texts", tmp_path)["text"]) == ["only one", "only two", "three mice"]


def test_times_land_in_utc_whatever_zone_they_were_given_in(tmp_path: Path):
    local = datetime(2026, 11, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    naive = datetime(2026, 11, 1, 12)  # noqa: DTZ001
    write(tmp_path, *(SPAN.model_copy(update={"started": t}) for t in (local, naive)))
    merge(tmp_path)
    assert set(table("spans", tmp_path)["started"]) == {naive}


def test_awkward_values_pass_through(tmp_path: Path):
    awkward = SPAN.model_copy(
        update={
            "name": "nul \0 quote \" newline \n emoji 😀 apostrophe '",
            "error": "lone \ud800",
            "attributes": {"huge": 2**70, "nan": float("nan"), "": {"nested": [1, [2]]}, "nul \0": "\0"},
        }
    )
    write(tmp_path, awkward)
    assert merge(tmp_path).dead == 0

    (row,) = table("spans", tmp_path).to_dict("records")
    assert (row["name"], row["error"]) == (awkward.name, "lone \ufffd")
    attributes = json.loads(row["attributes"])
    assert (attributes["huge"], attributes["nan"], attributes["nul \0"]) == (str(2**70), "NaN", "\0")


@settings(max_examples=10, deadline=None)
@given(
    values=st.lists(
        st.fixed_dictionaries(
            {
                "name": TEXTS,
                "error": st.none() | TEXTS,
                "attempt": st.integers(-(2**63), 2**63 - 1),
                "seconds": st.floats(allow_nan=False, allow_infinity=False),
                "started": st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30)),  # noqa: DTZ001
                "attributes": st.dictionaries(TEXTS, FREE, max_size=3),
            }
        ),
        max_size=20,
    )
)
def test_whatever_a_span_holds_it_arrives_as_the_journal_has_it(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, object]]
):
    directory = tmp_path_factory.mktemp("traces")
    path = write(directory, *(SPAN.model_copy(update=value) for value in values))
    assert merge(directory).dead == 0

    found = traces.sql("SELECT * EXCLUDE started FROM spans ORDER BY seq", directory=directory)
    for row, line in zip(found.to_dict("records"), read(path), strict=True):
        given_span = line.record()
        assert isinstance(given_span, Span)
        assert (row["name"], row["attempt"]) == (given_span.name, given_span.attempt)
        assert row["seconds"] == pytest.approx(given_span.seconds, rel=1e-15, abs=0)
        assert (None if pd.isna(row["error"]) else row["error"]) == given_span.error
        assert json.loads(row["attributes"]) == given_span.attributes


# ── lines that cannot be read ──────────────────────────────────────────────────────────────────────────────────


def envelope(**changes: object) -> bytes:
    fields = {"writer": "w", "seq": 1, "at": "2026-11-01T12:00:00Z", "type": "Text", "key": None, "data": {}}
    return json.dumps(fields | changes).encode()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"not json", "damaged"),
        (b"", "damaged"),
        (b'{"writer": "torn', "damaged"),
        (b'{"a": "\xff\xfe"}', "damaged"),
        (b"[]", "not an envelope"),
        (envelope(type="Nonsense"), "unknown type"),
        (envelope(), "no valid Text"),
        (envelope(data={"hash": "c" * 64, "text": "x", "surprise": 1}), "surprise"),
        (envelope(type="Trial", data=TRIAL.model_copy(update={"seed": 2**63}).model_dump(mode="json")), "64 bits"),
        (b'"' + b"x" * LONGEST + b'"', "bytes are more than"),
    ],
    ids=lambda value: value[:30].decode(errors="replace") if isinstance(value, bytes) else value,
)
def test_a_line_that_cannot_be_read_goes_to_dead_letter_and_stops_nothing(tmp_path: Path, line: bytes, reason: str):
    path = write(tmp_path, span(1))
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(line + b"\n")
    write(tmp_path, span(2))
    write(tmp_path, span(3), writer="other")

    merged = merge(tmp_path)

    assert (merged.lines, merged.dead) == (4, 1)
    assert span_ids(tmp_path) == ["s1", "s2", "s3"]
    (dead,) = table("dead_letter", tmp_path).to_dict("records")
    assert (dead["writer"], dead["byte_offset"], dead["bytes"]) == ("night", size, len(line) + 1)
    assert reason in dead["reason"]
    assert dead["beginning"] == line[:200].decode(errors="replace") + "\n" * (len(line) < 200)
    assert merge(tmp_path).lines == 0


def test_a_torn_line_waits_until_it_is_whole(tmp_path: Path):
    path = write(tmp_path, span(1), span(2))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1

    for cut in (first, first + 1, len(whole) - 1):
        path.write_bytes(whole[:cut])
        merge(tmp_path)
        assert span_ids(tmp_path) == ["s1"]

    path.write_bytes(whole)
    merge(tmp_path)
    assert span_ids(tmp_path) == ["s1", "s2"]
    assert table("dead_letter", tmp_path).empty


def test_a_copy_of_a_journal_in_the_spool_doubles_nothing(tmp_path: Path):
    path = write(tmp_path, span(1), span(2))
    merge(tmp_path)
    shutil.copy(path, spool(tmp_path) / "another.jsonl")

    assert merge(tmp_path).dead == 2
    assert span_ids(tmp_path) == ["s1", "s2"]
    assert all("merged already" in reason for reason in table("dead_letter", tmp_path)["reason"])


def test_a_journal_that_was_cut_is_reported_and_the_others_are_merged(tmp_path: Path):
    path = write(tmp_path, span(1), span(2))
    merge(tmp_path)
    path.write_bytes(path.read_bytes()[:10])
    write(tmp_path, span(3), writer="other")

    merged = merge(tmp_path)

    assert (merged.cut, merged.lines) == (("night.jsonl",), 1)
    assert span_ids(tmp_path) == ["s1", "s2", "s3"]


def test_a_journal_that_was_deleted_keeps_its_rows(tmp_path: Path):
    write(tmp_path, span(1)).unlink()
    path = write(tmp_path, span(1))
    merge(tmp_path)
    path.unlink()
    assert merge(tmp_path).lines == 0
    assert span_ids(tmp_path) == ["s1"]


# ── once, and in bounded pieces ────────────────────────────────────────────────────────────────────────────────


def test_merging_again_adds_nothing(tmp_path: Path):
    write(tmp_path, *EVERYTHING)
    merge(tmp_path)
    before = tables(tmp_path)

    assert replace(merge(tmp_path), seconds=0.0) == Merged()
    same(tables(tmp_path), before)


def test_nothing_at_all_can_be_merged(tmp_path: Path):
    assert merge(tmp_path) == Merged()
    assert list(tmp_path.iterdir()) == []


def test_the_directory_can_have_any_name(tmp_path: Path):
    directory = tmp_path / 'it\'s a "place"; with -- spaces'
    write(directory, span(1))
    merge(directory)
    write(directory, span(2))
    assert merge(directory).lines == 1
    assert span_ids(directory) == ["s1", "s2"]


def test_a_large_spool_is_merged_in_pieces(tmp_path: Path):
    text = "x" * 10_000
    count = 3 * BATCH // len(text)
    write(tmp_path, *(SPAN.model_copy(update={"id": f"s{n}", "name": text}) for n in range(count)))
    write(tmp_path, span(-1), writer="another")

    merged = merge(tmp_path)

    assert merged.transactions > 2
    assert sorted(span_ids(tmp_path)) == sorted([*(f"s{n}" for n in range(count)), "s-1"])


def test_a_deleted_database_is_made_again_from_the_spool_as_it_was(tmp_path: Path):
    for records in ([RUN, PROPOSAL], [SPAN, TRIAL, ROUND], EVERYTHING[1:]):
        write(tmp_path, *records)
        write(tmp_path, *records, writer="other")
        merge(tmp_path)
    with (spool(tmp_path) / "other.jsonl").open("ab") as file:
        file.write(b"not json\n")
    merge(tmp_path)
    before = tables(tmp_path)
    database(tmp_path).unlink()

    merge(tmp_path)

    same(tables(tmp_path), before)


def test_a_stale_write_ahead_log_does_not_reach_a_new_database(tmp_path: Path):
    write(tmp_path, span(1))
    merge(tmp_path)
    killed = python(
        "import duckdb, os, sys\n"
        "connection = duckdb.connect(sys.argv[1])\n"
        "connection.execute('INSERT INTO spans SELECT * FROM spans')\n"
        "os.kill(os.getpid(), 9)",
        database(tmp_path),
    )
    end(killed)
    assert span_ids(tmp_path) == ["s1", "s1"]
    database(tmp_path).unlink()
    write(tmp_path, span(2))

    merge(tmp_path)

    assert span_ids(tmp_path) == ["s1", "s2"]


MERGES = """
import pathlib, sys
from traces.merge import merge
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    merge(pathlib.Path(sys.argv[1]), wait=30)
"""


def test_merges_at_the_same_time_double_nothing(tmp_path: Path):
    merges = [python(MERGES, tmp_path, 5) for _ in range(2)]
    for process in merges:
        assert said(process) == "ready"
    write(tmp_path, *(span(n) for n in range(1000)))
    for process in merges:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for number in range(1000, 1050):
        write(tmp_path, span(number))
    assert [end(process) for process in merges] == [0, 0]
    merge(tmp_path)

    assert sorted(table("spans", tmp_path)["seq"]) == list(range(1, 1051))


WRITES = """
import pathlib, sys
from tests.traces.samples import span
from traces.journal import Journal
from traces.merge import Merger
directory, writer, first = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with Journal(directory / "spool" / f"{writer}.jsonl") as journal, Merger(directory, every=0.01):
    number = first
    while True:
        journal.append(span(number))
        number += 1
        if number % 20 == 0:
            print(number, flush=True)
"""


def test_writers_and_merges_killed_at_any_moment_lose_and_double_nothing(tmp_path: Path):
    rng = random.Random(11)
    for attempt in range(2):
        writers = [python(WRITES, tmp_path, name, attempt * 1_000_000) for name in ("one", "two")]
        for process in writers:
            said(process)
        time.sleep(rng.uniform(0, 0.3))
        for process in writers:
            end(process, kill=True)
        None if attempt % 2 else merge(tmp_path)

    merge(tmp_path)
    journals = {path.stem: [line.seq for line in read(path)] for path in spool(tmp_path).glob("*.jsonl")}
    spans = table("spans", tmp_path)
    assert {name: sorted(spans[spans["writer"] == name]["seq"]) for name in journals} == journals
    assert all(len(seqs) >= 40 for seqs in journals.values())


# ── others have it open ────────────────────────────────────────────────────────────────────────────────────────

HOLDS = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["read", "write"])
def test_a_database_that_another_process_holds_open_is_left_until_it_lets_go(tmp_path: Path, how: str):
    write(tmp_path, span(1))
    merge(tmp_path)
    holder = python(HOLDS, database(tmp_path), how)
    assert said(holder) == "open"
    write(tmp_path, span(2))

    with pytest.raises(TracesBusy, match=rf"process {holder.pid}\b"):
        merge(tmp_path, wait=0.1)
    threading.Timer(0.3, end, [holder]).start()

    assert merge(tmp_path, wait=30).lines == 1
    assert span_ids(tmp_path) == ["s1", "s2"]


def test_a_connection_of_the_same_process_is_named_as_such(tmp_path: Path):
    write(tmp_path, span(1))
    merge(tmp_path)
    write(tmp_path, span(2))
    connection = duckdb.connect(database(tmp_path))
    try:
        with pytest.raises(TracesBusy, match=rf"of this process \({os.getpid()}\)"):
            merge(tmp_path, wait=0)
    finally:
        connection.close()
    assert merge(tmp_path).lines == 1


@pytest.mark.parametrize("version", [1, 99])
def test_tables_of_another_version_are_refused_with_the_way_out(tmp_path: Path, version: int):
    write(tmp_path, span(1))
    merge(tmp_path)
    with duckdb.connect(database(tmp_path)) as connection:
        connection.execute("UPDATE meta SET version = ?", [version])

    with pytest.raises(TracesUnreadable, match=rf"version {version}.*ratchet traces merge"):
        merge(tmp_path)
    with pytest.raises(TracesUnreadable, match="move it away"):
        traces.sql("SELECT 1", directory=tmp_path)

    database(tmp_path).unlink()
    merge(tmp_path)
    assert span_ids(tmp_path) == ["s1"]


def test_a_file_that_is_no_database_is_refused_with_the_way_out(tmp_path: Path):
    write(tmp_path, span(1))
    database(tmp_path).write_text("garbage " * 1000)
    with pytest.raises(TracesUnreadable, match="ratchet traces merge"):
        merge(tmp_path)


def test_a_database_that_somebody_else_made_is_left_alone(tmp_path: Path):
    write(tmp_path, span(1))
    with duckdb.connect(database(tmp_path)) as connection:
        connection.execute("CREATE TABLE precious AS SELECT 1 AS one")
    with pytest.raises(TracesUnreadable, match="not one that Ratchet made"):
        merge(tmp_path)


FULL_DISK = """
import pathlib, resource, sys
from traces.database import schema
from traces.errors import TracesError
from traces.merge import merge
directory, most = pathlib.Path(sys.argv[1]), resource.getrlimit(resource.RLIMIT_FSIZE)[1]
for size in (0, 100_000, 400_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        print("merged", merge(directory).lines)
    except TracesError as e:
        print("full" if "spool holds everything" in str(e) else e)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
"""


def test_a_full_disk_fails_the_merge_and_loses_nothing(tmp_path: Path):
    write(
        tmp_path,
        *(SPAN.model_copy(update={"id": f"s{n}", "attributes": {"x": random.Random(n).random()}}) for n in range(4000)),
    )
    process = python(FULL_DISK, tmp_path)
    assert [said(process) for _ in range(3)] == ["full"] * 3
    assert end(process) == 0

    merge(tmp_path)
    assert sorted(table("spans", tmp_path)["seq"]) == list(range(1, 4001))


# ── beside a run ───────────────────────────────────────────────────────────────────────────────────────────────


def wait_until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def merged_spans(directory: Path) -> int:
    """Rows that are in the file itself."""
    if not database(directory).exists():
        return 0
    return int(traces.sql("SELECT coalesce(sum(seq), 0) AS n FROM marks", directory=directory, wait=30)["n"][0])


def test_a_merger_merges_during_a_run_and_the_rest_at_its_end(tmp_path: Path):
    traces.prepare(tmp_path)
    with Merger(tmp_path, every=0.02) as merger, Journal(spool(tmp_path) / "night.jsonl") as journal:
        journal.append(span(1))
        wait_until(lambda: merged_spans(tmp_path) == 1)
        journal.append(span(2))
        wait_until(lambda: merged_spans(tmp_path) == 2)
        for number in range(3, 500):
            journal.append(span(number))

    assert merger.trouble is None
    assert merged_spans(tmp_path) == 499
    assert lock_free(tmp_path)


def test_a_merger_makes_the_database_again_when_somebody_deleted_it(tmp_path: Path):
    with Merger(tmp_path, every=0.02), Journal(spool(tmp_path) / "night.jsonl") as journal:
        journal.append(span(1))
        wait_until(lambda: merged_spans(tmp_path) == 1)
        database(tmp_path).unlink()
        journal.append(span(2))
        wait_until(lambda: merged_spans(tmp_path) == 2)
    assert span_ids(tmp_path) == ["s1", "s2"]


def test_a_connection_held_open_for_a_while_delays_the_merges_and_nothing_else(tmp_path: Path):
    write(tmp_path, span(1))
    merge(tmp_path)
    holder = python(HOLDS, database(tmp_path), "read")
    assert said(holder) == "open"
    with Merger(tmp_path, every=0.02) as merger, Journal(spool(tmp_path) / "night.jsonl") as journal:
        journal.append(span(2))
        wait_until(lambda: isinstance(merger.trouble, TracesBusy))
        started = time.perf_counter()
        for number in range(3, 1000):
            journal.append(span(number))
        assert time.perf_counter() - started < 5
        end(holder)

    assert merger.trouble is None
    assert merged_spans(tmp_path) == 999


@pytest.mark.parametrize("garbage", [True, False])
def test_a_merger_tells_its_trouble_and_lets_the_run_go_on(tmp_path: Path, garbage: bool):
    path = write(tmp_path, span(1))
    if garbage:
        database(tmp_path).write_text("garbage " * 1000)
    else:
        merge(tmp_path)
        path.write_bytes(b"")

    with Merger(tmp_path, every=0.01) as merger:
        wait_until(lambda: merger.trouble is not None)
        write(tmp_path, span(2), writer="other")

    assert isinstance(merger.trouble, TracesUnreadable if garbage else TracesError)
    assert "ratchet traces merge" in str(merger.trouble)


def test_an_error_in_the_run_is_not_hidden_by_the_merger(tmp_path: Path):
    write(tmp_path, span(1))
    with pytest.raises(RuntimeError, match="of the run"), Merger(tmp_path):
        raise RuntimeError("of the run")
    assert span_ids(tmp_path) == ["s1"]
