"""Engines' own forms through a whole gateway: an answer that can be read is one, on each route, whole and streaming."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from capstan_gateway.pipeline.beside import LARGE_BYTES
from fakes.openai_upstream import FakeUpstream, Received, Wire
from support.dialects import frames, read_messages, read_responses
from support.gateway import RunningGateway, entry, running_gateway

PATHS = ("/v1/chat/completions", "/v1/messages", "/v1/responses")
ASKED: dict[str, Any] = {"model": "chat", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], "input": "x"}
HEAD: dict[str, Any] = {"id": "c", "created": 1, "model": "chat"}
HALF = "a\\ud83d"
"""The escape of half a character."""
CALLS = [{"function": {"name": "f", "arguments": {"a": 1}}}, {"function": {"name": "f"}}]


@pytest.fixture
async def gateway(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway with one model."""
    async with running_gateway(tmp_path, entry("chat", upstream.url)) as running:
        yield running


def answers(message: dict[str, Any], finish: str) -> Any:
    """An engine that answers so; in a stream its tokens count the choices, and finish reasons are empty."""

    async def respond(request: Received, wire: Wire) -> None:
        if not request.document.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": {"x": float("nan")}}
            await wire.json(json.dumps({**HEAD, "choices": [choice]}).replace("HALF", HALF).encode())
            return
        await wire.stream_head()
        deltas = [{"role": "assistant"}, None, message]
        choices = [{"index": at, "delta": delta, "finish_reason": ""} for at, delta in enumerate(deltas)]
        choices.append({"index": len(deltas), "delta": {}, "finish_reason": finish or "stop"})
        for choice in choices:
            data = json.dumps({**HEAD, "choices": [choice]}).replace("HALF", HALF)
            await wire.chunk(b"data: " + data.encode() + b"\n\n")
        await wire.chunk(b"data: [DONE]\n\n")
        await wire.end()

    return respond


def text_and_calls(path: str, document: dict[str, Any]) -> tuple[str, list[tuple[str, Any]]]:
    """What a client reads of a whole answer."""
    if path == "/v1/messages":
        blocks = document["content"]
        calls = [(block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"]
        return "".join(block["text"] for block in blocks if block["type"] == "text"), calls
    if path == "/v1/responses":
        items = document["output"]
        called = [(item["name"], json.loads(item["arguments"])) for item in items if item["type"] == "function_call"]
        return "".join(item["content"][0]["text"] for item in items if item["type"] == "message"), called
    message = document["choices"][0]["message"]
    functions = [call["function"] for call in message.get("tool_calls") or ()]
    return message.get("content") or "", [(one["name"], json.loads(one["arguments"])) for one in functions]


def joined(out: bytes) -> dict[str, Any]:
    """A chat's stream as a whole answer."""
    message: dict[str, Any] = {"content": "", "tool_calls": []}
    for _, chunk in frames(out):
        for choice in chunk["choices"]:
            message["content"] += choice["delta"].get("content") or ""
            for piece in choice["delta"].get("tool_calls") or ():
                if piece["index"] == len(message["tool_calls"]):
                    message["tool_calls"].append({"function": {"name": piece["function"]["name"], "arguments": ""}})
                message["tool_calls"][piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
    return {"choices": [{"message": message}]}


READ = dict(zip(PATHS, (joined, read_messages, read_responses), strict=True))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("message", "text", "calls"),
    [
        ({"content": "HALF"}, "a\ufffd", []),
        ({"content": [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]}, "Hi", []),
        ({"content": None, "tool_calls": CALLS}, "", [("f", {"a": 1}), ("f", {})]),
    ],
)
async def test_an_odd_answer_is_one(
    http: aiohttp.ClientSession,
    upstream: FakeUpstream,
    path: str,
    stream: bool,
    message: dict[str, Any],
    text: str,
    calls: list[Any],
) -> None:
    """Half a character, NaN, parts, objects for arguments, no ids, no finish reason: no fault of the engine."""
    upstream.respond = answers(message, "")
    async with http.post(path, json={**ASKED, "stream": stream}) as response:
        body = await response.read()
        assert response.status == 200, body
    document = READ[path](body) if stream else json.loads(body)
    assert text_and_calls(path, document) == (text, calls)


@pytest.mark.parametrize("path", PATHS)
async def test_a_large_odd_answer_is_one(http: aiohttp.ClientSession, upstream: FakeUpstream, path: str) -> None:
    """What is too large to be read on the loop is mended beside it: its calls, and what is no JSON."""
    text = "x" * LARGE_BYTES
    upstream.respond = answers({"content": text + "HALF", "tool_calls": CALLS}, "stop")
    async with http.post(path, json=ASKED) as response:
        document = await response.json()
        assert response.status == 200, document
    assert text_and_calls(path, document) == (f"{text}a\ufffd", [("f", {"a": 1}), ("f", {})])


@pytest.mark.parametrize("padding", ["", "x" * LARGE_BYTES], ids=["small", "large"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "fault", [{"finish_reason": "error"}, {"finish_reason": None}, {"error": {"message": "m"}}, {"object": "error"}]
)
async def test_what_is_no_answer_is_none_at_any_size(
    http: aiohttp.ClientSession, upstream: FakeUpstream, path: str, fault: dict[str, Any], padding: str
) -> None:
    """An answer that was broken off, or is an error, is none also where it has a text, however long that is."""
    choice = {
        "index": 0,
        "message": {"content": padding},
        "finish_reason": "stop",
        "logprobs": {"finish_reason": "stop"},
    }
    whole = {**HEAD, "choices": [choice]}
    (choice if "finish_reason" in fault else whole).update(fault)

    async def respond(_: Received, wire: Wire) -> None:
        await wire.json(json.dumps(whole).encode())

    upstream.respond = respond
    async with http.post(path, json=ASKED) as response:
        assert response.status >= 500, await response.text()


async def test_thoughts_have_the_name_that_clients_know_at_any_size(
    http: aiohttp.ClientSession, upstream: FakeUpstream
) -> None:
    """vLLM's newer name for them is joined by the other one, also in a large answer."""
    upstream.respond = answers({"content": "x" * LARGE_BYTES, "reasoning": "because"}, "stop")
    async with http.post(PATHS[0], json=ASKED) as response:
        assert (await response.json())["choices"][0]["message"]["reasoning_content"] == "because"


async def test_a_plain_large_answer_passes_as_it_came(http: aiohttp.ClientSession, upstream: FakeUpstream) -> None:
    """Without calls, and in JSON, nothing of it is read."""
    body = json.dumps({**HEAD, "choices": [{"message": {"content": "x" * LARGE_BYTES}, "finish_reason": "stop"}]})

    async def respond(_: Received, wire: Wire) -> None:
        await wire.json(body.encode())

    upstream.respond = respond
    async with http.post(PATHS[0], json=ASKED) as response:
        assert await response.text() == body
