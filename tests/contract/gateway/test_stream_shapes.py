"""Streams of every shape through the official clients: several choices, calls of tools, reasoning, split characters."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, completion, delta, frame, stream_frames
from support.gateway import RunningGateway, entry, running_gateway

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "strict": True, "parameters": {"type": "object", "properties": {}}}}
    for name in ("weather", "clock")
]
UMLAUTS = ("grüß ", "dich, ", "日本 ", "🙂")


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine, that knows the model by another name."""
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def gateway(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway that renames the model, so that every chunk is looked at."""
    async with running_gateway(tmp_path, entry("chat", upstream.url, upstreamName="engine-name")) as running:
        yield running


def piece(index: int, finish: str | None = None, **content: Any) -> bytes:
    """Give the frame of one choice's next piece."""
    choice = {"index": index, "delta": content, "finish_reason": finish}
    return frame({**delta("engine-name", None), "choices": [choice]})


def streams(*frames: bytes, bytewise: bool = False) -> Any:
    """Make an engine that streams these frames, if asked for byte by byte."""

    async def respond(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        data = b"".join(frames)
        for position in range(len(data)) if bytewise else ():
            await wire.chunk(data[position : position + 1])
        if not bytewise:
            await wire.chunk(data)
        await wire.end()

    return respond


@pytest.mark.parametrize("bytewise", [False, True])
async def test_several_choices(gateway: RunningGateway, upstream: FakeUpstream, bytewise: bool) -> None:
    """With `n` each choice's pieces stay its own, in order, also when one ends before the other."""
    upstream.respond = streams(
        piece(0, role="assistant", content="a"), piece(1, role="assistant", content="x"), piece(1, content="y"),
        piece(0, content="b"), piece(1, "length"), piece(0, content="c"), piece(0, "stop"), DONE,
        bytewise=bytewise,
    )  # fmt: skip
    texts, ends = {0: "", 1: ""}, {}
    async with gateway.client() as client:
        async for chunk in await client.chat.completions.create(model="chat", messages=MESSAGES, n=2, stream=True):
            assert chunk.model == "chat"
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
                if choice.finish_reason:
                    ends[choice.index] = choice.finish_reason
    assert (texts, ends) == ({0: "abc", 1: "xy"}, {0: "stop", 1: "length"})
    assert upstream.requests[0].document["n"] == 2


async def test_several_choices_whole(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """With `n` a whole answer has every choice, under the served name."""
    choices = [
        {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", "logprobs": None}
        for index, text in enumerate(("one", "two", "three"))
    ]

    async def respond(_: Received, wire: Wire) -> None:
        await wire.json(completion("engine-name", choices=choices))

    upstream.respond = respond
    async with gateway.client() as client:
        said = await client.chat.completions.create(model="chat", messages=MESSAGES, n=3)
    assert [(choice.index, choice.message.content) for choice in said.choices] == [(0, "one"), (1, "two"), (2, "three")]
    assert said.model == "chat"


@pytest.mark.parametrize("bytewise", [False, True])
async def test_calls_of_tools(gateway: RunningGateway, upstream: FakeUpstream, bytewise: bool) -> None:
    """The client's own accumulation puts two calls together whose arguments came in pieces."""

    def part(index: int, arguments: str, **fields: Any) -> dict[str, Any]:
        name = fields.pop("name", None)
        function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
        return {"index": index, "function": function, **fields}

    upstream.respond = streams(
        piece(0, role="assistant", tool_calls=[part(0, "", id="call_1", type="function", name="weather")]),
        piece(0, tool_calls=[part(0, '{"city": "Mün')]),
        piece(0, tool_calls=[part(0, 'chen"}')]),
        piece(0, tool_calls=[part(1, '{"zone"', id="call_2", type="function", name="clock")]),
        piece(0, tool_calls=[part(1, ': "CET"}')]),
        piece(0, "tool_calls"),
        DONE,
        bytewise=bytewise,
    )
    async with (
        gateway.client() as client,
        client.chat.completions.stream(model="chat", messages=MESSAGES, tools=TOOLS) as stream,
    ):
        said = await stream.get_final_completion()
    choice = said.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls] == [
        ("call_1", "weather", '{"city": "München"}'),
        ("call_2", "clock", '{"zone": "CET"}'),
    ]
    assert upstream.requests[0].document["tools"] == TOOLS


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
async def test_reasoning_passes(gateway: RunningGateway, upstream: FakeUpstream, name: str) -> None:
    """What an engine says besides OpenAI's fields reaches the client, under the engine's name for it."""
    upstream.respond = streams(piece(0, role="assistant", **{name: "Hm."}), piece(0, "stop", content="Yes."), DONE)
    async with gateway.client() as client:
        stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        deltas = [chunk.choices[0].delta async for chunk in stream]
    assert [getattr(found, name, None) for found in deltas] == ["Hm.", None]
    assert [found.content for found in deltas] == [None, "Yes."]


async def test_usage_is_null_but_in_the_last_chunk(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """For a client that asks for usage, the last chunk alone has it, without choices, and [DONE] comes once."""
    frames = [frame({**delta("engine-name", word), "usage": None}) for word in ("a", "b")]
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    last = frame({**delta("engine-name", None), "choices": [], "usage": usage})
    upstream.respond = streams(*frames, piece(0, "stop"), last, DONE)
    options = {"include_usage": True}
    async with gateway.client() as client:
        response = client.chat.completions.with_streaming_response.create(
            model="chat", messages=MESSAGES, stream=True, stream_options=options
        )
        async with response as raw:
            text = await raw.text()
        stream = await client.chat.completions.create(
            model="chat", messages=MESSAGES, stream=True, stream_options=options
        )
        chunks = [chunk async for chunk in stream]
    assert text.count("data: [DONE]\n\n") == 1
    assert text.endswith("data: [DONE]\n\n")
    assert [chunk.usage is not None for chunk in chunks] == [False, False, False, True]
    assert [len(chunk.choices) for chunk in chunks] == [1, 1, 1, 0]


async def test_characters_split_between_segments_in_messages(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """Translated for Anthropic's client, text is whole although every byte came by itself."""
    upstream.respond = streams(*stream_frames("engine-name", UMLAUTS), bytewise=True)
    async with (
        anthropic.AsyncAnthropic(base_url=gateway.url, api_key="unused", max_retries=0) as client,
        client.messages.stream(model="chat", max_tokens=9, messages=MESSAGES) as stream,
    ):
        pieces = [text async for text in stream.text_stream]
    assert tuple(pieces) == UMLAUTS


async def test_characters_split_between_segments_in_responses(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """The same for a response of OpenAI's other API."""
    upstream.respond = streams(*stream_frames("engine-name", UMLAUTS), bytewise=True)
    async with gateway.client() as client, client.responses.stream(model="chat", input="hi") as stream:
        pieces = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        assert (await stream.get_final_response()).output_text == "".join(UMLAUTS)
    assert tuple(pieces) == UMLAUTS
