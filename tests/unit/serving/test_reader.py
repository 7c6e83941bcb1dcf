"""From bytes to requests, without a connection: what each head says, what is refused, what is left for later."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from capstan_gateway.errors import GatewayError
from capstan_gateway.headers import Header
from capstan_gateway.serving.request_reader import MAX_HEADERS, SLICE, RequestReader

MAX_HEAD = 1000


@dataclass
class Got:
    """One request as it was read."""

    method: bytes
    target: bytes
    headers: list[Header]
    length: int | None
    modern: bool
    keep_alive: bool
    expects_continue: bool
    body: list[bytes] = field(default_factory=list)
    complete: bool = False

    def on_body(self, piece: bytes) -> None:
        """Take a piece."""
        self.body.append(piece)

    def on_body_complete(self) -> None:
        """It is whole."""
        self.complete = True


class Sink:
    """Implements `serving.port.Sink`: keeps the requests, and waits when a test says so."""

    def __init__(self, *, max_head_bytes: int = MAX_HEAD, room: int = 1 << 30) -> None:
        self.requests: list[Got] = []
        self.refused: list[tuple[GatewayError, list[Header]]] = []
        self.targets: list[bytes] = []
        self.half_heads: list[int] = []
        self.answering = False
        self.waits_behind = 1 << 30
        self._room = room
        self.reader = RequestReader(self, max_head_bytes=max_head_bytes)

    @property
    def waiting(self) -> bool:
        """Whether requests wait."""
        return len(self.requests) >= self.waits_behind

    def on_head(
        self, method: bytes, target: bytes, headers: list[Header], *, length: int | None, modern: bool,
        keep_alive: bool, expects_continue: bool,
    ) -> Got:  # fmt: skip
        """Keep it."""
        self.requests.append(Got(method, target, headers, length, modern, keep_alive, expects_continue))
        return self.requests[-1]

    def on_half_head(self, size: int) -> bool:
        """Keep its size."""
        self.half_heads.append(size)
        return size <= self._room

    def on_refused(self, error: GatewayError, headers: Any = (), target: bytes = b"") -> None:
        """Keep it."""
        self.refused.append((error, list(headers)))
        self.targets.append(target)

    def read(self, *pieces: bytes) -> "Sink":
        """Read these."""
        for piece in pieces:
            assert self.reader.feed(piece) == b""
        return self

    @property
    def told(self) -> tuple[int, str]:
        """Status and message of the one refusal."""
        ((error, _),) = self.refused
        assert self.reader.stopped
        return error.status, error.message


def head(*lines: bytes, start: bytes = b"GET /x HTTP/1.1", host: bytes = b"host: h") -> bytes:
    """Give a head."""
    return b"".join(line + b"\r\n" for line in (start, *([host] if host else []), *lines)) + b"\r\n"


def test_what_a_head_says() -> None:
    """Method, target and headers as they came, names in lower case; whether the connection goes on."""
    sink = Sink()
    assert (sink.reader.in_head, sink.reader.stopped) == (False, False)
    (got,) = sink.read(head(b"X-Thing: A b", b"x-thing:c")).requests
    assert (got.method, got.target) == (b"GET", b"/x")
    assert got.headers == [(b"host", b"h"), (b"x-thing", b"A b"), (b"x-thing", b"c")]
    assert (got.length, got.modern, got.keep_alive, got.expects_continue) == (None, True, True, False)
    assert (got.body, got.complete) == ([], True)


@pytest.mark.parametrize(
    ("sent", "modern", "keep_alive", "expects"),
    [
        (head(b"connection: close"), True, False, False),
        (head(start=b"GET /x HTTP/1.0"), False, False, False),
        (head(b"connection: keep-alive", start=b"GET /x HTTP/1.0"), False, False, False),
        (head(b"proxy-connection: keep-alive", start=b"GET /x HTTP/1.0"), False, False, False),
        (head(b"connection: keep-alive"), True, True, False),
        (head(b"expect: 100-continue", b"content-length: 1"), True, True, True),
        (head(b"Expect:  100-CONTINUE ", b"content-length: 1"), True, True, True),
        (head(b"expect: 100-continue", b"expect: other"), True, True, True),
        (head(b"expect: other"), True, True, False),
        (head(b"expect: 100-continue", start=b"GET /x HTTP/1.0"), False, False, False),
        (head(start=b"CONNECT h:1 HTTP/1.1"), True, False, False),
    ],
)
def test_what_a_head_says_of_its_connection(sent: bytes, modern: bool, keep_alive: bool, expects: bool) -> None:
    """HTTP/1.0 ends with its answer, and neither knows chunks nor asks first; CONNECT is no tunnel, and the last."""
    sink = Sink().read(sent)
    (got,) = sink.requests
    assert (got.modern, got.keep_alive, got.expects_continue) == (modern, keep_alive, expects)
    assert not sink.reader.in_head


def test_a_length_is_told() -> None:
    """As a number; of chunks nobody knows it."""
    (got,) = Sink().read(head(b"content-length:  5 ") + b"hello").requests
    assert (got.length, got.body, got.complete) == (5, [b"hello"], True)
    (got,) = Sink().read(head(b"transfer-encoding: chunked"), b"2\r\nab\r\n", b"0\r\n\r\n").requests
    assert (got.length, got.body, got.complete) == (None, [b"ab"], True)


def test_a_target_may_come_in_parts() -> None:
    """However a head is cut, nothing of the one before it is left in it."""
    sink = Sink()
    for _ in range(2):
        for byte in head(b"a: b", start=b"GET /abc?d HTTP/1.1"):
            sink.read(bytes([byte]))
    assert [(got.target, got.headers) for got in sink.requests] == [(b"/abc?d", [(b"host", b"h"), (b"a", b"b")])] * 2


@pytest.mark.parametrize(
    ("sent", "status", "message"),
    [
        (head(host=b""), 400, "the request has no `Host` header"),
        (head(b"host: h"), 400, "the request has more than one `Host` header"),
        (head(start=b"GET * HTTP/1.1"), 400, "the target `*` is for OPTIONS"),
        (head(start=b"GET /x#y HTTP/1.1"), 400, "the request's target has a fragment"),
        (head(start=b"GET h:1 HTTP/1.1"), 400, None),
        (
            head(b"transfer-encoding: gzip", b"transfer-encoding: chunked"),
            400,
            "the request's framing is not clear: `Transfer-Encoding` must stand alone in HTTP/1.1",
        ),
        (head(b"transfer-encoding: gzip"), 501, "the only transfer coding is `chunked`"),
        (head(b"transfer-encoding: chunked", start=b"GET /x HTTP/1.0"), 400, None),
        (head(start=b"GET /x HTTP/2.0"), 505, "the request is not HTTP/1.1"),
        (b"nonsense\r\n\r\n", 400, "the request is not HTTP/1.1"),
        (head(b"no colon"), 400, "the request is not HTTP/1.1"),
    ],
)
def test_what_is_refused(sent: bytes, status: int, message: str | None) -> None:
    """Once, with what is wrong; nothing behind it is understood, also where good heads came before it."""
    for before in (b"", head()):
        sink = Sink()
        sink.reader.feed(before + sent + head())
        sink.read(head())
        told = sink.told
        assert told[0] == status
        assert message is None or told[1] == message
        assert len(sink.requests) == (before != b"")


def test_a_refusal_has_the_headers_and_the_target_that_were_read() -> None:
    """Of the head that is refused, and of no other: behind a good one there are none."""
    sink = Sink()
    sink.reader.feed(head(b"a: b") + head(b"c: d", b"host: h"))
    assert sink.refused[0][1] == [(b"host", b"h"), (b"c", b"d"), (b"host", b"h")]
    half = Sink()
    half.reader.feed(b"GET /x HTTP/1.1\r\nhost: h\r\na: b\r\nno colon\r\n")
    assert half.refused[0][1][:1] == [(b"host", b"h")]
    behind = Sink()
    behind.read(head(b"a: b", b"transfer-encoding: chunked"), b"no chunk\r\n")
    assert behind.refused[0][1] == []
    assert (sink.targets, half.targets, behind.targets) == ([b"/x"], [b"/x"], [b""])


# --- bounds ----------------------------------------------------------------------------------------------------------


def sized(size: int) -> bytes:
    """Give a head of so many bytes."""
    empty = len(head(b"a: "))
    return head(b"a: " + b"x" * (size - empty))


def test_a_head_is_bounded() -> None:
    """In one read by what stands in it, in several by their bytes; the bound itself is allowed."""
    inside = MAX_HEAD - len(b"/x") - len(b"hosth") - 4 - len(b"a") - 4
    for size, refused in ((inside, False), (inside + 1, True)):
        sink = Sink()
        sink.read(head(b"a: " + b"x" * size, *[]))
        # A read that is no larger than the bound needs no counting.
        assert bool(sink.refused) is (refused and len(head(b"a: " + b"x" * size)) > MAX_HEAD)
    assert Sink().read(sized(MAX_HEAD)).refused == []
    sink = Sink().read(sized(MAX_HEAD + 100))
    assert sink.told == (431, f"the request's head is larger than {MAX_HEAD} bytes")
    whole = sized(MAX_HEAD)
    sink = Sink().read(*[whole[at : at + 100] for at in range(0, MAX_HEAD, 100)])
    assert (sink.refused, len(sink.requests)) == ([], 1)
    whole = sized(MAX_HEAD + 1)  # Of its first byte nothing is counted: nothing is known of it yet.
    sink = Sink().read(whole[:1], whole[1:MAX_HEAD], whole[MAX_HEAD:] + head())
    assert (sink.refused, len(sink.requests)) == ([], 2)
    sink = Sink().read(b"G", b"ET /" + b"x" * (MAX_HEAD - 4))
    assert sink.refused == []
    sink.read(b"x")
    assert sink.told[0] == 431
    whole = sized(MAX_HEAD + 100)
    sink = Sink().read(*[whole[at : at + 100] for at in range(0, MAX_HEAD + 100, 100)])
    assert sink.told[0] == 431
    assert sink.requests == []


def test_what_is_behind_a_head_does_not_count_as_one() -> None:
    """A body that comes with the end of its head, or the beginning of a head with the end of a body."""
    whole = head(b"content-length: 3000", start=b"POST /x HTTP/1.1") + b"z" * 3000
    sink = Sink().read(whole[:20], whole[20:])
    assert (sink.refused, b"".join(sink.requests[0].body)) == ([], b"z" * 3000)
    sink = Sink().read(whole + head()[:10])
    assert sink.half_heads[-1] <= 10
    sink.read(head()[10:])
    assert (sink.refused, len(sink.requests)) == ([], 2)


def test_the_number_of_headers_is_bounded() -> None:
    """The bound is allowed, host included; one more is not, whether the head is whole or goes on."""
    sink = Sink(max_head_bytes=100_000).read(head(*[b"a: b"] * (MAX_HEADERS - 1)))
    assert (sink.refused, len(sink.requests)) == ([], 1)
    sink = Sink(max_head_bytes=100_000).read(head(*[b"a: b"] * MAX_HEADERS))
    assert sink.told[0] == 431
    sink = Sink(max_head_bytes=100_000)
    whole = head(*[b"a: b"] * (MAX_HEADERS - 1))
    sink.read(whole[:-1], whole[-1:])
    assert (sink.refused, len(sink.requests)) == ([], 1)
    sink = Sink(max_head_bytes=100_000)
    sink.read(*[line + b"\r\n" for line in head(*[b"a: b"] * (MAX_HEADERS + 3)).split(b"\r\n")[:-2]])
    assert sink.told[0] == 431
    assert sink.requests == []


def test_trailers_are_bounded() -> None:
    """Whatever has come since the last piece of the body; a body in many pieces is no trailer."""
    sink = Sink()
    sink.read(head(b"transfer-encoding: chunked", start=b"POST /x HTTP/1.1"))
    for _ in range(50):
        sink.read(b"64\r\n" + b"z" * 100 + b"\r\n")
    sink.read(b"0\r\n")
    for _ in range(9):
        sink.read(b"t: " + b"y" * 95 + b"\r\n")
    assert sink.refused == []
    for _ in range(5):
        sink.read(b"t: " + b"y" * 95 + b"\r\n")
    assert sink.told == (431, f"the request's trailers are larger than {MAX_HEAD} bytes")
    assert not sink.requests[0].complete
    exact = Sink().read(head(b"transfer-encoding: chunked"), b"1\r\na\r\n", b"0\r\n")
    exact.read(b"t: " + b"y" * (MAX_HEAD - 8) + b"\r\n", b"\r\n")
    assert (exact.refused, exact.requests[0].complete) == ([], True)
    short = Sink().read(head(b"transfer-encoding: chunked"), b"1\r\na\r\n0\r\nt: y\r\n\r\n", head())
    assert [got.headers[-1][0] for got in short.requests] == [b"transfer-encoding", b"host"]


def test_half_heads_are_told() -> None:
    """How much of one has come, so that it is counted; where there is no room for it, it is refused."""
    sink = Sink()
    sink.read(b"GET /x HTTP/1.1\r\nhost: h\r\n", b"a: b\r\n", b"\r\n")
    assert len(sink.half_heads) == 2
    assert 0 < sink.half_heads[0] < sink.half_heads[1] == sink.half_heads[0] + 6
    assert sink.reader.in_head is False
    full = Sink(room=5).read(b"GET /x HTTP/1.1\r\nhost: h\r\n", b"a: b\r\n")
    assert (full.told[0], full.refused[0][0].code) == (503, "overloaded")


# --- more than one ---------------------------------------------------------------------------------------------------


def test_no_more_is_parsed_than_can_be_served() -> None:
    """Of many requests in a large read those behind one that waits are given back as they came."""
    sink = Sink()
    sink.waits_behind = 3
    one = head(b"a: " + b"x" * 300)
    given = one * 20
    assert len(given) > SLICE
    rest = sink.reader.feed(given)
    assert rest == one * 17
    assert len(sink.requests) == 3
    sink.waits_behind = 1 << 30
    assert sink.reader.feed(rest) == b""
    assert len(sink.requests) == 20


def test_a_body_is_one_step() -> None:
    """However large it is, behind its head; the request behind it is the next step."""
    sink = Sink()
    sink.waits_behind = 2
    first = head(b"content-length: 9000", start=b"POST /x HTTP/1.1")
    rest = sink.reader.feed(first + b"z" * 9000 + head() + head())
    assert rest == head()
    assert [(got.body, got.complete) for got in sink.requests] == [([b"z" * 9000], True), ([], True)]
    sink = Sink().read(head(b"transfer-encoding: chunked") + b"1800\r\n" + b"z" * 6144 + b"\r\n0\r\n\r\n")
    assert [len(piece) > 1000 for piece in sink.requests[0].body] == [True, True]
    sink = Sink()
    sink.waits_behind = 2
    assert sink.reader.feed(first + b"z" * 5000) == b""
    assert sink.reader.feed(b"z" * 4000 + head(b"a: " + b"x" * 200) + head()) == head()
    assert [(got.body, got.complete) for got in sink.requests] == [([b"z" * 5000, b"z" * 4000], True), ([], True)]


def test_lines_in_front_of_a_request_are_a_step() -> None:
    """Empty ones: what is behind them is read head by head all the same."""
    sink = Sink()
    sink.waits_behind = 1
    one = head(b"a: " + b"x" * 300)
    assert sink.reader.feed(b"\r\n\r\n" + one * 20) == one * 19
    assert len(sink.requests) == 1


def test_a_large_head_is_read_in_slices() -> None:
    """One that has no end within a slice goes on with the next."""
    sink = Sink(max_head_bytes=100_000)
    sink.read(sized(3 * SLICE) + head())
    assert (sink.refused, len(sink.requests)) == ([], 2)


def test_a_reader_that_was_stopped_understands_nothing() -> None:
    """What comes then is thrown away, large or small."""
    for piece in (head(), head() * 1000):
        sink = Sink()
        sink.reader.stop()
        assert sink.reader.stopped
        sink.read(piece)
        assert (sink.requests, sink.refused) == ([], [])


def test_what_is_behind_the_last_request_is_no_fault() -> None:
    """A request that ends its connection is served, whatever its client sends behind it."""
    for rest in (head(), b"\0" * 100, b"nonsense\r\n\r\n"):
        sink = Sink().read(head(b"connection: close") + rest)
        assert (len(sink.requests), sink.refused) == (1, [])


def test_a_reader_that_is_stopped_within_a_read_goes_no_further() -> None:
    """The request behind the head at which that was done is neither served nor refused, though it came with it."""

    class Stopping(Sink):
        def on_head(self, *given: Any, **more: Any) -> Got:
            self.reader.stop()
            return super().on_head(*given, **more)

    sink = Stopping()
    sink.read(head() + head())
    assert (len(sink.requests), sink.refused) == (1, [])


def test_a_reader_that_was_closed_tells_nobody() -> None:
    """It has let go of everybody, also in the middle of a head or of a body."""
    for beginning in (b"", head()[:9], head(b"content-length: 9")):
        sink = Sink()
        sink.read(beginning)
        before = len(sink.requests)
        sink.reader.close()
        assert sink.reader.stopped
        sink.read(head())
        assert (len(sink.requests), sink.refused) == (before, [])


# --- another protocol ------------------------------------------------------------------------------------------------


def test_an_upgrade_is_left_out() -> None:
    """The request is read without its wish, with its body and what is behind it; its other headers stay."""
    wish = head(b"a: b", b"connection: upgrade", b"upgrade: h2c", b"content-length: 3", start=b"POST /x HTTP/1.1")
    sink = Sink().read(wish + b"abc" + head())
    assert sink.refused == []
    first, second = sink.requests
    assert (first.method, first.target, first.length, b"".join(first.body)) == (b"POST", b"/x", 3, b"abc")
    assert [name for name, _ in first.headers] == [b"host", b"a", b"connection", b"content-length"]
    assert (first.complete, first.keep_alive, second.complete) == (True, True, True)
    sink.read(head(start=b"CONNECT h:1 HTTP/1.1"))
    assert (sink.refused, sink.requests[2].method) == ([], b"CONNECT")


def test_an_upgrade_waits_for_its_turn() -> None:
    """While another request is answered it is refused: what is behind its head would have to be kept."""
    sink = Sink()
    sink.answering = True
    sink.reader.feed(head(b"connection: upgrade", b"upgrade: h2c"))
    assert sink.told == (400, "an upgrade behind other requests")


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (head(start=b"GET /x#y HTTP/1.1"), "the request's target has a fragment"),
        (head(start=b"GET * HTTP/1.1"), "the target `*` is for OPTIONS"),
        (head(host=b"host: a b"), "the `Host` header is no host"),
        (head(b"host: h"), "the request has more than one `Host` header"),
        (head(host=b""), "the request has no `Host` header"),
        (head(b"transfer-encoding: gzip"), "the only transfer coding is `chunked`"),
    ],
)
def test_what_was_good_once_does_not_make_another_head_good(second: bytes, said: str) -> None:
    """Behind a good head of the same connection each one that differs is looked at anew."""
    sink = Sink().read(head(), head(), second)
    assert [got.target for got in sink.requests] == [b"/x", b"/x"]
    assert sink.told[1] == said
