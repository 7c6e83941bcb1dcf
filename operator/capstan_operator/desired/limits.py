"""A RateLimitPolicy, compiled for the gateway, and what is wrong with one beyond its schema."""

from collections.abc import Iterator
from typing import Final
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from capstan_contract.entries import LabelRequirement, PolicyEntry, PolicyTargets
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
from capstan_contract.names import MAX_ENTRY_BYTES
from capstan_operator.api.kinds import Policy
from capstan_operator.api.ratelimitpolicy import BudgetSpec, LimitSpec, MatchSpec, RateLimitPolicySpec, TokenType
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


def find_policy_faults(policy: Policy) -> tuple[Fault, ...]:
    """Give everything that keeps a policy from being enforced; nothing means that `build_policy_entry` can be asked."""
    return judge_policy_faults(policy) if policy.judged is None else policy.judged


def judge_policy_faults(policy: Policy) -> tuple[Fault, ...]:
    """Look for the faults of a policy, whatever was found before."""
    spec = policy.spec
    if spec is None:
        return policy.faults or (Fault("spec", "is missing"),)
    if found := (*policy.faults, *_zone_faults(spec)):
        return found
    try:
        entry = build_policy_entry(policy, spec)
    except ValidationError as fault:
        first = fault.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return (Fault("spec", f"cannot be enforced by a gateway: {where}: {first['msg']}"),)
    if len(entry.text) > MAX_ENTRY_BYTES:
        return (Fault("spec", f"takes more than {MAX_ENTRY_BYTES} bytes of a gateway's config"),)
    return ()


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


def build_policy_entry(policy: Policy, spec: RateLimitPolicySpec) -> PolicyEntry:
    """Build the entry of a policy. Raises ValidationError."""
    return rate_limit_entry(
        policy.key.namespace,
        policy.key.name,
        build_body(spec, policy.key.namespace),
        uid=policy.uid,
        targets=targets_of(spec),
    )


def targets_of(spec: RateLimitPolicySpec) -> PolicyTargets:
    """Give which models a policy is for; `everywhere` where it says none."""
    if spec.targetRefs:
        return PolicyTargets(names=tuple(sorted(target.name for target in spec.targetRefs)))
    selector = spec.targetSelector
    if selector is None:
        return PolicyTargets(everywhere=True)
    return PolicyTargets(
        labels=selector.matchLabels,
        expressions=tuple(
            LabelRequirement(key=one.key, operator=one.operator.value, values=tuple(sorted(one.values)))
            for one in selector.matchExpressions
        ),
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
