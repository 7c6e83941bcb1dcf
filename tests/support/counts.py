"""The counts of limits as a gateway without Redis keeps them, shares and all, in a time that the test tells."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Final

from capstan_gateway.limits.limiter import StoreLimiter, id_maker
from capstan_gateway.limits.memory import MemoryLimitStore, at_once
from capstan_gateway.limits.port import LEASE_MS, Bucket, Charge, Limiter, Rate, StoreDown, Verdict

RNG: Final = Random(1)  # noqa: S311 - for pauses


class Counts:
    """Implements `port.LimitStore`, and has the limiter that counts by it. Its time stands still."""

    def __init__(self, *, remote: bool = False) -> None:
        """With `remote` it may be slow or away as Redis, so that the limiter tells it of ends in the background."""
        self.now_ms = time.time_ns() // 1_000_000
        self.down = False
        self.extends = True
        """Whether it answers those who ask for more."""
        self.go_on: asyncio.Event | None = None
        """What those who ask wait for."""
        self.buckets: dict[tuple[str, str, type], Bucket] = {}
        self._store = self._empty()
        self._looks = 0
        self.limiter = StoreLimiter(
            self, pulse=self._pulse, clock=lambda: self.now_ms / 1000, now_ms=lambda: self.now_ms,
            rng=RNG, new_id=id_maker(secrets.token_hex), ends_at_once=not remote,
        )  # fmt: skip

    def _empty(self) -> MemoryLimitStore:
        return MemoryLimitStore(lambda: self.now_ms)

    async def _pulse(self) -> int:
        if self.down:
            raise StoreDown
        return 1

    async def reserve(
        self, id: str, charges: Sequence[Charge], *, lease_ms: int = LEASE_MS, keeps: bool = False, force: bool = False
    ) -> Verdict:
        """See `port.LimitStore`."""
        if self.go_on is not None:
            await self.go_on.wait()
        if self.down:
            raise StoreDown
        self.buckets |= {(one.bucket.group, one.bucket.key, type(one.bucket.rule)): one.bucket for one in charges}
        return await self._store.reserve(id, charges, lease_ms=lease_ms, keeps=keeps, force=force)

    async def extend(self, id: str, charges: Sequence[Charge], *, used: Sequence[int]) -> Verdict:
        """See `port.LimitStore`."""
        if self.down or not self.extends:
            raise StoreDown
        return await self._store.extend(id, charges, used=used)

    async def settle(self, group: str, id: str, used: Sequence[int]) -> None:
        """See `port.LimitStore`."""
        if self.down:
            raise StoreDown
        await self._store.settle(group, id, used)

    async def renew(self, group: str, used: Sequence[tuple[str, Sequence[int]]], *, lease_ms: int = LEASE_MS) -> None:
        """See `port.LimitStore`."""
        if self.down:
            raise StoreDown
        await self._store.renew(group, used, lease_ms=lease_ms)

    @property
    def under_way(self) -> int:
        """How many reservations of requests have not ended, wherever they were decided."""
        book = self.limiter.book
        return self.limiter.open + sum(share.running for share in (*book, *book.retired))

    def used_of(self, bucket: Bucket) -> int:
        """Give what requests have of a bucket, or have used: what shares have left is nobody's."""
        self._looks += 1
        id, rule, book = f"look {self._looks}", bucket.rule, self.limiter.book
        verdict = at_once(self._store.reserve(id, [Charge(bucket, 0)]))
        at_once(self._store.settle(bucket.group, id, [0]))
        ahead = sum(
            share.left
            for share in (*book, *book.retired)
            if (share.bucket.group, share.bucket.key, type(share.rule)) == (bucket.group, bucket.key, type(rule))
        )
        limit = rule.capacity if isinstance(rule, Rate) else rule.limit
        return limit - verdict.standings[0].remaining - ahead

    def used(self) -> list[int]:
        """Give what all buckets hold, in ascending order; those of nothing left out."""
        return sorted(used for bucket in self.buckets.values() if (used := self.used_of(bucket)))

    def forget(self) -> None:
        """Begin anew, as if nobody had ever asked. Nothing may be under way."""
        assert not self.under_way
        book = self.limiter.book
        book.groups.clear()
        book.retired.clear()
        book.wanted.clear()
        book.count = 0
        self._store = self._empty()


@asynccontextmanager
async def kept(limiter: Limiter | None) -> AsyncIterator[None]:
    """Do what a limiter does in the background, as a gateway does that has made its own; then give back its shares."""
    if not isinstance(limiter, StoreLimiter):
        yield
        return
    work = asyncio.create_task(limiter.run())
    try:
        yield
    finally:
        await limiter.aclose()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
