"""What a call costs, by list price. A price that is not known is ``None`` and never 0."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

import genai_prices

from traces.records import Usage


@dataclass(frozen=True)
class Price:
    """Dollars for a million tokens, where the price list does not know: your own server, a contract, a new model."""

    input: float
    output: float
    cached: float | None = None
    """Read from the provider's cache; ``None``: like any other input."""
    cache_write: float | None = None
    """Written to the provider's cache; ``None``: like any other input."""

    def dollars(self, usage: Usage) -> float:
        plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.cache_write is None else self.cache_write
        parts = (
            plain * self.input,
            usage.cached_tokens * cached,
            usage.cache_write_tokens * written,
            usage.output_tokens * self.output,
        )
        return sum(parts) / 1e6


def list_price(url: str, model: str, usage: Usage, at: datetime) -> float | None:
    """Dollars that *usage* of *model* costs at the provider behind *url*; ``None`` if either is not on the list.

    The provider is known by its address alone: a model of a famous name on somebody's own server has no list price.
    """
    counted = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
    )
    try:
        price = genai_prices.calc_price(counted, model, provider_api_url=url, genai_request_timestamp=at)
    except (LookupError, ValueError):  # not on the list; or the provider counted more cached tokens than tokens
        return None
    return float(price.total_price)


@runtime_checkable
class Priced(Protocol):
    @property
    def price_known(self) -> bool: ...


def price_known(model: Any) -> bool:
    """Can a budget in dollars be kept with *model*? No, unless it says that it knows its price."""
    return isinstance(model, Priced) and model.price_known
