"""Work that belongs to no client: bounded, and ended with the process."""

import asyncio

import pytest

from capstan_gateway.errors import Overloaded
from capstan_gateway.pipeline.background import MAX_TASKS, Background


async def wait_for_ever() -> None:
    """Wait."""
    await asyncio.Event().wait()


async def nothing() -> None:
    """Be over at once."""


async def test_as_much_is_begun_as_may_be() -> None:
    """One more is refused, and never runs; what is over makes room."""
    background = Background(2)
    first = background.start(wait_for_ever())
    await background.start(nothing())
    second = background.start(wait_for_ever())
    await asyncio.sleep(0)
    assert len(background) == 2
    with pytest.raises(Overloaded) as refused:
        background.start(wait_for_ever())
    assert refused.value.message == "the gateway is full; try again"
    assert len(background) == 2
    await background.close()
    assert first.cancelled()
    assert second.cancelled()


async def test_nothing_begins_behind_the_end() -> None:
    """Closing ends what runs, hears of nobody's failure, and takes nothing more."""

    async def fails_at_the_end() -> None:
        try:
            await wait_for_ever()
        finally:
            raise LookupError

    background = Background()
    background.start(fails_at_the_end())
    background.start(wait_for_ever())
    await asyncio.sleep(0)
    await background.close()
    await asyncio.sleep(0)
    assert len(background) == 0
    with pytest.raises(Overloaded):
        background.start(nothing())


async def test_the_bound_where_nobody_names_another() -> None:
    """It is what is said: so many, and no task more."""
    background = Background()
    for _ in range(MAX_TASKS):
        background.start(wait_for_ever())
    with pytest.raises(Overloaded):
        background.start(wait_for_ever())
    await background.close()
