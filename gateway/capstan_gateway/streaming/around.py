"""A relay around another one: what the engine said is what the inner one has read."""

from capstan_gateway.errors import GatewayError
from capstan_gateway.streaming.cut import Cut
from capstan_gateway.streaming.port import Relay
from capstan_gateway.tokens.estimate import TextCount
from capstan_gateway.tokens.usage import Usage


class RelayAround:
    """The half of `streaming.port.Relay` that tells of the engine's stream, by the relay that reads it."""

    def __init__(self, inner: Relay) -> None:
        self._inner = inner

    @property
    def usage(self) -> Usage | None:
        """What the engine counted."""
        return self._inner.usage

    @property
    def counted(self) -> bool:
        """Whether that is all that came so far."""
        return self._inner.counted

    @property
    def events(self) -> int:
        """Events of the engine with something for the client."""
        return self._inner.events

    @property
    def begun(self) -> bool:
        """A first token came."""
        return self._inner.begun

    @property
    def text(self) -> TextCount:
        """The text that the engine has written."""
        return self._inner.text

    @property
    def finished(self) -> bool:
        """A finish reason was seen."""
        return self._inner.finished

    @property
    def error(self) -> GatewayError | None:
        """What the engine reported inside the stream."""
        return self._inner.error

    @property
    def done(self) -> bool:
        """The end was given out."""
        return self._inner.done

    @property
    def kept(self) -> int:
        """What is kept of the engine's stream."""
        return self._inner.kept

    def cut(self, cut: Cut, last: bytes) -> bytes:
        """Give the frames that end a stream well before its engine does."""
        return self._inner.cut(cut, last)


class PassingRelay(RelayAround):
    """One that is fed whole frames, which went through the engine's relay already: they go on as they are."""

    def feed(self, data: bytes) -> bytes:
        """Give the frames, which are whole."""
        return data

    def finish(self) -> bytes:
        """Give nothing: the end was among the frames."""
        return b""

    def failure(self, error: GatewayError) -> bytes:
        """Give the frames that end a stream which has begun and cannot go on."""
        return self._inner.failure(error)
