"""Images by URL, fetched by the gateway for engines without a network."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from capstan_gateway import composition
from support.gateway import RunningGateway, entry, running_gateway
from support.worker import Worker, simulator

PNG = b"\x89PNG\r\n\x1a\n" + b"x" * 40


class Host:
    """A web server that answers with what it was told, and counts who came."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.answer = b""

    def says(self, body: bytes = PNG, *, kind: str = "image/png", head: str = "200 OK", more: str = "") -> None:
        """Say what to answer from now on."""
        lines = (
            f"HTTP/1.1 {head}\r\ncontent-type: {kind}\r\n{more}content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.answer = lines.encode() + body

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection."""
        try:
            self.asked.append(await reader.readuntil(b"\r\n\r\n"))
            if self.answer:
                writer.write(self.answer)
                await writer.drain()
            else:
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def _host() -> AsyncIterator[tuple[Host, int]]:
    host = Host()
    host.says()
    server = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    try:
        yield host, server.sockets[0].getsockname()[1]
    finally:
        server.close()


@pytest.fixture(scope="module")
def engine() -> Iterator[Worker]:
    """A simulator, which tells an image from another."""
    with simulator("--answer-tokens", "8", model="chat") as started:
        yield started


async def _ask(gateway: RunningGateway, url: str, *, path: str = "chat/completions") -> httpx.Response:
    content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}}]
    body: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": content}]}
    if path == "responses":
        body = {"model": "chat", "input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]}
    if path == "messages":
        block = {"type": "image", "source": {"type": "url", "url": url}}
        body = {"model": "chat", "max_tokens": 50, "messages": [{"role": "user", "content": [block]}]}
    async with httpx.AsyncClient(timeout=30) as client:
        return await client.post(f"{gateway.url}/v1/{path}", json=body)


def _said(answer: httpx.Response) -> Any:
    document = answer.json()
    if "choices" in document:
        return document["choices"][0]["message"]["content"]
    return document["content"][0]["text"] if "content" in document else document["output"][0]["content"][0]["text"]


@pytest.mark.compatibility(
    table="requests", row="an image by URL", does="passed on, or fetched by the gateway for engines without a network",
    sends="clients",
)  # fmt: skip
@pytest.mark.parametrize("path", ["chat/completions", "messages", "responses"])
async def test_an_image_is_fetched(tmp_path: Path, engine: Worker, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """On each route the engine gets what it would get of the image itself, and its host hears nothing of the client."""
    monkeypatch.setattr(composition, "is_public", lambda _address: True)
    async with (
        _host() as (host, port),
        running_gateway(
            tmp_path, entry("chat", engine.url), image_hosts=(f"127.0.0.1:{port}",), image_http=True
        ) as gateway,
    ):
        fetched = await _ask(gateway, f"http://127.0.0.1:{port}/a.png?b=c", path=path)
        inline = await _ask(gateway, "data:image/png;base64," + base64.b64encode(PNG).decode(), path=path)
    assert fetched.status_code == 200, fetched.text
    assert _said(fetched) == _said(inline)
    assert len(host.asked) == 1
    assert host.asked[0].startswith(b"GET /a.png?b=c HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"authorization" not in host.asked[0].lower()


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ({"head": "302 Found", "more": "location: http://169.254.169.254/\r\n"}, "redirects are not followed"),
        ({"head": "404 Not Found"}, "status 404"),
        ({"kind": "text/html"}, "it is none of image/gif"),
        ({"body": b"<html>"}, "it is none of image/gif"),
        ({"body": PNG + b"x" * 3000}, "larger than 2000 bytes"),
        (None, "longer than 0.3 s"),
    ],
)
async def test_what_is_no_image_within_bounds_is_refused(
    tmp_path: Path, engine: Worker, monkeypatch: pytest.MonkeyPatch, says: dict[str, Any] | None, why: str
) -> None:
    """A redirect, an error, another type, too much and too slow are a 400 that names the field and not the URL."""
    monkeypatch.setattr(composition, "is_public", lambda _address: True)
    async with (
        _host() as (host, port),
        running_gateway(
            tmp_path, entry("chat", engine.url), image_hosts=(f"127.0.0.1:{port}",), image_http=True,
            image_bytes=2000, image_seconds=10.0 if says else 0.3,
        ) as gateway,
    ):  # fmt: skip
        if says is None:
            host.answer = b""
        else:
            host.says(**says)
        answer = await _ask(gateway, f"http://127.0.0.1:{port}/secret.png")
        await gateway.settled()
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "messages.0.content.0.image_url")
    assert why in error["message"]
    assert "secret" not in answer.text


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_no_address_of_our_own_is_asked(tmp_path: Path, engine: Worker, name: str) -> None:
    """Even a host of the list is not asked where its address is not one of the public internet."""
    async with (
        _host() as (host, port),
        running_gateway(
            tmp_path, entry("chat", engine.url), image_hosts=(f"{name}:{port}",), image_http=True
        ) as gateway,
    ):
        answer = await _ask(gateway, f"http://{name}:{port}/a.png")
    assert answer.status_code == 400
    assert host.asked == []


async def test_without_the_setting_the_engine_gets_the_url(tmp_path: Path, engine: Worker) -> None:
    """By default nothing is fetched."""
    async with _host() as (host, port), running_gateway(tmp_path, entry("chat", engine.url)) as gateway:
        answer = await _ask(gateway, f"http://127.0.0.1:{port}/a.png")
    assert answer.status_code == 200
    assert host.asked == []


async def test_json_that_is_too_deep_to_be_written_is_refused(tmp_path: Path, engine: Worker) -> None:
    """A body that is read and cannot be written anew is the client's fault, not an internal error."""
    deep: Any = "x"
    for _ in range(300):
        deep = [deep]
    body = {"model": "chat", "messages": [{"role": "user", "content": "x"}], "metadata": deep}
    async with (
        running_gateway(tmp_path, entry("chat", engine.url, upstreamName="other")) as gateway,
        httpx.AsyncClient() as client,
    ):
        answer = await client.post(f"{gateway.url}/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert "nested too deeply" in answer.json()["error"]["message"]
