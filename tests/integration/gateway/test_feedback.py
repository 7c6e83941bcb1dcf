"""A client that says of an answer that it was wrong: it is not given again, and only its own tenant may say so."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.caches import CacheBody, RedisTier, Scope, cache_entry
from capstan_contract.config import ModelEntry
from capstan_gateway.caches.answered import Of, Told, name_of
from capstan_gateway.caches.key import partition_of
from capstan_gateway.caches.purges import read_key
from capstan_gateway.caches.shared_ids import PREFIX
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
    return httpx2.AsyncClient(base_url=gateway.url, headers=headers, timeout=60)


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
        (b"{}", "cache_key", "or `request_id` or `response_id` must be given"),
        (b'{"request_id": "", "wrong": true}', "request_id", "x-request-id"),
        (b'{"response_id": 7, "wrong": true}', "response_id", "the `id` of its body"),
        (b'{"request_id": "a", "response_id": "b", "wrong": true}', "response_id", "together with `request_id`"),
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


@asynccontextmanager
async def two_replicas(
    upstream: FakeUpstream, redis: RedisServer, tmp_path: Path
) -> AsyncIterator[tuple[httpx2.AsyncClient, httpx2.AsyncClient]]:
    """Clients of two gateways that share what they keep."""
    policies = (cache_entry("t", "c", CacheBody(redis=RedisTier())),)
    async with AsyncExitStack() as stack:
        clients = []
        for name in "ab":
            folder = tmp_path / name
            folder.mkdir()
            running = running_gateway(
                folder, cached(upstream), policies=policies, redis_url=redis.url, redis_limit_seconds=10.0
            )
            gateway = await stack.enter_async_context(running)
            clients.append(await stack.enter_async_context(client_of(gateway)))
        one, other = clients
        yield one, other


async def test_it_is_evicted_everywhere(upstream: FakeUpstream, redis: RedisServer, tmp_path: Path) -> None:
    """What is reported at one replica is gone at the other one as well, out of its memory and out of Redis; also when
    the one that is told does not have it at hand."""
    async with two_replicas(upstream, redis, tmp_path) as (one, other):
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


async def reported(client: httpx2.AsyncClient, **about: Any) -> httpx2.Response:
    """Say that an answer was wrong."""
    return await client.post(FEEDBACK, json={"wrong": True, **about})


async def hit_of(client: httpx2.AsyncClient, path: str = CHAT, ask: Any = ASKED) -> httpx2.Response:
    """Ask until the answer comes out of memory."""

    async def again() -> httpx2.Response | None:
        response = await client.post(path, json=ask)
        return response if response.headers["x-cache"] == "hit-memory" else None

    return await eventually(again)  # type: ignore[return-value]


@pytest.mark.parametrize("field", ["request_id", "response_id"])
@pytest.mark.parametrize("hit", [False, True])
async def test_an_answer_is_named_by_its_ids(field: str, hit: bool, upstream: FakeUpstream, tmp_path: Path) -> None:
    """That of the request by which it was made or given again, and its own; said again it changes nothing, also when
    there is another answer by now."""
    policies = (cache_entry("t", "c", CacheBody()),)
    async with running_gateway(tmp_path, cached(upstream), policies=policies) as gateway, client_of(gateway) as client:
        first, later = await asked(client), await hit_of(client)
        named = later if hit else first
        id = named.headers["x-request-id"] if field == "request_id" else named.json()["id"]
        said = {"object": "feedback", field: id, "cache_key": named.headers["x-cache-key"]}
        for _ in range(2):
            assert (await reported(client, **{field: id})).json() == {**said, "evicted": True, "everywhere": False}
        assert (await asked(client)).headers["x-cache"] == "miss"
        await hit_of(client)
        assert (await reported(client, **{field: id})).status_code == 200
        assert (await asked(client)).headers["x-cache"] == "hit-memory"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "ask"),
    [
        ("/v1/messages", {"model": "chat", "max_tokens": 9, "messages": ASKED["messages"]}),
        ("/v1/responses", {"model": "chat", "input": "what is the capital of France?", "store": False}),
    ],
)
async def test_an_answer_is_named_by_its_id_in_any_dialect(
    path: str, ask: Any, stream: bool, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Whatever prefix the id has there, and whether the answer was made as a stream or in one piece."""
    policies = (cache_entry("t", "c", CacheBody()),)
    async with running_gateway(tmp_path, cached(upstream), policies=policies) as gateway, client_of(gateway) as client:
        await client.post(path, json={**ask, "stream": stream})
        id = (await hit_of(client, path, ask)).json()["id"]
        assert id.startswith(("msg_", "resp_"))
        assert (await reported(client, response_id=id)).status_code == 200
        assert (await client.post(path, json=ask)).headers["x-cache"] == "miss"


@pytest.mark.parametrize("scope", list(Scope))
async def test_ids_are_of_the_tenant_they_were_given_to(scope: Scope, upstream: FakeUpstream, tmp_path: Path) -> None:
    """Another tenant's id is answered as one that nobody was given; so is one of what all tenants share, and one of an
    answer that no cache knows."""
    keys = [key_entry(name, tenant=name, user="u") for name in ("a", "b")]
    policies = (cache_entry("t", "c", CacheBody(scope=scope)),)
    models = (cached(upstream), entry("plain", upstream.url))
    running = running_gateway(tmp_path, *models, keys=keys, policies=policies, insecure_no_auth=False)
    async with running as gateway, client_of(gateway, "a") as mine, client_of(gateway, "b") as theirs:
        await asked(mine)
        answered = await hit_of(mine)
        plain = await mine.post(CHAT, json={**ASKED, "model": "plain"})
        ids = ({"request_id": answered.headers["x-request-id"]}, {"response_id": answered.json()["id"]})
        for about in ids:
            stolen = await reported(theirs, **about)
            absent = await reported(theirs, **dict.fromkeys(about, "nobody's"))
            assert (stolen.status_code, stolen.json()) == (404, absent.json())
            assert stolen.json()["error"]["code"] == "answer_not_found"
            own = await reported(mine, **about)
            assert own.status_code == (404 if scope is Scope.MODEL else 200)
        assert (await reported(mine, request_id=plain.headers["x-request-id"])).status_code == 404


@pytest.mark.parametrize("field", ["request_id", "response_id"])
async def test_another_replica_knows_the_ids(
    field: str, upstream: FakeUpstream, redis: RedisServer, tmp_path: Path
) -> None:
    """What one replica has answered is reported at another one; while Redis is away that one says that it cannot know,
    and the one that has answered does."""
    async with two_replicas(upstream, redis, tmp_path) as (one, other):
        await asked(one)
        hit = await hit_of(one)
        id = hit.headers["x-request-id"] if field == "request_id" else hit.json()["id"]

        async def is_known() -> httpx2.Response | None:
            said = await reported(other, **{field: id})
            return said if said.status_code == 200 else None

        said: Any = await eventually(is_known)
        assert said.json()["everywhere"], said.text
        assert not _entries(redis)

        async def is_gone() -> bool:
            return (await asked(one)).headers["x-cache"] == "miss"

        await eventually(is_gone)
        hit = await hit_of(one)
        redis.kill()
        away = await reported(other, **{field: "nobody's"})
        assert (away.status_code, away.json()["error"]["code"]) == (503, "store_unavailable")
        told = await reported(one, request_id=hit.headers["x-request-id"])
        assert (told.status_code, told.json()["everywhere"]) == (200, False)


async def test_what_somebody_has_put_into_redis_names_nobody_elses_answer(
    upstream: FakeUpstream, redis: RedisServer, tmp_path: Path
) -> None:
    """An id of one tenant that is said to be of another one's answer is no id."""
    keys = [key_entry(name, tenant=name, user="u") for name in ("a", "b")]
    policies = (cache_entry("t", "c", CacheBody(redis=RedisTier())),)
    running = running_gateway(
        tmp_path, cached(upstream), keys=keys, policies=policies, insecure_no_auth=False,
        redis_url=redis.url, redis_limit_seconds=10.0,
    )  # fmt: skip
    async with running as gateway, client_of(gateway, "a") as mine, client_of(gateway, "b") as theirs:
        key = read_key((await asked(mine)).headers["x-cache-key"])
        assert key is not None
        name = name_of(Of.REQUEST, "forged", partition_of(tenant="b", user=None))
        with redis.client() as client:
            client.set(PREFIX + name.digest, Told(key).write())
        assert (await reported(theirs, request_id="forged")).status_code == 404
        assert (await hit_of(mine)).headers["x-cache-key"] == key.text


def _entries(redis: RedisServer) -> list[bytes]:
    with redis.client() as client:
        return [key for key in client.keys("capstan:cache:1:*") if not key.endswith(b":lease")]
