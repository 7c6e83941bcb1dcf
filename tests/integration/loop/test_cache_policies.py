"""CachePolicies from manifest to status, by the operator as a process against a real API server."""

from typing import Any

import pytest

from capstan_operator.api.kinds import CACHE_POLICIES
from capstan_operator.kube.client import KubeClient
from support.llmmodels import condition, hosted
from support.policy_world import PolicyWorld

pytestmark = pytest.mark.apiserver


def cache(name: str, namespace: str, *models: str, **spec: Any) -> dict[str, Any]:
    """A policy for these models."""
    targets = {"targetRefs": [{"name": model} for model in models]} if models else {}
    return {
        "apiVersion": CACHE_POLICIES.api_version,
        "kind": "CachePolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**targets, **spec},
    }


class World(PolicyWorld):
    """What a test looks at."""

    resource = CACHE_POLICIES


@pytest.fixture
def world(kube: KubeClient, namespace: str) -> World:
    """A namespace, and eyes and hands."""
    return World(kube, namespace)


async def test_one_enforces_one_is_tried_and_the_installation_has_a_default(world: World, start_operator: Any) -> None:
    """The default of the installation is in force until a model has a cache of its own, and comes back when that goes;
    a second one that enforces is told who has the model; a router is told that its members are to be cached."""
    space = world.namespace
    start_operator()  # this namespace is where it is installed
    router = {**hosted("r", space), "spec": {"router": {"members": [{"name": "a"}]}}}
    await world.apply(hosted("a", space), router, cache("default", space))
    await world.until_in_force("a", "default")
    await world.until("default", "Programmed", "True", "Written")
    await world.apply(cache("own", space, "a", "r", ttlSeconds=60), cache("trial", space, "a", mode="Shadow"))
    await world.until_in_force("a", "own", "trial")
    found = await world.until("own", "Accepted", "True", "Accepted")
    assert "it keeps nothing for 'r', which only chooses among others" in condition(found, "Accepted")["message"]
    (own,) = [one for one in (await world.config())["policies"] if one["id"] == f"CachePolicy/{space}/own"]
    assert own["body"] == {"ttlSeconds": 60, "redis": {}}
    await world.apply(cache("second", space, "a"))
    found = await world.until("second", "Accepted", "False", "Conflicted")
    assert f"the CachePolicy '{space}/own' is in force" in condition(found, "Accepted")["message"]
    for name in ("own", "second"):
        await world.kube.delete(CACHE_POLICIES, name, namespace=space)
    await world.until_in_force("a", "default", "trial")
