"""Attributes by their OpenTelemetry names."""

from tests.traces.samples import SPAN
from traces import otel


def test_a_model_call_has_the_attributes_that_its_fields_stand_for():
    assert otel.attributes(SPAN) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "model",  # its own attribute wins over its name
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 10,
        "gen_ai.usage.cache_write.input_tokens": 5,
        "retries": 0,
    }


def test_tools_grades_and_errors_are_named_too():
    plain = SPAN.model_copy(update={"attributes": {}, "name": "search", "error_class": "timeout"})
    assert otel.attributes(plain.model_copy(update={"operation": "execute_tool"})) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "search",
        "error.type": "timeout",
    }
    assert otel.attributes(plain.model_copy(update={"operation": "grade"}))["gen_ai.evaluation.name"] == "search"
    assert otel.attributes(plain.model_copy(update={"operation": "run"})) == {"error.type": "timeout"}
