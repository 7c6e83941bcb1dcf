"""One budget of bytes for the whole process: whoever holds bytes of requests and answers takes them from it.

A `MemoryBudget` is shared by everybody. A `Share` belongs to one holder, which grows it before it holds more, and
releases it when it is done. Nothing here waits, and nothing raises: who gets no room says so to the client.

    share = budget.share()
    if not share.grow(len(body)):     # False: nothing was taken
        raise Overloaded(...)
    ...
    share.release()                   # once or twice, it makes no difference

Whoever holds what it could do without says so (`lenders`): when somebody finds no room, as few of these loans are given
back as make room, and none where all of them would not. Nobody gives back what it needs itself.

It is for the thread of the event loop alone.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

KEPT_PART: Final = 4
"""One part in so many is kept from what is large: when large bodies fill the rest, small ones are still taken."""
LARGE_PART: Final = 256
"""What takes more than one part in so many of the budget is large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loan:
    """Bytes that somebody holds and could do without."""

    owner: "Share | None"
    """What they were taken for: its holder gets none of its own back by asking for more."""
    size: int
    rank: float
    """The lowest is given back first."""
    give_back: Callable[[], object]
    """Gives them back, at once."""


class Lender(Protocol):
    """Who knows of loans."""

    def lendable(self) -> int:
        """Give about how many bytes all its loans are. It is asked by everybody who finds no room, so it is quick."""
        ...

    def loans(self) -> Iterable[Loan]:
        """Give the loans, in any order."""
        ...


def enough_of(loans: Iterable[Loan], needed: int) -> Sequence[Loan]:
    """Give those that are to be given back for so many bytes, the lowest first; none when all would not suffice.

    None of them is superfluous: without any one of them it would not be enough.
    """
    chosen: list[Loan] = []
    size = 0
    for loan in sorted(loans, key=lambda loan: loan.rank):
        if size >= needed:
            break
        chosen.append(loan)
        size += loan.size
    if size < needed:
        return ()
    kept = chosen[-1:]
    for loan in reversed(chosen[:-1]):
        if size - loan.size >= needed:
            size -= loan.size
        else:
            kept.append(loan)
    return kept[::-1]


class MemoryBudget:
    """So many bytes may be held at once."""

    __slots__ = ("_for_large", "_large", "held", "lenders", "limit", "refused")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        """By all shares together."""
        self.refused = 0
        """How often there was no room."""
        self.lenders: list[Lender] = []
        self._large = limit // LARGE_PART
        self._for_large = limit - limit // KEPT_PART

    def share(self) -> "Share":
        """Open the account of one holder, which holds nothing yet."""
        return Share(self)

    def ever_fits(self, size: int) -> bool:
        """Whether a holder could have so many bytes if it were alone."""
        return size <= self._bound(size)

    def has_room(self, size: int, *, beside: int = 0) -> bool:
        """Whether a holder that has `beside` bytes may hold so many more now: what grows slowly gets large too."""
        return self.held + size <= self._bound(beside + size)

    def make_room(self, size: int, *, asker: "Share") -> bool:
        """Have others give back until this holder may hold so many more. Where it may not all keep theirs: False."""
        wanted = asker.held + size
        needed = self.held + size - self._bound(wanted)
        if not self.ever_fits(wanted) or sum(lender.lendable() for lender in self.lenders) < needed:
            return False
        loans = (loan for lender in self.lenders for loan in lender.loans() if loan.owner is not asker)
        for loan in enough_of(loans, needed):
            loan.give_back()
        return self.has_room(size, beside=asker.held)

    def _bound(self, size: int) -> int:
        return self._for_large if size > self._large else self.limit


class Share:
    """What one holder has of a budget."""

    __slots__ = ("_budget", "held", "released")

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self.held = 0
        self.released = False

    def grow(self, size: int) -> bool:
        """Take so many bytes more; False, and nothing taken, when there is no room or the share was released."""
        budget = self._budget
        if self.released or not (budget.has_room(size, beside=self.held) or budget.make_room(size, asker=self)):
            budget.refused += 1
            return False
        budget.held += size
        self.held += size
        return True

    def has_room(self, size: int) -> bool:
        """Whether it could take so many more without anybody's giving anything back; it is no refusal if not."""
        return not self.released and self._budget.has_room(size, beside=self.held)

    def grow_to(self, size: int) -> bool:
        """Hold at least so many bytes; False, and nothing taken, when there is no room."""
        return size <= self.held or self.grow(size - self.held)

    def grow_easily(self, size: int) -> bool:
        """Take so many bytes more if half of the budget is still free behind that; it is no refusal if it is not."""
        budget = self._budget
        return budget.held + size <= budget.limit // 2 and self.grow(size)

    def shrink_to(self, size: int) -> None:
        """Hold at most so many bytes."""
        if size < self.held:
            self._budget.held -= self.held - size
            self.held = size

    def ever_fits(self, size: int) -> bool:
        """Whether a share could hold so many bytes if it were the only one."""
        return self._budget.ever_fits(size)

    def release(self) -> None:
        """Give everything back; what comes later is refused."""
        self.shrink_to(0)
        self.released = True
