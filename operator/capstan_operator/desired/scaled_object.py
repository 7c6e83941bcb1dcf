"""What makes KEDA scale a model: a ScaledObject, and how it knows that it is the operator whom it asks.

KEDA scales to zero and from zero as well. It asks the operator whether the model is active, and makes an HPA of its own
for what is above zero, of which the metric comes from the operator too.
"""

from dataclasses import dataclass
from typing import Any, Final

from capstan_operator.api.scaling import Scaling
from capstan_operator.desired.autoscaler import PERIOD, ScalerEndpoint, build_behavior
from capstan_operator.desired.naming import workload_name
from capstan_operator.resources.api_resource import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    SCALED_OBJECTS,
    TRIGGER_AUTHENTICATIONS,
)
from capstan_operator.resources.resource import Manifest

MODEL_FIELD: Final = "model"
"""In the metadata of the trigger, which KEDA passes on with each question: the LLMModel."""
AUTHORITIES_KEY: Final = "ca.crt"
_MOST_MESSAGE: Final = 500


@dataclass(frozen=True)
class ScaledObjectState:
    """What KEDA says of a ScaledObject; each is True, False or Unknown, as conditions are."""

    ready: str = "Unknown"
    active: str = "Unknown"
    fallback: str = "Unknown"
    paused: str = "Unknown"
    reason: str = ""
    """Why it is not ready."""
    message: str = ""
    is_going: bool = False
    """It was deleted, and KEDA has not let go of it yet."""


def build_scaled_object(name: str, scaling: Scaling, least: int, endpoint: ScalerEndpoint) -> list[Manifest]:
    """Give the objects in the order to apply them.

    For how long nothing must have been asked of a model before it goes to zero is in the answer of the operator: so
    KEDA is to wait no longer (`cooldownPeriod`). It is told at once when a model at zero is asked for (a stream of
    type external-push), and asks by itself every 15 seconds, as its HPA does. The certificates come through a
    TriggerAuthentication, because that is where KEDA looks for them.
    """
    own = {"name": workload_name(name)}
    return [
        {
            "apiVersion": CONFIG_MAPS.api_version,
            "kind": CONFIG_MAPS.kind,
            "metadata": dict(own),
            "data": {AUTHORITIES_KEY: endpoint.authorities},
        },
        {
            "apiVersion": TRIGGER_AUTHENTICATIONS.api_version,
            "kind": TRIGGER_AUTHENTICATIONS.kind,
            "metadata": dict(own),
            "spec": {"configMapTargetRef": [{"parameter": "caCert", "key": AUTHORITIES_KEY, **own}]},
        },
        {
            "apiVersion": SCALED_OBJECTS.api_version,
            "kind": SCALED_OBJECTS.kind,
            "metadata": dict(own),
            "spec": {
                "scaleTargetRef": {"apiVersion": DEPLOYMENTS.api_version, "kind": DEPLOYMENTS.kind, **own},
                "pollingInterval": PERIOD,
                "cooldownPeriod": 0,
                "minReplicaCount": min(least, scaling.max),
                "maxReplicaCount": scaling.max,
                "advanced": {"horizontalPodAutoscalerConfig": {"behavior": build_behavior(scaling)}},
                "triggers": [
                    {
                        "type": "external-push",
                        "metadata": {"scalerAddress": endpoint.address, MODEL_FIELD: name},
                        "authenticationRef": dict(own),
                    }
                ],
            },
        },
    ]


def is_of_keda(child: Manifest, name: str) -> bool:
    """Say whether a child of the model of this name is one of these objects."""
    if child["kind"] == CONFIG_MAPS.kind:
        return bool(child["metadata"]["name"] == workload_name(name))
    return child["kind"] in (SCALED_OBJECTS.kind, TRIGGER_AUTHENTICATIONS.kind)


def read_state(scaled_object: Manifest) -> ScaledObjectState:
    """Read what KEDA says; what it does not say is Unknown."""
    conditions = (scaled_object.get("status") or {}).get("conditions") or ()
    said: dict[str, Any] = {str(one.get("type")): one for one in conditions if isinstance(one, dict)}
    ready = said.get("Ready", {})
    return ScaledObjectState(
        **{name: _status(said.get(name.title(), {})) for name in ("ready", "active", "fallback", "paused")},
        reason=str(ready.get("reason") or "") if _status(ready) == "False" else "",
        message=str(ready.get("message") or "")[:_MOST_MESSAGE] if _status(ready) == "False" else "",
        is_going="deletionTimestamp" in scaled_object["metadata"],
    )


def _status(condition: Any) -> str:
    found = str(condition.get("status"))
    return found if found in ("True", "False") else "Unknown"
