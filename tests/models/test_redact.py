"""No secret in what is recorded."""

import json
import os
import time

import pytest

from harness.protocols import Message
from harness.redact import redacted
from tests.models.conftest import KEY, KEY_VARIABLE, Remembering, Sdk
from tests.models.loopback import answers, echoes_the_key, provider

SECRETS = {
    "MY_API_KEY": "plain-words-only",
    "DB_PASSWORD": 'with "quotes" & spaces',
    "GITHUB_TOKEN": "four score and seven",
    "APP_SECRET_V2": "line one of it\nline two of it",
    "KEYMAP": "us-international",
    "TOKENIZERS_PARALLELISM": "disabled!",
    "PATH": "/usr/bin:/usr/local/bin",
    "SHORT_KEY": "abc",
}


@pytest.mark.parametrize("name", ["MY_API_KEY", "DB_PASSWORD", "GITHUB_TOKEN", "APP_SECRET_V2"])
def test_the_value_of_a_key_in_the_environment_is_taken_out_however_it_is_written(name: str):
    value = SECRETS[name]
    for written in (value, json.dumps({"x": value}), *value.splitlines()):
        shown = redacted(f"before {written} after", SECRETS)
        assert "[key]" in shown
        assert value not in shown
        assert shown.startswith("before ")
        assert shown.endswith(" after")


def test_other_variables_and_short_values_stay():
    text = "us-international disabled! /usr/bin:/usr/local/bin abc"
    assert redacted(text, SECRETS) == text


@pytest.mark.parametrize(
    "secret",
    [
        "sk-ant-api03-abcdefgh12345678",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "AKIAIOSFODNN7EXAMPLE",
        "xoxb-123456789012-abcdef",
        "Bearer abc.def-ghi_jkl0123456789",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_a_key_of_a_known_make_is_taken_out_wherever_it_comes_from(secret: str):
    assert redacted(f"x {secret} y", {}) == "x [key] y"


def test_source_code_is_left_as_it_is():
    code = "def key_variable(sk_learn_model, hf_dataset_name): return bearer tokens or pk_primary_column_name"
    assert redacted(code, {}) == code


def test_a_variable_that_is_set_later_counts_at_once():
    assert redacted("a later value", os.environ) == "a later value"
    os.environ["RATCHET_LATER_TOKEN"] = "a later value"
    try:
        assert redacted("a later value") == "[key]"
    finally:
        del os.environ["RATCHET_LATER_TOKEN"]
    assert redacted("a later value") == "a later value"


def test_it_is_fast_enough_for_every_text():
    text = "an ordinary line of a log, with some words\n" * 25_000
    started = time.process_time()
    assert redacted(text, SECRETS) == text
    assert time.process_time() - started < 2


def test_a_secret_that_reaches_a_prompt_or_an_answer_is_not_recorded(sdk: Sdk, meter: Remembering):
    with provider(answers(sdk.says(f"the key is {KEY}"))) as there:
        reply = sdk.model(there.url).complete([Message("user", f"{KEY_VARIABLE}={KEY}")], seed=1)
    assert KEY in reply.text
    recorded = "".join(text.text for text in meter.texts) + "".join(span.model_dump_json() for span in meter.spans)
    assert KEY not in recorded
    assert f"{KEY_VARIABLE}=[key]" in recorded


def test_another_secret_in_an_error_is_not_recorded_either(sdk: Sdk, meter: Remembering):
    os.environ["RATCHET_OTHER_PASSWORD"] = "Authorization"
    try:
        with provider(echoes_the_key(400)) as there, pytest.raises(Exception, match="bad_request"):
            sdk.model(there.url).complete([Message("user", "x")], seed=1)
    finally:
        del os.environ["RATCHET_OTHER_PASSWORD"]
    assert KEY not in str(meter.spans)


@pytest.mark.parametrize("before", ["\n", "\t", "\r", "\b", "\f", "\u001b", "\u2028", '"', "\\", "é"])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_key_that_follows_an_escape_of_json_is_taken_out(before, ascii_only):
    for key in ("sk-proj-0123456789abcdefghij", "AKIA0123456789ABCDEF", "ghp_" + "a1" * 18):
        text = json.dumps(f"Use{before}{key}", ensure_ascii=ascii_only)
        assert (key in redacted(text)) == (before == "é" and not ascii_only)
