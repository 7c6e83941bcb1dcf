"""The states of a batch, as OpenAI names them, and which may follow which. Pure.

validating ─► in_progress ─► finalizing ─► completed
    │ │            │ │            │
    │ └► failed    │ └► failed    ├► expired      (its time was over: what is done is given)
    │              │              └► failed       (its credential holds no more: what is done is given)
    └──────────────┴─► cancelling ─► cancelled
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Status(StrEnum):
    """Where a batch is."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


ENDS: Final = frozenset((Status.COMPLETED, Status.FAILED, Status.EXPIRED, Status.CANCELLED))
"""Nothing follows these."""

BEFORE: Final[Mapping[Status, frozenset[Status]]] = MappingProxyType(
    {
        Status.VALIDATING: frozenset(),
        Status.IN_PROGRESS: frozenset((Status.VALIDATING,)),
        Status.FINALIZING: frozenset((Status.IN_PROGRESS,)),
        Status.CANCELLING: frozenset((Status.VALIDATING, Status.IN_PROGRESS, Status.FINALIZING)),
        Status.COMPLETED: frozenset((Status.FINALIZING,)),
        Status.FAILED: frozenset((Status.VALIDATING, Status.IN_PROGRESS, Status.FINALIZING)),
        Status.EXPIRED: frozenset((Status.VALIDATING, Status.IN_PROGRESS, Status.FINALIZING)),
        Status.CANCELLED: frozenset((Status.CANCELLING,)),
    }
)
"""What each may follow."""


def may_follow(before: Status, after: Status) -> bool:
    """Whether a batch may go from the one to the other."""
    return before in BEFORE[after]


def listed(states: frozenset[Status]) -> str:
    """Write states as the scripts read them: each between commas."""
    return "".join(f",{status}" for status in sorted(states)) + ","


def at_field(status: Status) -> str:
    """Give the field that says when a batch came there."""
    return f"{status}_at"
