"""A model hosted by Anthropic, used with the official `openai` client."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from capstan_contract.config import ExternalBackend, ExternalEndpoint, Provider
from fakes.anthropic_upstream import STOP, begin, end, event, message, text, text_delta
from fakes.openai_upstream import FakeUpstream, Received, Wire
from support.gateway import RunningGateway, entry, running_gateway

TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "description": "Tell it", "parameters": {"type": "object", "properties": {}}},
    }
]
CONVERSATION: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "developer", "content": "Be kind."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "Look"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        ],
    },
    {
        "role": "assistant",
        "content": "Let me see",
        "tool_calls": [
            {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}},
            {"id": "t2", "type": "function", "function": {"name": "weather", "arguments": ""}},
        ],
    },
    {"role": "tool", "tool_call_id": "t1", "content": "sun"},
    {"role": "tool", "tool_call_id": "t2", "content": "rain"},
    {"role": "user", "content": "So?"},
]
TRANSLATED = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "Look"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        ],
    },
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "Let me see"},
            {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Ulm"}},
            {"type": "tool_use", "id": "t2", "name": "weather", "input": {}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "sun"}]},
            {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "rain"}]},
            {"type": "text", "text": "So?"},
        ],
    },
]


async def answer(_: Received, wire: Wire) -> None:
    """Say hello."""
    await wire.json(message([{"type": "text", "text": "Hello"}, {"type": "text", "text": " you"}]))


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """Anthropic's API, as far as these tests need it."""
    async with FakeUpstream(answer) as fake:
        yield fake


@pytest.fixture
async def gateway(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway with one hosted model."""
    endpoint = ExternalEndpoint(name="main", url=upstream.url + "/v1", credentialFile="key")
    backend = ExternalBackend(provider=Provider.ANTHROPIC, endpoints=(endpoint,))
    model = entry("claude", upstreamName="claude-x", backend=backend, maxOutputTokens=500)
    async with running_gateway(tmp_path, model, credentials={"key": "sk-ant"}) as running:
        yield running


async def test_request_is_translated(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """System prompts, images, tool calls and their results arrive in the form of the messages API."""
    async with gateway.client() as client:
        await client.chat.completions.create(
            model="claude", messages=CONVERSATION, tools=TOOLS, tool_choice="required", parallel_tool_calls=False,
            temperature=1.5, stop="END", user="somebody", seed=1, frequency_penalty=0,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
        )  # fmt: skip
    request = upstream.requests[0]
    user = request.document["metadata"]["user_id"]
    assert re.fullmatch("u_[0-9a-f]{32}", user)
    assert request.path == "/v1/messages"
    assert (request.headers["x-api-key"], request.headers["anthropic-version"]) == ("sk-ant", "2023-06-01")
    assert "authorization" not in request.headers
    assert request.document == {
        "model": "claude-x",
        "system": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
        "messages": TRANSLATED,
        "max_tokens": 500,
        "temperature": 1.0,
        "stop_sequences": ["END"],
        "metadata": {"user_id": user},
        "tools": [{"name": "weather", "description": "Tell it", "input_schema": {"type": "object", "properties": {}}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
    }


async def test_answer_is_translated(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """Text, finish reason and usage, with cached tokens among the input."""
    async with gateway.client() as client:
        said = await client.chat.completions.create(
            model="claude", messages=[{"role": "user", "content": "x"}], max_completion_tokens=7
        )
    assert upstream.requests[0].document["max_tokens"] == 7
    assert (said.choices[0].message.content, said.choices[0].finish_reason) == ("Hello you", "stop")
    assert said.model == "claude"
    assert said.usage is not None
    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (17, 1)
    assert said.usage.prompt_tokens_details.cached_tokens == 4
    await gateway.settled()
    assert gateway.metric("llm_tokens_total", model="claude", direction="input") == 17


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("max_tokens", "length"), ("refusal", "content_filter"), ("stop_sequence", "stop"), ("tool_use", "tool_calls")],
)
async def test_tool_call_and_finish_reasons(
    gateway: RunningGateway, upstream: FakeUpstream, theirs: str, ours: str
) -> None:
    """A tool call is one of OpenAI's, arguments as a string; each stop reason has its counterpart."""

    async def call(_: Received, wire: Wire) -> None:
        thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
        use = {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Ulm"}}
        await wire.json(message([thinking, use], theirs))

    upstream.respond = call
    async with gateway.client() as client:
        said = await client.chat.completions.create(
            model="claude", messages=[{"role": "user", "content": "x"}], tools=TOOLS
        )
    got = said.choices[0].message
    assert said.choices[0].finish_reason == ours
    assert got.content is None
    assert got.tool_calls[0].function.name == "weather"
    assert json.loads(got.tool_calls[0].function.arguments) == {"city": "Ulm"}


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_stream_is_translated(gateway: RunningGateway, upstream: FakeUpstream, asked: bool, size: int) -> None:
    """Text and tool calls arrive as deltas, however the bytes are cut; usage only when asked for."""

    async def stream(_: Received, wire: Wire) -> None:
        use = {"type": "tool_use", "id": "t1", "name": "weather", "input": {}}
        empty = text("")
        pieces = [
            begin(), event("ping"), event("content_block_start", index=0, content_block=empty),
            text_delta("grüß "), text_delta("dich"),
            event("content_block_stop", index=0), event("content_block_start", index=1, content_block=use),
            *(
                event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": part})
                for part in ('{"ci', 'ty":1}')
            ),
            event("content_block_stop", index=1), end("tool_use"),
        ]  # fmt: skip
        data = b"".join(pieces)
        await wire.stream_head()
        for start in range(0, len(data), size):
            await wire.chunk(data[start : start + size])
        await wire.end()

    upstream.respond = stream
    options = {"stream_options": {"include_usage": True}} if asked else {}
    async with gateway.client() as client:
        said = await client.chat.completions.create(
            model="claude", messages=[{"role": "user", "content": "x"}], stream=True, **options
        )
        chunks = [chunk async for chunk in said]
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    calls = [delta.tool_calls[0] for delta in deltas if delta.tool_calls]
    assert "".join(delta.content or "" for delta in deltas) == "grüß dich"
    assert (calls[0].id, calls[0].function.name, {call.index for call in calls}) == ("t1", "weather", {0})
    assert "".join(call.function.arguments for call in calls) == '{"city":1}'
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "tool_calls"
    assert {(chunk.id, chunk.model) for chunk in chunks} == {("msg_1", "claude")}
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == ([9] if asked else [])
    await gateway.settled()
    assert gateway.metric("llm_tokens_total", model="claude", direction="output") == 9


@pytest.mark.parametrize("ending", [b"", STOP, event("error", error={"type": "overloaded_error", "message": "busy"})])
async def test_broken_stream_is_an_error(gateway: RunningGateway, upstream: FakeUpstream, ending: bytes) -> None:
    """A stream that ends without a stop reason, or with an error event, raises."""

    async def stream(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(begin() + text_delta("Hel") + ending)
        await wire.end()

    upstream.respond = stream

    async def read() -> None:
        async with gateway.client() as client:
            said = await client.chat.completions.create(
                model="claude", messages=[{"role": "user", "content": "x"}], stream=True
            )
            async for _ in said:
                pass

    with pytest.raises(openai.APIError):
        await read()


@pytest.mark.parametrize(
    ("status", "body", "raised", "code"),
    [
        (400, {"type": "invalid_request_error", "message": "no"}, openai.BadRequestError, None),
        (
            400,
            {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8 maximum"},
            openai.BadRequestError,
            "context_length_exceeded",
        ),
        (401, {"type": "authentication_error", "message": "sk-ant"}, openai.InternalServerError, "upstream_error"),
        (429, {"type": "rate_limit_error", "message": "slow"}, openai.RateLimitError, "rate_limit_exceeded"),
        (529, {"type": "overloaded_error", "message": "busy"}, openai.InternalServerError, "overloaded"),
    ],
)
async def test_errors_are_translated(
    gateway: RunningGateway, upstream: FakeUpstream, status: int, body: dict[str, str], raised: type, code: str | None
) -> None:
    """Anthropic's errors raise the class that OpenAI's own would; a refused key is the gateway's problem."""

    async def refuse(_: Received, wire: Wire) -> None:
        await wire.json({"type": "error", "error": body}, status)

    upstream.respond = refuse
    async with gateway.client() as client:
        with pytest.raises(raised) as caught:
            await client.chat.completions.create(model="claude", messages=[{"role": "user", "content": "x"}])
    assert caught.value.code == code
    assert "sk-ant" not in str(caught.value)


@pytest.mark.parametrize(
    ("extra", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "retrieval"}]}, "tools.0.type"),
        ({"tools": 7}, "tools"),
        ({"tools": TOOLS, "tool_choice": ["x"]}, "tool_choice"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages.0.role"),
    ],
)
async def test_what_has_no_counterpart_is_refused(
    gateway: RunningGateway, upstream: FakeUpstream, extra: dict[str, Any], param: str
) -> None:
    """Nothing that would change the answer is dropped silently: the error names the field."""
    async with gateway.client() as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(
                model="claude", messages=[{"role": "user", "content": "x"}], extra_body=extra
            )
    assert caught.value.param == param
    assert upstream.requests == []
