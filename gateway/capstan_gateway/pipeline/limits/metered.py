"""A stream under limits of tokens or money: it goes on as long as these do, and ends well when they end.

    reply = await inner(ask)
    return metered(reply, Slices(...), ask=ask, more=...)

Its bytes pass as they are: what has come is known of the engine's relay, which has read it anyway. Without limits no
stream comes here.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.estimates import asked_tokens, with_sound
from capstan_gateway.pipeline.frame_room import FrameRoom
from capstan_gateway.pipeline.limits.slices import Slices, piece
from capstan_gateway.pipeline.reply import StreamReply
from capstan_gateway.pipeline.source_around import SourceAround
from capstan_gateway.streaming.around import PassingRelay
from capstan_gateway.streaming.cut import Cut
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.port import Relay
from capstan_gateway.tokens.bill import weigh
from capstan_gateway.tokens.usage import Usage

ANSWER_SECONDS: Final = 2.0
"""A limiter answers much sooner, one way or the other."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing more is taken for a stream."""

    for_good: bool
    """Whether no waiting helps."""
    note: Mapping[str, Any] = field(default_factory=dict)
    """What the client is told of it."""
    count: Callable[[], None] = lambda: None
    """Counts that a stream has ended by it."""


_NO_ANSWER: Final = Refusal(for_good=False, note={"ended_by": "limiter_unavailable"})
More = Callable[[int, Usage], Awaitable[Refusal | None]]
"""Takes so many tokens of output more, when so much was used so far; says why not."""


def metered(reply: StreamReply, slices: Slices, *, ask: Ask, more: More) -> StreamReply:
    """Let a stream go as far as is taken for it."""
    source = _MeteredSource(reply, slices, ask, more)
    ask.on_end(source.close)
    return StreamReply(reply.first, source, _MeteredRelay(reply.relay, source), reply.native, reply.broken)


class _MeteredRelay(PassingRelay):
    """Implements `streaming.port.Relay`: what it is fed has gone through the engine's relay already."""

    def __init__(self, inner: Relay, source: "_MeteredSource") -> None:
        super().__init__(inner)
        self._source = source

    @property
    def finished(self) -> bool:
        """A finish reason was given out."""
        return self._source.is_cut or self._inner.finished

    @property
    def done(self) -> bool:
        """The end was given out."""
        return self._source.over


class _MeteredSource(SourceAround):
    """Implements `routing.port.DispatchedResponse`: gives whole frames, as the engine's relay gives them out."""

    def __init__(self, reply: StreamReply, slices: Slices, ask: Ask, more: More) -> None:
        super().__init__(reply.source)
        self.relay: Final = reply.relay
        self.over = reply.relay.done
        """Whether the end was given out."""
        self.is_cut = False
        """Whether it is the limit's."""
        self._request = ask.request
        self._slices = slices
        self._more = more
        self._room = FrameRoom(ask.share, whose=reply.source.endpoint.id)
        self._asking: asyncio.Task[Refusal | None] | None = None
        self._asked_at = 0
        self._refusal = Refusal(for_good=True)
        self._rest = b""
        """What has come and was not read yet."""
        self._broken: StreamBroken | None = None
        """What is raised behind what made sense."""
        self._last = reply.first
        self._used = output_so_far(self.relay)
        if self._used >= slices.ask_at and not self.relay.finished:
            self._ask()

    @property
    def complete(self) -> bool:
        """Whether the body has come to its end."""
        return self.is_cut or (not self._rest and self.inner.complete)

    async def receive(self) -> bytes:
        """Give the next frames for the client; behind the end what else the engine sends, which is for nobody."""
        if self.over:
            return b"" if self.is_cut else await self.inner.receive()
        slices, relay = self._slices, self.relay
        while True:
            if self._broken is not None:
                raise self._broken
            if self._used >= slices.granted and not await self._go_on():
                return self._end()
            data = self._rest or await self.inner.receive()
            self._rest = b""
            if len(data) > slices.room(self._used) and not slices.whole:
                data, self._rest = piece(data, slices.room(self._used))
            run = self._read(data)
            self._used = used = output_so_far(relay)
            self.over = relay.done and not self._rest  # NB: one like this has had its end before it is read here.
            if used >= slices.ask_at and not relay.finished:
                self._ask()
                if not slices.may_give(used) and not await self._go_on():
                    return self._end()
            if not (run and self._room.is_free):
                self._room.reckon(relay.kept)
            if run:
                self._last = run
            if run or self.over:
                return run

    def _read(self, data: bytes) -> bytes:
        """Give what the relay gives; what it raises is raised when that was sent."""
        try:
            return self.relay.feed(data) if data else self.relay.finish()
        except StreamBroken as broken:
            run, broken.before = broken.before, b""
            if not run:
                raise
            self._broken = broken
            return run

    def _ask(self) -> None:
        """Ask for more, while the stream goes on."""
        more = self._slices.wanted(self._used)
        if more:
            self._asked_at = self._used
            self._asking = asyncio.create_task(self._ask_for(more))
            self._asking.add_done_callback(self._note)

    async def _ask_for(self, more: int) -> Refusal | None:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await self._more(more, self._so_far())

    def _note(self, task: asyncio.Task[Refusal | None]) -> None:
        """Take note of what became of it."""
        self._asking = None
        failed = task.cancelled() or task.exception() is not None
        refusal = _NO_ANSWER if failed else task.result()
        if refusal is None:
            self._slices.take()
        else:
            self._refusal = refusal
            self._slices.refuse(self._asked_at, for_good=refusal.for_good)

    async def _go_on(self) -> bool:
        """Wait until it is known whether there is something for what comes next."""
        slices = self._slices
        while not (self.relay.finished or slices.may_go_on(self._used)):
            self._ask()
            if self._asking is not None:
                await asyncio.wait((self._asking,))
            elif slices.over:
                return False
            await asyncio.sleep(0)  # What is called when it is done is called then.
        return True

    def _end(self) -> bytes:
        """End the stream as an answer that has reached its length, and stop its engine."""
        self.over = self.is_cut = True
        self._refusal.count()
        usage = self._so_far()
        end = self.relay.cut(
            Cut(usage=usage, tells_usage=self._request.usage_asked, note=self._refusal.note), self._last
        )
        self.close()
        return end

    def _so_far(self) -> Usage:
        """What the answer has used so far."""
        relay = self.relay
        prompt = partial(asked_tokens, self._request)
        usage, _ = weigh(relay.usage, whole=relay.counted, prompt=prompt, output=lambda: relay.text.tokens)
        return with_sound(usage, self._request)

    def close(self) -> None:
        """Release the slot, abort the upstream if the body is not over, and ask for nothing more."""
        if self._asking is not None:
            self._asking.cancel()
        super().close()


def output_so_far(relay: Relay) -> int:
    """Give the tokens of the answer so far: as told, where all of it was, and never less than its text says else."""
    told = relay.usage
    if told is None or told.bare:
        return relay.text.tokens
    return told.completion_tokens if relay.counted else max(told.completion_tokens, relay.text.tokens)
