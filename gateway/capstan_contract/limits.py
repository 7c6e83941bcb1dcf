"""What a RateLimitPolicy comes to in the gateway config: the `body` of its `PolicyEntry`.

A limit of the resource may bound several things (requests, tokens, what runs at once); each of them is a rule of its
own here. Money is whole nano-dollars, time is whole milliseconds: nothing is a float that is added up.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from capstan_contract.entries import Document, PolicyEntry, PolicyTargets

RATE_LIMIT_KIND: Final = "RateLimitPolicy"
MOST_AMOUNT: Final = 1_000_000_000_000
"""Most tokens or requests of a limit."""
MOST_WINDOW_MILLIS: Final = 366 * 86_400_000
MOST_NANO_DOLLARS: Final = 1_000_000 * 1_000_000_000
"""Most dollars of a budget: a million. Sums of them are exact in a Lua number (2^53)."""


class Mode(StrEnum):
    """Whether a policy acts, or only counts what it would have done."""

    ENFORCE = "Enforce"
    SHADOW = "Shadow"


class Per(StrEnum):
    """Whose requests are counted together."""

    KEY = "Key"
    USER = "User"
    TEAM = "Team"
    TENANT = "Tenant"
    MODEL = "Model"
    POLICY = "Policy"


class Unit(StrEnum):
    """What is counted."""

    REQUESTS = "Requests"
    TOKENS = "Tokens"
    """Input and output together."""
    INPUT_TOKENS = "InputTokens"
    OUTPUT_TOKENS = "OutputTokens"
    CONCURRENCY = "Concurrency"
    """Requests that run at once."""


class PeriodType(StrEnum):
    """After what time a budget is full again."""

    DAY = "Day"
    WEEK = "Week"
    """From Monday to Sunday, as in ISO 8601."""
    MONTH = "Month"
    DURATION = "Duration"
    """Of `millis`, counted from the beginning of 1970."""


class OnExhausted(StrEnum):
    """What becomes of requests for which a budget has not enough."""

    DENY = "Deny"
    DOWNGRADE = "Downgrade"


class CountCached(StrEnum):
    """How much of an answer out of a cache counts."""

    FULL = "Full"
    NONE = "None"


class UnknownPrice(StrEnum):
    """What becomes of requests under a budget to a model of which nobody knows what it costs."""

    DENY = "Deny"
    FLAG = "Flag"
    """They are answered, and counted as requests without a price."""


class OnStoreFailure(StrEnum):
    """What becomes of requests while the store of the counts cannot be asked."""

    ALLOW_LOCAL = "AllowLocal"
    """Each gateway counts in its own memory, against the limit divided by the number of gateways."""
    DENY = "Deny"


class Match(Document):
    """Which requests a rule is about: those for which all that is said holds. None: it says nothing."""

    tier: str | None = None
    team: str | None = None
    model: str | None = None
    """Served name of the model that is asked for."""


class LimitRule(Document):
    """One bound on a rate, or on what runs at once."""

    name: str
    """Of the limit in the resource; with `unit` unique in the policy."""
    per: Per
    unit: Unit
    amount: int = Field(ge=1, le=MOST_AMOUNT)
    windowMillis: int = Field(default=0, ge=0, le=MOST_WINDOW_MILLIS)
    """In what time `amount` comes in again; 0 exactly for Concurrency."""
    burst: int = Field(default=0, ge=0, le=MOST_AMOUNT)
    """Most that can be had at one moment; 0 exactly for Concurrency."""
    match: Match = Match()

    @model_validator(mode="after")
    def _window_fits_the_unit(self) -> "LimitRule":
        bare = self.unit is Unit.CONCURRENCY
        if bare != (self.windowMillis == 0) or bare != (self.burst == 0):
            raise ValueError("`windowMillis` and `burst` must be 0 for Concurrency, and above 0 for every other unit")
        return self


class Period(Document):
    """The time that a budget is for."""

    type: PeriodType
    millis: int = Field(default=0, ge=0, le=MOST_WINDOW_MILLIS)
    """For Duration only."""
    timeZone: str = "UTC"
    """Name in the IANA database: where a day begins."""

    @field_validator("timeZone")
    @classmethod
    def _zone_is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, LookupError):
            raise ValueError("is not the name of a time zone in the IANA database") from None
        return name

    @model_validator(mode="after")
    def _millis_fit_the_type(self) -> "Period":
        if (self.type is PeriodType.DURATION) != (self.millis > 0):
            raise ValueError("`millis` must be above 0 exactly for a Duration")
        return self


class BudgetRule(Document):
    """One bound on what may be spent."""

    name: str
    """Unique among the budgets of the policy."""
    per: Per
    nanoDollars: int = Field(ge=1, le=MOST_NANO_DOLLARS)
    period: Period
    softLimitPercent: int | None = Field(default=None, ge=1, le=100)
    """From what share on the gateway says that it is nearly spent."""
    onExhausted: OnExhausted = OnExhausted.DENY
    downgradeTo: str | None = None
    """Id of the model that answers instead; not None exactly for Downgrade."""
    match: Match = Match()

    @model_validator(mode="after")
    def _there_is_something_cheaper(self) -> "BudgetRule":
        if (self.onExhausted is OnExhausted.DOWNGRADE) != (self.downgradeTo is not None):
            raise ValueError("`downgradeTo` must be set exactly for Downgrade")
        return self


class RateLimitBody(Document):
    """A RateLimitPolicy, compiled."""

    mode: Mode = Mode.ENFORCE
    limits: tuple[LimitRule, ...] = ()
    budgets: tuple[BudgetRule, ...] = ()
    countCached: CountCached = CountCached.FULL
    unknownPrice: UnknownPrice = UnknownPrice.FLAG
    onStoreFailure: OnStoreFailure = OnStoreFailure.ALLOW_LOCAL

    @model_validator(mode="after")
    def _names_are_unique(self) -> "RateLimitBody":
        limits = [(rule.name, rule.unit) for rule in self.limits]
        budgets = [rule.name for rule in self.budgets]
        if len(set(limits)) < len(limits) or len(set(budgets)) < len(budgets):
            raise ValueError("names of limits and of budgets must be unique")
        return self


def read_body(entry: PolicyEntry) -> RateLimitBody:
    """Read the body of a policy's entry, without the fields that this release does not know. Raises ValidationError."""
    return check_body(entry.body)


def check_body(body: Mapping[str, Any]) -> RateLimitBody:
    """Do the same with the body itself."""
    return RateLimitBody.model_validate(body, extra="ignore")


def policy_id(namespace: str, name: str) -> str:
    """Give the id of the entry of a RateLimitPolicy."""
    return f"{RATE_LIMIT_KIND}/{namespace}/{name}"


def rate_limit_entry(
    namespace: str, name: str, body: RateLimitBody, *, uid: str = "", targets: PolicyTargets | None = None
) -> PolicyEntry:
    """Make the entry of a policy."""
    written = body.model_dump(mode="json", exclude_defaults=True)
    return PolicyEntry(id=policy_id(namespace, name), kind=RATE_LIMIT_KIND, uid=uid, targets=targets, body=written)


class RuleUsage(Document):
    """How far one limit or budget is used, as a gateway last saw it."""

    name: str
    """Of the rule in the policy."""
    unit: Unit | None = None
    """Of a limit; None for a budget."""
    usedPercent: int = Field(ge=0)
    """How much is used by the subject that has used most: 100 is all of it."""
    spentNanoDollars: int = Field(default=0, ge=0)
    """Of a budget: what all subjects together have spent in this period."""


class LimitsReport(Document):
    """What a gateway replica says at /internal/limits."""

    shared: bool
    """Whether the counts are of all replicas together. Otherwise each counts for itself: with no Redis."""
    policies: dict[str, tuple[RuleUsage, ...]] = Field(default_factory=dict)
    """Those that are in force, by the id of their entries; of a rule that nobody has used yet nothing is said."""
