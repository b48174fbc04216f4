"""A program whose spans go to one of the stores that ``stores.py`` compares; it is there to be killed.

python -m tests.benchmarks.stores_writer STORE SETTING TARGET LOG FIRST COUNT RATE

TARGET is a folder (ratchet) or the address of a server. LOG gets the numbers of the spans that count as safe, eight
bytes each: "returned" when the call that ends a span has returned, "taken" when the store has said that it has it.
COUNT and RATE may be 0: without end, as fast as it goes.
"""

import os
import struct
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from traces.records import Span, Usage

PER_TRIAL = 20
MODELS = ("small", "medium", "large")
TAGS = ("plural", "colour", "animal", "number", "negation")
PROMPT = "What is the plural of mouse, and why is it not the same as that of house? " * 8


def span(number: int) -> Span:
    """The same for every store: a model call of half a kilobyte; each seventh fails."""
    failed = number % 7 == 0
    trial = f"night/{number // PER_TRIAL}"
    return Span(
        id=f"{number:016x}",
        run="night",
        trial=trial,
        parent=f"{number - number % PER_TRIAL:016x}" if number % PER_TRIAL else None,
        operation="chat",
        name=MODELS[number % 3],
        started=datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=number / 100),
        seconds=0.1,
        status="error" if failed else "ok",
        error="it timed out" if failed else None,
        usage=Usage(calls=1, input_tokens=200, output_tokens=8, dollars=0.001 * (number % 10)),
        input_preview=PROMPT,
        output_preview="The plural of mouse is mice.",
        attributes={"n": number, "tag": TAGS[number % 5]},
    )


class Log:
    """The numbers of safe spans; what is written here outlives the process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def add(self, *numbers: int) -> None:
        os.write(self._file, struct.pack(f"<{len(numbers)}q", *numbers))


def numbers_in(path: Path) -> list[int]:
    data = path.read_bytes() if path.exists() else b""
    return list(struct.unpack(f"<{len(data) // 8}q", data[: len(data) // 8 * 8]))


def main(store: str, setting: str, target: str, log: Path, first: int, count: int, rate: float) -> None:
    numbers = paced(first, count, rate)
    if store == "ratchet":
        write_to_a_journal(setting, Path(target), log, numbers)
    else:
        write_by_otlp(store, setting, target, log, numbers)


def paced(first: int, count: int, rate: float) -> Iterator[int]:
    begun = time.perf_counter()
    parent = os.getppid()
    number = first
    while (not count or number < first + count) and os.getppid() == parent:
        if rate and (early := begun + (number - first) / rate - time.perf_counter()) > 0:
            time.sleep(early)
        yield number
        number += 1


def write_to_a_journal(setting: str, directory: Path, log: Path, numbers: Iterator[int]) -> None:
    """*setting*: ``as it comes``, or ``safest``, which waits for the disk."""
    from traces.journal import Journal
    from traces.merge import Merger
    from traces.places import spool

    returned = Log(log.with_suffix(".returned"))
    with Journal(spool(directory) / f"{log.stem}.jsonl") as journal, Merger(directory):
        Path(f"{log}.began").write_text(str(time.time()))
        for number in numbers:
            journal.append(span(number), durable=setting == "safest")
            returned.add(number)


def write_by_otlp(store: str, setting: str, url: str, log: Path, numbers: Iterator[int]) -> None:
    """*setting*: ``as it comes``, the batches that both recommend; or ``safest``: each span by itself, and no next one
    before it was taken."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult

    class Telling(SpanExporter):
        """Writes down what the store says that it has."""

        def __init__(self, inner: SpanExporter, taken: Log) -> None:
            self.inner, self.taken = inner, taken

        def export(self, spans):
            result = self.inner.export(spans)
            if result is SpanExportResult.SUCCESS:
                self.taken.add(*(int(s.attributes["n"]) for s in spans))
            return result

        def shutdown(self) -> None:
            self.inner.shutdown()

        def force_flush(self, timeout_millis: int = 30000) -> bool:
            return self.inner.force_flush(timeout_millis)

    headers = {"x-mlflow-experiment-id": "0"} if store == "mlflow" else {}
    exporter = Telling(OTLPSpanExporter(f"{url}/v1/traces", headers=headers), Log(log.with_suffix(".taken")))
    processor = SimpleSpanProcessor(exporter) if setting == "safest" else BatchSpanProcessor(exporter)
    provider = TracerProvider(resource=Resource({"service.name": "night"}))
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("ratchet")
    returned = Log(log.with_suffix(".returned"))
    parents: dict[str, object] = {}
    Path(f"{log}.began").write_text(str(time.time()))
    for number in numbers:
        record = span(number)
        context = parents.get(str(record.parent))
        began = int(record.started.timestamp() * 1e9)
        made = tracer.start_span(
            f"chat {record.name}", context=context, start_time=began, attributes=dict(attributes(store, record))
        )
        if record.status == "error":
            made.set_status(trace.StatusCode.ERROR, record.error)
        made.end(began + int(record.seconds * 1e9))
        returned.add(number)
        if record.parent is None:
            parents = {record.id: trace.set_span_in_context(made)}
    provider.force_flush()
    provider.shutdown()


def attributes(store: str, record: Span) -> dict[str, object]:
    """By the names that the store's own queries know."""
    common = {"n": record.attributes["n"], "tag": record.attributes["tag"], "dollars": record.usage.dollars}
    if store == "phoenix":
        return common | {
            "openinference.span.kind": "LLM",
            "llm.model_name": record.name,
            "llm.token_count.prompt": record.usage.input_tokens,
            "llm.token_count.completion": record.usage.output_tokens,
            "input.value": record.input_preview,
            "output.value": record.output_preview,
        }
    return common | {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": record.name,
        "gen_ai.usage.input_tokens": record.usage.input_tokens,
        "gen_ai.usage.output_tokens": record.usage.output_tokens,
        "mlflow.spanInputs": record.input_preview,
        "mlflow.spanOutputs": record.output_preview,
    }


if __name__ == "__main__":
    store, setting, target, log, first, count, rate = sys.argv[1:]
    main(store, setting, target, Path(log), int(first), int(count), float(rate))
