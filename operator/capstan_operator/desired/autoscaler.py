"""The HorizontalPodAutoscaler of a model, above zero; to zero and from zero it is the operator that scales.

What KEDA has instead, which goes to zero and from zero as well, is in scaled_object.py.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from capstan_contract.names import MODEL_LABEL
from capstan_operator.api.scaling import Scaling
from capstan_operator.desired.naming import workload_name
from capstan_operator.names import LOAD_METRIC
from capstan_operator.resources.api_resource import AUTOSCALERS, DEPLOYMENTS
from capstan_operator.resources.resource import Manifest

LONGEST_WINDOW: Final = 3600
"""Seconds: an HPA takes no longer stabilisation."""
PERIOD: Final = 15


class Use(StrEnum):
    """What is wanted of an object that scales, an HPA or a ScaledObject."""

    APPLY = "Apply"
    HOLD = "Hold"
    """It is not known yet whether one can be used: what is there stays."""
    NONE = "None"


@dataclass(frozen=True)
class ScalerEndpoint:
    """Where the operator answers KEDA."""

    address: str
    """host:port, as the pods of the cluster reach it."""
    authorities: str
    """PEM: who has signed its certificate."""


@dataclass(frozen=True)
class ScalerSays:
    """What the operator's scaler says of a model."""

    replicas: int | None = None
    """How many there should be; None: what there is, which is for others to say."""
    hpa: Use = Use.HOLD
    least: int = 1
    """Fewest replicas for the HPA, or for KEDA, at present."""
    most: int | None = None
    """Most replicas for the HPA, while the model gives way to another one; None: `max`."""
    keeps_placed: bool = False
    """Whether replicas that nodes have taken stay, however few were said: only further ones give way."""
    keda: Use = Use.NONE
    endpoint: ScalerEndpoint | None = None
    """What KEDA is to ask; None: nothing that could answer is known."""


NOTHING_SAID: Final = ScalerSays(keda=Use.HOLD)


def build_autoscaler(name: str, scaling: Scaling, least: int, most: int | None = None) -> Manifest:
    """Give the HPA: its metric is how many replicas are asked for, so that it aims at 1 for each.

    Its windows are those of the spec, and its policies let it go all the way at once: what is slow is said by the
    windows alone.
    """
    largest = scaling.max if most is None else max(1, min(most, scaling.max))
    return {
        "apiVersion": AUTOSCALERS.api_version,
        "kind": AUTOSCALERS.kind,
        "metadata": {"name": workload_name(name)},
        "spec": {
            "scaleTargetRef": {
                "apiVersion": DEPLOYMENTS.api_version,
                "kind": DEPLOYMENTS.kind,
                "name": workload_name(name),
            },
            "minReplicas": max(1, min(least, largest)),
            "maxReplicas": largest,
            "metrics": [
                {
                    "type": "External",
                    "external": {
                        "metric": {"name": LOAD_METRIC, "selector": {"matchLabels": {MODEL_LABEL: name}}},
                        "target": {"type": "AverageValue", "averageValue": "1"},
                    },
                }
            ],
            "behavior": build_behavior(scaling),
        },
    }


def build_behavior(scaling: Scaling) -> Manifest:
    """Give how fast an HPA goes up and down."""
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": scaling.up_seconds,
            "selectPolicy": "Max",
            "policies": [{"type": "Pods", "value": scaling.max, "periodSeconds": PERIOD}],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": min(scaling.down_seconds, LONGEST_WINDOW),
            "selectPolicy": "Max",
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": PERIOD}],
        },
    }
