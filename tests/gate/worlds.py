"""A world in memory: versions that score what a function says, asked for by the real gate in the real order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal

from harness.trials import DurableTrials
from tests.world import an_experiment
from traces.records import GateSpec, Grade, Split, Task, Trial, Usage

LIVE, CANDIDATE = "live", "candidate"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

Score = float | Literal["timeout", "rate_limit"]
"""A time-out is the version's own failure, a rate limit is not."""


@dataclass(frozen=True)
class Bought:
    """What a score may depend on: who attempts what, and the time, in trials bought before."""

    version: str
    task: Task
    repeat: int
    before: int


@dataclass
class World:
    """The trials of one night, as ``harness.protocols.Trials``."""

    tasks: Sequence[Task]
    score: Callable[[Bought], Score]
    conditions: Callable[[Bought], tuple[str, ...]] = lambda bought: ()
    asked: list[Bought] = field(default_factory=list)
    at_hand: dict[str, dict[str, list[Trial]]] = field(default_factory=dict)
    """Version → its trials on ``train``."""

    @cached_property
    def durable(self) -> DurableTrials:
        """The trials of a real run, for what they do without one."""
        missing = [
            Task(id=f"{split}-{i}", input="", split=split)
            for split in ("train", "validation", "test")
            for i in range(2)
            if split != self.tasks[0].split
        ]
        return DurableTrials(an_experiment(tasks=[*self.tasks, *missing]), None, dict, None, "")  # type: ignore[arg-type]

    def clusters(self, split: Split, seed: int) -> list[list[Task]]:
        return self.durable.clusters(split, seed)

    def baseline(self, version: str, repeats: int, tasks: Sequence[Task] | None = None) -> dict[str, list[Trial]]:
        wanted = self.tasks if tasks is None else tasks
        at_hand = self.at_hand.setdefault(version, {})
        [found] = self.attempt([version], [task for task in wanted if task.id not in at_hand], repeats)
        at_hand |= found
        return {task.id: at_hand[task.id] for task in wanted}

    def refresh(self, version: str, because: Literal["age", "drift", "crashes"], detail: str) -> None:
        del self.at_hand[version]

    def declare(self, spec: GateSpec) -> GateSpec:
        return spec

    def attempt(self, versions: Sequence[str], tasks: Sequence[Task], repeats: int = 1) -> list[dict[str, list[Trial]]]:
        sides: list[dict[str, list[Trial]]] = [{} for _ in versions]
        for task in tasks:
            for repeat in range(repeats):
                for side, version in zip(sides, versions, strict=True):
                    side.setdefault(task.id, []).append(self._trial(Bought(version, task, repeat, len(self.asked))))
        return sides

    def _trial(self, bought: Bought) -> Trial:
        self.asked.append(bought)
        score = self.score(bought)
        failed = isinstance(score, str)
        return Trial.model_construct(  # unchecked: ten times as fast
            id=f"{bought.version}/{bought.task.id}",
            run="run",
            version=bought.version,
            task=bought.task.id,
            split=bought.task.split,
            tags=bought.task.tags,
            cluster=bought.task.cluster,
            repeat=bought.repeat,
            conditions=self.conditions(bought),
            grade=None if failed else Grade(score=score),
            error=score if failed else None,
            error_class=score if failed else None,
            boundary=("runner" if score == "timeout" else "model") if failed else None,
            started=NOON,
            seconds=1.0,
            usage=Usage(),
        )


def some_tasks(clusters: int, each: int = 1, kinds: int = 0, split: Split = "validation") -> list[Task]:
    """So many *clusters* of *each* tasks, named in order, of so many *kinds* in turn."""
    return [
        Task(
            id=f"{cluster:04}-{i}",
            input=f"{cluster} {i}",
            cluster=f"{cluster:04}",
            tags=(f"kind-{cluster % kinds}",) if kinds else (),
            split=split,
        )
        for cluster in range(clusters)
        for i in range(each)
    ]
