"""Streams through chains of filters: however they are cut, whoever is slow, whenever the client goes."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from capstan_gateway.errors import GatewayError
from capstan_gateway.memory import MemoryBudget
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.filtered import filtered
from capstan_gateway.pipeline.reply import StreamReply
from capstan_gateway.routing.port import Opening
from capstan_gateway.streaming.errors import StreamBroken
from capstan_gateway.streaming.filters import HoldLimits, StreamFilter
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.streaming.sse import DONE
from capstan_gateway.upstream.port import Endpoint
from fakes.openai_upstream import delta, frame
from support.asks import an_ask
from support.filters import Blocking, Limiting, Passing, Replacing, Said, Withholding, text_of

LIMITS = HoldLimits(seconds=600, silence_seconds=0.0005)


class Source:
    """Implements `DispatchedResponse`: gives these pieces, some of them after a moment."""

    whole: bytes | None = None
    opening: Opening | None = None
    status = 200

    def __init__(self, pieces: Sequence[bytes], late: Sequence[int], *, ends: bool = True) -> None:
        self.endpoint = Endpoint(id="e", host="", port=0)
        self.headers: list[tuple[bytes, bytes]] = []
        self.closed = 0
        self._pieces = list(pieces)
        self._late = late
        self._ends = ends
        self._number = 0

    @property
    def complete(self) -> bool:
        """Whether all of it has come."""
        return self._ends and not self._pieces

    async def receive(self) -> bytes:
        """Give the next piece."""
        self._number += 1
        if self._number in self._late:
            await asyncio.sleep(0.002)
        if self._pieces:
            return self._pieces.pop(0)
        if not self._ends:
            await asyncio.Event().wait()
        return b""

    async def read(self, max_bytes: int) -> bytes:
        """Give the rest."""
        raise NotImplementedError(max_bytes)

    async def read_beginning(self, max_bytes: int) -> bytes:
        """Give the beginning."""
        raise NotImplementedError(max_bytes)

    def finish(self) -> None:
        """It is whole."""

    def blame(self, word: str) -> None:
        """Blame nobody."""

    def close(self) -> None:
        """Give back the slot."""
        self.closed += 1


Make = Callable[[int], Any]
MAKES: dict[str, tuple[Make, Callable[[Said], Said]]] = {}
"""Each kind of filter, and what it makes of a whole answer."""


def _limited(characters: int) -> Callable[[Said], Said]:
    def limit(said: Said) -> Said:
        # NB: of a block behind that it hears nothing.
        return said if len(said.text) <= characters else Said(said.text[:characters], "length")

    return limit


def _blocked(word: str) -> Callable[[Said], Said]:
    def block(said: Said) -> Said:
        at = said.text.find(word)
        return said if at < 0 else Said(said.text[:at], None, "content_filter")

    return block


def _replaced(word: str, by: str) -> Callable[[Said], Said]:
    def replace(said: Said) -> Said:
        return Said(said.text.replace(word, by), said.finish, said.error)

    return replace


MAKES |= {
    "pass": (lambda turns: Passing(turns), lambda said: said),
    "hold": (lambda turns: Withholding(turns), lambda said: said),
    "aba": (lambda turns: Replacing("aba", "c", turns), _replaced("aba", "c")),
    "bc": (lambda turns: Replacing("bc", "abab", turns), _replaced("bc", "abab")),
    "block": (lambda turns: Blocking("cc", turns), _blocked("cc")),
    "limit": (lambda turns: Limiting(9, turns), _limited(9)),
}
a_chain = st.lists(st.tuples(st.sampled_from(sorted(MAKES)), st.integers(0, 2)), max_size=4)
texts = st.lists(st.text("abc", max_size=4), min_size=1, max_size=12)


ENDINGS = {
    "well": frame(delta("m", None, "stop")) + DONE,
    "nonsense": b"data: {]\n\n",
    "error": frame({"error": {"message": "no", "code": 500}}) + DONE,
    "early": b"",
}
"""How the stream of an engine ends."""


def stream_of(parts: Sequence[str], ending: str = "well") -> bytes:
    """Give the stream of an engine that says this."""
    return b": ping\n\n" + b"".join(frame(delta("m", part)) for part in parts) + ENDINGS[ending]


def cut(data: bytes, places: Sequence[int], every: int) -> list[bytes]:
    """Cut at these places, and behind each so many bytes."""
    marks = sorted({0, len(data), *range(0, len(data), every), *(place % len(data) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(marks)]


@dataclass
class Client:
    """What has come to the client so far."""

    body: bytes = b""
    error: GatewayError | None = None
    head_sent: bool = False
    broken: list[str] = field(default_factory=list)

    async def take(self, source: Source, filters: Sequence[StreamFilter], ask: Ask) -> None:
        """Do as the pipeline does: put filters on, and send to the end."""
        relay = StreamRelay(strip_usage=True)
        try:
            reply = await filtered(StreamReply(b"", source, relay), filters, ask=ask, limits=LIMITS)
            self.head_sent, self.body = True, reply.first
            if reply.broken is not None:
                self.error = reply.broken  # What came before it is in `first`.
                return
            while not reply.relay.done:
                data = await reply.source.receive()
                self.body += reply.relay.feed(data) if data else reply.relay.finish()
        except StreamBroken as broken:
            self.body += broken.before
            self.error = broken
        except GatewayError as error:
            self.error = error

    def said(self) -> Said:
        """Give what the client can read of it."""
        frames = [found[6:] for found in self.body.split(b"\n\n") if found.startswith(b"data: {")]
        chunks = [chunk for found in frames if "error" not in (chunk := orjson.loads(found))]
        told = len(chunks) < len(frames)
        ends = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
        error = "told" if told else None if self.error is None else self.error.code
        assert len(ends) == (error is None), "a stream has one end, or an error"
        assert self.body.endswith(DONE) is (self.error is None)
        return Said("".join(map(text_of, chunks)), ends[0] if ends else None, error)


def run(pieces: Sequence[bytes], chain: Sequence[tuple[str, int]], late: Sequence[int]) -> tuple[Client, Said]:
    """Send this stream through these filters, and see that nothing is left."""

    async def once() -> Client:
        budget, client = MemoryBudget(1 << 20), Client()
        ask, source = an_ask(budget=budget), Source(pieces, late)
        ask.hold()
        ask.on_end(source.close)
        await client.take(source, [MAKES[name][0](turns) for name, turns in chain], ask)
        ask.leave()
        await settled()
        assert (budget.held, source.closed > 0) == (0, True)
        return client

    client = asyncio.run(once())
    return client, client.said()


async def settled() -> None:
    """See that no task is left, after a turn or two."""
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


places_of = st.lists(st.integers(0, 10_000), max_size=4)
every_of = st.integers(40, 2000)


@settings(max_examples=300)
@given(parts=texts, ending=st.sampled_from(sorted(ENDINGS)), places=places_of, every=every_of,
       late=st.sets(st.integers(1, 9), max_size=2), chain=a_chain)  # fmt: skip
def test_how_bytes_are_cut_makes_no_difference(
    parts: list[str], ending: str, places: list[int], every: int, late: set[int], chain: list[tuple[str, int]]
) -> None:
    """The engine's bytes may come in any pieces, early or late, and end well or badly: the client gets the same."""
    whole = stream_of(parts, ending)
    cut_up = cut(whole, places, every)
    one, said = run([whole], chain, ())
    other, again = run(cut_up, chain, sorted(late))
    assert said == again
    frames = [[part for part in client.body.split(b"\n\n") if part.startswith(b"data")] for client in (one, other)]
    assert frames[0] == frames[1]
    assert one.head_sent is other.head_sent


@given(parts=texts, chain=a_chain)
def test_how_text_is_cut_makes_no_difference(parts: list[str], chain: list[tuple[str, int]]) -> None:
    """Filters in any order make of an answer what each makes of the whole text, however an engine cuts it."""
    steps = [Said("".join(parts), "stop")]
    for name, _ in chain:
        steps.append(MAKES[name][1](steps[-1]))
    _, said = run([stream_of(parts)], chain, ())
    if said.error is None:
        assert said == steps[-1]
    else:
        # What was held in front of a block, or behind it, is given to nobody.
        assert said.error in [step.error for step in steps]
        assert steps[-1].text.startswith(said.text)


@given(parts=texts, chain=a_chain, at=st.integers(0, 40), places=places_of, every=every_of)
def test_whenever_the_client_goes_nothing_is_held(
    parts: list[str], chain: list[tuple[str, int]], at: int, places: list[int], every: int
) -> None:
    """Cancelled at any turn of the loop: no byte of the budget, no task and no call of the engine is left."""

    async def once() -> None:
        budget, client = MemoryBudget(1 << 20), Client()
        pieces = cut(stream_of(parts)[: -len(DONE)], places, every)
        ask, source = an_ask(budget=budget), Source(pieces, (2, 4), ends=False)
        ask.hold()
        ask.on_end(source.close)
        filters = [MAKES[name][0](turns) for name, turns in chain]
        task = asyncio.create_task(client.take(source, filters, ask))
        for turn in range(at):
            await asyncio.sleep(0.001 if turn % 8 == 7 else 0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        ask.leave()
        await settled()
        assert (budget.held, source.closed > 0) == (0, True)

    asyncio.run(once())
