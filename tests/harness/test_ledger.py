import re
import threading
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import BudgetSpent, UserError
from harness.experiment import Budget
from harness.ledger import Ledger, holder, is_held, journal_file, open_run, run_id, runs, stop_run
from harness.meter import close_meter
from harness.testing import FakeClock
from tests.world import an_experiment
from traces.errors import JournalFull, JournalLocked
from traces.journal import read
from traces.records import Decision, Intent, Round, Span, Trial, Usage, now

LIVE = "0" * 40
A_CALL = Usage(calls=1, input_tokens=100, output_tokens=10, dollars=0.25)


def a_ledger(directory: Path, budget: Budget | None = None, clock: FakeClock | None = None) -> Ledger:
    return open_run(directory, an_experiment(budget=budget or Budget(rounds=9)), LIVE, clock=clock or FakeClock())


def a_span(id: str, usage: Usage = A_CALL) -> Span:
    return Span(id=id, operation="chat", name="m", started=FakeClock()(), seconds=1.0, usage=usage)


def decision() -> Decision:
    return Decision(verdict="discard", because="invalid")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_a_step_is_made_once_and_returned_ever_after_also_by_the_next_process(directory):
    made: list[int] = []

    def make() -> Decision:
        made.append(1)
        return decision()

    with a_ledger(directory) as ledger:
        assert ledger.step("round/1/decision", make) == ledger.step("round/1/decision", make)
    with a_ledger(directory) as ledger:
        assert ledger.step("round/1/decision", make) == decision()
    assert made == [1]


def test_a_step_that_was_begun_and_not_finished_is_made_again_under_the_next_attempt(directory):
    def dies() -> Decision:
        raise KeyboardInterrupt

    with a_ledger(directory) as ledger, pytest.raises(KeyboardInterrupt):
        ledger.step("round/1/decision", dies)
    with a_ledger(directory) as ledger:
        ledger.step(
            "round/1/decision",
            lambda: decision().model_copy(update={"detail": str(ledger.attempt("round/1/decision"))}),
        )
        kept = ledger.recall("round/1/decision")
    assert isinstance(kept, Decision)
    assert kept.detail == "2"


def test_a_finished_step_forgets_the_steps_below_it_and_no_others(directory):
    with a_ledger(directory) as ledger:

        def with_steps_below(key, *below):
            return ledger.step(key, lambda: [ledger.step(k, decision) for k in (*below, f"{key}/last")][-1])

        ledger.step("round/10/a", decision)
        with_steps_below("round/1", "round/1/a", "round/1/a/b", "round/1/c")
        assert [ledger.recall(key) is None for key in ("round/1/a", "round/1/c", "round/1", "round/10/a")] == [
            True,
            True,
            False,
            False,
        ]


def test_a_round_frees_the_trials_of_what_it_discards_and_finds_them_again_if_the_version_comes_back(directory):
    def trial() -> Trial:
        return Trial(id="t", run="r", version="c" * 40, task="x", split="train", started=now(), seconds=0)

    discarded = Round(
        run="r",
        number=1,
        incumbent="i" * 40,
        candidate="c" * 40,
        working="i" * 40,
        decision=decision(),
        started=now(),
        seconds=0,
    )
    key = f"train/{'c' * 40}/x/0"
    with a_ledger(directory) as ledger:
        ledger.buy(key, trial)
        ledger.step("round/1", lambda: discarded)
        assert f"train/{'c' * 40}" not in ledger._steps
        assert isinstance(ledger.recall(key), Trial)
    with a_ledger(directory) as ledger:
        assert f"train/{'c' * 40}" not in ledger._steps
        assert isinstance(ledger.recall(key), Trial)
        assert ledger.recall(f"train/{'c' * 40}/y/0") is None


def test_a_call_whose_end_was_never_seen_is_charged_at_its_estimate_and_marked_interrupted(directory):
    ledger = a_ledger(directory)
    ledger.begin("call-1", "m", A_CALL, 1)
    ledger.end(a_span("call-1", Usage(calls=1, input_tokens=7, output_tokens=1, dollars=0.01)))
    ledger.begin("call-2", "m", A_CALL, 1)
    ledger._journal.close()  # as a kill does
    close_meter(ledger)

    with a_ledger(directory) as again:
        assert again.usage == Usage(calls=2, input_tokens=107, output_tokens=11, dollars=0.26)
    with a_ledger(directory) as again:
        assert again.usage.calls == 2  # charged once
        [run] = runs(directory, "example")
        spans = [line.record() for line in read(journal_file(directory, run)) if line.type == "Span"]
    assert [s.status for s in spans if isinstance(s, Span)] == ["ok", "interrupted"]


def test_an_answer_that_comes_after_its_call_was_written_off_changes_nothing(directory):
    ledger = a_ledger(directory)
    ledger.begin("call-1", "m", A_CALL, 1)
    ledger.close()
    ledger.end(a_span("call-1"))
    with a_ledger(directory) as again:
        assert again.usage == A_CALL


def test_the_intent_of_a_call_is_on_disk_before_the_call(directory):
    with a_ledger(directory) as ledger:
        ledger.begin("call-1", "m", A_CALL, 1)
        lines = list(read(journal_file(directory, ledger.run.id)))
        last = lines[-1].record()
        assert isinstance(last, Intent)
        assert (last.step, last.kind) == ("call-1", "call")


@pytest.mark.parametrize(
    ("budget", "reason", "calls"),
    [
        (Budget(tokens=500), "tokens", 4),  # a fifth could reach 550
        (Budget(dollars=1.0), "dollars", 4),
    ],
)
def test_a_ceiling_stops_before_the_call_that_could_pass_it(directory, budget, reason, calls):
    with a_ledger(directory, budget) as ledger:
        for number in range(calls):
            ledger.begin(f"{number}", "m", A_CALL, 1)
            ledger.end(a_span(f"{number}"))
        with pytest.raises(BudgetSpent) as spent:
            ledger.begin("one too many", "m", A_CALL, 1)
    assert spent.value.reason == reason


def test_calls_under_way_count_against_the_ceiling(directory):
    with a_ledger(directory, Budget(tokens=500)) as ledger:
        for number in range(4):
            ledger.begin(f"{number}", "m", A_CALL, 1)
        with pytest.raises(BudgetSpent):
            ledger.begin("one too many", "m", A_CALL, 1)


def test_a_dollar_budget_refuses_a_model_without_a_known_price_before_the_first_call(directory):
    with (
        a_ledger(directory, Budget(dollars=5.0)) as ledger,
        pytest.raises(UserError, match="no price is known for 'm'"),
    ):
        ledger.begin("call-1", "m", Usage(calls=1, dollars=None), 1)


def test_hours_count_time_at_work_and_not_the_time_between_two_sessions(directory):
    clock = FakeClock()
    with a_ledger(directory, Budget(hours=2), clock) as ledger:
        clock.sleep(3600)
        ledger.check_clock()
        clock.sleep(3601)
        with pytest.raises(BudgetSpent, match="of 2 hours"):
            ledger.check_clock()


def test_what_is_kept_back_for_the_certification_cannot_be_searched_away(directory):
    with a_ledger(directory, Budget(trials=100)) as ledger:
        with ledger.reserving(30), pytest.raises(BudgetSpent, match="30 kept back"):
            ledger.check(trials=71)
        ledger.check(trials=100)
        with ledger.reserving(1000):
            ledger.check(trials=50)  # at most half is kept back


def test_two_processes_cannot_hold_one_run(directory):
    with a_ledger(directory) as ledger:
        assert is_held(journal_file(directory, ledger.run.id))
        assert holder(journal_file(directory, ledger.run.id)) is not None
        with pytest.raises(JournalLocked, match="process"):
            a_ledger(directory)


@given(st.lists(st.datetimes(datetime(2026, 1, 1), datetime(2026, 1, 1, 0, 0, 2), timezones=st.just(UTC)), min_size=2))  # noqa: DTZ001
def test_the_ids_of_runs_sort_as_they_were_begun_also_within_a_second_and_where_the_clock_goes_back(begun):
    ids: list[str] = []
    for at in begun:
        ids.append(run_id("example", at, ids))
    assert all(a < b for a, b in pairwise(ids))
    assert all(re.fullmatch(r"example-\d{8}-\d{6}-[0-9a-f]{4}", id) for id in ids)


def test_a_run_that_no_process_holds_is_ended_by_the_stop_button_itself(directory):
    with a_ledger(directory) as ledger:
        run = ledger.run.id
    assert stop_run(directory, run) is None
    with a_ledger(directory) as ledger:
        assert ledger.run.id != run


def test_threads_may_share_a_ledger(directory):
    with a_ledger(directory) as ledger:

        def work(worker: int) -> None:
            for number in range(50):
                ledger.begin(f"{worker}-{number}", "m", A_CALL, 1)
                ledger.end(a_span(f"{worker}-{number}"))
                ledger.step(f"round/{worker}/{number}", decision)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert ledger.usage.calls == 200
    with a_ledger(directory) as again:
        assert again.usage.calls == 200


def test_a_full_disk_stops_the_run_with_a_clear_error_and_leaves_a_journal_that_resumes(directory):
    import resource

    with a_ledger(directory) as ledger:
        ledger.step("round/1/decision", decision)
        size = journal_file(directory, ledger.run.id).stat().st_size
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        import signal

        old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, limits[1]))
        try:
            with pytest.raises(JournalFull, match="no space left"):
                ledger.step("round/2/decision", decision)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, old)
    with a_ledger(directory) as again:
        assert again.recall("round/1/decision") == decision()
        assert again.step("round/2/decision", decision) == decision()
