"""What durability costs: trials a second with a runner that does nothing, and memory over many of them.

uv run python -m tests.benchmarks.durability [TRIALS]
"""

import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness.experiment import Budget
from harness.graders import ExactGrader
from harness.ledger import open_run
from harness.trials import DurableTrials
from tests.world import an_experiment, some_tasks
from traces.merge import Merger
from traces.records import Stop, Task


@dataclass(frozen=True)
class NothingRunner:
    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        return ""


def resident() -> float:
    """MiB of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def bare(tasks: list[Task], rounds: int) -> float:
    """Seconds that the same runner and grader take without Ratchet."""
    runner, grader, begun = NothingRunner(), ExactGrader(), time.perf_counter()
    for _ in range(rounds):
        for task in tasks:
            grader.grade(task, runner.run(task, {}, 0))
    return time.perf_counter() - begun


def main(trials: int) -> None:
    tasks = some_tasks(250)
    experiment = an_experiment(tasks=tasks, runner=NothingRunner(), budget=Budget(rounds=1))
    rounds = trials // len(tasks)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        ledger = open_run(directory, experiment, "0" * 40)
        with ledger, Merger(directory), ThreadPoolExecutor(4) as executor:
            begun = time.perf_counter()
            for number in range(rounds):
                scope = DurableTrials(experiment, ledger, lambda _: {}, executor, f"round/{number}", number)
                scope.attempt(["0" * 40], tasks)
                ledger.step(f"round/{number}", lambda: Stop(run=ledger.run.id, reason="rounds"))
                if number == 0 or (number + 1) % max(1, rounds // 10) == 0:
                    done = (number + 1) * len(tasks)
                    rate = done / (time.perf_counter() - begun)
                    print(f"{done:>8,} trials  {rate:>8,.0f} a second  {resident():7.1f} MiB")
            seconds = time.perf_counter() - begun
        size = sum(p.stat().st_size for p in directory.rglob("*") if p.is_file()) / 2**20
    print(f"durable: {1e6 * seconds / trials:,.0f} µs a trial; bare: {1e6 * bare(tasks, rounds) / trials:,.1f} µs")
    print(f"on disk: {size:,.0f} MiB")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
