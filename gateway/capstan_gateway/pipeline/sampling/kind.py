"""From the config to the layers that take samples."""

import logging
from collections.abc import Iterable

from capstan_contract.config import GatewayConfig, ModelEntry
from capstan_contract.samples import Plan
from capstan_gateway.pipeline.sampling.layer import SamplingLayer
from capstan_gateway.pipeline.sampling.room import SampleRoom, Subject

log = logging.getLogger(__name__)


class Samples:
    """The kind; `policies.PolicyKind`. A model that is not evaluated has no layer, and pays nothing."""

    def __init__(self, room: SampleRoom | None) -> None:
        """Make it. `room` is None without a Redis: then nothing is sampled, which is said once."""
        self._room = room
        self._told = False

    def in_force(self, config: GatewayConfig, entry: ModelEntry) -> Iterable[tuple[str, Subject]]:
        """Give what is sampled of a model: nothing as long as its judge is not served."""
        subject = subject_of(config, entry)
        if subject is None:
            return ()
        if self._room is None:
            self._tell()
            return ()
        return ((entry.id, subject),)

    def build(self, id: str, spec: Subject) -> SamplingLayer:  # noqa: ARG002 - of PolicyKind
        """Give the layer."""
        if self._room is None:
            raise ValueError("nothing is sampled without a Redis")
        return SamplingLayer(spec, self._room)

    def retain(self, config: GatewayConfig) -> None:
        """Take note of the models that are sampled by the config that is in use now."""
        if self._room is not None:
            subjects = (subject_of(config, entry) for entry in config.models)
            self._room.retain(subject for subject in subjects if subject is not None)

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            log.warning("models are to be evaluated, which has no effect: there is no Redis for samples")


def subject_of(config: GatewayConfig, entry: ModelEntry) -> Subject | None:
    """Give a model whose answers are sampled; None for one that is not, or whose judge is not there. Pure."""
    evaluation = entry.evaluation
    if evaluation is None:
        return None
    judge = next((one.servedName for one in config.models if one.id == evaluation.judge), None)
    if judge is None:
        return None
    plan = Plan(evaluation=evaluation, model=entry.servedName, judge=judge, revision=entry.revision)
    return Subject(model_id=entry.id, plan=plan, text=plan.model_dump_json())
