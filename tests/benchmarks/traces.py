"""What the trace store costs, and what a kill loses.

uv run python -m tests.benchmarks.traces [SPANS] [SECONDS] [KILLS]

SPANS are in the table before anything is measured, SECONDS is how long readers and a writer are at it together, KILLS
how often two writers with their merges are killed with -9.
"""

import multiprocessing
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from statistics import quantiles

import duckdb

import traces
from traces.errors import TracesBusy
from traces.journal import Journal, read
from traces.merge import Merger, merge
from traces.places import database, spool
from traces.records import Span, Usage

Row = tuple[str, str]
SPAWN = multiprocessing.get_context("spawn")
NIGHT = "night-20261101-120000-abcd"
RATE = 1000
"""Spans a second while readers read."""


def main(spans: int, seconds: float, kills: int) -> None:
    directory = Path(tempfile.mkdtemp(prefix="traces-"))
    try:
        print("| measured | found |\n|---|---|")
        for name, found in rows(directory, spans, seconds, kills):
            print(f"| {name} | {found} |", flush=True)
    finally:
        shutil.rmtree(directory)


def rows(directory: Path, spans: int, seconds: float, kills: int) -> Iterator[Row]:
    yield from appends(directory / "appends")
    yield from filling(directory / "large", spans)
    yield from small_merges(directory / "large")
    yield from lone_reader(directory / "large")
    for readers in (1, 3):
        yield from beside_a_run(directory / "large", readers, seconds)
    yield from unmerged_tail(directory / "tail", 100)
    yield from killed(directory / "killed", kills)


def span(number: int, run: str = NIGHT) -> Span:
    """About as large as the span of a short model call."""
    return Span(
        id=f"{number:032x}",
        run=run,
        trial=f"{run}/round/{number // 100}/{number:08x}",
        operation="chat",
        name="local:smollm2-135m",
        started=datetime.now(UTC),
        seconds=0.1,
        usage=Usage(calls=1, input_tokens=200, cached_tokens=150, output_tokens=8),
        input_hash=f"{number % 1000:064x}",
        input_preview="What is the plural of mouse? " * 5,
        output_hash=f"{number % 100:064x}",
        output_preview="The plural of mouse is mice.",
        attributes={"gen_ai.request.model": "smollm2-135m", "gen_ai.response.id": f"{number:024x}"},
    )


# ── alone ──────────────────────────────────────────────────────────────────────────────────────────────────────


def appends(directory: Path) -> Iterator[Row]:
    records = [span(number) for number in range(50_000)]
    path = spool(directory) / "w.jsonl"
    with Journal(path) as journal:
        ours = timed(lambda: [journal.append(record) for record in records])
    lines = path.read_bytes().splitlines(keepends=True)
    with (directory / "bare").open("wb", buffering=0) as file:
        bare = timed(lambda: [file.write(line) for line in lines])
    again = timed(lambda: [line.record() for line in read(path)])
    count = len(records)
    yield "appends, one thread", f"{count / ours:,.0f}/s ({ours / bare:.1f} × a bare write of the same bytes)"
    yield "reading records back", f"{count / again:,.0f}/s"
    with Journal(path) as journal:
        durable = timed(lambda: [journal.append(record, durable=True) for record in records[:200]])
    yield "durable appends (fsync)", f"{200 / durable:,.0f}/s"


def fill(path: Path, spans: int, run: str = NIGHT) -> None:
    """Append so many spans of *run* to the journal at *path*."""
    with Journal(path) as journal:
        for number in range(spans):
            journal.append(span(number, run))


def filling(directory: Path, spans: int) -> Iterator[Row]:
    fill(spool(directory) / "before.jsonl", spans)
    took, memory = in_a_process(merge, directory)
    yield (
        f"merge of {spans:,} spans ({size(spool(directory) / 'before.jsonl')} MiB)",
        f"{spans / took:,.0f} rows/s; memory at most {memory:.0f} MiB; database {size(database(directory))} MiB",
    )


def small_merges(directory: Path) -> Iterator[Row]:
    took: list[float] = []
    with Journal(spool(directory) / "small.jsonl") as journal:
        for _ in range(20):
            for number in range(RATE):
                journal.append(span(number))
            took.append(timed(lambda: merge(directory)))
    yield f"merge of {RATE:,} spans into that", spread(took)


def lone_reader(directory: Path) -> Iterator[Row]:
    plain = [timed(lambda: ask_duckdb(directory)) for _ in range(30)]
    ours = [timed(lambda: ask(directory)) for _ in range(30)]
    yield "count by DuckDB alone: open, ask, close", spread(plain)
    yield "the same by traces.sql", spread(ours)


def unmerged_tail(directory: Path, mebibytes: int) -> Iterator[Row]:
    path = spool(directory) / "tail.jsonl"
    with Journal(path) as journal:
        number = 0
        while number == 0 or size(path) < mebibytes:
            for _ in range(1000):
                journal.append(span(number))
                number += 1
    took, memory = in_a_process(ask, directory)
    yield f"traces.sql over {mebibytes} MiB that were never merged", f"{took:.1f} s; memory at most {memory:.0f} MiB"


# ── together ───────────────────────────────────────────────────────────────────────────────────────────────────


def beside_a_run(directory: Path, readers: int, seconds: float) -> Iterator[Row]:
    answers: multiprocessing.Queue[tuple[list[float], int]] = SPAWN.Queue()
    behind: multiprocessing.Queue[tuple[float, int]] = SPAWN.Queue()
    writer = SPAWN.Process(target=write_steadily, args=(directory, f"steady-{readers}", seconds, behind))
    asking = [SPAWN.Process(target=ask_all_the_time, args=(directory, seconds, answers)) for _ in range(readers)]
    for process in (writer, *asking):
        process.start()
    lag, unmerged = behind.get()
    found = [answers.get() for _ in asking]
    for process in (writer, *asking):
        process.join()
    took = [t for times, _ in found for t in times]
    busy = sum(n for _, n in found)
    yield (
        f"{readers} reader{'s' * (readers > 1)} asking without pause, {RATE:,} spans/s arriving, merged each second",
        f"{spread(took)}; {busy} of {len(took)} gave up; writer late by at most {1000 * lag:.0f} ms, "
        f"{unmerged:,} lines unmerged at its end",
    )


def write_steadily(
    directory: Path,
    name: str,
    seconds: float,
    behind: "multiprocessing.Queue[tuple[float, int]]",
    run: str = NIGHT,
    over: "Event | None" = None,
) -> None:
    """Append at the rate of a run, until it is *over*; tell by how much it fell behind, and what the merges had left
    over."""
    lag, number = 0.0, 0
    with Journal(spool(directory) / f"{name}.jsonl") as journal, Merger(directory):
        started = time.perf_counter()
        while number < int(seconds * RATE) and not (number % RATE == 0 and over is not None and over.is_set()):
            due = started + number / RATE
            if (early := due - time.perf_counter()) > 0.001:
                time.sleep(early)
            lag = max(lag, -early)
            journal.append(span(number, run))
            number += 1
        unmerged = number - merged_lines(directory, name)
    behind.put((lag, unmerged))


def merged_lines(directory: Path, writer: str) -> int:
    query = "SELECT coalesce(max(seq), 0) AS n FROM marks WHERE writer = ?"
    return int(traces.sql(query, [writer], directory=directory, wait=30)["n"][0])


def ask_all_the_time(
    directory: Path, seconds: float, answers: "multiprocessing.Queue[tuple[list[float], int]]"
) -> None:
    ask(directory)  # imports
    took: list[float] = []
    busy = 0
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        started = time.perf_counter()
        try:
            ask(directory)
        except TracesBusy:
            busy += 1
        took.append(time.perf_counter() - started)
    answers.put((took, busy))


def ask(directory: Path) -> None:
    traces.sql("SELECT name, count(*), sum(output_tokens) FROM spans GROUP BY ALL", directory=directory)


def ask_duckdb(directory: Path) -> None:
    with duckdb.connect(database(directory), read_only=True) as connection:
        connection.execute("SELECT name, count(*), sum(output_tokens) FROM spans GROUP BY ALL").df()


# ── killed ─────────────────────────────────────────────────────────────────────────────────────────────────────


def killed(directory: Path, kills: int) -> Iterator[Row]:
    rng = random.Random(5)
    acknowledged = {name: SPAWN.Value("q", 0) for name in ("one", "two")}
    for _ in range(kills):
        running = [
            SPAWN.Process(target=write_fast, args=(directory, name, acknowledged[name]), daemon=True)
            for name in acknowledged
        ]
        for process in running:
            process.start()
        before = {name: value.value for name, value in acknowledged.items()}
        while any(acknowledged[name].value < before[name] + 10 for name in acknowledged):
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.4))
        for process in running:
            process.kill()
            process.join()
    merge(directory)
    query = "SELECT count(*) AS n, count(DISTINCT id) AS different FROM spans WHERE writer = ?"
    written = lost = doubled = 0
    for name, value in acknowledged.items():
        counted = traces.sql(query, [name], directory=directory).iloc[0]
        written += value.value
        lost += max(0, value.value - int(counted["different"]))
        doubled += int(counted["n"] - counted["different"])
    yield f"kill -9, {kills} times", f"{written:,} spans acknowledged, {lost} lost, {doubled} doubled"


def write_fast(directory: Path, name: str, acknowledged: "Synchronized[int]") -> None:
    path = spool(directory) / f"{name}.jsonl"
    with Journal(path) as journal, Merger(directory, every=0.02):
        number = sum(1 for _ in read(path))  # a line may be there that was not acknowledged any more
        begun_by = os.getppid()
        while os.getppid() == begun_by:
            journal.append(span(number))
            number += 1
            acknowledged.value = number


# ── figures ────────────────────────────────────────────────────────────────────────────────────────────────────


def timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def spread(seconds: list[float]) -> str:
    cuts = quantiles(seconds, n=20, method="inclusive")
    p50, p95, most = (1000 * s for s in (cuts[9], cuts[18], max(seconds)))
    return f"p50 {p50:.0f} ms, p95 {p95:.0f} ms, max {most:.0f} ms (n = {len(seconds)})"


def size(path: Path) -> int:
    """In MiB."""
    return path.stat().st_size >> 20


def in_a_process(action: Callable[[Path], object], directory: Path) -> tuple[float, float]:
    """Seconds that *action* takes in a fresh process, and the most MiB that it had in memory."""
    with SPAWN.Pool(1) as pool:
        return pool.apply(timed_with_memory, (action, directory))


def timed_with_memory(action: Callable[[Path], object], directory: Path) -> tuple[float, float]:
    ask(directory / "nowhere")  # imports
    seconds = timed(lambda: action(directory))
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return seconds, int(peak) / 1024


if __name__ == "__main__":
    asked = [*map(int, sys.argv[1:4]), *(100_000, 20, 15)[len(sys.argv) - 1 :]]
    main(*asked)
