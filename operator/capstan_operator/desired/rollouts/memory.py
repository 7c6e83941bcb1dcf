"""What a status keeps of a rollout."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from pydantic import ValidationError

from capstan_operator.api.rollout import RejectedRevision, RolloutStatus

ROLLOUT: Final = "rollout"
"""The field of the status."""
MOST_REJECTED: Final = 10


@dataclass(frozen=True)
class Asked:
    """What is asked for: a revision, which the spec of a generation and a profile make."""

    revision: str
    generation: int
    profile: str = ""
    """A hash of what the profile gives; empty without one."""


class State(StrEnum):
    """Where a rollout is."""

    COMPLETE = "Complete"
    """What serves is what the spec asks for."""
    STARTING = "Starting"
    """The canary comes up."""
    EVALUATING = "Evaluating"
    """The suites run against it, and it gets no traffic."""
    STEP = "Step"
    """It gets a share of the traffic."""
    PROMOTING = "Promoting"
    """All pods are replaced, while it serves on."""
    PAUSED = "Paused"
    """Until a person says how to go on."""
    ROLLED_BACK = "RolledBack"
    """It is not tried again until the spec changes."""


def read_memory(status: Mapping[str, Any]) -> RolloutStatus | None:
    """Read it off a status; None where that says nothing, or nothing that can be read. What a newer release has added
    is left aside."""
    said = status.get(ROLLOUT)
    if not isinstance(said, Mapping):
        return None
    try:
        memory = RolloutStatus.model_validate(dict(said), extra="ignore")
        State(memory.state)
    except (ValidationError, ValueError):
        return None
    return memory


def write_memory(memory: RolloutStatus) -> dict[str, Any]:
    """Give the field of the status."""
    found: dict[str, Any] = memory.model_dump(mode="json", exclude_none=True)
    return {key: value for key, value in found.items() if value != []}


def moment(now: datetime) -> str:
    """Write a time as Kubernetes does."""
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_from(text: str | None, now: datetime) -> float:
    """Give how long ago it was; 0 where it is not known."""
    try:
        return (now - datetime.fromisoformat(text)).total_seconds() if text else 0.0
    except ValueError:
        return 0.0


def unix_seconds(text: str | None) -> int:
    """Give a time as a number; 0 where it is not known."""
    try:
        return int(datetime.fromisoformat(text).timestamp()) if text else 0
    except ValueError:
        return 0


def find_rejected(memory: RolloutStatus, asked: Asked) -> RejectedRevision | None:
    """Give the note of a revision that was rejected.

    A generation, with the same profile, says it as well: another release may find another hash of the same spec.
    """

    def is_it(one: RejectedRevision) -> bool:
        of_same = (one.generation, one.profile or "") == (asked.generation, asked.profile)
        return of_same or one.revision == asked.revision

    return next(filter(is_it, memory.rejected), None)


def is_of(memory: RolloutStatus, asked: Asked) -> bool:
    """Whether what a memory speaks of last is what is asked for now."""
    last = memory.stable if memory.state == State.COMPLETE else memory.candidate
    return last == asked.revision or (memory.generation, memory.profile or "") == (asked.generation, asked.profile)


def is_of_profile(memory: RolloutStatus, asked: Asked) -> bool:
    """Whether it is the profile alone by which what is asked for now differs from what a memory speaks of last."""
    return not is_of(memory, asked) and memory.generation == asked.generation
