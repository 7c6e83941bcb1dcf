"""What the status of a RateLimitPolicy says of where its counts are."""

import json
from dataclasses import replace
from typing import Any

import pytest

from capstan_operator.api.kinds import RATELIMITPOLICY, Policy
from capstan_operator.desired.types import PolicyVerdict
from capstan_operator.settings import BuildSettings
from capstan_operator.status.policy import Ancestor, compute_policy_status
from capstan_operator.status.types import Acknowledgement, AckState, StatusResult
from support.plainmodels import NOW
from support.plainpolicies import make_policy

GATEWAY = Ancestor.of(BuildSettings(gateway_service="gw"), "config")
ACCEPTED = PolicyVerdict(accepted=True, reason="Accepted", message="in force on 1 model", models=1, in_config=True)
EVERYWHERE = Acknowledgement(AckState.ACKNOWLEDGED, acknowledged=2, ready=2)
TOGETHER: dict[str, Any] = {
    "observedTime": "2026-01-01T00:00:00Z",
    "mostUsedPercent": 5,
    "used": [{"name": "a", "counts": "Requests", "usedPercent": 5}],
}
APART = {**TOGETHER, "countedApart": 2}
UNUSED = {"observedTime": "2026-01-01T00:00:00Z", "mostUsedPercent": 0, "used": []}


def status_of(policy: Policy, counts: dict[str, Any] | None) -> StatusResult:
    """The status of a policy."""
    return compute_policy_status(policy, ACCEPTED, EVERYWHERE, NOW, ancestor=GATEWAY, counts=counts)


def shared(result: StatusResult) -> tuple[str, str] | None:
    """What the condition says: status and reason; None where there is none."""
    found = {one["type"]: (one["status"], one["reason"]) for one in result.status["conditions"]}
    return found.get("Shared")


def after(policy: Policy, result: StatusResult) -> Policy:
    """The policy once a status is written."""
    return replace(policy, status=dict(result.status))


def test_gateways_that_count_apart_are_told_of() -> None:
    """Several gateways without a Redis are said in a condition and an Event, as soon as they answer; it stays while
    nobody answers, and ends when they count together, which is an Event too."""
    policy = make_policy()
    assert shared(status_of(policy, None)) is None
    first = status_of(policy, {**UNUSED, "countedApart": 2})
    assert shared(first) == ("False", "NoRedis")
    assert [one.reason for one in first.transitions if one.type == "Warning"] == ["NoRedis"]
    RATELIMITPOLICY.status.model_validate_json(json.dumps(dict(first.status)))
    written = after(policy, first)
    assert shared(status_of(written, None)) == ("False", "NoRedis")
    assert not status_of(written, {**UNUSED, "countedApart": 2, "observedTime": "2026-01-02T00:00:00Z"}).changed
    mended = status_of(written, TOGETHER)
    assert shared(mended) == ("True", "Shared")
    assert [one.reason for one in mended.transitions] == ["Shared"]


def test_what_is_as_it_should_be_is_no_news() -> None:
    """Gateways that count together are said once the policy was used, and are no Event; then they lose their Redis."""
    policy = make_policy()
    assert shared(status_of(policy, UNUSED)) is None
    first = status_of(policy, TOGETHER)
    assert shared(first) == ("True", "Shared")
    assert "Shared" not in [one.reason for one in first.transitions]
    lost = status_of(after(policy, first), APART)
    assert shared(lost) == ("False", "NoRedis")
    assert lost.status["usage"]["countedApart"] == 2


@pytest.mark.parametrize("counts", [APART, TOGETHER])
def test_who_only_looks_on_is_told_nothing(counts: dict[str, Any]) -> None:
    """A policy in mode Shadow limits nobody, however it is counted."""
    assert shared(status_of(make_policy(mode="Shadow"), counts)) is None
