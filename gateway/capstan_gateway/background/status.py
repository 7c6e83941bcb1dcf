"""The states of a background response, and which may follow which. Pure.

queued ─► in_progress ─► completed | incomplete
   │           │
   └───────────┴───────► failed | cancelled
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Status(StrEnum):
    """Where a response is, in OpenAI's words."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN: Final = frozenset((Status.QUEUED, Status.IN_PROGRESS))
"""Something follows these, and nothing the others."""
ENDS: Final = frozenset(Status) - OPEN

BEFORE: Final[Mapping[Status, frozenset[Status]]] = MappingProxyType(
    {
        Status.QUEUED: frozenset(),
        Status.IN_PROGRESS: frozenset((Status.QUEUED,)),
        Status.COMPLETED: frozenset((Status.IN_PROGRESS,)),
        Status.INCOMPLETE: frozenset((Status.IN_PROGRESS,)),
        Status.FAILED: OPEN,
        Status.CANCELLED: OPEN,
    }
)
"""What each may follow."""


def may_follow(before: Status, after: Status) -> bool:
    """Whether a response may go from the one to the other."""
    return before in BEFORE[after]


def listed(states: frozenset[Status]) -> str:
    """Write states as the scripts read them: each between commas."""
    return "".join(f",{status}" for status in sorted(states)) + ","
