"""Draining: going away without cutting an answer.

A pod that goes away is taken out of the endpoints while its preStop hook runs, and for a moment the gateway may still
send to it. So a draining worker goes on serving, and counts as drained only after nothing was in flight for `settle`
seconds. It gives up a little before the grace period ends, because what is still in flight then is killed anyway and a
hook that returns late delays the SIGTERM.

Only a signal begins a drain, and makes the worker say that it is not ready. The hook is an HTTP request that anybody
can send, so it begins nothing: it waits, and a stranger who sends it learns when the pod had a quiet moment.

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
    """Runs the drain that a signal asks for, and lets hooks wait for the end of what is in flight."""

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
        self._asking = asyncio.Lock()
        self._counted: tuple[float, int] | None = None
        self._drained_at: float | None = None

    @property
    def draining(self) -> bool:
        """Whether a drain was begun: the worker is then no longer ready."""
        return self._drain.started is not None

    async def wait(self) -> Verdict:
        """Begin the drain if nobody did, and return its end: DRAINED or OUT_OF_TIME."""
        if self._task is None:
            now = self._clock()
            self._drain = replace(self._drain.begin(now), idle_since=self._waited_since(now))
            log.info("draining", extra={"grace_seconds": self._drain.grace})
            self._task = asyncio.create_task(self._run(), name="drain")
        # One caller that goes away must not end the drain of the others.
        return await asyncio.shield(self._task)

    async def idle(self) -> Verdict:
        """Wait as a drain that begins now would, and begin none: the worker stays ready."""
        verdict = await self._follow(replace(self._drain, started=None).begin(self._clock()))
        if verdict is Verdict.DRAINED:
            self._drained_at = self._clock()
        return verdict

    def _waited_since(self, now: float) -> float | None:
        """Since when it is known to be idle: the signal that follows a hook need not settle a second time."""
        recent = self._drained_at is not None and now - self._drained_at <= self._drain.settle
        return now - self._drain.settle if recent else None

    async def _run(self) -> Verdict:
        async with self._asking:
            # Of a hook that has just counted: from the signal on more is waited for than before (queued work).
            self._counted = None
        verdict = await self._follow(self._drain)
        log.info("drain ended", extra={"verdict": verdict.value})
        return verdict

    async def _follow(self, drain: Drain) -> Verdict:
        while True:
            count = await self._count()
            drain = drain.observe(count, self._clock())
            verdict = drain.verdict(self._clock())
            if verdict is not Verdict.WAITING:
                return verdict
            await asyncio.sleep(self._every)

    async def _count(self) -> int:
        """Ask how much is in flight, once for all who wait: asking may cost the engine something."""
        async with self._asking:
            if self._counted is None or self._clock() - self._counted[0] >= self._every:
                self._counted = (self._clock(), await self._in_flight())
            return self._counted[1]
