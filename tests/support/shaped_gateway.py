"""A build of the gateway with layers in the shape of policies, for loads that look for what those would leak.

    python -m support.shaped_gateway FLAGS      as `python -m capstan_gateway`, with tests/ on the path

What is in force on a model stands in its served name: `guarded-...` has a limit and a guard, `cached-...` a cache
inside of them, `limited-...` a tight limit; every other one has a limit. Each config makes the policies anew. What they
have open is among the metrics, as `shaped_open`, and how many objects of a request are alive as `shaped_objects`.
"""

import gc
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import orjson
import uvloop
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from capstan_contract.config import GatewayConfig, ModelEntry
from capstan_gateway.composition import Gateway
from capstan_gateway.errors import GatewayError, InvalidRequest
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.background import Background
from capstan_gateway.pipeline.delivery import Delivery
from capstan_gateway.pipeline.filtered import filtered
from capstan_gateway.pipeline.flight import Flight
from capstan_gateway.pipeline.held import HeldSource
from capstan_gateway.pipeline.layers import AnswerFunction, Order, Reads
from capstan_gateway.pipeline.reply import Reply, StreamReply, WholeReply
from capstan_gateway.process import serve
from capstan_gateway.routing.dispatched import Answer
from capstan_gateway.serving.exchange import Exchange
from capstan_gateway.settings import Settings, parse_settings
from capstan_gateway.streaming.assembly import Assembler
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.streaming.replay import to_frames
from capstan_gateway.streaming.sse import frame_data
from capstan_gateway.tokens.prompt import prompt_tokens
from capstan_process.logs import configure_logging
from support.filters import Passing, Replacing, Withholding

WATCHED: Final = (Ask, Delivery, Exchange, Flight, Answer, StreamReply, Replacing)
"""Objects of which none is left when no request is."""
MOST_ANSWERS: Final = 64
SAID: Final = "simulated answer"
SAYS: Final = "answer that was checked"
"""What the guard makes of it, in every answer."""
SECRET: Final = "my-secret"
FORBIDDEN: Final = "forbidden"


@dataclass
class State:
    """What outlives the policies of one config, by what it is."""

    open: Counter[str] = field(default_factory=Counter)
    answers: dict[bytes, bytes] = field(default_factory=dict)
    flights: dict[bytes, Flight] = field(default_factory=dict)
    background: Callable[[], Background] = Background


@dataclass(frozen=True, eq=False)
class Limit:
    """Takes a place and tokens, and gives them back when the ask ends."""

    state: State
    name: str
    most: int
    order: Order = Order.LIMITS
    reads: Reads = Reads.NOTHING

    async def answer(self, ask: Ask, inner: AnswerFunction) -> Reply:
        """Reserve, else refuse."""
        open_now, places = self.state.open, f"places of {self.name}"
        if open_now[places] >= self.most:
            raise GatewayError("too many at once", status=429, type="rate_limit_error", code="rate_limit_exceeded")
        tokens = prompt_tokens(ask.request.document)
        open_now[places] += 1
        open_now["tokens"] += tokens
        ask.on_end(partial(self._settle, places, tokens))
        return await inner(ask)

    def _settle(self, places: str, tokens: int) -> None:
        self.state.open[places] -= 1
        self.state.open["tokens"] -= tokens


@dataclass(frozen=True, eq=False)
class Guard:
    """Judges and rewrites what is asked, and what is answered: streams by windows that it holds back."""

    state: State
    order: Order = Order.GUARDS
    reads: Reads = Reads.DOCUMENT

    async def answer(self, ask: Ask, inner: AnswerFunction) -> Reply:
        """Judge, ask, and judge again."""
        self.state.open["guarded"] += 1
        ask.on_end(self._close)
        written = orjson.dumps(ask.request.document).decode()
        if FORBIDDEN in written:
            raise InvalidRequest("a guard blocks this request", code="content_filter")
        ask.request = ask.request.rewritten(orjson.loads(written.replace(SECRET, "[REDACTED]")))
        reply = await inner(ask)
        if isinstance(reply, WholeReply):
            return WholeReply(reply.status, reply.content_type, reply.body.replace(SAID.encode(), SAYS.encode()))
        filters: list[Passing] = [Passing(), Replacing(SAID, SAYS, turns=1, eager=True)]
        if len(written) % 8 == 0:
            filters.append(Withholding(turns=1))
        return await filtered(reply, filters, ask=ask)

    def _close(self) -> None:
        self.state.open["guarded"] -= 1


@dataclass(frozen=True, eq=False)
class Cache:
    """Gives known answers, and asks once for what several wait for; also for those who want a stream."""

    state: State
    order: Order = Order.CACHE
    reads: Reads = Reads.DOCUMENT

    async def answer(self, ask: Ask, inner: AnswerFunction) -> Reply:
        """Look up, or be one of those who wait."""
        state, key = self.state, orjson.dumps(ask.request.document, option=orjson.OPT_SORT_KEYS)
        body = state.answers.get(key)
        if body is not None:
            ask.answered_by = ask.model
            return self._given(ask, body)
        flight = state.flights.get(key)
        if flight is None or not flight.joinable:
            flight = Flight(ask.fork(settles=True), partial(_whole, inner), state.background())
            state.flights[key] = flight
            flight.ask.on_end(partial(self._forget, key, flight))
        reply = await flight.join(ask)
        assert isinstance(reply, WholeReply)
        ask.answered_by = flight.ask.answered_by
        state.answers[key] = reply.body
        while len(state.answers) > MOST_ANSWERS:
            del state.answers[next(iter(state.answers))]
        return self._given(ask, reply.body)

    def _given(self, ask: Ask, body: bytes) -> Reply:
        if not ask.request.stream:
            return WholeReply(200, b"application/json", body)
        usage = ask.request.usage_asked
        relay = StreamRelay(strip_usage=not usage)
        first = relay.feed(to_frames(orjson.loads(body), usage=usage))
        return StreamReply(first, HeldSource(ask.model.id), relay)

    def _forget(self, key: bytes, flight: Flight) -> None:
        if self.state.flights.get(key) is flight:
            del self.state.flights[key]


async def _whole(inner: AnswerFunction, ask: Ask) -> Reply:
    """Give an answer in one piece, whatever was asked for."""
    reply = await inner(ask)
    if isinstance(reply, WholeReply):
        return reply
    if reply.broken is not None:
        raise reply.broken
    assembler, run = Assembler(), reply.first
    while True:
        for found in run.split(b"\n\n"):
            data = frame_data(found)
            if data is not None and data != b"[DONE]":
                assembler.add(orjson.loads(data))
        if reply.relay.done:
            break
        data = await reply.source.receive()
        run = reply.relay.feed(data) if data else reply.relay.finish()
    if reply.relay.error is not None:
        raise reply.relay.error
    body = orjson.dumps(assembler.answer())
    if not ask.share().grow(len(body)):
        raise GatewayError("no room", status=503, code="overloaded")
    return WholeReply(200, b"application/json", body)


class Shape:
    """Implements `PolicyKind` for one kind of layer."""

    def __init__(self, name: str, make: Callable[[str], Any], on: tuple[str, ...]) -> None:
        self._name = name
        self._make = make
        self._on = on

    def in_force(self, config: GatewayConfig, entry: ModelEntry) -> Iterable[tuple[str, object]]:
        """Give it on the models of these names, another one with each generation."""
        del config
        kind = entry.servedName.partition("-")[0]
        return [(f"{self._name}-{kind}", entry.generation)] if not self._on or kind in self._on else []

    def build(self, id: str, spec: object) -> Any:
        """Give the layer."""
        del spec
        return self._make(id)


def shapes(state: State) -> list[Shape]:
    """Give all kinds."""
    return [
        Shape("limit", lambda id: Limit(state, id, 2 if id == "limit-limited" else 10_000), ()),
        Shape("guard", lambda _: Guard(state), ("guarded", "cached")),
        Shape("cache", lambda _: Cache(state), ("cached",)),
    ]


class Seen(Collector):
    """What is open, and which objects are alive."""

    def __init__(self, gateway: Gateway, state: State) -> None:
        self._gateway = gateway
        self._state = state

    def collect(self) -> Iterable[Metric]:
        """Look."""
        runtime = self._gateway.current()
        states = [] if runtime is None else [one for model in runtime.models.values() for one in model.endpoints.states]
        found = {
            **self._state.open,
            "flights": len(self._state.flights),
            "background": len(self._state.background()),
            "slots": sum({id(one): one.in_flight for one in states}.values()),
        }
        what = GaugeMetricFamily("shaped_open", "What is open.", labels=["what"])
        for name, value in found.items():
            what.add_metric([name], value)
        alive = Counter(type(one).__name__ for one in gc.get_objects() if type(one) in WATCHED)
        objects = GaugeMetricFamily("shaped_objects", "Objects of requests.", labels=["of"])
        for kind in WATCHED:
            objects.add_metric([kind.__name__], alive[kind.__name__])
        return [what, objects]


def make(settings: Settings) -> Gateway:
    """Give a gateway with all of it."""
    state = State()
    gateway = Gateway(settings, kinds=shapes(state))
    state.background = lambda: gateway.deps.background
    gateway.metrics.registry.register(Seen(gateway, state))
    return gateway


if __name__ == "__main__":
    given = parse_settings(sys.argv[1:], os.environ)
    configure_logging(level=given.log_level, form=given.log_format)
    raise SystemExit(uvloop.run(serve(given, make=make)))
