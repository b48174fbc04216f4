"""One HTTP exchange with a provider, by whichever SDK: what comes back, and if nothing does, whose fault it was."""

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx2

from harness.meter import meter
from harness.protocols import Message, ToolSpec
from harness.redact import GONE, redacted
from traces.records import ToolCall, Usage

STREAMING = 10
"""How many times its ``timeout`` a stream may last, as long as it keeps coming."""
MOST_BYTES = 64 << 20
"""Of a body; no answer is as long."""
POLL = 0.25
"""Seconds between two looks at the stop button."""


@dataclass(frozen=True)
class Request:
    """What to ask, as every provider understands it."""

    messages: Sequence[Message]
    seed: int
    temperature: float | None
    """``None``: not sent."""
    max_tokens: int
    timeout: float
    """Seconds without a byte, see also ``longest``."""
    tools: Sequence[ToolSpec] = ()
    """In an order that is always the same."""
    schema: Mapping[str, Any] | None = None
    """JSON schema of the answer."""
    stream: bool = False

    @property
    def longest(self) -> float:
        """Seconds for the whole body after its first byte."""
        return self.timeout * (STREAMING if self.stream else 1)


@dataclass(frozen=True)
class Answer:
    """What a provider answered, in one shape."""

    text: str
    finish_reason: str
    """``stop``, ``tool_calls``, ``length``, ``refusal`` or the provider's own word."""
    stop: str | None = None
    """The provider's own word."""
    usage: Usage | None = None
    """Without dollars. ``None``: the provider did not say."""
    model: str | None = None
    id: str | None = None
    """The provider's id of the answer."""
    request_id: str | None = None
    """The provider's id of the request, to quote to its support."""
    tool_calls: tuple[ToolCall, ...] = ()
    opaque: tuple[Mapping[str, Any], ...] = ()
    """What the provider wants back as it was."""


@dataclass(frozen=True)
class Failure:
    """Why there is no answer."""

    error_class: str
    message: str
    """Without secrets."""
    retry: bool = False
    """The same request may be sent again at once: no byte of an answer was seen."""
    transient: bool = False
    """Nothing was wrong with the request: later it could succeed."""
    unsettled: bool = False
    """The provider may have done the work, and may charge for it."""
    retry_after: str | None = None
    """The header, as sent."""
    status: int | None = None
    request_id: str | None = None


Send = Callable[[Request], Answer | Failure]


class Api(Protocol):
    """A provider's side of a model."""

    @property
    def provider(self) -> str:
        """By its OpenTelemetry name."""
        ...

    @property
    def model(self) -> str:
        """As the provider calls it."""
        ...

    @property
    def url(self) -> str | None:
        """``None``: it has no fixed address."""
        ...

    @property
    def takes_tools(self) -> bool: ...

    def open(self) -> AbstractContextManager[Send]:
        """Wait until a request can be sent, and send it within."""
        ...


class Response(Protocol):
    """A response whose body is not read yet, of either SDK."""

    @property
    def headers(self) -> httpx2.Headers: ...
    @property
    def status_code(self) -> int: ...
    def iter_bytes(self, chunk_size: int | None = None) -> Any: ...


@dataclass(frozen=True)
class Errors:
    """The exceptions of an SDK, for trouble before the body."""

    timeout: type[Exception]
    connection: type[Exception]
    status: type[Exception]


@dataclass(frozen=True)
class Body:
    """A whole response body."""

    content: bytes
    request_id: str | None
    status: int


def exchange(
    post: Callable[[], AbstractContextManager[Response]], errors: Errors, request: Request, secrets: Sequence[str]
) -> Body | Failure:
    """Send one request and read the whole answer.

    Until the headers are here, only the SDK raises, and a repeat is harmless. After that the provider has done the
    work: a body that is cut or dripping is not asked for again.

    Raises:
        BudgetSpent: the run has to end at once. The connection is closed.
    """
    try:
        with post() as response:
            return read(response, request.longest)
    except errors.timeout as e:
        never_sent = isinstance(e.__cause__, httpx2.ConnectTimeout | httpx2.PoolTimeout)
        message = f"no answer within {request.timeout:g} s"
        return Failure("timeout", message, retry=True, transient=True, unsettled=not never_sent)
    except errors.connection as e:
        never_sent = isinstance(e.__cause__, httpx2.ConnectError)
        message = redact(f"no connection: {e.__cause__ or e}", secrets)
        return Failure("connection", message, retry=True, transient=True, unsettled=not never_sent)
    except errors.status as e:
        return refusal_of(e, secrets)
    except httpx2.TimeoutException:
        return Failure("timeout", f"the answer stopped for {request.timeout:g} s", transient=True, unsettled=True)
    except httpx2.DecodingError as e:
        return Failure("malformed", redact(f"the body cannot be unpacked: {e}", secrets), unsettled=True)
    except httpx2.TransportError as e:
        message = redact(f"the answer was cut: {e}", secrets)
        return Failure("connection", message, transient=True, unsettled=True)


def read(response: Response, longest: float) -> Body | Failure:
    started = looked = monotonic()
    content = bytearray()
    request_id = id_of(response.headers)
    for chunk in response.iter_bytes():
        content += chunk
        at = monotonic()
        if at - looked > POLL:
            looked = at
            meter().check_clock()
        if at - started > longest:  # a server that drips never meets the timeout of a single read
            message = f"the answer was not complete within {longest:g} s of its first byte"
            return Failure("timeout", message, transient=True, unsettled=True, request_id=request_id)
        if len(content) > MOST_BYTES:
            message = f"an answer of more than {MOST_BYTES:,} bytes"
            return Failure("malformed", message, unsettled=True, request_id=request_id)
    return Body(bytes(content), request_id, response.status_code)


def refusal_of(error: Any, secrets: Sequence[str]) -> Failure:
    """What a status of 4xx or 5xx means. *error* is the status error of either SDK."""
    headers: Mapping[str, str] = error.response.headers
    status: int = error.status_code
    error_class, transient = meaning(status, str(error.body))
    retry_after_ms = headers.get("retry-after-ms", "")
    return Failure(
        error_class,
        redact(str(error), secrets),
        retry=transient and headers.get("x-should-retry") != "false",
        transient=transient,
        retry_after=(f"{int(retry_after_ms) / 1000}" if retry_after_ms.isdecimal() else headers.get("retry-after")),
        status=status,
        request_id=id_of(headers),
    )


def meaning(status: int, body: str) -> tuple[str, bool]:
    """The class of an error, and whether it passes by itself."""
    match status:
        case 401 | 403:
            return "auth", False
        case 402:
            return "quota", False
        case 404:
            return "not_found", False
        case 408:
            return "timeout", True
        case 429 if "insufficient_quota" in body:  # no waiting fills an account
            return "quota", False
        case 429:
            return "rate_limit", True
        case 503 | 529:
            return "overloaded", True
        case 500 | 502 | 504:
            return "server_error", True
        case _:
            return ("server_error" if status >= 500 else "bad_request"), False


def torn(body: Body) -> Failure:
    """A stream that ended before its answer did."""
    message = "the answer was cut: the stream ended before it did"
    return Failure("connection", message, transient=True, unsettled=True, request_id=body.request_id)


def failed_midway(body: Body, error: object, status: int, begun: bool, secrets: Sequence[str]) -> Failure:
    """An error that came as an event of a stream, with the *status* that it would have had as a response.

    *begun*: a part of the answer had come before it.
    """
    error_class, transient = meaning(status, str(error))
    return Failure(
        error_class,
        redact(f"the stream broke off: {error}", secrets),
        retry=transient and not begun,
        transient=transient,
        unsettled=begun,
        status=body.status,
        request_id=body.request_id,
    )


def malformed(body: Body, why: str, secrets: Sequence[str]) -> Failure:
    start = body.content[:80].decode(errors="replace")
    return Failure(
        "malformed",
        redact(f"not an answer ({why}): {start!r}", secrets),
        unsettled=True,
        status=body.status,
        request_id=body.request_id,
    )


def id_of(headers: Mapping[str, str]) -> str | None:
    return headers.get("x-request-id") or headers.get("request-id")


KEY_LIKE = re.compile(r"\b(?:sk|pk|rk|key|xai|gsk|hf|AIza)[-_][\w-]{8,}|(?i:bearer)\s+[^\s\"']+")


def redact(text: str, secrets: Sequence[str]) -> str:
    """*text* without *secrets* and whatever looks like one; at most 500 characters."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, GONE)
    return KEY_LIKE.sub(GONE, redacted(text))[:500]


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
