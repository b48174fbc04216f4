"""Questions to the traces: at any time, of everything, and without leaving a mark."""

import contextlib
import hashlib
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import duckdb
import pandas as pd
import pytest

import traces
from tests.traces.frames import same, table, tables
from tests.traces.samples import EVERYTHING, SPAN, TRIAL, end, python, said, span, write
from traces.database import schema, statements
from traces.errors import TracesBusy
from traces.merge import merge
from traces.places import data_directory, database, spool
from traces.query import reading


def one(query: str, directory: Path) -> object:
    return traces.sql(query, directory=directory, wait=20).iloc[0, 0]


# ── what is merged and what is not ─────────────────────────────────────────────────────────────────────────────


def test_before_anything_has_run_the_tables_are_empty_and_nothing_is_made(tmp_path: Path):
    nowhere = tmp_path / "traces" / "data"

    with reading(nowhere, wait=2.0) as connection:
        for name, columns in schema().columns.items():
            frame = connection.execute(f"SELECT * FROM {name}").df()
            assert list(frame.columns) == list(columns)
            assert frame.empty or name == "meta"
    assert table("grades", nowhere).empty
    assert list(tmp_path.iterdir()) == []


def test_the_answer_does_not_depend_on_how_much_is_merged(tmp_path: Path):
    whole = tmp_path / "whole"
    path = write(whole, *EVERYTHING, *EVERYTHING)
    with path.open("ab") as file:
        file.write(b"not json\n")
    write(whole, *EVERYTHING)
    merge(whole)
    expected = tables(whole, without=("marks",))
    lines = path.read_bytes().splitlines(keepends=True)

    for cut in range(0, len(lines) + 1, 40):
        directory = tmp_path / str(cut)
        spool(directory).mkdir(parents=True)
        journal = spool(directory) / "night.jsonl"
        journal.write_bytes(b"".join(lines[:cut]))
        merge(directory)
        journal.write_bytes(b"".join(lines) + b'{"torn')

        same(tables(directory, without=("marks",)), expected)


def test_tables_and_views_have_their_plain_names_whether_merged_or_not(tmp_path: Path):
    names = {*schema().columns, "audit", "finding_states", "grades", "inbox", "last_runs", "spend_by_role"}
    shown = [set(traces.sql("SHOW TABLES", directory=tmp_path)["name"])]
    write(tmp_path, TRIAL)
    shown.append(set(traces.sql("SHOW TABLES", directory=tmp_path)["name"]))
    merge(tmp_path)
    shown.append(set(traces.sql("SHOW TABLES", directory=tmp_path)["name"]))
    write(tmp_path, TRIAL)
    shown.append(set(traces.sql("SHOW TABLES", directory=tmp_path)["name"]))

    assert shown == [names] * 4
    assert one("SELECT count(*) FROM grades", tmp_path) == 2


def test_what_a_role_spent_is_counted_in_whole_numbers(tmp_path: Path):
    write(tmp_path, span(1), span(2))
    frame = traces.sql(
        "SELECT calls, input_tokens, cached_tokens, output_tokens FROM spend_by_role", directory=tmp_path
    )
    assert {str(kind) for kind in frame.dtypes} == {"int64"}


def test_a_text_that_is_merged_and_written_again_is_there_once(tmp_path: Path):
    for _ in range(2):
        write(tmp_path, EVERYTHING[7])
        assert len(table("texts", tmp_path)) == 1
        merge(tmp_path)


def test_values_fill_the_question_marks(tmp_path: Path):
    write(tmp_path, span(1), span(2))
    frame = traces.sql("SELECT id FROM spans WHERE id = ? AND seconds < ?", ["s2", 9], directory=tmp_path)
    assert list(frame["id"]) == ["s2"]


@pytest.mark.parametrize("is_database_there", [True, False])
def test_what_is_not_merged_yet_can_be_large(tmp_path: Path, is_database_there: bool):
    write(tmp_path, span(-1))
    if is_database_there:
        merge(tmp_path)
    write(tmp_path, *(SPAN.model_copy(update={"id": f"s{n}", "error": "x" * 20_000}) for n in range(500)))
    assert one("SELECT count(DISTINCT id) FROM spans", tmp_path) == 501


# ── beside writers, merges and other readers ───────────────────────────────────────────────────────────────────

WRITES = """
import pathlib, sys, time
from tests.traces.samples import span
from traces.journal import Journal
from traces.merge import Merger
directory, count, size = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
with Journal(directory / "spool" / "night.jsonl") as journal, Merger(directory, every=0.02) as merger:
    print("open", flush=True)
    for number in range(1, count + 1):
        journal.append(span(number).model_copy(update={"error": "x" * size}))
        if number % (count // 50) == 0:
            time.sleep(0.02)
assert merger.trouble is None, merger.trouble
"""


@pytest.mark.parametrize(("count", "size"), [(2000, 0), (300, 30_000)])
def test_readers_beside_a_run_see_each_line_once_and_never_fewer_than_before(tmp_path: Path, count: int, size: int):
    writer = python(WRITES, tmp_path, count, size)
    assert said(writer) == "open"
    counts: list[int] = []
    while writer.poll() is None:
        frame = traces.sql("SELECT count(*), count(DISTINCT seq), max(seq) FROM spans", directory=tmp_path, wait=20)
        rows, different, last = frame.iloc[0]
        assert rows == different == (0 if pd.isna(last) else last)
        counts.append(int(rows))
    assert end(writer) == 0

    assert len(counts) > 3
    assert counts == sorted(counts)
    assert one("SELECT count(*) FROM spans", tmp_path) == count


def test_threads_of_one_process_can_ask_at_the_same_time(tmp_path: Path):
    write(tmp_path, span(1))
    merge(tmp_path)
    write(tmp_path, span(2))
    answers: list[object] = []
    threads = [
        threading.Thread(target=lambda: answers.append(one("SELECT count(*) FROM spans", tmp_path))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [2] * 4


HOLDS = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "read")
print("open", flush=True)
sys.stdin.read()
"""


def test_a_writer_that_holds_the_file_is_waited_for_and_then_named(tmp_path: Path):
    write(tmp_path, span(1))
    merge(tmp_path)
    holder = python(HOLDS, database(tmp_path), "write")
    assert said(holder) == "open"
    started = time.monotonic()

    with pytest.raises(TracesBusy, match=rf"process {holder.pid}\b"):
        traces.sql("SELECT 1", directory=tmp_path, wait=0.2)
    assert time.monotonic() - started >= 0.2
    threading.Timer(0.2, end, [holder]).start()

    assert list(traces.sql("SELECT id FROM spans", directory=tmp_path, wait=30)["id"]) == ["s1"]


def test_a_reader_in_another_process_is_no_hindrance(tmp_path: Path):
    write(tmp_path, span(1))
    merge(tmp_path)
    holder = python(HOLDS, database(tmp_path), "read")
    assert said(holder) == "open"
    write(tmp_path, span(2))

    assert traces.sql("SELECT count(*) AS n FROM spans", directory=tmp_path, wait=0)["n"][0] == 2

    end(holder)


ASKS = """
import pathlib, sys, traces
while True:
    traces.sql("SELECT count(*) FROM spans", directory=pathlib.Path(sys.argv[1]), wait=30)
    print("asked", flush=True)
"""


def test_readers_that_ask_without_pause_do_not_keep_a_merge_out(tmp_path: Path):
    write(tmp_path, span(0))
    merge(tmp_path)
    readers = [python(ASKS, tmp_path) for _ in range(2)]
    assert [said(reader) for reader in readers] == ["asked"] * 2

    for number in range(1, 4):
        write(tmp_path, span(number))
        assert merge(tmp_path, wait=5).lines == 1

    for reader in readers:
        end(reader, kill=True)


MERGES = """
import pathlib, sys
from traces.errors import TracesBusy
from traces.merge import merge
print("merging", flush=True)
try:
    merge(pathlib.Path(sys.argv[1]), wait=30)
except TracesBusy:
    sys.exit(7)
"""


def test_a_merge_that_waits_for_somebody_lets_readers_through(tmp_path: Path):
    write(tmp_path, span(1))
    merge(tmp_path)
    holder = python(HOLDS, database(tmp_path), "read")
    assert said(holder) == "open"
    write(tmp_path, span(2))
    waiting = python(MERGES, tmp_path)
    assert said(waiting) == "merging"

    for _ in range(10):
        assert traces.sql("SELECT count(*) AS n FROM spans", directory=tmp_path, wait=2)["n"][0] == 2

    assert waiting.poll() is None
    end(holder)
    assert end(waiting) == 0
    assert list(traces.sql("SELECT id FROM spans", directory=tmp_path)["id"]) == ["s1", "s2"]


def test_one_who_cannot_open_the_lock_reads_all_the_same(tmp_path: Path):
    write(tmp_path, span(1))
    merge(tmp_path)
    (tmp_path / "traces.duckdb.lock").unlink()
    (tmp_path / "traces.duckdb.lock").mkdir()  # as good as no permission, for root too

    assert list(traces.sql("SELECT id FROM spans", directory=tmp_path)["id"]) == ["s1"]


def test_after_a_question_nothing_is_held(tmp_path: Path):
    write(tmp_path, span(1))
    merge(tmp_path)
    with pytest.raises(duckdb.CatalogException):
        traces.sql("SELECT * FROM nothing", directory=tmp_path)
    frame = traces.sql("SELECT * FROM spans", directory=tmp_path)

    other = "import duckdb, sys; duckdb.connect(sys.argv[1]).close()"
    assert end(python(other, database(tmp_path))) == 0
    assert len(frame) == 1


# ── reading only ───────────────────────────────────────────────────────────────────────────────────────────────


WRITING = (
    "INSERT INTO spans SELECT * FROM spans",
    "DELETE FROM spans",
    "DELETE FROM traces.main.spans",
    "DROP TABLE spans",
    "DROP TABLE traces.main.spans",
    "UPDATE traces.main.meta SET version = 7",
    "CREATE TABLE traces.main.mine AS SELECT 1",
    "CREATE TABLE mine AS SELECT 1",
    "COPY (SELECT 1) TO '{database}'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{database}'",
    "COPY spans TO '{directory}/spans.csv'",
    "EXPORT DATABASE '{directory}/export'",
    "ATTACH '{directory}/other.duckdb'",
    "SET enable_external_access = true",
    "SELECT * FROM read_text('{directory}/spool/night.jsonl')",
)


@pytest.mark.parametrize("unmerged", [True, False])
def test_no_query_changes_or_makes_a_file(tmp_path: Path, unmerged: bool):
    write(tmp_path, span(1))
    merge(tmp_path)
    if unmerged:
        write(tmp_path, span(2))

    def files() -> dict[str, str]:
        return {
            str(path.relative_to(tmp_path)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in tmp_path.rglob("*")
            if path.is_file()
        }

    before = files()
    for query in WRITING:
        with contextlib.suppress(duckdb.Error):
            traces.sql(query.format(database=database(tmp_path), directory=tmp_path), directory=tmp_path)
        assert files() == before, query

    assert one("SELECT count(*) FROM spans", tmp_path) == 1 + unmerged


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("SELEC 1", duckdb.ParserException),
        ("SELECT * FROM spand", duckdb.CatalogException),
        ("SELECT nothing FROM spans", duckdb.BinderException),
        ("SELECT 'x'::INT", duckdb.ConversionException),
        ("", duckdb.ParserException),
        ("-- nothing", duckdb.ParserException),
    ],
)
def test_what_is_wrong_with_a_query_duckdb_says_itself(tmp_path: Path, query: str, error: type[duckdb.Error]):
    write(tmp_path, span(1))
    with pytest.raises(error):
        traces.sql(query, directory=tmp_path)


def test_variables_of_the_program_are_not_tables(tmp_path: Path):
    values = pd.DataFrame({"one": [1]})
    with pytest.raises(duckdb.CatalogException):
        traces.sql("SELECT * FROM values_", directory=tmp_path)
    with pytest.raises(duckdb.Error):
        traces.sql("SELECT * FROM query", directory=tmp_path)
    assert len(values) == 1


# ── the tables themselves ──────────────────────────────────────────────────────────────────────────────────────


def test_every_column_can_be_named_without_quotes(tmp_path: Path):
    with reading(tmp_path, wait=2.0) as connection:
        for name, columns in schema().columns.items():
            named = ", ".join(f"min({column}), {name}.{column}" for column in columns)
            connection.execute(f"SELECT {named} FROM {name} GROUP BY ALL").fetchall()


def test_every_column_is_explained():
    text = statements("schema.sql")
    shared = set(re.findall(r"^--   (\w+)", text.split("CREATE TABLE")[0], re.M))
    for name, columns in schema().columns.items():
        (body,) = re.findall(rf"CREATE TABLE {name} \((.*?)\n\);", text, re.S)
        comments = dict(re.findall(r'^\s+"?(\w+)"? .*?(-- .+)?$', body, re.M))
        assert list(comments) == list(columns)
        assert {column for column, comment in comments.items() if not comment} <= shared, name


# ── where they are ─────────────────────────────────────────────────────────────────────────────────────────────


def test_the_traces_are_at_the_top_of_the_checkout_one_stands_in(tmp_path: Path):
    deep = tmp_path / "repository" / "a" / "b"
    deep.mkdir(parents=True)
    assert data_directory(deep) == deep / "traces" / "data"

    (tmp_path / "repository" / ".git").mkdir()
    assert data_directory(deep) == tmp_path / "repository" / "traces" / "data"
    assert traces.data_directory(deep) == data_directory(deep)
    assert not (tmp_path / "repository" / "traces").exists()

    (deep / ".git").write_text("gitdir: elsewhere")  # as in a worktree
    assert data_directory(deep / "c") == deep / "traces" / "data"

    write(deep / "traces" / "data", span(1))
    with contextlib.chdir(deep):
        assert list(traces.sql("SELECT id FROM spans")["id"]) == ["s1"]


def test_prepared_traces_do_not_show_in_git_status(tmp_path: Path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    directory = traces.data_directory(tmp_path)

    traces.prepare(directory)
    traces.prepare(directory)
    write(directory, span(1))
    merge(directory)

    status = subprocess.run(["git", "status", "--porcelain"], cwd=tmp_path, check=True, capture_output=True)
    assert status.stdout == b""


def test_importing_traces_and_writing_a_journal_needs_neither_duckdb_nor_pandas():
    script = "import sys, traces, traces.journal, traces.records; print({'duckdb', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_package_offers_what_it_names_and_nothing_else():
    assert all(getattr(traces, name) for name in traces.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = traces.nonsense  # pyright: ignore
