"""Connections of clients that do not behave: each has a bound and a deadline, and costs nobody else anything."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from capstan_contract.config import Timeouts
from capstan_gateway import composition
from capstan_gateway.pipeline import run, watch
from capstan_gateway.serving import client_connection, wire
from capstan_gateway.telemetry.metrics import Metrics
from fakes.openai_upstream import FakeUpstream, Received, Wire, delta, frame
from support.gateway import RunningGateway, entry, running_gateway
from support.loopclock import LoopClock, loop_clock
from support.wait import eventually

MAX_CONNECTIONS = 4
TOTAL = 3600
BODY = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "x"}]}).encode()
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
WHOLE = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n"


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LoopClock]:
    """The clock by which the gateway keeps its deadlines, and that by which requests begin."""
    with loop_clock() as held:
        monkeypatch.setattr(composition, "time", SimpleNamespace(monotonic=held.time))
        yield held


@pytest.fixture
async def gateway(
    tmp_path: Path, clock: LoopClock, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RunningGateway]:
    """A gateway that does not wait long for clients that do not read, or do not go."""
    monkeypatch.setattr(wire, "LINGER_SECONDS", 0.1)
    monkeypatch.setattr(run, "LAST_WORD_SECONDS", 0.1)
    monkeypatch.setattr(watch, "OVERTIME_SECONDS", 0.1)
    models = (entry("chat", upstream.url), entry("brief", upstream.url, timeouts=Timeouts(totalSeconds=TOTAL)))
    async with running_gateway(tmp_path, *models, max_header_bytes=4000, max_connections=MAX_CONNECTIONS) as running:
        yield running


async def connect(gateway: RunningGateway, *pieces: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a connection of its own and send some bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    for piece in pieces:
        writer.write(piece)
    return reader, writer


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """Read until the gateway closes the connection, however it does."""
    said = b""
    async with asyncio.timeout(60):
        try:
            while piece := await reader.read(65536):
                said += piece
        except ConnectionError:
            pass
    return said


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """Read one answer that has a length, and leave the connection open."""
    async with asyncio.timeout(60):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return head + await reader.readexactly(int(length.split(b":")[1]))


async def served(gateway: RunningGateway) -> bool:
    """Say whether a fresh connection is served."""
    reader, writer = await connect(gateway, WHOLE)
    try:
        return (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
    except (ConnectionError, asyncio.IncompleteReadError):
        return False
    finally:
        writer.close()


async def test_a_client_that_does_not_read_is_cut_off(
    gateway: RunningGateway, upstream: FakeUpstream, clock: LoopClock
) -> None:
    """A stream that nobody reads ends in time: the request, the engine's work and the connection."""
    good = upstream.respond

    async def flood(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        while True:
            await wire.chunk(frame(delta("chat", "x" * 4000)))

    upstream.respond = flood
    body = json.dumps({"model": "brief", "stream": True, "messages": [{"role": "user", "content": "x"}]}).encode()
    with contextlib.ExitStack() as clients:
        for _ in range(MAX_CONNECTIONS):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", gateway.port)))
            client.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(body) + body)
        # Only what does not fit into the client's and the kernel's buffers shows that the client does not read.
        connections = gateway.listener.service.connections
        await eventually(
            lambda: len(connections) == MAX_CONNECTIONS and all(one.paused for one in connections),
            what="connections that take no more",
        )
        upstream.respond = good
        clock.put_forward(gateway.gateway.settings.write_seconds + 1)
        await eventually(lambda: len(gateway.gateway.requests) == 0, what="the end of the requests")
        await eventually(lambda: upstream.gone == MAX_CONNECTIONS, what="the end of the engine's work")
        await eventually(lambda: served(gateway), what="the end of the connections")
    assert gateway.metric("llm_requests_total", model="brief", status="499") == MAX_CONNECTIONS
    assert gateway.metric("gateway_clients_cut_off_total", reason="not_reading") == MAX_CONNECTIONS


async def test_a_page_that_is_not_read_holds_nobody_up(
    gateway: RunningGateway, clock: LoopClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that are pipelined and not read are made only as far as they fit, keep nobody waiting, and end in time."""
    render, made = Metrics.render, list[int]()

    def counted(metrics: Metrics) -> bytes:
        made.append(1)
        return render(metrics)

    monkeypatch.setattr(Metrics, "render", counted)
    page = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port)) as client:
        client.setblocking(False)
        asked = asyncio.create_task(asyncio.get_running_loop().sock_sendall(client, page * 20_000))
        try:
            connections = gateway.listener.service.connections
            await eventually(lambda: any(one.paused for one in connections), what="a client that takes no more")
            before = len(made)
            for _ in range(5):
                assert await served(gateway)
                reader, writer = await connect(gateway, page)
                assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
                writer.close()
            assert len(made) == before + 5
            assert gateway.metric("gateway_memory_held_bytes") < 1024 * 1024
            clock.put_forward(gateway.gateway.settings.write_seconds + 1)
            await eventually(lambda: len(connections) == 0, what="the end of the connection")
        finally:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)
    assert gateway.metric("gateway_clients_cut_off_total", reason="not_reading") == 1
    assert gateway.metric("gateway_memory_held_bytes") == 0


async def test_trailers_are_not_headers(gateway: RunningGateway) -> None:
    """What a client sends behind a body does not change what it said before it."""
    reader, writer = await connect(gateway, CHUNKED + b"content-type: text/plain\r\nx-request-id: trailing\r\n\r\n")
    answer = await read_answer(reader)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"trailing" not in answer
    writer.close()


@pytest.mark.parametrize("trailers", [b"x: " + b"y" * 2_000_000, b"x: y\r\n" * 400_000])
async def test_trailers_are_bounded(gateway: RunningGateway, trailers: bytes) -> None:
    """Trailers without an end, in one field or in many, end the connection, not the gateway's memory."""
    slow = CHUNKED.removesuffix(b"\r\n0\r\n")
    reader, writer = await connect(gateway, slow)
    writer.write(b"\r\n0\r\n" + trailers)
    said = await read_to_end(reader)
    assert not said or said.startswith(b"HTTP/1.1 431 ")
    writer.close()
    await gateway.settled()
    assert gateway.metric("llm_requests_total", model="chat", status="200") == 0


async def test_the_head_of_a_second_request_has_a_deadline(
    gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that has served is closed when the next head stops halfway."""
    reader, writer = await connect(gateway, WHOLE)
    assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
    monkeypatch.setattr(client_connection, "HEAD_SECONDS", 0.1)
    writer.write(HEAD)
    assert await read_to_end(reader) == b""
    writer.close()


async def test_a_half_head_does_not_cut_the_answer_before_it(
    gateway: RunningGateway, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline of a pipelined head waits for the answer that is on its way, then closes."""
    gate = asyncio.Event()
    good = upstream.respond

    async def slow(received: Received, wire: Wire) -> None:
        await gate.wait()
        await good(received, wire)

    upstream.respond = slow
    reader, writer = await connect(gateway, WHOLE)
    await eventually(lambda: upstream.active == 1, what="the call of the engine")
    other_reader, other = await connect(gateway, b"GET /healthz HTTP/1.1\r\nhost: x\r\n")
    monkeypatch.setattr(client_connection, "HEAD_SECONDS", 0.0)
    writer.write(HEAD)
    # The other connection's answer comes after the deadline of this one's head, which is at once.
    other.write(b"\r\n")
    await read_answer(other_reader)
    other.close()
    gate.set()
    said = await read_to_end(reader)
    assert said.startswith(b"HTTP/1.1 200 ")
    assert b'"choices"' in said
    writer.close()


@pytest.mark.parametrize(
    "head",
    [HEAD.replace(b"application/json", b"text/plain"), HEAD.replace(b"POST", b"PUT"), HEAD.replace(b"chat/", b"no/")],
)
async def test_a_refused_body_that_does_not_come_ends_the_connection(gateway: RunningGateway, head: bytes) -> None:
    """An answer that does not wait for the body does not wait for it afterwards either."""
    reader, writer = await connect(gateway, head + b"content-length: 100\r\n\r\nx")
    answer = await read_answer(reader)
    assert answer.startswith(b"HTTP/1.1 4")
    writer.write(b"x")
    assert await read_to_end(reader) == b""
    writer.close()


async def test_connections_are_bounded(gateway: RunningGateway) -> None:
    """One connection more than allowed is told so and closed; there is room again when another one leaves."""
    held = [await connect(gateway, WHOLE) for _ in range(MAX_CONNECTIONS)]
    for reader, _ in held:
        assert (await read_answer(reader)).startswith(b"HTTP/1.1 200 ")
    reader, writer = await connect(gateway)
    assert (await read_to_end(reader)).startswith(b"HTTP/1.1 503 ")
    writer.close()
    held.pop()[1].close()

    await eventually(lambda: served(gateway), what="room for one more connection")
    for _, other in held:
        other.close()
