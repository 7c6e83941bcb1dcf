"""The relay of a stream whose frames went through its engine's relay already, and through filters behind it."""

from collections.abc import Callable

from capstan_gateway.errors import GatewayError
from capstan_gateway.streaming.around import PassingRelay
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.relay import error_end


class FilteredRelay(PassingRelay):
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

    def failure(self, error: GatewayError) -> bytes:
        """Give the frames that end a stream which has begun and cannot go on."""
        return error_end(error)
