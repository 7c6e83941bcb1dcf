"""One request of a client, and the answer to it."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from capstan_gateway.errors import ClientGone, GatewayError, Overloaded, RequestTooLarge
from capstan_gateway.headers import Header
from capstan_gateway.memory import Share
from capstan_gateway.serving.body import Body
from capstan_gateway.serving.port import Owner
from capstan_gateway.serving.wire import ClientWire

HIGH_WATER: Final = 64 * 1024
"""Unread bytes of a body above which its connection is not read."""
FREE_BYTES: Final = 4096
"""What a request may hold without taking it from the budget: what bounds it is the number of requests."""
BODY_FACTOR: Final = 3
"""How many times its size a body costs: the body itself, the texts in the document, and the copy that is sent."""
SLOW_STREAM_BYTES: Final = 256 * 1024
"""What a stream costs whose client has once read too slowly: what waits for it here, and behind that at the engine's
connection."""
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK: Final = b"0\r\n\r\n"
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

    Whoever holds more than a little for the request takes it from the process' budget with `reserve`. The connection
    releases all of it when the handler has ended and the client has read the answer.
    """

    __slots__ = (
        "_body", "_body_memory", "_broken", "_chunked", "_connection", "_continue", "_piece", "_reserved", "_slow",
        "_waiter", "_wire", "body_complete", "complete", "extra_lines", "gone", "headers", "held", "keep_alive",
        "length", "method", "on_gone", "received", "started", "target", "task",
    )  # fmt: skip

    def __init__(
        self,
        connection: Owner,
        wire: ClientWire,
        method: bytes,
        target: bytes,
        headers: list[Header],
        length: int | None,
        modern: bool,
        keep_alive: bool,
        expects_continue: bool,
    ) -> None:
        self.method = method
        self.target = target
        """As it came: path and query."""
        self.headers = headers
        """In order, names in lower case."""
        self.body_complete = False
        """Whether all of the body has arrived (it may still wait to be read)."""
        self.received = 0
        """How many bytes of the body have arrived."""
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
        self.extra_lines = b""
        """Header lines that the answer has beside its own, whatever it is."""
        self.task: asyncio.Task[Any] | None = None
        self._connection = connection
        self._wire = wire
        self._chunked = modern
        """Whether the client knows chunks; the stream of one that doesn't ends with its connection."""
        self._continue = expects_continue
        self.length = length
        """Of the body, in bytes, as its head says; None when that does not say it."""
        self._piece = b""
        """The body, as long as it is one small piece."""
        self._body: Body | None = None
        """The body, when it is more."""
        self._reserved = FREE_BYTES
        """How much of the body may be held."""
        self._body_memory = 0
        """What was taken for it."""
        self._slow = False
        """Whether the answer was taken from the budget because its client reads slowly."""
        self.held: Share | None = None
        """What the request holds of the process' budget; None when that is nothing."""
        self._waiter: asyncio.Future[None] | None = None
        self._broken: list[GatewayError] | None = None

    # --- for the handler --------------------------------------------------------------------------------------------

    def whole_body(self, limit: int) -> bytes | None:
        """Give the body if all of it has come in one piece, as most do. Raises RequestTooLarge above `limit` bytes."""
        if not self.body_complete or self._broken is not None or self.gone:
            return None
        piece: bytes | None
        if self._body is None:
            piece, self._piece = self._piece, b""
        else:
            piece = self._body.take_piece()
        if piece is None:
            return None
        unread = len(piece)
        if unread > limit:
            raise RequestTooLarge(f"the body is larger than {limit} bytes")
        if unread > HIGH_WATER:
            self._connection.resume_reading()
        return piece

    async def read_body(self, limit: int) -> bytes:
        """Give the whole body.

        Raises RequestTooLarge above `limit` bytes, Overloaded when there is no memory for it, ClientGone, and what is
        wrong with the body.
        """
        whole = self.whole_body(limit)
        if whole is not None:
            return whole
        if self.length is not None:
            if self.length > limit:
                raise RequestTooLarge(f"the body is larger than {limit} bytes")
            self.reserve_body(self.length)
        body = self._gathered()
        while True:
            if len(body) > limit:
                body.clear()
                raise RequestTooLarge(f"the body is larger than {limit} bytes")
            if self.gone:
                raise ClientGone
            if self._broken is not None:
                # NB: not by a local name: the error's traceback holds this frame.
                raise self._broken.pop()
            if self.body_complete:
                self._connection.resume_reading()
                return body.take()
            await self._more()

    async def read_piece(self) -> bytes:
        """Give what has come of the body and was not read, b"" at its end: for who keeps none of it.

        Raises ClientGone, and what is wrong with the body.
        """
        body = self._gathered()
        while not body:
            if self.gone:
                raise ClientGone
            if self._broken is not None:
                raise self._broken.pop()
            if self.body_complete:
                self._connection.on_body_arrived()
                self._connection.resume_reading()
                return b""
            await self._more()
        return body.take()

    def reserve(self, size: int) -> None:
        """Take so many bytes more from the process' budget, until the request is over.

        Raises Overloaded when there is no room now, RequestTooLarge when there never is.
        """
        share = self.memory
        if not share.grow(size):
            raise self._no_room(share.held + size)

    def reserve_body(self, size: int) -> None:
        """Make room for a body of so many bytes, with what was taken for it before; raises as `reserve`."""
        if size <= self._reserved:
            return
        wanted = BODY_FACTOR * size
        if not self.memory.grow(wanted - self._body_memory):
            raise self._no_room(wanted)
        self._reserved, self._body_memory = size, wanted

    @property
    def memory(self) -> Share:
        """What the request holds of the process' budget."""
        share = self.held
        if share is None:
            share = self.held = self._connection.share()
        return share

    def adopt(self, share: Share) -> None:
        """Hold this share from now on, which nobody else releases."""
        self.held = share

    def take_memory(self) -> Share | None:
        """Hand over what the request holds of the budget, to be released by the caller; None when that is nothing."""
        share, self.held = self.held, None
        return share

    def respond(self, status: int, lines: bytes, body: bytes) -> None:
        """Answer in one piece. `lines` are the headers as `headers.header_lines` writes them, the length among them."""
        if self.started:
            raise RuntimeError(_TWICE)
        self.started = True
        if not self.body_complete:
            # Nobody reads the rest of it: only closing ends an upload that goes on, or never does.
            self.keep_alive = False
        end = b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n"
        sent = b"" if self.method == b"HEAD" else body
        wire = self._wire
        wire.write(b"".join((STATUS_LINES[status], self._connection.date_line(), self.extra_lines, lines, end, sent)))
        if wire.paused and len(body) > HIGH_WATER and not self.memory.grow_to(len(body)):
            # The client does not read it, and there is no room to wait until it does.
            wire.abort()
        self._end()

    def start(self, status: int, lines: bytes, first: bytes, *, last: bool = False) -> None:
        """Begin an answer whose length is not known, with its first piece; with `last` that is all of it, in one write.

        HEAD has no such answers.
        """
        if self.started:
            raise RuntimeError(_TWICE)
        self.started = True
        framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        if not self._chunked or not self.body_complete:
            self.keep_alive = False
        if not self.keep_alive:
            framing += b"connection: close\r\n"
        head = STATUS_LINES[status] + self._connection.date_line() + self.extra_lines + lines + framing + b"\r\n"
        data = head + self._framed(first)
        if last:
            self._wire.write(data + _LAST_CHUNK if self._chunked else data)
            self._end()
        else:
            self._wire.write(data)

    def write(self, data: bytes) -> None:
        """Send the next piece."""
        self._wire.write(self._framed(data))

    def finish(self, data: bytes = b"") -> None:
        """Send the last piece, and end the answer."""
        self._wire.write(self._framed(data) + _LAST_CHUNK if self._chunked else data)
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
        return self._wire.paused

    async def drained(self) -> None:
        """Return when the client has read enough of what was sent, or has gone.

        The first time it takes what slow streams hold from the budget; without room the connection is cut off.
        """
        if not self._slow and self._wire.paused:
            self._slow = True
            if not self.memory.grow(SLOW_STREAM_BYTES):
                self._wire.abort()
        while self._wire.paused and not self.gone:
            await self._wait()

    # --- for the connection -----------------------------------------------------------------------------------------

    @property
    def takes_body(self) -> bool:
        """Whether pieces of the body are of use to anybody."""
        return not self.complete and self._broken is None

    @property
    def upload_bytes(self) -> int:
        """What a body takes of the process' budget that is still on its way, and of use to somebody; else 0."""
        return self._body_memory if not self.body_complete and self.takes_body else 0

    def give_up(self, error: GatewayError) -> None:
        """Let go of a body that is on its way and of what it holds, at once; its reader gets the error."""
        self._gathered().clear()
        if self.held is not None:
            self.held.shrink_to(self.held.held - self._body_memory)
        self._reserved, self._body_memory = FREE_BYTES, 0
        self.on_broken(error)

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body."""
        if self.complete or self._broken is not None:
            return  # Of no use to anybody.
        self.received = received = self.received + len(piece)
        if received == len(piece) <= FREE_BYTES and self._body is None:
            self._piece = piece
            return
        body = self._gathered()
        body.add(piece)
        unread = len(body)
        if unread > self._reserved:
            try:
                # By half as much again, so that a body in small pieces asks seldom.
                more = unread + unread // 2
                self.reserve_body(more if self.length is None else min(more, self.length))
            except GatewayError as error:
                body.clear()
                self.on_broken(error.with_traceback(None))
                return
        if unread > HIGH_WATER and self._waiter is None:
            self._wire.pause_reading()
        if self._waiter is not None:
            self.wake()

    def on_body_complete(self) -> None:
        """Take note that the body is over."""
        self.body_complete = True
        if self._waiter is not None:
            self._connection.on_body_arrived()
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

    def _gathered(self) -> Body:
        """Give the body, which may come in any number of pieces from now on."""
        body = self._body
        if body is None:
            body = self._body = Body()
            if self._piece:
                body.add(self._piece)
                self._piece = b""
        return body

    def _no_room(self, size: int) -> GatewayError:
        if not self.memory.ever_fits(size):
            return RequestTooLarge("the request needs more memory than this gateway has for requests")
        return Overloaded()

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if data and self._chunked else data

    def _end(self) -> None:
        self.complete = True
        self.on_gone = None  # It holds its owner, who holds us.
        self._connection.on_answered(self.keep_alive)

    async def _more(self) -> None:
        if self._continue and not self._gathered():
            self._wire.write(_CONTINUE)
        self._continue = False
        self._connection.on_awaiting_body()
        self._connection.resume_reading()
        await self._wait()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
