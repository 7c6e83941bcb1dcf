"""The memory of frames that are not whole yet."""

import pytest

from capstan_gateway.memory import MemoryBudget, Share
from capstan_gateway.pipeline.frame_room import FRAME_FACTOR, FREE_FRAME_BYTES, FrameRoom
from capstan_gateway.streaming.relay import StreamRelay
from capstan_gateway.upstream.errors import NoMemory


def test_a_large_frame_is_taken_from_the_budget_as_long_as_it_grows() -> None:
    """A small one is free; without room there is NoMemory, and nothing more is taken."""
    budget, opened = MemoryBudget(FRAME_FACTOR * FREE_FRAME_BYTES * 4), []

    def open_share() -> Share:
        opened.append(budget.share())
        return opened[-1]

    room = FrameRoom(open_share, whose="m@x")
    room.reckon(FREE_FRAME_BYTES)
    assert not opened
    room.reckon(FREE_FRAME_BYTES + 1)
    assert budget.held == FRAME_FACTOR * (FREE_FRAME_BYTES + 1)
    room.reckon(2 * FREE_FRAME_BYTES)
    assert budget.held == FRAME_FACTOR * 2 * FREE_FRAME_BYTES
    with pytest.raises(NoMemory) as refused:
        room.reckon(4 * FREE_FRAME_BYTES)
    assert (refused.value.endpoint_id, refused.value.reason) == ("m@x", "the gateway has no room for the stream")
    assert budget.held == FRAME_FACTOR * 2 * FREE_FRAME_BYTES
    room.reckon(FREE_FRAME_BYTES)
    assert (budget.held, len(opened)) == (0, 1)
    room.reckon(0)
    assert (budget.held, len(opened)) == (0, 1)


def test_a_relay_tells_what_it_keeps() -> None:
    """The bytes of the frame that is not whole, none of those that were given out."""
    relay = StreamRelay(strip_usage=False)
    frame = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    assert (relay.feed(frame), relay.kept) == (frame, 0)
    assert (relay.feed(frame + frame[:9]), relay.kept) == (frame, 9)
    assert (relay.feed(frame[9:]), relay.kept) == (frame, 0)
