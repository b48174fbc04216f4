import random
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.findings import findings, general, holds, members, path_of, score_by_tag
from harness.protocols import Trace
from traces.records import Finding, Grade, Span, Symptom, Trial, Usage, now


def trial(
    task: str, *, tags: tuple[str, ...] = ("plural",), reason: str = "no answer", score: float = 0.0, **more
) -> Trial:
    grade = None if "error" in more else Grade(score=score, reason=reason)
    return Trial(
        id=f"run/{task}",
        run="run",
        version="v" * 8,
        task=task,
        split="train",
        tags=tags,
        grade=grade,
        started=now(),
        seconds=0.0,
        **more,
    )


def test_failures_alike_are_one_finding_with_its_count_share_and_examples():
    trials = [trial(f"t{i}") for i in range(6)] + [trial(f"r{i}", score=1.0) for i in range(4)]
    [found] = findings(trials)
    assert (found.count, found.share, len(found.examples)) == (6, 0.6, 5)
    assert found.title == "[plural] wrong answer: no answer"


def test_the_finding_that_costs_most_score_comes_first():
    half = [trial(f"h{i}", tags=("a",), score=0.5) for i in range(5)]
    whole = [trial(f"w{i}", tags=("b",)) for i in range(3)]
    assert [f.tags for f in findings(half + whole)] == [("b",), ("a",)]


def test_errors_are_told_apart_from_wrong_answers_and_numbers_paths_and_quotes_do_not_count():
    trials = [
        trial("a", error="Timeout: /tmp/x1/out.txt after 31.5 s on 'foo'", error_class="Timeout", boundary="runner"),
        trial("b", error="Timeout: /var/y/out.txt after 7 s on 'bar'", error_class="Timeout", boundary="runner"),
        trial("c"),
    ]
    assert [(f.kind, f.count) for f in findings(trials)] == [("Timeout", 2), ("wrong answer", 1)]


@given(st.text(), st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_message_in_general_does_not_depend_on_its_numbers(text, a, b):
    assert general(f"failed after {a} steps") == general(f"failed after {b} steps")
    assert len(general(text)) <= 160


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99))
def test_the_order_of_the_trials_does_not_matter_and_the_ids_are_stable(seed):
    trials = [
        trial(f"t{i}", tags=(("a", "b")[i % 2],), reason=("no answer", "too long")[i % 3 == 0]) for i in range(20)
    ]
    shuffled = random.Random(seed).sample(trials, len(trials))
    assert findings(shuffled) == findings(trials)


def test_what_could_not_be_scored_counts_as_nothing_won_in_the_score_by_kind():
    trials = [trial("a", score=1.0), trial("b", error="x", error_class="X", boundary="runner")]
    assert score_by_tag(trials) == {("plural",): 0.5}


OTHERS = [
    trial(f"o{i}", tags=("x",), reason=reason)
    for i, reason in enumerate(("the title is too long", "a heading is missing", "misspells a name") * 5)
]
DEAD = ("links: docs/a.md leads nowhere", "the link to `b` leads nowhere", "a link to 'c' leads nowhere at all")


def test_the_same_symptom_in_other_words_and_on_other_tasks_is_one_finding():
    trials = [trial(f"l{i}", tags=("abc"[i % 3],), reason=DEAD[i % 3]) for i in range(6)]
    found, *others = findings([*OTHERS, *trials, *(trial(f"r{i}", score=1.0) for i in range(6))])
    assert (found.count, found.tags, found.symptom.tags) == (6, (), None)
    assert len(found.symptom.messages) == 3
    assert [f.count for f in others] == [5, 5, 5]


@pytest.mark.parametrize("said", ["another answer than the accepted ones", "", "17", "expected 'a', got 'b'", "Wrong!"])
def test_a_symptom_that_says_nothing_is_told_apart_by_tags(said):
    trials = [trial(f"t{i}", tags=("ab"[i % 2],), reason=said) for i in range(4)]
    found = [f for f in findings([*OTHERS, *trials]) if f.tags != ("x",)]
    assert [f.symptom.tags for f in found] == [f.tags for f in found]
    assert {f.tags for f in found} == {("a",), ("b",)}


def test_a_class_of_error_says_what_is_wrong_so_its_tags_do_not_count():
    trials = [
        trial(f"t{i}", tags=("ab"[i % 2],), error=f"failed after {i} s", error_class="timeout", boundary="runner")
        for i in range(6)
    ]
    [found] = findings(trials)
    assert (found.count, found.title) == (6, "timeout: failed after # s")


def test_failures_whose_messages_say_nothing_are_told_apart_by_an_unusual_path_before_tags():
    trials = [trial(f"t{i}", tags=("ab"[i % 2],), reason=f"{i} tests fail") for i in range(12)]
    solved = [trial(f"s{i}", score=1.0) for i in range(40)]
    paths = {t.id: "read > edit! > submit" if i < 6 else "read > edit > submit" for i, t in enumerate(trials)}
    paths |= {t.id: "read > edit > submit" for t in solved}
    found = findings([*trials, *solved], paths=paths)
    assert {(f.symptom.path, f.symptom.tags, f.count) for f in found} == {
        ("read > edit! > submit", None, 6),
        ("", ("a",), 3),
        ("", ("b",), 3),
    }
    assert found[0].title == "[read > edit! > submit] wrong answer: # tests fail"


RUBRIC = [
    f"{way}: {key}"
    for key in ("next-step", "no-promise", "c1", "c2")
    for way in ("passes what people refuse", "refuses what people pass")
]


def test_other_keys_and_opposite_verdicts_are_other_findings_with_titles_that_all_of_their_trials_show():
    trials = [trial(f"{i}-{n}", tags=("ab"[n % 2],), reason=said) for i, said in enumerate(RUBRIC) for n in range(3)]
    both = "passes what people refuse: c1; refuses what people pass: c2, next-step"
    found = findings([*trials, trial("x", reason=both)])
    assert {f.title for f in found} == {f"wrong answer: {said}" for said in RUBRIC}
    assert sorted(f.count for f in found) == [3] * 7 + [4]
    assert sum(holds(f, trial("x", reason=both)) for f in found) == 3


def test_keys_that_often_fail_together_are_a_finding_of_their_own():
    trials = [trial(f"{said}{n}", reason=f"not judged: {said}") for said in ("a", "a, b") for n in range(6)]
    rest = [trial("c", reason="not judged: a, c"), trial("d", reason="not judged: a, b, c")]
    found = {f.title: f.count for f in findings([*OTHERS, *trials, *rest])}
    assert (found["[plural] wrong answer: not judged: a"], found["[plural] wrong answer: not judged: a, b"]) == (7, 7)


def test_keys_that_hardly_recur_are_names_of_things_and_one_finding_that_holds_other_names_too():
    names = [f"{a}-{b}" for a in ("page", "user", "order", "line") for b in ("id", "name", "date", "sum", "link")]
    found = findings([*OTHERS, *(trial(name, reason=f"unknown field: {name}") for name in names)])
    assert (found[0].title, found[0].count) == ("[plural] wrong answer: unknown field: …", 20)
    assert holds(found[0], trial("n", reason="unknown field: locale"))
    assert not holds(found[0], trial("n", reason="missing field: locale"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("accepts a date that is invalid", "rejects a date that is invalid"),
        ("passes what should fail", "fails what should pass"),
        ("expected true, got false", "expected false, got true"),
        ("the judge refuses a tone that people pass", "the judge passes a tone that people refuse"),
        ("does not accept a late refund", "accepts a late refund"),
    ],
)
def test_what_says_the_opposite_in_the_same_words_is_another_finding(one, other):
    trials = [trial(f"{n}{i}", tags=("x",), reason=said) for n in range(4) for i, said in enumerate((one, other))]
    found = [f for f in findings([*OTHERS, *trials]) if f.count == 4]
    assert {f.title for f in found} == {f"[x] wrong answer: {one}", f"[x] wrong answer: {other}"}
    assert [sum(holds(f, t) for t in trials) for f in found] == [4, 4]


def test_counts_in_another_order_are_no_opposite():
    said = ("3 failed, 5 passed", "5 passed, 3 failed")
    assert len(findings([trial(f"t{i}", reason=said[i % 2]) for i in range(4)])) == 1


def test_a_title_that_a_machine_made_goes_when_it_is_no_longer_true_and_a_described_one_stays():
    first = [trial(f"l{i}", tags=("a",), reason=DEAD[0]) for i in range(3)]
    found = [f for f in findings([*OTHERS, *first]) if f.tags == ("a",)]
    then = [trial(f"l{i}", tags=("b",), reason=DEAD[1 + i % 2]) for i in range(4)]
    assert [f.title for f in findings([*then[::2], *first[:1]], found)] == ["wrong answer: the link to … leads nowhere"]
    [mixed] = findings([*then, *first[:1]], found)
    assert mixed.id == found[0].id
    assert mixed.title == "wrong answer: link … leads nowhere, such as: a link to … leads nowhere at all"
    told = [f.model_copy(update={"summary": "Links are dead."}) for f in found]
    assert [f.title for f in findings(then, told)] == [found[0].title]


def test_what_was_joined_before_though_it_names_different_things_is_found_anew():
    old = Finding(
        id="old",
        title="x",
        kind="wrong answer",
        count=2,
        share=1.0,
        symptom=Symptom(kind="wrong answer", messages=tuple(RUBRIC[:2])),
    )
    assert "old" not in {f.id for f in findings([trial("a", reason=RUBRIC[0])], [old])}
    told = old.model_copy(update={"summary": "A person said so."})
    assert {f.id for f in findings([trial("a", reason=RUBRIC[0])], [told])} == {"old"}


def test_a_small_finding_takes_in_no_large_one_that_near_words_do_not_tell_apart():
    echoes = [trial(f"e{i}", tags=("abc"[i % 3],), reason="repeats the question") for i in range(2)]
    known = findings([*OTHERS, *echoes])
    [small] = [f for f in known if f.count == 2]
    words = [trial(f"w{i}", tags=("abc"[i % 3],), reason="repeats a word of the question") for i in range(18)]
    found = findings([*OTHERS, *echoes, *words], known)
    assert {(f.symptom.tags, f.count) for f in found[:3]} == {(("a",), 6), (("b",), 6), (("c",), 6)}
    assert {f.id: f.count for f in found}[small.id] == 2
    assert findings([*OTHERS, *echoes, *words], found) == found
    told = [f.model_copy(update={"summary": "It repeats."}) if f.id == small.id else f for f in known]
    assert {f.id: f.count for f in findings([*OTHERS, *echoes, *words], told)}[small.id] == 20
    few = findings([*OTHERS, *echoes, *words[:4]], known)
    assert {f.id: f.count for f in few}[small.id] == 6


def test_a_finding_knows_what_its_trials_lost_and_cost_and_when_they_began():
    begun = now()
    trials = [
        trial(f"t{i}", score=0.25 * i).model_copy(
            update={"started": begun + timedelta(hours=i), "usage": Usage(dollars=0.5)}
        )
        for i in range(3)
    ]
    [found] = findings(trials)
    assert (found.lost, found.dollars) == (2.25, 1.5)
    assert (found.first_seen, found.last_seen) == (begun, begun + timedelta(hours=2))
    unpriced = trials[0].model_copy(update={"id": "run/u", "usage": Usage(dollars=None)})
    assert findings([*trials, unpriced])[0].dollars is None


def test_what_says_nothing_about_the_version_belongs_to_no_finding():
    trials = [trial("a", error="no room", error_class="disk", boundary="sandbox"), trial("b")]
    [found] = findings(trials)
    assert (found.count, found.share) == (1, 1.0)
    assert not holds(found, trials[0])
    assert members([found], trials)[found.id] == [trials[1]]


def test_a_finding_without_a_symptom_holds_nothing_and_one_without_messages_whatever_it_says():
    old = Finding(id="old", title="x", kind="wrong answer", count=1, share=1.0)
    silent = old.model_copy(update={"id": "new", "symptom": Symptom(kind="wrong answer")})
    assert not holds(old, trial("a"))
    assert holds(silent, trial("a"))
    assert not holds(silent, trial("a", error="x", error_class="y", boundary="runner"))
    assert [f.id for f in findings([trial("a")], [old, silent])] == ["new"]


def test_a_new_finding_never_takes_the_id_of_another():
    [first] = findings([trial("a")])
    elsewhere = first.model_copy(update={"symptom": Symptom(kind="other")})
    [second] = findings([trial("a")], [elsewhere])
    assert second.id != first.id


@pytest.mark.parametrize(
    "said",
    [
        "x" * 100_000,
        "‘" * 100_000,
        "a/" * 50_000,
        "\x1b[31m\u202egone\x00\x07 away",
        "#" * 999,
        "\n\n\n",
        "\u2028",
        "\ud800",
    ],
    ids=range(8),
)
def test_whatever_a_message_holds_a_title_is_one_short_line_that_shows_as_it_is(said):
    [found] = findings([trial("a", tags=("\x1b[0m" + "t" * 999,), reason=said)])
    assert found.title.isprintable()
    assert len(found.title) <= 200
    assert holds(found, trial("b", tags=("\x1b[0m" + "t" * 999,), reason=said))


def test_of_a_traceback_its_last_line_counts():
    said = "Traceback (most recent call last):\n  File \"x.py\", line 3, in <module>\nKeyError: 'colour'\n"
    assert general(said) == "KeyError: …"


def test_more_failures_than_can_be_told_apart_leave_those_that_cost_most():
    words = ["".join(chr(97 + i // 26**k % 26) for k in range(3)) for i in range(700)]
    trials = [trial(f"t{i}", reason=f"{word} {word[::-1]}{word}") for i, word in enumerate(words)]
    trials += [trial(f"l{i}", reason="a link leads nowhere") for i in range(5)]
    found = findings(trials)
    assert len(found) == 200
    assert found[0].count == 5


def span(name: str, seconds: int, status: str = "ok", operation: str = "execute_tool") -> Span:
    started = now().replace(microsecond=0) + timedelta(seconds=seconds)
    return Span(id=f"{name}{seconds}", operation=operation, name=name, started=started, seconds=1.0, status=status)


def test_a_path_names_each_tool_once_as_it_was_first_called_and_marks_what_failed():
    spans = [
        span("edit", 30, "error"),
        span("search", 10),
        span("gpt", 15, operation="chat"),
        span("search", 20),
        span("edit", 40),
        span("sub\nmit", 50),
    ]
    assert path_of(Trace(trial("a"), tuple(spans), {})) == "search > edit! > edit > sub mit"
    assert path_of(Trace(trial("a"), (), {})) == ""
    long = Trace(trial("a"), tuple(span(f"tool{i}", i) for i in range(9)), {})
    assert path_of(long) == "tool0 > tool1 > tool2 > tool3 > tool4 > tool5 > …"
