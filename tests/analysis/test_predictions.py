"""What proposals promised is held against what was measured."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.predictions import Scored, calibrated, gains_of_kept, scored, scored_by_tags
from tests.analysis.test_shrinkage import a_trial
from traces.records import Comparison, Decision, Prediction, Proposal, Round, now

OLD, NEW = "b" * 8, "a" * 8


def a_round(
    predicted: float | None, gain: float | None = 0.1, number: int = 1, predictions=(), because="improved", **compared
) -> Round:
    comparison = Comparison(
        incumbent=OLD,
        candidate=NEW,
        split="train",
        tasks=20,
        incumbent_score=0.5,
        candidate_score=0.6,
        gain=gain,
        low=None if gain is None else gain - 0.1,
        high=None if gain is None else gain + 0.1,
        confidence=0.9,
    ).model_copy(update=compared)
    proposal = Proposal(
        id="p", proposer="p", edits=(), rationale="", predicted=predicted, predictions=tuple(predictions)
    )
    return Round(
        run="run",
        number=number,
        incumbent=OLD,
        candidate=NEW,
        working=NEW,
        proposal=proposal,
        decision=Decision(
            verdict="keep" if because == "improved" else "discard",
            because=because,
            comparison=None if gain is None else comparison,
        ),
        started=now(),
        seconds=1,
    )


def a_score(predicted: float, gain: float) -> Scored:
    return Scored(1, (), predicted, gain, gain - 0.05, gain + 0.05)


def test_each_promise_that_was_measured_stands_beside_its_gain():
    rounds = [a_round(0.3, 0.1, 1), a_round(0.12, -0.05, 2, because="no-improvement"), a_round(0.0, 0.0, 3)]

    found = scored(rounds)

    assert [(s.round, s.predicted, s.gain, s.is_within) for s in found] == [
        (1, 0.3, 0.1, False),
        (2, 0.12, -0.05, False),
        (3, 0.0, 0.0, True),
    ]
    assert (found[0].low, found[0].high) == (0.0, 0.2)


@pytest.mark.parametrize(
    "round",
    [
        a_round(None),
        a_round(0.1, None, because="already-tried"),
        a_round(0.1, metric="val_bpb"),
        a_round(0.1, drift="the model was another"),
        a_round(0.1, errors=10),
        a_round(0.1).model_copy(update={"proposal": None}),
        a_round(0.1).model_copy(update={"decision": None}),
    ],
    ids=["no promise", "not measured", "another unit", "drift", "errors", "no proposal", "undecided yet"],
)
def test_left_out_is(round):
    assert scored([round]) == []
    assert scored_by_tags([round], {}) == []


def test_a_prediction_for_all_tasks_counts_where_the_proposal_has_no_other():
    everything = Prediction(tags=(), gain=0.2)

    assert [
        s.predicted for s in scored([a_round(None, predictions=[Prediction(tags=("a",), gain=0.5), everything])])
    ] == [0.2]
    assert [s.predicted for s in scored([a_round(0.1, predictions=[everything])])] == [0.1]


def test_what_was_promised_for_a_kind_of_task_is_measured_on_its_tasks_alone():
    tags = {"a": ("plural", "hard"), "b": ("plural", "hard"), "c": ("plural",), "d": ("colour",)}
    before = [a_trial(task, "late", version=OLD, tags=tags[task]) for task in tags]
    after = [a_trial(task, "late" if task == "c" else "", version=NEW, tags=tags[task]) for task in "abc"]
    predictions = [
        Prediction(tags=("hard", "plural"), gain=0.8),
        Prediction(tags=("plural",), gain=0.5),
        Prediction(tags=("colour",), gain=0.1),
        Prediction(tags=("unknown",), gain=0.1),
        Prediction(tags=(), gain=0.1),
    ]

    found = scored_by_tags([a_round(None, predictions=predictions)], {OLD: before, NEW: after})

    assert [(s.tags, s.predicted) for s in found] == [(("hard", "plural"), 0.8), (("plural",), 0.5)]
    assert [s.gain for s in found] == pytest.approx([1.0, 2 / 3])
    assert all(s.low is not None and s.high is not None and s.low <= s.gain <= s.high for s in found)


def test_tasks_of_one_cluster_are_one_observation_and_one_alone_has_no_interval():
    before = [a_trial(t, "late", version=OLD, cluster="c") for t in "ab"]
    after = [a_trial(t, version=NEW, cluster="c") for t in "ab"]
    rounds = [a_round(None, predictions=[Prediction(tags=("kind",), gain=0.8)])]

    [only] = scored_by_tags(rounds, {OLD: before, NEW: after})

    assert (only.gain, only.low, only.high, only.is_within) == (1.0, None, None, False)


def sides(n_before: int, n_after: int) -> dict[str, list]:
    """A version that fails every other task, and one that fails none."""
    return {
        OLD: [a_trial(f"t{i}", "late" if i % 2 else "", version=OLD) for i in range(n_before)],
        NEW: [a_trial(f"t{i}", version=NEW) for i in range(n_after)],
    }


def test_a_kept_change_is_measured_over_all_tasks_of_both_versions():
    known = gains_of_kept([a_round(0.1)], sides(60, 60))
    assert known[1].n == 60
    assert known[1].gain == pytest.approx(0.5)
    assert 0.35 < known[1].low < 0.5 < known[1].high < 0.65
    [found] = scored([a_round(0.1)], known)
    assert (found.gain, found.low, found.high, found.n) == (0.5, known[1].low, known[1].high, 60)
    assert [s.n for s in scored([a_round(0.1)])] == [20]


@pytest.mark.parametrize(
    ("round", "trials"),
    [
        (a_round(0.1, because="no-improvement"), sides(60, 60)),
        (a_round(0.1), sides(60, 30)),
        (a_round(0.1), sides(19, 19)),
        (a_round(0.1), {}),
        (a_round(0.1, metric="val_bpb"), sides(60, 60)),
    ],
    ids=["discarded", "baseline under way", "fewer than were compared", "no trials", "another unit"],
)
def test_the_comparison_is_quoted_where_nothing_better_is_known_of(round, trials):
    assert gains_of_kept([round], trials) == {}


def test_a_promise_is_not_called_kept_by_an_interval_that_holds_nearly_any():
    wide, known, wrong = Scored(1, (), 0.2, 0.2, -0.495, 1.0), a_score(0.1, 0.1), a_score(0.5, 0.1)
    found = calibrated([wide, known, wrong, Scored(1, (), 0.2, 0.2, None, None)])
    assert (found.within, found.told, found.n) == (1, 2, 4)
    assert "1 of 2 predictions lie in the measured interval; of 2 more there is no interval, or one over 90" in str(
        found
    )
    assert "1 prediction lies" in str(calibrated([known]))
    assert "none of the 2 can be held against its interval" in str(calibrated([wide, wide]))
    assert "lie" not in str(calibrated([wide]))


def test_a_proposer_that_promises_too_much_is_told_so_in_one_sentence():
    found = calibrated([a_score(0.12 + 0.01 * i, 0.03 + 0.008 * i) for i in range(9)])

    assert found.n == 9
    assert found.bias == pytest.approx(0.098)
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < found.bias < found.high
    assert found.within == 0
    assert found.rank == pytest.approx(1.0)
    said = str(found)
    assert said.startswith("promises 16.0 points and delivers 6.2: promised less delivered +9.8 (90 % interval +9.")
    assert "n = 9); 0 of 9 predictions lie in the measured interval" in said
    assert "biased upwards" in said


def test_of_few_predictions_no_more_is_said_than_they_show():
    nothing, two, three = (calibrated([a_score(0.1, 0.02 * i) for i in range(n)]) for n in (0, 2, 3))

    assert str(nothing) == "no prediction was measured"
    assert (two.low, two.rank) == (None, None)
    assert "too few for an interval, n = 2" in str(two)
    assert three.low is not None
    assert three.rank is None


def test_without_differences_there_is_no_rank():
    assert calibrated([a_score(0.1, 0.02 * i) for i in range(9)]).rank is None
    assert calibrated([a_score(0.02 * i, 0.1) for i in range(9)]).rank is None
    assert calibrated([a_score(0.02 * i, -0.02 * i) for i in range(9)]).rank == pytest.approx(-1.0)


gains = st.floats(-1, 1, allow_nan=False, width=32)


@given(st.lists(st.tuples(gains, gains), min_size=1, max_size=12))
def test_the_bias_lies_in_its_interval_and_turns_with_the_sides(pairs):
    found, turned = (calibrated([a_score(*pair) for pair in drawn]) for drawn in (pairs, [(b, a) for a, b in pairs]))

    assert found.bias is not None
    assert turned.bias is not None
    assert math.isclose(found.bias, -turned.bias, abs_tol=1e-12)
    assert 0 <= found.within <= found.told <= found.n == len(pairs)
    if found.low is not None and found.high is not None:
        assert found.low <= found.bias <= found.high
    if found.rank is not None:
        assert -1.000001 <= found.rank <= 1.000001
        assert found.rank == pytest.approx(turned.rank)
