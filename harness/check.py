"""``ratchet check``: what an experiment can resolve and what a night will cost, found out before it.

The live version is measured against itself through the whole path of a promotion test, on ``train``; so are the grader
and what it rewards. No promotion test is opened, and of the hidden tasks only those are run that the gate names as
must-pass. All that is paid for is a step of a journal of its own, so a check that was cut off goes on where it stood;
one that came to its end is never asked again, since what it found may have been mended, or have broken, meanwhile.
"""

import dataclasses
import functools
import inspect
import itertools
import math
import random
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from harness import attack, hostile, hygiene
from harness.contention import about_contention, contention, has_company, runs_alone
from harness.contract import lints
from harness.errors import TrialError, UserError
from harness.experiment import SPLITS, Budget, Experiment, clusters_in, digest, meaning
from harness.gate import PairedGate
from harness.gate.guards import MUST_PASS_RUNS, must_pass
from harness.gate.ledger import SplitLedger
from harness.gate.metric import MetricGate
from harness.graders.metric import MetricGrader
from harness.ledger import Ledger, open_next_aside
from harness.loop import check_baseline
from harness.protocols import Checks, Gate, Sandbox, Trials
from harness.runners import AgentRunner, CommandRunner, JudgingRunner
from harness.trials import DurableTrials
from harness.versions import Subject
from traces.journal import read
from traces.records import (
    Attack,
    Check,
    Comparison,
    Contention,
    Estimate,
    GateSpec,
    Hole,
    Noise,
    Split,
    Stop,
    Task,
    Trial,
    Usage,
)

if TYPE_CHECKING:
    from harness.gate.nights import NightSpec

ALPHA = 0.05
"""Of the live version against itself: the chance that a sound set-up is taken for an unsound one."""
CLUSTERS = 100
"""Train clusters on which the noise is measured, if there are so many."""
FEWEST = 20
"""With fewer clusters a measured noise says next to nothing."""
LIMIT = 30
"""Outputs that are graded again, known answers of each kind, tasks that a cheat is tried on: at most."""
FIRST = 5
"""Tasks that a cheat is tried on first; where grading costs something, on more only if one of them rewards it above the
floor. Then a cheat that one task in four rewards is missed with chance 0.75⁵ = 24 %; one that half reward, with 3 %."""
CHEAP = 0.05
"""Seconds a grading, on average, that are next to none."""
RARE = frozenset({"most-frequent"})
"""Cheats that a hole rewards on few tasks each: tried on all at once."""
NOISY = 0.02
"""Discordance from which on the live version had better be measured more than once."""
ENOUGH = 100
"""Binary validation clusters below which no valid rule certifies a gain of 5 points."""
DEEPEST = 8
"""Levels of fields that models are looked for in."""
HALF = 0.5
"""Score below which an answer is refused."""
ROUNDING = 1e-9
"""Differences of mean scores below it are none."""
POWER = 0.8
"""Chance at which a gain is called provable."""
CHANCE_FIRST = 0.33
"""That the first run of a change that does nothing is half a sigma better than the mean of three: P(z > 0.5/√(4/3))."""
CHANCE_KEPT = 0.2
"""That fresh seeds then confirm it: both lean on the same mean of the incumbent."""
NIGHTS = 300
"""Nights that are simulated to tell what one costs."""
ROOM = 1_000_000
"""Clusters of all simulated nights together: what bounds the memory."""
ROUNDS = 40
"""Of a simulated night where the budget does not limit them."""


def open_check(directory: Path, experiment: Experiment, live: str) -> Ledger:
    """The journal of a check of *live* under this very experiment: the one that was cut off, or a new one.

    A journal holds one check, and each has the experiment's limits to itself, but for that in trials: most trials of a
    check only grade an answer that was prepared.

    Raises:
        JournalLocked: another process is checking it.
    """
    budget = dataclasses.replace(experiment.budget, trials=None, rounds=experiment.budget.rounds or 1)
    limited = dataclasses.replace(experiment, budget=budget)
    name = f"{live[:10]}-{digest(meaning(experiment.fingerprint()))[:8]}"
    return open_next_aside(directory, limited, live, "check", name, is_over)


def is_over(journal: Path) -> bool:
    """Did the check come to its end, be it that nothing could be measured?"""
    return any(line.key in ("check", "end") for line in read(journal))


# ── the live version twice ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Mirror:
    """Trials of one version, shown to a gate as those of two: odd and even repeats of the same run.

    Whichever two versions a gate names, every trial is one of ``version``; the second name only has to differ.
    """

    trials: Trials
    version: str
    chosen: Sequence[Sequence[Task]]
    """The clusters there are, of whatever split is asked for."""

    def clusters(self, split: Split, seed: int) -> list[list[Task]]:
        found = [list(cluster) for cluster in self.chosen]
        random.Random(seed).shuffle(found)
        return found

    def baseline(self, version: str, repeats: int, tasks: Sequence[Task] | None = None) -> dict[str, list[Trial]]:
        return self.trials.baseline(self.version, repeats, tasks)

    def declare(self, spec: GateSpec) -> GateSpec:
        return self.trials.declare(spec)

    def refresh(self, version: str, because: Literal["age", "drift", "crashes"], detail: str) -> None:
        self.trials.refresh(self.version, because, detail)

    def attempt(self, versions: Sequence[str], tasks: Sequence[Task], repeats: int = 1) -> list[dict[str, list[Trial]]]:
        """The arms take turns within each task, as those of two versions do."""
        [found] = self.trials.attempt([self.version], tasks, len(versions) * repeats)
        return [
            {
                task: [
                    trial.model_copy(update={"version": version, "repeat": repeat})
                    for repeat, trial in enumerate(trials[arm :: len(versions)])
                ]
                for task, trials in found.items()
            }
            for arm, version in enumerate(versions)
        ]


def mirrored(version: str) -> str:
    """The name that *version* goes by where it is its own opponent; no version has it."""
    return f"{version}'"


@dataclass(frozen=True)
class Resumed(DurableTrials):
    """Trials of a check that was taken up: what earlier sessions lost is attempted again, with the same seeds."""

    sessions: int = 1

    def attempt(self, versions: Sequence[str], tasks: Sequence[Task], repeats: int = 1) -> list[dict[str, list[Trial]]]:
        found = super().attempt(versions, tasks, repeats)
        for session in range(2, self.sessions + 1):
            lost = [task for task in tasks if any(trial.is_lost for side in found for trial in side[task.id])]
            if not lost:
                break
            again = self._attempt(self.scope, versions, lost, repeats, f"/session{session}")
            found = [before | after for before, after in zip(found, again, strict=True)]
        return found


# ── noise ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def noise_of(clusters: Sequence[Sequence[Task]], twice: Mapping[str, Sequence[Trial]], failure_score: float) -> Noise:
    """How the first two runs of one version differ. *twice*: task → its trials; where there is only one, nothing does.
    A version's own failure scores *failure_score*, and a cluster with a lost trial counts for nothing.

    Raises:
        UserError: not one cluster was measured twice.
    """

    def score(trial: Trial) -> float:
        return trial.grade.score if trial.grade is not None else failure_score

    measured = [
        cluster for cluster in clusters if not any(trial.is_lost for task in cluster for trial in twice[task.id][:2])
    ]
    if not measured:
        raise UserError(
            f"of {len(clusters)} clusters every one lost a trial to infrastructure errors, so nothing was measured. "
            "Mend that, and type the same again"
        )
    pairs = [
        tuple(fmean(score(twice[task.id][:2][run]) for task in cluster) for run in (0, -1)) for cluster in measured
    ]
    scores = [score(trial) for cluster in measured for task in cluster for trial in twice[task.id][:2]]
    return Noise(
        score=fmean(fmean(pair) for pair in pairs),
        variance=fmean((b - a) ** 2 for a, b in pairs),
        discordance=fmean(abs(b - a) > ROUNDING for a, b in pairs),
        is_binary=all(score in (0, 1) for score in scores),
        clusters=len(pairs),
    )


def churn_of(noise: Noise, earlier: Iterable[Comparison]) -> tuple[float, int, int] | None:
    """What a change breaks besides what it mends, as a share of the clusters; on how many clusters, and in how many
    comparisons, that was seen.

    From *earlier* comparisons of one run against one, with scores of 0 and 1: wins or losses, whichever are fewer, less
    those that two runs of one version show. ``None`` where there are no such comparisons.
    """
    usable = [
        c.differences
        for c in earlier
        if c.differences and noise.is_binary and c.is_valid and set(c.differences) <= {-1.0, 0.0, 1.0}
    ]
    clusters = sum(map(len, usable))
    fewer = sum(min(found.count(1.0), found.count(-1.0)) for found in usable)
    return (max(fewer / clusters - noise.discordance / 2, 0.0), clusters, len(usable)) if usable else None


# ── what it costs ──────────────────────────────────────────────────────────────────────────────────────────────────


def busy(trials: Iterable[Trial]) -> float:
    """Seconds in which at least one of *trials* was under way: what they took together, however many ran at once."""
    total = 0.0
    until: datetime | None = None
    for trial in sorted(trials, key=lambda trial: trial.started):
        end = trial.started + timedelta(seconds=trial.seconds)
        since = trial.started if until is None else max(trial.started, until)
        total += max((end - since).total_seconds(), 0.0)
        until = end if until is None else max(until, end)
    return total


def cost_of_one(trials: Sequence[Trial]) -> Estimate:
    """A trial, as those of *trials* were on average; its hours are its share of the time that they took together."""
    usage, n = Usage.sum(trial.usage for trial in trials), len(trials)
    return Estimate(
        trials=1,
        calls=usage.calls / n,
        tokens=usage.tokens / n,
        dollars=None if usage.dollars is None else usage.dollars / n,
        hours=busy(trials) / 3600 / n,
    )


def times(one: Estimate, trials: float) -> Estimate:
    return Estimate(
        trials=trials,
        calls=one.calls * trials,
        tokens=one.tokens * trials,
        dollars=None if one.dollars is None else one.dollars * trials,
        hours=one.hours * trials,
    )


def limited(budget: Budget, one: Estimate) -> Iterator[tuple[float, float]]:
    """Each limit of the *budget* but that in rounds, with what one trial takes of it."""
    limits = (
        (budget.trials, 1.0),
        (budget.tokens, one.tokens),
        (budget.dollars, one.dollars or 0.0),
        (budget.hours, one.hours),
    )
    return ((limit, each) for limit, each in limits if limit is not None and each)


def affordable(budget: Budget, one: Estimate) -> float:
    """How many trials the *budget* allows; infinite where only rounds are limited."""
    return min((limit / each for limit, each in limited(budget, one)), default=math.inf)


@dataclass(frozen=True)
class Course:
    """The expected course of a night, in trials."""

    round: float
    """One proposal: its test on ``train``, and a share of the measurements after the keeps."""
    rest: float
    """The baseline, the promotion tests and what they lead to."""
    pace: float = 1.0
    """How long a trial of a round takes, beside one of the rest: fewer of them run at once."""

    def rounds(self, budget: Budget, one: Estimate) -> float:
        """How many the *budget* allows; where only patience ends the night, as many as that."""
        slow = one.model_copy(update={"hours": one.hours * self.pace})
        each = zip(limited(budget, one), limited(budget, slow), strict=True)
        left = (max(limit - self.rest * one, 0.0) / (self.round * slow) for (limit, one), (_, slow) in each)
        most = min(left, default=math.inf) if self.round else math.inf
        most = min(most, budget.rounds or math.inf)
        return most if most < math.inf else float(budget.patience or 0)

    def night(self, budget: Budget, one: Estimate) -> Estimate:
        """All trials of a night of so many rounds."""
        search = times(one, self.round * self.rounds(budget, one))
        rest = times(one, min(self.rest, affordable(budget, one)))
        whole = times(one, rest.trials + search.trials)
        return whole.model_copy(update={"hours": rest.hours + search.hours * self.pace})

    def one_round(self, one: Estimate) -> Estimate:
        found = times(one, self.round)
        return found.model_copy(update={"hours": found.hours * self.pace})


def night_of(experiment: Experiment, gate: PairedGate, noise: Noise) -> "NightSpec":
    """A night of the *experiment* as far as it can be simulated, of as many rounds as its budget says, else 40."""
    from harness.gate.nights import NightSpec

    train, validation, test = (clusters_in(experiment.split(split)) for split in SPLITS)
    return NightSpec(train, validation, test, proposals=experiment.budget.rounds or ROUNDS, noise=noise, gate=gate)


def course_of(experiment: Experiment, noise: Noise, alone: float = 1.0) -> Course:
    """From simulated nights on this *noise*, with one proposal in ten better and two worse; for a gate that cannot be
    simulated, by the sizes alone: each round all of ``train``.

    *alone*: how long a trial takes by itself, beside its share of the time in which as many run as may.
    """
    gate, sizes = experiment.gate, experiment.sizes()
    if isinstance(gate, MetricGate):
        confirmed, kept = (CHANCE_FIRST, CHANCE_KEPT) if gate.repeats > 1 else (0.0, 0.5)
        again = 1 / gate.recheck if gate.recheck else 0.0  # the incumbent, beside the candidate
        batches = ((1 - again, 1), (again, 2), (confirmed, gate.confirm), (kept, gate.repeats))
        at_once = [(chance, runs * sizes["train"]) for chance, runs in batches]
        trials = sum(chance * n for chance, n in at_once)
        shares = sum(chance * (alone if n == 1 else max(n, alone)) for chance, n in at_once)
        return Course(trials, gate.repeats * sizes["train"] + gate.cost(sizes), pace=shares / trials)
    if not isinstance(gate, PairedGate):
        return Course(round=sizes["train"], rest=gate.repeats * sizes["train"] + gate.cost(sizes))
    from harness.gate.nights import simulate  # here: numpy and scipy, half a second

    spec = night_of(experiment, gate, noise)
    spec = dataclasses.replace(spec, proposals=min(spec.proposals, ROUNDS))
    found = simulate(spec, max(min(NIGHTS, ROOM // (spec.train + spec.validation + spec.test)), 1))
    search, whole = float(found.train_calls.mean()), float(found.calls.mean())
    rounds, baseline = spec.proposals, gate.repeats * spec.train
    hidden = (sizes["validation"] + sizes["test"]) / (spec.validation + spec.test)
    per_cluster = sizes["train"] / spec.train
    return Course(
        round=max(search - baseline, 0.0) / rounds * per_cluster,
        rest=baseline * per_cluster + max(whole - search, 0.0) * hidden,
    )


# ── the whole ──────────────────────────────────────────────────────────────────────────────────────────────────────


def check(
    experiment: Experiment,
    ledger: Ledger,
    subject: Subject,
    executor: Executor,
    *,
    clusters: int = CLUSTERS,
    limit: int = LIMIT,
    earlier: Sequence[Comparison] = (),
    seconds: float = attack.SECONDS,
) -> Check:
    """What the *experiment* can resolve from here, and what a night will cost. *ledger*: see ``open_check``.

    *clusters*: of ``train``, on which the live version is measured twice. *limit*: outputs graded again, known answers
    of each kind, and tasks a cheat. *earlier*: comparisons that nights of this experiment have made. *seconds*: for
    looking around where versions run, unless that is nowhere.

    Raises:
        BudgetSpent: a limit of the experiment was reached; what was bought is kept.
        UserError: most trials fail, so nothing can be measured.
        InvalidText: the live version does not render.
    """
    if clusters < FEWEST:
        raise UserError(f"{clusters} clusters tell next to nothing about noise: give at least {FEWEST}")
    alpha = next_alpha(experiment, ledger.directory)
    examination = Examination(experiment, ledger, subject, executor, clusters, limit, tuple(earlier), seconds)
    return ledger.step("check", partial(examination.make, f"{ledger.run.id}/check", alpha), durable=True)


def chosen_of(experiment: Experiment, clusters: int) -> list[list[Task]]:
    """So many train clusters at most, drawn once for all checks."""
    members: dict[str, list[Task]] = {}
    for task in sorted(experiment.split("train"), key=lambda task: task.id):
        members.setdefault(task.cluster or task.id, []).append(task)
    names = sorted(members)
    random.Random(0).shuffle(names)
    return [members[name] for name in names[:clusters]]


def tasks_in(chosen: Sequence[Sequence[Task]]) -> list[Task]:
    return [task for cluster in chosen for task in cluster]


def gradings(experiment: Experiment, limit: int = LIMIT) -> int:
    """How many prepared outputs a check has graded, besides those of the live version's own runs. It may be more: where
    grading costs next to nothing, and of a cheat that pays, all *limit* tasks are tried."""
    if has_numbers_read(experiment):
        return 0
    sample = tasks_in(chosen_of(experiment, CLUSTERS))[:limit]
    known = sum(map(len, attack.right_and_wrong(sample, seed=0)))
    cheats = sum(
        len(tried_first(name, [task for task in sample if task.id in outputs]))
        for name, outputs in attack.answers(experiment.split("train")).items()
    )
    return len(sample) + known + cheats


def has_numbers_read(experiment: Experiment) -> bool:
    """Does the grader only read the line that Ratchet itself writes? Then no answer could cheat it."""
    return isinstance(experiment.runner, CommandRunner) and isinstance(experiment.grader, MetricGrader)


def is_free(trials: Iterable[Trial]) -> bool:
    """Did grading them ask no model, and take next to no time?"""
    found = [*trials]
    return all(trial.usage.calls == 0 for trial in found) and sum(t.seconds for t in found) <= CHEAP * len(found)


def tried_first(cheat: str, tasks: Sequence[Task]) -> list[Task]:
    """Those of *tasks* that a cheat is tried on first, evenly spread."""
    few = len(tasks) if cheat in RARE else min(FIRST, len(tasks))
    return [tasks[at * len(tasks) // few] for at in range(few)]


@dataclass(frozen=True)
class Examination:
    """What the parts of a check have in common. It has no state: that is in the journal."""

    experiment: Experiment
    ledger: Ledger
    subject: Subject
    executor: Executor
    clusters: int
    limit: int
    earlier: tuple[Comparison, ...]
    seconds: float

    def make(self, id: str, alpha: float | None) -> Check:
        experiment, live = self.experiment, self.ledger.run.live
        text = self.subject.text(live)
        if isinstance(experiment.runner, Checks):
            experiment.runner.check(text)
        chosen = chosen_of(experiment, self.clusters)
        sample = tasks_in(chosen)[: self.limit]
        a_a, twice = self.against_itself(chosen)
        noise, about_churn = with_churn(self.noise(chosen, twice), self.earlier)
        again = self.regraded(sample, twice)
        answers = ({}, {}) if has_numbers_read(self.experiment) else attack.right_and_wrong(sample, seed=0)
        true, false = (self.said(name, sample, each) for name, each in zip(("right", "wrong"), answers, strict=True))
        known, right = [*true.values()], scores(true.values())
        own = [trial for trials in twice.values() for trial in trials]
        failed = [trial for trial in (*known, *own) if is_ungraded(trial)]
        beside = self.beside_others(chosen)
        one = cost_of_one(self.noise_runs(chosen) if isinstance(experiment.gate, MetricGate) else own)
        alone = beside.alone if beside is not None else fmean(trial.seconds for trial in own)
        course = course_of(experiment, noise, alone / 3600 / one.hours if one.hours else 1.0)
        provable, for_half = resolution(experiment, noise, a_a, alpha)
        rewarded = [] if has_numbers_read(self.experiment) else self.rewarded(sample)
        readable, about_reach = self.in_reach()
        attacks = self.attacked(sample, twice, text)
        found = Check(
            id=id,
            experiment=experiment.name,
            live=live,
            fingerprint=self.ledger.run.fingerprint,
            noise=noise,
            a_a=a_a,
            regraded=len(again),
            regraded_differently=sum(before != after for before, after in again),
            right_answers=len(right),
            right_refused=sum(score < HALF for score in right),
            right_ungraded=sum(map(is_ungraded, known)),
            wrong_answers=len(scores(false.values())),
            wrong_accepted=accepted(false, true, experiment.gate.floor),
            runs=len(own),
            runs_ungraded=sum(map(is_ungraded, own)),
            ungraded=f"task {failed[0].task!r}: {failed[0].error}" if failed else "",
            holes=(*rewarded, *readable, *hostile.holes(attacks)),
            attacks=tuple(attacks),
            contention=beside,
            run_seconds=alone if isinstance(experiment.runner, CommandRunner) else None,
            final=experiment.gate.final if isinstance(experiment.gate, MetricGate) else None,
            twins=tuple(hygiene.twins(experiment.tasks)),
            leaks=tuple(hygiene.leaks(experiment.tasks, text)),
            warnings=(),
            alpha=alpha,
            validation=clusters_in(experiment.split("validation")),
            provable=provable,
            clusters_for_half=for_half,
            round=course.one_round(one),
            night=course.night(experiment.budget, one),
            usage=self.ledger.usage,
            trials=self.ledger.trials,
            seconds=self.ledger.seconds,
        )
        warnings = [
            *about_the_path(found),
            *about_the_grader(experiment, found),
            *about_reach,
            *about_the_number(experiment, attacks),
            *about_contention(beside, a_a.metric or "the number"),
            *about_the_size(experiment, found),
            *self.about_what_must_pass(),
            *(f"{lint[0].upper()}{lint[1:]}." for lint in lints(experiment)),
            *about_the_cost(experiment, found, course.rounds(experiment.budget, one)),
            *(() if isinstance(self.experiment.gate, MetricGate) else about_churn),
        ]
        return found.model_copy(update={"warnings": tuple(warnings)})

    def attacked(
        self, sample: Sequence[Task], twice: Mapping[str, Sequence[Trial]], text: Mapping[str, str]
    ) -> list[Attack]:
        """What a hostile candidate could do where commands run; beside the first task's trial, which was honest."""
        runner, gate = self.experiment.runner, self.experiment.gate
        if not isinstance(runner, CommandRunner):
            return []
        better = gate.better if isinstance(gate, MetricGate) else None
        first = twice[sample[0].id][0]
        honest = first.grade.value if first.grade is not None else None
        return hostile.hostile(runner, sample[0], text, seed=0, better=better, honest=honest)

    def beside_others(self, chosen: Sequence[Sequence[Task]]) -> Contention | None:
        """Some trials alone, beside those of the noise, which ran at once as far as the runner lets them."""
        runner, live = self.experiment.runner, self.ledger.run.live
        if not isinstance(runner, CommandRunner) or runner.workers < 2:
            return None
        noise = self.noise_runs(chosen)
        if not any(has_company(trial, noise) for trial in noise):
            return None
        trials, task = self.trials("check/alone"), tasks_in(chosen)[:1]
        wanted = runs_alone(fmean(trial.seconds for trial in noise))
        alone = [trials.attempt([live], task, runs)[0][task[0].id][-1] for runs in range(1, wanted + 1)]
        return contention(alone, noise, runner.workers)

    def noise_runs(self, chosen: Sequence[Sequence[Task]]) -> list[Trial]:
        """All that were bought to measure the noise."""
        gate = self.experiment.gate
        runs = 2 if not isinstance(gate, MetricGate) else 1 if gate.repeats == 1 else 2 * max(gate.repeats, 2)
        trials = self.trials(f"check/a-a-{len(chosen)}")
        [found] = trials.attempt([self.ledger.run.live], tasks_in(chosen), runs)
        return [trial for runs_of_task in found.values() for trial in runs_of_task]

    def against_itself(self, chosen: Sequence[Sequence[Task]]) -> tuple[Comparison, dict[str, list[Trial]]]:
        """The gate's verdict on the live version as its own opponent; and task → its two runs, of all that were
        *chosen*, also where the test had stopped earlier.
        """
        gate, live = self.experiment.gate, self.ledger.run.live
        if isinstance(gate, MetricGate):  # its runs are long: enough for a first sigma, as at the start of a night
            gate = dataclasses.replace(gate, final=max(gate.repeats, 2))
        mirror = Mirror(self.trials(f"check/a-a-{len(chosen)}"), live, chosen)
        comparison = gate.prove(live, mirrored(live), mirror, ALPHA, "train")
        runs = 1 if isinstance(gate, MetricGate) and self.experiment.gate.repeats == 1 else 2
        [twice] = mirror.trials.attempt([live], tasks_in(chosen), runs)
        return comparison, twice

    def noise(self, chosen: Sequence[Sequence[Task]], twice: Mapping[str, list[Trial]]) -> Noise:
        """As ``noise_of``. Where nothing can be measured, the check has come to its end.

        Raises:
            UserError: most trials failed, or not one cluster was measured twice.
        """
        try:
            check_baseline(self.experiment, dict(twice))
            return noise_of(chosen, twice, failure_score(self.experiment.gate))
        except UserError as e:
            stop = Stop(run=self.ledger.run.id, reason="failing", detail=str(e))
            self.ledger.step("end", lambda: stop, durable=True)
            raise

    def regraded(self, sample: Sequence[Task], twice: Mapping[str, Sequence[Trial]]) -> list[tuple[float, float]]:
        """Scores of the same outputs: when they were made, and again. A number that is read is read alike."""
        if has_numbers_read(self.experiment):
            return []
        before = {
            task.id: trial.grade.score
            for task in sample
            if (trial := twice[task.id][0]).grade is not None and trial.output is not None
        }
        outputs = {task: twice[task][0].output or "" for task in before}
        after = self.said("again", sample, outputs)
        return [(before[task], trial.grade.score) for task, trial in after.items() if trial.grade is not None]

    def said(self, name: str, sample: Sequence[Task], outputs: Mapping[str, str]) -> dict[str, Trial]:
        """Task → how the grader takes the output prepared for it; as trials of a version called *name*."""
        speaking = dataclasses.replace(self.experiment, runner=attack.Saying(outputs))
        trials = self.trials(f"check/{name}", speaking)
        [found] = trials.attempt([name], [task for task in sample if task.id in outputs])
        return {task: trial for task, [trial] in found.items()}

    def rewarded(self, sample: Sequence[Task]) -> list[Hole]:
        """The cheats that the grader rewards; of several wordings of one the worst. Tried on few tasks first."""
        worst: dict[str, Hole] = {}
        floor = self.experiment.gate.floor
        for name, outputs in attack.answers(self.experiment.split("train")).items():
            tasks = [task for task in sample if task.id in outputs]
            trials = self.said(f"attack/{name}", tried_first(name, tasks), outputs)
            if is_free(trials.values()) or any(score > floor + ROUNDING for score in scores(trials.values())):
                trials = self.said(f"attack/{name}", tasks, outputs)
            hole = attack.holes(name, [*trials.values()], floor)
            if hole is not None and (hole.cheat not in worst or worst[hole.cheat].score < hole.score):
                worst[hole.cheat] = hole
        return [*worst.values()]

    def in_reach(self) -> tuple[list[Hole], list[str]]:
        """What the place where versions run lets them read of hidden tasks; and what is not known of it, in words."""
        runner, floor = self.experiment.runner, self.experiment.gate.floor
        secrets = [*self.experiment.split("validation"), *self.experiment.split("test")]
        if isinstance(runner, CommandRunner):
            sandbox = runner.sandbox(readable=tuple(runner.readable))
        else:
            sandbox = getattr(runner, "sandbox", None)
        if isinstance(runner, AgentRunner | JudgingRunner) and sandbox is None:
            return [], []  # its versions are sent to a model, and nothing of them is run
        if isinstance(sandbox, Sandbox):
            try:
                return attack.snoop(sandbox, secrets, floor, seconds=self.seconds), []
            except TrialError as e:
                return [], [f"Whether a version could read the hidden tasks in its sandbox is not known: {e}."]
        return [], [
            f"If {type(runner).__name__} runs code that a version wrote, that code can read hidden tasks ({place}). "
            "Run it in a sandbox, and give the runner that as its `sandbox`."
            for place in attack.reachable(secrets, seconds=self.seconds)
        ]

    def trials(self, scope: str, speaking: Experiment | None = None) -> Resumed:
        """Of versions, or of what another runner is *speaking*: it is given no text."""
        text = self.subject.text if speaking is None else no_text
        sessions = self.ledger.attempt("check")
        return Resumed(speaking or self.experiment, self.ledger, text, self.executor, scope, sessions=sessions)

    def about_what_must_pass(self) -> list[str]:
        """The tasks that the gate calls must-pass and the live version does not solve."""
        named = set(self.experiment.gate.must_pass) if isinstance(self.experiment.gate, PairedGate) else set()
        tasks = [task for task in self.experiment.tasks if task.id in named]
        [runs] = self.trials("check/must-pass").attempt([self.ledger.run.live], tasks, MUST_PASS_RUNS)
        guards = [must_pass(task, trials) for task, trials in runs.items()]
        return [
            f"The live version fails the must-pass task {guard.name!r} in {guard.losses} of {guard.n} runs, so nothing "
            "that fails it too will ever be promoted. Mend it first, or take it out of PairedGate(must_pass=…)."
            for guard in guards
            if guard.verdict == "block"
        ]


def no_text(version: str) -> dict[str, str]:
    return {}


def scores(trials: Iterable[Trial]) -> list[float]:
    """Of those that have one."""
    return [trial.grade.score for trial in trials if trial.grade is not None]


def accepted(wrong: Mapping[str, Trial], right: Mapping[str, Trial], floor: float) -> int:
    """How many of the *wrong* answers the grader takes for right; both: task → trial.

    One that scores a half or more, and no nearer to *floor*, what an answer without work may score, than to what the
    right one to that task does. So where part of an answer earns part of the score, that part is no acceptance. Where
    the grader broke on the right one, that counts as 1.
    """
    found = 0
    for task, trial in wrong.items():
        known = right[task].grade if task in right else None
        best = known.score if known is not None else 1.0
        if trial.grade is not None:
            found += trial.grade.score >= max(HALF, (min(floor, best) + best) / 2)
    return found


def is_ungraded(trial: Trial) -> bool:
    """Was there an output, and the grader gave it no score? It, or the model that it asks, broke."""
    return trial.output is not None and trial.grade is None


def next_alpha(experiment: Experiment, directory: Path) -> float | None:
    """What the next promotion test may spend; ``None`` when nothing is left."""
    split = SplitLedger.of(directory, experiment)
    return split.next_alpha() if split else experiment.gate.alpha


def failure_score(gate: Gate) -> float:
    """What a version is given where it fails."""
    return gate.failure_score if isinstance(gate, PairedGate) else 0.0


def with_churn(noise: Noise, earlier: Sequence[Comparison]) -> tuple[Noise, list[str]]:
    """*noise* with the churn that *earlier* comparisons showed, if they did; and what it rests on, in words."""
    if not noise.score:
        return noise, []  # there is nothing to break
    found = churn_of(noise, earlier)
    if found is None:
        return noise, [
            f"That a change breaks {noise.churn:.0%} of the clusters besides what it mends is assumed: there are no "
            "earlier comparisons of one run against one to tell. More makes gains harder to prove."
        ]
    churn, clusters, comparisons = found
    return noise.model_copy(update={"churn": churn}), [
        f"Earlier changes broke {churn:.1%} of the clusters besides what they mended (n = {clusters:,} in "
        f"{comparisons:,} comparisons); a bolder change breaks more, and its gain is harder to prove."
    ]


# ── what a night can prove ─────────────────────────────────────────────────────────────────────────────────────────


def resolution(
    experiment: Experiment, noise: Noise, a_a: Comparison, alpha: float | None
) -> tuple[float | None, int | None]:
    """The smallest gain that the next promotion test proves with 80 % power, and what size would prove half of it: in
    validation clusters, for ``MetricGate`` in runs of each side. ``None``: there is none, or it is not known."""
    gate = experiment.gate
    if isinstance(gate, MetricGate):
        if a_a.sigma is None:
            return None, None
        gain = provable_metric(a_a.sigma, gate.final, gate.alpha)
        return gain, gate.final if not gain else runs_for(gain / 2, a_a.sigma, gate.alpha)
    if not isinstance(gate, PairedGate) or alpha is None:
        return None, None
    from harness.gate.nights import clusters_for, provable  # here: numpy and scipy, half a second

    gain = provable(noise, clusters_in(experiment.split("validation")), alpha, gate=gate)
    return gain, None if gain is None else clusters_for(noise, gain / 2, alpha, gate=gate)


def power_of_welch(effect: float, runs: int, alpha: float) -> float:
    """Of the one-sided test of so many *runs* against as many, for an *effect* in sigmas. Both sides scatter alike, so
    it is that of Student's test: the noncentral t distribution."""
    from scipy.stats import nct, t  # here: half a second

    freedom = 2 * runs - 2
    return float(nct.sf(t.ppf(1 - alpha, freedom), freedom, effect * math.sqrt(runs / 2)))


def provable_metric(sigma: float, runs: int, alpha: float) -> float:
    """The gain, in the metric's unit, that so many *runs* of each side prove with 80 % power."""
    low, high = 0.0, 1.0
    while power_of_welch(high, runs, alpha) < POWER:
        high *= 2
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if power_of_welch(middle, runs, alpha) >= POWER else (middle, high)
    return sigma * high


def runs_for(gain: float, sigma: float, alpha: float) -> int:
    """Runs of each side that prove *gain* with 80 % power."""
    return next(n for n in itertools.count(2) if power_of_welch(gain / sigma, n, alpha) >= POWER)


# ── what may make a night less than it seems ───────────────────────────────────────────────────────────────────────


def about_the_path(found: Check) -> Iterator[str]:
    a_a, noise = found.a_a, found.noise
    if a_a.verdict is not None and a_a.verdict.verdict == "accept":
        yield (
            f"The live version was found better than itself (A/A on {a_a.tasks} clusters). In a sound set-up that "
            f"happens once in {1 / ALPHA:.0f} checks; else something favours whatever runs second, such as a cache."
        )
    if noise.clusters < FEWEST and not a_a.metric:
        yield f"The noise was measured on {noise.clusters} clusters only, so what follows from it is a guess."


def about_the_grader(experiment: Experiment, found: Check) -> Iterator[str]:
    for name in sorted(models_in(experiment.grader) & models_in(experiment.runner)):
        yield (
            f"The grader asks {name}, the model that it judges. A model grading its own work is not a verifier: give "
            "the grader another model, or compare with targets."
        )
    if found.regraded_differently:
        yield (
            f"The grader disagreed with itself on {found.regraded_differently} of {found.regraded} outputs that it saw "
            "twice. That is noise which no better version can remove: let it answer at temperature 0, or by a "
            "narrower rubric."
        )
    if found.right_refused:
        yield (
            f"The grader refused {found.right_refused} of {found.right_answers} known right answers (the tasks' own "
            "targets), so a version that learns to be right may not be rewarded for it."
        )
    if found.wrong_accepted:
        yield (
            f"The grader accepted {found.wrong_accepted} of {found.wrong_answers} known wrong answers (another task's "
            "target), so a night may learn to be wrong."
        )


def about_the_number(experiment: Experiment, attacks: Sequence[Attack]) -> Iterator[str]:
    """Where a code experiment takes the candidate's word, and what was not tried on it."""
    runner = experiment.runner
    if not isinstance(runner, CommandRunner):
        return
    if any(attack.outcome == "believed" for attack in attacks):
        asked = ", ".join(minds_in(experiment.proposer))
        risk = (
            f"The proposer asks {asked}, and whoever is rewarded for a number may find out that it can be written: do "
            "not leave this alone for a night. Let"
            if asked
            else "A mutation hardly hits on that; a model or a person may. To be safe, let"
        )
        yield (
            f"{runner.metric.name} is the candidate's own word: a version that does nothing but print it was believed. "
            f"{risk} the number be made where no candidate's code runs: metric=Evaluated(…) runs a second command, in "
            "a sandbox of its own, on the files that the first one left; metric=Computed(…) has a function read them."
        )
    if missed := [attack.name for attack in attacks if attack.got == hostile.NO_SANDBOX]:
        yield (
            "There is no sandbox, so what would harm this machine where it succeeds was not tried: "
            f"{', '.join(missed)}."
        )


def minds_in(proposer: object) -> list[str]:
    """The models and coding agents that a proposer asks, and those that it holds."""
    agents = [getattr(part, "agent", None) for part in (proposer, *held_by(proposer))]
    return sorted(models_in(proposer) | {type(agent).__name__ for agent in agents if agent is not None})


def about_the_size(experiment: Experiment, found: Check) -> Iterator[str]:
    gate, noise = experiment.gate, found.noise
    try:
        gate.check(experiment.tasks)
    except UserError as e:
        yield f"`ratchet run` will refuse this: {e}."
    if isinstance(gate, MetricGate):
        yield from about_the_metric(gate, found)
        return
    clusters = clusters_in(experiment.split("validation"))
    if found.alpha is not None and found.provable is None and isinstance(gate, PairedGate):
        yield (
            f"The live version scores {noise.score:.2f} on train. Of the {100 * (1 - noise.score):.1f} points left to "
            f"gain, not even all could be proven on {clusters} validation clusters. Add tasks, and harder ones."
        )
    if noise.is_binary and clusters < ENOUGH:
        yield (
            f"With {clusters} validation clusters, no valid rule certifies a gain of 5 points on scores of 0 and 1; "
            f"that takes at least {ENOUGH}."
        )
    if not noise.discordance and gate.repeats > 1 and noise.clusters >= FEWEST:
        yield (
            f"Two runs of the live version never differed (n = {noise.clusters} clusters), and the gate measures it "
            f"{gate.repeats} times: PairedGate(repeats=1) saves {gate.repeats - 1} of each {gate.repeats} trials."
        )
    if noise.discordance > NOISY and gate.repeats == 1:
        yield (
            f"Two runs of the live version differ on {noise.discordance:.1%} of the clusters (n = {noise.clusters}), "
            "and the gate measures it once: chance keeps more than it need. PairedGate(repeats=3) costs "
            "2 more measurements of train after each keep."
        )


def about_the_metric(gate: MetricGate, found: Check) -> Iterator[str]:
    if gate.repeats == 1:
        yield (
            "Runs are declared not to be repeatable, so nothing is known of their noise: every gain that a night finds "
            "is unconfirmed, and nothing is promoted."
        )
    elif not found.a_a.sigma:
        yield (
            f"All runs gave the same {gate.metric}: either nothing in them is left to chance, or the seed does not "
            "reach it. Then fresh seeds confirm nothing."
        )
    yield (
        f"{gate.metric} is tested by fresh runs: there are no hidden tasks, so a change that fits the tasks themselves "
        "is not found out. What hidden tasks could prove is left out here."
    )


def about_the_cost(experiment: Experiment, found: Check, rounds: float) -> Iterator[str]:
    budget, night = experiment.budget, found.night
    if night.dollars is None:
        yield (
            "What a trial costs in dollars is not known: no price is known for a model that it asks. "
            + ("A run with a limit in dollars will refuse to start. " if budget.dollars else "")
            + "Limit tokens or trials."
        )
    for name in sorted(models_in(experiment.proposer)):
        yield f"The proposer asks {name}; what that costs is not in the figures."
    if budget.rounds is not None and rounds < 0.95 * budget.rounds:
        yield f"The budget ends the night after about {rounds:.0f} of its {budget.rounds} rounds."


def models_in(part: object) -> set[str]:
    """The names of the models that *part* holds, in its fields and theirs."""
    names: set[str] = set()
    seen: set[int] = set()
    todo = [(part, DEEPEST)]
    while todo:
        value, depth = todo.pop()
        if id(value) in seen or not depth:
            continue
        seen.add(id(value))
        if callable(getattr(type(value), "complete", None)) and isinstance(name := getattr(value, "name", None), str):
            names.add(name)
        todo += [(inner, depth - 1) for inner in held_by(value)]
    return names


def held_by(value: object) -> list[object]:
    """What *value* consists of: the items of a container, the fields of an object, what a function has closed over."""
    if isinstance(value, str | bytes | int | float | type | types.ModuleType) or value is None:
        return []
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if inspect.ismethod(value):
        return [value.__self__]
    if inspect.isfunction(value):
        return list(inspect.getclosurevars(value).nonlocals.values())
    slots = [
        getattr(value, name)
        for kind in type(value).__mro__
        for name in getattr(kind, "__slots__", ())
        if hasattr(value, name)
    ]
    return [*getattr(value, "__dict__", {}).values(), *slots]
