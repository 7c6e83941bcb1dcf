"""One operation on one group of buckets at one moment, as the store in memory does it.

Counts are loaded when they are looked at and stored at the end, those that have changed only: what is refused changes
nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat

from capstan_gateway.limits.charges import Terms, Wish
from capstan_gateway.limits.counts import BACK_MS, Count, QuotaCount, RateCount, SlotsCount, Stored
from capstan_gateway.limits.expiry import Expiries
from capstan_gateway.limits.pace import Pace
from capstan_gateway.limits.port import LEASE_MS, Outcome, Verdict
from capstan_gateway.limits.reservations import (
    ENDED_MS,
    MOST_LEASE_MS,
    MOST_REAPED,
    SETTLED_MS,
    Kind,
    Line,
    Record,
    State,
    decide,
    standings_of,
)

_MOST_SWEPT = 64
"""What one operation forgets of each kind, at most."""


@dataclass(slots=True)
class Group:
    """What is stored of one group."""

    buckets: dict[str, Stored] = field(default_factory=dict)
    bucket_ends: Expiries = field(default_factory=Expiries)
    records: dict[str, Record] = field(default_factory=dict)
    record_ends: Expiries = field(default_factory=Expiries)
    leases: Expiries = field(default_factory=Expiries)
    until: int = 0
    """When nothing of it is left."""

    def sweep(self, now: int) -> None:
        """Forget what nobody needs any more."""
        for name in self.bucket_ends.pop_due(now, _MOST_SWEPT):
            del self.buckets[name]
        for id in self.record_ends.pop_due(now, _MOST_SWEPT):
            del self.records[id]


class Turn:
    """One operation."""

    def __init__(self, group: Group, now: int) -> None:
        self._group, self._now = group, now
        self._counts: dict[str, tuple[Terms, Count]] = {}
        self._changed: set[str] = set()
        group.sweep(now)

    def record(self, id: str) -> Record | None:
        """Give what is known of a reservation."""
        record = self._group.records.get(id)
        return record if record is not None and record.until > self._now else None

    def hold(
        self, id: str, record: Record, wishes: Sequence[Wish], *, used: Sequence[int] = (), force: bool = False
    ) -> Verdict:
        """Take what is missing so that the reservation has all of this, or nothing."""
        counts = [self.count(wish) for wish in wishes]
        others = [line.name for line in record.lines] != [wish.name for wish in wishes]
        if others or (record.keeps and record.state is State.ENDED):
            return Verdict(Outcome.LOST, standings_of(counts))
        needs = [line.needs(wish.amount) for line, wish in zip(record.lines, wishes, strict=True)]
        verdict = decide(counts, needs)
        if not (verdict.admitted or force):
            return verdict
        anew = record.state is State.ENDED or self.record(id) is None
        for (line, amount), count, need in zip(_paired(record, used), counts, needs, strict=True):
            line.note_used(count, amount)
            line.take(count, need)
            self._changed.add(line.name)
        self._open(id, record, anew=anew)
        return Verdict(Outcome.ADMITTED, standings_of(counts))

    def take_late(self, id: str, record: Record, wishes: Sequence[Wish]) -> Verdict:
        """Admit what has been settled already: of what it used, only what nobody could take yet is taken."""
        counts = [self.count(wish) for wish in wishes]
        for wish, count, used in zip(wishes, counts, record.early, strict=False):
            if used and wish.terms.kind is not Kind.SLOTS:
                count.take(used)
                self._changed.add(wish.name)
        record.early = ()
        self._keep(id, record)
        return Verdict(Outcome.ADMITTED, standings_of(counts))

    def settle(self, id: str, used: Sequence[int]) -> None:
        """End a reservation, or note that it has ended before it began."""
        record = self.record(id)
        if record is not None and record.state is State.SETTLED:
            return
        settled = Record(State.SETTLED, self._now + SETTLED_MS, early=() if record else tuple(used))
        for line, amount in _paired(record, used):
            final = line.final(amount)
            if line.ahead or final != line.amount:
                line.come_to(self._of_line(line), final)
        self._group.leases.drop(id)
        self._keep(id, settled)

    def renew(self, id: str, used: Sequence[int], lease_ms: int) -> None:
        """Begin its lease anew. What its maker had lost with the last one is taken again, whatever is left."""
        record = self.record(id)
        if record is None or record.state is State.SETTLED:
            return
        record.lease_ms = lease_ms
        for line, amount in _paired(record, used):
            if line.held or line.needs(0):
                count = self._of_line(line)
                line.hold_again(count)
                line.note_used(count, amount)
                line.take(count, line.needs(0))
            else:
                line.used = max(line.used, amount)
        self._open(id, record, anew=True)

    def mend(self) -> None:
        """Shorten the leases that were given by a clock that has gone back since."""
        leases = self._group.leases
        for id in leases.beyond(self._now + MOST_LEASE_MS + BACK_MS, MOST_REAPED):
            leases.set(id, self._now + LEASE_MS)

    def reap(self) -> None:
        """End the leases that are over."""
        for id in list(self._group.leases.pop_due(self._now, MOST_REAPED)):
            record = self.record(id)
            if record is not None and record.state is State.OPEN:
                for line in record.lines:
                    final = line.final(max(line.used, line.amount) if record.keeps else line.used)
                    if line.ahead or final != line.amount:
                        line.end(self._of_line(line), final)
                record.state, record.until = State.ENDED, self._now + ENDED_MS
                self._keep(id, record)

    def end(self) -> None:
        """Store what has changed."""
        group = self._group
        for name in self._changed:
            found = self._counts[name][1].stored()
            if found is None:
                group.buckets.pop(name, None)
                group.bucket_ends.drop(name)
            else:
                group.buckets[name], until = found
                group.bucket_ends.set(name, until)
                group.until = max(group.until, until)

    def count(self, wish: Wish) -> Count:
        """Give the bucket of a charge as it is now."""
        return self._load(wish.name, wish.terms)

    def _of_line(self, line: Line) -> Count:
        self._changed.add(line.name)
        known = self._counts.get(line.name)
        if known is not None:
            return known[1]
        numbers = (*line.terms, 0) if line.kind is Kind.RATE else line.terms
        return self._load(line.name, Terms(line.kind, numbers))

    def _load(self, name: str, terms: Terms) -> Count:
        known = self._counts.get(name)
        if known is not None and known[0] == terms:
            return known[1]
        if known is not None:  # What was given back a moment ago, by the rule of a reservation.
            found = known[1].stored()
            stored = None if found is None else found[0]
        else:
            stored = self._group.buckets.get(name)
        count = _make(terms, stored, self._now)
        self._counts[name] = terms, count
        return count

    def _open(self, id: str, record: Record, *, anew: bool) -> None:
        record.open(self._now)
        for line in record.lines:
            if line.held:
                self._counts[line.name][1].keep_until(record.until)
        if anew:
            self._group.leases.set(id, self._now + record.lease_ms)
        self._keep(id, record)

    def _keep(self, id: str, record: Record) -> None:
        group = self._group
        group.records[id] = record
        group.record_ends.set(id, record.until)
        group.until = max(group.until, record.until)


def _make(terms: Terms, stored: Stored | None, now: int) -> Count:
    if terms.kind is Kind.RATE:
        return RateCount(stored, Pace(*terms.numbers), now)
    if terms.kind is Kind.QUOTA:
        return QuotaCount(stored, terms.limit, terms.numbers, now)
    return SlotsCount(stored, terms.limit, now)


def _paired(record: Record | None, used: Sequence[int]) -> Iterator[tuple[Line, int]]:
    """Give each line with what was used of it; nothing of what is not said."""
    lines = [] if record is None else record.lines
    return zip(lines, chain(used, repeat(0)), strict=False)
