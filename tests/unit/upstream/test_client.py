"""The client, on connections in the test's hands and in virtual time."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from capstan_gateway.upstream.errors import ConnectFailed, ConnectionLost, DeadlineExceeded, DeadlineKind
from capstan_gateway.upstream.http1 import CLOSE_SECONDS, STALE_SECONDS, Http1Client, build_head
from capstan_gateway.upstream.limits import Limits
from capstan_gateway.upstream.port import Endpoint
from capstan_gateway.upstream.response import Response
from support.dialing import REFUSED, Dial, FakeTransport
from support.virtualtime import run_virtually

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
E = Endpoint(id="e", host="10.0.0.1", port=8000)


def now() -> float:
    """The loop's time."""
    return asyncio.get_running_loop().time()


class Bench:
    """A client, and the other ends of its connections."""

    def __init__(self, *, limits: Limits | None = None, plans: dict[str, float | Exception] | None = None) -> None:
        self.dial = Dial(plans)
        self.dial.install(pytest.MonkeyPatch())
        self.client = Http1Client(limits=limits or Limits())

    def ask(self, endpoint: Endpoint = E, **options: Any) -> "asyncio.Task[Response]":
        """Begin a call that may be repeated, unless the options say otherwise."""
        given = {"method": b"POST", "path": b"/x", "body": b"{}", "repeatable": True, **options}
        return asyncio.ensure_future(self.client.send(endpoint, **given))

    async def answered(self, endpoint: Endpoint = E, **options: Any) -> FakeTransport:
        """A whole call; give the transport that it went over."""
        before = {id(one): len(one.written) for one in self.transports}
        task = self.ask(endpoint, **options)
        await turns()
        used = [one for one in self.transports if len(one.written) > before.get(id(one), 0)]
        used[-1].protocol.data_received(OK)
        assert await (await task).read(10) == b"ok"
        return used[-1]

    @property
    def transports(self) -> list[FakeTransport]:
        """All connections there ever were."""
        return self.dial.transports


async def turns(count: int = 4) -> None:
    """Let the loop go on."""
    for _ in range(count):
        await asyncio.sleep(0)


class Sendings:
    """Notes when it is told that the request is on its way."""

    def __init__(self) -> None:
        self.times: list[float] = []

    @property
    def sent(self) -> bool:
        """Whether it is."""
        return bool(self.times)

    @sent.setter
    def sent(self, value: bool) -> None:
        assert value
        self.times.append(now())


def virtually(scenario: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Make a test of a coroutine function whose time is virtual."""

    def test() -> None:
        run_virtually(scenario())  # type: ignore[arg-type]

    test.__doc__, test.__name__ = scenario.__doc__, scenario.__name__
    return test


@virtually
async def test_a_request_over_a_connection_that_the_server_had_closed_is_sent_again() -> None:
    """Once, over a fresh one; with all of its deadlines, and its sender knows of both times."""
    bench, sending = Bench(), Sendings()
    first = await bench.answered()
    task = bench.ask(first_byte_timeout=10.0, sending=sending)
    await turns()
    began = now()
    await asyncio.sleep(STALE_SECONDS)
    first.lose(ConnectionResetError())
    await turns()
    assert len(bench.transports) == 2
    assert bench.transports[1].written == [first.written[1]]
    assert sending.times == [began, began + STALE_SECONDS]
    with pytest.raises(DeadlineExceeded) as raised:
        await task
    assert raised.value.kind is DeadlineKind.FIRST_TOKEN
    assert now() == pytest.approx(began + 10.0), "the deadline is the request's, and not the second sending's"


@virtually
async def test_a_request_whose_connection_lived_for_a_while_is_not_sent_again() -> None:
    """By then the server had read it, and may have worked."""
    bench = Bench()
    first = await bench.answered()
    task = bench.ask()
    await asyncio.sleep(STALE_SECONDS + 0.01)
    first.lose()
    with pytest.raises(ConnectionLost):
        await task
    assert len(bench.transports) == 1


@pytest.mark.parametrize("late", [False, True])
def test_a_request_that_was_lost_was_sent_whatever_comes_behind_it(late: bool) -> None:
    """No fresh connection, or no time for one: the failure is the loss, or the end of the time."""

    async def main() -> None:
        bench = Bench()
        first = await bench.answered()
        bench.dial.plans = {E.host: REFUSED}
        task = bench.ask(expires_at=now() + 0.5)
        await turns()
        if late:
            asyncio.get_running_loop().call_later(0.5, first.lose)
        else:
            first.lose()
        with pytest.raises(DeadlineExceeded if late else ConnectionLost) as raised:
            await task
        assert raised.value.sent

    run_virtually(main())


@virtually
async def test_nothing_is_dialled_when_the_time_is_up() -> None:
    """And the connect deadline is never longer than what is left of the total one."""
    bench = Bench(plans={E.host: math.inf})
    for expires_at in (now() - 1, now()):
        with pytest.raises(DeadlineExceeded) as raised:
            await bench.ask(expires_at=expires_at)
        assert (raised.value.kind, raised.value.endpoint_id) == (DeadlineKind.TOTAL, "e")
    assert bench.dial.dialled == []
    for connect, left, took in ((5.0, 2.0, 2.0), (2.0, 5.0, 2.0)):
        began = now()
        with pytest.raises(DeadlineExceeded) as raised:
            await bench.ask(connect_timeout=connect, expires_at=began + left)
        assert raised.value.kind is DeadlineKind.CONNECT
        assert now() - began == pytest.approx(took)


@virtually
async def test_defaults_of_a_call() -> None:
    """Five seconds to connect, two minutes to the first byte, one between pieces, and sent once."""
    bench = Bench(plans={E.host: math.inf})
    began = now()
    with pytest.raises(DeadlineExceeded):
        await bench.client.send(E, method=b"GET", path=b"/")
    assert now() - began == pytest.approx(5.0)
    bench.dial.plans = {}
    began = now()
    with pytest.raises(DeadlineExceeded):
        await bench.client.send(E, method=b"GET", path=b"/")
    assert now() - began == pytest.approx(120.0)
    task = asyncio.ensure_future(bench.client.send(E, method=b"POST", path=b"/"))
    await turns()
    bench.transports[-1].protocol.data_received(OK[:-1])
    response = await task
    assert await response.receive() == b"o"
    began = now()
    with pytest.raises(DeadlineExceeded):
        await response.receive()
    assert now() - began == pytest.approx(60.0)
    assert bench.transports[0].written == [
        b"GET / HTTP/1.1\r\nhost: 10.0.0.1:8000\r\naccept-encoding: identity\r\n\r\n"
    ]
    assert bench.transports[-1].written == [
        b"POST / HTTP/1.1\r\nhost: 10.0.0.1:8000\r\naccept-encoding: identity\r\ncontent-length: 0\r\n\r\n"
    ]


@pytest.mark.parametrize(
    ("method", "repeatable", "shared"),
    [(b"POST", True, True), (b"POST", False, False), (b"GET", False, True), (b"HEAD", False, True),
     (b"DELETE", False, False)],
)  # fmt: skip
def test_what_may_be_sent_twice_shares_connections(method: bytes, repeatable: bool, shared: bool) -> None:
    """GET and HEAD always may."""

    async def main() -> None:
        bench = Bench()
        await bench.answered()
        task = bench.ask(method=method, repeatable=repeatable)
        await turns()
        assert len(bench.transports) == (1 if shared else 2)
        assert bench.transports[-1].written[-1].startswith(b"%b /x HTTP/1.1\r\n" % method)
        answer = OK.replace(b"\r\n\r\nok", b"\r\n\r\n") if method == b"HEAD" else OK
        bench.transports[-1].protocol.data_received(answer)
        response = await task
        assert response.complete, "of HEAD no body is waited for"
        assert await response.read(10) == (b"" if method == b"HEAD" else b"ok")

    run_virtually(main())


@virtually
async def test_a_call_that_is_cancelled_ends_its_connection() -> None:
    """At once."""
    bench = Bench()
    task = bench.ask()
    await turns()
    task.cancel()
    await asyncio.wait([task])
    assert bench.transports[0].aborted
    await turns()
    assert bench.client.connections() == {"e": (0, 0)}


@pytest.mark.parametrize(
    "change", [{"host": "10.0.0.2"}, {"port": 8001}, {"scheme": "https"}, {"server_name": "x"}, {"tls": "other"}]
)
def test_another_address_has_connections_of_its_own(change: dict[str, Any]) -> None:
    """One id at another address: free connections to the old one are closed, what is in use ends with its answer."""

    async def main() -> None:
        bench = Bench()
        busy = bench.ask()
        await turns()
        free = await bench.answered()
        moved = replace(E, **change)
        await bench.answered(moved)
        assert free.aborted
        assert len(bench.transports) == 3
        assert not bench.transports[0].aborted
        assert bench.client.connections() == {"e": (1, 1)}, "those of now"
        bench.transports[0].protocol.data_received(OK)
        assert await (await busy).read(10) == b"ok"
        assert bench.transports[0].aborted

    run_virtually(main())


@virtually
async def test_what_has_nothing_to_do_is_closed_in_time() -> None:
    """Between once and one and a quarter of the idle time; then nothing is left, and nothing is looked at any more."""
    bench = Bench(limits=Limits(idle_seconds=8.0))
    for _ in range(2):
        transport = await bench.answered()
        await asyncio.sleep(7.9)
        assert not transport.aborted
        await asyncio.sleep(2.2)
        assert transport.aborted
        await asyncio.sleep(2.0)
        assert bench.client.connections() == {}
        timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        assert [timer for timer in timers if not timer.cancelled()] == [], "nobody looks in vain"


@virtually
async def test_connections_of_old_addresses_are_swept_too() -> None:
    """Their pools are forgotten when the last answer is over, and not before."""
    bench = Bench(limits=Limits(idle_seconds=8.0))
    busy = bench.ask(first_byte_timeout=1000)
    await turns()
    await bench.answered(replace(E, port=9))
    await asyncio.sleep(20)
    assert bench.client.connections() == {}
    assert len(bench.client._retired) == 1
    bench.transports[0].protocol.data_received(OK)
    await busy
    await asyncio.sleep(4)
    assert bench.client._retired == []


@virtually
async def test_an_endpoint_that_goes_away_keeps_no_free_connection() -> None:
    """One that is in use stays; an endpoint that nobody called is no error."""
    bench = Bench()
    busy = bench.ask()
    await turns()
    free = await bench.answered()
    bench.client.close_idle("e")
    bench.client.close_idle("unknown")
    assert (free.aborted, bench.transports[0].aborted) == (True, False)
    busy.cancel()
    await asyncio.wait([busy])


@virtually
async def test_closing_ends_everything() -> None:
    """Calls under way get an error, the connections are gone when it returns, and nothing is sent any more."""
    bench = Bench()
    busy = bench.ask()
    await turns()
    await bench.answered(replace(E, id="other"))
    old = bench.ask(replace(E, id="other"), expires_at=math.inf)
    await turns()
    await bench.answered(replace(E, id="other", port=9))
    began = now()
    await bench.client.aclose()
    assert now() - began < 0.1
    assert all(transport.aborted for transport in bench.transports)
    assert bench.client.connections() == {}
    for task in (busy, old):
        with pytest.raises(Exception, match="aborted"):
            await task
    with pytest.raises(RuntimeError, match="closed"):
        await bench.ask()
    timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    assert [timer for timer in timers if not timer.cancelled()] == []


@virtually
async def test_closing_does_not_wait_for_ever() -> None:
    """A transport that never tells that it has closed keeps nobody."""
    bench = Bench()
    (await bench.answered()).deaf = True
    began = now()
    await bench.client.aclose()
    assert now() - began == pytest.approx(CLOSE_SECONDS, abs=0.01)


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [
        (b"POST", b"{}", b"content-length: 2\r\n"),
        (b"POST", b"", b"content-length: 0\r\n"),
        (b"PUT", b"", b"content-length: 0\r\n"),
        (b"GET", b"", b""),
        (b"HEAD", b"", b""),
        (b"DELETE", b"", b""),
        (b"OPTIONS", b"", b""),
        (b"GET", b"{}", b"content-length: 2\r\n"),
    ],
)
def test_a_length_is_told_where_there_may_be_a_body(method: bytes, body: bytes, length: bytes) -> None:
    """Also of an empty one; headers come as pairs or as lines that were written before."""
    for headers in ([(b"x", b"1"), (b"y", b"2")], b"x: 1\r\ny: 2\r\n"):
        assert build_head(b"START\r\n", method, headers, body) == b"START\r\nx: 1\r\ny: 2\r\n%b\r\n" % length
    assert build_head(b"START\r\n", method, (), body) == b"START\r\n%b\r\n" % length


@virtually
async def test_a_connection_that_is_refused_is_told_as_it_is() -> None:
    """Nothing was sent."""
    with pytest.raises(ConnectFailed) as raised:
        await Bench(plans={E.host: REFUSED}).ask()
    assert not raised.value.sent
