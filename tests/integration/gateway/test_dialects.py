"""The simulator behind /v1/messages and /v1/responses, with the official clients."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from support.gateway import RunningGateway, entry, running_gateway
from support.worker import Worker, simulator

ASK: dict[str, Any] = {"model": "chat", "max_tokens": 12, "messages": [{"role": "user", "content": "Say something."}]}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.fixture(scope="module")
def engine() -> Iterator[Worker]:
    """A simulator."""
    with simulator("--answer-tokens", "8", "--seed", "1", model="engine-name") as started:
        yield started


@pytest.fixture
async def gateway(tmp_path: Path, engine: Worker) -> AsyncIterator[RunningGateway]:
    """A gateway before it."""
    async with running_gateway(tmp_path, entry("chat", engine.url, upstreamName="engine-name")) as running:
        yield running


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """Anthropic's client."""
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key="unused", max_retries=0) as made:
        yield made


async def test_message_and_stream_are_one(gateway: RunningGateway, client: anthropic.AsyncAnthropic) -> None:
    """The simulator gives equal answers to equal requests, so a stream must add up to the whole message."""
    whole = await client.messages.create(**ASK)
    async with client.messages.stream(**ASK) as stream:
        streamed = await stream.get_final_message()
    assert whole.content[0].text == streamed.content[0].text != ""
    assert (whole.stop_reason, whole.stop_sequence) == (streamed.stop_reason, streamed.stop_sequence)
    assert whole.usage.output_tokens == streamed.usage.output_tokens > 0
    # What the first request left in the prefix cache is told apart from what was computed anew.
    assert _input(whole.usage) == _input(streamed.usage) > 0
    await gateway.settled()
    counted = gateway.metric("llm_tokens_total", model="chat", direction="output")
    assert counted == whole.usage.output_tokens * 2


def _input(usage: Any) -> int:
    return int(usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens)


async def test_forced_tool(client: anthropic.AsyncAnthropic) -> None:
    """A tool that must be called is called, with arguments that fit its schema, whole and streamed."""
    tools: Any = [{"name": "weather", "input_schema": SCHEMA}]
    choice: Any = {"type": "tool", "name": "weather"}
    whole = await client.messages.create(**{**ASK, "max_tokens": 200}, tools=tools, tool_choice=choice)
    async with client.messages.stream(**{**ASK, "max_tokens": 200}, tools=tools, tool_choice=choice) as stream:
        streamed = await stream.get_final_message()
    for said in (whole, streamed):
        assert (said.stop_reason, said.content[0].name) == ("tool_use", "weather")
        assert isinstance(said.content[0].input["city"], str)
    assert whole.content[0].input == streamed.content[0].input


async def test_response_and_stream_are_one(gateway: RunningGateway) -> None:
    """The same for responses."""
    ask: Any = {"model": "chat", "input": "Say something.", "max_output_tokens": 12}
    async with gateway.client() as client:
        whole = await client.responses.create(**ask)
        async with client.responses.stream(**ask) as stream:
            streamed = [event async for event in stream][-1].response
    assert whole.output_text == streamed.output_text != ""
    assert (whole.status, whole.usage.output_tokens) == (streamed.status, streamed.usage.output_tokens)


@pytest.fixture
async def dying(engine: Worker) -> AsyncIterator[None]:
    """The engine's connections are reset after three chunks."""
    await asyncio.to_thread(engine.turn, faults=["die"])
    yield
    await asyncio.to_thread(engine.turn, faults=[])


@pytest.mark.usefixtures("dying")
async def test_engine_that_dies_in_the_middle(gateway: RunningGateway, client: anthropic.AsyncAnthropic) -> None:
    """A connection that breaks in the middle of a stream ends in the error event of either dialect."""
    async with client.messages.stream(**ASK) as stream:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await stream.get_final_message()
    assert caught.value.body["error"]["type"] == "api_error"
    async with gateway.client() as other:
        events = [event async for event in await other.responses.create(model="chat", input="x", stream=True)]
    assert events[-1].type == "response.failed"
    assert events[-1].response.error.code == "server_error"
