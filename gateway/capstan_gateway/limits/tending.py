"""Keeps the shares of a gateway as large as they are worth, in the background.

a bucket is asked for again and again ──► a share of it, when there is much left of all buckets of the request
a share runs low                      ──► more, as long as the bucket has much left
not used, period or lease over, the bucket runs low, its rule changed ──► given back

What requests have of a share that is to be given back is moved to a reservation of its own, for as long as they run, so
that one long stream keeps nothing from others but what it has itself.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from capstan_gateway.limits.port import LEASE_MS, Bucket, Charge, LimitStore, Quota, Standing, Verdict
from capstan_gateway.limits.shares import AHEAD_SECONDS, FIRST_REQUESTS, LEAST_REQUESTS, Share, ShareBook, worth

MARGIN_SECONDS: Final = 5.0
"""How long before its lease ends at the store a share is used no more."""
PERIOD_MARGIN_SECONDS: Final = 0.1
MOVE_MARGIN_SECONDS: Final = 1.0
"""So long before its period ends nothing of a share is moved any more: the next period would be charged with it."""
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
        settle: Callable[[Bucket, str, int], object],
    ) -> None:
        """`settle` ends, in the background, the reservation of a bucket with this id, of which so much was used."""
        self._book = book
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._gateways = gateways
        self._settle = settle
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
        await _together(self._ask, wanted)
        self.give_back_ended()
        await _together(self._move, [share for share in self._book.retired if _can_move(share, now)])

    def give_back_ended(self) -> None:
        """Give back what nobody uses any more."""
        for share in self._book.ended():
            if share.granted or share.used:
                self._settle(share.bucket, share.id, share.used)

    def renewed(self, shares: Sequence[Share], asked_at: float) -> None:
        """Take note that the leases of these began anew, not before `asked_at`."""
        for share in shares:
            if not share.retired:
                share.until = min(asked_at + LEASE_MS / 1000 - MARGIN_SECONDS, share.period)

    def _look_at(self, share: Share, now: float) -> None:
        if share.left != share.left_then:
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
                self._settle(share.bucket, share.id, 0)
                raise
        if not verdict.admitted:
            self._book.retire(share)
            return
        share.left += more
        share.granted += more
        self._judge(share, verdict.standings[0], now)

    async def _move(self, share: Share) -> None:
        """Give back what a share has left though requests run of it.

        What they have is taken first, whatever is left, and the share is settled then: at no moment is less charged
        than runs.
        """
        bucket, id, runs, left, used = share.bucket, self._new_id(), share.runs, share.left, share.used
        share.moved = self._clock()
        try:
            await self._store.reserve(id, [Charge(bucket, runs)], keeps=not share.held, force=True)
        except BaseException:  # It may have been made.
            self._settle(bucket, id, 0)
            raise
        if share not in self._book.retired:  # All of it was given back meanwhile.
            self._settle(bucket, id, 0)
            return
        self._settle(bucket, share.id, used)
        share.id, share.granted = id, runs
        share.left -= left
        share.used -= used

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


async def _together(act: Callable[[Share], Awaitable[None]], shares: Sequence[Share]) -> None:
    """Do it for all, some at a time; raise what one of them raised when those with it are through."""
    for start in range(0, len(shares), AT_ONCE):
        some = (act(share) for share in shares[start : start + AT_ONCE])
        for result in await asyncio.gather(*some, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result


def _can_move(share: Share, now: float) -> bool:
    """Whether a share that is to be given back has something left that others could have."""
    due = share.held or now - share.moved >= IDLE_SECONDS
    return share.left > 0 and due and now < share.period - MOVE_MARGIN_SECONDS


def _want(share: Share, now: float) -> int:
    """Give how much a share should have left."""
    least = LEAST_REQUESTS * max(share.amount, 1)
    if not share.granted:
        return FIRST_REQUESTS * max(share.amount, 1)
    if share.held:
        return least + share.spent
    passed = max(now - share.asked, 0.001)
    return max(int((share.spent - share.spent_then) / passed * AHEAD_SECONDS), least)
