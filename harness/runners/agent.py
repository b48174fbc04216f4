"""The runner that asks a model."""

from collections.abc import Mapping
from dataclasses import dataclass

from harness.models import model
from harness.protocols import Model
from harness.text import InvalidText, render, skill_index, validate
from traces.records import Task

PROMPT = "prompts/solve.md"


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
        if PROMPT not in text:
            raise InvalidText([f"{PROMPT} is missing: it is what the model is asked"])

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        assert not isinstance(self.model, str)
        messages = render(text, PROMPT, task=task.input, skills=skill_index(text))
        return self.model.complete(messages, seed=seed).text
