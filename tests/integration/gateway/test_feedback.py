"""A client that says of an answer that it was wrong: it is not given again, and only its own tenant may say so."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.caches import CacheBody, RedisTier, Scope, cache_entry
from capstan_contract.config import ModelEntry
from fakes.openai_upstream import FakeUpstream, answer
from support.gateway import RunningGateway, entry, running_gateway
from support.keys import key_entry, key_text
from support.redis_server import RedisServer, redis_server
from support.wait import eventually

ID = "CachePolicy/t/c"
CHAT = "/v1/chat/completions"
FEEDBACK = "/v1/feedback"
ASKED: Any = {"model": "chat", "messages": [{"role": "user", "content": "what is the capital of France?"}]}
NOBODYS = f"{'0' * 32}.{'0' * 16}.{'0' * 64}"


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine that answers."""
    async with FakeUpstream(answer) as fake:
        yield fake


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own."""
    with redis_server(tmp_path) as server:
        yield server


def cached(upstream: FakeUpstream) -> ModelEntry:
    """Give a model with the policy on it."""
    return entry("chat", upstream.url, policies=(ID,))


async def asked(client: httpx2.AsyncClient) -> httpx2.Response:
    """Ask."""
    response = await client.post(CHAT, json=ASKED)
    assert response.status_code == 200, response.text
    return response


def client_of(gateway: RunningGateway, key: str | None = None) -> httpx2.AsyncClient:
    """Give a client, of somebody."""
    headers = None if key is None else {"authorization": f"Bearer {key_text(key)}"}
    return httpx2.AsyncClient(base_url=gateway.url, headers=headers, timeout=30)


async def test_what_was_wrong_is_asked_again(upstream: FakeUpstream, tmp_path: Path) -> None:
    """An answer that a client reports is evicted, and the next one is the model's; what is not there cannot be."""
    policies = (cache_entry("t", "c", CacheBody()),)
    async with running_gateway(tmp_path, cached(upstream), policies=policies) as gateway, client_of(gateway) as client:
        key = (await asked(client)).headers["x-cache-key"]
        assert (await asked(client)).headers["x-cache"] == "hit-memory"
        said = await client.post(FEEDBACK, json={"cache_key": key, "wrong": True})
        assert said.status_code == 200, said.text
        assert said.json() == {"object": "feedback", "cache_key": key, "evicted": True, "everywhere": False}
        again = await client.post(FEEDBACK, json={"cache_key": key, "wrong": True})
        assert (again.status_code, again.json()["error"]["code"]) == (404, "entry_not_found")
        assert (await asked(client)).headers["x-cache"] == "miss"
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("scope", list(Scope))
async def test_a_tenant_reports_its_own_alone(scope: Scope, upstream: FakeUpstream, tmp_path: Path) -> None:
    """Another tenant's key, or what all tenants share, is answered as one under which nothing is kept, word for word;
    and stays."""
    keys = [key_entry(name, tenant=name, user="u") for name in ("a", "b")]
    policies = (cache_entry("t", "c", CacheBody(scope=scope)),)
    running = running_gateway(tmp_path, cached(upstream), keys=keys, policies=policies, insecure_no_auth=False)
    async with running as gateway, client_of(gateway, "a") as mine, client_of(gateway, "b") as theirs:
        key = (await asked(mine)).headers["x-cache-key"]
        stolen = await theirs.post(FEEDBACK, json={"cache_key": key, "wrong": True})
        absent = await theirs.post(FEEDBACK, json={"cache_key": NOBODYS, "wrong": True})
        assert (stolen.status_code, stolen.json()) == (absent.status_code, absent.json())
        assert stolen.status_code == 404
        assert (await asked(mine)).headers["x-cache"] == "hit-memory"
        own = await mine.post(FEEDBACK, json={"cache_key": key, "wrong": True})
        assert own.status_code == (404 if scope is Scope.MODEL else 200)
        async with client_of(gateway) as nobody:
            assert (await nobody.post(FEEDBACK, json={"cache_key": key, "wrong": True})).status_code == 401


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b"{", None, "no JSON"),
        (b"[]", None, "must be an object"),
        (b"{}", "cache_key", "x-cache-key"),
        (b'{"cache_key": 7, "wrong": true}', "cache_key", "x-cache-key"),
        (b'{"cache_key": "a.b.c", "wrong": true}', "cache_key", "x-cache-key"),
        (f'{{"cache_key": "{NOBODYS}"}}'.encode(), "wrong", "must be true"),
        (f'{{"cache_key": "{NOBODYS}", "wrong": false}}'.encode(), "wrong", "must be true"),
        (f'{{"cache_key": "{NOBODYS}", "wrong": true, "similarity": 2}}'.encode(), "similarity", "from 0 to 1"),
        (f'{{"cache_key": "{NOBODYS}", "wrong": true, "similarity": "x"}}'.encode(), "similarity", "from 0 to 1"),
        (f'{{"cache_key": "{NOBODYS}", "wrong": true, "stars": 1}}'.encode(), "stars", "is unknown"),
    ],
)
async def test_what_cannot_be_meant_is_refused_with_a_reason(
    body: bytes, param: str | None, words: str, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """What is wrong, where, and what is allowed."""
    policies = (cache_entry("t", "c", CacheBody()),)
    async with running_gateway(tmp_path, cached(upstream), policies=policies) as gateway, client_of(gateway) as client:
        said = await client.post(FEEDBACK, content=body)
    error = said.json()["error"]
    assert (said.status_code, error["param"]) == (400, param)
    assert words in error["message"]


async def test_it_is_evicted_everywhere(upstream: FakeUpstream, redis: RedisServer, tmp_path: Path) -> None:
    """What is reported at one replica is gone at the other one as well, out of its memory and out of Redis; also when
    the one that is told does not have it at hand."""
    policies = (cache_entry("t", "c", CacheBody(redis=RedisTier())),)
    async with AsyncExitStack() as stack:
        clients = []
        for name in "ab":
            folder = tmp_path / name
            folder.mkdir()
            running = running_gateway(
                folder, cached(upstream), policies=policies, redis_url=redis.url, redis_limit_seconds=2.0
            )
            gateway = await stack.enter_async_context(running)
            clients.append(await stack.enter_async_context(client_of(gateway)))
        one, other = clients
        key = (await asked(one)).headers["x-cache-key"]

        async def is_shared() -> bool:
            return (await asked(one)).headers["x-cache"] == "hit-memory" and bool(_entries(redis))

        await eventually(is_shared)
        said = await other.post(FEEDBACK, json={"cache_key": key, "wrong": True})
        assert said.json()["everywhere"], said.text
        assert not _entries(redis)

        async def is_gone() -> bool:
            return (await asked(one)).headers["x-cache"] == "miss"

        await eventually(is_gone)


def _entries(redis: RedisServer) -> list[bytes]:
    with redis.client() as client:
        return [key for key in client.keys("capstan:cache:1:*") if not key.endswith(b":lease")]
