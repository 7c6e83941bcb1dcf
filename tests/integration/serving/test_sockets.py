"""The server on real sockets, under both event loops: what no fake of a transport can show."""

import asyncio
import gc
import socket
import struct
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from capstan_gateway.serving import wire
from capstan_gateway.serving.exchange import HIGH_WATER, Exchange
from capstan_gateway.serving.listener import Listener
from capstan_gateway.serving.service import Handler, Service, ServingLimits
from support.ports import free_port
from support.serving import read_answers
from support.wait import eventually

GET = b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n"
BYE = b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Run a coroutine on a loop of each kind."""
    with asyncio.Runner(loop_factory=request.param) as runner:

        def bounded(main: Coroutine[Any, Any, None]) -> None:
            runner.run(asyncio.wait_for(main, 60))

        yield bounded


class Server:
    """A listener with the handler of a test."""

    def __init__(self, listener: Listener, port: int) -> None:
        self.listener = listener
        self.port = port

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def say(self, *pieces: bytes) -> bytes:
        """Send the pieces on a connection of their own, and give all that is said until it ends."""
        reader, writer = await self.connect()
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        said = await reader.read(-1)
        writer.close()
        return said


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[Server]:
    """Serve until the block ends; see that no connection is left then."""
    port = free_port()
    listener = Listener(Service({}, handler, ServingLimits(max_head_bytes=4000, max_connections=10)))
    await listener.listen("127.0.0.1", port)
    try:
        yield Server(listener, port)
    finally:
        await listener.close(grace_seconds=5)
    assert not listener.service.connections


async def echo(exchange: Exchange) -> None:
    """Answer with the body."""
    body = await exchange.read_body(10_000_000)
    exchange.respond(200, b"content-length: %d\r\n" % len(body), body)


def post(body: bytes, *lines: bytes) -> bytes:
    """Give a whole request."""
    head = b"".join(line + b"\r\n" for line in lines)
    return b"POST /x HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def test_requests_one_by_one_and_all_at_once(run: Run) -> None:
    """Pipelined requests with large and small bodies are answered in order, and the last one ends the connection."""

    async def main() -> None:
        async with serving(echo) as server:
            bodies = [b"a" * 300_000, b"", b"b" * 70_000, b"c"]
            said = await server.say(b"".join(map(post, bodies)) + BYE + GET)
            answers = read_answers(said)
            assert [answer.body for answer in answers] == [*bodies, b""]
            assert answers[-1].headers["connection"] == "close"

    run(main())


def test_an_upload_that_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends all of its body before it reads gets the refusal nevertheless, and no reset."""

    monkeypatch.setattr(wire, "DISCARD_SECONDS", 60.0)

    async def main() -> None:
        async def refuse(exchange: Exchange) -> None:
            exchange.respond(413, b"content-length: 2\r\n", b"no")

        async with serving(refuse) as server:
            said = await server.say(post(b"z" * 3_000_000))
            assert [(answer.status, answer.body) for answer in read_answers(said)] == [(413, b"no")]

    run(main())


@pytest.mark.parametrize("size", [10, HIGH_WATER * 3])
@pytest.mark.parametrize("leave", [reset, lambda writer: writer.close(), lambda writer: writer.write_eof()])
def test_a_client_that_leaves(run: Run, size: int, leave: Callable[[asyncio.StreamWriter], None]) -> None:
    """However a client goes, and whatever it had sent, its handler hears of it at once."""

    async def main() -> None:
        got, gone = asyncio.Event(), asyncio.Event()

        async def wait(exchange: Exchange) -> None:
            exchange.on_gone = gone.set
            await exchange.read_body(10_000_000)
            got.set()
            await gone.wait()

        async with serving(wait) as server:
            _, writer = await server.connect()
            writer.write(post(b"z" * size))
            await got.wait()
            leave(writer)
            await gone.wait()
            writer.close()

    run(main())


def test_a_client_that_leaves_within_its_body(run: Run) -> None:
    """A body that will never be whole ends its request."""

    async def main() -> None:
        ended = asyncio.Event()

        async def wait(exchange: Exchange) -> None:
            try:
                await echo(exchange)
            finally:
                ended.set()

        async with serving(wait) as server:
            _, writer = await server.connect()
            writer.write(post(b"hello")[:-1])
            await eventually(lambda: len(server.listener.service.connections) == 1, what="the connection")
            writer.close()
            await ended.wait()

    run(main())


def test_a_client_that_does_not_read(run: Run) -> None:
    """A stream waits for its client to read, and goes on when it does; nothing is lost."""

    async def main() -> None:
        pauses = 0

        async def flood(exchange: Exchange) -> None:
            nonlocal pauses
            exchange.start(200, b"", b"")
            for _ in range(200):
                exchange.write(b"x" * 100_000)
                if exchange.paused:
                    pauses += 1
                    await exchange.drained()
            exchange.finish()

        async with serving(flood) as server:
            reader, writer = await server.connect()
            writer.write(GET)
            await eventually(lambda: pauses > 0, what="a pause")
            size = 0
            async with asyncio.timeout(60):
                while not (piece := await reader.read(1_000_000)).endswith(b"0\r\n\r\n"):
                    size += len(piece)
            assert size + len(piece) > 200 * 100_000
            writer.close()

    run(main())


def test_a_client_that_asks_and_asks(run: Run) -> None:
    """A client that sends request after request and reads no answer is read no further; when it reads, all come."""

    async def main() -> None:
        served = 0

        async def large(exchange: Exchange) -> None:
            nonlocal served
            served += 1
            exchange.respond(200, b"content-length: 1000000\r\n", b"x" * 1_000_000)

        async with serving(large) as server:
            reader, writer = await server.connect()
            writer.write(GET * 59 + BYE)
            await eventually(lambda: served > 0, what="the first answer")
            for _ in range(5):
                # A connection of its own, served meanwhile, shows that the loop has gone round.
                await server.say(BYE)
            assert served < 60
            said = 0
            while piece := await reader.read(1_000_000):
                said += len(piece)
            assert served == 65
            assert said > 60 * 1_000_000
            writer.close()

    run(main())


def test_nonsense_and_uploads_while_closing(run: Run) -> None:
    """Reading, pausing and writing on connections that are closing is no error in either loop."""

    async def main() -> None:
        problems: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))

        async def refuse(exchange: Exchange) -> None:
            exchange.respond(404, b"content-length: 0\r\n", b"")

        async with serving(refuse) as server:
            upgrade = post(b"x", b"connection: upgrade", b"upgrade: h2c")
            for pieces in (
                [GET * 500 + b"\0", b"z" * 100_000],
                [BYE + GET * 500],
                [b"\0" * 300_000],
                [post(b"z" * 500_000) + GET * 9],
                [post(b"z" * 100_000)[:-1], b"zz", GET],
                [b"GET /x HTTP/1.1\r\nx: " + b"y" * 300_000, b"\r\n\r\n"],
                [upgrade + upgrade],
            ):
                _, writer = await server.connect()
                for piece in pieces:
                    writer.write(piece)
                writer.write_eof()
                await eventually(lambda: not server.listener.service.connections, every=0.005, what="the end")
                writer.close()
        assert problems == []

    run(main())


def test_nothing_is_left_for_the_garbage_collector(run: Run) -> None:
    """Connections and requests are freed as soon as they are over, on real transports as well."""

    async def main() -> None:
        async with serving(echo) as server:
            await server.say(post(b"z" * 100_000), BYE)
            gc.collect()
            gc.disable()
            gc.set_debug(gc.DEBUG_SAVEALL)
            try:
                await server.say(post(b"z" * 100_000), BYE)
                await server.say(GET + b"nonsense\0")
                await eventually(lambda: not server.listener.service.connections, every=0.005, what="the end")
                gc.collect()
                kinds = [type(item).__module__ for item in gc.garbage]
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
            assert [kind for kind in kinds if kind.startswith("capstan_gateway")] == []

    run(main())


def test_it_listens_where_it_was_told_and_nowhere_else(run: Run) -> None:
    """On one address, so that what is meant for this machine alone is not open to others."""

    async def main() -> None:
        listener = Listener(Service({}, echo, ServingLimits(max_head_bytes=4000, max_connections=10)))
        await listener.listen("127.0.0.1", 0)
        assert listener._server is not None
        assert {bound.getsockname()[0] for bound in listener._server.sockets} == {"127.0.0.1"}
        await listener.close(grace_seconds=1)

    run(main())
