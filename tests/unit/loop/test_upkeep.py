"""What is kept for long is set aside, and looked at as a whole only when far more is there than was accounted for."""

import asyncio
import gc
from collections.abc import Iterator

import pytest

from capstan_operator.upkeep import GC_THRESHOLDS, Ledger, Upkeep, give_back, limit_arenas
from support.wait import PATIENCE


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    """Begin with nothing set aside, which what there is of all tests is (conftest.py), and leave the collector as it
    was."""
    thresholds, frozen = gc.get_threshold(), gc.get_freeze_count()
    gc.unfreeze()
    gc.collect()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    if frozen:
        gc.freeze()


class Node:
    """Something in a cycle with itself."""

    gone = 0

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        Node.gone += 1


def _frozen_garbage() -> None:
    Node.gone = 0
    node = Node()
    gc.freeze()
    del node


def test_what_is_there_is_set_aside() -> None:
    """After a round no collection looks at what was there before it."""
    kept = [[number] for number in range(1000)]
    upkeep = Upkeep(is_busy=lambda: False)
    upkeep.set_aside()
    assert gc.get_freeze_count() >= len(kept)


def test_garbage_since_the_last_round_is_collected_before_it_is_set_aside() -> None:
    """A cycle that died in a quiet time takes no memory until the next thorough look."""
    upkeep = Upkeep(is_busy=lambda: False)
    upkeep.set_aside()
    Node.gone = 0
    Node()
    upkeep.set_aside()
    assert Node.gone == 1


def test_what_a_busy_time_has_left_is_not_looked_at() -> None:
    """While models wait no collection is made, however small: what is there is set aside as it is."""
    gc.disable()
    try:
        Node.gone = 0
        Node()
        Upkeep(is_busy=lambda: True).set_aside()
    finally:
        gc.enable()
    assert Node.gone == 0
    assert gc.get_freeze_count() > 0


def test_everything_is_looked_at_when_far_more_is_there_than_before() -> None:
    """Garbage with cycles that was set aside is found in the end."""
    _frozen_garbage()
    Upkeep(is_busy=lambda: False, ledger=Ledger(least=1)).set_aside()
    assert Node.gone == 1


def test_a_thorough_look_waits_until_no_model_does() -> None:
    """It stops the loop for long: it is made when nobody would notice."""
    _frozen_garbage()
    busy = True
    upkeep = Upkeep(is_busy=lambda: busy, ledger=Ledger(least=gc.get_freeze_count() - 1))
    upkeep.set_aside()
    assert Node.gone == 0
    busy = False
    upkeep.set_aside()
    assert Node.gone == 1


def test_a_thorough_look_does_not_wait_for_ever() -> None:
    """Where models always wait memory is bounded all the same."""
    _frozen_garbage()
    Upkeep(is_busy=lambda: True, ledger=Ledger(least=1)).set_aside()
    assert Node.gone == 1


def test_a_look_raises_what_is_accounted_for() -> None:
    """What a thorough look has left is no reason for the next one; twice as much is."""
    ledger = Ledger(least=10)
    assert not ledger.must_look(10, busy=False)
    assert ledger.must_look(11, busy=False)
    ledger.looked(100)
    assert not ledger.must_look(200, busy=False)
    assert ledger.must_look(201, busy=False)
    assert not ledger.must_look(400, busy=True)
    assert ledger.must_look(401, busy=True)


async def test_it_goes_on_until_cancelled() -> None:
    """Round after round, in which free memory is given back now and then."""
    task = asyncio.create_task(Upkeep(is_busy=lambda: False, every=0.0).run())
    async with asyncio.timeout(PATIENCE):
        while not gc.get_freeze_count():  # noqa: ASYNC110  # nobody says when a round is through
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_oldest_generation_is_never_collected_by_itself() -> None:
    """Only a round decides that: it looks at everything that was not set aside."""
    assert GC_THRESHOLDS[2] >= 100_000


def test_the_allocator_is_told_where_it_can_be() -> None:
    """On another C library nothing is done, and nothing fails."""
    assert limit_arenas() in (True, False)
    give_back()
