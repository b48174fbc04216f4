import ast
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.proposers.mutation import MutationProposer, hoped, lessons
from analysis.proposers.mutations import changed_tokens, number, sites
from analysis.proposers.mutations.sites import number_options, written
from harness.candidacy import GUARDED, identity, names_guarded, objection
from harness.errors import OutOfIdeas, UserError
from harness.protocols import History
from tests.benchmarks.mutation import a_round, version
from traces.records import Round

TRAIN = '''\
"""Trains."""
import random
import numpy as np
from prepare import evaluate, batches

SEED = 3
LEARNING_RATE = 0.001  # a comment, with 12 in it
DECAY = 3e-4   # range: 1e-4 .. 1e-3
HIDDEN = 64
ACTIVATION = "relu"  # choices: relu, gelu, tanh
USE_BIAS = True
optimiser = adam  # choices: adam, sgd
BETAS = (0.9, 0.95)


class Model:
    width: int = 32

    def __init__(self, depth=2, seed=0):
        self.layers = [Layer(depth, size=8) for _ in range(depth)]

    def forward(self, x):
        if x > 0 and self.width <= 3:
            x = x * 2 - 1
        self.count += 1
        log(x)
        return x[0] / 4

    def scaled(self, x, scale=0.5):
        return scale


random.seed(SEED)
model = Model()
while time.time() < TIME_BUDGET:
    for x in batches("train", 16):
        model.step(x, LEARNING_RATE)
val_loss = evaluate(model, 32)
print(f"val_loss: {val_loss:.4f}")
'''
TEXT = {"train.py": TRAIN, "README.md": "LEARNING_RATE = 1\n", "lib/net.py": "SCALE = 1.5\n"}


def history(text=TEXT, rounds=(), tried=(), seed=1, versions=()) -> History:
    known = {version(t): t for t in (text, *versions)}
    return History(
        run="run",
        tasks={},
        trials=(),
        rounds=tuple(rounds),
        tried=dict.fromkeys((version(text), *tried), "before"),
        seed=seed,
        version_of=lambda edits: version({**text, **{edit.path: edit.text for edit in edits}}),
        text_of=known.__getitem__,
    )


def applied(text, proposal):
    return {**text, **{edit.path: edit.text for edit in proposal.edits}}


def proposals(text, count, proposer=MutationProposer(), *, keep=lambda n: False, gain=lambda text: -0.1):
    """Those of *count* rounds, each with the text that it changes."""
    rounds: list[Round] = []
    texts = [text]
    found = []
    for n in range(1, count + 1):
        seen = history(text, rounds, [version(t) for t in texts], seed=n, versions=texts)
        proposal = proposer.propose(version(text), text, seen)
        after = applied(text, proposal)
        found.append((text, after, proposal))
        rounds.append(a_round(n, version(text), version(after), proposal, gain(after), is_kept=keep(n)))
        texts.append(after)
        if keep(n):
            text = after
    return found, rounds


def test_what_can_be_changed_is_found_with_its_name_and_line():
    found = {(site.name, site.old): site for site in sites("train.py", TRAIN, (), GUARDED)}
    assert found["LEARNING_RATE", "0.001"].line == 7
    assert {"0.002", "0.0005"} <= {o.text for o in found["LEARNING_RATE", "0.001"].options}
    assert {o.text for o in found["ACTIVATION", '"relu"'].options} == {'"gelu"', '"tanh"'}
    assert {o.text for o in found["optimiser", "adam"].options} == {"sgd"}
    assert {o.text for o in found["USE_BIAS", "True"].options} == {"False"}
    assert all(1e-4 <= float(o.text) <= 1e-3 for o in found["DECAY", "3e-4"].options)
    assert {"128", "32", "65", "63"} <= {o.text for o in found["HIDDEN", "64"].options}
    assert {"0.95", "0.8"} <= {o.text for o in found["BETAS", "0.9"].options}
    assert ("width", "32") in found
    assert ("scale", "0.5") in found
    assert ("depth", "2") not in found
    assert ("size", "8") in found
    assert {site.old for site in found.values() if site.kind == "operator"} >= {"and", ">", "<=", "*", "-", "/"}
    assert {site.name for site in found.values() if site.kind == "statement"} >= {"self.count += 1", "log(x)"}
    assert not [site for site in found.values() if names_guarded(site.name, GUARDED)]
    assert not {"3", "12"} & {site.old for site in found.values() if site.line in (6, 7)}


def test_the_rationale_names_file_line_name_and_both_values():
    proposal = MutationProposer(files=["lib/*.py"]).propose("v", TEXT, history())
    new = proposal.edits[0].text.split()[-1]
    assert proposal.rationale == f"lib/net.py:1 SCALE 1.5 → {new}"
    assert proposal.proposer == "MutationProposer"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**9), newline=st.sampled_from(["\n", "\r\n"]), cut=st.booleans(), mark=st.booleans())
def test_every_proposal_parses_and_changes_nothing_but_the_places_that_it_states(seed, newline, cut, mark):
    source = ("\ufeff" if mark else "") + TRAIN.replace("\n", newline)
    text = {"train.py": source.rstrip("\r\n") if cut else source}
    proposal = MutationProposer(twice=0.0).propose("v", text, history(text, seed=seed))
    [edit] = proposal.edits
    ast.parse(edit.text.removeprefix("\ufeff"))
    assert objection(text, {"train.py": edit.text}) == ""
    [(_, old, new)] = changed_tokens("train.py", text["train.py"], edit.text)
    line = int(proposal.rationale.split()[0].partition(":")[2])
    before, after = text["train.py"].split("\n"), edit.text.split("\n")
    if new:
        assert f"{old} → {new}" in proposal.rationale
        assert [n for n, (a, b) in enumerate(zip(before, after, strict=True), start=1) if a != b] == [line]
        assert before[line - 1].replace(old, new, before[line - 1].count(old)) != before[line - 1]
        assert len(before[line - 1]) - len(old) == len(after[line - 1]) - len(new)
    else:
        assert before[: line - 1] + before[line:] == after
    assert edit.text.count("\r") == (0 if newline == "\n" else edit.text.count("\n"))
    assert not names_guarded(before[line - 1].partition("#")[0], GUARDED)


def test_over_two_hundred_rounds_nothing_is_proposed_twice_and_nothing_guarded_is_touched():
    text = {
        "train.py": TRAIN[: TRAIN.index("class Model")] + "val_loss = evaluate(32)\nfor x in range(3):\n    x += 2\n"
    }
    found, _ = proposals(text, 200, keep=lambda n: n % 20 == 0)
    assert len({identity(after) for _, after, _ in found} | {identity(text)}) == 201
    assert not [said for before, after, _ in found if (said := objection(before, after))]
    names = Counter(proposal.rationale.split()[1] for _, _, proposal in found[:60])
    declared = {"LEARNING_RATE", "DECAY", "HIDDEN", "ACTIVATION", "USE_BIAS", "optimiser", "BETAS"}
    assert sum(names[name] for name in declared) > 20


def test_the_same_history_makes_the_same_proposal():
    _, rounds = proposals({"train.py": TRAIN}, 6)
    seen = history({"train.py": TRAIN}, rounds, seed=9)
    assert MutationProposer().propose("v", {"train.py": TRAIN}, seen) == MutationProposer().propose(
        "v", {"train.py": TRAIN}, seen
    )
    others = {MutationProposer().propose("v", {"train.py": TRAIN}, replace(seen, seed=n)).id for n in range(12)}
    assert len(others) > 3


CONSTANTS = {"train.py": "A = 1.0\nB = 1.0\nC = 1.0\nD = 1.0\nE = 1.0\n"}


def after_changes(*news: str, gain: float | None, kept: bool = False):
    """What would be proposed first, from many seeds, once *news* had been put in the place of A: name, old, new."""
    text, rounds, versions = CONSTANTS, [], [CONSTANTS]
    for n, new in enumerate(news, start=1):
        changed = {"train.py": text["train.py"].replace("A = 1.0", new)}
        proposal = MutationProposer().propose(version(text), text, history(text))
        edit = proposal.edits[0].model_copy(update={"text": changed["train.py"]})
        proposal = proposal.model_copy(update={"edits": (edit,)})
        rounds.append(a_round(n, version(text), version(changed), proposal, gain, is_kept=kept))
        versions.append(changed)
    now = versions[-1] if kept else text
    seen = history(now, rounds, versions=versions)
    drawn = [MutationProposer(twice=0.0).propose("v", now, replace(seen, seed=n)).rationale for n in range(150)]
    return [(r.split()[1], float(r.split()[2]), float(r.split()[4])) for r in drawn]


def test_a_number_that_was_better_when_it_went_up_is_tried_further_up():
    drawn = [(old, new) for name, old, new in after_changes("A = 2.0", gain=2.0, kept=True) if name == "A"]
    assert len(drawn) > 50
    assert sum(new > old for old, new in drawn) > 0.8 * len(drawn)


def test_a_number_that_was_much_worse_when_it_went_up_is_tried_further_down():
    drawn = [(old, new) for name, old, new in after_changes("A = 2.0", gain=-2.0) if name == "A"]
    assert len(drawn) > 50
    assert sum(new < old for old, new in drawn) > 0.8 * len(drawn)


def test_a_number_that_makes_no_difference_makes_way_for_others():
    drawn = after_changes("A = 3.0", "A = 0.3333", "A = 10.0", "A = 0.1", gain=0.0)
    assert sum(name == "A" for name, _, _ in drawn) < 0.8 * 150 / 5


def test_a_choice_that_crashed_twice_is_hoped_for_less_than_one_that_did_not():
    import random

    text = {"train.py": 'ACT = "relu"  # choices: relu, gelu, tanh\n'}
    changed = {"train.py": text["train.py"].replace('"relu"', '"gelu"')}
    proposal = MutationProposer().propose("v", text, history(text))
    proposal = proposal.model_copy(
        update={"edits": (proposal.edits[0].model_copy(update={"text": changed["train.py"]}),)}
    )
    rounds = [a_round(1, version(text), version(changed), proposal, None, is_kept=False)] * 2
    [site] = sites("train.py", text["train.py"], (), GUARDED)
    known = lessons(history(text, rounds))[site.key]
    drawn = [max(hoped(site, known, random.Random(n)), key=lambda found: found[1])[0].text for n in range(100)]
    assert drawn.count('"tanh"') > 90


def test_choices_are_passed_by_name_too():
    text = {"train.py": 'ACT = "relu"\nSIZE = 8\nkind = adam\nf(ACT="relu")\n'}
    proposer = MutationProposer(choices={"ACT": ["gelu", "no'quote"], "SIZE": [16, "many"], "kind": ["sgd", "1x"]})
    places = proposer._places(text)
    assert {(s.line, s.name): [o.text for o in s.options] for s in places if s.kind != "statement"} == {
        (1, "ACT"): ['"gelu"'],
        (2, "SIZE"): ["16"],
        (3, "kind"): ["sgd"],
        (4, "ACT"): ['"gelu"'],
    }


def test_where_nothing_is_left_it_is_out_of_ideas():
    text = {"train.py": 'ACT = "relu"  # choices: relu, gelu\n'}
    first = MutationProposer().propose("v", text, history(text))
    assert first.edits[0].text == 'ACT = "gelu"  # choices: relu, gelu\n'
    with pytest.raises(OutOfIdeas, match="declare choices"):
        MutationProposer().propose("v", text, history(text, tried=[version(applied(text, first))]))
    with pytest.raises(OutOfIdeas):
        MutationProposer().propose("v", {"train.py": "def f(:\n"}, history({"train.py": "def f(:\n"}))


def test_what_does_the_same_as_a_tried_version_is_not_proposed_though_it_is_written_otherwise():
    text = {"train.py": "RATE = 2.0  # choices: 2.0, 1.50, 1.5\n"}
    tried = {"train.py": "RATE = 1.5\n"}
    with pytest.raises(OutOfIdeas):
        MutationProposer().propose("v", text, history(text, tried=[identity(tried)]))


def test_a_subject_without_such_files_is_refused_by_what_it_asked_for():
    with pytest.raises(UserError, match=r"none matches src/\*\.py"):
        MutationProposer(files=["src/*.py"]).propose("v", TEXT, history())
    with pytest.raises(ValueError, match="give a list"):
        MutationProposer(files="train.py")


def test_now_and_then_two_changes_are_proposed_at_once_in_two_lines():
    found = [MutationProposer(twice=0.9).propose("v", TEXT, history(seed=n)) for n in range(10)]
    both = [p for p in found if ", and " in p.rationale]
    assert len(both) > 5
    changed = [n for p in both for e in p.edits for n in changed_tokens(e.path, TEXT[e.path], e.text)]
    assert len(changed) == 2 * len(both)


@given(value=st.floats(1e-12, 1e12) | st.integers(0, 10**9))
def test_a_number_keeps_its_kind_and_is_another_one(value):
    old = written(value, "1e-3" if isinstance(value, float) and value < 1e-3 else "1.0", isinstance(value, int))
    options = number_options(old)
    assert options
    for option in options:
        assert number(option.text) not in (None, number(old))
        assert type(ast.literal_eval(option.text)) is type(ast.literal_eval(old))


HOSTILE = [
    "x = '\0'\n",
    "x = '\ud800'\n",
    "x" + ".y" * 3000,
    "x = " + "-" * 300 + "1",
    "x = 1\ry = 2\r",
    "x = '\\d'\n",
    "",
    "(" * 300,
]


@pytest.mark.parametrize("source", HOSTILE, ids=range(len(HOSTILE)))
def test_a_file_that_cannot_be_read_has_no_places_or_places_that_can_be_changed(source):
    for site in sites("a.py", source):
        ast.parse(site.apply(source, site.options[0]))
