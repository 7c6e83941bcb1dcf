"""What was used while the store was away, and has to be told to it. Pure but for the ids; bounded by `MOST_DEBTS`.

Time pays a Rate's debt as it fills its bucket: what was used an hour ago is in no bucket any more, and whoever was
served all that time is not kept waiting for it afterwards. What was used of a Quota is owed in the period in which it
was used, by this gateway's clock: the next one begins full.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from capstan_gateway.limits.divided import is_held, part_of, refilled
from capstan_gateway.limits.port import Bucket, Charge, Quota

MOST_DEBTS: Final = 16_384
IN_ONE: Final = 64
"""Buckets of one operation."""


@dataclass(slots=True)
class _Debt:
    bucket: Bucket
    amount: int
    at: float
    ends_ms: int
    """When the period ends in which it was used, in Unix milliseconds; 0: it is of none."""


@dataclass(frozen=True, slots=True)
class Payment:
    """Debts of one group that are charged together, under one id."""

    id: str
    charges: tuple[Charge, ...]

    @property
    def group(self) -> str:
        """Whose buckets they are."""
        return self.charges[0].bucket.group


class Debts:
    """Sums by bucket."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._debts: dict[tuple[str, str], _Debt] = {}
        self.dropped = 0
        """Amounts of buckets for which there was no room."""

    def __len__(self) -> int:
        return len(self._debts)

    def add(self, charges: Sequence[Charge], used: Sequence[int], *, now: float, gateways: int) -> None:
        """Take what was used of these buckets; nothing of what is only held."""
        for charge, amount in zip(charges, used, strict=True):
            bucket = charge.bucket
            if amount <= 0 or is_held(bucket.rule):
                continue
            key = bucket.group, bucket.key
            debt = self._debts.get(key)
            if debt is not None:
                debt.amount = self._left(debt, now, gateways) + amount
                debt.bucket, debt.at, debt.ends_ms = bucket, now, self._end_of(bucket)
            elif len(self._debts) < MOST_DEBTS:
                self._debts[key] = _Debt(bucket, amount, now, self._end_of(bucket))
            else:
                self.dropped += 1

    def take(self, id: str, *, now: float, gateways: int) -> Payment | None:
        """Take some of one group out, to be charged as one; None when there are none."""
        for key, debt in tuple(self._debts.items()):
            if self._left(debt, now, gateways) <= 0:
                del self._debts[key]
        if not self._debts:
            return None
        group = next(iter(self._debts))[0]
        keys = tuple(islice((key for key in self._debts if key[0] == group), IN_ONE))
        debts = [self._debts.pop(key) for key in keys]
        return Payment(id, tuple(Charge(debt.bucket, self._left(debt, now, gateways)) for debt in debts))

    def _end_of(self, bucket: Bucket) -> int:
        rule, now_ms = bucket.rule, self._now_ms()
        return next((start for start in rule.starts_ms if start > now_ms), 0) if isinstance(rule, Quota) else 0

    def _left(self, debt: _Debt, now: float, gateways: int) -> int:
        if debt.ends_ms and self._now_ms() >= debt.ends_ms:
            return 0
        return max(debt.amount - refilled(part_of(debt.bucket.rule, gateways), max(now - debt.at, 0.0)), 0)
