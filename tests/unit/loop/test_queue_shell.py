"""The queue's shell, by a clock that jumps: when batches are prepared, and what becomes of runs that fail or hang."""

import asyncio
from collections.abc import Coroutine
from itertools import pairwise
from typing import Any

import pytest

from capstan_operator.backoff import Backoff
from capstan_operator.loop.shares import Limits
from capstan_operator.loop.workqueue import DONE, Outcome, Pace, Work, WorkQueue
from support.virtualtime import run_virtually

PACE = Pace(lead=0.0625, quiet=0.25, most=2.0)
STEADY = Backoff(first=4.0, factor=2.0, most=64.0)


class World:
    """A queue that runs, and what its runs were: (seconds, keys) of each batch, (seconds, key) of each run."""

    def __init__(self, **options: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.queue: WorkQueue[str] = WorkQueue(PACE, rng=lambda: 1.0, backoff=STEADY, **options)
        self.batches: list[tuple[float, list[str]]] = []
        self.runs: list[tuple[float, str]] = []
        self.lasts: dict[str, float] = {}
        """Seconds that a key's run lasts."""
        self.fails: set[str] = set()
        self.breaks: set[str] = set()
        self.preparing = 0.0
        self.unprepared = 0
        """How many batches cannot be prepared."""
        self.cancelled: list[str] = []
        self.cleaning: dict[str, float] = {}
        """Seconds that it takes a key's run to end when it is cancelled."""

    def now(self) -> float:
        """Seconds since the beginning."""
        return self.loop.time() - self.began

    async def prepare(self, keys: list[str]) -> Work[str]:
        """Prepare a batch."""
        self.batches.append((self.now(), sorted(keys)))
        if self.preparing:
            await asyncio.sleep(self.preparing)
        if self.unprepared:
            self.unprepared -= 1
            raise ZeroDivisionError
        return self.work

    async def work(self, key: str) -> Outcome:
        """Run a key."""
        self.runs.append((self.now(), key))
        try:
            await asyncio.sleep(self.lasts.get(key, 0.0))
        except asyncio.CancelledError:
            await asyncio.sleep(self.cleaning.get(key, 0.0))
            self.cancelled.append(key)
            raise
        if key in self.breaks:
            raise ZeroDivisionError
        return Outcome(failed=True) if key in self.fails else DONE


def in_world(scenario: Any, *, queue: dict[str, Any] | None = None, **run: Any) -> World:
    """Run a scenario beside a running queue; give the world as it then is."""

    async def main() -> World:
        world = World(**(queue or {}))
        running = asyncio.create_task(world.queue.run(world.prepare, **run))
        try:
            work: Coroutine[Any, Any, None] = scenario(world)
            await work
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        return world

    return run_virtually(main())


async def test_idle_means_that_every_key_is_idle() -> None:
    """One of several that still waits is enough to say no."""
    queue: WorkQueue[str] = WorkQueue(PACE)
    queue.wake("a")
    assert not queue.is_idle(["a"])
    assert not queue.is_idle(["b", "a"])
    assert queue.is_idle(["b"])


def test_a_batch_is_bounded_and_the_rest_comes_at_once() -> None:
    """Keys that have no room in a batch are the next batch."""

    async def scenario(world: World) -> None:
        for key in "abc":
            world.queue.wake(key)
        await asyncio.sleep(1)

    world = in_world(scenario, batch_size=2)
    assert world.batches == [(PACE.lead, ["a", "b"]), (PACE.lead, ["c"])]


def test_batches_start_a_gap_apart() -> None:
    """Keys that trickle in share a batch; a first one does not wait, nor does one that comes after the gap."""

    async def scenario(world: World) -> None:
        for key, wait in (("a", 0.25), ("b", 0.25), ("c", 9.5), ("d", 1.0)):
            world.queue.wake(key)
            await asyncio.sleep(wait)

    world = in_world(scenario, gap=2.0)
    assert world.batches == [
        (PACE.lead, ["a"]),
        (PACE.lead + 2.0, ["b", "c"]),
        (10.0 + PACE.lead, ["d"]),
    ]


def test_a_steady_trickle_costs_few_batches() -> None:
    """Small batches that follow each other without a pause are spaced wider, up to four times; no key waits longer, and
    after a pause the spacing is narrow again."""

    async def scenario(world: World) -> None:
        for number in range(240):  # six a second for 40 s
            world.queue.wake(f"trickle/{number}")
            await asyncio.sleep(1 / 6)
        await asyncio.sleep(5)
        for key in "ab":
            world.queue.wake(key)
            await asyncio.sleep(0.125)
        await asyncio.sleep(1)

    world = in_world(scenario, gap=0.25)
    trickle = [at for at, keys in world.batches if keys[0].startswith("trickle")]
    assert len(world.runs) == 240 + 2
    assert len(trickle) <= 40 + 5
    assert max(later - earlier for earlier, later in pairwise(trickle)) <= 1.0 + 1e-6
    assert [round(at - 45 - PACE.lead, 3) for at, keys in world.batches if keys in (["a"], ["b"])] == [0.0, 0.25]


def test_a_gap_shorter_than_a_second_is_kept_too() -> None:
    """It is half a second in a cluster."""

    async def scenario(world: World) -> None:
        for key in "ab":
            world.queue.wake(key)
            await asyncio.sleep(0.125)
        await asyncio.sleep(2)

    world = in_world(scenario, gap=0.5)
    assert [at for at, _ in world.batches] == [PACE.lead, PACE.lead + 0.5]


def test_no_more_batches_are_prepared_at_once_than_allowed() -> None:
    """A further one begins when one is done."""

    async def scenario(world: World) -> None:
        world.preparing = 10.0
        for key in "abc":
            world.queue.wake(key)
        await asyncio.sleep(15)

    world = in_world(scenario, batches=2, batch_size=1)
    assert [at for at, _ in world.batches] == pytest.approx([PACE.lead, PACE.lead, PACE.lead + 10.0])


def test_a_batch_that_cannot_be_prepared_backs_off_and_frees_its_place() -> None:
    """Its keys have failed, each by itself, and the queue goes on."""

    async def scenario(world: World) -> None:
        world.unprepared = 1
        world.queue.wake("a")
        world.queue.wake("b")
        await asyncio.sleep(1)
        assert world.queue.core.failing == 2
        await asyncio.sleep(9)

    world = in_world(scenario, batches=1)
    assert [keys for _, keys in world.batches] == [["a", "b"], ["a", "b"]]
    assert world.batches[1][0] == pytest.approx(PACE.lead + 4.0)
    assert world.queue.core.failing == 0


def test_keys_of_a_batch_that_cannot_be_prepared_leave_the_room_of_their_groups() -> None:
    """Each that of its own."""

    async def scenario(world: World) -> None:
        world.unprepared = 1
        for key in ("a1", "a2", "b1"):
            world.queue.wake(key)
        await asyncio.sleep(1)

    world = in_world(scenario, queue={"group_of": lambda key: key[0]})
    assert (world.queue.core.failing, world.queue._shares._ahead) == (3, {})


@pytest.mark.parametrize("how", ["fails", "breaks"])
def test_a_run_that_fails_backs_off_alone(how: str) -> None:
    """Whether it says so or raises: the others of its batch are through."""

    async def scenario(world: World) -> None:
        getattr(world, how).add("a")
        world.queue.wake("a")
        world.queue.wake("b")
        await asyncio.sleep(13)

    world = in_world(scenario)
    assert [at for at, key in world.runs if key == "a"] == pytest.approx([PACE.lead, PACE.lead + 4, PACE.lead + 12])
    assert [key for _, key in world.runs].count("b") == 1
    assert world.queue.core.failing == 1


def test_a_run_that_hangs_is_given_up_at_its_deadline() -> None:
    """It has failed then, and backs off."""

    async def scenario(world: World) -> None:
        world.lasts["a"] = 1e6
        world.queue.wake("a")
        await asyncio.sleep(30)

    world = in_world(scenario, deadline=20.0)
    assert world.cancelled[0] == "a"
    assert [at for at, _ in world.runs] == pytest.approx([PACE.lead, PACE.lead + 24.0])
    assert world.queue.core.failing == 1


def test_a_run_shorter_than_its_deadline_is_left_alone() -> None:
    """However slow it is."""

    async def scenario(world: World) -> None:
        world.lasts["a"] = 19.0
        world.queue.wake("a")
        await asyncio.sleep(25)

    world = in_world(scenario, deadline=20.0)
    assert (world.cancelled, world.queue.core.failing) == ([], 0)


def test_a_group_is_slow_after_the_patience_and_well_after_a_quick_run() -> None:
    """Nobody is called slow earlier, and one run in time is enough to be trusted again."""

    async def scenario(world: World) -> None:
        world.lasts["a"] = 5.0
        world.queue.wake("a")
        await asyncio.sleep(PACE.lead + 1.5)
        assert not world.queue.is_slow("a")
        await asyncio.sleep(1)
        assert world.queue.is_slow("a")
        await asyncio.sleep(10)
        assert world.queue.is_slow("a")  # its run ended, and too late
        world.lasts["a"] = 1.0
        world.queue.wake("a")
        await asyncio.sleep(3)
        assert not world.queue.is_slow("a")

    in_world(scenario, queue={"limits": Limits(workers=8, patience=2.0)})


def test_a_run_that_lasts_as_long_as_the_patience_is_slow() -> None:
    """In time means less."""

    async def scenario(world: World) -> None:
        world.lasts["a"] = 2.0
        world.queue.wake("a")
        await asyncio.sleep(5)
        assert world.queue.is_slow("a")

    in_world(scenario, queue={"limits": Limits(workers=8, patience=2.0)})


def test_a_key_that_is_prepared_again_says_nothing_of_its_group() -> None:
    """It did not run: a slow group is as slow as before."""

    async def scenario(world: World) -> None:
        world.lasts.update(a=30.0, b=30.0)
        world.queue.wake("a")
        world.queue.wake("b")  # is prepared with it, and waits for the only place of the group
        await asyncio.sleep(31)
        assert [keys for _, keys in world.batches] == [["a", "b"], ["b"]]
        assert [key for _, key in world.runs] == ["a", "b"]
        assert world.queue.is_slow("b")

    in_world(scenario, queue={"limits": Limits(workers=1, patience=2.0)}, fresh=1.0, deadline=100.0)


def test_runs_that_have_ended_are_forgotten() -> None:
    """A process that runs for months keeps nothing of them."""

    async def scenario(world: World) -> None:
        for number in range(50):
            world.queue.wake(f"key-{number}")
        await asyncio.sleep(5)
        assert len(world.runs) == 50
        assert world.queue._tasks == set()

    in_world(scenario)


def test_a_run_that_hangs_makes_room_for_another_group() -> None:
    """After the patience, although it goes on."""

    async def scenario(world: World) -> None:
        world.lasts["x/a"] = 50.0
        world.queue.wake("x/a")
        world.queue.wake("y/b")
        await asyncio.sleep(10)

    options = {"limits": Limits(workers=1, patience=2.0), "group_of": lambda key: key[0]}
    world = in_world(scenario, queue=options)
    assert world.runs == [(PACE.lead, "x/a"), (PACE.lead + 2.0, "y/b")]


def test_of_a_slow_group_no_more_is_prepared_than_may_run() -> None:
    """What would only wait is not worth a listing; it is prepared when there is room."""

    async def scenario(world: World) -> None:
        world.lasts.update(dict.fromkeys("abcdef", 10.0))
        world.queue.wake("a")
        await asyncio.sleep(3)
        for key in "bcdef":
            world.queue.wake(key)
        await asyncio.sleep(4)

    world = in_world(scenario, queue={"limits": Limits(workers=8, patience=2.0)}, batches=1)
    assert [keys for _, keys in world.batches] == [["a"], ["b"]]


def test_the_queue_ends_with_its_runs() -> None:
    """Nothing runs on when the queue is cancelled: what runs is cancelled and waited for, even if it raises then."""

    async def main() -> World:
        world = World()
        world.lasts.update(a=1e6, b=1e6)
        world.cleaning["b"] = 5.0
        running = asyncio.create_task(world.queue.run(world.prepare))
        world.queue.wake("a")
        world.queue.wake("b")
        await asyncio.sleep(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert world.cancelled == ["a", "b"]
        assert len(asyncio.all_tasks()) == 1
        return world

    run_virtually(main())


def test_a_burst_of_wake_ups_shares_the_look_of_the_first() -> None:
    """The runner is roused by a wake-up that is due before it would look anyway, and by no other."""

    async def scenario(world: World) -> None:
        looks = 0
        real = world.queue.core.take

        def take(*args: Any, **options: Any) -> Any:
            nonlocal looks
            looks += 1
            return real(*args, **options)

        world.queue.core.take = take  # type: ignore[method-assign]
        for number in range(1000):
            world.queue.wake(f"key-{number}")
            await asyncio.sleep(0)
        assert looks == 1

    in_world(scenario)


@pytest.mark.parametrize(("keys", "groups", "lasts"), [(2000, 1, 0.0625), (2000, 40, 0.125), (500, 1, 0.5)])
def test_a_storm_prepares_hardly_a_key_twice(keys: int, groups: int, lasts: float) -> None:
    """What is prepared ahead is what begins in time, in batches of some size, and most workers are busy."""

    async def scenario(world: World) -> None:
        world.preparing = 0.25
        world.lasts = {f"{number % groups}/{number}": lasts for number in range(keys)}
        for key in world.lasts:
            world.queue.wake(key)
        await asyncio.sleep(keys * lasts / 12 * 1.1 + 2)

    options = {"limits": Limits(workers=16, patience=2.0), "group_of": lambda key: key.split("/")[0]}
    world = in_world(scenario, queue=options, batches=2, batch_size=250, gap=0.25)
    assert len(world.runs) == keys
    assert sum(len(batch) for _, batch in world.batches) <= keys * 1.05
    assert len(world.batches) <= keys / 250 * 3


def test_a_key_of_another_group_runs_in_the_middle_of_a_storm() -> None:
    """It waits neither for what was prepared before it nor for a worker."""

    async def scenario(world: World) -> None:
        world.lasts = {f"storm/{number}": 0.5 for number in range(500)}
        for key in world.lasts:
            world.queue.wake(key)
        await asyncio.sleep(5)
        world.queue.wake("other/1")
        await asyncio.sleep(2)
        assert [at for at, key in world.runs if key == "other/1"]

    in_world(
        scenario,
        queue={"limits": Limits(workers=16, patience=2.0), "group_of": lambda key: key.split("/")[0]},
        batches=2,
        batch_size=250,
        gap=0.25,
    )


@pytest.mark.parametrize("later", [0.25, 0.5, 2.0])
def test_groups_that_come_shortly_after_each_other_wait_for_nobody_who_hangs(later: float) -> None:
    """Whoever comes within a second of another one goes on when that is over, though nothing else happens until the
    hanging runs' deadline."""

    async def scenario(world: World) -> None:
        world.lasts = {f"hangs/{number}": 1000.0 for number in range(1000)}
        for key in world.lasts:
            world.queue.wake(key)
        await asyncio.sleep(1.25)
        world.queue.wake("first/1")
        await asyncio.sleep(later)
        world.queue.wake("second/1")
        await asyncio.sleep(4)

    world = in_world(
        scenario,
        queue={"limits": Limits(workers=16, patience=2.0), "group_of": lambda key: key.split("/")[0]},
        batches=2,
        batch_size=250,
        gap=0.25,
        deadline=30.0,
    )
    began = {key: at for at, key in world.runs if not key.startswith("hangs/")}
    assert began["first/1"] <= 1.25 + 0.5
    assert began["second/1"] <= 1.25 + later + 1.5


def test_what_waits_of_a_group_that_hangs_makes_room_when_that_is_known() -> None:
    """More of another group is prepared at the moment when a group becomes slow, not only when a run ends."""

    async def scenario(world: World) -> None:
        world.lasts = {f"hangs/{number}": 1000.0 for number in range(1000)}
        for key in world.lasts:
            world.queue.wake(key)
        await asyncio.sleep(1.25)
        for number in range(4 + 4):
            world.lasts[f"other/{number}"] = 1.5
            world.queue.wake(f"other/{number}")
        await asyncio.sleep(2)

    world = in_world(
        scenario,
        queue={"limits": Limits(workers=16, patience=2.0), "group_of": lambda key: key.split("/")[0]},
        batches=2,
        batch_size=250,
        deadline=30.0,
    )
    prepared = [(at, len(keys)) for at, keys in world.batches if keys[0].startswith("other/")]
    assert [count for _, count in prepared] == [4, 4]
    assert prepared[1][0] <= 0.0625 + 2.0 + 0.25


def test_what_was_prepared_too_long_ago_is_prepared_again() -> None:
    """A key that waited for its turn beyond that goes back; one that waited as long as that runs."""

    async def scenario(world: World) -> None:
        world.lasts["a"] = 10.0
        world.queue.wake("a")
        await asyncio.sleep(1)
        world.queue.wake("b")
        await asyncio.sleep(30)

    for fresh, batches in ((5.0, [["a"], ["b"], ["b"]]), (30.0, [["a"], ["b"]])):
        world = in_world(scenario, queue={"limits": Limits(workers=1, patience=60.0)}, fresh=fresh)
        assert [keys for _, keys in world.batches] == batches
        assert [key for _, key in world.runs] == ["a", "b"]
