"""Profiles: what a platform team says once of a kind of node, and LLMModels take over by `spec.profile`.

A profile is no resource of its own: it is an entry of a ConfigMap of the install namespace, with the same types and
bounds as the fields of an LLMModel that it gives.
"""

from typing import Annotated, Any, ClassVar

from pydantic import Field, StringConstraints

from capstan_operator.api.llmmodel import AFFINITY, EngineType
from capstan_operator.api.parts import EnvVar, LabelValues, Toleration
from capstan_operator.api.patterns import EXTENDED_RESOURCE, IMAGE
from capstan_operator.api.pods import AnnotationValues
from capstan_operator.api.rules import placement, pods
from capstan_operator.api.schema import (
    CpuQuantity,
    Part,
    Quantity,
    Rule,
    SubdomainName,
    bounded_list,
    free_form,
    listed_by,
    object_schema,
)

Argument = Annotated[str, StringConstraints(max_length=2048)]


class ProfileAmounts(Part):
    """How much of what is counted a replica gets."""

    cpu: CpuQuantity | None = None
    """CPU, such as 4 or 500m."""
    memory: Quantity | None = None
    """Memory, such as 32Gi."""
    sharedMemory: Quantity | None = None
    """Size of /dev/shm, in memory."""


class ProfileEngine(Part):
    """What one type of engine gets."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=IMAGE)] | None = None
    """Container image, of models that say neither `engine.image` nor `engine.version`."""
    args: tuple[Argument, ...] = bounded_list(64)
    """Arguments of the engine, before those of the manifest. An option that the manifest gives is left out."""
    env: tuple[EnvVar, ...] = bounded_list(64, json_schema_extra=listed_by("name"))
    """Environment variables, over those of the profile's own `env`."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="size(self.args) == 0 || self.args[0].startsWith('-')",
            message="must be an option: words before the first one are the manifest's",
            holds=lambda self: not self.args or self.args[0].startswith("-"),
            field_path=".args[0]",
        ),
    )


class ProfileEngines(Part):
    """What each type of engine gets."""

    vLLM: ProfileEngine | None = None
    """Models on vLLM. With an `image` vLLM runs in it, beside the worker, as with `engine.image`."""
    TGI: ProfileEngine | None = None
    """Models on TGI."""
    SGLang: ProfileEngine | None = None
    """Models on SGLang."""
    OpenAICompatible: ProfileEngine | None = None
    """Models on any image that speaks the OpenAI API. Not its `image`, which each manifest names."""
    Simulator: ProfileEngine | None = None
    """Models without a model."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            cel="!has(self.OpenAICompatible) || !has(self.OpenAICompatible.image)",
            message="must not be set: a manifest with this type of engine names its image itself",
            holds=lambda self: self.OpenAICompatible is None or self.OpenAICompatible.image is None,
            field_path=".OpenAICompatible.image",
        ),
    )

    def of(self, type_: EngineType) -> ProfileEngine | None:
        """Give what a type of engine gets."""
        found: ProfileEngine | None = getattr(self, type_.value)
        return found


class ProfilePods(Part):
    """Labels and annotations of the pods."""

    labels: LabelValues = Field(default_factory=dict)
    """Labels."""
    annotations: AnnotationValues = Field(default_factory=dict)
    """Annotations."""

    rules: ClassVar[tuple[Rule, ...]] = pods.PODS


class Profile(Part):
    """What the LLMModels that name it get where their manifests say nothing."""

    description: Annotated[str, StringConstraints(max_length=1024)] | None = None
    """For people."""
    gpuResource: Annotated[str, StringConstraints(min_length=3, max_length=253, pattern=EXTENDED_RESOURCE)] | None = (
        None
    )
    """The extended resource that counts GPUs, such as amd.com/gpu."""
    nodeSelector: LabelValues = Field(default_factory=dict)
    """Labels that the node must have."""
    tolerations: tuple[Toleration, ...] = bounded_list(32)
    """Taints that the pods tolerate."""
    affinity: Annotated[dict[str, Any], free_form(*AFFINITY)] | None = Field(
        default=None, json_schema_extra=object_schema(*AFFINITY)
    )
    """Affinity as in a pod."""
    runtimeClassName: SubdomainName | None = None
    """RuntimeClass of the pods."""
    priorityClassName: SubdomainName | None = None
    """PriorityClass of the pods."""
    perGPU: ProfileAmounts = Field(default_factory=ProfileAmounts)
    """What a replica gets for each of its `resources.gpus`."""
    perReplica: ProfileAmounts = Field(default_factory=ProfileAmounts)
    """What it gets besides, also without a GPU."""
    engines: ProfileEngines = Field(default_factory=ProfileEngines)
    """What each type of engine gets."""
    env: tuple[EnvVar, ...] = bounded_list(64, json_schema_extra=listed_by("name"))
    """Environment variables of the engine's container, whatever its type."""
    pods: ProfilePods = Field(default_factory=ProfilePods)
    """What the pods are called."""

    rules: ClassVar[tuple[Rule, ...]] = placement.RESOURCES
