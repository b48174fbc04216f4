"""Nights of an agent in processes that can be killed: forked from one that has imported everything already.

    python -m tests.agent.night

Reads a specification a line, plays it in a process of its own, and writes that one's id and, later, how it ended.
"""

import gc
import http.client
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.agent.files import file_tools
from harness.agent.hooks import Event, Hook
from harness.agent.limits import Limits
from harness.agent.policy import allow, hold, standard_policy
from harness.agent.runner import AgentRunner
from harness.agent.tools import function_tool
from harness.errors import ToolError
from harness.experiment import Budget, split_tasks
from harness.ledger import open_run
from harness.models import Breaker, ChatModel, Retry, model
from harness.protocols import Message, Reply, ToolSpec
from harness.sandboxes import Bubblewrap, Namespaces
from harness.trials import DurableTrials
from harness.worktrees import Worktree
from tests.agent.outside import number_in
from tests.agent.world import A
from tests.world import SEED_PROMPT, an_experiment
from traces.records import Mark, Review, Task, Usage

ROOT = Path(__file__).parents[2]
SANDBOXES = {"bubblewrap": Bubblewrap, "unshare": Namespaces}
HANGS = 3600.0
FEWEST = 80
"""Tasks that an experiment is made of, so that its gate takes it."""


# ── what it is made of ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Either:
    """A model for each way to ask one: both APIs, in one piece and as a stream; the trial's number says which."""

    models: Sequence[ChatModel]
    name: str = "either:model"
    takes_tools: bool = True

    def estimate(self, tokens: int) -> Usage:
        return self.models[0].estimate(tokens)

    def complete(
        self,
        messages: Sequence[Message],
        *,
        seed: int,
        tools: Sequence[ToolSpec] = (),
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        asked = self.models[number_in([m.content for m in messages]) % len(self.models)]
        return asked.complete(messages, seed=seed, tools=tools, schema=schema)


def models_at(url: str, timeout: float) -> Either:
    retry = Retry(attempts=4, first_wait=0.02, longest_wait=0.2)
    breaker = Breaker(failures=20, first_cool_down=0.1, longest_cool_down=0.4)
    return Either(
        tuple(
            model(spec, base_url=url + path, timeout=timeout, retry=retry, breaker=breaker, stream=stream)
            for stream in (False, True)
            for spec, path in (("openai:a-model", "/v1"), ("anthropic:a-model", ""))
        )
    )


@dataclass(frozen=True)
class Target:
    """The target's side of a tool."""

    url: str

    def post(self, text: str, key: str) -> str:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=HANGS)
        try:
            connection.request("POST", "/target", json.dumps({"text": text, "key": key}))
            answer = connection.getresponse()
            if answer.status == 429:
                raise ToolError("rate_limit", "the target has too much to do", safe_to_repeat=True)
            return answer.read().decode()
        finally:
            connection.close()

    def notify(self, text: str, idempotency_key: str) -> str:
        """Tell somebody."""
        return self.post(text, idempotency_key)

    def pay(self, text: str, idempotency_key: str) -> str:
        """Pay for something."""
        return self.post(text, idempotency_key)

    def look(self, text: str, idempotency_key: str) -> str:
        """Look at something, which changes nothing."""
        return self.post(text, idempotency_key)


@dataclass(frozen=True)
class Mended:
    """A verifier that sends some trials back until they are mended. It tells the target of each review."""

    target: Target
    every: int
    """How many trials there are to one that it sends back; 0: it sends none."""
    attempts: int = 3

    def review(self, task: Task, output: str, work: Any, before: Sequence[Review]) -> Review:
        number = number_in(task.input)
        self.target.post(f"review {number}/{len(before)}", "")
        passed = not self.every or number % self.every != 0 or "mended" in output
        mark = Mark(criterion="mended", passed=passed, because="" if passed else "nothing is mended")
        return Review(verdict="satisfied" if passed else "needs_revision", marks=(mark,))


def hangs_before(event: Event) -> None:
    if event.call is not None and "hook-hangs" in str(event.call.arguments):
        time.sleep(3)


def runner_of(spec: Mapping[str, Any]) -> AgentRunner:
    target = Target(spec["url"])
    tools = [function_tool(tool, effect=effect) for tool, effect in
             ((target.notify, "outside"), (target.pay, "outside"), (target.look, "none"))]  # fmt: skip
    policy = standard_policy().plus(allow("notify"), hold("pay", "money", "it costs money"))
    has_box = spec.get("source") is not None
    return AgentRunner(
        models_at(spec["url"], spec.get("timeout", 5.0)),
        tools=[*tools, *(file_tools() if has_box else ())],
        policy=policy,
        limits=Limits(seconds=spec.get("seconds", 30.0)),
        verifier=Mended(target, spec.get("every", 0)),
        sandbox=SANDBOXES[spec.get("sandbox", "bubblewrap")](disk=1 << 20) if has_box else None,
        worktree=Worktree(spec["source"]) if has_box else None,
        hooks=[
            Hook("pre_trigger", hangs_before, timeout=0.3),
            Hook("post_trigger", hangs_before, timeout=0.3),
        ]
        if spec.get("hooks", True)
        else [],
        patience=spec.get("patience", 20.0),
    )


def tasks_of(count: int) -> list[Task]:
    return split_tasks(
        [Task(id=f"trial-{n:04}", input=f"trial {n}", targets=("x",)) for n in range(max(count, FEWEST))]
    )


def play(spec: Mapping[str, Any]) -> None:
    """The whole night; what a process before has done is found again."""
    if largest := spec.get("largest"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    tasks = tasks_of(spec.get("first", 0) + spec["count"])
    experiment = an_experiment(tasks=tasks, runner=runner_of(spec), budget=Budget(rounds=1))
    text = {"prompts/solve.md": SEED_PROMPT}
    with (
        open_run(Path(spec["directory"]), experiment, A) as ledger,
        ThreadPoolExecutor(spec.get("workers", 4)) as executor,
    ):
        trials = DurableTrials(experiment, ledger, lambda version: text, executor, "round/1", 1)
        first = spec.get("first", 0)
        trials.attempt([A], tasks[first : first + spec["count"]])


# ── processes ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Night:
    """A night under way."""

    pid: int
    zygote: subprocess.Popen[str]
    log: Path
    _ended: list[int] = field(default_factory=list)

    def kill(self) -> int:
        os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def wait(self) -> int:
        """How it ended: the exit code, or minus the signal."""
        if not self._ended:
            assert self.zygote.stdout is not None
            self._ended.append(int(self.zygote.stdout.readline()))
        return self._ended[0]

    @property
    def is_over(self) -> bool:
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        return state == "Z"

    def ends(self, seconds: float) -> bool:
        """Does it end within so many seconds?"""
        until = time.monotonic() + seconds
        while not self.is_over:
            if time.monotonic() > until:
                return False
            time.sleep(0.02)
        return True

    @property
    def said(self) -> str:
        return self.log.read_text()


@dataclass(frozen=True)
class Nights:
    """Where nights are begun, one at a time."""

    zygote: subprocess.Popen[str]
    begun: list[Night] = field(default_factory=list)

    def begin(self, spec: Mapping[str, Any]) -> Night:
        assert self.zygote.stdin is not None
        assert self.zygote.stdout is not None
        Path(spec["log"]).parent.mkdir(parents=True, exist_ok=True)
        self.zygote.stdin.write(json.dumps(spec) + "\n")
        self.zygote.stdin.flush()
        night = Night(int(self.zygote.stdout.readline()), self.zygote, Path(spec["log"]))
        self.begun[:] = [night]
        return night

    def play(self, spec: Mapping[str, Any]) -> Night:
        """From its beginning to its end."""
        night = self.begin(spec)
        assert night.wait() == 0, night.said
        return night


@contextmanager
def nights(environment: Mapping[str, str]) -> Generator[Nights]:
    command = [sys.executable, "-m", "tests.agent.night"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env=dict(environment)) as zygote:
        started = Nights(zygote)
        yield started
        for night in started.begun:
            with suppress(ProcessLookupError):
                night.kill()
        assert zygote.stdin is not None
        zygote.stdin.close()


def main() -> None:
    import genai_prices.data  # noqa: F401
    import jsonschema  # noqa: F401

    import harness.models.anthropic_api
    import harness.models.openai_api  # noqa: F401

    gc.freeze()  # or each night copies all that was imported when it tidies up
    for line in sys.stdin:
        spec = json.loads(line)
        pid = os.fork()
        if pid == 0:
            apart(Path(spec["log"]))
            play(spec)
            return
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    gc.unfreeze()


def apart(log: Path) -> None:
    """In the forked process: nothing that it says gets into the way of the other."""
    with log.open("a") as file, Path(os.devnull).open() as nothing:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
        os.dup2(nothing.fileno(), 0)


if __name__ == "__main__":
    main()
