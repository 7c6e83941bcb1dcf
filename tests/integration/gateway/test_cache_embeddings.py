"""Embeddings through a running gateway with a cache: only inputs that are not there are asked for."""

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.caches import CacheBody, RedisTier, cache_entry
from capstan_contract.config import ModelEntry, Price, Task
from capstan_gateway.caches.purges import Purge, What
from fakes.openai_upstream import FakeUpstream, Received, Wire
from support.gateway import RunningGateway, entry, running_gateway
from support.redis_server import redis_server
from support.wait import eventually

POLICY = cache_entry("t", "c", CacheBody())
SHARED = cache_entry("t", "c", CacheBody(redis=RedisTier()))


def vector(value: Any, document: dict[str, Any]) -> Any:
    """Compute one that says what it is of."""
    found = [float(sum(json.dumps(value).encode())), float(document.get("dimensions") or 2)]
    if document.get("encoding_format") != "base64":
        return found
    return base64.b64encode(struct.pack("<2f", *found)).decode()


async def respond(received: Received, wire: Wire) -> None:
    """Answer as engines do: each input has ten tokens."""
    document = received.document
    given = document["input"]
    values = [given] if isinstance(given, str) or isinstance(given[0], int) else given
    data = [
        {"object": "embedding", "index": at, "embedding": vector(value, document)} for at, value in enumerate(values)
    ]
    usage = {"prompt_tokens": 10 * len(values), "total_tokens": 10 * len(values)}
    await wire.json({"object": "list", "model": document["model"], "data": data[::-1], "usage": usage})


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine that embeds."""
    async with FakeUpstream(respond) as fake:
        yield fake


def model(upstream: FakeUpstream, **fields: Any) -> ModelEntry:
    """Give a model of it."""
    return entry("chat", upstream.url, task=Task.EMBED, policies=(POLICY.id,), **fields)


async def embed(
    gateway: RunningGateway, given: Any, headers: dict[str, str] | None = None, **fields: Any
) -> httpx2.Response:
    """Ask."""
    async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
        return await client.post("/v1/embeddings", json={"model": "chat", "input": given, **fields}, headers=headers)


def asked(upstream: FakeUpstream) -> list[Any]:
    """Give what the engine was asked for."""
    return [one.document["input"] for one in upstream.requests]


def vectors(response: httpx2.Response) -> list[Any]:
    """Give them in their order."""
    data = response.json()["data"]
    assert sorted(one["index"] for one in data) == list(range(len(data)))
    return [one["embedding"] for one in sorted(data, key=lambda one: one["index"])]


@pytest.mark.parametrize("form", ["float", "base64"])
async def test_only_what_is_not_there_is_asked_for(form: str, upstream: FakeUpstream, tmp_path: Path) -> None:
    """The answer is that for all inputs, in their order, in the form that was asked for; its usage says what was
    there."""
    async with running_gateway(tmp_path, model(upstream), policies=(POLICY,)) as gateway:
        first = await embed(gateway, ["a", "b"], encoding_format=form)
        second = await embed(gateway, ["c", "b", "a", "c", "d"], encoding_format=form)
        third = await embed(gateway, ["d", "a"], encoding_format=form)
        single = await embed(gateway, "c", encoding_format=form)
        counts = gateway.gateway.caches.report().policies[POLICY.id]
    assert asked(upstream) == [["a", "b"], ["c", "d"]]
    for response, values in ((first, "ab"), (second, "cbacd"), (third, "da"), (single, "c")):
        assert response.status_code == 200
        assert vectors(response) == [vector(value, {"encoding_format": form}) for value in values]
    assert [one.headers["x-cache"] for one in (first, second, third, single)] == [
        "miss", "miss", "hit-memory", "hit-memory",
    ]  # fmt: skip
    assert second.headers["x-cache-inputs"] == "2/5"
    assert second.json()["usage"] == {
        "prompt_tokens": 40, "total_tokens": 40, "prompt_tokens_details": {"cached_tokens": 20},
    }  # fmt: skip
    assert third.json()["usage"]["prompt_tokens_details"] == {"cached_tokens": 20}
    assert (counts.memoryHits, counts.misses, counts.savedTokens) == (2, 2, 20 + 20 + 10)


async def test_what_is_asked_beside_the_input_makes_a_difference(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Other dimensions, another form: other vectors."""
    async with running_gateway(tmp_path, model(upstream), policies=(POLICY,)) as gateway:
        for fields in ({}, {"dimensions": 3}, {"encoding_format": "base64"}, {"dimensions": 3}):
            response = await embed(gateway, ["a"], **fields)
            assert vectors(response) == [vector("a", fields)]
    assert len(upstream.requests) == 3


async def test_lists_of_token_ids_are_inputs_too(upstream: FakeUpstream, tmp_path: Path) -> None:
    """One list of ids is one input, a list of lists are several."""
    async with running_gateway(tmp_path, model(upstream), policies=(POLICY,)) as gateway:
        await embed(gateway, [1, 2])
        response = await embed(gateway, [[3], [1, 2]])
    assert asked(upstream) == [[1, 2], [[3]]]
    assert vectors(response) == [vector([3], {}), vector([1, 2], {})]


async def test_only_what_was_asked_for_is_charged(upstream: FakeUpstream, tmp_path: Path) -> None:
    """What was there costs nothing."""
    priced = model(upstream, price=Price(inputPerMillion=1.0))
    async with running_gateway(tmp_path, priced, policies=(POLICY,)) as gateway:
        costs = [(await embed(gateway, given)).headers.get("x-capstan-cost") for given in (["a", "b"], ["a", "c"])]
    assert costs == ["0.00002000", "0.00001000"]


async def test_replicas_share_inputs(upstream: FakeUpstream, tmp_path: Path) -> None:
    """What one has asked for, another one has."""
    with redis_server(tmp_path) as redis:
        for name, given, word in (("a", [f"{n}" for n in range(150)], "miss"), ("b", ["149", "0"], "hit-redis")):
            (tmp_path / name).mkdir()
            running = running_gateway(
                tmp_path / name, model(upstream), policies=(SHARED,), redis_url=redis.url, redis_limit_seconds=10.0
            )
            async with running as gateway:
                response = await embed(gateway, given)
                assert response.headers["x-cache"] == word
                assert vectors(response) == [vector(value, {}) for value in given]
                with redis.client() as client:
                    await eventually(lambda client=client: len(client.keys("capstan:cache:*")) == 150)
    assert len(upstream.requests) == 1


async def test_who_asks_after_a_purge_waits_for_nothing_that_was_asked_before_it(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    """What was under way when an input was purged is given to those who waited for it then, and to nobody else."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def waits(received: Received, wire: Wire) -> None:
        begun.set()
        await go.wait()
        await respond(received, wire)

    upstream.respond = waits
    async with running_gateway(tmp_path, model(upstream), policies=(POLICY,)) as gateway:
        before = asyncio.create_task(embed(gateway, ["a", "b"]))
        await begun.wait()
        await gateway.gateway.caches.purge(Purge(What.MODEL, "test/chat"))
        after = asyncio.create_task(embed(gateway, ["a", "b"]))
        await eventually(lambda: len(gateway.gateway.requests) == 2, what="both requests")
        upstream.respond = respond
        go.set()
        assert [(await one).headers["x-cache"] for one in (before, after)] == ["miss", "miss"]
    assert len(upstream.requests) == 2


@pytest.mark.parametrize(("headers", "calls"), [("no-cache", 2), ("no-store", 2), ("max-age=60", 1)])
async def test_what_the_client_says_about_caching(
    headers: str, calls: int, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """`Cache-Control` is respected here as well."""
    async with running_gateway(tmp_path, model(upstream), policies=(POLICY,)) as gateway:
        await embed(gateway, ["a"])
        await embed(gateway, ["a"], {"cache-control": headers})
        refused = await embed(gateway, ["a", "b"], {"cache-control": "only-if-cached"})
    assert refused.status_code == 504
    assert len(upstream.requests) == calls


async def test_errors_are_told_and_nothing_of_them_is_kept(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Also where some of the inputs were there: they are there the next time."""

    async def refuses(received: Received, wire: Wire) -> None:
        await wire.json({"error": {"message": "no", "code": 400}}, status=400)

    async with running_gateway(tmp_path, model(upstream), policies=(POLICY,)) as gateway:
        await embed(gateway, ["a"])
        upstream.respond = refuses
        failed = await embed(gateway, ["a", "b"])
        there = await embed(gateway, ["a"])
        upstream.respond = respond
        again = await embed(gateway, ["a", "b"])
    assert (failed.status_code, there.headers["x-cache"], again.status_code) == (400, "hit-memory", 200)
    assert asked(upstream)[-1] == ["b"]


async def test_an_answer_that_is_not_one_for_each_input(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Is given to nobody in parts: then all is asked as the client has asked it, and nothing is kept of it."""

    async def short(received: Received, wire: Wire) -> None:
        data = [{"object": "embedding", "index": 7, "embedding": [1.0]}]
        await wire.json({"object": "list", "model": "chat", "data": data, "usage": {"prompt_tokens": 1}})

    async with running_gateway(tmp_path, model(upstream), policies=(POLICY,)) as gateway:
        await embed(gateway, ["a"])
        upstream.respond = short
        odd = await embed(gateway, ["a", "b"])
        upstream.respond = respond
        await embed(gateway, ["a", "b"])
    assert odd.json()["data"][0]["index"] == 7
    assert asked(upstream) == [["a"], ["b"], ["a", "b"], ["b"]]
