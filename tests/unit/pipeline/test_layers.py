"""Layers around a model's answer function: their order, and what they leave behind."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from capstan_gateway.errors import InvalidRequest, UpstreamFailed
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.layers import AnswerFunction, Order, Reads, compose, of_its_own
from capstan_gateway.pipeline.reply import Reply, WholeReply
from capstan_gateway.pipeline.request import NativeRequest, Request
from support.asks import an_ask


@dataclass(frozen=True)
class Traced:
    """A layer that says what happens to it, and may answer or fail itself."""

    name: str
    order: Order
    said: list[str] = field(compare=False)
    reads: Reads = Reads.NOTHING
    failure: Exception | None = None
    reply: WholeReply | None = None

    async def answer(self, ask: Ask, inner: AnswerFunction) -> Reply:
        """Open, go on, and say how it went."""
        self.said.append(f"{self.name} in")
        ask.on_end(lambda: self.said.append(f"{self.name} closed"))
        if self.reply is not None:
            return self.reply
        reply = await inner(ask)
        self.said.append(f"{self.name} out")
        if self.failure is not None:
            raise self.failure
        return reply


def answering(said: list[str], failure: BaseException | None = None) -> AnswerFunction:
    """Give a model's answer function."""

    async def answer(_: Ask) -> Reply:
        said.append("model")
        if failure is not None:
            raise failure
        return WholeReply(200, b"application/json", b"{}")

    return answer


async def test_limits_are_around_guards_and_guards_around_the_cache() -> None:
    """The order is limits(guards(cache(answer))), however the policies came; of one kind in the order given."""
    said: list[str] = []
    layers = [
        Traced("cache", Order.CACHE, said), Traced("guard 1", Order.GUARDS, said),
        Traced("limit", Order.LIMITS, said), Traced("guard 2", Order.GUARDS, said),
    ]  # fmt: skip
    ask = an_ask()
    ask.hold()
    await compose(layers, answering(said))(ask)
    within = ["limit in", "guard 1 in", "guard 2 in", "cache in", "model"]
    without = ["cache out", "guard 2 out", "guard 1 out", "limit out"]
    assert said == within + without
    ask.leave()
    assert said[len(within + without) :] == ["cache closed", "guard 2 closed", "guard 1 closed", "limit closed"]


def test_where_nothing_is_in_force_nothing_is_paid() -> None:
    """The answer function of a model without policies is the call itself."""
    answer = answering([])
    assert compose((), answer) is answer


async def test_layers_run_behind_one_that_answers() -> None:
    """When the cache answers, the guards still see its answer, and the model is not asked."""
    said: list[str] = []
    hit = WholeReply(200, b"application/json", b'{"hit":1}')
    layers = [Traced("guard", Order.GUARDS, said), Traced("cache", Order.CACHE, said, reply=hit)]
    ask = an_ask()
    assert await compose(layers, answering(said))(ask) is hit
    assert said == ["guard in", "cache in", "guard out"]


@pytest.mark.parametrize("failure", [UpstreamFailed("x"), ValueError("a bug"), asyncio.CancelledError()])
async def test_what_is_opened_is_closed_when_the_model_fails(failure: BaseException) -> None:
    """A failed answer closes what was opened for it before anybody else is asked, and only that."""
    said: list[str] = []
    ask = an_ask()
    ask.hold()
    ask.on_end(lambda: said.append("outer closed"))
    request = ask.request
    layers = [Traced("limit", Order.LIMITS, said), Traced("guard", Order.GUARDS, said, reads=Reads.DOCUMENT)]
    with pytest.raises(type(failure)):
        await compose(layers, answering(said, failure))(ask)
    assert said == ["limit in", "guard in", "model", "guard closed", "limit closed"]
    assert ask.request is request
    assert ask.inside == ()
    ask.leave()
    assert said[-1] == "outer closed"


async def test_a_layer_acts_once_for_a_request() -> None:
    """One that is in force on a router and on its member acts at the outermost place only."""
    said: list[str] = []
    shared = Traced("limit", Order.LIMITS, said)
    member = compose([shared, Traced("guard", Order.GUARDS, said)], answering(said))
    router = compose([shared], member)
    await router(an_ask())
    assert said == ["limit in", "guard in", "model", "guard out", "limit out"]


async def test_a_layer_acts_again_for_the_next_model() -> None:
    """What a policy did for a member that failed says nothing about the next one."""
    said: list[str] = []
    limit = Traced("limit", Order.LIMITS, said)
    first, second = compose([limit], answering(said, UpstreamFailed("x"))), compose([limit], answering(said))
    ask = an_ask()
    with pytest.raises(UpstreamFailed):
        await first(ask)
    await second(ask)
    assert said == ["limit in", "model", "limit closed", "limit in", "model", "limit out"]


def test_a_judge_is_judged_on_its_own() -> None:
    """A call on the gateway's own behalf is part of the request to limits, and one of its own to guards and caches."""
    layers = [Traced(order.name, order, []) for order in Order]
    assert [layer.order for layer in of_its_own(layers)] == [Order.LIMITS]


@dataclass(frozen=True)
class Redacts:
    """A guard that takes a word out of what is asked."""

    order = Order.GUARDS
    reads = Reads.DOCUMENT

    async def answer(self, ask: Ask, inner: AnswerFunction) -> Reply:
        """Rewrite the request, then go on."""
        content = ask.request.document["messages"][0]["content"].replace("hello", "[GONE]")
        ask.request = ask.request.rewritten(
            {**ask.request.document, "messages": [{"role": "user", "content": content}]}
        )
        return await inner(ask)


async def test_the_model_gets_what_the_guard_left() -> None:
    """What is inside of a layer that rewrites the request sees the rewritten one only."""
    seen: list[Any] = []

    async def model(ask: Ask) -> Reply:
        seen.append((ask.request.document["messages"][0]["content"], ask.request.raw))
        return WholeReply(200, b"application/json", b"{}")

    await compose([Redacts()], model)(an_ask())
    assert seen == [("[GONE]", None)]


async def test_a_request_that_cannot_be_read_is_refused_where_it_is_read() -> None:
    """A layer that decides by the document never sees a request of which the document holds nothing."""
    said: list[str] = []
    ask = an_ask()
    refused = InvalidRequest("`x` has no counterpart")
    ask.request = Request(
        ask.request.route, {"model": "m"}, stream=False, usage_asked=False, untranslatable=refused
    )  # fmt: skip
    await compose([Traced("limit", Order.LIMITS, said)], answering(said))(ask)
    with pytest.raises(InvalidRequest):
        await compose([Traced("guard", Order.GUARDS, said, reads=Reads.DOCUMENT)], answering(said))(ask)
    assert said == ["limit in", "model", "limit out"]


async def test_the_next_model_has_memory_for_its_answer() -> None:
    """What a failed model held of the process' budget is given back; the next one takes its own, until the end."""
    budget = MemoryBudget(1 << 20)
    ask = an_ask(budget=budget)
    ask.hold()

    async def fails(ask: Ask) -> Reply:
        assert ask.memory().grow_to(1000)
        raise UpstreamFailed("x")

    limit = Traced("limit", Order.LIMITS, [])
    with pytest.raises(UpstreamFailed):
        await compose([limit], fails)(ask)
    assert budget.held == 0
    assert ask.memory().grow_to(500)
    assert (budget.held, budget.refused) == (500, 0)
    ask.leave()
    assert budget.held == 0


async def test_who_reads_everything_sees_what_the_client_said() -> None:
    """The client's own document stays as long as every layer reads it, and goes with the first that does not."""
    said: list[str] = []
    seen: list[bool] = []

    async def model(ask: Ask) -> Reply:
        seen.append(ask.request.native is not None)
        return WholeReply(200, b"application/json", b"{}")

    for reads in Reads:
        ask = an_ask()
        route, document = ask.request.route, ask.request.document
        native = NativeRequest({"model": "m"}, b'{"model":"m"}')
        ask.request = Request(route, document, stream=False, usage_asked=False, native=native)
        layers = [
            Traced("guard", Order.GUARDS, said, reads=Reads.EVERYTHING),
            Traced("cache", Order.CACHE, said, reads=reads),
        ]
        await compose(layers, model)(ask)
    assert seen == [True, False, True]
