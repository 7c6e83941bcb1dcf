"""Who hears the workers: what they tell is known, and what is wrong with one costs nothing but its own knowledge."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from random import Random

import pytest

from capstan_contract.kv_events import BEAT, MOST_LINE_BYTES, Change, write_change, write_head
from capstan_gateway.routing import kv_listening
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.held_blocks import HeldBlocks
from capstan_gateway.routing.kv_listening import KVListening
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.upstream.http1 import Http1Client
from capstan_gateway.upstream.port import Endpoint
from support.rawserver import Peer, raw_server
from support.wait import PATIENCE, eventually

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def told(*names: int) -> bytes:
    """What a worker says at first of an engine that holds these."""
    return b"".join(write_head(16, names))


def changed(**change: Iterable[int]) -> bytes:
    """The lines of a change."""
    return b"".join(write_change(Change(**{field: tuple(names) for field, names in change.items()})))


class World:
    """One model with a worker, and who hears it."""

    def __init__(self, port: int, *, most_blocks: int = 1000) -> None:
        self.client = Http1Client()
        worker = Endpoint("worker", "127.0.0.1", port)
        self.endpoint = Endpoint("m@e", "127.0.0.1", 1, worker=worker)
        self.set = EndpointSet(EndpointRegistry(), [self.endpoint])
        self.listening = KVListening(self.client, most_blocks=most_blocks, rng=Random(1))  # noqa: S311

    @property
    def held(self) -> HeldBlocks:
        """What is known."""
        assert self.set.held is not None
        return self.set.held

    async def knows(self, blocks: int | None) -> None:
        """Wait until so many blocks are known; None: nothing."""

        def as_said() -> bool:
            known = {id_: self.held.blocks(id_) for id_ in self.held.told_by()}
            return known == ({} if blocks is None else {"m@e": blocks})

        await eventually(as_said, every=0.01, what=f"{blocks} blocks")
        await eventually(lambda: self.listening.blocks == (blocks or 0), every=0.01, what="their number")


@asynccontextmanager
async def heard(script: Callable[[Peer], Awaitable[None]], *, most_blocks: int = 1000) -> AsyncIterator[World]:
    """Hear a worker that does this with each connection."""
    async with raw_server(script) as server:
        world = World(server.port, most_blocks=most_blocks)
        world.listening.want([world.set])
        running = asyncio.create_task(world.listening.run())
        try:
            yield world
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await world.client.aclose()


def says(*pieces: bytes) -> Callable[[Peer], Awaitable[None]]:
    """A worker that sends this, and then nothing more."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)
        await peer.gone()

    return script


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long before trying again."""
    monkeypatch.setattr(kv_listening, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(kv_listening, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(kv_listening, "MOST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(kv_listening, "NO_ROOM_PAUSE_SECONDS", 0.02)


async def test_what_a_worker_tells_is_known() -> None:
    """The snapshot and every change, however the bytes are cut; with the request that the contract names."""
    stream = told(1, 2, 3) + BEAT + changed(stored=[4], removed=[1, 2]) + BEAT + changed(stored=range(10, 20))
    pieces = [chunk(stream[at : at + 7]) for at in range(0, len(stream), 7)]
    async with heard(says(HEAD, *pieces)) as world:
        await world.knows(12)
    assert world.held.told_by() == []


async def test_a_worker_that_is_lost_is_not_believed_any_longer() -> None:
    """When its connection ends nothing is known, until it has told all anew."""
    again = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 2:
            await again.wait()
        await peer.send(HEAD, chunk(told(*range(peer.number * 10))))
        if peer.number == 1:
            await world.knows(10)
            peer.reset()
        await peer.gone()

    async with heard(script) as world:
        await world.knows(10)
        await world.knows(None)
        again.set()
        await world.knows(20)


async def test_a_worker_that_is_silent_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """No line for three beats, although bytes of one come: it is asked anew."""
    monkeypatch.setattr(kv_listening, "LOST_SECONDS", 0.2)
    connections: list[int] = []

    async def script(peer: Peer) -> None:
        connections.append(peer.number)
        await peer.request()
        await peer.send(HEAD, chunk(told(1)))
        while True:
            await peer.send(chunk(b" "))
            await asyncio.sleep(0.02)

    async with heard(script) as world:
        await world.knows(1)
        await eventually(lambda: len(connections) > 1, every=0.01, what="another try")


@pytest.mark.parametrize(
    "wrong",
    [
        b"no JSON\n",
        b'{"stored":"AAAA"}\n',
        b'{"version":2,"blockTokens":16,"snapshot":0}\n',
        told(1) + b"[]\n",
        told(1) + b" " * MOST_LINE_BYTES + b"\n",
        told(1) + b"x" * (2 * MOST_LINE_BYTES),
        told(*range(1001)),
        told(1) + changed(stored=range(1, 1002)),
    ],
)  # fmt: skip
async def test_what_a_worker_says_wrongly_costs_what_it_has_told(wrong: bytes) -> None:
    """No line of the format, one without an end, more than there is room for: forgotten, and asked again."""
    connections: list[int] = []

    async def script(peer: Peer) -> None:
        connections.append(peer.number)
        await peer.request()
        if peer.number < 3:
            await peer.send(HEAD, chunk(wrong))
            await peer.gone()
        await peer.send(HEAD, chunk(told(*range(7))))
        await peer.gone()

    async with heard(script) as world:
        await world.knows(7)
    assert len(connections) == 3


@pytest.mark.parametrize(("status", "reason"), [(b"404 Not Found", "refused"), (b"503 Service Unavailable", "full")])
async def test_a_worker_that_does_not_tell_is_asked_again(status: bytes, reason: str) -> None:
    """It may be another version by then, or have room for one more who listens; each reason is counted."""

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 1:
            await peer.send(b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status)
            return
        await peer.send(HEAD, chunk(told(5)))
        await peer.gone()

    async with heard(script) as world:
        await world.knows(1)
        assert world.held.unheard == {reason: 1}


async def test_one_for_whose_blocks_there_is_no_room_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """For long: it would tell all that it holds, again and again, and for nothing. One that is lost is asked soon."""
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def slept(seconds: float) -> None:
        if seconds > 1:
            pauses.append(seconds)
        await sleep(min(seconds, 0.01))

    monkeypatch.setattr(kv_listening, "NO_ROOM_PAUSE_SECONDS", 300.0)
    monkeypatch.setattr(kv_listening.asyncio, "sleep", slept)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD, chunk(told(*range(1001)) if peer.number == 2 else told(*range(7))))
        if peer.number == 1:
            peer.reset()
        await peer.gone()

    async with heard(script) as world:
        await eventually(lambda: world.held.unheard.get("blocks"), every=0.01, what="one that holds too much")
        await world.knows(7)
    assert [150 <= pause <= 300 for pause in pauses] == [True]


async def test_an_endpoint_that_goes_is_forgotten_with_its_connection() -> None:
    """The same where its model's workers tell no longer; another worker at its place is heard instead."""
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD, chunk(told(*range(peer.number))))
        await peer.gone()
        gone.set()

    async with heard(script) as world:
        await world.knows(1)
        world.set.replace(())
        await world.knows(None)
        await asyncio.wait_for(gone.wait(), PATIENCE)
        world.set.replace([world.endpoint])
        await world.knows(2)
        world.listening.want([])
        assert world.set.held is None
        await eventually(lambda: not world.listening.blocks, every=0.01, what="nothing known")
        world.listening.want([world.set])
        await world.knows(3)
        world.listening.want([])
        world.listening.want([world.set])
        await world.knows(4)


async def test_nobody_is_heard_where_nothing_may_be_known() -> None:
    """With a bound of 0 blocks nothing is paid."""
    async with heard(says(HEAD, chunk(told(1))), most_blocks=0) as world:
        assert world.set.held is None


async def test_a_model_that_is_without_events_for_a_moment_is_heard_again() -> None:
    """A config that takes events from a model, and one that gives them back, within one look: it is heard anew."""

    async def tell(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + chunk(told(1, 2)))
        await peer.gone()

    async with heard(tell) as world:
        await world.knows(2)
        world.listening.want([])
        world.listening.want([world.set])
        await world.knows(2)


async def test_others_have_their_turns_while_a_worker_tells_much() -> None:
    """However many lines come in one piece, the loop is given up behind so many of them."""
    lines = 100 * kv_listening.AT_ONCE_LINES

    async def tell(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + chunk(told()) + chunk(BEAT * lines + changed(stored=[1])))
        await peer.gone()

    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with heard(tell) as world:
        counting = asyncio.create_task(count())
        try:
            await world.knows(1)
        finally:
            counting.cancel()
            await asyncio.gather(counting, return_exceptions=True)
    assert turns >= 100
