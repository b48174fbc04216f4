"""What a gate would do over many nights whose truth is known, as a table for people."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.gate.nights import NULL, NightSpec, simulate


@dataclass(frozen=True)
class Mean:
    """A simulated mean, with its standard error."""

    value: float
    error: float

    @classmethod
    def of(cls, values: NDArray[np.generic]) -> "Mean":
        found = values.astype(float)
        return cls(float(found.mean()), float(found.std() / np.sqrt(len(found))))


@dataclass(frozen=True)
class Outlook:
    """What nights of one kind come to."""

    spec: NightSpec
    nights: int
    false: Mean
    """Share of nights that promote something which is no better."""
    promoted: Mean
    """Share of nights that promote anything."""
    gain: Mean
    """True gain of what is live in the end."""
    claimed: Mean
    """Gain reported, in the nights that promote something."""
    true_when_promoted: Mean
    calls: Mean
    kept: Mean


def outlook(spec: NightSpec, nights: int, seed: int = 0) -> Outlook:
    found = simulate(spec, nights, seed)
    won = found.promoted if found.promoted.any() else np.ones(nights, dtype=bool)
    return Outlook(
        spec=spec,
        nights=nights,
        false=Mean.of(found.false),
        promoted=Mean.of(found.promoted),
        gain=Mean.of(found.gain),
        claimed=Mean.of(found.claimed[won]),
        true_when_promoted=Mean.of(found.gain[won]),
        calls=Mean.of(found.calls),
        kept=Mean.of(found.kept),
    )


def outlooks(spec: NightSpec, nights: int, seed: int = 0) -> list[tuple[str, Outlook]]:
    """The night as declared, with half and with twice the hidden tasks, and with proposals that change nothing."""
    half = replace(spec, validation=max(spec.validation // 2, 1))
    double = replace(spec, validation=2 * spec.validation)
    kinds = (
        ("as declared", spec),
        (f"{half.validation} validation clusters", half),
        (f"{double.validation} validation clusters", double),
        ("no proposal changes anything", replace(spec, mix=NULL)),
    )
    return [(name, outlook(kind, nights, seed)) for name, kind in kinds]


def render(found: Sequence[tuple[str, Outlook]]) -> str:
    """As Markdown, means with their standard errors."""
    return "\n".join(lines(found)) + "\n"


def lines(found: Sequence[tuple[str, Outlook]]) -> Iterator[str]:
    first = found[0][1]
    spec, noise = first.spec, first.spec.noise
    origin = f"measured on {noise.clusters} clusters" if noise.clusters else "declared"
    yield (
        f"{first.nights:,} simulated nights a row: {spec.proposals} proposals, of which {spec.mix.better:.0%} are "
        f"better by {100 * spec.mix.gain:g} points and {spec.mix.worse:.0%} worse by {100 * spec.mix.loss:g}; "
        f"{spec.train} train, {spec.validation} validation, {spec.test} test clusters; noise {origin}: mean score "
        f"{noise.score:.3f}, two runs of one version differ on {noise.discordance:.1%} of the clusters."
    )
    yield ""
    yield "| night | promotes a false one | promotes any | true gain | reported gain* | true gain* | kept | trials |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for name, o in found:
        yield (
            f"| {name} | {chance(o.false, o.nights)} | {chance(o.promoted, o.nights)} | {points(o.gain)} | "
            f"{points(o.claimed)} | {points(o.true_when_promoted)} | {o.kept.value:.1f} | "
            f"{o.calls.value:,.0f} ± {o.calls.error:,.0f} |"
        )
    yield ""
    yield "Gains in points, ± one standard error; * in the nights that promote something."


def fields(o: Outlook) -> dict[str, float | int]:
    """Flat, for a program."""
    names = ("false", "promoted", "gain", "claimed", "true_when_promoted", "calls", "kept")
    sizes = {"train": o.spec.train, "validation": o.spec.validation, "test": o.spec.test}
    found: dict[str, float | int] = {"nights": o.nights, "proposals": o.spec.proposals, **sizes}
    for name in names:
        mean: Mean = getattr(o, name)
        found |= {name: mean.value, f"{name}_error": mean.error}
    return found


def chance(mean: Mean, n: int) -> str:
    """A share; where it never happened, what it is at most (95 %)."""
    if mean.value == 0:
        return f"0 (≤ {1 - 0.05 ** (1 / n):.4f})"
    return f"{mean.value:.4f} ± {mean.error:.4f}"


def points(mean: Mean) -> str:
    return f"{100 * mean.value:+.1f} ± {100 * mean.error:.1f}"
