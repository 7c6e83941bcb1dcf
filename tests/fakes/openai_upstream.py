"""An OpenAI-compatible upstream on a raw socket, that does exactly what a test tells it to.

async with FakeUpstream() as upstream:
    upstream.respond = stalls_before_the_head      # any coroutine function of (Received, Wire)
    ...
    upstream.requests, upstream.gone                # what came in; how often the caller hung up before the end
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Received:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


class Wire:
    """The connection of one request: what is written goes out at once and as it is."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.ended = False
        self.closed = False

    async def raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def head(self, status: int = 200, *headers: str, length: int | None = None) -> None:
        lines = [f"HTTP/1.1 {status} Status", *headers]
        lines.append("transfer-encoding: chunked" if length is None else f"content-length: {length}")
        await self.raw("\r\n".join([*lines, "", ""]).encode())

    async def chunk(self, data: bytes) -> None:
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")
        self.ended = True

    async def json(self, document: object, status: int = 200, *headers: str) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        await self.head(status, "content-type: application/json", *headers, length=len(body))
        await self.raw(body)
        self.ended = True

    async def stream_head(self) -> None:
        await self.head(200, "content-type: text/event-stream; charset=utf-8")

    def reset(self) -> None:
        """Cut the connection with a TCP reset."""
        self.closed = True
        self._writer.transport.abort()

    def close(self) -> None:
        """Close the connection cleanly."""
        self.closed = True
        self._writer.close()


Respond = Callable[[Received, Wire], Awaitable[None]]


def completion(model: str, text: str = "Hello there", **extra: Any) -> dict[str, Any]:
    """Give a chat completion."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", "logprobs": None}
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
        **extra,
    }


def frame(document: object) -> bytes:
    """Give one SSE frame."""
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def delta(model: str, text: str | None, finish: str | None = None) -> dict[str, Any]:
    """Give one chunk of a chat stream."""
    content = {} if text is None else {"content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "delta": content, "finish_reason": finish}],
    }


def usage_chunk(model: str) -> dict[str, Any]:
    """Give the chunk with usage that ends a stream when it was asked for."""
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    return {**delta(model, None), "choices": [], "usage": usage}


DONE = b"data: [DONE]\n\n"


def stream_frames(model: str, words: tuple[str, ...] = ("Hel", "lo", "!"), *, usage: bool = True) -> list[bytes]:
    """Give the frames of a whole chat stream."""
    frames = [frame(delta(model, word)) for word in words]
    frames.append(frame(delta(model, None, "stop")))
    if usage:
        frames.append(frame(usage_chunk(model)))
    return [*frames, DONE]


async def answer_at_limit(request: Received, wire: Wire) -> None:
    """Answer with a text that has reached its limit, whole or as a stream."""
    if not request.document.get("stream"):
        whole = completion("engine-name", "Hel")
        whole["choices"][0]["finish_reason"] = "length"
        await wire.json(whole)
        return
    await wire.stream_head()
    await wire.chunk(frame(delta("engine-name", "Hel", "length")) + DONE)
    await wire.end()


async def stall(_: Received, __: Wire) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def answer(request: Received, wire: Wire) -> None:
    """Do what a healthy engine does."""
    document = request.document
    model = document["model"]
    if request.path.endswith("/embeddings"):
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}]
        usage = {"prompt_tokens": 3, "total_tokens": 3}
        await wire.json({"object": "list", "model": model, "data": data, "usage": usage})
    elif document.get("stream"):
        await wire.stream_head()
        asked = bool((document.get("stream_options") or {}).get("include_usage"))
        for piece in stream_frames(model, usage=asked):
            await wire.chunk(piece)
        await wire.end()
    else:
        await wire.json(completion(model))


class FakeUpstream:
    """The server."""

    def __init__(self, respond: Respond = answer, *, host: str = "127.0.0.1") -> None:
        self.respond = respond
        self.host = host
        self.port = 0
        self.requests: list[Received] = []
        self.gone = 0
        """How many connections the caller closed while an answer was not over."""
        self.active = 0
        self.url = ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "FakeUpstream":
        self._server = await asyncio.start_server(self._connected, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://{self.host}:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        request = Received(method, path, headers, body)
        self.requests.append(request)
        wire = Wire(reader, writer)
        self.active += 1
        try:
            async with _watch_caller(reader, self._on_gone, wire):
                await self.respond(request, wire)
        finally:
            self.active -= 1
        return wire.ended and not wire.closed

    def _on_gone(self) -> None:
        self.gone += 1


@asynccontextmanager
async def _watch_caller(reader: asyncio.StreamReader, on_gone: Callable[[], None], wire: Wire) -> AsyncIterator[None]:
    """Cancel the answer when the caller hangs up before it is over."""
    answering = asyncio.current_task()
    assert answering is not None
    hung_up = False

    async def watch() -> None:
        nonlocal hung_up
        while not reader.at_eof() and reader.exception() is None:  # noqa: ASYNC110 - reading would take the next request
            await asyncio.sleep(0.005)
        if not wire.ended and not wire.closed:
            hung_up = True
            on_gone()
            answering.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not hung_up:
            raise
        answering.uncancel()
        raise ConnectionError("the caller hung up") from None
    except ConnectionError:
        if not wire.closed and not hung_up:
            on_gone()
        raise
    finally:
        watcher.cancel()
