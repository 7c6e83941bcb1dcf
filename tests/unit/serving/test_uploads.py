"""Large bodies that come slowly while others need the memory that they hold."""

import asyncio
import math

import pytest

from capstan_gateway.errors import GatewayError
from capstan_gateway.memory import MemoryBudget, Share, enough_of
from capstan_gateway.serving.exchange import BODY_FACTOR, Exchange
from capstan_gateway.serving.uploads import (
    COUNT_SECONDS,
    LOOK_SECONDS,
    PRESSED_RATE,
    PRESSED_SECONDS,
    UPLOAD_RATE,
    UPLOAD_SECONDS,
    Upload,
    Uploads,
)
from support.serving import Client, turns
from support.virtualtime import run_virtually

SIZE = 30_000_000
HEAD = b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % SIZE
ROOM_FOR_FOUR = 4 * BODY_FACTOR * SIZE * 4 // 3 + 4


class Body:
    """One that is awaited, as the test says."""

    def __init__(self, received: int = 0) -> None:
        self.received = received
        self.held: Share | None = None
        self.upload_bytes = 10
        self.errors: list[GatewayError] = []

    def give_up(self, error: GatewayError) -> None:
        self.upload_bytes = 0
        self.errors.append(error)


async def take(exchange: Exchange) -> None:
    """Read all of the body."""
    await exchange.read_body(2 * SIZE)
    exchange.respond(200, b"content-length: 0\r\n", b"")


async def drip(client: Client, seconds: int, rate: int) -> None:
    """Send so many bytes a second."""
    for _ in range(seconds):
        await asyncio.sleep(1)
        client.transport.feed(b"x" * rate)


@pytest.mark.parametrize("burst", [1, SIZE - 10_000_000])
def test_slow_uploads_give_way_to_one_that_comes(burst: int) -> None:
    """Four uploads that hold all room and come slowly, be it behind a fast beginning, keep no other one out."""

    async def main() -> None:
        budget = MemoryBudget(ROOM_FOR_FOUR)
        slow = [Client(take, memory=budget)]
        slow += [Client(listener=slow[0].listener) for _ in range(3)]
        counted: list[str] = []
        slow[0].service.on_cut_off = counted.append
        for client in slow:
            await client.say(HEAD, b"x" * burst)
        assert budget.held == 4 * BODY_FACTOR * SIZE
        async with asyncio.TaskGroup() as group:
            for at, client in enumerate(slow):
                group.create_task(drip(client, 12, 20_000 + 1000 * at))
        fast = Client(listener=slow[0].listener)
        await fast.say(HEAD)
        for _ in range(30):
            fast.transport.feed(b"x" * (SIZE // 30))
            await turns()
        assert fast.statuses == [200]
        assert [client.statuses for client in slow] == [[408], [], [], []], "the slowest one, and no more than it takes"
        assert counted == ["slow_upload"]
        for client in slow:
            client.transport.hang_up()
            client.transport.abort()
        await turns()
        assert budget.held == 0

    run_virtually(main())


def test_uploads_that_come_keep_their_room() -> None:
    """Who comes later is refused at once, and takes nothing from those who come fast enough."""

    async def main() -> None:
        budget = MemoryBudget(ROOM_FOR_FOUR)
        first = [Client(take, memory=budget)]
        first += [Client(listener=first[0].listener) for _ in range(3)]
        for client in first:
            await client.say(HEAD)
        async with asyncio.TaskGroup() as group:
            for client in first:
                group.create_task(drip(client, 20, 1_000_000))
        late = Client(listener=first[0].listener)
        await late.say(HEAD)
        assert late.statuses == [503]
        for client in first:
            client.transport.feed(b"x" * 10_000_000)
            await turns()
            assert client.statuses == [200]

    run_virtually(main())


def test_without_need_a_slow_upload_goes_on() -> None:
    """Nobody is cut off for being slow as long as there is room for all, but for the rate that all must have."""

    async def main() -> None:
        client = Client(take, memory=MemoryBudget(10 * BODY_FACTOR * SIZE))
        await client.say(HEAD)
        await drip(client, 10, PRESSED_RATE // 4)
        other = Client(listener=client.listener)
        await other.say(HEAD)
        await turns()
        assert (client.statuses, other.statuses) == ([], [])

    run_virtually(main())


def test_the_pace_is_that_of_the_last_looks() -> None:
    """What came long ago does not count for a body that comes no more; before it had a moment its pace is unknown."""
    body = Body()
    upload = Upload(body, 100.0)
    body.received = 10_000
    assert upload.pace(100.0 + PRESSED_SECONDS - 0.01) == math.inf
    assert upload.pace(101.0) == 10_000
    assert upload.look(100.0 + LOOK_SECONDS)
    assert upload.pace(100.0 + 2 * LOOK_SECONDS) == 10_000 / (2 * LOOK_SECONDS)
    assert upload.look(100.0 + 2 * LOOK_SECONDS)
    assert upload.pace(100.0 + 3 * LOOK_SECONDS) == 0


@pytest.mark.parametrize(
    ("after", "received", "goes_on"),
    [
        (LOOK_SECONDS, 0, True),
        (UPLOAD_SECONDS - 0.2, 0, True),
        (UPLOAD_SECONDS - 0.1, 0, False),
        (UPLOAD_SECONDS - 0.1, 1, True),
        (UPLOAD_SECONDS, 0, False),
        (UPLOAD_SECONDS, UPLOAD_RATE, True),
        (UPLOAD_SECONDS + 10, 10 * UPLOAD_RATE, False),
        (UPLOAD_SECONDS + 10, 11 * UPLOAD_RATE, True),
    ],
)
def test_the_least_rate(after: float, received: int, goes_on: bool) -> None:
    """With nobody else in need a body must come with the least rate on the whole, behind its first seconds."""
    body = Body(received)
    assert Upload(body, 0.0).look(after) is goes_on
    assert Upload(body, 8.0).look(8.0 + after) is goes_on
    body.upload_bytes = 0
    assert Upload(body, 0.0).look(after), "what holds nothing may take its time"


def test_the_slowest_goes_first() -> None:
    """Of those that are slow, one at a time; those that are fast enough, too young or over stay."""
    now, given_up = 0.0, []
    uploads = Uploads(lambda: now, lambda: given_up.append(now))
    fast, slow, slower, over, young = Body(), Body(), Body(), Body(), Body()
    for body in (fast, slow, slower, over):
        uploads.begin(body)
    left = Body()
    uploads.end(uploads.begin(left))
    over.upload_bytes = 0
    now = PRESSED_SECONDS
    uploads.begin(young)
    fast.received, slow.received, slower.received = PRESSED_RATE, PRESSED_RATE - 1, PRESSED_RATE - 2
    assert uploads.lendable() == 20
    for loan in enough_of(uploads.loans(), 1):
        loan.give_back()
    assert (len(slower.errors), slower.errors[0].status) == (1, 408)
    assert slower.errors[0].message == (
        "the request's body comes too slowly while others wait for the memory that it holds"
    )
    assert uploads.lendable() == 10
    for loan in enough_of(uploads.loans(), 10):
        loan.give_back()
    assert len(slow.errors) == 1
    assert (uploads.lendable(), [*uploads.loans()]) == (0, [])
    assert not [body.errors for body in (fast, over, young, left) if body.errors]
    assert len(given_up) == 2
    assert {upload.body for upload in uploads._uploads} == {fast, over, young}


async def test_nothing_is_kept_of_a_body_that_is_not_awaited() -> None:
    """When it is there, when its client has gone, and when the next request begins."""
    client = Client(take)
    awaited = client.service.uploads._uploads
    head = b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 9000\r\n\r\n"
    for _ in range(2):
        await client.say(head)
        assert len(awaited) == 1
        await client.say(b"x" * 9000)
        assert not awaited
    assert client.statuses == [200, 200]
    await client.say(head)
    assert len(awaited) == 1
    client.transport.hang_up()
    await turns()
    assert client.transport.closed
    assert not awaited


def test_each_body_of_a_connection_is_looked_at() -> None:
    """Also one behind another that came well: it is told so when it comes too slowly."""

    async def main() -> None:
        client = Client(take)
        await client.say(HEAD[:-4].replace(b"%d" % SIZE, b"9000") + b"\r\n\r\n")
        await client.say(b"x" * 9000)
        await client.say(HEAD)
        await asyncio.sleep(2 * UPLOAD_SECONDS)
        assert client.statuses == [200, 408]
        assert b'"message":"the request\'s body comes too slowly"' in client.transport.sent

    run_virtually(main())


@pytest.mark.parametrize("seconds", [0.5, 10 * LOOK_SECONDS])
def test_a_body_that_nobody_waits_for_any_more(seconds: float) -> None:
    """Its handler has given up waiting, and answers when it is there: the connection is idle then, and not for ever."""

    async def main() -> None:
        async def impatient(exchange: Exchange) -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(exchange.read_body(SIZE), 1)
            await asyncio.sleep(seconds)
            exchange.respond(200, b"content-length: 0\r\n", b"")

        client = Client(impatient)
        await client.say(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 9000\r\n\r\n")
        await asyncio.sleep(1.1)
        await client.say(b"x" * 9000)
        await asyncio.sleep(LOOK_SECONDS)
        assert client.statuses or not client.service.uploads._uploads
        await asyncio.sleep(seconds)
        assert client.statuses == [200]
        await asyncio.sleep(client.service.limits.keep_alive_seconds + 1)
        assert client.transport.closed
        assert not client.service.uploads._uploads

    run_virtually(main())


def test_what_slow_bodies_hold_is_counted_seldom() -> None:
    """However many find no room, all bodies are looked at only now and then, and anew when one was given up."""
    now = 0.0
    uploads = Uploads(lambda: now, list)
    bodies = [Body(), Body()]
    for body in bodies:
        uploads.begin(body)
    now = PRESSED_SECONDS
    assert uploads.lendable() == 20
    bodies[0].upload_bytes = 100
    now += COUNT_SECONDS / 2
    assert uploads.lendable() == 20
    now += COUNT_SECONDS / 2
    assert uploads.lendable() == 110
    next(iter(uploads.loans())).give_back()
    assert uploads.lendable() in (10, 100)


def test_slow_uploads_go_on_when_their_room_would_not_suffice() -> None:
    """Nobody is given up in vain: who needs more than all slow ones hold is refused, and they go on."""

    async def main() -> None:
        budget = MemoryBudget(ROOM_FOR_FOUR)
        held = budget.share()
        assert held.grow(3 * BODY_FACTOR * SIZE)
        slow = Client(take, memory=budget)
        await slow.say(HEAD.replace(b"%d" % SIZE, b"9000"), b"x")
        await asyncio.sleep(2)
        fast = Client(listener=slow.listener)
        await fast.say(HEAD.replace(b"%d" % SIZE, b"%d" % (SIZE + 9000)))
        assert fast.statuses == [503]
        assert slow.statuses == []
        slow.transport.feed(b"x" * 8999)
        await turns()
        assert slow.statuses == [200]

    run_virtually(main())


def test_who_asks_for_more_is_not_given_up_for_it() -> None:
    """The slowest body may need more room itself: it is refused, or gets it of others, and is never its own victim."""

    async def main() -> None:
        budget = MemoryBudget(ROOM_FOR_FOUR)
        slow = Client(take, memory=budget)
        await slow.say(b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        slow.transport.feed(b"%x\r\n%b\r\n" % (8000, b"x" * 8000))
        await turns()
        had = budget.held
        assert had > 0
        rest = budget.share()
        assert rest.grow(budget.limit - budget.limit // 4 - budget.held)
        await asyncio.sleep(2)
        slow.transport.feed(b"%x\r\n%b\r\n" % (SIZE, b"x" * SIZE))
        await turns()
        assert slow.statuses == [503], "there is no room for it, which is not that it is slow"
        slow.transport.hang_up()
        slow.transport.abort()
        await turns()
        assert budget.held == rest.held

    run_virtually(main())


def test_a_closed_port_lends_nothing() -> None:
    """When a port is closed, the budget that outlives it knows nothing of its uploads any more."""

    async def main() -> None:
        budget = MemoryBudget(1000)
        client = Client(take, memory=budget)
        assert budget.lenders == [client.service.uploads]
        client.transport.abort()
        await client.listener.close(grace_seconds=1.0)
        assert budget.lenders == []
        await client.listener.close(grace_seconds=1.0)

    run_virtually(main())


def test_the_next_request_ends_what_was_looked_at() -> None:
    """A body that nobody waits for any more is forgotten with the next head, whose own body is looked at."""

    async def main() -> None:
        async def handler(exchange: Exchange) -> None:
            if exchange.length == 9000:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(exchange.read_body(SIZE), 1)
                await asyncio.sleep(0.5)
                exchange.respond(200, b"content-length: 0\r\n", b"")
            else:
                await take(exchange)

        client = Client(handler)
        await client.say(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 9000\r\n\r\n")
        await asyncio.sleep(1.1)
        await client.say(b"x" * 9000)
        await asyncio.sleep(0.6)
        assert client.statuses == [200]
        await client.say(HEAD)
        assert [upload.body.received for upload in client.service.uploads._uploads] == [0]
        await asyncio.sleep(2 * UPLOAD_SECONDS)
        assert client.statuses == [200, 408]

    run_virtually(main())
