"""How much is asked of each model, for whoever decides how many replicas it gets (`capstan_contract.demand`).

Requests only count; what that is per second is reckoned beside them, every SAMPLE_SECONDS.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from capstan_contract.demand import DEMAND_SECONDS, DemandReport, ModelDemand, QueueState
from capstan_gateway.config.runtime import Runtime, ServedModel
from capstan_gateway.queueing.choice import free_places, places_of_one, waits

if TYPE_CHECKING:
    from capstan_gateway.queueing.line import Line
    from capstan_gateway.queueing.room import Room
    from capstan_gateway.routing.registry import EndpointState

SAMPLE_SECONDS: Final = 2.0
LEAST_SECONDS: Final = 0.001
"""What has grown in less tells nothing."""


class Rate:
    """How fast a count grows: its mean over DEMAND_SECONDS, in which what is older counts less and less. Pure."""

    __slots__ = ("_at", "_total", "per_second")

    def __init__(self, total: float, now: float) -> None:
        self._total = total
        self._at = now
        self.per_second = 0.0

    def take(self, total: float, now: float) -> None:
        """Take the count as it is now; one that has become less is that of something else, and begins anew."""
        seconds = now - self._at
        if seconds < LEAST_SECONDS:
            return
        grown = max(total - self._total, 0.0) / seconds
        self.per_second += (1.0 - math.exp(-seconds / DEMAND_SECONDS)) * (grown - self.per_second)
        self._total, self._at = total, now


class _Rates:
    """Of one model, whose counts begin at 0 when it is first served."""

    def __init__(self, began_at: float) -> None:
        self.arrived, self.rejected, self.tokens = Rate(0, began_at), Rate(0, began_at), Rate(0, began_at)

    def take(self, arrived: float, rejected: float, tokens: float, now: float) -> None:
        self.arrived.take(arrived, now)
        self.rejected.take(rejected, now)
        self.tokens.take(tokens, now)


class Demand:
    """Of all models that are endpoints of one's own; hosted and virtual ones have no replicas."""

    def __init__(self, current: Callable[[], Runtime | None], room: "Room | None") -> None:
        self._current = current
        self._room = room
        self._rates: dict[str, _Rates] = {}

    def _free(self, model: ServedModel, line: "Line", taking: "Sequence[EndpointState]") -> int:
        """Give how many places this replica's requests leave, where it is known whose they are."""
        if self._room is None or model.queue is None:
            return 0
        loads, _ = line.loads(taking)
        places = places_of_one(model.queue.places, self._room.gateways(line))
        return free_places(places, loads) - line.at.get("", 0)

    async def run(self) -> None:
        """Reckon for ever."""
        while True:
            self.sample(asyncio.get_running_loop().time())
            await asyncio.sleep(SAMPLE_SECONDS)

    def sample(self, now: float) -> None:
        """Take the counts as they are now."""
        runtime = self._current()
        known, self._rates = self._rates, {}
        for model, names in _models(runtime):
            counts = (*_counted(model), _tokens(names))
            rates = known.get(model.id) or _Rates(now - SAMPLE_SECONDS)
            rates.take(*counts, now)
            self._rates[model.id] = rates

    def report(self) -> DemandReport:
        """Say how much is asked of each model now."""
        now = asyncio.get_running_loop().time()
        return DemandReport(
            models={model.id: self._of(model, now) for model, _ in _models(self._current())},
        )

    def _tried(self, model: ServedModel) -> int:
        """Give what a revision that is tried has in hand: all of it comes back to the stable one when the try ends."""
        if model.canary is None:
            return 0
        line = None if self._room is None else self._room.lines.get(model.canary.id)
        in_flight = sum(state.in_flight for state in model.canary.endpoints.states)
        return in_flight + (0 if line is None else len(line.entries))

    def _of(self, model: ServedModel, now: float) -> ModelDemand:
        endpoints, rates = model.endpoints, self._rates.get(model.id)
        line = None if self._room is None else self._room.lines.get(model.id)
        taking = [state for state in endpoints.states if state.breaker.allows(now)]
        ready = len(taking)
        uses = [use for state in taking if (use := state.kv_use(now)) is not None]
        since = [] if line is None else _waiting_since(line, self._free(model, line, taking))
        waiting = endpoints.waiting + len(since)
        taken = 0 if line is None else len(line.entries) - len(since)
        if endpoints.waiting_since is not None:
            since.append(endpoints.waiting_since)
        return ModelDemand(
            inFlight=sum(state.in_flight for state in endpoints.states) + taken + self._tried(model),
            waiting=waiting,
            coldWaiting=0 if ready else waiting,
            oldestWaitSeconds=max((now - one for one in since), default=0.0),
            readyEndpoints=ready,
            arrivalsPerSecond=0.0 if rates is None else rates.arrived.per_second,
            rejectedPerSecond=0.0 if rates is None else rates.rejected.per_second,
            arrived=endpoints.arrived,
            rejected=endpoints.rejected,
            tokensPerSecond=0.0 if rates is None else rates.tokens.per_second,
            firstTokenP95Seconds=endpoints.first_tokens.late(),
            kvCacheUtilization=sum(uses) / len(uses) if uses else None,
            kvCacheEndpoints=len(uses),
            queue=None if line is None else queue_state(line, now),
        )


def _waiting_since(line: "Line", free: int) -> list[float]:
    """Give since when entries wait for a worker: of those without an answer the latest ones."""
    unanswered = [entry.began_at for entry in line.entries.values() if entry.waits]
    return unanswered[len(unanswered) - waits(len(unanswered), free=free, state=line.state) :]


def queue_state(line: "Line", now: float) -> QueueState | None:
    """Give how a queue stands, as Redis has told it last; None where that is not known."""
    state = line.state
    if state is None:
        return None
    return QueueState(
        waiting=sum(state.waiting), running=state.running, room=state.room, workers=state.workers,
        gateways=state.gateways, oldestWaitSeconds=state.oldest_ms / 1000, meanSeconds=state.mean_us / 1e6,
        ageSeconds=max(now - line.state_at, 0.0),
    )  # fmt: skip


def _models(runtime: Runtime | None) -> Iterable[tuple[ServedModel, list[ServedModel]]]:
    """Give each model with replicas of its own, and it by all the names that it is served under."""
    if runtime is None:
        return ()
    own = {one.id: one for one in runtime.full.by_id.values() if not one.external and one.plan is None}
    names: dict[str, list[ServedModel]] = {model_id: [] for model_id in own}
    for model in runtime.full.models.values():
        if model.id in names:
            names[model.id].append(model)
    return [(own[model_id], served) for model_id, served in names.items()]


def _counted(model: ServedModel) -> tuple[int, int]:
    return model.endpoints.arrived, model.endpoints.rejected


def _tokens(names: Iterable[ServedModel]) -> float:
    metrics = {id(model.metrics.input_tokens): model.metrics for model in names}
    return sum(one.input_tokens.value + one.output_tokens.value for one in metrics.values())
