"""Whole nights at once: what a rule would promote, and what it would cost, on tasks and proposals that we make up.

The tasks scatter as a ``Noise`` says, the proposals are a declared mix of better, worse and useless ones, so the truth
about each version is known. Thousands of nights take seconds: every step is one array operation over all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.gate.eprocess import TOO_MANY
from harness.gate.paired import V0, PairedGate
from harness.gate.simulate import Floats, Outcomes, decide_all
from traces.records import GateSpec, Noise, Split

Mask = NDArray[np.bool_]

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
HIDDEN: tuple[Split, ...] = ("validation", "test")

STANDARD = Noise(score=0.6, variance=0.17, discordance=0.17, churn=0.01)
"""Of the standard night: two runs of one version differ on 17 % of the tasks, a +10 edit and its incumbent on 24 %."""

CONCENTRATION = 2.0
"""Of the Beta distribution that the tasks' mean scores come from where scores are graded. Where they are 0 or 1, the
discordance fixes it."""

TESTS = 3000
"""Simulated to find a power."""
SIMULATED = 500
"""Clusters up to which tests are simulated as they are."""
SCALED_FROM = 250
"""Clusters of the tests that stand for longer ones."""

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
    gain: float = 0.06
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


DEFAULT = PairedGate()

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
    gate: PairedGate = DEFAULT
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

    def on(self, means: Floats, touched: Floats) -> Floats:
        """*means* after the edit; *touched*, uniform in [0, 1), says what happens to each."""
        return moved(means, touched, self.mended, self.broken, self.depth)


def moved(
    means: Floats, touched: Floats, mended: float | Floats, broken: float | Floats, depth: float | Floats
) -> Floats:
    aim = means.copy()
    aim[touched < mended] = 1.0
    aim[touched >= 1 - broken] = 0.0
    return means + depth * (aim - means)


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
            means[split] = moved(p, rng.random(p.shape), mended, broken, depth)
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

    def orders(self, clusters: int) -> NDArray[np.int64]:
        """For each night the *clusters* in an order of its own."""
        return self._rng.permuted(np.tile(np.arange(clusters), (self.nights, 1)), axis=1)

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


# ── the rules ──────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Nights:
    """How nights ended, one entry a night."""

    promoted: Mask
    """Was anything?"""
    false: Mask
    """Was anything promoted that is truly no better than what it replaced?"""
    gain: Floats
    """True gain of what is live in the end over what was live at the start, on the hidden tasks."""
    claimed: Floats
    """The gain that the rule reports; 0 where it promoted nothing."""
    calls: NDArray[np.int64]
    """Scores bought."""
    train_calls: NDArray[np.int64]
    """The part of them that the search took."""
    kept: NDArray[np.int64]
    """Proposals that the search built on."""


def simulate(spec: NightSpec, nights: int, seed: int = 0) -> Nights:
    """Nights under ``spec.gate``, decided and paid for as ``PairedGate`` and the loop do it.

    ``train``: the working version is measured ``repeats`` times on all clusters at the start and after each keep, where
    the runs that it was kept for count for the first repeat; a candidate once, batch by batch in a random order, until
    the test at ``keep_alpha`` ends. ``validation``: from half-way on (with two checkpoints) as soon as two changes are
    kept, and at the end if there is something new, the working version against the live one, both fresh, at the level
    that e-LOND gives on an unused split; the last one accepted is promoted. ``test``: both once for each that is
    accepted; that gain is what is claimed.

    Not mirrored: guards, lost trials, clusters of several tasks (a call here is one run on one cluster), changes that
    are kept because they are shorter, a stack that is taken apart after it lost, a baseline that is bought anew for its
    age, and limits other than the number of proposals.
    """
    climb = Climb(Worlds(spec, nights, seed))
    for number in range(spec.proposals):
        climb.try_a_change(number)
        due = (number + 1) * spec.gate.checkpoints // spec.proposals
        if due < spec.gate.checkpoints:
            climb.certify((climb.new >= 2) & (climb.done < due), due)
    climb.certify(climb.new > 0, spec.gate.checkpoints)
    return climb.nights()


class Climb:
    """Ratchet's rule on many nights: where each of them stands."""

    def __init__(self, worlds: Worlds) -> None:
        n = worlds.nights
        self.worlds = worlds
        self.working = worlds.live
        self.base: Floats = np.zeros((n, worlds.spec.train))
        """The working version's scores at hand, the mean of its repeats."""
        self.v0: Floats = np.zeros(n)
        self.hidden_calls = np.zeros(n, dtype=np.int64)
        self.train_calls = np.zeros(n, dtype=np.int64)
        self.kept = np.zeros(n, dtype=np.int64)
        self.new = np.zeros(n, dtype=np.int64)
        """Changes kept since the last promotion test."""
        self.done = np.zeros(n, dtype=np.int64)
        """The last checkpoint that was held."""
        self.promotions = np.zeros(n, dtype=np.int64)
        self.false = np.zeros(n, dtype=bool)
        self.gain: Floats = np.zeros(n)
        self.claimed: Floats = np.zeros(n)
        self.measure(np.ones(n, dtype=bool), self.base, np.zeros(self.base.shape, dtype=bool))

    def measure(self, rows: Mask, scores: Floats, known: Mask) -> None:
        """Buy the working version's scores on ``train``; *scores* are those that it was kept for, where *known*."""
        spec, worlds = self.worlds.spec, self.worlds
        runs = np.stack([worlds.scores(self.working, "train", rows, spec.drift) for _ in range(spec.gate.repeats)])
        runs[0] = np.where(known[rows], scores[rows], runs[0])
        self.hold(rows, runs)
        self.train_calls[rows] += spec.gate.repeats * spec.train - known[rows].sum(axis=1)

    def hold(self, rows: Mask, runs: Floats) -> None:
        """Compare with *runs* from now on: repeats by nights by clusters."""
        self.base[rows] = runs.mean(axis=0)
        self.v0[rows] = np.clip(2 * runs.var(axis=0, ddof=1).mean(axis=1), 0.01, V0) if len(runs) > 1 else V0

    def try_a_change(self, number: int) -> None:
        """Keep proposal *number* where it looks good on ``train``."""
        candidate = self.worlds.candidate(self.working, number)
        scores, orders = self.worlds.scores(candidate, "train"), self.worlds.orders(self.worlds.spec.train)
        found = self.compare(np.take_along_axis(scores - self.base, orders, axis=1))
        self.train_calls += found.n
        kept = found.accepted & (found.gain_at_stop > 0)
        self.kept += kept
        self.new += kept
        self.working = self.working.where(kept, candidate)
        if kept.any():
            known = np.zeros(scores.shape, dtype=bool)
            np.put_along_axis(known, orders, np.arange(scores.shape[1]) < found.n[:, None], axis=1)
            self.measure(kept, scores, known)

    def compare(self, differences: Floats) -> Outcomes:
        gate = self.worlds.spec.gate
        return decide_all(differences, declared(differences.shape[1], gate.keep_alpha, gate), v0=self.v0)

    def certify(self, rows: Mask, checkpoint: int) -> None:
        """Test the working version against the live one in the nights of *rows*."""
        if not rows.any():
            return
        gate, worlds = self.worlds.spec.gate, self.worlds
        before, after = (worlds.scores(v, "validation", rows) for v in (worlds.live, self.working))
        level = gate.alpha * (self.promotions[rows] + 1) / gate.horizon
        spec = declared(worlds.spec.validation, gate.alpha, gate)
        found = decide_all(after - before, spec, alpha=level)
        self.hidden_calls[rows] += 2 * found.n
        self.new[rows] = 0
        self.done[rows] = checkpoint
        won = rows.copy()
        won[rows] = found.accepted
        if won.any():
            measured = worlds.scores(self.working, "test", won) - worlds.scores(worlds.live, "test", won)
            self.hidden_calls[won] += 2 * worlds.spec.test
            self.gain[won] = worlds.gain(self.working, worlds.live)[won]
            self.claimed[won] = measured.mean(axis=1)
            self.false |= won & (self.gain <= 0)
            self.promotions += won

    def nights(self) -> Nights:
        calls = self.train_calls + self.hidden_calls
        return Nights(self.promotions > 0, self.false, self.gain, self.claimed, calls, self.train_calls, self.kept)


def keep_if_higher(spec: NightSpec, nights: int, seed: int = 0) -> Nights:
    """The field's rule: what scored higher on ``train`` once is live from then on.

    Each proposal is run once on all of ``train``, against the scores that the incumbent was kept for. What is claimed
    is the sum of the gains seen.
    """
    return keep_if_above(spec, nights, seed, 0.0)


def one_standard_error(spec: NightSpec, nights: int, seed: int = 0) -> Nights:
    """``keep_if_higher``, by more than one standard error of the mean paired difference."""
    return keep_if_above(spec, nights, seed, 1.0)


def keep_if_above(spec: NightSpec, nights: int, seed: int, errors: float) -> Nights:
    worlds = Worlds(spec, nights, seed)
    live = worlds.live
    base = worlds.scores(live, "train", harder=spec.drift)
    claimed: Floats = np.zeros(nights)
    kept = np.zeros(nights, dtype=np.int64)
    false = np.zeros(nights, dtype=bool)
    for number in range(spec.proposals):
        candidate = worlds.candidate(live, number)
        scores = worlds.scores(candidate, "train")
        gain = (scores - base).mean(axis=1)
        above = gain > errors * (scores - base).std(axis=1) / spec.train**0.5
        false |= above & (worlds.gain(candidate, live) <= 0)
        claimed += np.where(above, gain, 0)
        kept += above
        base = np.where(above[:, None], scores, base)
        live = live.where(above, candidate)
    calls = np.full(nights, spec.train * (spec.proposals + 1), dtype=np.int64)
    return Nights(kept > 0, false, worlds.gain(live, worlds.live), claimed, calls, calls, kept)


# ── before the night ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Draws:
    """The chances of many promotion tests, fixed before the gain is: so power grows with the gain and nothing else.

    Tests by clusters: the live version's mean scores, how much they scatter, which clusters an edit touches, and the
    luck of the two runs.
    """

    means: Floats
    depth: Floats
    touched: Floats
    before: Floats
    after: Floats

    @classmethod
    def of(cls, noise: Noise, tests: int, clusters: int, seed: int) -> "Draws":
        rng, scatter, shape = np.random.default_rng([seed, 2]), Scatter.of(noise), (tests, clusters)
        means = scatter.draw(rng, shape)
        depth = np.where(rng.random(shape) < scatter.noisy, scatter.depth, 0.0)
        return cls(means, depth, rng.random(shape), rng.random(shape), rng.random(shape))

    def first(self, tests: int, clusters: int) -> "Draws":
        found = (self.means, self.depth, self.touched, self.before, self.after)
        return Draws(*(of[:tests, :clusters] for of in found))

    def differences(self, effect: Effect) -> Floats:
        """For a candidate with *effect*."""
        p, q = self.means, effect.on(self.means, self.touched)
        return q + self.depth * ((self.after < q) - q) - p - self.depth * ((self.before < p) - p)


@dataclass(frozen=True)
class Plan:
    """A promotion test that is still to be made, of any size: ``spec.n_max`` does not count."""

    noise: Noise
    spec: GateSpec
    draws: Draws

    @classmethod
    def of(cls, noise: Noise, spec: GateSpec, tests: int, seed: int) -> "Plan":
        return cls(noise, spec, Draws.of(noise, tests, min(spec.n_max, SIMULATED), seed))

    def power(self, gain: float, clusters: int) -> float:
        """The chance that *clusters* prove a candidate which is truly better by *gain*.

        A test of more than ``SIMULATED`` is judged by one of ``SCALED_FROM`` that has the same mean difference in units
        of its standard error, and the same ``min_gain`` in those units.
        """
        if clusters <= SIMULATED:
            return self._simulated(gain, self.spec.model_copy(update={"n_max": clusters}))
        ratio = clusters / SCALED_FROM
        stronger = self._stronger(gain, ratio)
        if stronger is None:
            return 1.0
        scaled = {
            "n_max": SCALED_FROM,
            "min_gain": min(self.spec.min_gain * stronger / gain, 1.0),
            "n_min": 2,
            "batch": max(round(self.spec.batch / ratio), 2),
            "v0": max(self._variance(stronger), 1e-9),  # ten differences more or less are nothing among so many
        }
        return self._simulated(stronger, self.spec.model_copy(update=scaled))

    def _simulated(self, gain: float, spec: GateSpec) -> float:
        differences = self.draws.first(TESTS, spec.n_max).differences(Effect.of(self.noise, gain))
        return float(decide_all(differences, spec).accepted.mean())

    def _variance(self, gain: float) -> float:
        """Mean square of the differences."""
        return float((self.draws.first(500, 100).differences(Effect.of(self.noise, gain)) ** 2).mean())

    def _stronger(self, gain: float, ratio: float) -> float | None:
        """The gain that is as many standard errors of 1/ratio of the clusters; ``None`` if none is."""
        wanted = ratio * gain**2 / max(self._variance(gain), 1e-9)
        return least(lambda g: g**2 >= wanted * self._variance(g), gain, 1 - self.noise.score)


def least(holds: Callable[[float], bool], low: float, high: float) -> float | None:
    """The smallest number from *low* to *high* from which on *holds* is true, to 0.3 %; ``None`` if there is none."""
    if high <= 0 or not holds(high):
        return None
    while high - low > 0.003 * high:
        middle = (low + high) / 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


def provable(
    noise: Noise,
    clusters: int,
    alpha: float,
    *,
    power: float = 0.8,
    gate: PairedGate = DEFAULT,
    seed: int = 0,
) -> float | None:
    """The smallest true gain that a promotion test at *alpha* proves with that *power*, by simulation; ``None`` if not
    even a version that solves everything would be proven.

    The live version and the candidate are both run once on each of the *clusters*. The live version scatters as
    *noise* says (``Scatter``). The candidate mends so many clusters that its mean score is higher by the gain, breaks
    ``noise.churn`` of them and mends as many more, all drawn at random (``Effect``); on the others it scatters as the
    live version does. So binary differences of a gain g are +1 in g + churn + r·discordance/2 of the clusters and -1
    in churn + r·discordance/2, r being the share that it leaves alone: 1 - (g + churn)/(1 - score) - churn/score.
    """
    spec = declared(clusters, alpha, gate)
    plan = Plan.of(noise, spec, TESTS, seed)
    return least(lambda gain: plan.power(gain, clusters) >= power, 0.0, 1 - noise.score)


def clusters_for(
    noise: Noise,
    gain: float,
    alpha: float,
    *,
    power: float = 0.8,
    gate: PairedGate = DEFAULT,
    seed: int = 0,
) -> int | None:
    """How many validation clusters prove a true *gain* with that *power*, in the model of ``provable``.

    ``None``: more than a million, or the gain is more than the live version leaves to gain.
    """
    if not 0 < gain <= 1 - noise.score:
        return None
    plan = Plan.of(noise, declared(SIMULATED, alpha, gate), TESTS // 2, seed)
    few, enough = (0, SIMULATED) if plan.power(gain, SIMULATED) >= power else (SIMULATED, TOO_MANY)
    if enough == TOO_MANY and plan.power(gain, TOO_MANY) < power:
        return None
    while enough - few > max(enough // 200, 1):
        n = (few + enough) // 2 if enough < 2 * SIMULATED else round((few * enough) ** 0.5)
        if plan.power(gain, n) >= power:
            enough = n
        else:
            few = n
    return enough


def declared(clusters: int, alpha: float, gate: PairedGate) -> GateSpec:
    """What a test of *gate* on so many *clusters* declares, where nothing is known of the variance."""
    return GateSpec(
        alpha=alpha,
        n_max=clusters,
        min_gain=gate.min_gain,
        futility=gate.futility,
        n_min=gate.batch,
        batch=gate.batch,
        v0=V0,
    )
