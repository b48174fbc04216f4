"""A provider that keeps failing is left alone, and asked by one request whether it is back."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from harness.errors import BudgetSpent, ModelError
from harness.meter import metered
from harness.models import Breaker, close
from harness.models.breaker import Circuit
from harness.models.wire import Answer, Failure
from tests.models.conftest import CHAT, Naps, Remembering, Sdk
from tests.models.loopback import answers, cuts, hangs_up, provider, refuses

GOOD = Answer("yes", "stop")
DOWN = Failure("overloaded", "later", retry=True, transient=True)


@dataclass
class Clock:
    """Seconds that pass when somebody sleeps."""

    time: float = 0.0
    naps: list[float] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None

    def __call__(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
        self.naps.append(seconds)
        self.meanwhile()


def circuit(clock: Clock, **terms: float) -> Circuit:
    usual = {"failures": 3, "first_cool_down": 10.0, "longest_cool_down": 25.0, "patience": 100.0}
    return Circuit(Breaker(**{**usual, **terms}, clock=clock, sleep=clock.sleep))  # type: ignore[arg-type]


def never() -> Answer:
    raise AssertionError("a request was sent")


def fail(circuit: Circuit, times: int, failure: Failure = DOWN) -> None:
    for _ in range(times):
        assert circuit.call(lambda: failure) == failure


def test_it_opens_after_so_many_failures_in_a_row_and_closes_when_a_probe_succeeds():
    clock = Clock()
    line = circuit(clock)
    fail(line, 2)
    assert line.call(lambda: GOOD) == GOOD
    fail(line, 3)
    assert clock.time == 0
    assert line.call(lambda: GOOD) == GOOD
    assert clock.time == 10.0
    fail(line, 2)
    assert clock.time == 10.0


def test_each_failed_probe_doubles_the_wait_up_to_the_longest():
    clock = Clock()
    line = circuit(clock)
    fail(line, 3)
    asked: list[float] = []

    def still_down() -> Failure:
        asked.append(clock.time)
        return DOWN

    for _ in range(4):
        line.call(still_down)
    assert asked == [10, 30, 55, 80]
    line.call(lambda: GOOD)
    fail(line, 3)
    asked.clear()
    line.call(still_down)
    assert asked == [clock.time]
    assert clock.time == 105 + 10


@pytest.mark.parametrize(
    "failure",
    [
        Failure("rate_limit", "slow down", retry=True, transient=True, retry_after="5"),
        Failure("auth", "no"),
        Failure("bad_request", "no"),
        Failure("quota", "no"),
        Failure("malformed", "no"),
        Failure("timeout", "a long answer", transient=True, unsettled=True),
    ],
    ids=lambda failure: failure.error_class,
)
def test_what_is_not_the_providers_fault_opens_nothing(failure: Failure):
    clock = Clock()
    line = circuit(clock)
    fail(line, 20, failure)
    assert line.call(lambda: GOOD) == GOOD
    assert clock.naps == []


@pytest.mark.parametrize("error_class", ["overloaded", "server_error", "connection", "timeout"])
def test_what_is_the_providers_fault_opens_it(error_class: str):
    clock = Clock()
    line = circuit(clock)
    fail(line, 3, Failure(error_class, "x", retry=True, transient=True))
    line.call(lambda: GOOD)
    assert clock.time == 10.0


def test_a_call_waits_no_longer_than_its_patience_and_then_fails_unsent():
    clock = Clock()
    line = circuit(clock, first_cool_down=1000.0, longest_cool_down=1000.0)
    fail(line, 3)
    outcome = line.call(never)
    assert isinstance(outcome, Failure)
    assert (outcome.error_class, outcome.transient, outcome.retry) == ("unavailable", True, False)
    assert clock.time == 100.0
    assert set(clock.naps) == {0.25}


def test_the_stop_button_ends_the_wait():
    meter, clock = Remembering(), Clock()
    line = circuit(clock)
    fail(line, 3)

    def stop() -> None:
        meter.stopped = clock.time >= 2.0

    clock.meanwhile = stop
    with metered(meter), pytest.raises(BudgetSpent):
        line.call(never)
    assert clock.time == 2.0


def test_a_probe_that_was_broken_off_leaves_its_place_to_the_next():
    clock = Clock()
    line = circuit(clock)
    fail(line, 3)
    clock.time = 50.0

    def stopped() -> Answer:
        raise BudgetSpent("stopped", "a person stopped it")

    with pytest.raises(BudgetSpent):
        line.call(stopped)
    assert line.call(lambda: GOOD) == GOOD
    assert clock.time == 50.0


def test_while_one_request_probes_no_other_is_sent():
    line = Circuit(Breaker(failures=1, first_cool_down=0.0, patience=20.0))
    fail(line, 1)
    probing, go_on = threading.Event(), threading.Event()
    sent: list[str] = []

    def probe() -> Answer:
        sent.append("probe")
        probing.set()
        assert go_on.wait(10)
        return GOOD

    def other() -> Answer:
        sent.append("other")
        return GOOD

    with ThreadPoolExecutor(5) as threads:
        first = threads.submit(line.call, probe)
        assert probing.wait(10)
        others = [threads.submit(line.call, other) for _ in range(4)]
        time.sleep(0.4)
        assert sent == ["probe"]
        go_on.set()
        assert [future.result(10) for future in (first, *others)] == [GOOD] * 5
    assert sent == ["probe", *["other"] * 4]


def test_a_request_that_was_under_way_when_it_opened_says_nothing_new():
    clock = Clock()
    line = circuit(clock)

    def late() -> Answer:
        fail(line, 3)
        return GOOD

    assert line.call(late) == GOOD
    line.call(lambda: GOOD)
    assert clock.time == 10.0


def test_no_more_requests_are_under_way_than_agreed():
    line = Circuit(Breaker(in_flight=3))
    lock = threading.Lock()
    under_way: list[int] = [0]
    most: list[int] = []

    def send() -> Answer:
        with lock:
            under_way[0] += 1
            most.append(under_way[0])
        time.sleep(0.01)
        with lock:
            under_way[0] -= 1
        return GOOD

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(lambda _: line.call(send), range(36)))
    assert max(most) == 3


def test_the_stop_button_ends_the_wait_for_a_place():
    meter = Remembering(stopped=True)
    line = Circuit(Breaker(in_flight=1))

    def occupied() -> Answer:
        with metered(meter), pytest.raises(BudgetSpent):
            line.call(never)
        return GOOD

    assert line.call(occupied) == GOOD


def test_all_models_of_an_address_leave_it_alone_together(sdk: Sdk, meter: Remembering):
    clock = Clock()
    breaker = Breaker(failures=4, first_cool_down=50.0, patience=20.0, clock=clock, sleep=clock.sleep)
    with provider(refuses(529, {})) as there:
        for _ in range(2):
            with pytest.raises(ModelError):
                sdk.model(there.url, breaker=breaker).complete(CHAT, seed=1)
        assert len(there.received) == 4
        with pytest.raises(ModelError) as caught:
            sdk.model(there.url, breaker=breaker, max_tokens=9).complete(CHAT, seed=1)
        assert (caught.value.error_class, caught.value.transient) == ("unavailable", True)
        assert len(there.received) == 4
    assert len(meter.spans) == len(meter.begun) == 4


def test_a_provider_that_comes_back_is_used_again(sdk: Sdk):
    clock = Clock()
    breaker = Breaker(failures=3, clock=clock, sleep=clock.sleep)
    plays = [refuses(500, {}), hangs_up, cuts(sdk.says("dogs")), answers(sdk.says("dogs"))]
    with provider(*plays) as there:
        with pytest.raises(ModelError, match="cut"):
            sdk.model(there.url, Naps(), breaker=breaker).complete(CHAT, seed=1)
        assert clock.time == 0
        assert sdk.model(there.url, breaker=breaker).complete(CHAT, seed=1).text == "dogs"
        assert clock.time == 5.0
        close()
    assert len(there.received) == 4


def test_a_rate_limit_is_waited_out_and_opens_nothing(sdk: Sdk):
    clock, naps = Clock(), Naps()
    breaker = Breaker(failures=1, clock=clock, sleep=clock.sleep)
    with provider(refuses(429, {}, {"retry-after": "7"}), answers(sdk.says("dogs"))) as there:
        assert sdk.model(there.url, naps, breaker=breaker).complete(CHAT, seed=1).text == "dogs"
    assert (clock.naps, naps.taken) == ([], [7.125])
