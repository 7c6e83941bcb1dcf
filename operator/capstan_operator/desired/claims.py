"""Who gets what several objects want and only one can have: a served name, or the place of a policy at its target.

The one that has it keeps it as long as it wants it; then the older one gets it, then the first by namespace and name.
So an object that comes later, or is restored from a backup with every creation time new, takes nothing from another.

A claimant that does not get what is essential to it is out, and claims nothing. That makes who is out depend on who
else is: the answer is the same for every order in which the claimants come, and stays the same when it is asked again
with those that have got something as those that have it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
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
    def __init__(self, claimants: Iterable[Claimant], incumbents: Mapping[str, ObjectKey]) -> None:
        self._waiting = {one.key: one for one in sorted(claimants, key=lambda one: one.seniority)}
        self._holders = dict(incumbents)
        self._in: set[ObjectKey] = set()
        self._out: dict[ObjectKey, str] = {}
        wanted: defaultdict[str, list[ObjectKey]] = defaultdict(list)
        for one in self._waiting.values():
            for thing in dict.fromkeys((*one.essential, *one.others)):
                wanted[thing].append(one.key)
        self._wanted = wanted
        """Who wants each thing, the senior ones first."""

    def decide(self) -> Awards:
        while self._waiting:
            if not self._pass():
                # Each of those left wants something essential that another of them has: the senior one gets it.
                senior = next(iter(self._waiting.values()))
                self._holders |= dict.fromkeys(senior.essential, senior.key)
        owners = ((thing, self._owner(thing)) for thing in sorted(self._wanted))
        return Awards({thing: owner for thing, owner in owners if owner is not None}, dict(self._out))

    def _pass(self) -> bool:
        """Decide whatever can be decided now; say whether anything was."""
        before = len(self._waiting)
        for one in list(self._waiting.values()):
            rivals = {thing: self._rivals(one.key, thing) for thing in one.essential}
            lost = next((thing for thing, found in rivals.items() if any(key in self._in for key in found)), None)
            if lost is not None:
                self._out[one.key] = lost
            elif not any(rivals.values()):
                self._in.add(one.key)
            else:
                continue
            del self._waiting[one.key]
        return len(self._waiting) < before

    def _rivals(self, key: ObjectKey, thing: str) -> list[ObjectKey]:
        """Give those that come before `key` for a thing, without those that are out."""
        holder = self._holders.get(thing)
        if holder == key:
            return []
        wanting = self._wanted[thing]
        before = wanting[: wanting.index(key)]
        if holder is not None and holder not in before and holder in wanting:
            before.append(holder)
        return [rival for rival in before if rival not in self._out]

    def _owner(self, thing: str) -> ObjectKey | None:
        wanting = self._wanted[thing]
        holder = self._holders.get(thing)
        if holder in self._in and holder in wanting:
            return holder
        return next((key for key in wanting if key in self._in), None)
