"""uvicorn's HTTP protocol with bounds that it lacks, and with one write where it has two."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from capstan_gateway.api.errors import error_response
from capstan_gateway.errors import GatewayError, HeadersTooLarge, InvalidRequest

HEAD_SECONDS: Final = 30.0
"""How long a fresh connection may take to send the head of its first request."""
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
        """Send what is held back and close."""
        self._flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _flush(self) -> None:
        head = self._head
        if head:
            self._head = b""
            self._transport.write(head)


def bounded_protocol(max_head_bytes: int) -> type[HttpToolsProtocol]:
    """Make a protocol class whose request heads are bounded in size and time, and whose refusals are envelopes.

    A head may be larger than the bound by what one read brings.
    """

    class BoundedProtocol(HttpToolsProtocol):
        _in_head = False
        _head_bytes = 0
        _read_bytes = 0
        _head_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(CorkedTransport(transport, self.loop))  # type: ignore[arg-type]
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._in_head:
                self._head_bytes += len(data)
                if self._head_bytes > max_head_bytes:
                    self._refuse(HeadersTooLarge(f"the request's head is larger than {max_head_bytes} bytes"))
                    return
            self._read_bytes = len(data)
            super().data_received(data)
            if self._in_head and not self._head_bytes:
                self._head_bytes = len(data)

        def on_message_begin(self) -> None:
            self._in_head = True
            self._head_bytes = 0
            super().on_message_begin()

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

        def _stop_timer(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _refuse(self, error: GatewayError) -> None:
            if self.transport.is_closing():
                return
            status, headers, body = error_response(error, b"none")
            lines = [b"HTTP/1.1 %d Refused\r\n" % status]
            lines += [b"%b: %b\r\n" % item for item in headers]
            self.transport.write(b"".join((*lines, b"connection: close\r\n\r\n", body)))
            self.transport.close()

    return BoundedProtocol


def _size(header: tuple[bytes, bytes]) -> int:
    return len(header[0]) + len(header[1]) + 4
