"""An answer that a worker gives by the queue, as its reader sees it: like one that an endpoint gives directly."""

from collections.abc import Callable

from capstan_contract.queue.wire import AnswerHead
from capstan_gateway.queueing.entry import Entry, StartedOver
from capstan_gateway.routing.attempt import Attempt
from capstan_gateway.routing.opened import FREE_OPENING_BYTES, take_opening
from capstan_gateway.routing.port import Opening
from capstan_gateway.routing.verdicts import CLIENT_ERROR
from capstan_gateway.upstream.errors import (
    BodyBroken,
    BodyTooLarge,
    DeadlineExceeded,
    DeadlineKind,
    UpstreamError,
)
from capstan_gateway.upstream.port import Endpoint


class QueuedAnswer:
    """Implements `routing.port.SentResponse`."""

    __slots__ = (
        "_closed", "_end", "_entry", "_finished", "_note", "_now", "attempt", "headers", "opening", "status", "whole",
    )  # fmt: skip

    def __init__(
        self, entry: Entry, head: AnswerHead, attempt: Attempt, *, now: Callable[[], float],
        note: Callable[[int], object], end: Callable[[], object],
    ) -> None:  # fmt: skip
        self.status = head.status
        self.headers = [(b"content-type", head.content_type.encode("latin-1", "replace"))]
        self.attempt = attempt
        self.whole: bytes | None = None
        self.opening: Opening | None = None
        self._entry = entry
        self._now = now
        self._note = note
        self._end = end
        """Lets go of the entry, and tells whoever still works on it that nobody wants it any more."""
        self._finished = False
        self._closed = False

    @property
    def endpoint(self) -> Endpoint:
        """Who answered."""
        return self.attempt.endpoint

    @property
    def complete(self) -> bool:
        """Whether the body has come to its end (it may still wait to be read)."""
        return self._entry.inbox.ended

    async def receive(self) -> bytes:
        """Give all that has arrived since the last call; b"" when the body is over. Raises UpstreamError."""
        return await self._receive(DeadlineKind.IDLE)

    async def _receive(self, kind: DeadlineKind) -> bytes:
        call = self._entry.call
        deadline = call.expires_at
        if kind is not DeadlineKind.TOTAL and not call.whole_bytes and self.status < CLIENT_ERROR:
            deadline = self._now() + call.idle_seconds
        try:
            return await self._entry.receive(deadline, kind, self._note)
        except StartedOver:
            error: UpstreamError = BodyBroken(self._entry.whose, "the queue has lost it")
        except UpstreamError as failure:
            error = failure
        self.attempt.fail(error, self._now())
        raise error

    async def read(self, max_bytes: int) -> bytes:
        """Give the rest of the body; more than `max_bytes` raises BodyTooLarge."""
        whole = bytearray()
        while piece := await self._receive(DeadlineKind.IDLE):
            whole += piece
            if len(whole) > max_bytes:
                raise BodyTooLarge(self._entry.whose, f"the body is larger than {max_bytes} bytes")
        return bytes(whole)

    async def read_beginning(self, max_bytes: int) -> bytes:
        """Give the first `max_bytes` of the rest of the body, or as much as comes of it; nobody waits for the rest."""
        pieces: list[bytes] = []
        size = 0
        try:
            while size < max_bytes and (piece := await self._receive(DeadlineKind.IDLE)):
                pieces.append(piece)
                size += len(piece)
        except UpstreamError as error:
            if isinstance(error, DeadlineExceeded) and error.kind is DeadlineKind.TOTAL:
                raise
        return b"".join(pieces)[:max_bytes]

    def finish(self) -> None:
        """Take the answer for whole, though its body has no end yet: its last frame was there."""
        self._finished = True

    def blame(self, word: str) -> None:
        """Count the answer as its worker's failure, for what only its reader can see."""
        self.attempt.blame(word, self._now())

    def close(self) -> None:
        """Let go of the entry; its worker stops if the body is not over."""
        if self._closed:
            return
        self._closed = True
        if self.attempt.holds_slot:
            if self.complete or self._finished or self.status >= CLIENT_ERROR:
                self.attempt.succeed(self._now())
            else:
                self.attempt.release()
                self.attempt.leave(self._now(), silent=0.0, deadline=1.0)
        self._end()

    # --- for whoever makes it -----------------------------------------------------------------------------------------

    async def open(self, deadline: float) -> None:
        """Wait for the first token; of an answer in one piece for all of it. Raises StartedOver, UpstreamError."""
        call, entry = self._entry.call, self._entry
        if self.status >= CLIENT_ERROR:
            return
        if call.whole_bytes:
            self.whole = await entry.whole(call.whole_bytes, self._note)
            return
        opening = None if call.opening is None else call.opening(self.status, self.headers)
        self.attempt.opening = self.opening = opening
        if opening is None:
            return
        share, size = None, 0
        try:
            while True:
                data = await entry.receive(deadline, DeadlineKind.FIRST_TOKEN, self._note)
                if opening.feed(data) or not data:
                    return
                size += len(data)
                if size > FREE_OPENING_BYTES:
                    share = share or (call.memory() if call.memory is not None else None)
                    take_opening(size, share, entry.whose)
        except BaseException:
            if share is not None:
                share.release()
            raise
