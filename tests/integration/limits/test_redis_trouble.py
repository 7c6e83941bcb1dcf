"""Limits while Redis is slow, gone, full, emptied or moved: what a request waits, and what decides."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from capstan_gateway.life.jobs import Jobs
from capstan_gateway.life.lifecycle import Lifecycle
from capstan_gateway.limits.limiter import StoreLimiter
from capstan_gateway.limits.port import Bucket, Charge, Outcome, Quota, Reservation, Slots, StoreDown, Verdict
from capstan_gateway.limits.room import Counting, make_counting, unix_ms
from capstan_gateway.settings import Settings
from capstan_gateway.telemetry.metrics import Metrics
from support.redis_groups import redis_cluster, sentinel_group
from support.redis_server import RedisServer, redis_server
from support.wait import eventually

pytestmark = pytest.mark.redis
LIMIT = 100
SECONDS = 3.0
"""Deadline of a call: more than in production, so that a busy machine is not taken for an outage."""
AGAIN_AND_AGAIN = 200


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own."""
    with redis_server(tmp_path) as running:
        yield running


class Rig:
    """A gateway's limiter on a Redis."""

    def __init__(self, counting: Counting, metrics: Metrics) -> None:
        self.counting, self.metrics = counting, metrics
        assert isinstance(counting.limiter, StoreLimiter)
        self.limiter = counting.limiter
        now = unix_ms()
        self._rule = Quota(LIMIT, (now - 10_000, now + 3_600_000, now + 7_200_000))

    def charge(self, amount: int = 1, key: str = "k") -> list[Charge]:
        """What one request takes."""
        return [Charge(Bucket("policy", key, self._rule), amount)]

    async def ask(self, amount: int = 1, *, local: bool = False, key: str = "k") -> Reservation | Verdict | None:
        """Ask for one request; None: the store is down."""
        try:
            return await self.limiter.reserve(self.charge(amount, key), local=local)
        except StoreDown:
            return None

    async def held(self, amount: int = 1, *, local: bool = False, key: str = "k") -> Reservation:
        """Take this; it has to be admitted."""
        found = await self.ask(amount, local=local, key=key)
        assert found is not None
        assert not isinstance(found, Verdict)
        return found

    async def left(self, key: str = "k") -> int:
        """Say how much Redis has, when it has been told everything."""
        await eventually(lambda: self.limiter.up and not self.limiter.waiting, every=0.01, what="Redis")
        reservation = await self.held(0, key=key)
        found = reservation.verdict.standings[0].remaining
        reservation.settle([0])
        return found

    async def at_once(self, *, local: bool) -> list[Any]:
        """Ask again and again while Redis is away: if each waited for a deadline, this would take minutes."""
        async with asyncio.timeout(AGAIN_AND_AGAIN * SECONDS / 2):
            return [await self.ask(local=local) for _ in range(AGAIN_AND_AGAIN)]

    def sample(self, name: str, **labels: str) -> float | None:
        """Give a metric."""
        return self.metrics.registry.get_sample_value(name, labels)


@asynccontextmanager
async def rig(url: str, **options: Any) -> AsyncIterator[Rig]:
    """A limiter that lives until the block ends."""
    settings = Settings(
        insecure_no_auth=True, redis_url=url, redis_limit_seconds=SECONDS, limits_one_by_one=True, **options
    )
    metrics = Metrics()
    made = Rig(make_counting(settings, metrics=metrics, rng=Random(1)), metrics)  # noqa: S311 - jitter
    lifecycle = Lifecycle()
    made.counting.live_in(lifecycle)
    work = asyncio.create_task(Jobs(rng=Random(1)).run(lifecycle.jobs))  # noqa: S311 - jitter
    try:
        await eventually(lambda: made.sample("gateway_redis_calls_total", call="pulse", outcome="answered"), every=0.01)
        yield made
    finally:
        await lifecycle.aclose()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


@pytest.mark.parametrize("how", ["killed", "stopped", "swallowed"])
async def test_redis_is_gone(tmp_path: Path, how: str) -> None:
    """A Redis that is killed, hangs, or whose packets go nowhere costs each gateway one deadline at most; then requests
    are decided at once, by this gateway's part or not at all. Back again, everything has been counted once."""
    with redis_server(tmp_path) as server:
        async with swallowing(server.port) as proxy, rig(f"redis://127.0.0.1:{proxy.port}") as made:
            before = await made.held(10)
            if how == "killed":
                proxy.refuse()
            elif how == "stopped":
                server.pause()
            else:
                proxy.swallow()
            found = await made.ask(20, local=True)
            assert not isinstance(found, Verdict | None)
            assert await made.at_once(local=False) == [None] * AGAIN_AND_AGAIN
            assert not made.limiter.up
            assert made.counting.notes() != ()
            assert made.sample("gateway_limits_without_redis") == 1
            before.settle([7])
            found.settle([15])
            running = await made.held(30, local=True)
            assert isinstance(await made.ask(90, local=True), Verdict)
            server.go_on()
            proxy.let_through()
            assert await made.left() == LIMIT - 7 - 15 - 30
            running.settle([29])
            assert await made.left() == LIMIT - 7 - 15 - 29
            assert made.counting.notes() == ()
            assert made.sample("gateway_limits_without_redis") == 0


async def test_a_redis_that_comes_back_empty(server: RedisServer) -> None:
    """A Redis that has lost everything begins anew, but for what runs: that is taken again before anybody is let in."""
    async with rig(server.url) as made:
        await made.held(60)
        stream = await made.held(20)
        server.kill()
        await eventually(lambda: not made.limiter.up, every=0.01)
        server.start()
        await eventually(lambda: made.limiter.up, every=0.01)
        assert await made.left() == LIMIT - 60 - 20
        assert (await stream.extend([5], used=[20])).admitted
        assert await made.left() == LIMIT - 60 - 25


async def test_forgotten_scripts(server: RedisServer) -> None:
    """SCRIPT FLUSH is noticed by nobody."""
    async with rig(server.url) as made:
        with server.client() as client:
            for amount in (5, 6):
                client.script_flush()
                (await made.held(amount)).settle([amount])
                client.script_flush()
                assert await made.left() == LIMIT - (5 if amount == 5 else 11)
        assert made.limiter.tally.outages == 0


async def test_no_memory(server: RedisServer) -> None:
    """A Redis that is full refuses what is new, which is then decided without it, and still takes what ends."""
    async with rig(server.url) as made:
        running = await made.held(40)
        with server.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", 1)
            assert await made.ask(1, local=False) is None
            assert await made.at_once(local=False) == [None] * AGAIN_AND_AGAIN
            (await made.held(10, local=True)).settle([9])
            running.settle([33])
            client.config_set("maxmemory", 0)
        assert await made.left() == LIMIT - 33 - 9


async def test_a_user_with_few_rights(server: RedisServer) -> None:
    """The rights that the documentation names are enough; one that may not write is an outage like any other."""
    with server.client() as client:
        rights = ["~capstan:*", "+@read", "+@write", "+@scripting", "+@connection", "+time"]
        client.execute_command("ACL", "SETUSER", "limits", "on", ">s3cret", *rights)
        async with rig(f"redis://limits:s3cret@127.0.0.1:{server.port}/0") as made:
            (await made.held(10)).settle([10])
            assert await made.left() == LIMIT - 10
            client.execute_command("ACL", "SETUSER", "limits", "-@write")
            assert await made.ask(1) is None
            assert await made.at_once(local=False) == [None] * AGAIN_AND_AGAIN
            client.execute_command("ACL", "SETUSER", "limits", "+@write")
            assert await made.left() == LIMIT - 10


async def test_failover(tmp_path: Path) -> None:
    """After a failover the new master decides, by what it had been told; meanwhile nobody waits."""
    with sentinel_group(tmp_path) as group:
        async with rig(group.url) as made:
            (await made.held(10)).settle([10])
            assert await made.left() == LIMIT - 10
            with group.master.client() as client:
                client.set("capstan:test", 1)
                assert client.execute_command("WAIT", 1, 10_000) == 1
            group.master.kill()
            await eventually(lambda: not made.limiter.up, every=0.01)
            assert await made.at_once(local=False) == [None] * AGAIN_AND_AGAIN
            (await made.held(5, local=True)).settle([5])
            assert await made.left() == LIMIT - 15


async def test_a_cluster(tmp_path: Path) -> None:
    """In a Redis Cluster each policy is in one slot, and everything works as on one server."""
    with redis_cluster(tmp_path) as servers:
        async with rig(f"redis+cluster://127.0.0.1:{servers[0].port}") as made:
            for number in range(20):
                bucket = Bucket(f"policy{number}", "k", Slots(3))
                found = [await made.limiter.reserve([Charge(bucket, 1)], local=False) for _ in range(4)]
                assert isinstance(found[3], Verdict)
                assert found[3].outcome is Outcome.WAIT
                for one in found[:3]:
                    assert not isinstance(one, Verdict)
                    one.settle([0])
            await eventually(lambda: not made.limiter.waiting, every=0.01)
            assert made.limiter.tally.outages == 0
            assert {bool(_keys(server)) for server in servers} == {True}


def _keys(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.dbsize())


async def test_nothing_stays_behind(server: RedisServer) -> None:
    """Every key has a time to live."""
    async with rig(server.url) as made:
        await made.held(10)
        (await made.held(10)).settle([10])
        await made.left()
        with server.client() as client:
            keys = list(client.scan_iter("*"))
            assert len(keys) > 3
            assert all(client.pttl(key) > 0 for key in keys)


class Proxy:
    """Between a gateway and Redis."""

    def __init__(self, port: int) -> None:
        self._to, self.port = port, 0
        self._swallows = self._refuses = False
        self._writers: list[asyncio.StreamWriter] = []

    def swallow(self) -> None:
        """From now on nothing arrives anywhere, and nobody is told."""
        self._swallows = True

    def refuse(self) -> None:
        """Close everything, and take nothing any more."""
        self._refuses = True
        for writer in self._writers:
            writer.transport.abort()

    def let_through(self) -> None:
        """Be a cable again; connections that have lost something stay dead."""
        self.refuse()
        self._swallows = self._refuses = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        if self._refuses:
            writer.transport.abort()
            return
        other, out = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers += (writer, out)
        await asyncio.gather(self._carry(reader, out), self._carry(other, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                if not self._swallows:
                    writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()


@asynccontextmanager
async def swallowing(port: int) -> AsyncIterator[Proxy]:
    """A proxy until the block ends."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        proxy.refuse()
        server.close()
        await server.wait_closed()
