"""One connection of a client: requests come one after the other, and are answered in that order.

Everything about it is bounded: the size of heads and trailers, the number of headers, the bytes of a body that nobody
has read, and the time for everything that the client has to do.
"""

import asyncio
import logging
import math
from collections import deque
from typing import TYPE_CHECKING, Final, cast

import httptools

from capstan_gateway.api.errors import error_response, retry_after
from capstan_gateway.errors import ClientGone, GatewayError, HeadersTooLarge, InvalidRequest, Overloaded
from capstan_gateway.headers import header_lines
from capstan_gateway.serving.exchange import STATUS_LINES, Exchange
from capstan_gateway.serving.wire import ClientWire

if TYPE_CHECKING:
    from capstan_gateway.serving.listener import Handler, Listener

log = logging.getLogger(__name__)

HEAD_SECONDS: Final = 30.0
"""How long a connection may take to send the head of its first request, or to end what it began after an answer."""
KEEP_ALIVE_SECONDS: Final = 75.0
"""How long it may be idle between two requests."""
MAX_HEADERS: Final = 200
CONNECT: Final = b"CONNECT"


class ClientConnection(ClientWire):
    """asyncio protocol and httptools parser in one object."""

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
        self._pipelined: deque[Exchange] = deque()
        self._awaits_head = True
        """Whether the deadline is that of a head, and not of being idle."""

    # --- for the listener and the exchanges -------------------------------------------------------------------------

    def resume_reading(self) -> None:
        """Read again, but not while requests wait that were read already."""
        if not self._pipelined:
            super().resume_reading()

    def on_answered(self, exchange: Exchange) -> None:
        """Go on with the next request, or close."""
        self._current = None
        if not exchange.keep_alive:
            self.close()
        elif self.paused:
            # A client that does not read its answers gets no further ones.
            self.pause_reading()
            self._awaits_head = False
            self._set_deadline(KEEP_ALIVE_SECONDS)
        elif self._pipelined:
            self._begin_next()
        else:
            if self._reading_paused:
                self.resume_reading()
            if not self._in_head:
                self._awaits_head = False
                self._set_deadline(KEEP_ALIVE_SECONDS)

    def on_abandoned(self) -> None:
        """Close in the middle of an answer, or without one."""
        self._current = None
        self._close_now()

    def shut_down(self) -> None:
        """Close when nothing is to be answered any more."""
        if self._current is None:
            self.close()
        else:
            self._last_pending(self._current).keep_alive = False

    def cancel(self) -> None:
        """Cut off what is being answered, or what was answered and is not read."""
        if self._current is not None and self._current.task is not None:
            self._current.task.cancel()
        elif self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close behind what was sent; what the client is still sending is not left unread."""
        transport, arriving = self._transport, self._arriving
        if transport is None or transport.is_closing() or self._discarding:
            return
        if self._parser is not None and (arriving is None or arriving.body_complete):
            self._close_now()
            return
        self._parser = None
        self._pipelined.clear()
        self._close_behind_upload()

    # --- asyncio protocol -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse when there are too many connections."""
        self._transport = cast(asyncio.Transport, transport)
        listener = self._listener
        listener.connections.add(self)
        if listener.closing:
            self._close_now()
            return
        if len(listener.connections) > listener.limits.max_connections:
            listener.on_refused()
            self._write_refusal(Overloaded("the gateway has too many connections; try again", headers=retry_after(1.0)))
            self._close_now()
            return
        self._set_deadline(HEAD_SECONDS)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - how it ended makes no difference
        """Let everybody know who waits for the client."""
        self._listener.on_lost(self)
        self._stop_timer()
        self._transport = None
        # Both hold us, and would leave that to the garbage collector.
        self._parser = self._arriving = None
        current, self._current = self._current, None
        if current is not None:
            current.on_lost()
        for exchange in self._pipelined:
            exchange.on_lost()
        self._pipelined.clear()

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self.paused = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self.paused = False
        if self._current is not None:
            self._current.wake()
        elif self._transport is not None and not self._transport.is_closing():
            if self._pipelined:
                if self._in_head:
                    self._awaits_head = True
                    self._set_deadline(HEAD_SECONDS)
                else:
                    self._deadline = math.inf
                self._begin_next()
            else:
                self.resume_reading()

    def on_deadline(self) -> None:
        """Close, behind answers that are on their way."""
        if self._current is None:
            self.close()
        else:
            self._last_pending(self._current).keep_alive = False

    def eof_received(self) -> None:
        """The client has gone, or is taken for that: nobody who waits for an answer closes one direction alone."""
        if self._current is not None and self._transport is not None:
            self._transport.abort()
        else:
            self._close_now()

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
            self._refuse(HeadersTooLarge(f"the request's trailers are larger than {self._max_head_bytes} bytes"))
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
                self._refuse(InvalidRequest("the request is not HTTP/1.1"))
            return
        if self._in_head and not self._head_bytes:
            # What came may have been the end of another request as well: only what is known of this one counts.
            self._head_bytes = self._size_of_head()
        if (self._in_head or self._current is None) and not self._awaits_head:
            # What came is half a head, or belongs to a request that has its answer already.
            self._awaits_head = True
            self._set_deadline(HEAD_SECONDS)

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
        if self._current is None:
            self._begin(exchange)
        else:
            self._pipelined.append(exchange)
            self.pause_reading()

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

    def _begin(self, exchange: Exchange) -> None:
        self._current = exchange
        handler = self._listener.handlers.get(exchange.target) or self._listener.handler(exchange.target)
        exchange.task = self._loop.create_task(self._serve(exchange, handler))

    def _begin_next(self) -> None:
        self._begin(self._pipelined.popleft())
        self.resume_reading()

    def _last_pending(self, current: Exchange) -> Exchange:
        return self._pipelined[-1] if self._pipelined else current

    async def _serve(self, exchange: Exchange, handler: "Handler") -> None:
        try:
            await handler(exchange)
        except ClientGone:
            pass  # Nobody is there to be told.
        except Exception as error:
            if not isinstance(error, GatewayError):
                log.exception("a request's handler failed")
                error = GatewayError("the gateway failed")
            if not exchange.started:
                status, headers, body = error_response(error, b"none")
                exchange.respond(status, header_lines(headers), body)
        finally:
            if not exchange.complete:
                exchange.abandon()

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
        self._refuse(HeadersTooLarge(f"the request's head is larger than {self._max_head_bytes} bytes"))

    def _refuse(self, error: GatewayError) -> None:
        """Read no further, and say why: in the answer to the request that is broken, or else behind all others."""
        transport, current = self._transport, self._current
        if transport is None or transport.is_closing():
            return
        self._parser = None
        if current is None:
            self._write_refusal(error)
            self.close()
            return
        last = self._last_pending(current)
        if last.body_complete:
            # It could not tell which request is meant: to end behind the others is clear.
            last.keep_alive = False
        else:
            last.on_broken(error)

    def _write_refusal(self, error: GatewayError) -> None:
        status, headers, body = error_response(error, b"none")
        self.write(b"%b%bconnection: close\r\n\r\n%b" % (STATUS_LINES[status], header_lines(headers), body))


def _make_parser(connection: ClientConnection) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(connection)
    # What follows a request that ends the connection is ignored, and must not spoil the answer to it.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def _size(header: tuple[bytes, bytes]) -> int:
    return len(header[0]) + len(header[1]) + 4
