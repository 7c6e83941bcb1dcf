"""Whatever clients and workers do to background responses, in whatever order: states go forward, and each ends once."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.background.names import OPEN as LISTED
from capstan_gateway.background.names import Names
from capstan_gateway.background.outcomes import Outcome, cancelled, failure
from capstan_gateway.background.records import Record, Spec, Told
from capstan_gateway.background.state import Lease, LeaseLost, OpenResponses, TooManyOpen
from capstan_gateway.background.status import ENDS, OPEN, Status, may_follow
from capstan_gateway.identity.principal import Principal
from capstan_gateway.stores.redis import RedisStore
from capstan_gateway.stores.responses import Bounds, Stored
from support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.redis
RNG = Random(1)  # noqa: S311 - jitter
NAMES = Names.of("acme")
MOST = 3
WORKERS = ("a", "b")
OF_WORKERS = ("acquire", "renew", "begin", "complete", "fail", "release")
STEP = st.one_of(
    st.tuples(st.just("create"), st.integers(0, 4), st.sampled_from(("", *WORKERS))),
    st.tuples(st.sampled_from(OF_WORKERS), st.integers(0, 4), st.sampled_from(WORKERS)),
    st.tuples(st.sampled_from(("lapse", "cancel", "drop")), st.integers(0, 4), st.just("")),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all examples, each of which empties it."""
    with redis_server(Path(tmp_path_factory.mktemp("redis"))) as running:
        yield running


def test_nothing_goes_back() -> None:
    """No state is reached twice, nothing follows an end, and each end can be reached from the beginning."""
    order = [Status.QUEUED, Status.IN_PROGRESS, *ENDS]
    for before in Status:
        for after in Status:
            if may_follow(before, after):
                assert before in OPEN
                assert order.index(before) < order.index(after)
    reached = {Status.QUEUED}
    for _ in Status:
        reached |= {after for before in reached for after in Status if may_follow(before, after)}
    assert reached == set(Status)


@given(steps=st.lists(STEP, max_size=25))
def test_each_response_ends_once(server: RedisServer, steps: Sequence[tuple[str, int, str]]) -> None:
    """A response goes forward only, has one end, which stays as it is, and is changed by nobody but its client and
    whoever has its lease; what is open is counted and listed, and nothing else is."""
    with server.client() as client:
        client.flushall()
        asyncio.run(_play(server.url, client, steps))


async def _play(url: str, client: Any, steps: Sequence[tuple[str, int, str]]) -> None:
    redis = RedisStore(url, seconds=30, rng=RNG)
    try:
        world = _World(redis, client)
        for what, number, worker in steps:
            await world.step(what, number, worker)
            await world.check()
    finally:
        await redis.aclose()


class _World:
    """The real thing beside a model of it."""

    def __init__(self, redis: RedisStore, client: Any) -> None:
        bounds = Bounds(seconds=600, response_bytes=100_000, responses=100, tenant_bytes=1_000_000)
        self.real = OpenResponses(redis, bounds, most=MOST, seconds=600, lease_seconds=1000.0)
        self.client = client
        self.status: dict[str, Status] = {}
        self.holder: dict[str, str] = {}
        self.ended: dict[str, Stored] = {}
        self.gone: set[str] = set()

    async def step(self, what: str, number: int, worker: str) -> None:
        one = f"resp_cs{number:040x}"
        lease = Lease(NAMES, one, worker)
        if what == "create":
            await self._create(one, worker)
        elif what == "lapse":
            if one in self.holder:
                self.client.hset(NAMES.response(one), "until", 0)
                self.holder[one] += " once"
        elif what == "cancel":
            record = await self.real.find(NAMES, one)
            assert (record is not None) == (one in self.status)
            if record is not None:
                assert await self.real.cancel(NAMES, one, cancelled(record))
                self._end(one, cancelled(record))
        elif what == "drop":
            assert await self.real.drop(NAMES, one) is (self.status.pop(one, None) is not None)
            self.holder.pop(one, None)
            self.gone.add(one)
        elif what == "acquire":
            await self._acquire(lease)
        else:
            await self._work(what, lease)

    async def _create(self, one: str, worker: str) -> None:
        if one in self.status or one in self.ended or one in self.gone:
            return
        spec = Spec(id=one, created_at=1, expires_at=2, principal=Principal(tenant="acme", models=("a*",)), by_key=True)
        told = Told.of({"model": "m"}, response_id=one, now=1)
        if len(self.status) == MOST:
            with pytest.raises(TooManyOpen):
                await self.real.create(NAMES, spec, told, b'{"input":"x"}', token=worker)
            return
        await self.real.create(NAMES, spec, told, b'{"input":"x"}', token=worker)
        self.status[one] = Status.QUEUED
        if worker:
            self.holder[one] = worker
        record = await self.real.find(NAMES, one)
        assert record is not None
        assert record.spec == spec

    async def _acquire(self, lease: Lease) -> None:
        one, holder = lease.response_id, self.holder.get(lease.response_id)
        taken = await self.real.acquire(lease)
        if one not in self.status:
            assert taken == -1
        elif holder is None or holder.endswith(" once"):
            assert taken >= 1
            self.holder[one] = lease.token
        else:
            assert taken == 0

    async def _work(self, what: str, lease: Lease) -> None:
        one = lease.response_id
        mine = one in self.status and self.holder.get(one, "").removesuffix(" once") == lease.token
        record = await self.real.find(NAMES, one)
        if what == "release":
            await self.real.release(lease)
            if mine:
                del self.holder[one]
            return
        outcome = _outcome(what, record)
        ends = what in ("complete", "fail")
        mine = mine and (not ends or may_follow(self.status[one], outcome.status))
        call = {"renew": self.real.renew, "begin": self.real.begin}.get(what)
        try:
            await (self.real.end(lease, outcome) if call is None else call(lease))
        except LeaseLost:
            assert not mine
            return
        assert mine
        if what == "renew":
            self.holder[one] = lease.token
        elif what == "begin":
            self.status[one] = Status.IN_PROGRESS
        else:
            self._end(one, outcome)

    def _end(self, one: str, outcome: Outcome) -> None:
        del self.status[one]
        self.holder.pop(one, None)
        self.ended[one] = outcome.stored

    async def check(self) -> None:
        """The real thing is what the model says."""
        for one, status in self.status.items():
            record = await self.real.find(NAMES, one)
            assert record is not None
            assert record.status is status
            assert not self.client.exists(NAMES.stored + one)
        for one, stored in self.ended.items():
            assert await self.real.find(NAMES, one) is None
            found = self.client.hmget(NAMES.stored + one, "response", "items")
            assert found == [stored.response, stored.items]
        assert {name.decode() for name in self.client.hkeys(NAMES.open)} == set(self.status)
        assert {name.decode().split("/")[1] for name in self.client.hkeys(LISTED)} == set(self.status)


def _outcome(what: str, record: Record | None) -> Outcome:
    if what == "fail" and record is not None:
        return failure(record, "no")
    return Outcome(Status.COMPLETED, Stored(orjson.dumps({"status": "completed", "output": []}), b"[]"))
