"""Scarce GPUs, on a real scheduler."""

from collections.abc import Iterator

import pytest

from support.cluster import Cluster, simulated
from support.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture
def eight_gpus(capstan: Cluster) -> Iterator[None]:
    """The node has eight GPUs, all free, before and after."""
    _wait_for_free_gpus(capstan)
    yield
    capstan.set_gpus(8)


def _wait_for_free_gpus(capstan: Cluster) -> None:
    def taken() -> bool:
        pods = capstan.kubectl("get", "pods", "-A", "-l", "app.kubernetes.io/name=llmmodel", "-o", "name")
        return not pods.strip()

    wait_until(taken, seconds=60, what="the end of all other models")


@pytest.mark.usefixtures("eight_gpus")
def test_waits_for_gpus_and_says_so(capstan: Cluster, namespace: str) -> None:
    """A model that asks for more GPUs than there are says so in its conditions, and comes up when they appear."""
    capstan.apply(namespace, simulated("large", resources={"gpus": 16}))
    found = wait_until(
        lambda: (state := capstan.condition("large", namespace, "Ready"))["reason"] == "InsufficientGPU" and state,
        what="the shortage in Ready",
    )
    assert found
    assert found["status"] == "False"
    assert "nvidia.com/gpu" in found["message"]
    assert capstan.condition("large", namespace, "Progressing")["status"] == "True"
    assert capstan.condition("large", namespace, "Degraded")["status"] == "False"
    capstan.set_gpus(16)
    capstan.wait_ready("large", namespace, seconds=90)


@pytest.mark.usefixtures("eight_gpus")
def test_rolls_in_place_without_headroom(capstan: Cluster, namespace: str) -> None:
    """With every GPU in use a rolling update replaces the old pod first, says so, and ends."""
    arguments = ["--startup-seconds", "2"]
    capstan.apply(namespace, simulated("full", resources={"gpus": 8}, engine={"type": "Simulator", "args": arguments}))
    capstan.wait_settled("full", namespace)
    (old,) = capstan.list("pods", namespace, "capstan.dev/model=full")
    arguments = ["--startup-seconds", "3"]
    capstan.apply(namespace, simulated("full", resources={"gpus": 8}, engine={"type": "Simulator", "args": arguments}))
    found = wait_until(
        lambda: (state := capstan.condition("full", namespace, "Progressing"))["reason"] == "RollingInPlace" and state,
        every=0.05, what="RollingInPlace",
    )  # fmt: skip
    assert found
    print(found["message"])
    capstan.wait_settled("full", namespace)
    (new,) = capstan.list("pods", namespace, "capstan.dev/model=full")
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    events = capstan.kubectl("get", "events", "-n", namespace, "--field-selector", "reason=RollingInPlace")
    assert "llmmodel/full" in events.lower()
