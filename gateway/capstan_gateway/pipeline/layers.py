"""The order in which what is in force on a model acts on a request: here, and nowhere else.

    client ─► Delivery: who asks ─► body read ─► model found
                  │
                  ▼  the model's answer function, composed once, when the Runtime is compiled
              limits ──── reserve, else refuse      settle to what was used ◄─┐
                  ▼                                                           │
              guards ──── judge, rewrite the request    judge, filter ◄───────┤
                  ▼                                                           │
              samples ─── whose turn is it?         offered when the ask ends
                  ▼                                                           │
              split  ──── which revision, while one is tried                  │
                  ▼                                                           │
              cache  ──── look up, else be the one who asks       store ◄─────┤
                  ▼                                                           │
              the model itself: a call ─► endpoints, retries ─────────────────┘
              a virtual one: its members, each through the layers of its own
                  │
                  ▼
              in the client's dialect ─► sent ─► the ask ends: settled, upstream stopped, closers ─► recorded

A layer that is in force on a router and on the member that answers acts once, at the outermost place. A call that the
gateway makes on its own behalf (a judge) is a request of its own to guards, part of the client's request to limits, and
left alone by caches. Where nothing is in force on a model, its answer function is the call, and nothing is paid.
"""

from collections.abc import Awaitable, Callable, Sequence
from enum import IntEnum
from typing import Any, Final, Protocol, runtime_checkable

from capstan_gateway.pipeline.ask import Ask, Outer
from capstan_gateway.pipeline.reply import Reply

AnswerFunction = Callable[[Ask], Awaitable[Reply]]
"""Gives the reply to an ask, or raises a RoutingError, UpstreamError or GatewayError."""


class Order(IntEnum):
    """Where a layer stands: the lower, the further outside."""

    LIMITS = 1
    GUARDS = 2
    SAMPLES = 3
    SPLIT = 4
    """Between a model's stable revision and the one that is tried: what is further inside is of one of them."""
    CACHE = 5


class Reads(IntEnum):
    """What of a request a layer decides by. Nothing is sent that it has not had before it."""

    NOTHING = 0
    DOCUMENT = 1
    """The chat completion request. What is sent to any provider is written from that: also on routes with a dialect,
    where the client's own document may say more, such as earlier thoughts, and is dropped."""
    EVERYTHING = 2
    """Also what the client said in its own dialect (`Request.native`; the texts of both: `Request.texts`). A model that
    speaks it may be sent that. Who rewrites the request, or filters its stream, drops that: `Request.as_read`."""


class Layer(Protocol):
    """What one policy does with requests. It is made once for a Runtime, and never changes.

    It may answer itself, rewrite `ask.request` before it goes on, look at the reply or replace it, and raise a
    GatewayError. What it opens it closes by `ask.on_end`, which is called once whatever happens: also when it, or
    something further inside, raises, and when the client has gone.
    """

    order: Order
    reads: Reads
    """What of the request it decides by; see there what follows for what is sent."""

    def answer(self, ask: Ask, inner: AnswerFunction) -> Awaitable[Reply]:
        """Give the reply, of `inner` or another one."""
        ...


@runtime_checkable
class PerModel(Protocol):
    """A layer that acts around each name of a model by itself: the model's own, and each of its adapters."""

    def around(self, model: Any) -> Layer:
        """Give what acts around this `ServedModel`."""
        ...


def around_model(layers: Sequence[Layer], model: Any) -> tuple[Layer, ...]:
    """Give the layers as they act around one `ServedModel`."""
    return tuple(layer.around(model) if isinstance(layer, PerModel) else layer for layer in layers)


def compose(layers: Sequence[Layer], answer: AnswerFunction) -> AnswerFunction:
    """Give limits(guards(cache(answer))); of one order, in the order given. With no layers that is `answer` itself."""
    if not layers:
        return answer
    for layer in sorted(layers, key=_order)[::-1]:
        answer = _around(layer, answer)
    return answer


def _order(layer: Layer) -> int:
    return layer.order


def _around(layer: Layer, inner: AnswerFunction) -> AnswerFunction:
    """Have a layer act, once for each ask, and leave the ask as it was when there is no reply.

    Whoever is further outside may ask once more then, or another model: all that is inside of it acts again, on what
    that one asks, and what is open is not needed.
    """
    reads, around = layer.reads, layer.answer

    async def answer(ask: Ask) -> Reply:
        mark, request, inside, governed = ask.opened(), ask.request, ask.inside, ask.governed
        try:
            if inside and any(outer is layer for outer in inside):
                return await inner(ask)
            ask.inside = (*inside, layer)
            if reads:
                ask.request = request.as_read() if reads is Reads.DOCUMENT else request.as_one_reading()
            return await around(ask, inner)
        except BaseException:
            ask.request, ask.inside, ask.governed = request, inside, governed
            ask.close_since(mark)
            raise

    return answer


def guards_of(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Give those that judge a request and may rewrite it: nobody is asked for it who is not behind them."""
    return tuple(layer for layer in layers if layer.order is Order.GUARDS and layer.reads)


COUNTED_WITH: Final = (Order.LIMITS,)


def of_its_own(inside: Sequence[Outer]) -> tuple[Outer, ...]:
    """Give the layers that a call on the gateway's own behalf is still inside of; see above."""
    return tuple(layer for layer in inside if layer.order in COUNTED_WITH)
