"""Whatever arrives, nothing breaks: a connection answers what it understands, refuses what it does not, and ends."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.pages.asgi import AsgiHandler
from capstan_gateway.serving.service import path_of
from support.serving import Client, read_answers
from support.virtualtime import run_virtually

FRAGMENTS = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\n", b"HEAD / HTTP/1.0\r\n", b"CONNECT a:1 HTTP/1.1\r\n",
        b"\r\n", b"\n", b"\r", b"\0", b": ", b" ", b"host: x\r\n", b"GET / HTTP/1.1\r\nhost: x\r\n",
        b"POST /x HTTP/1.1\r\nhost: x\r\n", b"HTTP/2.0\r\n", b"content-length: 5\r\n",
        b"content-length: 5\r\n\r\n",
        b"transfer-encoding: chunked\r\n\r\n", b"transfer-encoding: gzip, chunked\r\n", b"connection: close\r\n",
        b"connection: upgrade\r\nupgrade: h2c\r\n", b"expect: 100-continue\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n",
        b"hello", b"ffffffffffffffff\r\n", b"-1\r\n", b"x" * 400, b"x: y\r\n" * 250,
    ]
)  # fmt: skip
GARBAGE = st.lists(FRAGMENTS | st.binary(max_size=12), max_size=12)


async def ignored(scope: object, receive: object, send: object) -> None:
    """An application that answers nothing."""


@given(GARBAGE, st.booleans(), st.booleans())
def test_garbage(pieces: list[bytes], together: bool, pages: bool) -> None:
    """No read raises; there are only whole answers of 2xx and 4xx, a 4xx is the last one; and the connection ends."""

    async def main() -> None:
        client = Client(AsgiHandler(ignored) if pages else None, max_head_bytes=1000)
        for piece in [b"".join(pieces)] if together else pieces:
            client.transport.feed(piece)
            await asyncio.sleep(0)
        await asyncio.sleep(200)
        # A request whose body does not come is the handler's matter; here it has no deadline.
        waits = client.connection._current is not None
        assert waits or client.transport.closed
        client.transport.hang_up()
        await asyncio.sleep(200)
        assert client.transport.closed
        methods = [seen.method for seen in client.seen]
        answers = [one for one in read_answers(bytes(client.transport.sent), *methods) if one.status != 100]
        statuses = [answer.status for answer in answers]
        assert all(status == 200 for status in statuses[:-1])
        assert set(statuses[-1:]) <= {200, 400, 413, 431, 501, 505}
        assert all(answer.complete for answer in answers)
        assert len(statuses) <= len(client.seen) + 1

    run_virtually(main())


@given(st.binary(max_size=40) | st.text("/:?#[]@%*h01").map(str.encode))
def test_any_target_has_a_path_or_none(target: bytes) -> None:
    """Looking for the path of a target never fails."""
    assert isinstance(path_of(target), bytes)
