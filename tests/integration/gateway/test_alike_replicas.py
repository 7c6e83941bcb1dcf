"""Gateways that share questions by a real Redis: what one has answered others find by its meaning."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.caches import CacheBody, RedisTier, SemanticTier, cache_entry
from capstan_gateway.caches.purges import Purge, What, read_key
from capstan_gateway.caches.semantic.shared_questions import stream_of
from capstan_gateway.pipeline.caches import alike
from fakes.openai_upstream import FakeUpstream, answer
from support.gateway import RunningGateway, entry, running_gateway
from support.keys import key_entry, key_text
from support.redis_server import RedisServer, redis_server
from support.wait import eventually

ID = "CachePolicy/t/c"
CHAT = "/v1/chat/completions"
ASKED = "How do I reset my password?"
SAME = "How can I reset my password?"
OTHER = "How do I cancel my order?"
OTHER_SAME = "How can I cancel my order?"
KEYS = (key_entry("ada", tenant="a"), key_entry("bob", tenant="b"))


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own."""
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine that answers."""
    async with FakeUpstream(answer) as fake:
        yield fake


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    """The client of all gateways."""
    async with httpx2.AsyncClient(timeout=180) as client:
        yield client


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine takes its time to load the weights, and to compare."""
    monkeypatch.setattr(alike, "FIND_SECONDS", 120.0)
    monkeypatch.setattr(alike, "PUT_SECONDS", 120.0)


class Replica:
    """One gateway, and who asks it."""

    def __init__(self, gateway: RunningGateway, http: httpx2.AsyncClient) -> None:
        self.gateway = gateway
        self._http = http

    async def word(self, text: str, who: str = "ada", **headers: str) -> str:
        """Ask a question; give what the cache had to do with the answer."""
        body = {"model": "chat", "messages": [{"role": "user", "content": text}]}
        said = await self._http.post(
            f"{self.gateway.url}{CHAT}", json=body, headers={"authorization": f"Bearer {key_text(who)}", **headers}
        )
        return str(said.headers["x-cache"])

    async def known(self, number: int) -> None:
        """Wait until it knows so many questions."""
        await eventually(lambda: self.questions == number, what=f"{number} questions")

    @property
    def questions(self) -> int:
        """How many it knows."""
        ((_, room),) = self.gateway.gateway.caches.rooms()
        assert isinstance(room.alike, alike.AlikeInProcess)
        return len(room.alike)


Start = Callable[..., Awaitable[Replica]]


@pytest.fixture
async def start(
    tmp_path: Path, redis: RedisServer, upstream: FakeUpstream, http: httpx2.AsyncClient
) -> AsyncIterator[Start]:
    """Start gateways on that Redis, with the policy."""
    async with AsyncExitStack() as stack:

        async def started(name: str, **fields: Any) -> Replica:
            (tmp_path / name).mkdir()
            policy = cache_entry("t", "c", CacheBody(redis=RedisTier(), semantic=SemanticTier(sampleRate=0), **fields))
            running = running_gateway(
                tmp_path / name, entry("chat", upstream.url, policies=(ID,)), policies=(policy,), keys=KEYS,
                insecure_no_auth=False, redis_url=redis.url, redis_limit_seconds=10.0,
                credentials={"seal": "0123456789abcdef" * 4},
            )  # fmt: skip
            return Replica(await stack.enter_async_context(running), http)

        yield started


@pytest.mark.parametrize("fields", [{}, {"encryptionFile": "seal"}], ids=["plain", "sealed"])
async def test_what_one_replica_has_answered_another_one_finds_by_its_meaning(
    fields: dict[str, Any], start: Start, redis: RedisServer, upstream: FakeUpstream
) -> None:
    """For the same tenant, never for another one; with a key nobody reads in Redis what was asked; a gateway that
    begins later finds it as well."""
    one, other = await start("one", **fields), await start("other", **fields)
    assert await one.word(ASKED) == "miss"
    await other.known(1)
    assert await other.word(SAME, "bob") == "miss"
    assert await other.word(SAME) == "hit-semantic"
    late = await start("late", **fields)
    await late.known(2)
    assert await late.word("how could i reset my password") == "hit-semantic"
    assert len(upstream.requests) == 2
    with redis.client() as client:
        kept = [client.dump(key) for key in client.keys("capstan:cache:*")]
        questions = [client.get(key) for key in client.keys("capstan:cache:*:asked")]
    assert len(questions) == 2
    assert sum(b"reset my password" in data for data in questions) == (0 if fields else 2)
    assert not fields or not any(b"password" in data for data in kept)


@pytest.mark.parametrize("what", [What.ENTRY, What.ALL])
async def test_what_is_purged_at_one_is_not_found_at_another(what: What, start: Start, redis: RedisServer) -> None:
    """By its key, or all of it: other replicas forget it, one that begins later does not learn of it, and nothing of it
    stays in Redis but the name of an answer."""
    one, other = await start("one"), await start("other")
    assert await one.word(ASKED) == "miss"
    for replica in (one, other):
        await replica.known(1)
    with redis.client() as client:
        ((_, fields),) = client.xrevrange(stream_of(ID), count=1)
    key = fields[b"k"].decode()
    assert read_key(key) is not None
    assert await one.gateway.gateway.caches.purge(Purge(what, key if what is What.ENTRY else ""))
    for replica in (one, other):
        await replica.known(0)

    def gone() -> bool:
        with redis.client() as client:
            return not client.keys("capstan:cache:*:asked")

    await eventually(gone, what="the end of the question in Redis")
    late = await start("late")
    assert await late.word(SAME) == "miss"
    assert await other.word(SAME) != "hit-semantic"


async def test_without_redis_each_goes_on_alone_and_learns_when_it_is_back(
    start: Start, redis: RedisServer, upstream: FakeUpstream
) -> None:
    """Redis killed: a replica finds what it has stored itself, and another one asks; what is stored when Redis is back
    is found by both."""
    one, other = await start("one"), await start("other")
    assert await one.word(ASKED) == "miss"
    assert await other.word("What is the capital of France?") == "miss"
    for replica in (one, other):
        await replica.known(2)
    redis.kill()
    assert await one.word(SAME) == "hit-semantic"
    assert await other.word(SAME) == "miss"
    await other.known(3)  # What it has of the other one's stays: nobody knows whether the answer is gone.
    redis.start()
    for replica in (one, other):
        await eventually(lambda replica=replica: not _down(replica), what="Redis again")
    assert await one.word(OTHER) == "miss"
    await other.known(4)
    assert await other.word(OTHER_SAME) == "hit-semantic"


async def test_what_was_changed_in_redis_is_refused(start: Start, redis: RedisServer) -> None:
    """A question that somebody has changed, or put in the place of another tenant's, is counted, and no hit."""
    one = await start("one")
    assert await one.word(ASKED) == "miss"
    assert await one.word(OTHER, "bob") == "miss"

    def both() -> "list[bytes]":
        with redis.client() as client:
            return sorted(client.keys("capstan:cache:*:asked")) if client.xlen(stream_of(ID)) == 2 else []

    mine, theirs = await eventually(both, what="both questions in Redis")
    with redis.client() as client:
        first, second = client.get(mine), client.get(theirs)
        client.set(mine, second)
        client.set(theirs, first[:-1] + bytes([first[-1] ^ 1]))
    other = await start("other")
    await eventually(lambda: other.gateway.metric("llm_cache_unreadable_total", policy="t/c") == 2, what="the count")
    assert other.questions == 0
    assert await other.word(SAME) == "miss"


async def test_what_guards_or_revisions_have_made_another_question_is_not_found(
    start: Start, upstream: FakeUpstream
) -> None:
    """A new revision of the model has other answers: questions of the one before are in the index, and found by
    nobody."""
    one, other = await start("one"), await start("other")
    assert await one.word(ASKED) == "miss"
    await other.known(1)
    ((_, room),) = other.gateway.gateway.caches.rooms()
    policy = cache_entry("t", "c", room.body)
    newer = entry("chat", upstream.url, policies=(ID,), revision="2")
    await other.gateway.configure(newer, keys=KEYS, policies=(policy,))
    assert await other.word(SAME) == "miss"


def _down(replica: Replica) -> bool:
    return any(room.is_down for _, room in replica.gateway.gateway.caches.rooms())
