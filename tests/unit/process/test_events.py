"""Waiting for the first of several events."""

import asyncio

from capstan_process.events import first_of


async def test_the_first_one_is_enough() -> None:
    """It returns when any of them is set, or was set before, and leaves no task behind."""
    one, other = asyncio.Event(), asyncio.Event()
    waiting = asyncio.create_task(first_of(one, other))
    await asyncio.sleep(0)
    assert not waiting.done()
    other.set()
    await waiting
    await first_of(one, other)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
