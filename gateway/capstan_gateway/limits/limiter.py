"""Implements `port.Limiter`: from shares in memory, else by asking the store, else by counts in memory.

    take ──► shares                                      (nothing waits)
    reserve ──► the store ── answers ──► a reservation, or why not
                   │ is down: it is not asked any more, until the background has had an answer of it
                   ├─ local ──► this gateway's part of the limits, in memory
                   └─ else  ──► StoreDown

**An outage costs one deadline.** The first call that gets no answer says so to all others. A pulse in the background,
which writes, asks whether it is back: no user's request does.

**Back again.** Before the store is asked for a request again it is told, by ids and so once: what became of calls whose
answer was lost, what was used meanwhile, what was begun meanwhile and still runs, and what was begun before and still
runs: its lease may be over, and others may have what it had.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final

from capstan_gateway.life.outbox import Outbox
from capstan_gateway.life.pauses import doubled
from capstan_gateway.limits.away import Away
from capstan_gateway.limits.debts import Payment
from capstan_gateway.limits.memory import at_once
from capstan_gateway.limits.port import LEASE_MS, Charge, LimitStore, Outcome, Reservation, StoreDown, Verdict
from capstan_gateway.limits.shares import Share, ShareBook
from capstan_gateway.limits.taken import FromShares, Held
from capstan_gateway.limits.tending import Tender

log = logging.getLogger(__name__)

RENEW_SECONDS: Final = LEASE_MS / 1000 / 3
PULSE_SECONDS: Final = 5.0
FIRST_PAUSE: Final = 0.1
MOST_PAUSE: Final = 2.0
TEND_SECONDS: Final = 0.25
TEND_PAUSE: Final = 0.01
"""Shares are looked at no more often than this, however many run low."""
MOST_WAITING: Final = 65_536
"""Ends of reservations that wait for the store; of further ones the leases take care."""
IN_ONE: Final = 512
"""Reservations that one operation renews."""
END_BATCH: Final = 512
ADOPTED_AT_ONCE: Final = 128
ANEW_AT_ONCE: Final = 32
FOR_EVER: Final = 1 << 62


@dataclass(slots=True)
class Tally:
    """What has happened, for metrics."""

    from_shares: int = 0
    from_store: int = 0
    in_memory: int = 0
    refused_down: int = 0
    outages: int = 0
    lost_answers: int = 0


@dataclass(frozen=True, slots=True)
class _End:
    group: str
    id: str
    used: tuple[int, ...]


class StoreLimiter:
    """Implements `port.Limiter` and `lifecycle.Part`."""

    name = "limits"

    def __init__(
        self,
        store: LimitStore,
        *,
        pulse: Callable[[], Awaitable[int]],
        clock: Callable[[], float],
        now_ms: Callable[[], int],
        rng: Random,
        new_id: Callable[[], str],
        gateways: int = 1,
        shares: bool = True,
        on_dropped: Callable[[int], None] = lambda _: None,
        leave: Callable[[], Awaitable[None]] | None = None,
        ends_at_once: bool = False,
    ) -> None:
        """`pulse` tells the store that this gateway is alive, and gives how many are; `leave` that it is no more.

        With `ends_at_once` the store never waits and never fails, and is told the end of a request as it comes.

        `clock` is in seconds and never steps; `now_ms` is Unix time.
        """
        self._store = store
        self._pulse = pulse
        self._leave = leave
        self._ends_at_once = ends_at_once
        self.now = clock
        self._rng = rng
        self._new_id = new_id
        self.gateways = gateways
        """How many share the limits: by the last pulse; at first by what was said at start."""
        self._shares = shares
        self.book = ShareBook()
        self.tally = Tally()
        self._away = Away(now_ms)
        self.up = True
        """Whether the store is asked for requests."""
        self._returning = False
        """Whether the store is asked again, and what is counted in memory is not forgotten yet."""
        self._failures = 0
        self._open: dict[str, Held] = {}
        self._in_memory: dict[str, Held] = {}
        self._payment: Payment | None = None
        self._may_end = True
        self._hurry = asyncio.Event()
        self._ends: Outbox[_End] = Outbox(
            "limits", self._write_ends, rng=rng, capacity=MOST_WAITING, every_seconds=0, attempts=FOR_EVER,
            batch=END_BATCH,
            on_dropped=on_dropped, expected=(StoreDown,),
        )  # fmt: skip
        self._tender = Tender(
            self.book, store, clock=clock, new_id=new_id, gateways=lambda: self.gateways,
            settle=lambda bucket, id, used: self._ends.put(_End(bucket.group, id, (used,))),
        )  # fmt: skip

    @property
    def open(self) -> int:
        """How many reservations of requests run."""
        return len(self._open) + len(self._in_memory)

    @property
    def waiting(self) -> int:
        """How many ends of reservations the store has not been told."""
        return len(self._ends)

    def hurry(self) -> None:
        """The store may be back, or away: see at once."""
        self._hurry.set()

    def take(self, charges: Sequence[Charge], *, local: bool = True) -> Reservation | None:
        """See `port.Limiter`."""
        shares = self.book.take(charges, self.now())
        if shares is None:
            return None
        self.tally.from_shares += 1
        if self.book.wanted:
            self._tender.wake.set()
        return FromShares(self, charges, shares, local)

    async def reserve(self, charges: Sequence[Charge], *, local: bool) -> Reservation | Verdict:
        """See `port.Limiter`."""
        return await self._reserve(charges, local=local, first=True)

    async def reserve_more(self, charges: Sequence[Charge], *, local: bool) -> Reservation | Verdict:
        """See `taken.Keeper`."""
        return await self._reserve(charges, local=local, first=False)

    async def _reserve(self, charges: Sequence[Charge], *, local: bool, first: bool) -> Reservation | Verdict:
        if not self.up:
            return self._without_store(charges, local=local, first=first)
        id = self._new_id()
        try:
            verdict = await self._store.reserve(id, charges)
        except StoreDown as error:
            self._lose(id, charges)
            self._go_down(error)
            return self._without_store(charges, local=local, first=first)
        except asyncio.CancelledError:
            self._lose(id, charges)
            raise
        self._learn(charges, verdict, first=first)
        if not verdict.admitted:
            return verdict
        self.tally.from_store += first
        held = Held(self, id, charges, verdict, local=local, in_memory=False)
        self._open[id] = held
        return held

    async def extend(self, held: Held, amounts: Sequence[int], used: Sequence[int]) -> Verdict:
        """Take more for a reservation; all or nothing."""
        totals = [before + more for before, more in zip(held.amounts, amounts, strict=True)]
        charges = [Charge(charge.bucket, total) for charge, total in zip(held.charges, totals, strict=True)]
        if held.in_memory:
            verdict = self._away.extend(held.id, held.charges, totals, used, gateways=self.gateways)
        elif not self.up:
            return self._extend_without(held, amounts)
        else:
            try:
                verdict = await self._store.extend(held.id, charges, used=used)
                if verdict.outcome is Outcome.LOST and not held.done:
                    verdict = await self._again(held, charges)
            except StoreDown as error:
                self._go_down(error)
                return self._extend_without(held, amounts)
            self._away.remember(charges, verdict)
        if verdict.admitted:
            held.amounts = totals
        return verdict

    def end(self, held: Held, used: Sequence[int]) -> None:
        """Settle a reservation, in the background."""
        if held.in_memory:
            self._in_memory.pop(held.id, None)
            self._away.settle(held.id, held.charges, used)
            self._away.debts.add(held.charges, used, now=self.now(), gateways=self.gateways)
            return
        self._open.pop(held.id, None)
        if self._ends_at_once:
            at_once(self._store.settle(held.group, held.id, used))
            return
        self._ends.put(_End(held.group, held.id, tuple(used)))
        if not self.up or self._returning:
            self._away.settle(held.id, held.charges, [0] * len(held.charges))

    async def run(self) -> None:
        """Tell the store what is to be told, keep leases and shares, and see whether it is there."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ends.run())
            group.create_task(self._keep_pulse())
            group.create_task(self._keep_leases())
            if self._shares:
                group.create_task(self._keep_shares())

    def not_ready(self) -> str | None:
        """Keep no request away: what happens to them while the store is down is for policies to say."""
        return None

    async def aclose(self) -> None:
        """Give back what is not used."""
        for share in self.book:
            self.book.retire(share)
        self._tender.give_back_ended()
        if self.up:
            await self._ends.aclose()
            if self._leave is not None:
                with suppress(StoreDown):
                    await self._leave()

    def _without_store(self, charges: Sequence[Charge], *, local: bool, first: bool) -> Held | Verdict:
        if not local:
            self.tally.refused_down += first
            raise StoreDown("the counts of limits cannot be asked")
        id = self._new_id()
        verdict = self._away.reserve(id, charges, gateways=self.gateways)
        if not verdict.admitted:
            return verdict
        self.tally.in_memory += first
        held = Held(self, id, charges, verdict, local=True, in_memory=True)
        self._in_memory[id] = held
        return held

    def _extend_without(self, held: Held, amounts: Sequence[int]) -> Verdict:
        """Take more in memory for what the store knows."""
        if not held.local:
            raise StoreDown("the counts of limits cannot be asked")
        charges = [Charge(charge.bucket, more) for charge, more in zip(held.charges, amounts, strict=True)]
        found = self._without_store(charges, local=True, first=False)
        if isinstance(found, Verdict):
            return found
        if held.done:
            found.settle([0] * len(charges))
            return found.verdict
        held.fallback = found
        return found.verdict

    async def _again(self, held: Held, charges: Sequence[Charge]) -> Verdict:
        """Make a reservation anew that the store has lost, as one that has been emptied has: with all that it had."""
        id = self._new_id()
        try:
            verdict = await self._store.reserve(id, charges)
        except (StoreDown, asyncio.CancelledError):
            self._lose(id, charges)
            raise
        if verdict.admitted:
            self._open.pop(held.id, None)
            held.id = id
            if held.done:
                self._ends.put(_End(held.group, id, tuple(held.used)))
            else:
                self._open[id] = held
        return verdict

    def _lose(self, id: str, charges: Sequence[Charge]) -> None:
        """End a reservation of which nobody knows whether it was made."""
        self.tally.lost_answers += 1
        self._ends.put(_End(charges[0].bucket.group, id, (0,) * len(charges)))

    def _learn(self, charges: Sequence[Charge], verdict: Verdict, *, first: bool) -> None:
        self._away.remember(charges, verdict)
        if self._shares and first:  # What a request takes more of is not what requests take.
            self._tender.note(charges, verdict)

    def _go_down(self, error: StoreDown) -> None:
        if not self.up:
            return
        self.up = False
        self._may_end = False
        self.tally.outages += 1
        log.warning("limits are decided without their store", extra={"reason": str(error)})
        for held in self._open.values():
            self._away.hold(held.id, held.charges, gateways=self.gateways)
        self._carry()
        self._hurry.set()

    def carry(self, share: Share) -> None:
        """Count in memory what a share of Slots has, while the store is away: less as its requests end, and nothing of
        what it has left once that may not be used any more."""
        kept = 0 if self.up or not share.held else share.kept(self.now())
        if kept != share.carried_amount:
            charge = Charge(share.bucket, kept)
            share.carried, share.carried_amount = self._away.carry(share.carried, charge, gateways=self.gateways), kept

    def _carry(self) -> None:
        for share in (*self.book, *self.book.retired):
            self.carry(share)

    async def _keep_pulse(self) -> None:
        while True:
            try:
                self.gateways = max(await self._pulse(), 1)
                if not self.up:
                    await self._come_back()
                elif self._owes:
                    await self._tell()
                self._failures = 0
            except StoreDown as error:
                self._failures += 1
                self._go_down(error)
                self._carry()  # What may not be used any more meanwhile is free.
            pause = PULSE_SECONDS if self.up else doubled(FIRST_PAUSE, MOST_PAUSE, self._failures - 1)
            self._hurry.clear()
            try:
                async with asyncio.timeout(pause * self._rng.uniform(0.8, 1.2)):
                    await self._hurry.wait()
            except TimeoutError:
                pass

    async def _come_back(self) -> None:
        """Tell the store all that it has not heard, then ask it again. Raises StoreDown: the rest is for next time."""
        self._may_end = True
        try:
            await self._tell()
            await self._hold_again()
        except StoreDown:
            self._may_end = False
            raise
        self.up = self._returning = True
        self._carry()  # Nothing of shares is counted in memory from now on.
        await self._tell()  # What came meanwhile: from now on nothing does.
        if not self.up:  # It has gone away once more, and the counts in memory are in use.
            return
        self._returning = False
        self._away.over()
        log.info("limits are decided by their store again", extra={"gateways": self.gateways})

    async def _hold_again(self) -> None:
        """Begin the leases anew of all that runs. What the store has ended meanwhile, or has forgotten, is taken again
        whatever is left; but what a share had left, once it may not be used any more, is not."""
        now = self.now()
        for share in self.book:
            if share.until <= now:
                self.book.retire(share)
        running = [
            *(self._anew(held.id, held.charges, held.amounts) for held in self._open.values()),
            *(self._anew(share.id, [Charge(share.bucket, 0)], [share.granted], keeps=not share.held)
              for share in self._granted()),
        ]  # fmt: skip
        for start in range(0, len(running), ANEW_AT_ONCE):
            await _all(act() for act in running[start : start + ANEW_AT_ONCE])
        await self._renew()

    def _anew(
        self, id: str, charges: Sequence[Charge], amounts: Sequence[int], *, keeps: bool = False
    ) -> Callable[[], Awaitable[Verdict]]:
        in_all = [Charge(charge.bucket, amount) for charge, amount in zip(charges, amounts, strict=True)]
        return lambda: self._store.reserve(id, in_all, keeps=keeps, force=True)

    def _granted(self) -> list[Share]:
        return [share for share in (*self.book, *self.book.retired) if share.granted or share.used]

    @property
    def _owes(self) -> bool:
        """Whether there is something of the last outage that the store has not heard: it came while that was told."""
        return bool(self._away.debts) or self._payment is not None or bool(self._in_memory)

    async def _tell(self) -> None:
        for _ in range(len(self._ends) // END_BATCH + 1):
            if not await self._ends.write_some():
                raise StoreDown("it does not take what has ended")
        for _ in range(len(self._away.debts) + 1):
            await self._pay()
        running = tuple(self._in_memory.values())
        for start in range(0, len(running), ADOPTED_AT_ONCE):
            await _all(self._adopt(held) for held in running[start : start + ADOPTED_AT_ONCE])

    async def _pay(self) -> None:
        if self._payment is None:
            self._payment = self._away.debts.take(self._new_id(), now=self.now(), gateways=self.gateways)
        payment = self._payment
        if payment is not None:
            await self._store.reserve(payment.id, payment.charges, lease_ms=1_000, keeps=True, force=True)
            self._ends.put(_End(payment.group, payment.id, tuple(charge.amount for charge in payment.charges)))
        self._payment = None

    async def _adopt(self, held: Held) -> None:
        charges = [Charge(charge.bucket, amount) for charge, amount in zip(held.charges, held.amounts, strict=True)]
        await self._store.reserve(held.id, charges, force=True)
        if self._in_memory.pop(held.id, None) is None:  # It has ended meanwhile, and is among the debts.
            self._ends.put(_End(held.group, held.id, (0,) * len(charges)))
            return
        held.in_memory = False
        self._open[held.id] = held

    async def _write_ends(self, ends: list[_End]) -> None:
        if not self._may_end:
            raise StoreDown("the counts of limits cannot be asked")
        try:
            await _all(self._store.settle(end.group, end.id, end.used) for end in ends)
        except StoreDown as error:
            self._go_down(error)
            raise

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS * self._rng.uniform(0.9, 1.0))
            if self.up:
                try:
                    await self._renew()
                except StoreDown as error:
                    self._go_down(error)

    async def _renew(self) -> None:
        """Begin all leases anew: in one operation for each group, of so many reservations."""
        groups: dict[str, list[tuple[str, Sequence[int]]]] = {}
        for held in self._open.values():
            groups.setdefault(held.group, []).append((held.id, held.used))
        shares = self._granted()
        for share in shares:
            groups.setdefault(share.bucket.group, []).append((share.id, (share.used,)))
        began = self.now()
        for group, all_used in groups.items():
            for start in range(0, len(all_used), IN_ONE):
                await self._store.renew(group, all_used[start : start + IN_ONE])
        self._tender.renewed(shares, began)

    async def _keep_shares(self) -> None:
        wake = self._tender.wake
        while True:
            try:
                async with asyncio.timeout(TEND_SECONDS * self._rng.uniform(0.8, 1.2)):
                    await wake.wait()
            except TimeoutError:
                pass
            wake.clear()
            if self.up:
                try:
                    await self._tender.tend()
                except StoreDown as error:
                    self._go_down(error)
            await asyncio.sleep(TEND_PAUSE)


async def _all(work: Iterable[Awaitable[object]]) -> None:
    """Do all of it together, to the end; then raise what one of them raised."""
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def id_maker(rng: Callable[[int], str]) -> Callable[[], str]:
    """Give ids that nobody else makes: random ones of the process, with a number."""
    begin, number = rng(12), 0

    def new_id() -> str:
        nonlocal number
        number += 1
        return f"{begin}.{number:x}"

    return new_id
