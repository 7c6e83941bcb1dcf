import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from capstan_operator.api.kinds import Model
from capstan_operator.desired.diff import needs_apply
from capstan_operator.desired.model import build_model
from capstan_operator.desired.pods import is_active, pod_hash_of
from capstan_operator.desired.types import DesiredModel, RolloutMode
from capstan_operator.kube.client import KubeClient, _Request
from capstan_operator.kube.errors import Unavailable
from capstan_operator.names import SCALE_MANAGER
from capstan_operator.resources.api_resource import DEPLOYMENTS, NODES, PODS, SERVICES, ApiResource
from capstan_operator.resources.resource import Manifest
from support.kubelet import BEAT_SECONDS, beat
from support.operator_process import ACCOUNTS, NAMESPACES, connect, make_namespace
from support.plainmodels import SETTINGS, make_model, snapshot_of
from support.wait import eventually

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("controllers")]
NAME = "llama-model"
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
NO_NODE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
    "lastTransitionTime": "2026-05-04T11:00:00Z",
}


@dataclass(frozen=True)
class World:
    """A namespace with the controllers of Kubernetes, and without a kubelet."""

    kube: KubeClient
    namespace: str

    async def live(self, kind: ApiResource) -> list[Manifest]:
        """Give all objects of a kind."""
        found = await self.kube.list(kind, namespace=self.namespace)
        return [{**item, "apiVersion": kind.api_version, "kind": kind.kind} for item in found.items]

    async def deployment(self) -> Manifest:
        """Give the only one."""
        (found,) = await self.live(DEPLOYMENTS)
        return found

    async def tell(self, pod: Manifest, **status: Any) -> None:
        """Write a status of a pod as a kubelet or a scheduler does."""
        named = {key: pod["metadata"][key] for key in ("name", "namespace", "uid")}
        await self.kube.apply_status(
            {"apiVersion": "v1", "kind": "Pod", "metadata": named, "status": status}, manager="kubelet"
        )


@pytest.fixture
async def world(kube_api: Path) -> AsyncIterator[World]:
    """A namespace and a node of one's own."""
    async with connect(kube_api) as kube:
        name = await make_namespace(kube)
        # Pods of a node that does not exist count as lost, and are collected.
        await kube.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}, manager="kubelet")
        made = World(kube, name)
        await eventually(lambda: made.live(ACCOUNTS), what="an account for pods")
        beating = asyncio.create_task(_beat(kube, name))
        yield made
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating
        await kube.delete(NAMESPACES, name)
        await kube.delete(NODES, name)


async def _beat(kube: KubeClient, node: str) -> None:
    while True:
        # An API server that is busy keeps it waiting, and does not end it.
        with suppress(Unavailable):
            await beat(kube, node)
        await asyncio.sleep(BEAT_SECONDS)


def _model(namespace: str, **spec: Any) -> Model:
    # Without a uid: an owner that does not exist would have everything collected as garbage.
    return replace(make_model(namespace=namespace, resources={"gpus": 1}, **spec), uid="")


async def _reconcile(world: World, model: Model) -> DesiredModel:
    """Do what the operator does: look, decide, and write what differs."""
    live = [item for kind in (DEPLOYMENTS, SERVICES) for item in await world.live(kind)]
    snapshot = snapshot_of(model, *live, pods=tuple(await world.live(PODS)), now=datetime.now(UTC))
    desired = build_model(model, snapshot, SETTINGS)
    present = {(item["kind"], item["metadata"]["name"]): item for item in live}
    if desired.replicas is not None and live:
        metadata = {"name": NAME, "namespace": world.namespace}
        scaled = {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": desired.replicas},
        }  # fmt: skip
        await world.kube.apply(scaled, manager=SCALE_MANAGER)
    for manifest in desired.objects:
        if needs_apply(manifest, present.get((manifest["kind"], manifest["metadata"]["name"]))):
            await world.kube.apply(manifest)
    return desired


async def _pods(world: World, pod_hash: str | None) -> list[Manifest]:
    # A pod that is being deleted stays: there is no kubelet to end it.
    return [pod for pod in await world.live(PODS) if pod_hash_of(pod) == pod_hash and is_active(pod)]


async def _has(world: World, pod_hash: str | None, count: int) -> bool:
    return len(await _pods(world, pod_hash)) == count


async def _serve(world: World, model: Model) -> DesiredModel:
    """Roll a model out, and say of its pods what a kubelet would: they run on a node, and are ready."""
    desired = await _reconcile(world, model)
    count = model.spec.replicas if model.spec else 0
    await eventually(lambda: _has(world, desired.pod_hash, count), what="the first pods")
    for pod in await _pods(world, desired.pod_hash):
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod["metadata"]["name"], "namespace": world.namespace},
            "target": {"apiVersion": "v1", "kind": "Node", "name": world.namespace},
        }
        path = PODS.path(world.namespace, pod["metadata"]["name"], "binding")
        await world.kube._call(_Request("create", PODS, "POST", path, body=binding))
        await world.tell(pod, **READY)
    return desired


async def _fail(world: World, model: Model, condition: dict[str, Any]) -> DesiredModel:
    """Roll a change out whose pod finds no node; give what is decided then."""
    new = await _reconcile(world, model)
    assert new.rollout
    assert new.rollout.mode is RolloutMode.SURGE
    pods = await eventually(lambda: _pods(world, new.pod_hash), what="the surge pod")
    await world.tell(pods[0], conditions=[condition])
    return await _reconcile(world, model)


async def test_rollout_without_gpus_ends_in_place(world: World) -> None:
    """When a surge pod has found no GPU for long, one old pod of several gives way, and the other one stays."""
    old = await _serve(world, _model(world.namespace, replicas=2))
    decided = await _fail(world, _model(world.namespace, replicas=2, engine={"args": ["--new"]}), NO_NODE)
    assert decided.rollout
    assert decided.rollout.mode is RolloutMode.IN_PLACE
    await eventually(lambda: _has(world, old.pod_hash, 1), what="the end of one old pod")
    await eventually(lambda: _has(world, decided.pod_hash, 1), what="the surge pod, alone")


@pytest.mark.parametrize(
    ("replicas", "message"),
    [(1, NO_NODE["message"]), (2, "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.")],
)
async def test_nothing_goes_for_a_pod_that_it_would_not_help(world: World, replicas: int, message: str) -> None:
    """A single replica, and any replica for another reason than GPUs, stays as long as the surge is stuck."""
    old = await _serve(world, _model(world.namespace, replicas=replicas))
    uids = {pod["metadata"]["uid"] for pod in await _pods(world, old.pod_hash)}
    changed = _model(world.namespace, replicas=replicas, engine={"args": ["--new"]})
    decided = await _fail(world, changed, {**NO_NODE, "message": message})
    assert decided.rollout
    assert decided.rollout.mode is RolloutMode.SURGE
    observed = (await world.deployment())["metadata"]["generation"]

    async def is_seen() -> bool:
        return bool((await world.deployment())["status"].get("observedGeneration") == observed)

    await eventually(is_seen, what="the controller to have seen the Deployment")
    assert {pod["metadata"]["uid"] for pod in await _pods(world, old.pod_hash)} == uids


async def test_replicas_survive_the_handover_to_an_autoscaler(world: World) -> None:
    """When `scaling` is set, nobody resets the replicas, and the number of an autoscaler within bounds stays."""

    async def replicas() -> int:
        return int((await world.deployment())["spec"]["replicas"])

    await _reconcile(world, _model(world.namespace, replicas=3))
    assert await replicas() == 3
    scaled = _model(world.namespace, scaling={"min": 1, "max": 5})
    await _reconcile(world, scaled)
    assert await replicas() == 3
    path = DEPLOYMENTS.path(world.namespace, NAME, "scale")
    body, merge = {"spec": {"replicas": 4}}, "application/merge-patch+json"
    await world.kube._call(_Request("scale", DEPLOYMENTS, "PATCH", path, body=body, content_type=merge))
    assert (await _reconcile(world, scaled)).replicas is None
    assert await replicas() == 4
    await _reconcile(world, _model(world.namespace, scaling={"min": 1, "max": 2}))
    assert await replicas() == 2
    await _reconcile(world, _model(world.namespace, replicas=1))
    assert await replicas() == 1
