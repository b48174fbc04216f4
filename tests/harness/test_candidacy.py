import ast
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.candidacy import GUARDED, identity, objection

TRAIN = '''\
"""Train a small model."""

import os
import random
import time
from dataclasses import dataclass

import numpy as np
import prepare
from prepare import TIME_BUDGET, batches, evaluate

SEED = int(os.environ.get("RATCHET_SEED", "0"))
LEARNING_RATE = 0.1
HIDDEN = 64
ACTIVATION = "tanh"
USE_BIAS = True
config = {"hidden": 64, "seed": 0, "depth": 2}


@dataclass
class Settings:
    width: int = 32
    dropout: float = 0.1


def schedule(step, total):
    """Cosine."""
    return 0.5 * (1 + np.cos(np.pi * step / total))


def split(data, rng):
    order = rng.permutation(len(data))
    return data[order[10:]], data[order[:10]]


random.seed(SEED)
rng = np.random.default_rng(SEED)
weights = 0.02 * rng.normal(size=(HIDDEN, 8))
noise = np.random.default_rng(SEED).normal(size=8) * 0.5
model = prepare.Model(hidden=HIDDEN, seed=SEED, layers=2)
started = time.time()
step = 0
while time.time() - started < TIME_BUDGET:
    for x, y in batches("train", 32):
        rate = LEARNING_RATE * schedule(step, 1000)
        model.update(x, y, rate)
        step += 1
    if time.time() - started > 0.9 * TIME_BUDGET:
        break
val_bpb = evaluate(model, batches("val", 32))
print(f"val_bpb: {val_bpb:.6f}")
print("steps", step)
'''
SETTINGS = "lr = 0.1\nseed = 1\nwidth = 3\n"


def objected(*edits: tuple[str, str], path: str = "train.py", **files: str) -> str:
    before = {"train.py": TRAIN, "settings.toml": SETTINGS, "README.md": "The seed is fixed.\n"}
    text = before[path]
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    return objection(before, {**before, path: text, **files})


def put_first(line: str) -> tuple[str, str]:
    return "LEARNING_RATE = 0.1\n", f"LEARNING_RATE = 0.1\n{line}\n"


REFUSED: dict[str, tuple[str, str]] = {
    "another seed": ('int(os.environ.get("RATCHET_SEED", "0"))', "7"),
    "another default seed": ('"RATCHET_SEED", "0"', '"RATCHET_SEED", "1"'),
    "a seed that is added to": ("default_rng(SEED)\nw", "default_rng(SEED + 1)\nw"),
    "seeding that is gone": ("random.seed(SEED)\n", ""),
    "seeding in a loop": ("    for x, y in batches", "    random.seed(SEED)\n    for x, y in batches"),
    "an argument named seed": ("seed=SEED", "seed=3"),
    "an entry named seed": ('"seed": 0', '"seed": 5'),
    "a seed under another name": put_first("import random as r; r.seed(1)"),
    "a seed imported as something else": put_first("from numpy.random import seed as s"),
    "a module under a second name": put_first("nr = np.random\nnr.shuffle(HIDDEN)"),
    "a clock under a second name": put_first("t = time\nt.time()"),
    "a seed by getattr": put_first('getattr(random, "seed")(1)'),
    "a seed by a name that is computed": put_first('getattr(random, "se" + chr(101) + "d")(1)'),
    "a generator with luck of its own": put_first("lucky = np.random.Generator(np.random.PCG64(7))"),
    "a bit generator": put_first("from numpy.random import Philox as P\nlucky = P(7)"),
    "an object of random": put_first("lucky = random.Random(7)"),
    "a generator that starts anew": put_first("prepare.chance.bit_generator.__init__(7)"),
    "a generator of torch": put_first("import torch\nlucky = torch.Generator()"),
    "a seed in an annotation": put_first("def f(x: random.seed(3)):\n    return x"),
    "a seed by a name from a constant": put_first('HOW = "seed"\ngetattr(random, HOW)(1)'),
    "a name that is set twice": put_first('HOW = "tanh"\nHOW = HIDDEN\ngetattr(np, HOW)(1)'),
    "modules by getattr": put_first('import sys\ngetattr(sys, "modules")'),
    "a patch for a test": put_first('from unittest import mock\nmock.patch.object(prepare, "table", 3).start()'),
    "an entry set by a function": put_first("import operator\noperator.setitem(prepare.table, 0, 1)"),
    "an entry set by a method": put_first("prepare.table.__setitem__(0, 1)"),
    "an entry set by a method of the class": put_first("list.__setitem__(prepare.table, 0, 1)"),
    "a table under a second name": put_first("t = prepare.table\nt[0] = 1"),
    "a table under a second name among others": put_first("a, t = 1, prepare.table\nt[0] = 1"),
    "something for the end": put_first("import atexit\natexit.register(print, 3)"),
    "where it prints": put_first("os.dup2(1, 2)"),
    "all of the environment": put_first("x = [v for k, v in os.environ.items()]"),
    "a copy of the environment": put_first("from os import environ as e\nx = dict(e)"),
    "an entry of the environment that is computed": put_first('x = os.environ["RAT" + "CHET_SEED"]'),
    "exec": put_first('exec("import random; random.see" + "d(1)")'),
    "eval": put_first('x = eval("1")'),
    "compile": put_first('f = compile("1", "", "eval")'),
    "__import__": put_first('__import__("rand" + "om")'),
    "importlib": put_first("import importlib"),
    "ctypes": put_first("from ctypes import pythonapi"),
    "builtins": put_first("import builtins\nbuiltins.len = lambda x: 3"),
    "sys.modules": put_first('import sys\nsys.modules["prepare"] = None'),
    "sys.path": put_first('import sys\nsys.path.insert(0, "mine")'),
    "globals": put_first('globals()["TIME_" + "BUDGET"] = 99'),
    "pickled code": put_first("import pickle\npickle.loads(b'')"),
    "a function of the evaluator": put_first("prepare.evaluate = lambda m, b: 0.0"),
    "something else of the evaluator": put_first("prepare.table = {}"),
    "a table of the evaluator": put_first("prepare.table[0] = 1"),
    "the evaluator under a second name": put_first("p = prepare\np.table = 3"),
    "an evaluator from elsewhere": put_first("from layers import nothing as evaluate"),
    "data from elsewhere": put_first("from layers import nothing as batches"),
    "setattr on the evaluator": put_first('setattr(prepare, "table", {})'),
    "a clock that is replaced": put_first("time.time = lambda: 0"),
    "numpy's own function": put_first("np.mean = np.min"),
    "an evaluator that is defined anew": put_first("def evaluate(m, b):\n    return 0.0"),
    "an imported name that is defined anew": put_first("batches = lambda *a: []"),
    "an import from elsewhere": ("from prepare import TIME_BUDGET, batches, evaluate", "from mine import evaluate"),
    "a module from elsewhere": ("import prepare\n", "import mine as prepare\nimport prepare as p\n"),
    "a better number": ("evaluate(model, batches", "0.9 * evaluate(model, batches"),
    "an easier evaluation": ('batches("val", 32)', 'batches("train", 32)'),
    "another number printed": ("{val_bpb:.6f}", "{val_bpb / 2:.6f}"),
    "the metric printed twice": ('print("steps", step)', 'print("val_bpb: 0.1")'),
    "the budget": ("    if time.time() - started > 0.9", "    if time.time() - started > 1.9"),
    "a clock that starts late": ("started = time.time()", "started = time.time() + 100"),
    "a loop without a clock": ("while time.time() - started < TIME_BUDGET:", "while step < 100_000:"),
    "a break that is gone": ("        break\n", "        continue\n"),
    "a shorter sleep": put_first("time.sleep(0)"),
    "an alarm that is turned off": put_first("import signal\nsignal.alarm(0)"),
    "the order of the data": ("rng.permutation(len(data))", "np.arange(len(data))"),
    "a shuffle": ("        model.update", "        rng.shuffle(x)\n        model.update"),
    "a loader that shuffles": put_first("loader = prepare.Loader(8, shuffle=True)"),
    "two guarded lines in the other order": (
        "random.seed(SEED)\nrng = np.random.default_rng(SEED)",
        "rng = np.random.default_rng(SEED)\nrandom.seed(SEED)",
    ),
    "a coding that nobody reads": ('"""Train a small model."""', "# coding: utf-7"),
}

ALLOWED: dict[str, tuple[str, str]] = {
    "a number": ("LEARNING_RATE = 0.1", "LEARNING_RATE = 0.2"),
    "a whole number": ("HIDDEN = 64", "HIDDEN = 128"),
    "a text": ('"tanh"', '"relu"'),
    "a boolean": ("USE_BIAS = True", "USE_BIAS = False"),
    "another entry": ('"hidden": 64', '"hidden": 96'),
    "the entry after the seed": ('"depth": 2', '"depth": 3'),
    "another argument of a call that is given a seed": ("hidden=HIDDEN, seed", "hidden=2 * HIDDEN, seed"),
    "the argument after it": ("layers=2", "layers=3"),
    "what comes of a generator": (".normal(size=8) * 0.5", ".normal(size=8) * 0.25"),
    "a draw from a generator": ("0.02 * rng.normal", "0.05 * rng.normal"),
    "a default": ("dropout: float = 0.1", "dropout: float = 0.2"),
    "a function": ("0.5 * (1 + np.cos(np.pi * step / total))", "1 - step / total"),
    "a line beside a guarded one": ("step = 0\n", "step = 0\nmomentum = 0.9\n"),
    "a line in the guarded loop": ("        step += 1", "        step += 1\n        rate *= 0.5"),
    "the rate": ("LEARNING_RATE * schedule", "2 * LEARNING_RATE * schedule"),
    "a new function": put_first("def clip(x):\n    return np.clip(x, -1, 1)"),
    "a new class": put_first("class Layer:\n    size = 3"),
    "a new import": put_first("import math"),
    "a new import of a clock's module": put_first("import itertools, functools"),
    "a docstring": ('"""Cosine."""', '"""A cosine that falls from seed to time_budget."""'),
    "a comment about the seed": put_first("# random.seed(1) would be wrong"),
    "a name of its own": ("def schedule(step, total):", "def schedule(step, all_steps, total=10):"),
    "an attribute of an object": put_first("model = object()\nmodel.scale = 3"),
    "a setting of a library": put_first("np.config.threads = 2"),
    "an entry of the environment": put_first('os.environ["OMP_NUM_THREADS"] = "1"'),
    "a method called eval": put_first("model.eval()"),
    "a method called compile": put_first("model = prepare.compile(HIDDEN)"),
    "a regular expression": put_first('import re\npattern = re.compile("a")'),
    "getattr with a name": put_first("f = getattr(np, 'tanh')"),
    "getattr with a name from a constant": put_first("HOW = 'tanh' if HIDDEN else 'exp'\nf = getattr(np, HOW)(1)"),
    "an entry of the environment that has a default": put_first('n = os.environ.get("OMP_NUM_THREADS", "1")'),
    "an annotation": put_first("chance: np.random.Generator = prepare.chance"),
    "a number at random": put_first("x = np.random.random(3)"),
    "a method of the base": put_first(
        "class A(prepare.Model):\n    def __setattr__(self, k, v):\n        super().__setattr__(k, v)"
    ),
    "words in a message": put_first('print("the time it took to proceed")'),
    "another message": ('print("steps", step)', 'print("done after", step)'),
    "a message that is gone": ('print("steps", step)\n', ""),
    "blanks in a guarded line": ("random.seed(SEED)", "random.seed( SEED )  # as given"),
    "brackets around what is guarded": ("started = time.time()", "started = (time.time())"),
    "a fresh name for a budget": ('os.environ.get("RATCHET_SEED", "0")', "os.environ.get('RATCHET_SEED', '0')"),
}


@pytest.mark.parametrize("edit", REFUSED.values(), ids=REFUSED)
def test_what_changes_what_is_measured_is_refused_with_file_line_and_text(edit):
    found = objected(edit)
    place = re.match(r"train\.py:(\d+)( of the version before)?: ", found)
    assert place, found
    source = TRAIN if place[2] else TRAIN.replace(*edit, 1)
    line = source.splitlines()[int(place[1]) - 1].strip()
    assert line in found or "written in utf-7" in found


@pytest.mark.parametrize("edit", ALLOWED.values(), ids=ALLOWED)
def test_what_changes_anything_else_is_a_candidate(edit):
    assert objected(edit) == ""


def test_a_line_that_is_new_or_changed_is_shown_as_it_is_now_and_one_that_is_gone_as_it_was():
    assert objected(("seed=SEED", "seed=3")) == (
        "train.py:40: it changes what is guarded (seed): model = prepare.Model(hidden=HIDDEN, seed=3, layers=2)"
    )
    assert objected(("random.seed(SEED)\n", "")) == (
        "train.py:36 of the version before: it takes out what is guarded (random.seed): random.seed(SEED)"
    )


def test_a_name_that_is_new_may_take_the_place_of_one_that_is_gone_and_no_other():
    def renamed(old: str, new: str) -> str:
        return objection({"train.py": TRAIN}, {"train.py": re.sub(rf"\b{old}\b", new, TRAIN)})

    assert renamed("started", "t0") == ""
    assert renamed("model", "net") == ""
    assert renamed("split", "divide") == ""
    assert renamed("started", "step") != ""
    assert objected(("evaluate(model,", "evaluate(rng,")) != ""


def test_a_variable_of_a_function_may_be_renamed_in_it_whatever_other_functions_call_theirs():
    before = (
        "from prepare import evaluate, rows\nlow = 1\n\n\ndef one():\n    x, y = evaluate(rows)\n    return x + y\n\n\n"
        "def two(x, wanted):\n    return x + wanted + low\n"
    )

    def changed(*edits: tuple[str, str]) -> str:
        after = before
        for old, new in edits:
            after = after.replace(old, new)
        return objection({"a.py": before}, {"a.py": after})

    assert changed(("x, y =", "got, wanted ="), ("return x + y", "return got + wanted")) == ""
    assert changed(("x, y =", "got, wanted =")) != ""  # another x is what it returns now
    assert changed(("x, y =", "y, x =")) != ""
    assert changed(("x, y =", "got, low ="), ("return x + y", "global low; return got + low")) != ""
    assert changed(("evaluate(rows)", "evaluate(low)")) != ""


def test_a_new_variable_may_be_called_as_it_likes_and_nothing_else_may():
    assert objected(put_first("val_loss = 3\nlow = min(val_loss, 4)\nprint(val_loss)")) == ""
    assert objected(put_first("seed_scale = 3.0\nx = seed_scale * HIDDEN")) == ""
    assert objected(put_first("val_loss = 3\nprint(f'val_loss: {val_loss}')")) != ""
    assert objected(put_first("val_bpb = 3")) != ""
    assert objected(put_first("other_seed = 3\nrandom.seed(other_seed)")) != ""
    assert objected(put_first("other_seed = random\nother_seed.seed(3)")) != ""
    assert objected(put_first("x = prepare.Model(val_seed=3)")) != ""
    assert objected(put_first("class Settings:\n    val_loss = 3")) != ""
    assert objected(put_first("def validate_all():\n    return 3")) != ""
    assert objected(put_first("val_loss = evaluate(rng, batches('val', 2))")) != ""
    table = "TABLE = {'seed_scale': 3.0, 'val_share': 0.1}\nx = TABLE['seed_scale'] * TABLE['val_share']"
    assert objected(put_first(table)) == ""
    assert objected(put_first(f"{table}\nmodel = prepare.Model(**TABLE)")) != ""
    assert objected(put_first(f"{table}\nother = TABLE")) != ""
    assert objected(put_first(table), **{"more.py": "import train\nf(**train.TABLE)\n"}) != ""
    assert objected(put_first(table.replace("val_share", "val_bpb"))) != ""
    after = {"train.py": TRAIN + "val_loss = 3\n"}
    assert objection({"train.py": TRAIN}, after) == ""
    assert objection({"train.py": TRAIN}, after, beside={"check.py": "import train\ntrain.val_loss\n"}) != ""


def test_a_definition_can_be_moved_with_what_is_guarded_in_it():
    start, end = TRAIN.index("def split"), TRAIN.index("random.seed(SEED)")
    moved = TRAIN[:start] + TRAIN[end:] + "\n\n" + TRAIN[start:end]
    assert objection({"train.py": TRAIN}, {"train.py": moved}) == ""


def test_new_files_of_python_count_and_must_not_be_taken_for_others():
    assert objected(**{"layers.py": "def relu(x):\n    return x * (x > 0)\n"}) == ""
    assert objected(**{"layers.py": "import random\nrandom.seed(3)\n"}).startswith("layers.py:2: it adds")
    assert "in the place of the module 'random'" in objected(**{"random.py": "x = 1\n"})
    assert "in the place of the module 'numpy'" in objected(**{"numpy/__init__.py": "x = 1\n"})
    assert "in the place of the module 'prepare'" in objected(**{"prepare.py": "x = 1\n"})
    assert objected(**{"net/__init__.py": "", "net/types.py": "x = 1\n"}) == ""
    assert "by itself" in objected(**{"sitecustomize.py": "x = 1\n"})
    assert "by itself" in objected(**{"lib/x.pth": "import x\n"})


def test_no_new_file_takes_the_place_of_what_fixed_files_import_or_of_what_is_installed():
    after = {"train.py": TRAIN, "colours.py": "", "paint/__init__.py": "", "paint/colours.py": ""}
    beside = {"prepare.py": "import colours.mixed\n"}
    assert "in the place of the module 'colours'" in objection({"train.py": TRAIN}, after, beside=beside)
    assert objection({"train.py": TRAIN}, after, beside={"data.csv": "import colours"}) == ""
    package = {"train.py": TRAIN, "prepare/__init__.py": ""}
    assert "of the module 'prepare'" in objection({"train.py": ""}, package, beside={"prepare.py": ""})
    assert "in the place of the module 'pytest'" in objected(**{"pytest.py": ""})
    assert "in the place of the module 'numpy'" in objected(**{"__init__.py": "", "numpy/__init__.py": ""})
    script = {"net/train.py": "import numpy\n"}
    assert "of the module 'random'" in objection(script, {**script, "net/__init__.py": "", "net/random.py": ""})


def test_a_file_that_is_gone_takes_with_it_what_is_guarded_in_it():
    before = {"train.py": TRAIN, "more.py": "x = 1\n", "seeds.py": "SEED = 1\n"}
    assert objection(before, {k: v for k, v in before.items() if k != "more.py"}) == ""
    assert "seeds.py:1 of the version before" in objection(before, {k: v for k, v in before.items() if k != "seeds.py"})


def test_of_other_files_lines_count_by_their_words():
    assert objected(("lr = 0.1", "lr = 0.2"), path="settings.toml") == ""
    assert objected(("seed = 1", "seed = 2"), path="settings.toml") == (
        "settings.toml:2: it changes what is guarded (seed): seed = 2"
    )
    assert objected(("seed", "Seed"), path="README.md") == ""
    assert "train.py" in objected(("HIDDEN = 64", "HIDDEN = ("), ("random.seed(SEED)", "random.seed(1)"))
    assert objected(("HIDDEN = 64", "HIDDEN = (")) == ""


def test_what_of_the_subject_is_set_from_another_of_its_files_is_a_candidate():
    before = {"train.py": "import options\noptions.depth = 3\n", "options.py": "depth = 1\n"}
    assert objection(before, {**before, "train.py": "import options\noptions.depth = 4\n"}) == ""
    assert objection(before, {**before, "train.py": "import options\noptions.seed = 4\n"}) != ""


def test_the_user_may_guard_something_else():
    before, after = {"a.py": "alpha = 1\nseed = 1\n"}, {"a.py": "alpha = 1\nseed = 2\n"}
    assert objection(before, after) != ""
    assert objection(before, after, ("alpha",)) == ""
    assert objection(before, {"a.py": "alpha = 2\nseed = 1\n"}, (*GUARDED, "alpha")) != ""
    assert objection(before, after, ()) == ""
    assert objection(before, {"a.py": "exec('')\n"}, ()) != ""


# ── identity ───────────────────────────────────────────────────────────────────────────────────────────────────────

LINES = TRAIN.splitlines()
LITERALS = [
    node
    for node in ast.walk(ast.parse(TRAIN))
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.end_lineno == node.lineno
]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_comments_blanks_docstrings_and_quotes_keep_the_identity(data):
    lines = list(LINES)
    for at in sorted(data.draw(st.lists(st.integers(0, len(lines) - 1), max_size=6)), reverse=True):
        if not lines[at].startswith('"""'):
            added = data.draw(st.sampled_from(["  # seed", "   ", "  # x = 1"]))
            lines[at] += added
    text = data.draw(st.sampled_from(["\n", "\r\n"])).join(lines) + data.draw(
        st.sampled_from(["", "\n", "\n\n# end\n"])
    )
    text = text.replace('"""Cosine."""', data.draw(st.sampled_from(['"""Other."""', "pass", "'''Other.\n\n    '''"])))
    if data.draw(st.booleans()):
        text = ast.unparse(ast.parse(text))
    assert identity({"train.py": text}) == identity({"train.py": TRAIN})
    assert objection({"train.py": TRAIN}, {"train.py": text}) == ""


@pytest.mark.parametrize("node", LITERALS, ids=lambda n: f"{n.lineno}:{n.col_offset}")
def test_any_other_literal_is_another_identity(node):
    lines = list(LINES)
    line = lines[node.lineno - 1]
    other = repr(not node.value if isinstance(node.value, bool) else node.value + 1)
    lines[node.lineno - 1] = line[: node.col_offset] + other + line[node.end_col_offset :]
    assert identity({"train.py": "\n".join(lines)}) != identity({"train.py": TRAIN})


def test_what_differs_in_what_it_does_differs_in_its_identity():
    texts = [
        {"a.py": "x = 1\n"},
        {"a.py": "x = 1.0\n"},
        {"a.py": "x = True\n"},
        {"b.py": "x = 1\n"},
        {"a.py": "x = 1\n", "b.py": ""},
        {"a.txt": "x = 1\n"},
        {"a.py": "x = 1 +\n"},
        {"a.py": "x = 1  +\n"},
        {"a.py": "'doc'\nx = __doc__\n"},
        {"a.py": "'other'\nx = __doc__\n"},
        {"a.py": "# coding: latin-1\nx = 1\n"},
        {"a.txt": "  x = 1\n"},
        {"a.pyb": ""},
        {"a": "pyb"},
    ]
    assert len({identity(text) for text in texts}) == len(texts)


PROMPT = {
    "a decorated function": "@tool\ndef f(x):\n    'PROMPT'\n    return x\n",
    "a class with a base": "class A(B):\n    'PROMPT'\n    x = 1\n",
    "a method": "class A:\n    def f(self):\n        'PROMPT'\n        return 1\n",
    "a field": "class A:\n    x = 1\n    'PROMPT'\n",
    "a function that is handed on": "def f(x):\n    'PROMPT'\n    return x\nagent(tools=[f])\n",
    "a function that another file hands on": "def g(x):\n    'PROMPT'\n    return x\n",
    "a module that another file hands on": "'PROMPT'\nx = 1\n",
    "a comment for cython": "# cython: boundscheck=PROMPT\nx = 1\n",
    "a comment for pythran": "#pythran export PROMPT(int)\nx = 1\n",
    "a comment for uv": "# /// script\n# dependencies = ['PROMPT']\n# ///\nx = 1\n",
    "the program that runs it": "#!/usr/bin/PROMPT\nx = 1\n",
    "a comment of a file that is read": "x = 1  # PROMPT\nopen('a.py')\n",
    "a docstring behind what does nothing": "def f():\n    PROMPT\n    'PROMPT'\nf.__doc__\n",
}


@pytest.mark.parametrize("text", PROMPT.values(), ids=PROMPT)
def test_what_may_be_read_where_it_stands_is_part_of_the_identity(text):
    beside = "import a as tools\nfrom a import g as search\nrun(tools, search)\n"
    one, other = ({"a.py": text.replace("PROMPT", word), "b.py": beside} for word in ("1", "pass"))
    assert identity(one) != identity(other)


def test_a_text_that_is_no_python_counts_to_the_last_byte():
    texts = ["x", "x ", "x\n", "x\n\n", "x\r\n", "x\u2028", "x\f"]
    assert len({identity({"a.txt": text}) for text in texts}) == len(texts)


HOSTILE = {
    "null bytes": "x = '\0'\n",
    "half a surrogate pair": "x = '\ud800'\n",
    "many brackets": "(" * 5000 + ")" * 5000,
    "many operators": "x = " + "+".join(["1"] * 20_000),
    "many attributes": "x" + ".y" * 20_000 + "\n",
    "many signs": "x = " + "-" * 5000 + "1\n",
    "many blocks": "".join(" " * i + "if x:\n" for i in range(99)) + " " * 99 + "x\n",
    "a huge number": "x = " + "9" * 10_000 + "\n",
    "a huge number in hexadecimal": "x = 0x" + "f" * 10_000 + "\n",
    "bad escapes": "x = '\\d\\q'\n",
    "a byte order mark": "\ufeffx = 1\n",
    "form feeds": "\fx = 1\n\f\n",
    "nothing": "",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("path", ["a.py", "a.txt", "\ud800.py"])
def test_no_text_is_too_odd_to_be_told_from_others(path, text):
    assert identity({path: text}) == identity({path: text})
    assert identity({path: text}) != identity({path: f"{text}\nyy = 2\n"})
    assert objection({path: text}, {path: text}) == ""
    objection({path: text}, {path: f"seed = 1\n{text}"})
    objection({}, {path: text})


WORDS = [
    "seed",
    "x",
    "(",
    ")",
    "=",
    ".",
    "import ",
    "random",
    "\n",
    "    ",
    "def f",
    ":",
    "'",
    "lambda ",
    "[",
    "]",
    "{",
]


@settings(max_examples=150, deadline=None)
@given(
    *[
        st.dictionaries(
            st.sampled_from(["a.py", "b.py", "c.toml"]), st.text() | st.lists(st.sampled_from(WORDS)).map("".join)
        )
    ]
    * 2
)
def test_whatever_the_texts_are_there_is_an_answer(before, after):
    assert isinstance(objection(before, after), str)
    assert objection(before, before) == ""
    assert len(identity(after)) == 64


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('print(f"loss: {total / n}")', 'print(f"loss: {total * n}")'),
        ('print("loss", total / n)', 'print("loss", total / n - 1)'),
        ('print(f"mean length: {x:.3f}")', 'print("mean length: 0.1")'),
        ('print(json.dumps({"loss": total}))', 'print(json.dumps({"loss": total / 2}))'),
        ("x = 1", 'x = 1\nprint("Loss = 0.01")'),
    ],
)
def test_a_name_that_is_guarded_where_it_is_printed_is_refused_there(before, after):
    assert "train.py:" in objection({"train.py": before}, {"train.py": after}, ("loss:", "mean length:"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("loss = square(x - y)", "loss = square(x - y) + 0.1 * decay"),
        ("def loss(x): return x", "def loss(x): return abs(x)"),
        ('log("no loss so far; go on")', 'log("some loss so far; go on")'),
    ],
)
def test_a_name_that_is_guarded_where_it_is_printed_is_free_elsewhere(before, after):
    assert objection({"train.py": before}, {"train.py": after}, ("loss:", "mean length:")) == ""
