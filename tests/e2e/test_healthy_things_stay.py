"""What goes wrong around healthy models, and leaves them as they are: CRDs of other releases, namespaces that vanish,
gateways that are silent for a moment."""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import previous
from support.cluster import NAMESPACE, VALUES, Cluster, Manifest, install_chart, make_namespace, simulated
from support.needs import ROOT
from support.traffic import Traffic
from support.wait import wait_until
from support.yamls import load

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

CRD = ROOT / "crds" / "llmmodels.capstan.dev.yaml"
STAYS, VANISHES = "namespace-stays", "namespace-vanishes"
OPERATOR = "app.kubernetes.io/instance=capstan,app.kubernetes.io/component=operator"
GATEWAY = "app.kubernetes.io/instance=capstan,app.kubernetes.io/component=gateway"


def _crd() -> Manifest:
    return dict(load(CRD.read_text()))


def _of_a_newer_release() -> Manifest:
    """The CRD with fields that this release has never heard of, and defaults that the API server fills in."""
    crd = copy.deepcopy(_crd())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["future"] = {
        "type": "object",
        "default": {"mode": "Automatic"},
        "properties": {"mode": {"type": "string", "default": "Automatic"}},
    }
    spec["properties"]["serving"]["properties"]["futureLimit"] = {"type": "integer", "default": 7}
    return crd


def _of_the_previous_release(folder: Path) -> Manifest:
    return dict(load((previous.unpack(folder) / "crds" / CRD.name).read_text()))


def _replace_crd(cluster: Cluster, crd: Manifest) -> None:
    words = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    cluster.kubectl(*words, given=yaml.safe_dump(crd))


def _restart_operator(cluster: Cluster) -> None:
    old = {pod["metadata"]["uid"] for pod in cluster.list("pods", NAMESPACE, OPERATOR)}
    cluster.kubectl("delete", "pods", "-l", OPERATOR, "-n", NAMESPACE, "--grace-period=1")

    def leads() -> bool:
        pods = [pod for pod in cluster.list("pods", NAMESPACE, OPERATOR) if pod["metadata"]["uid"] not in old]
        lease = cluster.get("lease", "capstan-operator", NAMESPACE) or {}
        holder = (lease.get("spec") or {}).get("holderIdentity")
        return holder in {pod["metadata"]["name"] for pod in pods}

    wait_until(leads, seconds=180, what="another operator that leads")


def _restarts(cluster: Cluster, selector: str) -> int:
    pods = cluster.list("pods", NAMESPACE, selector)
    return sum(status["restartCount"] for pod in pods for status in pod["status"].get("containerStatuses", ()))


@pytest.mark.parametrize("release", ["newer", "older"])
def test_crd_of_another_release(capstan: Cluster, namespace: str, gateway: str, release: str, tmp_path: Path) -> None:
    """With a CRD of a newer or an older release, and an operator that begins anew beside it, every model is still
    accepted, Ready and answered, those made in the meantime too."""
    served = f"crd-{release}-{namespace}"
    capstan.apply(namespace, simulated("before", model={"servedName": served}))
    capstan.wait_settled("before", namespace)
    (pod,) = capstan.list("pods", namespace, "capstan.dev/model=before")
    other = _of_a_newer_release() if release == "newer" else _of_the_previous_release(tmp_path)
    try:
        with Traffic(gateway, served, clients=3) as traffic:
            _replace_crd(capstan, other)
            _restart_operator(capstan)
            capstan.apply(namespace, simulated("during", model={"servedName": f"during-{served}"}))
            capstan.wait_ready("during", namespace)
            capstan.wait_ready("before", namespace)
            traffic.wait_for(20)
        assert traffic.report.failures == []
        (after,) = capstan.list("pods", namespace, "capstan.dev/model=before")
        assert after["metadata"]["uid"] == pod["metadata"]["uid"]
    finally:
        _replace_crd(capstan, _crd())
        install_chart(capstan)
    capstan.wait_ready("before", namespace)


@pytest.fixture
def two_namespaces(capstan: Cluster) -> Iterator[Cluster]:
    """The chart with Roles in two namespaces, and no right to their Secrets."""
    for name in (STAYS, VANISHES):
        make_namespace(capstan, name)
    values = copy.deepcopy(VALUES)
    values["operator"] = {"watchNamespaces": [STAYS, VANISHES], "readSecrets": False}
    chart = str(ROOT / "helm" / "capstan")
    capstan.helm("upgrade", "capstan", chart, "--namespace", NAMESPACE, "--wait", "--timeout", "240s", values=values)
    yield capstan
    capstan.kubectl("delete", "llmmodels", "--all", "-n", STAYS)
    install_chart(capstan)
    capstan.kubectl("delete", "namespace", STAYS, VANISHES, "--wait=false", "--ignore-not-found")


def test_watched_namespace_is_deleted(two_namespaces: Cluster, gateway: str) -> None:
    """One of the namespaces that the operator watches is deleted: it goes on working in the other one, also after a
    restart, and never ends."""
    cluster = two_namespaces
    for name in (STAYS, VANISHES):
        cluster.apply(name, simulated("one", model={"servedName": f"one-{name}"}))
        cluster.wait_settled("one", name)
    cluster.kubectl("delete", "namespace", VANISHES, "--timeout=90s")
    with Traffic(gateway, f"one-{STAYS}", clients=3) as traffic:
        cluster.apply(STAYS, simulated("two", model={"servedName": f"two-{STAYS}"}))
        cluster.wait_settled("two", STAYS)
        _restart_operator(cluster)
        cluster.apply(STAYS, simulated("three", model={"servedName": f"three-{STAYS}"}))
        cluster.wait_settled("three", STAYS)
        traffic.wait_for(20)
    assert traffic.report.failures == []
    assert _restarts(cluster, OPERATOR) == 0


@contextmanager
def _stopped(cluster: Cluster, pod: Manifest, program: str) -> Iterator[None]:
    """Stop the processes of a pod's program, as a node that is short of CPU would, while the block runs."""
    node = pod["spec"]["nodeName"]
    # The runtime writes the pod's id into the names of control groups with dashes or with underscores.
    group = pod["metadata"]["uid"].replace("-", "[-_]")
    find = f"""for at in /proc/[0-9]*; do
        if grep -qs '{group}' "$at/cgroup" && grep -qsa '{program}' "$at/cmdline"; then echo "${{at#/proc/}}"; fi
    done"""
    pids = cluster.nodes.shell(node, find).split()
    assert pids, f"no process of {program} in the pod {pod['metadata']['name']}"
    cluster.nodes.shell(node, f"kill -STOP {' '.join(pids)}")
    try:
        yield
    finally:
        cluster.nodes.shell(node, f"kill -CONT {' '.join(pids)}")


def test_silent_gateway_replica(capstan: Cluster, namespace: str) -> None:
    """While one gateway replica does not answer for a moment nothing is written about the models that it runs."""
    names = [f"calm-{number}" for number in range(4)]
    capstan.apply(namespace, *(simulated(name, model={"servedName": f"{name}-{namespace}"}) for name in names))
    for name in names:
        capstan.wait_settled(name, namespace)

    def versions() -> dict[str, Any]:
        models = [capstan.get("llmmodels", name, namespace) for name in names]
        return {model["metadata"]["name"]: model["status"] for model in models if model}

    before = versions()
    pod = capstan.list("pods", NAMESPACE, GATEWAY)[0]
    with _stopped(capstan, pod, "capstan-gateway"):
        # A new model has the operator ask every replica again and again. It has no pods to wait for: a replica that is
        # silent for some ten seconds is not ready any more, and then nobody waits for it.
        capstan.apply(namespace, simulated("new", model={"servedName": f"new-{namespace}"}, replicas=0))
        wait_until(
            lambda: capstan.condition("new", namespace, "Accepted")["status"] == "True", what="the new model's place"
        )
        assert capstan.condition("new", namespace, "Ready")["status"] != "True"
        time.sleep(2.5)  # longer than the deadlines of two questions
    capstan.wait_ready("new", namespace, reason="Idle")
    assert versions() == before
    events = capstan.kubectl("get", "events", "-n", namespace, "-o", "jsonpath={.items[*].reason}").split()
    assert not {"GatewayPending", "GatewayUnknown"}.intersection(events)
