"""The resync's pulse."""

import asyncio
import itertools
from collections.abc import Iterable

from capstan_operator.kube.errors import Unavailable
from capstan_operator.loop.resync import Resync
from capstan_operator.resources.resource import ObjectKey
from support.wait import eventually

KEY = ObjectKey("ns", "m")


class World:
    """What the resync sees and does."""

    def __init__(self) -> None:
        self.now = 0.0
        self.woken: list[object] = []
        self.broken = False
        self.idle = True

    def resync(self, interval: float = 10.0) -> Resync:
        """Give a resync of this world."""

        async def list_keys() -> Iterable[ObjectKey]:
            if self.broken:
                raise Unavailable("no answer")
            return [KEY]

        return Resync(
            interval=interval,
            list_keys=list_keys,
            wake=self.woken.append,
            wake_config=lambda: self.woken.append("config"),
            is_idle=lambda _: self.idle,
            rng=lambda: 0.5,
            clock=lambda: self.now,
        )


async def test_a_pass_wakes_everything_and_counts_as_good() -> None:
    """The config and every model are woken; the age is that of the last good pass."""
    world = World()
    resync = world.resync()
    assert resync.problem() is None
    task = asyncio.create_task(resync.run())
    await eventually(lambda: world.woken == ["config", KEY])
    world.now = 7.0
    assert resync.age == 7.0
    assert resync.problem() is None
    world.now = 31.0
    assert resync.problem() is not None
    task.cancel()


async def test_a_pass_that_cannot_list_is_not_good() -> None:
    """While the API server does not answer, the pulse becomes stale, and nothing is woken."""
    world = World()
    world.broken = True
    resync = world.resync(interval=0.05)
    task = asyncio.create_task(resync.run())
    await asyncio.sleep(0)
    world.now = 1.0
    assert resync.problem() is not None
    assert not world.woken
    world.broken = False
    await eventually(lambda: resync.problem() is None, what="the pulse to come back")
    task.cancel()


async def test_a_pass_that_does_not_end_is_not_good() -> None:
    """Models that are never through make the pulse stale; the next pass is tried all the same."""
    world = World()
    world.idle = False
    resync = world.resync(interval=0.05)
    task = asyncio.create_task(resync.run())
    await eventually(lambda: len(world.woken) >= 4, what="a second pass after the first one's deadline")
    world.now = 1.0
    assert resync.problem() is not None
    task.cancel()


async def test_a_pass_ends_although_some_model_is_always_busy() -> None:
    """A pass is good when each model was through once; they need not all be through at the same moment."""
    looks = itertools.count()
    keys = (KEY, ObjectKey("ns", "n"))

    def is_idle(asked: Iterable[ObjectKey]) -> bool:
        # One of the two is busy whenever somebody looks, and it is not always the same one.
        return keys[next(looks) // 2 % 2] not in set(asked)

    async def list_keys() -> Iterable[ObjectKey]:
        return keys

    woken: list[object] = []
    resync = Resync(
        interval=30.0,
        list_keys=list_keys,
        wake=woken.append,
        wake_config=lambda: woken.append("config"),
        is_idle=is_idle,
        clock=lambda: float(len(woken)),
    )
    task = asyncio.create_task(resync.run())
    await eventually(lambda: len(woken) == 3 and resync.age == 0.0, what="a good pass")
    task.cancel()
