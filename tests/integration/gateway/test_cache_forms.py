"""Answers out of a cache in every form: hosted dialects as they are, lists, stored responses, and what is no answer."""

import json
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.caches import CacheBody, RedisTier, cache_entry
from capstan_contract.config import Provider, Task
from capstan_contract.limits import Mode
from capstan_gateway.errors import Overloaded
from capstan_gateway.pipeline.caches import layer
from fakes import anthropic_upstream as anthropic
from fakes.openai_upstream import FakeUpstream, Received, Wire, answer, completion
from support.cached import cached_gateway
from support.gateway import entry, hosted_by, running_gateway
from support.redis_server import redis_server
from support.wait import eventually

ID = "CachePolicy/t/c"
POLICY = cache_entry("t", "c", CacheBody())
MESSAGES: Any = [{"role": "user", "content": "hello"}]
RESPONSE = {
    "id": "resp_hosted", "object": "response", "created_at": 1, "model": "gpt", "status": "completed", "error": None,
    "output": [
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
         "content": [{"type": "output_text", "text": "Hello there", "annotations": []}]}
    ],
    "usage": {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7},
}  # fmt: skip


async def hosted(received: Received, wire: Wire) -> None:
    """Answer as Anthropic's API does, and as OpenAI's Responses API."""
    document = received.document
    if received.path.endswith("/count_tokens"):
        return await wire.json({"input_tokens": 3})
    if received.path.endswith("/responses"):
        said = {**RESPONSE, "metadata": document.get("metadata")}
        if not document.get("stream"):
            return await wire.json(said)
        await wire.stream_head()
        event = json.dumps({"type": "response.completed", "sequence_number": 1, "response": said})
        first = json.dumps({"type": "response.output_text.delta", "sequence_number": 0, "delta": "Hello there"})
        await wire.chunk(f"event: response.output_text.delta\ndata: {first}\n\n".encode())
        await wire.chunk(f"event: response.completed\ndata: {event}\n\n".encode())
        return await wire.end()
    if not document.get("stream"):
        return await wire.json(anthropic.message([anthropic.text("Hello there")]))
    await wire.stream_head()
    block = b"".join(anthropic.block_events(0, anthropic.text("Hello there")))
    await wire.chunk(anthropic.begin() + block + anthropic.end("end_turn"))
    return await wire.end()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("provider", "path", "body", "other"),
    [
        (Provider.ANTHROPIC, "/v1/messages", {"messages": MESSAGES, "max_tokens": 9}, {"max_tokens": 8}),
        (Provider.ANTHROPIC, "/v1/chat/completions", {"messages": MESSAGES}, {"max_tokens": 8}),
        (Provider.OPENAI, "/v1/responses", {"input": "hello", "store": False}, {"metadata": {"a": "b"}}),
    ],
)
async def test_what_a_hosted_api_has_said_is_given_again_as_it_was(
    provider: Provider, path: str, body: dict[str, Any], other: dict[str, Any], stream: bool, tmp_path: Path
) -> None:
    """In its own dialect with every byte; another beta feature, or another label that is echoed, is another request."""
    model = "m"
    async with (
        FakeUpstream(hosted) as upstream,
        running_gateway(
            tmp_path, entry(model, policies=(ID,), backend=hosted_by(provider, upstream.url)), policies=(POLICY,),
            credentials={"key": "secret"},
        ) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):  # fmt: skip
        asked = {"model": model, **body, "stream": stream}
        began = time.monotonic()
        first, second = [await client.post(path, json=asked) for _ in range(2)]
        passed = time.monotonic() - began
        changed = await client.post(path, json={**asked, **other})
        beta = await client.post(path, json=asked, headers={"anthropic-beta": "of-tomorrow"})
    assert [one.headers["x-cache"] for one in (first, second, changed)] == ["miss", "hit-memory", "miss"]
    assert 0 <= int(second.headers["age"]) <= passed + 0.01  # it counts in whole milliseconds
    assert "Hello there" in first.text.replace('"}', "") or stream
    if path != "/v1/chat/completions":
        assert second.content == first.content
        assert second.headers["content-type"] == first.headers["content-type"]
    native = path == "/v1/messages"
    assert beta.headers["x-cache"] == ("miss" if native else "hit-memory")
    assert len(upstream.requests) == (3 if native else 2)


async def test_a_response_that_a_provider_stores_is_asked_for_each_time(tmp_path: Path) -> None:
    """What is to be done is not done by an answer: OpenAI stores a response unless it is told not to."""
    async with (
        FakeUpstream(hosted) as upstream,
        running_gateway(
            tmp_path, entry("m", policies=(ID,), backend=hosted_by(Provider.OPENAI, upstream.url)), policies=(POLICY,),
            credentials={"key": "secret"},
        ) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):  # fmt: skip
        told = [await client.post("/v1/responses", json={"model": "m", "input": "hello"}) for _ in range(2)]
    assert [one.headers["x-cache"] for one in told] == ["bypass", "bypass"]
    assert len(upstream.requests) == 2


LISTS: list[tuple[Task, str, dict[str, Any], dict[str, Any]]] = [
    (Task.EMBED, "/v1/embeddings", {"input": "https://example.org"}, {"data": [{"index": 0, "embedding": [0.5]}]}),
    (Task.SCORE, "/v1/score", {"text_1": "a", "text_2": "b"}, {"data": [{"index": 0, "score": 0.5}]}),
    (Task.SCORE, "/v1/rerank", {"query": "a", "documents": ["b"]}, {"results": [{"index": 0, "relevance_score": 1}]}),
    (Task.CLASSIFY, "/v1/classify", {"input": "a"}, {"data": [{"index": 0, "label": "x"}]}),
]


@pytest.mark.parametrize(("task", "path", "body", "said"), LISTS)
async def test_vectors_scores_and_classes_are_given_again_as_they_were(
    task: Task, path: str, body: dict[str, Any], said: dict[str, Any], tmp_path: Path
) -> None:
    """Number for number; a list with nothing in it is not kept."""
    empty = False

    async def lists(received: Received, wire: Wire) -> None:
        document = {name: [] for name in said} if empty else said
        await wire.json({"object": "list", "model": "m", **document, "usage": {"prompt_tokens": 3, "total_tokens": 3}})

    async with (
        FakeUpstream(lists) as upstream,
        running_gateway(tmp_path, entry("m", upstream.url, policies=(ID,), task=task), policies=(POLICY,)) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):
        first, second = [await client.post(path, json={"model": "m", **body}) for _ in range(2)]
        empty = True
        other = {"model": "m", **body, "user": "x", "truncate_prompt_tokens": 5}
        words = [(await client.post(path, json=other)).headers["x-cache"] for _ in range(2)]
    assert first.status_code == 200, first.text
    assert [one.headers["x-cache"] for one in (first, second)] == ["miss", "hit-memory"]
    assert first.json().keys() == second.json().keys()
    assert all(first.json()[name] == second.json()[name] for name in (*said, "model", "object"))
    assert words == ["miss", "miss"]
    assert len(upstream.requests) == 3


async def test_counting_has_nothing_to_do_with_caches(tmp_path: Path) -> None:
    """How long a prompt is is counted each time, and nothing is told of a cache."""
    async with (
        FakeUpstream(hosted) as upstream,
        running_gateway(
            tmp_path, entry("m", policies=(ID,), backend=hosted_by(Provider.ANTHROPIC, upstream.url)),
            policies=(POLICY,), credentials={"key": "secret"},
        ) as gateway,
        httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
    ):  # fmt: skip
        body = {"model": "m", "messages": MESSAGES}
        told = [await client.post("/v1/messages/count_tokens", json=body) for _ in range(2)]
        counts = gateway.gateway.caches.report().policies.get(ID)
    assert all(one.json() == {"input_tokens": 3} and "x-cache" not in one.headers for one in told)
    assert len(upstream.requests) == 2
    assert counts is None or (counts.misses, counts.bypassed) == (0, 0)


@pytest.mark.redis
async def test_what_is_to_be_stored_is_stored_with_each_hit(tmp_path: Path) -> None:
    """Two same requests get one answer under two ids, and both can be gone on from: the whole conversation is what is
    asked then."""
    with redis_server(tmp_path) as redis:
        async with (
            FakeUpstream(answer) as upstream,
            cached_gateway(
                tmp_path, entry("m", upstream.url, policies=(ID,)), policies=(POLICY,), redis=redis
            ) as (_, client),
        ):  # fmt: skip
            asked = {"model": "m", "input": "hello"}
            first, second = [await client.post("/v1/responses", json=asked) for _ in range(2)]
            ids = [one.json()["id"] for one in (first, second)]
            stored = [await client.get(f"/v1/responses/{one}") for one in ids]
            goes_on = [
                await client.post("/v1/responses", json={"model": "m", "input": said, "previous_response_id": one})
                for one, said in ((ids[0], "why?"), (ids[1], "why?"), (ids[0], "how?"))
            ]
            other = await client.post("/v1/responses", json={"model": "m", "input": "why?"})
    assert [one.headers["x-cache"] for one in (first, second)] == ["miss", "hit-memory"]
    assert len(set(ids)) == 2
    assert [one.json()["id"] for one in stored] == ids
    assert [one.headers["x-cache"] for one in (*goes_on, other)] == ["miss", "hit-memory", "miss", "miss"]
    assert [one.json()["previous_response_id"] for one in goes_on] == [ids[0], ids[1], ids[0]]


@pytest.mark.redis
@pytest.mark.parametrize(("mode", "shares"), [(Mode.SHADOW, False), (Mode.ENFORCE, True)])
async def test_who_only_looks_on_shares_nothing(mode: Mode, shares: bool, tmp_path: Path) -> None:
    """A policy in mode Shadow leaves nothing in Redis that would be given when it acts one day."""
    policy = cache_entry("t", "c", CacheBody(mode=mode, redis=RedisTier()))
    with redis_server(tmp_path) as redis, redis.client() as at_redis:
        async with (
            FakeUpstream(answer) as upstream,
            cached_gateway(
                tmp_path, entry("m", upstream.url, policies=(ID,)), policies=(policy,), redis=redis
            ) as (gateway, client),
        ):  # fmt: skip
            await client.post("/v1/chat/completions", json={"model": "m", "messages": MESSAGES})
            await eventually(lambda: gateway.gateway.caches.report().policies[ID].stored == 1)
            await eventually(lambda: any(at_redis.scan_iter("capstan:cache:1:*")) is shares)
            assert [bool(room.shared) for _, room in gateway.gateway.caches.rooms()] == [shares]


async def test_a_long_stream_out_of_the_cache_is_written_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the same as a short one is, made in another thread; where that has too much to do, on the loop."""

    async def long(received: Received, wire: Wire) -> None:
        said = "so it is " * 20_000 if "long" in received.document["messages"][-1]["content"] else "so it is"
        await wire.json(completion(received.document["model"], said))

    threads: list[bool] = []
    replayed, beside = layer.replayed, layer.beside

    def noting(*arguments: Any, **named: Any) -> Any:
        threads.append(threading.current_thread() is threading.main_thread())
        return replayed(*arguments, **named)

    async def busy(*_: Any) -> Any:
        raise Overloaded

    monkeypatch.setattr(layer, "replayed", noting)
    async with FakeUpstream(long) as upstream:
        model = entry("chat", upstream.url, policies=(ID,))
        async with (
            running_gateway(tmp_path, model, policies=(POLICY,)) as gateway,
            httpx2.AsyncClient(base_url=gateway.url, timeout=60) as client,
        ):
            cases = (("short", beside, True, 1), ("long", beside, False, 2), ("long", busy, True, 2))
            for text, work, on_loop, stored in cases:
                monkeypatch.setattr(layer, "beside", work)
                body = {"model": "chat", "messages": [{"role": "user", "content": text}]}
                whole = (await client.post("/v1/chat/completions", json=body)).json()["choices"][0]["message"]
                kept = partial(gateway.metric, "llm_cache_stored_total", policy="t/c")
                await eventually(lambda kept=kept, stored=stored: kept() == stored, what="the answer in memory")
                streamed = await client.post("/v1/chat/completions", json={**body, "stream": True})
                assert streamed.headers["x-cache"] == "hit-memory"
                frames = [json.loads(line[6:]) for line in streamed.text.split("\n\n") if line[6:7] == "{"]
                said = "".join(frame["choices"][0]["delta"].get("content", "") for frame in frames)
                assert said == whole["content"]
                assert threads[-1] is on_loop
