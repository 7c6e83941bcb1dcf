"""An answer that has begun, and the slot that it holds."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from capstan_gateway.routing.outcome import record_end, record_error
from capstan_gateway.routing.registry import EndpointState
from capstan_gateway.upstream.errors import UpstreamError
from capstan_gateway.upstream.port import Endpoint, UpstreamResponse


class Slot:
    """One request in flight on an endpoint: counted from here to the first `release`."""

    __slots__ = ("_state",)

    def __init__(self, state: EndpointState) -> None:
        state.in_flight += 1
        self._state: EndpointState | None = state

    def release(self) -> bool:
        """Give the slot back; False, and nothing else, when it was given back already."""
        state = self._state
        if state is None:
            return False
        self._state = None
        state.in_flight -= 1
        return True


class Answer:
    """Implements `port.DispatchedResponse`."""

    __slots__ = ("_failed", "_now", "_response", "_slot", "_state", "endpoint", "headers", "status", "whole")

    def __init__(
        self,
        response: UpstreamResponse,
        slot: Slot,
        state: EndpointState,
        now: Callable[[], float],
        whole: bytes | None,
        *,
        failed: bool = False,
    ) -> None:
        self.endpoint: Endpoint = state.endpoint
        self.status = response.status
        self.headers = response.headers
        self._response = response
        self._slot = slot
        self._state = state
        self._now = now
        self._failed = failed
        """Whether the answer counts as a failure of its endpoint already: its status may be one."""
        self.whole = whole

    @property
    def complete(self) -> bool:
        """Whether the body has come to its end (it may still wait to be read)."""
        return self._response.complete

    async def receive(self) -> bytes:
        """Give all that has arrived since the last call; b"" when the body is over. Raises UpstreamError."""
        try:
            return await self._response.receive()
        except UpstreamError as error:
            self._failed = True
            record_error(self._state, error, self._now())
            raise

    async def read(self, max_bytes: int) -> bytes:
        """Give the rest of the body; more than `max_bytes` raises BodyTooLarge."""
        try:
            return await self._response.read(max_bytes)
        except UpstreamError as error:
            self._failed = True
            record_error(self._state, error, self._now())
            raise

    async def read_beginning(self, max_bytes: int) -> bytes:
        """Give the first `max_bytes` of the rest of the body, or as much as comes of it; the rest is aborted."""
        return await self._response.read_beginning(max_bytes)

    def blame(self, word: str) -> None:
        """Count the answer as the endpoint's failure, for what only its reader can see: no finish reason, not JSON."""
        self._failed = True
        self._state.last_error = word
        self._state.breaker.fail(self._now())

    def close(self) -> None:
        """Release the slot, and abort the upstream if the body is not over."""
        if self._slot.release() and not self._failed:
            record_end(self._state, self._now())
        if not self._response.complete:
            self._response.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
