"""A gateway with filters of a test on its streams: what they hold back, rewrite and end, in every dialect."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from capstan_gateway.errors import InvalidRequest
from capstan_gateway.memory import KEPT_PART, LARGE_PART
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.filtered import filtered
from capstan_gateway.pipeline.hold_back import HELD_FACTOR
from capstan_gateway.pipeline.layers import AnswerFunction, Order, Reads
from capstan_gateway.pipeline.reply import Reply, StreamReply
from capstan_gateway.streaming.filters import Chunks, Document, EndOfStream, HoldLimits
from fakes.openai_upstream import DONE, FakeUpstream, Received, Wire, delta, frame, usage_chunk
from support.dialects import read_messages, read_responses
from support.gateway import RunningGateway, entry, running_gateway
from support.policies import Attached, Ledger
from support.wait import eventually

WORDS = ("one ", "two ", "secret ", "four ", "five")


class Filter:
    """Passes everything on."""

    held = 0

    def chunk(self, chunk: Document) -> Chunks:
        """Take a chunk."""
        return (chunk,)

    def idle(self) -> Chunks:
        """Give what may go on."""
        return ()

    def end(self) -> Chunks:
        """Give what is held."""
        return ()


def _text(chunk: Document) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])


class Shouting(Filter):
    """Writes every text anew, after a moment."""

    async def _shout(self, chunk: Document) -> Chunks:
        await asyncio.sleep(0)
        for choice in chunk["choices"]:
            if choice["delta"].get("content"):
                choice["delta"]["content"] = choice["delta"]["content"].upper()
        return (chunk,)

    def chunk(self, chunk: Document) -> Any:
        """Take a chunk."""
        return self._shout(chunk)


class Holding(Filter):
    """Holds everything back to the end."""

    def __init__(self) -> None:
        self._chunks: list[Document] = []

    @property
    def held(self) -> int:
        """How much that is."""
        return sum(len(orjson.dumps(chunk)) for chunk in self._chunks)

    def chunk(self, chunk: Document) -> Chunks:
        """Take a chunk."""
        self._chunks.append(chunk)
        return ()

    def end(self) -> Chunks:
        """Give what is held."""
        return self._chunks


class Blocking(Filter):
    """Blocks at a word."""

    def __init__(self, word: str) -> None:
        self._word = word

    def chunk(self, chunk: Document) -> Chunks:
        """Take a chunk."""
        if self._word in _text(chunk):
            raise InvalidRequest("a guard blocks this answer", code="content_filter")
        return (chunk,)


class Limiting(Filter):
    """Ends the stream behind two texts."""

    def __init__(self) -> None:
        self._left = 2

    def chunk(self, chunk: Document) -> Chunks:
        """Take a chunk."""
        self._left -= bool(_text(chunk))
        if self._left < 0:
            raise EndOfStream("length")
        return (chunk,)


class Layer:
    """Puts filters on every stream."""

    order = Order.GUARDS
    reads = Reads.DOCUMENT

    def __init__(self, make: Callable[[], list[Any]], limits: HoldLimits) -> None:
        self._make = make
        self._limits = limits

    async def answer(self, ask: Ask, inner: AnswerFunction) -> Reply:
        """Ask, and filter."""
        ask.request = ask.request.rewritten(ask.request.document)
        reply = await inner(ask)
        if isinstance(reply, StreamReply):
            return await filtered(reply, self._make(), ask=ask, limits=self._limits)
        return reply


async def streams(_: Received, wire: Wire) -> None:
    """Send the words one by one."""
    await wire.stream_head()
    await wire.chunk(b": ping\n\n")
    for word in WORDS:
        await wire.chunk(frame(delta("m", word)))
    await wire.chunk(frame(delta("m", None, "stop")) + frame(usage_chunk("m")) + DONE)
    await wire.end()


async def never_ends(_: Received, wire: Wire) -> None:
    """Send the words, and wait."""
    await wire.stream_head()
    for word in WORDS:
        await wire.chunk(frame(delta("m", word)))
    await asyncio.Event().wait()


class Filtered:
    """A gateway whose one model has filters on it."""

    def __init__(self, gateway: RunningGateway, upstream: FakeUpstream, filters: list[Callable[[], Any]]) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.filters = filters

    @property
    def held(self) -> int:
        """What the process holds for requests and answers, in bytes."""
        return self.gateway.gateway.memory.held

    async def ask(self, path: str = "chat/completions", **fields: Any) -> httpx2.Response:
        """Ask for a stream; give what came of it when all is over."""
        document = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}], **fields}
        if path == "responses":
            document["input"] = "x"
            del document["messages"]
        if path == "messages":
            document["max_tokens"] = 99
        async with httpx2.AsyncClient(timeout=60) as client:
            reply = await client.post(f"{self.gateway.url}/v1/{path}", json=document, timeout=60)
        await self.gateway.settled()
        runtime = self.gateway.gateway.current()
        assert runtime is not None
        assert [state.in_flight for state in runtime.models["m"].endpoints.states] == [0]
        return reply


@pytest.fixture
def limits() -> HoldLimits:
    """What filters may hold back."""
    return HoldLimits()


@pytest.fixture
async def model(tmp_path: Path, limits: HoldLimits) -> AsyncIterator[Filtered]:
    """A model that streams five words."""
    filters: list[Callable[[], Any]] = []
    kind = Attached(lambda *_: Layer(lambda: [make() for make in filters], limits), Ledger(), {"m": ("filters",)})
    async with (
        FakeUpstream(streams) as upstream,
        running_gateway(tmp_path, entry("m", upstream.url), kinds=[kind]) as gateway,
    ):
        found = Filtered(gateway, upstream, filters)
        yield found
        await gateway.settled()
        assert found.held == 0


def _said(body: bytes) -> str:
    frames = [frame for frame in body.split(b"\n\n") if frame.startswith(b"data: {")]
    return "".join(_text(orjson.loads(found[6:])) for found in frames)


@pytest.mark.parametrize("filters", [[Filter], [Holding], [Shouting], [Holding, Shouting, Filter], [Shouting, Holding]])
async def test_what_filters_give_is_what_the_client_gets(model: Filtered, filters: list[Any]) -> None:
    """They see every chunk once and in order, one behind the other, and the stream stays a whole one."""
    model.filters[:] = filters
    reply = await model.ask(stream_options={"include_usage": True})
    said = "".join(WORDS)
    assert _said(reply.content) == (said.upper() if Shouting in filters else said)
    assert reply.content.endswith(DONE)
    assert reply.content.count(b'"finish_reason":"stop"') == 1
    assert b'"completion_tokens":3' in reply.content
    assert model.gateway.metric("llm_calls_settled_total", model="m", how="told") == 1


@pytest.mark.parametrize(("path", "read"), [("messages", read_messages), ("responses", read_responses)])
async def test_filters_stand_in_front_of_the_dialect(model: Filtered, path: str, read: Any) -> None:
    """Whatever the client speaks, the filters see chat, and the client gets a whole stream of its own."""
    model.filters[:] = [Holding, Shouting]
    reply = await model.ask(path)
    # The comment keeps the connection alive; what the engine wrote into it no filter has seen.
    assert reply.content.startswith(b":\n\n")
    assert "".join(WORDS).upper() in str(read(reply.content.removeprefix(b":\n\n")))


async def test_a_block_at_the_first_chunk_is_an_http_error(model: Filtered) -> None:
    """No byte of the head was sent by then, also where the chunk was held back for long."""
    for filters in ([lambda: Blocking("one")], [Holding, lambda: Blocking("five")]):
        model.filters[:] = filters
        reply = await model.ask()
        assert reply.status_code == 400
        assert reply.json()["error"]["code"] == "content_filter"
        assert b"one" not in reply.content


async def test_a_block_in_the_middle_ends_the_stream_with_an_error(model: Filtered) -> None:
    """What passed stays, what is blocked never comes, the error is the last word, and the engine is stopped."""
    seen = asyncio.Event()

    async def goes_on(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(frame(delta("m", "one ")) + frame(delta("m", "two ")))
        await seen.wait()
        await wire.chunk(frame(delta("m", "secret")))
        await asyncio.Event().wait()

    model.upstream.respond = goes_on
    model.filters[:] = [lambda: Blocking("secret")]
    document = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    body = b""
    async with (
        httpx2.AsyncClient(timeout=60) as client,
        client.stream("POST", f"{model.gateway.url}/v1/chat/completions", json=document) as reply,
    ):
        assert reply.status_code == 200
        async for piece in reply.aiter_bytes():
            body += piece
            seen.set()
    await model.gateway.settled()
    assert _text_before_error(body) == "one two "
    assert b"secret" not in body
    assert b'"code":"content_filter"' in body
    assert body.endswith(DONE)
    await eventually(lambda: model.upstream.gone == 1, what="the end of the engine's work")
    assert model.gateway.metric("llm_calls_settled_total", model="m", how="estimated") == 1


def _text_before_error(body: bytes) -> str:
    return _said(body.split(b'data: {"error"')[0])


@pytest.mark.parametrize("path", ["chat/completions", "messages", "responses"])
async def test_a_stream_can_be_ended_well(model: Filtered, path: str) -> None:
    """A filter that ends the stream gives its client a finish reason and usage, and stops the engine."""
    model.upstream.respond = never_ends
    model.filters[:] = [Limiting]
    options = {"stream_options": {"include_usage": True}} if path == "chat/completions" else {}
    reply = await model.ask(path, **options)
    if path == "messages":
        assert read_messages(reply.content)["stop_reason"] == "max_tokens"
    elif path == "responses":
        assert read_responses(reply.content)["incomplete_details"] == {"reason": "max_output_tokens"}
    else:
        assert _text_before_error(reply.content.replace(b'"choices":[],', b'"choices":[{"delta":{}}],')) == "one two "
        assert reply.content.count(b'"finish_reason":"length"') == 1
        assert b'"usage":{"prompt_tokens":' in reply.content
        assert reply.content.endswith(DONE)
    await eventually(lambda: model.upstream.gone == 1, what="the end of the engine's work")


@pytest.mark.parametrize("limits", [HoldLimits(bytes=300)])
async def test_what_is_held_back_is_bounded(model: Filtered) -> None:
    """A filter that would hold more than it may ends the request, and gives nothing of what it holds."""
    model.filters[:] = [Holding]
    reply = await model.ask()
    assert reply.status_code == 502
    assert reply.json()["error"]["code"] == "answer_not_checked"
    assert b"one" not in reply.content


async def test_nothing_held_goes_out_when_the_engine_fails(model: Filtered) -> None:
    """What was not judged is given to nobody, however the stream ends: broken off, in nonsense, or with an error."""

    endings = [frame({"error": {"message": "no", "code": 500}}) + DONE, b"data: {]\n\n", b""]

    async def fails(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(frame(delta("m", "secret")) + endings.pop())
        await wire.end()

    model.upstream.respond = fails
    model.filters[:] = [Holding]
    for _ in range(len(endings)):
        reply = await model.ask()
        assert b"secret" not in reply.content
        assert b"upstream_error" in reply.content


class Releasing(Holding):
    """Holds everything back until the engine is silent."""

    def idle(self) -> Chunks:
        """Give what is held."""
        given, self._chunks = self._chunks, []
        return given


async def words_and_silence(_: Received, wire: Wire) -> None:
    """Send two words, and nothing more."""
    await wire.stream_head()
    await wire.chunk(frame(delta("m", "one ")) + frame(delta("m", "two ")))
    await asyncio.Event().wait()


async def test_what_is_held_is_in_the_budget_of_the_process(model: Filtered) -> None:
    """What filters hold back takes from the one budget as long as it is held, and a client that goes gives it back."""
    model.upstream.respond = words_and_silence
    model.filters[:] = [Holding]
    asking = asyncio.create_task(model.ask())
    size = sum(len(orjson.dumps(delta("m", word))) for word in ("one ", "two "))
    await eventually(lambda: model.held == HELD_FACTOR * size, what="two chunks on the account")
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await eventually(lambda: model.held == 0, what="nothing held")
    await eventually(lambda: model.upstream.gone == 1, what="the end of the engine's work")


async def test_no_room_for_what_is_held(model: Filtered) -> None:
    """Where the process holds all that it may, a stream that would hold more ends with 503, and gives nothing."""
    memory = model.gateway.gateway.memory
    others = [memory.share()]
    assert others[0].grow(memory.limit - memory.limit // KEPT_PART)
    while left := memory.limit - memory.held:
        others.append(memory.share())
        assert others[-1].grow(min(left, memory.limit // LARGE_PART))
    model.filters[:] = [Holding]
    reply = await model.ask()
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert reply.json()["error"]["code"] == "overloaded"
    await eventually(lambda: memory.held == memory.limit, what="nothing of the request held")
    for other in others:
        other.release()


@pytest.mark.parametrize("limits", [HoldLimits(seconds=0.2, silence_seconds=0.02)])
async def test_what_is_held_for_too_long_is_refused(model: Filtered) -> None:
    """When the engine falls silent and no filter lets go, the stream ends at the deadline, without what was held."""
    model.upstream.respond = words_and_silence
    model.filters[:] = [Holding]
    reply = await model.ask()
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "answer_not_checked")
    assert b"one" not in reply.content
    await eventually(lambda: model.upstream.gone == 1, what="the end of the engine's work")


@pytest.mark.parametrize("limits", [HoldLimits(seconds=0.2, silence_seconds=0.02)])
async def test_a_judgement_has_a_deadline(model: Filtered) -> None:
    """A filter that takes for ever to judge a chunk ends the stream, and does not keep it."""

    class Pondering(Filter):
        def chunk(self, chunk: Document) -> Any:
            return self._ponder()

        async def _ponder(self) -> Chunks:
            await asyncio.Event().wait()
            return ()

    model.filters[:] = [Pondering]
    reply = await model.ask()
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "answer_not_checked")


@pytest.mark.parametrize("limits", [HoldLimits(seconds=30, silence_seconds=0.02)])
async def test_a_silent_engine_lets_filters_go_on(model: Filtered) -> None:
    """After a moment of silence the filters are asked, and what they give reaches the client at once."""
    goes_on = asyncio.Event()

    async def pauses(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(frame(delta("m", "one ")))
        await goes_on.wait()
        await wire.chunk(frame(delta("m", "two", "stop")) + DONE)
        await wire.end()

    model.upstream.respond = pauses
    model.filters[:] = [Shouting, Releasing, Releasing]
    document = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    body = b""
    async with (
        httpx2.AsyncClient(timeout=60) as client,
        client.stream("POST", f"{model.gateway.url}/v1/chat/completions", json=document) as reply,
    ):
        async for piece in reply.aiter_bytes():
            assert goes_on.is_set() or _said(body + piece) == "ONE "
            body += piece
            goes_on.set()
    assert _said(body) == "ONE TWO"
    assert body.endswith(DONE)


async def test_an_end_reaches_those_behind_it(model: Filtered) -> None:
    """Who ends a stream well lets those behind it give what they hold: it has passed all others."""
    model.upstream.respond = never_ends
    model.filters[:] = [Limiting, Holding, Shouting, Holding]
    reply = await model.ask()
    assert _said(reply.content) == "ONE TWO "
    assert reply.content.count(b'"finish_reason":"length"') == 1


@pytest.mark.parametrize("path", ["messages", "responses"])
async def test_what_made_sense_before_a_break_comes_in_the_client_s_dialect(model: Filtered, path: str) -> None:
    """A stream that breaks in bytes with something good in them gives that in the form of all before it."""
    begun = asyncio.Event()

    async def breaks(_: Received, wire: Wire) -> None:
        await wire.stream_head()
        await wire.chunk(frame(delta("m", "one ")))
        await begun.wait()
        await wire.chunk(frame(delta("m", "two ")) + b"data: [1]\n\n")
        await asyncio.Event().wait()

    model.upstream.respond = breaks
    model.filters[:] = [Filter]
    prompt = {"max_tokens": 9, "messages": [{"role": "user", "content": "x"}]} if path == "messages" else {"input": "x"}
    body = b""
    async with (
        httpx2.AsyncClient(timeout=60) as client,
        client.stream("POST", f"{model.gateway.url}/v1/{path}", json={"model": "m", "stream": True, **prompt}) as reply,
    ):
        async for piece in reply.aiter_bytes():
            body += piece
            begun.set()
    await model.gateway.settled()
    assert b"two " in body
    assert b"chat.completion.chunk" not in body
    assert (b"event: error" if path == "messages" else b"response.failed") in body
