"""Packs circles into the unit square: gradient descent from some starts, with overlaps punished, then small jumps.

What it may use is in ``prepare.py``, which stays as it is.
"""

import math

import numpy as np
import prepare
from prepare import Floats

STARTS = 4  # range: 1..40
START = "uniform"  # choices: "uniform", "grid", "hexagons"
JITTER = 0.05  # range: 0.0..0.2
RADIUS = 0.05  # range: 0.01..0.12
DESCENT = 0.5  # range: 0.1..0.95
LEARNING_RATE = 0.02  # range: 0.0005..0.1
COOLING = 1.0  # range: 0.001..1.0
MOMENTUM = 0.9  # range: 0.0..0.99
SMOOTHING = 0.99  # range: 0.8..0.9999
PENALTY = 20.0  # range: 1.0..200.0
GROWTH = 10.0  # range: 1.0..300.0
NOISE = 0.0  # range: 0.0..0.01
JUMP = 0.02  # range: 0.0005..0.1
SHRINKING = 1.0  # range: 0.005..1.0
MOVED = 26  # range: 1..26

CIRCLES = prepare.CIRCLES


def begin() -> Floats:
    """Centres to start from."""
    if START == "uniform":
        return prepare.chance.uniform(0.02, 0.98, (CIRCLES, 2))
    side = math.ceil(math.sqrt(CIRCLES))
    rows, columns = np.divmod(np.arange(side * side), side)
    shift = (rows % 2) / 2 if START == "hexagons" else 0.25
    grid = np.stack([(columns + shift + 0.25) / side, (rows + 0.5) / side], axis=1)
    chosen = prepare.chance.permutation(side * side)[:CIRCLES]
    return np.clip(grid[chosen] + prepare.chance.normal(0, JITTER, (CIRCLES, 2)), 0.02, 0.98)


def slopes(centres: Floats, radii: Floats, penalty: float) -> Floats:
    """Where centres and radii are to go downhill: the sum of radii, less what overlaps and stands out, squared."""
    between = centres[:, None] - centres
    apart = np.sqrt((between**2).sum(axis=2)) + 1e-12
    overlap = np.maximum(radii[:, None] + radii - apart, 0)
    np.fill_diagonal(overlap, 0)
    low = np.maximum(radii[:, None] - centres, 0)
    high = np.maximum(centres + radii[:, None] - 1, 0)
    to_centres = penalty * 2 * (high - low - ((overlap / apart)[:, :, None] * between).sum(axis=1))
    to_radii = -1 + penalty * 2 * (overlap.sum(axis=1) + (low + high).sum(axis=1))
    return np.column_stack([to_centres, to_radii])


def descend(centres: Floats, steps: int) -> Floats:
    """Centres after so many steps."""
    state = np.column_stack([centres, np.full(CIRCLES, RADIUS)])
    mean, square = np.zeros_like(state), np.zeros_like(state)
    for number in range(1, steps + 1):
        prepare.step()
        done = number / steps
        slope = slopes(state[:, :2], state[:, 2], PENALTY * GROWTH**done)
        mean = MOMENTUM * mean + (1 - MOMENTUM) * slope
        square = SMOOTHING * square + (1 - SMOOTHING) * slope * slope
        size = LEARNING_RATE * COOLING**done * math.sqrt(1 - SMOOTHING**number) / (1 - MOMENTUM**number)
        state = state - size * mean / (np.sqrt(square) + 1e-8)
        if NOISE:
            state = state + prepare.chance.normal(0, NOISE * (1 - done), state.shape)
        state = np.clip(state, 0, 1)
    return state[:, :2]


def jump(centres: Floats, radii: Floats) -> tuple[Floats, Floats]:
    """Move some circles by chance, and stay where the sum of radii is larger, until no step is left."""
    begun = prepare.left()
    while prepare.left() >= prepare.FITTING:
        scale = JUMP * SHRINKING ** (1 - prepare.left() / begun)
        moved = np.zeros((CIRCLES, 1))
        moved[prepare.chance.choice(CIRCLES, MOVED, replace=False)] = 1
        tried = np.clip(centres + moved * prepare.chance.normal(0, scale, centres.shape), 0, 1)
        fitted = prepare.fitted(tried)
        if fitted.sum() > radii.sum():
            centres, radii = tried, fitted
    return centres, radii


def total(found: tuple[Floats, Floats]) -> float:
    """The sum of the radii."""
    return float(found[1].sum())


def main() -> None:
    steps = int(DESCENT * prepare.STEPS / STARTS) - prepare.FITTING
    ends = [descend(begin(), max(1, steps)) for _ in range(STARTS)]
    found = [(centres, prepare.fitted(centres)) for centres in ends]
    centres, radii = jump(*max(found, key=total))
    print(f"starts: {', '.join(f'{fitted.sum():.4f}' for _, fitted in found)}; then {radii.sum():.4f}")
    prepare.answer(centres, radii)


if __name__ == "__main__":
    main()
