"""The runner for code: a command in a fresh worktree of the candidate, and a number read outside of its process."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.candidacy import GUARDED
from harness.protocols import Finished, Outcome, Sandbox
from harness.runners.metrics import Metric
from harness.sandboxes import best_sandbox
from traces.records import Task

MIB = 1 << 20

Failure = Literal["crash", "timeout", "oom", "output", "processes", "no_metric", "nan", "tampered"]
"""``error_class`` of a trial whose command gave no number. ``output``: it printed too much. ``tampered``: it changed
what it may not, so that nothing it says is believed."""


@dataclass(frozen=True)
class CommandRunner:
    """Runs *command* in a folder of its own that holds the version's files and what is *fixed*, in a sandbox.

    Its output is the end of what the command printed, and then one line of JSON that Ratchet writes: the metric by
    name, ``seconds``, ``peak_memory_mb`` and, where there is a GPU, ``peak_vram_mb``. ``MetricGrader`` reads that line.
    A command that gives no number raises ``TrialError("runner", Failure, …)``.

    The command finds its seed in the variable ``RATCHET_SEED`` and the input of its task in ``RATCHET_TASK``.
    """

    command: str | Sequence[str]
    """Split as a shell would where it is one text; no shell runs it."""
    metric: Metric
    fixed: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """Place in the worktree → file or folder outside of the subject: the evaluator, the data. Taken as git has them at
    HEAD where git tracks them; hashed before and after each trial."""
    seconds: float = 600.0
    """Of wall time, after which it and all that it started is killed: twice what it is meant to take."""
    memory: int = 4096 * MIB
    """Bytes, of all of its processes together."""
    output: int = 64 * MIB
    """Bytes that it may print."""
    disk: int = 1024 * MIB
    """Bytes of any one file that it writes."""
    readable: Sequence[Path] = ()
    """What else it can read, by the name that it has outside, such as a cache of data. The Python environment that
    Ratchet runs in always is."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Variables besides. Never a secret: a candidate can read them."""
    network: bool = False
    gpu: bool = False
    """May it use the GPUs?"""
    exclusive: bool = False
    """Does its number depend on what else the machine does? Then it runs alone."""
    guarded: Sequence[str] = GUARDED
    """What a candidate may not change: see ``harness.candidacy``."""
    sandbox: Callable[..., Sandbox] = best_sandbox

    @property
    def workers(self) -> int:
        """How many trials may be under way at once."""
        raise NotImplementedError

    def run(self, task: Task, text: Mapping[str, str], seed: int) -> Outcome:
        raise NotImplementedError

    def attempt(
        self, task: Task, text: Mapping[str, str], seed: int, command: Sequence[str] | None = None
    ) -> tuple[Finished, Outcome]:
        """As ``run``, with what was seen of the process; *command* instead of its own, for the hostile suite."""
        raise NotImplementedError

    def check(self, text: Mapping[str, str]) -> None:
        """Raise ``InvalidText`` where a file of the version lies in the place of a fixed one, or a Python file does not
        compile."""
        raise NotImplementedError

    def identity(self, text: Mapping[str, str]) -> str:
        raise NotImplementedError

    def objection(self, before: Mapping[str, str], after: Mapping[str, str]) -> str:
        raise NotImplementedError

    def conditions(self) -> Mapping[str, str]:
        """The sandbox, the Python, and a digest of what is fixed."""
        raise NotImplementedError
