"""The work queue's rules, on a clock of numbers, and its asyncio shell."""

import asyncio

import pytest

from capstan_operator.loop.workqueue import DONE, Outcome, Pace, QueueCore, WorkQueue
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


async def test_the_shell_runs_a_key_again_after_it_was_woken_meanwhile() -> None:
    """Nothing that happens during a run is lost."""
    queue: WorkQueue[str] = WorkQueue(Pace(lead=0.0, quiet=0.01, most=0.02))
    runs: list[str] = []

    async def handle(keys: list[str]) -> None:
        for key in keys:
            if not runs:
                queue.wake(key)
            runs.append(key)
            queue.done(key, DONE)

    task = asyncio.create_task(queue.run(handle))
    queue.wake("a")
    await eventually(lambda: len(runs) == 2)
    assert queue.is_idle(["a"])
    task.cancel()


async def test_a_slow_key_does_not_hold_up_the_others_of_its_batch() -> None:
    """A key ends by itself; the rest of its batch may still be running when it runs again."""
    queue: WorkQueue[str] = WorkQueue(Pace(lead=0.0, quiet=0.01, most=0.02))
    release = asyncio.Event()
    runs: list[str] = []

    async def handle(keys: list[str]) -> None:
        for key in sorted(keys):
            runs.append(key)
            if key == "slow":
                await release.wait()
            queue.done(key, DONE)

    task = asyncio.create_task(queue.run(handle, batches=2))
    queue.wake("quick")
    queue.wake("slow")
    await eventually(lambda: runs == ["quick", "slow"])
    queue.wake("quick")
    await eventually(lambda: runs == ["quick", "slow", "quick"])
    release.set()
    await eventually(lambda: queue.is_idle(["quick", "slow"]))
    task.cancel()


async def test_keys_that_a_broken_handler_leaves_open_back_off(caplog: pytest.LogCaptureFixture) -> None:
    """A handler that raises is a bug: its keys are tried again, and the queue lives on."""
    queue: WorkQueue[str] = WorkQueue(Pace(lead=0.0, quiet=0.01, most=0.02))

    async def handle(keys: list[str]) -> None:
        raise ZeroDivisionError

    task = asyncio.create_task(queue.run(handle))
    queue.wake("a")
    await eventually(lambda: queue.core.failing == 1)
    assert not task.done()
    assert "batch failed" in caplog.text
    task.cancel()
