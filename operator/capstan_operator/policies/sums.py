"""Sums over the gateway's replicas that never go down.

A replica counts from when it began, and is gone one day. So what is added is how much each of its counts has grown
since it was asked last, and all of the counts of one that was never asked. An operator that begins goes on from what
the status says: what replicas that are older than that have counted is in it, as far as it was written.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Generic, NamedTuple, TypeVar

from capstan_operator.resources.resource import PolicyKey

MOST_REPLICAS: Final = 256
"""Of so many replicas it is remembered what they have said, whether or not they are still there."""
Numbers = tuple[int, ...]
"""One for each that is counted: as many everywhere in one sum."""
N = TypeVar("N", bound=Hashable)
"""What has numbers of its own, such as the name of a guard."""


class Life(NamedTuple):
    """One replica, from when it began to count."""

    replica: str
    since: int


def add(some: Numbers, others: Numbers) -> Numbers:
    """Add numbers one by one."""
    return tuple(one + other for one, other in zip(some, others, strict=True))


def _grown(before: Numbers, now: Numbers) -> Numbers:
    """Give how much counts have grown; one that is less than before has begun anew."""
    return tuple(new - old if new >= old else new for old, new in zip(before, now, strict=True))


@dataclass
class Totals(Generic[N]):
    """The sums of one policy."""

    width: int
    """How many numbers there are of each."""
    written: Mapping[N, Numbers] = field(default_factory=dict)
    """What its status said when this process began."""
    written_at: int | None = None
    """When that was written, in Unix seconds; None: its status said nothing."""
    since: int | None = None
    _last: OrderedDict[Life, dict[N, Numbers]] = field(default_factory=OrderedDict)
    _old: dict[N, Numbers] = field(default_factory=dict)
    """What replicas that are older than the status had counted when they were asked first: it is in the status, or was
    counted while nobody asked."""
    _new: dict[N, Numbers] = field(default_factory=dict)

    def take(self, life: Life, counts: Mapping[N, Numbers]) -> None:
        """Take in what a replica says."""
        known = self._last.get(life)
        is_old = known is None and self.written_at is not None and life.since <= self.written_at
        sums = self._old if is_old else self._new
        nothing = (0,) * self.width
        for name, now in counts.items():
            sums[name] = add(sums.get(name, nothing), _grown((known or {}).get(name, nothing), now))
        self._last[life] = {**(known or {}), **counts}
        self._last.move_to_end(life)
        while len(self._last) > MOST_REPLICAS:
            self._last.popitem(last=False)
        self.since = life.since if self.since is None else min(self.since, life.since)

    def of(self, name: N) -> Numbers:
        """Give the sums of one."""
        nothing = (0,) * self.width
        # NB: the greater one of the two is in it for certain; their sum might count what both have twice.
        pairs = zip(self.written.get(name, nothing), self._old.get(name, nothing), strict=True)
        return add(tuple(max(pair) for pair in pairs), self._new.get(name, nothing))


class Sums(Generic[N]):
    """The sums of all policies of a kind, each as long as it is the same one."""

    def __init__(self, begin: Callable[[PolicyKey], Totals[N]]) -> None:
        """`begin` gives the totals that a policy goes on from: those that its status says."""
        self._begin = begin
        self._totals: dict[tuple[PolicyKey, str], Totals[N]] = {}

    def keep(self, same: Mapping[PolicyKey, str]) -> None:
        """Forget all policies but these, and those of them that are not the same any more: another uid, say."""
        self._totals = {at: totals for at, totals in self._totals.items() if same.get(at[0]) == at[1]}

    def take(self, key: PolicyKey, same: str, said: Iterable[tuple[Life, Mapping[N, Numbers]]]) -> Totals[N] | None:
        """Take in what replicas say of a policy; give its totals, or None where nothing was ever said."""
        totals = self._totals.get((key, same))
        for life, counts in said:
            if totals is None:
                totals = self._totals[key, same] = self._begin(key)
            totals.take(life, counts)
        return totals


def seconds_of(time: str) -> int:
    """Read a time of a status."""
    return int(datetime.fromisoformat(time).timestamp())


def time_of(seconds: int) -> str:
    """Write one."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
