"""One exchange, without a connection around it: what it tells its owner, writes, holds, and lets wait."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from capstan_gateway.errors import ClientGone, GatewayError, InvalidRequest, Overloaded, RequestTimeout, RequestTooLarge
from capstan_gateway.memory import MemoryBudget, Share
from capstan_gateway.serving.exchange import BODY_FACTOR, FREE_BYTES, HIGH_WATER, SLOW_STREAM_BYTES, Exchange
from capstan_gateway.serving.wire import ClientWire

DATE = b"date: now\r\n"
LIMIT = 1_000_000


class Transport(asyncio.Transport):
    """Remembers what was done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.reading: list[bool] = []
        self.aborted = 0

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def pause_reading(self) -> None:
        self.reading.append(False)

    def resume_reading(self) -> None:
        self.reading.append(True)

    def abort(self) -> None:
        self.aborted += 1

    def is_closing(self) -> bool:
        return self.aborted > 0

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class Connection:
    """Implements `serving.port.Owner`: remembers what it is told."""

    def __init__(self, *, limit: int = 1 << 30, write_seconds: float = 60.0) -> None:
        loop = asyncio.get_running_loop()
        self.wire = ClientWire(loop, write_seconds=write_seconds, on_deadline=lambda: None, on_stalled=lambda: None)
        self.transport = Transport()
        self.wire.attach(self.transport)
        self.date_line: Callable[[], bytes] = lambda: DATE
        self.budget = MemoryBudget(limit)
        self.told: list[Any] = []

    def share(self) -> Share:
        """Open an account."""
        return self.budget.share()

    def resume_reading(self) -> None:
        """Read again."""
        self.told.append("resume")
        self.wire.resume_reading()

    def on_awaiting_body(self) -> None:
        """A body is awaited."""
        self.told.append("awaiting")

    def on_body_arrived(self) -> None:
        """It is there."""
        self.told.append("arrived")

    def on_answered(self, keep_alive: bool) -> None:
        """It has its answer."""
        self.told.append(("answered", keep_alive))

    def on_abandoned(self) -> None:
        """It will have none."""
        self.told.append("abandoned")

    def exchange(
        self,
        *,
        method: bytes = b"POST",
        length: int | None = None,
        modern: bool = True,
        keep_alive: bool = True,
        expects_continue: bool = False,
        whole: bool = False,
    ) -> Exchange:
        """Begin one; `whole` says that its body is over."""
        made = Exchange(self, self.wire, method, b"/x", [(b"a", b"b")], length, modern, keep_alive, expects_continue)
        if whole:
            made.on_body_complete()
        return made


async def reading(exchange: Exchange, limit: int = LIMIT) -> "asyncio.Task[bytes]":
    """Begin to read the body, and come to where that waits."""
    task = asyncio.create_task(exchange.read_body(limit))
    await asyncio.sleep(0)
    return task


async def test_an_exchange_begins_with_nothing() -> None:
    """It says what its head said; nothing of the body has come, nothing is answered, nobody has gone."""
    connection = Connection()
    exchange = connection.exchange(length=7, keep_alive=True)
    assert (exchange.method, exchange.target, exchange.headers) == (b"POST", b"/x", [(b"a", b"b")])
    assert (exchange.length, exchange.keep_alive, exchange.received, exchange.extra_lines) == (7, True, 0, b"")
    flags = (exchange.body_complete, exchange.started, exchange.complete, exchange.gone, exchange.paused)
    assert flags == (False,) * 5
    assert (exchange.task, exchange.on_gone, exchange.held) == (None, None, None)
    assert (exchange.takes_body, exchange.upload_bytes) == (True, 0)
    assert connection.exchange(keep_alive=False).keep_alive is False


# --- answers ---------------------------------------------------------------------------------------------------------


async def test_an_answer_in_one_piece() -> None:
    """Status, date, what is said in all answers, its own headers, the end of the head, the body; then it is told."""
    connection = Connection()
    exchange = connection.exchange(whole=True)
    exchange.extra_lines = b"x: y\r\n"
    exchange.on_gone = lambda: None
    exchange.respond(200, b"content-length: 2\r\n", b"ok")
    assert connection.transport.sent == b"HTTP/1.1 200 OK\r\ndate: now\r\nx: y\r\ncontent-length: 2\r\n\r\nok"
    assert (exchange.started, exchange.complete, exchange.on_gone) == (True, True, None)
    assert connection.told == [("answered", True)]


async def test_an_answer_to_who_does_not_go_on() -> None:
    """It says that the connection ends: where the client wished so, and where the rest of a body would be unread."""
    for ends in ({"keep_alive": False, "whole": True}, {"whole": False}):
        connection = Connection()
        connection.exchange(**ends).respond(404, b"content-length: 0\r\n", b"")  # type: ignore[arg-type]
        assert connection.transport.sent == (
            b"HTTP/1.1 404 Not Found\r\ndate: now\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
        assert connection.told == [("answered", False)]


async def test_the_answer_to_head_is_one_without_its_body() -> None:
    """The same headers, the length among them."""
    connection = Connection()
    connection.exchange(method=b"HEAD", whole=True).respond(200, b"content-length: 2\r\n", b"ok")
    assert connection.transport.sent == b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 2\r\n\r\n"


async def test_a_request_is_answered_once() -> None:
    """A second answer, or a stream behind one, is a bug, of which the client sees nothing."""
    connection = Connection()
    exchange = connection.exchange(whole=True)
    exchange.respond(200, b"", b"")
    sent = connection.transport.sent
    with pytest.raises(RuntimeError, match=r"^a request is answered once$"):
        exchange.respond(200, b"", b"")
    with pytest.raises(RuntimeError, match=r"^a request is answered once$"):
        exchange.start(200, b"", b"")
    assert connection.transport.sent == sent


async def test_a_stream_is_in_chunks() -> None:
    """Each piece in one, none of them empty; the last one says that it is over, and the connection goes on."""
    connection = Connection()
    exchange = connection.exchange(whole=True)
    exchange.extra_lines = b"x: y\r\n"
    exchange.start(200, b"a: b\r\n", b"0123456789abcdefg")
    assert (exchange.started, exchange.complete) == (True, False)
    exchange.write(b"one")
    exchange.write(b"")
    exchange.finish(b"two")
    assert connection.transport.sent == (
        b"HTTP/1.1 200 OK\r\ndate: now\r\nx: y\r\na: b\r\ntransfer-encoding: chunked\r\n\r\n"
        b"11\r\n0123456789abcdefg\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    )
    assert connection.told == [("answered", True)]
    assert exchange.complete


async def test_a_stream_may_end_without_a_last_piece() -> None:
    """The last chunk alone."""
    connection = Connection()
    exchange = connection.exchange(whole=True)
    exchange.start(200, b"", b"")
    exchange.finish()
    assert connection.transport.sent.endswith(b"\r\n\r\n0\r\n\r\n")


async def test_a_stream_that_ends_its_connection_says_so() -> None:
    """Where the client wished it, or still sends."""
    for ends in ({"keep_alive": False, "whole": True}, {"whole": False}):
        connection = Connection()
        exchange = connection.exchange(**ends)  # type: ignore[arg-type]
        exchange.start(200, b"", b"a")
        exchange.finish()
        assert connection.transport.sent == (
            b"HTTP/1.1 200 OK\r\ndate: now\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
            b"1\r\na\r\n0\r\n\r\n"
        )
        assert connection.told == [("answered", False)]


async def test_who_knows_no_chunks_gets_bytes_to_the_end_of_the_connection() -> None:
    """Nothing around them, also where all of it is there."""
    for last in (False, True):
        connection = Connection()
        exchange = connection.exchange(modern=False, whole=True)
        exchange.start(200, b"", b"a", last=last)
        if not last:
            exchange.write(b"b")
            exchange.finish(b"c")
        head = b"HTTP/1.1 200 OK\r\ndate: now\r\nconnection: close\r\n\r\n"
        assert connection.transport.sent == head + (b"a" if last else b"abc")
        assert connection.told == [("answered", False)]


async def test_a_whole_stream_is_over_at_once() -> None:
    """Its last chunk goes out with its first, and its owner is told."""
    connection = Connection()
    exchange = connection.exchange(whole=True)
    exchange.start(200, b"", b"a", last=True)
    assert connection.transport.sent.endswith(b"\r\n\r\n1\r\na\r\n0\r\n\r\n")
    assert exchange.complete
    assert connection.told == [("answered", True)]


async def test_an_answer_can_be_abandoned() -> None:
    """Before its end, once; behind it there is nothing to abandon. Who wanted to know that the client goes hears no
    more."""
    connection = Connection()
    exchange = connection.exchange()
    exchange.on_gone = lambda: None
    exchange.abandon()
    exchange.abandon()
    assert connection.told == ["abandoned"]
    assert (exchange.complete, exchange.on_gone, exchange.takes_body) == (True, None, False)
    answered = connection.exchange(whole=True)
    answered.respond(200, b"", b"")
    answered.abandon()
    assert connection.told == ["abandoned", ("answered", True)]


# --- bodies ----------------------------------------------------------------------------------------------------------


async def test_a_small_body_in_one_piece() -> None:
    """It is given as it came, once; before it is over there is none."""
    connection = Connection()
    exchange = connection.exchange(length=3)
    exchange.on_body(b"abc")
    assert exchange.whole_body(3) is None
    exchange.on_body_complete()
    assert (exchange.received, exchange.body_complete) == (3, True)
    assert exchange.whole_body(3) == b"abc"
    assert exchange.whole_body(3) == b""
    again = connection.exchange(length=3)
    again.on_body(b"abc")
    again.on_body_complete()
    assert await again.read_body(3) == b"abc"
    assert connection.told == []
    assert connection.exchange(whole=True).whole_body(0) == b""


async def test_one_byte_above_the_limit_is_refused() -> None:
    """However its body is read, with what is allowed in the words."""
    message = "the body is larger than 2 bytes"
    exchange = Connection().exchange()
    exchange.on_body(b"abc")
    exchange.on_body_complete()
    with pytest.raises(RequestTooLarge) as refused:
        exchange.whole_body(2)
    assert refused.value.message == message
    told = Connection().exchange(length=3)
    with pytest.raises(RequestTooLarge) as refused:
        await told.read_body(2)
    assert refused.value.message == message
    pieces = Connection().exchange()
    task = await reading(pieces, 2)
    pieces.on_body(b"ab")
    await asyncio.sleep(0)
    assert not task.done()
    pieces.on_body(b"c")
    with pytest.raises(RequestTooLarge) as refused:
        await task
    assert refused.value.message == message


async def test_a_body_in_pieces_is_waited_for() -> None:
    """Its owner is told when it is awaited and when it is there; reading goes on in between, and behind it."""
    connection = Connection()
    exchange = connection.exchange()
    exchange.on_body(b"ab")
    task = await reading(exchange)
    exchange.on_body(b"c")
    await asyncio.sleep(0)
    exchange.on_body_complete()
    assert await task == b"abc"
    assert connection.told == ["awaiting", "resume", "awaiting", "resume", "arrived", "resume"]
    assert exchange.received == 3


async def test_a_body_in_pieces_that_is_there() -> None:
    """It is given at once, and nobody hears that it was awaited."""
    connection = Connection()
    exchange = connection.exchange()
    exchange.on_body(b"ab")
    exchange.on_body(b"c")
    exchange.on_body_complete()
    assert exchange.whole_body(LIMIT) is None
    assert await exchange.read_body(3) == b"abc"
    assert connection.told == ["resume"]


async def test_what_is_large_stops_the_reading_until_it_is_read() -> None:
    """Above the bound, while nobody waits for it; exactly at it reading goes on."""
    for size, paused in ((HIGH_WATER, False), (HIGH_WATER + 1, True)):
        connection = Connection()
        exchange = connection.exchange()
        exchange.on_body(b"x" * size)
        assert connection.wire.reading_paused is paused
        exchange.on_body_complete()
        assert len(exchange.whole_body(LIMIT) or b"") == size
        assert connection.told == (["resume"] if paused else [])
        assert not connection.wire.reading_paused


async def test_who_waits_for_a_body_lets_it_come() -> None:
    """However large it gets, as far as the budget goes."""
    connection = Connection()
    exchange = connection.exchange()
    task = await reading(exchange)
    exchange.on_body(b"x" * (HIGH_WATER + 1))
    assert not connection.wire.reading_paused
    exchange.on_body_complete()
    assert len(await task) == HIGH_WATER + 1


async def test_who_asks_first_is_told_to_go_on() -> None:
    """Once, when the body is read and nothing of it has come."""
    connection = Connection()
    exchange = connection.exchange(expects_continue=True)
    task = await reading(exchange)
    assert connection.transport.sent == b"HTTP/1.1 100 Continue\r\n\r\n"
    exchange.wake()
    await asyncio.sleep(0)
    exchange.on_body(b"a")
    await asyncio.sleep(0)
    exchange.on_body_complete()
    assert await task == b"a"
    assert connection.transport.sent.count(b"100 Continue") == 1
    for early, asks in ((True, True), (False, False)):
        connection = Connection()
        exchange = connection.exchange(expects_continue=asks)
        if early:
            exchange.on_body(b"a")
        task = await reading(exchange)
        assert connection.transport.sent == b""
        task.cancel()


async def test_a_broken_body_is_told_to_its_reader() -> None:
    """By the error that it broke with, whether it is read before or behind that; no more of it is taken."""
    error = InvalidRequest("no chunk")
    for before in (False, True):
        exchange = Connection().exchange()
        exchange.on_body(b"ab")
        task = await reading(exchange) if before else None
        exchange.on_broken(error)
        exchange.on_body(b"cd")
        assert (exchange.received, exchange.takes_body) == (2, False)
        exchange.on_body_complete()
        assert exchange.whole_body(9) is None
        with pytest.raises(InvalidRequest) as raised:
            await (task or exchange.read_body(9))
        assert raised.value is error


async def test_a_client_that_goes_is_told_to_who_reads() -> None:
    """Its leaving is told once, to who wanted to know; whoever reads hears of it, and nothing of the body is given."""
    gone: list[bool] = []
    exchange = Connection().exchange()
    exchange.on_gone = lambda: gone.append(True)
    task = await reading(exchange)
    exchange.on_lost()
    exchange.on_lost()
    with pytest.raises(ClientGone):
        await task
    assert (gone, exchange.gone, exchange.keep_alive, exchange.on_gone) == ([True], True, False, None)
    there = Connection().exchange(whole=True)
    there.on_lost()
    assert there.whole_body(9) is None
    with pytest.raises(ClientGone):
        await there.read_body(9)


async def test_behind_the_answer_nobody_has_gone() -> None:
    """A connection that ends then is no loss."""
    gone: list[bool] = []
    exchange = Connection().exchange(whole=True)
    exchange.respond(200, b"", b"")
    exchange.on_gone = lambda: gone.append(True)
    exchange.on_lost()
    assert (gone, exchange.gone) == ([], False)
    exchange.on_body(b"more")
    assert exchange.received == 0


# --- what it holds ---------------------------------------------------------------------------------------------------


async def test_a_body_takes_its_memory_by_its_length() -> None:
    """As soon as it is read, all of it; a small one nothing."""
    for length, held in ((FREE_BYTES, 0), (FREE_BYTES + 1, BODY_FACTOR * (FREE_BYTES + 1))):
        connection = Connection()
        exchange = connection.exchange(length=length)
        task = await reading(exchange)
        assert connection.budget.held == held
        assert exchange.upload_bytes == held
        exchange.on_body(b"x" * length)
        exchange.on_body_complete()
        assert len(await task) == length
        assert (connection.budget.held, exchange.upload_bytes) == (held, 0)


async def test_a_body_that_nobody_reads_yet_takes_its_memory_as_it_comes() -> None:
    """With half as much again, but not more than its length says."""
    connection = Connection()
    exchange = connection.exchange(length=7000)
    exchange.on_body(b"x" * FREE_BYTES)
    assert connection.budget.held == 0
    exchange.on_body(b"x")
    assert connection.budget.held == BODY_FACTOR * (FREE_BYTES + 1 + (FREE_BYTES + 1) // 2)
    connection = Connection()
    exchange = connection.exchange(length=5000)
    exchange.on_body(b"x" * (FREE_BYTES + 1))
    assert connection.budget.held == BODY_FACTOR * 5000
    connection = Connection()
    exchange = connection.exchange()
    exchange.on_body(b"x" * 6000)
    exchange.on_body(b"x" * 3000)
    assert connection.budget.held == BODY_FACTOR * 9000
    exchange.on_body(b"x")
    assert connection.budget.held == BODY_FACTOR * (9001 + 9001 // 2)


async def test_without_room_for_a_body_it_is_broken() -> None:
    """What came is let go at once; its reader hears whether another try makes sense."""
    for limit, error in ((BODY_FACTOR * 9000, Overloaded), (1000, RequestTooLarge)):
        connection = Connection(limit=limit * 4 // 3)
        other = connection.share()
        assert other.grow(100)
        exchange = connection.exchange()
        exchange.on_body(b"x" * 6000)
        assert len(exchange._gathered()) == 0
        assert not exchange.takes_body
        with pytest.raises(error):
            await exchange.read_body(LIMIT)


async def test_what_is_reserved_is_held_until_the_request_is_over() -> None:
    """Each time so much more; without room it says whether there ever is some."""
    connection = Connection(limit=1000)
    exchange = connection.exchange()
    exchange.reserve(300)
    exchange.reserve(200)
    assert (connection.budget.held, exchange.memory.held) == (500, 500)
    with pytest.raises(RequestTooLarge) as too_large:
        exchange.reserve(500)
    assert too_large.value.message == "the request needs more memory than this gateway has for requests"
    other = connection.share()
    assert other.grow(200)
    with pytest.raises(Overloaded):
        exchange.reserve(200)
    share = exchange.take_memory()
    assert share is not None
    assert (share.held, exchange.held, exchange.take_memory()) == (500, None, None)


async def test_a_share_of_another_can_be_adopted() -> None:
    """What its head took is the request's from then on."""
    connection = Connection()
    share = connection.share()
    exchange = connection.exchange()
    exchange.adopt(share)
    assert exchange.memory is share


async def test_a_body_that_is_given_up_holds_nothing() -> None:
    """What it took goes back at once, what the request holds beside it stays; its reader gets the error."""
    connection = Connection()
    exchange = connection.exchange(length=10_000)
    exchange.reserve(77)
    task = await reading(exchange)
    exchange.on_body(b"x" * 5000)
    assert exchange.upload_bytes == BODY_FACTOR * 10_000
    exchange.give_up(RequestTimeout("slow"))
    assert (connection.budget.held, exchange.upload_bytes, exchange.takes_body) == (77, 0, False)
    assert len(exchange._gathered()) == 0
    with pytest.raises(RequestTimeout):
        await task
    bare = connection.exchange()
    bare.give_up(RequestTimeout("slow"))
    assert (connection.budget.held, bare.held) == (77, None)


async def test_an_answer_that_is_not_read_must_have_room() -> None:
    """A large one whose client does not read it takes from the budget, or the connection is cut off."""
    size = HIGH_WATER + 1
    for room in (True, False):
        connection = Connection(limit=(2 * size if room else size))
        connection.wire.pause_writing()
        exchange = connection.exchange(whole=True)
        exchange.respond(200, b"", b"x" * size)
        assert (connection.budget.held, connection.transport.aborted) == ((size, 0) if room else (0, 1))
    small = Connection()
    small.wire.pause_writing()
    small.exchange(whole=True).respond(200, b"", b"x" * HIGH_WATER)
    assert small.budget.held == 0
    read = Connection()
    read.exchange(whole=True).respond(200, b"", b"x" * size)
    assert read.budget.held == 0


async def test_a_slow_stream_waits_and_holds() -> None:
    """It takes so much once, waits until its client has read, and waits for nothing where nothing is in the way."""
    connection = Connection()
    exchange = connection.exchange(whole=True)
    exchange.start(200, b"", b"a")
    await exchange.drained()
    assert connection.budget.held == 0
    for _ in range(2):
        connection.wire.pause_writing()
        assert exchange.paused
        task = asyncio.create_task(exchange.drained())
        await asyncio.sleep(0)
        exchange.wake()
        await asyncio.sleep(0)
        assert not task.done(), "woken for something else"
        connection.wire.resume_writing()
        exchange.wake()
        await task
        assert connection.budget.held == SLOW_STREAM_BYTES


async def test_a_slow_stream_without_room_is_cut_off() -> None:
    """And its writer goes on as soon as the client is known to be gone."""
    connection = Connection(limit=SLOW_STREAM_BYTES)
    exchange = connection.exchange(whole=True)
    exchange.start(200, b"", b"a")
    connection.wire.pause_writing()
    task = asyncio.create_task(exchange.drained())
    await asyncio.sleep(0)
    assert connection.transport.aborted == 1
    exchange.on_lost()
    await task
    assert exchange.gone


async def test_waking_nobody_is_harmless() -> None:
    """Twice as well: whoever waits looks for itself."""
    exchange = Connection().exchange()
    exchange.wake()
    task = await reading(exchange)
    exchange.wake()
    exchange.wake()
    error: GatewayError = InvalidRequest("x")
    exchange.on_broken(error)
    with pytest.raises(InvalidRequest):
        await task
