"""What requests hold of the process' budget, in every state, and that it comes back."""

import asyncio
import tracemalloc

import pytest

from capstan_gateway.memory import MemoryBudget
from capstan_gateway.serving.client_connection import WAITING_BYTES
from capstan_gateway.serving.exchange import BODY_FACTOR, FREE_BYTES, SLOW_STREAM_BYTES, Exchange
from capstan_gateway.serving.uploads import UPLOAD_SECONDS
from support.serving import Client, read_answers, turns
from support.virtualtime import run_virtually

MEBIBYTE = 1000 * 1000
GET = b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n"


def head(length: int) -> bytes:
    """Give the head of a request with a body."""
    return b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % length


CHUNKED = b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


def chunk(body: bytes) -> bytes:
    """Give one chunk."""
    return b"%x\r\n%b\r\n" % (len(body), body)


async def test_a_body_is_taken_from_the_budget_when_its_length_is_told() -> None:
    """A body is admitted as a whole before it is read, and given back when its request is over."""
    budget = MemoryBudget(100 * MEBIBYTE)
    client = Client(memory=budget)
    await client.say(head(100_000), b"x")
    assert budget.held == BODY_FACTOR * 100_000
    await client.say(b"x" * 99_999)
    assert client.statuses == [200]
    client.transport.hang_up()
    await turns()
    assert budget.held == 0


async def test_a_small_body_costs_nothing() -> None:
    """A body up to a bound is not counted."""
    budget = MemoryBudget(100 * MEBIBYTE)
    client = Client(memory=budget)
    await client.say(head(FREE_BYTES), b"x" * (FREE_BYTES - 1))
    assert budget.held == 0


async def test_a_body_without_a_length_grows() -> None:
    """Chunks take what they need as they come, in few steps."""
    budget = MemoryBudget(100 * MEBIBYTE)
    client = Client(memory=budget)
    await client.say(CHUNKED, *[chunk(b"x" * 1000)] * 100)
    assert BODY_FACTOR * 100_000 <= budget.held <= BODY_FACTOR * 150_000
    await client.say(b"0\r\n\r\n")
    assert client.statuses == [200]
    assert budget.held == 0


async def test_without_room_a_body_is_refused_and_others_are_served() -> None:
    """Over the budget there is 503 with a time to come back, before the body is read; small requests are served."""
    budget = MemoryBudget(6 * MEBIBYTE)
    first = Client(memory=budget)
    await first.say(head(MEBIBYTE), b"x")
    second = Client(listener=first.listener)
    await second.say(head(MEBIBYTE), b"x")
    (answer,) = read_answers(bytes(second.transport.sent))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert second.ended
    small = Client(listener=first.listener)
    small.seen = []
    await small.say(head(3), b"abc", GET)
    assert small.statuses == [200, 200]
    first.transport.hang_up()
    await turns()
    assert budget.held == 0
    third = Client(listener=first.listener)
    await third.say(head(MEBIBYTE), b"x" * MEBIBYTE)
    assert third.statuses == [200]


async def test_a_body_that_can_never_fit() -> None:
    """What is larger than all the room for requests is not worth another try: 413."""
    budget = MemoryBudget(MEBIBYTE)
    for sent in (head(500_000), CHUNKED + chunk(b"x" * 500_000)):
        client = Client(memory=budget)
        await client.say(sent)
        assert client.statuses == [413]
        client.transport.hang_up()
        await turns()
        assert budget.held == 0


async def test_what_waits_is_counted() -> None:
    """Requests that wait for the one before them take of the budget, with their bodies and large heads."""
    budget = MemoryBudget(100 * MEBIBYTE)
    held = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await held.wait()
        exchange.respond(200, b"content-length: 0\r\n", b"")

    client = Client(slow, memory=budget)
    await client.say(GET * 3)
    assert budget.held == 2 * WAITING_BYTES
    client.transport.hang_up()
    held.set()
    await turns()
    assert budget.held == 0


async def test_no_more_is_parsed_than_can_be_served() -> None:
    """However many requests come at once, few are made of them before the first one is answered; all are served."""
    budget = MemoryBudget(100 * MEBIBYTE)
    held = asyncio.Event()
    count = 0

    async def slow(exchange: Exchange) -> None:
        nonlocal count
        count += 1
        await held.wait()
        exchange.respond(200, b"content-length: 0\r\n", b"")

    client = Client(slow, memory=budget)
    await client.say(GET * 5000)
    client.connection.data_received(GET)  # It was on its way.
    assert budget.held <= 4096 // len(GET) * WAITING_BYTES
    held.set()
    await turns(20_000)
    assert count == 5001
    assert budget.held == 0


@pytest.mark.parametrize("room", [True, False])
async def test_what_is_not_parsed_yet_is_counted(room: bool) -> None:
    """A read that holds more than can be served takes of the budget; without room, what was understood is the last."""
    budget = MemoryBudget((100 if room else 2) * MEBIBYTE // 10)
    held = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await held.wait()
        exchange.respond(200, b"content-length: 0\r\n", b"")

    client = Client(slow, memory=budget)
    await client.say(GET + GET + head(250_000) + b"x" * 245_000)
    assert budget.held == WAITING_BYTES + (len(head(250_000)) + 245_000 if room else 0)
    if room:
        await client.say(b"x" * 1000)
        client.transport.hang_up()
        client.transport.abort()
    held.set()
    await turns(30)
    assert client.statuses == ([] if room else [200, 200, 503])
    assert client.ended
    assert budget.held == 0


async def test_half_heads_are_counted() -> None:
    """A head that grows takes of the budget, and without room it is refused."""
    budget = MemoryBudget(100_000)
    first = Client(memory=budget, max_head_bytes=60_000)
    await first.say(b"GET /x HTTP/1.1\r\nhost: x\r\n", *[b"x: " + b"y" * 3000 + b"\r\n"] * 10)
    assert budget.held == pytest.approx(2 * 30_000, rel=0.1)
    second = Client(listener=first.listener)
    await second.say(b"GET /x HTTP/1.1\r\nhost: x\r\n", *[b"x: " + b"y" * 3000 + b"\r\n"] * 10)
    assert second.statuses == [503]
    second.connection.connection_lost(None)
    await first.say(b"\r\n")
    assert first.statuses == [200]
    assert budget.held == 0, "the headers stay as long as their request does"
    await first.say(b"GET /x HTTP/1.1\r\nhost: x\r\n", *[b"x: " + b"y" * 3000 + b"\r\n"] * 10)
    assert budget.held == pytest.approx(2 * 30_000, rel=0.1)
    first.transport.hang_up()
    await turns()
    assert budget.held == 0


async def test_a_request_that_waits_without_room_is_refused() -> None:
    """It says so behind the answers to those before it, and is not served."""
    budget = MemoryBudget(WAITING_BYTES * 300)
    while budget.held < budget.limit:
        assert budget.share().grow(min(budget.limit // 256, budget.limit - budget.held))
    client = Client(memory=budget)
    await client.say(GET + GET)
    assert client.statuses == [200, 503]
    assert b'"message":"the gateway holds as much as it may"' in client.transport.sent


async def test_a_little_that_is_not_parsed_yet_costs_nothing() -> None:
    """Up to the same bound; one byte more is counted, as it is."""
    budget = MemoryBudget(100_000)
    connection = Client(memory=budget).connection
    connection._keep_unparsed(b"x" * FREE_BYTES)
    assert budget.held == 0
    connection._keep_unparsed(b"x" * (FREE_BYTES + 1))
    assert budget.held == FREE_BYTES + 1
    connection.connection_lost(None)
    assert budget.held == 0


async def test_a_small_half_head_costs_nothing() -> None:
    """Up to a bound it is not counted, one byte more is, twice: its bytes, and what is made of them."""
    budget = MemoryBudget(100_000)
    connection = Client(memory=budget).connection
    assert connection.on_half_head(FREE_BYTES)
    assert budget.held == 0
    assert connection.on_half_head(FREE_BYTES + 1)
    assert budget.held == 2 * (FREE_BYTES + 1)


async def test_an_answer_that_is_not_read_is_held() -> None:
    """What a client has not read of its answer stays in the budget until it has, or is gone."""
    budget = MemoryBudget(100 * MEBIBYTE)
    for leaves in (True, False):
        client = Client(memory=budget)
        client.transport.stuck = True
        await client.say(head(200_000) + b"x" * 200_000)
        assert budget.held == BODY_FACTOR * 200_000
        client.transport.hang_up() if leaves else client.transport.unstick()
        if leaves:
            client.transport.abort()
        await turns()
        assert budget.held == 0


@pytest.mark.parametrize("room", [True, False])
async def test_a_stream_that_is_read_too_slowly_is_held(room: bool) -> None:
    """It takes of the budget once, when its client falls behind, until its answer is over; without room it ends."""
    budget = MemoryBudget(100 * MEBIBYTE if room else SLOW_STREAM_BYTES)
    seen: list[int] = []

    async def stream(exchange: Exchange) -> None:
        exchange.start(200, b"", b"<")
        for _ in range(3):
            exchange.write(b"x" * 100_000)
            seen.append(budget.held)
            await exchange.drained()
            if exchange.gone:
                return
        exchange.finish(b">")

    client = Client(stream, memory=budget)
    client.transport.stuck = True
    await client.say(GET)
    assert budget.held == (SLOW_STREAM_BYTES if room else 0)
    assert client.transport.closed is not room
    if room:
        client.transport.unstick()
        await turns(20)
        assert client.statuses == [200]
        assert seen == [0, SLOW_STREAM_BYTES, SLOW_STREAM_BYTES]
    assert budget.held == 0


async def test_pieces_of_two_bytes_cost_little() -> None:
    """A body in the smallest of chunks is held in one piece of memory, not in one object for each."""

    async def waits(exchange: Exchange) -> None:
        await exchange.read_body(10 * MEBIBYTE)

    client = Client(waits)
    await client.say(CHUNKED)
    blob = b"2\r\nab\r\n" * 10_000
    tracemalloc.start()
    try:
        for _ in range(25):
            client.transport.feed(blob)
            await turns(2)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 3 * 500_000 + 200_000


@pytest.mark.parametrize(("rate", "status"), [(0, 408), (1000, 408), (50_000, 200)])
def test_a_large_body_must_come(rate: int, status: int) -> None:
    """An upload that holds memory and comes too slowly is told so; one that comes fast enough is served."""

    async def main() -> None:
        budget = MemoryBudget(100 * MEBIBYTE)
        client = Client(memory=budget)
        counted: list[str] = []
        client.service.on_cut_off = counted.append
        size = 500_000
        await client.say(head(size) + b"x")
        for _ in range(30):
            await asyncio.sleep(1)
            if rate and not client.transport.eof_sent:
                client.transport.feed(b"x" * min(rate, size - 1))
                size -= rate
            if client.statuses:
                break
        assert client.statuses == [status]
        assert counted == (["slow_upload"] if status == 408 else [])
        await asyncio.sleep(100)
        assert budget.held == 0

    run_virtually(main())


def test_a_small_body_may_take_its_time() -> None:
    """The rate is asked of those only who hold what others could use."""

    async def main() -> None:
        client = Client()
        await client.say(head(10) + b"x")
        await asyncio.sleep(10 * UPLOAD_SECONDS)
        await client.say(b"x" * 9)
        assert client.statuses == [200]

    run_virtually(main())


@pytest.mark.parametrize("behind", [1, 2])
async def test_reading_waits_for_pipelined_requests(behind: int) -> None:
    """No more is read while a pipelined request waits, parsed or not, also when a handler asks for all of its body."""
    reading: list[bool] = []
    held = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await exchange.read_body(MEBIBYTE)
        reading.append(client.transport.is_reading())
        await held.wait()
        exchange.respond(200, b"content-length: 0\r\n", b"")

    client = Client(slow)
    await client.say(head(100_000) + b"x" * 100_000 + GET * behind)
    assert reading == [False]
    held.set()
    await turns(30)
    assert client.statuses == [200] * (1 + behind)
    assert client.transport.is_reading()
