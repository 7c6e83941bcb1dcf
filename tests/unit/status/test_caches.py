"""What the status of a CachePolicy says of what its cache does."""

import json
from dataclasses import replace
from typing import Any

from capstan_operator.api.kinds import CACHEPOLICY, Policy
from capstan_operator.desired.types import PolicyVerdict
from capstan_operator.settings import BuildSettings
from capstan_operator.status.policy import Ancestor, compute_policy_status
from capstan_operator.status.types import Acknowledgement, AckState, StatusResult
from support.plainmodels import NOW
from support.plainpolicies import make_cache

GATEWAY = Ancestor.of(BuildSettings(gateway_service="gw"), "config")
ACCEPTED = PolicyVerdict(accepted=True, reason="Accepted", message="in force on 1 model", models=1, in_config=True)
EVERYWHERE = Acknowledgement(AckState.ACKNOWLEDGED, acknowledged=2, ready=2)
CACHED: dict[str, Any] = {
    "observedTime": "2026-01-01T00:00:00Z", "since": "2026-01-01T00:00:00Z", "mode": "Enforce", "hits": 3, "misses": 1,
    "hitPercent": 75, "savedTokens": 9, "savedDollars": "0.5", "shared": True, "redisDown": 0, "semanticOff": False,
}  # fmt: skip
MEASURED = {"sampled": 200, "wrong": 12, "rate": "0.0600", "low": "0.0347", "high": "0.1020"}


def status_of(policy: Policy, counts: dict[str, Any] | None, verdict: PolicyVerdict = ACCEPTED) -> StatusResult:
    """The status of a policy."""
    return compute_policy_status(policy, verdict, EVERYWHERE, NOW, ancestor=GATEWAY, counts=counts)


def told(result: StatusResult) -> dict[str, tuple[str, str]]:
    """What the conditions say beside those of every policy: status and reason."""
    conditions = {one["type"]: (one["status"], one["reason"]) for one in result.status["conditions"]}
    return {kind: said for kind, said in conditions.items() if kind not in ("Accepted", "Programmed")}


def after(policy: Policy, result: StatusResult) -> Policy:
    """The policy once a status is written."""
    return replace(policy, status=dict(result.status))


def test_it_fits_its_schema() -> None:
    """What is written is what the resource says a status may be."""
    result = status_of(make_cache(semantic={"enabled": True}), {**CACHED, "falseHits": MEASURED})
    CACHEPOLICY.status.model_validate_json(json.dumps(dict(result.status)))
    assert result.status["cached"]["hits"] == 3


def test_numbers_are_written_when_they_are_others() -> None:
    """Hits alone are news although the misses are what they were; the same numbers at another time are none."""
    policy = make_cache()
    written = after(policy, status_of(policy, CACHED))
    later = {**CACHED, "observedTime": "2026-01-02T00:00:00Z"}
    assert not status_of(written, later).changed
    assert status_of(written, {**later, "hits": 4}).status["cached"]["hits"] == 4
    assert status_of(written, None).status["cached"] == CACHED
    assert "cached" not in status_of(written, later, replace(ACCEPTED, in_config=False)).status


def test_a_cache_that_is_to_be_shared_says_whether_it_is() -> None:
    """No Redis in the install, or one that does not answer, is said; a policy that wants none is not told about it, and
    nothing is said before a gateway has."""
    policy = make_cache()
    assert told(status_of(policy, None)) == {}
    assert told(status_of(policy, CACHED)) == {"Shared": ("True", "Shared")}
    assert told(status_of(policy, {**CACHED, "shared": False})) == {"Shared": ("False", "NoRedis")}
    assert told(status_of(policy, {**CACHED, "redisDown": 2})) == {"Shared": ("False", "RedisDown")}
    assert told(status_of(make_cache(redis={"enabled": False}), {**CACHED, "shared": False})) == {}


def test_a_cache_that_only_looks_on_says_nothing_of_sharing() -> None:
    """In mode Shadow answers are in memory alone, whether or not there is a Redis: neither is good or bad news."""
    policy = make_cache(mode="Shadow")
    for counts in (CACHED, {**CACHED, "shared": False}, {**CACHED, "redisDown": 2}):
        assert told(status_of(policy, {**counts, "mode": "Shadow"})) == {}


def test_a_semantic_cache_that_only_looks_on_says_what_would_be() -> None:
    """Where too many would have been wrong none was given."""
    policy = make_cache(mode="Shadow", semantic={"enabled": True})
    off = {**CACHED, "mode": "Shadow", "falseHits": MEASURED, "semanticOff": True}
    (event,) = [one for one in status_of(policy, off).transitions if one.reason == "TurnedOff"]
    assert event.message.startswith("no more answers to questions that mean the same would be given, until")


def test_a_semantic_cache_says_how_often_it_is_wrong() -> None:
    """Nothing measured, within what it may, and turned off are three things; who wants none is told none."""
    policy = make_cache(redis={"enabled": False}, semantic={"enabled": True})
    assert told(status_of(policy, CACHED)) == {"SemanticHealthy": ("Unknown", "NotMeasured")}
    fine = status_of(policy, {**CACHED, "falseHits": MEASURED})
    assert told(fine) == {"SemanticHealthy": ("True", "WithinBudget")}
    off = status_of(after(policy, fine), {**CACHED, "falseHits": MEASURED, "semanticOff": True})
    assert told(off) == {"SemanticHealthy": ("False", "TurnedOff")}
    (event,) = off.transitions
    assert (event.type, event.reason) == ("Warning", "TurnedOff")
    assert "12 of 200 hits that were compared were another answer (3.5 to 10.2 percent)" in event.message


def test_that_all_is_well_is_an_event_only_after_it_was_not() -> None:
    """A cache that begins as it should is no news; that Redis is gone is one, and that it is back."""
    policy = make_cache()
    first = status_of(policy, CACHED)
    assert {one.reason for one in first.transitions} == {"Accepted", "Programmed"}
    down = status_of(after(policy, first), {**CACHED, "redisDown": 1})
    assert [(one.type, one.reason) for one in down.transitions] == [("Warning", "RedisDown")]
    back = status_of(after(policy, down), {**CACHED, "hits": 5})
    assert [(one.type, one.reason) for one in back.transitions] == [("Normal", "Shared")]
