"""Whether the event loop turns, and how long it has stood still at most."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

EVERY: Final = 0.25
STILL_SECONDS: Final = 30.0
"""A loop that has not turned for so long hangs."""


class Heartbeat:
    """Beats while the loop turns: `run` until cancelled."""

    def __init__(self, *, every: float = EVERY, clock: Callable[[], float] = monotonic) -> None:
        self._every = every
        self._clock = clock
        self._last: float | None = None
        self.longest_stall = 0.0
        """Seconds by which a beat was late at most: the loop did something else for so long."""

    @property
    def age(self) -> float:
        """Seconds since the last beat; 0 before the first one."""
        return 0.0 if self._last is None else self._clock() - self._last

    def problem(self) -> str | None:
        """What is wrong, or None."""
        return f"the event loop has not turned for {self.age:.0f} s" if self.age > STILL_SECONDS else None

    async def run(self) -> None:
        """Beat until cancelled."""
        self._last = self._clock()
        while True:
            await asyncio.sleep(self._every)
            now = self._clock()
            self.longest_stall = max(self.longest_stall, now - self._last - self._every)
            self._last = now
