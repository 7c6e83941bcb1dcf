"""When an engine is found to hang."""

from typing import Final

import pytest

from capstan_contract.queue.calls import Taken
from capstan_worker.queue.hanging import Watch
from capstan_worker.queue.work import Work

SECONDS: Final = 40.0
EVERY: Final = 2.0
WORKS: Final = [Work(Taken("1-0", 1, 1, 1000, 0, b"", b""), 0.0, 1e9, streams=True)]


class Engine:
    """What a watch sees of one, and the time."""

    def __init__(self, computed: float | None) -> None:
        self.computed = computed
        self.telling = 0.0
        """Seconds that it takes to say that."""
        self.now = 1000.0
        self.watch = Watch(self.pulse, seconds=SECONDS, every=EVERY, now=lambda: self.now)
        self.watch.begin()

    async def pulse(self) -> float | None:
        self.now += self.telling
        return self.computed

    async def looks(self, times: int) -> bool:
        """Whether one of so many looks finds that it hangs."""
        found = False
        for _ in range(times):
            self.now += EVERY
            found = await self.watch.look(WORKS) or found
        return found


@pytest.mark.parametrize("computed", [None, 7.0])
async def test_one_that_gives_nothing_is_found_after_its_time(computed: float | None) -> None:
    """Not before the seconds are over, and with counts that stand still no later than half of them more."""
    engine = Engine(computed)
    assert not await engine.looks(int(SECONDS / EVERY) - 1)
    assert await engine.looks(int(SECONDS / 2 / EVERY) + 1)
    assert engine.watch.hung
    engine.watch.lives()
    assert not engine.watch.hung


async def test_time_in_which_the_worker_stood_still_counts_nothing() -> None:
    """A worker that was stopped for minutes has heard nothing because it did not listen."""
    engine = Engine(7.0)
    assert not await engine.looks(int(SECONDS / EVERY) - 1)  # One look more, and it would hang by the clock.
    engine.now += 5 * SECONDS
    assert not await engine.looks(1)
    assert await engine.looks(int(SECONDS / EVERY))


async def test_an_engine_that_tells_slowly_is_found_too() -> None:
    """The time that an engine takes to say what it has computed is none in which the worker stood still."""
    engine = Engine(7.0)
    engine.telling = SECONDS / 2
    assert await engine.looks(int(2 * SECONDS / EVERY))


async def test_one_whose_counts_grow_never_hangs() -> None:
    """However long its answer is."""
    engine = Engine(0.0)
    for _ in range(200):
        engine.computed = (engine.computed or 0.0) + 1
        assert not await engine.looks(1)
