"""A run, made again from its journal line by line: what each line says, against what stands before it."""

import dataclasses
import hashlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, TypeVar, cast

from pydantic_core import to_jsonable_python

from harness import attack
from harness.certify import does_harm, halves, kept_changes, lost, read_guards, read_verdict
from harness.check import (
    HALF,
    Examination,
    accepted,
    chosen_of,
    clusters_in,
    failure_score,
    is_ungraded,
    noise_of,
    scores,
    tasks_in,
)
from harness.errors import UserError
from harness.evidence import unfounded
from harness.experiment import Experiment
from harness.gate import PairedGate, decide
from harness.gate.metric import MetricGate
from harness.ledger import Ledger, above, is_done_with
from harness.loop import may_certify, tried_in
from harness.protocols import Gate, History
from harness.trials import DurableTrials, seed_of
from harness.versions import Subject
from traces import otel
from traces.journal import Line
from traces.records import (
    Certification,
    Check,
    Comparison,
    Completion,
    Decision,
    GateSpec,
    Guards,
    Intent,
    Proposal,
    Record,
    Removal,
    Review,
    Round,
    Run,
    Session,
    Span,
    Split,
    SplitResult,
    SplitTest,
    State,
    Stop,
    Summary,
    Task,
    Text,
    ToolCall,
    ToolResult,
    Trial,
    Turn,
    Usage,
)

R = TypeVar("R", bound=Record)

TOLERANCE = 1e-12
"""Relative, and absolute below 1: what another order of additions may change."""

GATES: Mapping[str, type[Gate]] = {gate.__name__: gate for gate in (PairedGate, MetricGate)}
"""The gates whose decisions can be replayed."""

ENDED = "the budget ended it: "
"""How the detail of a certification begins that the budget cut short."""

BY_HAND, COMPARE_ALPHA = "compare/train", 0.05
"""The scope of a comparison by hand, and its level where no specification says it."""

LOOKED_FOR = ("disk", "environment", "parent")
"""Cheats that are no outputs, so no trials."""

NOT_OF_A_CHECK = (
    "of a check, only what follows from its trials can be found again: twins, leaks, what is in reach of a version and "
    "what a night will prove and cost are taken as they stand"
)

NONSENSE = (ValueError, LookupError, ArithmeticError, AssertionError, UserError)
"""What a gate raises on records that no run could have written."""


# ── what differs ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Difference:
    """Something that does not follow from what stands before it."""

    journal: str
    """The name of its file."""
    line: int
    """From 1."""
    key: str | None
    what: str
    recorded: object = None
    """As JSON has it, as is what follows."""
    recomputed: object = None

    def __str__(self) -> str:
        where = f"{self.journal} line {self.line}" + (f" ({self.key})" if self.key else "")
        if self.recorded is None and self.recomputed is None:
            return f"{where}: {self.what}"
        return f"{where}: {self.what} is {shown(self.recorded)}, and {shown(self.recomputed)} was expected"


def differing(recorded: object, recomputed: object, name: str = "") -> Iterator[tuple[str, object, object]]:
    """The parts that are not the same, by name; numbers to ``TOLERANCE``."""
    match recorded, recomputed:
        case Record(), Record() if type(recorded) is type(recomputed):
            for field_name in type(recorded).model_fields:
                yield from differing(
                    getattr(recorded, field_name), getattr(recomputed, field_name), f"{name}.{field_name}".lstrip(".")
                )
        case tuple(), tuple() if len(recorded) == len(recomputed):  # pyright: ignore[reportUnknownArgumentType]
            for i, (a, b) in enumerate(zip(recorded, recomputed, strict=True)):  # pyright: ignore
                yield from differing(a, b, f"{name}[{i}]")
        case (float(), float() | int()) | (int(), float()):
            if not math.isclose(recorded, recomputed, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
                yield name, recorded, recomputed
        case _:
            if recorded != recomputed:
                yield name, recorded, recomputed


def shown(value: object) -> str:
    text = str(value) if isinstance(value, str | float | int) or value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


# ── trials that were recorded ──────────────────────────────────────────────────────────────────────────────────────


class Missing(Exception):
    """A step that something rests on is not there."""

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} is missing")


class Declared(Exception):
    """A test declares itself."""

    def __init__(self, spec: Record) -> None:
        super().__init__()
        self.spec = spec


@dataclass(frozen=True)
class Past:
    """Stands in for the ledger: holds steps that were made, and makes none."""

    run: Run
    steps: Mapping[str, Record]
    attempts: Mapping[str, int] = field(default_factory=dict[str, int])

    def attempt(self, key: str) -> int:
        return self.attempts.get(key, 1)

    def recall(self, key: str) -> Record | None:
        return self.steps.get(key)

    def step(self, key: str, make: Callable[[], Record], *, durable: bool = False) -> Record:
        kept = self.steps.get(key)
        if kept is None:
            raise Missing(key)
        return kept

    def check_clock(self) -> None:
        """The past takes no time."""


class Declaring(Past):
    """Stops a test where it declares itself."""

    def step(self, key: str, make: Callable[[], Record], *, durable: bool = False) -> Record:
        if key.endswith("/spec"):
            raise Declared(make())
        return super().step(key, make, durable=durable)


@dataclass(frozen=True)
class RecordedTasks:
    """Stands in for the experiment."""

    tasks: Sequence[Task]
    gate: Gate | None = None
    runner: object = None
    grader: None = None

    def split(self, split: Split) -> list[Task]:
        return [task for task in self.tasks if task.split == split]


class NoText:
    """Stands in for the subject: what a version says is not in its journal."""

    def text(self, version: str) -> Mapping[str, str]:
        return {}


class NothingForSale:
    """Stands in for the executor that trials are bought on."""

    def submit(self, step: object, name: str, which: str, *_: object) -> NoReturn:
        raise Missing(name + which)


# ── the run ────────────────────────────────────────────────────────────────────────────────────────────────────────


OF_A_SESSION = (Turn, ToolCall, ToolResult, Text, State, Review, Summary, Completion)
"""What a trial keeps of its sessions: nothing is decided by it but how the trial went on."""


@dataclass
class Spent:
    """What the spans of a trial in progress say."""

    usage: Usage = field(default_factory=Usage)
    given_up: Usage = field(default_factory=Usage)
    """Of its calls that nobody waited for; not of those that a process took with it when it died."""
    grade: Mapping[str, Any] | None = None
    """Attributes of the span of its grade."""


@dataclass
class Replay:
    """A run as its journal has it up to some line; the fields are what a process that resumes it there would know."""

    journal: str
    tests: Mapping[str, SplitTest]
    """In the ledger of the splits, by certification."""
    results: Mapping[str, SplitResult]
    run: Run | None = None
    gate: Gate | None = None
    not_replayed: str = "the journal does not begin with its run"
    tasks: dict[str, Task] = field(default_factory=dict[str, Task])
    steps: dict[str, Record] = field(default_factory=dict[str, Record])
    """By key, as ``Ledger`` keeps them."""
    rounds: list[Round] = field(default_factory=list[Round])
    working: str = ""
    usage: Usage = field(default_factory=Usage)
    trials: int = 0
    lately: list[tuple[Usage, int]] = field(default_factory=list[tuple[Usage, int]])
    """What was spent, after each line since the last step that was no trial."""
    certification: Certification | None = None
    """The one since the last round."""
    calls: dict[str, Intent] = field(default_factory=dict[str, Intent])
    """Announced and not ended, by the id of their span."""
    spent: dict[str, Spent] = field(default_factory=dict[str, Spent])
    """By trial in progress."""
    has_steps: set[str] = field(default_factory=set[str])
    """Keys under which a session has kept turns or results; of trials under way, and of what they are a part of."""
    taken_up: set[str] = field(default_factory=set[str])
    """Those of them that another process went on with than the one that began them."""
    certified: set[str] = field(default_factory=set[str])
    """Ids of the certifications."""
    attempts: dict[str, int] = field(default_factory=dict[str, int])
    """Step → how often it was begun."""
    ids: set[str] = field(default_factory=set[str])
    declared: dict[str, tuple[int, dict[str, Record]]] = field(default_factory=dict[str, tuple[int, dict[str, Record]]])
    """Scope → the line in which its test was declared, and the steps before it."""
    counts: Counter[str] = field(default_factory=Counter[str])
    differences: list[Difference] = field(default_factory=list[Difference])

    def say(self, line: int, key: str | None, what: str, recorded: object = None, recomputed: object = None) -> None:
        plain = (to_jsonable_python(recorded), to_jsonable_python(recomputed))
        self.differences.append(Difference(f"{self.journal}.jsonl", line, key, what, *plain))

    def same(self, line: int, key: str | None, recorded: object, recomputed: object, name: str = "") -> None:
        for what, a, b in differing(recorded, recomputed, name):
            self.say(line, key, what, a, b)

    def take(self, number: int, line: Line, record: Record) -> None:
        """Check the next line, and take it in."""
        key = line.key
        if self.run is None and not isinstance(record, Run):
            self.say(number, key, self.not_replayed)
            return
        if self.run is not None:
            self.same(number, key, getattr(record, "run", None) or self.run.id, self.run.id, "run")
        match record:
            case Run():
                self.begin(number, record)
            case Session():
                self.forget_lost_baselines()
            case Task():
                self.tasks[record.id] = record
            case Text():
                self.same(number, key, record.hash, hashlib.sha256(record.text.encode()).hexdigest(), "hash")
            case Intent(kind="call"):
                self.calls[record.step] = record
            case Intent():
                self.attempts[record.step] = record.attempt
                if record.attempt > 1 and record.step in self.has_steps:
                    self.taken_up.add(record.step)
            case Span():
                self.take_span(number, record)
            case _ if key is not None:
                self.take_step(number, key, record)
            case _:
                pass

    def begin(self, number: int, run: Run) -> None:
        if self.run is not None:
            self.say(number, None, "a second run begins")
            return
        self.run, self.working = run, run.live
        self.same(number, None, run.id, self.journal, "id")
        self.gate, self.not_replayed = gate_of(run)

    def forget_lost_baselines(self) -> None:
        """As ``Ledger`` does when a process takes the run up: what met trouble on ``train`` is measured again."""
        lost: dict[tuple[str, str, int], list[str]] = {}
        for key, trial in self.steps.items():
            if isinstance(trial, Trial) and key.startswith("train/"):
                run = (trial.version, trial.task, trial.repeat)
                if trial.is_lost:
                    lost.setdefault(run, []).append(key)
                else:
                    lost.pop(run, None)  # a later attempt went well
        for key in itertools.chain.from_iterable(lost.values()):
            del self.steps[key]

    def slim(self, scope: str) -> None:
        """Trials that hardly anybody will ask for again need no outputs: no gate reads them."""
        for key, step in self.steps.items():
            if key.startswith(scope) and isinstance(step, Trial):
                self.steps[key] = step.model_copy(update={"output": None})

    def take_span(self, number: int, span: Span) -> None:
        """What was charged had been announced; a call whose end was never seen is charged as announced."""
        call = self.calls.pop(span.id, None)
        if call is None and span.usage.calls:
            self.say(number, None, f"the call {span.id} was charged, and never announced")
        elif call is not None and span.status == "interrupted":
            self.same(number, None, span.usage, call.estimate.model_copy(update={"calls": 1}), "usage")
        self.usage += span.usage
        self.lately.append((self.usage, self.trials))
        if span.trial is None:
            return
        spent = self.spent.setdefault(span.trial, Spent())
        if span.status == "interrupted":
            spent.given_up += span.usage
            return
        spent.usage += span.usage
        if span.operation == "grade" and span.id.startswith(f"{span.trial}/grade/"):
            spent.grade = span.attributes

    def take_step(self, number: int, key: str, record: Record) -> None:
        """Check a step against those before it, and keep it as ``Ledger`` does."""
        if not self.counts:
            self.check_tasks(number)
        if isinstance(record, OF_A_SESSION):
            self.has_steps.update(above(key))
            return
        if not isinstance(record, Trial):
            if key in self.steps:
                self.say(number, key, "the step was there already")
                return
            parents = [key[:i] for i, letter in enumerate(key) if letter == "/"]
            if ended := [parent for parent in parents if parent in self.steps]:
                self.say(number, key, f"it comes after {ended[0]}, which it is a part of, had ended")
                return
        match record:
            case Trial():
                self.check_trial(number, key, record)
            case GateSpec():
                self.declared[key.removesuffix("/spec")] = (number, dict(self.steps))
            case Decision():
                self.check_decision(number, key, record)
            case Comparison():
                self.check_comparison(number, key, record)
            case Guards():
                self.check_guards(number, key, record)
            case Certification():
                self.check_certification(number, key, record)
            case Round():
                self.check_round(number, key, record)
            case Check():
                self.check_check(number, key, record)
            case _:
                pass
        self.counts[type(record).__name__] += 1
        if isinstance(record, Trial):
            self.trials += 1
            self.lately.append((self.usage, self.trials))
        else:
            for below in [k for k in self.steps if k.startswith(f"{key}/")]:
                del self.steps[below]
            self.lately.clear()
        self.steps[key] = record
        if isinstance(record, Round) and is_done_with(record):
            self.slim(f"train/{record.candidate}/")
        if not isinstance(record, Trial | GateSpec):
            self.declared.pop(key.rpartition("/")[0] or BY_HAND, None)

    def check_tasks(self, number: int) -> None:
        """All tasks are there before the first step."""
        assert self.run is not None
        if not self.tasks:
            self.gate, self.not_replayed = None, "the run was recorded before tasks were: it cannot be replayed"
            return
        found = Counter(task.split for task in self.tasks.values())
        for split, size in self.run.tasks.items():
            self.same(number, None, found[cast(Split, split)], size, f"tasks in {split}")

    # ── a trial ────────────────────────────────────────────────────────────────────────────────────────────────────

    def check_trial(self, number: int, key: str, trial: Trial) -> None:
        """Its id, its chances, its task, its grade and its charges, each against where else they stand."""
        assert self.run is not None
        id = f"{self.run.id}/{key}" if trial.attempt == 1 else f"{self.run.id}/{key}#{trial.attempt}"
        self.same(number, key, trial.id, id, "id")
        if not key.startswith("train/"):  # where any round may buy
            self.same(number, key, trial.round, round_of(key), "round")
        if trial.id in self.ids:
            self.say(number, key, "a trial with this id was there already")
        self.ids.add(trial.id)
        draw = f"/{trial.version}/{trial.task}/{trial.repeat}"
        scope, found, rest = key.partition(draw)
        if not found or not (rest == "" or rest.startswith("/")):
            self.say(number, key, "its key is not that of its version, task and repeat", key, f"…{draw}")
        else:
            seed = seed_of(self.run.experiment, self.run.seed, f"{scope}{draw}")
            self.same(number, key, trial.seed, seed, "seed")
        task = self.tasks.get(trial.task)
        if task is None:
            if self.tasks:
                self.say(number, key, f"there is no task {trial.task!r}")
        else:
            about = (trial.split, trial.tags, trial.cluster)
            for name, a, b in zip(
                ("split", "tags", "cluster"), about, (task.split, task.tags, task.cluster), strict=True
            ):
                self.same(number, key, a, b, name)
        spent = self.spent.pop(trial.id, Spent())
        spent.usage += spent.given_up
        if key in self.taken_up:  # by another process than the one that began it: what that had spent is the trial's
            first = f"{self.run.id}/{key}"
            for id in [id for id in self.spent if id == first or id.startswith(f"{first}#")]:
                spent.usage += self.spent.pop(id).usage
        self.taken_up.discard(key)
        self.has_steps.discard(key)
        if spent.grade is not None:
            score, reason = (trial.grade.score, trial.grade.reason) if trial.grade else (None, None)
            self.same(number, key, score, spent.grade.get(otel.SCORE), "grade.score")
            self.same(number, key, reason, spent.grade.get(otel.EXPLANATION), "grade.reason")
        elif trial.grade is not None:
            self.say(number, key, "it has a grade, and no span says that it was graded")
        calls = min(trial.usage.calls, spent.usage.calls)  # one that broke before it was counted is counted in its span
        self.same(number, key, trial.usage, spent.usage.model_copy(update={"calls": calls}), "usage")

    # ── decisions ──────────────────────────────────────────────────────────────────────────────────────────────────

    def scope(self, scope: str, steps: Mapping[str, Record], past: "type[Past] | None" = None) -> DurableTrials:
        """The trials of a scope as *steps* have them."""
        assert self.run is not None
        return DurableTrials(
            self.experiment,
            cast(Ledger, (past or Past)(self.run, steps, self.attempts)),
            lambda version: {},
            cast(Executor, NothingForSale()),
            scope,
            round_of(scope),
        )

    def again(self, number: int, key: str, make: Callable[[DurableTrials], R], scope: str) -> R | None:
        """What *make* makes of the trials in *scope*."""
        try:
            return make(self.scope(scope, self.steps))
        except Missing as e:
            self.say(number, key, f"it rests on a step that is not there: {e}")
        except NONSENSE as e:
            self.say(number, key, f"it cannot be made again: {e}")
        return None

    def declared_again(self, number: int, key: str, make: Callable[[DurableTrials], object], scope: str) -> None:
        """Whether the test that *make* makes declares again what it did, from the steps that were there then."""
        if scope not in self.declared:
            return
        at, then = self.declared[scope]
        try:
            make(self.scope(scope, then, Declaring))
        except Declared as e:
            self.same(at, f"{scope}/spec", self.steps.get(f"{scope}/spec"), e.spec)
        except Missing as e:
            self.say(number, key, f"its test rests on a step that is not there: {e}")
        except NONSENSE as e:
            self.say(number, key, f"its test cannot be declared again: {e}")

    def check_decision(self, number: int, key: str, decision: Decision) -> None:
        """A proposal's; the decision that there was none has a key of its own."""
        scope, _, name = key.rpartition("/")
        comparison = decision.comparison
        if comparison is not None:
            self.counts["compared"] += 1
            self.check_verdict(number, key, comparison, "comparison")
        if name != "decision" or self.gate is None:
            return
        self.check_citations(number, key, decision, self.steps.get(f"{scope}/proposal"))
        if decision.because == "unfounded":
            return
        gate, rounds = self.gate, tuple(self.rounds)
        candidate = comparison.candidate if comparison else ""

        def keep(trials: DurableTrials, is_shorter: bool) -> Decision:
            return gate.keep(self.working, candidate, trials, is_shorter=is_shorter, rounds=rounds)

        spec = comparison.spec if comparison else None
        outcomes: list[list[Difference]] = []
        before = self.differences
        for is_shorter in (spec.margin > 0,) if spec else (False, True):
            self.differences = []
            make = partial(keep, is_shorter=is_shorter)
            self.declared_again(number, key, make, scope)
            made = self.again(number, key, make, scope)
            if made is not None:
                self.same(number, key, decision, made)
            outcomes.append(self.differences)
        self.differences = before + min(outcomes, key=len)

    def check_citations(self, number: int, key: str, decision: Decision, answer: Record | None) -> None:
        """Does the proposal quote what is there? What it quotes from spans cannot be looked up: they are not kept."""
        if not isinstance(answer, Proposal) or any(cited.span for cited in answer.citations):
            return
        trials = [t for t in self.steps.values() if isinstance(t, Trial) and t.split == "train"]
        faults = unfounded(answer.citations, History(run="", tasks={}, trials=trials)) if answer.citations else []
        if bool(faults) != (decision.because == "unfounded"):
            self.say(number, key, "; ".join(faults) or "it was refused for what it quotes, and that is there")

    def check_comparison(self, number: int, key: str, comparison: Comparison) -> None:
        assert self.run is not None
        self.check_verdict(number, key, comparison, "")
        gate = self.gate
        if gate is None:
            return
        scope, _, name = key.rpartition("/")
        live, candidate = self.run.live, comparison.candidate

        match name:
            case "validation":
                make = partial(gate.prove, live, candidate, alpha=self.alpha_of(scope, comparison))
            case "test":
                make = partial(gate.measure, live, candidate)
            case "harm":
                make = partial(gate.harm, self.at_work(), candidate)
            case "compare":
                alpha = comparison.spec.alpha if comparison.spec else COMPARE_ALPHA
                scope, make = BY_HAND, partial(gate.prove, live, candidate, alpha=alpha, split=comparison.split)
            case _:
                return
        self.declared_again(number, key, make, scope)
        made = self.again(number, key, make, scope)
        if made is not None:
            self.same(number, key, comparison, made)

    @property
    def has_hidden(self) -> bool:
        return any(task.split == "validation" for task in self.tasks.values())

    def alpha_of(self, certification: str, comparison: Comparison) -> float:
        """What the promotion test with this key may spend; as declared, where the ledger of the split does not know it,
        which its certification says."""
        assert self.run is not None
        assert self.gate is not None
        test = self.tests.get(f"{self.run.id}/{certification}")
        if test is not None:
            return test.alpha
        return comparison.spec.alpha if self.has_hidden and comparison.spec else self.gate.alpha

    def at_work(self) -> str:
        """The working version, the round in progress included."""
        decision = self.steps.get(f"round/{len(self.rounds)}/decision")
        if isinstance(decision, Decision) and decision.verdict == "keep" and decision.comparison is not None:
            return decision.comparison.candidate
        return self.working

    def check_guards(self, number: int, key: str, guards: Guards) -> None:
        assert self.run is not None
        gate, live, scope = self.gate, self.run.live, key.rpartition("/")[0]
        validation = self.steps.get(f"{scope}/validation")
        if gate is None:
            return
        if not isinstance(validation, Comparison):
            self.say(number, key, f"it rests on a step that is not there: {scope}/validation is missing")
            return

        def make(trials: DurableTrials) -> Guards:
            return gate.guard(live, validation.candidate, trials, self.scope(f"{scope}/again", self.steps), validation)

        made = self.again(number, key, make, scope)
        if made is not None:
            self.same(number, key, guards, made)

    def check_verdict(self, number: int, key: str, comparison: Comparison, name: str) -> None:
        """The verdict follows from the differences alone; and the specification is the one that was declared."""
        spec, verdict = comparison.spec, comparison.verdict
        if spec is None or verdict is None:
            return
        try:
            expected = decide(comparison.differences, spec)
        except ValueError as e:
            self.say(number, key, f"it cannot be decided again: {e}")
            return
        if expected.verdict == "continue" and (comparison.errors or comparison.drift):
            expected = expected.model_copy(update={"verdict": "undecided"})
        self.same(number, key, verdict, expected, f"{name}.verdict".lstrip("."))
        declared = self.steps.get(f"{key.rpartition('/')[0] or BY_HAND}/spec")
        if isinstance(declared, GateSpec):
            self.same(number, key, spec, declared, f"{name}.spec".lstrip("."))
        elif key.endswith(("/decision", "/validation", "/harm")):
            self.say(number, key, "the test was not declared before its first difference")

    # ── a check ────────────────────────────────────────────────────────────────────────────────────────────────────

    def check_check(self, number: int, key: str, check: Check) -> None:
        """All that follows from its trials: the noise, the live version against itself, and what the grader rewards.

        How many tasks were looked at is seen from the trials; where a check that was cut off left others, what fits
        best.
        """
        assert self.run is not None
        self.check_verdict(number, key, check.a_a, "a_a")
        if self.gate is None:
            return
        self.not_replayed = NOT_OF_A_CHECK
        order = {task.id: at for at, task in enumerate(tasks_in(chosen_of(self.experiment, len(self.tasks))), 1)}
        tried: dict[str, int] = {}
        for at, trial in self.steps.items():
            if isinstance(trial, Trial) and re.match("check/(again|right|wrong|attack)/", at):
                tried[trial.version] = max(tried.get(trial.version, 0), order.get(trial.task, 0))
        scopes = sorted({found[0] for at in self.steps if (found := re.match(r"check/a-a-\d+(?=/)", at))})
        outcomes: list[list[Difference]] = []
        before = self.differences
        for scope, size in itertools.product(scopes, sorted({*tried.values()})):
            self.differences = []
            make = partial(self.examined, check, key, int(scope.rpartition("-")[2]), size)
            self.declared_again(number, key, make, scope)
            made = self.again(number, key, make, scope)
            if made is not None:
                self.same(number, key, check, made)
            outcomes.append(self.differences)
        self.differences = before
        if outcomes:
            self.differences += min(outcomes, key=len)
        else:
            self.say(number, key, "it rests on trials that are not there")

    @property
    def experiment(self) -> Experiment:
        """What the journal knows of it."""
        return cast(Experiment, RecordedTasks([*self.tasks.values()], self.gate))

    def examined(self, check: Check, key: str, clusters: int, limit: int, trials: DurableTrials) -> Check:
        """*check* as it follows from its trials; the rest as it stands."""
        assert self.run is not None
        assert self.gate is not None
        subject, executor = cast(Subject, NoText()), cast(Executor, NothingForSale())
        examination = Examination(self.experiment, trials.ledger, subject, executor, clusters, limit, (), 0.0)
        chosen = chosen_of(self.experiment, clusters)
        sample = tasks_in(chosen)[:limit]
        a_a, twice = examination.against_itself(chosen)
        noise = noise_of(chosen, twice, failure_score(self.gate))
        own = [trial for runs in twice.values() for trial in runs]
        again = examination.regraded(sample, twice)
        true, false = (
            examination.said(name, sample, outputs)
            for name, outputs in zip(("right", "wrong"), attack.right_and_wrong(sample, seed=0), strict=True)
        )
        known = [*true.values()]
        now = (self.usage, self.trials)
        spent = next((then for then in (now, *self.lately) if then == (check.usage, check.trials)), now)
        return check.model_copy(
            update={
                "id": f"{self.run.id}/{key}",
                "experiment": self.run.experiment,
                "live": self.run.live,
                "fingerprint": self.run.fingerprint,
                "noise": noise.model_copy(update={"churn": check.noise.churn}),
                "a_a": a_a,
                "regraded": len(again),
                "regraded_differently": sum(then != later for then, later in again),
                "right_answers": len(scores(known)),
                "right_refused": sum(score < HALF for score in scores(known)),
                "right_ungraded": sum(map(is_ungraded, known)),
                "wrong_answers": len(scores(false.values())),
                "wrong_accepted": accepted(false, true, self.gate.floor),
                "runs": len(own),
                "runs_ungraded": sum(map(is_ungraded, own)),
                "holes": (*examination.rewarded(sample), *(h for h in check.holes if h.cheat in LOOKED_FOR)),
                "validation": clusters_in(task for task in self.tasks.values() if task.split == "validation"),
                "usage": spent[0],
                "trials": spent[1],
            }
        )

    # ── promotion tests ────────────────────────────────────────────────────────────────────────────────────────────

    def check_certification(self, number: int, key: str, certification: Certification) -> None:
        assert self.run is not None
        self.certification = certification
        self.certified.add(certification.id)
        validation, guards, measured = (self.steps.get(f"{key}/{part}") for part in ("validation", "guards", "test"))
        verdict, detail, is_whole = "undecided", "", False
        if isinstance(validation, Comparison):
            verdict, detail = read_verdict(validation)
            is_whole = verdict != "accept"
            if not is_whole:
                verdict, detail = read_guards(guards) if isinstance(guards, Guards) else ("hold", "")
                is_whole = guards is not None and (verdict != "accept" or measured is not None)
                verdict = verdict if is_whole else "hold"
        if not is_whole:
            detail = certification.detail if certification.detail.startswith(ENDED) else ENDED
        test, result = self.tests.get(certification.id), self.results.get(certification.id)
        alpha, test_number = (test.alpha, test.number) if test else (None, None)
        if not self.has_hidden:
            alpha = self.gate.alpha if self.gate else certification.alpha
        elif test is None and not (certification.verdict == "blocked" and validation is None):
            self.say(number, key, "the ledger of the split has no test of it")
            alpha, test_number = certification.alpha, certification.test_number
        elif test is None:
            verdict, detail = "blocked", certification.detail
        elif result is None:
            self.say(number, key, "the ledger of the split has no result of it")
        else:
            self.same(number, key, result.verdict, certification.verdict, "verdict in the ledger of the split")
        if test is not None and self.gate is not None:
            declared = (self.gate.alpha, self.gate.horizon)
            self.same(number, key, (test.budget, test.horizon), declared, "budget and horizon of the split")
        expected = certification.model_copy(
            update={
                "id": f"{self.run.id}/{key}",
                "run": self.run.id,
                "live": self.run.live,
                "candidate": self.at_work(),
                "verdict": verdict,
                "alpha": alpha,
                "test_number": test_number,
                "validation": validation,
                "guards": guards.found if isinstance(guards, Guards) else (),
                "measured": measured,
                "detail": detail,
            }
        )
        self.same(number, key, certification, expected)
        named = f"certify/{certification.checkpoint}-{certification.candidate[:12]}"
        self.same(number, key, key, named, "key")

    # ── a round ────────────────────────────────────────────────────────────────────────────────────────────────────

    def check_round(self, number: int, key: str, round: Round) -> None:
        """Each field against the steps of the round."""
        assert self.run is not None
        base = f"round/{len(self.rounds)}"
        answer, decision = self.steps.get(f"{base}/proposal"), self.steps.get(f"{base}/decision")
        expected: dict[str, object] = {
            "run": self.run.id,
            "number": len(self.rounds),
            "incumbent": self.working,
            "certification": self.certification,
        }
        if key == "end":
            stop = self.steps.get("stop")
            last = self.rounds[-1] if self.rounds else None
            expected |= {
                "decision": None,
                "candidate": None,
                "working": self.working,
                "score": last.score if last else None,
                "score_low": last.score_low if last else None,
                "score_high": last.score_high if last else None,
                "stop": stop.reason if isinstance(stop, Stop) else None,
                "detail": self.about_the_end(round, stop) if isinstance(stop, Stop) else "",
            }
        else:
            self.same(number, key, key, base, "key")
            expected |= {
                "proposal": answer if isinstance(answer, Proposal) else None,
                "stop": None,
                "detail": "",
                "decision": decision or (answer if isinstance(answer, Decision) else round.decision),
                **self.scores(number, key, round),
            }
            if isinstance(decision, Decision) and decision.comparison is not None:
                expected["candidate"] = decision.comparison.candidate
            elif decision is None and round.number > 0:
                self.check_refusal(number, key, round, answer)
        made = round.model_copy(update=expected)
        if key != "end":
            made = self.apart(made)
        self.same(number, key, round, made)
        self.check_spent(number, key, round)
        self.rounds.append(round)
        self.working = round.working
        self.certification = None

    def about_the_end(self, round: Round, stop: Stop) -> str:
        """What the last round says: why the run ended, and where that is so, that nothing could be certified."""
        if round.certification is not None or not may_certify(stop, self.rounds):
            return stop.detail
        assert self.run is not None
        said = re.match(r"; too little was left .*take ([\d,]+) trials$", round.detail.removeprefix(stop.detail))
        most = said[1] if said else ""
        if self.gate is not None:
            most = f"{2 * (self.gate.cost(cast(Any, self.run.tasks)) // 2):,}"
        too_little = f"{stop.detail}; too little was left for the promotion test, which may take {most} trials"
        return too_little if round.detail == too_little else stop.detail

    def scores(self, number: int, key: str, round: Round) -> dict[str, object]:
        """The score of the version that *round* ends with; none where the budget did not last to measure it."""
        if self.gate is None:
            return {}
        names = ("score", "score_low", "score_high")
        trials = self.scope(f"round/{round.number}", self.steps)
        try:
            found = self.gate.score(trials.baseline(round.working, self.gate.repeats))
        except Missing as e:
            if round.score is not None:
                self.say(number, key, f"its score rests on a step that is not there: {e}")
            found = None
        except NONSENSE as e:
            self.say(number, key, f"its score cannot be made again: {e}")
            return {}
        return dict(zip(names, found or (None, None, None), strict=True))

    def check_refusal(self, number: int, key: str, round: Round, answer: Record | None) -> None:
        """A proposal that no trial was bought for."""
        assert self.run is not None
        found = round.decision
        if isinstance(answer, Decision) and found is not None:
            return
        tried = tried_in(self.run, self.rounds)
        match found:
            case Decision(verdict="discard", because="invalid", comparison=None):
                pass
            case Decision(verdict="discard", because="not-a-candidate", comparison=None):
                pass
            case Decision(verdict="discard", because="already-tried", comparison=None) if (
                round.candidate in tried or round.identity in tried or found.detail.endswith("the live version")
            ):
                pass
            case _:
                self.say(number, key, "nothing led to its decision: it has no step of its own")

    def apart(self, round: Round) -> Round:
        """*round* with the working version that follows from its decision, and with what was found out about its stack.

        Which version is left without several changes, git alone can tell.
        """
        keeps = round.decision is not None and round.decision.verdict == "keep"
        working = round.candidate if keeps and round.candidate else self.working
        c = round.certification
        if c is None or not lost(c) or not round.removals:
            return round.model_copy(update={"working": working, "removals": ()})
        named = {number for removal in round.removals for number in removal.rounds}  # the text tells which count
        for at in self.steps:
            if found := re.match(rf"round/{round.number}/apart/(\d+)-(\d+)/harm$", at):
                named |= {int(found[1]), int(found[2])}
        stack = kept_changes([*self.rounds, round.model_copy(update={"removals": ()})])
        stack = [change for change in stack if change.number in named]
        found = [removal for half in halves(stack) for removal in self.search(round.number, half)]
        is_stuck = not any(removal.verdict == "drop" for removal in round.removals)
        if is_stuck:
            found = [r.model_copy(update={"verdict": "stuck"}) if r.verdict == "drop" else r for r in found]
        dropped = [removal.comparison for removal in found if removal.verdict == "drop"]
        if len(dropped) == 1 and dropped[0] is not None:
            working = dropped[0].candidate
        elif dropped:
            working = round.working
        return round.model_copy(update={"working": working, "removals": tuple(found)})

    def search(self, number: int, changes: Sequence[Round]) -> list[Removal]:
        """What ``Night.search`` says, from its comparisons."""
        numbers = tuple(change.number for change in changes)
        comparison = self.steps.get(f"round/{number}/apart/{numbers[0]}-{numbers[-1]}/harm")
        found = comparison if isinstance(comparison, Comparison) else None
        if found is not None and not does_harm(found):
            return [Removal(rounds=numbers, verdict="stay", comparison=found)]
        if len(changes) > 1:
            return [removal for half in halves(changes) for removal in self.search(number, half)]
        return [Removal(rounds=numbers, verdict="drop" if found else "stuck", comparison=found)]

    def check_spent(self, number: int, key: str, round: Round) -> None:
        """What the run had spent, exactly; where the budget ended something, trials under way may have ended since."""
        now = (self.usage, self.trials)
        c = round.certification
        was_ended = key == "end" or (c is not None and c.detail.startswith(ENDED))
        possible = [now, *self.lately] if was_ended else [now]
        if not any(not [*differing((round.usage, round.trials), then)] for then in possible):
            self.same(number, key, (round.usage, round.trials), now, "spent")


def round_of(key: str) -> int | None:
    """The number of the round that a step belongs to."""
    parts = key.split("/")
    return int(parts[1]) if parts[0] == "round" and len(parts) > 1 and parts[1].isdecimal() else None


def gate_of(run: Run) -> tuple[Gate | None, str]:
    """The gate that a run recorded, or why it cannot be made again."""
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in run.gate.items()}  # pyright: ignore
    name = settings.pop("name", None)
    kind = GATES.get(str(name))
    if name is None:
        return None, "the run was recorded before gates were: its decisions cannot be replayed"
    if kind is None:
        return None, f"the gate {name!r} is not one of {', '.join(GATES)}: its decisions cannot be replayed"
    known = {f.name for f in dataclasses.fields(cast(Any, kind))}
    if settings.keys() != known:
        other = ", ".join(sorted(settings.keys() ^ known))
        return None, f"{name} has other settings here than it had then ({other}): its decisions cannot be replayed"
    try:
        return kind(**settings), ""
    except (ValueError, TypeError) as e:
        return None, f"{name} with the recorded settings cannot be made: {e}"
