"""Who may run next, so that nobody's slowness becomes everybody's: pure, with the time as an argument.

Keys belong to groups (a model's is its namespace). What makes a run slow belongs to its group as well: an admission
webhook that does not answer, a quota service that hangs. So:

- a group has at most `share` runs at once, a part of all workers;
- a run that lasts longer than `patience` no longer counts among the workers but among the slow, which have as many
  places again, twice; and its group is slow from then on;
- a slow group starts further runs only in places of the slow, until one of its runs has ended in time;
- of several groups that wait, the one with the fewest runs comes first, then the one that has waited longest.

However many groups hang: as long as the slow have room, another group waits for one `patience` at most. When even they
are full, slow runs hold workers until their deadline, once: their groups then wait in the other line.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Group = str

SLOW_FACTOR: Final = 2


@dataclass(frozen=True)
class Limits:
    """How much runs at once."""

    workers: int = 16
    patience: float = 2.0
    """Seconds after which a run is slow."""

    @property
    def share(self) -> int:
        """The most runs of one group."""
        return max(self.workers // 4, 1)

    @property
    def slow(self) -> int:
        """The most runs that are slow, beside the workers."""
        return self.workers * SLOW_FACTOR

    @property
    def most(self) -> int:
        """The most runs of all."""
        return self.workers + self.slow


DEFAULT_LIMITS: Final = Limits()


@dataclass
class _Run:
    group: Group
    slow: bool
    overdue: bool = False


class Shares(Generic[Key]):
    """The rules: `add` what waits, `start` what may run, `is_overdue` after the patience, `end` what is through."""

    def __init__(self, limits: Limits, *, group_of: Callable[[Key], Group]) -> None:
        self._limits = limits
        self._group_of = group_of
        self._waiting: OrderedDict[Group, deque[Key]] = OrderedDict()
        self._runs: dict[Key, _Run] = {}
        self._running: Counter[Group] = Counter()
        self._slow_runs = 0
        self._slow: set[Group] = set()

    def add(self, key: Key) -> None:
        """Let a key wait for its turn."""
        self._waiting.setdefault(self._group_of(key), deque()).append(key)

    def start(self) -> list[Key]:
        """Give the keys that may run now; they count as running."""
        started: list[Key] = []
        while (group := self._next_group()) is not None:
            key = self._waiting[group].popleft()
            if self._waiting[group]:
                self._waiting.move_to_end(group)
            else:
                del self._waiting[group]
            slow = group in self._slow
            self._runs[key] = _Run(group, slow)
            self._running[group] += 1
            self._slow_runs += slow
            started.append(key)
        return started

    def is_overdue(self, key: Key) -> bool:
        """A run has lasted for the patience: its group is slow. Tell whether a worker became free by that."""
        run = self._runs.get(key)
        if run is None:
            return False
        run.overdue = True
        self._slow.add(run.group)
        return self._move(run)

    def _move(self, run: _Run) -> bool:
        """Have a run count among the slow, if they have room."""
        if run.slow or self._slow_runs >= self._limits.slow:
            return False
        run.slow = True
        self._slow_runs += 1
        return True

    def end(self, key: Key, *, in_time: bool) -> None:
        """A run is through; one that ended in time shows that its group is not slow any more."""
        run = self._runs.pop(key)
        self._slow_runs -= run.slow
        self._running[run.group] -= 1
        if not self._running[run.group]:
            del self._running[run.group]
        if in_time:
            self._slow.discard(run.group)
        if run.slow and (waiting := next((one for one in self._runs.values() if one.overdue and not one.slow), None)):
            self._move(waiting)

    def is_slow(self, key: Key) -> bool:
        """Whether the key's group is slow."""
        return self._group_of(key) in self._slow

    def is_full(self, key: Key) -> bool:
        """Whether it makes no sense to prepare this key now: its group is slow, and has all the runs that it may."""
        group = self._group_of(key)
        return group in self._slow and self._room(group) <= 0

    def intake(self) -> Callable[[Key], bool]:
        """Give what tells, key by key, which ones to prepare: no more of a slow group than it may run."""
        taken: Counter[Group] = Counter()

        def admits(key: Key) -> bool:
            group = self._group_of(key)
            if group not in self._slow:
                return True
            taken[group] += 1
            return taken[group] <= self._room(group)

        return admits

    @property
    def slow_groups(self) -> int:
        """How many groups are slow."""
        return len(self._slow)

    @property
    def running(self) -> int:
        """How many keys run."""
        return len(self._runs)

    def _room(self, group: Group) -> int:
        return self._limits.share - self._running[group] - len(self._waiting.get(group, ()))

    def _next_group(self) -> Group | None:
        free = self._limits.workers - (len(self._runs) - self._slow_runs) > 0
        free_slow = self._slow_runs < self._limits.slow
        best: Group | None = None
        fewest = self._limits.share
        for group in self._waiting:  # NB: the order in which they came, or came back after a turn
            if self._running[group] < fewest and (free_slow if group in self._slow else free):
                best, fewest = group, self._running[group]
        return best
