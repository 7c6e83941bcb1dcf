"""The task that reads the answers of one model's entries, by a connection of its own: it waits there for what comes.

    begin ──► which entries does Redis not know? ──► read all that is there ──► those are put in again
                ▲                                                                   │
                └── no connection, or it broke ◄── wait for more, and hand it out ◄─┘
                                                       └─ no entries for a while: it ends

What an entry had come to before Redis was lost is in what is read between the question and putting it in again: so an
entry that is unknown because it has ended is not taken for one that was forgotten.
"""

import asyncio
import logging
from collections.abc import Callable
from random import Random
from typing import Any, Final

from capstan_contract.queue.calls import Failure, Kind, read_piece
from capstan_gateway.life.pauses import doubled
from capstan_gateway.queueing.entry import Entry
from capstan_gateway.queueing.inbox import failure_of
from capstan_gateway.queueing.line import Line
from capstan_gateway.routing.unroutable import QueueRefused
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.scripted import Links
from capstan_gateway.stores.wire import pack
from capstan_gateway.upstream.errors import UpstreamError

log = logging.getLogger(__name__)

BLOCK_SECONDS: Final = 2.0
IDLE_SECONDS: Final = 15.0
"""How long it waits without an entry before it ends."""
LOOK_SECONDS: Final = 30.0
"""How often it is seen what has become of entries, though the connection stands."""
MOST_PIECES: Final = 128
"""That are read at a time."""
FIRST_PAUSE: Final = 0.05
MOST_PAUSE: Final = 1.0
START: Final = b"0-0"
EARLY_SECONDS: Final = 1.0
"""Redis takes an entry for expired when its gateway does, or later: so much earlier, and its clock was set."""
AWAY_SECONDS: Final = 5.0
"""How long Redis may be away before entries that wait are sent directly, where there is an endpoint."""


class Reader:
    """Of one line; it begins with the first entry, and ends when there has been none for a while."""

    def __init__(self, line: Line, make_links: Callable[[float], Links], *, rng: Random) -> None:
        self._line = line
        self._make_links = make_links
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._place = START
        self._away_since: float | None = None
        self._fresh = True
        """Whether it is to be seen what has become of the entries that are there."""

    def wake(self) -> None:
        """There are entries."""
        if self._task is None:
            self._task = self._loop.create_task(self._run())
            self._task.add_done_callback(self._ended)

    @property
    def away_since(self) -> float | None:
        """Since when it has not been able to read, in the loop's time; None: it is."""
        return self._away_since

    def look_again(self) -> None:
        """See what has become of all entries, as when the connection is new."""
        self._fresh = True

    def stop(self) -> None:
        """End it: the queue is nobody's any more."""
        if self._task is not None:
            self._task.cancel()

    async def aclose(self) -> None:
        """End it, and wait for that."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        if task.cancelled():
            return
        if task.exception() is not None:
            log.error("answers of the queue could not be read", exc_info=task.exception())
        if self._line.entries:
            self.wake()

    async def _run(self) -> None:
        links = self._make_links(BLOCK_SECONDS)
        links.start()
        failures = 0
        idle_at = self._loop.time() + IDLE_SECONDS
        self._fresh = True
        looked_at = self._loop.time()
        try:
            while self._loop.time() < idle_at:
                try:
                    # Also where nothing says so: Redis may have given up keys, or have been emptied by somebody.
                    if self._fresh or self._loop.time() - looked_at > LOOK_SECONDS:
                        self._fresh, looked_at = False, self._loop.time()
                        await self._begin(links)
                        failures, self._away_since = 0, None
                    await self._read(links, seconds=BLOCK_SECONDS)
                except StoreDown:
                    self._fresh = True
                    self._away_since = self._away_since or self._loop.time()
                    pause = doubled(FIRST_PAUSE, MOST_PAUSE, failures) * self._rng.uniform(0.5, 1.5)
                    failures += 1
                    await asyncio.sleep(pause)
                if self._line.entries:
                    idle_at = self._loop.time() + IDLE_SECONDS
        finally:
            self._away_since = None
            await links.aclose()

    async def _begin(self, links: Links) -> None:
        """See what has become of the entries that are there, and put in again what Redis has forgotten."""
        line = self._line
        asked = [entry for entry in line.entries.values() if entry.accepted and not entry.over]
        unknown = await line.unknown([entry.id for entry in asked]) if asked else []
        self._place = START
        while await self._read(links):
            pass
        for entry_id in unknown:
            entry = line.entries.get(entry_id)
            if entry is not None and not entry.over:
                await self._put_again(entry)

    async def _put_again(self, entry: Entry) -> None:
        if not entry.start_over():
            return
        try:
            await self._line.put(entry)
        except (QueueRefused, UpstreamError) as error:
            entry.fail(error)
        except StoreDown:
            entry.accepted = True  # As far as anybody knows: it is asked after again.
            raise

    async def _read(self, links: Links, *, seconds: float = 0.0) -> int:
        """Hand out what has come, waiting so long for it; give how many pieces that were. Raises StoreDown."""
        line = self._line
        block: tuple[str | int, ...] = ("BLOCK", int(seconds * 1000)) if seconds else ()
        command = ("XREAD", "COUNT", MOST_PIECES, *block, "STREAMS", line.out, self._place)
        reply = await links.call(line.out, pack(command))
        if not reply:
            return 0
        found: list[Any] = reply[0][1]
        for piece_id, fields in found:
            if piece_id not in line.undeleted and fields:
                self._hand_out(fields)
            self._place = piece_id
        line.was_read(one[0] for one in found)
        return len(found)

    def _hand_out(self, fields: list[bytes]) -> None:
        try:
            piece = read_piece(fields)
        except (KeyError, ValueError):
            log.warning("a piece of an answer in the queue is none")
            return
        entry = self._line.entries.get(piece.id)
        if entry is None:
            if piece.kind is Kind.HEAD:
                self._line.cancel(piece.id)  # Whoever waited for it has gone, and its worker has perhaps not heard.
        elif piece.kind is Kind.FAILURE and self._is_early(entry, piece.data):
            self._fresh = True
        elif not entry.feed(piece):
            self._line.cancel(piece.id)

    def _is_early(self, entry: Entry, word: bytes) -> bool:
        """Whether an entry counts as expired that is not: the clock of Redis was set. It is put in again."""
        return failure_of(word) is Failure.EXPIRED and entry.call.expires_at - self._loop.time() > EARLY_SECONDS
