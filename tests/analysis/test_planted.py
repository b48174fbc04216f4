"""Findings against failures whose cause is known; ``tests/benchmarks/planted.py`` does it at length."""

import random
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from analysis.findings import findings, general, holds, members
from tests.analysis.planted import CODE, RULES, SUPPORT, World, f1, home, night, second
from tests.analysis.test_findings import trial

TRIALS = 1500


@cache
def nights(world: World):
    first, then = night(world, TRIALS, 0), night(second(world), TRIALS, 1)
    found = findings(first.trials, paths=first.paths)
    return first, found, then, findings(then.trials, found, then.paths)


def recovered(world: World, planted, found) -> set[str]:
    scores = f1(planted.truth, members(found, planted.trials, planted.paths).values())
    return {mode.name for mode in (*world.modes, world.later) if scores.get(mode.name, 0.0) >= 0.9}


def frequent(world: World) -> set[str]:
    return {mode.name for mode in world.modes if mode.share > 0.03}


@pytest.mark.parametrize("world", [CODE, RULES], ids=lambda world: world.name)
def test_every_planted_failure_above_three_percent_is_found_for_itself(world):
    first, found, *_ = nights(world)
    assert frequent(world) <= recovered(world, first, found)


def test_in_words_that_nothing_was_chosen_on_it_misses_only_what_shares_no_words():
    first, found, *_ = nights(SUPPORT)
    assert frequent(SUPPORT) - recovered(SUPPORT, first, found) == {"date"}


@pytest.mark.parametrize("world", [CODE, RULES, SUPPORT], ids=lambda world: world.name)
def test_a_second_night_attaches_to_the_same_ids_and_what_is_new_gets_its_own(world):
    first, found, then, again = nights(world)
    was = home(first.truth, members(found, first.trials, first.paths))
    now = home(then.truth, members(again, then.trials, then.paths))
    assert {mode: now[mode] for mode in frequent(world)} == {mode: was[mode] for mode in frequent(world)}
    assert now[world.later.name] not in {finding.id for finding in found}
    assert world.later.name in recovered(world, then, again)


def test_known_findings_keep_their_words_and_when_they_were_first_seen():
    _, found, then, _ = nights(CODE)
    told = [f.model_copy(update={"title": f"T {f.id}", "summary": "what", "cause": "why"}) for f in found]
    before = {finding.id: finding for finding in told}
    attached = [f for f in findings(then.trials, told, then.paths) if f.id in before]
    assert attached
    for finding in attached:
        old = before[finding.id]
        assert (finding.title, finding.summary, finding.cause) == (old.title, "what", "why")
        assert finding.symptom == old.symptom
        assert finding.first_seen == old.first_seen
        assert finding.last_seen > old.last_seen


def test_findings_do_not_depend_on_the_order_of_the_trials_and_attaching_changes_nothing():
    first, found, *_ = nights(CODE)
    shuffled = random.Random(1).sample(first.trials, TRIALS)
    assert findings(shuffled, paths=first.paths) == found
    assert findings(shuffled, list(reversed(found)), first.paths) == found


# ── anything at all ────────────────────────────────────────────────────────────────────────────────────────────────

WORDS = (
    "page",
    "link",
    "missing",
    "answer",
    "wrong",
    "the",
    "not",
    "'x'",
    "17",
    "no",
    "table",
    "row",
    "Ünder",
    "표가",
    "",
)
MESSAGES = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join) | st.text(max_size=12)
FAILURES = st.lists(
    st.tuples(MESSAGES, st.sampled_from(["a", "b", "c"]), st.sampled_from(["", "s > t", "t!"]), st.booleans()),
    max_size=25,
)


def made(failures) -> tuple[list, dict[str, str]]:
    trials = [
        trial(f"t{i}", tags=(tag,), error=said, error_class="tool", boundary="runner")
        if broke
        else trial(f"t{i}", tags=(tag,), reason=said, score=0.25 * (i % 4))
        for i, (said, tag, _, broke) in enumerate(failures)
    ]
    return trials, {f"run/t{i}": path for i, (_, _, path, _) in enumerate(failures)}


@settings(max_examples=25, deadline=None)
@given(FAILURES, st.randoms())
def test_whatever_fails_each_trial_belongs_to_one_finding_and_mining_again_changes_nothing(failures, rng):
    trials, paths = made(failures)
    found = findings(trials, paths=paths)
    groups = members(found, trials, paths)
    assert sorted(t.id for group in groups.values() for t in group) == sorted(t.id for t in trials)
    assert {f.id: f.count for f in found} == {id: len(group) for id, group in groups.items()}
    assert all(holds(f, t, paths[t.id]) for f in found for t in groups[f.id])
    assert len({f.id for f in found}) == len(found)

    assert findings(trials, found, paths) == found
    shuffled = rng.sample(trials, len(trials))
    assert findings(shuffled, paths=paths) == found


CLAUSES = st.builds(
    "{}: {}".format,
    st.sampled_from(["passes what people refuse", "refuses what people pass", "not judged", "tone"]),
    st.lists(st.sampled_from(["next-step", "on-topic", "c1", "c2", "too curt", "clear title"]), min_size=1, max_size=3)
    .map(dict.fromkeys)
    .map(", ".join),
)
TEMPLATES = (
    "accepts a late refund",
    "rejects a late refund",
    "expected true, got false",
    "expected false, got true",
    "the link to 'a' leads nowhere",
    "a link leads nowhere at all",
    "links: x/y.md leads nowhere",
    "a link to the page is dead",
    "no answer",
    "3 tests fail",
)
SAID = st.lists(CLAUSES, min_size=1, max_size=2).map("; ".join) | st.sampled_from(TEMPLATES)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(SAID, st.integers(1, 7), st.sampled_from(["a", "b"])), max_size=12), st.integers(0, 12))
@example(
    [
        ("refuses what people pass: c2", 1, "a"),
        ("refuses what people pass: next-step; refuses what people pass: on-topic, c1, too curt", 1, "a"),
    ],
    0,
)
def test_no_title_says_what_most_trials_of_its_finding_do_not_show(mix, half):
    trials = [
        trial(f"{i}-{n}", tags=(tag,), reason=said) for i, (said, n_of, tag) in enumerate(mix) for n in range(n_of)
    ]
    known = findings([t for t in trials if int(t.task.partition("-")[0]) < half])
    found = findings(trials, known)
    groups = members(found, trials)
    assert sum(map(len, groups.values())) == len(trials)
    for finding in found:
        claim = finding.title.partition("wrong answer: ")[2]
        group = groups[finding.id]
        assert all(f"[{tag}]" not in finding.title or {t.tags for t in group} == {(tag,)} for tag in "ab")
        said = [general(t.grade.reason) for t in group]
        if ", such as: " in claim:
            example = claim.partition(", such as: ")[2]
            assert example in said
            assert 2 * said.count(example) < len(said)
        else:
            assert 2 * sum(one == claim or told(claim) <= told(one) | anything(one) for one in said) >= len(said)


def told(message: str) -> set[tuple[str, str]]:
    """Each key with the words before it; of any other message, itself."""
    clauses = [clause.partition(": ") for clause in message.split("; ")]
    return {(label, key) for label, _, listed in clauses for key in listed.split(", ")}


def anything(message: str) -> set[tuple[str, str]]:
    """What a title says that names no key, since the keys are only names."""
    return {(label, "…") for label, _ in told(message)}
