"""A worker finds its queue in every kind of Redis that gateways know."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from capstan_worker.queue.link import RedisLink
from support.queue_gateway import QueueGateway
from support.queue_worker import ScriptedEngine, consumer
from support.redis_groups import redis_cluster, sentinel_group
from support.wait import eventually

pytestmark = pytest.mark.redis


@contextmanager
def _sentinels(folder: Path) -> Iterator[tuple[str, "redis.Redis"]]:
    with sentinel_group(folder) as group, group.master.client() as client:
        yield group.url, client


@contextmanager
def _cluster(folder: Path) -> Iterator[tuple[str, "redis.Redis"]]:
    with redis_cluster(folder) as servers:
        client = redis.RedisCluster(host="127.0.0.1", port=servers[0].port)
        try:
            yield "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in servers), client
        finally:
            client.close()


@pytest.mark.parametrize("kind", [_sentinels, _cluster])
async def test_work_is_taken_whatever_the_redis(kind: object, tmp_path: Path) -> None:
    """Through Sentinels and in a Cluster: taken, answered, cancelled, given back."""
    with kind(tmp_path) as (url, client):  # type: ignore[operator]
        gateway = QueueGateway(client)
        engine = ScriptedEngine()
        link = RedisLink(url, seconds=10.0)
        async with consumer(url, engine, link=link) as worker:
            one, two, three = gateway.ask(), gateway.ask(), gateway.ask()
            await eventually(lambda: len(engine.running) == 3, every=0.01)
            gateway.cancel(two)
            engine.give(one, b"x", None)
            (answer,) = await gateway.done(one)
            await eventually(lambda: worker.unfinished == 1, every=0.01)
        assert answer.ends == ["end"]
        assert gateway.state().waiting[1] == 1
        assert three in gateway.answers
