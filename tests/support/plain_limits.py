"""A limiter of a test: exact, in memory, in a time that the test tells."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from capstan_gateway.limits.port import (
    LEASE_MS,
    Bucket,
    Charge,
    Outcome,
    Quota,
    Rate,
    Slots,
    Standing,
    StoreDown,
    Verdict,
)


@dataclass
class Counted:
    """What is had of one bucket."""

    used: int = 0
    at_ms: int = 0


@dataclass
class PlainStore:
    """A LimitStore as simple as it can be: rates come in by whole units, and leases never end."""

    now_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)
    counts: dict[str, Counted] = field(default_factory=dict)
    held: dict[str, list[Charge]] = field(default_factory=dict)
    down: bool = False
    settled: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    async def reserve(
        self, id: str, charges: Sequence[Charge], *, lease_ms: int = LEASE_MS, keeps: bool = False, force: bool = False
    ) -> Verdict:
        """Take all charges or none."""
        if self.down:
            raise StoreDown
        refused = [(self._outcome(charge), position) for position, charge in enumerate(charges)]
        worst = next(
            (one for kind in (Outcome.NEVER, Outcome.SPENT, Outcome.WAIT) for one in refused if one[0][0] is kind), None
        )
        if worst is not None:
            (outcome, wait_ms), position = worst
            return Verdict(outcome, self._standings(charges), position, wait_ms)
        for charge in charges:
            self._count(charge.bucket).used += charge.amount
        self.held[id] = list(charges)
        return Verdict(Outcome.ADMITTED, self._standings(charges))

    async def extend(self, id: str, charges: Sequence[Charge], *, used: Sequence[int]) -> Verdict:
        """Take what is missing to so much in all."""
        held = self.held[id]
        missing = [
            Charge(total.bucket, max(total.amount - before.amount, 0))
            for before, total in zip(held, charges, strict=True)
        ]
        verdict = await self.reserve(f"{id}+", missing)
        if verdict.admitted:
            more = self.held.pop(f"{id}+")
            self.held[id] = [Charge(a.bucket, a.amount + b.amount) for a, b in zip(held, more, strict=True)]
        return verdict

    async def settle(self, group: str, id: str, used: Sequence[int]) -> None:
        """Keep what was used."""
        self.settled.append((id, tuple(used)))
        for charge, amount in zip(self.held.pop(id), used, strict=True):
            kept = 0 if isinstance(charge.bucket.rule, Slots) else amount
            self._count(charge.bucket).used += kept - charge.amount

    async def renew(self, group: str, used: Sequence[tuple[str, Sequence[int]]], *, lease_ms: int = LEASE_MS) -> None:
        """Leases never end."""

    def used_of(self, bucket: Bucket) -> int:
        """Give what is had of a bucket now."""
        return self._count(bucket).used

    def _count(self, bucket: Bucket) -> Counted:
        found = self.counts.setdefault(f"{bucket.group}/{bucket.key}", Counted(at_ms=self.now_ms))
        rule = bucket.rule
        if isinstance(rule, Rate):
            back = (self.now_ms - found.at_ms) * rule.amount // rule.window_ms
            if back:
                found.used, found.at_ms = max(0, found.used - back), self.now_ms
        elif isinstance(rule, Quota):
            start = max(start for start in rule.starts_ms if start <= self.now_ms)
            if found.at_ms < start:
                found.used, found.at_ms = 0, start
        return found

    def _outcome(self, charge: Charge) -> tuple[Outcome, int]:
        rule, used = charge.bucket.rule, self._count(charge.bucket).used
        limit = rule.capacity if isinstance(rule, Rate) else rule.limit
        if charge.amount > limit:
            return Outcome.NEVER, 0
        missing = used + charge.amount - limit
        if missing <= 0 or not charge.amount:
            return Outcome.ADMITTED, 0
        if isinstance(rule, Quota):
            return Outcome.SPENT, next(start for start in rule.starts_ms if start > self.now_ms) - self.now_ms
        return Outcome.WAIT, -(-missing * rule.window_ms // rule.amount) if isinstance(rule, Rate) else 1000

    def _standings(self, charges: Sequence[Charge]) -> tuple[Standing, ...]:
        return tuple(self._standing(charge.bucket) for charge in charges)

    def _standing(self, bucket: Bucket) -> Standing:
        rule, used = bucket.rule, self._count(bucket).used
        if isinstance(rule, Rate):
            return Standing(rule.capacity - used, -(-max(0, used) * rule.window_ms // rule.amount))
        if isinstance(rule, Quota):
            return Standing(rule.limit - used, min(s for s in rule.starts_ms if s > self.now_ms) - self.now_ms)
        return Standing(rule.limit - used, 1000 if used else 0)
