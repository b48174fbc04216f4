"""A night whose proposer asks a provider on this machine, which answers as the real APIs do."""

import json
import random
import re
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.proposers.analyst import AnalysisAgent
from harness.experiment import Experiment
from harness.meter import meter
from harness.protocols import Model
from tests.conftest import git
from tests.models.conftest import Sdk
from tests.models.loopback import Handler, Provider, Received, answers, provider
from tests.world import PROMPT, an_experiment, some_tasks
from traces.records import Span, Task, Text, now

RUBRIC = """description = "How good an answer is."

[[criteria]]
id = "short"
question = "Is it one word?"
choices = ["no", "yes"]
"""
FLATTERING = RUBRIC.replace('["no", "yes"]', '["yes", "no"]')


# ── what the provider is told, and answers ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Asked:
    """A request to the analyst, read as a model would."""

    messages: Sequence[str]

    @property
    def text(self) -> str:
        """Both parts of the question."""
        return "\n".join(self.messages[1:4])

    @property
    def key(self) -> str:
        found = re.search(r"The key is (\w+)\.", self.text)
        assert found
        return found[1]

    @property
    def findings(self) -> Mapping[str, str]:
        """Id → what is said of it."""
        found = re.findall(rf'<finding-{self.key} id="([^"]+)">\n(.*?)\n</finding-{self.key}>', self.text, re.DOTALL)
        return dict(found)

    @property
    def traces(self) -> Mapping[str, str]:
        """Trial → what is shown of it."""
        pattern = rf'<trial-{self.key} id="([^"]+)"[^\n]*>\n(.*?)</trial-{self.key}>'
        return dict(re.findall(pattern, self.text, re.DOTALL))

    @property
    def files(self) -> Mapping[str, str]:
        pattern = rf'<file-{self.key} path="([^"]+)">\n(.*?)</file-{self.key}>'
        return dict(re.findall(pattern, self.text, re.DOTALL))

    def finding_of(self, kind: str) -> str:
        return next((id for id, said in self.findings.items() if kind in said), next(iter(self.findings)))

    def citation(self, finding: str = "") -> dict[str, Any]:
        """The output of the first trial that is shown of *finding*; of any, where that is none."""
        of = re.findall(rf'<trial-{self.key} id="([^"]+)" finding="{re.escape(finding)}"', self.text)
        trial = next(iter([*of, *self.traces]))
        output = re.search(r"^output: (.+)$", self.traces[trial], re.MULTILINE)
        assert output
        return {"trial": trial, "span": None, "quote": output[1]}


Answering = Callable[[Asked], str]
"""What the provider answers to a request."""


def proposing(line: str, *, kind: str = "", **instead: Any) -> Answering:
    """A good proposal: it tells the system message of the prompt *line*. *instead*: other values of its fields."""

    def answer(asked: Asked) -> str:
        prompt = asked.files[PROMPT].replace("Answer.", f"Answer. {line}")
        finding = asked.finding_of(kind)
        good = {
            "of": asked.key,
            "finding": finding,
            "rationale": f"It is not told: {line}",
            "citations": [] if "citations" in instead else [asked.citation(finding)],
            "edits": [{"path": PROMPT, "text": prompt}],
            "predicted": 0.1,
            "predictions": [],
        }
        return json.dumps({**good, **instead})

    return answer


def saying(text: str) -> Answering:
    return lambda asked: text


def read(received: Received) -> Asked:
    """The request as either API sends it, its system message first."""
    system = [*parts(received.body.get("system", []))]
    return Asked([*system, *(text for m in received.body["messages"] for text in parts(m["content"]))])


def parts(content: Any) -> list[str]:
    return [content] if isinstance(content, str) else [block["text"] for block in content]


@contextmanager
def analyst(sdk: Sdk, *answering: Answering) -> Generator[tuple[Provider, Model]]:
    """A provider that gives *answering* one after the other, the last one for ever, and the model behind it.

    Whoever asks for anything else than a proposal is told nothing that is of use.
    """
    proposals: list[Asked] = []

    def play(handler: Handler, received: Received) -> None:
        asked, text = read(received), "That I cannot say."
        if "Propose one change." in asked.text:
            proposals.append(asked)
            text = answering[min(len(proposals), len(answering)) - 1](asked)
        answers(sdk.says(text))(handler, received)

    with provider(play) as there:
        yield there, sdk.model(there.url, max_tokens=4000)


def sent_to(there: Provider) -> str:
    """All that was sent, as it was."""
    return "\n".join(
        f"{each.path}\n{json.dumps(dict(each.headers))}\n{json.dumps(each.body, ensure_ascii=False)}"
        for each in there.received
    )


# ── the night ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class TellingRunner:
    """Solves a task of a kind that the prompt names, by what ``right`` says, and leaves a tool's span of each trial;
    else says what ``wrong`` makes of the task, and breaks now and then."""

    right: Mapping[str, str] = field(repr=False)
    """Input → answer."""
    wrong: Callable[[Task], str] = field(default=lambda task: f"no idea of {task.tags[0]}", repr=False)
    breaks: float = 0.0
    known: float = 0.9

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        chance = random.Random(seed)
        said = self.wrong(task)
        asked, got = Text.of(f"asked for {task.input}"), Text.of(f"looked up {said}, and it was not there")
        meter().end(
            Span(
                id=uuid.uuid4().hex,
                operation="execute_tool",
                name="look_up",
                started=now(),
                seconds=0.0,
                input_hash=asked.hash,
                input_preview=asked.text[-200:],
                output_hash=got.hash,
                output_preview=got.text[:200],
            ),
            (asked, got),
        )
        if task.tags[0] in text[PROMPT] and chance.random() < self.known:
            return self.right[task.input]
        if chance.random() < self.breaks:
            raise ValueError(f"it broke: {said}")
        return said


def told(tasks: Sequence[Task], **settings: Any) -> TellingRunner:
    return TellingRunner({task.input: task.targets[0] for task in tasks}, **settings)


def a_night(model: Model, *, tasks: Sequence[Task] | None = None, runner: Any = None, **settings: Any) -> Experiment:
    """An experiment whose proposer is an ``AnalysisAgent``; *settings* go to it or to the experiment."""
    tasks = tasks or some_tasks()
    rest = {name: settings.pop(name) for name in ("budget", "gate") if name in settings}
    return an_experiment(tasks=tasks, runner=runner or told(tasks), proposer=AnalysisAgent(model, **settings), **rest)


def with_rubric(checkout: Path) -> Path:
    """The same repository, with a rubric in its subject."""
    file = checkout / "subject" / "rubrics" / "judge.toml"
    file.parent.mkdir()
    file.write_text(RUBRIC)
    git(checkout, "add", "-A")
    git(checkout, "commit", "-q", "-m", "Add a rubric")
    return checkout
