"""What Ratchet adds to a bare loop that makes the same calls to the same server.

    uv run python -m tests.benchmarks.overhead [TASKS] [REPEATS]

The embedded model; the same prompts, in turns (bare, Ratchet, bare, …) so that a busy machine is shared fairly.
"""

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean, stdev

from experiments.cli import WORKERS
from experiments.word_tasks.experiment import HERE, experiment
from harness.ledger import open_run
from harness.text import SOLVE, render
from harness.trials import DurableTrials
from traces.merge import Merger
from traces.records import Task

BATCH = 10
TEXT = {SOLVE: (HERE / "harness" / SOLVE).read_text()}


def bare(tasks: list[Task]) -> float:
    """Seconds for the calls alone, and the grading."""
    runner = experiment.runner

    def attempt(task: Task) -> None:
        reply = runner.model.complete(render(TEXT, SOLVE, task=task.input), seed=0)  # type: ignore[attr-defined]
        experiment.grader.grade(task, reply.text)

    begun = time.perf_counter()
    with ThreadPoolExecutor(WORKERS) as executor:
        for at in range(0, len(tasks), BATCH):  # a sequential test looks after each batch, with or without Ratchet
            list(executor.map(attempt, tasks[at : at + BATCH]))
    return time.perf_counter() - begun


def durable(tasks: list[Task]) -> float:
    """Seconds for the same as durable trials, traced and merged."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        with (
            open_run(directory, experiment, "0" * 40) as ledger,
            Merger(directory),
            ThreadPoolExecutor(WORKERS) as executor,
        ):
            begun = time.perf_counter()
            trials = DurableTrials(experiment, ledger, lambda _: TEXT, executor, "round/1", 1)
            for at in range(0, len(tasks), BATCH):
                trials.attempt(["0" * 40], tasks[at : at + BATCH])
            return time.perf_counter() - begun


def main(count: int, repeats: int) -> None:
    tasks = experiment.split("train")[:count]
    bare(tasks[:10])  # the model loads
    ratios = []
    for repeat in range(repeats):
        alone, whole = bare(tasks), durable(tasks)
        ratios.append(whole / alone)
        print(f"{repeat}: bare {alone:.2f} s, Ratchet {whole:.2f} s, ratio {ratios[-1]:.3f}", flush=True)
    error = stdev(ratios) / len(ratios) ** 0.5 if repeats > 1 else float("nan")
    print(f"Ratchet over bare: {fmean(ratios):.3f} ± {error:.3f} (s.e., n = {repeats} pairs of {len(tasks)} calls)")


if __name__ == "__main__":
    numbers = [int(a) for a in sys.argv[1:]]
    main(*(numbers + [150, 6][len(numbers) :]))
