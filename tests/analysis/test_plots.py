"""The picture of a night. What it looks like is for people to judge; what it shows is tested."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.night import Night
from analysis.plots import (
    cost_against_score,
    e_paths,
    findings_before_after,
    path_of,
    pictures,
    predictions,
    progress,
)
from analysis.predictions import Scored, scored
from analysis.report import COST, EVIDENCE, FINDINGS, PREDICTIONS, PROGRESS
from analysis.shrinkage import After, Aftermath, Shrinkage
from harness.gate.eprocess import decide
from traces.records import (
    Certification,
    Comparison,
    Decision,
    Finding,
    GateSpec,
    Proposal,
    Removal,
    Round,
    Run,
    Usage,
    now,
)


def compared(before: float, after: float | None, *, metric: str = "", lower: bool = False) -> Comparison:
    gain = None if after is None else (before - after if lower else after - before)
    return Comparison(
        incumbent="a", candidate="b", split="train", tasks=8, incumbent_score=before, candidate_score=after, gain=gain,
        low=None, high=None, confidence=0.9, metric=metric,
    )  # fmt: skip


def a_round(number: int, score: float, verdict: str = "", comparison: Comparison | None = None, **more) -> Round:
    because = "improved" if verdict == "keep" else "no-improvement"
    decision = Decision(verdict=verdict, because=because, comparison=comparison) if verdict else None  # type: ignore[arg-type]
    return Round(
        run="night", number=number, incumbent="a", working="b", score=score, score_low=score - 0.01,
        score_high=score + 0.01, decision=decision, started=now(), seconds=1.0, **more,
    )  # fmt: skip


def drawn(*rounds: Round) -> Axes:
    [axes] = progress(rounds, "a night").axes
    return axes


def dots(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    """Label → where its marks stand."""
    return {
        str(line.get_label()): list(zip(line.get_xdata(), line.get_ydata(), strict=True))
        for line in axes.lines
        if line.get_linestyle() == "None"
    }


def bpb(before: float, after: float | None) -> Comparison:
    return compared(before, after, metric="val_bpb", lower=True)


def test_scores_start_at_zero_and_each_candidate_is_a_mark_that_says_what_became_of_it():
    axes = drawn(
        a_round(0, 0.5),
        a_round(1, 0.6, "keep", compared(0.5, 0.7)),
        a_round(2, 0.6, "discard", compared(0.6, 0.4)),
        a_round(3, 0.6, "inconclusive", compared(0.6, 0.61)),
        a_round(4, 0.6, "discard"),
    )

    assert axes.get_ylabel() == "mean score on train"
    assert axes.get_ylim()[0] == 0
    assert dots(axes) == {
        "kept": [(1, 0.7)],
        "discarded": [(2, 0.4)],
        "inconclusive": [(3, 0.61)],
        "not measured": [(4, 0.6)],
    }


def test_a_metric_has_its_own_axis_which_says_which_way_is_better():
    rounds = (
        a_round(0, 1.0),
        a_round(1, 0.98, "keep", bpb(1.0, 0.97)),
        a_round(2, 0.98, "discard", bpb(0.98, 0.985)),
        a_round(3, 0.98, "discard", bpb(0.98, 4.2)),
        a_round(4, 0.98, "discard", bpb(0.98, None)),
    )
    axes = drawn(*rounds)
    low, high = axes.get_ylim()

    assert axes.get_ylabel() == "val_bpb on train (lower is better)"
    assert 0.9 < low < 0.97
    assert 1.01 < high < 1.1
    assert dots(axes) == {
        "kept": [(1, 0.97)],
        "discarded": [(2, 0.985)],
        "off the scale": [(3, high)],
        "not measured": [(4, 0.98)],
    }


def test_a_long_night_of_a_metric_shows_its_working_version_above_the_dots_and_at_its_own_size():
    def scored(number: int, score: float, *more) -> Round:
        return a_round(number, score, *more).model_copy(update={"score_low": score - 9, "score_high": score + 9})

    tried = (bpb(59.0, 700.0 if n % 9 == 0 else 50.0 + n % 25) for n in range(2, 100))
    rounds = [scored(0, 309.0), scored(1, 59.0, "keep", bpb(309.0, 55.0))]
    rounds += [scored(n, 59.0, "discard", c) for n, c in enumerate(tried, 2)]
    axes = drawn(*rounds)
    low, high = axes.get_ylim()
    marks = {str(line.get_label()): line for line in axes.lines}

    assert (low, high) == pytest.approx((50 - 2.4, 74 + 2.4), abs=1)
    assert {y for _, y in dots(axes)["off the scale"]} == {high}
    assert marks["off the scale"].get_marker() == "^"
    assert [text.get_text() for text in axes.texts] == ["↑ baseline 309"]
    assert marks["discarded"].get_zorder() < marks["working version"].get_zorder() < marks["kept"].get_zorder()
    assert marks["discarded"].get_markersize() < marks["kept"].get_markersize()
    [cost] = cost_against_score(rounds).axes
    assert cost.get_ylim() == (low, high)
    assert [text.get_text() for text in cost.texts] == ["↑ baseline 309"]


def test_a_metric_that_is_to_rise_says_so_whatever_its_size_and_sign():
    rising = compared(-300.0, -250.0, metric="reward")
    axes = drawn(a_round(0, -300.0), a_round(1, -255.0, "keep", rising))

    assert axes.get_ylabel() == "reward on train (higher is better)"
    assert axes.get_ylim()[0] < -300
    assert -250 < axes.get_ylim()[1] < -200


def test_a_metric_that_never_changes_can_be_drawn():
    axes = drawn(a_round(0, 0.0), a_round(1, 0.0, "discard", bpb(0.0, 0.0)))
    assert axes.get_ylim()[0] < 0 < axes.get_ylim()[1]


def test_a_change_that_was_taken_out_later_is_not_shown_as_one_that_stands():
    lost = Certification(
        id="c", run="night", checkpoint=1, live="a", candidate="b", verdict="reject", alpha=0.01, test_number=1,
        validation=None,
    )  # fmt: skip
    out = (Removal(rounds=(1,), verdict="drop", comparison=None), Removal(rounds=(2,), verdict="stay", comparison=None))
    axes = drawn(
        a_round(0, 0.5),
        a_round(1, 0.6, "keep", compared(0.5, 0.7)),
        a_round(2, 0.6, "keep", compared(0.6, 0.65), certification=lost, removals=out),
    )

    assert dots(axes) == {"kept": [(2, 0.65)], "kept, taken out later": [(1, 0.7)]}
    assert [text.get_text() for text in axes.texts] == ["promotion test: reject, 1 taken out"]


def a_test(differences: tuple[float, ...], alpha: float = 0.3, split: str = "train") -> Comparison:
    spec = GateSpec(alpha=alpha, n_max=200)
    return Comparison(
        incumbent="a", candidate="b", split=split, tasks=len(differences), incumbent_score=0.5, candidate_score=0.6,
        gain=0.1, low=0.0, high=0.2, confidence=0.9, spec=spec, differences=differences,
        verdict=decide(differences, spec),
    )  # fmt: skip


def a_promotion_test(differences: tuple[float, ...], verdict: str = "accept") -> Certification:
    return Certification(
        id="c", run="night", checkpoint=1, live="a", candidate="b", verdict=verdict, alpha=0.0025, test_number=1,
        validation=a_test(differences, 0.0025, "validation"),
    )  # fmt: skip


def a_row(before: int, after: int, *, title: str = "t", targeted: bool = False, **more: object) -> Shrinkage:
    change = (after - before) / 100
    return Shrinkage(**{
        "finding": Finding(id=title, title=title, kind="k", count=after, share=after / 100), "before": before,
        "n_before": 100, "after": after, "n_after": 100, "change": change, "low": change - 0.05, "high": change + 0.05,
        "clusters": 50, "targeted": targeted, **more,
    })  # fmt: skip


def only_axes(figure: Figure) -> Axes:
    [axes] = figure.axes
    return axes


def paint(figure: Figure) -> bool:
    figure.draw_without_rendering()  # lays it out and draws it on nothing, which is where a picture warns or breaks
    return True


def lines(axes: Axes) -> dict[str, list[float]]:
    return {str(line.get_label()): [float(y) for y in line.get_ydata()] for line in axes.lines}


def words(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_the_path_of_the_evidence_ends_at_the_e_value_that_the_verdict_was_made_from():
    wins = a_test((1.0, 0.0, 1.0, 1.0, -1.0) * 6)
    assert wins.verdict is not None
    assert path_of(wins)[0] == 1
    assert path_of(wins)[wins.verdict.n] == wins.verdict.e_value
    assert path_of(compared(0.5, 0.6)) == []


def test_each_test_is_drawn_against_what_it_had_to_reach_and_promotion_tests_stand_out():
    wins, losses = (1.0, 0.0) * 10, (-1.0, 0.0) * 10
    axes = only_axes(
        e_paths(
            [
                a_round(0, 0.5),
                a_round(1, 0.6, "keep", a_test(wins)),
                a_round(2, 0.6, "discard", a_test(losses)),
                a_round(3, 0.6, "discard", bpb(1.0, 1.1)),
                a_round(4, 0.6, certification=a_promotion_test((1.0,) * 30)),
            ]
        )
    )
    drawn = lines(axes)
    assert axes.get_yscale() == "log"
    assert set(drawn) >= {"on train, kept", "on train, not kept", "promotion test"}
    assert drawn["promotion test"] == pytest.approx(path_of(a_test((1.0,) * 30, 0.0025)))
    assert {"needed: 3.33", "needed: 400", "1: accept"} <= set(words(axes))


def test_a_night_without_such_a_test_says_so_instead_of_showing_nothing():
    assert "no test that watches its evidence" in words(only_axes(e_paths([a_round(0, 0.5)])))[-1]


def test_findings_that_a_change_aimed_at_come_first_and_one_that_clearly_rose_is_marked():
    rows = [a_row(5, 30, title="side effect"), a_row(20, 21, title="noise"), a_row(30, 10, title="cure", targeted=True)]
    axes = only_axes(findings_before_after(rows))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cure", "side effect", "noise"]
    assert dots(axes)["aimed at"] == [(0.10, 0)]
    assert dots(axes)["clearly rose"] == [(0.30, 1)]
    assert dots(axes)["other"] == [(0.21, 2)]


def test_a_finding_without_an_interval_or_with_a_title_of_any_kind_can_be_drawn():
    rows = [
        a_row(0, 0, title="", n_before=0, low=None, high=None),
        a_row(1, 2, title="$x^{$ \\frac \n| " + "long " * 60, low=-math.inf, high=math.inf),
    ]
    figure = findings_before_after(rows)
    assert paint(figure)
    assert all(len(line) <= 28 for t in only_axes(figure).get_yticklabels() for line in t.get_text().splitlines())


def test_two_hundred_findings_are_cut_to_the_largest_and_the_rest_is_counted():
    axes = only_axes(findings_before_after([a_row(i % 90, 1) for i in range(200)]))
    assert len(axes.get_yticks()) == 20
    assert "180 more not shown" in axes.get_xlabel()


def after_spending(number: int, score: float, calls: int, dollars: float | None, **more) -> Round:
    return a_round(number, score, **more).model_copy(
        update={"usage": Usage(calls=calls, dollars=dollars), "trials": 10 * number}
    )


@pytest.mark.parametrize(
    ("dollars", "calls", "label", "last"),
    [(0.5, 100, "dollars so far", 0.5), (None, 100, "model calls so far", 100), (0.0, 0, "trials so far", 10)],
)
def test_the_cost_is_told_in_the_most_telling_unit_that_is_known(dollars, calls, label, last):
    keep = {"verdict": "keep", "comparison": compared(0.5, 0.6)}
    axes = only_axes(
        cost_against_score([after_spending(0, 0.5, 0, 0.0), after_spending(1, 0.6, calls, dollars, **keep)])
    )
    assert axes.get_xlabel() == label
    assert dots(axes) == {"kept": [(last, 0.6)]}


def test_the_cost_of_a_metric_has_the_axis_of_the_metric():
    rounds = [after_spending(0, 1.0, 5, 0.0), after_spending(1, 0.9, 9, 0.0, verdict="keep", comparison=bpb(1.0, 0.9))]
    assert only_axes(cost_against_score(rounds)).get_ylabel() == "val_bpb on train (lower is better)"


def test_predictions_stand_against_what_was_measured_the_whole_apart_from_its_parts():
    some = [
        Scored(round=1, tags=(), predicted=0.1, gain=0.05, low=0.0, high=0.1),
        Scored(round=1, tags=("plural",), predicted=0.3, gain=-0.1, low=None, high=None),
    ]
    axes = only_axes(predictions(some))
    assert dots(axes) == {"whole change": [(10, 5)], "one kind of task": [(30, -10)]}
    assert axes.get_xlim() == axes.get_ylim()


def many(n: int) -> list[Round]:
    return [
        a_round(0, 0.5),
        *(
            a_round(i, 0.5, "keep" if i % 3 else "discard", a_test((1.0, -1.0, 0.0) * (i % 9)))
            for i in range(1, n)
        ),
    ][:n]  # fmt: skip


def test_a_night_has_the_pictures_that_have_something_to_show():
    found = Finding(id="f", title="t", kind="k", count=1, share=0.1)
    promised = Proposal(id="p", proposer="P", edits=(), rationale="r", predicted=0.1, findings=(found,))
    happened = Aftermath((After(1, "train", "a", "b", (a_row(5, 1),)),), ())
    rounds = (a_round(0, 0.5), a_round(1, 0.6, "keep", a_test((1.0, 0.0) * 10), proposal=promised))
    assert list(pictures(a_night(rounds), happened, scored(rounds))) == [
        PROGRESS,
        COST,
        EVIDENCE,
        PREDICTIONS,
        FINDINGS,
    ]
    assert list(pictures(a_night(rounds[:1]), Aftermath((), ()))) == [PROGRESS, COST]
    assert not pictures(a_night(()), Aftermath((), ()))


def a_night(rounds: tuple[Round, ...]) -> Night:
    run = Run(id="night", experiment="sums", subject="s", live="a" * 8, fingerprint={}, budget={}, tasks={})
    return Night(
        run=run, rounds=rounds, stop=None, began=now(), last=now(), sessions=1, pid=1, usage=Usage(), trials=1,
        interrupted=0, seconds=1.0,
    )  # fmt: skip


@pytest.mark.parametrize("n", [0, 1, 2, 200])
def test_any_number_of_rounds_can_be_painted(n):
    rounds = many(n)
    for figure in (progress(rounds, "a title " * 50), e_paths(rounds), cost_against_score(rounds)):
        assert paint(figure)
        assert len(only_axes(figure).get_title(loc="left")) <= 50


@settings(max_examples=4, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-1, 1)] * 2, st.none() | st.floats(-1, 1)), max_size=3))
def test_any_predictions_can_be_painted(values):
    assert paint(predictions([Scored(1, (), p, g, end, end) for p, g, end in values]))
