"""What agents send besides a conversation, over HTTP: where it goes, and where it does not."""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from capstan_contract.config import Compatibility, HostedTools
from fakes.openai_upstream import FakeUpstream
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
        entry("strict", engines[0].url, compatibility=strict, maxOutputTokens=50),
    )
    async with running_gateway(tmp_path, *models) as running:
        yield running


async def post(gateway: RunningGateway, document: dict[str, Any], path: str = "/v1/messages") -> httpx.Response:
    """Send one request."""
    async with httpx.AsyncClient(timeout=30) as client:
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
