"""How many entries a worker takes: as many as its engine would run at once, and not one that would wait in it. Pure."""

from dataclasses import dataclass
from typing import Final

FULL_MEMORY: Final = 0.95
"""Share of the KV cache in use from which on an engine would put sequences off, or throw some out."""


@dataclass(frozen=True, slots=True)
class Load:
    """What an engine tells of itself."""

    busy: int
    """Sequences that run and that wait, whoever sent them."""
    waiting: int
    memory: float | None = None
    """Share of its KV cache in use."""


def room_for(places: int, mine: int, *, told: int | None = None, load: Load | None = None, since: int = 0) -> int:
    """Give how many more entries the engine would run at once.

    `mine` are those that it runs for this worker, `told` what the engine says itself. The load may have been read a
    moment ago: `since` is how many more of ours it has now than it had then, and may be negative.
    """
    room = places - mine
    if told is not None:
        room = min(room, told)
    if load is not None:
        if load.waiting > 0 or (load.busy > 0 and load.memory is not None and load.memory >= FULL_MEMORY):
            return 0
        room = min(room, places - max(load.busy + since, 0))
    return max(room, 0)


def spare_room(room: int, places: int, percent: int) -> int:
    """Give how many of those may be of the least urgent class: this share of the places stays free for others."""
    return max(room - -(-places * percent // 100), 0)
