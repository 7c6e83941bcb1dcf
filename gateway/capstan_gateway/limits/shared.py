"""A LimitStore in Redis, which all gateways share: asks `script.py` by whoever runs scripts."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from capstan_gateway.limits.encode import Call, extend_call, renew_call, reserve_call, settle_call, verdict_of
from capstan_gateway.limits.port import LEASE_MS, Charge, Verdict

RENEWED_AT_ONCE: Final = 64
"""Reservations of one run, so that nobody else waits for long."""


class SharedLimitStore:
    """Implements `port.LimitStore`. It raises StoreDown where `run` does, which has a deadline."""

    def __init__(self, run: Callable[[Call], Awaitable[Sequence[int]]]) -> None:
        """`run` runs a script and gives the whole numbers that it answers with."""
        self._run = run

    async def reserve(
        self, id: str, charges: Sequence[Charge], *, lease_ms: int = LEASE_MS, keeps: bool = False, force: bool = False
    ) -> Verdict:
        """See `port.LimitStore`."""
        return await self._verdict(reserve_call(id, charges, lease_ms=lease_ms, keeps=keeps, force=force))

    async def extend(self, id: str, charges: Sequence[Charge], *, used: Sequence[int]) -> Verdict:
        """See `port.LimitStore`."""
        return await self._verdict(extend_call(id, charges, used))

    async def settle(self, group: str, id: str, used: Sequence[int]) -> None:
        """See `port.LimitStore`."""
        await self._run(settle_call(group, id, used))

    async def renew(self, group: str, used: Sequence[tuple[str, Sequence[int]]], *, lease_ms: int = LEASE_MS) -> None:
        """See `port.LimitStore`."""
        for first in range(0, len(used), RENEWED_AT_ONCE):
            await self._run(renew_call(group, used[first : first + RENEWED_AT_ONCE], lease_ms))

    async def _verdict(self, call: Call) -> Verdict:
        return verdict_of(await self._run(call))
