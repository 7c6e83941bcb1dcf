"""Looks for background responses that nobody works on, and works on them."""

import asyncio
import logging
from collections import Counter
from random import Random
from typing import Final

from capstan_gateway.background.means import Means
from capstan_gateway.background.state import Lease, Listed
from capstan_gateway.background.work import Left, Work
from capstan_gateway.own_asks import by_turns
from capstan_gateway.stores.keys import new_token, tagged_name
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.telemetry.cells import Number

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
"""How often it is looked for responses, where there is a place for one."""
LEAST_SECONDS: Final = 0.05
"""How long at least between two looks."""
MOST_TRIED: Final = 256
"""Responses that it tries to get at one look."""
PAUSE_SECONDS: Final = 4.0
"""How long a response is left alone that somebody else has, where there are not so many that others would never be
tried."""
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
        self._others_wait = False
        """Whether there was no place for all that were found at the last look, or something has come since."""
        self._unheard_until = 0.0
        """Redis was away: until then nobody is taken for gone of whom it has not heard."""
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_free(self) -> bool:
        """Whether there is a place for one more response."""
        return self._means.asks.is_ready and len(self._works) + self._reserved < self._means.concurrency

    def reserve(self) -> bool:
        """Keep a place for one that is being taken, until `give_up` or `begin_reserved`; False: there is none, or
        others have waited longer."""
        free = self.is_free and not self._others_wait
        self._reserved += free
        return free

    def give_up(self) -> None:
        """Let go of a place that was kept."""
        self._reserved -= 1

    def look_soon(self) -> None:
        """Something waits that was taken without a place."""
        self._others_wait = True
        self._wake.set()

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
        work = self._works.get(tagged_name(tag, response_id))
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
                    except StoreDown:  # The store has logged it.
                        self._unheard_until = asyncio.get_running_loop().time() + self._means.responses.lease_seconds
                await asyncio.sleep(LEAST_SECONDS)
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
        passed = {*self._works, *self._after}
        self._others_wait = False
        found = [one for one in await self._means.responses.open() if one.name not in passed]
        pause = PAUSE_SECONDS + LOOK_SECONDS * len(found) / MOST_TRIED
        held = Counter(self._tags.values())
        for tried, one in enumerate(by_turns(((one.names.tag, one) for one in found), held)):
            if not self.is_free:
                self._others_wait = True
                return
            if tried >= MOST_TRIED:
                return
            if await self._try(one):
                held[one.names.tag] += 1
            else:
                self._after[one.name] = loop.time() + pause

    async def _try(self, one: Listed) -> bool:
        """Try to get a response; say whether it is being worked on now."""
        lease = Lease(one.names, one.response_id, new_token())
        heard = asyncio.get_running_loop().time() >= self._unheard_until
        taken = await self._means.responses.acquire(lease, lapsed=heard)
        if taken > 0:
            self.begin(lease, taken)
        elif taken < 0:
            await self._means.responses.forget(one)
        return taken > 0

    def _ended(self, name: str) -> None:
        self._works.pop(name, None)
        self._tags.pop(name, None)
        self._running.value = len(self._works)
        if self._others_wait:
            self._wake.set()
        if not self._works:
            self._idle.set()

    async def _work(self, name: str, lease: Lease, taken: int) -> None:
        try:
            left = await Work(lease, self._means, taken=taken).run()
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
        if left is not None:
            self._after[name] = asyncio.get_running_loop().time() + left.seconds
            await self._release(lease, left)

    async def _release(self, lease: Lease, left: Left | None = None) -> None:
        responses = self._means.responses
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                if left is None:
                    await responses.release(lease)
                else:
                    await responses.release(lease, seconds=left.seconds, waits=left.waits, unsent=True)
        except (StoreDown, TimeoutError):
            return
