"""What the connections of one port share: who answers, within which bounds, and what they hold together."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import httptools

from capstan_gateway.headers import Header
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.serving.cors import Cors, CorsSettings
from capstan_gateway.serving.dates import DateLine
from capstan_gateway.serving.exchange import Exchange
from capstan_gateway.serving.refusals import ErrorWriter
from capstan_gateway.serving.turned_away import TurnedAway
from capstan_gateway.serving.uploads import Uploads

MEMORY_BYTES: Final = 512 * 1024 * 1024
"""What requests may hold where nobody says it."""

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
    keep_alive_seconds: float = 75.0
    """How long a connection is kept for its next request."""


ErrorWriters = Callable[[bytes, Sequence[Header]], ErrorWriter | None]
"""Who writes the errors of what has this target, or its beginning, and these headers; None: they are OpenAI's."""


class Connected(Protocol):
    """A connection, as whoever closes the port sees it; `client_connection.ClientConnection` is one."""

    def shut_down(self) -> None:
        """Close when nothing is to be answered any more."""
        ...

    def cancel(self) -> None:
        """Cut off what is being answered, or what was answered and is not read."""
        ...


class Service:
    """What one port does for its clients. Belongs to the loop that it was made in."""

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
        error_writer: ErrorWriters = lambda target, headers: None,  # noqa: ARG005 - one API for all
        find: Callable[[bytes], Handler | None] = lambda path: None,  # noqa: ARG005 - no path holds a name
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.limits = limits
        self.connections: set[Connected] = set()
        self.handlers = dict(handlers)
        """By path."""
        self.closing = False
        """Whether no further connection is accepted."""
        self.closed = asyncio.Event()
        """Set when it is closing and the last connection has gone."""
        self.memory = memory or MemoryBudget(MEMORY_BYTES)
        """What all requests may hold together."""
        self.turned_away = turned_away or TurnedAway()
        self.cors = Cors(cors) if cors is not None else None
        self.date_line: Callable[[], bytes] = DateLine()
        self.error_writer = error_writer
        self.on_cut_off = on_cut_off
        """Called with the reason for each connection that is cut off because its client is too slow."""
        self.uploads = Uploads(self.loop.time, lambda: self.on_cut_off("slow_upload"))
        """The bodies that are awaited; they give way to others."""
        self.memory.lenders.append(self.uploads)
        self._otherwise = otherwise
        self._find = find

    def handler(self, target: bytes) -> Handler:
        """Who serves requests of this target: by its path as it came, whatever its query is.

        An escape stays one: what stands behind `%2F` is part of a name, not a path of its own.
        """
        path = path_of(target)
        return self.handlers.get(path) or self._find(path) or self._otherwise

    def close(self) -> None:
        """No body is awaited any more: nobody is lent anything by this port."""
        if self.uploads in self.memory.lenders:
            self.memory.lenders.remove(self.uploads)

    def on_lost(self, connection: Connected) -> None:
        """Forget a connection."""
        self.connections.discard(connection)
        if self.closing and not self.connections:
            self.closed.set()


def cross_origin(cors: Cors, exchange: Exchange, handler: Handler) -> Handler:
    """Give who answers a request that may come from a page of another origin: a preflight is answered here."""
    exchange.extra_lines = cors.lines(exchange.headers)
    preflight = cors.preflight(exchange.method, exchange.headers)
    if preflight is None:
        return handler
    exchange.extra_lines = b""
    lines = preflight

    def answer(exchange: Exchange) -> None:
        exchange.respond(204, lines, b"")

    return answer


def path_of(target: bytes) -> bytes:
    """The path of a request's target, which may be an absolute URL; b"" when it is none."""
    try:
        return bytes(httptools.parse_url(target).path or b"")
    except httptools.HttpParserInvalidURLError:
        return b""
