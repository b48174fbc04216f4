"""What notebooks ask of a night."""

from pathlib import Path

import pytest

from analysis import frames
from tests.traces.samples import CERTIFICATION, KEPT, NEW, OLD, ROUND, RUN, TRIAL, write
from traces.records import Certification, Decision, Grade, Guard, Removal, Round

GUARDS = (
    Guard(kind="must-pass", name="mouse", verdict="pass", n=3, wins=3, losses=0),
    Guard(kind="slice", name="plural", verdict="block", n=9, wins=0, losses=5, p=0.03),
    Guard(kind="cost", name="tokens", verdict="pass", n=9, ratio=1.2, low=1.1),
)
BLOCKED = CERTIFICATION.model_copy(update={"verdict": "blocked", "guards": GUARDS, "measured": None})


def a_round(number: int, **facts: object) -> Round:
    bare = {"certification": None, "removals": (), "number": number}
    return ROUND.model_copy(update={**bare, **facts})


def a_night(directory: Path, *rounds: Round) -> Path:
    write(directory, RUN, *rounds)
    return directory


def test_a_promotion_test_says_which_guards_objected(tmp_path):
    directory = a_night(tmp_path, a_round(1, certification=BLOCKED))

    [row] = frames.certifications("night", directory=directory).to_dict("records")
    assert (row["checkpoint"], row["candidate"], row["verdict"]) == (1, NEW, "blocked")
    assert list(row["objections"]) == ["slice plural"]


def test_every_guard_has_a_row_with_its_numbers(tmp_path):
    directory = a_night(tmp_path, a_round(1, certification=BLOCKED))

    found = frames.guards("night", directory=directory).set_index("kind")
    assert set(found.index) == {"must-pass", "slice", "cost"}
    assert (found.losses["slice"], found.p["slice"], found.verdict["slice"]) == (5, 0.03, "block")
    assert (found.ratio["cost"], found.low["cost"]) == (1.2, 1.1)
    assert found.cap.isna().all()


def test_removals_tell_in_words_what_went_and_how_much_better_it_was_without(tmp_path):
    lost = Removal(rounds=(1, 2), verdict="drop", comparison=KEPT.model_copy(update={"gain": 0.2}))
    stuck = Removal(rounds=(3,), verdict="stuck", comparison=None)
    directory = a_night(tmp_path, a_round(1), a_round(2), a_round(3, removals=(lost, stuck)))

    found = frames.removals("night", directory=directory)
    assert [list(changes) for changes in found.changes] == [[1, 2], [3]]
    assert list(found.said[0]) == ["plurals fail", "plurals fail"]
    assert list(found.verdict) == ["drop", "stuck"]
    assert found.gain[0] == 0.2
    assert found.gain.isna()[1]

    taken_out = frames.rounds("night", directory=directory).taken_out
    assert list(taken_out[2]) == [1, 2]
    assert taken_out[:2].isna().all()


def test_a_round_is_one_row_however_often_its_comparison_and_its_removals_are_written_down(tmp_path):
    out = tuple(Removal(rounds=(n,), verdict="drop", comparison=KEPT) for n in (1, 2))
    directory = a_night(tmp_path, a_round(1), a_round(2), a_round(3, removals=out, certification=CERTIFICATION))
    write(directory, KEPT, CERTIFICATION)

    found = frames.rounds("night", directory=directory)
    assert list(found.number) == [1, 2, 3]
    assert list(found.taken_out[2]) == [1, 2]
    assert len(frames.certifications("night", directory=directory)) == 1


def test_a_metric_stands_in_its_own_unit(tmp_path):
    better = KEPT.model_copy(update={"metric": "val_bpb", "sigma": 0.01, "gain": 0.02, "spec": None, "verdict": None})
    certified = Certification(
        id="night/1", run="night", checkpoint=1, live=OLD, candidate=NEW, verdict="accept", alpha=0.05,
        test_number=None, validation=better, measured=better,
    )  # fmt: skip
    kept = Decision(verdict="keep", because="improved", comparison=better)
    directory = a_night(tmp_path, a_round(1, decision=kept, score=0.98, certification=certified))
    write(directory, TRIAL.model_copy(update={"version": NEW, "grade": Grade(score=1.0, value=0.98)}))

    [row] = frames.rounds("night", directory=directory).to_dict("records")
    assert (row["metric"], row["sigma"], row["gain"], row["score"]) == ("val_bpb", 0.01, 0.02, 0.98)
    assert frames.certifications("night", directory=directory).metric[0] == "val_bpb"
    assert frames.score_by_kind("night", directory=directory).to_numpy() == pytest.approx(0.98)
