"""Are the notebooks interactive beside a night that writes? Each through its kernel, and its queries one by one.

    uv run python -m tests.benchmarks.notebooks [SPANS] [REPEATS]

A real night of the scripted experiment in ``tests.world``, with SPANS added to its run; then 1,000 spans/s of it arrive
and are merged each second, while the notebooks are executed and each query is asked REPEATS times.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import nbformat
from nbclient import NotebookClient

import traces
from analysis import failures, frames
from tests.benchmarks.traces import RATE, SPAWN, Row, fill, size, spread, timed, write_steadily
from tests.conftest import a_checkout
from tests.world import an_experiment, play, some_tasks
from traces.errors import TracesBusy
from traces.merge import merge
from traces.places import data_directory, database, spool

ROOT = Path(__file__).parents[2]
LONGEST = 1800.0
"""Seconds that spans arrive, at most."""


def main(spans: int, repeats: int) -> None:
    folder = Path(tempfile.mkdtemp(prefix="notebooks-"))
    try:
        print("| measured | found |\n|---|---|")
        for name, found in rows(a_checkout(folder / "repository"), spans, repeats):
            print(f"| {name} | {found} |", flush=True)
    finally:
        shutil.rmtree(folder)


def rows(checkout: Path, spans: int, repeats: int) -> Iterator[Row]:
    directory = data_directory(checkout)
    play(an_experiment(tasks=some_tasks(200)), checkout, directory)
    run = frames.last_run("example", directory=directory)
    fill(spool(directory) / f"{run}.jsonl", spans, run)
    merge(directory)
    [(trials,)] = traces.sql("select count(*) from trials", directory=directory).to_numpy().tolist()
    yield "the store", f"{spans:,} spans and {trials:,} trials of one run; database {size(database(directory))} MiB"

    over, behind = SPAWN.Event(), SPAWN.Queue()
    writer = SPAWN.Process(target=write_steadily, args=(directory, "steady", LONGEST, behind, run, over))
    writer.start()
    try:
        for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
            yield f"{path.stem}, by its kernel", f"{timed(partial(execute, path, checkout)):.1f} s"
        yield from asked(directory, run, repeats)
        took = timed(lambda: frames.failures(run, directory=directory))
        yield "`failures`: its four queries, the rounds and the mining", f"{took:.1f} s"
        yield (
            "`played`: the rounds out of the journal",
            f"{timed(lambda: frames.played(run, directory=directory)):.1f} s",
        )
        assert writer.is_alive()
    finally:
        over.set()
        lag, unmerged = behind.get()
        writer.join()
    yield (
        f"the writer of {RATE:,} spans/s",
        f"late by at most {1000 * lag:.0f} ms, {unmerged:,} lines unmerged at its end",
    )


def execute(path: Path, checkout: Path) -> None:
    """The whole notebook in a fresh kernel, its start included; raises what a cell raises."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace('"word_tasks"', '"example"')
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(checkout)}}).execute(
        env={**os.environ, "PYTHONPATH": str(ROOT), "JUPYTER_PLATFORM_DIRS": "1"}
    )


def asked(directory: Path, run: str, repeats: int) -> Iterator[Row]:
    """Each query of the notebooks, in turns."""
    took: dict[str, list[float]] = {}
    busy = 0
    for _ in range(repeats):
        for name, query in queries(directory, run).items():
            started = time.perf_counter()
            try:
                query()
            except TracesBusy:
                busy += 1
            took.setdefault(name, []).append(time.perf_counter() - started)
    every = [seconds for times in took.values() for seconds in times]
    yield f"all {len(took)} queries of the notebooks", f"{spread(every)}; {busy} gave up"
    for name, times in sorted(took.items(), key=lambda item: -sum(item[1]))[:6]:
        yield f"`{name}`", spread(times)


def queries(directory: Path, run: str) -> Mapping[str, Callable[[], object]]:
    of_run = (
        frames.rounds,
        frames.certifications,
        frames.guards,
        frames.removals,
        frames.score_by_kind,
        frames.spend,
        frames.spend_by_role,
        frames.spend_over_time,
        frames.comparisons,
    )
    comparison = frames.default_comparison(frames.comparisons(run, directory=directory))
    of_comparison = (frames.differences, frames.slices, frames.power)
    trials = list(traces.sql("select id from trials limit ?", (failures.LOOKED_AT,), directory=directory).id)
    ask = partial(traces.sql, directory=directory)
    return {
        "last_run": partial(frames.last_run, "example", directory=directory),
        **{frame.__name__: partial(frame, run, directory=directory) for frame in of_run},
        **{frame.__name__: partial(frame, comparison, directory=directory) for frame in of_comparison},
        "inbox": partial(frames.inbox, "example", directory=directory),
        "failures: trials": partial(ask, failures.TRIALS, (run, failures.LOOKED_AT)),
        "failures: paths": partial(ask, failures.PATHS, (run, trials)),
        "failures: known": partial(ask, failures.KNOWN, (run,)),
        "failures: states": partial(ask, failures.STATES, (run,)),
    }


if __name__ == "__main__":
    main(*[*map(int, sys.argv[1:3]), *(1_000_000, 10)[len(sys.argv) - 1 :]])
