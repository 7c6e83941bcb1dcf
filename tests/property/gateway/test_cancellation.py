"""A client that leaves at any await of its request, in any turn of the loop: nothing of the request is left.

The tasks that serve a request are counted at each of their suspensions (waiting for the body, for an endpoint, for a
connection, a head, a first piece, the next piece, a second attempt, a client that does not read), and the client's
connection is lost a few turns of the loop after the one that is chosen.
"""

import asyncio
import json
import math
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capstan_contract.caches import CacheBody, cache_entry
from capstan_contract.config import CascadeBackend, Timeouts
from capstan_gateway import composition
from capstan_gateway.images.fetch import MAX_AT_ONCE
from capstan_gateway.routing.breaker import BreakerState
from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, answer, delta, frame, stall
from support.gateway import RunningGateway, entry, running_gateway
from support.wait import eventually

PAUSE = 0.003
CACHE = cache_entry("test", "cache", CacheBody())
SERVING = ("ClientConnection._serve", "Dispatcher._hedge", "GatheredImages._one", "Flight._run")
SHORT = Timeouts(firstTokenSeconds=0.2, idleSeconds=0.2, totalSeconds=1)
TIMEOUTS = Timeouts(firstTokenSeconds=5, idleSeconds=5, totalSeconds=20)


class Suspensions:
    """Counts the suspensions of one request's tasks, and lets its client leave at one of them."""

    def __init__(self) -> None:
        self.count = 0
        self.leave_at = math.inf
        self.turns = 0
        self.left = False
        self._abort: Callable[[], None] | None = None

    def expect(self, leave_at: float, turns: int) -> None:
        """The next request is the one."""
        self.count, self.leave_at, self.turns, self.left, self._abort = 0, leave_at, turns, False, None

    def factory(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> "asyncio.Task[Any]":
        """Make the tasks of the loop."""
        name = getattr(coro, "__qualname__", "")
        if name in SERVING:
            if self._abort is None:
                self._abort = coro.cr_frame.f_locals["self"].wire.abort
            coro = self._run(coro)
        return asyncio.Task(coro, loop=loop, **options)

    async def _run(self, coro: Coroutine[Any, Any, Any]) -> Any:
        return await self._counted(coro)

    @types.coroutine
    def _counted(self, coro: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        step: Callable[[], Any] = lambda: coro.send(None)  # noqa: E731
        while True:
            try:
                awaited = step()
            except StopIteration as end:
                return end.value
            self._suspended()
            try:
                value = yield awaited
                step = lambda value=value: coro.send(value)  # noqa: E731
            except BaseException as error:  # noqa: BLE001 - what the loop throws in goes where it belongs
                step = lambda error=error: coro.throw(error)  # noqa: E731

    def _suspended(self) -> None:
        self.count += 1
        if self.count == self.leave_at and self._abort is not None:
            self.left = True
            later(self.turns, self._abort)


def later(turns: int, call: Callable[[], object]) -> None:
    """Call in so many turns of the loop; 0: at once."""
    if turns == 0:
        call()
    else:
        asyncio.get_running_loop().call_soon(later, turns - 1, call)


async def slow(request: Received, wire: Wire) -> None:
    """Answer with a pause before the head and before each piece."""
    await asyncio.sleep(PAUSE)
    if not request.document.get("stream"):
        await wire.head(200, "content-type: application/json", length=None)
        await asyncio.sleep(PAUSE)
        await wire.chunk(b'{"choices":[{"finish_reason":"stop",')
        await asyncio.sleep(PAUSE)
        await wire.chunk(b'"index":0}]}')
    else:
        await wire.stream_head()
        for piece in (delta("m", "a"), delta("m", "b"), delta("m", None, "stop")):
            await asyncio.sleep(PAUSE)
            await wire.chunk(frame(piece))
        await wire.chunk(DONE)
    await asyncio.sleep(PAUSE)
    await wire.end()


async def fails(_: Received, wire: Wire) -> None:
    """Fail after a moment."""
    await asyncio.sleep(PAUSE)
    await wire.json({"error": {"message": "no", "code": 500}}, 500)


async def late(request: Received, wire: Wire) -> None:
    """Begin so late that a second endpoint is asked."""
    await asyncio.sleep(20 * PAUSE)
    await slow(request, wire)


async def floods(_: Received, wire: Wire) -> None:
    """Send more than a client that does not read takes."""
    await wire.stream_head()
    piece = frame(delta("m", "x" * 16_000))
    for _number in range(400):
        await wire.chunk(piece)
    await wire.chunk(frame(delta("m", None, "stop")) + DONE)
    await wire.end()


async def mute(received: Received, wire: Wire) -> None:
    """Never say anything."""
    await stall(received, wire)


async def halts(received: Received, wire: Wire) -> None:
    """Say one piece, and nothing more."""
    await wire.stream_head()
    await wire.chunk(frame(delta("m", "a")))
    await stall(received, wire)


async def refuses(_: Received, wire: Wire) -> None:
    """Refuse, with a body that comes in pieces."""
    await wire.head(400, "content-type: application/json")
    await asyncio.sleep(PAUSE)
    await wire.chunk(b'{"error":{"message":"no",')
    await asyncio.sleep(PAUSE)
    await wire.chunk(b'"code":400}}')
    await wire.end()


async def pictures(_: Received, wire: Wire) -> None:
    """Give a picture in two pieces."""
    await asyncio.sleep(PAUSE)
    await wire.head(200, "content-type: image/png")
    await wire.chunk(b"\x89PNG\r\n\x1a\n" + b"x" * 20_000)
    await asyncio.sleep(PAUSE)
    await wire.chunk(b"x" * 20_000)
    await wire.end()


@dataclass(frozen=True)
class Case:
    """What is asked, and of whom."""

    name: str
    model: str
    stream: bool = False
    reads: bool = True
    split: bool = False
    """Whether the body comes in two pieces."""
    faults: bool = False
    """Whether endpoints fail by themselves."""
    images: int = 0
    """How many images it names by URL."""
    beside: bool = False
    """Whether another client asks the same at the same time, and stays."""


CASES = [
    Case("plain", "plain"),
    Case("stream", "plain", stream=True),
    Case("quick", "quick"),
    Case("quick stream", "quick", stream=True),
    Case("upload", "plain", split=True),
    Case("no endpoint", "nobody", stream=True),
    Case("retry", "retried", faults=True),
    Case("hedge", "hedged", stream=True),
    Case("fallback", "falls-back", stream=True, faults=True),
    Case("does not read", "flood", stream=True, reads=False),
    Case("refusal", "refused"),
    Case("cascade", "cascade", stream=True),
    Case("images", "plain", images=6),
    Case("cached", "cached"),
    Case("cached stream", "cached", stream=True),
    Case("cached long", "cached-flood", stream=True, reads=False),
    Case("joined", "cached", beside=True),
    Case("joined stream", "cached", stream=True, beside=True),
    # What never ends by itself: only the end of the request ends it.
    Case("mute", "mute", faults=True),
    Case("mute hedge", "mute-hedged", stream=True, faults=True),
    Case("halts", "halts", stream=True, faults=True),
]
"""Every kind of wait that the pipeline has."""


class World:
    """A gateway before engines of all kinds, on a loop whose tasks are counted."""

    def __init__(self, gateway: RunningGateway, suspensions: Suspensions, album: str) -> None:
        self.gateway = gateway
        self.suspensions = suspensions
        self.album = album
        """Where images are."""
        self.asked = 0

    async def run(self, case: Case, *, leave_at: float, turns: int, fresh: bool) -> None:
        """Send one request, let its client leave, and see that everything is as before.

        With `fresh` no connection to an engine is there yet.
        """
        if fresh:
            for state in self.states:
                self.gateway.gateway.client.close_idle(state.endpoint.id)
        before = self.counts()
        self.asked += 1
        self.suspensions.expect(leave_at, turns)
        staying = asyncio.create_task(self._stays(case)) if case.beside else None
        await self._ask(case)
        if staying is not None:
            await staying
        await self.gateway.settled()
        await eventually(self._at_rest, every=0.002, what=f"rest after {case.name} at {leave_at}+{turns}")
        after = self.counts()
        if not case.faults:
            # Nobody is to blame that a client leaves; and nothing was tried again.
            assert [state.breaker.state(self.now) for state in self.states] == [BreakerState.CLOSED] * len(self.states)
            assert [state.breaker._failures for state in self.states] == [0] * len(self.states)
            assert after["retries"] >= before["retries"]
        assert after["requests"] == before["requests"] + 1 + case.beside, "counted once, whatever happened"
        for state in self.states:
            # A breaker that the faults of its engine have opened is closed again for the next example.
            state.breaker.__init__()  # type: ignore[misc]

    async def _ask(self, case: Case) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        urls = [f"{self.album}/{number}" for number in range(case.images)]
        content = [{"type": "image_url", "image_url": {"url": url}} for url in urls] or "x"
        messages = [{"role": "user", "content": content}, {"role": "user", "content": f"{self.asked}"}]
        body = json.dumps({"model": case.model, "stream": case.stream, "messages": messages})
        half = len(body) // 2
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body[:half]}".encode())
        if case.split:
            await asyncio.sleep(PAUSE)
        writer.write(body[half:].encode())
        try:
            if not case.reads:
                await eventually(lambda: self.suspensions.left or self._paused(), every=0.002, what="a full pipe")
                writer.transport.abort()
            while await reader.read(1 << 16):
                pass
        except ConnectionError:
            pass  # It was the gateway's side of the connection that was cut.
        finally:
            writer.transport.abort()

    async def _stays(self, case: Case) -> None:
        """Ask the same, a moment later, and see that nothing of it was taken away by whoever leaves."""
        await asyncio.sleep(PAUSE)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        messages = [{"role": "user", "content": "x"}, {"role": "user", "content": f"{self.asked}"}]
        body = json.dumps({"model": case.model, "stream": case.stream, "messages": messages})
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
        said = await reader.read()
        writer.transport.abort()
        assert said.startswith(b"HTTP/1.1 200"), said
        assert (b"data: [DONE]" in said) if case.stream else said.endswith(b"}"), said

    def _paused(self) -> bool:
        return any(connection.paused for connection in self.gateway.listener.service.connections)

    def _at_rest(self) -> bool:
        inner = self.gateway.gateway
        assert len(inner.requests) == 0
        assert [state.in_flight for state in self.states] == [0] * len(self.states)
        assert all(model.endpoints.waiting == 0 for model in self.models)
        assert all(model.metrics.in_flight.value == 0 for model in self.models)
        images = inner._images
        assert images is not None
        connections = {**inner.client.connections(), **images._client.connections()}
        assert all(size == idle for size, idle in connections.values()), connections
        assert images._places._value == MAX_AT_ONCE
        assert not inner.client._retired
        kept = inner.caches.report().policies.values()
        assert inner.memory.held == sum(policy.bytes for policy in kept)
        assert all(len(room.flights) == 0 for _, room in inner.caches.rooms())
        assert len(inner.deps.background) == 0
        assert not [task for task in asyncio.all_tasks() if "_hedge" in repr(task.get_coro())]
        return True

    def counts(self) -> dict[str, float]:
        """What is compared from before to after."""
        cells = self.gateway.gateway.metrics.requests.cells
        return {
            "requests": sum(cell.value for cell in cells.values()),
            "retries": self.gateway.gateway.deps.dispatcher._budget.tokens,  # type: ignore[attr-defined]
        }

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def models(self) -> list[Any]:
        runtime = self.gateway.gateway.current()
        assert runtime is not None
        return list(runtime.models.values())

    @property
    def states(self) -> list[Any]:
        return [state for model in self.models for state in model.endpoints.states]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, World]]:
    """One for all examples, on the loop that the gateway runs on."""
    folder = tmp_path_factory.mktemp("gateway")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, pytest.MonkeyPatch.context() as patch:
        patch.setattr(composition, "is_public", lambda _: True)
        stack = AsyncExitStack()

        async def enter() -> World:
            suspensions = Suspensions()
            engines = {}
            for name, respond in (
                ("slow", slow), ("quick", answer), ("fails", fails), ("late", late), ("floods", floods),
                ("refuses", refuses), ("mute", mute), ("mute2", mute), ("halts", halts), ("pictures", pictures),
            ):  # fmt: skip
                engines[name] = (await stack.enter_async_context(FakeUpstream(respond))).url
            slow_url, fails_url = engines["slow"], engines["fails"]
            models = (
                entry("plain", slow_url, timeouts=TIMEOUTS),
                entry("quick", engines["quick"], timeouts=TIMEOUTS),
                entry("nobody", timeouts=TIMEOUTS),
                entry("retried", fails_url, slow_url, timeouts=TIMEOUTS),
                entry("hedged", engines["late"], slow_url, timeouts=TIMEOUTS),
                entry("falls-back", fails_url, fallbacks=("plain",), timeouts=TIMEOUTS),
                entry("flood", engines["floods"], timeouts=TIMEOUTS),
                entry("refused", engines["refuses"], timeouts=TIMEOUTS),
                entry("mute", engines["mute"], timeouts=SHORT),
                entry("mute-hedged", engines["mute"], engines["mute2"], timeouts=SHORT),
                entry("halts", engines["halts"], timeouts=SHORT),
                entry("cascade", backend=cascade(), timeouts=TIMEOUTS),
                entry("cached", slow_url, timeouts=TIMEOUTS, policies=(CACHE.id,)),
                entry("cached-flood", engines["floods"], timeouts=TIMEOUTS, policies=(CACHE.id,)),
            )
            options = {"hedge_percent": 100.0, "hedge_after_seconds": 2 * PAUSE, "endpoint_wait_seconds": 10 * PAUSE}
            album = engines["pictures"]
            fetches = {"image_hosts": (urlsplit(album).netloc,), "image_http": True}
            gateway = await stack.enter_async_context(
                running_gateway(folder, *models, policies=(CACHE,), **options, **fetches)
            )
            asyncio.get_running_loop().set_task_factory(suspensions.factory)  # type: ignore[arg-type]
            return World(gateway, suspensions, album)

        yield runner, runner.run(enter())
        runner.get_loop().set_task_factory(None)
        runner.run(stack.aclose())


def cascade() -> Any:
    """A virtual model whose first member's answers are never good enough."""
    return CascadeBackend(members=("test/quick", "test/plain"), threshold=1.0, maxCost=None)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nothing_is_left_of_a_request_that_nobody_waits_for(world: tuple[asyncio.Runner, World], case: Case) -> None:
    """At each of its awaits in turn, until the request comes to its end before the client leaves."""
    runner, inside = world
    for leave_at in range(1, 60):
        runner.run(inside.run(case, leave_at=leave_at, turns=leave_at % 3, fresh=True))
        if not inside.suspensions.left:
            break
    else:
        pytest.fail("the request never came to its end")
    assert leave_at > 1, "no await was met"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.sampled_from(CASES), st.integers(1, 14), st.integers(0, 5), st.booleans())
def test_nothing_is_left_whenever_the_client_leaves(
    world: tuple[asyncio.Runner, World], case: Case, leave_at: int, turns: int, fresh: bool
) -> None:
    """Some turns of the loop after any of its awaits: also in the one in which what was awaited has come."""
    runner, inside = world
    runner.run(inside.run(case, leave_at=leave_at, turns=turns, fresh=fresh))
