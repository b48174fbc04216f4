"""Names of attributes, as the OpenTelemetry conventions for generative AI have them.

They are still in development and change (``cache_write`` was ``cache_creation`` a moment ago), so nothing else spells
them out. https://github.com/open-telemetry/semantic-conventions-genai
"""

from collections.abc import Mapping
from typing import Any, Final

from traces.records import Span

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"

REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_ID: Final = "gen_ai.response.id"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"

INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"

INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"

AGENT_NAME: Final = "gen_ai.agent.name"

TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"

EVALUATION: Final = "gen_ai.evaluation.result"
EVALUATION_NAME: Final = "gen_ai.evaluation.name"
SCORE: Final = "gen_ai.evaluation.score.value"
SCORE_LABEL: Final = "gen_ai.evaluation.score.label"
EXPLANATION: Final = "gen_ai.evaluation.explanation"

ERROR_TYPE: Final = "error.type"

EXIT_CODE: Final = "process.exit.code"
ENDED: Final = "ratchet.command.ended"
"""The limit that a command was ended at, or ``exit``."""
PEAK_MEMORY: Final = "ratchet.command.peak_memory"
"""Bytes, of its largest process."""
PEAK_GPU_MEMORY: Final = "ratchet.command.peak_gpu_memory"
"""Bytes, of all GPUs together, above what was in use before."""


def attributes(span: Span) -> Mapping[str, Any]:
    """All that the conventions say about *span*, for an exporter: what its fields stand for, and its own attributes."""
    said: dict[str, Any] = {}
    match span.operation:
        case "chat":
            said = {
                OPERATION: span.operation,
                REQUEST_MODEL: span.name,
                INPUT_TOKENS: span.usage.input_tokens,
                OUTPUT_TOKENS: span.usage.output_tokens,
                CACHED_TOKENS: span.usage.cached_tokens,
                CACHE_WRITE_TOKENS: span.usage.cache_write_tokens,
            }
        case "execute_tool":
            said = {OPERATION: span.operation, TOOL_NAME: span.name}
        case "invoke_agent":
            said = {OPERATION: span.operation, AGENT_NAME: span.name}
        case "grade":
            said = {EVALUATION_NAME: span.name}
        case _:
            pass
    if span.error_class is not None:
        said[ERROR_TYPE] = span.error_class
    return said | span.attributes
