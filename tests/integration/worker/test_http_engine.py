"""The engine port over HTTP, with the simulator as the engine."""

import asyncio
import json
from typing import Any

import pytest

from capstan_worker.engine.http import HttpEngine
from capstan_worker.engine.kinds import EngineKind
from capstan_worker.engine.port import Engine, EngineRequest
from capstan_worker.errors import EngineError, EngineUnreachable
from support.ports import free_port
from support.wait import eventually
from support.worker import simulator


def request(number: str, **body: Any) -> EngineRequest:
    """Give a chat request."""
    document = {"model": "sim", "messages": [{"role": "user", "content": "hello"}], "stream": True, **body}
    return EngineRequest(id=number, path="/v1/chat/completions", body=json.dumps(document).encode())


async def read(engine: HttpEngine, asked: EngineRequest) -> tuple[int, bytes]:
    """Give status and body of a whole answer."""
    answer = await engine.generate(asked)
    return answer.head.status, b"".join([piece async for piece in answer.body])


async def test_an_answer_streams_and_an_abort_reaches_the_engine():
    """Pieces come as they are made; aborting ends the request in the engine, and room and in-flight follow."""
    with simulator("--concurrency", "2", "--tpot-ms", "600000") as started:
        async with HttpEngine(started.url, EngineKind.VLLM, places=2) as engine:
            port: Engine = engine
            assert await port.ready()
            answer = await port.generate(request("1"))
            assert (answer.head.status, answer.head.content_type) == (200, "text/event-stream; charset=utf-8")
            assert b'"role":"assistant"' in await anext(answer.body)
            assert (await port.in_flight(), await port.room()) == (1, 1)
            await port.abort("1")
            await port.abort("unknown")
            await eventually(lambda: started.metric("capstan_simulator_aborted_total") == 1, what="the abort")
            assert (await port.in_flight(), await port.room()) == (0, 2)
            assert b"vllm:num_requests_running" in await port.metrics()


async def test_a_whole_answer_and_an_error_come_through():
    """What the engine answers is passed on as it is, with its status."""
    with simulator() as started:
        async with HttpEngine(started.url, EngineKind.VLLM) as engine:
            for model, status in (("sim", 200), ("other", 404)):
                answered, body = await read(engine, request("1", model=model, stream=False))
                assert answered == status
                assert ("choices" in json.loads(body)) is (status == 200)
            assert await engine.room() is None


async def test_a_broken_stream_is_an_error():
    """A connection that breaks in the middle never looks like the end of an answer."""
    with simulator("--fault", "die;after=2") as started:
        async with HttpEngine(started.url, EngineKind.VLLM) as engine:
            with pytest.raises(EngineError):
                await read(engine, request("1"))


async def test_an_engine_that_is_not_there_is_told_apart():
    """Nothing listening is another error than not answering: then nothing can be in flight."""
    async with HttpEngine(f"http://127.0.0.1:{free_port()}", EngineKind.VLLM) as engine:
        assert not await engine.ready()
        with pytest.raises(EngineUnreachable):
            await engine.in_flight()


async def test_open_connections_are_counted_where_metrics_are_not_known():
    """An engine of which only the API is known has as much in flight as it has open connections."""
    with simulator("--tpot-ms", "600000") as started:
        async with HttpEngine(started.url, EngineKind.OPENAI_COMPATIBLE) as engine:
            assert await engine.in_flight() == 0
            answers = await asyncio.gather(*[engine.generate(request(str(number))) for number in range(3)])
            assert await engine.in_flight() == 3
            for answer in answers:
                await engine.abort(answer.request_id)
            await eventually(engine_is_idle(engine), what="no connection")


@pytest.mark.parametrize(("kind", "connections"), [(EngineKind.VLLM, 1), (EngineKind.OPENAI_COMPATIBLE, 3)])
async def test_a_connection_is_kept_where_none_is_counted(kind: EngineKind, connections: int) -> None:
    """Requests one after the other have one connection, unless an idle one would count as in flight; one whose answer
    was not read to its end is closed, as that is how an engine is told to stop."""
    opened, closed = [], []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                more = b"unfinished" in await reader.readexactly(size)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n{}" % (2 + more))
        except (asyncio.IncompleteReadError, ConnectionError):
            closed.append(writer)
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with HttpEngine(f"http://127.0.0.1:{port}", kind) as engine:
            for number in range(3):
                assert await read(engine, request(str(number))) == (200, b"{}")
            assert len(opened) == connections
            unread = await engine.generate(request("unread", user="unfinished"))
            before = len(opened)
            await engine.abort(unread.request_id)
            await eventually(lambda: len(closed) == before, what="the end of all connections")
            assert await read(engine, request("last")) == (200, b"{}")
            assert len(opened) == before + 1


async def test_no_connection_is_kept_where_the_engine_turns_out_to_tell_nothing() -> None:
    """An engine whose metrics are switched off has its connections counted: from then on an idle one is none."""
    opened = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = True
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.startswith(b"POST"):
                    opened.extend([writer] if first else [])
                    first = False
                    size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                    await reader.readexactly(size)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with HttpEngine(f"http://127.0.0.1:{port}", EngineKind.VLLM) as engine:
            await read(engine, request("1"))
            assert len(opened) == 1
            await eventually(engine_is_idle(engine), what="the end of the idle connection")
            for number in (2, 3):
                await read(engine, request(str(number)))
                assert len(opened) == number


def engine_is_idle(engine: HttpEngine) -> Any:
    """Give a check that nothing is in flight."""

    async def check() -> bool:
        return await engine.in_flight() == 0

    return check
