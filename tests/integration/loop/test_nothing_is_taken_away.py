"""What the gateway serves is not taken away by others, by a faulty edit, by a newer CRD or by a wrong setting."""

import copy
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from capstan_contract.config import ModelEntry
from capstan_operator.api.kinds import LLM_MODELS, LLMMODEL
from capstan_operator.kube.client import KubeClient
from capstan_operator.names import CRD_RELEASE_ANNOTATION, CRD_SCHEMA_ANNOTATION, RELEASE_ANNOTATION
from capstan_operator.resources.api_resource import CONFIG_MAPS, CRDS, DEPLOYMENTS, EVENTS
from support.llmmodels import CONFIG_NAME, condition, hosted, read_config, simulated
from support.needs import ROOT
from support.operator_process import NAMESPACES, ONE_POD, find, install_crds, make_namespace
from support.wait import eventually
from support.yamls import load

pytestmark = pytest.mark.apiserver


@pytest.fixture
async def other(kube: KubeClient) -> AsyncIterator[str]:
    """The namespace of another tenant."""
    name = await make_namespace(kube)
    yield name
    await kube.delete(NAMESPACES, name)


async def entries(kube: KubeClient, namespace: str) -> dict[str, ModelEntry]:
    """The live entries by the names of their models."""
    config = await read_config(kube, namespace)
    return {entry.id.partition("/")[2]: entry for entry in config.models} if config else {}


async def told(kube: KubeClient, namespace: str, name: str, kind: str) -> tuple[str, str, int]:
    """Status, reason and generation of a condition."""
    found = condition(await find(kube, LLM_MODELS, name, namespace), kind)
    return found.get("status", ""), found.get("reason", ""), found.get("observedGeneration", 0)


async def test_nobody_takes_a_name_from_the_one_that_has_it(
    kube: KubeClient, namespace: str, other: str, start_operator: Any
) -> None:
    """Neither an older model elsewhere, nor a restart, nor a restore moves a name; the other one lacks its alias."""
    watched = {"CAPSTAN_WATCH_NAMESPACES": f"{namespace},{other}", **ONE_POD}
    thief = hosted("thief", other)
    thief["spec"]["serving"] = {"fallbacks": ["nobody-yet"]}
    await kube.apply(thief, manager="user")  # the older one
    operator = start_operator(**watched)
    await eventually(lambda: _has(kube, namespace, {"thief"}), what="the older model")
    mine = hosted("gpt-prod", namespace)
    await kube.apply(mine, manager="user")
    await eventually(lambda: _has(kube, namespace, {"thief", "gpt-prod"}), what="the younger model")
    thief["spec"]["model"] = {"aliases": ["gpt-prod", "mine-alone"]}
    await kube.apply(thief, manager="user")

    async def only_the_alias_is_lost() -> bool:
        live = await entries(kube, namespace)
        return live["thief"].aliases == ("mine-alone",) and live["gpt-prod"].id == f"{namespace}/gpt-prod"

    await eventually(only_the_alias_is_lost, what="the config without the stolen alias")
    await eventually(
        lambda: _tells(kube, other, "thief", "Degraded", ("True", "Conflicted", 2)), what="the conflict in the status"
    )
    assert (await told(kube, other, "thief", "Accepted"))[:2] == ("True", "Accepted")
    operator.kill()
    # A restore: the victim is made anew, younger than everybody, while nobody looks.
    await kube.delete(LLM_MODELS, "gpt-prod", namespace=namespace)
    await eventually(lambda: _is_gone(kube, namespace, "gpt-prod"), what="the end of the model")
    restored = await kube.apply(mine, manager="user")
    start_operator(**watched)

    async def is_restored() -> bool:
        live = await entries(kube, namespace)
        return live["gpt-prod"].uid == restored["metadata"]["uid"] and live["thief"].aliases == ("mine-alone",)

    await eventually(is_restored, what="the restored model under its name")


async def _has(kube: KubeClient, namespace: str, names: set[str]) -> bool:
    return set(await entries(kube, namespace)) == names


async def _tells(kube: KubeClient, namespace: str, name: str, kind: str, expected: tuple[str, str, int]) -> bool:
    return await told(kube, namespace, name, kind) == expected


async def _is_gone(kube: KubeClient, namespace: str, name: str) -> bool:
    return await find(kube, LLM_MODELS, name, namespace) is None


def newer_crd() -> dict[str, Any]:
    """The CRD of a release to come: fields that this one does not know, with defaults, and a value of an enum."""
    crd: dict[str, Any] = load((ROOT / "crds" / LLMMODEL.file).read_text())
    crd["metadata"]["annotations"] = {CRD_RELEASE_ANNOTATION: "99.0.0", CRD_SCHEMA_ANNOTATION: "newer"}
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    field = {"type": "object", "default": {"after": 3}, "properties": {"after": {"type": "integer", "default": 3}}}
    spec["properties"]["hedging"] = field
    spec["properties"]["serving"]["properties"]["hedging"] = field
    spec["properties"]["engine"]["properties"]["type"]["enum"].append("Newer")
    return crd


async def test_a_newer_crd_makes_no_model_invalid(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """An operator that was rolled back ignores what a newer CRD fills in, says that it is newer, and keeps an entry
    whose newest spec it does not understand."""
    try:
        await kube.apply(newer_crd(), manager="test")
        await kube.apply(hosted("m", namespace), manager="user")
        made = await kube.apply(simulated("n", namespace), manager="user")
        while "hedging" not in made["spec"]:  # the API server serves the new schema a moment later
            await kube.delete(LLM_MODELS, "n", namespace=namespace)
            made = await kube.apply(simulated("n", namespace), manager="user")
        operator = start_operator()
        await eventually(lambda: _has(kube, namespace, {"m", "n"}), what="both models in the config")
        await eventually(
            lambda: _tells(kube, namespace, "n", "Accepted", ("True", "Accepted", 1)), what="its acceptance"
        )
        await eventually(
            lambda: operator.metric("capstan_operator_crd_release", state="newer") == 1, what="the metric of releases"
        )
        await kube.apply(simulated("n", namespace, engine={"type": "Newer"}), manager="user")
        await eventually(
            lambda: _tells(kube, namespace, "n", "Accepted", ("False", "Invalid", 2)), what="the unknown value"
        )
        assert set(await entries(kube, namespace)) == {"m", "n"}
    finally:
        await install_crds(kube)
        crd = load((ROOT / "crds" / LLMMODEL.file).read_text())

        async def is_back() -> bool:
            return (await kube.get(CRDS, crd["metadata"]["name"]))["metadata"]["annotations"] == {
                **crd["metadata"]["annotations"]
            }

        await eventually(is_back, what="the CRD of this release")


async def test_a_faulty_edit_takes_a_running_model_out_of_nothing(
    kube: KubeClient, namespace: str, start_operator: Any
) -> None:
    """The entry and the Deployment stay, also across a restart; put right, the new spec takes their place."""
    operator = start_operator(**ONE_POD)
    await kube.apply(simulated("m", namespace, model={"source": "hf://a/b", "aliases": ["x"]}), manager="user")
    await eventually(lambda: _has(kube, namespace, {"m"}), what="the model in the config")
    await eventually(lambda: _tells(kube, namespace, "m", "Accepted", ("True", "Accepted", 1)), what="its acceptance")
    before = (await entries(kube, namespace))["m"]
    # What the schema lets through and the operator refuses.
    faulty = simulated("m", namespace, model={"source": "hf://a/b", "aliases": ["y"]})
    faulty["spec"]["template"] = {"spec": {"$nothing": 1}}
    await kube.apply(faulty, manager="user")
    await eventually(lambda: _tells(kube, namespace, "m", "Accepted", ("False", "Invalid", 2)), what="the fault")
    assert (await told(kube, namespace, "m", "Degraded"))[:2] == ("True", "Invalid")
    assert (await entries(kube, namespace))["m"] == before
    operator.kill()
    operator = start_operator(**ONE_POD)
    await eventually(
        lambda: operator.metric("capstan_operator_reconciles_total", of="gateway_config") > 0, what="a compile"
    )
    assert (await entries(kube, namespace))["m"] == before
    assert await find(kube, DEPLOYMENTS, "m-model", namespace) is not None
    del faulty["spec"]["template"]
    await kube.apply(faulty, manager="user")

    async def is_new() -> bool:
        return (await entries(kube, namespace))["m"].aliases == ("y",)

    await eventually(is_new, what="the new entry")


async def test_a_config_that_would_drop_much_is_held(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """A wrong pattern takes nothing away until a person says so; the models say what to do, stay ready, and keep nobody
    else from the config."""
    operator = start_operator()
    names = {f"m{number}" for number in range(4)}
    for name in sorted(names):
        await kube.apply(hosted(name, namespace), manager="user")
    await eventually(lambda: _has(kube, namespace, names), what="the models in the config")
    for name in names:
        await eventually(lambda n=name: _tells(kube, namespace, n, "Ready", ("True", "Serving", 1)), what=f"{name}")
    operator.stop()
    before = copy.deepcopy(await entries(kube, namespace))
    operator = start_operator(CAPSTAN_ALLOWED_NAMES=json.dumps({namespace: ["x-*"]}))
    await eventually(lambda: operator.metric("capstan_operator_gateway_config_held") == 4, what="the metric")
    for name in names:
        await eventually(
            lambda n=name: _tells(kube, namespace, n, "Degraded", ("True", "ConfigHeld", 1)), what=f"{name} held"
        )
        assert (await told(kube, namespace, name, "Ready"))[:2] == ("True", "Serving")
    assert await entries(kube, namespace) == before
    await kube.apply(hosted("x-new", namespace), manager="user")
    await eventually(lambda: _has(kube, namespace, {*names, "x-new"}), what="a new model in the config")
    await eventually(lambda: _tells(kube, namespace, "x-new", "Ready", ("True", "Serving", 1)), what="its readiness")

    async def events() -> bool:
        listing = await kube.list(EVENTS, namespace=namespace)
        return any((item["reason"], item["regarding"]["name"]) == ("ConfigHeld", CONFIG_NAME) for item in listing.items)

    await eventually(events, what="the Event on the ConfigMap")
    message = condition(await find(kube, LLM_MODELS, "m0", namespace), "Degraded")["message"]
    token = message.rsplit("=", 1)[1]
    metadata = {"name": CONFIG_NAME, "namespace": namespace, "annotations": {RELEASE_ANNOTATION: token}}
    await kube.apply({"apiVersion": "v1", "kind": CONFIG_MAPS.kind, "metadata": metadata}, manager="user")
    await eventually(lambda: _has(kube, namespace, {"x-new"}), what="the config that was let through")
    assert operator.metric("capstan_operator_gateway_config_held") == 0

    async def is_done() -> bool:
        metadata = (await kube.get(CONFIG_MAPS, CONFIG_NAME, namespace=namespace))["metadata"]
        return metadata["annotations"][RELEASE_ANNOTATION] == ""

    await eventually(is_done, what="the annotation that was taken back")
