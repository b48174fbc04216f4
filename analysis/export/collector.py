"""A collector: whoever takes OTLP in JSON over HTTP, such as the OpenTelemetry Collector, which passes it on."""

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, stop_before_delay

from analysis.export.answers import partial_success
from analysis.export.otlp import Request
from harness.errors import UserError
from harness.redact import redacted

if TYPE_CHECKING:
    import httpx2
    from tenacity import RetryCallState

TRIES = 5
LONGEST_WAIT = 30.0
"""Seconds between two tries, whatever the collector asks for."""
TIMEOUT = 15.0
"""Seconds that a try may take."""
PATIENCE = 120.0
"""Seconds that a request may take, with all its tries and the pauses between them."""
MOST_BYTES = 1 << 20
"""Of an answer; none is as long."""
TRY_AGAIN = frozenset({429, 502, 503, 504})
"""The answers after which the protocol allows another try."""
HEADERS = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")
"""Variables of the environment with ``name=value,…``, percent-encoded; where a collector wants a key."""

KEY = f". A key goes into {HEADERS[0]}"
HINTS = {
    401: KEY,
    403: KEY,
    404: ". Is that the path that takes traces? It mostly is /v1/traces",
    415: ". It does not read JSON: put an OpenTelemetry Collector in front of it, which passes spans on in protobuf",
}
"""What may help, by the status of the answer."""


@dataclass(frozen=True)
class Delivered:
    spans: int
    """That the collector took."""
    rejected: int
    """That it did not want."""
    because: str
    """In its words."""


class Busy(Exception):
    """It may take the same later."""

    def __init__(self, why: str, after: float | None = None) -> None:
        super().__init__(why)
        self.after = after
        """Seconds, as it says itself."""


def deliver(
    requests: Iterable[Request],
    endpoint: str,
    tell: Callable[[str], object],
    *,
    environment: Mapping[str, str] = os.environ,
    timeout: float = TIMEOUT,
    sleep: Callable[[float], None] = time.sleep,
) -> Delivered:
    """Send *requests* one after the other; each is tried a few times where the collector is busy, away or silent, which
    *tell* is told. A collector that never answers is given up after ``PATIENCE``.

    Raises:
        UserError: the address is none, or the collector is away or refuses; says how many spans it has taken.
    """
    import httpx2  # takes a while

    from harness.models.wire import is_loopback

    url = traces_url(endpoint)
    headers = {**headers_in(environment), "content-type": "application/json"}
    taken = rejected = 0
    because = ""

    def waiting(state: "RetryCallState") -> None:
        assert state.outcome is not None
        assert state.next_action is not None
        tell(
            f"waiting for the collector, try {state.attempt_number + 1} of {TRIES} in {state.next_action.sleep:g} s: "
            f"{state.outcome.exception()}"
        )

    with httpx2.Client(timeout=timeout, trust_env=not is_loopback(url)) as client:  # no proxy to this machine
        for request in requests:
            body = json.dumps(request.body, ensure_ascii=False).encode()
            tries = 0
            try:
                for attempt in Retrying(
                    retry=retry_if_exception_type(Busy),
                    stop=stop_after_attempt(TRIES) | stop_before_delay(PATIENCE),
                    wait=pause,
                    sleep=sleep,
                    before_sleep=waiting,
                    reraise=True,
                ):
                    with attempt:
                        tries = attempt.retry_state.attempt_number
                        refused, why = post(client, url, body, headers, timeout)
                        refused = min(refused, request.spans)
                        taken, rejected, because = taken + request.spans - refused, rejected + refused, why or because
            except (Busy, UserError) as e:
                so_often = f", and was tried {tries} times" if isinstance(e, Busy) else ""
                raise UserError(
                    f"{e}{so_often}. It has taken {taken:,} spans before that. Mend it and type the same again: "
                    "spans keep their ids, so that none is there twice"
                ) from e
    return Delivered(taken, rejected, because)


def pause(state: "RetryCallState") -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.after if isinstance(error, Busy) else None
    return min(LONGEST_WAIT, 2.0 ** (state.attempt_number - 1) if asked is None else max(0.0, asked))


def post(client: "httpx2.Client", url: str, body: bytes, headers: Mapping[str, str], timeout: float) -> tuple[int, str]:
    """Send one request; return how many of its spans were rejected, and why.

    Raises:
        Busy: another try may go well.
        UserError: none will.
    """
    import httpx2

    try:
        with client.stream("POST", url, content=body, headers={**headers}) as response:
            content = whole(response, time.monotonic() + timeout)
    except (httpx2.ConnectTimeout, httpx2.PoolTimeout) as e:
        raise Busy(f"the collector at {url} cannot be reached within {timeout:g} s") from e
    except (httpx2.TimeoutException, TimeoutError) as e:
        raise Busy(f"the collector at {url} gave no answer within {timeout:g} s") from e
    except httpx2.TransportError as e:
        raise Busy(f"the collector at {url} cannot be reached ({type(e).__name__}: {e})") from e
    except httpx2.DecodingError as e:
        raise UserError(f"what answers at {url} sends what cannot be unpacked ({e}), so it is no collector") from e
    status = response.status_code
    said = plain(content.decode(errors="replace"))
    if status in TRY_AGAIN:
        raise Busy(f"the collector at {url} answers {status}: {said}", after(response.headers))
    if not response.is_success:
        raise UserError(f"the collector at {url} refuses the spans, {status}: {said}{HINTS.get(status, '')}")
    try:
        rejected, why = partial_success(response.headers.get("content-type", ""), content)
    except ValueError as e:
        raise UserError(
            f"what answers at {url} is no collector, so the spans may be nowhere: it says {status}, but {e}: {said!r}. "
            "Look at the address: the path that takes traces mostly is /v1/traces"
        ) from e
    return rejected, plain(why)


def plain(text: str) -> str:
    """*text* on one line that a terminal can show, without secrets."""
    return " ".join("".join(c if c.isprintable() else " " for c in redacted(text)).split())[:300]


def whole(response: "httpx2.Response", deadline: float) -> bytes:
    """The content, or its beginning where it is longer than an answer can be.

    Raises:
        TimeoutError: it is not all there by *deadline*: a server that drips never meets the timeout of a single read.
    """
    content = bytearray()
    for chunk in response.iter_bytes():
        content += chunk
        if time.monotonic() > deadline:
            raise TimeoutError
        if len(content) > MOST_BYTES:
            break
    return bytes(content[:MOST_BYTES])


def after(headers: Mapping[str, str]) -> float | None:
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:  # none, or a date
        return None
    return seconds if math.isfinite(seconds) else None


def traces_url(endpoint: str) -> str:
    """*endpoint*; the usual path is added where it has none."""
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{endpoint!r} is no address of a collector. Write it like http://127.0.0.1:4318/v1/traces")
    if parts.username or parts.password:
        raise UserError(
            f"the address of {parts.hostname} carries a user or a password, which error messages would show. Put it "
            f"into the environment: {HEADERS[0]}='authorization=Basic%20…'"
        )
    return urlunsplit(parts if parts.path.strip("/") else parts._replace(path="/v1/traces"))


def headers_in(environment: Mapping[str, str]) -> dict[str, str]:
    given = (pair.partition("=") for name in HEADERS for pair in environment.get(name, "").split(",") if "=" in pair)
    return {unquote(name.strip()).lower(): unquote(value.strip()) for name, _, value in given}
