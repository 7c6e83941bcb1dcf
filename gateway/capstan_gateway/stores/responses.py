"""Responses of `/v1/responses` that may be continued, or asked for again.

keep ──► waiting (bounded in number and bytes; what does not fit is dropped, and counted) ──► one script a response
load ──► what waits here, else the store                                                          │
              a tenant has so many, of so many bytes: the oldest go first ◄───────────────────────┘

What was kept here is found here at once, before it is written; on another replica some milliseconds later (`PATIENCE`).
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final

from capstan_gateway.life.outbox import Outbox
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.stores.keys import tenant_prefix
from capstan_gateway.stores.port import KeyStore
from capstan_gateway.stores.scripts import DELETE, PUT

MOST_WAITING: Final = 1024
"""Responses that may wait to be written."""
MOST_WAITING_BYTES: Final = 32 * 1024 * 1024
OWN_BYTES: Final = 512
"""What a response takes beside its texts: its keys, its place in the index."""
PATIENCE: Final = (0.05, 0.2)
"""Seconds after which a response that is not there is looked for again: another replica may just be writing it."""
_FIELDS: Final = ("response", "items")


@dataclass(frozen=True, slots=True)
class Stored:
    """One response, in JSON."""

    response: bytes
    """As it was given out."""
    items: bytes
    """The list of all items that it answers: those of earlier turns, too."""

    @property
    def size(self) -> int:
        """How many bytes it is counted as."""
        return len(self.response) + len(self.items) + OWN_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much is kept, and for how long."""

    seconds: int
    response_bytes: int
    responses: int
    """Of one tenant."""
    tenant_bytes: int


class _Write:
    """One response on its way."""

    __slots__ = ("deleted", "id", "stored", "tenant")

    def __init__(self, tenant: str, response_id: str, stored: Stored) -> None:
        self.tenant = tenant
        self.id = response_id
        self.stored = stored
        self.deleted = False


class ResponseStore:
    """Implements `lifecycle.Part`: what it holds is written by its job, and at the end."""

    name = "responses"

    def __init__(
        self,
        store: KeyStore,
        bounds: Bounds,
        *,
        budget: MemoryBudget,
        rng: Random,
        count: Callable[[str], None] = lambda _: None,
        on_dropped: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.bounds: Final = bounds
        self._store = store
        self._count = count
        self._on_dropped = on_dropped
        self._share = budget.share()
        self._waiting: dict[tuple[str, str], _Write] = {}
        self._outbox: Outbox[_Write] = Outbox(
            self.name, self._write, rng=rng, capacity=MOST_WAITING, batch=1, every_seconds=0.0,
            on_dropped=on_dropped, on_left=self._on_left,
        )  # fmt: skip

    def fits(self, size: int) -> bool:
        """Whether a response of so many bytes, with what it answers, would be kept; one that is not is counted."""
        if size > self.bounds.response_bytes:
            self._count("too_large")
            return False
        return True

    def keep(self, tenant: str, response_id: str, stored: Stored) -> bool:
        """Have it written, without a wait; False when that will not be: it is too large, or too many wait."""
        size = stored.size
        if not self.fits(size):
            return False
        if self._share.held + size > MOST_WAITING_BYTES or not self._share.grow(size):
            self._on_dropped(1)
            return False
        write = _Write(tenant, response_id, stored)
        if not self._outbox.put(write):
            self._share.shrink_to(self._share.held - size)
            return False
        self._waiting[tenant, response_id] = write
        return True

    async def load(self, tenant: str, response_id: str, *, patience: tuple[float, ...] = ()) -> Stored | None:
        """Give a response of this tenant; None when there is none, also after these waits. Raises StoreDown."""
        waiting = self._waiting.get((tenant, response_id))
        if waiting is not None:
            return None if waiting.deleted else waiting.stored
        key = tenant_prefix(tenant) + response_id
        for pause in (*patience, None):
            response, items = await self._store.read(key, _FIELDS)
            if response is not None and items is not None:
                return Stored(response, items)
            if pause is not None:
                await asyncio.sleep(pause)
        return None

    async def delete(self, tenant: str, response_id: str) -> bool:
        """Forget a response of this tenant; False when there is none. Raises StoreDown: then it may be there still."""
        waiting = self._waiting.get((tenant, response_id))
        if waiting is None:
            return await self._delete(tenant, response_id) > 0
        # Whoever writes it sees that, also when it is just being written.
        known, waiting.deleted = not waiting.deleted, True
        return known

    async def run(self) -> None:
        """Write what comes, for ever."""
        await self._outbox.run()

    def not_ready(self) -> str | None:
        """Keep no request away: most need nothing that is stored."""
        return None

    async def aclose(self) -> None:
        """Write what is left."""
        await self._outbox.aclose()

    async def _write(self, writes: list[_Write]) -> None:
        for write in writes:
            if not write.deleted:
                await self._put(write)
            if write.deleted:
                await self._delete(write.tenant, write.id)

    async def _put(self, write: _Write) -> None:
        prefix, stored, bounds = tenant_prefix(write.tenant), write.stored, self.bounds
        fits = await self._store.run_script(
            PUT,
            stored_keys(prefix, write.id),
            (
                write.id, stored.size, stored.response, stored.items,
                bounds.seconds * 1000, bounds.responses, bounds.tenant_bytes, prefix,
            ),
        )  # fmt: skip
        self._count("kept" if fits else "too_large")

    async def _delete(self, tenant: str, response_id: str) -> int:
        return await self._store.run_script(DELETE, stored_keys(tenant_prefix(tenant), response_id), (response_id,))

    def _on_left(self, writes: list[_Write]) -> None:
        """These are written, or nobody will write them."""
        for write in writes:
            self._share.shrink_to(self._share.held - write.stored.size)
            key = write.tenant, write.id
            if self._waiting.get(key) is write:
                del self._waiting[key]


def stored_keys(prefix: str, response_id: str) -> tuple[str, str, str]:
    """Give the keys that a script needs which changes one response of the tenant with this prefix."""
    return f"{prefix}{response_id}", f"{prefix}index", f"{prefix}sizes"
