from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from harness.models import Retry
from harness.models.retry import seconds_asked
from harness.models.wire import Answer, Failure

BUSY = Failure("overloaded", "later", retry=True, transient=True)


def test_waits_double_up_to_the_longest():
    retry = Retry(first_wait=1.0, longest_wait=5.0, chance=lambda: 0.999999)
    assert [round(retry.wait(n, None), 3) for n in (1, 2, 3, 4, 5)] == [1.0, 2.0, 4.0, 5.0, 5.0]


@given(st.integers(1, 60), st.none() | st.floats(0, 1e9), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_as_long_as_asked_for_but_never_longer_than_the_cap(attempt: int, asked: float | None, chance: float):
    wait = Retry(longest_wait=20.0, chance=lambda: chance).wait(attempt, asked)
    assert min(asked or 0.0, 20.0) <= wait <= 20.0


def test_all_waits_together_are_bounded():
    naps: list[float] = []
    sent: list[int] = []

    def send(number: int) -> Failure:
        sent.append(number)
        return Failure("rate_limit", "later", retry=True, transient=True, retry_after="50")

    Retry(attempts=100, longest_wait=60.0, total_wait=130.0, sleep=naps.append, chance=lambda: 0.0).call(send)
    assert sent == [1, 2, 3]
    assert sum(naps) <= 130.0


def test_the_last_failure_is_handed_back():
    failures = iter([BUSY, BUSY, Failure("auth", "no")])
    outcome = Retry(sleep=lambda seconds: None).call(lambda number: next(failures))
    assert outcome == Failure("auth", "no")


def test_an_answer_ends_the_attempts():
    assert Retry().call(lambda number: Answer(str(number), "stop")) == Answer("1", "stop")


def test_one_attempt_is_no_retry():
    naps: list[float] = []
    assert Retry(attempts=1, sleep=naps.append).call(lambda number: BUSY) == BUSY
    assert naps == []


def test_a_retry_after_is_seconds_or_a_date():
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
    assert seconds_asked("2.5", noon) == 2.5
    assert seconds_asked("Fri, 20 Nov 2026 12:00:30 GMT", noon) == 30.0
    assert seconds_asked("Fri, 20 Nov 2026 11:00:00 GMT", noon) == 0.0
    for nonsense in (None, "", "soon", "-3", "nan", "inf"):
        assert seconds_asked(nonsense, noon) is None
