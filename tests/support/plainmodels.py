"""Models, Deployments and pods as plain data, for tests of the pure part."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from capstan_contract.names import MODEL_LABEL, POD_HASH_LABEL
from capstan_operator.api.kinds import Model
from capstan_operator.api.parse import parse_model
from capstan_operator.desired.model import build_model
from capstan_operator.desired.snapshot import NodeCapacity, Snapshot
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import BuildSettings

SETTINGS = BuildSettings()
NOW = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC)
"""When the tests take place."""
SOURCE = "hf://example/model"


def make_model(
    name: str = "llama",
    *,
    namespace: str = "team",
    created: str = "2026-01-01T00:00:00Z",
    generation: int = 1,
    status: dict[str, Any] | None = None,
    **spec: Any,
) -> Model:
    """Give a parsed LLMModel; unless something else answers, it has a Hugging Face source."""
    if not {"external", "router", "cascade"} & spec.keys():
        spec["model"] = {"source": SOURCE, **spec.get("model", {})}
    metadata = {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{namespace}-{name}",
        "generation": generation,
        "creationTimestamp": created,
    }
    return parse_model({"metadata": metadata, "spec": spec, "status": status or {}})


def make_member(
    name: str,
    available: str = "True",
    reason: str = "ReplicasReady",
    *,
    degraded: bool = False,
    ready: str = "whatever",
    **spec: Any,
) -> Model:
    """Give a model whose status says whether it takes requests; `ready` is the reason of Ready."""
    conditions = [
        {"type": "Available", "status": available, "reason": reason},
        {"type": "Degraded", "status": str(degraded), "reason": "whatever"},
        {"type": "Ready", "reason": ready},
    ]
    return make_model(name, status={"conditions": conditions}, **spec)


def snapshot_of(
    model: Model,
    *children: Manifest,
    pods: tuple[Manifest, ...] = (),
    nodes: tuple[NodeCapacity, ...] | None = None,
    **fields: Any,
) -> Snapshot:
    """Give a Snapshot of one model."""
    return Snapshot(
        models={model.key: model}, children={model.key: children}, pods={model.key: pods}, nodes=nodes, **fields
    )


def deployment_of(model: Model, **status: Any) -> Manifest:
    """Give the Deployment that a model gets, as if it were live."""
    desired = build_model(model, snapshot_of(model), SETTINGS)
    deployment = next(manifest for manifest in desired.objects if manifest["kind"] == "Deployment")
    metadata = {**deployment["metadata"], "generation": 1}
    return {**deployment, "metadata": metadata, "status": {"observedGeneration": 1, **status}}


def hash_of(model: Model) -> str:
    """Give the pod hash that a model gets."""
    return str(build_model(model, snapshot_of(model), SETTINGS).pod_hash)


def make_pod(
    name: str, pod_hash: str, *, ready: bool = False, spec: dict[str, Any] | None = None, **status: Any
) -> Manifest:
    """Give a running pod of some template."""
    return {
        "spec": spec or {},
        "metadata": {"name": name, "namespace": "team", "labels": {MODEL_LABEL: "llama", POD_HASH_LABEL: pod_hash}},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            **status,
        },
    }


def gpu_pod(name: str, pod_hash: str, gpus: int = 1, **resources: str) -> Manifest:
    """Give a ready pod that holds GPUs of a node."""
    requests = {"nvidia.com/gpu": str(gpus), **resources}
    container = {"name": "engine", "resources": {"requests": requests, "limits": requests}}
    return make_pod(name, pod_hash, ready=True, spec={"nodeName": "node-1", "containers": [container]})


def unschedulable_pod(name: str, pod_hash: str, message: str, *, since: str = "2026-05-04T11:59:00Z") -> Manifest:
    """Give a pod that no node takes."""
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": since,
    }
    return make_pod(name, pod_hash, phase="Pending", conditions=[condition])


def waiting_pod(name: str, pod_hash: str, *, restarts: int = 0, **state: Any) -> Manifest:
    """Give a pod whose engine's container has this `state` and `lastState`."""
    container = {"name": "engine", "image": "image:1", "ready": False, "restartCount": restarts, **state}
    return make_pod(name, pod_hash, containerStatuses=[container])


def as_deleting(model: Model) -> Model:
    """Give a model that is being deleted."""
    return replace(model, deleting=True)
