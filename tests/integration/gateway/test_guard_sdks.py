"""The official SDKs behind guards: a block is an exception of theirs, or a finish reason of the answer."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from capstan_contract.config import PolicyEntry
from capstan_contract.guards import Action, GuardBody, PiiGuard, Source, guard_entry
from fakes.openai_upstream import FakeUpstream, Received, Wire, answer, completion, stream_frames
from support.gateway import RunningGateway, entry, running_gateway

MAIL = "ada@lovelace.example.org"
MESSAGES: Any = [{"role": "user", "content": f"write to {MAIL}"}]
HELLO: Any = [{"role": "user", "content": "hello"}]


async def tells(received: Received, wire: Wire) -> None:
    """Answer with an address, in pieces where a stream is asked for."""
    model = received.document["model"]
    if not received.document.get("stream"):
        await wire.json(completion(model, f"it is {MAIL}"))
        return
    await wire.stream_head()
    for piece in stream_frames(model, ("it is ", MAIL[:7], MAIL[7:], " or so")):
        await wire.chunk(piece)
    await wire.end()


def policy(*, output: bool = False) -> PolicyEntry:
    """Give a policy that blocks addresses."""
    guard = PiiGuard(name="pii", action=Action.BLOCK, appliesTo=(Source.TEXT if output else Source.USER,))
    return guard_entry("t", "g", GuardBody(output=(guard,)) if output else GuardBody(input=(guard,)))


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine."""
    async with FakeUpstream(answer) as fake:
        yield fake


@pytest.fixture
async def blocking(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway that blocks what is asked."""
    model = entry("chat", upstream.url, policies=("GuardPolicy/t/g",))
    async with running_gateway(tmp_path, model, policies=[policy()]) as gateway:
        yield gateway
    assert upstream.requests == []


@pytest.fixture
async def withholding(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway that blocks what is answered."""
    upstream.respond = tells
    model = entry("chat", upstream.url, policies=("GuardPolicy/t/g",))
    async with running_gateway(tmp_path, model, policies=[policy(output=True)]) as gateway:
        yield gateway


@pytest.mark.parametrize("stream", [False, True])
async def test_openai_raises_bad_request(blocking: RunningGateway, stream: bool) -> None:
    """Of chat completions and responses, streaming or not, and at once: it does not try again."""
    async with blocking.client(max_retries=2) as client:
        with pytest.raises(openai.BadRequestError) as chat:
            await client.chat.completions.create(model="chat", messages=MESSAGES, stream=stream)
        with pytest.raises(openai.BadRequestError) as responses:
            await client.responses.create(model="chat", input=f"write to {MAIL}", stream=stream)
    for raised in (chat.value, responses.value):
        assert (raised.code, raised.type) == ("content_filter", "invalid_request_error")
        assert "`pii`" in raised.message


@pytest.mark.parametrize("stream", [False, True])
async def test_anthropic_raises_bad_request(blocking: RunningGateway, stream: bool) -> None:
    """In the envelope of its own."""
    async with anthropic.AsyncAnthropic(base_url=blocking.url, api_key="unused", max_retries=2) as client:
        with pytest.raises(anthropic.BadRequestError) as raised:
            await client.messages.create(model="chat", messages=MESSAGES, max_tokens=9, stream=stream)
    assert raised.value.body["error"]["type"] == "invalid_request_error"  # type: ignore[index]
    assert "`pii`" in raised.value.message


async def test_openai_reads_the_finish_reason(withholding: RunningGateway) -> None:
    """An answer that was blocked is an answer: without text, ended by a content filter."""
    async with withholding.client() as client:
        chat = await client.chat.completions.create(model="chat", messages=HELLO)
        response = await client.responses.create(model="chat", input="hello")
    assert (chat.choices[0].finish_reason, chat.choices[0].message.content) == ("content_filter", "")
    assert chat.usage is not None
    assert chat.usage.total_tokens > 0
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert (response.incomplete_details.reason, response.output_text) == ("content_filter", "")


async def test_anthropic_reads_the_stop_reason(withholding: RunningGateway) -> None:
    """As a refusal of the model's own."""
    async with anthropic.AsyncAnthropic(base_url=withholding.url, api_key="unused") as client:
        message = await client.messages.create(model="chat", messages=HELLO, max_tokens=9)
    assert (message.stop_reason, message.content) == ("refusal", [])


async def test_openai_reads_the_finish_reason_of_a_stream(withholding: RunningGateway) -> None:
    """A stream that is blocked ends as a filtered answer, with nothing of what was found."""
    async with withholding.client() as client:
        stream: Any = await client.chat.completions.create(model="chat", messages=HELLO, stream=True)
        choices = [choice async for chunk in stream for choice in chunk.choices]
        events = [event async for event in await client.responses.create(model="chat", input="hello", stream=True)]
    assert choices[-1].finish_reason == "content_filter"
    assert "lovelace" not in "".join(choice.delta.content or "" for choice in choices)
    (last,) = [event for event in events if event.type == "response.incomplete"]
    assert last.response.incomplete_details is not None
    assert last.response.incomplete_details.reason == "content_filter"
    assert "lovelace" not in last.response.output_text


async def test_anthropic_reads_the_stop_reason_of_a_stream(withholding: RunningGateway) -> None:
    """As a refusal of the model's own."""
    async with (
        anthropic.AsyncAnthropic(base_url=withholding.url, api_key="unused") as client,
        client.messages.stream(model="chat", messages=HELLO, max_tokens=9) as stream,
    ):
        message = await stream.get_final_message()
    assert message.stop_reason == "refusal"
    assert "lovelace" not in message.model_dump_json()
