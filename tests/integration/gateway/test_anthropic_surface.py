"""What Anthropic's clients meet beside a message: models, errors of every path, and whether anybody is there."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest

from support.gateway import RunningGateway, entry, running_gateway
from support.request_shapes import addresses

VERSION = {"anthropic-version": "2023-06-01"}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """A gateway with three models that nobody answers for."""
    dead = "http://127.0.0.1:9"
    models = [entry(name, dead, contextWindow=1000, maxOutputTokens=50) for name in ("a", "b", "c")]
    async with running_gateway(tmp_path, *models) as running:
        yield running


@pytest.fixture
async def http(gateway: RunningGateway) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it."""
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as client:
        yield client


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/", "/api/hello"])
@pytest.mark.compatibility(
    table="requests",
    row="`HEAD /` and `HEAD /api/hello`",
    sends="Claude Code, before its first request",
    source=addresses("router-for-me/CLIProxyAPI/issues/5905"),
    does="answered",
)
async def test_somebody_is_there(http: httpx.AsyncClient, method: str, path: str) -> None:
    """Claude Code connects to the root, later versions to another path, before their first request."""
    assert (await http.request(method, path)).status_code == 200


@pytest.mark.compatibility(
    table="requests",
    row="`GET /v1/models` with `anthropic-version`",
    sends="Claude Code, Anthropic's SDKs",
    source=addresses("BerriAI/litellm/pull/35455, raine/claude-code-proxy/issues/60"),
    does="Anthropic's form; OpenAI's for everybody else",
)
async def test_models_are_listed_in_the_form_of_who_asks(gateway: RunningGateway, http: httpx.AsyncClient) -> None:
    """By the version in the request: Anthropic's pages, else OpenAI's list."""
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key="unused", max_retries=0) as client:
        assert [model.id async for model in await client.models.list(limit=2)] == ["a", "auto", "b", "c"]
        one = await client.models.retrieve("b")
    assert (one.type, one.display_name, one.created_at.year) == ("model", "b", 2023)
    page = (await http.get("/v1/models?limit=2&before_id=c", headers=VERSION)).json()
    assert [card["id"] for card in page["data"]] == ["auto", "b"]
    assert (page["first_id"], page["last_id"], page["has_more"]) == ("auto", "b", True)
    assert page["data"][1]["max_input_tokens"] == 1000
    assert (await http.get("/v1/models")).json()["object"] == "list"
    assert (await http.get("/v1/models/b")).json()["object"] == "model"


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("POST", "/v1/messages/batches", 501, "api_error"),
        ("POST", "/v1/messages/none", 404, "not_found_error"),
        ("GET", "/v1/messages", 405, "invalid_request_error"),
        ("GET", "/v1/messages/none", 404, "not_found_error"),
        ("GET", "/v1/models/none", 404, "not_found_error"),
        ("GET", "/v1/models?limit=0", 400, "invalid_request_error"),
        ("GET", "/v1/models?limit=x", 400, "invalid_request_error"),
        ("POST", "/v1/messages", 400, "invalid_request_error"),
    ],
)
@pytest.mark.compatibility(
    table="requests",
    row="A path under `/v1/messages` that is not there, or a wrong request",
    sends="Anthropic's SDKs",
    source=addresses("api7/aisix/issues/336, BerriAI/litellm/pull/39037"),
    does="an error in Anthropic's envelope",
)
async def test_errors_are_in_anthropics_envelope(
    http: httpx.AsyncClient, method: str, path: str, status: int, kind: str
) -> None:
    """Their client shows no message of any other."""
    answer = await http.request(method, path, headers=VERSION)
    assert answer.status_code == status
    told = answer.json()
    assert (told["type"], told["error"]["type"]) == ("error", kind)
    assert told["error"]["message"]
    assert told["request_id"] == answer.headers["request-id"]


HEAD = b"POST %b HTTP/1.1\r\nhost: x\r\n"
REFUSED = {
    "a head without a colon": (400, b"no colon\r\n\r\n"),
    "two lengths": (400, b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
    "a coding that is not known": (501, b"transfer-encoding: gzip\r\n\r\n"),
    "a head that is too large": (431, b"x: " + b"y" * 70_000 + b"\r\n\r\n"),
    "a body that is too large": (413, b"content-length: 99999999\r\n\r\n"),
    "a body that is no JSON": (400, b"content-length: 1\r\n\r\nx"),
}


@pytest.mark.parametrize("path", [b"/v1/messages", b"/v1/messages/count_tokens?beta=true", b"http://x/v1/messages"])
@pytest.mark.parametrize("name", REFUSED)
async def test_what_the_connection_refuses_is_in_anthropics_envelope_too(
    gateway: RunningGateway, path: bytes, name: str
) -> None:
    """A request that is none has a path all the same, as soon as that much of it was read."""
    status, rest = REFUSED[name]
    got, told = await raw_error(gateway, HEAD % path + rest)
    assert (got, told["type"], set(told["error"])) == (status, "error", {"type", "message"})
    assert told["request_id"]
    got, told = await raw_error(gateway, HEAD % b"/v1/chat/completions" + rest)
    assert (got, set(told["error"])) == (status, {"message", "type", "param", "code"})


@pytest.mark.parametrize("path", [b"/v1/models", b"/v1/models/a"])
async def test_so_is_a_broken_head_of_a_path_of_both_that_names_a_version(gateway: RunningGateway, path: bytes) -> None:
    """By the headers that were read of it."""
    head, named = b"GET %b HTTP/1.1\r\nhost: x\r\n" % path, b"anthropic-version: 2023-06-01\r\naccept: */*\r\n"
    assert (await raw_error(gateway, head + named + b"no colon\r\n\r\n"))[1]["type"] == "error"
    assert "type" not in (await raw_error(gateway, head + b"no colon\r\n\r\n"))[1]
    near = head.replace(path, b"/v1/modelsfoo")
    assert "type" not in (await raw_error(gateway, near + named + b"no colon\r\n\r\n"))[1]


async def raw_error(gateway: RunningGateway, data: bytes) -> tuple[int, dict[str, Any]]:
    """Send bytes, and read one answer to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        async with asyncio.timeout(60):
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            body = await reader.readexactly(int(length.split(b":")[1]))
    finally:
        writer.close()
    return int(head.split()[1]), json.loads(body)


async def test_errors_of_other_paths_stay_in_openais(http: httpx.AsyncClient) -> None:
    """A path that is in neither API, or is asked for without a version, is OpenAI's."""
    for path, headers in (("/v1/none", {}), ("/v1/models/none", {}), ("/v1/messagesx", {}), ("/v1/modelsfoo", VERSION)):
        assert set((await http.get(path, headers=headers)).json()["error"]) == {"message", "type", "param", "code"}
