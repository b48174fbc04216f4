"""How well a version foretells: bits per character, of characters that it has never seen."""

import hashlib
import math
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.lib.format import write_array_header_1_0

from harness.sandboxes.folder import Folder

FILE = "predictions.npy"
LEAST = 1e-6
"""Probability that each character has at least: one that was held impossible costs about 20 bits."""


@dataclass(frozen=True)
class BitsPerCharacter:
    """Mean of minus the logarithm of what the version gave the character that followed, lower is better.

    Called with the folder of a trial. The file in it is held against the one header that is right, byte for byte, so
    nothing that a version wrote is parsed, and no size that it names is believed.
    """

    targets: str = field(repr=False)
    """The characters that follow, one for each window."""
    characters: str
    """All that there are, in order."""
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", hashlib.sha256(self.targets.encode()).hexdigest())

    def __call__(self, folder: Folder) -> float:
        """NaN where the model has diverged.

        Raises:
            ValueError: it left something else than as many rows of numbers as there are windows.
        """
        header, shape = self.header(), (len(self.targets), len(self.characters))
        data = folder.read_bytes(FILE)
        if not data.startswith(header):
            seen = data[: len(header)].decode("latin-1").strip()
            raise ValueError(f"{FILE} begins with {seen!r}, and it has to hold float32 of the shape {shape}")
        if len(data) != len(header) + 4 * math.prod(shape):
            raise ValueError(f"{FILE} has {len(data):,} bytes, which is not the shape {shape} that it names")
        found = np.frombuffer(data, "<f4", offset=len(header)).reshape(shape).astype(float)
        if not np.isfinite(found).all():
            return math.nan
        if (found < 0).any():
            raise ValueError(f"{FILE} has {found.min():.3g} in it, which is no probability")
        total = found.sum(axis=1, keepdims=True)
        if not total.all():
            raise ValueError(f"{FILE} has {int((total == 0).sum())} rows that hold every character impossible")
        likely = np.maximum(found / total, LEAST)
        likely /= likely.sum(axis=1, keepdims=True)
        places = [self.characters.index(character) for character in self.targets]
        return float(-np.log2(likely[np.arange(len(places)), places]).mean())

    def header(self) -> bytes:
        """How the file has to begin."""
        buffer = BytesIO()
        shape = (len(self.targets), len(self.characters))
        write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": shape})
        return buffer.getvalue()


def bits_per_character(experiment: Path) -> BitsPerCharacter:
    """By the files of the folder *experiment*."""
    text = (experiment / "data/train.txt").read_text("ascii")
    return BitsPerCharacter((experiment / "hidden/targets.txt").read_text("ascii"), "".join(sorted(set(text))))
