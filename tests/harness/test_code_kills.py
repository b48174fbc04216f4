"""A night of code that is killed by signal 9 at random moments ends as if it had been left alone."""

import random
from pathlib import Path

import pytest

from harness.sandboxes import Bubblewrap
from tests.benchmarks.code_kills import Place, differences, forked, killed_until_it_ends

ROUNDS = 2


def test_killed_again_and_again_it_ends_as_if_left_alone_and_leaves_nothing_behind(tmp_path: Path):
    if why_not := Bubblewrap().works():
        pytest.skip(f"bubblewrap does not work here: {why_not}")
    whole, killed = (Place(tmp_path / name, ROUNDS, final=2).make() for name in ("whole", "killed"))

    killed_until_it_ends(whole, lambda: forked(whole), random.Random(0), 0.0, kills=0)
    killed_until_it_ends(killed, lambda: forked(killed), random.Random(1), 0.4, kills=3)

    assert (whole.kills, killed.kills) == (0, 3)
    assert {what: found for what, found in differences(killed, whole).items() if found} == {}
    assert len(killed.trials) == 18
    assert killed.sizes[-1]["trials' folders"] == killed.sizes[-1]["TMPDIR"] == 0
    assert killed.sizes[-1][".git"] <= 1.1 * whole.sizes[-1][".git"]
