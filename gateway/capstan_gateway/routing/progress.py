"""What one dispatch has tried so far, and whom it may still ask."""

from collections.abc import Callable
from typing import Final

from capstan_gateway.routing.port import Call
from capstan_gateway.routing.registry import EndpointState
from capstan_gateway.routing.unroutable import NoCredential
from capstan_gateway.upstream.errors import UpstreamError
from capstan_gateway.upstream.port import Endpoint, Headers

NONE_EXCLUDED: Final[frozenset[EndpointState]] = frozenset()


class Progress:
    """One dispatch on its way from endpoint to endpoint."""

    __slots__ = ("began_at", "call", "error", "excluded", "pauses", "sent")

    def __init__(self, call: Call, now: float) -> None:
        self.call = call
        self.excluded = NONE_EXCLUDED
        self.error: UpstreamError | None = None
        """What the last attempt failed with."""
        self.sent = 0
        """Attempts that may have made an engine work."""
        self.pauses = 0
        """How often it has waited for endpoints that could not be connected to."""
        self.began_at = now
        if call.avoid:
            self.exclude(*(state for state in call.endpoints.states if state.endpoint in call.avoid))
            self.sent = len(call.avoid)

    @property
    def wait_until(self) -> float:
        """Until when it may wait for an endpoint, in the loop's time."""
        return min(self.began_at + self.call.wait_seconds, self.call.expires_at)

    def exclude(self, *states: EndpointState) -> None:
        """Leave these out from now on."""
        self.excluded = self.excluded.union(states)

    def exclude_none(self) -> None:
        """Make all of them candidates again: time has passed."""
        self.excluded = NONE_EXCLUDED

    def exclude_unusable(self, headers_of: Callable[[Endpoint], Headers | None], *, retry_after: float) -> None:
        """Leave out the endpoints for which there are no headers (no key); raise NoCredential if that leaves none."""
        states = self.call.endpoints.states
        unusable = [state for state in states if headers_of(state.endpoint) is None]
        self.exclude(*unusable)
        if states and len(unusable) == len(states):
            raise NoCredential("no endpoint has its credential", retry_after=retry_after)

    def others(self) -> bool:
        """Whether there is an endpoint that is not left out."""
        return any(state not in self.excluded for state in self.call.endpoints.states)

    def fit_others(self, now: float) -> bool:
        """Whether one of those should be asked as well, in the eyes of its breaker."""
        return any(state not in self.excluded and state.breaker.allows(now) for state in self.call.endpoints.states)
