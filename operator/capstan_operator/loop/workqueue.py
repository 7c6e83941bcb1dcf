"""The coalescing work queue: many wake-ups in, few runs out, a key never runs twice at once.

`QueueCore` decides and knows no clock, no task and no random number: every method gets `now`. `WorkQueue` is the thin
asyncio shell around it.

When a woken key becomes ready:
- after calm (it has not been started within `most`) it waits `lead`, so that a single change is acted on at once and
  the wake-ups that belong to it still become one;
- else it waits until nothing has woken it for `quiet`, and never longer than `most` since its first wake-up.
A key that is woken while it runs is run again afterwards, by the second rule. A wake-up overrides a back-off: whatever
changed may be the cure. The count of failures stays until a run succeeds.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from capstan_operator.backoff import Backoff

log = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)
KEY_BACKOFF: Final = Backoff(first=0.5, factor=2.0, most=300.0)


@dataclass(frozen=True)
class Pace:
    """How wake-ups are merged, in seconds."""

    lead: float = 0.05
    quiet: float = 0.3
    most: float = 2.0


@dataclass(frozen=True)
class Outcome:
    """What a run of a key has come to."""

    failed: bool = False
    """Back off."""
    after: float | None = None
    """When `failed`: wait at least this long. Else: run again after this long although nothing wakes the key."""


DONE: Final = Outcome()


@dataclass
class _Waiting:
    first: float
    ready: float
    leading: bool


class QueueCore(Generic[Key]):
    """The rules. Times are seconds of one monotonic clock."""

    def __init__(self, pace: Pace, *, rng: Callable[[], float], backoff: Backoff = KEY_BACKOFF) -> None:
        self._pace = pace
        self._random = rng
        self._backoff = backoff
        self._waiting: dict[Key, _Waiting] = {}
        self._later: dict[Key, float] = {}
        self._running: dict[Key, int] = {}
        self._runs = 0
        self._woken_while_running: dict[Key, _Waiting] = {}
        self._started: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}

    def wake(self, key: Key, now: float) -> float:
        """Ask for a run of `key`; give when it becomes ready (if it is not running then)."""
        waiting = self._woken_while_running if key in self._running else self._waiting
        entry = waiting.get(key)
        if entry is None:
            leading = key not in self._running and self._is_calm(key, now)
            entry = waiting[key] = _Waiting(now, now + (self._pace.lead if leading else self._pace.quiet), leading)
        elif not entry.leading:
            entry.ready = min(now + self._pace.quiet, entry.first + self._pace.most)
        return entry.ready

    def take(self, now: float, most: int | None = None) -> dict[Key, int]:
        """Give the keys that are ready, longest-waiting first, each with the number of its run; they now run."""
        ready = [(entry.first, key) for key, entry in self._waiting.items() if entry.ready <= now]
        ready += [(due, key) for key, due in self._later.items() if due <= now and key not in self._waiting]
        ready = [(since, key) for since, key in ready if key not in self._running]
        ready.sort(key=lambda pair: pair[0])
        keys = [key for _, key in ready[:most]]
        for key in keys:
            self._waiting.pop(key, None)
            self._later.pop(key, None)
            self._runs += 1
            self._running[key] = self._runs
            self._started[key] = now
        self._started = {k: at for k, at in self._started.items() if k in self._running or not self._is_calm(k, now)}
        return {key: self._running[key] for key in keys}

    def is_running(self, key: Key, run: int) -> bool:
        """Whether this run of the key has not ended."""
        return self._running.get(key) == run

    def done(self, key: Key, outcome: Outcome, now: float) -> None:
        """End the run of `key`."""
        self._running.pop(key, None)
        if outcome.failed:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            delay = max(self._backoff.delay(failures, random=self._random), outcome.after or 0.0)
            self._later[key] = now + delay
        else:
            self._failures.pop(key, None)
            if outcome.after is not None:
                self._later[key] = now + max(outcome.after, self._pace.lead)
        woken = self._woken_while_running.pop(key, None)
        if woken is not None:
            self._waiting[key] = woken

    def next_ready(self) -> float | None:
        """When the next key becomes ready; None while there is nothing to wait for."""
        times = [entry.ready for entry in self._waiting.values()]
        times += [due for key, due in self._later.items() if key not in self._running]
        return min(times, default=None)

    def is_idle(self, key: Key) -> bool:
        """Whether the key neither waits for a wake-up's run nor runs; a later re-run does not count."""
        return key not in self._waiting and key not in self._running

    @property
    def depth(self) -> int:
        """Keys that wait because something woke them."""
        return len(self._waiting) + len(self._woken_while_running)

    @property
    def running(self) -> int:
        """Keys that run."""
        return len(self._running)

    @property
    def failing(self) -> int:
        """Keys whose last run failed."""
        return len(self._failures)

    def _is_calm(self, key: Key, now: float) -> bool:
        started = self._started.get(key)
        return started is None or now - started >= self._pace.most


class WorkQueue(Generic[Key]):
    """The shell: `wake` from anywhere in the loop; `run` hands batches to a handler until it is cancelled."""

    def __init__(
        self,
        pace: Pace = Pace(),
        *,
        rng: Callable[[], float] = random.random,
        backoff: Backoff = KEY_BACKOFF,
    ) -> None:
        self._core: QueueCore[Key] = QueueCore(pace, rng=rng, backoff=backoff)
        self._changed = asyncio.Event()
        self._sleeps_until: float | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self, key: Key) -> None:
        """Ask for a run of `key`."""
        self._notice(self._core.wake(key, self._now()))

    def done(self, key: Key, outcome: Outcome) -> None:
        """End the run of `key`. A key may end before the batch that it came with."""
        self._core.done(key, outcome, self._now())
        self._notice(None)

    def is_idle(self, keys: Iterable[Key]) -> bool:
        """Whether none of the keys waits for a wake-up's run or runs."""
        return all(self._core.is_idle(key) for key in keys)

    @property
    def core(self) -> QueueCore[Key]:
        """The rules, for metrics."""
        return self._core

    async def run(
        self,
        handle: Callable[[list[Key]], Awaitable[None]],
        *,
        batches: int = 4,
        batch_size: int = 256,
        gap: float = 0.0,
    ) -> None:
        """Hand out all ready keys as batches, at most `batches` at once, until cancelled.

        Two batches start at least `gap` seconds apart: keys that trickle in then share a batch, and what it costs.

        The handler must call `done` for every key; keys that it leaves open are ended as failed.
        """
        slots = asyncio.Semaphore(batches)
        not_before = 0.0
        try:
            while True:
                await slots.acquire()
                if (wait := not_before - self._now()) > 0:
                    await asyncio.sleep(wait)
                keys = await self._next_batch(batch_size)
                not_before = self._now() + gap
                task = asyncio.create_task(self._run_batch(handle, keys, slots), name=f"batch of {len(keys)}")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _next_batch(self, size: int) -> dict[Key, int]:
        while True:
            self._changed.clear()
            keys = self._core.take(self._now(), size)
            if keys:
                return keys
            self._sleeps_until = self._core.next_ready()
            try:
                async with asyncio.timeout_at(self._sleeps_until):
                    await self._changed.wait()
            except TimeoutError:
                pass  # a key has become ready

    async def _run_batch(
        self, handle: Callable[[list[Key]], Awaitable[None]], keys: dict[Key, int], slots: asyncio.Semaphore
    ) -> None:
        try:
            await handle(list(keys))
        except Exception:
            log.exception("batch failed", extra={"keys": len(keys)})
        finally:
            slots.release()
            for key, run in keys.items():
                if self._core.is_running(key, run):
                    self.done(key, Outcome(failed=True))

    def _notice(self, ready: float | None) -> None:
        """Rouse the runner, unless it will be awake by then anyway: a burst of wake-ups must not cost a scan each."""
        if ready is None or self._sleeps_until is None or ready < self._sleeps_until:
            self._changed.set()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
