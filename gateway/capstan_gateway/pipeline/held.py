"""The source of a stream whose frames are all there already."""

from capstan_gateway.routing.port import Opening
from capstan_gateway.upstream.port import Endpoint


class HeldSource:
    """Implements `routing.port.DispatchedResponse`, with nothing left to receive."""

    status = 200
    complete = True
    whole: bytes | None = None
    opening: Opening | None = None

    def __init__(self, model_id: str) -> None:
        self.endpoint = Endpoint(id=f"{model_id}@held", host="", port=0)
        self.headers: list[tuple[bytes, bytes]] = []

    async def receive(self) -> bytes:
        """Give nothing: the body is over."""
        return b""

    async def read_beginning(self, max_bytes: int) -> bytes:  # noqa: ARG002 - one signature
        """Give nothing: the body is over."""
        return b""

    async def read(self, max_bytes: int) -> bytes:  # noqa: ARG002 - one signature
        """Give nothing: the body is over."""
        return b""

    def finish(self) -> None:
        """It is whole."""

    def blame(self, word: str) -> None:
        """Blame nobody: the call ended well before."""

    def close(self) -> None:
        """Do nothing: the slot was given back when the answer was whole."""
