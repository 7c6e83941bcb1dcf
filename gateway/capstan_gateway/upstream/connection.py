"""One HTTP/1.1 connection: asyncio protocol and httptools parser in one object.

It serves one exchange at a time and is reused only when the exchange ended cleanly: the body came to its end, the
server means to keep the connection, nothing came after the body, and the request had been sent completely.

Deadlines cost nothing while all goes well. The connection has one timer, which is not moved when a deadline moves
later: when it fires it looks at the deadline in force and is set again if that lies ahead.
"""

import asyncio
import math
from typing import Final, Protocol, cast

import httptools

from capstan_gateway.upstream.errors import (
    BodyBroken,
    ConnectionLost,
    DeadlineExceeded,
    DeadlineKind,
    ProtocolError,
    UpstreamError,
)
from capstan_gateway.upstream.limits import Limits
from capstan_gateway.upstream.response import Response

JOIN_BYTES: Final = 64 * 1024
"""Up to this size a body is sent in one write with its head."""
SWITCHING_PROTOCOLS: Final = 101


class Owner(Protocol):
    """Who keeps the connections: told when one is open, when it is gone, and whenever it is free again.

    One that was given up before it was made is never open.
    """

    def on_open(self, connection: "Connection") -> None:
        """Take note that a connection came about."""
        ...

    def on_idle(self, connection: "Connection") -> None:
        """Take note that a connection can be used again."""
        ...

    def on_closed(self, connection: "Connection") -> None:
        """Take note that a connection is gone."""
        ...


class Connection(asyncio.Protocol):
    """A connection to an endpoint, and the exchange that it is busy with."""

    def __init__(self, endpoint_id: str, limits: Limits, owner: Owner) -> None:
        self.endpoint_id = endpoint_id
        self.idle_since = 0.0
        self._limits = limits
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        """Parts of the body that came in one read, of what lies behind it as well."""
        self.on_body: Final = self._parts.append
        """httptools calls it for each chunk: a method that does the same takes twice as long."""
        self._parser: httptools.HttpResponseParser | None = None
        """It holds our bound methods, so the pair is a circle: there is one only while there is a transport, whose
        loss parts it. Nobody tells a connection that was refused."""
        self._response: Response | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._parts_over = -1
        """How many of the parts belong to a response that is over, once something came behind it."""
        self._overhead = 0
        self._violation: str | None = None
        self._message_over = False
        self._informational = False
        self.reusable = True
        """Whether it may serve another exchange behind the one that it is busy with; False as soon as it is lost."""
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._deadline = math.inf
        self._deadline_kind = DeadlineKind.TOTAL

    # --- for the client ---------------------------------------------------------------------------------------------

    def start(
        self,
        head: bytes,
        body: bytes,
        first_byte_at: float,
        idle_seconds: float,
        expires_at: float,
        head_only: bool,
    ) -> Response:
        """Send a request and give the response that will be filled."""
        transport = self._transport
        assert transport is not None, "a connection is handed out only after it is made"  # noqa: S101
        response = Response(self, self._loop, first_byte_at, idle_seconds, expires_at, head_only)
        self._response = response
        self._message_over = False
        self._overhead = 0
        if len(body) > JOIN_BYTES:
            transport.write(head)
            transport.write(body)
        else:
            transport.write(head + body if body else head)
        return response

    def abort(self) -> None:
        """Close at once, without sending what is not sent yet."""
        self._response = None
        self.reusable = False
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()

    def drop(self) -> None:
        """Close at once, whatever it is doing; a reader gets an error."""
        if self._response is not None:
            self._response.abort()
        else:
            self.abort()

    @property
    def usable(self) -> bool:
        """Whether a request may be sent."""
        return self.reusable and self._response is None and self._transport is not None

    def set_deadline(self, at: float, kind: DeadlineKind) -> None:
        """Fail the response when its reader still waits at this time."""
        self._deadline = at
        self._deadline_kind = kind
        if at < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = at
            self._timer = self._loop.call_at(at, self._look_at_deadline)

    def resume(self) -> None:
        """Read again, if reading was paused because nobody took what had come."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    # --- asyncio protocol -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; asyncio and uvloop set TCP_NODELAY on it."""
        self._transport = cast(asyncio.Transport, transport)
        if not self.reusable:
            self._transport.abort()  # Whoever wanted it has given it up meanwhile.
            return
        self._parser = httptools.HttpResponseParser(self)
        self._owner.on_open(self)

    def data_received(self, data: bytes) -> None:
        """Parse, and wake the reader once for everything that came in this read."""
        response, parser = self._response, self._parser
        if response is None or parser is None:
            self.abort()  # Nobody asked for anything: whatever it is, the connection is out of step.
            return
        response.began = True
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.reusable = False
            if not self._message_over:
                self._violation = self._violation or f"malformed response: {type(error).__name__}"
        self._deliver(response, len(data))

    def eof_received(self) -> None:
        """The server is done: a body without a length ends here, everything else is cut short."""
        self.reusable = False
        response = self._response
        if response is not None and response.status and not _has_length(response.headers):
            self._end(response)
            response.wake()

    def connection_lost(self, error: Exception | None) -> None:
        """Fail whoever waits, and forget the connection."""
        self.reusable = False
        self._stop_timer()
        response, self._response = self._response, None
        self._transport = None
        self._parser = None
        if response is not None:
            how = "closed" if error is None else f"lost ({type(error).__name__})"
            where = "in the body" if response.status else "before the response"
            kind = BodyBroken if response.status else ConnectionLost
            response.on_error(kind(self.endpoint_id, f"connection {how} {where}"))
        self._owner.on_closed(self)

    # --- httptools callbacks ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A second message where one was asked for: the connection is out of step."""
        if self._message_over:
            self.reusable = False
            if self._parts_over < 0:
                self._parts_over = len(self._parts)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header (or a trailer, which nobody reads)."""
        self._headers.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        """Publish the head, unless it is an informational one."""
        response, parser = self._response, self._parser
        headers, self._headers = self._headers, []
        if response is None or parser is None or self._message_over:
            return
        status = parser.get_status_code()
        if status < 200:
            self._informational = True
            if status == SWITCHING_PROTOCOLS:
                self._violation = "switched protocols without being asked"
            return
        if len(headers) > self._limits.header_count:
            self._violation = f"more than {self._limits.header_count} headers"
            return
        response.headers = headers
        response.status = status

    def on_message_complete(self) -> None:
        """The response is over, unless it was an informational one."""
        if self._informational:
            self._informational = False
            return
        if self._headers:
            self._headers = []
        self._message_over = True
        if self._parser is not None and not self._parser.should_keep_alive():
            self.reusable = False

    # --- inside -----------------------------------------------------------------------------------------------------

    def _deliver(self, response: Response, size: int) -> None:
        parts = self._parts
        if self._parts_over >= 0:
            del parts[self._parts_over :]
        if parts:
            self._overhead = 0
            unread = response.on_body(parts[0] if len(parts) == 1 else b"".join(parts))
            parts.clear()
            if unread > self._limits.high_water and not self._message_over:
                self._pause()
        elif not self._message_over:
            self._overhead += size
            if self._overhead > self._limits.head_bytes:
                self._violation = self._violation or f"more than {self._limits.head_bytes} bytes without a body"
        if self._violation is not None:
            self._fail(response, ProtocolError(self.endpoint_id, self._violation))
            return
        if response.head_only and response.status:
            self._message_over = True
            self.reusable = False  # The parser does not know that no body follows, so it is not fit for another one.
        if self._message_over:
            self._end(response)
        response.wake()

    def _end(self, response: Response) -> None:
        transport = self._transport
        self._response = None
        self._message_over = True
        response.on_complete()
        if transport is None:
            return
        if transport.get_write_buffer_size():
            self.reusable = False  # It answered without reading the whole request.
        if self.reusable:
            if self._paused:
                self.resume()
            self._owner.on_idle(self)
        else:
            self._stop_timer()
            transport.abort()

    def _fail(self, response: Response, error: UpstreamError) -> None:
        self.abort()
        response.on_error(error)

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _look_at_deadline(self) -> None:
        self._timer = None
        self._timer_at = math.inf
        response = self._response
        if response is None or not response.awaited:
            return
        if self._loop.time() >= self._deadline:
            self._fail(response, DeadlineExceeded(self.endpoint_id, self._deadline_kind))
        else:
            self.set_deadline(self._deadline, self._deadline_kind)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_at = math.inf


def _has_length(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(
        name == b"content-length" or (name == b"transfer-encoding" and b"chunked" in value.lower())
        for name, value in headers
    )
