"""What takes long: twenty times from zero to three replicas and back, and a spike of ten times the load. Opt-in:
`make e2e-scaling-cycles`, `make bench-spike`. Both print what they saw."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from support.cluster import Cluster, simulated
from support.queued_release import install_queue, queued_values, remove_queue
from support.spike import FAILED, QUEUED, REFUSED, Phase, Sample, send, table
from support.traffic import Traffic
from support.wait import wait_until

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        os.environ.get("CAPSTAN_E2E_SCALING") != "1", reason="opt-in: make e2e-scaling-cycles, make bench-spike"
    ),
]
CYCLES = int(os.environ.get("CAPSTAN_E2E_CYCLES", "20"))
MODELS = "scaled"
LOAD_SECONDS = 2
"""How long an engine takes to load, beside what its pod takes to start."""
BASE, TIMES = 4.0, 10
"""Requests per second before the spike, and how many times as many come in it."""


@pytest.fixture(scope="module")
def queued(capstan: Cluster) -> Iterator[Cluster]:
    """The chart with a queue, and HPAs."""
    install_queue(capstan, queued_values(), models=MODELS)
    yield capstan
    remove_queue(capstan, models=MODELS)


def _replicas(cluster: Cluster, name: str) -> tuple[int, int]:
    """Give how many replicas a model is to have, and how many are ready."""
    found = cluster.get("deployments", f"{name}-model", MODELS) or {}
    return int(found["spec"]["replicas"]), int(found["status"].get("readyReplicas") or 0)


def _until(check: Callable[[], bool], what: str) -> float:
    """Wait, and give how long it took."""
    began = time.monotonic()
    wait_until(check, seconds=180, every=0.1, what=what)
    return time.monotonic() - began


@pytest.mark.parametrize("cold", [True, False], ids=["cold", "going"])
def test_cycles_from_zero_to_three_and_back(queued: Cluster, gateway: str, cold: bool) -> None:
    """Again and again a model at zero is asked, comes up and answers; under load the HPA takes it to three; with less
    it goes down, and to zero when nobody asks. Not one request is lost, whether the next one finds no pod any more, or
    comes as the last ones go."""
    scaling = {
        "min": 0,
        "max": 3,
        "targets": {"inFlightPerReplica": 2},
        "coldStartSeconds": 3,
        "idleSeconds": 4,
        "scaleDownStabilizationSeconds": 2,
    }
    engine = {
        "type": "Simulator",
        "args": ["--ttft-ms", "50", "--tpot-ms", "20", "--chunk-tokens", "8", "--startup-seconds", str(LOAD_SECONDS)],
    }
    name = "cold" if cold else "going"
    model = simulated(name, model={"servedName": name}, engine=engine, scaling=scaling, queue={"places": 2})
    queued.apply(MODELS, model)
    queued.wait_ready(name, MODELS, reason="Idle")
    print("| cycle | first answer | three ready | fewer wanted | none wanted | answered | by the queue | lost |")
    rows, failures = [], []
    for cycle in range(1, CYCLES + 1):
        if cold:
            _until(lambda: not queued.list("pods", MODELS, f"capstan.dev/model={name}"), "no pod")
        with Traffic(gateway, name, clients=1) as first:
            pass
        with Traffic(gateway, name, clients=12) as many:
            up = _until(lambda: _replicas(queued, name)[1] == 3, "three replicas")
            many.wait_for(12)
        with Traffic(gateway, name, clients=1) as few:
            down = _until(lambda: _replicas(queued, name)[0] < 3, "fewer replicas")
        idle = _until(lambda: _replicas(queued, name)[0] == 0, "no replica")
        reports = (first.report, many.report, few.report)
        failures += [failure for report in reports for failure in report.failures]
        answered, by_queue = (sum(getattr(report, count) for report in reports) for count in ("answered", "queued"))
        times = (first.report.slowest, up, down, idle)
        rows.append((*times, answered, by_queue))
        print(
            f"| {cycle} | {' | '.join(f'{one:.1f} s' for one in times)} | {answered} | {by_queue} | {len(failures)} |"
        )
    starts = sorted(row[0] for row in rows)
    print(f"first answer: {starts[0]:.1f} s, median {starts[len(starts) // 2]:.1f} s, at most {starts[-1]:.1f} s")
    print(f"{sum(row[4] for row in rows)} answered, {sum(row[5] for row in rows)} by the queue, {len(failures)} lost")
    assert failures == []


@contextmanager
def _watched(cluster: Cluster, name: str, seen: list[tuple[float, int, int]]) -> Iterator[None]:
    """Note meanwhile when there are how many replicas."""
    stop, began = threading.Event(), time.monotonic()

    def watch() -> None:
        while not stop.wait(0.2):
            now = _replicas(cluster, name)
            if not seen or seen[-1][1:] != now:
                seen.append((time.monotonic() - began, *now))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


def test_spike_of_ten_times_the_load(queued: Cluster, gateway: str) -> None:
    """A load of ten times as much, from one second to the next, is answered, or refused at once with the time to come
    again; nothing fails, and behind it everything is as it was before."""
    scaling = {"min": 1, "max": 4, "targets": {"inFlightPerReplica": 8}, "scaleDownStabilizationSeconds": 60}
    engine = {
        "type": "Simulator",
        "args": ["--ttft-ms", "100", "--tpot-ms", "20", "--chunk-tokens", "10", "--startup-seconds", str(LOAD_SECONDS)],
    }
    queue = {"places": 8, "maxWaitSeconds": 10}
    queued.apply(MODELS, simulated("spike", model={"servedName": "spike"}, engine=engine, scaling=scaling, queue=queue))
    queued.wait_settled("spike", MODELS)
    phases = (
        Phase("before", 20, BASE),
        Phase("spike, seconds 1 to 5", 5, TIMES * BASE),
        Phase("6 to 10", 5, TIMES * BASE),
        Phase("11 to 20", 10, TIMES * BASE),
        Phase("21 to 40", 20, TIMES * BASE),
        Phase("after, seconds 1 to 10", 10, BASE),
        Phase("11 to 30", 20, BASE),
    )
    seen: list[tuple[float, int, int]] = []
    with _watched(queued, "spike", seen):
        samples = asyncio.run(send(gateway, "spike", phases, ("default", "default", "flex"), tokens=50))
    print(table(samples, lambda sample: (sample.phase,), ["when"]))
    print(table(samples, lambda sample: (sample.phase, sample.tier), ["when", "tier"]))
    began = phases[0].seconds
    print("replicas:", "; ".join(f"{at - began:.1f} s: {ready} of {wanted} ready" for at, wanted, ready in seen))
    print(_moments([sample for sample in samples if sample.sent >= began], began))
    assert [sample.fault for sample in samples if sample.outcome == FAILED] == []
    assert {sample.outcome for sample in samples if sample.phase in ("before", phases[-1].name)} <= {"directly", QUEUED}


def _moments(samples: list[Sample], began: float) -> str:
    """Say when the spike was first and last to be felt, in seconds since it began."""
    queued = [sample.sent - began for sample in samples if sample.outcome == QUEUED]
    refused = [sample.sent - began for sample in samples if sample.outcome == REFUSED]
    words = [
        f"{name}: first {min(times):.1f} s, last {max(times):.1f} s"
        for name, times in (("queued", queued), ("refused", refused)) if times
    ]  # fmt: skip
    return "; ".join(words)
