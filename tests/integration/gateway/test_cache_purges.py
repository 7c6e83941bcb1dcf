"""Answers that are purged are not given again, by any replica, and the admin's pages say what is kept."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.caches import CacheBody, RedisTier, Scope, cache_entry
from capstan_contract.config import ModelEntry
from fakes.openai_upstream import FakeUpstream, Received, Wire, answer
from support.cached import ADMIN, REDIS_SECONDS, admin_key_file, cached_gateway
from support.gateway import entry
from support.gateway_process import NO_PROBES, gateway_process
from support.redis_server import RedisServer, redis_server
from support.wait import eventually

ID = "CachePolicy/t/c"
CHAT = "/v1/chat/completions"
SHARED = CacheBody(redis=RedisTier())
POLICIES = (cache_entry("t", "c", SHARED),)


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine that answers, until a test says otherwise."""
    async with FakeUpstream(answer) as fake:
        yield fake


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own."""
    with redis_server(tmp_path) as server:
        yield server


def models(upstream: FakeUpstream) -> list[ModelEntry]:
    """Give two models with the policy on them."""
    return [entry(name, upstream.url, policies=(ID,)) for name in ("one", "two")]


def asked(model: str = "one", text: str = "what is the capital of France?") -> dict[str, Any]:
    """Give a request."""
    return {"model": model, "messages": [{"role": "user", "content": text}]}


async def word(client: httpx2.AsyncClient, body: dict[str, Any] | None = None) -> str:
    """Give what the cache had to do with an answer."""
    response = await client.post(CHAT, json=asked() if body is None else body)
    assert response.status_code == 200, response.text
    return str(response.headers["x-cache"])


async def purge(client: httpx2.AsyncClient, **what: Any) -> dict[str, Any]:
    """Purge something."""
    response = await client.post("/admin/cache/purge", json=what)
    assert response.status_code == 200, response.text
    said: dict[str, Any] = response.json()
    return said


async def until_gone(client: httpx2.AsyncClient, key: str) -> None:
    """Wait until a replica has nothing under a key."""

    async def gone() -> bool:
        return (await client.get("/admin/cache/entry", params={"key": key})).status_code == 404

    await eventually(gone, what="the end of the entry at the replica")


async def test_a_purge_is_seen_by_all_replicas(upstream: FakeUpstream, redis: RedisServer, tmp_path: Path) -> None:
    """Two gateway processes: what one of them purges (an entry, a model, a tenant, all) the other one has no more
    either, in its memory and in Redis, and what the purge is not about stays."""
    flags = ("--admin-key-file", str(admin_key_file(tmp_path)), "--redis-limit-seconds", str(REDIS_SECONDS))
    environ = {**NO_PROBES, "CAPSTAN_GATEWAY_REDIS_URL": redis.url}
    with ExitStack() as stack:
        folders = [tmp_path / name for name in "ab"]
        for folder in folders:
            folder.mkdir()
        both = [
            stack.enter_context(gateway_process(folder, models(upstream), *flags, environ=environ, policies=POLICIES))
            for folder in folders
        ]
        async with AsyncExitStack() as clients:
            one, other = [
                await clients.enter_async_context(httpx2.AsyncClient(base_url=side.url, headers=ADMIN, timeout=60))
                for side in both
            ]
            for what in ("entry", "model", "tenant", "all"):
                await asyncio.gather(word(one), word(one, asked("two")))
                await eventually(lambda: _holds(redis, 2), what="both entries in Redis")
                # NB: clocks may differ, so that what one made right behind a purge is none to others for a moment.
                assert await word(other) == "hit-redis" or what != "entry"
                assert await word(other) == "hit-memory"
                key = (await other.post(CHAT, json=asked())).headers["x-cache-key"]
                assert (await other.get("/admin/cache/entry", params={"key": key})).status_code == 200
                value = {"entry": key, "model": "test/one", "tenant": "everybody", "all": True}[what]
                said = await purge(one, **{what: value})
                assert said["everywhere"]

                await until_gone(other, key)
                assert await word(other) == "miss"
                assert await word(one, asked("two")) == ("miss" if what in ("tenant", "all") else "hit-memory")
                await purge(one, all=True)
                await until_gone(other, key)
                await eventually(lambda: _holds(redis, 0), what="the end of all entries in Redis")


def _holds(redis: RedisServer, entries: int) -> bool:
    with redis.client() as client:
        return len([name for name in client.keys("capstan:cache:*") if not name.endswith(b":lease")]) == entries


async def test_pages_are_the_admins_and_tell_no_text(
    upstream: FakeUpstream, redis: RedisServer, tmp_path: Path
) -> None:
    """Nobody reads or purges without the admin's key; with it nothing of a question or an answer is told."""
    async with cached_gateway(
        tmp_path, *models(upstream), policies=POLICIES, redis=redis, admin=True, headers={}
    ) as (_, client):  # fmt: skip
        first = await client.post(CHAT, json=asked())
        key = first.headers["x-cache-key"]
        for path in ("/admin/cache/stats", f"/admin/cache/entry?key={key}"):
            assert (await client.get(path)).status_code == 401
        assert (await client.post("/admin/cache/purge", json={"all": True})).status_code == 401
        assert await word(client) == "hit-memory"
        client.headers.update(ADMIN)
        stats = (await client.get("/admin/cache/stats")).json()
        described = await client.get("/admin/cache/entry", params={"key": key})
    counts = stats["policies"][ID]
    assert (counts["entries"], counts["memoryHits"], counts["misses"], stats["shared"]) == (1, 1, 1, True)
    assert 0 < counts["bytes"] == stats["bytes"] <= stats["maxBytes"]
    found = described.json()
    assert (found["model"], found["policy"], found["tier"], found["form"]) == ("test/one", ID, "memory", "answer")
    assert found["expires"] - found["created"] == SHARED.ttlSeconds
    assert found["bytes"] > 0
    content = first.json()["choices"][0]["message"]["content"]
    assert content not in described.text + json.dumps(stats)
    assert "France" not in described.text + json.dumps(stats)


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b"{}", 400, None),
        (b'{"model": "one", "all": true}', 400, None),
        (b'{"prompt": "x"}', 400, None),
        (b'{"all": false}', 400, "all"),
        (b'{"entry": "x"}', 400, "entry"),
        (b'{"tenant": ""}', 400, "tenant"),
        (b'{"tenant": 7}', 400, "tenant"),
        (b'{"tenant": "' + b"x" * 513 + b'"}', 400, "tenant"),
        (b'{"model": "nobody"}', 404, "model"),
    ],
)
async def test_what_cannot_be_purged_is_refused_and_nothing_goes(
    body: bytes, status: int, param: str | None, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """A body that says nothing, too much or what is not there gets a clear error."""
    async with cached_gateway(tmp_path, *models(upstream), policies=POLICIES, admin=True) as (_, client):
        await word(client)
        refused = await client.post("/admin/cache/purge", content=body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)
        for key in ("", "x", "0" * 32):
            assert (await client.get("/admin/cache/entry", params={"key": key})).status_code == 400
        assert await word(client) == "hit-memory"


async def test_without_redis_a_purge_is_of_one_replica(upstream: FakeUpstream, tmp_path: Path) -> None:
    """It holds there, and the answer says that others are to be asked."""
    async with cached_gateway(tmp_path, *models(upstream), policies=POLICIES, admin=True) as (_, client):
        await word(client)
        said = await purge(client, model="one")
        assert (said["everywhere"], "each" in said["note"], said["value"]) == (False, True, "test/one")
        assert await word(client) == "miss"


async def test_a_purge_while_redis_is_away_is_told_when_it_is_back(
    upstream: FakeUpstream, redis: RedisServer, tmp_path: Path
) -> None:
    """It holds at once where it was asked for, and everywhere when Redis is back; hits in memory go on meanwhile."""
    async with AsyncExitStack() as stack:
        clients = []
        for name in "ab":
            running = cached_gateway(tmp_path / name, *models(upstream), policies=POLICIES, redis=redis, admin=True)
            clients.append((await stack.enter_async_context(running))[1])
        one, other = clients
        await word(one)
        await eventually(lambda: _holds(redis, 1), what="the entry in Redis")
        assert await word(other) == "hit-redis"
        redis.kill()
        said = await purge(one, all=True)
        assert not said["everywhere"]
        assert await word(other) == "hit-memory"
        assert await word(one) == "miss"
        key = (await other.post(CHAT, json=asked())).headers["x-cache-key"]
        redis.start()
        await until_gone(other, key)

        async def told() -> bool:
            return (await one.get("/admin/cache/stats")).json()["purges"]["untold"] == 0

        await eventually(told, what="the purge written down")


async def test_an_answer_that_was_under_way_when_it_was_purged_is_not_kept(
    upstream: FakeUpstream, redis: RedisServer, tmp_path: Path
) -> None:
    """Who waits for it gets it; whoever asks after the purge gets one that was asked for after it."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def waits(received: Received, wire: Wire) -> None:
        begun.set()
        await go.wait()
        await answer(received, wire)

    upstream.respond = waits
    async with cached_gateway(
        tmp_path, *models(upstream), policies=POLICIES, redis=redis, admin=True
    ) as (gateway, client):  # fmt: skip
        before = asyncio.create_task(word(client))
        await begun.wait()
        await purge(client, model="test/one")
        after = asyncio.create_task(word(client))
        await eventually(lambda: len(gateway.gateway.requests) == 2, what="both requests")
        upstream.respond = answer
        go.set()
        assert (await before, await after) == ("miss", "miss")
        assert len(upstream.requests) == 2


async def test_a_key_that_comes_later_or_changes_is_used_without_another_config(
    upstream: FakeUpstream, redis: RedisServer, tmp_path: Path
) -> None:
    """Without its key, or with one that can be guessed, nothing is written into Redis; what was sealed with another one
    is a miss."""
    files = tmp_path / "credentials"
    files.mkdir()
    policies = (cache_entry("t", "c", CacheBody(redis=RedisTier(), encryptionFile="k", scope=Scope.TENANT)),)
    async with cached_gateway(
        tmp_path, *models(upstream), policies=policies, redis=redis, credentials_dir=files
    ) as (gateway, client):  # fmt: skip
        credentials = gateway.gateway.credentials
        assert [await word(client) for _ in range(2)] == ["miss", "hit-memory"]
        (files / "k").write_text("guessed")
        await eventually(lambda: credentials.key("k") == b"guessed", what="the short key")
        assert [await word(client, asked(text="again?")) for _ in range(2)] == ["miss", "hit-memory"]
        assert _holds(redis, 0)
        for number in (1, 2):
            (files / "k").write_text(f"what-seals-entries-{number}")
            given = b"what-seals-entries-%d" % number
            await eventually(lambda: credentials.key("k") == given, what="the key")  # noqa: B023
            assert [await word(client) for _ in range(2)] == ["miss", "hit-memory"]
            await eventually(lambda: _holds(redis, number), what="the entry in Redis")  # noqa: B023
        with redis.client() as server:
            assert all(b"assistant" not in server.get(name) for name in server.keys("capstan:cache:*"))


async def test_a_redis_that_dies_loses_no_hit(upstream: FakeUpstream, redis: RedisServer, tmp_path: Path) -> None:
    """What was found in Redis is in memory from then on; without Redis the cache goes on with that."""
    async with AsyncExitStack() as stack:
        clients = []
        for name in "ab":
            running = cached_gateway(tmp_path / name, *models(upstream), policies=POLICIES, redis=redis)
            clients.append((await stack.enter_async_context(running))[1])
        one, other = clients
        assert await word(one) == "miss"
        await eventually(lambda: _holds(redis, 1), what="the entry in Redis")
        assert await word(other) == "hit-redis"
        redis.kill()
        assert [await word(one), await word(other)] == ["hit-memory", "hit-memory"]
        assert [await word(one, asked("two")) for _ in range(2)] == ["miss", "hit-memory"]
