"""One budget of bytes for the whole process: whoever holds bytes of requests and answers takes them from it.

A `MemoryBudget` is shared by everybody. A `Share` belongs to one holder, which grows it before it holds more, and
releases it when it is done. Nothing here waits, and nothing raises: who gets no room says so to the client.

    share = budget.share()
    if not share.grow(len(body)):     # False: nothing was taken
        raise Overloaded(...)
    ...
    share.release()                   # once or twice, it makes no difference

Whoever holds what it could do without says so (`lenders`): when somebody finds no room, lenders give back, one after
the other, until there is room or none has anything left to give.

It is for the thread of the event loop alone.
"""

from collections.abc import Callable
from typing import Final

KEPT_PART: Final = 4
"""One part in so many is kept from what is large: when large bodies fill the rest, small ones are still taken."""
LARGE_PART: Final = 256
"""What takes more than one part in so many of the budget is large."""


class MemoryBudget:
    """So many bytes may be held at once."""

    __slots__ = ("_for_large", "_large", "held", "lenders", "limit", "refused")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        """By all shares together."""
        self.refused = 0
        """How often there was no room."""
        self.lenders: list[Callable[[], bool]] = []
        """Each gives something back at once when it is called; False when it has nothing to give."""
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

    def make_room(self, size: int, *, beside: int = 0) -> bool:
        """Have others give back until a holder that has `beside` bytes may hold so many more; False when it may not."""
        if not self.ever_fits(beside + size):
            return False
        while any(lender() for lender in self.lenders):
            if self.has_room(size, beside=beside):
                return True
        return False

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
        beside = self.held
        if self.released or not (budget.has_room(size, beside=beside) or budget.make_room(size, beside=beside)):
            budget.refused += 1
            return False
        budget.held += size
        self.held += size
        return True

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
