"""The operator as a process, against a real API server: the state of the world, never the calls."""

import base64
from typing import Any

import pytest

from capstan_contract.names import CREDENTIAL_LABEL, PRIVACY_KEY
from capstan_operator.api.kinds import LLM_MODELS
from capstan_operator.kube.client import KubeClient
from capstan_operator.resources.api_resource import CONFIG_MAPS, DEPLOYMENTS, SECRETS, SERVICES
from support.llmmodels import condition, hosted, is_settled, served_names, simulated
from support.operator_process import NAMESPACES, find, make_namespace
from support.wait import eventually

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("controllers")]


async def settled(kube: KubeClient, name: str, namespace: str) -> dict[str, Any]:
    """Wait until a model is settled, and give it."""

    async def check() -> dict[str, Any] | None:
        found = await find(kube, LLM_MODELS, name, namespace)
        return found if is_settled(found) else None

    found = await eventually(check, what=f"{name} to be settled")
    assert found is not None
    return found


async def test_create_rename_delete(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """A model gets its children and its entry; a rename touches only the entry; deleting it takes everything away."""
    start_operator()
    await kube.apply(simulated("one", namespace), manager="user")
    model = await settled(kube, "one", namespace)
    deployment = await kube.get(DEPLOYMENTS, "one-model", namespace=namespace)
    assert await find(kube, SERVICES, "one-model", namespace)
    assert deployment["metadata"]["ownerReferences"][0]["uid"] == model["metadata"]["uid"]
    assert await served_names(kube, namespace) == {"one"}

    renamed = simulated("one", namespace, model={"source": "hf://example/tiny", "servedName": "other"})
    await kube.apply(renamed, manager="user")

    async def is_renamed() -> bool:
        return await served_names(kube, namespace) == {"other"}

    await eventually(is_renamed, what="the new name in the config")
    await settled(kube, "one", namespace)
    after = await kube.get(DEPLOYMENTS, "one-model", namespace=namespace)
    assert after["metadata"]["generation"] == deployment["metadata"]["generation"]

    await kube.delete(LLM_MODELS, "one", namespace=namespace)

    async def is_gone() -> bool:
        left = [await find(kube, kind, "one-model", namespace) for kind in (DEPLOYMENTS, SERVICES)]
        return await served_names(kube, namespace) == set() and left == [None, None]

    await eventually(is_gone, seconds=120, what="the children and the entry to go")


async def test_drift_is_repaired(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """A child, or the config, that somebody deletes or edits is put right without waiting for a resync."""
    start_operator()
    await kube.apply(simulated("one", namespace), manager="user")
    await settled(kube, "one", namespace)
    uid = (await kube.get(SERVICES, "one-model", namespace=namespace))["metadata"]["uid"]
    await kube.delete(SERVICES, "one-model", namespace=namespace)
    meddled = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "one-model", "namespace": namespace}}
    await kube.apply({**meddled, "spec": {"replicas": 7}}, manager="meddler")
    await kube.delete(CONFIG_MAPS, "capstan-gateway-config", namespace=namespace)

    async def repaired() -> bool:
        service = await find(kube, SERVICES, "one-model", namespace)
        deployment = await kube.get(DEPLOYMENTS, "one-model", namespace=namespace)
        assert service is not None
        return (
            service["metadata"]["uid"] != uid
            and deployment["spec"]["replicas"] == 1
            and await served_names(kube, namespace) == {"one"}
        )

    await eventually(repaired, what="the drift to be repaired")


async def test_what_happened_while_it_was_down(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """After a restart the world is as if the operator had been there: made, changed and deleted models alike."""
    first = start_operator()
    for name in ("stays", "goes"):
        await kube.apply(simulated(name, namespace), manager="user")
        await settled(kube, name, namespace)
    assert first.stop() == 0
    await kube.delete(LLM_MODELS, "goes", namespace=namespace)
    await kube.apply(simulated("comes", namespace), manager="user")
    await kube.apply(simulated("stays", namespace, replicas=2), manager="user")
    assert await served_names(kube, namespace) == {"stays", "goes"}

    start_operator()
    await settled(kube, "comes", namespace)
    await settled(kube, "stays", namespace)
    assert await served_names(kube, namespace) == {"stays", "comes"}
    assert (await kube.get(DEPLOYMENTS, "stays-model", namespace=namespace))["spec"]["replicas"] == 2


async def test_the_users_object_is_the_users(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """The operator writes status and nothing else: no annotation, label, finalizer, or field of the spec."""
    manifest = simulated("one", namespace)
    manifest["metadata"] |= {"labels": {"team": "a"}, "annotations": {"note": "b"}}
    before = await kube.apply(manifest, manager="user")
    start_operator()
    await settled(kube, "one", namespace)
    after = await kube.get(LLM_MODELS, "one", namespace=namespace)
    changed = {"resourceVersion", "managedFields"}
    assert {k: v for k, v in after["metadata"].items() if k not in changed} == {
        k: v for k, v in before["metadata"].items() if k not in changed
    }
    assert after["spec"] == before["spec"]
    others = [entry for entry in after["metadata"]["managedFields"] if entry["manager"] != "user"]
    assert [entry["manager"] for entry in others] == ["capstan-operator-status"]
    assert all(entry["subresource"] == "status" and list(entry["fieldsV1"]) == ["f:status"] for entry in others)


async def test_a_refused_object_stops_nobody_else(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """What the API server refuses is told on the model with its message; other models come up."""
    start_operator()
    broken = {"spec": {"containers": [{"name": "engine", "ports": [{"containerPort": 99999}]}]}}
    await kube.apply(simulated("broken", namespace, template=broken), manager="user")
    await kube.apply(simulated("good", namespace), manager="user")
    await settled(kube, "good", namespace)

    async def told() -> bool:
        found = await find(kube, LLM_MODELS, "broken", namespace)
        return (
            "99999" in condition(found, "Degraded").get("message", "")
            and condition(found, "Degraded")["status"] == "True"
        )

    await eventually(told, what="the refusal in a condition")
    assert await find(kube, DEPLOYMENTS, "good-model", namespace)


async def test_somebody_elses_object_is_not_taken(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """A Deployment of the same name that Capstan has not made stays as it is, and the model says so."""
    spec = {
        "selector": {"matchLabels": {"app": "mine"}},
        "template": {
            "metadata": {"labels": {"app": "mine"}},
            "spec": {"containers": [{"name": "mine", "image": "mine:1"}]},
        },
    }
    metadata = {"name": "one-model", "namespace": namespace}
    mine = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {**spec, "replicas": 0}}
    before = await kube.apply(mine, manager="user")
    start_operator()
    await kube.apply(simulated("one", namespace), manager="user")

    async def told() -> bool:
        return "one-model" in condition(await find(kube, LLM_MODELS, "one", namespace), "Degraded").get("message", "")

    await eventually(told, what="the taken name in a condition")
    after = await kube.get(DEPLOYMENTS, "one-model", namespace=namespace)
    assert after["spec"] == before["spec"]
    assert "ownerReferences" not in after["metadata"]


async def test_credentials_are_copied_and_missing_ones_are_told(
    kube: KubeClient, namespace: str, start_operator: Any
) -> None:
    """Only the named key reaches the gateway's Secret; while it is missing, the model says which one."""
    operator = start_operator()
    await kube.apply(hosted("api", namespace, secretRef={"name": "keys", "key": "openai"}), manager="user")

    async def told() -> bool:
        found = await find(kube, LLM_MODELS, "api", namespace)
        return "keys" in condition(found, "Degraded").get("message", "")

    await eventually(told, what="the missing Secret in a condition")
    data = {key: base64.b64encode(value).decode() for key, value in (("openai", b"sk-very-secret"), ("other", b"x"))}
    metadata = {"name": "keys", "namespace": namespace, "labels": {CREDENTIAL_LABEL: "true"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    await kube.apply({**secret, "data": data}, manager="user")

    async def copied() -> bool:
        found = await find(kube, SECRETS, "capstan-gateway-credentials", namespace)
        return found is not None and list((found.get("data") or {}).values()) == [data["openai"]]

    await eventually(copied, what="the copied key")

    async def well() -> bool:
        return condition(await find(kube, LLM_MODELS, "api", namespace), "Ready").get("status") == "True"

    await eventually(well, what="the model to be ready")
    assert "sk-very-secret" not in operator.log
    assert data["openai"] not in operator.log


async def test_the_key_of_users_hashes_is_made_once(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """An operator makes it, and the next one leaves it as it is; nothing of it is in the log."""

    async def key() -> str:
        found = await find(kube, SECRETS, "capstan-gateway-privacy", namespace)
        return str(((found or {}).get("data") or {}).get(PRIVACY_KEY, ""))

    operator = start_operator()
    await eventually(key, what="the key")
    made = await key()
    operator.stop()
    again = start_operator()
    await kube.apply(simulated("one", namespace), manager="user")
    await settled(kube, "one", namespace)
    assert await key() == made
    for process in (operator, again):
        assert base64.b64decode(made).decode() not in process.log
        assert made not in process.log


async def test_an_autoscaler_owns_the_replicas_within_bounds(
    kube: KubeClient, namespace: str, start_operator: Any
) -> None:
    """With `scaling`, the Deployment starts at the minimum, follows the autoscaler, and is kept within the bounds."""
    start_operator()
    await kube.apply(simulated("one", namespace, scaling={"min": 2, "max": 4}), manager="user")
    await settled(kube, "one", namespace)
    created = await kube.get(DEPLOYMENTS, "one-model", namespace=namespace)
    assert created["spec"]["replicas"] == 2
    metadata = {"name": "one-model", "namespace": namespace}

    async def scale(replicas: int) -> None:
        patch = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"replicas": replicas}}
        await kube.apply(patch, manager="autoscaler")

    async def replicas() -> int:
        return int((await kube.get(DEPLOYMENTS, "one-model", namespace=namespace))["spec"]["replicas"])

    await scale(9)

    async def is_bounded() -> bool:
        return await replicas() == 4

    await eventually(is_bounded, what="the replicas to be bounded")
    await scale(3)
    # A change that makes the operator write the Deployment: it must not write the replicas with it.
    await kube.apply(simulated("one", namespace, scaling={"min": 2, "max": 4}, resources={"cpu": "2"}), manager="user")

    async def is_rolled() -> bool:
        containers = (await kube.get(DEPLOYMENTS, "one-model", namespace=namespace))["spec"]["template"]["spec"]
        return containers["containers"][0].get("resources", {}).get("requests", {}).get("cpu") == "2"

    await eventually(is_rolled, what="the new template")
    assert await replicas() == 3


async def test_a_namespace_goes_without_the_operator(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """Nothing that Capstan makes, and nothing that it does to a model, needs Capstan to be deleted."""
    operator = start_operator()
    await kube.apply(simulated("one", namespace, prefixes=[{"name": "p", "system": "hello"}]), manager="user")
    await settled(kube, "one", namespace)
    operator.kill()
    await kube.delete(NAMESPACES, namespace)

    async def is_gone() -> bool:
        return not (await kube.list(NAMESPACES, field_selector=f"metadata.name={namespace}")).items

    await eventually(is_gone, seconds=180, what="the namespace to go")


async def test_without_named_namespaces_it_works_in_all(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """A model in a namespace that is not the operator's is reconciled there, and served by the one config."""
    start_operator(CAPSTAN_WATCH_NAMESPACES="")
    elsewhere = await make_namespace(kube)
    try:
        name = f"m-{elsewhere}"
        await kube.apply(simulated(name, elsewhere), manager="user")
        await settled(kube, name, elsewhere)
        assert await find(kube, DEPLOYMENTS, f"{name}-model", elsewhere)
        assert name in await served_names(kube, namespace)
    finally:
        await kube.delete(NAMESPACES, elsewhere)


async def test_a_wrong_setting_ends_the_process(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """A setting that cannot be used ends the process with code 2 and the variable's name."""
    operator = start_operator(CAPSTAN_WORKERS="many")
    await eventually(lambda: operator.exit_code is not None, what="the end")
    assert operator.exit_code == 2
    assert "CAPSTAN_WORKERS must be a whole number" in operator.log


async def test_images_of_our_own_have_to_be_said(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """An operator that is not told where Capstan's images are ends with code 2, before it makes pods of them."""
    operator = start_operator(CAPSTAN_WORKER_IMAGE="")
    await eventually(lambda: operator.exit_code is not None, what="the end")
    assert operator.exit_code == 2
    assert "CAPSTAN_WORKER_IMAGE is missing" in operator.log
