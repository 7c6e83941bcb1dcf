"""Probes with the real client, against simulators and against servers that hang."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import orjson
import pytest

from capstan_gateway.routing.breaker import BreakerSettings, BreakerState
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.probe import Prober
from capstan_gateway.routing.probing import ProbeSettings, Target
from capstan_gateway.routing.registry import EndpointRegistry, EndpointState
from capstan_gateway.upstream.http1 import Http1Client
from capstan_gateway.upstream.port import Endpoint
from support.ports import free_port
from support.rawserver import Peer, ok, raw_server
from support.wait import eventually
from support.worker import Worker, simulator

BODY = orjson.dumps({"model": "sim", "messages": [{"role": "user", "content": "ping"}], "max_tokens": 1})
FAST = ProbeSettings(
    idle_seconds=0.05,
    request_seconds=0.05,
    retry_seconds=0.02,
    readiness_timeout=1.0,
    request_timeout=1.0,
    tick_seconds=0.01,
)
READINESS_ONLY = ProbeSettings(
    idle_seconds=0.05, request_seconds=0, retry_seconds=0.02, readiness_timeout=1.0, tick_seconds=0.01
)


class Watched:
    """A set of endpoints under probes."""

    def __init__(self, endpoints: EndpointSet, *, hosted: bool) -> None:
        self.endpoints = endpoints
        self.hosted = hosted
        self.counts: Counter[tuple[str, str]] = Counter()
        self.prober: Prober | None = None

    def targets(self) -> dict[str, Target]:
        """What the prober is given."""
        return {
            state.endpoint.id: Target(state, "sim", self.hosted, tuple, b"/chat/completions", BODY)
            for state in self.endpoints.states
        }

    def count(self, model: str, kind: str, outcome: str) -> None:
        """Take note of a probe."""
        assert model == "sim"
        self.counts[kind, outcome] += 1

    def state(self, number: int = 0) -> BreakerState:
        """Give the state of an endpoint's breaker."""
        return self.endpoints.states[number].breaker.state(asyncio.get_running_loop().time())

    async def until(self, wanted: BreakerState) -> EndpointState:
        """Wait for a breaker's state."""
        await eventually(lambda: self.state() is wanted, what=f"a breaker that is {wanted}")
        return self.endpoints.states[0]


@asynccontextmanager
async def watching(*ports: int, settings: ProbeSettings = FAST, hosted: bool = False) -> AsyncIterator[Watched]:
    """Probe endpoints on this machine; at the end no slot is taken."""
    registry = EndpointRegistry(settings=BreakerSettings(open_seconds=0.1, max_open_seconds=0.2))
    endpoints = EndpointSet(registry, [Endpoint(f"e:{port}", "127.0.0.1", port, base_path=b"/v1") for port in ports])
    watched = Watched(endpoints, hosted=hosted)
    client = Http1Client()
    watched.prober = Prober(
        client,
        watched.targets,
        rng=random.Random(1),  # noqa: S311 - jitter
        count=watched.count,
        settings=settings,
    )
    task = asyncio.create_task(watched.prober.run())
    try:
        yield watched
        assert not task.done(), "a prober goes on, whatever happens"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.aclose()
    assert all(state.in_flight == 0 for state in registry.states())


async def hangs(peer: Peer) -> None:
    """Take a request and never answer."""
    await peer.request()
    await peer.gone()


@pytest.fixture(scope="module")
def engine() -> Iterator[Worker]:
    """A simulator."""
    with simulator() as started:
        yield started


async def test_an_engine_that_hangs_is_out_before_a_client_meets_it() -> None:
    """It takes connections and never answers: no request was needed to find out, and it stays out."""
    async with raw_server(hangs) as server, watching(server.port, settings=READINESS_ONLY) as watched:
        state = await watched.until(BreakerState.OPEN)
        assert state.last_error == "probe"
        assert watched.counts["readiness", "passed"] == 0
        assert all(b"GET /health" in head for head in server.heads)


async def test_an_engine_that_is_well_only_by_its_health_is_out_until_it_answers(engine: Worker) -> None:
    """Its /health is 200 and no token comes: one-token requests find out, and they bring it back, three in a row."""
    await asyncio.to_thread(engine.turn, faults=["stall"])
    async with watching(engine.port) as watched:
        await watched.until(BreakerState.OPEN)
        passed = watched.counts["request", "passed"]
        await asyncio.to_thread(engine.turn, faults=[])
        await watched.until(BreakerState.CLOSED)
        assert watched.counts["request", "passed"] >= passed + 3


async def test_an_engine_that_comes_back_at_its_address_is_found_by_probes() -> None:
    """Refused connections open the breaker; answers to /health close it, without a client's request."""
    port = free_port()
    async with watching(port, settings=READINESS_ONLY) as watched:
        await watched.until(BreakerState.OPEN)
        with simulator(port=port, wait_ready=False):
            await watched.until(BreakerState.CLOSED)


async def test_what_has_no_health_is_asked_for_its_models() -> None:
    """A server that knows only the OpenAI API is ready when it lists its models."""

    async def only_models(peer: Peer) -> None:
        while True:
            head = await peer.request()
            found = head.startswith(b"GET /v1/models ")
            await peer.send(ok(b"{}") if found else ok(b"no").replace(b"200 OK", b"404 Not Found"))

    patient = replace(READINESS_ONLY, readiness_timeout=60)
    async with raw_server(only_models) as server, watching(server.port, settings=patient) as watched:
        await eventually(lambda: watched.counts["readiness", "passed"] >= 2, what="two probes")
        assert sum(b"/health" in head for head in server.heads) == 1


async def test_a_hosted_api_is_left_alone_while_it_works(engine: Worker) -> None:
    """No request that costs money, and no question either, until its breaker is open."""
    async with watching(engine.port, hosted=True) as watched:
        state, now = watched.endpoints.states[0], asyncio.get_running_loop().time
        assert watched.prober is not None
        await eventually(lambda: watched.prober is not None and watched.prober.known, what="a schedule")
        assert not watched.counts
        for _ in range(3):
            state.last_error = "ConnectFailed"
            state.breaker.fail(now())
        await watched.until(BreakerState.CLOSED)
        assert {kind for kind, _ in watched.counts} == {"readiness"}


async def test_an_endpoint_that_leaves_is_forgotten_and_its_probe_cut_off() -> None:
    """No probe goes on to an address that is nobody's any more."""
    patient = ProbeSettings(idle_seconds=0.05, readiness_timeout=60, tick_seconds=0.01)
    async with raw_server(hangs) as server, watching(server.port, settings=patient) as watched:
        assert watched.prober is not None
        await eventually(lambda: bool(server.heads), what="a probe")
        watched.endpoints.replace(())
        await asyncio.wait_for(server.gone.wait(), 60)
        assert watched.prober.known == frozenset()


async def test_only_so_many_probes_run_at_once() -> None:
    """A thousand endpoints that hang do not become a thousand connections."""
    few = ProbeSettings(idle_seconds=0.05, readiness_timeout=60, tick_seconds=0.01, max_concurrency=2)
    registry = EndpointRegistry()
    client = Http1Client()
    async with raw_server(hangs) as server:
        ends = [Endpoint(f"e{number}", "127.0.0.1", server.port) for number in range(9)]
        watched = Watched(EndpointSet(registry, ends), hosted=False)
        prober = Prober(
            client,
            watched.targets,
            rng=random.Random(1),  # noqa: S311 - jitter
            count=watched.count,
            settings=few,
        )
        task = asyncio.create_task(prober.run())
        await eventually(lambda: len(prober.known) == 9 and len(server.heads) == 2, what="two probes of nine")
        assert server.connections == 2
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.aclose()


@pytest.mark.parametrize("where", [b"GET /health", b"POST /v1/chat"])
async def test_an_answer_that_drips_is_too_late(where: bytes) -> None:
    """A probe has a deadline for all of its answer: what comes byte by byte fails it, and holds no slot."""

    async def drips(peer: Peer) -> None:
        while True:
            head = await peer.request()
            if not head.startswith(where):
                await peer.send(ok(b"{}"))
                continue
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
            while True:
                await peer.send(b"x")
                await asyncio.sleep(0.01)

    kind = "readiness" if where.startswith(b"GET") else "request"
    settings = replace(READINESS_ONLY if kind == "readiness" else FAST, readiness_timeout=0.1, request_timeout=0.1)
    async with raw_server(drips) as server, watching(server.port, settings=settings) as watched:
        await eventually(lambda: watched.counts[kind, "failed"] >= 3, what="failed probes")
        await watched.until(BreakerState.OPEN)
        assert watched.counts[kind, "passed"] == 0
