"""How long ``ratchet check`` takes, and how well it foretells the smallest gain that a promotion test can prove.

    uv run python -m tests.benchmarks.check

``word_tasks`` with the embedded model. What is foretold is held against tests that are made up here, from another seed
and in another way: pairs of scores drawn cluster by cluster, decided by the gate's own rule. Also for declared noises.
"""

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from analysis.checking import render
from experiments.cli import WORKERS
from experiments.word_tasks.experiment import HERE, experiment
from harness.check import check, open_check
from harness.experiment import clusters_in
from harness.gate import GateSpec, PairedGate
from harness.gate.nights import provable
from harness.gate.paired import V0
from harness.gate.simulate import decide_all
from harness.versions import Repo
from traces.records import Check, Noise

TESTS = 4000
SEED = 20261120
DECLARED = (
    ("deterministic, half solved", Noise(score=0.5, variance=0.0, discordance=0.0, churn=0.06)),
    ("binary, 17 % discordant", Noise(score=0.6, variance=0.17, discordance=0.17, churn=0.01)),
    ("binary, 32 % discordant", Noise(score=0.3, variance=0.32, discordance=0.32, churn=0.06)),
)


def differences(rng: np.random.Generator, noise: Noise, gain: float, clusters: int) -> np.ndarray:
    """Candidate less live version, a test a row: both run once on each of so many binary *clusters*.

    The live version solves a cluster with a chance p of its own, from the Beta distribution that shows the discordance.
    The candidate solves some that it did not, and fails some that it did, for good.
    """
    m, shape = noise.score, (TESTS, clusters)
    unlike = 2 * m * (1 - m) / noise.discordance - 1 if noise.discordance else np.inf  # 1/(a + b) of the Beta
    if unlike == np.inf:
        p = (rng.random(shape) < m).astype(float)
    elif unlike <= 0:
        p = np.full(shape, m)
    else:
        p = rng.beta(m / unlike, (1 - m) / unlike, shape)
    churn = min(noise.churn, m)
    broken = rng.random(shape) < (churn / m if m else 0.0)
    mended = ~broken & (rng.random(shape) < (gain + churn) / (1 - m) / (1 - (churn / m if m else 0.0)))
    q = np.where(broken, 0.0, np.where(mended, 1.0, p))
    return (rng.random(shape) < q).astype(float) - (rng.random(shape) < p)


def smallest(noise: Noise, clusters: int, alpha: float, gate: PairedGate) -> float:
    """The gain that four of five such tests prove, by halving."""
    rng = np.random.default_rng(SEED)
    looks = {"futility": gate.futility, "n_min": gate.batch, "batch": gate.batch}
    spec = GateSpec(alpha=alpha, n_max=clusters, min_gain=gate.min_gain, v0=V0, **looks)
    low, high = 0.0, 1 - noise.score - min(noise.churn, noise.score)
    while high - low > 0.001:
        middle = (low + high) / 2
        power = decide_all(differences(rng, noise, middle, clusters), spec).accepted.mean()
        low, high = (low, middle) if power >= 0.8 else (middle, high)
    return high


def compare(name: str, noise: Noise, clusters: int, alpha: float, gate: PairedGate, foretold: float | None) -> None:
    found = smallest(noise, clusters, alpha, gate)
    assert foretold is not None
    print(f"  {name:<28} n = {clusters:>4}  foretold {foretold:.4f}  found {found:.4f}  ratio {foretold / found:.3f}")


def checked() -> Check:
    """A check of word_tasks from nothing, timed."""
    subject = Repo.find(HERE).subject(experiment.subject)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        with (
            open_check(Path(folder), experiment, subject.live().id) as ledger,
            ThreadPoolExecutor(WORKERS) as executor,
        ):
            found = check(experiment, ledger, subject, executor)
        print(f"ratchet check word_tasks: {time.perf_counter() - begun:.1f} s; must be under 180\n")
    return found


def main() -> None:
    found = checked()
    print(render(found))
    gate = experiment.gate
    assert isinstance(gate, PairedGate)
    assert found.alpha is not None
    print("Smallest provable gain, foretold over found in simulation; must be within 0.75 and 1.25:")
    size = clusters_in(experiment.split("validation"))
    compare("word_tasks, as measured", found.noise, size, found.alpha, gate, found.provable)
    for name, noise in DECLARED:
        for clusters in (100, 200, 600):
            foretold = provable(noise, clusters, found.alpha, gate=gate)
            compare(name, noise, clusters, found.alpha, gate, foretold)


if __name__ == "__main__":
    main()
