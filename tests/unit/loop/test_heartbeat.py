"""The heartbeat of the event loop."""

import asyncio

from capstan_operator.loop.heartbeat import STILL_SECONDS, Heartbeat
from support.wait import eventually


async def test_a_loop_that_stands_still_is_noticed() -> None:
    """The age of the last beat grows while the loop does not turn, and the longest stand-still is remembered."""
    now = [0.0]
    heartbeat = Heartbeat(every=0.001, clock=lambda: now[0])
    assert heartbeat.problem() is None
    task = asyncio.create_task(heartbeat.run())
    await asyncio.sleep(0)
    now[0] = STILL_SECONDS + 1
    assert "has not turned for 31 s" in str(heartbeat.problem())
    await eventually(lambda: heartbeat.problem() is None, what="the next beat")
    assert STILL_SECONDS < heartbeat.longest_stall <= STILL_SECONDS + 1
    task.cancel()


async def test_a_loop_that_turns_has_stood_still_for_no_time() -> None:
    """Nothing is remembered that was not, and exactly the limit is no hang yet."""
    now = [0.0]
    heartbeat = Heartbeat(every=0.0, clock=lambda: now[0])
    assert heartbeat.longest_stall == 0.0
    task = asyncio.create_task(heartbeat.run())
    for _ in range(5):
        await asyncio.sleep(0)
    assert heartbeat.longest_stall == 0.0
    assert not task.done()
    now[0] = STILL_SECONDS
    assert heartbeat.age == STILL_SECONDS
    assert heartbeat.problem() is None
    task.cancel()
