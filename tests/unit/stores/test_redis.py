"""The client of Redis before servers that do what no Redis does."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest

from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.redis import MOST_CONNECTIONS, RedisStore
from support.wait import eventually

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def store_before(serve: Serve, *, seconds: float) -> AsyncIterator[RedisStore]:
    """A store whose Redis is this function, for each connection."""
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def session() -> None:
            try:
                await serve(reader, writer)
            except ConnectionError:
                pass  # The store has had enough.
            finally:
                writer.close()

        task = asyncio.create_task(session())
        tasks.add(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = RedisStore(f"redis://127.0.0.1:{port}", seconds=seconds, rng=Random(1))  # noqa: S311
    try:
        yield store
    finally:
        await store.aclose()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def commands(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Give the names of the commands that come."""
    while piece := await reader.read(65536):
        for found in re.finditer(rb"\*\d+\r\n\$\d+\r\n([A-Za-z]+)\r\n", piece):
            yield found.group(1).upper()


async def test_an_answer_that_never_ends_has_an_end() -> None:
    """A server that sends a byte now and then, for ever, costs the deadline of one call and no more."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for name in commands(reader):
            if name != b"HMGET":
                writer.write(b"+OK\r\n")
                continue
            writer.write(b"*1\r\n$100000000\r\n")
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.01)

    async with store_before(drip, seconds=0.5) as store, asyncio.timeout(60):
        with pytest.raises(StoreDown):
            await store.read("k", ["f"])
        assert store.failure == "TimeoutError"


async def test_a_connection_that_is_lost_in_the_middle_is_made_anew_once() -> None:
    """A call whose connection is lost before its answer is asked again on another one; a second loss is a failure."""
    asked = 0
    losses = 1

    async def lose(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        async for name in commands(reader):
            if name == b"HMGET":
                asked += 1
                if asked <= losses:
                    return
            writer.write(b"*1\r\n$1\r\nv\r\n" if name == b"HMGET" else b"+OK\r\n")

    async with store_before(lose, seconds=30) as store:
        assert await store.read("k", ["f"]) == [b"v"]
        assert (asked, store.failure) == (2, None)
    asked, losses = 0, 2
    async with store_before(lose, seconds=30) as store:
        with pytest.raises(StoreDown):
            await store.read("k", ["f"])
        assert (asked, store.failure) == (2, "ConnectionError")


async def test_what_is_refused_is_told_from_silence(caplog: pytest.LogCaptureFixture) -> None:
    """Refused scripts are noted until one is taken, whatever else is answered; each change is logged once."""
    refuses = True

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for name in commands(reader):
            if name == b"EVALSHA":
                writer.write(b"-OOM command not allowed\r\n" if refuses else b":1\r\n")
            else:
                writer.write(b"*1\r\n$-1\r\n" if name == b"HMGET" else b"+OK\r\n")

    caplog.set_level("INFO", logger="capstan_gateway.stores.redis")
    async with store_before(refuse, seconds=30) as store:
        for _ in range(2):
            with pytest.raises(StoreDown, match="Redis refused: OutOfMemoryError"):
                await store.run_script("return 1", ["k"], ["secret"])
            assert await store.read("k", ["f"]) == [None]
            assert store.failure == "OutOfMemoryError"
        refuses = False
        assert await store.run_script("return 1", ["k"], []) == 1
        assert store.failure is None
    assert [record.message for record in caplog.records] == ["Redis refuses calls", "Redis answers again"]
    assert "secret" not in caplog.text


async def test_so_many_connections_and_no_more() -> None:
    """However many calls there are at once, the rest of them waits for the connections that there may be."""
    connections = 0

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        async for name in commands(reader):
            if name != b"HMGET":
                writer.write(b"+OK\r\n")

    async with store_before(hang, seconds=60) as store:
        calls = [asyncio.create_task(store.read("k", ["f"])) for _ in range(MOST_CONNECTIONS + 20)]
        await eventually(lambda: connections >= MOST_CONNECTIONS, every=0.01, what="the connections")
        await asyncio.sleep(0.05)
        assert connections == MOST_CONNECTIONS
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def test_a_late_answer_is_nobody_elses(caplog: pytest.LogCaptureFixture) -> None:
    """What is answered after its call has given up goes to no other call; that nothing answered is said once."""
    late = asyncio.Event()
    asked = 0

    async def answer_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        async for name in commands(reader):
            if name != b"HMGET":
                writer.write(b"+OK\r\n")
                continue
            asked += 1
            number = asked
            if number < 3:
                await late.wait()
            writer.write(b"*1\r\n$1\r\n%d\r\n" % number)

    caplog.set_level("INFO", logger="capstan_gateway.stores.redis")
    async with store_before(answer_late, seconds=0.3) as store:
        for _ in range(2):
            with pytest.raises(StoreDown, match="Redis did not answer: TimeoutError"):
                await store.read("k", ["f"])
        assert store.failure == "TimeoutError"
        late.set()
        assert await eventually(lambda: _read(store), what="an answer") == [b"%d" % asked]
        assert store.failure is None
    assert [record.message for record in caplog.records] == ["Redis does not answer", "Redis answers again"]


async def _read(store: RedisStore) -> list[bytes | None] | None:
    try:
        return await store.read("k", ["f"])
    except StoreDown:
        return None
