"""InferencePools of models: their kind in a real API server, where it comes and goes."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from capstan_contract.names import MANAGED_BY, MANAGED_BY_LABEL
from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.kube.client import KubeClient
from capstan_operator.kube.errors import Invalid, UnknownResource
from capstan_operator.resources.api_resource import CRDS, DEPLOYMENTS, INFERENCE_POOLS
from capstan_operator.resources.resource import Manifest
from support.inference import CRD_NAME, pool_crd
from support.llmmodels import is_settled, simulated
from support.operator_process import connect, find
from support.wait import eventually

pytestmark = pytest.mark.apiserver

NAME = "one-model"
WANTED = {"CAPSTAN_INFERENCE_POOLS": "true"}


class World:
    """A namespace, and a cluster that may know the kind."""

    def __init__(self, kube: KubeClient, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace

    async def put(self, name: str = "one", **spec: Any) -> None:
        """Write a model as its user does."""
        await self.kube.apply(simulated(name, self.namespace, **spec), manager="user")

    async def install(self, *, needs_picker: bool = False) -> None:
        """Install the kind."""
        await self.kube.apply(pool_crd(needs_picker=needs_picker), manager="test")

        async def is_served() -> bool:
            try:
                await self.kube.list(INFERENCE_POOLS)
            except UnknownResource:
                return False
            return True

        await eventually(is_served, what="the kind InferencePool")

    async def remove(self) -> None:
        """Remove it, and with it all pools."""
        await self.kube.delete(CRDS, CRD_NAME)

        async def is_gone() -> bool:
            return not await self.has_kind()

        await eventually(is_gone, what="the end of the kind InferencePool")

    async def has_kind(self) -> bool:
        return any(crd["metadata"]["name"] == CRD_NAME for crd in (await self.kube.list(CRDS)).items)

    async def pool(self, name: str = NAME) -> Manifest | None:
        return await find(self.kube, INFERENCE_POOLS, name, self.namespace)

    async def has_pool(self, name: str = NAME) -> Manifest:
        """Wait for it."""

        async def found() -> Manifest | None:
            return await self.pool(name)

        return await eventually(found, what=f"the InferencePool {name}")

    async def has_no_pool(self, name: str = NAME) -> None:
        """Wait until it is gone."""

        async def is_gone() -> bool:
            return await self.pool(name) is None

        await eventually(is_gone, what=f"the end of the InferencePool {name}")

    async def is_settled(self, name: str = "one") -> Manifest:
        """Wait until the status speaks of the newest generation."""

        async def found() -> Manifest | None:
            model = await find(self.kube, LLM_MODELS, name, self.namespace)
            return model if is_settled(model) else None

        return await eventually(found, what="the status of the model")


@pytest.fixture
async def world(kube: KubeClient, namespace: str) -> AsyncIterator[World]:
    """The world, without an operator and without the kind yet."""
    made = World(kube, namespace)
    yield made
    if await made.has_kind():
        await made.remove()


async def test_the_kind_comes_and_goes(world: World, start_operator: Any) -> None:
    """Models are served without it; once it is there each has its pool, and again when it was away."""
    start_operator(**WANTED)
    await world.put()
    await world.put("two", replicas=0)
    await world.is_settled()
    assert await find(world.kube, DEPLOYMENTS, NAME, world.namespace)
    await world.install()
    pool = await world.has_pool()
    assert pool["spec"] == {
        "appProtocol": "http",
        "selector": {
            "matchLabels": {
                "app.kubernetes.io/component": "engine",
                "capstan.dev/model": "one",
                "capstan.dev/track": "stable",
            }
        },
        "targetPorts": [{"number": 8000}],
        "endpointPickerRef": {
            "group": "",
            "kind": "Service",
            "name": "one-epp",
            "port": {"number": 9002},
            "failureMode": "FailClose",
        },
    }
    owner = await world.kube.get(LLM_MODELS, "one", namespace=world.namespace)
    assert pool["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]
    await world.has_pool("two-model")
    await world.remove()
    await world.put(model={"source": "hf://example/tiny", "servedName": "renamed"})
    await world.is_settled()
    await world.install()
    await world.has_pool()
    await world.has_pool("two-model")


async def test_it_is_kept_as_it_should_be(world: World, start_operator: Any) -> None:
    """One that somebody edits or deletes is put right, and what is right is not written again."""
    await world.install()
    operator = start_operator(**WANTED)
    await world.put()
    pool = await world.has_pool()
    await world.is_settled()
    metadata = {"name": NAME, "namespace": world.namespace}
    kind = {"apiVersion": INFERENCE_POOLS.api_version, "kind": INFERENCE_POOLS.kind}
    await world.kube.apply({**kind, "metadata": metadata, "spec": {"targetPorts": [{"number": 9}]}}, manager="them")

    async def is_right() -> bool:
        found = await world.pool()
        return found is not None and found["spec"] == pool["spec"]

    await eventually(is_right, what="the pool as it was")
    await world.kube.delete(INFERENCE_POOLS, NAME, namespace=world.namespace)
    made_anew = await world.has_pool()
    assert made_anew["metadata"]["uid"] != pool["metadata"]["uid"]
    assert operator.exit_code is None


async def test_it_goes_when_nobody_wants_it(world: World, start_operator: Any) -> None:
    """What an earlier process has made, one without the setting takes away, and nothing else of the model."""
    await world.install()
    operator = start_operator(**WANTED)
    await world.put()
    await world.has_pool()
    operator.stop()
    start_operator(CAPSTAN_PRUNE_INFERENCE_POOLS="true")
    await world.has_no_pool()
    assert await find(world.kube, DEPLOYMENTS, NAME, world.namespace)


async def test_what_the_kind_refuses_is_told(world: World, start_operator: Any) -> None:
    """A release that needs a picker refuses a pool without one: the model says so, and is served."""
    await world.install(needs_picker=True)
    start_operator(**WANTED, CAPSTAN_ENDPOINT_PICKER="")
    await world.put()

    async def is_told() -> bool:
        model = await world.kube.get(LLM_MODELS, "one", namespace=world.namespace)
        return "endpointPickerRef" in str(model.get("status"))

    await eventually(is_told, what="the refusal in the status")
    assert await find(world.kube, DEPLOYMENTS, NAME, world.namespace)


async def test_somebody_elses_pool_is_left_alone(world: World, start_operator: Any) -> None:
    """Of the same name: it is as it was, and the model says so."""
    await world.install()
    metadata = {"name": NAME, "namespace": world.namespace}
    theirs = {
        "apiVersion": INFERENCE_POOLS.api_version,
        "kind": INFERENCE_POOLS.kind,
        "metadata": metadata,
        "spec": {"selector": {"matchLabels": {"app": "theirs"}}, "targetPorts": [{"number": 80}]},
    }
    before = await world.kube.apply(theirs, manager="them")
    start_operator(**WANTED)
    await world.put()

    async def is_told() -> bool:
        model = await world.kube.get(LLM_MODELS, "one", namespace=world.namespace)
        return "the InferencePool 'one-model' exists already" in str(model.get("status"))

    await eventually(is_told, what="the name that is taken")
    found = await world.pool()
    assert found
    assert (found["spec"], found["metadata"]["uid"]) == (before["spec"], before["metadata"]["uid"])


async def test_the_account_makes_no_pool_of_other_pods(world: World, bound: Path, namespace: str) -> None:
    """Under the chart's admission policy a pool is of pods of models: no other pod gets their requests."""
    await world.install()
    pool = {
        "apiVersion": INFERENCE_POOLS.api_version,
        "kind": INFERENCE_POOLS.kind,
        "metadata": {"name": NAME, "namespace": namespace, "labels": {MANAGED_BY_LABEL: MANAGED_BY}},
        "spec": {"selector": {"matchLabels": {"app": "somebodys"}}, "targetPorts": [{"number": 8000}]},
    }
    async with connect(bound) as account:
        with pytest.raises(Invalid, match="has pods of models"):
            await account.apply(pool)
