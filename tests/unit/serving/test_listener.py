"""A listener: who serves what, and how it ends."""

import asyncio

import pytest

from capstan_gateway.memory import MemoryBudget
from capstan_gateway.serving.exchange import Exchange
from capstan_gateway.serving.listener import CANCEL_SECONDS
from capstan_gateway.serving.service import MEMORY_BYTES, Handler, Service, ServingLimits, path_of
from capstan_gateway.serving.turned_away import TurnedAway
from support.serving import Client, turns
from support.virtualtime import run_virtually

GET = b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n"


def answering(text: bytes) -> Handler:
    """Give a handler that says who it is."""

    async def handler(exchange: Exchange) -> None:
        exchange.respond(200, b"content-length: %d\r\n" % len(text), text)

    return handler


@pytest.mark.parametrize(
    ("target", "served_by"),
    [
        (b"/v1/x", b"x"),
        (b"/v1/x?a=b", b"x"),
        (b"http://host:80/v1/x?a=b", b"x"),
        (b"/v1/%78", b"other"),
        (b"/v1%2fx", b"other"),
        (b"/v1/x/", b"other"),
        (b"//v1/x", b"other"),
        (b"/v1/x%3Fa", b"other"),
        (b"/v1/%ff", b"other"),
        (b"/", b"other"),
    ],
)
async def test_handlers_are_found_by_path(target: bytes, served_by: bytes) -> None:
    """The path alone says who serves, as it came: its escapes are not undone, and the query counts for nothing."""
    client = Client(answering(b"other"), handlers={b"/v1/x": answering(b"x")})
    said = await client.say(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % target)
    assert said.endswith(b"\r\n\r\n" + served_by)


@pytest.mark.parametrize("target", [b"", b"host:443", b"http://h", b"http://[::1", b"http://h:99999999/x", b"?x"])
def test_a_target_without_a_path(target: bytes) -> None:
    """What is no URL has no path, and is no error."""
    assert path_of(target) == b""


def test_closing_waits_for_answers_only() -> None:
    """Idle connections are closed at once, busy ones behind all answers that they owe; then closing is over."""

    async def main() -> None:
        async def slow(exchange: Exchange) -> None:
            await asyncio.sleep(10)
            await busy.echo(exchange)

        busy = Client(slow)
        idle, half = Client(listener=busy.listener), Client(listener=busy.listener)
        await half.say(GET[:10])
        await busy.say(GET + GET)
        began = asyncio.get_running_loop().time()
        closing = asyncio.create_task(busy.listener.close(grace_seconds=600))
        await turns()
        assert idle.transport.closed
        assert half.transport.closed
        assert not busy.transport.closed
        await closing
        assert busy.statuses == [200, 200]
        assert busy.transport.closed
        assert asyncio.get_running_loop().time() - began == pytest.approx(20, abs=1)

    run_virtually(main())


@pytest.mark.parametrize("hurried", [False, True])
def test_closing_cuts_off_what_takes_too_long(hurried: bool) -> None:
    """At the end of the grace, or in a hurry, handlers are cancelled; one that does not end is not waited for."""

    async def main() -> None:
        async def last_word(exchange: Exchange) -> None:
            try:
                await asyncio.sleep(10_000)
            except asyncio.CancelledError:
                exchange.respond(503, b"content-length: 0\r\n", b"")
                raise

        async def silent(exchange: Exchange) -> None:
            await asyncio.sleep(10_000)

        async def stubborn(exchange: Exchange) -> None:
            try:
                await asyncio.sleep(10_000)
            except asyncio.CancelledError:
                await asyncio.sleep(20_000)

        handlers = {b"/word": last_word, b"/silent": silent, b"/stubborn": stubborn}
        clients = [Client(handlers=handlers)]
        clients += [Client(listener=clients[0].listener) for _ in range(2)]
        for client, path in zip(clients, handlers, strict=True):
            await client.say(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path)
        unread = Client(answering(b"x"), listener=clients[0].listener)
        unread.transport.stuck = True
        await unread.say(GET.replace(b"host: x", b"connection: close"))
        hurry = asyncio.Event()
        if hurried:
            asyncio.get_running_loop().call_later(5, hurry.set)
        began = asyncio.get_running_loop().time()
        await clients[0].listener.close(grace_seconds=600 if hurried else 5, hurry=hurry)
        assert asyncio.get_running_loop().time() - began == pytest.approx(5 + CANCEL_SECONDS, abs=1)
        assert [client.statuses for client in clients] == [[503], [], []]
        assert [client.transport.closed for client in (*clients, unread)] == [True, True, False, True]

    run_virtually(main())


def test_closing_is_over_when_everybody_has_ended() -> None:
    """Behind the grace as well: nobody waits any longer for handlers that end as soon as they are cut off."""

    async def main() -> None:
        async def silent(exchange: Exchange) -> None:
            await asyncio.sleep(10_000)

        client = Client(silent)
        await client.say(GET)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await client.listener.close(grace_seconds=5, hurry=asyncio.Event())
        assert client.transport.closed
        assert loop.time() - began < 5 + CANCEL_SECONDS / 2
        await turns()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtually(main())


async def test_a_connection_that_comes_while_closing() -> None:
    """A connection that was accepted just before the end is closed like one that is idle."""
    first = Client()
    closing = asyncio.create_task(first.listener.close(grace_seconds=600))
    await asyncio.sleep(0)
    late = Client(listener=first.listener)
    await closing
    assert late.transport.closed
    assert first.listener.service.connections == set()


async def test_closing_without_connections() -> None:
    """With nothing to wait for, closing is over at once, however often it is asked for."""
    client = Client()
    client.transport.hang_up()
    await turns()
    await client.listener.close(grace_seconds=600)
    await client.listener.close(grace_seconds=600)


async def test_what_a_service_has_where_nobody_says_it() -> None:
    """A date, room for requests, ids of its own for those that it turns away, and one envelope for all errors."""
    handler = answering(b"x")
    service = Service({}, handler, ServingLimits(max_head_bytes=1, max_connections=1))
    assert service.date_line().startswith(b"date: ")
    assert service.memory.limit == MEMORY_BYTES
    assert service.turned_away.request_id([]).startswith(b"req_")
    assert service.error_writer(b"/v1/messages", ()) is None
    assert service.cors is None
    assert (service.closing, service.closed.is_set(), service.connections) == (False, False, set())
    assert service.handler(b"/anything") is handler
    service.on_cut_off("slow")
    budget, away = MemoryBudget(7), TurnedAway()
    told = Service({}, handler, service.limits, memory=budget, turned_away=away)
    assert (told.memory, told.turned_away) == (budget, away)
