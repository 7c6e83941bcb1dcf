"""Responses in a real Redis: bounds, times to live, and what happens while it is away."""

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import redis as client_library

from capstan_contract.evaluation import Criterion, Evaluation
from capstan_contract.feedback import Feedback, Label
from capstan_contract.samples import put_call
from capstan_gateway.feedback.given import Answered, Name
from capstan_gateway.feedback.port import Put
from capstan_gateway.feedback.redis import RedisFeedback, SharedGiven
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.settings import Settings
from capstan_gateway.stores.keys import tenant_prefix
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.redis import RedisStore
from capstan_gateway.stores.responses import Bounds, ResponseStore, Stored
from capstan_gateway.stores.room import make_stores
from capstan_gateway.telemetry.metrics import Metrics
from support.needs import ROOT
from support.ports import free_port
from support.redis_groups import redis_cluster, sentinel_group
from support.redis_server import RedisServer, redis_server
from support.wait import eventually

pytestmark = pytest.mark.redis
INSTALL = ROOT / "docs/install.md"
RNG = Random(1)  # noqa: S311 - jitter
BOUNDS = Bounds(seconds=600, response_bytes=100_000, responses=3, tenant_bytes=200_000)


class Rig:
    """A store before one Redis, and what it counts."""

    def __init__(self, url: str, bounds: Bounds = BOUNDS, *, seconds: float = 5.0) -> None:
        rng = RNG
        self.calls: list[tuple[str, str]] = []
        self.counts: list[str] = []
        self.dropped = 0
        self.redis = RedisStore(url, seconds=seconds, rng=rng, on_call=lambda *call: self.calls.append(call))
        self.budget = MemoryBudget(1 << 30)
        self.store = ResponseStore(
            self.redis, bounds, budget=self.budget, rng=rng, count=self.counts.append, on_dropped=self._drop
        )

    def _drop(self, count: int) -> None:
        self.dropped += count

    async def put(self, response_id: str, size: int = 10, tenant: str = "t") -> None:
        """Keep a response, and wait until it is written."""
        assert self.store.keep(tenant, response_id, Stored(b"x" * size, b"[]"))
        await self.written()

    async def written(self) -> None:
        """Wait until nothing waits."""
        await eventually(lambda: self.budget.held == 0, every=0.005, what="the end of writing")

    async def kept(self, *response_ids: str, tenant: str = "t") -> list[str]:
        """Say which of these are there."""
        return [one for one in response_ids if await self.store.load(tenant, one) is not None]


@asynccontextmanager
async def rig(url: str, bounds: Bounds = BOUNDS, *, seconds: float = 5.0) -> AsyncIterator[Rig]:
    """A store whose work goes on until the block ends."""
    made = Rig(url, bounds, seconds=seconds)
    work = asyncio.create_task(made.store.run())
    try:
        yield made
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await made.redis.aclose()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own."""
    with redis_server(tmp_path) as running:
        yield running


async def test_what_is_kept_comes_back(server: RedisServer) -> None:
    """A response and its items are given as they were, by another gateway as well."""
    stored = Stored(b'{"a":"\xc3\xb6"}', b'[{"b":1}]')
    async with rig(server.url) as one, rig(server.url) as other:
        assert one.store.keep("t", "r1", stored)
        await one.written()
        assert await other.store.load("t", "r1") == stored
        assert await other.store.load("u", "r1") is None
        assert await other.store.delete("u", "r1") is False
        assert await other.store.delete("t", "r1") is True
        assert (await one.store.load("t", "r1"), await one.store.delete("t", "r1")) == (None, False)


async def test_the_oldest_go_first(server: RedisServer) -> None:
    """Of one response more than a tenant may have, the one that came first goes; other tenants keep theirs."""
    async with rig(server.url) as made:
        await made.put("other", tenant="u")
        for name in ("r1", "r2", "r3", "r4", "r5"):
            await made.put(name)
        assert await made.kept("r1", "r2", "r3", "r4", "r5") == ["r3", "r4", "r5"]
        assert await made.kept("other", tenant="u") == ["other"]


async def test_bytes_are_bounded(server: RedisServer) -> None:
    """As many go as there must, from the oldest on, so that a large one has room."""
    async with rig(server.url) as made:
        for name in ("r1", "r2"):
            await made.put(name, 90_000)
        await made.put("r3", 95_000)
        assert await made.kept("r1", "r2", "r3") == ["r2", "r3"]
        await made.put("r4", 10)
        assert await made.kept("r2", "r3", "r4") == ["r2", "r3", "r4"]


async def test_smaller_bounds_hold_with_the_next_response(server: RedisServer) -> None:
    """Who lowers the bounds has them hold as soon as something is kept; nothing above them is kept at all."""
    async with rig(server.url) as made:
        for name in ("r1", "r2", "r3"):
            await made.put(name)
    small = Bounds(seconds=600, response_bytes=100_000, responses=1, tenant_bytes=5_000)
    async with rig(server.url, small) as made:
        await made.put("r4")
        assert await made.kept("r1", "r2", "r3", "r4") == ["r4"]
        await made.put("r5", 6_000)
        assert (await made.kept("r4", "r5"), made.counts) == (["r4"], ["kept", "too_large"])
    none = Bounds(seconds=600, response_bytes=100_000, responses=1, tenant_bytes=520)
    async with rig(server.url, none) as made:
        await made.put("r6")
        assert await made.kept("r4", "r6") == []


async def test_a_response_written_twice_is_there_once(server: RedisServer) -> None:
    """What is tried again because its answer was lost counts once, with its last size."""
    async with rig(server.url) as made:
        await made.put("r1", 10)
        await made.put("r1", 40)
        await made.put("r2")
        await made.put("r3")
        assert await made.kept("r1", "r2", "r3") == ["r1", "r2", "r3"]
        with server.client() as client:
            sizes = client.hgetall(tenant_prefix("t") + "sizes")
        assert sizes == {b"r1": b"554", b"r2": b"524", b"r3": b"524", b"": b"1602"}


async def test_every_key_ends_by_itself(server: RedisServer) -> None:
    """Nothing stays for ever: the response, its tenant's index and the sizes have a time to live."""
    async with rig(server.url) as made:
        await made.put("r1")
        with server.client() as client:
            lives = {key.decode(): client.ttl(key) for key in client.keys("*")}
        prefix = tenant_prefix("t")
        assert set(lives) == {f"{prefix}r1", f"{prefix}index", f"{prefix}sizes"}
        assert all(590 <= life <= 600 for life in lives.values())


async def test_those_that_ended_count_no_more(server: RedisServer) -> None:
    """A response whose time is over is not found, and leaves the index with the next one that comes."""
    short = Bounds(seconds=1, response_bytes=100_000, responses=3, tenant_bytes=200_000)
    async with rig(server.url, short) as made:
        await made.put("r1")
        assert made.counts == ["kept"]
        await eventually(lambda: _is_gone(made, "r1"), what="the end of the response")
        await made.put("r2")
        with server.client() as client:
            assert client.zrange(tenant_prefix("t") + "index", 0, -1) == [b"r2"]


async def _is_gone(made: Rig, response_id: str) -> bool:
    return await made.store.load("t", response_id) is None


@pytest.mark.parametrize("lost", ["index", "sizes"])
async def test_an_index_that_was_evicted(server: RedisServer, lost: str) -> None:
    """When Redis has thrown the index away, or the sizes, what cannot be counted goes, and all counts anew."""
    async with rig(server.url) as made:
        await made.put("r1")
        await made.put("r2")
        with server.client() as client:
            client.delete(tenant_prefix("t") + lost)
        await made.put("r3")
        assert await made.kept("r1", "r2", "r3") == ["r3"]
        for name in ("r4", "r5", "r6"):
            await made.put(name)
        assert await made.kept("r3", "r4", "r5", "r6") == ["r4", "r5", "r6"]


async def test_scripts_that_were_forgotten(server: RedisServer) -> None:
    """A Redis that has forgotten the scripts is told them again; nobody notices."""
    async with rig(server.url) as made:
        await made.put("r1")
        with server.client() as client:
            client.script_flush()
        await made.put("r2")
        assert await made.kept("r1", "r2") == ["r1", "r2"]
        with server.client() as client:
            client.script_flush()
        assert await made.store.delete("t", "r1") is True
        assert ("script", "failed") not in made.calls


async def test_killed_and_started_again(server: RedisServer) -> None:
    """While it is away reading fails at once and what is kept waits; it is written when there is a Redis again."""
    async with rig(server.url) as made:
        await made.put("r1")
        server.kill()
        with pytest.raises(StoreDown):
            await made.store.load("t", "r1")
        assert made.redis.failure is not None
        assert made.store.keep("t", "r2", Stored(b"x", b"[]"))
        assert await made.kept("r2") == ["r2"]
        await eventually(lambda: ("script", "failed") in made.calls, what="an attempt")
        server.start()
        await made.written()
        with server.client() as client:
            assert client.hget(tenant_prefix("t") + "r2", "response") == b"x"
        assert await made.kept("r1", "r2") == ["r2"]
        assert (made.redis.failure, made.dropped) == (None, 0)


async def test_stopped_in_the_middle(server: RedisServer) -> None:
    """A Redis that keeps connections and answers nothing costs its deadline, and takes what waits when it goes on."""
    async with rig(server.url, seconds=2.0) as made:
        await made.put("r1")
        server.pause()
        assert made.store.keep("t", "r2", Stored(b"x", b"[]"))
        results = await asyncio.gather(*(made.store.load("t", "r1") for _ in range(100)), return_exceptions=True)
        assert {type(result) for result in results} == {StoreDown}
        server.go_on()
        await made.written()
        assert (await made.kept("r1", "r2"), made.dropped) == (["r1", "r2"], 0)


async def test_dead_connections_are_not_noticed(server: RedisServer) -> None:
    """Connections that the server has closed meanwhile are made anew: no call fails for it."""
    async with rig(server.url) as made:
        await asyncio.gather(*(made.store.load("t", "r1") for _ in range(5)))
        server.kill()
        server.start()
        await made.put("r1")
        assert await made.kept("r1") == ["r1"]
        assert {outcome for _, outcome in made.calls} == {"answered"}


async def test_nothing_there_at_all() -> None:
    """Where nobody listens every call fails at once, and the gateway is told why by the kind of error."""
    async with rig(f"redis://127.0.0.1:{free_port()}/0") as made:
        with pytest.raises(StoreDown):
            await made.store.load("t", "r1")
        assert made.redis.failure == "ConnectionError"


async def test_a_full_redis_takes_no_more(tmp_path: Path) -> None:
    """A Redis without room refuses: that is a failure like others, and it goes on when there is room."""
    with redis_server(tmp_path, flags=("--maxmemory", "100kb", "--maxmemory-policy", "noeviction")) as server:
        async with rig(server.url) as made:
            assert made.store.keep("t", "r1", Stored(b"x" * 50_000, b"[]"))
            await eventually(lambda: made.calls.count(("script", "refused")) >= 2, what="refusals")
            assert (await made.kept("r2"), made.redis.failure) == ([], "OutOfMemoryError")
            with server.client() as client:
                client.config_set("maxmemory", "100mb")
            await made.written()
            assert (await made.kept("r1"), made.redis.failure) == (["r1"], None)


async def test_the_password(tmp_path: Path) -> None:
    """A password in the URL or beside it opens; a wrong one fails, and stands in no error."""
    with redis_server(tmp_path, password="s3cr@t/ü") as server:
        plain = f"redis://127.0.0.1:{server.port}/0"
        for url, password in (
            (f"redis://:s3cr%40t%2F%C3%BC@127.0.0.1:{server.port}/0", None),
            (plain, "s3cr@t/ü"),
            (f"redis://default@127.0.0.1:{server.port}", "s3cr@t/ü"),
        ):
            store = RedisStore(url, password=password, rng=RNG, seconds=10)
            assert await store.read("x", ["y"]) == [None]
            await store.aclose()
        for password in (None, "hunter2"):
            store = RedisStore(plain, password=password, rng=RNG, seconds=10)
            with pytest.raises(StoreDown) as raised:
                await store.read("x", ["y"])
            assert "hunter2" not in str(raised.value)
            await store.aclose()


async def test_stores_of_the_settings(tmp_path: Path) -> None:
    """Made of the process' settings they open with its password, keep to its bounds, and count what they do."""
    with redis_server(tmp_path, password="pw") as server:
        settings = Settings(
            insecure_no_auth=True, redis_url=f"redis://localhost:{server.port}/0", redis_password="pw",
            redis_seconds=20.0, stored_response_bytes=1_000,
        )  # fmt: skip
        metrics, budget = Metrics(), MemoryBudget(3_000)
        stores = make_stores(settings, metrics=metrics, budget=budget, rng=RNG)
        assert stores.redis is not None
        assert stores.responses is not None
        keep = stores.responses.keep
        assert [keep("t", f"r{number}", Stored(b"x" * 400, b"[]")) for number in range(5)] == [True] * 2 + [False] * 3
        assert not keep("t", "r5", Stored(b"x" * 4_000, b"[]"))
        assert not keep("t", "r6", Stored(b"x" * 4_000, b"[]"))
        await stores.responses.aclose()
        assert await stores.responses.load("t", "r1") is not None
        await stores.redis.aclose()

        def sample(name: str, **labels: str) -> float | None:
            return metrics.registry.get_sample_value(name, labels)

        assert sample("gateway_redis_calls_total", call="script", outcome="answered") == 2
        assert sample("gateway_redis_calls_total", call="read", outcome="answered") == 1
        assert sample("gateway_stored_responses_total", outcome="kept") == 2
        assert sample("gateway_stored_responses_total", outcome="too_large") == 2
        assert sample("gateway_outbox_dropped_total", outbox="responses") == 3


async def test_the_rights_that_it_needs(server: RedisServer) -> None:
    """A user with the rights of docs/install.md, and no others, is enough for responses that are stored, samples of
    answers and feedback; a call without a right is refused."""
    rights = re.search(r"ACL SETUSER capstan on '>PASSWORD' (.+)$", INSTALL.read_text(), re.MULTILINE)
    assert rights is not None
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "capstan", "on", ">pw", *rights.group(1).split())
    async with rig(f"redis://capstan:pw@127.0.0.1:{server.port}/0") as made:
        for name in ("r1", "r2", "r3", "r4"):
            await made.put(name)
        assert await made.kept("r1", "r4") == ["r4"]
        assert await made.store.delete("t", "r4") is True
        assert await made.redis.read("capstan:x", ["y"]) == [None]
        evaluation = Evaluation(perHour=10, criteria=(Criterion(name="polite", text="It is polite."),), judge="n/j")
        put = put_call("n/m", "{}", b"sample", evaluation, most=10)
        assert await made.redis.run_script(put.script, put.keys, put.arguments) == 1
        name, said = Name("t", "a"), Feedback(at=1, id="a", score=1, label=Label.GOOD)
        assert await RedisFeedback(made.redis, most=1, seconds=60, now_ms=lambda: 1).put(name, said) is Put.NEW
        given = SharedGiven(made.redis, most=8, seconds=60)
        for answer in ("a", "b"):
            await given.write([(Name("t", answer), Answered(1, "m", "m", "r"))])
        assert await given.find(Name("t", "b")) == Answered(1, "m", "m", "r")
        with pytest.raises(StoreDown):
            await made.redis.read("others", ["y"])
        assert made.redis.failure == "NoPermissionError"


async def test_another_database(server: RedisServer) -> None:
    """The number in the URL's path is the database."""
    with client_library.Redis(host="127.0.0.1", port=server.port, db=3, protocol=2) as client:
        client.hset("k", "f", "v")
    found = []
    for number in (3, 0):
        store = RedisStore(f"redis://127.0.0.1:{server.port}/{number}", rng=RNG, seconds=10)
        found += await store.read("k", ["f"])
        await store.aclose()
    assert found == [b"v", None]


async def test_tls(tmp_path: Path) -> None:
    """With rediss:// the server's certificate and its name are checked: against the authority that is named."""
    _certificates(tmp_path)
    flags = ("--tls-cert-file", str(tmp_path / "server.pem"), "--tls-key-file", str(tmp_path / "server.key"),
             "--tls-ca-cert-file", str(tmp_path / "ca.pem"), "--tls-auth-clients", "no")  # fmt: skip
    with redis_server(tmp_path, tls=True, flags=flags) as server:
        good = RedisStore(server.url, ca_file=tmp_path / "ca.pem", rng=RNG, seconds=10)
        assert await good.read("x", ["y"]) == [None]
        await good.aclose()
        other_name = f"rediss://127.0.0.1:{server.port}/0"
        for url, ca_file in ((server.url, None), (other_name, tmp_path / "ca.pem")):
            store = RedisStore(url, ca_file=ca_file, rng=RNG, seconds=10)
            with pytest.raises(StoreDown):
                await store.read("x", ["y"])
            await store.aclose()


@pytest.mark.parametrize("kind", ["sentinel", "cluster"])
async def test_several_servers(tmp_path: Path, kind: str) -> None:
    """Responses are stored as well in a Redis that Sentinels know, and in a Redis Cluster, by the same scripts."""
    with ExitStack() as stack:
        if kind == "sentinel":
            url = stack.enter_context(sentinel_group(tmp_path)).url
        else:
            url = f"redis+cluster://127.0.0.1:{stack.enter_context(redis_cluster(tmp_path))[0].port}"
        settings = Settings(insecure_no_auth=True, redis_url=url, redis_seconds=5.0)
        stores = make_stores(settings, metrics=Metrics(), budget=MemoryBudget(1 << 30), rng=RNG)
        assert stores.responses is not None
        assert stores.redis is not None
        work = asyncio.create_task(stores.responses.run())
        for tenant in ("t", "u", "v", "w"):
            assert stores.responses.keep(tenant, "r1", Stored(b"a", b"[]"))
        await stores.responses.aclose()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        again = make_stores(settings, metrics=Metrics(), budget=MemoryBudget(1 << 30), rng=RNG)
        assert again.responses is not None
        assert again.redis is not None
        for tenant in ("t", "u", "v", "w"):
            assert await again.responses.load(tenant, "r1") == Stored(b"a", b"[]")
        assert await again.responses.delete("t", "r1") is True
        assert again.notes == ()
        await stores.redis.aclose()
        await again.redis.aclose()


def _certificates(folder: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=authority",
            "-keyout", "ca.key", "-out", "ca.pem")  # fmt: skip
    openssl(
        "req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"
    )
    (folder / "names").write_text("subjectAltName=DNS:localhost")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
            "-extfile", "names", "-out", "server.pem")  # fmt: skip
