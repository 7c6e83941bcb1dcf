"""Keeps the shares of a gateway as large as they are worth, in the background.

a bucket is asked for again and again ──► a share of it, when there is much left of all buckets of the request
a share runs low                      ──► more, as long as the bucket has much left
not used, period or lease over, the bucket runs low, its rule changed ──► given back
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from capstan_gateway.limits.port import LEASE_MS, Bucket, Charge, LimitStore, Quota, Standing, Verdict
from capstan_gateway.limits.shares import AHEAD_SECONDS, FIRST_REQUESTS, LEAST_REQUESTS, Share, ShareBook, worth

MARGIN_SECONDS: Final = 5.0
"""How long before its lease ends at the store a share is used no more."""
PERIOD_MARGIN_SECONDS: Final = 0.1
IDLE_SECONDS: Final = 2.0
"""Who has not used a share for so long does not need it."""
STALE_SECONDS: Final = 1.0
"""After how long a share that is in use is looked at, whether its bucket still has much left."""
AGAIN_SECONDS: Final = 1.0
"""A bucket that is asked for twice within this time is worth a share."""
MOST_SEEN: Final = 4096
AT_ONCE: Final = 64
"""Operations that are under way together."""


class Tender:
    """Speaks to the store for a `ShareBook`."""

    def __init__(
        self,
        book: ShareBook,
        store: LimitStore,
        *,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        gateways: Callable[[], int],
        give_back: Callable[[Share], object],
    ) -> None:
        self._book = book
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._gateways = gateways
        self._give_back = give_back
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()
        self.wake = asyncio.Event()

    def note(self, charges: Sequence[Charge], verdict: Verdict) -> None:
        """Take note of what the store said of these buckets when it was asked for a request."""
        book, gateways, now = self._book, self._gateways(), self._clock()
        again = True
        for charge, standing in zip(charges, verdict.standings, strict=False):
            bucket = charge.bucket
            much = bool(worth(standing.remaining, gateways=gateways, held=0, want=standing.remaining,
                              amount=charge.amount))  # fmt: skip
            again = again and much
            share = book.find(bucket)
            if share is None:
                again = self._seen_again(bucket, now) and again
            else:
                share.remaining, share.reset_ms = standing.remaining, standing.reset_ms
                if not much or share.rule != bucket.rule:
                    book.retire(share)
                    self.wake.set()
        if again and verdict.admitted:
            self._open(charges, verdict, now)

    def _seen_again(self, bucket: Bucket, now: float) -> bool:
        key, seen = (bucket.group, bucket.key), self._seen
        before = seen.get(key)
        seen[key] = now
        if before is None and len(seen) > MOST_SEEN:
            seen.popitem(last=False)
        return before is not None and now - before <= AGAIN_SECONDS

    def _open(self, charges: Sequence[Charge], verdict: Verdict, now: float) -> None:
        for charge, standing in zip(charges, verdict.standings, strict=True):
            if self._book.find(charge.bucket) is None:
                share = self._book.open(self._new_id(), charge, now=now)
                if share is None:
                    return
                share.remaining, share.reset_ms = standing.remaining, standing.reset_ms
                self._book.want(share)
                self.wake.set()

    async def tend(self) -> None:
        """Look at all shares once: enlarge, look at again, give back. Raises StoreDown."""
        now = self._clock()
        for share in self._book:
            self._look_at(share, now)
        wanted, self._book.wanted = self._book.wanted, []
        for share in wanted:
            share.wanted = False
        for start in range(0, len(wanted), AT_ONCE):
            asked = (self._ask(share) for share in wanted[start : start + AT_ONCE])
            results = await asyncio.gather(*asked, return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        for share in tuple(self._book.retired):
            if share.held and share.running and share.left:
                await self._shrink(share)
        self.give_back_ended()

    async def _shrink(self, share: Share) -> None:
        """Give back what a retired share of Slots has left while requests that took of it go on, which may take long.

        What they hold is reserved anew, then the old reservation ends: never is less held than they have.
        """
        over, id = share.left, self._new_id()
        taken = Share(id, share.bucket, share.rule, share.held, share.amount)
        try:
            await self._store.reserve(id, [Charge(share.bucket, share.granted - over)], force=True)
        except BaseException:  # It may have been made.
            self._give_back(taken)
            raise
        taken.id, share.id = share.id, id
        share.left -= over
        share.granted -= over
        self._give_back(taken)

    def give_back_ended(self) -> None:
        """Give back what nobody uses any more."""
        for share in self._book.ended():
            if share.granted:
                self._give_back(share)

    def renewed(self, shares: Sequence[Share], asked_at: float) -> None:
        """Take note that the leases of these began anew, not before `asked_at`."""
        for share in shares:
            if not share.retired:
                share.until = min(asked_at + LEASE_MS / 1000 - MARGIN_SECONDS, share.period)

    def _look_at(self, share: Share, now: float) -> None:
        if share.left != share.left_then or share.running:
            share.left_then = share.left
            share.idle_since = now
        over = share.granted > 0 and now >= share.until
        if over or now - share.idle_since > IDLE_SECONDS:
            self._book.retire(share)
        elif now - share.asked > STALE_SECONDS:
            self._book.want(share)

    async def _ask(self, share: Share) -> None:
        """Take for a share what it is worth, which may be nothing; learn how its bucket is."""
        if share.retired:
            return
        now = self._clock()
        more = worth(
            share.remaining, gateways=self._gateways(), held=share.left, want=_want(share, now), amount=share.amount
        )
        charge = Charge(share.bucket, share.granted + more)
        if share.granted:
            verdict = await self._store.extend(share.id, [charge], used=[share.used])
        else:
            share.until = min(now + LEASE_MS / 1000 - MARGIN_SECONDS, share.period)
            try:
                verdict = await self._store.reserve(share.id, [charge], keeps=not share.held)
            except BaseException:  # It may have been made.
                self._book.retire(share)
                self._give_back(share)
                raise
        if not verdict.admitted:
            self._book.retire(share)
            return
        share.left += more
        share.granted += more
        self._judge(share, verdict.standings[0], now)

    def _judge(self, share: Share, standing: Standing, now: float) -> None:
        share.remaining, share.reset_ms = standing.remaining, standing.reset_ms
        if isinstance(share.rule, Quota) and standing.reset_ms:
            share.period = min(share.period, now + standing.reset_ms / 1000 - PERIOD_MARGIN_SECONDS)
            share.until = min(share.until, share.period)
        share.asked, share.spent_then = now, share.spent
        share.low = (share.left + 1) // 2
        least = LEAST_REQUESTS * max(share.amount, 1)
        if not worth(standing.remaining, gateways=self._gateways(), held=0, want=least, amount=share.amount):
            self._book.retire(share)


def _want(share: Share, now: float) -> int:
    """Give how much a share should have left."""
    least = LEAST_REQUESTS * max(share.amount, 1)
    if not share.granted:
        return FIRST_REQUESTS * max(share.amount, 1)
    if share.held:
        return least + share.spent
    passed = max(now - share.asked, 0.001)
    return max(int((share.spent - share.spent_then) / passed * AHEAD_SECONDS), least)
