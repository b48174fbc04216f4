"""What a night cost, read from its journal."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.costs import LISTED, covered, read_costs, render
from harness.models.prices import list_price
from traces import otel
from traces.journal import Journal
from traces.records import Span, Summary, Trial, Usage

START = datetime(2026, 11, 1, tzinfo=UTC)


def chat(id, *, role="", trial="t1", at=0.0, seconds=1.0, model="anthropic:m", attributes=None, **usage):
    return Span(
        id=id,
        run="r",
        trial=trial,
        operation="chat",
        name=model,
        role=role,
        started=START + timedelta(seconds=at),
        seconds=seconds,
        usage=Usage(calls=1, **{"input_tokens": 100, "output_tokens": 20, "dollars": 0.01, **usage}),
        attributes=attributes or {},
    )


def did(id, operation, *, trial="t1", at=0.0, seconds=1.0, role=""):
    started = START + timedelta(seconds=at)
    return Span(id=id, run="r", trial=trial, operation=operation, name="x", role=role, started=started, seconds=seconds)


def a_trial(id="t1"):
    return Trial(id=id, run="r", version="v" * 8, task="a", split="train", started=START, seconds=9)


def costs_of(tmp_path, *records):
    path = tmp_path / "r.jsonl"
    with Journal(path) as journal:
        for record in records:
            journal.append(record)
    return read_costs(path)


def test_each_role_is_charged_what_it_spent_on_each_model(tmp_path):
    costs = costs_of(
        tmp_path,
        chat("1", role="maker", model="large"),
        chat("2", role="maker", model="large", cached_tokens=50),
        chat("3", role="summariser", model="small", input_tokens=10, output_tokens=1, dollars=0.0),
        chat("4", role="judge", model="other", dollars=None),
        chat("5", trial=None, model="large"),
        a_trial(),
    )
    assert [(s.role, s.model, s.usage.calls, s.usage.tokens, s.usage.dollars) for s in costs.by_role] == [
        ("maker", "large", 2, 240, 0.02),
        ("judge", "other", 1, 120, None),
        ("proposer", "large", 1, 120, 0.01),
        ("summariser", "small", 1, 11, 0.0),
    ]
    assert costs.by_role[0].cached_share == 0.25
    assert costs.usage.dollars is None


def test_verification_is_told_apart_from_making_in_tokens_dollars_and_seconds(tmp_path):
    costs = costs_of(
        tmp_path,
        chat("1", role="maker", at=0, seconds=4, dollars=0.03),
        did("2", "execute_tool", at=4, seconds=2),
        did("3", "execute_tool", at=5, seconds=2),  # beside the other
        chat("4", role="judge", at=8, seconds=2, dollars=0.01, input_tokens=60, output_tokens=0),
        did("5", "grade", at=7, seconds=4),  # the judge's call is a part of it
        did("6", "turn", at=0, seconds=7),
        did("7", "invoke_agent", at=0, seconds=11),
        a_trial(),
    )
    assert costs.making == pytest.approx(7)
    assert costs.verifying == pytest.approx(4)
    assert costs.verification.tokens == 60
    assert (
        "Verification took 60 tokens (33% of all), $0.01 (25% of all) and 4 s (36% of all); making took 7 s"
        in render(costs)
    )


def test_trials_side_by_side_are_added_up_trial_by_trial(tmp_path):
    costs = costs_of(
        tmp_path,
        chat("1", at=0, seconds=3),
        chat("2", trial="t2", at=0, seconds=3),
        a_trial(),
        a_trial("t2"),
    )
    assert costs.making == pytest.approx(6)


def test_calls_per_task_stand_beside_the_one_of_a_single_shot(tmp_path):
    costs = costs_of(
        tmp_path,
        *(chat(f"a{n}") for n in range(7)),
        a_trial(),
        chat("b", trial="t2"),
        a_trial("t2"),
        chat("c", trial=None),  # a proposal's
    )
    assert costs.calls_per_task == 4
    assert "×4.00 of a single shot" in render(costs)
    assert "at most 7" in render(costs)


def test_calls_of_a_trial_that_never_ended_are_paid_for_all_the_same(tmp_path):
    costs = costs_of(tmp_path, chat("1"), a_trial(), chat("2", trial="t2", seconds=5))
    assert costs.calls_in_trials == 2
    assert costs.making == pytest.approx(6)


def cached_call(model, provider, read, written=0, **more):
    usage = Usage(calls=1, input_tokens=10_000, cached_tokens=read, cache_write_tokens=written, output_tokens=100)
    dollars = list_price(LISTED[provider], model, usage, START)
    assert dollars is not None
    attributes = {otel.PROVIDER: provider, otel.REQUEST_MODEL: model}
    call = chat("1", attributes=attributes, model=f"{provider}:{model}")
    return call.model_copy(update={"usage": usage.model_copy(update={"dollars": dollars, **more})})


def test_what_the_cache_saved_is_told_by_the_price_table_of_the_model(tmp_path):
    costs = costs_of(tmp_path, cached_call("claude-sonnet-4-5", "anthropic", 9000), a_trial())
    assert costs.saved == pytest.approx(9000 * (3 - 0.3) / 1e6)
    assert "90% of the prompt tokens came from the provider's cache; by list price it saved $0.02" in render(costs)


def test_filling_a_cache_that_nobody_reads_costs_more(tmp_path):
    costs = costs_of(tmp_path, cached_call("claude-sonnet-4-5", "anthropic", 0, written=9000), a_trial())
    assert costs.saved == pytest.approx(-9000 * (3.75 - 3) / 1e6)
    assert "cost $0.01 more" in render(costs)


def test_another_provider_has_another_discount(tmp_path):
    costs = costs_of(tmp_path, cached_call("gpt-4o", "openai", 8000), a_trial())
    assert costs.saved == pytest.approx(8000 * (2.5 - 1.25) / 1e6)


@pytest.mark.parametrize("dollars", [None, 0.5])
def test_a_call_that_was_not_charged_by_the_list_saved_nobody_knows_what(tmp_path, dollars):
    costs = costs_of(tmp_path, cached_call("gpt-4o", "openai", 8000, dollars=dollars), a_trial())
    assert costs.saved is None
    assert "not known" in render(costs)


def test_a_model_that_is_free_saves_nothing(tmp_path):
    costs = costs_of(tmp_path, chat("1", cached_tokens=50, dollars=0.0), a_trial())
    assert costs.saved == 0


def test_sessions_that_were_made_shorter_are_counted_with_their_tokens(tmp_path):
    shorter = [Summary(text="…", messages=9, tokens_before=n, tokens_after=100) for n in (4000, 6000)]
    costs = costs_of(tmp_path, chat("1"), *shorter, a_trial())
    assert "2 sessions were made shorter: 10,000 tokens became 200." in render(costs)


def test_a_night_that_asked_no_model_has_no_costs_to_show(tmp_path):
    assert render(costs_of(tmp_path, a_trial(), did("1", "grade"))) == ""


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 10)), max_size=8))
def test_covered_time_is_no_longer_than_all_and_no_shorter_than_each(spans):
    seconds = covered((start, start + length) for start, length in spans)
    assert max((length for _, length in spans), default=0) <= seconds + 1e-6
    assert seconds <= sum(length for _, length in spans) + 1e-6
