"""Which batch a gateway takes next, and which one it leaves to others for it. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

PATIENCE_SECONDS: Final = 30.0
"""A batch that has asked nothing for so long leaves its place to one that waits."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """A batch that is worked on."""

    name: str
    tenant: str
    idle_seconds: float
    """For how long it has had no room to ask anything."""


def by_turns(waiting: Iterable[tuple[str, T]], held: Mapping[str, int]) -> Iterator[T]:
    """Give batches of tenants, which come as the oldest first, as they are to be taken.

    Those of tenants of whom least is being worked on (`held`, which whoever takes one changes meanwhile) come first;
    of tenants with equally much the one with the oldest batch.
    """
    batches: dict[str, list[T]] = {}
    for tenant, one in waiting:
        batches.setdefault(tenant, []).append(one)
    for of_one in batches.values():
        of_one.reverse()
    given = dict.fromkeys(batches, 0)
    while batches:
        # Also those that somebody else has count: so that they are not looked at before all others.
        tenant = min(batches, key=lambda one: held.get(one, 0) + given[one])
        before = held.get(tenant, 0)
        yield batches[tenant].pop()
        if held.get(tenant, 0) == before:
            given[tenant] += 1
        if not batches[tenant]:
            del batches[tenant]


def leaves_for(tenant: str, places: Sequence[Place]) -> Place | None:
    """Give which of these (the oldest first) makes room for a batch of this tenant; None: it has to wait.

    One that stands still, whoever's it is; else the latest of the tenant with the most, where that has two more.
    """
    still = max(places, key=lambda one: one.idle_seconds, default=None)
    if still is not None and still.idle_seconds >= PATIENCE_SECONDS:
        return still
    counts: dict[str, int] = {}
    for place in places:
        counts[place.tenant] = counts.get(place.tenant, 0) + 1
    largest = max(counts, key=lambda one: counts[one], default=None)
    if largest is None or counts[largest] < counts.get(tenant, 0) + 2:
        return None
    return next(place for place in reversed(places) if place.tenant == largest)
