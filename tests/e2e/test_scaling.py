"""A model that comes when it is asked for, grows with what is asked of it, and goes when nobody asks."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from support.cluster import NAMESPACE, Cluster, simulated
from support.scaled import API, QUICK, ask
from support.wait import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@contextmanager
def load(gateway: str, model: str, clients: int) -> Iterator[list[str]]:
    """Keep so many requests in flight meanwhile; give what failed."""
    stop, failures = threading.Event(), []

    def run() -> None:
        while not stop.is_set():
            try:
                ask(gateway, model, tokens=200)
            except (OSError, ValueError) as error:
                failures.append(repr(error))
                stop.wait(0.5)

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield failures
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


def _deployment(cluster: Cluster, name: str, namespace: str) -> dict[str, Any]:
    return cluster.get("deployments", f"{name}-model", namespace) or {}


def _says(cluster: Cluster, name: str, namespace: str, kind: str, status: str, reason: str) -> None:
    def is_so() -> bool:
        found = cluster.condition(name, namespace, kind)
        assert (found["status"], found["reason"]) == (status, reason), found
        return True

    wait_until(is_so, seconds=120, every=0.3, what=f"{kind} of {name}")


def test_from_zero_by_an_hpa_and_back(capstan: Cluster, namespace: str, gateway: str) -> None:
    """The first request wakes the model and is answered; an HPA that reads our metric takes it to three replicas under
    load; at rest the model is at zero again. The API that the HPA reads is there as long as a model needs it."""
    model = f"scaled-{namespace}"
    capstan.apply(namespace, simulated("scaled", model={"servedName": model}, scaling=QUICK))
    capstan.wait_ready("scaled", namespace, reason="Idle")
    assert not capstan.list("pods", namespace, "capstan.dev/model=scaled")
    _says(capstan, "scaled", namespace, "ScalingActive", "True", "DemandKnown")

    assert ask(gateway, model)

    def is_told() -> bool:
        notes = capstan.kubectl("get", "events", "-n", namespace, "--field-selector", "reason=Scaled")
        return "1 replica: a request waits" in notes

    wait_until(is_told, what="the Event of the reason")

    with load(gateway, model, clients=8) as failures:

        def has_grown() -> bool:
            hpa = capstan.get("hpa", "scaled-model", namespace) or {}
            found = _deployment(capstan, "scaled", namespace).get("status", {}).get("readyReplicas")
            assert found == 3, (found, hpa.get("status"))
            return True

        wait_until(has_grown, seconds=240, every=0.5, what="three replicas")
        print(capstan.kubectl("get", "hpa", "-n", namespace))
        owners = capstan.kubectl(
            "get", "deployment", "scaled-model", "-n", namespace, "-o", "json", "--show-managed-fields"
        )
        managers = {
            entry["manager"]
            for entry in json.loads(owners)["metadata"]["managedFields"]
            if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
        }
        assert "capstan-operator" not in managers
    assert not failures

    wait_until(
        lambda: _deployment(capstan, "scaled", namespace)["spec"]["replicas"] == 0,
        seconds=180,
        every=0.5,
        what="no replica",
    )
    capstan.wait_ready("scaled", namespace, reason="Idle")
    service = (capstan.get("apiservice", API, namespace) or {})["spec"]["service"]
    assert service["namespace"] == NAMESPACE
    capstan.kubectl("delete", "llmmodel", "scaled", "-n", namespace)
    wait_until(lambda: capstan.get("apiservice", API, namespace) is None, seconds=120, every=0.5, what="the API to go")


def test_another_adapter_is_left_alone(capstan: Cluster, namespace: str, gateway: str) -> None:
    """Where somebody else serves external metrics, the operator scales the model itself, and says so."""
    theirs = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": API},
        "spec": {
            "group": "external.metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }
    wait_until(lambda: capstan.get("apiservice", API, namespace) is None, seconds=120, every=0.5, what="no API of ours")
    capstan.apply(namespace, theirs)
    try:
        model = f"alone-{namespace}"
        capstan.apply(namespace, simulated("alone", model={"servedName": model}, scaling=QUICK))
        _says(capstan, "alone", namespace, "ScalingActive", "True", "WithoutHPA")
        assert ask(gateway, model)
        with load(gateway, model, clients=8):
            wait_until(
                lambda: _deployment(capstan, "alone", namespace)["spec"]["replicas"] == 3,
                seconds=120,
                every=0.5,
                what="three replicas",
            )
        assert capstan.get("hpa", "alone-model", namespace) is None
        assert "service" not in (capstan.get("apiservice", API, namespace) or {})["spec"]
    finally:
        capstan.kubectl("delete", "apiservice", API)
