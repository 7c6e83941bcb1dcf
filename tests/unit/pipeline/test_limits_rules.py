"""From a policy to the counters of who asks: who is counted together, and which rules are about whom."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.limits import (
    BudgetRule,
    LimitRule,
    Match,
    Mode,
    Per,
    Period,
    PeriodType,
    RateLimitBody,
    Unit,
)
from capstan_gateway.identity.principal import NOBODY, Principal
from capstan_gateway.limits.port import Bucket, Quota, Rate, Slots
from capstan_gateway.pipeline.limits.plans import Plans
from capstan_gateway.pipeline.limits.rules import Counts, Plan, amount_text, compile_policy, plan_for, subject_of

NOW = 1_796_000_000_000


def rule(name: str = "r", per: Per = Per.KEY, unit: Unit = Unit.REQUESTS, amount: int = 5, **more: Any) -> LimitRule:
    """Give a limit of a minute."""
    if unit is Unit.CONCURRENCY:
        return LimitRule(name=name, per=per, unit=unit, amount=amount, **more)
    return LimitRule(name=name, per=per, unit=unit, amount=amount, **{"windowMillis": 60_000, "burst": amount, **more})


def plan(*rules: LimitRule, who: Principal = NOBODY, model: str = "m", inner: bool = False, **body: Any) -> Plan | None:
    """Give somebody's plan."""
    policy = compile_policy("RateLimitPolicy/t/p", RateLimitBody(limits=rules, **body))
    return plan_for(policy, who, model_id=f"t/{model}", model_name=model, inner=inner, now_ms=NOW)


def bucket(one: LimitRule, who: Principal = NOBODY, model: str = "m", **body: Any) -> Bucket:
    """Give what somebody is counted in."""
    found = plan(one, who=who, model=model, **body)
    assert found is not None
    return found.counters[0].bucket


ALICE = Principal(tenant="acme", user="alice", team="ml", tier="gold", key="one")
KEYED = Principal(tenant="acme", team="ml", key="two")
BARE = Principal(tenant="acme", key="three")
OTHER = Principal(tenant="globex", user="alice", team="ml", tier="gold", key="one-too")


@pytest.mark.parametrize(
    ("per", "of_alice", "of_keyed", "of_bare"),
    [
        (Per.KEY, ("key", "one"), ("key", "two"), ("key", "three")),
        (Per.USER, ("user", "acme", "alice"), ("key", "two"), ("key", "three")),
        (Per.TEAM, ("team", "acme", "ml"), ("team", "acme", "ml"), ("key", "three")),
        (Per.TENANT, ("tenant", "acme"), ("tenant", "acme"), ("tenant", "acme")),
        (Per.MODEL, ("model", "t/m"), ("model", "t/m"), ("model", "t/m")),
        (Per.POLICY, (), (), ()),
    ],
)
def test_who_is_counted_together(per: Per, of_alice: Any, of_keyed: Any, of_bare: Any) -> None:
    """Of whom something is not known, what is known tells them apart."""
    assert [subject_of(per, who, "t/m") for who in (ALICE, KEYED, BARE)] == [of_alice, of_keyed, of_bare]


@pytest.mark.parametrize("per", [Per.KEY, Per.USER, Per.TEAM, Per.TENANT])
def test_two_tenants_take_nothing_from_each_other(per: Per) -> None:
    """Also where they call their users and teams alike."""
    assert bucket(rule(per=per), ALICE) != bucket(rule(per=per), OTHER)


def test_keys_of_buckets_name_nobody_and_are_the_same_everywhere() -> None:
    """They are hashes; whose parts cannot be moved from one to the next."""
    found = bucket(rule(per=Per.USER), ALICE)
    assert found == Bucket("RateLimitPolicy/t/p", "ea5cdab075f567b33a3d4ee370aa0f1b", Rate(5, 60_000, 5)), found
    moved = Principal(tenant="acmea", user="lice", key="x")
    assert bucket(rule(per=Per.USER), moved).key != found.key


def test_a_limit_that_changes_keeps_its_count() -> None:
    """Its amount, its burst; another window, unit or name is another count."""
    before = bucket(rule())
    assert bucket(rule(amount=9)).key == before.key
    assert bucket(rule(burst=50)).key == before.key
    others = [rule(windowMillis=1000), rule(unit=Unit.TOKENS), rule("s"), rule(unit=Unit.CONCURRENCY)]
    assert len({before.key, *(bucket(one).key for one in others)}) == 5


def test_what_only_looks_on_counts_apart() -> None:
    """Turned on, it begins with counts of its own."""
    assert bucket(rule(), mode=Mode.SHADOW).group == "RateLimitPolicy/t/p#shadow"


@pytest.mark.parametrize(
    ("match", "who", "model", "holds"),
    [
        (Match(), NOBODY, "m", True),
        (Match(tier="gold"), ALICE, "m", True),
        (Match(tier="gold"), BARE, "m", False),
        (Match(team="ml"), KEYED, "m", True),
        (Match(team="ml"), BARE, "m", False),
        (Match(model="m"), BARE, "m", True),
        (Match(model="m"), BARE, "other", False),
        (Match(tier="gold", team="ml", model="m"), ALICE, "m", True),
        (Match(tier="gold", team="x", model="m"), ALICE, "m", False),
    ],
)
def test_rules_are_about_whom_they_say(match: Match, who: Principal, model: str, holds: bool) -> None:
    """All that is said must hold; where no rule is about somebody there is no plan at all."""
    assert (plan(rule(match=match), who=who, model=model) is not None) is holds


def test_inside_of_itself_a_policy_counts_what_depends_on_the_model() -> None:
    """The rest has been counted at the outer place."""
    rules = rule("a"), rule("b", per=Per.MODEL), rule("c", match=Match(model="m")), rule("d", match=Match(tier=None))
    found = plan(*rules, inner=True)
    assert found is not None
    assert [counter.rule.name for counter in found.counters] == ["b", "c"]
    assert plan(rule("a"), inner=True) is None


def test_a_plan_knows_what_has_to_be_estimated() -> None:
    """Nothing for requests and slots, whose charges are made once; the output where that counts."""
    same = plan(rule("a"), rule("b", unit=Unit.CONCURRENCY))
    assert same is not None
    assert same.same is not None
    assert [(charge.amount, type(charge.bucket.rule)) for charge in same.same] == [(1, Rate), (1, Slots)]
    inputs = plan(rule("a"), rule("b", unit=Unit.INPUT_TOKENS))
    assert inputs is not None
    assert (inputs.same, inputs.has_output, inputs.has_money) == (None, False, False)
    charges = inputs.charges(7, 9, 11)
    assert [charge.amount for charge in charges] == [1, 7]


BUDGET = BudgetRule(name="b", per=Per.KEY, nanoDollars=100, period=Period(type=PeriodType.DURATION, millis=1000))


def test_a_budget_has_the_periods_around_now() -> None:
    """The plan lasts as long as the one under way."""
    found = plan(budgets=(BUDGET,))
    assert found is not None
    assert found.counters[0].bucket.rule == Quota(100, (NOW - 1000, NOW, NOW + 1000, NOW + 2000))
    assert found.ends_ms == NOW + 1000
    everything = plan(*(rule(str(unit), unit=unit) for unit in Unit), budgets=(BUDGET,))
    assert everything is not None
    charges = everything.charges(7, 9, 11)
    assert [charge.amount for charge in charges] == [1, 16, 7, 9, 1, 11]


def test_plans_are_made_once_and_bounded() -> None:
    """Until a period ends; the oldest goes first."""
    policy = compile_policy("RateLimitPolicy/t/p", RateLimitBody(limits=(rule(),), budgets=(BUDGET,)))
    plans = Plans(limit=2)

    def find(who: Principal, now_ms: int = NOW) -> Plan | None:
        return plans.find(policy, who, model_id="t/m", model_name="m", inner=False, now_ms=now_ms)

    first = find(ALICE)
    assert find(ALICE, NOW + 999) is first
    later = find(ALICE, NOW + 1000)
    assert later is not first
    assert plans.by_policy()[policy] == [later]
    find(KEYED)
    find(BARE)
    assert len(plans) == 2
    assert find(KEYED) in plans.by_policy()[policy]
    assert later not in plans.by_policy()[policy]


def test_plans_of_models_are_shared_where_nothing_depends_on_the_model() -> None:
    """A thousand models under one policy need no thousand plans."""
    policy = compile_policy("RateLimitPolicy/t/p", RateLimitBody(limits=(rule(),)))
    models = compile_policy("RateLimitPolicy/t/q", RateLimitBody(limits=(rule(per=Per.MODEL),)))
    plans = Plans()
    for name in ("a", "b"):
        for one in (policy, models):
            plans.find(one, ALICE, model_id=name, model_name=name, inner=False, now_ms=NOW)
    assert (len(plans.by_policy()[policy]), len(plans.by_policy()[models])) == (1, 2)


@given(st.lists(st.text(max_size=3), min_size=3, max_size=3), st.lists(st.text(max_size=3), min_size=3, max_size=3))
def test_no_two_subjects_have_one_bucket(one: list[str], other: list[str]) -> None:
    """However they are called."""
    first = Principal(tenant=one[0], user=one[1], key=one[2])
    second = Principal(tenant=other[0], user=other[1], key=other[2])
    for per in Per:
        same = subject_of(per, first, "m") == subject_of(per, second, "m")
        assert (bucket(rule(per=per), first).key == bucket(rule(per=per), second).key) is same


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "$0.00"),
        (1, "$0.000000001"),
        (10_000_000, "$0.01"),
        (1_500_000_000, "$1.50"),
        (2_000_000_001, "$2.000000001"),
        (-5, "$0.00"),
    ],
)
def test_dollars_are_written_exactly(nano: int, text: str) -> None:
    """With two digits at least."""
    assert amount_text(Counts.MONEY, nano) == text
