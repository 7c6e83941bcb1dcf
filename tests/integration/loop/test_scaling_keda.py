"""Models that KEDA scales: its kinds in a real API server, and its part played by the test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from capstan_contract.demand import ModelDemand
from capstan_contract.names import MANAGED_BY, MANAGED_BY_LABEL
from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.kube.client import KubeClient
from capstan_operator.kube.errors import Invalid, UnknownResource
from capstan_operator.names import FIELD_MANAGER, SCALE_MANAGER
from capstan_operator.resources.api_resource import (
    CONFIG_MAPS,
    CRDS,
    DEPLOYMENTS,
    SCALED_OBJECTS,
    TRIGGER_AUTHENTICATIONS,
)
from capstan_operator.resources.resource import Manifest
from support.keda import KINDS, Asker, asking, keda_crds
from support.llmmodels import condition, simulated
from support.operator_process import connect, find
from support.ports import free_port
from support.replicas import Replica, serve, slice_in
from support.wait import eventually

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("controllers")]

BY_KEDA = {
    "min": 0,
    "max": 3,
    "strategy": "KEDA",
    "targets": {"inFlightPerReplica": 2},
    "idleSeconds": 3,
    "coldStartSeconds": 1,
    "scaleDownStabilizationSeconds": 2,
}
FINALIZER = "finalizer.keda.sh"
NAME = "one-model"


class World:
    """A namespace with a model, an operator that answers KEDA, and a gateway replica that says what is asked for."""

    def __init__(self, kube: KubeClient, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace
        self.replica = Replica()
        self.port, self.admin = free_port(), free_port()
        self.settings = {
            "CAPSTAN_GATEWAY_SERVICE": "gw",
            "CAPSTAN_GATEWAY_ADMIN_PORT": str(self.admin),
            "CAPSTAN_EXTERNAL_SCALER_PORT": str(self.port),
            "CAPSTAN_EXTERNAL_SCALER_SERVICE": "capstan-operator-scaler",
        }

    def ask(self, **demand: Any) -> None:
        """Let so much be asked of the model."""
        self.replica.demand = {f"{self.namespace}/one": ModelDemand(**demand)}

    async def put(self, **scaling: Any) -> None:
        """Write the model as its user does."""
        model = simulated("one", self.namespace, scaling={**BY_KEDA, **scaling})
        await self.kube.apply(model, manager="user")

    async def install(self) -> None:
        """Install KEDA's kinds."""
        for crd in keda_crds():
            await self.kube.apply(crd, manager="test")

        async def is_served() -> bool:
            try:
                await self.kube.list(SCALED_OBJECTS)
                await self.kube.list(TRIGGER_AUTHENTICATIONS)
            except UnknownResource:
                return False
            return True

        await eventually(is_served, what="KEDA's kinds")

    async def remove(self) -> None:
        """Remove them, and with them all that there is of them."""
        for name in KINDS:
            await self.kube.delete(CRDS, name)

        async def is_gone() -> bool:
            return not [crd for crd in (await self.kube.list(CRDS)).items if crd["metadata"]["name"] in KINDS]

        await eventually(is_gone, what="the end of KEDA's kinds")

    async def scaled_object(self) -> Manifest | None:
        return await find(self.kube, SCALED_OBJECTS, NAME, self.namespace)

    async def has_scaled_object(self) -> Manifest:
        """Wait for it."""
        return await eventually(self.scaled_object, what="a ScaledObject")

    async def replicas(self) -> int | None:
        found = await find(self.kube, DEPLOYMENTS, NAME, self.namespace)
        return None if found is None else found["spec"].get("replicas")

    async def has(self, replicas: int) -> None:
        """Wait until the Deployment has so many."""

        async def is_so() -> bool:
            return await self.replicas() == replicas

        await eventually(is_so, what=f"{replicas} replicas")

    async def says(self, status: str, reason: str, said: str = "") -> None:
        """Wait until ScalingActive says so."""

        async def is_so() -> bool:
            found = condition(await self.kube.get(LLM_MODELS, "one", namespace=self.namespace), "ScalingActive")
            assert (found.get("status"), found.get("reason")) == (status, reason), found
            assert said in found["message"], found
            return True

        await eventually(is_so, what=f"ScalingActive={status} {reason}")

    async def scale(self, replicas: int) -> None:
        """Write the number as KEDA does."""
        metadata = {"name": NAME, "namespace": self.namespace}
        scale = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": replicas}}
        await self.kube.apply(scale, manager="keda")

    async def tell(self, **conditions: str) -> None:
        """Write conditions of the ScaledObject as KEDA does."""
        told = [{"type": kind.title(), "status": status} for kind, status in conditions.items()]
        metadata = {"name": NAME, "namespace": self.namespace}
        await self.kube.apply_status(
            {
                "apiVersion": SCALED_OBJECTS.api_version,
                "kind": SCALED_OBJECTS.kind,
                "metadata": metadata,
                "status": {"conditions": told},
            },
            manager="keda",
        )

    async def hold(self, *finalizers: str) -> None:
        """Write the finalizers of the ScaledObject as KEDA does."""
        metadata = {"name": NAME, "namespace": self.namespace, "finalizers": list(finalizers)}
        one = {"apiVersion": SCALED_OBJECTS.api_version, "kind": SCALED_OBJECTS.kind, "metadata": metadata}
        await self.kube.apply(one, manager="keda")

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Asker]:
        """Ask as KEDA does, with what its TriggerAuthentication leads to."""
        scaled_object = await self.has_scaled_object()
        (trigger,) = scaled_object["spec"]["triggers"]
        name = trigger["authenticationRef"]["name"]
        authentication = await self.kube.get(TRIGGER_AUTHENTICATIONS, name, namespace=self.namespace)
        (reference,) = authentication["spec"]["configMapTargetRef"]
        assert reference["parameter"] == "caCert"
        trusted = await self.kube.get(CONFIG_MAPS, reference["name"], namespace=self.namespace)
        assert trigger["metadata"]["scalerAddress"] == f"capstan-operator-scaler.{self.namespace}.svc:{self.port}"
        async with asking(scaled_object, trusted["data"][reference["key"]], f"127.0.0.1:{self.port}") as asker:
            yield asker


@pytest.fixture
async def world(kube: KubeClient, namespace: str) -> AsyncIterator[World]:
    """The world, without an operator and without KEDA yet."""
    made = World(kube, namespace)
    async with serve(made.replica, made.admin):
        await kube.apply(slice_in(namespace), manager="test")
        yield made
        if await _has_kinds(kube):
            if await made.scaled_object():
                await made.hold()
            await made.remove()


async def _has_kinds(kube: KubeClient) -> bool:
    return any(crd["metadata"]["name"] in KINDS for crd in (await kube.list(CRDS)).items)


async def _owners(world: World) -> set[str]:
    found = await world.kube.get(DEPLOYMENTS, NAME, namespace=world.namespace)
    entries = found["metadata"]["managedFields"]
    return {entry["manager"] for entry in entries if "f:replicas" in entry["fieldsV1"].get("f:spec", {})}


async def test_from_zero_by_keda_and_back(world: World, start_operator: Any) -> None:
    """KEDA is told of the first request as it comes, reads how many replicas are asked for, and hears when the model is
    idle; it alone writes the number, also one that the operator would not."""
    world.ask()
    await world.install()
    start_operator(**world.settings)
    await world.put()
    await world.says("Unknown", "KEDAPending")
    async with world.asking() as keda:

        async def answers() -> bool:
            return await keda.is_active() is False

        await eventually(answers, what="the external scaler")
        await world.has(0)
        stream = keda.stream()
        assert (await stream.read()).result is False
        world.ask(waiting=1, coldWaiting=1)
        assert (await stream.read()).result is True
        assert await world.replicas() == 0
        await world.scale(1)
        await world.tell(ready="True", active="True", fallback="False")
        await world.says("True", "DemandKnown", "Ready=True, Active=True, Fallback=False")

        world.ask(inFlight=3, waiting=2, readyEndpoints=1)

        async def has_grown() -> bool:
            return await keda.load() >= 2.5

        await eventually(has_grown, what="the load of five requests")
        await world.scale(7)
        world.ask(readyEndpoints=1)
        assert (await stream.read()).result is False
        stream.cancel()
        assert await world.replicas() == 7
        assert {FIELD_MANAGER, SCALE_MANAGER}.isdisjoint(await _owners(world))
        await world.scale(0)
        await world.tell(ready="True", active="False", fallback="False")
        await world.says("True", "DemandKnown", "Ready=True, Active=False, Fallback=False")
        await world.tell(ready="False", active="Unknown", fallback="False")
        await world.says("False", "KEDANotReady")


async def test_keda_comes_and_goes(world: World, start_operator: Any) -> None:
    """Without its kinds the operator scales the model; when they come it writes a ScaledObject and leaves the number to
    KEDA; when they go it scales the model again."""
    world.ask(waiting=1)
    start_operator(**world.settings)
    await world.put()
    await world.says("True", "WithoutKEDA", "KEDA is not installed")
    await world.has(1)
    await world.install()
    await world.has_scaled_object()
    await world.says("Unknown", "KEDAPending")
    world.ask(inFlight=6)
    async with world.asking() as keda:

        async def is_asked_for() -> bool:
            return await keda.load() == 3.0

        await eventually(is_asked_for, what="the load of six requests")
    assert await world.replicas() == 1
    await world.remove()
    await world.has(3)
    await world.says("True", "WithoutKEDA", "KEDA is not installed")


async def test_another_strategy_ends_it(world: World, start_operator: Any) -> None:
    """The ScaledObject and what it needed go; as long as KEDA has not let go of it nobody else writes the number."""
    world.ask(waiting=1)
    await world.install()
    start_operator(**world.settings)
    await world.put()
    await world.has_scaled_object()
    await world.hold(FINALIZER)
    await world.put(strategy="Capstan")
    await world.says("False", "KEDAHolds")
    assert await world.replicas() == 0
    await world.hold()
    await world.has(1)
    await world.says("True", "DemandKnown")

    async def is_clean() -> bool:
        left = [
            await find(world.kube, kind, NAME, world.namespace)
            for kind in (SCALED_OBJECTS, TRIGGER_AUTHENTICATIONS, CONFIG_MAPS)
        ]
        return left == [None, None, None]

    await eventually(is_clean, what="nothing of KEDA")


async def test_somebody_elses_scaled_object_is_left_alone(world: World, start_operator: Any) -> None:
    """Of the same name: it is as it was, and the model says so."""
    await world.install()
    metadata = {"name": NAME, "namespace": world.namespace}
    theirs = {
        "apiVersion": SCALED_OBJECTS.api_version,
        "kind": SCALED_OBJECTS.kind,
        "metadata": metadata,
        "spec": {
            "scaleTargetRef": {"name": "another"},
            "triggers": [{"type": "cron", "metadata": {"timezone": "UTC"}}],
        },
    }
    before = await world.kube.apply(theirs, manager="them")
    start_operator(**world.settings)
    await world.put()

    async def is_told() -> bool:
        model = await world.kube.get(LLM_MODELS, "one", namespace=world.namespace)
        return "the ScaledObject 'one-model' exists already" in str(model.get("status"))

    await eventually(is_told, what="the name that is taken")
    found = await world.scaled_object()
    assert found
    assert (found["spec"], found["metadata"]["uid"]) == (before["spec"], before["metadata"]["uid"])
    await world.put(strategy="Capstan")
    await world.says("False", "DemandUnknown")
    assert await world.scaled_object()


async def test_keda_gets_no_credentials_of_others(world: World, bound: Path, namespace: str) -> None:
    """Under the chart's admission policy a ScaledObject scales the Deployment of its own name alone, and has its own
    TriggerAuthentication: with one of the cluster, KEDA would send a Secret of somebody else to whatever a trigger
    names."""
    await world.install()
    name = {"name": NAME}
    deployment = {"apiVersion": DEPLOYMENTS.api_version, "kind": DEPLOYMENTS.kind, **name}

    trigger: dict[str, Any] = {"type": "external-push", "metadata": {"scalerAddress": "x:1"}, "authenticationRef": name}

    def scaled_object(target: dict[str, str] = deployment, **trigger_or_advanced: Any) -> Manifest:
        advanced = trigger_or_advanced.pop("advanced", None)
        spec = {"scaleTargetRef": target, "triggers": [{**trigger, **trigger_or_advanced}]}
        return {
            "apiVersion": SCALED_OBJECTS.api_version,
            "kind": SCALED_OBJECTS.kind,
            "metadata": {**name, "namespace": namespace, "labels": {MANAGED_BY_LABEL: MANAGED_BY}},
            "spec": {**spec, **({"advanced": advanced} if advanced else {})},
        }

    async with connect(bound) as account:
        for reference in ({"name": "somebodys"}, {**name, "kind": "ClusterTriggerAuthentication"}):
            with pytest.raises(Invalid, match="its own TriggerAuthentication"):
                await account.apply(scaled_object(authenticationRef=reference))
        for target in ({**deployment, "name": "other"}, {**deployment, "kind": "StatefulSet"}):
            with pytest.raises(Invalid, match="for the Deployment of its own name"):
                await account.apply(scaled_object(target))
        for wrong in (
            {"type": "metrics-api"},
            {"metadata": {"scalerAddress": "x:1", "tokenFromEnv": "PASSWORD"}},
            {"advanced": {"horizontalPodAutoscalerConfig": {"name": "somebodys"}}},
        ):
            with pytest.raises(Invalid, match="asks the operator, passes on no variable"):
                await account.apply(scaled_object(**wrong))
        behavior = {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}}
        assert await account.apply(scaled_object(advanced=behavior))
