"""A client that goes away, at whatever point, stops the engine's work at once."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from capstan_contract.config import Timeouts
from fakes.openai_upstream import FakeUpstream, Received, Wire, delta, frame, stall
from support.gateway import RunningGateway, entry, running_gateway
from support.wait import eventually


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine that never answers, until a test says otherwise."""
    async with FakeUpstream(stall) as fake:
        yield fake


@pytest.fixture
async def gateway(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway with a model that has an engine, and one without."""
    timeouts = Timeouts(firstTokenSeconds=30, idleSeconds=30, totalSeconds=60)
    models = (entry("chat", upstream.url, timeouts=timeouts), entry("idle", timeouts=timeouts))
    async with running_gateway(tmp_path, *models, endpoint_wait_seconds=30) as running:
        yield running


async def request(
    gateway: RunningGateway, *, model: str = "chat", stream: bool = False
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a chat request over a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    body = json.dumps({"model": model, "stream": stream, "messages": [{"role": "user", "content": "x"}]}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    return reader, writer


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close the connection as a client does that was killed."""
    writer.transport.abort()
    await asyncio.sleep(0)


async def counted_as_gone(gateway: RunningGateway, model: str = "chat") -> None:
    """Wait until the request is over, and see that it was counted once, as abandoned."""
    await gateway.settled()
    assert gateway.metric("llm_requests_total", model=model, status="499") == 1
    assert gateway.metric("gateway_upstream_aborts_total", model=model, cause="client_gone") == 1
    assert gateway.metric("gateway_inflight_requests", model=model) == 0


async def no_slot_is_held(gateway: RunningGateway) -> None:
    """See that no endpoint counts a request in flight."""
    runtime = gateway.gateway.current()
    assert runtime is not None
    assert [state.in_flight for model in runtime.models.values() for state in model.endpoints.states] == [0]


@pytest.mark.parametrize("stream", [False, True])
async def test_before_the_head(gateway: RunningGateway, upstream: FakeUpstream, stream: bool) -> None:
    """While the engine has not said anything."""
    _, writer = await request(gateway, stream=stream)
    await eventually(lambda: upstream.active == 1, what="the call of the engine")
    await hang_up(writer)
    await eventually(lambda: upstream.gone == 1, every=0.01, what="the abort")
    await counted_as_gone(gateway)
    await no_slot_is_held(gateway)


async def test_before_the_first_event(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """While the engine has sent the head of a stream and no token."""

    async def head_only(received: Received, wire: Wire) -> None:
        await wire.stream_head()
        await stall(received, wire)

    upstream.respond = head_only
    _, writer = await request(gateway, stream=True)
    await eventually(lambda: upstream.active == 1, what="the call of the engine")
    await hang_up(writer)
    await eventually(lambda: upstream.gone == 1, every=0.01, what="the abort")
    await counted_as_gone(gateway)


async def test_in_the_middle_of_a_stream(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """Between two tokens; what was sent before is counted."""

    async def one_token(received: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(frame(delta("chat", "one")))
        await stall(received, wire)

    upstream.respond = one_token
    reader, writer = await request(gateway, stream=True)
    await reader.readuntil(b'"one"')
    await hang_up(writer)
    await eventually(lambda: upstream.gone == 1, every=0.01, what="the abort")
    await counted_as_gone(gateway)
    assert gateway.metric("llm_tokens_total", model="chat", direction="output") == 1
    await no_slot_is_held(gateway)


async def test_while_the_engine_floods(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """While tokens arrive faster than the client ever read them."""

    async def flood(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        while True:
            await wire.chunk(frame(delta("chat", "x" * 4000)))

    upstream.respond = flood
    reader, writer = await request(gateway, stream=True)
    await reader.readuntil(b"xxx")
    await hang_up(writer)
    await eventually(lambda: upstream.gone == 1, every=0.01, what="the abort")
    await counted_as_gone(gateway)


async def test_in_the_middle_of_an_answer_in_one_piece(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """While the body of a plain answer is arriving."""

    async def half(received: Received, wire: Wire) -> None:
        await wire.head(200, "content-type: application/json", length=1000)
        await wire.raw(b'{"half":')
        await stall(received, wire)

    upstream.respond = half
    _, writer = await request(gateway)
    await eventually(lambda: upstream.active == 1, what="the call of the engine")
    await hang_up(writer)
    await eventually(lambda: upstream.gone == 1, every=0.01, what="the abort")
    await counted_as_gone(gateway)
    await no_slot_is_held(gateway)


async def test_while_waiting_for_an_endpoint(gateway: RunningGateway) -> None:
    """While the model has no endpoint: the place in the queue is given up."""
    _, writer = await request(gateway, model="idle")
    runtime = gateway.gateway.current()
    assert runtime is not None
    await eventually(lambda: runtime.models["idle"].endpoints.waiting == 1, what="the wait")
    assert gateway.metric("gateway_queue_depth", model="idle") == 1
    await hang_up(writer)
    await counted_as_gone(gateway, "idle")
    assert runtime.models["idle"].endpoints.waiting == 0


async def test_in_the_middle_of_its_own_body(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """Before the request is complete: no engine hears of it."""
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    await eventually(lambda: len(gateway.gateway.requests) == 1, what="the request")
    await hang_up(writer)
    await gateway.settled()
    assert upstream.requests == []
    assert gateway.metric("llm_requests_total", model="unknown", status="499") == 1


async def test_no_task_is_left(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """After many abandoned requests there are as many tasks as before."""
    before = len(asyncio.all_tasks())
    writers = [(await request(gateway, stream=bool(number % 2)))[1] for number in range(20)]
    await eventually(lambda: upstream.active == 20, what="the calls of the engine")
    for writer in writers:
        await hang_up(writer)
    await gateway.settled()
    await eventually(lambda: len(asyncio.all_tasks()) <= before, what="the end of all tasks")


async def test_a_finished_stream_is_a_success(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """A client that got all of its stream has not gone away, however long the engine takes to end its body."""

    async def never_ends(received: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(frame(delta("chat", "one", "stop")) + b"data: [DONE]\n\n")
        await stall(received, wire)

    upstream.respond = never_ends
    reader, writer = await request(gateway, stream=True)
    await reader.readuntil(b"0\r\n\r\n")
    await gateway.settled()
    assert gateway.metric("llm_requests_total", model="chat", status="200") == 1
    assert gateway.metric("llm_requests_total", model="chat", status="499") == 0
    await hang_up(writer)
