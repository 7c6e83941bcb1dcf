"""Who may run next, so that nobody's slowness becomes everybody's: pure, with the time as an argument.

Keys belong to groups (a model's is its namespace). What makes a run slow belongs to its group as well: an admission
webhook that does not answer, a quota service that hangs. So:

- a group has a share of the workers, a quarter. It may have more runs only while no group that has less than its share
  waits, and only as long as another quarter stays free for groups that come: they need not wait for its runs to end;
- a run that lasts longer than `patience` no longer counts among the workers but among the slow, which have as many
  places again, twice; and its group is slow from then on;
- a slow group starts further runs only in places of the slow, no more than its share, until a run has ended in time;
- of several groups that wait, the one with the fewest runs comes first, then the one that has waited longest.

However many groups hang: as long as the slow have room, another group waits for one `patience` at most. When even they
are full, slow runs hold workers until their deadline, once: their groups then wait in the other line. What a group has
beyond its share counts slow runs as well, so that it never costs a place that the slow of others need.

Preparing a key costs something and does not keep. So only as much is prepared as is likely to begin in time, by how
long runs have lasted; and more of it only when half of that is used up, as every batch costs something, too. A group of
which nothing is under way does not wait for that.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Group = str

SLOW_FACTOR: Final = 2
MEMORY_SECONDS: Final = 900.0
"""How long what is known of a group is remembered after its last run: longer than the longest back-off."""
FIRST_GUESS: Final = 0.25
"""Seconds that a run is taken to last before any has ended."""
WEIGHT: Final = 0.1
"""What a run counts in how long runs last."""
NEWCOMERS_EVERY: Final = 1.0
"""Seconds between batches that are for groups alone of which nothing is under way."""


@dataclass(frozen=True)
class Limits:
    """How much runs at once."""

    workers: int = 16
    patience: float = 2.0
    """Seconds after which a run is slow."""

    @property
    def share(self) -> int:
        """The runs of one group while others wait."""
        return max(self.workers // 4, 1)

    @property
    def most_of_one(self) -> int:
        """The most runs of one group, when it is alone."""
        return max(self.workers - self.share, self.share)

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
    started: float
    slow: bool
    overdue: bool = False


@dataclass
class _Pace:
    """How long runs last, the last ones counting most."""

    seconds: float = FIRST_GUESS

    def learn(self, seconds: float) -> None:
        self.seconds += WEIGHT * (seconds - self.seconds)

    def starts(self, places: int, within: float) -> int:
        """How many runs are likely to begin in so many places."""
        return places + int(places * within / max(self.seconds, 0.001))


class Shares(Generic[Key]):
    """The rules: `intake` what to prepare, `add` what waits, `start` what may run, `end` what is through."""

    def __init__(self, limits: Limits, *, group_of: Callable[[Key], Group]) -> None:
        self._limits = limits
        self._group_of = group_of
        self._ahead: Counter[Group] = Counter()
        """Keys that are being prepared or wait."""
        self._ahead_in_time = 0
        """Those of groups that are not slow."""
        self._waiting: OrderedDict[Group, deque[Key]] = OrderedDict()
        self._runs: dict[Key, _Run] = {}
        self._running: Counter[Group] = Counter()
        self._slow_runs = 0
        self._slow: set[Group] = set()
        self._pace = _Pace()
        self._paces: dict[Group, _Pace] = {}
        self._last_run: OrderedDict[Group, float] = OrderedDict()
        self._newcomers_at: float | None = None
        self._refused_newcomer = False

    def intake(self, now: float, *, seconds: float) -> Callable[[Key], bool]:
        """Give what says, key by key, whether to prepare it now, and counts it as being prepared if so.

        `seconds` is how soon what is prepared has to begin. Of a slow group no more is prepared than may run.
        """
        self._forget(now)
        most = self._pace.starts(self._limits.workers, seconds)
        refills = self._ahead_in_time <= most // 2
        newcomers = self._newcomers_at is None or now >= self._newcomers_at + NEWCOMERS_EVERY
        rooms: dict[Group, int] = {}
        self._refused_newcomer = False

        def admits(key: Key) -> bool:
            group = self._group_of(key)
            if group not in rooms:
                rooms[group] = self._room(group, seconds, refills=refills, newcomers=newcomers)
            is_slow = group in self._slow
            if rooms[group] <= 0 or (not is_slow and self._ahead_in_time >= most * (1 if refills else 2)):
                self._refused_newcomer |= not (refills or newcomers or is_slow or self._is_under_way(group))
                return False
            if not refills and not is_slow:
                self._newcomers_at = now
            rooms[group] -= 1
            self._ahead[group] += 1
            self._ahead_in_time += not is_slow
            return True

        return admits

    def next_intake(self) -> float | None:
        """When a key may be admitted that the last intake has refused, though nothing happens until then."""
        if self._newcomers_at is None or not self._refused_newcomer:
            return None
        return self._newcomers_at + NEWCOMERS_EVERY

    def _is_under_way(self, group: Group) -> bool:
        return bool(self._ahead[group] or self._running[group])

    def _room(self, group: Group, seconds: float, *, refills: bool, newcomers: bool) -> int:
        """How many more keys of a group to prepare."""
        ahead, running, share = self._ahead[group], self._running[group], self._limits.share
        if group in self._slow:
            return share - running - ahead
        if not refills:
            return share if newcomers and not self._is_under_way(group) else 0
        most = self._paces.get(group, self._pace).starts(self._limits.most_of_one, seconds)
        return most - ahead if ahead <= most // 2 else 0

    def add(self, key: Key) -> None:
        """Let a key that was prepared wait for its turn."""
        self._waiting.setdefault(self._group_of(key), deque()).append(key)

    def withdraw(self, key: Key) -> None:
        """A key that was to be prepared, or was started, does not run: nothing is learnt from it."""
        run = self._runs.pop(key, None)
        if run is None:
            self._count_ahead(self._group_of(key))
        else:
            self._leave(run)

    def start(self, now: float) -> list[Key]:
        """Give the keys that may run now; they count as running."""
        started: list[Key] = []
        while (group := self._next_group()) is not None:
            key = self._waiting[group].popleft()
            if self._waiting[group]:
                self._waiting.move_to_end(group)
            else:
                del self._waiting[group]
            self._count_ahead(group)
            slow = group in self._slow
            self._runs[key] = _Run(group, now, slow)
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
        if run.group not in self._slow:
            self._slow.add(run.group)
            self._ahead_in_time -= self._ahead[run.group]
        return self._move(run)

    def _move(self, run: _Run) -> bool:
        """Have a run count among the slow, if they have room."""
        if run.slow or self._slow_runs >= self._limits.slow:
            return False
        run.slow = True
        self._slow_runs += 1
        return True

    def end(self, key: Key, now: float) -> None:
        """A run is through; one that ended in time shows that its group is not slow any more."""
        run = self._runs.pop(key)
        self._leave(run)
        lasted = now - run.started
        if lasted < self._limits.patience:
            if run.group in self._slow:
                self._slow.discard(run.group)
                self._ahead_in_time += self._ahead[run.group]
            self._pace.learn(lasted)
        self._paces.setdefault(run.group, _Pace()).learn(lasted)
        self._last_run[run.group] = now
        self._last_run.move_to_end(run.group)

    def _leave(self, run: _Run) -> None:
        self._slow_runs -= run.slow
        self._running[run.group] -= 1
        if not self._running[run.group]:
            del self._running[run.group]
        if run.slow and (waiting := next((one for one in self._runs.values() if one.overdue and not one.slow), None)):
            self._move(waiting)

    def is_slow(self, key: Key) -> bool:
        """Whether the key's group is slow."""
        return self._group_of(key) in self._slow

    @property
    def slow_groups(self) -> int:
        """How many groups are slow."""
        return len(self._slow)

    @property
    def running(self) -> int:
        """How many keys run."""
        return len(self._runs)

    def _count_ahead(self, group: Group) -> None:
        self._ahead_in_time -= group not in self._slow
        self._ahead[group] -= 1
        if not self._ahead[group]:
            del self._ahead[group]

    def _next_group(self) -> Group | None:
        limits = self._limits
        free = limits.workers - (len(self._runs) - self._slow_runs) > 0
        spare = len(self._runs) < limits.workers - limits.share
        free_slow = self._slow_runs < limits.slow
        best: Group | None = None
        fewest = 0
        for group in self._waiting:  # NB: the order in which they came, or came back after a turn
            runs, is_slow = self._running[group], group in self._slow
            may = free_slow if is_slow else free
            if runs >= limits.share:
                may = may and spare and not is_slow
            if may and (best is None or runs < fewest):
                best, fewest = group, runs
        return best

    def _forget(self, now: float) -> None:
        """Forget groups of which nothing has run for long: a namespace may be gone."""
        while self._last_run:
            group, at = next(iter(self._last_run.items()))
            if now - at < MEMORY_SECONDS:
                return
            del self._last_run[group]
            if self._running[group] or self._ahead[group]:
                self._last_run[group] = now
                continue
            self._paces.pop(group, None)
            self._slow.discard(group)
