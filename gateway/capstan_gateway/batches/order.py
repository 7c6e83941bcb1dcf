"""Which batch a gateway takes next, and which one it leaves to others for it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

PATIENCE_SECONDS: Final = 30.0
"""A batch that has asked nothing for so long leaves its place to one that waits."""


@dataclass(frozen=True, slots=True)
class Place:
    """A batch that is worked on."""

    name: str
    tenant: str
    idle_seconds: float
    """For how long it has had no room to ask anything."""


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
