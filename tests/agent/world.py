"""One trial of an agent, played through the ledger, with what it leaves behind."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness.agent.inbox import Inbox
from harness.agent.policy import allow, standard_policy
from harness.agent.runner import AgentRunner
from harness.experiment import Budget
from harness.ledger import journal_file, open_run
from harness.protocols import Message, Reply, Runner
from harness.testing import ScriptedModel
from harness.trials import DurableTrials
from tests.world import SEED_PROMPT, an_experiment, some_tasks
from traces.journal import read
from traces.records import Record, Span, ToolCall, Trial

A = "a" * 40
TASKS = some_tasks(2)


def calls(*wanted: tuple[str, Mapping[str, object]], text: str = "") -> Reply:
    """A reply that calls tools."""
    made = tuple(
        ToolCall(id=f"c{i}", name=name, arguments=dict(arguments)) for i, (name, arguments) in enumerate(wanted)
    )
    return Reply(text, tool_calls=made, finish_reason="tool_calls")


def turns_so_far(messages: Sequence[Message]) -> int:
    return sum(message.role == "assistant" for message in messages)


def script(*replies: Reply | str | Callable[[Sequence[Message]], Reply | str]) -> ScriptedModel:
    """A model that gives one answer after the other, the last for ever; the n-th to whoever has had n−1."""

    def answer(messages: Sequence[Message]) -> Reply | str:
        reply = replies[min(turns_so_far(messages), len(replies) - 1)]
        return reply(messages) if callable(reply) else reply

    return ScriptedModel(answer)


@dataclass(frozen=True)
class Played:
    """A trial and what it left."""

    trial: Trial
    records: Sequence[Record]
    directory: Path

    def spans(self, operation: str) -> list[Span]:
        return [r for r in self.records if isinstance(r, Span) and r.operation == operation]

    def told(self) -> list[str]:
        """What the model was told about its calls, in order."""
        return [str(span.output_preview) for span in self.spans("execute_tool")]

    @property
    def inbox(self):
        return Inbox(self.directory).entries()

    @property
    def ended(self) -> str | None:
        return self.trial.ended


def play(
    runner: Runner, directory: Path, *, prompt: str = SEED_PROMPT, text: Mapping[str, str] | None = None
) -> Played:
    """The first trial of a run in *directory*, taken up again where it was begun."""
    files = {"prompts/solve.md": prompt, **(text or {})}
    experiment = an_experiment(runner=runner, budget=Budget(rounds=1))
    with open_run(directory, experiment, A) as ledger, ThreadPoolExecutor(1) as executor:
        trials = DurableTrials(experiment, ledger, lambda version: files, executor, "round/1", 1)
        [found] = trials.attempt([A], TASKS[:1])
        run = ledger.run.id
    records = [line.record() for line in read(journal_file(directory, run))]
    return Played(found[TASKS[0].id][0], records, directory)


def agent(model, *tools, **more) -> AgentRunner:
    """An agent that may call its own *tools* without asking."""
    policy = more.pop("policy", None) or standard_policy().plus(*(allow(tool.name) for tool in tools))
    return AgentRunner(model, tools=tools, policy=policy, **more)
