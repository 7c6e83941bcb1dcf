"""Four gateways as processes, with API keys and policies, one Redis and one engine: exactly the limit is admitted."""

import asyncio
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import aiohttp
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
from fakes.openai_upstream import FakeUpstream, Received, Wire
from support.gateway import entry
from support.gateway_process import GatewayProcess, gateway_process
from support.keys import key_entry, key_text
from support.redis_server import redis_server
from support.wait import eventually

pytestmark = pytest.mark.redis
LIMIT, GATEWAYS, EACH, REPETITIONS = 50, 4, 50, 20
TOKENS = 10
NANO = 1_000_000
"""What one output token costs, in nano-dollars: 1000 dollars for a million."""


class Engine:
    """Answers with as many tokens as were asked for; may be told to wait."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()

    async def respond(self, request: Received, wire: Wire) -> None:
        """Answer."""
        await self.go.wait()
        message = {"role": "assistant", "content": "hello"}
        usage = {"prompt_tokens": 3, "completion_tokens": TOKENS, "total_tokens": 3 + TOKENS}
        await wire.json(
            {"id": "x", "object": "chat.completion", "created": 1, "model": request.document["model"], "usage": usage,
             "choices": [{"index": 0, "message": message, "finish_reason": "length"}]}
        )  # fmt: skip


def policies() -> dict[str, PolicyEntry]:
    """One for each kind of rule, named like the model that it is for."""
    day = Period(type=PeriodType.DURATION, millis=366 * 86_400_000)
    rules = {
        "requests": RateLimitBody(
            limits=(LimitRule(name="r", per=Per.KEY, unit=Unit.REQUESTS, amount=LIMIT, windowMillis=86_400_000,
                              burst=LIMIT),)
        ),
        "budget": RateLimitBody(
            budgets=(BudgetRule(name="b", per=Per.KEY, nanoDollars=LIMIT * TOKENS * NANO, period=day),)
        ),
        "slots": RateLimitBody(limits=(LimitRule(name="s", per=Per.KEY, unit=Unit.CONCURRENCY, amount=LIMIT),)),
    }  # fmt: skip
    return {name: rate_limit_entry("test", name, body) for name, body in rules.items()}


async def ask_all(
    session: aiohttp.ClientSession, gateways: list[GatewayProcess], model: str, seen: list[int] | None = None
) -> Counter[int]:
    """Ask 200 times at once; give how often each status came, and note each in `seen` when it comes."""

    async def one(gateway: GatewayProcess) -> int:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": TOKENS}
        async with session.post(f"{gateway.url}/v1/chat/completions", json=body) as answer:
            await answer.read()
            if seen is not None:
                seen.append(answer.status)
            return answer.status

    return Counter(await asyncio.gather(*(one(gateway) for gateway in gateways for _ in range(EACH))))


@pytest.mark.parametrize("flags", [(), ("--limits-one-by-one",)], ids=["shares", "one-by-one"])
async def test_exactly_fifty(tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Of 200 at once by one key exactly 50 are answered, of requests, of a budget, and of what runs at once; of these
    all that are refused are told so, and 50 go again when the first have ended."""
    engine, kinds = Engine(), policies()
    async with FakeUpstream(engine.respond) as upstream:
        models = [
            entry(name, upstream.url, policies=(one.id,), price=Price(outputPerMillion=1000.0))
            for name, one in kinds.items()
        ]
        with ExitStack() as stack:
            server = stack.enter_context(redis_server(tmp_path))
            places = [tmp_path / f"g{number}" for number in range(GATEWAYS)]
            options = ["--redis-url", server.url, "--redis-limit-seconds", "30", "--gateways", str(GATEWAYS), *flags]
            gateways = []
            for place in places:
                place.mkdir()
                gateways.append(
                    stack.enter_context(
                        gateway_process(
                            place, models, *options, policies=tuple(kinds.values()), keys=[key_entry("alice")]
                        )
                    )
                )
            headers = {"authorization": f"Bearer {key_text('alice')}"}
            client = stack.enter_context(server.client())
            async with aiohttp.ClientSession(
                headers=headers, connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(120)
            ) as session:
                for _ in range(REPETITIONS):
                    assert await ask_all(session, gateways, "requests") == {200: 50, 429: 150}
                    assert await ask_all(session, gateways, "budget") == {200: 50, 429: 150}
                    assert await ask_all(session, gateways, "budget") == {429: 200}
                    for _ in range(2):
                        await _fifty_at_once(engine, session, gateways)
                        await eventually(lambda: _slots_held(client) == 0, every=0.005, what="free slots")
                    client.flushall()


async def _fifty_at_once(engine: Engine, session: aiohttp.ClientSession, gateways: list[GatewayProcess]) -> None:
    """While 50 run, all others are refused."""
    engine.go.clear()
    seen: list[int] = []
    asked = asyncio.create_task(ask_all(session, gateways, "slots", seen))
    await eventually(lambda: len(seen) >= (GATEWAYS * EACH - LIMIT), every=0.005, what="the refused")
    assert set(seen) == {429}
    engine.go.set()
    assert await asked == {200: 50, 429: 150}


def _slots_held(client: object) -> int:
    """Say how many buckets of slots are not full: a full one is not stored."""
    return len(list(client.scan_iter("capstan:l1:*}:2:*")))  # type: ignore[attr-defined]
