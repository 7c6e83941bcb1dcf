"""How many replicas the demand of a moment asks for, as a number with a fraction. It never falls where demand grows."""

from typing import Final

from capstan_operator.api.scaling import ScalingTargets
from capstan_operator.scaling.demand import Demand

LOOKAHEAD: Final = 15.0
"""A queue that grows counts as it will be in so many seconds."""
REJECTED_SECONDS: Final = 10.0
"""Requests that were refused within so many seconds count as if they waited."""
NEAR: Final = 0.7
"""From what share of a target of waiting on no replica is taken away."""
STEEPEST: Final = 2.0
"""How many times the ready replicas a target of waiting asks for at most: what is on its way has to arrive first."""


def load_of(demand: Demand, aims: ScalingTargets, *, growth: float, current: int, ready: int) -> float:
    """Give the replicas that are asked for. `growth` is by how much more wait per second than a moment ago.

    It is the most that any target asks for. How busy a GPU is does not count: one that works on a single request is as
    busy as one that works on a hundred.
    """
    loads = [0.0]
    if aims.inFlightPerReplica is not None:
        # NB: a queue before a model that has no ready replica grows because there is none, however small its load.
        growing = max(growth, 0.0) * LOOKAHEAD if ready else 0.0
        asked = (demand.in_flight + demand.waiting + growing) / aims.inFlightPerReplica
        refused = demand.rejected * REJECTED_SECONDS / aims.inFlightPerReplica
        # NB: where no replica comes up, requests are refused again and again, and more replicas would not either.
        loads.append(asked + refused if ready else max(asked, min(asked + refused, current)))
    if aims.tokensPerSecond is not None:
        loads.append(demand.tokens / aims.tokensPerSecond)
    if aims.queueWaitSeconds is not None:
        loads.append(_of_wait(demand.oldest_wait / aims.queueWaitSeconds, current, ready))
    if aims.timeToFirstTokenSeconds is not None and demand.first_token is not None:
        loads.append(_of_wait(demand.first_token / float(aims.timeToFirstTokenSeconds), current, ready))
    if aims.kvCacheUtilization is not None:
        loads.append(_of_kv(demand, aims.kvCacheUtilization, current, ready))
    return max(loads)


def _of_kv(demand: Demand, percent: int, current: int, ready: int) -> float:
    """Give what the KV caches ask for: what fills two to 80 % fills three to a little more than half.

    What is not known keeps what there is: as long as a ready replica has not told, it may be full.
    """
    if demand.kv_used is None or not ready:
        return float(current)
    asked = demand.kv_used * 100 / percent
    return asked if demand.kv_told >= ready else max(asked, float(current))


def _of_wait(share: float, current: int, ready: int) -> float:
    """Give what a target of waiting asks for, of which so much is used up.

    Waiting is not in proportion to replicas: half the replicas may make ten times the wait. So it adds some, in steps,
    and says nothing of how many would be enough; that the other targets say.
    """
    kept = float(current) if share > NEAR else 0.0
    return max(kept, ready * min(share, STEEPEST)) if share > 1 else kept
