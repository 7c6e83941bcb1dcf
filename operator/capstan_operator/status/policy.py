"""The status of one policy, of whatever kind."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from capstan_contract.reading import KEPT
from capstan_operator.api.kinds import CACHEPOLICY, GUARDPOLICY, RATELIMITPOLICY
from capstan_operator.desired.policies import policy_key
from capstan_operator.desired.types import Loss, PolicyVerdict
from capstan_operator.resources.resource import Resource
from capstan_operator.settings import BuildSettings
from capstan_operator.status.caches import cache_findings
from capstan_operator.status.conditions import Finding, conditions_by_type, merge_conditions
from capstan_operator.status.limits import limit_findings
from capstan_operator.status.types import Acknowledgement, AckState, StatusResult, Transition

CONTROLLER: Final = "capstan.dev/operator"
COUNTS: Final[Mapping[str, tuple[str, str | None]]] = {
    CACHEPOLICY.name: ("cached", None),
    GUARDPOLICY.name: ("decisions", "guards"),
    RATELIMITPOLICY.name: ("usage", "used"),
}
"""By name of the kind: the field of the status that says what policies have done, and its rows where it is a list."""
UNFIT: Final = "field/body: "
"""What gateways that know the kind say begins with this where a body cannot be enforced."""
_ALWAYS: Final = ("Accepted", "Programmed")
"""Conditions whose becoming true is news the first time, too; of others it is when they were false."""
_TIME: Final = "observedTime"


@dataclass(frozen=True)
class Ancestor:
    """The gateway, through which policies act."""

    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, settings: BuildSettings, config_name: str) -> "Ancestor":
        """Give the gateway's Service, or its config where there is no Service."""
        if settings.gateway_service:
            return cls("Service", settings.install_namespace, settings.gateway_service)
        return cls("ConfigMap", settings.install_namespace, config_name)


def compute_policy_status(
    policy: Resource[Any],
    verdict: PolicyVerdict,
    ack: Acknowledgement,
    now: datetime,
    *,
    ancestor: Ancestor,
    counts: Mapping[str, Any] | None = None,
) -> StatusResult:
    """Give the complete status of a policy, and the transitions in it.

    `now` must have a time zone. `counts` is what the gateway has said last of what the policy has done; without it, or
    where it says no other numbers, what the status has stays, as long as the policy is in the config.
    """
    present = conditions_by_type(policy.status)
    findings = {
        "Accepted": _accepted(verdict),
        "Programmed": _programmed(verdict, ack, present.get("Programmed"), policy.generation),
    }
    field, rows = COUNTS[policy.kind]
    known = _newest(counts, policy.status.get(field), rows) if verdict.in_config else None
    findings |= cache_findings(policy.spec, known) | limit_findings(policy.spec, known)
    conditions = merge_conditions(present, findings, generation=policy.generation, now=now)
    status: dict[str, Any] = {
        "observedGeneration": policy.generation,
        "conditions": conditions,
        "models": verdict.models,
        "ancestors": [_ancestor(verdict, conditions, ancestor)],
    }
    if known:
        status[field] = dict(known)
    return StatusResult(
        status=status, changed=status != dict(policy.status), transitions=tuple(_transitions(present, findings))
    )


def _newest(
    counts: Mapping[str, Any] | None, before: Mapping[str, Any] | None, rows: str | None
) -> Mapping[str, Any] | None:
    """Give the counts that are to be said: the time in them is from when on the numbers are so."""
    if counts is None:
        return before
    if rows is None:
        return before if before and {**before, _TIME: ""} == {**counts, _TIME: ""} else counts
    said = {rows: [], **(before or {})}
    return before if all(counts.get(field) == said.get(field) for field in (rows, "countedApart")) else counts


def _accepted(verdict: PolicyVerdict) -> Finding:
    return Finding("True" if verdict.accepted else "False", verdict.reason, verdict.message)


def _programmed(
    verdict: PolicyVerdict, ack: Acknowledgement, present: Mapping[str, Any] | None, generation: int
) -> Finding:
    """Say whether every ready replica runs this generation."""
    if verdict.kept:
        return Finding("False", "NotAccepted", "the gateway goes on with what was accepted last")
    if not verdict.in_config:
        return Finding("False", "NotAccepted", "it is in force nowhere")
    match ack.state:
        case AckState.NOT_NEEDED:
            return Finding("True", "Written", "it is in the gateway's config; no gateway is known that could be asked")
        case AckState.ACKNOWLEDGED:
            return Finding("True", "Programmed", f"all {ack.ready} gateway replicas run this generation")
        case AckState.NO_GATEWAY:
            return Finding("False", "NoGateway", "no gateway replica is ready")
        case AckState.UNKNOWN if present and _said_so(present, generation):
            return Finding("True", str(present["reason"]), str(present["message"]))
        case AckState.UNKNOWN if not ack.acknowledged:
            return Finding("Unknown", "GatewayUnknown", "the gateway could not be asked")
        case AckState.BLOCKED if ack.problem:
            return Finding("False", ack.problem.reason, ack.problem.message)
        case AckState.REFUSED:
            return Finding("False", "GatewayRefused", _refusal(ack.missing))
        case _:
            done = f"{ack.acknowledged} of {ack.ready} gateway replicas run this generation"
            return Finding("False", "GatewayPending", done)


def _refusal(missing: Collection[str]) -> str:
    """Say why gateways do not enforce a policy, and what they do instead."""
    unfit = [what.removeprefix(UNFIT) for what in missing if what.startswith(UNFIT)]
    if unfit and KEPT in missing:
        return f"the gateway cannot enforce it, and goes on with what it could enforce last: {'; '.join(unfit)}"
    if unfit:
        return f"the gateway cannot enforce it, and serves none of the models that it is for: {'; '.join(unfit)}"
    return f"the gateway is of a release that does not know what this needs: {', '.join(missing)}"


def _said_so(present: Mapping[str, Any], generation: int) -> bool:
    """Whether this generation was programmed already: a gateway that is silent for a moment takes nothing back."""
    return present.get("status") == "True" and present.get("observedGeneration") == generation


def _ancestor(verdict: PolicyVerdict, conditions: list[dict[str, Any]], ancestor: Ancestor) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ancestorRef": {
            "group": "",
            "kind": ancestor.kind,
            "namespace": ancestor.namespace,
            "name": ancestor.name,
        },
        "controllerName": CONTROLLER,
        "conditions": conditions,
        "models": verdict.models,
        "lost": verdict.lost,
    }
    if verdict.losses:
        found["losses"] = [_loss(loss) for loss in verdict.losses]
    return found


def _loss(loss: Loss) -> dict[str, Any]:
    named = {"namespace": loss.model.namespace, "name": loss.model.name, "reason": loss.reason}
    return named if loss.winner is None else {**named, "winner": str(policy_key(loss.winner).object)}


def _transitions(present: Mapping[str, Mapping[str, Any]], findings: Mapping[str, Finding]) -> list[Transition]:
    """Give what is news. That a gateway has not got it yet is none: it is told once it has."""
    news = []
    for kind, finding in findings.items():
        before = present.get(kind) or {"status": "Unknown"}
        same = before.get("status") == finding.status
        if (same and before.get("reason") == finding.reason) or (same and finding.status == "True"):
            continue
        if finding.reason in ("GatewayPending", "GatewayUnknown", "NotAccepted"):
            continue
        if finding.status != "False" and kind not in _ALWAYS and before.get("status") != "False":
            continue
        bad = finding.status == "False"
        news.append(Transition("Warning" if bad else "Normal", finding.reason, finding.message))
    return news
