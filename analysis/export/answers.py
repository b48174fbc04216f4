"""What a collector answers: an ExportTraceServiceResponse, in JSON or in protobuf.

https://opentelemetry.io/docs/specs/otlp/#otlphttp-response: after ``200 OK`` it says by ``partial_success`` how many
spans it rejected, and why; nothing in it means that it took them all. In protobuf such an answer has no bytes.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic_core import from_json

JSON = "application/json"
PROTOBUF = frozenset({"application/x-protobuf", "application/protobuf"})
LENGTH_DELIMITED = 2
FIXED = {1: 8, 5: 4}
"""Bytes of a value, by the wire type. https://protobuf.dev/programming-guides/encoding/"""


def partial_success(content_type: str, body: bytes) -> tuple[int, str]:
    """How many spans were rejected, and the collector's words.

    Raises:
        ValueError: that is no answer of a collector; says why.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind in PROTOBUF:
        return in_protobuf(body)
    if kind != JSON:
        raise ValueError(f"its content is {kind or 'of no type'}, and neither {JSON} nor protobuf")
    return in_json(from_json(body, allow_inf_nan=False)) if body.strip() else (0, "")


def in_json(found: object) -> tuple[int, str]:
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    partial = cast("Mapping[str, Any]", found).get("partialSuccess")
    match partial:
        case None:
            return 0, ""
        case dict():
            said = cast("Mapping[str, Any]", partial)
            return counted(int(str(said.get("rejectedSpans") or 0))), str(said.get("errorMessage") or "")
        case _:
            raise ValueError("its partialSuccess is no object")


def in_protobuf(body: bytes) -> tuple[int, str]:
    rejected, because = 0, ""
    for number, partial in fields(body):
        if number == 1:
            if not isinstance(partial, bytes):
                raise ValueError("its partial_success is no message")
            for inner, value in fields(partial):
                match inner, value:
                    case 1, int():
                        rejected = counted(value)
                    case 2, bytes():
                        because = value.decode()
                    case _:
                        pass
    return rejected, because


def counted(rejected: int) -> int:
    if not 0 <= rejected < 2**63:
        raise ValueError(f"it rejects {rejected} spans")
    return rejected


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field, those included that nobody knows."""
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = varint(message, at)
            yield tag >> 3, value
            continue
        if kind == LENGTH_DELIMITED:
            length, at = varint(message, at)
        elif kind in FIXED:
            length = FIXED[kind]
        else:
            raise ValueError(f"it is no protobuf: byte {at} has wire type {kind}")
        if at + length > len(message):
            raise ValueError("it is no protobuf, or it was cut")
        yield tag >> 3, message[at : at + length]
        at += length


def varint(message: bytes, at: int) -> tuple[int, int]:
    """The integer at *at*, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("it is no protobuf, or it was cut")
