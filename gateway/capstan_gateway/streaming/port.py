"""What the pipeline needs of whoever turns an engine's stream into the client's."""

from typing import Protocol

from capstan_gateway.errors import GatewayError
from capstan_gateway.streaming.usage import Usage


class Relay(Protocol):
    """One stream: feed it what the engine sends, send on what it gives back."""

    usage: Usage | None
    events: int
    """Events with something for the client."""
    finished: bool
    """A finish reason was seen."""
    error: GatewayError | None
    """What the engine reported inside the stream."""
    done: bool
    """The end marker was given out."""

    def feed(self, data: bytes) -> bytes:
        """Give the bytes to send; raises StreamBroken when the stream makes no sense."""
        ...

    def finish(self) -> bytes:
        """Give what remains to be sent when the body is over; raises StreamBroken if that was too early."""
        ...
