"""From the bytes of a connection to its requests, within bounds. Knows no transport: whoever feeds it reads.

However the bytes are split, the same requests come out. No more is parsed than can be served: when a request waits for
those before it, what lies behind it stays as it came.
"""

from typing import Final

import httptools

from capstan_gateway.errors import GatewayError, HeadersTooLarge, InvalidRequest, Overloaded
from capstan_gateway.headers import Header, header_lines
from capstan_gateway.serving.head import fault_of
from capstan_gateway.serving.port import Receiver, Sink

MAX_HEADERS: Final = 200
SLICE: Final = 4096
"""Bytes that are parsed at once where requests may end: it bounds how many wait, parsed, for one that is answered."""
CONNECT: Final = b"CONNECT"
_CONNECTION: Final = (b"connection", b"proxy-connection")
"""By what a head says whether its connection is kept, to the parser."""
_READ: Final = frozenset((b"host", b"content-length", b"transfer-encoding", b"expect", *_CONNECTION))
_MODERN: Final = "1.1"
KNOWN_BYTES: Final = 256
"""A longer target is not remembered: what an idle connection holds is bounded."""
_END_OF_HEAD: Final = b"\r\n\r\n"


class RequestReader:
    """Parses what a client sends."""

    __slots__ = (
        "_body_left", "_codings", "_expects_continue", "_fault", "_head_bytes", "_headers", "_hosts", "_known_hosts",
        "_known_target", "_length", "_max_head_bytes", "_parser", "_read_bytes", "_receiver", "_says_connection",
        "_sink", "_target", "_trailing_bytes", "_without_upgrade", "in_head",
    )  # fmt: skip

    def __init__(self, sink: Sink, *, max_head_bytes: int) -> None:
        self._sink: Sink | None = sink
        self._receiver: Receiver | None = None
        """Of the request that came last."""
        self._max_head_bytes = max_head_bytes
        self._parser: httptools.HttpRequestParser | None = _make_parser(self)
        """None when nothing more is to be understood of what comes."""
        self._without_upgrade = b""
        """A head that asks for another protocol, as it is without that."""
        self._target = b""
        self._headers: list[Header] = []
        self._hosts: tuple[bytes, ...] = ()
        self._codings: tuple[bytes, ...] = ()
        self._length: int | None = None
        self._expects_continue = self._says_connection = False
        self._known_hosts: tuple[bytes, ...] | None = None
        """A host that was found good: a client says the same one in all its requests."""
        self._known_target = b""
        """A path that was found good."""
        self._fault: GatewayError | None = None
        self.in_head = False
        """Whether a head has begun and is not complete."""
        self._head_bytes = 0
        self._read_bytes = 0
        self._body_left = 0
        """What is still to come of a body whose length was told."""
        self._trailing_bytes = 0
        """What came since the last piece of a body: once a head is complete, only trailers can make it grow."""

    @property
    def stopped(self) -> bool:
        """Whether nothing more is understood of what comes."""
        return self._parser is None

    def stop(self) -> None:
        """Understand nothing more."""
        self._parser = None

    def close(self) -> None:
        """Let go of everything: the parser holds us, and would leave that to the garbage collector."""
        self._parser = self._sink = self._receiver = self._fault = None
        self._headers = []

    def feed(self, data: "bytes | memoryview[int]", in_steps: bool = False) -> bytes:
        """Parse, within bounds; gives what was not parsed because a request waits for those before it.

        `in_steps` says that the bytes are one step of more.
        """
        size, parser = len(data), self._parser
        if size > SLICE and not in_steps:
            return self._in_steps(bytes(data))
        if parser is None:
            return b""
        if self.in_head:
            if self._head_bytes + size > self._max_head_bytes:
                self._receive_head(data)
                return b""
            self._head_bytes += size
        elif self._trailing_bytes > self._max_head_bytes:
            self._refuse(HeadersTooLarge(f"the request's trailers are larger than {self._max_head_bytes} bytes"))
            return b""
        self._read_bytes = size
        self._trailing_bytes += size
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(bytes(data[upgrade.args[0] :]))
        except httptools.HttpParserError:
            # What a callback of ours raises ends here as well.
            self._refuse(self._fault or InvalidRequest("the request is not HTTP/1.1"))
            return b""
        if self.in_head:
            self._look_at_half_head()
        return b""

    def _in_steps(self, data: bytes) -> bytes:
        """Parse one head, or one body, at a time."""
        size, view, at = len(data), memoryview(data), 0
        while at < size and self._parser is not None and self._sink is not None:
            if self._sink.waiting:
                return data[at:]
            step = self._body_left
            if not step:
                end = data.find(_END_OF_HEAD, at, at + SLICE)
                step = end + len(_END_OF_HEAD) - at if end >= 0 else SLICE
            self.feed(view[at : at + step], in_steps=True)
            at += step
        return b""

    # --- httptools callbacks ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A head begins."""
        self.in_head = True
        self._head_bytes = self._trailing_bytes = self._body_left = 0
        self._target = b""
        self._headers = []
        self._hosts = self._codings = ()
        self._length = None
        self._expects_continue = self._says_connection = False

    def on_url(self, url: bytes) -> None:
        """Collect the target, which may come in parts."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header; trailers are dropped."""
        if not self.in_head:
            return
        name = name.lower()
        if name in _READ:
            if name == b"host":
                self._hosts += (value,)
            elif name == b"content-length":
                self._length = int(value) if value.isdigit() or value.strip().isdigit() else None
            elif name == b"transfer-encoding":
                self._codings += (value,)
            elif name in _CONNECTION:
                self._says_connection = True
            else:
                self._expects_continue = value.strip().lower() == b"100-continue" or self._expects_continue
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Serve the request, or let it wait for those before it."""
        parser, sink, headers = self._parser, self._sink, self._headers
        if parser is None or sink is None:
            return
        self.in_head = False
        # A head that is larger than the bound comes in several steps, or with a read that is.
        suspicious = self._head_bytes or self._read_bytes > self._max_head_bytes
        if (suspicious and self._size_of_head() > self._max_head_bytes) or len(headers) > MAX_HEADERS:
            self._fail(self._too_large())
        method, upgrade, keep_alive = parser.get_method(), parser.should_upgrade(), parser.should_keep_alive()
        # Only HTTP/1.1 keeps a connection of which nothing is said; the parser makes a text of the version.
        modern = (keep_alive and not self._says_connection) or parser.get_http_version() == _MODERN
        target = self._target
        # Nearly every head is like the one before it, which is told quickly.
        if target != self._known_target or self._hosts != self._known_hosts or not modern or self._codings:
            self._check(method, parser.get_http_version())
        if upgrade and method != CONNECT:
            self._leave_upgrade_out(method, parser.get_http_version())
            return
        length = self._length
        self._body_left = length or 0
        self._receiver = sink.on_head(
            method,
            target,
            headers,
            length=length,
            modern=modern,
            keep_alive=modern and not upgrade and keep_alive,
            expects_continue=modern and self._expects_continue,
        )

    def on_body(self, body: bytes) -> None:
        """Hand a piece of a body on."""
        self._trailing_bytes = 0
        if self._body_left:
            self._body_left -= len(body)
        if self._receiver is not None:
            self._receiver.on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._body_left = 0
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.on_body_complete()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _check(self, method: bytes, version: str) -> None:
        fault = fault_of(
            method=method,
            target=self._target,
            version=version,
            hosts=self._hosts,
            codings=self._codings,
            has_length=self._length is not None,
        )
        if fault is not None:
            self._fail(fault)
        if len(self._hosts) == 1:
            self._known_hosts = self._hosts
        if self._target.startswith(b"/") and len(self._target) <= KNOWN_BYTES:
            self._known_target = self._target

    def _fail(self, fault: GatewayError) -> None:
        """Leave the parser, within one of its callbacks."""
        self._fault = fault
        raise ValueError("refused")

    def _refuse(self, error: GatewayError) -> None:
        self._parser = None
        if self._sink is not None:
            if self.in_head or self._fault is error:
                self._sink.on_refused(error, self._headers, self._target)
            else:  # Behind a head that was good: the request has both already.
                self._sink.on_refused(error)

    def _look_at_half_head(self) -> None:
        if not self._head_bytes:
            # What came may have been the end of another request as well: only what is known of this one counts.
            self._head_bytes = self._size_of_head()
        if len(self._headers) > MAX_HEADERS:
            self._refuse(self._too_large())
        elif self._sink is not None and not self._sink.on_half_head(self._head_bytes):
            self._refuse(Overloaded())

    def _receive_head(self, data: "bytes | memoryview[int]") -> None:
        """Take a read that may be larger than what is left of a head: what lies behind the head does not count."""
        while data and self._parser is not None:
            left = self._max_head_bytes - self._head_bytes if self.in_head else len(data)
            if left <= 0:
                self._refuse(self._too_large())
                return
            self.feed(data[:left], in_steps=True)
            data = data[left:]

    def _size_of_head(self) -> int:
        return len(self._target) + sum(map(_size, self._headers))

    def _leave_upgrade_out(self, method: bytes, version: str) -> None:
        """Note the head as it is without its wish for another protocol: to the parser it would have no body."""
        if self._sink is None or self._sink.answering:
            self._fail(InvalidRequest("an upgrade behind other requests"))
        lines = header_lines([header for header in self._headers if header[0] != b"upgrade"])
        self._without_upgrade = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self._target, version.encode(), lines)

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read a request again without its wish for another protocol; `rest` is what came behind its head."""
        head, self._without_upgrade = self._without_upgrade, b""
        if head:
            self._parser = _make_parser(self)
            self._trailing_bytes = 0
            self.feed(head + rest, in_steps=True)

    def _too_large(self) -> GatewayError:
        return HeadersTooLarge(f"the request's head is larger than {self._max_head_bytes} bytes")


def _make_parser(reader: RequestReader) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(reader)
    # What follows a request that ends the connection is ignored, and must not spoil the answer to it.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def _size(header: Header) -> int:
    return len(header[0]) + len(header[1]) + 4
