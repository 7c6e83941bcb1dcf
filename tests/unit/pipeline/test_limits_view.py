"""How much of a policy is used, from what its counters said last."""

from collections.abc import Sequence
from typing import Any

import pytest

from capstan_contract.config import GatewayConfig, ModelEntry, StaticBackend
from capstan_contract.limits import (
    BudgetRule,
    LimitRule,
    Match,
    Per,
    Period,
    PeriodType,
    RateLimitBody,
    RuleUsage,
    Unit,
    rate_limit_entry,
)
from capstan_gateway.identity.principal import Principal
from capstan_gateway.life.threads import Threads
from capstan_gateway.limits.port import Outcome, Standing, Verdict
from capstan_gateway.pipeline.background import Background
from capstan_gateway.pipeline.estimates import MeanOutputs
from capstan_gateway.pipeline.limits.kind import RateLimits
from capstan_gateway.pipeline.limits.needs import Shared
from capstan_gateway.pipeline.limits.plans import Plans
from capstan_gateway.pipeline.limits.rules import compile_policy
from capstan_gateway.pipeline.limits.view import usage_of, used_at
from capstan_gateway.telemetry.metrics import Metrics
from support.counts import Counts

DAY = Period(type=PeriodType.DAY)
NOW = 1_796_000_000.0
BODY = RateLimitBody(
    limits=(
        LimitRule(name="r", per=Per.USER, unit=Unit.REQUESTS, amount=60, windowMillis=60_000, burst=100),
        LimitRule(name="c", per=Per.POLICY, unit=Unit.CONCURRENCY, amount=4),
    ),
    budgets=(
        BudgetRule(name="b", per=Per.TENANT, nanoDollars=1000, period=DAY),
        BudgetRule(name="unused", per=Per.TENANT, nanoDollars=1000, period=DAY, match=Match(tier="x")),
    ),
)  # fmt: skip
POLICY = compile_policy("RateLimitPolicy/t/p", BODY)
RATE, SLOTS, BUDGET, _ = POLICY.rules


class Had:
    """Implements `port.Reservation`, as far as it tells how its counters stand."""

    def __init__(self, *standings: Standing) -> None:
        self.verdict = Verdict(Outcome.ADMITTED, standings)

    async def extend(self, amounts: Sequence[int], *, used: Sequence[int]) -> Verdict:
        """Nobody asks."""
        raise NotImplementedError

    def settle(self, used: Sequence[int]) -> None:
        """Nobody asks."""
        raise NotImplementedError


@pytest.mark.parametrize(
    ("rule", "standing", "later", "used"),
    [
        (RATE, Standing(40, 60_000), 0.0, 60),
        (RATE, Standing(40, 60_000), 10.0, 50),
        (RATE, Standing(40, 60_000), 60.0, 0),
        (RATE, Standing(100, 0), 0.0, 0),
        (RATE, Standing(-20, 120_000), 0.0, 120),
        (SLOTS, Standing(1, 0), 5.0, 3),
        (SLOTS, Standing(1, 0), 60.0, 0),
        (BUDGET, Standing(250, 5000), 4.9, 750),
        (BUDGET, Standing(250, 5000), 5.0, 0),
    ],
)
def test_what_was_seen_is_reckoned_on(rule: Any, standing: Standing, later: float, used: int) -> None:
    """Rates fill again with time, periods end, and what runs at once is as it was, for a while."""
    assert used_at(rule, standing, NOW, NOW + later) == used


def test_the_one_who_has_used_most_is_told_and_nobody_is_named() -> None:
    """Of budgets what all have spent; of what nobody has used nothing is said."""
    plans = Plans()
    for user, tenant, left, seen in (("a", "x", 90, 0), ("b", "y", 10, 0), ("a", "x", 40, 1)):
        principal = Principal(tenant=tenant, user=user, key=f"key-{seen}")
        plan = plans.find(POLICY, principal, model_id="m", model_name="m", inner=False, now_ms=int(NOW * 1000))
        assert plan is not None
        had = Had(Standing(left, 100_000), Standing(4, 0), Standing(1000 - left, 100_000))
        plan.seen = had, NOW - 1 + seen
    assert usage_of(POLICY, plans.by_policy()[POLICY], NOW) == (
        RuleUsage(name="r", unit=Unit.REQUESTS, usedPercent=89),
        RuleUsage(name="c", unit=Unit.CONCURRENCY, usedPercent=0),
        RuleUsage(name="b", usedPercent=4, spentNanoDollars=50),
    )


def kind() -> RateLimits:
    """Give the kind."""
    shared = Shared(
        limiter=Counts().limiter, plans=Plans(), means=MeanOutputs(), executor=Threads("unused"),
        background=Background(), now=lambda: NOW,
    )  # fmt: skip
    return RateLimits(shared, Metrics())


def config(*bodies: RateLimitBody) -> GatewayConfig:
    """Give a config with these policies, all in force on one model."""
    policies = [rate_limit_entry("t", f"p{number}", body) for number, body in enumerate(bodies)]
    model = ModelEntry(
        id="t/m", servedName="m", upstreamName="m", backend=StaticBackend(urls=()),
        policies=tuple(one.id for one in policies),
    )  # fmt: skip
    return GatewayConfig.build((model,), policies=policies)


def test_a_policy_that_says_the_same_is_the_same() -> None:
    """From config to config, so that a model keeps its answer function; one that changed is another one."""
    found, one = kind(), config(BODY, BODY)
    first = list(found.in_force(one, one.models[0]))
    assert [id for id, _ in first] == ["RateLimitPolicy/t/p0@t/m", "RateLimitPolicy/t/p1@t/m"]
    other = config(BODY, BODY.model_copy(update={"limits": BODY.limits[:1]}))
    second = list(found.in_force(other, other.models[0]))
    assert first[0][1] == second[0][1]
    assert first[0][1].policy is second[0][1].policy
    assert first[1][1] != second[1][1]


def test_what_is_gone_is_forgotten() -> None:
    """Its metrics, its report; a config without policies is asked nothing."""
    found, one, nothing = kind(), config(BODY), config()
    for id, spec in found.in_force(one, one.models[0]):
        found.build(id, spec)
    found.retain(one)
    decisions = found._metrics.limit_decisions
    assert {labels[0] for labels in decisions.cells} == {"t/p0"}
    assert found.report().policies == {}
    found.retain(nothing)
    assert decisions.cells == {}
    assert list(found.in_force(nothing, nothing.models[0])) == []
