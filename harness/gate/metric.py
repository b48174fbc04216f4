"""The gate for one noisy unbounded number per run, such as the validation loss of a training run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, median, variance
from typing import Literal

from harness.errors import UserError
from harness.gate.confidence import tail
from harness.gate.eprocess import TOO_MANY, Z_80
from harness.protocols import Trials
from harness.trials import drift
from traces.records import Comparison, Decision, Guard, Guards, Round, Split, Task, Trial, Verdict

MARGIN = 0.5
"""In sigmas: what the first run has to gain, and how far apart two versions are held to be equal."""
STEADY = 3.0
"""In sigmas: where the median kept gain is above this, one run tells enough."""
KEEPS = 10
"""Keeps that the median is taken over; with fewer there is none."""
HARM_ALPHA = 0.3
"""Chance of taking out a change that does no harm: as loose as keeping one is."""
MOVED = 3.0
"""In sigmas: how far a run of the incumbent may lie from the mean that it is judged by."""
FROZEN = 3.0
"""In sigmas: what a version has to gain that gives the same number with every seed where the incumbent does not. It may
have solved the problem; or it may hold on to one lucky draw, which no fresh run can tell."""
RESOLUTION = 1e-9
"""Of a metric, relative to its size: what is below is rounding. It stands in for the noise of runs that always give the
same number."""

LARGEST = 1e60
"""A number beyond it is of a run that diverged; its square could not be computed with."""

Sides = Sequence[Mapping[str, Sequence[Trial]]]
"""Trials by task, of the incumbent and of the candidate."""


@dataclass(frozen=True)
class Outcome:
    """What one run gave: one repeat of all tasks by one version."""

    number: float | None
    """Mean over the tasks; ``None`` when one of them gave none."""
    is_lost: bool
    """It has no number, and that says nothing about the version."""
    failure: str
    """Why the version has none, in words."""


@dataclass(frozen=True)
class MetricGate:
    """Keep when a first run and then fresh seeds are better; promote the final version by 5 against 5 fresh runs.

    There are no hidden tasks: a fresh seed is fresh data, which nobody can have fitted. So tasks are ``train``, and
    there is no split whose error budget could be spent: a run has one promotion test, and that has ``alpha`` to itself.

    A task of the split ``test`` is a place where the gain has to carry over to, such as a larger model: no round runs
    it. What has passed the promotion test is run there, too, ``final`` times a side, and blocked where it is no better.

    Where there are several tasks, a run is one repeat of all of them, its number is their mean, and its noise is the
    noise of that mean. Numbers of one unit and about one size belong together; others want an experiment each, or a
    runner that scales them. A run in which a task gives no number has none, and its version failed.

    Gains are positive when better, in the metric's own unit; the two scores stand as they were printed. ``repeats=1``
    says that runs cannot be repeated: then a change is kept when its run is better, as ``unconfirmed``, and nothing is
    promoted. A comparison whose ``sigma`` is ``None`` is unconfirmed: nothing is known of its noise.

    A change of seed, evaluation code, data order or timer is no candidate: keep these outside the subject's directory.
    """

    metric: str
    """Its name, such as ``val_bpb``; the grader finds it."""
    better: Literal["higher", "lower"]
    repeats: int = 3
    """Runs of the incumbent, for its mean and for sigma, the standard deviation of a single run. 1: no repeats."""
    confirm: int = 2
    """Fresh seeds that a candidate has to win on, too."""
    final: int = 5
    """Runs of each side in the promotion test, and again in the measurement after it."""
    recheck: int = 10
    """Rounds after which the incumbent is run once more, beside a candidate: a machine that others use by now, or that
    throttles, gives other numbers than the one that measured it. 0: never."""
    alpha: float = 0.05
    """Chance that the promotion test of a run promotes a version that is no better."""
    confidence: float = 0.90
    """Of the intervals."""

    def __post_init__(self) -> None:
        if not self.metric or self.better not in ("higher", "lower"):
            raise ValueError('name the metric and say which is better, MetricGate("val_bpb", better="lower")')
        if self.repeats < 1 or self.confirm < 1 or self.final < 2 or self.recheck < 0:
            raise ValueError("repeats and confirm are at least 1, final at least 2, recheck at least 0")
        if not 0 < self.alpha < 0.5 or not 0 < self.confidence < 1:
            raise ValueError("alpha is between 0 and 0.5, confidence between 0 and 1")

    @property
    def splits(self) -> tuple[Split, ...]:
        return ("train",)

    @property
    def floor(self) -> float:
        """A text without the metric scores nothing."""
        return 0.0

    @property
    def checkpoints(self) -> int:
        """Only the final version is put to the test."""
        return 1

    @property
    def horizon(self) -> int:
        """There is nothing to spread: see the class."""
        return 1

    def check(self, tasks: Sequence[Task]) -> None:
        """Refuse tasks that would never be run.

        Raises:
            UserError: names the first.
        """
        hidden = [task for task in tasks if task.split == "validation"]
        if hidden:
            raise UserError(
                f"{len(hidden)} tasks are of the split validation, first {hidden[0].id!r}, and MetricGate would never "
                'run them: its fresh data are fresh seeds. Declare them Task(…, split="train"), or split="test" for '
                "where a gain has to carry over to"
            )

    def cost(self, sizes: Mapping[str, int]) -> int:
        """Both sides: the test, where it has to carry over to, and the measurement after it."""
        return 0 if self.repeats == 1 else 2 * self.final * (2 * sizes["train"] + sizes.get("test", 0))

    def keep(
        self, incumbent: str, candidate: str, trials: Trials, *, is_shorter: bool, rounds: Sequence[Round]
    ) -> Decision:
        """Decide from one run of the candidate and, where that is promising, from fresh seeds.

        The first run has to beat the incumbent's mean by more than half a sigma, then the mean of the fresh seeds has
        to beat it. Sigma is pooled with what earlier rounds found. A single run decides once the median gain of the
        last ten keeps is above three sigma. A candidate with less text is kept, too, when neither is worse by more than
        half a sigma.

        A candidate that gives the same number with every seed, where the incumbent does not, has to gain more than
        three sigmas: see ``FROZEN``.

        Now and then the incumbent is run once more, as ``recheck`` says; where that is not within three sigmas of what
        it gave, it is measured afresh.

        The gain is that of the fresh seeds alone: they were not chosen for being good. Its ``differences`` are all runs
        of the candidate, in order, against the incumbent's mean.
        """
        base = trials.baseline(incumbent, self.repeats)
        known = self._known(incumbent, outcomes(base))
        if isinstance(known, Decision):
            return known
        tasks = tasks_of(trials, "train")
        changed = ""
        if self._is_due(base, rounds):
            again, fresh = trials.attempt([incumbent, candidate], tasks)
            changed = moved(known, outcomes(again), pooled(known, incumbent, rounds, self.metric, self.repeats))
        else:
            [fresh] = trials.attempt([candidate], tasks)
        changed = changed or drift_between(base, fresh)
        if changed and not drift_between(fresh):
            trials.refresh(incumbent, "drift", changed)
            base = trials.baseline(incumbent, self.repeats)
            known = self._known(incumbent, outcomes(base))
            if isinstance(known, Decision):
                return known
        sigma = pooled(known, incumbent, rounds, self.metric, self.repeats)
        margin = max(MARGIN * (sigma or 0.0), resolution(known))

        def compare() -> Comparison:
            return self._against(incumbent, candidate, known, outcomes(fresh), sigma, drift_between(base, fresh))

        comparison = compare()
        trouble = self._trouble(candidate, outcomes(fresh), comparison)
        if trouble is not None:
            return trouble
        [first] = comparison.differences
        if first <= margin and not (is_shorter and first >= -margin):
            return Decision(verdict="discard", because="no-improvement", comparison=comparison)
        if self.repeats == 1:
            detail = "" if first > margin else "not worse, and less text"
            return Decision(verdict="keep", because="unconfirmed", detail=detail, comparison=comparison)
        assert sigma is not None
        if first > margin and is_steady(rounds, self.metric, sigma):
            return Decision(verdict="keep", because="improved", comparison=comparison)
        [fresh] = trials.attempt([candidate], tasks, 1 + self.confirm)
        comparison = compare()
        trouble = self._trouble(candidate, outcomes(fresh), comparison)
        if trouble is not None:
            return trouble
        assert comparison.gain is not None
        if is_frozen(known, numbers(outcomes(fresh))) and comparison.gain <= FROZEN * sigma:
            detail = (
                f"it gave {comparison.candidate_score:.6g} with every seed, and the incumbent another number with each"
            )
            return Decision(verdict="discard", because="not-a-candidate", detail=detail, comparison=comparison)
        if first > margin and comparison.gain > resolution(known):
            return Decision(verdict="keep", because="improved", comparison=comparison)
        if is_shorter and comparison.gain >= -margin:
            return Decision(verdict="keep", because="simpler", comparison=comparison)
        return Decision(verdict="discard", because="no-improvement", comparison=comparison)

    def prove(self, live: str, candidate: str, trials: Trials, alpha: float, split: Split = "train") -> Comparison:
        """Welch's one-sided test on fresh runs of both, interleaved, at level *alpha*.

        ``accept`` when p is at most *alpha*, ``reject`` when the candidate's mean is no better or more of its runs
        failed, else ``undecided``. As an e-value the test is all or nothing: 1/alpha when it accepts, else 0, so that
        its mean under the null is at most 1, as it has to be. The interval is Welch's as well; at a ``confidence`` of
        1 - 2 *alpha* it lies above 0 exactly when p is below *alpha*.

        Buys nothing where runs cannot be repeated: ``undecided`` after 0 runs.
        """
        return self._contest(live, candidate, trials, alpha, split, self.final)

    def guard(self, live: str, candidate: str, trials: Trials, again: Trials, validation: Comparison) -> Guards:
        """Does the gain carry over? For each task of ``test`` as many fresh runs of both sides, interleaved.

        It blocks where the mean there is no better, or more runs failed. A gain that is real on ``train`` and gone
        there passes half of the time: read its p.
        """
        found: list[Guard] = []
        for task in tasks_of(trials, "test"):
            sides = trials.attempt([live, candidate], [task], self.final)
            before, after = (outcomes(side) for side in sides)
            fails_more = sum(bool(run.failure) for run in after) > sum(bool(run.failure) for run in before)
            a, b = numbers(before), numbers(after)
            tested = self._welch(a, b)
            gain = tested.gain if tested else None
            carries_over = gain is not None and gain > resolution([*a, *b]) and not fails_more
            found.append(
                Guard(
                    kind="transfer",
                    name=task.id,
                    verdict="pass" if carries_over else "block",
                    n=min(len(a), len(b)),
                    gain=gain,
                    p=tested.p if tested else None,
                )
            )
        return Guards(found=tuple(found))

    def harm(self, incumbent: str, without: str, trials: Trials) -> Comparison:
        """As ``prove``, whether *without* is better than the incumbent, loosely and with ``repeats`` runs of each."""
        return self._contest(incumbent, without, trials, HARM_ALPHA, "train", self.repeats)

    def measure(self, live: str, candidate: str, trials: Trials) -> Comparison:
        """The gain on as many fresh runs again, after those that the promotion test had bought in the same scope.

        The gain that the test saw is no estimate: a version is promoted in the nights in which luck helped. At a true
        gain of one sigma that overstates by half (``tests/benchmarks/metric``). This costs ten runs where something is
        promoted, and nothing where nothing is.
        """
        both = trials.attempt([live, candidate], tasks_of(trials, "train"), 2 * self.final)
        sides = [{task: found[self.final :] for task, found in side.items()} for side in both]
        return self._compare(live, candidate, "train", sides)

    def score(self, trials: Mapping[str, list[Trial]]) -> tuple[float, float, float] | None:
        """Mean over the runs that gave a number, with Student's interval; of a single run, that number three times."""
        found = numbers(outcomes(trials))
        if len(found) < 2:
            return (found[0], found[0], found[0]) if found else None
        mean = fmean(found)
        half = student(len(found) - 1, self.confidence) * math.sqrt(variance(found) / len(found))
        return mean, mean - half, mean + half

    def _is_due(self, base: Mapping[str, Sequence[Trial]], rounds: Sequence[Round]) -> bool:
        """Is it time to run the incumbent again?"""
        if not self.recheck or not rounds:
            return False
        measured = max((trial.round or 0 for task in base.values() for trial in task), default=0)
        age = rounds[-1].number + 1 - measured
        return age > 0 and age % self.recheck == 0

    def _known(self, incumbent: str, runs: Sequence[Outcome]) -> tuple[float, ...] | Decision:
        """The incumbent's numbers, or why they are not enough."""
        found = numbers(runs)
        if len(found) >= min(self.repeats, 2):
            return found
        why = next((run.failure for run in runs if run.failure), "the infrastructure broke")
        detail = f"the incumbent gave {self.metric} in {len(found)} of {len(runs)} runs: {why}"
        return Decision(verdict="inconclusive", because="errors", detail=detail)

    def _trouble(self, candidate: str, runs: Sequence[Outcome], comparison: Comparison) -> Decision | None:
        """Why its runs cannot be compared, if they cannot."""
        if comparison.drift:
            return Decision(verdict="inconclusive", because="drift", detail=comparison.drift, comparison=comparison)
        failed = [run.failure for run in runs if run.failure]
        if failed:
            detail = f"{len(failed)} of {len(runs)} runs gave no {self.metric}: {failed[0]}"
            return Decision(verdict="discard", because="no-improvement", detail=detail, comparison=comparison)
        if comparison.errors:
            detail = f"{comparison.errors} of {len(runs)} runs lost to infrastructure errors"
            return Decision(verdict="inconclusive", because="errors", detail=detail, comparison=comparison)
        return None

    @property
    def _sign(self) -> float:
        return 1.0 if self.better == "higher" else -1.0

    def _against(
        self,
        incumbent: str,
        candidate: str,
        known: Sequence[float],
        runs: Sequence[Outcome],
        sigma: float | None,
        changed: str,
    ) -> Comparison:
        """Runs of the candidate against the mean of the incumbent's numbers; the first counts where it is alone."""
        mean = fmean(known)
        found = numbers(runs)
        counted = found[1:] or found if len(found) == len(runs) else ()
        score = fmean(counted) if counted else None
        lost = sum(run.is_lost for run in runs)
        return Comparison(
            incumbent=incumbent,
            candidate=candidate,
            split="train",
            tasks=len(counted),
            incumbent_score=mean,
            candidate_score=score,
            gain=self._sign * (score - mean) if score is not None else None,
            low=None,
            high=None,
            confidence=self.confidence,
            differences=tuple(self._sign * (number - mean) for number in found),
            errors=lost,
            candidate_errors=lost,
            drift=changed,
            metric=self.metric,
            sigma=sigma,
        )

    def _contest(
        self, incumbent: str, candidate: str, trials: Trials, alpha: float, split: Split, runs: int
    ) -> Comparison:
        """Fresh runs of both, interleaved, with a verdict."""
        if self.repeats == 1:
            sides: Sides = [{}, {}]
        else:
            sides = trials.attempt([incumbent, candidate], tasks_of(trials, split), runs)
        comparison = self._compare(incumbent, candidate, split, sides)
        before, after = (outcomes(side) for side in sides)
        if sum(bool(run.failure) for run in after) > sum(bool(run.failure) for run in before):
            word = "reject"
        else:
            word = self._word(numbers(before), numbers(after), alpha) if comparison.is_valid else "undecided"
        found = Verdict(
            verdict=word,
            e_value=1 / alpha if word == "accept" else 0.0,
            threshold=1 / alpha,
            n=comparison.tasks,
            gain_at_stop=comparison.gain,
            conditional_power=None,
            tasks_to_settle=runs_to_settle(comparison, alpha) if word == "undecided" else None,
        )
        return comparison.model_copy(update={"verdict": found})

    def _word(
        self, before: Sequence[float], after: Sequence[float], alpha: float
    ) -> Literal["accept", "reject", "undecided"]:
        found = self._welch(before, after)
        if found is None:
            return "undecided"
        if found.gain <= resolution([*before, *after]):
            return "reject"
        if is_frozen(before, after) and found.gain <= FROZEN * math.sqrt(variance(before)):
            return "reject"
        return "accept" if found.p <= alpha else "undecided"

    def _welch(self, before: Sequence[float], after: Sequence[float]) -> "Welch | None":
        if min(len(before), len(after)) < 2:
            return None
        return welch([self._sign * x for x in before], [self._sign * x for x in after], self.confidence)

    def _compare(self, incumbent: str, candidate: str, split: Split, sides: Sides) -> Comparison:
        """Two sides, run by run, with Welch's interval."""
        before, after = (outcomes(side) for side in sides)
        a, b = numbers(before), numbers(after)
        pairs = list(zip(before, after, strict=True))
        found = self._welch(a, b)
        lost = sum(x.is_lost or y.is_lost for x, y in pairs)
        return Comparison(
            incumbent=incumbent,
            candidate=candidate,
            split=split,
            tasks=len(pairs) - lost,
            incumbent_score=fmean(a) if a else None,
            candidate_score=fmean(b) if b else None,
            gain=found.gain if found else None,
            low=found.low if found else None,
            high=found.high if found else None,
            confidence=self.confidence,
            differences=tuple(
                self._sign * (y.number - x.number) for x, y in pairs if x.number is not None and y.number is not None
            ),
            errors=lost,
            incumbent_errors=sum(x.is_lost and not y.is_lost for x, y in pairs),
            candidate_errors=sum(y.is_lost and not x.is_lost for x, y in pairs),
            drift=drift_between(*sides),
            metric=self.metric,
            sigma=math.sqrt((variance(a) + variance(b)) / 2) if found else None,
        )


# ── runs ───────────────────────────────────────────────────────────────────────────────────────────────────────


def outcomes(trials: Mapping[str, Sequence[Trial]]) -> list[Outcome]:
    """The runs of one version, by repeat. *trials*: by task."""
    return [outcome(repeat) for repeat in zip(*trials.values(), strict=True)]


def outcome(trials: Sequence[Trial]) -> Outcome:
    """Of one repeat of all tasks. A task without a number has failed, whatever the others were lost to."""
    found: list[float] = []
    failure = ""
    for trial in trials:
        value = trial.grade.value if trial.grade is not None else None
        if value is not None and abs(value) <= LARGEST:
            found.append(value)
        elif not trial.is_lost and not failure:
            failure = trial.error or (trial.grade.reason if trial.grade else "") or f"the grade has value {value}"
            if value is not None:
                failure = f"{value:.6g} is out of range (beyond {LARGEST:g}), so it counts as none"
    is_whole = len(found) == len(trials)
    return Outcome(fmean(found) if is_whole else None, is_lost=not is_whole and not failure, failure=failure)


def numbers(runs: Sequence[Outcome]) -> tuple[float, ...]:
    """Of those that have one, in order."""
    return tuple(run.number for run in runs if run.number is not None)


def tasks_of(trials: Trials, split: Split) -> list[Task]:
    return [task for cluster in trials.clusters(split, 0) for task in cluster]


def drift_between(*sides: Mapping[str, Sequence[Trial]]) -> str:
    return drift(trial for side in sides for task in side.values() for trial in task)


# ── noise ──────────────────────────────────────────────────────────────────────────────────────────────────────


def resolution(values: Sequence[float]) -> float:
    """A gain that rounding alone could make."""
    return RESOLUTION * max(abs(x) for x in values)


def is_frozen(known: Sequence[float], found: Sequence[float]) -> bool:
    """Do the runs of a version give one number whatever the seed, where those of the other, *known*, do not?"""
    return len(found) > 1 and len(set(found)) == 1 and len(set(known)) > 1 and spread(known) > resolution(known)


def spread(values: Sequence[float]) -> float:
    return max(values) - min(values)


def moved(known: Sequence[float], again: Sequence[Outcome], sigma: float | None) -> str:
    """What happened to a version that gave *known* before and gives *again* now, in words; empty: nothing."""
    fresh = numbers(again)
    if not fresh or sigma is None:
        return ""
    off, most = abs(fresh[0] - fmean(known)), MOVED * sigma * math.sqrt(1 + 1 / len(known))
    if off <= max(most, resolution(known)):
        return ""
    far = f", {off / sigma:.1f} sigmas away" if sigma else ""
    return (
        f"the incumbent gave {fresh[0]:.6g} where the mean of its {len(known)} runs was {fmean(known):.6g}{far}: the "
        "machine, or what else runs on it, is not what it was"
    )


def pooled(own: Sequence[float], incumbent: str, rounds: Sequence[Round], metric: str, repeats: int) -> float | None:
    """Sigma from the incumbent's *own* numbers, and from the incumbents that earlier *rounds* compared with.

    The last of their sigmas is pooled over all of them, so it counts for as many runs. ``None``: of a single run.
    """
    earlier = [
        (c.incumbent, c.sigma)
        for round in rounds
        if round.decision is not None and (c := round.decision.comparison) is not None
        if c.metric == metric and c.sigma is not None and c.incumbent != incumbent
    ]
    freedom = (repeats - 1) * len({name for name, _ in earlier})
    if len(own) < 2:
        return None
    squares = (len(own) - 1) * variance(own) + sum(freedom * sigma**2 for _, sigma in earlier[-1:])
    return math.sqrt(squares / (len(own) - 1 + freedom))


def is_steady(rounds: Sequence[Round], metric: str, sigma: float) -> bool:
    """Were the gains kept lately so large that one run shows them?"""
    kept = [
        c.gain
        for round in rounds
        if (d := round.decision) is not None and d.verdict == "keep" and d.because == "improved"
        if (c := d.comparison) is not None and c.metric == metric and c.gain is not None
    ][-KEEPS:]
    return len(kept) == KEEPS and median(kept) > STEADY * sigma


@dataclass(frozen=True)
class Welch:
    """What Welch's t-test says of two samples of unequal variance."""

    gain: float
    """Mean of the second, less mean of the first."""
    low: float
    high: float
    p: float
    """One-sided: the chance of so large a gain if there were none."""


def welch(before: Sequence[float], after: Sequence[float], confidence: float) -> Welch:
    """At least two numbers each. Where neither side varies, rounding stands in for the standard error."""
    from scipy.special import stdtr  # here: importing the gate must not take half a second

    a, b = variance(before) / len(before), variance(after) / len(after)
    gain = fmean(after) - fmean(before)
    error = max(math.sqrt(a + b), resolution([*before, *after]))
    squares = a**2 / (len(before) - 1) + b**2 / (len(after) - 1)
    freedom = (a + b) ** 2 / squares if squares else min(len(before), len(after)) - 1
    half = student(freedom, confidence) * error
    p = float(stdtr(freedom, -gain / error)) if error else 0.5
    return Welch(gain=gain, low=gain - half, high=gain + half, p=p)


def student(freedom: float, confidence: float) -> float:
    """Half the width of Student's interval, in standard errors."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 1 - tail(confidence)))


def runs_to_settle(comparison: Comparison, alpha: float) -> int | None:
    """About how many more runs of each side would prove the observed gain, with 80 % power; ``None``: no number."""
    gain, sigma = comparison.gain, comparison.sigma
    if gain is None or sigma is None or gain <= 0:
        return None
    z = -NormalDist().inv_cdf(alpha)
    effect = gain / sigma if sigma else math.inf
    needed = 2 * (z + Z_80) ** 2 / (effect * effect) if effect * effect else math.inf
    return max(1, math.ceil(needed) - comparison.tasks) if needed < TOO_MANY else None
