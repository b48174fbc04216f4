"""What an experiment is made of: protocols with one or two methods, imported and passed."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from traces.records import (
    Comparison,
    Decision,
    Edit,
    Effect,
    EndReason,
    Finding,
    GateSpec,
    Grade,
    Guards,
    Proposal,
    Review,
    Round,
    Span,
    Split,
    Task,
    ToolCall,
    Trial,
    Usage,
)


@dataclass(frozen=True)
class Message:
    """One turn of a chat."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    calls: tuple[ToolCall, ...] = ()
    """Of an assistant message: the tools that it calls."""
    answers: str = ""
    """Of a tool message: the id of the call that it answers."""
    is_error: bool = False
    """Of a tool message."""
    opaque: tuple[Mapping[str, Any], ...] = ()
    """Of an assistant message: blocks that its provider wants back as they were."""


@dataclass(frozen=True)
class ToolSpec:
    """A tool as a model is shown it."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """JSON schema of an object."""


@dataclass(frozen=True)
class Reply:
    """What a model answered."""

    text: str
    usage: Usage = field(default_factory=Usage)
    finish_reason: str = "stop"
    """``stop``, ``tool_calls``, ``length``, ``refusal`` or the provider's own word."""
    tool_calls: tuple[ToolCall, ...] = ()
    model: str = ""
    """The model's id as the provider reports it."""
    opaque: tuple[Mapping[str, Any], ...] = ()


class Model(Protocol):
    @property
    def name(self) -> str:
        """As the user wrote it, ``provider:model``."""
        ...

    def complete(self, messages: Sequence[Message], *, seed: int) -> Reply:
        """Answer the chat.

        Raises:
            ModelError: the provider refused or failed for good; says which, and whether it was worth a retry.
            BudgetSpent: the run may not buy this call.
        """
        ...


@runtime_checkable
class ToolModel(Model, Protocol):
    """A model that can call tools."""

    @property
    def takes_tools(self) -> bool: ...

    def complete(
        self,
        messages: Sequence[Message],
        *,
        seed: int,
        tools: Sequence[ToolSpec] = (),
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        """As ``Model.complete``. *schema*: the answer's text is to be a JSON object that fits it, as far as the
        provider can see to that."""
        ...


class Runner(Protocol):
    def run(self, task: Task, text: Mapping[str, str], seed: int) -> "str | Outcome":
        """Attempt *task* with the text of a version (path → text); return the output. *task* comes without its targets.

        What it raises is the version's own failure, and scores so; except ``ConnectionError``, a ``ModelError`` for an
        infrastructure reason, and ``TrialError("sandbox", …)``, which are attempted again and never a score.
        """
        ...


@runtime_checkable
class Checks(Protocol):
    """A runner that can tell, before a trial is bought, that a version cannot work."""

    def check(self, text: Mapping[str, str]) -> None:
        """Raise ``InvalidText`` with everything that is wrong with *text*."""
        ...


@runtime_checkable
class Referee(Protocol):
    """A runner that can tell, before a trial is bought, that a change is none, or changes what is measured."""

    def identity(self, text: Mapping[str, str]) -> str:
        """A digest of what the files do: the same for versions that differ in comments and the like alone."""
        ...

    def objection(self, before: Mapping[str, str], after: Mapping[str, str]) -> str:
        """Why *after* is no candidate beside *before*, with the line: it changes the seed, the evaluation, the data
        order or the timing. Empty: it is one."""
        ...


@runtime_checkable
class Parallel(Protocol):
    """A runner that knows how many of its trials may be under way at once."""

    @property
    def workers(self) -> int: ...


class Grader(Protocol):
    def grade(self, task: Task, output: str) -> Grade:
        """Score *output*; raise if it cannot be scored. A wrong answer is a grade of 0, not an exception."""
        ...


@runtime_checkable
class Conditions(Protocol):
    """A runner or grader that can say what it measures with, such as the versions of its tools."""

    def conditions(self) -> Mapping[str, str]:
        """Part → value. Trials under other values are not compared with each other."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a task ended, for runners with more to say than an output."""

    output: str
    ended: EndReason = "done"
    detail: str = ""
    """What ended it, in words."""


@dataclass(frozen=True)
class Work:
    """What a tool call, or the review of an output, may use."""

    task: Task
    """Without its targets."""
    text: Mapping[str, str]
    """The files of the version."""
    box: "Box | None" = None
    """The opened sandbox on the trial's worktree; ``None`` where the agent has none."""
    seconds: float = 60.0
    """How long it may take."""
    place: str = ""
    """The key of the call within its session, such as ``call/3.0``: turn and number."""
    idempotency_key: str = ""
    """For whatever can tell a repeat from a second wish; the same whenever the same call is made again."""


class Tool(Protocol):
    """Something that an agent can call."""

    @property
    def name(self) -> str:
        """Letters, digits, ``_`` and ``-``, at most 64."""
        ...

    @property
    def description(self) -> str:
        """What it does and when to use it, for the model."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """JSON schema of an object."""
        ...

    @property
    def effect(self) -> Effect: ...

    def call(self, arguments: Mapping[str, Any], work: Work) -> str:
        """Do it; return what the model is told. *arguments* fit ``parameters``.

        Raises:
            ToolError: it did not work; says whether the same may be tried again.
        """
        ...


class Verifier(Protocol):
    """Tells whether what a maker made will do, outside of the maker's session."""

    @property
    def attempts(self) -> int:
        """How often the maker may try, the first time included."""
        ...

    def review(self, task: Task, output: str, work: Work, before: Sequence[Review]) -> Review:
        """What is wrong with *output*. *before*: its reviews of earlier attempts, oldest first.

        Never raises for what the output is, or for a judge that broke: that is a ``grader_error``.
        """
        ...


@dataclass(frozen=True)
class Trace:
    """All that is known of one trial."""

    trial: Trial
    spans: tuple[Span, ...]
    """In the order in which they ended."""
    texts: Mapping[str, str]
    """Hash → what its spans sent and got back."""


@dataclass(frozen=True)
class History:
    """What a proposer may know: the train split and verdicts. Nothing of the hidden splits is in here."""

    run: str
    tasks: Mapping[str, Task]
    """The train tasks by id, with their targets."""
    trials: Sequence[Trial]
    """Train trials of the incumbent, its latest measurement."""
    rounds: Sequence[Round] = ()
    """Earlier rounds of this run, oldest first; validation verdicts carry no per-task information."""
    tried: Mapping[str, str] = field(default_factory=dict)
    """Version → where it was tried before, also in earlier runs."""
    seed: int = 0
    """Fresh for each round: the proposer's only source of chance."""
    version_of: Callable[[Sequence[Edit]], str] | None = None
    """The id of the version that some edits to the incumbent would make, to look up in ``tried``."""
    text_of: Callable[[str], Mapping[str, str]] | None = None
    """The files of an earlier version of this run: what was there before a change that was kept."""
    trace_of: Callable[[str], Trace] | None = None
    """The trace of one of ``trials``, by its id; ``LookupError`` for any other."""
    known: Sequence[Finding] = ()
    """What earlier proposals of this run and earlier runs had found, the latest of each id."""
    memory: str = ""
    """What earlier runs tried and learned, on train: the experiment's memory as the run began."""


class Proposer(Protocol):
    def propose(self, incumbent: str, text: Mapping[str, str], history: History) -> Proposal:
        """One change to *text*, the incumbent's files.

        Raises:
            OutOfIdeas: nothing is left to try; the run ends.
        """
        ...


class Trials(Protocol):
    """Buys trials, durably: what was paid for once is never paid for again."""

    def clusters(self, split: Split, seed: int) -> list[list[Task]]:
        """The tasks of *split* by cluster, shuffled by *seed*."""
        ...

    def baseline(self, version: str, repeats: int, tasks: Sequence[Task] | None = None) -> dict[str, list[Trial]]:
        """Task → its trials by *version* on these train *tasks*, by default all of them; each is bought once a version,
        so what a candidate was compared on counts for its baseline, once it is kept."""
        ...

    def declare(self, spec: GateSpec) -> GateSpec:
        """Write down what a test declares, before its first difference is seen. One test a scope.

        Returns it as it was first declared: a resumed run goes by that, since nothing changes after the first
        observation.
        """
        ...

    def refresh(self, version: str, because: Literal["age", "drift", "crashes"], detail: str) -> None:
        """From now on ``baseline`` measures *version* afresh."""
        ...

    def attempt(self, versions: Sequence[str], tasks: Sequence[Task], repeats: int = 1) -> list[dict[str, list[Trial]]]:
        """For each of *versions*, task → fresh trials; the versions interleaved within each task."""
        ...


class Gate(Protocol):
    @property
    def repeats(self) -> int:
        """How often the incumbent is measured on ``train``."""
        ...

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits it needs tasks in."""
        ...

    @property
    def floor(self) -> float:
        """What an answer without any work may score at most, see ``harness.attack``."""
        ...

    @property
    def checkpoints(self) -> int:
        """How many certifications a run declares."""
        ...

    @property
    def alpha(self) -> float:
        """The error budget over the lifetime of a validation split."""
        ...

    @property
    def horizon(self) -> int:
        """Over how many certifications it is spread."""
        ...

    def check(self, tasks: Sequence[Task]) -> None:
        """Raise ``UserError`` for *tasks* on which nothing could be proven, such as too small a validation split."""
        ...

    def cost(self, sizes: Mapping[str, int]) -> int:
        """Trials that a promotion test may need, its measurement included. *sizes*: tasks by split."""
        ...

    def keep(
        self, incumbent: str, candidate: str, trials: Trials, *, is_shorter: bool, rounds: Sequence[Round]
    ) -> Decision:
        """Decide on ``train``, cheaply: may the run build on it?

        *is_shorter*: the candidate has less text, so that being no worse is enough. *rounds*: those before.
        """
        ...

    def prove(self, live: str, candidate: str, trials: Trials, alpha: float, split: Split = "validation") -> Comparison:
        """Test whether *candidate* is better, both arms fresh and interleaved, at level *alpha*."""
        ...

    def guard(self, live: str, candidate: str, trials: Trials, again: Trials, validation: Comparison) -> Guards:
        """What else a promotion must not spoil, on the trials of *validation*; *again* buys what must be run afresh."""
        ...

    def harm(self, incumbent: str, without: str, trials: Trials) -> Comparison:
        """Test on ``train`` whether *without*, the incumbent without some of its changes, is better than it."""
        ...

    def measure(self, live: str, candidate: str, trials: Trials) -> Comparison:
        """The gain on ``test``, all of it, once."""
        ...

    def score(self, trials: Mapping[str, list[Trial]]) -> tuple[float, float, float] | None:
        """Mean score with its 90 % interval; ``None`` when nothing could be scored."""
        ...


@dataclass(frozen=True)
class Finished:
    """How a command ended in a sandbox."""

    exit_code: int
    """Negative: the signal that killed it."""
    output: str
    """Both streams, as they came; the middle left out where it is too long."""
    ended: Literal["exit", "timeout", "cpu", "memory", "output", "processes"] = "exit"
    """The others are limits that it was killed at, with all that it had started."""
    seconds: float = 0.0
    peak_memory: int = 0
    """Bytes, of the largest process; 0: not measured."""
    left_out: int = 0
    """Bytes of the output's middle that are not in it."""


class Box(Protocol):
    """An opened sandbox: a folder, and commands that see little else."""

    def run(
        self,
        command: Sequence[str],
        *,
        seconds: float | None = None,
        environment: Mapping[str, str] | None = None,
        fixed: Sequence[str] = (),
    ) -> Finished:
        """Run *command* in the folder; for so many seconds at most, else the sandbox's own limit.

        *fixed*: files and folders of the folder that it cannot change, delete or put others in the place of.

        Raises:
            FileNotFoundError: there is no such program.
        """
        ...

    def read(self, path: str) -> str:
        """The text of a file, named from the folder. Raises ``ValueError`` for a path that leads out of it."""
        ...

    def write(self, path: str, text: str) -> None: ...


@runtime_checkable
class Sandbox(Protocol):
    def open(self, folder: Path | None = None) -> AbstractContextManager[Box]:
        """Open it on *folder*, which stays; without one on a temporary folder, which does not."""
        ...
