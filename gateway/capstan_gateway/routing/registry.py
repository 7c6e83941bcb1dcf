"""What is known about each endpoint. It outlives configs and endpoint sets, and is bounded."""

import math
from collections import OrderedDict
from hashlib import blake2b
from typing import Final

from capstan_gateway.routing.breaker import DEFAULT, Breaker, BreakerSettings
from capstan_gateway.upstream.port import Endpoint

LATENCY_SECONDS: Final = 10.0
"""Time constant of the average: what is older than about twice this hardly counts."""
LEAST_WEIGHT: Final = 0.05
"""What a sample counts at least, however soon it follows the one before."""
KV_USE_SECONDS: Final = 60.0
"""What an engine has told of its KV cache longer ago says nothing any more."""
STALE_SECONDS: Final = 30.0
"""An average without a sample for this long says nothing any more."""


class EndpointState:
    """Load, latency and health of one endpoint. Shared by all requests; only the loop's thread touches it."""

    __slots__ = (
        "_kv_use", "_kv_use_at", "_latency", "_sampled_at", "answered_at", "breaker", "endpoint", "in_flight",
        "last_error", "references", "seed",
    )  # fmt: skip

    def __init__(self, endpoint: Endpoint, settings: BreakerSettings = DEFAULT) -> None:
        self.endpoint = endpoint
        self.seed = int.from_bytes(blake2b(endpoint.id.encode(), digest_size=8).digest(), "big")
        """Where the endpoint stands in rendezvous hashing: a function of its id only."""
        self.breaker = Breaker(settings)
        self.in_flight = 0
        self.last_error: str | None = None
        """One word: the class of the last failure that the breaker counted, or its status. Cleared by a success that
        finds the breaker closed, or closes it: until then the trials are to be of the kind that it calls for."""
        self.references = 0
        self._latency = 0.0
        self._sampled_at = -math.inf
        self._kv_use = 0.0
        self._kv_use_at = -math.inf
        self.answered_at = -math.inf
        """When an answer last began."""

    def latency(self, now: float) -> float | None:
        """Give the average time to the first token; None when there is no recent sample.

        It fades with the age of the last sample, so that an endpoint that was slow once is tried again.
        """
        age = now - self._sampled_at
        return self._latency * math.exp(-age / LATENCY_SECONDS) if age <= STALE_SECONDS else None

    def kv_use(self, now: float) -> float | None:
        """Give which share of its KV cache requests use, from 0 to 1; None when it has not told that of late."""
        return self._kv_use if now - self._kv_use_at <= KV_USE_SECONDS else None

    def observe_kv_use(self, share: float, now: float) -> None:
        """Take note of how full its KV cache is."""
        self._kv_use, self._kv_use_at = share, now

    def observe(self, seconds: float, now: float) -> None:
        """Take note of an answer that has begun, after so many seconds.

        That goes into the average: the longer since the last sample, the more it weighs.
        """
        self.answered_at = now
        gap = now - self._sampled_at
        weight = LEAST_WEIGHT
        if gap > LEAST_WEIGHT * LATENCY_SECONDS:
            weight = 1.0 if gap > STALE_SECONDS else max(1.0 - math.exp(-gap / LATENCY_SECONDS), LEAST_WEIGHT)
        self._latency += weight * (seconds - self._latency)
        self._sampled_at = now

    def observe_silence(self, seconds: float, now: float) -> None:
        """Take note that no answer had begun after so many seconds, when nobody waited for it any more.

        It takes at least so long, and what is slow should be asked less. It has not answered, though: whether it still
        does is for the prober to find out.
        """
        answered_at = self.answered_at
        self.observe(max(seconds, self.latency(now) or 0.0), now)
        self.answered_at = answered_at


class EndpointRegistry:
    """All endpoint states, by endpoint id.

    A state that a set uses stays. Of the others the most recently used `max_unused` stay, so that an endpoint that
    leaves and comes back (a readiness flap, a config change) is known.
    """

    def __init__(self, *, settings: BreakerSettings = DEFAULT, max_unused: int = 1024) -> None:
        self._settings = settings
        self._max_unused = max_unused
        self._used: dict[str, EndpointState] = {}
        self._unused: OrderedDict[str, EndpointState] = OrderedDict()

    def acquire(self, endpoint: Endpoint) -> EndpointState:
        """Give the state of an endpoint to a set that uses it from now on."""
        state = self._used.get(endpoint.id) or self._unused.pop(endpoint.id, None)
        if state is None:
            state = EndpointState(endpoint, self._settings)
        state.endpoint = endpoint
        state.references += 1
        self._used[endpoint.id] = state
        return state

    def release(self, state: EndpointState) -> None:
        """Take back what `acquire` gave."""
        state.references -= 1
        if state.references:
            return
        del self._used[state.endpoint.id]
        self._unused[state.endpoint.id] = state
        while len(self._unused) > self._max_unused:
            self._unused.popitem(last=False)

    def states(self) -> tuple[EndpointState, ...]:
        """Give the states in use, for metrics and reports."""
        return tuple(self._used.values())
