"""Models by name: ``local:smollm2-135m``, ``openai:MODEL``, ``anthropic:MODEL``."""

import os
from collections.abc import Mapping
from typing import Literal

from harness.errors import UserError
from harness.models.breaker import Breaker
from harness.models.chat import ChatModel
from harness.models.embedded import MODEL, EmbeddedApi, model_file
from harness.models.keys import check_base_url, find_key
from harness.models.prices import Price, price_known
from harness.models.retry import Retry
from harness.models.routing import Routes
from harness.models.shared import close
from harness.models.wire import Api

__all__ = ["Breaker", "ChatModel", "Price", "Retry", "Routes", "close", "model", "price_known"]

EXAMPLES = f"local:{MODEL}, openai:MODEL, anthropic:MODEL"


def model(
    spec: str,
    *,
    temperature: float | Literal["usual"] | None = "usual",
    max_tokens: int = 512,
    timeout: float = 120.0,
    base_url: str | None = None,
    key_variable: str | None = None,
    price: Price | None = None,
    retry: Retry | None = None,
    breaker: Breaker | None = None,
    stream: bool = False,
) -> ChatModel:
    """The model that *spec* names, ``provider:model``.

    ``openai:`` is any server that speaks the chat completions API: give its *base_url*, or set ``OPENAI_BASE_URL``.
    A key is read from ``OPENAI_API_KEY`` or ``ANTHROPIC_API_KEY``, or from *key_variable*; a server on this machine
    needs none. *temperature* is usually 0, and not sent to Anthropic, whose newer models refuse it; ``None`` does not
    send it. *stream* asks for the answer bit by bit: for long ones, which would meet *timeout*. *price* makes a budget
    in dollars possible where the price list does not know the model.

    Raises:
        UserError: no such provider or model, no key, or the embedded model is not installed.
    """
    provider, colon, name = spec.partition(":")
    if not colon:
        raise UserError(f"the model {spec!r} names no provider, so nobody can be asked. Write one of: {EXAMPLES}")
    if not name:
        raise UserError(f"{spec!r} names no model of {provider}, so nothing can be asked. Write one of: {EXAMPLES}")
    api: Api
    match provider:
        case "local":
            api = embedded(spec, name, base_url, key_variable)
        case "openai":
            from harness.models.openai_api import URL, OpenAIApi

            url = address("OPENAI_BASE_URL", base_url, URL)
            api = OpenAIApi(name, url, key_variable or "OPENAI_API_KEY")
            find_key(api.key_variable, url)
        case "anthropic":
            from harness.models.anthropic_api import URL, AnthropicApi

            url = address("ANTHROPIC_BASE_URL", base_url, URL)
            api = AnthropicApi(name, url, key_variable or "ANTHROPIC_API_KEY")
            find_key(api.key_variable, url)
        case _:
            raise UserError(
                f"{provider!r} is no provider that Ratchet knows, so {spec!r} cannot be asked. Write one of: "
                f"{EXAMPLES}. A server that speaks OpenAI's API is openai:{name} with base_url=..."
            )
    if temperature == "usual":
        temperature = None if provider == "anthropic" else 0.0
    return ChatModel(spec, api, temperature, max_tokens, timeout, price, retry or Retry(), breaker or Breaker(), stream)


def embedded(spec: str, name: str, base_url: str | None, key_variable: str | None) -> EmbeddedApi:
    if name != MODEL:
        raise UserError(
            f"{spec!r} does not exist: local: runs the one model that comes with Ratchet. Write local:{MODEL}; "
            f"or openai:{name} with the base_url of a server that has it"
        )
    if base_url is not None or key_variable is not None:
        raise UserError(f"{spec} runs inside Ratchet and takes neither base_url nor key. Leave them out")
    model_file()
    return EmbeddedApi()


def address(variable: str, base_url: str | None, usual: str, environment: Mapping[str, str] = os.environ) -> str:
    return check_base_url(base_url or environment.get(variable, "").strip() or usual)
