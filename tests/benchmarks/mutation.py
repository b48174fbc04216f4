"""Does the mutation proposer climb, and what is what it remembers worth? As a Markdown table.

    uv run python -m tests.benchmarks.mutation [SEEDS]

By default 100 seeds a row: some minutes. Everything is seeded. A file has six constants; each adds to the loss the
square of how far, in doublings, it is from its best value, by weights from 1 to 1/32, and each run has noise with a
standard deviation of ``SIGMA``. A change is kept as ``MetricGate`` would: the first run has to gain half a sigma, and
then two fresh runs have to gain, too. The table says which share of the true loss is gone at the end; its intervals are
Student's, over the seeds. In the second file the constants stand beside forty literals that do nothing.

Beside the proposer stand the same one without a memory, and one that draws a place and what to put there blindly.
"""

import math
import random
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from statistics import fmean, stdev
from time import perf_counter

from scipy.special import stdtrit

from analysis.proposers.examples import proposal_id
from analysis.proposers.mutation import MutationProposer, edits_of
from analysis.proposers.mutations import sites
from harness.candidacy import GUARDED
from harness.errors import OutOfIdeas
from harness.protocols import History, Proposer
from traces.records import Comparison, Decision, Edit, Proposal, Round, now

SIGMA = 0.3
FIRST = 1000
"""The first seed: what the proposer believes beforehand was set on others, below 40."""
ROUNDS = (10, 20, 40)
NAMES = ("LEARNING_RATE", "HIDDEN", "DECAY", "BATCH", "CLIP", "WARMUP")
START = {"LEARNING_RATE": 0.01, "HIDDEN": 32, "DECAY": 0.1, "BATCH": 64, "CLIP": 1.0, "WARMUP": 10}
CONSTANTS = "".join(f"{name} = {value}\n" for name, value in START.items())
BODY = "".join(
    f"\n\ndef layer{i}(x):\n    y = {i + 2} * x + {i + 1}.5\n    return f(y, {i + 3}, {i}.25)\n" for i in range(10)
)


def version(text: Mapping[str, str]) -> str:
    return sha256(repr(sorted(text.items())).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Landscape:
    """A loss over the constants of a file."""

    best: Mapping[str, float]
    weights: Mapping[str, float]

    @classmethod
    def drawn(cls, rng: random.Random) -> "Landscape":
        names = rng.sample(NAMES, len(NAMES))
        best = {name: START[name] * 2 ** rng.uniform(-3, 3) for name in names}
        return cls(best, {name: 2.0**-i for i, name in enumerate(names)})

    def loss(self, text: str) -> float | None:
        """``None``: it crashes."""
        found = dict(re.findall(r"^([A-Z_]+) = ([\d.e+-]+)$", text, re.MULTILINE))
        if set(found) != set(NAMES) or any(float(found[name]) <= 0 for name in NAMES):
            return None
        return sum(w * math.log2(float(found[name]) / self.best[name]) ** 2 for name, w in self.weights.items())


@dataclass(frozen=True)
class Blind:
    """Draws a place, and then what to put there, knowing nothing."""

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        rng = random.Random(history.seed)
        places = sites("train.py", text["train.py"], (), GUARDED)
        for _ in range(400):
            site = rng.choice(places)
            edits = edits_of([(site, rng.choice(site.options))], text)
            if history.version_of is None or history.version_of(edits) not in history.tried:
                return Proposal(id=proposal_id(incumbent, edits), proposer="Blind", edits=edits, rationale="blind")
        raise OutOfIdeas("all was tried")


@dataclass(frozen=True)
class Forgetful:
    """The proposer without a memory."""

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        return MutationProposer().propose(incumbent, text, replace(history, rounds=(), text_of=None))


def night(proposer: Proposer, source: str, seed: int, rounds: int) -> tuple[list[float], list[Round]]:
    """The true loss after each round, and the rounds."""
    rng = random.Random(seed)
    landscape, noise = Landscape.drawn(rng), random.Random(seed + 1)
    text = {"train.py": source}
    texts, done, losses = {version(text): text}, list[Round](), list[float]()
    tried = {version(text): "live"}
    base = measured(landscape, text, noise, 3)
    for number in range(1, rounds + 1):
        incumbent = version(text)

        def version_of(edits: Sequence[Edit], text: Mapping[str, str] = text) -> str:
            return version({**text, **{edit.path: edit.text or "" for edit in edits}})

        history = History(
            run="run",
            tasks={},
            trials=(),
            rounds=tuple(done),
            tried=dict(tried),
            seed=seed * 1000 + number,
            version_of=version_of,
            text_of=texts.__getitem__,
        )
        try:
            proposal = proposer.propose(incumbent, text, history)
        except OutOfIdeas:
            losses += [losses[-1]] * (rounds - number + 1)
            break
        after = {**text, **{edit.path: edit.text or "" for edit in proposal.edits}}
        candidate = version(after)
        texts[candidate], tried[candidate] = after, f"round {number}"
        first, fresh = measured(landscape, after, noise, 1), measured(landscape, after, noise, 2)
        gain = None if first is None or base is None else base - first
        if gain is not None and gain > SIGMA / 2 and fresh is not None and base is not None:
            gain = base - fresh
        is_kept = gain is not None and first is not None and base is not None and base - first > SIGMA / 2 and gain > 0
        done.append(a_round(number, incumbent, candidate, proposal, gain, is_kept=is_kept))
        if is_kept:
            text, base = after, measured(landscape, after, noise, 3)
        losses.append(landscape.loss(text["train.py"]) or 0.0)
    return [loss / (landscape.loss(source) or 1.0) for loss in losses], done


def measured(landscape: Landscape, text: Mapping[str, str], noise: random.Random, runs: int) -> float | None:
    loss = landscape.loss(text["train.py"])
    drawn = fmean(noise.gauss(0, SIGMA) for _ in range(runs))
    return None if loss is None else loss + drawn


def a_round(
    number: int, incumbent: str, candidate: str, proposal: Proposal, gain: float | None, *, is_kept: bool
) -> Round:
    comparison = Comparison(
        incumbent=incumbent,
        candidate=candidate,
        split="train",
        tasks=1,
        incumbent_score=None,
        candidate_score=None,
        gain=gain,
        low=None,
        high=None,
        confidence=0.9,
        metric="loss",
        sigma=SIGMA,
    )
    decision = Decision(
        verdict="keep" if is_kept else "discard",
        because="improved" if is_kept else "no-improvement",
        comparison=comparison,
    )
    return Round(
        run="run",
        number=number,
        incumbent=incumbent,
        candidate=candidate,
        proposal=proposal,
        decision=decision,
        working=candidate if is_kept else incumbent,
        started=now(),
        seconds=0.0,
    )


def main(seeds: int) -> None:
    arms: Mapping[str, Callable[[], Proposer]] = {
        "MutationProposer": MutationProposer,
        "without a memory": Forgetful,
        "blind": Blind,
    }
    print(f"| file | proposer | {' | '.join(f'loss gone after {n} rounds' for n in ROUNDS)} | ms a proposal |")
    print(f"|---|---|{'---|' * len(ROUNDS)}---|")
    for file, source in (("six constants", CONSTANTS), ("among 40 literals", CONSTANTS + BODY)):
        for name, proposer in arms.items():
            started = perf_counter()
            nights = [night(proposer(), source, seed, max(ROUNDS))[0] for seed in range(FIRST, FIRST + seeds)]
            each = 1000 * (perf_counter() - started) / seeds / max(ROUNDS)
            cells = [interval([1 - losses[n - 1] for losses in nights]) for n in ROUNDS]
            print(f"| {file} | {name} | {' | '.join(cells)} | {each:.1f} |", flush=True)


def interval(values: Sequence[float]) -> str:
    half = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
    return f"{fmean(values):.2f} [{fmean(values) - half:.2f}, {fmean(values) + half:.2f}]"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
