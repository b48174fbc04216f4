"""A proposer is held to its pace, and is paused when hardly anything that it proposes is kept."""

import threading
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.proposers.paced import Acceptance, Paced, acceptance, waiting
from harness.errors import BudgetSpent, OutOfIdeas
from harness.experiment import Budget, describe
from harness.ledger import journal_file, runs, stop_run
from harness.protocols import History
from harness.testing import FakeClock
from tests.world import an_experiment, play
from traces.records import Decision, Proposal, Removal, Round

START = FakeClock().time


@dataclass(frozen=True)
class Anything:
    """Proposes, and notes when."""

    clock: FakeClock = field(default_factory=FakeClock, repr=False)
    asked: list = field(default_factory=list, repr=False)

    def propose(self, incumbent, text, history) -> Proposal:
        self.asked.append(self.clock())
        return Proposal(id=f"p{len(history.rounds)}", proposer="Anything", edits=(), rationale="why not")


def a_round(number: int, because: str = "no-improvement", started=START, **changed: object) -> Round:
    verdict = "keep" if because in ("improved", "simpler") else "discard"
    proposal = Proposal(id=f"p{number}", proposer="Anything", edits=(), rationale="why not")
    return Round(
        run="run",
        number=number,
        incumbent="x" * 8,
        working="x" * 8,
        proposal=None if because == "no-proposal" else proposal,
        decision=Decision(verdict=verdict, because=because),  # type: ignore[arg-type]
        started=started,
        seconds=1.0,
    ).model_copy(update=changed)


def rounds_of(*becauses: str) -> list[Round]:
    return [a_round(i, because) for i, because in enumerate(becauses, 1)]


def history(rounds) -> History:
    return History(run="run", tasks={}, trials=(), rounds=rounds)


def ask(paced: Paced, rounds) -> Proposal:
    return paced.propose("x" * 8, {}, history(rounds))


def a_paced(clock: FakeClock, **limits) -> Paced:
    return Paced(Anything(clock), clock=clock, sleep=clock.sleep, **limits)


@settings(max_examples=30)
@given(rate=st.floats(20, 400), works=st.lists(st.floats(0, 300), min_size=2, max_size=8))
def test_any_two_proposals_lie_as_far_apart_as_the_pace_says_however_long_the_rounds_take(rate, works):
    clock = FakeClock()
    paced = a_paced(clock, most_per_hour=rate, floor=0)
    rounds: list[Round] = []
    for number, work in enumerate(works, 1):
        started = clock()
        ask(paced, rounds)
        rounds.append(a_round(number, started=started))
        clock.sleep(work)

    asked = paced.proposer.asked  # type: ignore[attr-defined]
    gaps = [(b - a).total_seconds() for a, b in pairwise(asked)]
    assert all(gap >= 3600 / rate - 0.001 for gap in gaps)
    assert all(gap <= max(3600 / rate, work) + 0.3 for gap, work in zip(gaps, works, strict=False))


def test_rounds_that_take_longer_than_the_pace_never_wait():
    rounds = [a_round(n, started=START + timedelta(hours=n)) for n in range(5)]

    assert waiting(rounds, timedelta(minutes=15), START + timedelta(hours=5)) == 0
    assert waiting([], timedelta(minutes=15), START) == 0


def test_without_a_pace_it_asks_at_once():
    clock = FakeClock()

    ask(a_paced(clock), [a_round(1, started=clock()), a_round(2, started=clock())])

    assert clock() == START


def test_who_waits_for_the_pace_hears_the_stop_button(checkout, tmp_path):
    experiment = an_experiment(proposer=Paced(Anything(), most_per_hour=0.001), budget=Budget(rounds=5, hours=1))
    directory = tmp_path / "data"
    ended: list = []
    night = threading.Thread(target=lambda: ended.extend(play(experiment, checkout, directory)))
    night.start()
    ended_1 = b'"type":"Round","key":"round/1"'
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:  # until round 1 is over, and round 2 waits for most of a thousand hours
        known = runs(directory, "example") if directory.exists() else []
        if known and ended_1 in journal_file(directory, known[0]).read_bytes():
            break
        time.sleep(0.02)
    stop_run(directory, known[0])
    night.join(60)

    assert [r.stop for r in ended] == [None, None, "stopped"]


def test_it_is_paused_when_fewer_than_the_floor_of_the_last_proposals_were_kept():
    paced = a_paced(FakeClock(), floor=0.3, window=4)
    bad = ["no-improvement", "undecided", "already-tried", "unfounded"]

    with pytest.raises(
        OutOfIdeas, match=r"0 of 4 proposals were kept \(0%, 90 % interval 0% to 40%\), below the floor"
    ):
        ask(paced, rounds_of(*bad))
    with pytest.raises(OutOfIdeas, match=r"1 of 4 proposals were kept \(25%"):
        ask(paced, rounds_of("improved", "improved", *bad[:2], "simpler", bad[0]))


@pytest.mark.parametrize(
    "becauses",
    [
        ["no-improvement"] * 3,
        ["no-improvement"] * 3 + ["errors", "drift", "no-proposal"] * 5,
        ["no-improvement", "improved", "no-improvement", "simpler"],
        [],
    ],
    ids=["too early to tell", "what says nothing", "enough is kept", "nothing yet"],
)
def test_it_is_not_paused_for(becauses):
    assert ask(a_paced(FakeClock(), floor=0.3, window=4), rounds_of(*becauses)).proposer == "Anything"


def test_by_default_one_kept_of_twenty_is_just_enough():
    paced = a_paced(FakeClock())

    assert ask(paced, rounds_of("improved", *["no-improvement"] * 19))
    with pytest.raises(OutOfIdeas):
        ask(paced, rounds_of("improved", *["no-improvement"] * 20))


def test_a_change_that_was_taken_out_again_does_not_count_as_kept():
    drop = Removal(rounds=(1,), verdict="drop", comparison=None)
    rounds = [a_round(1, "improved"), a_round(2, "improved"), a_round(3, removals=(drop,))]

    assert acceptance(rounds) == Acceptance(kept=1, decided=3)


def test_a_paused_run_ends_as_out_of_ideas_and_says_why(checkout, tmp_path):
    experiment = an_experiment(
        proposer=Paced(Anything(), floor=0.5, window=3), budget=Budget(rounds=9, hours=1)
    )  # it changes nothing, so each proposal is refused as tried before

    last = play(experiment, checkout, tmp_path / "data")[-1]

    assert (last.number, last.stop) == (4, "out-of-ideas")
    assert "0 of 3 proposals were kept" in last.detail
    assert "ratchet report" in last.detail


def test_what_the_proposer_raises_passes():
    class Ended:
        def propose(self, incumbent, text, history):
            raise BudgetSpent("stopped", "by a person")

    with pytest.raises(BudgetSpent):
        ask(Paced(Ended()), [])


def test_the_pace_is_no_part_of_the_fingerprint_and_the_proposer_is():
    slow, fast = Paced(Anything(), most_per_hour=1, floor=0.5), Paced(Anything())

    assert describe(slow) == describe(fast)
    assert describe(fast) != describe(replace(fast, proposer=fast))


@pytest.mark.parametrize(
    "nonsense",
    [{"most_per_hour": 0}, {"most_per_hour": float("nan")}, {"floor": 1.1}, {"floor": float("nan")}, {"window": 0}],
)
def test_settings_that_make_no_sense_are_refused(nonsense):
    with pytest.raises(ValueError, match=next(iter(nonsense))):
        Paced(Anything(), **nonsense)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_interval_of_the_rate_holds_the_rate(kept, more):
    found = Acceptance(kept, kept + more)
    low, high = found.interval

    assert 0 <= low <= (found.rate or 0) <= high <= 1 or found.rate is None
    assert str(kept) in str(found) or not found.decided
