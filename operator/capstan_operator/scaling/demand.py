"""What is asked of one model at a moment, by all gateway replicas together."""

from collections.abc import Collection
from dataclasses import dataclass

from capstan_contract.demand import ModelDemand

Said = tuple[ModelDemand | None, ModelDemand | None]
"""What a replica says of a model, and what it had said the last time before that; None: nothing."""


@dataclass(frozen=True)
class Demand:
    """What was said of one model."""

    in_flight: int = 0
    waiting: int = 0
    oldest_wait: float = 0.0
    """Seconds."""
    came: bool = False
    """Whether any request has come since the time before, whatever became of it."""
    was_refused: bool = False
    """Whether any was refused since then because too much waits, or gave up waiting."""
    rejected: float = 0.0
    """How many of these per second, averaged over half a minute."""
    tokens: float = 0.0
    """Per second."""
    first_token: float | None = None
    """Seconds, of which 95 of 100 streams stay below, at the replica where that takes longest."""
    kv_used: float | None = None
    """How many KV caches of replicas requests fill, such as 1.6 of two that are full to 80 %; None: none tells."""
    kv_told: int = 0
    """Of how many replicas that is."""
    ready: int = 0
    """Endpoints that take requests, as the replica sees it that sees most of them."""
    complete: bool = True
    """Whether every ready gateway replica has said something. What is said is too little where not."""

    @property
    def is_pressing(self) -> bool:
        """Whether somebody waits for an answer now."""
        return self.in_flight > 0 or self.waiting > 0


def add_up(said: Collection[Said]) -> Demand | None:
    """Add up what the ready replicas say of a model; None where none says anything."""
    known = [now for now, _ in said if now is not None]
    if not known:
        return None
    queues = [one.queue for one in known if one.queue is not None]
    queue = min(queues, key=lambda one: one.ageSeconds, default=None)
    first_tokens = [one.firstTokenP95Seconds for one in known if one.firstTokenP95Seconds is not None]
    # NB: replicas ask the same endpoints: who knows most of them tells for all.
    telling = [one for one in known if one.kvCacheUtilization is not None and one.kvCacheEndpoints]
    kv = max(telling, key=lambda one: (one.kvCacheEndpoints, one.kvCacheUtilization or 0.0), default=None)
    waiting = sum(one.waiting for one in known)
    in_flight = sum(one.inFlight for one in known)
    oldest = max(one.oldestWaitSeconds for one in known)
    return Demand(
        # NB: what waits in the queue is in what replicas say of themselves too, but for those that are gone.
        in_flight=max(in_flight, queue.running) if queue else in_flight,
        waiting=max(waiting, queue.waiting) if queue else waiting,
        oldest_wait=max(oldest, queue.oldestWaitSeconds) if queue else oldest,
        came=any(_has_come(*one) for one in said),
        was_refused=any(_was_refused(*one) for one in said),
        rejected=sum(one.rejectedPerSecond for one in known),
        tokens=sum(one.tokensPerSecond for one in known),
        first_token=max(first_tokens, default=None),
        kv_used=None if kv is None else (kv.kvCacheUtilization or 0.0) * kv.kvCacheEndpoints,
        kv_told=0 if kv is None else kv.kvCacheEndpoints,
        ready=max(one.readyEndpoints for one in known),
        complete=len(known) == len(said),
    )


def _has_come(now: ModelDemand | None, before: ModelDemand | None) -> bool:
    if now is None or before is None:
        return False
    if now.arrived is None or before.arrived is None:
        return now.arrivalsPerSecond > before.arrivalsPerSecond
    return _has_counted(now.arrived, before.arrived)


def _was_refused(now: ModelDemand | None, before: ModelDemand | None) -> bool:
    if now is None or before is None:
        return False
    if now.rejected is None or before.rejected is None:
        return now.rejectedPerSecond > before.rejectedPerSecond
    return _has_counted(now.rejected, before.rejected)


def _has_counted(now: int, before: int) -> bool:
    """Say whether a count has gone on; one that is less than it was began anew, with the process that counts."""
    return now > before or 0 < now < before
