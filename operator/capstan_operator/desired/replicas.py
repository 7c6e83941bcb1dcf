"""Who says how many replicas there are.

Without `scaling` the LLMModel does. With it a scaler does, under a field manager of its own, so that applying the rest
of the Deployment never fights over the number: ours (`scaling/`), or somebody else's, whom the operator leaves alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from capstan_contract.names import GROUP
from capstan_operator.api.llmmodel import LLMModelSpec
from capstan_operator.api.scaling import Scaling, ScalingStrategy
from capstan_operator.resources.resource import Fault, Manifest

REPLICAS_ANNOTATION: Final = f"{GROUP}/replicas-from"
"""On the Deployment: whether our main field manager says how many replicas there are."""
FROM_MODEL: Final = "LLMModel"
FROM_SCALER: Final = "Scaler"
FROM_AUTOSCALER: Final = "Autoscaler"
"""Written by releases that scaled nothing themselves: who scales such a Deployment is somebody else, until
`scaling.strategy` says otherwise."""
PASSED_ON_ANNOTATION: Final = f"{GROUP}/replicas-passed-on"
"""On the Deployment of a model that somebody else scales: the LLMModel's `spec.replicas` that was passed on last."""


@dataclass(frozen=True)
class Replicas:
    """What the Deployment manifest says, and what the scale manager is to apply."""

    in_manifest: int | None
    to_hand_over: int | None
    passed_on: int | None = None
    inherited: bool = False
    """Whether somebody else scales because it was so in a release before, and not because `strategy` says so."""

    @property
    def annotations(self) -> Mapping[str, str]:
        """What the Deployment says about it."""
        scaler = FROM_AUTOSCALER if self.inherited else FROM_SCALER
        source = {REPLICAS_ANNOTATION: scaler if self.in_manifest is None else FROM_MODEL}
        return source if self.passed_on is None else {**source, PASSED_ON_ANNOTATION: str(self.passed_on)}


def decide_replicas(spec: LLMModelSpec, live: Manifest | None, decided: int | None = None) -> Replicas:
    """Decide what is written about the number of replicas, and by whom. `decided` is what the scaler says."""
    scaling = scaling_in_force(spec, live)
    if scaling is None:
        return Replicas(in_manifest=spec.replicas, to_hand_over=None)
    present = None if live is None else int(live["spec"].get("replicas", 1))
    wanted = wanted_replicas(spec, live, decided)
    # NB: dropping a field that nobody else owns resets it to 1, so the scale manager takes it over first.
    return Replicas(
        in_manifest=None,
        to_hand_over=wanted if _is_ours(live) or present != wanted else None,
        passed_on=spec.replicas if scaling.is_external else None,
        inherited=is_inherited(spec, live),
    )


def scaling_in_force(spec: LLMModelSpec, live: Manifest | None) -> Scaling | None:
    """Give `scaling` as it holds: as External where a release before has left it to others and no `strategy` is said.

    That release meant by `scaling` the bounds of somebody else's autoscaler. A second one of ours beside it would take
    pods away from a model that nobody has touched.
    """
    if spec.scaling is None or not is_inherited(spec, live):
        return spec.scaling
    return spec.scaling.model_copy(update={"strategy": ScalingStrategy.EXTERNAL})


def is_inherited(spec: LLMModelSpec, live: Manifest | None) -> bool:
    """Say whether somebody else scales a Deployment because a release before has left it to them."""
    unsaid = spec.scaling is not None and spec.scaling.strategy is None
    return unsaid and _annotations(live).get(REPLICAS_ANNOTATION) == FROM_AUTOSCALER


def wanted_replicas(spec: LLMModelSpec, live: Manifest | None, decided: int | None = None) -> int:
    """Give how many replicas there should be right now, whoever says so."""
    scaling = scaling_in_force(spec, live)
    if scaling is None:
        return spec.replicas
    present = None if live is None else int(live["spec"].get("replicas", 1))
    if scaling.is_external:
        return spec.replicas if present is None or _is_news(spec, live) else present
    if decided is not None:
        return _bound(decided, scaling)
    if scaling.follows is ScalingStrategy.KEDA and present is not None:
        return present  # within which bounds it is KEDA's to say; where it has nothing to say, it was decided
    # NB: a switch to a scaler begins with what there is, so that nothing jumps.
    return _bound(scaling.min if present is None else present, scaling)


def find_replicas_doubts(spec: LLMModelSpec) -> Iterator[Fault]:
    """Look for a number that has no effect. It is no fault: manifests of a release before have it beside `scaling`.

    1 is what the API server fills in where nothing is said.
    """
    if spec.scaling is not None and spec.replicas != 1 and not spec.scaling.is_external:
        yield Fault("spec.replicas", "has no effect beside `scaling`: the scaler says how many replicas there are")


def _bound(count: int, scaling: Scaling) -> int:
    least = min(scaling.min, *(one.min for one in scaling.schedules)) if scaling.schedules else scaling.min
    if scaling.gives_way:
        least = 0  # It may have given way to another model.
    return min(max(count, least), scaling.max)


def _is_news(spec: LLMModelSpec, live: Manifest | None) -> bool:
    """Whether the LLMModel's number is another one than was passed on to the Deployment of this model last."""
    known = _annotations(live).get(PASSED_ON_ANNOTATION)
    return known is not None and known != str(spec.replicas)


def is_scaled(deployment: Manifest) -> bool:
    """Say whether somebody else than the LLMModel says how many replicas a Deployment has."""
    return _annotations(deployment).get(REPLICAS_ANNOTATION) in (FROM_SCALER, FROM_AUTOSCALER)


def _is_ours(live: Manifest | None) -> bool:
    return bool(_annotations(live).get(REPLICAS_ANNOTATION) == FROM_MODEL)


def _annotations(live: Manifest | None) -> Mapping[str, str]:
    return (live["metadata"].get("annotations") or {}) if live else {}
