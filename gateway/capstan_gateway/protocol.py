"""uvicorn's HTTP protocol with bounds that it lacks, and with one write where it has two."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from capstan_gateway.api.errors import error_response, retry_after
from capstan_gateway.errors import GatewayError, HeadersTooLarge, InvalidRequest, Overloaded

HEAD_SECONDS: Final = 30.0
"""How long a connection may take to send the head of its first request, or to end what it began after an answer."""
LINGER_SECONDS: Final = 10.0
"""How long a connection that is to be closed may go without taking anything of what it is still to get."""
MAX_HEADERS: Final = 200
_RESPONSE_HEAD: Final = b"HTTP/1.1 "
_CONTINUE: Final = b"HTTP/1.1 100 "


class CorkedTransport:
    """Holds the head of a response back until its body follows: one system call and one packet instead of two.

    What is not followed by anything goes out in the loop's next turn.
    """

    __slots__ = ("_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        """Send `data` behind what is held back, or hold it back when it is a head."""
        head = self._head
        if head:
            self._head = b""
            self._transport.write(head + data)
        elif data.startswith(_RESPONSE_HEAD) and not data.startswith(_CONTINUE):
            self._head = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def is_closing(self) -> bool:
        """Whether the transport is closing."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Send what is held back and close; a client that does not read it is not waited for."""
        self._flush()
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._loop.call_later(LINGER_SECONDS, self._linger, self._transport.get_write_buffer_size())

    def _linger(self, before: int) -> None:
        left = self._transport.get_write_buffer_size()
        if left >= before:
            self._transport.abort()
        elif left:
            self._loop.call_later(LINGER_SECONDS, self._linger, left)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        head = self._head
        if head:
            self._head = b""
            self._transport.write(head)


def bounded_protocol(max_head_bytes: int, max_connections: int) -> type[HttpToolsProtocol]:
    """Make a protocol class whose request heads are bounded in size and time, and whose refusals are envelopes.

    A head may be larger than the bound by what one read brings. Trailers are bounded like heads, and dropped. A
    connection above `max_connections` is refused as soon as it is there.
    """

    class BoundedProtocol(HttpToolsProtocol):
        cycle: Any  # None before the first request, which uvicorn's types do not say
        _in_head = False
        _head_bytes = 0
        _read_bytes = 0
        _trailing_bytes = 0
        """What came since the last piece of a body: once a head is complete, only trailers can make it grow."""
        _head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(CorkedTransport(transport, self.loop))  # type: ignore[arg-type]
            if len(self.connections) > max_connections:
                self._refuse(Overloaded("the gateway has too many connections; try again", headers=retry_after(1.0)))
                return
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._in_head:
                self._head_bytes += len(data)
                if self._head_bytes > max_head_bytes:
                    self._refuse(HeadersTooLarge(f"the request's head is larger than {max_head_bytes} bytes"))
                    return
            elif self._trailing_bytes > max_head_bytes:
                self._refuse(HeadersTooLarge(f"the request's trailers are larger than {max_head_bytes} bytes"))
                return
            self._read_bytes = len(data)
            self._trailing_bytes += len(data)
            super().data_received(data)
            if self._in_head and not self._head_bytes:
                self._head_bytes = len(data)
            cycle = self.cycle
            if self._head_timer is None and (self._in_head or (cycle is not None and cycle.response_complete)):
                # What came is half a head, or belongs to a request that has its answer already.
                self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

        def on_message_begin(self) -> None:
            self._in_head = True
            self._head_bytes = self._trailing_bytes = 0
            super().on_message_begin()

        def on_header(self, name: bytes, value: bytes) -> None:
            # NB: written out, because it runs for each header: what uvicorn does with one, for heads alone.
            if not self._in_head:
                return
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

        def on_body(self, body: bytes) -> None:
            self._trailing_bytes = 0
            super().on_body(body)

        def on_headers_complete(self) -> None:
            self._in_head = False
            if self._head_timer is not None:
                self._stop_timer()
            # A head that is larger than the bound can only come with a read that is.
            too_large = self._read_bytes > max_head_bytes and sum(map(_size, self.headers)) > max_head_bytes
            if too_large or len(self.headers) > MAX_HEADERS:
                # The parser turns this into an error of its own, which ends in `send_400_response`.
                self._head_bytes = max_head_bytes + 1
                raise ValueError("head too large")
            super().on_headers_complete()

        def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - what the parser says is not for clients
            if self._head_bytes > max_head_bytes:
                self._refuse(HeadersTooLarge(f"the request's head is larger than {max_head_bytes} bytes"))
            else:
                self._refuse(InvalidRequest("the request is not HTTP/1.1"))

        def _give_up(self) -> None:
            self._head_timer = None
            cycle = self.cycle
            if cycle is None or cycle.response_complete:
                self.transport.close()
            else:
                # An answer to what came before is on its way.
                cycle.keep_alive = False

        def _stop_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _refuse(self, error: GatewayError) -> None:
            if self.transport.is_closing():
                return
            cycle = self.cycle
            if cycle is not None and cycle.response_started and not cycle.response_complete:
                # A second answer in the midst of the first would be taken for a part of it.
                self.transport.close()
                return
            status, headers, body = error_response(error, b"none")
            lines = [b"HTTP/1.1 %d Refused\r\n" % status]
            lines += [b"%b: %b\r\n" % item for item in headers]
            self.transport.write(b"".join((*lines, b"connection: close\r\n\r\n", body)))
            self.transport.close()

    return BoundedProtocol


def _size(header: tuple[bytes, bytes]) -> int:
    return len(header[0]) + len(header[1]) + 4
