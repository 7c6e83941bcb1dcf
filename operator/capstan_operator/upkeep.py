"""What the process does to need little memory, and to stand still for short times only.

Memory: glibc gives each thread an arena of its own, and no longer gives large blocks back on their own once it has seen
some of them freed: with the lists of thousands of objects that come and go, a third of the process was memory that
nobody used. Here it has few arenas, and what is free is given back now and then.

Garbage: to collect the oldest generation means to look at everything that was ever kept, for 100 ms and more with 5,000
models. What is read from the API server has no cycles and goes without a collector. So the young generations are
small, which bounds each of their collections; the oldest is never collected by itself; what has lived for a while is
set aside (`gc.freeze`), where no collection looks at it. If far more is there than the last thorough look has found,
there may be garbage with cycles in it, and everything is looked at once: that takes 0.4 s with 5,000 models, and waits
for a time when nothing is to be done, unless there is twice as much again.
"""

import asyncio
import ctypes
import gc
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Final

log = logging.getLogger(__name__)

GC_THRESHOLDS: Final = (2_000, 4, 1_000_000)
"""A collection of the second generation looks at 8,000 objects or so, and takes some 10 ms on a busy machine."""
SWITCH_SECONDS: Final = 0.0005
"""How long another thread (kopf's, the compiler's) may keep the interpreter when the loop wants it. A step of the loop
that sends ten requests gives it away ten times."""
EVERY: Final = 5.0
TRIM_EVERY: Final = 6
"""Rounds between two times that free memory is given back."""
MOST_GROWTH: Final = 2.0
"""How many times as many objects as after the last thorough look are there before the next one."""
LEAST_OBJECTS: Final = 700_000
"""So many are always left alone. 3,000 models are 270,000, and each change of a model leaves some ten behind."""

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_ARENAS: Final = 2
_LARGE_BYTES: Final = 256 * 1024
"""Blocks from this size on are given back as soon as they are freed."""
_TOP_BYTES: Final = 1024 * 1024


def prepare_process() -> None:
    """Set up the collector and the allocator. Call it once, before other threads begin."""
    gc.set_threshold(*GC_THRESHOLDS)
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_SECONDS)
    limit_arenas()


def limit_arenas() -> bool:
    """Have glibc keep few arenas; False for another C library, which is left as it is."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    set_to = ((_M_ARENA_MAX, _ARENAS), (_M_MMAP_THRESHOLD, _LARGE_BYTES), (_M_TRIM_THRESHOLD, _TOP_BYTES))
    taken = [bool(mallopt(which, value)) for which, value in set_to]
    return all(taken)


def give_back() -> None:
    """Give memory that is free back to the system. Other threads go on meanwhile."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return
    trim(ctypes.c_size_t(0))


@dataclass
class Ledger:
    """How many objects there were after the last thorough look: pure."""

    least: int = LEAST_OBJECTS
    known: int = 0

    def must_look(self, frozen: int, *, busy: bool) -> bool:
        """Whether far more objects are there than are accounted for; `busy` waits for twice as much."""
        most = max(self.least, self.known * MOST_GROWTH)
        return frozen > (most * 2 if busy else most)

    def looked(self, frozen: int) -> None:
        """So many are left after a thorough look."""
        self.known = frozen


class Upkeep:
    """Does all this again and again: `run` until cancelled."""

    def __init__(self, *, is_busy: Callable[[], bool], every: float = EVERY, ledger: Ledger | None = None) -> None:
        self._is_busy = is_busy
        self._every = every
        self._ledger = ledger or Ledger()

    async def run(self) -> None:
        """Go on until cancelled."""
        number = 0
        while True:
            await asyncio.sleep(self._every)
            self.set_aside()
            number += 1
            if number % TRIM_EVERY == 0:
                await asyncio.to_thread(give_back)

    def set_aside(self) -> None:
        """Have what is there now looked at no more, but for a thorough look where too much has piled up."""
        busy = self._is_busy()
        if self._ledger.must_look(gc.get_freeze_count(), busy=busy):
            self._look()
        elif not busy:
            gc.collect(1)  # What died just now goes; those that are not young are many.
        gc.freeze()

    def _look(self) -> None:
        started = perf_counter()
        gc.unfreeze()
        found = gc.collect()
        gc.freeze()
        self._ledger.looked(gc.get_freeze_count())
        log.info("collected", extra={"count": found, "seconds": round(perf_counter() - started, 3)})
