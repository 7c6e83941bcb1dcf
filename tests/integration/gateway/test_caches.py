"""A gateway with CachePolicies: what is there is given again, and what is asked at once is asked once."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.caches import Bypass, CacheBody, cache_entry
from capstan_contract.config import ModelEntry, PolicyEntry
from capstan_contract.limits import Mode
from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, answer, completion, delta, frame
from support.gateway import RunningGateway, entry, running_gateway
from support.wait import eventually

ID = "CachePolicy/t/c"
MESSAGES: Any = [{"role": "user", "content": "what is the capital of France?"}]
CHAT = "/v1/chat/completions"
ROUTES: list[tuple[str, dict[str, Any]]] = [
    (CHAT, {"messages": MESSAGES}),
    (CHAT, {"messages": MESSAGES, "stream": True}),
    ("/v1/messages", {"messages": MESSAGES, "max_tokens": 9}),
    ("/v1/messages", {"messages": MESSAGES, "max_tokens": 9, "stream": True}),
    ("/v1/responses", {"input": "what is the capital of France?"}),
    ("/v1/responses", {"input": "what is the capital of France?", "stream": True}),
    ("/v1/completions", {"prompt": "the capital of France is"}),
    ("/v1/completions", {"prompt": "the capital of France is", "stream": True}),
]


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine that answers, until a test says otherwise."""
    async with FakeUpstream(answer) as fake:
        yield fake


def policy(name: str = "c", **fields: Any) -> PolicyEntry:
    """Give a policy."""
    return cache_entry("t", name, CacheBody(**fields))


def cached(upstream: FakeUpstream, name: str = "chat", **fields: Any) -> ModelEntry:
    """Give a model with the policy on it."""
    return entry(name, upstream.url, **{"policies": (ID,), **fields})


async def post(
    gateway: RunningGateway, path: str, body: dict[str, Any], headers: dict[str, str] | None = None
) -> httpx2.Response:
    """Ask."""
    async with httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client:
        return await client.post(path, json={"model": "chat", **body}, headers=headers)


def text_of(response: httpx2.Response) -> str:
    """Give all that is there of an answer but what is made anew each time."""
    text = response.text if response.text.startswith(("data", "event")) else json.dumps(response.json())
    return re.sub(r'"(id|created|created_at|completed_at|item_id|usage)": ?("[^"]*"|\d+|\{[^}]*\}+)', "", text)


@pytest.mark.parametrize(("path", "body"), ROUTES)
async def test_what_was_answered_is_given_again(
    path: str, body: dict[str, Any], upstream: FakeUpstream, tmp_path: Path
) -> None:
    """The same request gets the same answer on every route, in one piece and as a stream, and no model is asked."""
    async with running_gateway(tmp_path, cached(upstream), policies=(policy(),)) as gateway:
        began = time.monotonic()
        first, second = await post(gateway, path, body), await post(gateway, path, body)
        passed = time.monotonic() - began
    assert (first.status_code, second.status_code) == (200, 200)
    assert (first.headers["x-cache"], second.headers["x-cache"]) == ("miss", "hit-memory")
    assert 0 <= int(second.headers["age"]) <= passed + 0.01  # it counts in whole milliseconds
    assert first.headers["x-cache-key"] == second.headers["x-cache-key"]
    assert text_of(first) == text_of(second) or body.get("stream")
    assert len(upstream.requests) == 1


async def test_a_stream_and_an_answer_in_one_piece_are_one_entry(upstream: FakeUpstream, tmp_path: Path) -> None:
    """What was streamed is given in one piece, and the reverse; the order of names makes no difference."""
    async with running_gateway(tmp_path, cached(upstream), policies=(policy(),)) as gateway:
        await post(gateway, CHAT, {"messages": MESSAGES, "stream": True, "temperature": 0})
        whole = await post(gateway, CHAT, {"temperature": 0, "messages": MESSAGES})
        streamed = await post(gateway, CHAT, {"messages": MESSAGES, "temperature": 0, "stream": True})
    assert [one.headers["x-cache"] for one in (whole, streamed)] == ["hit-memory", "hit-memory"]
    assert whole.json()["choices"][0]["message"]["content"]
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert len(upstream.requests) == 1


async def test_what_is_asked_at_once_is_asked_once(upstream: FakeUpstream, tmp_path: Path) -> None:
    """A hundred same requests at once are one call, streams too: each client gets all of it."""
    go = asyncio.Event()

    async def waits(received: Received, wire: Wire) -> None:
        await go.wait()
        await answer(received, wire)

    upstream.respond = waits
    for stream in (False, True):
        go.clear()
        async with (
            running_gateway(tmp_path, cached(upstream), policies=(policy(),)) as gateway,
            httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
        ):
            body = {"model": "chat", "messages": MESSAGES, "stream": stream}
            asking = [asyncio.create_task(client.post(CHAT, json=body)) for _ in range(100)]
            await eventually(lambda: len(gateway.gateway.requests) == 100)
            go.set()
            answers = await asyncio.gather(*asking)
        assert {one.status_code for one in answers} == {200}
        assert sorted({one.headers["x-cache"] for one in answers}) == ["hit-memory", "miss"]
        assert len({text_of(one) for one in answers}) == 1
    assert len(upstream.requests) == 2


async def test_a_client_that_leaves_takes_nothing_from_those_who_wait_with_it(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Whoever asked first may go: the others get all of the stream."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(received: Received, wire: Wire) -> None:
        model = received.document["model"]
        await wire.stream_head()
        await wire.chunk(frame(delta(model, "Pa")))
        begun.set()
        await go.wait()
        await wire.chunk(frame(delta(model, "ris")) + frame(delta(model, None, "stop")) + DONE)
        await wire.end()

    upstream.respond = slow
    body = {"messages": MESSAGES, "stream": True}
    async with running_gateway(tmp_path, cached(upstream), policies=(policy(),)) as gateway:
        leader = asyncio.create_task(post(gateway, CHAT, body))
        await begun.wait()
        follower = asyncio.create_task(post(gateway, CHAT, body))
        await eventually(lambda: len(gateway.gateway.requests) == 2)
        leader.cancel()
        await eventually(lambda: len(gateway.gateway.requests) == 1)
        go.set()
        response = await follower
    assert "ris" in response.text
    assert response.text.endswith("data: [DONE]\n\n")
    assert len(upstream.requests) == 1


async def test_shadow_changes_nothing(upstream: FakeUpstream, tmp_path: Path) -> None:
    """In mode Shadow every request is answered by the model, and what would have been is counted."""
    async with running_gateway(tmp_path, cached(upstream), policies=(policy(mode=Mode.SHADOW),)) as gateway:
        answers = [await post(gateway, CHAT, {"messages": MESSAGES}) for _ in range(3)]
        counts = gateway.gateway.caches.report().policies[ID]
    assert all("x-cache" not in one.headers for one in answers)
    assert len(upstream.requests) == 3
    assert (counts.memoryHits, counts.misses) == (2, 1)


async def test_shadow_counts_what_a_policy_would_leave_alone(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Who tries a policy on requests that it has nothing to do with sees that in its counts, and clients do not."""
    async with running_gateway(tmp_path, cached(upstream), policies=(policy(mode=Mode.SHADOW),)) as gateway:
        headers = {"cache-control": "no-store, only-if-cached"}
        answer = await post(gateway, CHAT, {"messages": MESSAGES}, headers)
        counts = gateway.gateway.caches.report().policies[ID]
    assert answer.status_code == 200
    assert "x-cache" not in answer.headers
    assert (counts.bypassed, counts.misses) == (1, 0)


@pytest.mark.parametrize(
    ("headers", "words", "asked"),
    [
        ({"cache-control": "no-cache"}, ["miss", "miss"], 3),
        ({"cache-control": "no-store"}, ["bypass", "bypass"], 3),
        ({"cache-control": "only-if-cached"}, ["hit-memory", "hit-memory"], 1),
        ({"cache-control": "max-age=60"}, ["hit-memory", "hit-memory"], 1),
    ],
)
async def test_what_the_client_says_about_caching_is_done(
    headers: dict[str, str], words: list[str], asked: int, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """`Cache-Control` of a request is respected."""
    async with running_gateway(tmp_path, cached(upstream), policies=(policy(),)) as gateway:
        await post(gateway, CHAT, {"messages": MESSAGES})
        answers = [await post(gateway, CHAT, {"messages": MESSAGES}, headers) for _ in range(2)]
    assert [one.headers["x-cache"] for one in answers] == words
    assert len(upstream.requests) == asked


async def test_only_if_cached_gets_nothing_else(upstream: FakeUpstream, tmp_path: Path) -> None:
    """Who takes nothing but what is there is told so when nothing is, and no model is asked."""
    async with running_gateway(tmp_path, cached(upstream), policies=(policy(),)) as gateway:
        response = await post(gateway, CHAT, {"messages": MESSAGES}, {"cache-control": "only-if-cached"})
    assert (response.status_code, response.json()["error"]["code"]) == (504, "cache_miss")
    assert not upstream.requests


@pytest.mark.parametrize(
    "body",
    [
        {"messages": MESSAGES, "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        {"messages": MESSAGES, "temperature": 0.9},
        {"messages": [{"role": "user", "content": [
            {"type": "text", "text": "what is this?"},
            {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}},
        ]}]},
    ],
)  # fmt: skip
async def test_what_a_policy_leaves_alone_is_asked_each_time(
    body: dict[str, Any], upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Requests with tools, above the temperature, or about what lies elsewhere have nothing to do with the cache."""
    bypass = Bypass(temperatureAbove=0.5)
    async with running_gateway(tmp_path, cached(upstream), policies=(policy(bypass=bypass),)) as gateway:
        answers = [await post(gateway, CHAT, {"temperature": 0, **body}) for _ in range(2)]
    assert [one.headers["x-cache"] for one in answers] == ["bypass", "bypass"]
    assert len(upstream.requests) == 2


async def test_what_was_cut_short_is_not_kept(upstream: FakeUpstream, tmp_path: Path) -> None:
    """An answer that has reached its length is made anew."""

    async def short(received: Received, wire: Wire) -> None:
        document = completion(received.document["model"], "Par")
        document["choices"][0]["finish_reason"] = "length"
        await wire.json(document)

    upstream.respond = short
    async with running_gateway(tmp_path, cached(upstream), policies=(policy(),)) as gateway:
        answers = [await post(gateway, CHAT, {"messages": MESSAGES}) for _ in range(2)]
    assert [one.headers["x-cache"] for one in answers] == ["miss", "miss"]


async def test_an_answer_of_a_fallback_is_not_kept(upstream: FakeUpstream, tmp_path: Path) -> None:
    """What another model has answered is not given again under the first one's name."""

    async def fails(received: Received, wire: Wire) -> None:
        await wire.json({"error": {"message": "no"}}, status=500)

    async with FakeUpstream(fails) as broken:
        models = (cached(broken, fallbacks=("other",)), entry("other", upstream.url))
        async with running_gateway(tmp_path, *models, policies=(policy(),)) as gateway:
            answers = [await post(gateway, CHAT, {"messages": MESSAGES}) for _ in range(2)]
    assert [one.headers["x-cache"] for one in answers] == ["miss", "miss"]
    assert {one.headers["x-capstan-model"] for one in answers} == {"other"}
