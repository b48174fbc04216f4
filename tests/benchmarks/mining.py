"""Does reading the findings pay? ExampleProposer against BlindProposer on word_tasks, at the same number of calls.

    uv run python -m tests.benchmarks.mining [SEEDS] [CALLS]

The real loop on the embedded model. The model answers the same prompt alike every time, so answers are remembered
between the runs; each run is still charged for every call that it makes.
"""

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev

from scipy import stats

from analysis.proposers import BlindProposer, ExampleProposer
from experiments.cli import WORKERS
from experiments.word_tasks.experiment import HERE, experiment
from harness.experiment import Budget
from harness.ledger import open_run
from harness.loop import climb
from harness.protocols import Proposer, Runner
from harness.versions import Repo
from tests.conftest import git
from traces.records import Round, Task

GRID = 10
"""Points of a curve."""


@dataclass(frozen=True)
class RememberingRunner:
    """The experiment's runner, asked once for the same text and task."""

    runner: Runner
    answers: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        key = (json.dumps(dict(text), sort_keys=True), task.id)
        if key not in self.answers:
            self.answers[key] = self.runner.run(task, text, seed)
        return self.answers[key]


def curve(rounds: list[Round], calls: int) -> list[float]:
    """Mean train score of the working version after each tenth of the calls."""
    points = [(r.trials, r.score or 0.0) for r in rounds if r.stop is None]
    reached = [[score for trials, score in points if trials <= calls * (i + 1) / GRID] for i in range(GRID)]
    return [scores[-1] if scores else points[0][1] for scores in reached]


def one(runner: Runner, proposer: Proposer, seed: int, calls: int, folder: Path) -> tuple[list[float], float]:
    """The curve of one night, and the score of its last working version on the test split."""
    root = folder / "repository"
    subject = root / "subject"
    for source in (HERE / "harness").rglob("*.md"):
        target = subject / source.relative_to(HERE / "harness")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(source.read_text())
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "Begin")
    night = dataclasses.replace(
        experiment,
        name=f"seed-{seed}",
        subject="subject",
        runner=runner,
        proposer=proposer,
        gate=dataclasses.replace(experiment.gate, checkpoints=1),
        budget=Budget(rounds=1000),
    )
    repo = Repo.find(root)
    live = repo.subject("subject").live().id
    rounds: list[Round] = []
    with open_run(folder / "data", night, live) as ledger, ThreadPoolExecutor(WORKERS) as executor:
        for round in climb(night, ledger, repo, executor):
            rounds.append(round)
            if round.trials >= calls:
                break
        text = repo.subject("subject").text(rounds[-1].working)

        def score(task: Task) -> float:
            return experiment.grader.grade(task, runner.run(task, text, 0)).score

        return curve(rounds, calls), fmean(executor.map(score, night.split("test")))


def interval(values: list[float]) -> tuple[float, float]:
    """Student's 90 % interval for the mean over seeds."""
    half = float(stats.t.ppf(0.95, len(values) - 1)) * stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return fmean(values) - half, fmean(values) + half


def main(seeds: int, calls: int) -> None:
    runner = RememberingRunner(experiment.runner)
    curves: dict[str, list[list[float]]] = {}
    for proposer in (ExampleProposer(), BlindProposer()):
        for seed in range(seeds):
            begun = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                found, test = one(runner, proposer, seed, calls, Path(folder))
            curves.setdefault(type(proposer).__name__, []).append(found)
            print(
                f"{type(proposer).__name__} seed {seed}: {found[-1]:.3f} on train, {test:.3f} on test,"
                f" {time.perf_counter() - begun:.0f} s",
                flush=True,
            )
    print(f"\nmean train score of the working version, {seeds} seeds, 90 % interval over seeds")
    print(f"{'calls':>7}  " + "  ".join(f"{name:>26}" for name in curves))
    for i in range(GRID):
        cells = []
        for found in curves.values():
            values = [c[i] for c in found]
            low, high = interval(values)
            cells.append(f"{fmean(values):.3f} [{low:.3f}, {high:.3f}]")
        print(f"{calls * (i + 1) // GRID:>7}  " + "  ".join(f"{cell:>26}" for cell in cells))
    mining, blind = (curves[name] for name in ("ExampleProposer", "BlindProposer"))
    differences = [a[-1] - b[-1] for a, b in zip(mining, blind, strict=True)]
    low, high = interval(differences)
    print(f"difference at the end {fmean(differences):+.3f} [{low:+.3f}, {high:+.3f}], n = {seeds} seeds")


if __name__ == "__main__":
    numbers = [int(a) for a in sys.argv[1:]]
    main(*(numbers + [5, 1500][len(numbers) :]))
