"""The gate for graded tasks: candidate against incumbent, paired by cluster, stopped as early as is valid."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from harness.errors import UserError
from harness.experiment import clusters_in
from harness.gate.confidence import confidence_sequence, mean_interval, score_interval
from harness.gate.eprocess import decide, provable_gain
from harness.gate.guards import MUST_PASS_RUNS, cost, failures, latency, look_again, must_pass, slices, tagged
from harness.gate.lond import alpha_for
from harness.protocols import Trials
from harness.trials import drift, seed_of
from traces.records import Comparison, Decision, GateSpec, Guard, Guards, Round, Split, Task, Trial

LOST_AT_MOST = 0.05
"""Share of the clusters whose loss to infrastructure errors makes a comparison invalid, see ``Comparison.is_valid``."""

STRICTER = 0.3
"""Chance of calling a change harmless that takes away as much as the margin, and of calling one harmful that is not."""

V0 = 0.2
"""Variance expected of paired differences where the incumbent was measured once."""

Pair = tuple[float | None, float | None]
"""Mean scores of one cluster: incumbent, candidate; ``None`` where one of its tasks was lost."""


@dataclass(frozen=True)
class PairedGate:
    """Keep on ``train`` when it looks good; promote on ``validation`` when it is proven; report ``test``.

    Scores lie in [0, 1]. The keep decision is cheap and loose (``keep_alpha``): it compares with the incumbent's
    scores at hand. The promotion decision runs both arms fresh, under the error budget of the split.
    """

    alpha: float = 0.10
    """Error budget over the lifetime of a validation split (e-LOND): of what is promoted at most this share is expected
    to be no better; and as long as nothing is better, the chance of promoting anything at all is at most this."""
    horizon: int = 40
    """Promotion tests over which that chance is spread."""
    keep_alpha: float = 0.65
    """Not an error-controlled claim: what is kept here still has to be proven. Looser keeps more useless changes,
    stricter ones lose good ones: ``tests/benchmarks/nights``."""
    repeats: int = 1
    """How often the incumbent is measured on ``train``. More tasks are worth more than more repeats."""
    min_gain: float = 0.03
    """The smallest gain worth having."""
    futility: float = 0.10
    """Conditional power below which a test is given up."""
    batch: int = 10
    """Clusters between two looks."""
    checkpoints: int = 2
    """Certifications declared for a run: the last at its end, the others evenly before."""
    failure_score: float = 0.0
    """What a version is given where it crashes, refuses or runs out of time."""
    confidence: float = 0.90
    """Of the intervals; those of ``test`` included."""
    min_clusters: int = 60
    """Validation clusters under which a run is refused: with fewer, hardly anything real could be proven."""
    simpler: float | None = 0.02
    """A change that leaves less text is kept when it is no worse by more than this on ``train``; ``None``: never."""
    must_pass: tuple[str, ...] = ()
    """Ids of tasks that no promoted version may fail in 2 of 3 fresh runs; of any split."""
    max_cost: float | None = None
    """What a trial may cost, over what it costs with the live version: 1.5 is half as much again; ``None``: any."""
    max_latency: float | None = None
    """The same for the time it takes."""
    floor: float = 0.2
    """What an answer without any work (a constant, the input itself) may score at most on average: see ``ratchet
    check``. Where two answers are possible, a guess scores a half: declare so."""

    def __post_init__(self) -> None:
        GateSpec(alpha=self.alpha, n_max=1, min_gain=self.min_gain, futility=self.futility, batch=self.batch)
        GateSpec(alpha=self.keep_alpha, n_max=1)
        if self.repeats < 1 or self.checkpoints < 1 or self.horizon < 1:
            raise ValueError("repeats, checkpoints and horizon are counts: at least 1")
        if any(cap is not None and not 1 <= cap < 4 for cap in (self.max_cost, self.max_latency)):
            raise ValueError(
                "max_cost and max_latency are ratios to the live version: from 1 to below 4, where they end"
            )
        if not 0 <= self.floor < 1 or (self.simpler is not None and not 0 < self.simpler < 1):
            raise ValueError("floor and simpler are scores: between 0 and 1")

    @property
    def splits(self) -> tuple[Split, ...]:
        return "train", "validation", "test"

    def cost(self, sizes: Mapping[str, int]) -> int:
        """Both arms on all of ``validation`` and ``test``, and the must-pass tasks; a slice run again comes on top."""
        return 2 * (sizes["validation"] + sizes["test"]) + MUST_PASS_RUNS * len(self.must_pass)

    def check(self, tasks: Sequence[Task]) -> None:
        """Refuse tasks on which a night would be wasted.

        Raises:
            UserError: the validation split is too small (names the smallest gain that it could prove), or a must-pass
                task is not there.
        """
        unknown = sorted(set(self.must_pass) - {task.id for task in tasks})
        if unknown:
            raise UserError(
                f"the gate names {len(unknown)} must-pass tasks that the experiment does not have, first "
                f"{unknown[0]!r}, so they would guard nothing. Correct PairedGate(must_pass=…)"
            )
        clusters = clusters_in(task for task in tasks if task.split == "validation")
        if clusters < self.min_clusters:
            first = alpha_for(self.alpha, self.horizon, 1, 0)
            gain = provable_gain(V0, max(clusters, 1), first)
            raise UserError(
                f"the validation split has {clusters} clusters, and this gate wants {self.min_clusters}: at {clusters} "
                f"the smallest gain that a promotion test can prove is about {min(gain, 1.0):.2f}, so a night would "
                f"likely prove nothing. Add tasks; or accept that, with PairedGate(min_clusters={max(clusters, 1)})"
            )

    def keep(
        self, incumbent: str, candidate: str, trials: Trials, *, is_shorter: bool, rounds: Sequence[Round]
    ) -> Decision:
        """Decide on ``train`` from first trials of the candidate and the incumbent's scores at hand.

        The trials of a candidate that is kept are then its scores at hand. They flatter it a little, as it was kept for
        them; so the next keeps are a little stricter.

        A candidate with less text need only be no worse, by the margin ``simpler``.
        """
        margin = self._margin_left(rounds) if is_shorter else 0.0
        comparison = self._against_baseline(incumbent, candidate, trials, margin)
        if comparison.drift:
            return Decision(verdict="inconclusive", because="drift", detail=comparison.drift, comparison=comparison)
        if not comparison.is_valid:
            return Decision(
                verdict="inconclusive",
                because="errors",
                detail=f"{comparison.errors} pairs lost to infrastructure errors",
                comparison=comparison,
            )
        assert comparison.verdict is not None
        assert comparison.gain is not None
        match comparison.verdict.verdict:
            case "accept" if comparison.gain <= -margin:
                detail = "the order of the tasks carried it; on average there is no gain"
                return Decision(verdict="inconclusive", because="undecided", detail=detail, comparison=comparison)
            case "accept":
                assert comparison.spec is not None
                for_gain = comparison.spec.model_copy(update={"margin": 0.0})
                improved = not margin or decide(comparison.differences, for_gain).verdict == "accept"
                return Decision(verdict="keep", because="improved" if improved else "simpler", comparison=comparison)
            case "reject":
                return Decision(verdict="discard", because="no-improvement", comparison=comparison)
            case _:
                return Decision(verdict="inconclusive", because="undecided", comparison=comparison)

    def prove(self, live: str, candidate: str, trials: Trials, alpha: float, split: Split = "validation") -> Comparison:
        """Test whether *candidate* is better, both arms fresh and interleaved in the same batches, at level *alpha*."""

        def measure(tasks: Sequence[Task]) -> list[dict[str, list[Trial]]]:
            return trials.attempt([live, candidate], tasks)

        return self._sequential(split, live, candidate, trials, alpha, V0, 0.0, measure)

    def guard(self, live: str, candidate: str, trials: Trials, again: Trials, validation: Comparison) -> Guards:
        """Slices, failures, cost and latency on the very trials that proved the gain, and the must-pass tasks afresh.

        A slice that looks worse is run once more by both, and only that run decides.
        """
        assert validation.spec is not None
        order = trials.clusters(validation.split, validation.spec.seed)
        clusters = order[: validation.tasks + validation.errors]
        before, after = trials.attempt([live, candidate], [task for cluster in clusters for task in cluster])
        found: list[Guard] = []
        for guard in slices(clusters, before, after, self.failure_score):
            if guard.verdict == "hold":
                slice_tasks = tagged(clusters, guard.name)
                sides = again.attempt([live, candidate], [task for cluster in slice_tasks for task in cluster])
                guard = look_again(guard, slice_tasks, sides[0], sides[1], self.failure_score)
            found.append(guard)
        measured = (
            failures(clusters, before, after),
            cost(clusters, before, after, self.max_cost),
            latency(clusters, before, after, self.max_latency),
        )
        found += [guard for guard in measured if guard is not None]
        named = [
            task
            for split in self.splits
            for cluster in trials.clusters(split, 0)
            for task in cluster
            if task.id in self.must_pass
        ]
        [runs] = again.attempt([candidate], named, MUST_PASS_RUNS)
        found += [must_pass(task.id, runs[task.id]) for task in named]
        return Guards(found=tuple(found))

    def harm(self, incumbent: str, without: str, trials: Trials) -> Comparison:
        """Whether *without* is better than the incumbent, on ``train``, both fresh: the scores at hand are those
        that the changes were kept for."""
        return self.prove(incumbent, without, trials, STRICTER, "train")

    def measure(self, live: str, candidate: str, trials: Trials) -> Comparison:
        """The gain on all of ``test``, both arms fresh; its interval is clustered and unbiased by any stopping."""
        clusters = trials.clusters("test", seed_of("test", live, candidate))
        sides = trials.attempt([live, candidate], [task for cluster in clusters for task in cluster])
        pairs = [(self._mean(cluster, sides[0]), self._mean(cluster, sides[1])) for cluster in clusters]
        comparison = self._comparison("test", live, candidate, pairs, sides)
        low, high = mean_interval(comparison.differences, self.confidence) if comparison.tasks > 1 else (None, None)
        return comparison.model_copy(update={"low": low, "high": high})

    def score(self, trials: Mapping[str, list[Trial]]) -> tuple[float, float, float] | None:
        """Mean score with its interval by cluster; ``None`` when nothing could be scored."""
        clusters: dict[str, list[float]] = {}
        for task in trials.values():
            scores = self._scores(task)
            if scores:
                clusters.setdefault(task[0].cluster or task[0].task, []).append(fmean(scores))
        means = [fmean(scores) for scores in clusters.values()]
        if not means:
            return None
        return (fmean(means), *score_interval(means, self.confidence))

    def _against_baseline(self, incumbent: str, candidate: str, trials: Trials, margin: float) -> Comparison:
        """The candidate's first trials against the incumbent's scores at hand; bought anew if those were measured under
        other conditions than the first batch. What changes later ends the comparison."""
        base = trials.baseline(incumbent, self.repeats)
        spread = [variance(scores) for task in base.values() if len(scores := self._scores(task) or []) > 1]
        v0 = min(max(2 * fmean(spread), 0.01), V0) if spread else V0
        is_first = True

        def measure(tasks: Sequence[Task]) -> list[Mapping[str, list[Trial]]]:
            nonlocal base, is_first
            fresh = trials.baseline(candidate, 1, tasks)
            if is_first and not drift(trial for task in fresh.values() for trial in task):
                changed = drift(trial for side in (base, fresh) for task in side.values() for trial in task)
                if changed:
                    trials.refresh(incumbent, "drift", changed)
                    base = trials.baseline(incumbent, self.repeats)
            is_first = False
            return [base, fresh]

        alpha = min(self.keep_alpha, STRICTER) if margin else self.keep_alpha
        return self._sequential("train", incumbent, candidate, trials, alpha, v0, margin, measure)

    def _margin_left(self, rounds: Sequence[Round]) -> float:
        """What shortenings may still cost: what earlier ones of the run seem to have cost is spent."""
        kept = [r.decision for r in rounds if r.decision is not None and r.decision.because == "simpler"]
        gains = [d.comparison.gain for d in kept if d.comparison is not None and d.comparison.gain is not None]
        return max((self.simpler or 0.0) - sum(max(-gain, 0.0) for gain in gains), 0.0)

    def _sequential(
        self,
        split: Split,
        incumbent: str,
        candidate: str,
        trials: Trials,
        alpha: float,
        v0: float,
        margin: float,
        measure: Callable[[Sequence[Task]], Sequence[Mapping[str, list[Trial]]]],
    ) -> Comparison:
        seed = seed_of(split, incumbent, candidate)
        clusters = trials.clusters(split, seed)
        spec = trials.declare(
            GateSpec(
                alpha=alpha,
                n_max=len(clusters),
                min_gain=0.0 if margin else self.min_gain,
                futility=self.futility,
                n_min=self.batch,
                batch=self.batch,
                v0=v0,
                margin=margin,
                seed=seed,
            )
        )
        seen: list[dict[str, list[Trial]]] = [{}, {}]
        pairs: list[Pair] = []
        differences: list[float] = []
        verdict = decide(differences, spec)
        while verdict.verdict == "continue" and len(pairs) < len(clusters):
            if len(pairs) - len(differences) > LOST_AT_MOST * len(clusters):
                break  # it can mean nothing any more
            ahead = clusters[len(pairs) :][: self.batch - len(differences) % self.batch]
            tasks = [task for cluster in ahead for task in cluster]
            for side, found in zip(seen, measure(tasks), strict=True):
                known = [*side, *(task.id for task in tasks)]  # a baseline may have been bought anew
                side |= {task: found[task] for task in known if task in found}
            if drift(trial for side in seen for task in side.values() for trial in task):
                break  # it would be a test of two different things
            compared = clusters[: len(pairs) + len(ahead)]
            pairs = [(self._mean(cluster, seen[0]), self._mean(cluster, seen[1])) for cluster in compared]
            differences = [b - a for a, b in pairs if a is not None and b is not None]
            verdict = decide(differences, spec)
        if verdict.verdict == "continue":  # lost pairs or drift kept it from its deadline: nothing is proven
            verdict = verdict.model_copy(update={"verdict": "undecided"})
        comparison = self._comparison(split, incumbent, candidate, pairs, seen)
        low, high = (
            confidence_sequence(comparison.differences, len(clusters), self.confidence, spec.v0)
            if comparison.tasks
            else (None, None)
        )
        return comparison.model_copy(update={"low": low, "high": high, "verdict": verdict, "spec": spec})

    def _comparison(
        self,
        split: Split,
        incumbent: str,
        candidate: str,
        pairs: Sequence[Pair],
        sides: Sequence[Mapping[str, list[Trial]]],
    ) -> Comparison:
        """What *pairs* say, but for an interval and a verdict; *sides*: the trials they are from."""
        found = [(a, b) for a, b in pairs if a is not None and b is not None]
        differences = [b - a for a, b in found]
        return Comparison(
            incumbent=incumbent,
            candidate=candidate,
            split=split,
            tasks=len(found),
            incumbent_score=fmean(a for a, _ in found) if found else None,
            candidate_score=fmean(b for _, b in found) if found else None,
            gain=fmean(differences) if found else None,
            low=None,
            high=None,
            confidence=self.confidence,
            differences=tuple(differences),
            errors=len(pairs) - len(found),
            incumbent_errors=sum(a is None and b is not None for a, b in pairs),
            candidate_errors=sum(b is None and a is not None for a, b in pairs),
            drift=drift(trial for side in sides for task in side.values() for trial in task),
        )

    def _mean(self, cluster: Sequence[Task], side: Mapping[str, list[Trial]]) -> float | None:
        """The cluster's mean score; ``None`` if one of its tasks was lost."""
        scores = [self._scores(side[task.id]) for task in cluster]
        return fmean(fmean(s) for s in scores) if all(scores) else None

    def _scores(self, trials: Sequence[Trial]) -> list[float]:
        """Scores of those that have one; a version's own failure counts ``failure_score``."""
        return [
            trial.grade.score if trial.grade is not None else self.failure_score
            for trial in trials
            if not trial.is_lost
        ]
