"""A stream with filters on it. One without any never comes here: its bytes pass as they are.

    reply = await inner(ask)
    return await filtered(reply, filters, request=ask.request)

What the filters do with the first chunks is known when this returns: no byte of the head has been sent, so that what
they refuse by then is an HTTP error.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Final

import orjson

from capstan_gateway.engine_errors import ENGINE_SAID
from capstan_gateway.envelope import error_payload
from capstan_gateway.errors import GatewayError
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.estimates import asked_tokens
from capstan_gateway.pipeline.filtered_relay import FilteredRelay
from capstan_gateway.pipeline.frame_room import FrameRoom
from capstan_gateway.pipeline.hold_back import HoldBack
from capstan_gateway.pipeline.reply import StreamReply
from capstan_gateway.pipeline.source_around import SourceAround
from capstan_gateway.routing.port import DispatchedResponse
from capstan_gateway.streaming.chain import Chain
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.filters import Chunks, Document, EndOfStream, HoldLimits, StreamFilter
from capstan_gateway.streaming.sse import DONE, data_frame, frame_data
from capstan_gateway.tokens.bill import weigh

LIMITS: Final = HoldLimits()
COMMENT: Final = b":\n\n"
_HEAD: Final = ("id", "object", "created", "model", "system_fingerprint")


async def filtered(
    reply: StreamReply, filters: Sequence[StreamFilter], *, ask: Ask, limits: HoldLimits = LIMITS
) -> StreamReply:
    """Put filters on a stream, the first one next to the engine; raises what they raise at its first chunks.

    The stream is one of chat completion chunks: a request that is judged is not sent in the client's own dialect. What
    the filters hold is taken from the process' budget, until the stream or the ask ends.
    """
    if reply.native:
        raise TypeError("a stream in the client's own dialect cannot be filtered")
    source = _FilteredSource(reply, filters, ask, limits)
    ask.on_end(source.close)
    first = await source.begin()
    return StreamReply(first, source, FilteredRelay(reply.relay, lambda: source.over), broken=source.broken)


class _FilteredSource(SourceAround):
    """Implements `routing.port.DispatchedResponse`: gives whole frames, as they come out of the filters."""

    def __init__(self, reply: StreamReply, filters: Sequence[StreamFilter], ask: Ask, limits: HoldLimits) -> None:
        super().__init__(reply.source)
        self.relay: Final = reply.relay
        self.over = False
        """Whether the end was given out."""
        self.broken: StreamBroken | None = None
        self._reply = reply
        self._chain = Chain(filters, self._of)
        self._request = ask.request
        self._hold = HoldBack(ask.share(), limits, asyncio.get_running_loop().time)
        self._room = FrameRoom(ask.share, whose=reply.source.endpoint.id)
        self._receiving: asyncio.Task[bytes] | None = None
        """The wait for the engine, which goes on while the filters are asked."""
        self._stopped = False
        """Whether a filter has ended it, and its engine was cut off."""
        self._failure: GatewayError | None = None
        """What is raised behind something that passed: by a filter, or because the stream broke."""
        self._head: Document = {}
        self._given = False
        """Whether anything of the answer passed; comments are nothing of it."""
        self._seen: dict[int, None] = {}
        """The choices that have begun."""
        self._finished: set[int] = set()
        """Those that the client has seen end."""

    async def begin(self) -> bytes:
        """Give the first bytes that are for the client."""
        out = await self._pass(self._reply.first)
        if self._reply.broken is not None and not self._is_ended:
            self.broken = self._reply.broken
            if not self._given:
                raise self.broken
            return out
        while not self._given and not self.over:
            try:
                out = await self._next()
            except StreamBroken as broken:
                if not self._given:
                    raise
                out, self.broken = broken.before, broken
        if self.relay.error is not None and not self._given:
            raise self.relay.error
        self._hold.leave()
        return out

    @property
    def complete(self) -> bool:
        """Whether the body has come to its end."""
        return self._stopped or self.inner.complete

    async def receive(self) -> bytes:
        """Give the next frames for the client; behind the end what else the engine sends, which is for nobody."""
        if self.over:
            return b"" if self._stopped else await self.inner.receive()
        self._hold.come_back()
        out = b""
        while not out and not self.over:
            try:
                out = await self._next()
            except StreamBroken as broken:
                # What made sense goes through the client's dialect like everything else; the break comes behind it.
                out, broken.before = broken.before, b""
                if not out:
                    raise
                self._failure = broken
        self._hold.leave()
        return out

    async def _next(self) -> bytes:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        data = b"" if self.relay.done else await self._receive()
        if data is None:
            return await self._ask_idle()
        try:
            run = self.relay.feed(data) if data else self.relay.finish()
        except StreamBroken as broken:
            broken.before = await self._pass(broken.before)
            if self._is_ended:
                return broken.before
            raise
        self._room.reckon(self.relay.kept)
        return await self._pass(run)

    @property
    def _is_ended(self) -> bool:
        """Whether a filter has ended it, well or badly: what its engine does behind that is of no interest."""
        return self.over or self._failure is not None

    async def _receive(self) -> bytes | None:
        """Give what the engine sends next; None when it is silent while something is held back."""
        waiting = self._receiving
        if waiting is None:
            if not self._hold.held:
                return await self.inner.receive()
            # NB: a task, because a wait that is cancelled and begun anew would never see the engine's deadline.
            self._receiving = waiting = asyncio.create_task(_received(self.inner))
            waiting.add_done_callback(_hear)
        done, _ = await asyncio.wait((waiting,), timeout=self._hold.patience)
        if not done:
            return None
        self._receiving = None
        return waiting.result()

    async def _ask_idle(self) -> bytes:
        """Ask the filters what may go on although the engine is silent. Raises HeldTooMuch when it is time."""
        out: list[bytes] = []
        try:
            self._write(await self._chain.idle(), out)
            self._reckon()
        except EndOfStream as end:
            self._stop(end, out)
        if not out:
            self._hold.check_time()
        return b"".join(out)

    async def _pass(self, run: bytes) -> bytes:
        """Send whole frames through the filters."""
        out: list[bytes] = []
        self._hold.something_came()
        try:
            for frame in run.split(b"\n\n"):
                if self.over:
                    break
                if frame:
                    await self._frame(frame, out)
                    self._reckon()  # For each, so that how an engine's bytes are cut makes no difference.
        except EndOfStream as end:
            self._stop(end, out)
        except GatewayError as error:
            # What passed before it, goes out before it.
            if not (out and self._given):
                raise
            self._failure = error
        return b"".join(out)

    async def _frame(self, frame: bytes, out: list[bytes]) -> None:
        data = frame_data(frame)
        if data is None:
            out.append(COMMENT)  # It keeps the connection alive. What the engine wrote there, no filter has seen.
        elif data == b"[DONE]":
            # What is held when the engine fails is given to nobody: it was not judged.
            if self.relay.error is None:
                self._write(await self._chain.end(), out)
            out.append(DONE)
            self.over = True
        else:
            chunk: Document = orjson.loads(data)
            if chunk.get("error") is not None:
                out.append(self._failed(frame))
                return
            self._head = self._head or {name: chunk[name] for name in _HEAD if name in chunk}
            for choice in chunk.get("choices") or ():
                self._seen[choice.get("index") or 0] = None
            self._write(await self._chain.chunk(chunk), out)

    def _failed(self, frame: bytes) -> bytes:
        """Give the frame of an error, without what its engine says there in words of its own: no filter has seen it."""
        error = self.relay.error
        if error is None or not error.message.startswith(ENGINE_SAID):
            return frame + b"\n\n"
        error.message = ENGINE_SAID.removesuffix(": ")
        return data_frame(error_payload(error))

    async def _of(self, given: Chunks | Awaitable[Chunks]) -> Chunks:
        """Give what a filter gives, which may have to ask somebody first, but not for ever."""
        if not isinstance(given, Awaitable):
            return given
        deadline = asyncio.timeout(self._hold.seconds_left)
        try:
            async with deadline:
                return await given
        except TimeoutError as error:
            if deadline.expired():
                raise self._hold.too_long() from error
            raise

    def _write(self, chunks: Chunks, out: list[bytes]) -> None:
        for chunk in chunks:
            self._given = True
            self._hold.something_went_on()
            for choice in chunk.get("choices") or ():
                if choice.get("finish_reason"):
                    self._finished.add(choice.get("index") or 0)
            out.append(data_frame(chunk))

    def _reckon(self) -> None:
        self._hold.reckon(0 if self.over else self._chain.held)

    def _stop(self, end: EndOfStream, out: list[bytes]) -> None:
        """End the stream as a proper answer, and stop its engine."""
        self.over = self._stopped = True
        self.close()
        self._write(end.chunks, out)
        delta: Document = {} if "chat" in str(self._head.get("object")) else {"text": ""}
        for index in [one for one in self._seen or (0,) if one not in self._finished]:
            choice = {"index": index, **(delta or {"delta": {}}), "logprobs": None, "finish_reason": end.finish_reason}
            out.append(data_frame({**self._head, "choices": [choice]}))
        if self._request.usage_asked:
            out.append(data_frame({**self._head, "choices": [], "usage": self._usage()}))
        out.append(DONE)

    def _usage(self) -> Document:
        prompt = partial(asked_tokens, self._request)
        used, _ = weigh(
            self.relay.usage, whole=self.relay.counted, prompt=prompt, output=lambda: self.relay.text.tokens
        )
        total = used.prompt_tokens + used.completion_tokens
        return {
            "prompt_tokens": used.prompt_tokens, "completion_tokens": used.completion_tokens, "total_tokens": total,
        }  # fmt: skip

    def close(self) -> None:
        """Release the slot, abort the upstream if the body is not over, and let go of what is held."""
        if self._receiving is not None:
            self._receiving.cancel()
        super().close()
        self._chain = _NONE  # The other one holds us: it would be left to the garbage collector.
        self._hold.close()


async def _given(chunks: Chunks | Awaitable[Chunks]) -> Chunks:
    return await chunks if isinstance(chunks, Awaitable) else chunks


_NONE: Final = Chain((), _given)


async def _received(source: DispatchedResponse) -> bytes:
    return await source.receive()


def _hear(task: asyncio.Task[bytes]) -> None:
    """Hear of a failure that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
