"""The fence: a process that holds the lease and hangs is ended before anybody else may begin."""

import asyncio
import os
import subprocess
import sys
import textwrap

import pytest

from capstan_operator.errors import LeaseLost
from capstan_operator.kube.errors import Conflict, Unavailable
from capstan_operator.kube.leader import LEASE_NAME, Leader, Timing
from capstan_operator.resources.api_resource import LEASES
from fakes.kube import FakeKube
from support.wait import eventually

HANGS = {
    "the loop is blocked": "time.sleep(TIMING.duration)",
    "the interpreter is held": "ctypes.PyDLL(None).sleep(int(TIMING.duration))",
}

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}

SCRIPT = """
import asyncio, ctypes, os, time
from capstan_operator.kube.fence import ProcessFence
from capstan_operator.kube.leader import Leader, Timing
from fakes.kube import FakeKube

TIMING = Timing(duration=6.0, renew_deadline=2.0, retry=0.1)

async def main():
    leader = Leader(FakeKube(), namespace="ns", identity="me", timing=TIMING, fence=ProcessFence())
    await leader.acquire()
    keeping = asyncio.create_task(leader.keep())
    await asyncio.sleep(0.5)
    assert not keeping.done()
    {then}
    print("somebody else leads by now", flush=True)
    os._exit(0)

asyncio.run(main())
"""


def run(then: str) -> subprocess.CompletedProcess[str]:
    """Run a leader that does something after it has renewed its lease a few times."""
    code = SCRIPT.replace("{then}", textwrap.indent(then, "    ").strip())
    return subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("hang", HANGS.values(), ids=HANGS.keys())
def test_a_process_that_hangs_ends_before_its_lease_does(hang: str) -> None:
    """Whatever keeps the loop from renewing the lease, the process is gone before the lease has run out, and has said
    where it hung."""
    done = run(hang)
    assert done.returncode == 1, done.stderr
    assert "somebody else leads" not in done.stdout
    assert "Timeout" in done.stderr
    assert "main" in done.stderr


def test_a_released_lease_ends_nobody() -> None:
    """A process that has let go of the lease in order may take its time to end."""
    done = run("keeping.cancel()\nawait leader.release()\ntime.sleep(TIMING.duration)")
    assert done.returncode == 0, done.stderr


class Recorded:
    """A fence that notes what it is told."""

    def __init__(self) -> None:
        self.extended: list[float] = []
        self.disarmed = 0

    def extend(self, seconds: float) -> None:
        """See Fence."""
        self.extended.append(seconds)

    def disarm(self) -> None:
        """See Fence."""
        self.disarmed += 1


async def test_a_lost_lease_leaves_the_fence_armed() -> None:
    """Who lost the lease ends in order if it can, and is ended if it cannot: releasing what is not held disarms
    nothing."""
    kube, fence = FakeKube(), Recorded()
    timing = Timing(duration=0.3, renew_deadline=0.1, retry=0.02)
    leader = Leader(kube, namespace="ns", identity="me", timing=timing, fence=fence)
    await leader.acquire()
    assert fence.extended
    assert all(0 < seconds <= timing.fence < timing.duration for seconds in fence.extended)
    kube.faults["apply", LEASES.plural, "ns", LEASE_NAME] = Unavailable("away")
    with pytest.raises(LeaseLost):
        await leader.keep()
    await leader.release()
    assert fence.disarmed == 0


async def test_an_api_server_that_is_away_while_another_writer_is_looked_at_costs_no_lease() -> None:
    """After a conflict the lease is read again; when that fails, it is tried again until the deadline, as a renewal."""
    kube = FakeKube()
    leader = Leader(kube, namespace="ns", identity="me", timing=Timing(duration=9.0, renew_deadline=6.0, retry=0.02))
    await leader.acquire()
    answers: list[Exception] = [Conflict("changed")]
    readings: list[Exception] = [Unavailable("away")]

    async def write() -> None:
        if answers:
            raise answers.pop()

    async def read() -> None:
        if readings:
            raise readings.pop()

    kube.faults["apply", LEASES.plural, "ns", LEASE_NAME] = write
    kube.faults["get", LEASES.plural, "ns", LEASE_NAME] = read
    keeping = asyncio.create_task(leader.keep())
    before = kube.calls["apply", LEASES.plural]
    await eventually(lambda: keeping.done() or kube.calls["apply", LEASES.plural] > before + 3)
    assert not keeping.done()
    assert not answers
    assert not readings
    assert leader.holds
    keeping.cancel()
