"""The grader for runs that print one number, such as the validation loss of a training run."""

import json
import math
import re
from dataclasses import dataclass

from traces.records import Grade, Task

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
SHOWN = 120
"""Characters of what was seen that a reason repeats."""


@dataclass(frozen=True)
class MetricGrader:
    """Reads the number called *name* from the output; score 1 when there is one, 0 when the run failed.

    The last line that is ``name: NUMBER`` or ``name=NUMBER``, or a JSON object with *name* in it, decides. Whatever
    else stands on such a line makes it no number, so that prose which mentions the name is never read. NaN and infinity
    are no numbers: a run that diverged at its end failed, also when it printed numbers before.
    """

    name: str

    def __post_init__(self) -> None:
        if not self.name or self.name != self.name.strip():
            raise ValueError(f"{self.name!r} cannot name a metric: a line of the output starts with it")

    def grade(self, task: Task, output: str) -> Grade:
        seen: str | None = None
        for line in reversed(output.splitlines()):
            seen = reported(self.name, line)
            if seen is not None:
                break
        if seen is None:
            return Grade(score=0.0, reason=f"no line `{self.name}: NUMBER` in {len(output)} characters of output")
        value = number(seen)
        if value is None:
            return Grade(score=0.0, reason=f"{self.name} is {seen[:SHOWN]!r}, which is no number")
        return Grade(score=1.0, reason=f"{self.name} = {value:.6g}", value=value)


def reported(name: str, line: str) -> str | None:
    """What *line* says that the metric *name* is; ``None`` when it does not report it."""
    line = line.strip()
    if line.startswith(name):
        rest = line[len(name) :].lstrip()
        return rest[1:].strip() if rest[:1] in (":", "=") else None
    if line.startswith("{"):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):  # not JSON after all
            return None
        return json.dumps(found[name]) if name in found else None
    return None


def number(text: str) -> float | None:
    """*text* as a finite number; ``None`` when it is not one."""
    value = float(text) if NUMBER.fullmatch(text) else math.nan
    return value if math.isfinite(value) else None
