"""A connection to an upstream, on a transport in the test's hands."""

import asyncio
from typing import Any

import pytest

from capstan_gateway.upstream.connection import JOIN_BYTES, Connection
from capstan_gateway.upstream.limits import DEFAULT

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Transport(asyncio.Transport):
    """Takes what is written, and says how much of it is not sent yet."""

    def __init__(self, unsent: int = 0) -> None:
        super().__init__()
        self.unsent = unsent
        self.aborted = False

    def write(self, data: Any) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.aborted = True


class Owner:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def on_open(self, connection: Connection) -> None:
        self.told.append("open")

    def on_idle(self, connection: Connection) -> None:
        self.told.append("idle")

    def on_closed(self, connection: Connection) -> None:
        self.told.append("closed")


@pytest.mark.parametrize("size", [0, 1, JOIN_BYTES, JOIN_BYTES + 1, 1 << 20])
@pytest.mark.parametrize("unsent", [0, 1])
async def test_a_connection_whose_request_was_not_sent_completely_is_not_reused(size: int, unsent: int) -> None:
    """Not a byte of one request may follow on the wire when the next one begins, however large the request is."""
    owner, transport = Owner(), Transport(unsent)
    connection = Connection("e", DEFAULT, owner)
    connection.connection_made(transport)
    response = connection.start(
        b"POST / HTTP/1.1\r\n\r\n", b"x" * size, first_byte_at=1e9, idle_seconds=1.0, expires_at=1e9, head_only=False
    )
    connection.data_received(ANSWER)
    assert await response.read(10) == b"ok", "the answer stands"
    assert owner.told == ["open", *([] if unsent else ["idle"])]
    assert connection.usable is not bool(unsent)
    assert transport.aborted is bool(unsent)


async def test_a_connection_that_was_given_up_before_it_was_made_is_closed_when_it_is_made() -> None:
    """Whoever was cancelled meanwhile leaves nothing open behind."""
    owner, transport = Owner(), Transport()
    connection = Connection("e", DEFAULT, owner)
    connection.abort()
    connection.connection_made(transport)
    assert transport.aborted
    assert not connection.usable
    connection.connection_lost(None)
    assert owner.told == ["closed"]
