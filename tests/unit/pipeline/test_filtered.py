"""A stream with filters on it, piece by piece, by a clock that jumps: what they see, and what goes out when."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
import pytest

from capstan_gateway.errors import GatewayError, InvalidRequest, UpstreamFailed, UpstreamTimeout
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.filtered import COMMENT, filtered
from capstan_gateway.pipeline.hold_back import HELD_FACTOR
from capstan_gateway.pipeline.reply import StreamReply
from capstan_gateway.routing.port import Opening
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.filters import Chunks, Document, EndOfStream, HeldTooMuch, HoldLimits, StreamFilter
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.streaming.sse import DONE
from capstan_gateway.upstream.errors import NoMemory
from capstan_gateway.upstream.port import Endpoint
from fakes.openai_upstream import delta, frame, usage_chunk
from support.asks import an_ask
from support.filters import Passing, Withholding, text_of
from support.virtualtime import run_virtually

T = TypeVar("T")
LIMITS = HoldLimits(bytes=10_000, seconds=30, silence_seconds=1)
END = frame(delta("m", None, "stop")) + DONE
NEVER = 1e6
"""Seconds that are longer than any limit here."""
Step = bytes | float | Exception
"""What an engine does next: sends this, is silent for so long, fails."""


class Scripted:
    """Implements `DispatchedResponse`: does these things in turn, and then its body is over."""

    whole: bytes | None = None
    opening: Opening | None = None
    status = 200

    def __init__(self, *steps: Step) -> None:
        self.endpoint = Endpoint(id="m@e", host="h", port=1)
        self.headers: list[tuple[bytes, bytes]] = [(b"content-type", b"text/event-stream")]
        self.done: list[Any] = []
        """What was done with it, in order."""
        self.asked = 0
        self._steps = list(steps)

    @property
    def complete(self) -> bool:
        """Whether all of it has come."""
        return not self._steps

    async def receive(self) -> bytes:
        """Do the next thing."""
        self.asked += 1
        while self._steps:
            step = self._steps.pop(0)
            if isinstance(step, bytes):
                return step
            if isinstance(step, Exception):
                raise step
            await asyncio.sleep(step)
        return b""

    async def read(self, max_bytes: int) -> bytes:
        """Give the rest."""
        self.done.append(("read", max_bytes))
        return b"rest"

    async def read_beginning(self, max_bytes: int) -> bytes:
        """Give the beginning."""
        self.done.append(("read_beginning", max_bytes))
        return b"beginning"

    def finish(self) -> None:
        """It is whole."""
        self.done.append("finish")

    def blame(self, word: str) -> None:
        """It is to blame."""
        self.done.append(("blame", word))

    def close(self) -> None:
        """Give back the slot."""
        self.done.append("close")


class Doing(Passing):
    """A filter that does what a test says with each text; it says that it holds what the test says."""

    def __init__(self, do: Callable[[Document], Any], *, idle: Callable[[], Any] = tuple, end: Any = tuple) -> None:
        super().__init__()
        self._do = do
        self._idle = idle
        self._end = end
        self.holds = 0
        self.idled = 0

    @property
    def held(self) -> int:
        """How many bytes it holds."""
        return self.holds

    def chunk(self, chunk: Document) -> Any:
        """Take a chunk."""
        return self._do(chunk)

    def idle(self) -> Any:
        """Give what may go on."""
        self.idled += 1
        return self._idle()

    def end(self) -> Any:
        """Give what is held."""
        return self._end()


class Keeping(Doing):
    """Holds everything, and gives all of it when the engine is silent for the n-th time."""

    def __init__(self, *, until: int = 1 << 30) -> None:
        super().__init__(self._keep, idle=self._let_go, end=self._give)
        self.kept: list[Document] = []
        self._until = until

    def _keep(self, chunk: Document) -> Chunks:
        self.kept.append(chunk)
        self.holds += 100
        return ()

    def _let_go(self) -> Chunks:
        return self._give() if self.idled >= self._until else ()

    def _give(self) -> Chunks:
        given, self.kept, self.holds = self.kept, [], 0
        return given


def at(word: str, then: Callable[[], Any]) -> Doing:
    """Give a filter that does this at a word, and lets the others pass."""

    def do(chunk: Document) -> Any:
        return then() if word in text_of(chunk) else (chunk,)

    return Doing(do)


def blocks() -> Chunks:
    """Block the answer."""
    raise InvalidRequest("a guard blocks this answer", code="content_filter")


def ends(*chunks: Document, reason: str = "length") -> Callable[[], Chunks]:
    """End the answer well, behind these chunks."""

    def end() -> Chunks:
        raise EndOfStream(reason, chunks)

    return end


@dataclass
class Stream:
    """A stream with filters on it, and all that it is made of."""

    source: Scripted
    ask: Ask
    budget: MemoryBudget
    relay: StreamRelay = field(default_factory=lambda: StreamRelay(strip_usage=True))
    reply: StreamReply | None = None

    async def begin(
        self,
        *filters: StreamFilter,
        first: bytes = b"",
        broken: StreamBroken | None = None,
        limits: HoldLimits = LIMITS,
    ) -> StreamReply:
        """Put filters on it."""
        reply = StreamReply(first, self.source, self.relay, broken=broken)
        self.reply = await filtered(reply, filters, ask=self.ask, limits=limits)
        return self.reply

    async def more(self) -> bytes:
        """Give what comes next."""
        assert self.reply is not None
        return await self.reply.source.receive()

    async def rest(self) -> bytes:
        """Give all that comes to the end."""
        assert self.reply is not None
        body = b""
        while not self.reply.relay.done:
            body += await self.more()
        return body


def stream(*steps: Step, usage: bool = False, budget: int = 1 << 20, parts: Sequence[str] = ()) -> Stream:
    """Give a stream of an engine that does this."""
    memory = MemoryBudget(budget)
    ask = an_ask(budget=memory)
    ask.request.usage_asked = usage
    ask.hold()
    return Stream(Scripted(*map(said, parts), *steps), ask, memory)


def said(*words: str) -> bytes:
    """Give the frames of these words."""
    return b"".join(frame(delta("m", word)) for word in words)


def texts(body: bytes) -> list[str]:
    """Give the texts of a stream."""
    return [text for chunk in chunks(body) if (text := text_of(chunk))]


def chunks(body: bytes) -> list[Document]:
    """Give the chunks of a stream."""
    return [orjson.loads(found[6:]) for found in body.split(b"\n\n") if found.startswith(b"data: {")]


def finishes(body: bytes) -> list[tuple[int, str]]:
    """Give the choices that end in a stream, and how."""
    choices = [choice for chunk in chunks(body) for choice in chunk["choices"]]
    return [(choice["index"], choice["finish_reason"]) for choice in choices if choice["finish_reason"]]


def run(main: Awaitable[T]) -> T:
    """Run it by the clock that jumps."""

    async def awaited() -> T:
        return await main

    return run_virtually(awaited())


# --- how it begins ---------------------------------------------------------------------------------------------------


def test_what_is_not_chat_cannot_be_filtered() -> None:
    """A stream in the client's own dialect is refused before anything of it is read: filters see chat chunks."""
    one = stream(said("a"), END)
    with pytest.raises(TypeError) as refused:
        run(filtered(StreamReply(b"", one.source, one.relay, native=True), [Passing()], ask=one.ask))
    assert str(refused.value) == "a stream in the client's own dialect cannot be filtered"
    assert one.source.asked == 0


def test_the_head_is_known_when_something_has_passed() -> None:
    """It begins when the first chunk has passed the filters, however many are held and comments come before it."""
    one = stream(b": hi\n\n", said("a"), b": hi\n\n", said("b"), said("c"), END)
    keeping = Keeping()

    def let_go(chunk: Document) -> Chunks:
        return (*keeping.chunk(chunk), *(keeping.end() if len(keeping.kept) == 2 else ()))

    reply = run(one.begin(Doing(let_go)))
    assert texts(reply.first) == ["a", "b"]
    assert reply.first.startswith(said("a"))
    assert one.source.asked == 4
    assert (reply.native, reply.broken, reply.relay.done) == (False, None, False)


def test_what_was_read_already_is_filtered_first() -> None:
    """The frames that an opening has read go through the filters too; if they suffice no more is awaited."""
    one = stream(END)
    reply = run(one.begin(at("b", blocks), first=b": x\n\n" + said("a")))
    assert reply.first == COMMENT + said("a")
    assert one.source.asked == 0


def test_it_tells_of_its_engine() -> None:
    """Status, headers, endpoint and opening are those of the engine's answer; it is never there as a whole."""
    one = stream(said("a"), END)
    one.source.status, opening = 203, object()
    one.source.opening = opening  # type: ignore[assignment]
    source = run(one.begin(Passing())).source
    assert (source.status, source.headers, source.whole) == (203, one.source.headers, None)
    assert source.endpoint is one.source.endpoint
    assert source.opening is opening


def test_a_block_before_anything_passed_is_raised() -> None:
    """No byte of the head was sent: the client gets an HTTP error, with comments in front of the block as well."""
    one = stream(b": x\n\n" + said("a"))
    with pytest.raises(InvalidRequest):
        run(one.begin(at("a", blocks)))


def test_a_block_behind_what_passed_comes_after_it() -> None:
    """What is in front of it in the same bytes goes out first; then it is raised, once."""
    one = stream(said("a", "b", "c"), NEVER)

    async def once() -> None:
        reply = await one.begin(at("b", blocks))
        assert texts(reply.first) == ["a"]
        assert not reply.relay.done
        with pytest.raises(InvalidRequest):
            await one.more()

    run(once())
    assert one.source.asked == 1


def test_a_block_while_nothing_goes_out_is_raised_at_once() -> None:
    """Behind the head as well: where the same bytes gave the client nothing there is nothing to wait for."""
    one = stream(said("a"), said("b"), NEVER)

    async def once() -> None:
        await one.begin(at("b", blocks))
        with pytest.raises(InvalidRequest):
            await one.more()

    run(once())


def test_an_error_of_the_engine_before_anything_passed_is_raised() -> None:
    """Instead of a stream that holds it alone; what the filters hold is given to nobody."""
    error = frame({"error": {"message": "no", "code": 500}}) + DONE
    for filters in ([Passing()], [Keeping()]):
        one = stream(said("a") + error if isinstance(filters[0], Keeping) else error)
        with pytest.raises(GatewayError) as raised:
            run(one.begin(*filters))
        assert raised.value is one.relay.error


@pytest.mark.parametrize("first", [b"", said("a")])
def test_what_an_engine_says_of_its_failure_is_for_nobody(first: bytes) -> None:
    """No filter has seen its words: that it has failed is told, before something has passed and behind it."""
    one = stream(first + b'event: error\ndata: {"message": "the prompt was: secret"}\n\n' + DONE)

    async def once() -> str:
        reply = await one.begin(Passing())
        return (reply.first + await one.rest()).decode()

    if first:
        told = run(once())
    else:
        with pytest.raises(GatewayError) as raised:
            run(once())
        told = raised.value.message
    assert "the model's engine failed" in told
    assert "secret" not in told


def test_an_error_of_the_engine_behind_something_is_passed_on() -> None:
    """As the frame that it came in, in front of the end; what is held is given to nobody, and no filter is asked."""
    error = frame({"error": {"message": "no", "code": 500}})
    keeping = Keeping()
    one = stream(said("a"), said("b") + error + DONE)

    async def once() -> bytes:
        reply = await one.begin(Doing(lambda chunk: (chunk,) if text_of(chunk) == "a" else keeping.chunk(chunk)))
        return reply.first + await one.rest()

    body = run(once())
    assert body.startswith(said("a"))
    assert b'"error":' in body
    assert text_of(keeping.kept[0]) == "b"
    assert body.endswith(DONE)


# --- streams that break ----------------------------------------------------------------------------------------------

NONSENSE = b"data: {]\n\n"


def test_a_stream_that_breaks_before_anything_passed_is_no_answer() -> None:
    """Whether it was broken when it began or breaks behind that: it is raised, so that somebody else can be asked."""
    broken = StreamBroken("broken")
    one = stream(NEVER)
    with pytest.raises(StreamBroken) as raised:
        run(one.begin(Keeping(), first=said("a"), broken=broken))
    assert raised.value is broken
    assert one.source.asked == 0
    with pytest.raises(StreamBroken):
        run(stream(said("a"), NONSENSE).begin(Keeping()))


def test_a_stream_that_was_broken_behind_its_first_frames_gives_them() -> None:
    """What passed is for the client, and what broke it comes behind that."""
    broken = StreamBroken("broken")
    one = stream(NEVER)
    reply = run(one.begin(Passing(), first=said("a"), broken=broken))
    assert (reply.first, reply.broken) == (said("a"), broken)
    assert one.source.asked == 0


def test_a_stream_that_breaks_while_it_begins_gives_what_came_before() -> None:
    """The frames in front of the nonsense, in the same bytes, go through the filters and to the client."""
    one = stream(b": x\n\n", said("a") + NONSENSE)
    reply = run(one.begin(Passing()))
    assert texts(reply.first) == ["a"]
    assert isinstance(reply.broken, StreamBroken)


def test_a_stream_that_breaks_later_gives_what_came_before() -> None:
    """As filters made it, and then the error, which brings nothing; what they hold of it is given to nobody."""
    one = stream(said("a"), said("b", "c") + NONSENSE)

    async def once() -> None:
        await one.begin(Doing(lambda chunk: (chunk,) if text_of(chunk) != "c" else ()))
        assert texts(await one.more()) == ["b"]
        with pytest.raises(StreamBroken) as raised:
            await one.more()
        assert raised.value.before == b""

    run(once())


def test_what_breaks_behind_the_end_that_a_filter_made_is_of_no_interest() -> None:
    """It was ended well in front of it: the client gets its end, when it begins and later."""
    for ends_at in ("a", "b"):
        one = stream(said("a"), said("b") + NONSENSE) if ends_at == "b" else stream(said("a") + NONSENSE)

        async def once(one: Stream = one, ends_at: str = ends_at) -> tuple[StreamReply, bytes]:
            reply = await one.begin(at(ends_at, ends()))
            return reply, reply.first + await one.rest()

        reply, body = run(once())
        assert reply.broken is None
        assert finishes(body) == [(0, "length")]
        assert body.endswith(DONE)


def test_a_stream_that_was_broken_behind_the_end_that_a_filter_made_is_whole() -> None:
    """The filter ended it in the frames that were read already: nobody hears of what came behind them."""
    reply = run(stream(NEVER).begin(at("a", ends()), first=said("a"), broken=StreamBroken("broken")))
    assert (reply.broken, reply.relay.done) == (None, True)


def test_a_block_wins_over_what_breaks_behind_it() -> None:
    """What passed goes out, then the block; the client does not hear of the engine's failure."""
    one = stream(said("x"), said("a", "b") + NONSENSE)

    async def once() -> None:
        await one.begin(at("b", blocks))
        assert texts(await one.more()) == ["a"]
        with pytest.raises(InvalidRequest):
            await one.more()

    run(once())


@pytest.mark.parametrize("held", [0, 5])
def test_what_the_engine_fails_with_is_raised(held: int) -> None:
    """A break of the connection reaches whoever sends the stream as it is, while something is held too."""
    failure = UpstreamFailed("gone")
    one = stream(said("a"), failure)
    passing = Doing(lambda chunk: (chunk,))
    passing.holds = held

    async def once() -> None:
        await one.begin(passing)
        with pytest.raises(UpstreamFailed) as raised:
            await one.more()
        assert raised.value is failure

    run(once())


def test_an_engine_that_ends_too_early_breaks_the_stream() -> None:
    """No finish reason and no end: an error, and not an answer that looks whole."""
    one = stream(said("a"))

    async def once() -> None:
        await one.begin(Passing())
        with pytest.raises(StreamBroken, match="ended before it was finished"):
            await one.more()

    run(once())


def test_a_body_that_is_over_behind_its_finish_reason_has_its_end() -> None:
    """The gateway writes the end marker that the engine left out, and the filters are asked for what they hold."""
    one = stream(frame(delta("m", "a", "stop")))

    async def once() -> bytes:
        return (await one.begin(Keeping())).first

    body = run(once())
    assert texts(body) == ["a"]
    assert body.endswith(DONE)


# --- how it ends -----------------------------------------------------------------------------------------------------


def test_the_end_is_given_out_once() -> None:
    """Behind it what the engine still sends is for nobody, but is read, so that its connection can be used again."""
    one = stream(said("a"), END, b"junk")

    async def once() -> None:
        reply = await one.begin(Passing())
        assert not reply.relay.done
        assert (await one.more()).endswith(DONE)
        assert reply.relay.done
        assert not reply.source.complete
        assert await one.more() == b"junk"
        assert reply.source.complete

    run(once())


def test_frames_behind_the_end_in_the_same_bytes_are_dropped() -> None:
    """Nothing is sent behind the end marker, and no filter sees it."""
    seen: list[str] = []

    def see(chunk: Document) -> Chunks:
        seen.append(text_of(chunk))
        return (chunk,)

    one = stream(NEVER)
    reply = run(one.begin(Doing(see), first=said("a") + END + said("b") + DONE))
    assert reply.first == said("a") + END
    assert seen == ["a", ""]


def test_a_stream_that_a_filter_ends_has_a_proper_end() -> None:
    """In front of it what the filter gives; of each choice that is not over a finish reason, with the answer's head."""
    one = stream(said("a"), NEVER)
    reply = run(one.begin(at("a", ends(delta("m", "last")))))
    assert one.source.done == ["close"]
    assert (reply.relay.done, reply.source.complete) == (True, True)
    last, end = chunks(reply.first)
    assert text_of(last) == "last"
    assert end == {
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}],
    }  # fmt: skip
    assert reply.first.endswith(DONE)


def test_behind_the_end_that_a_filter_made_the_engine_is_not_asked() -> None:
    """Its connection is closed: who reads on gets the end of the body at once."""
    one = stream(said("a"), NEVER)

    async def once() -> None:
        await one.begin(at("a", ends()))
        assert await one.more() == b""

    run(once())
    assert one.source.asked == 1


def of_choice(index: int | None, text: str | None, finish: str | None = None) -> bytes:
    """Give the frame of one choice."""
    chunk = delta("m", text, finish)
    chunk["choices"][0]["index"] = index
    return frame(chunk)


def test_each_choice_that_is_not_over_is_ended() -> None:
    """In the order in which they began, and each once; one whose end the client has is left alone."""
    one = stream(of_choice(2, "a") + of_choice(0, "b") + of_choice(1, "c", "stop") + of_choice(2, "x"), NEVER)
    body = run(one.begin(at("x", ends()))).first
    assert finishes(body) == [(1, "stop"), (2, "length"), (0, "length")]


def test_a_choice_whose_end_is_held_is_ended() -> None:
    """Its finish reason has not reached the client, and never will: what is in front of who ends it is dropped."""

    def do(chunk: Document) -> Chunks:
        if text_of(chunk) == "x":
            raise EndOfStream("content_filter")
        return () if chunk["choices"][0]["finish_reason"] else (chunk,)

    one = stream(of_choice(0, "a", "stop") + of_choice(1, "b") + of_choice(1, "x"), NEVER)
    assert finishes(run(one.begin(Doing(do))).first) == [(0, "content_filter"), (1, "content_filter")]


def test_a_choice_without_an_index_is_the_first_one() -> None:
    """Engines that have one choice may leave its number out, or say null."""
    for index in ({}, {"index": None}):
        chunk = {"id": "1", "object": "chat.completion.chunk", "choices": [{**index, "delta": {"content": "a"}}]}
        over = {**chunk, "choices": [{**index, "delta": {"content": "b"}, "finish_reason": "stop"}]}
        one = stream(NEVER)
        body = run(one.begin(at("a", ends()), first=frame(chunk))).first
        assert finishes(body) == [(0, "length")]
        one = stream(NEVER)
        body = run(one.begin(at("x", ends()), first=frame(chunk) + frame(over) + said("x"))).first
        assert [choice["finish_reason"] for found in chunks(body)[2:] for choice in found["choices"]] == []


def test_a_stream_that_is_ended_before_any_choice_has_one_end() -> None:
    """The client sees a finish reason although the engine has only said who it is."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": []}
    reply = run(stream(NEVER).begin(Doing(lambda _: ends()()), first=frame(head)))
    assert finishes(reply.first) == [(0, "length")]


def test_a_stream_of_plain_completions_is_ended_as_one() -> None:
    """Its choices have a text and no delta."""
    chunk = {
        "id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m", "system_fingerprint": "fp",
        "choices": [{"index": 0, "text": "a"}], "extra": 1,
    }  # fmt: skip
    end = chunks(run(stream(NEVER).begin(Doing(lambda _: ends()()), first=frame(chunk))).first)[-1]
    assert end == {
        "id": "cmpl-1", "object": "text_completion", "created": 7, "model": "m", "system_fingerprint": "fp",
        "choices": [{"index": 0, "text": "", "logprobs": None, "finish_reason": "length"}],
    }  # fmt: skip


def test_the_head_is_that_of_the_first_chunk() -> None:
    """What later chunks say of themselves changes nothing in the frames that the gateway writes."""
    later = {**delta("other", "b"), "id": "chatcmpl-2"}
    body = run(stream(NEVER).begin(at("b", ends()), first=said("a") + frame(later))).first
    assert [(chunk["id"], chunk["model"]) for chunk in chunks(body)] == [("chatcmpl-1", "m"), ("chatcmpl-1", "m")]


def test_usage_comes_behind_the_end_that_a_filter_made_if_it_was_asked_for() -> None:
    """Of the whole request and of all that the engine has written: estimated, as it has not told."""
    for asked in (False, True):
        one = stream(said("four words are said") + said("x"), NEVER, usage=asked)
        body = run(one.begin(at("x", ends()))).first
        told = [chunk for chunk in chunks(body) if "usage" in chunk]
        assert len(told) == asked
        if asked:
            usage = told[0]["usage"]
            assert (told[0]["choices"], told[0]["id"]) == ([], "chatcmpl-1")
            assert usage["completion_tokens"] == one.relay.text.tokens > 0
            assert usage["prompt_tokens"] > 0
            assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
            assert body.endswith(frame(told[0]) + DONE)


def test_usage_that_the_engine_told_so_far_counts() -> None:
    """What it says of the input is no estimate; of the output the larger of both counts, as the answer was cut off."""
    said_so_far = {**delta("m", "a"), "usage": {"prompt_tokens": 77, "completion_tokens": 50, "total_tokens": 127}}
    one = stream(frame(said_so_far) + said("x"), NEVER, usage=True)
    usage = chunks(run(one.begin(at("x", ends()))).first)[-1]["usage"]
    assert usage == {"prompt_tokens": 77, "completion_tokens": 50, "total_tokens": 127}
    said_so_far["usage"] = {"prompt_tokens": 77, "completion_tokens": 1, "total_tokens": 78}
    one = stream(frame(said_so_far) + said("many more words than that were said", "x"), NEVER, usage=True)
    usage = chunks(run(one.begin(at("x", ends()))).first)[-1]["usage"]
    assert usage["completion_tokens"] == one.relay.text.tokens > 1


class _Counting(StreamRelay):
    """Of an engine that counts with every chunk."""

    @property
    def counted(self) -> bool:
        """It does."""
        return True


def test_what_an_engine_counts_with_every_chunk_is_no_less_than_its_text() -> None:
    """A filter's end tells what the engine had counted by then, also where the rule for estimates would have more."""
    said_so_far = {**delta("m", "a"), "usage": {"prompt_tokens": 77, "completion_tokens": 1, "total_tokens": 78}}
    one = stream(frame(said_so_far) + said("many more words than that were said", "x"), NEVER, usage=True)
    one.relay = _Counting(strip_usage=True)
    usage = chunks(run(one.begin(at("x", ends()))).first)[-1]["usage"]
    assert usage == {"prompt_tokens": 77, "completion_tokens": 1, "total_tokens": 78}


def test_a_filter_may_end_the_stream_when_it_is_over() -> None:
    """What it gives at the end of the engine's answer is followed by the end that it makes."""
    one = stream(frame(delta("m", "a", "stop")) + DONE)
    keeping = Doing(lambda _: (), end=ends(delta("m", "b"), reason="content_filter"))
    body = run(one.begin(keeping)).first
    assert texts(body) == ["b"]
    assert finishes(body) == [(0, "content_filter")]
    assert body.count(DONE) == 1


def test_what_is_raised_at_the_end_keeps_the_end_from_the_client() -> None:
    """Behind what passed in the same bytes it is raised, and no end marker goes out."""
    one = stream(said("a") + END, NEVER)

    async def once() -> None:
        reply = await one.begin(Doing(lambda chunk: (chunk,), end=blocks))
        assert texts(reply.first) == ["a"]
        assert DONE not in reply.first
        with pytest.raises(InvalidRequest):
            await one.more()

    run(once())


# --- while the engine is silent --------------------------------------------------------------------------------------


def clock() -> float:
    """Give the time of the loop."""
    return asyncio.get_running_loop().time()


def test_a_silent_engine_lets_filters_go_on() -> None:
    """They are asked after each second of silence, as long as something is held; what they give goes out at once."""
    keeping = Keeping(until=3)
    one = stream(said("a"), 200.0, END)

    async def once() -> None:
        begun = clock()
        reply = await one.begin(keeping)
        assert (clock() - begun, keeping.idled) == (3, 3)
        assert reply.first == said("a")
        assert (await one.more()).endswith(END)
        assert (clock() - begun, keeping.idled) == (200, 3), "nothing is held any more"

    run(once())
    assert one.source.asked == 2


def test_nobody_is_asked_while_nothing_is_held() -> None:
    """The engine may think for as long as its own deadlines allow."""
    idled = Doing(lambda chunk: (chunk,))
    one = stream(100.0, said("a"), 500.0, END)

    async def once() -> None:
        await one.begin(idled)
        await one.more()

    run(once())
    assert idled.idled == 0


def test_what_is_held_for_too_long_is_refused() -> None:
    """Thirty seconds behind the chunk that is held, to the second, and not those in front of it."""
    one = stream(100.0, said("a"), NEVER)

    async def once() -> float:
        begun = clock()
        with pytest.raises(HeldTooMuch):
            await one.begin(Keeping())
        return clock() - begun

    assert run(once()) == 130


def test_the_time_of_a_slow_client_is_not_the_filters() -> None:
    """Between two of its calls no time passes for what is held, from the first one on."""
    one = stream(said("a", "b"), NEVER)

    async def once() -> float:
        await one.begin(hold_from("b"))
        await asyncio.sleep(1000)
        begun = clock()
        with pytest.raises(HeldTooMuch):
            await one.more()
        return clock() - begun

    assert run(once()) == 30


def hold_from(word: str, *, until: int = 1 << 30) -> Keeping:
    """Give a filter that holds this word and what comes behind it."""
    keeping = Keeping(until=until)
    keep = keeping._do

    def do(chunk: Document) -> Any:
        return keep(chunk) if keeping.kept or word in text_of(chunk) else (chunk,)

    keeping._do = do
    return keeping


def test_a_client_that_comes_back_later_does_not_lose_time_either() -> None:
    """Nor behind frames that came after the first."""
    one = stream(said("a"), said("b", "c"), NEVER)

    async def once() -> float:
        await one.begin(hold_from("c"))
        assert texts(await one.more()) == ["b"]
        await asyncio.sleep(1000)
        begun = clock()
        with pytest.raises(HeldTooMuch):
            await one.more()
        return clock() - begun

    assert run(once()) == 30


def test_a_filter_that_gives_something_at_the_last_moment_goes_on() -> None:
    """What is given out then is no reason to refuse: what remains has its time anew."""
    keeping = Keeping(until=30)
    one = stream(said("a"), 40.0, END)

    async def once() -> bytes:
        reply = await one.begin(keeping)
        return reply.first + await one.rest()

    assert texts(run(once())) == ["a"]


def test_a_silence_in_which_a_filter_ends_the_stream() -> None:
    """It ends well, and its engine is cut off; the wait for that one is over."""
    one = stream(said("a"), NEVER)
    held = Keeping()
    held._idle = ends(delta("m", "b"))

    async def once() -> bytes:
        body = (await one.begin(held)).first
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1
        return body

    body = run(once())
    assert texts(body) == ["b"]
    assert finishes(body) == [(0, "length")]
    assert one.budget.held == 0


def test_what_a_filter_takes_in_while_it_is_asked_is_counted() -> None:
    """What it holds may change when the engine is silent: the account follows."""
    keeping = Keeping()

    def shrink() -> Chunks:
        keeping.holds = 40
        return ()

    keeping._idle = shrink
    one = stream(said("a"), 2.5, said("b"), NEVER)
    seen: list[int] = []
    keep = keeping._do

    def do(chunk: Document) -> Any:
        seen.append(one.budget.held)
        return keep(chunk)

    keeping._do = do

    async def once() -> None:
        with pytest.raises(HeldTooMuch):
            await one.begin(keeping)

    run(once())
    assert seen == [0, 40 * HELD_FACTOR]


def test_the_deadline_of_the_engine_is_heard_while_filters_are_asked() -> None:
    """Its wait goes on while they are: it is not begun anew with each second."""
    one = stream(said("a"), 5.5, UpstreamTimeout("silent"))

    async def once() -> float:
        begun = clock()
        with pytest.raises(UpstreamTimeout):
            await one.begin(Keeping())
        return clock() - begun

    assert run(once()) == 5.5
    assert one.source.asked == 2


def test_a_client_that_goes_while_the_engine_is_silent_leaves_nothing() -> None:
    """The ask's end closes the engine's answer, the wait for it, and what is held, even before the stream began."""
    one = stream(said("a"), NEVER)

    async def once() -> None:
        task = asyncio.create_task(one.begin(Keeping()))
        await asyncio.sleep(2.5)
        assert one.budget.held == 100 * HELD_FACTOR
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        one.ask.leave()
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1

    run(once())
    assert (one.budget.held, one.source.done) == (0, ["close"])


def test_a_failure_that_nobody_waits_for_is_heard() -> None:
    """An engine that fails between two calls of the client is no failure for the loop to report, nor is its end."""
    heard: list[Any] = []

    async def once() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
        for step in (UpstreamFailed("gone"), NEVER):
            one = stream(said("a", "b"), 3.5, step)
            keeping = hold_from("b")
            await one.begin(keeping)
            keeping._idle = lambda: (delta("m", "c"),)
            assert texts(await one.more()) == ["c"]
            await asyncio.sleep(10)
            one.ask.leave()
            await asyncio.sleep(0)
            del one, keeping
            gc.collect()

    run(once())
    assert heard == []


# --- what is held ----------------------------------------------------------------------------------------------------


def test_what_is_held_is_counted_for_each_chunk() -> None:
    """However the engine's bytes are cut: what is above the limit in the middle is refused there."""
    keeping = Keeping()
    with pytest.raises(HeldTooMuch):
        run(stream(said("a", "b", "c") + END).begin(keeping, limits=HoldLimits(bytes=250)))
    assert len(keeping.kept) == 3
    assert texts(run(stream(said("a", "b") + END).begin(Keeping(), limits=HoldLimits(bytes=300))).first) == ["a", "b"]


def test_nothing_is_held_behind_the_end() -> None:
    """The account is empty as soon as the end was given out, whatever a filter says."""
    filter_ = Doing(lambda chunk: (chunk,))
    filter_.holds = 9
    one = stream(said("a"), END)

    async def once() -> None:
        await one.begin(filter_)
        assert one.budget.held == 9 * HELD_FACTOR
        await one.more()
        assert one.budget.held == 0

    run(once())


def test_a_frame_that_grows_is_in_the_budget() -> None:
    """What is kept of a large frame that is not whole is taken from it, and where there is no room it is refused."""
    large = said("x" * 100_000)
    one = stream(said("a"), large[:90_000], 1.0, large[90_000:], NEVER)

    async def once() -> None:
        await one.begin(Passing())
        task = asyncio.create_task(one.more())
        await asyncio.sleep(0.5)
        assert one.budget.held == 3 * 90_000
        await task
        assert one.budget.held == 0

    run(once())
    with pytest.raises(NoMemory) as refused:
        run(stream(large[:90_000], NEVER, budget=100_000).begin(Passing()))
    assert "m@e" in str(refused.value)


def test_a_judgement_has_the_time_that_is_left() -> None:
    """A filter that asks somebody about a chunk has as long as things may be held, and is refused then."""

    async def ponder() -> Chunks:
        await asyncio.sleep(NEVER)
        return ()

    one = stream(said("a"), NEVER)

    async def once() -> float:
        begun = clock()
        with pytest.raises(HeldTooMuch) as refused:
            await one.begin(at("a", ponder))
        assert isinstance(refused.value.__cause__, TimeoutError)
        return clock() - begun

    assert run(once()) == 30


def test_a_timeout_of_the_filter_itself_is_not_the_deadline() -> None:
    """Whoever it asks may time out sooner: that is a failure of its own, and not told as too long."""

    async def times_out() -> Chunks:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        run(stream(said("a"), NEVER).begin(at("a", times_out)))


def test_what_a_filter_gives_later_is_what_it_gives() -> None:
    """One that asks somebody about each chunk gives what it would give at once."""

    async def later(chunk: Document) -> Chunks:
        await asyncio.sleep(1)
        return (chunk, chunk)

    one = stream(said("a"), END)

    async def once() -> bytes:
        reply = await one.begin(Doing(later))
        return reply.first

    assert texts(run(once())) == ["a", "a"]


# --- what is passed on -----------------------------------------------------------------------------------------------


def test_comments_pass_without_their_text() -> None:
    """They keep the connection alive; what the engine wrote there, or beside a lone event name, no filter has seen."""
    body = run(stream(b": secret\n\nevent: secret\n\n" + said("a"), NEVER).begin(Passing())).first
    assert body == COMMENT + COMMENT + said("a")
    one = stream(said("a"), b": secret\n\n", NEVER)

    async def once() -> bytes:
        await one.begin(Passing())
        return await one.more()

    assert run(once()) == COMMENT


def test_null_as_error_is_no_error() -> None:
    """Some engines name the key in every chunk."""
    chunk = {**delta("m", "a"), "error": None}
    assert texts(run(stream(frame(chunk), NEVER).begin(Passing())).first) == ["a"]


def test_chunks_without_choices_pass() -> None:
    """Usage, which comes alone, and null in place of a list."""
    null = {**delta("m", "a"), "choices": None}
    one = stream(NEVER)
    one.relay = StreamRelay(strip_usage=False)
    body = run(one.begin(Passing(), first=frame(usage_chunk("m")) + frame(null))).first
    assert body == frame(usage_chunk("m")) + frame(null)


def test_everything_else_is_done_to_the_engine_s_answer() -> None:
    """Reading the rest of it, taking it for whole, blaming its endpoint and closing it."""
    one = stream(said("a"), END)

    async def once() -> None:
        source = (await one.begin(Withholding())).source
        assert await source.read(7) == b"rest"
        assert await source.read_beginning(8) == b"beginning"
        source.finish()
        source.blame("word")
        source.close()

    run(once())
    assert one.source.done == [("read", 7), ("read_beginning", 8), "finish", ("blame", "word"), "close"]


def test_the_relay_tells_of_the_engine_and_adds_nothing() -> None:
    """Frames are whole when they come to it; only how a stream ends badly is written by it."""
    one = stream(said("a"), NEVER)
    relay = run(one.begin(Passing())).relay
    assert (relay.feed(b"abc"), relay.finish(), relay.done) == (b"abc", b"", False)
    assert (relay.events, relay.begun, relay.finished, relay.error) == (1, True, False, None)
    failure = relay.failure(InvalidRequest("no", code="content_filter"))
    assert b'"code":"content_filter"' in failure
    assert failure.endswith(DONE)
