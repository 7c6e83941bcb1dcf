"""The listening socket, and all connections that came through it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

import httptools

from capstan_gateway.serving.client_connection import ClientConnection
from capstan_gateway.serving.exchange import Exchange

BACKLOG: Final = 4096
CANCEL_SECONDS: Final = 2.0
"""How long handlers may take to end once they are cut off."""

Handler = Callable[[Exchange], Awaitable[None] | None]
"""Answers a request, at once or when what it gives has been awaited. It runs in a task of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingLimits:
    """Bounds of what clients can hold."""

    max_head_bytes: int
    """A head may be larger by what one read brings. Trailers are bounded alike."""
    max_connections: int
    """One more is told so, and closed."""


class Listener:
    """Serves one port. Belongs to the loop that it was made in."""

    def __init__(
        self,
        handlers: Mapping[bytes, Handler],
        otherwise: Handler,
        limits: ServingLimits,
        on_refused: Callable[[], object] = lambda: None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.limits = limits
        self.connections: set[ClientConnection] = set()
        self.handlers = dict(handlers)
        """By path."""
        self.closing = False
        """Whether no further connection is accepted."""
        self.on_refused = on_refused
        """Called for each connection that is one too many."""
        self._otherwise = otherwise
        self._server: asyncio.Server | None = None
        self._closed = asyncio.Event()

    async def listen(self, host: str, port: int) -> None:
        """Accept connections from now on. Raises OSError when the address cannot be had."""
        self._server = await self.loop.create_server(lambda: ClientConnection(self), host, port, backlog=BACKLOG)

    def handler(self, target: bytes) -> Handler:
        """Give who serves requests of this target: by its path, whatever its query is."""
        path = path_of(target)
        return self.handlers.get(unquote_to_bytes(path) if b"%" in path else path, self._otherwise)

    def on_lost(self, connection: ClientConnection) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        if self.closing and not self.connections:
            self._closed.set()

    async def close(self, *, grace_seconds: float, hurry: asyncio.Event | None = None) -> None:
        """Accept no more, and return when all is answered; what is not after the grace, or in a hurry, is cut off."""
        self.closing = True
        if self._server is not None:
            self._server.close()
        if not self.connections:
            return
        for connection in list(self.connections):
            connection.shut_down()
        waits = [asyncio.create_task(self._closed.wait())]
        if hurry is not None:
            waits.append(asyncio.create_task(hurry.wait()))
        await asyncio.wait(waits, timeout=grace_seconds, return_when=asyncio.FIRST_COMPLETED)
        for connection in list(self.connections):
            connection.cancel()
        await asyncio.wait(waits[:1], timeout=CANCEL_SECONDS)
        for wait in waits:
            wait.cancel()


def path_of(target: bytes) -> bytes:
    """Give the path of a request's target, which may be an absolute URL; b"" when it is none."""
    try:
        return bytes(httptools.parse_url(target).path or b"")
    except httptools.HttpParserInvalidURLError:
        return b""
