"""What is asked of one model at a moment, by all gateway replicas together."""

from collections.abc import Collection
from dataclasses import dataclass
from math import exp

from capstan_contract.demand import DEMAND_SECONDS, ModelDemand

_ROUNDED = 1e-3
"""How much a rate may seem to grow by being rounded."""
_GROWN = 1.02


@dataclass(frozen=True)
class Demand:
    """What was said of one model."""

    in_flight: int = 0
    waiting: int = 0
    oldest_wait: float = 0.0
    """Seconds."""
    arrivals: float = 0.0
    """Requests per second, averaged over DEMAND_SECONDS."""
    rejected: float = 0.0
    """Of those, refused because too much waits, or ended while they waited."""
    tokens: float = 0.0
    """Per second."""
    first_token: float | None = None
    """Seconds, of which 95 of 100 streams stay below, at the replica where that takes longest."""
    complete: bool = True
    """Whether every ready gateway replica has said something. What is said is too little where not."""

    @property
    def is_pressing(self) -> bool:
        """Whether somebody waits for an answer now."""
        return self.in_flight > 0 or self.waiting > 0


def add_up(said: Collection[ModelDemand | None]) -> Demand | None:
    """Add up what the ready replicas say of a model, None for one that says nothing of it; None where none does."""
    known = [one for one in said if one is not None]
    if not known:
        return None
    queues = [one.queue for one in known if one.queue is not None]
    queue = min(queues, key=lambda one: one.ageSeconds, default=None)
    first_tokens = [one.firstTokenP95Seconds for one in known if one.firstTokenP95Seconds is not None]
    waiting = sum(one.waiting for one in known)
    in_flight = sum(one.inFlight for one in known)
    oldest = max(one.oldestWaitSeconds for one in known)
    return Demand(
        # NB: what waits in the queue is in what replicas say of themselves too, but for those that are gone.
        in_flight=max(in_flight, queue.running) if queue else in_flight,
        waiting=max(waiting, queue.waiting) if queue else waiting,
        oldest_wait=max(oldest, queue.oldestWaitSeconds) if queue else oldest,
        arrivals=sum(one.arrivalsPerSecond for one in known),
        rejected=sum(one.rejectedPerSecond for one in known),
        tokens=sum(one.tokensPerSecond for one in known),
        first_token=max(first_tokens, default=None),
        complete=len(known) == len(said),
    )


def has_come(rate: float, before: float, seconds: float) -> bool:
    """Say whether something has come between two times that a rate was told: it only decays otherwise."""
    return rate > before * exp(-seconds / DEMAND_SECONDS) * _GROWN + _ROUNDED
