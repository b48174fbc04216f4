"""What ``openevolve.py`` evaluates on either side, and the process in which openevolve itself runs.

    python -m tests.benchmarks.openevolve_peer FOLDER

``FOLDER/order.json`` says what to run; ``FOLDER/found.json`` says what came of it, and ``FOLDER/evaluations.jsonl`` has
a line for each run of the evaluator. Imports nothing of Ratchet's where it is evaluated, so that openevolve's workers
are as light as its users'.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FAILED = 0.0
"""What an evaluator of openevolve's gives a program that gave no number; every number here is above it."""
NOISELESS = "truth"
"""A seed for which a world that knows its truth leaves the noise away."""


@dataclass(frozen=True)
class World:
    """One program to improve, and how it is measured: higher is better."""

    name: str
    file: str
    """The program that may be changed."""
    start: str
    fixed: Mapping[str, str]
    """What lies beside it, by name."""
    command: Sequence[str]
    metric: str
    sigma: float
    """Standard deviation of a single run."""
    limit: float = 60.0
    """Seconds that a run may take."""

    @classmethod
    def read(cls, path: Path) -> "World":
        return cls(**json.loads(path.read_text("utf-8")))

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)), "utf-8")

    def value(self, program: str, seed: int | str) -> float | None:
        """Of one run, in a folder and a process of its own; ``None``: it gave no number."""
        with tempfile.TemporaryDirectory(prefix="world-", ignore_cleanup_errors=True) as folder:
            for name, text in {**self.fixed, self.file: program}.items():
                (Path(folder) / name).write_text(text, "utf-8")
            environment = {**os.environ, "RATCHET_SEED": str(seed), **dict.fromkeys(THREADS, "1")}
            try:
                done = subprocess.run(
                    self.command,
                    cwd=folder,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=self.limit,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return None
            return number(self.metric, done, Path(folder))


THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""As ``CommandRunner`` sets them."""
CIRCLES = "sum_of_radii"


def number(metric: str, done: subprocess.CompletedProcess[str], folder: Path) -> float | None:
    if done.returncode:
        return None
    if metric != CIRCLES:
        found = re.search(rf"^{metric}: (\S+)$", done.stdout, re.MULTILINE)
        return float(found.group(1)) if found else None
    from experiments.circle_packing.checker import FILE, SumOfRadii

    try:
        return SumOfRadii().checked(SumOfRadii().read((folder / FILE).read_bytes()))
    except (ValueError, OSError):
        return None


def digest(program: str) -> str:
    return hashlib.sha256(program.encode()).hexdigest()[:16]


def drawn(*parts: object) -> int:
    """A seed that depends on *parts* alone."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "big") >> 1


# ── within openevolve ──────────────────────────────────────────────────────────────────────────────────────────────

EVALUATOR = """
from pathlib import Path

from tests.benchmarks.openevolve_peer import evaluated


def evaluate(program_path):
    return evaluated(Path(program_path).read_text(), Path({folder!r}), {seed!r}, {runs!r})
"""


@dataclass(frozen=True)
class Evaluation:
    """One run of the evaluator's program."""

    program: str
    value: float | None
    seconds: float


def evaluated(program: str, folder: Path, seed: int, runs: int) -> dict[str, float]:
    """The metrics that openevolve is given: the mean of *runs* runs with fresh seeds."""
    world = World.read(folder / "world.json")
    before = len(list(evaluations(folder)))
    found: list[float | None] = []
    for number in range(before, before + runs):
        began = time.perf_counter()
        found.append(world.value(program, drawn(seed, "evaluation", number)))
        line = Evaluation(digest(program), found[-1], time.perf_counter() - began)
        with (folder / "evaluations.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(line)) + "\n")
    given = [value for value in found if value is not None]
    return {"combined_score": sum(given) / runs if len(given) == runs else FAILED}


def evaluations(folder: Path) -> Iterator[Evaluation]:
    path = folder / "evaluations.jsonl"
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        yield Evaluation(**json.loads(line))


@dataclass(frozen=True)
class Order:
    """What openevolve is to do. All else is its default, but for the cascade, which the evaluator has none of."""

    address: str
    """Of the server that stands in for the model."""
    seed: int
    runs: int
    """Of the evaluator's program for each evaluation."""
    iterations: int
    """Besides the evaluation of the start."""
    database: Mapping[str, Any]
    """Settings of its population."""


def main(folder: Path) -> None:
    from openevolve import run_evolution
    from openevolve.config import Config, LLMConfig, LLMModelConfig

    order = Order(**json.loads((folder / "order.json").read_text("utf-8")))
    world = World.read(folder / "world.json")
    start, evaluator = folder / world.file, folder / "evaluator.py"
    start.write_text(world.start, "utf-8")
    evaluator.write_text(EVALUATOR.format(folder=str(folder), seed=order.seed, runs=order.runs), "utf-8")
    model = LLMModelConfig(name="mutation")
    config = Config(
        random_seed=order.seed,
        language="python",  # it guesses by imports, and constants have none
        llm=LLMConfig(api_base=order.address, api_key="none", models=[model], retries=0),
    )
    config.evaluator.cascade_evaluation = False
    config.evaluator.timeout = int(order.runs * world.limit)
    for name, value in order.database.items():
        assert hasattr(config.database, name), name
        setattr(config.database, name, value)
    began = time.perf_counter()
    found = run_evolution(start, evaluator, config, order.iterations, str(folder / "output"))
    seconds = time.perf_counter() - began
    said = {"program": found.best_code, "score": found.best_score, "seconds": seconds}
    (folder / "found.json").write_text(json.dumps(said), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
