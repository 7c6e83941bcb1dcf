"""A request that does more than to be answered is sent once: to no other engine, fallback or member."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from capstan_contract.config import CascadeBackend, CascadeEstimator, EstimatorType
from fakes.openai_upstream import FakeUpstream, Received, Wire, completion
from support.gateway import entry, running_gateway
from support.ports import free_port

PATH = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hi"}]}


async def fails(_: Received, wire: Wire) -> None:
    """Answer with a 500."""
    await wire.json({"error": {"message": "no", "code": 500}}, 500)


async def refuses(_: Received, wire: Wire) -> None:
    """Answer with a 404."""
    await wire.json({"error": {"message": "no", "code": 404}}, 404)


async def says_nothing(received: Received, wire: Wire) -> None:
    """Give an answer that no check accepts."""
    await wire.json(completion(received.document["model"], ""))


@pytest.fixture
async def engines() -> AsyncIterator[tuple[FakeUpstream, FakeUpstream]]:
    """Two engines."""
    async with FakeUpstream() as one, FakeUpstream() as other:
        yield one, other


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("respond", [fails, refuses])
async def test_no_fallback_once_it_was_sent(
    tmp_path: Path, engines: tuple[FakeUpstream, FakeUpstream], stored: bool, stream: bool, respond: object
) -> None:
    """What the first model has seen goes to no other one, whatever became of it; anything else falls back."""
    one, other = engines
    one.respond = respond  # type: ignore[assignment]
    models = (
        entry("first", one.url, fallbacks=("second", "third")),
        entry("second", one.url),
        entry("third", other.url),
    )
    async with (
        running_gateway(tmp_path, *models) as gateway,
        aiohttp.ClientSession(gateway.url) as http,
        http.post(PATH, json={**BODY, "model": "first", "store": stored, "stream": stream}) as response,
    ):
        status = response.status
    failed = 502 if respond is fails else 404
    falls_back = respond is fails and not stored
    assert (status == 200) == falls_back
    assert status == 200 or status == failed or (respond is fails and status == 500)
    assert len(one.requests) == (2 if falls_back else 1)
    assert len(other.requests) == (1 if falls_back else 0)


async def test_a_fallback_as_long_as_it_was_not_sent(
    tmp_path: Path, engines: tuple[FakeUpstream, FakeUpstream]
) -> None:
    """A refused connection made nobody act."""
    _, other = engines
    first = entry("first", f"http://127.0.0.1:{free_port()}", fallbacks=("second",))
    async with (
        running_gateway(tmp_path, first, entry("second", other.url)) as gateway,
        aiohttp.ClientSession(gateway.url) as http,
        http.post(PATH, json={**BODY, "model": "first", "store": True}) as response,
    ):
        assert response.status == 200
    assert len(other.requests) == 1


@pytest.mark.parametrize("stored", [True, False])
async def test_one_member_of_a_cascade(
    tmp_path: Path, engines: tuple[FakeUpstream, FakeUpstream], stored: bool
) -> None:
    """The first answer is given, though its score is too low, and the header says why."""
    one, other = engines
    one.respond = says_nothing
    cascade = CascadeBackend(
        members=("test/small", "test/large"), threshold=0.9, estimator=CascadeEstimator(type=EstimatorType.CHECKS)
    )
    models = (entry("small", one.url), entry("large", other.url), entry("steps", backend=cascade))
    async with (
        running_gateway(tmp_path, *models) as gateway,
        aiohttp.ClientSession(gateway.url) as http,
        http.post(PATH, json={**BODY, "model": "steps", "store": stored}) as response,
    ):
        assert response.status == 200
        assert ("stopped=sent-once" in response.headers["x-capstan-route"]) == stored
    assert (len(one.requests), len(other.requests)) == ((1, 0) if stored else (1, 1))
