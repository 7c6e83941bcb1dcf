"""An answer around another one: what is not said anew is the inner one's."""

from typing import Final

from capstan_gateway.routing.port import DispatchedResponse, Opening
from capstan_gateway.upstream.port import Endpoint


class SourceAround:
    """The half of `routing.port.DispatchedResponse` that is the same whatever is done with the body."""

    whole: bytes | None = None

    def __init__(self, inner: DispatchedResponse) -> None:
        self.inner: Final = inner
        self.endpoint: Endpoint = inner.endpoint
        self.status = inner.status
        self.headers = inner.headers
        self.opening: Opening | None = inner.opening

    async def read(self, max_bytes: int) -> bytes:
        """Give the rest of the body."""
        return await self.inner.read(max_bytes)

    async def read_beginning(self, max_bytes: int) -> bytes:
        """Give the beginning of the rest of the body."""
        return await self.inner.read_beginning(max_bytes)

    def finish(self) -> None:
        """Take the engine's answer for whole; one that was ended before its engine did was closed before that."""
        self.inner.finish()

    def blame(self, word: str) -> None:
        """Count the answer as the endpoint's failure."""
        self.inner.blame(word)

    def close(self) -> None:
        """Release the slot, and abort the upstream if the body is not over."""
        self.inner.close()
