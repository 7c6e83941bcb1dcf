"""What one tenant's flood costs others: the queue's scripts in a real Redis, in a time that passes only here."""

import heapq
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from capstan_contract.queue.calls import Kind, Post
from capstan_contract.queue.names import BATCH_TURN_MS, PASSED_OVER, PriorityClass
from support.queue import HeldQueue
from support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.redis

PLACES, WORK_MS = 8, 1_000
SHARE, TIMES = PLACES, 100
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Client:
    """Somebody who has so many requests under way all the time: when one is answered the next one comes."""

    name: str
    under_way: int
    tenant: str
    priority: PriorityClass = PriorityClass.DEFAULT


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of these tests' own."""
    with redis_server(tmp_path_factory.mktemp("queue")) as server:
        yield server


def waits(queue: HeldQueue, *clients: Client, takes: int) -> dict[str, list[int]]:
    """Let a worker that is always full take so many entries, each of which it works on for a second; give how long each
    client's have waited, in milliseconds."""
    known = {client.name: client for client in clients}
    found: dict[str, list[int]] = defaultdict(list)
    running: list[tuple[int, str]] = []
    number = 0

    def ask(client: Client) -> None:
        nonlocal number
        number += 1
        queue.ask(f"{client.name}-{number:06}", tenant=client.tenant, priority=client.priority, ttl_ms=DAY_MS)

    queue.client.flushall()
    began = queue.now
    for client in clients:
        for _ in range(client.under_way):
            ask(client)
    while sum(map(len, found.values())) < takes:
        queue.run(queue.calls.beat("g"))
        for taken in queue.take("w", PLACES - len(running), spare=0):
            found[taken.id.partition("-")[0]].append(taken.waited_ms)
            # The first ones end one after the other, as those of an engine that has worked for a while.
            begun = len(running) if queue.now == began else 0
            heapq.heappush(running, (queue.now + WORK_MS - begun * WORK_MS // PLACES, taken.id))
        queue.now, ended = heapq.heappop(running)
        queue.run(queue.calls.post("w", [Post(ended, 1, 0, Kind.END, b"")]))
        ask(known[ended.partition("-")[0]])
    return found


def p99(values: list[int]) -> int:
    """Give the 99th percentile."""
    return sorted(values)[len(values) * 99 // 100]


def test_a_flood_does_not_double_the_wait_of_others(server: RedisServer) -> None:
    """A tenant that asks for a hundred times its share leaves the p99 of another one's wait within twice what it was
    before; were the two one tenant it would be many times as long."""
    with server.client() as client:
        other = Client("other", SHARE, "b")
        quiet = p99(waits(HeldQueue(client), Client("loud", SHARE, "a"), other, takes=400)["other"])
        flood = p99(waits(HeldQueue(client), Client("loud", TIMES * SHARE, "a"), other, takes=1_200)["other"])
        alike = p99(waits(HeldQueue(client), Client("loud", TIMES * SHARE, "b"), other, takes=1_200)["other"])
    assert 0 < flood <= 2 * quiet
    assert alike > 20 * quiet


def test_every_class_moves_under_a_flood(server: RedisServer) -> None:
    """While more urgent entries than can be worked on keep coming, each class has its turns: the least urgent one too,
    on a worker without any room to spare."""
    takes = 1_200
    with server.client() as client:
        found = waits(
            HeldQueue(client),
            Client("loud", TIMES * SHARE, "a", PriorityClass.HIGH),
            Client("default", 2, "b"),
            Client("low", 2, "c", PriorityClass.LOW),
            Client("batch", 2, "d", PriorityClass.BATCH),
            takes=takes,
        )
    # When the turns of several classes have come one of them goes first.
    assert min(len(found["default"]), len(found["low"])) >= takes // (PASSED_OVER + len(PriorityClass))
    turns = takes * WORK_MS // PLACES // BATCH_TURN_MS
    assert turns - 1 <= len(found["batch"]) <= turns + 1
