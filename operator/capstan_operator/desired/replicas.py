"""Who says how many replicas there are.

Without `scaling` the LLMModel does. With it an autoscaler does, and the operator only sees to the bounds, under a field
manager of its own, so that applying the rest of the Deployment never fights over the number.
"""

from dataclasses import dataclass
from typing import Any

from capstan_operator.api.llmmodel import LLMModelSpec, Scaling
from capstan_operator.desired.types import FIELD_MANAGER
from capstan_operator.snapshot import Manifest


@dataclass(frozen=True)
class Replicas:
    """What the Deployment manifest says, and what the scale manager is to apply."""

    in_manifest: int | None
    to_hand_over: int | None


def decide_replicas(spec: LLMModelSpec, live: Manifest | None) -> Replicas:
    """Decide what is written about the number of replicas, and by whom."""
    if spec.scaling is None:
        return Replicas(in_manifest=spec.replicas, to_hand_over=spec.replicas)
    if live is None:
        # At least one to begin with, also when 0 is allowed: a model that never ran shows nothing to an autoscaler.
        return Replicas(in_manifest=None, to_hand_over=max(1, spec.scaling.min))
    present = int(live["spec"].get("replicas", 1))
    bounded = _bound(present, spec.scaling)
    if _is_ours(live):
        # NB: dropping a field that nobody else owns resets it to 1. Both managers hold it until the next pass.
        return Replicas(in_manifest=bounded, to_hand_over=bounded)
    return Replicas(in_manifest=None, to_hand_over=None if present == bounded else bounded)


def wanted_replicas(spec: LLMModelSpec, live: Manifest | None) -> int:
    """Give how many replicas there should be right now, whoever says so."""
    if spec.scaling is None:
        return spec.replicas
    if live is None:
        return max(1, spec.scaling.min)
    return _bound(int(live["spec"].get("replicas", 1)), spec.scaling)


def _bound(count: int, scaling: Scaling) -> int:
    return min(max(count, scaling.min), scaling.max)


def _is_ours(live: Manifest) -> bool:
    """Say whether our main field manager is the only one that owns `spec.replicas`."""
    owners = {entry.get("manager") for entry in live["metadata"].get("managedFields") or () if _owns_replicas(entry)}
    return owners == {FIELD_MANAGER}


def _owns_replicas(entry: dict[str, Any]) -> bool:
    return "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
