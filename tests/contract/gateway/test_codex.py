"""Requests as Codex 0.171 really sends them (long texts shortened), to a model that knows nothing but functions."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, delta, frame
from support.dialects import read_responses
from support.gateway import RunningGateway, entry, running_gateway

RECORDED = {
    file.stem: json.loads(file.read_text()) for file in sorted((Path(__file__).parent / "codex").glob("*.json"))
}


@pytest.fixture
async def gateway(tmp_path: Path, engine: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway with one model."""
    async with running_gateway(tmp_path, entry("coder", engine.url)) as running:
        yield running


async def ask(gateway: RunningGateway, request: dict[str, Any]) -> tuple[bytes, str | None]:
    """Send a request; give its whole stream, and which tools were left out."""
    url = f"{gateway.url}/v1/responses"
    async with aiohttp.ClientSession() as client, client.post(url, json={**request, "model": "coder"}) as response:
        body = await response.read()
        assert response.status == 200, body
        return body, response.headers.get("x-capstan-dropped-tools")


@pytest.mark.parametrize("name", RECORDED)
async def test_recorded_request_is_answered(gateway: RunningGateway, engine: FakeUpstream, name: str) -> None:
    """Every recorded request, first turns and later ones, is answered; the engine gets functions, messages, no more."""
    stream, dropped = await ask(gateway, RECORDED[name])
    assert read_responses(stream)["status"] == "completed"
    sent = engine.requests[0].document
    assert "client_metadata" not in sent
    assert b"installation" not in engine.requests[0].body
    assert {tool["type"] for tool in sent["tools"]} == {"function"}
    assert len({tool["function"]["name"] for tool in sent["tools"]}) == len(sent["tools"])
    assert {turn["role"] for turn in sent["messages"]} <= {"system", "user", "assistant", "tool"}
    hosted = any(tool["type"] == "web_search" for tool in RECORDED[name].get("tools", ()))
    assert dropped == ("web_search" if hosted else None)


@pytest.mark.parametrize(
    ("recorded", "name", "arguments", "expected"),
    [
        ("gpt-5.5", "apply_patch", '{"input":"*** Begin Patch\\n*** End Patch"}',
         {"type": "custom_tool_call", "name": "apply_patch", "input": "*** Begin Patch\n*** End Patch"}),
        ("gpt-5.5", "tool_search", '{"query":"add","limit":3}',
         {"type": "tool_search_call", "execution": "client", "arguments": {"query": "add", "limit": 3}}),
        ("mcp", "mcp__cal__add", '{"a":1,"b":2}',
         {"type": "function_call", "name": "add", "namespace": "mcp__cal", "arguments": '{"a":1,"b":2}'}),
        ("tool-search-second-turn", "mcp__cal__add", "{}",
         {"type": "function_call", "name": "add", "namespace": "mcp__cal"}),
        ("gpt-6.2-sol", "functions__exec", '{"input":"text(1)"}',
         {"type": "custom_tool_call", "name": "exec", "namespace": "functions", "input": "text(1)"}),
        ("default", "exec_command", '{"cmd":"ls"}', {"type": "function_call", "name": "exec_command"}),
    ],
)  # fmt: skip
async def test_calls_are_those_that_codex_runs(
    gateway: RunningGateway, engine: FakeUpstream, recorded: str, name: str, arguments: str, expected: dict[str, Any]
) -> None:
    """A call of the function that a tool became is, for Codex, a call of that tool."""

    async def call_it(_: Received, wire: Wire) -> None:
        call = {"index": 0, "id": "new", "type": "function", "function": {"name": name, "arguments": arguments}}
        choice = {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}
        await wire.stream_head()
        await wire.chunk(frame({**delta("coder", None), "choices": [choice]}) + DONE)
        await wire.end()

    engine.respond = call_it
    stream, _ = await ask(gateway, RECORDED[recorded])
    (item,) = read_responses(stream)["output"]
    assert item.items() >= {**expected, "call_id": "new"}.items()


async def test_image_of_a_tool_is_shown_to_the_model(gateway: RunningGateway, engine: FakeUpstream) -> None:
    """What view_image gave reaches the model as the user's image behind the turn's results."""
    await ask(gateway, RECORDED["view-image-second-turn"])
    *_, first, second, shown = engine.requests[0].document["messages"]
    assert (first["role"], first["content"], second["role"]) == ("tool", "(image)", "tool")
    assert shown["role"] == "user"
    assert shown["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
