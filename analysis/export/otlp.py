"""Spans as OTLP, the protocol of OpenTelemetry collectors, in its JSON encoding.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: ids are hexadecimal, 64-bit integers are text, enums
are numbers. Ids are digests of ours, so that sending the same again adds nothing new. Of trials on hidden tasks go only
what ran, how long, and what it cost, unless their split is named.
"""

import hashlib
import json
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, cast

from analysis.export.store import Row, copied, rows, with_texts
from analysis.export.training import BASE, sent
from harness.redact import redacted
from traces import otel
from traces.records import Span, Split, Usage

Json = dict[str, Any]

MOST_SPANS = 500
MOST_BYTES = 2 << 20
"""Of a batch, about: collectors refuse requests of more than 4 MiB or so."""
INTERNAL, CLIENT = 1, 3
"""Kinds of spans."""
ERROR = 2
"""Code of a status."""
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
TOOL_RESULT = "gen_ai.tool.call.result"
SAFE = frozenset(
    {
        *(otel.OPERATION, otel.PROVIDER, otel.REQUEST_MODEL, otel.REQUEST_SEED, otel.REQUEST_TEMPERATURE),
        *(otel.REQUEST_MAX_TOKENS, otel.RESPONSE_MODEL, otel.RESPONSE_ID, otel.FINISH_REASONS, otel.INPUT_TOKENS),
        *(otel.OUTPUT_TOKENS, otel.CACHED_TOKENS, otel.CACHE_WRITE_TOKENS, otel.AGENT_NAME, otel.TOOL_NAME),
        *(otel.TOOL_CALL_ID, otel.ERROR_TYPE),
    }
)
"""Attributes that tell nothing of what a hidden task asks, nor how it was answered."""

TABLES: Mapping[str, str] = {
    "runs": "SELECT id, experiment, ratchet FROM (SELECT unnest($runs) AS id) LEFT JOIN runs USING (id)",
    "trials": f"SELECT *, {BASE.format('id')} AS base FROM trials WHERE list_contains($runs, run) "
    "QUALIFY row_number() OVER (PARTITION BY run, base ORDER BY seq DESC) = 1",
    "spans": f"SELECT *, {BASE.format('trial')} AS base FROM spans WHERE list_contains($runs, run)",
    "texts": "SELECT hash, text FROM texts WHERE hash IN "
    "(SELECT input_hash FROM copied.spans UNION ALL SELECT output_hash FROM copied.spans)",
    "reviews": f"SELECT run, {BASE.format('trial')} AS base, list(struct_pack(criterion, choice, passed, because, "
    "at := epoch_us(written)) ORDER BY seq) AS marks FROM reviews WHERE list_contains($runs, run) "
    "AND criterion IS NOT NULL GROUP BY ALL",
}
ROOTS = (
    "SELECT trials.*, epoch_us(started) AS began, reviews.marks, "
    "coalesce(list_contains($splits, split), false) AS is_open "
    "FROM trials LEFT JOIN reviews USING (run, base) WHERE trials.run = $run ORDER BY seq"
)
SPANS = (
    "SELECT spans.*, epoch_us(spans.started) AS began, "
    "spans.trial IS NULL OR coalesce(list_contains($splits, trials.split), false) AS is_open FROM spans "
    "LEFT JOIN trials ON trials.run = spans.run AND trials.base = spans.base "
    "WHERE spans.run = $run ORDER BY spans.seq"
)


@dataclass(frozen=True)
class Request:
    """Some spans of one run, to be sent at once."""

    run: str
    spans: int
    body: Json
    """An ExportTraceServiceRequest."""


def requests(directory: Path, runs: Sequence[str], splits: Sequence[Split] = ("train",)) -> Generator[Request]:
    """The spans of *runs* in requests of a bounded size: a trace a trial.

    A trial is the root of its spans; the calls of a proposer make a trace with all others of its run. What was said,
    and how it was graded, is told of trials on *splits* alone; of a trial under way neither, since its split is not
    known yet.
    """
    with copied(directory, TABLES, {"runs": [*runs]}) as connection:
        for run in rows(connection, "SELECT * FROM runs ORDER BY id"):
            about = {"run": run["id"], "splits": [*splits]}
            roots = (root(row) for row in rows(connection, ROOTS, about))
            found = with_texts(
                connection, rows(connection, SPANS, about), lambda row: (row["input_hash"], row["output_hash"])
            )
            spans = chain(roots, (encoded(row, texts) for row, texts in found))
            yield from batches(run, spans)


def batches(run: Row, spans: Iterable[Json]) -> Iterator[Request]:
    batch: list[Json] = []
    size = 0
    for span in spans:
        batch.append(span)
        size += len(json.dumps(span))
        if len(batch) >= MOST_SPANS or size >= MOST_BYTES:
            yield request(run, batch)
            batch, size = [], 0
    if batch:
        yield request(run, batch)


def request(run: Row, spans: Sequence[Json]) -> Request:
    resource = {
        "service.name": "ratchet",
        "service.version": run["ratchet"],
        "ratchet.experiment": run["experiment"],
        "ratchet.run": run["id"],
    }
    scope = {"name": "ratchet", "version": version("ratchet")}
    told = {"resource": {"attributes": listed(resource)}, "scopeSpans": [{"scope": scope, "spans": list(spans)}]}
    return Request(run["id"], len(spans), {"resourceSpans": [told]})


# ── a span ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def root(row: Row) -> Json:
    """The span of a whole trial; what its verifier said are its events."""
    is_open = row["is_open"]
    said = {
        "ratchet.trial": row["id"],
        "ratchet.version": row["version"],
        "ratchet.task": row["task"],
        "ratchet.split": row["split"],
        "ratchet.tags": row["tags"],
        "ratchet.round": row["round"],
        "ratchet.repeat": row["repeat"],
        "ratchet.conditions": row["conditions"],
        otel.ERROR_TYPE: row["error_class"],
    }
    if is_open:
        said |= {
            "ratchet.score": row["score"],
            "ratchet.ended": row["ended"],
            otel.OUTPUT_MESSAGES: spoken(row["output"]),
        }
    marks: Sequence[Mapping[str, Any]] = row["marks"] or () if is_open else ()
    events = [
        evaluation(
            mark["at"],
            {
                otel.EVALUATION_NAME: mark["criterion"],
                otel.SCORE_LABEL: mark["choice"] or ("pass" if mark["passed"] else "fail"),
                otel.EXPLANATION: mark["because"],
            },
        )
        for mark in marks
    ]
    return {
        **placed(row, f"trial/{row['base']}", None, f"trial {row['task']}", INTERNAL),
        "attributes": listed(said),
        "events": events,
        **status(row["error"] is not None, row["error"] if is_open else row["error_class"]),
    }


def encoded(row: Row, texts: Mapping[str, str]) -> Json:
    """The span in *row*; a grade is an event of it, too."""
    span = span_of(row)
    is_open = row["is_open"]
    found = dict(otel.attributes(span))
    judged = {name: found.pop(name) for name in JUDGED if name in found}
    if otel.SCORE in judged:
        judged[otel.SCORE] = float(judged[otel.SCORE])
    if not is_open:
        found = {name: value for name, value in found.items() if name in SAFE}
    more = {
        "ratchet.trial": span.trial,
        "ratchet.role": span.role or None,
        "ratchet.attempt": span.attempt,
        "ratchet.effect": span.effect,
        "ratchet.dollars": span.usage.dollars if span.usage.calls else None,
        **(said(span, texts) if is_open else {}),
    }
    parent = f"span/{span.parent}" if span.parent else f"trial/{row['base']}" if span.trial else None
    kind = CLIENT if span.operation == "chat" else INTERNAL
    is_grade = is_open and otel.SCORE in judged
    return {
        **placed(row, f"span/{span.id}", parent, f"{span.operation} {span.name}", kind),
        "attributes": listed(found | more),
        "events": [evaluation(ended(row), judged)] if is_grade else [],
        **status(span.status != "ok", (is_open and span.error) or span.error_class or span.status),
    }


JUDGED = (otel.EVALUATION_NAME, otel.SCORE, otel.SCORE_LABEL, otel.EXPLANATION)


def span_of(row: Row) -> Span:
    fields = {name: row[name] for name in Span.model_fields if name not in ("usage", "attributes", "started")}
    usage = Usage(**{name: row[name] for name in Usage.model_fields})
    started = datetime.fromtimestamp(row["began"] / 1e6, UTC)
    return Span(**fields, started=started, usage=usage, attributes=row["attributes"] or {})


def said(span: Span, texts: Mapping[str, str]) -> Json:
    """What was sent and answered, as far as it was kept."""
    asked, answered = texts.get(span.input_hash or ""), texts.get(span.output_hash or "")
    if span.operation == "execute_tool":
        return {TOOL_ARGUMENTS: clean(asked), TOOL_RESULT: clean(answered)}
    messages = sent(asked)
    shown = None if messages is None else json.dumps([in_parts(m) for m in messages], ensure_ascii=False)
    return {otel.INPUT_MESSAGES: shown or clean(asked), otel.OUTPUT_MESSAGES: spoken(answered)}


def spoken(text: str | None) -> str | None:
    """*text* as the message of an assistant."""
    if text is None:
        return None
    return json.dumps([in_parts({"role": "assistant", "content": redacted(text)})], ensure_ascii=False)


def in_parts(message: Mapping[str, Any]) -> Json:
    """A message in the conventions' own shape."""
    if message["role"] == "tool":
        answer = {"type": "tool_call_response", "id": message["tool_call_id"], "response": message["content"]}
        return {"role": "tool", "parts": [answer]}
    parts: list[Json] = [{"type": "text", "content": message["content"]}] if message["content"] else []
    for call in message.get("tool_calls", ()):
        asked = call["function"]
        parts.append({"type": "tool_call", "id": call["id"], "name": asked["name"], "arguments": asked["arguments"]})
    return {"role": message["role"], "parts": parts}


def placed(row: Row, id: str, parent: str | None, name: str, kind: int) -> Json:
    """Which span it is, of which trace, and when it was."""
    trace = f"trial/{row['base']}" if row["base"] else f"run/{row['run']}"
    return {
        "traceId": digest(trace, 16),
        "spanId": digest(id, 8),
        **({} if parent is None else {"parentSpanId": digest(parent, 8)}),
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(1000 * row["began"]),
        "endTimeUnixNano": str(1000 * ended(row)),
    }


def ended(row: Row) -> int:
    """In microseconds since 1970."""
    return row["began"] + round(1e6 * row["seconds"])


def evaluation(at: int, attributes: Mapping[str, Any]) -> Json:
    return {"timeUnixNano": str(1000 * at), "name": otel.EVALUATION, "attributes": listed(attributes)}


def status(failed: bool, why: object) -> Json:
    return {"status": {"code": ERROR, "message": clean(str(why))}} if failed else {}


def digest(id: str, length: int) -> str:
    return hashlib.sha256(id.encode()).hexdigest()[: 2 * length]


def clean(text: str | None) -> str | None:
    return None if text is None else redacted(text)


# ── values ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def listed(attributes: Mapping[str, Any]) -> list[Json]:
    """Those that have a value."""
    return [{"key": key, "value": value_of(value)} for key, value in attributes.items() if value is not None]


def value_of(value: object) -> Json:
    match value:
        case None:
            return {}
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case dict():
            return {"kvlistValue": {"values": listed(cast("dict[str, Any]", value))}}
        case list() | tuple():
            return {"arrayValue": {"values": [value_of(item) for item in cast("Sequence[object]", value)]}}
        case _:
            return {"stringValue": redacted(str(value))}
