"""The reading half of a client's connection: from bytes to requests, within bounds.

asyncio protocol and httptools parser in one object: a second one would cost a call for everything that comes.
"""

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Final

import httptools

from capstan_gateway.errors import GatewayError, HeadersTooLarge, InvalidRequest
from capstan_gateway.headers import header_lines
from capstan_gateway.serving.exchange import Exchange
from capstan_gateway.serving.wire import ClientWire

if TYPE_CHECKING:
    from capstan_gateway.serving.listener import Listener

HEAD_SECONDS: Final = 30.0
"""How long a connection may take to send the head of its first request, or to end what it began after an answer."""
MAX_HEADERS: Final = 200
CONNECT: Final = b"CONNECT"


class RequestReader(ClientWire):
    """The part of a connection that knows what a request looks like."""

    def __init__(self, listener: "Listener") -> None:
        super().__init__(listener.loop)
        self._listener = listener
        self._max_head_bytes = listener.limits.max_head_bytes
        self._parser: httptools.HttpRequestParser | None = _make_parser(self)
        """None when nothing more is to be understood of what comes."""
        self._without_upgrade = b""
        """A head that asks for another protocol, as it is without that."""
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects_continue = False
        self._in_head = False
        self._head_bytes = 0
        self._read_bytes = 0
        self._trailing_bytes = 0
        """What came since the last piece of a body: once a head is complete, only trailers can make it grow."""
        self._arriving: Exchange | None = None
        """Whose body comes now, or came last."""
        self._current: Exchange | None = None
        """Whose answer is being made."""
        self._awaits_head = True
        """Whether the deadline is that of a head, and not of being idle."""

    @abstractmethod
    def on_request(self, exchange: Exchange) -> None:
        """Serve a request, or let it wait for those before it; its body may still be on its way."""

    @abstractmethod
    def on_answered(self, exchange: Exchange) -> None:
        """Take note that a request has its whole answer."""

    @abstractmethod
    def on_abandoned(self) -> None:
        """Take note that a request will not have a whole answer."""

    @abstractmethod
    def on_refused(self, error: GatewayError) -> None:
        """Take note that what comes is no request, or none that could be served."""

    def data_received(self, data: bytes) -> None:
        """Parse, within bounds."""
        size, parser = len(data), self._parser
        if parser is None:
            return
        if self._in_head:
            if self._head_bytes + size > self._max_head_bytes:
                self._receive_head(data)
                return
            self._head_bytes += size
        elif self._trailing_bytes > self._max_head_bytes:
            self.on_refused(HeadersTooLarge(f"the request's trailers are larger than {self._max_head_bytes} bytes"))
            return
        self._read_bytes = size
        self._trailing_bytes += size
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            if self._head_bytes > self._max_head_bytes:
                self._refuse_head()
            else:
                self.on_refused(InvalidRequest("the request is not HTTP/1.1"))
            return
        if self._in_head and not self._head_bytes:
            # What came may have been the end of another request as well: only what is known of this one counts.
            self._head_bytes = self._size_of_head()
        if (self._in_head or self._current is None) and not self._awaits_head:
            # What came is half a head, or belongs to a request that has its answer already.
            self._await_head()

    # --- httptools callbacks ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = True
        self._head_bytes = self._trailing_bytes = 0
        self._target = b""
        self._headers = []
        self._expects_continue = False

    def on_url(self, url: bytes) -> None:
        """Collect the target, which may come in parts."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header; trailers are dropped."""
        if not self._in_head:
            return
        name = name.lower()
        if name == b"expect" and value.strip().lower() == b"100-continue":
            self._expects_continue = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Serve the request, or let it wait for those before it."""
        parser, headers = self._parser, self._headers
        if parser is None:
            return
        self._in_head = False
        # A head that is larger than the bound can only come with a read that is.
        too_large = self._read_bytes > self._max_head_bytes and self._size_of_head() > self._max_head_bytes
        if too_large or len(headers) > MAX_HEADERS:
            # The parser makes an error of its own of this one, which ends in `data_received`.
            self._head_bytes = self._max_head_bytes + 1
            raise ValueError("head too large")
        method, version, upgrade = parser.get_method(), parser.get_http_version(), parser.should_upgrade()
        if upgrade and method != CONNECT:
            self._leave_upgrade_out(method, version)
            return
        modern = version == "1.1"
        exchange = Exchange(
            self, method, self._target, headers,
            keep_alive=modern and not upgrade and parser.should_keep_alive(),
            chunked=modern,
            expects_continue=modern and self._expects_continue,
        )  # fmt: skip
        self._arriving = exchange
        self._deadline, self._awaits_head = math.inf, False
        self.on_request(exchange)

    def on_body(self, body: bytes) -> None:
        """Hand a piece of a body on, unless its request has its answer already."""
        self._trailing_bytes = 0
        exchange = self._arriving
        if exchange is not None and not exchange.complete:
            exchange.on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self._arriving is not None:
            self._arriving.on_body_complete()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _await_head(self) -> None:
        self._awaits_head = True
        self._set_deadline(HEAD_SECONDS)

    def _receive_head(self, data: bytes) -> None:
        """Take a read that may be larger than what is left of a head: what lies behind the head does not count."""
        while data and self._parser is not None:
            left = self._max_head_bytes - self._head_bytes if self._in_head else len(data)
            if left <= 0:
                self._refuse_head()
                return
            self.data_received(data[:left])
            data = data[left:]

    def _size_of_head(self) -> int:
        return len(self._target) + sum(map(_size, self._headers))

    def _leave_upgrade_out(self, method: bytes, version: str) -> None:
        """Note the head as it is without its wish for another protocol: to the parser it would have no body."""
        if self._current is not None:
            raise ValueError("an upgrade behind other requests")
        lines = header_lines([header for header in self._headers if header[0] != b"upgrade"])
        self._without_upgrade = b"%b %b HTTP/%b\r\n%b\r\n" % (method, self._target, version.encode(), lines)

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read a request again without its wish for another protocol; `rest` is what came behind its head."""
        head, self._without_upgrade = self._without_upgrade, b""
        if head:
            self._parser = _make_parser(self)
            self._trailing_bytes = 0
            self.data_received(head + rest)

    def _refuse_head(self) -> None:
        self.on_refused(HeadersTooLarge(f"the request's head is larger than {self._max_head_bytes} bytes"))


def _make_parser(reader: RequestReader) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(reader)
    # What follows a request that ends the connection is ignored, and must not spoil the answer to it.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def _size(header: tuple[bytes, bytes]) -> int:
    return len(header[0]) + len(header[1]) + 4
