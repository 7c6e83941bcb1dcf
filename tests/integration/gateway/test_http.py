"""The HTTP surface: refusals in the envelope, bounds, headers in and out."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from capstan_contract.config import ExternalBackend, ExternalEndpoint, Provider, Timeouts
from fakes.openai_upstream import FakeUpstream, Received, Wire, answer, completion, delta, frame, stall
from support.gateway import RunningGateway, entry, running_gateway
from support.wait import eventually

CHAT = "/v1/chat/completions"
BODY = {"model": "chat", "messages": [{"role": "user", "content": "x"}]}


@pytest.fixture
async def gateway(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A small gateway with one model."""
    async with running_gateway(
        tmp_path, entry("chat", upstream.url), max_body_bytes=2000, max_header_bytes=4000, max_concurrency=3
    ) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code", "param"),
    [
        ("GET", "/nowhere", {}, 404, "route_not_found", None),
        ("POST", "/v1/nowhere", {"json": BODY}, 404, "route_not_found", None),
        ("GET", CHAT, {}, 405, "method_not_allowed", None),
        ("POST", "/v1/models", {}, 405, "method_not_allowed", None),
        ("POST", CHAT, {"data": b"{"}, 400, "invalid_json", None),
        ("POST", CHAT, {"data": b""}, 400, "invalid_json", None),
        ("POST", CHAT, {"json": [BODY]}, 400, "invalid_json", None),
        ("POST", CHAT, {"json": {"messages": []}}, 400, "missing_required_parameter", "model"),
        ("POST", CHAT, {"json": {"model": "chat"}}, 400, "missing_required_parameter", "messages"),
        ("POST", CHAT, {"json": {**BODY, "model": 7}}, 400, "invalid_value", "model"),
        ("POST", CHAT, {"json": {**BODY, "stream": "yes"}}, 400, "invalid_value", "stream"),
        ("POST", "/v1/embeddings", {"json": {"model": "chat", "input": "x"}}, 400, "invalid_value", "model"),
        ("POST", CHAT, {"json": {**BODY, "user": "x" * 3000}}, 413, "request_too_large", None),
        ("POST", CHAT, {"data": "x", "headers": {"content-type": "text/plain"}}, 415, "unsupported_media_type", None),
        ("POST", CHAT, {"json": BODY, "headers": {"x-big": "x" * 5000}}, 431, "headers_too_large", None),
    ],
)
async def test_refusals_are_envelopes(
    http: aiohttp.ClientSession,
    method: str,
    path: str,
    options: dict,
    status: int,
    code: str,
    param: str | None,
) -> None:
    """Whatever is wrong, the answer is the envelope with its four keys, and carries a request id."""
    if isinstance(options.get("data"), bytes):
        options = {**options, "headers": {"content-type": "application/json"}}
    async with http.request(method, path, **options) as response:
        document = await response.json()
    assert response.status == status
    assert document["error"].keys() == {"message", "type", "param", "code"}
    assert (document["error"]["code"], document["error"]["param"]) == (code, param)
    assert document["error"]["type"] == "invalid_request_error"
    assert "x-request-id" in response.headers


async def test_upload_without_a_length_is_bounded(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """A chunked body is cut at the limit, however long it goes on."""

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000

    async with aiohttp.ClientSession(gateway.url) as session:
        try:
            async with session.post(CHAT, data=endless(), headers={"content-type": "application/json"}) as response:
                assert response.status == 413
        except (aiohttp.ClientConnectionError, ConnectionError):
            # The answer was written, and the client was still sending when the connection closed.
            pass
    await gateway.settled()
    assert gateway.metric("llm_requests_total", model="unknown", status="413") == 1
    assert upstream.requests == []


async def test_bytes_that_are_not_http(gateway: RunningGateway) -> None:
    """Nonsense on the port gets an envelope as well."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(b"\x16\x03\x01 hello\r\n\r\n")
    said = await reader.read()
    assert said.startswith(b"HTTP/1.1 400 ")
    assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"
    writer.close()


async def test_concurrency_is_bounded(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """One request more than allowed is turned away at once, and told to come back in a second."""
    upstream.respond = stall
    async with aiohttp.ClientSession(gateway.url) as session:
        running = [asyncio.create_task(session.post(CHAT, json=BODY)) for _ in range(3)]
        await eventually(lambda: upstream.active == 3, what="three requests")
        async with session.post(CHAT, json=BODY) as response:
            document = await response.json()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    assert (response.status, document["error"]["code"]) == (503, "overloaded")
    assert response.headers["retry-after"] == "1"
    assert gateway.metric("gateway_admission_rejected_total", reason="concurrency") == 1
    await gateway.settled()


@pytest.mark.parametrize(("given", "kept"), [("my-id_1:2.3", True), ("bad id", False), ("x" * 200, False)])
async def test_request_id_in_and_out(
    http: aiohttp.ClientSession, upstream: FakeUpstream, given: str, kept: bool
) -> None:
    """A harmless id of the client is kept, any other replaced; engine and client see the same one."""
    async with http.post(CHAT, json=BODY, headers={"x-request-id": given}) as response:
        await response.read()
    said = response.headers["x-request-id"]
    assert (said == given) is kept
    assert upstream.requests[0].headers["x-request-id"] == said


async def test_only_wanted_headers_reach_the_engine(http: aiohttp.ClientSession, upstream: FakeUpstream) -> None:
    """The trace goes on; credentials, cookies and everything else of the client stay here."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    given = {"traceparent": trace, "authorization": "Bearer secret", "cookie": "a=b", "x-tenant": "t"}
    async with http.post(CHAT, json=BODY, headers=given) as response:
        await response.read()
    sent = upstream.requests[0].headers
    assert sent["traceparent"] == trace
    assert not sent.keys() & {"authorization", "cookie", "x-tenant"}


async def test_answer_headers(http: aiohttp.ClientSession) -> None:
    """The answer says which model answered, in how many attempts, and what the gateway itself took."""
    async with http.post(CHAT, json=BODY) as response:
        await response.read()
    assert response.headers["x-capstan-model"] == "chat"
    assert response.headers["x-gateway-attempts"] == "1"
    assert 0 <= float(response.headers["x-gateway-overhead-ms"]) < 10_000
    async with http.post(CHAT, json={**BODY, "stream": True}) as response:
        await response.read()
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-length" not in response.headers


async def test_body_passes_as_it_came(
    gateway: RunningGateway, http: aiohttp.ClientSession, upstream: FakeUpstream
) -> None:
    """Unknown fields, key order and number formats reach the engine untouched."""
    body = b'{ "x_new": 1.10, "model":"chat",\n "messages":[{"role":"user","content":"\\u00fc"}], "top_k":5 }'
    async with http.post(CHAT, data=body, headers={"content-type": "application/json"}) as response:
        await response.read()
    assert upstream.requests[0].body == body
    with_stream = body.replace(b'"top_k":5', b'"stream":true')
    async with http.post(CHAT, data=with_stream, headers={"content-type": "application/json"}) as response:
        await response.read()
    sent = upstream.requests[1].document
    assert sent.pop("stream_options") == {"include_usage": True}
    assert sent == json.loads(with_stream)


@pytest.mark.parametrize("body", [b"<html>", b'{"id":"x"', b"", b"[]"])
async def test_answer_that_is_not_json(http: aiohttp.ClientSession, upstream: FakeUpstream, body: bytes) -> None:
    """A 200 that is not an answer is the engine's failure."""

    async def nonsense(_: Received, wire: Wire) -> None:
        await wire.json(body)

    upstream.respond = nonsense
    async with http.post(CHAT, json=BODY) as response:
        document = await response.json()
    assert (response.status, document["error"]["code"]) == (502, "upstream_error")


async def test_deadlines(tmp_path: Path, upstream: FakeUpstream) -> None:
    """A first token that is late, a stream that stalls, an answer that takes too long: each ends as a timeout."""

    async def one_token(received: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(frame(delta("m", "one")))
        await stall(received, wire)

    slow = entry("slow", upstream.url, timeouts=Timeouts(firstTokenSeconds=0.5, idleSeconds=90, totalSeconds=90))
    stalls = entry("stalls", upstream.url, timeouts=Timeouts(firstTokenSeconds=90, idleSeconds=0.5, totalSeconds=90))
    long = entry("long", upstream.url, timeouts=Timeouts(firstTokenSeconds=90, idleSeconds=90, totalSeconds=2))
    async with running_gateway(tmp_path, slow, stalls, long) as gateway, aiohttp.ClientSession(gateway.url) as http:
        upstream.respond = stall
        for model, stream in (("slow", True), ("long", False)):
            async with http.post(CHAT, json={**BODY, "model": model, "stream": stream}) as response:
                document = await response.json()
            assert (response.status, document["error"]["code"]) == (504, "timeout")
        upstream.respond = one_token
        for model in ("stalls", "long"):
            async with http.post(CHAT, json={**BODY, "model": model, "stream": True}) as response:
                text = await response.text()
            assert response.status == 200
            assert json.loads(text.split("\n\n")[1].removeprefix("data: "))["error"]["code"] == "timeout"
            assert text.endswith("data: [DONE]\n\n")
    await eventually(lambda: upstream.gone == 4, what="the end of the calls")


async def test_fallback_to_another_model(tmp_path: Path, upstream: FakeUpstream) -> None:
    """A model that fails hands over to its fallbacks, in order; the client's own faults are not handed over."""
    calls: list[str] = []
    statuses = [500, 500, 400, 429]

    async def first_fails(received: Received, wire: Wire) -> None:
        model = received.document["model"]
        calls.append(model)
        if model == "first":
            status = statuses.pop(0)
            await wire.json({"error": {"message": "no", "code": status}}, status)
        else:
            await answer(received, wire)

    upstream.respond = first_fails
    models = (
        entry("first", upstream.url, fallbacks=("missing", "away", "second")),
        entry("away", fallbacks=()),
        entry("second", upstream.url),
    )
    async with running_gateway(tmp_path, *models) as gateway, aiohttp.ClientSession(gateway.url) as http:
        for stream, status, answered_by in (
            (False, 200, "second"),
            (True, 200, "second"),
            (False, 400, None),
            (False, 200, "second"),
        ):
            async with http.post(CHAT, json={**BODY, "model": "first", "stream": stream}) as response:
                await response.read()
            assert (response.status, response.headers.get("x-capstan-model")) == (status, answered_by)
        await gateway.settled()
        assert gateway.metric("gateway_retries_total", model="first", kind="fallback") == 3
        assert gateway.metric("llm_tokens_total", model="second", direction="output") > 0
    assert calls == ["first", "second", "first", "second", "first", "first", "second"]


def _hosted_at(url: str, credential: str) -> ExternalBackend:
    endpoint = ExternalEndpoint(name="default", url=url, credentialFile=credential)
    return ExternalBackend(provider=Provider.OPENAI, endpoints=(endpoint,))


async def test_hosted_model(tmp_path: Path, upstream: FakeUpstream) -> None:
    """A hosted API gets its own key, under its own path; a rotated key is used without a restart."""

    async def hosted(received: Received, wire: Wire) -> None:
        await wire.json(completion("gpt-x-2026"))

    upstream.respond = hosted
    backend = _hosted_at(upstream.url + "/base/v1", "gpt")
    model = entry("gpt", upstreamName="gpt-x", backend=backend)
    keyless = entry("keyless", backend=_hosted_at(upstream.url, "none"))
    async with (
        running_gateway(tmp_path, model, keyless, credentials={"gpt": "key-1\n"}) as gateway,
        aiohttp.ClientSession(gateway.url, headers={"authorization": "Bearer client"}) as http,
    ):
        async with http.post(CHAT, json={**BODY, "model": "gpt"}) as response:
            assert (await response.json())["model"] == "gpt-x-2026"
        (tmp_path / "credentials" / "gpt").write_text("key-2")
        await eventually(lambda: gateway.gateway.credentials.key("gpt") == b"key-2", what="the new key")
        async with http.post(CHAT, json={**BODY, "model": "gpt"}) as response:
            await response.read()
        async with http.post(CHAT, json={**BODY, "model": "keyless"}) as response:
            document = await response.json()
        assert (response.status, document["error"]["code"]) == (502, "upstream_error")
    assert [request.path for request in upstream.requests] == ["/base/v1/chat/completions"] * 2
    assert [request.headers["authorization"] for request in upstream.requests] == ["Bearer key-1", "Bearer key-2"]
    assert upstream.requests[0].document["model"] == "gpt-x"


async def test_model_that_comes_up_answers_who_waited(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """A request for a model without an endpoint is served as soon as there is one."""
    await gateway.configure(entry("late"))
    async with aiohttp.ClientSession(gateway.url) as http:
        waiting = asyncio.create_task(http.post(CHAT, json={**BODY, "model": "late"}))
        runtime = gateway.gateway.current()
        assert runtime is not None
        await eventually(lambda: runtime.models["late"].endpoints.waiting == 1, what="the wait")
        await gateway.configure(entry("late", upstream.url))
        response = await waiting
        assert response.status == 200
        response.release()
