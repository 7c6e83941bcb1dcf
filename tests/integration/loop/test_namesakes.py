"""Objects that have the name of a child: somebody else's stay as they are, our own are known without labels."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from capstan_contract.names import MANAGED_BY, MANAGED_BY_LABEL, MODEL_LABEL
from capstan_operator.api.kinds import LLM_MODELS, Model
from capstan_operator.desired.model import build_model
from capstan_operator.desired.snapshot import Snapshot
from capstan_operator.desired.types import DesiredModel
from capstan_operator.kube.client import KubeClient
from capstan_operator.loaders.parser import ModelParser
from capstan_operator.models.namesakes import FEW_LOOKUPS, Namesakes
from capstan_operator.models.writer import ChildWriter
from capstan_operator.resources.api_resource import CLAIMS, CONFIG_MAPS, DEPLOYMENTS, ApiResource
from capstan_operator.resources.resource import Manifest
from capstan_operator.settings import BuildSettings
from support.kubectl import Kubectl
from support.llmmodels import condition, simulated
from support.operator_process import connect, find
from support.wait import eventually

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("controllers")]

PARTS: dict[str, Any] = {"prefixes": [{"name": "p", "system": "hello"}], "cache": {"size": "1Gi"}}
"""What gives a model a ConfigMap and a claim."""


def users_objects(namespace: str) -> list[Manifest]:
    """Objects with the names of a model's children, which server-side apply would merge with and see no conflict."""
    notes = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "one-prefixes", "namespace": namespace},
        "data": {"notes": "mine"},
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "one-weights", "namespace": namespace, "labels": {"team": "a"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    return [notes, claim]


def kept(manifest: Manifest) -> Manifest:
    """What of an object is its owner's: not the status, and not how often it was written."""
    moving = ("resourceVersion", "managedFields")
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in moving}
    return {**{key: value for key, value in manifest.items() if key != "status"}, "metadata": metadata}


async def put(kube: KubeClient, name: str, namespace: str, **spec: Any) -> Model:
    """Make a model, and give it as the operator reads it."""
    await kube.apply(simulated(name, namespace, **spec), manager="user")
    return ModelParser().parse(await kube.get(LLM_MODELS, name, namespace=namespace))


def desired_of(model: Model) -> DesiredModel:
    """Give what a new model wants."""
    return build_model(model, Snapshot(models={model.key: model}, children={model.key: ()}), BuildSettings())


async def test_objects_without_conflict_are_not_adopted(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """A ConfigMap and a claim that the apply would merge with stay as they are, and outlive the model."""
    before = [await kube.apply(manifest, manager="user") for manifest in users_objects(namespace)]
    start_operator()
    await kube.apply(simulated("one", namespace, **PARTS), manager="user")

    async def told() -> bool:
        message = condition(await find(kube, LLM_MODELS, "one", namespace), "Degraded").get("message", "")
        return "one-prefixes" in message or "one-weights" in message

    async def users() -> list[Manifest]:
        return [
            await kube.get(CONFIG_MAPS, "one-prefixes", namespace=namespace),
            await kube.get(CLAIMS, "one-weights", namespace=namespace),
        ]

    await eventually(told, what="the taken names in a condition")
    assert await find(kube, DEPLOYMENTS, "one-model", namespace)
    after = await users()
    assert [item["metadata"].get("ownerReferences") for item in after] == [None, None]
    assert [item["metadata"].get("labels") for item in after] == [None, {"team": "a"}]
    assert [item.get("data") for item in after] == [item.get("data") for item in before]

    await kube.delete(LLM_MODELS, "one", namespace=namespace)

    async def is_gone() -> bool:
        return await find(kube, DEPLOYMENTS, "one-model", namespace) is None

    await eventually(is_gone, seconds=120, what="the model's own children to go")
    assert all("deletionTimestamp" not in item["metadata"] for item in await users())


async def test_labels_alone_make_nothing_ours(kube: KubeClient, namespace: str, start_operator: Any) -> None:
    """Objects of somebody else with our labels, and the names of children, stay as they are; the model says so."""
    labels = {MANAGED_BY_LABEL: MANAGED_BY, MODEL_LABEL: "one"}
    mine = [{**item, "metadata": {**item["metadata"], "labels": labels}} for item in users_objects(namespace)]
    before = [await kube.apply(manifest, manager="user") for manifest in mine]
    start_operator()
    await kube.apply(simulated("one", namespace, **PARTS), manager="user")

    async def told() -> bool:
        message = condition(await find(kube, LLM_MODELS, "one", namespace), "Degraded").get("message", "")
        return all(f"'{name}' exists already" in message for name in ("one-prefixes", "one-weights"))

    await eventually(told, what="the taken names in a condition")
    after = [
        await kube.get(CONFIG_MAPS, "one-prefixes", namespace=namespace),
        await kube.get(CLAIMS, "one-weights", namespace=namespace),
    ]
    assert [kept(item) for item in after] == [kept(item) for item in before]


async def test_children_that_outlived_their_model_are_taken_over_by_the_next(
    kube: KubeClient, kube_api: Path, namespace: str, start_operator: Any
) -> None:
    """Left by a deletion that orphans them, or restored from a backup: the same objects get the new model as owner."""
    start_operator()
    first = await put(kube, "one", namespace, **PARTS)

    async def owned_by(uid: str) -> Manifest | None:
        found = await find(kube, CONFIG_MAPS, "one-prefixes", namespace)
        owners = found["metadata"].get("ownerReferences", ()) if found else ()
        return found if [owner["uid"] for owner in owners] == [uid] else None

    async def first_child() -> Manifest | None:
        return await owned_by(first.uid)

    made = await eventually(first_child, what="the ConfigMap")
    Kubectl(kube_api)("delete", "llmmodel", "one", "-n", namespace, "--cascade=orphan")
    second = await put(kube, "one", namespace, **PARTS)
    assert second.uid != first.uid

    async def second_child() -> Manifest | None:
        return await owned_by(second.uid)

    again = await eventually(second_child, what="the new owner")
    assert made is not None
    assert again is not None
    assert again["metadata"]["uid"] == made["metadata"]["uid"]


async def test_what_lost_its_labels_is_taken_back(
    kube: KubeClient, kube_api: Path, namespace: str, start_operator: Any
) -> None:
    """A child that the model owns, and that somebody relabelled, gets its labels again, as the same object."""
    start_operator()
    await kube.apply(simulated("one", namespace, **PARTS), manager="user")

    async def labelled() -> Manifest | None:
        found = await find(kube, CONFIG_MAPS, "one-prefixes", namespace)
        labels = found["metadata"].get("labels", {}) if found else {}
        return found if labels.get(MANAGED_BY_LABEL) == MANAGED_BY and MODEL_LABEL in labels else None

    made = await eventually(labelled, what="the ConfigMap")
    assert made is not None
    labels = (f"{MANAGED_BY_LABEL}=somebody", f"{MODEL_LABEL}-")
    Kubectl(kube_api)("label", "configmap", "one-prefixes", "-n", namespace, "--overwrite", *labels)
    again = await eventually(labelled, what="the labels to come back")
    assert again is not None
    assert [again["metadata"][key] for key in ("uid", "labels")] == [made["metadata"][key] for key in ("uid", "labels")]


async def test_an_object_made_at_the_same_moment_is_given_back(kube: KubeClient, namespace: str) -> None:
    """One that was made after the look is merged with by the apply; it is then as its owner made it."""
    before = [await kube.apply(manifest, manager="user") for manifest in users_objects(namespace)]
    model = await put(kube, "one", namespace, **PARTS)
    written = await ChildWriter(kube).write(model, desired_of(model), ())
    assert {problem.reason for problem in written.problems} == {"NameTaken"}
    assert len(written.problems) == 2
    after = [
        await kube.get(CONFIG_MAPS, "one-prefixes", namespace=namespace),
        await kube.get(CLAIMS, "one-weights", namespace=namespace),
    ]
    assert [kept(item) for item in after] == [kept(item) for item in before]


async def test_many_names_cost_few_calls(kube: KubeClient, kube_api: Path, namespace: str) -> None:
    """A batch looks up a few names of a kind one by one and all others at once, and finds the same by both ways."""
    calls: Counter[str] = Counter()

    def observe(verb: str, kind: ApiResource, code: str, seconds: float, received: int, /) -> None:
        calls[f"{verb} {kind.plural}"] += 1

    model = await put(kube, "one", namespace)
    owner = {"apiVersion": LLM_MODELS.api_version, "kind": "LLMModel", "name": "one", "uid": model.uid}
    for number in range(30):
        manifest = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"n-{number}", "namespace": namespace, "ownerReferences": [owner] * (number == 29)},
            "data": {"key": "value"},
        }
        if number % 2:
            await kube.apply(manifest, manager="user")
    wanted = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"n-{number}"}} for number in range(30)]
    for cluster_wide in (False, True):
        calls.clear()
        async with connect(kube_api) as client:
            client._observe = observe
            namesakes = Namesakes(client, cluster_wide=cluster_wide)
            found = await asyncio.gather(*(namesakes.find(model, [manifest]) for manifest in wanted))
        names = [item["metadata"]["name"] for items in found for item in items]
        assert names == [f"n-{number}" for number in range(30) if number % 2]
        assert found[29][0]["data"] == {"key": "value"}, "what the model owns is read whole"
        # The names one by one, the LIST of all, and the one that is owned.
        assert calls == {"list configmaps": FEW_LOOKUPS + 1 + 1}
