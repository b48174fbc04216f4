"""Do the circles fit? In exact arithmetic on the numbers as they stand, so that no rounding can let one through."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Any

from harness.sandboxes.folder import Folder

FILE = "circles.json"
LARGEST = 64 << 10
"""Bytes of the file."""
SHOWN = 80
"""Characters of what is no number that an error repeats."""

Circle = tuple[Fraction, Fraction, Fraction]
"""x, y and radius."""


@dataclass(frozen=True)
class SumOfRadii:
    """Of the circles that a version left in the unit square, higher is better. Called with the folder of a trial."""

    circles: int = 26
    tolerance: Fraction = Fraction(1, 10**9)
    """How far two circles may overlap, and how far one may stand out of the square. With 26 circles it is worth less
    than 3e-8."""

    def __call__(self, folder: Folder) -> float:
        """The sum, rounded once.

        Raises:
            ValueError: it left something else, or the circles do not fit; names the first one or pair.
            FileNotFoundError: it left nothing.
        """
        return self.checked(self.read(folder.read_bytes(FILE, LARGEST)))

    def read(self, data: bytes) -> list[Circle]:
        """The circles in the text ``[[x, y, radius], …]``."""
        found = json.loads(data.decode("utf-8"), parse_constant=refuse)
        if not isinstance(found, list) or len(found) != self.circles:
            seen = f"{len(found)} circles" if isinstance(found, list) else f"no list but a {type(found).__name__}"
            raise ValueError(f"{FILE} holds {seen}, and {self.circles} circles are wanted")
        return [circle(number, one) for number, one in enumerate(found)]

    def checked(self, circles: Sequence[Circle]) -> float:
        """The sum of their radii; raises as a call."""
        allowed = f"and {float(self.tolerance):.0e} is allowed"
        for number, (x, y, radius) in enumerate(circles):
            out = radius - min(x, y, 1 - x, 1 - y)
            if out > self.tolerance:
                raise ValueError(f"circle {number} stands out of the square by {float(out):.6g}, {allowed}")
        for (i, one), (j, other) in combinations(enumerate(circles), 2):
            squared = (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2
            least = one[2] + other[2] - self.tolerance
            if least > 0 and squared < least**2:
                overlap = float(one[2] + other[2]) - float(squared) ** 0.5
                raise ValueError(f"circles {i} and {j} overlap by {overlap:.6g}, {allowed}")
        return float(sum(radius for _, _, radius in circles))


def circle(number: int, found: Any) -> Circle:
    if not isinstance(found, list) or len(found) != 3:
        raise ValueError(f"circle {number} is {repr(found)[:SHOWN]}, and not [x, y, radius]")
    for one in found:
        if isinstance(one, bool) or not isinstance(one, int | float) or not abs(one) <= 1:
            raise ValueError(f"circle {number} is {repr(found)[:SHOWN]}, and three numbers up to 1 are wanted")
    x, y, radius = map(Fraction, found)
    if radius < 0:
        raise ValueError(f"circle {number} has the radius {found[2]!r}")
    return x, y, radius


def refuse(word: str) -> float:
    raise ValueError(f"{FILE} has {word} in it, which is no number")
