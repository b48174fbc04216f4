"""How often a night of proposals that change nothing ends with something promoted, through the real loop.

    uv run python -m tests.benchmarks.null_nights [NIGHTS] [PROPOSALS]

Real journal, real git, real gate; only the runner is a script: every version solves a task with the same chance.
"""

import math
import random
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.experiment import Budget
from harness.gate import PairedGate
from tests.conftest import a_checkout
from tests.world import ListProposer, an_experiment, answer_to, play, some_tasks
from traces.records import Task


@dataclass(frozen=True)
class IndifferentRunner:
    """Solves every task with the same chance, whatever the version says."""

    night: int
    chance: float = 0.6

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        lucky = random.Random(f"{self.night}/{seed}").random() < self.chance
        return answer_to(task) if lucky else "something else"


def night(number: int, proposals: int, folder: Path) -> tuple[int, int, int]:
    """Changes kept on train, promotion tests opened, promotions."""
    experiment = an_experiment(
        tasks=some_tasks(50),
        runner=IndifferentRunner(number),
        proposer=ListProposer(tuple(f"Say nothing, part {i}." for i in range(proposals))),
        gate=PairedGate(),
        budget=Budget(rounds=proposals),
    )
    rounds = play(experiment, a_checkout(folder / "repository"), folder / "data", workers=1)
    tests = [r.certification for r in rounds if r.certification]
    kept = sum(r.working != r.incumbent for r in rounds)
    return kept, len(tests), sum(c.verdict == "accept" for c in tests)


def main(nights: int, proposals: int) -> None:
    begun = time.perf_counter()
    kept = tests = false = 0
    for number in range(nights):
        with tempfile.TemporaryDirectory() as folder:
            k, t, promoted = night(number, proposals, Path(folder))
        kept, tests, false = kept + k, tests + t, false + (promoted > 0)
    share = false / nights
    error = math.sqrt(max(share * (1 - share), 1 / nights / 4) / nights)
    print(f"{nights} nights of {proposals} proposals that change nothing, {time.perf_counter() - begun:.0f} s:")
    print(f"  kept on train      {kept / nights:.2f} a night")
    print(f"  promotion tests    {tests / nights:.2f} a night")
    print(f"  nights with a false promotion  {share:.3f} ± {error:.3f} (n = {nights}); must be ≤ .10 + 3 s.e.")


if __name__ == "__main__":
    numbers = [int(a) for a in sys.argv[1:]]
    main(*(numbers + [200, 40][len(numbers) :]))
