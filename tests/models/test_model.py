"""Naming a model, and what a model says of itself."""

import pickle
from datetime import UTC, datetime

import pytest

from harness.errors import UserError
from harness.models import Price, address, model, price_known
from harness.models.chat import estimated_usage
from harness.models.keys import check_base_url, find_key
from harness.models.openai_api import takes_completion_limit
from harness.models.prices import list_price
from harness.models.wire import Request, redact
from harness.protocols import Message
from harness.testing import ScriptedModel
from tests.models.conftest import KEY, KEY_VARIABLE
from traces.records import Usage


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("gpt-5", "names no provider"),
        ("", "names no provider"),
        ("openai:", "names no model"),
        ("mistral:large", "'mistral' is no provider"),
        ("local:llama", "local:smollm2-135m"),
    ],
)
def test_an_unknown_model_is_refused_with_what_to_write(spec: str, said: str):
    with pytest.raises(UserError, match=said) as caught:
        model(spec)
    assert "Write" in str(caught.value)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_missing_key_is_refused_with_what_to_type(provider: str):
    with pytest.raises(UserError, match="export NO_SUCH_KEY=") as caught:
        model(f"{provider}:m", base_url="https://api.example.org/v1", key_variable="NO_SUCH_KEY")
    assert "api.example.org" in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "http://localhost:11434/v1", "http://[::1]:8000/v1"])
def test_a_server_on_this_machine_needs_no_key(url: str):
    assert model("openai:m", base_url=url, key_variable="NO_SUCH_KEY").name == "openai:m"


def test_a_key_that_is_none_is_refused_without_being_shown():
    with pytest.raises(UserError, match="SOME_KEY") as caught:
        find_key("SOME_KEY", "https://api.example.org", {"SOME_KEY": "“sk-quoted-by-a-word-processor”"})
    assert "sk-quoted" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://host/v1", "http://", "http://me:secret@host/v1", "http://h/?k=secret"]
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused(url: str):
    with pytest.raises(UserError) as caught:
        check_base_url(url)
    assert "secret@" not in str(caught.value)
    assert "k=secret" not in str(caught.value)


def test_the_address_is_the_argument_then_the_environment_then_the_usual_one():
    environment = {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
    assert address("OPENAI_BASE_URL", "http://127.0.0.1:2/v1", "https://usual.org", environment).endswith(":2/v1")
    assert address("OPENAI_BASE_URL", None, "https://usual.org", environment).endswith(":1/v1")
    assert address("OPENAI_BASE_URL", None, "https://usual.org", {}) == "https://usual.org"


def test_a_model_shows_what_its_answers_depend_on_and_never_a_key():
    shown = repr(model("openai:m", base_url="https://api.example.org/v1", key_variable=KEY_VARIABLE, max_tokens=9))
    assert shown == (
        "ChatModel(name='openai:m', api=OpenAIApi(model='m', url='https://api.example.org/v1'), "
        "temperature=0.0, max_tokens=9)"
    )


def test_a_model_can_be_sent_to_another_process_without_its_key():
    there = model("anthropic:m", key_variable=KEY_VARIABLE)
    packed = pickle.dumps(there)
    assert pickle.loads(packed).api == there.api
    assert KEY.encode() not in packed


def test_temperature_is_usually_zero_and_for_anthropic_its_own():
    assert model("openai:m", key_variable=KEY_VARIABLE).temperature == 0.0
    assert model("local:smollm2-135m").temperature == 0.0
    assert model("anthropic:m", key_variable=KEY_VARIABLE).temperature is None
    assert model("anthropic:m", key_variable=KEY_VARIABLE, temperature=0.0).temperature == 0.0


def test_the_embedded_model_takes_no_address():
    with pytest.raises(UserError, match="Leave them out"):
        model("local:smollm2-135m", base_url="http://127.0.0.1:1")


def test_a_price_is_known_by_the_list_or_because_it_was_given():
    assert price_known(model("openai:gpt-5", key_variable=KEY_VARIABLE, base_url="https://api.openai.com/v1"))
    assert price_known(model("anthropic:claude-opus-4-5", key_variable=KEY_VARIABLE))
    assert price_known(model("local:smollm2-135m"))
    assert price_known(model("openai:m", base_url="http://127.0.0.1:1", price=Price(0.0, 0.0)))
    assert not price_known(model("openai:no-such", key_variable=KEY_VARIABLE))
    assert not price_known(model("openai:gpt-5", base_url="http://127.0.0.1:1"))
    assert not price_known(ScriptedModel("x"))


def test_the_list_price_counts_cached_tokens_apart():
    usage = Usage(calls=1, input_tokens=1000, cached_tokens=200, cache_write_tokens=100, output_tokens=10)
    at = datetime(2026, 11, 1, tzinfo=UTC)
    price = list_price("https://api.anthropic.com", "claude-opus-4-5", usage, at)
    assert price == pytest.approx((700 * 5 + 200 * 0.5 + 100 * 6.25 + 10 * 25) / 1e6)
    assert list_price("https://api.anthropic.com", "no-such", usage, at) is None
    nonsense = Usage(input_tokens=10, cached_tokens=20)
    assert list_price("https://api.anthropic.com", "claude-opus-4-5", nonsense, at) is None


def test_only_openai_itself_is_given_the_newer_length_limit():
    assert takes_completion_limit("https://api.openai.com/v1")
    assert takes_completion_limit("https://eu.api.openai.com/v1")
    assert takes_completion_limit("https://mine.openai.azure.com/openai/v1")
    assert not takes_completion_limit("http://127.0.0.1:8000/v1")
    assert not takes_completion_limit("https://notopenai.com/v1")


def test_whatever_looks_like_a_key_is_taken_out():
    for secret in ("sk-proj-abcdefgh12345678", "Bearer abc.def-ghi", "hf_abcdefghijklmn", "my own word"):
        assert redact(f"denied: {secret} is wrong", ["my own word"]) == "denied: [key] is wrong"
    assert len(redact("x" * 10_000, [])) == 500


def test_a_prompt_is_estimated_by_its_length():
    request = Request([Message("user", "four words of text")] * 10, 0, None, 12, 1.0)
    assert estimated_usage(request) == Usage(calls=1, input_tokens=100, output_tokens=12)
