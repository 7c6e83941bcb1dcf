"""A stream goes beyond what was taken for it by one slice at most, and is never held when there is enough."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from capstan_gateway.dialects.clients.forms import Form
from capstan_gateway.pipeline.limits.metered import Refusal, metered
from capstan_gateway.pipeline.limits.slices import Slices, piece
from capstan_gateway.pipeline.reply import StreamReply
from capstan_gateway.pipeline.request import Request, Route
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.streaming.sse import data_frame
from capstan_gateway.tokens.usage import Usage
from capstan_gateway.upstream.port import Endpoint
from support.asks import an_ask
from support.virtualtime import run_virtually

texts = st.integers(1, 60).map(lambda size: "x" * size)


def frames_of(texts: list[str]) -> list[bytes]:
    """Give the frames of a stream with these texts."""
    said = [{"content": text} for text in texts]
    head = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    frames = [data_frame({**head, "choices": [{"index": 0, "delta": one, "finish_reason": None}]}) for one in said]
    end = data_frame({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return [*frames, end, b"data: [DONE]\n\n"]


def cut_anywhere(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Give the bytes in pieces of these sizes, again and again."""
    at = number = 0
    while at < len(data):
        size = sizes[number % len(sizes)]
        yield data[at : at + size]
        at, number = at + size, number + 1


class Source:
    """Implements `routing.port.DispatchedResponse`: gives these bytes, one piece after the other."""

    status = 200
    whole: bytes | None = None
    opening = None

    def __init__(self, pieces: list[bytes]) -> None:
        self.endpoint = Endpoint(id="m@e", host="", port=0)
        self.headers: list[tuple[bytes, bytes]] = []
        self.closed = False
        self._pieces = pieces

    @property
    def complete(self) -> bool:
        """Whether all was given."""
        return not self._pieces

    async def receive(self) -> bytes:
        """Give the next piece after a moment."""
        await asyncio.sleep(0.001)
        return self._pieces.pop(0) if self._pieces else b""

    async def read(self, max_bytes: int) -> bytes:
        """Nobody reads it so."""
        raise NotImplementedError

    read_beginning = read

    def finish(self) -> None:
        """It is whole."""

    def blame(self, word: str) -> None:
        """Blame nobody."""

    def close(self) -> None:
        """Its engine is stopped."""
        self.closed = True


@dataclass
class Limit:
    """Has so many tokens, and answers after so many seconds, the one after the other."""

    left: int
    delays: list[float]
    waits: bool = False
    taken: int = 0
    asked: list[int] = field(default_factory=list)

    async def more(self, tokens: int, so_far: Usage) -> Refusal | None:
        """Take more."""
        self.asked.append(tokens)
        await asyncio.sleep(self.delays[len(self.asked) % len(self.delays)])
        if tokens > self.left:
            return Refusal(for_good=not self.waits, note={"ended_by": "limit"})
        self.left -= tokens
        self.taken += tokens
        return None


async def streamed(source: Source, slices: Slices, limit: Limit) -> tuple[bytes, Any]:
    """Give all that goes out, and the relay."""
    relay = StreamRelay(strip_usage=True)
    ask = an_ask()
    reply = metered(StreamReply(b"", source, relay), slices, ask=ask, more=limit.more)
    out = [reply.first]
    while not reply.relay.done:
        data = await reply.source.receive()
        out.append(reply.relay.feed(data) if data else reply.relay.finish())
    ask.end()
    return b"".join(out), relay


@example(said=["x" * 9], sizes=[151], slice=1, first=0, left=1, delays=[0.0], waits=False)
@given(
    said=st.lists(texts, min_size=1, max_size=40),
    sizes=st.lists(st.integers(1, 2000), min_size=1, max_size=5),
    slice=st.integers(1, 40),
    first=st.integers(0, 80),
    left=st.integers(0, 400),
    delays=st.lists(st.sampled_from([0.0, 0.01, 1.0]), min_size=1, max_size=4),
    waits=st.booleans(),
)
def test_a_stream_goes_beyond_what_was_taken_by_a_slice_at_most(
    said: list[str], sizes: list[int], slice: int, first: int, left: int, delays: list[float], waits: bool
) -> None:
    """However its bytes are cut, and whenever the answers come; and whole frames come out, as they went in."""
    frames = frames_of(said)
    source = Source(list(cut_anywhere(b"".join(frames), sizes)))
    limit = Limit(left, delays, waits=waits)
    out, _ = run_virtually(streamed(source, Slices(granted=first, slice=slice, most=None), limit))
    given = 0
    kept = out.split(b"\n\n")
    for one in frames:
        if given < len(kept) and kept[given] + b"\n\n" == one:
            given += 1
        else:
            break
    size = -(-sum(len(text) for text in said[:given]) // 4)
    assert size <= first + limit.taken + slice
    assert out.endswith(b"data: [DONE]\n\n")
    if given < len(frames):
        assert b'"finish_reason":"length"' in out
        assert source.closed
        # It was ended for a reason: a slice more was not to be had.
        assert limit.left < limit.asked[-1]
    else:
        assert out == b"".join(frames)


@given(frames=st.lists(st.binary(min_size=1, max_size=20).filter(lambda b: not set(b) & set(b"\r\n")), max_size=9),
       end=st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r"]), most=st.integers(0, 100))  # fmt: skip
def test_pieces_are_whole_frames(frames: list[bytes], end: bytes, most: int) -> None:
    """As many as fit, and at least one; nothing is lost."""
    data = b"".join(one + end for one in frames)
    front, rest = piece(data, most)
    assert front + rest == data
    assert front.endswith(end) or not data
    assert len(front) <= most or front.count(end) == 1


def test_a_limiter_that_never_answers_ends_a_stream() -> None:
    """Well, after a bounded time, and the client is told why."""
    frames = frames_of(["x" * 40] * 10)
    limit = Limit(1000, [3600.0])
    out, _ = run_virtually(streamed(Source(frames), Slices(granted=10, slice=10, most=None), limit))
    assert b'"capstan":{"ended_by":"limiter_unavailable"}' in out
    assert out.endswith(b"data: [DONE]\n\n")


def test_what_a_stream_has_used_is_told_with_its_sound() -> None:
    """Who takes more for it knows how long it is, by its file as long as nobody has said so."""
    seen: list[Usage] = []

    async def more(_: int, so_far: Usage) -> Refusal | None:
        seen.append(so_far)
        return None

    async def heard() -> None:
        ask = an_ask()
        route = Route("/v1/audio/transcriptions", b"/audio/transcriptions", frozenset(), form=True)
        form = Form(b"b", "file.mp3", b"audio/mpeg", memoryview(bytes(7680 * 3)))
        ask.request = Request(route, {"model": "m"}, stream=True, usage_asked=False, form=form)
        source, slices = Source(frames_of(["x" * 40] * 4)), Slices(granted=4, slice=4, most=None)
        reply = metered(StreamReply(b"", source, StreamRelay(strip_usage=True)), slices, ask=ask, more=more)
        while not reply.relay.done:
            reply.relay.feed(await reply.source.receive())
        ask.end()

    run_virtually(heard())
    assert {(one.prompt_tokens, one.audio_tokens, one.sound_seconds) for one in seen} == {(30, 30, 3)}
