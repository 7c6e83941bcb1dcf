"""When the resync makes its passes, by a clock that jumps."""

import asyncio
from collections.abc import Callable, Iterable

import pytest

from capstan_operator.kube.errors import Unavailable
from capstan_operator.loop.resync import Resync
from capstan_operator.resources.resource import ObjectKey
from support.virtualtime import run_virtually

KEYS = (ObjectKey("ns", "a"), ObjectKey("ns", "b"))


class World:
    """Models that are through `busy` seconds after they were woken, and an API server that fails as often as asked."""

    def __init__(
        self,
        *,
        interval: float,
        random: float = 0.5,
        busy: float = 0.0,
        failures: int = 0,
        error: Exception | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.tried: list[float] = []
        self.passes: list[float] = []
        self.woken: dict[ObjectKey, float] = {}
        self.busy = busy
        self.failures = failures
        self.error = error or Unavailable("no answer")
        self.resync = Resync(
            interval=interval,
            list_keys=self.list_keys,
            wake=self.wake,
            wake_config=lambda: self.passes.append(self.now()),
            is_idle=lambda keys: all(self.now() - self.woken[key] >= self.busy for key in keys),
            rng=lambda: random,
            clock=self.loop.time,
        )

    def now(self) -> float:
        """Seconds since the beginning."""
        return self.loop.time() - self.began

    def wake(self, key: ObjectKey) -> None:
        """Take note of it."""
        self.woken[key] = self.now()

    async def list_keys(self) -> Iterable[ObjectKey]:
        """Give both models, or fail."""
        self.tried.append(self.now())
        if self.failures:
            self.failures -= 1
            raise self.error
        return KEYS


def after(seconds: float, make: Callable[[], World]) -> World:
    """Give the world as it is when a resync has run for so long."""

    async def scenario() -> World:
        world = make()
        running = asyncio.create_task(world.resync.run())
        await asyncio.sleep(seconds)
        running.cancel()
        return world

    return run_virtually(scenario())


@pytest.mark.parametrize(("random", "pause"), [(0.0, 270.0), (0.5, 300.0), (1.0, 330.0)])
def test_passes_are_an_interval_apart_give_or_take_a_tenth(random: float, pause: float) -> None:
    """Operators that were started together do not ask the API server together for ever."""
    world = after(700, lambda: World(interval=300.0, random=random))
    assert world.passes == pytest.approx([0.0, pause, 2 * pause])


@pytest.mark.parametrize(("interval", "pause"), [(300.0, 10.0), (4.0, 4.0)])
@pytest.mark.parametrize("error", [Unavailable("no answer"), ZeroDivisionError()])
def test_a_failed_pass_is_tried_again_soon(interval: float, pause: float, error: Exception) -> None:
    """After ten seconds, or after the interval when that is shorter, whatever it failed of; nothing is woken by it."""
    world = after(2.5 * pause, lambda: World(interval=interval, failures=2, error=error))
    assert world.tried == pytest.approx([0.0, pause, 2 * pause])
    assert world.passes == pytest.approx([2 * pause])
    assert set(world.woken) == set(KEYS)


def test_a_pass_is_good_when_every_model_was_through() -> None:
    """Its age counts from then, and the next pass begins an interval later."""
    world = after(309, lambda: World(interval=300.0, busy=8.0))
    assert world.resync.age == pytest.approx(301)
    assert world.passes == pytest.approx([0.0, 308.0])


def test_a_pass_that_does_not_end_is_given_up_after_three_intervals() -> None:
    """Then the next one is tried, and the age goes on from the last good one."""
    world = after(65, lambda: World(interval=20.0, busy=1e9))
    assert world.passes == pytest.approx([0.0])
    world = after(75, lambda: World(interval=20.0, busy=1e9))
    assert world.passes == pytest.approx([0.0, 70.0])
    assert world.resync.age == pytest.approx(75)


def test_the_pulse_is_stale_after_three_intervals() -> None:
    """Not a moment earlier, and what is said then names both times."""

    async def scenario() -> None:
        world = World(interval=20.0, busy=1e9)
        running = asyncio.create_task(world.resync.run())
        await asyncio.sleep(60)
        assert world.resync.problem() is None
        await asyncio.sleep(1)
        assert world.resync.problem() == "the last complete resync is 61 s old; it is due every 20 s"
        running.cancel()

    run_virtually(scenario())


def test_a_process_that_has_not_begun_has_no_pulse_to_be_late() -> None:
    """It may wait for the lease as long as it likes."""

    async def scenario() -> None:
        world = World(interval=20.0)
        await asyncio.sleep(3600)
        assert world.resync.age == 0.0
        assert world.resync.problem() is None

    run_virtually(scenario())
