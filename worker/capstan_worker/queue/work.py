"""One entry at the engine: what is asked, its answer piece by piece, and what to do when there is none."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from capstan_contract.queue.calls import Failure, Taken
from capstan_contract.queue.wire import AnswerHead, Packing, Unreadable, read_ask
from capstan_worker.engine.port import Engine, EngineRequest
from capstan_worker.errors import EngineError, EngineUnreachable
from capstan_worker.queue.outbox import Outbox
from capstan_worker.queue.poster import Poster

PATHS: Final = frozenset(
    f"{version}/{name}"
    for version in ("/v1", "")
    for name in ("chat/completions", "completions", "embeddings", "score", "rerank", "classify")
)
"""What entries may ask for: an engine has other paths, which whoever can write into Redis has no business with."""
FULL: Final = (429, 503)
"""What an engine answers that has no room."""
NOT_PASSED: Final = frozenset(
    {
        *("host", "content-length", "content-type", "accept-encoding", "connection", "keep-alive", "te", "trailer"),
        *("transfer-encoding", "upgrade", "expect"),
    }
)
"""Headers of an entry that are about a connection, or that let its answer be compressed, which nobody would be told."""
LARGE_BYTES: Final = 256 << 10
"""A larger body is unpacked in a thread: the engine in this process must not wait for it."""
MOST_REFUSALS: Final = 8
"""After so many attempts that is the answer."""
MOST_UNREADABLE: Final = 4
"""An entry that is sealed by another key than the worker's is another worker's, until it was taken so often."""


class End(StrEnum):
    """How an entry's time at the engine ended."""

    ANSWERED = "answered"
    """Its end or its failure is in the outbox."""
    FULL = "full"
    UNREACHABLE = "unreachable"
    """Nothing listened: the entry never came to the engine."""
    UNREADABLE = "unreadable"
    """It is sealed, or not, as no entry is that this worker can read: another one may."""
    CRASHED = "crashed"
    """The engine broke off before it gave anything, and may have died of it."""


@dataclass(slots=True)
class Work:
    """An entry that is at the engine."""

    taken: Taken
    started: float
    """By the loop's clock, as is `deadline`."""
    deadline: float
    task: "asyncio.Task[None] | None" = None
    begun: bool = False
    """Whether the engine has given anything of its body."""
    streams: bool = False

    @property
    def request_id(self) -> str:
        """What the engine knows it by: another attempt is another request."""
        return f"{self.taken.id}.{self.taken.attempt}"


@dataclass(frozen=True, slots=True)
class Desk:
    """What work needs."""

    engine: Engine
    outbox: Outbox
    poster: Poster
    packing: Packing
    name: str
    """Of the worker, for the head of answers."""
    address: str
    """Where gateways reach its engine; "": not known."""
    headers: tuple[tuple[str, str], ...]
    """For the engine, beside those of the entry."""
    lives: Callable[[], None]
    """Called whenever the engine gives something."""


async def do(work: Work, desk: Desk) -> End:
    """Get an entry answered. The engine works on nothing of it when this ends, however it ends."""
    entry_id = work.taken.id
    try:
        async with asyncio.timeout_at(work.deadline):
            return await _ask(work, desk)
    except TimeoutError:
        desk.outbox.fail(entry_id, Failure.EXPIRED)
    except Unreadable:
        desk.outbox.fail(entry_id, Failure.UNREADABLE)
    except EngineUnreachable:
        if not work.begun:
            return End.UNREACHABLE
        desk.outbox.fail(entry_id, Failure.ENGINE)
    except EngineError:
        if not work.begun:
            return End.CRASHED
        desk.outbox.fail(entry_id, Failure.ENGINE)
    finally:
        await desk.engine.abort(work.request_id)
        desk.poster.wake()
    return End.ANSWERED


async def _ask(work: Work, desk: Desk) -> End:
    taken = work.taken
    ask = read_ask(taken.ask)
    if ask.path not in PATHS:
        raise Unreadable("an entry asks for a path that is none of a model")
    try:
        if len(taken.body) > LARGE_BYTES:
            body = await asyncio.to_thread(desk.packing.unpack, taken.id, "b", taken.body)
        else:
            body = desk.packing.unpack(taken.id, "b", taken.body)
    except Unreadable:
        if taken.attempt < MOST_UNREADABLE:
            return End.UNREADABLE
        raise
    headers = tuple((name, value) for name, value in ask.headers if name.lower() not in NOT_PASSED)
    request = EngineRequest(work.request_id, ask.path, body, (*headers, *desk.headers))
    answer = await desk.engine.generate(request)
    if answer.head.status in FULL and taken.attempt < MOST_REFUSALS:
        return End.FULL
    work.streams = "event-stream" in answer.head.content_type
    if not work.streams:
        # NB: the head of a stream comes before anything was computed, also from an engine that hangs.
        desk.lives()
    head = AnswerHead(answer.head.status, answer.head.content_type, desk.name, desk.address)
    desk.outbox.head(taken.id, head.write())
    async for piece in answer.body:
        work.begun = True
        desk.lives()
        await desk.poster.put(taken.id, piece)
    work.begun = True
    desk.outbox.end(taken.id)
    return End.ANSWERED
