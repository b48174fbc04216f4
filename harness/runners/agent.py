"""The runner that asks a model."""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.models import model
from harness.protocols import Model
from harness.text import SOLVE, render, validate
from traces.records import Task


@dataclass(frozen=True)
class AgentRunner:
    """Renders ``prompts/solve.md`` with the task and asks the model; its answer is the output."""

    model: Model | str
    """A model, or the name of one: ``local:smollm2-135m``, ``openai:MODEL``, ``anthropic:MODEL``."""

    def __post_init__(self) -> None:
        if isinstance(self.model, str):
            object.__setattr__(self, "model", model(self.model))

    def check(self, text: Mapping[str, str]) -> None:
        """Raise ``InvalidText`` with everything that is wrong with *text*."""
        validate(text)

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        assert not isinstance(self.model, str)
        return self.model.complete(render(text, SOLVE, task=task.input), seed=seed).text
