"""Where detectors work: on the loop for a moment, else beside it, in one of two lanes that tenants share fairly.

    at most INLINE_CHARS, by a cheap guard ─► on the loop, for INLINE_SECONDS at most ─► not done: the short lane
    at most SHORT_CHARS, windows of streams ─► the short lane         else ─► the long lane

No text, and no tenant, has all threads of a lane; and work for which nobody waits any more ends at its next step.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from capstan_gateway.guards.patience import go_on, patience
from capstan_gateway.life.fair_threads import FairThreads

INLINE_CHARS: Final = 8 * 1024
"""What cheap guards look at on the loop: below a millisecond each, unless the text is made to take longer."""
INLINE_SECONDS: Final = 0.002
"""How long one may then take there; a text that takes longer is looked at anew beside the loop."""
SHORT_CHARS: Final = 8 * 1024
"""What is longer does not wait, and is not waited for, with what is short."""
SHORT_THREADS: Final = 3
LONG_THREADS: Final = 2
"""Threads: of one tenant one fewer is at work at once. They share one lock of the interpreter with the loop, and so
more of them would do no more work, but for the classifier's."""
T = TypeVar("T")


class Lanes:
    """The threads of all guards."""

    def __init__(self, *, queued: int = 64) -> None:
        self._short = FairThreads("guards-short", workers=SHORT_THREADS, of_one=SHORT_THREADS - 1, queued=queued)
        self._long = FairThreads("guards", workers=LONG_THREADS, of_one=LONG_THREADS - 1, queued=queued)

    def of(self, tenant: str) -> "Lane":
        """Give them as one tenant has them."""
        return Lane(self, tenant)

    async def run(self, tenant: str, size: int, work: Callable[..., T], *arguments: Any) -> T:
        """Give what this returns, or raises, on behalf of a tenant, with so many characters. Raises Busy.

        When the caller is cancelled, the work ends at its next step.
        """
        lane = self._short if size <= SHORT_CHARS else self._long
        stopping = _Stopping()
        try:
            return await lane.run(tenant, _while_wanted, stopping, work, arguments)
        finally:
            stopping.stopped = True

    def close(self) -> None:
        """Let the threads end; nobody waits for them."""
        self._short.close()
        self._long.close()


@dataclass(frozen=True, slots=True)
class Lane:
    """The threads as one tenant has them."""

    lanes: Lanes
    tenant: str

    async def run(self, work: Callable[..., T], *arguments: Any, size: int = 0) -> T:
        """Give what this returns, or raises, on so many characters. Raises Busy when too much waits."""
        return await self.lanes.run(self.tenant, size, work, *arguments)


def for_a_moment(work: Callable[..., T], *arguments: Any) -> T:
    """Do this on the loop. Raises GaveUp when it takes longer than the loop may be held."""
    until = time.perf_counter() + INLINE_SECONDS
    with patience(lambda: time.perf_counter() > until):
        return work(*arguments)


class _Stopping:
    """Tells a thread that nobody waits for it any more."""

    stopped = False


def _while_wanted(stopping: _Stopping, work: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    with patience(lambda: stopping.stopped):
        go_on()
        return work(*arguments)
