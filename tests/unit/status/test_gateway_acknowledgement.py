"""What the gateway's word means for Ready and Degraded."""

from dataclasses import replace
from typing import Any

import pytest

from capstan_operator.api.kinds import Model
from capstan_operator.desired.compile import compile_gateway
from capstan_operator.desired.model import build_model
from capstan_operator.status.compute import compute_status
from capstan_operator.status.types import Acknowledgement, AckState, Problem, StatusResult
from support.plainmodels import NOW, SETTINGS, deployment_of, hash_of, make_model, make_pod, snapshot_of

TOO_LARGE = Problem("ConfigTooLarge", "the gateway config does not fit")
RUNS = Acknowledgement(AckState.ACKNOWLEDGED, acknowledged=2, ready=2)
SILENT = Acknowledgement(AckState.UNKNOWN, acknowledged=0, ready=2)
HALF = Acknowledgement(AckState.UNKNOWN, acknowledged=1, ready=2)
PENDING = Acknowledgement(AckState.PENDING, acknowledged=1, ready=2)
REFUSED = Acknowledgement(AckState.REFUSED, acknowledged=1, ready=2, missing=("guard/v2",))
BLOCKED = Acknowledgement(AckState.BLOCKED, problem=TOO_LARGE)


def look(model: Model, ack: Acknowledgement) -> StatusResult:
    """Compute the status of a model whose pod is ready."""
    snapshot = replace(
        snapshot_of(model, deployment_of(model), pods=[make_pod("a", hash_of(model), ready=True)]), now=NOW
    )
    verdict = compile_gateway([model]).verdicts[model.key]
    return compute_status(model, build_model(model, snapshot, SETTINGS), snapshot, verdict, ack, NOW)


def told(result: StatusResult, kind: str = "Ready") -> tuple[str, str, int]:
    """Give status, reason and generation of a condition."""
    found: dict[str, Any] = next(one for one in result.status["conditions"] if one["type"] == kind)
    return found["status"], found["reason"], found["observedGeneration"]


def ready_model(generation: int = 1) -> Model:
    """Give a model that was found ready."""
    return make_model(generation=generation, status=look(make_model(generation=generation), RUNS).status)


@pytest.mark.parametrize("ack", [SILENT, HALF])
def test_silence_takes_nothing_from_a_generation_that_was_ready(ack: Acknowledgement) -> None:
    """Nothing is written and nobody is told: what was said of this very generation still holds."""
    result = look(ready_model(), ack)
    assert told(result) == ("True", "Serving", 1)
    assert not result.changed
    assert result.transitions == ()


@pytest.mark.parametrize(
    ("ack", "expected"), [(SILENT, ("Unknown", "GatewayUnknown", 2)), (HALF, ("False", "GatewayPending", 2))]
)
def test_silence_makes_nothing_ready(ack: Acknowledgement, expected: tuple[str, str, int]) -> None:
    """Neither a model that never was, nor a generation after one that was."""
    assert told(look(make_model(generation=2), ack)) == expected
    before = ready_model(generation=1)
    assert told(look(make_model(generation=2, status=before.status), ack)) == expected
    pending = look(make_model(generation=2), PENDING)
    assert told(look(make_model(generation=2, status=pending.status), ack)) == expected


def test_a_replica_that_runs_something_else_counts() -> None:
    """Ready means that a request sent now is answered, whichever replica gets it."""
    result = look(ready_model(), PENDING)
    assert told(result) == ("False", "GatewayPending", 1)
    assert result.changed


@pytest.mark.parametrize(
    ("ack", "reason", "word"), [(REFUSED, "GatewayRefused", "guard/v2"), (BLOCKED, "ConfigTooLarge", "does not fit")]
)
def test_what_needs_a_person_is_degraded_and_told_once(ack: Acknowledgement, reason: str, word: str) -> None:
    """A generation that the gateway will not run by itself is not Ready, is Degraded, and has one Warning Event."""
    result = look(make_model(), ack)
    assert told(result) == ("False", reason, 1)
    assert told(result, "Degraded") == ("True", reason, 1)
    assert told(result, "Available")[0] == "True"
    (event,) = [one for one in result.transitions if one.reason == reason]
    assert event.type == "Warning"
    assert word in event.message
