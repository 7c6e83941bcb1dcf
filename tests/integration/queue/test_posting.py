"""Pieces of answers in a real Redis: each is given once and in its order, whatever is said twice or too late."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis

from capstan_contract.queue.calls import (
    LEAVING,
    Bounds,
    Call,
    Kind,
    Post,
    Posted,
    Queue,
    read_ids,
    read_posted,
    read_state,
    read_taken,
)
from capstan_contract.queue.names import (
    GROUP,
    WINDOW_BYTES,
    PriorityClass,
    bell_key,
    out_key,
    queue_prefix,
    told_key,
)
from support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.redis

CALLS = Queue(queue_prefix("default/chat"))
WIDE = Bounds(entries=1000, data=1 << 30, wait_ms=3_600_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of these tests' own."""
    with redis_server(tmp_path_factory.mktemp("posting")) as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator["redis.Redis"]:
    """A client of a Redis with nothing in it."""
    with server.client() as client:
        client.flushall()
        yield client


def _run(client: "redis.Redis", call: Call) -> Any:
    return client.eval(call.script, len(call.keys), *call.keys, *call.arguments)


def _put(client: "redis.Redis", entry_id: str) -> None:
    _run(
        client,
        CALLS.enqueue(
            entry_id, priority=PriorityClass.DEFAULT, tenant="a", weight=1.0, tokens=1, ttl_ms=60_000, gateway="g",
            ask=b"{}", body=b"body", bounds=WIDE,
        ),
    )  # fmt: skip


def _take(client: "redis.Redis", worker: str = "w") -> int:
    (taken,) = read_taken(_run(client, CALLS.take(worker, most=1, spare=1)))
    return taken.attempt


def _post(client: "redis.Redis", *pieces: Post) -> list[Posted]:
    return read_posted(_run(client, CALLS.post("w", pieces)))


def _given(client: "redis.Redis") -> Sequence[tuple[bytes, bytes]]:
    return [(fields[b"k"], fields[b"d"]) for _, fields in client.xrange(out_key(CALLS.prefix, "g"))]


def test_what_is_posted_twice_is_given_once(client: "redis.Redis") -> None:
    """A worker that has not heard the reply says it again, and the gateway reads each piece once."""
    _put(client, "one")
    attempt = _take(client)
    pieces = [Post("one", attempt, 0, Kind.HEAD, b"head"), Post("one", attempt, 1, Kind.DATA, b"text")]
    assert _post(client, *pieces) == [Posted.OK, Posted.OK]
    assert _post(client, *pieces, Post("one", attempt, 2, Kind.END, b"")) == [Posted.OK] * 3
    assert _post(client, Post("one", attempt, 2, Kind.END, b"")) == [Posted.GONE]
    assert _given(client) == [(b"h", b"head"), (b"d", b"text"), (b"e", b"")]


def test_nothing_overtakes_a_piece_that_was_not_taken(client: "redis.Redis") -> None:
    """When a reader is slow, what is behind the piece that has to wait has to wait too, small or the end."""
    _put(client, "one")
    attempt = _take(client)
    large = b"x" * (WINDOW_BYTES - 1)
    pieces = [
        Post("one", attempt, 0, Kind.HEAD, b"head"),
        Post("one", attempt, 1, Kind.DATA, large),
        Post("one", attempt, 2, Kind.DATA, b"two"),
        Post("one", attempt, 3, Kind.DATA, b"3"),
        Post("one", attempt, 4, Kind.END, b""),
    ]
    assert _post(client, *pieces) == [Posted.OK, Posted.OK, Posted.FULL, Posted.FULL, Posted.FULL]
    _run(client, CALLS.acknowledge([("one", len(large))]))
    assert client.lrange(told_key(CALLS.prefix, "w"), 0, -1) == [b"gone"]
    assert _post(client, *pieces[2:]) == [Posted.OK] * 3
    assert [data for _, data in _given(client)] == [b"head", large, b"two", b"3", b""]


def test_pieces_of_an_attempt_that_was_lost_are_refused(client: "redis.Redis") -> None:
    """A worker that has lost an entry and taken it again gives nothing of its first attempt."""
    _put(client, "one")
    assert _take(client) == 1
    _run(client, CALLS.give_back("w", ["one"], crashed=False))
    assert _take(client) == 2
    assert _post(client, Post("one", 1, 0, Kind.HEAD, b"old")) == [Posted.GONE]
    assert _post(client, Post("one", 2, 0, Kind.HEAD, b"new")) == [Posted.OK]
    assert _given(client) == [(b"h", b"new")]


def test_a_worker_that_leaves_keeps_what_it_has_and_is_forgotten_after(client: "redis.Redis") -> None:
    """It is none of the workers that are counted, it hears what becomes of its entries, and in the end its consumer is
    deleted: pods come and go, and streams must not remember them all."""
    _put(client, "one")
    attempt = _take(client)
    _run(client, CALLS.renew("w", ["one"], room=2))
    _run(client, CALLS.leave(worker="w"))
    assert read_ids(_run(client, CALLS.renew("w", ["one"], room=LEAVING))) == []
    state = read_state(_run(client, CALLS.beat("g")))
    assert (state.workers, state.room, state.running) == (0, 0, 1)
    _run(client, CALLS.sweep())
    _run(client, CALLS.cancel(["one"]))
    assert client.lrange(told_key(CALLS.prefix, "w"), 0, -1) == [b"xone"]
    assert _post(client, Post("one", attempt, 0, Kind.HEAD, b"head")) == [Posted.GONE]
    _run(client, CALLS.sweep())
    assert not client.exists(told_key(CALLS.prefix, "w"))
    assert client.xinfo_consumers(f"{CALLS.prefix}work:1", GROUP) == []


def test_the_bell_is_passed_on_only_where_something_waits(client: "redis.Redis") -> None:
    """A worker that cannot take what the bell has told it lets others hear it; with nothing waiting nobody is woken."""
    _run(client, CALLS.pass_on())
    assert client.llen(bell_key(CALLS.prefix)) == 0
    _put(client, "one")
    client.delete(bell_key(CALLS.prefix))
    _run(client, CALLS.pass_on())
    assert client.llen(bell_key(CALLS.prefix)) == 1
