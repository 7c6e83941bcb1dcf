"""The coalescing work queue: many wake-ups in, few runs out, a key never runs twice at once.

`QueueCore` decides when a key is ready, `Shares` whose turn it is, both without a clock of their own. `WorkQueue` is
the thin asyncio shell around them.

What keys have in common is prepared for a batch of them, and a place for a batch is free again as soon as that is done.
The keys then run by themselves, each with a deadline, when `loop/shares.py` says that it is their turn.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Final, Generic

from capstan_operator.backoff import Backoff
from capstan_operator.loop.queue_core import DEFAULT_PACE, DONE, KEY_BACKOFF, Key, Outcome, Pace, QueueCore
from capstan_operator.loop.shares import DEFAULT_LIMITS, Group, Limits, Shares
from capstan_operator.loop.spacing import Spacing

__all__ = ["DONE", "KEY_BACKOFF", "Outcome", "Pace", "QueueCore", "Work", "WorkQueue"]

log = logging.getLogger(__name__)

Work = Callable[[Key], Awaitable[Outcome]]
"""Runs one key of a batch with what was prepared for all of them."""

KEY_SECONDS: Final = 60.0
"""Deadline of one run."""
FRESH_SECONDS: Final = 10.0
"""How old what was prepared may be when a run begins."""
AHEAD: Final = 0.6
"""No more is prepared than can begin within this part of that time: preparing takes some of it, and estimates err."""


@dataclass(frozen=True)
class _Prepared(Generic[Key]):
    work: Work[Key]
    deadline: float
    fresh_until: float


class WorkQueue(Generic[Key]):
    """The shell: `wake` from anywhere in the loop; `run` prepares batches and runs their keys until it is cancelled."""

    def __init__(
        self,
        pace: Pace = DEFAULT_PACE,
        *,
        rng: Callable[[], float] = random.random,
        backoff: Backoff = KEY_BACKOFF,
        limits: Limits = DEFAULT_LIMITS,
        group_of: Callable[[Key], Group] = lambda _: "",
    ) -> None:
        self._core: QueueCore[Key] = QueueCore(pace, rng=rng, backoff=backoff, group_of=group_of)
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

        Two batches start at least `gap` seconds apart, and further while small ones follow each other without a pause:
        keys that trickle in then share a batch, and what it costs. What was prepared more than `fresh` seconds before a
        key's turn is prepared again; so no more is prepared than is likely to have its turn before. A run that raises,
        or lasts longer than `deadline`, has failed.
        """
        slots = asyncio.Semaphore(batches)
        not_before, spacing = 0.0, Spacing(gap)
        try:
            while True:
                await slots.acquire()
                if (wait := not_before - self._now()) > 0:
                    await asyncio.sleep(wait)
                keys, at_once = await self._next_batch(batch_size, fresh * AHEAD)
                not_before = self._now() + spacing.after(len(keys), at_once=at_once)
                self._spawn(self._prepare(prepare, keys, slots, deadline, fresh), name=f"batch of {len(keys)}")
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _next_batch(self, size: int, ahead: float) -> tuple[list[Key], bool]:
        """Give the next keys, and whether they were there already."""
        at_once = True
        while True:
            self._changed.clear()
            now = self._now()
            if keys := self._core.take(now, size, admits=self._shares.intake(now, seconds=ahead)):
                return keys, at_once
            at_once = False
            times = (self._core.next_to_come(), self._shares.next_intake())
            self._sleeps_until = min((time for time in times if time is not None), default=None)
            try:
                async with asyncio.timeout_at(self._sleeps_until):
                    await self._changed.wait()
            except TimeoutError:
                pass  # a key has become ready, or may be admitted by now

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
                self._shares.withdraw(key)
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
        while keys := self._shares.start(self._now()):
            for key in keys:
                prepared = self._prepared.pop(key)
                if self._now() <= prepared.fresh_until:
                    self._spawn(self._run_key(key, prepared), name=f"run of {key}")
                else:
                    self._shares.withdraw(key)
                    self._core.put_back(key)
            self._notice(None)  # what was prepared has become less

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
            self._shares.end(key, self._now())
            self._done(key, outcome)
        self._start()

    def _on_overdue(self, key: Key) -> None:
        if self._shares.is_overdue(key):
            self._start()
        self._notice(None)  # what waits of a slow group no longer counts in what is prepared

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
