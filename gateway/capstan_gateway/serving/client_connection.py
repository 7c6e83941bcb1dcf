"""One connection of a client: requests come one after the other, and are answered in that order.

Everything about it is bounded: the size of heads and trailers, the number of headers, the bytes of a body that nobody
has read, how many requests wait, and the time for everything that the client has to do. It is put together of a reader,
which makes requests of bytes, and a wire, which has the transport and the deadlines.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, cast

from capstan_gateway.errors import ClientGone, GatewayError, Overloaded
from capstan_gateway.headers import Header, header_lines
from capstan_gateway.memory import Share
from capstan_gateway.serving.exchange import FREE_BYTES, STATUS_LINES, Exchange
from capstan_gateway.serving.refusals import error_response, respond_error
from capstan_gateway.serving.request_reader import RequestReader
from capstan_gateway.serving.service import Handler, Service, cross_origin
from capstan_gateway.serving.turned_away import Reason
from capstan_gateway.serving.uploads import LOOK_SECONDS, Upload
from capstan_gateway.serving.wire import ClientWire

log = logging.getLogger(__name__)

HEAD_SECONDS: Final = 30.0
"""How long a connection may take to send the head of its first request, or to end what it began after an answer."""
TASK_NAME: Final = "request"
WAITING_BYTES: Final = 2048
"""What a request takes that waits for those before it, beside its body."""


class ClientConnection(asyncio.Protocol):
    """asyncio protocol of one connection."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loop = service.loop
        self._keep_alive_seconds = service.limits.keep_alive_seconds
        self.date_line: Callable[[], bytes] = service.date_line
        self.wire = ClientWire(
            service.loop,
            write_seconds=service.limits.write_seconds,
            on_deadline=self._on_deadline,
            on_stalled=self._on_stalled,
        )
        self._reader = RequestReader(self, max_head_bytes=service.limits.max_head_bytes)
        self._arriving: Exchange | None = None
        """Whose body comes now, or came last."""
        self._current: Exchange | None = None
        """Whose answer is being made."""
        self._pipelined: deque[Exchange] = deque()
        self._unparsed = b""
        """What came behind requests that wait."""
        self._unparsed_memory: Share | None = None
        """What that holds, when it is much."""
        self._head_memory: Share | None = None
        """What half a head holds, when it is large."""
        self._awaits_head = True
        """Whether the deadline is that of a head, and not of being idle."""
        self._refused: tuple[GatewayError, Sequence[Header], bytes] | None = None
        """What is wrong with what came behind the requests that are still to be answered, its headers and target."""
        self._upload: Upload | None = None
        """The body that is awaited."""

    # --- for the listener -------------------------------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """Whether what was sent waits for the client to read."""
        return self.wire.paused

    def shut_down(self) -> None:
        """Close when nothing is to be answered any more."""
        if self._current is None:
            self._close()
        else:
            self._last_pending(self._current).keep_alive = False

    def cancel(self) -> None:
        """Cut off what is being answered, or what was answered and is not read."""
        if self._current is not None and self._current.task is not None:
            self._current.task.cancel()
        else:
            self.wire.abort()

    # --- for the exchanges ------------------------------------------------------------------------------------------

    def share(self) -> Share:
        """Open an account for what a request holds."""
        return self._service.memory.share()

    def resume_reading(self) -> None:
        """Read again, but not while requests wait that were read already."""
        if not self._pipelined and not self._unparsed:
            self.wire.resume_reading()

    def on_awaiting_body(self) -> None:
        """Begin to look how fast the body comes."""
        if self._upload is None and self._arriving is not None and not self._in_head:
            self._upload = self._service.uploads.begin(self._arriving)
            self.wire.set_deadline(LOOK_SECONDS)

    def on_body_arrived(self) -> None:
        """It is there."""
        if self._upload is not None:
            self._end_upload()
            self.wire.clear_deadline()

    def on_answered(self, keep_alive: bool) -> None:
        """Go on with the next request, or close."""
        self._current = None
        wire = self.wire
        if not keep_alive:
            self._close()
        elif wire.paused:
            # A client that does not read its answers gets no further ones.
            wire.bound_rest()
            wire.pause_reading()
            self._awaits_head = False
            wire.clear_deadline()
        elif self._pipelined:
            self._begin_next()
        elif self._refused is not None or self._unparsed or wire.reading_paused or self._reader.in_head:
            self._go_on()
        else:
            self._awaits_head = False
            wire.set_deadline(self._keep_alive_seconds)

    def on_abandoned(self) -> None:
        """Close in the middle of an answer, or without one."""
        self._current = None
        self.wire.close()

    # --- asyncio protocol -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse when there are too many connections."""
        self.wire.attach(cast(asyncio.Transport, transport))
        service = self._service
        service.connections.add(self)
        if service.closing:
            self.wire.close()
            return
        if len(service.connections) > service.limits.max_connections:
            error = Overloaded("the gateway has too many connections; try again")
            self._reader.stop()
            self._write_refusal(error, Reason.CONNECTIONS)
            self.wire.close()
            return
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Parse, within bounds."""
        if self._unparsed:
            self._keep_unparsed(self._take_unparsed() + data)  # It was on its way when reading was paused.
            return
        reader = self._reader
        unparsed = reader.feed(data)
        if unparsed:
            self._keep_unparsed(unparsed)
        if (self._current is None or reader.in_head) and not self._awaits_head and not reader.stopped:
            # What came is half a head, or belongs to a request that has its answer already.
            self._await_head()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - how it ended makes no difference
        """Let everybody know who waits for the client."""
        self._service.on_lost(self)
        self.wire.detach()
        self._reader.close()
        self._release_head()
        self._arriving = self._refused = None
        if self._upload is not None:
            self._end_upload()
        self._take_unparsed()
        current, self._current = self._current, None
        if current is not None:
            current.on_lost()
        self._drop_pipelined()

    def pause_writing(self) -> None:
        """The client reads too slowly."""
        self.wire.pause_writing()

    def resume_writing(self) -> None:
        """It has caught up."""
        self.wire.resume_writing()
        if self._current is not None:
            self._current.wake()
        elif not self.wire.closing:
            if self._pipelined:
                if self._in_head:
                    self._await_head()
                self._begin_next()
            else:
                self._go_on()

    def eof_received(self) -> None:
        """The client has gone, or is taken for that: nobody who waits for an answer closes one direction alone."""
        if self._current is not None:
            self.wire.abort()
        else:
            self.wire.close()

    # --- for the reader ---------------------------------------------------------------------------------------------

    @property
    def answering(self) -> bool:
        """Whether a request is being answered."""
        return self._current is not None

    @property
    def waiting(self) -> bool:
        """Whether requests wait for those before them."""
        return bool(self._pipelined)

    def on_head(
        self,
        method: bytes,
        target: bytes,
        headers: list[Header],
        *,
        length: int | None,
        modern: bool,
        keep_alive: bool,
        expects_continue: bool,
    ) -> Exchange:
        """Serve a request, or let it wait for those before it."""
        wire = self.wire
        self._arriving = exchange = Exchange(
            self, wire, method, target, headers, length, modern, keep_alive, expects_continue
        )
        wire.deadline = math.inf
        self._awaits_head = False
        if self._upload is not None:
            self._end_upload()
        if self._head_memory is not None:
            # The headers stay as long as the request does.
            exchange.adopt(self._head_memory)
            self._head_memory = None
        if self._current is None:
            self._begin(exchange)
        else:
            self._pipelined.append(exchange)
            wire.pause_reading()
            if not exchange.memory.grow(WAITING_BYTES):
                exchange.on_broken(Overloaded("the gateway holds as much as it may"))
        return exchange

    def on_half_head(self, size: int) -> bool:
        """A head grows; False when there is no room for it."""
        if size <= FREE_BYTES:
            return True
        if self._head_memory is None:
            self._head_memory = self.share()
        if self._head_memory.grow_to(2 * size):
            return True
        self._release_head()
        return False

    def on_refused(self, error: GatewayError, headers: Sequence[Header] = (), target: bytes = b"") -> None:
        """Read no further, and say why: in the answer to the request that is broken, or else behind all others."""
        if self.wire.closing:
            return
        self._reader.stop()
        current = self._current
        if current is None:
            self._write_refusal(error, Reason.of(error), headers, target)
            self._close()
            return
        last = self._last_pending(current)
        if last.body_complete:
            self._refused = (error, headers, target)
        else:
            last.on_broken(error)

    # --- inside -----------------------------------------------------------------------------------------------------

    @property
    def _in_head(self) -> bool:
        return self._reader.in_head

    def _go_on(self) -> None:
        """Nothing waits to be answered: go on with what came behind, or read."""
        if self._refused is not None:
            error, headers, target = self._refused
            self._write_refusal(error, Reason.of(error), headers, target)
            self._close()
            return
        if self._unparsed:
            self.data_received(self._take_unparsed())
            if self._current is not None or self.wire.ending:
                return
        if self.wire.reading_paused:
            self.resume_reading()
        if not self._reader.in_head:
            self._awaits_head = False
            self.wire.set_deadline(self._keep_alive_seconds)

    def _keep_unparsed(self, unparsed: bytes) -> None:
        """Keep what came behind requests that wait; without room for it they are the last ones."""
        self._unparsed = unparsed
        if len(unparsed) <= FREE_BYTES:
            return
        share = self._unparsed_memory = self.share()
        if not share.grow(len(unparsed)):
            self._take_unparsed()
            self.on_refused(Overloaded())

    def _take_unparsed(self) -> bytes:
        if self._unparsed_memory is not None:
            self._unparsed_memory.release()
            self._unparsed_memory = None
        unparsed, self._unparsed = self._unparsed, b""
        return unparsed

    def _begin(self, exchange: Exchange) -> None:
        service = self._service
        self._current = exchange
        handler = service.handlers.get(exchange.target) or service.handler(exchange.target)
        if service.cors is not None:
            handler = cross_origin(service.cors, exchange, handler)
        loop, serving = self._loop, self._serve(exchange, handler)
        # NB: `create_task` writes a numbered name for each task, which takes as long as to make it and is kept with it.
        if loop.get_task_factory() is None:
            exchange.task = asyncio.Task(serving, loop=loop, name=TASK_NAME)
        else:
            exchange.task = loop.create_task(serving, name=TASK_NAME)

    def _begin_next(self) -> None:
        self._begin(self._pipelined.popleft())
        if not self._pipelined and self._unparsed:
            self.data_received(self._take_unparsed())
        self.resume_reading()

    def _drop_pipelined(self) -> None:
        for exchange in self._pipelined:
            exchange.on_lost()
            _release(exchange)
        self._pipelined.clear()

    def _last_pending(self, current: Exchange) -> Exchange:
        return self._pipelined[-1] if self._pipelined else current

    def _await_head(self) -> None:
        self._awaits_head = True
        self.wire.set_deadline(HEAD_SECONDS)

    def _release_head(self) -> None:
        if self._head_memory is not None:
            self._head_memory.release()
            self._head_memory = None

    def _on_deadline(self) -> None:
        """Look how fast a body comes, or close, behind answers that are on their way."""
        if self._upload is not None:
            self._look_at_upload(self._upload)
        elif self._current is None:
            self._close()
        else:
            self._last_pending(self._current).keep_alive = False

    def _look_at_upload(self, upload: Upload) -> None:
        exchange = self._arriving
        if exchange is None or exchange.body_complete or not exchange.takes_body:
            self._end_upload()
            if self._current is None:
                self._close()  # The deadline was that of being idle, behind a body that nobody waited for to its end.
        elif upload.look(self._loop.time()):
            self.wire.set_deadline(LOOK_SECONDS)
        else:
            self._service.uploads.give_up(upload, "the request's body comes too slowly")

    def _end_upload(self) -> None:
        if self._upload is not None:
            self._service.uploads.end(self._upload)
            self._upload = None

    def _on_stalled(self) -> None:
        self._service.on_cut_off("not_reading")

    def _close(self) -> None:
        """Close behind what was sent; what the client is still sending is not left unread."""
        wire, arriving = self.wire, self._arriving
        if wire.ending:
            return
        wire.bound_rest()
        if not self._reader.stopped and (arriving is None or arriving.body_complete):
            wire.close()
            return
        self._reader.stop()
        self._take_unparsed()
        self._drop_pipelined()
        wire.close_behind_upload()

    async def _serve(self, exchange: Exchange, handler: Handler) -> None:
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
                service = self._service
                writer = service.error_writer(exchange.target, exchange.headers)
                respond_error(exchange, error, service.turned_away.request_id(exchange.headers), writer)
        finally:
            if not exchange.complete:
                exchange.abandon()
            if exchange.held is not None:
                self.wire.keep(exchange.held)
                exchange.held = None

    def _write_refusal(
        self, error: GatewayError, reason: Reason, asked: Sequence[Header] = (), target: bytes = b""
    ) -> None:
        """Answer what is no request; `asked` are the headers that were read of it, `target` what was of its target."""
        service = self._service
        request_id = service.turned_away.request_id(asked)
        status, headers, body = error_response(error, request_id, service.error_writer(target, asked))
        lines = header_lines(headers) + (service.cors.lines(asked) if service.cors is not None else b"")
        self.wire.write(STATUS_LINES[status] + self.date_line() + lines + b"connection: close\r\n\r\n" + body)
        service.turned_away.note(reason, error, request_id)


def _release(exchange: Exchange) -> None:
    share = exchange.take_memory()
    if share is not None:
        share.release()
