"""What a call has used, and what that costs."""

from typing import Final

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.usage import Usage

MILLION: Final = 1_000_000


def settle_call(model: ServedModel, usage: Usage) -> float:
    """Count the tokens of one call of a model, and give their price. Called once for each call."""
    model.metrics.input_tokens.value += usage.prompt_tokens
    model.metrics.output_tokens.value += usage.completion_tokens
    if model.price is None:
        return 0.0
    price = price_of(model, usage)
    model.metrics.cost.value += price
    return price


def stream_usage(relay: Relay) -> Usage | None:
    """Give what a stream has used as far as it came."""
    usage = relay.usage
    if usage is None:
        return Usage(0, relay.events) if relay.events else None
    if not relay.finished and relay.events > usage.completion_tokens:
        # Anthropic tells the input at the beginning, and the output at the end.
        return usage._replace(completion_tokens=relay.events)
    return usage


def price_of(model: ServedModel, usage: Usage) -> float:
    """Give the price of an answer in US dollars."""
    price = model.price
    if price is None:
        return 0.0
    cached = min(usage.cached_tokens, usage.prompt_tokens)
    cached_rate = price.inputPerMillion if price.cachedInputPerMillion is None else price.cachedInputPerMillion
    input_price = (usage.prompt_tokens - cached) * price.inputPerMillion + cached * cached_rate
    return (input_price + usage.completion_tokens * price.outputPerMillion) / MILLION
