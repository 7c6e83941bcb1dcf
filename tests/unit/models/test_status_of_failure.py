"""What a model's status says when the operator itself fails."""

from datetime import UTC, datetime
from typing import Any

from capstan_operator.api.kinds import Model
from capstan_operator.failures import sort_failure
from capstan_operator.models.reconciler import status_of_failure
from capstan_operator.resources.resource import ObjectKey


def model(generation: int = 1, status: dict[str, Any] | None = None) -> Model:
    """Give a model as the API server knows it."""
    return Model(key=ObjectKey("ns", "m"), uid="u", generation=generation, created="", spec=None, status=status or {})


def test_a_bug_shows_as_ready_unknown_and_stays_stable() -> None:
    """The other conditions stay; a second failure writes nothing new."""
    bug = sort_failure(ZeroDivisionError())
    accepted = {"type": "Accepted", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    first = status_of_failure(
        model(3, {"conditions": [accepted], "replicas": 2}), datetime(2026, 1, 2, tzinfo=UTC), bug
    )
    assert first["replicas"] == 2
    assert first["conditions"][0] == accepted
    assert first["conditions"][1]["status"] == "Unknown"
    assert status_of_failure(model(3, first), datetime(2026, 1, 3, tzinfo=UTC), bug) == first
