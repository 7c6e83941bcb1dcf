"""What an LLMModel says of its pods beyond the engine: labels, account, variables and files from elsewhere, devices."""

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from capstan_operator.api.parts import ConfigMapKeyRef, LabelValues, SecretKeyRef
from capstan_operator.api.patterns import ENV_NAME, FILE_PATH
from capstan_operator.api.rules import pods
from capstan_operator.api.schema import ObjectName, Part, Rule, SubdomainName, bounded_list, listed_by

AnnotationValues = Annotated[dict[str, Annotated[str, StringConstraints(max_length=4096)]], Field(max_length=32)]


class PullSecret(Part):
    """A Secret of type kubernetes.io/dockerconfigjson in the namespace of the LLMModel."""

    name: SubdomainName
    """Name of the Secret."""


class PodsSpec(Part):
    """What the pods are called and run as. The canary and the Job of a rollout have it too."""

    labels: LabelValues = Field(default_factory=dict)
    """Further labels of the pods."""
    annotations: AnnotationValues = Field(default_factory=dict)
    """Further annotations of the pods."""
    serviceAccountName: SubdomainName | None = None
    """ServiceAccount of the pods, which must be there: what a cloud's identity or a security policy goes by. Its token
    is not mounted. Default: the namespace's `default`."""
    imagePullSecrets: tuple[PullSecret, ...] = bounded_list(8, json_schema_extra=listed_by("name"))
    """Secrets for pulling the images, beside those of the install. They are read in this namespace and copied
    nowhere."""

    rules: ClassVar[tuple[Rule, ...]] = pods.PODS


class EnvFromRef(Part):
    """A ConfigMap or Secret in the namespace of the LLMModel."""

    name: SubdomainName
    """Its name."""
    optional: bool | None = None
    """Whether pods start without it. Default: they wait for it."""


class EnvFromSource(Part):
    """Variables of the engine: all keys of a ConfigMap or of a Secret."""

    prefix: Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=ENV_NAME)] | None = None
    """What their names begin with, before the key."""
    configMapRef: EnvFromRef | None = None
    """A ConfigMap."""
    secretRef: EnvFromRef | None = None
    """A Secret."""

    rules: ClassVar[tuple[Rule, ...]] = pods.ENV_FROM


class EngineFile(Part):
    """A file of the engine's container, such as a chat template: a key of a ConfigMap or of a Secret."""

    path: Annotated[str, StringConstraints(min_length=2, max_length=253, pattern=FILE_PATH)]
    """Where the engine finds it. What the image has beside it stays."""
    configMapKeyRef: ConfigMapKeyRef | None = None
    """A ConfigMap's key."""
    secretKeyRef: SecretKeyRef | None = None
    """A Secret's key."""

    rules: ClassVar[tuple[Rule, ...]] = pods.FILE


class ResourceClaim(Part):
    """Devices by Dynamic Resource Allocation (resource.k8s.io): a claim, or a template of one for each pod."""

    name: ObjectName
    """Name of the claim in the pod."""
    resourceClaimName: SubdomainName | None = None
    """A ResourceClaim of the namespace, which all pods share."""
    resourceClaimTemplateName: SubdomainName | None = None
    """A ResourceClaimTemplate of the namespace: each pod gets a claim of its own."""
    request: ObjectName | None = None
    """The request of the claim whose devices the engine gets. Default: those of all."""

    rules: ClassVar[tuple[Rule, ...]] = pods.CLAIM
