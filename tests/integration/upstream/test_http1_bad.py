"""The client against servers that misbehave: each fault has its own error, and no wait is for ever."""

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from capstan_gateway.upstream.errors import (
    BodyBroken,
    BodyTooLarge,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    DeadlineKind,
    ProtocolError,
    TooManyConnections,
    UpstreamError,
)
from capstan_gateway.upstream.http1 import Http1Client
from capstan_gateway.upstream.limits import Limits
from capstan_gateway.upstream.port import Endpoint
from capstan_gateway.upstream.tls import context_for_authority
from support.certificates import make_authority, serving_context
from support.ports import free_port
from support.rawserver import Peer, ok, raw_server
from support.wait import eventually

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def at(port: int) -> Endpoint:
    """An endpoint on this machine."""
    return Endpoint(id=f"e:{port}", host="127.0.0.1", port=port)


async def call(client: Http1Client, endpoint: Endpoint, **options: object) -> bytes:
    """Send a request that may not be repeated unless `options` say so; give the body."""
    response = await client.send(endpoint, method=b"POST", path=b"/x", body=b"{}", **options)  # type: ignore[arg-type]
    return await response.read(1 << 20)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"nonsense\r\n\r\n", ProtocolError),
        (b"HTTP/9.9 200 OK\r\n\r\n", ProtocolError),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", ProtocolError),
        (b"HTTP/1.1 200 OK\r\nbad name: x\r\n\r\n", ProtocolError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!", ProtocolError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5x\r\n\r\nhello", ProtocolError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", ProtocolError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", ProtocolError),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", ProtocolError),
        (CHUNKED + b"xyz\r\n", ProtocolError),
        (CHUNKED + b"-1\r\nx", ProtocolError),
        (CHUNKED + b"5\r\nhello5\r\nworld\r\n0\r\n\r\n", ProtocolError),
        (CHUNKED + b"fffffffffffffffff\r\n", ProtocolError),
        (b"", ConnectionLost),
        (b"HTTP/1.1 200 OK\r\ncontent-le", ConnectionLost),
        (b"HTTP/1.1 100 Continue\r\n\r\n", ConnectionLost),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello", BodyBroken),
        (CHUNKED + b"5\r\nhel", BodyBroken),
        (CHUNKED + b"5\r\nhello\r\n", BodyBroken),
        (CHUNKED + b"5\r\nhello\r\n0\r\n", BodyBroken),
    ],
)
async def test_a_broken_response_is_an_error(client: Http1Client, answer: bytes, error: type[UpstreamError]) -> None:
    """What is malformed is ProtocolError; what ends too early says whether the head had come."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)

    async with raw_server(script) as server:
        with pytest.raises(error) as raised:
            await call(client, at(server.port))
        assert type(raised.value) is error
        assert raised.value.sent


async def test_what_came_before_the_break_can_be_read(client: Http1Client) -> None:
    """A stream that is cut gives its pieces first and then the error, never a clean end."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"5\r\nhello\r\n")

    async with raw_server(script) as server:
        response = await client.send(at(server.port), method=b"POST", path=b"/x")
        assert await response.receive() == b"hello"
        with pytest.raises(BodyBroken):
            await response.receive()
        assert not response.complete


async def test_a_reset_in_the_body_is_a_broken_body(client: Http1Client) -> None:
    """A TCP reset ends even a body without a length with an error."""
    proceed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nbeginning")
        await proceed.wait()
        peer.reset()

    async with raw_server(script) as server:
        response = await client.send(at(server.port), method=b"POST", path=b"/x")
        assert await response.receive() == b"beginning"
        proceed.set()
        with pytest.raises(BodyBroken):
            await response.receive()


async def test_a_reset_before_the_response_is_a_lost_connection(client: Http1Client) -> None:
    """The request had been sent, so the caller decides whether to repeat it."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.reset()

    async with raw_server(script) as server:
        with pytest.raises(ConnectionLost) as raised:
            await call(client, at(server.port), repeatable=True)
        assert raised.value.sent
        assert server.connections == 1, "a fresh connection that dies is not tried again by the client"


async def test_a_refused_connection_was_not_sent(client: Http1Client) -> None:
    """Nothing listens: safe to repeat."""
    with pytest.raises(ConnectFailed) as raised:
        await call(client, at(free_port()))
    assert not raised.value.sent


async def test_a_name_that_does_not_exist_was_not_sent(client: Http1Client) -> None:
    """No address: safe to repeat."""
    with pytest.raises(ConnectFailed):
        await call(client, Endpoint(id="e", host="nowhere.invalid", port=80))


async def test_a_listener_that_never_accepts_passes_the_connect_deadline(client: Http1Client) -> None:
    """Packets that nobody answers end with the connect deadline, and nothing was sent."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        filling = [socket.socket() for _ in range(4)]
        try:
            for one in filling:
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))  # fills the backlog: further handshakes get no answer
            with pytest.raises(DeadlineExceeded) as raised:
                await call(client, at(port), connect_timeout=0.1)
        finally:
            for one in filling:
                one.close()
    assert (raised.value.kind, raised.value.sent) == (DeadlineKind.CONNECT, False)


@pytest.mark.parametrize(
    ("answer", "options", "kind"),
    [
        (b"", {"first_byte_timeout": 0.1}, DeadlineKind.FIRST_TOKEN),
        (b"HTTP/1.1 200", {"first_byte_timeout": 0.1}, DeadlineKind.FIRST_TOKEN),
        (CHUNKED, {"first_byte_timeout": 0.1}, DeadlineKind.FIRST_TOKEN),
        (CHUNKED + b"5;slow", {"first_byte_timeout": 0.1}, DeadlineKind.FIRST_TOKEN),
        (CHUNKED + b"1\r\nx\r\n", {"idle_timeout": 0.1}, DeadlineKind.IDLE),
        (CHUNKED + b"1\r\nx\r\n0\r\n", {"idle_timeout": 0.1}, DeadlineKind.IDLE),
    ],
)
async def test_a_stall_passes_the_deadline_of_its_place(
    client: Http1Client, answer: bytes, options: dict[str, float], kind: DeadlineKind
) -> None:
    """Up to the first byte of the body it is the first-token deadline, after that the idle one; both close."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        await peer.gone()

    async with raw_server(script) as server:
        with pytest.raises(DeadlineExceeded) as raised:
            await call(client, at(server.port), **options)
        assert (raised.value.kind, raised.value.sent) == (kind, True)
        await asyncio.wait_for(server.gone.wait(), 60)


async def test_a_trickle_passes_the_total_deadline(client: Http1Client) -> None:
    """Pieces that keep coming do not outlast the total deadline."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        while True:
            await peer.send(b"1\r\nx\r\n")
            await asyncio.sleep(0.02)

    async with raw_server(script) as server:
        expires_at = asyncio.get_running_loop().time() + 0.2
        with pytest.raises(DeadlineExceeded) as raised:
            await call(client, at(server.port), expires_at=expires_at)
        assert raised.value.kind is DeadlineKind.TOTAL


@pytest.mark.parametrize(
    "endless",
    [
        b"x: " + b"y" * 1000 + b"\r\n",
        b"x",
        b"HTTP/1.1 103 Early Hints\r\n\r\n",
    ],
)
async def test_a_head_without_end_is_refused(client: Http1Client, endless: bytes) -> None:
    """More bytes than allowed without a body, in whatever form, end the call."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"" if endless.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\nbig: ")
        while True:
            await peer.send(endless * 100)

    async with raw_server(script) as server:
        with pytest.raises(ProtocolError):
            await call(client, at(server.port))


@pytest.mark.parametrize("endless", [b"a", b"x: y\r\n"])
async def test_trailers_and_chunk_extensions_without_end_are_refused(client: Http1Client, endless: bytes) -> None:
    """The limit holds after the head as well."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"1\r\nx\r\n" + (b"1;" if endless == b"a" else b"0\r\n"))
        while True:
            await peer.send(endless * 1000)

    async with raw_server(script) as server:
        with pytest.raises(ProtocolError):
            await call(client, at(server.port))


async def test_more_headers_than_allowed_are_refused(client: Http1Client) -> None:
    """The number of headers has a limit of its own."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(b"", *[b"a: b"] * 201))

    async with raw_server(script) as server:
        with pytest.raises(ProtocolError):
            await call(client, at(server.port))


async def test_a_body_larger_than_the_reader_allows_is_refused(client: Http1Client) -> None:
    """`read` gives up at its limit and closes the connection."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n" + b"x" * 5000)
        await peer.gone()

    async with raw_server(script) as server:
        response = await client.send(at(server.port), method=b"POST", path=b"/x")
        with pytest.raises(BodyTooLarge):
            await response.read(4999)
        await asyncio.wait_for(server.gone.wait(), 60)


@pytest.mark.parametrize("garbage", [b"x", b"\0\0\0", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", b"HTTP/1.1"])
@pytest.mark.parametrize("together", [True, False])
async def test_bytes_after_a_response_are_nobodys_response(client: Http1Client, garbage: bytes, together: bool) -> None:
    """A connection on which more came than was asked for is not used again, and the response stands."""

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number > 1:
            await peer.send(ok(b"good"))
        elif together:
            await peer.send(ok() + garbage)
        else:
            await peer.send(ok())
            await peer.send(garbage)
        await peer.gone()

    async with raw_server(script) as server:
        endpoint = at(server.port)
        assert await call(client, endpoint, repeatable=True) == b"hello"
        await asyncio.wait_for(server.gone.wait(), 60)
        assert await call(client, endpoint, repeatable=True) == b"good"
        assert server.connections == 2


async def test_a_connection_that_the_server_closed_while_idle_is_not_used(client: Http1Client) -> None:
    """The next request goes out once, on a new connection."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok())

    async with raw_server(script) as server:
        endpoint = at(server.port)
        await call(client, endpoint)
        await eventually(lambda: client.connections().get(endpoint.id, (0, 0)) == (0, 0))
        await call(client, endpoint, repeatable=True)
        assert (server.connections, len(server.heads)) == (2, 2)


async def test_a_reused_connection_that_dies_is_replaced_when_the_request_may_be_repeated(client: Http1Client) -> None:
    """The server closes under the second request: it is sent again on a fresh connection, once."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok(b"%d" % peer.number))
        await peer.request()
        peer.reset()

    async with raw_server(script) as server:
        endpoint = at(server.port)
        assert await call(client, endpoint, repeatable=True) == b"1"
        assert await call(client, endpoint, repeatable=True) == b"2"
        assert len(server.heads) == 3


async def test_a_request_that_was_lost_stays_sent_when_there_is_no_fresh_connection(client: Http1Client) -> None:
    """The server dies with the second request: the caller must not take it for one that was never sent."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(ok())
        await peer.request()
        listener.close()
        peer.reset()

    async with raw_server(script) as server:
        listener = server.listener
        endpoint = at(server.port)
        await call(client, endpoint, repeatable=True)
        with pytest.raises(ConnectionLost) as raised:
            await call(client, endpoint, repeatable=True)
        assert raised.value.sent


async def test_a_request_that_may_not_be_repeated_gets_its_own_connection(client: Http1Client) -> None:
    """An idle connection could be closed by the server under it."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(ok(b"%d" % peer.number))

    async with raw_server(script) as server:
        endpoint = at(server.port)
        assert [await call(client, endpoint) for _ in range(3)] == [b"1", b"2", b"3"]


async def test_connections_to_an_endpoint_are_bounded() -> None:
    """The call over the limit fails at once, unsent, and the others are not disturbed."""
    client = Http1Client(limits=Limits(connections=2))
    proceed = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await proceed.wait()
        await peer.send(ok())

    async with raw_server(script) as server:
        calls = [asyncio.create_task(call(client, at(server.port))) for _ in range(2)]
        await eventually(lambda: len(server.heads) == 2)
        with pytest.raises(TooManyConnections):
            await call(client, at(server.port))
        proceed.set()
        assert await asyncio.gather(*calls) == [b"hello", b"hello"]
    await client.aclose()


@pytest.mark.parametrize("answer", [b"", CHUNKED, CHUNKED + b"1\r\nx\r\n"])
async def test_cancelling_closes_the_connection(client: Http1Client, answer: bytes) -> None:
    """A task that is cancelled before the head, or that aborts the response, closes the connection at once."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        await peer.gone()

    async def reader() -> None:
        response = await client.send(at(server.port), method=b"POST", path=b"/x")
        try:
            await response.read(1000)
        finally:
            response.abort()
            response.abort()

    async with raw_server(script) as server:
        task = asyncio.create_task(reader())
        await eventually(lambda: server.heads)
        task.cancel()
        await asyncio.wait_for(server.gone.wait(), 60)
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_aborting_wakes_a_reader(client: Http1Client) -> None:
    """A reader that waits while somebody else aborts gets an error, not silence."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        await peer.gone()

    async with raw_server(script) as server:
        response = await client.send(at(server.port), method=b"POST", path=b"/x")
        reading = asyncio.create_task(response.receive())
        await asyncio.sleep(0)
        response.abort()
        with pytest.raises(BodyBroken):
            await reading


async def test_an_answer_before_the_whole_request_was_sent_is_taken_and_the_connection_closed(
    client: Http1Client,
) -> None:
    """A server that refuses a large body without reading it is heard; what is left of the body goes nowhere."""

    async def script(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
        await asyncio.Event().wait()

    async with raw_server(script) as server:
        endpoint = at(server.port)
        for number in (1, 2):
            response = await client.send(endpoint, method=b"POST", path=b"/x", body=b"x" * (32 << 20), repeatable=True)
            assert (response.status, await response.read(10)) == (413, b"big")
            assert client.connections()[endpoint.id][1] == 0, "at once, and not when it has been idle for long"
            assert server.connections == number


@pytest.mark.parametrize(
    "options",
    [
        {"path": b"/x HTTP/1.1\r\nevil: 1"},
        {"path": b"/a b"},
        {"headers": [(b"x", b"1\r\nevil: 1")]},
        {"headers": [(b"x", b"1\nevil: 1")]},
        {"headers": [(b"x: 1\r\nevil", b"1")]},
        {"headers": [(b"x", b"\0")]},
    ],
)
async def test_nothing_can_be_smuggled_into_a_request(client: Http1Client, options: dict[str, object]) -> None:
    """A path, name or value that would be more than one line is refused before anything is sent."""
    with pytest.raises(ValueError, match="not allowed"):
        await client.send(at(1), method=b"GET", **{"path": b"/", **options})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a self-made authority (ca.pem) and a certificate of it for engine.test (cert.pem, key.pem)."""
    return make_authority(tmp_path_factory.mktemp("tls"), "engine.test")


async def test_tls_trusts_the_authority_it_was_given_and_no_other(authority: Path) -> None:
    """The same server is believed with its authority, and is a failed connection without it or under another name."""
    serving = serving_context(authority)
    client = Http1Client(tls={"own": context_for_authority(str(authority / "ca.pem"))})

    async def script(peer: Peer) -> None:
        chosen = peer.writer.get_extra_info("ssl_object").selected_alpn_protocol()
        assert chosen == "http/1.1", "we speak nothing else"
        while True:
            await peer.request()
            await peer.send(CHUNKED, b"5\r\nhello\r\n", b"0\r\n\r\n")

    async with raw_server(script, tls=serving) as server:

        def endpoint(tls: str, server_name: str) -> Endpoint:
            return Endpoint(
                id=tls + server_name,
                host="127.0.0.1",
                port=server.port,
                scheme="https",
                server_name=server_name,
                tls=tls,
            )

        good = endpoint("own", "engine.test")
        assert await call(client, good, repeatable=True) == b"hello"
        assert await call(client, good, repeatable=True) == b"hello"
        assert server.connections == 1
        for bad in (endpoint("", "engine.test"), endpoint("own", "other.test")):
            with pytest.raises(ConnectFailed):
                await call(client, bad)
        with pytest.raises(ConnectFailed):
            await call(client, at(free_port()))
    await client.aclose()


async def test_the_systems_authorities_are_trusted_where_no_other_is_named(
    client: Http1Client, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over HTTP/1.1 as well; a name of which there is no context is a bug of ours, and named."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    serving = serving_context(authority)
    chosen: list[str] = []

    async def script(peer: Peer) -> None:
        chosen.append(peer.writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await peer.request()
        await peer.send(ok())

    async with raw_server(script, tls=serving) as server:
        end = Endpoint(id="e", host="127.0.0.1", port=server.port, scheme="https", server_name="engine.test")
        assert await call(client, end) == b"hello"
        assert chosen == ["http/1.1"]
        with pytest.raises(LookupError, match="'missing'"):
            await call(client, replace(end, id="other", tls="missing"))


async def test_tls_to_a_server_that_speaks_plain_http_is_a_failed_connection(client: Http1Client) -> None:
    """A handshake that is answered with something else was not sent."""

    async def script(peer: Peer) -> None:
        await peer.reader.read(10)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with raw_server(script) as server:
        with pytest.raises(ConnectFailed):
            await call(client, Endpoint(id="e", host="127.0.0.1", port=server.port, scheme="https"))
