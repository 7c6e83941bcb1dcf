"""The wire to real servers: users, TLS, databases, forgotten scripts, outages, Sentinels and Redis Cluster."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from capstan_contract.redis_address import read_address
from capstan_gateway.stores.cluster import slot_of
from capstan_gateway.stores.port import StoreDown
from capstan_gateway.stores.scripted import Links, Script, make_links, run_script
from capstan_gateway.stores.wire import Refused, pack
from support.certificates import make_authority
from support.redis_groups import SERVICE, redis_cluster, sentinel_group
from support.redis_server import RedisServer, redis_server
from support.wait import eventually

pytestmark = pytest.mark.redis
COUNT = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
PING = pack(("PING",))
RNG = Random(1)  # noqa: S311 - jitter


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own."""
    with redis_server(tmp_path) as running:
        yield running


@asynccontextmanager
async def links_to(
    url: str, *, seconds: float = 5.0, password: str | None = None, ca: Path | None = None
) -> AsyncIterator[Links]:
    """Connections that end with the block."""
    links = make_links(read_address(url), seconds=seconds, rng=RNG, password=password, ca_file=ca)
    try:
        yield links
    finally:
        await links.aclose()


async def answers(links: Links, key: str = "n") -> bool:
    """Whether a script is run now."""
    try:
        await run_script(links, COUNT, [key], [0])
    except StoreDown:
        return False
    return True


async def test_scripts(server: RedisServer) -> None:
    """A script runs whether Redis knows it or not, once for each call, also after SCRIPT FLUSH."""
    async with links_to(server.url) as links:
        assert sorted(await asyncio.gather(*(run_script(links, COUNT, ["n"], [1]) for _ in range(20)))) == [
            *range(1, 21)
        ]
        with server.client() as client:
            client.script_flush()
        assert await run_script(links, COUNT, ["n"], [1]) == 21
        with pytest.raises(Refused, match="WRONGTYPE"):
            await links.call("n", pack(("HGET", "n", "f")))
        assert await links.call("n", PING) == b"PONG"


async def test_users_and_databases(server: RedisServer) -> None:
    """A user of an ACL and a database are taken from the URL; the password may come by itself; a wrong one is told."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "limiter", "on", ">s3cret", "~capstan:*", "+@all")
    at = f"127.0.0.1:{server.port}/3"
    async with links_to(f"redis://limiter:s3cret@{at}") as links:
        assert await links.call("n", pack(("SET", "capstan:n", 7))) == b"OK"
        with pytest.raises(Refused, match="NOPERM"):
            await links.call("n", pack(("SET", "other", 7)))
    with server.client() as client:
        client.select(3)
        assert client.get("capstan:n") == b"7"
    async with links_to(f"redis://limiter@{at}", password="s3cret") as links:
        assert await links.call("n", pack(("GET", "capstan:n"))) == b"7"
    async with links_to(f"redis://limiter:wrong@{at}") as links:
        with pytest.raises(StoreDown, match="WRONGPASS"):
            await links.call("n", PING)


async def test_tls(tmp_path: Path) -> None:
    """With rediss:// the certificate and its name are checked: an unknown authority and another name are not taken."""
    folder = tmp_path / "tls"
    folder.mkdir()
    make_authority(folder, "localhost")
    flags = ("--tls-cert-file", str(folder / "cert.pem"), "--tls-key-file", str(folder / "key.pem"),
             "--tls-ca-cert-file", str(folder / "ca.pem"), "--tls-auth-clients", "no")  # fmt: skip
    with redis_server(tmp_path, tls=True, flags=flags) as server:
        async with links_to(server.url, ca=folder / "ca.pem") as links:
            assert await links.call("n", PING) == b"PONG"
        for url, ca in ((server.url, None), (f"rediss://127.0.0.1:{server.port}", folder / "ca.pem")):
            async with links_to(url, ca=ca) as links:
                with pytest.raises(StoreDown):
                    await links.call("n", PING)


async def test_a_paused_server(server: RedisServer) -> None:
    """A server that is stopped in the middle costs one deadline, then nothing; it is used again when it goes on."""
    async with links_to(server.url, seconds=0.05) as links:
        await eventually(lambda: answers(links), every=0.01)
        server.pause()
        late = await asyncio.gather(*(links.call("n", PING) for _ in range(50)), return_exceptions=True)
        assert all(isinstance(one, StoreDown) for one in late)
        assert links.failure is not None
        with pytest.raises(StoreDown):
            await asyncio.wait_for(links.call("n", PING), 0.01)
        server.go_on()
        await eventually(lambda: answers(links), every=0.01)
        assert links.failure is None


async def test_a_restarted_server(server: RedisServer) -> None:
    """A server that was killed and begun anew is used again, by itself."""
    async with links_to(server.url, seconds=5.0) as links:
        assert await answers(links)
        server.kill()
        await eventually(lambda: not links.connected, every=0.01)
        assert not await answers(links)
        server.start()
        await eventually(lambda: links.connected, every=0.01)
        assert await answers(links)


async def test_sentinels(tmp_path: Path) -> None:
    """The master is found through a Sentinel, and the new one after a failover; a replica is never written to."""
    shutil.rmtree(tmp_path / "x", ignore_errors=True)
    with sentinel_group(tmp_path) as group:
        async with links_to(group.url, seconds=5.0) as links:
            assert await run_script(links, COUNT, ["n"], [5]) == 5
            with group.master.client() as client:
                client.set("behind", "n")  # WAIT is for what its own connection has written, and all before that.
                assert client.execute_command("WAIT", 1, 60_000) == 1
            group.master.kill()
            await eventually(lambda: answers(links), every=0.05, what="the new master")
            assert await run_script(links, COUNT, ["n"], [1]) == 6
            with group.sentinel() as sentinel:
                found = sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
            assert int(found[1]) == group.replica.port


async def test_a_cluster(tmp_path: Path) -> None:
    """Each key is asked of the node that has its slot, found from any one node, and again when it has moved on."""
    with redis_cluster(tmp_path) as servers:
        async with links_to(f"redis+cluster://127.0.0.1:{servers[1].port}") as links:
            keys = [f"k:{{{number}}}" for number in range(60)]
            assert await asyncio.gather(*(run_script(links, COUNT, [key], [1]) for key in keys)) == [1] * 60
            held = []
            for server in servers:
                with server.client() as client:
                    held.append(client.dbsize())
            assert sum(held) == 60
            assert min(held) > 0
            key = keys[0]
            await _move(slot_of(key), key, servers)
            assert await run_script(links, COUNT, [key], [1]) == 2
            assert await run_script(links, COUNT, [key], [1]) == 3


async def _move(slot: int, key: str, servers: list[RedisServer]) -> None:
    """Move a slot with one key to another node."""
    clients = [server.client() for server in servers]
    ids = [client.execute_command("CLUSTER", "MYID").decode() for client in clients]
    source = next(at for at, client in enumerate(clients) if client.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot))
    target = (source + 1) % len(clients)
    clients[target].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    clients[source].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    clients[source].execute_command("MIGRATE", "127.0.0.1", servers[target].port, key, 0, 5000)
    for client in clients:
        client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
        client.close()


async def test_a_slot_on_its_way(tmp_path: Path) -> None:
    """While a slot is on its way, its keys are asked of where they are."""
    with redis_cluster(tmp_path) as servers:
        async with links_to(f"redis+cluster://127.0.0.1:{servers[0].port}") as links:
            assert await run_script(links, COUNT, ["n"], [1]) == 1
            slot = slot_of("n")
            clients = [server.client() for server in servers]
            ids = [client.execute_command("CLUSTER", "MYID").decode() for client in clients]
            at = next(i for i, one in enumerate(clients) if one.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot))
            to = (at + 1) % len(clients)
            clients[to].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[at])
            clients[at].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[to])
            clients[at].execute_command("MIGRATE", "127.0.0.1", servers[to].port, "n", 0, 5000)
            assert await run_script(links, COUNT, ["n"], [1]) == 2
            for client in clients:
                client.close()


async def test_a_node_that_dies(tmp_path: Path) -> None:
    """While a node is away its keys cannot be had, at no further deadline; those of the others can."""
    with redis_cluster(tmp_path) as servers:
        async with links_to(f"redis+cluster://127.0.0.1:{servers[0].port}", seconds=5.0) as links:
            keys = [f"k:{{{number}}}" for number in range(30)]
            assert all(await asyncio.gather(*(answers(links, key) for key in keys)))
            for server in servers:
                with server.client() as client:
                    client.config_set("cluster-require-full-coverage", "no")
            servers[2].kill()
            await eventually(lambda: links.failure is not None, every=0.01)
            found = await asyncio.gather(*(answers(links, key) for key in keys))
            assert set(found) == {True, False}
