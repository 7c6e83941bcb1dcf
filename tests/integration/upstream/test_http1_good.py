"""The client against servers that behave, in all the ways that HTTP/1.1 allows."""

import asyncio
import socket

import pytest

from capstan_gateway.upstream.http1 import Http1Client
from capstan_gateway.upstream.limits import Limits
from capstan_gateway.upstream.port import Endpoint
from support.rawserver import Peer, ok, raw_server
from support.wait import eventually


def at(port: int, **fields: object) -> Endpoint:
    """An endpoint on this machine."""
    return Endpoint(id=f"e:{port}", host="127.0.0.1", port=port, **fields)  # type: ignore[arg-type]


async def get(client: Http1Client, endpoint: Endpoint, method: bytes = b"GET") -> tuple[int, bytes]:
    """Send a request; give status and body."""
    response = await client.send(endpoint, method=method, path=b"/x")
    return response.status, await response.read(1 << 20)


async def test_a_request_arrives_as_it_was_given(client: Http1Client) -> None:
    """The request line, our three headers, the caller's headers and the body are on the wire, and nothing else."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok())

    async with raw_server(script) as server:
        response = await client.send(
            at(server.port, base_path=b"/v1"),
            method=b"POST",
            path=b"/chat/completions",
            headers=[(b"content-type", b"application/json"), (b"x-request-id", b"r1")],
            body=b'{"model":"m"}',
        )
        assert await response.read(100) == b"hello"
        assert server.heads == [
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\naccept-encoding: identity\r\n"
            b"content-type: application/json\r\nx-request-id: r1\r\ncontent-length: 13\r\n\r\n" % server.port
        ]
        assert server.bodies == [b'{"model":"m"}']


async def test_headers_come_back_raw_in_order_and_in_lower_case(client: Http1Client) -> None:
    """Names are lower-cased, values are untouched, repeated headers stay apart."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(b"", b"Set-Cookie: A=1", b"X-Empty:", b"SET-COOKIE:  B=2 "))

    async with raw_server(script) as server:
        response = await client.send(at(server.port), method=b"GET", path=b"/")
        assert response.headers == [
            (b"set-cookie", b"A=1"),
            (b"x-empty", b""),
            (b"set-cookie", b"B=2"),
            (b"content-length", b"0"),
        ]


async def test_one_connection_serves_requests_one_after_the_other(client: Http1Client) -> None:
    """A kept-alive connection is used again, whatever framing its responses have."""
    answers = [
        ok(b"one"),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\nx-trailer: t\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + ok(b"six"),
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nseven",
        ok(b"last"),
    ]

    async def script(peer: Peer) -> None:
        for answer in answers:
            await peer.request()
            await peer.send(answer)

    async with raw_server(script) as server:
        got = [await get(client, at(server.port)) for _ in answers]
        assert got == [
            (200, b"one"),
            (200, b"two"),
            (204, b""),
            (304, b""),
            (200, b"six"),
            (200, b"seven"),
            (200, b"last"),
        ]
        assert server.connections == 1


async def test_an_informational_head_leaves_no_header_behind(client: Http1Client) -> None:
    """Headers of a 103 are not headers of the response."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", ok(b""))

    async with raw_server(script) as server:
        response = await client.send(at(server.port), method=b"GET", path=b"/")
        assert response.headers == [(b"content-length", b"0")]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbody",
        b"HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\n\r\nbody",
        b"HTTP/1.0 200 OK\r\n\r\nbody",
    ],
)
async def test_a_connection_that_is_not_kept_is_not_used_again(client: Http1Client, answer: bytes) -> None:
    """After `connection: close`, HTTP/1.0 and a body that ends with the connection, the next request has a new one."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)

    async with raw_server(script) as server:
        assert await get(client, at(server.port)) == (200, b"body")
        assert await get(client, at(server.port)) == (200, b"body")
        assert server.connections == 2


async def test_a_head_request_has_no_body(client: Http1Client) -> None:
    """The content-length of a response to HEAD announces nothing that comes."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")

    async with raw_server(script) as server:
        assert await get(client, at(server.port), b"HEAD") == (200, b"")
        assert await get(client, at(server.port), b"HEAD") == (200, b"")


async def test_a_compressed_body_passes_untouched(client: Http1Client) -> None:
    """Bytes that a server compressed although it was asked not to are not decompressed."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(b"\x1f\x8bnot really", b"content-encoding: gzip"))

    async with raw_server(script) as server:
        assert await get(client, at(server.port)) == (200, b"\x1f\x8bnot really")


async def test_pieces_of_a_stream_arrive_as_they_are_sent(client: Http1Client) -> None:
    """Each piece can be read before the next one is sent, and pieces that wait are given together."""
    proceed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for text in (b"one", b"two"):
            await peer.send(b"3\r\n%b\r\n" % text)
            await proceed.wait()
            proceed.clear()
        await peer.send(b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n")

    async with raw_server(script) as server:
        response = await client.send(at(server.port), method=b"GET", path=b"/")
        got = []
        while piece := await response.receive():
            got.append(piece)
            proceed.set()
        assert got == [b"one", b"two", b"abc"]


async def test_a_slow_reader_stops_the_sender(client: Http1Client) -> None:
    """The client buffers about its high-water mark, not the whole body, and the body is whole in the end."""
    size = 64 << 20
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        block = b"x" * 65536
        while sent < size:
            peer.writer.write(block)
            await peer.writer.drain()
            sent += len(block)

    async with raw_server(script) as server:
        response = await client.send(at(server.port), method=b"GET", path=b"/")
        connection = response._connection
        assert connection is not None
        await eventually(lambda: connection._paused, every=0.01)
        assert sent < size / 2
        total = 0
        while piece := await response.receive():
            total += len(piece)
        assert total == size


async def test_the_slow_reader_deadline_is_not_the_servers(client: Http1Client) -> None:
    """A reader that does not ask for a while does not make the server late."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc")
        await proceed.wait()
        await peer.send(b"def")

    proceed = asyncio.Event()
    async with raw_server(script) as server:
        response = await client.send(at(server.port), method=b"GET", path=b"/", idle_timeout=0.5)
        assert await response.receive() == b"abc"
        loop = asyncio.get_running_loop()
        later = loop.time() + 0.75
        await eventually(lambda: loop.time() > later)
        proceed.set()
        await eventually(lambda: response.complete, every=0.01)
        assert await response.receive() == b"def"


async def test_idle_connections_are_closed_in_time() -> None:
    """A connection without a request is closed by us, before the server does it under a request."""
    client = Http1Client(limits=Limits(idle_seconds=0.1))

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok())
        await peer.gone()

    async with raw_server(script) as server:
        await get(client, at(server.port))
        await asyncio.wait_for(server.gone.wait(), 60)
        await eventually(lambda: client.connections() == {})
    await client.aclose()


async def test_close_idle_closes_only_what_is_idle(client: Http1Client) -> None:
    """An endpoint that goes away keeps the responses that have begun."""
    proceed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbo")
        if peer.number == 2:
            await peer.send(b"dy")
            await peer.gone()
        else:
            await proceed.wait()
            await peer.send(b"dy")

    async with raw_server(script) as server:
        endpoint = at(server.port)
        busy = await client.send(endpoint, method=b"GET", path=b"/")
        await get(client, endpoint)
        client.close_idle(endpoint.id)
        await asyncio.wait_for(server.gone.wait(), 60)
        proceed.set()
        assert await busy.read(100) == b"body"


async def test_an_endpoint_that_moves_is_called_at_its_new_address(client: Http1Client) -> None:
    """One id with a new address does not reuse connections to the old one."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(ok(b"%d" % peer.server.port))

    async with raw_server(script) as first, raw_server(script) as second:
        for server in (first, second, second, first):
            endpoint = Endpoint(id="same", host="127.0.0.1", port=server.port)
            assert await get(client, endpoint) == (200, b"%d" % server.port)
        assert (first.connections, second.connections) == (2, 1)


async def test_a_name_is_called_like_an_address(client: Http1Client) -> None:
    """An endpoint may be a name, which is looked up for each connection, and remembered."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(b"hello", b"connection: close"))

    async with raw_server(script) as server:
        for _ in range(2):
            assert await get(client, Endpoint(id="named", host="localhost", port=server.port)) == (200, b"hello")
        assert server.connections == 2
        assert b"\r\nhost: localhost:%d\r\n" % server.port in server.heads[0]


async def test_sockets_do_not_wait_to_fill_a_segment(client: Http1Client) -> None:
    """TCP_NODELAY is on: Nagle's algorithm would add 40 ms to a request of two writes."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n")
        await peer.gone()

    async with raw_server(script) as server:
        response = await client.send(at(server.port), method=b"GET", path=b"/")
        connection = response._connection
        assert connection is not None
        assert connection._transport is not None
        raw = connection._transport.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        response.abort()
