"""The rules of the work queue: which keys are ready, and when the next one will be. Pure.

`QueueCore` knows no clock, no task and no random number: every method gets `now`.

When a woken key becomes ready:
- after calm (it has not been started within `most`) it waits `lead`, so that a single change is acted on at once and
  the wake-ups that belong to it still become one;
- else it waits until nothing has woken it for `quiet`, and never longer than `most` since its first wake-up.
A key that is woken while it runs is run again afterwards, by the second rule. A wake-up overrides a back-off: whatever
changed may be the cure. The count of failures stays until a run succeeds.
"""

import heapq
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from capstan_operator.backoff import Backoff
from capstan_operator.loop.shares import Group

Key = TypeVar("Key", bound=Hashable)
KEY_BACKOFF: Final = Backoff(first=0.5, factor=2.0, most=300.0)


@dataclass(frozen=True)
class Pace:
    """How wake-ups are merged, in seconds."""

    lead: float = 0.05
    quiet: float = 0.3
    most: float = 2.0


DEFAULT_PACE: Final = Pace()


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


_Entry = tuple[float, int, Key]
"""When, in which order it came, and what: the number keeps keys from being compared."""
_SPARE: Final = 64


class QueueCore(Generic[Key]):
    """The rules. Times are seconds of one monotonic clock.

    No step looks at all keys: those that become ready later are in one heap by when, those that are ready in one heap
    per group by since when they wait. Each key has one valid entry in them, known by its number; others are dropped
    when they come up, or all at once when they are the most.
    """

    def __init__(
        self,
        pace: Pace,
        *,
        rng: Callable[[], float],
        backoff: Backoff = KEY_BACKOFF,
        group_of: Callable[[Key], Group] = lambda _: "",
    ) -> None:
        self._pace = pace
        self._random = rng
        self._backoff = backoff
        self._group_of = group_of
        self._waiting: dict[Key, _Waiting] = {}
        self._later: dict[Key, float] = {}
        self._running: dict[Key, float] = {}
        """Since when the key had waited when it was taken."""
        self._woken_while_running: dict[Key, _Waiting] = {}
        self._started: dict[Key, float] = {}
        self._starts: deque[tuple[float, Key]] = deque()
        self._failures: dict[Key, int] = {}
        self._number = 0
        self._valid: dict[Key, int] = {}
        self._timed: list[_Entry[Key]] = []
        self._ready: dict[Group, list[_Entry[Key]]] = {}
        self._heads: list[tuple[float, int, Group]] = []
        """The group of each first of a group, by since when that waits; those that are no longer first are stale."""

    def wake(self, key: Key, now: float) -> float:
        """Ask for a run of `key`; give when it becomes ready (if it is not running then)."""
        is_running = key in self._running
        waiting = self._woken_while_running if is_running else self._waiting
        entry = waiting.get(key)
        if entry is None:
            leading = not is_running and self._is_calm(key, now)
            entry = waiting[key] = _Waiting(now, now + (self._pace.lead if leading else self._pace.quiet), leading)
            if not is_running:
                self._enter(key, entry.ready)
        elif not entry.leading:
            # NB: its entry in the heap stays where it is, and is moved when it comes up: most wake-ups change nothing.
            entry.ready = min(now + self._pace.quiet, entry.first + self._pace.most)
        return entry.ready

    def take(self, now: float, most: int | None = None, *, admits: Callable[[Key], bool] = lambda _: True) -> list[Key]:
        """Give the keys that are ready, longest-waiting first, as far as they are admitted; they now run.

        A key that is not admitted speaks for its group: nothing of it is taken after that.
        """
        self._forget_starts(now)
        self._ripen(now)
        keys: list[Key] = []
        aside: set[tuple[float, int, Group]] = set()
        while (head := self._next_head(now)) is not None and (most is None or len(keys) < most):
            since, _, group = head
            key = self._ready[group][0][2]
            heapq.heappop(self._heads)
            if not admits(key):
                aside.add(head)
                continue
            heapq.heappop(self._ready[group])
            self._show_head(group)
            keys.append(key)
            self._begin(key, since, now)
        for head in aside:
            heapq.heappush(self._heads, head)
        return keys

    def put_back(self, key: Key) -> None:
        """Let a key that was taken wait again as if it had not been: nothing was done for it."""
        since = self._running.pop(key)
        self._woken_while_running.pop(key, None)
        self._waiting[key] = _Waiting(since, since, leading=False)
        self._enter(key, since)

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
        if (due := self._due(key)) is not None:
            self._enter(key, due)

    def next_ready(self) -> float | None:
        """When the next key becomes ready, or has become so; None while there is nothing to wait for."""
        times = [time] if (time := self.next_to_come()) is not None else []
        entries = [entry for heap in self._ready.values() for entry in heap]
        times += [self._due(key) or 0.0 for _, number, key in entries if self._valid.get(key) == number]
        return min(times, default=None)

    def next_to_come(self) -> float | None:
        """When the next of those keys becomes ready that were not at the last `take`: what it left is of no account."""
        while self._timed:
            due, number, key = self._timed[0]
            if self._valid.get(key) == number and self._due(key) == due:
                return due
            heapq.heappop(self._timed)
            self._enter_again(number, key)
        return None

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

    def _due(self, key: Key) -> float | None:
        """When a key that does not run becomes ready. A wake-up overrides what was to come later."""
        waiting = self._waiting.get(key)
        return waiting.ready if waiting else self._later.get(key)

    def _begin(self, key: Key, since: float, now: float) -> None:
        del self._valid[key]
        self._waiting.pop(key, None)
        self._later.pop(key, None)
        self._running[key] = since
        self._started[key] = now
        self._starts.append((now, key))

    def _forget_starts(self, now: float) -> None:
        while self._starts and now - self._starts[0][0] >= self._pace.most:
            at, key = self._starts.popleft()
            if self._started.get(key) == at:
                del self._started[key]

    def _enter(self, key: Key, due: float) -> None:
        """Give a key a new entry by when it becomes ready; the one that it had is void."""
        self._number += 1
        self._valid[key] = self._number
        heapq.heappush(self._timed, (due, self._number, key))
        if len(self._timed) > 2 * len(self._valid) + _SPARE:
            self._timed = [entry for entry in self._timed if self._valid.get(entry[2]) == entry[1]]
            heapq.heapify(self._timed)

    def _enter_again(self, number: int, key: Key) -> None:
        if self._valid.get(key) == number and (due := self._due(key)) is not None:
            self._enter(key, due)

    def _ripen(self, now: float) -> None:
        """Move what has become ready to its group."""
        while self._timed and self._timed[0][0] <= now:
            _, number, key = heapq.heappop(self._timed)
            if self._valid.get(key) != number:
                continue
            due, waiting = self._due(key), self._waiting.get(key)
            if due is None or due > now:
                self._enter_again(number, key)
                continue
            group = self._group_of(key)
            heap = self._ready.setdefault(group, [])
            heapq.heappush(heap, (waiting.first if waiting else due, number, key))
            if heap[0][1] == number:
                self._show_head(group)

    def _show_head(self, group: Group) -> None:
        """Have the group's first among the heads; a group of which nothing is ready is forgotten."""
        if heap := self._ready[group]:
            heapq.heappush(self._heads, (heap[0][0], heap[0][1], group))
        else:
            del self._ready[group]

    def _next_head(self, now: float) -> tuple[float, int, Group] | None:
        """Give the longest-waiting of the heads that are still ready."""
        while self._heads:
            head = self._heads[0]
            _, number, group = head
            heap = self._ready.get(group)
            if heap is None or heap[0][1] != number:
                heapq.heappop(self._heads)
                continue
            key = heap[0][2]
            due = self._due(key) if self._valid.get(key) == number else None
            if due is not None and due <= now:
                return head
            heapq.heappop(self._heads)
            heapq.heappop(heap)
            self._enter_again(number, key)  # woken again meanwhile: it waits for quiet
            self._show_head(group)
        return None
