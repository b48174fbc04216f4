"""Does reading the findings pay? ExampleProposer against BlindProposer on word_tasks, at the same number of calls.

    uv run python -m tests.benchmarks.mining [SEEDS] [CALLS]

The real loop on the embedded model. The model answers the same prompt alike every time, so answers are remembered
between the runs; each run is still charged for every call that it makes.
"""

import dataclasses
import json
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from analysis.proposers import BlindProposer, ExampleProposer
from experiments.word_tasks.experiment import HERE, experiment
from harness.experiment import Budget
from harness.gate import PairedGate
from harness.gate.confidence import mean_interval, score_interval
from harness.protocols import Proposer, Runner
from tests.conftest import git
from tests.world import play
from traces.records import Round, Task

GRID = 10
"""Points of a curve."""


@dataclass(frozen=True)
class RememberingRunner:
    """The experiment's runner, asked once for the same text and task."""

    runner: Runner
    answers: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        key = (json.dumps(dict(text), sort_keys=True), task.id)
        if key not in self.answers:
            self.answers[key] = self.runner.run(task, text, seed)
        return self.answers[key]


def curve(rounds: list[Round], calls: int) -> list[float]:
    """Mean train score of the working version after each tenth of the calls."""
    points = [(r.trials, r.score or 0.0) for r in rounds if r.stop is None]
    return [max((p for p in points if p[0] <= calls * (i + 1) / GRID), default=points[0])[1] for i in range(GRID)]


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
        gate=PairedGate(repeats=1, checkpoints=1),
        budget=Budget(trials=calls),
    )
    rounds = play(night, root, folder / "data")
    measured = rounds[-1].certification.measured if rounds[-1].certification else None
    return curve(rounds, calls), measured.candidate_score or 0.0 if measured else float("nan")


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
            low, high = score_interval(values, 0.9)
            cells.append(f"{fmean(values):.3f} [{low:.3f}, {high:.3f}]")
        print(f"{calls * (i + 1) // GRID:>7}  " + "  ".join(f"{cell:>26}" for cell in cells))
    mining, blind = (curves[name] for name in ("ExampleProposer", "BlindProposer"))
    differences = [a[-1] - b[-1] for a, b in zip(mining, blind, strict=True)]
    low, high = mean_interval(differences, 0.9)
    print(f"difference at the end {fmean(differences):+.3f} [{low:+.3f}, {high:+.3f}], n = {seeds} seeds")


if __name__ == "__main__":
    numbers = [int(a) for a in sys.argv[1:]]
    main(*(numbers + [5, 2500][len(numbers) :]))
