"""No order of puts, deletes and settings keeps more of a tenant than it may have."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.memory import MemoryBudget
from capstan_gateway.stores.keys import tenant_prefix
from capstan_gateway.stores.redis import RedisStore
from capstan_gateway.stores.responses import OWN_BYTES, Bounds, ResponseStore, Stored
from support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.redis
RNG = Random(1)  # noqa: S311 - jitter
NAMES = st.sampled_from([f"r{number}" for number in range(8)])
PUT = st.tuples(st.just("put"), NAMES, st.integers(0, 3000))
DELETE = st.tuples(st.just("delete"), NAMES, st.just(0))
BOUNDS = st.builds(
    Bounds, seconds=st.just(600), response_bytes=st.just(10_000), responses=st.integers(1, 5),
    tenant_bytes=st.integers(OWN_BYTES, 10_000),
)  # fmt: skip
STEPS = st.lists(st.one_of(PUT, PUT, PUT, DELETE), max_size=14)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all examples, each of which empties it."""
    with redis_server(Path(tmp_path_factory.mktemp("redis"))) as running:
        yield running


@given(phases=st.lists(st.tuples(BOUNDS, STEPS), min_size=1, max_size=3))
def test_never_more_than_a_tenant_may_have(
    server: RedisServer, phases: Sequence[tuple[Bounds, Sequence[tuple[str, str, int]]]]
) -> None:
    """After each put there are at most so many responses, of at most so many bytes, and they are the newest that fit.

    The model: a list of names and sizes, from which the first go until the new one has room.
    """
    with server.client() as client:
        client.flushall()
        asyncio.run(_play(server.url, client, phases))


async def _play(url: str, client: object, phases: Sequence[tuple[Bounds, Sequence[tuple[str, str, int]]]]) -> None:
    redis = RedisStore(url, seconds=30, rng=RNG)
    try:
        await _play_on(redis, client, phases)
    finally:
        await redis.aclose()


async def _play_on(
    redis: RedisStore, client: object, phases: Sequence[tuple[Bounds, Sequence[tuple[str, str, int]]]]
) -> None:
    model: dict[str, int] = {}
    for bounds, steps in phases:
        store = ResponseStore(redis, bounds, budget=MemoryBudget(1 << 30), rng=RNG)
        for what, name, size in steps:
            if what == "delete":
                assert await store.delete("t", name) is (model.pop(name, None) is not None)
            else:
                assert store.keep("t", name, Stored(b"x" * size, b""))
                await store.aclose()
                _expect(model, bounds, name, size + OWN_BYTES)
                assert len(model) <= bounds.responses
                assert sum(model.values()) <= bounds.tenant_bytes
            assert _kept(client) == list(model.items())


def _expect(model: dict[str, int], bounds: Bounds, name: str, size: int) -> None:
    fits = size <= bounds.tenant_bytes
    if fits:
        model.pop(name, None)
    needed = size if fits else 0
    while model and (len(model) > bounds.responses - fits or sum(model.values()) + needed > bounds.tenant_bytes):
        del model[next(iter(model))]
    if fits:
        model[name] = size


def _kept(client: object) -> list[tuple[str, int]]:
    """Give what Redis has, the oldest first; every place where it stands says the same."""
    prefix = tenant_prefix("t")
    order = [name.decode() for name in client.zrange(f"{prefix}index", 0, -1)]  # type: ignore[attr-defined]
    sizes = {name.decode(): int(size) for name, size in client.hgetall(f"{prefix}sizes").items()}  # type: ignore[attr-defined]
    assert sizes.pop("", 0) == sum(sizes.values())
    there = {key.decode().removeprefix(prefix) for key in client.keys(f"{prefix}r*")}  # type: ignore[attr-defined]
    assert set(order) == set(sizes) == there
    return [(name, sizes[name]) for name in order]
