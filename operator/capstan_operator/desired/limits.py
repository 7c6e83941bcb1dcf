"""A RateLimitPolicy, compiled for the gateway, and what is wrong with one beyond its schema."""

from collections.abc import Iterator
from typing import Final
from zoneinfo import ZoneInfo

from capstan_contract.entries import PolicyEntry
from capstan_contract.limits import (
    BudgetRule,
    LimitRule,
    Match,
    Period,
    PeriodType,
    RateLimitBody,
    Unit,
    rate_limit_entry,
)
from capstan_operator.api.kinds import Policy
from capstan_operator.api.ratelimitpolicy import BudgetSpec, LimitSpec, MatchSpec, RateLimitPolicySpec, TokenType
from capstan_operator.desired.policy_entries import MISSING, judge, targets_of
from capstan_operator.resources.durations import seconds_of
from capstan_operator.resources.resource import Fault

NANO: Final = 1_000_000_000
_WINDOWS: Final = {"minute": 60, "hour": 3600, "day": 86_400}
_PERIODS: Final = {"day": PeriodType.DAY, "week": PeriodType.WEEK, "month": PeriodType.MONTH}
_TOKENS: Final = {
    TokenType.BOTH: Unit.TOKENS,
    TokenType.INPUT: Unit.INPUT_TOKENS,
    TokenType.OUTPUT: Unit.OUTPUT_TOKENS,
}


def find_limit_faults(policy: Policy) -> tuple[Fault, ...]:
    """Look for what is wrong with a RateLimitPolicy, whatever was found before."""
    spec = policy.spec
    if not isinstance(spec, RateLimitPolicySpec):
        return policy.faults or MISSING
    return judge(policy, _zone_faults(spec), lambda: build_limit_entry(policy, spec))


def _zone_faults(spec: RateLimitPolicySpec) -> Iterator[Fault]:
    for index, budget in enumerate(spec.budgets):
        if budget.resetTimeZone is not None and not _is_zone(budget.resetTimeZone):
            yield Fault(
                f"spec.budgets[{index}].resetTimeZone", "must be the name of a time zone, such as Europe/Berlin"
            )


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        return False
    return True


def build_limit_entry(policy: Policy, spec: RateLimitPolicySpec) -> PolicyEntry:
    """Build the entry of a RateLimitPolicy. Raises ValidationError."""
    return rate_limit_entry(
        policy.key.namespace,
        policy.key.name,
        build_body(spec, policy.key.namespace),
        uid=policy.uid,
        targets=targets_of(spec),
    )


def build_body(spec: RateLimitPolicySpec, namespace: str) -> RateLimitBody:
    """Compile a spec: each thing that a limit bounds is a rule of its own. Raises ValidationError."""
    return RateLimitBody(
        mode=spec.mode,
        limits=tuple(rule for limit in spec.limits for rule in _limit_rules(limit)),
        budgets=tuple(_budget_rule(budget, namespace) for budget in spec.budgets),
        countCached=spec.countCached,
        unknownPrice=spec.unknownPrice,
        onStoreFailure=spec.onStoreFailure,
    )


def _limit_rules(limit: LimitSpec) -> Iterator[LimitRule]:
    match, millis = _match(limit.match), _window_millis(limit.window or "minute")
    rates = ((Unit.REQUESTS, limit.requests), (_TOKENS[limit.tokenType or TokenType.BOTH], limit.tokens))
    for unit, amount in rates:
        if amount is not None:
            burst = limit.burst or amount
            yield LimitRule(
                name=limit.name, per=limit.per, unit=unit, amount=amount, windowMillis=millis, burst=burst, match=match
            )
    if limit.concurrency is not None:
        yield LimitRule(name=limit.name, per=limit.per, unit=Unit.CONCURRENCY, amount=limit.concurrency, match=match)


def _budget_rule(budget: BudgetSpec, namespace: str) -> BudgetRule:
    return BudgetRule(
        name=budget.name,
        per=budget.per,
        nanoDollars=nano_dollars(budget.dollars),
        period=_period(budget),
        softLimitPercent=budget.softLimitPercent,
        onExhausted=budget.onExhausted,
        downgradeTo=None if budget.downgradeTo is None else f"{namespace}/{budget.downgradeTo}",
        match=_match(budget.match),
    )


def _period(budget: BudgetSpec) -> Period:
    if kind := _PERIODS.get(budget.period):
        return Period(type=kind, timeZone=budget.resetTimeZone or "UTC")
    return Period(type=PeriodType.DURATION, millis=seconds_of(budget.period) * 1000)


def _window_millis(window: str) -> int:
    return (_WINDOWS.get(window) or seconds_of(window)) * 1000


def _match(match: MatchSpec | None) -> Match:
    return Match() if match is None else Match(tier=match.tier, team=match.team, model=match.model)


def nano_dollars(text: str) -> int:
    """Give a decimal number of dollars with at most nine decimals as whole nano-dollars: no float on the way."""
    whole, _, fraction = text.partition(".")
    return int(whole) * NANO + int(fraction.ljust(9, "0"))
