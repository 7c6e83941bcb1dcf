"""What becomes of the claim for the weights when the spec no longer has it, and when the model goes."""

from typing import Any

import pytest

from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.kube.client import KubeClient
from capstan_operator.resources.api_resource import CLAIMS, DEPLOYMENTS
from capstan_operator.resources.resource import Manifest
from support.llmmodels import condition, simulated
from support.operator_process import find
from support.wait import eventually

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("controllers")]


class World:
    """One model of a namespace, its claim, and what it says of it."""

    def __init__(self, kube: KubeClient, namespace: str) -> None:
        self.kube, self.namespace = kube, namespace

    async def put(self, **cache: Any) -> Manifest:
        """Apply the model, with a cache or without one, and wait until the operator has dealt with it."""
        spec = {"cache": cache} if cache else {}
        made = await self.kube.apply(simulated("one", self.namespace, **spec), manager="user")
        generation = made["metadata"]["generation"]

        async def done() -> bool:
            found = await find(self.kube, LLM_MODELS, "one", self.namespace)
            return found is not None and (found.get("status") or {}).get("observedGeneration") == generation

        await eventually(done, what=f"generation {generation}")
        return made

    async def claim(self) -> Manifest | None:
        """The claim, unless it is being deleted (a claim waits for its pods, and here for a controller)."""
        found = await find(self.kube, CLAIMS, "one-weights", self.namespace)
        return None if found is None or "deletionTimestamp" in found["metadata"] else found

    async def told(self, kind: str) -> dict[str, Any]:
        """A condition of the model."""
        return condition(await self.kube.get(LLM_MODELS, "one", namespace=self.namespace), kind)


def owners(claim: Manifest | None) -> list[str]:
    """The uids of its owners."""
    assert claim is not None
    return [owner["uid"] for owner in claim["metadata"].get("ownerReferences") or ()]


def uid(claim: Manifest | None) -> str:
    """Which object it is."""
    assert claim is not None
    return str(claim["metadata"]["uid"])


@pytest.fixture
def world(kube: KubeClient, namespace: str, start_operator: Any) -> World:
    """A namespace with an operator."""
    start_operator()
    return World(kube, namespace)


async def test_a_claim_outlives_the_edit_that_removes_it(world: World) -> None:
    """Without a word about it, the claim stays while the model lives, says so, and goes with the model."""
    made = await world.put(size="1Gi")
    before = await world.claim()
    assert owners(before) == [uid(made)]
    await world.put()
    after = await world.claim()
    assert (uid(after), owners(after)) == (uid(before), [uid(made)])
    said = await world.told("WeightsReady")
    assert (said["status"], said["reason"]) == ("True", "ClaimLeft")
    assert "'one-weights'" in said["message"]


async def test_a_claim_goes_with_its_cache_when_the_manifest_said_so(world: World) -> None:
    """With `retain: false` the claim is deleted together with `cache`."""
    await world.put(size="1Gi", retain=False)
    assert await world.claim() is not None
    await world.put()
    assert await world.claim() is None


async def test_a_retained_claim_outlives_its_model_and_is_taken_up_by_the_next(world: World) -> None:
    """With `retain: true` the claim stays when the model goes; a model of the same name has the weights again."""
    await world.put(size="1Gi", retain=True)
    before = await world.claim()
    assert owners(before) == []
    await world.put()
    assert uid(await world.claim()) == uid(before)
    await world.kube.delete(LLM_MODELS, "one", namespace=world.namespace)

    async def gone() -> bool:
        return await find(world.kube, DEPLOYMENTS, "one-model", world.namespace) is None

    await eventually(gone, seconds=120, what="the model's other children to go")
    assert uid(await world.claim()) == uid(before)
    second = await world.put(size="1Gi")
    after = await world.claim()
    assert (uid(after), owners(after)) == (uid(before), [uid(second)])
    assert (await world.told("Degraded"))["status"] == "False"


async def test_retaining_can_be_said_and_taken_back(world: World) -> None:
    """`retain` takes the owner away from a claim that is there, and gives it back."""
    made = await world.put(size="1Gi")
    await world.put(size="1Gi", retain=True)
    assert owners(await world.claim()) == []
    await world.put(size="1Gi", retain=False)
    assert owners(await world.claim()) == [uid(made)]
