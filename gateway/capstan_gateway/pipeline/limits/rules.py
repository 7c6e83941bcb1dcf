"""From the body of a RateLimitPolicy to the counters that a request of somebody takes from. Pure.

Whose requests are counted together, and what becomes of those of whom that is not known:

    Key      the API key, or the token's issuer and subject; all requests without a credential are one subject
    User     the user of a tenant; who has none is counted by the key
    Team     the team of a tenant; who has none is counted by the user, else by the key
    Tenant   the tenant, which everybody has
    Model    the LLMModel on which the policy is in force, whoever asks; an adapter counts with its base model
    Policy   all requests together

Users and teams are those of a tenant: two tenants that both know an `alice` never take from one another's counts.

A policy may be in force on a router and on the member that answers. What does not depend on the model then counts
once, at the outer place; what does (`per: Model`, and what matches a model's name) counts for each model that it is
about, so that a router is no way around the limit of a member.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import blake2b
from typing import Final, NamedTuple

from capstan_contract.limits import (
    BudgetRule,
    LimitRule,
    Match,
    Mode,
    Per,
    RateLimitBody,
    Unit,
)
from capstan_gateway.identity.principal import Principal
from capstan_gateway.limits.port import Bucket, Charge, Quota, Rate, Reservation, Slots
from capstan_gateway.pipeline.limits.periods import starts_of
from capstan_gateway.telemetry.cells import Number
from capstan_gateway.tokens.price import NANO

SHADOW_MARK: Final = "#shadow"
"""Behind the group of what a policy counts that only looks on: turned on, it begins with counts of its own."""
_KEY_BYTES: Final = 16


_new: Final = tuple.__new__


class Counts(IntEnum):
    """What a counter counts."""

    REQUESTS = 0
    TOKENS = 1
    INPUT = 2
    OUTPUT = 3
    SLOTS = 4
    MONEY = 5
    """Nano-dollars."""


_COUNTS: Final = {
    Unit.REQUESTS: Counts.REQUESTS, Unit.TOKENS: Counts.TOKENS, Unit.INPUT_TOKENS: Counts.INPUT,
    Unit.OUTPUT_TOKENS: Counts.OUTPUT, Unit.CONCURRENCY: Counts.SLOTS,
}  # fmt: skip
_SAME_FOR_ALL: Final = frozenset((Counts.REQUESTS, Counts.SLOTS))


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """One rule of a policy, whoever asks."""

    name: str
    counts: Counts
    per: Per
    match: Match
    limit: int
    """Most that there is at one moment, or for a period."""
    fixed: Rate | Slots | None
    """None: a budget, whose periods depend on the time."""
    budget: BudgetRule | None = None

    @property
    def of_model(self) -> bool:
        """Whether the model has a part in what is counted."""
        return self.per is Per.MODEL or self.match.model is not None


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """A policy, compiled once."""

    id: str
    group: str
    """Of its buckets."""
    body: RateLimitBody
    rules: tuple[Rule, ...]
    enforces: bool
    """Whether it acts, and does not only count."""
    of_models: bool
    """Whether what it counts depends on the model."""

    @property
    def name(self) -> str:
        """The id without the kind, for metrics: namespace and name of the resource."""
        return self.id.split("/", 1)[-1]


@dataclass(frozen=True, slots=True, eq=False)
class Counter:
    """One rule for one subject."""

    rule: Rule
    bucket: Bucket
    same: Charge | None
    """What every request takes; None where that depends on the request."""


class Heading(NamedTuple):
    """Header lines, but for what changes from one answer to the next."""

    lines: bytes
    """With places for what is left of each unit, and for the time until it is full."""
    units: tuple[int, ...]
    """The position of the one counter of each of them."""


@dataclass(slots=True, eq=False)
class Plan:
    """What the requests of one principal to one model take from. Never empty.

    Nothing of it ever changes but `seen`, and what is made for it when that is first needed.
    """

    counters: tuple[Counter, ...]
    same: tuple[Charge, ...] | None
    """The charges, where they are the same for every request."""
    has_money: bool
    has_output: bool
    has_soft_limit: bool
    spending: tuple[int, ...]
    """Positions of the counters of tokens and money."""
    ends_ms: int
    """When the next period of a budget begins: from then on another plan is needed. 0: never."""
    seen: tuple[Reservation, float] | None = None
    """What was let through last, which tells how the counters stand, and when that was, in Unix seconds."""
    cells: tuple[tuple[int, Number, Number], ...] | None = None
    """Of each of `spending` its position and where it is counted what was taken, and what was used."""
    heading: "Heading | None" = None
    """How it is told in OpenAI's headers."""
    kinds: tuple[int, ...] = field(init=False)
    """What each counter counts."""
    _takes: tuple[tuple[Charge | None, Bucket, int], ...] = field(init=False)
    _limits: tuple[tuple[int, int], ...] = field(init=False)

    def __post_init__(self) -> None:
        """Look up once what is needed for each request."""
        self.kinds = tuple(int(counter.rule.counts) for counter in self.counters)
        self._takes = tuple((one.same, one.bucket, int(one.rule.counts)) for one in self.counters)
        self._limits = tuple((place, self.counters[place].rule.limit) for place in self.spending)

    def charges(self, input_tokens: int, output_tokens: int, nano_dollars: int) -> tuple[Charge, ...]:
        """Give what such a request takes."""
        amounts = amounts_of(1, input_tokens, output_tokens, nano_dollars)
        # NB: the constructor of a named tuple of Python's takes longer than all of this.
        return tuple([same or _new(Charge, (bucket, amounts[kind])) for same, bucket, kind in self._takes])

    def is_exceeded(self, charges: Sequence[Charge]) -> bool:
        """Whether one of these is more than there ever is."""
        for place, limit in self._limits:  # noqa: SIM110 - faster
            if charges[place][1] > limit:
                return True
        return False


def fitted(charges: Sequence[Charge], least: Sequence[Charge], counters: Sequence[Counter]) -> tuple[Charge, ...]:
    """Give charges that are no more than there ever is, as far as those allow which the request takes at least."""
    return tuple(
        [
            charge
            if charge.amount <= counter.rule.limit
            else Charge(charge.bucket, max(counter.rule.limit, low.amount))
            for charge, low, counter in zip(charges, least, counters, strict=True)
        ]
    )


def amounts_of(requests: int, input_tokens: int, output_tokens: int, nano_dollars: int) -> tuple[int, ...]:
    """Give the amounts by `Counts`; of slots one is taken, whatever became of the request."""
    return requests, input_tokens + output_tokens, input_tokens, output_tokens, 1, nano_dollars


def compile_policy(id: str, body: RateLimitBody) -> Policy:
    """Read a policy once for all who ask."""
    limits = (_limit(rule) for rule in body.limits)
    budgets = (
        Rule(rule.name, Counts.MONEY, rule.per, rule.match, rule.nanoDollars, None, rule) for rule in body.budgets
    )
    rules, enforces = (*limits, *budgets), body.mode is Mode.ENFORCE
    group = id if enforces else id + SHADOW_MARK
    return Policy(id, group, body, rules, enforces, any(rule.of_model for rule in rules))


def _limit(rule: LimitRule) -> Rule:
    counts = _COUNTS[rule.unit]
    if counts is Counts.SLOTS:
        return Rule(rule.name, counts, rule.per, rule.match, rule.amount, Slots(rule.amount))
    rate = Rate(rule.amount, rule.windowMillis, rule.burst)
    return Rule(rule.name, counts, rule.per, rule.match, rule.burst, rate)


def plan_for(
    policy: Policy, principal: Principal, *, model_id: str, model_name: str, inner: bool, now_ms: int
) -> Plan | None:
    """Give what such requests take from; None when no rule is about them.

    `inner`: the policy has acted on the request already, around another model.
    """
    counters, ends = [], 0
    for rule in policy.rules:
        if (inner and not rule.of_model) or not _is_about(rule.match, principal, model_name):
            continue
        kind: Rate | Quota | Slots
        if rule.fixed is None:
            kind = Quota(rule.limit, starts_of(_budget(rule).period, now_ms))
            next_ms = next(start for start in kind.starts_ms if start > now_ms)
            ends = min(ends or next_ms, next_ms)
        else:
            kind = rule.fixed
        bucket = Bucket(policy.group, _key(rule, principal, model_id), kind)
        counters.append(Counter(rule, bucket, Charge(bucket, 1) if rule.counts in _SAME_FOR_ALL else None))
    return _plan(counters, ends) if counters else None


def _plan(counters: Sequence[Counter], ends_ms: int) -> Plan:
    same = tuple(counter.same for counter in counters if counter.same is not None)
    counted = {counter.rule.counts for counter in counters}
    return Plan(
        tuple(counters),
        same if len(same) == len(counters) else None,
        has_money=Counts.MONEY in counted,
        has_soft_limit=any(c.rule.budget is not None and c.rule.budget.softLimitPercent for c in counters),
        spending=tuple(place for place, counter in enumerate(counters) if counter.same is None),
        has_output=not counted.isdisjoint((Counts.TOKENS, Counts.OUTPUT, Counts.MONEY)),
        ends_ms=ends_ms,
    )


def _is_about(match: Match, principal: Principal, model_name: str) -> bool:
    return (
        (match.tier is None or match.tier == principal.tier)
        and (match.team is None or match.team == principal.team)
        and (match.model is None or match.model == model_name)
    )


def subject_of(per: Per, principal: Principal, model_id: str) -> tuple[str, ...]:
    """Give who is counted together; see above. No two subjects of one `per` are the same."""
    if per is Per.POLICY:
        return ()
    if per is Per.MODEL:
        return ("model", model_id)
    if per is Per.TENANT:
        return ("tenant", principal.tenant)
    if per is Per.TEAM and principal.team:
        return ("team", principal.tenant, principal.team)
    if per is not Per.KEY and principal.user:
        return ("user", principal.tenant, principal.user)
    return ("key", principal.key)


def _key(rule: Rule, principal: Principal, model_id: str) -> str:
    """Give the name of a count: the same in every gateway, and as long as the limit is what it is, whatever its amount.

    A rate over another window is another count: what is left of the one says nothing of the other.
    """
    window = rule.fixed.window_ms if isinstance(rule.fixed, Rate) else 0
    parts = (rule.name, rule.counts.name, str(window), *subject_of(rule.per, principal, model_id))
    hashed = blake2b(digest_size=_KEY_BYTES)
    for part in parts:
        written = part.encode("utf-8", "surrogatepass")
        hashed.update(b"%d:%b" % (len(written), written))
    return hashed.hexdigest()


def _budget(rule: Rule) -> BudgetRule:
    if rule.budget is None:
        raise TypeError(f"{rule.name} is no budget")
    return rule.budget


def amount_text(counts: Counts, amount: int) -> str:
    """Write an amount for people."""
    if counts is Counts.MONEY:
        whole, part = divmod(max(0, amount), NANO)
        digits = f"{part:09}".rstrip("0")
        return f"${whole}.{digits:0<2}"
    return str(max(0, amount))
