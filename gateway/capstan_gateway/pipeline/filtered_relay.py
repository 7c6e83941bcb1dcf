"""The relay of a stream whose frames went through its engine's relay already, and through filters behind it."""

from collections.abc import Callable

from capstan_gateway.errors import GatewayError
from capstan_gateway.streaming.around import RelayAround
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.relay import error_end


class FilteredRelay(RelayAround):
    """Implements `streaming.port.Relay`; `over` says whether the end came out of the filters."""

    def __init__(self, inner: Relay, over: Callable[[], bool]) -> None:
        super().__init__(inner)
        self._over = over

    @property
    def done(self) -> bool:
        """The end was given out."""
        return self._over()

    @property
    def kept(self) -> int:
        """Nothing: what the engine's relay keeps is reckoned where that is fed."""
        return 0

    def feed(self, data: bytes) -> bytes:
        """Give the frames, which are whole."""
        return data

    def finish(self) -> bytes:
        """Give nothing: the end was among the frames."""
        return b""

    def failure(self, error: GatewayError) -> bytes:
        """Give the frames that end a stream which has begun and cannot go on."""
        return error_end(error)
