"""What a gateway holds: large and compressed bodies, whole answers, and that all of it comes back."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from backports import zstd

from capstan_contract.config import CascadeBackend, CascadeEstimator, EstimatorType
from capstan_gateway.documents import INLINE_BYTES, MAX_CONTAINERS
from fakes.openai_upstream import DONE, FakeUpstream, Received, Respond, Wire, frame, stall
from support.gateway import RunningGateway, entry, running_gateway
from support.wait import eventually

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}
MEBIBYTE = 1024 * 1024


def body(size: int = 1, **fields: object) -> bytes:
    """Give the body of a chat request."""
    return json.dumps({"model": "chat", "messages": [{"role": "user", "content": "x" * size}], **fields}).encode()


@pytest.fixture
async def gateway(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway with little memory for requests, which has all of it back at the end."""
    model = entry("chat", upstream.url)
    async with running_gateway(tmp_path, model, max_body_bytes=8 * MEBIBYTE, memory_bytes=12 * MEBIBYTE) as running:
        yield running
        await eventually(lambda: running.gateway.memory.held == 0, what="all memory back")


@pytest.mark.parametrize("size", [10, 30_000, 2 * MEBIBYTE])
@pytest.mark.parametrize(
    ("coding", "compress"),
    [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress), ("ZSTD", zstd.compress)],
)
async def test_compressed_bodies(
    http: aiohttp.ClientSession, upstream: FakeUpstream, coding: str, compress: "type[bytes]", size: int
) -> None:
    """A compressed body reaches the engine decompressed, and is otherwise a body like others."""
    sent = compress(body(size))
    async with http.post(CHAT, data=sent, headers={**JSON, "content-encoding": coding}) as response:
        assert response.status == 200
    assert upstream.requests[-1].body == body(size)
    assert "content-encoding" not in upstream.requests[-1].headers


@pytest.mark.parametrize(
    ("coding", "pack", "status"),
    [
        pytest.param("gzip", lambda: gzip.compress(b" " * 100 * MEBIBYTE), 413, id="gzip bomb"),
        pytest.param("zstd", lambda: zstd.compress(b" " * 100 * MEBIBYTE), 413, id="zstd bomb"),
        pytest.param("deflate", lambda: zlib.compress(b" " * 100 * MEBIBYTE), 413, id="deflate bomb"),
        pytest.param("gzip", lambda: gzip.compress(body())[:-5], 400, id="gzip cut off"),
        pytest.param("zstd", lambda: b"nothing of the kind", 400, id="no zstd"),
        pytest.param("br", body, 415, id="br"),
        pytest.param("gzip, gzip", lambda: gzip.compress(gzip.compress(body())), 415, id="gzip twice"),
    ],
)
async def test_compressed_bodies_that_are_refused(
    http: aiohttp.ClientSession, upstream: FakeUpstream, coding: str, pack: Callable[[], bytes], status: int
) -> None:
    """Bombs are too large, broken ones wrong, and of unknown codings the answer says which are known."""
    async with http.post(CHAT, data=pack(), headers={**JSON, "content-encoding": coding}) as response:
        document = await response.json()
    assert response.status == status
    assert document["error"].keys() == {"message", "type", "param", "code"}
    assert response.headers.get("accept-encoding") == ("gzip, deflate, zstd" if status == 415 else None)
    assert upstream.requests == []


async def test_a_document_of_too_many_values(http: aiohttp.ClientSession, upstream: FakeUpstream) -> None:
    """A large body that would take long to parse is refused before it is parsed."""
    wide = b'{"model":"chat","messages":[{"role":"user","content":[' + b"{}," * MAX_CONTAINERS + b"{}]}]}"
    assert len(wide) > INLINE_BYTES
    async with http.post(CHAT, data=wide, headers=JSON) as response:
        assert response.status == 413
    assert upstream.requests == []


async def test_a_large_document_is_served(http: aiohttp.ClientSession, upstream: FakeUpstream) -> None:
    """A large body of texts is parsed beside the loop and reaches the engine as it came; texts may hold anything."""
    sent = body(800_000, user='{},[]:"\\' * 10_000)
    async with http.post(CHAT, data=sent, headers=JSON) as response:
        assert response.status == 200
    assert upstream.requests[-1].body == sent
    async with http.post(CHAT, data=sent[:-1], headers=JSON) as response:
        assert response.status == 400


async def test_requests_over_the_budget(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """When large requests hold all that they may, a further one is told to come back, and small ones are served."""
    good, upstream.respond = upstream.respond, stall
    async with aiohttp.ClientSession(gateway.url) as session:
        running = [asyncio.create_task(session.post(CHAT, data=body(900_000), headers=JSON)) for _ in range(3)]
        await eventually(lambda: upstream.active == 3, what="three large requests")
        upstream.respond = good
        async with session.post(CHAT, data=body(900_000), headers=JSON) as response:
            assert (response.status, response.headers["retry-after"]) == (503, "1")
        async with session.post(CHAT, data=body(20), headers=JSON) as response:
            assert response.status == 200
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await gateway.settled()
        await eventually(lambda: gateway.gateway.memory.held == 0, what="all memory back")
        async with session.post(CHAT, data=body(900_000), headers=JSON) as response:
            assert response.status == 200
        async with session.get("/metrics") as response:
            page = await response.text()
    assert "gateway_memory_limit_bytes 1.2582912e+07" in page
    assert gateway.metric("gateway_memory_refused_total") == 1


@pytest.mark.parametrize(("size", "status"), [(18 * MEBIBYTE, 503), (3 * MEBIBYTE, 200)])
async def test_whole_answers_are_counted(
    http: aiohttp.ClientSession, gateway: RunningGateway, upstream: FakeUpstream, size: int, status: int
) -> None:
    """An answer in one piece is taken from the budget as it comes; without room for it the client is told so."""
    answer = json.dumps({"choices": [{"finish_reason": "stop", "message": {"content": "x" * size}}]}).encode()

    async def respond(_: Received, wire: Wire) -> None:
        await wire.json(answer)

    upstream.respond = respond
    async with http.post(CHAT, data=body(), headers=JSON) as response:
        said = await response.read()
    assert response.status == status
    assert (said == answer) is (status == 200)
    assert gateway.metric("gateway_memory_refused_total") == (status == 503)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses", CHAT])
async def test_answers_of_too_many_values(
    http: aiohttp.ClientSession, gateway: RunningGateway, upstream: FakeUpstream, path: str
) -> None:
    """A whole answer that would take long to parse is no answer where it is read, and others do not wait for it."""
    message = {"content": "x"}
    choice = {"finish_reason": "stop", "message": message, "more": [{}] * MAX_CONTAINERS}
    wide = json.dumps({"choices": [choice]}).encode()

    async def respond(_: Received, wire: Wire) -> None:
        await wire.json(wide)

    upstream.respond = respond
    said = {"model": "chat", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], "input": "x"}
    async with http.post(path, json=said) as response:
        text = await response.text()
    # A client of chat completions gets it as it is: nobody reads it here.
    assert response.status == (200 if path == CHAT else 502)
    assert path == CHAT or "too many JSON values" in text


async def test_answers_that_a_cascade_keeps_are_counted(tmp_path: Path) -> None:
    """What is kept while the next member is asked is held in the budget; the worse one of two is let go."""
    seen: list[int] = []

    def says(size: int) -> Respond:
        async def respond(_: Received, wire: Wire) -> None:
            seen.append(gateway.gateway.memory.held)
            choice = {"finish_reason": "length", "message": {"content": "x" * size}}
            await wire.json({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}})

        return respond

    async with FakeUpstream() as one, FakeUpstream() as other, FakeUpstream() as last:
        cascade = CascadeBackend(
            members=("test/one", "test/other", "test/last"), threshold=0.9,
            estimator=CascadeEstimator(type=EstimatorType.CHECKS),
        )  # fmt: skip
        models = [entry("one", one.url), entry("other", other.url), entry("last", last.url)]
        async with running_gateway(tmp_path, *models, entry("steps", backend=cascade)) as gateway:
            one.respond, other.respond, last.respond = says(100_000), says(200_000), says(1)
            async with (
                aiohttp.ClientSession(gateway.url) as session,
                session.post(CHAT, data=body().replace(b'"chat"', b'"steps"'), headers=JSON) as response,
            ):
                assert response.status == 200
            await eventually(lambda: gateway.gateway.memory.held == 0, what="all memory back")
    assert seen[0] < 10_000
    assert 200_000 < seen[1] < 250_000
    assert 200_000 < seen[2] < 250_000


@pytest.mark.parametrize("path", [CHAT, "/v1/messages"])
@pytest.mark.parametrize("begun", [True, False])
async def test_frames_that_are_not_whole_are_counted(
    gateway: RunningGateway, http: aiohttp.ClientSession, upstream: FakeUpstream, begun: bool, path: str
) -> None:
    """Streams that keep many bytes take them from the budget, before their first token and behind it, and no more."""
    token = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":"a"}}]}\n\n'
    budget = gateway.gateway.memory

    async def grows(_: Received, wire: Wire) -> None:
        await wire.head(200, "content-type: text/event-stream")
        await wire.chunk(token * begun + b'data: {"choices":[{"index":0,"delta":{"content":"')
        for _ in range(7):
            await wire.chunk(b"x" * MEBIBYTE)
        await stall(_, wire)

    upstream.respond = grows

    async def ask() -> tuple[int, str]:
        async with http.post(path, data=body(stream=True, max_tokens=9), headers=JSON) as answer:
            return answer.status, (await answer.read()).decode()

    answers = await asyncio.gather(*[ask() for _ in range(4)])
    assert max(len(text) for _, text in answers) < 10_000
    assert {status for status, _ in answers} == ({200} if begun else {503 if path == CHAT else 529})
    assert all("overloaded" in text for _, text in answers)
    assert budget.refused >= 4


async def test_text_that_waits_behind_an_open_call_is_counted(
    gateway: RunningGateway, http: aiohttp.ClientSession, upstream: FakeUpstream
) -> None:
    """What a client cannot be told yet waits in the budget, although each frame is whole; then it goes."""
    call = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":'}}
    budget, held = gateway.gateway.memory, asyncio.Event()
    size = 8 * 1024

    async def waits(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(frame({"choices": [{"index": 0, "delta": {"role": "assistant", "tool_calls": [call]}}]}))
        for _ in range(100):
            await wire.chunk(frame({"choices": [{"index": 0, "delta": {"content": "x" * size}}]}))
        await held.wait()
        rest = {"index": 0, "function": {"arguments": "1}"}}
        await wire.chunk(frame({"choices": [{"index": 0, "delta": {"tool_calls": [rest]}}]}))
        await wire.chunk(frame({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}) + DONE)
        await wire.end()

    upstream.respond = waits
    document = json.loads(body(stream=True, max_tokens=9))
    document["tools"] = [{"name": "f", "input_schema": {"type": "object"}}]
    async with http.post("/v1/messages", json=document) as answer:
        assert answer.status == 200
        await eventually(lambda: budget.held >= 100 * size, what="the text in the budget")
        held.set()
        text = await answer.text()
    assert text.count("x" * size) == 100
    assert "message_stop" in text
