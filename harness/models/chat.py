"""A model behind an HTTP API: each request announced to the meter, timed, priced, and retried where that helps."""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

from harness.errors import BudgetSpent, ModelError, UserError
from harness.meter import meter
from harness.models.breaker import Breaker, Circuit
from harness.models.calls import distinct, dumped, in_words, mended, spoken
from harness.models.prices import Price, list_price
from harness.models.retry import Retry
from harness.models.shared import shared
from harness.models.wire import Answer, Api, Failure, Request
from harness.protocols import Message, Reply, ToolSpec
from harness.redact import redacted
from traces import otel
from traces.journal import clean_text
from traces.records import Span, Text, Usage, now

REQUEST_ID: Final = "ratchet.request_id"
"""The provider's id of the request, to quote to its support."""
STATUS: Final = "http.response.status_code"
ESTIMATED: Final = "ratchet.usage.estimated"
"""The provider did not say what the request used, or may have done work that it did not answer for."""

TOOLS: Final = "ratchet.request.tools"
"""Names of the tools that the model was offered."""

PREVIEW = 200


@dataclass(frozen=True)
class ChatModel:
    """A model to talk to. Cheap: nothing is opened before the first call, and all copies share what is opened.

    What ``repr`` shows is what an answer depends on; it is part of an experiment's fingerprint.
    """

    name: str
    """As the user wrote it, ``provider:model``."""
    api: Api
    temperature: float | None
    """``None``: not sent, so the provider's own."""
    max_tokens: int
    timeout: float = field(default=120.0, repr=False)
    """Seconds without a byte after which a request has failed; and for a whole body after its first byte, of which a
    stream has ten times as many."""
    price: Price | None = field(default=None, repr=False)
    """``None``: by the public price list, where the model is on it."""
    retry: Retry = field(default_factory=Retry, repr=False)
    breaker: Breaker = field(default_factory=Breaker, repr=False)
    """Models with equal ones share their provider's."""
    stream: bool = field(default=False, repr=False)
    """Is the answer sent as it is made? It is the same, but a long one does not meet ``timeout``."""

    @property
    def price_known(self) -> bool:
        return self._dollars(Usage()) is not None

    @property
    def takes_tools(self) -> bool:
        return self.api.takes_tools

    def complete(
        self,
        messages: Sequence[Message],
        *,
        seed: int,
        tools: Sequence[ToolSpec] = (),
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Answer the chat. *schema*: the answer's text is to be a JSON object that fits it, as far as the provider can
        see to that.

        Raises:
            ModelError: the provider refused or failed for good; says which, and whether it was worth a retry.
            BudgetSpent: the run may not buy this call, or has to end at once.
            UserError: the key is gone, the embedded model cannot be started, or it is offered *tools*.
        """
        if tools and not self.takes_tools:
            raise UserError(
                f"{self.name} was offered {len(tools)} tools, and it cannot call any, so an agent cannot work with it. "
                "Name a model that can: openai:MODEL or anthropic:MODEL"
            )
        request = Request(
            messages=[mended(m) for m in messages],
            seed=seed,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            timeout=self.timeout,
            tools=sorted(tools, key=lambda tool: tool.name),  # another order would be another prompt to a cache
            schema=schema,
            stream=self.stream,
        )
        asked = text_record(json.dumps([in_words(m) for m in request.messages], ensure_ascii=False))
        estimate = self._priced(estimated_usage(request))
        used: list[Usage] = []

        def attempt(number: int) -> Answer | Failure:
            span_id = uuid.uuid4().hex
            with self.api.open() as send:
                meter().begin(span_id, self.name, estimate, number)
                started, clock = now(), perf_counter()
                broken_off: BudgetSpent | None = None
                try:
                    outcome = send(request)
                except BudgetSpent as e:
                    outcome, broken_off = Failure("stopped", str(e), unsettled=True), e
                seconds = perf_counter() - clock
            span = Span(
                id=span_id,
                operation="chat",
                name=self.name,
                started=started,
                seconds=seconds,
                attempt=number,
                usage=self._usage_of(outcome, estimate),
                input_hash=asked.hash,
                input_preview=asked.text[-PREVIEW:],
                attributes=self._attributes(request, outcome),
            )
            span, texts = with_outcome(span, outcome)
            if broken_off is not None:
                span = span.model_copy(update={"status": "interrupted", "error_class": None})
            used.append(span.usage)
            meter().end(span, (asked, *texts) if number == 1 else texts)
            if broken_off is not None:
                raise broken_off
            return outcome

        circuit = shared(("circuit", self.api.provider, self.api.url, self.breaker), lambda: Circuit(self.breaker))
        outcome = self.retry.call(lambda number: circuit.call(lambda: attempt(number)))
        if isinstance(outcome, Failure):
            raise self._error(outcome, len(used))
        return Reply(
            text=outcome.text,
            usage=Usage.sum(used),
            finish_reason=outcome.finish_reason,
            tool_calls=distinct(outcome.tool_calls, request.messages),
            model=outcome.model or "",
            opaque=outcome.opaque,
        )

    def estimate(self, tokens: int) -> Usage:
        """What a call with a prompt of about so many *tokens* will use at most."""
        return self._priced(Usage(calls=1, input_tokens=tokens, output_tokens=self.max_tokens))

    def _dollars(self, usage: Usage) -> float | None:
        if self.price is not None:
            return self.price.dollars(usage)
        if self.api.url is None:
            return 0.0  # it runs inside Ratchet
        return list_price(self.api.url, self.api.model, usage, now())

    def _priced(self, usage: Usage) -> Usage:
        return usage.model_copy(update={"dollars": self._dollars(usage)})

    def _usage_of(self, outcome: Answer | Failure, estimate: Usage) -> Usage:
        """What an attempt is charged. Where the provider may have done the work and does not say, the estimate."""
        match outcome:
            case Answer(usage=Usage() as usage):
                return self._priced(usage)
            case Answer():
                written = estimated_tokens(spoken(outcome.text, outcome.tool_calls))
                return self._priced(estimate.model_copy(update={"output_tokens": written}))
            case Failure(unsettled=True):
                return estimate
            case Failure():
                return Usage(calls=1)

    def _attributes(self, request: Request, outcome: Answer | Failure) -> dict[str, Any]:
        """By OpenTelemetry name, those that are known."""
        known: dict[str, Any] = {
            otel.PROVIDER: self.api.provider,
            otel.REQUEST_MODEL: self.api.model,
            otel.REQUEST_TEMPERATURE: request.temperature,
            otel.REQUEST_MAX_TOKENS: request.max_tokens,
            otel.REQUEST_SEED: request.seed,
            TOOLS: [tool.name for tool in request.tools] or None,
            REQUEST_ID: outcome.request_id,
        }
        match outcome:
            case Answer():
                known[otel.RESPONSE_ID] = outcome.id
                known[otel.RESPONSE_MODEL] = outcome.model
                known[otel.FINISH_REASONS] = None if outcome.stop is None else [outcome.stop]
                known[ESTIMATED] = True if outcome.usage is None else None
            case Failure():
                known[STATUS] = outcome.status
                known[ESTIMATED] = True if outcome.unsettled else None
        return {name: value for name, value in known.items() if value is not None}

    def _error(self, failure: Failure, attempts: int) -> ModelError:
        where = f"{self.name} at {self.api.url}" if self.api.url else self.name
        tries = f" after {attempts} attempts" if attempts > 1 else ""
        advice = ""
        if failure.error_class == "bad_request" and self.temperature is not None and "temperature" in failure.message:
            advice = f". If it takes no temperature, write: model({self.name!r}, temperature=None)"
        message = f"{where}: {failure.error_class}{tries}: {failure.message}{advice}"
        return ModelError(failure.error_class, message, transient=failure.transient)


def with_outcome(span: Span, outcome: Answer | Failure) -> tuple[Span, tuple[Text, ...]]:
    match outcome:
        case Answer():
            answered = text_record(spoken(outcome.text, outcome.tool_calls))
            preview = answered.text[:PREVIEW]
            return span.model_copy(update={"output_hash": answered.hash, "output_preview": preview}), (answered,)
        case Failure():
            why = {"status": "error", "error": outcome.message, "error_class": outcome.error_class}
            return span.model_copy(update=why), ()


def text_record(text: str) -> Text:
    return Text.of(clean_text(redacted(text)))


def estimated_usage(request: Request) -> Usage:
    """What a request may use at most, about: a token is four bytes or so, and a turn costs a few more."""
    prompt = sum(estimated_tokens(said_in(m)) + 5 for m in request.messages)
    offered = sum(estimated_tokens(t.name + t.description + dumped(t.parameters)) for t in request.tools)
    wanted = estimated_tokens(dumped(request.schema)) if request.schema else 0
    return Usage(calls=1, input_tokens=prompt + offered + wanted, output_tokens=request.max_tokens)


def said_in(message: Message) -> str:
    opaque = "".join(dumped(block) for block in message.opaque)
    return (spoken(message.content, message.calls) if message.calls else message.content) + opaque


def estimated_tokens(text: str) -> int:
    return -(-len(text.encode()) // 4)
