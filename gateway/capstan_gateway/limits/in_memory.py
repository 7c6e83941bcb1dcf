"""Implements `port.Limiter` where there is no Redis: the store in memory decides, and nothing waits."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from capstan_gateway.limits.away import at_once
from capstan_gateway.limits.memory import MemoryLimitStore
from capstan_gateway.limits.port import Charge, Reservation, Verdict

LEASE_MS: Final = 600_000
RENEW_SECONDS: Final = 120.0


class MemoryLimiter:
    """Implements `port.Limiter` and `lifecycle.Part`."""

    name = "limits"

    def __init__(self, now_ms: Callable[[], int]) -> None:
        """`now_ms` is Unix time in milliseconds."""
        self._store = MemoryLimitStore(now_ms)
        self._ids = 0
        self.running: dict[str, Taken] = {}

    def take(self, charges: Sequence[Charge], *, local: bool = True) -> "Taken | None":  # noqa: ARG002 - of the port
        """See `port.Limiter`."""
        found = self._reserve(charges)
        return None if isinstance(found, Verdict) else found

    async def reserve(self, charges: Sequence[Charge], *, local: bool) -> Reservation | Verdict:  # noqa: ARG002
        """See `port.Limiter`."""
        return self._reserve(charges)

    def extend(self, taken: "Taken", amounts: Sequence[int], used: Sequence[int]) -> Verdict:
        """Take more for a reservation; all or nothing."""
        totals = [before + more for before, more in zip(taken.amounts, amounts, strict=True)]
        charges = [Charge(charge.bucket, total) for charge, total in zip(taken.charges, totals, strict=True)]
        verdict: Verdict = at_once(self._store.extend(taken.id, charges, used=used))
        if verdict.admitted:
            taken.amounts = totals
        return verdict

    def end(self, taken: "Taken", used: Sequence[int]) -> None:
        """Settle a reservation."""
        del self.running[taken.id]
        at_once(self._store.settle(taken.group, taken.id, used))

    async def run(self) -> None:
        """Begin the leases of what runs anew now and then."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            for taken in tuple(self.running.values()):
                at_once(self._store.renew(taken.group, [(taken.id, taken.used)], lease_ms=LEASE_MS))

    def not_ready(self) -> str | None:
        """Keep no request away."""
        return None

    async def aclose(self) -> None:
        """Nothing is kept."""

    def _reserve(self, charges: Sequence[Charge]) -> "Taken | Verdict":
        self._ids += 1
        id = str(self._ids)
        verdict: Verdict = at_once(self._store.reserve(id, charges, lease_ms=LEASE_MS))
        if not verdict.admitted:
            return verdict
        taken = self.running[id] = Taken(self, id, charges, verdict)
        return taken


class Taken:
    """Implements `port.Reservation`."""

    __slots__ = ("_done", "_limiter", "amounts", "charges", "id", "used", "verdict")

    def __init__(self, limiter: MemoryLimiter, id: str, charges: Sequence[Charge], verdict: Verdict) -> None:
        self._limiter = limiter
        self.id = id
        self.charges = charges
        self.amounts = [charge.amount for charge in charges]
        self.verdict = verdict
        self.used: Sequence[int] = [0] * len(charges)
        self._done = False

    @property
    def group(self) -> str:
        """The group of its buckets."""
        return self.charges[0].bucket.group

    async def extend(self, amounts: Sequence[int], *, used: Sequence[int]) -> Verdict:
        """See `port.Reservation`."""
        self.used = list(used)
        self.verdict = self._limiter.extend(self, amounts, used)
        return self.verdict

    def settle(self, used: Sequence[int]) -> None:
        """See `port.Reservation`."""
        if not self._done:
            self._done = True
            self._limiter.end(self, used)
