"""Whole nights at once: what a rule would promote, and what it would cost, on tasks and proposals that we make up.

The tasks scatter as a ``Noise`` says, the proposals are a declared mix of better, worse and useless ones, so the truth
about each version is known. Thousands of nights take seconds: every step is one array operation over all of them.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.gate.paired import PairedGate
from harness.gate.simulate import Floats
from traces.records import Noise, Split

Mask = NDArray[np.bool_]

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
HIDDEN: tuple[Split, ...] = ("validation", "test")

STANDARD = Noise(score=0.6, variance=0.17, discordance=0.17, churn=0.01)
"""Of the standard night: two runs of one version differ on 17 % of the tasks, a +10 edit and its incumbent on 24 %."""

CONCENTRATION = 2.0
"""Of the Beta distribution that the tasks' mean scores come from where scores are graded. Where they are 0 or 1, the
discordance fixes it."""

DEPTH = 0.5
"""How far an edit moves a graded task that it touches: half-way to 1 or to 0. A binary one goes all the way."""

# ── what is declared ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Mix:
    """What proposals are like. Each is drawn independently; what is left to 1 changes nothing."""

    better: float = 0.10
    """Share of proposals."""
    worse: float = 0.20
    train_only: float = 0.0
    """Share of proposals that have learned ``train`` by heart."""
    gain: float = 0.05
    """What a better proposal adds to the mean score of the version that the night starts from; less where there is
    less left to gain."""
    loss: float = 0.05
    """What a worse one takes away."""
    train_gain: float = 0.05
    """What a train-only one adds on ``train``."""
    hidden_loss: float = 0.0
    """What it takes away elsewhere."""

    def __post_init__(self) -> None:
        shares = (self.better, self.worse, self.train_only)
        if min(shares) < 0 or sum(shares) > 1:
            raise ValueError(f"shares of proposals {shares} are not between 0 and 1 in sum")
        if min(self.gain, self.loss, self.train_gain, self.hidden_loss) < 0:
            raise ValueError("gains and losses are sizes: at least 0")


NULL = Mix(better=0.0, worse=0.0)
"""Proposals that change nothing."""
OVERFIT = Mix(better=0.0, worse=0.20, train_only=0.20)
"""A fifth of them help on ``train`` alone, none help elsewhere."""


@dataclass(frozen=True)
class NightSpec:
    """A night to simulate."""

    train: int = 200
    """Clusters."""
    validation: int = 200
    test: int = 100
    proposals: int = 40
    noise: Noise = STANDARD
    mix: Mix = field(default_factory=Mix)
    gate: PairedGate = field(default_factory=PairedGate)
    drift: float = 0.0
    """By how much the incumbent's scores at hand are too low: the grader became milder after they were bought."""

    def __post_init__(self) -> None:
        if min(self.train, self.validation, self.test, self.proposals) < 1:
            raise ValueError("train, validation, test and proposals are counts: at least 1")

    def clusters(self, split: Split) -> int:
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]


# ── the world ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Scatter:
    """How a cluster's score varies from run to run, fitted to a ``Noise``.

    A cluster has a mean score p, drawn from Beta(mean·concentration, (1-mean)·concentration). One run of it scores
    (1-depth)·p + depth·B with B = 1 with probability p, else 0; a share 1-noisy of the clusters always scores p.
    Binary scores have depth 1, all clusters noisy and the concentration that makes 2·E[p(1-p)] the discordance.
    Graded ones have the concentration 2 if that leaves room for the variance, and their depth and share of noisy
    clusters reproduce variance and discordance; the discordance only up to what two values a cluster allow. What no
    scores in [0, 1] could show (a discordance above 2·mean·(1-mean)) is lowered to that.
    """

    mean: float
    concentration: float
    """Infinite: all clusters alike; 0: each always solved or never."""
    depth: float
    noisy: float

    @classmethod
    def of(cls, noise: Noise) -> "Scatter":
        m = noise.score
        most = 2 * m * (1 - m)  # of the variance, where all clusters are alike
        wanted = min(noise.discordance if noise.is_binary else noise.variance, most)
        if noise.is_binary:
            return cls(m, concentration_for(wanted, most), 1.0, 1.0)
        usual = most * CONCENTRATION / (CONCENTRATION + 1)
        concentration = CONCENTRATION if wanted <= usual else concentration_for(wanted, most)
        discordance = max(usual, wanted)
        share = min(noise.discordance / discordance, 1.0) if discordance else 0.0
        if not share:
            return cls(m, concentration, 0.0, 0.0)
        depth = min((wanted / (share * discordance)) ** 0.5, 1.0)
        return cls(m, concentration, depth, share)

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        """Mean scores of new clusters."""
        if self.mean in (0.0, 1.0) or self.concentration == np.inf:
            return np.full(shape, self.mean)
        if self.concentration < 1e-6:
            return (rng.random(shape) < self.mean).astype(float)
        return rng.beta(self.mean * self.concentration, (1 - self.mean) * self.concentration, shape)


def concentration_for(variance: float, most: float) -> float:
    """s with *most*·s/(s+1) = *variance*: a Beta(m·s, (1-m)·s) has E[p(1-p)] = m(1-m)·s/(s+1)."""
    return variance / (most - variance) if variance < most else np.inf


@dataclass(frozen=True)
class Effect:
    """What an edit does to clusters drawn at random: some are mended, some broken, the rest stay as they are."""

    mended: float
    """Share of the clusters that go ``depth`` of the way from their mean score to 1."""
    broken: float
    """Share that go as far to 0."""
    depth: float

    @classmethod
    def of(cls, noise: Noise, gain: float) -> "Effect":
        """An edit that adds *gain* to the mean score m = ``noise.score``.

        Besides the gain it breaks what loses ``noise.churn`` and mends what wins it back: binary, so that the churn is
        the share of clusters whose score is lost; graded, the share of clusters that are touched. A gain beyond 1-m is
        lowered to that, a loss beyond m too, and the churn to what is left of the clusters.
        """
        m = noise.score
        gain = min(max(gain, -m), 1 - m)
        room = 1 - m if gain > 0 else m
        depth = 1.0 if noise.is_binary else max(DEPTH, abs(gain) / room if room else 0.0)
        churn = 0.0
        if 0 < m < 1:
            left = (1 - abs(gain) / (depth * room)) * depth * m * (1 - m)
            churn = max(min(noise.churn * (1 if noise.is_binary else depth * m), left), 0.0)
        up, down = max(gain, 0.0) + churn, max(-gain, 0.0) + churn
        return cls(up / (depth * (1 - m)) if up else 0.0, down / (depth * m) if down else 0.0, depth)


NOTHING = Effect(0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Versions:
    """One version for each night: the mean score of each cluster by split, nights by clusters."""

    means: dict[Split, Floats]

    def where(self, mask: Mask, other: "Versions") -> "Versions":
        """*other* in the nights of *mask*, this one in the rest."""
        return Versions({s: np.where(mask[:, None], other.means[s], p) for s, p in self.means.items()})


class Worlds:
    """Many nights side by side: their tasks, their proposals, and what every version is truly worth.

    Proposals depend on the seed and their number alone, so that each rule meets the same ones. Scores are drawn afresh
    at each call.
    """

    def __init__(self, spec: NightSpec, nights: int, seed: int = 0) -> None:
        self.spec = spec
        self.nights = nights
        self._seed = seed
        self._rng = np.random.default_rng([seed, 0])
        scatter = Scatter.of(spec.noise)
        self.depth: dict[Split, Floats] = {}
        """Of each cluster's scatter; 0 where it always scores the same."""
        means: dict[Split, Floats] = {}
        for split in SPLITS:
            shape = (nights, spec.clusters(split))
            means[split] = scatter.draw(self._rng, shape)
            self.depth[split] = np.where(self._rng.random(shape) < scatter.noisy, scatter.depth, 0.0)
        self.live = Versions(means)
        mix, noise = spec.mix, spec.noise
        better, worse = Effect.of(noise, mix.gain), Effect.of(noise, -mix.loss)
        learned = Effect.of(noise, mix.train_gain)
        elsewhere = Effect.of(noise, -mix.hidden_loss) if mix.hidden_loss else NOTHING
        self._shares = np.array([mix.better, mix.worse, mix.train_only])
        self._effects: dict[Split, tuple[Effect, ...]] = {
            split: (better, worse, learned if split == "train" else elsewhere, NOTHING) for split in SPLITS
        }

    def candidate(self, versions: Versions, number: int) -> Versions:
        """*versions* with proposal *number* applied to each."""
        rng = np.random.default_rng([self._seed, 1, number])
        kind = np.searchsorted(self._shares.cumsum(), rng.random(self.nights), side="right")
        means: dict[Split, Floats] = {}
        for split, p in versions.means.items():
            effects = self._effects[split]
            shares = np.array([(e.mended, e.broken, e.depth) for e in effects], dtype=np.float64)[kind]
            mended, broken, depth = shares[:, :1], shares[:, 1:2], shares[:, 2:]
            luck: Floats = rng.random(p.shape)
            aim = p.copy()
            aim[luck < mended] = 1.0
            aim[luck >= 1 - broken] = 0.0
            means[split] = p + depth * (aim - p)
        return Versions(means)

    def scores(self, versions: Versions, split: Split, rows: Mask | slice = slice(None), harder: float = 0.0) -> Floats:
        """One fresh run on all of *split*, in the nights of *rows* only: nights by clusters.

        *harder*: by how much the grader that is used here scores lower on average.
        """
        p = versions.means[split][rows]
        if harder:
            p = p * (1 - harder / max(self.spec.noise.score, harder))
        return self.run(p, self.depth[split][rows])

    def run(self, means: Floats, depth: Floats) -> Floats:
        """One score for each of these mean scores."""
        return means + depth * ((self._rng.random(means.shape) < means) - means)

    def shuffled(self, differences: Floats) -> Floats:
        """Each row in an order of its own."""
        return self._rng.permuted(differences, axis=1)

    def gain(self, versions: Versions, over: Versions) -> Floats:
        """What *versions* are truly better by on the hidden tasks, ``validation`` and ``test`` together."""
        return np.concatenate([versions.means[s] - over.means[s] for s in HIDDEN], axis=1).mean(axis=1)


@dataclass(frozen=True)
class Version:
    """One version of one night: the mean score of each task, by split."""

    means: dict[Split, Floats]


class World:
    """One night, for any decision rule written in Python: it asks for candidates and scores, and pays for each score.

    ::

        world = World(NightSpec(), seed=7)
        best = world.live
        for number in range(world.spec.proposals):
            candidate = world.candidate(best, number)
            if world.scores(candidate, "train").mean() > world.scores(best, "train").mean():
                best = candidate
        world.gain(best), world.calls
    """

    def __init__(self, spec: NightSpec, seed: int = 0) -> None:
        self.spec = spec
        self.calls = 0
        """Scores bought so far."""
        self._worlds = Worlds(spec, 1, seed)
        self.live = Version({s: p[0] for s, p in self._worlds.live.means.items()})

    def candidate(self, version: Version, number: int) -> Version:
        """*version* with proposal *number* applied; the same proposal whatever the rule did before."""
        wide = Versions({s: p[None] for s, p in version.means.items()})
        return Version({s: p[0] for s, p in self._worlds.candidate(wide, number).means.items()})

    def scores(self, version: Version, split: Split, tasks: NDArray[np.int64] | slice = slice(None)) -> Floats:
        """A fresh run of *version* on *tasks* of *split*, by index; all of them if none are named. Tasks named twice
        are run twice."""
        p = version.means[split][tasks]
        found = self._worlds.run(p, self._worlds.depth[split][0][tasks])
        self.calls += len(found)
        return found

    def gain(self, version: Version, over: Version | None = None) -> float:
        """What *version* is truly better by than *over* (default: the live one) on the hidden tasks."""
        over = over or self.live
        return float(np.concatenate([version.means[s] - over.means[s] for s in HIDDEN]).mean())
