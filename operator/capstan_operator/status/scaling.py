"""What the status says of a model whose number of replicas a scaler says."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

from capstan_operator.api.kinds import Model
from capstan_operator.desired.replicas import is_inherited
from capstan_operator.desired.scaled_object import ScaledObjectState
from capstan_operator.resources.resource import Manifest
from capstan_operator.scaling.decision import Limit
from capstan_operator.status.conditions import Finding

ACTIVE: Final = "ScalingActive"
LIMITED: Final = "ScalingLimited"
AT_MAX: Final = "AtMax"
PREEMPTED: Final = "Preempted"
_REASONS: Final[Mapping[Limit, str]] = MappingProxyType(
    {
        Limit.MAX: AT_MAX,
        Limit.MIN: "AtMin",
        Limit.SCHEDULE: "AtSchedule",
        Limit.GPUS: "InsufficientGPU",
        Limit.PREEMPTED: PREEMPTED,
    }
)

_LIMITS: Final[Mapping[Limit, str]] = MappingProxyType(
    {
        Limit.MAX: "more replicas are asked for than `max` allows",
        Limit.MIN: "fewer replicas would be enough than `min` asks for",
        Limit.SCHEDULE: "fewer replicas would be enough than the schedule asks for",
        Limit.GPUS: "no node has the GPUs of a further replica free",
        Limit.PREEMPTED: "the LLMModel {by} has a higher priority, work, and not the GPUs for it",
    }
)

_INHERITED: Final = (
    "somebody else says how many replicas there are, as with the release before this one: to have the operator scale"
    " the model remove any HorizontalPodAutoscaler of your own and write `strategy: HPA` into `spec.scaling`; to leave"
    " it so write `strategy: External`"
)


@dataclass(frozen=True)
class Scaled:
    """What the scaler says of a model."""

    known: bool | None
    """Whether it knows what is asked of the model; None: not yet."""
    desired: int | None = None
    """How many replicas there should be; None: nothing was decided yet."""
    reason: str = ""
    """Why that was changed last."""
    changed_at: datetime | None = None
    limited_by: Limit | None = None
    idle_since: datetime | None = None
    without_hpa: str = ""
    """Why there is no HPA although there should be one."""
    by_hpa: bool = False
    preempted_by: str = ""
    """`namespace/name` of the LLMModel that it is at zero for, or waits for."""
    denied_since: datetime | None = None
    """Since when it has requests and may have no replica, because it gives way."""
    rivals: tuple[str, ...] = ()
    """HPAs of others that write the number of the same model."""
    hpa_problem: str = ""
    """Why the HPA of ours does not work, in its words."""
    without_keda: str = ""
    """Why KEDA does not scale it although it should."""
    by_keda: bool = False
    scaled_object: ScaledObjectState | None = None
    """What KEDA says of the one that the model has, also of one that is to go."""


def scaling_findings(model: Model, scaled: Scaled | None, deployment: Manifest | None = None) -> dict[str, Finding]:
    """Give the conditions that only a model with `scaling` has."""
    scaling = model.spec.scaling if model.spec else None
    if scaling is None:
        return {}
    if model.spec and is_inherited(model.spec, deployment):
        return {kind: Finding("False", "External", _INHERITED) for kind in (ACTIVE, LIMITED)}
    if scaling.is_external:
        says = "somebody else says how many replicas there are"
        return {ACTIVE: Finding("False", "External", says), LIMITED: Finding("False", "External", says)}
    return {ACTIVE: _active(scaled), LIMITED: _limited(scaled)}


def scaling_fields(scaled: Scaled | None) -> dict[str, Any]:
    """Give `status.scaling`, from which another process goes on."""
    if scaled is None or scaled.desired is None:
        return {}
    fields: dict[str, Any] = {"desired": scaled.desired}
    if scaled.reason:
        fields["reason"] = scaled.reason
    if scaled.changed_at:
        fields["lastScaleTime"] = _written(scaled.changed_at)
    if scaled.idle_since:
        fields["idleSince"] = _written(scaled.idle_since)
    if scaled.preempted_by:
        fields["preemptedBy"] = scaled.preempted_by
    return fields


def moment_in(status: Mapping[str, Any], field: str) -> datetime | None:
    """Read a time of `status.scaling`; None where there is none that can be read."""
    try:
        found = datetime.fromisoformat(str((status.get("scaling") or {})[field]))
    except (KeyError, ValueError):
        return None
    return found if found.tzinfo else None


def moment_of_failure(status: Mapping[str, Any], reason: str) -> datetime | None:
    """Give since when `status.startFailure` says that no replica comes up for this reason; None where it does not."""
    said = status.get("startFailure")
    if not isinstance(said, Mapping) or said.get("reason") != reason:
        return None
    return moment_in({"scaling": said}, "since")


def _active(scaled: Scaled | None) -> Finding:
    if scaled is not None and scaled.rivals:
        names = ", ".join(f"'{name}'" for name in scaled.rivals)
        says = (
            f"the number of replicas has another owner beside `spec.scaling`, and both write it: the"
            f" HorizontalPodAutoscaler {names}. Remove it, or say `strategy: External`"
        )
        return Finding("False", "AnotherAutoscaler", says)
    if scaled is None or scaled.known is None:
        return Finding("Unknown", "DemandUnknown", "the gateway was not asked yet what is asked of the model")
    if not scaled.known:
        return Finding(
            "False",
            "DemandUnknown",
            "no gateway replica says what is asked of the model: the replicas stay as they are",
        )
    if scaled.without_hpa:
        says = (
            f"there is no HorizontalPodAutoscaler, because {scaled.without_hpa}; the operator scales the model itself"
        )
        return Finding("True", "WithoutHPA", says)
    if scaled.by_keda:
        return _of_keda(scaled.scaled_object)
    if scaled.scaled_object is not None:
        says = "KEDA has not let go of the ScaledObject that the model had, and nobody else scales the model until then"
        return Finding("False", "KEDAHolds", says)
    if scaled.without_keda:
        says = f"KEDA does not scale the model, because {scaled.without_keda}; the operator scales the model itself"
        return Finding("True", "WithoutKEDA", says)
    if scaled.hpa_problem:
        return Finding("False", "HPANotWorking", f"the HorizontalPodAutoscaler does not work: {scaled.hpa_problem}")
    by = "a HorizontalPodAutoscaler" if scaled.by_hpa else "the operator"
    return Finding("True", "DemandKnown", f"replicas follow what is asked of the model, by {by}")


def _of_keda(found: ScaledObjectState | None) -> Finding:
    if found is None:
        return Finding("Unknown", "KEDAPending", "KEDA is to scale the model, and there is no ScaledObject yet")
    says = f"Ready={found.ready}, Active={found.active}, Fallback={found.fallback}"
    if found.paused == "True":
        return Finding("False", "KEDAPaused", f"the ScaledObject is paused, and the replicas stay as they are ({says})")
    if found.ready == "False":
        why = ": ".join(part for part in (found.reason, found.message) if part) or "it does not say why"
        return Finding("False", "KEDANotReady", f"KEDA does not work with the ScaledObject ({says}): {why}")
    if found.ready != "True":
        return Finding("Unknown", "KEDAPending", f"KEDA has not looked at the ScaledObject yet ({says})")
    if found.fallback == "True":
        return Finding("False", "KEDAFallback", f"KEDA cannot read what is asked of the model ({says})")
    return Finding("True", "DemandKnown", f"replicas follow what is asked of the model, by KEDA (ScaledObject: {says})")


def _limited(scaled: Scaled | None) -> Finding:
    limit = scaled.limited_by if scaled else None
    if scaled is None or limit is None:
        return Finding("False", "WithinBounds", "what is asked for is within the bounds")
    return Finding("True", _REASONS[limit], _LIMITS[limit].format(by=f"'{scaled.preempted_by}'"))


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
