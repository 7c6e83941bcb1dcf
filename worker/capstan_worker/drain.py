"""Draining: going away without cutting an answer.

A pod that goes away is taken out of the endpoints while its preStop hook runs, and for a moment the gateway may still
send to it. So a draining worker says at once that it is not ready, goes on serving, and counts as drained only after
nothing was in flight for `settle` seconds. It gives up a little before the grace period ends, because what is still in
flight then is killed anyway and a hook that returns late delays the SIGTERM.

`Drain` is the pure part: facts in, verdict out, no clock. `Drainer` is the shell around it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import Enum

log = logging.getLogger(__name__)


class Verdict(Enum):
    """Where a drain stands."""

    SERVING = "serving"
    WAITING = "waiting"
    """Draining: something is in flight, or was a moment ago."""
    DRAINED = "drained"
    OUT_OF_TIME = "out of time"


@dataclass(frozen=True)
class Drain:
    """The state of one drain. All times are of one monotonic clock, in seconds."""

    grace: float
    """How long the pod may take in all, as in `terminationGracePeriodSeconds`."""
    settle: float
    """How long nothing must have been in flight."""
    started: float | None = None
    idle_since: float | None = None

    def begin(self, now: float) -> "Drain":
        """Start; a drain that has begun keeps its first start."""
        return self if self.started is not None else replace(self, started=now, idle_since=None)

    def observe(self, in_flight: int, now: float) -> "Drain":
        """Take in how many requests are in flight now."""
        if self.started is None or in_flight > 0:
            return replace(self, idle_since=None)
        return self if self.idle_since is not None else replace(self, idle_since=now)

    def verdict(self, now: float) -> Verdict:
        """Say where the drain stands."""
        if self.started is None:
            return Verdict.SERVING
        if self.idle_since is not None and now - self.idle_since >= self.settle:
            return Verdict.DRAINED
        if now - self.started >= self.limit:
            return Verdict.OUT_OF_TIME
        return Verdict.WAITING

    @property
    def limit(self) -> float:
        """Seconds after which the drain gives up: the grace less a tenth of it, at most 5 s less."""
        return self.grace - min(5.0, self.grace / 10)


class Drainer:
    """Runs one drain, however many ask for it: a hook, a signal, both."""

    def __init__(
        self,
        drain: Drain,
        in_flight: Callable[[], Awaitable[int]],
        *,
        clock: Callable[[], float] = time.monotonic,
        every: float = 0.1,
    ) -> None:
        self._drain = drain
        self._in_flight = in_flight
        self._clock = clock
        self._every = every
        self._task: asyncio.Task[Verdict] | None = None

    @property
    def draining(self) -> bool:
        """Whether a drain was begun: the worker is then no longer ready."""
        return self._drain.started is not None

    async def wait(self) -> Verdict:
        """Begin the drain if nobody did, and return its end: DRAINED or OUT_OF_TIME."""
        if self._task is None:
            self._drain = self._drain.begin(self._clock())
            log.info("draining", extra={"grace_seconds": self._drain.grace})
            self._task = asyncio.create_task(self._run(), name="drain")
        # One caller that goes away (a hook that timed out) must not end the drain of the others.
        return await asyncio.shield(self._task)

    async def _run(self) -> Verdict:
        while True:
            self._drain = self._drain.observe(await self._in_flight(), self._clock())
            verdict = self._drain.verdict(self._clock())
            if verdict is not Verdict.WAITING:
                log.info("drain ended", extra={"verdict": verdict.value})
                return verdict
            await asyncio.sleep(self._every)
