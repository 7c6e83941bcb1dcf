"""Images by URL, fetched by the gateway for engines without a network."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from capstan_contract.config import (
    Capability,
    CascadeBackend,
    CascadeEstimator,
    EstimatorType,
    ExternalBackend,
    ExternalEndpoint,
    Provider,
)
from capstan_gateway import composition
from capstan_gateway.images.gathered import MAX_OF_ONE
from fakes.openai_upstream import FakeUpstream
from support.gateway import RunningGateway, entry, running_gateway
from support.ports import free_port
from support.rawserver import Peer, ok, raw_server
from support.wait import eventually
from support.worker import Worker, simulator

PICTURE = {"type": "image_url", "image_url": {"url": "http://10.0.0.1/a.png"}}
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
    async with httpx.AsyncClient(timeout=60) as client:
        return await client.post(f"{gateway.url}/v1/{path}", json=body)


def _said(answer: httpx.Response) -> Any:
    document = answer.json()
    if "choices" in document:
        return document["choices"][0]["message"]["content"]
    return document["content"][0]["text"] if "content" in document else document["output"][0]["content"][0]["text"]


@pytest.mark.compatibility(
    table="requests", row="an image by URL", does="passed on, or fetched by the gateway for engines without a network",
    sends="clients", source="https://github.com/ollama/ollama/issues/6753",
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
    ("says", "status", "code", "why"),
    [
        ({"head": "302 Found"}, 400, "invalid_value", "redirects are not followed"),
        ({"head": "404 Not Found"}, 400, "invalid_value", "status 404"),
        ({"kind": "text/html"}, 400, "invalid_value", "it is none of image/gif"),
        ({"body": PNG + b"x" * 3000}, 400, "invalid_value", "larger than 2000 bytes"),
        ({"head": "503 Service Unavailable"}, 502, "image_unavailable", "status 503"),
        (None, 504, "image_unavailable", "longer than 0.3 s"),
    ],
)
async def test_what_is_no_image_within_bounds_is_refused(
    tmp_path: Path, engine: Worker, monkeypatch: pytest.MonkeyPatch, says: dict[str, Any] | None, status: int,
    code: str, why: str,
) -> None:  # fmt: skip
    """What is wrong with the URL is a 400, what its host may do better is tried again by SDKs; each names the field."""
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
        translated = await _ask(gateway, f"http://127.0.0.1:{port}/secret.png", path="responses")
        await gateway.settled()
        assert gateway.gateway.memory.held == 0
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, "messages.0.content.0.image_url")
    assert error["type"] == ("invalid_request_error" if status == 400 else "server_error")
    assert why in error["message"]
    assert "secret" not in answer.text
    error = translated.json()["error"]
    assert (translated.status_code, error["param"]) == (status, None)
    assert error["message"].startswith("image 1 of the request cannot be fetched: ")


async def test_slow_images_of_one_request_keep_nobody_else_waiting(
    tmp_path: Path, engine: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request with many images of a host that never answers takes a few of the places, and others are served."""
    monkeypatch.setattr(composition, "is_public", lambda _address: True)
    async with (
        _host() as (slow, slow_port),
        _host() as (_, port),
        running_gateway(
            tmp_path, entry("chat", engine.url), image_http=True, image_seconds=60.0,
            image_hosts=(f"127.0.0.1:{slow_port}", f"127.0.0.1:{port}"),
        ) as gateway,
        httpx.AsyncClient(timeout=60) as client,
    ):  # fmt: skip
        slow.answer = b""
        content = [
            {"type": "image_url", "image_url": {"url": f"http://127.0.0.1:{slow_port}/{at}"}} for at in range(16)
        ]
        body = {"model": "chat", "messages": [{"role": "user", "content": content}]}
        asking = asyncio.create_task(client.post(f"{gateway.url}/v1/chat/completions", json=body))
        await eventually(lambda: len(slow.asked) >= MAX_OF_ONE, what="the slow fetches")
        answer = await _ask(gateway, f"http://127.0.0.1:{port}/a.png")
        assert answer.status_code == 200
        assert len(slow.asked) == MAX_OF_ONE
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


@pytest.mark.parametrize("how", ["fallback", "cascade"])
async def test_an_image_is_fetched_once_whoever_answers(
    tmp_path: Path, engine: Worker, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A fallback, or the next member of a cascade, gets what was fetched for the one before; then it is let go of."""
    monkeypatch.setattr(composition, "is_public", lambda _address: True)
    nobody = f"http://127.0.0.1:{free_port()}"
    sees = {"capabilities": (Capability.VISION,)}
    models = [entry("second", engine.url, upstreamName="chat", **sees)]
    if how == "fallback":
        models += [entry("chat", nobody, fallbacks=("second",))]
    else:
        steps = CascadeBackend(
            members=("test/first", "test/second"), threshold=0.5,
            estimator=CascadeEstimator(type=EstimatorType.CHECKS),
        )  # fmt: skip
        models += [entry("first", nobody, **sees), entry("chat", backend=steps)]
    async with (
        _host() as (host, port),
        running_gateway(tmp_path, *models, image_hosts=(f"127.0.0.1:{port}",), image_http=True) as gateway,
    ):
        answer = await _ask(gateway, f"http://127.0.0.1:{port}/a.png")
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-capstan-model"] == "second"
        assert len(host.asked) == 1
        await gateway.settled()
        assert gateway.gateway.memory.held == 0


async def test_a_hosted_fallback_gets_the_url_of_an_image_that_cannot_be_had(
    tmp_path: Path, engine: Worker, monkeypatch: pytest.MonkeyPatch, upstream: FakeUpstream
) -> None:
    """What the gateway cannot reach a hosted API may: it fetches by itself, and gets the request as it came."""
    monkeypatch.setattr(composition, "is_public", lambda _address: True)
    endpoint = ExternalEndpoint(name="host", url=f"{upstream.url}/v1")
    hosted = ExternalBackend(provider=Provider.OPENAI_COMPATIBLE, endpoints=(endpoint,))
    async with (
        _host() as (host, port),
        running_gateway(
            tmp_path, entry("chat", engine.url, fallbacks=("hosted",)), entry("hosted", backend=hosted),
            image_hosts=(f"127.0.0.1:{port}",), image_http=True,
        ) as gateway,
    ):  # fmt: skip
        host.says(head="503 Service Unavailable")
        url = f"http://127.0.0.1:{port}/a.png"
        answer = await _ask(gateway, url)
        assert (answer.status_code, answer.headers["x-capstan-model"]) == (200, "hosted")
    assert upstream.requests[0].document["messages"][0]["content"][0]["image_url"]["url"] == url


async def test_images_for_which_there_is_no_room_are_told_so(
    tmp_path: Path, engine: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without room in the budget a request with images is a 503 that says when to come back, and nothing is kept."""
    monkeypatch.setattr(composition, "is_public", lambda _address: True)
    async with (
        _host() as (host, port),
        running_gateway(
            tmp_path, entry("chat", engine.url), image_hosts=(f"127.0.0.1:{port}",), image_http=True,
            memory_bytes=1024 * 1024,
        ) as gateway,
    ):  # fmt: skip
        host.says(PNG + b"x" * 300_000)
        answer = await _ask(gateway, f"http://127.0.0.1:{port}/a.png")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
        assert answer.headers["retry-after"] == "1"
        host.says(PNG + b"x" * 100_000)
        assert (await _ask(gateway, f"http://127.0.0.1:{port}/a.png")).status_code == 200
        await gateway.settled()
        assert gateway.gateway.memory.held == 0


@pytest.mark.compatibility(
    table="requests", row="a sound, a film or a file by URL", on="chat", sends="clients of vLLM",
    source="https://github.com/BerriAI/litellm/issues/12196, https://github.com/zai-org/GLM-V/issues/234",
    does="to engines passed on; refused where the gateway fetches images for them",
)  # fmt: skip
@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "audio_url", "audio_url": {"url": "http://169.254.169.254/a.wav"}}, "audio_url"),
        ({"type": "video_url", "video_url": {"url": "https://img.example.com/a.mp4"}}, "video_url"),
        ({"type": "input_audio", "input_audio": {"data": "http://10.0.0.1/a", "format": "wav"}}, "input_audio"),
        ({"type": "file", "file": {"file_data": "https://img.example.com/a.pdf"}}, "file"),
        ({"audio_url": " \thttp://10.0.0.1/a.wav"}, "audio_url"),
    ],
)
async def test_what_else_names_a_url_is_refused_by_its_name(
    tmp_path: Path, engine: Worker, part: dict[str, Any], kind: str
) -> None:
    """An engine that fetches nothing is sent no address of the client's at all, be it of a sound, a film or a file."""
    body = {"model": "chat", "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]}
    async with (
        running_gateway(tmp_path, entry("chat", engine.url), image_hosts=("img.example.com",)) as gateway,
        httpx.AsyncClient(timeout=60) as client,
    ):
        answer = await client.post(f"{gateway.url}/v1/chat/completions", json=body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "unsupported_value")
    assert error["param"] == f"messages.0.content.1.{kind}"
    assert "169.254" not in answer.text


@pytest.mark.parametrize(
    ("path", "task", "body", "field"),
    [
        ("rerank", "score", {"query": "q", "documents": {"content": [PICTURE]}}, "documents"),
        ("score", "score", {"text_1": "a", "text_2": [{"content": [PICTURE]}]}, "text_2"),
        ("classify", "classify", {"input": [{"content": [PICTURE]}]}, "input"),
        ("embeddings", "embed", {"input": [{"content": [PICTURE]}]}, "input"),
        ("completions", "completion", {"prompt": [{"content": [PICTURE]}]}, "prompt"),
    ],
)
async def test_no_engine_is_sent_an_address_on_any_route(
    tmp_path: Path, upstream: FakeUpstream, path: str, task: str, body: dict[str, Any], field: str
) -> None:
    """What is ranked, scored, classified and embedded may have pictures as well, which engines would fetch."""
    model = entry("chat", upstream.url, task=task)
    async with (
        running_gateway(tmp_path, model, image_hosts=("img.example.com",)) as gateway,
        httpx.AsyncClient(timeout=60) as client,
    ):
        answer = await client.post(f"{gateway.url}/v1/{path}", json={"model": "chat", **body})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "unsupported_value", field)
    assert not upstream.requests
    assert "10.0.0.1" not in answer.text


async def test_no_engine_counts_an_image_that_it_would_have_to_fetch(
    tmp_path: Path, engine: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prompt with images by URL is counted here: whoever fetches nothing for an answer fetches nothing to count."""
    block = {"type": "image", "source": {"type": "url", "url": "http://169.254.169.254/"}}
    body = {"model": "chat", "messages": [{"role": "user", "content": [block]}]}
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        await peer.send(ok(b'{"input_tokens":5}', b"content-type: application/json"))

    async with (
        raw_server(script) as counts,
        running_gateway(
            tmp_path, entry("chat", f"http://127.0.0.1:{counts.port}"), image_hosts=("img.example.com",)
        ) as gateway,
        httpx.AsyncClient(timeout=60) as client,
    ):
        answer = await client.post(f"{gateway.url}/v1/messages/count_tokens", json=body)
        assert answer.status_code == 200
        assert answer.json()["input_tokens"] > 500
        assert seen == []
        body["messages"] = [{"role": "user", "content": "x"}]
        assert (await client.post(f"{gateway.url}/v1/messages/count_tokens", json=body)).json()["input_tokens"] == 5


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
        httpx.AsyncClient(timeout=60) as client,
    ):
        answer = await client.post(f"{gateway.url}/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert "nested too deeply" in answer.json()["error"]["message"]
