"""The scenarios of the Open Responses compliance suite (2026-04-24) against a whole gateway, in our own words.

The suite is a TypeScript program of github.com/openresponses/openresponses; its checks are that the answer is 200, that
the body and each event hold their schemas, that the response is completed, has output, and a call where one was wanted.
Here the strict client of openresponses-py reads every answer as well: order of events, sequence numbers, [DONE].
`test_open_responses_suite.py` runs the program itself.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openresponses import AsyncOpenResponses

from fakes.openai_upstream import FakeUpstream
from support.dialects import frames, read_responses
from support.gateway import RunningGateway, entry, running_gateway
from support.openresponses import faults_of_event, faults_of_response
from support.openresponses_scenarios import CONTINUED, SCENARIOS, respond
from support.openresponses_suite import LEFT_OUT, PASSES
from support.redis_server import redis_server

Document = dict[str, Any]
DOCS = Path(__file__).parents[3] / "docs/gateway.md"


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    """A gateway in front of a scripted engine."""
    async with FakeUpstream(respond) as engine, running_gateway(tmp_path, entry("m", engine.url)) as running:
        yield running


async def raw(gateway: RunningGateway, request: Document) -> aiohttp.ClientResponse:
    """Send a request as the suite does, and read the answer."""
    async with aiohttp.ClientSession() as client:
        response = await client.post(f"{gateway.url}/v1/responses", json=request)
        await response.read()
        return response


@pytest.mark.parametrize("name", SCENARIOS)
async def test_scenario(gateway: RunningGateway, name: str) -> None:
    """A scenario of the suite ends in a completed response with output, whose every part holds its schema."""
    request = {"model": "m", **SCENARIOS[name]}
    response = await raw(gateway, request)
    body = await response.read()
    assert response.status == 200, body
    if request.get("stream"):
        found = read_responses(body)
        assert [fault for _, event in frames(body) for fault in faults_of_event(event)] == []
    else:
        found = await response.json()
    assert faults_of_response(found) == []
    assert (found["status"], bool(found["output"]), found["completed_at"] is None) == ("completed", True, False)
    wants_call = name.startswith("tool calling")
    assert [item["type"] for item in found["output"]] == ["function_call" if wants_call else "message"]
    if wants_call:
        kinds = [kind for kind, _ in frames(body)] if request.get("stream") else []
        assert "response.function_call_arguments.done" in kinds or not kinds
        assert found["output"][0]["arguments"] == '{"location":"Ulm"}'


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.compatibility(
    table="clients", row="openresponses-py, strict, `/v1/responses`", package="pypi:openresponses-py", does="stream"
)
async def test_strict_client_reads_it(gateway: RunningGateway, name: str) -> None:
    """The package's own strict client takes each scenario, whole and streamed to its [DONE]."""
    request = {"model": "m", **SCENARIOS[name]}
    async with AsyncOpenResponses(base_url=f"{gateway.url}/v1", api_key="unused") as client:
        whole: Any = await client.responses.create({**request, "stream": False})
        assert whole.status == "completed"
        stream: Any = await client.responses.create({**request, "stream": True})
        events = [event async for event in stream]
    assert events[-1].type == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))


@pytest.mark.redis
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", CONTINUED)
async def test_previous_response(tmp_path: Path, name: str, stream: bool) -> None:
    """With a Redis a second request goes on from the first by its id, in nothing but what the schemas say."""
    begins, goes_on, turns = CONTINUED[name]
    with redis_server(tmp_path) as server:
        async with (
            FakeUpstream(respond) as engine,
            running_gateway(tmp_path, entry("m", engine.url), redis_url=server.url, redis_seconds=10.0) as gateway,
        ):
            first = await (await raw(gateway, {"model": "m", **begins})).json()
            second = {"model": "m", "previous_response_id": first["id"], **goes_on}
            response = await raw(gateway, {**second, "stream": stream})
            body = await response.read()
            assert response.status == 200, body
            found = read_responses(body) if stream else await response.json()
            events = frames(body) if stream else []
            assert [fault for _, event in events for fault in faults_of_event(event)] == []
            assert faults_of_response(first) == faults_of_response(found) == []
            assert (found["status"], found["previous_response_id"]) == ("completed", first["id"])
            assert tuple(message["role"] for message in engine.requests[-1].document["messages"]) == turns
            async with aiohttp.ClientSession() as client:
                url = f"{gateway.url}/v1/responses/{found['id']}"
                again = await (await client.get(url)).json()
                deleted = await (await client.delete(url)).json()
                assert (await client.get(url)).status == 404
            assert again == found
            assert deleted == {"id": found["id"], "object": "response", "deleted": True}


async def test_previous_response_is_refused_by_name(gateway: RunningGateway) -> None:
    """Without a Redis no response says `store: true`, and what refers to an earlier one is told why not."""
    first = await (await raw(gateway, {"model": "m", "input": "x", "store": True})).json()
    assert first["store"] is False
    response = await raw(gateway, {"model": "m", "input": "x", "previous_response_id": first["id"]})
    assert response.status == 400
    error = (await response.json())["error"]
    assert (error["param"], error["code"]) == ("previous_response_id", "unsupported_value")


def test_verdicts_are_written_down() -> None:
    """The page says of each scenario that it passes or why it is left out, and which tests of the suite are for it."""
    section = DOCS.read_text().split("### Open Responses")[1].split("\n##")[0]
    found = re.findall(r"^\| ([^|]+) \| ([^|]+) \| (passes|left out)[^|]* \|$", section, re.MULTILINE)
    rows = {name: (tuple(re.findall(r"`([^`]+)`", tests)), verdict) for name, tests, verdict in found}
    assert rows == {
        **{name: (tests, "passes") for name, tests in PASSES.items()},
        **{name: (tests, "left out") for name, tests in LEFT_OUT.items()},
    }


def test_each_test_of_the_suite_is_a_scenario() -> None:
    """What is said to pass is tried here, but for what asks nothing of a server."""
    assert set(PASSES) - {"phase in an output's schema"} == {*SCENARIOS, *CONTINUED}
