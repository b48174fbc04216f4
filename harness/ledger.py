"""The ledger: the durable steps of a run, and what they cost.

``step(key, make)`` returns the record kept under that key, or makes it and keeps it; so resuming a run is running it
again on the same journal. Money is spent in here and nowhere else: a trial and a model call ask first, and what was
asked for is written down before it happens.
"""

import itertools
import os
import re
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from datetime import datetime, timedelta
from importlib.metadata import version
from math import ceil
from pathlib import Path
from typing import Any, TypeVar, cast

from harness.agent.inbox import Inbox
from harness.errors import BudgetSpent, UserError
from harness.experiment import Budget, Experiment, check_name, digest, meaning
from harness.meter import close_meter, open_meter, placed
from harness.protocols import Gate
from harness.sandboxes.folder import remove
from traces.errors import JournalLocked
from traces.journal import Journal, read
from traces.places import prepare, spool
from traces.records import (
    Finding,
    Intent,
    Record,
    Round,
    Run,
    Session,
    Span,
    Stop,
    StopReason,
    Task,
    Text,
    Trial,
    Usage,
    now,
)

R = TypeVar("R", bound=Record)
Clock = Callable[[], datetime]


class Ledger:
    """The open journal of one run. One process at a time holds it; its threads share it."""

    def __init__(
        self,
        directory: Path,
        run: Run,
        budget: Budget,
        tasks: Sequence[Task] = (),
        *,
        session_hours: float | None = None,
        clock: Clock = now,
    ) -> None:
        """Open the journal of *run* on *tasks*, and take it up where it stands; for at most *session_hours* from now.

        Raises:
            JournalLocked: another process has this run open.
            UserError: the journal was begun by a different experiment; says what changed.
        """
        self.directory = directory
        self.run = run
        self.budget = budget
        self._clock = clock
        self._lock = threading.RLock()
        self._steps: dict[str, dict[str, int]] = {}
        self._forgotten: set[str] = set()
        self._attempts: dict[str, int] = {}
        self._in_flight: dict[str, Intent] = {}
        self._usage = Usage()
        self._trials = 0
        self._under_way: set[str] = set()
        self._unfinished: dict[str, list[Span]] = {}
        self._within: dict[str, list[str]] = {}
        self._worked = 0.0
        self._reserve = 0
        self._stop_file = stop_file(directory, run.id)
        prepare(directory)
        self._journal = Journal(journal_file(directory, run.id))
        try:
            self._load(tasks)
            self._opened = clock()
            if session_hours is not None:
                hours = self._worked / 3600 + session_hours
                self.budget = budget = budget.tightened(Budget(hours=hours))
            self._journal.append(Session(run=run.id, pid=os.getpid(), budget=budget.limits()))
            self._write_off([*self._in_flight.values()])
        except BaseException:
            self._journal.close()
            raise
        open_meter(self)

    # ── steps ──────────────────────────────────────────────────────────────────────────────────────────────────

    def step(self, key: str, make: Callable[[], R], *, durable: bool = False) -> R:
        """The record kept under *key*; made by *make* and kept, if there is none yet.

        A finished step forgets the steps below it (``a/b`` is below ``a``), and a round the trials of the candidate
        that it discards: nobody can ask for them again, so memory does not grow with the night. *durable* waits for
        the disk, for what a power cut must not undo.
        """
        kept = self.recall(key)
        if kept is not None:
            return cast(R, kept)
        with self._lock:
            attempt = self._attempts[key] = self._attempts.get(key, 0) + 1
            self._journal.append(Intent(step=key, kind="step", attempt=attempt))
        record = make()
        with self._lock:
            offset = self._journal.append(record, key=key, durable=durable)
            self._keep(key, offset, record)
            return cast(R, self._journal.at(offset).record())  # as a resumed run will see it

    def recall(self, key: str) -> Record | None:
        """The record kept under *key*, or ``None``."""
        with self._lock:
            scope = scope_of(key)
            if scope in self._forgotten:  # hardly ever: a version that was discarded has come back
                self._forgotten.remove(scope)
                kept = (line for line in self._journal.lines() if line.key and scope_of(line.key) == scope)
                self._steps[scope] = {str(line.key): line.offset for line in kept}
            offset = self._steps.get(scope, {}).get(key)
            return None if offset is None else self._journal.at(offset).record()

    def begun(self, key: str) -> bool:
        """Was the step begun, in this process or one before, whether or not it is finished?"""
        return key in self._attempts or self.recall(key) is not None

    @property
    def steps(self) -> "Ledger":
        """Itself: the steps of whoever works on the run outside of any trial."""
        return self

    @property
    def effects(self) -> "Ledger":
        return self

    @property
    def wish(self) -> str:
        return self.run.id

    @property
    def trial(self) -> None:
        """It belongs to a run, and to no trial of it."""

    @property
    def folder(self) -> None:
        """Only a trial has one."""

    @property
    def spare(self) -> None:
        """Only trials have one."""

    def spans_so_far(self, key: str) -> list[Span]:
        """Spans of the trial under *key* whose steps an earlier process finished: they are not made again."""
        with self._lock:
            return self._unfinished.pop(key, []) if key in self._within else []

    def attempt(self, key: str) -> int:
        """Which attempt of the step in progress this is: above 1 when the process died in an earlier one."""
        return self._attempts.get(key, 1)

    def _keep(self, key: str, offset: int, record: Record) -> None:
        self._attempts.pop(key, None)
        for under_way in above(key):
            if under_way in self._attempts:
                self._within.setdefault(under_way, []).append(key)
        steps = self._steps.setdefault(scope_of(key), {})
        if isinstance(record, Trial):
            self._trials += 1
            self._under_way.discard(key)
            self._unfinished.pop(key, None)
        for below in self._within.pop(key, ()):
            steps.pop(below, None)
        steps[key] = offset
        if isinstance(record, Round) and is_done_with(record):
            self._steps.pop(f"train/{record.candidate}", None)
            self._forgotten.add(f"train/{record.candidate}")

    # ── money ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def usage(self) -> Usage:
        """What the run has spent so far, interrupted calls included."""
        return self._usage

    @property
    def trials(self) -> int:
        """Trials finished so far."""
        return self._trials

    @property
    def seconds(self) -> float:
        """Time at work, all sessions of the run together; what lay between them does not count."""
        return self._worked + (self._clock() - self._opened).total_seconds()

    def now(self) -> datetime:
        """The time, by the run's own clock."""
        return self._clock()

    @contextmanager
    def reserving(self, trials: int) -> Generator[None]:
        """Within, stop early enough that *trials* more can be bought afterwards, at what trials have cost so far.

        At most half of any limit is kept back. The innermost one counts.
        """
        before, self._reserve = self._reserve, trials
        try:
            yield
        finally:
            self._reserve = before

    def affords(self, trials: int) -> bool:
        """Is so much left of every limit as *trials* more would take, at what trials have cost so far?"""
        return all(spent + trials * self._each(reason, spent) <= limit for reason, spent, limit in self._spent())

    def _each(self, reason: StopReason, spent: float) -> float:
        """What a trial takes of a limit."""
        return 1.0 if reason == "trials" else spent / self._trials if self._trials else 0.0

    def check(self, more: Usage | None = None, *, trials: int = 0) -> None:
        """Raise unless the budget allows *more*, or *trials* more, on top of what is spent and under way.

        Raises:
            BudgetSpent: which limit, and the figures.
        """
        self.check_clock()
        wanted = {"trials": trials, "tokens": more.tokens if more else 0, "dollars": (more.dollars or 0) if more else 0}
        with self._lock:
            for reason, spent, limit in self._spent():
                if reason == "trials" and not trials:
                    continue  # a call belongs to a trial that was bought already
                usable = limit - min(self._reserve * self._each(reason, spent), limit / 2)
                if spent >= usable or spent + wanted.get(reason, 0) > usable:
                    back = limit - usable
                    unit, times = ("minutes", 60) if reason == "hours" and limit < 1 else (reason, 1)
                    kept = f", {times * back:,.4g} kept back to certify what was kept" if back > 0 else ""
                    raise BudgetSpent(reason, f"{times * spent:,.4g} of {times * limit:,.4g} {unit} used{kept}")

    def check_clock(self) -> None:
        """The limits that must hold while a call is under way: the stop button and the hours.

        Raises:
            BudgetSpent: one was reached.
        """
        if self._stop_file.exists():
            raise BudgetSpent("stopped", "a person stopped it")
        hours = self.budget.hours
        if hours is not None and self.seconds >= hours * 3600:
            raise BudgetSpent("hours", f"{self.seconds / 3600:,.4g} of {hours:,.4g} hours used")

    def buy(self, key: str, make: Callable[[], Trial]) -> Trial:
        """The trial kept under *key*; else made by *make*, if the budget allows one more.

        Raises:
            BudgetSpent: it does not.
        """
        if self.recall(key) is None:
            with self._lock:
                self.check(trials=1)
                self._under_way.add(key)
        try:
            return self.step(key, make)
        finally:
            with self._lock:
                self._under_way.discard(key)

    def begin(self, span_id: str, name: str, estimate: Usage, attempt: int, trial: str | None = None) -> None:
        """A model call is about to be sent. See ``harness.meter.Meter``.

        Raises:
            BudgetSpent: the run may not buy it.
            UserError: there is a limit in dollars, and the price of the model is not known.
        """
        if self.budget.dollars is not None and estimate.dollars is None:
            raise UserError(
                f"the budget allows {self.budget.dollars} dollars, but no price is known for {name!r}, so the limit "
                "could not be kept. Limit tokens or trials instead, or name a model whose price is known"
            )
        with self._lock:
            self.check(estimate)
            intent = Intent(step=span_id, kind="call", attempt=attempt, trial=trial, name=name, estimate=estimate)
            self._journal.append(intent)
            self._in_flight[span_id] = intent

    def end(self, span: Span, texts: Sequence[Text] = ()) -> None:
        """It ended. What was written off meanwhile stays written off."""
        with self._lock:
            intent = self._in_flight.pop(span.id, None)
            if self._journal.closed or (span.usage.calls and intent is None):
                return
            if intent is not None and not span.usage.calls:
                span = span.model_copy(update={"usage": span.usage.model_copy(update={"calls": 1})})
            for text in texts:
                self._journal.text(text.text)
            span = placed(span)
            self._journal.append(span)
            self._usage += span.usage

    def _spent(self) -> list[tuple[StopReason, float, float]]:
        """Each limit of the budget but ``rounds``: spent so far, what is under way included, and the limit."""
        b = self.budget
        used = Usage.sum([self._usage, *(intent.estimate for intent in self._in_flight.values())])
        if b.dollars is not None and used.dollars is None:
            raise BudgetSpent("dollars", "a call had no known price, so the limit cannot be kept")
        spent: list[tuple[StopReason, float, float | None]] = [
            ("hours", self.seconds / 3600, b.hours),
            ("trials", self._trials + len(self._under_way), b.trials),
            ("tokens", used.tokens, b.tokens),
            ("dollars", used.dollars or 0.0, b.dollars),
        ]
        return [(reason, value, limit) for reason, value, limit in spent if limit is not None]

    # ── the journal ────────────────────────────────────────────────────────────────────────────────────────────

    def _load(self, tasks: Sequence[Task]) -> None:
        """Take in what the journal holds; a new one begins with its run and its tasks."""
        known: set[str] = set()
        lost: dict[tuple[str, str, int], dict[str, int]] = {}
        began: datetime | None = None
        last: datetime | None = None
        for line in self._journal.lines():
            record = line.record()
            match record:
                case Run():
                    refuse_changes(record, self.run)
                    self.run = record
                case Task():
                    known.add(record.id)
                case Session():
                    self._worked += (last - began).total_seconds() if began and last else 0.0
                    began = line.at
                case Intent(kind="step"):
                    self._attempts[record.step] = record.attempt
                case Intent():
                    self._in_flight[record.step] = record
                case Span():
                    self._in_flight.pop(record.id, None)
                    self._usage += record.usage
                    if record.trial and record.status != "interrupted":
                        self._unfinished.setdefault(key_of(record.trial, self.run.id), []).append(record)
                case _:
                    pass
            if line.key is not None:
                self._keep(line.key, line.offset, record)
                if isinstance(record, Trial) and line.key.startswith("train/"):
                    run = (record.version, record.task, record.repeat)
                    if record.is_lost:
                        lost.setdefault(run, {})[line.key] = record.attempt
                    else:
                        lost.pop(run, None)  # a later attempt went well
            last = line.at
        for key, attempt in (found for keys in lost.values() for found in keys.items()):
            if self._steps.get(scope_of(key), {}).pop(key, None) is not None:  # what met trouble is measured again
                self._attempts[key] = attempt
        self._worked += (last - began).total_seconds() if began and last else 0.0
        self._tidy()
        if last is None:
            self._journal.append(self.run, durable=True)
        for task in tasks:
            if task.id not in known:
                self._journal.append(as_recorded(task))

    def _tidy(self) -> None:
        """Remove the files of trials, but for those under way: their folders survive a kill."""
        under_way = {digest(key) for key in self._attempts}
        for folder in work_folder(self.directory, self.run.id).glob("*"):
            if folder.name not in under_way:
                remove(folder)

    def settle(self, trial: str) -> list[Span]:
        """A trial ended: charge those of its calls that never said how they did."""
        with self._lock:
            return self._write_off([intent for intent in self._in_flight.values() if intent.trial == trial])

    def _write_off(self, intents: Sequence[Intent]) -> list[Span]:
        """Charge calls whose end was never seen at their estimate."""
        spans = [
            Span(
                id=intent.step,
                run=self.run.id,
                trial=intent.trial,
                operation="chat",
                name=intent.name,
                started=self._clock(),
                seconds=0.0,
                status="interrupted",
                error="it ended before the answer was written down",
                error_class="interrupted",
                attempt=intent.attempt,
                usage=intent.estimate.model_copy(update={"calls": 1}),
            )
            for intent in intents
        ]
        for span in spans:
            self.end(span)
        return spans

    def close(self) -> None:
        """Write off what is still under way, and let go of the journal."""
        close_meter(self)
        with self._lock:
            if not self._journal.closed:
                self._write_off([*self._in_flight.values()])
                self._tidy()
                with suppress(OSError):
                    work_folder(self.directory, self.run.id).rmdir()
                self._journal.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ── runs on disk ───────────────────────────────────────────────────────────────────────────────────────────────────


def as_recorded(task: Task) -> Task:
    """What a journal may hold of *task*: of a hidden one, neither what it asks nor what it wants to hear."""
    return task if task.split == "train" else task.model_copy(update={"input": "", "targets": ()})


def settings_of(gate: Gate) -> dict[str, Any]:
    """A gate as a run records it: its class and its settings, enough to decide everything once more."""
    settings = {f.name: getattr(gate, f.name) for f in fields(gate)} if is_dataclass(gate) else {}
    return {"name": type(gate).__name__, **settings}


def open_run(
    directory: Path,
    experiment: Experiment,
    live: str,
    *,
    budget: Budget | None = None,
    session_hours: float | None = None,
    tried: Mapping[str, str] | None = None,
    known: Sequence[Finding] = (),
    memory: str = "",
    checked: str | None = None,
    trigger: str = "manual",
    clock: Clock = now,
) -> Ledger:
    """The unfinished run of *experiment*, taken up again; or a new one from the version *live*.

    *budget* may tighten the experiment's, and *session_hours* ends it that long from now. Of earlier runs *tried* says
    which versions they have tried, and where, *known* what they had found, *memory* what they learned on train.
    *checked* names the check that a new run rests on, *trigger* what started it.

    Raises:
        UserError: the unfinished run was begun by a different experiment.
    """
    budget = experiment.budget.tightened(budget)
    prune(directory)
    Inbox(directory).sweep()
    earlier = runs(directory, experiment.name)
    unfinished = run_to_take_up(directory, experiment, live)
    if earlier and unfinished is None and not is_finished(journal_file(directory, earlier[-1])):
        stop_run(directory, earlier[-1])
    run = Run(
        id=unfinished or run_id(experiment.name, clock(), earlier),
        experiment=experiment.name,
        subject=experiment.subject,
        live=live,
        fingerprint=experiment.fingerprint(),
        budget=budget.limits(),
        tasks=experiment.sizes(),
        tried=dict(tried or {}),
        known=tuple(known),
        memory=memory,
        seed=len(earlier) - (unfinished is not None),
        owner=experiment.contract.owner if experiment.contract else "",
        gate=settings_of(experiment.gate),
        checked=checked,
        trigger=trigger,
        ratchet=version("ratchet"),
    )
    return Ledger(directory, run, budget, experiment.tasks, session_hours=session_hours, clock=clock)


def run_to_take_up(directory: Path, experiment: Experiment, live: str) -> str | None:
    """The unfinished run that ``open_run`` goes on with; ``None`` where it begins a new one."""
    known = runs(directory, experiment.name)
    if not known or is_finished(journal := journal_file(directory, known[-1])):
        return None
    return None if is_superseded(journal, experiment, live) else known[-1]


def open_comparison(directory: Path, experiment: Experiment, a: str, b: str) -> Ledger:
    """The journal of a comparison by hand of two versions: a run of its own that tries nothing."""
    return open_aside(directory, experiment, a, "compare", f"{a[:10]}-{b[:10]}")


def open_proposal(directory: Path, experiment: Experiment, night: Run, rounds: int) -> Ledger:
    """The journal of a proposal that is asked for by hand, on what *rounds* of *night* have found: the one that was cut
    off, or a new one. Each has the experiment's limits to itself.

    Raises:
        JournalLocked: another process is asking for it.
    """
    name = digest(repr((night.id, rounds, meaning(experiment.fingerprint()))))[:10]

    def is_over(journal: Path) -> bool:
        return any(line.key == "proposal" for line in read(journal))

    return open_next_aside(directory, experiment, night.live, "propose", name, is_over)


def open_aside(directory: Path, experiment: Experiment, live: str, trigger: str, name: str) -> Ledger:
    """The journal of work on *experiment* that is no night: a run of its own that tries nothing, taken up again."""
    run = Run(
        id=f"{experiment.name}-{trigger}-{name}",
        experiment=experiment.name,
        subject=experiment.subject,
        live=live,
        fingerprint=meaning(experiment.fingerprint()),
        budget=experiment.budget.limits(),
        tasks=experiment.sizes(),
        gate=settings_of(experiment.gate),
        trigger=trigger,
        owner=experiment.contract.owner if experiment.contract else "",
        ratchet=version("ratchet"),
    )
    return Ledger(directory, run, experiment.budget, experiment.tasks)


def open_next_aside(
    directory: Path, experiment: Experiment, live: str, trigger: str, name: str, is_over: Callable[[Path], bool]
) -> Ledger:
    """As ``open_aside``, for work that is done anew each time: in the journal that was cut off, or in a new one.

    *is_over*: has what is in a journal come to its end?
    """

    def journal(number: int) -> Path:
        return journal_file(directory, f"{experiment.name}-{trigger}-{name}-{number}")

    last = next(number for number in itertools.count(1) if not journal(number + 1).exists())
    number = last + (journal(last).exists() and is_over(journal(last)))
    return open_aside(directory, experiment, live, trigger, f"{name}-{number}")


def is_superseded(journal: Path, experiment: Experiment, live: str) -> bool:
    """Was the run begun by another experiment than it is now, and come to nothing? Then a new one takes its place."""
    began: Run | None = None
    for line in read(journal):
        if line.type == "Round":
            return False
        if line.type == "Run":
            began = cast(Run, line.record())
    return began is not None and (began.fingerprint != experiment.fingerprint() or began.live != live)


def refuse_changes(was: Run, now_is: Run) -> None:
    """Raise if the experiment that began the run means something else by now.

    Raises:
        UserError: names the parts that changed.
    """
    changed = [part for part, value in now_is.fingerprint.items() if was.fingerprint.get(part) != value]
    if now_is.live != was.live:
        changed.append(f"live version ({was.live[:12]} → {now_is.live[:12]})")
    if changed:
        raise UserError(
            f"run {was.id} is not finished, and since it began these changed: {', '.join(changed)}. Its records would "
            f"not mean the same any more. Put them back and run again; or end it with: ratchet stop {was.experiment}"
        )


def runs(directory: Path, experiment: str) -> list[str]:
    """Ids of the runs of *experiment*, oldest first.

    Raises:
        UserError: no experiment can have this name.
    """
    check_name(experiment)
    pattern = re.compile(re.escape(experiment) + r"-\d{8}-\d{6}-[0-9a-f]{4}")
    return sorted(p.stem for p in spool(directory).glob(f"{experiment}-*.jsonl") if pattern.fullmatch(p.stem))


def run_id(experiment: str, begun: datetime, earlier: Sequence[str]) -> str:
    """The id of a run that begins now: the time in UTC, its last part in 65,536ths of a second.

    It sorts behind the *earlier* ids, also where the clock has been set back.
    """
    if earlier:
        day, time, part = earlier[-1].rsplit("-", 3)[1:]
        last = datetime.strptime(f"{day}{time}+0000", "%Y%m%d%H%M%S%z")
        begun = max(begun, last + timedelta(microseconds=ceil(int(part, 16) * 1e6 / 65536) + 16))
    return f"{experiment}-{begun:%Y%m%d-%H%M%S}-{begun.microsecond * 65536 // 1_000_000:04x}"


def is_finished(journal: Path) -> bool:
    """Has the run come to its end? An empty journal is a run that died at birth, and is taken up."""
    for line in read(journal):
        if line.key == "end" or (line.type == "Stop" and cast(Stop, line.record()).reason == "stopped"):
            return True
    return False


def stop_run(directory: Path, run: str) -> int | None:
    """Press the stop button. The process that has the run open ends it within seconds; its id is returned.

    Where none has, the run is ended here, and ``None`` returned.
    """
    button = stop_file(directory, run)
    button.parent.mkdir(parents=True, exist_ok=True)
    button.touch()
    path = journal_file(directory, run)
    try:
        with Journal(path) as journal:
            if not is_finished(path):
                journal.append(Stop(run=run, reason="stopped", detail="a person stopped it"), key="stop", durable=True)
    except JournalLocked:
        return holder(path)
    return None


def holder(journal: Path) -> int | None:
    """The process that has *journal* open, as far as it says."""
    sessions = [line for line in read(journal) if line.type == "Session"]
    return cast(Session, sessions[-1].record()).pid if sessions else None


def is_held(journal: Path) -> bool:
    """Has a process this run open?"""
    try:
        with Journal(journal):
            return False
    except JournalLocked:
        return True


def journal_file(directory: Path, run: str) -> Path:
    return spool(directory) / f"{run}.jsonl"


def stop_file(directory: Path, run: str) -> Path:
    """While it exists, the run may buy nothing: the stop button, which any process can press."""
    return directory / "stop" / run


def work_folder(directory: Path, run: str) -> Path:
    """Where the trials of *run* keep their files while they are under way."""
    return directory / "work" / run


def prune(directory: Path) -> None:
    """Remove what the trials of runs left behind that nobody will take up again."""
    for folder in (directory / "work").glob("*"):
        journal = journal_file(directory, folder.name)
        if not journal.exists() or (is_finished(journal) and not is_held(journal)):
            remove(folder)


def key_of(trial: str, run: str) -> str:
    """The key of the step that makes the trial with the id *trial*."""
    return re.sub(r"#\d+$", "", trial.removeprefix(f"{run}/"))


def is_done_with(round: Round) -> bool:
    """Can nobody ask for the candidate's trials again? It is tried once, unless the conditions changed meanwhile."""
    d = round.decision
    return d is not None and d.verdict != "keep" and d.because != "drift"


def above(key: str) -> list[str]:
    """The keys of the steps that the step under *key* may be a part of: ``a`` and ``a/b`` for ``a/b/c``."""
    return list(itertools.accumulate(key.split("/")[:-1], "{}/{}".format))


def scope_of(key: str) -> str:
    """``round/3`` of ``round/3/train/x``: what is remembered and forgotten together."""
    return "/".join(key.split("/", 2)[:2])
