"""The picture of a night. What it looks like is for people to judge; what it shows is tested."""

from matplotlib.axes import Axes

from analysis.plots import progress
from traces.records import Certification, Comparison, Decision, Removal, Round, now


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
