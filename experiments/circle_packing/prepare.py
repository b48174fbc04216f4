"""What a version of ``pack.py`` is given and may not change: the circles, the chance, the time, and where its answer
goes."""

import json
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

Floats = NDArray[np.float64]

CIRCLES = 26
"""To be put into the unit square."""
STEPS = 40_000
"""That may be taken. They are counted, and no clock is read: a busy machine, or a second trial beside this one, changes
how long it takes and nothing else."""
FITTING = 100
"""Steps that ``fitted`` counts for."""
INSIDE = 1e-12
"""By which radii are smaller than what would just fit."""

chance = np.random.default_rng(int(os.environ["RATCHET_SEED"]))
charged = [0]
first, second = np.triu_indices(CIRCLES, 1)
pairs = np.zeros((len(first), CIRCLES))
pairs[np.arange(len(first)), first] = pairs[np.arange(len(first)), second] = 1


def left() -> int:
    """How many steps may still be taken."""
    return STEPS - charged[0]


def step(number: int = 1) -> None:
    """Charge a step: one look at how all circles overlap. Ends the process where none is left."""
    if number > left():
        raise SystemExit(f"{number} more steps are wanted, and {left()} of {STEPS} are left")
    charged[0] += number


def fitted(centres: Floats) -> Floats:
    """The radii with the largest sum that circles around these *centres* can have, by linear programming."""
    step(FITTING)
    apart = np.linalg.norm(centres[first] - centres[second], axis=1)
    inside = np.minimum(centres, 1 - centres).min(axis=1)
    bounds = [(0, max(0.0, float(most))) for most in inside]
    found = linprog(-np.ones(CIRCLES), A_ub=pairs, b_ub=apart, bounds=bounds, method="highs")
    radii = np.maximum(found.x - INSIDE, 0)
    over = np.zeros(CIRCLES)  # what the solver's own tolerance let through
    np.maximum.at(over, first, radii[first] + radii[second] - apart)
    np.maximum.at(over, second, radii[first] + radii[second] - apart)
    return np.maximum(radii - over, 0)


def answer(centres: Floats, radii: Floats) -> None:
    """Leave the circles: x, y and radius of each."""
    circles = [[float(x), float(y), float(r)] for (x, y), r in zip(centres, radii, strict=True)]
    Path("circles.json").write_text(json.dumps(circles), "utf-8")
