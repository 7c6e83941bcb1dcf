"""One entry and its reader: deadlines, memory, and what comes anew."""

import asyncio
from typing import Any

import pytest

from capstan_contract.config import ModelQueue
from capstan_contract.queue.calls import Kind, Piece
from capstan_contract.queue.names import PriorityClass
from capstan_contract.queue.wire import AnswerHead, Packing
from capstan_gateway.life.threads import Threads
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.queueing.entry import FREE_BYTES, Entry, StartedOver
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.port import Call, Queueing
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.upstream.errors import (
    BodyBroken,
    BodyTooLarge,
    DeadlineExceeded,
    DeadlineKind,
    NoMemory,
    ProtocolError,
)

WISH = Queueing(
    model="t/chat", rules=ModelQueue(), name="chat", request_id="one", tenant="t", priority=PriorityClass.DEFAULT,
    weight=1.0, tokens=lambda: 1, apart=False, may_wait=True,
)  # fmt: skip
PLAIN = Packing()
HEAD = PLAIN.pack("one", "h", AnswerHead(200, "text/event-stream", "w").write())
FAR = 1e9


def an_entry(*, seconds: float = 60.0, **fields: Any) -> Entry:
    """Give an entry that has been accepted."""
    expires_at = asyncio.get_running_loop().time() + seconds
    call = Call(EndpointSet(EndpointRegistry()), b"/chat/completions", expires_at, **fields)
    entry = Entry("one", call, WISH, PLAIN, Threads("test"))
    entry.accepted = True
    return entry


def data(text: bytes, attempt: int = 1) -> Piece:
    """Give a piece of the body."""
    return Piece("one", attempt, Kind.DATA, PLAIN.pack("one", "d", text))


def head(attempt: int = 1) -> Piece:
    """Give a head."""
    return Piece("one", attempt, Kind.HEAD, HEAD)


async def receive(entry: Entry, seconds: float = 60.0) -> bytes:
    """Give what comes next."""
    deadline = asyncio.get_running_loop().time() + seconds
    return await entry.receive(deadline, DeadlineKind.IDLE, lambda _: None)


async def test_what_was_passed_on_is_told_as_it_was_posted() -> None:
    """The window is counted in bytes as they are in Redis, and not as they are when they are read."""
    entry, told = an_entry(), []
    piece = data(b"x" * 5000)
    for one in (head(), piece):
        entry.feed(one)
    await entry.head()
    assert await entry.receive(FAR, DeadlineKind.IDLE, told.append) == b"x" * 5000
    assert told == [len(piece.data)]
    assert told[0] < 1000


async def test_a_reader_hears_that_it_starts_over() -> None:
    """Whoever has read a part of one attempt never gets a part of the next one behind it."""
    entry = an_entry()
    for one in (head(), data(b"a")):
        entry.feed(one)
    await entry.head()
    assert await receive(entry) == b"a"
    for one in (head(2), data(b"b", 2)):
        entry.feed(one)
    with pytest.raises(StartedOver):
        await receive(entry)
    await entry.head()
    assert await receive(entry) == b"b"


async def test_what_must_not_be_sent_twice_is_not_asked_for_anew() -> None:
    """Where Redis has forgotten it a worker may have had it: it fails."""
    entry = an_entry()
    entry.call.repeatable = False
    assert not entry.start_over()
    with pytest.raises(BodyBroken):
        await entry.head()


async def test_what_redis_has_forgotten_is_asked_for_anew() -> None:
    """An entry of which nothing was given out waits again, and takes the first attempt for its own."""
    entry = an_entry()
    for one in (head(3), data(b"a", 3)):
        entry.feed(one)
    await entry.head()
    assert entry.start_over()
    assert entry.waits
    with pytest.raises(StartedOver):
        await receive(entry)
    for one in (head(), data(b"b")):
        entry.feed(one)
    await entry.head()
    assert await receive(entry) == b"b"


async def test_what_was_given_out_in_part_fails() -> None:
    """An entry of which the client has a part is not asked for anew."""
    entry = an_entry()
    entry.feed(head())
    await entry.head()
    entry.inbox.committed = True
    assert not entry.start_over()
    with pytest.raises(BodyBroken):
        await receive(entry)


async def test_deadlines() -> None:
    """What nobody takes in its total time ends; so does what is silent for too long, and each is told as what it is."""
    waiting = an_entry(seconds=0.01)
    with pytest.raises(DeadlineExceeded) as total:
        await waiting.head()
    assert total.value.kind is DeadlineKind.TOTAL
    silent = an_entry()
    silent.feed(head())
    await silent.head()
    with pytest.raises(DeadlineExceeded) as idle:
        await receive(silent, 0.01)
    assert idle.value.kind is DeadlineKind.IDLE


async def test_what_waits_to_be_read_takes_of_the_budget() -> None:
    """A stream whose reader is slow holds memory that is counted, given back when it is read, and bounded."""
    budget = MemoryBudget(10 * FREE_BYTES)
    entry = an_entry(memory=budget.share)
    entry.feed(head())
    await entry.head()
    piece = Piece("one", 1, Kind.DATA, b"\0" + b"x" * FREE_BYTES)
    assert entry.feed(piece)
    assert budget.held == len(piece.data)
    assert len(await receive(entry)) == FREE_BYTES
    assert budget.held == 0
    while entry.feed(piece):
        assert budget.held <= budget.limit
    with pytest.raises(NoMemory):
        await receive(entry)


async def test_whole_answers_are_bounded() -> None:
    """An answer in one piece is at most as large as it may be."""
    entry = an_entry(whole_bytes=10)
    for one in (head(), data(b"a" * 11)):
        entry.feed(one)
    await entry.head()
    with pytest.raises(BodyTooLarge):
        await entry.whole(10, lambda _: None)


async def test_what_cannot_be_read() -> None:
    """A piece that was changed, or is not sealed as it must be, is a fault of who posted it."""
    entry = an_entry()
    entry.feed(Piece("one", 1, Kind.HEAD, b"\xff"))
    with pytest.raises(ProtocolError):
        await entry.head()
