"""Every error of the gateway through the official clients as people use them: with their own retries.

The clients' sleep is replaced by a note of how long it would have been, so the rows also say how often a client comes
back and after how long: as told, or by its own backoff of 0.5 s and then 1 s, less at most a quarter.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import anthropic
import openai
import pytest
import pytest_asyncio

from capstan_contract.config import ModelEntry, Task, Timeouts
from fakes.openai_upstream import FakeUpstream, Received, Respond, Wire, answer, stall
from support.gateway import RunningGateway, entry, running_gateway
from support.wait import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]
LARGE: list[Any] = [{"role": "user", "content": "x" * 5000}]
BACKOFF = [(0.375, 0.5), (0.75, 1.0)]
"""What the clients wait by themselves, from and to."""
SERVER, INVALID = "server_error", "invalid_request_error"


def told(seconds: float) -> list[tuple[float, float]]:
    """Give what the clients wait when they are told to, twice."""
    return [(seconds, seconds)] * 2


def refuse(status: int, *headers: str, code: object = None, message: str = "no", param: str | None = None) -> Respond:
    """Make an engine that answers with this error."""

    async def respond(_: Received, wire: Wire) -> None:
        error = {"message": message, "type": "SomeError", "param": param, "code": code if code is not None else status}
        await wire.json({"error": error}, status, *headers)

    return respond


async def cut(_: Received, wire: Wire) -> None:
    """Break off in the middle of an answer in one piece."""
    await wire.head(200, "content-type: application/json", length=1000)
    await wire.raw(b'{"choices"')
    await asyncio.sleep(0.01)
    wire.reset()


async def nonsense(_: Received, wire: Wire) -> None:
    """Answer with a page that is not JSON."""
    await wire.json(b"<html>busy</html>")


TOO_LONG = "This model's maximum context length is 10 tokens. However, your prompt contains 11 input tokens."


@dataclass(frozen=True)
class Row:
    """One error: how it comes about, and what either client makes of it."""

    name: str
    raised: type[openai.APIStatusError]
    status: int
    type: str
    code: str | None
    param: str | None
    slept: list[tuple[float, float]]
    anthropic: type[anthropic.APIStatusError]
    kind: str
    """The type that Anthropic's API gives it."""
    engine: Respond | None = None
    model: str = "chat"
    messages: Any = None
    anthropic_slept: list[tuple[float, float]] | None = None
    """Where the two clients differ."""


ROWS = [
    Row("unknown model", openai.NotFoundError, 404, INVALID, "model_not_found", "model", [],
        anthropic.NotFoundError, "not_found_error", model="nobody"),
    Row("model of another task", openai.BadRequestError, 400, INVALID, "invalid_value", "model", [],
        anthropic.BadRequestError, INVALID, model="embed"),
    Row("wrong field", openai.BadRequestError, 400, INVALID, "invalid_value", "messages", [],
        anthropic.BadRequestError, INVALID, messages=[]),
    Row("refused by the engine", openai.BadRequestError, 400, INVALID, None, "temperature", [],
        anthropic.BadRequestError, INVALID, refuse(400, param="temperature")),
    Row("refused by the engine with 422", openai.UnprocessableEntityError, 422, INVALID, None, None, [],
        anthropic.UnprocessableEntityError, INVALID, refuse(422)),
    Row("prompt too long", openai.BadRequestError, 400, INVALID, "context_length_exceeded", "messages", [],
        anthropic.BadRequestError, INVALID, refuse(400, message=TOO_LONG, param="input_tokens")),
    Row("blocked by a guard", openai.BadRequestError, 400, INVALID, "content_filter", "messages", [],
        anthropic.BadRequestError, INVALID, refuse(400, code="content_filter", param="messages")),
    Row("body too large", openai.APIStatusError, 413, INVALID, "request_too_large", None, [],
        anthropic.RequestTooLargeError, "request_too_large", messages=LARGE),
    Row("too many requests", openai.RateLimitError, 429, "requests", "rate_limit_exceeded", None, BACKOFF,
        anthropic.RateLimitError, "rate_limit_error", refuse(429)),
    Row("too many requests, in seconds", openai.RateLimitError, 429, "requests", "rate_limit_exceeded", None, told(7),
        anthropic.RateLimitError, "rate_limit_error", refuse(429, "retry-after: 7")),
    Row("too many requests, in milliseconds", openai.RateLimitError, 429, "requests", "rate_limit_exceeded", None,
        told(0.25), anthropic.RateLimitError, "rate_limit_error",
        refuse(429, "retry-after: 1", "retry-after-ms: 250")),
    Row("too many requests, for long", openai.RateLimitError, 429, "requests", "rate_limit_exceeded", None, [],
        anthropic.RateLimitError, "rate_limit_error", refuse(429, "retry-after: 3600"), anthropic_slept=told(3600)),
    Row("quota spent", openai.RateLimitError, 429, "requests", "insufficient_quota", None, [],
        anthropic.RateLimitError, "rate_limit_error",
        refuse(429, "x-should-retry: false", code="insufficient_quota")),
    Row("no endpoint", openai.InternalServerError, 503, SERVER, "model_not_ready", None, told(5),
        anthropic.OverloadedError, "overloaded_error", model="idle"),
    Row("engine overloaded", openai.InternalServerError, 503, SERVER, "overloaded", None, told(3),
        anthropic.OverloadedError, "overloaded_error", refuse(503, "retry-after: 3")),
    Row("hosted engine overloaded", openai.InternalServerError, 503, SERVER, "overloaded", None, BACKOFF,
        anthropic.OverloadedError, "overloaded_error", refuse(529)),
    Row("engine failed", openai.InternalServerError, 502, SERVER, "upstream_error", None, BACKOFF,
        anthropic.InternalServerError, "api_error", refuse(500)),
    Row("engine broke off", openai.InternalServerError, 502, SERVER, "upstream_error", None, BACKOFF,
        anthropic.InternalServerError, "api_error", cut),
    Row("engine answered nonsense", openai.InternalServerError, 502, SERVER, "upstream_error", None, BACKOFF,
        anthropic.InternalServerError, "api_error", nonsense),
    Row("engine silent", openai.InternalServerError, 504, SERVER, "timeout", None, BACKOFF,
        anthropic.DeadlineExceededError, "timeout_error", stall, model="impatient"),
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[FakeUpstream]:
    """The engine of all tests."""
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
def upstream(engine: FakeUpstream) -> FakeUpstream:
    """The engine, well and with nothing asked, until a test says otherwise."""
    engine.respond = answer
    engine.requests.clear()
    return engine


def _models(upstream: FakeUpstream) -> list[ModelEntry]:
    impatient = entry("impatient", upstream.url, timeouts=Timeouts(firstTokenSeconds=0.3, totalSeconds=0.5))
    return [entry("chat", upstream.url), impatient, entry("embed", upstream.url, task=Task.EMBED), entry("idle")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory, engine: FakeUpstream) -> AsyncIterator[RunningGateway]:
    """A gateway with small limits."""
    limits: dict[str, Any] = {"endpoint_wait_seconds": 0.02, "max_body_bytes": 4000, "max_concurrency": 1}
    async with running_gateway(tmp_path_factory.mktemp("gateway"), *_models(engine), **limits) as running:
        yield running


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def settled(gateway: RunningGateway) -> AsyncIterator[None]:
    """No request of one test takes the only place from the next one's."""
    yield
    await gateway.settled()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the clients would have slept, in order."""
    noted: list[float] = []

    async def note(seconds: float) -> None:
        noted.append(seconds)

    for module in ("openai", "anthropic"):
        # The module's only use of anyio is this sleep.
        monkeypatch.setattr(f"{module}._base_client.anyio", SimpleNamespace(sleep=note))
    return noted


def _is_as_expected(slept: list[float], expected: list[tuple[float, float]]) -> None:
    assert len(slept) == len(expected)
    for seconds, (least, most) in zip(slept, expected, strict=True):
        assert least <= seconds <= most


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_openai(
    gateway: RunningGateway, upstream: FakeUpstream, slept: list[float], row: Row, stream: bool
) -> None:
    """The client raises the right class, with type, code, parameter and request id, after the right retries."""
    if row.engine is not None:
        upstream.respond = row.engine
    messages = MESSAGES if row.messages is None else row.messages
    async with gateway.client(max_retries=2) as client:
        with pytest.raises(row.raised) as caught:
            await client.chat.completions.create(model=row.model, messages=messages, stream=stream)
    error = caught.value
    assert (error.status_code, error.type, error.code, error.param) == (row.status, row.type, row.code, row.param)
    assert set(error.body) == {"message", "type", "param", "code"}
    assert error.request_id == error.response.headers["x-request-id"]
    assert error.request_id.startswith("req_")
    _is_as_expected(slept, row.slept)
    if row.engine is not None:
        assert len(upstream.requests) == 1 + len(row.slept)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_anthropic(gateway: RunningGateway, upstream: FakeUpstream, slept: list[float], row: Row) -> None:
    """The same errors at /v1/messages raise the classes of Anthropic's client, after its retries."""
    if row.engine is not None:
        upstream.respond = row.engine
    messages = MESSAGES if row.messages is None else row.messages
    async with anthropic.AsyncAnthropic(base_url=gateway.url, api_key="unused", max_retries=2) as client:
        with pytest.raises(row.anthropic) as caught:
            await client.messages.create(model=row.model, messages=messages, max_tokens=9)
    error = caught.value
    assert error.status_code == (529 if row.status == 503 else row.status)
    assert (error.type, error.body["type"]) == (row.kind, "error")
    assert error.request_id == error.body["request_id"] == error.response.headers["request-id"]
    _is_as_expected(slept, row.slept if row.anthropic_slept is None else row.anthropic_slept)


async def test_gateway_full(gateway: RunningGateway, upstream: FakeUpstream, slept: list[float]) -> None:
    """A gateway that serves as many as it may says so at once, and the clients come back after a second."""
    release = asyncio.Event()

    async def slow(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(b'data: {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]}\n\n')
        await release.wait()
        await wire.end()

    upstream.respond = slow
    async with gateway.client(max_retries=2) as client:
        stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        await eventually(lambda: len(gateway.gateway.requests) == 1, what="a request in flight")
        with pytest.raises(openai.InternalServerError) as caught:
            await client.chat.completions.create(model="chat", messages=MESSAGES)
        release.set()
        assert [chunk.choices[0].finish_reason async for chunk in stream] == ["stop"]
    assert (caught.value.status_code, caught.value.type, caught.value.code) == (503, SERVER, "overloaded")
    assert slept == [1.0, 1.0]


async def test_retry_that_succeeds(gateway: RunningGateway, upstream: FakeUpstream, slept: list[float]) -> None:
    """An engine that is back after what it said answers the client's second try."""
    well, refusing = upstream.respond, refuse(503, "retry-after: 2")

    async def busy_once(request: Received, wire: Wire) -> None:
        await (refusing if len(upstream.requests) == 1 else well)(request, wire)

    upstream.respond = busy_once
    async with gateway.client(max_retries=2) as client:
        raw = await client.chat.completions.with_raw_response.create(model="chat", messages=MESSAGES)
    assert (raw.retries_taken, slept) == (1, [2.0])


@pytest.mark.parametrize(
    ("data", "kind", "status", "code"),
    [
        (b"{not json", "application/json", 400, "invalid_json"),
        (b"[]", "application/json", 400, "invalid_json"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
    ],
)
async def test_body_that_is_no_request(
    gateway: RunningGateway, slept: list[float], data: bytes, kind: str, status: int, code: str
) -> None:
    """What is not JSON is refused with a code and never retried."""
    async with gateway.client(max_retries=2) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.post(
                "/chat/completions", cast_to=object, content=data, options={"headers": {"content-type": kind}}
            )
    assert (caught.value.status_code, caught.value.code, caught.value.type) == (status, code, INVALID)
    assert slept == []
