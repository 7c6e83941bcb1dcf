"""Four gateways as processes, with one Redis and one engine: tenants share nothing, replicas share everything."""

import asyncio
import itertools
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from capstan_contract.caches import CacheBody, RedisTier, cache_entry
from fakes.openai_upstream import FakeUpstream, Received, Wire, completion
from support.gateway import entry
from support.gateway_process import gateway_process
from support.keys import key_entry, key_text
from support.redis_server import redis_server

pytestmark = pytest.mark.redis
GATEWAYS, EACH = 4, 5
TENANTS = ("ada", "bob")
ID = "CachePolicy/test/c"


async def test_two_tenants_with_one_prompt_are_never_given_each_others_answers(tmp_path: Path) -> None:
    """Asked at once and again, through four gateways: each tenant gets its own answer, whichever gateway it asks."""
    count = itertools.count()

    async def numbered(received: Received, wire: Wire) -> None:
        await wire.json(completion(received.document["model"], f"answer {next(count)}"))

    async def ask(client: httpx2.AsyncClient, url: str, who: str) -> tuple[str, str]:
        body = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
        headers = {"authorization": f"Bearer {key_text(who)}"}
        response = await client.post(f"{url}/v1/chat/completions", json=body, headers=headers)
        assert response.status_code == 200, response.text
        return response.json()["choices"][0]["message"]["content"], response.headers["x-cache"]

    policy = cache_entry("test", "c", CacheBody(redis=RedisTier()))
    keys = [key_entry(name, tenant=name) for name in TENANTS]
    async with FakeUpstream(numbered) as upstream, httpx2.AsyncClient(timeout=60) as client:
        model = entry("chat", upstream.url, policies=(ID,))
        with ExitStack() as stack:
            redis = stack.enter_context(redis_server(tmp_path))
            gateways = []
            for number in range(GATEWAYS):
                folder = tmp_path / str(number)
                folder.mkdir()
                starting = gateway_process(
                    folder,
                    [model],
                    "--redis-url",
                    redis.url,
                    "--redis-limit-seconds",
                    "10",
                    policies=[policy],
                    keys=keys,
                )
                gateways.append(await asyncio.to_thread(stack.enter_context, starting))
            asked = [(gateway.url, who) for gateway in gateways for who in TENANTS for _ in range(EACH)]
            first = await asyncio.gather(*(ask(client, url, who) for url, who in asked))
            calls = len(upstream.requests)
            second = await asyncio.gather(*(ask(client, url, who) for url, who in asked))
    answers = {
        who: {text for (text, _), (_, by) in zip((*first, *second), (*asked, *asked), strict=True) if by == who}
        for who in TENANTS
    }
    assert answers["ada"].isdisjoint(answers["bob"])
    assert len(TENANTS) <= calls <= len(TENANTS) * GATEWAYS
    assert len(upstream.requests) == calls
    assert {word for _, word in second} <= {"hit-memory", "hit-redis"}
    assert "hit-redis" in {word for _, word in (*first, *second)}
