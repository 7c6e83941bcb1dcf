from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from capstan_operator.api.kinds import Model
from capstan_operator.desired.diff import needs_apply
from capstan_operator.desired.model import build_model
from capstan_operator.desired.pods import pod_hash_of
from capstan_operator.desired.types import DesiredModel, RolloutMode
from capstan_operator.names import SCALE_MANAGER
from support.kubectl import Kubectl
from support.plainmodels import SETTINGS, make_model, snapshot_of
from support.wait import wait_until

pytestmark = pytest.mark.apiserver
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
NO_NODE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}


@pytest.fixture
def namespace(kube_api: Path) -> Iterator[tuple[Kubectl, str]]:
    """A kubectl and a namespace of one's own, with the controllers of Kubernetes and no node."""
    kubectl, name = Kubectl(kube_api), f"rollout-{uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    wait_until(lambda: kubectl.get(name, "serviceaccounts"))
    yield kubectl, name
    kubectl("delete", "namespace", name, "--wait=false")


def _model(namespace: str, **spec: Any) -> Model:
    # Without a uid: an owner that does not exist would have everything collected as garbage.
    return replace(make_model(namespace=namespace, resources={"gpus": 1}, **spec), uid="")


def _reconcile(kubectl: Kubectl, model: Model) -> DesiredModel:
    """Do what the operator does: look, decide, and write what differs."""
    namespace = model.key.namespace
    live = [item for kind in ("deployments", "services") for item in kubectl.get(namespace, kind)]
    snapshot = snapshot_of(model, *live, pods=tuple(kubectl.get(namespace, "pods")))
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
    return [pod for pod in kubectl.get(namespace, "pods") if pod_hash_of(pod) == pod_hash]


def test_rollout_without_room_ends_in_place(namespace: tuple[Kubectl, str]) -> None:
    """When a surge pod finds no node, an old pod gives way, so that the rollout does not wait for ever."""
    kubectl, name = namespace
    old = _reconcile(kubectl, _model(name))
    wait_until(lambda: _pods(kubectl, name, old.pod_hash), what="the first pod")
    kubectl.patch_status(_pods(kubectl, name, old.pod_hash)[0], READY)

    changed = _model(name, engine={"args": ["--new"]})
    new = _reconcile(kubectl, changed)
    assert new.rollout is RolloutMode.SURGE
    wait_until(lambda: _pods(kubectl, name, new.pod_hash), what="the surge pod")
    kubectl.patch_status(_pods(kubectl, name, new.pod_hash)[0], {"conditions": [NO_NODE]})
    assert len(_pods(kubectl, name, old.pod_hash)) == 1

    assert _reconcile(kubectl, changed).rollout is RolloutMode.IN_PLACE
    wait_until(lambda: not _pods(kubectl, name, old.pod_hash), what="the end of the old pod")
    assert len(_pods(kubectl, name, new.pod_hash)) == 1


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
