"""One connection that many calls share: one write per turn, replies in order, one deadline."""

import asyncio
from typing import Any

import hiredis
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.stores import wire
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.wire import Connection, Refused, pack
from support.virtualtime import run_virtually


class FakeTransport(asyncio.Transport):
    """Remembers what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.aborted = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def abort(self) -> None:
        self.aborted = True


def connected(*, seconds: float = 0.05) -> tuple[Connection, FakeTransport]:
    """A connection with nobody behind it."""
    connection, transport = Connection(seconds=seconds), FakeTransport()
    connection.connection_made(transport)
    return connection, transport


async def turns(count: int = 3) -> None:
    """Let the loop go round."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_one_write_per_turn() -> None:
    """Calls of one turn of the loop go out in one write, those of the next in another."""

    async def main() -> None:
        connection, transport = connected()
        first = [connection.call(pack(("GET", str(number)))) for number in range(3)]
        await turns()
        assert transport.writes == [b"".join(pack(("GET", str(number))) for number in range(3))]
        second = connection.call(pack(("PING",)))
        await turns()
        assert len(transport.writes) == 2
        connection.data_received(b"$1\r\na\r\n$1\r\nb\r\n:3\r\n+PONG\r\n")
        assert [await one for one in (*first, second)] == [b"a", b"b", 3, b"PONG"]

    run_virtually(main())


@given(st.lists(st.binary(max_size=20), max_size=6), st.data())
def test_replies_in_pieces(texts: list[bytes], data: st.DataObject) -> None:
    """However the replies are cut, each call gets its own."""
    stream = b"".join(b"*2\r\n$%d\r\n%s\r\n:%d\r\n" % (len(text), text, at) for at, text in enumerate(texts))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))

    async def main() -> None:
        connection, _ = connected()
        calls = [connection.call(pack(("X",))) for _ in texts]
        for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            connection.data_received(stream[begin:end])
        assert [await call for call in calls] == [[text, at] for at, text in enumerate(texts)]

    run_virtually(main())


def test_a_call_that_nobody_waits_for() -> None:
    """The reply of a call that was cancelled is given to no other."""

    async def main() -> None:
        connection, _ = connected()
        gone, stays = connection.call(pack(("GET", "a"))), connection.call(pack(("GET", "b")))
        gone.cancel()
        connection.data_received(b"$1\r\na\r\n-OOM no room\r\n")
        refused = await stays
        assert isinstance(refused, Refused)
        assert refused.kind == "OOM"

    run_virtually(main())


def test_the_deadline() -> None:
    """When the oldest call is late, it and all behind it fail at once, and the connection is closed."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        lost: list[Connection] = []
        connection = Connection(seconds=0.05, on_lost=lost.append)
        transport = FakeTransport()
        connection.connection_made(transport)
        began = loop.time()
        answered = connection.call(pack(("GET", "a")))
        await asyncio.sleep(0.03)
        late = connection.call(pack(("GET", "b")))
        connection.data_received(b"$-1\r\n")
        assert await answered is None
        await asyncio.sleep(0.04)
        younger = connection.call(pack(("GET", "c")))
        assert not late.done()
        assert loop.time() - began < 0.08
        assert isinstance(await late, StoreDown)
        assert isinstance(await younger, StoreDown)
        assert 0.08 <= loop.time() - began <= 0.08 + 2 * wire.GRACE_SECONDS
        assert (transport.aborted, lost) == (True, [connection])
        assert isinstance(await connection.call(pack(("GET", "d"))), StoreDown)

    run_virtually(main())


def test_what_is_no_redis() -> None:
    """Bytes that are no reply, and replies that nobody asked for, end the connection."""

    async def main() -> None:
        for said in (b"HTTP/1.1 400 Bad Request\r\n", b"+PONG\r\n+PONG\r\n"):
            connection, transport = connected()
            call = connection.call(pack(("PING",)))
            connection.data_received(said)
            assert transport.aborted
            assert connection.lost is not None
            assert await call in (b"PONG", connection.lost)

    run_virtually(main())


def test_calls_are_bounded(monkeypatch: Any) -> None:
    """One call more than may wait fails, and sends nothing."""
    monkeypatch.setattr(wire, "MOST_WAITING", 2)

    async def main() -> None:
        connection, transport = connected()
        calls = [connection.call(pack(("PING",))) for _ in range(3)]
        assert isinstance(await calls[2], StoreDown)
        await turns()
        assert transport.writes == [pack(("PING",)) * 2]
        connection.connection_lost(None)
        assert all([isinstance(await call, StoreDown) for call in calls])

    run_virtually(main())


@given(st.lists(st.one_of(st.binary(max_size=30), st.text(max_size=30), st.integers()), min_size=1, max_size=6))
def test_packed(words: list[bytes | str | int]) -> None:
    """What is packed says the words, whatever bytes are in them."""
    reader = hiredis.Reader()
    reader.feed(pack(tuple(words)))
    assert reader.gets() == [word if isinstance(word, bytes) else str(word).encode() for word in words]
