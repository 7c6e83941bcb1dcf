"""The least and the most of what was said within a stretch of time, in little memory."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

MOST_SLOTS: Final = 64


@dataclass
class _Slot:
    begin: float
    least: int
    most: int


@dataclass
class Window:
    """Numbers of the last `seconds`. What is older than the stretch by less than a 64th of it may still count."""

    seconds: float
    _slots: deque[_Slot] = field(default_factory=deque)
    _since: float | None = None

    def add(self, number: int, now: float) -> None:
        """Add what is said now; moments never go back."""
        if self._since is None:
            self._since = now
        width = self.seconds / MOST_SLOTS
        if self._slots and now - self._slots[-1].begin < width:
            slot = self._slots[-1]
            slot.least, slot.most = min(slot.least, number), max(slot.most, number)
        else:
            self._slots.append(_Slot(now, number, number))
        while len(self._slots) > 1 and now - self._slots[1].begin >= self.seconds:
            self._slots.popleft()
        if now - self._slots[0].begin >= self.seconds + width and len(self._slots) > 1:
            self._slots.popleft()

    def is_full(self, now: float) -> bool:
        """Whether something was said all the stretch long."""
        return self._since is not None and now - self._since >= self.seconds

    def clear(self) -> None:
        """Forget everything: what was said since then is not known."""
        self._slots.clear()
        self._since = None

    @property
    def least(self) -> int:
        """The least; it must not be empty."""
        return min(slot.least for slot in self._slots)

    @property
    def most(self) -> int:
        """The most; it must not be empty."""
        return max(slot.most for slot in self._slots)
