"""How many replicas are asked for, of the models that somebody asks about: in every replica of the operator.

Of a model that KEDA scales it is also said whether it is to have any, by the rules of scaling/decision.py for models
that wake and go to zero.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil
from typing import Final

from capstan_operator.api.kinds import Model
from capstan_operator.api.scaling import Scaling
from capstan_operator.kube.errors import KubeError
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.scaling.decision import Now, Scaler
from capstan_operator.scaling.demand import Demand
from capstan_operator.status.scaling import moment_in

ASKED_SECONDS: Final = 120.0
"""For so long after a question a model is followed."""
SPEC_SECONDS: Final = 10.0
"""How old what is known of its spec may be, while few are followed."""
MOST_READS: Final = 50.0
"""Specs that are read in a second: with more than 500 models that somebody asks about each is read less often."""
MOST: Final = 8192


@dataclass
class _Followed:
    """A model that somebody asks about."""

    scaling: Scaling
    read_at: float
    asked_at: float
    scaler: Scaler
    is_active: bool
    """Whether it is to have any replica; at first, whether it has."""
    turned: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and another one in its place, when `is_active` changes."""
    is_known: bool = False
    """Whether it was ever known what is asked of it."""
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
        found = await self._follow(key)
        return None if found is None else found.load

    async def is_active(self, key: ObjectKey) -> bool | None:
        """Give whether a model is to have any replica; None when nobody scales it. Raises KubeError.

        It is never less for want of knowledge: what was so stays so while no gateway, or the API server, answers.
        """
        try:
            found = await self._follow(key)
        except KubeError:
            found = self._followed.get(key)
            if found is None:
                raise
        return None if found is None else found.is_active

    async def watch(self, key: ObjectKey) -> AsyncIterator[bool]:
        """Give `is_active` now and whenever it changes, until nobody scales the model. Raises KubeError."""
        told: bool | None = None
        while (active := await self.is_active(key)) is not None:
            found = self._followed.get(key)
            turned = found.turned if found else asyncio.Event()
            if active is not told:
                told = active
                yield active
            with suppress(TimeoutError):  # then its spec is read anew
                async with asyncio.timeout(SPEC_SECONDS):
                    await turned.wait()

    async def _follow(self, key: ObjectKey) -> _Followed | None:
        clock = self._clock()
        found = self._followed.get(key)
        if found is not None:
            found.asked_at = clock  # also where its spec cannot be read now
            self._followed.move_to_end(key)
        if found is None or clock - found.read_at > max(SPEC_SECONDS, len(self._followed) / MOST_READS):
            found = await self._read(key, found, clock)
        if found is None:
            return None
        if found.load is None:
            self._measure(key, found, clock)
        return found

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
        if model is None or scaling is None or scaling.is_external:
            self._followed.pop(key, None)
            return None
        found = known or self._followed.get(key)
        if found is None:
            scaler = Scaler(moment_in(model.status, "idleSince"))
            found = _Followed(scaling, clock, clock, scaler, bool(model.status.get("replicas")))
        found.scaling, found.read_at = scaling, clock
        self._followed[key] = found
        while len(self._followed) > MOST:
            self._followed.popitem(last=False)
        return found

    def _measure(self, key: ObjectKey, one: _Followed, clock: float) -> None:
        demand = self._demand_of(key)
        if demand is None and not one.is_known:
            return  # NB: it would be a break in what a process before has told of it
        one.is_known = True
        ready = demand.ready if demand else 0
        # NB: of replicas that are not ready gateways know nothing: there are as many as were asked for.
        current = ready or (max(ceil(one.held), 1) if one.is_active else 0)
        found = one.scaler.decide(one.scaling, demand, Now(self._now(), clock, current, ready))
        self._turn(one, found.desired > 0)
        if demand is None or found.load is None:
            one.load = None
            return
        # NB: an HPA does not know that this is what some replicas say: what the others have must not be missing in it.
        one.held = found.load if demand.complete else max(found.load, one.held, demand.ready)
        one.load = one.held

    @staticmethod
    def _turn(one: _Followed, is_active: bool) -> None:
        if is_active is not one.is_active:
            one.is_active = is_active
            one.turned.set()
            one.turned = asyncio.Event()
