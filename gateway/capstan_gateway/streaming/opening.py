"""The beginning of a stream, up to its first token: until then it is no answer yet, and may still be had elsewhere."""

from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.port import Relay


class StreamOpening:
    """Implements `routing.port.Opening` over the relay that reads the rest of the stream as well: bytes are read once.

    What the relay gives out is kept in `first`, and nothing is sent before there is a token: what goes wrong until then
    is an error answer, and not a frame.
    """

    __slots__ = ("_pieces", "broken", "relay")

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.broken: StreamBroken | None = None
        """Set when the stream broke, perhaps behind its first token."""
        self._pieces: list[bytes] = []

    @property
    def first(self) -> bytes:
        """What is to be sent of it."""
        return b"".join(self._pieces)

    @property
    def begun(self) -> bool:
        """Whether there is a token: something that cannot be taken back once it is sent."""
        return self.relay.begun

    def feed(self, data: bytes) -> bool:
        """Take the next bytes, b"" for the end of the body; give whether a token is there, or none will come."""
        relay = self.relay
        try:
            piece = relay.feed(data) if data else relay.finish()
        except StreamBroken as broken:
            self.broken, piece = broken, broken.before
        if piece:
            self._pieces.append(piece)
        return self.begun or relay.done or relay.error is not None or self.broken is not None

    @property
    def fault(self) -> str | None:
        """One word for what makes this no answer, for which its engine is to blame; None when nothing does."""
        error = self.broken or self.relay.error
        return type(error).__name__ if error is not None and error.status >= 500 and not self.begun else None
