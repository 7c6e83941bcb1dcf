"""What every store derives of the charges that it is given, and checks of them before it begins. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from capstan_gateway.limits.counts import MOST_AMOUNT
from capstan_gateway.limits.pace import pace_of
from capstan_gateway.limits.port import Bucket, Charge, Quota, Rate
from capstan_gateway.limits.reservations import MOST_LEASE_MS, Kind


@dataclass(frozen=True, slots=True)
class Terms:
    """What makes a count of what is stored: of a bucket's rule, or of what a reservation knows of it."""

    kind: Kind
    numbers: tuple[int, ...]
    """Of a Rate its pace, of a Quota the beginnings of periods, of Slots nothing."""
    limit: int = 0
    """Of a Quota or Slots."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A charge, ready to be counted."""

    name: str
    """Of the bucket in its group: another kind under the same key is another bucket."""
    terms: Terms
    amount: int


def wishes_of(charges: Sequence[Charge]) -> tuple[str, list[Wish]]:
    """Give the group of all charges, and what each of them wishes.

    Raises ValueError where they are of no group or several, a bucket comes twice, or a number is out of its bounds.
    """
    groups = {charge.bucket.group for charge in charges}
    if len(groups) != 1:
        raise ValueError(f"the charges of one operation must be of one group, and not of {len(groups)}")
    wishes = [_wish(charge.bucket, amount_of(charge.amount)) for charge in charges]
    if len({wish.name for wish in wishes}) < len(wishes):
        raise ValueError("each bucket may come only once among the charges of one operation")
    return groups.pop(), wishes


def _wish(bucket: Bucket, amount: int) -> Wish:
    terms = terms_of(bucket)
    return Wish(f"{terms.kind.value}:{bucket.key}", terms, amount)


def terms_of(bucket: Bucket) -> Terms:
    """Give what a bucket's rule comes to. Raises ValueError where a number is out of its bounds."""
    rule = bucket.rule
    if isinstance(rule, Rate):
        pace = pace_of(rule)
        return Terms(Kind.RATE, (pace.gain, pace.unit, pace.tick_ms, pace.full))
    if not 0 <= rule.limit <= MOST_AMOUNT:
        raise ValueError(f"a limit must be at least 0 and at most {MOST_AMOUNT}: {rule.limit}")
    if not isinstance(rule, Quota):
        return Terms(Kind.SLOTS, (), rule.limit)
    starts = rule.starts_ms
    if len(starts) < 2 or any(later <= start for start, later in pairwise(starts)):
        raise ValueError(f"a Quota must have at least two beginnings of periods, ascending: {starts}")
    return Terms(Kind.QUOTA, starts, rule.limit)


def amount_of(amount: int) -> int:
    """Give an amount as it is counted. Raises ValueError below 0; more than any rule has is `MOST_AMOUNT`."""
    if amount < 0:
        raise ValueError(f"an amount must be at least 0: {amount}")
    return min(amount, MOST_AMOUNT)


def amounts_of(amounts: Sequence[int]) -> tuple[int, ...]:
    """Give amounts as they are counted."""
    return tuple(amount_of(amount) for amount in amounts)


def checked_lease(lease_ms: int) -> int:
    """Give it. Raises ValueError outside of what is allowed."""
    if not 0 < lease_ms <= MOST_LEASE_MS:
        raise ValueError(f"a lease must be above 0 and at most {MOST_LEASE_MS} ms: {lease_ms}")
    return lease_ms
