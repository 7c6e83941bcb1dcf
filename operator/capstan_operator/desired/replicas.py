"""Who says how many replicas there are.

Without `scaling` the LLMModel does. With it a scaler does, under a field manager of its own, so that applying the rest
of the Deployment never fights over the number: ours (`scaling/`), or somebody else's, whom the operator leaves alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from capstan_contract.names import GROUP
from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.api.scaling import Scaling
from capstan_operator.resources.resource import Manifest

REPLICAS_ANNOTATION: Final = f"{GROUP}/replicas-from"
"""On the Deployment: whether our main field manager says how many replicas there are."""
FROM_MODEL: Final = "LLMModel"
FROM_AUTOSCALER: Final = "Autoscaler"
PASSED_ON_ANNOTATION: Final = f"{GROUP}/replicas-passed-on"
"""On the Deployment of a model that somebody else scales: the LLMModel's `spec.replicas` that was passed on last."""


@dataclass(frozen=True)
class Replicas:
    """What the Deployment manifest says, and what the scale manager is to apply."""

    in_manifest: int | None
    to_hand_over: int | None
    passed_on: int | None = None

    @property
    def annotations(self) -> Mapping[str, str]:
        """What the Deployment says about it."""
        source = {REPLICAS_ANNOTATION: FROM_AUTOSCALER if self.in_manifest is None else FROM_MODEL}
        return source if self.passed_on is None else {**source, PASSED_ON_ANNOTATION: str(self.passed_on)}


def decide_replicas(spec: LLMModelSpec, live: Manifest | None, decided: int | None = None) -> Replicas:
    """Decide what is written about the number of replicas, and by whom. `decided` is what the scaler says."""
    if spec.scaling is None:
        return Replicas(in_manifest=spec.replicas, to_hand_over=None)
    present = None if live is None else int(live["spec"].get("replicas", 1))
    wanted = wanted_replicas(spec, live, decided)
    passed_on = spec.replicas if spec.scaling.is_external else None
    # NB: dropping a field that nobody else owns resets it to 1, so the scale manager takes it over first.
    return Replicas(
        in_manifest=None, to_hand_over=wanted if _is_ours(live) or present != wanted else None, passed_on=passed_on
    )


def wanted_replicas(spec: LLMModelSpec, live: Manifest | None, decided: int | None = None) -> int:
    """Give how many replicas there should be right now, whoever says so."""
    scaling = spec.scaling
    if scaling is None:
        return spec.replicas
    present = None if live is None else int(live["spec"].get("replicas", 1))
    if scaling.is_external:
        return spec.replicas if present is None or _is_news(spec, live) else present
    if decided is not None:
        return _bound(decided, scaling)
    # NB: a switch to a scaler begins with what there is, so that nothing jumps.
    return _bound(scaling.min if present is None else present, scaling)


def _bound(count: int, scaling: Scaling) -> int:
    least = min(scaling.min, *(one.min for one in scaling.schedules)) if scaling.schedules else scaling.min
    return min(max(count, least), scaling.max)


def _is_news(spec: LLMModelSpec, live: Manifest | None) -> bool:
    """Whether the LLMModel's number is another one than was passed on to the Deployment of this model last."""
    known = _annotations(live).get(PASSED_ON_ANNOTATION)
    return known is not None and known != str(spec.replicas)


def is_scaled(deployment: Manifest) -> bool:
    """Say whether somebody else than the LLMModel says how many replicas a Deployment has."""
    return _annotations(deployment).get(REPLICAS_ANNOTATION) == FROM_AUTOSCALER


def _is_ours(live: Manifest | None) -> bool:
    return bool(_annotations(live).get(REPLICAS_ANNOTATION) == FROM_MODEL)


def _annotations(live: Manifest | None) -> Mapping[str, str]:
    return (live["metadata"].get("annotations") or {}) if live else {}
