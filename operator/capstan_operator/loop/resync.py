"""The resync: everything is reconciled now and then although nothing was seen to change.

It makes up for what a watch has missed. A pass is good when all models could be listed and each of them was run once; a
model that fails does not spoil a pass. How old the last good one is says whether the operator gets its work done, for
metrics and people; it is no reason to end the process, which could do no better after a restart.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import Final

from capstan_operator.errors import OperatorError
from capstan_operator.resources.resource import ObjectKey

log = logging.getLogger(__name__)

STALE_INTERVALS: Final = 3
JITTER: Final = 0.1


class Resync:
    """Wakes everything every `interval` seconds; `problem` tells when that has stopped working."""

    def __init__(
        self,
        *,
        interval: float,
        list_keys: Callable[[], Awaitable[Iterable[ObjectKey]]],
        wake: Callable[[ObjectKey], None],
        wake_config: Callable[[], None],
        is_idle: Callable[[Iterable[ObjectKey]], bool],
        rng: Callable[[], float] = random.random,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._interval = interval
        self._list_keys = list_keys
        self._wake = wake
        self._wake_config = wake_config
        self._is_idle = is_idle
        self._random = rng
        self._clock = clock
        self._good: float | None = None
        self.is_through = False
        """Whether everything has been reconciled once since the process began."""

    @property
    def age(self) -> float:
        """Seconds since the last good pass ended, or since `run` began; 0 before that."""
        return 0.0 if self._good is None else self._clock() - self._good

    def problem(self) -> str | None:
        """What is wrong, or None. A process that does not hold the lease yet is well."""
        if self.age <= STALE_INTERVALS * self._interval:
            return None
        return f"the last complete resync is {self.age:.0f} s old; it is due every {self._interval:.0f} s"

    async def run(self) -> None:
        """Resync until cancelled."""
        self._good = self._clock()
        while True:
            try:
                async with asyncio.timeout(STALE_INTERVALS * self._interval):
                    await self._pass()
                pause = self._interval * (1 + JITTER * (2 * self._random() - 1))
            except (OperatorError, TimeoutError) as error:
                log.warning("resync failed", extra={"error": str(error) or type(error).__name__})
                pause = min(self._interval, 10.0)
            except Exception:
                log.exception("resync failed")
                pause = min(self._interval, 10.0)
            await asyncio.sleep(pause)

    async def _pass(self) -> None:
        started = self._clock()
        keys = list(await self._list_keys())
        self._wake_config()
        for key in keys:
            self._wake(key)
        # NB: each key once, not all at the same moment: under steady change some key is always busy.
        left = [key for key in keys if not self._is_idle([key])]
        while left:
            await asyncio.sleep(0.25)
            left = [key for key in left if not self._is_idle([key])]
        self._good, self.is_through = self._clock(), True
        log.info("resynced", extra={"models": len(keys), "seconds": round(self._good - started, 3)})
