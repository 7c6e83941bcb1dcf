"""A Limiter without shares, that decides at once by the counts of a test."""

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Final, NoReturn

from capstan_gateway.limits.memory import at_once
from capstan_gateway.limits.port import Charge, LimitStore, Reservation, Verdict

LEASE_MS: Final = 600_000
RENEW_SECONDS: Final = 60.0
"""Leases of requests that take long begin anew. They are long, since nobody outlives these counts."""


class LocalLimiter:
    """`port.Limiter`. The store is one that never waits, and never fails: `memory.MemoryLimitStore`."""

    def __init__(self, store: LimitStore) -> None:
        self._store = store
        self._ids = count()
        self._held: dict[str, _Held] = {}

    async def run(self) -> NoReturn:
        """Keep the leases of what is under way."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self.renew()

    async def renew(self) -> None:
        """Begin all leases anew."""
        for id, held in list(self._held.items()):
            await self._store.renew(held.group, [(id, held.used)], lease_ms=LEASE_MS)

    async def reserve(self, charges: Sequence[Charge], *, local: bool) -> Reservation | Verdict:
        """See `port.Limiter`."""
        id = str(next(self._ids))
        return self._hold(id, charges, await self._store.reserve(id, charges, lease_ms=LEASE_MS))

    def take(self, charges: Sequence[Charge], *, local: bool = True) -> Reservation | None:
        """See `port.Limiter`; None where there is not enough, which `reserve` tells the particulars of."""
        id = str(next(self._ids))
        held = self._hold(id, charges, at_once(self._store.reserve(id, charges, lease_ms=LEASE_MS)))
        return held if isinstance(held, _Held) else None

    def _hold(self, id: str, charges: Sequence[Charge], verdict: Verdict) -> "_Held | Verdict":
        if not verdict.admitted:
            return verdict
        held = self._held[id] = _Held(self, id, charges, verdict)
        return held

    async def extend(self, held: "_Held", amounts: Sequence[int], used: Sequence[int]) -> Verdict:
        """Take more for a reservation."""
        totals = [before + more for before, more in zip(held.amounts, amounts, strict=True)]
        in_all = [Charge(charge.bucket, total) for charge, total in zip(held.charges, totals, strict=True)]
        verdict = await self._store.extend(held.id, in_all, used=used)
        held.used = list(used)
        if verdict.admitted:
            held.amounts = totals
        return verdict

    def settle(self, held: "_Held", used: Sequence[int]) -> None:
        """End a reservation, once."""
        if self._held.pop(held.id, None) is not None:
            at_once(self._store.settle(held.group, held.id, used))


class _Held:
    """What one request has taken."""

    __slots__ = ("_limiter", "amounts", "charges", "id", "used", "verdict")

    def __init__(self, limiter: LocalLimiter, id: str, charges: Sequence[Charge], verdict: Verdict) -> None:
        self._limiter = limiter
        self.id = id
        self.charges = charges
        self.amounts = [charge.amount for charge in charges]
        """What it holds in all."""
        self.used: Sequence[int] = [0] * len(charges)
        """What was used so far, as was said last."""
        self.verdict = verdict

    @property
    def group(self) -> str:
        """The policy that it is of."""
        return self.charges[0].bucket.group

    async def extend(self, amounts: Sequence[int], *, used: Sequence[int]) -> Verdict:
        """See `port.Reservation`."""
        verdict = await self._limiter.extend(self, amounts, used)
        if verdict.admitted:
            self.verdict = verdict
        return verdict

    def settle(self, used: Sequence[int]) -> None:
        """See `port.Reservation`."""
        self._limiter.settle(self, used)
