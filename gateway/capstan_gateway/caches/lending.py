"""The bytes of all caches in the memory budget of the process: a part of it, and given back when requests need it."""

from collections.abc import Callable, Iterable
from typing import Final, Protocol

from capstan_gateway.memory import Loan, MemoryBudget

PART: Final = 4
"""All caches together have one part in so many of the budget at most, whatever their policies say."""
LOANS: Final = 64
"""In how many pieces a cache is given back."""
RANK: Final = -1.0
"""Before anything else that is lent: whoever asks again has only waited for a model again."""


class Evicting(Protocol):
    """Whose entries are counted; `memory.MemoryEntries` is one."""

    @property
    def bytes(self) -> int:
        """How many it holds."""
        ...

    def evict(self, size: int) -> None:
        """Have so many be free."""
        ...

    def push_out(self, size: int) -> bool:
        """Have so many be free for an entry; False where it is not worth those that would have to go."""
        ...


class CacheBytes:
    """Implements `memory.Account` for all caches, and the budget's `Lender`."""

    def __init__(self, budget: MemoryBudget, holders: Callable[[], Iterable[Evicting]]) -> None:
        """Make it. `holders` gives the caches that there are."""
        self._share: Final = budget.share()
        self._holders: Final = holders
        self.limit: Final = budget.limit // PART
        budget.lenders.append(self)

    @property
    def held(self) -> int:
        """How many bytes all caches hold."""
        return self._share.held

    def take(self, size: int) -> bool:
        """Take so many more; where they have their part already, the largest cache gives back."""
        if size > self.limit:
            return False
        while self._share.held + size > self.limit:
            largest = max(self._holders(), key=lambda one: one.bytes, default=None)
            if largest is None or not largest.bytes:
                return False
            if not largest.push_out(self._share.held + size - self.limit):
                return False
        # NB: nobody else gives anything back for a cache.
        return self._share.has_room(size) and self._share.grow(size)

    def give_back(self, size: int) -> None:
        """Give so many back."""
        self._share.shrink_to(self._share.held - size)

    def lendable(self) -> int:
        """Give how many bytes requests could have of it."""
        return self._share.held

    def loans(self) -> Iterable[Loan]:
        """Give the caches in pieces, the least recently used first to go whichever is given back."""
        for holder in self._holders():
            piece = holder.bytes // LOANS
            rest = holder.bytes - piece * (LOANS - 1)
            for size in (rest, *((piece,) * (LOANS - 1))):
                if size:
                    yield Loan(owner=self._share, size=size, rank=RANK, give_back=_giving_back(holder, size))


def _giving_back(holder: Evicting, size: int) -> Callable[[], None]:
    return lambda: holder.evict(size)
