"""Who gets the last GPUs: models by priority, then by share. Pure: what models want and have in, who gives way out.

Only a model that says so (`preemptible`) gives way, and only to one of a higher priority that has work and of which no
node takes a replica for want of GPUs. Two things are asked of it:

    to be put to zero       it has been idle for a while, and its replicas give back what the other one lacks
    to have no more         its replicas that no node has taken are withdrawn, so that they do not take what is freed

What it has and works on stays. It is given back when the other one wants fewer replicas than it wanted then, or when
something is asked of it; then it has its peace for a while, so that two models do not push each other out in turns.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from capstan_operator.resources.resource import ObjectKey

IDLE_SECONDS: Final = 60.0
"""For so long nothing must have been asked of a model before it is put to zero for another one."""
GRANTED_SECONDS: Final = 120.0
"""For so long what was given up for a model is on its way to it, and nothing more is given up for the same replica;
twice as long each time that nothing came of it: what it lacks may be something else, such as memory of a node."""
MOST_DOUBLINGS: Final = 5
PEACE_SECONDS: Final = 120.0
"""For so long a model that was given back is not put to zero again."""
AWAITED_SECONDS: Final = 60.0
"""For so long a new process keeps what the one before has decided, until it has seen the model that it is for."""


@dataclass(frozen=True)
class Contender:
    """A model that is scaled here, at a moment."""

    key: ObjectKey
    priority: int
    preemptible: bool
    resource: str
    """Its GPUs, such as nvidia.com/gpu."""
    gpus: int
    """Of one replica."""
    place: str
    """What its pods ask of nodes; models that ask the same can use each other's GPUs."""
    wanted: int
    """Replicas that there should be, if nobody else wanted any."""
    placed: int
    """Those that a node has taken."""
    starved: int
    """Those that no node takes for want of GPUs, since a while."""
    has_work: bool
    """Whether something is asked of it."""
    idle_seconds: float | None
    """For how long nothing was; None: something is, or it is not known."""

    @property
    def lacking(self) -> int:
        """How many replicas of work it lacks GPUs for. What a rollout makes besides is none."""
        return min(self.starved, max(self.wanted - self.placed, 0)) if self.has_work else 0

    @property
    def share(self) -> float:
        """How much it has of what it wants."""
        return self.placed / self.wanted if self.wanted else 1.0

    @property
    def site(self) -> tuple[str, str]:
        """Where its GPUs are: models of one site can use each other's."""
        return self.resource, self.place

    def yields_to(self, other: "Contender") -> bool:
        """Whether it gives way to another model, which can use what it has."""
        is_lower = self.site == other.site and self.priority < other.priority
        return self.preemptible and is_lower and self.gpus >= other.gpus > 0


@dataclass(frozen=True)
class Cap:
    """Most replicas of a model that gives way."""

    most: int
    by: ObjectKey
    """For whom."""
    keeps_placed: bool = False
    """Whether these are those that nodes have taken. One more that a node takes meanwhile stays."""


@dataclass(frozen=True)
class _Hold:
    """A model that was put to zero."""

    by: ObjectKey
    since: float
    needed: int | None
    """Replicas that the other one wanted then; None: a process before has decided it."""


@dataclass
class Preemption:
    """Decides again and again. What it remembers is bounded by the models that there are.

    Models are looked at by where they are and how large their replicas are: with thousands that lack GPUs and thousands
    that give way, not each is compared with each.
    """

    _holds: dict[ObjectKey, _Hold] = field(default_factory=dict)
    _peace: dict[ObjectKey, float] = field(default_factory=dict)
    """Until when a model is left alone."""
    _granted: dict[ObjectKey, list[tuple[float, int]]] = field(default_factory=dict)
    """What was given up for a model lately: until when that is on its way, and for how many of its replicas."""
    _in_vain: dict[ObjectKey, tuple[int, int]] = field(default_factory=dict)
    """Replicas that a model had when something was given up for it last, and how often in a row it got none by it."""

    def adopt(self, key: ObjectKey, by: ObjectKey, clock: float) -> None:
        """Go on from what a process before has decided: a model is at zero for another one."""
        self._holds.setdefault(key, _Hold(by, clock, None))

    def decide(self, contenders: Iterable[Contender], clock: float) -> Mapping[ObjectKey, Cap]:
        """Give the models that give way now. The order of the contenders does not matter."""
        known = {one.key: one for one in sorted(contenders, key=lambda one: one.key)}
        self._forget(known, clock)
        for key in [key for key in self._holds if self._is_over(key, known, clock)]:
            del self._holds[key]
            self._peace[key] = clock + PEACE_SECONDS
        starving = sorted((one for one in known.values() if one.lacking), key=_turn)
        yielding = [one for one in known.values() if one.preemptible] if starving else []
        idle = _by_site(sorted((one for one in yielding if self._may_go(one)), key=_farewell))
        for one in starving:
            self._make_room(one, idle.get(one.site, {}), clock)
        caps = {key: Cap(0, hold.by) for key, hold in self._holds.items()}
        first = _by_site(starving)
        for one in yielding:
            if one.key not in caps and one.wanted > one.placed:
                for_whom = [queue[0] for queue in first.get(one.site, {}).values() if one.yields_to(queue[0])]
                if for_whom:
                    caps[one.key] = Cap(one.placed, min(for_whom, key=_turn).key, keeps_placed=True)
        return caps

    def _forget(self, known: Mapping[ObjectKey, Contender], clock: float) -> None:
        self._peace = {key: until for key, until in self._peace.items() if until > clock and key in known}
        recent = {
            key: [one for one in granted if clock < one[0]] for key, granted in self._granted.items() if key in known
        }
        self._granted = {key: granted for key, granted in recent.items() if granted}
        self._in_vain = {key: had for key, had in self._in_vain.items() if key in known and known[key].lacking}

    def _is_over(self, key: ObjectKey, known: Mapping[ObjectKey, Contender], clock: float) -> bool:
        hold, one = self._holds[key], known.get(key)
        if one is None or one.has_work:
            return True
        other = known.get(hold.by)
        if other is None:
            return hold.needed is not None or clock - hold.since > AWAITED_SECONDS
        if hold.needed is None:
            self._holds[key] = hold = replace(hold, needed=other.wanted)
        return not one.yields_to(other) or other.wanted < (hold.needed or 0) or not other.wanted

    def _make_room(self, one: Contender, idle: Mapping[int, deque[Contender]], clock: float) -> None:
        """Put idle models to zero until what they give back is enough, or there are no more of them."""
        lacking = one.lacking - sum(count for _, count in self._granted.get(one.key, ()))
        had, times = self._in_vain.get(one.key, (-1, 0))
        times = times + 1 if one.placed <= had else 0
        until = clock + GRANTED_SECONDS * 2 ** min(times, MOST_DOUBLINGS)
        while lacking > 0:
            found = [queue for queue in idle.values() if queue and queue[0].yields_to(one)]
            if not found:
                return
            gone = min(found, key=lambda queue: _farewell(queue[0])).popleft()
            self._holds[gone.key] = _Hold(one.key, clock, one.wanted)
            self._granted.setdefault(one.key, []).append((until, gone.placed))
            self._in_vain[one.key] = (one.placed, times)
            lacking -= gone.placed

    def _may_go(self, one: Contender) -> bool:
        if one.key in self._holds or one.key in self._peace or one.has_work or not one.placed:
            return False
        return one.idle_seconds is not None and one.idle_seconds >= IDLE_SECONDS


def _turn(one: Contender) -> tuple[int, float, ObjectKey]:
    """Who lacks GPUs is served in this order."""
    return -one.priority, one.share, one.key


def _farewell(one: Contender) -> tuple[int, int, ObjectKey]:
    """Who is idle goes in this order."""
    return one.priority, -one.placed, one.key


def _by_site(models: Iterable[Contender]) -> dict[tuple[str, str], dict[int, deque[Contender]]]:
    """Sort models by their nodes, and by the GPUs of a replica, in the order that they have.

    Of those with as many GPUs the first one decides: where that has no higher priority, or no lower one, none has.
    """
    found: dict[tuple[str, str], dict[int, deque[Contender]]] = {}
    for one in models:
        found.setdefault(one.site, {}).setdefault(one.gpus, deque()).append(one)
    return found
