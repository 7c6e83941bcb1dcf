"""A recorded stream as one who has joined its flight gets it: what its frames are is the client's already.

nobody counts or judges it on its way   the frames pass as they are
limits count it, guards judge it,       they are read once more: what has come is not what this one has had
a dialect is written from it
"""

from collections.abc import Callable
from typing import Final

from capstan_gateway.dialects.clients.native import NativeMessagesRelay, NativeRelay, NativeResponsesRelay
from capstan_gateway.dialects.clients.spoken import MESSAGES
from capstan_gateway.errors import GatewayError
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.caches.recording import Reader
from capstan_gateway.pipeline.engine_answer import asked_by
from capstan_gateway.pipeline.held import HeldSource
from capstan_gateway.pipeline.layers import Order
from capstan_gateway.pipeline.reply import StreamReply
from capstan_gateway.pipeline.request import Request
from capstan_gateway.streaming.around import RelayAround
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.tokens.usage import Usage


def form_of(request: Request) -> tuple[str, bool, bool]:
    """Give what the form of an answer depends on: those who share a call ask for the same."""
    return request.route.path, request.stream, request.stream and request.usage_asked


def given_on(reply: StreamReply, reader: Reader, ask: Ask, leave: Callable[[], None]) -> StreamReply:
    """Give the stream of a flight, from its beginning, to one who reads it. `leave` is called when it reads no more."""
    source = RecordedSource(reply, reader, leave)
    relay: Relay
    if is_passed(reply, ask):
        relay = _Passed(reply.relay, reader)
    else:
        relay = _Followed(_relay_of(reply, ask), reply.relay, reader)
    return StreamReply(relay.feed(reader.ready()), source, relay, reply.native)


def is_passed(reply: StreamReply, ask: Ask) -> bool:
    """Whether nobody on the way to the client has to know what the frames say. Pure."""
    if ask.governed is not None and ask.governed.metered:
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


class _Passed(RelayAround):
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

    def feed(self, data: bytes) -> bytes:
        """Give the frames, which are whole."""
        return data

    def finish(self) -> bytes:
        """Give nothing: the end was among the frames."""
        return b""

    def failure(self, error: GatewayError) -> bytes:
        """Give the frames that end a stream which has begun and cannot go on."""
        return self._inner.failure(error)


class _Followed(RelayAround):
    """Implements `streaming.port.Relay`: reads the frames for one reader, wherever it is."""

    def __init__(self, own: Relay, flown: Relay, reader: Reader) -> None:
        super().__init__(own)
        self._flown: Final = flown
        self._reader: Final = reader

    @property
    def usage(self) -> Usage | None:
        """What the engine counted: what it counts on the way is known to who has had the newest frames alone."""
        return self._flown.usage if self._is_newest and self._flown.usage is not None else self._inner.usage

    @property
    def counted(self) -> bool:
        """Whether that is all that came so far."""
        return self._flown.counted if self._is_newest and self._flown.usage is not None else self._inner.counted

    @property
    def _is_newest(self) -> bool:
        return self._reader.is_newest

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
        return self._inner.feed(data)

    def finish(self) -> bytes:
        """Give what remains; raises StreamBroken if that was too early."""
        return self._inner.finish()

    def failure(self, error: GatewayError) -> bytes:
        """Give the frames that end a stream which has begun and cannot go on."""
        return self._inner.failure(error)
