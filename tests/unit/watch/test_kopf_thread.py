"""How a run of kopf ends, also when kopf itself would not."""

import asyncio

import pytest

from capstan_operator.watch.kopf_thread import end_in_time


async def _hang() -> None:
    await asyncio.Event().wait()


async def _fail() -> None:
    raise ValueError("a watch failed")


async def test_a_run_that_hangs_when_it_ends_is_given_up() -> None:
    """A run that is ending and does not end in time is an error, so that a watch begins in its place."""
    operator, ending = asyncio.create_task(_hang()), asyncio.Event()
    ending.set()
    with pytest.raises(TimeoutError, match="did not end"):
        await end_in_time(operator, ending, seconds=0.01)
    assert not operator.done()
    operator.cancel()


async def test_what_a_run_ends_with_is_raised() -> None:
    """An error of the run reaches who waits, whether or not it was ending."""
    with pytest.raises(ValueError, match="a watch failed"):
        await end_in_time(asyncio.create_task(_fail()), asyncio.Event(), seconds=60)


async def test_a_run_is_not_bounded_before_it_ends() -> None:
    """The bound counts from the moment at which the run begins to end."""
    operator, ending = asyncio.create_task(_hang()), asyncio.Event()
    waiting = asyncio.create_task(end_in_time(operator, ending, seconds=0))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    ending.set()
    with pytest.raises(TimeoutError):
        await waiting
    operator.cancel()
