"""A collector: whoever takes OTLP in JSON over HTTP, such as the OpenTelemetry Collector, which passes it on."""

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from analysis.export.secrets import without_secrets
from harness.errors import UserError

if TYPE_CHECKING:
    import httpx2
    from tenacity import RetryCallState

TRIES = 5
LONGEST_WAIT = 30.0
"""Seconds between two tries, whatever the collector asks for."""
TIMEOUT = 30.0
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
    requests: Iterable[tuple[int, Mapping[str, Any]]],
    endpoint: str,
    *,
    environment: Mapping[str, str] = os.environ,
    sleep: Callable[[float], None] = time.sleep,
) -> Delivered:
    """Send *requests* one after the other; each is tried a few times where the collector is busy or away.

    Raises:
        UserError: the address is none, or the collector is away or refuses; says how many spans it has taken.
    """
    import httpx2  # takes a while

    from harness.models.wire import is_loopback

    url = traces_url(endpoint)
    headers = {**headers_in(environment), "content-type": "application/json"}
    taken = rejected = 0
    because = ""
    with httpx2.Client(timeout=TIMEOUT, trust_env=not is_loopback(url)) as client:  # no proxy to this machine
        for spans, request in requests:
            body = json.dumps(request, ensure_ascii=False).encode()
            try:
                for attempt in Retrying(
                    retry=retry_if_exception_type(Busy),
                    stop=stop_after_attempt(TRIES),
                    wait=pause,
                    sleep=sleep,
                    reraise=True,
                ):
                    with attempt:
                        refused, why = post(client, url, body, headers)
                        taken, rejected, because = taken + spans - refused, rejected + refused, why or because
            except (Busy, UserError) as e:
                raise UserError(
                    f"{e}. It has taken {taken:,} spans before that. Mend it and type the same again: spans keep their "
                    "ids, so that none is there twice"
                ) from e
    return Delivered(taken, rejected, because)


def pause(state: "RetryCallState") -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.after if isinstance(error, Busy) else None
    return min(LONGEST_WAIT, 2.0 ** (state.attempt_number - 1) if asked is None else max(0.0, asked))


def post(client: "httpx2.Client", url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str]:
    """Send one request; return how many of its spans were rejected, and why.

    Raises:
        Busy: another try may go well.
        UserError: none will.
    """
    import httpx2

    try:
        response = client.post(url, content=body, headers={**headers})
    except httpx2.TransportError as e:
        raise Busy(f"the collector at {url} cannot be reached ({type(e).__name__}: {e})") from e
    said = without_secrets(" ".join(response.text.split()))[:300]
    if response.status_code in TRY_AGAIN:
        raise Busy(f"the collector at {url} answers {response.status_code}: {said}", after(response.headers))
    if not response.is_success:
        hint = HINTS.get(response.status_code, "")
        raise UserError(f"the collector at {url} refuses the spans, {response.status_code}: {said}{hint}")
    return partial_success(response.text)


def after(headers: Mapping[str, str]) -> float | None:
    try:
        return float(headers.get("retry-after", ""))
    except ValueError:  # none, or a date
        return None


def partial_success(text: str) -> tuple[int, str]:
    """What an answer says of spans that it rejects."""
    try:
        found = json.loads(text or "{}")
        partial = found.get("partialSuccess") or {}
        return int(partial.get("rejectedSpans") or 0), without_secrets(str(partial.get("errorMessage") or ""))
    except (ValueError, AttributeError, TypeError):  # what is no OTLP answer says nothing of the sort
        return 0, ""


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
