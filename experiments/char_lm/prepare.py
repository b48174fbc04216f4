"""What a version of ``train.py`` is given and may not change: the text, the chance, the time, and where its answer
goes."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]
Floats = NDArray[np.floating[Any]]

WINDOW = 40
"""Characters that are shown before the one to foretell."""
SECONDS = 3.0
"""To learn in. They are charged by what is done, see ``batch``, and not read from a clock: a busy machine, or a second
trial beside this one, changes how long it takes and nothing else."""
STEP, CHARACTER, PARAMETER, PRODUCT = 50e-6, 0.2e-6, 2.5e-9, 0.1e-9
"""Seconds for a step, for each character that it reads, for each parameter that it changes, and for each parameter and
example. Fitted to eleven sizes on one core of the machine that this was written on, each within a third."""

chance = np.random.default_rng(int(os.environ["RATCHET_SEED"]))
characters = sorted(set(Path("data/train.txt").read_text("ascii")))
"""The place of a character is its number."""
charged = [0.0]


def encoded(path: str) -> Tokens:
    numbers = np.zeros(128, np.int64)
    numbers[[ord(c) for c in characters]] = np.arange(len(characters))
    return numbers[np.frombuffer(Path(path).read_bytes(), np.uint8)]


text = encoded("data/train.txt")
windows = encoded("data/contexts.txt").reshape(-1, WINDOW)
"""What to foretell the next character of."""


def batch(size: int, context: int, parameters: int) -> tuple[Tokens, Tokens]:
    """*size* places of the text: the *context* characters before each, and the character there.

    Charges one step of a model that has so many *parameters*, embeddings included. Ends the process where no time is
    left.
    """
    if spent() >= 1:
        raise SystemExit(f"another batch is wanted, and the {SECONDS:g} seconds are spent")
    charged[0] += STEP + size * context * CHARACTER + parameters * (PARAMETER + size * PRODUCT)
    at = chance.integers(context, len(text), size)
    return text[at[:, None] + np.arange(-context, 0)], text[at]


def spent() -> float:
    """The share of the time that is gone; at 1 the learning is over."""
    return charged[0] / SECONDS


def answer(probabilities: Floats) -> None:
    """Leave what is foretold: a row for each of ``windows``, a column for each of ``characters``."""
    np.save("predictions.npy", probabilities.astype(np.float32))
