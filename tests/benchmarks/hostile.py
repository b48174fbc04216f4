"""The hostile suite on a small experiment, in each sandbox, and what a sandbox adds to a trial.

    uv run python -m tests.benchmarks.hostile [STARTS]

A start is a trial of a program that prints its number at once, beside the same program as a bare subprocess in a folder
with the same files; in turns, so that a busy machine is shared fairly.
"""

import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles

from harness.hostile import hostile
from harness.runners import CommandRunner, Evaluated, Printed
from harness.sandboxes import Bubblewrap, Namespaces, NoSandbox
from traces.records import Task

TASK = Task(id="run", input="", split="train")
SHELL = "sh train.sh"
TRAIN = "echo '[1, 2, 3]' > answer.json\necho score: 2\n"
EVALUATE = "import json\nprint('score:', len(json.load(open('answer.json'))))\n"
KINDS = (Bubblewrap, Namespaces, NoSandbox)


def main(starts: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "evaluate.py").write_text(EVALUATE)
        (Path(folder) / "prepare.py").write_text("SHARDS = 3\n")
        kinds = [kind for kind in KINDS if not kind().works()]
        attacked(Path(folder), kinds)
        started(Path(folder), kinds, starts)


def attacked(folder: Path, kinds: list[type]) -> None:
    print("| metric | sandbox | attacks | contained | caught | believed | hole | untried | seconds |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    isolated = Evaluated(
        "score", "python3 evaluate.py", fixed={"evaluate.py": folder / "evaluate.py"}, artifacts=["answer.json"]
    )
    for metric in (Printed("score"), isolated):
        for kind in kinds:
            runner = CommandRunner(SHELL, metric, {"prepare.py": folder / "prepare.py"}, sandbox=kind)
            begun = time.perf_counter()
            attacks = hostile(runner, TASK, {"train.sh": TRAIN}, 0, better="higher")[1:]
            took = time.perf_counter() - begun
            found = Counter(attack.outcome for attack in attacks)
            cells = (found[outcome] for outcome in ("contained", "caught", "believed", "hole", "untried"))
            row = [type(metric).__name__, kind.name, len(attacks), *cells, f"{took:.1f}"]  # type: ignore[attr-defined]
            print(f"| {' | '.join(map(str, row))} |")
            for attack in attacks:
                if attack.outcome == "hole" and kind is not NoSandbox:
                    print(f"HOLE {attack.name}: {attack.got}", file=sys.stderr)


def started(folder: Path, kinds: list[type], starts: int) -> None:
    (folder / "train.sh").write_text(TRAIN)

    def bare() -> object:
        return subprocess.run(shlex.split(SHELL), cwd=folder, capture_output=True, check=True)

    def trial(kind: type) -> Callable[[], object]:
        runner = CommandRunner(SHELL, Printed("score"), {"prepare.py": folder / "prepare.py"}, sandbox=kind)
        return lambda: runner.attempt(TASK, {"train.sh": TRAIN}, 0)

    ways = {"bare subprocess": bare, **{f"trial, {kind.name}": trial(kind) for kind in kinds}}  # type: ignore[attr-defined]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(starts):
        for name, start in ways.items():
            begun = time.perf_counter()
            start()
            seconds[name].append(time.perf_counter() - begun)
    usual = median(seconds["bare subprocess"])
    print(f"\n| n = {starts} | median ms | p95 ms | median more than bare, ms |\n|---|---:|---:|---:|")
    for name, each in seconds.items():
        middle, late = median(each), quantiles(each, n=20)[-1]
        print(f"| {name} | {1e3 * middle:.1f} | {1e3 * late:.1f} | {1e3 * (middle - usual):.1f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
