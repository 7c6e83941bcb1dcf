"""What a call has used, and what that costs."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.streaming.port import Relay
from capstan_gateway.tokens.bill import weigh
from capstan_gateway.tokens.estimate import prompt_tokens
from capstan_gateway.tokens.price import Rates, to_dollars
from capstan_gateway.tokens.usage import Usage


def settle_call(model: ServedModel, usage: Usage) -> float:
    """Count the tokens of one call of a model, and give their price. Called once for each call."""
    model.metrics.input_tokens.value += usage.prompt_tokens
    model.metrics.output_tokens.value += usage.completion_tokens
    if model.price is None:
        return 0.0
    price = price_of(model, usage)
    model.metrics.cost.value += price
    return price


def stream_usage(relay: Relay, document: Mapping[str, Any]) -> Usage:
    """Give what a stream has used as far as it came; `document` is its request."""
    return weigh(relay.usage, whole=relay.finished, prompt=partial(prompt_tokens, document), output=relay.text.tokens)[
        0
    ]


def price_of(model: ServedModel, usage: Usage) -> float:
    """Give the price of an answer in US dollars."""
    return 0.0 if model.price is None else to_dollars(Rates.of(model.price).cost(usage))
