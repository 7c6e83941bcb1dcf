"""Replicas that share a cache by a real Redis, and such that share nothing: who asks, who waits, and who goes on."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from capstan_contract.caches import CacheBody, Compression, RedisTier, cache_entry
from capstan_contract.redis_address import read_address
from capstan_gateway.caches import shared
from capstan_gateway.caches.codec import Codec
from capstan_gateway.caches.port import CacheKey
from capstan_gateway.pipeline.caches import layer
from capstan_gateway.stores.scripted import make_links
from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, answer, delta, frame
from support.gateway import RunningGateway, entry, running_gateway
from support.gateway_process import NO_PROBES, GatewayProcess, gateway_process
from support.redis_server import RedisServer, redis_server
from support.wait import eventually

SHARED = cache_entry("t", "c", CacheBody(redis=RedisTier()))
MESSAGES: Any = [{"role": "user", "content": "what is the capital of France?"}]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of its own."""
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def go() -> asyncio.Event:
    """Lets the engine answer."""
    return asyncio.Event()


@pytest.fixture
async def upstream(go: asyncio.Event) -> AsyncIterator[FakeUpstream]:
    """An engine that begins a stream at once, and says the rest when a test lets it."""

    async def respond(received: Received, wire: Wire) -> None:
        if not received.document.get("stream"):
            await go.wait()
            await answer(received, wire)
            return
        model = received.document["model"]
        await wire.stream_head()
        await wire.chunk(frame(delta(model, "Pa")))
        await go.wait()
        await wire.chunk(frame(delta(model, "ris")) + frame(delta(model, None, "stop")) + DONE)
        await wire.end()

    async with FakeUpstream(respond) as fake:
        yield fake


async def ask(url: str, **fields: Any) -> tuple[dict[str, str], str]:
    """Ask on a connection of its own; give the head and the body, as far as they come."""
    body = json.dumps({"model": "chat", "messages": MESSAGES, **fields})
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
    try:
        answered = (await reader.read()).decode()
    except ConnectionError:
        answered = ""
    finally:
        writer.transport.abort()
    lines, _, said = answered.partition("\r\n\r\n")
    return dict(line.split(": ", 1) for line in lines.split("\r\n") if ": " in line), said


@contextmanager
def processes(folder: Path, upstream: FakeUpstream, redis: RedisServer | None) -> Iterator[list[GatewayProcess]]:
    """Run two gateways, each in a process."""
    environ = dict(NO_PROBES)
    if redis is not None:
        environ["CAPSTAN_GATEWAY_REDIS_URL"] = redis.url
        # NB: a machine that is busy may take longer than a request would wait.
        environ["CAPSTAN_GATEWAY_REDIS_LIMIT_SECONDS"] = "10"
    with ExitStack() as stack:
        found = []
        for name in ("a", "b"):
            (folder / name).mkdir()
            model = entry("chat", upstream.url, policies=(SHARED.id,))
            running = gateway_process(folder / name, [model], environ=environ, policies=[SHARED])
            found.append(stack.enter_context(running))
        yield found


async def in_flight(gateways: Sequence[GatewayProcess], count: int) -> None:
    """Wait until each has so many requests."""
    for gateway in gateways:
        await eventually(
            lambda gateway=gateway: asyncio.to_thread(lambda: gateway.metric("gateway_inflight_requests") >= count)
        )


def keys(redis: RedisServer) -> tuple[list[str], list[str]]:
    """Give the entries and the leases that are there."""
    with redis.client() as client:
        found = sorted(key.decode() for key in client.keys("capstan:cache:*"))  # type: ignore[union-attr]
    return [key for key in found if not key.endswith(":lease")], [key for key in found if key.endswith(":lease")]


@pytest.mark.parametrize("together", [False, True])
async def test_the_same_request_at_many_replicas(
    together: bool, go: asyncio.Event, upstream: FakeUpstream, redis: RedisServer, tmp_path: Path
) -> None:
    """Without Redis one call on each of them, with it one in all; everybody has the same answer."""
    with processes(tmp_path, upstream, redis if together else None) as gateways:
        asking = [asyncio.create_task(ask(gateway.url)) for gateway in gateways for _ in range(40)]
        await in_flight(gateways, 40)
        go.set()
        answers = await asyncio.gather(*asking)
    assert {json.loads(said)["choices"][0]["finish_reason"] for _, said in answers} == {"stop"}
    assert len(upstream.requests) == (1 if together else 2)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_replica_that_is_killed_leaves_nothing_half_done(
    stream: bool, go: asyncio.Event, upstream: FakeUpstream, redis: RedisServer, tmp_path: Path
) -> None:
    """In the middle of an answer: nothing of it is kept, its lease lapses, and another replica goes on."""
    with processes(tmp_path, upstream, redis) as (first, second):
        dying = asyncio.create_task(ask(first.url, stream=stream))
        await eventually(lambda: len(upstream.requests) == 1 and len(keys(redis)[1]) == 1)
        waiting = asyncio.create_task(ask(second.url, stream=stream))
        await in_flight([second], 1)
        first.process.kill()
        assert "[DONE]" not in (await dying)[1]
        assert keys(redis)[0] == []
        await eventually(lambda: len(upstream.requests) == 2, seconds=120)
        go.set()
        head, said = await waiting
        assert head["x-cache"] == "miss"
        assert "data: [DONE]" in said if stream else json.loads(said)["choices"]
        await eventually(lambda: len(keys(redis)[0]) == 1)
        again, _ = await ask(second.url, stream=stream)
    assert again["x-cache"] == "hit-memory"


@pytest.mark.parametrize("turn", range(3))
async def test_a_replica_that_is_killed_while_it_keeps_an_answer(
    turn: int, go: asyncio.Event, upstream: FakeUpstream, redis: RedisServer, tmp_path: Path
) -> None:
    """Around the moment in which it writes: the entry is there as a whole, or not at all, and never in the way."""
    with processes(tmp_path, upstream, redis) as (first, second):
        dying = asyncio.create_task(ask(first.url))
        await eventually(lambda: len(upstream.requests) == 1)
        go.set()
        await asyncio.sleep(turn * 0.002)
        first.process.kill()
        await dying
        head, said = await ask(second.url)
    assert json.loads(said)["choices"][0]["finish_reason"] == "stop"
    assert (head["x-cache"], len(upstream.requests)) in (("hit-redis", 1), ("miss", 2))


class Pair:
    """Two gateways in the loop of the test."""

    def __init__(self, first: RunningGateway, second: RunningGateway) -> None:
        self.first, self.second = first, second


@pytest.fixture
async def pair(
    upstream: FakeUpstream, redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Pair]:
    """Two of them, whose leases are short."""
    monkeypatch.setattr(shared, "LEASE_MS", 4000)
    monkeypatch.setattr(shared, "RENEW_SECONDS", 0.2)
    model = entry("chat", upstream.url, policies=(SHARED.id,))
    async with AsyncExitStack() as stack:
        found = []
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            running = running_gateway(
                tmp_path / name, model, policies=(SHARED,), redis_url=redis.url, redis_limit_seconds=10.0
            )
            found.append(await stack.enter_async_context(running))
        yield Pair(*found)


async def test_a_lease_lasts_as_long_as_somebody_works(
    go: asyncio.Event, upstream: FakeUpstream, redis: RedisServer, pair: Pair
) -> None:
    """It is renewed, so that the other replica waits; and then has what was written."""
    leading = asyncio.create_task(ask(pair.first.url))
    await eventually(lambda: len(upstream.requests) == 1)
    waiting = asyncio.create_task(ask(pair.second.url))
    (lease,) = keys(redis)[1]
    with redis.client() as client:
        client.set(f"{lease}:seen", "x")
        begun = client.pttl(lease)
        client.pexpire(f"{lease}:seen", 5000)
        await eventually(lambda: client.get(f"{lease}:seen") is None)
        assert client.pttl(lease) > 0, f"it was {begun} at first"
    assert len(upstream.requests) == 1
    go.set()
    assert (await leading)[0]["x-cache"] == "miss"
    assert (await waiting)[0]["x-cache"] == "hit-redis"
    await eventually(lambda: keys(redis)[1] == [])


async def test_a_lease_is_given_back_behind_the_entry(
    go: asyncio.Event, upstream: FakeUpstream, redis: RedisServer, pair: Pair
) -> None:
    """Who waits for it finds the entry when it is gone."""
    go.set()
    with redis.client() as client:
        client.config_set("slowlog-log-slower-than", "0")
        client.config_set("slowlog-max-len", "1000")
        client.slowlog_reset()
        await ask(pair.first.url)
        await eventually(lambda: len(keys(redis)[0]) == 1 and keys(redis)[1] == [])
        said = [one["command"].decode(errors="replace") for one in reversed(client.slowlog_get(1000))]  # type: ignore[arg-type]
    scripts = [at for at, one in enumerate(said) if one.startswith("EVAL")]
    (written,) = [at for at, one in enumerate(said) if one.startswith("SET capstan:cache:") and " NX " not in one]
    assert scripts[0] < written < scripts[-1], said
    assert len(upstream.requests) == 1


async def test_who_leaves_gives_its_lease_back(upstream: FakeUpstream, redis: RedisServer, pair: Pair) -> None:
    """Nobody waits for an answer that nobody makes any more."""
    leaving = asyncio.create_task(ask(pair.first.url))
    await eventually(lambda: len(upstream.requests) == 1)
    assert len(keys(redis)[1]) == 1
    leaving.cancel()
    await eventually(lambda: keys(redis)[1] == [])
    assert keys(redis)[0] == []


async def test_who_leaves_while_it_looks_takes_no_lease(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """At whatever moment: a lease that nobody knows of is given back at once, and does not just lapse."""
    monkeypatch.setattr(shared, "LEASE_MS", 120_000)
    links = make_links(read_address(redis.url), seconds=5.0, rng=Random(1))  # noqa: S311 - jitter
    key = CacheKey("p" * 32, "m" * 16, b"d" * 32)
    entries = shared.RedisEntries(
        links,
        policy="c",
        codec=lambda: Codec(compression=Compression.NONE),
        max_entry_bytes=1000,
        ttl_ms=1000,
        now_ms=lambda: 0,
    )
    for turns in range(8):
        looking = asyncio.create_task(entries.look(key, lease=True))
        for _ in range(turns):
            await asyncio.sleep(0)
        looking.cancel()
        await asyncio.wait((looking,))
        if not looking.cancelled() and (lease := looking.result().lease) is not None:
            lease.release()
        await eventually(lambda: keys(redis)[1] == [], every=0.02)
    await links.aclose()


@pytest.mark.parametrize("stream", [False, True])
async def test_nobody_waits_for_ever_for_another_replica(
    stream: bool, go: asyncio.Event, upstream: FakeUpstream, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has waited long enough asks for itself, and both have their answers."""
    monkeypatch.setattr(layer, "STREAM_WAIT_SECONDS" if stream else "WAIT_SECONDS", 0.1)
    leading = asyncio.create_task(ask(pair.first.url, stream=stream))
    await eventually(lambda: len(upstream.requests) == 1)
    waiting = asyncio.create_task(ask(pair.second.url, stream=stream))
    await eventually(lambda: len(upstream.requests) == 2)
    go.set()
    answers = await asyncio.gather(leading, waiting)
    assert [head["x-cache"] for head, _ in answers] == ["miss", "miss"]


async def test_redis_that_goes_away_harms_no_answer(
    go: asyncio.Event, upstream: FakeUpstream, redis: RedisServer, pair: Pair
) -> None:
    """What is under way is answered, kept in memory, and others ask for themselves."""
    leading = asyncio.create_task(ask(pair.first.url))
    await eventually(lambda: len(upstream.requests) == 1)
    redis.kill()
    waiting = asyncio.create_task(ask(pair.second.url))
    await eventually(lambda: len(upstream.requests) == 2)
    go.set()
    answers = await asyncio.gather(leading, waiting, ask(pair.first.url))
    assert [head["x-cache"] for head, _ in answers[:2]] == ["miss", "miss"]
    await eventually(lambda: _hits(pair.first), what="a hit in memory")


async def _hits(gateway: RunningGateway) -> bool:
    return (await ask(gateway.url))[0]["x-cache"] == "hit-memory"
