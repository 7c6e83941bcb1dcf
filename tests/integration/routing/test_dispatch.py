"""Dispatch with the real client against servers that fail in every way before their first byte."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import closing

import pytest

from capstan_gateway.routing.breaker import BreakerSettings
from capstan_gateway.routing.budget import BudgetSettings, RetryBudget
from capstan_gateway.routing.dispatch import Dispatcher, DispatchSettings
from capstan_gateway.routing.endpoints import EndpointSet
from capstan_gateway.routing.port import Call, CallStats
from capstan_gateway.routing.registry import EndpointRegistry
from capstan_gateway.routing.unroutable import KeyMissing, NoEndpoint, TooManyWaiting
from capstan_gateway.upstream.errors import (
    BodyBroken,
    ConnectFailed,
    ConnectionLost,
    DeadlineExceeded,
    DeadlineKind,
    UpstreamError,
)
from capstan_gateway.upstream.http1 import Http1Client
from capstan_gateway.upstream.port import Endpoint
from support.ports import free_port
from support.rawserver import Peer, RawServer, ok, raw_server
from support.wait import eventually

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def at(port: int) -> Endpoint:
    """An endpoint on this machine."""
    return Endpoint(id=f"e:{port}", host="127.0.0.1", port=port)


class Bench:
    """A dispatcher and what it needs; at the end nothing is in flight."""

    def __init__(self, client: Http1Client) -> None:
        self.client = client
        self.registry = EndpointRegistry(settings=BreakerSettings(open_seconds=60, max_open_seconds=60))
        self.budget = RetryBudget()
        self.rng = random.Random(5)  # noqa: S311
        self.sets: list[EndpointSet] = []

    def endpoints(self, ports: Iterable[int], *, max_waiting: int = 1000) -> EndpointSet:
        """A set of endpoints on this machine."""
        made = EndpointSet(self.registry, [at(port) for port in ports], max_waiting=max_waiting)
        self.sets.append(made)
        return made

    def dispatcher(self) -> Dispatcher:
        """The dispatcher of a process."""
        settings = DispatchSettings(first_pause_seconds=0.01, max_pause_seconds=0.05, quick_connect_seconds=3)
        return Dispatcher(self.client, budget=self.budget, rng=self.rng, settings=settings)

    def call(self, endpoints: EndpointSet, **options: object) -> Call:
        """A call with a minute to live."""
        expires_at = asyncio.get_running_loop().time() + 60
        return Call(**{"endpoints": endpoints, "path": b"/x", "body": b"{}", "expires_at": expires_at, **options})  # type: ignore[arg-type]

    async def ask(self, endpoints: EndpointSet, **options: object) -> tuple[int, bytes]:
        """Dispatch a call; give status and body."""
        with closing(await self.dispatcher().dispatch(self.call(endpoints, **options))) as answer:
            body = await answer.read(1 << 20) if answer.whole is None else answer.whole
            return answer.status, body


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A bench; at the end no slot is taken and no connection left."""
    bench = Bench(Http1Client())
    try:
        yield bench
        assert all(state.in_flight == 0 for state in bench.registry.states())
    finally:
        await bench.client.aclose()


async def good(peer: Peer) -> None:
    """Answer every request."""
    while True:
        await peer.request()
        await peer.send(ok(b"good"))


async def resets(peer: Peer) -> None:
    """Take a request and reset."""
    await peer.request()
    peer.reset()


def status(code: int, *headers: bytes) -> bytes:
    """A response with this status."""
    return ok(b"bad", *headers).replace(b"200 OK", b"%d Whatever" % code)


async def with_two(bench: Bench, bad: bytes | None, **options: object) -> tuple[CallStats, RawServer, RawServer]:
    """Ask until the bad one of two was asked first; it answers with `bad` (None: resets). All answers must be good."""

    async def script(peer: Peer) -> None:
        if bad is None:
            await resets(peer)
            return
        while True:
            await peer.request()
            await peer.send(bad)
            if not bad.startswith(b"HTTP/1.1 4") and not bad.startswith(b"HTTP/1.1 5"):
                await peer.gone()

    async with raw_server(script) as first, raw_server(good) as second:
        endpoints = bench.endpoints([first.port, second.port])
        while True:
            all_stats = [CallStats() for _ in range(4)]
            for answer in await asyncio.gather(*(bench.ask(endpoints, stats=stats, **options) for stats in all_stats)):
                assert answer == (200, b"good")
            for stats in all_stats:
                if stats.retries:
                    return stats, first, second


async def test_a_refused_connection_goes_elsewhere_at_once(bench: Bench) -> None:
    """A dead endpoint costs no request and no retry budget, and after a few failures it is no longer asked."""
    async with raw_server(good) as server:
        endpoints = bench.endpoints([free_port(), server.port])
        attempts = []
        for _ in range(50):
            stats = CallStats()
            assert await bench.ask(endpoints, stats=stats) == (200, b"good")
            attempts.append(stats.attempts)
        assert set(attempts) <= {1, 2}
        assert sum(attempts) <= 50 + 4
        assert bench.budget.tokens == BudgetSettings().burst


async def test_a_reset_before_the_response_goes_elsewhere(bench: Bench) -> None:
    """A POST is repeated, because inference is safe to repeat before its first byte; that costs budget."""
    stats, _, second = await with_two(bench, None)
    assert (stats.attempts, stats.failures) == (2, ["ConnectionLost"])
    assert second.bodies[-1] == b"{}"


async def test_an_endpoint_that_answers_no_packet_goes_elsewhere(bench: Bench) -> None:
    """While another endpoint is there, a connection that does not come about is given up quickly."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filling = [socket.socket() for _ in range(4)]
        try:
            for one in filling:
                one.setblocking(False)
                one.connect_ex(listener.getsockname())
            async with raw_server(good) as server:
                endpoints = bench.endpoints([listener.getsockname()[1], server.port])
                failures: list[str] = []
                while not failures:
                    stats = CallStats()
                    assert await bench.ask(endpoints, stats=stats) == (200, b"good")
                    failures = stats.failures
                assert failures == ["connect-deadline"]
        finally:
            for one in filling:
                one.close()


async def test_an_answer_can_be_blamed_by_its_reader(bench: Bench) -> None:
    """What ends cleanly and is no answer all the same opens the breaker like any failure."""
    async with raw_server(good) as first, raw_server(good) as second:
        endpoints = bench.endpoints([first.port, second.port])
        bad = endpoints.states[0]

        async def ask() -> None:
            with closing(await bench.dispatcher().dispatch(bench.call(endpoints))) as answer:
                await answer.read(1000)
                if answer.endpoint is bad.endpoint:
                    answer.blame("no-finish-reason")

        while bad.breaker.allows(asyncio.get_running_loop().time()):
            await asyncio.gather(ask(), ask(), ask(), ask())
        assert bad.last_error == "no-finish-reason"


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504, 529])
async def test_a_status_that_another_endpoint_may_answer_better_goes_elsewhere(bench: Bench, code: int) -> None:
    """429 and 5xx are asked again on another endpoint."""
    stats, _, _ = await with_two(bench, status(code))
    assert (stats.attempts, stats.failures) == (2, [str(code)])


@pytest.mark.parametrize("code", [400, 401, 404, 413, 422, 501])
async def test_a_status_about_the_request_is_the_answer(bench: Bench, code: int) -> None:
    """Other statuses are given back from the first endpoint that said so, and open no breaker."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(status(code))

    async with raw_server(script) as first, raw_server(script) as second:
        endpoints = bench.endpoints([first.port, second.port])
        for _ in range(10):
            stats = CallStats()
            assert await bench.ask(endpoints, stats=stats) == (code, b"bad")
            assert stats.attempts == 1
        if code < 500:
            assert all(state.breaker.allows(asyncio.get_running_loop().time()) for state in endpoints.states)


async def test_a_retry_after_is_honoured(bench: Bench) -> None:
    """An endpoint that asked for a pause is not asked while another one is there."""
    _, first, _ = await with_two(bench, status(429, b"retry-after: 30"))
    endpoints = bench.sets[0]
    asked = len(first.heads)
    async with raw_server(good) as fresh:
        endpoints.replace([at(first.port), at(fresh.port)])
        for _ in range(20):
            assert await bench.ask(endpoints) == (200, b"good")
    assert len(first.heads) == asked


async def test_a_late_first_token_goes_elsewhere(bench: Bench) -> None:
    """An endpoint that takes the request and says nothing is left for another one."""
    stats, first, _ = await with_two(bench, CHUNKED, first_token_seconds=3)
    assert stats.failures == ["first_token-deadline"]
    await asyncio.wait_for(first.gone.wait(), 60)


async def test_a_whole_body_that_breaks_off_goes_elsewhere(bench: Bench) -> None:
    """An answer that is sent in one piece can be repeated up to its last byte."""

    async def cut(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")

    async with raw_server(cut) as first, raw_server(good) as second:
        endpoints = bench.endpoints([first.port, second.port])
        for _ in range(10):
            assert await bench.ask(endpoints, whole_bytes=1000) == (200, b"good")
        assert first.heads


async def test_a_stream_that_breaks_off_is_not_repeated(bench: Bench) -> None:
    """After the first piece it belongs to the client: the error comes out, and the breaker hears of it."""

    async def cut(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"5\r\nhello\r\n")

    async with raw_server(cut) as first, raw_server(cut) as second:
        endpoints = bench.endpoints([first.port, second.port])
        with closing(await bench.dispatcher().dispatch(bench.call(endpoints))) as answer:
            assert await answer.receive() == b"hello"
            with pytest.raises(BodyBroken):
                await answer.receive()
        assert len(first.heads) + len(second.heads) == 1
        assert {state.last_error for state in endpoints.states} == {"BodyBroken", None}


async def test_an_endpoint_that_always_breaks_off_is_left(bench: Bench) -> None:
    """Answers that begin well and break off count against an endpoint, although each of them began well."""

    async def cut(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED + b"5\r\nhello\r\n")

    async with raw_server(cut) as first, raw_server(good) as second:
        endpoints = bench.endpoints([first.port, second.port])
        broken = 0
        while endpoints.states[0].breaker.allows(asyncio.get_running_loop().time()):
            together = (bench.ask(endpoints) for _ in range(4))
            broken += sum(
                isinstance(answer, BodyBroken) for answer in await asyncio.gather(*together, return_exceptions=True)
            )
        assert broken >= BreakerSettings().threshold
        for _ in range(20):
            assert await bench.ask(endpoints) == (200, b"good")


async def test_attempts_are_bounded(bench: Bench) -> None:
    """Of five endpoints that all fail, three are asked, and the last failure comes out."""

    async def fails(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"nonsense\r\n\r\n")

    async with raw_server(fails) as a, raw_server(fails) as b, raw_server(fails) as c, raw_server(fails) as d:
        stats = CallStats()
        with pytest.raises(UpstreamError):
            await bench.ask(bench.endpoints([a.port, b.port, c.port, d.port]), stats=stats)
        assert (stats.attempts, stats.retries, stats.failures) == (3, 2, ["ProtocolError"] * 3)


async def test_without_budget_there_is_no_retry(bench: Bench) -> None:
    """When the budget is spent the failure of the first attempt comes out."""
    bench.budget = RetryBudget(BudgetSettings(share=0, floor_per_second=0, burst=0.5))
    async with raw_server(resets) as a, raw_server(resets) as b:
        stats = CallStats()
        with pytest.raises(ConnectionLost):
            await bench.ask(bench.endpoints([a.port, b.port]), stats=stats)
        assert stats.attempts == 1


async def test_the_total_deadline_ends_everything(bench: Bench) -> None:
    """A call whose time is up is not tried elsewhere."""

    async def silent(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async with raw_server(silent) as a, raw_server(silent) as b:
        expires_at = asyncio.get_running_loop().time() + 2
        with pytest.raises(DeadlineExceeded) as raised:
            await bench.ask(bench.endpoints([a.port, b.port]), expires_at=expires_at)
        assert raised.value.kind is DeadlineKind.TOTAL
        assert len(a.heads) + len(b.heads) == 1


async def test_a_call_waits_for_an_endpoint(bench: Bench) -> None:
    """A call that comes while there is none is answered as soon as there is one."""
    async with raw_server(good) as server:
        endpoints = bench.endpoints([])
        stats = CallStats()
        asking = asyncio.create_task(bench.ask(endpoints, wait_seconds=30, stats=stats))
        await eventually(lambda: endpoints.waiting == 1)
        endpoints.replace([at(server.port)])
        assert await asking == (200, b"good")
        assert stats.waited > 0


async def test_a_call_waits_while_the_only_endpoint_is_being_replaced(bench: Bench) -> None:
    """The last pod refuses, its successor appears: the call that came between is answered."""
    async with raw_server(good) as server:
        endpoints = bench.endpoints([free_port()])
        stats = CallStats()
        asking = asyncio.create_task(bench.ask(endpoints, wait_seconds=30, stats=stats))
        await eventually(lambda: stats.attempts >= 3, every=0.01)
        endpoints.replace([at(server.port)])
        assert await asking == (200, b"good")


async def test_waiting_is_bounded_in_time_and_number(bench: Bench) -> None:
    """After its time a waiting call fails with a Retry-After; over the number it fails at once."""
    endpoints = bench.endpoints([], max_waiting=2)
    waiting = [asyncio.create_task(bench.ask(endpoints, wait_seconds=3)) for _ in range(2)]
    await eventually(lambda: endpoints.waiting == 2, every=0.01)
    with pytest.raises(TooManyWaiting):
        await bench.ask(endpoints, wait_seconds=30)
    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
        assert isinstance(outcome, NoEndpoint)
        assert outcome.retry_after > 0
    assert endpoints.waiting == 0


async def test_without_a_wait_the_reason_comes_out_at_once(bench: Bench) -> None:
    """A hosted API that refuses is a failed connection; a model without endpoints is NoEndpoint."""
    with pytest.raises(ConnectFailed):
        await bench.ask(bench.endpoints([free_port()]))
    with pytest.raises(NoEndpoint):
        await bench.ask(bench.endpoints([]))


@pytest.mark.parametrize("answer", [b"", CHUNKED, CHUNKED + b"1\r\nx\r\n"])
async def test_cancelling_releases_the_slot_and_closes_the_connection(bench: Bench, answer: bytes) -> None:
    """At every wait: for the head, for the first piece, in the middle."""

    async def stalls(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)
        await peer.gone()

    async with raw_server(stalls) as server:
        endpoints = bench.endpoints([server.port])
        task = asyncio.create_task(bench.ask(endpoints))
        await eventually(lambda: server.heads, every=0.01)
        assert endpoints.states[0].in_flight == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert endpoints.states[0].in_flight == 0
        await asyncio.wait_for(server.gone.wait(), 60)
        assert endpoints.states[0].breaker.allows(asyncio.get_running_loop().time())


async def test_cancelling_a_wait_for_an_endpoint_leaves_nothing_behind(bench: Bench) -> None:
    """The waiter is gone with its task."""
    endpoints = bench.endpoints([])
    task = asyncio.create_task(bench.ask(endpoints, wait_seconds=30))
    await eventually(lambda: endpoints.waiting == 1, every=0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert endpoints.waiting == 0


async def test_the_same_key_goes_to_the_same_endpoint(bench: Bench) -> None:
    """Calls with one affinity key stay together; when their endpoint dies they move together."""
    async with raw_server(good) as a, raw_server(good) as b, raw_server(good) as c:
        servers = {server.port: server for server in (a, b, c)}
        endpoints = bench.endpoints(servers)
        for _ in range(20):
            await bench.ask(endpoints, affinity=b"key-one!")
        used = [port for port, server in servers.items() if server.heads]
        assert len(used) == 1
        endpoints.replace([at(port) for port in servers if port not in used])
        for _ in range(20):
            await bench.ask(endpoints, affinity=b"key-one!")
        assert sorted(len(server.heads) for server in servers.values()) == [0, 20, 20]


async def test_endpoints_come_and_go_under_load_without_a_failed_request(bench: Bench) -> None:
    """Rolling restart: each server is ended, with connections open and requests in it, while 16 clients ask."""
    asked = 0
    failures: set[str] = set()
    stop = False

    async def slowly(peer: Peer) -> None:
        while True:
            await peer.request()
            await asyncio.sleep(0.001)
            await peer.send(ok(b"good"))

    async def client() -> None:
        nonlocal asked
        while not stop:
            stats = CallStats()
            assert await bench.ask(endpoints, wait_seconds=30, stats=stats) == (200, b"good")
            asked += 1
            failures.update(stats.failures)

    endpoints = bench.endpoints([])
    clients = [asyncio.create_task(client()) for _ in range(16)]
    running = raw_server(slowly)
    server = await running.__aenter__()
    endpoints.replace([at(server.port)])
    for _ in range(5):
        successor = raw_server(slowly)
        fresh = await successor.__aenter__()
        endpoints.replace([at(server.port), at(fresh.port)])
        so_far = asked
        await eventually(lambda so_far=so_far: asked > so_far + 50, every=0.01)
        await running.__aexit__(None, None, None)  # the old one dies before anybody is told
        so_far = asked
        await eventually(lambda so_far=so_far: asked > so_far + 50, every=0.01)
        endpoints.replace([at(fresh.port)])
        running, server = successor, fresh
    stop = True
    await asyncio.gather(*clients)
    await running.__aexit__(None, None, None)
    assert asked > 500
    assert "ConnectionLost" in failures, "the servers died under requests"


@pytest.mark.parametrize("code", [401, 403])
async def test_an_endpoint_that_refuses_its_key_is_left(bench: Bench, code: int) -> None:
    """Among endpoints with keys a refused one opens the breaker: it does not cost every request an attempt."""

    async def refuses(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(status(code))

    async with raw_server(refuses) as bad_server, raw_server(good) as good_server:
        endpoints = bench.endpoints([bad_server.port, good_server.port])
        bad = endpoints.states[0]
        for _ in range(40):
            assert await bench.ask(endpoints, headers_of=lambda _: ()) == (200, b"good")
        assert not bad.breaker.allows(asyncio.get_running_loop().time())
        assert bad.last_error == str(code)
        assert len(bad_server.heads) == BreakerSettings().threshold


async def test_an_endpoint_that_comes_later_without_a_key_is_not_used(bench: Bench) -> None:
    """An endpoint that appears while a call waits gets nothing of it as long as there is no key for it."""
    async with raw_server(good) as keyless, raw_server(good) as keyed:
        endpoints = bench.endpoints([])

        def headers_of(endpoint: Endpoint) -> tuple[tuple[bytes, bytes], ...] | None:
            return None if endpoint.port == keyless.port else ((b"authorization", b"Bearer k"),)

        asking = asyncio.create_task(bench.ask(endpoints, headers_of=headers_of, wait_seconds=30))
        await eventually(lambda: endpoints.waiting == 1, what="the wait")
        endpoints.replace([at(keyless.port)])
        await eventually(lambda: endpoints.waiting == 1 or asking.done(), what="the refusal")
        endpoints.replace([at(keyless.port), at(keyed.port)])
        assert await asking == (200, b"good")
        assert keyless.heads == []
        assert b"authorization: Bearer k" in keyed.heads[0]
        assert endpoints.states[0].breaker.allows(asyncio.get_running_loop().time())


async def test_a_key_that_goes_before_the_attempt_is_an_error(bench: Bench) -> None:
    """A call never goes out without the key that it had when it began."""
    async with raw_server(good) as server:
        asked = iter(((), None))
        with pytest.raises(KeyMissing):
            await bench.ask(bench.endpoints([server.port]), headers_of=lambda _: next(asked))
        assert server.heads == []
