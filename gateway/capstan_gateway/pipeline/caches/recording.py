"""The frames of one stream as they come, for all who wait for them, from the beginning.

Up to a bound all of it is kept, so that one more reader can still begin. Beyond it, and where the gateway has no room
for that much, nobody can: what all readers have had is let go of, and the engine is read no faster than the slowest
reader reads. One that does not read at all while others wait is left behind.
"""

import asyncio
from typing import Final, NamedTuple

from capstan_gateway.memory import Share
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.tokens.usage import Usage
from capstan_gateway.upstream.errors import NoMemory

MOST_KEPT: Final = 4 * 1024 * 1024
"""Bytes of a stream that are kept as a whole."""
AHEAD: Final = 256 * 1024
"""Bytes that a longer stream may be ahead of its slowest reader."""
FREE_BYTES: Final = 64 * 1024
"""What is kept without taking it from the budget: what bounds it is the number of requests."""
STALL_SECONDS: Final = 5.0
"""How long others wait for a reader that does not read. A client that reads 50 KiB a second is never left behind."""


class Mark(NamedTuple):
    """What an engine had counted at the end of a run."""

    usage: Usage | None
    counted: bool
    """Whether that is all that had come."""


class Reader:
    """One who reads a recording."""

    __slots__ = ("_recording", "at", "left_behind", "runs")

    def __init__(self, recording: "Recording") -> None:
        self._recording = recording
        self.at = 0
        """How many bytes it has had."""
        self.runs = 0
        """In how many runs they came."""
        self.left_behind = False
        """Whether others wait for it no more: what it has not had is not there any more."""

    def ready(self) -> bytes:
        """Give what is there and was not read yet, without a wait."""
        return self._recording.take(self)

    async def read(self) -> bytes:
        """Give that, or what comes next; b"" when all is read. Raises what the stream broke by, behind its frames."""
        return await self._recording.wait(self)

    def next(self) -> tuple[bytes, Mark | None]:
        """Give the next run that is there, with what was known at its end; b"" when there is none yet."""
        return self._recording.take_one(self)

    async def come(self) -> None:
        """Wait until there is one, or all is read. Raises as `read` does."""
        await self._recording.wait_for_more(self)

    @property
    def is_done(self) -> bool:
        """Whether all is read, and the stream came to its end."""
        return self._recording.is_whole and self.at == self._recording.size

    def close(self) -> None:
        """Read no more."""
        self._recording.without(self)


class Recording:
    """Only the loop's thread touches it. What it holds of the budget is given back when nobody reads it any more."""

    def __init__(
        self, share: Share, *, whose: str, most: int | None = None, stall_seconds: float | None = None
    ) -> None:
        self.readers: dict[Reader, None] = {}
        self.size = 0
        """Bytes that have come."""
        self.is_whole = False
        """Whether the stream came to its end, and did so well."""
        self._share = share
        self._whose = whose
        self._most = MOST_KEPT if most is None else most
        self._stall_seconds = STALL_SECONDS if stall_seconds is None else stall_seconds
        self._runs: list[bytes] = []
        self._start = 0
        """Where the first run that is kept begins."""
        self._marks: list[Mark | None] = []
        self._gone = 0
        """How many runs were let go of."""
        self._broken: BaseException | None = None
        self._closed = False
        self._waiting: set[asyncio.Future[None]] = set()
        self._moved: asyncio.Future[None] | None = None

    @property
    def is_kept(self) -> bool:
        """Whether all of it is there: one more may begin to read."""
        return self._start == 0 and self.size <= self._most and not self._closed

    def reader(self) -> Reader:
        """Begin to read; RuntimeError when the beginning is gone."""
        if not self.is_kept:
            raise RuntimeError("the beginning of the stream is gone")
        reader = Reader(self)
        self.readers[reader] = None
        return reader

    def add(self, run: bytes, mark: Mark | None = None) -> None:
        """Take whole frames. Raises NoMemory when there is no room even for what somebody has still to read."""
        if not run:
            return
        self._runs.append(run)
        self._marks.append(mark)
        self.size += len(run)
        self._trim()
        if not self._has_room():
            self._most = 0
            self._trim()
            if not self._has_room():
                raise NoMemory(self._whose, "the gateway has no room for the stream")
        self._wake()

    async def room(self) -> None:
        """Wait until more may come: until nobody is far behind. Who does not move while others wait is left behind."""
        while self._far_behind():
            late = {reader: reader.at for reader in self._far_behind()}
            try:
                async with asyncio.timeout(self._stall_seconds):
                    while self._far_behind():
                        self._moved = asyncio.get_running_loop().create_future()
                        await self._moved
            except TimeoutError:
                if self._waiting:
                    self._leave_behind([reader for reader, at in late.items() if reader.at == at])
        self._trim()

    async def wanted(self) -> None:
        """Wait until somebody waits for more: of a stream that limits count nothing is read ahead of who pays."""
        while self.readers and not self._waiting:
            self._moved = asyncio.get_running_loop().create_future()
            await self._moved

    def end(self, broken: BaseException | None = None) -> None:
        """Nothing more comes: all of it did, or it broke."""
        self.is_whole, self._broken = broken is None, broken
        self._wake()

    def close(self) -> None:
        """Nobody begins to read any more: what is kept from now on is for those who read."""
        self._closed = True
        self._let_go()

    def body(self) -> bytes | None:
        """Give all frames; None where not all are kept."""
        return b"".join(self._runs) if self.is_kept else None

    def take(self, reader: Reader) -> bytes:
        """Give what a reader has not had yet of what is there."""
        if reader.at == self.size or reader.left_behind:
            return b""
        found = self._runs[reader.runs - self._gone :]
        reader.at, reader.runs = self.size, self._gone + len(self._runs)
        self._poke()
        return found[0] if len(found) == 1 else b"".join(found)

    def take_one(self, reader: Reader) -> tuple[bytes, Mark | None]:
        """Give the next run that a reader has not had."""
        if reader.at == self.size or reader.left_behind:
            return b"", None
        place = reader.runs - self._gone
        run = self._runs[place]
        reader.at, reader.runs = reader.at + len(run), reader.runs + 1
        self._poke()
        return run, self._marks[place]

    async def wait(self, reader: Reader) -> bytes:
        """Give what a reader has not had yet, and wait for it."""
        await self.wait_for_more(reader)
        return self.take(reader)

    async def wait_for_more(self, reader: Reader) -> None:
        """Wait for what it has not had, or the end."""
        while reader.at == self.size or reader.left_behind:
            if reader.left_behind:
                raise StreamBroken("the answer was read too slowly, and others wait for the same one")
            if self._broken is not None:
                # NB: many raise it, and each would add its frames to those of all others.
                raise self._broken.with_traceback(None)
            if self.is_whole:
                return
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            self._poke()
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)

    def without(self, reader: Reader) -> None:
        """A reader has left."""
        self.readers.pop(reader, None)
        self._poke()
        self._trim()
        self._let_go()

    def _far_behind(self) -> list[Reader]:
        if self.size <= self._most:
            return []
        ahead = AHEAD if self._most else FREE_BYTES
        return [reader for reader in self.readers if self.size - reader.at > ahead]

    def _leave_behind(self, readers: list[Reader]) -> None:
        for reader in readers:
            reader.left_behind = True
            self.readers.pop(reader, None)
        self._trim()
        self._wake()

    def _has_room(self) -> bool:
        kept = self.size - self._start
        return kept <= FREE_BYTES or self._share.grow_to(kept)

    def _trim(self) -> None:
        if self.size <= self._most:
            return
        slowest = min((reader.at for reader in self.readers), default=self.size)
        read = 0
        for run in self._runs:
            if self._start + len(run) > slowest:
                break
            self._start += len(run)
            read += 1
        del self._runs[:read], self._marks[:read]
        self._gone += read
        kept = self.size - self._start
        self._share.shrink_to(kept if kept > FREE_BYTES else 0)

    def _let_go(self) -> None:
        if self._closed and not self.readers:
            self._runs.clear()
            self._marks.clear()
            self._share.release()

    def _poke(self) -> None:
        """Have who waits for readers look again."""
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(None)

    def _wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()
