"""Several real redis-servers that belong together: a master with a replica and Sentinels, or a Redis Cluster."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from support.needs import need_binary
from support.ports import free_port
from support.redis_server import RedisServer
from support.wait import wait_until

SERVICE = "limits"


@dataclass
class SentinelGroup:
    """A master, a replica, and one Sentinel that moves on after a second."""

    master: RedisServer
    replica: RedisServer
    port: int
    """Of the Sentinel."""

    @property
    def url(self) -> str:
        """Where it is found."""
        return f"redis+sentinel://127.0.0.1:{self.port}/{SERVICE}/0"

    def sentinel(self) -> "redis.Redis":
        """Give a client of the Sentinel."""
        return redis.Redis(host="127.0.0.1", port=self.port, protocol=2)


@contextmanager
def sentinel_group(folder: Path) -> Iterator[SentinelGroup]:
    """Run the three until the block ends."""
    with ExitStack() as stack:
        servers = []
        for name in ("master", "replica"):
            place = folder / name
            place.mkdir()
            flags = [] if not servers else ["--replicaof", "127.0.0.1", str(servers[0].port)]
            servers.append(stack.enter_context(RedisServer(place, flags=("--repl-diskless-sync-delay", "0", *flags))))
        master, replica = servers
        with replica.client() as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", what="the replica")
        port = free_port()
        conf = folder / "sentinel.conf"
        conf.write_text(
            f"port {port}\nbind 127.0.0.1\nsentinel monitor {SERVICE} 127.0.0.1 {master.port} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} 1000\nsentinel failover-timeout {SERVICE} 5000\n"
        )
        binary = need_binary("redis-server", "redis-server")
        with (folder / "sentinel.log").open("wb") as log:
            process = subprocess.Popen([binary, str(conf), "--sentinel"], stdout=log, stderr=log)
        try:
            group = SentinelGroup(master, replica, port)
            with group.sentinel() as asked:
                wait_until(lambda: _knows_replica(asked), what="the Sentinel")
            yield group
        finally:
            process.kill()
            process.wait(timeout=60)


def _knows_replica(client: "redis.Redis") -> bool:
    try:
        return len(client.execute_command("SENTINEL", "REPLICAS", SERVICE)) == 1
    except redis.RedisError:
        return False


@contextmanager
def redis_cluster(folder: Path, *, nodes: int = 3) -> Iterator[list[RedisServer]]:
    """Run masters that share the slots until the block ends."""
    with ExitStack() as stack:
        servers = []
        for number in range(nodes):
            place = folder / f"node{number}"
            place.mkdir()
            flags = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
            servers.append(stack.enter_context(RedisServer(place, flags=flags)))
        need_binary("redis-cli", "redis-cli")
        places = [f"127.0.0.1:{server.port}" for server in servers]
        subprocess.run(
            ["redis-cli", "--cluster", "create", *places, "--cluster-replicas", "0", "--cluster-yes"],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        for server in servers:
            with server.client() as client:
                wait_until(lambda client=client: client.cluster("INFO")["cluster_state"] == "ok", what="the cluster")  # type: ignore[misc]
        yield servers
