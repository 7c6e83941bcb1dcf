"""A LimitStore in the memory of the process: what counts where there is no Redis, and while it is away.

It does what `script.py` does in Redis, with the same arithmetic and in the same order, so that the two answer alike.
It is bounded by what its buckets still have missing: a full bucket, a reservation that nobody can come back to and a
group of which nothing is left are forgotten.
"""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from capstan_gateway.limits.charges import amounts_of, checked_lease, wishes_of
from capstan_gateway.limits.expiry import Expiries
from capstan_gateway.limits.port import LEASE_MS, Charge, Outcome, Verdict
from capstan_gateway.limits.reservations import Kind, Line, Record, State, standings_of
from capstan_gateway.limits.turn import Group, Turn

T = TypeVar("T")
_MOST_SWEPT = 4
"""Groups that one operation forgets, at most."""


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Give what this gives without ever waiting; RuntimeError when it waits."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise RuntimeError("a store in memory has waited")


class MemoryLimitStore:
    """Implements `port.LimitStore`. It never waits and never raises StoreDown."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        """`now_ms` gives Unix time in milliseconds."""
        self._now_ms = now_ms
        self._groups: dict[str, Group] = {}
        self._ends = Expiries()

    def __len__(self) -> int:
        """How many buckets are not full, and reservations known."""
        return sum(len(group.buckets) + len(group.records) for group in self._groups.values())

    async def reserve(
        self, id: str, charges: Sequence[Charge], *, lease_ms: int = LEASE_MS, keeps: bool = False, force: bool = False
    ) -> Verdict:
        """See `port.LimitStore`."""
        lease_ms = checked_lease(lease_ms)
        group, wishes = wishes_of(charges)
        with self._turn(group) as turn:
            turn.reap()
            record = turn.record(id)
            if record is None:
                lines = [
                    Line(wish.name, wish.terms.kind, ahead=keeps and wish.terms.kind is Kind.RATE) for wish in wishes
                ]
                record = Record(State.OPEN, 0, lease_ms=lease_ms, keeps=keeps, lines=lines)
            elif record.state is State.SETTLED:
                return turn.take_late(id, record, wishes)
            return turn.hold(id, record, wishes, force=force)

    async def extend(self, id: str, charges: Sequence[Charge], *, used: Sequence[int]) -> Verdict:
        """See `port.LimitStore`."""
        used = amounts_of(used)
        group, wishes = wishes_of(charges)
        with self._turn(group) as turn:
            turn.reap()
            record = turn.record(id)
            if record is None or record.state is State.SETTLED:
                return Verdict(Outcome.LOST, standings_of([turn.count(wish) for wish in wishes]))
            return turn.hold(id, record, wishes, used=used)

    async def settle(self, group: str, id: str, used: Sequence[int]) -> None:
        """See `port.LimitStore`."""
        used = amounts_of(used)
        with self._turn(group) as turn:
            turn.settle(id, used)
            turn.mend()
            turn.reap()

    async def renew(self, group: str, used: Sequence[tuple[str, Sequence[int]]], *, lease_ms: int = LEASE_MS) -> None:
        """See `port.LimitStore`."""
        lease_ms = checked_lease(lease_ms)
        checked = {id: amounts_of(amounts) for id, amounts in used}
        if not checked:
            return
        with self._turn(group) as turn:
            for id, amounts in checked.items():
                turn.renew(id, amounts, lease_ms)
            turn.mend()
            turn.reap()

    @contextmanager
    def _turn(self, name: str) -> Iterator[Turn]:
        now = self._now_ms()
        for old in self._ends.pop_due(now, _MOST_SWEPT):
            del self._groups[old]
        group = self._groups.get(name) or Group()
        turn = Turn(group, now)
        yield turn
        turn.end()
        if group.until > now:
            self._groups[name] = group
            self._ends.set(name, group.until)
