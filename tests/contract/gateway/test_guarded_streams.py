"""Streams with guards on them, as the official clients see them: what is blocked, what is redacted, what failed."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import anthropic
import openai
import pytest

from capstan_contract.guards import ANSWERED, Action, FormatGuard, GuardBody, PiiGuard, Source, guard_entry
from capstan_contract.limits import Mode
from capstan_gateway.guards import build
from capstan_gateway.guards.pii.detector import PiiDetector
from capstan_gateway.guards.port import Cost, Finding, Scan
from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, delta, frame, usage_chunk
from support.gateway import RunningGateway, entry, running_gateway
from support.wait import eventually

MAIL = "ada@lovelace.example.org"
MOST = 60
MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "send", "parameters": {"type": "object", "properties": {}}}}
]
WORDS = "It is known to everybody in the whole wide world, and to the others as well, that you can write to "
POLICY = "GuardPolicy/t/g"


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """An engine that says what a test wants."""
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
def body() -> GuardBody:
    """The policy: a test gives another one."""
    return output(action=Action.BLOCK)


@pytest.fixture
async def gateway(tmp_path: Path, upstream: FakeUpstream, body: GuardBody) -> AsyncIterator[RunningGateway]:
    """A gateway with the policy."""
    guarded = entry("chat", upstream.url, policies=(POLICY,))
    async with running_gateway(tmp_path, guarded, policies=[guard_entry("t", "g", body)]) as running:
        yield running


@pytest.fixture
def form(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard of forms that knows how long an answer may be."""

    class Short:
        cost = Cost.CHEAP

        def scan(self, text: str, source: Source) -> Scan:
            return Scan((Finding("length", 0, len(text)),) if len(text) > MOST else ())

    monkeypatch.setitem(cast(Any, build.BUILDERS), FormatGuard, lambda _: Short())


def output(**fields: Any) -> GuardBody:
    """Give a policy with one guard of what models say."""
    return GuardBody(output=(PiiGuard(name="pii", appliesTo=ANSWERED, **{"timeoutMillis": 60_000, **fields}),))


def piece(index: int = 0, finish: str | None = None, **content: Any) -> bytes:
    """Give the frame of one choice's next piece."""
    choice = {"index": index, "delta": content, "finish_reason": finish}
    return frame({**delta("chat", None), "choices": [choice]})


def says(
    text: str, *, field: str = "content", size: int = 3, ends: bool = True, role: bool = True
) -> Callable[[Received, Wire], Any]:
    """Make an engine that says this in small pieces, and goes on for ever unless it `ends`."""

    async def respond(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        if role:
            await wire.chunk(piece(role="assistant", content=""))
        for at in range(0, len(text), size):
            said = text[at : at + size]
            call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "send", "arguments": said}}
            if at:
                call = {"index": 0, "function": {"arguments": said}}
            await wire.chunk(piece(**({"tool_calls": [call]} if field == "tool_calls" else {field: said})))
        if not ends:
            await asyncio.Event().wait()
        await wire.chunk(
            piece(finish="tool_calls" if field == "tool_calls" else "stop") + frame(usage_chunk("chat")) + DONE
        )
        await wire.end()

    return respond


def clients(gateway: RunningGateway) -> tuple[openai.AsyncOpenAI, anthropic.AsyncAnthropic]:
    """Give both."""
    return (openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="unused", max_retries=0),
            anthropic.AsyncAnthropic(base_url=gateway.url, api_key="unused", max_retries=0))  # fmt: skip


async def gather(stream: Any, got: list[Any]) -> None:
    """Take all events of a stream."""
    async for event in stream:
        got.append(event)


async def chat(gateway: RunningGateway, **more: Any) -> list[Any]:
    """Stream a chat with OpenAI's client."""
    async with clients(gateway)[0] as client:
        stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True, **more)
        return [chunk async for chunk in stream]


def said_in(chunks: list[Any]) -> str:
    """Give the text of chunks."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@pytest.mark.parametrize("text", [f"{MAIL} is the one. ", f"{WORDS * 3}{MAIL}, or so. "])
async def test_a_block_ends_a_chat(gateway: RunningGateway, upstream: FakeUpstream, text: str) -> None:
    """200, what was let pass, `content_filter`, and usage; the engine is stopped, and the client sees no error."""
    upstream.respond = says(text + WORDS * 3, ends=False)
    chunks = await chat(gateway, stream_options={"include_usage": True})
    said = said_in(chunks)
    assert text.startswith(said)
    assert "ada" not in said
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "content_filter"
    assert chunks[-1].usage.completion_tokens > 0
    await eventually(lambda: upstream.gone == 1, what="the end of the engine's work")
    await gateway.settled()
    assert gateway.metric("llm_guardrail_blocks_total", guard_type="PII", stage="output") == 1


@pytest.mark.parametrize("text", [f"{MAIL} is the one. ", f"{WORDS * 3}{MAIL}, or so. "])
async def test_a_block_ends_a_message(gateway: RunningGateway, upstream: FakeUpstream, text: str) -> None:
    """Anthropic's client sees the stop reason `refusal`, and a message that is whole."""
    upstream.respond = says(text + WORDS * 3, ends=False)
    _, client = clients(gateway)
    async with client, client.messages.stream(model="chat", max_tokens=99, messages=MESSAGES) as stream:
        message = await stream.get_final_message()
    assert message.stop_reason == "refusal"
    assert text.startswith("".join(block.text for block in message.content if block.type == "text"))
    assert message.usage.output_tokens > 0


@pytest.mark.parametrize("text", [f"{MAIL} is the one. ", f"{WORDS * 3}{MAIL}, or so. "])
async def test_a_block_ends_a_response(gateway: RunningGateway, upstream: FakeUpstream, text: str) -> None:
    """A response is incomplete, for the reason `content_filter`."""
    upstream.respond = says(text + WORDS * 3, ends=False)
    async with clients(gateway)[0] as client:
        events = [event async for event in await client.responses.create(model="chat", input="hi", stream=True)]
    assert events[-1].type == "response.incomplete"
    response = events[-1].response
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "content_filter")
    assert text.startswith(response.output_text)


@pytest.mark.parametrize("where", ["chat", "messages", "responses"])
async def test_a_block_amid_a_call(gateway: RunningGateway, upstream: FakeUpstream, where: str) -> None:
    """A call whose arguments are blocked is none that anybody would make, in any dialect."""
    upstream.respond = says(
        f'{{"text": "{WORDS * 3}", "to": "{MAIL}", "more": "{WORDS}"}}', field="tool_calls", ends=False
    )
    openai_client, anthropic_client = clients(gateway)
    async with openai_client, anthropic_client:
        if where == "chat":
            async with openai_client.chat.completions.stream(model="chat", messages=MESSAGES, tools=TOOLS) as stream:
                with pytest.raises(openai.ContentFilterFinishReasonError):
                    await stream.get_final_completion()
        elif where == "messages":
            tools: Any = [{"name": "send", "input_schema": {"type": "object"}}]
            async with anthropic_client.messages.stream(
                model="chat", max_tokens=99, messages=MESSAGES, tools=tools
            ) as events:
                message = await events.get_final_message()
            assert message.stop_reason == "refusal"
            assert MAIL not in message.model_dump_json()
        else:
            flat: Any = [{"type": "function", **TOOLS[0]["function"]}]
            stream_of = await openai_client.responses.create(model="chat", input="hi", tools=flat, stream=True)
            last = [event async for event in stream_of][-1]
            assert (last.type, MAIL in last.model_dump_json()) == ("response.incomplete", False)


@pytest.mark.parametrize("body", [output(action=Action.REDACT)])
async def test_what_is_redacted_reaches_nobody(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """In text, thoughts and arguments, in every dialect, a client gets the placeholder."""
    text = f"{WORDS}{MAIL}."
    upstream.respond = says(text)
    assert said_in(await chat(gateway)) == text.replace(MAIL, "[EMAIL_1]")
    async with (
        clients(gateway)[1] as client,
        client.messages.stream(model="chat", max_tokens=99, messages=MESSAGES) as stream,
    ):
        assert await stream.get_final_text() == text.replace(MAIL, "[EMAIL_1]")
    upstream.respond = says(text, field="reasoning_content")
    chunks = await chat(gateway)
    thought = "".join(
        getattr(chunk.choices[0].delta, "reasoning_content", None) or "" for chunk in chunks if chunk.choices
    )
    assert thought == text.replace(MAIL, "[EMAIL_1]")
    upstream.respond = says(json.dumps({"to": MAIL, "n": 1}), field="tool_calls")
    async with (
        clients(gateway)[0] as client,
        client.chat.completions.stream(model="chat", messages=MESSAGES, tools=TOOLS) as chat_stream,
    ):
        completion = await chat_stream.get_final_completion()
    (call,) = completion.choices[0].message.tool_calls or ()
    assert json.loads(call.function.arguments) == {"to": "[EMAIL_1]", "n": 1}


async def test_a_guard_that_fails_ends_it_with_an_error(
    gateway: RunningGateway, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of what was held is given: 502 before the first word, the client's own exception behind it."""
    looked = 0

    def decide(self: Any, text: str, source: Source) -> Any:
        nonlocal looked
        looked += 1
        if looked >= fails_at:
            raise RuntimeError(text)
        return real(self, text, source)

    real, fails_at = PiiDetector.decide, 1
    monkeypatch.setattr(PiiDetector, "decide", decide)
    upstream.respond = says("held words " * 40, role=False)
    openai_client, anthropic_client = clients(gateway)
    async with openai_client, anthropic_client:
        with pytest.raises(openai.InternalServerError) as refused:
            await openai_client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        assert refused.value.status_code == 502
        assert refused.value.code == "answer_not_checked"
        assert "held" not in str(refused.value)
        for call in (
            lambda: openai_client.chat.completions.create(model="chat", messages=MESSAGES, stream=True),
            lambda: anthropic_client.messages.create(model="chat", max_tokens=9, messages=MESSAGES, stream=True),
        ):
            looked, fails_at = 0, 4
            got: list[Any] = []
            stream: Any = await call()
            with pytest.raises((openai.APIError, anthropic.APIError)) as broken:
                await gather(stream, got)
            assert got
            assert "held" not in str(broken.value)


@pytest.mark.parametrize("body", [GuardBody(
    input=(PiiGuard(name="in", appliesTo=(Source.USER,), timeoutMillis=60_000, restore=True),),
    output=(PiiGuard(name="out", appliesTo=ANSWERED, timeoutMillis=60_000),),
)])  # fmt: skip
async def test_placeholders_are_undone_in_a_stream(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """What the client has said comes back as it was, in text and in arguments; what the model adds is redacted."""
    messages: Any = [{"role": "user", "content": f"write to {MAIL}"}]
    upstream.respond = says("To [EMAIL_1], [EMAIL_1] and bob@example.com it goes.")
    assert (
        said_in(await chat(gateway, extra_body={"messages": messages})) == f"To {MAIL}, {MAIL} and [EMAIL_2] it goes."
    )
    assert MAIL.encode() not in upstream.requests[-1].body
    upstream.respond = says('{"to": "[EMAIL_1]"}', field="tool_calls")
    chunks = await chat(gateway, extra_body={"messages": messages}, tools=TOOLS)
    arguments = "".join(call.function.arguments or "" for chunk in chunks if chunk.choices
                        for call in chunk.choices[0].delta.tool_calls or ())  # fmt: skip
    assert json.loads(arguments) == {"to": MAIL}


@pytest.mark.parametrize("body", [GuardBody(output=(
    PiiGuard(name="pii", appliesTo=ANSWERED, timeoutMillis=60_000),
    FormatGuard(type="Format", name="short", appliesTo=(Source.TEXT,), timeoutMillis=60_000, maxCharacters=MOST),
))])  # fmt: skip
async def test_a_guard_of_the_whole_answer(form: None, gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """An answer that is judged as a whole comes at its end, redacted; one that has not the form is blocked."""
    upstream.respond = says(f"Write to {MAIL}.")
    assert said_in(await chat(gateway)) == "Write to [EMAIL_1]."
    upstream.respond = says("word " * 40)
    chunks = await chat(gateway)
    assert said_in(chunks) == ""
    assert chunks[-1].choices[0].finish_reason == "content_filter"


async def test_a_stream_keeps_its_policy(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """A stream that has begun under a policy ends under it, also when another config has none."""
    goes_on = asyncio.Event()

    async def respond(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(piece(content=WORDS * 3))
        await goes_on.wait()
        await wire.chunk(piece(content=f"{MAIL} and so on. {WORDS * 2}"))
        await wire.chunk(piece(finish="stop") + DONE)
        await wire.end()

    upstream.respond = respond
    async with clients(gateway)[0] as client:
        stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        chunks = [await anext(aiter(stream))]
        await gateway.configure(entry("chat", upstream.url, generation=2))
        goes_on.set()
        chunks += [chunk async for chunk in stream]
        assert chunks[-1].choices[0].finish_reason == "content_filter"
        assert MAIL not in said_in(chunks)
        again = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        assert MAIL in said_in([chunk async for chunk in again])


async def test_the_first_words_wait_for_one_window(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """Of an answer in 64 pieces the first bytes are with the client before the last half of it has left the engine."""
    goes_on = asyncio.Event()

    async def respond(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        for number in range(64):
            if number == 48:
                await goes_on.wait()
            await wire.chunk(piece(content=f"word{number:02} "))
        await wire.chunk(piece(finish="stop") + DONE)
        await wire.end()

    upstream.respond = respond
    async with clients(gateway)[0] as client:
        stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        first = await anext(aiter(stream))
        assert not goes_on.is_set()
        goes_on.set()
        assert said_in([first, *[chunk async for chunk in stream]]) == "".join(
            f"word{number:02} " for number in range(64)
        )


@pytest.mark.parametrize(
    "body", [GuardBody(mode=Mode.SHADOW, output=(PiiGuard(name="pii", appliesTo=ANSWERED, timeoutMillis=60_000),))]
)
async def test_shadow_sees_a_stream_and_changes_nothing(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """A policy that looks on lets each piece go on as it comes, and counts what it would have done when it is over."""
    upstream.respond = says(f"{WORDS}{MAIL}.", size=10)
    chunks = await chat(gateway)
    assert [chunk.choices[0].delta.content for chunk in chunks[1:4]] == [WORDS[:10], WORDS[10:20], WORDS[20:30]]
    assert said_in(chunks) == f"{WORDS}{MAIL}."
    await gateway.settled()
    count = {"policy": "t/g", "guard": "pii", "stage": "output", "mode": "shadow", "decision": "redacted"}
    await eventually(lambda: gateway.metric("gateway_guard_decisions_total", **count) == 1, what="what it has seen")
