"""What it takes to start a command in each sandbox, beside a bare subprocess.

    uv run python -m tests.benchmarks.sandbox [REPEATS]

In turns (bare, bubblewrap, unshare, bare, …), so that a busy machine is shared fairly.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import fmean, median, stdev

from harness.sandboxes import Bubblewrap, Namespaces

COMMAND = ["true"]


def main(repeats: int) -> None:
    with ExitStack() as stack:
        starts: dict[str, Callable[[], object]] = {
            "bare": lambda: subprocess.run(COMMAND, capture_output=True, check=True)
        }
        for kind in (Bubblewrap, Namespaces):
            why_not = kind().works()
            if why_not:
                print(f"{kind.name} does not work here: {why_not}", file=sys.stderr)
                continue
            box = stack.enter_context(kind().open())
            starts[kind.name] = lambda box=box: box.run(COMMAND)
        seconds: dict[str, list[float]] = {name: [] for name in starts}
        for _ in range(repeats):
            for name, start in starts.items():
                begun = time.perf_counter()
                start()
                seconds[name].append(time.perf_counter() - begun)
    bare = median(seconds["bare"])
    print(f"| `true`, n = {repeats} | median ms | mean ms ± 95 % | times bare |\n|---|---|---|---|")
    for name, each in seconds.items():
        half = 1.96 * stdev(each) / len(each) ** 0.5
        middle = median(each)
        print(f"| {name} | {1e3 * middle:.1f} | {1e3 * fmean(each):.1f} ± {1e3 * half:.1f} | {middle / bare:.1f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
