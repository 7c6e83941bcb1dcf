"""What was used while the store was away, and has to be told to it. Pure but for the ids; bounded by `MOST_DEBTS`.

Time pays a Rate's debt as it fills its bucket: what was used an hour ago is in no bucket any more, and whoever was
served all that time is not kept waiting for it afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from capstan_gateway.limits.divided import is_held, part_of, refilled
from capstan_gateway.limits.port import Bucket, Charge

MOST_DEBTS: Final = 16_384
IN_ONE: Final = 64
"""Buckets of one operation."""


@dataclass(slots=True)
class _Debt:
    bucket: Bucket
    amount: int
    at: float


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

    def __init__(self) -> None:
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
                debt.amount = _left(debt, now, gateways) + amount
                debt.bucket, debt.at = bucket, now
            elif len(self._debts) < MOST_DEBTS:
                self._debts[key] = _Debt(bucket, amount, now)
            else:
                self.dropped += 1

    def take(self, id: str, *, now: float, gateways: int) -> Payment | None:
        """Take some of one group out, to be charged as one; None when there are none."""
        for key, debt in tuple(self._debts.items()):
            if _left(debt, now, gateways) <= 0:
                del self._debts[key]
        if not self._debts:
            return None
        group = next(iter(self._debts))[0]
        keys = tuple(islice((key for key in self._debts if key[0] == group), IN_ONE))
        debts = [self._debts.pop(key) for key in keys]
        return Payment(id, tuple(Charge(debt.bucket, _left(debt, now, gateways)) for debt in debts))


def _left(debt: _Debt, now: float, gateways: int) -> int:
    return max(debt.amount - refilled(part_of(debt.bucket.rule, gateways), max(now - debt.at, 0.0)), 0)
