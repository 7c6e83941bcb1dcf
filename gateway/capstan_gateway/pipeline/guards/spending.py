"""What was spent within the last hour, to a minute. Pure."""

from collections import deque
from typing import Final

MINUTE: Final = 60.0
_MINUTES: Final = 60


class LastHour:
    """A sum over the last hour: of whole minutes, so that it has no more than 61 numbers."""

    def __init__(self) -> None:
        self._minutes: deque[list[int]] = deque()
        self._sum = 0

    def add(self, nano_dollars: int, now: float) -> None:
        """Count what is spent `now`, in seconds of a clock that never goes back."""
        minute = int(now // MINUTE)
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append([minute, 0])
        self._minutes[-1][1] += nano_dollars
        self._sum += nano_dollars
        self._forget(minute)

    def sum(self, now: float) -> int:
        """Give what was spent within the hour up to `now`: nano-dollars."""
        self._forget(int(now // MINUTE))
        return self._sum

    def _forget(self, minute: int) -> None:
        while self._minutes and self._minutes[0][0] <= minute - _MINUTES:
            self._sum -= self._minutes.popleft()[1]
