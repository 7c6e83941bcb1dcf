"""The same comparison in virtual time: the functions that decide, on models of engines, a queue and a gateway.

Nothing waits for a machine here, so that many minutes are looked at in seconds, at their own speed and with the
gateway's own intervals, and every run gives the same. It leaves out what costs time in processes, and has one
gateway, one tenant and one class. What decides is the code itself: which way a request goes, who waits, which endpoint
it goes to, how much a worker takes, how many replicas there are.
"""

import random
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import blake2b
from heapq import heappop, heappush
from itertools import count
from typing import Final

from traces_fleet import COLD_START, DOWN, MOST
from traces_load import TRACE_BLOCK, Row, Trace, rows_of

from capstan_contract.config import Dispatch
from capstan_contract.demand import ModelDemand, QueueState
from capstan_contract.queue.calls import State
from capstan_contract.queue.names import RENEW_SECONDS, PriorityClass
from capstan_gateway.queueing.choice import Sight, Way, choose, free_places, has_place, waiting_as_urgent, waits
from capstan_gateway.routing.picker import pick
from capstan_gateway.routing.registry import EndpointState
from capstan_gateway.upstream.port import Endpoint
from capstan_operator.api.scaling import Scaling, ScalingTargets
from capstan_operator.scaling.decision import Now, Scaler
from capstan_operator.scaling.demand import add_up
from capstan_worker.queue.room import Load, room_for

CACHED_BLOCKS: Final = 1024
NOON: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)


@dataclass(eq=False)
class Sent:
    """A request, and what becomes of it."""

    row: Row
    began: float = 0.0
    engine: "Replica | None" = None
    queued: bool = False
    first: float = 0.0
    headed: bool = False
    per_token: float = 0.0


@dataclass(eq=False)
class Replica:
    """An engine with its worker."""

    state: EndpointState
    began: float
    ready: bool = False
    leaving: bool = False
    ended: float | None = None
    running: list[Sent] = field(default_factory=list)
    waiting: deque[Sent] = field(default_factory=deque)
    blocks: OrderedDict[int, None] = field(default_factory=OrderedDict)

    def queued(self, *, headed: bool) -> int:
        """Give how many entries of the queue it has: all, or those whose answer has begun."""
        return sum(one.queued and (one.headed or not headed) for one in (*self.running, *self.waiting))

    def cached(self, row: Row) -> int:
        """Give how many tokens of a prompt it has computed before, and keep the others."""
        found = next((i for i, block in enumerate(row.blocks) if block not in self.blocks), len(row.blocks))
        for block in row.blocks:
            self.blocks[block] = None
            self.blocks.move_to_end(block)
        while len(self.blocks) > CACHED_BLOCKS:
            self.blocks.popitem(last=False)
        return found * TRACE_BLOCK


class World:
    """One run."""

    def __init__(
        self, trace: Trace, seconds: float, seed: int, dispatch: Dispatch | None, *, begin: int, target: int,
        slowdown: float,
    ) -> None:  # fmt: skip
        """`dispatch` None: a Service, in turns."""
        self.now = 0.0
        self.replicas: list[Replica] = []
        self.sent = [Sent(Row(row.at - trace.begin, row.prompt, max(row.answer, 2), row.blocks))
                     for _, row in rows_of(trace, seconds, seed)]  # fmt: skip
        self.most = begin
        self._dispatch = dispatch
        self._engine = trace.engine
        self._slowdown = slowdown
        self._rng = random.Random(seed)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._left = len(self.sent)
        self._turn = 0
        self._arrived = 0
        self._queue: deque[Sent] = deque()
        self._entries: dict[Sent, None] = {}
        self._holders: dict[bytes, str] = {}
        self._scaler = Scaler()
        self._said: ModelDemand | None = None
        self._scaling = Scaling(
            min=1, max=MOST, scaleDownStabilizationSeconds=DOWN, coldStartSeconds=COLD_START,
            targets=ScalingTargets(inFlightPerReplica=target),
        )  # fmt: skip
        for _ in range(begin):
            self._start().ready = True
        for one in self.sent:
            self._at(one.row.at, partial(self._arrive, one))
        self._beat()
        self._scale()

    def run(self) -> None:
        """Go on until everything is answered."""
        while self._left:
            self.now, _, happens = heappop(self._heap)
            happens()

    def gpu_seconds(self) -> float:
        """Give how long replicas were there in all."""
        return sum((self.now if one.ended is None else one.ended) - one.began for one in self.replicas)

    def _at(self, when: float, happens: Callable[[], None]) -> None:
        heappush(self._heap, (when, next(self._numbers), happens))

    @property
    def _serving(self) -> list[Replica]:
        return [one for one in self.replicas if one.ready and not one.leaving]

    # --- gateway ------------------------------------------------------------------------------------------------------

    def _arrive(self, one: Sent) -> None:
        self._arrived += 1
        one.began = self.now
        serving = self._serving
        if self._dispatch is None:
            self._turn += 1
            self._enter(one, serving[self._turn % len(serving)])
            return
        way, full = self._choose(self._dispatch, serving)
        if way is Way.QUEUE:
            one.queued = True
            self._entries[one] = None
            self._queue.append(one)
            self._take()
            return
        key = blake2b(repr(one.row.blocks[:2] or id(one)).encode(), digest_size=16).digest()
        states = {replica.state: replica for replica in serving}
        holder = self._holders.get(key)
        state = pick(tuple(states), self.now, self._rng, excluded=full, affinity=key, holder=holder)
        assert state is not None
        state.in_flight += 1
        self._holders[key] = state.endpoint.id
        self._enter(one, states[state])

    def _choose(self, dispatch: Dispatch, serving: list[Replica]) -> tuple[Way, frozenset[EndpointState]]:
        places = self._engine.places
        found = [one.queued(headed=True) for one in serving]
        loads = [one.state.in_flight + queued for one, queued in zip(serving, found, strict=True)]
        free = has_place(places, loads, len(self._entries) - sum(found))
        since = any(one.began >= self._state_at and not one.headed for one in self._entries)
        sight = Sight(
            usable=True, ready=bool(serving), free=free, workers=self._state.workers,
            waiting=waiting_as_urgent(self._state, PriorityClass.DEFAULT) + since,
        )  # fmt: skip
        full = frozenset(one.state for one, load in zip(serving, loads, strict=True) if load >= places)
        auto = dispatch is Dispatch.AUTO
        return choose(dispatch, sight, apart=False, may_wait=True), full if auto and free else frozenset()

    def _beat(self) -> None:
        serving = self._serving
        oldest = int(1000 * (self.now - self._queue[0].began)) if self._queue else 0
        self._state = State(
            (0, len(self._queue), 0, 0), 0, oldest, 0, sum(one.queued(headed=False) for one in self.replicas),
            sum(map(self._room, serving)), len(serving), 1,
        )  # fmt: skip
        self._state_at = self.now
        self._at(self.now + RENEW_SECONDS, self._beat)

    def _demand(self) -> ModelDemand:
        serving = self._serving
        if self._dispatch is None:
            in_flight = sum(len(one.running) + len(one.waiting) for one in self.replicas)
            return ModelDemand(inFlight=in_flight, arrived=self._arrived, rejected=0, readyEndpoints=len(serving))
        state = self._state
        began = [one.began for one in self._entries if not one.headed]
        loads = [one.state.in_flight + one.queued(headed=True) for one in serving]
        waiting = waits(len(began), free=free_places(self._engine.places, loads), state=state)
        return ModelDemand(
            inFlight=sum(one.state.in_flight for one in self.replicas) + len(self._entries) - waiting,
            waiting=waiting,
            oldestWaitSeconds=max((self.now - at for at in began[len(began) - waiting :]), default=0.0),
            readyEndpoints=len(serving), arrived=self._arrived, rejected=0,
            queue=QueueState(
                waiting=sum(state.waiting), running=state.running, room=state.room, workers=state.workers, gateways=1,
                oldestWaitSeconds=state.oldest_ms / 1000,
            ),
        )  # fmt: skip

    # --- engines and workers ------------------------------------------------------------------------------------------

    def _enter(self, one: Sent, replica: Replica) -> None:
        one.engine = replica
        replica.waiting.append(one)
        self._admit(replica)

    def _admit(self, replica: Replica) -> None:
        engine = self._engine
        while replica.waiting and len(replica.running) < engine.places:
            one = replica.waiting.popleft()
            replica.running.append(one)
            full = (len(replica.running) - 1) / max(engine.places - 1, 1)
            one.per_token = engine.token_ms / 1000 * (1 + self._slowdown * full)
            missing = max(one.row.prompt - replica.cached(one.row), 0)
            one.first = self.now + engine.first_ms / 1000 + missing / engine.prefill
            self._at(one.first, partial(self._begin, one))
            self._at(one.first + (one.row.answer - 1) * one.per_token, partial(self._end, one, replica))

    def _begin(self, one: Sent) -> None:
        one.headed = True
        if not one.queued and one.engine is not None:
            one.engine.state.observe(self.now - one.began, self.now)

    def _end(self, one: Sent, replica: Replica) -> None:
        replica.running.remove(one)
        self._left -= 1
        if one.queued:
            del self._entries[one]
        elif self._dispatch is not None:
            replica.state.in_flight -= 1
        self._admit(replica)
        self._settle(replica)
        self._take()

    def _room(self, replica: Replica) -> int:
        load = Load(len(replica.running) + len(replica.waiting), len(replica.waiting))
        return room_for(self._engine.places, replica.queued(headed=False), load=load)

    def _take(self) -> None:
        """Let workers take in turns, as the bell goes round among those that have room."""
        while self._queue and (able := [one for one in self._serving if self._room(one) > 0]):
            self._turn += 1
            self._enter(self._queue.popleft(), able[self._turn % len(able)])

    # --- replicas -----------------------------------------------------------------------------------------------------

    def _start(self) -> Replica:
        name = f"engine-{len(self.replicas)}"
        replica = Replica(EndpointState(Endpoint(id=name, host=name, port=8000)), self.now)
        self.replicas.append(replica)
        return replica

    def _scale(self) -> None:
        there, said = [one for one in self.replicas if not one.leaving], self._demand()
        now = Now(NOON + timedelta(seconds=self.now), self.now, len(there), len(self._serving))
        desired = self._scaler.decide(self._scaling, add_up([(said, self._said)]), now).desired
        self._said = said
        for _ in range(desired - len(there)):
            self._at(self.now + COLD_START, partial(self._come_up, self._start()))
        for one in sorted(there, key=lambda one: (one.ready, -one.began))[: max(len(there) - desired, 0)]:
            one.leaving = True
            self._settle(one)
        self.most = max(self.most, desired)
        self._at(self.now + 1.0, self._scale)

    def _come_up(self, replica: Replica) -> None:
        replica.ready = True
        self._take()

    def _settle(self, replica: Replica) -> None:
        if replica.leaving and replica.ended is None and not replica.running and not replica.waiting:
            replica.ended = self.now
