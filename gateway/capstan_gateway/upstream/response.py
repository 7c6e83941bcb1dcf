"""A response as its reader sees it; `connection.Connection` fills it."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from capstan_gateway.memory import Share
from capstan_gateway.upstream.errors import (
    BodyBroken,
    BodyTooLarge,
    DeadlineExceeded,
    DeadlineKind,
    NoMemory,
    UpstreamError,
)

# NB: a member of an enumeration is looked up anew each time that its class is asked for it.
_FIRST_TOKEN: Final = DeadlineKind.FIRST_TOKEN
_IDLE: Final = DeadlineKind.IDLE
_TOTAL: Final = DeadlineKind.TOTAL


_NO_HEADERS: Final[list[tuple[bytes, bytes]]] = []
"""Those of a head that has not come, of all responses."""
FREE_BYTES: Final = 16 * 1024
"""What a body may hold without taking it from the process' budget."""
Memory = Callable[[], Share]
"""Opens the account from which a body is taken, or gives it when it is open."""


class Carrier(Protocol):
    """What a response needs of its connection."""

    endpoint_id: str

    def set_deadline(self, at: float, kind: DeadlineKind) -> None:
        """Fail the response when its reader still waits at this time."""
        ...

    def resume(self) -> None:
        """Read again, if reading was paused."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


class Response:
    """Implements `port.UpstreamResponse`. One reader at a time.

    The connection calls the `on_*` methods. It lets go of the response when the body is over or broken, after which
    the response lives on with what has not been read yet.
    """

    __slots__ = (
        "_buffered",
        "_connection",
        "_endpoint_id",
        "_error",
        "_expires_at",
        "_first_byte_at",
        "_loop",
        "_pieces",
        "_waiter",
        "_waits_since",
        "awaits_token",
        "began",
        "body_began",
        "complete",
        "head_only",
        "headers",
        "idle_seconds",
        "status",
    )

    def __init__(
        self,
        connection: Carrier,
        loop: asyncio.AbstractEventLoop,
        first_byte_at: float,
        idle_seconds: float,
        expires_at: float,
        head_only: bool,
    ) -> None:
        self.status = 0
        """0 until the head is there."""
        self.headers = _NO_HEADERS
        self.complete = False
        self.began = False
        """Whether a single byte of it has arrived."""
        self.body_began = False
        self.awaits_token: bool | None = None
        """Set by a reader who knows better than `body_began` which deadline is in force."""
        self.head_only = head_only
        self._endpoint_id = connection.endpoint_id
        self._connection: Carrier | None = connection
        self._loop = loop
        self._first_byte_at = first_byte_at
        self.idle_seconds = idle_seconds
        self._expires_at = expires_at
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._waits_since = 0.0

    # --- for the reader ---------------------------------------------------------------------------------------------

    async def wait_body(self) -> None:
        """Return when a piece of the body can be read without waiting, or the body is over. Raises UpstreamError."""
        while not self._pieces and not self.complete:
            await self.arrival()

    async def receive(self) -> bytes:
        """Give all that has arrived since the last call, waiting if that is nothing; b"" when the body is over."""
        if not self._pieces:
            if self.complete:
                return b""
            await self.wait_body()
        return self._take()

    def read_now(self, max_bytes: int) -> bytes | None:
        """Give the rest of the body if all of it is there in one small piece, as most are; else None, and it stays."""
        if not self.complete or not self._buffered <= FREE_BYTES <= max_bytes or len(self._pieces) != 1:
            return None
        self._buffered = 0
        return self._pieces.pop()

    async def read(self, max_bytes: int, memory: Memory | None = None) -> bytes:
        """Give the rest of the body; more than `max_bytes` raises BodyTooLarge and aborts, and so does NoMemory."""
        if self.complete and self._buffered <= max_bytes:
            if self._buffered > FREE_BYTES:
                self._reserve(self._buffered, memory)
            return self._take()
        # One piece of memory that grows: an engine may send pieces of one byte.
        whole, piece = bytearray(), await self.receive()
        if self.complete and not self._pieces and len(piece) <= max_bytes:
            self._reserve(len(piece), memory)
            return piece
        while piece:
            whole += piece
            if len(whole) > max_bytes:
                self.abort()
                raise BodyTooLarge(self._endpoint_id, f"the body is larger than {max_bytes} bytes")
            self._reserve(len(whole), memory)
            piece = await self.receive()
        return bytes(whole)

    def _reserve(self, size: int, memory: Memory | None) -> None:
        """Take what a large body needs: it is held once as it comes, and once as a whole."""
        if memory is not None and size > FREE_BYTES and not memory().grow_to(2 * size):
            self.abort()
            raise NoMemory(self._endpoint_id, "the gateway has no room for the body")

    async def read_beginning(self, max_bytes: int) -> bytes:
        """Give the first `max_bytes` of the rest of the body, or all of it if that is less; the rest is aborted.

        What breaks off or stalls is given as far as it came. Raises DeadlineExceeded when the total deadline passes.
        """
        pieces: list[bytes] = []
        size = 0
        try:
            while size < max_bytes and (piece := await self.receive()):
                pieces.append(piece)
                size += len(piece)
        except UpstreamError as error:
            if isinstance(error, DeadlineExceeded) and error.kind is _TOTAL:
                raise
        self.abort()
        return b"".join(pieces)[:max_bytes]

    def abort(self) -> None:
        """Close the connection now, so that the engine stops; harmless when the body is over, and when called twice."""
        connection = self._connection
        if connection is None:
            return
        self.on_error(BodyBroken(self._endpoint_id, "aborted"))
        connection.abort()

    def silent_for(self, now: float) -> float:
        """Give the seconds for which its reader has waited for the next piece by now; 0.0 when it does not wait."""
        return now - self._waits_since if self._waiter is not None and self._waits_since else 0.0

    def arrival(self) -> asyncio.Future[None]:
        """Give what is done when more has come, within the deadline in force. Raises UpstreamError when none will."""
        if self._error is not None:
            raise self._error
        connection = self._connection
        assert connection is not None, "without a connection the response is over or broken"  # noqa: S101
        if self.body_began if self.awaits_token is None else not self.awaits_token:
            self._waits_since = now = self._loop.time()
            deadline, kind = now + self.idle_seconds, _IDLE
        else:
            deadline, kind = self._first_byte_at, _FIRST_TOKEN
        if self._expires_at < deadline:
            deadline, kind = self._expires_at, _TOTAL
        connection.set_deadline(deadline, kind)
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def _take(self) -> bytes:
        pieces = self._pieces
        if not pieces:
            return b""
        taken = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._buffered = 0
        if self._connection is not None:
            self._connection.resume()
        return taken

    # --- for the connection -----------------------------------------------------------------------------------------

    @property
    def awaited(self) -> bool:
        """Whether the reader waits for something right now."""
        return self._waiter is not None and not self._waiter.done()

    def on_body(self, piece: bytes) -> int:
        """Take a piece of the body; give how much is unread."""
        self.body_began = True
        self._pieces.append(piece)
        self._buffered += len(piece)
        return self._buffered

    def on_complete(self) -> None:
        """Take note that the body is over, and that the connection is no longer ours."""
        self.complete = True
        self._connection = None

    def on_error(self, error: UpstreamError) -> None:
        """Take note that no more will come; what has arrived can still be read."""
        self._error = error
        self._connection = None
        self.wake()

    def wake(self) -> None:
        """Let the reader look."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
