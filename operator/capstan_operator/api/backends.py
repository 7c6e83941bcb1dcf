"""What answers for an LLMModel in place of an engine: a hosted API, or other LLMModels."""

from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from capstan_contract.config import EstimatorType, Provider, StickyBy, Strategy
from capstan_operator.api.parts import SecretKeyRef
from capstan_operator.api.patterns import CHILD_NAME, FRACTION, URL
from capstan_operator.api.rules import answers
from capstan_operator.api.schema import Dollars, ObjectName, Part, Rule, ServedName, bounded_list, listed_by

BaseUrl = Annotated[str, StringConstraints(min_length=8, max_length=512, pattern=URL)]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=52, pattern=CHILD_NAME)]
Fraction = Annotated[str, StringConstraints(min_length=1, max_length=16, pattern=FRACTION)]


class ExternalEndpointSpec(Part):
    """One address of a hosted API, in one region."""

    name: ObjectName
    """Name of the endpoint in this LLMModel."""
    url: BaseUrl
    """Base URL, with the version: https://eu.api.example.com/v1."""
    region: ObjectName | None = None
    """Where it is. Among endpoints of equal priority, those of the gateway's own region come first."""
    priority: int = Field(default=0, ge=0, le=1000)
    """Lower ones serve first; the next ones take over when those fail or are full."""
    weight: int = Field(default=100, ge=0, le=1_000_000)
    """Share of the requests among endpoints of equal priority; 0 gets none."""
    secretRef: SecretKeyRef | None = None
    """The API key for this endpoint. The Secret must have the label capstan.dev/credential: "true"."""


class External(Part):
    """A hosted API that answers in place of an engine, at one `url` or at several `endpoints`."""

    provider: Provider = Field(default=Provider.OPENAI_COMPATIBLE, strict=False)
    """Whose API it is."""
    url: BaseUrl | None = None
    """Base URL, with the version: https://api.openai.com/v1. Not together with `endpoints`."""
    model: ServedName | None = None
    """The provider's name of the model. Default: the served name."""
    secretRef: SecretKeyRef | None = None
    """The provider's API key, for `url`. The Secret must have the label capstan.dev/credential: "true"."""
    endpoints: tuple[ExternalEndpointSpec, ...] = bounded_list(16, json_schema_extra=listed_by("name"))
    """The same model in several regions or clusters, in place of `url`."""

    rules: ClassVar[tuple[Rule, ...]] = answers.EXTERNAL


class RouterMemberSpec(Part):
    """A model that the router may choose."""

    name: ModelName
    """Name of an LLMModel of the namespace that is not a router itself."""
    weight: int = Field(default=100, ge=0, le=1_000_000)
    """Share of the requests with strategy Weighted; 0 gets none."""
    priority: int = Field(default=0, ge=0, le=1000)
    """Place with strategy Priority: lower ones first."""


class Router(Part):
    """A virtual model: for each request, one of its members answers."""

    strategy: Strategy = Field(default=Strategy.CHEAPEST, strict=False)
    """Which member answers: the one with the lowest price, the one with the shortest time to the first token, each its
    share, or the first that can."""
    stickyBy: StickyBy = Field(default=StickyBy.USER, strict=False)
    """Whose requests stay with one member, with strategy Weighted."""
    members: tuple[RouterMemberSpec, ...] = Field(
        min_length=1, max_length=16, strict=False, json_schema_extra=listed_by("name")
    )
    """The models to choose from; they may be cascades."""

    rules: ClassVar[tuple[Rule, ...]] = answers.ROUTER


class CascadeMemberSpec(Part):
    """A model that the cascade asks."""

    name: ModelName
    """Name of an LLMModel of the namespace that is neither a router nor a cascade."""


class JudgeSpec(Part):
    """The model that rates answers."""

    name: ModelName
    """Name of an LLMModel of the namespace, of task chat, that is neither a router nor a cascade."""
    timeoutSeconds: int = Field(default=10, ge=1, le=600)
    """How long a judgement may take. An answer that was not rated in time counts as one of unknown quality."""


class EstimatorSpec(Part):
    """How the quality of an answer is told."""

    type: EstimatorType = Field(default=EstimatorType.CHECKS, strict=False)
    """Judge asks another model; LogProbability takes the mean log-probability of the tokens; Checks looks for refusals,
    emptiness and broken formats; Ensemble takes them together."""
    judge: JudgeSpec | None = None
    """The model that rates answers: required for Judge, possible for Ensemble."""

    rules: ClassVar[tuple[Rule, ...]] = answers.ESTIMATOR


class Cascade(Part):
    """A virtual model: its members are asked in order until one gives an answer that is good enough."""

    members: tuple[CascadeMemberSpec, ...] = Field(min_length=2, max_length=8, strict=False)
    """The models to ask, in order of cost; no model twice."""
    threshold: Fraction = "0.5"
    """Least score, from 0 to 1, of an answer that is good enough."""
    maxCost: Dollars | None = None
    """Most US dollars that one request may cost; then the best answer so far is given. Default: no bound."""
    estimator: EstimatorSpec = Field(default_factory=EstimatorSpec)
    """How the quality of an answer is told."""

    rules: ClassVar[tuple[Rule, ...]] = answers.CASCADE
