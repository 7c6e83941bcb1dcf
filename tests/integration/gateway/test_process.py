"""The gateway as a process: what it refuses, its two ports, and how it ends."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, delta, frame
from support.gateway import entry, write_config
from support.ports import free_port
from support.wait import eventually

CHAT = "/v1/chat/completions"
BODY = {"model": "chat", "messages": [{"role": "user", "content": "a secret prompt"}]}
COMMAND = [sys.executable, "-m", "capstan_gateway"]


class Process:
    """A running gateway."""

    def __init__(self, process: asyncio.subprocess.Process, port: int, admin_port: int, log: Path) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.admin_url = f"http://127.0.0.1:{admin_port}"
        self.log = log

    async def status(self, path: str) -> int:
        """Give the status of a page on a connection of its own; 0 when nobody listens."""
        try:
            async with aiohttp.ClientSession() as http, http.get(self.url + path) as response:
                return response.status
        except aiohttp.ClientConnectionError:
            return 0


@asynccontextmanager
async def gateway_process(directory: Path, *flags: str, open_to_all: bool = True) -> AsyncIterator[Process]:
    """Start `capstan-gateway` on the config in `directory`; kill it if it is still there."""
    port, admin_port = free_port(), free_port()
    log = directory / "log"
    options = ["--port", str(port), "--admin-port", str(admin_port), "--config-dir", str(directory / "config")]
    if open_to_all:
        options.append("--insecure-no-auth")
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(*COMMAND, *options, *flags, stderr=sink)
    running = Process(process, port, admin_port, log)
    try:

        async def ready() -> bool:
            return await running.status("/readyz") == 200

        await eventually(ready, what="readiness")
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
async def upstream(tmp_path: Path) -> AsyncIterator[FakeUpstream]:
    """A healthy engine, and a config that names it."""
    async with FakeUpstream() as fake:
        (tmp_path / "config").mkdir()
        write_config(tmp_path / "config", [entry("chat", fake.url)])
        yield fake


async def test_serves_nobody_by_accident(tmp_path: Path, upstream: FakeUpstream) -> None:
    """Without keys and without the flag that says so, the gateway is ready, and lets nobody in."""
    async with gateway_process(tmp_path, open_to_all=False) as gateway, aiohttp.ClientSession(gateway.url) as http:
        assert await gateway.status("/readyz") == 200
        assert await gateway.status("/v1/models") == 401
        async with http.post("/v1/chat/completions", json=BODY, headers={"authorization": "Bearer any"}) as answer:
            assert answer.status == 401
    assert upstream.requests == []


async def test_admin_pages_have_their_own_port(tmp_path: Path, upstream: FakeUpstream) -> None:
    """With an admin port, metrics and config are there and not on the public port; health is on both."""
    async with gateway_process(tmp_path) as gateway, aiohttp.ClientSession() as http:
        for path in ("/metrics", "/internal/config"):
            assert await gateway.status(path) == 404
            async with http.get(gateway.admin_url + path) as response:
                assert response.status == 200
        for url in (gateway.url, gateway.admin_url):
            async with http.get(url + "/healthz") as response:
                assert response.status == 200


async def test_drains_on_sigterm(tmp_path: Path, upstream: FakeUpstream) -> None:
    """After SIGTERM readiness goes first, new requests are still served for a while, then the port closes, and a
    running stream is finished before the process ends well."""
    go_on = asyncio.Event()

    async def slow_stream(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(frame(delta("chat", "one")))
        await go_on.wait()
        await wire.chunk(frame(delta("chat", "two", "stop")) + DONE)
        await wire.end()

    healthy, upstream.respond = upstream.respond, slow_stream
    async with (
        gateway_process(tmp_path, "--drain-seconds", "6", "--grace-seconds", "60") as gateway,
        aiohttp.ClientSession(gateway.url) as http,
    ):
        async with http.post(CHAT, json={**BODY, "stream": True}) as stream:
            await stream.content.readuntil(b"\n\n")
            upstream.respond = healthy
            gateway.process.send_signal(signal.SIGTERM)

            async def unready() -> bool:
                return await gateway.status("/readyz") == 503

            await eventually(unready, what="readiness to go", every=0.01)
            async with http.post(CHAT, json=BODY) as response:
                assert response.status == 200
                assert response.headers["connection"] == "close"

            async def closed() -> bool:
                return await gateway.status("/healthz") == 0

            await eventually(closed, what="the port to close")
            assert gateway.process.returncode is None
            go_on.set()
            rest = await stream.text()
            assert '"two"' in rest
            assert rest.endswith("data: [DONE]\n\n")
        assert await asyncio.wait_for(gateway.process.wait(), 60) == 0


async def test_grace_is_bounded(tmp_path: Path, upstream: FakeUpstream) -> None:
    """A stream that does not end is cut with an error frame when the grace is over."""

    async def endless(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(frame(delta("chat", "one")))
        await asyncio.Event().wait()

    upstream.respond = endless
    async with (
        gateway_process(tmp_path, "--drain-seconds", "0", "--grace-seconds", "1") as gateway,
        aiohttp.ClientSession(gateway.url) as http,
        http.post(CHAT, json={**BODY, "stream": True}) as stream,
    ):
        await stream.content.readuntil(b"\n\n")
        gateway.process.send_signal(signal.SIGTERM)
        rest = await stream.text()
        error = json.loads(rest.split("\n\n")[0].removeprefix("data: "))["error"]
        assert error["code"] == "overloaded"
        assert await asyncio.wait_for(gateway.process.wait(), 60) == 0


async def test_log_has_one_line_a_request_and_no_content(tmp_path: Path, upstream: FakeUpstream) -> None:
    """The log is JSON, says what happened to each request, and holds neither prompt nor completion nor key."""
    brief = gateway_process(tmp_path, "--drain-seconds", "0")
    async with brief as gateway, aiohttp.ClientSession(gateway.url) as http:
        headers = {"authorization": "Bearer sk-client", "x-request-id": "my-request"}
        async with http.post(CHAT, json=BODY, headers=headers) as response:
            assert "Hello there" in await response.text()
        async with http.post(CHAT, json={**BODY, "model": "nobody"}) as response:
            await response.read()
        gateway.process.send_signal(signal.SIGTERM)
        os.kill(gateway.process.pid, signal.SIGTERM)
        await asyncio.wait_for(gateway.process.wait(), 60)
        text = gateway.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    served = [line for line in lines if line["message"] == "served request"]
    assert [(line["status"], line["model"]) for line in served] == [(200, "chat"), (404, "unknown")]
    assert served[0]["request_id"] == "my-request"
    assert (served[0]["input_tokens"], served[0]["output_tokens"], served[0]["attempts"]) == (5, 2, 1)
    for secret in ("a secret prompt", "Hello there", "sk-client"):
        assert secret not in text
