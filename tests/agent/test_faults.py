"""Everything goes wrong at once, in a small night: see ``tests.benchmarks.faults`` for the large one."""

from pathlib import Path

import pytest

from harness.ledger import journal_file, runs
from tests.agent.night import Night, Nights
from tests.agent.outside import Outside
from tests.benchmarks.faults import checks, play
from tests.models.loopback import provider
from traces.journal import read
from traces.records import Trial


def test_whatever_goes_wrong_each_trial_ends_once_and_nothing_happens_twice_or_is_left_behind(begun, tmp_path):
    played = play(begun, tmp_path, count=12, kills=2, fills=1, life=1.0)
    wrong = {what: found for what, found in checks(played).items() if found}
    assert not wrong
    assert played.kills + played.full >= 2
    assert sum(played.plan.met.values()) >= 12


def two_sessions(begun: Nights, root: Path, answer: str, largest: int, **more: object) -> tuple[Night, Trial | None]:
    """A night of one trial whose disk is full at *largest* bytes a file, and again with room: how the first one went,
    and what the trial came to."""
    spec = {"directory": str(root / "data"), "log": str(root / "log"), "count": 1, "workers": 1, **more}
    with provider(Outside(lambda number, turn, body: answer).play) as there:
        first = begun.begin({**spec, "url": there.url, "largest": largest})
        first.wait()
        begun.play({**spec, "url": there.url})
    [run] = runs(root / "data", "example")
    lines = read(journal_file(root / "data", run))
    return first, next((line.record() for line in lines if line.type == "Trial"), None)  # type: ignore[return-value]


@pytest.mark.xfail(strict=True, reason="the runner's boundary takes a full journal for the version's own failure")
def test_a_full_journal_ends_the_run_which_says_so_and_is_no_failure_of_the_version(begun, tmp_path):
    first, trial = two_sessions(begun, tmp_path, "x" * 120_000, 60_000)
    assert trial is not None
    assert (trial.ended, trial.error_class) == ("done", None)
    assert first.wait() != 0
    assert "no space left" in first.said


@pytest.mark.xfail(strict=True, reason="a worktree that cannot be made is taken for the version's own failure")
def test_a_full_disk_for_the_worktree_is_no_failure_of_the_version(begun, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "large.txt").write_text("x" * 300_000)
    _, trial = two_sessions(begun, tmp_path, "done", 200_000, source=str(source))
    assert trial is not None
    assert trial.ended == "done" or trial.is_lost
