"""However the bytes of requests are split into reads, the same requests are served with the same answers."""

import asyncio
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from support.serving import Client, Seen, read_answers, turns
from support.virtualtime import run_virtually

MAX_HEAD = 300
TOKEN = st.text("abcxyz-", min_size=1, max_size=8).map(str.encode)
VALUE = st.text("abc, ;=", max_size=12).map(lambda value: value.strip().encode())


@dataclass
class Request:
    """One valid request, as bytes and as what they mean."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    chunks: list[int] | None = None
    """How the body is cut; None: it has a length."""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def encode(self) -> bytes:
        """Write it."""
        lines = b"".join(b"%b:%b\r\n" % (name, value) for name, value in self.headers)
        head = b"%b %b HTTP/1.1\r\nhost: x\r\n%b" % (self.method, self.target, lines)
        if self.chunks is None:
            return head + b"content-length: %d\r\n\r\n" % len(self.body) + self.body
        parts, left = [head + b"transfer-encoding: chunked\r\n\r\n"], self.body
        for size in self.chunks:
            piece, left = left[:size], left[size:]
            parts += [b"%X;ext=1\r\n%b\r\n" % (len(piece), piece)] if piece else []
        parts += [b"%x\r\n%b\r\n" % (len(left), left)] if left else []
        return b"".join(parts) + b"0\r\n" + b"".join(b"%b: %b\r\n" % item for item in self.trailers) + b"\r\n"


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Give a valid request."""
    return Request(
        draw(st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS"])),
        draw(st.sampled_from([b"/", b"/a?b=c", b"/stream", b"/stream/x", b"http://host/a%20b", b"/a%2fb"])),
        draw(st.lists(st.tuples(TOKEN.map(lambda name: b"x-" + name), VALUE), max_size=4)),
        draw(st.binary(max_size=20) | st.integers(0, 3000).map(lambda size: b"z" * size)),
        draw(st.none() | st.lists(st.integers(1, 400), max_size=4)),
        draw(st.lists(st.tuples(TOKEN, VALUE), max_size=2)),
    )


def serve(pieces: list[bytes], breaths: list[int]) -> tuple[list[Seen], bytes, bool]:
    """Serve what comes in these reads, with so many turns of the loop between them."""

    async def main() -> tuple[list[Seen], bytes, bool]:
        client = Client(max_head_bytes=MAX_HEAD)
        for piece, breath in zip(pieces, breaths, strict=True):
            client.transport.feed(piece)
            await turns(breath)
        await turns(24)
        ended = client.ended
        client.transport.hang_up()
        await asyncio.sleep(1000)
        assert client.transport.closed
        return client.seen, bytes(client.transport.sent), ended

    return run_virtually(main())


@given(st.lists(requests(), min_size=1, max_size=4), st.booleans(), st.data())
def test_any_splitting_is_as_good_as_none(given: list[Request], last: bool, data: st.DataObject) -> None:
    """Requests, bodies, answers and the end are those of the bytes in one piece, and those that were meant."""
    if last:
        given[-1].headers.append((b"connection", b"close"))
    whole = b"".join(request.encode() for request in given)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=8), label="cuts"))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    breaths = data.draw(st.lists(st.integers(0, 3), min_size=len(pieces), max_size=len(pieces)), label="breaths")

    seen, sent, ended = serve(pieces, breaths)

    assert (seen, sent, ended) == serve([whole], [0])
    assert [(one.method, one.target, one.body) for one in seen] == [
        (request.method, request.target, request.body) for request in given
    ]
    for one, request in zip(seen, given, strict=True):
        assert [header for header in one.headers if header[0].startswith(b"x-")] == [
            header for header in request.headers if header[0].startswith(b"x-")
        ]
    answers = read_answers(sent, *[request.method for request in given])
    assert [(answer.status, answer.complete) for answer in answers] == [(200, True)] * len(given)
    assert ended is last


@given(st.lists(requests(), min_size=1, max_size=2))
def test_byte_by_byte(given: list[Request]) -> None:
    """The slowest client of all is served like any other."""
    for request in given:
        request.body = request.body[:40]
    whole = b"".join(request.encode() for request in given)
    assert serve([bytes([byte]) for byte in whole], [0] * len(whole)) == serve([whole], [0])
