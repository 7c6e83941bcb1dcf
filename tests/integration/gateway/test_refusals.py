"""Requests that are refused before anything of theirs is read can be found again: by id, in the log, as a number."""

import asyncio
import json
from pathlib import Path

import pytest

from support.gateway import RunningGateway, entry, running_gateway

PATH = b"/v1/chat/completions"


async def say(gateway: RunningGateway, data: bytes) -> bytes:
    """Send on a connection of its own, and give all that is said until it ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(data)
    async with asyncio.timeout(60):
        said = await reader.read(-1)
    writer.close()
    return said


def request(method: bytes = b"POST", *lines: bytes) -> bytes:
    """Give a request that is the last one of its connection."""
    heads = (b"host: x", b"connection: close", b"content-length: 0", *lines)
    return b"%b %b HTTP/1.1\r\n" % (method, PATH) + b"".join(line + b"\r\n" for line in heads) + b"\r\n"


@pytest.mark.parametrize(
    ("reason", "sent", "status", "settings"),
    [
        ("method", request(b"GET", b"x-request-id: mine"), 405, {}),
        ("concurrency", request(b"POST", b"x-request-id: mine"), 503, {"max_concurrency": 1}),
        ("malformed", b"nonsense\r\n\r\n", 400, {}),
        ("malformed", b"GET / HTTP/1.1\r\n\r\n", 400, {}),
        ("head", request(b"POST", b"x: " + b"y" * 5000), 431, {"max_header_bytes": 4000}),
        ("connections", request(), 503, {"max_connections": 1}),
    ],
)
async def test_a_refusal_has_an_id_a_line_and_a_number(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], reason: str, sent: bytes, status: int, settings: dict[str, int]
) -> None:
    """The id of the answer is the one of the log, which says why; the client's own id is kept where it was read."""
    model = entry("chat", "http://127.0.0.1:1")
    async with running_gateway(tmp_path, model, log_level="info", **settings) as gateway:
        if reason == "concurrency":
            gateway.gateway.requests.limit = 0
        held = await asyncio.open_connection("127.0.0.1", gateway.port) if reason == "connections" else None
        said = await say(gateway, sent)
        if held is not None:
            held[1].close()
        assert int(said[9:12]) == status
        lines = dict(line.split(b": ", 1) for line in said.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:])
        request_id = lines[b"x-request-id"].decode()
        assert request_id == "mine" if b"mine" in sent else request_id.startswith("req_")
        assert gateway.metric("gateway_admission_rejected_total", reason=reason) == 1
    logged = [json.loads(line) for line in capfd.readouterr().err.splitlines() if '"refused"' in line]
    assert [(line["request_id"], line["status"], line["refused"]) for line in logged] == [(request_id, status, reason)]


async def test_before_there_is_a_config(tmp_path: Path) -> None:
    """Without a config there is nobody to ask: the client is told to come back, and that is counted."""
    async with running_gateway(tmp_path) as gateway:
        said = await say(gateway, request())
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in said
        assert gateway.metric("gateway_admission_rejected_total", reason="no_config") == 1
