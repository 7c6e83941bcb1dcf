"""Answers that begin well and are none: the client gets an error, and the endpoint that gave them is left."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from capstan_gateway.routing.breaker import DEFAULT, BreakerState
from fakes.openai_upstream import FakeUpstream, Received, Respond, Wire, completion, delta, frame
from support.gateway import RunningGateway, entry, running_gateway

CHAT = "/v1/chat/completions"
LARGE = 'She wrote "finish_reason":"stop" on the wall. ' * 1000


@pytest.fixture
async def gateway(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway with one model."""
    async with running_gateway(tmp_path, entry("chat", upstream.url)) as running:
        yield running


def whole(document: object) -> Respond:
    """Give an engine that answers with this, and 200."""

    async def respond(_: Received, wire: Wire) -> None:
        await wire.json(document)

    return respond


def streams(*pieces: bytes) -> Respond:
    """Give an engine that streams this and ends cleanly."""

    async def respond(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        for piece in pieces:
            await wire.chunk(piece)
        await wire.end()

    return respond


def choice(finish: str | None, text: str = "Hello", index: int = 0) -> dict[str, Any]:
    """Give one choice of a whole answer."""
    return {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": finish}


def with_choices(*choices: dict[str, Any]) -> dict[str, Any]:
    """Give a whole answer with these choices."""
    return {**completion("chat"), "choices": list(choices)}


TOKEN = frame(delta("chat", "one"))
ERROR = frame({"error": {"message": "died", "code": 500}})
BAD_WHOLE = {
    "not JSON": b"oops",
    "an error with 200": {"error": {"message": "no more memory"}},
    "no choices": with_choices(),
    "no finish reason": with_choices(choice(None)),
    "one of two without": with_choices(choice("stop"), choice(None, index=1)),
    "large without": with_choices(choice(None, LARGE)),
    "17 KB that are not JSON": b'{"choices":[{"finish_reason":"stop"}],' + b"x" * 17_000 + b"}",
    "300 KB that are not JSON": b'{"choices":[{"finish_reason":"stop"}],' + b"x" * 300_000 + b"}",
    "300 KB without": with_choices(choice(None, LARGE * 8)),
}
BAD_STREAMS = {
    "not JSON": (b"data: {oops\n\n",),
    "not JSON, later": (TOKEN, b"data: {oops\n\n"),
    "both at once": (TOKEN + b"data: {oops\n\n",),
    "no finish reason": (TOKEN,),
    "an error": (ERROR,),
    "an error, later": (TOKEN, ERROR, b"data: [DONE]\n\n"),
    "a delta that is a text": (frame({"choices": [{"index": 0, "delta": "one"}]}),),
    "a number for a text, later": (TOKEN, frame({"choices": [{"index": 0, "delta": {"content": 1}}]})),
    "a text for tool calls": (frame({"choices": [{"index": 0, "delta": {"tool_calls": "f"}}]}),),
    "a text for choices": (frame({"choices": "one"}),),
}


async def ask(gateway: RunningGateway, *, stream: bool = False, path: str = CHAT) -> tuple[int, str]:
    """Ask once; give status and body."""
    document = {"model": "chat", "stream": stream, "messages": [{"role": "user", "content": "x"}], "prompt": "x"}
    async with aiohttp.ClientSession(gateway.url) as http, http.post(path, json=document) as response:
        return response.status, await response.text()


def breaker(gateway: RunningGateway) -> BreakerState:
    """Give the state of the only endpoint's breaker."""
    runtime = gateway.gateway.current()
    assert runtime is not None
    return runtime.models["chat"].endpoints.states[0].breaker.state(asyncio.get_running_loop().time())


@pytest.mark.parametrize("document", BAD_WHOLE.values(), ids=BAD_WHOLE)
async def test_whole(gateway: RunningGateway, upstream: FakeUpstream, document: object) -> None:
    """What is no finished answer reaches no client as one, and counts as its endpoint's failure."""
    upstream.respond = whole(document)
    for _ in range(DEFAULT.threshold):
        status, text = await ask(gateway)
        assert (status, '"upstream_error"' in text) == (502, True)
    assert breaker(gateway) is not BreakerState.CLOSED


@pytest.mark.parametrize("pieces", BAD_STREAMS.values(), ids=BAD_STREAMS)
async def test_stream(gateway: RunningGateway, upstream: FakeUpstream, pieces: tuple[bytes, ...]) -> None:
    """A stream that ends in nonsense, too early or with an error counts as its endpoint's failure."""
    upstream.respond = streams(*pieces)
    for _ in range(DEFAULT.threshold):
        _, text = await ask(gateway, stream=True)
        assert '"upstream_error"' in text
    await gateway.settled()
    assert breaker(gateway) is not BreakerState.CLOSED


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
@pytest.mark.parametrize(
    "message", ["text", {"content": 7}, {"tool_calls": "f"}, {"tool_calls": [{"function": 1}]}, {"content": [1]}]
)
async def test_malformed_for_another_dialect(
    gateway: RunningGateway, upstream: FakeUpstream, path: str, message: object
) -> None:
    """What cannot be translated because it is malformed is the engine's fault, and never a bug of the gateway."""
    upstream.respond = whole(with_choices({"index": 0, "message": message, "finish_reason": "stop"}))
    document = {"model": "chat", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], "input": "x"}
    async with aiohttp.ClientSession(gateway.url) as http:
        for _ in range(DEFAULT.threshold):
            async with http.post(path, json=document) as response:
                assert response.status == 502
    assert breaker(gateway) is not BreakerState.CLOSED


@pytest.mark.parametrize("bad", [*(whole(document) for document in BAD_WHOLE.values())], ids=BAD_WHOLE)
async def test_whole_from_another_endpoint(tmp_path: Path, upstream: FakeUpstream, bad: Respond) -> None:
    """What is no finished answer is had from another endpoint of the same model, once for each."""
    upstream.respond = bad
    async with FakeUpstream() as sound, running_gateway(tmp_path, entry("chat", upstream.url, sound.url)) as gateway:
        answers = [await ask(gateway) for _ in range(12)]
        assert {status for status, _ in answers} == {200}
        assert gateway.metric("gateway_retries_total", model="chat", kind="endpoint") == len(upstream.requests)
    assert len(upstream.requests) > 0
    assert len(sound.requests) == 12


@pytest.mark.parametrize("name", ["not JSON", "an error"])
async def test_stream_from_another_endpoint(tmp_path: Path, upstream: FakeUpstream, name: str) -> None:
    """A stream that fails before its first event begins anew at another endpoint."""
    upstream.respond = streams(*BAD_STREAMS[name])
    async with FakeUpstream() as sound, running_gateway(tmp_path, entry("chat", upstream.url, sound.url)) as gateway:
        answers = [await ask(gateway, stream=True) for _ in range(12)]
        assert all("[DONE]" in text and "error" not in text for _, text in answers)
    assert len(upstream.requests) > 0
    assert len(sound.requests) == 12


async def test_nonsense_everywhere(tmp_path: Path, upstream: FakeUpstream) -> None:
    """When no endpoint has an answer, each is asked once, and the client is told."""
    upstream.respond = whole(with_choices(choice(None)))
    async with FakeUpstream(upstream.respond) as other:
        async with running_gateway(tmp_path, entry("chat", upstream.url, other.url)) as gateway:
            assert (await ask(gateway))[0] == 502
        assert (len(upstream.requests), len(other.requests)) == (1, 1)


async def test_another_form_than_asked_for(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """An engine that does not stream when asked to has failed."""
    upstream.respond = whole(completion("chat"))
    for _ in range(DEFAULT.threshold):
        assert (await ask(gateway, stream=True))[0] == 502
    assert breaker(gateway) is not BreakerState.CLOSED


@pytest.mark.parametrize("path", [CHAT, "/v1/completions"])
async def test_large_and_finished(gateway: RunningGateway, upstream: FakeUpstream, path: str) -> None:
    """A large answer with a finish reason passes, whatever its text says."""
    upstream.respond = whole(with_choices(choice("stop", LARGE)))
    for _ in range(DEFAULT.threshold):
        assert (await ask(gateway, path=path))[0] == 200
    assert breaker(gateway) is BreakerState.CLOSED


async def test_the_requests_own_fault_is_not_the_endpoints(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """An error about the request, told with 200, is passed on, and the endpoint stays in use."""
    upstream.respond = whole({"error": {"message": "blocked", "code": 400}})
    for _ in range(DEFAULT.threshold):
        assert (await ask(gateway))[0] == 400
    assert breaker(gateway) is BreakerState.CLOSED
