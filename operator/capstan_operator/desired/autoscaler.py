"""The HorizontalPodAutoscaler of a model, above zero; to zero and from zero it is the operator that scales."""

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


class HpaUse(StrEnum):
    """What is wanted of the HPA."""

    APPLY = "Apply"
    HOLD = "Hold"
    """It is not known yet whether one can be used: what is there stays."""
    NONE = "None"


@dataclass(frozen=True)
class ScalerSays:
    """What the operator's scaler says of a model."""

    replicas: int | None = None
    """How many there should be; None: what there is, which is for others to say."""
    hpa: HpaUse = HpaUse.HOLD
    least: int = 1
    """Fewest replicas for the HPA at present."""
    most: int | None = None
    """Most replicas for it, while the model gives way to another one; None: `max`."""


NOTHING_SAID: Final = ScalerSays()


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
            "behavior": {
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
            },
        },
    }
