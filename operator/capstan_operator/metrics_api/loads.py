"""How many replicas are asked for, of the models that somebody asks about: in every replica of the operator."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil
from typing import Final

from capstan_operator.api.kinds import Model
from capstan_operator.api.scaling import Scaling
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.scaling.decision import Now, Scaler
from capstan_operator.scaling.demand import Demand

ASKED_SECONDS: Final = 120.0
"""For so long after a question a model is followed."""
SPEC_SECONDS: Final = 10.0
"""How old what is known of its spec may be."""
MOST: Final = 8192


@dataclass
class _Followed:
    """A model that somebody asks about."""

    scaling: Scaling
    read_at: float
    asked_at: float
    scaler: Scaler = field(default_factory=Scaler)
    load: float | None = None
    """How many replicas are asked for; None: not known."""
    held: float = 0.0
    """The same, when it was known last: what only some gateway replicas say is never less."""


class Loads:
    """Follows models from the first question on: `step` after each round of questions to gateways."""

    def __init__(
        self,
        demand_of: Callable[[ObjectKey], Demand | None],
        *,
        find: Callable[[ObjectKey], Awaitable[Model | None]],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = lambda: asyncio.get_running_loop().time(),
    ) -> None:
        """`find` reads a model, and raises KubeError."""
        self._demand_of = demand_of
        self._find = find
        self._now = now
        self._clock = clock
        self._followed: OrderedDict[ObjectKey, _Followed] = OrderedDict()

    def __len__(self) -> int:
        """How many are followed."""
        return len(self._followed)

    async def of(self, key: ObjectKey) -> float | None:
        """Give how many replicas are asked for; None when that is not known (yet). Raises KubeError."""
        clock = self._clock()
        found = self._followed.get(key)
        if found is None or clock - found.read_at > SPEC_SECONDS:
            found = await self._read(key, found, clock)
        if found is None:
            return None
        found.asked_at = clock
        self._followed.move_to_end(key)
        if found.load is None:
            self._measure(key, found, clock)
        return found.load

    def step(self) -> None:
        """Measure anew, and forget those that nobody asks about any more."""
        clock = self._clock()
        self._followed = OrderedDict(
            (key, one) for key, one in self._followed.items() if clock - one.asked_at <= ASKED_SECONDS
        )
        for key, one in self._followed.items():
            self._measure(key, one, clock)

    async def _read(self, key: ObjectKey, known: _Followed | None, clock: float) -> _Followed | None:
        model = await self._find(key)
        scaling = model.spec.scaling if model and model.spec and model.spec.has_engine else None
        if scaling is None or scaling.is_external:
            self._followed.pop(key, None)
            return None
        found = known or _Followed(scaling, clock, clock)
        found.scaling, found.read_at = scaling, clock
        self._followed[key] = found
        while len(self._followed) > MOST:
            self._followed.popitem(last=False)
        return found

    def _measure(self, key: ObjectKey, one: _Followed, clock: float) -> None:
        demand = self._demand_of(key)
        ready = demand.ready if demand else 0
        # NB: of replicas that are not ready gateways know nothing: there are as many as were asked for.
        current = ready or ceil(one.held)
        load = one.scaler.decide(one.scaling, demand, Now(self._now(), clock, current, ready)).load
        if demand is None or load is None:
            one.load = None
            return
        # NB: an HPA does not know that this is what some replicas say: what the others have must not be missing in it.
        one.held = load if demand.complete else max(load, one.held, demand.ready)
        one.load = one.held
