"""Shares of buckets that this gateway has taken ahead of need, so that requests are decided in memory.

A share is a reservation of one bucket at the store. What it has left is taken and given back here; the store hears of
it when the share is enlarged, renewed or given back. Nothing here waits: `tending` speaks to the store.

    take ──► every bucket of the request has a share that is rich enough, of the same rule, and not over
             └─ else nothing is taken, and the store is asked for all of them
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from capstan_gateway.limits.divided import is_held
from capstan_gateway.limits.port import Bucket, Charge, Rule

MOST_SHARES: Final = 4096
PART: Final = 8
"""All gateways' shares of a bucket are one part of so many of what it has left."""
LEAST_REQUESTS: Final = 8
"""A share that would be good for fewer requests is not worth its own."""
AHEAD_SECONDS: Final = 1.0
"""For how long a share lasts, at the pace at which it was used before."""
FIRST_REQUESTS: Final = 32
"""For how many requests a new one is, before its pace is known."""


def worth(remaining: int, *, gateways: int, held: int, want: int, amount: int) -> int:
    """Say how much more a gateway may take ahead for requests of this amount; 0 when that is not worth it.

    `remaining` is what the bucket has, `held` what the share has left, `want` what would be good to have in all.
    """
    most = max(remaining, 0) // (PART * max(gateways, 1))
    if min(most, want) < LEAST_REQUESTS * max(amount, 1):
        return 0
    return max(min(most, want) - held, 0)


@dataclass(slots=True, eq=False)
class Share:
    """One bucket's share. `granted == left + used + what running requests have taken`."""

    id: str
    bucket: Bucket
    rule: Rule
    held: bool
    """Whether it is of Slots: nothing of it is ever used up."""
    amount: int
    """What one request takes, about."""
    left: int = 0
    used: int = 0
    granted: int = 0
    running: int = 0
    """Requests that have taken of it."""
    low: int = 0
    """Below it more is asked for."""
    until: float = 0.0
    """When it may not be used any more, by the clock of this process."""
    period: float = float("inf")
    """When the period ends of which it is."""
    remaining: int = 0
    """What the bucket had besides, when it was looked at last."""
    reset_ms: int = 0
    asked: float = 0.0
    """When the store was asked for it last."""
    spent_then: int = 0
    left_then: int = -1
    idle_since: float = 0.0
    wanted: bool = False
    retired: bool = False
    """It gives nothing any more, and is given back when nothing runs."""
    moved: float = float("-inf")
    """When what it had left was given back last, though requests of it ran."""

    carried: str = ""
    """By which id what it has of Slots is counted in memory, while the store is away."""
    carried_amount: int = 0

    @property
    def spent(self) -> int:
        """What requests have of it, or have used."""
        return self.granted - self.left

    def kept(self, now: float) -> int:
        """Give what others cannot have because of it: what runs, and while it is used what it has left."""
        return self.granted if now < self.until else self.granted - self.left

    @property
    def runs(self) -> int:
        """What requests have of it that run."""
        return self.granted - self.left - self.used


class ShareBook:
    """The shares by group and bucket."""

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, Share]] = {}
        self.retired: list[Share] = []
        """Those that are to be given back to the store when nothing runs any more."""
        self.wanted: list[Share] = []
        self.count = 0

    def __iter__(self) -> Iterator[Share]:
        for shares in tuple(self.groups.values()):
            yield from tuple(shares.values())

    def find(self, bucket: Bucket) -> Share | None:
        """Give a bucket's share."""
        shares = self.groups.get(bucket.group)
        return None if shares is None else shares.get(bucket.key)

    def take(self, charges: Sequence[Charge], now: float) -> "list[Share] | None":
        """Take all charges from shares, or nothing; give the shares in the order of the charges."""
        shares = self.groups.get(charges[0].bucket.group)
        if shares is None:
            return None
        found: list[Share] = []
        for bucket, amount in charges:
            share = shares.get(bucket.key)
            if share is None:
                break
            left = share.left - amount
            # NB: `low` is never below 0.
            if (left < share.low or share.until <= now or share.rule is not bucket.rule) and not self._gives(
                share, left, bucket.rule, now
            ):
                break
            share.left = left
            share.running += 1
            found.append(share)
        else:
            return found
        for share, charge in zip(found, charges, strict=False):
            share.left += charge.amount
            share.running -= 1
        return None

    def _gives(self, share: Share, left: int, rule: Rule, now: float) -> bool:
        """Whether a share can be taken from so that so much is left; what runs low is wanted more of."""
        if left < share.low or share.until <= now:
            self.want(share)
        if left < 0 or share.until <= now:
            return False
        if share.rule != rule:
            self.want(share)
            return False
        return True

    def take_more(self, shares: Sequence[Share], amounts: Sequence[int], now: float) -> bool:
        """Take more for a request that has taken of these already: all or nothing."""
        if any(share.left < amount or share.until <= now for share, amount in zip(shares, amounts, strict=True)):
            return False
        for share, amount in zip(shares, amounts, strict=True):
            share.left -= amount
            if share.left < share.low:
                self.want(share)
        return True

    def want(self, share: Share) -> None:
        """Ask for more, in the background."""
        if not share.wanted and not share.retired:
            share.wanted = True
            self.wanted.append(share)

    def open(self, id: str, charge: Charge, *, now: float) -> Share | None:
        """Make a share, which has nothing yet; None when there are too many."""
        if self.count >= MOST_SHARES:
            return None
        bucket = charge.bucket
        share = Share(id, bucket, bucket.rule, is_held(bucket.rule), charge.amount, idle_since=now)
        self.groups.setdefault(bucket.group, {})[bucket.key] = share
        self.count += 1
        return share

    def retire(self, share: Share) -> None:
        """Let nobody take of it any more; it is given back when nothing of it runs."""
        if share.retired:
            return
        share.retired = True
        share.until = 0.0
        shares = self.groups[share.bucket.group]
        del shares[share.bucket.key]
        if not shares:
            del self.groups[share.bucket.group]
        self.count -= 1
        self.retired.append(share)

    def ended(self) -> list[Share]:
        """Give those that can be given back, and forget them."""
        ended = [share for share in self.retired if share.running == 0]
        if ended:
            self.retired = [share for share in self.retired if share.running > 0]
        return ended
