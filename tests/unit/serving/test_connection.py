"""One connection: what it understands, refuses, bounds and waits for."""

import asyncio
import gc
from collections.abc import Sequence

import pytest

from capstan_gateway.errors import GatewayError, InvalidRequest, RequestTooLarge
from capstan_gateway.serving import request_reader
from capstan_gateway.serving.exchange import HIGH_WATER, Exchange
from capstan_gateway.serving.refusals import ErrorWriter
from capstan_gateway.serving.turned_away import TurnedAway
from support.serving import DATE, Client, FixedIds, read_answers, turns

GET = b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n"
BAD = b"GET /x HTTP/1.1\r\nhost: x\r\nno colon\r\n\r\n"
CLOSE = b"GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def post(body: bytes, path: bytes = b"/x", *lines: bytes) -> bytes:
    """Give a whole request."""
    head = b"".join(line + b"\r\n" for line in lines)
    return b"POST %b HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n%b" % (path, head, len(body), body)


class Gate:
    """A handler that answers each request when it is told to."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.open = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        await self.open.wait()
        exchange.respond(200, b"content-length: 2\r\n", b"ok")


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /x HTTP/1.1\r\nhost : x\r\n\r\n",
        b"GET /x HTTP/1.1\r\nhost: x\r\n folded\r\n\r\n",
        b"GET /x HTTP/1.1\r\nhost: x\0y\r\n\r\n",
        b"GET /x HTTP/1.1\nhost: x\n\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /x HTTP/1.1\r\nhost: x\r\nx: a\rb\r\n\r\n",
        b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: +5\r\n\r\nhello",
        b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
        b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_what_two_servers_could_read_differently_is_refused(request_line: bytes) -> None:
    """No request is guessed at: what is not plain HTTP/1.1 gets one 400, no answer besides, and the connection ends."""
    client = Client()
    await client.say(request_line + GET)
    assert client.statuses == [400]
    assert client.ended
    assert client.seen == []


async def test_a_head_in_one_read_is_bounded() -> None:
    """A head above the bound is refused, whether headers or the target make it large."""
    large_header = b"GET /x HTTP/1.1\r\nhost: x\r\nx: %b\r\n\r\n" % (b"y" * 5000)
    large_target = b"GET /%b HTTP/1.1\r\nhost: x\r\n\r\n" % (b"y" * 5000)
    for large in (large_header, large_target):
        client = Client()
        await client.say(large)
        assert client.statuses == [431]
        assert client.ended


async def test_a_head_in_many_reads_is_bounded() -> None:
    """A head that goes on and on is refused at the bound."""
    client = Client()
    await client.say(b"GET /x HTTP/1.1\r\nhost: x\r\nx: ", *[b"y" * 1000] * 10)
    assert client.statuses == [431]


async def test_the_number_of_headers_is_bounded() -> None:
    """Many small headers are refused like few large ones."""
    client = Client(max_head_bytes=100_000)
    await client.say(b"GET /x HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * (request_reader.MAX_HEADERS + 1) + b"\r\n")
    assert client.statuses == [431]


async def test_a_body_behind_half_a_head_is_no_head() -> None:
    """What counts against the bound of a head is the head alone, also when its end comes together with a large body."""
    client = Client()
    whole = post(b"z" * 50_000)
    await client.say(whole[:20], whole[20:])
    assert [seen.body for seen in client.seen] == [b"z" * 50_000]


async def test_half_a_head_behind_a_body_is_no_large_head() -> None:
    """The end of one request does not count against the head of the next one."""
    client = Client()
    await client.say(post(b"z" * 50_000) + GET[:10], GET[10:])
    assert client.statuses == [200, 200]


async def test_a_body_that_breaks_off_is_the_fault_of_its_request() -> None:
    """Nonsense within a body is the answer to that request, of its handler; those before it have theirs."""
    client = Client()
    chunked = b"POST /broken HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n"
    reached: list[Exception] = []

    async def handler(exchange: Exchange) -> None:
        try:
            await client.echo(exchange)
        except InvalidRequest as error:
            reached.append(error)
            exchange.respond(418, b"content-length: 0\r\n", b"")

    client = Client(handler)
    await client.say(GET + chunked, b"no chunk")
    assert client.statuses == [200, 418]
    assert len(reached) == 1
    assert client.ended


async def test_nonsense_behind_a_request_does_not_spoil_its_answer() -> None:
    """Requests that were whole are answered, also those of a pipeline; then comes the refusal, and the end."""
    gate = Gate()
    client = Client(gate)
    await client.say(GET + GET + BAD + GET)
    assert client.transport.sent == b""
    gate.open.set()
    await turns(20)
    assert client.statuses == [200, 200, 400]
    assert client.ended


@pytest.mark.parametrize(("before", "status"), [(b"", 400), (GET, 400), (b"", 431), (GET, 431)])
async def test_a_refusal_is_counted_by_its_reason(before: bytes, status: int) -> None:
    """Whether it comes at once or behind answers; it is written like any answer, and says that the connection ends."""
    bad = BAD if status == 400 else GET.replace(b"\r\n\r\n", b"\r\nx: %b\r\n\r\n" % (b"y" * 5000))
    counted: list[str] = []
    client = Client()
    client.service.turned_away = TurnedAway(FixedIds(), count=counted.append)
    said = await client.say(before + bad)
    assert counted == ["malformed" if status == 400 else "head"]
    head, _, body = said[said.index(b"HTTP/1.1 4") :].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 %d " % status)
    assert lines[1:] == [
        DATE.strip(), b"content-type: application/json", b"content-length: %d" % len(body), b"x-request-id: req_test",
        b"connection: close",
    ]  # fmt: skip


@pytest.mark.parametrize("before", [b"", GET])
async def test_a_refusal_is_in_the_envelope_of_the_api_that_was_asked(before: bytes) -> None:
    """What is known of its target and its headers says which; a handler that fails as well."""
    asked: list[tuple[bytes, list[tuple[bytes, bytes]]]] = []

    class Plain:
        def write_error(self, error: GatewayError, request_id: str) -> tuple[int, bytes]:
            return error.status, f"{request_id}: {type(error).__name__}".encode()

    def writer(target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> ErrorWriter:
        asked.append((target, list(headers)))
        return Plain()

    client = Client()
    client.service.error_writer = writer
    said = await client.say(before + BAD.replace(b"no colon", b"a: b\r\nno colon"))
    assert said.endswith(b"req_test: InvalidRequest")
    assert asked == [(b"/x", [(b"host", b"x")])]

    async def fails(exchange: Exchange) -> None:
        raise LookupError("a bug")

    assert b'"message":"the gateway failed"' in await Client(fails).say(GET)
    client = Client(fails)
    client.service.error_writer = writer
    assert (await client.say(GET)).endswith(b"req_test: GatewayError")
    assert asked[1:] == asked[:1]


async def test_nothing_behind_the_last_request_is_served() -> None:
    """What follows a request that ends the connection is ignored, whatever it is."""
    for rest in (GET, BAD, b"\0" * 100):
        client = Client()
        await client.say(CLOSE + rest)
        assert [seen.target for seen in client.seen] == [b"/last"]
        assert client.statuses == [200]
        assert client.ended


async def test_pipelined_requests_are_answered_in_order() -> None:
    """One answer after the other, in the order of the requests, and reading waits for them."""
    gate = Gate()
    client = Client(gate)
    await client.say(post(b"1", b"/1") + post(b"2", b"/2") + post(b"3", b"/3"))
    assert [exchange.target for exchange in gate.exchanges] == [b"/1"]
    assert not client.transport.is_reading()
    gate.open.set()
    await turns(30)
    assert [exchange.target for exchange in gate.exchanges] == [b"/1", b"/2", b"/3"]
    assert client.statuses == [200, 200, 200]
    assert client.transport.is_reading()


async def test_the_last_of_a_pipeline_is_cut_off_when_its_client_goes() -> None:
    """While the last pipelined request is served, the connection is read: its client's leaving is noticed."""
    served, gone = 0, asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        nonlocal served
        served += 1
        exchange.on_gone = gone.set
        if served == 1:
            exchange.respond(200, b"content-length: 0\r\n", b"")
        else:
            await gone.wait()

    client = Client(handler)
    await client.say(GET + GET)
    assert served == 2
    client.transport.hang_up()
    await turns()
    assert gone.is_set()


async def test_who_waits_with_half_a_head_is_cut_off_when_its_client_goes() -> None:
    """What came behind the last request that is whole was read with it, so that the connection is read again."""
    gone = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        exchange.on_gone = gone.set
        if exchange.target == b"/first":
            exchange.respond(200, b"content-length: 0\r\n", b"")
        else:
            await gone.wait()

    client = Client(handler)
    large = b"GET /%b HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 3000 + b"\r\n\r\n"
    await client.say(large.replace(b"%b", b"first") + large.replace(b"%b", b"last") + GET[:9])
    assert client.statuses == [200]
    client.transport.hang_up()
    await turns()
    assert gone.is_set()


@pytest.mark.parametrize("split", [0, 1, HIGH_WATER])
async def test_a_client_with_a_large_body_is_noticed_when_it_goes(split: int) -> None:
    """A body that stopped the reading does not hide that the client left, in one piece or in many."""
    gone: list[bool] = []
    held = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        exchange.on_gone = lambda: gone.append(True)
        if exchange.whole_body(1_000_000) is None:
            await exchange.read_body(1_000_000)
        await held.wait()

    client = Client(handler)
    whole = post(b"z" * (HIGH_WATER + 5000))
    await client.say(*([whole[:-split], whole[-split:]] if split else [whole]))
    client.transport.hang_up()
    await turns()
    assert gone == [True]
    held.set()


async def test_an_unread_body_is_bounded() -> None:
    """A handler that does not read stops the connection from reading, and starts it again when it does."""
    read = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        await read.wait()
        await client.echo(exchange)

    client = Client(handler)
    await client.say(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n", *[b"z" * 50_000] * 4)
    assert not client.transport.is_reading()
    read.set()
    await turns()
    assert [len(seen.body) for seen in client.seen] == [200_000]
    assert client.transport.is_reading()


async def test_behind_a_body_that_nobody_read_the_connection_goes_on() -> None:
    """It is all there, and was more than is read ahead: the next request is read as soon as it is answered."""

    async def handler(exchange: Exchange) -> None:
        exchange.respond(200, b"content-length: 0\r\n", b"")

    client = Client(handler)
    await client.say(post(b"z" * (HIGH_WATER + 5000)))
    assert client.transport.is_reading()
    await client.say(GET)
    assert client.statuses == [200, 200]


async def test_a_body_above_the_limit() -> None:
    """Reading stops at the limit with an error, whatever the length says; the connection takes nothing after it."""
    for body in (b"content-length: 100\r\n\r\n" + b"z" * 60, b"transfer-encoding: chunked\r\n\r\n3c\r\n" + b"z" * 60):
        errors: list[type[Exception]] = []

        async def handler(exchange: Exchange, errors: list[type[Exception]] = errors) -> None:
            try:
                await exchange.read_body(50)
            except RequestTooLarge as error:
                errors.append(type(error))
                exchange.respond(413, b"content-length: 0\r\n", b"")

        client = Client(handler)
        await client.say(b"POST /x HTTP/1.1\r\nhost: x\r\n" + body, b"zzzz", GET)
        assert errors == [RequestTooLarge]
        assert client.statuses == [413]
        assert client.transport.eof_sent


async def test_a_body_in_one_piece_above_the_limit() -> None:
    """The short way to a body keeps the limit too."""

    async def handler(exchange: Exchange) -> None:
        with pytest.raises(RequestTooLarge):
            exchange.whole_body(50)
        exchange.respond(413, b"content-length: 0\r\n", b"")

    client = Client(handler)
    await client.say(post(b"z" * 60))
    assert client.statuses == [413]


async def test_what_is_still_sent_behind_the_last_answer_is_thrown_away() -> None:
    """A client that is refused in the middle of its upload can go on, sees the end, and is not reset while it reads."""

    async def handler(exchange: Exchange) -> None:
        exchange.respond(413, b"content-length: 0\r\n", b"")

    client = Client(handler)
    await client.say(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n", *[b"z" * 100_000] * 5)
    assert client.transport.eof_sent
    assert client.transport.is_reading()
    assert not client.transport.is_closing()
    client.transport.hang_up()
    await turns()
    assert client.transport.closed


async def test_expect_100_continue() -> None:
    """Who asks before sending a body is told to go on when the body is read, once, and never by a refusal."""

    async def refuse(exchange: Exchange) -> None:
        exchange.respond(413, b"content-length: 0\r\n", b"")

    head = b"POST /x HTTP/1.1\r\nhost: x\r\nExpect: 100-Continue\r\ncontent-length: 2\r\n\r\n"
    client = Client()
    assert await client.say(head) == b"HTTP/1.1 100 Continue\r\n\r\n"
    said = await client.say(b"h", b"i")
    assert said.count(b"100 Continue") == 1
    assert said.endswith(b"\r\n\r\nhi")
    assert b"100 Continue" not in await Client(refuse).say(head)
    assert b"100 Continue" not in await Client().say(head + b"hi")
    assert b"100 Continue" not in await Client().say(head.replace(b"HTTP/1.1", b"HTTP/1.0"))


async def test_http_1_0() -> None:
    """A client of HTTP/1.0 gets no chunks; the end of a stream, and of any answer, is the end of the connection."""
    client = Client()
    said = await client.say(b"POST /stream HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi")
    assert said == b"HTTP/1.1 200 OK\r\n%bconnection: close\r\n\r\n<hi>" % DATE
    assert client.ended


async def test_a_stream_in_chunks() -> None:
    """A stream of HTTP/1.1 has chunks, none of them empty but the last, and leaves the connection open."""
    client = Client()
    said = await client.say(post(b"", b"/stream"))
    assert said == b"HTTP/1.1 200 OK\r\n%btransfer-encoding: chunked\r\n\r\n1\r\n<\r\n1\r\n>\r\n0\r\n\r\n" % DATE
    assert not client.ended


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket"])
@pytest.mark.parametrize("pieces", [1, 40])
async def test_an_upgrade_is_ignored(upgrade: bytes, pieces: int) -> None:
    """Who would like another protocol is served in this one, with its body, and goes on on the same connection.

    Java's HttpClient sends each first request so.
    """
    client = Client()
    whole = post(b"hello", b"/x", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + upgrade, b"HTTP2-Settings: AA")
    size = -(-len(whole) // pieces)
    await client.say(*[whole[start : start + size] for start in range(0, len(whole), size)])
    await client.say(GET)
    assert [(seen.target, seen.body) for seen in client.seen] == [(b"/x", b"hello"), (b"/x", b"")]
    assert client.statuses == [200, 200]
    assert not client.ended


async def test_trailers_are_bounded() -> None:
    """Trailers without an end are the fault of their request, and end the connection."""
    client = Client()
    head = b"POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n"
    await client.say(head, *[b"x: " + b"y" * 996 + b"\r\n"] * 9)
    assert client.statuses == [431]
    assert client.ended
    assert client.seen == []


async def test_an_upgrade_behind_other_requests() -> None:
    """An upgrade that does not wait for its turn is refused behind the answers to the others."""
    client = Client()
    upgrade = post(b"hello", b"/y", b"connection: upgrade", b"upgrade: h2c")
    await client.say(upgrade + upgrade * 2000)
    assert [seen.target for seen in client.seen] == [b"/y"]
    assert client.statuses == [200, 400]
    assert client.ended


async def test_connect_is_no_tunnel() -> None:
    """CONNECT is a request like others, and the last one of its connection."""
    client = Client()
    await client.say(b"CONNECT host:443 HTTP/1.1\r\nhost: x\r\n\r\n\x16\x03\x01" + GET)
    assert len(client.statuses) == 1
    assert client.ended


async def test_a_client_that_does_not_read_gets_no_more_answers() -> None:
    """What waits to be sent on one connection is bounded: further requests are served once it has been read."""
    count = 0

    async def handler(exchange: Exchange) -> None:
        nonlocal count
        count += 1
        exchange.respond(200, b"content-length: 100000\r\n", b"x" * 100_000)

    client = Client(handler)
    client.transport.stuck = True
    await client.say(GET * 3, *[GET] * 10)
    assert count == 1
    assert not client.transport.is_reading()
    client.transport.unstick()
    await turns(100)
    assert count == 13
    assert client.transport.is_reading()


async def test_half_closed_clients_are_gone() -> None:
    """A client that ends its side is taken for gone, also one that does not read: nothing keeps its connection."""
    gone: list[bool] = []

    async def handler(exchange: Exchange) -> None:
        exchange.on_gone = lambda: gone.append(True)
        exchange.start(200, b"", b"x" * 100_000)
        await exchange.drained()

    client = Client(handler)
    client.transport.stuck = True
    await client.say(GET)
    client.transport.hang_up()
    await turns()
    assert gone == [True]
    assert client.transport.closed


async def test_what_is_answered_is_sent_to_a_half_closed_client() -> None:
    """An answer that is there already is not lost when the client ends its side."""
    client = Client()
    client.transport.stuck = True
    await client.say(post(b"hello"))
    client.transport.hang_up()
    client.transport.unstick()
    await turns()
    assert client.transport.sent.endswith(b"hello")
    assert client.transport.closed


async def test_a_handler_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """A bug before the answer is a 500, one within it or without any answer the connection's end: never silence."""

    async def fails(exchange: Exchange) -> None:
        raise LookupError("a bug")

    async def breaks_off(exchange: Exchange) -> None:
        exchange.start(200, b"", b"x")
        raise LookupError("a bug")

    async def says_nothing(exchange: Exchange) -> None:
        return

    async def says_twice(exchange: Exchange) -> None:
        exchange.respond(200, b"content-length: 0\r\n", b"")
        exchange.respond(200, b"content-length: 0\r\n", b"")

    for handler, statuses, ends in (
        (fails, [500], False), (breaks_off, [200], True), (says_nothing, [], True), (says_twice, [200], False)
    ):  # fmt: skip
        client = Client(handler)
        await client.say(GET)
        assert client.statuses == statuses
        assert client.ended is ends
        client.transport.hang_up()
        await turns()
    assert not [line for line in caplog.records if line.name == "asyncio"], "nothing fails when it is lost"


async def test_one_connection_too_many() -> None:
    """The connection above the limit is told so at once, and counted; the others are served."""
    counted: list[str] = []
    first = Client(max_connections=1)
    first.service.turned_away = TurnedAway(count=counted.append)
    second = Client(listener=first.listener)
    await turns()
    assert second.statuses == [503]
    assert b'"message":"the gateway has too many connections; try again"' in second.transport.sent
    assert second.transport.closed
    assert counted == ["connections"]
    await first.say(GET)
    assert first.statuses == [200]
    first.transport.hang_up()
    await turns()
    third = Client(listener=first.listener)
    await turns()
    assert third.statuses == []
    assert not third.ended


async def test_nothing_is_left_for_the_garbage_collector() -> None:
    """A connection with its requests is freed when it is closed, and a request when it is answered."""

    host = Client()

    async def visit() -> None:
        for last in (GET, BAD, CLOSE, post(b"1")[:-1]):
            client = Client(listener=host.listener)
            await client.say(post(b"1"), post(b"2", b"/stream"), GET + GET, last)
            client.transport.hang_up()
            await turns()
            assert client.transport.closed

    await visit()
    gc.collect()
    gc.disable()
    try:
        await visit()
        found = [kind for kind in map(type, _garbage()) if kind.__module__.startswith("capstan_gateway")]
    finally:
        gc.enable()
    assert found == []


def _garbage() -> list[object]:
    """Collect, and give what only the collector could free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return list(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def test_answers_are_read_strictly() -> None:
    """The parser of these tests finds what two answers in one are."""
    both = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 204 No Content\r\n\r\n"
    assert [answer.status for answer in read_answers(both)] == [200, 204]
