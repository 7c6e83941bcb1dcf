"""Ids of answers as replicas tell each other: written behind the answer, many at once; read when one is reported.

    capstan:answered:1:<digest of the tenant and the id>    the key of the answer, with its time

No prompt, no answer, no id and no tenant is in it. What cannot be written is known to its own replica alone.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from capstan_gateway.caches.answered import KEPT_MS, Name, Told, read_told
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.scripted import Links
from capstan_gateway.stores.wire import pack

PREFIX: Final = "capstan:answered:1:"
WAIT_SECONDS: Final = 0.1
"""How long ids wait for others, to be written with them."""
MOST_WAITING: Final = 1000


class RedisIds:
    """Implements `answered.SharedIds`; `lifecycle.Part`."""

    name = "answered"

    def __init__(self, links: Links, *, on_dropped: Callable[[int], None] = lambda _: None) -> None:
        self._links: Final = links
        self._on_dropped: Final = on_dropped
        self._waiting: dict[Name, Told] = {}
        self._some = asyncio.Event()

    def write(self, name: Name, told: Told) -> None:
        """Have it be written soon."""
        if name not in self._waiting and len(self._waiting) >= MOST_WAITING:
            self._on_dropped(1)
            return
        self._waiting[name] = told
        self._some.set()

    async def read(self, name: Name) -> Told | None:
        """Ask Redis; what waits here is known as well. Raises StoreDown."""
        if (waiting := self._waiting.get(name)) is not None:
            return waiting
        key = PREFIX + name.digest
        found = await self._links.call(key, pack(("GET", key)))
        return read_told(found) if isinstance(found, bytes) else None

    async def run(self) -> None:
        """Write what waits; for ever."""
        while True:
            await self._some.wait()
            await asyncio.sleep(WAIT_SECONDS)
            self._some.clear()
            await self._flush()

    def not_ready(self) -> str | None:
        """Keep no request away."""
        return None

    async def aclose(self) -> None:
        """Write what waits still."""
        await self._flush()

    async def _flush(self) -> None:
        waiting, self._waiting = self._waiting, {}
        written = await asyncio.gather(*(self._set(name, told) for name, told in waiting.items()))
        if lost := written.count(False):
            self._on_dropped(lost)

    async def _set(self, name: Name, told: Told) -> bool:
        key = PREFIX + name.digest
        try:
            await self._links.call(key, pack(("SET", key, told.write(), "PX", KEPT_MS)))
        except StoreDown:
            return False
        return True
