"""Large requests and answers in other dialects: translated beside the loop, to the same as small ones."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from capstan_contract.config import ExternalBackend, ExternalEndpoint, Provider
from capstan_gateway.dialects.clients import messages_answer, messages_request, responses_answer, responses_request
from capstan_gateway.dialects.clients.responses_tools import Tools
from capstan_gateway.documents import Counts, count_values
from capstan_gateway.pipeline import adapters, call
from capstan_gateway.pipeline import answers as pipeline_answers
from capstan_gateway.pipeline.beside import LARGE_BYTES
from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, completion, frame
from support.gateway import entry, running_gateway

LARGE, SMALL = 2 * LARGE_BYTES, 100
USAGE = {"input_tokens": 7, "output_tokens": 5}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "stop_reason": "end_turn", "usage": USAGE}
RESPONSE = {"id": "resp_1", "object": "response", "status": "completed", "usage": USAGE}


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Where translations are made."""
    seen: set[str] = set()

    def spied(function: Callable[..., Any]) -> Callable[..., Any]:
        def spy(*arguments: Any, **options: Any) -> Any:
            seen.add(threading.current_thread().name.partition("-")[0])
            return function(*arguments, **options)

        return spy

    for room, names in {
        messages_request: ["to_chat_request"], responses_request: ["to_chat_request"],
        messages_answer: ["to_message"], responses_answer: ["to_response"],
        adapters: ["to_chat_completion", "to_messages_request", "read_native_message", "read_native_response"],
        call: ["check_answer", "build_body"],
    }.items():  # fmt: skip
        for name in names:
            monkeypatch.setattr(room, name, spied(getattr(room, name)))
    return seen


def asked(path: str, size: int) -> dict[str, Any]:
    """Give a request of about so many bytes."""
    if path == "responses":
        return {"model": "m", "input": "x" * size, "store": False}
    return {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x" * size}]}


def answered(path: str, provider: Provider | None, size: int) -> dict[str, Any]:
    """Give an answer of about so many bytes."""
    if provider is Provider.ANTHROPIC:
        return {**MESSAGE, "model": "m", "content": [{"type": "text", "text": "y" * size}]}
    if provider is Provider.OPENAI and path == "responses":
        return {**RESPONSE, "model": "m", "output": [{"type": "message", "content": [{"text": "y" * size}]}]}
    return completion("m", "y" * size)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("tools", [3, 6000])
async def test_the_tools_of_a_request_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool, tools: int
) -> None:
    """For its translation, for what is left out and for its answer: where there are thousands, beside the loop."""
    read = Tools.of
    seen: list[str] = []

    def spy(request: dict[str, Any]) -> Tools:
        seen.append(threading.current_thread().name.partition("-")[0])
        return read(request)

    monkeypatch.setattr(Tools, "of", spy)
    call = {"id": "a", "type": "function", "function": {"name": "mcp__t1", "arguments": "{}"}}

    async def calls(received: Received, wire: Wire) -> None:
        if not received.document.get("stream"):
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
            choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
            return await wire.json(completion("m", choices=[choice]))
        await wire.stream_head()
        delta = {"index": 0, "delta": {"tool_calls": [{"index": 0, **call}]}, "finish_reason": "tool_calls"}
        await wire.chunk(frame({**completion("m"), "choices": [delta]}) + DONE)
        return await wire.end()

    inner = [{"type": "function", "name": f"t{n}", "description": "x" * 40, "parameters": {}} for n in range(tools)]
    given = [{"type": "namespace", "name": "mcp", "tools": inner}, {"type": "web_search"}]
    document = {"model": "m", "input": "x", "tools": given, "stream": stream}
    async with (
        FakeUpstream(calls) as engine,
        running_gateway(tmp_path, entry("m", engine.url)) as gateway,
        httpx2.AsyncClient(timeout=60) as client,
    ):
        answer = await client.post(f"{gateway.url}/v1/responses", json=document)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-capstan-dropped-tools"] == "web_search"
    assert '"namespace":"mcp"' in answer.text
    assert seen == ["MainThread" if tools == 3 else "documents"]


@pytest.mark.parametrize(("size", "where"), [(SMALL, "MainThread"), (LARGE, "documents")])
@pytest.mark.parametrize(
    ("path", "provider"),
    [
        ("messages", None), ("responses", None), ("chat/completions", Provider.ANTHROPIC),
        ("messages", Provider.ANTHROPIC), ("responses", Provider.ANTHROPIC), ("responses", Provider.OPENAI),
        ("messages", Provider.OPENAI),
    ],
)  # fmt: skip
async def test_large_ones_are_translated_beside_the_loop(
    tmp_path: Path, threads: set[str], path: str, provider: Provider | None, size: int, where: str
) -> None:
    """In every dialect, both ways, and with nothing held in the end; small ones need no other thread."""

    async def answers(_: Received, wire: Wire) -> None:
        await wire.json(answered(path, provider, size))

    async with FakeUpstream(answers) as upstream:
        model = entry("m", upstream.url)
        if provider is not None:
            host = ExternalEndpoint(name="main", url=f"{upstream.url}/v1")
            model = entry("m", backend=ExternalBackend(provider=provider, endpoints=(host,)))
        async with running_gateway(tmp_path, model) as gateway, httpx2.AsyncClient(timeout=60) as client:
            reply = await client.post(f"{gateway.url}/v1/{path}", json=asked(path, size), timeout=60)
            assert reply.status_code == 200
            assert "y" * size in reply.text
            assert "x" * size in upstream.requests[0].body.decode()
            await gateway.settled()
            assert gateway.gateway.memory.held == 0
            assert gateway.metric("llm_calls_settled_total", model="m", how="told") == 1
    assert threads == {where}


@pytest.mark.parametrize("path", ["messages", "responses", "chat/completions"])
async def test_a_large_answer_that_told_no_usage_is_admitted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Its values are counted, and its document's memory is taken, once, whatever it is read for."""
    counted: list[int] = []

    def count(body: bytes) -> Counts:
        counted.append(len(body))
        return count_values(body)

    async def answers(_: Received, wire: Wire) -> None:
        document = completion("m", "y" * LARGE)
        del document["usage"]
        await wire.json(document)

    monkeypatch.setattr(pipeline_answers, "count_values", count)
    async with (
        FakeUpstream(answers) as upstream,
        running_gateway(tmp_path, entry("m", upstream.url)) as gateway,
        httpx2.AsyncClient(timeout=60) as client,
    ):
        reply = await client.post(f"{gateway.url}/v1/{path}", json=asked(path, SMALL), timeout=60)
        assert reply.status_code == 200
        await gateway.settled()
        assert gateway.metric("llm_calls_settled_total", model="m", how="estimated") == 1
        assert gateway.metric("llm_tokens_total", model="m", direction="output") == LARGE // 4
        assert gateway.gateway.memory.held == 0
    assert len(counted) == 1


@pytest.mark.parametrize("path", ["messages", "responses"])
async def test_what_is_wrong_with_a_large_request_is_said(tmp_path: Path, path: str) -> None:
    """Also of a large request the field is named that cannot be translated."""
    async with (
        FakeUpstream() as upstream,
        running_gateway(tmp_path, entry("m", upstream.url)) as gateway,
        httpx2.AsyncClient(timeout=60) as client,
    ):
        wrong = {"mcp_servers": [{"url": "x"}]} if path == "messages" else {"previous_response_id": "x"}
        reply = await client.post(f"{gateway.url}/v1/{path}", json={**asked(path, LARGE), **wrong})
        assert reply.status_code == 400
        assert next(iter(wrong)) in reply.text
        assert upstream.requests == []
