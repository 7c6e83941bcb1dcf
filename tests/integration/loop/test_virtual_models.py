"""Routers, cascades and endpoints through the operator, on a real API server."""

import base64
from typing import Any

import pytest

from capstan_contract.config import CascadeBackend, RouterBackend
from capstan_contract.names import CREDENTIAL_LABEL
from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.kube.client import KubeClient
from capstan_operator.resources.api_resource import DEPLOYMENTS, PODS, SECRETS
from support.llmmodels import condition, hosted, read_config, simulated
from support.operator_process import find
from support.wait import eventually

pytestmark = pytest.mark.apiserver


def virtual(name: str, namespace: str, **spec: Any) -> dict[str, Any]:
    """A model that other models answer for."""
    return {**simulated(name, namespace), "spec": spec}


async def members_of(kube: KubeClient, namespace: str, name: str) -> list[str] | None:
    """Names of a virtual model's members in the gateway config; None while it is not there."""
    config = await read_config(kube, namespace)
    entry = next((entry for entry in config.models if entry.id == f"{namespace}/{name}"), None) if config else None
    match entry.backend if entry else None:
        case RouterBackend(members=chosen):
            ids: tuple[str, ...] = tuple(member.model for member in chosen)
        case CascadeBackend(members=asked):
            ids = asked
        case _:
            return None
    return [member.partition("/")[2] for member in ids]


async def told(kube: KubeClient, namespace: str, name: str) -> dict[str, tuple[str, str]]:
    """(status, reason) of some conditions of a model."""
    found = await find(kube, LLM_MODELS, name, namespace)
    kinds = ("Accepted", "Available", "Degraded")
    return {
        kind: (condition(found, kind).get("status", ""), condition(found, kind).get("reason", "")) for kind in kinds
    }


async def test_members_come_and_go(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """A virtual model follows its members without being touched: in the config, and in its conditions."""
    start_operator()
    router = virtual("front", namespace, router={"members": [{"name": "one"}, {"name": "pair"}]})
    cascade = virtual("pair", namespace, cascade={"members": [{"name": "two"}, {"name": "one"}]})
    await kube.apply(router, manager="user")

    async def expect(name: str, members: list[str] | None, conditions: dict[str, tuple[str, str]]) -> None:
        async def is_so() -> bool:
            return (await members_of(kube, namespace, name), await told(kube, namespace, name)) == (members, conditions)

        await eventually(is_so, what=f"{name} with the members {members}")

    nothing = {
        "Accepted": ("False", "MembersMissing"),
        "Available": ("False", "NoMemberAvailable"),
        "Degraded": ("True", "MembersMissing"),
    }
    some = {
        "Accepted": ("True", "Accepted"),
        "Available": ("True", "Virtual"),
        "Degraded": ("True", "MembersMissing"),
    }
    everything = {**some, "Degraded": ("False", "AsExpected")}
    await expect("front", None, nothing)
    await kube.apply(hosted("one", namespace), manager="user")
    await expect("front", ["one"], some)
    await kube.apply(cascade, manager="user")
    await kube.apply(hosted("two", namespace), manager="user")
    await expect("front", ["one", "pair"], everything)
    await expect("pair", ["two", "one"], everything)
    assert await find(kube, DEPLOYMENTS, "front-model", namespace) is None
    assert await find(kube, DEPLOYMENTS, "pair-model", namespace) is None

    await kube.delete(LLM_MODELS, "one", namespace=namespace)
    await expect("pair", ["two"], some)
    await expect("front", ["pair"], some)


async def set_ready(kube: KubeClient, namespace: str, model: str, ready: bool) -> None:
    """Say of every pod of a model whether it is ready, as a kubelet does."""
    state = {"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-01-01T00:00:00Z"}

    async def pods() -> list[dict[str, Any]]:
        return (await kube.list(PODS, namespace=namespace, label_selector=f"capstan.dev/model={model}")).items

    for pod in await eventually(pods, what=f"a pod of {model}"):
        metadata = {"name": pod["metadata"]["name"], "namespace": namespace}
        status = {"phase": "Running", "conditions": [state]}
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status}
        await kube.apply_status(manifest, manager="kubelet")


@pytest.mark.usefixtures("controllers")
async def test_readiness_follows_the_members(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """A router over a cascade is ready while a member of the cascade is, without waiting for a resync."""
    start_operator()
    names = {"members": [{"name": "one"}, {"name": "two"}]}
    await kube.apply(virtual("front", namespace, router={"members": [{"name": "pair"}]}), manager="user")
    await kube.apply(virtual("pair", namespace, cascade=names), manager="user")
    for name in ("one", "two"):
        await kube.apply(simulated(name, namespace), manager="user")

    async def expect(status: str, reason: str, message: str) -> None:
        async def is_so() -> bool:
            found = [condition(await find(kube, LLM_MODELS, name, namespace), "Ready") for name in ("pair", "front")]
            told = [(one.get("status"), one.get("reason")) for one in found]
            return told == [(status, reason)] * 2 and found[0]["message"] == message

        await eventually(is_so, what=f"pair and front to be {status} with {message}")

    silent = "none of its members takes requests: 'one' (Loading), 'two' (Loading)"
    await expect("False", "NoMemberAvailable", silent)
    await set_ready(kube, namespace, "two", True)
    await expect("True", "Serving", "some of its members answer, but not 'one' (Loading)")
    await set_ready(kube, namespace, "one", True)
    await expect("True", "Serving", "its members answer")
    for name in ("one", "two"):
        await set_ready(kube, namespace, name, False)
    await expect("False", "NoMemberAvailable", silent)
    for name in ("one", "two"):
        await kube.apply(simulated(name, namespace, replicas=0), manager="user")
    await expect("True", "Idle", "no replica of its members is wanted")


async def test_each_endpoint_has_its_credential(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """Keys of endpoints are copied one by one; while one is missing, the model serves and says which."""
    start_operator()
    keys = {"name": "keys", "key": "eu"}
    metadata = {"name": "keys", "namespace": namespace, "labels": {CREDENTIAL_LABEL: "true"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    data = {key: base64.b64encode(key.encode()).decode() for key in ("eu", "us")}
    await kube.apply({**secret, "data": {"eu": data["eu"]}}, manager="user")
    model = hosted("api", namespace)
    model["spec"]["external"] = {
        "endpoints": [
            {"name": name, "url": f"https://{name}.example.com/v1", "secretRef": {**keys, "key": name}}
            for name in ("eu", "us")
        ]
    }
    await kube.apply(model, manager="user")

    async def copied() -> dict[str, str]:
        held = (await find(kube, SECRETS, "capstan-gateway-credentials", namespace) or {}).get("data") or {}
        return {file.rpartition(".")[0]: value for file, value in held.items()}

    async def one_is_missing() -> bool:
        found = await find(kube, LLM_MODELS, "api", namespace)
        message = condition(found, "Degraded").get("message", "")
        where = "the Secret 'keys' that `spec.external.endpoints[name=us].secretRef` names has no key 'us'"
        return message == where and condition(found, "Available").get("status") == "True"

    await eventually(one_is_missing, what="the missing key in a condition")

    async def are_there(*names: str) -> bool:
        return await copied() == {f"{namespace}.api.{name}": data[name] for name in names}

    await eventually(lambda: are_there("eu"), what="the key that is there, alone")
    await kube.apply({**secret, "data": data}, manager="user")
    await eventually(lambda: are_there("eu", "us"), what="both keys")

    async def is_well() -> bool:
        return (await told(kube, namespace, "api"))["Degraded"] == ("False", "AsExpected")

    await eventually(is_well, what="the model to be well")
