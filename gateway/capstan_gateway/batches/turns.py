"""Whose turn it is: the requests of all batches of one gateway share so many places."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

LOOK_SECONDS: Final = 0.2
"""How often it is looked whether a model has room."""


class Owner(NamedTuple):
    """Whose a place is."""

    tenant: str
    batch: str


class Turns:
    """Places for requests. A place that is given back goes to the tenant that has the fewest, of its batches to the one
    that has the fewest: one whose requests take long does not gather them all."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._running: Counter[str] = Counter()
        """By model."""
        self._held: Counter[str | Owner] = Counter()
        """By tenant, and by batch."""
        self._waiting: dict[asyncio.Future[None], Owner] = {}
        """The one that has waited longest first."""

    @asynccontextmanager
    async def turn(
        self, owner: Owner, model: str, has_room: Callable[[int], bool], queue: asyncio.Lock
    ) -> AsyncIterator[None]:
        """Have a place while the block lasts, as soon as the model has room; `has_room` is told how many requests of
        batches it has. Those of one batch wait behind each other in its `queue`, so that one of them looks."""
        async with queue:
            while True:
                await self._take(owner)
                if has_room(self._running[model]):
                    break
                self._give_back(owner)
                await asyncio.sleep(LOOK_SECONDS)
            self._running[model] += 1
        try:
            yield
        finally:
            self._running[model] -= 1
            if not self._running[model]:
                del self._running[model]
            self._give_back(owner)

    async def _take(self, owner: Owner) -> None:
        if self._free and not self._waiting:
            self._free -= 1
            self._count(owner, 1)
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[place] = owner
        self._hand_out()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._give_back(owner)
            raise
        finally:
            self._waiting.pop(place, None)

    def _give_back(self, owner: Owner) -> None:
        self._free += 1
        self._count(owner, -1)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free and self._waiting:
            place = min(self._waiting, key=self._claim)
            owner = self._waiting.pop(place)
            if not place.done():  # One that is cancelled, and has not heard so yet.
                self._free -= 1
                self._count(owner, 1)
                place.set_result(None)

    def _claim(self, place: "asyncio.Future[None]") -> tuple[int, int]:
        owner = self._waiting[place]
        return self._held[owner.tenant], self._held[owner]

    def _count(self, owner: Owner, change: int) -> None:
        for one in (owner.tenant, owner):
            self._held[one] += change
            if not self._held[one]:
                del self._held[one]
