"""Onions of random layers whose request is cancelled, or fails, at a random point."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from capstan_gateway.errors import UpstreamFailed
from capstan_gateway.pipeline.ask import Ask
from capstan_gateway.pipeline.layers import AnswerFunction, Layer, Order, Reads, compose
from capstan_gateway.pipeline.reply import Reply, WholeReply
from support.asks import an_ask

STEPS: Final = 3
"""Turns of the loop that each part takes at most."""


@dataclass(frozen=True)
class Waiting:
    """A layer that opens something, and waits before and behind what is inside of it."""

    number: int
    order: Order
    before: int
    behind: int
    raises: bool
    opened: list[int] = field(compare=False, repr=False)
    closed: list[int] = field(compare=False, repr=False)
    reads: Reads = Reads.NOTHING

    async def answer(self, ask: Ask, inner: AnswerFunction) -> Reply:
        """Open, wait, go on, and wait again."""
        self.opened.append(self.number)
        ask.on_end(self._close)
        await turns(self.before)
        reply = await inner(ask)
        await turns(self.behind)
        if self.raises:
            raise UpstreamFailed("x")
        return reply

    def _close(self) -> None:
        self.closed.append(self.number)
        if self.number % 2:
            raise ValueError("a bug in a closer")


async def turns(count: int) -> None:
    """Let the loop turn so often."""
    for _ in range(count):
        await asyncio.sleep(0)


a_layer = st.tuples(st.sampled_from(list(Order)), st.integers(0, STEPS), st.integers(0, STEPS), st.booleans())


@given(
    router=st.lists(a_layer, max_size=4),
    first=st.lists(a_layer, max_size=4),
    second=st.lists(a_layer, max_size=4),
    takes=st.integers(0, STEPS),
    fails=st.booleans(),
    cancelled_after=st.integers(0, 40),
)
def test_whatever_was_opened_is_closed_in_turn(
    router: Sequence[tuple[Order, int, int, bool]],
    first: Sequence[tuple[Order, int, int, bool]],
    second: Sequence[tuple[Order, int, int, bool]],
    takes: int,
    fails: bool,
    cancelled_after: int,
) -> None:
    """A router asks one member, and the next when that fails; cancelled anywhere, each layer's closer runs once.

    What the first member opened is closed before the second opens anything, and within a part the last one is closed
    first, also where closers raise.
    """
    opened: list[int] = []
    closed: list[int] = []

    def layers(given: Sequence[tuple[Order, int, int, bool]], start: int) -> list[Layer]:
        found: list[Layer] = []
        for number, (order, before, behind, raises) in enumerate(given, start):
            found.append(Waiting(number, order, before, behind, raises, opened, closed))
        return found

    async def model(_: Ask) -> Reply:
        await turns(takes)
        if fails:
            raise UpstreamFailed("x")
        return WholeReply(200, b"application/json", b"{}")

    one, other = compose(layers(first, 100), model), compose(layers(second, 200), model)

    async def choose(ask: Ask) -> Reply:
        try:
            return await one(ask)
        except UpstreamFailed:
            assert sorted(number for number in opened if number >= 100) == sorted(n for n in closed if n >= 100)
            assert ask.request is request
            return await other(ask)

    ask = an_ask()
    request = ask.request
    answer = compose(layers(router, 0), choose)

    async def run() -> None:
        ask.hold()
        task = asyncio.ensure_future(answer(ask))
        await turns(cancelled_after)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        ask.leave()

    asyncio.run(run())
    assert sorted(opened) == sorted(closed)
    assert len(set(closed)) == len(closed)
    for part in (range(100), range(100, 200), range(200, 300)):
        assert [n for n in closed if n in part] == [n for n in opened if n in part][::-1]
