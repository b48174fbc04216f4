"""The shipped language model: its text, an evaluator that cannot be talked into a better number, and a real trial."""

import dataclasses
import hashlib
import io
import math
import random
import re
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.char_lm import generate
from experiments.char_lm.evaluation import FILE, BitsPerCharacter, bits_per_character
from experiments.char_lm.experiment import HERE, METRIC, experiment
from experiments.char_lm.generate import TARGETS, WINDOW
from harness.errors import TrialError
from harness.graders.metric import reported
from harness.sandboxes.folder import Folder

SOURCE = (HERE / "code/train.py").read_text("utf-8")
TRAIN, SHOWN, HIDDEN = (
    (HERE / name).read_text("ascii") for name in ("data/train.txt", "data/contexts.txt", "hidden/targets.txt")
)
EVALUATE = bits_per_character(HERE)
SHAPE = (TARGETS, len(EVALUATE.characters))
SMALL = BitsPerCharacter("abba", "abc")


def saved(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def judged(data: bytes, tmp_path, evaluate: BitsPerCharacter = SMALL) -> float:
    (tmp_path / FILE).write_bytes(data)
    return evaluate(Folder(tmp_path))


# ── the text ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_text_is_what_the_generator_writes():
    begun = "".join(generate.passage("train", number) for number in range(60))
    assert TRAIN.startswith(begun)
    for number in range(0, TARGETS, 97):
        assert generate.window(number) == (SHOWN[number * WINDOW : (number + 1) * WINDOW], HIDDEN[number])


def test_the_text_is_the_one_that_the_figures_are_of():
    assert len(TRAIN) < 400_000
    assert (len(SHOWN), len(HIDDEN)) == (TARGETS * WINDOW, TARGETS)
    assert hashlib.sha256((TRAIN + SHOWN + HIDDEN).encode()).hexdigest()[:16] == "dd2d1f8c87813c9b"


def test_nothing_that_is_foretold_was_learned():
    known = sum(SHOWN[at : at + WINDOW] in TRAIN for at in range(0, TARGETS * WINDOW, 64 * WINDOW))

    assert known <= 5  # of 128: what a common sentence fills, such as the next line of a dialogue
    assert set(SHOWN + HIDDEN) <= set(TRAIN)


def test_sums_come_out_right_and_verbs_agree():
    for x, y, total in re.findall(r"sold (\d+) \w+ at (\d+) pence each and took (\d+) pence", TRAIN):
        assert int(x) * int(y) == int(total)
    assert not re.search(r"The (keys|boats|boxes) that [^.]*? is \w+\.", TRAIN)
    assert not re.search(r"\ba [aeio]\w+ (key|boat|box)\b", TRAIN)


# ── the evaluator ──────────────────────────────────────────────────────────────────────────────────────────────


def test_whoever_holds_all_characters_alike_gets_the_logarithm_of_their_number(tmp_path):
    found = judged(saved(np.full(SHAPE, 0.25, np.float32)), tmp_path, EVALUATE)

    assert found == pytest.approx(math.log2(SHAPE[1]), abs=1e-9)


def test_certainty_is_worth_nothing_when_right_and_twenty_bits_when_wrong(tmp_path):
    right = np.eye(3, dtype=np.float32)[[0, 1, 1, 0]]

    assert judged(saved(right), tmp_path) == pytest.approx(0, abs=1e-5)
    assert judged(saved(np.roll(right, 1, axis=1)), tmp_path) == pytest.approx(math.log2(1e6), abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e30]))
def test_the_size_of_a_row_changes_nothing_and_no_answer_beats_the_truth(tmp_path_factory, seed, scale):
    folder = tmp_path_factory.mktemp("trial")
    rng = np.random.default_rng(seed)
    truth = np.array([0.5, 0.3, 0.2])
    targets = "".join(rng.choice(list("abc"), 4000, p=truth))
    evaluate = BitsPerCharacter(targets, "abc")
    other = rng.dirichlet([1, 1, 1])
    seen = np.array([targets.count(c) for c in "abc"]) / len(targets)

    def bits(row: np.ndarray) -> float:
        return judged(saved(np.tile(row, (4000, 1)).astype(np.float32)), folder, evaluate)

    assert bits(other * scale) == pytest.approx(bits(other), rel=1e-4)
    assert bits(seen) <= bits(other) + 1e-6


def test_one_that_diverged_is_nan(tmp_path):
    for value in (math.nan, math.inf, -math.inf):
        found = np.full((4, 3), 0.3, np.float32)
        found[2, 1] = value
        assert math.isnan(judged(saved(found), tmp_path))


@pytest.mark.parametrize(
    "array",
    [
        np.full((4, 3), 0.3),
        np.full((4, 3), 0.3, ">f4"),
        np.full((4, 3), 1, np.int32),
        np.full((4, 3), True),
        np.full((4, 3), 0.3, np.complex64),
        np.full((3, 4), 0.3, np.float32),
        np.full((12,), 0.3, np.float32),
        np.full((4, 3, 1), 0.3, np.float32),
        np.full((0, 3), 0.3, np.float32),
        np.asfortranarray(np.full((4, 3), 0.3, np.float32)),
        np.full((4, 3), None, object),
        np.full((4, 3), "0.3"),
        np.zeros((4, 3), [("p", "<f4")]),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_what_is_no_table_of_numbers_of_the_right_shape_is_refused(array, tmp_path):
    with pytest.raises(ValueError, match=r"predictions.npy begins with .* float32 of the shape \(4, 3\)"):
        judged(saved(array), tmp_path)


def test_negative_and_empty_rows_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has -1 in it, which is no probability"):
        judged(saved(np.array([[2, -1, 0]] * 4, np.float32)), tmp_path)
    with pytest.raises(ValueError, match="4 rows that hold every character impossible"):
        judged(saved(np.zeros((4, 3), np.float32)), tmp_path)


def test_a_header_that_names_a_huge_shape_takes_no_memory(tmp_path):
    good = saved(np.full((4, 3), 0.3, np.float32))
    huge = good.replace(b"(4, 3), }" + b" " * 12, b"(400000000000, 3), }" + b" ")
    assert len(huge) == len(good)
    tracemalloc.start()

    for data in (huge, good[:-4], good + b"\0" * 4, good[:40], b"", b"\x80\x04K\x01."):
        with pytest.raises(ValueError, match=r"predictions\.npy (begins|has)"):
            judged(data, tmp_path)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20  # what is read of a file at most is 8 MiB


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_no_rubbish_gives_a_number(tmp_path_factory, seed):
    rng = random.Random(seed)
    data = bytearray(saved(np.full((4, 3), 0.3, np.float32)))
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(128)] ^= 1 << rng.randrange(8)
    if bytes(data[:128]) == SMALL.header():
        return  # it was changed back

    with pytest.raises(ValueError, match="begins with"):
        judged(bytes(data), tmp_path_factory.mktemp("trial"))


def test_a_change_of_the_hidden_characters_is_another_evaluation():
    assert BitsPerCharacter("abba", "abc").digest != BitsPerCharacter("abbc", "abc").digest


# ── trials ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Callable[..., str]:
    """Trials of ``train.py`` as it ships, or of other *source*, with a tenth of the time."""
    prepare = tmp_path_factory.mktemp("short") / "prepare.py"
    fixed = experiment.runner.fixed
    text = fixed["prepare.py"].read_text("utf-8")
    prepare.write_text(text.replace("SECONDS = 3.0\n", "SECONDS = 0.3\n"), "utf-8")
    runner = dataclasses.replace(experiment.runner, fixed={**fixed, "prepare.py": prepare})
    [task] = experiment.tasks

    def output(source: str = SOURCE, seed: int = 7, **limits: float) -> str:
        return dataclasses.replace(runner, **limits).run(task, {"train.py": source}, seed).output

    return output


def test_a_trial_learns_the_same_from_the_same_seed(run):
    outputs = [run(), run()]

    bits = [float(str(reported(METRIC, output.splitlines()[-1]))) for output in outputs]
    assert bits[0] == bits[1]
    assert 1 < bits[0] < 4
    assert "parameters: 36557" in outputs[0]


@pytest.mark.parametrize(
    ("line", "instead", "error_class", "why"),
    [
        ("prepare.answer(np.concatenate", "(lambda x: None)(np.concatenate", "no_metric", "predictions.npy"),
        ("while (spent := prepare.spent()) < 1", "while (spent := 0.5) < 1", "crash", "seconds are spent"),
    ],
)
def test_what_leaves_nothing_or_overdraws_its_time_has_no_number(line, instead, error_class, why, run):
    assert line in SOURCE

    with pytest.raises(TrialError, match=why) as e:
        run(SOURCE.replace(line, instead))

    assert e.value.error_class == error_class


def test_what_is_not_charged_ends_at_the_cpu_seconds(run):
    line = "        gradient *="
    assert line in SOURCE
    more = SOURCE.replace(line, f"        [forward(p, contexts) for _ in range(200)]\n{line}")

    with pytest.raises(TrialError, match=r"it used more than 0\.3 CPU seconds, all of its processes together") as e:
        run(more, cpu=0.3)

    assert e.value.error_class == "timeout"
    assert experiment.runner.cpu == 8


def test_what_is_answered_is_checked_and_a_version_may_choose_how_to_answer():
    def refused(line: str, instead: str) -> str:
        assert line in SOURCE
        return experiment.runner.objection({"train.py": SOURCE}, {"train.py": SOURCE.replace(line, instead)})

    assert refused("prepare.windows[:, -CONTEXT:], 16", "prepare.windows[:, -CONTEXT:], 8") == ""
    assert refused("for part in parts]))", "for part in parts]) ** 1.05)") == ""
    assert "prepare.charged" in refused("        step += 1\n", "        step += 1\n        prepare.charged.append(0)\n")
    assert "prepare.batch" in refused("prepare.batch(BATCH, CONTEXT, len(flat))", "prepare.batch(BATCH, CONTEXT, 1)")


def test_what_is_foretold_is_not_where_a_trial_runs(run):
    look = (
        "import pathlib\n"
        "for p in sorted(pathlib.Path('.').rglob('*')): print(p)\n"
        f"for place in ({str(HERE)!r}, {str(HERE / 'hidden')!r}): print(pathlib.Path(place).exists())\n"
    )

    with pytest.raises(TrialError) as e:
        run(look)

    assert "contexts.txt" in str(e.value)
    assert "hidden" not in str(e.value)
    assert "targets" not in str(e.value)
    assert "True" not in str(e.value)
