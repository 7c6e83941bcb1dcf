"""How many writes an answer takes: each of them is a system call, and a packet."""

import pytest

from capstan_gateway.serving.exchange import Exchange
from support.serving import Client, FakeTransport

HEAD = b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("request_head", "body", "ends"),
    [(HEAD, b"5\r\nhello\r\n0\r\n\r\n", False), (HEAD.replace(b"1.1", b"1.0"), b"\r\nhello", True)],
    ids=["chunks", "to the end of the connection"],
)
async def test_a_stream_that_is_all_there_leaves_in_one_write(
    request_head: bytes, body: bytes, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Head, pieces and end go out together, as they do of an answer in one piece; the connection goes on behind it."""
    writes: list[bytes] = []
    write = FakeTransport.write
    monkeypatch.setattr(FakeTransport, "write", lambda self, data: writes.append(data) or write(self, data))

    async def handler(exchange: Exchange) -> None:
        exchange.start(200, b"x: y\r\n", b"hello", last=True)
        assert exchange.complete

    client = Client(handler)
    await client.say(request_head)
    assert len(writes) == 1
    assert writes[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert writes[0].endswith(body)
    assert client.ended is ends
    if not ends:
        await client.say(request_head)
        assert client.statuses == [200, 200]
