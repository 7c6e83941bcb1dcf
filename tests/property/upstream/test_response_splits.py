"""How a response is cut into reads changes nothing about it."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from capstan_gateway.upstream.connection import Connection
from capstan_gateway.upstream.errors import UpstreamError
from capstan_gateway.upstream.limits import Limits


class Wire(asyncio.Transport):
    """A transport whose other end is the test."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.sent = b""
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += bytes(data)

    def abort(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return 0


class Owner:
    """Counts what a connection says of itself."""

    def __init__(self) -> None:
        self.idle = 0

    def on_open(self, connection: Connection) -> None:
        pass

    def on_idle(self, connection: Connection) -> None:
        self.idle += 1

    def on_closed(self, connection: Connection) -> None:
        pass


Outcome = tuple[int, list[tuple[bytes, bytes]], bytes, str, bool]


async def outcome(reads: Sequence[bytes], limits: Limits) -> Outcome:
    """Feed the reads and then the end of the connection; tell everything that a caller can see."""
    owner, wire = Owner(), Wire()
    connection = Connection("e", limits, owner)
    connection.connection_made(wire)
    response = connection.start(
        b"GET / HTTP/1.1\r\n\r\n", b"", first_byte_at=1e9, idle_seconds=1e9, expires_at=1e9, head_only=False
    )
    for read in reads:
        if wire.closed or not connection._response:
            break
        connection.data_received(read)
    reused = bool(owner.idle)
    if not reused and not wire.closed:
        connection.eof_received()
        connection.connection_lost(None)
    error, body = "", b""
    try:
        while not response.status:
            await response.arrival()
        while piece := await response.receive():
            body += piece
    except UpstreamError as failure:
        error = type(failure).__name__
    connection.abort()
    return response.status, response.headers, body, error, reused


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut at these places; no part is empty."""
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if end > start]


def chunked(body: bytes, sizes: Sequence[int]) -> bytes:
    """Frame a body in chunks, with extensions and a trailer."""
    framed = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in cut(body, sizes))
    return framed + b"0\r\nx-trailer: t\r\n\r\n"


BODIES = st.binary(max_size=300)
HEADS = st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n"])
PLACES = st.lists(st.integers(0, 2000), max_size=12)


@st.composite
def responses(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A response in some valid framing, and its body."""
    body = draw(BODIES)
    informational = draw(HEADS)
    head = b"HTTP/1.1 200 OK\r\nX-One: 1\r\nx-empty:\r\n"
    framing = draw(st.sampled_from(["length", "chunked", "end", "close"]))
    if framing == "length":
        return informational + head + b"content-length: %d\r\n\r\n" % len(body) + body, body
    if framing == "chunked":
        return informational + head + b"transfer-encoding: chunked\r\n\r\n" + chunked(body, draw(PLACES)), body
    if framing == "end":
        return informational + head + b"\r\n" + body, body
    return informational + head + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body) + body, body


@given(response=responses(), places=PLACES)
def test_a_response_is_the_same_however_it_is_split(response: tuple[bytes, bytes], places: list[int]) -> None:
    """Status, headers, body and whether the connection is kept depend on the bytes only."""
    data, body = response
    limits = Limits()
    whole = asyncio.run(outcome([data], limits))
    assert (whole[0], whole[2], whole[3]) == (200, body, "")
    assert asyncio.run(outcome(cut(data, places), limits)) == whole


def test_a_response_is_the_same_split_at_every_single_byte() -> None:
    """One read per byte, and two reads split at every offset."""
    data = b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nA:  b \r\ntransfer-encoding: chunked\r\n\r\n"
    data += b"5\r\nhello\r\n6;x\r\n world\r\n0\r\nt: u\r\n\r\n"

    async def run() -> None:
        expected = (200, [(b"a", b"b"), (b"transfer-encoding", b"chunked")], b"hello world", "", True)
        assert await outcome([data[at : at + 1] for at in range(len(data))], Limits()) == expected
        for at in range(1, len(data)):
            assert await outcome([data[:at], data[at:]], Limits()) == expected

    asyncio.run(run())


def test_a_response_cut_short_at_every_byte_is_an_error() -> None:
    """No prefix of a framed response passes for the whole: the error says whether the head had come."""
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    data = head + b"5\r\nhello\r\n0\r\n\r\n"

    async def run() -> None:
        for at in range(len(data)):
            status, _, body, error, reused = await outcome([data[:at]] if at else [], Limits())
            assert error == ("BodyBroken" if at >= len(head) else "ConnectionLost")
            assert (status, reused) == (200 if at >= len(head) else 0, False)
            assert b"hello".startswith(body)

    asyncio.run(run())


@settings(max_examples=300)
@given(junk=st.binary(max_size=200), places=PLACES, prefix=st.sampled_from([b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n"]))
def test_junk_never_does_more_than_fail(junk: bytes, places: list[int], prefix: bytes) -> None:
    """Whatever a server sends, the caller gets a response or an UpstreamError."""
    status, _, _, error, _ = asyncio.run(outcome(cut(prefix + junk, places), Limits()))
    assert status or error
