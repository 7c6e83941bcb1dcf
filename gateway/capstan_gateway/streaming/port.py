"""What the pipeline needs of whoever turns an engine's stream into the client's."""

from typing import Protocol

from capstan_gateway.errors import GatewayError
from capstan_gateway.streaming.cut import Cut
from capstan_gateway.tokens.estimate import TextCount
from capstan_gateway.tokens.usage import Usage


class Relay(Protocol):
    """One stream: feed it what the engine sends, send on what it gives back."""

    @property
    def usage(self) -> Usage | None:
        """What the engine counted so far; None when it said nothing."""
        ...

    @property
    def counted(self) -> bool:
        """Whether that is all that came so far, though the answer has not come to its end."""
        ...

    @property
    def events(self) -> int:
        """Events with something for the client."""
        ...

    @property
    def begun(self) -> bool:
        """A first token came: comments, pings and the empty delta with the role are none."""
        ...

    @property
    def text(self) -> TextCount:
        """The text that came so far: what the tokens of a stream that is cut off are estimated from."""
        ...

    @property
    def finished(self) -> bool:
        """A finish reason was seen."""
        ...

    @property
    def error(self) -> GatewayError | None:
        """What the engine reported inside the stream."""
        ...

    @property
    def done(self) -> bool:
        """The end was given out."""
        ...

    @property
    def kept(self) -> int:
        """How many bytes are kept back: of a frame that is not whole, of text and calls that wait for others."""
        ...

    def feed(self, data: bytes) -> bytes:
        """Give the bytes to send; raises StreamBroken when the stream makes no sense."""
        ...

    def finish(self) -> bytes:
        """Give what remains to be sent when the body is over; raises StreamBroken if that was too early."""
        ...

    def failure(self, error: GatewayError) -> bytes:
        """Give the frames that end a stream which has begun and cannot go on."""
        ...

    def cut(self, cut: Cut, last: bytes) -> bytes:
        """Give the frames that end a stream well before its engine does, as one that has reached its length.

        `last` is what it has given out last that was not empty.
        """
        ...
