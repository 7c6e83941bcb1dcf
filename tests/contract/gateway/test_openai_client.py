"""What the official `openai` client makes of the gateway's answers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from capstan_contract.config import Price, Task
from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, completion, delta, frame, stream_frames
from support.gateway import RunningGateway, entry, running_gateway

CLIENT = {"table": "clients", "row": "openai (Python), chat", "package": "pypi:openai"}
"""This client's row in docs/compatibility.md."""
MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """A healthy engine, until a test says otherwise."""
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def gateway(tmp_path: Path, upstream: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway with a chat model, an embedding model, and one without an endpoint."""
    chat = entry(
        "chat", upstream.url, upstreamName="engine-name", aliases=("alias",),
        price=Price(inputPerMillion=1_000_000, outputPerMillion=2_000_000),
    )  # fmt: skip
    models = (chat, entry("embed", upstream.url, task=Task.EMBED), entry("idle"))
    async with running_gateway(tmp_path, *models, endpoint_wait_seconds=0.05) as running:
        yield running


@pytest.mark.compatibility(**CLIENT, does="chat")
async def test_chat_answer(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """A chat request gets the engine's answer, under the served name, with a request id and usage counted."""
    async with gateway.client() as client:
        raw = await client.chat.completions.with_raw_response.create(model="chat", messages=MESSAGES)
    answer = raw.parse()
    assert answer.choices[0].message.content == "Hello there"
    assert answer.model == "chat"
    assert raw.headers["x-request-id"].startswith("req_")
    assert upstream.requests[0].document["model"] == "engine-name"
    assert upstream.requests[0].headers["x-request-id"] == raw.headers["x-request-id"]
    assert "authorization" not in upstream.requests[0].headers
    await gateway.settled()
    assert gateway.metric("llm_requests_total", model="chat", status="200") == 1
    assert gateway.metric("llm_tokens_total", model="chat", direction="input") == 5
    assert gateway.metric("llm_tokens_total", model="chat", direction="output") == 2
    assert gateway.metric("llm_cost_dollars", model="chat") == 9
    assert gateway.metric("llm_request_latency_seconds_count", model="chat") == 1


async def test_alias_is_counted_under_the_served_name(gateway: RunningGateway) -> None:
    """An alias works like the name, and does not make a label of its own."""
    async with gateway.client() as client:
        await client.chat.completions.create(model="alias", messages=MESSAGES)
    await gateway.settled()
    assert gateway.metric("llm_requests_total", model="chat", status="200") == 1


@pytest.mark.compatibility(**CLIENT, does="stream")
@pytest.mark.parametrize("asked", [False, True])
async def test_stream_with_and_without_usage(gateway: RunningGateway, upstream: FakeUpstream, asked: bool) -> None:
    """The engine is always asked for usage; the client sees it only when it asked."""
    options = {"stream_options": {"include_usage": True}} if asked else {}
    async with gateway.client() as client:
        stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True, **options)
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello!"
    assert {chunk.model for chunk in chunks} == {"chat"}
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == ([8] if asked else [])
    assert len(chunks) == (5 if asked else 4)
    assert upstream.requests[0].document["stream_options"] == {"include_usage": True}
    await gateway.settled()
    assert gateway.metric("llm_tokens_total", model="chat", direction="output") == 3
    assert gateway.metric("llm_time_to_first_token_seconds_count", model="chat") == 1


async def test_stream_cut_at_every_byte(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """Frames split inside UTF-8 characters, words and line ends arrive whole."""

    async def drip(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        data = b"".join(stream_frames("engine-name", ("grüß ", "dich", " 🙂"))).replace(b"\n", b"\r\n")
        for position in range(len(data)):
            await wire.chunk(data[position : position + 1])
        await wire.end()

    upstream.respond = drip
    async with gateway.client() as client:
        stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        text = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(text) == "grüß dich 🙂"


async def test_embeddings(gateway: RunningGateway) -> None:
    """An embedding model answers, and its prompt tokens are counted."""
    async with gateway.client() as client:
        answer = await client.embeddings.create(model="embed", input="hello", encoding_format="float")
    assert answer.data[0].embedding == [0.5, -0.5]
    await gateway.settled()
    assert gateway.metric("llm_tokens_total", model="embed", direction="input") == 3


async def test_models_are_listed_also_at_zero(gateway: RunningGateway) -> None:
    """Every name of the config is listed, whether or not an endpoint is there, and can be retrieved."""
    async with gateway.client() as client:
        listed = [model.id async for model in client.models.list()]
        one = await client.models.retrieve("alias")
        with pytest.raises(openai.NotFoundError) as caught:
            await client.models.retrieve("nobody")
    assert listed == ["alias", "auto", "chat", "embed", "idle"]
    assert (one.id, one.owned_by, one.created) == ("alias", "capstan", 1_700_000_000)
    assert caught.value.code == "model_not_found"


@pytest.mark.compatibility(**CLIENT, does="errors")
@pytest.mark.parametrize(
    ("model", "messages", "extra", "raised", "code", "param"),
    [
        ("nobody", MESSAGES, {}, openai.NotFoundError, "model_not_found", "model"),
        ("embed", MESSAGES, {}, openai.BadRequestError, "invalid_value", "model"),
        ("chat", [], {}, openai.BadRequestError, "invalid_value", "messages"),
        ("chat", [{"content": "x"}], {}, openai.BadRequestError, "invalid_value", "messages.0.role"),
        ("chat", MESSAGES, {"stream_options": {}}, openai.BadRequestError, "invalid_value", "stream_options"),
        ("idle", MESSAGES, {}, openai.InternalServerError, "model_not_ready", None),
    ],
)
async def test_refusals(
    gateway: RunningGateway, model: str, messages: list, extra: dict, raised: type, code: str, param: str | None
) -> None:
    """Each wrong request raises the class that OpenAI's own API would, with code and parameter."""
    async with gateway.client() as client:
        with pytest.raises(raised) as caught:
            await client.chat.completions.create(model=model, messages=messages, extra_body=extra)
    assert (caught.value.code, caught.value.param) == (code, param)
    assert caught.value.request_id


@pytest.mark.compatibility(**CLIENT, does="errors")
@pytest.mark.parametrize(
    ("status", "raised", "code"),
    [
        (400, openai.BadRequestError, None),
        (404, openai.NotFoundError, "model_not_found"),
        (429, openai.RateLimitError, "rate_limit_exceeded"),
        (500, openai.InternalServerError, "upstream_error"),
        (503, openai.InternalServerError, "overloaded"),
    ],
)
async def test_errors_of_the_engine(
    gateway: RunningGateway, upstream: FakeUpstream, status: int, raised: type, code: str | None
) -> None:
    """vLLM's errors, with integer codes, raise the right class, also when a stream was asked for."""

    async def refuse(_: Received, wire: Wire) -> None:
        await wire.json({"error": {"message": "no", "type": "SomeError", "param": None, "code": status}}, status)

    upstream.respond = refuse
    async with gateway.client() as client:
        for stream in (False, True):
            with pytest.raises(raised) as caught:
                await client.chat.completions.create(model="chat", messages=MESSAGES, stream=stream)
            assert caught.value.code == code


async def test_client_retries_and_waits_as_told(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """The engine's Retry-After reaches the client, which retries by itself and succeeds."""
    calls = 0

    async def busy_once(_: Received, wire: Wire) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await wire.json({"error": {"message": "busy"}}, 429, "retry-after-ms: 30")
        else:
            await wire.json(completion("m"))

    upstream.respond = busy_once
    async with gateway.client(max_retries=1) as client:
        raw = await client.chat.completions.with_raw_response.create(model="chat", messages=MESSAGES)
    assert raw.retries_taken == 1


async def test_first_event_that_is_an_error_is_an_http_error(gateway: RunningGateway, upstream: FakeUpstream) -> None:
    """A stream that fails before its first token fails as a request, not as a stream."""

    async def fail_at_once(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(frame({"error": {"message": "too long", "code": 400}}) + DONE)
        await wire.end()

    upstream.respond = fail_at_once
    async with gateway.client() as client:
        with pytest.raises(openai.BadRequestError, match="too long"):
            await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)


@pytest.mark.parametrize("how", ["reset", "clean end", "bare end marker", "malformed", "engine error"])
async def test_stream_that_breaks_raises(gateway: RunningGateway, upstream: FakeUpstream, how: str) -> None:
    """However a stream breaks in the middle, the client gets an exception behind the tokens, never a quiet end."""

    async def break_off(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(frame(delta("engine-name", "Hel")))
        await asyncio.sleep(0.02)
        if how == "reset":
            wire.reset()
            return
        if how == "bare end marker":
            await wire.chunk(DONE)
        elif how == "malformed":
            await wire.chunk(b'data: {"choices": [{"del\n\n')
        elif how == "engine error":
            await wire.chunk(frame({"error": {"message": "died", "type": "InternalServerError", "code": 500}}))
            await wire.chunk(DONE)
        await wire.end()

    upstream.respond = break_off
    seen = []

    async def read(stream: openai.AsyncStream) -> None:
        async for chunk in stream:
            seen.append(chunk.choices[0].delta.content)

    async with gateway.client() as client:
        stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        with pytest.raises(openai.APIError) as caught:
            await read(stream)
    assert seen == ["Hel"]
    assert caught.value.body["code"] == "upstream_error"
    await gateway.settled()
    if how != "engine error":
        assert gateway.metric("gateway_stream_truncated_total", model="chat") == 1
