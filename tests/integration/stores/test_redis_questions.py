"""Questions that replicas share, in a real Redis: what one puts others take in, bounded, and nothing else."""

import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy
import pytest

from capstan_contract.redis_address import read_address
from capstan_gateway.caches.box import SECRET_BYTES
from capstan_gateway.caches.port import CacheKey
from capstan_gateway.caches.semantic import shared_questions
from capstan_gateway.caches.semantic.index import DIMENSIONS, Neighbours
from capstan_gateway.caches.semantic.questions import QuestionCodec, StoredQuestion
from capstan_gateway.caches.semantic.shared_questions import PAGE, RedisQuestions, stream_of
from capstan_gateway.caches.shared import policy_of, question_place_of
from capstan_gateway.life.threads import Busy, Threads
from capstan_gateway.stores.scripted import make_links
from support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.redis
ID = "CachePolicy/t/c"
TTL_MS = 3_600_000
SECRET = b"s" * SECRET_BYTES


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that all tests share."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


def vector(seed: int) -> numpy.ndarray:
    """Give a direction."""
    found = numpy.random.default_rng(seed).normal(size=DIMENSIONS).astype(numpy.float32)
    return found / numpy.linalg.norm(found)


class Replica:
    """What one gateway has of a policy."""

    def __init__(
        self, url: str, now: int, *, most: int = 1000, policy: str = ID, secret: bytes = b"", ttl_ms: int = TTL_MS
    ) -> None:
        self.now = now
        self.counts: list[str] = []
        self.purged: set[CacheKey] = set()
        self.knows = True
        self.codec: QuestionCodec | None = QuestionCodec(secret)
        self.index = Neighbours(most=most)
        rng = random.Random(1)  # noqa: S311 - pauses
        self.links = make_links(read_address(url), seconds=10.0, rng=rng)
        self.warmed = 0
        self.questions = RedisQuestions(
            self.links, policy=policy, index=self.index, codec=lambda: self.codec, most=most, ttl_ms=ttl_ms,
            now_ms=lambda: self.now, threads=Threads("test"), warm=self._warm,
            purged=lambda key, _: key in self.purged, learn=self._learn, count=self.counts.append,
        )  # fmt: skip

    async def _learn(self) -> bool:
        return self.knows

    def _warm(self) -> None:
        self.warmed += 1

    async def take_all(self) -> None:
        """Take in all that is there."""
        while await self.questions.take():
            pass

    def knows_of(self, number: int, partition: str = "a" * 32) -> bool:
        """Whether a question is found."""
        asked = question(number, partition=partition)
        found = self.index.nearest(asked.partition, vector(number), count=1, now_ms=self.now)
        return [near.asked.text for near in found] == [asked.text]


def question(number: int, now: int = 0, *, partition: str = "a" * 32, lives_ms: int = TTL_MS) -> StoredQuestion:
    """Give a question of a tenant's."""
    key = CacheKey(partition, "b" * 16, number.to_bytes(32, "big"))
    within = f"{partition}.{key.model}.{'e' * 64}"
    return StoredQuestion(key, within, f"question {number}?", now, now + lives_ms, vector(number))


@pytest.fixture
def now(redis: RedisServer) -> int:
    """The time of an empty Redis."""
    with redis.client() as client:
        client.flushall()
        seconds, _ = client.time()
    return int(seconds) * 1000


@pytest.fixture
async def replicas(redis: RedisServer, now: int) -> AsyncIterator[list[Replica]]:
    """Two gateways with the policy, whose connections are ended with the test."""
    made = [Replica(redis.url, now) for _ in range(2)]
    yield made
    for one in made:
        await one.links.aclose()


async def test_what_one_puts_others_find(replicas: list[Replica], redis: RedisServer) -> None:
    """Within its partition alone; it lives as long as its answer, and is read once."""
    one, other = replicas
    asked = question(1, one.now)
    await one.questions.put(asked)
    with redis.client() as client:
        (there,) = client.keys("capstan:cache:1:{a*:asked")
        assert there.decode() == question_place_of(policy_of(ID), asked.key)
        assert 0 < client.pttl(there) <= TTL_MS
        assert 0 < client.pttl(stream_of(ID)) <= TTL_MS
        assert asked.text.encode() not in client.dump(stream_of(ID))
    assert not await other.questions.take()
    assert other.knows_of(1)
    assert other.index.nearest("another", vector(1), count=1, now_ms=other.now) == []
    assert other.index.until(asked.key) == asked.expires_ms
    assert other.warmed == 1
    before = len(other.counts)
    await other.questions.take()
    assert other.counts[before:] == ["answered"]


async def test_one_that_is_told_again_lives_longer(replicas: list[Replica]) -> None:
    """An answer that was made anew under its key prolongs its question, at all replicas."""
    one, other = replicas
    await one.questions.put(question(1, one.now, lives_ms=1000))
    await other.questions.take()
    await one.questions.put(question(1, one.now + 500))
    await other.questions.take()
    assert other.index.until(question(1).key) == one.now + 500 + TTL_MS


async def test_a_replica_that_begins_reads_what_is_there(replicas: list[Replica], redis: RedisServer, now: int) -> None:
    """Page after page, and no more than its index holds."""
    one, _ = replicas
    for number in range(2 * PAGE + 5):
        await one.questions.put(question(number, now))
    late, small = Replica(redis.url, now), Replica(redis.url, now, most=10)
    assert await late.questions.take()
    assert len(late.index) == PAGE
    await late.take_all()
    await small.take_all()
    assert len(late.index) == 2 * PAGE + 5
    assert all(late.knows_of(number) for number in range(2 * PAGE + 5))
    assert len(small.index) == 10
    assert small.knows_of(2 * PAGE + 4)
    for replica in (late, small):
        await replica.links.aclose()


async def test_the_stream_is_bounded(redis: RedisServer, now: int) -> None:
    """By about as many as an index holds: Redis cuts off whole blocks of a hundred."""
    one = Replica(redis.url, now, most=10)
    for number in range(400):
        await one.questions.put(question(number, now))
    with redis.client() as client:
        assert client.xlen(stream_of(ID)) <= 200
    await one.links.aclose()


async def test_what_is_purged_deleted_or_over_is_not_taken_in(replicas: list[Replica], redis: RedisServer) -> None:
    """A purge that is known, also one that comes while it is read; an answer that was deleted with its question; one
    whose time is over. Until it is known what is purged nothing is read."""
    one, other = replicas
    for number in range(4):
        await one.questions.put(question(number, one.now))
    other.purged.add(question(1).key)
    with redis.client() as client:
        client.unlink(question_place_of(policy_of(ID), question(2).key))
    other.knows = False
    assert not await other.questions.take()
    assert len(other.index) == 0
    other.knows = True
    await other.questions.take()
    assert [other.knows_of(number) for number in range(4)] == [True, False, False, True]
    late = Replica(redis.url, one.now + TTL_MS)
    await late.questions.take()
    assert len(late.index) == 0
    one.purged.add(question(7).key)
    await one.questions.put(question(7, one.now))
    with redis.client() as client:
        assert not client.exists(question_place_of(policy_of(ID), question(7).key))
    await late.links.aclose()


@pytest.mark.parametrize("secret", [b"", SECRET])
async def test_what_does_not_read_is_counted_and_passed_over(secret: bytes, redis: RedisServer, now: int) -> None:
    """One that was changed, copied to another tenant's place, of another kind of key, or told of as nonsense: all
    others are taken in, and nothing of it is written into a log."""
    one, other = Replica(redis.url, now, secret=secret), Replica(redis.url, now, secret=secret)
    for number in range(5):
        await one.questions.put(question(number, now))
    theirs = question(3, partition="f" * 32)
    with redis.client() as client:
        places = [question_place_of(policy_of(ID), question(number).key) for number in range(5)]
        data = bytearray(client.get(places[1]))
        data[-1] ^= 1
        client.set(places[1], bytes(data))
        client.delete(places[2])
        client.lpush(places[2], "x")
        client.set(places[4], b"x" * 10**6)
        client.set(question_place_of(policy_of(ID), theirs.key), client.get(places[3]))
        stream: Any = stream_of(ID)
        client.xadd(stream, {"k": theirs.key.text, "x": now + TTL_MS})
        client.xadd(stream, {"k": "nobody", "x": "never"})
        client.xadd(stream, {"k": b"\xff", "x": str(now + TTL_MS)})
        client.xadd(stream, {"other": "1"})
    await other.questions.take()
    assert [other.knows_of(number) for number in range(5)] == [True, False, False, True, False]
    assert not other.knows_of(3, theirs.key.partition)
    assert len(other.index) == 2
    assert other.counts.count("unreadable") == 6
    assert other.counts.count("refused") == 1
    for replica in (one, other):
        await replica.links.aclose()


async def test_only_who_has_the_key_reads_and_another_policy_reads_nothing(redis: RedisServer, now: int) -> None:
    """What is sealed is for those with the key; who has none yet writes and reads nothing; two policies share
    nothing."""
    one, keyless = Replica(redis.url, now, secret=SECRET), Replica(redis.url, now)
    waiting, elsewhere = Replica(redis.url, now), Replica(redis.url, now, policy="CachePolicy/t/d", secret=SECRET)
    waiting.codec = None
    await one.questions.put(question(1, now))
    await waiting.questions.put(question(2, now))
    for replica in (keyless, waiting, elsewhere):
        await replica.questions.take()
        assert len(replica.index) == 0
        await replica.links.aclose()
    assert keyless.counts.count("unreadable") == 1
    assert "unreadable" not in elsewhere.counts
    waiting.codec = QuestionCodec(SECRET)
    await one.links.aclose()


async def test_what_is_looked_back_for_is_not_lost_where_the_threads_are_busy(
    replicas: list[Replica], redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a Redis that took over with an older clock it is looked back until that was taken in."""
    one, other = replicas
    await one.questions.put(question(1, one.now))
    await other.take_all()
    await one.questions.put(question(2, one.now))
    with redis.client() as client:
        stream = stream_of(ID)
        (first, _), (_, fields) = client.xrange(stream)
        client.delete(stream)
        client.xadd(stream, fields, id=f"{int(first.split(b'-')[0]) - 5000}-0")
    other.knows = False
    assert not await other.questions.take()
    other.knows = True

    async def busy(*_: Any) -> None:
        raise Busy

    with monkeypatch.context() as patched:
        patched.setattr(Threads, "run", busy)
        assert not await other.questions.take()
    await other.take_all()
    assert other.knows_of(2)


async def test_an_id_that_somebody_has_made_up_hides_nothing(replicas: list[Replica], redis: RedisServer) -> None:
    """Redis numbers on from the greatest id that it was given; what comes then is taken in."""
    one, other = replicas
    with redis.client() as client:
        client.xadd(stream_of(ID), {"k": "v"}, id=f"{2**63}-0")
    await one.questions.put(question(1, one.now))
    await other.take_all()
    assert other.knows_of(1)
    assert "unreadable" in other.counts


async def test_a_policy_with_a_shorter_life_has_the_shorter(redis: RedisServer, now: int) -> None:
    """A question that was written when answers lived longer is found no longer than they live now."""
    one, other = Replica(redis.url, now), Replica(redis.url, now, ttl_ms=60_000)
    await one.questions.put(question(1, now - 61_000))
    await one.questions.put(question(2, now - 10_000))
    await other.take_all()
    assert (other.knows_of(1), other.knows_of(2)) == (False, True)
    assert other.index.until(question(2).key) == now + 50_000
    for replica in (one, other):
        await replica.links.aclose()


async def test_a_closed_one_takes_nothing(replicas: list[Replica]) -> None:
    """A policy that is gone learns of nothing."""
    one, other = replicas
    await one.questions.put(question(1, one.now))
    other.questions.close()
    await other.questions.take()
    assert len(other.index) == 0


async def test_a_library_that_fails_over_one_question_keeps_no_other(
    replicas: list[Replica], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted, and told once by its kind, without its text."""
    one, other = replicas
    for number in range(3):
        await one.questions.put(question(number, one.now))
    put = Neighbours.put

    def failing(index: Neighbours, partition: str, asked: Any, row: Any) -> None:
        if asked.text == "question 1?":
            raise RuntimeError(f"cannot put {asked.text}")
        put(index, partition, asked, row)

    monkeypatch.setattr(Neighbours, "put", failing)
    await other.questions.take()
    assert [other.knows_of(number) for number in range(3)] == [True, False, True]
    assert other.counts.count("unreadable") == 1
    assert "question 1" not in caplog.text


async def test_while_redis_is_away_nothing_is_lost(tmp_path_factory: pytest.TempPathFactory, now: int) -> None:
    """Nobody waits and nothing is raised; what is put when it is back is found, also where its clock went back a
    little."""
    with redis_server(tmp_path_factory.mktemp("own")) as server:
        one, other = Replica(server.url, now), Replica(server.url, now)
        await one.questions.put(question(1, now))
        await other.questions.take()
        server.kill()
        assert not await other.questions.take()
        await one.questions.put(question(2, now))
        assert other.questions.is_down
        server.start()
        with server.client() as client:  # One that took over: what it has is of a moment before.
            at = f"{(other.questions._at or (0, 0))[0] - shared_questions.OVERLAP_MS // 2}-0"
            asked = question(3, now)
            client.set(question_place_of(policy_of(ID), asked.key), QuestionCodec().write(asked))
            client.xadd(stream_of(ID), {"k": asked.key.text, "x": asked.expires_ms}, id=at)
        fresh = [Replica(server.url, now)]
        other.questions._links = other.questions._large = fresh[0].links  # type: ignore[misc]
        await other.questions.take()
        assert [other.knows_of(number) for number in (1, 3)] == [True, True]
        for replica in (one, other, *fresh):
            await replica.links.aclose()
