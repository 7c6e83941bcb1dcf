"""Drains: when they have ended, and who begins one."""

import asyncio

import pytest

from capstan_worker.drain import Drain, Drainer, Verdict
from support.wait import eventually


def test_nothing_is_drained_before_it_began():
    """A worker that nobody drains is serving, however long it has been idle."""
    assert Drain(grace=10, settle=1).observe(0, 100.0).verdict(1000.0) is Verdict.SERVING


def test_an_idle_worker_waits_for_the_last_requests():
    """A drain ends only after nothing was in flight for the settling time, so that a late request is not cut."""
    drain = Drain(grace=60, settle=2).begin(0.0).observe(0, 0.0)
    assert drain.verdict(1.9) is Verdict.WAITING
    assert drain.verdict(2.0) is Verdict.DRAINED


def test_a_late_request_starts_the_settling_anew():
    """A request during the settling time puts the end off until it was answered and the time has passed again."""
    drain = Drain(grace=60, settle=2).begin(0.0).observe(0, 0.0).observe(1, 1.0).observe(0, 5.0)
    assert drain.verdict(6.9) is Verdict.WAITING
    assert drain.verdict(7.0) is Verdict.DRAINED


def test_a_drain_gives_up_before_the_grace_period_ends():
    """A stream that does not end leaves the hook a moment before Kubernetes would kill the pod."""
    drain = Drain(grace=60, settle=2).begin(10.0).observe(3, 60.0)
    assert drain.verdict(64.9) is Verdict.WAITING
    assert drain.verdict(65.0) is Verdict.OUT_OF_TIME


def test_a_second_begin_changes_nothing():
    """The signal that follows the hook does not start the grace period anew."""
    assert Drain(grace=60, settle=2).begin(1.0).begin(30.0).started == 1.0


async def test_all_who_ask_wait_for_one_drain():
    """The hook and the signal wait for the same drain, and one that stops waiting does not end it for the other."""
    in_flight = 1

    async def count() -> int:
        return in_flight

    drainer = Drainer(Drain(grace=60, settle=0), count, every=0.001)
    hook = asyncio.create_task(drainer.wait())
    other = asyncio.create_task(drainer.wait())
    await asyncio.sleep(0)
    assert drainer.draining
    hook.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hook
    in_flight = 0
    assert await other is Verdict.DRAINED


async def test_a_hook_waits_and_begins_nothing():
    """Whoever asks for idleness gets it when nothing is in flight any more; the worker is not draining for that."""
    in_flight = 1

    async def count() -> int:
        return in_flight

    drainer = Drainer(Drain(grace=60, settle=0), count, every=0.001)
    hook = asyncio.create_task(drainer.idle())
    await asyncio.sleep(0.01)
    assert not hook.done()
    assert not drainer.draining
    in_flight = 0
    assert await hook is Verdict.DRAINED
    assert not drainer.draining


async def test_each_hook_has_its_own_time():
    """One who has waited long, a stranger perhaps, takes no time from the one who asks later."""
    now = 0.0

    async def count() -> int:
        return 1

    drainer = Drainer(Drain(grace=50, settle=1), count, clock=lambda: now, every=0.001)
    first = asyncio.create_task(drainer.idle())
    await asyncio.sleep(0.01)
    now = 40.0
    second = asyncio.create_task(drainer.idle())
    await asyncio.sleep(0.01)
    now = 46.0
    assert await first is Verdict.OUT_OF_TIME
    await asyncio.sleep(0.01)
    assert not second.done()
    now = 86.0
    assert await second is Verdict.OUT_OF_TIME


async def test_many_hooks_ask_the_engine_once():
    """However many wait, the engine is asked as often as for one."""
    asked, now = 0, 0.0

    async def count() -> int:
        nonlocal asked
        asked += 1
        return 0

    drainer = Drainer(Drain(grace=60, settle=0), count, clock=lambda: now, every=0.1)
    assert set(await asyncio.gather(*(drainer.idle() for _ in range(100)))) == {Verdict.DRAINED}
    assert asked == 1


@pytest.mark.parametrize(("later", "at_once"), [(1.0, True), (30.0, False)])
async def test_the_signal_after_a_hook_does_not_settle_again(later: float, at_once: bool):
    """A drain that follows a hook's wait ends at once; one that has nothing to do with it settles."""
    now = 0.0

    async def count() -> int:
        return 0

    drainer = Drainer(Drain(grace=60, settle=2), count, clock=lambda: now, every=0.001)
    hook = asyncio.create_task(drainer.idle())
    await asyncio.sleep(0.01)
    now = 2.0
    await hook
    now += later
    drain = asyncio.create_task(drainer.wait())
    if at_once:
        await eventually(drain.done, every=0.001, what="its end at the same moment")
    else:
        await asyncio.sleep(0.05)
        assert not drain.done()
    now += 2.0
    assert await drain is Verdict.DRAINED


async def test_the_signal_counts_anew():
    """What a hook has just counted is not taken for what is in flight behind the signal, when more counts."""
    queued, left, now = 1, False, 0.0

    async def count() -> int:
        return queued if left else 0

    drainer = Drainer(Drain(grace=60, settle=0), count, clock=lambda: now, every=0.1)
    assert await drainer.idle() is Verdict.DRAINED
    left = True
    drain = asyncio.create_task(drainer.wait())
    await asyncio.sleep(0.05)
    assert not drain.done()
    queued, now = 0, 1.0
    assert await drain is Verdict.DRAINED
