"""A small world for tests: tasks of some kinds, a runner that solves those that the prompt knows, and a proposer."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import OutOfIdeas
from harness.experiment import Budget, Contract, Experiment, split_tasks
from harness.gate import PairedGate
from harness.graders import ExactGrader
from harness.ledger import Ledger, open_run
from harness.loop import climb
from harness.protocols import Gate, Grader, History, Message, Proposer, Runner
from harness.testing import ScriptedModel
from harness.versions import Repo
from traces.records import Edit, Proposal, Round, Task

KINDS = ("plural", "colour", "animal", "number")
SEED_PROMPT = "# system\nAnswer.\n\n# user\n{{ task }}\n"
PROMPT = "prompts/solve.md"


CONTRACT = Contract(
    owner="Ada <ada@example.org>",
    stops="the limits of its budget, and: ratchet stop",
    proves="the grader on hidden tasks, and the promotion test",
    repeats="model calls and reads; nothing is changed outside",
    person="a call that the policy holds, and the same error twice",
)


def some_tasks(each: int = 20, kinds: Sequence[str] = KINDS) -> list[Task]:
    return split_tasks(
        [
            Task(id=f"{kind}-{i:03}", input=f"{kind} {i}?", targets=(f"a{i}",), tags=(kind,))
            for kind in kinds
            for i in range(each)
        ]
    )


def answer_to(task: Task) -> str:
    """The right one, which a runner is not told."""
    return "a" + task.input.split()[1].rstrip("?")


@dataclass(frozen=True)
class KnowingRunner:
    """Solves a task of a kind that the prompt names with chance ``known``, any other with chance ``unknown``."""

    known: float = 0.9
    unknown: float = 0.2
    on_run: Callable[[Task], None] = field(default=lambda task: None, repr=False)

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        self.on_run(task)
        chance = self.known if task.tags[0] in text[PROMPT] else self.unknown
        return answer_to(task) if random.Random(seed).random() < chance else "something else"


@dataclass(frozen=True)
class AskingRunner:
    """As ``KnowingRunner``, by way of a model whose server counts the calls: a byte each in the file ``counter``."""

    counter: Path = field(repr=False)

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        def answer(messages: Sequence[Message]) -> str:
            with self.counter.open("ab") as file:
                file.write(b"x")
            time.sleep(0.001)
            return KnowingRunner().run(task, text, seed)

        return ScriptedModel(answer).complete([Message("user", task.input)], seed=seed).text


@dataclass(frozen=True)
class ListProposer:
    """Adds one line after the other to the system message, whatever happens."""

    lines: Sequence[str]

    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        if len(history.rounds) >= len(self.lines):
            raise OutOfIdeas("the list is at its end")
        line = self.lines[len(history.rounds)]
        prompt = text[PROMPT].replace("Answer.", f"Answer. {line}")
        return Proposal(
            id=f"p{len(history.rounds)}",
            proposer="ListProposer",
            edits=(Edit(path=PROMPT, text=prompt),),
            rationale=line,
        )


def an_experiment(
    *,
    tasks: Sequence[Task] | None = None,
    runner: Runner | None = None,
    grader: Grader | None = None,
    proposer: Proposer | None = None,
    gate: Gate | None = None,
    budget: Budget | None = None,
    contract: Contract | None = CONTRACT,
) -> Experiment:
    return Experiment(
        name="example",
        subject="subject",
        tasks=tasks or some_tasks(),
        runner=runner or KnowingRunner(),
        grader=grader or ExactGrader(),
        proposer=proposer or ListProposer(("Mind the plural.", "Be brief.", "Name the colour.", "Know the animal.")),
        gate=gate or PairedGate(keep_alpha=0.3, min_clusters=20),
        budget=budget or Budget(rounds=4, hours=1),
        contract=contract,
    )


def play(
    experiment: Experiment, checkout: Path, directory: Path, *, workers: int = 4, **options: object
) -> list[Round]:
    """A whole night; resumed if it was begun in *directory*."""
    repo = Repo.find(checkout)
    live = repo.subject(experiment.subject).live().id
    with open_run(directory, experiment, live, **options) as ledger, ThreadPoolExecutor(workers) as executor:  # type: ignore[arg-type]
        return list(climb(experiment, ledger, repo, executor))


def outcome(rounds: Sequence[Round]) -> list[tuple[object, ...]]:
    """What must not depend on when it was played, or on how often it was killed."""
    return [
        (
            r.number,
            r.incumbent,
            r.candidate,
            r.working,
            r.score,
            r.decision and (r.decision.verdict, r.decision.because, r.decision.comparison),
            r.certification
            and (r.certification.verdict, r.certification.validation, r.certification.measured, r.certification.alpha),
            r.stop,
            r.trials,
        )
        for r in rounds
    ]


__all__ = ["Ledger", "an_experiment", "outcome", "play"]
