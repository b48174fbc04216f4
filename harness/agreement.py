"""How far a judge agrees with people, and what sways it besides the work: kappa and biases, with their intervals.

A verdict is compared with the mark of a person on the same output, one criterion at a time. Every interval is 90 %
credible under a prior that is worth one observation, spread evenly over the cells (Perks, 1947; for two cells it is
Jeffreys'): it needs no large sample, is never of width 0, and holds what was observed. That of kappa covered it in 81
to 96 % of the samples of each of 48 cases, 89 % on average; Fleiss' large-sample error in 17 to 92 %, 76 % on average
(``tests/benchmarks/kappa.py``: 20 to 200 outputs, 50 to 90 % of which pass, kappa 0 to 0.95).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from traces.records import Agreement, Bias

CONFIDENCE = 0.9
PRIOR = 1.0
"""Observations that the prior is worth, all cells together."""
DRAWS = 10_000
"""From a posterior: its 5 % quantile is then sure to about 0.2 % of probability."""
FEW = 50
"""Outputs below which a kappa says little: at 50 its interval is about 0.4 wide."""

Pair = tuple[bool, bool]
"""Does the judge let it pass, and does a person?"""


@dataclass(frozen=True)
class Verdict:
    """What a judge and people say of one output, on one criterion."""

    output: str
    """Id of the labelled output."""
    criterion: str
    judged: bool
    """Does the judge let it pass?"""
    marked: bool
    """Do people?"""
    length: int
    """Characters of the output."""
    maker: str = ""
    """The model that made it, if it is known."""

    @property
    def pair(self) -> Pair:
        return self.judged, self.marked


# ── agreement ──────────────────────────────────────────────────────────────────────────────────────────────────────


def agreement(criterion: str, pairs: Sequence[Pair]) -> Agreement:
    """Of a judge with people on one *criterion*; *pairs*: one for each output.

    Raises:
        ValueError: there are none.
    """
    if not pairs:
        raise ValueError(f"nothing was judged by {criterion!r}")
    both, lenient, strict, neither = cells(pairs)
    low, high = kappa_interval(pairs)
    found = kappa(pairs)
    return Agreement(
        criterion=criterion,
        n=len(pairs),
        agreed=(both + neither) / len(pairs),
        kappa=found,
        low=low if found is not None else None,
        high=high if found is not None else None,
        false_passes=lenient / (lenient + neither) if lenient + neither else None,
        false_failures=strict / (strict + both) if strict + both else None,
    )


def cells(pairs: Iterable[Pair]) -> tuple[int, int, int, int]:
    """How many both let pass, the judge alone, people alone, and neither."""
    found = [*pairs]
    return (
        found.count((True, True)),
        found.count((True, False)),
        found.count((False, True)),
        found.count((False, False)),
    )


def kappa(pairs: Iterable[Pair]) -> float | None:
    """Cohen's: the share of agreement beyond chance that there is, of all that could be.

    (observed - expected) / (1 - expected), where chance agrees as often as two who know nothing of each other and let
    pass as many as these two: Cohen, "A coefficient of agreement for nominal scales", 1960. ``None``: both say the
    same of everything.
    """
    a, b, c, d = cells(pairs)
    n = a + b + c + d
    by_chance = (a + b) * (a + c) + (c + d) * (b + d)
    return (n * (a + d) - by_chance) / (n * n - by_chance) if n * n > by_chance else None


def kappa_interval(pairs: Sequence[Pair]) -> tuple[float, float]:
    """Where kappa is, by what *pairs* tell, with a chance of 90 %.

    The quantiles of kappa over the posterior of the four cells, a Dirichlet distribution: Basu, Banerjee and Sen,
    "Bayesian inference for kappa from single and multiple studies", Biometrics 56, 2000. Fleiss' large-sample error is
    0 where the two never differed; this is not.
    """
    import numpy as np  # here: whoever starts the command line must not wait for it

    rng = np.random.default_rng(0)  # same data, same interval
    a, b, c, d = rng.dirichlet([cell + PRIOR / 4 for cell in cells(pairs)], DRAWS).T
    by_chance = (a + b) * (a + c) + (c + d) * (b + d)
    drawn = (a + d - by_chance) / (1 - by_chance)
    low, high = (float(q) for q in np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    seen = kappa(pairs)
    return (low, high) if seen is None else (min(low, seen), max(high, seen))


def share_interval(found: float, n: float) -> tuple[float, float]:
    """Of a share: *found* of *n*. Jeffreys' interval: Brown, Cai and DasGupta, "Interval estimation for a binomial
    proportion", 2001."""
    from scipy.special import betaincinv

    tail = (1 - CONFIDENCE) / 2
    a, b = found + PRIOR / 2, n - found + PRIOR / 2
    low = float(betaincinv(a, b, tail)) if found > 0 else 0.0
    return low, float(betaincinv(a, b, 1 - tail)) if found < n else 1.0


# ── what sways it ──────────────────────────────────────────────────────────────────────────────────────────────────


def length_bias(verdicts: Sequence[Verdict]) -> Bias:
    """Is the judge kinder to the longer half of the outputs than people are?"""
    lengths = sorted({verdict.output: verdict.length for verdict in verdicts}.values())
    middle = (lengths[(len(lengths) - 1) // 2] + lengths[len(lengths) // 2]) / 2 if lengths else 0.0
    return kindness("length", [(verdict, verdict.length > middle) for verdict in verdicts])


def own_model_bias(verdicts: Sequence[Verdict], judge: str) -> Bias:
    """Is the judge kinder to what its own model made than to what others did? Without a known maker nothing counts."""
    return kindness("own-model", [(verdict, verdict.maker == judge) for verdict in verdicts if verdict.maker])


def kindness(kind: Literal["length", "own-model"], verdicts: Sequence[tuple[Verdict, bool]]) -> Bias:
    """How much more of the outputs that are singled out it lets pass, of those that people mark alike.

    The difference of the two shares, within each criterion and mark, weighted by n₁n₀/(n₁ + n₀) as Mantel and Haenszel
    do: Greenland and Robins, "Estimation of a common effect parameter from sparse follow-up data", Biometrics 41,
    1985. So it is no bias that longer outputs are better. The interval treats all criteria of an output as one
    observation: it is too wide rather than too narrow.
    """
    import numpy as np

    strata: dict[tuple[str, bool], list[list[bool]]] = {}
    for verdict, singled_out in verdicts:
        strata.setdefault((verdict.criterion, verdict.marked), [[], []])[singled_out].append(verdict.judged)
    usable = [(others, chosen) for others, chosen in strata.values() if others and chosen]
    counted = len({verdict.output for verdict, _ in verdicts})
    if not usable:
        return Bias(kind=kind, effect=None, low=None, high=None, n=counted)
    criteria = len({verdict.criterion for verdict, _ in verdicts})
    weights = np.array([len(o) * len(c) / (len(o) + len(c)) for o, c in usable])
    weights /= weights.sum()
    effect = float(sum(w * (sum(c) / len(c) - sum(o) / len(o)) for w, (o, c) in zip(weights, usable, strict=True)))
    rng = np.random.default_rng(0)

    def drawn(side: Sequence[bool]) -> "np.typing.NDArray[np.float64]":
        passed = sum(side)
        return rng.beta(passed / criteria + PRIOR / 2, (len(side) - passed) / criteria + PRIOR / 2, DRAWS)

    effects = sum(
        (w * (drawn(chosen) - drawn(others)) for w, (others, chosen) in zip(weights, usable, strict=True)),
        start=np.zeros(DRAWS),
    )
    low, high = (float(q) for q in np.quantile(effects, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    return Bias(kind=kind, effect=effect, low=min(low, effect), high=max(high, effect), n=counted)


def position_bias(first: Mapping[str, Mapping[str, bool]], other: Mapping[str, Mapping[str, bool]]) -> Bias:
    """How often a verdict changes when criteria and choices are listed in the other order.

    *first* and *other*: output → criterion → does it pass? What a judge that is asked the same twice changes its mind
    on is part of it. *n* counts verdicts; the interval treats all those of an output as one observation.
    """
    pairs = [
        (marks[criterion], other[output][criterion])
        for output, marks in first.items()
        if output in other
        for criterion in marks
        if criterion in other[output]
    ]
    if not pairs:
        return Bias(kind="position", effect=None, low=None, high=None, n=0)
    changed = sum(before != after for before, after in pairs)
    criteria = max(len(marks) for marks in first.values())
    low, high = share_interval(changed / criteria, len(pairs) / criteria)
    return Bias(kind="position", effect=changed / len(pairs), low=low, high=high, n=len(pairs))
