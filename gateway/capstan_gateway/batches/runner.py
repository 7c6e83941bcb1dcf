"""Looks for batches that nobody works on, and works on them."""

import asyncio
import logging
from collections import Counter
from random import Random
from typing import Final

from capstan_gateway.batches.means import Means
from capstan_gateway.batches.names import new_token, open_name
from capstan_gateway.batches.objects import FilesDown
from capstan_gateway.batches.state import Lease
from capstan_gateway.batches.work import Work
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.telemetry.cells import Number

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often it is looked for batches."""
MOST_HELD: Final = 8
"""Batches that one gateway works on at once."""
MOST_TRIED: Final = 64
"""Batches that it tries to get at one look."""
PAUSE_SECONDS: Final = 5.0
"""How long a batch is left alone whose files could not be had."""
SWEEP_SECONDS: Final = 600.0
RELEASE_SECONDS: Final = 1.0


class Runner:
    """Those of one gateway."""

    def __init__(self, means: Means, *, rng: Random, running: Number) -> None:
        self._means = means
        self._rng = rng
        self._running = running
        self._works: dict[str, asyncio.Task[None]] = {}
        self._tags: dict[str, str] = {}
        self._after: dict[str, float] = {}
        """Batches that are left alone until then, in the loop's time."""

    async def run(self) -> None:
        """Work for ever."""
        try:
            while True:
                if self._means.asks.is_ready and len(self._works) < MOST_HELD:
                    try:
                        await self._look()
                    except StoreDown:
                        pass  # The store has logged it.
                await asyncio.sleep(LOOK_SECONDS * self._rng.uniform(0.8, 1.2))
        finally:
            works = list(self._works.values())
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
        now = asyncio.get_running_loop().time()
        self._after = {name: until for name, until in self._after.items() if until > now}
        found = [
            (names, batch_id)
            for names, batch_id in await self._means.batches.open()
            if (name := open_name(names.tag, batch_id)) not in self._works and name not in self._after
        ]
        # Tenants of whom least is being worked on come first, and of each of them the oldest.
        held = Counter(self._tags.values())
        for names, batch_id in sorted(found, key=lambda one: held[one[0].tag])[:MOST_TRIED]:
            if len(self._works) >= MOST_HELD:
                return
            lease = Lease(names, batch_id, new_token())
            taken = await self._means.batches.acquire(lease)
            if taken > 0:
                self._begin(lease, taken)

    def _begin(self, lease: Lease, taken: int) -> None:
        name = open_name(lease.names.tag, lease.batch_id)
        self._tags[name] = lease.names.tag
        self._works[name] = task = asyncio.create_task(self._work(name, lease, taken), name="batch")
        self._running.value = len(self._works)
        task.add_done_callback(lambda _: self._ended(name))

    def _ended(self, name: str) -> None:
        self._works.pop(name, None)
        self._tags.pop(name, None)
        self._running.value = len(self._works)

    async def _work(self, name: str, lease: Lease, taken: int) -> None:
        fields = {"batch": lease.batch_id}
        try:
            await Work(lease, self._means, taken=taken).run()
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
