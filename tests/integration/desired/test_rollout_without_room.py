import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from capstan_operator.api.kinds import Model
from capstan_operator.desired.diff import needs_apply
from capstan_operator.desired.model import build_model
from capstan_operator.desired.pods import is_active, pod_hash_of
from capstan_operator.desired.types import DesiredModel, RolloutMode
from capstan_operator.names import SCALE_MANAGER
from support.kubectl import Kubectl
from support.plainmodels import SETTINGS, make_model, snapshot_of
from support.wait import wait_until

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("controllers")]
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
NO_NODE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
    "lastTransitionTime": "2026-05-04T11:00:00Z",
}


@pytest.fixture
def namespace(kube_api: Path) -> Iterator[tuple[Kubectl, str]]:
    """A kubectl, and a namespace and a node of one's own, with the controllers of Kubernetes and no kubelet."""
    kubectl, name = Kubectl(kube_api), f"rollout-{uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    # Pods of a node that does not exist count as lost, and are collected.
    kubectl.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}], manager="kubelet")
    wait_until(lambda: kubectl.get(name, "serviceaccounts"))
    with _beating(kubectl, name):
        yield kubectl, name
    kubectl("delete", "namespace", name, "--wait=false")
    kubectl("delete", "node", name, "--wait=false")


@contextmanager
def _beating(kubectl: Kubectl, node: str) -> Iterator[None]:
    """Say that a node lives, as its kubelet does: after 40 s of silence its pods count as lost."""
    over = threading.Event()

    def beat() -> None:
        while True:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            ready = {"type": "Ready", "status": "True", "reason": "Test", "lastHeartbeatTime": now}
            patch = json.dumps({"status": {"conditions": [ready]}})
            kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", patch)
            if over.wait(10):
                return

    thread = threading.Thread(target=beat, name="kubelet")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)


def _model(namespace: str, **spec: Any) -> Model:
    # Without a uid: an owner that does not exist would have everything collected as garbage.
    return replace(make_model(namespace=namespace, resources={"gpus": 1}, **spec), uid="")


def _reconcile(kubectl: Kubectl, model: Model) -> DesiredModel:
    """Do what the operator does: look, decide, and write what differs."""
    namespace = model.key.namespace
    live = [item for kind in ("deployments", "services") for item in kubectl.get(namespace, kind)]
    snapshot = snapshot_of(model, *live, pods=tuple(kubectl.get(namespace, "pods")), now=datetime.now(UTC))
    desired = build_model(model, snapshot, SETTINGS)
    present = {(item["kind"], item["metadata"]["name"]): item for item in live}
    if desired.replicas is not None and live:
        _scale(kubectl, model, desired.replicas)
    for manifest in desired.objects:
        if needs_apply(manifest, present.get((manifest["kind"], manifest["metadata"]["name"]))):
            kubectl.apply([manifest])
    return desired


def _scale(kubectl: Kubectl, model: Model, replicas: int) -> None:
    metadata = {"name": "llama-model", "namespace": model.key.namespace}
    manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": replicas}}
    kubectl.apply([manifest], manager=SCALE_MANAGER)


def _pods(kubectl: Kubectl, namespace: str, pod_hash: str | None) -> list[dict[str, Any]]:
    # A pod that is being deleted stays: there is no kubelet to end it.
    return [pod for pod in kubectl.get(namespace, "pods") if pod_hash_of(pod) == pod_hash and is_active(pod)]


def _serve(kubectl: Kubectl, model: Model) -> DesiredModel:
    """Roll a model out, and say of its pods what a kubelet would: they run on a node, and are ready."""
    desired = _reconcile(kubectl, model)
    name, count = model.key.namespace, model.spec.replicas if model.spec else 0
    pods = wait_until(
        lambda: len(found := _pods(kubectl, name, desired.pod_hash)) == count and found, what="the first pods"
    )
    for pod in pods or []:
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod["metadata"]["name"], "namespace": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": name},
        }
        path = f"/api/v1/namespaces/{name}/pods/{pod['metadata']['name']}/binding"
        kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(binding))
        kubectl.patch_status(pod, READY)
    return desired


def _fail(kubectl: Kubectl, model: Model, old: DesiredModel, condition: dict[str, Any]) -> DesiredModel:
    """Roll a change out whose pod finds no node; give what is decided then."""
    name = model.key.namespace
    new = _reconcile(kubectl, model)
    assert new.rollout
    assert new.rollout.mode is RolloutMode.SURGE
    wait_until(lambda: _pods(kubectl, name, new.pod_hash), what="the surge pod")
    kubectl.patch_status(_pods(kubectl, name, new.pod_hash)[0], {"conditions": [condition]})
    return _reconcile(kubectl, model)


def test_rollout_without_gpus_ends_in_place(namespace: tuple[Kubectl, str]) -> None:
    """When a surge pod has found no GPU for long, one old pod of several gives way, and the other one stays."""
    kubectl, name = namespace
    old = _serve(kubectl, _model(name, replicas=2))
    decided = _fail(kubectl, _model(name, replicas=2, engine={"args": ["--new"]}), old, NO_NODE)
    assert decided.rollout
    assert decided.rollout.mode is RolloutMode.IN_PLACE
    wait_until(lambda: len(_pods(kubectl, name, old.pod_hash)) == 1, what="the end of one old pod")
    wait_until(lambda: len(_pods(kubectl, name, decided.pod_hash)) == 1, what="the surge pod, alone")


@pytest.mark.parametrize(
    ("replicas", "message"),
    [(1, NO_NODE["message"]), (2, "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.")],
)
def test_nothing_goes_for_a_pod_that_it_would_not_help(
    namespace: tuple[Kubectl, str], replicas: int, message: str
) -> None:
    """A single replica, and any replica for another reason than GPUs, stays as long as the surge is stuck."""
    kubectl, name = namespace
    old = _serve(kubectl, _model(name, replicas=replicas))
    uids = {pod["metadata"]["uid"] for pod in _pods(kubectl, name, old.pod_hash)}
    changed = _model(name, replicas=replicas, engine={"args": ["--new"]})
    decided = _fail(kubectl, changed, old, {**NO_NODE, "message": message})
    assert decided.rollout
    assert decided.rollout.mode is RolloutMode.SURGE
    (deployment,) = kubectl.get(name, "deployments")
    observed = deployment["metadata"]["generation"]
    wait_until(
        lambda: kubectl.get(name, "deployments")[0]["status"].get("observedGeneration") == observed,
        what="the controller to have seen the Deployment",
    )
    assert {pod["metadata"]["uid"] for pod in _pods(kubectl, name, old.pod_hash)} == uids


def test_replicas_survive_the_handover_to_an_autoscaler(namespace: tuple[Kubectl, str]) -> None:
    """When `scaling` is set, nobody resets the replicas, and the number of an autoscaler within bounds stays."""
    kubectl, name = namespace

    def replicas() -> int:
        (deployment,) = kubectl.get(name, "deployments")
        return int(deployment["spec"]["replicas"])

    _reconcile(kubectl, _model(name, replicas=3))
    assert replicas() == 3
    scaled = _model(name, scaling={"min": 1, "max": 5})
    _reconcile(kubectl, scaled)
    assert replicas() == 3
    kubectl("scale", "deployment/llama-model", "--replicas=4", "-n", name)
    assert _reconcile(kubectl, scaled).replicas is None
    assert replicas() == 4
    _reconcile(kubectl, _model(name, scaling={"min": 1, "max": 2}))
    assert replicas() == 2
    _reconcile(kubectl, _model(name, replicas=1))
    assert replicas() == 1
