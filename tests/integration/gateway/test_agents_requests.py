"""What agents send besides a conversation, over HTTP: where it goes, and where it does not."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from capstan_contract.config import (
    CascadeBackend,
    Compatibility,
    HostedTools,
    RouterBackend,
    RouterMember,
    Strategy,
)
from fakes.openai_upstream import FakeUpstream, Received, Wire, completion, frame
from support.gateway import RunningGateway, entry, running_gateway

SYSTEM = "You are an agent of one session. " * 60
TURN: dict[str, Any] = {"model": "chat", "max_tokens": 9, "messages": [{"role": "user", "content": "task"}]}
SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
OWN = {"name": "w", "input_schema": {"type": "object", "properties": {}}}


@pytest.fixture
async def engines() -> AsyncIterator[list[FakeUpstream]]:
    """Two engines."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(FakeUpstream()) for _ in range(2)]


@pytest.fixture
async def gateway(tmp_path: Path, engines: list[FakeUpstream]) -> AsyncIterator[RunningGateway]:
    """A gateway before both, and before the first alone with the settings of its owner."""
    strict = Compatibility(hostedTools=HostedTools.REFUSE)
    models = (
        entry("chat", *(engine.url for engine in engines)),
        entry("strict", engines[0].url, compatibility=strict, maxOutputTokens=50, contextWindow=3000),
    )
    async with running_gateway(tmp_path, *models) as running:
        yield running


async def post(gateway: RunningGateway, document: dict[str, Any], path: str = "/v1/messages") -> httpx.Response:
    """Send one request."""
    async with httpx.AsyncClient(timeout=60) as client:
        return await client.post(f"{gateway.url}{path}", json=document)


async def test_a_session_with_a_changing_billing_line_stays_with_one_engine(
    gateway: RunningGateway, engines: list[FakeUpstream]
) -> None:
    """The hash in Claude Code's first system line is neither in the key of affinity nor in what an engine sees."""
    for number in range(24):
        billing = f"x-anthropic-billing-header: cc_version=2.1.207.f3a; cc_entrypoint=cli; cch={number * 7919:05x};"
        system = [{"type": "text", "text": billing}, {"type": "text", "text": SYSTEM}]
        answer = await post(gateway, {**TURN, "system": system})
        assert answer.status_code == 200, answer.text
    assert sorted(len(engine.requests) for engine in engines) == [0, 24]
    seen = {json.dumps(request.document) for engine in engines for request in engine.requests}
    assert len(seen) == 1
    assert "billing" not in seen.pop()


async def test_hosted_tools_are_left_out_and_named(gateway: RunningGateway, engines: list[FakeUpstream]) -> None:
    """The model gets the client's own tools, and the client is told which it did not get."""
    answer = await post(gateway, {**TURN, "tools": [SEARCH, OWN]})
    assert answer.headers["x-capstan-dropped-tools"] == "web_search_20250305"
    (request,) = [request for engine in engines for request in engine.requests]
    assert [tool["function"]["name"] for tool in request.document["tools"]] == ["w"]
    assert "x-capstan-dropped-tools" not in (await post(gateway, {**TURN, "tools": [OWN]})).headers


async def test_hosted_tools_are_refused_where_the_owner_says_so(
    gateway: RunningGateway, engines: list[FakeUpstream]
) -> None:
    """The error names the tool, and the engine is not asked."""
    answer = await post(gateway, {**TURN, "model": "strict", "tools": [OWN, SEARCH]})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert "`tools.1.type`" in answer.text
    assert "web_search_20250305" in answer.text
    assert engines[0].requests == []


LIKE_CLAUDE_CODE: dict[str, Any] = {
    "model": "strict",
    "system": [
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cch=1;"},
        {"type": "text", "text": "S"},
    ],
    "messages": [
        {"role": "user", "content": "task"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": ""}]},
        {"role": "system", "content": "Agent kinds."},
    ],
    "tools": [SEARCH, OWN],
    "metadata": {"user_id": '{"device_id":"0123456789abcdef"}'},
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "high"},
    "context_management": {"edits": []},
}  # fmt: skip


async def test_an_engine_counts_what_it_would_be_sent(gateway: RunningGateway, engines: list[FakeUpstream]) -> None:
    """As on `/v1/messages`: no tool of a hosted API, no system turn in the middle, nothing of the client's own."""

    async def count(_: Received, wire: Wire) -> None:
        await wire.json({"input_tokens": 7})

    engines[0].respond = count
    answer = await post(gateway, LIKE_CLAUDE_CODE, "/v1/messages/count_tokens")
    assert (answer.status_code, answer.json()) == (200, {"input_tokens": 7})
    (request,) = engines[0].requests
    assert request.path == "/v1/messages/count_tokens"
    assert set(request.document) == {"model", "messages", "system", "tools"}
    assert request.document["system"] == [{"type": "text", "text": "S"}]
    assert [tool["name"] for tool in request.document["tools"]] == ["w"]
    assert {message["role"] for message in request.document["messages"]} == {"user"}
    for secret in (b"0123456789abcdef", b"billing", b"thinking", b"web_search"):
        assert secret not in request.body


@pytest.mark.parametrize("status", [400, 404, 405, 413, 422])
async def test_a_prompt_is_estimated_where_an_engine_cannot_count_it(
    gateway: RunningGateway, engines: list[FakeUpstream], status: int
) -> None:
    """Whatever it has against the route or the request; agents take a model that does not count for broken."""

    async def refuse(_: Received, wire: Wire) -> None:
        await wire.json({"error": {"message": "input_schema: Field required"}}, status)

    engines[0].respond = refuse
    answer = await post(gateway, LIKE_CLAUDE_CODE, "/v1/messages/count_tokens")
    assert answer.status_code == 200, answer.text
    few = answer.json()["input_tokens"]
    more = {**LIKE_CLAUDE_CODE, "system": SYSTEM}
    assert (await post(gateway, more, "/v1/messages/count_tokens")).json()["input_tokens"] > few + 400


async def test_what_is_no_count_is_none_and_no_fault_of_the_engine(
    gateway: RunningGateway, engines: list[FakeUpstream]
) -> None:
    """A server may answer anything at a path that it does not know; it goes on serving messages."""

    async def something(received: Received, wire: Wire) -> None:
        chat = received.path.endswith("/chat/completions")
        await wire.json(completion("strict") if chat else {"status": "ok"})

    engines[0].respond = something
    for _ in range(20):
        answer = await post(gateway, LIKE_CLAUDE_CODE, "/v1/messages/count_tokens")
        assert (answer.status_code, answer.json()["input_tokens"] > 10) == (200, True)
    assert (await post(gateway, {**TURN, "model": "strict"})).status_code == 200


@pytest.mark.parametrize(("status", "told"), [(401, 401), (403, 403), (429, 429), (500, 502)])
async def test_a_refusal_that_is_not_about_counting_is_told(
    gateway: RunningGateway, engines: list[FakeUpstream], status: int, told: int
) -> None:
    """A busy or locked engine is no engine without the route."""

    async def refuse(_: Received, wire: Wire) -> None:
        await wire.json({"error": {"message": "no"}}, status)

    engines[0].respond = refuse
    assert (await post(gateway, LIKE_CLAUDE_CODE, "/v1/messages/count_tokens")).status_code == told


async def test_every_model_counts(tmp_path: Path, engines: list[FakeUpstream]) -> None:
    """Also virtual ones, with the count of a member, and those of which nobody is there: a wake-up is not worth it."""

    async def count(_: Received, wire: Wire) -> None:
        await wire.json({"input_tokens": 7})

    engines[0].respond = count
    members = tuple(RouterMember(model=f"test/{name}") for name in ("chat", "other"))
    models = [
        *(entry(name, engines[0].url) for name in ("chat", "other")),
        entry("router", backend=RouterBackend(strategy=Strategy.CHEAPEST, members=members)),
        entry("cascade", backend=CascadeBackend(members=("test/chat", "test/other"), threshold=0.9)),
        entry("idle"),
        entry("dead", "http://127.0.0.1:9"),
    ]
    asked = {key: value for key, value in LIKE_CLAUDE_CODE.items() if key != "tools"}
    async with running_gateway(tmp_path, *models, endpoint_wait_seconds=60) as gateway:
        for model in ("chat", "router", "cascade", "auto", "idle", "dead"):
            answer = await post(gateway, {**asked, "model": model}, "/v1/messages/count_tokens")
            assert answer.status_code == 200, (model, answer.text)
            assert (answer.json()["input_tokens"] == 7) is (model not in ("idle", "dead"))
    assert {request.path for request in engines[0].requests} == {"/v1/messages/count_tokens"}


async def test_a_count_without_messages_is_refused_as_a_message_is(
    gateway: RunningGateway, engines: list[FakeUpstream]
) -> None:
    """The error names the field; nobody is asked."""
    answer = await post(gateway, {"model": "strict"}, "/v1/messages/count_tokens")
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert "`messages`" in answer.text
    assert engines[0].requests == []


async def test_a_prompt_that_is_too_long_is_told_in_numbers_where_an_engine_names_none(
    gateway: RunningGateway, engines: list[FakeUpstream]
) -> None:
    """Claude Code compacts by the words and reads the numbers: the window is the config's, the prompt is estimated."""

    told = {"error": {"message": "Please reduce the length of the messages or completion.", "code": 400}}

    async def refuse(received: Received, wire: Wire) -> None:
        if not received.document.get("stream"):
            return await wire.json(told, 400)
        await wire.stream_head()  # Some find out behind their head.
        await wire.chunk(frame(told))
        return await wire.end()

    engines[0].respond = refuse
    for length, more, stream in ((4000, True, False), (10, False, False), (4000, True, True)):
        words = {**TURN, "model": "strict", "messages": [{"role": "user", "content": "word " * length}]}
        answer = await post(gateway, {**words, "stream": stream})
        assert answer.status_code == 400
        said = re.fullmatch(r"prompt is too long: (\d+) tokens > 3000 maximum", answer.json()["error"]["message"])
        assert said, answer.text
        assert (int(said[1]) > 4900) if more else (int(said[1]) == 3001)
    said_to_codex = await post(gateway, {"model": "strict", "input": "x"}, "/v1/responses")
    assert (said_to_codex.status_code, said_to_codex.json()["error"]["code"]) == (400, "context_length_exceeded")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_what_an_agent_says_of_itself_reaches_no_engine(
    gateway: RunningGateway, engines: list[FakeUpstream], path: str
) -> None:
    """Neither the field nor a word of it."""
    body: dict[str, Any] = {"model": "strict", "client_metadata": {"workspaces": "/home/secret"}, "max_tokens": 9000}
    turns = [{"role": "user", "content": "x"}]
    body |= {"input": turns, "max_output_tokens": 9000} if path.endswith("responses") else {"messages": turns}
    answer = await post(gateway, body, path)
    assert answer.status_code == 200, answer.text
    (request,) = engines[0].requests
    assert b"secret" not in request.body
    assert request.document["max_tokens"] == 50
