"""One request of a client, and the answer to it."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from capstan_gateway.errors import ClientGone, GatewayError, RequestTooLarge

if TYPE_CHECKING:
    from capstan_gateway.serving.reading import RequestReader

HIGH_WATER: Final = 64 * 1024
"""Unread bytes of a body above which its connection is not read."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_TWICE: Final = "a request is answered once"
STATUS_LINES: Final = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, phrase)
    for status, phrase in [
        *((number, b"Unknown") for number in range(200, 600)),
        *((known.value, known.phrase.encode()) for known in HTTPStatus),
    ]
}


class Exchange:
    """What a handler gets: a request whose body may still be on its way, and the means to answer it once.

    The answer is `respond`, or `start`, any number of `write`, and `finish`. None of them waits; a stream that its
    client does not read fast enough is `paused`, and its writer waits for `drained`.
    """

    __slots__ = (
        "_broken", "_chunked", "_connection", "_continue", "_pieces", "_unread", "_waiter", "body_complete", "complete",
        "gone", "headers", "keep_alive", "method", "on_gone", "started", "target", "task",
    )  # fmt: skip

    def __init__(
        self,
        connection: "RequestReader",
        method: bytes,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        *,
        keep_alive: bool,
        chunked: bool,
        expects_continue: bool,
    ) -> None:
        self.method = method
        self.target = target
        """As it came: path and query."""
        self.headers = headers
        """In order, names in lower case."""
        self.body_complete = False
        """Whether all of the body has arrived (it may still wait to be read)."""
        self.started = False
        """Whether the answer has begun."""
        self.complete = False
        """Whether the answer has been handed over to its end."""
        self.gone = False
        """Whether the client closed the connection before that."""
        self.on_gone: Callable[[], object] | None = None
        """Called once when that happens."""
        self.keep_alive = keep_alive
        """Whether the connection may serve another request. Set it to False before the answer begins to end it."""
        self.task: asyncio.Task[Any] | None = None
        self._connection = connection
        self._chunked = chunked
        """Whether the client knows chunks; the stream of one that doesn't ends with its connection."""
        self._continue = expects_continue
        self._pieces: list[bytes] = []
        self._unread = 0
        self._waiter: asyncio.Future[None] | None = None
        self._broken: list[GatewayError] | None = None

    # --- for the handler --------------------------------------------------------------------------------------------

    def whole_body(self, limit: int) -> bytes | None:
        """Give the body if all of it has come in one piece, as most do. Raises RequestTooLarge above `limit` bytes."""
        pieces = self._pieces
        if not self.body_complete or len(pieces) != 1 or self.gone:
            return None
        unread = self._unread
        if unread > limit:
            raise RequestTooLarge(f"the body is larger than {limit} bytes")
        if unread > HIGH_WATER:
            self._connection.resume_reading()
        self._unread = 0
        return pieces.pop()

    async def read_body(self, limit: int) -> bytes:
        """Give the whole body. Raises RequestTooLarge above `limit` bytes, ClientGone, and what is wrong with it."""
        pieces: list[bytes] = []
        size = 0
        while True:
            size += self._unread
            if size > limit:
                raise RequestTooLarge(f"the body is larger than {limit} bytes")
            pieces += self._pieces
            self._pieces.clear()
            self._unread = 0
            if self.gone:
                raise ClientGone
            if self._broken is not None:
                # NB: not by a local name: the error's traceback holds this frame.
                raise self._broken.pop()
            if self.body_complete:
                self._connection.resume_reading()
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)
            await self._more()

    def respond(self, status: int, lines: bytes, body: bytes) -> None:
        """Answer in one piece. `lines` are the headers as `headers.header_lines` writes them, the length among them."""
        if self.started:
            raise RuntimeError(_TWICE)
        self.started = True
        if not self.body_complete:
            # Nobody reads the rest of it: only closing ends an upload that goes on, or never does.
            self.keep_alive = False
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        head = STATUS_LINES[status] + lines + end
        self._connection.write(head if self.method == b"HEAD" else head + body)
        self._end()

    def start(self, status: int, lines: bytes, first: bytes) -> None:
        """Begin an answer whose length is not known, with its first piece. HEAD has no such answers."""
        if self.started:
            raise RuntimeError(_TWICE)
        self.started = True
        framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        if not self._chunked or not self.body_complete:
            self.keep_alive = False
        if not self.keep_alive:
            framing += b"connection: close\r\n"
        self._connection.write(STATUS_LINES[status] + lines + framing + b"\r\n" + self._framed(first))

    def write(self, data: bytes) -> None:
        """Send the next piece."""
        self._connection.write(self._framed(data))

    def finish(self, data: bytes = b"") -> None:
        """Send the last piece, and end the answer."""
        self._connection.write(self._framed(data) + b"0\r\n\r\n" if self._chunked else data)
        self._end()

    def abandon(self) -> None:
        """End the connection in the middle of the answer, or without one."""
        if not self.complete:
            self.complete = True
            self.on_gone = None
            self._connection.on_abandoned()

    @property
    def paused(self) -> bool:
        """Whether the client reads more slowly than it is sent to."""
        return self._connection.paused

    async def drained(self) -> None:
        """Return when the client has read enough of what was sent, or has gone."""
        while self._connection.paused and not self.gone:
            await self._wait()

    # --- for the connection -----------------------------------------------------------------------------------------

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body."""
        self._pieces.append(piece)
        self._unread += len(piece)
        if self._unread > HIGH_WATER:
            self._connection.pause_reading()
        if self._waiter is not None:
            self.wake()

    def on_body_complete(self) -> None:
        """Take note that the body is over."""
        self.body_complete = True
        if self._waiter is not None:
            self.wake()

    def on_broken(self, error: GatewayError) -> None:
        """Take note that the rest of the body cannot be had."""
        self._broken = [error]
        self.wake()

    def on_lost(self) -> None:
        """Take note that the connection is gone."""
        if self.complete:
            return
        self.gone = True
        self.keep_alive = False
        if self.on_gone is not None:
            self.on_gone()
            self.on_gone = None
        self.wake()

    def wake(self) -> None:
        """Let the handler look."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if data and self._chunked else data

    def _end(self) -> None:
        self.complete = True
        self.on_gone = None  # It holds its owner, who holds us.
        self._connection.on_answered(self)

    async def _more(self) -> None:
        if self._continue and not self._pieces:
            self._connection.write(_CONTINUE)
        self._continue = False
        self._connection.resume_reading()
        await self._wait()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
