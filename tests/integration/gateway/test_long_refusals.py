"""Refusals whose body is long, slow or cut off, and what of a refusal reaches clients and the log."""

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from capstan_contract.config import ExternalBackend, ExternalEndpoint, Provider, Timeouts
from capstan_gateway.pipeline import call
from capstan_gateway.routing.breaker import BreakerState
from capstan_gateway.routing.port import Call
from fakes.openai_upstream import FakeUpstream, Received, Respond, Wire, frame, stall
from support.gateway import RunningGateway, entry, running_gateway

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
LONG = json.dumps({"object": "error", "message": "too long: " + "x" * 100_000, "code": 400}).encode()
SECRETS = ("org-abc123", "req_01ab", "acme", "sk-")


async def long(_: Received, wire: Wire) -> None:
    """Refuse with more than is read of an error."""
    await wire.json(LONG, 400)


async def cut(_: Received, wire: Wire) -> None:
    """Break off in the middle of a refusal."""
    await wire.head(400, "content-type: application/json", length=len(LONG))
    await wire.raw(LONG[:1000])
    wire.close()


async def stalls(received: Received, wire: Wire) -> None:
    """Stop in the middle of a refusal."""
    await wire.head(400, "content-type: application/json", length=len(LONG))
    await wire.raw(LONG[:1000])
    await stall(received, wire)


async def ask(
    gateway: RunningGateway, document: dict[str, Any], path: str = "chat/completions"
) -> tuple[int, str, Any]:
    """Send a request; give status, body and headers."""
    async with aiohttp.ClientSession() as http, http.post(f"{gateway.url}/v1/{path}", json=document) as response:
        return response.status, await response.text(), response.headers


@pytest.mark.parametrize("respond", [long, cut, stalls])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_status_of_a_refusal_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, respond: Respond, stream: bool
) -> None:
    """A 4xx is the client's, with what could be read of its message: no fallback answers, and nobody is blamed."""
    # No setting says how long the pieces of an answer that is no stream may be apart: a minute.
    monkeypatch.setattr(call, "Call", partial(Call, idle_seconds=1.0))
    async with FakeUpstream(respond) as upstream, FakeUpstream() as other:
        timeouts = Timeouts(idleSeconds=1)
        models = (entry("chat", upstream.url, fallbacks=("b",), timeouts=timeouts), entry("b", other.url))
        async with running_gateway(tmp_path, *models) as gateway:
            status, body, _ = await ask(gateway, {**CHAT, "stream": stream})
            error = json.loads(body)["error"]
            assert status == 400
            assert error["message"].startswith("too long: xxx")
            assert (len(upstream.requests), len(other.requests)) == (1, 0)
            await gateway.settled()
            runtime = gateway.gateway.current()
            assert runtime is not None
            state = runtime.models["chat"].endpoints.states[0]
            now = asyncio.get_running_loop().time()
            assert (state.in_flight, state.breaker.state(now), state.breaker.share(now)) == (
                0,
                BreakerState.CLOSED,
                1.0,
            )
            assert gateway.metric("llm_requests_total", model="chat", status="400") == 1
            assert gateway.metric("gateway_retries_total", model="chat", kind="fallback") == 0


def hosted(url: str, provider: Provider = Provider.OPENAI) -> Any:
    """A hosted model at this address."""
    endpoint = ExternalEndpoint(name="default", url=f"{url}/v1", credentialFile="key")
    return entry("chat", backend=ExternalBackend(provider=provider, endpoints=(endpoint,)))


def error(message: str, code: object = None) -> dict[str, Any]:
    """An error as OpenAI writes it."""
    return {"error": {"message": message, "type": "invalid_request_error", "code": code, "param": None}}


TOLD = "no model `x` in project acme for org-abc123 (req_01ab, key sk-1234)"


async def refuses(_: Received, wire: Wire) -> None:
    """Name the account in a 404."""
    await wire.json(error(TOLD), 404, "openai-organization: acme", "x-request-id: req_01ab")


async def limits(_: Received, wire: Wire) -> None:
    """Name the account, and what it may do, in a 429."""
    await wire.json(error(TOLD, "rate_limit_exceeded"), 429, "retry-after: 1")


async def fails_within(_: Received, wire: Wire) -> None:
    """Name the account in the middle of a stream, or in an answer with status 200."""
    if _.document.get("stream"):
        await wire.stream_head()
        await wire.chunk(frame(error(TOLD, 400)))
        await wire.end()
    else:
        await wire.json(error(TOLD, 400))


async def response_fails(_: Received, wire: Wire) -> None:
    """Fail as the Responses API does."""
    response = {
        "id": "resp_1", "object": "response", "status": "failed", "output": [], "model": "chat",
        "error": {"code": "invalid_prompt", "message": TOLD}, "usage": None,
    }  # fmt: skip
    if _.document.get("stream"):
        await wire.stream_head()
        for kind, told in (("response.created", {**response, "error": None}), ("response.failed", response)):
            await wire.chunk(
                b"event: %b\n" % kind.encode() + frame({"type": kind, "sequence_number": 0, "response": told})
            )
        await wire.end()
    else:
        await wire.json(response)


async def message_fails(_: Received, wire: Wire) -> None:
    """Fail as Anthropic does, in the middle of a stream."""
    await wire.stream_head()
    start = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 1}}}
    broken = {"type": "error", "error": {"type": "invalid_request_error", "message": TOLD}, "request_id": "req_01ab"}
    for payload in (start, broken):
        await wire.chunk(b"event: %b\n" % payload["type"].encode() + frame(payload))
    await wire.end()


@pytest.mark.parametrize(
    ("respond", "provider", "path", "more"),
    [
        (refuses, Provider.OPENAI, "chat/completions", {}),
        (limits, Provider.OPENAI_COMPATIBLE, "chat/completions", {}),
        (refuses, Provider.ANTHROPIC, "messages", {"max_tokens": 5}),
        (refuses, Provider.OPENAI, "responses", {"input": "hi"}),
        (fails_within, Provider.OPENAI, "chat/completions", {}),
        (fails_within, Provider.OPENAI_COMPATIBLE, "chat/completions", {"stream": True}),
        (fails_within, Provider.OPENAI_COMPATIBLE, "messages", {"stream": True, "max_tokens": 5}),
        (response_fails, Provider.OPENAI, "responses", {"input": "hi"}),
        (response_fails, Provider.OPENAI, "responses", {"input": "hi", "stream": True}),
        (message_fails, Provider.ANTHROPIC, "messages", {"max_tokens": 5, "stream": True}),
        (message_fails, Provider.ANTHROPIC, "chat/completions", {"stream": True}),
    ],
)
async def test_no_client_is_told_whose_account_a_hosted_model_is(
    tmp_path: Path, respond: Respond, provider: Provider, path: str, more: dict[str, Any]
) -> None:
    """Wherever a hosted API says it (a refusal, a limit, inside a stream, with status 200): it stays here."""
    async with (
        FakeUpstream(respond) as upstream,
        running_gateway(tmp_path, hosted(upstream.url, provider), credentials={"key": "k"}) as gateway,
    ):
        _, body, headers = await ask(gateway, {**CHAT, **more}, path)
        assert upstream.requests
        told = body + str(headers)
        assert not [secret for secret in SECRETS if secret in told], told
        assert "message" in body


async def test_an_engine_forges_no_header_and_no_log_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """An error's code with a line end in it, and long or odd headers, reach neither the log nor the client."""

    async def odd(received: Received, wire: Wire) -> None:
        if received.document.get("seed"):
            body = json.dumps({"choices": [{"finish_reason": "stop"}]}).encode()
            await wire.head(200, "content-type: application/json; x=" + "y" * 5000, length=len(body))
            await wire.raw(body)
            wire.ended = True
        else:
            forged = "a\n2026-01-01 00:00:00 INFO    request: served request request_id=forged status=200"
            await wire.json(error("m", forged), 429, "retry-after: " + "9" * 300, "x-should-retry: \x80")

    async with FakeUpstream(odd) as upstream:
        options: dict[str, Any] = {"log_level": "info", "log_format": "text"}
        async with running_gateway(tmp_path, entry("chat", upstream.url), **options) as gateway:
            status, body, headers = await ask(gateway, CHAT)
            assert (status, json.loads(body)["error"]["code"]) == (429, "rate_limit_exceeded")
            assert "retry-after" not in headers
            assert "x-should-retry" not in headers
            status, _, headers = await ask(gateway, {**CHAT, "seed": 1})
            assert (status, headers["content-type"]) == (200, "application/json")
            gateway.gateway.deps.request_log.flush()
    lines = [line for line in capfd.readouterr().err.splitlines() if " INFO    request: " in line]
    assert len(lines) == 2
    assert not [line for line in lines if "forged" in line]
