"""A gateway while Redis refuses its password: as when the chart's Redis gets its first one, or a new one."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from capstan_contract.config import ModelEntry, PolicyEntry, Timeouts
from capstan_contract.limits import LimitRule, OnStoreFailure, Per, RateLimitBody, Unit, rate_limit_entry
from fakes.openai_upstream import FakeUpstream
from support.gateway import RunningGateway, entry, running_gateway
from support.queue_taker import queue_worker, reply
from support.queued import QUEUED
from support.redis_server import RedisServer, redis_server
from support.wait import eventually

pytestmark = pytest.mark.redis
REFUSED: dict[str, tuple[str, str, str]] = {
    "the gateway has none": ("", "s3cret-new", "NOAUTH"),
    "it is another one": ("s3cret-old", "s3cret-new", "WRONGPASS"),
    "Redis has none": ("s3cret-old", "", "ERR"),
}
"""The gateway's password, that of Redis while it refuses, and the first word of the refusal."""
KEPT = ("--appendonly", "yes", "--appendfsync", "always")
MESSAGES: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture
async def engine() -> AsyncIterator[FakeUpstream]:
    """An engine that answers at once."""
    async with FakeUpstream() as fake:
        yield fake


def governed(engine: FakeUpstream) -> tuple[tuple[ModelEntry, ...], tuple[PolicyEntry, ...]]:
    """Give a model for each way in which a request may need Redis, and their policies."""

    def policy(name: str, on_failure: OnStoreFailure) -> PolicyEntry:
        rule = LimitRule(name="r", per=Per.KEY, unit=Unit.REQUESTS, amount=1000, windowMillis=60_000, burst=1000)
        return rate_limit_entry("test", name, RateLimitBody(limits=(rule,), onStoreFailure=on_failure))

    policies = policy("local", OnStoreFailure.ALLOW_LOCAL), policy("deny", OnStoreFailure.DENY)
    limited = (
        entry(name, engine.url, policies=(one.id,)) for name, one in zip(("local", "deny"), policies, strict=True)
    )
    queued: Any = {"queue": QUEUED, "timeouts": Timeouts(totalSeconds=120)}
    return (*limited, entry("queued", engine.url, **queued), entry("chat", **queued)), policies


async def text_of(client: openai.AsyncOpenAI, model: str) -> str:
    """Ask a model, and give what it says."""
    return str((await client.chat.completions.create(model=model, messages=MESSAGES)).choices[0].message.content)


async def refusal(asking: Any) -> tuple[int, str | None]:
    """Give the status and the code of an answer that is none."""
    with pytest.raises(openai.APIStatusError) as refused:
        await asking
    assert "retry-after" in refused.value.response.headers
    return refused.value.status_code, refused.value.code


async def is_kept(gateway: RunningGateway, client: openai.AsyncOpenAI) -> str:
    """Store a response, and give its id as soon as Redis has it."""
    before = gateway.metric("gateway_stored_responses_total", outcome="kept")
    response = await client.responses.create(model="local", input="hello")
    await eventually(
        lambda: gateway.metric("gateway_stored_responses_total", outcome="kept") > before, what="the response in Redis"
    )
    return response.id


async def is_whole(gateway: RunningGateway, client: openai.AsyncOpenAI) -> None:
    """Wait until nothing is known to be wrong with Redis, and the strictest policy lets a request through."""
    await eventually(lambda: not gateway.gateway.notes(), what="Redis")
    assert await text_of(client, "deny") == "Hello there"


async def is_an_outage(gateway: RunningGateway, client: openai.AsyncOpenAI, stored: str | None, word: str) -> None:
    """Hold what any outage is: limits go by `onStoreFailure`, queued requests directly, what is stored gets a 503."""
    assert await text_of(client, "local") == "Hello there"
    assert await refusal(client.chat.completions.create(model="deny", messages=MESSAGES)) == (
        503,
        "limiter_unavailable",
    )
    assert await text_of(client, "queued") == "Hello there"
    assert (await client.responses.create(model="local", input="hello")).output_text == "Hello there"
    later = client.responses.create(model="local", input="hello", background=True)
    assert await refusal(later) == (503, "store_unavailable")
    if stored is not None:
        goes_on = client.responses.create(model="local", input="and then?", previous_response_id=stored)
        for asking in (client.responses.retrieve(stored), goes_on):
            assert await refusal(asking) == (503, "store_unavailable")
    assert gateway.gateway.not_ready() is None
    # At first a connection that was cut may be what is known.
    await eventually(lambda: any(word in note for note in gateway.gateway.notes()), what="the refusal's word")


@pytest.mark.parametrize("why", REFUSED)
async def test_a_refused_password_is_an_outage_like_any_other(
    tmp_path: Path, engine: FakeUpstream, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    """Redis comes back with another password, or without one, and then with the right one again: meanwhile requests
    are served as while it is away, what waits in the queue waits on, and afterwards everything is as before, by
    itself. No log and no answer has a password."""
    mine, other, word = REFUSED[why]
    models, policies = governed(engine)
    caplog.set_level(logging.INFO)
    with redis_server(tmp_path, password=mine, flags=KEPT) as server:
        async with (
            _gateway(tmp_path, server, models, policies, password=mine) as gateway,
            gateway.client() as client,
            gateway.client(timeout=120.0) as waiting,
        ):
            await is_whole(gateway, client)
            stored = await is_kept(gateway, client)
            asking = asyncio.create_task(text_of(waiting, "chat"))
            await eventually(lambda: gateway.metric("gateway_queue_waiting", model="chat", **{"class": "default"}) == 1)

            await asyncio.to_thread(server.begin_anew, other)
            await eventually(lambda: gateway.metric("gateway_limits_without_redis") == 1, what="the refusal")
            await is_an_outage(gateway, client, stored, word)
            assert not asking.done()

            await asyncio.to_thread(server.begin_anew, mine)
            await is_whole(gateway, client)
            assert (await client.responses.retrieve(stored)).output_text == "Hello there"
            await is_kept(gateway, client)
            async with queue_worker(server.port, reply, password=mine or None):
                assert await asyncio.wait_for(asking, 60) == "one two three"
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("why", REFUSED)
async def test_a_gateway_may_begin_before_its_password_is_right(tmp_path: Path, engine: FakeUpstream, why: str) -> None:
    """One that is refused from its start on is ready, serves as in an outage, and uses Redis as soon as that lets it
    in."""
    mine, other, word = REFUSED[why]
    models, policies = governed(engine)
    with redis_server(tmp_path, password=other) as server:
        async with _gateway(tmp_path, server, models, policies, password=mine) as gateway, gateway.client() as client:
            await eventually(lambda: any(word in note for note in gateway.gateway.notes()), what="the refusal")
            await is_an_outage(gateway, client, None, word)
            await asyncio.to_thread(server.begin_anew, mine)
            await is_whole(gateway, client)
            stored = await is_kept(gateway, client)
            assert (await client.responses.retrieve(stored)).output_text == "Hello there"


def _gateway(
    folder: Path,
    server: RedisServer,
    models: tuple[ModelEntry, ...],
    policies: tuple[PolicyEntry, ...],
    *,
    password: str,
) -> Any:
    return running_gateway(
        folder, *models, policies=policies, redis_url=f"redis://localhost:{server.port}/0",
        redis_password=password or None, redis_seconds=5.0, redis_limit_seconds=5.0, limits_one_by_one=True,
    )  # fmt: skip
