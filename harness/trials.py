"""Trials: one attempt at one task by one version, bought durably, both arms interleaved."""

import hashlib
import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Executor, Future, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, cast

from harness.agent.inbox import escalation, notify
from harness.errors import BudgetSpent, TrialError, UserError, boundary
from harness.experiment import Experiment, digest
from harness.ledger import Ledger, work_folder
from harness.meter import Steps, Under, metered, placed
from harness.protocols import Conditions, Outcome
from harness.redact import redacted
from harness.sandboxes.folder import remove
from traces import otel
from traces.journal import clean_text
from traces.records import GateSpec, Grade, Refresh, Run, Span, Split, Task, Text, Trial, Usage, now

POLL = 0.25
"""Seconds between two looks at the stop button while trials are under way."""
RETRIES = 2
"""How often a task is attempted again, both arms together, after an infrastructure error."""
HOPELESS = frozenset({"auth", "quota", "not_found"})
"""Model errors that every further call would meet."""


GRADED = frozenset({"done", "unsatisfied"})
"""Ends after which there is an output to grade; after any other the trial failed, whatever it leaves behind."""


def seed_of(*parts: object) -> int:
    """A seed in [0, 2³¹) that depends on *parts* alone, so that a resumed run draws the same chances."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "big") >> 1


@dataclass(frozen=True)
class TrialMeter:
    """Charges a trial's calls to the run and adds them up for the trial."""

    ledger: Ledger
    key: str
    """Of the step in progress: the trial's, or the proposal's."""
    trial: str | None = None
    again: str = ""
    """The end of the key that tells attempts after an infrastructure error apart: effects are theirs together."""
    spans: list[Span] = field(default_factory=list[Span])

    @property
    def run(self) -> Run:
        return self.ledger.run

    @property
    def directory(self) -> Path:
        return self.ledger.directory

    @property
    def folder(self) -> Path:
        return work_folder(self.ledger.directory, self.ledger.run.id) / digest(self.key)

    @property
    def spare(self) -> Path:
        return work_folder(self.ledger.directory, self.ledger.run.id) / "spare"

    @property
    def steps(self) -> Steps:
        return Under(self.ledger, self.key)

    @property
    def wish(self) -> str:
        return f"{self.ledger.run.id}/{self.key.removesuffix(self.again)}"

    @property
    def effects(self) -> Steps:
        return Under(self.ledger, f"effect/{digest(self.wish)}")

    def check_clock(self) -> None:
        self.ledger.check_clock()

    def begin(self, span_id: str, name: str, estimate: Usage, attempt: int) -> None:
        self.ledger.begin(span_id, name, estimate, attempt, self.trial)

    def end(self, span: Span, texts: Sequence[Text] = ()) -> None:
        span = placed(span).model_copy(update={"run": self.ledger.run.id, "trial": self.trial})
        self.spans.append(span)
        self.ledger.end(span, texts)


@dataclass(frozen=True)
class DurableTrials:
    """The trials of one scope of a run, each a step of the ledger: what was paid for once is never paid for again."""

    experiment: Experiment
    ledger: Ledger
    text: Callable[[str], Mapping[str, str]]
    """Version → its files."""
    executor: Executor
    scope: str
    """Prefix of the steps' keys, such as ``round/3``."""
    round: int | None = None

    def clusters(self, split: Split, seed: int) -> list[list[Task]]:
        """The tasks of *split* by cluster, shuffled by *seed*: the same order for both arms."""
        members: dict[str, list[Task]] = {}
        for task in sorted(self.experiment.split(split), key=lambda task: task.id):
            members.setdefault(task.cluster or task.id, []).append(task)
        names = sorted(members)
        random.Random(seed).shuffle(names)
        return [members[name] for name in names]

    def baseline(self, version: str, repeats: int, tasks: Sequence[Task] | None = None) -> dict[str, list[Trial]]:
        """Task → its trials by *version* on these train *tasks*, by default all of them; bought once a version and run,
        and once more after each ``refresh``."""
        times = self._refreshed(version)
        suffix = f"/refresh{times}" if times else ""
        wanted = self.experiment.split("train") if tasks is None else tasks
        [found] = self._attempt("train", [version], wanted, repeats, suffix)
        lost = [t for t in wanted if any(trial.is_lost for trial in found[t.id])]
        if lost and tasks is None:  # perhaps the trouble is over by now
            [again] = self._attempt("train", [version], lost, repeats, f"{suffix}/round{self.round}")
            found |= again
        return found

    def declare(self, spec: GateSpec) -> GateSpec:
        """The specification of the scope's test as it was first declared: *spec*, unless a killed process did so."""
        return self.ledger.step(f"{self.scope}/spec", lambda: spec, durable=True)

    def refresh(self, version: str, because: Literal["age", "drift", "crashes"], detail: str) -> None:
        """From now on ``baseline`` measures *version* afresh; once a round for the same reason."""
        times = self._refreshed(version)
        last = self.ledger.recall(f"train/{version}/#refresh/{times}") if times else None
        if isinstance(last, Refresh) and (last.round, last.because) == (self.round, because):
            return
        again = Refresh(version=version, round=self.round, because=because, detail=detail)
        self.ledger.step(f"train/{version}/#refresh/{times + 1}", lambda: again)

    def _refreshed(self, version: str) -> int:
        """How often."""
        return next(n for n in itertools.count() if self.ledger.recall(f"train/{version}/#refresh/{n + 1}") is None)

    def attempt(self, versions: Sequence[str], tasks: Sequence[Task], repeats: int = 1) -> list[dict[str, list[Trial]]]:
        """For each of *versions*, task → fresh trials; the versions interleaved within each task.

        A task that meets an infrastructure error is attempted again by all versions together, blind to whose it was,
        at most twice; its last trials are returned, whatever they are.

        Raises:
            BudgetSpent: a limit was reached; what was bought is kept.
            UserError: the provider refuses every call.
        """
        return self._attempt(self.scope, versions, tasks, repeats)

    def _attempt(
        self, scope: str, versions: Sequence[str], tasks: Sequence[Task], repeats: int, suffix: str = ""
    ) -> list[dict[str, list[Trial]]]:
        results: list[dict[str, list[Trial]]] = [{} for _ in versions]
        todo = list(tasks)
        for again in range(RETRIES + 1):
            wanted = [
                (
                    arm,
                    task,
                    repeat,
                    f"{scope}/{version}/{task.id}/{repeat}",
                    f"{suffix}/again{again}" if again else suffix,
                )
                for task in todo
                for repeat in range(repeats)
                for arm, version in enumerate(versions)
            ]
            trials = self._buy([(versions[arm], task, repeat, key, which) for arm, task, repeat, key, which in wanted])
            for task in todo:
                for result in results:
                    result[task.id] = []
            for (arm, task, *_), trial in zip(wanted, trials, strict=True):
                results[arm][task.id].append(trial)
            todo = [task for task in todo if any(t.is_lost for r in results for t in r[task.id])]
            if not todo:
                break
        return results

    def _buy(self, wanted: Sequence[tuple[str, Task, int, str, str]]) -> list[Trial]:
        texts = {version: self.text(version) for version, *_ in wanted}
        tools = tools_of(self.experiment)
        trials: dict[str, Trial | Future[Trial]] = {}
        for version, task, repeat, name, which in wanted:
            if name + which in trials:  # a version against itself: one trial is both
                continue
            kept = self.ledger.recall(name + which)
            trials[name + which] = (
                kept
                if isinstance(kept, Trial)
                else self.executor.submit(self._step, name, which, version, texts[version], task, repeat, tools)
            )
        wait_for([t for t in trials.values() if isinstance(t, Future)], self.ledger)
        bought = {key: t.result() if isinstance(t, Future) else t for key, t in trials.items()}
        return [bought[name + which] for _, _, _, name, which in wanted]

    def _step(
        self,
        name: str,
        which: str,
        version: str,
        text: Mapping[str, str],
        task: Task,
        repeat: int,
        tools: Mapping[str, str],
    ) -> Trial:
        key = name + which
        # the same seed for another attempt: it is no second draw
        seed = seed_of(self.ledger.run.experiment, self.ledger.run.seed, name)
        trial = self.ledger.buy(key, lambda: self._make(key, which, version, text, task, repeat, tools, seed))
        remove(TrialMeter(self.ledger, key).folder)
        if trial.is_lost and which.endswith(f"/again{RETRIES}"):
            self._bury(trial)
        return trial

    def _bury(self, trial: Trial) -> None:
        """Put a trial that failed in all its attempts into the inbox, for a person to redrive or to discard."""
        summary = f"task {trial.task} failed in {RETRIES + 1} attempts, last in the {trial.boundary}: {trial.error}"
        with metered(TrialMeter(self.ledger, trial.id, trial.id)):
            notify(escalation("dead", "dead", summary))

    def _make(
        self,
        key: str,
        which: str,
        version: str,
        text: Mapping[str, str],
        task: Task,
        repeat: int,
        tools: Mapping[str, str],
        seed: int,
    ) -> Trial:
        assert task.split is not None
        run, attempt = self.ledger.run.id, self.ledger.attempt(key)
        id = f"{run}/{key}" if attempt == 1 else f"{run}/{key}#{attempt}"
        meter = TrialMeter(self.ledger, key, id, which, self.ledger.spans_so_far(key))
        started, clock = now(), perf_counter()
        outcome: Outcome | None = None
        grade: Grade | None = None
        failure: TrialError | None = None
        with metered(meter):
            try:
                with boundary("runner"):
                    outcome = outcome_of(
                        self.experiment.runner.run(task.model_copy(update={"targets": ()}), text, seed)
                    )
                if outcome.ended not in GRADED:
                    raise TrialError("runner", outcome.ended, outcome.detail or outcome.ended)
                grade = self._grade(meter, task, outcome.output, attempt)
            except TrialError as e:
                failure = e
        meter.spans.extend(self.ledger.settle(id))
        if failure is not None:
            refuse_hopeless(failure)
        return Trial(
            id=id,
            run=run,
            round=self.round,
            version=version,
            task=task.id,
            split=task.split,
            tags=task.tags,
            cluster=task.cluster,
            repeat=repeat,
            attempt=attempt,
            seed=seed,
            conditions=conditions_of(meter.spans, {"grader": self.ledger.run.fingerprint.get("grader", ""), **tools}),
            output=outcome.output if outcome else None,
            ended=outcome.ended if outcome else "failed",
            grade=grade,
            error=redacted(clean_text(str(failure))) if failure else None,
            error_class=failure.error_class if failure else None,
            boundary=failure.boundary if failure else None,
            started=started,
            seconds=perf_counter() - clock,
            usage=Usage.sum(span.usage for span in meter.spans),
        )

    def _grade(self, meter: TrialMeter, task: Task, output: str, attempt: int) -> Grade:
        started, clock = now(), perf_counter()
        with boundary("grader"):
            grade = grade_of(self.experiment.grader.grade(task, output))
        meter.end(
            Span(
                id=f"{meter.trial}/grade/{attempt}",
                operation="grade",
                name=type(self.experiment.grader).__name__,
                started=started,
                seconds=perf_counter() - clock,
                attempt=attempt,
                attributes={
                    otel.SCORE: grade.score,
                    otel.EXPLANATION: grade.reason,
                },
            )
        )
        return grade


def tools_of(experiment: Experiment) -> dict[str, str]:
    """What the runner and the grader say they measure with, now."""
    found: dict[str, str] = {}
    for part in (experiment.runner, experiment.grader):
        if isinstance(part, Conditions):
            found |= part.conditions()
    return found


def conditions_of(spans: Sequence[Span], tools: Mapping[str, str]) -> tuple[str, ...]:
    """What a trial with these *spans* was measured with: its *tools*, and each model as its provider reported it."""
    models = {
        f"model {span.attributes[otel.REQUEST_MODEL]}": str(span.attributes[otel.RESPONSE_MODEL])
        for span in spans
        if otel.REQUEST_MODEL in span.attributes and span.attributes.get(otel.RESPONSE_MODEL)
    }
    return tuple(sorted(f"{part}={value}" for part, value in {**tools, **models}.items() if value))


def drift(trials: Iterable[Trial]) -> str:
    """What changed in the conditions of *trials*, in words; empty when nothing did."""
    seen: dict[str, dict[str, None]] = {}
    for trial in trials:
        for condition in trial.conditions:
            part, _, value = condition.partition("=")
            seen.setdefault(part, {})[value] = None
    return "; ".join(f"{part} was {' and '.join(values)}" for part, values in sorted(seen.items()) if len(values) > 1)


def outcome_of(output: object) -> Outcome:
    """*output*, if it is text, or an outcome that holds it."""
    outcome = output if isinstance(output, Outcome) else Outcome(cast(str, output))
    if not isinstance(cast(object, outcome.output), str):
        raise TypeError(f"run() returned {type(output).__name__}, and an output is a str")
    return replace(outcome, output=redacted(clean_text(outcome.output)), detail=redacted(clean_text(outcome.detail)))


def grade_of(grade: object) -> Grade:
    """*grade*, if it is one."""
    if not isinstance(grade, Grade):
        raise TypeError(f"grade() returned {type(grade).__name__}, and must return a Grade(score=…, reason=…)")
    return grade


def refuse_hopeless(failure: TrialError) -> None:
    """Raise when every further call would fail as this one did: then it is no trial.

    Raises:
        UserError: the provider refuses the key, or does not know the model.
    """
    if failure.boundary == "model" and failure.error_class in HOPELESS:
        raise UserError(
            f"the model refuses every call ({failure.error_class}): {failure}. Nothing can be measured. "
            "Mend the key or the model's name; the same command then carries on"
        )


def wait_for(futures: Sequence[Future[Any]], ledger: Ledger) -> None:
    """Wait until all are done, or until the stop button, the hours or the first exception end it.

    What was not begun is cancelled then. What was begun is waited for, unless somebody wants to stop: so nothing is
    bought behind the back of whoever goes on.

    Raises:
        BudgetSpent: also when a future met it.
    """
    pending = set(futures)
    try:
        while pending:
            done, pending = wait(pending, timeout=POLL, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            ledger.check_clock()
    except BaseException as e:
        for future in pending:
            future.cancel()
        if isinstance(e, UserError) or (isinstance(e, BudgetSpent) and e.reason not in ("stopped", "hours")):
            wait(pending)
        raise
