"""Flights: whatever comes in which order, every joiner has the same bytes, the call is paid once, nothing is left."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan_gateway.errors import InvalidRequest, ShuttingDown, UpstreamFailed
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.background import Background
from capstan_gateway.pipeline.caches import recording
from capstan_gateway.pipeline.caches.flights import ROUNDS, Flight, Flights, Joined, brought
from capstan_gateway.pipeline.governed import Governed
from capstan_gateway.pipeline.reply import Reply, StreamReply, WholeReply
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.streaming.sse import DONE
from capstan_gateway.tokens.bill import TOLD
from capstan_gateway.tokens.usage import Usage
from capstan_gateway.upstream.port import Endpoint
from fakes.openai_upstream import delta, frame
from support.asks import an_ask

KEY = "the same"
USED = Usage(3, 4)


class Engine:
    """A source that gives what a test puts in, and breaks when it says so."""

    status = 200
    complete = True
    whole = None
    opening = None

    def __init__(self) -> None:
        self.endpoint = Endpoint(id="e", host="", port=0)
        self.headers: list[tuple[bytes, bytes]] = []
        self.queue: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self.opened = self.closed = False
        self.given = piece("")

    async def receive(self) -> bytes:
        data = await self.queue.get()
        if isinstance(data, Exception):
            raise data
        self.given += data
        return data

    def finish(self) -> None:
        """Do nothing."""

    def blame(self, word: str) -> None:
        """Blame nobody."""

    def close(self) -> None:
        self.closed = True


@dataclass
class World:
    """Flights before one engine."""

    budget: MemoryBudget = field(default_factory=lambda: MemoryBudget(1 << 26))
    background: Background = field(default_factory=Background)
    calls: list[tuple[Flight, Engine, "asyncio.Future[None]"]] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.flights = Flights(self.background)

    def ask(self, *, stream: bool = True, seconds: float = 60) -> Ask:
        """Give one that somebody holds."""
        document = {"model": "m", "messages": [], "stream": stream}
        ask = an_ask(document=document, budget=self.budget, expires_at=asyncio.get_running_loop().time() + seconds)
        ask.hold()
        return ask

    def join(self, ask: Ask) -> Joined | None:
        """Join, or be the one who asks."""
        flight = self.flights.find(KEY, ask)
        if flight is not None:
            return flight.join(ask)
        return self.flights.begin(KEY, ask, self._work, self._keep, now_ms=0)

    async def answer(self, ask: Ask) -> Reply:
        """Give the reply of a flight, as the layer does."""
        joined = await brought(lambda: self.join(ask), lambda _: True)
        assert joined is not None
        joined.flight.tell(joined)
        reply = joined.flight.reply
        return joined.stream() if isinstance(reply, StreamReply) else cast(WholeReply, reply)

    async def _work(self, flight: Flight) -> Reply:
        engine, go = Engine(), asyncio.get_running_loop().create_future()
        self.calls.append((flight, engine, go))
        ask = flight.ask
        try:
            await go
        except BaseException:
            ask.bill.add(USED, TOLD, 7, False, "m")  # As a call does that was sent in vain.
            raise
        engine.opened = True
        ask.on_end(engine.close)
        if not ask.request.stream:
            ask.bill.add(USED, TOLD, 7, True, "m")
            return WholeReply(200, b"application/json", b"{}")
        relay = StreamRelay(strip_usage=True)
        ask.on_end(ask.bill.soon(lambda: ask.bill.add(USED, TOLD, 7, True, "m")))
        return StreamReply(relay.feed(piece("")), cast(Any, engine), relay)

    async def _keep(self, flight: Flight, whole: WholeReply | None, frames: bytes | None) -> None:
        self.kept.append(frames if whole is None and frames is not None else cast(WholeReply, whole).body)

    async def rest(self) -> None:
        """Let everything that can go on do so."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def close(self) -> None:
        """End it, and see that nothing is left."""
        await self.rest()
        assert len(self.flights) == 0
        assert len(self.background) == 0
        assert self.budget.held == 0
        assert all(engine.closed for _, engine, _ in self.calls if engine.opened)


def piece(text: str) -> bytes:
    """Give a frame of the answer."""
    return frame(delta("m", text))


async def read(reply: StreamReply, into: list[bytes]) -> bool:
    """Read a stream to its end; False when it breaks before."""
    into.append(reply.first)
    try:
        while not reply.relay.done:
            data = await reply.source.receive()
            into.append(reply.relay.feed(data) if data else reply.relay.finish())
    except UpstreamFailed:
        return False
    return True


async def client(world: World, ask: Ask, into: list[bytes]) -> bool | str:
    """Ask and read, and leave in the end whatever happens."""
    try:
        reply = await world.answer(ask)
        assert isinstance(reply, StreamReply)
        return await read(reply, into)
    except UpstreamFailed:
        return "failed"
    finally:
        ask.leave()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.just(0)),
        st.tuples(st.just("leave"), st.integers(0, 9)),
        st.tuples(st.just("begin"), st.just(0)),
        st.tuples(st.just("piece"), st.integers(1, 9)),
        st.tuples(st.just("fail"), st.just(0)),
        st.tuples(st.just("turn"), st.integers(1, 4)),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(STEPS, st.booleans())
def test_who_stays_has_all_of_the_same_bytes(steps: list[tuple[str, int]], ends: bool) -> None:
    """In any order of joins, leaves, frames, failures and ends: nobody has other bytes, whoever stays has all of those
    of a stream that ends, a call is on one bill, and no task, no budget and no flight is left."""
    asyncio.run(_any_order(steps, ends))


async def _any_order(steps: list[tuple[str, int]], ends: bool) -> None:
    world = World()
    clients: list[tuple[asyncio.Task[bool | str], list[bytes], Ask]] = []
    for step, number in steps:
        waiting = [go for _, _, go in world.calls if not go.done()]
        if step == "join":
            ask, into = world.ask(), list[bytes]()
            clients.append((asyncio.create_task(client(world, ask, into)), into, ask))
        elif step == "leave" and clients:
            clients[number % len(clients)][0].cancel()
        elif step == "begin" and waiting:
            waiting[0].set_result(None)
        elif step == "piece" and world.calls:
            world.calls[-1][1].queue.put_nowait(piece("x" * number))
        elif step == "fail" and world.calls:
            if waiting:
                waiting[0].set_exception(UpstreamFailed("no"))
            else:
                world.calls[-1][1].queue.put_nowait(StreamBroken("no"))
        elif step == "turn":
            for _ in range(number):
                await asyncio.sleep(0)
    await _ended(world, ends)
    results = await asyncio.gather(*(task for task, _, _ in clients), return_exceptions=True)
    for (_, into, _), result in zip(clients, results, strict=True):
        got = b"".join(into)
        streams = [engine.given for _, engine, _ in world.calls]
        assert not got or any(given.startswith(got) for given in streams)
        if result is True:
            assert got in streams
            assert got.endswith(DONE)
        assert isinstance(result, bool | str | asyncio.CancelledError), result
    answered = [ask.bill for _, _, ask in clients]
    assert sum(bill.calls for bill in answered) <= len(world.calls), "no call is paid twice"
    assert all(bill.cached is None or not bill.calls for bill in answered)
    await world.close()


async def _ended(world: World, ends: bool) -> None:
    for _ in range(ROUNDS + 1):
        await world.rest()
        for _, engine, go in world.calls:
            if not go.done():
                go.set_result(None)
            engine.queue.put_nowait(frame(delta("m", None, "stop")) + DONE if ends else StreamBroken("no"))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_thousand_who_ask_at_once_are_one_call(stream: bool) -> None:
    """One of them pays, to the others it is an answer that was there."""
    world = World()
    asks = [world.ask(stream=stream) for _ in range(1000)]
    waiting = [asyncio.create_task(world.answer(ask)) for ask in asks]
    await world.rest()
    assert len(world.calls) == 1
    _, engine, go = world.calls[0]
    go.set_result(None)
    replies = await asyncio.gather(*waiting)
    if stream:
        engine.queue.put_nowait(piece("a") + frame(delta("m", None, "stop")) + DONE)
        got: list[list[bytes]] = [[] for _ in replies]
        assert all(
            await asyncio.gather(*(read(cast(StreamReply, one), to) for one, to in zip(replies, got, strict=True)))
        )
        assert len({b"".join(one) for one in got}) == 1
    await world.rest()
    assert [ask.bill.calls for ask in asks] == [1] + [0] * 999
    assert [ask.bill.cached for ask in asks] == [None] + [(USED, 7)] * 999
    for ask in asks:
        ask.leave()
    await world.close()


async def test_when_a_call_fails_one_of_those_who_waited_asks() -> None:
    """Not all of them at once, and not without end: the others are told what the last one was told."""
    world = World()
    asks = [world.ask(stream=False) for _ in range(100)]
    waiting = [asyncio.create_task(world.answer(ask)) for ask in asks]
    for number in range(ROUNDS):
        await world.rest()
        assert len(world.calls) == number + 1
        world.calls[-1][2].set_exception(UpstreamFailed("no"))
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(one, UpstreamFailed) for one in results)
    assert len(world.calls) == ROUNDS
    for ask in asks:
        ask.leave()
    await world.close()


async def test_what_is_wrong_with_a_request_is_said_to_all_who_made_it() -> None:
    """Nobody asks again what was refused for what it says."""
    world = World()
    asks = [world.ask(stream=False) for _ in range(10)]
    waiting = [asyncio.create_task(world.answer(ask)) for ask in asks]
    await world.rest()
    world.calls[0][2].set_exception(InvalidRequest("no"))
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(one, InvalidRequest) for one in results)
    assert len(world.calls) == 1
    for ask in asks:
        ask.leave()
    await world.close()


async def test_who_leaves_last_bears_what_was_used_in_vain() -> None:
    """A client that asks and goes is charged for what the model did meanwhile, by the time its own ask ends."""
    world = World()
    first, last = world.ask(stream=False), world.ask(stream=False)
    billed: list[int] = []
    for ask in (first, last):
        ask.on_end(lambda ask=ask: billed.append(ask.bill.calls))
    tasks = [asyncio.create_task(client(world, ask, [])) for ask in (first, last)]
    await world.rest()
    for task in tasks:
        task.cancel()
        await asyncio.wait((task,))
    assert billed == [0, 1]
    assert len(world.calls) == 1
    await world.close()


async def test_a_process_that_ends_keeps_nobody_waiting() -> None:
    """Also when the work of a flight never began."""
    world = World()
    ask = world.ask()
    joined = world.join(ask)
    assert joined is not None
    await world.background.close()
    with pytest.raises(ShuttingDown):
        await joined.begun()
    ask.leave()
    await world.close()


async def test_the_beginning_of_a_stream_stays_until_those_who_waited_for_it_have_it() -> None:
    """However large its first piece is."""
    world = World()
    asks = [world.ask() for _ in range(2)]
    waiting = [asyncio.create_task(world.answer(ask)) for ask in asks]
    await world.rest()
    _, engine, go = world.calls[0]
    for _ in range(3):
        engine.queue.put_nowait(piece("x" * 3_000_000))
    go.set_result(None)
    replies = await asyncio.gather(*waiting)
    engine.queue.put_nowait(frame(delta("m", None, "stop")) + DONE)
    got: list[list[bytes]] = [[], []]
    assert all(await asyncio.gather(*(read(cast(StreamReply, one), to) for one, to in zip(replies, got, strict=True))))
    assert b"".join(got[0]) == b"".join(got[1])
    for ask in asks:
        ask.leave()
    await world.close()


async def test_who_has_much_more_time_does_not_join() -> None:
    """A call ends when who began it has no time left; who has less is welcome."""
    world = World()
    asks = [world.ask(seconds=seconds) for seconds in (10, 5, 12, 60)]
    joined = [world.join(ask) for ask in asks]
    assert [one.leads for one in joined if one is not None] == [True, False, False, True]
    for ask in asks:
        ask.leave()
    await world.close()


async def test_who_stalls_in_a_stream_that_limits_count_is_left_behind_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held for it is bounded there as well."""
    monkeypatch.setattr(recording, "MOST_KEPT", 100_000)
    monkeypatch.setattr(recording, "STALL_SECONDS", 0.01)
    world = World()
    asks = [world.ask() for _ in range(2)]
    for ask in asks:
        ask.governed = Governed(metered=True)
    waiting = [asyncio.create_task(world.answer(ask)) for ask in asks]
    await world.rest()
    _, engine, go = world.calls[0]
    go.set_result(None)
    quick, slow = await asyncio.gather(*waiting)
    for _ in range(40):
        engine.queue.put_nowait(piece("x" * 50_000))
    engine.queue.put_nowait(frame(delta("m", None, "stop")) + DONE)
    assert await read(cast(StreamReply, quick), [])
    assert not await read(cast(StreamReply, slow), [])
    for ask in asks:
        ask.leave()
    await world.close()
