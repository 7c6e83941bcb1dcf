"""The connections to one endpoint: how they come about, which are kept, and how they end."""

import asyncio
import math
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from capstan_gateway.upstream.connection import Connection
from capstan_gateway.upstream.errors import ConnectFailed, DeadlineExceeded, DeadlineKind, TooManyConnections
from capstan_gateway.upstream.limits import Limits
from capstan_gateway.upstream.pool import MAX_ADDRESSES, MAX_START_LINES, Pool
from capstan_gateway.upstream.port import Endpoint
from capstan_gateway.upstream.resolver import Resolver
from capstan_gateway.upstream.tls import TlsContexts
from support.dialing import REFUSED, Dial, FakeTransport
from support.virtualtime import run_virtually

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
NAMED = Endpoint(id="e", host="engine.test", port=8000)


def pool_of(
    dial: Dial, *addresses: str, endpoint: Endpoint = NAMED, limits: Limits | None = None
) -> Pool:  # fmt: skip
    """A pool whose endpoint has these addresses."""

    async def look_up(host: str) -> tuple[str, ...]:
        assert host == endpoint.host
        return addresses or ("10.0.0.1",)

    dial.install(pytest.MonkeyPatch())
    resolver = Resolver(10.0, look_up=look_up)
    return Pool(endpoint, limits=limits or Limits(), resolver=resolver, contexts=TlsContexts())


def virtually(scenario: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    """Make a test of a coroutine function whose time is virtual."""

    def test() -> None:
        run_virtually(scenario())  # type: ignore[arg-type]

    test.__doc__, test.__name__ = scenario.__doc__, scenario.__name__
    return test


def ask(connection: Connection) -> None:
    """Send a request that nobody waits for."""
    connection.start(
        b"GET / HTTP/1.1\r\n\r\n", b"", first_byte_at=1e9, idle_seconds=1.0, expires_at=1e9, head_only=False
    )


def used(connection: Connection) -> Connection:
    """A request and its answer."""
    ask(connection)
    connection.data_received(ANSWER)
    return connection


@virtually
async def test_addresses_are_tried_in_order_and_share_the_time() -> None:
    """Each but the last has its share of what is left, so that one that hangs hides no other; of many only the first.

    What one does not need is for those behind it.
    """
    names = [f"10.0.0.{number}" for number in range(6)]
    dial = Dial(dict.fromkeys(names, math.inf))
    began = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineExceeded) as raised:
        await pool_of(dial, *names).connect(8.0)
    assert (raised.value.kind, raised.value.sent) == (DeadlineKind.CONNECT, False)
    assert raised.value.endpoint_id == "e"
    assert [(at - began, host) for at, host in dial.dialled] == [
        (pytest.approx(2.0 * number), names[number]) for number in range(MAX_ADDRESSES)
    ]
    assert asyncio.get_running_loop().time() - began == pytest.approx(8.0)
    dial = Dial({names[0]: REFUSED, names[1]: math.inf})
    began = asyncio.get_running_loop().time()
    made = await pool_of(dial, *names[:3]).connect(8.0)
    assert (made.usable, made.endpoint_id) == (True, "e")
    assert dial.hosts == names[:3]
    assert asyncio.get_running_loop().time() - began == pytest.approx(4.0)


@virtually
async def test_a_name_that_nobody_resolves_is_a_connection_that_comes_too_late() -> None:
    """The time to connect holds for the look-up too."""

    async def look_up(host: str) -> tuple[str, ...]:
        return await asyncio.Event().wait() and ()

    dial = Dial()
    dial.install(pytest.MonkeyPatch())
    resolver = Resolver(10.0, look_up=look_up)
    pool = Pool(NAMED, limits=Limits(), resolver=resolver, contexts=TlsContexts())
    began = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineExceeded):
        await asyncio.wait_for(pool.connect(5.0), 100)
    assert asyncio.get_running_loop().time() == pytest.approx(began + 5.0)
    assert pool.size == 0
    await resolver.aclose()


def test_the_context_that_trusts_the_system_is_made_once() -> None:
    """It reads hundreds of certificates; others are given, by name."""
    own = ssl.create_default_context()
    contexts = TlsContexts({"own": own})
    https = Endpoint(id="e", host="h", port=443, scheme="https")
    assert contexts.get(https) is contexts.get(https) is not None
    assert contexts.get(replace(https, tls="own")) is own
    assert contexts.get(replace(https, scheme="http", tls="own")) is None


@virtually
async def test_what_the_last_address_says_is_the_failure() -> None:
    """By its kind alone: no address and no certificate in it. Nothing is counted as open any more."""
    for addresses in (["10.0.0.1"], ["10.0.0.1", "10.0.0.2"]):
        dial = Dial(dict.fromkeys(addresses, REFUSED))
        pool = pool_of(dial, *addresses)
        with pytest.raises(ConnectFailed) as raised:
            await pool.connect(5.0)
        assert str(raised.value) == "e: no connection: ConnectionRefusedError"
        assert dial.hosts == addresses
        assert (pool.size, pool.idle) == (0, 0)


@virtually
async def test_a_bug_while_connecting_leaves_nothing_open() -> None:
    """Whatever is raised."""
    dial = Dial({"10.0.0.1": LookupError("a bug")})
    pool = pool_of(dial, "10.0.0.1", "10.0.0.2")
    with pytest.raises(LookupError):
        await pool.connect(5.0)
    assert dial.hosts == ["10.0.0.1"]
    assert pool.size == 0


@virtually
async def test_a_connection_that_is_lost_as_it_comes_about_is_none() -> None:
    """It is not handed out."""

    class Lost(Dial):
        async def __call__(self, factory: Callable[[], Connection], *given: object, **options: object) -> object:  # type: ignore[override]
            made = await super().__call__(factory, *given, **options)  # type: ignore[arg-type]
            self.transports[-1].lose()
            return made

    with pytest.raises(ConnectFailed):
        await pool_of(Lost()).connect(5.0)


@virtually
async def test_a_connection_that_comes_about_too_late_is_counted_no_more() -> None:
    """Also where the loop never tells of its end, as uvloop does not."""

    class Late(Dial):
        async def __call__(self, factory: Callable[[], Connection], *given: object, **options: object) -> object:  # type: ignore[override]
            await super().__call__(factory, *given, **options)  # type: ignore[arg-type]
            self.transports[-1].deaf = True
            return await asyncio.Event().wait()

    dial = Late()
    pool = pool_of(dial)
    with pytest.raises(DeadlineExceeded):
        await pool.connect(5.0)
    assert dial.transports[0].aborted
    assert (pool.size, pool.idle) == (0, 0)


@pytest.mark.parametrize(
    ("endpoint", "has_context", "name"),
    [
        (NAMED, False, None),
        (Endpoint(id="e", host="engine.test", port=443, scheme="https"), True, "engine.test"),
        (Endpoint(id="e", host="engine.test", port=443, scheme="https", server_name="cert.test"), True, "cert.test"),
        (Endpoint(id="e", host="engine.test", port=80, server_name="cert.test"), False, None),
    ],
)
def test_what_a_connection_is_dialled_with(endpoint: Endpoint, has_context: bool, name: str | None) -> None:
    """Address and port; for HTTPS a context, and the name that the certificate must have: the host's, or its own."""

    async def main() -> None:
        dial = Dial()
        await pool_of(dial, "10.0.0.7", endpoint=endpoint).connect(5.0)
        (options,) = dial.options
        assert dial.hosts == ["10.0.0.7"]
        assert (options["port"], options["server_hostname"]) == (endpoint.port, name)
        assert (options["ssl"] is not None) is has_context

    run_virtually(main())


@virtually
async def test_connections_under_way_count() -> None:
    """More than allowed are refused at once, also while the others only come about; there is room again afterwards."""
    dial = Dial({"10.0.0.1": 1.0})
    pool = pool_of(dial, limits=Limits(connections=2))
    first, second = (asyncio.ensure_future(pool.connect(5.0)) for _ in range(2))
    await asyncio.sleep(0.5)
    assert (pool.size, pool.idle) == (2, 0)
    with pytest.raises(TooManyConnections) as raised:
        await pool.connect(5.0)
    assert raised.value.endpoint_id == "e"
    await asyncio.gather(first, second)
    assert pool.size == 2
    with pytest.raises(TooManyConnections):
        await pool.connect(5.0)
    dial.transports[0].lose()
    assert (await pool.connect(5.0)).usable
    assert pool.size == 2


@virtually
async def test_the_last_one_used_is_used_again() -> None:
    """So that the others are idle for long enough to be closed; one that is gone meanwhile is passed over."""
    dial = Dial()
    pool = pool_of(dial)
    one, two, three = [await pool.connect(5.0) for _ in range(3)]
    assert pool.take() is None, "they have not been of use yet"
    for connection in (two, one, three):
        used(connection)
    assert pool.idle == 3
    assert pool.take() is three
    one.abort()
    assert pool.take() is two
    assert pool.take() is None


@virtually
async def test_only_so_many_are_kept_without_a_request() -> None:
    """What is free above that is closed."""
    dial = Dial()
    pool = pool_of(dial, limits=Limits(idle_connections=2))
    for connection in [await pool.connect(5.0) for _ in range(3)]:
        used(connection)
    assert (pool.idle, [transport.aborted for transport in dial.transports]) == (2, [False, False, True])


@virtually
async def test_what_has_been_idle_for_so_long_is_closed() -> None:
    """Counted from its last answer; what is in use is left alone."""
    dial = Dial()
    pool = pool_of(dial)
    old, young, busy = [await pool.connect(5.0) for _ in range(3)]
    used(old)
    await asyncio.sleep(3.0)
    used(young)
    ask(busy)
    now = asyncio.get_running_loop().time()
    assert (old.idle_since, young.idle_since) == (now - 3.0, now)
    pool.close_idle(now - 3.1)
    assert pool.idle == 2
    pool.close_idle(now - 3.0)
    await asyncio.sleep(0)
    assert [transport.aborted for transport in dial.transports] == [True, False, False]
    assert (pool.size, pool.idle) == (2, 1)


@virtually
async def test_a_pool_of_an_address_that_is_no_more_keeps_nothing() -> None:
    """What is free is closed now, what is in use behind its answer."""
    dial = Dial()
    pool = pool_of(dial)
    free, busy = [await pool.connect(5.0) for _ in range(2)]
    used(free)
    ask(busy)
    pool.retire()
    assert [transport.aborted for transport in dial.transports] == [True, False]
    busy.data_received(ANSWER)
    await asyncio.sleep(0)
    assert [transport.aborted for transport in dial.transports] == [True, True]
    assert (pool.size, pool.idle) == (0, 0)


@virtually
async def test_all_are_closed_in_use_or_not() -> None:
    """And forgotten."""
    dial = Dial()
    pool = pool_of(dial)
    free, busy = [await pool.connect(5.0) for _ in range(2)]
    used(free)
    ask(busy)
    pool.abort_all()
    assert pool.take() is None
    await asyncio.sleep(0)
    assert all(transport.aborted for transport in dial.transports)
    assert pool.size == 0


@virtually
async def test_a_connection_that_the_server_closed_is_idle_no_more() -> None:
    """Neither counted nor handed out."""
    dial = Dial()
    pool = pool_of(dial)
    used(await pool.connect(5.0))
    transport: FakeTransport = dial.transports[0]
    transport.lose()
    assert (pool.size, pool.idle, pool.take()) == (0, 0, None)


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        (Endpoint(id="e", host="h", port=80), b"h"),
        (Endpoint(id="e", host="h", port=443), b"h:443"),
        (Endpoint(id="e", host="h", port=8000), b"h:8000"),
        (Endpoint(id="e", host="h", port=443, scheme="https"), b"h"),
        (Endpoint(id="e", host="h", port=80, scheme="https"), b"h:80"),
        (Endpoint(id="e", host="::1", port=80), b"[::1]"),
        (Endpoint(id="e", host="::1", port=81), b"[::1]:81"),
    ],
)
def test_how_a_request_begins(endpoint: Endpoint, host: bytes) -> None:
    """The request line, the host as a URL has it, and that nothing is to be compressed."""

    async def main() -> None:
        pool = pool_of(Dial(), endpoint=endpoint)
        line = b"POST /v1/x?y HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n" % host
        assert [pool.start_line(b"POST", b"/v1", b"/x?y") for _ in range(2)] == [line, line]

    run_virtually(main())


@virtually
async def test_beginnings_that_come_often_are_kept_and_bounded() -> None:
    """A client that makes up a path for each request does not fill the memory, and each gets its own."""
    pool = pool_of(Dial())
    for number in range(3 * MAX_START_LINES):
        path = b"/%d" % number
        assert pool.start_line(b"GET", b"", path).startswith(b"GET %b HTTP/1.1\r\n" % path)
    assert len(pool._start_lines) == MAX_START_LINES
    assert pool.start_line(b"GET", b"", b"/0") is pool.start_line(b"GET", b"", b"/0")


@pytest.mark.parametrize("character", [b" ", b"\r", b"\n", b"\t", b"\0", b"\x1f", b"\x7f"])
def test_a_target_is_one_word(character: bytes) -> None:
    """What would end it, or the line, is refused wherever it stands."""

    async def main() -> None:
        pool = pool_of(Dial())
        for parts in ((b"/v" + character, b"/x"), (b"", b"/x" + character), (b"", character + b"/x")):
            with pytest.raises(ValueError, match="not allowed"):
                pool.start_line(b"GET", *parts)
        assert pool.start_line(b"GET", b"", b"/x!~\x80")

    run_virtually(main())
