"""Who says how many replicas there are.

Without `scaling` the LLMModel does. With it an autoscaler does, and the operator only sees to the bounds, under a field
manager of its own, so that applying the rest of the Deployment never fights over the number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from capstan_contract.names import GROUP
from capstan_operator.api.llmmodel import LLMModelSpec, Scaling
from capstan_operator.resources.resource import Manifest

REPLICAS_ANNOTATION: Final = f"{GROUP}/replicas-from"
"""On the Deployment: whether our main field manager says how many replicas there are."""
FROM_MODEL: Final = "LLMModel"
FROM_AUTOSCALER: Final = "Autoscaler"


@dataclass(frozen=True)
class Replicas:
    """What the Deployment manifest says, and what the scale manager is to apply."""

    in_manifest: int | None
    to_hand_over: int | None

    @property
    def annotations(self) -> Mapping[str, str]:
        """What the Deployment says about it."""
        return {REPLICAS_ANNOTATION: FROM_AUTOSCALER if self.in_manifest is None else FROM_MODEL}


def decide_replicas(spec: LLMModelSpec, live: Manifest | None) -> Replicas:
    """Decide what is written about the number of replicas, and by whom."""
    if spec.scaling is None:
        return Replicas(in_manifest=spec.replicas, to_hand_over=None)
    present = None if live is None else int(live["spec"].get("replicas", 1))
    wanted = wanted_replicas(spec, live)
    # NB: dropping a field that nobody else owns resets it to 1, so the scale manager takes it over first.
    return Replicas(in_manifest=None, to_hand_over=wanted if _is_ours(live) or present != wanted else None)


def wanted_replicas(spec: LLMModelSpec, live: Manifest | None) -> int:
    """Give how many replicas there should be right now, whoever says so."""
    if spec.scaling is None:
        return spec.replicas
    if live is None:
        # At least one to begin with, also when 0 is allowed: a model that never ran shows nothing to an autoscaler.
        return max(1, _bound(spec.replicas, spec.scaling))
    return _bound(int(live["spec"].get("replicas", 1)), spec.scaling)


def _bound(count: int, scaling: Scaling) -> int:
    return min(max(count, scaling.min), scaling.max)


def _is_ours(live: Manifest | None) -> bool:
    annotations = live["metadata"].get("annotations") or {} if live else {}
    return bool(annotations.get(REPLICAS_ANNOTATION) == FROM_MODEL)
