"""Conditions: what a check says, and how it is merged with what the object has."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

State = Literal["True", "False", "Unknown"]
F = TypeVar("F")


@dataclass(frozen=True)
class Finding:
    """What a chain of checks says about one condition."""

    status: State
    reason: str
    message: str


def run_chain(chain: Sequence[Callable[[F], Finding | None]], facts: F) -> Finding:
    """Give what the first check says that has something to say. The last one of a chain always has."""
    for check in chain:
        finding = check(facts)
        if finding is not None:
            return finding
    raise AssertionError("the last check of a chain must always have something to say")


def conditions_by_type(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Give the conditions of a status by their type."""
    return {str(condition.get("type")): condition for condition in status.get("conditions") or ()}


def merge_conditions(
    present: Mapping[str, Mapping[str, Any]], findings: Mapping[str, Finding], *, generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Give the conditions to write: lastTransitionTime moves only when the status does."""
    return [
        {
            "type": kind,
            "status": finding.status,
            "reason": finding.reason,
            "message": finding.message,
            "observedGeneration": generation,
            "lastTransitionTime": _transition_time(present.get(kind), finding, now),
        }
        for kind, finding in findings.items()
    ]


def _transition_time(present: Mapping[str, Any] | None, finding: Finding, now: datetime) -> str:
    if present and present.get("status") == finding.status and present.get("lastTransitionTime"):
        return str(present["lastTransitionTime"])
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
