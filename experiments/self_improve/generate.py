"""Write ``tasks.jsonl``: workshops, each a harness with a fault. The same seed writes the same bytes::

python -m experiments.self_improve.generate
"""

import json
from collections.abc import Iterator
from pathlib import Path

from traces.records import Task

HERE = Path(__file__).parent
CASES = {"lone": 40, "twins": 60, "misled": 40, "stubborn": 40}
"""Case → how many."""


def tasks() -> Iterator[Task]:
    for case, many in CASES.items():
        for seed in range(many):
            asked = json.dumps({"case": case, "seed": seed})
            yield Task(id=f"{case}-{seed:02}", input=asked, tags=(case,))


def main() -> None:
    lines = (task.model_dump_json(exclude_defaults=True) for task in tasks())
    (HERE / "tasks.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
