"""How far policies are used, as the gateway's replicas say it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from capstan_contract.limits import LimitsReport, RuleUsage, Unit
from capstan_operator.gateway_config.replicas import Replica
from capstan_operator.policies.usage import (
    SILENT_ROUNDS,
    UsageTally,
    budget_news,
    count_apart,
    dollars,
    merge_reports,
    remember,
)
from capstan_operator.policies.watch import CountsWatch
from capstan_operator.resources.resource import PolicyKey
from support.plainpolicies import make_policy
from support.ports import free_port
from support.wait import eventually

KEY = PolicyKey("RateLimitPolicy", "team", "limits")
ID = str(KEY)


def said(*rules: RuleUsage, shared: bool = True) -> LimitsReport:
    """What a replica says of one policy."""
    return LimitsReport(shared=shared, policies={ID: rules})


def requests(percent: int, name: str = "a") -> RuleUsage:
    """A limit on requests."""
    return RuleUsage(name=name, unit=Unit.REQUESTS, usedPercent=percent)


def budget(percent: int, nanos: int) -> RuleUsage:
    """A budget."""
    return RuleUsage(name="b", usedPercent=percent, spentNanoDollars=nanos)


def test_the_rule_that_is_used_most_comes_first() -> None:
    """Each rule is said once, by what it counts; a budget says what has been spent of it."""
    (found,) = merge_reports([said(requests(20), budget(70, 1_500_000_000))]).values()
    assert found == [
        {"name": "b", "counts": "Dollars", "usedPercent": 70, "spentDollars": "1.5"},
        {"name": "a", "counts": "Requests", "usedPercent": 20},
    ]


@pytest.mark.parametrize(("shared", "spent"), [(True, "3"), (False, "5")])
def test_what_replicas_count_together_is_not_added_up(shared: bool, spent: str) -> None:
    """Of shared counts the newest, which is the greatest, counts; what each counts for itself is added up."""
    reports = [said(budget(40, 2_000_000_000), shared=shared), said(budget(60, 3_000_000_000), shared=shared)]
    (found,) = merge_reports(reports).values()
    assert (found[0]["usedPercent"], found[0]["spentDollars"]) == (60, spent)


@pytest.mark.parametrize(
    ("shared", "apart"), [((), 0), ((False,), 0), ((True, True), 0), ((False, False, False), 3), ((True, False), 1)]
)
def test_several_replicas_that_count_apart_are_counted(shared: tuple[bool, ...], apart: int) -> None:
    """One alone has all counts, and those with a Redis have them together; of the others it is said how many there
    are, also where a policy was not used yet."""
    answers = {str(number): said(shared=one) for number, one in enumerate(shared)}
    assert count_apart(list(answers.values())) == apart
    texts = {id_: one.model_dump_json().encode() for id_, one in answers.items()}
    found = UsageTally().take({KEY: "uid"}, texts)
    assert [one.get("countedApart", 0) for one in found.values()] == [apart for _ in found]


@pytest.mark.parametrize(
    ("nanos", "text"), [(0, "0"), (1, "0.000000001"), (10**9, "1"), (12_340_000_000, "12.34"), (200 * 10**9, "200")]
)
def test_money_is_exact(nanos: int, text: str) -> None:
    """Nano-dollars are written as dollars without rounding."""
    assert dollars(nanos) == text


def test_events_of_budgets() -> None:
    """A budget that passes its soft limit, and one that is spent, are told once, and again in the next period."""
    spec = make_policy(
        budgets=[{"name": "b", "per": "Team", "dollars": "2", "period": "day", "softLimitPercent": 80}]
    ).spec
    assert spec is not None

    def usage(percent: int) -> dict[str, Any]:
        return {"used": [{"name": "b", "counts": "Dollars", "usedPercent": percent}]}

    def news(before: int, after: int) -> list[str]:
        return [one.reason for one in budget_news(spec, usage(before), usage(after))]

    assert news(10, 79) == []
    assert news(79, 80) == ["BudgetNearlySpent"]
    assert news(80, 99) == []
    assert news(99, 100) == ["BudgetSpent"]
    assert news(10, 120) == ["BudgetSpent"]
    assert news(100, 3) == []
    assert [one.reason for one in budget_news(spec, None, usage(85))] == ["BudgetNearlySpent"]


class Gateway:
    """Replicas that say the same at /internal/limits."""

    def __init__(self) -> None:
        self.port = free_port()
        self.report: LimitsReport | None = said(requests(20))
        self.asked = 0
        self.woken: list[PolicyKey] = []
        self.rounds = 0

    async def answer(self, request: web.Request) -> web.Response:
        """Report to who has the credential."""
        self.asked += 1
        if request.headers.get("Authorization") != "Bearer secret":
            return web.Response(status=401)
        if self.report is None:
            return web.Response(status=500)
        return web.json_response({**self.report.model_dump(mode="json"), "ofANewerRelease": 1})

    def watch(self, *policies: PolicyKey) -> CountsWatch:
        """What asks them."""

        class Key:
            keys = ("old", "secret")

            def doubt(self) -> None:
                """Nothing."""

        async def replicas() -> tuple[Replica, ...]:
            return (Replica("one", ("127.0.0.1",)),)

        def in_config() -> dict[PolicyKey, str]:
            self.rounds += 1
            return {**dict.fromkeys(policies, "uid"), PolicyKey("GuardPolicy", "team", "limits"): "other"}

        return CountsWatch(
            UsageTally(),
            replicas=replicas,
            policies=in_config,
            wake=self.woken.append,
            port=self.port,
            admin_key=Key(),
            interval=0.01,
            now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        )


@asynccontextmanager
async def running(gateway: Gateway, watch: CountsWatch) -> AsyncIterator[None]:
    """The replicas and who asks them."""
    app = web.Application()
    app.add_routes([web.get("/internal/limits", gateway.answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", gateway.port).start()
    task = asyncio.create_task(watch.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await runner.cleanup()


async def test_a_policy_is_woken_when_its_numbers_change() -> None:
    """Once for each change, however often replicas are asked; what they said last stays while they say nothing."""
    gateway = Gateway()
    watch = gateway.watch(KEY)

    async def is_woken(times: int) -> bool:
        return len(gateway.woken) == times

    async with running(gateway, watch):
        await eventually(lambda: is_woken(1), what="the first usage")
        known = watch.of(KEY)
        assert known == {
            "observedTime": "2026-01-01T00:00:00Z",
            "mostUsedPercent": 20,
            "used": [{"name": "a", "counts": "Requests", "usedPercent": 20}],
        }
        gateway.report = None
        asked = gateway.asked

        async def is_asked_again() -> bool:
            return gateway.asked > asked + 4

        await eventually(is_asked_again, what="replicas that say nothing to be asked again")
        assert watch.of(KEY) == known
        assert len(gateway.woken) == 1
        gateway.report = said()
        await eventually(lambda: is_woken(2), what="the end of the use")
        assert (watch.of(KEY) or {})["mostUsedPercent"] == 0


async def test_a_policy_is_woken_by_the_first_that_is_said_of_it() -> None:
    """Also where nothing of it is used: its status may say what it was before."""
    gateway = Gateway()
    gateway.report = said()
    watch = gateway.watch(KEY)

    async def is_woken() -> bool:
        return bool(gateway.woken)

    async with running(gateway, watch):
        await eventually(is_woken, what="the first usage")
    assert gateway.woken == [KEY]
    assert (watch.of(KEY) or {})["used"] == []


def test_a_silent_replica_counts_with_what_it_has_said_last() -> None:
    """For some rounds, and only as long as it is there: else a spent budget would look unspent, and be told again."""
    much, little = said(budget(100, 2)), said(budget(3, 1))
    known = remember({}, {"a": much, "b": little})
    for _ in range(SILENT_ROUNDS):
        known = remember(known, {"a": None, "b": little})
        assert {id_: report for id_, (report, _) in known.items()} == {"a": much, "b": little}
    assert remember(known, {"a": None, "b": little}).keys() == {"b"}
    assert remember(known, {"b": little}).keys() == {"b"}
    known = remember(remember(known, {"a": little, "b": little}), {"a": None, "b": None})
    assert known == {"a": (little, 1), "b": (little, 1)}


async def test_without_policies_nobody_is_asked() -> None:
    """Where no policy is in the config, replicas are left alone."""
    gateway = Gateway()

    async def has_looked() -> bool:
        return gateway.rounds > 3

    async with running(gateway, gateway.watch()):
        await eventually(has_looked, what="some rounds")
    assert gateway.asked == 0
