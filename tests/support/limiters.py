"""Several gateways' limiters on one store in memory, in a time that the test makes pass."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from capstan_gateway.limits.limiter import StoreLimiter
from capstan_gateway.limits.memory import MemoryLimitStore
from capstan_gateway.limits.port import LEASE_MS, Charge, Rate, Reservation, StoreDown, Verdict

START_MS = 1_796_000_000_000
LATENCY = 0.002


def now_ms() -> int:
    """Give the loop's time as if it were the store's."""
    return START_MS + int(asyncio.get_running_loop().time() * 1000)


class Wire:
    """A gateway's way to the store: it takes a moment, may be away, and may lose answers of what was done."""

    def __init__(self, store: MemoryLimitStore, rng: Random) -> None:
        self._store, self._rng = store, rng
        self.away = False
        self.loses = False
        """Whether answers get lost: what was asked is done all the same."""
        self.dead = False
        self.calls = 0

    async def _way(self) -> None:
        self.calls += 1
        await asyncio.sleep(self._rng.uniform(0, LATENCY / 2))
        if self.away or self.dead:
            raise StoreDown("away")

    async def _back(self) -> None:
        await asyncio.sleep(self._rng.uniform(0, LATENCY / 2))
        if self.loses or self.dead:
            raise StoreDown("lost")

    async def reserve(
        self, id: str, charges: Sequence[Charge], *, lease_ms: int = LEASE_MS, keeps: bool = False, force: bool = False
    ) -> Verdict:
        await self._way()
        verdict = await self._store.reserve(id, charges, lease_ms=lease_ms, keeps=keeps, force=force)
        await self._back()
        return verdict

    async def extend(self, id: str, charges: Sequence[Charge], *, used: Sequence[int]) -> Verdict:
        await self._way()
        verdict = await self._store.extend(id, charges, used=used)
        await self._back()
        return verdict

    async def settle(self, group: str, id: str, used: Sequence[int]) -> None:
        await self._way()
        await self._store.settle(group, id, used)
        await self._back()

    async def renew(self, group: str, used: Sequence[tuple[str, Sequence[int]]], *, lease_ms: int = LEASE_MS) -> None:
        await self._way()
        await self._store.renew(group, used, lease_ms=lease_ms)
        await self._back()


class Gateway:
    """One limiter with its work in the background."""

    def __init__(self, fleet: "Fleet", name: str, *, shares: bool) -> None:
        self._fleet = fleet
        self.wire = Wire(fleet.store, fleet.rng)
        self._ids = 0
        self._name = name
        self.limiter = StoreLimiter(
            self.wire, pulse=self._pulse, clock=asyncio.get_running_loop().time, now_ms=now_ms, rng=fleet.rng,
            new_id=self._id, gateways=fleet.gateways, shares=shares,
        )  # fmt: skip
        self._work = asyncio.create_task(self.limiter.run())

    def _id(self) -> str:
        self._ids += 1
        return f"{self._name}.{self._ids}"

    async def _pulse(self) -> int:
        await self.wire._way()
        return self._fleet.gateways

    async def ask(self, charges: Sequence[Charge], *, local: bool = False) -> Reservation | Verdict | None:
        """Ask as the pipeline does: at hand, else at the store; None where that is down."""
        found = self.limiter.take(charges, local=local)
        if found is not None:
            return found
        try:
            return await self.limiter.reserve(charges, local=local)
        except StoreDown:
            return None

    def crash(self) -> None:
        """Die in the middle of everything: what runs uses nothing, and what the store has not heard it never hears."""
        self.wire.dead = True
        self._work.cancel()
        for request in tuple(self._fleet.running):
            if request.gateway is self:
                self._fleet.running.discard(request)
                self._fleet.admitted.remove(request)
        self._fleet.unheard += sum(end.used[0] for end in self.limiter._ends._items)

    async def end(self) -> None:
        """End as a gateway does that is told to."""
        await self.limiter.aclose()
        self._work.cancel()
        await asyncio.gather(self._work, return_exceptions=True)


@dataclass(eq=False)
class Admitted:
    """One request."""

    time: float
    amount: int
    """What it uses in the end."""
    gateway: Gateway
    until: float = float("inf")


@dataclass
class Fleet:
    """The gateways, their store, and what was admitted when."""

    seed: int
    gateways: int = 1
    shares: bool = True
    local: bool = False
    """Whether requests are decided in memory while the store is away."""
    store: MemoryLimitStore = field(default_factory=lambda: MemoryLimitStore(now_ms))
    admitted: list[Admitted] = field(default_factory=list)
    running: set[Admitted] = field(default_factory=set)
    looks: int = 0
    unheard: int = 0
    """What was used, and nobody has told the store before its gateway died: it goes back with the lease."""
    members: list[Gateway] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)  # noqa: S311 - what takes how long

    def start(self) -> Gateway:
        """Add a gateway."""
        gateway = Gateway(self, f"g{len(self.members)}", shares=self.shares)
        self.members.append(gateway)
        return gateway

    async def request(self, gateway: Gateway, charges: Sequence[Charge], *, used: int, seconds: float) -> bool:
        """Ask for one request, which runs for a while; say whether it was admitted."""
        found = await gateway.ask(charges, local=self.local)
        if found is None or isinstance(found, Verdict):
            return False
        admitted = Admitted(asyncio.get_running_loop().time(), used, gateway)
        self.admitted.append(admitted)
        self.running.add(admitted)
        asyncio.get_running_loop().call_later(seconds, self._end, admitted, found, [used] * len(charges))
        return True

    def _end(self, admitted: "Admitted", reservation: Reservation, used: Sequence[int]) -> None:
        if admitted in self.running:
            self.running.discard(admitted)
            admitted.until = asyncio.get_running_loop().time()
            reservation.settle(used)

    def most_beyond(self, rule: Rate) -> int:
        """Give by how much more was admitted in any time than a token bucket has; 0 or less is right."""
        unit = rule.amount / rule.window_ms
        # What comes in during a time is the same as what the time of each admission says, so one pass is enough.
        found, least, total = -rule.capacity, float("inf"), 0
        for one in sorted(self.admitted, key=lambda one: one.time):
            millis = one.time * 1000
            least = min(least, total - millis * unit)
            total += one.amount
            found = max(found, int(total - millis * unit - least - unit * (LATENCY * 1000 + 1)) - rule.capacity)
        return found

    def most_at_once(self) -> int:
        """Give how many ran at one moment."""
        ends = [(one.until, -1) for one in self.admitted if one.until < float("inf")]
        most = running = 0
        for _, step in sorted([*((one.time, 1) for one in self.admitted), *ends]):
            running += step
            most = max(most, running)
        return most

    async def left(self, charges: Sequence[Charge]) -> int:
        """Say how much there is, when all leases that are over have been ended."""
        for _ in range(50):
            self.looks += 1
            found = await self.store.reserve(f"look{self.looks}", charges)
        return found.standings[0].remaining
