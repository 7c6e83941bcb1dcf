"""The filters of one stream, one behind the other: what goes in at the front, and what comes out at the end."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from capstan_gateway.streaming.filters import Chunks, Document, EndOfStream, StreamFilter

Wait = Callable[[Chunks | Awaitable[Chunks]], Awaitable[Chunks]]
"""Gives what a filter gives, which may have to ask somebody first; it keeps the time."""


_READY: Final = (tuple, list)
"""What filters give at once: to ask of it whether it can be awaited would take longer than to go on with it."""


class Chain:
    """Each method gives what comes out behind the last filter; it raises EndOfStream with it, or a filter's error."""

    __slots__ = ("_filters", "_wait")

    def __init__(self, filters: Sequence[StreamFilter], wait: Wait) -> None:
        self._filters = tuple(filters)
        self._wait = wait

    @property
    def held(self) -> int:
        """How many bytes of the answer are held back."""
        held = 0
        for one in self._filters:
            held += one.held
        return held

    def chunk(self, chunk: Document) -> Awaitable[Chunks]:
        """Take a chunk."""
        return self._through(0, (chunk,))

    async def idle(self) -> Chunks:
        """The engine is silent."""
        return await self._each(0, lambda one: one.idle())

    async def end(self) -> Chunks:
        """The stream is whole."""
        return await self._each(0, lambda one: one.end())

    async def _each(self, start: int, ask: Callable[[StreamFilter], Chunks | Awaitable[Chunks]]) -> Chunks:
        """Ask one filter after the other; what each gives goes through those behind it before they are asked."""
        out: list[Document] = []
        for position, one in enumerate(self._filters[start:], start):
            try:
                try:
                    given = ask(one)
                    if not isinstance(given, _READY):
                        given = await self._wait(given)
                except EndOfStream as end:
                    raise await self._ended(position, (), end) from end
                out.extend(await self._through(position + 1, given))
            except EndOfStream as end:
                raise EndOfStream(end.finish_reason, (*out, *end.chunks)) from end
        return out

    async def _through(self, position: int, chunks: Chunks) -> Chunks:
        """Give what comes out of the filters from this one on."""
        for number, one in enumerate(self._filters[position:], position):
            if not chunks:
                break
            passed: list[Document] = []
            for chunk in chunks:
                try:
                    given = one.chunk(chunk)
                    passed.extend(given if isinstance(given, _READY) else await self._wait(given))
                except EndOfStream as end:
                    raise await self._ended(number, passed, end) from end
            chunks = passed
        return chunks

    async def _ended(self, position: int, before: Chunks, end: EndOfStream) -> EndOfStream:
        """Give the end that a filter has made of the stream, as it comes out of those behind it.

        What it gave before, and gives now, goes through them like everything else, and for them the stream is whole.
        """
        last = await self._through(position + 1, (*before, *end.chunks))
        try:
            rest = await self._each(position + 1, lambda one: one.end())
        except EndOfStream as another:
            return EndOfStream(another.finish_reason, (*last, *another.chunks))
        return EndOfStream(end.finish_reason, (*last, *rest))
