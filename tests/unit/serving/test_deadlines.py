"""What a connection waits for, and how long."""

import asyncio

import pytest

from capstan_gateway.serving.client_connection import HEAD_SECONDS
from capstan_gateway.serving.exchange import Exchange
from capstan_gateway.serving.service import ServingLimits
from capstan_gateway.serving.wire import DISCARD_SECONDS, LINGER_SECONDS, PROGRESS_BYTES, REST_RATE, REST_SECONDS
from support.serving import Client, turns
from support.virtualtime import run_virtually

KEEP_ALIVE_SECONDS = ServingLimits(max_head_bytes=1, max_connections=1).keep_alive_seconds

GET = b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n"


async def seconds_until_end(client: Client) -> float:
    """Give how long it takes until the connection is gone."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not client.transport.closed:
        await asyncio.sleep(0.5)
        assert loop.time() < began + 1000
    return loop.time() - began


@pytest.mark.parametrize("sent", [b"", b"GET /x HT", b"\r\n"])
def test_a_first_head_has_a_deadline(sent: bytes) -> None:
    """A connection that does not say what it wants is closed, whether it says nothing or half of it."""

    async def main() -> None:
        client = Client()
        if sent:
            await client.say(sent)
        assert await seconds_until_end(client) == pytest.approx(HEAD_SECONDS, abs=1)
        assert client.transport.sent == b""

    run_virtually(main())


def test_a_head_in_drops_has_one_deadline() -> None:
    """Sending on does not move the deadline of a head."""

    async def main() -> None:
        client = Client()
        client.transport.feed(b"GET /")
        for _ in range(int(HEAD_SECONDS) - 1):
            await asyncio.sleep(1)
            client.transport.feed(b"x")
        assert not client.transport.closed
        await asyncio.sleep(2)
        assert client.transport.closed
        assert client.transport.sent == b""

    run_virtually(main())


def test_idle_connections_are_closed() -> None:
    """Between two requests a connection may be idle for a while, counted from the last answer."""

    async def main() -> None:
        client = Client()
        for _ in range(3):
            await client.say(GET)
            await asyncio.sleep(KEEP_ALIVE_SECONDS - 5)
        assert client.statuses == [200] * 3
        assert await seconds_until_end(client) == pytest.approx(5, abs=1)

    run_virtually(main())


@pytest.mark.parametrize("sent", [b"GET", b"\r\n"])
def test_a_later_head_has_a_deadline(sent: bytes) -> None:
    """Once something comes behind an answer, the head must be there in time, although the idle time would be longer."""

    async def main() -> None:
        client = Client()
        await client.say(GET)
        await asyncio.sleep(1)
        await client.say(sent)
        assert await seconds_until_end(client) == pytest.approx(HEAD_SECONDS, abs=1)

    run_virtually(main())


def test_a_head_behind_an_answer_that_was_read_late_has_a_deadline() -> None:
    """Once its client has read it, the connection is idle like another: what comes then must come in time."""

    async def main() -> None:
        client = Client()
        client.transport.stuck = True
        await client.say(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n" + b"x" * 100_000)
        await asyncio.sleep(5)
        client.transport.unstick()
        await asyncio.sleep(10)
        await client.say(b"GET")
        assert await seconds_until_end(client) == pytest.approx(HEAD_SECONDS, abs=1)

    run_virtually(main())


def test_a_connection_is_idle_behind_a_body_that_was_awaited() -> None:
    """It is closed in time: nobody looks any more how fast that body comes."""

    async def main() -> None:
        client = Client()
        await client.say(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 10000\r\n\r\n")
        await asyncio.sleep(1)
        await client.say(b"x" * 10_000)
        assert client.statuses == [200]
        assert await seconds_until_end(client) == pytest.approx(KEEP_ALIVE_SECONDS, abs=1)

    run_virtually(main())


def test_an_answer_has_no_deadline_here(caplog: pytest.LogCaptureFixture) -> None:
    """How long an answer may take is the handler's matter; the idle time begins behind it."""

    async def main() -> None:
        async def slow(exchange: Exchange) -> None:
            await asyncio.sleep(1000)
            await client.echo(exchange)

        client = Client(slow)
        await client.say(GET)
        await asyncio.sleep(1001)
        assert client.statuses == [200]
        assert await seconds_until_end(client) == pytest.approx(KEEP_ALIVE_SECONDS, abs=2)

    run_virtually(main())
    assert not caplog.records, "no timer fails"


def test_half_a_head_behind_a_pipeline_ends_it_behind_its_answers() -> None:
    """The deadline of a pipelined head costs none of the requests before it their answers."""

    async def main() -> None:
        async def slow(exchange: Exchange) -> None:
            await asyncio.sleep(100)
            await client.echo(exchange)

        client = Client(slow)
        await client.say(GET + GET + GET[:9])
        await seconds_until_end(client)
        assert client.statuses == [200, 200]

    run_virtually(main())


def test_half_a_head_behind_a_request_ends_it_behind_its_answer() -> None:
    """As behind several: the answer is given, says that the connection ends, and is the last."""

    async def main() -> None:
        async def slow(exchange: Exchange) -> None:
            await asyncio.sleep(100)
            await client.echo(exchange)

        client = Client(slow)
        await client.say(GET + GET[:9])
        await seconds_until_end(client)
        assert client.statuses == [200]
        assert b"connection: close\r\n" in client.transport.sent

    run_virtually(main())


def test_a_client_that_reads_nothing_is_not_waited_for() -> None:
    """An answer that nobody takes keeps the connection for the time for writing, not for ever, and is counted."""

    async def main() -> None:
        client = Client()
        client.transport.stuck = True
        await client.say(GET)
        await client.say(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n" + b"x" * 100_000)
        counted: list[str] = []
        client.service.on_cut_off = counted.append
        assert await seconds_until_end(client) == pytest.approx(client.service.limits.write_seconds, abs=2)
        assert counted == ["not_reading"]

    run_virtually(main())


def test_a_client_that_reads_slowly_gets_all() -> None:
    """A connection that is to be closed stays as long as its client takes something of what it is to get."""

    async def main() -> None:
        body = b"x" * 1000
        client = Client()
        client.transport.stuck = True
        await client.say(b"POST /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1000\r\n\r\n" + body)
        for _ in range(5):
            await asyncio.sleep(LINGER_SECONDS - 1)
            assert not client.transport.closed
            client.transport.take(100)
        client.transport.unstick()
        await turns()
        assert client.transport.sent.endswith(body)

    run_virtually(main())


def test_an_upload_is_not_thrown_away_for_ever() -> None:
    """Behind the last answer a client may send on for a moment; then the connection is closed."""

    async def main() -> None:
        async def refuse(exchange: Exchange) -> None:
            exchange.respond(413, b"content-length: 0\r\n", b"")

        client = Client(refuse)
        await client.say(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
        for _ in range(int(DISCARD_SECONDS) + 1):
            client.transport.feed(b"x" * 1000)
            await asyncio.sleep(1)
        assert client.transport.closed

    run_virtually(main())


def test_a_closed_connection_leaves_no_timer() -> None:
    """Nothing keeps a connection that is gone, also not one whose answer was late."""

    async def main() -> None:
        late = asyncio.Event()

        async def slow(exchange: Exchange) -> None:
            await late.wait()
            await exchange.read_body(10) if not exchange.gone else None
            exchange.respond(200, b"content-length: 0\r\n", b"")

        for client in (Client(), Client(slow)):
            await client.say(GET)
            client.transport.hang_up()
            await turns()
            assert client.transport.closed
        late.set()
        await turns()
        scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        assert [timer for timer in scheduled if not timer.cancelled()] == []

    run_virtually(main())


def test_the_timer_moves_lazily(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that follow each other closely set no timer each: the one that is there looks again."""

    async def main() -> None:
        loop, count = asyncio.get_running_loop(), 0
        call_at = loop.call_at

        def counted(*given: object, **more: object) -> asyncio.TimerHandle:
            nonlocal count
            count += 1
            return call_at(*given, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "call_at", counted)
        client = Client()
        for _ in range(100):
            await client.say(GET)
        assert client.statuses == [200] * 100
        assert count <= 2

    run_virtually(main())


def test_half_a_head_behind_an_unread_answer_has_a_deadline() -> None:
    """Also a client that reads late what it was sent must end the head that it has begun."""

    async def main() -> None:
        client = Client()
        client.transport.stuck = True
        large = b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n" + b"x" * 100_000
        await client.say(large + GET + GET[:9])
        client.transport.unstick()
        assert await seconds_until_end(client) == pytest.approx(HEAD_SECONDS, abs=1)
        assert client.transport.sent.count(b"HTTP/1.1 200 ") == 2

    run_virtually(main())


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_must_take_something(stream: bool) -> None:
    """A client that takes a part of what waits within the time for writing keeps its connection; else it is cut off."""

    async def main() -> None:
        async def flood(exchange: Exchange) -> None:
            if stream:
                exchange.start(200, b"", b"x" * 1_000_000)
                await exchange.drained()
                exchange.finish()
            else:
                exchange.respond(200, b"content-length: 1000000\r\n", b"x" * 1_000_000)

        client = Client(flood, write_seconds=20)
        client.transport.stuck = True
        await client.say(GET)
        for _ in range(5 if stream else 3):
            await asyncio.sleep(19)
            client.transport.take(PROGRESS_BYTES)
        assert not client.transport.closed
        client.transport.take(PROGRESS_BYTES - 1)
        assert await seconds_until_end(client) <= 41

    run_virtually(main())


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_a_whole_answer_is_not_held_for_ever(stream: bool, closes: bool) -> None:
    """However steadily a client takes a little of it: an answer that is there to its end has a least rate."""
    size = 10_000_000

    async def main() -> None:
        async def flood(exchange: Exchange) -> None:
            if stream:
                exchange.start(200, b"", b"")
                exchange.finish(b"x" * size)
            else:
                exchange.respond(200, b"content-length: %d\r\n" % size, b"x" * size)

        client = Client(flood, write_seconds=20)
        counted: list[str] = []
        client.service.on_cut_off = counted.append
        client.transport.stuck = True
        await client.say(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n") if closes else GET)
        began = asyncio.get_running_loop().time()
        while not client.transport.closed:
            await asyncio.sleep(5)
            client.transport.take(PROGRESS_BYTES)
            seconds = asyncio.get_running_loop().time() - began
            assert seconds < 1000
        assert REST_SECONDS + size / REST_RATE <= seconds <= REST_SECONDS + size / REST_RATE + 30
        if not closes:
            assert counted == ["not_reading"]

    run_virtually(main())


def test_who_takes_a_whole_answer_at_the_rate_gets_it() -> None:
    """A slow client is served, also when it takes minutes."""
    size = 30_000_000

    async def main() -> None:
        async def flood(exchange: Exchange) -> None:
            exchange.respond(200, b"content-length: %d\r\n" % size, b"x" * size)

        client = Client(flood, write_seconds=20)
        client.transport.stuck = True
        await client.say(GET)
        for _ in range(size // REST_RATE // 5):
            await asyncio.sleep(5)
            client.transport.take(5 * REST_RATE)
            assert not client.transport.closed
        client.transport.unstick()
        await turns()
        assert client.transport.sent.endswith(b"x" * 1000)
        await client.say(GET)
        assert not client.transport.closed

    run_virtually(main())
