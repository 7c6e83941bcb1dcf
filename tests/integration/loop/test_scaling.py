"""How many replicas there are, by what gateways say is asked for: written to a real API server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from capstan_contract.demand import ModelDemand
from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.kube.client import KubeClient, _Request
from capstan_operator.names import FIELD_MANAGER, SCALE_MANAGER
from capstan_operator.resources.api_resource import DEPLOYMENTS, EVENTS, PODS
from capstan_operator.resources.resource import Manifest
from support.kubelet import Kubelet
from support.llmmodels import condition, read_config, simulated
from support.operator_process import ONE_POD, find
from support.ports import free_port
from support.replicas import Replica, serve, slice_in
from support.wait import eventually

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("controllers")]

OURS = {"strategy": "Capstan"}
LONG_AGO = "2026-01-01T00:00:00Z"
QUICK = {**OURS, "idleSeconds": 3, "coldStartSeconds": 1, "scaleDownStabilizationSeconds": 2}


class World:
    """A namespace with a model, an operator, and a gateway replica that says what is asked for."""

    def __init__(self, kube: KubeClient, namespace: str, port: int) -> None:
        self.kube = kube
        self.namespace = namespace
        self.replica = Replica()
        self.settings = {"CAPSTAN_GATEWAY_SERVICE": "gw", "CAPSTAN_GATEWAY_ADMIN_PORT": str(port), **ONE_POD}

    def ask(self, **demand: Any) -> None:
        """Let so much be asked of the model."""
        self.replica.demand = {f"{self.namespace}/one": ModelDemand(**demand)}

    async def put(self, **spec: Any) -> Manifest:
        """Write the model as its user does."""
        return await self.kube.apply(simulated("one", self.namespace, **spec), manager="user")

    async def model(self) -> Manifest:
        return await self.kube.get(LLM_MODELS, "one", namespace=self.namespace)

    async def deployment(self) -> Manifest | None:
        return await find(self.kube, DEPLOYMENTS, "one-model", self.namespace)

    async def has(self, replicas: int) -> None:
        """Wait until the Deployment has so many."""

        async def is_so() -> bool:
            found = await self.deployment()
            return found is not None and found["spec"].get("replicas") == replicas

        await eventually(is_so, what=f"{replicas} replicas")

    async def says(self, type_: str, status: str, reason: str) -> None:
        """Wait until a condition says so."""

        async def is_so() -> bool:
            found = condition(await self.model(), type_)
            return (found.get("status"), found.get("reason")) == (status, reason)

        await eventually(is_so, what=f"{type_}={status} {reason}")


@pytest.fixture
async def world(kube: KubeClient, namespace: str) -> AsyncIterator[World]:
    """The world, without an operator yet."""
    port = free_port()
    made = World(kube, namespace, port)
    async with _serving(made, port):
        await kube.apply(slice_in(namespace), manager="test")
        yield made


@asynccontextmanager
async def _serving(world: World, port: int) -> AsyncIterator[None]:
    async with serve(world.replica, port):
        yield


def _owners(deployment: Manifest | None) -> set[str]:
    """Give the field managers that own `spec.replicas`."""
    assert deployment is not None
    entries = deployment["metadata"]["managedFields"]
    return {entry["manager"] for entry in entries if "f:replicas" in entry["fieldsV1"].get("f:spec", {})}


async def test_from_zero_up_and_back(world: World, start_operator: Any) -> None:
    """At zero until a request waits, then as many as are asked for, and at zero again after the idle time; the status
    and Events say so."""
    world.ask()
    start_operator(**world.settings)
    await world.put(scaling={"min": 0, "max": 3, "targets": {"inFlightPerReplica": 2}, **QUICK})
    await world.has(0)
    await world.says("ScalingActive", "True", "DemandKnown")

    world.ask(waiting=1, coldWaiting=1)
    await world.has(1)
    world.ask(inFlight=5, waiting=4)
    await world.has(3)
    assert _owners(await world.deployment()) == {SCALE_MANAGER}
    world.ask()
    await world.has(0)
    await world.says("Available", "False", "Idle")
    assert (await world.model())["status"]["scaling"]["reason"] == "Idle"

    notes = {"1 replica: a request waits", "3 replicas: more is asked for", "0 replicas: nothing was asked for"}

    async def is_told() -> bool:
        events = (await world.kube.list(EVENTS, namespace=world.namespace)).items
        return notes <= {event["note"] for event in events if event["reason"] == "Scaled"}

    await eventually(is_told, what="the Events")


async def test_more_than_may_be_is_said(world: World, start_operator: Any) -> None:
    """A model at `max` that is asked for more says so."""
    world.ask(inFlight=500)
    start_operator(**world.settings)
    await world.put(scaling={"max": 2, **OURS})
    await world.has(2)
    await world.says("ScalingLimited", "True", "AtMax")


async def test_a_model_that_does_not_come_up(world: World, start_operator: Any) -> None:
    """No node takes its pod: when that has lasted the gateway's config says so to clients, conditions and Events to
    everybody else; and as soon as the pod is ready nobody says it any more."""
    world.ask(waiting=1, coldWaiting=1)
    start_operator(**world.settings)
    await world.put(scaling={"min": 0, "max": 1, **OURS, "coldStartSeconds": 1})

    async def failure() -> str | None:
        found = await read_config(world.kube, world.namespace)
        entries = [] if found is None else [one for one in found.models if one.id == f"{world.namespace}/one"]
        return entries[0].startFailure.reason if entries and entries[0].startFailure else None

    async def is_refused() -> bool:
        pods = (await world.kube.list(PODS, namespace=world.namespace)).items
        for pod in pods:
            await _refuse(world, pod)
        return bool(pods)

    async def is_in_config() -> bool:
        return await failure() == "Unschedulable"

    await world.has(1)
    await eventually(is_refused, what="a pod")
    await eventually(is_in_config, what="the failure in the config")
    await world.says("ScalingLimited", "True", "InsufficientGPU")
    assert (await world.model())["status"]["startFailure"]["since"] == LONG_AGO

    async def is_told() -> bool:
        events = (await world.kube.list(EVENTS, namespace=world.namespace)).items
        return "StartFailed" in {event["reason"] for event in events}

    await eventually(is_told, what="the Event")
    async with Kubelet(world.kube, world.namespace):

        async def is_over() -> bool:
            return await failure() is None and "startFailure" not in (await world.model())["status"]

        await eventually(is_over, what="the end of the failure")


async def _refuse(world: World, pod: Manifest) -> None:
    """Do what a scheduler does that has no node for a pod."""
    condition = {
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": LONG_AGO,
        "message": "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
    }  # fmt: skip
    ready = {"type": "Ready", "status": "False", "lastTransitionTime": LONG_AGO}
    named = {key: pod["metadata"][key] for key in ("name", "namespace", "uid")}
    status = {"phase": "Pending", "conditions": [condition, ready]}
    manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": named, "status": status}
    await world.kube.apply_status(manifest, manager="kubelet")


async def test_a_new_operator_moves_nothing(world: World, start_operator: Any) -> None:
    """A replica that is not answered for stays, also when the operator that decided it is gone: here with a gateway of
    a release that does not know the page."""
    world.ask(inFlight=100)
    first = start_operator(**world.settings)
    await world.put(scaling={"max": 4, **QUICK})
    await world.has(4)
    first.kill()
    world.replica.demand = None
    start_operator(**world.settings)
    await world.says("ScalingActive", "False", "DemandUnknown")
    await world.has(4)
    assert (await world.model())["status"]["scaling"]["desired"] == 4


async def test_a_scaler_is_switched_on_and_off(world: World, start_operator: Any) -> None:
    """On, what there is stays until something else is decided, and the scaler owns it; off, the number of the manifest
    holds, and the operator owns it again."""
    seen = set()
    world.ask(inFlight=70)
    start_operator(**world.settings)
    await world.put(replicas=3)
    await world.has(3)
    assert _owners(await world.deployment()) == {FIELD_MANAGER}
    await world.put(scaling={"max": 4, "scaleDownStabilizationSeconds": 3600, **OURS})

    async def is_handed_over() -> bool:
        found = await world.deployment()
        assert found is not None
        seen.add(found["spec"]["replicas"])
        return _owners(found) == {SCALE_MANAGER}

    await eventually(is_handed_over, what="the new owner")
    await world.says("ScalingActive", "True", "DemandKnown")
    await world.put(replicas=3)

    async def is_back() -> bool:
        found = await world.deployment()
        assert found is not None
        seen.add(found["spec"]["replicas"])
        return FIELD_MANAGER in _owners(found)

    await eventually(is_back, what="the former owner")
    assert seen == {3}

    async def is_silent() -> bool:
        return not condition(await world.model(), "ScalingActive")

    await eventually(is_silent, what="no condition of a scaler")


async def test_the_scale_subresource(world: World, start_operator: Any) -> None:
    """With somebody else's scaler it works, and what becomes of the Deployment after that is left alone; with ours it
    has no effect."""
    world.ask(inFlight=500)
    start_operator(**world.settings)
    theirs = {"max": 5, "strategy": "External"}
    await world.put(scaling=theirs)
    await world.has(1)
    await world.says("ScalingActive", "False", "External")
    scaled = await _scale(world, 4)
    await world.has(4)
    metadata = {"name": "one-model", "namespace": world.namespace}
    patch = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": 2}}
    await world.kube.apply(patch, manager="autoscaler")
    # A change that makes the operator write the Deployment: the number is not its to write.
    await world.put(scaling=theirs, replicas=scaled, resources={"cpu": "2"})

    async def is_rolled(cpu: str) -> bool:
        found = await world.deployment()
        assert found is not None
        container = found["spec"]["template"]["spec"]["containers"][0]
        return bool(container.get("resources", {}).get("requests", {}).get("cpu") == cpu)

    await eventually(lambda: is_rolled("2"), what="the new template")
    await world.has(2)

    await world.put(scaling={"max": 2}, replicas=1)
    await world.has(2)
    await world.says("ScalingActive", "True", "WithoutHPA")  # nobody serves metrics for it here
    assert await _scale(world, 3) == 3
    await world.put(scaling={"max": 2}, replicas=3, resources={"cpu": "1"})
    await eventually(lambda: is_rolled("1"), what="the newest template")
    await world.has(2)


async def _scale(world: World, replicas: int) -> int:
    """Do as `kubectl scale llmmodel one --replicas=N` does."""
    request = _Request(
        "scale",
        LLM_MODELS,
        "PATCH",
        LLM_MODELS.path(world.namespace, "one", "scale"),
        body={"spec": {"replicas": replicas}},
        content_type="application/merge-patch+json",
    )
    await world.kube._call(request)
    return int((await world.model())["spec"]["replicas"])
