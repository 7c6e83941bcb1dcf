"""Counts in memory while the store is away: each gateway by its part of the limits, see `divided`.

A bucket begins with this gateway's part of what the store had said of it last, as far as that is remembered: an outage
is no new beginning. What is used is remembered as `debts`, and told to the store when it is back.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from capstan_gateway.limits.debts import Debts
from capstan_gateway.limits.divided import charge_on_part, is_held, most_of, part_of, refilled
from capstan_gateway.limits.memory import MemoryLimitStore, at_once
from capstan_gateway.limits.port import Bucket, Charge, Rate, Verdict

MOST_REMEMBERED: Final = 4096
"""Buckets of which is remembered what the store said last."""
LEASE_MS: Final = 600_000
"""In memory nobody can die alone: a lease only bounds what was forgotten."""


class Away:
    """What is counted during one outage after the other."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._store = MemoryLimitStore(now_ms)
        self._seeded: set[tuple[str, str]] = set()
        self._told: OrderedDict[tuple[str, str], tuple[int, int, int]] = OrderedDict()
        self._ids = 0
        self.debts = Debts(now_ms)

    def remember(self, charges: Sequence[Charge], verdict: Verdict) -> None:
        """Take note of what the store said of these buckets."""
        now, told = self._now_ms(), self._told
        for charge, standing in zip(charges, verdict.standings, strict=False):
            key = charge.bucket.group, charge.bucket.key
            told[key] = standing.remaining, standing.reset_ms, now
            told.move_to_end(key)
        while len(told) > MOST_REMEMBERED:
            told.popitem(last=False)

    def reserve(self, id: str, charges: Sequence[Charge], *, gateways: int) -> Verdict:
        """Take all charges of this gateway's parts, or none."""
        parts = [charge_on_part(charge, gateways) for charge in charges]
        for charge in charges:
            self._seed(charge.bucket, gateways)
        verdict: Verdict = at_once(self._store.reserve(id, parts, lease_ms=LEASE_MS))
        return verdict

    def extend(
        self, id: str, charges: Sequence[Charge], totals: Sequence[int], used: Sequence[int], *, gateways: int
    ) -> Verdict:
        """Take more for a reservation that was made of these charges, so that it has so much in all; or nothing."""
        first = [charge_on_part(charge, gateways) for charge in charges]
        parts = [
            Charge(part.bucket, part.amount + total - charge.amount)
            for part, charge, total in zip(first, charges, totals, strict=True)
        ]
        verdict: Verdict = at_once(self._store.extend(id, parts, used=used))
        return verdict

    def hold(self, id: str, charges: Sequence[Charge], *, gateways: int) -> None:
        """Count what runs already and has taken things that are given back as a whole."""
        held = [charge_on_part(charge, gateways) for charge in charges if is_held(charge.bucket.rule)]
        if held:
            at_once(self._store.reserve(id, held, lease_ms=LEASE_MS, force=True))

    def carry(self, before: str, charge: Charge, *, gateways: int) -> str:
        """Count so much of what a share has of Slots, instead of what was counted by the id `before`; give the new id,
        which is empty where there is nothing to count."""
        if before:
            self.settle(before, [charge], [0])
        if charge.amount <= 0:
            return ""
        self._ids += 1
        id = f"share{self._ids}"
        self.hold(id, [charge], gateways=gateways)
        return id

    def settle(self, id: str, charges: Sequence[Charge], used: Sequence[int]) -> None:
        """End a reservation."""
        at_once(self._store.settle(charges[0].bucket.group, id, used))

    def over(self) -> None:
        """The store is back: what was counted here is told to it, and forgotten."""
        self._store = MemoryLimitStore(self._now_ms)
        self._seeded.clear()

    def _seed(self, bucket: Bucket, gateways: int) -> None:
        key = bucket.group, bucket.key
        if key in self._seeded or len(self._seeded) >= MOST_REMEMBERED:
            return
        self._seeded.add(key)
        told = self._told.get(key)
        if told is None or is_held(bucket.rule):
            return
        remaining, reset_ms, then = told
        passed = max(self._now_ms() - then, 0)
        if not isinstance(bucket.rule, Rate) and reset_ms and passed >= reset_ms:
            return
        remaining = min(remaining + refilled(bucket.rule, passed / 1000), most_of(bucket.rule))
        part = part_of(bucket.rule, gateways)
        missing = most_of(part) - max(remaining, 0) // max(gateways, 1)
        if missing > 0:
            self._ids += 1
            charge = Charge(Bucket(bucket.group, bucket.key, part), missing)
            at_once(self._store.reserve(f"told{self._ids}", [charge], force=True, keeps=True))
