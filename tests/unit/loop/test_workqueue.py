"""The work queue's rules, on a clock of numbers, and its asyncio shell."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from capstan_operator.backoff import Backoff
from capstan_operator.loop.shares import Limits
from capstan_operator.loop.workqueue import DONE, Outcome, Pace, QueueCore, Work, WorkQueue
from support.wait import eventually

PACE = Pace(lead=0.05, quiet=0.3, most=2.0)


def make_core() -> QueueCore[str]:
    """Give an empty queue without jitter."""
    return QueueCore(PACE, rng=lambda: 1.0)


def test_a_first_change_is_acted_on_after_the_lead() -> None:
    """After calm, a key is ready one lead after its first wake-up, and wake-ups until then merge into it."""
    core = make_core()
    core.wake("a", 10.0)
    core.wake("a", 10.04)
    assert not core.take(10.04)
    assert list(core.take(10.05)) == ["a"]
    assert not core.take(20.0)


def test_a_busy_key_waits_for_quiet() -> None:
    """A key that ran a moment ago waits until nothing has woken it for the quiet time."""
    core = make_core()
    core.wake("a", 0.0)
    core.take(0.1)
    core.done("a", DONE, 0.2)
    core.wake("a", 0.3)
    core.wake("a", 0.5)
    assert not core.take(0.79)
    assert list(core.take(0.81)) == ["a"]


def test_a_key_that_is_woken_all_the_time_runs_in_the_end() -> None:
    """However often a key is woken, it does not wait longer than the most."""
    core = make_core()
    core.wake("a", 0.0)
    core.take(0.1)
    core.done("a", DONE, 0.1)
    for step in range(100):
        core.wake("a", 0.2 + step * 0.1)
        if core.take(0.2 + step * 0.1):
            break
    assert 0.2 + step * 0.1 == pytest.approx(2.2)


def test_a_key_never_runs_twice_at_once() -> None:
    """A key that is woken while it runs runs again only after it has ended."""
    core = make_core()
    core.wake("a", 0.0)
    core.take(0.1)
    core.wake("a", 0.2)
    assert not core.take(50.0)
    core.done("a", DONE, 50.0)
    assert list(core.take(50.0)) == ["a"]


def test_failures_back_off_and_success_forgets_them() -> None:
    """Each failure in a row doubles the wait; one success starts from the beginning."""
    core = make_core()
    core.wake("a", 0.0)
    core.take(1.0)
    core.done("a", Outcome(failed=True), 1.0)
    assert core.next_ready() == pytest.approx(1.5)
    core.take(1.5)
    core.done("a", Outcome(failed=True), 1.5)
    assert core.next_ready() == pytest.approx(2.5)
    assert core.failing == 1
    core.take(2.5)
    core.done("a", DONE, 2.5)
    assert core.next_ready() is None
    assert core.failing == 0


def test_the_other_side_may_ask_for_a_longer_wait() -> None:
    """Retry-After is honoured when it is longer than the key's own back-off."""
    core = make_core()
    core.wake("a", 0.0)
    core.take(1.0)
    core.done("a", Outcome(failed=True, after=30.0), 1.0)
    assert core.next_ready() == pytest.approx(31.0)


def test_a_wake_up_overrides_the_back_off() -> None:
    """Whatever changed may be the cure, so a key that backs off is run soon after a wake-up."""
    core = make_core()
    core.wake("a", 0.0)
    core.take(0.1)
    core.done("a", Outcome(failed=True, after=60.0), 0.1)
    core.wake("a", 5.0)
    assert list(core.take(5.05)) == ["a"]


def test_recheck_after_runs_the_key_again() -> None:
    """A key that asked for it is run again later although nothing wakes it, and an earlier wake-up replaces that."""
    core = make_core()
    core.wake("a", 0.0)
    core.take(0.1)
    core.done("a", Outcome(after=30.0), 0.1)
    assert core.is_idle("a")
    assert not core.take(30.0)
    assert list(core.take(30.1)) == ["a"]


def test_a_batch_takes_the_longest_waiting_first() -> None:
    """A bounded batch takes the keys that have waited longest."""
    core = make_core()
    for number, key in enumerate("abc"):
        core.wake(key, float(number))
    assert list(core.take(10.0, 2)) == ["a", "b"]
    assert list(core.take(10.0, 2)) == ["c"]


def test_a_key_that_was_put_back_is_taken_before_those_that_came_later() -> None:
    """A key whose turn did not come keeps its place, and nothing that happened meanwhile is lost."""
    core = make_core()
    core.wake("a", 0.0)
    core.take(0.1)
    core.wake("b", 0.2)
    core.wake("a", 0.3)
    core.put_back("a")
    assert core.take(1.0, 1) == ["a"]
    assert core.take(1.0) == ["b"]
    core.done("a", DONE, 2.0)
    assert core.is_idle("a")


def test_a_key_that_is_held_is_neither_taken_nor_waited_for() -> None:
    """The runner sleeps until something else is ready, and takes the key when it is held no more."""
    core: QueueCore[str] = QueueCore(PACE, rng=lambda: 0.5, group_of=str)
    core.wake("held", 0.0)
    core.wake("free", 3.0)
    assert core.take(1.0, admits=lambda key: key != "held") == []
    assert core.next_to_come() == pytest.approx(3.05)
    assert core.take(5.0, admits=lambda key: key != "held") == ["free"]
    assert core.next_to_come() is None
    assert core.take(5.0) == ["held"]


QUICK = Pace(lead=0.0, quiet=0.01, most=0.02)
Ran = list[str]


@asynccontextmanager
async def running(queue: WorkQueue[str], work: Work[str], **options: Any) -> AsyncIterator[list[list[str]]]:
    """Run a queue whose keys are all worked on the same way; give the batches that were prepared."""
    batches: list[list[str]] = []

    async def prepare(keys: list[str]) -> Work[str]:
        batches.append(keys)
        return work

    task = asyncio.create_task(queue.run(prepare, **options))
    try:
        yield batches
        assert not task.done()
    finally:
        task.cancel()


async def test_the_shell_runs_a_key_again_after_it_was_woken_meanwhile() -> None:
    """Nothing that happens during a run is lost."""
    queue: WorkQueue[str] = WorkQueue(QUICK)
    runs: Ran = []

    async def work(key: str) -> Outcome:
        if not runs:
            queue.wake(key)
        runs.append(key)
        return DONE

    async with running(queue, work):
        queue.wake("a")
        await eventually(lambda: len(runs) == 2)
        await eventually(lambda: queue.is_idle(["a"]))


async def test_a_slow_key_does_not_hold_up_the_others_of_its_batch() -> None:
    """A key ends by itself; the rest of its batch may still be running when it runs again, in a place of its own."""
    queue: WorkQueue[str] = WorkQueue(QUICK)
    release = asyncio.Event()
    runs: Ran = []

    async def work(key: str) -> Outcome:
        runs.append(key)
        if key == "slow":
            await release.wait()
        return DONE

    async with running(queue, work, batches=1) as batches:
        queue.wake("slow")
        queue.wake("quick")
        await eventually(lambda: sorted(runs) == ["quick", "slow"])
        assert len(batches) == 1
        queue.wake("quick")
        await eventually(lambda: runs.count("quick") == 2)
        assert not queue.is_idle(["slow"])
        release.set()
        await eventually(lambda: queue.is_idle(["quick", "slow"]))


async def test_keys_that_cannot_be_prepared_back_off(caplog: pytest.LogCaptureFixture) -> None:
    """A bug where a batch is prepared, or where a key runs: the keys are tried again, and the queue lives on."""
    queue: WorkQueue[str] = WorkQueue(QUICK)

    async def prepare(keys: list[str]) -> Work[str]:
        if "a" in keys:
            raise ZeroDivisionError
        return work

    async def work(key: str) -> Outcome:
        raise ZeroDivisionError

    task = asyncio.create_task(queue.run(prepare))
    queue.wake("a")
    await eventually(lambda: queue.core.failing == 1)
    queue.wake("b")
    await eventually(lambda: queue.core.failing == 2)
    assert not task.done()
    assert "batch failed" in caplog.text
    assert "run failed" in caplog.text
    task.cancel()


async def test_a_run_that_does_not_end_is_ended() -> None:
    """A key has a deadline; then it backs off like one that failed, and others have its place."""
    queue: WorkQueue[str] = WorkQueue(QUICK, limits=Limits(workers=1))
    ended: Ran = []

    async def work(key: str) -> Outcome:
        if key == "hangs":
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(key)
        return DONE

    async with running(queue, work, deadline=0.05):
        queue.wake("hangs")
        queue.wake("well")
        await eventually(lambda: ended and queue.is_idle(["hangs", "well"]))
        assert queue.core.failing == 1


async def test_groups_that_hang_hold_up_nobody_else() -> None:
    """Two hundred keys of each of three groups hang for good, and a key of another group runs all the same."""
    limits = Limits(workers=8, patience=0.05)
    queue: WorkQueue[str] = WorkQueue(QUICK, limits=limits, group_of=lambda key: key.split("/")[0])
    ran: Ran = []

    async def work(key: str) -> Outcome:
        if key.startswith("hangs"):
            await asyncio.Event().wait()
        ran.append(key)
        return DONE

    async with running(queue, work, batches=2, batch_size=100):
        for group in range(3):
            for number in range(200):
                queue.wake(f"hangs{group}/{number}")
        await eventually(lambda: queue.shares.slow_groups == 3)
        for number in range(50):
            queue.wake(f"well/{number}")
        await eventually(lambda: len(ran) == 50)
        assert queue.shares.running <= limits.most
        assert queue.is_slow("hangs0/7")
        assert not queue.is_slow("well/7")


async def test_what_was_prepared_long_ago_is_prepared_again() -> None:
    """A key whose turn comes late runs with what is true then, and not with an old listing."""
    queue: WorkQueue[str] = WorkQueue(QUICK, limits=Limits(workers=1, patience=60.0))
    release = asyncio.Event()
    ran: Ran = []

    async def work(key: str) -> Outcome:
        if key == "first":
            await release.wait()
        ran.append(key)
        return DONE

    async with running(queue, work, fresh=0.5) as batches:
        queue.wake("first")
        await eventually(lambda: batches == [["first"]])
        queue.wake("second")
        await eventually(lambda: batches == [["first"], ["second"]])
        await asyncio.sleep(0.6)
        release.set()
        await eventually(lambda: ran == ["first", "second"])
        assert batches == [["first"], ["second"], ["second"]]
        await eventually(lambda: queue.is_idle(["first", "second"]))


async def test_an_earlier_wake_up_rouses_a_runner_that_sleeps_in_a_back_off() -> None:
    """The runner sleeps until the back-off of a failed key is over; who is woken meanwhile does not wait for that."""
    patient = Backoff(first=3600.0, factor=1.0, most=3600.0)
    queue: WorkQueue[str] = WorkQueue(QUICK, backoff=patient)
    ran: Ran = []

    async def work(key: str) -> Outcome:
        ran.append(key)
        return Outcome(failed=key == "fails")

    async with running(queue, work):
        queue.wake("fails")
        await eventually(lambda: queue.core.failing == 1)
        for _ in range(10):
            await asyncio.sleep(0)  # the runner has looked at what is next, and sleeps
        ready = queue.core.next_ready()
        assert ready is not None
        assert ready - asyncio.get_running_loop().time() > 1000
        queue.wake("works")
        await eventually(lambda: ran == ["fails", "works"])
        queue.wake("fails")
        await eventually(lambda: ran == ["fails", "works", "fails"])
