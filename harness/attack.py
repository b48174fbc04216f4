"""The attack on a grader, and on the place where versions run: can a score be had without the work?

Facts in, facts out: ``answers`` says what to answer, ``Saying`` answers it, whoever measures buys the trials, and
``holes`` judges them. Only ``snoop`` and ``reachable`` touch the world, each for some seconds.
"""

import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any
from uuid import uuid4

from harness.errors import TrialError, boundary
from harness.graders.exact import normalised
from harness.protocols import Sandbox
from harness.snoop import fingerprints
from traces.records import Hole, Task, Trial

CHEATS: tuple[str, ...] = (
    "empty",
    "whitespace",
    "constant",
    "long",
    "echo",
    "placeholder",
    "refusal",
    "judge",
    "opener",
    "marker",
    "number",
    "wildcard",
    "program",
    "most-frequent",
    "every-target",
    "disk",
    "environment",
    "parent",
)
"""What is tried. The last three are looked for where versions run; the others are outputs.

``judge`` addresses the judge; ``opener`` begins and says nothing, which judges are known to take for an answer (Zhao et
al. 2025, One Token to Fool LLM-as-a-Judge); ``marker`` announces an answer to graders that cut it out; ``number`` and
``wildcard`` compare as equal to much; ``program`` ends well before any check of it has run.
"""

WORDING = Path(__file__).parent / "text" / "attack"
SYMBOLS: Mapping[str, Sequence[str]] = {
    "empty": ("",),
    "whitespace": (" \n\t", "\u200b"),
    "placeholder": ("{{ task }}",),
    "number": ("nan", "inf"),
    "wildcard": (".*",),
}
LONG = 400
"""How often ``long`` repeats its sentence."""
PASTE = 20_000
"""Characters of an ``every-target`` answer at most, a task's own targets apart."""
SNOOP = Path(__file__).with_name("snoop.py")
SECONDS = 15.0
"""How long the snooping program looks around."""
PYTHONS = ("python3", "python")


# ── the grader ─────────────────────────────────────────────────────────────────────────────────────────────────


def answers(tasks: Sequence[Task]) -> dict[str, dict[str, str]]:
    """Cheat → task id → what it answers; variants as ``judge/2``. What needs targets is absent where there are none."""
    fixed = {cheat: list(outputs) for cheat, outputs in SYMBOLS.items()}
    for path in sorted(WORDING.glob("*/*.md")):
        fixed.setdefault(path.parent.name, []).append(path.read_text(encoding="utf-8").strip())
    fixed["long"] = [" ".join(fixed["constant"][:1] * LONG)]
    made: dict[str, Callable[[Task], str | None]] = {"echo": lambda task: task.input}
    form = {normalised(target): target for task in tasks for target in reversed(task.targets)}
    counts = Counter(target for task in tasks for target in {normalised(target) for target in task.targets})
    if counts:
        by_count = {target: form[target] for target in sorted(counts, key=lambda target: (-counts[target], target))}
        made["most-frequent"] = lambda task: next(iter(by_count.values()))
        made["every-target"] = lambda task: pasted(task, by_count)
    found: dict[str, dict[str, str]] = {}
    for cheat in CHEATS:
        for number, output in enumerate(fixed.get(cheat, ()), 1):
            name = f"{cheat}/{number}" if len(fixed[cheat]) > 1 else cheat
            found[name] = {task.id: output for task in tasks}
        if cheat in made:
            outputs = {task.id: output for task in tasks if (output := made[cheat](task)) is not None}
            if outputs:
                found[cheat] = outputs
    return found


def pasted(task: Task, targets: Mapping[str, str]) -> str | None:
    """The *targets* of all tasks (normalised → as written), a line each, those of *task* somewhere among them.

    ``None`` where there are no others.
    """
    own = {normalised(target) for target in task.targets}
    others: list[str] = []
    room = PASTE
    for target, written in targets.items():
        room -= len(written) + 1
        if others and room < 0:
            break
        if target not in own:
            others.append(written)
    return "\n".join(sorted((*others, *task.targets))) if own and others else None


@dataclass(frozen=True)
class Saying:
    """A runner that answers what was prepared, by task id."""

    outputs: Mapping[str, str] = field(repr=False)

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> str:
        return self.outputs[task.id]


def right_and_wrong(tasks: Sequence[Task], seed: int) -> tuple[dict[str, str], dict[str, str]]:
    """Task id → a right answer, its first target; and → a wrong one, a target of another task.

    A wrong one neither is among the task's own, whatever the case, nor holds one as words, nor is held by one. Tasks
    without targets are in neither; one that no other task has a wrong answer for is in the first alone.
    """
    rng = random.Random(seed)
    every = sorted({target for task in tasks for target in task.targets})
    rng.shuffle(every)
    right: dict[str, str] = {}
    wrong: dict[str, str] = {}
    for task in sorted(tasks, key=lambda task: task.id):
        if not task.targets:
            continue
        right[task.id] = task.targets[0]
        start = rng.randrange(len(every))
        for at in range(start, start + len(every)):
            other = every[at % len(every)]
            if not any(overlap(other, target) for target in task.targets):
                wrong[task.id] = other
                break
    return right, wrong


def overlap(one: str, other: str) -> bool:
    """Does one of two answers hold the other, as words?"""
    a, b = (f" {normalised(text)} " for text in (one, other))
    return a in b or b in a


def holes(cheat: str, trials: Sequence[Trial], floor: float) -> Hole | None:
    """The hole that *cheat* found, if its mean score is over *floor*.

    The mean is over the trials that have a grade: a grader that raises on an answer has not rewarded it.
    """
    graded = [(trial.grade.score, trial) for trial in trials if trial.grade is not None]
    if not graded:
        return None
    score = fmean(score for score, _ in graded)
    if score <= floor + 1e-9:
        return None
    best = max(graded, key=lambda pair: pair[0])[1]
    return Hole(
        cheat=cheat.partition("/")[0],
        score=score,
        floor=floor,
        tasks=len(graded),
        example=(best.output or "")[:200],
        task=best.task,
    )


# ── the place where versions run ───────────────────────────────────────────────────────────────────────────────


def snoop(sandbox: Sandbox, secrets: Sequence[Task], floor: float, *, seconds: float = SECONDS) -> list[Hole]:
    """What a version's code could read in *sandbox* of the *secrets*, the hidden tasks: at most a hole for the disk,
    one for the environment and one for other processes. Its score is the share of the tasks that can be read there.

    Raises:
        TrialError: the sandbox does not open, or has no Python to look around with; then nothing is known.
    """
    if not secrets:
        return []
    with boundary("sandbox"), sandbox.open() as box:
        box.write("snoop.py", SNOOP.read_text(encoding="utf-8"))
        box.write("snoop.json", sought(secrets, seconds))
        for python in PYTHONS:
            try:
                done: Any = box.run([python, "snoop.py", "snoop.json"])
            except FileNotFoundError:
                continue
            report = reported(done.output) if done.exit_code == 0 else None
            if report is not None:
                return [hole(found, secrets, floor) for found in report]
    raise TrialError(
        "sandbox", "no-report", "the program that looks for hidden tasks did not run there: is there a Python?"
    )


def reachable(secrets: Sequence[Task], *, seconds: float = SECONDS) -> list[str]:
    """What any program that a runner starts could read of the *secrets*, in words: nothing keeps it from that."""
    if not secrets:
        return []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "snoop.json"
        path.write_text(sought(secrets, seconds), encoding="ascii")
        done = subprocess.run([sys.executable, str(SNOOP), str(path)], capture_output=True, text=True, check=True)
    return [f"{found['way']}: {where(found, secrets)}" for found in reported(done.stdout) or ()]


def sought(secrets: Sequence[Task], seconds: float) -> str:
    """The file that the snooping program is given."""
    return fingerprints([(task.id, task.input, task.targets) for task in secrets], uuid4().hex, seconds)


def reported(output: str) -> list[dict[str, Any]] | None:
    """What the snooping program found; ``None``: it did not come to its end."""
    lines: list[dict[str, Any]] = []
    for line in output.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            lines.append(found)
    return [line for line in lines if "way" in line] if any("files" in line for line in lines) else None


def hole(found: Mapping[str, Any], secrets: Sequence[Task], floor: float) -> Hole:
    return Hole(
        cheat=found["way"],
        score=found["all"] / len(secrets),
        floor=floor,
        tasks=len(secrets),
        example=where(found, secrets),
        task=secrets[found["task"]].id,
    )


def where(found: Mapping[str, Any], secrets: Sequence[Task]) -> str:
    """At most 200 characters; of a long name of a place the end is kept."""
    answered = f" ({found['answered']} with their answers)" if found["answered"] else ""
    others = f", and in {found['places'] - 1} other places" if found["places"] > 1 else ""
    start = f"{found['tasks']} of {len(secrets)} hidden tasks{answered} in "
    room = 200 - len(start) - len(others)
    place = found["place"] if len(found["place"]) <= room else "…" + found["place"][1 - room :]
    return start + place + others
