"""The leader lease on a real API server: one holder, ever."""

import asyncio
import contextlib
import itertools
from dataclasses import replace
from typing import Any

import pytest

from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.errors import LeaseLost
from capstan_operator.kube.client import KubeClient
from capstan_operator.kube.errors import NotFound
from capstan_operator.kube.leader import LEASE_NAME, Leader, Timing
from capstan_operator.names import FIELD_MANAGER
from capstan_operator.resources.api_resource import LEASES, ApiResource
from capstan_operator.resources.resource import Manifest
from support.llmmodels import is_settled, simulated
from support.operator_process import find
from support.wait import eventually

pytestmark = pytest.mark.apiserver

QUICK = Timing(duration=2.0, renew_deadline=1.2, retry=0.2)
PATIENT = Timing(duration=600.0, renew_deadline=500.0, retry=0.1)
"""Nothing runs out during a test, however slow the machine is."""
LONG_BEFORE = PATIENT.duration / 10
"""A candidate that got the lease within this time did not wait for it to run out."""


def leader(kube: KubeClient, namespace: str, identity: str, timing: Timing = QUICK) -> Leader:
    """Give a candidate, with short times by default."""
    return Leader(kube, namespace=namespace, identity=identity, timing=timing)


async def test_of_many_candidates_one_gets_a_new_lease(kube: KubeClient, namespace: str) -> None:
    """Candidates that begin at the same moment, with no lease there, do not all win."""
    candidates = [leader(kube, namespace, f"c{number}", PATIENT) for number in range(5)]
    tasks = [asyncio.create_task(candidate.acquire()) for candidate in candidates]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    winner = next(candidate for candidate in candidates if candidate.holds)
    keeping = asyncio.create_task(winner.keep())
    _, waiting = await asyncio.wait(tasks, timeout=20 * PATIENT.retry)
    assert len(waiting) == 4
    assert [candidate.holds for candidate in candidates].count(True) == 1
    for task in (*waiting, keeping):
        task.cancel()


class Behind(KubeClient):
    """A client that hears once that the lease is not there, whatever has been written since."""

    def __init__(self, current: KubeClient) -> None:
        self.__dict__.update(current.__dict__)
        self._absent = iter([True])

    async def get(self, kind: ApiResource, name: str, *, namespace: str | None = None) -> Manifest:
        """Read, or say that there is nothing."""
        if next(self._absent, False):
            raise NotFound(f"{kind.plural} '{name}' not found")
        return await super().get(kind, name, namespace=namespace)


async def test_who_makes_the_lease_late_does_not_take_it(kube: KubeClient, namespace: str) -> None:
    """A candidate that saw no lease, and makes it after another has taken it, leaves it taken."""
    first, second = leader(kube, namespace, "first", PATIENT), leader(Behind(kube), namespace, "second", PATIENT)
    await first.acquire()
    task = asyncio.create_task(second.acquire())
    await asyncio.wait([task], timeout=10 * PATIENT.retry)
    assert not second.holds
    lease = await kube.get(LEASES, LEASE_NAME, namespace=namespace)
    assert lease["spec"]["holderIdentity"] == "first"
    task.cancel()


async def test_a_released_lease_is_taken_at_once(kube: KubeClient, namespace: str) -> None:
    """An orderly end lets the next one begin without waiting for the lease to run out."""
    # Releasing may take as long as a retry.
    first = leader(kube, namespace, "first", replace(PATIENT, retry=LONG_BEFORE))
    second = leader(kube, namespace, "second", PATIENT)
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await first.release()
    async with asyncio.timeout(LONG_BEFORE):
        await waiting
    lease = await kube.get(LEASES, LEASE_NAME, namespace=namespace)
    assert lease["spec"]["holderIdentity"] == "second"


async def test_a_lease_that_is_not_renewed_runs_out(kube: KubeClient, namespace: str) -> None:
    """A holder that died is succeeded after the lease's duration; it notices when it was only asleep."""
    first, second = leader(kube, namespace, "first"), leader(kube, namespace, "second")
    await first.acquire()
    async with asyncio.timeout(LONG_BEFORE):
        await second.acquire()
    with pytest.raises(LeaseLost):
        await first.keep()
    lease = await kube.get(LEASES, LEASE_NAME, namespace=namespace)
    assert lease["spec"]["holderIdentity"] == "second"


class Late(KubeClient):
    """A client whose writes are done at once, and answered late."""

    def __init__(self, prompt: KubeClient, *lateness: float) -> None:
        self.__dict__.update(prompt.__dict__)
        self._lateness = itertools.chain(lateness[:-1], itertools.repeat(lateness[-1]))

    async def apply(self, manifest: Manifest, *, manager: str = FIELD_MANAGER, force: bool = True) -> Manifest:
        """Write, and wait."""
        written = await super().apply(manifest, manager=manager, force=force)
        await asyncio.sleep(next(self._lateness))
        return written


async def test_a_lease_counts_from_the_write(kube: KubeClient, namespace: str) -> None:
    """Whoever waits for the lease counts from when it was written, so its holder must not count from the answer."""
    # The first renewal is answered in time; the next answer comes too late after the write before it.
    timing = Timing(duration=60.0, renew_deadline=1.0, retry=0.3)
    holder = Leader(Late(kube, 0.0, 0.0, 0.4), namespace=namespace, identity="slow", timing=timing)
    await holder.acquire()
    with pytest.raises(LeaseLost, match="not renewed"):
        async with asyncio.timeout(LONG_BEFORE):
            await holder.keep()


async def test_the_same_identity_goes_on_at_once(kube: KubeClient, namespace: str) -> None:
    """A restarted container of the same pod need not wait for its predecessor's lease."""
    await leader(kube, namespace, "pod-1", PATIENT).acquire()
    async with asyncio.timeout(LONG_BEFORE):
        await leader(kube, namespace, "pod-1", PATIENT).acquire()


async def test_of_two_overlapping_operators_one_works(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """The second operator waits, healthy and idle, and goes on where the first one ended."""
    first = start_operator()
    await eventually(lambda: first.metric("capstan_operator_leader") == 1, what="the first to lead")
    second = start_operator()
    await kube.apply(simulated("one", namespace), manager="user")

    async def settled() -> bool:
        return is_settled(await find(kube, LLM_MODELS, "one", namespace))

    await eventually(settled, what="the model to settle")
    await eventually(lambda: "waiting for the leader lease" in second.log, what="the second to wait")
    assert second.read("/healthz") == "ok"
    assert second.metric("capstan_operator_leader") == 0
    assert second.metric("capstan_operator_reconciles_total") == 0
    assert first.stop() == 0
    await eventually(lambda: second.metric("capstan_operator_leader") == 1, what="the second to lead")
    await kube.apply(simulated("one", namespace, replicas=3), manager="user")
    await eventually(settled, what="the second to reconcile")


async def test_an_operator_that_lost_its_lease_ends(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """When somebody else holds the lease, the process ends with an error before it writes anything more."""
    operator = start_operator()
    await eventually(lambda: operator.metric("capstan_operator_leader") == 1, what="the lease")
    thief = {"holderIdentity": "thief", "leaseDurationSeconds": 60}
    lease = {
        "apiVersion": LEASES.api_version,
        "kind": "Lease",
        "metadata": {"name": LEASE_NAME, "namespace": namespace},
    }
    await kube.apply({**lease, "spec": thief}, manager="thief")
    await eventually(lambda: operator.exit_code is not None, what="the operator to end")
    assert operator.exit_code == 1
    assert "held by 'thief'" in operator.log
    with contextlib.suppress(OSError):
        pytest.fail(f"still answers: {operator.read('/healthz')}")
