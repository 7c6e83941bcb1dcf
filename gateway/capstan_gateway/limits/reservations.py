"""What a reservation has of its buckets, and what becomes of it. Pure.

OPEN     its lease runs: `amount` of each bucket is taken
ENDED    its lease is over: only what was used is taken still. It may be opened again, or settled, for `ENDED_MS`.
SETTLED  nothing changes any more; it is remembered for `SETTLED_MS`, so that what comes twice, or too late, counts
         once. One that was settled before it was made has `early`: what it used is taken when it comes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from capstan_gateway.limits.counts import Count, QuotaCount, RateCount
from capstan_gateway.limits.port import Outcome, Standing, Verdict

ENDED_MS: Final = 3_600_000
SETTLED_MS: Final = 10_000
MOST_LEASE_MS: Final = 600_000
MOST_REAPED: Final = 16
"""Leases that one operation ends, at most."""


class Kind(IntEnum):
    """Kinds of buckets, as they are stored."""

    RATE = 0
    QUOTA = 1
    SLOTS = 2


class State(IntEnum):
    """States of a reservation, as they are stored."""

    SETTLED = 0
    OPEN = 1
    ENDED = 2


@dataclass(slots=True)
class Line:
    """What a reservation has of one bucket.

    What can be given back lies in two parts: what was taken last (`new`), and what is left of what was taken before
    (`old`), which counts as taken when the first of it was, and so may give back less than it could. With `ahead` (of a
    Rate, what `keeps`) `old` is what is held and not used, and `new` what was still held when the lease ended.
    """

    name: str
    kind: Kind
    ahead: bool = False
    terms: tuple[int, ...] = ()
    """Of a Rate what comes in, small units, length of a tick; of a Quota beginning and end of the period."""
    promised: int = 0
    """What its maker may use."""
    amount: int = 0
    """What is taken from the bucket, or was: less than promised when the lease has ended."""
    used: int = 0
    old: int = 0
    old_mark: int = 0
    new: int = 0
    new_mark: int = 0

    def needs(self, total: int) -> int:
        """Give what has to be taken so that there is this much in all, and all that was promised."""
        return max(total, self.promised) - self.amount

    def take(self, count: Count, amount: int) -> None:
        """Take more from its bucket."""
        self.terms = count.terms()
        if amount == 0:
            return
        if self.ahead and isinstance(count, RateCount):
            count.hold(amount)
            self.old += amount
        else:
            count.take(amount)
            unused = max(self.amount - self.used, 0)
            new = min(self.new, unused)
            old = min(self.old, unused - new)
            self.old, self.old_mark = old + new, self.old_mark if old else self.new_mark
            self.new, self.new_mark = amount, count.mark
        self.amount += amount
        self.promised = max(self.promised, self.amount)

    def note_used(self, count: Count, used: int) -> None:
        """So much was used so far: it never becomes less."""
        self.used = max(self.used, used)
        if self.ahead and isinstance(count, RateCount):
            begun = min(max(self.used - (self.amount - self.old), 0), self.old)
            count.use(begun)
            self.old -= begun

    @property
    def held(self) -> bool:
        """Whether its bucket keeps a count of what is held, which must live as long as the reservation."""
        return self.ahead or self.kind is Kind.SLOTS

    def final(self, used: int) -> int:
        """Give what stays charged when so much was used."""
        return 0 if self.kind is Kind.SLOTS else used

    def end(self, count: Count, final: int) -> None:
        """The lease is over, and so much stays charged."""
        if self.ahead and isinstance(count, RateCount):
            count.use(self.old)
            self.old, self.new, self.new_mark = 0, self.old, count.mark
        self.come_to(count, final)

    def hold_again(self, count: Count) -> None:
        """Hold again what was held when the lease ended."""
        if self.ahead and isinstance(count, RateCount):
            count.give(self.new, self.new_mark)
            count.hold(self.new)
            self.old, self.new = self.old + self.new, 0

    def come_to(self, count: Count, used: int) -> None:
        """Let the bucket have lost this much and no more."""
        if self.ahead and isinstance(count, RateCount):
            free = min(max(self.amount - used, 0), self.old)
            count.free(free)
            count.use(self.old - free)
            self.amount -= free
            self.old = 0
        if used > self.amount:
            count.take(used - self.amount)
        back = max(self.amount - used, 0)
        new = min(back, self.new)
        old = min(back - new, self.old)
        for amount, mark in ((new, self.new_mark), (old, self.old_mark)):
            if amount:
                count.give(amount, mark)
        self.new -= new
        self.old -= old
        self.amount = used
        self.promised = max(self.promised, used)


@dataclass(slots=True)
class Record:
    """One reservation."""

    state: State
    until: int
    """When nobody knows it any more."""
    lease_ms: int = 0
    keeps: bool = False
    lines: list[Line] = field(default_factory=list)
    early: tuple[int, ...] = ()

    def open(self, now: int) -> None:
        """Begin its lease. It is known for as long as anything of it can be given back."""
        self.state = State.OPEN
        ends = [line.terms[1] for line in self.lines if line.kind is Kind.QUOTA]
        self.until = max(now + self.lease_ms + ENDED_MS, *ends, 0)


def decide(counts: Sequence[Count], needs: Sequence[int]) -> Verdict:
    """Say whether all of it is there, and if not, why and until when. It changes nothing."""
    waits = [count.wait_for(need) for count, need in zip(counts, needs, strict=True)]
    standings = tuple(count.standing() for count in counts)
    if not any(waits):
        return Verdict(outcome=Outcome.ADMITTED, standings=standings)
    if -1 in waits:
        return Verdict(outcome=Outcome.NEVER, standings=standings, denied=waits.index(-1))
    spent = [wait if isinstance(count, QuotaCount) else 0 for count, wait in zip(counts, waits, strict=True)]
    reasons = spent if any(spent) else waits
    outcome = Outcome.SPENT if any(spent) else Outcome.WAIT
    return Verdict(outcome=outcome, standings=standings, denied=reasons.index(max(reasons)), wait_ms=max(waits))


def standings_of(counts: Sequence[Count]) -> tuple[Standing, ...]:
    """Say how these buckets are."""
    return tuple(count.standing() for count in counts)
