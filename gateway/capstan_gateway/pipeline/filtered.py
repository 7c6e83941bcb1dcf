"""A stream with filters on it. One without any never comes here: its bytes pass as they are.

    reply = await inner(ask)
    return await filtered(reply, filters, request=ask.request)

What the filters do with the first chunks is known when this returns: no byte of the head has been sent, so that what
they refuse by then is an HTTP error.
"""

from collections.abc import Awaitable, Sequence
from functools import partial
from types import TracebackType
from typing import Final, Self

import orjson

from capstan_gateway.errors import GatewayError
from capstan_gateway.pipeline.reply import StreamReply
from capstan_gateway.pipeline.request import Request
from capstan_gateway.pipeline.settle import asked_tokens
from capstan_gateway.routing.port import DispatchedResponse, Opening
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.filters import Chunks, Document, EndOfStream, HeldTooMuch, StreamFilter
from capstan_gateway.streaming.port import Relay
from capstan_gateway.streaming.relay import error_end
from capstan_gateway.streaming.sse import DONE, data_frame, frame_data
from capstan_gateway.tokens.bill import weigh
from capstan_gateway.tokens.estimate import TextCount
from capstan_gateway.tokens.usage import Usage
from capstan_gateway.upstream.port import Endpoint

MAX_HELD_BYTES: Final = 1024 * 1024
"""Of one stream, by all of its filters together."""
_HEAD: Final = ("id", "object", "created", "model", "system_fingerprint")


async def filtered(
    reply: StreamReply, filters: Sequence[StreamFilter], *, request: Request, max_held_bytes: int = MAX_HELD_BYTES
) -> StreamReply:
    """Put filters on a stream, the first one next to the engine; raises what they raise at its first chunks.

    The stream is one of chat completion chunks: a request that is judged is not sent in the client's own dialect.
    """
    if reply.native:
        raise TypeError("a stream in the client's own dialect cannot be filtered")
    source = _FilteredSource(reply, filters, request, max_held_bytes)
    first = await source.begin()
    return StreamReply(first, source, _FilteredRelay(source), broken=source.broken)


class _FilteredSource:
    """Implements `routing.port.DispatchedResponse`: gives whole frames, as they come out of the filters."""

    whole: bytes | None = None

    def __init__(self, reply: StreamReply, filters: Sequence[StreamFilter], request: Request, max_held: int) -> None:
        self.inner: Final[DispatchedResponse] = reply.source
        self.relay: Final = reply.relay
        self.endpoint: Endpoint = reply.source.endpoint
        self.status = reply.source.status
        self.headers = reply.source.headers
        self.opening: Opening | None = reply.source.opening
        self.over = False
        """Whether the end was given out."""
        self.broken: StreamBroken | None = None
        self._reply = reply
        self._filters = tuple(filters)
        self._request = request
        self._max_held = max_held
        self._stopped = False
        """Whether a filter has ended it, and its engine was cut off."""
        self._head: Document = {}
        self._given = False
        """Whether anything of the answer passed; comments are nothing of it."""
        self._open: dict[int, None] = {}
        """The choices that the client has seen begin and not end."""

    async def begin(self) -> bytes:
        """Give the first bytes that are for the client."""
        out = await self._pass(self._reply.first)
        if self._reply.broken is not None:
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
        return out

    @property
    def complete(self) -> bool:
        """Whether the body has come to its end."""
        return self._stopped or self.inner.complete

    async def receive(self) -> bytes:
        """Give the next frames for the client; behind the end what else the engine sends, which is for nobody."""
        if self.over:
            return b"" if self._stopped else await self.inner.receive()
        out = b""
        while not out and not self.over:
            out = await self._next()
        return out

    async def _next(self) -> bytes:
        data = b"" if self.relay.done else await self.inner.receive()
        try:
            run = self.relay.feed(data) if data else self.relay.finish()
        except StreamBroken as broken:
            broken.before = await self._pass(broken.before)
            raise
        return await self._pass(run)

    async def _pass(self, run: bytes) -> bytes:
        """Send whole frames through the filters."""
        out: list[bytes] = []
        try:
            for frame in run.split(b"\n\n"):
                if self.over:
                    break
                if frame:
                    await self._frame(frame, out)
            self._check_held()
        except EndOfStream as end:
            await self._stop(end, out)
        return b"".join(out)

    async def _frame(self, frame: bytes, out: list[bytes]) -> None:
        data = frame_data(frame)
        if data is None:
            out.append(frame + b"\n\n")  # A comment keeps the connection alive, and says nothing of the answer.
        elif data == b"[DONE]":
            # What is held when the engine fails is given to nobody: it was not judged.
            for position, one in enumerate(self._filters if self.relay.error is None else ()):
                self._write(await self._through(position + 1, await _of(one.end())), out)
            out.append(DONE)
            self.over = True
        else:
            chunk: Document = orjson.loads(data)
            if chunk.get("error") is not None:
                out.append(frame + b"\n\n")
                return
            self._head = self._head or {name: chunk[name] for name in _HEAD if name in chunk}
            self._write(await self._through(0, (chunk,)), out)

    async def _through(self, position: int, chunks: Chunks) -> Chunks:
        """Give what comes out of the filters from this one on."""
        for number, one in enumerate(self._filters[position:], position):
            passed: list[Document] = []
            for chunk in chunks:
                try:
                    passed.extend(await _of(one.chunk(chunk)))
                except EndOfStream as end:
                    # What it gave before, and gives now, goes through those behind it, like everything else.
                    last = await self._through(number + 1, (*passed, *end.chunks))
                    raise EndOfStream(end.finish_reason, last) from end
            chunks = passed
        return chunks

    def _write(self, chunks: Chunks, out: list[bytes]) -> None:
        for chunk in chunks:
            self._given = True
            for choice in chunk.get("choices") or ():
                index = choice.get("index") or 0
                if choice.get("finish_reason"):
                    self._open.pop(index, None)
                else:
                    self._open[index] = None
            out.append(data_frame(chunk))

    def _check_held(self) -> None:
        if sum(one.held for one in self._filters) > self._max_held:
            raise HeldTooMuch("the answer could not be checked: more of it would have to be held back than may be")

    async def _stop(self, end: EndOfStream, out: list[bytes]) -> None:
        """End the stream as a proper answer, and stop its engine."""
        self.over = self._stopped = True
        self.inner.close()
        self._write(end.chunks, out)
        delta: Document = {} if "chat" in str(self._head.get("object")) else {"text": ""}
        for index in tuple(self._open) or (0,):
            choice = {"index": index, **(delta or {"delta": {}}), "logprobs": None, "finish_reason": end.finish_reason}
            out.append(data_frame({**self._head, "choices": [choice]}))
        if self._request.usage_asked:
            out.append(data_frame({**self._head, "choices": [], "usage": self._usage()}))
        out.append(DONE)

    def _usage(self) -> Document:
        prompt = partial(asked_tokens, self._request)
        used, _ = weigh(self.relay.usage, whole=False, prompt=prompt, output=lambda: self.relay.text.tokens)
        total = used.prompt_tokens + used.completion_tokens
        return {
            "prompt_tokens": used.prompt_tokens, "completion_tokens": used.completion_tokens, "total_tokens": total,
        }  # fmt: skip

    async def read(self, max_bytes: int) -> bytes:
        """Give the rest of the body."""
        return await self.inner.read(max_bytes)

    async def read_beginning(self, max_bytes: int) -> bytes:
        """Give the beginning of the rest of the body."""
        return await self.inner.read_beginning(max_bytes)

    def finish(self) -> None:
        """Take the engine's answer for whole; one that a filter has ended was closed before that."""
        self.inner.finish()

    def blame(self, word: str) -> None:
        """Count the answer as the endpoint's failure."""
        self.inner.blame(word)

    def close(self) -> None:
        """Release the slot, and abort the upstream if the body is not over."""
        self.inner.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _FilteredRelay:
    """Implements `streaming.port.Relay` for frames that went through the engine's relay already."""

    def __init__(self, source: _FilteredSource) -> None:
        self._source = source
        self._inner: Relay = source.relay

    @property
    def usage(self) -> Usage | None:
        """What the engine counted."""
        return self._inner.usage

    @property
    def events(self) -> int:
        """Events of the engine with something for the client."""
        return self._inner.events

    @property
    def begun(self) -> bool:
        """A first token came."""
        return self._inner.begun

    @property
    def text(self) -> TextCount:
        """The text that the engine has written."""
        return self._inner.text

    @property
    def finished(self) -> bool:
        """A finish reason was seen."""
        return self._inner.finished

    @property
    def error(self) -> GatewayError | None:
        """What the engine reported inside the stream."""
        return self._inner.error

    @property
    def done(self) -> bool:
        """The end was given out."""
        return self._source.over

    def feed(self, data: bytes) -> bytes:
        """Give the frames, which are whole."""
        return data

    def finish(self) -> bytes:
        """Give nothing: the end was among the frames."""
        return b""

    def failure(self, error: GatewayError) -> bytes:
        """Give the frames that end a stream which has begun and cannot go on."""
        return error_end(error)


async def _of(given: Chunks | Awaitable[Chunks]) -> Chunks:
    return await given if isinstance(given, Awaitable) else given
