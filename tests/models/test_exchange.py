"""Both SDKs against a provider on this machine, at its best and at its worst."""

import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from harness.errors import BudgetSpent, ModelError
from harness.meter import metered
from harness.models import Price, Retry, close
from harness.models.chat import ESTIMATED, REQUEST_ID
from harness.protocols import Message
from tests.models.conftest import ANTHROPIC, CHAT, KEY, OPENAI, Naps, Remembering, Sdk
from tests.models.loopback import (
    Play,
    answers,
    cuts,
    drips,
    echoes_the_key,
    hangs_up,
    pauses,
    provider,
    refuses,
    stalls,
)
from traces import otel
from traces.records import Usage


def failure(sdk: Sdk, *plays: Play, **options: Any) -> tuple[ModelError, int, list[float]]:
    """How a call ended, how many requests the provider saw, and the waits between them."""
    naps = Naps()
    with provider(*plays) as there:
        with pytest.raises(ModelError) as caught:
            sdk.model(there.url, naps, **options).complete(CHAT, seed=1)
        close()
        return caught.value, len(there.received), naps.taken


def drips_slowly(body: object) -> Play:
    return drips(body, 0.02)


def test_an_answer_comes_with_its_usage_and_its_reason(sdk: Sdk, meter: Remembering):
    with provider(answers(sdk.says("dogs"))) as there:
        reply = sdk.model(there.url).complete(CHAT, seed=1)

    assert (reply.text, reply.finish_reason, reply.model) == ("dogs", "stop", "a-model-2026")
    assert reply.usage.input_tokens == 100
    assert reply.usage.cached_tokens == 60
    assert reply.usage.output_tokens == 7
    assert reply.usage.cache_write_tokens == (10 if sdk is ANTHROPIC else 0)
    assert [received.path for received in there.received] == [sdk.path]
    assert len(meter.spans) == 1


def test_a_span_tells_what_was_asked_and_answered_and_by_whom(sdk: Sdk, meter: Remembering):
    with provider(answers(sdk.says("dogs"), {sdk.request_id: "req-7"})) as there:
        sdk.model(there.url, temperature=0.0).complete(CHAT, seed=5)

    [span] = meter.spans
    [(span_id, name, estimate, attempt)] = meter.begun
    assert (span.id, span.name, span.attempt, span.status) == (span_id, name, attempt, "ok")
    assert (span.operation, name, attempt) == ("chat", f"{sdk.name}:a-model", 1)
    assert span.attributes == {
        otel.PROVIDER: sdk.name,
        otel.REQUEST_MODEL: "a-model",
        otel.REQUEST_TEMPERATURE: 0.0,
        otel.REQUEST_MAX_TOKENS: 20,
        otel.REQUEST_SEED: 5,
        otel.RESPONSE_ID: "chatcmpl-1" if sdk is OPENAI else "msg_1",
        otel.RESPONSE_MODEL: "a-model-2026",
        otel.FINISH_REASONS: ["stop" if sdk is OPENAI else "end_turn"],
        REQUEST_ID: "req-7",
    }
    assert span.usage.calls == estimate.calls == 1
    assert estimate.output_tokens == 20
    texts = {text.hash: text.text for text in meter.texts}
    assert span.input_hash is not None
    assert "Plural of dog?" in texts[span.input_hash]
    assert texts[span.output_hash or ""] == span.output_preview == "dogs"
    assert span.seconds > 0


def test_the_request_is_announced_before_it_is_sent(sdk: Sdk):
    class Empty(Remembering):
        def begin(self, span_id: str, name: str, estimate: Usage, attempt: int) -> None:
            raise BudgetSpent("tokens", "all gone")

    naps = Naps()
    with provider(answers(sdk.says("dogs"))) as there, metered(Empty()), pytest.raises(BudgetSpent):
        sdk.model(there.url, naps).complete(CHAT, seed=1)
    assert there.received == []
    assert naps.taken == []


def test_a_budget_spent_between_two_attempts_ends_the_call(sdk: Sdk):
    class Tight(Remembering):
        def begin(self, span_id: str, name: str, estimate: Usage, attempt: int) -> None:
            if attempt == 2:
                raise BudgetSpent("stopped", "a person stopped it")
            super().begin(span_id, name, estimate, attempt)

    tight = Tight()
    with provider(refuses(500, {})) as there, metered(tight), pytest.raises(BudgetSpent):
        sdk.model(there.url).complete(CHAT, seed=1)
    assert len(there.received) == len(tight.spans) == 1


@pytest.mark.parametrize(
    ("status", "error_class"), [(400, "bad_request"), (401, "auth"), (403, "auth"), (404, "not_found"), (402, "quota")]
)
def test_what_a_repeat_cannot_mend_is_not_repeated(sdk: Sdk, meter: Remembering, status: int, error_class: str):
    error, requests, naps = failure(sdk, refuses(status, {"error": {"message": "no"}}))

    assert (error.error_class, error.transient) == (error_class, False)
    assert (requests, naps) == (1, [])
    assert [(s.status, s.error_class, s.usage) for s in meter.spans] == [("error", error_class, Usage(calls=1))]


@pytest.mark.parametrize(
    ("status", "error_class"),
    [(429, "rate_limit"), (500, "server_error"), (502, "server_error"), (503, "overloaded"), (529, "overloaded")],
)
def test_what_passes_by_itself_is_tried_again_up_to_a_limit(
    sdk: Sdk, meter: Remembering, status: int, error_class: str
):
    error, requests, naps = failure(sdk, refuses(status, {"error": {"message": "later"}}))

    assert (error.error_class, error.transient) == (error_class, True)
    assert requests == 3
    assert naps == [0.25, 0.5]
    assert [(s.attempt, s.error_class) for s in meter.spans] == [(n, error_class) for n in (1, 2, 3)]
    assert len({s.id for s in meter.spans}) == 3
    assert "after 3 attempts" in str(error)


def test_an_answer_after_a_retry_reports_all_attempts(sdk: Sdk, meter: Remembering):
    with provider(refuses(529, {}), refuses(500, b"<html>oops"), answers(sdk.says("dogs"))) as there:
        reply = sdk.model(there.url).complete(CHAT, seed=1)

    assert (reply.text, reply.usage.calls, len(there.received)) == ("dogs", 3, 3)
    assert [(s.attempt, s.status) for s in meter.spans] == [(1, "error"), (2, "error"), (3, "ok")]
    assert Usage.sum(s.usage for s in meter.spans) == reply.usage
    assert len({s.input_hash for s in meter.spans}) == 1
    assert len(meter.texts) == 2


def test_a_rate_limit_is_waited_out_as_long_as_the_provider_asks(sdk: Sdk):
    naps = Naps()
    limits = [refuses(429, {}, {"retry-after": "7"}), refuses(429, {}, {"retry-after-ms": "1500"})]
    with provider(*limits, answers(sdk.says("dogs"))) as there:
        sdk.model(there.url, naps).complete(CHAT, seed=1)
    assert naps.taken == [7 + 0.125, 1.5 + 0.25]


def test_a_provider_that_says_not_to_come_back_is_obeyed(sdk: Sdk):
    error, requests, _ = failure(sdk, refuses(429, {}, {"x-should-retry": "false"}))
    assert (error.error_class, error.transient, requests) == ("rate_limit", True, 1)


def test_an_empty_account_is_no_rate_limit(sdk: Sdk):
    error, requests, _ = failure(sdk, refuses(429, {"error": {"code": "insufficient_quota", "message": "pay"}}))
    assert (error.error_class, error.transient, requests) == ("quota", False, 1)


def test_a_silent_provider_is_asked_again_and_then_given_up(sdk: Sdk, meter: Remembering):
    error, requests, _ = failure(sdk, stalls, timeout=0.15)

    assert (error.error_class, error.transient, requests) == ("timeout", True, 3)
    assert all(
        s.usage == e and s.attributes[ESTIMATED] for s, (_, _, e, _) in zip(meter.spans, meter.begun, strict=True)
    )


def test_a_connection_closed_without_a_word_is_tried_again(sdk: Sdk):
    error, requests, _ = failure(sdk, hangs_up)
    assert (error.error_class, error.transient, requests) == ("connection", True, 3)


def test_a_provider_that_is_not_there_costs_nothing(sdk: Sdk, meter: Remembering):
    with provider() as there:
        url = there.url
    with pytest.raises(ModelError) as caught:
        sdk.model(url).complete(CHAT, seed=1)
    assert (caught.value.error_class, caught.value.transient) == ("connection", True)
    assert [s.usage for s in meter.spans] == [Usage(calls=1)] * 3


@pytest.mark.parametrize(
    ("play", "error_class", "transient"),
    [(cuts, "connection", True), (pauses, "timeout", True), (drips_slowly, "timeout", True)],
    ids=["cut", "paused", "dripping"],
)
def test_an_answer_that_began_is_never_asked_for_twice(
    sdk: Sdk, meter: Remembering, play: Any, error_class: str, transient: bool
):
    error, requests, naps = failure(sdk, play(sdk.says("dogs")), timeout=0.2)

    assert (error.error_class, error.transient) == (error_class, transient)
    assert (requests, naps) == (1, [])
    [span], [(_, _, estimate, _)] = meter.spans, meter.begun
    assert span.usage == estimate


def test_a_slow_answer_is_read_to_its_end(sdk: Sdk):
    with provider(drips(sdk.says("dogs"), 0.0005)) as there:
        assert sdk.model(there.url).complete(CHAT, seed=1).text == "dogs"


@pytest.mark.parametrize(
    "body",
    [b"{ not json", b"<html>hello</html>", b"", {"choices": []}, {"content": 7}, [], {"error": {"message": "x"}}],
)
def test_a_body_that_is_no_answer_is_malformed(sdk: Sdk, meter: Remembering, body: object):
    error, requests, _ = failure(sdk, answers(body))
    assert (error.error_class, requests) == ("malformed", 1)
    assert meter.spans[0].error_class == "malformed"


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_no_key_gets_into_a_span_or_an_error(sdk: Sdk, meter: Remembering, status: int):
    error, _, _ = failure(sdk, echoes_the_key(status))

    assert "[key]" in str(error)
    shown = "".join(traceback.format_exception(error)) + repr(error.__cause__) + repr(error.__context__)
    assert KEY not in shown
    assert KEY not in "".join(s.model_dump_json() for s in meter.spans)
    assert KEY not in "".join(t.text for t in meter.texts)


def test_the_key_is_sent(sdk: Sdk):
    with provider(answers(sdk.says("dogs"))) as there:
        sdk.model(there.url).complete(CHAT, seed=1)
    assert KEY in str(there.received[0].headers)


def test_an_answer_cut_for_length_says_so(sdk: Sdk):
    with provider(answers(sdk.says("do", "length" if sdk is OPENAI else "max_tokens"))) as there:
        assert sdk.model(there.url).complete(CHAT, seed=1).finish_reason == "length"


def test_a_refusal_is_an_answer(sdk: Sdk):
    refusal = sdk.says("I would rather not.", "content_filter" if sdk is OPENAI else "refusal")
    with provider(answers(refusal)) as there:
        reply = sdk.model(there.url).complete(CHAT, seed=1)
    assert (reply.finish_reason, reply.text) == ("refusal", "I would rather not.")


def test_a_refusal_in_place_of_content_is_an_answer(connections: None):
    message = {"message": {"content": None, "refusal": "No."}, "finish_reason": "stop"}
    with provider(answers({"choices": [message]})) as there:
        reply = OPENAI.model(there.url).complete(CHAT, seed=1)
    assert (reply.finish_reason, reply.text) == ("refusal", "No.")


def test_usage_that_the_provider_keeps_to_itself_is_estimated(sdk: Sdk, meter: Remembering):
    with provider(answers({k: v for k, v in sdk.says("dogs").items() if k != "usage"})) as there:
        reply = sdk.model(there.url).complete(CHAT, seed=1)
    assert reply.usage.output_tokens == 1
    assert 20 < reply.usage.input_tokens < 50
    assert meter.spans[0].attributes[ESTIMATED] is True


def test_a_server_of_ones_own_has_no_price_unless_one_is_given(sdk: Sdk):
    with provider(answers(sdk.says("dogs"))) as there:
        unpriced = sdk.model(there.url)
        priced = sdk.model(there.url, price=Price(input=1.0, output=10.0, cached=0.1, cache_write=2.0))
        assert not unpriced.price_known
        assert unpriced.complete(CHAT, seed=1).usage.dollars is None
        assert priced.price_known
        dollars = priced.complete(CHAT, seed=1).usage.dollars
    plain, written = (30, 10) if sdk is ANTHROPIC else (40, 0)
    assert dollars == pytest.approx((plain * 1.0 + 60 * 0.1 + written * 2.0 + 7 * 10.0) / 1e6)


def test_what_stays_the_same_from_task_to_task_is_cached(connections: None):
    with provider(answers(ANTHROPIC.says("dogs"))) as there:
        model = ANTHROPIC.model(there.url)
        model.complete(CHAT, seed=1)
        model.complete([CHAT[0], CHAT[3]], seed=1)
        model.complete([CHAT[3]], seed=1)
    marked = {"type": "ephemeral"}
    whole, no_examples, bare = (received.body for received in there.received)
    assert whole["system"] == [{"type": "text", "text": "Answer with one word."}]
    assert [turn["content"][0].get("cache_control") for turn in whole["messages"]] == [None, marked, None]
    assert no_examples["system"][0]["cache_control"] == marked
    assert "cache_control" not in no_examples["messages"][0]["content"][0]
    assert "system" not in bare
    assert "cache_control" not in str(bare)


def test_settings_are_sent_as_each_provider_takes_them(connections: None):
    with provider(answers(OPENAI.says("dogs"))) as there:
        OPENAI.model(there.url).complete(CHAT, seed=3)
        OPENAI.model(there.url, temperature=None).complete(CHAT, seed=3)
    first, second = (received.body for received in there.received)
    assert (first["temperature"], first["seed"], first["max_tokens"]) == (0.0, 3, 20)
    assert first["messages"][0] == {"role": "system", "content": "Answer with one word."}
    assert "temperature" not in second

    with provider(answers(ANTHROPIC.says("dogs"))) as there:
        ANTHROPIC.model(there.url).complete(CHAT, seed=3)
        ANTHROPIC.model(there.url, temperature=0.5).complete(CHAT, seed=3)
    first, second = (received.body for received in there.received)
    assert "temperature" not in first
    assert "seed" not in first
    assert (second["temperature"], second["max_tokens"]) == (0.5, 20)


def test_a_refused_temperature_comes_with_advice(sdk: Sdk):
    error, _, _ = failure(sdk, refuses(400, {"error": {"message": "temperature is not supported"}}), temperature=0.0)
    assert "temperature=None" in str(error)


def test_text_that_cannot_be_encoded_is_mended_before_it_is_sent(sdk: Sdk):
    with provider(answers(sdk.says("dogs"))) as there:
        sdk.model(there.url).complete([Message("user", "a lone \ud800 surrogate")], seed=1)
    assert "a lone \ufffd surrogate" in str(there.received[0].body)


def test_threads_share_a_model(sdk: Sdk):
    meters = [Remembering() for _ in range(8)]

    def ask(meter: Remembering) -> str:
        with metered(meter):
            return model.complete(CHAT, seed=1).text

    with provider(answers(sdk.says("dogs"))) as there:
        model = sdk.model(there.url)
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(ask, meters)) == ["dogs"] * 8
        close()
    assert len(there.received) == 8
    assert [len(meter.spans) for meter in meters] == [1] * 8


def test_an_interrupt_during_a_wait_is_not_swallowed(sdk: Sdk):
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    with provider(refuses(500, {})) as there, pytest.raises(KeyboardInterrupt):
        sdk.model(there.url, retry=Retry(sleep=interrupted)).complete(CHAT, seed=1)
    assert len(there.received) == 1
    assert threading.active_count() < 50
