"""Entries in the memory of the process: bounded by bytes and by number, and shared by tenants.

    an entry has no room ─► the tenant that has the most (within a factor of 2) ─► its least recently used go

So who asks for very many different things pushes out what is its own: a tenant that has half of an equal share or less
loses nothing to others. An entry for which only such tenants could make room is not kept, and none for which hundreds
of others would have to go: it is not worth them, and to push them out would take the loop's time.

Least recently used, and no cleverer policy, for a reason: an entry costs a model's answer, not a read from a disk, and
what is asked again is asked again soon (80% of all reuse of prefixes in chats is within ten minutes: arXiv 2506.02634).
One-hit wonders, for which W-TinyLFU and S3-FIFO are better, push out little within the life of an entry; and no kept
library of those bounds by bytes without a thread of its own.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, Protocol

from capstan_gateway.caches.key import tenant_of
from capstan_gateway.caches.port import CacheKey, Entry

TENANT_BYTES: Final = 768
"""What a tenant takes beside its entries. Measured: some 720 bytes for one of a single entry."""
SLICE: Final = 500
"""Entries that are looked at in one go: less than a millisecond."""
MOST_PUSHED_OUT: Final = 500
"""Entries that go for one that is put in place of them: some milliseconds."""
_LOOKED_AT: Final = 4
"""Entries of a tenant that are looked at with each that is put: those that have expired go, also of who is gone."""


class Account(Protocol):
    """Who grants the bytes that entries take; `lending.CacheBytes` is one."""

    def take(self, size: int) -> bool:
        """Take so many more; False where there is no room for them, whatever is given back."""
        ...

    def give_back(self, size: int) -> None:
        """Give so many back."""
        ...


class Unbounded:
    """Implements `Account` where only the bounds of the policy hold."""

    def take(self, size: int) -> bool:  # noqa: ARG002 - of the port
        """Take them."""
        return True

    def give_back(self, size: int) -> None:
        """Nobody counts."""


def _nothing_purged(_key: CacheKey, _created_ms: int) -> bool:
    return False


class _Tenant:
    """What one tenant has."""

    __slots__ = ("charge", "entries")

    def __init__(self) -> None:
        self.entries: OrderedDict[CacheKey, Entry] = OrderedDict()
        """The least recently used first."""
        self.charge = 0
        """Its bytes, where an entry counts as its part of the number of entries at least."""


class MemoryEntries:
    """Not safe for threads: everything is for the loop's thread, and takes microseconds."""

    def __init__(
        self,
        *,
        max_bytes: int,
        max_entries: int,
        now_ms: Callable[[], int],
        account: Account | None = None,
        purged: Callable[[CacheKey, int], bool] = _nothing_purged,
    ) -> None:
        """Make it. `purged` says whether an entry of this key that was made then is not to be kept, or given."""
        self.max_bytes: Final = max_bytes
        self._max_entries: Final = max_entries
        self._least_charge: Final = max_bytes // max_entries
        self._now_ms: Final = now_ms
        self._account: Final[Account] = account or Unbounded()
        self._purged: Final = purged
        self._tenants: OrderedDict[str, _Tenant] = OrderedDict()
        """Those that have entries, in the order in which they are looked at next."""
        self._ranks: list[OrderedDict[str, None]] = [OrderedDict()]
        """Their names by the number of bits of their charges; the last is not empty, or is the only one."""
        self._count = 0
        self._bytes = 0
        self._closed = False
        self.evicted = 0
        """Entries that went because others came, or because requests needed their room."""

    def __len__(self) -> int:
        return self._count

    @property
    def bytes(self) -> int:
        """How many bytes its entries are counted as."""
        return self._bytes

    def get(self, key: CacheKey) -> Entry | None:
        """Give an entry that has not expired and is not purged; that makes it the most recently used, and prolongs
        nothing."""
        tenant = self._tenants.get(tenant_of(key.partition))
        entry = None if tenant is None else tenant.entries.get(key)
        if tenant is None or entry is None:
            return None
        if self._is_over(key, entry):
            self.drop(key)
            return None
        tenant.entries.move_to_end(key)
        return entry

    def peek(self, key: CacheKey) -> Entry | None:
        """Give an entry to who only looks: it is not the most recently used for that."""
        tenant = self._tenants.get(tenant_of(key.partition))
        entry = None if tenant is None else tenant.entries.get(key)
        return None if entry is None or self._is_over(key, entry) else entry

    def put(self, key: CacheKey, entry: Entry) -> bool:
        """Keep an entry in place of what was there; False for one that has no room, or is purged."""
        self.drop(key)
        self._forget_expired()
        size, whose = entry.size, tenant_of(key.partition)
        if self._closed or size + TENANT_BYTES > self.max_bytes or self._purged(key, entry.created_ms):
            return False
        if not self._make_room(whose, size):
            return False
        taken = self._taken_by(whose, size)
        if not self._account.take(taken):
            return False
        # NB: room for it may have been made of what the tenant had.
        if taken != self._taken_by(whose, size) and not self._account.take(TENANT_BYTES):
            self._account.give_back(taken)
            return False
        self._add(whose, key, entry)
        return True

    def evict(self, size: int) -> None:
        """Have so many bytes, or more, be free: the least recently used of who has the most go."""
        least = max(self._bytes - size, 0)
        while self._bytes > least:
            self._evict(self._largest)

    def push_out(self, size: int) -> bool:
        """Do the same for an entry that comes; False where it is not worth those that would go, of which not more than
        `MOST_PUSHED_OUT` go then."""
        least, left = max(self._bytes - size, 0), MOST_PUSHED_OUT
        while self._bytes > least:
            if not left or (left == MOST_PUSHED_OUT and not self._gives(self._largest, size)):
                return False
            self._evict(self._largest)
            left -= 1
        return True

    def drop(self, key: CacheKey) -> bool:
        """Forget an entry; False when there is none."""
        whose = tenant_of(key.partition)
        tenant = self._tenants.get(whose)
        entry = None if tenant is None else tenant.entries.pop(key, None)
        if tenant is None or entry is None:
            return False
        self._freed(whose, tenant, entry)
        return True

    def sweep(self) -> Iterator[None]:
        """Forget what is over, a slice at a time: whoever goes through it serves others in between."""
        looked = 0
        for whose in tuple(self._tenants):
            tenant = self._tenants.get(whose)
            for key in () if tenant is None else tuple(tenant.entries):
                entry = tenant.entries.get(key) if tenant is not None else None
                if entry is not None and self._is_over(key, entry):
                    self.drop(key)
                looked += 1
                if looked % SLICE == 0:
                    yield

    def close(self) -> Iterator[None]:
        """Forget all entries, and keep none any more: the policy is gone, or is another one now.

        That is done when it returns. To let go of the memory takes longer: whoever goes through what it gives does
        that, a slice at a time.
        """
        going = self._tenants
        self._account.give_back(self._bytes)
        self._tenants, self._ranks = OrderedDict(), [OrderedDict()]
        self._count, self._bytes, self._closed = 0, 0, True
        return _let_go(going)

    # --- who has how much ---------------------------------------------------------------------------------------------

    def _is_over(self, key: CacheKey, entry: Entry) -> bool:
        return entry.expires_ms <= self._now_ms() or self._purged(key, entry.created_ms)

    def _taken_by(self, whose: str, size: int) -> int:
        return size if whose in self._tenants else size + TENANT_BYTES

    def _add(self, whose: str, key: CacheKey, entry: Entry) -> None:
        self._bytes += self._taken_by(whose, entry.size)
        tenant = self._tenants.get(whose)
        if tenant is None:
            tenant = self._tenants[whose] = _Tenant()
        tenant.entries[key] = entry
        self._count += 1
        self._charge(whose, tenant, self._charge_of(entry.size))

    def _freed(self, whose: str, tenant: _Tenant, entry: Entry) -> None:
        self._count -= 1
        self._charge(whose, tenant, -self._charge_of(entry.size))
        if not tenant.entries:
            del self._tenants[whose]
        freed = self._taken_by(whose, entry.size)
        self._bytes -= freed
        self._account.give_back(freed)

    def _charge_of(self, size: int) -> int:
        return max(size, self._least_charge)

    def _charge(self, whose: str, tenant: _Tenant, more: int) -> None:
        before, after = tenant.charge.bit_length(), (tenant.charge + more).bit_length()
        tenant.charge += more
        if before == after:
            return
        ranks = self._ranks
        ranks[before].pop(whose, None)
        if after:
            ranks.extend(OrderedDict() for _ in range(len(ranks), after + 1))
            ranks[after][whose] = None
        while len(ranks) > 1 and not ranks[-1]:
            ranks.pop()

    @property
    def _largest(self) -> str:
        return next(iter(self._ranks[-1]))

    def _make_room(self, whose: str, size: int) -> bool:
        """Make it for an entry of a tenant's; False where none is to be made, or too many would have to go."""
        left = MOST_PUSHED_OUT
        while True:
            missing = self._bytes + self._taken_by(whose, size) - self.max_bytes
            if missing <= 0 and self._count < self._max_entries:
                return True
            loser = self._loser(whose, size)
            if loser is None or not left or (left == MOST_PUSHED_OUT and not self._gives(loser, missing)):
                return False
            self._evict(loser)
            left -= 1

    def _loser(self, whose: str, size: int) -> str | None:
        """Give who makes room for an entry of a tenant's, which counts as if it had it; None where nobody is to."""
        tenant = self._tenants.get(whose)
        rank = ((0 if tenant is None else tenant.charge) + self._charge_of(size)).bit_length()
        if rank < len(self._ranks):
            return self._largest
        return None if tenant is None else whose

    def _gives(self, whose: str, size: int) -> bool:
        """Whether the first of a tenant's to go may make so much room, as far as it alone says."""
        entries = self._tenants[whose].entries
        freed = 0
        for entry in islice(entries.values(), MOST_PUSHED_OUT):
            freed += entry.size
            if freed >= size:
                return True
        return len(entries) < MOST_PUSHED_OUT

    def _evict(self, whose: str) -> None:
        tenant = self._tenants[whose]
        _, oldest = tenant.entries.popitem(last=False)
        self.evicted += 1
        self._freed(whose, tenant, oldest)

    def _forget_expired(self) -> None:
        """Look at the next tenant's least recently used entries: who is gone is to take no room from the others."""
        if not self._tenants:
            return
        whose, tenant = next(iter(self._tenants.items()))
        self._tenants.move_to_end(whose)
        now = self._now_ms()
        for key in [key for key, entry in islice(tenant.entries.items(), _LOOKED_AT) if entry.expires_ms <= now]:
            self.drop(key)


def _let_go(tenants: OrderedDict[str, _Tenant]) -> Iterator[None]:
    count = 0
    while tenants:
        _, tenant = tenants.popitem()
        while tenant.entries:
            tenant.entries.popitem()
            count += 1
            if count % SLICE == 0:
                yield
