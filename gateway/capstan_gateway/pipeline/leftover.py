"""A stream of which more has come with its first token than was read of it."""

from capstan_gateway.pipeline.source_around import SourceAround
from capstan_gateway.routing.port import DispatchedResponse
from capstan_gateway.streaming.opening import StreamOpening


class FirstFrames(StreamOpening):
    """A beginning that is read frame by frame, and no further than to the first token.

    What came behind it is for whoever counts what is given out.
    """

    __slots__ = ("rest",)

    rest: bytes

    def feed(self, data: bytes) -> bool:
        """Take the next bytes, b"" for the end of the body; give whether a token is there, or none will come."""
        self.rest = b""
        while True:
            at = data.find(b"\n\n") + 2
            if at < 2 or at == len(data):
                return super().feed(data)
            if super().feed(data[:at]):
                self.rest = data[at:]
                return True
            data = data[at:]


class Leftover(SourceAround):
    """Implements `routing.port.DispatchedResponse` around another one: gives first what had come of it already."""

    def __init__(self, inner: DispatchedResponse, rest: bytes) -> None:
        super().__init__(inner)
        self._rest = rest

    @property
    def complete(self) -> bool:
        """Whether the body has come to its end."""
        return not self._rest and self.inner.complete

    async def receive(self) -> bytes:
        """Give what is there; b"" when the body is over."""
        rest, self._rest = self._rest, b""
        return rest or await self.inner.receive()

    async def read(self, max_bytes: int) -> bytes:
        """Give the rest of the body."""
        rest, self._rest = self._rest, b""
        return rest + await super().read(max_bytes)

    async def read_beginning(self, max_bytes: int) -> bytes:
        """Give the beginning of the rest of the body."""
        rest, self._rest = self._rest, b""
        return rest + await super().read_beginning(max_bytes)
