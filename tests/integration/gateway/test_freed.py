"""Requests are freed when they are over, however they end: nothing of them is left for the garbage collector."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fakes.openai_upstream import FakeUpstream, Received, Wire
from support.gateway import RunningGateway, entry, running_gateway
from support.wait import eventually

CHAT = "/v1/chat/completions"


def post(path: str, **fields: object) -> bytes:
    """Give a whole request."""
    body = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "x"}], **fields}).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.fixture
async def gateway(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway with an engine that is there, and with one that is not."""
    models = (entry("chat", upstream.url), entry("dead", "http://127.0.0.1:1"))
    async with running_gateway(tmp_path, *models, endpoint_wait_seconds=0.1) as running:
        yield running


@contextmanager
def garbage() -> Iterator[list[str]]:
    """Collect by hand around the block; give the modules of our objects that only the collector could free."""
    found: list[str] = []
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield found
        gc.collect()
        names = (f"{type(item).__module__}.{type(item).__name__}" for item in gc.garbage)
        found.extend(name for name in names if name.startswith("capstan_gateway"))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def say(gateway: RunningGateway, request: bytes) -> bytes:
    """Send a request on a connection of its own, and give the answer once the gateway is done with it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(request)
    said = await reader.read(-1)
    writer.close()
    await gateway.settled()
    await eventually(lambda: gateway.metric("gateway_connections", port="api") == 0, every=0.005, what="the end")
    return said


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post(CHAT), 200),
        (post(CHAT, stream=True), 200),
        (post("/v1/messages", max_tokens=9), 200),
        (post("/v1/messages", max_tokens=9, stream=True), 200),
        (post(CHAT, model="none"), 404),
        (post(CHAT, messages=3), 400),
        (post(CHAT)[:-1] + b"{", 400),
        (post(CHAT, model="dead"), 503),
        (post(CHAT).replace(b"content-length", b"transfer-encoding: chunked\r\nx"), 400),
        (b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", 200),
    ],
)
async def test_answered(gateway: RunningGateway, request_bytes: bytes, status: int) -> None:
    """A request that was answered, well or with an error, leaves nothing."""
    await say(gateway, request_bytes)
    with garbage() as found:
        said = await say(gateway, request_bytes)
    assert said.startswith(b"HTTP/1.1 %d " % status)
    assert found == []


@pytest.mark.parametrize("stream", [False, True])
async def test_abandoned(gateway: RunningGateway, upstream: FakeUpstream, stream: bool) -> None:
    """A request whose client went away leaves nothing."""

    async def silent(_: Received, wire: Wire) -> None:
        await asyncio.Event().wait()

    upstream.respond = silent

    async def leave() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(post(CHAT, stream=stream))
        await eventually(lambda: upstream.active == 1, every=0.005, what="the call")
        writer.close()
        await gateway.settled()
        await eventually(lambda: upstream.active == 0, every=0.005, what="the end of the call")

    await leave()
    with garbage() as found:
        await leave()
    assert found == []
