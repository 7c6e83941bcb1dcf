"""What Anthropic's clients meet beside a message: models, errors of every path, and whether anybody is there."""

from collections.abc import AsyncIterator
from pathlib import Path

import anthropic
import httpx
import pytest

from support.gateway import RunningGateway, entry, running_gateway

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
    async with httpx.AsyncClient(base_url=gateway.url, timeout=30) as client:
        yield client


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_somebody_is_there(http: httpx.AsyncClient, method: str) -> None:
    """Claude Code asks for the root before its first request."""
    assert (await http.request(method, "/")).status_code == 200


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
        ("POST", "/v1/messages/batches", 404, "not_found_error"),
        ("GET", "/v1/messages", 405, "invalid_request_error"),
        ("GET", "/v1/messages/none", 404, "not_found_error"),
        ("GET", "/v1/models/none", 404, "not_found_error"),
        ("GET", "/v1/models?limit=0", 400, "invalid_request_error"),
        ("GET", "/v1/models?limit=x", 400, "invalid_request_error"),
        ("POST", "/v1/messages", 400, "invalid_request_error"),
    ],
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


async def test_errors_of_other_paths_stay_in_openais(http: httpx.AsyncClient) -> None:
    """A path that is in neither API, or is asked for without a version, is OpenAI's."""
    for path in ("/v1/none", "/v1/models/none", "/v1/messagesx"):
        assert set((await http.get(path)).json()["error"]) == {"message", "type", "param", "code"}
