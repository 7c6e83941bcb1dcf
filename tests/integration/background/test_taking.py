"""Which background responses a gateway takes, when, and what is left of one that was not made: a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from capstan_gateway.background.means import Means
from capstan_gateway.background.names import OPEN, Names
from capstan_gateway.background.port import Slot
from capstan_gateway.background.records import Spec, Told
from capstan_gateway.background.runner import Runner
from capstan_gateway.background.state import ORPHAN_SECONDS, Lease, OpenResponses
from capstan_gateway.identity.principal import Principal
from capstan_gateway.life.threads import Threads
from capstan_gateway.memory import MemoryBudget, Share
from capstan_gateway.own_asks import Answer
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.redis import RedisStore
from capstan_gateway.stores.responses import Bounds, Stored
from capstan_gateway.telemetry.metrics import Metrics
from support.redis_server import RedisServer, redis_server
from support.wait import eventually

pytestmark = pytest.mark.redis
RNG = Random(1)  # noqa: S311 - jitter
NAMES = Names.of("acme")
BOUNDS = Bounds(seconds=600, response_bytes=100_000, responses=10_000, tenant_bytes=100_000_000)
BODY = b'{"model":"m","input":"x"}'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own."""
    with redis_server(tmp_path) as running:
        yield running


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    """It, as the gateway sees it."""
    made = RedisStore(server.url, seconds=30, rng=RNG)
    yield made
    await made.aclose()


def responses_in(store: Any, **changed: Any) -> OpenResponses:
    """Give those in this Redis."""
    return OpenResponses(store, BOUNDS, most=5000, seconds=600, lease_seconds=1000.0, **changed)


def lease(number: int, token: str = "a", names: Names = NAMES) -> Lease:  # noqa: S107 - no secret
    """Give one of a response."""
    return Lease(names, f"resp_cs{number:040x}", token)


async def create(responses: OpenResponses, number: int, *, token: str = "", tenant: str = "acme") -> None:
    """Take one."""
    one = lease(number).response_id
    principal = Principal(tenant=tenant, key="k")
    spec = Spec(id=one, created_at=1, expires_at=1 << 40, principal=principal, by_key=True)
    told = Told.of({"model": "m"}, response_id=one, now=1)
    await responses.create(Names.of(tenant), spec, told, BODY, token=token)


@dataclass
class Asking:
    """A gateway that answers when its gate is open; implements `port.Asks`."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[int] = field(default_factory=list)
    is_ready: bool = True

    def still(self, principal: Principal, *, by_key: bool) -> Principal | None:
        return principal

    async def respond(
        self, body: bytes, principal: Principal, slot: Slot, share: Share, *, headers: Sequence[Any] = ()
    ) -> Answer:
        self.asked.append(int(slot.number.removeprefix("cs"), 16))
        await self.gate.wait()
        told = orjson.dumps({"id": f"resp_{slot.number}", "status": "completed", "output": []})
        slot.keep("acme", slot.number, Stored(told, b"[]"))
        return Answer(200, (), told)


@asynccontextmanager
async def runner_of(responses: OpenResponses, asks: Asking, *, concurrency: int = 1) -> AsyncIterator[Runner]:
    """Have a runner work."""
    threads = Threads("test", queued=8)
    means = Means(
        responses=responses, asks=asks, threads=threads, budget=MemoryBudget(1 << 30), concurrency=concurrency,
        count=lambda _: None,
    )  # fmt: skip
    runner = Runner(means, rng=RNG, running=Metrics().background_running.at())
    running = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        threads.close()


class Failing:
    """A Redis that does not answer one of the calls, which was carried out or not."""

    def __init__(self, inner: RedisStore, *, at: int, done: bool) -> None:
        self.calls = 0
        self._inner = inner
        self._at = at
        self._done = done

    async def run_script(self, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> int:
        self.calls += 1
        if self.calls != self._at:
            return await self._inner.run_script(script, keys, arguments)
        if self._done:
            await self._inner.run_script(script, keys, arguments)
        raise StoreDown("away")

    async def read_all(self, key: str) -> dict[bytes, bytes]:
        return await self._inner.read_all(key)


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("at", [1, 2])
async def test_what_was_not_acknowledged_leaves_nothing(
    store: RedisStore, server: RedisServer, at: int, done: bool
) -> None:
    """Whichever call Redis does not answer when a response is taken: none is there, none counts as one of the tenant's,
    and its name is forgotten when it can become none any more."""
    clock = [1_000_000.0]
    responses = responses_in(Failing(store, at=at, done=done), wall=lambda: clock[0])
    with pytest.raises(StoreDown):
        await create(responses, 1)
    with server.client() as looking:
        assert looking.hkeys(NAMES.open) == []
        assert await responses.find(NAMES, lease(1).response_id) is None
        asks = Asking()
        async with runner_of(responses, asks, concurrency=2):
            await create(responses, 2)
            await eventually(lambda: asks.asked == [2], what="another one")
            clock[0] += ORPHAN_SECONDS
            await eventually(lambda: len(looking.hkeys(OPEN)) == 1, what="the end of the name")


async def test_a_name_is_not_forgotten_before_its_response_is_made(store: RedisStore, server: RedisServer) -> None:
    """Who looks for work between the two calls by which a response is taken finds none, and it is found later."""
    responses, asks = responses_in(store), Asking()
    with server.client() as looking:
        async with runner_of(responses, asks):
            await create(responses, 1)
            await eventually(lambda: asks.asked == [1], what="the first one")
        whole = looking.hgetall(NAMES.response(lease(1).response_id))
        looking.unlink(NAMES.response(lease(1).response_id))
        async with runner_of(responses, asks):
            await create(responses, 2)
            await eventually(lambda: asks.asked == [1, 2], what="the next one, and a look at the first")
        whole.pop(b"until"), whole.pop(b"token", None)
        looking.hset(NAMES.response(lease(1).response_id), mapping=whole)
        async with runner_of(responses, asks, concurrency=2):
            await eventually(lambda: asks.asked.count(1) == 2, what="the first one")


async def test_what_others_have_hides_nothing(store: RedisStore) -> None:
    """However many older responses of a tenant are worked on elsewhere, a gateway with a place gets to those that
    nobody has."""
    responses, asks = responses_in(store), Asking()
    for number in range(700):
        await create(responses, number, token="elsewhere")
    await create(responses, 700)
    async with runner_of(responses, asks):
        await eventually(lambda: asks.asked == [700], what="the one that nobody has", seconds=120)


async def test_who_has_waited_goes_first(store: RedisStore) -> None:
    """While others wait for a place, a request that comes now takes none before them, and tenants take turns."""
    responses, asks = responses_in(store), Asking()
    for number in range(3):
        await create(responses, number)
    async with runner_of(responses, asks) as runner:
        await eventually(lambda: asks.asked == [0], what="the first one")
        runner.look_soon()
        asks.gate.set()
        while not runner.is_free:  # noqa: ASYNC110 - the very moment in which the place is free
            await asyncio.sleep(0)
        assert not runner.reserve()
        await eventually(lambda: asks.asked == [0, 1, 2], what="all of them")
        await eventually(runner.reserve, what="a place, when nobody waits")


async def test_nobody_is_taken_for_gone_of_whom_was_not_heard(store: RedisStore, server: RedisServer) -> None:
    """Behind a time without Redis a lease that has ended is still its holder's, who may have the answer: what nobody
    has is taken, and what was given back."""
    responses = responses_in(store)
    await create(responses, 1, token="a")
    with server.client() as looking:
        looking.hset(NAMES.response(lease(1).response_id), "until", 0)
    assert await responses.acquire(lease(1, "b"), lapsed=False) == 0
    await responses.begin(lease(1, "a"))
    await responses.release(lease(1, "a"))
    assert await responses.acquire(lease(1, "b"), lapsed=False) == 1
    with server.client() as looking:
        looking.hset(NAMES.response(lease(1).response_id), "until", 0)
    assert await responses.acquire(lease(1, "c")) == 2
    await responses.release(lease(1, "c"), seconds=1000.0, waits=3, unsent=True)
    assert await responses.acquire(lease(1, "d")) == 0
    record = await responses.find(NAMES, lease(1).response_id)
    assert record is not None
    assert (record.waits, record.unsent) == (3, True)
