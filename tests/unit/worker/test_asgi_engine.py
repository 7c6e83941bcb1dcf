"""The engine in the same process, spoken to as an ASGI application."""

import asyncio

import pytest

from capstan_worker.asgi import Receive, Scope, Send, reply
from capstan_worker.engine.inprocess import AsgiEngine, CountedApp
from capstan_worker.engine.port import EngineRequest
from capstan_worker.errors import EngineError

REQUEST = EngineRequest(id="1", path="/v1/chat/completions", body=b"{}")


def engine(app: object) -> AsgiEngine:
    """Give an engine with four places whose API is this application."""
    counted = CountedApp(app)  # type: ignore[arg-type]
    return AsgiEngine(counted, is_ready=lambda: True, render_metrics=lambda: b"", places=4)


async def test_an_answer_comes_piece_by_piece():
    """The head and the pieces of the body come as the application sends them, and then nothing is in flight."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["body"] == b"{}"
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(50):
            await send({"type": "http.response.body", "body": b"%d " % number, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    tested = engine(app)
    answer = await tested.generate(REQUEST)
    assert (answer.head.status, answer.head.content_type) == (200, "text/event-stream")
    assert await tested.in_flight() == 1
    assert await tested.room() == 3
    body = b"".join([piece async for piece in answer.body])
    assert body == b"".join(b"%d " % number for number in range(50))
    assert await tested.in_flight() == 0


async def test_abort_tells_the_application_that_its_client_has_gone():
    """An aborted request sees http.disconnect, even while it is writing, and is no longer in flight."""
    gone = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})

        async def write() -> None:
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})

        writer = asyncio.create_task(write())
        assert (await receive())["type"] == "http.disconnect"
        writer.cancel()
        gone.set()

    tested = engine(app)
    await tested.generate(REQUEST)
    async with asyncio.timeout(30):
        await tested.abort("1")
    assert gone.is_set()
    assert await tested.in_flight() == 0


async def test_an_application_that_ends_early_is_an_error():
    """An answer that stops before its end is never taken for a complete one."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    answer = await engine(app).generate(REQUEST)
    with pytest.raises(EngineError, match="before it was complete"):
        [piece async for piece in answer.body]


async def test_questions_about_health_are_not_work():
    """Probes and scrapes do not keep a worker from draining."""
    asked = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asked.wait()
        await reply(send, 200, b"")

    counted = CountedApp(app)
    scope: Scope = {"type": "http", "path": "/health"}

    async def nothing(*_: object) -> None:
        return None

    task = asyncio.create_task(counted(scope, nothing, nothing))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    assert counted.in_flight == 0
    asked.set()
    await task
