"""Listens to the workers that tell which blocks of prompts their engines hold: one stream for each endpoint.

    connect ─► head ─► snapshot ─► changes, beats ─► lost: forgotten, a pause that doubles, again
                                     │
                                     └─► routing.held_blocks, of the endpoint's set

What is lost is not believed any longer: its endpoint counts by the estimate until it has told all anew.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final

from capstan_contract.kv_events import (
    KV_EVENTS_BEAT_SECONDS,
    KV_EVENTS_PATH,
    KV_EVENTS_TYPE,
    MOST_LINE_BYTES,
    KVEventError,
    read_change,
    read_head,
)
from capstan_gateway.life.pauses import doubled
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.held_blocks import HeldBlocks, TooManyBlocks
from capstan_gateway.upstream.errors import UpstreamError
from capstan_gateway.upstream.port import Endpoint, UpstreamClient, UpstreamResponse

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.25
"""How often it is looked whether there are other endpoints."""
MOST_STREAMS: Final = 512
LOST_SECONDS: Final = 3 * KV_EVENTS_BEAT_SECONDS
"""A worker that has sent no line for so long is lost."""
CONNECT_SECONDS: Final = 5.0
FIRST_PAUSE_SECONDS: Final = 0.5
MOST_PAUSE_SECONDS: Final = 30.0
NO_ROOM_PAUSE_SECONDS: Final = 300.0
"""After one for whose blocks there is no room: its snapshot would be read again for nothing."""
OK: Final = 200
FULL: Final = 503
"""What a worker answers to which as many listen as may (`docs/worker.md`)."""
AT_ONCE_BYTES: Final = 8192
AT_ONCE_LINES: Final = 64
"""Behind so many bytes or lines others have their turn: to take them in is up to a millisecond of work."""
_HEADERS: Final = ((b"accept", KV_EVENTS_TYPE.encode()),)


class Unheard(StrEnum):
    """Why a worker is not heard, or no longer."""

    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    """It tells nothing: an older release, or an engine without events."""
    FULL = "full"
    """As many listen to it as may: this gateway goes by the estimate, and others do not."""
    MALFORMED = "malformed"
    BLOCKS = "blocks"
    """There is no room for the blocks that it tells."""
    SILENT = "silent"
    ENDED = "ended"
    FAULT = "fault"
    """A bug of ours."""


class NotTold(Exception):
    """A worker that does not tell."""

    def __init__(self, status: int) -> None:
        if status == FULL:
            self.reason, why = Unheard.FULL, "as many listen to it as may"
        else:
            self.reason, why = Unheard.REFUSED, f"it answers with status {status}"
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class _Stream:
    """What is heard of one endpoint."""

    worker: Endpoint
    held: HeldBlocks
    task: asyncio.Task[None]


class KVListening:
    """Keeps a stream to the worker of each endpoint that has one. State outlives configs; only the loop's thread."""

    def __init__(self, client: UpstreamClient, *, most_blocks: int, rng: Random) -> None:
        """`most_blocks` is how many are known of all endpoints together; with 0 nobody is listened to."""
        self._client = client
        self._most_blocks = most_blocks
        self._rng = rng
        self._now = asyncio.get_running_loop().time
        self._sets: tuple[EndpointSet, ...] = ()
        self._seen: int | None = None
        """What the versions of the sets came to when it was last looked whether there are other endpoints."""
        self._streams: dict[str, _Stream] = {}
        self._blocks = 0

    @property
    def blocks(self) -> int:
        """How many blocks are known of all endpoints together."""
        return self._blocks

    def want(self, sets: Iterable[EndpointSet]) -> None:
        """Take the endpoints of the models whose workers tell; of others nothing is known from now on."""
        wanted = tuple(dict.fromkeys(sets)) if self._most_blocks else ()
        for one in self._sets:
            if one not in wanted:
                one.held = None
        for one in wanted:
            one.held = one.held or HeldBlocks()
        self._sets = wanted
        self._seen = None

    async def run(self) -> None:
        """Listen until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._renew(group)
                    await asyncio.sleep(TICK_SECONDS)
        finally:
            self._streams.clear()

    def _renew(self, group: asyncio.TaskGroup) -> None:
        seen = sum(one.version for one in self._sets)  # NB: versions only grow.
        if seen == self._seen:
            return
        self._seen = seen
        wanted = {
            state.endpoint.id: (state.endpoint.worker, one.held)
            for one in self._sets
            for state in one.states
            if state.endpoint.worker is not None and one.held is not None
        }
        for id_, stream in list(self._streams.items()):
            if wanted.get(id_) != (stream.worker, stream.held):
                stream.task.cancel()
                del self._streams[id_]
        for id_, (worker, held) in wanted.items():
            if id_ not in self._streams and len(self._streams) < MOST_STREAMS:
                task = group.create_task(self._listen(id_, worker, held), name=f"kv-events {id_}")
                self._streams[id_] = _Stream(worker, held, task)

    async def _listen(self, id_: str, worker: Endpoint, held: HeldBlocks) -> None:
        """Hear one worker until cancelled."""
        failures = 0
        said = ""
        while True:
            began = self._now()
            try:
                await self._hear(id_, worker, held)
                reason, why = Unheard.ENDED, "its stream has ended"
            except UpstreamError as error:
                reason, why = Unheard.UNREACHABLE, type(error).__name__
            except NotTold as error:
                reason, why = error.reason, str(error)
            except KVEventError as error:
                reason, why = Unheard.MALFORMED, str(error)
            except TooManyBlocks as error:
                reason, why = Unheard.BLOCKS, str(error)
            except TimeoutError:
                reason, why = Unheard.SILENT, f"no line for {LOST_SECONDS:g} s"
            except Exception as error:
                # A bug that this worker has found: the other ones are to be heard all the same.
                log.exception("a worker was not heard, because of a bug", extra={"endpoint": id_})
                reason, why = Unheard.FAULT, type(error).__name__
            held.unheard[reason] = held.unheard.get(reason, 0) + 1
            if why != said:
                said = why
                log.info("a worker does not tell which blocks it holds", extra={"endpoint": id_, "reason": why})
            failures = 0 if self._now() - began > MOST_PAUSE_SECONDS else failures + 1
            pause = doubled(FIRST_PAUSE_SECONDS, MOST_PAUSE_SECONDS, failures - 1)
            if reason is Unheard.BLOCKS:
                pause = NO_ROOM_PAUSE_SECONDS
            await asyncio.sleep(pause * self._rng.uniform(0.5, 1.0))

    async def _hear(self, id_: str, worker: Endpoint, held: HeldBlocks) -> None:
        """Hear one stream to its end; raises when it breaks off, or is none."""
        response = await self._client.send(
            worker,
            method=b"GET",
            path=KV_EVENTS_PATH.encode(),
            headers=_HEADERS,
            connect_timeout=CONNECT_SECONDS,
            first_byte_timeout=LOST_SECONDS,
            idle_timeout=LOST_SECONDS,
            repeatable=True,
        )
        known = 0
        try:
            if response.status != OK:
                raise NotTold(response.status)
            async with aclosing(_lines(response)) as lines:
                head = read_head(await anext(lines, b""))
                self._make_room(head.snapshot)
                held.begin(id_, head)
                size = count = 0
                async for line in lines:
                    change = read_change(line)
                    self._make_room(len(change.stored))
                    more = held.apply(id_, change)
                    known += more
                    self._blocks += more
                    size, count = size + len(line), count + 1
                    if size >= AT_ONCE_BYTES or count >= AT_ONCE_LINES:
                        size = count = 0
                        await asyncio.sleep(0)
        finally:
            response.abort()
            held.forget(id_)
            self._blocks -= known

    def _make_room(self, blocks: int) -> None:
        if self._blocks + blocks > self._most_blocks:
            raise TooManyBlocks(f"more than {self._most_blocks} blocks of all endpoints would be known")


async def _lines(response: UpstreamResponse) -> AsyncGenerator[bytes]:
    """Give the lines of a body, each within LOST_SECONDS of the one before; what has no end is left out."""
    rest = b""
    while True:
        async with asyncio.timeout(LOST_SECONDS):
            while b"\n" not in rest:
                piece = await response.receive()
                if not piece:
                    return
                rest += piece
                if len(rest) > MOST_LINE_BYTES and b"\n" not in rest[:MOST_LINE_BYTES]:
                    raise KVEventError(f"a line must have at most {MOST_LINE_BYTES} bytes")
        *lines, rest = rest.split(b"\n")
        for line in lines:
            yield line
