"""Every call that was sent is settled once, where it ends, on the bill of its request.

an answer in one piece    when it is there
a stream                  when its ask ends, as far as it came: what its engine has counted with its last chunk is told
an answer that is none    when that is seen, by what it told: its provider has counted it all the same
an attempt in vain        when its call is over: it failed after it was sent, lost a race, or its client has gone;
                          what was refused with a status, or never sent, has cost nothing
"""

from collections.abc import Iterable
from functools import partial
from typing import Final, Protocol

from capstan_gateway.config.runtime import ServedModel
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.estimates import asked_tokens, with_sound
from capstan_gateway.pipeline.request import Request
from capstan_gateway.streaming.deltas import said_in
from capstan_gateway.streaming.opening import StreamOpening
from capstan_gateway.streaming.port import Relay
from capstan_gateway.tokens.bill import ESTIMATED, TOLD, Bill, How, weigh
from capstan_gateway.tokens.estimate import TextCount
from capstan_gateway.tokens.usage import Usage

MAX_SEARCHED_BYTES: Final = 256 * 1024
"""In what is larger and no answer nobody looks for text."""


class Sent(Protocol):
    """An attempt, as far as it matters here."""

    @property
    def may_have_worked(self) -> bool:
        """Whether an engine may have computed for it, and somebody may charge for that."""
        ...

    @property
    def opening(self) -> object | None:
        """What has read the beginning of its answer."""
        ...


def settle_whole(
    bill: Bill, model: ServedModel, request: Request, told: Usage | None, body: bytes, said: TextCount | None = None
) -> None:
    """Settle an answer that is there as a whole; `said` is its text, where that has been counted already."""
    usage, how = weigh(
        told, whole=True, prompt=partial(asked_tokens, request, model), output=lambda: (said or said_in(body)).tokens
    )
    settle(bill, model, with_sound(usage, request), how)


def settle_stream_later(ask: Ask, model: ServedModel, relay: Relay) -> None:
    """Have a stream settled when its ask ends, before its upstream is closed; sooner, where who has seen its end wants
    to know what it has cost."""
    ask.bill.open += 1
    ask.on_end(ask.bill.soon(partial(_settle_stream, ask.bill, model, ask.request, relay)))


def _settle_stream(bill: Bill, model: ServedModel, request: Request, relay: Relay) -> None:
    bill.open -= 1
    usage, how = weigh(
        relay.usage,
        whole=(relay.finished and relay.error is None) or relay.counted,
        prompt=partial(asked_tokens, request, model),
        output=lambda: relay.text.tokens,
    )
    settle(bill, model, with_sound(usage, request), how)


def settle_nonsense(bill: Bill, model: ServedModel, request: Request, told: Usage | None, body: bytes) -> None:
    """Settle an answer in one piece that turned out to be none."""
    usage, how = weigh(
        told,
        whole=False,
        prompt=partial(asked_tokens, request, model),
        output=lambda: said_in(body).tokens if len(body) <= MAX_SEARCHED_BYTES else 0,
    )
    settle(bill, model, with_sound(usage, request), how, answered=False)


def settle_lost(bill: Bill, model: ServedModel, request: Request, attempts: Iterable[Sent]) -> None:
    """Settle attempts that were in vain: by what the beginning of their answer told, if it told anything."""
    for attempt in attempts:
        if attempt.may_have_worked:
            opening, prompt = attempt.opening, partial(asked_tokens, request, model)
            if isinstance(opening, StreamOpening):
                output = partial(_tokens_of, opening.relay)
                usage, _ = weigh(opening.relay.usage, whole=False, prompt=prompt, output=output)
            else:
                usage = Usage(prompt(), 0)
            settle(bill, model, with_sound(usage, request), ESTIMATED, answered=False)


def _tokens_of(relay: Relay) -> int:
    return relay.text.tokens


def settle(bill: Bill, model: ServedModel, usage: Usage, how: How, answered: bool = True) -> None:
    """Count what a call has used, and put it on the bill; `answered` says that it was not in vain."""
    metrics, rates = model.metrics, model.rates
    metrics.input_tokens.value += usage.prompt_tokens
    metrics.output_tokens.value += usage.completion_tokens
    (metrics.told if how is TOLD else metrics.estimated).value += 1
    price = None
    if rates is not None:
        price = rates.cost(usage)
        metrics.cost.value += price
    bill.add(usage, how, price, answered, model.name)
