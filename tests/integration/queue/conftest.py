"""A Redis for tests of gateways, and a gateway for tests of workers."""

from collections.abc import Iterator

import pytest

from support.queue_gateway import QueueGateway
from support.redis_server import RedisServer, redis_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of a module's own."""
    with redis_server(tmp_path_factory.mktemp("queue")) as server:
        yield server


@pytest.fixture
def store(server: RedisServer) -> RedisServer:
    """It, with nothing in it."""
    server.client().flushall()
    return server


@pytest.fixture
def gateway(server: RedisServer) -> Iterator[QueueGateway]:
    """A gateway that asks, with nothing in Redis."""
    with server.client() as client:
        client.flushall()
        yield QueueGateway(client)
