"""Whether an engine hangs: it works on entries, and for a long time nothing comes of it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from capstan_worker.queue.work import Work


class Watch:
    """Looks at one engine."""

    def __init__(
        self,
        pulse: Callable[[], Awaitable[float | None]],
        *,
        seconds: float,
        every: float,
        now: Callable[[], float] | None = None,
    ) -> None:
        """`pulse` tells how much the engine has computed; None where nothing tells. `look` is called each `every`
        seconds. `now` gives the time in seconds; the running loop's if None."""
        self._pulse = pulse
        self._seconds = seconds
        self._late = every + seconds / 4
        self._now = now or (lambda: asyncio.get_running_loop().time())
        self._since = 0.0
        self._looked = 0.0
        self._known: float | None = None
        self.hung = False

    def begin(self) -> None:
        """The engine has begun to work."""
        self._since = self._looked = self._now()

    def lives(self) -> None:
        """It has given something."""
        self._since = self._now()
        self.hung = False

    async def look(self, works: Sequence[Work]) -> bool:
        """Say whether it has been found now to hang.

        An engine that writes a long answer in one piece gives nothing for minutes: so its own counts decide. Where it
        has none, only answers that stream are believed to come piece by piece. Time counts only while this is asked:
        when the worker itself stood still, nothing could come from the engine, and what it has given meanwhile may
        wait to be read.
        """
        if not works:
            return False
        now = self._now()
        gap, self._looked = now - self._looked, now
        if gap > self._late:
            self._since += gap
        if now - self._since < self._seconds / 2:
            self._known = None
            return False
        pulse = await self._pulse()
        now = self._looked = self._now()
        if pulse is not None and pulse != self._known:
            self._known, self._since = pulse, now - self._seconds / 2
            return False
        if now - self._since < self._seconds or (pulse is None and not any(work.streams for work in works)):
            return False
        self.hung = True
        self._since = now
        return True
