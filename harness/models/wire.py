"""One HTTP exchange with a provider, by whichever SDK: what comes back, and if nothing does, whose fault it was."""

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx2

from harness.protocols import Message
from traces.journal import clean, clean_text
from traces.records import ToolCall, Usage


@dataclass(frozen=True)
class Request:
    """What to ask, as every provider understands it."""

    messages: Sequence[Message]
    seed: int
    temperature: float | None
    """``None``: not sent."""
    max_tokens: int
    timeout: float
    """Seconds without a byte, and seconds for the whole body after the first."""


@dataclass(frozen=True)
class Answer:
    """What a provider answered, in one shape."""

    text: str
    finish_reason: str
    """``stop``, ``length``, ``refusal`` or the provider's own word."""
    stop: str | None = None
    """The provider's own word."""
    usage: Usage | None = None
    """Without dollars. ``None``: the provider did not say."""
    model: str | None = None
    id: str | None = None
    """The provider's id of the answer."""
    request_id: str | None = None
    """The provider's id of the request, to quote to its support."""


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


def mended(message: Message) -> Message:
    """*message* as it can be encoded."""
    return replace(
        message,
        content=clean_text(message.content),
        calls=tuple(ToolCall.model_validate(clean(call.model_dump())) for call in message.calls),
        opaque=tuple(clean(block) for block in message.opaque),
    )


def in_words(message: Message) -> dict[str, Any]:
    """*message* for a trace: role and content, and of the other fields those that say something."""
    rest = {"answers": message.answers, "is_error": message.is_error, "opaque": message.opaque}
    calls = [call.model_dump(exclude_defaults=True) for call in message.calls]
    more = {name: value for name, value in {"calls": calls, **rest}.items() if value}
    return {"role": message.role, "content": message.content, **more}


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
    post: Callable[[], AbstractContextManager[Response]], errors: Errors, timeout: float, secrets: Sequence[str]
) -> Body | Failure:
    """Send one request and read the whole answer.

    Until the headers are here, only the SDK raises, and a repeat is harmless. After that the provider has done the
    work: a body that is cut or dripping is not asked for again.
    """
    try:
        with post() as response:
            return read(response, timeout)
    except errors.timeout as e:
        never_sent = isinstance(e.__cause__, httpx2.ConnectTimeout | httpx2.PoolTimeout)
        message = f"no answer within {timeout:g} s"
        return Failure("timeout", message, retry=True, transient=True, unsettled=not never_sent)
    except errors.connection as e:
        never_sent = isinstance(e.__cause__, httpx2.ConnectError)
        message = redact(f"no connection: {e.__cause__ or e}", secrets)
        return Failure("connection", message, retry=True, transient=True, unsettled=not never_sent)
    except errors.status as e:
        return refusal_of(e, secrets)
    except httpx2.TimeoutException:
        return Failure("timeout", f"the answer stopped for {timeout:g} s", transient=True, unsettled=True)
    except httpx2.DecodingError as e:
        return Failure("malformed", redact(f"the body cannot be unpacked: {e}", secrets), unsettled=True)
    except httpx2.TransportError as e:
        message = redact(f"the answer was cut: {e}", secrets)
        return Failure("connection", message, transient=True, unsettled=True)


def read(response: Response, timeout: float) -> Body | Failure:
    started = monotonic()
    content = bytearray()
    request_id = id_of(response.headers)
    for chunk in response.iter_bytes():
        content += chunk
        if monotonic() - started > timeout:  # a server that drips never meets the timeout of a single read
            message = f"the answer was not complete within {timeout:g} s of its first byte"
            return Failure("timeout", message, transient=True, unsettled=True, request_id=request_id)
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
            text = text.replace(secret, "[key]")
    return KEY_LIKE.sub("[key]", text)[:500]


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
