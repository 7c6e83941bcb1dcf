"""Which engine processes to start and stop, decided from what runs and what is wanted. Pure.

The rules, in the order of what they protect:
- A ready process serves until another one of its slot is ready, unless nobody wants the slot any more.
- In a slot there is at most one process that is coming up, and it is the wanted one.
- A process that has crashed rests before it is started again; a changed launch does not rest.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from capstan_operator.local.launch import Launch
from capstan_operator.resources.resource import ObjectKey

MANY_CRASHES: Final = 3
"""So many in a row are no accident, as in a cluster."""


class State(StrEnum):
    """How far a process is."""

    STARTING = "Starting"
    READY = "Ready"
    STOPPING = "Stopping"


@dataclass(frozen=True, order=True)
class Slot:
    """A place for one process: replica `ordinal` of a model."""

    model: ObjectKey
    ordinal: int = 0


@dataclass(frozen=True)
class Process:
    """A process that exists."""

    id: int
    """Grows with every start, so that of two processes the newer is known."""
    slot: Slot
    launch: Launch
    state: State
    url: str
    worker_url: str = ""
    """Where its worker answers; "" while it is being made, as `url` is."""


@dataclass(frozen=True)
class Crashes:
    """How a slot has crashed, without having served for a while in between."""

    launch: Launch
    count: int
    since: datetime
    """When the first of them was, with a time zone."""


@dataclass(frozen=True)
class Plan:
    """What to do now."""

    start: tuple[tuple[Slot, Launch], ...]
    stop: tuple[int, ...]


def plan_processes(
    processes: Collection[Process],
    wanted: Mapping[Slot, Launch],
    resting: Collection[tuple[Slot, Launch]] = (),
) -> Plan:
    """Decide what to start and what to stop. Carried out until nothing is left, it ends at exactly `wanted`."""
    live = [process for process in processes if process.state is not State.STOPPING]
    keep: set[int] = set()
    start: list[tuple[Slot, Launch]] = []
    for slot, launch in sorted(wanted.items(), key=lambda item: item[0]):
        right, bridge = _candidates(live, slot, launch)
        keep |= {process.id for process in (right, bridge) if process}
        if right is None and (slot, launch) not in resting:
            start.append((slot, launch))
    return Plan(start=tuple(start), stop=tuple(sorted(process.id for process in live if process.id not in keep)))


def failing_models(
    processes: Collection[Process], wanted: Mapping[Slot, Launch], crashes: Mapping[Slot, Crashes]
) -> dict[ObjectKey, datetime]:
    """Give the models of which no process comes up, and since when: none is ready, also none of an older launch, and
    each that is wanted has crashed MANY_CRASHES times in a row."""
    alive = {process.slot.model for process in processes if process.state is State.READY}
    since: dict[ObjectKey, datetime] = {}
    coming = set[ObjectKey]()
    for slot, launch in wanted.items():
        found = crashes.get(slot)
        if found is None or found.launch != launch or found.count < MANY_CRASHES:
            coming.add(slot.model)
        else:
            since[slot.model] = min(found.since, since.get(slot.model, found.since))
    return {key: at for key, at in since.items() if key not in coming and key not in alive}


def serving_processes(
    processes: Collection[Process], wanted: Mapping[Slot, Launch]
) -> dict[ObjectKey, tuple[Process, ...]]:
    """Give the processes that serve each wanted model: one per slot, the wanted one before an older one."""
    serving: dict[ObjectKey, tuple[Process, ...]] = {slot.model: () for slot in wanted}
    for slot, launch in sorted(wanted.items(), key=lambda item: item[0]):
        for process in _candidates(processes, slot, launch):
            if process and process.state is State.READY:
                serving[slot.model] += (process,)
                break
    return serving


def _candidates(processes: Collection[Process], slot: Slot, launch: Launch) -> tuple[Process | None, Process | None]:
    """Give the process that is as wanted, and the one that bridges the time until that one is ready."""
    here = [process for process in processes if process.slot == slot and process.state is not State.STOPPING]
    right = max(
        (process for process in here if process.launch == launch),
        key=lambda process: (process.state is State.READY, -process.id),
        default=None,
    )
    if right and right.state is State.READY:
        return right, None
    ready = (process for process in here if process.state is State.READY)
    return right, max(ready, key=lambda process: process.id, default=None)
