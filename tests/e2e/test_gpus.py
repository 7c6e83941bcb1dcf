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

    wait_until(taken, seconds=180, what="the end of all other models")


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
    capstan.wait_ready("large", namespace)


def _uids(capstan: Cluster, namespace: str, name: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in capstan.list("pods", namespace, f"capstan.dev/model={name}")}


def _args(seconds: int) -> dict[str, object]:
    return {"type": "Simulator", "args": ["--startup-seconds", str(seconds)]}


def _wait_for_event(capstan: Cluster, namespace: str, name: str, reason: str) -> None:
    """Wait until a condition has had a reason: it may have passed when somebody looks, and its Event stays."""

    def is_told() -> bool:
        events = capstan.kubectl("get", "events", "-n", namespace, "--field-selector", f"reason={reason}")
        return f"llmmodel/{name}" in events.lower()

    wait_until(is_told, seconds=120, what=f"an Event of {reason} of {name}")


@pytest.mark.usefixtures("eight_gpus")
def test_rolls_in_place_when_told_to(capstan: Cluster, namespace: str) -> None:
    """With every GPU in use and strategy InPlace the only pod gives way to the new one, which waits for no room."""
    spec = {"resources": {"gpus": 8}, "rollout": {"strategy": "InPlace"}}
    capstan.apply(namespace, simulated("full", **spec, engine=_args(2)))
    capstan.wait_settled("full", namespace)
    old = _uids(capstan, namespace, "full")
    capstan.apply(namespace, simulated("full", **spec, engine=_args(3)))
    capstan.wait_settled("full", namespace)
    assert not _uids(capstan, namespace, "full") & old
    deployment = capstan.get("deployments", "full-model", namespace) or {}
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


@pytest.mark.usefixtures("eight_gpus")
def test_single_replica_stays_without_headroom(capstan: Cluster, namespace: str) -> None:
    """With every GPU in use the only pod of a model is not given away, and the way out that the status names works."""
    spec = {"resources": {"gpus": 8}, "rollout": {"patienceSeconds": 1}}
    capstan.apply(namespace, simulated("only", **spec, engine=_args(1)))
    capstan.wait_settled("only", namespace)
    old = _uids(capstan, namespace, "only")
    capstan.apply(namespace, simulated("only", **spec, engine=_args(2)))
    said = wait_until(
        lambda: (state := capstan.condition("only", namespace, "Degraded"))["reason"] == "NoRoomForSurge" and state,
        seconds=120, what="the way out",
    )  # fmt: skip
    assert said
    assert "spec.rollout.strategy" in said["message"]
    assert old < _uids(capstan, namespace, "only")
    assert capstan.condition("only", namespace, "Available")["status"] == "True"
    capstan.apply(namespace, simulated("only", resources={"gpus": 8}, rollout={"strategy": "InPlace"}, engine=_args(2)))
    capstan.wait_settled("only", namespace)
    assert not _uids(capstan, namespace, "only") & old


@pytest.mark.usefixtures("eight_gpus")
def test_several_replicas_go_on_in_place(capstan: Cluster, namespace: str) -> None:
    """With every GPU in use and several replicas, after the patience they are replaced one by one, and some serve."""
    spec = {"resources": {"gpus": 4}, "replicas": 2, "rollout": {"patienceSeconds": 2}}
    capstan.apply(namespace, simulated("pair", **spec, engine=_args(1)))
    capstan.wait_settled("pair", namespace)
    old = _uids(capstan, namespace, "pair")
    capstan.apply(namespace, simulated("pair", **spec, engine=_args(2)))

    def settled() -> bool:
        assert capstan.condition("pair", namespace, "Available")["status"] == "True"
        return capstan.condition("pair", namespace, "Progressing")["status"] == "False"

    wait_until(settled, seconds=180, every=0.2, what="the end of the rollout")
    _wait_for_event(capstan, namespace, "pair", "RollingInPlace")
    assert not _uids(capstan, namespace, "pair") & old
    deployment = capstan.get("deployments", "pair-model", namespace) or {}
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
