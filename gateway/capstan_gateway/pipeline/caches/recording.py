"""The frames of one stream as they come, for all who wait for them, from the beginning.

Up to a bound all of it is kept, so that one more reader can still begin. Beyond it nobody can, what all readers have
had is let go of, and the engine is read no faster than the slowest reader reads.
"""

import asyncio
from typing import Final

from capstan_gateway.memory import Share
from capstan_gateway.upstream.errors import NoMemory

MOST_KEPT: Final = 4 * 1024 * 1024
"""Bytes of a stream that are kept as a whole."""
AHEAD: Final = 256 * 1024
"""Bytes that a longer stream may be ahead of its slowest reader."""
FREE_BYTES: Final = 64 * 1024
"""What is kept without taking it from the budget: what bounds it is the number of requests."""


class Reader:
    """One who reads a recording."""

    __slots__ = ("_recording", "at", "runs")

    def __init__(self, recording: "Recording") -> None:
        self._recording = recording
        self.at = 0
        """How many bytes it has had."""
        self.runs = 0
        """In how many runs they came."""

    def ready(self) -> bytes:
        """Give what is there and was not read yet, without a wait."""
        return self._recording.take(self)

    async def read(self) -> bytes:
        """Give that, or what comes next; b"" when all is read. Raises what the stream broke by, behind its frames."""
        return await self._recording.wait(self)

    @property
    def is_done(self) -> bool:
        """Whether all is read, and the stream came to its end."""
        return self._recording.is_whole and self.at == self._recording.size

    def close(self) -> None:
        """Read no more."""
        self._recording.readers.discard(self)
        self._recording.moved()


class Recording:
    """Only the loop's thread touches it."""

    def __init__(self, share: Share, *, whose: str, most: int = MOST_KEPT) -> None:
        self.readers: set[Reader] = set()
        self.size = 0
        """Bytes that have come."""
        self.is_whole = False
        """Whether the stream came to its end, and did so well."""
        self._share = share
        self._whose = whose
        self._most = most
        self._runs: list[bytes] = []
        self._start = 0
        """Where the first run that is kept begins."""
        self._gone = 0
        """How many runs were let go of."""
        self._broken: BaseException | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._slow: asyncio.Future[None] | None = None

    @property
    def is_kept(self) -> bool:
        """Whether all of it is there: one more may begin to read."""
        return self._start == 0 and self.size <= self._most

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes."""
        return self.is_whole or self._broken is not None

    def reader(self) -> Reader:
        """Begin to read; RuntimeError when the beginning is gone."""
        if not self.is_kept:
            raise RuntimeError("the beginning of the stream is gone")
        reader = Reader(self)
        self.readers.add(reader)
        return reader

    def add(self, run: bytes) -> None:
        """Take whole frames. Raises NoMemory when there is no room for them."""
        if not run:
            return
        self._runs.append(run)
        self.size += len(run)
        self._trim()
        if self.size - self._start > FREE_BYTES and not self._share.grow_to(self.size - self._start):
            raise NoMemory(self._whose, "the gateway has no room for the stream")
        self._wake()

    async def room(self) -> None:
        """Wait until more may come."""
        while self.size > self._most and self.readers and self.size - self._slowest() > AHEAD:
            self._slow = asyncio.get_running_loop().create_future()
            await self._slow

    def end(self, broken: BaseException | None = None) -> None:
        """Nothing more comes: all of it did, or it broke."""
        self.is_whole, self._broken = broken is None, broken
        self._wake()

    def body(self) -> bytes | None:
        """Give all frames; None where not all are kept."""
        return b"".join(self._runs) if self.is_kept else None

    def take(self, reader: Reader) -> bytes:
        """Give what a reader has not had yet of what is there."""
        if reader.at == self.size:
            return b""
        found = self._runs[reader.runs - self._gone :]
        reader.at, reader.runs = self.size, self._gone + len(self._runs)
        self.moved()
        return found[0] if len(found) == 1 else b"".join(found)

    async def wait(self, reader: Reader) -> bytes:
        """Do the same, and wait for it."""
        while reader.at == self.size:
            if self._broken is not None:
                raise self._broken
            if self.is_whole:
                return b""
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)
        return self.take(reader)

    def moved(self) -> None:
        """A reader has gone on, or has left."""
        self._trim()
        if self._slow is not None and not self._slow.done():
            self._slow.set_result(None)

    def _slowest(self) -> int:
        return min((reader.at for reader in self.readers), default=self.size)

    def _trim(self) -> None:
        if self.size <= self._most:
            return
        slowest, read = self._slowest(), 0
        for run in self._runs:
            if self._start + len(run) > slowest:
                break
            self._start += len(run)
            read += 1
        del self._runs[:read]
        self._gone += read
        kept = self.size - self._start
        self._share.shrink_to(min(self._share.held, kept if kept > FREE_BYTES else 0))

    def _wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
