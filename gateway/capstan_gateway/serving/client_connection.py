"""One connection of a client: requests come one after the other, and are answered in that order.

Everything about it is bounded: the size of heads and trailers, the number of headers, the bytes of a body that nobody
has read, and the time for everything that the client has to do.
"""

import asyncio
import logging
import math
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from capstan_gateway.errors import ClientGone, GatewayError, Overloaded
from capstan_gateway.headers import header_lines, retry_after_headers
from capstan_gateway.serving.exchange import STATUS_LINES, Exchange
from capstan_gateway.serving.reading import RequestReader
from capstan_gateway.serving.refusals import error_response, respond_error

if TYPE_CHECKING:
    from capstan_gateway.serving.listener import Handler, Listener

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS: Final = 75.0
"""How long it may be idle between two requests."""


class ClientConnection(RequestReader):
    """asyncio protocol of one connection."""

    def __init__(self, listener: "Listener") -> None:
        super().__init__(listener)
        self._pipelined: deque[Exchange] = deque()

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
            self._write_refusal(
                Overloaded("the gateway has too many connections; try again", headers=retry_after_headers(1.0))
            )
            self._close_now()
            return
        self._await_head()

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
                    self._await_head()
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

    def on_request(self, exchange: Exchange) -> None:
        """Serve a request, or let it wait for those before it."""
        if self._current is not None:
            self._pipelined.append(exchange)
            self.pause_reading()
            return
        self._current = exchange
        handler = self._listener.handlers.get(exchange.target) or self._listener.handler(exchange.target)
        exchange.task = self._loop.create_task(self._serve(exchange, handler))

    def on_refused(self, error: GatewayError) -> None:
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

    # --- inside -----------------------------------------------------------------------------------------------------

    def _begin_next(self) -> None:
        self.on_request(self._pipelined.popleft())
        self.resume_reading()

    def _last_pending(self, current: Exchange) -> Exchange:
        return self._pipelined[-1] if self._pipelined else current

    async def _serve(self, exchange: Exchange, handler: "Handler") -> None:
        try:
            waits = handler(exchange)
            if waits is not None:
                await waits
        except ClientGone:
            pass  # Nobody is there to be told.
        except Exception as error:
            if not isinstance(error, GatewayError):
                log.exception("a request's handler failed")
                error = GatewayError("the gateway failed")
            if not exchange.started:
                respond_error(exchange, error, b"none")
        finally:
            if not exchange.complete:
                exchange.abandon()

    def _write_refusal(self, error: GatewayError) -> None:
        status, headers, body = error_response(error, b"none")
        self.write(b"%b%bconnection: close\r\n\r\n%b" % (STATUS_LINES[status], header_lines(headers), body))
