"""One request that was put into the queue, from then to the end of its answer: what comes, and who waits for it."""

import asyncio
from collections.abc import Callable
from typing import Final

from capstan_contract.queue.calls import Failure, Kind, Piece
from capstan_contract.queue.wire import Packing, Unreadable
from capstan_gateway.errors import GatewayError, RequestPoisoned
from capstan_gateway.life.threads import Threads
from capstan_gateway.memory import Share
from capstan_gateway.queueing.inbox import Fed, Inbox
from capstan_gateway.routing.port import Call, Queueing
from capstan_gateway.upstream.errors import (
    BodyBroken,
    BodyTooLarge,
    ConnectionLost,
    DeadlineExceeded,
    DeadlineKind,
    NoMemory,
    ProtocolError,
    UpstreamError,
)

FREE_BYTES: Final = 64 * 1024
"""What may wait to be read of a stream without being taken from the process' budget."""
BESIDE_BYTES: Final = 256 * 1024
"""What is larger is unpacked in a thread."""
_REASONS: Final = {
    Failure.LOST: "its worker went away",
    Failure.ENGINE: "its engine broke off",
    Failure.SLOW: "its reader was too slow",
}


class StartedOver(Exception):
    """What was read so far is nothing any more: another worker answers."""


class SentDirectly(Exception):
    """It waits no longer: it is to be sent to an endpoint."""


class Entry:
    """One reader; whoever reads the answers of all entries feeds it."""

    def __init__(self, entry_id: str, call: Call, wish: Queueing, packing: Packing, threads: Threads) -> None:
        self.id = entry_id
        self.call = call
        self.wish = wish
        self.packing = packing
        self.inbox = Inbox()
        self.began_at = 0.0
        """When it was put in, in the loop's time."""
        self.accepted = False
        """Whether Redis has said that it is in the queue."""
        self.at: str | None = None
        """The endpoint whose engine answers it, as its worker has said ("" where it has not); None: nobody does yet."""
        self.whose = f"{wish.model}/queue"
        """Who answers, for errors and the log."""
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[bool] | None = None
        self._error: Exception | None = None
        self._share: Share | None = None
        self._read_turn: object = self.inbox.turn

    @property
    def waits(self) -> bool:
        """Whether nobody has begun to answer it yet."""
        return self.inbox.head is None and not self.over

    @property
    def over(self) -> bool:
        """Whether nothing more will come: Redis knows nothing of it any more."""
        return self.inbox.over or self._error is not None

    # --- for whoever reads answers ------------------------------------------------------------------------------------

    def feed(self, piece: Piece) -> bool:
        """Take a piece; False: nobody wants the attempt that it is of."""
        fed = self.inbox.feed(piece)
        if fed is Fed.FOREIGN or fed is Fed.BROKEN:
            if not self.inbox.over:
                self.fail(BodyBroken(self.whose, "the queue has lost a part of its answer"))
            return False
        if fed is Fed.NEWS:
            if piece.kind is Kind.DATA and not self._reserve():
                self.inbox.take()
                self.fail(NoMemory(self.whose, "the gateway has no room for what waits to be read"))
                return False
            self._wake()
        return True

    def fail(self, error: Exception) -> None:
        """Nothing more will come, for this reason; what is there can still be read."""
        self._error = self._error or error
        self._wake()

    def start_over(self) -> bool:
        """Redis has forgotten it: say whether it may be put in again. One that was given out in part fails, and so does
        one that must not be sent twice: a worker may have had it."""
        if self.inbox.committed or not self.call.repeatable:
            self.fail(BodyBroken(self.whose, "the queue has lost it"))
            return False
        self.inbox.reset()
        self.accepted = False
        self._read_turn = None  # Whoever reads it has what is nothing any more.
        self._wake()
        return True

    def _reserve(self) -> bool:
        """Take what waits to be read of a stream from the budget; of a whole answer its reader does that."""
        held = self.inbox.held
        if held <= FREE_BYTES or self.call.whole_bytes or self.call.memory is None:
            return True
        self._share = self._share or self.call.memory()
        return self._share.grow_to(held)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(False)

    # --- for the reader of this one -----------------------------------------------------------------------------------

    async def head(self) -> bytes:
        """Wait for the head of an answer, within the total deadline; give it as it was unpacked."""
        while self.inbox.head is None:
            await self._arrival(self.call.expires_at, DeadlineKind.TOTAL)
        self._read_turn = self.inbox.turn
        return self._unpacked(Kind.HEAD, self.inbox.head)

    async def receive(self, deadline: float, kind: DeadlineKind, note: Callable[[int], object]) -> bytes:
        """Give what has come since the last call, b"" at the end; `note` hears how many bytes that was as posted.

        Raises StartedOver where that is of another attempt than the head that was given, and UpstreamError.
        """
        inbox = self.inbox
        while True:
            if inbox.turn != self._read_turn:
                raise StartedOver
            if inbox.pieces:
                break
            if inbox.ended:
                return b""
            await self._arrival(deadline, kind)
        size, pieces = inbox.held, inbox.take()
        if self._share is not None:
            self._share.shrink_to(0)
        if size <= BESIDE_BYTES:
            data = self._joined(pieces)
        else:
            data = await self._threads.run(self._joined, pieces)
        note(size)
        return data

    async def _arrival(self, deadline: float, kind: DeadlineKind) -> None:
        """Wait until something has changed. Raises what says that nothing will, and DeadlineExceeded."""
        if self._error is not None:
            raise self._error
        if self.inbox.failure is not None:
            raise self._failed(self.inbox.failure)
        if self.call.expires_at < deadline:
            deadline, kind = self.call.expires_at, DeadlineKind.TOTAL
        loop = self._loop
        if loop.time() >= deadline:
            raise DeadlineExceeded(self.whose, kind)
        waiter = self._waiter = loop.create_future()
        timer = loop.call_at(deadline, _expire, waiter)
        try:
            if await waiter:
                raise DeadlineExceeded(self.whose, kind)
        finally:
            timer.cancel()

    def _failed(self, failure: Failure) -> UpstreamError | GatewayError:
        if failure is Failure.POISON:
            return RequestPoisoned()
        if failure is Failure.EXPIRED:
            return DeadlineExceeded(self.whose, DeadlineKind.TOTAL)
        if failure is Failure.UNREADABLE:
            return ProtocolError(self.whose, "its worker could not read it")
        reason = _REASONS[failure]
        return ConnectionLost(self.whose, reason) if self.inbox.head is None else BodyBroken(self.whose, reason)

    def _joined(self, pieces: list[bytes]) -> bytes:
        if len(pieces) == 1:
            return self._unpacked(Kind.DATA, pieces[0])
        return b"".join([self._unpacked(Kind.DATA, piece) for piece in pieces])

    def _unpacked(self, kind: Kind, data: bytes) -> bytes:
        try:
            return self.packing.unpack(self.id, kind.value, data)
        except Unreadable as error:
            raise ProtocolError(self.whose, f"a piece of its answer cannot be read: {error}") from None

    async def whole(self, max_bytes: int, note: Callable[[int], object]) -> bytes:
        """Give the body as a whole. Raises BodyTooLarge, NoMemory, StartedOver and UpstreamError."""
        whole = bytearray()
        while piece := await self.receive(self.call.expires_at, DeadlineKind.TOTAL, note):
            whole += piece
            if len(whole) > max_bytes:
                raise BodyTooLarge(self.whose, f"the body is larger than {max_bytes} bytes")
            memory = self.call.memory
            if memory is not None and len(whole) > FREE_BYTES and not memory().grow_to(2 * len(whole)):
                raise NoMemory(self.whose, "the gateway has no room for the body")
        return bytes(whole)


def _expire(waiter: "asyncio.Future[bool]") -> None:
    if not waiter.done():
        waiter.set_result(True)
