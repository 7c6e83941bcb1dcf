"""The official SDKs under limits: told to wait they are admitted at their next try, told not to they stop."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import anyio
import openai
import pytest

from capstan_contract.config import PolicyEntry, Price
from capstan_contract.limits import (
    BudgetRule,
    LimitRule,
    Per,
    Period,
    PeriodType,
    RateLimitBody,
    Unit,
    rate_limit_entry,
)
from fakes.openai_upstream import FakeUpstream, answer
from support.counts import Counts
from support.gateway import RunningGateway, entry, running_gateway

NANO = 1_000_000_000
Ask = Callable[[RunningGateway], Awaitable[Any]]


def policy(unit: Unit, amount: int, *budgets: BudgetRule, window: int = 7919) -> PolicyEntry:
    """Give a policy with one limit, whose units come in after odd times."""
    bare = unit is Unit.CONCURRENCY
    limit = LimitRule(
        name="limit", per=Per.KEY, unit=unit, amount=amount,
        windowMillis=0 if bare else window, burst=0 if bare else amount,
    )  # fmt: skip
    return rate_limit_entry("test", "p", RateLimitBody(limits=(limit,), budgets=budgets))


async def openais(gateway: RunningGateway) -> Any:
    """Ask by OpenAI's SDK, which tries again twice."""
    async with gateway.client(max_retries=2) as client:
        return await client.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": "hello"}], max_tokens=20
        )


async def openais_stream(gateway: RunningGateway) -> Any:
    """Ask by OpenAI's SDK for a stream."""
    async with gateway.client(max_retries=2) as client:
        stream = await client.chat.completions.create(
            model="chat", messages=[{"role": "user", "content": "hello"}], max_tokens=20, stream=True
        )
        return [chunk async for chunk in stream]


async def anthropics(gateway: RunningGateway) -> Any:
    """Ask by Anthropic's SDK."""
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key="unused", max_retries=2) as client:
        return await client.messages.create(
            model="chat", messages=[{"role": "user", "content": "hello"}], max_tokens=20
        )


SDKS = [openais, openais_stream, anthropics]


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine that answers."""
    async with FakeUpstream(answer) as fake:
        yield fake


class Time:
    """What the SDKs have slept: it passes at once, and nobody else's time does."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Take the place of `anyio.sleep`."""
        if seconds:
            self.slept.append(seconds)
            self.counts.now_ms += int(seconds * 1000)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    """Whatever sleeps by anyio, as the SDKs do, sleeps no longer than it is told."""
    found = Time()
    monkeypatch.setattr(anyio, "sleep", found.sleep)
    return found


@pytest.mark.parametrize("ask", SDKS)
@pytest.mark.parametrize(("unit", "amount"), [(Unit.REQUESTS, 1), (Unit.REQUESTS, 3), (Unit.OUTPUT_TOKENS, 23)])
async def test_who_is_told_to_wait_is_admitted_at_the_next_try(
    tmp_path: Path, upstream: FakeUpstream, clock: Time, ask: Ask, unit: Unit, amount: int
) -> None:
    """After the very time that it was told, to the millisecond."""
    one = policy(unit, amount)
    chat = entry("chat", upstream.url, policies=(one.id,))
    async with running_gateway(tmp_path, chat, policies=[one], limiter=clock.counts.limiter) as gateway:
        for _ in range(6):
            await ask(gateway)
        waits = gateway.metric(
            "llm_limit_decisions_total", policy="test/p", mode="enforce", rule="limit", outcome="wait"
        )
    assert len(clock.slept) == waits > 0
    assert len(upstream.requests) == 6


async def until_refused(ask: Callable[[], Awaitable[Any]]) -> None:
    """Ask again and again."""
    for _ in range(9):
        await ask()


DAY = Period(type=PeriodType.DAY)
SPENT = policy(Unit.REQUESTS, 9, BudgetRule(name="b", per=Per.KEY, nanoDollars=25 * NANO, period=DAY))
NEVER = policy(Unit.OUTPUT_TOKENS, 19)


@pytest.mark.parametrize("ask", SDKS)
@pytest.mark.parametrize(
    ("one", "status", "code"), [(SPENT, 429, "insufficient_quota"), (NEVER, 400, "request_exceeds_limit")]
)
async def test_who_is_told_not_to_wait_stops(
    tmp_path: Path, upstream: FakeUpstream, clock: Time, ask: Ask, one: PolicyEntry, status: int, code: str
) -> None:
    """It raises what the SDK has for the status, without another try."""
    price = Price(inputPerMillion=0, outputPerMillion=1_000_000)
    chat = entry("chat", upstream.url, policies=(one.id,), price=price)
    async with running_gateway(tmp_path, chat, policies=[one], limiter=clock.counts.limiter) as gateway:
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as caught:
            await until_refused(partial(ask, gateway))
    error = caught.value
    assert error.status_code == status
    assert isinstance(
        error,
        openai.RateLimitError | anthropic.RateLimitError
        if status == 429
        else openai.BadRequestError | anthropic.BadRequestError,
    )
    assert clock.slept == []
    assert error.response.headers["x-should-retry"] == "false"
    if isinstance(error, openai.APIStatusError):
        assert error.code == code
