"""The gate for graded tasks: candidate against incumbent, paired by cluster, stopped as early as is valid."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from harness.errors import UserError
from harness.gate.confidence import confidence_sequence, mean_interval, score_interval
from harness.gate.eprocess import GateSpec, decide, provable_gain
from harness.gate.lond import alpha_for
from harness.protocols import Trials
from harness.trials import seed_of
from traces.records import Comparison, Decision, Split, Task, Trial

LOST_AT_MOST = 0.05
"""Share of the clusters whose loss to infrastructure errors makes a comparison invalid, see ``Comparison.is_valid``."""

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
    keep_alpha: float = 0.3
    """Not an error-controlled claim: what is kept here still has to be proven."""
    repeats: int = 3
    """How often the incumbent is measured on ``train``. 1 is enough for a model that always answers the same."""
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

    def __post_init__(self) -> None:
        GateSpec(alpha=self.alpha, n_max=1, min_gain=self.min_gain, futility=self.futility, batch=self.batch)
        GateSpec(alpha=self.keep_alpha, n_max=1)
        if self.repeats < 1 or self.checkpoints < 1 or self.horizon < 1:
            raise ValueError("repeats, checkpoints and horizon are counts: at least 1")

    def check(self, clusters: int) -> None:
        """Refuse a validation split of so few *clusters* that a night would be wasted on it.

        Raises:
            UserError: names the smallest gain that it could prove.
        """
        if clusters < self.min_clusters:
            first = alpha_for(self.alpha, self.horizon, 1, 0)
            gain = provable_gain(V0, max(clusters, 1), first)
            raise UserError(
                f"the validation split has {clusters} clusters, and this gate wants {self.min_clusters}: at {clusters} "
                f"the smallest gain that a promotion test can prove is about {min(gain, 1.0):.2f}, so a night would "
                f"likely prove nothing. Add tasks; or accept that, with PairedGate(min_clusters={max(clusters, 1)})"
            )

    def keep(self, incumbent: str, candidate: str, trials: Trials) -> Decision:
        """Decide on ``train`` from fresh candidate trials and the incumbent's scores at hand."""
        base = trials.baseline(incumbent, self.repeats)

        def measure(tasks: Sequence[Task]) -> list[Mapping[str, list[Trial]]]:
            return [base, *trials.attempt([candidate], tasks)]

        spread = [variance(scores) for task in base.values() if len(scores := self._scores(task) or []) > 1]
        v0 = min(max(2 * fmean(spread), 0.01), V0) if spread else V0
        comparison = self._sequential("train", incumbent, candidate, trials, self.keep_alpha, v0, measure)
        if not comparison.is_valid:
            return Decision(
                verdict="inconclusive",
                because="errors",
                detail=f"{comparison.errors} pairs lost to infrastructure errors",
                comparison=comparison,
            )
        assert comparison.verdict is not None
        match comparison.verdict.verdict:
            case "accept":
                return Decision(verdict="keep", because="improved", comparison=comparison)
            case "reject":
                return Decision(verdict="discard", because="no-improvement", comparison=comparison)
            case _:
                return Decision(verdict="inconclusive", because="undecided", comparison=comparison)

    def prove(self, live: str, candidate: str, trials: Trials, alpha: float, split: Split = "validation") -> Comparison:
        """Test whether *candidate* is better, both arms fresh and interleaved in the same batches, at level *alpha*."""

        def measure(tasks: Sequence[Task]) -> list[dict[str, list[Trial]]]:
            return trials.attempt([live, candidate], tasks)

        return self._sequential(split, live, candidate, trials, alpha, V0, measure)

    def measure(self, live: str, candidate: str, trials: Trials) -> Comparison:
        """The gain on all of ``test``, both arms fresh; its interval is clustered and unbiased by any stopping."""
        seed = seed_of("test", live, candidate)
        clusters = trials.clusters("test", seed)
        sides = trials.attempt([live, candidate], [task for cluster in clusters for task in cluster])
        pairs = [(self._mean(cluster, sides[0]), self._mean(cluster, sides[1])) for cluster in clusters]
        comparison = self._comparison("test", live, candidate, seed, pairs)
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

    def _sequential(
        self,
        split: Split,
        incumbent: str,
        candidate: str,
        trials: Trials,
        alpha: float,
        v0: float,
        measure: Callable[[Sequence[Task]], Sequence[Mapping[str, list[Trial]]]],
    ) -> Comparison:
        seed = seed_of(split, incumbent, candidate)
        clusters = trials.clusters(split, seed)
        spec = GateSpec(
            alpha=alpha,
            n_max=len(clusters),
            min_gain=self.min_gain,
            futility=self.futility,
            n_min=self.batch,
            batch=self.batch,
            v0=v0,
        )
        pairs: list[Pair] = []
        differences: list[float] = []
        verdict = decide(differences, spec)
        while verdict.verdict == "continue" and len(pairs) < len(clusters):
            if len(pairs) - len(differences) > LOST_AT_MOST * len(clusters):
                break  # it can mean nothing any more
            ahead = clusters[len(pairs) :][: self.batch - len(differences) % self.batch]
            sides = measure([task for cluster in ahead for task in cluster])
            pairs += [(self._mean(cluster, sides[0]), self._mean(cluster, sides[1])) for cluster in ahead]
            differences = [b - a for a, b in pairs if a is not None and b is not None]
            verdict = decide(differences, spec)
        if verdict.verdict == "continue":  # lost pairs kept it from its deadline: nothing is proven
            verdict = verdict.model_copy(update={"verdict": "undecided"})
        comparison = self._comparison(split, incumbent, candidate, seed, pairs)
        low, high = (
            confidence_sequence(comparison.differences, len(clusters), self.confidence, v0)
            if comparison.tasks
            else (None, None)
        )
        return comparison.model_copy(update={"low": low, "high": high, "verdict": verdict, "alpha": alpha})

    def _comparison(self, split: Split, incumbent: str, candidate: str, seed: int, pairs: Sequence[Pair]) -> Comparison:
        """What *pairs* say, but for an interval and a verdict."""
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
            seed=seed,
            differences=tuple(differences),
            errors=len(pairs) - len(found),
            incumbent_errors=sum(a is None and b is not None for a, b in pairs),
            candidate_errors=sum(b is None and a is not None for a, b in pairs),
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
