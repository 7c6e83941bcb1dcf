"""A caller that is cancelled, or out of time, while its connection comes about: nothing of it is left."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from capstan_gateway.upstream.connection import Connection
from capstan_gateway.upstream.errors import UpstreamError
from capstan_gateway.upstream.http1 import Http1Client
from capstan_gateway.upstream.pool import Pool
from capstan_gateway.upstream.port import Endpoint
from support.rawserver import Peer, ok, raw_server
from support.wait import eventually


async def answer(peer: Peer) -> None:
    """Answer every request."""
    while True:
        await peer.request()
        await peer.send(ok())


def at(port: int) -> Endpoint:
    """An endpoint on this machine."""
    return Endpoint(id="e", host="127.0.0.1", port=port)


def none_left(client: Http1Client) -> bool:
    """Whether the client counts no connection that is open or in use."""
    return client.connections().get("e", (0, 0)) == (0, 0)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_cancelled_in_the_turn_in_which_it_is_made(
    client: Http1Client, monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    """Whatever turn of the loop it is: the pool's count comes back, so that the limit is never used up."""
    opened = Pool.on_open

    def on_open(self: Pool, connection: Connection) -> None:
        opened(self, connection)
        later(turns, task.cancel)

    monkeypatch.setattr(Pool, "on_open", on_open)
    async with raw_server(answer) as server:
        for _ in range(10):
            task = asyncio.ensure_future(client.send(at(server.port), method=b"POST", path=b"/x", body=b"{}"))
            await asyncio.gather(task, return_exceptions=True)
            if not task.cancelled():
                await task.result().read(100)
        client.close_idle("e")
        await eventually(lambda: none_left(client), what="the end of all connections")


def later(turns: int, call: Callable[[], object]) -> None:
    """Call in so many turns of the loop; 0: at once."""
    if turns == 0:
        call()
    else:
        asyncio.get_running_loop().call_soon(later, turns - 1, call)


@pytest.mark.parametrize("turns", range(8))
async def test_cancelled_so_many_turns_after_it_began(client: Http1Client, turns: int) -> None:
    """The same counted from the call's begin."""
    async with raw_server(answer) as server:
        for _ in range(5):
            task = asyncio.ensure_future(client.send(at(server.port), method=b"POST", path=b"/x", body=b"{}"))
            later(turns, task.cancel)
            await asyncio.gather(task, return_exceptions=True)
            if not task.cancelled():
                await task.result().read(100)
        client.close_idle("e")
        await eventually(lambda: none_left(client), what="the end of all connections")


async def test_out_of_time_in_the_turn_in_which_it_is_made(
    client: Http1Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connect deadline that passes in that moment leaves nothing open either."""
    opened = Pool.on_open
    timers: list[asyncio.Timeout] = []
    timeout = asyncio.timeout

    def recorded(delay: float | None) -> asyncio.Timeout:
        timers.append(timeout(delay))
        return timers[-1]

    def on_open(self: Pool, connection: Connection) -> None:
        opened(self, connection)
        for timer in timers:
            timer.reschedule(asyncio.get_running_loop().time())

    monkeypatch.setattr(asyncio, "timeout", recorded)
    monkeypatch.setattr(Pool, "on_open", on_open)
    async with raw_server(answer) as server:
        for _ in range(5):
            timers.clear()
            try:
                response = await client.send(at(server.port), method=b"POST", path=b"/x", body=b"{}")
                await response.read(100)
            except UpstreamError:
                pass
        monkeypatch.undo()
        client.close_idle("e")
        await eventually(lambda: none_left(client), what="the end of all connections")


async def test_cancelled_in_a_handshake(client: Http1Client, tmp_path: Path) -> None:
    """A TLS handshake that never ends is cut off on the wire too."""
    context = ssl.create_default_context()
    client = Http1Client(tls={"t": context})

    async def mute(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.gone()

    async with raw_server(mute) as server:
        endpoint = Endpoint(id="e", host="127.0.0.1", port=server.port, scheme="https", tls="t")
        task = asyncio.ensure_future(client.send(endpoint, method=b"GET", path=b"/"))
        await eventually(lambda: server.connections == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(server.gone.wait(), 60)
        assert none_left(client)
    await client.aclose()
