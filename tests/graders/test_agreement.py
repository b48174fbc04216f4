"""A rubric as a measured instrument: labels, kappa, biases, and a score that no constant verdict earns."""

import itertools
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.agreement import (
    Verdict,
    agreement,
    cells,
    kappa,
    kappa_interval,
    length_bias,
    own_model_bias,
    position_bias,
)
from harness.errors import ModelError, TrialError, UserError
from harness.experiment import Experiment
from harness.gate import PairedGate
from harness.graders import AgreementGrader, Judge, RubricGrader
from harness.graders.agreement import marks_of
from harness.labels import (
    ALIKE,
    Line,
    agreed_marks,
    append_labels,
    append_lines,
    between_people,
    import_labels,
    label_id,
    load_labels,
    merged,
    nearly_same,
    new_among,
    read_lines,
    shingles_of,
    standing,
    tasks_from_labels,
)
from harness.ledger import open_run
from harness.loop import climb
from harness.protocols import Reply
from harness.runners import JudgingRunner
from harness.runners.judging import RUBRIC, ReversedJudge
from harness.testing import ScriptedModel
from harness.text import InvalidText, parse_rubric
from harness.trials import drift
from harness.versions import Repo
from tests.graders.world import an_answer, work_in
from tests.world import an_experiment, some_tasks
from traces.records import GateSpec, Grade, Label, Task, Trial

NINE = datetime(2026, 11, 20, 9, tzinfo=UTC)
JUDGE = """
description = "An answer."

[[criteria]]
id = "polite"
question = "Is it polite?"
choices = ["no", "yes"]

[[criteria]]
id = "brief"
question = "Is it brief?"
choices = ["no", "nearly", "yes"]
"""


def table(both: int, lenient: int, strict: int, neither: int) -> list[tuple[bool, bool]]:
    return [(True, True)] * both + [(True, False)] * lenient + [(False, True)] * strict + [(False, False)] * neither


def a_label(output: str, who: str = "ada", minutes: int = 0, asked: str = "Say something.", **marks: bool) -> Label:
    return Label(
        id=label_id(asked, output),
        asked=asked,
        output=output,
        marks=marks,
        who=who,
        labelled=NINE + timedelta(minutes=minutes),
    )


def different(n: int) -> str:
    """Texts that have next to no words in common."""
    return " ".join(f"w{n}x{i}" for i in range(6))


# ── kappa ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_kappa_is_the_agreement_beyond_chance():
    found = agreement("polite", table(20, 5, 10, 15))

    assert (found.n, found.agreed) == (50, 0.7)
    assert found.kappa == pytest.approx(0.4)
    assert (found.false_passes, found.false_failures) == (pytest.approx(5 / 20), pytest.approx(10 / 30))
    assert 0.1 < found.low < 0.3 < 0.5 < found.high < 0.7


def test_where_both_say_the_same_of_everything_there_is_no_kappa_and_not_a_zero():
    found = agreement("polite", table(30, 0, 0, 0))

    assert (found.agreed, found.kappa, found.low, found.high) == (1.0, None, None, None)
    assert (found.false_passes, found.false_failures) == (None, 0.0)


def test_a_judge_that_passes_everything_has_a_kappa_of_0_however_often_it_is_right():
    found = agreement("polite", table(90, 10, 0, 0))

    assert (found.agreed, found.kappa, found.false_passes) == (0.9, 0.0, 1.0)
    assert found.low < 0.05 < found.high


def test_of_ten_outputs_on_which_they_never_differed_the_interval_says_how_little_that_is():
    low, high = kappa_interval(table(5, 0, 0, 5))

    assert low < 0.8
    assert high == 1.0


def test_the_interval_of_kappa_covers_it_about_as_often_as_it_says():
    truth = np.array([0.42, 0.08, 0.12, 0.38])
    true = kappa(table(42, 8, 12, 38))
    samples = np.random.default_rng(3).multinomial(40, truth, 100)
    covered = fmean(low <= true <= high for low, high in (kappa_interval(table(*sample)) for sample in samples))

    assert 0.81 < covered < 0.98  # 90 %, give or take three standard errors


# ── biases ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_judge_that_lets_long_outputs_pass_is_found_out():
    swayed = [Verdict(str(i), "polite", i >= 50, i % 2 == 0, length=i) for i in range(100)]
    found = length_bias(swayed)

    assert (found.effect, found.n) == (1.0, 100)
    assert found.low > 0.8


def test_that_longer_outputs_are_better_is_no_bias():
    right = [Verdict(str(i), "polite", i >= 40, i >= 40, length=i) for i in range(100)]
    found = length_bias(right)

    assert found.effect == pytest.approx(0.0)
    assert found.low < 0 < found.high


def test_a_judge_that_favours_its_own_model_is_found_out_and_unknown_makers_do_not_count():
    verdicts = [
        Verdict(str(i), "polite", i % 2 == 0 or i % 4 == 1, i % 2 == 0, 10, ("me", "you")[i % 4 > 1]) for i in range(80)
    ]
    unknown = [Verdict(f"u{i}", "polite", judged=True, marked=False, length=10) for i in range(50)]
    found = own_model_bias(verdicts + unknown, "me")

    assert found.n == 80
    assert found.effect == pytest.approx(0.5)  # all of those that people refuse, none of those that they pass
    assert found.low > 0.2
    assert own_model_bias(unknown, "me").effect is None


def test_verdicts_that_change_with_the_order_are_counted():
    first = {str(i): {"polite": True, "brief": i % 2 == 0} for i in range(40)}
    other = {id: marks | {"brief": True} for id, marks in first.items()}
    found = position_bias(first, other)

    assert (found.n, found.effect) == (80, 0.25)
    assert found.low < 0.2 < 0.3 < found.high
    assert position_bias(first, {}).effect is None


def test_the_other_order_lists_criteria_and_choices_the_other_way_round_and_passes_the_same():
    said: list[str] = []

    def answer(messages):
        said.append(messages[-1].content)
        return an_answer(messages, {"brief": ("nearly", "too long", ""), "polite": ("yes", "Good day")})

    judge = Judge(ScriptedModel(answer), parse_rubric(JUDGE))
    review = ReversedJudge.of(judge).judge(Task(id="t", input="Greet."), "Good day to you.")

    assert said[0].index("brief") < said[0].index("polite")
    assert 'best to worst: "yes", "nearly", "no". It passes with: "yes".' in said[0]
    assert {mark.criterion: mark.passed for mark in review.marks} == {"polite": True, "brief": False}


# ── labels ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_labels_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "labels.jsonl"
    labels = [a_label("One.\nTwo\u2028", polite=True), a_label("Zwei", minutes=1, polite=False, brief=True)]
    append_labels(path, labels[:1])
    append_labels(path, labels[1:])

    assert load_labels(path) == labels


def test_a_later_mark_of_the_same_person_replaces_and_two_who_disagree_are_both_there():
    labels = merged(
        [
            a_label("x", "ada", 5, polite=True),
            a_label("x", "ada", 1, polite=False, brief=True),
            a_label("x", "ben", 2, polite=False),
        ]
    )

    assert {label.who: label.marks for label in labels} == {
        "ada": {"polite": True, "brief": True},
        "ben": {"polite": False},
    }
    assert agreed_marks(labels, "polite") == {}  # nobody can say who is right
    assert agreed_marks(labels, "brief") == {labels[0].id: True}
    assert between_people(labels, "polite") == [(True, False)]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2 is no label: it is not JSON"),
        ("[1]", "line 2 is no label: the line"),
        ('{"asked": "a", "output": "b", "who": "c", "labelled": "2026-01-01T00:00:00Z"}', "line 2 is no label: marks"),
        (a_label("x").model_dump_json(), "line 2 is no label: it marks no criterion"),
        (a_label("x", polite=True).model_dump_json().replace('"x"', '"y"'), "changed after it was labelled"),
    ],
)
def test_a_line_that_is_no_label_is_named(tmp_path, line, says):
    path = tmp_path / "labels.jsonl"
    path.write_text(a_label("first", polite=True).model_dump_json() + "\n" + line + "\n")

    with pytest.raises(UserError, match=says):
        load_labels(path)


def test_a_label_may_leave_its_id_and_the_file_its_last_line_break_out(tmp_path):
    path = tmp_path / "labels.jsonl"
    path.write_text('{"asked": "a", "output": "b", "marks": {"polite": true}, "who": "c", "labelled": "2026-01-01"}')
    append_labels(path, [a_label("x", polite=True)])

    assert [label.id for label in load_labels(path)] == [label_id("a", "b"), label_id("Say something.", "x")]


def test_without_a_file_it_says_how_to_write_one(tmp_path):
    with pytest.raises(UserError, match="ratchet label sorting"):
        load_labels(tmp_path / "sorting" / "labels.jsonl")


def test_csv_is_taken_over_with_quotes_line_breaks_and_cells_that_say_nothing(tmp_path):
    path = tmp_path / "given.csv"
    path.write_text(
        "\ufeffasked,output,polite,brief,who,maker\r\n"
        '"a, b","one\ntwo",PASS,0,Ada,m\r\n'
        "a,three,,yes,,\r\n"
        "a,four,,,,\r\n"
    )
    found = import_labels(path, "me")

    assert [(label.output, label.marks, label.who, label.maker) for label in found.labels] == [
        ("one\ntwo", {"polite": True, "brief": False}, "Ada", "m"),
        ("three", {"brief": True}, "me", ""),
    ]
    assert (found.unmarked, found.contradicting) == (1, 0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("asked,output,polite\na,b,maybe\n", "row 2: polite is 'maybe'"),
        ("asked,output,polite\na,b,1\na,b\n", "row 3 has 2 cells under 3"),
        ("asked,output,rude\na,b,1\n", "row 2 has 'rude', and the rubric has no such criterion"),
        ("asked,polite\na,1\n", "no column output, so it .* headings are 'asked', 'polite'"),
        ("question,answer,polite\na,b,1\n", "no column asked and no column output, so it"),
        ("asked;output;polite\na;b;1\n", "no column asked and no column output: its cells seem to be parted by ';'"),
        ('"asked";"output";"polite"\n"a";"b";1\n', "parted by ';'"),
        ("asked\toutput\tpolite\na\tb\t1\n", r"parted by '\\t'"),
        ("asked,output,polite,labelled\na,b,1,yesterday\n", "row 2: labelled is 'yesterday', which is no time"),
        ("asked,output,polite,polite\na,b,1,1\n", "two columns named 'polite'"),
        ('asked,output,polite\na,"b,1\n', "is not CSV"),
        ("asked,output,polite\n", "holds no mark: 0 rows"),
        ("asked,output,polite\na,b,\n", "holds no mark: 1 row,"),
    ],
)
def test_a_row_that_cannot_be_understood_is_named_and_nothing_is_taken_over(tmp_path, text, says):
    path = tmp_path / "given.csv"
    path.write_text(text)

    with pytest.raises(UserError, match=says):
        import_labels(path, "me", ["polite", "brief"])


def test_json_lines_are_taken_over_with_marks_beside_or_below(tmp_path):
    path = tmp_path / "given.jsonl"
    path.write_text(
        '{"asked": "a", "output": "b", "polite": true}\n\n'
        '{"asked": "a", "output": "c \\ud800", "marks": {"polite": "no"}, "who": "Ben"}\n'
    )
    labels = import_labels(path, "me").labels

    assert [(label.marks, label.who) for label in labels] == [({"polite": True}, "me"), ({"polite": False}, "Ben")]
    labels[1].model_dump_json().encode()  # no half of a surrogate pair is left

    path.write_text('{"asked": "a", "output": "b", "polite": 2}\n')
    with pytest.raises(UserError, match="row 1: polite is '2'"):
        import_labels(path, "me")
    path.write_text('{"asked": "a", "output": 5, "polite": true}\n')
    with pytest.raises(UserError, match="row 1: output is 5, which is no text"):
        import_labels(path, "me")
    path.write_text('{"question": "a", "answer": "b", "polite": true}\n')
    with pytest.raises(UserError, match=r"row 1 has no asked, .* It has question, answer, polite"):
        import_labels(path, "me", ["polite"])


def test_an_old_label_that_is_taken_over_replaces_no_newer_one_and_is_of_when_it_was_given(tmp_path):
    known = [Line(a_label("x", "ada", 5, polite=True)), Line(a_label("y", "ada", 1, polite=True))]
    path = tmp_path / "given.csv"
    path.write_text(
        "asked,output,polite,brief,who,labelled\n"
        "Say something.,x,no,,ada,2026-11-20T09:01:00Z\n"
        "Say something.,x,,no,ada,2026-11-20T09:09:00Z\n"
        "Say something.,y,no,,ada,2026-11-20 09:02\n"
        "Say something.,y,no,,ben,\n"
    )
    found = import_labels(path, "me").labels
    new = new_among(found, known)
    after = merged(standing([*known, *map(Line, new)]))

    assert [(label.output, label.marks) for label in new] == [
        ("y", {"polite": False}), ("x", {"brief": False}), ("y", {"polite": False}),
    ]  # fmt: skip
    assert {(label.output, label.who): label.marks for label in after} == {
        ("x", "ada"): {"polite": True, "brief": False},
        ("y", "ada"): {"polite": False},
        ("y", "ben"): {"polite": False},
    }
    assert new_among(found, [*known, *map(Line, new)]) == []


def test_rows_of_a_file_that_contradict_each_other_are_counted_and_the_newer_or_lower_one_counts(tmp_path):
    path = tmp_path / "given.jsonl"
    path.write_text(
        '{"asked": "a", "output": "b", "polite": true}\n'
        '{"asked": "a", "output": "b", "polite": false, "brief": true}\n'
        '{"asked": "a", "output": "b", "polite": true, "who": "ben", "labelled": "2026-11-20T10:00:00Z"}\n'
        '{"asked": "a", "output": "b", "polite": false, "who": "ben", "labelled": "2026-11-20T09:00:00Z"}\n'
    )
    found = import_labels(path, "ada")

    assert found.contradicting == 2
    assert {label.who: label.marks for label in merged(found.labels)} == {
        "ada": {"polite": False, "brief": True},
        "ben": {"polite": True},
    }


def test_a_mark_that_was_taken_back_is_gone_also_where_the_file_is_taken_over(tmp_path):
    path = tmp_path / "labels.jsonl"
    first = a_label("x", "ada", 0, polite=True, brief=True)
    append_lines(
        path, [Line(first), Line(a_label("x", "ada", 0), frozenset({"polite"})), Line(a_label("y", polite=True))]
    )
    append_lines(
        path, [Line(a_label("y", minutes=1), frozenset({"polite"})), Line(a_label("y", minutes=2, polite=False))]
    )

    assert [label.marks for label in load_labels(path)] == [{"brief": True}, {"polite": False}]
    assert merged(import_labels(path, "me").labels) == load_labels(path)
    old = a_label("x", "ada", -1, polite=False)
    assert new_among([old], read_lines(path)) == []


# ── labels as tasks ────────────────────────────────────────────────────────────────────────────────────────────────


def test_outputs_that_are_nearly_the_same_share_a_split():
    long = "The parcel left our warehouse on the third of May and will be with you before the week is over, Mr"
    texts = [f"{long} Smith.", "Something else entirely is said in this one.", f"{long} Jones.", "yes", "Yes!", "no"]

    assert nearly_same(texts) == [0, 1, 0, 3, 3, 5]


@settings(max_examples=40)
@given(st.lists(st.text("abc ", max_size=30), max_size=12))
def test_all_that_are_nearly_the_same_are_found_whatever_is_looked_at_first(texts):
    found, shingles = nearly_same(texts), [shingles_of(text) for text in texts]

    for i, j in itertools.combinations(range(len(texts)), 2):
        if len(shingles[i] & shingles[j]) >= ALIKE * len(shingles[i] | shingles[j]):
            assert found[i] == found[j]
    assert all(found[at] == at <= i for i, at in enumerate(found))


def test_a_label_that_is_added_moves_no_task_to_another_split():
    labels = [a_label(different(n), minutes=n, polite=n % 2 == 0) for n in range(40)]
    before = {task.id: task.split for task in tasks_from_labels(labels, ["polite"])}
    more = [a_label(different(n) + " and more", minutes=100 + n, polite=True) for n in range(60)]
    after = {task.id: task.split for task in tasks_from_labels(labels + more, ["polite"])}

    assert before.items() <= after.items()
    assert {*before.values()} == {"train", "validation", "test"}


def test_a_task_holds_what_people_agree_on_and_the_judge_is_not_shown_it():
    labels = [a_label("x", "ada", polite=True, brief=True), a_label("x", "ben", 1, polite=True, brief=False)]
    [task] = tasks_from_labels(labels, ["polite"])

    assert json.loads(task.input) == {"asked": "Say something.", "output": "x"}
    assert marks_of(task) == {"polite": True}
    with pytest.raises(UserError, match="no label marks 'kind'"):
        tasks_from_labels(labels, ["kind"])


# ── the score ──────────────────────────────────────────────────────────────────────────────────────────────────────


def in_train(marks: Sequence[dict[str, bool]], clusters: Sequence[int] = ()) -> list[Task]:
    return [
        Task(
            id=str(i),
            input="{}",
            targets=(json.dumps(mark),),
            split="train",
            cluster=str(clusters[i]) if clusters else "",
        )
        for i, mark in enumerate(marks)
    ]


def mean_score(grader: AgreementGrader, tasks: Sequence[Task], said) -> float:
    """As the gate takes it: the mean over clusters of their means."""
    clusters: dict[str, list[float]] = {}
    for task in tasks:
        score = grader.grade(task, json.dumps(said(task))).score
        clusters.setdefault(task.cluster or task.id, []).append(score)
    return fmean(fmean(scores) for scores in clusters.values())


marked = st.lists(st.fixed_dictionaries({}, optional={"a": st.booleans(), "b": st.booleans()}), min_size=4, max_size=20)


@settings(max_examples=30)
@given(marked, st.data())
def test_who_passes_all_and_who_refuses_all_scores_what_chance_does_and_only_people_score_1(marks, data):
    marks = [*marks, {"a": True, "b": True}, {"a": False, "b": False}]
    tasks = in_train(marks, data.draw(st.lists(st.integers(0, 9), min_size=len(marks), max_size=len(marks))))
    grader = AgreementGrader.of(tasks)
    chance = grader.chance("train")

    assert mean_score(grader, tasks, lambda task: {"a": True, "b": True}) == pytest.approx(chance)
    assert mean_score(grader, tasks, lambda task: {"a": False, "b": False}) == pytest.approx(chance)
    assert mean_score(grader, tasks, marks_of) == 1.0
    assert chance < 1


@settings(max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=4, max_size=40))
def test_the_score_is_that_of_both_rates_of_mistakes_and_above_chance_where_kappa_is_above_0(pairs):
    pairs = [*pairs, (True, True), (False, False)]
    tasks = in_train([{"a": person} for _, person in pairs])
    grader = AgreementGrader.of(tasks)
    _, lenient, strict, _ = cells(pairs)
    share = fmean(person for _, person in pairs)
    mistakes = lenient / (len(pairs) * (1 - share)) + strict / (len(pairs) * share)
    score = mean_score(grader, tasks, lambda task: {"a": pairs[int(task.id)][0]})

    assert score == pytest.approx(1 - mistakes * min(share, 1 - share))
    if abs(beyond_chance := kappa(pairs)) > 1e-9:
        assert (score > grader.chance("train")) == (beyond_chance > 0)


def test_a_judge_is_told_which_way_it_erred():
    tasks = in_train([{"a": True, "b": False}, {"a": False, "b": True}])
    grader = AgreementGrader.of(tasks)

    assert grader.grade(tasks[0], '{"a": false, "b": true}') == Grade(
        score=0.0, reason="passes what people refuse: b; refuses what people pass: a"
    )
    assert grader.grade(tasks[0], '{"a": true, "b": false}').reason == "as people say"
    assert grader.grade(tasks[0], '{"a": true}').reason == "not judged: b"


@pytest.mark.parametrize("output", ["", "null", "[]", "true", '{"a": 1}', '{"a": "yes"}', "{", "[" * 100_000])
def test_what_is_no_set_of_marks_scores_0(output):
    tasks = in_train([{"a": True}, {"a": False}])

    assert AgreementGrader.of(tasks).grade(tasks[0], output).score == 0.0


def test_labels_that_all_say_the_same_are_refused_since_nothing_could_be_wrong():
    with pytest.raises(UserError, match="people pass 'a' in every labelled output of the split train"):
        AgreementGrader.of(in_train([{"a": True}] * 5))


def test_what_the_judge_of_some_trials_comes_to_in_kappa_counts_no_output_twice():
    tasks = in_train([{"a": i % 2 == 0} for i in range(20)])

    def trial(task: Task, repeat: int, says: bool) -> Trial:
        return Trial(
            id=f"{task.id}/{repeat}",
            run="r",
            version="v" * 8,
            task=task.id,
            split="train",
            output=json.dumps({"a": says}),
            started=NINE,
            seconds=0,
        )

    trials = [trial(task, repeat, marks_of(task)["a"] or repeat > 0) for repeat in range(3) for task in tasks]
    [found] = AgreementGrader.of(tasks).agreements(trials, tasks)

    assert (found.n, found.kappa) == (20, 1.0)


# ── the runner ─────────────────────────────────────────────────────────────────────────────────────────────────────

GREETING = Task(id="t", input=json.dumps({"asked": "Greet.", "output": "Good day."}))


def judging(answer) -> JudgingRunner:
    return JudgingRunner(ScriptedModel(answer), ("polite", "brief"))


def test_a_rubric_of_the_version_judges_the_labelled_output():
    seen: list[str] = []

    def answer(messages):
        seen.append(work_in(messages))
        return an_answer(messages, {"polite": ("yes", "Good day"), "brief": ("no", "it is not", "")})

    assert judging(answer).run(GREETING, {RUBRIC: JUDGE}, 0) == '{"brief": false, "polite": true}'
    assert seen == ["Good day."]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text.replace('"brief"', '"short"'), ["'brief' is gone", "nobody has labelled by 'short'"]),
        (lambda text: text.split('[[criteria]]\nid = "brief"')[0], ["'brief' is gone"]),
        (
            lambda text: text + '[[criteria]]\nid = "kind"\nquestion = "?"\nchoices = ["a", "b"]\n',
            ["labelled by 'kind'"],
        ),
        (lambda text: "criteria = 1", ["criteria"]),
    ],
)
def test_a_version_whose_rubric_lost_renamed_or_added_a_criterion_is_refused(change, says):
    with pytest.raises(InvalidText) as e:
        judging("").check({RUBRIC: change(JUDGE)})

    assert all(each in str(e.value) for each in says)


def test_a_version_without_the_rubric_is_refused_and_one_that_words_it_anew_is_not():
    with pytest.raises(InvalidText, match="no such file"):
        judging("").check({"rubrics/other.toml": JUDGE})
    judging("").check({RUBRIC: JUDGE.replace("Is it polite?", "Does it greet and thank?")})


def test_a_rubric_that_leads_the_judge_nowhere_fails_by_itself_and_a_judge_that_is_away_does_not():
    for answer in ("no JSON", lambda messages: an_answer(messages, {}, "failed", detail="it contradicts itself")):
        with pytest.raises(TrialError) as e:
            judging(answer).run(GREETING, {RUBRIC: JUDGE}, 0)
        assert e.value.boundary == "runner"

    def away(messages) -> Reply:
        raise ModelError("overloaded", "later", transient=True)

    with pytest.raises(ModelError):
        judging(away).run(GREETING, {RUBRIC: JUDGE}, 0)


# ── a new rubric is a new scale ────────────────────────────────────────────────────────────────────────────────────


def judged_experiment(path) -> Experiment:
    """One whose grader goes by the rubric in the file *path*."""
    judge = Judge(
        ScriptedModel(lambda m: an_answer(m, {"polite": ("yes", work_in(m)), "brief": ("yes", work_in(m))})), path
    )
    return an_experiment(tasks=some_tasks(40, ["plural", "colour"]), grader=RubricGrader(judge=judge))


def test_a_night_is_not_continued_once_the_rubric_of_its_judge_has_changed(checkout, tmp_path):
    rubric, repo = tmp_path / "judge.toml", Repo.find(checkout)
    rubric.write_text(JUDGE)
    live = repo.subject("subject").live().id
    experiment = judged_experiment(rubric)
    with open_run(tmp_path / "data", experiment, live) as ledger, ThreadPoolExecutor(2) as executor:
        next(climb(experiment, ledger, repo, executor))

    rubric.write_text(JUDGE.replace("Is it polite?", "Is it polite? It passes unless it is empty."))

    with pytest.raises(
        UserError, match=r"not finished, and since it began these changed: grader.* would not mean the same"
    ):
        open_run(tmp_path / "data", judged_experiment(rubric), live)


@dataclass(frozen=True)
class MixedTrials:
    """Trials whose candidate was graded by another grader than its incumbent."""

    graders: dict[str, str]

    def clusters(self, split, seed):
        return [[Task(id=str(i), input="x", split=split)] for i in range(80)]

    def declare(self, spec: GateSpec) -> GateSpec:
        return spec

    def attempt(self, versions, tasks, repeats=1):
        return [
            {
                task.id: [
                    Trial(
                        id=f"{version}/{task.id}",
                        run="r",
                        version=version,
                        task=task.id,
                        split=task.split,
                        conditions=(f"grader={self.graders[version]}",),
                        output="x",
                        grade=Grade(score=float(version == "candidate")),
                        started=NINE,
                        seconds=0,
                    )
                ]
                for task in tasks
            }
            for version in versions
        ]


def test_scores_that_two_rubrics_gave_never_meet_in_a_comparison(tmp_path):
    rubric = tmp_path / "judge.toml"
    rubric.write_text(JUDGE)
    strict = judged_experiment(rubric).fingerprint()["grader"]
    rubric.write_text(JUDGE.replace("Is it brief?", "Is there any of it?"))
    lax = judged_experiment(rubric).fingerprint()["grader"]
    mixed = PairedGate().prove("incumbent", "candidate", MixedTrials({"incumbent": strict, "candidate": lax}), 0.05)
    same = PairedGate().prove("incumbent", "candidate", MixedTrials({"incumbent": lax, "candidate": lax}), 0.05)

    assert strict != lax
    assert (same.is_valid, same.verdict.verdict) == (True, "accept")
    assert not mixed.is_valid
    assert mixed.drift == f"grader was {strict} and {lax}"
    assert mixed.verdict.verdict != "accept"
    assert drift([]) == ""
