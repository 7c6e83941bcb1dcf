"""Who is served next of those that wait in lanes, so that no lane waits for another one: pure, with the time given.

A lane has one thing in work at a time, in the order in which they came. A lane that was slow, because something of it
hung, is served beside the others for a while, in half of the places: however many lanes hang, the
others have the other half.
"""

from collections import OrderedDict, deque
from typing import Final, Generic, TypeVar

T = TypeVar("T")

SLOW_FOR: Final = 60.0
"""Seconds for which a lane counts as slow after something of it hung."""


class Lanes(Generic[T]):
    """The rules: `add` what waits, `take` what is next, `done` when it is through."""

    def __init__(self, *, places: int, most: int) -> None:
        self._places = places
        self._most = most
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        self._count = 0
        self._busy: dict[str, bool] = {}
        self._slow: dict[str, float] = {}

    def add(self, lane: str, item: T) -> T | None:
        """Let something wait; give what had to go for it: the newest of the longest lane, itself perhaps."""
        lost: T | None = None
        if self._count >= self._most:
            longest = max(self._waiting, key=lambda name: len(self._waiting[name]))
            if len(self._waiting[longest]) <= len(self._waiting.get(lane, ())) + 1:
                return item
            lost = self._waiting[longest].pop()
            self._count -= 1
        self._waiting.setdefault(lane, deque()).append(item)
        self._count += 1
        return lost

    def take(self, now: float) -> tuple[str, T] | None:
        """Give what is next, and its lane; None when nothing may be begun now."""
        self._slow = {lane: until for lane, until in self._slow.items() if until > now}
        if len(self._busy) >= self._places:
            return None
        slow_free = sum(self._busy.values()) < max(self._places // 2, 1)
        for lane, items in self._waiting.items():  # NB: in the order in which they came, or were served last
            slow = lane in self._slow
            if lane in self._busy or (slow and not slow_free):
                continue
            item = items.popleft()
            self._count -= 1
            self._busy[lane] = slow
            if items:
                self._waiting.move_to_end(lane)
            else:
                del self._waiting[lane]
            return lane, item
        return None

    def done(self, lane: str, now: float, *, hung: bool) -> None:
        """What was taken of a lane is through; `hung`: it took far too long."""
        del self._busy[lane]
        if hung:
            self._slow[lane] = now + SLOW_FOR
        else:
            self._slow.pop(lane, None)

    def __len__(self) -> int:
        """How many wait."""
        return self._count
