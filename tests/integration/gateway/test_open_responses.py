"""The scenarios of the Open Responses compliance suite (2026-04-24) against a whole gateway, in our own words.

The suite is a TypeScript program of github.com/openresponses/openresponses; its checks are that the answer is 200, that
the body and each event hold their schemas, that the response is completed, has output, and a call where one was wanted.
Here the strict client of openresponses-py reads every answer as well: order of events, sequence numbers, [DONE].
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openresponses import AsyncOpenResponses

from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, completion, delta, frame, usage_chunk
from support.dialects import frames, read_responses
from support.gateway import RunningGateway, entry, running_gateway
from support.openresponses import faults_of_event, faults_of_response
from support.redis_server import redis_server

Document = dict[str, Any]
DOCS = Path(__file__).parents[3] / "docs/gateway.md"
WEATHER: Document = {
    "type": "function", "name": "get_weather", "description": "Get the current weather for a location",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]},
}  # fmt: skip
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
PDF = {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}


def user(*content: Document | str) -> Document:
    """Give what a user says."""
    parts = [{"type": "input_text", "text": part} if isinstance(part, str) else part for part in content]
    return {"type": "message", "role": "user", "content": parts}


def said(text: str, **fields: Any) -> Document:
    """Give what the model had said."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "role": "assistant", "content": content, **fields}


CALLED: list[Document] = [
    {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": '{"location":"Ulm"}'},
    {"type": "function_call_output", "call_id": "call_1", "output": '{"temperature":9}'},
]
SCENARIOS: dict[str, Document] = {
    "basic text": {"input": [user("Say hello in exactly 3 words.")]},
    "assistant message phase": {
        "input": [user("Hi"), said("Let me see.", phase="commentary"), said("Hello.", phase="final_answer"), user()]
    },
    "streaming": {"input": [user("Count from 1 to 5.")], "stream": True},
    "system prompt": {
        "input": [{"type": "message", "role": "system", "content": "You are a pirate."}, user("Say hello.")]
    },
    "tool calling": {"input": [user("What's the weather in Ulm?")], "tools": [WEATHER]},
    "tool calling, streaming": {"input": [user("What's the weather?")], "tools": [WEATHER], "stream": True},
    "function call round trip": {"input": [user("Weather?"), *CALLED], "tools": [WEATHER], "tool_choice": "none"},
    "image input": {"input": [user("What is this?", {"type": "input_image", "image_url": PIXEL})]},
    "file input": {
        "input": [user(PDF)]
    },
    "multi-turn": {"input": [user("My name is Al."), said("Hello Al!"), user("What is my name?")]},
}  # fmt: skip
STATEFUL = "previous response id"
"""Needs a Redis: `test_previous_response`."""
LEFT_OUT = ("compaction", "WebSocket")


async def respond(request: Received, wire: Wire) -> None:
    """Call the first tool where the model may, and say hello otherwise."""
    asked = request.document
    call = {"id": "call_7", "type": "function", "function": {"name": "get_weather", "arguments": '{"location":"Ulm"}'}}
    calls = bool(asked.get("tools")) and asked.get("tool_choice") != "none"
    if not asked.get("stream"):
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choices = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
        await wire.json(completion("m", choices=choices) if calls else completion("m"))
        return
    await wire.stream_head()
    if calls:
        function = {"name": "get_weather", "arguments": '{"loca'}
        first = {"tool_calls": [{**call, "index": 0, "function": function}]}
        second = {"tool_calls": [{"index": 0, "function": {"arguments": 'tion":"Ulm"}'}}]}
        for piece, finish in ((first, None), (second, "tool_calls")):
            choice = {"index": 0, "delta": piece, "finish_reason": finish}
            await wire.chunk(frame({**delta("m", None), "choices": [choice]}))
    else:
        for text in ("1, ", "2, ", "3"):
            await wire.chunk(frame(delta("m", text)))
        await wire.chunk(frame(delta("m", None, "stop")))
    await wire.chunk(frame(usage_chunk("m")) + DONE)
    await wire.end()


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """A gateway in front of a scripted engine."""
    async with FakeUpstream(respond) as engine, running_gateway(tmp_path, entry("m", engine.url)) as running:
        yield running


async def raw(gateway: RunningGateway, request: Document) -> aiohttp.ClientResponse:
    """Send a request as the suite does, and read the answer."""
    async with aiohttp.ClientSession() as client:
        response = await client.post(f"{gateway.url}/v1/responses", json=request)
        await response.read()
        return response


@pytest.mark.parametrize("name", SCENARIOS)
async def test_scenario(gateway: RunningGateway, name: str) -> None:
    """A scenario of the suite ends in a completed response with output, whose every part holds its schema."""
    request = {"model": "m", **SCENARIOS[name]}
    response = await raw(gateway, request)
    body = await response.read()
    assert response.status == 200, body
    if request.get("stream"):
        found = read_responses(body)
        assert [fault for _, event in frames(body) for fault in faults_of_event(event)] == []
    else:
        found = await response.json()
    assert faults_of_response(found) == []
    assert (found["status"], bool(found["output"]), found["completed_at"] is None) == ("completed", True, False)
    wants_call = name.startswith("tool calling")
    assert [item["type"] for item in found["output"]] == ["function_call" if wants_call else "message"]
    if wants_call:
        kinds = [kind for kind, _ in frames(body)] if request.get("stream") else []
        assert "response.function_call_arguments.done" in kinds or not kinds
        assert found["output"][0]["arguments"] == '{"location":"Ulm"}'


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.compatibility(
    table="clients", row="openresponses-py, strict, `/v1/responses`", package="pypi:openresponses-py", does="stream"
)
async def test_strict_client_reads_it(gateway: RunningGateway, name: str) -> None:
    """The package's own strict client takes each scenario, whole and streamed to its [DONE]."""
    request = {"model": "m", **SCENARIOS[name]}
    async with AsyncOpenResponses(base_url=f"{gateway.url}/v1", api_key="unused") as client:
        whole: Any = await client.responses.create({**request, "stream": False})
        assert whole.status == "completed"
        stream: Any = await client.responses.create({**request, "stream": True})
        events = [event async for event in stream]
    assert events[-1].type == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))


@pytest.mark.redis
@pytest.mark.parametrize("stream", [False, True])
async def test_previous_response(tmp_path: Path, stream: bool) -> None:
    """With a Redis a second request goes on from the first by its id, in nothing but what the schemas say."""
    with redis_server(tmp_path) as server:
        async with (
            FakeUpstream(respond) as engine,
            running_gateway(tmp_path, entry("m", engine.url), redis_url=server.url, redis_seconds=10.0) as gateway,
        ):
            first = await (await raw(gateway, {"model": "m", "input": [user("My name is Al.")]})).json()
            second = {"model": "m", "previous_response_id": first["id"], "input": [user("What is my name?")]}
            response = await raw(gateway, {**second, "stream": stream})
            body = await response.read()
            assert response.status == 200, body
            found = read_responses(body) if stream else await response.json()
            events = frames(body) if stream else []
            assert [fault for _, event in events for fault in faults_of_event(event)] == []
            assert faults_of_response(first) == faults_of_response(found) == []
            assert (found["status"], found["previous_response_id"]) == ("completed", first["id"])
            assert [message["role"] for message in engine.requests[-1].document["messages"]] == [
                "user", "assistant", "user",
            ]  # fmt: skip
            async with aiohttp.ClientSession() as client:
                url = f"{gateway.url}/v1/responses/{found['id']}"
                again = await (await client.get(url)).json()
                deleted = await (await client.delete(url)).json()
                assert (await client.get(url)).status == 404
            assert again == found
            assert deleted == {"id": found["id"], "object": "response", "deleted": True}


async def test_previous_response_is_refused_by_name(gateway: RunningGateway) -> None:
    """Without a Redis no response says `store: true`, and what refers to an earlier one is told why not."""
    first = await (await raw(gateway, {"model": "m", "input": "x", "store": True})).json()
    assert first["store"] is False
    response = await raw(gateway, {"model": "m", "input": "x", "previous_response_id": first["id"]})
    assert response.status == 400
    error = (await response.json())["error"]
    assert (error["param"], error["code"]) == ("previous_response_id", "unsupported_value")


def test_verdicts_are_written_down() -> None:
    """The page says of each scenario that it passes, and of each that is left out why; it names no others."""
    section = DOCS.read_text().split("### Open Responses")[1].split("\n##")[0]
    rows = dict(re.findall(r"^\| ([^|]+) \| (passes|left out)[^|]* \|", section, re.MULTILINE))
    assert rows == {**dict.fromkeys((*SCENARIOS, STATEFUL), "passes"), **dict.fromkeys(LEFT_OUT, "left out")}
