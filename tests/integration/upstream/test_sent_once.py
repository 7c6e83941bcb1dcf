"""A request that may have been seen is not sent again behind its sender's back."""

from collections.abc import AsyncIterator

import pytest

from capstan_gateway.routing.attempt import Attempt
from capstan_gateway.routing.registry import EndpointState
from capstan_gateway.upstream.errors import ConnectionLost
from capstan_gateway.upstream.http1 import Http1Client
from capstan_gateway.upstream.port import Endpoint
from support.rawserver import Peer, ok, raw_server


@pytest.fixture
async def client() -> AsyncIterator[Http1Client]:
    """A client."""
    client = Http1Client()
    yield client
    await client.aclose()


@pytest.mark.parametrize("beginning", [b"H", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\ncontent-le"])
async def test_a_request_is_not_sent_again_once_a_byte_of_its_answer_has_come(
    client: Http1Client, beginning: bytes
) -> None:
    """A reused connection that dies behind the first byte was not closed by the server before it read the request."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(b"first"))
        await peer.request()
        await peer.send(beginning)
        peer.reset()

    async with raw_server(script) as server:
        endpoint = Endpoint(id="e", host="127.0.0.1", port=server.port)
        first = await client.send(endpoint, method=b"POST", path=b"/x", body=b"{}", repeatable=True)
        assert await first.read(100) == b"first"
        with pytest.raises(ConnectionLost):
            await client.send(endpoint, method=b"POST", path=b"/x", body=b"{}", repeatable=True)
        assert len(server.heads) == 2


async def test_what_is_not_repeatable_never_goes_out_on_a_used_connection(client: Http1Client) -> None:
    """Nothing else makes sure that the server does not close it at this moment; and whoever is cancelled knows."""
    peers: list[Peer] = []

    async def script(peer: Peer) -> None:
        peers.append(peer)
        while True:
            await peer.request()
            await peer.send(ok(b"good"))

    attempts = [Attempt(EndpointState(Endpoint("e", "h", 1)), 0.0) for _ in range(2)]
    async with raw_server(script) as server:
        endpoint = Endpoint(id="e", host="127.0.0.1", port=server.port)
        for attempt in attempts:
            response = await client.send(
                endpoint, method=b"POST", path=b"/x", body=b"{}", repeatable=False,
                sending=attempt,
            )  # fmt: skip
            await response.read(100)
        assert len(peers) == 2
        assert [attempt.sent for attempt in attempts] == [True, True]
