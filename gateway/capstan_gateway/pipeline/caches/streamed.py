"""A recorded stream as one who has joined its flight gets it: what its frames are is the client's already.

nobody counts or judges it on its way   the frames pass as they are
limits count it, guards judge it,       they are read once more: what has come is not what this one has had
a dialect is written from it
"""

from collections.abc import Callable, Iterator
from typing import Final

from capstan_gateway.dialects.clients.native import NativeMessagesRelay, NativeRelay, NativeResponsesRelay
from capstan_gateway.dialects.clients.spoken import MESSAGES
from capstan_gateway.errors import GatewayError
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.caches.recording import Mark, Reader
from capstan_gateway.pipeline.engine_answer import asked_by
from capstan_gateway.pipeline.held import HeldSource
from capstan_gateway.pipeline.layers import Order
from capstan_gateway.pipeline.reply import StreamReply
from capstan_gateway.pipeline.request import Request
from capstan_gateway.streaming.around import PassingRelay, RelayAround
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.tokens.usage import Usage


def form_of(request: Request) -> tuple[str, bool, bool]:
    """Give what the form of an answer depends on: those who share a call ask for the same."""
    return request.route.path, request.stream, request.stream and request.usage_asked


def given_on(reply: StreamReply, reader: Reader, ask: Ask, leave: Callable[[], None]) -> StreamReply:
    """Give the stream of a flight, from its beginning, to one who reads it. `leave` is called when it reads no more."""
    if is_passed(reply, ask):
        source = RecordedSource(reply, reader, leave)
        return StreamReply(reader.ready(), source, _Passed(reply.relay, reader), reply.native)
    if not is_metered(ask):
        source, relay = RecordedSource(reply, reader, leave), _relay_of(reply, ask)
        return StreamReply(relay.feed(reader.ready()), source, relay, reply.native)
    counted = _RunByRun(reply, reader, leave)
    followed = _Followed(_relay_of(reply, ask), counted)
    return StreamReply(followed.feed(counted.next()), counted, followed, reply.native)


def is_metered(ask: Ask) -> bool:
    """Whether limits count a stream while it goes on. Pure."""
    return ask.governed is not None and ask.governed.metered


def mark_of(relay: Relay) -> Mark:
    """Give what the engine has counted of what came so far."""
    return Mark(relay.usage, relay.counted)


def frames_of(data: bytes) -> Iterator[bytes]:
    """Give what came frame by frame: what is counted is known behind each."""
    at = 0
    while at < len(data):
        end = data.find(b"\n\n", at) + 2
        end = len(data) if end < 2 else end
        yield data[at:end]
        at = end


def is_passed(reply: StreamReply, ask: Ask) -> bool:
    """Whether nobody on the way to the client has to know what the frames say. Pure."""
    if is_metered(ask):
        return False
    if reply.native:
        return True
    return ask.request.route.dialect is None and not any(outer.order == Order.GUARDS for outer in ask.inside)


def _relay_of(reply: StreamReply, ask: Ask) -> Relay:
    request = ask.request
    if not reply.native:
        # NB: its frames have usage in them only if this one has asked for it: see `form_of`.
        return StreamRelay(strip_usage=not request.usage_asked, asked=asked_by(request))
    relay: NativeRelay = NativeMessagesRelay() if request.route.dialect is MESSAGES else NativeResponsesRelay()
    relay.keep_for_cut()
    return relay


class RecordedSource(HeldSource):
    """Implements `routing.port.DispatchedResponse`: gives the frames of a recording."""

    def __init__(self, reply: StreamReply, reader: Reader, leave: Callable[[], None]) -> None:
        self.endpoint = reply.source.endpoint
        self.headers = reply.source.headers
        self.opening = reply.source.opening
        self._reader: Final = reader
        self._leave: Final = leave

    @property
    def complete(self) -> bool:  # type: ignore[override]
        """Whether all of it was read."""
        return self._reader.is_done

    async def receive(self) -> bytes:
        """Give what came since, waiting if that is nothing; b"" behind the end."""
        return await self._reader.read()

    def close(self) -> None:
        """Read no more. Where nobody else does, the engine is stopped."""
        self._leave()


class _Passed(PassingRelay):
    """Implements `streaming.port.Relay`: frames that go on as they are. What the engine said, the flight has read."""

    def __init__(self, inner: Relay, reader: Reader) -> None:
        super().__init__(inner)
        self._reader: Final = reader

    @property
    def done(self) -> bool:
        """The end was given out."""
        return self._reader.is_done

    @property
    def kept(self) -> int:
        """Nothing: the recording is reckoned where it is made."""
        return 0


class _RunByRun(RecordedSource):
    """The same, no more at once than was counted at once."""

    def __init__(self, reply: StreamReply, reader: Reader, leave: Callable[[], None]) -> None:
        super().__init__(reply, reader, leave)
        self.given = 0
        """How many bytes it has given."""
        self.before: Mark | None = None
        self.mark: Mark | None = None
        """What was counted in front of the newest run, and at its end."""

    def next(self) -> bytes:
        """Give the next run that is there."""
        run, mark = self._reader.next()
        if run:
            self.given += len(run)
            self.before, self.mark = self.mark, mark
        return run

    async def receive(self) -> bytes:
        """Give it, waiting if there is none; b"" behind the end."""
        await self._reader.come()
        return self.next()


class _Followed(RelayAround):
    """Implements `streaming.port.Relay`: what an engine counts on the way is not in the frames, and known by marks."""

    def __init__(self, inner: Relay, source: _RunByRun) -> None:
        super().__init__(inner)
        self._source: Final = source
        self._fed = 0

    @property
    def usage(self) -> Usage | None:
        """What the engine counted."""
        source, told = self._source, self._inner.usage
        if told is not None:
            return told
        mark = source.mark if self._fed >= source.given else source.before
        return None if mark is None else mark.usage

    @property
    def counted(self) -> bool:
        """Whether that is all that came so far."""
        mark = self._source.mark if self._fed >= self._source.given else None
        return self._inner.counted if mark is None or self._inner.usage is not None else mark.counted

    @property
    def done(self) -> bool:
        """The end was given out."""
        return self._inner.done

    @property
    def kept(self) -> int:
        """What is kept of frames that wait."""
        return self._inner.kept

    def feed(self, data: bytes) -> bytes:
        """Give the bytes to send; raises StreamBroken when the stream makes no sense."""
        self._fed += len(data)
        return self._inner.feed(data)

    def finish(self) -> bytes:
        """Give what remains; raises StreamBroken if that was too early."""
        return self._inner.finish()

    def failure(self, error: GatewayError) -> bytes:
        """Give the frames that end a stream which has begun and cannot go on."""
        return self._inner.failure(error)
