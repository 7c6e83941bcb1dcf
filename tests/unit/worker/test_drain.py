"""Drains: when they have ended, and who may ask for one."""

import asyncio

import pytest

from capstan_worker.drain import Drain, Drainer, Verdict


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
