"""A client connection of the gateway's server on a transport that is only a list of bytes."""

import asyncio
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httptools

from capstan_gateway.memory import MemoryBudget
from capstan_gateway.serving.client_connection import ClientConnection
from capstan_gateway.serving.cors import CorsSettings
from capstan_gateway.serving.dates import DateLine
from capstan_gateway.serving.exchange import Exchange
from capstan_gateway.serving.listener import Listener
from capstan_gateway.serving.request_ids import RequestIds
from capstan_gateway.serving.service import Handler, Service, ServingLimits
from capstan_gateway.serving.turned_away import TurnedAway

HIGH_WATER = 64 * 1024
DATE = b"date: Tue, 14 Nov 2023 22:13:20 GMT\r\n"
"""What it always is here."""


class FakeTransport(asyncio.Transport):
    """Does what asyncio's transports do, for a peer that reads all, or nothing while it is `stuck`."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.sent = bytearray()
        """What the peer has got."""
        self.eof_sent = False
        self.closed = False
        """Whether the protocol was told that the connection is gone."""
        self.stuck = False
        self._unsent = bytearray()
        self._coming: deque[bytes] = deque()
        self._reading = True
        self._closing = False
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()

    # --- for the peer -----------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Let bytes arrive; they wait while the protocol does not read."""
        self._coming.append(data)
        self._deliver()

    def unstick(self) -> None:
        """Let the peer read again."""
        self.stuck = False
        self._flush()

    def take(self, size: int) -> None:
        """Let a stuck peer read a little."""
        self.sent += self._unsent[:size]
        del self._unsent[:size]

    def hang_up(self) -> None:
        """Let the peer close its side; that is noticed only by who reads."""
        self.feed(b"")

    # --- for the protocol -------------------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        assert not self.eof_sent, "written behind the end"
        if self._closing and not self._unsent:
            return
        self._unsent += data
        self._flush()
        if len(self._unsent) > HIGH_WATER:
            self._protocol.pause_writing()

    def write_eof(self) -> None:
        self.eof_sent = True

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._loop.call_soon(self._deliver)

    def is_reading(self) -> bool:
        return self._reading

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._unsent:
                self._loop.call_soon(self._lose)

    def abort(self) -> None:
        self._closing = True
        self._unsent.clear()
        self._loop.call_soon(self._lose)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _deliver(self) -> None:
        while self._coming and self._reading and not self._closing:
            data = self._coming.popleft()
            if data:
                self._protocol.data_received(data)
            elif not self._protocol.eof_received():
                self.close()

    def _flush(self) -> None:
        if self.stuck or not self._unsent:
            return
        full = len(self._unsent) > HIGH_WATER
        self.sent += self._unsent
        self._unsent.clear()
        if full:
            self._protocol.resume_writing()
        if self._closing:
            self._loop.call_soon(self._lose)

    def _lose(self) -> None:
        if not self.closed:
            self.closed = True
            self._protocol.connection_lost(None)


@dataclass
class Answer:
    """One answer as a client understands it."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = False


def read_answers(data: bytes, *methods: bytes) -> list[Answer]:
    """Parse what a server sent, strictly; `methods` are those of the requests: answers to HEAD have no body."""
    answers: list[Answer] = []
    left = bytes(data)
    methods_left = list(methods)
    while left:
        end = left.find(b"\r\n\r\n")
        if end >= 0 and methods_left and methods_left[0] == b"HEAD":
            head, left = left[: end + 4], left[end + 4 :]
            status, *lines = head.decode("latin-1").split("\r\n")[:-2]
            headers = dict(line.split(": ", 1) for line in lines)
            answers.append(Answer(int(status.split()[1]), headers, complete=True))
            methods_left.pop(0)
            continue
        answer, left = _read_one(left)
        answers.append(answer)
        if answer.status >= 200 and methods_left:
            methods_left.pop(0)
    return answers


class _Reader:
    def __init__(self) -> None:
        self.answer = Answer(0)
        self.parser = httptools.HttpResponseParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answer.headers[name.decode()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.answer.status = self.parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.answer.body += body

    def on_message_complete(self) -> None:
        self.answer.complete = True


def _read_one(data: bytes) -> tuple[Answer, bytes]:
    """Read one answer, and no byte behind it: one by one, but for a body whose length was told, up to its last."""
    reader = _Reader()
    told = re.search(rb"\r\ncontent-length: (\d+)\r\n", data[: data.find(b"\r\n\r\n") + 2])
    at_once = 0
    if told is not None:
        at_once = min(data.find(b"\r\n\r\n") + 3 + int(told[1]), len(data))
        reader.parser.feed_data(data[:at_once])
    for position in range(at_once, len(data)):
        reader.parser.feed_data(data[position : position + 1])
        if reader.answer.complete:
            return reader.answer, data[position + 1 :]
    if reader.answer.status and "content-length" not in reader.answer.headers:
        # Without a length, the end of the connection is the end.
        reader.answer.complete = "transfer-encoding" not in reader.answer.headers
    return reader.answer, b""


class FixedIds(RequestIds):
    """Gives every request the same id, so that answers can be compared."""

    def make(self) -> bytes:
        return b"req_test"


@dataclass
class Seen:
    """One request as a handler got it."""

    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Client:
    """One connection of a client to a listener. Make it inside the loop."""

    def __init__(
        self,
        handler: Handler | None = None,
        *,
        handlers: Mapping[bytes, Handler] | None = None,
        max_head_bytes: int = 4000,
        max_connections: int = 10,
        listener: Listener | None = None,
        memory: MemoryBudget | None = None,
        cors: CorsSettings | None = None,
        write_seconds: float = 30.0,
    ) -> None:
        self.seen: list[Seen] = []
        """By the default handler, which answers with the body that it read."""
        limits = ServingLimits(
            max_head_bytes=max_head_bytes, max_connections=max_connections, write_seconds=write_seconds
        )
        self.listener = listener or Listener(
            Service(
                handlers or {}, handler or self.echo, limits,
                memory=memory, cors=cors, turned_away=TurnedAway(FixedIds()),
            )
        )  # fmt: skip
        self.service = self.listener.service
        self.service.date_line = DateLine(lambda: 1_700_000_000.0)
        self.connection = ClientConnection(self.service)
        self.transport = FakeTransport(self.connection)
        self.connection.connection_made(self.transport)

    async def echo(self, exchange: Exchange) -> None:
        """Answer with the body; in pieces where the path says so."""
        body = await exchange.read_body(1_000_000)
        self.seen.append(Seen(exchange.method, exchange.target, exchange.headers, body))
        if exchange.target.startswith(b"/stream") and exchange.method != b"HEAD":
            exchange.start(200, b"", b"<")
            exchange.write(body)
            exchange.finish(b">")
        else:
            exchange.respond(200, b"content-length: %d\r\n" % len(body), body)

    async def say(self, *pieces: bytes) -> bytes:
        """Send the pieces, each in a read of its own, and give all that was answered once nothing happens any more."""
        for piece in pieces:
            self.transport.feed(piece)
        await turns()
        return bytes(self.transport.sent)

    @property
    def statuses(self) -> list[int]:
        """The status of each answer so far."""
        return [answer.status for answer in read_answers(bytes(self.transport.sent))]

    @property
    def ended(self) -> bool:
        """Whether the client sees that no more will come."""
        return self.transport.closed or self.transport.eof_sent


async def turns(count: int = 12) -> None:
    """Let the loop go round some times: enough for everything that waits for nothing else."""
    for _ in range(count):
        await asyncio.sleep(0)
