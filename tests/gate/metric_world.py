"""Runs that print a number, without a run: trials in memory, drawn from a distribution or prescribed."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from traces.records import GateSpec, Grade, Round, Split, Task, Trial

TASK = Task(id="pretrain", input="five minutes", split="train")
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

Reader = Callable[[str, str, str, int], float | str]
"""Scope, version, task, repeat → the number of that run; or what went wrong: ``crash``, ``no number``, ``lost``."""


@dataclass
class MetricTrials:
    """As ``DurableTrials``: asked a second time for a trial of its scope, it returns the one that it has."""

    read: Reader
    scope: str = "round/1"
    tasks: Sequence[Task] = (TASK,)
    conditions: Callable[[str], tuple[str, ...]] = lambda scope: ()
    refreshed: list[str] = field(default_factory=list)
    bought: dict[tuple[str, str, str, int], Trial] = field(default_factory=dict)

    def within(self, scope: str) -> "MetricTrials":
        return MetricTrials(self.read, scope, self.tasks, self.conditions, self.refreshed, self.bought)

    def clusters(self, split: Split, seed: int) -> list[list[Task]]:
        return [[task] for task in self.tasks if task.split == split]

    def baseline(self, version: str, repeats: int, tasks: Sequence[Task] | None = None) -> dict[str, list[Trial]]:
        scope = "again" if version in self.refreshed else "train"
        return self._attempt(scope, version, self.tasks if tasks is None else tasks, repeats)

    def declare(self, spec: GateSpec) -> GateSpec:
        return spec

    def refresh(self, version: str, because: str, detail: str) -> None:
        self.refreshed.append(version)

    def attempt(self, versions: Sequence[str], tasks: Sequence[Task], repeats: int = 1) -> list[dict[str, list[Trial]]]:
        return [self._attempt(self.scope, version, tasks, repeats) for version in versions]

    def _attempt(self, scope: str, version: str, tasks: Sequence[Task], repeats: int) -> dict[str, list[Trial]]:
        return {task.id: [self._trial(scope, version, task.id, i) for i in range(repeats)] for task in tasks}

    def _trial(self, scope: str, version: str, task: str, repeat: int) -> Trial:
        key = scope, version, task, repeat
        if key not in self.bought:
            self.bought[key] = a_trial(self.read(*key), "/".join(map(str, key)), version, task, self.conditions(scope))
        return self.bought[key]


def a_trial(found: float | str, id: str, version: str, task: str, conditions: tuple[str, ...] = ()) -> Trial:
    trial = Trial(
        id=id, run="r", version=version, task=task, split="train", conditions=conditions, started=EPOCH, seconds=300.0
    )
    match found:
        case "crash":
            return trial.model_copy(update={"error": "RuntimeError: CUDA out of memory", "boundary": "runner"})
        case "lost":
            return trial.model_copy(update={"error": "the machine went away", "boundary": "sandbox"})
        case "no number":
            return trial.model_copy(update={"grade": Grade(score=0.0, reason="val_bpb is 'nan', which is no number")})
        case number:
            return trial.model_copy(update={"grade": Grade(score=1.0, value=number)})


def noisy(seed: int, sigma: float, means: Mapping[str, float]) -> Reader:
    """Every run of a version gives its mean plus Gaussian noise."""

    def read(scope: str, version: str, task: str, repeat: int) -> float:
        return random.Random(f"{seed}/{scope}/{version}/{task}/{repeat}").gauss(means[version], sigma)

    return read


def prescribed(**runs: Sequence[float | str]) -> Reader:
    """The runs of each version in order, whatever the scope."""
    return lambda scope, version, task, repeat: runs[version][repeat]


def a_round(number: int, **facts: object) -> Round:
    return Round(run="r", number=number, incumbent="a", working="a", started=EPOCH, seconds=1.0, **facts)  # type: ignore[arg-type]
