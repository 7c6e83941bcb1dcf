"""How much of a policy is used, by what its counters said when a request was let through last. Pure, and of nobody.

The store is not asked: what a gateway has not seen for a while is reckoned on from there, since rates fill again with
time and periods end.
"""

from collections.abc import Iterable, Sequence

from capstan_contract.limits import RuleUsage, Unit
from capstan_gateway.limits.port import Rate, Standing
from capstan_gateway.pipeline.limits.rules import Counts, Plan, Policy, Rule

_UNITS = {
    Counts.REQUESTS: Unit.REQUESTS, Counts.TOKENS: Unit.TOKENS, Counts.INPUT: Unit.INPUT_TOKENS,
    Counts.OUTPUT: Unit.OUTPUT_TOKENS, Counts.SLOTS: Unit.CONCURRENCY,
}  # fmt: skip

SLOTS_MS = 60_000
"""For so long what ran at once is believed to run: nothing says when it ends."""


def usage_of(policy: Policy, plans: Iterable[Plan], now: float) -> tuple[RuleUsage, ...]:
    """Give how much of each rule is used that somebody has used; `now` in Unix seconds."""
    newest: dict[Rule, dict[str, tuple[Standing, float]]] = {rule: {} for rule in policy.rules}
    for plan in plans:
        if plan.seen is None:
            continue
        held, at = plan.seen
        for counter, standing in zip(plan.counters, held.verdict.standings, strict=True):
            known = newest[counter.rule].get(counter.bucket.key)
            if known is None or known[1] < at:
                newest[counter.rule][counter.bucket.key] = standing, at
    return tuple(
        _usage_of(rule, [used_at(rule, *seen, now) for seen in found.values()])
        for rule, found in newest.items()
        if found
    )


def _usage_of(rule: Rule, used: Sequence[int]) -> RuleUsage:
    return RuleUsage(
        name=rule.name,
        unit=_UNITS.get(rule.counts),
        usedPercent=max(used) * 100 // rule.limit,
        spentNanoDollars=sum(used) if rule.counts is Counts.MONEY else 0,
    )


def used_at(rule: Rule, standing: Standing, at: float, now: float) -> int:
    """Give how much is used by now of a counter that stood so then; at least 0."""
    passed_ms = max(0, int((now - at) * 1000))
    if passed_ms >= (SLOTS_MS if rule.counts is Counts.SLOTS else standing.reset_ms):
        return 0
    used = rule.limit - standing.remaining
    if isinstance(rule.fixed, Rate):
        used -= passed_ms * rule.fixed.amount // rule.fixed.window_ms
    return max(0, used)
