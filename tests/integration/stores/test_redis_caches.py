"""Entries of caches in a real Redis: leases, damage, strangers' entries, a Redis that refuses, dies and comes back."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from capstan_contract.caches import Compression
from capstan_contract.redis_address import read_address
from capstan_gateway.caches import purging
from capstan_gateway.caches.codec import SECRET_BYTES, Codec
from capstan_gateway.caches.key import model_of
from capstan_gateway.caches.port import CacheKey, Entry, Form, Looked
from capstan_gateway.caches.purges import Purge, What
from capstan_gateway.caches.purging import Purges
from capstan_gateway.caches.shared import LARGE_BYTES, RedisEntries, prefix_of
from capstan_gateway.life.threads import Threads
from capstan_gateway.stores.scripted import Links, make_links
from support.redis_groups import redis_cluster
from support.redis_server import RedisServer, redis_server
from support.wait import eventually

T = TypeVar("T")
KEY = CacheKey("a" * 32, "b" * 16, b"c" * 32)
OTHER = KEY._replace(partition="d" * 32)
NOW = 1_700_000_000_000
SECRET = b"s" * SECRET_BYTES


def an_entry(body: bytes = b'{"choices": []}', *, lives_ms: int = 60_000) -> Entry:
    """Give an entry."""
    return Entry(Form.ANSWER, body, b"application/json", NOW, NOW + lives_ms)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that all tests share which do nothing to it."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


class Replica:
    """What one gateway has: its links, what it counts."""

    def __init__(self, url: str, *, seconds: float = 2.0, **options: Any) -> None:
        address = read_address(url)
        rng = random.Random(1)  # noqa: S311 - pauses
        self.links = make_links(address, seconds=seconds, rng=rng)
        self.large = make_links(address, seconds=5.0, rng=rng)
        self.counts: list[str] = []
        self.codec: Codec | None = Codec(compression=Compression.ZLIB)
        self.purged = False
        self.entries = RedisEntries(
            self.links, policy="CachePolicy/t/c", codec=lambda: self.codec, now_ms=lambda: NOW, large=self.large,
            purged=lambda _key, _created: self.purged, count=self.counts.append,
            **{"max_entry_bytes": 1024**2, "ttl_ms": 60_000, **options},
        )  # fmt: skip

    async def aclose(self) -> None:
        """End its connections."""
        await self.links.aclose()
        await self.large.aclose()


@pytest.fixture
async def replicas(redis: RedisServer) -> AsyncIterator[tuple[Replica, Replica]]:
    """Two gateways on an empty Redis."""
    with redis.client() as client:
        client.flushall()
    both = Replica(redis.url), Replica(redis.url)
    yield both
    for one in both:
        await one.aclose()


def where(redis: RedisServer, key: CacheKey = KEY) -> bytes:
    """Give the name of the only entry of a partition."""
    with redis.client() as client:
        (name,) = client.keys(prefix_of(key.partition).replace("{", "\\{") + "*")
    return bytes(name)


async def test_what_one_replica_puts_another_one_finds(replicas: tuple[Replica, Replica], redis: RedisServer) -> None:
    """An entry comes back as it was, with its time to live; in another partition there is nothing."""
    one, other = replicas
    await one.entries.put(KEY, an_entry())
    assert (await other.entries.look(KEY, lease=False)).entry == an_entry()
    assert await other.entries.look(OTHER, lease=False) == Looked()
    with redis.client() as client:
        assert 0 < client.pttl(where(redis)) <= 60_000
    await other.entries.drop((KEY,))
    assert await one.entries.look(KEY, lease=False) == Looked()
    assert set(one.counts + other.counts) == {"answered"}


async def test_one_of_all_who_look_has_the_lease(replicas: tuple[Replica, Replica]) -> None:
    """Who has it makes the answer, others are told to wait; given back, the next one has it."""
    one, other = replicas
    looks = await asyncio.gather(*(side.entries.look(KEY, lease=True) for side in (one, other) * 20))
    (leased,) = [look.lease for look in looks if look.lease is not None]
    assert sum(look.waits for look in looks) == len(looks) - 1
    leased.release()
    leased.release()

    async def taken() -> bool:
        look = await other.entries.look(KEY, lease=True)
        if look.lease is not None:
            look.lease.release()
        return look.lease is not None

    await eventually(taken, every=0.01, what="the lease given back")


async def test_a_lease_lasts_while_it_is_renewed_and_lapses_when_nobody_does(
    replicas: tuple[Replica, Replica], redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work of any length keeps its lease; that of a replica that died is free soon."""
    monkeypatch.setattr("capstan_gateway.caches.shared.LEASE_MS", 600_000)
    monkeypatch.setattr("capstan_gateway.caches.shared.RENEW_SECONDS", 0.05)
    one, other = replicas
    lease = (await one.entries.look(KEY, lease=True)).lease
    assert lease is not None
    name = where(redis)
    with redis.client() as client:
        client.pexpire(name, 120_000)
        await eventually(lambda: int(client.pttl(name)) > 120_000, what="a lease that is renewed")
        assert (await other.entries.look(KEY, lease=True)).waits
        await one.aclose()  # It has died.
        client.pexpire(name, 100)
        await eventually(lambda: not client.exists(name), what="the end of the lease")
    lease.release()


async def test_what_has_expired_or_is_too_large_is_not_there(replicas: tuple[Replica, Replica]) -> None:
    """Nothing is written that is over, or larger than the policy says."""
    one, other = replicas
    await one.entries.put(KEY, an_entry(lives_ms=0))
    assert await other.entries.look(KEY, lease=False) == Looked()
    small = Replica("redis://localhost:1", max_entry_bytes=10)
    await small.entries.put(KEY, an_entry())
    assert small.counts == []


async def test_what_is_large_comes_by_another_connection(replicas: tuple[Replica, Replica]) -> None:
    """A large entry is put and found as any other one, and leaves the connection of small ones alone."""
    one, other = replicas
    large = an_entry(os.urandom(4 * LARGE_BYTES))
    await one.entries.put(KEY, large)
    assert not one.links.connected
    assert one.large.connected
    assert (await other.entries.look(KEY, lease=True)).entry == large
    assert other.large.connected


class Turns(Threads):
    """Counts the work that it is given."""

    turns = 0

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Do it."""
        self.turns += 1
        return await super().run(function, *arguments)


async def test_what_is_large_together_is_packed_and_read_beside_the_loop(redis: RedisServer) -> None:
    """Many entries, none of them large: one turn of the thread for all of them, and the connection of small ones is
    left alone; what does not read among them is a miss alone."""
    threads = Turns("test")
    replica = Replica(redis.url, threads=threads)
    keys = [KEY._replace(digest=bytes([number]) * 32) for number in range(20)]
    entries = [an_entry(os.urandom(LARGE_BYTES // 10)) for _ in keys]
    await replica.entries.put_all(list(zip(keys, entries, strict=True)))
    assert threads.turns == 1
    assert not replica.links.connected
    asked = [*keys, KEY._replace(digest=b"-" * 32), keys[3]]
    assert await replica.entries.find(asked) == [*entries, None, entries[3]]
    assert threads.turns == 2
    with redis.client() as client:
        (name,) = (name for name in client.keys("capstan:cache:*") if keys[3].digest.hex().encode() in name)
        client.set(name, b"no entry")
    assert await replica.entries.find(asked) == [*entries[:3], None, *entries[4:], None, None]
    threads.close()
    await replica.aclose()


async def test_nothing_is_found_that_is_older_than_the_policy_says_now(redis: RedisServer) -> None:
    """Who has answers live shorter is given none of the older ones that lie in Redis; others end when they should."""
    before, shorter, shortest = (Replica(redis.url, ttl_ms=seconds * 1000) for seconds in (60, 20, 5))
    old = Entry(Form.ANSWER, b"{}", b"application/json", NOW - 10_000, NOW + 50_000)
    await before.entries.put(KEY, old)
    assert (await before.entries.look(KEY, lease=False)).entry == old
    assert (await shorter.entries.look(KEY, lease=False)).entry == old._replace(expires_ms=NOW + 10_000)
    assert (await shortest.entries.look(KEY, lease=False)).entry is None
    assert await shortest.entries.find([KEY]) == [None]
    for replica in (before, shorter, shortest):
        await replica.aclose()


@pytest.mark.parametrize("how", ["changed", "cut", "foreign", "copied", "unsealed", "other key"])
async def test_what_somebody_else_put_there_is_refused_counted_and_deleted(
    how: str, replicas: tuple[Replica, Replica], redis: RedisServer
) -> None:
    """Tampered entries, those of other formats, of another tenant's key or another secret are misses, and go."""
    one, other = replicas
    one.codec = other.codec = Codec(secret=SECRET)
    await one.entries.put(OTHER, an_entry())
    with redis.client() as client:
        copied = bytes(client.get(where(redis, OTHER)))
        name = where(redis, OTHER).replace(OTHER.partition.encode(), KEY.partition.encode())
        unsealed = Codec().write(KEY, an_entry())
        sealed = Codec(secret=SECRET).write(KEY, an_entry())
        client.set(name, {
            "changed": sealed[:-1] + bytes([sealed[-1] ^ 1]), "cut": sealed[:-1], "foreign": b"CPC\x02" + sealed[4:],
            "copied": copied, "unsealed": unsealed, "other key": Codec(secret=b"t" * 32).write(KEY, an_entry()),
        }[how])  # fmt: skip
        look = await other.entries.look(KEY, lease=True)
        assert look.entry is None
        assert look.lease is not None
        assert other.counts.count("unreadable") == 1
        assert not client.exists(name)
    look.lease.release()


async def test_what_is_to_be_sealed_goes_nowhere_without_its_key(
    replicas: tuple[Replica, Replica], redis: RedisServer
) -> None:
    """As long as the key is not there nothing is written and nothing is looked for."""
    one, other = replicas
    one.codec = None
    await one.entries.put(KEY, an_entry())
    assert await one.entries.look(KEY, lease=True) == Looked()
    with redis.client() as client:
        assert client.dbsize() == 0
    assert one.counts == []
    one.codec = other.codec = Codec(secret=SECRET)
    await one.entries.put(KEY, an_entry(b"what nobody may read"))
    with redis.client() as client:
        assert b"nobody may read" not in bytes(client.get(where(redis)))
    assert (await other.entries.look(KEY, lease=False)).entry == an_entry(b"what nobody may read")


async def test_what_is_purged_is_neither_written_nor_found(
    replicas: tuple[Replica, Replica], redis: RedisServer
) -> None:
    """An entry from before a purge that turns up is deleted."""
    one, other = replicas
    await one.entries.put(KEY, an_entry())
    one.purged = other.purged = True
    look = await other.entries.look(KEY, lease=False)
    assert look.entry is None
    await one.entries.put(KEY, an_entry())
    with redis.client() as client:
        assert client.dbsize() == 0


async def test_who_begins_knows_all_that_is_purged_however_much_that_is(
    replicas: tuple[Replica, Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marks are read some at a time: a call may not take long."""
    monkeypatch.setattr(purging, "PAGE", 3)
    one, other = (Purges(replica.links, now_ms=lambda: NOW) for replica in replicas)
    wanted = [Purge(What.MODEL, f"t/{number}") for number in range(8)] + [
        Purge(What.ENTRY, KEY._replace(digest=bytes([number]) * 32).text) for number in range(4)
    ]
    for purge in wanted:
        assert await one.purge(purge)
    assert await other.learn()
    assert all(other.marks.until(purge) > NOW for purge in wanted)


async def test_the_purge_of_all_leaves_what_is_known_of_hits_by_meaning(
    replicas: tuple[Replica, Replica], redis: RedisServer
) -> None:
    """The same questions come again, and what was wrong then would be wrong again."""
    one, _ = replicas
    known = "capstan:cache:1:{live:abc}:events"
    with redis.client() as client:
        client.zadd(known, {"wrong": 1})
        await one.entries.put(KEY, an_entry())
        purges = Purges(one.links, now_ms=lambda: NOW)
        running = asyncio.create_task(purges.run())
        assert await purges.purge(Purge(What.ALL))
        await eventually(lambda: not client.keys("capstan:cache:1:{a*"), what="the end of the entry")
        assert client.exists(known)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_redis_that_is_full_still_gives_what_it_has(redis: RedisServer, tmp_path: Path) -> None:
    """Refused writes are counted, and cost nobody anything: what is there is found."""
    with redis_server(tmp_path) as full:
        one = Replica(full.url)
        await one.entries.put(KEY, an_entry())
        with full.client() as client:
            client.config_set("maxmemory", "1mb")
            client.config_set("maxmemory", "100kb")
        await one.entries.put(OTHER, an_entry())
        assert one.counts[-1] == "refused"
        assert (await one.entries.look(KEY, lease=True)).entry == an_entry()
        assert await one.entries.look(OTHER, lease=True) == Looked()
        assert not one.entries.is_down
        await one.aclose()


async def test_a_redis_that_is_away_is_not_waited_for(tmp_path: Path) -> None:
    """Down from the start, dying, coming back: calls say that nothing is there, at once, and go on when it is back."""
    place = tmp_path / "redis"
    place.mkdir()
    with RedisServer(place) as server:
        server.kill()
        one = Replica(server.url, seconds=120.0)
        assert await one.entries.look(KEY, lease=True) == Looked()
        assert one.entries.is_down
        async with asyncio.timeout(60.0):  # NB: half of what one call would wait.
            for _ in range(200):
                assert await one.entries.look(KEY, lease=True) == Looked()
                await one.entries.put(KEY, an_entry())
        server.start()
        await eventually(lambda: not one.entries.is_down, what="Redis")
        await one.entries.put(KEY, an_entry())
        assert (await one.entries.look(KEY, lease=False)).entry == an_entry()
        server.kill()
        assert await one.entries.look(KEY, lease=True) == Looked()
        assert set(one.counts) == {"failed", "answered"}
        await one.aclose()


async def test_the_keys_of_a_partition_are_in_one_slot(tmp_path: Path) -> None:
    """On a Redis Cluster entries and leases of many partitions are put, looked for and dropped."""
    with redis_cluster(tmp_path) as group:
        one = Replica(cluster_url(group))
        keys = [KEY._replace(partition=f"{number:032x}", digest=bytes([number]) * 32) for number in range(16)]
        for key in keys:
            lease = (await one.entries.look(key, lease=True)).lease
            assert lease is not None
            await one.entries.put(key, an_entry())
            lease.release()
            assert (await one.entries.look(key, lease=True)).entry == an_entry()
        assert len(await nodes_of(one.links)) > 1
        await one.entries.drop(keys)
        assert await one.entries.look(keys[0], lease=False) == Looked()
        assert set(one.counts) == {"answered"}
        await one.aclose()


async def test_what_is_purged_goes_from_all_nodes_and_all_replicas_hear_of_it(tmp_path: Path) -> None:
    """On a Redis Cluster the entries of a model are deleted wherever they are, those of other models stay; another
    replica hears of it, and one that begins later knows it before it reads anything."""
    with redis_cluster(tmp_path) as group:
        replicas = [Replica(cluster_url(group)) for _ in range(3)]
        model = CacheKey("", model_of("t/m"), b"")
        keys = [KEY._replace(partition=f"{number:032x}", model=model.model) for number in range(40)]
        for key in (*keys, KEY):
            await replicas[0].entries.put(key, an_entry())
        purges = [Purges(one.links, now_ms=lambda: NOW) for one in replicas]
        heard: list[Purge] = []
        purges[1].heard.append(heard.append)
        assert await purges[1].learn()
        running = [asyncio.create_task(one.run()) for one in purges[:2]]
        purges[1].want()
        wanted = Purge(What.MODEL, "t/m")
        assert await purges[0].purge(wanted)

        def left() -> int:
            total = 0
            for node in group:
                with node.client() as client:
                    total += len(client.keys("capstan:cache:*"))
            return total

        await eventually(lambda: left() == 1, what="the end of the model's entries")
        await eventually(lambda: heard == [wanted], what="the other replica")
        assert await purges[2].learn()
        assert purges[2].marks.until(wanted) > NOW
        assert purges[2].covers(lambda: b"")(keys[0], NOW)
        assert not purges[2].covers(lambda: b"")(KEY, NOW)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for one in replicas:
            await one.aclose()


def cluster_url(group: list[RedisServer]) -> str:
    """Give where a Redis Cluster is."""
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in group)


async def nodes_of(links: Links) -> list[object]:
    """Give all nodes."""
    return list(await links.nodes())
