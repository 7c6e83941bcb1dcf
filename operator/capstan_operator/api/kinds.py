"""The table of our kinds: whatever is done for every kind (CRDs, parsing, manifests, watches) walks over it."""

from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar

from capstan_contract.names import GROUP, VERSION
from capstan_operator.api.cachepolicy import CachePolicy, CachePolicySpec, CachePolicyStatus
from capstan_operator.api.guardpolicy import GuardPolicy, GuardPolicySpec, GuardPolicyStatus
from capstan_operator.api.llmmodel import LLMModel, LLMModelSpec, LLMModelStatus
from capstan_operator.api.policies import PolicySpec
from capstan_operator.api.ratelimitpolicy import RateLimitPolicy, RateLimitPolicySpec, RateLimitPolicyStatus
from capstan_operator.api.schema import Part
from capstan_operator.resources.api_resource import BUILT_IN, ApiResource
from capstan_operator.resources.resource import Resource

S = TypeVar("S", bound=Part)


@dataclass(frozen=True)
class Column:
    """A column of `kubectl get`."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False
    """Only with `-o wide`."""
    description: str = ""


@dataclass(frozen=True)
class Kind(Generic[S]):
    """One kind of the group: its classes, and what Kubernetes wants to know beside them."""

    root: type[Part]
    """The whole resource, with a field `spec` of type S and rules that speak of several parts."""
    status: type[Part]
    plural: str
    noun: str
    """What people call one: model."""
    short_names: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    scales: bool = False
    """Whether it has a scale subresource: spec.replicas, status.replicas, status.selector."""

    def spec_of(self, root: Any) -> S:
        """Give the spec of a validated `root`."""
        found: S = root.spec
        return found

    @property
    def name(self) -> str:
        """The kind as manifests write it."""
        return self.root.__name__

    @property
    def api_resource(self) -> ApiResource:
        """How the API addresses it."""
        return ApiResource(GROUP, VERSION, self.plural, self.name)

    @property
    def file(self) -> str:
        """Name of the generated file in crds/."""
        return f"{self.plural}.{GROUP}.yaml"


def _condition(name: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{name}")].{field}'


LLMMODEL: Final[Kind[LLMModelSpec]] = Kind(
    root=LLMModel,
    status=LLMModelStatus,
    plural="llmmodels",
    noun="model",
    short_names=("cllm",),
    scales=True,
    columns=(
        Column("Ready", _condition("Ready", "status"), description="Whether a request sent now is answered."),
        Column("Replicas", ".status.replicas", "integer", description="Pods that exist."),
        Column("Reason", _condition("Ready", "reason"), description="Why it is ready or not."),
        Column("Served name", ".status.servedName", description="The name that clients ask for."),
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Source", ".spec.model.source", wide=True, description="Where the weights are."),
        Column("Engine", ".spec.engine.type", wide=True, description="The server that runs the model."),
        Column("Profile", ".spec.profile", wide=True, description="The profile that is merged under its spec."),
        Column("Endpoint", ".status.endpoint", wide=True, description="Where clients find it."),
        Column("Message", _condition("Ready", "message"), wide=True, description="More about the reason."),
    ),
)


def _policy_columns(*counts: Column) -> tuple[Column, ...]:
    return (
        Column("Accepted", _condition("Accepted", "status"), description="Whether it is taken as it is written."),
        Column("Programmed", _condition("Programmed", "status"), description="Whether every gateway replica runs it."),
        Column("Mode", ".spec.mode", description="Whether it acts, or only counts what it would have done."),
        Column("Models", ".status.models", "integer", description="Models that it is in force on."),
        *counts,
        Column("Age", ".metadata.creationTimestamp", "date"),
        Column("Reason", _condition("Accepted", "reason"), wide=True, description="Why it is accepted or not."),
        Column("Message", _condition("Accepted", "message"), wide=True, description="More about the reason."),
    )


RATELIMITPOLICY: Final[Kind[RateLimitPolicySpec]] = Kind(
    root=RateLimitPolicy,
    status=RateLimitPolicyStatus,
    plural="ratelimitpolicies",
    noun="policy",
    short_names=("crlp",),
    columns=_policy_columns(
        Column("Used", ".status.usage.mostUsedPercent", "integer", description="Percent of the limit used most."),
    ),
)


GUARDPOLICY: Final[Kind[GuardPolicySpec]] = Kind(
    root=GuardPolicy,
    status=GuardPolicyStatus,
    plural="guardpolicies",
    noun="guard policy",
    short_names=("cgp",),
    columns=_policy_columns(
        Column("Blocked", ".status.decisions.blocked", "integer", description="What it has blocked."),
        Column("Redacted", ".status.decisions.redacted", "integer", description="In what it has replaced something."),
    ),
)

CACHEPOLICY: Final[Kind[CachePolicySpec]] = Kind(
    root=CachePolicy,
    status=CachePolicyStatus,
    plural="cachepolicies",
    noun="cache policy",
    short_names=("ccp",),
    columns=_policy_columns(
        Column("Hits", ".status.cached.hits", "integer", description="Requests that were answered out of the cache."),
        Column("Hit %", ".status.cached.hitPercent", "integer", description="Share of them among all looked for."),
    ),
)

POLICY_KINDS: Final[tuple[Kind[Any], ...]] = (CACHEPOLICY, GUARDPOLICY, RATELIMITPOLICY)
"""Those that are policies: their specs are `PolicySpec`s."""
KINDS: Final[tuple[Kind[Any], ...]] = (LLMMODEL, *POLICY_KINDS)
"""Every kind of the group that this release has."""

LLM_MODELS: Final = LLMMODEL.api_resource
RATE_LIMIT_POLICIES: Final = RATELIMITPOLICY.api_resource
GUARD_POLICIES: Final = GUARDPOLICY.api_resource
CACHE_POLICIES: Final = CACHEPOLICY.api_resource

KNOWN_RESOURCES: Final = (*BUILT_IN, *(kind.api_resource for kind in KINDS))
"""What the operator reads and writes."""

Model: TypeAlias = Resource[LLMModelSpec]
"""An LLMModel."""
Policy: TypeAlias = Resource[PolicySpec]
"""A policy of any kind."""
