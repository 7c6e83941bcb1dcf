"""The status of a policy."""

import json
from dataclasses import replace
from typing import Any

import pytest

from capstan_operator.api.kinds import RATELIMITPOLICY, Policy
from capstan_operator.desired.types import Loss, PolicyVerdict
from capstan_operator.resources.resource import ObjectKey
from capstan_operator.settings import BuildSettings
from capstan_operator.status.policy import Ancestor, compute_policy_status
from capstan_operator.status.types import Acknowledgement, AckState, Problem, StatusResult
from support.plainmodels import NOW
from support.plainpolicies import make_policy

POLICY = make_policy(generation=3)
USED = [{"name": "a", "counts": "Requests", "usedPercent": 5}]
GATEWAY = Ancestor("Service", "capstan-system", "gw")
ACCEPTED = PolicyVerdict(accepted=True, reason="Accepted", message="in force on 2 models", models=2, in_config=True)
EVERYWHERE = Acknowledgement(AckState.ACKNOWLEDGED, acknowledged=2, ready=2)


def status_of(
    verdict: PolicyVerdict = ACCEPTED, ack: Acknowledgement = EVERYWHERE, policy: Policy = POLICY, **more: Any
) -> StatusResult:
    """The status of a policy."""
    return compute_policy_status(policy, verdict, ack, NOW, ancestor=GATEWAY, **more)


def told(result: StatusResult, kind: str) -> tuple[str, str]:
    """What a condition says: status and reason."""
    found = next(one for one in result.status["conditions"] if one["type"] == kind)
    return found["status"], found["reason"]


def after(result: StatusResult, **more: Any) -> Policy:
    """The policy once a status is written."""
    return replace(POLICY, status=dict(result.status), **more)


def test_in_force_everywhere() -> None:
    """Accepted and run by every replica: both conditions are true, of the policy and of its ancestor alike."""
    result = status_of()
    assert told(result, "Accepted") == ("True", "Accepted")
    assert told(result, "Programmed") == ("True", "Programmed")
    (ancestor,) = result.status["ancestors"]
    assert ancestor["ancestorRef"] == {"group": "", "kind": "Service", "namespace": "capstan-system", "name": "gw"}
    assert ancestor["conditions"] == result.status["conditions"]
    assert {one["observedGeneration"] for one in ancestor["conditions"]} == {3}
    assert (result.status["models"], ancestor["models"], ancestor["lost"]) == (2, 2, 0)


def test_it_fits_its_schema() -> None:
    """What is written is what the resource says a status may be."""
    losses = (
        Loss(ObjectKey("team", "a"), "Conflicted", "RateLimitPolicy/team/x"),
        Loss(ObjectKey("team", "b"), "NotServed"),
    )
    usage = {"observedTime": "2026-01-01T00:00:00Z", "mostUsedPercent": 5, "used": []}
    result = status_of(replace(ACCEPTED, lost=2, losses=losses), counts=usage)
    RATELIMITPOLICY.status.model_validate_json(json.dumps(dict(result.status)))
    assert [one.get("winner") for one in result.status["ancestors"][0]["losses"]] == ["team/x", None]


@pytest.mark.parametrize(
    ("ack", "expected"),
    [
        (Acknowledgement(AckState.PENDING, acknowledged=1, ready=2), ("False", "GatewayPending")),
        (Acknowledgement(AckState.REFUSED, acknowledged=1, ready=2, missing=("kind/X",)), ("False", "GatewayRefused")),
        (Acknowledgement(AckState.NO_GATEWAY), ("False", "NoGateway")),
        (Acknowledgement(AckState.UNKNOWN), ("Unknown", "GatewayUnknown")),
        (Acknowledgement(AckState.NOT_NEEDED), ("True", "Written")),
        (
            Acknowledgement(AckState.BLOCKED, problem=Problem("ConfigTooLarge", "too large")),
            ("False", "ConfigTooLarge"),
        ),
    ],
)
def test_until_every_replica_runs_it(ack: Acknowledgement, expected: tuple[str, str]) -> None:
    """Programmed is true only when every ready replica runs this generation; otherwise it says what is in the way."""
    assert told(status_of(ack=ack), "Programmed") == expected


def test_a_silent_gateway_takes_nothing_back() -> None:
    """A generation that was programmed stays so while the gateway cannot be asked; a newer one does not get it."""
    silent = Acknowledgement(AckState.UNKNOWN)
    written = after(status_of())
    assert told(status_of(ack=silent, policy=written), "Programmed") == ("True", "Programmed")
    assert told(status_of(ack=silent, policy=replace(written, generation=4)), "Programmed")[0] == "Unknown"


@pytest.mark.parametrize("kept", [True, False])
def test_what_is_not_accepted_is_not_programmed(kept: bool) -> None:
    """A faulty generation is not in force, whatever the gateways run; it says when what was before it is."""
    verdict = PolicyVerdict(accepted=False, reason="Invalid", message="wrong", kept=kept, in_config=kept)
    assert told(status_of(verdict), "Accepted") == ("False", "Invalid")
    assert told(status_of(verdict), "Programmed") == ("False", "NotAccepted")


def test_what_has_not_changed_is_not_written() -> None:
    """The status that is there already is no change, at whatever time; another number of models is."""
    written = after(status_of())
    assert not status_of(policy=written).changed
    assert status_of(replace(ACCEPTED, models=3), policy=written).changed


def test_events() -> None:
    """One for each change that a person asks about, none while a change is under way, none for what is as it was."""
    pending = Acknowledgement(AckState.PENDING, ready=2)
    first = status_of(ack=pending)
    assert [(one.type, one.reason) for one in first.transitions] == [("Normal", "Accepted")]
    second = status_of(policy=after(first))
    assert [(one.type, one.reason) for one in second.transitions] == [("Normal", "Programmed")]
    assert status_of(policy=after(second)).transitions == ()
    lost = PolicyVerdict(accepted=False, reason="Conflicted", message="another one")
    third = status_of(lost, policy=after(second))
    assert [(one.type, one.reason) for one in third.transitions] == [("Warning", "Conflicted")]


def test_usage_stays_until_there_is_a_newer_one() -> None:
    """What the gateway has said last of its use stays in the status, until it is in force nowhere."""
    usage = {"observedTime": "2026-01-01T00:00:00Z", "mostUsedPercent": 5, "used": USED}
    written = after(status_of(counts=usage))
    assert status_of(policy=written).status["usage"] == usage
    assert not status_of(policy=written).changed
    lost = PolicyVerdict(accepted=False, reason="Conflicted", message="another one")
    assert "usage" not in status_of(lost, policy=written).status


def test_what_a_former_process_has_seen_of_the_use_gives_way() -> None:
    """A policy that is not used any more says so; the same numbers at another time, or none of none, are no news."""
    usage = {"observedTime": "2026-01-01T00:00:00Z", "mostUsedPercent": 5, "used": USED}
    unused = {"observedTime": "2026-01-02T00:00:00Z", "mostUsedPercent": 0, "used": []}
    written = after(status_of(counts=usage))
    assert status_of(policy=written, counts=unused).status["usage"] == unused
    again = status_of(policy=written, counts={**usage, "observedTime": "2026-01-02T00:00:00Z"})
    assert again.status["usage"] == usage
    assert not again.changed
    assert "usage" not in status_of(counts=unused).status


def test_the_gateway_without_a_service() -> None:
    """Where no Service of the gateway is known, its config is the ancestor."""
    settings = BuildSettings(gateway_service="", install_namespace="here")
    assert Ancestor.of(settings, "config") == Ancestor("ConfigMap", "here", "config")


def test_what_a_gateway_cannot_enforce_is_told_in_its_words() -> None:
    """A gateway that knows the kind and not what a body asks for says so; the status does not blame its release."""
    body = Acknowledgement(AckState.REFUSED, missing=("field/body: the guard `x` cannot be enforced: no such engine",))
    (programmed,) = [one for one in status_of(ack=body).status["conditions"] if one["type"] == "Programmed"]
    assert programmed["reason"] == "GatewayRefused"
    assert programmed["message"] == (
        "the gateway cannot enforce it, and serves none of the models that it is for:"
        " the guard `x` cannot be enforced: no such engine"
    )
    kept = replace(body, missing=(*body.missing, "kept/body"))
    (programmed,) = [one for one in status_of(ack=kept).status["conditions"] if one["type"] == "Programmed"]
    assert programmed["message"].startswith(
        "the gateway cannot enforce it, and goes on with what it could enforce last"
    )
