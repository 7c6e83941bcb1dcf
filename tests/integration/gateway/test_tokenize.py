"""`/tokenize` answers for every model, and says who has counted: an engine, a hosted API, or nobody."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.config import Provider, Task
from fakes.openai_upstream import FakeUpstream, Received, Wire
from support.gateway import RunningGateway, entry, hosted_by, running_gateway

MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "x" * 40}]
Respond = Callable[[Received, Wire], Awaitable[None]]
ESTIMATE = {"max_model_len": 4096, "tokens": [], "token_strs": None, "counted_by": "estimate"}


def answers(document: Any, status: int = 200) -> Respond:
    """Give an engine that answers so."""

    async def respond(_: Received, wire: Wire) -> None:
        await wire.json(document, status=status)

    return respond


async def ask(gateway: RunningGateway, path: str = "/tokenize", **fields: Any) -> httpx2.Response:
    """Ask for a count."""
    async with httpx2.AsyncClient(timeout=60) as client:
        return await client.post(f"{gateway.url}{path}", json={"model": "m", **fields}, timeout=60)


@pytest.mark.parametrize("path", ["/tokenize", "/v1/tokenize"])
@pytest.mark.parametrize("asked", [{"prompt": "hello"}, {"messages": MESSAGES, "add_generation_prompt": False}])
async def test_the_engine_counts_where_it_can(tmp_path: Path, path: str, asked: dict[str, Any]) -> None:
    """With the model's own tokenizer and template, beside its `/v1`; the answer is vLLM's, and costs nothing."""
    told = {"count": 7, "max_model_len": 128, "tokens": [1, 2], "token_strs": None}
    async with (
        FakeUpstream(answers(told)) as upstream,
        running_gateway(tmp_path, entry("m", upstream.url, upstreamName="own", task=Task.EMBED)) as gateway,
    ):
        reply = await ask(gateway, path, **asked)
        assert (reply.status_code, reply.json()) == (200, {**told, "counted_by": "engine"})
        assert gateway.metric("llm_tokens_total", model="m", direction="input") == 0
    (received,) = upstream.requests
    assert received.path == "/tokenize"
    assert {key: received.document.get(key) for key in ("model", *asked)} == {"model": "own", **asked}


@pytest.mark.parametrize(
    ("respond", "asked", "count", "by"),
    [
        (answers({"tokens": [1, 2, 3]}), {"prompt": "abc"}, 3, "engine"),
        (answers({"tokens": []}), {"messages": MESSAGES}, 16, "estimate"),
        (answers({"count": "7"}), {"messages": MESSAGES}, 16, "estimate"),
        (answers({"count": -1}), {"prompt": "x" * 40}, 10, "estimate"),
        (answers([7]), {"prompt": "x" * 40}, 10, "estimate"),
        (answers({"error": "no such route"}, 404), {"messages": MESSAGES}, 16, "estimate"),
        (answers({"error": "unknown field"}, 422), {"prompt": "x" * 40}, 10, "estimate"),
    ],
)
async def test_what_no_engine_counts_is_estimated(
    tmp_path: Path, respond: Respond, asked: dict[str, Any], count: int, by: str
) -> None:
    """An engine that tells nothing, or nonsense, is not believed: then it is said that the number is an estimate."""
    async with (
        FakeUpstream(respond) as upstream,
        running_gateway(tmp_path, entry("m", upstream.url, contextWindow=4096)) as gateway,
    ):
        told = (await ask(gateway, **asked)).json()
        assert (told["count"], told["counted_by"]) == (count, by)


async def test_a_model_without_an_engine_is_counted_too(tmp_path: Path) -> None:
    """At zero replicas nobody waits for one to count."""
    async with running_gateway(tmp_path, entry("m", contextWindow=4096)) as gateway:
        assert (await ask(gateway, messages=MESSAGES)).json() == {"count": 16, **ESTIMATE}


@pytest.mark.parametrize(
    ("provider", "asked", "count", "by"),
    [
        (Provider.OPENAI, {"messages": MESSAGES}, 16, "estimate"),
        (Provider.ANTHROPIC, {"messages": MESSAGES}, 99, "provider"),
        (Provider.ANTHROPIC, {"prompt": "x" * 40}, 10, "estimate"),
    ],
)
async def test_hosted_models_are_counted_by_their_api_or_estimated(
    tmp_path: Path, provider: Provider, asked: dict[str, Any], count: int, by: str
) -> None:
    """Anthropic counts conversations; OpenAI has nothing that counts, and is not asked."""
    async with FakeUpstream(answers({"input_tokens": 99})) as upstream:
        model = entry("m", backend=hosted_by(provider, upstream.url, key=None), contextWindow=4096)
        async with running_gateway(tmp_path, model) as gateway:
            told = (await ask(gateway, **asked)).json()
            assert (told["count"], told["counted_by"], told["max_model_len"]) == (count, by, 4096)
    assert [request.path for request in upstream.requests] == (
        ["/v1/messages/count_tokens"] if by == "provider" else []
    )


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({}, "prompt"),
        ({"prompt": "x", "messages": MESSAGES}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": ["x"]}, "prompt"),
        ({"messages": []}, "messages"),
        ({"messages": [7]}, "messages"),
        ({"messages": [{}]}, "messages"),
        ({"prompt": "x", "model": "nobody"}, "model"),
    ],
)
async def test_what_cannot_be_counted_is_refused(tmp_path: Path, asked: dict[str, Any], param: str) -> None:
    """By the field that is wrong, whoever would count."""
    async with running_gateway(tmp_path, entry("m", contextWindow=4096)) as gateway:
        reply = await ask(gateway, **asked)
        assert (reply.status_code, reply.json()["error"]["param"]) == (404 if param == "model" else 400, param)


async def count(gateway: RunningGateway, **fields: Any) -> httpx2.Response:
    """Ask as Anthropic's clients do."""
    async with httpx2.AsyncClient(timeout=60) as client:
        document = {"model": "m", "messages": MESSAGES, **fields}
        return await client.post(f"{gateway.url}/v1/messages/count_tokens", json=document, timeout=60)


def by_tokenize(document: Any, status: int = 200, *, without: int = 404) -> Respond:
    """Give an engine that has `/tokenize`, and answers with another status to counts of Anthropic's form."""

    async def respond(received: Received, wire: Wire) -> None:
        tokenizes = received.path == "/tokenize"
        await wire.json(document if tokenizes else {"detail": "Not Found"}, status=status if tokenizes else without)

    return respond


async def test_an_engine_counts_a_message_by_its_other_route(tmp_path: Path) -> None:
    """One without `/v1/messages/count_tokens` is sent the chat request that it would answer, and the missing route is
    not asked for again and again."""
    tool = {"name": "look", "description": "d", "input_schema": {"type": "object", "properties": {}}}
    async with (
        FakeUpstream(by_tokenize({"count": 321, "tokens": [1]})) as upstream,
        running_gateway(tmp_path, entry("m", upstream.url, upstreamName="own")) as gateway,
    ):
        for _ in range(3):
            reply = await count(gateway, system="Be brief.", tools=[tool], thinking={"type": "disabled"})
            assert (reply.status_code, reply.json()) == (200, {"input_tokens": 321})
            assert reply.headers["x-capstan-counted-by"] == "engine"
    paths = [received.path for received in upstream.requests]
    assert paths == ["/v1/messages/count_tokens", "/tokenize", "/tokenize", "/tokenize"]
    sent = upstream.requests[-1].document
    assert set(sent) == {"model", "messages", "tools"}
    assert sent["model"] == "own"
    assert [message["role"] for message in sent["messages"]] == ["system", "user"]
    assert sent["tools"][0]["function"]["name"] == "look"


@pytest.mark.parametrize(
    "respond",
    [
        by_tokenize({"error": "no such route"}, 404),
        by_tokenize({"error": "locked"}, 401),
        by_tokenize({"error": "broken"}, 500),
        by_tokenize({"tokens": []}),
        by_tokenize({"count": 0}),
        by_tokenize({"count": -4}),
        by_tokenize([7], without=422),
    ],
)
async def test_a_message_is_estimated_where_neither_route_counts(tmp_path: Path, respond: Respond) -> None:
    """Whatever is wrong with the other route was not asked for by the client: it gets the estimate, and is told."""
    async with (
        FakeUpstream(respond) as upstream,
        running_gateway(tmp_path, entry("m", upstream.url)) as gateway,
    ):
        for _ in range(2):
            reply = await count(gateway)
            assert (reply.status_code, reply.json()) == (200, {"input_tokens": 16})
            assert reply.headers["x-capstan-counted-by"] == "estimate"


async def test_a_picture_is_not_counted_by_a_tokenizer(tmp_path: Path) -> None:
    """It would count as the few tokens of its place in the text."""
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    async with (
        FakeUpstream(by_tokenize({"count": 9})) as upstream,
        running_gateway(tmp_path, entry("m", upstream.url)) as gateway,
    ):
        reply = await count(gateway, messages=[{"role": "user", "content": [picture]}])
        assert reply.json()["input_tokens"] > 700
        assert reply.headers["x-capstan-counted-by"] == "estimate"
    assert "/tokenize" not in [received.path for received in upstream.requests]


async def test_answers_that_are_no_counts_do_not_say_who_counted(tmp_path: Path) -> None:
    """Anthropic's own count is `provider`; an answer to a chat has no such header."""
    async with FakeUpstream(answers({"input_tokens": 99})) as upstream:
        model = entry("m", backend=hosted_by(Provider.ANTHROPIC, upstream.url, key=None))
        async with running_gateway(tmp_path, model) as gateway:
            assert (await count(gateway)).headers["x-capstan-counted-by"] == "provider"
    async with FakeUpstream() as upstream, running_gateway(tmp_path, entry("m", upstream.url)) as gateway:
        assert (
            "x-capstan-counted-by" not in (await ask(gateway, "/v1/messages", messages=MESSAGES, max_tokens=5)).headers
        )
