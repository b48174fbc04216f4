"""What a turn of the agent loop adds to the bare call of the SDK, and how many trials one process holds.

    uv run python -m tests.benchmarks.turns [TURNS] [TRIALS]

A server of its own process answers at once, or after half a second. In turns (bare, loop, bare, …), so that a busy
machine is shared fairly: bare is the SDK, called with the messages and tools that the loop called it with in that turn;
the loop has its ledger, its spans and a tool call that does nothing. Then so many trials at once, on a slow server.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from harness import models
from harness.agent.limits import Limits
from harness.agent.policy import allow, standard_policy
from harness.agent.runner import AgentRunner
from harness.agent.tools import function_tool
from harness.experiment import Budget, split_tasks
from harness.ledger import open_run
from harness.models import Breaker, model
from harness.trials import DurableTrials
from tests.world import SEED_PROMPT, an_experiment
from traces.records import Task, Trial

TURNS = 10
"""Of a trial: all but the last call a tool."""
TARGET = 2.0
"""Milliseconds that a turn may add."""
SERVER = Path(__file__).with_name("turns_server.py")
APIS = {"openai": "/v1", "anthropic": ""}


@contextmanager
def a_server(delay: float, turns: int) -> Generator[str]:
    command = [sys.executable, str(SERVER), str(delay), str(turns)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


def look(place: str) -> str:
    """What is at a place."""
    return f"a lamp {place}"


def agent(api: str, url: str, in_flight: int = 64) -> AgentRunner:
    asked = model(f"{api}:m", base_url=url + APIS[api], breaker=Breaker(in_flight=in_flight), timeout=60.0)
    tool = function_tool(look, effect="none")
    return AgentRunner(asked, tools=[tool], policy=standard_policy().plus(allow("look")), limits=Limits(seconds=300))


def tasks_of(count: int) -> list[Task]:
    return split_tasks([Task(id=f"t{n:04}", input=f"task {n}", targets=("done",)) for n in range(max(count, 80))])


# ── a turn ─────────────────────────────────────────────────────────────────────────────────────────────────────


def sdk_calls(api: str, url: str) -> Callable[[Sequence[Any]], None]:
    """The bare SDK: the call of each turn of a trial, one after the other."""
    if api == "openai":
        import openai

        client: Any = openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0)
        return lambda bodies: [client.chat.completions.create(**body) for body in bodies] and None
    import anthropic

    other: Any = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)
    return lambda bodies: [other.messages.create(**body) for body in bodies] and None


def conversation(api: str) -> list[dict[str, Any]]:
    """What is sent in each turn of a trial, as near to the loop's as the SDK's own users would write it."""
    schema = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
    bodies = []
    for turns in range(TURNS):
        messages: list[dict[str, Any]] = [{"role": "user", "content": "task 0"}]
        for turn in range(turns):
            place = {"place": f"at {turn}"}
            if api == "openai":
                function = {"name": "look", "arguments": json.dumps(place)}
                call = {"id": f"c{turn}", "type": "function", "function": function}
                messages += [{"role": "assistant", "content": None, "tool_calls": [call]},
                             {"role": "tool", "tool_call_id": f"c{turn}", "content": f"a lamp at {turn}"}]  # fmt: skip
            else:
                use = {"type": "tool_use", "id": f"c{turn}", "name": "look", "input": place}
                result = {"type": "tool_result", "tool_use_id": f"c{turn}", "content": f"a lamp at {turn}"}
                messages += [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
        tool = {"name": "look", "description": "What is at a place."}
        if api == "openai":
            tools = [{"type": "function", "function": {**tool, "parameters": schema}}]
            system = [{"role": "system", "content": "Answer."}]
            bodies.append({"model": "m", "messages": system + messages, "tools": tools, "max_tokens": 512})
        else:
            tools = [{**tool, "input_schema": schema}]
            bodies.append({"model": "m", "messages": messages, "tools": tools, "max_tokens": 512, "system": "Answer."})
    return bodies


def difference(bare: Sequence[float], whole: Sequence[float]) -> tuple[float, float, float]:
    """Of the medians, with its 95 % interval by the bootstrap over pairs."""
    rng, pairs = random.Random(0), list(zip(bare, whole, strict=True))

    def of(sample: Sequence[tuple[float, float]]) -> float:
        return median(w for _, w in sample) - median(b for b, _ in sample)

    drawn = sorted(of(rng.choices(pairs, k=len(pairs))) for _ in range(2000))
    return of(pairs), drawn[50], drawn[1949]


def a_turn(api: str, repeats: int) -> bool:
    """Prints what a turn adds; is it within the target?"""
    bodies = conversation(api)
    bare: list[float] = []
    whole: list[float] = []
    with a_server(0.0, TURNS) as url, tempfile.TemporaryDirectory() as folder:
        tasks, calls = tasks_of(repeats + 1), sdk_calls(api, url)
        experiment = an_experiment(tasks=tasks, runner=agent(api, url), budget=Budget(rounds=1))
        text = {"prompts/solve.md": SEED_PROMPT}
        with open_run(Path(folder), experiment, "a" * 40) as ledger, ThreadPoolExecutor(1) as executor:
            trials = DurableTrials(experiment, ledger, lambda version: text, executor, "round/1", 1)
            for repeat in range(repeats + 1):
                begun = time.perf_counter()
                calls(bodies)
                between = time.perf_counter()
                trials.attempt(["a" * 40], [tasks[repeat]])
                ended = time.perf_counter()
                if repeat:  # the first loads what is loaded once
                    bare.append(1e3 * (between - begun) / TURNS)
                    whole.append(1e3 * (ended - between) / TURNS)
    added, low, high = difference(bare, whole)
    print(
        f"| {api} | {median(bare):.2f} | {median(whole):.2f} | {added:.2f} [{low:.2f}, {high:.2f}] | "
        f"{len(bare)} trials of {TURNS} turns each way |",
        flush=True,
    )
    models.close()
    return added <= TARGET


# ── many at once ───────────────────────────────────────────────────────────────────────────────────────────────


def many(api: str, count: int, delay: float = 0.5, turns: int = 5) -> None:
    peak = [0]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            peak[0] = max(peak[0], threading.active_count())

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with a_server(delay, turns) as url, tempfile.TemporaryDirectory() as folder:
        tasks = tasks_of(count)
        experiment = an_experiment(tasks=tasks, runner=agent(api, url, in_flight=count), budget=Budget(rounds=1))
        text = {"prompts/solve.md": SEED_PROMPT}
        threading.Thread(target=watch, daemon=True).start()
        begun, used = time.perf_counter(), time.process_time()
        with open_run(Path(folder), experiment, "a" * 40) as ledger, ThreadPoolExecutor(count) as executor:
            trials = DurableTrials(experiment, ledger, lambda version: text, executor, "round/1", 1)
            [found] = trials.attempt(["a" * 40], tasks[:count])
        seconds, used = time.perf_counter() - begun, time.process_time() - used
        over.set()
    each: list[Trial] = [trial for trials in found.values() for trial in trials]
    slowest = max(trial.seconds for trial in each)
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(
        f"{count} trials at once by {api}, {turns} turns of {delay} s each: {seconds:.1f} s (slowest {slowest:.1f} s), "
        f"{used:.1f} s of CPU, at most {peak[0]} threads, {more:.0f} MiB more, "
        f"ended {dict(Counter(str(trial.ended) for trial in each))}",
        flush=True,
    )
    models.close()


def main(repeats: int, count: int) -> int:
    print("| API | bare SDK, ms a turn | agent, ms a turn | added [95 %] | n |\n|---|---|---|---|---|")
    well = [a_turn(api, repeats) for api in APIS]
    for api in APIS:
        many(api, count)
    return 0 if all(well) else 1


if __name__ == "__main__":
    numbers = [int(a) for a in sys.argv[1:]]
    sys.exit(main(*(numbers + [100, 200][len(numbers) :])))
