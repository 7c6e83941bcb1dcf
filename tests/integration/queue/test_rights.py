"""What a worker may do in Redis."""

from pathlib import Path

import pytest
import redis

from capstan_worker.queue.link import RedisLink
from support.needs import ROOT
from support.queue_gateway import QueueGateway
from support.queue_worker import ScriptedEngine, consumer
from support.redis_server import redis_server
from support.wait import eventually

pytestmark = pytest.mark.redis


def _documented_user() -> list[str]:
    page = (ROOT / "docs" / "worker.md").read_text()
    line = next(line for line in page.splitlines() if "ACL SETUSER" in line)
    return line.replace("PASSWORD", "hunter2").split()


async def test_the_documented_rights_are_enough_and_no_more(tmp_path: Path) -> None:
    """With the user of the docs a worker takes, answers, hears cancels, renews and ends; nothing else can be read."""
    with redis_server(tmp_path) as server, server.client() as client:
        client.execute_command(*_documented_user())
        gateway = QueueGateway(client)
        url = server.url.replace("redis://", "redis://capstan-worker@")
        engine = ScriptedEngine()
        link = RedisLink(url, password="hunter2", seconds=10.0)
        async with consumer(url, engine, link=link) as worker:
            one, two = gateway.ask(), gateway.ask()
            await eventually(lambda: engine.has(one) and engine.has(two), every=0.01)
            gateway.cancel(two)
            engine.give(one, b"x", None)
            await gateway.done(one)
            await eventually(lambda: worker.unfinished == 0 and gateway.left() == 0, every=0.01)
            await worker._sweep_step()
            assert link.failure is None
        assert gateway.state().workers == 0
        with redis.Redis(port=server.port, username="capstan-worker", password="hunter2") as stranger:
            for command in (("GET", "capstan:usage"), ("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "GET", "*")):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    stranger.execute_command(*command)
