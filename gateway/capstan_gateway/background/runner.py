"""Looks for background responses that nobody works on, and works on them."""

import asyncio
import logging
from collections import Counter
from random import Random
from typing import Final

from capstan_gateway.background.means import Means
from capstan_gateway.background.names import new_token, open_name
from capstan_gateway.background.state import Lease
from capstan_gateway.background.work import Work
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.telemetry.cells import Number

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often it is looked for responses, where there is a place for one."""
MOST_TRIED: Final = 64
"""Responses that it tries to get at one look."""
PAUSE_SECONDS: Final = 4.0
"""How long a response is left alone that somebody else has."""
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
        """Responses that are left alone until then, in the loop's time."""
        self._reserved = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_free(self) -> bool:
        """Whether there is a place for one more response."""
        return self._means.asks.is_ready and len(self._works) + self._reserved < self._means.concurrency

    def reserve(self) -> bool:
        """Keep a place for one that is being taken, until `give_up` or `begin_reserved`; False: there is none."""
        free = self.is_free
        self._reserved += free
        return free

    def give_up(self) -> None:
        """Let go of a place that was kept."""
        self._reserved -= 1

    def begin_reserved(self, lease: Lease) -> None:
        """Work on a response for which a place was kept."""
        self._reserved -= 1
        self.begin(lease)

    def begin(self, lease: Lease, taken: int = 1) -> None:
        """Work on a response of which there is a lease."""
        name = lease.open_name
        self._tags[name] = lease.names.tag
        self._works[name] = task = asyncio.create_task(self._work(name, lease, taken), name="background-response")
        self._running.value = len(self._works)
        self._idle.clear()
        task.add_done_callback(lambda _: self._ended(name))

    def cut(self, tag: str, response_id: str) -> None:
        """Stop what is asked for a response that is over."""
        work = self._works.get(open_name(tag, response_id))
        if work is not None:
            work.cancel()

    async def run(self) -> None:
        """Work for ever."""
        try:
            while True:
                self._wake.clear()
                if self.is_free:
                    try:
                        await self._look()
                    except StoreDown:
                        pass  # The store has logged it.
                try:
                    async with asyncio.timeout(LOOK_SECONDS * self._rng.uniform(0.8, 1.2)):
                        await self._wake.wait()
                except TimeoutError:
                    continue
        finally:
            works = list(self._works.values())
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)

    async def finish(self) -> None:
        """Return when nothing is worked on."""
        await self._idle.wait()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._after = {name: until for name, until in self._after.items() if until > loop.time()}
        found = [
            (names, response_id)
            for names, response_id in await self._means.responses.open()
            if (name := open_name(names.tag, response_id)) not in self._works and name not in self._after
        ]
        for _ in range(MOST_TRIED):
            if not found or not self.is_free:
                return
            # Tenants of whom least is being worked on come first, and of each of them the oldest.
            held = Counter(self._tags.values())
            names, response_id = found.pop(min(range(len(found)), key=lambda at: held[found[at][0].tag]))
            lease = Lease(names, response_id, new_token())
            taken = await self._means.responses.acquire(lease)
            if taken > 0:
                self.begin(lease, taken)
            elif taken == 0:
                self._after[lease.open_name] = loop.time() + PAUSE_SECONDS

    def _ended(self, name: str) -> None:
        self._works.pop(name, None)
        self._tags.pop(name, None)
        self._running.value = len(self._works)
        self._wake.set()
        if not self._works:
            self._idle.set()

    async def _work(self, name: str, lease: Lease, taken: int) -> None:
        over = False
        try:
            over = await Work(lease, self._means, taken=taken).run()
        except StoreDown:
            return  # The lease ends by itself, and the store has logged why.
        except asyncio.CancelledError:
            await self._release(lease)
            raise
        except Exception:
            # It is not given back: so it is tried again when the lease ends, and not at once, here or elsewhere.
            log.exception("work on a background response failed", extra={"response": lease.response_id})
            self._after[name] = asyncio.get_running_loop().time() + PAUSE_SECONDS
            return
        if not over:
            await self._release(lease)

    async def _release(self, lease: Lease) -> None:
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._means.responses.release(lease)
        except (StoreDown, TimeoutError):
            return
