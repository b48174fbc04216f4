"""When a request is worth sending again, and after how long. The only layer that retries: those of the SDKs are off."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import cast

from tenacity import RetryCallState, Retrying, retry_if_result

from harness.models.attention import nap
from harness.models.wire import Answer, Failure
from traces.records import now


@dataclass(frozen=True)
class Retry:
    """Exponential backoff with jitter, capped in each wait, in attempts and in all."""

    attempts: int = 5
    first_wait: float = 0.5
    """Seconds; doubled with each attempt."""
    longest_wait: float = 60.0
    """Seconds that one wait lasts at most, whatever the provider asks for. Rate limits are counted by the minute."""
    total_wait: float = 180.0
    """Seconds that all waits of one call last at most; a wait that would go beyond is not begun."""
    sleep: Callable[[float], None] = nap
    chance: Callable[[], float] = random.random
    """A number in [0, 1)."""
    clock: Callable[[], datetime] = now
    """For a provider that names the time at which to come back."""

    def wait(self, attempt: int, asked: float | None) -> float:
        """Seconds between *attempt*, from 1, and the next; *asked* is what the provider wants it to be at least.

        The jitter never shortens what was asked for, and spreads the clients that were all told the same.
        """
        backoff = min(self.first_wait * 2 ** (attempt - 1), self.longest_wait)
        jittered = backoff * (1 + self.chance()) / 2
        return min(jittered if asked is None else max(asked, 0.0) + jittered / 2, self.longest_wait)

    def call(self, send: Callable[[int], Answer | Failure]) -> Answer | Failure:
        """The first answer, or the failure that ended it. *send* is given the number of the attempt.

        Raises:
            BudgetSpent: also within a wait.
        """

        def failure_of(state: RetryCallState) -> Failure:
            assert state.outcome is not None
            return cast(Failure, state.outcome.result())

        def spent(state: RetryCallState) -> bool:
            waited = state.idle_for + state.upcoming_sleep
            return state.attempt_number >= self.attempts or waited > self.total_wait

        def wait(state: RetryCallState) -> float:
            return self.wait(state.attempt_number, seconds_asked(failure_of(state).retry_after, self.clock()))

        retrying = Retrying(
            sleep=self.sleep,
            stop=spent,
            wait=wait,
            retry=retry_if_result(worth_a_retry),
            retry_error_callback=failure_of,
        )
        numbers = iter(range(1, self.attempts + 1))
        return retrying(lambda: send(next(numbers)))


def worth_a_retry(outcome: Answer | Failure) -> bool:
    return isinstance(outcome, Failure) and outcome.retry


def seconds_asked(retry_after: str | None, at: datetime) -> float | None:
    """What a ``retry-after`` header says, seconds or an HTTP date; ``None`` if it makes no sense."""
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        pass
    else:
        return seconds if 0 <= seconds < float("inf") else None
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - at).total_seconds())
