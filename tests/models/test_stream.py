"""Answers that come bit by bit: whole, torn, failing midway, stalled, and stopped by a person."""

import threading
import time
from typing import Any

import pytest

from harness.errors import BudgetSpent, ModelError
from harness.meter import metered
from harness.models import Retry, close
from harness.models.chat import ESTIMATED
from harness.models.sse import events
from tests.models.conftest import ANTHROPIC, CHAT, OPENAI, Naps, Remembering, Sdk
from tests.models.loopback import Play, answers, pauses, provider, refuses, stalls, streams


def failure(sdk: Sdk, *plays: Play, **options: Any) -> tuple[ModelError, int]:
    with provider(*plays) as there:
        with pytest.raises(ModelError) as caught:
            sdk.model(there.url, stream=True, **options).complete(CHAT, seed=1)
        close()
        return caught.value, len(there.received)


def error_event(sdk: Sdk, kind: str) -> str:
    error = f'{{"type": "{kind}", "message": "sorry"}}'
    return f'event: error\ndata: {{"type": "error", "error": {error}}}\n\n'


def test_a_streamed_answer_is_the_same_as_a_whole_one(sdk: Sdk, meter: Remembering):
    body = sdk.says("döggy dogs\n\n\u2028 and more")
    with provider(answers(body), streams(sdk.streamed(body)), streams(sdk.streamed(body, 1))) as there:
        whole, streamed, again = (
            sdk.model(there.url, stream=stream).complete(CHAT, seed=1) for stream in (False, True, True)
        )
    assert whole == streamed == again
    assert [request.body.get("stream", False) for request in there.received] == [False, True, True]
    if sdk is OPENAI:
        assert there.received[1].body["stream_options"] == {"include_usage": True}
    assert meter.spans[0].attributes == meter.spans[1].attributes


def test_what_is_no_part_of_an_answer_is_passed_over(sdk: Sdk):
    noise = [": keep-alive\n\n", 'event: ping\ndata: {"type": "ping"}\n\n', 'event: news\ndata: {"type": "news"}\n\n']
    sent = [part for event in sdk.streamed(sdk.says("dogs")) for part in (*noise, event)]
    with provider(streams(sent)) as there:
        reply = sdk.model(there.url, stream=True).complete(CHAT, seed=1)
    assert (reply.text, reply.usage.output_tokens) == ("dogs", 7)


def test_lines_may_end_as_they_like_and_an_event_may_have_several():
    sent = b'data: {"a":\r\ndata: 1}\r\n\r\n:note\revent: x\rdata:2\r\rid: 3\n\ndata: \xe2\x80\xa8\n\ndata: cut'
    assert list(events(sent)) == ['{"a":\n1}', "2", "\u2028"]


def test_a_server_that_cannot_stream_is_understood_all_the_same(sdk: Sdk):
    with provider(answers(sdk.says("dogs"))) as there:
        assert sdk.model(there.url, stream=True).complete(CHAT, seed=1).text == "dogs"


def test_usage_that_a_stream_leaves_out_is_estimated(sdk: Sdk, meter: Remembering):
    body = sdk.says("dogs")
    usage = {} if sdk is ANTHROPIC else None
    sent = [event.replace('"input_tokens": 30, ', "") for event in sdk.streamed(body)]
    if sdk is OPENAI:
        sent = sdk.streamed({**body, "usage": usage})
    with provider(streams(sent)) as there:
        reply = sdk.model(there.url, stream=True).complete(CHAT, seed=1)
    assert reply.usage.output_tokens == 1
    assert meter.spans[0].attributes[ESTIMATED] is True


def test_calls_of_a_server_that_numbers_them_badly_are_kept_apart(connections: None):
    def chunk(calls: str, reason: str = "null") -> str:
        choice = f'{{"index": 0, "delta": {{"tool_calls": [{calls}]}}, "finish_reason": {reason}}}'
        return f'data: {{"choices": [{choice}]}}\n\n'

    def call(id: str, name: str, index: str = "") -> str:
        return f'{{{index} "id": "{id}", "function": {{"name": "{name}", "arguments": "{{}}"}}}}'

    unnumbered = [chunk(call("a", "one")), chunk(call("b", "two"), '"stop"'), "data: [DONE]\n\n"]
    all_zero = [chunk(call(id, name, '"index": 0,')) for id, name in (("a", "one"), ("b", "two"))]
    for sent in (unnumbered, [*all_zero, "data: [DONE]\n\n"]):
        with provider(streams(sent)) as there:
            reply = OPENAI.model(there.url, stream=True).complete(CHAT, seed=1)
        assert [(call.id, call.name, call.malformed) for call in reply.tool_calls] == [
            ("a", "one", ""),
            ("b", "two", ""),
        ]
        assert reply.finish_reason == "tool_calls"


@pytest.mark.parametrize("torn", [True, False], ids=["cut", "closed as if it were whole"])
def test_of_a_torn_stream_nothing_is_kept_and_it_is_not_asked_for_again(sdk: Sdk, meter: Remembering, torn: bool):
    sent = sdk.streamed(sdk.says("dogs and cats"))[:5]
    error, requests = failure(sdk, streams(sent, torn=torn))
    assert (error.error_class, error.transient, requests) == ("connection", True, 1)
    [span], [(_, _, estimate, _)] = meter.spans, meter.begun
    assert (span.usage, span.output_hash) == (estimate, None)


def test_a_stream_torn_within_the_event_that_ends_it_is_torn(sdk: Sdk):
    sent = sdk.streamed(sdk.says("dogs"))
    last = next(i for i, event in enumerate(sent) if '"stop"' in event or '"end_turn"' in event)
    error, _ = failure(sdk, streams([*sent[:last], sent[last][:-1]]))
    assert error.error_class == "connection"


@pytest.mark.parametrize(
    ("kind", "error_class", "transient"),
    [
        ("overloaded_error", "overloaded", True),
        ("rate_limit_error", "rate_limit", True),
        ("authentication_error", "auth", False),
        ("invalid_request_error", "bad_request", False),
        ("something_new", "server_error", True),
    ],
)
def test_an_error_in_a_stream_is_what_it_would_have_been_as_a_response(
    sdk: Sdk, meter: Remembering, kind: str, error_class: str, transient: bool
):
    begun = sdk.streamed(sdk.says("dogs and cats"))[:6]
    error, requests = failure(sdk, streams([*begun, error_event(sdk, kind)]))
    assert (error.error_class, error.transient, requests) == (error_class, transient, 1)
    assert meter.spans[0].usage == meter.begun[0][2]


def test_an_error_before_anything_was_said_is_tried_again(sdk: Sdk, meter: Remembering):
    start = sdk.streamed(sdk.says("x"))[:1] if sdk is ANTHROPIC else []
    good = streams(sdk.streamed(sdk.says("dogs")))
    with provider(streams([*start, error_event(sdk, "overloaded_error")]), good) as there:
        reply = sdk.model(there.url, stream=True).complete(CHAT, seed=1)
    assert (reply.text, len(there.received)) == ("dogs", 2)
    assert meter.spans[0].usage.output_tokens == 0


def test_the_code_that_a_gateway_gives_an_error_is_its_status(connections: None):
    for code, error_class in (("429", "rate_limit"), ("402", "quota"), ('"insufficient_quota"', "quota")):
        error, _ = failure(OPENAI, streams([f'data: {{"error": {{"code": {code}, "message": "no"}}}}\n\n']))
        assert error.error_class == error_class


@pytest.mark.parametrize("event", ["data: {oops\n\n", "data: [1]\n\n", 'data: {"choices": 7, "delta": 7}\n\n'])
def test_an_event_that_makes_no_sense_is_malformed(sdk: Sdk, event: str):
    error, requests = failure(sdk, streams([event, *sdk.streamed(sdk.says("x"))][: 1 if sdk is OPENAI else 2]))
    assert error.error_class in (("malformed",) if sdk is OPENAI else ("malformed", "connection"))
    assert requests == 1


def test_a_stream_that_stalls_or_drips_for_ever_is_given_up(sdk: Sdk):
    some = sdk.streamed(sdk.says("dogs and cats"))[:4]
    error, requests = failure(sdk, streams(some, stalls=True), timeout=0.3)
    assert (error.error_class, requests) == ("timeout", 1)
    error, requests = failure(sdk, streams([": \n\n"] * 500, gap=0.02), timeout=0.05)
    assert (error.error_class, requests) == ("timeout", 1)


def test_a_stream_may_take_longer_than_a_whole_answer(sdk: Sdk):
    sent = sdk.streamed(sdk.says("dogs and cats"), 1)
    with provider(streams(sent, gap=0.02)) as there:
        assert sdk.model(there.url, stream=True, timeout=0.2).complete(CHAT, seed=1).text == "dogs and cats"


def stopped_after(seconds: float, meter: Remembering) -> threading.Timer:
    def stop() -> None:
        meter.stopped = True

    timer = threading.Timer(seconds, stop)
    timer.start()
    return timer


@pytest.mark.parametrize("talks", [True, False], ids=["talking", "silent"])
def test_the_stop_button_ends_a_stream_and_hangs_up(sdk: Sdk, talks: bool):
    meter = Remembering()
    some = sdk.streamed(sdk.says("dogs and cats"))[:4]
    play = streams([*some, *[": \n\n"] * 1000], gap=0.01) if talks else streams(some, stalls=True)
    with provider(play) as there, metered(meter):
        stopped_after(0.3, meter)
        started = time.monotonic()
        with pytest.raises(BudgetSpent):
            sdk.model(there.url, stream=True, timeout=60.0).complete(CHAT, seed=1)
        assert time.monotonic() - started < 5
        assert talks or there.left.wait(5)
        close()
    [span], [(_, _, estimate, _)] = meter.spans, meter.begun
    assert (span.status, span.usage, len(there.received)) == ("interrupted", estimate, 1)


@pytest.mark.parametrize("play", [stalls, pauses({"x": "y" * 100})], ids=["no word yet", "half a body"])
def test_the_stop_button_ends_a_request_that_is_no_stream_too(sdk: Sdk, play: Play):
    meter = Remembering()
    with provider(play) as there, metered(meter):
        stopped_after(0.3, meter)
        started = time.monotonic()
        with pytest.raises(BudgetSpent):
            sdk.model(there.url, timeout=60.0).complete(CHAT, seed=1)
        assert time.monotonic() - started < 5
    assert [span.status for span in meter.spans] == ["interrupted"]


def test_the_stop_button_ends_the_wait_between_two_attempts(sdk: Sdk):
    meter = Remembering()
    with provider(refuses(429, {}, {"retry-after": "50"})) as there, metered(meter):
        stopped_after(0.3, meter)
        started = time.monotonic()
        with pytest.raises(BudgetSpent):
            sdk.model(there.url, retry=Retry()).complete(CHAT, seed=1)
        assert time.monotonic() - started < 5
    assert [span.error_class for span in meter.spans] == ["rate_limit"]


def test_after_a_stop_the_next_request_finds_a_connection(sdk: Sdk):
    meter = Remembering(stopped=True)
    good = streams(sdk.streamed(sdk.says("dogs")))
    with provider(streams([], stalls=True), good) as there:
        model = sdk.model(there.url, Naps(), stream=True)
        with metered(meter), pytest.raises(BudgetSpent):
            model.complete(CHAT, seed=1)
        assert model.complete(CHAT, seed=1).text == "dogs"
