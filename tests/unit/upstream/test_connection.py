"""A connection to an upstream, on a transport in the test's hands."""

import asyncio
from typing import Any

import pytest

from capstan_gateway.upstream.connection import JOIN_BYTES, Connection
from capstan_gateway.upstream.errors import BodyBroken, DeadlineExceeded, DeadlineKind, ProtocolError, UpstreamError
from capstan_gateway.upstream.limits import DEFAULT, Limits
from capstan_gateway.upstream.response import Response
from support.virtualtime import run_virtually

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Transport(asyncio.Transport):
    """Takes what is written, and says how much of it is not sent yet."""

    def __init__(self, unsent: int = 0) -> None:
        super().__init__()
        self.unsent = unsent
        self.aborted = False
        self.written: list[bytes] = []
        self.told: list[str] = []
        """Of reading."""

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def pause_reading(self) -> None:
        self.told.append("pause")

    def resume_reading(self) -> None:
        self.told.append("resume")

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.aborted = True


class Owner:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def on_open(self, connection: Connection) -> None:
        self.told.append("open")

    def on_idle(self, connection: Connection) -> None:
        self.told.append("idle")

    def on_closed(self, connection: Connection) -> None:
        self.told.append("closed")


@pytest.mark.parametrize("size", [0, 1, JOIN_BYTES, JOIN_BYTES + 1, 1 << 20])
@pytest.mark.parametrize("unsent", [0, 1])
async def test_a_connection_whose_request_was_not_sent_completely_is_not_reused(size: int, unsent: int) -> None:
    """Not a byte of one request may follow on the wire when the next one begins, however large the request is."""
    owner, transport = Owner(), Transport(unsent)
    connection = Connection("e", DEFAULT, owner)
    connection.connection_made(transport)
    response = connection.start(
        b"POST / HTTP/1.1\r\n\r\n", b"x" * size, first_byte_at=1e9, idle_seconds=1.0, expires_at=1e9, head_only=False
    )
    connection.data_received(ANSWER)
    assert await response.read(10) == b"ok", "the answer stands"
    assert owner.told == ["open", *([] if unsent else ["idle"])]
    assert connection.usable is not bool(unsent)
    assert transport.aborted is bool(unsent)


async def test_a_connection_that_was_given_up_before_it_was_made_is_closed_when_it_is_made() -> None:
    """Whoever was cancelled meanwhile leaves nothing open behind."""
    owner, transport = Owner(), Transport()
    connection = Connection("e", DEFAULT, owner)
    connection.abort()
    connection.connection_made(transport)
    assert transport.aborted
    assert not connection.usable
    connection.connection_lost(None)
    assert owner.told == ["closed"]


def made(limits: Limits = DEFAULT) -> tuple[Connection, Owner, Transport]:
    """A connection that has come about."""
    owner, transport = Owner(), Transport()
    connection = Connection("e", limits, owner)
    connection.connection_made(transport)
    return connection, owner, transport


def ask(
    connection: Connection, *, first_byte_at: float = 1e9, idle_seconds: float = 1e9, expires_at: float = 1e9,
    head_only: bool = False,
) -> Response:  # fmt: skip
    """Send a request."""
    return connection.start(
        b"GET / HTTP/1.1\r\n\r\n", b"", first_byte_at=first_byte_at, idle_seconds=idle_seconds,
        expires_at=expires_at, head_only=head_only,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "closes", "kept"),
    [
        (ANSWER, False, True),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", False, False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", False, False),
        (b"HTTP/1.1 200 OK\r\n\r\nok", True, False),
        (b"HTTP/1.1 200 OK\r\nx: chunked\r\n\r\nok", True, False),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok", True, False),
        (b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 103 Early\r\n\r\n" + ANSWER, False, True),
        (ANSWER + ANSWER, False, False),
        (ANSWER + b"HTTP/1.1 418 No\r\nx: y\r\ncontent-length: 2\r\n\r\nno", False, False),
        (ANSWER + b"x", False, False),
    ],
)
def test_a_connection_is_kept_only_behind_a_clean_end(answer: bytes, closes: bool, kept: bool) -> None:
    """One that the server will close, or that has more to say, is closed at once; its response stands."""

    async def main() -> None:
        connection, owner, transport = made()
        response = ask(connection)
        connection.data_received(answer)
        if closes:
            assert not response.complete
            connection.eof_received()
        assert (response.status, response.complete, await response.read(10)) == (200, True, b"ok")
        assert (b"x", b"y") not in response.headers
        assert (connection.usable, transport.aborted) == (kept, not kept)
        assert owner.told == ["open", "idle"][: 1 + kept]

    run_virtually(main())


def test_small_requests_are_one_write() -> None:
    """A large body is not copied to be one with its head."""

    async def main() -> None:
        for size, writes in ((0, 1), (1, 1), (JOIN_BYTES, 1), (JOIN_BYTES + 1, 2)):
            connection, _, transport = made()
            connection.start(b"HEAD", b"x" * size, first_byte_at=1e9, idle_seconds=1e9, expires_at=1e9, head_only=False)
            assert len(transport.written) == writes
            assert b"".join(transport.written) == b"HEAD" + b"x" * size

    run_virtually(main())


def test_reading_stops_and_goes_on_once_each() -> None:
    """Above the mark of what is unread it stops; taking what has come lets it go on, again and again."""

    async def main() -> None:
        connection, _, transport = made(Limits(high_water=5))
        response = ask(connection)
        connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
        for _ in range(2):
            transport.told.clear()
            connection.data_received(b"12345")
            assert transport.told == []
            connection.data_received(b"6")
            connection.data_received(b"7")
            assert transport.told == ["pause"]
            assert await response.receive() == b"1234567"
            assert transport.told == ["pause", "resume"]
            connection.data_received(b"8")
            assert await response.receive() == b"8"
            assert transport.told == ["pause", "resume"]

    run_virtually(main())


def test_a_timer_of_one_request_serves_the_next() -> None:
    """When it fires too early it is set again for the deadline in force, of its kind; the error names the endpoint."""

    async def main() -> None:
        connection, _, transport = made()
        loop = asyncio.get_running_loop()
        unhandled: list[object] = []
        loop.set_exception_handler(lambda _, context: unhandled.append(context))
        began = loop.time()
        for kind, deadlines in (
            (DeadlineKind.FIRST_TOKEN, {"first_byte_at": began + 60}),
            (DeadlineKind.IDLE, {"idle_seconds": 60.0 - 5.0}),
            (DeadlineKind.TOTAL, {"expires_at": began + 60}),
        ):
            connection, _, transport = made()
            began = loop.time()
            deadlines = {name: began + 60 if value > 100 else value for name, value in deadlines.items()}
            first = ask(connection, first_byte_at=began + 10)
            waiting = asyncio.ensure_future(first.receive())
            await asyncio.sleep(5)
            connection.data_received(ANSWER)
            assert await waiting == b"ok"
            second = ask(connection, **deadlines)
            if kind is DeadlineKind.IDLE:
                connection.data_received(ANSWER[:-1])
                await second.receive()
            with pytest.raises(DeadlineExceeded) as raised:
                await second.receive()
            assert (raised.value.kind, raised.value.endpoint_id) == (kind, "e")
            assert str(raised.value).startswith("e: ")
            assert kind in str(raised.value), "the log says which one"
            assert loop.time() == pytest.approx(began + 60)
            assert transport.aborted
        assert unhandled == []

    run_virtually(main())


def test_a_timer_that_fires_on_a_free_connection_does_nothing() -> None:
    """And the next request has its deadlines all the same; so has one whose reader came back late."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        unhandled: list[object] = []
        loop.set_exception_handler(lambda _, context: unhandled.append(context))
        connection, _, _ = made()
        first = ask(connection, first_byte_at=loop.time() + 10)
        waiting = asyncio.ensure_future(first.receive())
        await asyncio.sleep(0)
        connection.data_received(ANSWER)
        await waiting
        await asyncio.sleep(20)
        assert connection.usable
        began = loop.time()
        second = ask(connection, first_byte_at=began + 7)
        with pytest.raises(DeadlineExceeded):
            await second.receive()
        assert loop.time() == pytest.approx(began + 7)
        connection, _, transport = made()
        slow = ask(connection, first_byte_at=loop.time() + 10, idle_seconds=3)
        connection.data_received(ANSWER[:-1])
        await slow.receive()
        waiting = asyncio.ensure_future(slow.receive())
        await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.sleep(20)
        assert not transport.aborted, "nobody waited"
        began = loop.time()
        with pytest.raises(DeadlineExceeded):
            await slow.receive()
        assert loop.time() == pytest.approx(began + 3)
        assert unhandled == []

    run_virtually(main())


def test_an_earlier_deadline_moves_the_timer() -> None:
    """Whoever waits for a minute and then for a second fails after the second, and no timer is left."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        connection, _, _ = made()
        response = ask(connection, first_byte_at=loop.time() + 60, idle_seconds=1)
        waiting = asyncio.ensure_future(response.receive())
        await asyncio.sleep(0)
        connection.data_received(ANSWER[:-1])
        await waiting
        began = loop.time()
        with pytest.raises(DeadlineExceeded):
            await response.receive()
        assert loop.time() == pytest.approx(began + 1)
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []  # type: ignore[attr-defined]

    run_virtually(main())


@pytest.mark.parametrize("more", [0, 1])
def test_bytes_without_a_body_are_bounded(more: int) -> None:
    """So many in all, in whatever reads they come; a piece of the body is progress, and the count begins anew."""

    async def main() -> None:
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        connection, _, _ = made(Limits(head_bytes=len(head)))
        response = ask(connection)
        connection.data_received(head[:20])
        connection.data_received(head[20:])
        connection.data_received(b"1\r\nx")
        extension = b"\r\n1;" + b"y" * (len(head) - 4 + more)
        connection.data_received(extension[:9])
        connection.data_received(extension[9:])
        assert await response.receive() == b"x"
        if more:
            with pytest.raises(ProtocolError) as raised:
                await response.receive()
            assert raised.value.endpoint_id == "e"
        else:
            connection.data_received(b"")
            assert connection._response is response

    run_virtually(main())


@pytest.mark.parametrize(("count", "allowed"), [(3, True), (4, False)])
def test_the_number_of_headers_is_bounded(count: int, allowed: bool) -> None:
    """Exactly as many as allowed are taken."""

    async def main() -> None:
        connection, _, _ = made(Limits(header_count=3))
        response = ask(connection)
        connection.data_received(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * (count - 1) + b"content-length: 0\r\n\r\n")
        if allowed:
            assert await response.receive() == b""
        else:
            with pytest.raises(ProtocolError):
                await response.receive()

    run_virtually(main())


def test_bytes_that_nobody_asked_for_end_a_connection() -> None:
    """It is out of step: whatever they are."""

    async def main() -> None:
        connection, _, transport = made()
        connection.data_received(ANSWER)
        assert transport.aborted
        assert not connection.usable

    run_virtually(main())


def test_dropping_tells_a_reader() -> None:
    """In use or not, the connection is closed; whoever reads gets an error."""

    async def main() -> None:
        for busy in (True, False):
            connection, _, transport = made()
            response = ask(connection)
            if not busy:
                connection.data_received(ANSWER)
            connection.drop()
            assert transport.aborted
            assert not connection.usable
            if busy:
                with pytest.raises(BodyBroken) as raised:
                    await response.receive()
                assert raised.value.endpoint_id == "e"

    run_virtually(main())


def test_of_a_head_alone_nothing_more_is_awaited() -> None:
    """The length that it tells is that of another answer; the connection is not fit for a further request."""

    async def main() -> None:
        connection, owner, transport = made()
        response = ask(connection, head_only=True)
        connection.data_received(ANSWER[:-2])
        assert (response.status, response.complete, await response.receive()) == (200, True, b"")
        assert (owner.told, transport.aborted) == (["open"], True)

    run_virtually(main())


@pytest.mark.parametrize(
    ("came", "lost", "says"),
    [
        (b"", None, "connection closed before the response"),
        (
            b"HTTP/1.1 200 OK\r\ncont",
            ConnectionResetError(),
            "connection lost (ConnectionResetError) before the response",
        ),
        (ANSWER[:-1], None, "connection closed in the body"),
        (ANSWER[:-1], ConnectionResetError(), "connection lost (ConnectionResetError) in the body"),
    ],
)
def test_what_is_told_of_a_loss(came: bytes, lost: Exception | None, says: str) -> None:
    """Where it was, and how; the owner is told once, and a transport that is gone is not touched any more."""

    async def main() -> None:
        connection, owner, _ = made()
        response = ask(connection)
        if came:
            connection.data_received(came)
        connection.eof_received()
        connection.connection_lost(lost)
        assert owner.told == ["open", "closed"]
        assert not connection.usable
        connection.resume()
        connection.abort()
        if response.status:
            assert await response.receive() == b"o"
        with pytest.raises(UpstreamError) as raised:
            await response.receive()
        assert str(raised.value) == f"e: {says}"

    run_virtually(main())
