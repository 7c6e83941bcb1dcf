"""A stream that a guard has to see the end of: it is held, and judged as an answer in one piece."""

from collections.abc import Awaitable, Callable
from typing import Final

from capstan_gateway.streaming.assembly import Assembler
from capstan_gateway.streaming.filters import Chunks, Document
from capstan_gateway.streaming.replay import to_chunks
from capstan_gateway.streaming.sse import json_of

_CHUNK: Final = 64
"""Bytes that a chunk takes beside what is written in it."""


class WholeFilter:
    """Holds a stream to its end, and gives what the guards leave of the answer that it adds up to."""

    def __init__(
        self, judge: Callable[[Document, int], Awaitable[Document]], *, waited: Callable[[float], None],
        now: Callable[[], float],
    ) -> None:  # fmt: skip
        self._judge = judge
        self._waited = waited
        self._now = now
        self._assembler = Assembler()
        self._since: float | None = None
        self._chunks = 0
        self._bytes = 0
        self._usage = False

    @property
    def held(self) -> int:
        """How many bytes of the answer are kept."""
        return self._chunks * _CHUNK + self._bytes

    def chunk(self, chunk: Document) -> Chunks:
        """Take a chunk."""
        self._since = self._now() if self._since is None else self._since
        self._chunks += 1
        self._bytes += len(json_of(chunk))
        self._usage = self._usage or "usage" in chunk
        self._assembler.add(chunk)
        return ()

    def idle(self) -> Chunks:
        """Nothing goes on before the end."""
        return ()

    async def end(self) -> Chunks:
        """Give the answer in pieces, as it is after its judgement."""
        if not self._chunks:
            return ()
        answer, size = self._assembler.answer(), self._bytes
        self._assembler, self._chunks, self._bytes = Assembler(), 0, 0
        found = await self._judge(answer, size)
        self._waited(self._now() - (self._since or 0.0))
        return tuple(to_chunks(found, usage=self._usage and "usage" in found))
