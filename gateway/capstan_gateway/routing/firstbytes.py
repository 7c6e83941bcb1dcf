"""How long streams take to begin, and which of them are late. Pure."""

from collections import deque
from typing import Final

SAMPLES: Final = 128
LEAST_SAMPLES: Final = 20
"""Of fewer answers nobody knows what is late."""
EVERY: Final = 16
"""After how many samples the quantile is computed again."""
LATE: Final = 0.95


class FirstBytes:
    """The latest times to a first byte of one model, and which of them are late."""

    __slots__ = ("_fresh", "_late", "_seconds")

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=SAMPLES)
        self._fresh = 0
        self._late: float | None = None

    def observe(self, seconds: float) -> None:
        """Take one time."""
        self._seconds.append(seconds)
        self._fresh += 1

    def late(self) -> float | None:
        """Give the time that nineteen of twenty stay below; None as long as too few are known."""
        if len(self._seconds) < LEAST_SAMPLES:
            return None
        if self._late is None or self._fresh >= EVERY:
            self._late = sorted(self._seconds)[int(LATE * (len(self._seconds) - 1))]
            self._fresh = 0
        return self._late
