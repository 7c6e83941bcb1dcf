"""The relay of a stream whose frames went through its engine's relay already, and through filters behind it."""

from collections.abc import Callable

from capstan_gateway.errors import GatewayError
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.relay import error_end
from capstan_gateway.tokens.estimate import TextCount
from capstan_gateway.tokens.usage import Usage


class FilteredRelay:
    """Implements `streaming.port.Relay`; `over` says whether the end came out of the filters."""

    def __init__(self, inner: Relay, over: Callable[[], bool]) -> None:
        self._inner = inner
        self._over = over

    @property
    def usage(self) -> Usage | None:
        """What the engine counted."""
        return self._inner.usage

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
        return self._over()

    def feed(self, data: bytes) -> bytes:
        """Give the frames, which are whole."""
        return data

    def finish(self) -> bytes:
        """Give nothing: the end was among the frames."""
        return b""

    def failure(self, error: GatewayError) -> bytes:
        """Give the frames that end a stream which has begun and cannot go on."""
        return error_end(error)
