"""The clients that people have, against a whole gateway."""

import asyncio
import http.client
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import aiohttp
import pytest

from fakes.openai_upstream import FakeUpstream
from support.gateway import RunningGateway, entry, running_gateway
from support.needs import need_binary
from support.wait import eventually

T = TypeVar("T")
JSON = {"content-type": "application/json"}
PATH = "/v1/chat/completions"


def chat(size: int = 1, **fields: object) -> bytes:
    """Give the body of a chat request."""
    return json.dumps({"model": "chat", "messages": [{"role": "user", "content": "x" * size}], **fields}).encode()


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """A healthy engine."""
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def gateway(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway with one model, few connections and a small limit of bodies."""
    model = entry("chat", upstream.url)
    async with running_gateway(tmp_path, model, max_connections=3, max_body_bytes=1_000_000) as running:
        yield running


async def beside(work: Callable[[], T]) -> T:
    """Do what blocks in a thread."""
    return await asyncio.wait_for(asyncio.to_thread(work), 60)


async def curl(gateway: RunningGateway, path: str, *options: str, body: bytes = b"") -> str:
    """Give what curl prints: heads and bodies."""
    command = [need_binary("curl", "curl"), "-sS", "-i", "--max-time", "30", *options, gateway.url + path]
    return (await beside(lambda: subprocess.run(command, input=body, capture_output=True, check=True))).stdout.decode()


async def test_the_standard_library(gateway: RunningGateway) -> None:
    """Python's own client is served over and over on one connection: plain, in a stream, and refused."""

    def talk() -> list[tuple[int, bool]]:
        client = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
        told = []
        for method, path, body in (
            ("POST", PATH, chat()), ("POST", PATH, chat(stream=True)), ("GET", "/v1/models", None),
            ("HEAD", PATH, None), ("GET", "/docs", None), ("GET", "/none", None), ("POST", PATH, b"{}"),
            ("OPTIONS", PATH, None),
        ):  # fmt: skip
            client.request(method, path, body, JSON)
            response = client.getresponse()
            said = response.read()
            told.append((response.status, b"[DONE]" in said or b"error" in said or method == "HEAD" or b"{" in said))
        client.close()
        return told

    assert await beside(talk) == [(status, True) for status in (200, 200, 200, 405, 200, 404, 400, 405)]


async def test_a_body_in_chunks(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """A body without a length, sent in chunks, reaches the engine whole."""

    def talk() -> int:
        client = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
        whole = chat(100_000)
        pieces = (whole[start : start + 7000] for start in range(0, len(whole), 7000))
        client.request("POST", PATH, pieces, JSON, encode_chunked=True)
        status = client.getresponse().status
        client.close()
        return status

    assert await beside(talk) == 200
    assert upstream.requests[-1].body == chat(100_000)


async def test_curl_asks_for_another_protocol(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """Who would like HTTP/2 is served in HTTP/1.1, with the body, and on the same connection again."""
    options = ("--http2", "-H", "content-type: application/json", "--data-binary", "@-")
    said = await curl(gateway, PATH, *options, gateway.url + PATH, body=chat())
    assert said.count("HTTP/1.1 200 OK") == 2
    assert "upgrade" not in said.lower()
    assert len(upstream.requests) == 2


async def test_curl_speaks_http_1_0(gateway: RunningGateway) -> None:
    """An old client gets a stream without chunks, to the connection's end."""
    options = ("--http1.0", "-H", "content-type: application/json", "--data-binary", "@-")
    said = await curl(gateway, PATH, *options, body=chat(stream=True))
    assert "transfer-encoding" not in said
    assert "connection: close" in said
    assert said.endswith("data: [DONE]\n\n")


async def test_curl_waits_for_100_continue(gateway: RunningGateway) -> None:
    """A client that asks before it sends a large body is told to go on, or that it is too large before it sends it."""
    options = ("-H", "expect: 100-continue", "--expect100-timeout", "25", "-H", "content-type: application/json")
    said = await curl(gateway, PATH, *options, "--data-binary", "@-", body=chat(500_000))
    assert said.startswith("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    said = await curl(gateway, PATH, *options, "--data-binary", "@-", body=chat(2_000_000))
    assert said.startswith("HTTP/1.1 413 ")


@pytest.mark.parametrize("size", [2_000_000, 20_000_000])
async def test_an_upload_above_the_limit_is_told_so(gateway: RunningGateway, size: int) -> None:
    """A client that reads only when it has sent everything learns that its body was too large."""

    def talk() -> int:
        client = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
        client.request("POST", PATH, chat(size), JSON)
        status = client.getresponse().status
        client.close()
        return status

    assert await beside(talk) == 413


async def test_aiohttp_keeps_its_connection(gateway: RunningGateway) -> None:
    """Many requests one after the other need one connection, which the gauge shows."""
    async with aiohttp.ClientSession(gateway.url, connector=aiohttp.TCPConnector(limit=1)) as session:
        for number in range(20):
            async with session.post(PATH, data=chat(stream=bool(number % 2)), headers=JSON) as response:
                assert response.status == 200
                await response.read()
        async with session.get("/metrics") as response:
            assert 'gateway_connections{port="api"} 1.0' in await response.text()
    await eventually(lambda: gateway.metric("gateway_connections", port="api") == 0, what="the connection's end")


async def test_refused_connections_are_counted(gateway: RunningGateway) -> None:
    """A connection above the limit is counted as turned away, and does not stay."""
    held = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(3)]
    await eventually(lambda: gateway.metric("gateway_connections", port="api") == 3, what="the connections")
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    assert (await reader.read(-1)).startswith(b"HTTP/1.1 503 ")
    assert gateway.metric("gateway_admission_rejected_total", reason="connections") == 1
    for _, other in (*held, (reader, writer)):
        other.close()


async def test_nonsense_in_a_body_is_the_request_s_fault(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """A body that breaks the framing is answered once, with an id, counted once, and no engine hears of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    writer.write(head + b"transfer-encoding: chunked\r\nx-request-id: mine\r\n\r\n2\r\n{}\r\nno chunk")
    said = await reader.read(-1)
    writer.close()
    assert said.startswith(b"HTTP/1.1 400 ")
    assert b"x-request-id: mine\r\n" in said
    assert said.count(b"HTTP/1.1 ") == 1
    await gateway.settled()
    assert gateway.metric("llm_requests_total", model="unknown", status="400") == 1
    assert upstream.requests == []
