"""Whole nights on made-up tasks, and what a promotion test on such tasks can prove."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
import pytest

from harness.gate import GateSpec, PairedGate, decide
from harness.gate.nights import (
    NULL,
    OVERFIT,
    STANDARD,
    Climb,
    Effect,
    Mix,
    NightSpec,
    World,
    Worlds,
    clusters_for,
    keep_if_higher,
    one_standard_error,
    provable,
    simulate,
)
from harness.gate.simulate import Floats, binary, decide_all, graded
from tests.gate.checks import at_most
from traces.records import Grade, Noise, Split, Task, Trial, now

STANDARD_NIGHT = NightSpec()
SMALL = NightSpec(train=60, validation=60, test=30, proposals=10)

DETERMINISTIC = Noise(score=0.6, variance=0.0, discordance=0.0)
CONTINUOUS = Noise(score=0.5, variance=0.02, discordance=1.0, is_binary=False)
PARTIAL_CREDIT = Noise(score=0.7, variance=0.05, discordance=0.15, is_binary=False)
NOISES = {
    "standard": STANDARD,
    "deterministic": DETERMINISTIC,
    "nearly perfect": Noise(score=0.97, variance=0.03, discordance=0.03),
    "as noisy as can be": Noise(score=0.6, variance=0.48, discordance=0.48),
    "continuous": CONTINUOUS,
    "partial credit": PARTIAL_CREDIT,
    "nearly binary": Noise(score=0.6, variance=0.4, discordance=0.45, is_binary=False),
}


def within(found: Floats, expected: float) -> bool:
    """Is the mean of *found* within 4 standard errors (and rounding) of what is *expected*?"""
    return abs(found.mean() - expected) <= 4 * found.std() / math.sqrt(found.size) + 1e-9


# ── the world ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_two_runs_of_one_version_differ_as_the_noise_says(noise: Noise):
    worlds = Worlds(NightSpec(noise=noise), 200, seed=1)
    first, second = (worlds.scores(worlds.live, "train") for _ in range(2))
    assert ((first >= 0) & (first <= 1)).all()
    assert within(first, noise.score)
    assert within((first - second) ** 2, noise.variance)
    if noise is not CONTINUOUS and noise is not NOISES["nearly binary"]:  # those stay below the discordance
        assert within((first != second).astype(float), noise.discordance)
    if noise.is_binary:
        assert set(np.unique(first)) <= {0.0, 1.0}


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
@pytest.mark.parametrize("gain", [0.05, -0.05, 0.3, -0.3])
def test_an_edit_is_worth_what_is_declared_as_far_as_there_is_room(noise: Noise, gain: float):
    mix = Mix(better=1, worse=0, gain=gain) if gain > 0 else Mix(better=0, worse=1, loss=-gain)
    worlds = Worlds(NightSpec(noise=noise, mix=mix), 100, seed=2)
    candidate = worlds.candidate(worlds.live, 0)
    for split in ("train", "validation"):
        change = candidate.means[split] - worlds.live.means[split]
        assert within(change, min(gain, 1 - noise.score))
        assert ((candidate.means[split] >= 0) & (candidate.means[split] <= 1)).all()


def test_an_edit_breaks_tasks_beside_those_that_it_mends():
    worlds = Worlds(NightSpec(noise=DETERMINISTIC, mix=Mix(better=1, worse=0, gain=0.05)), 200, seed=3)
    change = worlds.candidate(worlds.live, 0).means["train"] - worlds.live.means["train"]
    assert within((change < 0).astype(float), DETERMINISTIC.churn)
    assert within((change > 0).astype(float), DETERMINISTIC.churn + 0.05)


def test_on_the_standard_night_a_ten_point_edit_is_24_percent_discordant():
    worlds = Worlds(NightSpec(mix=Mix(better=1, worse=0, gain=0.10)), 500, seed=4)
    old, new = worlds.scores(worlds.live, "train"), worlds.scores(worlds.candidate(worlds.live, 0), "train")
    assert (old != new).mean() == pytest.approx(0.24, abs=0.005)


def test_a_null_proposal_changes_nothing_and_a_train_only_one_nothing_that_is_hidden():
    null = Worlds(replace(SMALL, mix=NULL), 50, seed=5)
    assert all((null.candidate(null.live, 0).means[split] == p).all() for split, p in null.live.means.items())
    worlds = Worlds(replace(STANDARD_NIGHT, mix=Mix(better=0, worse=0, train_only=1)), 100, seed=5)
    learned = worlds.candidate(worlds.live, 0)
    assert (worlds.gain(learned, worlds.live) == 0).all()
    assert within(learned.means["train"] - worlds.live.means["train"], 0.05)


def test_one_night_offers_the_same_proposals_to_every_rule_and_counts_what_each_buys():
    spec = replace(SMALL, mix=Mix(better=0.5, worse=0.5))
    world, other = World(spec, seed=6), World(spec, seed=6)
    other.scores(other.live, "train", np.array([3, 3, 5]))
    assert (world.calls, other.calls) == (0, 3)
    first, same = world.candidate(world.live, 4), other.candidate(other.live, 4)
    assert all((first.means[split] == p).all() for split, p in same.means.items())
    assert world.gain(first) == other.gain(same) != 0 == world.gain(world.live)
    assert world.gain(world.live, over=first) == -world.gain(first)


@pytest.mark.parametrize("rule", [simulate, keep_if_higher, one_standard_error])
def test_the_same_seed_gives_the_same_nights(rule):
    first, again, other = (astuple(rule(SMALL, 30, seed)) for seed in (7, 7, 8))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_shares_and_sizes_that_mean_nothing_are_refused():
    for nonsense in ({"better": 0.9, "worse": 0.2}, {"better": -0.1}):
        with pytest.raises(ValueError, match="not between 0 and 1"):
            Mix(**nonsense)
    with pytest.raises(ValueError, match="sizes"):
        Mix(loss=-0.05)
    with pytest.raises(ValueError, match="counts"):
        NightSpec(proposals=0)


# ── Ratchet's rule ─────────────────────────────────────────────────────────────────────────────────────────────


def test_many_tests_at_once_end_as_each_would_alone():
    rng = np.random.default_rng(9)
    for differences in (binary(rng, 60, 120, 0.05, 0.25), graded(rng, 60, 120, 0.03)):
        alphas = rng.choice([0.0025, 0.005, 0.3, 0.96], 60)
        v0s = rng.choice([0.01, 0.08, 0.2], 60)
        spec = GateSpec(alpha=0.1, n_max=120, margin=0.01)
        found = decide_all(differences, spec, alphas, v0s)
        for i, row in enumerate(differences.tolist()):
            verdict = decide(row, spec.model_copy(update={"alpha": float(alphas[i]), "v0": float(v0s[i])}))
            assert (verdict.verdict == "accept", verdict.verdict == "reject") == (found.accepted[i], found.rejected[i])
            assert verdict.n == found.n[i]
            assert verdict.gain_at_stop == pytest.approx(found.gain_at_stop[i])


@dataclass
class PreparedTrials:
    """Scores of one task a row: the incumbent's repeats, and the candidate."""

    incumbent: Floats
    candidate: Floats

    def clusters(self, split: Split, seed: int) -> list[list[Task]]:
        return [[Task(id=str(i), input=str(i), split=split)] for i in range(len(self.candidate))]

    def baseline(self, version: str, repeats: int, tasks: Sequence[Task] | None = None) -> dict[str, list[Trial]]:
        if tasks is not None:
            return {t.id: [a_trial(version, int(t.id), self.candidate[int(t.id)])] for t in tasks}
        assert repeats == self.incumbent.shape[1]
        return {str(i): [a_trial(version, i, score) for score in row] for i, row in enumerate(self.incumbent)}

    def declare(self, spec: GateSpec) -> GateSpec:
        return spec

    def refresh(self, version: str, because: str, detail: str) -> None:
        raise AssertionError("nothing drifts here")

    def attempt(self, versions: Sequence[str], tasks: Sequence[Task], repeats: int = 1) -> list[Mapping]:
        raise AssertionError("a keep buys nothing that is not its baseline")


def a_trial(version: str, task: int, score: float) -> Trial:
    return Trial(
        id=f"{version}/{task}",
        run="run",
        version=version,
        task=str(task),
        split="train",
        grade=Grade(score=score),
        started=now(),
        seconds=1.0,
    )


def test_what_is_kept_is_what_the_gate_itself_keeps():
    gate = PairedGate()
    spec = NightSpec(train=60, mix=Mix(better=0.5, worse=0.5, gain=0.2), gate=gate)
    rng = np.random.default_rng(10)
    kept = 0
    for _ in range(12):
        repeats = rng.random((60, gate.repeats)) < 0.6
        candidate = rng.random(60) < 0.72
        climb = Climb(Worlds(spec, 1, seed=0))
        climb.hold(np.array([True]), repeats.T[:, None, :].astype(float))
        mirrored = climb.compare(candidate.astype(float) - climb.base)

        trials = PreparedTrials(repeats.astype(float), candidate.astype(float))
        decision = gate.keep("incumbent", "candidate", trials, is_shorter=False, rounds=[])

        assert decision.comparison is not None
        assert decision.comparison.spec is not None
        assert decision.comparison.spec.v0 == pytest.approx(climb.v0[0])
        assert (decision.verdict == "keep") == (mirrored.accepted[0] and mirrored.gain_at_stop[0] > 0)
        assert decision.comparison.tasks == mirrored.n[0]
        kept += decision.verdict == "keep"
    assert 0 < kept < 12


def test_calls_are_counted_by_what_was_bought():
    one = replace(SMALL, proposals=1, mix=NULL)
    found = simulate(one, 200, seed=11)
    candidate = found.train_calls - one.gate.repeats * one.train
    assert ((candidate >= one.gate.batch) & (candidate <= one.train)).all()
    assert (candidate[found.kept > 0] == one.train).all()  # what it was not compared on is bought once it is kept
    hidden = found.calls - found.train_calls
    assert ((hidden > 0) == (found.kept > 0)).all()
    assert (hidden <= 2 * (one.validation + one.test)).all()
    assert (found.claimed[~found.promoted] == 0).all()


NIGHTS = 400


def assert_promotes_at_most(limit: float, spec: NightSpec) -> None:
    assert simulate(spec, NIGHTS, seed=12).promoted.mean() <= at_most(limit, NIGHTS)


def test_a_night_of_proposals_that_change_nothing_promotes_nothing():
    assert_promotes_at_most(0.10, replace(STANDARD_NIGHT, mix=NULL))


@pytest.mark.parametrize("hidden_loss", [0.0, 0.01])
def test_what_helps_on_train_alone_is_not_promoted(hidden_loss: float):
    spec = replace(STANDARD_NIGHT, mix=replace(OVERFIT, hidden_loss=hidden_loss))
    assert keep_if_higher(spec, NIGHTS, seed=12).false.mean() > 0.95
    assert_promotes_at_most(0.05, spec)


def test_a_grader_that_became_milder_promotes_nothing():
    assert_promotes_at_most(0.05, replace(STANDARD_NIGHT, mix=NULL, drift=0.05))


def test_on_the_standard_night_ratchet_promotes_the_gain_and_nothing_false():
    found = simulate(STANDARD_NIGHT, NIGHTS, seed=13)
    assert found.false.mean() <= at_most(0.015, NIGHTS)
    assert 100 * found.gain.mean() >= 11.6 - 3 * error(100 * found.gain)
    assert within(found.claimed - found.gain, 0.0)  # measured once, on tasks of their own: not biased


def test_on_the_standard_night_the_fields_rule_keeps_noise_and_claims_it():
    found = keep_if_higher(STANDARD_NIGHT, NIGHTS, seed=13)
    assert abs(found.false.mean() - 0.99) <= 3 * math.sqrt(0.99 * 0.01 / NIGHTS)
    assert abs(100 * found.gain.mean() - 14) <= 3 * error(100 * found.gain)
    assert (found.claimed - found.gain).mean() > 0.03


def test_ten_proposals_that_change_nothing_pass_the_fields_rules_as_often_as_was_observed():
    spec = NightSpec(train=50, proposals=10, mix=NULL)
    for rule, observed in ((keep_if_higher, 0.87), (one_standard_error, 0.60)):
        promoted = rule(spec, 1000, 14).promoted.mean()
        assert promoted == pytest.approx(observed, abs=3 * math.sqrt(observed * (1 - observed) / 1000) + 0.01)


def error(of: Floats) -> float:
    return float(of.std()) / math.sqrt(len(of))


# ── before the night ───────────────────────────────────────────────────────────────────────────────────────────


def needed(noise: Noise, clusters: int = 60, alpha: float = 0.05) -> float:
    gain = provable(noise, clusters, alpha, seed=15)
    assert gain is not None
    return gain


def test_more_clusters_prove_less_and_more_noise_or_less_alpha_needs_more():
    assert needed(STANDARD, 60) > needed(STANDARD, 120) > needed(STANDARD, 1500) > 0
    assert needed(STANDARD, alpha=0.0025) > needed(STANDARD, alpha=0.05)
    gains = [needed(STANDARD.model_copy(update={"discordance": d, "variance": d})) for d in (0.0, 0.4)]
    assert gains == sorted(gains)
    churns = [needed(STANDARD.model_copy(update={"churn": c})) for c in (0.0, 0.12)]
    assert churns == sorted(churns)
    variances = [needed(CONTINUOUS.model_copy(update={"variance": v})) for v in (0.0, 0.1)]
    assert variances == sorted(variances)


@pytest.mark.parametrize("noise", [STANDARD, DETERMINISTIC, CONTINUOUS, PARTIAL_CREDIT])
def test_the_provable_gain_is_promoted_four_times_in_five_on_nights_of_the_same_noise(noise: Noise):
    gate = PairedGate(alpha=0.05, horizon=1, checkpoints=1, keep_alpha=0.9)
    gain = provable(noise, 100, 0.05, gate=gate)
    assert gain is not None
    mix = Mix(better=1, worse=0, gain=gain)
    found = simulate(NightSpec(validation=100, proposals=1, noise=noise, mix=mix, gate=gate), 3000, seed=16)
    tested = found.promoted[found.kept > 0]
    assert len(tested) > 2500
    assert abs(tested.mean() - 0.80) <= 3 * math.sqrt(0.16 / len(tested) + 0.16 / 3000)


def test_nothing_is_provable_where_nothing_is_left_to_gain():
    perfect = Noise(score=1.0, variance=0.0, discordance=0.0)
    assert provable(perfect, 200, 0.05) is None
    assert clusters_for(perfect, 0.01, 0.05) is None
    nearly = Noise(score=0.97, variance=0.02, discordance=0.02)
    assert provable(nearly, 60, 0.0025) is None
    assert clusters_for(nearly, 0.04, 0.0025) is None
    hopeless = Noise(score=0.0, variance=0.0, discordance=0.0)
    assert 0 < needed(hopeless) < 1


@pytest.mark.parametrize("noise", [STANDARD, CONTINUOUS])
def test_as_many_clusters_as_are_asked_for_prove_the_gain(noise: Noise):
    gain = needed(noise, 100) / 1.5
    clusters = clusters_for(noise, gain, 0.05)
    assert clusters is not None
    assert 100 < clusters <= 500
    assert needed(noise, clusters) == pytest.approx(gain, rel=0.06)


def test_long_tests_are_scaled_to_what_they_would_be():
    clusters = clusters_for(STANDARD, 0.04, 0.0025)
    assert clusters is not None
    assert clusters > 1000
    rng = np.random.default_rng(17)
    effect = Effect.of(STANDARD, 0.04)
    rest = 1 - effect.mended - effect.broken
    wins, losses = 0.04 + STANDARD.churn + rest * 0.085, STANDARD.churn + rest * 0.085
    differences = binary(rng, 500, clusters, wins - losses, wins + losses)
    power = decide_all(differences, GateSpec(alpha=0.0025, n_max=clusters)).accepted.mean()
    assert power == pytest.approx(0.80, abs=3 * math.sqrt(0.16 / 500) + 0.02)


def test_a_gain_that_would_take_more_than_a_million_clusters_is_out_of_reach():
    assert clusters_for(STANDARD, 0.0005, 0.0025) is None
    few, many = clusters_for(STANDARD, 0.01, 0.0025), clusters_for(STANDARD, 0.005, 0.0025)
    assert few is not None
    assert many is not None
    assert many / few == pytest.approx(4, rel=0.05)
