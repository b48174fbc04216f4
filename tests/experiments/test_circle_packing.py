"""The shipped packing of circles: its checker, which no rounding and no rubbish gets past, and a real trial."""

import dataclasses
import json
import math
import random
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.circle_packing.checker import FILE, LARGEST, SumOfRadii
from experiments.circle_packing.experiment import HERE, METRIC, experiment
from harness.errors import TrialError
from harness.graders.metric import reported
from harness.sandboxes.folder import Folder

CHECKER = SumOfRadii()
TOLERANCE = CHECKER.tolerance
HAIR = Fraction(1, 10**30)
"""Far below what a float could tell."""
SOURCE = (HERE / "code/pack.py").read_text("utf-8")
SIDE = 6
GRID = [[(i % SIDE + 0.5) / SIDE, (i // SIDE + 0.5) / SIDE, 0.08] for i in range(CHECKER.circles)]


def judged(circles: object) -> float:
    return CHECKER.checked(CHECKER.read(json.dumps(circles).encode()))


def changed(number: int, circle: object) -> list[object]:
    return [*GRID[:number], circle, *GRID[number + 1 :]]


# ── what fits ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_circles_that_fit_are_worth_the_sum_of_their_radii():
    assert judged(GRID) == pytest.approx(26 * 0.08)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_circles_that_fit_still_do_when_they_shrink(seed):
    rng = random.Random(seed)
    smaller = [[x, y, r * rng.random()] for x, y, r in GRID]

    assert judged(smaller) == pytest.approx(math.fsum(r for _, _, r in smaller))


@settings(max_examples=40, deadline=None)
@given(pair=st.sets(st.integers(0, 25), min_size=2, max_size=2), by=st.floats(1e-8, 0.015))
def test_two_circles_that_overlap_are_named(pair, by):
    i, j = sorted(pair)
    points = [[x, y, 0.0] for x, y, _ in GRID]
    (x, y, _), (u, v, _) = GRID[i], GRID[j]
    share = (0.02 - by) / math.dist((x, y), (u, v))
    points[i][2] = points[j][2] = 0.01
    points[j][:2] = [x + share * (u - x), y + share * (v - y)]

    with pytest.raises(ValueError, match=f"circles {i} and {j} overlap by"):
        judged(points)


@pytest.mark.parametrize(
    "circle", [[0.05, 0.5, 0.06], [0.95, 0.5, 0.06], [0.5, 0.05, 0.06], [0.5, 0.95, 0.06], [-0.1, 0.5, 0.0]]
)
def test_a_circle_that_stands_out_of_the_square_is_named(circle):
    points = [[0.5, 0.5, 0.0]] * 25

    with pytest.raises(ValueError, match="circle 25 stands out of the square by"):
        judged([*points, circle])


def test_two_circles_may_overlap_by_the_tolerance_and_no_more():
    corner, half = (Fraction(0), Fraction(0), Fraction(0)), Fraction(1, 2)

    def at(radius: Fraction) -> float:
        return CHECKER.checked([(half / 2, half, radius), (3 * half / 2, half, radius), *[corner] * 24])

    assert at((half + TOLERANCE) / 2) == 0.5 + 1e-9
    with pytest.raises(ValueError, match="circles 0 and 1 overlap by"):
        at((half + TOLERANCE) / 2 + HAIR)


def test_the_wall_may_be_passed_by_the_tolerance_and_no_more():
    points = [(Fraction(1, 2), Fraction(1, 2), Fraction(0))] * 25
    radius = Fraction(1, 8)

    def at(x: Fraction) -> float:
        return CHECKER.checked([*points, (x, Fraction(1, 4), radius)])

    assert at(radius - TOLERANCE) == 0.125
    with pytest.raises(ValueError, match="circle 25 stands out"):
        at(radius - TOLERANCE - HAIR)


# ── rubbish ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "circle",
    [
        [0.5, 0.5, -0.1],
        [0.5, 0.5, 1e300],
        [0.5, 0.5, 10**200],
        [0.5, "0.5", 0.1],
        [0.5, 0.5, True],
        [False, 0.5, 0.1],
        [0.5, 0.5, None],
        [0.5, 0.5, [0.1]],
        [0.5, 0.5],
        [0.5, 0.5, 0.1, 0.1],
        {"x": 0.5, "y": 0.5, "r": 0.1},
        "0.5",
    ],
    ids=repr,
)
def test_what_is_no_circle_is_named(circle):
    with pytest.raises(ValueError, match="circle 3 "):
        judged(changed(3, circle))


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_what_is_no_number_is_refused(word):
    text = json.dumps(changed(3, [0.5, 0.5, 0.125])).replace("0.125", word)

    with pytest.raises(ValueError, match=r"which is no number|circle 3 is \[0.5, 0.5, inf\]"):
        CHECKER.read(text.encode())


@pytest.mark.parametrize("circles", [GRID[:25], [*GRID, GRID[0]], [], {"0": 1}, 26, None])
def test_other_than_26_circles_are_refused(circles):
    with pytest.raises(ValueError, match="and 26 circles are wanted"):
        judged(circles)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=300) | st.text('[]{}0123456789.,e-"tru', max_size=300).map(str.encode))
def test_no_rubbish_gives_a_number(data):
    with pytest.raises(ValueError):  # noqa: PT011
        CHECKER.checked(CHECKER.read(data))


def test_a_file_that_is_large_or_leads_out_or_is_not_there_is_not_read(tmp_path):
    folder = Folder(tmp_path / "trial")
    folder.path.mkdir()
    with pytest.raises(FileNotFoundError):
        CHECKER(folder)
    (folder.path / FILE).write_bytes(b" " * (LARGEST + 1))
    with pytest.raises(ValueError, match="not read whole"):
        CHECKER(folder)
    (folder.path / FILE).unlink()
    (tmp_path / FILE).write_text(json.dumps(GRID), "utf-8")
    (folder.path / FILE).symlink_to(tmp_path / FILE)
    with pytest.raises((ValueError, OSError)):
        CHECKER(folder)


# ── trials ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Callable[..., str]:
    """Trials of ``pack.py`` as it ships, or of other *source*, with a twentieth of the steps."""
    prepare = tmp_path_factory.mktemp("short") / "prepare.py"
    text = experiment.runner.fixed["prepare.py"].read_text("utf-8")
    prepare.write_text(text.replace("STEPS = 40_000\n", "STEPS = 2_000\n"), "utf-8")
    runner = dataclasses.replace(experiment.runner, fixed={"prepare.py": prepare})
    [task] = experiment.tasks
    return lambda source=SOURCE, seed=7: runner.run(task, {"pack.py": source}, seed).output


def test_a_trial_packs_the_circles_the_same_for_the_same_seed(run):
    first, second = (run(seed=1).splitlines() for _ in range(2))

    value = float(str(reported(METRIC, first[-1])))
    assert 1.5 < value < 2.64
    assert value == float(str(reported(METRIC, second[-1])))


def test_circles_that_overlap_are_no_metric_and_the_log_is_shown(run):
    larger = SOURCE.replace("prepare.answer(centres, radii)", "prepare.answer(centres, radii * 1.1)")

    with pytest.raises(TrialError, match=r"(?s)(overlap|stands out of the square) by .*starts: ") as e:
        run(larger)

    assert e.value.error_class == "no_metric"


def test_more_steps_than_there_are_end_the_trial(run):
    with pytest.raises(TrialError, match="more steps are wanted, and 0 of 2000 are left") as e:
        run(SOURCE.replace("DESCENT * prepare.STEPS", "DESCENT * 9 * prepare.STEPS"))

    assert e.value.error_class == "crash"
