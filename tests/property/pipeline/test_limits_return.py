"""For any requests with any ends the counters come back to what the bills say: nothing is lost, nothing is left."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_contract.config import Task
from capstan_contract.limits import (
    BudgetRule,
    CountCached,
    LimitRule,
    Mode,
    Per,
    Period,
    PeriodType,
    RateLimitBody,
    Unit,
)
from capstan_gateway.errors import ClientGone, GatewayError, UpstreamFailed
from capstan_gateway.life.threads import Threads
from capstan_gateway.limits.port import LEASE_MS, Charge, Verdict
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.background import Background
from capstan_gateway.pipeline.estimates import MeanOutputs
from capstan_gateway.pipeline.layers import AnswerFunction, compose
from capstan_gateway.pipeline.limits.counting import PolicyCells
from capstan_gateway.pipeline.limits.layer import RateLimitLayer
from capstan_gateway.pipeline.limits.needs import Shared
from capstan_gateway.pipeline.limits.plans import Plans
from capstan_gateway.pipeline.limits.rules import compile_policy
from capstan_gateway.pipeline.reply import Reply, WholeReply
from capstan_gateway.telemetry.metrics import Metrics
from capstan_gateway.tokens.bill import ESTIMATED, TOLD
from capstan_gateway.tokens.usage import Usage
from support.asks import an_ask
from support.counts import Counts, kept
from support.served import a_model

DAY = 86_400_000
HUGE = 1_000_000
REPLY = WholeReply(200, b"application/json", b"{}")


@dataclass(frozen=True)
class Way:
    """What becomes of one request: calls that are settled one after the other, and how it ends."""

    calls: tuple[tuple[int, int, int | None], ...]
    """Input, output, and price of each."""
    end: str
    cached: tuple[int, int, int] | None = None

    def answer(self) -> AnswerFunction:
        """Give the model that does it."""

        async def answer(ask: Ask) -> Reply:
            for prompt, output, price in self.calls:
                await asyncio.sleep(0)
                ask.bill.add(Usage(prompt, output), TOLD if price else ESTIMATED, price)
            if self.cached is not None:
                ask.bill.cached = Usage(self.cached[0], self.cached[1]), self.cached[2]
            await asyncio.sleep(0)
            if self.end == "failed":
                raise UpstreamFailed("no")
            if self.end == "refused":
                raise GatewayError("no", status=400)
            if self.end == "busy":
                raise GatewayError("not now", status=429)
            if self.end == "left":
                raise ClientGone
            if self.end == "streamed":
                ask.on_end(lambda: ask.bill.add(Usage(5, 7), TOLD, 9))
            return REPLY

        return answer

    def kept(self, cached: CountCached) -> tuple[int, int, int, int]:
        """Give requests, input, output and money that must be left in the counters."""
        calls = [*self.calls, *([(5, 7, 9)] if self.end == "streamed" else [])]
        replied = self.end in ("answered", "streamed")
        requests = int(replied or self.end == "refused" or bool(calls))
        if self.cached is not None and replied:
            if cached is CountCached.FULL:
                calls.append(self.cached)
            else:
                requests = int(bool(calls))
        money = sum(price or 0 for _, _, price in calls)
        return requests, sum(one[0] for one in calls), sum(one[1] for one in calls), money


small = st.integers(0, 50)
ways = st.builds(
    Way,
    calls=st.lists(st.tuples(small, small, st.none() | small), max_size=3).map(tuple),
    end=st.sampled_from(("answered", "streamed", "failed", "refused", "busy", "left")),
    cached=st.none() | st.tuples(small, small, small),
)


def limit(name: str, unit: Unit) -> LimitRule:
    """Give a limit that is never reached."""
    if unit is Unit.CONCURRENCY:
        return LimitRule(name=name, per=Per.KEY, unit=unit, amount=HUGE)
    return LimitRule(name=name, per=Per.KEY, unit=unit, amount=HUGE, windowMillis=DAY, burst=HUGE)


RULES = tuple(limit(unit.value.lower(), unit) for unit in Unit)
BUDGET = BudgetRule(name="money", per=Per.KEY, nanoDollars=HUGE, period=Period(type=PeriodType.DAY))
ALL = RateLimitBody(limits=RULES, budgets=(BUDGET,))
SAME_FOR_ALL = RateLimitBody(limits=(limit("requests", Unit.REQUESTS), limit("concurrency", Unit.CONCURRENCY)))
"""Rules of which every request takes the same, whatever it says."""


class SlowCounts(Counts):
    """Whoever asks waits a turn."""

    async def reserve(
        self, id: str, charges: Sequence[Charge], *, lease_ms: int = LEASE_MS, keeps: bool = False, force: bool = False
    ) -> Verdict:
        """Answer a turn later."""
        await asyncio.sleep(0)
        return await super().reserve(id, charges, lease_ms=lease_ms, keeps=keeps, force=force)


@given(
    st.lists(ways, max_size=8), st.integers(0, 8), st.sampled_from((ALL, SAME_FOR_ALL)), st.sampled_from(CountCached),
    st.sampled_from(Mode), st.booleans(),
)  # fmt: skip
def test_counters_come_back_to_what_the_bills_say(
    requests: list[Way], first: int, body: RateLimitBody, cached: CountCached, mode: Mode, slow: bool
) -> None:
    """At once or one after the other; answered, failed, refused, left, out of a cache; decided by shares or a store."""
    body = body.model_copy(update={"countCached": cached, "mode": mode})
    asyncio.run(run(requests, body, slow=slow, first=first))


async def run(requests: list[Way], body: RateLimitBody, *, slow: bool, first: int = 0) -> None:
    """Do so many first, and when they have ended and shares were taken because of them, the others."""
    store = SlowCounts(remote=True) if slow else Counts()
    async with kept(store.limiter):
        await _run(requests[:first], requests[first:], body, store)


async def _run(first: list[Way], others: list[Way], body: RateLimitBody, store: Counts) -> None:
    policy = compile_policy("RateLimitPolicy/t/p", body)
    background = Background()
    shared = Shared(
        limiter=store.limiter, plans=Plans(), means=MeanOutputs(), executor=Threads("unused"), background=background,
    )  # fmt: skip
    layer = RateLimitLayer(policy, PolicyCells(Metrics(), policy), shared, model_id="t/m", model_name="m")
    model = a_model("m", id="t/m", task=Task.CHAT)

    async def serve(way: Way) -> None:
        ask = an_ask(model)
        ask.hold()
        try:
            await compose((layer,), way.answer())(ask)
        except (GatewayError, ClientGone):
            pass
        finally:
            ask.leave()

    requests = [*first, *others]
    for some in (first, others):
        await asyncio.gather(*map(serve, some))
        for _ in range(20):  # What decides, or is told, in the background waits some turns.
            await asyncio.sleep(0)
    assert not len(background)
    kept = [way.kept(body.countCached) for way in requests]
    count, prompt, output, money = (sum(column) for column in zip(*kept, strict=True)) if kept else (0, 0, 0, 0)
    wanted = [count, prompt + output, prompt, output, 0, money]
    plan = shared.plans.by_policy()[policy][0] if requests else None
    assert not store.under_way
    if plan is not None:
        found = [store.used_of(counter.bucket) for counter in plan.counters]
        assert found == (wanted if body.budgets else [count, 0])


@pytest.mark.parametrize("end", ["answered", "left"])
async def test_an_ask_settles_once(end: str) -> None:
    """However often its end is told."""
    await run([Way(((1, 2, 3),), end)] * 3, ALL, slow=True)
