"""A TCP proxy between two processes, by which a test parts them: nothing goes through, or nothing is let in."""

import asyncio
from contextlib import suppress
from typing import Self

from support.ports import free_port

_PIECE = 64 * 1024


class TcpProxy:
    """`async with TcpProxy(port) as proxy:` listens at `proxy.port` and passes everything on until told otherwise."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._open = asyncio.Event()
        self._open.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stall(self) -> None:
        """Lose every packet: connections stay, new ones are taken, and no byte and no end comes through."""
        self._open.clear()

    async def refuse(self) -> None:
        """Reset every connection, and let nobody in."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()

    async def mend(self) -> None:
        """Pass everything on again; what was held up by a stall comes through, as TCP sends it again."""
        self._open.set()
        if self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._open.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(back)
            try:
                await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
            finally:
                self._writers.discard(back)
                back.transport.abort()
        except (OSError, asyncio.CancelledError):
            pass  # One of the two is gone, or the test is over.
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(_PIECE):
            await self._open.wait()
            writer.write(piece)
            await writer.drain()
        await self._open.wait()
        # Neither side of this protocol ends one direction alone.
        with suppress(OSError):
            writer.transport.abort()
        raise ConnectionResetError
