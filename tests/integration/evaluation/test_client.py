"""Models that are asked over HTTP, before an engine that does what each test tells it to."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from capstan_evaluation.records import Answer
from capstan_evaluation.runs.budget import Budget, BudgetSpent
from capstan_evaluation.runs.client import BadUrl, Connection, Model, Server, open_session, read_url, tells_cost
from capstan_evaluation.runs.prices import ModelPrice
from fakes.openai_upstream import DONE, FakeUpstream, Received, Respond, Wire, answer, delta, frame
from support.certificates import make_authority, serving_context
from support.ports import free_port

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


@asynccontextmanager
async def asking(
    url: str, *, concurrency: int = 4, budget: Budget | None = None, context: ssl.SSLContext | None = None, **model: Any
) -> AsyncIterator[Model]:
    """Give a model of this server."""
    server = Server(url, key=model.pop("key", ""), seconds=model.pop("seconds", 60))
    async with open_session(concurrency, context) as session:
        yield Model(Connection(session, concurrency=concurrency, budget=budget), server, "m", **model)


@asynccontextmanager
async def engine(respond: Respond = answer) -> AsyncIterator[FakeUpstream]:
    """Run an engine."""
    async with asyncio.timeout(120), FakeUpstream(respond) as upstream:
        yield upstream


def refuses(status: int, code: str, *headers: str, times: int = 10**6) -> Respond:
    """Refuse so many times, then answer."""
    left = [times]

    async def respond(request: Received, wire: Wire) -> None:
        if left[0] <= 0:
            return await answer(request, wire)
        left[0] -= 1
        return await wire.json({"error": {"message": "secret", "code": code}}, status, *headers)

    return respond


async def test_an_answer_is_streamed_and_measured() -> None:
    """Text, usage, price and both times are told; the key is in one header, and no cache is asked."""
    price = ModelPrice(inputPerMillion=1e6, outputPerMillion=2e6)
    async with engine() as upstream, asking(upstream.url, key="sk-1", price=price) as model:
        got = await model.chat(HELLO)
    assert (got.text, got.finishReason, got.error) == ("Hello!", "stop", "")
    assert (got.usage.inputTokens, got.usage.outputTokens, got.usage.cost) == (5, 3, 11.0)
    assert got.firstTokenSeconds is not None
    assert 0 <= got.firstTokenSeconds <= got.seconds
    (seen,) = upstream.requests
    assert seen.document == {**HELLO, "model": "m", "stream": True, "stream_options": {"include_usage": True}}
    assert (seen.headers["authorization"], seen.headers["cache-control"]) == ("Bearer sk-1", "no-store")
    assert seen.path == "/v1/chat/completions"


async def test_a_server_that_does_not_stream_is_read_too() -> None:
    """A whole completion is an answer, whose first token nobody knows the time of."""

    async def whole(request: Received, wire: Wire) -> None:
        await wire.json({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]})

    async with engine(whole) as upstream, asking(upstream.url) as model:
        got = await model.chat(HELLO)
    assert (got.text, got.firstTokenSeconds, got.error) == ("hi", None, "")


@pytest.mark.parametrize(("status", "code"), [(429, "rate_limit_exceeded"), (503, "overloaded")])
async def test_what_the_server_sends_away_comes_back(status: int, code: str) -> None:
    """429 and 503 are tried again, after what Retry-After says, and take nothing of what is bounded."""
    budget = Budget(tokens=6000)
    respond = refuses(status, code, "retry-after: 0", times=3)
    async with engine(respond) as upstream, asking(upstream.url, budget=budget) as model:
        got = await model.chat(HELLO)
    assert (got.text, got.usage.doubtTokens, len(upstream.requests)) == ("Hello!", 0, 4)


@pytest.mark.parametrize(
    ("respond", "code", "tries", "transient"),
    [
        (refuses(400, "context_length_exceeded"), "context_length_exceeded", 1, False),
        (refuses(401, "invalid_api_key"), "invalid_api_key", 1, False),
        (refuses(404, "model_not_found"), "model_not_found", 1, False),
        (refuses(500, "two words"), "http_500", 1, True),
        (refuses(503, "overloaded", "retry-after: 0"), "overloaded", 5, True),
        (refuses(503, "gone", "retry-after: 0", "x-should-retry: false"), "gone", 1, True),
        (refuses(429, "slow", "retry-after: 3600"), "slow", 1, True),
        (refuses(302, "moved", "location: http://127.0.0.1:1/"), "moved", 1, False),
    ],
)
async def test_a_refusal_is_its_code(respond: Respond, code: str, tries: int, transient: bool) -> None:
    """Each error is a code, never a message; only what may pass is tried again, five times at most."""
    async with engine(respond) as upstream, asking(upstream.url) as model:
        got = await model.chat(HELLO)
    assert (got.error, got.transient, got.text, len(upstream.requests)) == (code, transient, "", tries)
    assert "secret" not in got.model_dump_json()


async def test_a_blocked_prompt_is_answered_by_that() -> None:
    """400 content_filter is what the model, or its gateway, says to this prompt, and no failure of it."""
    async with engine(refuses(400, "content_filter")) as upstream, asking(upstream.url) as model:
        got = await model.chat(HELLO)
    assert (got.error, got.finishReason, got.text) == ("", "content_filter", "")


async def breaks_in_the_middle(_: Received, wire: Wire) -> None:
    """Cut the connection after a word."""
    await wire.stream_head()
    await wire.chunk(frame(delta("m", "Hel")))
    wire.reset()


async def ends_too_early(_: Received, wire: Wire) -> None:
    """End the body properly, and the answer not."""
    await wire.stream_head()
    await wire.chunk(frame(delta("m", "Hel")))
    await wire.end()


async def tells_an_error_in_the_stream(_: Received, wire: Wire) -> None:
    """Fail as vLLM does when generation fails."""
    await wire.stream_head()
    await wire.chunk(frame({"error": {"message": "x", "code": 500}}) + DONE)
    await wire.end()


async def is_no_answer(_: Received, wire: Wire) -> None:
    """Answer with a page."""
    await wire.json(b"<html>")


async def never(_: Received, __: Wire) -> None:
    """Say nothing."""
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("respond", "code", "tries"),
    [
        (ends_too_early, "stream_broken", 1),
        (tells_an_error_in_the_stream, "stream_failed", 1),
        (is_no_answer, "bad_answer", 1),
        (never, "timeout", 1),
    ],
)
async def test_half_an_answer_is_none_and_may_have_been_paid_for(respond: Respond, code: str, tries: int) -> None:
    """What broke off is an error; where spend is bounded, all that it may have taken counts."""
    budget = Budget(tokens=100_000)
    seconds = 2 if respond is never else 60
    async with engine(respond) as upstream, asking(upstream.url, budget=budget, seconds=seconds) as model:
        got = await model.chat({**HELLO, "max_tokens": 100})
    assert (got.error, got.transient, got.text, len(upstream.requests)) == (code, True, "", tries)
    assert got.usage.doubtTokens > 100


async def test_a_connection_that_breaks_is_tried_again() -> None:
    """A broken connection is tried again, and every try that may have been paid for counts."""
    left = [2]

    async def respond(request: Received, wire: Wire) -> None:
        if left[0]:
            left[0] -= 1
            return await breaks_in_the_middle(request, wire)
        return await answer(request, wire)

    budget = Budget(tokens=100_000)
    async with engine(respond) as upstream, asking(upstream.url, budget=budget) as model:
        got = await model.chat({**HELLO, "max_tokens": 100})
    assert (got.text, len(upstream.requests)) == ("Hello!", 3)
    assert got.usage.doubtTokens > 200
    assert got.usage.outputTokens == 3


async def test_nobody_there_is_told() -> None:
    """A server that is not there is a code, after some tries, and took nothing."""
    async with asking(f"http://127.0.0.1:{free_port()}", budget=Budget(tokens=10_000)) as model:
        got = await model.chat(HELLO)
    assert (got.error, got.transient, got.usage.doubtTokens) == ("connection_failed", True, 0)


async def test_no_more_are_asked_at_once_than_allowed() -> None:
    """However many ask, the server sees so many at once, and all are answered."""
    most = [0, 0]

    async def respond(request: Received, wire: Wire) -> None:
        most[0] += 1
        most[1] = max(most)
        await asyncio.sleep(0.01)
        most[0] -= 1
        await answer(request, wire)

    async with engine(respond) as upstream, asking(upstream.url, concurrency=3) as model:
        got: list[Answer] = await asyncio.gather(*(model.chat(HELLO) for _ in range(20)))
    assert {one.text for one in got} == {"Hello!"}
    assert most[1] <= 3


async def test_spend_ends_before_its_bound() -> None:
    """What might pass the bound is not asked: what is asked has a length that the server keeps to."""
    price = ModelPrice(inputPerMillion=0, outputPerMillion=1e6)
    budget = Budget(dollars=250)
    async with engine() as upstream, asking(upstream.url, budget=budget, price=price, most_tokens=100) as model:
        got = [await model.chat(HELLO) for _ in range(51)]
        with pytest.raises(BudgetSpent):
            await model.chat(HELLO)
    assert sum(one.usage.cost or 0 for one in got) == 153
    assert {request.document["max_tokens"] for request in upstream.requests} == {100}
    assert len(upstream.requests) == 51


async def test_a_cancelled_ask_counts_in_full() -> None:
    """Whoever is cancelled in the middle of an ask leaves what it may take on the bill, and frees its place."""
    asked = asyncio.Event()

    async def respond(request: Received, wire: Wire) -> None:
        if asked.is_set():
            return await answer(request, wire)
        asked.set()
        return await never(request, wire)

    budget = Budget(tokens=400)
    async with engine(respond) as upstream, asking(upstream.url, budget=budget, concurrency=1, most_tokens=1) as model:
        task = asyncio.create_task(model.chat(HELLO))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await model.chat(HELLO)).text == "Hello!"
        with pytest.raises(BudgetSpent):
            await model.chat({**HELLO, "max_tokens": 100})


async def test_texts_are_embedded() -> None:
    """Vectors come with what they took."""
    async with engine() as upstream, asking(upstream.url) as model:
        got, vectors = await model.embed(["hello"])
        missing, none = await model.embed(["a", "b"])
    assert (vectors, got.usage.inputTokens, got.error) == (((0.5, -0.5),), 3, "")
    assert (none, missing.error) == ((), "bad_answer")


async def test_a_gateway_of_capstan_is_asked_what_it_cost() -> None:
    """Only who says that it is one is sent fields that others refuse."""

    async def hello(request: web.Request) -> web.Response:
        return web.json_response({"name": "capstan"})

    async def run(handler: Callable[[web.Request], Any]) -> bool:
        app = web.Application()
        app.router.add_get("/api/hello", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            async with open_session(1) as session:
                return await tells_cost(Connection(session, concurrency=1), Server(f"http://127.0.0.1:{port}"))
        finally:
            await runner.cleanup()

    async def other(request: web.Request) -> web.Response:
        return web.json_response([1])

    assert await run(hello)
    assert not await run(other)
    async with engine() as upstream, asking(upstream.url, tells_cost=True) as model:
        await model.chat(HELLO)
    assert upstream.requests[0].document["capstan"] == {"cost": True}


async def test_certificates_are_checked(tmp_path: Path) -> None:
    """A server is believed by the authority that is named, and by no other."""
    folder = make_authority(tmp_path, "localhost")

    async def respond(request: web.Request) -> web.Response:
        return web.json_response({"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", respond)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=serving_context(folder)).start()
    try:
        known = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        async with asking(f"https://localhost:{port}", context=known) as model:
            assert (await model.chat(HELLO)).text == "hi"
        async with asking(f"https://localhost:{port}") as model:
            assert (await model.chat(HELLO)).error == "tls_failed"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://a:8000", "http://a:8000"),
        ("http://a:8000/v1/", "http://a:8000"),
        ("https://a/openai/v1", "https://a/openai"),
    ],
)
def test_a_url_is_one_with_or_without_v1(url: str, base: str) -> None:
    """Both ways of writing it mean the same server."""
    assert read_url(url) == base


@pytest.mark.parametrize("url", ["a:8000", "ftp://a", "http://", "http://me:pw@a", "http://a?key=5", "http://a:x"])
def test_what_is_no_url_is_refused(url: str) -> None:
    """Nor is one with a secret in it, which would stand in the run's file."""
    with pytest.raises(BadUrl) as caught:
        read_url(url)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-1", ""])
async def test_no_password_of_a_netrc_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """What a .netrc has for the server's host neither takes the place of the key nor goes there without one."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ada password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with engine() as upstream, asking(upstream.url, key=key) as model:
        got = await model.chat(HELLO)
    assert (got.text, got.error) == ("Hello!", "")
    assert upstream.requests[0].headers.get("authorization") == (f"Bearer {key}" if key else None)


async def test_a_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies are those of the environment, with their own password, and not for hosts that go without."""
    async with engine() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://ada:secret@"))
        monkeypatch.setenv("no_proxy", "localhost")
        async with asking("http://gateway.test", key="sk-1") as model:
            assert (await model.chat(HELLO)).text == "Hello!"
        (seen,) = proxy.requests
        assert seen.headers["host"] == "gateway.test"
        assert seen.headers["proxy-authorization"].startswith("Basic ")
        async with asking(f"http://localhost:{free_port()}", key="sk-1") as model:
            assert (await model.chat(HELLO)).error == "connection_failed"
        assert len(proxy.requests) == 1
