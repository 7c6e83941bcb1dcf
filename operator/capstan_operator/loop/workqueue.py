"""The coalescing work queue: many wake-ups in, few runs out, a key never runs twice at once.

`QueueCore` decides and knows no clock, no task and no random number: every method gets `now`. `WorkQueue` is the thin
asyncio shell around it.

When a woken key becomes ready:
- after calm (it has not been started within `most`) it waits `lead`, so that a single change is acted on at once and
  the wake-ups that belong to it still become one;
- else it waits until nothing has woken it for `quiet`, and never longer than `most` since its first wake-up.
A key that is woken while it runs is run again afterwards, by the second rule. A wake-up overrides a back-off: whatever
changed may be the cure. The count of failures stays until a run succeeds.

What keys have in common is prepared for a batch of them, and a place for a batch is free again as soon as that is done.
The keys then run by themselves, each with a deadline, when `loop/shares.py` says that it is their turn.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from capstan_operator.backoff import Backoff
from capstan_operator.loop.shares import DEFAULT_LIMITS, Group, Limits, Shares

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

Work = Callable[[Key], Awaitable[Outcome]]
"""Runs one key of a batch with what was prepared for all of them."""

KEY_SECONDS: Final = 60.0
"""Deadline of one run."""
FRESH_SECONDS: Final = 10.0
"""How old what was prepared may be when a run begins."""


@dataclass(frozen=True)
class _Prepared(Generic[Key]):
    work: Work[Key]
    deadline: float
    fresh_until: float


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
        self._running: dict[Key, float] = {}
        """Since when the key had waited when it was taken."""
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

    def take(self, now: float, most: int | None = None, *, admits: Callable[[Key], bool] = lambda _: True) -> list[Key]:
        """Give the keys that are ready, longest-waiting first, as far as they are admitted; they now run."""
        ready = [(entry.first, key) for key, entry in self._waiting.items() if entry.ready <= now]
        ready += [(due, key) for key, due in self._later.items() if due <= now and key not in self._waiting]
        ready = [(since, key) for since, key in ready if key not in self._running]
        ready.sort(key=lambda pair: pair[0])
        keys: list[Key] = []
        for since, key in ready:
            if most is not None and len(keys) >= most:
                break
            if admits(key):
                keys.append(key)
                self._waiting.pop(key, None)
                self._later.pop(key, None)
                self._running[key] = since
                self._started[key] = now
        self._started = {k: at for k, at in self._started.items() if k in self._running or not self._is_calm(k, now)}
        return keys

    def put_back(self, key: Key) -> None:
        """Let a key that was taken wait again as if it had not been: nothing was done for it."""
        since = self._running.pop(key)
        self._woken_while_running.pop(key, None)
        self._waiting[key] = _Waiting(since, since, leading=False)

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

    def next_ready(self, *, is_held: Callable[[Key], bool] = lambda _: False) -> float | None:
        """When the next key becomes ready; None while there is nothing to wait for. Keys that are held do not count."""
        times = [entry.ready for key, entry in self._waiting.items() if not is_held(key)]
        times += [due for key, due in self._later.items() if key not in self._running and not is_held(key)]
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
    """The shell: `wake` from anywhere in the loop; `run` prepares batches and runs their keys until it is cancelled."""

    def __init__(
        self,
        pace: Pace = Pace(),
        *,
        rng: Callable[[], float] = random.random,
        backoff: Backoff = KEY_BACKOFF,
        limits: Limits = DEFAULT_LIMITS,
        group_of: Callable[[Key], Group] = lambda _: "",
    ) -> None:
        self._core: QueueCore[Key] = QueueCore(pace, rng=rng, backoff=backoff)
        self._limits = limits
        self._shares: Shares[Key] = Shares(limits, group_of=group_of)
        self._prepared: dict[Key, _Prepared[Key]] = {}
        self._changed = asyncio.Event()
        self._sleeps_until: float | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self, key: Key) -> None:
        """Ask for a run of `key`."""
        self._notice(self._core.wake(key, self._now()))

    def is_idle(self, keys: Iterable[Key]) -> bool:
        """Whether none of the keys waits for a wake-up's run or runs."""
        return all(self._core.is_idle(key) for key in keys)

    def is_slow(self, key: Key) -> bool:
        """Whether the key's group is held up by something slow: when it runs says nothing about the operator."""
        return self._shares.is_slow(key)

    @property
    def core(self) -> QueueCore[Key]:
        """The rules, for metrics."""
        return self._core

    @property
    def shares(self) -> Shares[Key]:
        """Who runs, for metrics."""
        return self._shares

    async def run(
        self,
        prepare: Callable[[list[Key]], Awaitable[Work[Key]]],
        *,
        batches: int = 4,
        batch_size: int = 256,
        gap: float = 0.0,
        deadline: float = KEY_SECONDS,
        fresh: float = FRESH_SECONDS,
    ) -> None:
        """Prepare all ready keys in batches, at most `batches` at once, and run each key, until cancelled.

        Two batches start at least `gap` seconds apart: keys that trickle in then share a batch, and what it costs. What
        was prepared more than `fresh` seconds before a key's turn is prepared again. A run that raises, or lasts longer
        than `deadline`, has failed.
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
                self._spawn(self._prepare(prepare, keys, slots, deadline, fresh), name=f"batch of {len(keys)}")
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _next_batch(self, size: int) -> list[Key]:
        while True:
            self._changed.clear()
            keys = self._core.take(self._now(), size, admits=self._shares.intake())
            if keys:
                return keys
            self._sleeps_until = self._core.next_ready(is_held=self._shares.is_full)
            try:
                async with asyncio.timeout_at(self._sleeps_until):
                    await self._changed.wait()
            except TimeoutError:
                pass  # a key has become ready

    async def _prepare(
        self,
        prepare: Callable[[list[Key]], Awaitable[Work[Key]]],
        keys: list[Key],
        slots: asyncio.Semaphore,
        deadline: float,
        fresh: float,
    ) -> None:
        since = self._now()
        try:
            work = await prepare(keys)
        except Exception:
            log.exception("batch failed", extra={"keys": len(keys)})
            for key in keys:
                self._done(key, Outcome(failed=True))
            return
        finally:
            slots.release()
        for key in keys:
            self._prepared[key] = _Prepared(work, deadline, since + fresh)
            self._shares.add(key)
        self._start()

    def _start(self) -> None:
        """Start whatever may run."""
        while keys := self._shares.start():
            for key in keys:
                prepared = self._prepared.pop(key)
                if self._now() <= prepared.fresh_until:
                    self._spawn(self._run_key(key, prepared), name=f"run of {key}")
                else:
                    self._shares.end(key, in_time=False)
                    self._core.put_back(key)
                    self._notice(None)

    async def _run_key(self, key: Key, prepared: _Prepared[Key]) -> None:
        outcome, started = Outcome(failed=True), self._now()
        overdue = asyncio.get_running_loop().call_later(self._limits.patience, self._on_overdue, key)
        try:
            async with asyncio.timeout(prepared.deadline):
                outcome = await prepared.work(key)
        except TimeoutError:
            log.warning("gave up", extra={"key": str(key), "seconds": round(self._now() - started, 1)})
        except Exception:
            log.exception("run failed", extra={"key": str(key)})
        finally:
            overdue.cancel()
            self._shares.end(key, in_time=self._now() - started < self._limits.patience)
            self._done(key, outcome)
        self._start()

    def _on_overdue(self, key: Key) -> None:
        if self._shares.is_overdue(key):
            self._start()

    def _done(self, key: Key, outcome: Outcome) -> None:
        self._core.done(key, outcome, self._now())
        self._notice(None)

    def _spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> None:
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _notice(self, ready: float | None) -> None:
        """Rouse the runner, unless it will be awake by then anyway: a burst of wake-ups must not cost a scan each."""
        if ready is None or self._sleeps_until is None or ready < self._sleeps_until:
            self._changed.set()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
