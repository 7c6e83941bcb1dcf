"""Looks for batches that nobody works on, and works on them."""

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from random import Random
from typing import Final

from capstan_gateway.batches.means import Means
from capstan_gateway.batches.objects import FilesDown
from capstan_gateway.batches.order import PATIENCE_SECONDS, Place, leaves_for
from capstan_gateway.batches.state import Lease, Open
from capstan_gateway.batches.work import Work
from capstan_gateway.own_asks import by_turns
from capstan_gateway.stores.keys import new_token
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.telemetry.cells import Number

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often it is looked for batches."""
MOST_HELD: Final = 8
"""Batches that one gateway works on at once."""
MOST_ENDING: Final = 8
"""Beside them: those that are to be ended, and those that make room for others."""
MOST_TRIED: Final = 64
"""Batches that it tries to get at one look."""
PAUSE_SECONDS: Final = 5.0
"""How long a batch is left alone whose files could not be had."""
LEASED_SECONDS: Final = 3.0
"""How long one is that somebody else has."""
STILL_SECONDS: Final = 60.0
"""How long one is that has left its place because it stood still."""
SWEEP_SECONDS: Final = 600.0
RELEASE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    work: Work
    task: asyncio.Task[None]
    tenant: str
    ends: bool
    """Whether it was taken only to be ended."""


class Runner:
    """Those of one gateway."""

    def __init__(self, means: Means, *, rng: Random, running: Number) -> None:
        self._means = means
        self._rng = rng
        self._running = running
        self._works: dict[str, _Held] = {}
        """The oldest first."""
        self._after: dict[str, float] = {}
        """Batches that are left alone until then, in the loop's time."""

    async def run(self) -> None:
        """Work for ever."""
        try:
            while True:
                if self._means.asks.is_ready:
                    try:
                        await self._look()
                    except StoreDown:
                        pass  # The store has logged it.
                await asyncio.sleep(LOOK_SECONDS * self._rng.uniform(0.8, 1.2))
        finally:
            works = [held.task for held in self._works.values()]
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)

    async def sweep(self) -> None:
        """Delete what nobody may have any more, for ever."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS * self._rng.uniform(0.5, 1.5))
            try:
                await self._means.files.sweep()
            except (StoreDown, FilesDown) as error:
                log.warning("files that have expired could not be deleted", extra={"failure": type(error).__name__})

    async def _look(self) -> None:
        now, means = asyncio.get_running_loop().time(), self._means
        self._after = {name: until for name, until in self._after.items() if until > now}
        if len(self._works) >= MOST_HELD + MOST_ENDING:
            return
        passed = {*self._works, *self._after}
        found = [one for one in await means.batches.open() if one.name not in passed]
        wall = means.batches.wall()
        over = [one for one in found if one.until <= wall]
        others = ((one.names.tag, one) for one in found if one.until > wall)
        held = Counter(place.tenant for place in self._places())
        for tried, listed in enumerate(chain(over, by_turns(others, held))):
            if tried >= MOST_TRIED or len(self._works) >= MOST_HELD + MOST_ENDING:
                return
            # What is only to be ended needs no place: it asks nothing.
            leaves = None
            if listed.until > wall and len(self._places()) >= MOST_HELD:
                leaves = leaves_for(listed.names.tag, self._places())
                if leaves is None:
                    return
            if await self._try(listed):
                held[listed.names.tag] += 1
                if leaves is not None:
                    self._leave(leaves, held)

    async def _try(self, listed: Open) -> bool:
        """Try to get a batch; say whether it is being worked on now."""
        lease = Lease(listed.names, listed.batch_id, new_token())
        taken = await self._means.batches.acquire(lease)
        if taken > 0:
            self._begin(listed, lease, taken)
            return True
        if taken == -2:
            await self._means.batches.forget(listed)
        else:
            self._after[listed.name] = asyncio.get_running_loop().time() + LEASED_SECONDS
        return False

    def _places(self) -> list[Place]:
        return [
            Place(name, held.tenant, held.work.idle_seconds)
            for name, held in self._works.items()
            if not (held.ends or held.work.is_stopping)
        ]

    def _leave(self, place: Place, held: Counter[str]) -> None:
        held[place.tenant] -= 1
        self._works[place.name].work.stop()
        if place.idle_seconds >= PATIENCE_SECONDS:
            self._after[place.name] = asyncio.get_running_loop().time() + STILL_SECONDS

    def _begin(self, listed: Open, lease: Lease, taken: int) -> None:
        name = listed.name
        work = Work(lease, self._means, taken=taken)
        task = asyncio.create_task(self._work(name, work), name="batch")
        ends = listed.until <= self._means.batches.wall()
        self._works[name] = _Held(work=work, task=task, tenant=lease.names.tag, ends=ends)
        self._running.value = len(self._works)
        task.add_done_callback(lambda _: self._ended(name))

    def _ended(self, name: str) -> None:
        self._works.pop(name, None)
        self._running.value = len(self._works)

    async def _work(self, name: str, work: Work) -> None:
        lease = work.lease
        fields = {"batch": lease.batch_id}
        try:
            await work.run()
        except StoreDown:
            return  # The lease ends by itself, and the store has logged why.
        except FilesDown as error:
            log.warning("the files of a batch cannot be had", extra={**fields, "failure": str(error)})
            self._after[name] = asyncio.get_running_loop().time() + PAUSE_SECONDS
        except asyncio.CancelledError:
            await self._release(lease)
            raise
        except Exception:
            # It is not given back: so it is tried again when the lease ends, and not at once, here or elsewhere.
            log.exception("work on a batch failed", extra=fields)
            return
        await self._release(lease)

    async def _release(self, lease: Lease) -> None:
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._means.batches.release(lease)
        except (StoreDown, TimeoutError):
            return
