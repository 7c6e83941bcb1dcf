"""An answer that has begun, and the attempt that it belongs to."""

from collections.abc import Callable

from capstan_gateway.routing.attempt import Attempt
from capstan_gateway.routing.port import Opening
from capstan_gateway.routing.verdicts import CLIENT_ERROR
from capstan_gateway.upstream.errors import UpstreamError
from capstan_gateway.upstream.port import Endpoint, UpstreamResponse


class Answer:
    """Implements `port.DispatchedResponse`."""

    __slots__ = ("_finished", "_now", "_response", "attempt", "headers", "opening", "status", "whole")

    def __init__(
        self,
        response: UpstreamResponse,
        attempt: Attempt,
        now: Callable[[], float],
        whole: bytes | None = None,
        opening: Opening | None = None,
    ) -> None:
        self.status = response.status
        self.headers = response.headers
        self.attempt = attempt
        self.whole = whole
        self.opening = opening
        self._response = response
        self._now = now
        self._finished = False
        """Whether its reader has all that it waited for, although the body has not come to its end."""

    @property
    def endpoint(self) -> Endpoint:
        """Who answered."""
        return self.attempt.endpoint

    @property
    def complete(self) -> bool:
        """Whether the body has come to its end (it may still wait to be read)."""
        return self._response.complete

    async def receive(self) -> bytes:
        """Give all that has arrived since the last call; b"" when the body is over. Raises UpstreamError."""
        try:
            return await self._response.receive()
        except UpstreamError as error:
            self.attempt.fail(error, self._now())
            raise

    async def read(self, max_bytes: int) -> bytes:
        """Give the rest of the body; more than `max_bytes` raises BodyTooLarge."""
        try:
            return await self._response.read(max_bytes)
        except UpstreamError as error:
            self.attempt.fail(error, self._now())
            raise

    async def read_beginning(self, max_bytes: int) -> bytes:
        """Give the first `max_bytes` of the rest of the body, or as much as comes of it; the rest is aborted."""
        return await self._response.read_beginning(max_bytes)

    def finish(self) -> None:
        """Take the answer for whole, though its body has no end yet: its last frame was there."""
        self._finished = True

    def blame(self, word: str) -> None:
        """Count the answer as the endpoint's failure, for what only its reader can see: no finish reason, not JSON."""
        self.attempt.blame(word, self._now())

    def close(self) -> None:
        """Release the slot, settle the attempt, and abort the upstream if the body is not over."""
        response, attempt = self._response, self.attempt
        complete = response.complete
        if attempt.holds_slot:
            if complete or self._finished or self.status >= CLIENT_ERROR:
                attempt.succeed(self._now())
            else:
                attempt.release()
                now = self._now()
                attempt.leave(now, silent=response.silent_for(now), deadline=response.idle_seconds)
        if not complete:
            response.abort()
