"""What the official `openai` client makes of /v1/responses: of an engine, of OpenAI, and of Anthropic."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from capstan_contract.config import Provider
from fakes.anthropic_upstream import anthropic_answer
from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, answer, answer_at_limit, completion, delta, frame
from support.gateway import RunningGateway, entry, hosted_by, running_gateway

CLIENT = {"table": "clients", "row": "openai (Python), Responses", "package": "pypi:openai"}
"""This client's row in docs/compatibility.md."""
ASK: dict[str, Any] = {"model": "chat", "input": "hi"}
TOOLS: list[Any] = [
    {
        "type": "function", "name": "weather", "description": "Tells it.", "strict": True,
        "parameters": {"type": "object", "properties": {}, "additionalProperties": False, "required": []},
    }
]  # fmt: skip


@pytest.fixture
async def gateway(tmp_path: Path, engine: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway with a chat model, and the same upstream as if it were OpenAI's and as any hosted API."""

    models = (
        entry("chat", engine.url, upstreamName="engine-name"),
        entry("gpt", upstreamName="gpt-x", backend=hosted_by(Provider.OPENAI, engine.url, key=None)),
        entry("claude", upstreamName="claude-x", backend=hosted_by(Provider.ANTHROPIC, engine.url, key=None)),
    )
    async with running_gateway(tmp_path, *models) as running:
        yield running


@pytest.fixture
async def client(gateway: RunningGateway) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client, without retries."""
    async with gateway.client() as made:
        yield made


async def read(client: openai.AsyncOpenAI, request: dict[str, Any]) -> list[Any]:
    """Give the events of a stream."""
    return [happened async for happened in await client.responses.create(**request, stream=True)]


@pytest.mark.compatibility(**CLIENT, does="chat")
async def test_response(gateway: RunningGateway, client: openai.AsyncOpenAI, engine: FakeUpstream) -> None:
    """An engine's answer is a response under the served name, with the request's fields, usage and an id."""
    said = await client.responses.create(**ASK, instructions="Be brief.", max_output_tokens=50, metadata={"a": "b"})
    assert said.output_text == "Hello there"
    assert (said.model, said.status, said.store, said.previous_response_id) == ("chat", "completed", False, None)
    assert (said.instructions, said.max_output_tokens, said.metadata) == ("Be brief.", 50, {"a": "b"})
    assert said.usage is not None
    assert (said.usage.input_tokens, said.usage.output_tokens, said.usage.total_tokens) == (5, 2, 7)
    assert said.id.startswith("resp_")
    assert engine.requests[0].path == "/v1/chat/completions"
    assert engine.requests[0].document == {
        "model": "engine-name", "max_tokens": 50,
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
    }  # fmt: skip
    await gateway.settled()
    assert gateway.metric("llm_tokens_total", model="chat", direction="input") == 5


@pytest.mark.compatibility(**CLIENT, does="stream")
async def test_stream(gateway: RunningGateway, client: openai.AsyncOpenAI) -> None:
    """The client's own accumulation of the events ends in a completed response."""
    async with client.responses.stream(**ASK) as stream:
        events = [happened async for happened in stream]
        said = await stream.get_final_response()
    assert said.output_text == "Hello!"
    assert [happened.sequence_number for happened in events] == list(range(len(events)))
    assert [happened.type for happened in events] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        *["response.output_text.delta"] * 3, "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.completed",
    ]  # fmt: skip
    assert said.usage is not None
    assert said.usage.output_tokens == 3
    await gateway.settled()
    assert gateway.metric("llm_tokens_total", model="chat", direction="output") == 3


@pytest.mark.compatibility(**CLIENT, does="tools")
async def test_tools_both_ways(client: openai.AsyncOpenAI, engine: FakeUpstream) -> None:
    """A function call, whole and streamed, can be answered with its output in the next request."""
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}

    async def call_it(request: Received, wire: Wire) -> None:
        if not request.document.get("stream"):
            choice = {"index": 0, "finish_reason": "tool_calls", "message": {"content": None, "tool_calls": [call]}}
            await wire.json(completion("engine-name", choices=[choice]))
            return
        piece = {"index": 0, "delta": {"tool_calls": [{**call, "index": 0}]}, "finish_reason": "tool_calls"}
        await wire.stream_head()
        await wire.chunk(frame({**delta("engine-name", None), "choices": [piece]}) + DONE)
        await wire.end()

    engine.respond = call_it
    whole = await client.responses.create(**ASK, tools=TOOLS, tool_choice="required", parallel_tool_calls=False)
    async with client.responses.stream(**ASK, tools=TOOLS) as stream:
        streamed = await stream.get_final_response()
    for said in (whole, streamed):
        assert [(item.type, item.call_id, item.name, item.arguments) for item in said.output] == [
            ("function_call", "call_1", "weather", "{}")
        ]
    assert engine.requests[0].document["tool_choice"] == "required"
    assert engine.requests[0].document["parallel_tool_calls"] is False
    turns = [{"role": "user", "content": "hi"}, *(item.to_dict() for item in whole.output),
             {"type": "function_call_output", "call_id": "call_1", "output": "sun"}]  # fmt: skip
    await client.responses.create(**{**ASK, "input": turns}, tools=TOOLS)
    asked = engine.requests[-1].document["messages"]
    assert asked[1]["tool_calls"] == [call]
    assert asked[2] == {"role": "tool", "tool_call_id": "call_1", "content": "sun"}


class City(BaseModel):
    """What a structured answer holds."""

    name: str


@pytest.mark.compatibility(**CLIENT, does="structured output")
async def test_structured_output(client: openai.AsyncOpenAI, engine: FakeUpstream) -> None:
    """The schema of `text.format` reaches the engine as a response format, and the client parses the answer."""

    async def as_json(_: Received, wire: Wire) -> None:
        await wire.json(completion("engine-name", '{"name": "Ulm"}'))

    engine.respond = as_json
    said = await client.responses.parse(**ASK, text_format=City)
    assert said.output_parsed == City(name="Ulm")
    wanted = engine.requests[0].document["response_format"]
    assert (wanted["type"], wanted["json_schema"]["name"]) == ("json_schema", "City")
    assert wanted["json_schema"]["strict"] is True


async def test_cut_answer_is_incomplete(client: openai.AsyncOpenAI, engine: FakeUpstream) -> None:
    """An answer that reached its limit says so, whole and streamed."""

    engine.respond = answer_at_limit
    said = await client.responses.create(**ASK)
    events = await read(client, ASK)
    assert events[-1].type == "response.incomplete"
    for response in (said, events[-1].response):
        assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
        assert response.output[0].status == "incomplete"


@pytest.mark.compatibility(**CLIENT, does="errors")
@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"store": "yes"}, "store"),
        ({"background": True}, "background"),
        ({"truncation": "middle"}, "truncation"),
        ({"include": "message.output_text.logprobs"}, "include"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"tools": [{"type": "teleport"}]}, "tools.0.type"),
        ({"tools": TOOLS, "tool_choice": {"type": "file_search"}}, "tool_choice.type"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "name": "nobody"}}, "tool_choice"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0.type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input.0.content.0"),
        ({"input": []}, "input"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"model": "nobody"}, "model"),
    ],
)
async def test_refusals(client: openai.AsyncOpenAI, engine: FakeUpstream, change: dict[str, Any], param: str) -> None:
    """What needs something stored, or cannot be translated, is refused with its field; the engine hears nothing."""
    with pytest.raises(openai.APIStatusError) as caught:
        await client.responses.create(**{**ASK, **change})
    assert caught.value.param == param
    assert caught.value.status_code == (404 if param == "model" else 400)
    assert engine.requests == []


async def test_defaults_that_mean_nothing_are_tolerated(client: openai.AsyncOpenAI) -> None:
    """Clients that spell the defaults out are served."""
    said = await client.responses.create(
        **ASK, store=True, background=False, truncation="auto", include=["reasoning.encrypted_content"],
        service_tier="auto", reasoning={"effort": "low", "summary": "auto"},
    )  # fmt: skip
    assert (said.output_text, said.store, said.truncation) == ("Hello there", False, "auto")


@pytest.mark.parametrize("how", ["reset", "clean end", "engine error"])
async def test_stream_that_breaks_fails(client: openai.AsyncOpenAI, engine: FakeUpstream, how: str) -> None:
    """However a stream breaks, its last event says that the response failed, with the next sequence number."""

    async def break_off(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(frame(delta("engine-name", "Hel")))
        if how == "reset":
            await asyncio.sleep(0.02)
            wire.reset()
            return
        if how == "engine error":
            await wire.chunk(frame({"error": {"message": "died", "type": "InternalServerError", "code": 500}}) + DONE)
        await wire.end()

    engine.respond = break_off
    events = await read(client, ASK)
    assert [happened.sequence_number for happened in events] == list(range(6))
    assert events[-1].type == "response.failed"
    assert (events[-1].response.status, events[-1].response.error.code) == ("failed", "server_error")


@pytest.mark.parametrize(("status", "raised"), [(400, openai.BadRequestError), (429, openai.RateLimitError)])
async def test_errors_of_the_engine(
    client: openai.AsyncOpenAI, engine: FakeUpstream, status: int, raised: type
) -> None:
    """Before the first event an engine's error is an HTTP error, in OpenAI's envelope."""

    async def refuse(_: Received, wire: Wire) -> None:
        await wire.json({"error": {"message": "no", "type": "SomeError", "code": status}}, status)

    engine.respond = refuse
    for stream in (False, True):
        with pytest.raises(raised):
            await client.responses.create(**ASK, stream=stream)


RESPONSE: dict[str, Any] = {
    "id": "resp_9", "object": "response", "created_at": 1, "model": "gpt-x", "status": "completed", "output": [],
    "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "error": None,
    "usage": {
        "input_tokens": 11, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 14,
    },
}  # fmt: skip


def happened(number: int, kind: str, **fields: Any) -> bytes:
    """Give one event of OpenAI's."""
    return b"event: %b\n" % kind.encode() + frame({"type": kind, "sequence_number": number, **fields})


CREATED = happened(0, "response.created", response={**RESPONSE, "status": "in_progress", "usage": None})
DELTA = happened(
    1, "response.output_text.delta", item_id="m", output_index=0, content_index=0, delta="Hel", logprobs=[]
)


@pytest.mark.parametrize("stream", [False, True])
async def test_openai_gets_the_request_untouched(
    gateway: RunningGateway, client: openai.AsyncOpenAI, engine: FakeUpstream, stream: bool
) -> None:
    """What OpenAI stores or does with tools of its own is between the client and OpenAI; usage is counted."""

    async def respond(request: Received, wire: Wire) -> None:
        if not request.document.get("stream"):
            await wire.json(RESPONSE)
            return
        await wire.stream_head()
        await wire.chunk(CREATED + DELTA + happened(2, "response.completed", response=RESPONSE))
        await wire.end()

    engine.respond = respond
    request = {
        "model": "gpt", "input": "hi", "previous_response_id": "resp_1", "store": True,
        "tools": [{"type": "web_search"}],
    }  # fmt: skip
    if stream:
        said = (await read(client, request))[-1].response
    else:
        said = await client.responses.create(**request)
    assert (said.id, said.model) == ("resp_9", "gpt")
    sent = engine.requests[0]
    assert sent.path == "/v1/responses"
    assert {key: value for key, value in sent.document.items() if key != "stream"} == {**request, "model": "gpt-x"}
    await gateway.settled()
    assert gateway.metric("llm_tokens_total", model="gpt", direction="input") == 11
    assert gateway.metric("llm_tokens_total", model="gpt", direction="output") == 3


async def test_openai_stream_that_breaks_fails(client: openai.AsyncOpenAI, engine: FakeUpstream) -> None:
    """A stream of OpenAI's that ends early is ended by the gateway, in the same form."""

    async def break_off(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(CREATED + DELTA)
        await wire.end()

    engine.respond = break_off
    events = await read(client, {**ASK, "model": "gpt"})
    assert [item.type for item in events] == ["response.created", "response.output_text.delta", "response.failed"]
    assert (events[-1].sequence_number, events[-1].response.id) == (2, "resp_9")


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropic_answers_too(client: openai.AsyncOpenAI, engine: FakeUpstream, stream: bool) -> None:
    """A response of a model hosted by Anthropic went through both translations."""
    engine.respond = anthropic_answer
    request = {**ASK, "model": "claude", "instructions": "Be brief."}
    said = (await read(client, request))[-1].response if stream else await client.responses.create(**request)
    assert (said.output_text, said.model, said.usage.input_tokens) == ("Hello there", "claude", 17)
    assert engine.requests[0].path == "/v1/messages"
    assert engine.requests[0].document["system"] == [{"type": "text", "text": "Be brief."}]


async def test_engine_without_usage(client: openai.AsyncOpenAI, engine: FakeUpstream) -> None:
    """What an engine does not count is estimated: agents reckon with it, and break where it is missing."""

    async def silent(request: Received, wire: Wire) -> None:
        if request.document.get("stream"):
            await wire.stream_head()
            await wire.chunk(frame(delta("engine-name", "Hi", "stop")) + DONE)
            await wire.end()
        else:
            await answer(request, wire)

    engine.respond = silent
    events = await read(client, ASK)
    assert events[-1].type == "response.completed"
    usage = events[-1].response.usage
    assert usage.input_tokens > 0
    assert (usage.output_tokens, usage.total_tokens) == (1, usage.input_tokens + 1)
