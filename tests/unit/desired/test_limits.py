"""What a RateLimitPolicy comes to in the gateway config."""

from typing import Any

import pytest

from capstan_contract.entries import PolicyTargets
from capstan_contract.limits import (
    LimitRule,
    Match,
    Mode,
    OnExhausted,
    Per,
    Period,
    PeriodType,
    RateLimitBody,
    Unit,
    read_body,
)
from capstan_operator.api.kinds import Policy
from capstan_operator.desired.limits import nano_dollars
from capstan_operator.desired.policy_kinds import build_policy_entry, find_policy_faults
from support.plainpolicies import make_policy, named


def body_of(policy: Policy) -> RateLimitBody:
    """The compiled body, as a gateway reads it."""
    assert policy.faults == ()
    assert policy.spec is not None
    return read_body(build_policy_entry(policy))


def limits(**limit: Any) -> tuple[LimitRule, ...]:
    """The rules of one limit."""
    return body_of(make_policy(limits=[{"name": "a", "per": "Tenant", **limit}])).limits


def test_each_thing_that_a_limit_bounds_is_a_rule() -> None:
    """Requests, tokens and concurrency of one limit are three rules of its name; what runs at once has no window."""
    rules = limits(requests=10, tokens=1000, concurrency=2, match={"tier": "free"})
    assert rules == (
        LimitRule(
            name="a", per=Per.TENANT, unit=Unit.REQUESTS, amount=10, windowMillis=60_000, burst=10, match=_tier("free")
        ),
        LimitRule(
            name="a",
            per=Per.TENANT,
            unit=Unit.TOKENS,
            amount=1000,
            windowMillis=60_000,
            burst=1000,
            match=_tier("free"),
        ),
        LimitRule(name="a", per=Per.TENANT, unit=Unit.CONCURRENCY, amount=2, match=_tier("free")),
    )


def _tier(tier: str) -> Match:
    return Match(tier=tier)


@pytest.mark.parametrize(
    ("window", "millis"),
    [("minute", 60_000), ("hour", 3_600_000), ("day", 86_400_000), ("30s", 30_000), ("1h30m", 5_400_000)],
)
def test_windows(window: str, millis: int) -> None:
    """A window is a word or a duration, in milliseconds."""
    assert [rule.windowMillis for rule in limits(requests=1, window=window)] == [millis]


def test_a_burst_of_its_own() -> None:
    """What can be had at one moment is what `burst` says, else the limit."""
    assert [(rule.amount, rule.burst) for rule in limits(tokens=100, burst=7)] == [(100, 7)]


@pytest.mark.parametrize(
    ("type_", "unit"), [("Both", Unit.TOKENS), ("Input", Unit.INPUT_TOKENS), ("Output", Unit.OUTPUT_TOKENS)]
)
def test_types_of_tokens(type_: str, unit: Unit) -> None:
    """Input, output or both are counted."""
    assert [rule.unit for rule in limits(tokens=1, tokenType=type_)] == [unit]


def test_a_budget() -> None:
    """Money is whole nano-dollars, a period has a time zone, and a model to downgrade to is one of the namespace."""
    budget = {
        "name": "b",
        "per": "Team",
        "dollars": "20.10",
        "period": "month",
        "resetTimeZone": "Europe/Berlin",
        "softLimitPercent": 80,
        "onExhausted": "Downgrade",
        "downgradeTo": "small",
    }
    (rule,) = body_of(make_policy(budgets=[budget])).budgets
    assert rule.nanoDollars == 20_100_000_000
    assert rule.period == Period(type=PeriodType.MONTH, timeZone="Europe/Berlin")
    assert (rule.softLimitPercent, rule.onExhausted, rule.downgradeTo) == (80, OnExhausted.DOWNGRADE, "team/small")


def test_a_budget_of_a_duration() -> None:
    """A period that is a duration is in milliseconds, and has no time zone."""
    (rule,) = body_of(make_policy(budgets=[{"name": "b", "per": "Key", "dollars": "1", "period": "12h"}])).budgets
    assert rule.period == Period(type=PeriodType.DURATION, millis=43_200_000)


@pytest.mark.parametrize(
    ("text", "nanos"),
    [("1", 10**9), ("0.000000001", 1), ("0.1", 10**8), ("1000000", 10**15), ("12.345678901", 12_345_678_901)],
)
def test_money_is_exact(text: str, nanos: int) -> None:
    """No float is on the way from the manifest's decimal number to nano-dollars."""
    assert nano_dollars(text) == nanos


def test_what_is_said_of_the_whole_policy() -> None:
    """Mode and the choices of the policy are in its body; the defaults are those of the resource."""
    plain = body_of(make_policy())
    assert (plain.mode, plain.countCached, plain.unknownPrice, plain.onStoreFailure) == (
        Mode.ENFORCE,
        "Full",
        "Flag",
        "AllowLocal",
    )
    other = body_of(make_policy(mode="Shadow", countCached="None", unknownPrice="Deny", onStoreFailure="Deny"))
    assert (other.mode, other.countCached, other.unknownPrice, other.onStoreFailure) == (
        Mode.SHADOW,
        "None",
        "Deny",
        "Deny",
    )


@pytest.mark.parametrize(
    ("spec", "targets"),
    [
        ({}, PolicyTargets(everywhere=True)),
        ({"targetRefs": named("b", "a")}, PolicyTargets(names=("a", "b"))),
        ({"targetSelector": {}}, PolicyTargets()),
        ({"targetSelector": {"matchLabels": {"a": "b"}}}, PolicyTargets(labels={"a": "b"})),
    ],
)
def test_targets(spec: dict[str, Any], targets: PolicyTargets) -> None:
    """Names, labels, all of the namespace, or all of the installation."""
    policy = make_policy(**spec)
    assert policy.spec is not None
    assert build_policy_entry(policy).targets == targets


def test_a_time_zone_that_there_is_not() -> None:
    """What a schema cannot know is a fault of the policy: a time zone that the database does not have."""
    budget = {"name": "b", "per": "Key", "dollars": "1", "period": "day", "resetTimeZone": "Europe/Atlantis"}
    (fault,) = find_policy_faults(make_policy(budgets=[budget]))
    assert str(fault) == "`spec.budgets[0].resetTimeZone` must be the name of a time zone, such as Europe/Berlin"
