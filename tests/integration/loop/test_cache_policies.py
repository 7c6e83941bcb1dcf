"""CachePolicies from manifest to status, by the operator as a process against a real API server."""

import base64
from typing import Any

import pytest

from capstan_contract.names import CREDENTIAL_LABEL
from capstan_operator.api.kinds import CACHE_POLICIES
from capstan_operator.kube.client import KubeClient
from capstan_operator.resources.api_resource import SECRETS
from capstan_operator.settings import Settings
from support.llmmodels import condition, hosted
from support.operator_process import find
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


async def test_the_key_that_entries_are_sealed_with(world: World, start_operator: Any) -> None:
    """It is copied into the gateway's Secret once whoever owns the Secret says that it may be; until then the policy
    says why not. Its value is in no status and in no config."""
    space = world.namespace
    start_operator()
    sealed = {"encryptionKeyRef": {"name": "cache-key", "key": "k"}}
    await world.apply(hosted("a", space), cache("p", space, "a", redis=sealed))
    await world.until("p", "Accepted", "True", "Accepted")
    await world.until("p", "Programmed", "False", "SecretNotFound")
    secret: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "cache-key", "namespace": space},
        "data": {"k": base64.b64encode(b"what seals entries").decode()},
    }
    await world.apply(secret)
    await world.until("p", "Programmed", "False", "SecretNotLabelled")
    secret["metadata"] = {**secret["metadata"], "labels": {CREDENTIAL_LABEL: "true"}}
    await world.apply(secret)
    found = await world.until("p", "Programmed", "True", "Written")
    config = await world.config()
    (policy,) = config["policies"]
    copied = await find(world.kube, SECRETS, Settings().gateway_credentials_name, space)
    assert copied is not None
    assert base64.b64decode(copied["data"][policy["body"]["encryptionFile"]]) == b"what seals entries"
    assert "what seals" not in str((config, found))
