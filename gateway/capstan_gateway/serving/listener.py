"""The listening socket, and all connections that came through it."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import httptools

from capstan_gateway.memory import MemoryBudget
from capstan_gateway.serving.client_connection import ClientConnection
from capstan_gateway.serving.cors import Cors, CorsSettings
from capstan_gateway.serving.dates import DateLine
from capstan_gateway.serving.exchange import Exchange
from capstan_gateway.serving.turned_away import TurnedAway

BACKLOG: Final = 4096
MEMORY_BYTES: Final = 512 * 1024 * 1024
"""What requests may hold where nobody says it."""
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
    write_seconds: float = 30.0
    """How long a client may take to read what it was sent, or a part of it."""


class Listener:
    """Serves one port. Belongs to the loop that it was made in."""

    def __init__(
        self,
        handlers: Mapping[bytes, Handler],
        otherwise: Handler,
        limits: ServingLimits,
        *,
        memory: MemoryBudget | None = None,
        turned_away: TurnedAway | None = None,
        cors: CorsSettings | None = None,
        on_cut_off: Callable[[str], object] = lambda reason: None,  # noqa: ARG005 - nobody wants to know
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.limits = limits
        self.connections: set[ClientConnection] = set()
        self.handlers = dict(handlers)
        """By path."""
        self.closing = False
        """Whether no further connection is accepted."""
        self.memory = memory or MemoryBudget(MEMORY_BYTES)
        """What all requests may hold together."""
        self.turned_away = turned_away or TurnedAway()
        self.cors = Cors(cors) if cors is not None else None
        self.date_line = DateLine()
        self.on_cut_off = on_cut_off
        """Called with the reason for each connection that is cut off because its client is too slow."""
        self._otherwise = otherwise
        self._server: asyncio.Server | None = None
        self._closed = asyncio.Event()

    async def listen(self, host: str, port: int) -> None:
        """Accept connections from now on. Raises OSError when the address cannot be had."""
        self._server = await self.loop.create_server(lambda: ClientConnection(self), host, port, backlog=BACKLOG)

    def handler(self, target: bytes) -> Handler:
        """Give who serves requests of this target: by its path as it came, whatever its query is.

        An escape stays one: what stands behind `%2F` is part of a name, not a path of its own.
        """
        return self.handlers.get(path_of(target), self._otherwise)

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
