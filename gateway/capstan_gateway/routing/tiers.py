"""Which endpoint a request goes to when some come before others: the regions of a hosted model. Pure, as `picker`.

    tier 0   own region, or the lower priority     all of the traffic, in the shares of their weights
    tier 1   the next                               what tier 0 cannot take: it fails, is full, or has just come back

An endpoint that is back takes a tenth of its traffic at first and grows from there; the rest goes to its tier, or to
the next one. When none is fit, those that may be asked at all are asked in order: the last one is never ejected.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from random import Random

from capstan_gateway.routing.picker import mix
from capstan_gateway.routing.registry import EndpointState


def pick_by_tier(
    states: Sequence[EndpointState],
    now: float,
    rng: Random,
    *,
    excluded: Collection[EndpointState] = (),
    affinity: bytes | None = None,
) -> EndpointState | None:
    """Choose one of the endpoints that are not excluded; None when there is none."""
    left = [state for state in states if state not in excluded]
    fit = [state for state in left if state.breaker.allows(now)]
    last = None
    for tier in _tiers(fit):
        shares = [state.breaker.share(now) for state in tier]
        chosen = _weighted(tier, shares, rng, affinity)
        if rng.random() < max(shares):
            return chosen
        last = last or chosen
    return last or next(iter(sorted(left, key=_tier)), None)


def _tier(state: EndpointState) -> int:
    return state.endpoint.tier


def _tiers(states: list[EndpointState]) -> Iterator[list[EndpointState]]:
    for _, tier in groupby(sorted(states, key=_tier), key=_tier):
        yield list(tier)


def _weighted(
    tier: Sequence[EndpointState], shares: Sequence[float], rng: Random, affinity: bytes | None
) -> EndpointState:
    """Choose by weight; one affinity key gets one endpoint, as long as the shares stay."""
    weights = [(state.endpoint.weight or 1) * share for state, share in zip(tier, shares, strict=True)]
    if affinity is None:
        return rng.choices(tier, weights)[0]
    hashed = int.from_bytes(affinity[:8], "big")
    ranks = [
        -weight / math.log((min(mix(state.seed ^ hashed), 2**64 - 2**12) + 0.5) / 2.0**64)
        for state, weight in zip(tier, weights, strict=True)
    ]
    return tier[ranks.index(max(ranks))]
