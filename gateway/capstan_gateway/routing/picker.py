"""Which endpoint a request goes to. Pure: state, clock and random come in, a choice comes out."""

import math
from collections.abc import Collection, Sequence
from random import Random
from typing import Final

from capstan_gateway.routing.registry import EndpointState

LOAD_FACTOR: Final = 1.25
"""A preferred endpoint is passed over when it has this many times its fair share in flight."""
SLACK: Final = 4
"""Fewer requests in flight than this are no load: an engine runs them in one batch."""
LATENCY_WEIGHT: Final = 4.0
"""Measured latency makes one endpoint count at most this many times as loaded as another: averages of answers of
different lengths say only so much."""
LEAST_LATENCY: Final = 0.01
"""Below this, differences are noise: a turn of a busy loop, a new connection."""
_MASK: Final = (1 << 64) - 1


def pick(
    states: Sequence[EndpointState],
    now: float,
    rng: Random,
    *,
    excluded: Collection[EndpointState] = (),
    affinity: bytes | None = None,
    holder: str | None = None,
) -> EndpointState | None:
    """Choose one of the endpoints that are not excluded; None when there is none.

    Endpoints whose breaker is open are left out, unless that leaves nothing: the last one is never ejected. With an
    affinity key the same key gives the same endpoint as long as its load allows, and the `holder` of what has that key
    (an endpoint's id) comes before that; otherwise the better of two at random.
    """
    count = len(states)
    if not excluded and count == 1:
        return states[0]
    if not excluded and affinity is None and count > 1:
        # The usual case, without building a list: both of two at random are fit.
        first = int(rng.random() * count)
        second = int(rng.random() * (count - 1))
        one, other = states[first], states[second + 1 if second >= first else second]
        if one.breaker.allows(now) and other.breaker.allows(now):
            return better(one, other, now)
    usable = candidates(states, now, excluded)
    if not usable:
        return None
    if len(usable) == 1:
        return usable[0]
    if affinity is not None:
        return preferred(usable, affinity, holder)
    one, other = rng.sample(usable, 2)
    return better(one, other, now)


def candidates(
    states: Sequence[EndpointState], now: float, excluded: Collection[EndpointState] = ()
) -> list[EndpointState]:
    """Give the endpoints that may be chosen."""
    left = [state for state in states if state not in excluded]
    return [state for state in left if state.breaker.allows(now)] or left


def better(one: EndpointState, other: EndpointState, now: float) -> EndpointState:
    """Give the one that will probably answer first: fewer in flight, weighed with latency where both are known."""
    first, second = one.latency(now), other.latency(now)
    if first is None or second is None:
        return one if one.in_flight <= other.in_flight else other
    first, second = max(first, LEAST_LATENCY), max(second, LEAST_LATENCY)
    first, second = max(first, second / LATENCY_WEIGHT), max(second, first / LATENCY_WEIGHT)
    return one if (one.in_flight + 1) * first <= (other.in_flight + 1) * second else other


def preferred(usable: Sequence[EndpointState], key: bytes, holder: str | None = None) -> EndpointState:
    """Give the holder of what has this key; else, or when it is overloaded, the endpoint that ranks highest for the
    key among those that are not.

    Rendezvous hashing: an endpoint that comes or goes moves only the keys that it gets or had. Bounded load: with
    `n` endpoints and `m` requests in flight none gets more than `ceil(LOAD_FACTOR * (m + 1) / n)`, or SLACK.
    """
    bound = load_bound(usable)
    hashed = int.from_bytes(key[:8], "big")
    best: EndpointState | None = None
    best_score = -1
    for state in usable:
        if state.in_flight < bound:
            if holder is not None and state.endpoint.id == holder:
                return state
            score = mix(state.seed ^ hashed)
            if score > best_score:
                best, best_score = state, score
    return best if best is not None else usable[0]


def load_bound(usable: Sequence[EndpointState]) -> int:
    """How many requests in flight make an endpoint overloaded."""
    total = sum(state.in_flight for state in usable) + 1
    return max(SLACK, math.ceil(LOAD_FACTOR * total / len(usable)))


def mix(value: int) -> int:
    """The finaliser of splitmix64: every bit of the result depends on every bit of the value."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
