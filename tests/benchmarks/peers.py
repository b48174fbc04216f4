"""Our gate beside the decision functions of others, on the same made-up nights, printed as Markdown.

    uv run --group peers python -m tests.benchmarks.peers [NIGHTS]

300 nights a row take about half an hour on two cores. Without the group it prints our rows only. Everything is
seeded, but for agent-self-edit's permutations. The rules and the choices made for each are in ``peer_rules``.
"""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from harness.gate import nights
from harness.gate.nights import NULL, NightSpec
from tests.benchmarks import peer_rules
from tests.benchmarks.peer_rules import Night

PACKAGES = ("gepa", "skillopt", "agent_self_edit")

MOST_FALSE = 0.20
"""Share of null nights with a promotion above which a rule's gain is not worth comparing."""

MANY = 10_000
"""Nights for what only rules that are simulated many nights at once are asked."""


@dataclass(frozen=True)
class Rule:
    name: str
    decides_from: str
    """Which task runs, on the standard night."""
    play: Callable[[NightSpec, int], Night]
    """One night, by its seed."""


RATCHET = Rule("Ratchet", "train 200, validation 200, test 100", peer_rules.ratchet)
HIGHER = Rule("keep-if-higher", "train 200", peer_rules.keep_if_higher)
ERROR = Rule("one standard error", "train 200", peer_rules.one_standard_error)
PEERS = (
    Rule("gepa", "3 of 320, then 80: as it recommends", peer_rules.gepa_as_recommended),
    Rule("skillopt", "validation 200", peer_rules.skillopt),
    Rule("agent-self-edit", "validation 40, both arms: as it recommends", peer_rules.agent_self_edit_as_recommended),
)
"""As their documentation recommends."""
LARGER = (
    Rule("gepa, all tasks", "train 3 of 200, then validation 200", peer_rules.gepa_on_our_splits),
    Rule("agent-self-edit, all tasks", "validation 200, both arms", peer_rules.agent_self_edit_on_our_splits),
)
"""With all tasks of the standard night, which is more than they recommend; on small campaigns it is the same."""


def main(count: int) -> None:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    rules = (RATCHET, HIGHER, ERROR, *(() if missing else PEERS))
    with ProcessPoolExecutor() as pool:

        def play(rule: Rule, spec: NightSpec, seeds: int) -> list[Night]:
            return list(pool.map(partial(rule.play, spec), range(seeds), chunksize=10))

        print(f"{count} nights of 40 proposals a row, the same for each; ± one standard error; gains in points\n")
        print(
            "| rule | decides from | null night: P(any false promotion) | standard night: P(any false promotion) "
            "| P(no better in the end) | true gain | claimed gain | calls | true gain per 1,000 calls |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        null: dict[Rule, list[Night]] = {}
        standard: dict[Rule, list[Night]] = {}
        for rule in (*rules, *(() if missing else LARGER)):
            null[rule] = play(rule, NightSpec(mix=NULL), count)
            standard[rule] = play(rule, NightSpec(), count)
            print(row(rule, null[rule], standard[rule]), flush=True)
        print()
        for line in targets(null, standard):
            print(f"- {line}")

        print(f"\nProposals that change nothing, 20 binary tasks a split, {10 * count} campaigns\n")
        print("| rule | promotes a single proposal | promotes any of ten |\n|---|---|---|")
        for rule in rules:
            one, ten = (play(rule, small(proposals), 10 * count) for proposals in (1, 10))
            print(f"| {rule.name} | {share(n.promoted for n in one)} | {share(n.promoted for n in ten)} |", flush=True)
        if not missing:
            pools = list(pool.map(partial(peer_rules.gepa_pool, small(10)), range(count), chunksize=10))
            print(f"\nGEPA takes {share(x for pool in pools for x in pool)} of these proposals into its pool.")
    if missing:
        print(f"\nNot installed: {', '.join(missing)}. For the rows of the peers, type:")
        print("\n    uv run --group peers python -m tests.benchmarks.peers")


def small(proposals: int) -> NightSpec:
    """A campaign on 20 tasks a split. Our gate would refuse to begin: it wants 60 validation clusters."""
    return NightSpec(train=20, validation=20, test=20, proposals=proposals, mix=NULL)


def row(rule: Rule, null: Sequence[Night], standard: Sequence[Night]) -> str:
    cells = (
        rule.name,
        rule.decides_from,
        share(n.false for n in null),
        share(n.false for n in standard),
        share(n.promoted and n.gain <= 0 for n in standard),
        points(gains(standard)),
        points(np.array([n.claimed for n in standard])),
        f"{calls(standard).mean():,.0f}",
        "{:.2f} ± {:.2f}".format(*per_thousand(standard)),
    )
    return f"| {' | '.join(cells)} |"


def targets(null: dict[Rule, list[Night]], standard: dict[Rule, list[Night]]) -> Iterator[str]:
    """What Ratchet has to show, and whether it does."""
    false, error = proportion([n.false for n in null[RATCHET]])
    yield (
        f"P(any false promotion) on null proposals at or under .10: {answer(0.10 - false, error)} "
        f"({false:.3f} ± {error:.3f})"
    )

    ours, error = per_thousand(standard[RATCHET])
    rivals = [rule for rule in null if rule is not RATCHET and np.mean([n.false for n in null[rule]]) < MOST_FALSE]
    for rule in rivals:
        theirs, other = per_thousand(standard[rule])
        yield (
            f"true gain per 1,000 calls, {ours:.2f}, at least {theirs:.2f} of {rule.name}, which keeps that P under "
            f"{MOST_FALSE:.2f}: {answer(ours - theirs, math.hypot(error, other))}"
        )

    ratchet, higher = nights.simulate(NightSpec(), MANY), nights.keep_if_higher(NightSpec(), MANY)
    kept, error = ratio(ratchet.gain, higher.gain)
    here, rough = ratio(gains(standard[RATCHET]), gains(standard[HIGHER]))
    yield (
        f"true gain at least 0.85 of keep-if-higher's: {answer(kept - 0.85, error)} ({kept:.3f} ± {error:.3f} on "
        f"{MANY:,} other nights, {here:.2f} ± {rough:.2f} on these)"
    )


def answer(above: float, error: float) -> str:
    """What to say of a target that is missed or passed by so much."""
    if abs(above) < 2 * error:
        return "too close to call"
    return "holds" if above > 0 else "does not hold"


# ── numbers ────────────────────────────────────────────────────────────────────────────────────────────────────


def gains(played: Sequence[Night]) -> NDArray[np.float64]:
    return np.array([n.gain for n in played])


def calls(played: Sequence[Night]) -> NDArray[np.float64]:
    return np.array([n.calls for n in played], dtype=np.float64)


def per_thousand(played: Sequence[Night]) -> tuple[float, float]:
    """Points of true gain for 1,000 calls, and its standard error."""
    value, error = ratio(gains(played), calls(played))
    return 1e5 * value, 1e5 * error


def ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> tuple[float, float]:
    """Of two means over the same nights, with its standard error (delta method)."""
    value = above.mean() / below.mean()
    error = (above - value * below).std(ddof=1) / (below.mean() * math.sqrt(len(above)))
    return float(value), float(error)


def points(values: NDArray[np.float64]) -> str:
    return f"{100 * values.mean():+.1f} ± {100 * values.std(ddof=1) / math.sqrt(len(values)):.1f}"


def share(of: Iterable[bool]) -> str:
    return "{:.3f} ± {:.3f}".format(*proportion(list(of)))


def proportion(of: Sequence[bool]) -> tuple[float, float]:
    """And its standard error: of the add-one estimate, so that no error is 0."""
    n = len(of)
    p = (sum(of) + 1) / (n + 2)
    return sum(of) / n, math.sqrt(p * (1 - p) / n)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
