"""RateLimitPolicy: how much those who ask may use of models, and what it may cost."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from capstan_contract.limits import (
    MOST_AMOUNT,
    CountCached,
    Mode,
    OnExhausted,
    OnStoreFailure,
    Per,
    UnknownPrice,
)
from capstan_operator.api.parts import Condition
from capstan_operator.api.patterns import AMOUNT_OF_DOLLARS, CHILD_NAME, PERIOD, TIME_ZONE, WINDOW
from capstan_operator.api.policies import AncestorStatus, PolicyMetadata, PolicySpec, TargetSelector
from capstan_operator.api.rules import limits, targets
from capstan_operator.api.schema import ObjectName, Part, Rule, ServedName, SubdomainName, bounded_list, listed_by

Word = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class TokenType(StrEnum):
    """Which tokens are counted."""

    BOTH = "Both"
    INPUT = "Input"
    OUTPUT = "Output"


class MatchSpec(Part):
    """Which requests: those for which all that is said here holds."""

    tier: Word | None = None
    """Tier of the verified credential."""
    team: Word | None = None
    """Team of the verified credential."""
    model: ServedName | None = None
    """Name of the model that is asked for."""


class LimitSpec(Part):
    """Bounds on requests and tokens in a time, and on requests that run at once."""

    name: ObjectName
    """Name of the limit in this policy; errors, metrics and the status say it."""
    per: Per = Field(strict=False)
    """Whose requests are counted together: those of an API Key, a User, a Team or a Tenant, those for one Model, or all
    under this Policy."""
    requests: int | None = Field(default=None, ge=1, le=MOST_AMOUNT)
    """Requests in each `window`."""
    tokens: int | None = Field(default=None, ge=1, le=MOST_AMOUNT)
    """Tokens in each `window`."""
    tokenType: Annotated[TokenType, Field(strict=False)] | None = None
    """Which tokens `tokens` counts: Input, Output or Both. Default: Both."""
    concurrency: int | None = Field(default=None, ge=1, le=MOST_AMOUNT)
    """Requests that run at once."""
    window: Annotated[str, StringConstraints(min_length=2, max_length=16, pattern=WINDOW)] | None = None
    """The time that `requests` and `tokens` are for: minute, hour, day or a duration such as 30s, 10m or 1h30m. They
    come back evenly over it: there is no edge at which twice as many can be had. Default: minute."""
    burst: int | None = Field(default=None, ge=1, le=MOST_AMOUNT)
    """Most that can be had at one moment. Default: all that `requests` or `tokens` says."""
    match: MatchSpec | None = None
    """Which requests it bounds. Default: all."""

    rules: ClassVar[tuple[Rule, ...]] = limits.LIMIT


class BudgetSpec(Part):
    """A bound on what may be spent."""

    name: ObjectName
    """Name of the budget in this policy; errors, metrics and the status say it."""
    per: Per = Field(strict=False)
    """Whose requests are paid from it together, as in a limit."""
    dollars: Annotated[str, StringConstraints(min_length=1, max_length=17, pattern=AMOUNT_OF_DOLLARS)]
    """US dollars that may be spent in each `period`, as a decimal number in a string ("20.50")."""
    period: Annotated[str, StringConstraints(min_length=2, max_length=16, pattern=PERIOD)]
    """After what time it is full again: a calendar day, week (from Monday) or month in `resetTimeZone`, or a duration
    such as 12h, counted from the beginning of 1970."""
    resetTimeZone: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=TIME_ZONE)] | None = None
    """Time zone in whose days, weeks and months the budget is: a name of the IANA database. Default: UTC."""
    softLimitPercent: int | None = Field(default=None, ge=1, le=100)
    """From what share on the gateway says that the budget is nearly spent, in a header, a metric and an Event."""
    onExhausted: OnExhausted = Field(default=OnExhausted.DENY, strict=False)
    """What becomes of a request for which not enough is left. Deny: an error that says when there is more. Downgrade:
    the model that `downgradeTo` names answers it."""
    downgradeTo: Annotated[str, StringConstraints(min_length=1, max_length=52, pattern=CHILD_NAME)] | None = None
    """Name of a cheaper LLMModel of the namespace. Where it is not served, requests are denied."""
    match: MatchSpec | None = None
    """Which requests it pays for. Default: all."""

    rules: ClassVar[tuple[Rule, ...]] = limits.BUDGET


# NB: put together out here, because in the class `limits` is a field.
_SPEC_RULES = (*targets.SPEC, *limits.SPEC)


class RateLimitPolicySpec(PolicySpec):
    """What the user wants. At most one policy enforces limits on a model, and one more may be tried in mode Shadow."""

    targetSelector: TargetSelector | None = None
    """Labels of the LLMModels that it is for, of its own namespace, in place of `targetRefs`. A policy of the namespace
    that Capstan is installed in, and no other, may have neither: it is for all models of all namespaces that have no
    policy of their own."""
    mode: Mode = Field(default=Mode.ENFORCE, strict=False)
    """Enforce: requests above a limit are refused. Shadow: what would have been refused is counted, and nothing else
    changes."""
    limits: tuple[LimitSpec, ...] = bounded_list(16, json_schema_extra=listed_by("name"))
    """Bounds on rates and on what runs at once; a request must fit into all that match it."""
    budgets: tuple[BudgetSpec, ...] = bounded_list(16, json_schema_extra=listed_by("name"))
    """Bounds on what may be spent; a request must fit into all that match it."""
    countCached: CountCached = Field(default=CountCached.FULL, strict=False)
    """How much of an answer out of the gateway's cache counts: as much as any other, or nothing."""
    unknownPrice: UnknownPrice = Field(default=UnknownPrice.FLAG, strict=False)
    """What becomes of a request under a budget to a model of which nobody knows the price. Deny: it is refused. Flag:
    it is answered, and counted in a metric as a request without a price."""
    onStoreFailure: OnStoreFailure = Field(default=OnStoreFailure.ALLOW_LOCAL, strict=False)
    """What becomes of requests while Redis does not answer. AllowLocal: each gateway replica counts by itself, against
    its share of the limits. Deny: an error 503."""

    rules: ClassVar[tuple[Rule, ...]] = _SPEC_RULES


class RuleUsageStatus(Part):
    """How far a limit or a budget is used."""

    name: SubdomainName
    """Name of the limit or the budget."""
    counts: Annotated[str, StringConstraints(max_length=32)]
    """What is counted: Requests, Tokens, InputTokens, OutputTokens, Concurrency or Dollars."""
    usedPercent: int = Field(ge=0)
    """How much of it is used by whoever has used most."""
    spentDollars: Annotated[str, StringConstraints(max_length=32)] | None = None
    """Of a budget: what has been spent in this period, by all whose requests one gateway replica has answered; of the
    replicas that share their counts, the one that knows of most. `capstan usage` has the exact numbers."""


class UsageStatus(Part):
    """How far the policy is used, as the gateway's replicas have said last. Written now and then, not at once."""

    observedTime: Annotated[str, StringConstraints(max_length=64), Field(json_schema_extra={"format": "date-time"})]
    """When they said so."""
    mostUsedPercent: int = Field(ge=0)
    """The greatest of the shares below."""
    used: tuple[RuleUsageStatus, ...] = bounded_list(80)
    """The limits and budgets, the one that is used most first."""
    countedApart: int | None = Field(default=None, ge=1)
    """How many of several gateway replicas count for themselves, because they have no Redis; absent where all count
    together."""


class RateLimitPolicyStatus(Part):
    """What is."""

    observedGeneration: int | None = Field(default=None, ge=0)
    """The newest generation that the operator has dealt with."""
    conditions: tuple[Condition, ...] = bounded_list(8, json_schema_extra=listed_by("type"))
    """Accepted, Programmed: those of the ancestor, where `kubectl wait` looks for them."""
    models: int | None = Field(default=None, ge=0)
    """LLMModels that it is in force on."""
    ancestors: tuple[AncestorStatus, ...] = bounded_list(16)
    """The gateway, and what the policy comes to there."""
    usage: UsageStatus | None = None
    """How far it is used."""


class RateLimitPolicy(Part):
    """How many requests and tokens, and how many dollars, those who ask may use of models."""

    apiVersion: Literal["capstan.dev/v1alpha1"] = "capstan.dev/v1alpha1"
    """Version of this schema."""
    kind: Literal["RateLimitPolicy"] = "RateLimitPolicy"
    """Kind of the resource."""
    metadata: PolicyMetadata
    """Standard metadata of the object."""
    spec: RateLimitPolicySpec
    """What the user wants."""
