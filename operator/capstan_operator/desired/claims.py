"""Who gets what several objects want and only one can have: a served name, or the place of a policy at its target.

The one that has it keeps it as long as it wants it; then the older one gets it, then the first by namespace and name.
So an object that comes later, or is restored from a backup with every creation time new, takes nothing from another.

A claimant that does not get what is essential to it is out, and claims nothing. That makes who is out depend on who
else is: the answer is the same for every order in which the claimants come, and stays the same when it is asked again
with those that have got something as those that have it.
"""

from collections import defaultdict, deque
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from capstan_operator.resources.resource import ObjectKey


@dataclass(frozen=True)
class Claimant:
    """An object and what it wants."""

    key: ObjectKey
    created: str
    """RFC 3339 creation timestamp."""
    essential: tuple[str, ...] = ()
    """Without each of these it is out altogether."""
    others: tuple[str, ...] = ()
    """Of these it has to do without those that it does not get."""

    @cached_property
    def seniority(self) -> tuple[str, ObjectKey]:
        """The lower one comes first, where nobody has what is wanted."""
        return self.created, self.key


@dataclass(frozen=True)
class Awards:
    """Who has what."""

    owners: Mapping[str, ObjectKey]
    out: Mapping[ObjectKey, str]
    """Who is out, and the essential thing that another one has."""


def award(claimants: Iterable[Claimant], incumbents: Mapping[str, ObjectKey] = MappingProxyType({})) -> Awards:
    """Decide who gets what. `incumbents` says who has what now; one that does not claim it any more does not count."""
    return _Contest(claimants, incumbents).decide()


class _Contest:
    """Decides each claimant once, and looks again only at those for whom a decision changes something.

    Who comes before whom for a thing is fixed, but for a thing that is given to the senior one of a circle. So what
    matters of it is who is the first that is not out, and who is the first that is in.
    """

    def __init__(self, claimants: Iterable[Claimant], incumbents: Mapping[str, ObjectKey]) -> None:
        self._waiting = {one.key: one for one in sorted(claimants, key=lambda one: one.seniority)}
        self._in: set[ObjectKey] = set()
        self._out: dict[ObjectKey, str] = {}
        wanted: defaultdict[str, list[ObjectKey]] = defaultdict(list)
        for one in self._waiting.values():
            for thing in _things(one):
                wanted[thing].append(one.key)
        self._queues = {thing: _Queue(keys, incumbents.get(thing)) for thing, keys in sorted(wanted.items())}
        self._to_look_at = deque(self._waiting)

    def decide(self) -> Awards:
        while self._waiting:
            if self._to_look_at:
                self._look(self._to_look_at.popleft())
            else:
                # Each of those left wants something essential that another of them has: the senior one gets it.
                senior = next(iter(self._waiting.values()))
                for thing in senior.essential:
                    self._queues[thing].put_first(senior.key, self._in, self._out)
                self._to_look_at.append(senior.key)
        owners = ((thing, queue.owner) for thing, queue in self._queues.items())
        return Awards({thing: owner for thing, owner in owners if owner is not None}, dict(self._out))

    def _look(self, key: ObjectKey) -> None:
        """Decide about a claimant, if that can be done by now."""
        claimant = self._waiting.get(key)
        if claimant is None:
            return
        lost = next((thing for thing in claimant.essential if self._queues[thing].is_lost_to(key)), None)
        if lost is not None:
            self._out[key] = lost
        elif all(self._queues[thing].is_next(key) for thing in claimant.essential):
            self._in.add(key)
        else:
            return
        del self._waiting[key]
        for thing in _things(claimant):
            queue = self._queues[thing]
            self._to_look_at.extend(queue.leave(self._out) if key in self._out else queue.enter(key))


class _Queue:
    """Those that want one thing, in the order in which they come for it: the one that has it, then by seniority."""

    def __init__(self, keys: Sequence[ObjectKey], holder: ObjectKey | None) -> None:
        self._line: list[ObjectKey] = []
        self._place: dict[ObjectKey, int] = {}
        self._head = 0
        """Place of the first that is not out."""
        self._in = 0
        """Place of the first that is in; the length of the line while nobody is."""
        self._set_line(keys)
        if holder in self._place:
            self._set_line([holder, *(key for key in keys if key != holder)])

    def _set_line(self, keys: Sequence[ObjectKey]) -> None:
        self._line = list(keys)
        self._place = {key: place for place, key in enumerate(keys)}
        self._head, self._in = 0, len(keys)

    @property
    def owner(self) -> ObjectKey | None:
        """The first that is in."""
        return self._line[self._in] if self._in < len(self._line) else None

    def is_lost_to(self, key: ObjectKey) -> bool:
        """Whether somebody before `key` is in."""
        return self._in < self._place[key]

    def is_next(self, key: ObjectKey) -> bool:
        """Whether everybody before `key` is out."""
        return self._head == self._place[key]

    def enter(self, key: ObjectKey) -> Sequence[ObjectKey]:
        """Take in that one is in; give those that have lost by it."""
        place, before = self._place[key], self._in
        if place >= before:
            return ()
        self._in = place
        return self._line[place + 1 : before]

    def leave(self, out: Mapping[ObjectKey, str]) -> Sequence[ObjectKey]:
        """Take in that somebody is out; give the one that is next now."""
        before = self._head
        while self._head < len(self._line) and self._line[self._head] in out:
            self._head += 1
        return self._line[self._head : self._head + 1] if self._head > before else ()

    def put_first(self, key: ObjectKey, in_: Container[ObjectKey], out: Mapping[ObjectKey, str]) -> None:
        """Let one come before all others."""
        self._set_line([key, *(one for one in self._line if one != key)])
        self._in = next((place for place, one in enumerate(self._line) if one in in_), len(self._line))
        self.leave(out)


def _things(claimant: Claimant) -> Iterable[str]:
    return dict.fromkeys((*claimant.essential, *claimant.others))
